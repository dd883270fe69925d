//! No request costs much more processor time than another of its size.

use std::io::{Read, Write};
use std::time::Duration;

use crate::support::Server;

const REQUESTS: u32 = 300;

/// What one request costs the server.
fn cost(server: &Server, request: &str) -> Duration {
    let mut stream = server.connect();
    let mut ask = |count| {
        for _ in 0..count {
            stream.write_all(request.as_bytes()).unwrap();
            let mut head = [0; 64 << 10];
            let (mut length, mut whole) = (0, false);
            while !whole {
                let count = stream.read(&mut head[length..]).unwrap();
                assert!(count > 0, "the server closed");
                length += count;
                whole = head[..length].ends_with(b"\r\n\r\n");
            }
        }
    };
    ask(20);
    let before = server.processor_time();
    ask(REQUESTS);
    (server.processor_time() - before) / REQUESTS
}

/// A head of 97 fields beside `Host` and `Connection`, with 98 options in the latter.
fn request(options: impl Fn(usize) -> String) -> String {
    let options: Vec<_> = (0..98).map(options).collect();
    let value = "v".repeat(140);
    let field = |n| format!("{}{n:02}: {value}\r\n", "f".repeat(148));
    let fields: String = (0..97).map(field).collect();
    format!(
        "HEAD /status/204 HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n{fields}\r\n",
        options.join(",")
    )
}

/// The most expensive head is compared with one of as many bytes and fields.
#[test]
fn many_connection_options_cost_little() {
    let server = Server::start(&[]);
    let plain = "A: b\r\n".repeat(97);
    let long = "x".repeat(29 << 10);
    let plain = format!("HEAD /status/204 HTTP/1.1\r\nHost: a\r\nB: {long}\r\n{plain}\r\n");
    let plain = cost(&server, &plain.replace("/status/204", "/"));
    for (name, request) in [
        ("unknown", request(|n| format!("{}{n:02}x", "f".repeat(8)))),
        ("alike", short(|n| format!("{}{n:02}", "f".repeat(148)))),
    ] {
        let hostile = cost(&server, &request.replace("/status/204", "/"));
        println!("plain {plain:?}, {name} {hostile:?}");
        assert!(hostile < plain * 6, "{name}: {hostile:?}, plain {plain:?}");
    }
    server.terminate().assert_exact();
}

/// As [`request`], with values of one byte so that long options fit.
fn short(options: impl Fn(usize) -> String) -> String {
    let options: Vec<_> = (0..98).map(options).collect();
    let field = |n| format!("{}{n:02}: v\r\n", "f".repeat(147) + "g");
    let fields: String = (0..97).map(field).collect();
    format!(
        "HEAD /status/204 HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n{fields}\r\n",
        options.join(",")
    )
}
