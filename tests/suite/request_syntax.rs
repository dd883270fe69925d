//! The request line and the field lines (RFC 9112 2 to 5): what is taken, what is refused, and that a complete line
//! which is wrong is refused at once.

use httpserver::http::error::RequestError;
use httpserver::http::request::Request;

use crate::cases;
use crate::support::log::FORMATS;
use crate::support::{Client, Server, ms};
use crate::table;

#[test]
fn every_case_holds_whole_in_pieces_and_byte_by_byte() {
    table::holds(&cases::request_syntax(), 250, 1);
}

/// `metrics` counts the reasons of inputs that come whole; in pieces the parser has to give the same ones.
#[test]
fn a_head_is_refused_for_one_reason_however_it_arrives() {
    // A CR in a name is a fault before the byte behind it can tell that the line end is bare.
    let other = "9112-2.2 CR in a name";
    let (mut checked, mut failures) = (0, Vec::new());
    for case in cases::all().iter().filter(|case| case.name != other) {
        let reason = case.expected.first().and_then(|one| one.reason.as_deref());
        // A long input would take long byte by byte.
        let pinned = |reason: &&str| *reason != "*" && case.input.len() < 1000;
        let Some(reason) = reason.filter(pinned) else {
            continue;
        };
        let refusal = |step: usize| {
            let (input, mut request) = (&case.input, Request::default());
            let ends = (step..input.len()).step_by(step).chain([input.len()]);
            let mut parsed = ends.map(|end| request.parse(&input[..end], 32 << 10));
            parsed.find_map(Result::err).map(RequestError::label)
        };
        let whole = refusal(case.input.len());
        checked += usize::from(whole.is_some());
        let labels = [whole, refusal(1), refusal(3), refusal(8)];
        if whole.is_some() && labels != [Some(reason); 4] {
            failures.push(format!("{}: {labels:?}", case.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(checked >= 200, "only {checked} cases");
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
