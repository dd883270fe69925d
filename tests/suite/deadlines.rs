//! Every time limit is a deadline for the whole thing: a byte now and then does not extend it, what is not its business
//! does not shorten it, and a process that was frozen past it loses no request that has arrived meanwhile.
//!
//! `LIMIT` is the limit on trial. A client that goes on sending or reading does so for many times as long, so a limit
//! that can be extended is seen however slow the machine is.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::uninterrupted;
use crate::support::metrics::{aborted, rejected};
use crate::support::{Client, PATIENCE, Server, each, get, host, ms, pause};

/// The limit that is on trial.
const LIMIT: Duration = ms(800);
/// The same as a flag's value.
const LIMIT_FLAG: &str = "800ms";
/// Between two bytes of a client that drips.
const DRIP: Duration = ms(50);
/// A time-out may come so much early, because the clocks are read apart.
const EARLY: Duration = ms(30);
/// Far above the limit and far below the time for which a client drips.
const LATE: Duration = ms(15_000);

/// Asserts that a limit which began at `since` ended something now.
#[track_caller]
fn took_the_limit(since: Instant) {
    let took = since.elapsed();
    assert!(
        took + EARLY >= LIMIT,
        "ended after {took:?}, before the limit of {LIMIT:?}"
    );
    assert!(
        took < LATE,
        "ended after {took:?}, long past the limit of {LIMIT:?}"
    );
}

#[track_caller]
fn counts_once(server: &Server, series: &str) {
    server.wait_count(series, |count| count > 0);
    assert_eq!(server.scrape().count_or_zero(series), 1, "{series}");
}

/// Sends `start`, then a byte at a time until the server has ended the connection.
fn drip(server: &Server, start: &[u8], byte: u8) -> (Client, Instant) {
    let mut client = Client::new(server);
    let since = Instant::now();
    client.send(start);
    let mut dripping = Client::of(client.stream.try_clone().unwrap()).unwrap();
    thread::spawn(move || {
        while since.elapsed() < PATIENCE && dripping.try_send([byte]).is_ok() {
            thread::park_timeout(DRIP);
        }
    });
    (client, since)
}

/// Asserts that a request that drips gets 408 at the limit.
#[track_caller]
fn drip_gets_408(flag: &str, start: &[u8], byte: u8, reason: &str) {
    let server = Server::start(&[flag, LIMIT_FLAG]);
    let (mut client, since) = drip(&server, start, byte);
    let response = client.response();
    took_the_limit(since);
    assert!(response.status == 408 && response.closes(), "{response}");
    // The end comes at once, though the client goes on and the server reads what it sends.
    client.finish();
    assert!(
        since.elapsed() < LATE,
        "the end waits for the client: {:?}",
        since.elapsed()
    );
    counts_once(&server, &rejected(reason));
    let line = server.line(" 408 ");
    assert!(
        line.field("target").starts_with('/') || line.field("target").starts_with("GET /"),
        "{line:?}"
    );
}

#[test]
fn a_dripped_head_gets_408_at_the_header_timeout() {
    each(["GET / HTTP/1.1\r\nHost: a\r\nX: ", "GET /"], |start| {
        drip_gets_408("--header-timeout", start.as_bytes(), b'x', "header_timeout");
    });
}

#[test]
fn a_dripped_body_gets_408_at_the_body_timeout() {
    let sized = "Content-Length: 100000\r\n\r\n".to_owned();
    let chunked = |part: &str| format!("Transfer-Encoding: chunked\r\n\r\n{part}");
    let bodies = [
        (sized, b'x'),
        (chunked("f0000\r\n"), b'x'),
        (chunked(""), b'0'),
        (chunked("0\r\nX: "), b'x'),
    ];
    each(bodies, |(body, byte)| {
        let start = format!("POST / HTTP/1.1\r\nHost: a\r\n{body}");
        drip_gets_408("--body-timeout", start.as_bytes(), byte, "body_timeout");
    });
}

#[test]
fn a_body_that_does_not_come_gets_408_at_the_body_timeout() {
    // The server's own measure tells that nothing is added to the limit.
    let limit = ms(3_000);
    let server = Server::start(&["--body-timeout", "3s", "--header-timeout", "1h"]);
    let mut client = Client::new(&server);
    let since = Instant::now();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    let response = client.response();
    assert_eq!(response.status, 408, "{response}");
    assert!(
        response.at - since + EARLY >= limit,
        "after {:?}",
        response.at - since
    );
    let duration = server.line(" 408 ").number("duration");
    assert!(
        (2.9..15.0).contains(&duration),
        "a limit of {limit:?} took {duration} s"
    );
}

#[test]
fn a_silent_new_connection_is_closed_without_a_word_at_the_idle_timeout() {
    let server = Server::start(&["--idle-timeout", LIMIT_FLAG]);
    let since = Instant::now();
    Client::new(&server).finish();
    took_the_limit(since);
    assert_eq!(
        server.stdout.text(),
        "",
        "a silent connection is no request"
    );
}

#[test]
fn an_idle_kept_connection_is_closed_without_a_word_at_the_idle_timeout() {
    let server = Server::start(&["--idle-timeout", LIMIT_FLAG]);
    let mut client = Client::new(&server);
    let since = Instant::now();
    assert_eq!(client.get("/").status, 200);
    client.finish();
    took_the_limit(since);
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn a_part_of_a_request_behind_another_gets_408_at_the_header_timeout() {
    let server = Server::start(&["--header-timeout", LIMIT_FLAG]);
    let mut client = Client::new(&server);
    let since = Instant::now();
    client.send(get("/") + "GET /part");
    assert_eq!(client.response().status, 200);
    assert_eq!(client.response().status, 408);
    took_the_limit(since);
    client.finish();
}

#[test]
fn the_header_timeout_begins_with_the_first_byte_of_each_request() {
    let server = Server::start(&["--header-timeout", "4s"]);
    let mut client = Client::new(&server);
    // Time passes before the first byte and in each head; together more than the limit, and none alone.
    for _ in 0..3 {
        pause(ms(700));
        client.send("GET / HTT");
        pause(ms(700));
        client.send("P/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert_eq!(response.status, 200, "{response}");
    }
}

#[test]
fn the_idle_timeout_does_not_cut_a_head_that_has_begun() {
    let server = Server::start(&["--idle-timeout", "300ms", "--header-timeout", "1h"]);
    // Both are there when the server looks, however long this takes.
    server.freeze();
    let mut client = Client::new(&server);
    client.send("GET / HTTP/1.1\r\n");
    server.signal("CONT");
    server.wait_in_flight(1);
    pause(LIMIT);
    client.send("Host: a\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

#[test]
fn head_and_body_have_a_limit_each() {
    let server = Server::start(&["--header-timeout", "6s", "--body-timeout", "6s"]);
    let mut client = Client::new(&server);
    for part in [
        "POST / HTTP/1.1\r\n",
        "Host: a\r\nContent-Length: 2\r\n\r\nh",
    ] {
        client.send(part);
        pause(ms(3_200));
    }
    client.send("i");
    assert_eq!(client.response().status, 200);
}

#[test]
fn no_limit_runs_during_a_delay() {
    let limits = [
        "--header-timeout",
        "--body-timeout",
        "--write-timeout",
        "--idle-timeout",
    ];
    let server = Server::start(&limits.map(|flag| [flag, LIMIT_FLAG]).concat());
    let mut client = Client::new(&server);
    let since = Instant::now();
    client.send("POST /delay/1600ms HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    let response = client.response();
    assert_eq!(response.status, 200, "{response}");
    assert!(
        response.at - since >= ms(1_600),
        "the delay was {:?}",
        response.at - since
    );
}

#[test]
fn a_read_that_waited_does_not_shorten_the_next_wait() {
    // After a partial read the socket's time-out is the time left; it must be put back for the next request.
    let server = Server::start(&["--header-timeout", "6s", "--idle-timeout", "1h"]);
    let mut client = Client::new(&server);
    client.send("GET / HTTP/1.1\r\nHo");
    pause(ms(1_000));
    client.send("st: a\r\n\r\n");
    assert_eq!(client.response().status, 200);
    pause(ms(6_500));
    client.send(get("/"));
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_client_that_reads_nothing_is_cut_at_the_write_timeout() {
    let server = Server::start(&["--write-timeout", LIMIT_FLAG]);
    let mut client = Client::new(&server);
    let since = Instant::now();
    client.send(get("/bytes/256MiB"));
    let line = server.line("GET /bytes");
    took_the_limit(since);
    assert_eq!(line.field("complete"), "false", "{line:?}");
    counts_once(&server, &aborted("write_timeout"));
}

#[test]
fn a_client_that_knocks_while_the_server_starts_is_cut_too() {
    // A client that connects in the first instant gets the same limits as any other. Several starts, because the instant
    // is short.
    each(0..4, |_| {
        let addr = host::free_address();
        let knocking = thread::spawn(move || {
            let limit = Instant::now() + PATIENCE;
            while Instant::now() < limit {
                if let Ok(client) = Client::to(addr) {
                    return client;
                }
            }
            panic!("nobody listens");
        });
        let server = Server::start(&["--listen", &addr.to_string(), "--write-timeout", LIMIT_FLAG]);
        let mut client = knocking.join().unwrap();
        client.send(get("/bytes/256MiB"));
        server.line("GET /bytes");
        counts_once(&server, &aborted("write_timeout"));
    });
}

#[test]
fn a_client_that_is_cut_is_not_listened_to_any_further() {
    let server = Server::start(&["--write-timeout", LIMIT_FLAG, "--header-timeout", "1h"]);
    let mut client = Client::new(&server);
    // Each response is whole before the next request is, and has to go out before the rest of that is waited for.
    let mut send = |number: u64| {
        let head = if number == 0 { "GET /by" } else { "" };
        client.try_send(format!(
            "{head}tes/64KiB?number={number} HTTP/1.1\r\nHost: a\r\n\r\nGET /by"
        ))
    };
    let mut number = 0;
    while send(number).is_ok() && server.scrape().count_or_zero(&aborted("write_timeout")) == 0 {
        number += 1;
    }
    // The rest of the last request would be waited for as long as the header time-out.
    let mut block = vec![0; 1 << 20];
    while let Ok(1..) = uninterrupted(|| client.stream.read(&mut block)) {}
    counts_once(&server, &aborted("write_timeout"));
    server.wait_count("http_open_connections", |open| open == 1);
}

#[test]
fn a_client_that_sips_is_cut_by_the_write_timeout() {
    let server = Server::start(&["--write-timeout", LIMIT_FLAG]);
    let mut client = Client::new(&server);
    let since = Instant::now();
    client.send(get("/bytes/256MiB"));
    let mut reader = client.stream.try_clone().unwrap();
    thread::spawn(move || {
        let mut sip = [0; 4_096];
        while since.elapsed() < PATIENCE
            && matches!(uninterrupted(|| reader.read(&mut sip)), Ok(1..))
        {
            thread::park_timeout(DRIP);
        }
    });
    let line = server.line("GET /bytes");
    assert!(
        since.elapsed() < LATE,
        "a sip every {DRIP:?} kept the connection for {:?}",
        since.elapsed()
    );
    assert_eq!(line.field("complete"), "false", "{line:?}");
    counts_once(&server, &aborted("write_timeout"));
}

#[test]
fn the_write_timeout_is_for_each_mib_that_the_client_takes() {
    // 12 MiB at 4 MiB a second take longer than the limit, and no MiB alone does.
    let server = Server::start(&["--write-timeout", "2s"]);
    let mut client = Client::new(&server);
    let since = Instant::now();
    let size = 12 << 20;
    client.send(get(&format!("/bytes/{size}")));
    let (mut block, mut total) = (vec![0; 256 * 1024], 0);
    while total < size {
        let count = uninterrupted(|| client.stream.read(&mut block)).unwrap();
        assert!(
            count > 0,
            "cut after {total} bytes and {:?}",
            since.elapsed()
        );
        total += count;
        let due =
            Duration::from_secs_f64(f64::from(u32::try_from(total).unwrap()) / f64::from(4 << 20));
        pause(due.saturating_sub(since.elapsed()));
    }
    assert!(
        since.elapsed() > ms(2_500),
        "too quick to say anything: {:?}",
        since.elapsed()
    );
}

#[test]
fn a_client_that_sends_and_never_reads_is_cut() {
    let server = Server::start(&["--write-timeout", LIMIT_FLAG, "--log-level", "debug"]);
    each(["/".repeat(4_000), "/healthz".to_owned()], |target| {
        let mut client = Client::new(&server);
        let since = Instant::now();
        let requests = get(&target).repeat(100);
        while client.try_send(&requests).is_ok() {
            // The kernel's buffers take thousands of small responses before a write waits.
            assert!(
                since.elapsed() < PATIENCE,
                "still open after {:?}",
                since.elapsed()
            );
        }
    });
    // Of thousands of requests on each connection only those count whose responses waited for the last write.
    server.wait_count("http_open_connections", |open| open == 1);
    let scrape = server.scrape();
    let cut = scrape.count(&aborted("write_timeout"));
    assert!((2..=1_000).contains(&cut), "{cut} requests were cut");
    assert_eq!(scrape.count_or_zero(&aborted("client_closed")), 0);
    assert_eq!(
        scrape.count("http_panics_total"),
        0,
        "{}",
        server.stderr.text()
    );
}

/// Long enough for a slow machine to freeze the server before a limit of this length is over.
const FROZEN: Duration = ms(3_000);

/// Freezes the server for longer than a limit that runs, does something meanwhile, and lets it go on.
#[track_caller]
fn frozen(server: &Server, meanwhile: impl FnOnce()) {
    server.freeze();
    meanwhile();
    pause(FROZEN + ms(300));
    server.signal("CONT");
}

#[test]
fn a_request_that_came_while_the_process_was_frozen_is_answered() {
    each(0..4, |_| {
        let server = Server::start(&["--idle-timeout", "3s"]);
        let mut used = Client::new(&server);
        let mut new = Client::new(&server);
        assert_eq!(used.get("/").status, 200);
        frozen(&server, || {
            used.ask("/used");
            new.ask("/new");
        });
        for client in [&mut used, &mut new] {
            let response = client.response();
            assert_eq!(response.status, 200, "{response}");
        }
    });
}

#[test]
fn a_head_or_body_that_became_whole_while_the_process_was_frozen_is_answered() {
    let parts = [
        ("GET / HTTP/1.1\r\nHo", "st: a\r\n\r\n"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nh",
            "i",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nh",
            "i\r\n0\r\n\r\n",
        ),
    ];
    each(parts, |(start, rest)| {
        let server = Server::start(&["--header-timeout", "3s", "--body-timeout", "3s"]);
        let mut client = Client::new(&server);
        client.send(start);
        server.wait_in_flight(1);
        frozen(&server, || client.send(rest));
        let response = client.response();
        assert_eq!(response.status, 200, "{start:?}: {response}");
    });
}
