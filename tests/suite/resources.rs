//! What connections and an idle server hold: threads, memory, and no processor time.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};

use crate::support::{Client, Scratch, Server, eventually, host, ms, not_run, pause, process};

/// glibc gives freed memory back to the system with these settings (mallopt(3)).
pub(crate) const GIVE_BACK: [(&str, &str); 4] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "4096"),
    ("MALLOC_TRIM_THRESHOLD_", "4096"),
    ("MALLOC_TOP_PAD_", "0"),
];

#[test]
fn four_threads_wait_in_accept_however_many_serve() {
    let server = Server::start(&[]);
    let waiting = || {
        let threads = process::threads(server.pid()).into_iter();
        let waits = |id: &u32| {
            let place = fs::read_to_string(format!("/proc/{}/task/{id}/wchan", server.pid()));
            place.is_ok_and(|place| place.contains("accept"))
        };
        threads.filter(waits).count()
    };
    // The main thread waits for a signal.
    let main = fs::read_to_string(format!("/proc/{0}/task/{0}/wchan", server.pid()));
    if main.unwrap_or_default().len() < 2 {
        return not_run(
            "threads in accept",
            "the kernel does not tell where one waits",
        );
    }
    eventually("four wait at the start", || waiting() == 4);
    let mut clients: Vec<Client> = (0..10).map(|_| Client::new(&server)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    eventually("four wait beside ten that serve", || waiting() == 4);
}

#[test]
fn an_idle_connection_gives_its_buffers_back() {
    const CLIENTS: u64 = 60;
    if !cfg!(target_env = "gnu") {
        return not_run(
            "the memory of idle connections",
            "only glibc can be told to give memory back",
        );
    }
    let server = Server::start_with(&["--max-connections", "100"], &GIVE_BACK);
    assert_eq!(server.get("/").status, 200);
    let memory = || process::status(server.pid(), "RssAnon");
    let before = memory();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::new(&server)).collect();
    // A large head, a body and a large response: each buffer of the connection grows.
    let fields = format!("X: {}\r\n", "v".repeat(30_000));
    let body = "b".repeat(100_000);
    for client in &mut clients {
        assert_eq!(client.call("POST", "/", &fields, &body).status, 200);
    }
    // DESIGN allows 10 KiB for an idle connection, and its stack that was used comes on top. Kept buffers would be some
    // 100 KiB each.
    let limit = before + CLIENTS * 40;
    eventually("idle connections hold little", || memory() < limit);
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn a_large_bodys_buffer_ends_with_its_request() {
    // Its reservation of body memory ends with the request, so a buffer that stays would be memory that nobody counts. On
    // a machine so slow that a second passes here, idle connections give back everything, and nothing is seen.
    const CLIENTS: u64 = 24;
    let server = Server::start_with(&["--max-connections", "100"], &GIVE_BACK);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::new(&server)).collect();
    let body = "b".repeat(1 << 20);
    let before = process::status(server.pid(), "VmHWM");
    for client in &mut clients {
        let response = client.call("POST", "/status/200", "", &body);
        assert_eq!(response.status, 200, "{response}");
    }
    // A body and the buffer that it outgrew are there at once.
    let grown = process::status(server.pid(), "VmHWM") - before;
    assert!(
        grown < CLIENTS * 512,
        "{CLIENTS} bodies of 1 MiB, one after the other, took {grown} KiB"
    );
}

/// The most memory that a server needs while many connections pipeline small requests for this target, in KiB. Their log
/// lines, where they have some, are several times as long as the requests, because each byte needs an escape.
fn peak_of_pipelining(target: &str) -> u64 {
    const CLIENTS: usize = 100;
    let server = Server::start_with(
        &["--log-format", "json", "--max-connections", "200"],
        &GIVE_BACK,
    );
    let head = format!("GET {target} HTTP/1.1\r\nHost: t\r\nUser-Agent: ");
    let request = [head.as_bytes(), &[0xff; 500], b"\r\n\r\n"].concat();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::new(&server)).collect();
    let count = 32;
    for client in &mut clients {
        client.send(request.repeat(count));
    }
    for client in &mut clients {
        for _ in 0..count {
            assert!([200, 204].contains(&client.response().status));
        }
    }
    process::status(server.pid(), "VmHWM")
}

#[test]
fn log_lines_that_wait_for_a_write_are_bounded() {
    if !host::open_files("log lines that wait for a write", 1024) {
        return;
    }
    // A probe has no line at this level.
    let (without, with) = (
        peak_of_pipelining("/healthz"),
        peak_of_pipelining("/status/204"),
    );
    // The log's own two buffers have 1 MiB each, and a connection's lines 16 KiB, which a vector may double.
    let lines = with.saturating_sub(without);
    assert!(
        lines < 2 * 1024 + 100 * 40 + 1024,
        "lines of 100 connections took {lines} KiB"
    );
}

#[test]
fn short_connections_reuse_threads() {
    let server = Server::start(&[]);
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        assert_eq!(Client::new(&server).get("/").status, 200);
        seen.extend(process::threads(server.pid()));
        server.wait_count("http_open_connections", |open| open == 1);
    }
    assert!(
        seen.len() < 40,
        "100 connections one after the other took {} threads",
        seen.len()
    );
}

#[test]
fn threads_of_a_burst_end_but_for_a_bounded_number() {
    const BURST: usize = 200;
    if !host::open_files("the threads of a burst", 2048) {
        return;
    }
    let server = Server::start(&["--max-connections", "300", "--body-timeout", "1h"]);
    let idle = process::threads(server.pid()).len();
    if server.count("http_max_connections") < 250 {
        return not_run(
            "the threads of a burst",
            "the host has no room for 300 connections",
        );
    }
    let mut clients: Vec<Client> = (0..BURST).map(|_| Client::new(&server)).collect();
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n");
    }
    eventually("each has a thread", || {
        process::threads(server.pid()).len() >= BURST
    });
    for client in &mut clients {
        client.send("x");
        assert_eq!(client.response().status, 200);
    }
    drop(clients);
    eventually("most threads end", || {
        process::threads(server.pid()).len() <= idle + 72
    });
    assert_eq!(Client::new(&server).get("/").status, 200);
}

/// strace at work on a process; it is ended with the value.
pub(crate) struct Tracer(Child);

impl Tracer {
    /// Attaches with these arguments; `None` where that is not allowed.
    pub(crate) fn attach(pid: u32, args: &[&str]) -> Option<Self> {
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-qq"])
            .args(args)
            .args(["-p", &pid.to_string()]);
        let child = strace
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut tracer = Self(child);
        let attached = |task: u32| {
            let status =
                fs::read_to_string(format!("/proc/{pid}/task/{task}/status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        };
        let mut ended = false;
        eventually("strace is attached to each thread or refused", || {
            ended = tracer.0.try_wait().is_ok_and(|status| status.is_some());
            ended || process::threads(pid).into_iter().all(attached)
        });
        (!ended).then_some(tracer)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // SIGINT lets it detach; a tracer that is killed would leave threads stopped.
        process::signal("INT", self.0.id());
        let _ = self.0.wait();
    }
}

/// The system calls that a process begins in two seconds; `None` where strace cannot attach.
fn calls_in_two_seconds(pid: u32) -> Option<Vec<String>> {
    let file = Scratch::path("calls");
    let tracer = Tracer::attach(pid, &["-ttt", "-o", file.text()])?;
    // What the tracer's arrival itself stirs up is over after this.
    pause(ms(500));
    let from = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    pause(ms(2_000));
    let to = from + 2.0;
    drop(tracer);
    let trace = fs::read_to_string(&file).expect("strace wrote");
    let time = |line: &str| {
        line.split_whitespace()
            .nth(1)
            .and_then(|time| time.parse::<f64>().ok())
    };
    let within = |line: &&str| time(line).is_some_and(|time| time > from && time < to);
    Some(trace.lines().filter(within).map(str::to_owned).collect())
}

#[test]
#[ignore = "needs strace"]
fn nothing_polls() {
    if !host::have("strace") {
        return not_run("no system call while nothing happens", "no strace");
    }
    let mut server = Server::start(&["--shutdown-delay", "1h"]);
    let mut idle = Client::new(&server);
    assert_eq!(idle.get("/").status, 200);
    let mut delayed = Client::new(&server);
    delayed.ask("/delay/60s");
    server.wait_in_flight(1);
    // After a second an idle connection gives its buffers back, once.
    pause(ms(2_500));
    for state in ["serving", "draining"] {
        if state == "draining" {
            server.signal("TERM");
            server.stderr.line("draining");
        }
        match calls_in_two_seconds(server.pid()) {
            None => {
                return not_run(
                    "no system call while nothing happens",
                    "strace may not attach",
                );
            }
            Some(calls) => assert!(calls.is_empty(), "while {state}: {calls:?}"),
        }
    }
    server.signal("TERM");
    server.ends_well();
}
