//! Clients that ask for a delay and leave at once hold no slot once somebody needs it.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::support::{Server, ask, pause, sum_of, wait_until};

fn gone_clients(slots: usize) {
    let server = Server::start(&[
        "--max-connections",
        &slots.to_string(),
        "--drain-timeout",
        "1s",
    ]);
    // It asks again and again, so it is never the one that makes room.
    let mut observer = server.connect();
    for _ in 1..slots {
        let mut stream = server.connect();
        stream
            .write_all(b"GET /delay/60s HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
    }
    let full = wait_until(|| {
        let (_, metrics) = ask(&mut observer, "/metrics").unwrap();
        sum_of(&metrics, "http_requests_in_flight ") == slots as u64
    });
    assert!(full, "the delays do not hold the slots");
    let mut newcomers: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for newcomer in &mut newcomers {
        assert_eq!(ask(newcomer, "/").unwrap().0, 200);
    }
    drop((newcomers, observer));
    let ended = server.terminate();
    ended.assert_exact();
}

#[test]
fn a_newcomer_is_served_while_gone_clients_are_delayed() {
    gone_clients(64);
}

#[test]
#[ignore = "1,024 connections"]
fn a_newcomer_is_served_while_a_thousand_gone_clients_are_delayed() {
    gone_clients(1024);
}

#[test]
fn a_half_closed_client_gets_its_response() {
    let server = Server::start(&["--max-connections", "8"]);
    let mut stream = server.connect();
    stream
        .write_all(b"GET /delay/300ms HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    pause(std::time::Duration::from_millis(50));
    // There are free slots, so a newcomer evicts nobody.
    assert_eq!(server.get("/").unwrap().status, 200);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    server.terminate().assert_exact();
}
