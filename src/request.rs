//! The request: found, checked and parsed once, then borrowed from the connection's buffer.
//!
//! `HeadScan` finds the end of a head in bytes that are still arriving, and refuses what httparse would let pass (bare
//! LF, several empty lines) before it is parsed. `Request::parse` reads a whole head by RFC 9112 and, where that leaves
//! a choice, by its stricter reading. What follows holds no conflict: `Framing` is decided here, an absent field is
//! empty, and whatever was wrong is one `Reject` with one status.

use std::mem::MaybeUninit;
use std::net::Ipv6Addr;

use httparse::Header;

use crate::limits;
use crate::response::Status;
use crate::text::{self, labelled};

macro_rules! rejects {
    ($($name:ident $label:literal $status:ident $reason:literal,)*) => {
        labelled! {
            /// One of the ways to say no.
            #[allow(missing_docs, reason = "the text for the client says what each is")]
            Reject { $($name $label,)* }
        }

        impl Reject {
            /// The status of the answer.
            pub fn status(self) -> Status {
                match self { $(Reject::$name => Status::$status),* }
            }

            /// What was wrong and what was expected, for the client.
            pub fn reason(self) -> &'static str {
                match self { $(Reject::$name => $reason),* }
            }
        }
    };
}

rejects! {
    RequestLine "request_line" BAD_REQUEST "the request line is not a method, a target and a version with one space between",
    Target "target" BAD_REQUEST "the target is not an absolute path or an http URL in visible ASCII",
    Version "version" BAD_REQUEST "the version is not HTTP/ and two digits with a dot between",
    Field "field" BAD_REQUEST "a header field is not a name, a colon and a value without control bytes",
    LineEnd "line_end" BAD_REQUEST "a line does not end with CR LF",
    Host "host" BAD_REQUEST "there is not exactly one Host field with a valid host and port",
    Framing "framing" BAD_REQUEST "Transfer-Encoding is not one final chunked in HTTP/1.1 without Content-Length",
    ContentLength "content_length" BAD_REQUEST "there is more than one Content-Length or it is not a number",
    Chunk "chunk" BAD_REQUEST "the chunked body is malformed or carries too much besides its data",
    VersionUnsupported "version_unsupported" VERSION_NOT_SUPPORTED "only HTTP/1.0 and HTTP/1.1 are spoken here",
    CodingUnsupported "coding_unsupported" NOT_IMPLEMENTED "the only transfer coding is chunked",
    Expectation "expectation" EXPECTATION_FAILED "the only expectation is 100-continue",
    TargetTooLong "target_too_long" URI_TOO_LONG "the request line is longer than 8 KiB",
    HeadTooLarge "head_too_large" FIELDS_TOO_LARGE "the request head has more than 32 KiB, 100 fields or 100 options of Connection",
    BodyTooLarge "body_too_large" CONTENT_TOO_LARGE "the body is larger than this server takes",
    BodyMemory "body_memory" SERVICE_UNAVAILABLE "the memory for request bodies is in use",
    HeaderTimeout "header_timeout" REQUEST_TIMEOUT "the request head took too long",
    BodyTimeout "body_timeout" REQUEST_TIMEOUT "the request body took too long",
    WriteTimeout "write_timeout" REQUEST_TIMEOUT "the answer was not taken in time",
    Incomplete "incomplete" BAD_REQUEST "the connection ended within a request",
    Method "method" METHOD_NOT_ALLOWED "this route does not take the method",
    Parameter "parameter" BAD_REQUEST "the path or the body does not hold what this route expects",
    NotFound "not_found" NOT_FOUND "there is no such setting: GET /admin/settings lists them",
    Unauthorized "unauthorized" UNAUTHORIZED "the bearer token is missing or wrong",
    Shed "shed" SERVICE_UNAVAILABLE "every connection of this server is in use",
}

labelled! {
    /// A request method; methods are case-sensitive, and the ones without a role here are `Other`.
    #[allow(missing_docs, reason = "RFC 9110 section 9.3 says what each is")]
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
        Other "other",
    }
}

/// How the length of the request's body is told (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// So many bytes, more than none.
    Length(u64),
    /// Chunks up to a last one.
    Chunked,
}

/// The search for the end of a head in bytes that are still arriving.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    at: usize,
    line_start: usize,
    head_start: usize,
    in_fields: bool,
}

impl HeadScan {
    /// Goes on from where the last look stopped; the range of the whole head once its end is there.
    ///
    /// `bytes` are the same as before with more behind them. Every line has to end with CR LF, one empty line may stand
    /// in front (RFC 9112 section 2.2), and the limits of the request line and the head hold.
    pub fn find(&mut self, bytes: &[u8]) -> Result<Option<std::ops::Range<usize>>, Reject> {
        while let Some(ahead) = text::first_marked(&bytes[self.at..], |word| text::below(word, b' ')) {
            let at = self.at + ahead;
            self.check_limits(at)?;
            match (bytes[at], bytes.get(at + 1)) {
                (b'\t', _) => self.at = at + 1,
                (b'\r', Some(b'\n')) => {
                    if self.end_line(at)? {
                        return Ok(Some(self.head_start..at + 2));
                    }
                }
                (b'\r', None) => {
                    self.at = at;
                    return Ok(None);
                }
                (b'\r' | b'\n', _) => return Err(Reject::LineEnd),
                _ if self.in_fields => return Err(Reject::Field),
                _ => return Err(Reject::RequestLine),
            }
        }
        self.at = bytes.len();
        self.check_limits(bytes.len())?;
        Ok(None)
    }

    /// Takes the line that ends at `at`; whether it ends the head.
    fn end_line(&mut self, at: usize) -> Result<bool, Reject> {
        let empty = at == self.line_start;
        (self.at, self.line_start) = (at + 2, at + 2);
        if !empty {
            self.in_fields = true;
        } else if self.in_fields {
            return Ok(true);
        } else if self.head_start > 0 {
            return Err(Reject::RequestLine);
        } else {
            self.head_start = at + 2;
        }
        Ok(false)
    }

    fn check_limits(&self, reached: usize) -> Result<(), Reject> {
        if !self.in_fields && reached - self.head_start > limits::REQUEST_LINE {
            return Err(Reject::TargetTooLong);
        }
        if reached - self.head_start > limits::HEAD - 2 {
            return Err(Reject::HeadTooLarge);
        }
        Ok(())
    }
}

/// Room for the fields of one request, empty and not cleared.
///
/// It is on the heap because an idle connection can give that back: a page of its stack stays once it was touched.
pub type Room<'b> = Vec<Header<'b>>;

/// The same room for another request; `collect` keeps the place of a vector of one layout, so nothing is allocated.
pub fn reuse<'b>(mut room: Room<'_>) -> Room<'b> {
    room.clear();
    room.into_iter().map(|_| httparse::EMPTY_HEADER).collect()
}

fn places<'r, 'b>(room: &'r mut Room<'b>) -> &'r mut [MaybeUninit<Header<'b>>] {
    room.reserve_exact(limits::FIELDS);
    &mut room.spare_capacity_mut()[..limits::FIELDS]
}

/// A request whose head is valid, borrowed from the buffer that it arrived in. An absent field is an empty value.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The method as the client wrote it.
    pub method_text: &'a str,
    /// The target as the client wrote it.
    pub target: &'a str,
    /// The path of the target, or `*`.
    pub path: &'a str,
    /// The query of the target without its `?`.
    pub query: &'a str,
    /// Whether the version is 1.0 rather than 1.1.
    pub http10: bool,
    /// How the length of the body is told.
    pub framing: Framing,
    /// Whether the client wants the connection to stay.
    pub keep_alive: bool,
    /// Whether the client waits for a 100 before it sends the body.
    pub expects_continue: bool,
    /// Whether `Connection` names fields.
    pub names_fields: bool,
    /// The value of `Accept`.
    pub accept: &'a [u8],
    /// The value of `User-Agent`.
    pub user_agent: &'a [u8],
    /// The value of `Referer`.
    pub referrer: &'a [u8],
    /// The value of `X-Request-Id`.
    pub request_id: &'a [u8],
    /// The value of `traceparent`.
    pub traceparent: &'a [u8],
    /// Every field in the order they came.
    pub fields: &'a [Header<'a>],
    /// The head as it arrived, from the request line to the empty line.
    pub head: &'a [u8],
}

/// What the fields say of framing and persistence, gathered one by one.
#[derive(Default)]
struct Gathered {
    hosts: usize,
    lengths: usize,
    length: u64,
    /// What `Transfer-Encoding` names, over all its fields: how many codings, and whether the last is `chunked`.
    codings: usize,
    chunked: bool,
    /// How many options `Connection` lists, over all its fields.
    options: usize,
    close: bool,
    keep_alive: bool,
}

impl<'a> Request<'a> {
    /// Parses a head that [`HeadScan`] found.
    pub fn parse<'b: 'a>(head: &'b [u8], room: &'a mut Room<'b>) -> Result<Request<'a>, Reject> {
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, places(room)) {
            Ok(httparse::Status::Complete(_)) => Request::of(parsed, head),
            Ok(httparse::Status::Partial) => Err(Reject::RequestLine),
            Err(error) => Err(reject_of(error, head)),
        }
    }

    /// Parses bytes that begin with a whole and flawless head, as nearly all do, without the walk of [`HeadScan`];
    /// `None` leaves it to that walk to say what is wrong or missing.
    pub fn parse_flawless<'b: 'a>(bytes: &'b [u8], room: &'a mut Room<'b>) -> Option<Request<'a>> {
        let mut parsed = httparse::Request::new(&mut []);
        let Ok(httparse::Status::Complete(length)) = parsed.parse_with_uninit_headers(bytes, places(room)) else {
            return None;
        };
        let request = Request::of(parsed, &bytes[..length]).ok()?;
        // All that httparse forgives: other line ends than CR LF, empty lines in front, and any length.
        let lines_end_well =
            (0..=request.fields.len()).all(|field| bytes[..request.line_start(field)].ends_with(b"\r\n"));
        let fits = length <= limits::HEAD && request.line_start(0) <= limits::REQUEST_LINE + 2;
        let first_is_method = bytes.first().is_some_and(|byte| is_token_byte(*byte));
        (lines_end_well && bytes[..length].ends_with(b"\r\n") && fits && first_is_method).then_some(request)
    }

    fn of<'b: 'a>(parsed: httparse::Request<'a, 'b>, head: &'b [u8]) -> Result<Request<'a>, Reject> {
        let httparse::Request { method, path: target, version, headers } = parsed;
        let (method_text, target) = (method.unwrap_or_default(), target.unwrap_or_default());
        let method = Method::of_label(method_text).unwrap_or(Method::Other);
        let (path, query) = split_target(method, target).ok_or(Reject::Target)?;
        let mut request = Request {
            method,
            method_text,
            target,
            path,
            query,
            http10: version == Some(0),
            framing: Framing::None,
            keep_alive: false,
            expects_continue: false,
            names_fields: false,
            accept: b"",
            user_agent: b"",
            referrer: b"",
            request_id: b"",
            traceparent: b"",
            fields: headers,
            head,
        };
        let mut gathered = Gathered::default();
        for field in request.fields {
            request.gather(&mut gathered, field.name, field.value)?;
        }
        request.settle(&gathered)?;
        Ok(request)
    }

    /// Takes note of a field that has a meaning here.
    fn gather(&mut self, gathered: &mut Gathered, name: &'a str, value: &'a [u8]) -> Result<(), Reject> {
        // The length tells most names apart, so that few are compared.
        let is = |known: &str| text::same_name(name.as_bytes(), known.as_bytes());
        match name.len() {
            4 if is("host") => {
                gathered.hosts += 1;
                if !valid_host(value) {
                    return Err(Reject::Host);
                }
            }
            6 if is("accept") => self.accept = value,
            6 if is("expect") && !self.http10 => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Reject::Expectation);
                }
                self.expects_continue = true;
            }
            7 if is("referer") => self.referrer = value,
            10 if is("user-agent") => self.user_agent = value,
            10 if is("connection") => self.gather_connection(gathered, value),
            11 if is("traceparent") => self.traceparent = value,
            12 if is("x-request-id") => self.request_id = value,
            14 if is("content-length") => {
                gathered.lengths += 1;
                gathered.length = parse_length(value).ok_or(Reject::ContentLength)?;
            }
            17 if is("transfer-encoding") => gathered.gather_codings(value)?,
            _ => {}
        }
        Ok(())
    }

    fn gather_connection(&mut self, gathered: &mut Gathered, value: &[u8]) {
        for option in text::list(value) {
            gathered.options += 1;
            match option {
                _ if option.eq_ignore_ascii_case(b"close") => gathered.close = true,
                _ if option.eq_ignore_ascii_case(b"keep-alive") => gathered.keep_alive = true,
                b"" => {}
                _ => self.names_fields = true,
            }
        }
    }

    /// Decides what only all the fields together can tell.
    fn settle(&mut self, gathered: &Gathered) -> Result<(), Reject> {
        let host_missing = gathered.hosts == 0 && !self.http10;
        if host_missing || gathered.hosts > 1 {
            return Err(Reject::Host);
        }
        // Each option is looked for among the fields.
        if gathered.options > limits::FIELDS {
            return Err(Reject::HeadTooLarge);
        }
        self.framing = match gathered.codings {
            1.. if self.http10 || gathered.lengths > 0 || !gathered.chunked => return Err(Reject::Framing),
            2.. => return Err(Reject::CodingUnsupported),
            1 => Framing::Chunked,
            0 if gathered.lengths > 1 => return Err(Reject::ContentLength),
            0 if gathered.length == 0 => Framing::None,
            0 => Framing::Length(gathered.length),
        };
        self.keep_alive = !gathered.close && (gathered.keep_alive || !self.http10);
        Ok(())
    }

    /// The values of all fields of a name, in the order they came.
    pub fn values(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Where the line of a field begins in the head; for the number behind the last, where the fields end.
    pub fn line_start(&self, field: usize) -> usize {
        match self.fields.get(field) {
            Some(header) => header.name.as_ptr() as usize - self.head.as_ptr() as usize,
            None => self.head.len() - 2,
        }
    }
}

impl Gathered {
    /// RFC 9112 section 6.1: `chunked` stands last and once; an empty or parametrised coding is none of ours.
    fn gather_codings(&mut self, value: &[u8]) -> Result<(), Reject> {
        for coding in text::list(value) {
            if self.chunked || coding.is_empty() || !coding.iter().copied().all(is_token_byte) {
                return Err(Reject::Framing);
            }
            self.codings += 1;
            self.chunked = coding.eq_ignore_ascii_case(b"chunked");
        }
        Ok(())
    }
}

fn reject_of(error: httparse::Error, head: &[u8]) -> Reject {
    match error {
        httparse::Error::TooManyHeaders => Reject::HeadTooLarge,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Reject::Field,
        _ => {
            let line = &head[..head.iter().position(|b| *b == b'\r').unwrap_or(head.len())];
            let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
            match words[..] {
                [method, target, [b'H', b'T', b'T', b'P', b'/', version @ ..]]
                    if !method.is_empty() && method.iter().copied().all(is_token_byte) && !target.is_empty() =>
                {
                    match version {
                        [b'1', b'.', b'0' | b'1'] => Reject::Target,
                        [a, b'.', b] if a.is_ascii_digit() && b.is_ascii_digit() => Reject::VersionUnsupported,
                        _ => Reject::Version,
                    }
                }
                _ => Reject::RequestLine,
            }
        }
    }
}

/// The path and the query of a target in one of the forms of RFC 9112 section 3.2; `None` if the method forbids the
/// form.
#[expect(clippy::needless_bitwise_bool, reason = "a loop without a way out in the middle compiles to vectors")]
fn split_target(method: Method, target: &str) -> Option<(&str, &str)> {
    if !target.bytes().fold(true, |all, b| all & b.is_ascii_graphic() & (b != b'#')) {
        return None;
    }
    if method == Method::Connect {
        let (_, port) = target.rsplit_once(':')?;
        return (!port.is_empty() && valid_host(target.as_bytes())).then_some((target, ""));
    }
    if target == "*" {
        return (method == Method::Options).then_some((target, ""));
    }
    let origin = if target.starts_with('/') { target } else { strip_authority(target)? };
    match origin.split_once('?') {
        Some(("", query)) => Some(("/", query)),
        Some(parts) => Some(parts),
        None if origin.is_empty() => Some(("/", "")),
        None => Some((origin, "")),
    }
}

/// What follows scheme and authority in a target in absolute form.
fn strip_authority(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let (authority, origin) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    valid_host(authority.as_bytes()).then_some(origin)
}

/// Whether a value is `uri-host [ ":" port ]` (RFC 9110 section 7.2, RFC 3986 section 3.2.2).
fn valid_host(value: &[u8]) -> bool {
    let end_of = |end: u8, bytes: &[u8]| bytes.iter().position(|b| *b == end);
    let (host_valid, port) = if let [b'[', rest @ ..] = value {
        let (address, port) = rest.split_at(end_of(b']', rest).unwrap_or(0));
        (is_ipv6(address), port.get(1..).unwrap_or_default())
    } else {
        let (name, port) = value.split_at(name_length(value));
        (!name.is_empty(), port)
    };
    let port_valid = match port {
        [] => true,
        [b':', digits @ ..] => {
            let number = |sum: u32, digit: &u8| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
            digits.iter().all(u8::is_ascii_digit) && u16::try_from(digits.iter().fold(0, number)).is_ok()
        }
        _ => false,
    };
    host_valid && port_valid
}

/// How many bytes at the start may stand in a registered name, with each `%` before two hexadecimal digits.
fn name_length(bytes: &[u8]) -> usize {
    let mut length = 0;
    loop {
        length += bytes[length..].iter().take_while(|b| NAME_BYTES[usize::from(**b)]).count();
        match bytes[length..] {
            [b'%', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => length += 3,
            _ => return length,
        }
    }
}

/// The bytes of a registered name but `%` (RFC 3986 section 3.2.2); a table, because each request has such a name.
const NAME_BYTES: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0u8);
    while byte < 128 {
        let mark = matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b',' | b';' | b'=');
        table[byte as usize] = mark || byte.is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

fn is_ipv6(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Reads the digits of a `Content-Length`; more than 64 bits can hold is more than any limit.
fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| str::from_utf8(value).ok()?.parse().ok().or(Some(u64::MAX)))?
}

/// Whether a byte may stand in a token (RFC 9110 section 5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads a head at the start of some bytes, as a connection does.
#[cfg(test)]
pub(crate) fn read_for_test<T>(bytes: &[u8], then: impl FnOnce(&Request<'_>) -> T) -> Result<T, Reject> {
    let range = HeadScan::default().find(bytes)?.expect("a whole head");
    let mut room = Room::new();
    Ok(then(&Request::parse(&bytes[range], &mut room)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The framing and persistence of a head, or why it is refused; `None` if it is not complete.
    fn outcome(bytes: &[u8], step: usize) -> Result<Option<(Framing, bool)>, Reject> {
        let mut scan = HeadScan::default();
        for end in (step..bytes.len()).step_by(step).chain([bytes.len()]) {
            if let Some(range) = scan.find(&bytes[..end])? {
                let mut room = Room::new();
                let request = Request::parse(&bytes[range], &mut room)?;
                return Ok(Some((request.framing, request.keep_alive)));
            }
        }
        Ok(None)
    }

    #[track_caller]
    fn check(head: &str, expected: Result<Option<(Framing, bool)>, Reject>) {
        check_bytes(head.as_bytes(), expected);
    }

    #[track_caller]
    fn check_bytes(head: &[u8], expected: Result<Option<(Framing, bool)>, Reject>) {
        for step in [usize::MAX / 2, 1, 3, 7, 8] {
            let shown = String::from_utf8_lossy(&head[..head.len().min(80)]);
            assert_eq!(outcome(head, step.min(head.len().max(1))), expected, "{shown:?} by {step}");
        }
        let mut room = Room::new();
        let at_once = Request::parse_flawless(head, &mut room).map(|request| (request.framing, request.keep_alive));
        let empty_line = head.starts_with(b"\r\n");
        assert_eq!(at_once, expected.ok().flatten().filter(|_| !empty_line), "{:?}", String::from_utf8_lossy(head));
    }

    const PLAIN: Result<Option<(Framing, bool)>, Reject> = Ok(Some((Framing::None, true)));

    #[test]
    fn request_lines() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", PLAIN);
        check("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", PLAIN);
        check("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(Reject::RequestLine));
        check("GET / HTTP/1.0\r\n\r\n", Ok(Some((Framing::None, false))));
        check("GET / HTTP/1.1\r\nHost: a\r\n", Ok(None));
        check("GET / HTTP/1.1\nHost: a\r\n\r\n", Err(Reject::LineEnd));
        check("GET / HTTP/1.1\rHost: a\r\n\r\n", Err(Reject::LineEnd));
        check(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(Reject::RequestLine));
        check("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Err(Reject::RequestLine));
        check("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Err(Reject::RequestLine));
        check("GET /\r\n\r\n", Err(Reject::RequestLine));
        check("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", Err(Reject::RequestLine));
        check("\x16\x03\x01", Err(Reject::RequestLine));
        for (version, reject) in [
            ("HTTP/2.0", Reject::VersionUnsupported),
            ("HTTP/1.2", Reject::VersionUnsupported),
            ("HTTP/0.9", Reject::VersionUnsupported),
            ("HTTP/1.10", Reject::Version),
            ("HTTP/1", Reject::Version),
            ("HTTP/a.b", Reject::Version),
            ("http/1.1", Reject::RequestLine),
        ] {
            check(&format!("PRI * {version}\r\n\r\n"), Err(reject));
        }
    }

    #[test]
    fn targets() {
        for good in ["GET /a?b|{}[]^\"<>\\`", "GET http://a/b", "GET HTTPS://a", "OPTIONS *", "CONNECT a:1"] {
            check(&format!("{good} HTTP/1.1\r\nHost: a\r\n\r\n"), PLAIN);
        }
        for bad in [
            "GET *", "GET a", "GET /\u{e9}", "GET /#f", "GET ftp://a/", "GET http:///", "GET http://u@a/", "CONNECT /",
            "CONNECT a", "GET http://a:b/", "GET http://:80/",
        ] {
            check(&format!("{bad} HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Reject::Target));
        }
        for (target, path, query) in [
            ("/a/b?c=d?e", "/a/b", "c=d?e"),
            ("http://h:1/x?y", "/x", "y"),
            ("http://h", "/", ""),
            ("http://h?q", "/", "q"),
            ("/", "/", ""),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            let parts = read_for_test(head.as_bytes(), |r| (r.path.to_owned(), r.query.to_owned())).unwrap();
            assert_eq!(parts, (path.to_owned(), query.to_owned()));
        }
    }

    #[test]
    fn hosts() {
        for good in ["a", "a.b:80", "a:", "127.0.0.1:65535", "[::1]", "[::1]:8080", "a%20b", "a_b"] {
            check(&format!("GET / HTTP/1.1\r\nHost: {good}\r\n\r\n"), PLAIN);
        }
        for bad in [
            "", ":80", "a:80:80", "[::1", "[::1]80", "[]", "::1", "a b", "a/b", "a:65536", "a:x", "[::1]x", "[a]",
            "u@a", "a%2", "\u{e9}",
        ] {
            check(&format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n"), Err(Reject::Host));
        }
        check("GET / HTTP/1.1\r\n\r\n", Err(Reject::Host));
        check("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", Err(Reject::Host));
        check("GET / HTTP/1.0\r\nHost: a:b\r\n\r\n", Err(Reject::Host));
    }

    #[test]
    fn fields() {
        for good in ["A:b", "A:", "A: \t b\tc \t", "a!#$%&'*+-.^_`|~1: \u{e9}"] {
            check(&format!("GET / HTTP/1.1\r\nHost: a\r\n{good}\r\n\r\n"), PLAIN);
        }
        check_bytes(b"GET / HTTP/1.1\r\nHost: a\r\nA: \xff\x80\r\n\r\n", PLAIN);
        for bad in
            [": b", "A : b", "A\t: b", " A: b", "\tA: b", "A b: c", "A", "A\u{e9}: b", "A: \x7f", "A: \0", "A: \x1b"]
        {
            check(&format!("GET / HTTP/1.1\r\nHost: a\r\n{bad}\r\n\r\n"), Err(Reject::Field));
        }
        for bad in ["A: b\nB: c", "A: b\n", "A: b\rc", "A: b\r\r"] {
            check(&format!("GET / HTTP/1.1\r\nHost: a\r\n{bad}\r\n\r\n"), Err(Reject::LineEnd));
        }
    }

    #[test]
    fn limits_of_the_head() {
        let line = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n));
        check(&line(limits::REQUEST_LINE - 14), PLAIN);
        check(&line(limits::REQUEST_LINE - 13), Err(Reject::TargetTooLong));
        let fields = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(n));
        check(&fields(limits::FIELDS - 1), PLAIN);
        check(&fields(limits::FIELDS), Err(Reject::HeadTooLarge));
        let options = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n\r\n", vec!["x"; n].join(","));
        check(&options(limits::FIELDS), PLAIN);
        check(&options(limits::FIELDS + 1), Err(Reject::HeadTooLarge));
        let large = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(n));
        check(&large(limits::HEAD - 32), PLAIN);
        check(&large(limits::HEAD - 31), Err(Reject::HeadTooLarge));
    }

    #[test]
    fn framing() {
        let outcome = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        for (fields, framing) in [
            ("Content-Length: 0", Framing::None),
            ("Content-Length: 7", Framing::Length(7)),
            ("Content-Length: 99999999999999999999", Framing::Length(u64::MAX)),
            ("Transfer-Encoding: CHUNKED", Framing::Chunked),
        ] {
            check(&outcome(fields), Ok(Some((framing, true))));
        }
        for (fields, reject) in [
            ("Content-Length: 7\r\nContent-Length: 7", Reject::ContentLength),
            ("Content-Length: 7, 7", Reject::ContentLength),
            ("Content-Length: +7", Reject::ContentLength),
            ("Content-Length: 0x7", Reject::ContentLength),
            ("Content-Length:", Reject::ContentLength),
            ("Content-Length: 7\r\nTransfer-Encoding: chunked", Reject::Framing),
            ("Transfer-Encoding: chunked, gzip", Reject::Framing),
            ("Transfer-Encoding: chunked, chunked", Reject::Framing),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Reject::Framing),
            ("Transfer-Encoding: gzip", Reject::Framing),
            ("Transfer-Encoding:", Reject::Framing),
            ("Transfer-Encoding: chunked;a=b", Reject::Framing),
            ("Transfer-Encoding: \x0bchunked", Reject::Field),
            ("Transfer-Encoding: gzip, chunked", Reject::CodingUnsupported),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", Reject::CodingUnsupported),
            ("Expect: a", Reject::Expectation),
        ] {
            check(&outcome(fields), Err(reject));
        }
        check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Err(Reject::Framing));
        check("GET / HTTP/1.0\r\nExpect: a\r\n\r\n", Ok(Some((Framing::None, false))));
    }

    #[test]
    fn persistence() {
        for (version, connection, keep_alive) in [
            ("1.1", "close", false),
            ("1.1", "x, CLOSE ,y", false),
            ("1.1", "keep-alive", true),
            ("1.1", "keep-alive, close", false),
            ("1.0", "Keep-Alive", true),
            ("1.0", "keep-alive, close", false),
            ("1.0", "x", false),
        ] {
            let head = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
            check(&head, Ok(Some((Framing::None, keep_alive))));
        }
    }
}
