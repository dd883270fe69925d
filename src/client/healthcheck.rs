//! `httpserver healthcheck`: asks one URL and tells by its exit status whether the response was a
//! 2xx.
//!
//! It is for a container's HEALTHCHECK and for exec probes in an image that has no shell and no
//! curl. Only the head of the response is read: the status says it all. One deadline holds for the
//! lookup, every address and the response.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::http::{Connection, Error, Url, UrlError};

/// How long the whole check may take: below the 5 s and more that probes and container runtimes are
/// given.
const LIMIT: Duration = Duration::from_secs(3);

/// The text of `httpserver healthcheck --help`.
pub const HELP: &str = "\
usage: httpserver healthcheck [URL]
       httpserver healthcheck [--listen ADDRESS]

Asks once and exits with 0 if the status is 2xx within 3 s, else with 1 and the reason on stderr.
Without a URL it asks /healthz at the port of --listen or LISTEN (default 8080); for a wildcard
address such as [::]:8080 it asks 127.0.0.1, and ::1 where there is no IPv4.

example: httpserver healthcheck http://127.0.0.1:8080/readyz

exit status: 0 healthy, 1 not healthy, 64 for a bad flag, 78 for a bad value
";

/// What to ask: the URLs to try in turn.
#[derive(Debug, PartialEq)]
pub struct Check(Vec<Url>);

/// Why a server is not healthy.
#[derive(Debug)]
pub enum Unhealthy {
    /// It responded with a status that is not 2xx.
    Status(Url, u16),
    /// It did not respond.
    Failed(Url, Error),
    /// There is nothing to ask.
    Nothing,
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unhealthy::Status(url, status) => write!(f, "{url} responded with {status}"),
            Unhealthy::Failed(url, Error::Timeout(_)) => {
                write!(f, "{url}: no response within {} s", LIMIT.as_secs())
            }
            Unhealthy::Failed(url, error) => write!(f, "{url}: {error}"),
            Unhealthy::Nothing => f.write_str("no address to ask"),
        }
    }
}

impl std::error::Error for Unhealthy {}

impl Check {
    /// The check of `/healthz` of the server that listens on this address of this host.
    pub fn of_listener(listen: SocketAddr) -> Check {
        let local = [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ];
        let wildcard = listen.ip().is_unspecified();
        let hosts = if wildcard {
            local.to_vec()
        } else {
            vec![listen.ip()]
        };
        let url = |ip| Url::of_address(SocketAddr::new(ip, listen.port()), "/healthz");
        Check(hosts.into_iter().map(url).collect())
    }

    /// The check of a URL.
    pub fn of_url(url: &str) -> Result<Check, UrlError> {
        Ok(Check(vec![Url::parse(url)?]))
    }

    /// Asks; the error tells why this is not healthy.
    pub fn run(&self) -> Result<(), Unhealthy> {
        let deadline = Instant::now() + LIMIT;
        let mut result = Err(Unhealthy::Nothing);
        for url in &self.0 {
            result = match ask(url, deadline) {
                Ok(200..300) => return Ok(()),
                Ok(status) => return Err(Unhealthy::Status(url.clone(), status)),
                // A listener on every address takes IPv4 too. Where it does not, its clients are
                // refused as this check is.
                Err(Error::Refused(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                    return Err(Unhealthy::Failed(url.clone(), Error::Refused(error)));
                }
                Err(error) => Err(Unhealthy::Failed(url.clone(), error)),
            };
        }
        result
    }
}

fn ask(url: &Url, deadline: Instant) -> Result<u16, Error> {
    let mut connection = Connection::open(&url.resolve(deadline)?, deadline)?;
    let request = url.get("User-Agent: httpserver-healthcheck\r\nConnection: close\r\n");
    connection.send(&request, deadline)?;
    Ok(connection.read_head(deadline)?.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_means_this_host() {
        let urls = |listen: &str| {
            let Check(urls) = Check::of_listener(listen.parse().unwrap());
            urls.iter().map(Url::to_string).collect::<Vec<_>>()
        };
        let both = ["http://127.0.0.1:81/healthz", "http://[::1]:81/healthz"];
        assert_eq!(
            (urls("[::]:81"), urls("0.0.0.0:81")),
            (both.map(Into::into).into(), both.map(Into::into).into())
        );
        assert_eq!(urls("10.0.0.1:81"), ["http://10.0.0.1:81/healthz"]);
    }
}
