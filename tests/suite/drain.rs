//! The end: what SIGTERM does to newcomers, idle connections, requests in flight, delays and the log, and when.
//!
//! A test that only says *that* something closed passes with the drain removed. Times are measured from the server's
//! line `draining` or from before the signal, lower bounds are exact, and upper bounds are far below the time that a
//! server without the promise would take.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::server::{Account, under};
use crate::support::{Client, PATIENCE, Scratch, Server, each, eventually, host, ms, pause};

/// What happens at once takes milliseconds; this allows for a slow machine.
const AT_ONCE: Duration = ms(5_000);
/// The clocks are read apart.
const EARLY: Duration = ms(30);

/// Knocks until a newcomer is refused. A hang is a failure.
#[track_caller]
fn refused(addr: SocketAddr) {
    eventually(
        "newcomers are refused",
        || match TcpStream::connect_timeout(&addr, PATIENCE) {
            Ok(_) => false,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => true,
            // The kernel had completed it when the port closed.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("a newcomer is neither served nor refused: {error}"),
        },
    );
}

/// Sends a signal and waits until the server says that it drains; the instant before the signal.
#[track_caller]
fn drain(server: &Server, signal: &str) -> Instant {
    let since = Instant::now();
    server.signal(signal);
    server.stderr.line("draining");
    since
}

/// Asserts that something that happened at `at` took at least `least` from `since`, and not much more.
#[track_caller]
fn took(what: &str, since: Instant, at: Instant, least: Duration) {
    let after = at.duration_since(since);
    assert!(
        after + EARLY >= least && after < least + AT_ONCE,
        "{what} after {after:?}, expected {least:?}"
    );
}

/// Asserts that the account has so many completed requests and none that was cut. The scrape that a test made last may
/// count too: its client has the response before it is counted.
#[track_caller]
fn completed(server: &Server, count: u64) {
    let account = Account::of(server);
    let completed = account.count("completed");
    assert!(
        (count..=count + 1).contains(&completed) && account.count("cut") == 0,
        "{account:?}"
    );
}

#[test]
fn newcomers_are_refused_while_a_slow_request_finishes() {
    let mut server = Server::start(&["--drain-timeout", "1h"]);
    let mut client = Client::new(&server);
    let asked = Instant::now();
    client.ask("/delay/5s");
    server.wait_in_flight(1);
    drain(&server, "TERM");
    refused(server.addr);
    // A line follows its response.
    let over = !server.lines().is_empty();
    assert!(
        !over || asked.elapsed() > ms(5_000),
        "refused only at the end of the request"
    );
    let response = client.response();
    assert!(response.status == 200 && response.closes(), "{response}");
    assert!(
        response.at - asked >= ms(5_000),
        "the delay is kept: {:?}",
        response.at - asked
    );
    client.finish();
    drop(client);
    server.ends_well();
    completed(&server, 1);
    assert_eq!(
        server
            .lines()
            .iter()
            .filter(|line| line.field("route") == "delay")
            .count(),
        1
    );
}

#[test]
fn sigint_and_sighup_end_it_as_sigterm_does() {
    each(["TERM", "INT", "HUP"], |signal| {
        let mut server = Server::start(&["--drain-timeout", "1h"]);
        let mut client = Client::new(&server);
        client.ask("/delay/4s");
        server.wait_in_flight(1);
        drain(&server, signal);
        let response = client.response();
        assert!(response.status == 200 && response.closes(), "{response}");
        server.ends_well();
        completed(&server, 1);
        assert_eq!(server.lines().len(), 1);
    });
}

#[test]
fn idle_connections_are_closed_at_once() {
    // The one that is busy keeps the drain going; without the promise the idle ones would stay as long.
    let server = Server::start(&["--drain-timeout", "1h", "--idle-timeout", "1h"]);
    let mut busy = Client::new(&server);
    busy.ask("/delay/60s");
    let mut used = Client::new(&server);
    assert_eq!(used.get("/").status, 200);
    let mut untouched = Client::new(&server);
    server.wait_in_flight(1);
    pause(ms(1_200));
    let since = drain(&server, "TERM");
    for (what, client) in [
        ("a used idle connection", &mut used),
        ("an untouched one", &mut untouched),
    ] {
        let end = client.end();
        end.is_orderly();
        took(what, since, end.at, ms(0));
    }
    assert!(busy.is_silent_for(ms(100)), "the one in flight goes on");
}

#[test]
fn what_was_just_opened_or_used_gets_a_second() {
    let mut server = Server::start(&["--idle-timeout", "1h"]);
    let since = Instant::now();
    let mut used = Client::new(&server);
    let mut late = Client::new(&server);
    let mut opened = Client::new(&server);
    eventually("all are accepted", || {
        server.count("http_open_connections") == 4
    });
    assert_eq!(used.get("/").status, 200);
    let opened_at = Instant::now();
    drain(&server, "TERM");
    // A slow machine may have taken the second already.
    if since.elapsed() < ms(500) {
        let response = late.get("/late");
        assert!(
            response.status == 200 && response.closes(),
            "a request within the grace is answered: {response}"
        );
    }
    drop(late);
    let end = used.end();
    end.is_orderly();
    took("the used one closed", opened_at, end.at, ms(800));
    opened.finish();
    drop((used, opened));
    server.ends_well();
}

#[test]
fn the_shutdown_delay_serves_everyone_and_tells_them_to_leave() {
    let mut server = Server::start(&["--shutdown-delay", "3s"]);
    let mut kept = Client::new(&server);
    let before = kept.get("/before");
    assert!(!before.closes(), "{before}");
    let mut idle = Client::new(&server);
    assert_eq!(idle.get("/").status, 200);
    let since = drain(&server, "TERM");
    let ready = server.get("/readyz");
    assert!(
        ready.status == 503 && ready.text().trim_end() == "draining",
        "{ready}"
    );
    assert_eq!(server.get("/healthz").status, 200);
    let scrape = server.scrape();
    assert_eq!(
        (
            scrape.count("httpserver_draining"),
            scrape.count("httpserver_ready")
        ),
        (1, 0)
    );
    let last = kept.get("/kept");
    assert!(last.status == 200 && last.closes(), "{last}");
    kept.finish();
    let mut newcomer = Client::new(&server);
    let first = newcomer.get("/newcomer");
    assert!(first.status == 200 && first.closes(), "{first}");
    let end = idle.end();
    end.is_orderly();
    took("the idle connection closed", since, end.at, ms(3_000));
    drop((kept, newcomer, idle));
    refused(server.addr);
    took("newcomers refused", since, Instant::now(), ms(3_000));
    server.ends_well();
}

#[test]
fn a_delay_ends_at_the_drain_limit_and_tells_its_real_length() {
    let delay = [
        "--delay-min",
        "1h",
        "--delay-max",
        "1h",
        "--drain-timeout",
        "1s",
    ];
    // The machine has 500 ms to run the thread whose delay ended, then the server cuts it. A busy one may be too late
    // now and then; a server that does not end the delay always is.
    each(
        [(&delay[..], "/"), (&delay[4..], "/delay/60s")],
        |(flags, target)| {
            let in_time = (0..5).any(|_| ends_at_the_drain_limit(flags, target));
            assert!(in_time, "{target}: cut five times");
        },
    );
}

/// Whether the response to a delayed request came before the cut.
fn ends_at_the_drain_limit(flags: &[&str], target: &str) -> bool {
    let mut server = Server::start(flags);
    let mut client = Client::new(&server);
    let asked = Instant::now();
    client.ask(target);
    server.wait_in_flight(1);
    let since = drain(&server, "TERM");
    let Ok(response) = client.try_response(false) else {
        host::again(target, "cut, the machine was busy for 500 ms");
        return false;
    };
    assert!(response.status == 200 && response.closes(), "{response}");
    took("the response", since, response.at, ms(1_000));
    let (told, real) = (response.told_delay(), response.at - asked);
    assert!(
        told <= real && told + ms(500) >= since - asked + ms(1_000),
        "told {told:?}, it took {real:?}"
    );
    drop(client);
    server.ends_well();
    completed(&server, 1);
    true
}

#[test]
fn what_is_still_busy_500_ms_after_the_limit_is_cut() {
    let mut server = Server::start(&[
        "--drain-timeout",
        "500ms",
        "--body-timeout",
        "1h",
        "--write-timeout",
        "1h",
    ]);
    let mut deaf = Client::new(&server);
    deaf.ask("/bytes/1GiB");
    let mut stalled = Client::new(&server);
    stalled.send(
        "POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n",
    );
    assert_eq!(stalled.response().status, 100);
    deaf.read().unwrap();
    let since = drain(&server, "TERM");
    server.ends_well();
    took("the exit", since, Instant::now(), ms(1_000));
    let account = Account::of(&server);
    assert_eq!(
        (account.count("completed"), account.count("cut")),
        (0, 2),
        "{account:?}"
    );
    let lines = server.lines();
    assert_eq!(
        lines.len() as u64,
        account.count("log_lines"),
        "{account:?}"
    );
    assert!(
        lines.iter().all(|line| line.field("complete") == "false"),
        "{lines:?}"
    );
}

#[test]
fn a_second_signal_cuts_at_once() {
    each(
        [["--drain-timeout", "1h"], ["--shutdown-delay", "1h"]],
        |flags| {
            let mut server = Server::start(&flags);
            let mut client = Client::new(&server);
            client.ask("/delay/60s");
            server.wait_in_flight(1);
            drain(&server, "TERM");
            assert!(
                client.is_silent_for(ms(200)),
                "{flags:?}: the first one cuts nothing"
            );
            let second = Instant::now();
            server.signal("TERM");
            server.ends_well();
            took("the exit", second, Instant::now(), ms(0));
            assert_eq!(Account::of(&server).count("cut"), 1, "{flags:?}");
        },
    );
}

#[test]
fn what_waits_in_the_kernels_queue_is_served_first() {
    const WAITING: usize = 100;
    let mut server = Server::start(&["--max-connections", "200"]);
    if !host::open_files("what waits in the kernel's queue", 1024) {
        return;
    }
    server.freeze();
    let mut waiting: Vec<Client> = (0..WAITING).map(|_| Client::new(&server)).collect();
    for client in &mut waiting {
        client.ask("/queued");
    }
    server.signal("TERM");
    server.signal("CONT");
    for (index, client) in waiting.iter_mut().enumerate() {
        let response = client.try_response(false);
        let response = response.unwrap_or_else(|error| panic!("connection {index}: {error}"));
        assert_eq!(response.status, 200, "{response}");
    }
    refused(server.addr);
    drop(waiting);
    server.ends_well();
    let account = Account::of(&server);
    let counts = ["cut", "requests", "log_lines"].map(|name| account.count(name));
    assert_eq!(counts, [0, WAITING as u64, WAITING as u64], "{account:?}");
    assert_eq!(server.lines().len(), WAITING);
}

#[test]
fn a_full_server_ends_in_time_and_answers_who_waits() {
    let mut server = Server::start(&[
        "--max-connections",
        "2",
        "--write-timeout",
        "1h",
        "--drain-timeout",
        "1h",
    ]);
    let mut busy: Vec<Client> = (0..2).map(|_| Client::new(&server)).collect();
    for client in &mut busy {
        assert_eq!(client.hold(), 200);
    }
    server.freeze();
    let mut waiting: Vec<Client> = (0..30).map(|_| Client::new(&server)).collect();
    for client in &mut waiting {
        client.ask("/waiting");
    }
    server.signal("TERM");
    server.signal("CONT");
    for (index, client) in waiting.iter_mut().enumerate() {
        let response = client.try_response(false);
        let response = response.unwrap_or_else(|error| panic!("connection {index}: {error}"));
        assert_eq!(response.status, 503, "{response}");
    }
    drop(waiting);
    for client in &mut busy {
        assert_eq!(client.response().status, 200);
    }
    drop(busy);
    server.ends_well();
    let account = Account::of(&server);
    let counts = ["cut", "requests", "log_lines"].map(|name| account.count(name));
    assert_eq!(counts, [0, 32, 32], "{account:?}");
}

#[test]
fn without_any_time_to_finish_delays_end_at_once() {
    let mut server = Server::start(&["--drain-timeout", "0s"]);
    let mut client = Client::new(&server);
    client.ask("/delay/60s");
    server.wait_in_flight(1);
    let since = drain(&server, "TERM");
    let response = client.response();
    assert!(response.status == 200 && response.closes(), "{response}");
    drop(client);
    server.ends_well();
    took("the exit", since, Instant::now(), ms(0));
    assert_eq!(Account::of(&server).count("cut"), 0);
}

/// What the clients of a run saw.
#[derive(Default)]
struct Seen {
    answered: AtomicU64,
    /// Requests sent whole on an accepted connection that were not answered whole with 200, and newcomers that were
    /// neither served nor refused: why, and how many.
    lost: Mutex<BTreeMap<String, u64>>,
    /// Connections that the kernel completed between the last `accept` and the closing of the port: a reset where
    /// nothing had come from the server yet. No system call does both at once, so there may be some, on a slow machine
    /// many: `what_waits_in_the_kernels_queue_is_served_first` is the test for those that waited before.
    never_accepted: AtomicU64,
}

impl Seen {
    fn lose(&self, why: String) {
        *self.lost.lock().unwrap().entry(why).or_default() += 1;
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
        while client.try_send(&request).is_ok() {
            match client.try_response(false) {
                Ok(response) if response.status == 200 => {
                    fresh = false;
                    seen.answered.fetch_add(1, Ordering::Relaxed);
                    if response.closes() {
                        break;
                    }
                }
                Ok(response) => {
                    seen.lose(format!("answered {}", response.status));
                    break;
                }
                Err(error) if fresh && error.kind() == ErrorKind::ConnectionReset => {
                    seen.never_accepted.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Err(error) => {
                    seen.lose(format!("no response: {error}"));
                    break;
                }
            }
        }
    }
}

/// Loads a server with this many connections, half of them kept, sends SIGTERM after `before`, and compares what the
/// clients counted with the log and with the account.
///
/// The log goes to a file, because a thread that read it here would take turns with the clients' threads.
#[track_caller]
fn nothing_is_lost(connections: usize, before: Duration, flags: &[&str]) {
    let log = Scratch::path("log");
    let script = format!("exec \"$0\" \"$@\" >'{}'", log.text());
    let mut server = Server::spawn(under(&["sh", "-c", &script], flags));
    let (addr, seen) = (server.addr, &Seen::default());
    thread::scope(|scope| {
        for index in 0..connections {
            let client = thread::Builder::new().stack_size(256 * 1024);
            let run = move || client_until_refused(addr, index % 2 == 0, seen);
            client
                .spawn_scoped(scope, run)
                .expect("a client's thread starts");
        }
        pause(before);
        server.signal("TERM");
    });
    server.ends_well();
    let answered = seen.answered.load(Ordering::Relaxed);
    let never_accepted = seen.never_accepted.load(Ordering::Relaxed);
    let lost = seen.lost.lock().unwrap();
    let account = Account::of(&server);
    let lines = fs::read_to_string(&log).unwrap();
    let lines = lines
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n') && line.contains("/load"))
        .count();
    println!(
        "{connections} connections: {answered} answered, {never_accepted} never accepted; {account:?}"
    );
    assert!(lost.is_empty(), "lost: {lost:?}; {account:?}");
    assert!(answered > connections as u64, "it was a load: {answered}");
    let counts = [
        lines as u64,
        account.count("requests"),
        account.count("log_lines"),
        account.count("cut"),
    ];
    assert_eq!(counts, [answered, answered, answered, 0], "{account:?}");
}

#[test]
fn under_load_nothing_is_lost_without_a_shutdown_delay() {
    nothing_is_lost(32, ms(500), &["--max-connections", "200"]);
}

#[test]
#[ignore = "heavy: 256 connections without a pause for three seconds"]
fn under_256_connections_nothing_is_lost_with_a_shutdown_delay() {
    // Many slots for each client: on a busy machine a client is back before its last connection's thread has run.
    if !host::open_files("256 connections while draining", 6000) {
        return;
    }
    nothing_is_lost(
        256,
        ms(1_000),
        &["--shutdown-delay", "2s", "--max-connections", "4000"],
    );
}
