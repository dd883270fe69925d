//! A tiny HTTP/1.1 echo server for Kubernetes, to be read in an evening.
//!
//! Read the folders in the order of this list. A folder uses only folders above it here, and
//! `tests/architecture.rs` checks that.
//!
//! 1. [`limits`]: the fixed bounds of the server, each with its reason.
//! 2. [`http`]: HTTP/1.1 as bytes. Start with `request`, then `response`.
//! 3. [`config`]: the table of settings, and units.
//! 4. [`observe`]: the access log, diagnostics and metrics.
//! 5. [`app`]: what a request gets. Start with `handlers`, then `echo`.
//! 6. [`server`]: sockets, threads and time. Start with `mod`, then `connection` and `exchange`;
//!    `slots` admits connections; `shutdown` holds the stage of the drain.
//! 7. [`client`]: the other end of the wire: `healthcheck` and `watch`.
//!
//! There is no async runtime and no global state, and every wait can be ended. The only unsafe code
//! is one declaration in `server/listener.rs`.

mod labelled;

mod sync;

pub mod limits;

pub mod http;

pub mod config;

pub mod observe;

pub mod app;

pub mod server;

pub mod client;
