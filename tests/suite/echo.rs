//! The echo: which fields it copies, what it describes, and in which form (RFC 9110 7.6.1 and 12.5.1).

use serde_json::Value;

use crate::cases;
use crate::support::{Client, Server};
use crate::table;

#[test]
fn every_case_holds_whole_in_pieces_and_byte_by_byte() {
    table::holds(&cases::echo(), 220, 4);
}

#[test]
fn the_json_is_json_whatever_the_request_holds() {
    let server = Server::start(&[]);
    for (name, value) in [
        ("X-A", "\"\\\u{2028}\u{e9}\t"),
        ("User-Agent", "\",\"status\":9"),
        ("X-B", ""),
        ("X-Forwarded-For", "\""),
    ] {
        let mut client = Client::new(&server);
        let fields = format!("Accept: application/json\r\n{name}: {value}\r\n");
        let response = client.call("PUT", "/\"\\'{}?\u{e9}", &fields, "\"\\\u{1}\n\u{e9}");
        let json: Value = serde_json::from_slice(&response.body)
            .unwrap_or_else(|error| panic!("{error}: {response}"));
        assert_eq!(json["target"], "/\"\\'{}?\u{e9}");
        assert_eq!(json["body"], "\"\\\u{1}\n\u{e9}");
        let headers = json["headers"].as_array().expect("a list of pairs");
        let sent = headers
            .iter()
            .find(|pair| pair[0] == name)
            .expect("the field is there");
        assert_eq!(sent[1], value.trim());
    }
}

#[test]
fn an_injected_failure_tells_its_delay_and_has_the_servers_fields() {
    let server = Server::start(&[
        "--error-rate",
        "1",
        "--delay-min",
        "30ms",
        "--delay-max",
        "30ms",
    ]);
    let response = Client::new(&server).get("/");
    assert_eq!(response.status, 500, "{response}");
    assert!(response.told_delay().as_millis() >= 30, "{response}");
    for name in ["version", "server", "x-request-id", "content-type"] {
        assert!(!response.field(name).is_empty(), "{name} in {response}");
    }
}
