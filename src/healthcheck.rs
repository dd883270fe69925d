//! `httpserver healthcheck`: asks one URL and tells by its exit status whether the answer was a 2xx.
//!
//! For a container's HEALTHCHECK and for exec probes in an image that has no shell and no curl. It speaks just enough
//! HTTP for that, within one deadline for everything.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::limits;

/// What to ask: the addresses to try in turn, the `Host` to name, and the target.
#[derive(Debug, PartialEq)]
pub struct Check {
    addresses: Vec<SocketAddr>,
    host: String,
    target: String,
}

impl Check {
    /// `/healthz` of the server that listens on this address on this host.
    pub fn of_listener(listen: SocketAddr) -> Check {
        let local = |ip: IpAddr| SocketAddr::new(ip, listen.port());
        let addresses = if listen.ip().is_unspecified() {
            vec![local(Ipv4Addr::LOCALHOST.into()), local(Ipv6Addr::LOCALHOST.into())]
        } else {
            vec![listen]
        };
        Check { host: addresses[0].to_string(), addresses, target: "/healthz".into() }
    }

    /// A URL such as `http://127.0.0.1:8080/readyz`; port 80 and the path `/` where it names none.
    pub fn of_url(url: &str) -> Result<Check, String> {
        let bad = || format!("{url:?} is not a URL such as http://127.0.0.1:8080/healthz");
        let rest = url.strip_prefix("http://").ok_or_else(bad)?;
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let target = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if host.is_empty() || !rest.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let authority = if has_port { host.to_owned() } else { format!("{host}:80") };
        let addresses = authority.to_socket_addrs().map_err(|error| format!("{host:?} cannot be resolved: {error}"))?;
        Ok(Check { addresses: addresses.collect(), host: host.to_owned(), target })
    }

    /// Asks; `Err` tells why this is not healthy.
    pub fn ask(&self) -> Result<(), String> {
        let deadline = Instant::now() + limits::HEALTHCHECK;
        let mut reason = format!("{} has no address", self.host);
        for address in &self.addresses {
            match self.ask_address(*address, deadline) {
                Ok(code) if (200..300).contains(&code) => return Ok(()),
                Ok(code) => return Err(format!("http://{}{} answered {code}", self.host, self.target)),
                Err(error) => reason = format!("http://{address}{}: {error}", self.target),
            }
        }
        Err(reason)
    }

    /// The status code that an address answers with.
    fn ask_address(&self, address: SocketAddr, deadline: Instant) -> Result<u16, String> {
        let left = || Some(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
        let text = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::WouldBlock => format!("no answer within {:?}", limits::HEALTHCHECK),
            _ => error.to_string(),
        };
        let mut stream = TcpStream::connect_timeout(&address, left().unwrap_or_default()).map_err(text)?;
        stream.set_write_timeout(left()).map_err(text)?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: httpserver-healthcheck\r\nConnection: close\r\n\r\n",
            self.target, self.host
        );
        stream.write_all(request.as_bytes()).map_err(text)?;
        let (mut answer, mut filled) = ([0; 13], 0);
        while filled < answer.len() {
            stream.set_read_timeout(left()).map_err(text)?;
            match stream.read(&mut answer[filled..]).map_err(text)? {
                0 => return Err("the answer is not HTTP".into()),
                n => filled += n,
            }
            if Instant::now() >= deadline {
                return Err(format!("no answer within {:?}", limits::HEALTHCHECK));
            }
        }
        let code =
            answer.strip_prefix(b"HTTP/1.1 ").and_then(|code| str::from_utf8(code).ok()?.trim_end().parse().ok());
        code.ok_or_else(|| "the answer is not HTTP/1.1".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks() {
        let check = Check::of_listener("[::]:81".parse().unwrap());
        assert_eq!(check.addresses, ["127.0.0.1:81", "[::1]:81"].map(|a| a.parse().unwrap()));
        let check = Check::of_listener("10.0.0.1:81".parse().unwrap());
        assert_eq!((check.addresses.len(), check.host.as_str(), check.target.as_str()), (1, "10.0.0.1:81", "/healthz"));
        for (url, address, target) in [
            ("http://127.0.0.1:8080/readyz", "127.0.0.1:8080", "/readyz"),
            ("http://127.0.0.1", "127.0.0.1:80", "/"),
            ("http://[::1]/a?b", "[::1]:80", "/a?b"),
            ("http://[::1]:9?b", "[::1]:9", "/?b"),
        ] {
            let check = Check::of_url(url).unwrap();
            assert_eq!((check.addresses, check.target), (vec![address.parse().unwrap()], target.to_owned()), "{url}");
        }
        for bad in ["", "https://a/", "http://", "http:///x", "http://127.0.0.1:x/", "http://127.0.0.1/ x"] {
            assert!(Check::of_url(bad).is_err(), "{bad}");
        }
    }
}
