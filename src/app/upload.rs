//! `/upload`: how much of a body came, and how fast. The server has read and dropped it by then.

use crate::app::Exchange;
use crate::http::output::OutputBuffer;
use crate::http::response::{JSON, Sent};
use crate::http::status::Status;

/// Tells how much of a body came and how fast.
pub fn respond(exchange: &Exchange<'_>, out: &mut OutputBuffer<'_>) -> Sent {
    let (length, duration) = (exchange.body.length, exchange.body.duration);
    let seconds = duration.as_secs_f64();
    let rate = length as f64 / seconds.max(1e-6);
    let text =
        format!("{{\"bytes\":{length},\"seconds\":{seconds:.6},\"bytes_per_second\":{rate:.0}}}\n");
    exchange.pieces(exchange.head(Status::OK, out), JSON, &[text.as_bytes()])
}
