//! `/bytes/{size}`: a body of so many bytes, at once or spread evenly over a time.
//!
//! A paced body is sent in steps, and each step ends early at the drain's limit. A client of
//! HTTP/1.1 then sees that the body is not whole: bytes of its length, or its last chunk, are missing.

use std::time::{Duration, Instant};

use crate::app::controls::{self, Refusal};
use crate::app::{Exchange, Stage};
use crate::config::units;
use crate::http::output::OutputBuffer;
use crate::http::request::Request;
use crate::http::response::{After, Sent, Stream};
use crate::http::status::Status;
use crate::limits;

/// What `/bytes/{size}` sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// The size of the body, in bytes.
    pub size: u64,
    /// Whether the body goes out in the chunked coding.
    pub chunked: bool,
    /// The time over which it is spread.
    pub over: Option<Duration>,
}

const BLOCK: &[u8] = &[b'x'; 64 << 10];

impl Bytes {
    /// Reads the size in the path, and the query.
    pub fn read<'a>(parameter: &'a str, request: &'a Request) -> Result<Bytes, Refusal<'a>> {
        let expected = "a size such as 512, 64Ki, 64KiB, 1MiB or 10M, up to 1GiB";
        let size = units::parse_size(parameter).filter(|size| *size <= limits::STREAM_BYTES);
        let refusal = Refusal::Parameter("bytes", parameter.as_bytes(), expected);
        Ok(Bytes {
            size: size.ok_or(refusal)?,
            chunked: controls::parameter(request, "chunked").is_some(),
            over: controls::read(request, "over", "a duration up to 10m", |text| {
                controls::duration(text, limits::PACE)
            })?,
        })
    }
}

/// Sends bytes, at once or spread evenly over a time.
pub fn respond(exchange: &Exchange<'_>, bytes: Bytes, out: &mut OutputBuffer<'_>) -> Sent {
    let head = exchange.head(Status::OK, out);
    let length = (!bytes.chunked).then_some(bytes.size);
    let mut stream = head.stream("application/octet-stream", length);
    let fault = exchange.decision.controls.fault;
    let size = fault.map_or(bytes.size, |fault| fault.part_of(bytes.size));
    let pace = bytes.over.filter(|_| stream.is_body_wanted());
    let whole = if let Some(over) = pace {
        paced(exchange, &mut stream, size, over)
    } else {
        stream.repeat(BLOCK, size);
        true
    };
    match fault {
        None if whole => stream.end(),
        Some(fault) if whole => stream.break_off(fault.after()),
        _ => stream.break_off(After::Abort),
    }
}

/// Sends so many bytes in equal steps; whether all of them were sent.
fn paced(exchange: &Exchange<'_>, stream: &mut Stream<'_, '_>, size: u64, over: Duration) -> bool {
    let steps = over
        .as_millis()
        .div_ceil(limits::PACE_STEP.as_millis())
        .max(1) as u64;
    let (start, mut sent) = (Instant::now(), 0);
    for step in 1..=steps {
        // Each step is due at a fixed time after the start, so that no delay adds up.
        let due = over.mul_f64(step as f64 / steps as f64);
        let wait = due.saturating_sub(start.elapsed());
        let flushed = stream.flush();
        if !flushed || exchange.host.sleep(wait, Stage::NoDelays) < wait {
            return false;
        }
        let until = (u128::from(size) * u128::from(step) / u128::from(steps)) as u64;
        stream.repeat(BLOCK, until - sent);
        sent = until;
    }
    true
}
