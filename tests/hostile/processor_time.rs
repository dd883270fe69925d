//! No request costs much more processor time than another of its size.

use std::io::Write;
use std::time::Duration;

use crate::support::{Server, read_some};

const REQUESTS: u32 = 60;

/// What one request costs the server.
fn cost(server: &Server, request: &str) -> Duration {
    let mut stream = server.connect();
    let mut ask = |count| {
        for _ in 0..count {
            stream.write_all(request.as_bytes()).unwrap();
            let mut head = vec![0; 64 << 10];
            let (mut length, mut whole) = (0, false);
            while !whole {
                let count = read_some(&mut stream, &mut head[length..]).unwrap();
                assert!(count > 0, "the server closed");
                length += count;
                whole = head[..length].ends_with(b"\r\n\r\n");
            }
        }
    };
    ask(20);
    let before = server.processor_time();
    ask(REQUESTS);
    server.processor_time().saturating_sub(before) / REQUESTS
}

/// A head with this many options in `Connection` and fields beside them. All names are long, of one
/// length, and differ only at their ends.
fn hostile(options: usize, fields: usize) -> String {
    let name = |letter, number| format!("{}{letter}{number:02}", "f".repeat(140));
    let options: Vec<_> = (0..options).map(|number| name('g', number)).collect();
    let fields: Vec<_> = (0..fields)
        .map(|number| name('h', number) + ": v\r\n")
        .collect();
    let fields = fields.concat();
    format!(
        "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n{fields}\r\n",
        options.join(",")
    )
}

/// The head with both is compared with one that has only the fields and one that has only the
/// options: what is far beyond their sum would be the product of both.
#[test]
fn many_connection_options_cost_little() {
    let server = Server::start(&[]);
    let fields = cost(&server, &hostile(1, 97));
    let options = cost(&server, &hostile(98, 1));
    let both = cost(&server, &hostile(98, 97));
    println!("fields {fields:?}, options {options:?}, both {both:?}");
    // A debug build needs 2.8 times as much, because comparing 100 options with 100 fields costs something.
    assert!(
        both < (fields + options) * 6,
        "{both:?}, alone {fields:?} and {options:?}"
    );
    server.terminate().assert_exact();
}
