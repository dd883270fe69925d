//! `/upload`: how much of a body came, and how fast. The server has read and dropped it by then.

use crate::app::Exchange;
use crate::http::decimal;
use crate::http::output::OutputBuffer;
use crate::http::response::{JSON, Sent};
use crate::http::status::Status;

/// Tells how much of a body came and how fast.
pub fn respond(exchange: &Exchange<'_>, out: &mut OutputBuffer<'_>) -> Sent {
    let (length, duration) = (exchange.body.length, exchange.body.duration);
    let rate = length as f64 / duration.as_secs_f64().max(1e-6);
    let seconds = decimal::seconds(duration);
    let text = format!(
        "{{\"bytes\":{length},\"seconds\":{},\"bytes_per_second\":{rate:.0}}}\n",
        String::from_utf8_lossy(&seconds)
    );
    exchange.pieces(exchange.head(Status::OK, out), JSON, &[text.as_bytes()])
}
