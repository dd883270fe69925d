//! Methods, expectations, and what each route says (RFC 9110 9, 10.1.1 and 15).

use crate::cases;
use crate::support::Server;
use crate::table;

#[test]
fn every_case_holds_whole_in_pieces_and_byte_by_byte() {
    table::holds(&cases::routes(), 190, 4);
}

#[test]
fn probes_are_never_delayed_and_never_fail_by_injection() {
    let server = Server::start(&[
        "--error-rate",
        "1",
        "--delay-min",
        "1h",
        "--delay-max",
        "1h",
    ]);
    for target in [
        "/healthz",
        "/livez",
        "/readyz",
        "/metrics",
        "/version",
        "/status/204",
        "/delay/1ms",
        "/bytes/1",
        "/favicon.ico",
    ] {
        let response = server.get(target);
        let expected = match target {
            "/status/204" => 204,
            "/favicon.ico" => 404,
            _ => 200,
        };
        assert_eq!(response.status, expected, "{target} got {response}");
    }
}
