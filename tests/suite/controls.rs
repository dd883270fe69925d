//! The controls of the echo, `echo-status`, `echo-delay`, `echo-fault` and `echo-close`: as query parameters and as
//! fields, on any path that reaches the echo, counted and logged, and never where they would hurt a probe.

use std::time::{Duration, Instant};

use crate::support::log::FORMATS;
use crate::support::metrics::{aborted, rejected, series};
use crate::support::{Client, PATIENCE, Response, Server, find, ms};

/// A GET with these field lines on a connection of its own.
#[track_caller]
fn ask(server: &Server, target: &str, fields: &str) -> Response {
    Client::new(server).call_raw(request(target, fields))
}

fn request(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
}

fn fault(name: &str) -> String {
    series("http_injected_faults_total", "fault", name)
}

#[test]
fn a_status_is_sent_on_any_path_by_query_and_by_field() {
    let server = Server::start(&["--error-rate", "1"]);
    for path in ["/", "/app/orders/7", "/status", "/a.html"] {
        for status in [200, 299, 404, 503, 599] {
            let query = ask(&server, &format!("{path}?a=b&echo-status={status}"), "");
            let field = ask(&server, path, &format!("Echo-Status: {status}\r\n"));
            for response in [query, field] {
                assert_eq!(response.status, status, "{path}: {response}");
                assert!(
                    response.text().contains(&format!("\ntarget: {path}")),
                    "the echo: {response}"
                );
            }
        }
    }
    let post = Client::new(&server).call("POST", "/?echo-status=201", "", "hello");
    assert!(
        post.status == 201 && post.text().ends_with("hello"),
        "{post}"
    );
    // The fields that the definition of the status demands.
    for (status, field) in [
        (401, "www-authenticate"),
        (302, "location"),
        (405, "allow"),
        (426, "upgrade"),
    ] {
        let response = ask(&server, &format!("/?echo-status={status}"), "");
        assert_eq!(
            (response.status, response.values(field).len()),
            (status, 1),
            "{response}"
        );
    }
    for status in [204, 304] {
        let response = ask(&server, &format!("/?echo-status={status}"), "");
        assert_eq!((response.status, response.body.len()), (status, 0));
    }
}

#[test]
fn weighted_statuses_come_by_their_weights() {
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    let mut statuses: Vec<u16> = (0..200)
        .map(|_| client.get("/x?echo-status=200:3,503:1").status)
        .collect();
    statuses.sort_unstable();
    let failed = statuses.iter().filter(|status| **status == 503).count();
    // Of 200 with a chance of a quarter: 50, and with a chance of 10^-9 fewer than 16 or more than 90.
    assert!((16..=90).contains(&failed), "{failed}");
    statuses.dedup();
    assert_eq!(statuses, [200, 503]);
    for _ in 0..20 {
        assert_eq!(client.get("/?echo-status=200:0,503:7").status, 503);
    }
}

#[test]
fn a_delay_takes_the_place_of_the_random_one() {
    let server = Server::start(&["--delay-min", "1h", "--delay-max", "1h"]);
    let timed = |target: &str, fields: &str| {
        let asked = Instant::now();
        let response = ask(&server, target, fields);
        assert_eq!(response.status, 200, "{response}");
        (response.told_delay(), response.at - asked)
    };
    for (target, fields) in [("/a?echo-delay=300ms", ""), ("/a", "Echo-Delay: 0.3s\r\n")] {
        let (told, real) = timed(target, fields);
        assert!(
            told >= ms(300) && real + ms(1) >= told,
            "told {told:?}, took {real:?}"
        );
    }
    let (told, _) = timed("/a?echo-delay=0s", "");
    assert!(told.is_zero(), "{told:?}");
    // Several draws of a range: all at or above its lower end, and not all the same.
    let told: Vec<Duration> = (0..8)
        .map(|_| timed("/?echo-delay=20ms..200ms", "").0)
        .collect();
    assert!(told.iter().all(|told| *told >= ms(20)), "{told:?}");
    assert!(told.iter().any(|other| other != &told[0]), "{told:?}");
    let scrape = server.scrape();
    assert_eq!(scrape.count("http_injected_delay_seconds_count"), 11);
    assert_eq!(scrape.count(&fault("delay")), 11);
}

#[test]
fn empty_closes_without_a_byte() {
    let mut server = Server::start(&[]);
    for (target, fields) in [
        ("/a/b?echo-fault=empty", ""),
        ("/a/b", "Echo-Fault: empty\r\n"),
    ] {
        let mut client = Client::new(&server);
        client.send(request(target, fields));
        client.finish();
    }
    assert_eq!(server.wait_count(&fault("empty"), |count| count == 2), 2);
    assert_eq!(server.wait_count(&aborted("fault"), |count| count == 2), 2);
    for line in server.stop_and_lines() {
        let told = (
            line.field("fault"),
            line.status(),
            line.field("bytes"),
            line.field("complete"),
        );
        assert_eq!(told, ("empty", 0, "0", "false"));
    }
}

#[test]
fn truncate_sends_half_of_the_body_that_it_announced() {
    let mut server = Server::start(&[]);
    for accept in ["text/plain", "application/json"] {
        let mut client = Client::new(&server);
        client.send(request(
            "/a?echo-fault=truncate",
            &format!("Accept: {accept}\r\n"),
        ));
        let end = client.end();
        assert!(!end.reset, "an orderly end");
        let head = find(&end.rest, b"\r\n\r\n").expect("a head") + 4;
        let text = String::from_utf8_lossy(&end.rest[..head]).to_ascii_lowercase();
        let length = text
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.lines().next());
        let length: usize = length
            .and_then(|length| length.parse().ok())
            .expect("a length");
        assert_eq!(end.rest.len() - head, length / 2, "{text}");
        assert!(
            text.starts_with("http/1.1 200 ") && text.contains("connection: close"),
            "{text}"
        );
    }
    assert_eq!(server.wait_count(&aborted("fault"), |count| count == 2), 2);
    for line in server.stop_and_lines() {
        let told = (line.field("fault"), line.status(), line.field("complete"));
        assert_eq!(told, ("truncate", 200, "false"));
    }
}

/// Asks for a stall and reads the head; nothing must follow it.
#[track_caller]
fn stalled(server: &Server) -> (Client, Instant) {
    let mut client = Client::new(server);
    let asked = Instant::now();
    client.ask("/a?echo-fault=stall");
    while find(client.received(), b"\r\n\r\n").is_none() {
        assert!(client.read().expect("it comes") > 0, "the head comes");
    }
    assert!(
        client.received().ends_with(b"\r\n\r\n"),
        "nothing but the head"
    );
    (client, asked)
}

#[test]
fn stall_sends_the_head_and_waits() {
    let mut server = Server::start(&["--write-timeout", "2s"]);
    let (mut client, asked) = stalled(&server);
    let end = client.end();
    assert!(
        end.at - asked >= ms(2000),
        "the write time-out ends it: {:?}",
        end.at - asked
    );
    assert!(
        end.rest.ends_with(b"\r\n\r\n"),
        "nothing came behind the head"
    );
    server.wait_count(&fault("stall"), |count| count == 1);
    for line in server.stop_and_lines() {
        assert_eq!(
            (line.field("fault"), line.status(), line.field("complete")),
            ("stall", 200, "false")
        );
    }
}

#[test]
fn a_stall_ends_with_its_client_and_at_the_drain() {
    let mut server = Server::start(&["--write-timeout", "1h", "--drain-timeout", "1h"]);
    let (client, _) = stalled(&server);
    let (mut other, _) = stalled(&server);
    server.wait_count("http_open_connections", |open| open == 3);
    drop(client);
    server.wait_count("http_open_connections", |open| open == 2);
    server.signal("TERM");
    other.end();
    server.ends_well();
}

#[test]
fn close_ends_the_connection_with_the_response() {
    let server = Server::start(&[]);
    for (target, fields) in [
        ("/a?echo-close", ""),
        ("/a?echo-close=true", ""),
        ("/a?echo-close=1", ""),
        ("/a?echo-status=404&echo-close", ""),
        ("/a", "Echo-Close: true\r\n"),
    ] {
        let mut client = Client::new(&server);
        assert!(
            client.call_raw(request(target, fields)).closes(),
            "{target}"
        );
        client.shut_down();
        client.finish();
    }
    let mut client = Client::new(&server);
    for target in ["/a?echo-close=false", "/a?echo-close=0", "/"] {
        assert!(!client.get(target).closes(), "{target}");
    }
}

#[test]
fn a_bad_value_is_refused_by_name_with_what_is_taken() {
    let mut server = Server::start(&[]);
    let status = &["200 to 599", "200:80,503:20"][..];
    let delay = &["1s", "100ms..2s", "60s"][..];
    let faults = &["empty", "truncate", "stall"][..];
    let close = &["true", "false"][..];
    let table = [
        ("echo-status", "99", status),
        ("echo-status", "600", status),
        ("echo-status", "0503", status),
        ("echo-status", "teapot", status),
        ("echo-status", "", status),
        ("echo-status", "200:80,", status),
        ("echo-status", "200:0", status),
        ("echo-status", "200:-1,503:2", status),
        ("echo-status", "200:99999999999", status),
        ("echo-status", "%zz", status),
        ("echo-status", "%5", status),
        ("echo-delay", "61s", delay),
        ("echo-delay", "3", delay),
        ("echo-delay", "2s..1s", delay),
        ("echo-delay", "1s..61s", delay),
        ("echo-delay", "..", delay),
        ("echo-delay", "-1s", delay),
        ("echo-fault", "boom", faults),
        ("echo-fault", "Empty", faults),
        ("echo-close", "maybe", close),
    ];
    for (name, value, forms) in table {
        let query = ask(&server, &format!("/app?{name}={value}"), "");
        let field = ask(&server, "/app", &format!("{name}: {value}\r\n"));
        for response in [query, field] {
            assert_eq!(response.status, 400, "{name}={value}: {response}");
            let text = response.text();
            assert!(
                text.contains(&format!("{name} \"{value}\" is not usable")),
                "{text}"
            );
            assert!(forms.iter().all(|form| text.contains(form)), "{text}");
        }
    }
    let count = 2 * table.len() as u64;
    assert_eq!(server.count(&rejected("parameter")), count);
    let lines = server.stop_and_lines();
    let refused = lines
        .iter()
        .filter(|line| line.field("reason") == "parameter");
    assert_eq!(refused.count() as u64, count);
}

#[test]
fn a_value_forges_no_field() {
    let server = Server::start(&[]);
    // Decoded, this would be a field of its own.
    let forged = ask(&server, "/?echo-status=503%0d%0aX-Forged:%201", "");
    assert_eq!(
        (forged.status, forged.values("x-forged").len()),
        (400, 0),
        "{forged}"
    );
}

#[test]
fn each_fault_is_counted_and_stands_in_the_log() {
    for format in FORMATS {
        let mut server = Server::start(&["--log-format", format, "--write-timeout", "1s"]);
        let names = ["status", "delay", "empty", "truncate", "stall", "close"];
        let mut expected = vec![("/".to_owned(), String::new())];
        for name in names {
            let target = match name {
                "status" => "/s?echo-status=404".to_owned(),
                "delay" => "/d?echo-delay=1ms".to_owned(),
                "close" => "/c?echo-close".to_owned(),
                fault => format!("/f?echo-fault={fault}"),
            };
            expected.push((target, name.to_owned()));
        }
        expected.push((
            "/x?echo-delay=1ms&echo-status=404&echo-close&echo-fault=truncate".to_owned(),
            "status,delay,truncate,close".to_owned(),
        ));
        for (target, _) in &expected {
            let mut client = Client::new(&server);
            client.send(request(target, "Connection: close\r\n"));
            client.end();
        }
        let scrape = server.scrape();
        for name in names {
            let both = 1 + u64::from(!["empty", "stall"].contains(&name));
            assert_eq!(scrape.count(&fault(name)), both, "{name}");
        }
        assert_eq!(scrape.count(&fault("error_rate")), 0);
        let mut logged: Vec<_> = server
            .stop_and_lines()
            .iter()
            .map(|line| {
                (
                    line.field("target").to_owned(),
                    line.field("fault").to_owned(),
                )
            })
            .collect();
        logged.sort();
        expected.sort();
        assert_eq!(logged, expected, "{format}");
    }
}

#[test]
fn the_error_rate_is_a_fault_too() {
    let mut server = Server::start(&["--error-rate", "1"]);
    assert_eq!(ask(&server, "/a", "").status, 500);
    // The other controls hold for it too.
    let both = ask(&server, "/c?echo-close&echo-delay=1ms", "");
    assert!(both.status == 500 && both.closes(), "{both}");
    assert_eq!(server.line("/c").field("fault"), "error_rate,delay,close");
    // A status that was asked for is not made a 500.
    assert_eq!(ask(&server, "/b?echo-status=201", "").status, 201);
    assert_eq!(server.count(&fault("error_rate")), 2);
    assert_eq!(server.line("/a").field("fault"), "error_rate");
    server.stop();
}

#[test]
fn a_status_that_was_asked_for_counts_as_such() {
    let mut server = Server::start(&[]);
    for target in ["/a?echo-status=503", "/a?echo-status=500", "/a"] {
        ask(&server, target, "");
    }
    let scrape = server.scrape();
    let responses = |route: &str, code: u16| {
        let labels = format!("{{code=\"{code}\",method=\"GET\",route=\"{route}\"}}");
        scrape.count_or_zero(&format!("http_requests_total{labels}"))
    };
    assert_eq!((responses("status", 503), responses("status", 500)), (1, 1));
    assert_eq!(
        (
            responses("echo", 503),
            responses("echo", 500),
            responses("echo", 200)
        ),
        (0, 0, 1)
    );
    let lines = server.stop_and_lines();
    // No alert on errors of the echo fires, and no one looks for the cause of a warning.
    let failed = lines.iter().filter(|line| line.status() >= 500);
    let told: Vec<_> = failed
        .map(|line| (line.field("route"), line.field("level")))
        .collect();
    assert_eq!(told, [("status", "info"); 2]);
}

/// Every route that has its own response, with a query of its own, and what its body holds.
const ROUTES: [(&str, &str); 7] = [
    ("/status/201?", "01 Created"),
    ("/delay/0s?", "\ntarget: /delay/0s"),
    ("/bytes/5?", "xxxxx"),
    ("/bytes/5?over=1ms&chunked&", "xxxxx"),
    ("/upload?", "{\"bytes\":0,"),
    ("/events?count=1&", "id: 1\n"),
    ("/burn/1ms?", "\ntarget: /burn/1ms"),
];

#[test]
fn the_controls_hold_on_every_route_that_is_no_probe() {
    let server = Server::start(&["--allow-burn", "true"]);
    let count = ROUTES.len() as u64;
    for (target, body) in ROUTES {
        let response = ask(
            &server,
            &format!("{target}echo-status=401&echo-delay=1ms&echo-close"),
            "",
        );
        assert_eq!(
            (response.status, response.values("www-authenticate").len()),
            (401, 1),
            "{target}: {response}"
        );
        assert!(response.closes(), "{target}: {response}");
        if !target.starts_with("/status") {
            assert!(response.text().contains(body), "{target}: {response}");
        }
        let line = server.line(&format!("{target}echo-status"));
        assert_eq!(line.field("fault"), "status,delay,close", "{line:?}");
        assert!(line.number("delay") >= 0.001, "{line:?}");
        let bodiless = ask(&server, &format!("{target}echo-status=204"), "");
        assert_eq!((bodiless.status, bodiless.body.len()), (204, 0), "{target}");
        let bad = ask(&server, &format!("{target}echo-delay=3"), "");
        assert!(
            bad.status == 400 && bad.text().contains("echo-delay"),
            "{bad}"
        );
    }
    for (name, times) in [("status", 2), ("delay", 1), ("close", 1)] {
        assert_eq!(server.count(&fault(name)), times * count, "{name}");
    }
    // A control wins over what the path says.
    assert_eq!(ask(&server, "/status/404?echo-status=503", "").status, 503);
    let response = ask(&server, "/delay/60s?echo-delay=2ms", "");
    assert!(response.told_delay() < ms(60_000), "{response}");
}

#[test]
fn the_faults_hold_on_every_route_that_is_no_probe() {
    let server = Server::start(&["--allow-burn", "true", "--write-timeout", "1s"]);
    let end = |target: &str, fault: &str| {
        let mut client = Client::new(&server);
        client.send(request(&format!("{target}echo-fault={fault}"), ""));
        let end = client.end();
        assert!(!end.reset, "{target}: an orderly end");
        end.rest
    };
    let body = |bytes: &[u8]| bytes[find(bytes, b"\r\n\r\n").expect("a head") + 4..].to_vec();
    for (target, _) in ROUTES {
        assert_eq!(end(target, "empty"), b"", "{target}");
        assert_eq!(body(&end(target, "stall")), b"", "{target}");
        let truncated = end(target, "truncate");
        let (head, body) = (String::from_utf8_lossy(&truncated), body(&truncated));
        match head.split("Content-Length: ").nth(1) {
            Some(rest) => {
                let length = rest.lines().next().and_then(|length| length.parse().ok());
                assert_eq!(
                    length.map(|length: usize| length / 2),
                    Some(body.len()),
                    "{head}"
                );
            }
            None => assert!(!body.ends_with(b"0\r\n\r\n"), "{target}: no last chunk"),
        }
    }
    let count = 3 * ROUTES.len() as u64;
    server.wait_count(&aborted("fault"), |now| now == count);
    // Half of the events, and one where their number is open.
    for (target, events) in [("/events?count=4&interval=100ms&", 2), ("/events?", 1)] {
        let text = String::from_utf8(end(target, "truncate")).expect("text");
        assert_eq!(text.matches("data:").count(), events, "{target}: {text}");
    }
}

#[test]
fn no_control_reaches_a_probe() {
    let server = Server::start(&["--path-prefix", "/app"]);
    let query = "?echo-status=503&echo-delay=1h&echo-fault=empty&echo-close=x";
    let fields = "Echo-Status: 503\r\nEcho-Delay: 30s\r\nEcho-Fault: stall\r\n";
    for path in [
        "/healthz",
        "/readyz",
        "/livez",
        "/metrics",
        "/version",
        "/app/healthz",
        "/app/metrics",
    ] {
        for (target, fields) in [(format!("{path}{query}"), ""), (path.to_owned(), fields)] {
            let asked = Instant::now();
            let response = ask(&server, &target, fields);
            assert_eq!(response.status, 200, "{target}: {response}");
            assert!(
                response.at - asked < PATIENCE / 2 && !response.closes(),
                "{response}"
            );
        }
    }
    for name in ["status", "delay", "empty", "stall"] {
        assert_eq!(server.count(&fault(name)), 0, "{name}");
    }
    // Below the prefix the controls of the echo hold as above it.
    for path in ["/app", "/app/", "/app/orders", "/other"] {
        assert_eq!(
            ask(&server, &format!("{path}?echo-status=503"), "").status,
            503,
            "{path}"
        );
    }
}
