//! What a connection holds while it waits has a bound, whatever was sent before.

use std::io::Write;
use std::net::TcpStream;

use crate::support::{Cgroup, Server, not_run, open_files, pause, read_some, sum_of, wait_until};

const CONNECTIONS: u64 = 1000;
const LIMIT: u64 = 128 << 20;

/// Everything that grew a buffer before the delay: a long head, a body, pipelined requests whose
/// log lines are six times as long as what they tell.
fn grow_and_wait(stream: &mut TcpStream, waits: &str) {
    let long = "x".repeat(31 << 10);
    let head = format!("GET /status/204 HTTP/1.1\r\nHost: a\r\nA: {long}\r\n\r\n");
    let body = format!(
        "POST /status/204 HTTP/1.1\r\nHost: a\r\nContent-Length: 32768\r\n\r\n{}",
        "x".repeat(32 << 10)
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut logged = b"GET /status/204 HTTP/1.1\r\nHost: a\r\nUser-Agent: ".to_vec();
    logged.extend([0xff; 512]);
    logged.extend(b"\r\nReferer: ");
    logged.extend([0xff; 512]);
    logged.extend(b"\r\n\r\n");
    stream.write_all(&logged.repeat(30)).unwrap();
    read_responses(stream, 32);
    stream.write_all(waits.as_bytes()).unwrap();
}

/// Reads responses, so that what the client sent is out of the kernel's buffers.
fn read_responses(stream: &mut TcpStream, count: usize) {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while text.matches("\r\n\r\n").count() < count {
        let length = read_some(stream, &mut buffer).unwrap();
        assert!(length > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
}

/// A cgroup with the limit; `None`, and the reason is told, where there is none.
fn limited(name: &str) -> Option<Cgroup> {
    let limited = |cgroup: Cgroup| cgroup.limit_memory(LIMIT).map(|()| cgroup);
    Cgroup::new("memory", name)
        .and_then(limited)
        .map_err(|why| not_run(name, why))
        .ok()
}

/// Runs the server with the limit, and waits until the connections wait.
fn memory_bound(name: &str, waits: &str, in_flight: &str) {
    if !open_files("a memory limit", CONNECTIONS as usize) {
        return;
    }
    let Some(cgroup) = limited(name) else { return };
    // On a slow machine the first connection has to wait longer than a minute for the last one.
    let flags = "--log-format json --delay-min 1h --delay-max 1h";
    let flags: Vec<_> = flags.split(' ').collect();
    let mut server = Server::start_in(&[&cgroup], &flags);
    let mut attackers = Vec::new();
    // A few slots stay free, so that nobody makes room.
    for _ in 0..CONNECTIONS {
        let mut stream = server.connect();
        grow_and_wait(&mut stream, waits);
        attackers.push(stream);
    }
    let all_wait = wait_until(|| {
        let Ok(response) = server.get("/metrics") else {
            return !server.is_alive();
        };
        sum_of(&response.text, in_flight) >= CONNECTIONS
    });
    pause(std::time::Duration::from_millis(200));
    println!(
        "{name}: peak {} KiB, resident {} KiB",
        cgroup.peak_memory() >> 10,
        server.status("VmRSS:")
    );
    assert!(server.is_alive(), "the server was killed");
    assert!(all_wait, "the connections do not wait");
    assert!(cgroup.peak_memory() < LIMIT, "the limit was reached");
    drop(attackers);
    let ended = server.terminate();
    assert!(ended.well, "{}", ended.stderr);
}

#[test]
#[ignore = "1,000 connections in a memory cgroup"]
fn delayed_connections() {
    let waits = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    memory_bound("delayed", waits, "http_requests_in_flight ");
}

#[test]
#[ignore = "1,000 connections in a memory cgroup"]
fn streaming_connections() {
    let waits = "GET /events?interval=1h HTTP/1.1\r\nHost: a\r\n\r\n";
    memory_bound("streaming", waits, "http_requests_in_flight ");
}

#[test]
#[ignore = "1,000 connections in a memory cgroup"]
fn idle_connections() {
    memory_bound("idle", "", "http_idle_connections ");
}

/// The delayed request has a long head, and another one is begun behind it.
#[test]
#[ignore = "1,000 connections in a memory cgroup"]
fn delayed_connections_with_long_heads() {
    let long = "x".repeat(28 << 10);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}\r\n\r\n");
    let waits = head.clone() + &head[..8 << 10];
    memory_bound("long-heads", &waits, "http_requests_in_flight ");
}

/// With larger heads fewer connections fit. Those have a slot hold a whole head, and nearly all of
/// another one behind it; the rest is told 503.
#[test]
#[ignore = "1,000 connections in a memory cgroup"]
fn connections_with_the_largest_heads() {
    let name = "largest-heads";
    let Some(cgroup) = limited(name) else { return };
    let flags = ["--max-head", "1MiB", "--header-timeout", "1h"];
    let mut server = Server::start_in(&[&cgroup], &flags);
    assert!(server.stderr.wait_for("the memory limit").is_some());
    // A field line has 8,000 bytes, far below the limit of a line.
    let lines = format!("A: {}\r\n", "x".repeat(8000)).repeat(98);
    let head = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let sent = [head("/delay/1s"), head("/")[..700_000].to_owned()].concat();
    let mut attackers = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = server.connect();
        // One that is shed may be closed before it has sent all.
        if stream.write_all(sent.as_bytes()).is_ok() {
            attackers.push(stream);
        }
        assert!(server.is_alive(), "the server was killed");
    }
    println!(
        "{name}: {} connections, peak {} KiB, resident {} KiB",
        attackers.len(),
        cgroup.peak_memory() >> 10,
        server.status("VmRSS:")
    );
    assert!(cgroup.peak_memory() < LIMIT, "the limit was reached");
    drop(attackers);
    assert!(server.terminate().well);
}
