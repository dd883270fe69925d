//! Other protocols at the door: each client gets a refusal that it understands, and the log says what came.

use crate::support::metrics::rejected;
use crate::support::{Client, Server, find};

/// A TLS `ClientHello` for this server name.
fn client_hello(name: &str) -> Vec<u8> {
    let vector = |length_bytes: usize, content: &[u8]| {
        let length = content.len().to_be_bytes();
        [&length[length.len() - length_bytes..], content].concat()
    };
    let host = [&[0][..], &vector(2, name.as_bytes())].concat();
    let extension = [&[0, 0][..], &vector(2, &vector(2, &host))].concat();
    let suites = [&[0][..], &[0, 2, 0x13, 1], &[1, 0]].concat();
    let hello = [&[3, 3][..], &[7; 32], &suites, &vector(2, &extension)].concat();
    let message = [&[1][..], &vector(3, &hello)].concat();
    [&[0x16, 3, 1][..], &vector(2, &message)].concat()
}

#[test]
fn tls_gets_400_and_a_line_that_names_the_server() {
    let mut server = Server::start(&["--header-timeout", "1h"]);
    for cut in [0, 1, 5, 60] {
        let hello = client_hello("shop.example.org");
        let mut client = Client::new(&server);
        client.send(&hello[..cut]);
        client.send(&hello[cut..]);
        let response = client.response();
        assert!(
            response.status == 400 && response.text().contains("TLS"),
            "cut at {cut}: {response}"
        );
    }
    assert_eq!(server.count(&rejected("tls")), 4);
    let lines = server.stop_and_lines();
    assert!(
        lines
            .iter()
            .all(|line| line.field("target").contains("shop.example.org")),
        "{lines:?}"
    );
    assert!(
        lines.iter().all(|line| line.field("reason") == "tls"),
        "{lines:?}"
    );
}

#[test]
fn http_2_gets_505_and_a_goaway_with_words() {
    let server = Server::start(&["--header-timeout", "1h"]);
    let mut client = Client::new(&server);
    // The preface, empty SETTINGS, and the beginning of a request on stream 1.
    client.send(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x82",
    );
    client.shut_down();
    let end = client.end();
    assert_eq!(
        end.rest.get(3),
        Some(&4),
        "SETTINGS first: {}",
        end.rest.escape_ascii()
    );
    assert!(
        find(&end.rest, b"505").is_some(),
        "the status: {}",
        end.rest.escape_ascii()
    );
    // GOAWAY is type 7, without flags, on stream 0; it tells the last stream.
    let goaway = find(&end.rest, b"\x07\0\0\0\0\0\0\0\0\x01");
    let goaway = goaway.unwrap_or_else(|| panic!("no GOAWAY: {}", end.rest.escape_ascii()));
    assert!(
        find(&end.rest[goaway..], b"HTTP/1.1").is_some(),
        "{}",
        end.rest.escape_ascii()
    );
    server.wait_count(&rejected("http2"), |count| count == 1);
    let line = server.line("HTTP/2 connection preface");
    assert_eq!(line.field("bytes"), end.rest.len().to_string(), "{line:?}");
}

#[test]
fn the_proxy_protocol_gets_400_and_its_reason() {
    let server = Server::start(&["--header-timeout", "1h"]);
    let version_2 =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02";
    for preamble in [&b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"[..], version_2] {
        let request = [preamble, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let response = Client::new(&server).call_raw(request);
        assert!(
            response.status == 400 && response.text().contains("PROXY"),
            "{response}"
        );
    }
    assert_eq!(server.count(&rejected("proxy_protocol")), 2);
}
