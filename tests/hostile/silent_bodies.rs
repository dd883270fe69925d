//! Bodies that are announced and do not come hold no slot for longer than a second.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Server, pause, read_response};

/// Far above what a newcomer may wait, so that it cannot be what helps.
const BODY_TIMEOUT: &str = "120s";

fn silent_bodies(slots: usize) -> Option<(Server, Vec<TcpStream>)> {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n";
    Server::start_full(slots, &["--body-timeout", BODY_TIMEOUT], head)
}

fn newcomers_are_served(slots: usize) {
    let Some((server, attackers)) = silent_bodies(slots) else {
        return;
    };
    let newcomers = server.serve_newcomers(3, || pause(Duration::from_millis(50)));
    // Whoever made room was told.
    let told = server.metric("http_rejected_requests_total{reason=\"body_timeout\"} ");
    assert!(told >= newcomers.len() as u64, "{told} were told");
    drop((attackers, newcomers));
    server.terminate().assert_exact();
}

#[test]
fn they_make_room_and_get_408() {
    newcomers_are_served(64);
}

#[test]
#[ignore = "1,024 connections"]
fn a_thousand_make_room() {
    newcomers_are_served(1024);
}

/// A byte now and then is no body either.
#[test]
fn a_byte_now_and_then_holds_no_slot() {
    let Some((server, mut attackers)) = silent_bodies(16) else {
        return;
    };
    let newcomers = server.serve_newcomers(3, || {
        for attacker in &mut attackers {
            // Those who made room are gone.
            let _ = attacker.write_all(b"x");
        }
        pause(Duration::from_millis(200));
    });
    drop((attackers, newcomers));
    server.terminate().assert_exact();
}

/// A body that comes in pieces is not silent, however full the server is.
#[test]
fn a_body_on_its_way_stays() {
    let server = Server::start(&["--max-connections", "1", "--max-body", "1MiB"]);
    let mut stream = server.connect();
    let (mut held_up, mut start) = (Duration::ZERO, Instant::now());
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40960\r\n\r\n";
    stream.write_all(head).unwrap();
    for _ in 0..20 {
        // Where the machine stood still, the connection may have made room.
        let _ = stream.write_all(&[b'x'; 2048]);
        held_up = held_up.max(start.elapsed());
        start = Instant::now();
        let _ = server.get("/");
        pause(Duration::from_millis(100));
    }
    let response = read_response(&mut stream);
    // A machine that stood still for a second proves nothing.
    if held_up < Duration::from_millis(900) {
        assert_eq!(response.unwrap().0, 200);
    }
    drop(stream);
    server.terminate().assert_exact();
}
