//! The memory that all request bodies share: it is taken as bytes arrive, and what does not fit gets 503.

use crate::support::metrics::rejected;
use crate::support::{Client, Server, eventually};

/// The head of a POST of `length` bytes.
fn announced(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n")
}

/// Waits until a body of this length finds room.
#[track_caller]
fn has_room(server: &Server, length: usize) {
    let body = "y".repeat(length);
    eventually("its room is free again", || {
        Client::new(server).call("POST", "/", "", &body).status == 200
    });
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
    let server = Server::start(&[
        "--max-body",
        "80KiB",
        "--max-body-memory",
        "100KiB",
        "--body-timeout",
        "1h",
    ]);
    let large = "y".repeat(80 * 1024);
    let mut holder = Client::new(&server);
    holder.send(announced(80 * 1024) + &"x".repeat(80 * 1024 - 1));
    eventually("the bytes that have arrived are counted", || {
        Client::new(&server).call("POST", "/", "", &large).status == 503
    });
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
    holder.send("x");
    assert_eq!(
        holder.response().status,
        200,
        "the first holder is answered"
    );
    has_room(&server, 80 * 1024);
    // Its client goes away in the middle.
    let mut gone = Client::new(&server);
    gone.send(announced(80 * 1024) + &"x".repeat(80 * 1024 - 1));
    eventually("the bytes that have arrived are counted", || {
        Client::new(&server).call("POST", "/", "", &large).status == 503
    });
    drop(gone);
    has_room(&server, 80 * 1024);
}
