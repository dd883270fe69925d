//! The lingering close (RFC 9112 9.6): after a close of ours that may leave input unread the server ends its side, reads
//! and discards until the client closes, and closes then. A client that is still sending gets its whole response and no
//! reset, and one that never stops holds nothing for ever: 5 s without a byte, 30 s and 64 MiB in all.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::support::{Client, PATIENCE, Server, eventually, get, ms, pause};

/// So many connections one after the other tell an end at once from a lingering close on a slow machine too.
const ROUNDS: u32 = 8;
/// Each that lingers to its end takes 5 s.
const LINGERED: Duration = ms(35_000);

/// Sends a head that is refused, waits for nothing, sends so many bytes and only then looks at the response.
#[track_caller]
fn the_response_arrives(server: &Server, head: &str, behind: usize, status: u16) {
    let mut client = Client::new(server);
    client.send(head);
    for piece in vec![b'x'; behind].chunks(64 * 1024) {
        client.send(piece);
    }
    let response = client.response();
    assert_eq!(
        response.status, status,
        "{head:?} and {behind} bytes got {response}"
    );
    assert!(response.closes(), "{response}");
    client.finish();
}

#[test]
fn a_refusal_arrives_however_much_is_sent_behind_it() {
    let server = Server::start(&[]);
    let refused = [
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
            413,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n\r\n",
            501,
        ),
        ("POST / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 99999999\r\n\r\n",
            417,
        ),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
        ("GET / HTTP/1.0\r\n\r\n", 200),
    ];
    for (head, status) in refused {
        for behind in [300_000, 3 << 20, 20 << 20] {
            the_response_arrives(&server, head, behind, status);
        }
    }
}

#[test]
fn a_refusal_arrives_at_a_client_that_sends_slowly() {
    // 3 MiB at 1 MiB a second, which is longer than a fixed time of 2 s.
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3145728\r\n\r\n");
    for _ in 0..12 {
        client.send(vec![b'x'; 256 * 1024]);
        pause(ms(250));
    }
    let response = client.response();
    assert_eq!(response.status, 413, "{response}");
    client.finish();
}

#[test]
fn the_end_is_told_at_once() {
    // A client that waits for the end before it closes must not wait for the lingering close.
    let server = Server::start(&[]);
    let requests = [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET /bytes/100000 HTTP/1.0\r\n\r\n",
    ];
    let since = Instant::now();
    for request in requests.repeat(5) {
        let mut client = Client::new(&server);
        client.send(request);
        client.response();
        client.finish();
    }
    // Each of the fifteen that linger would take 5 s.
    assert!(
        since.elapsed() < ms(40_000),
        "twenty ends took {:?}",
        since.elapsed()
    );
}

/// Sends a byte now and then until the server has closed for good, which the kernel tells by a reset.
fn closed_after(client: &mut Client, since: Instant, every: Duration) -> Duration {
    while since.elapsed() < PATIENCE {
        match client.try_send("x") {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) =>
            {
                break;
            }
            Err(error) => panic!("{error}"),
            Ok(()) => pause(every),
        }
    }
    since.elapsed()
}

/// A connection that lingers, since when.
fn lingering(server: &Server) -> (Client, Instant) {
    let mut client = Client::new(server);
    let since = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    assert_eq!(client.response().status, 400);
    client.finish();
    (client, since)
}

#[test]
fn a_lingering_close_ends_five_seconds_after_the_last_byte() {
    let server = Server::start(&[]);
    let (client, since) = lingering(&server);
    server.wait_count("http_open_connections", |open| open == 1);
    let took = since.elapsed();
    assert!(took >= ms(4_900), "lingered only {took:?}");
    assert!(took < ms(25_000), "lingered {took:?}");
    drop(client);
}

#[test]
#[ignore = "slow: half a minute"]
fn a_lingering_close_ends_after_thirty_seconds_in_all() {
    let server = Server::start(&[]);
    let (mut client, since) = lingering(&server);
    let took = closed_after(&mut client, since, ms(200));
    assert!(took >= ms(29_000), "lingered only {took:?}");
    assert!(
        took < ms(50_000),
        "lingered {took:?}: a byte now and then extends it"
    );
}

#[test]
fn a_lingering_close_ends_after_64_mib() {
    let server = Server::start(&[]);
    let (mut client, _) = lingering(&server);
    let (block, mut sent) = (vec![b'x'; 1 << 20], 0);
    while sent < 512 << 20 && client.try_send(&block).is_ok() {
        sent += block.len();
    }
    // What the kernel's buffers hold comes on top.
    assert!(
        (60 << 20..128 << 20).contains(&sent),
        "took {} MiB of garbage",
        sent >> 20
    );
}

#[test]
fn a_lingering_connection_ends_when_its_client_closes() {
    let server = Server::start(&[]);
    let since = Instant::now();
    for _ in 0..ROUNDS {
        drop(lingering(&server));
        server.wait_count("http_open_connections", |open| open == 1);
    }
    assert!(
        since.elapsed() < LINGERED,
        "before its time: {:?}",
        since.elapsed()
    );
}

#[test]
fn a_lingering_connection_makes_room_and_ends_at_the_drain() {
    let mut server = Server::start(&["--max-connections", "2", "--drain-timeout", "1h"]);
    let mut kept = Client::new(&server);
    assert_eq!(kept.get("/").status, 200);
    let (mut lingers, _) = lingering(&server);
    // The kept connection has been idle for longer, but the one that lingers goes first.
    // The end is here a moment before the connection counts as one that lingers.
    eventually("it makes room", || {
        Client::new(&server).get("/").status == 200
    });
    assert_eq!(kept.get("/").status, 200, "the idle one was left alone");
    // Bytes now and then would keep it for 30 s.
    assert!(
        closed_after(&mut lingers, Instant::now(), ms(5)) < ms(20_000),
        "it made room"
    );
    drop(kept);
    let (mut lingers, since) = lingering(&server);
    server.signal("TERM");
    assert!(
        closed_after(&mut lingers, since, ms(5)) < ms(20_000),
        "it ends at the drain"
    );
    server.ends_well();
}

#[test]
fn a_client_that_asked_for_the_close_is_not_waited_for() {
    let server = Server::start(&[]);
    let since = Instant::now();
    for _ in 0..ROUNDS {
        let mut client = Client::new(&server);
        client.send(get("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        assert_eq!(client.response().status, 200);
        server.wait_count("http_open_connections", |open| open == 1);
        client.finish();
    }
    assert!(
        since.elapsed() < LINGERED,
        "it knows that nothing may follow: {:?}",
        since.elapsed()
    );
}
