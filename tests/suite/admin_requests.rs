//! `GET /admin/requests`: the last 64 requests, for callers that cannot show their response, such as webhooks. No
//! secret stands in it, and without a token nothing is kept.

use serde_json::Value;

use crate::support::server::TOKEN;
use crate::support::{Client, Server};

/// The requests, the last one first.
#[track_caller]
fn requests(server: &Server) -> Vec<Value> {
    let response = server.admin("GET", "requests", "");
    assert_eq!(
        (response.status, response.field("content-type")),
        (200, "application/json")
    );
    response.json().as_array().expect("a list").clone()
}

#[test]
fn a_webhook_is_seen_with_its_head_and_body() {
    let server = Server::start_admin(&["--trusted-proxies", "127.0.0.0/8"]);
    let fields = "X-Hook: one\r\nX-Forwarded-For: 203.0.113.7\r\nX-Latin: M\u{fc}\r\n";
    let hook = Client::new(&server).call("POST", "/hook?a=1", fields, "{\"id\":7}");
    assert_eq!(hook.status, 200);
    assert_eq!(
        Client::new(&server)
            .call("PUT", "/status/503", "", "\"")
            .status,
        503
    );
    let seen = requests(&server);
    assert_eq!(
        seen.len(),
        2,
        "this request itself is not over yet: {seen:?}"
    );
    let [failed, hook] = &seen[..] else { panic!() };
    assert_eq!(
        (&failed["status"], &failed["body"]),
        (&503.into(), &"\"".into())
    );
    assert_eq!(
        (&hook["status"], &hook["body"]),
        (&200.into(), &"{\"id\":7}".into())
    );
    assert_eq!(hook["client"], "203.0.113.7");
    let head = hook["head"].as_str().expect("a text");
    assert!(
        head.starts_with("POST /hook?a=1 HTTP/1.1\r\nHost: test\r\nX-Hook: one\r\n"),
        "{head:?}"
    );
    assert!(head.contains("X-Latin: M\u{fc}\r\n"), "{head:?}");
    let time = hook["time"].as_str().expect("a text");
    assert!(
        time.len() == 24 && time.ends_with('Z') && time.as_bytes()[10] == b'T',
        "{time}"
    );
    assert!(
        hook["duration"]
            .as_f64()
            .is_some_and(|duration| duration < 60.0),
        "{hook}"
    );
}

#[test]
fn secrets_are_shown_by_their_lengths() {
    let server = Server::start_admin(&[]);
    let secrets = "Authorization: Basic c2VjcmV0\r\nCOOKIE: session=hidden\r\nCookie: more=hidden2\r\n\
                   Proxy-Authorization: Bearer hidden3\r\nX-Cookie: shown\r\n";
    Client::new(&server).call("GET", "/", secrets, "");
    requests(&server);
    let seen = requests(&server);
    let text = serde_json::to_string(&seen).expect("it is JSON");
    assert!(
        !text.contains("hidden") && !text.contains("c2VjcmV0") && !text.contains(TOKEN),
        "{text}"
    );
    let head = seen[1]["head"].as_str().expect("a text");
    for line in [
        "Authorization: (14 bytes)",
        "COOKIE: (14 bytes)",
        "Cookie: (12 bytes)",
        "Proxy-Authorization: (14 bytes)",
        "X-Cookie: shown",
    ] {
        assert!(
            head.contains(&format!("\r\n{line}\r\n")),
            "{line}: {head:?}"
        );
    }
    let own = seen[0]["head"].as_str().expect("a text");
    let shown = format!(
        "Authorization: ({} bytes)\r\n",
        "Bearer ".len() + TOKEN.len()
    );
    assert!(
        own.starts_with("GET /admin/requests ") && own.contains(&shown),
        "{own:?}"
    );
}

#[test]
fn the_last_64_are_kept_and_each_is_bounded() {
    let server = Server::start_admin(&["--max-head", "64KiB"]);
    let mut client = Client::new(&server);
    for number in 0..70 {
        assert_eq!(client.get(&format!("/{number}")).status, 200);
    }
    let seen = requests(&server);
    let targets: Vec<_> = seen
        .iter()
        .map(|seen| seen["head"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(targets.len(), 64);
    for (head, number) in targets.iter().zip((6..70).rev()) {
        assert!(
            head.starts_with(&format!("GET /{number} HTTP/1.1\r\n")),
            "{head:?}"
        );
    }
    let long = format!("X-Long: {}\r\n", "l".repeat(7000));
    client.call("POST", "/", &long.repeat(4), &"b".repeat(5000));
    let last = &requests(&server)[0];
    let size = |name: &str| last[name].as_str().map(str::len);
    assert_eq!((size("head"), size("body")), (Some(8192), Some(1024)));
    // Bytes that are no text do not break the JSON.
    let binary = [
        &b"POST / HTTP/1.1\r\nHost: test\r\nX-Any: \xff\"\r\nContent-Length: 4\r\n\r\n"[..],
        b"\xff\0\"\\",
    ]
    .concat();
    client.call_raw(binary);
    assert_eq!(requests(&server)[0]["body"], "\u{ff}\0\"\\");
}

#[test]
fn refusals_of_a_route_are_kept_and_those_of_the_syntax_are_not() {
    let guarded = Server::start_admin(&[]);
    for fields in ["", "Authorization: Bearer wrong\r\n"] {
        Client::new(&guarded).call("GET", "/admin/requests", fields, "");
    }
    for method in ["POST", "PUT", "DELETE"] {
        guarded.admin(method, "requests", "");
    }
    // What was refused for its syntax is no request; 401 and 405 are.
    let mut client = Client::new(&guarded);
    assert_eq!(
        client.call_raw("GET / HTTP/1.1\r\nHost : a\r\n\r\n").status,
        400
    );
    let seen = requests(&guarded);
    let statuses: Vec<_> = seen.iter().map(|seen| &seen["status"]).collect();
    assert_eq!(statuses, [405, 405, 405, 401, 401]);
    let echoed = Server::start(&[]).get("/admin/requests");
    assert!(
        echoed.status == 200 && echoed.text().contains("target: /admin/requests\n"),
        "{echoed}"
    );
}
