//! A client that believes nothing: it takes apart the bytes of an answer by RFC 9112 and refuses whatever a careful
//! proxy would refuse, so that each test is also a test of the framing of every answer it sees.
//!
//! Checked in each answer: the version, the form of every line, no control byte, at most one of the fields that may
//! stand once, `Content-Length` or `Transfer-Encoding` and never both, no body where there is none, `Date`, and that
//! nothing follows an answer that says `Connection: close`.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

/// An answer, taken apart.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// From the status line to the empty line, all bytes.
    pub(crate) head: Vec<u8>,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The values of a field, its name compared without case.
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        let same = |field: &&(String, Vec<u8>)| field.0.eq_ignore_ascii_case(name);
        self.fields
            .iter()
            .filter(same)
            .map(|(_, value)| &value[..])
            .collect()
    }

    /// Whether the answer says that the connection ends with it.
    pub(crate) fn closes(&self) -> bool {
        let tokens = |value: &[u8]| String::from_utf8_lossy(value).to_ascii_lowercase();
        self.values("connection").iter().any(|value| {
            tokens(value)
                .split(',')
                .any(|token| token.trim() == "close")
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = &self.body[..self.body.len().min(600)];
        write!(
            f,
            "{:?}",
            String::from_utf8_lossy(&[&self.head[..], body].concat())
        )
    }
}

/// A connection and the bytes that came over it and were not yet taken.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    ended: bool,
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            ended: false,
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), String> {
        self.stream
            .write_all(bytes.as_ref())
            .map_err(|error| format!("cannot send: {error}"))
    }

    /// Ends the client's side of the connection.
    pub(crate) fn end(&self) -> Result<(), String> {
        self.stream
            .shutdown(Shutdown::Write)
            .map_err(|error| format!("cannot end: {error}"))
    }

    /// The next answer; `to_head` if it answers a HEAD.
    pub(crate) fn answer(&mut self, to_head: bool) -> Result<Answer, String> {
        loop {
            if let Some((answer, length)) = parse(&self.buffer, to_head, self.ended)? {
                self.buffer.drain(..length);
                return Ok(answer);
            }
            if self.ended {
                return Err(format!(
                    "the connection ended; left over: {}",
                    shown(&self.buffer)
                ));
            }
            self.read()
                .map_err(|error| format!("{error}, no whole answer in {}", shown(&self.buffer)))?;
        }
    }

    /// The end of the connection: no byte more and no reset.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        while !self.ended && self.buffer.is_empty() {
            self.read()
                .map_err(|error| format!("{error} instead of the end"))?;
        }
        if self.buffer.is_empty() {
            Ok(())
        } else {
            Err(format!("more instead of the end: {}", shown(&self.buffer)))
        }
    }

    /// Reads once; `Ok(0)` is the end.
    pub(crate) fn read(&mut self) -> io::Result<usize> {
        let mut block = [0; 16_384];
        let count = self.stream.read(&mut block)?;
        self.buffer.extend_from_slice(&block[..count]);
        self.ended |= count == 0;
        Ok(count)
    }
}

/// One GET with a Host.
pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Takes the first answer out of the bytes, with its length; `None` if it is not all there.
fn parse(bytes: &[u8], to_head: bool, ended: bool) -> Result<Option<(Answer, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = &bytes[..end + 4];
    let bad = |what: &str| format!("{what}: {}", shown(head));
    let mut lines = head[..end]
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status = status(lines.next().unwrap_or_default()).ok_or_else(|| bad("bad status line"))?;
    let fields: Option<Vec<_>> = lines.map(field).collect();
    let fields = fields.ok_or_else(|| bad("bad field line"))?;
    if String::from_utf8_lossy(head)
        .replace("\r\n", "")
        .contains(['\r', '\n'])
    {
        return Err(bad("bare CR or LF"));
    }
    let mut answer = Answer {
        status,
        head: head.to_owned(),
        fields,
        body: Vec::new(),
    };
    check_head(&answer, to_head).map_err(|what| bad(&what))?;
    let rest = &bytes[head.len()..];
    let body = match () {
        () if to_head || matches!(status, 100..=199 | 204 | 304) => Some((Vec::new(), 0)),
        () if !answer.values("transfer-encoding").is_empty() => chunked(rest)?,
        () if !answer.values("content-length").is_empty() => {
            let length =
                number(answer.values("content-length")[0]).ok_or_else(|| bad("bad length"))?;
            rest.get(..length).map(|body| (body.to_owned(), length))
        }
        () if !answer.closes() => return Err(bad("no framing and no close")),
        () => ended.then(|| (rest.to_owned(), rest.len())),
    };
    let Some((body, length)) = body else {
        return Ok(None);
    };
    answer.body = body;
    Ok(Some((answer, head.len() + length)))
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
    let sound = !name.is_empty()
        && name.iter().all(token)
        && !value.iter().any(|&b| (b < 32 && b != 9) || b == 127);
    sound.then(|| (String::from_utf8_lossy(name).into_owned(), value.to_owned()))
}

/// What RFC 9110 and 9112 ask of every head.
fn check_head(answer: &Answer, to_head: bool) -> Result<(), String> {
    for name in [
        "date",
        "server",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "version",
    ] {
        if answer.values(name).len() > 1 {
            return Err(format!("{name} more than once"));
        }
    }
    let (length, coding) = (
        answer.values("content-length"),
        answer.values("transfer-encoding"),
    );
    let framed = !length.is_empty() || !coding.is_empty();
    match answer.status {
        100..=199 if framed => return Err("a body in an interim answer".to_owned()),
        100..=199 => return Ok(()),
        204 if framed => return Err("framing in 204".to_owned()),
        _ if !length.is_empty() && !coding.is_empty() => return Err("two framings".to_owned()),
        _ if !coding.is_empty() && coding != [b"chunked"] => {
            return Err("an unknown coding".to_owned());
        }
        _ => {}
    }
    if to_head && answer.status >= 400 && framed && length.is_empty() {
        return Err("an error in chunks".to_owned());
    }
    match answer.values("date")[..] {
        [date] if date.len() == 29 && date.ends_with(b" GMT") && &date[3..5] == b", " => Ok(()),
        _ => Err("no Date, or a bad one".to_owned()),
    }
}

/// Takes a chunked body apart, as strictly as the server does; `None` if it is not all there.
fn chunked(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let Some(line) = bytes[at..].windows(2).position(|window| window == b"\r\n") else {
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
