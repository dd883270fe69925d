//! Every bound on what a request may be, from both sides.

use crate::cases;
use crate::support::{Client, Server};
use crate::table;

#[test]
fn every_case_holds_whole_in_pieces_and_byte_by_byte() {
    table::holds(&cases::limits(), 35, 4);
}

/// A request whose head, the empty line at its end included, has this length.
fn head(length: usize) -> String {
    let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    format!("{start}{}\r\n\r\n", "v".repeat(length - start.len() - 4))
}

#[test]
fn max_head_bounds_the_head() {
    for (flag, bytes) in [("8KiB", 8 << 10), ("100KiB", 100 << 10), ("1MiB", 1 << 20)] {
        let server = Server::start(&["--max-head", flag]);
        for (length, status) in [(bytes, 200), (bytes + 1, 431)] {
            let mut client = Client::new(&server);
            client.send(head(length));
            let response = client.response();
            assert_eq!(
                response.status, status,
                "a head of {length} bytes with {flag}: {response}"
            );
        }
    }
}
