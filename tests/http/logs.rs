//! The access log against hostile clients (DESIGN 3.7): no request can forge, break or flood a line, and no line has a
//! secret in it. Each line is read by a strict reader, in both formats.

use std::thread;

use crate::cases::find;
use crate::client::{Client, get};
use crate::json::Json;
use crate::refusals::{json_status, text_status};
use crate::support::{PATIENCE, Server};

/// A line that a client would like to see in the log.
const FORGED: &str = "127.0.0.1 - - [01/Jan/2026:00:00:00 +0000] \"GET /forged HTTP/1.1\" 200 5 \"-\" \"-\" level=info";

/// Requests whose bytes try to leave their place in a line, each answered once.
fn hostile() -> Vec<Vec<u8>> {
    let agent = |value: &[u8]| {
        [
            b"GET /x HTTP/1.1\r\nHost: a\r\nUser-Agent: ",
            value,
            b"\r\nConnection: close\r\n\r\n",
        ]
        .concat()
    };
    let mut requests = vec![
        agent(b"\" 500 0 \"-\" \"x"),
        agent(b"\\"),
        agent(b"\\\" forged=\"1"),
        agent(b"ends with a backslash \\"),
        agent(b"\",\"status\":999,\"x\":\""),
        agent(b"}\\n{\"level\":\"error\"}"),
        agent(b"\\u000a\\x0a%0a"),
        agent(b"\xff\xfe\x80"),
        agent(b"\xc2\x85 next line, \xe2\x80\xa8 line separator, \xe2\x80\xae right to left"),
        agent(b"\xc2\x9b31m a C1 control sequence"),
        agent(b"\xed\xa0\x80 a surrogate"),
        agent(b"tab\there"),
        agent(b" level=error status=500"),
        b"GET /\"'\\`{}|<>^ HTTP/1.1\r\nHost: a\r\nReferer: \"\\\xff\r\nConnection: close\r\n\r\n".to_vec(),
        b"\\\" / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"\"\\n\x1b[2J\x07\x00 / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"\xff\xfe\xfd\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: \"\\x\r\nX-Request-Id: \" x=\\\r\nConnection: close\r\n\r\n"
            .to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 00-\"\\-1-1\r\nConnection: close\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: one\r\nUser-Agent: two\r\nConnection: close\r\n\r\n".to_vec(),
    ];
    for end in [
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\r\n\r\n\r\n",
        "\u{2028}",
        "\u{85}",
        "\0",
        "\x0b",
        "\x0c",
    ] {
        requests.push(format!("GET /{end}{FORGED}{end}\r\n\r\n").into_bytes());
        requests.push(format!("{FORGED}{end}{FORGED}\r\n\r\n").into_bytes());
        requests.push(
            format!("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: {end}{FORGED}{end}\r\nConnection: close\r\n\r\n")
                .into_bytes(),
        );
    }
    requests
}

/// Sends each request, counts the answers, and returns as many lines of the log, each of which must be sound.
fn logged(server: &Server, status_of: fn(&str) -> Result<u16, String>) -> Vec<String> {
    let mut statuses = Vec::new();
    for request in hostile() {
        let mut client = Client::new(server.connect());
        client.send(&request).unwrap();
        client.end().unwrap();
        while let Ok(answer) = client.answer(false) {
            statuses.push(answer.status);
        }
    }
    let count = |bytes: &[u8]| bytes.split(|&byte| byte == b'\n').count() - 1;
    server
        .stdout
        .wait_until(PATIENCE / 4, |bytes| count(bytes) >= statuses.len());
    let bytes = server.stdout.bytes();
    let text = String::from_utf8(bytes).expect("the log is UTF-8");
    let lines: Vec<_> = text.split_terminator('\n').map(str::to_owned).collect();
    let found: Vec<_> = lines
        .iter()
        .map(|line| status_of(line).unwrap_or_else(|what| panic!("{what}")))
        .collect();
    assert_eq!(found, statuses, "one line for each answer, in order");
    assert!(statuses.len() >= 40, "only {} answers", statuses.len());
    lines
}

#[test]
fn no_request_forges_a_line_of_text() {
    let server = Server::start(&["--trusted-proxies", "127.0.0.0/8"]);
    for line in logged(&server, text_status) {
        let from = line.find(FORGED);
        assert!(from != Some(0), "{line}");
        assert!(
            !line.contains(['\u{2028}', '\u{2029}', '\u{85}', '\u{9b}']),
            "{line:?}"
        );
    }
}

#[test]
fn no_request_forges_a_line_of_json() {
    let server = Server::start(&["--log-format", "json", "--trusted-proxies", "127.0.0.0/8"]);
    let agents: Vec<_> = logged(&server, json_status)
        .iter()
        .map(|line| {
            Json::read(line.as_bytes())
                .unwrap()
                .text("user_agent")
                .to_owned()
        })
        .collect();
    for whole in [
        "\" 500 0 \"-\" \"x",
        "\\\" forged=\"1",
        "}\\n{\"level\":\"error\"}",
        "ends with a backslash \\",
        "tab\there",
    ] {
        assert!(
            agents.iter().any(|agent| agent == whole),
            "{whole:?} is not in {agents:?}"
        );
    }
}

#[test]
fn secrets_are_not_logged() {
    for format in ["text", "json"] {
        let mut server = Server::start(&["--log-format", format, "--log-level", "debug"]);
        let fields = "Authorization: Bearer hunter2\r\nCookie: session=hunter2\r\nProxy-Authorization: Basic hunter2\r\n";
        let mut client = Client::new(server.connect());
        for start in [
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "GET /healthz HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n",
        ] {
            client.send(format!("{start}{fields}\r\n")).unwrap();
            client.answer(false).unwrap();
        }
        server.stop();
        let printed = server.stdout.text() + &server.stderr.text();
        assert!(
            printed.matches("healthz").count() >= 2 && printed.contains("400"),
            "{printed}"
        );
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}

#[test]
fn a_line_is_bounded() {
    for format in ["text", "json"] {
        let server = Server::start(&["--log-format", format]);
        // A byte that needs the longest escape, so that a bound before escaping is seen too.
        let wide = "\u{1}\u{1}".replace('\u{1}', "\\\"");
        let request = format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\nUser-Agent: {}\r\nReferer: {}\r\nX-Request-Id: {}\r\nConnection: close\r\n\r\n",
            "\"".repeat(7_000),
            wide.repeat(2_000),
            wide.repeat(2_000),
            "i".repeat(2_000),
        );
        let mut client = Client::new(server.connect());
        client.send(request).unwrap();
        let answer = client.answer(false).unwrap();
        assert_eq!(answer.status, 200, "{answer}");
        server
            .stdout
            .wait_until(PATIENCE, |bytes| bytes.ends_with(b"\n"));
        let line = server.stdout.text();
        let status = if format == "json" {
            json_status
        } else {
            text_status
        };
        assert_eq!(status(line.trim_end()), Ok(200));
        assert!(line.len() <= 12_000, "a line of {} bytes", line.len());
    }
}

#[test]
fn garbage_without_end_is_one_bounded_line() {
    let server = Server::start(&[]);
    let mut client = Client::new(server.connect());
    client.send(vec![0xff; 10_000]).unwrap();
    assert!(client.answer(false).unwrap().closes());
    assert!(
        server
            .stdout
            .wait_until(PATIENCE, |bytes| bytes.ends_with(b"\n"))
    );
    let text = server.stdout.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.len() <= 12_000, "a line of {} bytes", text.len());
    text_status(text.trim_end()).unwrap();
}

#[test]
fn a_request_id_is_kept_or_made_and_never_forged() {
    let server = Server::start(&["--log-format", "json"]);
    let long = "i".repeat(5_000);
    let sent = [
        "plain-token_1.2",
        "a b",
        "\"",
        "a\\",
        "\u{e9}",
        "",
        long.as_str(),
        "a\"b",
        "<x>",
    ];
    for (number, id) in sent.into_iter().enumerate() {
        let mut client = Client::new(server.connect());
        client
            .send(format!(
                "GET /id/{number}/ HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n\r\n"
            ))
            .unwrap();
        let answer = client.answer(false).unwrap();
        let ids = answer.values("x-request-id");
        assert_eq!(ids.len(), 1, "{answer}");
        let given = String::from_utf8_lossy(ids[0]).into_owned();
        assert_eq!(given == id, number == 0, "{id:?} became {given:?}");
        assert!(
            !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_graphic()),
            "{given:?}"
        );
        let line = server
            .stdout
            .wait_line(&format!("/id/{number}/"), PATIENCE)
            .unwrap();
        assert_eq!(
            Json::read(line.as_bytes()).unwrap().text("request_id"),
            given
        );
    }
}

#[test]
fn a_trace_id_is_logged_only_from_a_valid_traceparent() {
    let server = Server::start(&["--log-format", "json"]);
    let id = "0af7651916cd43dd8448eb211c80319c";
    let parents = [
        (format!("00-{id}-b7ad6b7169203331-01"), true),
        (
            format!("00-{}-b7ad6b7169203331-01", id.to_uppercase()),
            false,
        ),
        (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), false),
        (format!("00-{id}-0000000000000000-01"), false),
        (format!("ff-{id}-b7ad6b7169203331-01"), false),
        (format!("00-{id}-b7ad6b7169203331"), false),
        (format!("00-{id}-b7ad6b7169203331-01-x"), false),
        (format!("00-{id}x-b7ad6b7169203331-01"), false),
        ("x".to_owned(), false),
    ];
    for (number, (parent, valid)) in parents.iter().enumerate() {
        let mut client = Client::new(server.connect());
        client
            .send(format!(
                "GET /trace/{number}/ HTTP/1.1\r\nHost: a\r\ntraceparent: {parent}\r\n\r\n"
            ))
            .unwrap();
        client.answer(false).unwrap();
        let line = server
            .stdout
            .wait_line(&format!("/trace/{number}/"), PATIENCE)
            .unwrap();
        let logged = Json::read(line.as_bytes())
            .unwrap()
            .text("trace_id")
            .to_owned();
        assert_eq!(logged, if *valid { id } else { "" }, "{parent}");
    }
}

#[test]
fn lines_of_many_connections_do_not_mix() {
    const THREADS: usize = 8;
    const REQUESTS: usize = 150;
    let server = Server::start(&["--log-format", "json"]);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let server = &server;
            let work = move || {
                let mut client = Client::new(server.connect());
                for number in 0..REQUESTS {
                    client.send(get(&format!("/{thread}/{number}/"))).unwrap();
                    let answer = client.answer(false).unwrap();
                    assert!(
                        find(&answer.body, format!("GET /{thread}/{number}/ ").as_bytes())
                            .is_some(),
                        "{answer}"
                    );
                }
            };
            thread::Builder::new().spawn_scoped(scope, work).unwrap();
        }
    });
    let count = |bytes: &[u8]| bytes.split(|&byte| byte == b'\n').count() - 1;
    assert!(
        server
            .stdout
            .wait_until(PATIENCE, |bytes| count(bytes) >= THREADS * REQUESTS)
    );
    let text = server.stdout.text();
    let mut targets: Vec<_> = text
        .lines()
        .map(|line| {
            Json::read(line.as_bytes())
                .unwrap()
                .text("target")
                .to_owned()
        })
        .collect();
    targets.sort();
    targets.dedup();
    assert_eq!(
        (targets.len(), text.lines().count()),
        (THREADS * REQUESTS, THREADS * REQUESTS)
    );
    assert!(server.metric("access_log_lines_total") >= 1_200.0);
}

#[test]
fn the_bytes_of_a_line_are_those_of_the_answer() {
    let server = Server::start(&["--log-format", "json"]);
    let mut client = Client::new(server.connect());
    for (target, to_head) in [
        ("GET /bytes/1000", false),
        ("HEAD /bytes/1001", true),
        ("GET /bytes/70000?chunked", false),
    ] {
        client
            .send(format!("{target} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .unwrap();
        let answer = client.answer(to_head).unwrap();
        let line = server
            .stdout
            .wait_line(target.split(' ').nth(1).unwrap(), PATIENCE)
            .unwrap();
        let bytes: usize = Json::read(line.as_bytes())
            .unwrap()
            .text("bytes")
            .parse()
            .unwrap();
        let range = answer.body.len()..=answer.body.len() + answer.head.len() + 100;
        assert!(
            range.contains(&bytes),
            "{target}: {bytes} is not in {range:?}"
        );
    }
}
