//! `/events`: server-sent events, as the HTML standard defines them.
//!
//! They end after their number, or when the drain begins: with a last chunk, or for a client of
//! HTTP/1.0 with the connection. A fault leaves the last chunk out.

use std::time::{Duration, Instant};

use crate::app::controls::{self, Refusal};
use crate::app::{Exchange, Stage};
use crate::http::decimal;
use crate::http::output::OutputBuffer;
use crate::http::request::Request;
use crate::http::response::{After, Sent};
use crate::http::status::Status;
use crate::limits;
use crate::observe::diagnostics::unix_now;

/// What `/events` sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    /// The time between two events.
    pub interval: Duration,
    /// How many events there are; without it, until the client leaves or the drain begins.
    pub count: Option<u64>,
}

impl Events {
    /// Reads the query.
    pub fn read(request: &Request) -> Result<Events, Refusal<'_>> {
        let expected = "a duration from 100ms to 1h";
        let interval = controls::read(request, "interval", expected, |text| {
            let interval = controls::duration(text, limits::EVENT_INTERVAL_MAX);
            interval.filter(|interval| *interval >= limits::EVENT_INTERVAL)
        })?;
        let number = |text: &str| text.parse().ok();
        Ok(Events {
            interval: interval.unwrap_or(Duration::from_secs(1)),
            count: controls::read(request, "count", "a whole number", number)?,
        })
    }
}

/// Sends server-sent events, one for each interval.
pub fn respond(exchange: &Exchange<'_>, events: Events, out: &mut OutputBuffer<'_>) -> Sent {
    let head = exchange.head(Status::OK, out);
    let mut stream = head.stream("text/event-stream", None);
    let fault = exchange.decision.controls.fault;
    let count = match fault {
        _ if !stream.is_body_wanted() => 0,
        // Half of the events, or one where their number is open.
        Some(fault) => fault.part_of(events.count.unwrap_or(2)),
        None => events.count.unwrap_or(u64::MAX),
    };
    let (start, mut due) = (Instant::now(), Duration::ZERO);
    for number in 1..=count {
        let wait = due.saturating_sub(start.elapsed());
        exchange.host.sleep(wait, Stage::Draining);
        if exchange.host.reached(Stage::Draining) {
            break;
        }
        stream.write(&event(exchange, number));
        if !stream.flush() {
            return stream.break_off(After::Abort);
        }
        due += events.interval;
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
    event.extend_from_slice(&exchange.app.identity.facts_json);
    event.extend_from_slice(b"}\n\n");
    event
}
