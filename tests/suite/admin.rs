//! `/admin`: off without a token, closed to a wrong one, and each of its six settings with its effect and its refusals.
//!
//! A setting counts as changed only when the server behaves otherwise than before, and as unchanged after a refusal only
//! when it behaves as before. The token must not be found in anything that the server wrote.

use serde_json::{Value, json};

use crate::support::metrics::rejected;
use crate::support::server::TOKEN;
use crate::support::{Client, Scratch, Server, ms};

/// The changeable settings and their values.
#[track_caller]
fn settings(server: &Server) -> Value {
    let response = server.admin("GET", "settings", "");
    assert_eq!(
        (response.status, response.field("content-type")),
        (200, "application/json"),
        "{response}"
    );
    response.json()
}

#[test]
fn without_a_token_the_path_echoes_like_any_other() {
    let server = Server::start(&[]);
    server.stderr.line("admin is off: no token is set");
    let response = server.get("/admin/settings");
    assert!(
        response.status == 200 && response.text().contains("target: /admin/settings\n"),
        "{response}"
    );
    let put = Client::new(&server).call(
        "PUT",
        "/admin/settings/ready",
        "Authorization: Bearer \r\n",
        "false",
    );
    assert_eq!(put.status, 200);
    assert_eq!(server.get("/readyz").status, 200, "it changed nothing");
}

#[test]
fn only_the_right_token_opens_it() {
    let server = Server::start_admin(&[]);
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
        format!("Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer wrong\r\n"),
        format!("X-Authorization: Bearer {TOKEN}\r\n"),
    ];
    for fields in &wrong {
        for (method, path) in [
            ("GET", "/admin/settings"),
            ("PUT", "/admin/settings/ready"),
            ("GET", "/admin/x"),
            ("GET", "/admin/requests"),
        ] {
            let response = Client::new(&server).call(method, path, fields, "false");
            assert_eq!(response.status, 401, "{method} {path} with {fields:?}");
            assert!(
                response.field("www-authenticate").starts_with("Bearer"),
                "{response}"
            );
        }
    }
    assert_eq!(server.get("/readyz").status, 200, "nothing was changed");
    server.wait_count(&rejected("unauthorized"), |count| count == 48);
    for scheme in ["bearer", "Bearer "] {
        let fields = format!("Authorization: {scheme} {TOKEN} \r\n");
        let response = Client::new(&server).call("GET", "/admin/settings", &fields, "");
        assert_eq!(response.status, 200, "{scheme:?}: {response}");
    }
}

#[test]
fn the_token_can_come_from_a_file_with_a_line_end() {
    let file = Scratch::file("token", format!("{TOKEN}\n"));
    settings(&Server::start(&["--admin-token-file", file.text()]));
    settings(&Server::start_with(
        &[],
        &[("ADMIN_TOKEN_FILE", file.text())],
    ));
}

#[test]
fn the_settings_are_listed() {
    let expected = json!({
        "delay-min": "0s", "delay-max": "0s", "error-rate": 0, "log-level": "info", "ready": true, "live": true,
    });
    assert_eq!(settings(&Server::start_admin(&[])), expected);
}

#[test]
fn delays_are_changed_within_each_other() {
    let server = Server::start_admin(&[]);
    server.set("delay-max", "300ms");
    server.set("delay-min", "300ms");
    let response = server.get("/");
    assert!(
        response.status == 200 && response.told_delay() >= ms(300),
        "{response}"
    );
    refused(&server, "delay-min", &["301ms", "1s"]);
    refused(&server, "delay-max", &["299ms", "0s"]);
    server.set("delay-min", "0s");
    server.set("delay-max", "0s");
    let response = server.get("/");
    assert!(
        response.status == 200 && response.told_delay() == ms(0),
        "{response}"
    );
    let listed = settings(&server);
    assert_eq!(
        (&listed["delay-min"], &listed["delay-max"]),
        (&json!("0s"), &json!("0s"))
    );
}

#[test]
fn error_rate_changes_the_echo() {
    let server = Server::start_admin(&[]);
    server.set("error-rate", "1");
    assert_eq!(server.get("/").status, 500);
    server.set("error-rate", "0.5");
    let errors = (0..200).filter(|_| server.get("/").status == 500).count();
    assert!(
        (50..=150).contains(&errors),
        "{errors} of 200 at a rate of a half"
    );
    server.set("error-rate", "0");
    assert!((0..20).all(|_| server.get("/").status == 200));
}

/// Asserts that each value is refused with 400 and a reason, and changes nothing.
#[track_caller]
fn refused(server: &Server, name: &str, bad: &[&str]) {
    let before = settings(server);
    for value in bad {
        let response = server.admin("PUT", &format!("settings/{name}"), value);
        assert_eq!(response.status, 400, "{name}={value:?}");
        let reason = response.text();
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
    let server = Server::start_admin(&[]);
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
    let server = Server::start_admin(&[]);
    refused(&server, "log-level", &[&"debug".repeat(10_000)]);
    let head = format!(
        "PUT /admin/settings/ready HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {TOKEN}\r\n"
    );
    let request = [head.as_bytes(), b"Content-Length: 5\r\n\r\nfals\xff"].concat();
    assert_eq!(Client::new(&server).call_raw(request).status, 400);
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn names_and_methods_that_do_not_exist_are_refused() {
    let server = Server::start_admin(&[]);
    for path in [
        "settings/max-body",
        "settings/listen",
        "settings/",
        "settings/ready/x",
        "settings/READY",
        "x",
        "",
    ] {
        let response = server.admin("PUT", path, "true");
        assert_eq!(response.status, 404, "PUT /admin/{path}");
    }
    for (method, path, allow) in [
        ("PUT", "settings", "GET"),
        ("DELETE", "settings", "GET"),
        ("POST", "settings/ready", "PUT"),
        ("DELETE", "settings/ready", "PUT"),
    ] {
        let response = server.admin(method, path, "true");
        assert_eq!(response.status, 405, "{method} /admin/{path}");
        assert!(
            response.field("allow").contains(allow),
            "{method} /admin/{path}: {response}"
        );
    }
    assert_eq!(
        server.get("/administrator").status,
        200,
        "a path that only begins alike echoes"
    );
}

#[test]
fn each_change_is_one_line_and_each_refusal_none() {
    let mut server = Server::start_admin(&[]);
    let before = server.stderr.text();
    server.set("delay-max", "10ms");
    server.set("error-rate", "0.25");
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
fn a_change_of_the_level_is_told_at_the_more_talkative_of_old_and_new() {
    // Each of these changes has a level on one of its sides that shows it.
    let mut server = Server::start_admin(&[]);
    let levels = ["warn", "info", "error", "debug", "warn", "debug", "info"];
    for level in levels {
        server.set("log-level", level);
    }
    server.stop();
    let text = server.stderr.text();
    let told: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("log-level"))
        .collect();
    assert_eq!(told.len(), levels.len(), "{text}");
    assert!(
        told.iter()
            .zip(levels)
            .all(|(line, level)| line.contains(&format!("now {level},"))),
        "{text}"
    );
}

#[test]
fn the_token_is_in_nothing_that_the_server_wrote() {
    let mut server = Server::start_admin(&["--log-level", "debug"]);
    let mut written = String::new();
    for response in [
        server.admin("GET", "settings", ""),
        server.admin("PUT", "settings/ready", "false"),
        server.admin("PUT", "settings/delay-max", "banana"),
        server.admin("PUT", "settings/nothing", "1"),
        server.admin("DELETE", "settings", ""),
        Client::new(&server).call(
            "GET",
            "/admin/settings",
            "Authorization: Bearer wrong\r\n",
            "",
        ),
    ] {
        written += &format!("{response}");
        written += &response.text();
    }
    for path in ["/metrics", "/version", "/", "/healthz", "/readyz"] {
        written += &format!("{}", server.get(path));
    }
    server.stop();
    written += &server.stdout.text();
    written += &server.stderr.text();
    assert!(!written.contains("admin is off"), "{written}");
    let inner = TOKEN.trim_end_matches('=');
    assert!(!written.contains(inner), "the token is told in: {written}");
}

#[test]
fn a_change_while_draining_is_still_answered() {
    let mut server = Server::start_admin(&["--shutdown-delay", "1h"]);
    server.signal("TERM");
    server.stderr.line("draining");
    server.set("ready", "true");
    let response = server.get("/readyz");
    assert!(
        response.status == 503 && response.text().trim_end() == "draining",
        "the drain is stronger: {response}"
    );
    server.stop();
}
