//! `Expect: 100-continue` (RFC 9110 10.1.1): the interim answer goes out only when the body is about to be read and is
//! not already here, never before a final refusal, and never to 1.0.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::client::{Client, get};
use crate::support::Server;

const HEAD: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
/// Long enough to see that nothing comes.
const SILENCE: Duration = Duration::from_millis(400);

/// Nothing comes for a while.
#[track_caller]
fn silent(client: &mut Client) {
    let patience = client.stream.read_timeout().unwrap();
    client.stream.set_read_timeout(Some(SILENCE)).unwrap();
    let error = client
        .read()
        .expect_err("something came, or the end")
        .kind();
    assert!(
        matches!(error, ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
    client.stream.set_read_timeout(patience).unwrap();
}

#[test]
fn it_comes_when_the_body_does_not() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    for _ in 0..3 {
        let since = Instant::now();
        client.send(HEAD).unwrap();
        let interim = client.answer(false).unwrap();
        assert_eq!(interim.status, 100, "{interim}");
        assert!(
            since.elapsed() < SILENCE,
            "it came after {:?}",
            since.elapsed()
        );
        silent(&mut client);
        client.send("hello").unwrap();
        let answer = client.answer(false).unwrap();
        assert_eq!(answer.status, 200, "{answer}");
        assert!(answer.body.ends_with(b"hello"), "{answer}");
    }
}

#[test]
fn it_comes_before_chunks() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(client.answer(false).unwrap().status, 100);
    client.send("5\r\nhello\r\n0\r\n\r\n").unwrap();
    assert_eq!(client.answer(false).unwrap().status, 200);
}

#[test]
fn it_does_not_come_when_the_body_is_here() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    let chunks =
        HEAD.replace("Content-Length: 5", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n";
    for request in [HEAD.to_owned() + "hello", chunks] {
        client.send(&request).unwrap();
        let answer = client.answer(false).unwrap();
        assert_eq!(answer.status, 200, "{request:?} got {answer}");
    }
}

#[test]
fn it_does_not_come_for_another_routes_refusal() {
    let server = Server::start(&[]);
    let refused = [
        (
            "POST /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            405,
        ),
        (
            "POST /status/1000 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            400,
        ),
        (
            "POST /delay/1h HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            400,
        ),
        (
            "TRACE / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            405,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n",
            413,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\nContent-Length: 5\r\n\r\n",
            417,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: x, chunked\r\n\r\n",
            501,
        ),
    ];
    for (request, status) in refused {
        let mut client = Client::new(server.connect());
        client.send(request).unwrap();
        let answer = client.answer(false).unwrap();
        assert_eq!(answer.status, status, "{request:?} got {answer}");
        // The body will never come, so the connection cannot go on.
        assert!(answer.closes(), "{request:?} got {answer}");
        client.finish().unwrap();
    }
}

#[test]
fn it_does_not_come_to_1_0() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    client.send(HEAD.replace("HTTP/1.1", "HTTP/1.0")).unwrap();
    silent(&mut client);
    client.send("hello").unwrap();
    let answer = client.answer(false).unwrap();
    assert_eq!(answer.status, 200, "{answer}");
}

#[test]
fn it_does_not_come_unasked() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    client
        .send(HEAD.replace("Expect: 100-continue\r\n", ""))
        .unwrap();
    silent(&mut client);
    client.send("hello").unwrap();
    assert_eq!(client.answer(false).unwrap().status, 200);
}

#[test]
fn held_answers_come_before_it() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    client
        .send(get("/status/404") + &get("/status/500") + HEAD)
        .unwrap();
    let statuses: Vec<_> = (0..3)
        .map(|_| client.answer(false).unwrap().status)
        .collect();
    assert_eq!(statuses, [404, 500, 100]);
    client.send("hello").unwrap();
    assert_eq!(client.answer(false).unwrap().status, 200);
}

#[test]
fn it_comes_before_a_delay() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    let since = Instant::now();
    client
        .send(HEAD.replace("POST / ", "POST /delay/900ms "))
        .unwrap();
    assert_eq!(client.answer(false).unwrap().status, 100);
    assert!(
        since.elapsed() < SILENCE,
        "it came after {:?}",
        since.elapsed()
    );
    client.send("hello").unwrap();
    assert_eq!(client.answer(false).unwrap().status, 200);
    assert!(
        since.elapsed() >= Duration::from_millis(900),
        "the delay was {:?}",
        since.elapsed()
    );
}
