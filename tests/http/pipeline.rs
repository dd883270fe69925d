//! Requests one behind the other (RFC 9112 9.3.2): answers come in order, several in one write, and what is finished
//! never waits for what is not.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::cases::find;
use crate::client::{Client, get};
use crate::support::Server;

const SOON: Duration = Duration::from_millis(450);

/// The first answer comes soon although `behind` keeps the connection busy or waiting.
#[track_caller]
fn first_answer_does_not_wait(server: &Server, behind: &str) {
    let mut client = Client::new(server.connect());
    let since = Instant::now();
    client.send(get("/status/404") + behind).unwrap();
    assert_eq!(client.answer(false).unwrap().status, 404);
    assert!(
        since.elapsed() < SOON,
        "the answer waited {:?} for {behind:?}",
        since.elapsed()
    );
}

#[test]
fn held_answers_are_written_before_a_delay() {
    first_answer_does_not_wait(&Server::start(&[]), &get("/delay/900ms"));
}

#[test]
fn held_answers_are_written_before_a_random_delay() {
    first_answer_does_not_wait(
        &Server::start(&["--delay-min", "900ms", "--delay-max", "900ms"]),
        &get("/"),
    );
}

#[test]
fn held_answers_are_written_before_a_read_of_a_head() {
    first_answer_does_not_wait(&Server::start(&[]), "GET / HT");
}

#[test]
fn held_answers_are_written_before_a_read_of_nothing() {
    first_answer_does_not_wait(&Server::start(&[]), "");
}

#[test]
fn held_answers_are_written_before_a_read_of_an_empty_line() {
    first_answer_does_not_wait(&Server::start(&[]), "\r\n");
}

#[test]
fn held_answers_are_written_before_a_read_of_a_body() {
    let server = Server::start(&[]);
    first_answer_does_not_wait(
        &server,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel",
    );
    first_answer_does_not_wait(
        &server,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    );
}

#[test]
fn the_delay_behind_a_held_answer_is_still_kept() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    let since = Instant::now();
    client
        .send(get("/1") + &get("/delay/600ms") + &get("/delay/300ms"))
        .unwrap();
    let times: Vec<_> = (0..3)
        .map(|_| client.answer(false).map(|_| since.elapsed()).unwrap())
        .collect();
    assert!(times[1] >= Duration::from_millis(600), "{times:?}");
    assert!(times[2] >= Duration::from_millis(900), "{times:?}");
}

#[test]
fn answers_come_in_order() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    let mut writer = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let requests: String = (0..2_000)
            .map(|number| get(&format!("/number/{number}/")))
            .collect();
        std::io::Write::write_all(&mut writer, requests.as_bytes())
    });
    for number in 0..2_000 {
        let answer = client.answer(false).unwrap();
        let target = format!("GET /number/{number}/ HTTP/1.1\r\n");
        assert!(
            find(&answer.body, target.as_bytes()).is_some(),
            "{target:?} got {answer}"
        );
    }
    sender.join().unwrap().unwrap();
}

#[test]
fn sixteen_answers_come_in_one_write() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    client.send(get("/").repeat(16)).unwrap();
    for _ in 0..16 {
        assert_eq!(client.answer(false).unwrap().status, 200);
    }
    // On loopback a write of less than 64 KiB is one segment, and the kernel counts them.
    let local = client.stream.local_addr().unwrap().port();
    let Ok(output) = Command::new("ss")
        .args(["-tin", &format!("sport = :{local}")])
        .output()
    else {
        println!("NOT RUN: the count of segments: no `ss` here (Debian: iproute2)");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let segments = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("data_segs_in:"));
    assert_eq!(segments, Some("1"), "{text}");
}

#[test]
fn large_answers_in_a_row_keep_their_framing() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    let sizes = [0, 1, 65_535, 65_536, 65_537, 1_048_576, 3, 262_144];
    for form in ["", "?chunked"] {
        let requests: String = sizes
            .iter()
            .map(|size| get(&format!("/bytes/{size}{form}")))
            .collect();
        client.send(requests).unwrap();
        for size in sizes {
            assert_eq!(client.answer(false).unwrap().body.len(), size, "{form}");
        }
    }
}
