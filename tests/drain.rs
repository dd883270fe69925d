//! The end: what SIGTERM does to newcomers, idle connections, requests in flight, delays and the log, and *when*.
//!
//! Every test here measures from the instant before the signal was sent. `PROMPT` is the 100 ms within which
//! something that happens at once must have happened; the command `kill`, which takes a few of them, is included.

mod support;
#[path = "support/load.rs"]
mod tools;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{PATIENCE, Server};
use tools::{Account, Client, Unread, account, alone, in_time, ms, pause};

/// Within this, what happens at once has happened.
const PROMPT: Duration = ms(100);

/// Knocks until a newcomer is refused; the instant of the first refusal. A hang is a failure.
#[track_caller]
fn refused_at(addr: SocketAddr) -> Instant {
    let limit = Instant::now() + PATIENCE;
    while Instant::now() < limit {
        match TcpStream::connect_timeout(&addr, ms(500)) {
            Ok(_) => pause(ms(5)),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Instant::now(),
            Err(error) => panic!("a newcomer is neither served nor refused: {error}"),
        }
    }
    panic!("newcomers are still accepted after {PATIENCE:?}");
}

/// Asserts that something happened between two times after `start`.
#[track_caller]
fn between(what: &str, start: Instant, at: Instant, least: Duration, most: Duration) {
    let after = at.duration_since(start);
    assert!(
        after >= least && after <= most,
        "{what} after {after:?}, expected {least:?} to {most:?}"
    );
}

#[test]
fn newcomers_are_refused_while_a_slow_request_finishes() {
    in_time(|| {
        let mut server = Server::start(&[]);
        let mut client = Client::new(&server);
        let asked = Instant::now();
        client.ask("/delay/1500ms");
        pause(ms(200));
        let term = Instant::now();
        server.signal("TERM");
        between(
            "newcomers refused",
            term,
            refused_at(server.addr),
            ms(0),
            PROMPT,
        );
        let answer = client.answer().expect("the request in flight is answered");
        assert_eq!(answer.status, 200);
        assert!(answer.closes(), "{}", answer.head);
        between(
            "the slow answer",
            asked,
            answer.at,
            ms(1500),
            ms(1500) + PROMPT,
        );
        let end = client.end();
        assert!(!end.reset && end.rest.is_empty(), "{end:?}");
        drop(client);
        let left = Instant::now();
        assert_eq!(server.wait(PATIENCE).code(), Some(0));
        between("the exit", left, Instant::now(), ms(0), PROMPT);
        let expected = Account {
            completed: 1,
            cut: 0,
            requests: 1,
            log_lines: 1,
        };
        assert_eq!(account(&server.stderr.text()), expected);
        assert_eq!(server.stdout.text().lines().count(), 1);
    });
}

#[test]
fn sigint_ends_it_as_sigterm_does() {
    let mut server = Server::start(&[]);
    assert_eq!(server.get("/").0, 200);
    let start = Instant::now();
    server.signal("INT");
    assert_eq!(server.wait(PATIENCE).code(), Some(0));
    between("the exit", start, Instant::now(), ms(0), ms(1500));
    assert_eq!(account(&server.stderr.text()).requests, 1);
    assert_eq!(server.stdout.text().lines().count(), 1);
}

#[test]
fn idle_connections_are_closed_within_100_ms() {
    in_time(|| {
        let mut server = Server::start(&[]);
        let mut busy = Client::new(&server);
        busy.ask("/delay/3s");
        let mut used = Client::new(&server);
        assert_eq!(used.get("/").status, 200);
        let mut untouched = Client::new(&server);
        pause(ms(1200));
        let term = Instant::now();
        server.signal("TERM");
        for (what, client) in [
            ("a used idle connection", &mut used),
            ("an untouched one", &mut untouched),
        ] {
            let end = client.end();
            assert!(!end.reset && end.rest.is_empty(), "{what}: {end:?}");
            between(&format!("{what} closed"), term, end.at, ms(0), PROMPT);
        }
        assert_eq!(
            busy.answer().expect("the one in flight is answered").status,
            200
        );
        drop(busy);
        assert_eq!(server.wait(PATIENCE).code(), Some(0));
    });
}

#[test]
fn idle_connections_live_until_the_linger_ends() {
    in_time(|| {
        let mut server = Server::start(&["--drain-linger", "2s"]);
        let mut idle = Client::new(&server);
        assert_eq!(idle.get("/").status, 200);
        let term = Instant::now();
        server.signal("TERM");
        assert!(
            idle.silent_for(ms(1800)),
            "an idle connection is left alone during the linger"
        );
        let end = idle.end();
        assert!(!end.reset, "{end:?}");
        between(
            "the idle connection closed",
            term,
            end.at,
            ms(2000),
            ms(2000) + PROMPT,
        );
        drop(idle);
        assert_eq!(server.wait(PATIENCE).code(), Some(0));
        between(
            "the exit",
            term,
            Instant::now(),
            ms(2000),
            ms(2000) + 2 * PROMPT,
        );
    });
}

#[test]
fn what_was_just_opened_or_used_gets_a_second() {
    in_time(|| {
        let mut server = Server::start(&[]);
        let mut used = Client::new(&server);
        assert_eq!(used.get("/").status, 200);
        let mut opened = Client::new(&server);
        let mut late = Client::new(&server);
        pause(ms(100));
        let term = Instant::now();
        server.signal("TERM");
        pause(ms(500));
        let answer = late.get("/late");
        assert_eq!(answer.status, 200, "a request within the grace is answered");
        assert!(answer.closes(), "{}", answer.head);
        drop(late);
        for (what, client) in [("the used one", &mut used), ("the opened one", &mut opened)] {
            let end = client.end();
            assert!(!end.reset, "{what}: {end:?}");
            between(
                &format!("{what} closed"),
                term,
                end.at,
                ms(850),
                ms(1000) + PROMPT,
            );
        }
        drop((used, opened));
        assert_eq!(server.wait(PATIENCE).code(), Some(0));
        between(
            "the exit",
            term,
            Instant::now(),
            ms(850),
            ms(1000) + 2 * PROMPT,
        );
    });
}

#[test]
fn the_linger_serves_everyone_and_tells_them_to_leave() {
    in_time(|| {
        let mut server = Server::start(&["--drain-linger", "1500ms"]);
        let mut kept = Client::new(&server);
        let before = kept.get("/before");
        assert!(!before.closes(), "{}", before.head);
        let term = Instant::now();
        server.signal("TERM");
        server
            .stderr
            .wait_line("draining", PATIENCE)
            .expect("it says that it drains");
        between("the draining line", term, Instant::now(), ms(0), PROMPT);
        let (status, answer) = server.get("/readyz");
        assert!(
            status == 503 && answer.trim_end().ends_with("draining"),
            "{answer}"
        );
        assert_eq!(server.get("/healthz").0, 200);
        assert!((server.metric("httpserver_draining") - 1.0).abs() < f64::EPSILON);
        assert!(server.metric("httpserver_ready").abs() < f64::EPSILON);
        let last = kept.get("/kept");
        assert!(last.status == 200 && last.closes(), "{}", last.head);
        assert!(!kept.end().reset);
        let mut newcomer = Client::new(&server);
        let first = newcomer.get("/newcomer");
        assert!(first.status == 200 && first.closes(), "{}", first.head);
        drop((kept, newcomer));
        between(
            "newcomers refused",
            term,
            refused_at(server.addr),
            ms(1500),
            ms(1500) + PROMPT,
        );
        assert_eq!(server.wait(PATIENCE).code(), Some(0));
    });
}

#[test]
fn a_delay_ends_at_the_drain_limit_and_tells_its_real_length() {
    in_time(|| {
        let delay = [
            "--delay-min",
            "20s",
            "--delay-max",
            "20s",
            "--drain-timeout",
            "1s",
        ];
        for (args, target) in [(&delay[..], "/"), (&delay[4..], "/delay/20s")] {
            let mut server = Server::start(args);
            let mut client = Client::new(&server);
            let asked = Instant::now();
            client.ask(target);
            pause(ms(300));
            let term = Instant::now();
            server.signal("TERM");
            let answer = client.answer().expect("a delayed request is answered");
            assert!(answer.status == 200 && answer.closes(), "{}", answer.head);
            between("the answer", term, answer.at, ms(1000), ms(1000) + PROMPT);
            let timing = answer.header("server-timing").expect("it tells the delay");
            let told = timing
                .rsplit("dur=")
                .next()
                .and_then(|dur| dur.parse::<f64>().ok());
            let (told, real) = (
                told.expect("dur= is a number") / 1000.0,
                (answer.at - asked).as_secs_f64(),
            );
            assert!(
                told <= real && told > real - 0.1,
                "{timing}, but it took {real} s"
            );
            drop(client);
            assert_eq!(server.wait(PATIENCE).code(), Some(0));
            between(
                "the exit",
                term,
                Instant::now(),
                ms(1000),
                ms(1000) + 2 * PROMPT,
            );
            assert_eq!(account(&server.stderr.text()).completed, 1);
        }
    });
}

#[test]
fn what_is_still_busy_500_ms_after_the_limit_is_cut() {
    in_time(|| {
        let mut server = Server::start(&["--drain-timeout", "500ms"]);
        let mut deaf = Client::new(&server);
        deaf.ask("/bytes/1GiB");
        let mut stalled = Client::new(&server);
        stalled.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf");
        pause(ms(200));
        let term = Instant::now();
        server.signal("TERM");
        assert_eq!(server.wait(PATIENCE).code(), Some(0));
        between(
            "the exit",
            term,
            Instant::now(),
            ms(1000),
            ms(1000) + 2 * PROMPT,
        );
        let account = account(&server.stderr.text());
        assert_eq!((account.completed, account.cut), (0, 2), "{account:?}");
        assert_eq!(
            server.stdout.text().lines().count() as u64,
            account.log_lines
        );
    });
}

#[test]
fn a_second_signal_cuts_within_100_ms() {
    in_time(|| {
        for args in [&["--drain-timeout", "60s"][..], &["--drain-linger", "60s"]] {
            let mut server = Server::start(args);
            let mut client = Client::new(&server);
            client.ask("/delay/30s");
            pause(ms(100));
            server.signal("TERM");
            pause(ms(500));
            let second = Instant::now();
            server.signal("TERM");
            assert_eq!(server.wait(PATIENCE).code(), Some(0), "{args:?}");
            between("the exit", second, Instant::now(), ms(0), PROMPT);
            assert_eq!(account(&server.stderr.text()).cut, 1, "{args:?}");
            drop(client);
        }
    });
}

#[test]
fn what_waits_in_the_kernels_queue_is_served_first() {
    in_time(|| {
        let mut server = Server::start(&[]);
        tools::freeze(&server);
        let mut waiting: Vec<Client> = (0..200).map(|_| Client::new(&server)).collect();
        for client in &mut waiting {
            client.ask("/queued");
        }
        server.signal("TERM");
        server.signal("CONT");
        for (index, client) in waiting.iter_mut().enumerate() {
            let answer = client
                .answer()
                .unwrap_or_else(|error| panic!("connection {index} of 200: {error}"));
            assert_eq!(answer.status, 200, "{}", answer.head);
        }
        refused_at(server.addr);
        drop(waiting);
        assert_eq!(server.wait(PATIENCE).code(), Some(0));
        let account = account(&server.stderr.text());
        assert_eq!(
            (account.cut, account.requests, account.log_lines),
            (0, 200, 200)
        );
        assert_eq!(server.stdout.text().lines().count(), 200);
    });
}

#[test]
fn a_full_server_ends_in_time_and_answers_who_waits() {
    in_time(|| {
        let mut server = Server::start(&["--max-connections", "2"]);
        let mut busy: Vec<Client> = (0..2).map(|_| Client::new(&server)).collect();
        for client in &mut busy {
            client.ask("/delay/1500ms");
        }
        pause(ms(200));
        tools::freeze(&server);
        let mut waiting: Vec<Client> = (0..30).map(|_| Client::new(&server)).collect();
        for client in &mut waiting {
            client.ask("/waiting");
        }
        let term = Instant::now();
        server.signal("TERM");
        server.signal("CONT");
        for (index, client) in waiting.iter_mut().enumerate() {
            let answer = client
                .answer()
                .unwrap_or_else(|error| panic!("connection {index} of 30: {error}"));
            assert_eq!(answer.status, 503, "{}", answer.head);
        }
        between("the sheds", term, Instant::now(), ms(0), ms(500));
        drop(waiting);
        for client in &mut busy {
            let answer = client.answer().expect("who has a seat is answered");
            assert!(answer.status == 200 && answer.closes(), "{}", answer.head);
        }
        drop(busy);
        assert_eq!(server.wait(PATIENCE).code(), Some(0));
        between(
            "the exit",
            term,
            Instant::now(),
            ms(1000),
            ms(1500) + PROMPT,
        );
        let account = account(&server.stderr.text());
        assert_eq!(
            (account.cut, account.requests, account.log_lines),
            (0, 32, 32)
        );
    });
}

#[test]
fn without_any_time_to_finish_delays_end_at_once() {
    in_time(|| {
        let mut server = Server::start(&["--drain-timeout", "0s"]);
        let mut client = Client::new(&server);
        client.ask("/delay/30s");
        pause(ms(200));
        let term = Instant::now();
        server.signal("TERM");
        let answer = client.answer().expect("a delayed request is answered");
        assert!(answer.status == 200 && answer.closes(), "{}", answer.head);
        drop(client);
        assert_eq!(server.wait(PATIENCE).code(), Some(0));
        between("the exit", term, Instant::now(), ms(0), 2 * PROMPT);
        assert_eq!(account(&server.stderr.text()).cut, 0);
    });
}

#[test]
fn pipelined_requests_that_were_sent_whole_are_answered() {
    let mut server = Server::start(&[]);
    let mut client = Client::new(&server);
    client.send(
        ["/delay/700ms", "/second", "/third"]
            .map(tools::get)
            .concat(),
    );
    pause(ms(200));
    server.signal("TERM");
    for (target, last) in [("delay", false), ("/second", false), ("/third", true)] {
        let answer = client
            .answer()
            .unwrap_or_else(|error| panic!("{target}: {error}"));
        assert_eq!(
            (answer.status, answer.closes()),
            (200, last),
            "{target}: {}",
            answer.head
        );
    }
    assert!(!client.end().reset);
    drop(client);
    assert_eq!(server.wait(PATIENCE).code(), Some(0));
    assert_eq!(account(&server.stderr.text()).completed, 3);
}

#[test]
fn a_stdout_that_nobody_reads_cannot_hold_it() {
    in_time(|| {
        let mut server = Unread::start(&["--drain-timeout", "1s"], &[]);
        let long = format!("/{}", "x".repeat(2000));
        let mut client = Client::to(server.addr).expect("it accepts");
        for _ in 0..200 {
            assert_eq!(client.get(&long).status, 200);
        }
        drop(client);
        let term = Instant::now();
        server.signal("TERM");
        let stderr = server.stderr.take().expect("not taken yet");
        let stderr = support::Output::collect(stderr);
        let (status, _) = server.wait(PATIENCE);
        between("the exit", term, Instant::now(), ms(0), ms(2000) + PROMPT);
        assert_eq!(status.code(), Some(0));
        assert!(stderr.wait_end(PATIENCE));
        let account = account(&stderr.text());
        assert_eq!(account.requests, 200, "{account:?}");
        assert!(
            account.log_lines < 200,
            "a pipe of 64 KiB cannot have taken them all: {account:?}"
        );
        let lost = (200 - account.log_lines).to_string();
        let told = stderr
            .text()
            .lines()
            .any(|line| line.contains(&lost) && line.contains("lost"));
        assert!(told, "{lost} lost lines are told: {}", stderr.text());
    });
}

#[test]
#[ignore = "needs root: a pid namespace makes it process 1"]
fn process_1_exits_with_status_0() {
    if !tools::is_root() {
        return tools::not_run(
            "the exit status as process 1",
            "not root, so no pid namespace",
        );
    }
    for signal in ["TERM", "INT"] {
        let wrapper = ["unshare", "--pid", "--fork", "--kill-child"];
        let mut server = Server::spawn(tools::under(&wrapper, &[]));
        let outer = server.pid();
        let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"));
        let inner: u32 = children
            .expect("unshare has a child")
            .trim()
            .parse()
            .expect("one child");
        let status = std::fs::read_to_string(format!("/proc/{inner}/status")).expect("it runs");
        let pids = status
            .lines()
            .find(|line| line.starts_with("NSpid:"))
            .expect("a kernel with namespaces");
        assert!(
            pids.ends_with("\t1"),
            "it is process 1 of its namespace: {pids}"
        );
        assert_eq!(server.get("/").0, 200);
        let start = Instant::now();
        assert!(tools::kill(signal, inner));
        assert_eq!(server.wait(PATIENCE).code(), Some(0), "{signal}");
        between("the exit", start, Instant::now(), ms(0), ms(1500));
        assert_eq!(account(&server.stderr.text()).requests, 1);
    }
}

#[test]
#[ignore = "needs strace"]
fn nothing_polls() {
    if !tools::have("strace") {
        return tools::not_run("no system call while nothing happens", "no strace");
    }
    let _turn = alone();
    let mut server = Server::start(&["--drain-linger", "60s"]);
    let mut idle = Client::new(&server);
    assert_eq!(idle.get("/").status, 200);
    let mut delayed = Client::new(&server);
    delayed.ask("/delay/30s");
    // After a second an idle connection gives its buffers back, once.
    pause(ms(1300));
    let calls = calls_in_two_seconds(server.pid());
    assert!(calls.is_empty(), "while serving: {calls:?}");
    server.signal("TERM");
    pause(ms(200));
    let calls = calls_in_two_seconds(server.pid());
    assert!(calls.is_empty(), "while draining: {calls:?}");
    server.signal("TERM");
    assert_eq!(server.wait(PATIENCE).code(), Some(0));
}

/// The system calls that a process begins in two seconds, but for what the tracer's arrival itself stirs up.
fn calls_in_two_seconds(pid: u32) -> Vec<String> {
    let output = std::env::temp_dir().join(format!("httpserver-calls-{pid}"));
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-ttt", "-p", &pid.to_string(), "-o"])
        .arg(&output);
    let mut strace = strace.spawn().expect("strace starts");
    pause(ms(2500));
    assert!(tools::kill("INT", strace.id()));
    strace.wait().expect("strace ends");
    let trace = std::fs::read_to_string(&output).expect("strace wrote");
    std::fs::remove_file(&output).expect("its file can be removed");
    assert!(!trace.is_empty(), "strace saw the threads");
    let time = |line: &str| {
        line.split_whitespace()
            .nth(1)
            .and_then(|time| time.parse::<f64>().ok())
    };
    let start = trace.lines().find_map(time).expect("a time");
    let late = |line: &&str| {
        time(line).is_some_and(|time| time > start + 0.3) && !line.contains("detached")
    };
    trace.lines().filter(late).map(str::to_owned).collect()
}

/// What the clients of a run saw.
struct Seen {
    start: Instant,
    answered: AtomicU64,
    /// Requests sent whole on an accepted connection that were not answered whole with 200, and newcomers that were
    /// neither served nor refused: why, how many, and the first and the last millisecond of it.
    lost: Mutex<BTreeMap<String, (u64, u128, u128)>>,
    /// Connections that the kernel completed between the last `accept` and the closing of the port: a reset where
    /// nothing had come from the server yet. No system call does both at once, so there may be a few.
    never_accepted: AtomicU64,
}

impl Seen {
    fn lose(&self, why: String) {
        let at = self.start.elapsed().as_millis();
        let mut lost = self.lost.lock().expect("no panic under it");
        let (count, _, end) = lost.entry(why).or_insert((0, at, at));
        (*count, *end) = (*count + 1, at);
    }
}

/// One client: asks without a pause, on a kept connection or one for each request, until it is refused.
fn client_until_refused(addr: SocketAddr, keep: bool, seen: &Seen) {
    let last = if keep { "" } else { "Connection: close\r\n" };
    let request = format!("GET /load HTTP/1.1\r\nHost: test\r\n{last}\r\n");
    loop {
        let mut client = match Client::to(addr) {
            Ok(client) => client,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                seen.never_accepted.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(error) => return seen.lose(format!("connect: {error}")),
        };
        let mut fresh = true;
        while client.stream.write_all(request.as_bytes()).is_ok() {
            match client.answer() {
                Ok(answer) if answer.status == 200 => {
                    fresh = false;
                    seen.answered.fetch_add(1, Ordering::Relaxed);
                    if answer.closes() {
                        break;
                    }
                }
                Ok(answer) => {
                    seen.lose(format!("answered {}", answer.status));
                    break;
                }
                Err(error) if fresh && error.kind() == ErrorKind::ConnectionReset => {
                    seen.never_accepted.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Err(error) => {
                    seen.lose(format!("no answer: {error}"));
                    break;
                }
            }
        }
    }
}

/// Loads a server with this many connections, half of them kept, sends SIGTERM after `before`, and compares what
/// the clients counted with the log and with the account.
///
/// The log goes to a file, because a thread that read it here would take turns with hundreds of clients' threads.
#[track_caller]
fn nothing_is_lost(connections: usize, before: Duration, args: &[&str]) {
    let log = std::env::temp_dir().join(format!(
        "httpserver-log-{}-{connections}",
        std::process::id()
    ));
    let script = format!("exec \"$0\" \"$@\" >{}", log.display());
    let mut server = Server::spawn(tools::under(&["sh", "-c", &script], args));
    let (addr, seen) = (
        server.addr,
        &Seen {
            start: Instant::now(),
            answered: AtomicU64::new(0),
            lost: Mutex::default(),
            never_accepted: AtomicU64::new(0),
        },
    );
    let term = thread::scope(|scope| {
        for index in 0..connections {
            let client = thread::Builder::new().stack_size(256 * 1024);
            let run = move || client_until_refused(addr, index % 2 == 0, seen);
            client
                .spawn_scoped(scope, run)
                .expect("a client's thread starts");
        }
        pause(before);
        server.signal("TERM");
        Instant::now()
    });
    let stopped = term.elapsed();
    assert_eq!(server.wait(PATIENCE).code(), Some(0));
    let answered = seen.answered.load(Ordering::Relaxed);
    let lost = seen.lost.lock().expect("no panic under it");
    let account = account(&server.stderr.text());
    let lines = std::fs::read(&log).expect("the log was written");
    std::fs::remove_file(&log).expect("the log can be removed");
    let whole = lines.split_inclusive(|&byte| byte == b'\n');
    let lines = whole
        .filter(|line| line.ends_with(b"\n") && line.windows(5).any(|part| part == b"/load"))
        .count();
    println!(
        "{connections} connections: {answered} answered, the clients ended after {stopped:?}; {account:?}"
    );
    let never_accepted = seen.never_accepted.load(Ordering::Relaxed);
    assert!(
        never_accepted <= 3,
        "{never_accepted} connections were reset at the closing of the port"
    );
    assert!(
        lost.is_empty(),
        "lost, as why: (count, first and last ms): {lost:?}; {account:?}"
    );
    assert!(answered > connections as u64, "it was a load: {answered}");
    assert_eq!(
        (lines as u64, account.requests, account.log_lines),
        (answered, answered, answered)
    );
    assert_eq!(account.cut, 0);
}

#[test]
fn under_load_nothing_is_lost_without_a_linger() {
    let _turn = alone();
    nothing_is_lost(32, ms(500), &[]);
}

#[test]
#[ignore = "heavy: 256 connections without a pause for three seconds"]
fn under_256_connections_nothing_is_lost_with_a_linger() {
    let _turn = alone();
    // Many seats for each client: on a busy machine a client is back before its last connection's thread has run.
    if !tools::open_files(5000) {
        return tools::not_run(
            "256 connections while draining",
            "the limit of open files cannot be raised to 5000",
        );
    }
    nothing_is_lost(
        256,
        ms(1000),
        &["--drain-linger", "2s", "--max-connections", "4000"],
    );
}
