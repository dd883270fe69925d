//! The notes of the echo: each has a request that deserves it and names the odd value, and one that comes near and does
//! not. A plain request has none.

use serde_json::json;

use crate::support::{Client, Server};

/// A request line, the fields behind `Host`, and the notes that the request deserves. `PEER` in a note stands for the
/// peer's address and port.
type Case = (&'static str, &'static str, &'static [&'static str]);

const GET: &str = "GET / HTTP/1.1";

/// To a server that trusts nobody.
#[rustfmt::skip]
const UNTRUSTED: &[Case] = &[
    (GET, "X-Forwarded-For: 203.0.113.7, 198.51.100.1\r\n",
     &["X-Forwarded-For \"203.0.113.7, 198.51.100.1\" is not believed: the peer PEER is not in trusted-proxies"]),
    (GET, "X-Real-Ip: 203.0.113.7\r\nForwarded: for=203.0.113.7\r\n", &[]),
];

/// To a server that trusts the peer.
#[rustfmt::skip]
const TRUSTED: &[Case] = &[
    (GET, "X-Forwarded-For: 203.0.113.7\r\n", &[]),
    (GET, "X-Forwarded-For: 203.0.113.7, 10.0.0.1\r\nForwarded: for=198.51.100.1;proto=https\r\n",
     &["X-Forwarded-For \"203.0.113.7, 10.0.0.1\" and Forwarded \"for=198.51.100.1;proto=https\" name different clients"]),
    (GET, "X-Forwarded-For: 203.0.113.7, 10.0.0.1\r\nForwarded: proto=https; For=\"203.0.113.7:4711\", for=10.0.0.1\r\n",
     &[]),
    (GET, "X-Forwarded-For: 2001:db8::c\r\nForwarded: for=\"[2001:DB8::C]:4711\"\r\n", &[]),
    (GET, "X-Forwarded-For: 203.0.113.7\r\nForwarded: proto=https\r\n", &[]),
    (GET, "X-Forwarded-Host: shop.example.org\r\n",
     &["X-Forwarded-Host \"shop.example.org\" differs from Host \"test\": a proxy rewrote Host"]),
    (GET, "X-Forwarded-Host: TEST\r\n", &[]),
    (GET, "X-Forwarded-Proto: https,http\r\n",
     &["X-Forwarded-Proto \"https,http\" is not one of http, https, ws and wss"]),
    (GET, "X-Forwarded-Proto: gopher\r\n",
     &["X-Forwarded-Proto \"gopher\" is not one of http, https, ws and wss"]),
    (GET, "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n",
     &["x-forwarded-proto stands more than once; only one is allowed"]),
    (GET, "X-Forwarded-Proto: https\r\n", &[]),
    (GET, "X-Forwarded-Proto: wss\r\n", &[]),
    (GET, "Via: 1.1 edge\r\nKeep-Alive: timeout=5\r\n",
     &["Keep-Alive \"timeout=5\" is a hop-by-hop field; a proxy should have removed it"]),
    (GET, "Proxy-Connection: keep-alive\r\n",
     &["Proxy-Connection \"keep-alive\" is a hop-by-hop field; a proxy should have removed it"]),
    (GET, "X-Forwarded-Proto: https\r\nUpgrade: h2c\r\n",
     &["Upgrade \"h2c\" is a hop-by-hop field; a proxy should have removed it"]),
    // A client itself may send it, and a proxy passes a WebSocket's handshake on.
    (GET, "Keep-Alive: timeout=5\r\nTE: trailers\r\n", &[]),
    (GET, "Via: 1.1 edge\r\nUpgrade: websocket\r\n", &[]),
    (GET, "User-Agent: a\r\nUser-Agent: b\r\n",
     &["user-agent stands more than once; only one is allowed"]),
    (GET, "Traceparent: a\r\nX-Request-Id: 1\r\nTRACEPARENT: a\r\n",
     &["traceparent stands more than once; only one is allowed"]),
    (GET, "Accept: text/plain\r\nAccept: text/html\r\nCookie: a=1\r\nCookie: b=2\r\n", &[]),
    (GET, "X_Real_Ip: 203.0.113.7\r\n",
     &["the field name X_Real_Ip has an underscore: nginx and others drop it"]),
    (GET, "X-Real-Ip: a_b\r\n", &[]),
    ("GET /a//b HTTP/1.1", "", &["the path has parts that many proxies rewrite: //"]),
    ("GET /a/./b HTTP/1.1", "", &["the path has parts that many proxies rewrite: /./"]),
    ("GET /a/. HTTP/1.1", "", &["the path has parts that many proxies rewrite: /./"]),
    ("GET /a/../b HTTP/1.1", "", &["the path has parts that many proxies rewrite: /../"]),
    ("GET /a/.. HTTP/1.1", "", &["the path has parts that many proxies rewrite: /../"]),
    ("GET /a%2fb HTTP/1.1", "", &["the path has parts that many proxies rewrite: %2f"]),
    ("GET /a%2Fb HTTP/1.1", "", &["the path has parts that many proxies rewrite: %2f"]),
    ("GET /a//b/./..%2fc/../d HTTP/1.1", "",
     &["the path has parts that many proxies rewrite: // /./ /../ %2f"]),
    ("GET /a/.b/c../...d/%20?q=//&r=/../&s=%2f HTTP/1.1", "", &[]),
    ("GET /.well-known/acme HTTP/1.1", "", &[]),
    ("GET / HTTP/1.0", "",
     &["the request came as HTTP/1.0: no chunked bodies, and a connection for each request unless keep-alive is \
         asked for"]),
    (GET, "User-Agent: kube-probe/1.31\r\n",
     &["User-Agent \"kube-probe/1.31\" is a health check: no random delay and no injected error"]),
    (GET, "User-Agent: not a kube-probe/1.31\r\n", &[]),
    // Several at once stand in the table's order.
    ("GET //x HTTP/1.1", "User-Agent: Blackbox\r\na_b: 1\r\n",
     &["the field name a_b has an underscore: nginx and others drop it",
       "the path has parts that many proxies rewrite: //",
       "User-Agent \"Blackbox\" is a health check: no random delay and no injected error"]),
    // What curl, a browser, and a browser behind a careful proxy send.
    ("GET /a?b=c HTTP/1.1", "User-Agent: curl/8.5.0\r\n", &[]),
    (GET, "Connection: keep-alive\r\nsec-ch-ua: \"Chromium\";v=\"120\"\r\nsec-ch-ua-mobile: ?0\r\n\
         Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nSec-Fetch-Site: none\r\n\
         Accept-Encoding: gzip, deflate, br\r\nAccept-Language: de,en;q=0.9\r\nCookie: a_b=c\r\n",
     &[]),
    ("GET /a HTTP/1.1",
     "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Host: test\r\nX-Forwarded-Proto: https\r\nX-Real-Ip: 203.0.113.7\r\n\
         Forwarded: for=203.0.113.7;host=test;proto=https\r\nVia: 2.0 edge\r\nUser-Agent: Mozilla/5.0\r\n",
     &[]),
];

#[track_caller]
fn check(server: &Server, (line, fields, notes): &Case) {
    let ask = |accept: &str| {
        let mut client = Client::new(server);
        let peer = client.stream.local_addr().expect("it is connected");
        let response = client.call_raw(format!("{line}\r\nHost: test\r\n{accept}{fields}\r\n"));
        assert_eq!(response.status, 200, "{line} {fields:?}: {response}");
        let expected = notes
            .iter()
            .map(|note| note.replace("PEER", &peer.to_string()))
            .collect::<Vec<_>>();
        (response, expected)
    };
    let (response, expected) = ask("");
    let text = response.text();
    let facts = text.split("\n\n").next().unwrap_or_default();
    let found: Vec<_> = facts
        .lines()
        .filter_map(|line| line.strip_prefix("note: "))
        .collect();
    assert_eq!(found, expected, "{line} {fields:?} as text");
    // A client that names JSON before its other types still gets the notes of the other fields.
    if !fields.contains("Accept: ") {
        let (response, expected) = ask("Accept: application/json\r\n");
        assert_eq!(
            response.json()["notes"],
            json!(expected),
            "{line} {fields:?} as JSON"
        );
    }
}

#[test]
fn each_note_stands_where_it_is_deserved_and_nowhere_else() {
    let server = Server::start(&[]);
    for case in UNTRUSTED {
        check(&server, case);
    }
    let server = Server::start(&["--trusted-proxies", "127.0.0.0/8"]);
    for case in TRUSTED {
        check(&server, case);
    }
}

/// The manual has a table with a request for each note.
#[test]
fn the_manual_shows_each_note() {
    let manual = include_str!("../proxies/README.md");
    let servers = [&[][..], &["--trusted-proxies", "127.0.0.0/8"]].map(Server::start);
    let (_, section) = manual.split_once("\n## Notes\n").expect("it has a section");
    let (section, _) = section.split_once("\n## ").expect("another one follows");
    let mut notes = 0;
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.split(" | ");
        let (arrives, note) = (cells.next().unwrap(), cells.next().unwrap());
        let pieces: Vec<&str> = arrives.split('`').skip(1).step_by(2).collect();
        let (line, fields) = match pieces.split_first() {
            Some((line, fields)) if line.starts_with("GET ") => (*line, fields),
            _ => (GET, &pieces[..]),
        };
        // Each field ends with a line end.
        let fields = [fields, &[""]].concat().join("\r\n");
        let server = &servers[usize::from(!note.contains("trusted-proxies"))];
        let mut client = Client::new(server);
        let peer = client.stream.local_addr().expect("it is connected");
        let response = client.call_raw(format!("{line}\r\nHost: test\r\n{fields}\r\n"));
        let text = response.text();
        let found: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("note: "))
            .collect();
        let expected = note.replace("10.0.0.5:43800", &peer.to_string());
        assert_eq!(found, [expected], "{arrives}");
        notes += 1;
    }
    assert_eq!(notes, 10, "a row for each note");
}

#[test]
fn a_value_cannot_break_out_of_its_note() {
    let server = Server::start(&[]);
    let fields = b"X-Forwarded-Host: a\",\"b\\\xfc<script>\r\nAccept: application/json\r\n";
    let request = [&b"GET / HTTP/1.1\r\nHost: test\r\n"[..], fields, b"\r\n"].concat();
    let notes = Client::new(&server).call_raw(request).json()["notes"].clone();
    let expected = "X-Forwarded-Host \"a\",\"b\\\u{fc}<script>\" differs from Host \"test\": a proxy rewrote Host";
    assert_eq!(notes, json!([expected]));
}
