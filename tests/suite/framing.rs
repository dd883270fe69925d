//! Where a body ends (RFC 9112 6 and 7), which is where requests are smuggled.

use crate::cases;
use crate::support::{Client, Server, find, get, ms, pause};
use crate::table;

#[test]
fn every_case_holds_whole_in_pieces_and_byte_by_byte() {
    table::holds(&cases::framing(), 170, 1);
}

/// A POST with this chunked body.
fn chunked(chunks: &str) -> String {
    format!("POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
}

#[test]
fn a_request_behind_a_chunked_body_is_answered_however_they_are_cut() {
    let server = Server::start(&[]);
    let whole = chunked("5\r\nhello\r\n0\r\n\r\n") + &get("/second") + &get("/third");
    let start = whole.len() - 80;
    for cut in start..whole.len() {
        let mut client = Client::new(&server);
        client.send(&whole[..cut]);
        // The two pieces are mostly two reads of the server.
        std::thread::yield_now();
        client.send(&whole[cut..]);
        for target in ["POST /first ", "GET /second ", "GET /third "] {
            let response = client.response();
            assert!(
                find(&response.body, target.as_bytes()).is_some(),
                "cut at {cut}: {response}"
            );
        }
    }
}

#[test]
fn at_the_drain_a_request_behind_a_body_is_answered() {
    // The end of the body and the next request come in one packet, so that the server has read the next request together
    // with the body. It arrived before the signal, so it is answered.
    let sized = "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\na b c";
    for (first, second) in [
        (
            chunked("5\r\nhello\r\n"),
            "0\r\n\r\n".to_owned() + &get("/second"),
        ),
        (
            chunked("5\r\nhel"),
            "lo\r\n0\r\n\r\n".to_owned() + &get("/second"),
        ),
        (sized.to_owned() + &get("/second"), String::new()),
    ] {
        let mut server = Server::start(&["--delay-min", "2s", "--delay-max", "2s"]);
        let mut client = Client::new(&server);
        client.send(&first);
        server.wait_in_flight(1);
        client.send(&second);
        pause(ms(100));
        server.signal("TERM");
        for target in ["POST /first ", "GET /second "] {
            let response = client.response();
            assert!(
                find(&response.body, target.as_bytes()).is_some(),
                "{first:?} {second:?}: {response}"
            );
            assert_eq!(response.closes(), target.contains("second"), "{response}");
        }
        drop(client);
        server.ends_well();
    }
}
