//! A minimal HTTP/1.1 client: connect, send one GET, read one response, keep the connection or not.
//!
//! It speaks plain TCP, follows no redirect, sends no body and never retries. A response is framed
//! as RFC 9112 section 6.3 says: no body for 1xx, 204 and 304, else chunked, else by
//! Content-Length, else up to the close; a response with contradictory framing is not HTTP. Every
//! call takes a deadline, a point in time, so that a server that sends a byte now and then cannot
//! extend it. An [`Error`] says how far the exchange had come.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::chunked::Chunked;
use crate::limits;
use crate::server::input::Input;

/// A response head and each interim head, in bytes: an echo of a large request head has to fit.
const HEAD: usize = 128 << 10;
/// The fields of a response head: an echo of the most fields that a request may have has to fit.
const FIELDS: usize = 128;
/// What is kept of a response's body, in bytes; the rest is read and dropped.
const BODY_KEPT: usize = 16 << 10;
/// The shortest time-out that a socket gets: std refuses zero.
const SHORTEST: Duration = Duration::from_millis(1);
/// A request that is sent while the server closes the connection is lost. So a kept connection is
/// not used in the last second before the announced close, or in the second half of the announced
/// time if that is shorter.
const BEFORE_CLOSE: Duration = Duration::from_secs(1);
/// No descriptor is left in the system (`ENFILE`) or in this process (`EMFILE`). The numbers are
/// the same on every Linux; std has no `ErrorKind` for them.
const NO_DESCRIPTOR: [i32; 2] = [23, 24];

/// The time until a deadline, as a time-out for a socket; `None` when the deadline has passed.
fn left(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then(|| left.max(SHORTEST))
}

/// An `http://` URL, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Url {
    authority: String,
    host: String,
    port: u16,
    target: String,
}

/// Why a text is not a URL that this client can ask.
#[derive(Debug, PartialEq)]
pub enum UrlError {
    /// An `https://` URL.
    Tls(String),
    /// Anything else.
    Invalid(String),
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UrlError::Tls(url) => write!(
                f,
                "{url:?}: this client does not speak TLS: ask the plain http:// port \
                 of the Service or of a pod (kubectl port-forward), or a sidecar or proxy that \
                 adds TLS (stunnel, socat)"
            ),
            UrlError::Invalid(url) => write!(
                f,
                "{url:?} is not a URL such as http://127.0.0.1:8080/healthz"
            ),
        }
    }
}

impl std::error::Error for UrlError {}

impl Url {
    /// Reads a URL such as `http://127.0.0.1:8080/readyz`; the port is 80 and the path `/` if they
    /// are missing.
    pub fn parse(url: &str) -> Result<Url, UrlError> {
        let invalid = || UrlError::Invalid(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
        if scheme.eq_ignore_ascii_case("https") {
            return Err(UrlError::Tls(url.to_owned()));
        }
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let visible = rest.bytes().all(|byte| byte.is_ascii_graphic());
        if !scheme.eq_ignore_ascii_case("http") || !visible || authority.contains('@') {
            return Err(invalid());
        }
        let (host, port) = split_authority(authority).ok_or_else(invalid)?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Url {
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            target: format!("{slash}{path}"),
        })
    }

    /// The URL of a target on an address.
    pub fn of_address(address: SocketAddr, target: &str) -> Url {
        Url {
            authority: address.to_string(),
            host: address.ip().to_string(),
            port: address.port(),
            target: target.to_owned(),
        }
    }

    /// The bytes of a GET for this URL; `fields` are whole header lines, each with its CRLF.
    pub fn get(&self, fields: &str) -> Vec<u8> {
        let Url {
            authority, target, ..
        } = self;
        format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n").into_bytes()
    }

    /// Looks up the addresses. The lookup of a name cannot be interrupted, so it gets a thread that
    /// nobody waits for longer than the deadline.
    pub fn resolve(&self, deadline: Instant) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(address) = self.host.parse() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let name = (self.host.clone(), self.port);
        let (sender, receiver) = mpsc::channel();
        // Nobody may wait any more when the lookup ends.
        let look_up = move || drop(sender.send(name.to_socket_addrs().map(Vec::from_iter)));
        let thread = thread::Builder::new().name("lookup".into());
        thread.spawn(look_up).map_err(Error::Local)?;
        let result = receiver.recv_timeout(left(deadline).unwrap_or_default());
        let addresses = result.map_err(|_| Error::Timeout(Stage::Lookup))?;
        addresses.map_err(|error| Error::Unresolved(self.host.clone(), error))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.target)
    }
}

/// The host without the brackets of an IPv6 address, and the port.
fn split_authority(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, 80),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let valid = !host.is_empty() && (bare.is_some() || !host.contains(['[', ']', ':']));
    valid.then_some((bare.unwrap_or(host), port))
}

/// How far an exchange had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The lookup of the host's name.
    Lookup,
    /// Opening the connection.
    Connecting,
    /// The request is sent, or is being sent, and no byte of the response has come.
    Waiting,
    /// A part of the response has come.
    Reading,
}

/// Why there is no whole response.
#[derive(Debug)]
pub enum Error {
    /// The name of the host has no address.
    Unresolved(String, io::Error),
    /// No connection: refused, or the host cannot be reached.
    Refused(io::Error),
    /// The connection was reset.
    Reset(Stage),
    /// The connection was closed in order before the response was whole.
    Closed(Stage),
    /// The deadline passed.
    Timeout(Stage),
    /// What came is not HTTP/1.1; the text says why.
    NotHttp(&'static str),
    /// This host cannot open a connection: no descriptor, port, memory or thread is left.
    Local(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unresolved(host, error) => write!(f, "{host:?} cannot be resolved: {error}"),
            Error::Refused(error) | Error::Local(error) => error.fmt(f),
            Error::Reset(Stage::Reading) => f.write_str("reset within the response"),
            Error::Reset(Stage::Waiting) => f.write_str("reset without a response"),
            Error::Reset(_) => f.write_str("reset while the connection was opened"),
            Error::Closed(Stage::Reading) => f.write_str("closed within the response"),
            Error::Closed(_) => f.write_str("closed without a response"),
            Error::Timeout(Stage::Lookup) => f.write_str("no address of the host's name in time"),
            Error::Timeout(Stage::Connecting) => f.write_str("no connection in time"),
            Error::Timeout(Stage::Waiting) => f.write_str("no response in time"),
            Error::Timeout(Stage::Reading) => f.write_str("only a part of the response in time"),
            Error::NotHttp(reason) => write!(f, "the response is not HTTP/1.1: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    fn of_connect(error: io::Error) -> Error {
        let code = error.raw_os_error();
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(Stage::Connecting),
            ErrorKind::ConnectionReset => Error::Reset(Stage::Connecting),
            ErrorKind::AddrNotAvailable | ErrorKind::OutOfMemory => Error::Local(error),
            _ if code.is_some_and(|code| NO_DESCRIPTOR.contains(&code)) => Error::Local(error),
            _ => Error::Refused(error),
        }
    }

    /// The error of a read or a write; a write to a connection that was reset fails as a broken
    /// pipe.
    fn of_transfer(error: &io::Error, stage: Stage) -> Error {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(stage),
            _ => Error::Reset(stage),
        }
    }
}

/// What a response's head says.
#[derive(Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    fields: Vec<(String, String)>,
    http10: bool,
}

/// Where a response's body ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Head {
    /// The head at the beginning of this input, and its length; `None` while it is not complete.
    fn parse(input: &[u8]) -> Result<Option<(Head, usize)>, Error> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let mut config = httparse::ParserConfig::default();
        config.allow_obsolete_multiline_headers_in_responses(true);
        let length = match config.parse_response(&mut response, input) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::Version) => {
                return Err(Error::NotHttp("it does not begin with HTTP/1."));
            }
            Err(_) => return Err(Error::NotHttp("a malformed head")),
        };
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let owned = |field: &httparse::Header<'_>| (field.name.to_owned(), text(field.value));
        let head = Head {
            status: response.code.unwrap_or_default(),
            fields: response.headers.iter().map(owned).collect(),
            http10: response.version == Some(0),
        };
        Ok(Some((head, length)))
    }

    /// The value of the first field of this name.
    pub fn field<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.values(name).next()
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = move |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        let fields = self.fields.iter().filter(named);
        fields.map(|(_, value)| value.as_str())
    }

    /// The members of a field that is a comma-separated list.
    fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let members = self.values(name).flat_map(|value| value.split(','));
        members.map(str::trim).filter(|part| !part.is_empty())
    }

    fn framing(&self) -> Result<Framing, Error> {
        if matches!(self.status, 204 | 304) {
            return Ok(Framing::Length(0));
        }
        let mut lengths = self.list("content-length");
        let length = lengths.next();
        if lengths.any(|other| Some(other) != length) {
            return Err(Error::NotHttp("two different lengths"));
        }
        match (self.list("transfer-encoding").last(), length) {
            (Some(_), Some(_)) => Err(Error::NotHttp("both a length and a transfer coding")),
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            (None, Some(length)) => {
                let digits = length.bytes().all(|byte| byte.is_ascii_digit());
                let length = length.parse().ok().filter(|_| digits);
                let length = length.ok_or(Error::NotHttp("a length that is not a number"))?;
                Ok(Framing::Length(length))
            }
            (_, None) => Ok(Framing::UntilClose),
        }
    }

    /// Whether the server keeps the connection open (RFC 9112 section 9.3).
    fn keeps_connection(&self) -> bool {
        let says = |option: &str| {
            self.list("connection")
                .any(|part| part.eq_ignore_ascii_case(option))
        };
        !says("close") && (!self.http10 || says("keep-alive"))
    }

    /// After how much idle time the server closes the connection, if it says so: `Keep-Alive:
    /// timeout=5`.
    fn idle_timeout(&self) -> Option<Duration> {
        let seconds = |part: &str| {
            let (name, value) = part.split_once('=')?;
            let named = name.trim().eq_ignore_ascii_case("timeout");
            let value = value.trim().trim_matches('"').parse().ok();
            value.filter(|_| named)
        };
        let seconds = self.list("keep-alive").find_map(seconds);
        seconds.map(Duration::from_secs)
    }
}

/// A whole response.
#[derive(Debug)]
pub struct Response {
    /// Its head.
    pub head: Head,
    /// The beginning of its body, at most 16 KiB.
    pub body: Vec<u8>,
}

/// A connection to a server; after a response it may be used again if [`Connection::is_reusable`]
/// says so.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    input: Input,
    stage: Stage,
    /// Until when the connection may be used again.
    usable_until: Option<Instant>,
    keeps: bool,
}

impl Connection {
    /// Connects to the first of these addresses that accepts; each gets an equal share of the time
    /// that is left.
    pub fn open(addresses: &[SocketAddr], deadline: Instant) -> Result<Connection, Error> {
        let mut failure = Error::Timeout(Stage::Connecting);
        for (tried, address) in addresses.iter().enumerate() {
            let Some(left) = left(deadline) else { break };
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let stream = TcpStream::connect_timeout(address, share.max(SHORTEST));
            match stream.map_err(Error::of_connect) {
                Ok(stream) => return Ok(Connection::of_stream(stream)),
                // A missing IPv6 of this host says less than what another address says.
                Err(Error::Local(_)) if tried > 0 => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn of_stream(stream: TcpStream) -> Connection {
        // Without the option a request is sent all the same, at worst later.
        let _ = stream.set_nodelay(true);
        Connection {
            stream,
            input: Input::default(),
            stage: Stage::Waiting,
            usable_until: None,
            keeps: false,
        }
    }

    /// Sends a request and reads its whole response.
    pub fn exchange(&mut self, request: &[u8], deadline: Instant) -> Result<Response, Error> {
        self.keeps = false;
        self.send(request, deadline)?;
        let head = self.read_head(deadline)?;
        let framing = head.framing()?;
        let body = self.read_body(framing, deadline)?;
        self.keeps = head.keeps_connection() && framing != Framing::UntilClose;
        let usable = |timeout: Duration| timeout.saturating_sub(BEFORE_CLOSE.min(timeout / 2));
        let time = head.idle_timeout().map(usable);
        // A server may announce more time than the clock can count: then there is no end.
        self.usable_until = time.and_then(|time| Instant::now().checked_add(time));
        Ok(Response { head, body })
    }

    /// Sends a request.
    pub fn send(&mut self, request: &[u8], deadline: Instant) -> Result<(), Error> {
        self.stage = Stage::Waiting;
        let failed = |error: io::Error| Error::of_transfer(&error, Stage::Waiting);
        let left = left(deadline).ok_or(Error::Timeout(Stage::Waiting))?;
        self.stream.set_write_timeout(Some(left)).map_err(failed)?;
        // A GET fits in an empty send buffer, so one time-out is enough.
        self.stream.write_all(request).map_err(failed)
    }

    /// Whether another request may be sent: the server keeps the connection, has not closed it
    /// since, and does not close it soon.
    pub fn is_reusable(&self) -> bool {
        let in_time = self.usable_until.is_none_or(|until| Instant::now() < until);
        // Bytes that nobody asked for are a response to nothing, such as a 408 before the close.
        self.keeps && in_time && self.input.unread().is_empty() && self.is_quiet().unwrap_or(false)
    }

    /// Whether neither a byte nor an end has come.
    fn is_quiet(&self) -> io::Result<bool> {
        self.stream.set_nonblocking(true)?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        Ok(peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock))
    }

    /// Reads the head of the final response; interim ones are skipped.
    pub fn read_head(&mut self, deadline: Instant) -> Result<Head, Error> {
        loop {
            let unread = self.input.unread();
            let Some((head, length)) = Head::parse(unread)? else {
                if unread.len() > HEAD {
                    return Err(Error::NotHttp("a head that is too long"));
                }
                self.fill(deadline)?;
                continue;
            };
            self.input.take(length);
            match head.status {
                101 => return Err(Error::NotHttp("an upgrade that nobody asked for")),
                100..200 => {}
                _ => return Ok(head),
            }
        }
    }

    /// Reads a body to its end and gives its beginning.
    fn read_body(&mut self, framing: Framing, deadline: Instant) -> Result<Vec<u8>, Error> {
        let (mut body, mut chunked) = (Vec::new(), Chunked::new(u64::MAX));
        let mut left = match framing {
            Framing::Length(length) => length,
            Framing::Chunked | Framing::UntilClose => u64::MAX,
        };
        loop {
            let unread = self.input.unread();
            let used = if framing == Framing::Chunked {
                let decoded = chunked.decode(unread, |data| {
                    keep(&mut body, data);
                    Ok(())
                });
                decoded.map_err(|_| Error::NotHttp("a malformed chunk"))?
            } else {
                let part = left.min(unread.len() as u64) as usize;
                keep(&mut body, &unread[..part]);
                left -= part as u64;
                part
            };
            self.input.take(used);
            if left == 0 || chunked.done() {
                return Ok(body);
            }
            match self.fill(deadline) {
                Err(Error::Closed(_)) if framing == Framing::UntilClose => return Ok(body),
                result => result?,
            }
        }
    }

    /// Reads more input; the end of the stream is an error.
    fn fill(&mut self, deadline: Instant) -> Result<(), Error> {
        let stage = self.stage;
        let failed = |error: io::Error| Error::of_transfer(&error, stage);
        loop {
            let left = left(deadline).ok_or(Error::Timeout(stage))?;
            self.stream.set_read_timeout(Some(left)).map_err(failed)?;
            let room = self.input.room(limits::LARGE_READ_BYTES);
            match self.stream.read(room) {
                Ok(0) => return Err(Error::Closed(stage)),
                Ok(count) => {
                    self.input.arrived(count);
                    self.stage = Stage::Reading;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

/// Keeps as much of the data as still has room.
fn keep(kept: &mut Vec<u8>, data: &[u8]) {
    let room = BODY_KEPT.saturating_sub(kept.len());
    kept.extend_from_slice(&data[..data.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Shutdown, TcpListener};

    /// Long enough for everything that a test waits for.
    fn patience() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn urls() {
        for (url, host, port, authority, target) in [
            (
                "http://127.0.0.1:8080/readyz",
                "127.0.0.1",
                8080,
                "127.0.0.1:8080",
                "/readyz",
            ),
            ("http://127.0.0.1", "127.0.0.1", 80, "127.0.0.1", "/"),
            ("HTTP://[::1]/a?b#c", "::1", 80, "[::1]", "/a?b"),
            ("http://[::1]:9?b", "::1", 9, "[::1]:9", "/?b"),
            (
                "http://a.b.svc:8080/://",
                "a.b.svc",
                8080,
                "a.b.svc:8080",
                "/://",
            ),
        ] {
            let (authority, host, target) = (authority.into(), host.into(), target.into());
            assert_eq!(
                Url::parse(url),
                Ok(Url {
                    authority,
                    host,
                    port,
                    target
                })
            );
        }
    }

    #[test]
    fn what_is_no_url() {
        for bad in [
            "",
            "127.0.0.1",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://127.0.0.1:x/",
            "http://a/ x",
            "http://::1/",
            "http://a:99999/",
            "http://u@a/",
            "http://[::1/",
            "http://a/\u{e9}",
        ] {
            assert_eq!(Url::parse(bad), Err(UrlError::Invalid(bad.into())));
        }
        let tls = Url::parse("https://a/").unwrap_err();
        assert_eq!(tls, UrlError::Tls("https://a/".into()));
        assert!(tls.to_string().contains("TLS") && tls.to_string().contains("http://"));
    }

    #[test]
    fn a_name_is_looked_up() {
        let url = Url::parse("http://localhost:81/").unwrap();
        let addresses = url.resolve(patience()).unwrap();
        assert!(
            addresses
                .iter()
                .all(|address| address.ip().is_loopback() && address.port() == 81)
        );
        let url = Url::parse("http://no-such-host.invalid/").unwrap();
        let error = url.resolve(patience()).unwrap_err();
        assert!(
            matches!(error, Error::Unresolved(..) | Error::Timeout(Stage::Lookup)),
            "{error}"
        );
    }

    /// What the client makes of a response that is followed by the end of the stream, and whether
    /// it would keep the connection if the stream were open.
    fn read(response: &str) -> Result<(Response, bool), Error> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let deadline = patience();
        let mut connection = Connection::open(&[address], deadline).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(response.as_bytes()).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let response = connection.exchange(&Url::of_address(address, "/").get(""), deadline)?;
        Ok((response, connection.keeps))
    }

    #[track_caller]
    fn check(response: &str, status: u16, body: &str, keeps: bool) {
        let (response, kept) = read(response).unwrap();
        let text = String::from_utf8(response.body).unwrap();
        assert_eq!(
            (response.head.status, text.as_str(), kept),
            (status, body, keeps)
        );
    }

    #[test]
    fn framing() {
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
            true,
        );
        check("HTTP/1.1 200\ncontent-length: 2, 2\n\nok", 200, "ok", true);
        check("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true);
        check(
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
            304,
            "",
            true,
        );
        check("HTTP/1.1 200 OK\r\n\r\nall of it", 200, "all of it", false);
        check(
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
            false,
        );
        check(
            "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
            true,
        );
        check(
            "HTTP/1.1 503 x\r\nConnection: a, close\r\nContent-Length: 0\r\n\r\n",
            503,
            "",
            false,
        );
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            200,
            "",
            true,
        );
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(
            &format!("{chunked}2\r\nab\r\nA;x=y\r\n0123456789\r\n0\r\nT: 1\r\n\r\n"),
            200,
            "ab0123456789",
            true,
        );
        let folded = "HTTP/1.1 200 OK\r\nX: a\r\n b: c\r\nContent-Length: 0\r\n\r\n";
        check(folded, 200, "", true);
    }

    #[test]
    fn a_large_body_is_read_to_its_end() {
        let (head, body) = (
            "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
            "x".repeat(100_000),
        );
        let (response, kept) = read(&format!("{head}{body}")).unwrap();
        assert!(response.body.len() == BODY_KEPT && kept);
        assert!(matches!(
            read(&format!("{head}{}", &body[1..])),
            Err(Error::Closed(Stage::Reading))
        ));
    }

    #[test]
    fn what_is_not_a_response() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for bad in [
            "SSH-2.0-x\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 2\r\n\r\n",
            "HTTP/1.1 20x OK\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 101 x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &format!("{chunked}x\r\n"),
            &format!("{chunked}+2\r\nab\r\n"),
            &format!("{chunked}1\r\nab\r\n"),
            &format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD + 1)),
            &format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(FIELDS + 2)),
        ] {
            let result = read(bad);
            assert!(
                matches!(result, Err(Error::NotHttp(_))),
                "{bad:.60?}: {result:?}"
            );
        }
    }

    #[test]
    fn an_early_end_tells_how_far_it_came() {
        for (part, stage) in [
            ("", Stage::Waiting),
            ("HTTP", Stage::Reading),
            ("HTTP/1.1 200 OK\r\n", Stage::Reading),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
                Stage::Reading,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
                Stage::Reading,
            ),
        ] {
            let result = read(part);
            assert!(
                matches!(result, Err(Error::Closed(at)) if at == stage),
                "{part:?}: {result:?}"
            );
        }
    }

    /// A connection that has had one response with these fields, and the server's side of it.
    fn used(fields: &str) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let deadline = patience();
        let mut connection = Connection::open(&[address], deadline).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        write!(peer, "HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n").unwrap();
        connection
            .exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", deadline)
            .unwrap();
        (connection, peer)
    }

    /// Waits until something, a byte or the end, has come from the peer.
    fn wait_for_input(connection: &Connection) {
        connection
            .stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // On a machine that was frozen meanwhile a read with a time limit is interrupted.
        while let Err(error) = connection.stream.peek(&mut [0]) {
            assert_eq!(error.kind(), ErrorKind::Interrupted);
        }
    }

    #[test]
    fn when_a_connection_is_reusable() {
        for (fields, reusable) in [
            ("", true),
            ("Keep-Alive: timeout=75\r\n", true),
            ("Keep-Alive: max=9, Timeout=\"60\"\r\n", true),
            ("Keep-Alive: timeout=18446744073709551615\r\n", true),
            ("Connection: close\r\n", false),
            ("Keep-Alive: timeout=0\r\n", false),
        ] {
            let (connection, _peer) = used(fields);
            assert_eq!(connection.is_reusable(), reusable, "{fields}");
        }
        let (mut connection, _peer) = used("Keep-Alive: timeout=75\r\n");
        let until = connection
            .usable_until
            .unwrap()
            .duration_since(Instant::now());
        assert!(
            until <= Duration::from_secs(74) && until > Duration::from_secs(50),
            "{until:?}"
        );
        connection.usable_until = Some(Instant::now());
        assert!(!connection.is_reusable());
    }

    #[test]
    fn a_close_or_a_byte_between_requests_ends_the_use() {
        let (connection, peer) = used("");
        peer.shutdown(Shutdown::Write).unwrap();
        wait_for_input(&connection);
        assert!(!connection.is_reusable());
        let (connection, mut peer) = used("");
        peer.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
            .unwrap();
        wait_for_input(&connection);
        assert!(!connection.is_reusable());
    }

    #[test]
    fn a_deadline_holds_for_the_whole_exchange() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let start = Instant::now();
        let deadline = start + Duration::from_millis(300);
        let mut connection = Connection::open(&[address], deadline).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let dribble = thread::spawn(move || {
            for byte in b"HTTP/1.1 200 OK\r\nX: "
                .iter()
                .chain([b'x'].iter().cycle())
            {
                if peer.write_all(&[*byte]).is_err() || start.elapsed() > Duration::from_secs(20) {
                    break;
                }
                thread::park_timeout(Duration::from_millis(5));
            }
        });
        let error = connection
            .exchange(b"GET / HTTP/1.1\r\n\r\n", deadline)
            .unwrap_err();
        assert!(matches!(error, Error::Timeout(Stage::Reading)), "{error}");
        assert!(
            start.elapsed() >= Duration::from_millis(300)
                && start.elapsed() < Duration::from_secs(15)
        );
        drop(connection);
        dribble.join().unwrap();
    }

    #[test]
    fn the_next_address_is_tried() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let open = taken.local_addr().unwrap();
        let deadline = patience();
        assert!(Connection::open(&[closed, open], deadline).is_ok());
        assert!(matches!(
            Connection::open(&[closed], deadline),
            Err(Error::Refused(_))
        ));
    }
}
