//! Every time limit is a deadline for the whole thing (DESIGN 3.3): a byte now and then does not extend it, and what
//! is not its business does not shorten it. Each test says when the connection ended, not only that it did.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, get};
use crate::support::{PATIENCE, Server};

/// The limit that is on trial.
const LIMIT: Duration = Duration::from_millis(800);
/// Between two bytes: eight of these are the limit.
const DRIP: Duration = Duration::from_millis(100);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(1_200);

#[track_caller]
fn took_the_limit(since: Instant) {
    let took = since.elapsed();
    assert!(
        took + Duration::from_millis(30) >= LIMIT,
        "ended after {took:?}, before the limit of {LIMIT:?}"
    );
    assert!(
        took <= LIMIT + SLACK,
        "ended after {took:?}, long past the limit of {LIMIT:?}"
    );
}

#[track_caller]
fn counts_once(server: &Server, reason: &str) {
    let series = format!("http_rejected_requests_total{{reason=\"{reason}\"}}");
    let deadline = Instant::now() + PATIENCE;
    while server.metric(&series) < 1.0 && Instant::now() < deadline {
        thread::park_timeout(Duration::from_millis(10));
    }
    assert!(
        (server.metric(&series) - 1.0).abs() < 0.1,
        "{series} is {}",
        server.metric(&series)
    );
}

/// Sends `start`, then a byte at a time until the server has ended the connection or `PATIENCE` is over.
fn drip(server: &Server, start: &[u8], byte: u8) -> (Client, Instant) {
    let mut client = Client::new(server.connect());
    let since = Instant::now();
    client.send(start).unwrap();
    let mut writer = client.stream.try_clone().unwrap();
    thread::spawn(move || {
        while since.elapsed() < LIMIT * 4 && writer.write_all(&[byte]).is_ok() {
            thread::park_timeout(DRIP);
        }
    });
    (client, since)
}

#[track_caller]
fn drip_gets_408(args: &[&str], start: &[u8], byte: u8, reason: &str) {
    let server = Server::start(args);
    let (mut client, since) = drip(&server, start, byte);
    let answer = client.answer(false).unwrap();
    took_the_limit(since);
    assert_eq!(answer.status, 408, "{answer}");
    assert!(answer.closes(), "{answer}");
    client.finish().unwrap();
    assert!(
        since.elapsed() < LIMIT + SLACK,
        "the close waits for the client: {:?}",
        since.elapsed()
    );
    counts_once(&server, reason);
    let line = server
        .stdout
        .wait_line(" 408 ", PATIENCE)
        .expect("a log line for 408");
    assert!(line.contains("POST") || line.contains("GET"), "{line}");
}

#[test]
fn a_dripped_field_gets_408_at_the_header_timeout() {
    drip_gets_408(
        &["--header-timeout", "800ms"],
        b"GET / HTTP/1.1\r\nHost: a\r\nX: ",
        b'x',
        "header_timeout",
    );
}

#[test]
fn a_dripped_request_line_gets_408_at_the_header_timeout() {
    drip_gets_408(
        &["--header-timeout", "800ms"],
        b"GET /",
        b'x',
        "header_timeout",
    );
}

#[test]
fn a_dripped_body_gets_408_at_the_body_timeout() {
    let start = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    drip_gets_408(&["--body-timeout", "800ms"], start, b'x', "body_timeout");
}

#[test]
fn a_dripped_chunk_gets_408_at_the_body_timeout() {
    let start = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n";
    drip_gets_408(&["--body-timeout", "800ms"], start, b'x', "body_timeout");
}

#[test]
fn a_dripped_chunk_size_gets_408_at_the_body_timeout() {
    let start = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    drip_gets_408(&["--body-timeout", "800ms"], start, b'0', "body_timeout");
}

#[test]
fn a_dripped_trailer_gets_408_at_the_body_timeout() {
    let start = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ";
    drip_gets_408(&["--body-timeout", "800ms"], start, b'x', "body_timeout");
}

#[test]
fn a_silent_body_gets_408_at_the_body_timeout() {
    let server = Server::start(&["--body-timeout", "800ms"]);
    let mut client = Client::new(server.connect());
    let since = Instant::now();
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")
        .unwrap();
    assert_eq!(client.answer(false).unwrap().status, 408);
    took_the_limit(since);
}

#[test]
fn a_silent_new_connection_is_closed_without_a_word_at_the_idle_timeout() {
    let server = Server::start(&["--idle-timeout", "800ms"]);
    let mut client = Client::new(server.connect());
    let since = Instant::now();
    client.finish().unwrap();
    took_the_limit(since);
    assert_eq!(
        server.stdout.text(),
        "",
        "a silent connection is no request"
    );
}

#[test]
fn an_idle_kept_connection_is_closed_without_a_word_at_the_idle_timeout() {
    let server = Server::start(&["--idle-timeout", "800ms"]);
    let mut client = Client::new(server.connect());
    client.send(get("/")).unwrap();
    client.answer(false).unwrap();
    let since = Instant::now();
    client.finish().unwrap();
    took_the_limit(since);
}

#[test]
fn a_part_of_a_request_behind_another_gets_408_at_the_header_timeout() {
    let server = Server::start(&["--header-timeout", "800ms"]);
    let mut client = Client::new(server.connect());
    let since = Instant::now();
    client.send(get("/") + "GET /part").unwrap();
    assert_eq!(client.answer(false).unwrap().status, 200);
    assert!(
        since.elapsed() < LIMIT / 2,
        "the whole request's answer waits for the part: {:?}",
        since.elapsed()
    );
    assert_eq!(client.answer(false).unwrap().status, 408);
    took_the_limit(since);
    client.finish().unwrap();
}

#[test]
fn the_header_timeout_begins_with_the_first_byte_of_each_request() {
    let server = Server::start(&["--header-timeout", "800ms"]);
    let mut client = Client::new(server.connect());
    thread::park_timeout(LIMIT + DRIP);
    for _ in 0..3 {
        client.send("GET / HTT").unwrap();
        thread::park_timeout(LIMIT / 2);
        client.send("P/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(client.answer(false).unwrap().status, 200);
    }
}

#[test]
fn the_idle_timeout_does_not_cut_a_head_that_has_begun() {
    let server = Server::start(&["--idle-timeout", "300ms", "--header-timeout", "10s"]);
    let mut client = Client::new(server.connect());
    client.send("GET / HTTP/1.1\r\n").unwrap();
    thread::park_timeout(LIMIT);
    client.send("Host: a\r\n\r\n").unwrap();
    assert_eq!(client.answer(false).unwrap().status, 200);
}

#[test]
fn head_and_body_have_a_limit_each() {
    let server = Server::start(&["--header-timeout", "800ms", "--body-timeout", "800ms"]);
    let mut client = Client::new(server.connect());
    for part in [
        "POST / HTTP/1.1\r\n",
        "Host: a\r\nContent-Length: 2\r\n\r\nh",
    ] {
        client.send(part).unwrap();
        thread::park_timeout(LIMIT * 5 / 8);
    }
    client.send("i").unwrap();
    assert_eq!(client.answer(false).unwrap().status, 200);
}

#[test]
fn no_limit_runs_during_a_delay() {
    let short = "300ms";
    let mut args = Vec::new();
    for limit in [
        "--header-timeout",
        "--body-timeout",
        "--write-timeout",
        "--idle-timeout",
    ] {
        args.extend([limit, short]);
    }
    let server = Server::start(&args);
    let mut client = Client::new(server.connect());
    let since = Instant::now();
    client
        .send("POST /delay/900ms HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        .unwrap();
    assert_eq!(client.answer(false).unwrap().status, 200);
    assert!(
        since.elapsed() >= Duration::from_millis(900),
        "the delay was {:?}",
        since.elapsed()
    );
}

#[test]
fn a_read_that_waited_does_not_shorten_the_next_wait() {
    // After a partial read the socket's time-out is the time left; it must be put back for the next request.
    let server = Server::start(&["--header-timeout", "800ms", "--idle-timeout", "10s"]);
    let mut client = Client::new(server.connect());
    client.send("GET / HTTP/1.1\r\nHo").unwrap();
    thread::park_timeout(LIMIT * 3 / 4);
    client.send("st: a\r\n\r\n").unwrap();
    assert_eq!(client.answer(false).unwrap().status, 200);
    thread::park_timeout(LIMIT + DRIP);
    client.send(get("/")).unwrap();
    assert_eq!(client.answer(false).unwrap().status, 200);
}

/// Waits for the log line of a cut answer and says how long it took to come.
fn cut_after(server: &Server, since: Instant) -> (Duration, String) {
    let line = server
        .stdout
        .wait_line("GET /bytes", PATIENCE)
        .expect("the cut answer has a log line");
    (since.elapsed(), line)
}

#[test]
fn a_client_that_reads_nothing_is_cut_at_the_write_timeout() {
    let server = Server::start(&["--write-timeout", "800ms"]);
    let mut client = Client::new(server.connect());
    let since = Instant::now();
    client.send(get("/bytes/256MiB")).unwrap();
    let (took, line) = cut_after(&server, since);
    assert!(
        took + DRIP >= LIMIT && took < LIMIT * 4,
        "cut after {took:?}: {line}"
    );
    counts_once(&server, "write_timeout");
}

#[test]
fn a_client_that_is_cut_is_not_listened_to_any_further() {
    let server = Server::start(&["--write-timeout", "800ms"]);
    let mut client = Client::new(server.connect());
    // Each answer is whole before the next request is, and has to go out before the rest of that is waited for.
    let (mut number, mut since) = (0, Instant::now());
    let logged = |number, limit| {
        server
            .stdout
            .wait_line(&format!("number={number} "), limit)
            .is_some()
    };
    client.send("GET /by").unwrap();
    let mut send = |number| {
        let rest = format!("tes/4KiB?number={number} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(rest + "GET /by").unwrap();
    };
    send(number);
    while logged(number, LIMIT / 2) {
        (number, since) = (number + 1, Instant::now());
        send(number);
    }
    assert!(
        logged(number, LIMIT * 2),
        "not cut after {:?}",
        since.elapsed()
    );
    // The rest would be waited for as long as the header timeout.
    client.stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut block = vec![0; 1 << 20];
    let end = loop {
        match client.stream.read(&mut block) {
            Ok(1..) => {}
            end => break end.map_err(|error| error.kind()),
        }
    };
    assert!(
        matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)),
        "still open: {end:?}"
    );
    counts_once(&server, "write_timeout");
}

#[test]
fn a_client_that_sips_is_cut_by_the_write_timeout() {
    let server = Server::start(&["--write-timeout", "800ms"]);
    let mut client = Client::new(server.connect());
    let since = Instant::now();
    client.send(get("/bytes/256MiB")).unwrap();
    let mut reader = client.stream.try_clone().unwrap();
    thread::spawn(move || {
        let mut sip = [0; 4_096];
        while since.elapsed() < LIMIT * 10 && matches!(reader.read(&mut sip), Ok(1..)) {
            thread::park_timeout(DRIP);
        }
    });
    let (took, line) = cut_after(&server, since);
    assert!(
        took < LIMIT * 6,
        "a sip every {DRIP:?} kept the connection for {took:?}: {line}"
    );
    counts_once(&server, "write_timeout");
}

#[test]
fn the_write_timeout_is_for_each_mib_that_the_client_takes() {
    // 24 MiB at about 8 MiB/s take longer than the limit, and no single MiB does.
    let server = Server::start(&["--write-timeout", "800ms"]);
    let mut client = Client::new(server.connect());
    let since = Instant::now();
    client.send(get("/bytes/24MiB")).unwrap();
    let mut block = vec![0; 256 * 1024];
    let (mut total, size): (usize, u32) = (0, 24 * 1024 * 1024);
    while total < size as usize {
        let count = client.stream.read(&mut block).unwrap();
        assert!(
            count > 0,
            "cut after {total} bytes and {:?}",
            since.elapsed()
        );
        total += count;
        let due = Duration::from_secs(3) * u32::try_from(total / 1024).unwrap() / (size / 1024);
        thread::park_timeout(due.saturating_sub(since.elapsed()));
    }
    assert!(
        since.elapsed() > LIMIT * 2,
        "too quick to say anything: {:?}",
        since.elapsed()
    );
}

#[test]
fn a_client_that_sends_and_never_reads_is_cut() {
    let server = Server::start(&["--write-timeout", "800ms"]);
    let client = Client::new(server.connect());
    let since = Instant::now();
    let requests = get(&format!("/{}", "x".repeat(4_000)))
        .repeat(100)
        .into_bytes();
    let mut writer = client.stream.try_clone().unwrap();
    writer.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut sent = 0;
    while writer.write_all(&requests).is_ok() && since.elapsed() < PATIENCE {
        sent += requests.len();
    }
    let took = since.elapsed();
    assert!(
        took < LIMIT * 8,
        "still open after {took:?} and {sent} bytes"
    );
    counts_once(&server, "write_timeout");
}

#[test]
fn small_answers_that_are_not_taken_are_counted_as_far_as_they_went() {
    let server = Server::start(&["--write-timeout", "800ms", "--log-level", "debug"]);
    let client = Client::new(server.connect());
    let since = Instant::now();
    let requests = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        .repeat(2_000)
        .into_bytes();
    let mut writer = client.stream.try_clone().unwrap();
    writer.set_write_timeout(Some(PATIENCE)).unwrap();
    while writer.write_all(&requests).is_ok() && since.elapsed() < PATIENCE {}
    counts_once(&server, "write_timeout");
    assert!(
        server.metric("http_panics_total") < 1.0,
        "{}",
        server.stderr.text()
    );
    let unwritten = server.metric("http_unwritten_answers_total");
    assert!(
        (1.0..=200.0).contains(&unwritten),
        "{unwritten} answers of thousands were not written to their end"
    );
}

#[test]
fn a_client_that_goes_away_in_a_delay_costs_nothing_more() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    client.send(get("/delay/500ms")).unwrap();
    client.stream.shutdown(Shutdown::Both).unwrap();
    drop(client);
    server
        .stdout
        .wait_line("GET /delay", PATIENCE)
        .expect("it is logged when its delay is over");
    assert_eq!(server.get("/healthz").0, 200);
}
