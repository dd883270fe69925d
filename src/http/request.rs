//! The request: parsed once, checked, and kept in buffers that the next request uses again.
//!
//! [`Request::parse`] is the only parse. httparse reads the head; what it forgives (bare LF line
//! ends, empty lines without end, any length) is refused here. The head is copied into a buffer of
//! the request, and fields are ranges into it, so the input is free for the body while the request
//! is in use. What a request holds afterwards has no conflict: [`Framing`] is decided here, and an
//! absent field is an empty value.

use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::Error::{HeaderName, HeaderValue, TooManyHeaders};

use crate::http::error::RequestError;
use crate::http::field;
use crate::http::field_name::{FieldName, FieldNames};
use crate::http::target;
use crate::labelled::labelled;
use crate::limits;

labelled! {
    /// A request method. Methods are case-sensitive; those without a role here are `Other`.
    #[allow(missing_docs, reason = "RFC 9110 section 9.3 says what each is")]
    #[derive(Default)]
    Method {
        Get "GET",
        Head "HEAD",
        Post "POST",
        Put "PUT",
        Delete "DELETE",
        Options "OPTIONS",
        Patch "PATCH",
        Trace "TRACE",
        Connect "CONNECT",
        #[default]
        Other "other",
    }
}

labelled! {
    /// The version of a request.
    #[allow(missing_docs, reason = "the label says what each is")]
    #[derive(Default)]
    Version {
        #[default]
        Http11 "HTTP/1.1",
        Http10 "HTTP/1.0",
    }
}

/// How the length of a request's body is told (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// The body has this many bytes, more than zero.
    Length(u64),
    /// The body is a sequence of chunks up to a last one.
    Chunked,
}

/// A header field: where its name and its value stand in the head.
#[derive(Clone, Copy, Debug)]
struct Span {
    name: Place,
    value: Place,
    known: Option<FieldName>,
}

/// Where a part of a buffer stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    end: u32,
}

impl Place {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A request whose head is valid, or one that was not parsed yet.
#[derive(Debug, Default)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The version.
    pub version: Version,
    /// How the length of the body is told.
    pub framing: Framing,
    /// Whether the client wants the connection to stay open.
    pub keep_alive: bool,
    /// Whether the client waits for a 100 response before it sends the body.
    pub expects_continue: bool,
    /// Whether `Connection` names fields of the request.
    pub names_fields: bool,
    head: Vec<u8>,
    /// The method and the target: text, while the head may hold other bytes.
    line: String,
    method_length: usize,
    /// Where the path and the query stand in the target.
    path: Range<usize>,
    query: Range<usize>,
    spans: Vec<Span>,
    /// The names of all fields in lower case, one after the other.
    names: String,
    /// The names that fields have, and those that more than one has.
    present: FieldNames,
    repeated: FieldNames,
}

impl Request {
    /// Parses the request head that `input` begins with; the number of bytes it took, or `None`
    /// while the head has not ended. `max_head` is its largest size in bytes.
    pub fn parse(&mut self, input: &[u8], max_head: usize) -> Result<Option<usize>, RequestError> {
        self.clear();
        let skipped = empty_lines(input)?;
        let bytes = &input[skipped..];
        let parsed = match self.parse_fields::<{ limits::USUAL_FIELDS }>(bytes) {
            Err(TooManyHeaders) => self.parse_fields::<{ limits::FIELDS }>(bytes),
            parsed => parsed,
        };
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return check_partial(bytes, max_head),
            // Only a whole request line tells what is wrong with it.
            Err(_) if may_be_request_line(bytes) => return check_partial(bytes, max_head),
            Err(error) => return Err(explain(error, bytes)),
        };
        self.check_lines(max_head)?;
        let parts = target::split(self.method, self.target());
        (self.path, self.query) = parts.ok_or(RequestError::Target)?;
        self.read_fields()?;
        Ok(Some(skipped + length))
    }

    /// Parses a head of at most so many fields and takes it over. Inlined, the room for the most
    /// fields would lie in the stack of every connection, whose pages an idle one keeps.
    #[inline(never)]
    fn parse_fields<const MOST: usize>(&mut self, bytes: &[u8]) -> httparse::Result<usize> {
        let mut places = [const { MaybeUninit::uninit() }; MOST];
        let mut parsed = httparse::Request::new(&mut []);
        let status = parsed.parse_with_uninit_headers(bytes, &mut places)?;
        if let httparse::Status::Complete(length) = status {
            self.take_over(&parsed, &bytes[..length]);
        }
        Ok(status)
    }

    /// Forgets the request before.
    fn clear(&mut self) {
        self.head.clear();
        self.line.clear();
        self.spans.clear();
        self.names.clear();
        (self.method_length, self.path, self.query) = (0, 0..0, 0..0);
        (self.present, self.repeated) = (FieldNames::default(), FieldNames::default());
    }

    /// Copies what was parsed into the request's own buffers.
    fn take_over(&mut self, parsed: &httparse::Request<'_, '_>, head: &[u8]) {
        // A long head must not keep its memory while a short one waits.
        if self.head.capacity() > limits::KEPT_HEAD_BYTES {
            self.head.shrink_to(head.len());
        }
        self.head.extend_from_slice(head);
        let place = |part: &[u8]| {
            let start = part.as_ptr() as usize - head.as_ptr() as usize;
            Place {
                start: start as u32,
                end: (start + part.len()) as u32,
            }
        };
        let names = &mut self.names;
        self.spans.extend(parsed.headers.iter().map(|header| {
            names.push_str(header.name);
            Span {
                name: place(header.name.as_bytes()),
                value: place(header.value),
                known: None,
            }
        }));
        self.names.make_ascii_lowercase();
        let method = parsed.method.unwrap_or_default();
        self.method = Method::from_label(method).unwrap_or(Method::Other);
        self.method_length = method.len();
        self.line.push_str(method);
        self.line.push_str(parsed.path.unwrap_or_default());
        self.version = match parsed.version {
            Some(0) => Version::Http10,
            _ => Version::Http11,
        };
    }

    /// Refuses what httparse forgives: line ends other than CR LF, and any length.
    fn check_lines(&self, max_head: usize) -> Result<(), RequestError> {
        if is_too_long(&self.head[..self.line_start(0)]) {
            return Err(RequestError::TargetTooLong);
        }
        if self.head.len() > max_head {
            return Err(RequestError::HeadTooLarge);
        }
        let starts = self.spans.iter().map(|span| span.name.start as usize);
        let mut ends = starts.chain([self.line_start(self.spans.len()), self.head.len()]);
        if ends.all(|end| self.head[..end].ends_with(b"\r\n")) {
            Ok(())
        } else {
            Err(RequestError::LineEnd)
        }
    }

    /// Finds the names that have a meaning here, and reads the fields that every request needs.
    fn read_fields(&mut self) -> Result<(), RequestError> {
        let mut names = self.names.as_str();
        for span in &mut self.spans {
            span.known = FieldName::from_label(next_name(&mut names, span));
            let Some(name) = span.known else { continue };
            if self.present.insert(name) {
                self.repeated.insert(name);
            }
        }
        let is_10 = self.version == Version::Http10;
        let may_lack_host = is_10 && !self.has(FieldName::Host);
        if !may_lack_host && !self.only(FieldName::Host).is_some_and(target::is_host) {
            return Err(RequestError::Host);
        }
        self.expects_continue = !is_10 && self.has(FieldName::Expect);
        let is_known = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
        if self.expects_continue && !self.values(FieldName::Expect).all(is_known) {
            return Err(RequestError::Expectation);
        }
        self.read_connection()?;
        self.framing = self.framing()?;
        Ok(())
    }

    /// Reads the options of `Connection`.
    fn read_connection(&mut self) -> Result<(), RequestError> {
        let (mut close, mut keep_alive) = (false, self.version == Version::Http11);
        let (mut names_fields, mut count) = (false, 0);
        let values = self.values(FieldName::Connection);
        for option in values.flat_map(field::list_with_empty) {
            count += 1;
            match option {
                b"" => {}
                _ if option.eq_ignore_ascii_case(b"close") => close = true,
                _ if option.eq_ignore_ascii_case(b"keep-alive") => keep_alive = true,
                _ => names_fields = true,
            }
        }
        // Every option may name a field, and is compared with the names of all fields.
        if count > limits::FIELDS {
            return Err(RequestError::HeadTooLarge);
        }
        (self.keep_alive, self.names_fields) = (keep_alive && !close, names_fields);
        Ok(())
    }

    /// Decides how the length of the body is told. RFC 9112 section 6.1: `chunked` stands last and
    /// once; this server knows no coding that is empty or has parameters.
    fn framing(&self) -> Result<Framing, RequestError> {
        let (mut codings, mut last_is_chunked) = (0usize, false);
        let values = self.values(FieldName::TransferEncoding);
        for coding in values.flat_map(field::list_with_empty) {
            if last_is_chunked || !field::is_token(coding) {
                return Err(RequestError::Framing);
            }
            codings += 1;
            last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        }
        let is_10 = self.version == Version::Http10;
        let has_length = self.has(FieldName::ContentLength);
        match codings {
            1.. if is_10 || has_length || !last_is_chunked => Err(RequestError::Framing),
            2.. => Err(RequestError::CodingUnsupported),
            1 => Ok(Framing::Chunked),
            0 if !has_length => Ok(Framing::None),
            0 => match self.only(FieldName::ContentLength).and_then(parse_length) {
                Some(0) => Ok(Framing::None),
                Some(length) => Ok(Framing::Length(length)),
                None => Err(RequestError::ContentLength),
            },
        }
    }

    /// The head as it arrived, from the request line to the empty line.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The method as the client wrote it.
    pub fn method_text(&self) -> &str {
        &self.line[..self.method_length]
    }

    /// The target as the client wrote it.
    pub fn target(&self) -> &str {
        &self.line[self.method_length..]
    }

    /// The path of the target, or `*`.
    pub fn path(&self) -> &str {
        match &self.target()[self.path.clone()] {
            "" => "/",
            path => path,
        }
    }

    /// The query of the target without its `?`.
    pub fn query(&self) -> &str {
        &self.target()[self.query.clone()]
    }

    /// The names and values of all fields in the order they came.
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        let part = |place: Place| &self.head[place.range()];
        self.spans
            .iter()
            .map(move |span| (part(span.name), part(span.value)))
    }

    /// The names of all fields in lower case, in the order they came; each with its [`FieldName`] if
    /// it has a meaning here.
    pub fn lower_names(&self) -> impl Iterator<Item = (Option<FieldName>, &str)> {
        let mut names = self.names.as_str();
        self.spans
            .iter()
            .map(move |span| (span.known, next_name(&mut names, span)))
    }

    /// Whether there is an underscore in a field's name.
    pub fn has_underscore(&self) -> bool {
        field::holds(self.names.as_bytes(), b'_')
    }

    /// Whether there is a field with this name.
    pub fn has(&self, name: FieldName) -> bool {
        self.present.contains(name)
    }

    /// The names that fields have.
    pub fn present(&self) -> FieldNames {
        self.present
    }

    /// The names that more than one field has.
    pub fn repeated(&self) -> FieldNames {
        self.repeated
    }

    /// The values of all fields of a name, in the order they came.
    pub fn values(&self, name: FieldName) -> impl DoubleEndedIterator<Item = &[u8]> {
        let spans = if self.has(name) { &self.spans[..] } else { &[] };
        let same = spans.iter().filter(move |span| span.known == Some(name));
        same.map(|span| &self.head[span.value.range()])
    }

    /// The value of the first field of a name; empty where there is none.
    pub fn value(&self, name: FieldName) -> &[u8] {
        self.values(name).next().unwrap_or_default()
    }

    /// The value of the field of a name that stands exactly once.
    pub fn only(&self, name: FieldName) -> Option<&[u8]> {
        let value = self.values(name).next();
        value.filter(|_| !self.repeated.contains(name))
    }

    /// The lines of a range of fields.
    pub fn lines(&self, fields: Range<usize>) -> &[u8] {
        &self.head[self.line_start(fields.start)..self.line_start(fields.end)]
    }

    /// Where the line of a field begins in the head; after the last field, where they end.
    fn line_start(&self, field: usize) -> usize {
        self.spans
            .get(field)
            .map_or(self.head.len() - 2, |span| span.name.start as usize)
    }
}

/// Takes the name of a field from those that have not been taken yet.
fn next_name<'n>(names: &mut &'n str, span: &Span) -> &'n str {
    let (name, rest) = names.split_at(span.name.range().len());
    *names = rest;
    name
}

/// How many bytes of empty lines stand in front of the request line.
fn empty_lines(input: &[u8]) -> Result<usize, RequestError> {
    let lines = input.chunks(2).take_while(|pair| *pair == b"\r\n").count();
    match input.get(2 * lines..) {
        _ if lines > limits::EMPTY_LINES => Err(RequestError::RequestLine),
        Some([b'\n', ..] | [b'\r', _, ..]) => Err(RequestError::LineEnd),
        _ => Ok(2 * lines),
    }
}

/// Whether bytes are text whose first line has not ended.
fn may_be_request_line(bytes: &[u8]) -> bool {
    let text = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    text.iter().all(|byte| *byte >= b' ' && *byte != 0x7f)
}

/// Whether a request line is too long, with its line end or before it has come.
fn is_too_long(line: &[u8]) -> bool {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    text.len() > limits::REQUEST_LINE_BYTES
}

/// Refuses a head that has not ended and can never be right.
fn check_partial(bytes: &[u8], max_head: usize) -> Result<Option<usize>, RequestError> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let line = lines.next().unwrap_or_default();
    if is_too_long(line) {
        Err(RequestError::TargetTooLong)
    } else if line.ends_with(b"\n") && !line.ends_with(b"\r\n") {
        Err(RequestError::LineEnd)
    } else if bytes.len() > max_head {
        Err(RequestError::HeadTooLarge)
    } else {
        Ok(None)
    }
}

/// Says what is wrong with a head that httparse refused.
fn explain(error: httparse::Error, bytes: &[u8]) -> RequestError {
    let line_end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let (line, rest) = bytes.split_at(line_end.unwrap_or(bytes.len()));
    // A control byte is a fault where it stands, so only the text before it can be too long.
    let text = line.iter().take_while(|byte| !byte.is_ascii_control());
    match error {
        _ if text.count() > limits::REQUEST_LINE_BYTES => RequestError::TargetTooLong,
        TooManyHeaders => RequestError::HeadTooLarge,
        HeaderName | HeaderValue if has_bare_line_end(bytes) => RequestError::LineEnd,
        HeaderName | HeaderValue => RequestError::Field,
        _ => explain_request_line(error, line, rest),
    }
}

fn explain_request_line(error: httparse::Error, line: &[u8], rest: &[u8]) -> RequestError {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let version = version.and_then(|version| version.strip_prefix(b"HTTP/"));
    let visible = |target: &[u8]| !target.is_empty() && !target.iter().any(u8::is_ascii_control);
    let complete = method.is_some_and(field::is_token) && target.is_some_and(visible);
    let ended = error != httparse::Error::NewLine && rest.starts_with(b"\r\n");
    match version {
        Some(_) if !complete || words.next().is_some() => RequestError::RequestLine,
        Some([b'1', b'.', b'0' | b'1']) if ended => RequestError::Target,
        Some([b'1', b'.', b'0' | b'1']) => RequestError::LineEnd,
        Some([a, b'.', b]) if a.is_ascii_digit() && b.is_ascii_digit() => {
            RequestError::VersionUnsupported
        }
        Some(_) => RequestError::Version,
        None => RequestError::RequestLine,
    }
}

/// Whether there is a CR without LF or an LF without CR.
fn has_bare_line_end(bytes: &[u8]) -> bool {
    bytes
        .windows(2)
        .any(|pair| (pair[0] == b'\r') != (pair[1] == b'\n'))
}

/// Reads the digits of a `Content-Length`; a number beyond 64 bits is above any limit.
fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| str::from_utf8(value).ok()?.parse().ok().or(Some(u64::MAX)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_HEAD: usize = 32 << 10;

    type Outcome = Result<Option<(Framing, bool)>, RequestError>;

    /// The framing and persistence of a head that arrives in pieces of `step` bytes, or why it is
    /// refused; `None` if it does not end.
    fn outcome(bytes: &[u8], step: usize) -> Outcome {
        let mut request = Request::default();
        for end in (step..bytes.len()).step_by(step).chain([bytes.len()]) {
            if request.parse(&bytes[..end], MAX_HEAD)?.is_some() {
                return Ok(Some((request.framing, request.keep_alive)));
            }
        }
        Ok(None)
    }

    #[track_caller]
    fn check(head: &str, expected: Outcome) {
        check_bytes(head.as_bytes(), expected);
    }

    #[track_caller]
    fn check_bytes(head: &[u8], expected: Outcome) {
        let pieces: &[usize] = if head.len() > 1000 {
            &[usize::MAX]
        } else {
            &[usize::MAX, 1, 3, 8]
        };
        for step in pieces {
            let shown = String::from_utf8_lossy(&head[..head.len().min(80)]);
            let step = (*step).min(head.len().max(1));
            assert_eq!(outcome(head, step), expected, "{shown:?} by {step}");
        }
    }

    const PLAIN: Outcome = Ok(Some((Framing::None, true)));

    #[test]
    fn targets_and_hosts() {
        for good in [
            "GET /a?b|{}[]",
            "GET /\u{e9}",
            "GET http://a/b",
            "OPTIONS *",
            "CONNECT a:1",
        ] {
            check(&format!("{good} HTTP/1.1\r\nHost: a\r\n\r\n"), PLAIN);
        }
        for bad in ["GET *", "GET a", "GET /#f", "CONNECT /"] {
            check(
                &format!("{bad} HTTP/1.1\r\nHost: a\r\n\r\n"),
                Err(RequestError::Target),
            );
        }
        check_bytes(
            b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
            Err(RequestError::Target),
        );
        check("GET / HTTP/1.1\r\nHost:\r\n\r\n", PLAIN);
        check(
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            Err(RequestError::Host),
        );
        check("GET / HTTP/1.1\r\n\r\n", Err(RequestError::Host));
        check(
            "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
            Err(RequestError::Host),
        );
        check(
            "GET / HTTP/1.0\r\nHost: a:b\r\n\r\n",
            Err(RequestError::Host),
        );
        let mut request = Request::default();
        let head = b"\r\nGET http://h?q HTTP/1.1\r\nHost: h\r\nVia: 1\r\nvia: 2\r\n\r\nrest";
        assert_eq!(request.parse(head, MAX_HEAD), Ok(Some(head.len() - 4)));
        assert_eq!((request.path(), request.query()), ("/", "q"));
        assert_eq!(
            (request.method_text(), request.target()),
            ("GET", "http://h?q")
        );
        let via: Vec<_> = request.values(FieldName::Via).collect();
        assert_eq!(via, [b"1", b"2"]);
        assert_eq!(request.value(FieldName::Via), b"1");
        assert_eq!(request.value(FieldName::Te), b"");
        assert_eq!(request.repeated(), FieldNames::of(&[FieldName::Via]));
        let names: Vec<_> = request.lower_names().map(|(_, name)| name).collect();
        assert_eq!(names, ["host", "via", "via"]);
        let known = request.lower_names().filter_map(|(known, _)| known);
        assert!(known.eq([FieldName::Host, FieldName::Via, FieldName::Via]));
        assert_eq!(request.lines(1..3), b"Via: 1\r\nvia: 2\r\n");
        assert_eq!(request.head(), &head[2..head.len() - 4]);
    }

    #[test]
    fn limits_of_the_head() {
        let line = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n));
        check(&line(limits::REQUEST_LINE_BYTES - 14), PLAIN);
        check(
            &line(limits::REQUEST_LINE_BYTES - 13),
            Err(RequestError::TargetTooLong),
        );
        let fields =
            |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(n));
        check(&fields(limits::FIELDS - 1), PLAIN);
        check(&fields(limits::FIELDS), Err(RequestError::HeadTooLarge));
        let options = |n: usize| {
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n\r\n",
                vec!["x"; n].join(",")
            )
        };
        check(&options(limits::FIELDS), PLAIN);
        check(
            &options(limits::FIELDS + 1),
            Err(RequestError::HeadTooLarge),
        );
        let large = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(n));
        check(&large(MAX_HEAD - 32), PLAIN);
        check(&large(MAX_HEAD - 31), Err(RequestError::HeadTooLarge));
    }

    #[test]
    fn a_long_request_line_is_refused_alike_whole_and_in_pieces() {
        let line = limits::REQUEST_LINE_BYTES;
        for (length, max_head, error) in [
            (line, line, RequestError::HeadTooLarge),
            (line + 1, line, RequestError::TargetTooLong),
            (line + 1, MAX_HEAD, RequestError::TargetTooLong),
            (line + 2, line, RequestError::TargetTooLong),
        ] {
            let path = "x".repeat(length - "GET / HTTP/1.1".len());
            let head = format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n");
            let parse = |end: usize| Request::default().parse(&head.as_bytes()[..end], max_head);
            assert_eq!(parse(head.len()), Err(error), "{length} of {max_head}");
            let first_refused =
                (line - 1..).find_map(|end| parse(end).err().map(|error| (end, error)));
            let (end, in_pieces) = first_refused.unwrap();
            assert_eq!(in_pieces, error, "{length} of {max_head}");
            assert!(end <= length + 2, "{end}");
        }
    }
}
