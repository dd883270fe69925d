//! `httpserver healthcheck`: asks one URL and tells by its exit status whether the response was a
//! 2xx.
//!
//! It is for a container's HEALTHCHECK and for exec probes in an image that has no shell and no
//! curl. Only the head of the response is read: the status says it all. One deadline holds for the
//! lookup, every address and the response.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::client::http::{Connection, Error, Url};

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

/// Why a server is not healthy.
#[derive(Debug)]
pub enum Unhealthy {
    /// It responded with a status that is not 2xx.
    Status(Url, u16),
    /// It did not respond.
    Failed(Url, Error),
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unhealthy::Status(url, status) => write!(f, "{url} responded with {status}"),
            Unhealthy::Failed(url, Error::Timeout(_)) => {
                write!(f, "{url}: no response within {} s", LIMIT.as_secs())
            }
            Unhealthy::Failed(url, error) => write!(f, "{url}: {error}"),
        }
    }
}

impl std::error::Error for Unhealthy {}

/// The URL of `/healthz` of the server that listens on this address of this host.
pub fn url_of_listener(listen: SocketAddr) -> Url {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        // Clients come over IPv4 where there is any: a server that refuses them is not healthy.
        _ if UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).is_ok() => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv6Addr::LOCALHOST.into(),
    };
    Url::of_address(SocketAddr::new(ip, listen.port()), "/healthz")
}

/// Asks; the error tells why this is not healthy.
pub fn run(url: &Url) -> Result<(), Unhealthy> {
    match ask(url, Instant::now() + LIMIT) {
        Ok(200..300) => Ok(()),
        Ok(status) => Err(Unhealthy::Status(url.clone(), status)),
        Err(error) => Err(Unhealthy::Failed(url.clone(), error)),
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
        for (listen, url) in [
            ("[::]:81", "http://127.0.0.1:81/healthz"),
            ("0.0.0.0:81", "http://127.0.0.1:81/healthz"),
            ("10.0.0.1:81", "http://10.0.0.1:81/healthz"),
            ("[::1]:81", "http://[::1]:81/healthz"),
        ] {
            let asked = url_of_listener(listen.parse().unwrap());
            assert_eq!(asked.to_string(), url, "{listen}");
        }
    }
}
