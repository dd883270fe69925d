//! `Expect: 100-continue` (RFC 9110 10.1.1): the interim response goes out only when the body is about to be read and
//! is not already here, never before a final refusal, and never to 1.0.

use std::time::Duration;

use crate::support::{Client, Server, get, ms};

const HEAD: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
/// Long enough to see that nothing comes.
const SILENCE: Duration = ms(300);

/// A server that waits for ever for the rest of a request, and a connection to it.
fn patient() -> (Server, Client) {
    let server = Server::start(&["--body-timeout", "1h", "--header-timeout", "1h"]);
    let client = Client::new(&server);
    (server, client)
}

#[test]
fn it_comes_when_the_body_does_not() {
    let (_server, mut client) = patient();
    for _ in 0..3 {
        client.send(HEAD);
        let interim = client.response();
        assert_eq!(interim.status, 100, "{interim}");
        assert!(client.is_silent_for(SILENCE));
        client.send("hello");
        let response = client.response();
        assert_eq!(response.status, 200, "{response}");
        assert!(response.body.ends_with(b"hello"), "{response}");
    }
}

#[test]
fn it_comes_before_chunks() {
    let (_server, mut client) = patient();
    client.send(HEAD.replace("Content-Length: 5", "Transfer-Encoding: chunked"));
    assert_eq!(client.response().status, 100);
    client.send("5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

#[test]
fn it_does_not_come_when_the_body_is_here() {
    let (_server, mut client) = patient();
    let chunks =
        HEAD.replace("Content-Length: 5", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n";
    for request in [HEAD.to_owned() + "hello", chunks] {
        client.send(&request);
        let response = client.response();
        assert_eq!(response.status, 200, "{request:?} got {response}");
    }
}

#[test]
fn it_does_not_come_before_a_refusal() {
    let server = Server::start(&[]);
    for (line, fields, status) in [
        ("POST /healthz", "Content-Length: 5", 405),
        ("POST /status/1000", "Content-Length: 5", 400),
        ("POST /delay/1h", "Content-Length: 5", 400),
        ("TRACE /", "Content-Length: 5", 405),
        ("POST /", "Content-Length: 5000000", 413),
        ("POST /", "Expect: x\r\nContent-Length: 5", 417),
        ("POST /", "Transfer-Encoding: x, chunked", 501),
    ] {
        let mut client = Client::new(&server);
        let response = client.call_raw(format!(
            "{line} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{fields}\r\n\r\n"
        ));
        assert_eq!(response.status, status, "{line}, {fields}: {response}");
        // The body will never come, so the connection cannot go on.
        assert!(response.closes(), "{line}, {fields}: {response}");
        client.finish();
    }
}

#[test]
fn it_does_not_come_to_1_0_or_unasked() {
    for head in [
        HEAD.replace("HTTP/1.1", "HTTP/1.0"),
        HEAD.replace("Expect: 100-continue\r\n", ""),
    ] {
        let (_server, mut client) = patient();
        client.send(&head);
        assert!(client.is_silent_for(SILENCE), "{head:?}");
        client.send("hello");
        let response = client.response();
        assert_eq!(response.status, 200, "{response}");
    }
}

#[test]
fn pending_responses_come_before_it() {
    let (_server, mut client) = patient();
    client.send(get("/status/404") + &get("/status/500") + HEAD);
    let statuses: Vec<_> = (0..3).map(|_| client.response().status).collect();
    assert_eq!(statuses, [404, 500, 100]);
    client.send("hello");
    assert_eq!(client.response().status, 200);
}

#[test]
fn it_comes_before_a_delay() {
    let (_server, mut client) = patient();
    client.send(HEAD.replace("POST / ", "POST /delay/300ms "));
    let interim = client.response();
    assert_eq!(interim.status, 100, "{interim}");
    client.send("hello");
    let response = client.response();
    assert_eq!(response.status, 200, "{response}");
    assert!(
        response.at - interim.at >= ms(300),
        "the delay was {:?}",
        response.at - interim.at
    );
}
