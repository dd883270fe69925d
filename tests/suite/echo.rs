//! The echo: which fields it copies, what it describes, and in which form (RFC 9110 7.6.1 and 12.5.1).

use crate::cases;
use crate::support::{Client, Server};
use crate::table;

#[test]
fn every_case_holds_whole_in_pieces_and_byte_by_byte() {
    table::holds(&cases::echo(), 220, 4);
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
