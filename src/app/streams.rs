//! Long bodies: `/bytes/{size}`, `/upload` and `/events`.
//!
//! What is sent over time is sent in steps, and each step ends early at the drain. A body that was
//! announced with its length and is not whole then shows as truncated; events end with a proper
//! last chunk.

use std::time::{Duration, Instant};

use crate::app::{Exchange, SleepEnds};
use crate::http::decimal;
use crate::http::output::OutputBuffer;
use crate::http::request::Version;
use crate::http::response::{After, JSON, Sent, Stream, TEXT};
use crate::http::status::Status;
use crate::limits;
use crate::observe::diagnostics::unix_now;
use crate::observe::escape;

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

/// What `/events` sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    /// The time between two events.
    pub interval: Duration,
    /// How many events there are; without it, until the client leaves or the drain begins.
    pub count: Option<u64>,
}

const BLOCK: &[u8] = &[b'x'; 64 << 10];

/// Sends bytes, at once or spread evenly over a time.
pub fn bytes(exchange: &Exchange<'_>, bytes: Bytes, out: &mut OutputBuffer<'_>) -> Sent {
    // To a client of HTTP/1.0 only the end of the connection tells the end of the bytes.
    let ends_by_close = bytes.chunked && exchange.request.version == Version::Http10;
    let head = exchange.head_that_closes_if(ends_by_close, Status::OK, out);
    let length = (!bytes.chunked).then_some(bytes.size);
    let mut stream = head.stream("application/octet-stream", length);
    let fault = exchange.controls.fault;
    let size = fault.map_or(bytes.size, |fault| fault.part_of(bytes.size));
    let whole = if let Some(over) = bytes.over {
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
    if !stream.is_body_wanted() {
        return true;
    }
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
        if !flushed || exchange.host.sleep(wait, SleepEnds::AtDrainLimit) < wait {
            return false;
        }
        let until = (u128::from(size) * u128::from(step) / u128::from(steps)) as u64;
        stream.repeat(BLOCK, until - sent);
        sent = until;
    }
    true
}

/// Tells how much of a body came and how fast.
pub fn upload(exchange: &Exchange<'_>, out: &mut OutputBuffer<'_>) -> Sent {
    let (length, duration) = (exchange.body.length, exchange.body.duration);
    let rate = length as f64 / duration.as_secs_f64().max(1e-6);
    let seconds = decimal::seconds(duration);
    let text = format!(
        "{{\"bytes\":{length},\"seconds\":{},\"bytes_per_second\":{rate:.0}}}\n",
        String::from_utf8_lossy(&seconds)
    );
    exchange.pieces(exchange.head(Status::OK, out), JSON, &[text.as_bytes()])
}

/// Sends server-sent events, one for each interval.
pub fn events(exchange: &Exchange<'_>, events: Events, out: &mut OutputBuffer<'_>) -> Sent {
    let ends_by_close = exchange.request.version == Version::Http10;
    let head = exchange.head_that_closes_if(ends_by_close, Status::OK, out);
    let mut stream = head.stream("text/event-stream", None);
    let fault = exchange.controls.fault;
    // Half of the events, or one where their number is open.
    let count = fault.map_or(events.count, |fault| {
        Some(fault.part_of(events.count.unwrap_or(2)))
    });
    let count = if stream.is_body_wanted() {
        count
    } else {
        Some(0)
    };
    let (start, mut number) = (Instant::now(), 0);
    while count.is_none_or(|count| number < count) && !exchange.host.draining() {
        number += 1;
        stream.write(&event(exchange, number));
        let due = events
            .interval
            .saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
        let last = count == Some(number);
        let wait = if last {
            Duration::ZERO
        } else {
            due.saturating_sub(start.elapsed())
        };
        if !stream.flush() {
            return stream.break_off(After::Abort);
        }
        exchange.host.sleep(wait, SleepEnds::AtDrain);
    }
    match fault {
        None => stream.end(),
        Some(fault) => stream.break_off(fault.after()),
    }
}

/// One event: its id, and JSON with the time and who sent it.
fn event(exchange: &Exchange<'_>, number: u64) -> Vec<u8> {
    let time = decimal::seconds(unix_now());
    let mut event = format!("id: {number}\ndata: {{\"time\":").into_bytes();
    event.extend_from_slice(&time);
    for (name, value) in &exchange.app.identity.facts {
        event.extend_from_slice(format!(",\"{name}\":").as_bytes());
        escape::json_string(value.as_bytes(), &mut |bytes| {
            event.extend_from_slice(bytes);
        });
    }
    event.extend_from_slice(b"}\n\n");
    event
}

/// Ends a request for the icon that browsers ask for by themselves.
pub fn no_icon(exchange: &Exchange<'_>, out: &mut OutputBuffer<'_>) -> Sent {
    let head = exchange.head(Status::NOT_FOUND, out);
    exchange.pieces(head, TEXT, &[b"404 Not Found: there is no icon\n"])
}
