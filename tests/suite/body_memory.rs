//! The memory that all request bodies share: it is taken as bytes arrive, and what does not fit gets 503.

use crate::support::metrics::rejected;
use crate::support::{Client, Server, eventually, ms};

/// The head of a POST of `length` bytes.
fn announced(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n")
}

/// A body of which the last byte is missing.
const LARGE: usize = 80 * 1024;
/// Room for one large body and no second one.
const ROOM_FOR_ONE: [&str; 6] = [
    "--max-body",
    "80KiB",
    "--max-body-memory",
    "100KiB",
    "--body-timeout",
    "1h",
];

/// The status that a whole large body gets.
#[track_caller]
fn status_of_another(server: &Server) -> u16 {
    Client::new(server)
        .call("POST", "/", "", &"y".repeat(LARGE))
        .status
}

/// A client whose large body has arrived but for its last byte, so that another one finds no room.
#[track_caller]
fn holder(server: &Server) -> Client {
    let mut holder = None;
    eventually("the bytes of one have arrived", || {
        let mut client = Client::new(server);
        client.send(announced(LARGE) + &"x".repeat(LARGE - 1));
        // While they arrive, either of the two may be the one that finds no room.
        while status_of_another(server) == 200 && client.is_silent_for(ms(20)) {}
        let silent = client.is_silent_for(ms(20));
        holder = silent.then_some(client);
        silent
    });
    // Nobody else holds anything.
    server.wait_in_flight(1);
    holder.expect("it holds")
}

#[test]
fn an_announced_body_takes_nothing() {
    let server = Server::start(&[
        "--max-body",
        "1MiB",
        "--max-body-memory",
        "1MiB",
        "--body-timeout",
        "1h",
    ]);
    let mut announcing: Vec<Client> = (0..16).map(|_| Client::new(&server)).collect();
    for client in &mut announcing {
        client.send(announced(1 << 20).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"));
        assert_eq!(
            client.response().status,
            100,
            "the server reads the body now"
        );
    }
    let body = "y".repeat(100 * 1024);
    let response = Client::new(&server).call("POST", "/", "", &body);
    assert_eq!(response.status, 200, "an honest body has room: {response}");
    assert_eq!(server.scrape().count_or_zero(&rejected("body_memory")), 0);
}

#[test]
fn bodies_share_one_budget() {
    let server = Server::start(&ROOM_FOR_ONE);
    let mut first = holder(&server);
    let large = "y".repeat(LARGE);
    let response = Client::new(&server).call("POST", "/", "", &large);
    assert!(response.status == 503 && response.closes(), "{response}");
    assert!(!response.field("retry-after").is_empty(), "{response}");
    let chunked = "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    let response = Client::new(&server).call_raw(format!("{chunked}14000\r\n{large}\r\n0\r\n\r\n"));
    assert_eq!(response.status, 503, "{response}");
    assert_eq!(
        Client::new(&server).call("POST", "/", "", "small").status,
        200,
        "a small body has room"
    );
    assert!(server.count(&rejected("body_memory")) >= 3);
    first.send("x");
    assert_eq!(first.response().status, 200, "the first one is answered");
    eventually("its room is free again", || {
        status_of_another(&server) == 200
    });
}

#[test]
fn a_client_that_goes_away_gives_its_room_back() {
    let server = Server::start(&ROOM_FOR_ONE);
    drop(holder(&server));
    eventually("its room is free again", || {
        status_of_another(&server) == 200
    });
}
