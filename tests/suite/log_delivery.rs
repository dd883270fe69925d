//! How log lines reach stdout and stderr: a slow reader loses nothing, a closed or full one is told and ends nothing,
//! and one that does not read delays neither probes nor the end. The diagnostics are lines as log collectors read them.

use std::fs::File;
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use crate::admission::probes_are_prompt;
use crate::support::host::have;
use crate::support::log::{Line, lines_of};
use crate::support::server::{Account, TOKEN, command, under};
use crate::support::{Client, PATIENCE, Server, get, ms, not_run, pause};

#[test]
fn a_slow_reader_loses_nothing() {
    let mut server =
        Server::spawn_unread(command(&["--drain-timeout", "1h", "--write-timeout", "1h"]));
    let mut client = Client::new(&server);
    let targets: Vec<String> = (0..2000).map(|number| format!("/{number}")).collect();
    for target in &targets {
        assert_eq!(client.get(target).status, 200);
    }
    // A response that nobody takes yet holds the end, which waits a second at most for who reads the log.
    assert_eq!(client.hold(), 200);
    server.signal("TERM");
    server.stderr.read();
    server.stderr.line("draining");
    server.stdout.read();
    server.stdout.wait_lines(targets.len());
    assert_eq!(client.response().status, 200);
    drop(client);
    server.ends_well();
    let lines = server.lines();
    let logged = lines.iter().map(|line| line.field("target"));
    assert!(logged.take(2000).eq(&targets), "in order and whole");
    assert_eq!(Account::of(&server).count("log_lines"), 2001);
}

#[test]
fn a_closed_stdout_is_told_once_and_ends_nothing() {
    let mut server = Server::spawn_unread(command(&[]));
    server.stderr.read();
    server.stdout.close();
    let mut client = Client::new(&server);
    for _ in 0..50 {
        assert_eq!(client.get("/").status, 200);
        // Several writes fail, not one.
        pause(ms(3));
    }
    server.wait_count("access_log_write_errors_total", |errors| errors > 1);
    drop(client);
    server.stop();
    let stderr = server.stderr.text();
    let told = stderr
        .lines()
        .filter(|line| line.to_lowercase().contains("broken pipe"))
        .count();
    assert!(told >= 1, "{stderr}");
    // Once when it happens, and once more where the end tells why lines were lost.
    assert!(told <= 2, "told {told} times: {stderr}");
}

#[test]
fn a_full_disk_is_named_in_the_last_lines() {
    // /dev/full is always full.
    let mut command = under(&["sh", "-c", "exec \"$0\" \"$@\" >/dev/full"], &[]);
    command.stdout(Stdio::null());
    assert!(File::open("/dev/full").is_ok(), "Linux has /dev/full");
    let mut server = Server::spawn(command);
    for _ in 0..10 {
        assert_eq!(server.get("/").status, 200);
    }
    server.wait_count("access_log_write_errors_total", |errors| errors > 0);
    server.stop();
    let stderr = server.stderr.text();
    let last: Vec<&str> = stderr.lines().rev().take(2).collect();
    let told = last
        .iter()
        .find(|line| line.contains("lost"))
        .unwrap_or_else(|| panic!("no lost lines: {stderr}"));
    assert!(
        told.contains("10 ") && told.to_lowercase().contains("space"),
        "{told}"
    );
    let account = Account::of(&server);
    assert_eq!(account.count("log_lines"), 0, "{account:?}");
    assert_eq!(
        account.count("requests") - account.count("not_logged"),
        10,
        "{account:?}"
    );
}

/// Fills a stdout that nobody reads, until a request waits for room in the log; the connection that waits.
#[track_caller]
fn fill_the_log(server: &Server) -> Client {
    let mut client = Client::new(server);
    let burst = get(&format!("/{}", "x".repeat(1500))).repeat(4);
    for _ in 0..20_000 {
        client.send(&burst);
        for _ in 0..4 {
            client.stream.set_read_timeout(Some(ms(1_500))).unwrap();
            let response = client.try_response(false);
            client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
            if response.is_err() {
                return client;
            }
        }
    }
    panic!("the log's buffer is not bounded: no request waited");
}

#[test]
fn a_stdout_that_nobody_reads_leaves_probes_prompt_and_cannot_hold_the_end() {
    // At debug the probes have lines too: if these waited for room, the few slots would soon be taken for ever.
    let flags = [
        "--drain-timeout",
        "1s",
        "--log-level",
        "debug",
        "--max-connections",
        "8",
    ];
    let mut server = Server::spawn_unread(command(&flags));
    server.stderr.read();
    let waiting = fill_the_log(&server);
    for _ in 0..2 {
        probes_are_prompt(&server, "a stdout that nobody reads");
    }
    let start = Instant::now();
    server.signal("TERM");
    server.ends_well();
    // The client that waits stays connected, so this takes the limit, the 500 ms for last responses and the log's
    // second; a server that waits for its reader never ends.
    assert!(
        start.elapsed() < ms(20_000),
        "the end took {:?}",
        start.elapsed()
    );
    let account = Account::of(&server);
    let (lines, requests) = (account.count("log_lines"), account.count("requests"));
    assert!(
        lines < requests,
        "a pipe of 64 KiB cannot have taken them all: {account:?}"
    );
    let lost = (requests - lines - account.count("not_logged")).to_string();
    let stderr = server.stderr.text();
    assert!(
        stderr
            .lines()
            .any(|line| line.contains(&lost) && line.contains("lost")),
        "{lost} lost in {stderr}"
    );
    drop(waiting);
}

#[test]
fn a_stdout_that_is_read_again_frees_those_who_wait() {
    let mut server = Server::spawn_unread(command(&[]));
    server.stderr.read();
    let mut waiting = fill_the_log(&server);
    // A refusal has a line like others, and waits for room too. Some of these short ones still find it.
    let mut refused: Vec<Client> = (0..20).map(|_| Client::new(&server)).collect();
    for client in &mut refused {
        client.send("GET / HTTP/1.1\r\n\r\n");
    }
    server.stdout.read();
    let response = waiting.response();
    assert_eq!(response.status, 200, "{response}");
    drop(waiting);
    for client in &mut refused {
        assert_eq!(client.response().status, 400);
    }
    drop(refused);
    server.stop();
    let account = Account::of(&server);
    let lines = lines_of(&server.stdout.text());
    assert_eq!(
        lines
            .iter()
            .filter(|line: &&Line| line.status() == 400)
            .count(),
        20
    );
    let lines = lines.len() as u64;
    assert_eq!(
        (account.count("requests"), account.count("log_lines")),
        (lines, lines),
        "nothing was lost"
    );
}

#[test]
fn a_stderr_that_nobody_reads_delays_nothing() {
    let mut command = command(&[]);
    command.env("ADMIN_TOKEN", TOKEN);
    let mut server = Server::spawn_unread(command);
    server.stdout.read();
    let mut client = Client::new(&server);
    let fields = format!("Authorization: Bearer {TOKEN}\r\n");
    // Each change is a line, and together they are more than the pipe holds.
    for number in 0..3000 {
        let value = format!("{}ms", number % 7 + 1);
        let response = client.call("PUT", "/admin/settings/delay-max", &fields, &value);
        assert_eq!(response.status, 200, "{response}");
    }
    probes_are_prompt(&server, "a stderr that nobody reads");
    drop(client);
    server.signal("TERM");
    server.ends_well();
    assert_eq!(
        server
            .lines()
            .iter()
            .filter(|line| line.field("method") == "PUT")
            .count(),
        3000
    );
}

#[test]
fn a_stdout_that_does_not_block_gets_whole_lines() {
    // A pipe that another program has set to O_NONBLOCK: a write takes what has room and fails then.
    if !have("python3") {
        return not_run("a stdout that does not block", "no python3 to make one");
    }
    let python = "import os, sys; os.set_blocking(1, False); os.execv(sys.argv[1], sys.argv[1:])";
    let mut server = Server::spawn_unread(under(&["python3", "-c", python], &[]));
    server.stderr.read();
    let mut client = Client::new(&server);
    let targets: Vec<String> = (0..600)
        .map(|number| format!("/{number}/{}", "x".repeat(500)))
        .collect();
    for target in &targets {
        assert_eq!(client.get(target).status, 200);
    }
    drop(client);
    server.stdout.read();
    server.stdout.wait_lines(targets.len());
    server.stop();
    let lines = server.lines();
    assert!(
        lines.iter().map(|line| line.field("target")).eq(&targets),
        "{} lines",
        lines.len()
    );
}

#[test]
fn json_diagnostics_carry_the_severity_that_google_cloud_reads() {
    // More connections than any host allows: that is a warning.
    let flags = ["--log-format", "json", "--max-connections", "1000000"];
    let mut server = Server::start(&flags);
    server.stop();
    let text = server.stderr.text();
    let mut seen = Vec::new();
    for line in text.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let pair = (line["level"].as_str(), line["severity"].as_str());
        assert!(
            [
                (Some("info"), Some("INFO")),
                (Some("warn"), Some("WARNING"))
            ]
            .contains(&pair),
            "{line}"
        );
        seen.push(pair.0.unwrap_or_default().to_owned());
    }
    assert!(
        ["info", "warn"]
            .iter()
            .all(|level| seen.iter().any(|seen| seen == level)),
        "{text}"
    );
}
