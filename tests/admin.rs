//! `/admin`: off without a token, closed to a wrong one, and each of its six settings with its effect and its
//! refusals, on the real binary.
//!
//! A setting is believed changed only when the server behaves otherwise than before, and believed unchanged after
//! a refusal only when it behaves as before. The token must not be found in anything that the server wrote.

mod support;
#[path = "support/load.rs"]
mod tools;

use std::path::PathBuf;
use std::time::Instant;

use support::{PATIENCE, Server};
use tools::{Answer, Client, ms};

const TOKEN: &str = "s3cret-Token.of~the+test/42=";

fn server() -> Server {
    Server::start_with(&[], &[("ADMIN_TOKEN", TOKEN)])
}

/// A request to /admin with the right token, on a connection of its own.
#[track_caller]
fn admin(server: &Server, method: &str, path: &str, body: &str) -> Answer {
    let fields = format!("Authorization: Bearer {TOKEN}\r\n");
    Client::new(server).call(method, &format!("/admin/{path}"), &fields, body)
}

#[track_caller]
fn set(server: &Server, name: &str, value: &str) {
    let answer = admin(server, "PUT", &format!("settings/{name}"), value);
    assert!(
        [200, 204].contains(&answer.status),
        "{name}={value}: {}{}",
        answer.head,
        answer.text()
    );
}

#[track_caller]
fn settings(server: &Server) -> String {
    let answer = admin(server, "GET", "settings", "");
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.text()
}

/// The value of a key in the flat object of /admin/settings, as it is written.
#[track_caller]
fn value(settings: &str, name: &str) -> String {
    let (_, tail) = settings
        .split_once(&format!("\"{name}\":"))
        .unwrap_or_else(|| panic!("{name} in {settings}"));
    tail.trim_start()
        .split([',', '}'])
        .next()
        .unwrap_or_default()
        .trim()
        .trim_matches('"')
        .to_owned()
}

#[test]
fn without_a_token_the_path_echoes_like_any_other() {
    let server = Server::start(&[]);
    server
        .stderr
        .wait_line("admin is off: no token is set", PATIENCE)
        .expect("the log says that it is off");
    let answer = Client::new(&server).get("/admin/settings");
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains("target: /admin/settings\n"),
        "{}",
        answer.text()
    );
    let put = Client::new(&server).call(
        "PUT",
        "/admin/settings/ready",
        "Authorization: Bearer \r\n",
        "false",
    );
    assert_eq!(put.status, 200);
    assert_eq!(server.get("/readyz").0, 200, "it changed nothing");
}

#[test]
fn with_a_token_the_log_does_not_say_that_it_is_off() {
    let mut server = server();
    server.stop();
    assert!(
        !server.stderr.text().contains("admin is off"),
        "{}",
        server.stderr.text()
    );
}

#[test]
fn only_the_right_token_opens_it() {
    let server = server();
    let short = &TOKEN[..TOKEN.len() - 1];
    let wrong = [
        String::new(),
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: Bearer {short}\r\n"),
        format!("Authorization: Bearer {TOKEN}x\r\n"),
        format!("Authorization: Bearer {}\r\n", TOKEN.to_uppercase()),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Authorization: {TOKEN}\r\n"),
        format!("Authorization: Bearer x, Bearer {TOKEN}\r\n"),
        format!("Authorization: Bearer wrong\r\nAuthorization: Bearer {TOKEN}\r\n"),
        format!("X-Authorization: Bearer {TOKEN}\r\n"),
    ];
    for fields in &wrong {
        for (method, path) in [
            ("GET", "/admin/settings"),
            ("PUT", "/admin/settings/ready"),
            ("GET", "/admin/x"),
        ] {
            let answer = Client::new(&server).call(method, path, fields, "false");
            assert_eq!(answer.status, 401, "{method} {path} with {fields:?}");
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            assert!(challenge.starts_with("Bearer"), "{}", answer.head);
        }
    }
    assert_eq!(server.get("/readyz").0, 200, "nothing was changed");
    let refused = server.metric("http_rejected_requests_total{reason=\"unauthorized\"}");
    assert!(
        (refused - 33.0).abs() < f64::EPSILON,
        "each is counted: {refused}"
    );
    let lower = format!("Authorization: bearer {TOKEN}\r\n");
    assert_eq!(
        Client::new(&server)
            .call("GET", "/admin/settings", &lower, "")
            .status,
        200
    );
}

#[test]
fn the_token_can_come_from_a_file_with_a_line_end() {
    let path = std::env::temp_dir().join(format!("httpserver-token-{}", std::process::id()));
    std::fs::write(&path, format!("{TOKEN}\n")).expect("a scratch file");
    let _file = Removed(path.clone());
    let server = Server::start(&["--admin-token-file", path.to_str().expect("text")]);
    settings(&server);
    let server = Server::start_with(&[], &[("ADMIN_TOKEN_FILE", path.to_str().expect("text"))]);
    settings(&server);
}

/// A file that goes with the test.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_settings_are_listed() {
    let listed = settings(&server());
    let expected = [
        ("delay-min", "0s"),
        ("delay-max", "0s"),
        ("error-rate", "0"),
        ("log-level", "info"),
        ("ready", "true"),
        ("live", "true"),
    ];
    for (name, default) in expected {
        assert_eq!(value(&listed, name), default, "{name} in {listed}");
    }
    assert_eq!(
        listed.matches(':').count(),
        expected.len(),
        "and no other: {listed}"
    );
}

#[test]
fn delays_are_changed_within_each_other() {
    let server = server();
    set(&server, "delay-max", "300ms");
    set(&server, "delay-min", "300ms");
    let start = Instant::now();
    let answer = Client::new(&server).get("/");
    assert!(
        answer.status == 200 && start.elapsed() >= ms(300),
        "{}",
        answer.head
    );
    refused(&server, "delay-min", &["301ms", "1s"]);
    refused(&server, "delay-max", &["299ms", "0s"]);
    set(&server, "delay-min", "0s");
    set(&server, "delay-max", "0s");
    let start = Instant::now();
    assert_eq!(Client::new(&server).get("/").status, 200);
    assert!(start.elapsed() < ms(250), "{:?}", start.elapsed());
    let listed = settings(&server);
    assert_eq!(
        (value(&listed, "delay-min"), value(&listed, "delay-max")),
        ("0s".to_owned(), "0s".to_owned())
    );
}

#[test]
fn error_rate_changes_the_echo_alone() {
    let server = server();
    set(&server, "error-rate", "1");
    assert_eq!(server.get("/").0, 500);
    for spared in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/version",
        "/status/204",
        "/delay/1ms",
        "/bytes/1",
    ] {
        assert!(server.get(spared).0 < 300, "{spared}");
    }
    set(&server, "error-rate", "0.5");
    let errors = (0..200).filter(|_| server.get("/").0 == 500).count();
    assert!(
        (50..=150).contains(&errors),
        "{errors} of 200 at a rate of a half"
    );
    set(&server, "error-rate", "0");
    assert!((0..20).all(|_| server.get("/").0 == 200));
}

#[test]
fn log_level_shows_and_hides_lines() {
    let mut server = server();
    assert_eq!(server.get("/healthz?hidden").0, 200);
    set(&server, "log-level", "debug");
    assert_eq!(server.get("/healthz?shown").0, 200);
    set(&server, "log-level", "error");
    assert_eq!(server.get("/muted").0, 200);
    set(&server, "log-level", "info");
    assert_eq!(server.get("/heard").0, 200);
    server.stop();
    let log = server.stdout.text();
    let seen = ["?hidden", "?shown", "/muted", "/heard"].map(|part| log.contains(part));
    assert_eq!(seen, [false, true, false, true], "{log}");
}

#[test]
fn ready_and_live_switch_the_probes() {
    let server = server();
    for (name, path, ok, no) in [
        ("ready", "/readyz", "ready", "not ready"),
        ("live", "/healthz", "ok", ""),
    ] {
        assert_eq!(server.get(path).0, 200);
        set(&server, name, "false");
        let (status, answer) = server.get(path);
        assert!(status == 503 && answer.trim_end().ends_with(no), "{answer}");
        assert_eq!(value(&settings(&server), name), "false");
        let other = if name == "ready" {
            "/healthz"
        } else {
            "/readyz"
        };
        assert_eq!(server.get(other).0, 200, "{name} leaves {other} alone");
        set(&server, name, "true");
        let (status, answer) = server.get(path);
        assert!(status == 200 && answer.trim_end().ends_with(ok), "{answer}");
    }
    set(&server, "ready", "false");
    assert!(
        server.metric("httpserver_ready").abs() < f64::EPSILON,
        "the gauge follows"
    );
}

/// Asserts that each value is refused with 400 and a reason, and changes nothing.
#[track_caller]
fn refused(server: &Server, name: &str, bad: &[&str]) {
    let before = settings(server);
    for value in bad {
        let answer = admin(server, "PUT", &format!("settings/{name}"), value);
        assert_eq!(answer.status, 400, "{name}={value:?}");
        let reason = answer.text();
        assert!(
            reason.starts_with("400 Bad Request: ") && reason.len() > 25,
            "{name}={value:?}: {reason}"
        );
        assert_eq!(reason.lines().count(), 1, "{reason}");
    }
    assert_eq!(settings(server), before);
}

#[test]
fn a_bad_value_changes_nothing() {
    let server = server();
    refused(
        &server,
        "delay-min",
        &[
            "",
            "banana",
            "1",
            "-1s",
            "1s",
            "\u{1F552}",
            "1s\n2s",
            "99999999999999999999s",
        ],
    );
    refused(&server, "delay-max", &["", "banana", "-1s", "1s 2s"]);
    refused(
        &server,
        "error-rate",
        &["", "1.01", "-0.1", "NaN", "inf", "half", "0,5"],
    );
    refused(&server, "log-level", &["", "loud", "trace"]);
    refused(&server, "ready", &["", "maybe", "2", "truefalse"]);
    refused(&server, "live", &["", "no way"]);
}

#[test]
fn a_long_or_binary_value_is_no_value() {
    let server = server();
    refused(&server, "log-level", &[&"debug".repeat(10_000)]);
    let mut client = Client::new(&server);
    let head = format!(
        "PUT /admin/settings/ready HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {TOKEN}\r\n"
    );
    client.send([head.as_bytes(), b"Content-Length: 5\r\n\r\nfals\xff"].concat());
    assert_eq!(client.answer().expect("an answer").status, 400);
    assert_eq!(server.get("/readyz").0, 200);
}

#[test]
fn names_and_methods_that_do_not_exist_are_refused() {
    let server = server();
    for path in [
        "settings/max-body",
        "settings/listen",
        "settings/",
        "settings/ready/x",
        "settings/READY",
        "x",
        "",
    ] {
        let answer = admin(&server, "PUT", path, "true");
        assert_eq!(answer.status, 404, "PUT /admin/{path}");
    }
    for (method, path, allow) in [
        ("PUT", "settings", "GET"),
        ("DELETE", "settings", "GET"),
        ("POST", "settings/ready", "PUT"),
        ("DELETE", "settings/ready", "PUT"),
    ] {
        let answer = admin(&server, method, path, "true");
        assert_eq!(answer.status, 405, "{method} /admin/{path}");
        let allowed = answer.header("allow").unwrap_or_default();
        assert!(
            allowed.contains(allow),
            "{method} /admin/{path}: {}",
            answer.head
        );
    }
    assert_eq!(
        server.get("/administrator").0,
        200,
        "a path that only begins alike echoes"
    );
}

#[test]
fn each_change_is_one_line_and_each_refusal_none() {
    let mut server = server();
    let before = server.stderr.text();
    set(&server, "delay-max", "10ms");
    set(&server, "error-rate", "0.25");
    refused(&server, "delay-max", &["banana"]);
    server.stop();
    let text = server.stderr.text();
    let told = |name: &str, value: &str| {
        text[before.len()..]
            .lines()
            .filter(|line| line.contains(name) && line.contains(value))
            .count()
    };
    assert_eq!(
        (
            told("delay-max", "10ms"),
            told("error-rate", "0.25"),
            told("delay-max", "banana")
        ),
        (1, 1, 0),
        "{text}"
    );
    assert!(
        text.lines()
            .filter(|line| line.contains("10ms"))
            .all(|line| line.contains(" info ")),
        "{text}"
    );
}

#[test]
fn the_token_is_in_nothing_that_the_server_wrote() {
    let mut server = Server::start_with(&["--log-level", "debug"], &[("ADMIN_TOKEN", TOKEN)]);
    let mut written = String::new();
    for answer in [
        admin(&server, "GET", "settings", ""),
        admin(&server, "PUT", "settings/ready", "false"),
        admin(&server, "PUT", "settings/delay-max", "banana"),
        admin(&server, "PUT", "settings/nothing", "1"),
        admin(&server, "DELETE", "settings", ""),
        Client::new(&server).call(
            "GET",
            "/admin/settings",
            "Authorization: Bearer wrong\r\n",
            "",
        ),
    ] {
        written += &answer.head;
        written += &answer.text();
    }
    for path in ["/metrics", "/version", "/", "/healthz", "/readyz"] {
        written += &server.get(path).1;
    }
    server.stop();
    written += &server.stdout.text();
    written += &server.stderr.text();
    let inner = TOKEN.trim_end_matches('=');
    assert!(!written.contains(inner), "the token is told in: {written}");
}

#[test]
fn a_change_while_draining_is_still_answered() {
    let mut server = Server::start_with(&["--drain-linger", "60s"], &[("ADMIN_TOKEN", TOKEN)]);
    server.signal("TERM");
    server
        .stderr
        .wait_line("draining", PATIENCE)
        .expect("it drains");
    set(&server, "ready", "true");
    let (status, answer) = server.get("/readyz");
    assert!(
        status == 503 && answer.trim_end().ends_with("draining"),
        "the drain is stronger: {answer}"
    );
    assert_eq!(server.stop().code(), Some(0));
}
