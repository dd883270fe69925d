//! Connections without a whole request head hold no slot for longer than a second.

use std::io::Write;
use std::time::Duration;

use crate::support::{Server, pause};

/// Far above what a newcomer may wait, so that it cannot be what helps.
const ARGUMENTS: [&str; 2] = ["--header-timeout", "120s"];

fn newcomers_are_served(slots: usize, first: &[u8]) {
    let Some((server, attackers)) = Server::start_full(slots, &ARGUMENTS, first) else {
        return;
    };
    let newcomers = server.serve_newcomers(1, || pause(Duration::from_millis(50)));
    drop((attackers, newcomers));
    server.terminate().assert_exact();
}

#[test]
fn one_byte_holds_no_slot() {
    newcomers_are_served(64, b"G");
}

#[test]
fn nothing_holds_no_slot() {
    newcomers_are_served(64, b"");
}

#[test]
#[ignore = "1,024 connections"]
fn a_thousand_single_bytes_hold_no_slot() {
    newcomers_are_served(1024, b"G");
}

#[test]
fn a_line_now_and_then_holds_no_slot() {
    let line = b"GET / HTTP/1.1\r\n";
    let Some((server, mut attackers)) = Server::start_full(16, &ARGUMENTS, line) else {
        return;
    };
    let newcomers = server.serve_newcomers(3, || {
        for attacker in &mut attackers {
            // Those who made room are gone.
            let _ = attacker.write_all(b"A: b\r\n");
        }
        pause(Duration::from_millis(200));
    });
    drop((attackers, newcomers));
    server.terminate().assert_exact();
}
