//! The response: its status, the output it goes to, and the head that only a body can end.
//!
//! `Head` is consumed by its body, so a response without framing does not compile; its fields are static text, numbers,
//! and `Value`s, which refuse what would end a line. Statuses that carry no body (RFC 9110 sections 15.3.5, 15.3.6 and
//! 15.4.5) and HEAD are decided here once, so that no handler can send what its status forbids.

use std::io::{self, Write};
use std::time::Duration;

use crate::limits;
use crate::text;

/// A status code and its reason phrase; final codes from 200 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u16);

/// The final status codes registered at IANA, a class below the other.
#[rustfmt::skip]
const REGISTERED: [(u16, &str); 57] = [
    (200, "OK"), (201, "Created"), (202, "Accepted"), (203, "Non-Authoritative Information"), (204, "No Content"),
    (205, "Reset Content"), (206, "Partial Content"), (207, "Multi-Status"), (208, "Already Reported"),
    (226, "IM Used"),
    (300, "Multiple Choices"), (301, "Moved Permanently"), (302, "Found"), (303, "See Other"), (304, "Not Modified"),
    (305, "Use Proxy"), (307, "Temporary Redirect"), (308, "Permanent Redirect"),
    (400, "Bad Request"), (401, "Unauthorized"), (402, "Payment Required"), (403, "Forbidden"), (404, "Not Found"),
    (405, "Method Not Allowed"), (406, "Not Acceptable"), (407, "Proxy Authentication Required"),
    (408, "Request Timeout"), (409, "Conflict"), (410, "Gone"), (411, "Length Required"), (412, "Precondition Failed"),
    (413, "Content Too Large"), (414, "URI Too Long"), (415, "Unsupported Media Type"), (416, "Range Not Satisfiable"),
    (417, "Expectation Failed"), (421, "Misdirected Request"), (422, "Unprocessable Content"), (423, "Locked"),
    (424, "Failed Dependency"), (425, "Too Early"), (426, "Upgrade Required"), (428, "Precondition Required"),
    (429, "Too Many Requests"), (431, "Request Header Fields Too Large"), (451, "Unavailable For Legal Reasons"),
    (500, "Internal Server Error"), (501, "Not Implemented"), (502, "Bad Gateway"), (503, "Service Unavailable"),
    (504, "Gateway Timeout"), (505, "HTTP Version Not Supported"), (506, "Variant Also Negotiates"),
    (507, "Insufficient Storage"), (508, "Loop Detected"), (510, "Not Extended"),
    (511, "Network Authentication Required"),
];

impl Status {
    #![allow(missing_docs, reason = "the reason phrase says what each is")]
    pub const OK: Status = Status(200);
    pub const BAD_REQUEST: Status = Status(400);
    pub const UNAUTHORIZED: Status = Status(401);
    pub const NOT_FOUND: Status = Status(404);
    pub const METHOD_NOT_ALLOWED: Status = Status(405);
    pub const REQUEST_TIMEOUT: Status = Status(408);
    pub const CONTENT_TOO_LARGE: Status = Status(413);
    pub const URI_TOO_LONG: Status = Status(414);
    pub const EXPECTATION_FAILED: Status = Status(417);
    pub const FIELDS_TOO_LARGE: Status = Status(431);
    pub const INTERNAL_SERVER_ERROR: Status = Status(500);
    pub const NOT_IMPLEMENTED: Status = Status(501);
    pub const SERVICE_UNAVAILABLE: Status = Status(503);
    pub const VERSION_NOT_SUPPORTED: Status = Status(505);

    /// How many values [`Status::index`] has.
    pub const INDICES: usize = REGISTERED.len() + 1;

    /// The status of a code from 200 to 599, registered or not.
    pub fn of(code: u16) -> Option<Status> {
        (200..600).contains(&code).then_some(Status(code))
    }

    /// The code, from 200 to 599.
    pub fn code(self) -> u16 {
        self.0
    }

    /// The reason phrase; empty for a code that is not registered.
    pub fn reason(self) -> &'static str {
        REGISTERED.get(self.index()).map_or("", |(_, reason)| reason)
    }

    /// A small number for tables: one for each registered code, and the last for all others.
    pub fn index(self) -> usize {
        // The hot path asks for 200 alone.
        if self == Status::OK {
            return 0;
        }
        REGISTERED.binary_search_by_key(&self.0, |(code, _)| *code).unwrap_or(REGISTERED.len())
    }
}

/// A field value from the wire: refuses the control bytes that could end a line or a string.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// The value, or `None` if it holds a control byte other than HTAB (RFC 9110 section 5.5).
    pub fn new(bytes: &'a [u8]) -> Option<Value<'a>> {
        bytes.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f)).then_some(Value(bytes))
    }

    /// Whole field lines of a request head that was checked line by line before.
    pub(crate) fn checked_lines(lines: &'a [u8]) -> Value<'a> {
        Value(lines)
    }
}

impl From<&'static str> for Value<'static> {
    fn from(text: &'static str) -> Self {
        Value(text.as_bytes())
    }
}

/// Where responses go: small pieces gather in one buffer, large ones go straight through to the wire.
///
/// The first error stays, so that a response is written without asking after each piece.
pub struct Out<'w> {
    held: Vec<u8>,
    wire: &'w mut dyn Write,
    written: u64,
    lost: u64,
    failed: Option<io::ErrorKind>,
}

impl<'w> Out<'w> {
    /// An output that writes to `wire`, whose `write_all` either takes everything or is at its end; `held` is its
    /// buffer, empty.
    pub fn new(held: Vec<u8>, wire: &'w mut dyn Write) -> Out<'w> {
        Out { held, wire, written: 0, lost: 0, failed: None }
    }

    /// The buffer, for another output.
    pub fn into_buffer(mut self) -> Vec<u8> {
        self.held.clear();
        self.held
    }

    /// Adds bytes; writes only when more is held than [`limits::HELD`].
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        if self.held.len() + bytes.len() > limits::HELD {
            self.put_much(bytes);
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    #[cold]
    fn put_much(&mut self, bytes: &[u8]) {
        self.write_held();
        if bytes.len() < limits::HELD / 2 {
            self.held.extend_from_slice(bytes);
        } else {
            self.write(bytes);
        }
    }

    /// Adds a number in decimal.
    pub fn number(&mut self, number: u64) {
        self.put(&text::decimal(number));
    }

    /// Has `put` add `length` bytes, made of one block again and again, while the wire takes them.
    pub fn repeat(&mut self, block: &[u8], length: u64, put: impl Fn(&mut Self, &[u8])) {
        let mut left = length;
        while left > 0 && self.failed.is_none() {
            let piece = &block[..block.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            put(self, piece);
            left -= piece.len() as u64;
        }
    }

    /// Writes what is held, and tells the wire that nothing more is to be written for now.
    pub fn flush(&mut self) {
        self.write_held();
        if let (None, Err(error)) = (self.failed, self.wire.flush()) {
            self.failed = Some(error.kind());
        }
    }

    fn write_held(&mut self) {
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            self.write(&held);
            self.held = held;
            self.held.clear();
        }
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while self.failed.is_none() && !bytes.is_empty() {
            match self.wire.write(bytes) {
                Ok(0) => self.failed = Some(io::ErrorKind::WriteZero),
                Ok(n) => (self.written, bytes) = (self.written + n as u64, &bytes[n..]),
                Err(error) => self.failed = Some(error.kind()),
            }
        }
        self.lost += bytes.len() as u64;
    }

    /// Whether bytes wait to be written.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Where the next byte stands in all that this output was given.
    pub fn position(&self) -> u64 {
        self.written + self.lost + self.held.len() as u64
    }

    /// How many bytes the wire took: the first ones of all that this output was given.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The first error of the wire; nothing was written since.
    pub fn failed(&self) -> Option<io::ErrorKind> {
        self.failed
    }

    /// Gives the buffer back while nothing is held.
    pub fn release(&mut self) {
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }
}

/// What a response has in common with every other on its connection, and what its request asked of it.
pub struct Preamble<'a> {
    /// The field lines of every response of this server.
    pub common: &'a [u8],
    /// The date in the format of HTTP.
    pub date: &'a [u8],
    /// The id of the request, a token.
    pub request_id: &'a [u8],
    /// Whether the request was HTTP/1.0, whose clients have to be told that the connection stays.
    pub http10: bool,
    /// Whether the request was HEAD: every field, no body.
    pub head_only: bool,
    /// Whether the connection ends after this response.
    pub close: bool,
}

/// A response whose head is being written; ended by one of the bodies.
pub struct Head<'o, 'w> {
    out: &'o mut Out<'w>,
    status: Status,
    body_wanted: bool,
    http10: bool,
    close: bool,
    delay: Duration,
}

/// The proof that a response was written to its end.
#[derive(Debug)]
pub struct Sent {
    /// Its status.
    pub status: Status,
    /// Whether the connection ends after it.
    pub close: bool,
    /// The injected delay that it tells, as long as it really was.
    pub delay: Duration,
}

impl<'o, 'w> Head<'o, 'w> {
    /// Begins a response: status line, the common fields, `Date`, `X-Request-Id` and `Connection`.
    pub fn new(out: &'o mut Out<'w>, status: Status, preamble: &Preamble<'_>) -> Head<'o, 'w> {
        let Preamble { common, date, request_id, http10, head_only, close } = *preamble;
        if status == Status::OK {
            out.put(b"HTTP/1.1 200 OK\r\n");
        } else {
            out.put(format!("HTTP/1.1 {} {}\r\n", status.code(), status.reason()).as_bytes());
        }
        out.put(common);
        out.put(b"Date: ");
        out.put(date);
        out.put(b"\r\nX-Request-Id: ");
        out.put(request_id);
        out.put(match (close, http10) {
            (true, _) => b"\r\nConnection: close\r\n",
            (false, true) => b"\r\nConnection: keep-alive\r\n",
            (false, false) => b"\r\n",
        });
        Head { out, status, body_wanted: !head_only, http10, close, delay: Duration::ZERO }
    }

    /// Adds a field.
    pub fn field<'v>(self, name: &'static str, value: impl Into<Value<'v>>) -> Self {
        self.out.put(name.as_bytes());
        self.out.put(b": ");
        self.out.put(value.into().0);
        self.out.put(b"\r\n");
        self
    }

    /// Adds whole field lines, each with its line end.
    pub fn lines(&mut self, lines: Value<'_>) {
        self.out.put(lines.0);
    }

    /// Adds the injected delay as `Server-Timing`, in milliseconds.
    pub fn server_timing(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self.out.put(b"Server-Timing: delay;dur=");
        self.out.put(&text::millis(delay));
        self.out.put(b"\r\n");
        self
    }

    /// Ends the response with a body of one piece and its type.
    pub fn body(self, content_type: &'static str, body: &[u8]) -> Sent {
        self.sized_body(content_type, body.len() as u64, |out| out.put(body))
    }

    /// Ends the response with a body of `length` bytes, which `write` puts out.
    pub fn sized_body(self, content_type: &'static str, length: u64, write: impl FnOnce(&mut Out<'w>)) -> Sent {
        let (head, body_wanted) = match self.status.code() {
            // A 304 would have to tell the length of the 200 that it stands for.
            204 | 304 => (self, false),
            205 => (self.length(0), false),
            _ => {
                let body_wanted = self.body_wanted;
                (self.field("Content-Type", content_type).length(length), body_wanted)
            }
        };
        head.out.put(b"\r\n");
        if body_wanted {
            write(head.out);
        }
        head.sent()
    }

    fn length(self, length: u64) -> Self {
        self.out.put(b"Content-Length: ");
        self.out.number(length);
        self.out.put(b"\r\n");
        self
    }

    /// Ends the response with `length` bytes in chunked coding (RFC 9112 section 7.1), made of one block again and
    /// again.
    ///
    /// A client of HTTP/1.0 knows no chunks: it gets the bytes up to the end of the connection, which has to be closed.
    pub fn chunked_body(self, content_type: &'static str, length: u64, block: &[u8]) -> Sent {
        let chunked = !self.http10;
        let coding: &[u8] = if chunked { b"Transfer-Encoding: chunked\r\n\r\n" } else { b"\r\n" };
        let head = self.field("Content-Type", content_type);
        head.out.put(coding);
        if head.body_wanted {
            head.out.repeat(block, length, |out, piece| {
                if chunked {
                    out.put(format!("{:x}\r\n", piece.len()).as_bytes());
                }
                out.put(piece);
                if chunked {
                    out.put(b"\r\n");
                }
            });
            if chunked {
                head.out.put(b"0\r\n\r\n");
            }
        }
        head.sent()
    }

    /// Ends the response to a HEAD whose GET would have a body of another length.
    pub fn no_body(self, content_type: &'static str) -> Sent {
        let head = self.field("Content-Type", content_type);
        head.out.put(b"\r\n");
        head.sent()
    }

    fn sent(self) -> Sent {
        Sent { status: self.status, close: self.close, delay: self.delay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREAMBLE: Preamble<'_> = Preamble {
        common: b"Server: s\r\n",
        date: b"now",
        request_id: b"id",
        http10: false,
        head_only: false,
        close: false,
    };

    #[track_caller]
    fn check(code: u16, preamble: &Preamble<'_>, end: impl FnOnce(Head<'_, '_>) -> Sent, expected: &str) {
        let mut wire = Vec::new();
        let mut out = Out::new(Vec::new(), &mut wire);
        let sent = end(Head::new(&mut out, Status::of(code).unwrap(), preamble));
        out.flush();
        assert_eq!(out.written(), out.position());
        assert_eq!((sent.status.code(), sent.close), (code, preamble.close));
        assert_eq!(str::from_utf8(&wire).unwrap(), expected);
    }

    #[test]
    fn bodies() {
        const START: &str = "Server: s\r\nDate: now\r\nX-Request-Id: id\r\n";
        let hello = |head: Head<'_, '_>| head.body("text/plain", b"hello");
        let typed = "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\n";
        check(200, &PREAMBLE, hello, &format!("HTTP/1.1 200 OK\r\n{START}{typed}hello"));
        check(299, &PREAMBLE, hello, &format!("HTTP/1.1 299 \r\n{START}{typed}hello"));
        check(204, &PREAMBLE, hello, &format!("HTTP/1.1 204 No Content\r\n{START}\r\n"));
        check(205, &PREAMBLE, hello, &format!("HTTP/1.1 205 Reset Content\r\n{START}Content-Length: 0\r\n\r\n"));
        check(304, &PREAMBLE, hello, &format!("HTTP/1.1 304 Not Modified\r\n{START}\r\n"));
        let head_only = Preamble { head_only: true, close: true, ..PREAMBLE };
        check(200, &head_only, hello, &format!("HTTP/1.1 200 OK\r\n{START}Connection: close\r\n{typed}"));
        let http10 = Preamble { http10: true, ..PREAMBLE };
        check(200, &http10, hello, &format!("HTTP/1.1 200 OK\r\n{START}Connection: keep-alive\r\n{typed}hello"));
        let chunked = |head: Head<'_, '_>| head.chunked_body("a/b", 5, b"abc");
        check(
            200,
            &PREAMBLE,
            chunked,
            &format!(
                "HTTP/1.1 200 OK\r\n{START}Content-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n2\r\nab\r\n0\r\n\r\n"
            ),
        );
    }

    #[test]
    fn values_end_no_line() {
        for bad in ["a\rb", "a\nb", "a\0b", "\x7f"] {
            assert!(Value::new(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(Value::new(b"a\tb \xff").is_some());
    }

    #[test]
    fn statuses() {
        assert!(REGISTERED.is_sorted());
        assert_eq!((Status::of(199), Status::of(600)), (None, None));
        assert_eq!(Status::of(599).unwrap().index(), Status::INDICES - 1);
        assert_eq!(Status::of(503).unwrap().reason(), "Service Unavailable");
    }

    #[test]
    fn large_pieces_pass_through_in_order() {
        let sizes = [1, limits::HELD - 1, 1, limits::HELD, limits::HELD / 4, 3 * limits::HELD, 7];
        let pieces: Vec<Vec<u8>> = (b'a'..).zip(sizes).map(|(letter, size)| vec![letter; size]).collect();
        let mut wire = Vec::new();
        let mut out = Out::new(Vec::new(), &mut wire);
        for piece in &pieces {
            out.put(piece);
        }
        let position = out.position();
        out.flush();
        assert_eq!(wire.len() as u64, position);
        assert!(wire == pieces.concat());
    }
}
