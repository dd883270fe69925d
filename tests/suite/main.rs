//! The promises of the server, each in the file of its name, tried on the real binary over real sockets.
//!
//! `support` is what the tests share. `cases` is the table of raw inputs with what must come back, and `table` runs it;
//! the modules of the protocol run the table's parts and test what has a time in it. `tests/README.md` says which file
//! guards what.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod cases;
mod support;
mod table;

mod access_log;
mod admin;
mod admin_requests;
mod admission;
mod body_memory;
mod client_address;
mod closing;
mod command_line;
mod connection_facts;
mod controls;
mod corpora;
mod deadlines;
mod differential;
mod drain;
mod echo;
mod exercises;
mod framing;
mod health_checks;
mod healthcheck;
mod host_limits;
mod interim_responses;
mod keep_alive;
mod limits;
mod log_delivery;
mod metrics;
mod mutations;
mod notes;
mod nothing_lost;
mod options_and_prefix;
mod other_protocols;
mod panics;
mod pipelining;
mod request_syntax;
mod resources;
mod routes;
mod settings;
mod settings_forms;
mod streams;
mod watch;
mod websocket;
