//! The access log and the diagnostics: their content in both formats, their levels, whose address they show, and
//! that no client can forge or break a line and no reader can lose one or hold the server up.
//!
//! Lines are taken apart by a splitter of this file that knows only the rules of the combined format, and JSON by
//! `serde_json`, so a line that some log tool could misread fails here.

mod support;
#[path = "support/load.rs"]
mod tools;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::{Output, PATIENCE, Server};
use tools::{Client, Unread, account, in_time, median_time, ms, pause};

const KEYS: [&str; 16] = [
    "time",
    "level",
    "client",
    "peer",
    "method",
    "target",
    "route",
    "protocol",
    "status",
    "bytes",
    "delay",
    "user_agent",
    "referrer",
    "request_id",
    "trace_id",
    "duration",
];

/// Splits a line of the combined format at the spaces outside quotes and brackets; a backslash guards the next byte.
#[track_caller]
fn tokens(line: &str) -> Vec<String> {
    let (mut tokens, mut token, mut quoted, mut guarded) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (c, quoted) {
            _ if guarded => guarded = false,
            ('\\', _) => guarded = true,
            (' ', None) => {
                tokens.push(std::mem::take(&mut token));
                continue;
            }
            ('"', None) => quoted = Some('"'),
            ('[', None) => quoted = Some(']'),
            (c, Some(close)) if c == close => quoted = None,
            _ => {}
        }
        token.push(c);
    }
    assert!(quoted.is_none() && !guarded, "an open quote in: {line}");
    tokens.push(token);
    tokens
}

/// Asserts that a text line has the shape of the contract and gives its parts.
#[track_caller]
fn text_line(line: &str) -> Vec<String> {
    assert!(
        line.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
        "printable ASCII alone: {line:?}"
    );
    let tokens = tokens(line);
    assert_eq!(tokens.len(), 16, "sixteen parts in: {line}");
    assert_eq!(tokens[1..3], ["-", "-"], "{line}");
    assert!(
        tokens[3].len() == 28 && tokens[3].ends_with(" +0000]"),
        "{line}"
    );
    for part in [&tokens[4], &tokens[7], &tokens[8]] {
        assert!(
            part.len() >= 2 && part.starts_with('"') && part.ends_with('"'),
            "{part} in: {line}"
        );
    }
    let names = [
        "level=",
        "peer=",
        "route=",
        "delay=",
        "request_id=",
        "trace_id=",
        "duration=",
    ];
    for (token, name) in tokens[9..].iter().zip(names) {
        assert!(
            token.starts_with(name) && token.len() > name.len(),
            "{name} in: {line}"
        );
    }
    tokens
}

/// Asserts that a line is one flat JSON object with the contract's keys in their order and the right types.
#[track_caller]
fn json_line(line: &str) -> Value {
    assert!(
        line.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
        "printable ASCII alone: {line:?}"
    );
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let object = value.as_object().expect("an object");
    assert_eq!(object.len(), KEYS.len(), "{line}");
    let mut from = 0;
    for key in KEYS {
        let at = line[from..]
            .find(&format!("\"{key}\":"))
            .unwrap_or_else(|| panic!("{key} in its place in: {line}"));
        from += at;
        let numeric = ["status", "bytes", "delay", "duration"].contains(&key);
        assert_eq!(object[key].is_number(), numeric, "{key} in: {line}");
        assert!(numeric || object[key].is_string(), "{key} in: {line}");
    }
    value
}

/// Stops a server and gives the lines of its access log.
#[track_caller]
fn lines(mut server: Server) -> Vec<String> {
    assert_eq!(server.stop().code(), Some(0));
    let text = server.stdout.text();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line is whole"
    );
    text.lines().map(str::to_owned).collect()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// One request with everything that the log shows.
#[track_caller]
fn full_request(server: &Server) -> (tools::Answer, String) {
    let mut client = Client::new(server);
    client.send(format!(
        "GET /x?y=1 HTTP/1.1\r\nHost: test\r\nUser-Agent: curl/8.5\r\nReferer: http://a.test/b\r\n\
         X-Request-Id: req-42.A_b\r\ntraceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n\r\n"
    ));
    let answer = client.answer().expect("an answer");
    (
        answer,
        client.stream.local_addr().expect("it has one").to_string(),
    )
}

#[test]
fn a_text_line_is_the_combined_format_and_more() {
    let server = Server::start(&["--delay-min", "50ms", "--delay-max", "50ms"]);
    let (answer, peer) = full_request(&server);
    assert_eq!(answer.header("x-request-id"), Some("req-42.A_b"));
    let lines = lines(server);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let tokens = text_line(&lines[0]);
    assert_eq!(tokens[0], "127.0.0.1");
    let date = answer.header("date").expect("a date");
    let minute = format!(
        "[{}/{}/{}:{}",
        &date[5..7],
        &date[8..11],
        &date[12..16],
        &date[17..22]
    );
    assert!(
        tokens[3].starts_with(&minute),
        "{} and Date: {date}",
        tokens[3]
    );
    let bytes = (answer.head.len() + answer.body.len()).to_string();
    let request = [
        "\"GET /x?y=1 HTTP/1.1\"",
        "200",
        &bytes,
        "\"http://a.test/b\"",
        "\"curl/8.5\"",
        "level=info",
    ];
    assert_eq!(tokens[4..10], request);
    assert_eq!(tokens[10], format!("peer={peer}"));
    assert_eq!(tokens[11], "route=echo");
    let number = |token: &str| {
        token
            .split_once('=')
            .and_then(|(_, number)| number.parse::<f64>().ok())
    };
    let (delay, duration) = (
        number(&tokens[12]).expect("seconds"),
        number(&tokens[15]).expect("seconds"),
    );
    assert!(
        (0.05..0.06).contains(&delay) && duration >= delay && duration < 1.0,
        "{}",
        lines[0]
    );
    assert_eq!(tokens[13], "request_id=req-42.A_b");
    assert_eq!(tokens[14], format!("trace_id={TRACE}"));
}

#[test]
fn a_json_line_says_the_same() {
    let server = Server::start(&[
        "--delay-min",
        "50ms",
        "--delay-max",
        "50ms",
        "--log-format",
        "json",
    ]);
    let (answer, peer) = full_request(&server);
    let lines = lines(server);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let value = json_line(&lines[0]);
    let strings = [
        ("level", "info"),
        ("client", "127.0.0.1"),
        ("peer", &peer),
        ("method", "GET"),
        ("target", "/x?y=1"),
        ("route", "echo"),
        ("protocol", "HTTP/1.1"),
        ("user_agent", "curl/8.5"),
        ("referrer", "http://a.test/b"),
        ("request_id", "req-42.A_b"),
        ("trace_id", TRACE),
    ];
    for (key, expected) in strings {
        assert_eq!(value[key], expected, "{key}");
    }
    assert_eq!(
        (&value["status"], &value["bytes"]),
        (
            &Value::from(200),
            &Value::from(answer.head.len() + answer.body.len())
        )
    );
    let (delay, duration) = (
        value["delay"].as_f64().expect("a number"),
        value["duration"].as_f64().expect("a number"),
    );
    assert!(
        (0.05..0.06).contains(&delay) && duration >= delay && duration < 1.0,
        "{}",
        lines[0]
    );
    let time = value["time"].as_str().expect("a string");
    assert!(
        time.len() == 24 && &time[10..11] == "T" && time.ends_with('Z') && &time[19..20] == ".",
        "{time}"
    );
    let date = answer.header("date").expect("a date");
    assert_eq!(
        (&time[8..10], &time[11..16]),
        (&date[5..7], &date[17..22]),
        "{time} and Date: {date}"
    );
}

#[test]
fn what_is_absent_is_a_dash_or_empty() {
    for format in ["text", "json"] {
        let server = Server::start(&["--log-format", format]);
        let answer = Client::new(&server).get("/");
        let made = answer
            .header("x-request-id")
            .expect("an id is made")
            .to_owned();
        let line = lines(server).remove(0);
        if format == "json" {
            let value = json_line(&line);
            assert_eq!(
                [&value["user_agent"], &value["referrer"], &value["trace_id"]],
                ["", "", ""]
            );
            assert_eq!(value["request_id"], made.as_str());
        } else {
            let tokens = text_line(&line);
            assert_eq!(
                [&tokens[7], &tokens[8], &tokens[14]],
                ["\"-\"", "\"-\"", "trace_id=-"]
            );
            assert_eq!(tokens[13], format!("request_id={made}"));
        }
    }
}

/// In order; lines of different connections may be written in another order than their answers.
fn sorted(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut items: Vec<String> = items.collect();
    items.sort();
    items
}

/// Requests that try to break a line, a header or the JSON, with the status that each must get.
fn hostile() -> Vec<(u16, Vec<u8>)> {
    let field = |name: &str, value: &[u8]| {
        [
            format!("GET /h HTTP/1.1\r\nHost: t\r\n{name}: ").as_bytes(),
            value,
            b"\r\n\r\n",
        ]
        .concat()
    };
    let target = |target: &[u8]| [b"GET ", target, b" HTTP/1.1\r\nHost: t\r\n\r\n"].concat();
    let mut all: Vec<(u16, Vec<u8>)> = Vec::new();
    for good in [
        &b"/\"quoted\""[..],
        b"/back\\slash\\",
        b"/'{\"a\":1}|[",
        b"/%0d%0a%00",
        b"/\\\" 200",
    ] {
        let bad = good.contains(&b' ');
        all.push((if bad { 400 } else { 200 }, target(good)));
    }
    for bad in [
        &b"/\x1b[31m"[..],
        b"/\xff\xfe",
        b"/\x00",
        b"/\x7f",
        b"/\xc3\xa9",
        b"/a\tb",
        b"/a\rb",
        b"/a\nb",
    ] {
        all.push((400, target(bad)));
    }
    let forged =
        b"x\" level=error peer=6.6.6.6:6 route=none delay=0 request_id=1 trace_id=- duration=9";
    for name in [
        "User-Agent",
        "Referer",
        "X-Request-Id",
        "traceparent",
        "X-Forwarded-For",
    ] {
        for good in [
            &forged[..],
            b"\\",
            b"\\\"",
            b"\xff\xfe\x80",
            b"caf\xc3\xa9",
            b"a\tb",
            b"\",\"status\":999,\"x\":\"",
        ] {
            all.push((200, field(name, good)));
        }
        for bad in [&b"a\x1b[2J"[..], b"a\x00b", b"a\rb", b"a\nb", b"a\x7fb"] {
            all.push((400, field(name, bad)));
        }
    }
    all.push((
        400,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\"\\\r\n\r\n".to_vec(),
    ));
    all.push((400, b"GET / HTTP/1.1\nHost: t\n\n".to_vec()));
    all.push((505, b"GET / HTTP/9.9\r\nHost: t\r\n\r\n".to_vec()));
    all.push((400, b"\"\"\" \\ \"\r\n\r\n".to_vec()));
    all
}

#[test]
fn no_request_forges_or_breaks_a_line() {
    for format in ["text", "json"] {
        let server = Server::start(&["--log-format", format, "--trusted-proxies", "127.0.0.0/8"]);
        let hostile = hostile();
        for (status, request) in &hostile {
            let mut client = Client::new(&server);
            client.send(request);
            let answer = client
                .answer()
                .unwrap_or_else(|error| panic!("{error}: {}", request.escape_ascii()));
            assert_eq!(answer.status, *status, "{}", request.escape_ascii());
            let clean = |c: char| c == '\r' || c == '\n' || !c.is_ascii_control() || c == '\t';
            assert!(
                answer.head.chars().all(clean),
                "a control byte in: {:?}",
                answer.head
            );
        }
        let lines = lines(server);
        assert_eq!(
            lines.len(),
            hostile.len(),
            "{format}: one line for each answer"
        );
        let status = |line: &String| {
            if format == "json" {
                return json_line(line)["status"].to_string();
            }
            let tokens = text_line(line);
            assert!(
                tokens[9] != "level=error" && tokens[10].starts_with("peer=127.0.0.1:"),
                "{line}"
            );
            tokens[5].clone()
        };
        let expected = hostile.iter().map(|(status, _)| status.to_string());
        assert_eq!(
            sorted(lines.iter().map(status)),
            sorted(expected),
            "{format}"
        );
    }
}

#[test]
fn a_request_that_was_no_request_shows_its_first_line() {
    let server = Server::start(&["--log-format", "json"]);
    let mut client = Client::new(&server);
    client.send(b"NO SUCH\xff\"THING\r\nHost: t\r\n\r\n");
    assert_eq!(client.answer().expect("an answer").status, 400);
    let value = json_line(&lines(server)[0]);
    let target = value["target"].as_str().expect("a string");
    assert!(
        target.starts_with("NO SUCH") && target.contains("THING") && !target.contains("Host"),
        "{value}"
    );
    assert_eq!(
        (&value["route"], &value["status"]),
        (&Value::from("none"), &Value::from(400))
    );
}

#[test]
fn what_a_client_chooses_is_bounded() {
    for format in ["text", "json"] {
        let server = Server::start(&["--log-format", format]);
        let long = |length: usize| "\"".repeat(length);
        let mut client = Client::new(&server);
        client.send(format!(
            "GET /{} HTTP/1.1\r\nHost: t\r\nUser-Agent: {}\r\nReferer: {}\r\nX-Request-Id: {}\r\n\r\n",
            long(8000),
            long(8000),
            long(8000),
            "x".repeat(4000)
        ));
        assert_eq!(client.answer().expect("an answer").status, 200);
        let line = lines(server).remove(0);
        assert!(
            line.len() < 16_384,
            "{format}: a line of {} bytes",
            line.len()
        );
        if format == "json" {
            json_line(&line);
        } else {
            text_line(&line);
        }
    }
}

#[test]
fn credentials_are_never_logged() {
    let mut server = Server::start(&["--log-level", "debug"]);
    let mut client = Client::new(&server);
    client.send("GET / HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer hush-1\r\nCookie: sid=hush-2\r\nProxy-Authorization: hush-3\r\n\r\n");
    assert_eq!(client.answer().expect("an answer").status, 200);
    server.stop();
    let written = server.stdout.text() + &server.stderr.text();
    assert!(
        server.stdout.text().lines().count() == 1 && !written.contains("hush"),
        "{written}"
    );
}

#[test]
fn request_ids_are_kept_when_plain_and_made_otherwise() {
    let server = Server::start(&[]);
    let bad = [
        "a b",
        "a\"b",
        "",
        "\u{e9}",
        "a,b;c=\"d\"",
        &"x".repeat(2000),
    ];
    let mut seen = BTreeSet::new();
    let mut client = Client::new(&server);
    for sent in bad {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: t\r\nX-Request-Id: {sent}\r\n\r\n"
        ));
        let answer = client.answer().expect("an answer");
        let made = answer.header("x-request-id").expect("an id").to_owned();
        assert_ne!(made, sent);
        assert!(
            made.len() >= 16
                && made
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "{made}"
        );
        assert!(seen.insert(made), "each id is made once");
    }
    for good in ["a", "0123456789abcdef", "A-b_c.d~e"] {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: t\r\nX-Request-Id: {good}\r\n\r\n"
        ));
        let answer = client.answer().expect("an answer");
        let ids: Vec<&str> = answer
            .head
            .lines()
            .filter(|line| line.to_ascii_lowercase().starts_with("x-request-id:"))
            .collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!(answer.header("x-request-id"), Some(good));
    }
    drop(client);
    let log = lines(server).join("\n");
    assert!(
        seen.iter()
            .all(|made| log.contains(&format!("request_id={made} "))),
        "{log}"
    );
}

#[test]
fn trace_ids_come_from_a_valid_traceparent_alone() {
    let server = Server::start(&[]);
    let (parent, flags) = ("b7ad6b7169203331", "01");
    let table = [
        (format!("00-{TRACE}-{parent}-{flags}"), TRACE),
        (format!("01-{TRACE}-{parent}-{flags}-future"), TRACE),
        (format!("ff-{TRACE}-{parent}-{flags}"), "-"),
        (format!("00-{}-{parent}-{flags}", "0".repeat(32)), "-"),
        (format!("00-{TRACE}-{}-{flags}", "0".repeat(16)), "-"),
        (format!("00-{}-{parent}-{flags}", TRACE.to_uppercase()), "-"),
        (format!("00-{TRACE}-{parent}"), "-"),
        (format!("00-{TRACE}-{parent}-{flags}-more"), "-"),
        (format!("00-{}-{parent}-{flags}", &TRACE[1..]), "-"),
        (format!("00_{TRACE}_{parent}_{flags}"), "-"),
        ("nonsense".to_owned(), "-"),
    ];
    let mut client = Client::new(&server);
    for (sent, _) in &table {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: t\r\ntraceparent: {sent}\r\n\r\n"
        ));
        assert_eq!(client.answer().expect("an answer").status, 200);
    }
    drop(client);
    let lines = lines(server);
    assert_eq!(lines.len(), table.len());
    for (line, (sent, expected)) in lines.iter().zip(&table) {
        assert_eq!(
            text_line(line)[14],
            format!("trace_id={expected}"),
            "{sent}"
        );
    }
}

#[test]
fn levels_choose_the_lines() {
    for (level, expected) in [("debug", 5), ("info", 2), ("warn", 1), ("error", 0)] {
        let server = Server::start_with(&["--error-rate", "1"], &[("ADMIN_TOKEN", "token")]);
        let fields = "Authorization: Bearer token\r\n";
        let set = Client::new(&server).call("PUT", "/admin/settings/log-level", fields, level);
        assert_eq!(set.status, 200, "{}", set.head);
        for (target, status) in [
            ("/healthz", 200),
            ("/readyz", 200),
            ("/metrics", 200),
            ("/status/404", 404),
            ("/", 500),
        ] {
            assert_eq!(server.get(target).0, status, "{target}");
        }
        let mut lines = lines(server);
        lines.retain(|line| !line.contains("route=admin"));
        assert_eq!(lines.len(), expected, "{level}: {lines:?}");
        for line in &lines {
            let tokens = text_line(line);
            let expected = match tokens[11].as_str() {
                "route=healthz" | "route=readyz" | "route=metrics" => "level=debug",
                "route=echo" => "level=warn",
                _ => "level=info",
            };
            assert_eq!(tokens[9], expected, "{line}");
        }
    }
}

#[test]
fn the_level_of_the_start_holds_for_diagnostics() {
    for (level, silent) in [("error", true), ("warn", true), ("info", false)] {
        let mut command = Command::new("timeout");
        command.args([
            "--preserve-status",
            "1",
            env!("CARGO_BIN_EXE_httpserver"),
            "--listen",
            "127.0.0.1:0",
        ]);
        let output = command
            .env_clear()
            .env("LOG_LEVEL", level)
            .output()
            .expect("timeout(1) runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(
            output.stderr.is_empty(),
            silent,
            "{level}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn the_client_is_told_by_trusted_proxies_alone() {
    let trusted = "127.0.0.0/8,10.0.0.0/8,fd00::/8";
    let table: &[(&str, &[&str], &str)] = &[
        (trusted, &[], "127.0.0.1"),
        (trusted, &["203.0.113.7"], "203.0.113.7"),
        (trusted, &["203.0.113.7, 10.1.2.3"], "203.0.113.7"),
        (
            trusted,
            &["198.51.100.1,203.0.113.7 , 10.1.2.3"],
            "203.0.113.7",
        ),
        (
            trusted,
            &["198.51.100.1", "203.0.113.7, 10.0.0.1"],
            "203.0.113.7",
        ),
        (trusted, &["203.0.113.7", "10.0.0.1"], "203.0.113.7"),
        (trusted, &["2001:db8::1, fd00::5"], "2001:db8::1"),
        (trusted, &["::ffff:203.0.113.7"], "203.0.113.7"),
        (trusted, &["198.51.100.1, ::ffff:10.0.0.1"], "198.51.100.1"),
        (trusted, &["nonsense"], "127.0.0.1"),
        ("10.0.0.0/8", &["203.0.113.7"], "127.0.0.1"),
        ("127.0.0.1", &["203.0.113.7"], "203.0.113.7"),
        ("127.0.0.2/31", &["203.0.113.7"], "127.0.0.1"),
        ("127.0.0.0/30", &["203.0.113.7"], "203.0.113.7"),
        ("0.0.0.0/0", &["198.51.100.1, 203.0.113.7"], "198.51.100.1"),
        ("", &["203.0.113.7"], "127.0.0.1"),
    ];
    for (trusted, forwarded, client) in table {
        let server = Server::start(&["--trusted-proxies", trusted]);
        let fields: Vec<String> = forwarded
            .iter()
            .map(|value| format!("X-Forwarded-For: {value}\r\n"))
            .collect();
        let answer = Client::new(&server).call("GET", "/", &fields.concat(), "");
        assert!(
            answer.text().contains(&format!("client: {client}\n")),
            "{forwarded:?}: {}",
            answer.text()
        );
        let lines = lines(server);
        let tokens = text_line(&lines[0]);
        assert_eq!(tokens[0], *client, "{forwarded:?} behind {trusted}");
        assert!(
            tokens[10].starts_with("peer=127.0.0.1:"),
            "the peer is the peer: {}",
            lines[0]
        );
    }
}

#[test]
fn ipv4_over_ipv6_is_shown_and_trusted_as_ipv4() {
    if std::net::TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, 0)).is_err() {
        return tools::not_run("IPv4-mapped addresses", "this host has no IPv6");
    }
    for (trusted, host, client, peer) in [
        ("10.0.0.0/8", "127.0.0.1", "127.0.0.1", "peer=127.0.0.1:"),
        ("127.0.0.0/8", "127.0.0.1", "203.0.113.7", "peer=127.0.0.1:"),
        ("::1/128", "[::1]", "203.0.113.7", "peer=[::1]:"),
        ("127.0.0.0/8", "[::1]", "::1", "peer=[::1]:"),
    ] {
        let server = Server::start(&["--listen", "[::]:0", "--trusted-proxies", trusted]);
        let addr = format!("{host}:{}", server.addr.port())
            .parse()
            .expect("an address");
        let mut connection = Client::to(addr).expect("it accepts");
        let answer = connection.call("GET", "/", "X-Forwarded-For: 203.0.113.7\r\n", "");
        assert!(
            answer.text().contains(&format!("client: {client}\n")),
            "{}",
            answer.text()
        );
        drop(connection);
        let tokens = text_line(&lines(server)[0]);
        assert!(
            tokens[0] == client && tokens[10].starts_with(peer),
            "{tokens:?}"
        );
    }
}

#[test]
fn there_are_as_many_lines_as_answers() {
    let server = Server::start(&["--log-format", "json"]);
    thread::scope(|scope| {
        for number in 0..8 {
            let server = &server;
            scope_spawn(scope, move || {
                for round in 0..25 {
                    let mut client = Client::new(server);
                    for request in 0..5 {
                        let target = format!("/{number}/{round}/{request}");
                        assert_eq!(client.get(&target).status, 200);
                    }
                }
            });
        }
    });
    let all = server.stdout.wait_until(PATIENCE, |bytes| {
        bytes.split(|&byte| byte == b'\n').count() > 1000
    });
    assert!(all, "the lines are written while it runs");
    pause(ms(50));
    let counted = server.metric("access_log_lines_total");
    let lines = lines(server);
    let targets: BTreeSet<String> = lines
        .iter()
        .map(|line| json_line(line)["target"].to_string())
        .collect();
    assert_eq!(
        (lines.len(), targets.len()),
        (1000, 1000),
        "one line for each of 1000 requests"
    );
    assert!(
        (counted - 1000.0).abs() < f64::EPSILON,
        "access_log_lines_total {counted}"
    );
}

fn scope_spawn<'scope, 'env>(
    scope: &'scope thread::Scope<'scope, 'env>,
    run: impl FnOnce() + Send + 'scope,
) {
    thread::Builder::new()
        .spawn_scoped(scope, run)
        .expect("a client's thread starts");
}

#[test]
#[ignore = "needs curl"]
fn curl_gets_as_many_answers_as_there_are_lines() {
    if !tools::have("curl") {
        return tools::not_run("1000 requests by curl --parallel", "no curl");
    }
    let server = Server::start(&["--log-format", "json"]);
    let url = format!("http://{}/[1-1000]", server.addr);
    let mut curl = Command::new("curl");
    curl.args([
        "-sS",
        "--parallel",
        "--parallel-max",
        "50",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}\\n",
        &url,
    ]);
    let output = curl.stdin(Stdio::null()).output().expect("curl runs");
    let answers = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|code| *code == "200")
        .count();
    assert_eq!(answers, 1000, "{}", String::from_utf8_lossy(&output.stderr));
    let lines = lines(server);
    assert_eq!(lines.len(), 1000);
    for line in &lines {
        assert!(
            json_line(line)["user_agent"]
                .as_str()
                .expect("a string")
                .starts_with("curl/"),
            "{line}"
        );
    }
}

#[test]
fn refused_requests_have_a_line_too() {
    let server = Server::start(&[
        "--header-timeout",
        "300ms",
        "--body-timeout",
        "300ms",
        "--max-body",
        "10",
    ]);
    let head = |rest: &str| format!("POST / HTTP/1.1\r\nHost: t\r\n{rest}\r\n");
    let requests = [
        (400, head("Content-Length: x\r\n")),
        (413, head("Content-Length: 11\r\n")),
        (
            414,
            format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "x".repeat(9000)),
        ),
        (417, head("Expect: magic\r\n")),
        (
            431,
            format!(
                "GET / HTTP/1.1\r\nHost: t\r\n{}\r\n",
                "A: b\r\n".repeat(101)
            ),
        ),
        (501, head("Transfer-Encoding: gzip, chunked\r\n")),
        (505, "GET / HTTP/3.0\r\nHost: t\r\n\r\n".to_owned()),
        (408, "GET / HTTP/1.1\r\nHo".to_owned()),
        (408, head("Content-Length: 10\r\n") + "half"),
        (405, "TRACE / HTTP/1.1\r\nHost: t\r\n\r\n".to_owned()),
    ];
    for (status, request) in &requests {
        let mut client = Client::new(&server);
        client.send(request);
        assert_eq!(
            client.answer().expect("an answer").status,
            *status,
            "{request:.60}"
        );
    }
    let lines = lines(server);
    let statuses = sorted(lines.iter().map(|line| text_line(line)[5].clone()));
    assert_eq!(
        statuses,
        sorted(requests.iter().map(|(status, _)| status.to_string()))
    );
}

#[test]
fn diagnostics_have_both_formats() {
    let mut text = Server::start(&[]);
    text.stop();
    for line in text.stderr.text().lines() {
        let mut parts = line.splitn(3, ' ');
        let (time, level) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        assert!(
            time.len() == 24 && time.ends_with('Z') && ["info", "warn"].contains(&level),
            "{line}"
        );
        assert!(
            parts.next().is_some_and(|message| !message.is_empty()),
            "{line}"
        );
    }
    let mut json = Server::start(&["--log-format", "json"]);
    json.stop();
    for line in json.stderr.text().lines() {
        let value: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let object = value.as_object().expect("an object");
        assert!(
            object.len() == 3
                && line.starts_with("{\"time\":\"")
                && line.contains("\",\"level\":\""),
            "{line}"
        );
        assert!(object["message"].is_string(), "{line}");
    }
    assert_eq!(account(&json.stderr.text()).requests, 0);
}

#[test]
fn a_slow_reader_loses_nothing() {
    let mut server = Unread::start(&[], &[]);
    let mut client = Client::to(server.addr).expect("it accepts");
    let requests: u32 = 2000;
    for number in 0..requests {
        assert_eq!(client.get(&format!("/{number}")).status, 200);
    }
    drop(client);
    server.signal("TERM");
    pause(ms(300));
    let stdout = Output::collect(server.stdout.take().expect("not taken yet"));
    let stderr = Output::collect(server.stderr.take().expect("not taken yet"));
    assert_eq!(server.wait(PATIENCE).0.code(), Some(0));
    assert!(stdout.wait_end(PATIENCE) && stderr.wait_end(PATIENCE));
    let text = stdout.text();
    let targets: Vec<&str> = text
        .lines()
        .map(|line| line.split(' ').nth(6).unwrap_or_default())
        .collect();
    let expected: Vec<String> = (0..requests).map(|number| format!("/{number}")).collect();
    assert_eq!(targets, expected);
    assert_eq!(account(&stderr.text()).log_lines, u64::from(requests));
}

#[test]
fn a_closed_stdout_is_told_once_and_ends_nothing() {
    let mut server = Unread::start(&[], &[]);
    drop(server.stdout.take());
    let mut client = Client::to(server.addr).expect("it accepts");
    for _ in 0..5 {
        for _ in 0..20 {
            assert_eq!(client.get("/").status, 200);
        }
        pause(ms(20));
    }
    let metrics = client.get("/metrics").text();
    let errors = metrics
        .lines()
        .find_map(|line| line.strip_prefix("access_log_write_errors_total "));
    assert!(errors.is_some_and(|count| count != "0"), "{metrics}");
    drop(client);
    server.signal("TERM");
    let stderr = Output::collect(server.stderr.take().expect("not taken yet"));
    assert_eq!(server.wait(PATIENCE).0.code(), Some(0));
    assert!(stderr.wait_end(PATIENCE));
    let told = stderr
        .text()
        .lines()
        .filter(|line| line.to_lowercase().contains("broken pipe"))
        .count();
    assert_eq!(told, 1, "told once: {}", stderr.text());
}

/// Fills a stdout that nobody reads, until a request waits for room in the log.
#[track_caller]
fn fill_the_log(server: &Unread) -> Client {
    let mut client = Client::to(server.addr).expect("it accepts");
    let burst = tools::get(&format!("/{}", "x".repeat(1500))).repeat(4);
    let limit = Instant::now() + PATIENCE;
    while Instant::now() < limit {
        client.send(&burst);
        client
            .stream
            .set_read_timeout(Some(ms(700)))
            .expect("a time-out can be set");
        for _ in 0..4 {
            if client.answer().is_err() {
                return client;
            }
        }
    }
    panic!("the log's buffer is not bounded: no request waited in {PATIENCE:?}");
}

#[test]
fn a_stdout_that_nobody_reads_leaves_probes_prompt() {
    in_time(|| {
        // At debug the probes have lines too: if these waited for room, the few seats would soon be taken for ever.
        let args = [
            "--drain-timeout",
            "1s",
            "--log-level",
            "debug",
            "--max-connections",
            "16",
        ];
        let mut server = Unread::start(&args, &[]);
        let waiting = fill_the_log(&server);
        for _ in 0..3 {
            for target in ["/healthz", "/readyz", "/metrics"] {
                let time = median_time(server.addr, target, 200);
                assert!(time < ms(50), "{target} takes {time:?}");
            }
            pause(ms(500));
        }
        let start = Instant::now();
        server.signal("TERM");
        let stderr = Output::collect(server.stderr.take().expect("not taken yet"));
        let (status, _) = server.wait(PATIENCE);
        let time = start.elapsed();
        // The client that waits stays connected, so this takes the limit, the 500 ms for last answers and the log's second.
        assert!(
            time < ms(2600),
            "it ends within the drain's limit and a second: {time:?}"
        );
        assert_eq!(status.code(), Some(0));
        assert!(stderr.wait_end(PATIENCE));
        let account = account(&stderr.text());
        assert!(account.log_lines < account.requests, "{account:?}");
        drop(waiting);
    });
}

#[test]
fn a_stdout_that_is_read_again_frees_those_who_wait() {
    in_time(|| {
        let mut server = Unread::start(&[], &[]);
        let mut waiting = fill_the_log(&server);
        // A refusal is an answer like others: its line waits too. Some of these short ones still find room.
        let mut refused: Vec<Client> = (0..40)
            .map(|_| Client::to(server.addr).expect("it accepts"))
            .collect();
        for client in &mut refused {
            client.send("GET / HTTP/1.1\r\n\r\n");
        }
        pause(ms(200));
        let stdout = Output::collect(server.stdout.take().expect("not taken yet"));
        waiting
            .stream
            .set_read_timeout(Some(ms(2000)))
            .expect("a time-out can be set");
        assert_eq!(
            waiting
                .answer()
                .expect("the request that waited is answered")
                .status,
            200
        );
        drop(waiting);
        server.signal("TERM");
        let stderr = Output::collect(server.stderr.take().expect("not taken yet"));
        assert_eq!(server.wait(PATIENCE).0.code(), Some(0));
        assert!(stdout.wait_end(PATIENCE) && stderr.wait_end(PATIENCE));
        let account = account(&stderr.text());
        let lines = stdout.text().lines().count() as u64;
        assert_eq!(
            (account.requests, account.log_lines),
            (lines, lines),
            "nothing was lost"
        );
    });
}

#[test]
fn a_stderr_that_nobody_reads_delays_nothing() {
    in_time(|| {
        let token = "t0ken-of-the-test";
        let mut server = Unread::start(&[], &[("ADMIN_TOKEN", token)]);
        let stdout = Output::collect(server.stdout.take().expect("not taken yet"));
        let mut client = Client::to(server.addr).expect("it accepts");
        let fields = format!("Authorization: Bearer {token}\r\n");
        let mut slowest = Duration::ZERO;
        for number in 0..3000 {
            let start = Instant::now();
            let value = format!("{}ms", number % 7 + 1);
            let answer = client.call("PUT", "/admin/settings/delay-max", &fields, &value);
            assert!([200, 204].contains(&answer.status), "{}", answer.head);
            slowest = slowest.max(start.elapsed());
        }
        assert!(
            slowest < ms(500),
            "3000 changes, more than the pipe holds, the slowest in {slowest:?}"
        );
        for target in ["/healthz", "/metrics", "/status/200"] {
            let time = median_time(server.addr, target, 200);
            assert!(time < ms(50), "{target} takes {time:?}");
        }
        drop(client);
        server.signal("TERM");
        let (status, time) = server.wait(PATIENCE);
        assert!(
            status.code() == Some(0) && time < ms(2500),
            "{status} after {time:?}"
        );
        assert!(stdout.wait_end(PATIENCE));
        assert_eq!(
            stdout
                .text()
                .lines()
                .filter(|line| line.contains("\"PUT "))
                .count(),
            3000
        );
    });
}
