//! The controls of a response: `echo-status`, `echo-delay`, `echo-fault` and `echo-close`.
//!
//! They work on any path, because an Ingress or a Gateway often forwards only `/app/…`, so that
//! `/status/503` cannot be reached; only probes, `/version` and `/admin` have none. Each is a query
//! parameter or a request field of the same name; the query parameter wins over the field, and a
//! control wins over what the path says. A bad value is refused with its name and the forms that
//! are taken.

use std::time::Duration;

use fastrand::Rng;

use crate::config::units;
use crate::http::decimal::micros;
use crate::http::error::RequestError;
use crate::http::field::{holds, truncated};
use crate::http::field_name::FieldName::{self, EchoClose, EchoDelay, EchoFault, EchoStatus};
use crate::http::field_name::FieldNames;
use crate::http::request::Request;
use crate::http::response::{After, Head, Sent};
use crate::http::status::Status;
use crate::labelled::labelled;
use crate::limits;

/// The controls of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// The status of the response.
    pub status: Option<Status>,
    /// The delay in place of the random one.
    pub delay: Option<Duration>,
    /// What goes wrong with the response.
    pub fault: Option<ResponseFault>,
    /// Whether the connection closes after the response.
    pub close: bool,
}

labelled! {
    /// What goes wrong with a response on purpose.
    ResponseFault {
        /// The connection closes without a response.
        Empty "empty",
        /// Half of the announced body is sent.
        Truncate "truncate",
        /// The head is sent, and nothing after it.
        Stall "stall",
    }
}

impl ResponseFault {
    /// How much of a body is sent, in the unit of its length: bytes, or events.
    pub fn part_of(self, length: u64) -> u64 {
        match self {
            ResponseFault::Truncate => length / 2,
            ResponseFault::Empty | ResponseFault::Stall => 0,
        }
    }

    /// Ends a response with a part of its body, which `write` puts out whole.
    pub fn body(
        self,
        head: Head<'_, '_>,
        content_type: &'static str,
        length: u64,
        write: impl FnOnce(&mut dyn FnMut(&[u8])),
    ) -> Sent {
        let mut stream = head.stream(content_type, Some(length));
        let mut left = self.part_of(length) as usize;
        write(&mut |bytes| {
            let piece = truncated(bytes, left);
            left -= piece.len();
            stream.write(piece);
        });
        stream.break_off(self.after())
    }

    /// What happens to the connection after that part.
    pub fn after(self) -> After {
        match self {
            ResponseFault::Stall => After::Stall,
            ResponseFault::Empty | ResponseFault::Truncate => After::Abort,
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal<'a> {
    /// For this reason.
    Because(RequestError),
    /// For a wrong value: what has it, the value, and what was expected.
    Parameter(&'static str, &'a [u8], &'static str),
}

impl Refusal<'_> {
    /// The kind of refusal.
    pub fn error(self) -> RequestError {
        match self {
            Refusal::Because(error) => error,
            Refusal::Parameter(..) => RequestError::Parameter,
        }
    }
}

impl From<RequestError> for Refusal<'_> {
    fn from(error: RequestError) -> Self {
        Refusal::Because(error)
    }
}

const STATUS: &str = "a status from 200 to 599, or weighted ones such as 200:80,503:20";
const DELAY: &str = "a duration such as 1s, or a range such as 100ms..2s, up to 60s";
const FAULT: &str = "empty, truncate or stall";
const CLOSE: &str = "true or false";
/// The longest value that is read, in bytes.
const VALUE_BYTES: usize = 128;

impl Controls {
    /// Reads the controls of a request; `random` draws among weighted statuses and from ranges.
    pub fn read<'a>(request: &'a Request, random: &mut Rng) -> Result<Controls, Refusal<'a>> {
        if !any(request) {
            return Ok(Controls::default());
        }
        Ok(Controls {
            status: read(request, "echo-status", STATUS, |text| {
                weighted_status(text, random)
            })?,
            delay: read(request, "echo-delay", DELAY, |text| delay(text, random))?,
            fault: read(request, "echo-fault", FAULT, ResponseFault::from_label)?,
            close: read(request, "echo-close", CLOSE, switch)?.unwrap_or_default(),
        })
    }
}

/// Whether there may be any control: most requests have none, and need not be searched.
fn any(request: &Request) -> bool {
    let controls = FieldNames::of(&[EchoStatus, EchoDelay, EchoFault, EchoClose]);
    request.present().intersects(controls)
        || (holds(request.query().as_bytes(), b'-') && request.query().contains("echo-"))
}

/// Reads a query parameter, or the field of the same name if that has a meaning here.
pub fn read<'a, T>(
    request: &'a Request,
    name: &'static str,
    expected: &'static str,
    take: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Refusal<'a>> {
    // With the parser as its only caller, `FieldName::from_label` is inlined there.
    let known = FieldName::ALL.iter().find(|known| known.label() == name);
    let field = || request.values(*known?).next();
    let Some(raw) = parameter(request, name).or_else(field) else {
        return Ok(None);
    };
    let mut room = [0; VALUE_BYTES];
    let taken = percent_decoded(raw, &mut room).and_then(|text| take(text.trim_ascii()));
    let refusal = Refusal::Parameter(name, raw, expected);
    taken.map(Some).ok_or(refusal)
}

/// The value of a query parameter; empty where it has no `=`.
pub fn parameter<'a>(request: &'a Request, name: &str) -> Option<&'a [u8]> {
    request.query().split('&').find_map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (key == name).then_some(value.as_bytes())
    })
}

/// A value with its `%XX` decoded; `None` if it is too long or not text.
fn percent_decoded<'r>(raw: &[u8], room: &'r mut [u8; VALUE_BYTES]) -> Option<&'r str> {
    let (mut rest, mut length) = (raw, 0);
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match rest {
            [b'%', high, low, tail @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                ((digit(high)? * 16 + digit(low)?) as u8, tail)
            }
            _ => (*first, tail),
        };
        *room.get_mut(length)? = byte;
        (rest, length) = (tail, length + 1);
    }
    str::from_utf8(&room[..length]).ok()
}

/// Reads a status code.
pub fn status(text: &str) -> Option<Status> {
    let is_code = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_code.then(|| text.parse().ok().and_then(Status::from_code))?
}

/// Reads a status, or weighted ones of which one is drawn.
fn weighted_status(text: &str, random: &mut Rng) -> Option<Status> {
    if !text.contains(':') {
        return status(text);
    }
    let (mut total, mut drawn) = (0, None);
    for part in text.split(',') {
        let (code, weight) = part.split_once(':')?;
        let (status, weight) = (status(code.trim())?, weight.trim().parse::<u32>().ok()?);
        total += u64::from(weight);
        // Each replaces those before it with its share of the weights so far.
        if weight > 0 && random.u64(..total) < weight.into() {
            drawn = Some(status);
        }
    }
    drawn
}

/// Reads a delay, or a range from which one is drawn.
fn delay(text: &str, random: &mut Rng) -> Option<Duration> {
    let read = |text| duration(text, limits::DELAY);
    let Some((min, max)) = text.split_once("..") else {
        return read(text);
    };
    let (min, max) = (read(min)?, read(max)?);
    (min <= max).then(|| uniform(min, max, random))
}

/// Reads a duration up to a limit.
pub fn duration(text: &str, most: Duration) -> Option<Duration> {
    units::parse_duration(text).filter(|duration| *duration <= most)
}

/// A random duration, uniform in microseconds between two bounds, the bounds included.
pub fn uniform(min: Duration, max: Duration, random: &mut Rng) -> Duration {
    Duration::from_micros(random.u64(micros(min)..=micros(max)))
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "" | "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, fields: &str) -> Request {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut request = Request::default();
        assert!(request.parse(head.as_bytes(), 1 << 20).unwrap().is_some());
        request
    }

    #[track_caller]
    fn check(target: &str, fields: &str, expected: Result<Controls, &str>) {
        let request = request(target, fields);
        let controls = Controls::read(&request, &mut Rng::with_seed(7));
        let name = |refusal| match refusal {
            Refusal::Parameter(name, ..) => name,
            Refusal::Because(error) => error.label(),
        };
        assert_eq!(controls.map_err(name), expected, "{target} {fields}");
    }

    #[test]
    fn controls() {
        let status = |code| Controls {
            status: Status::from_code(code),
            ..Controls::default()
        };
        let delay = |millis| Controls {
            delay: Some(Duration::from_millis(millis)),
            ..Controls::default()
        };
        let fault = |fault| Controls {
            fault: Some(fault),
            ..Controls::default()
        };
        let close = Controls {
            close: true,
            ..Controls::default()
        };
        check("/a?b=echo", "", Ok(Controls::default()));
        check("/?echo-status=503", "", Ok(status(503)));
        check(
            "/?a&echo-status=503",
            "Echo-Status: 404\r\n",
            Ok(status(503)),
        );
        check("/", "Echo-Status: 404\r\n", Ok(status(404)));
        // The first of two is taken, and the parameter of another name hides no field.
        let (first, second) = ("echo-status: 404\r\n", "ECHO-STATUS: 503\r\n");
        check("/", &[first, second].concat(), Ok(status(404)));
        check("/?echo-status=404&echo-status=503", "", Ok(status(404)));
        check("/?x-echo-status=503", first, Ok(status(404)));
        // A bad parameter is refused, though there is a good field.
        check("/?echo-status=x", first, Err("echo-status"));
        check("/?echo-status=200%3A0%2C503:7", "", Ok(status(503)));
        check("/?echo-status=%35%30%33", "", Ok(status(503)));
        check("/?echo-status=%20503%20", "", Ok(status(503)));
        check("/?echo-delay=5ms%2e%2e5ms", "", Ok(delay(5)));
        check("/?echo-delay=1s", "", Ok(delay(1000)));
        check("/?echo-delay=5ms..5ms", "", Ok(delay(5)));
        check("/?echo-fault=stall", "", Ok(fault(ResponseFault::Stall)));
        check("/?echo-close", "", Ok(close));
        check("/", "echo-close: true\r\n", Ok(close));
        check("/?echo-close=false", "", Ok(Controls::default()));
        for (target, name) in [
            ("/?echo-status=99", "echo-status"),
            ("/?echo-status", "echo-status"),
            ("/?echo-status=200:80,x:20", "echo-status"),
            ("/?echo-status=200:0", "echo-status"),
            ("/?echo-status=%zz", "echo-status"),
            ("/?echo-delay=61s", "echo-delay"),
            ("/?echo-delay=2s..1s", "echo-delay"),
            ("/?echo-delay=3", "echo-delay"),
            ("/?echo-fault=boom", "echo-fault"),
            ("/?echo-close=maybe", "echo-close"),
        ] {
            check(target, "", Err(name));
        }
        let long = format!("/?echo-status={}", "1".repeat(VALUE_BYTES + 1));
        check(&long, "", Err("echo-status"));
    }

    #[test]
    fn draws_by_weight_and_from_ranges() {
        let mut random = Rng::with_seed(7);
        let request = request("/?echo-status=200:80,503:20&echo-delay=100ms..2s", "");
        let drawn: Vec<Controls> = (0..10_000)
            .map(|_| Controls::read(&request, &mut random).unwrap())
            .collect();
        let failed = drawn
            .iter()
            .filter(|c| c.status == Status::from_code(503))
            .count();
        assert!((1_800..2_200).contains(&failed), "{failed}");
        let delays = drawn
            .iter()
            .filter_map(|c| c.delay)
            .map(|delay| delay.as_millis());
        let (min, max) = (delays.clone().min(), delays.max());
        assert!(min >= Some(100) && min < Some(110) && max > Some(1990) && max <= Some(2000));
    }
}
