//! The table: raw input, and what must come back.
//!
//! A row is a name that begins with the RFC section, the bytes, and the expectation, read from left to right: one
//! status for each response, then how the connection goes on.
//!
//! - `200`, `200|400`: a response with this status, or one of these where the RFC lets a server choose;
//! - `H200`: the same to a HEAD, so no body follows; `100?`: an interim response that may come or not;
//! - `400/host`: and a refusal counts under this reason of `http_rejected_requests_total`, `400/*` under any one;
//! - `keep`: the connection stays open and says so; `close`: it says that it closes, and does; `any`: what it says, it
//!   does; `eof`: the client ends its side after the input, and the server then ends its own; `eof/client_closed`: and
//!   that counts under this reason of `http_aborted_requests_total`.

mod connection;
mod echo;
mod fields;
mod framing;
mod limits;
mod request_line;
mod semantics;

use crate::support::{Response, find};

/// A row without conditions on the response's content.
type Row = (&'static str, &'static [u8], &'static str);

/// One input and what must come back for it.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) input: Vec<u8>,
    pub(crate) expected: Vec<Expected>,
    pub(crate) end: End,
    /// The reason of `http_aborted_requests_total` under which an end without a response counts.
    pub(crate) end_reason: Option<String>,
    /// Never in pieces: what follows a close that the client asked for may meet a reset, or not.
    pub(crate) whole_only: bool,
    checks: Vec<Check>,
}

/// One response.
#[derive(Clone)]
pub(crate) struct Expected {
    pub(crate) statuses: Vec<u16>,
    pub(crate) to_head: bool,
    pub(crate) optional: bool,
    pub(crate) reason: Option<String>,
}

/// How the connection goes on after the last response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Keep,
    Close,
    Any,
    Eof,
}

#[derive(Clone, Debug)]
enum Check {
    Field(String, String),
    FieldHas(String, String),
    HasField(String),
    Without(String),
    Lines(Vec<String>),
    WithoutLine(String),
    Body(String),
    BodyWithout(String),
    BodyEnds(String),
    BodyIs(Vec<u8>),
    BodyLength(usize),
}

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    [
        request_syntax(),
        framing(),
        keep_alive(),
        routes(),
        echo(),
        limits(),
    ]
    .concat()
}

/// The request line and the field lines.
pub(crate) fn request_syntax() -> Vec<Case> {
    [
        rows(request_line::ROWS),
        request_line::special(),
        rows(fields::ROWS),
        fields::generated(),
    ]
    .concat()
}

/// Where a body ends.
pub(crate) fn framing() -> Vec<Case> {
    [rows(framing::ROWS), framing::generated()].concat()
}

/// Which connections persist, and requests one behind the other.
pub(crate) fn keep_alive() -> Vec<Case> {
    [rows(connection::ROWS), connection::special()].concat()
}

/// Methods, expectations, and what each route says.
pub(crate) fn routes() -> Vec<Case> {
    [
        rows(semantics::ROWS),
        semantics::generated(),
        semantics::special(),
        semantics::routes(),
    ]
    .concat()
}

/// What the echo copies and describes.
pub(crate) fn echo() -> Vec<Case> {
    [echo::generated(), echo::special()].concat()
}

/// The bounds on what a request may be.
pub(crate) fn limits() -> Vec<Case> {
    limits::generated()
}

fn rows(rows: &[Row]) -> Vec<Case> {
    rows.iter()
        .map(|(name, input, expect)| Case::new(name, input, expect))
        .collect()
}

impl Case {
    fn new(name: &str, input: &[u8], expect: &str) -> Self {
        let (responses, end) = expect.rsplit_once(' ').unwrap_or(("", expect));
        let (end, end_reason) = with_reason(end);
        let end = match end {
            "keep" => End::Keep,
            "close" => End::Close,
            "any" => End::Any,
            "eof" => End::Eof,
            other => panic!("{name}: {other:?} is no end of an expectation"),
        };
        let expected = responses.split_whitespace().map(Expected::new).collect();
        Self {
            name: name.to_owned(),
            input: input.to_owned(),
            expected,
            end,
            end_reason,
            whole_only: false,
            checks: Vec::new(),
        }
    }

    /// A request of this method and target with nothing but a Host.
    fn request(name: &str, line: &str, expect: &str) -> Self {
        let input = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        Self::new(name, input.as_bytes(), expect)
    }

    fn whole_only(mut self) -> Self {
        self.whole_only = true;
        self
    }

    /// The last response has this field exactly once, with this value.
    fn field(self, name: &str, value: &str) -> Self {
        self.check(Check::Field(name.to_owned(), value.to_owned()))
    }

    /// The last response has this field exactly once, with this in its value.
    fn field_has(self, name: &str, part: &str) -> Self {
        self.check(Check::FieldHas(name.to_owned(), part.to_owned()))
    }

    /// The last response has this field exactly once.
    fn has_field(self, name: &str) -> Self {
        self.check(Check::HasField(name.to_owned()))
    }

    /// The last response does not have this field.
    fn without(self, name: &str) -> Self {
        self.check(Check::Without(name.to_owned()))
    }

    /// The last response's head has exactly this line.
    fn line(self, line: &str) -> Self {
        self.lines(&[line])
    }

    /// The last response's head has exactly these lines in this order.
    fn lines(self, lines: &[&str]) -> Self {
        self.check(Check::Lines(
            lines.iter().map(|line| (*line).to_owned()).collect(),
        ))
    }

    /// The last response's head does not have this line.
    fn without_line(self, line: &str) -> Self {
        self.check(Check::WithoutLine(line.to_owned()))
    }

    /// The last response's body has this part.
    fn body(self, part: &str) -> Self {
        self.check(Check::Body(part.to_owned()))
    }

    /// The last response's body does not have this part.
    fn body_without(self, part: &str) -> Self {
        self.check(Check::BodyWithout(part.to_owned()))
    }

    /// The last response's body ends so.
    fn body_ends(self, part: &str) -> Self {
        self.check(Check::BodyEnds(part.to_owned()))
    }

    /// The last response's body is this.
    fn body_is(self, body: &[u8]) -> Self {
        self.check(Check::BodyIs(body.to_owned()))
    }

    /// The last response's body has this many bytes.
    fn body_length(self, length: usize) -> Self {
        self.check(Check::BodyLength(length))
    }

    fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Holds the last response against the case's conditions.
    pub(crate) fn examine(&self, response: &Response) -> Result<(), String> {
        match self.checks.iter().find(|check| !check.holds(response)) {
            Some(check) => Err(format!("{check:?} does not hold for {response}")),
            None => Ok(()),
        }
    }
}

impl Expected {
    fn new(text: &str) -> Self {
        let (statuses, reason) = with_reason(text);
        let (statuses, to_head) = statuses
            .strip_prefix('H')
            .map_or((statuses, false), |rest| (rest, true));
        let (statuses, optional) = statuses
            .strip_suffix('?')
            .map_or((statuses, false), |rest| (rest, true));
        let statuses = statuses
            .split('|')
            .map(|status| status.parse().expect("a status is a number"))
            .collect();
        Self {
            statuses,
            to_head,
            optional,
            reason,
        }
    }
}

impl Check {
    fn holds(&self, response: &Response) -> bool {
        let has = |bytes: &[u8], part: &str| find(bytes, part.as_bytes()).is_some();
        match self {
            Self::Field(name, value) => response.values(name) == [value.as_bytes()],
            Self::FieldHas(name, part) => {
                matches!(response.values(name)[..], [value] if has(value, part))
            }
            Self::HasField(name) => response.values(name).len() == 1,
            Self::Without(name) => response.values(name).is_empty(),
            Self::Lines(lines) => has_in_order(&response.head, lines),
            Self::WithoutLine(line) => !has_in_order(&response.head, std::slice::from_ref(line)),
            Self::Body(part) => has(&response.body, part),
            Self::BodyWithout(part) => !has(&response.body, part),
            Self::BodyEnds(part) => response.body.ends_with(part.as_bytes()),
            Self::BodyIs(body) => response.body == *body,
            Self::BodyLength(length) => response.body.len() == *length,
        }
    }
}

fn has_in_order(head: &[u8], lines: &[String]) -> bool {
    let mut rest = head;
    lines.iter().all(
        |line| match find(rest, format!("\r\n{line}\r\n").as_bytes()) {
            Some(at) => {
                rest = &rest[at + 2 + line.len()..];
                true
            }
            None => false,
        },
    )
}

fn with_reason(text: &str) -> (&str, Option<String>) {
    text.split_once('/').map_or((text, None), |(text, reason)| {
        (text, Some(reason.to_owned()))
    })
}
