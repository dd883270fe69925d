//! Every setting: its flag, its variable, what it takes, and what a bad value is told. A flag beats the environment,
//! which beats the default; a variable that is set but empty counts as not set.

use std::process::Command;

use crate::command_line::{fails, run};
use crate::support::host::has_ipv6;
use crate::support::server::BINARY;
use crate::support::{Client, Scratch, Server, not_run};

/// Each setting: its flag, its variable, a value that is good and some that are not.
pub(crate) const SETTINGS: &[(&str, &str, &str, &[&str])] = &[
    (
        "--listen",
        "LISTEN",
        "127.0.0.1:0",
        &["nonsense", "127.0.0.1", "127.0.0.1:65536", ":", ""],
    ),
    (
        "--delay-min",
        "DELAY_MIN",
        "0s",
        &["banana", "1", "-1s", "1.5.5s", ""],
    ),
    (
        "--delay-max",
        "DELAY_MAX",
        "10ms",
        &["banana", "2", "2sx", "99999999999999999999s", ""],
    ),
    (
        "--error-rate",
        "ERROR_RATE",
        "0.25",
        &["1.01", "-0.1", "NaN", "inf", "half", ""],
    ),
    (
        "--log-level",
        "LOG_LEVEL",
        "info",
        &["loud", "INFORMATION", ""],
    ),
    ("--log-format", "LOG_FORMAT", "json", &["xml", ""]),
    (
        "--trusted-proxies",
        "TRUSTED_PROXIES",
        "10.0.0.0/8,fd00::/8",
        &[
            "10.0.0.0/33",
            "fd00::/129",
            "proxy",
            "10.0.0.1/8",
            "fd00::1/8",
        ],
    ),
    (
        "--max-connections",
        "MAX_CONNECTIONS",
        "16",
        &["0", "-1", "many", "1.5", ""],
    ),
    ("--max-body", "MAX_BODY", "64KiB", &["1XB", "-1", "big", ""]),
    (
        "--max-body-memory",
        "MAX_BODY_MEMORY",
        "2MiB",
        &["1XB", "-1", "big", ""],
    ),
    (
        "--max-head",
        "MAX_HEAD",
        "64KiB",
        &["1XB", "-1", "8191", "1025KiB", ""],
    ),
    (
        "--header-timeout",
        "HEADER_TIMEOUT",
        "3s",
        &["soon", "3", ""],
    ),
    ("--body-timeout", "BODY_TIMEOUT", "3s", &["soon", "3", ""]),
    ("--write-timeout", "WRITE_TIMEOUT", "3s", &["soon", "3", ""]),
    ("--idle-timeout", "IDLE_TIMEOUT", "3s", &["soon", "3", ""]),
    ("--path-prefix", "PATH_PREFIX", "/app", &["app", "/a b"]),
    ("--allow-burn", "ALLOW_BURN", "true", &["maybe", "2"]),
    (
        "--shutdown-delay",
        "SHUTDOWN_DELAY",
        "10ms",
        &["soon", "3", ""],
    ),
    ("--drain-timeout", "DRAIN_TIMEOUT", "3s", &["soon", "3", ""]),
];

#[test]
fn a_bad_flag_value_names_flag_and_value() {
    for (flag, _, _, bad) in SETTINGS {
        for value in *bad {
            fails(
                &run(&[flag, value], &[]),
                78,
                &[&format!("{flag}: \"{value}\"")],
            );
        }
    }
}

#[test]
fn a_bad_variable_names_variable_and_value() {
    for (_, variable, _, bad) in SETTINGS {
        let output = run(&[] as &[&str], &[(variable, bad[0])]);
        fails(&output, 78, &[&format!("{variable}: \"{}\"", bad[0])]);
    }
}

#[test]
fn what_was_expected_is_said() {
    fails(
        &run(&["--delay-max", "banana"], &[]),
        78,
        &["250ms", "2s", "1m30s"],
    );
    fails(
        &run(&["--log-level", "loud"], &[]),
        78,
        &["error", "warn", "info", "debug"],
    );
    fails(&run(&["--log-format", "xml"], &[]), 78, &["text", "json"]);
    fails(&run(&["--error-rate", "2"], &[]), 78, &["0", "1"]);
    fails(&run(&["--max-body", "1XB"], &[]), 78, &["64KiB"]);
    fails(
        &run(&["--trusted-proxies", "proxy"], &[]),
        78,
        &["10.0.0.0/8"],
    );
    // The address has bits beyond the network; what was meant is told.
    fails(
        &run(&["--trusted-proxies", "10.0.0.1/8"], &[]),
        78,
        &["bits set after its prefix", "10.0.0.0/8"],
    );
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    fails(
        &run(&[] as &[&str], &[("DELAY_MIN", "3s")]),
        78,
        &["DELAY_MIN", "3s", "2s"],
    );
    fails(
        &run(&["--delay-min", "500ms", "--delay-max", "250ms"], &[]),
        78,
        &["--delay-min", "500ms", "250ms"],
    );
    fails(
        &run(&["--max-body", "9999999999GiB"], &[]),
        78,
        &["--max-body", "9999999999GiB", "16MiB"],
    );
    fails(
        &run(&["--max-body", "2MiB", "--max-body-memory", "1MiB"], &[]),
        78,
        &["--max-body", "2MiB", "1MiB"],
    );
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
fn values_are_written_as_kubernetes_users_write_them() {
    for (flag, good) in [
        ("--log-level", "INFO"),
        ("--log-format", "Text"),
        ("--max-body", "1Mi"),
        ("--max-body", "1M"),
        ("--max-body", "524288"),
        ("--max-body", "64Ki"),
        ("--delay-max", "1.5s"),
        ("--delay-max", "1m30s"),
        ("--listen", "localhost:0"),
    ] {
        let server = Server::start(&[flag, good]);
        assert_eq!(server.get("/healthz").status, 200, "{flag} {good}");
    }
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

#[test]
fn ipv6_and_ipv4_reach_the_wildcard() {
    if !has_ipv6() {
        return not_run("one socket for IPv4 and IPv6", "this host has no IPv6");
    }
    let server = Server::start(&["--listen", "[::]:0"]);
    if server.stderr.text().contains("bindv6only") {
        return not_run(
            "one socket for IPv4 and IPv6",
            "this host's net.ipv6.bindv6only is 1",
        );
    }
    for host in ["127.0.0.1", "[::1]"] {
        let addr = format!("{host}:{}", server.addr.port()).parse().unwrap();
        let response = Client::to(addr).expect("it accepts").get("/");
        let told = format!("client: {}\n", host.trim_matches(['[', ']']));
        assert!(response.text().contains(&told), "{response}");
    }
}

#[test]
fn a_path_prefix_adds_the_routes_below_it() {
    let server = Server::start(&["--path-prefix", "/app"]);
    for path in [
        "/app/healthz",
        "/app/readyz",
        "/app/metrics",
        "/app/version",
        "/app/status/200",
        "/healthz",
    ] {
        let response = server.get(path);
        assert!(
            response.status == 200 && !response.text().contains("target: "),
            "{path}: {response}"
        );
    }
    for path in [
        "/app",
        "/app/",
        "/app/x",
        "/apphealthz",
        "/application/healthz",
    ] {
        assert!(
            server
                .get(path)
                .text()
                .contains(&format!("target: {path}\n")),
            "{path} echoes"
        );
    }
}
