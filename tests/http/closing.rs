//! After a close of ours that may leave input unread the server shuts down its write side, reads and discards for at
//! most 2 s and 1 MiB, then closes (RFC 9112 9.6): a client that is still sending gets its whole answer and no reset,
//! and one that never stops holds nothing. Only a client that asked for the close itself is not waited for: it knows
//! that nothing may follow.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::support::{PATIENCE, Server};

/// How much a client has sent behind what was refused.
const MUCH: usize = 900 * 1024;

#[track_caller]
fn whole_answer_after_sending_on(head: &str, status: u16) {
    let server = Server::start(&[]);
    for _ in 0..5 {
        let mut client = Client::new(server.connect());
        client.send(head).unwrap();
        // By now the server has answered; everything that follows arrives at a connection that it is closing.
        thread::park_timeout(Duration::from_millis(30));
        for piece in vec![b'x'; MUCH].chunks(10_000) {
            client.send(piece).unwrap();
        }
        let answer = client.answer(false).unwrap();
        assert_eq!(answer.status, status, "{answer}");
        client.finish().unwrap();
    }
}

#[test]
fn a_refused_body_that_is_sent_all_the_same_gets_413() {
    whole_answer_after_sending_on(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
        413,
    );
}

#[test]
fn a_refused_head_with_much_behind_it_gets_400() {
    whole_answer_after_sending_on("POST / HTTP/1.1\r\nHost: a b\r\n\r\n", 400);
}

#[test]
fn a_refused_expectation_with_its_body_behind_gets_417() {
    whole_answer_after_sending_on(
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 921600\r\n\r\n",
        417,
    );
}

#[test]
fn a_1_0_answer_with_much_behind_it_arrives() {
    whole_answer_after_sending_on("GET / HTTP/1.0\r\n\r\n", 200);
}

#[test]
fn a_connect_with_tunnel_bytes_behind_it_gets_405() {
    whole_answer_after_sending_on("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405);
}

#[test]
fn all_at_once_and_the_refusal_arrives() {
    let server = Server::start(&[]);
    for _ in 0..20 {
        let mut client = Client::new(server.connect());
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n".to_vec();
        client.send([head, vec![b'x'; 300_000]].concat()).unwrap();
        assert_eq!(client.answer(false).unwrap().status, 413);
        client.finish().unwrap();
    }
}

#[test]
fn the_end_is_told_at_once() {
    let server = Server::start(&[]);
    let requests = [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET /bytes/100000 HTTP/1.0\r\n\r\n",
    ];
    for request in requests {
        let mut client = Client::new(server.connect());
        let since = Instant::now();
        client.send(request).unwrap();
        client.answer(false).unwrap();
        client.finish().unwrap();
        assert!(
            since.elapsed() < Duration::from_millis(700),
            "{request:?} ended after {:?}",
            since.elapsed()
        );
    }
}

/// Sends a byte now and then until the server has closed for good, which the kernel tells by a reset.
fn closed_after(client: &mut Client, since: Instant) -> Duration {
    while since.elapsed() < PATIENCE {
        match client.stream.write_all(b"x") {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) =>
            {
                break;
            }
            Err(error) => panic!("{error}"),
            Ok(()) => thread::park_timeout(Duration::from_millis(50)),
        }
    }
    since.elapsed()
}

#[test]
fn the_lingering_close_ends_after_two_seconds() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    let since = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a b\r\n\r\n").unwrap();
    assert_eq!(client.answer(false).unwrap().status, 400);
    client.finish().unwrap();
    let took = closed_after(&mut client, since);
    assert!(
        took >= Duration::from_millis(1_500),
        "lingered only {took:?}"
    );
    assert!(
        took <= Duration::from_millis(3_500),
        "lingered {took:?}: a byte now and then extends it"
    );
}

#[test]
fn the_lingering_close_ends_after_one_mib() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    client.send("GET / HTTP/1.1\r\nHost: a b\r\n\r\n").unwrap();
    let (since, block, mut sent) = (Instant::now(), vec![b'x'; 64 * 1024], 0);
    while since.elapsed() < PATIENCE && client.stream.write_all(&block).is_ok() {
        sent += block.len();
    }
    // What the kernel's buffers hold comes on top of the one MiB.
    assert!(
        sent <= 16 * 1024 * 1024,
        "took {sent} bytes of garbage in {:?}",
        since.elapsed()
    );
    assert!(
        since.elapsed() <= Duration::from_secs(3),
        "took garbage for {:?}",
        since.elapsed()
    );
}

#[test]
fn a_lingering_close_gives_the_connection_back() {
    let server = Server::start(&[]);
    let mut clients: Vec<_> = (0..20).map(|_| Client::new(server.connect())).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a b\r\n\r\n").unwrap();
        client.answer(false).unwrap();
    }
    let since = Instant::now();
    while server.metric("http_open_connections") > 1.0 {
        assert!(
            since.elapsed() < Duration::from_secs(6),
            "{} are open",
            server.metric("http_open_connections")
        );
        thread::park_timeout(Duration::from_millis(50));
    }
}
