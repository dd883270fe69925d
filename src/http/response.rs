//! The response builder: a head that only a body can end.
//!
//! [`Head`] is consumed by its body, so a response without framing does not compile. Its fields are
//! static text, numbers, and whole field lines of a request that was parsed, so no client can end a
//! line early and add a field. Statuses without a body (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5)
//! and HEAD are decided here, so no handler can send what its status forbids.

use std::ops::Range;
use std::time::Duration;

use crate::http::decimal;
use crate::http::output::OutputBuffer;
use crate::http::request::{Request, Version};
use crate::http::status::Status;
use crate::http::websocket::handshake::Accept;

/// The content type of plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// The content type of JSON.
pub const JSON: &str = "application/json";
/// The content type of HTML.
pub const HTML: &str = "text/html; charset=utf-8";

/// What a response shares with every other one on its connection, and what its request asked for.
#[derive(Clone, Copy)]
pub struct Preamble<'a> {
    /// The field lines of every response of this server.
    pub common: &'a [u8],
    /// The date in the format of HTTP.
    pub date: &'a [u8],
    /// The id of the request, a token.
    pub request_id: &'a [u8],
    /// The `Keep-Alive` field line of responses that keep the connection open.
    pub keep_alive: &'a [u8],
    /// The version of the request: clients of HTTP/1.0 must be told that the connection stays open.
    pub version: Version,
    /// Whether the request was HEAD: every field, no body.
    pub head_only: bool,
    /// Whether the connection ends after this response.
    pub close: bool,
}

/// A response whose head is being written; one of the bodies ends it.
pub struct Head<'o, 'w> {
    out: &'o mut OutputBuffer<'w>,
    status: Status,
    body_wanted: bool,
    /// Whether the client knows the chunked coding.
    may_chunk: bool,
    close: bool,
}

/// What happens to the connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request may follow.
    KeepOpen,
    /// The connection closes.
    Close,
    /// The response is not whole, and the connection closes at once.
    Abort,
    /// The response is not whole, and the connection waits for the client to close it.
    Stall,
    /// The connection speaks WebSocket from here on.
    WebSocket,
}

/// The proof that a response was produced.
#[derive(Debug)]
pub struct Sent {
    /// Its status.
    pub status: Status,
    /// What happens to the connection.
    pub after: After,
}

impl<'o, 'w> Head<'o, 'w> {
    /// Begins a response: status line, the common fields, `Date`, `X-Request-Id`, `Connection`.
    pub fn new(out: &'o mut OutputBuffer<'w>, status: Status, preamble: &Preamble<'_>) -> Self {
        out.put(b"HTTP/1.1 ");
        out.put(&decimal::three_digits(status.code().into()));
        out.put(b" ");
        out.put(status.reason().as_bytes());
        out.put(b"\r\n");
        out.put(preamble.common);
        out.put(b"Date: ");
        out.put(preamble.date);
        out.put(b"\r\nX-Request-Id: ");
        out.put(preamble.request_id);
        out.put(match (status, preamble.close, preamble.version) {
            (Status::SWITCHING_PROTOCOLS, ..) => b"\r\n",
            (_, true, _) => b"\r\nConnection: close\r\n",
            (_, false, Version::Http10) => b"\r\nConnection: keep-alive\r\n",
            (_, false, Version::Http11) => b"\r\n",
        });
        if !preamble.close && status != Status::SWITCHING_PROTOCOLS {
            out.put(preamble.keep_alive);
        }
        Head {
            out,
            status,
            body_wanted: !preamble.head_only,
            may_chunk: preamble.version == Version::Http11,
            close: preamble.close,
        }
    }

    /// Adds a field.
    pub fn field(self, name: &'static str, value: &'static str) -> Self {
        self.out.put(name.as_bytes());
        self.out.put(b": ");
        self.out.put(value.as_bytes());
        self.out.put(b"\r\n");
        self
    }

    /// Adds the lines of a range of a request's fields.
    pub fn lines(&mut self, request: &Request, fields: Range<usize>) {
        self.out.put(request.lines(fields));
    }

    /// Adds the injected delay as `Server-Timing`, in milliseconds.
    pub fn server_timing(self, delay: Duration) -> Self {
        self.out.put(b"Server-Timing: delay;dur=");
        self.out.put(&decimal::millis(delay));
        self.out.put(b"\r\n");
        self
    }

    /// Ends the response with a body in one piece.
    pub fn body(self, content_type: &'static str, body: &[u8]) -> Sent {
        self.pieces(content_type, &[body])
    }

    /// Ends the response with a body in a few pieces.
    pub fn pieces(self, content_type: &'static str, pieces: &[&[u8]]) -> Sent {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.sized_body(content_type, length, |out| {
            for piece in pieces {
                out.put(piece);
            }
        })
    }

    /// Ends the response with a body of `length` bytes, which `write` puts out.
    pub fn sized_body(
        self,
        content_type: &'static str,
        length: u64,
        write: impl FnOnce(&mut OutputBuffer<'w>),
    ) -> Sent {
        let stream = self.stream(content_type, Some(length));
        if stream.head.body_wanted {
            write(stream.head.out);
        }
        stream.end()
    }

    /// Ends the head; the body follows in pieces. Without a length it goes out in the chunked
    /// coding (RFC 9112 section 7.1), and to a client of HTTP/1.0 up to the end of the connection,
    /// which then must close.
    pub fn stream(mut self, content_type: &'static str, length: Option<u64>) -> Stream<'o, 'w> {
        // Statuses without a body: RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
        let has_body = !matches!(self.status.code(), 204 | 205 | 304);
        let chunked = has_body && length.is_none() && self.may_chunk;
        if has_body {
            self = self.field("Content-Type", content_type);
        }
        match (self.status.code(), length) {
            // A 304 would have to tell the length of the 200 that it stands for.
            (204 | 304, _) => {}
            (205, _) => self.out.put(b"Content-Length: 0\r\n"),
            (_, Some(length)) => {
                self.out.put(b"Content-Length: ");
                self.out.put(&decimal::decimal(length));
                self.out.put(b"\r\n");
            }
            (_, None) if chunked => self.out.put(b"Transfer-Encoding: chunked\r\n"),
            (_, None) => {}
        }
        self.out.put(b"\r\n");
        self.body_wanted &= has_body;
        Stream {
            chunked: chunked && self.body_wanted,
            head: self,
        }
    }

    /// Ends the response to a HEAD whose GET would have a body of another length.
    pub fn no_body(mut self, content_type: &'static str) -> Sent {
        self.may_chunk = false;
        self.stream(content_type, None).end()
    }

    /// Ends a 101 response (RFC 6455 section 4.2.2).
    pub fn websocket(self, accept: &Accept) -> Sent {
        let head = self
            .field("Upgrade", "websocket")
            .field("Connection", "Upgrade");
        head.out.put(b"Sec-WebSocket-Accept: ");
        head.out.put(accept);
        head.out.put(b"\r\n\r\n");
        Sent {
            status: head.status,
            after: After::WebSocket,
        }
    }
}

/// A response whose body is being written.
pub struct Stream<'o, 'w> {
    head: Head<'o, 'w>,
    chunked: bool,
}

impl Stream<'_, '_> {
    /// Adds a piece of the body.
    pub fn write(&mut self, piece: &[u8]) {
        if !self.head.body_wanted || piece.is_empty() {
            return;
        }
        let out = &mut *self.head.out;
        if self.chunked {
            let size = decimal::hex64(piece.len() as u64);
            let zeros = size.iter().take_while(|digit| **digit == b'0').count();
            out.put(&size[zeros..]);
            out.put(b"\r\n");
        }
        out.put(piece);
        if self.chunked {
            out.put(b"\r\n");
        }
    }

    /// Adds `length` bytes made of one block again and again, as long as the client takes them.
    pub fn repeat(&mut self, block: &[u8], length: u64) {
        let mut left = if self.head.body_wanted { length } else { 0 };
        while left > 0 && self.head.out.failed().is_none() {
            let size = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
            self.write(&block[..size]);
            left -= size as u64;
        }
    }

    /// Writes what is pending; whether the client still takes it.
    pub fn flush(&mut self) -> bool {
        self.head.out.flush();
        self.head.out.failed().is_none()
    }

    /// Whether the response has a body: not to HEAD, and not with a 204.
    pub fn is_body_wanted(&self) -> bool {
        self.head.body_wanted
    }

    /// Ends the body.
    pub fn end(self) -> Sent {
        if self.chunked {
            self.head.out.put(b"0\r\n\r\n");
        }
        let after = after(self.head.close);
        self.break_off(after)
    }

    /// Leaves the body unfinished, and ends or stalls the connection.
    pub fn break_off(self, after: After) -> Sent {
        Sent {
            status: self.head.status,
            after,
        }
    }
}

fn after(close: bool) -> After {
    if close { After::Close } else { After::KeepOpen }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREAMBLE: Preamble<'_> = Preamble {
        common: b"Server: s\r\n",
        date: b"now",
        request_id: b"id",
        keep_alive: b"Keep-Alive: timeout=9\r\n",
        version: Version::Http11,
        head_only: false,
        close: false,
    };

    #[track_caller]
    fn check(
        code: u16,
        preamble: &Preamble<'_>,
        end: impl FnOnce(Head<'_, '_>) -> Sent,
        expected: &str,
    ) {
        let mut sink = Vec::new();
        let mut out = OutputBuffer::new(Vec::new(), &mut sink);
        let sent = end(Head::new(
            &mut out,
            Status::from_code(code).unwrap(),
            preamble,
        ));
        out.flush();
        assert_eq!(out.written(), out.position());
        assert_eq!(
            (sent.status.code(), sent.after),
            (code, after(preamble.close))
        );
        assert_eq!(str::from_utf8(&sink).unwrap(), expected);
    }

    #[test]
    fn bodies() {
        const START: &str = "Server: s\r\nDate: now\r\nX-Request-Id: id\r\n";
        const STAYS: &str = "Keep-Alive: timeout=9\r\n";
        let hello = |head: Head<'_, '_>| head.pieces("a/b", &[b"hel", b"lo"]);
        let typed = "Content-Type: a/b\r\nContent-Length: 5\r\n\r\n";
        let empty = "Content-Length: 0\r\n\r\n";
        for (code, line, rest) in [
            (200, "200 OK", format!("{typed}hello")),
            (299, "299 ", format!("{typed}hello")),
            (204, "204 No Content", "\r\n".to_owned()),
            (205, "205 Reset Content", empty.to_owned()),
            (304, "304 Not Modified", "\r\n".to_owned()),
        ] {
            check(
                code,
                &PREAMBLE,
                hello,
                &format!("HTTP/1.1 {line}\r\n{START}{STAYS}{rest}"),
            );
        }
        let head_only = Preamble {
            head_only: true,
            close: true,
            ..PREAMBLE
        };
        let closes = "Connection: close\r\n";
        check(
            200,
            &head_only,
            hello,
            &format!("HTTP/1.1 200 OK\r\n{START}{closes}{typed}"),
        );
        let http10 = Preamble {
            version: Version::Http10,
            ..PREAMBLE
        };
        let stays = format!("Connection: keep-alive\r\n{STAYS}");
        check(
            200,
            &http10,
            hello,
            &format!("HTTP/1.1 200 OK\r\n{START}{stays}{typed}hello"),
        );
    }

    #[test]
    fn streams() {
        let stream = |head: Head<'_, '_>| {
            let mut stream = head.stream("a/b", None);
            stream.repeat(b"abc", 5);
            stream.end()
        };
        let start = "HTTP/1.1 200 OK\r\nServer: s\r\nDate: now\r\nX-Request-Id: id\r\n\
                     Connection: close\r\nContent-Type: a/b\r\n";
        let close = Preamble {
            close: true,
            ..PREAMBLE
        };
        let chunked = "Transfer-Encoding: chunked\r\n\r\n";
        let chunks = format!("{start}{chunked}3\r\nabc\r\n2\r\nab\r\n0\r\n\r\n");
        check(200, &close, stream, &chunks);
        let head_only = Preamble {
            head_only: true,
            ..close
        };
        check(200, &head_only, stream, &format!("{start}{chunked}"));
        let http10 = Preamble {
            version: Version::Http10,
            ..close
        };
        check(200, &http10, stream, &format!("{start}\r\nabcab"));
    }
}
