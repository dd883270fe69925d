//! Requests one behind the other (RFC 9112 9.3.2): responses come in order, several in one write, and what is finished
//! never waits for what is not.

use std::process::Command;
use std::thread;

use crate::support::{Client, Server, find, get, not_run};

/// The first response comes although what is behind it keeps the connection busy or waiting for an hour.
#[track_caller]
fn first_response_does_not_wait(server: &Server, behind: &str) {
    let mut client = Client::new(server);
    client.send(get("/status/404") + behind);
    let response = client.response();
    assert_eq!(response.status, 404, "{behind:?}");
}

#[test]
fn pending_responses_are_written_before_a_delay() {
    let server = Server::start(&["--delay-min", "1h", "--delay-max", "1h"]);
    first_response_does_not_wait(&server, &get("/"));
    first_response_does_not_wait(&server, &get("/delay/60s"));
}

#[test]
fn pending_responses_are_written_before_a_read() {
    let server = Server::start(&[
        "--header-timeout",
        "1h",
        "--body-timeout",
        "1h",
        "--idle-timeout",
        "1h",
    ]);
    for behind in [
        "",
        "\r\n",
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ] {
        first_response_does_not_wait(&server, behind);
    }
}

#[test]
fn the_delay_behind_a_pending_response_is_still_kept() {
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    let since = std::time::Instant::now();
    client.send(get("/1") + &get("/delay/600ms") + &get("/delay/300ms"));
    let times: Vec<_> = (0..3).map(|_| client.response().at - since).collect();
    assert!(times[1].as_millis() >= 600, "{times:?}");
    assert!(times[2].as_millis() >= 900, "{times:?}");
}

#[test]
fn responses_come_in_order() {
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    let mut writer = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let requests: String = (0..2_000)
            .map(|number| get(&format!("/number/{number}/")))
            .collect();
        std::io::Write::write_all(&mut writer, requests.as_bytes())
    });
    for number in 0..2_000 {
        let response = client.response();
        let target = format!("GET /number/{number}/ HTTP/1.1\r\n");
        assert!(
            find(&response.body, target.as_bytes()).is_some(),
            "{target:?} got {response}"
        );
    }
    sender.join().unwrap().unwrap();
}

#[test]
fn sixteen_responses_come_in_one_write() {
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    client.send(get("/").repeat(16));
    for _ in 0..16 {
        assert_eq!(client.response().status, 200);
    }
    // On loopback a write of less than 64 KiB is one segment, and the kernel counts them.
    let (here, there) = (
        client.stream.local_addr().unwrap().port(),
        server.addr.port(),
    );
    let filter = format!("sport = :{here} and dport = :{there}");
    let Ok(output) = Command::new("ss").args(["-tinH", &filter]).output() else {
        return not_run("the count of segments", "no ss (Debian: iproute2)");
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let segments = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("data_segs_in:"));
    assert_eq!(segments, Some("1"), "{text}");
}

#[test]
fn large_responses_in_a_row_keep_their_framing() {
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    let sizes = [0, 1, 65_535, 65_536, 65_537, 1_048_576, 3, 262_144];
    for form in ["", "?chunked"] {
        let requests: String = sizes
            .iter()
            .map(|size| get(&format!("/bytes/{size}{form}")))
            .collect();
        client.send(requests);
        for size in sizes {
            assert_eq!(client.response().body.len(), size, "{form}");
        }
    }
}
