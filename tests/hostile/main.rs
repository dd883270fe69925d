//! Attacks on the real server, each bounded to seconds and to 127.0.0.1.
//!
//! A module is one attack, and its name says what has to hold. Each test waits for a state with a
//! generous limit, because the machine may be busy. Heavy ones are ignored by default; CI runs them
//! with `--include-ignored`. What the host lacks (root, a cgroup controller) is told by a line that
//! begins with `NOT RUN`.

#![allow(clippy::unwrap_used, reason = "what fails in a test fails the test")]
#![allow(clippy::similar_names, reason = "server and served, prober and probes")]

mod support;

mod drain_under_a_flood;
mod gone_clients;
mod gvisor;
mod half_heads;
mod log_volume;
mod memory_bound;
mod mixed;
mod probes_stay_green;
mod processor_time;
mod refused_threads;
mod room_for_newcomers;
mod signals;
mod silent_bodies;
