//! The other end of the wire: the commands that ask a server instead of being one.
//!
//! 1. [`http`]: a minimal HTTP/1.1 client, without retries, shared by both commands.
//! 2. [`healthcheck`]: one request, for a container without a shell.
//! 3. [`watch`]: requests at a steady rate, and a verdict: what was lost, when, and how. Its parts:
//!    [`options`] reads the command line, [`target`] sends one request, [`tally`] counts outcomes
//!    with a [`histogram`] of their latencies, [`report`] words the counts, and [`json`] is its
//!    other format.
//!
//! Invariant: a request that was sent is never sent again. These commands count losses, and a retry
//! would hide them.

pub mod healthcheck;
pub mod histogram;
pub mod http;
pub mod json;
pub mod options;
pub mod report;
pub mod tally;
pub mod target;
pub mod watch;
