//! The access log: one line for each response, its content and level in both formats, and that no client can forge,
//! break or flood a line or find a secret in it. `support/log.rs` takes the lines apart.

use std::collections::BTreeSet;
use std::thread;

use crate::cases::{self, Case, End};
use crate::support::log::{FORMATS, Line, sorted_statuses};
use crate::support::server::Account;
use crate::support::{Client, Response, Server, each, find, ms, pause};
use crate::table;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[test]
fn each_case_of_the_table_has_a_line_with_its_status() {
    each(FORMATS, |format| {
        let server = Server::start(&["--log-format", format, "--log-level", "debug"]);
        let mut failures = Vec::new();
        let mut seen = 0;
        for case in cases::all() {
            if let Err(failure) = logged(&server, &case, &mut seen) {
                failures.push(format!("{}: {failure}", case.name));
                // Lines of this case must not count for the next one.
                pause(ms(100));
                seen += server.stdout.lines_behind(seen).len();
            }
        }
        assert!(
            failures.is_empty(),
            "{format}: {} fail:\n{}",
            failures.len(),
            failures.join("\n")
        );
    });
}

/// Runs a case and compares the statuses of its responses with those of the lines behind the `seen` ones.
fn logged(server: &Server, case: &Case, seen: &mut usize) -> Result<(), String> {
    let responses = table::run_whole(server, case)?;
    let mut expected: Vec<u16> = responses.iter().map(|response| response.status).collect();
    expected.retain(|&status| status != 100);
    if case.end == End::Keep
        || (case.end == End::Any && !responses.last().is_some_and(Response::closes))
    {
        // The probe behind it.
        expected.push(200);
    }
    server.stdout.wait_lines(*seen + expected.len());
    let text = server.stdout.lines_behind(*seen);
    *seen += text.len();
    let fresh: Result<Vec<_>, _> = text.iter().map(|line| Line::parse(line)).collect();
    let statuses: Vec<u16> = fresh?.iter().map(Line::status).collect();
    (statuses == expected)
        .then_some(())
        .ok_or_else(|| format!("answered {expected:?}, logged {statuses:?}"))
}

#[test]
fn a_line_tells_the_request_and_its_response() {
    let fields = format!(
        "User-Agent: curl/8.5\r\nReferer: http://a.test/b\r\nX-Request-Id: req-42.A_b\r\n\
         X-Forwarded-For: 1.2.3.4, \"5.6.7.8\"\r\ntraceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n"
    );
    let delay = ["--delay-min", "50ms", "--delay-max", "50ms"];
    for format in FORMATS {
        let mut server = Server::start(&[&delay[..], &["--log-format", format]].concat());
        let mut client = Client::new(&server);
        let response = client.call("GET", "/x?y=1", &fields, "");
        let peer = client.stream.local_addr().unwrap().to_string();
        let lines = server.stop_and_lines();
        let [line] = &lines[..] else {
            panic!("not one line: {lines:?}")
        };
        assert_eq!(response.field("x-request-id"), "req-42.A_b");
        let strings = [
            ("level", "info"),
            ("client", "127.0.0.1"),
            ("peer", &peer),
            ("method", "GET"),
            ("target", "/x?y=1"),
            ("route", "echo"),
            ("protocol", "HTTP/1.1"),
            ("status", "200"),
            ("bytes", &response.length().to_string()),
            ("user_agent", "curl/8.5"),
            ("referrer", "http://a.test/b"),
            ("request_id", "req-42.A_b"),
            ("trace_id", TRACE),
            ("host", "test"),
            ("forwarded_for", "1.2.3.4, \"5.6.7.8\""),
            ("complete", "true"),
            ("reason", ""),
            ("fault", ""),
        ];
        for (name, expected) in strings {
            assert_eq!(line.field(name), expected, "{name} of {format}");
        }
        let (delay, duration) = (line.number("delay"), line.number("duration"));
        assert!(
            delay >= 0.05 && duration >= delay && duration < 30.0,
            "{line:?}"
        );
        assert!(
            (response.told_delay().as_secs_f64() - delay).abs() < 0.001,
            "{line:?} and {response}"
        );
        // One look at the clock serves both.
        let (date, time) = (response.field("date"), line.field("time"));
        for part in [&date[5..7], &date[12..16], &date[17..25]] {
            assert!(time.contains(part), "{time} and Date: {date}");
        }
    }
}

#[test]
fn a_line_of_a_refusal_tells_its_reason() {
    for format in FORMATS {
        let mut server = Server::start(&["--log-format", format]);
        let mut expected = BTreeSet::new();
        for (request, reason) in [
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "host"),
            ("GET /status/999 HTTP/1.1\r\nHost: a\r\n\r\n", "parameter"),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
                "body_too_large",
            ),
        ] {
            let mut client = Client::new(&server);
            client.call_raw(request);
            client.shut_down();
            client.finish();
            expected.insert(reason);
        }
        let lines = server.stop_and_lines();
        let told: BTreeSet<&str> = lines.iter().map(|line| line.field("reason")).collect();
        assert_eq!(told, expected, "{format}");
        assert!(
            lines.iter().all(|line| line.field("complete") == "true"),
            "{lines:?}"
        );
    }
}

#[test]
fn what_is_absent_is_empty() {
    for format in FORMATS {
        let mut server = Server::start(&["--log-format", format]);
        let response = Client::new(&server).get("/");
        let made = response.field("x-request-id").to_owned();
        let line = server.stop_and_lines().remove(0);
        for name in ["user_agent", "referrer", "trace_id"] {
            assert_eq!(line.field(name), "", "{format}");
        }
        assert_eq!(line.field("request_id"), made, "{format}");
    }
}

/// A line that a client would like to see in the log.
const FORGED: &str = "127.0.0.1 - - [01/Jan/2026:00:00:00 +0000] \"GET /forged HTTP/1.1\" 200 5 \"-\" \"-\" level=info";

/// What some program or other takes for the end of a line.
#[rustfmt::skip]
const LINE_ENDS: [&str; 10] =
    ["\n", "\r", "\r\n", "\n\n", "\r\n\r\n\r\n", "\u{2028}", "\u{85}", "\0", "\x0b", "\x0c"];

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
    let mut all = vec![(400, target(b"/\\\" 200"))];
    for good in [
        &b"/\"quoted\""[..],
        b"/back\\slash\\",
        b"/'{\"a\":1}|[`^<>",
        b"/%0d%0a%00",
        b"/\xc3\xa9\xc2\x85\xe2\x80\xa8",
    ] {
        all.push((200, target(good)));
    }
    let forged =
        b"x\" level=error peer=6.6.6.6:6 route=none delay=0 request_id=1 trace_id=- duration=9";
    let good: [&[u8]; 11] = [
        forged,
        FORGED.as_bytes(),
        b"\\",
        b"ends with a backslash \\",
        b"\\\"",
        b"\xff\xfe\x80",
        b"caf\xc3\xa9 \xc2\x9b31m \xe2\x80\xa8\xe2\x80\xae \xed\xa0\x80",
        b"a\tb",
        b"\",\"status\":999,\"x\":\"",
        b"}\\n{\"level\":\"error\"}",
        b"\\u000a\\x0a%0a",
    ];
    for name in [
        "User-Agent",
        "Referer",
        "X-Request-Id",
        "traceparent",
        "X-Forwarded-For",
    ] {
        all.extend(good.iter().map(|value| (200, field(name, value))));
    }
    for end in LINE_ENDS {
        all.push((400, format!("GET /{end}{FORGED}{end}\r\n\r\n").into_bytes()));
        all.push((400, format!("{FORGED}{end}{FORGED}\r\n\r\n").into_bytes()));
    }
    for line in [
        &b"\"\"\" \\ \""[..],
        b"\\\" / HTTP/1.1",
        b"\"\\n\x1b[2J\x07\x00 / HTTP/1.1",
    ] {
        all.push((400, [line, b"\r\nHost: a\r\n\r\n"].concat()));
    }
    all
}

#[test]
fn no_request_forges_or_breaks_a_line() {
    let hostile = hostile();
    for format in FORMATS {
        let mut server =
            Server::start(&["--log-format", format, "--trusted-proxies", "127.0.0.0/8"]);
        for (status, request) in &hostile {
            let mut client = Client::new(&server);
            client.send(request);
            let response = client.response();
            assert_eq!(
                response.status,
                *status,
                "\"{}\" got {response}",
                request.escape_ascii()
            );
        }
        let lines = server.stop_and_lines();
        let mut expected: Vec<u16> = hostile.iter().map(|(status, _)| *status).collect();
        expected.sort_unstable();
        assert_eq!(
            sorted_statuses(&lines),
            expected,
            "{format}: one line for each response"
        );
        for line in &lines {
            assert!(
                line.field("peer").starts_with("127.0.0.1:") && line.field("level") == "info",
                "{line:?}"
            );
        }
        let agents: Vec<&str> = lines.iter().map(|line| line.field("user_agent")).collect();
        for whole in [
            "\\\"",
            "a\tb",
            "\",\"status\":999,\"x\":\"",
            "ends with a backslash \\",
            "}\\n{\"level\":\"error\"}",
        ] {
            assert!(
                agents.contains(&whole),
                "{format}: {whole:?} is not in {agents:?}"
            );
        }
    }
}

#[test]
fn what_is_no_request_shows_its_first_line() {
    for format in FORMATS {
        let mut server = Server::start(&["--log-format", format]);
        Client::new(&server).call_raw(b"NO SUCH\xff\"THING\r\nHost: t\r\n\r\n");
        let line = server.stop_and_lines().remove(0);
        let target = line.field("target");
        assert!(
            target.starts_with("NO SUCH") && target.contains("THING") && !target.contains("Host"),
            "{line:?}"
        );
        assert_eq!((line.field("route"), line.status()), ("none", 400));
    }
}

#[test]
fn credentials_are_never_logged() {
    let secrets =
        "Authorization: Bearer hush\r\nCookie: sid=hush\r\nProxy-Authorization: Basic hush\r\n";
    for format in FORMATS {
        let mut server = Server::start(&["--log-format", format, "--log-level", "debug"]);
        for start in [
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "GET /healthz HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n",
        ] {
            Client::new(&server).call_raw(format!("{start}{secrets}\r\n"));
        }
        assert_eq!(server.stop_and_lines().len(), 3);
        let written = server.stdout.text() + &server.stderr.text();
        assert!(!written.contains("hush"), "{written}");
    }
}

#[test]
fn a_request_id_is_kept_when_it_is_plain_and_made_otherwise() {
    for format in FORMATS {
        let mut server = Server::start(&["--log-format", format]);
        let mut client = Client::new(&server);
        let mut expected = BTreeSet::new();
        for bad in [
            "a b",
            "\"",
            "a\"b",
            "a\\",
            "",
            "\u{e9}",
            "<x>",
            "a,b;c=\"d\"",
            &"x".repeat(2000),
        ] {
            let response = client.call("GET", "/", &format!("X-Request-Id: {bad}\r\n"), "");
            let made = response.field("x-request-id").to_owned();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            assert!(
                made != bad && made.len() >= 16 && made.bytes().all(plain),
                "{bad:?} became {made:?}"
            );
            assert!(expected.insert(made), "each id is made once");
        }
        for good in ["a", "0123456789abcdef", "A-b_c.d~e"] {
            let response = client.call("GET", "/", &format!("X-Request-Id: {good}\r\n"), "");
            assert_eq!(response.field("x-request-id"), good);
            expected.insert(good.to_owned());
        }
        drop(client);
        let lines = server.stop_and_lines();
        let logged: BTreeSet<String> = lines
            .iter()
            .map(|line| line.field("request_id").to_owned())
            .collect();
        assert_eq!(logged, expected, "{format}");
    }
}

#[test]
fn a_trace_id_comes_from_a_valid_traceparent_alone() {
    let (parent, flags) = ("b7ad6b7169203331", "01");
    let table = [
        (format!("00-{TRACE}-{parent}-{flags}"), TRACE),
        (format!("01-{TRACE}-{parent}-{flags}-future"), TRACE),
        (format!("ff-{TRACE}-{parent}-{flags}"), ""),
        (format!("00-{}-{parent}-{flags}", "0".repeat(32)), ""),
        (format!("00-{TRACE}-{}-{flags}", "0".repeat(16)), ""),
        (format!("00-{}-{parent}-{flags}", TRACE.to_uppercase()), ""),
        (format!("00-{TRACE}-{parent}"), ""),
        (format!("00-{TRACE}-{parent}-{flags}-more"), ""),
        (format!("00-{}-{parent}-{flags}", &TRACE[1..]), ""),
        (format!("00-{TRACE}x-{parent}-{flags}"), ""),
        (format!("00_{TRACE}_{parent}_{flags}"), ""),
        ("nonsense".to_owned(), ""),
    ];
    for format in FORMATS {
        let mut server = Server::start(&["--log-format", format]);
        let mut client = Client::new(&server);
        for (sent, _) in &table {
            assert_eq!(
                client
                    .call("GET", "/", &format!("traceparent: {sent}\r\n"), "")
                    .status,
                200
            );
        }
        drop(client);
        let lines = server.stop_and_lines();
        assert_eq!(lines.len(), table.len());
        for (line, (sent, expected)) in lines.iter().zip(&table) {
            assert_eq!(line.field("trace_id"), *expected, "{format}: {sent}");
        }
    }
}

#[test]
fn the_level_of_a_line_follows_from_route_and_status() {
    // With this rate each echo fails by injection, which is a failure that the server caused.
    let mut server = Server::start(&["--error-rate", "1", "--log-level", "debug"]);
    let table = [
        ("GET /healthz", 200, "debug"),
        ("GET /readyz", 200, "debug"),
        ("GET /metrics", 200, "debug"),
        ("GET /favicon.ico", 404, "debug"),
        ("GET /status/404", 404, "info"),
        ("GET /status/503", 503, "info"),
        ("GET /bytes/x", 400, "info"),
        ("POST /healthz", 405, "warn"),
        ("DELETE /readyz", 405, "warn"),
        ("GET /", 500, "warn"),
    ];
    for (request, status, level) in table {
        let response =
            Client::new(&server).call_raw(format!("{request} HTTP/1.1\r\nHost: t\r\n\r\n"));
        assert_eq!(response.status, status, "{request}");
        let line = server.line(&format!("\"{request} HTTP/1.1\""));
        assert_eq!(line.field("level"), level, "{request}");
    }
    server.stop();
}

#[test]
fn a_probe_that_fails_is_logged_at_warn() {
    let mut server = Server::start_admin(&["--shutdown-delay", "1h"]);
    assert_eq!(server.get("/readyz?good").status, 200);
    for (name, path) in [("ready", "/readyz"), ("live", "/healthz")] {
        server.set(name, "false");
        assert_eq!(server.get(&format!("{path}?{name}")).status, 503);
        assert_eq!(
            server.line(&format!("{path}?{name}")).field("level"),
            "warn"
        );
        server.set(name, "true");
    }
    server.signal("TERM");
    server.stderr.line("draining");
    assert_eq!(server.get("/readyz?draining").status, 503);
    assert_eq!(server.line("/readyz?draining").field("level"), "warn");
    server.signal("TERM");
    server.ends_well();
    assert!(
        !server.stdout.text().contains("/readyz?good"),
        "a probe that is answered well has no line at info"
    );
}

#[test]
fn the_level_chooses_the_lines() {
    for (level, expected) in [("debug", 6), ("info", 3), ("warn", 2), ("error", 0)] {
        let mut server = Server::start_admin(&["--error-rate", "1"]);
        server.set("log-level", level);
        for (target, status) in [
            ("/healthz", 200),
            ("/readyz", 200),
            ("/metrics", 200),
            ("/status/404", 404),
            ("/", 500),
            ("/", 500),
        ] {
            assert_eq!(server.get(target).status, status, "{target}");
        }
        let mut lines = server.stop_and_lines();
        let all = lines.len() as u64;
        lines.retain(|line| line.field("route") != "admin");
        assert_eq!(lines.len(), expected, "{level}: {lines:?}");
        if ["warn", "error"].contains(&level) {
            continue;
        }
        // Probes are requests without a line at the default level; they must not look like lost lines.
        let account = Account::of(&server);
        let counts = ["requests", "log_lines", "not_logged"].map(|name| account.count(name));
        assert_eq!(counts, [7, all, 7 - all], "{account:?}");
    }
}

#[test]
fn there_are_as_many_lines_as_responses() {
    const THREADS: usize = 8;
    const CONNECTIONS: usize = 10;
    let all = THREADS * CONNECTIONS * 10;
    for format in FORMATS {
        let mut server = Server::start(&["--log-format", format]);
        let work = |thread: usize| {
            for connection in 0..CONNECTIONS {
                let mut client = Client::new(&server);
                for request in 0..10 {
                    let target = format!("/{thread}/{connection}/{request}/");
                    let response = client.get(&target);
                    assert!(
                        find(&response.body, target.as_bytes()).is_some(),
                        "{response}"
                    );
                }
            }
        };
        thread::scope(|scope| {
            for thread in 0..THREADS {
                thread::Builder::new()
                    .spawn_scoped(scope, move || work(thread))
                    .unwrap();
            }
        });
        // They are written while it runs.
        server.stdout.wait_lines(all);
        // A line is counted when it is written, and it may be read before.
        server.wait_count("access_log_lines_total", |count| count >= all as u64);
        let counted = server.count("access_log_lines_total");
        let lines = server.stop_and_lines();
        let targets: BTreeSet<&str> = lines.iter().map(|line| line.field("target")).collect();
        assert_eq!(
            (lines.len(), targets.len(), counted),
            (all, all, all as u64),
            "{format}"
        );
    }
}

#[test]
fn the_bytes_are_those_that_the_client_got() {
    let mut server = Server::start(&[]);
    let mut client = Client::new(&server);
    let mut lengths = Vec::new();
    for (method, target) in [
        ("GET", "/bytes/1000"),
        ("HEAD", "/bytes/1001"),
        ("GET", "/healthz"),
        ("GET", "/"),
    ] {
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.try_response(method == "HEAD").unwrap();
        if target != "/healthz" {
            lengths.push(response.length().to_string());
        }
    }
    drop(client);
    let lines = server.stop_and_lines();
    let logged: Vec<&str> = lines.iter().map(|line| line.field("bytes")).collect();
    assert_eq!(logged, lengths);
}
