//! Every setting: its flag, its variable, what it takes, and what a bad value is told. A flag beats the environment,
//! which beats the default; a variable that is set but empty counts as not set.

use std::process::Command;

use crate::command_line::{fails, run};
use crate::support::server::BINARY;
use crate::support::{Client, Scratch, Server};

/// Each setting: its flag, its variable, a value that is good and one that is not.
pub(crate) const SETTINGS: &[(&str, &str, &str, &str)] = &[
    ("--listen", "LISTEN", "localhost:0", "nonsense"),
    ("--delay-min", "DELAY_MIN", "0s", "banana"),
    ("--delay-max", "DELAY_MAX", "10ms", "banana"),
    ("--error-rate", "ERROR_RATE", "0.25", "1.01"),
    ("--log-level", "LOG_LEVEL", "info", "loud"),
    ("--log-format", "LOG_FORMAT", "json", "xml"),
    ("--trusted-proxies", "TRUSTED_PROXIES", "fd00::/8", "proxy"),
    ("--max-connections", "MAX_CONNECTIONS", "16", "0"),
    ("--max-body", "MAX_BODY", "64KiB", "1XB"),
    ("--max-body-memory", "MAX_BODY_MEMORY", "2MiB", "1XB"),
    ("--max-head", "MAX_HEAD", "64KiB", "1XB"),
    ("--header-timeout", "HEADER_TIMEOUT", "3s", "soon"),
    ("--body-timeout", "BODY_TIMEOUT", "3s", "soon"),
    ("--write-timeout", "WRITE_TIMEOUT", "3s", "soon"),
    ("--idle-timeout", "IDLE_TIMEOUT", "3s", "soon"),
    ("--path-prefix", "PATH_PREFIX", "/app", "app"),
    ("--allow-burn", "ALLOW_BURN", "true", "maybe"),
    ("--shutdown-delay", "SHUTDOWN_DELAY", "10ms", "soon"),
    ("--drain-timeout", "DRAIN_TIMEOUT", "3s", "soon"),
];

#[test]
fn a_bad_flag_value_names_flag_and_value() {
    for (flag, _, _, bad) in SETTINGS {
        fails(
            &run(&[flag, bad], &[]),
            78,
            &[&format!("{flag}: \"{bad}\"")],
        );
    }
}

#[test]
fn every_flag_and_every_variable_is_understood() {
    let flags: Vec<&str> = SETTINGS
        .iter()
        .flat_map(|(flag, _, good, _)| [*flag, *good])
        .collect();
    assert_eq!(Server::start(&flags).get("/healthz").status, 200);
    let serve: Vec<&str> = ["serve"].into_iter().chain(flags).collect();
    let mut command = Command::new(BINARY);
    command.env_clear().args(serve);
    assert_eq!(Server::spawn(command).get("/healthz").status, 200);
    let mut command = Command::new(BINARY);
    command.env_clear().envs(
        SETTINGS
            .iter()
            .map(|(_, variable, good, _)| (variable, good)),
    );
    let server = Server::spawn(command);
    assert_eq!(server.get("/healthz").status, 200);
    assert!(
        server.stderr.text().starts_with("{\"time\":"),
        "LOG_FORMAT was read: {}",
        server.stderr.text()
    );
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    // Compose files and charts write `VAR=`.
    let mut empty: Vec<(&str, &str)> = SETTINGS
        .iter()
        .map(|(_, variable, ..)| (*variable, ""))
        .collect();
    empty.retain(|(variable, _)| *variable != "LISTEN");
    empty.extend([
        ("VERSION", ""),
        ("ADMIN_TOKEN", ""),
        ("ADMIN_TOKEN_FILE", ""),
        ("POD_NAME", ""),
    ]);
    let server = Server::start_with(&[], &empty);
    let response = server.get("/");
    assert_eq!(
        (response.status, response.field("version")),
        (200, env!("CARGO_PKG_VERSION")),
        "{response}"
    );
    server.stderr.line("admin is off");
    assert_eq!(server.get("/admin/settings").status, 200, "it echoes");
}

#[test]
fn the_longest_times_are_as_good_as_any() {
    let long = "5000000000h";
    let flags = [
        "--header-timeout",
        "--body-timeout",
        "--write-timeout",
        "--idle-timeout",
        "--drain-timeout",
    ];
    let mut server = Server::start(&flags.map(|flag| [flag, long]).concat());
    assert_eq!(
        Client::new(&server).call("POST", "/", "", "body").status,
        200
    );
    server.stop();
    let mut server = Server::start(&["--shutdown-delay", long]);
    assert_eq!(server.get("/").status, 200);
    server.signal("TERM");
    server.stderr.line("draining");
    assert_eq!(server.get("/").status, 200);
    server.stop();
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_default() {
    assert_eq!(Server::start(&[]).get("/").status, 200);
    assert_eq!(
        Server::start_with(&[], &[("ERROR_RATE", "1")])
            .get("/")
            .status,
        500
    );
    assert_eq!(
        Server::start_with(&["--error-rate", "0"], &[("ERROR_RATE", "1")])
            .get("/")
            .status,
        200
    );
}

#[test]
fn what_kubernetes_injects_for_a_service_of_this_name_is_ignored() {
    let injected = [
        ("HTTPSERVER_PORT", "tcp://10.96.0.1:8080"),
        ("HTTPSERVER_SERVICE_HOST", "10.96.0.1"),
        ("HTTPSERVER_LISTEN", "nonsense"),
    ];
    assert_eq!(Server::start_with(&[], &injected).get("/").status, 200);
}

#[test]
fn version_is_read_once_from_the_environment() {
    let server = Server::start_with(&[], &[("VERSION", "7.1-rc2")]);
    assert_eq!(server.get("/any/path").field("version"), "7.1-rc2");
    let server = Server::start(&[]);
    assert_eq!(
        server.get("/any/path").field("version"),
        env!("CARGO_PKG_VERSION")
    );
    let breaks = run(
        &["--listen", "127.0.0.1:0"],
        &[("VERSION", "1\r\nX-Evil: 1")],
    );
    fails(&breaks, 78, &["VERSION"]);
}

#[test]
fn an_empty_or_absent_token_file_is_refused() {
    let empty = Scratch::file("empty", "");
    let line = Scratch::file("line", "\n");
    for path in [empty.text(), line.text(), "/nonexistent/token"] {
        fails(
            &run(&["--admin-token-file", path], &[]),
            78,
            &["--admin-token-file", path],
        );
        fails(
            &run(&[] as &[&str], &[("ADMIN_TOKEN_FILE", path)]),
            78,
            &["ADMIN_TOKEN_FILE", path],
        );
    }
}

#[test]
fn a_failed_start_does_not_tell_the_token() {
    let file = Scratch::file("token", "top-secret\n");
    let from_file = run(
        &["--admin-token-file", file.text(), "--delay-max", "banana"],
        &[],
    );
    let from_variable = run(&["--delay-max", "banana"], &[("ADMIN_TOKEN", "top-secret")]);
    for output in [from_file, from_variable] {
        fails(&output, 78, &["--delay-max"]);
        assert!(
            !String::from_utf8_lossy(&output.stderr).contains("secret"),
            "{output:?}"
        );
    }
}
