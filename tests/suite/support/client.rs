//! The one client. It believes nothing: it takes the bytes of a response apart by RFC 9112 and refuses whatever a
//! careful proxy would refuse, so that each test is also a test of the framing of every response it sees.
//!
//! Checked in each response: the version, the form of every line, no control byte, at most one of the fields that may
//! stand once, `Content-Length` or `Transfer-Encoding` and never both, no body where there is none, and `Date`.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{PATIENCE, Server, find};

/// A response, taken apart.
#[derive(Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// From the status line to the empty line, all bytes.
    pub(crate) head: Vec<u8>,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    /// When its last byte was here.
    pub(crate) at: Instant,
}

impl Response {
    /// The values of a field, its name compared without case.
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        let same = |field: &&(String, Vec<u8>)| field.0.eq_ignore_ascii_case(name);
        self.fields
            .iter()
            .filter(same)
            .map(|(_, value)| &value[..])
            .collect()
    }

    /// The value of a field that stands once; empty if it is absent.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> &str {
        match self.values(name)[..] {
            [] => "",
            [value] => std::str::from_utf8(value).expect("the value is text"),
            _ => panic!("{name} more than once in {self}"),
        }
    }

    /// Whether the response says that the connection ends with it.
    pub(crate) fn closes(&self) -> bool {
        let tokens = |value: &[u8]| String::from_utf8_lossy(value).to_ascii_lowercase();
        let closes = |value: &&[u8]| {
            tokens(value)
                .split(',')
                .any(|token| token.trim() == "close")
        };
        self.values("connection").iter().any(closes)
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The length of head and body.
    pub(crate) fn length(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// The delay that it tells in `Server-Timing`.
    #[track_caller]
    pub(crate) fn told_delay(&self) -> Duration {
        let told = self
            .field("server-timing")
            .rsplit("dur=")
            .next()
            .unwrap_or_default();
        let told: f64 = told
            .parse()
            .unwrap_or_else(|_| panic!("no delay is told in {self}"));
        Duration::from_secs_f64(told / 1000.0)
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = &self.body[..self.body.len().min(600)];
        write!(
            f,
            "{:?}",
            String::from_utf8_lossy(&[&self.head[..], body].concat())
        )
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct End {
    /// When the end was seen.
    pub(crate) at: Instant,
    /// A reset instead of an orderly end.
    pub(crate) reset: bool,
    /// What came before it and was not read.
    pub(crate) rest: Vec<u8>,
}

impl End {
    /// Asserts that the end was orderly and that nothing came before it.
    #[track_caller]
    pub(crate) fn is_orderly(&self) {
        assert!(
            !self.reset && self.rest.is_empty(),
            "reset: {}, {}",
            self.reset,
            shown(&self.rest)
        );
    }
}

/// A connection and the bytes that came over it and were not yet taken. A read gives up after `PATIENCE`.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    /// So much of the buffer holds no end of a head.
    searched: usize,
    ended: bool,
}

impl Client {
    /// Connects to a server of this test.
    #[track_caller]
    pub(crate) fn new(server: &Server) -> Self {
        Self::to(server.addr).expect("the server accepts")
    }

    /// Connects to any address.
    pub(crate) fn to(addr: SocketAddr) -> io::Result<Self> {
        Self::of(TcpStream::connect_timeout(&addr, PATIENCE)?)
    }

    /// Takes a connection that is there.
    pub(crate) fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            searched: 0,
            ended: false,
        })
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the server's side is open");
    }

    /// As `send`, for a connection that may have ended.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a GET that keeps the connection.
    #[track_caller]
    pub(crate) fn ask(&mut self, target: &str) {
        self.send(get(target));
    }

    /// Keeps its connection busy: asks for more than the kernel's buffers hold and does not read it
    /// yet. The status of the response that has begun.
    #[track_caller]
    pub(crate) fn hold(&mut self) -> u16 {
        self.ask("/bytes/8MiB");
        let mut begin = *b"HTTP/1.1 200 ";
        let peeked = uninterrupted(|| self.stream.peek(&mut begin));
        assert_eq!(peeked.unwrap(), begin.len());
        status(&begin).unwrap()
    }

    /// A GET that keeps the connection, and its response.
    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.ask(target);
        self.response()
    }

    /// A request with these field lines, each with its CRLF, and this body; its response.
    #[track_caller]
    pub(crate) fn call(
        &mut self,
        method: &str,
        target: &str,
        fields: &str,
        body: &str,
    ) -> Response {
        let length = body.len();
        self.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: test\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
        ));
        self.response()
    }

    /// Sends bytes as they are and gives the response to them.
    #[track_caller]
    pub(crate) fn call_raw(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.send(request);
        self.response()
    }

    /// Ends the client's side of the connection.
    pub(crate) fn shut_down(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next response.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.try_response(false)
            .unwrap_or_else(|error| panic!("no response: {error}"))
    }

    /// The next response, to a HEAD if `to_head`. An end before it is `UnexpectedEof`, a wrong form `InvalidData`.
    pub(crate) fn try_response(&mut self, to_head: bool) -> io::Result<Response> {
        let head = loop {
            match find(&self.buffer[self.searched..], b"\r\n\r\n") {
                Some(end) => break self.buffer[..self.searched + end + 4].to_owned(),
                None => self.searched = self.buffer.len().saturating_sub(3),
            }
            self.read_more()?;
        };
        let mut response = parse_head(head, to_head)?;
        let rest = response.head.len();
        let (body, length) = loop {
            if let Some(found) = body(&response, &self.buffer[rest..], to_head, self.ended)? {
                break found;
            }
            self.read_more()?;
        };
        self.buffer.drain(..rest + length);
        self.searched = 0;
        (response.body, response.at) = (body, Instant::now());
        Ok(response)
    }

    /// Reads for a response that is not all there.
    fn read_more(&mut self) -> io::Result<()> {
        let left = |buffer: &[u8]| format!("no whole response in {}", shown(buffer));
        let end = || io::Error::new(ErrorKind::UnexpectedEof, "the connection ended");
        let read = if self.ended { Err(end()) } else { self.read() };
        let read = read.map_err(|error| {
            io::Error::new(error.kind(), format!("{error}, {}", left(&self.buffer)))
        });
        read.map(|_| ())
    }

    /// Waits for so many bytes and takes them, for what is no response.
    pub(crate) fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if self.read()? == 0 {
                let what = format!("the connection ended after {}", shown(&self.buffer));
                return Err(io::Error::new(ErrorKind::UnexpectedEof, what));
            }
        }
        self.searched = 0;
        Ok(self.buffer.drain(..count).collect())
    }

    /// What has come and was not yet taken.
    pub(crate) fn received(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads to the end of the connection.
    #[track_caller]
    pub(crate) fn end(&mut self) -> End {
        let mut reset = false;
        while !self.ended && !reset {
            match self.read() {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => reset = true,
                Err(error) => panic!("the connection did not end within {PATIENCE:?}: {error}"),
            }
        }
        self.searched = 0;
        End {
            at: Instant::now(),
            reset,
            rest: std::mem::take(&mut self.buffer),
        }
    }

    /// The end of the connection: no byte more and no reset.
    #[track_caller]
    pub(crate) fn finish(&mut self) {
        self.end().is_orderly();
    }

    /// Whether the connection stays open and nothing comes for this long.
    pub(crate) fn is_silent_for(&mut self, length: Duration) -> bool {
        if !self.buffer.is_empty() || self.ended {
            return false;
        }
        self.stream
            .set_read_timeout(Some(length))
            .expect("a time-out can be set");
        let silent = matches!(self.read(), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out can be set");
        silent
    }

    /// Reads once; `Ok(0)` is the end.
    pub(crate) fn read(&mut self) -> io::Result<usize> {
        let mut block = vec![0; 65_536];
        let count = uninterrupted(|| self.stream.read(&mut block))?;
        self.buffer.extend_from_slice(&block[..count]);
        self.ended |= count == 0;
        Ok(count)
    }
}

/// Calls again where the call was interrupted: a socket with a time limit does so on a machine that
/// was frozen meanwhile.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// The bytes of a GET that keeps the connection.
pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")
}

fn bad(what: &str, bytes: &[u8]) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{what}: {}", shown(bytes)))
}

/// Takes a whole head apart; the body is still empty.
fn parse_head(head: Vec<u8>, to_head: bool) -> io::Result<Response> {
    let lines = head[..head.len() - 4].split(|&byte| byte == b'\n');
    let mut lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status =
        status(lines.next().unwrap_or_default()).ok_or_else(|| bad("bad status line", &head))?;
    let fields: Option<Vec<_>> = lines.map(field).collect();
    let fields = fields.ok_or_else(|| bad("bad field line", &head))?;
    if String::from_utf8_lossy(&head)
        .replace("\r\n", "")
        .contains(['\r', '\n'])
    {
        return Err(bad("bare CR or LF", &head));
    }
    let response = Response {
        status,
        head,
        fields,
        body: Vec::new(),
        at: Instant::now(),
    };
    check_head(&response, to_head).map_err(|what| bad(what, &response.head))?;
    Ok(response)
}

/// The body of a response and how many of the bytes it took; `None` if it is not all there.
fn body(
    response: &Response,
    bytes: &[u8],
    to_head: bool,
    ended: bool,
) -> io::Result<Option<(Vec<u8>, usize)>> {
    let (length, coding) = (
        response.values("content-length"),
        response.values("transfer-encoding"),
    );
    if to_head || matches!(response.status, 100..=199 | 204 | 304) {
        return Ok(Some((Vec::new(), 0)));
    }
    match (&length[..], &coding[..]) {
        (_, [_, ..]) => chunked(bytes).map_err(|what| bad(&what, &response.head)),
        ([length, ..], []) => {
            let length = number(length).ok_or_else(|| bad("bad length", &response.head))?;
            Ok(bytes.get(..length).map(|body| (body.to_owned(), length)))
        }
        ([], []) if !response.closes() => Err(bad("no framing and no close", &response.head)),
        ([], []) => Ok(ended.then(|| (bytes.to_owned(), bytes.len()))),
    }
}

fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ")?;
    let (digits, reason) = (rest.get(..3)?, rest.get(3..)?.strip_prefix(b" ")?);
    let printable = reason.iter().all(|byte| (b' '..=b'~').contains(byte));
    let status = u16::try_from(number(digits)?).ok()?;
    (printable && (100..600).contains(&status)).then_some(status)
}

fn field(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let control = |byte: &u8| (*byte < 32 && *byte != b'\t') || *byte == 127;
    let sound = !name.is_empty() && name.iter().all(token) && !value.iter().any(control);
    sound.then(|| (String::from_utf8_lossy(name).into_owned(), value.to_owned()))
}

/// Fields that may stand once.
const SINGLE: [&str; 7] = [
    "date",
    "server",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "version",
];

/// What RFC 9110 and 9112 ask of every head.
fn check_head(response: &Response, to_head: bool) -> Result<(), &'static str> {
    if SINGLE.iter().any(|name| response.values(name).len() > 1) {
        return Err("a field more than once");
    }
    let length = response.values("content-length");
    let coding = response.values("transfer-encoding");
    let framed = !length.is_empty() || !coding.is_empty();
    match response.status {
        100..=199 if framed => return Err("a body in an interim response"),
        100..=199 => return Ok(()),
        204 if framed => return Err("framing in 204"),
        _ if !length.is_empty() && !coding.is_empty() => return Err("two framings"),
        _ if !coding.is_empty() && coding != [b"chunked"] => return Err("an unknown coding"),
        _ => {}
    }
    if to_head && response.status >= 400 && framed && length.is_empty() {
        return Err("an error in chunks");
    }
    match response.values("date")[..] {
        [date] if date.len() == 29 && date.ends_with(b" GMT") && &date[3..5] == b", " => Ok(()),
        _ => Err("no Date, or a bad one"),
    }
}

/// Takes a chunked body apart, as strictly as the server does; `None` if it is not all there.
fn chunked(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else {
            return Ok(None);
        };
        let digits = String::from_utf8_lossy(&bytes[at..at + line]).into_owned();
        let size =
            usize::from_str_radix(&digits, 16).map_err(|_| format!("bad chunk size {digits:?}"))?;
        at += line + 2;
        let Some(data) = bytes.get(at..at + size + 2) else {
            return Ok(None);
        };
        if !data.ends_with(b"\r\n") {
            return Err(format!("no CRLF after a chunk of {size}"));
        }
        body.extend_from_slice(&data[..size]);
        at += size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    let sound = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    sound.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

fn shown(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes[..bytes.len().min(700)].escape_ascii())
}
