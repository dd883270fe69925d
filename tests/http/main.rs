//! HTTP/1.1 to the letter, against the real binary over real sockets (RFC 9110, RFC 9112, DESIGN 3.1 to 3.3).
//!
//! `cases` is the table of raw inputs, `table` runs it, `client` takes every answer apart; the other modules test what
//! has a time in it: deadlines, closes, interim answers, held answers, logs and counters.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod cases;
mod client;
mod closing;
mod deadlines;
mod interim;
mod json;
mod logs;
mod pipeline;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
mod table;
