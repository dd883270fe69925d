//! Connections without a whole request head hold no slot for longer than a second.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Server, ask, pause};

/// The header timeout: far above what a newcomer may wait, so that it cannot be what helps.
const HEADER_TIMEOUT: &str = "120s";

fn half_heads(slots: usize, first: &[u8]) -> (Server, Vec<TcpStream>) {
    Server::start_full(slots, &["--header-timeout", HEADER_TIMEOUT], first)
}

/// A newcomer that is shed comes again; it has to be served long before the header timeout.
#[track_caller]
fn assert_served(server: &Server) {
    let start = Instant::now();
    loop {
        let mut stream = server.connect();
        if matches!(ask(&mut stream, "/"), Ok((200, _))) {
            println!("served after {:?}", start.elapsed());
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "not served");
        pause(Duration::from_millis(50));
    }
}

#[test]
fn one_byte_holds_no_slot() {
    let (server, attackers) = half_heads(64, b"G");
    assert_served(&server);
    drop(attackers);
    server.terminate().assert_exact();
}

#[test]
fn nothing_holds_no_slot() {
    let (server, attackers) = half_heads(64, b"");
    assert_served(&server);
    drop(attackers);
    server.terminate().assert_exact();
}

#[test]
#[ignore = "1,024 connections"]
fn a_thousand_single_bytes_hold_no_slot() {
    let (server, attackers) = half_heads(1024, b"G");
    assert_served(&server);
    drop(attackers);
    server.terminate().assert_exact();
}

#[test]
fn a_line_now_and_then_holds_no_slot() {
    let (server, mut attackers) = half_heads(16, b"GET / HTTP/1.1\r\n");
    let (mut served, start) = (0, Instant::now());
    while served < 3 {
        for attacker in &mut attackers {
            // Those who made room are gone.
            let _ = attacker.write_all(b"A: b\r\n");
        }
        let mut newcomer = server.connect();
        if matches!(ask(&mut newcomer, "/"), Ok((200, _))) {
            served += 1;
            attackers.push(newcomer);
        }
        assert!(start.elapsed() < Duration::from_secs(20), "not served");
        pause(Duration::from_millis(200));
    }
    drop(attackers);
    server.terminate().assert_exact();
}
