//! WebSockets on the echo (RFC 6455): the handshake, the description as the first message, each message back as it
//! came, a breach of the rules with its close code, the idle time-out, and the drain.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::log::FORMATS;
use crate::support::metrics::{Scrape, rejected, series};
use crate::support::server::Account;
use crate::support::{Client, Response, Server, eventually, host, ms};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const FIN: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// The handshake of a client that keeps to the rules.
fn good(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// A frame as a client sends it: the first byte, and a payload under a mask.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let payload = payload.as_ref();
    let length = (payload.len() as u64).to_be_bytes();
    let (short, extended) = match payload.len() {
        0..=125 => (length[7], &[][..]),
        126..=0xffff => (126, &length[6..]),
        _ => (127, &length[..]),
    };
    let masked = payload
        .iter()
        .zip(MASK.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    let head = [&[first, 0x80 | short][..], extended, &MASK].concat();
    head.into_iter().chain(masked).collect()
}

fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// A WebSocket and the description that came first.
struct Socket {
    client: Client,
    description: Value,
}

impl Socket {
    #[track_caller]
    fn open(server: &Server, target: &str) -> Self {
        let mut client = Client::new(server);
        let response = client.call_raw(good(target));
        assert_eq!(response.status, 101, "{response}");
        let mut socket = Self {
            client,
            description: Value::Null,
        };
        let (first, message) = socket.next();
        assert_eq!(first, TEXT, "the description is text");
        socket.description = serde_json::from_slice(&message).expect("it is JSON");
        socket
    }

    #[track_caller]
    fn send(&mut self, first: u8, payload: impl AsRef<[u8]>) {
        self.client.send(frame(first, payload));
    }

    /// The next frame: its first byte and its payload. A server must not mask.
    #[track_caller]
    fn next(&mut self) -> (u8, Vec<u8>) {
        let mut take = |count| {
            self.client
                .take(count)
                .unwrap_or_else(|error| panic!("no frame: {error}"))
        };
        let head = take(2);
        let number = |bytes: Vec<u8>| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
        };
        let length = match head[1] {
            126 => number(take(2)),
            127 => number(take(8)),
            short => usize::from(short),
        };
        assert!(head[1] < 128, "a mask: {head:?}");
        (head[0], take(length))
    }

    /// A close frame with this code, then the end of the connection.
    #[track_caller]
    fn closes_with(&mut self, code: u16, what: &str) {
        let (first, payload) = self.next();
        let told = payload
            .get(..2)
            .map(|code| u16::from_be_bytes([code[0], code[1]]));
        assert_eq!(
            (first, told),
            (CLOSE, Some(code)),
            "{what}: {:?}",
            String::from_utf8_lossy(&payload)
        );
        std::str::from_utf8(&payload[2..]).expect("the reason is UTF-8");
        self.client.shut_down();
        self.client.finish();
    }

    /// Sends the close frame that answers one, and waits for the end.
    #[track_caller]
    fn answer_close(&mut self) {
        self.client.send(close(1001, ""));
        self.client.shut_down();
        self.client.finish();
    }
}

#[test]
fn the_handshake_of_rfc_6455_opens_it_and_describes_the_request_first() {
    let server = Server::start_with(&["--path-prefix", "/app"], &[("POD_NAME", "pod-1")]);
    let mut client = Client::new(&server);
    let response = client.call_raw(good("/app/chat?a=1&echo-delay=20ms"));
    assert_eq!(
        (
            response.status,
            response.field("upgrade"),
            response.field("connection")
        ),
        (101, "websocket", "Upgrade"),
        "{response}"
    );
    assert_eq!(
        response.field("sec-websocket-accept"),
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    for absent in [
        "keep-alive",
        "content-type",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
        "sec-websocket-key",
    ] {
        assert!(response.values(absent).is_empty(), "{absent}: {response}");
    }
    let mut socket = Socket {
        client,
        description: Value::Null,
    };
    let (first, message) = socket.next();
    let json: Value = serde_json::from_slice(&message).expect("it is JSON");
    assert_eq!(
        (first, &json["target"], &json["pod"]),
        (
            TEXT,
            &"/app/chat?a=1&echo-delay=20ms".into(),
            &"pod-1".into()
        ),
        "{json}"
    );
    assert!(json["delay"].as_f64() >= Some(0.02), "{json}");
    assert_eq!(
        (&json["request_on_connection"], &json["notes"]),
        (&1.into(), &Value::Array(vec![])),
        "{json}"
    );
    // The same on a connection that had a request before, through a proxy that writes the fields in its own way.
    let mut client = Client::new(&server);
    client.get("/");
    let fields = format!(
        "upgrade: WebSocket\r\nconnection: keep-alive, upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key:  {KEY} \r\n"
    );
    let response = client.call_raw(format!(
        "GET http://test/x HTTP/1.1\r\nHost: test\r\nVia: 1.1 edge\r\n{fields}\r\n"
    ));
    assert_eq!(response.status, 101, "{response}");
}

#[test]
fn a_wrong_handshake_is_told_what_is_right() {
    let server = Server::start(&[]);
    let ask = |request: String| -> Response { Client::new(&server).call_raw(request) };
    let response = ask(good("/").replace("Version: 13", "Version: 8"));
    assert_eq!(
        (response.status, response.field("sec-websocket-version")),
        (426, "13"),
        "{response}"
    );
    let response = ask(good("/").replace(KEY, "short"));
    assert_eq!(response.status, 400, "{response}");
    assert!(response.text().contains("Sec-WebSocket-Key"), "{response}");
    assert_eq!(server.count(&rejected("websocket_version")), 1);
    assert_eq!(server.count(&rejected("websocket_key")), 1);
    // No WebSocket was asked for, so the request is one like any other.
    for plain in [
        good("/").replace("Connection: Upgrade\r\n", ""),
        good("/").replace("Upgrade: websocket", "Upgrade: h2c"),
        good("/").replace("GET", "POST"),
        good("/").replace("HTTP/1.1", "HTTP/1.0"),
    ] {
        let response = ask(plain);
        assert!(
            response.status == 200 && response.text().contains("\ntarget: /\n"),
            "{response}"
        );
    }
    for (target, status) in [
        ("/?echo-status=503", 503),
        ("/healthz", 200),
        ("/status/404", 404),
        ("/bytes/3", 200),
    ] {
        assert_eq!(ask(good(target)).status, status, "{target}");
    }
}

#[test]
fn each_message_comes_back_as_it_went() {
    let server = Server::start(&[]);
    let mut socket = Socket::open(&server, "/");
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
        for first in [TEXT, BINARY] {
            let byte = if first == TEXT { b't' } else { 0xff };
            let message = vec![byte; length];
            socket.send(first, &message);
            let (kind, payload) = socket.next();
            assert!(
                kind == first && payload == message,
                "{length} bytes, {} back",
                payload.len()
            );
        }
    }
    let text = "M\u{fc}ller \u{20ac} \u{1f980}\0\r\n";
    socket.send(TEXT, text);
    assert_eq!(socket.next(), (TEXT, text.as_bytes().to_vec()));
    // Several at once.
    socket.client.send(
        [
            frame(TEXT, "a"),
            frame(PING, "p"),
            frame(BINARY, "b"),
            frame(PONG, "unasked"),
            frame(TEXT, "c"),
        ]
        .concat(),
    );
    for (first, payload) in [(TEXT, b"a"), (PONG, b"p"), (BINARY, b"b"), (TEXT, b"c")] {
        assert_eq!(socket.next(), (first, payload.to_vec()));
    }
    socket.client.send(close(1000, "bye"));
    socket.closes_with(1000, "its own code comes back");
}

#[test]
fn messages_that_come_with_the_handshake_are_not_lost() {
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    client.send(
        [
            good("/").into_bytes(),
            frame(TEXT, "early"),
            frame(PING, "p"),
        ]
        .concat(),
    );
    assert_eq!(client.response().status, 101);
    let mut socket = Socket {
        client,
        description: Value::Null,
    };
    assert_eq!(socket.next().0, TEXT);
    assert_eq!(socket.next(), (TEXT, b"early".to_vec()));
    assert_eq!(socket.next(), (PONG, b"p".to_vec()));
}

#[test]
fn fragments_are_joined_and_pings_pass_between_them() {
    let server = Server::start(&[]);
    let mut socket = Socket::open(&server, "/");
    socket.send(1, "M\u{fc}".as_bytes().split_at(2).0);
    socket.send(PING, "first");
    assert_eq!(socket.next(), (PONG, b"first".to_vec()));
    socket.send(0, "M\u{fc}".as_bytes().split_at(2).1);
    socket.send(0, "");
    socket.send(PING, "second");
    assert_eq!(socket.next(), (PONG, b"second".to_vec()));
    socket.send(FIN, "ller");
    assert_eq!(socket.next(), (TEXT, "M\u{fc}ller".into()));
    socket.send(2, [0xff]);
    socket.send(FIN, [0xfe]);
    assert_eq!(socket.next(), (BINARY, vec![0xff, 0xfe]));
}

#[test]
fn a_breach_of_the_rules_has_its_close_code() {
    let server = Server::start(&["--max-body", "1000"]);
    let fragments = [frame(2, vec![0; 600]), frame(FIN, vec![0; 401])].concat();
    for (what, bytes, code) in [
        ("no mask", b"\x81\x05Hello".to_vec(), 1002),
        ("text that is not UTF-8", frame(TEXT, b"a\xff"), 1007),
        ("fragments above the limit", fragments, 1009),
    ] {
        let mut socket = Socket::open(&server, "/");
        // What comes behind it is not looked at.
        socket
            .client
            .send([&bytes[..], &frame(TEXT, "late")].concat());
        socket.closes_with(code, what);
    }
    // The limit itself is taken, and a close without a code comes back without one.
    let mut socket = Socket::open(&server, "/");
    socket.send(BINARY, [7; 1000]);
    assert_eq!(socket.next(), (BINARY, vec![7; 1000]));
    for code in [1000, 1001, 1003, 1011, 4999] {
        let mut socket = Socket::open(&server, "/");
        socket.client.send(close(code, "why"));
        socket.closes_with(code, "its own code comes back");
    }
    socket.send(CLOSE, "");
    assert_eq!(socket.next(), (CLOSE, vec![]));
    socket.client.shut_down();
    socket.client.finish();
}

#[test]
fn a_ping_after_half_of_the_idle_timeout_and_the_end_after_all_of_it() {
    let server = Server::start(&["--idle-timeout", "6s"]);
    let mut client = Client::new(&server);
    let asked = Instant::now();
    client.send(good("/"));
    assert_eq!(client.response().status, 101);
    let mut socket = Socket {
        client,
        description: Value::Null,
    };
    assert_eq!(socket.next().0, TEXT);
    assert_eq!(socket.next(), (PING, vec![]));
    assert!(asked.elapsed() >= ms(3000), "{:?}", asked.elapsed());
    // A pong keeps it alive, as a message would.
    let alive = Instant::now();
    socket.send(PONG, "");
    assert_eq!(socket.next(), (PING, vec![]));
    assert!(alive.elapsed() >= ms(3000), "{:?}", alive.elapsed());
    let (first, payload) = socket.next();
    assert!(alive.elapsed() >= ms(6000), "{:?}", alive.elapsed());
    assert_eq!((first, &payload[..2]), (CLOSE, &1001u16.to_be_bytes()[..]));
    socket.client.shut_down();
    socket.client.finish();
}

#[test]
fn an_open_websocket_is_a_request_in_flight_and_ends_with_its_client() {
    let mut server = Server::start(&[]);
    let socket = Socket::open(&server, "/gone");
    // All on one connection: one that has just closed would count for a moment.
    let mut scraper = Client::new(&server);
    let mut in_flight = || Scrape(scraper.get("/metrics").text()).count("http_requests_in_flight");
    assert_eq!(in_flight(), 2, "itself and the WebSocket");
    assert!(server.lines().is_empty(), "it has its line at its end");
    drop(socket);
    eventually("its request ends", || in_flight() == 1);
    assert_eq!(server.line("/gone").field("messages"), "0");
    server.stop();
}

#[test]
fn the_line_at_its_end_and_the_metrics_tell_the_messages() {
    for format in FORMATS {
        let mut server = Server::start(&["--log-format", format]);
        let mut socket = Socket::open(&server, "/chat");
        for _ in 0..3 {
            socket.send(TEXT, "hello");
            assert_eq!(socket.next().1, b"hello");
        }
        socket.send(PING, "");
        socket.next();
        socket.client.send(close(1000, ""));
        socket.closes_with(1000, "an orderly end");
        let line = server.line("/chat");
        assert_eq!(
            (
                line.status(),
                line.field("messages"),
                line.field("route"),
                line.field("complete")
            ),
            (101, "3", "websocket", "true"),
            "{line:?}"
        );
        assert!(line.number("bytes") > 3.0 * 7.0, "{line:?}");
        let messages =
            |direction: &str| series("http_websocket_messages_total", "direction", direction);
        let scrape = server.scrape();
        assert_eq!(scrape.count(&messages("received")), 3);
        assert_eq!(
            scrape.count("http_requests_total{code=\"101\",method=\"GET\",route=\"websocket\"}"),
            1
        );
        // The time of a WebSocket is not that of an echo.
        assert_eq!(
            scrape.count("http_request_duration_seconds_count{route=\"echo\"}"),
            0
        );
        // The description is a message too.
        assert_eq!(scrape.count(&messages("sent")), 4);
        server.get("/plain");
        let plain = server.stdout.line("/plain");
        assert!(
            !plain.contains("messages"),
            "only a WebSocket counts them: {plain}"
        );
        server.stop();
    }
}

#[test]
fn the_drain_says_1001_and_waits_for_the_clients_close() {
    let mut server = Server::start(&["--drain-timeout", "1h"]);
    let mut socket = Socket::open(&server, "/");
    server.signal("TERM");
    let (first, payload) = socket.next();
    assert_eq!((first, &payload[..2]), (CLOSE, &1001u16.to_be_bytes()[..]));
    // Nothing comes behind a close frame, not even the message that was on its way.
    socket.send(TEXT, "on its way");
    assert!(
        socket.client.is_silent_for(Duration::from_secs(2)),
        "it waits for the close"
    );
    socket.answer_close();
    server.ends_well();
    let account = Account::of(&server);
    assert_eq!(account.count("cut"), 0, "{account:?}");
}

#[test]
fn a_client_that_does_not_close_is_cut_at_the_drains_limit() {
    let mut server = Server::start(&["--drain-timeout", "1s"]);
    let mut socket = Socket::open(&server, "/");
    let signalled = Instant::now();
    server.signal("TERM");
    assert_eq!(socket.next().0, CLOSE);
    server.ends_well();
    assert!(signalled.elapsed() >= ms(1000), "{:?}", signalled.elapsed());
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn a_thousand_idle_websockets_are_told_and_the_server_ends_in_time() {
    const COUNT: usize = 1000;
    if !host::open_files("1,000 WebSockets", 4 * COUNT as u64) {
        return;
    }
    let mut server = Server::start(&["--drain-timeout", "1h"]);
    let mut sockets: Vec<Socket> = (0..COUNT).map(|_| Socket::open(&server, "/")).collect();
    server.wait_in_flight(COUNT as u64);
    server.signal("TERM");
    for socket in &mut sockets {
        let (first, payload) = socket.next();
        assert_eq!((first, &payload[..2]), (CLOSE, &1001u16.to_be_bytes()[..]));
        socket.answer_close();
    }
    server.ends_well();
    let account = Account::of(&server);
    let (completed, cut) = (account.count("completed"), account.count("cut"));
    // The scrape that was made last may count as well.
    let expected = COUNT as u64..=COUNT as u64 + 1;
    assert!(expected.contains(&completed) && cut == 0, "{account:?}");
    let lines = server.lines();
    assert_eq!(lines.len(), COUNT);
    assert!(
        lines
            .iter()
            .all(|line| line.status() == 101 && line.field("complete") == "true")
    );
}
