//! The request line and the field lines (RFC 9112 2 to 5): what is taken, what is refused, and that a complete line
//! which is wrong is refused at once.

use crate::cases;
use crate::support::log::FORMATS;
use crate::support::{Client, Server, ms};
use crate::table;

#[test]
fn every_case_holds_whole_in_pieces_and_byte_by_byte() {
    table::holds(&cases::request_syntax(), 250, 1);
}

#[test]
fn a_complete_request_line_that_is_wrong_is_refused_at_once() {
    // F5's default monitor sends HTTP/0.9. A 408 after the header time-out would tell it nothing.
    let server = Server::start(&["--header-timeout", "1h"]);
    for line in [
        "GET /\r\n",
        "GET / HTTP/1.1 x\r\n",
        "GET / HTTP/9\r\n",
        "GET  / HTTP/1.1\r\n",
        "G(T / HTTP/1.1\r\n",
    ] {
        let mut client = Client::new(&server);
        client.send(line);
        let response = client.response();
        assert!(
            response.status == 400 && response.closes(),
            "{line:?} got {response}"
        );
        client.finish();
    }
}

#[test]
fn a_complete_request_line_that_is_right_waits_for_its_fields() {
    let server = Server::start(&["--header-timeout", "1h"]);
    for line in [
        "GET / HTTP/1.1\r\n",
        "\r\n\r\n\r\n\r\nGET /\u{e9} HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
    ] {
        let mut client = Client::new(&server);
        client.send(line);
        assert!(client.is_silent_for(ms(100)), "{line:?} is not complete");
        client.send("Host: a\r\n\r\n");
        let response = client.response();
        assert_eq!(response.status, 200, "{line:?} got {response}");
    }
}

#[test]
fn utf_8_in_a_target_is_logged_escaped() {
    for format in FORMATS {
        let mut server = Server::start(&["--log-format", format]);
        let response = server.get("/caf\u{e9}?q=\u{fc}\u{2028}");
        assert_eq!(response.status, 200, "{response}");
        // The parser of the log takes ASCII alone.
        let lines = server.stop_and_lines();
        assert_eq!(lines[0].field("target"), "/caf\u{e9}?q=\u{fc}\u{2028}");
    }
}
