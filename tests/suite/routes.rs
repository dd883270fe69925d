//! Methods, expectations, and what each route says (RFC 9110 9, 10.1.1 and 15).

use crate::cases;
use crate::support::{Client, Server, ms};
use crate::table;

#[test]
fn every_case_holds_whole_in_pieces_and_byte_by_byte() {
    table::holds(&cases::routes(), 190, 4);
}

#[test]
fn the_longest_delay_is_a_minute() {
    let mut server = Server::start(&["--drain-timeout", "0s"]);
    let mut clients: Vec<Client> = ["60s", "1m"]
        .into_iter()
        .map(|delay| {
            let mut client = Client::new(&server);
            client.ask(&format!("/delay/{delay}"));
            client
        })
        .collect();
    server.wait_in_flight(2);
    // Without time to finish, the drain ends the delays, and tells how long they were.
    server.signal("TERM");
    for client in &mut clients {
        let response = client.response();
        assert_eq!(response.status, 200, "{response}");
        assert!(response.told_delay() < ms(60_000), "{response}");
    }
    server.ends_well();
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

#[test]
fn a_wrong_parameter_is_told_which_forms_are_taken() {
    let server = Server::start(&[]);
    for (target, form) in [
        ("/status/999", "200 to 599"),
        ("/status/abc", "200 to 599"),
        ("/bytes/1XB", "64KiB"),
        ("/delay/3", "250ms"),
        ("/delay/61s", "60s"),
    ] {
        let response = server.get(target);
        assert_eq!(response.status, 400, "{target} got {response}");
        assert!(
            response.text().contains(form),
            "{target}: {form:?} is not told: {response}"
        );
    }
}
