//! Clients that ask for a delay and leave at once hold no slot once somebody needs it.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::support::{
    PROGRAM, Prober, Server, ask, command, open_files, read_some, sum_of, wait_until,
};

/// What a client sends behind its request hides its close from a look at the socket.
const REQUEST: &str = "GET /delay/60s HTTP/1.1\r\nHost: a\r\n\r\n";

fn gone_clients(slots: usize, behind: &str) {
    if !open_files("gone clients", slots) {
        return;
    }
    let server = Server::start(&[
        "--max-connections",
        &slots.to_string(),
        "--drain-timeout",
        "1s",
    ]);
    // It asks again and again, so it is never the one that makes room.
    let mut observer = server.connect();
    let mut attackers = Vec::new();
    for _ in 1..slots {
        let mut stream = server.connect();
        stream.write_all(REQUEST.as_bytes()).unwrap();
        attackers.push(stream);
    }
    let full = wait_until(|| {
        let (_, metrics) = ask(&mut observer, "/metrics").unwrap();
        sum_of(&metrics, "http_requests_in_flight ") == slots as u64
    });
    assert!(full, "the delays do not hold the slots");
    // The delays have begun, so nobody reads this.
    for stream in &mut attackers {
        stream.write_all(behind.as_bytes()).unwrap();
    }
    drop(attackers);
    // On a busy machine a gone client's thread may not run in the time that a newcomer waits for its
    // slot. Then the newcomer gets 503, and the next one may take the slot of an idle newcomer, so
    // more come until enough gone clients have made room.
    let mut newcomers = Vec::new();
    let evicted = || server.metric("http_aborted_requests_total{reason=\"evicted\"}");
    let made_room = wait_until(|| {
        let mut newcomer = server.connect();
        let served = ask(&mut newcomer, "/").is_ok_and(|(status, _)| status == 200);
        newcomers.push(newcomer);
        served && evicted() >= 20
    });
    assert!(made_room, "{} made room", evicted());
    drop((newcomers, observer));
    let ended = server.terminate();
    ended.assert_exact();
}

#[test]
fn a_newcomer_is_served_while_gone_clients_are_delayed() {
    gone_clients(64, "");
}

#[test]
#[ignore = "1,024 connections"]
fn a_newcomer_is_served_while_a_thousand_gone_clients_are_delayed() {
    gone_clients(1024, "");
}

#[test]
fn bytes_behind_the_request_do_not_hide_the_close() {
    gone_clients(64, "G");
    gone_clients(64, &REQUEST.repeat(10));
}

/// More than the server reads ahead: nobody can tell whether the client is still there.
#[test]
fn a_flood_behind_the_request_does_not_hide_the_close() {
    gone_clients(64, &REQUEST.repeat(1000));
}

/// The server reads ahead to see a close, and answers what it read.
#[test]
fn a_client_that_stays_gets_every_response() {
    let server = Server::start(&["--max-connections", "1", "--drain-timeout", "1s"]);
    let mut stream = server.connect();
    let first = b"GET /delay/4s HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(first).unwrap();
    assert!(wait_until(|| server.metric("http_requests_in_flight ") > 1));
    let second = "GET /status/418 HTTP/1.1\r\nHost: a\r\n\r\n";
    let cut = second.len() / 2;
    stream.write_all(&second.as_bytes()[..cut]).unwrap();
    assert_eq!(server.get("/").unwrap().status, 503);
    stream.write_all(&second.as_bytes()[cut..]).unwrap();
    assert_eq!(server.get("/").unwrap().status, 503);
    // Both responses may come in one piece.
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains("HTTP/1.1 418 ") {
        let count = read_some(&mut stream, &mut buffer).unwrap();
        assert_ne!(count, 0, "{text}");
        text.push_str(str::from_utf8(&buffer[..count]).unwrap());
    }
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert_eq!(ask(&mut stream, "/").unwrap().0, 200);
    drop(stream);
    server.terminate().assert_exact();
}

/// Where nobody reads the log, its buffer is full, and threads wait for room in it. Those of gone
/// clients do not, because a newcomer waits for their slots.
#[test]
fn gone_clients_do_not_wait_for_the_log() {
    if !open_files("gone clients beside a full log", 32) {
        return;
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = command(
        PROGRAM,
        &["--max-connections", "16", "--drain-timeout", "1s"],
    );
    command.stdout(Stdio::from(OwnedFd::from(theirs)));
    let server = Server::spawn_with_stdout(command);
    let agent = "x".repeat(500);
    let logged = format!("GET /status/204 HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n");
    let mut writer = server.connect();
    let short = Duration::from_millis(500);
    writer.set_write_timeout(Some(short)).unwrap();
    let mut reader = writer.try_clone().unwrap();
    let drop_all = thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
    let logged = logged.repeat(100);
    let mut sent = 0;
    while writer.write_all(logged.as_bytes()).is_ok() {
        sent += 1;
        assert!(sent < 10_000, "the log is not full");
    }
    // Short lines still fit, until there is no room for them either.
    let mut single = server.connect();
    single.set_read_timeout(Some(short)).unwrap();
    while ask(&mut single, "/").is_ok() {}
    for _ in 2..16 {
        let mut stream = server.connect();
        stream
            .write_all(b"GET /delay/60s HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
    }
    let prober = Prober::start(server.address);
    assert!(wait_until(|| prober.count() >= 40));
    prober.stop().assert_green(&server);
    drop((ours, writer));
    assert!(server.terminate().well);
    let _ = drop_all.join();
}
