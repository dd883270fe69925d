//! Too much load: making room, shedding, the shared budget for bodies, and each limit of the host, provoked for real.
//!
//! What must hold under all of them is the same: probes stay green and prompt, whoever asks gets an answer and no
//! reset, a client that says nothing holds nothing, and when the load is gone the server is as before.

mod support;
#[path = "support/swarm.rs"]
mod swarm;
#[path = "support/load.rs"]
mod tools;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use fastrand::Rng;
use httpserver::access_log::Log;
use httpserver::body::Budget;
use httpserver::config::Config;
use httpserver::context::{Context, Identity};
use httpserver::handlers::{self, Call};
use httpserver::live::{Live, Start};
use httpserver::lobby::Lobby;
use httpserver::metrics::Metrics;
use httpserver::response::{Out, Sent};
use httpserver::{process, server, signals};

use support::{PATIENCE, Server};
use swarm::Outcome;
use tools::{Client, alone, in_time, median_time, ms, pause};

/// Within this a probe answers, however loaded the server is.
const PROMPT: Duration = ms(50);

#[track_caller]
fn probes_are_prompt(server: &Server, what: &str) {
    for target in ["/healthz", "/readyz", "/metrics"] {
        let time = median_time(server.addr, target, 200);
        assert!(time < PROMPT, "{what}: {target} takes {time:?}");
    }
}

/// A server whose seats are all taken for some seconds by requests in flight.
#[track_caller]
fn full_server(seats: usize, more: &[&str]) -> (Server, Vec<Client>) {
    let count = seats.to_string();
    let server = Server::start(&[&["--max-connections", &count], more].concat());
    let mut busy: Vec<Client> = (0..seats).map(|_| Client::new(&server)).collect();
    for client in &mut busy {
        client.ask("/delay/4s");
    }
    pause(ms(100));
    (server, busy)
}

#[test]
fn the_longest_idle_makes_room() {
    let server = Server::start(&["--max-connections", "4"]);
    let mut idle: Vec<Client> = (0..4).map(|_| Client::new(&server)).collect();
    for client in &mut idle {
        assert_eq!(client.get("/").status, 200);
        pause(ms(30));
    }
    assert_eq!(
        idle[0].get("/").status,
        200,
        "so the second is now the longest idle"
    );
    let start = Instant::now();
    let mut newcomer = Client::new(&server);
    assert_eq!(
        newcomer.get("/").status,
        200,
        "with every seat idle a newcomer is served"
    );
    assert!(
        start.elapsed() < ms(500),
        "at once, not after {:?}",
        start.elapsed()
    );
    let end = idle[1].end();
    assert!(!end.reset && end.rest.is_empty(), "{end:?}");
    for index in [0, 2, 3] {
        assert_eq!(
            idle[index].get("/").status,
            200,
            "idle connection {index} was left alone"
        );
    }
}

#[test]
fn with_every_seat_idle_a_hundred_newcomers_are_served() {
    let server = Server::start(&["--max-connections", "16"]);
    let mut idle: Vec<Client> = (0..16).map(|_| Client::new(&server)).collect();
    for client in &mut idle {
        assert_eq!(client.get("/").status, 200);
    }
    for _ in 0..100 {
        let mut newcomer = Client::new(&server);
        assert_eq!(newcomer.get("/").status, 200);
        idle.push(newcomer);
    }
    let mut last = Client::new(&server);
    let shed = metric(&mut last, "http_connections_total{outcome=\"shed\"}");
    assert!(shed.abs() < f64::EPSILON, "nobody was shed: {shed}");
    let open = metric(&mut last, "http_open_connections");
    assert!(open <= 16.0, "and no seat was made up: {open}");
}

/// A series, asked for on a connection that is there already.
#[track_caller]
fn metric(client: &mut Client, series: &str) -> f64 {
    let metrics = client.get("/metrics").text();
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value
        .unwrap_or_else(|| panic!("{series} in {metrics}"))
        .parse()
        .expect("a number")
}

#[test]
fn a_newcomer_without_a_seat_is_shed_with_an_answer() {
    in_time(|| {
        let (server, busy) = full_server(2, &[]);
        let mut client = Client::new(&server);
        let answer = client.get("/any");
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1")),
            "{}",
            answer.head
        );
        assert!(answer.closes(), "{}", answer.head);
        let end = client.end();
        assert!(!end.reset && end.rest.is_empty(), "{end:?}");
        let body = "x".repeat(100_000);
        let mut client = Client::new(&server);
        assert_eq!(
            client.call("POST", "/big", "", &body).status,
            503,
            "unread input does not reset the answer"
        );
        assert!(!client.end().reset);
        assert!(median_time(server.addr, "/any", 503) < PROMPT);
        probes_are_prompt(&server, "every seat taken");
        for probe in ["/healthz", "/readyz", "/metrics"] {
            let mut client = Client::new(&server);
            let answer = client.get(probe);
            assert!(
                answer.status == 200 && answer.closes(),
                "answered once and closed: {}",
                answer.head
            );
            assert!(!client.end().reset);
        }
        assert!(server.metric("http_connections_total{outcome=\"shed\"}") >= 85.0);
        assert!(server.metric("http_rejected_requests_total{reason=\"shed\"}") >= 22.0);
        let none = server.metric("http_requests_total{code=\"503\",method=\"GET\",route=\"none\"}");
        assert!(
            (none - 21.0).abs() < f64::EPSILON,
            "a shed answer counts as route none: {none}"
        );
        for mut client in busy {
            assert_eq!(
                client
                    .answer()
                    .expect("those with a seat are answered")
                    .status,
                200
            );
        }
        pause(ms(100));
        let mut seated = Client::new(&server);
        assert_eq!(seated.get("/").status, 200, "a free seat is given again");
        assert_eq!(seated.get("/").status, 200, "and kept");
    });
}

#[test]
fn silent_newcomers_hold_nothing_and_leave_after_a_second() {
    in_time(|| {
        let (server, _busy) = full_server(1, &[]);
        let opened = Instant::now();
        let mut silent: Vec<Client> = (0..64).map(|_| Client::new(&server)).collect();
        pause(ms(100));
        assert!(silent[0].silent_for(ms(100)), "there is a place for 64");
        let crowd = Instant::now();
        silent.extend((0..10).map(|_| Client::new(&server)));
        for (index, client) in silent[..10].iter_mut().enumerate() {
            client.end();
            let after = crowd.elapsed();
            assert!(
                after < ms(200),
                "silent connection {index}, one of the oldest, is cut by the crowd, not after {after:?}"
            );
        }
        let mut asking = Client::new(&server);
        assert_eq!(
            asking.get("/").status,
            503,
            "one that asks is answered between them"
        );
        for client in &mut silent[11..64] {
            let end = client.end();
            let after = end.at - opened;
            assert!(!end.reset && end.rest.is_empty(), "{end:?}");
            assert!(
                after > ms(900) && after < ms(1200),
                "a silent one has 1 s in all: {after:?}"
            );
        }
    });
}

/// Does something to a server again and again, each time asks at once for a probe and for something else, and asserts
/// that the medians of both are prompt.
#[track_caller]
fn prompt_after_each(server: &Server, what: &str, mut act: impl FnMut() -> Vec<Client>) {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        let crowd = act();
        times[0].push(tools::time_of_one(server.addr, "/healthz", 200));
        times[1].push(tools::time_of_one(server.addr, "/", 503));
        drop(crowd);
    }
    for (mut times, target) in times.into_iter().zip(["/healthz", "/"]) {
        times.sort();
        assert!(times[2] < PROMPT, "after {what} {target} takes {times:?}");
    }
}

#[test]
fn newcomers_with_half_a_head_hold_nothing_either() {
    in_time(|| {
        let (server, _busy) = full_server(1, &[]);
        prompt_after_each(&server, "200 newcomers with half a head", || {
            let mut half: Vec<Client> = (0..200).map(|_| Client::new(&server)).collect();
            for client in &mut half {
                let _ = client.stream.write(b"GET / HTTP/1.1\r\nHost: t\r\n");
            }
            half
        });
    });
}

#[test]
fn newcomers_that_stay_after_their_answer_hold_nothing_either() {
    in_time(|| {
        let (server, _busy) = full_server(1, &[]);
        // One for each shed place.
        prompt_after_each(&server, "64 newcomers that were shed and stay", || {
            let mut shed: Vec<Client> = (0..64).map(|_| Client::new(&server)).collect();
            for client in &mut shed {
                assert_eq!(client.get("/").status, 503);
            }
            shed
        });
    });
}

#[test]
fn newcomers_whose_probe_waits_for_a_body_hold_nothing_either() {
    in_time(|| {
        let (server, _busy) = full_server(1, &[]);
        // One for each shed place.
        prompt_after_each(&server, "64 probes without their body", || {
            let mut probes: Vec<Client> = (0..64).map(|_| Client::new(&server)).collect();
            for client in &mut probes {
                client.send("GET /healthz HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n");
            }
            probes
        });
    });
}

#[test]
fn a_slow_newcomer_has_one_second_in_all() {
    in_time(|| {
        let (server, _busy) = full_server(1, &[]);
        let opened = Instant::now();
        let mut slow = Client::new(&server);
        for byte in "GET / HTTP/1.1".bytes() {
            slow.send([byte]);
            pause(ms(50));
        }
        let end = slow.end();
        let after = end.at - opened;
        assert!(
            after > ms(900) && after < ms(1200),
            "dribbling buys no time: {after:?}"
        );
        assert!(
            end.rest.starts_with(b"HTTP/1.1 408 "),
            "part of a request had arrived: {}",
            end.rest.escape_ascii()
        );
    });
}

#[test]
#[ignore = "heavy: 2,000 silent connections"]
fn slow_seats_and_2000_silent_connections_leave_probes_prompt() {
    in_time(|| {
        if !tools::open_files(4096) {
            return tools::not_run(
                "2,000 silent connections",
                "the limit of open files cannot be raised to 4096",
            );
        }
        let server = Server::start(&[
            "--max-connections",
            "64",
            "--header-timeout",
            "60s",
            "--body-timeout",
            "60s",
        ]);
        let mut slow: Vec<Client> = (0..64).map(|_| Client::new(&server)).collect();
        for (index, client) in slow.iter_mut().enumerate() {
            client.send(if index % 2 == 0 {
                "GET / HT"
            } else {
                "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nx"
            });
        }
        pause(ms(200));
        prompt_after_each(&server, "2,000 silent connections", || {
            (0..2000).map(|_| Client::new(&server)).collect()
        });
        for round in 0..3 {
            let silent: Vec<Client> = (0..2000).map(|_| Client::new(&server)).collect();
            probes_are_prompt(&server, &format!("round {round}"));
            for _ in 0..20 {
                let mut client = Client::new(&server);
                assert_eq!(client.get("/").status, 503);
                assert!(!client.end().reset, "shed with an answer, not a reset");
            }
            drop(silent);
        }
        for (index, client) in slow.iter_mut().enumerate() {
            client.send(if index % 2 == 0 {
                "TP/1.1\r\nHost: t\r\n\r\n"
            } else {
                "12345678"
            });
            assert_eq!(
                client.answer().expect("a slow client kept its seat").status,
                200,
                "client {index}"
            );
        }
        let mut newcomer = Client::new(&server);
        assert_eq!(
            newcomer.get("/").status,
            200,
            "with every seat idle a newcomer is served"
        );
    });
}

/// The head and the first bytes of a POST of `length` bytes, of which one is held back.
fn body_but_one(length: usize) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n{}",
        "x".repeat(length - 1)
    )
}

#[test]
fn bodies_share_one_budget() {
    let server = Server::start(&["--max-body", "80KiB", "--max-body-memory", "100KiB"]);
    let mut holder = Client::new(&server);
    holder.send(body_but_one(80 * 1024));
    pause(ms(200));
    let body = "y".repeat(80 * 1024);
    let mut second = Client::new(&server);
    let answer = second.call("POST", "/", "", &body);
    assert_eq!(answer.status, 503, "{}", answer.head);
    assert!(
        answer.header("retry-after").is_some() && answer.closes(),
        "{}",
        answer.head
    );
    let mut chunked = Client::new(&server);
    chunked
        .send(format!("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n14000\r\n{body}\r\n0\r\n\r\n"));
    assert_eq!(chunked.answer().expect("an answer").status, 503);
    assert_eq!(
        Client::new(&server).call("POST", "/", "", "small").status,
        200,
        "a small body has room"
    );
    assert!(
        (server.metric("http_rejected_requests_total{reason=\"body_memory\"}") - 2.0).abs()
            < f64::EPSILON
    );
    holder.send("x");
    assert_eq!(
        holder
            .answer()
            .expect("the first holder is answered")
            .status,
        200
    );
    // The answer is on its way before the room is given back, so the first that asks may come too early.
    let room_again =
        || (0..100).any(|_| Client::new(&server).call("POST", "/", "", &body).status == 200);
    assert!(room_again(), "its room is free again");
    let mut gone = Client::new(&server);
    gone.send(body_but_one(80 * 1024));
    pause(ms(200));
    drop(gone);
    pause(ms(200));
    assert!(room_again(), "so is that of a client that went away");
}

#[test]
fn gauges_tell_who_is_there() {
    let server = Server::start(&[]);
    let mut idle: Vec<Client> = (0..3).map(|_| Client::new(&server)).collect();
    for client in &mut idle {
        assert_eq!(client.get("/").status, 200);
    }
    let mut busy: Vec<Client> = (0..2).map(|_| Client::new(&server)).collect();
    for client in &mut busy {
        client.ask("/delay/2s");
    }
    let mut asking = Client::new(&server);
    pause(ms(200));
    let table = [
        ("http_open_connections", 6.0),
        ("http_idle_connections", 3.0),
        ("http_requests_in_flight", 3.0),
        ("http_seats", 1024.0),
        ("http_connections_total{outcome=\"served\"}", 6.0),
        ("http_connections_total{outcome=\"shed\"}", 0.0),
    ];
    for (series, expected) in table {
        let value = metric(&mut asking, series);
        assert!(
            (value - expected).abs() < f64::EPSILON,
            "{series} is {value}, not {expected}"
        );
    }
    drop((idle, busy));
    pause(ms(300));
    let open = metric(&mut asking, "http_open_connections");
    assert!(
        open <= 3.0,
        "those that went away are gone but for the two in their delay: {open}"
    );
}

#[test]
fn clients_that_go_away_leave_no_trace() {
    let server = Server::start(&["--max-connections", "32"]);
    for round in 0..200 {
        let mut client = Client::new(&server);
        match round % 4 {
            0 => client.ask("/bytes/1MiB"),
            1 => client.send("GET / HTTP/1.1\r\nHo"),
            2 => client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\nx"),
            _ => {}
        }
    }
    let mut last = Client::new(&server);
    let limit = Instant::now() + PATIENCE;
    while metric(&mut last, "http_open_connections") > 1.0 {
        assert!(
            Instant::now() < limit,
            "{} seats are still held",
            metric(&mut last, "http_open_connections") - 1.0
        );
        pause(ms(50));
    }
    assert!(metric(&mut last, "http_panics_total").abs() < f64::EPSILON);
    let mut others: Vec<Client> = (0..31).map(|_| Client::new(&server)).collect();
    for _ in 0..2 {
        for client in &mut others {
            assert_eq!(
                client.get("/").status,
                200,
                "each of the 32 seats can be taken, and kept"
            );
        }
    }
    assert_eq!(last.get("/").status, 200);
}

#[test]
fn the_kernels_queue_holds_a_thousand() {
    in_time(|| {
        let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("a Linux");
        let room: usize = somaxconn.trim().parse().expect("a number");
        if room < 1000 || !tools::open_files(4096) {
            return tools::not_run(
                "a queue of 1,000",
                "net.core.somaxconn is below 1000, or open files below 4096",
            );
        }
        let server = Server::start(&["--max-connections", "1200"]);
        tools::freeze(&server);
        let queued: Vec<TcpStream> = (0..1000)
            .map_while(|_| TcpStream::connect_timeout(&server.addr, ms(500)).ok())
            .collect();
        server.signal("CONT");
        assert_eq!(
            queued.len(),
            1000,
            "a stopped server's queue took so many at once"
        );
    });
}

#[test]
fn making_room_costs_nobody_a_request_that_has_arrived() {
    let server = Server::start(&["--max-connections", "2"]);
    for round in 0..50 {
        tools::freeze(&server);
        let mut crowd: Vec<Client> = (0..40).map(|_| Client::new(&server)).collect();
        for client in &mut crowd {
            client.ask("/");
        }
        server.signal("CONT");
        for (index, client) in crowd.iter_mut().enumerate() {
            let answer = client
                .answer()
                .unwrap_or_else(|error| panic!("round {round}, connection {index}: {error}"));
            assert!([200, 503].contains(&answer.status), "{}", answer.head);
        }
    }
}

/// Threads of a process.
fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .expect("it runs")
        .count()
}

#[test]
#[ignore = "slow: waits for the end of spare threads"]
fn spare_threads_end_and_one_stays() {
    // Many servers, because two threads have to give up in the same moment to both think that the other one stays.
    let servers: Vec<Server> = (0..16).map(|_| Server::start(&[])).collect();
    let idle = threads(servers[0].pid());
    for server in &servers {
        let mut clients: Vec<Client> = (0..32).map(|_| Client::new(server)).collect();
        for client in &mut clients {
            client.ask("/delay/100ms");
        }
        for client in &mut clients {
            assert_eq!(client.answer().expect("an answer").status, 200);
        }
    }
    assert!(
        threads(servers[15].pid()) > idle + 8,
        "finished threads wait for more"
    );
    pause(ms(23_000));
    for server in &servers {
        assert_eq!(
            threads(server.pid()),
            idle,
            "those that were too many have ended"
        );
        assert_eq!(
            Client::new(server).get("/").status,
            200,
            "one still accepts"
        );
    }
}

#[test]
fn short_connections_reuse_threads() {
    let server = Server::start(&[]);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let mut client = Client::new(&server);
        assert_eq!(client.get("/").status, 200);
        seen.extend(tools::threads(server.pid()));
        drop(client);
        pause(ms(2));
    }
    assert!(
        seen.len() < 20,
        "100 connections one after the other took {} threads",
        seen.len()
    );
}

/// Asks on many connections at once and counts whole answers of 200 and of 503; anything else is a failure.
#[track_caller]
fn served_and_shed(server: &Server, count: usize, target: &str) -> (usize, usize) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    let outcomes = swarm::ask_all(server.addr, count, request.as_bytes(), PATIENCE);
    let of = |status| outcomes.iter().filter(|outcome| outcome.is(status)).count();
    let (good, shed) = (of(200), of(503));
    let odd = outcomes
        .iter()
        .find(|outcome| !outcome.is(200) && !outcome.is(503));
    let odd = odd.map(|odd| {
        (
            odd.error,
            String::from_utf8_lossy(odd.answer.as_deref().unwrap_or_default()),
        )
    });
    assert_eq!(
        good + shed,
        count,
        "served {good}, shed {shed}, and one of the rest: {odd:?}"
    );
    (good, shed)
}

/// Waits until a burst is served without a shed, which is the recovery.
#[track_caller]
fn recovers(server: &Server, burst: usize) {
    let limit = Instant::now() + PATIENCE;
    while served_and_shed(server, burst, "/").1 > 0 {
        assert!(
            Instant::now() < limit,
            "after {PATIENCE:?} {burst} connections at once are still shed"
        );
        pause(ms(200));
    }
}

#[test]
fn few_open_files_mean_fewer_seats_and_a_warning() {
    in_time(|| {
        let server = Server::spawn(tools::under(
            &["prlimit", "--nofile=64"],
            &["--max-connections", "1000"],
        ));
        let warning = server.stderr.text();
        let warned: Vec<&str> = warning
            .lines()
            .filter(|line| line.contains("open files"))
            .collect();
        assert!(
            warned.len() == 1 && warned[0].contains(" warn ") && warned[0].contains("64"),
            "{warning}"
        );
        let seats = server.metric("http_seats");
        assert!(
            seats > 8.0 && seats < 60.0,
            "{seats} seats in 64 open files"
        );
        let (good, shed) = served_and_shed(&server, 150, "/delay/300ms");
        assert!(good >= 8 && shed > 0, "served {good}, shed {shed}");
        let silent: Vec<Client> = (0..100).map(|_| Client::new(&server)).collect();
        probes_are_prompt(&server, "100 silent connections in 64 open files");
        drop(silent);
        recovers(&server, 8);
        let errors = server.metric("accept_errors_total");
        assert!(
            errors.abs() < f64::EPSILON,
            "the seats were counted so that accept never fails: {errors}"
        );
    });
}

#[test]
fn accept_errors_back_off_and_end_nothing() {
    in_time(|| {
        let mut server = Server::start(&[]);
        let mut kept = Client::new(&server);
        assert_eq!(kept.get("/").status, 200);
        let (soft, _) = tools::open_files_of(server.pid());
        set_open_files(server.pid(), 3);
        let hanging: Vec<Client> = (0..5).map(|_| Client::new(&server)).collect();
        let before = tools::cpu_time(server.pid());
        pause(ms(2000));
        let spent = tools::cpu_time(server.pid()).saturating_sub(before);
        assert!(spent < ms(100), "it does not spin: {spent:?} of CPU in 2 s");
        assert_eq!(kept.get("/").status, 200, "who has a connection is served");
        let errors = metric(&mut kept, "accept_errors_total");
        assert!(
            (3.0..20.0).contains(&errors),
            "5 ms doubling to 1 s in 2 s is about 9 tries: {errors}"
        );
        set_open_files(server.pid(), soft);
        let start = Instant::now();
        for mut client in hanging {
            assert_eq!(client.get("/").status, 200, "who waited is served");
        }
        assert!(
            start.elapsed() < ms(1300),
            "within the longest pause: {:?}",
            start.elapsed()
        );
        assert_eq!(server.stop().code(), Some(0));
        let stderr = server.stderr.text();
        let told = stderr
            .lines()
            .filter(|line| line.contains("accept"))
            .count();
        assert!((1..=3).contains(&told), "told, and not each time: {stderr}");
    });
}

#[track_caller]
fn set_open_files(pid: u32, soft: u64) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args([format!("--pid={pid}"), format!("--nofile={soft}:")]);
    assert!(
        prlimit.status().expect("prlimit runs").success(),
        "the limit can be set"
    );
}

#[test]
fn sigterm_ends_it_while_accept_fails() {
    in_time(|| {
        let mut server = Server::start(&[]);
        set_open_files(server.pid(), 3);
        let _hanging: Vec<Client> = (0..5).map(|_| Client::new(&server)).collect();
        pause(ms(1000));
        let start = Instant::now();
        assert_eq!(server.stop().code(), Some(0));
        assert!(
            start.elapsed() < ms(2000),
            "the back-off does not hold it: {:?}",
            start.elapsed()
        );
    });
}

/// A copy of the binary where any user may run it.
struct Shared(PathBuf);

impl Shared {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("httpserver-{}", std::process::id()));
        std::fs::copy(env!("CARGO_BIN_EXE_httpserver"), &path).expect("the binary can be copied");
        Self(path)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
#[ignore = "needs root: limits processes of another user"]
fn a_refused_thread_sheds_and_recovers() {
    if !tools::is_root() || !tools::have("setpriv") {
        return tools::not_run(
            "threads refused by RLIMIT_NPROC",
            "it needs root and setpriv",
        );
    }
    let _turn = alone();
    let binary = Shared::new();
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=54321",
        "--regid=54321",
        "--clear-groups",
        "prlimit",
        "--nproc=16",
    ]);
    command.arg(&binary.0).args([
        "--listen",
        "127.0.0.1:0",
        "--delay-max",
        "0s",
        "--max-connections",
        "200",
    ]);
    let mut server = Server::spawn(command);
    let (good, shed) = served_and_shed(&server, 100, "/delay/500ms");
    assert!(good >= 4 && shed >= 50, "served {good}, shed {shed}");
    assert!(server.metric("thread_spawn_errors_total") >= 1.0);
    probes_are_prompt(&server, "threads are refused");
    recovers(&server, 4);
    assert!(server.metric("http_panics_total").abs() < f64::EPSILON);
    assert_eq!(server.stop().code(), Some(0));
    let stderr = server.stderr.text();
    let told = stderr
        .lines()
        .filter(|line| line.contains("thread"))
        .count();
    assert!((1..=5).contains(&told), "told, and not each time: {stderr}");
}

/// A control group of this test, removed at its end.
struct Group(PathBuf);

impl Group {
    /// In whichever hierarchy has the pids controller here; `None` where none can be made.
    fn new(pids: u32) -> Option<Self> {
        let name = format!("httpserver-test-{}", std::process::id());
        ["pids", "unified", "."].iter().find_map(|hierarchy| {
            let path = PathBuf::from("/sys/fs/cgroup").join(hierarchy).join(&name);
            std::fs::create_dir(&path).ok()?;
            let group = Self(path);
            std::fs::write(group.0.join("pids.max"), pids.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let limit = Instant::now() + PATIENCE;
        while std::fs::remove_dir(&self.0).is_err() && Instant::now() < limit {
            pause(ms(20));
        }
    }
}

#[test]
#[ignore = "needs root: makes a control group"]
fn a_small_pids_max_means_fewer_seats_and_a_warning() {
    let Some(group) = Group::new(32) else {
        return tools::not_run("a control group with pids.max 32", "none can be made here");
    };
    let _turn = alone();
    let script = format!(
        "echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"",
        group.0.display()
    );
    let mut server = Server::spawn(tools::under(
        &["sh", "-c", &script],
        &["--max-connections", "1000"],
    ));
    few_pids(&mut server);
}

/// What 32 processes mean for a server: a warning, fewer seats, and no thread that is refused.
#[track_caller]
fn few_pids(server: &mut Server) {
    let warning = server.stderr.text();
    let warned: Vec<&str> = warning
        .lines()
        .filter(|line| line.contains("pids.max"))
        .collect();
    assert!(
        warned.len() == 1 && warned[0].contains(" warn "),
        "{warning}"
    );
    let seats = server.metric("http_seats");
    assert!(seats > 4.0 && seats < 32.0, "{seats} seats in 32 processes");
    let (good, shed) = served_and_shed(server, 100, "/delay/300ms");
    assert!(good >= 4 && shed > 0, "served {good}, shed {shed}");
    probes_are_prompt(server, "32 processes");
    recovers(server, 4);
    let refused = server.metric("thread_spawn_errors_total");
    assert!(
        refused.abs() < f64::EPSILON,
        "the seats were counted so that no thread is refused: {refused}"
    );
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
#[ignore = "needs root: mounts a made-up /sys/fs/cgroup for the server alone"]
fn pids_max_is_found_where_version_2_has_it() {
    if !tools::is_root() {
        return tools::not_run("pids.max of a control group version 2", "it needs root");
    }
    for group in ["/", "/kubepods.slice/pod1.slice/abc"] {
        let script = format!(
            "set -e; mount -t tmpfs none /sys/fs/cgroup; mkdir -p /sys/fs/cgroup{group}; \
             echo pids >/sys/fs/cgroup/cgroup.controllers; echo 32 >/sys/fs/cgroup{group}/pids.max; \
             echo 0::{group} >/sys/fs/cgroup/self; mount --bind /sys/fs/cgroup/self /proc/$$/cgroup; exec \"$0\" \"$@\""
        );
        let wrapper = ["unshare", "--mount", "sh", "-c", &script];
        let server = Server::spawn(tools::under(&wrapper, &["--max-connections", "1000"]));
        let warning = server.stderr.text();
        assert!(
            warning
                .lines()
                .any(|line| line.contains("pids.max") && line.contains(" warn ")),
            "{group}: {warning}"
        );
        assert!(
            server.metric("http_seats") < 32.0,
            "{group}: {} seats",
            server.metric("http_seats")
        );
    }
}

#[test]
fn more_threads_than_the_host_can_map_mean_fewer_seats() {
    let maps = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("a Linux");
    let maps: u64 = maps.trim().parse().expect("a number");
    let seats = maps / 4 + 1000;
    if !tools::open_files(seats + 500) {
        let why = format!("{seats} seats need more open files than are allowed here");
        return tools::not_run("seats lowered by vm.max_map_count", &why);
    }
    let server = Server::start(&["--max-connections", &seats.to_string()]);
    let warning = server.stderr.text();
    let warned: Vec<&str> = warning
        .lines()
        .filter(|line| line.contains("vm.max_map_count"))
        .collect();
    assert!(
        warned.len() == 1 && warned[0].contains(" warn ") && warned[0].contains(&maps.to_string()),
        "{warning}"
    );
    let lowered = server.metric("http_seats");
    let mappings = 4.0 * lowered;
    let maps: f64 = maps.to_string().parse().expect("a number");
    assert!(
        lowered >= 100.0 && mappings < maps,
        "{lowered} seats in {maps} mappings"
    );
}

#[test]
#[ignore = "needs root: a network of its own with a short queue"]
fn a_short_queue_is_warned_of() {
    if !tools::is_root() {
        return tools::not_run("the warning about net.core.somaxconn", "it needs root");
    }
    let script = "mount -t sysfs none /sys && echo 128 >/proc/sys/net/core/somaxconn && ip link set lo up && exec \"$0\" \"$@\"";
    let server = Server::spawn(tools::under(
        &["unshare", "--net", "--mount", "sh", "-c", script],
        &[],
    ));
    let warning = server.stderr.text();
    let warned = warning
        .lines()
        .any(|line| line.contains("net.core.somaxconn") && line.contains("128"));
    assert!(warned, "{warning}");
}

/// The product's handler, but for a target on which it panics.
fn fragile(call: &Call<'_>, random: &mut Rng, out: &mut Out<'_>) -> Sent {
    assert_ne!(call.request.target, "/panic", "on demand");
    handlers::respond(call, random, out)
}

/// Ten requests that panic, between two connections that must not notice.
fn ten_panics(addr: SocketAddr, metrics: &Metrics) {
    let mut other = Client::to(addr).expect("it accepts");
    assert_eq!(other.get("/before").status, 200);
    for _ in 0..10 {
        let mut client = Client::to(addr).expect("it accepts");
        client.ask("/panic");
        client.end();
    }
    assert_eq!(
        other.get("/after").status,
        200,
        "another connection does not notice"
    );
    let mut newcomer = Client::to(addr).expect("it accepts");
    assert_eq!(newcomer.get("/").status, 200, "4 seats outlast 10 panics");
    assert_eq!(metrics.panics.get(), 10);
}

#[test]
fn a_panic_costs_its_own_connection() {
    let config = Config::read(&[], |_| None).expect("the defaults are good");
    let config = Config {
        admin_token: String::new(),
        ..config
    };
    let (log, diagnostics) = (Log::default(), Log::default());
    let metrics = Metrics::new(&[]).expect("metrics");
    let ctx = Context {
        live: &Live::new(Start {
            delay_max: Duration::ZERO,
            ..config.start
        }),
        metrics: &metrics,
        lobby: &Lobby::new(&process::capacity(4)),
        bodies: &Budget::new(config.max_body_memory),
        log: &log,
        diagnostics: &diagnostics,
        identity: &Identity::new("1", |_| None),
        config: &config,
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("it has one");
    let (events, notifier) = signals::channel().expect("a channel");
    std::thread::scope(|scope| {
        let run = || server::run(&listener, ctx, events, &notifier, fragile);
        let server = std::thread::Builder::new()
            .spawn_scoped(scope, run)
            .expect("a thread");
        // A failure must end the server too, or the scope would wait for it for ever.
        let seen = panic::catch_unwind(AssertUnwindSafe(|| ten_panics(addr, &metrics)));
        notifier.signal();
        let drained = server
            .join()
            .expect("the panics stayed in their threads")
            .expect("it drains");
        assert_eq!(drained.cut, 0);
        seen.unwrap_or_else(|failure| panic::resume_unwind(failure));
    });
    let lines = diagnostics.finish(Duration::ZERO).lost;
    assert!(
        lines >= 10,
        "each panic is a line of diagnostics, which nobody wrote here: {lines}"
    );
}

/// The time within which so many of a hundred clients saw a first byte.
fn percentile(outcomes: &[Outcome], percent: usize) -> Duration {
    let mut times: Vec<Duration> = outcomes
        .iter()
        .filter_map(|outcome| outcome.first_byte)
        .collect();
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

#[test]
#[ignore = "heavy: 5,000 connections at once"]
fn five_thousand_connections_at_once_are_answered() {
    in_time(|| {
        if !tools::open_files(12_000) {
            return tools::not_run(
                "5,000 connections at once",
                "the limit of open files cannot be raised to 12000",
            );
        }
        let mut server = Server::start(&["--max-connections", "6000"]);
        let calm = tools::is_calm("a first byte p99 under 300 ms");
        let request = b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        let outcomes = swarm::ask_all(server.addr, 5000, request, PATIENCE);
        let answered = outcomes.iter().filter(|outcome| outcome.is(200)).count();
        assert_eq!(answered, 5000, "all are answered");
        let (median, last) = (percentile(&outcomes, 50), percentile(&outcomes, 99));
        println!(
            "5,000 connections at once: first byte p50 {median:?}, p99 {last:?}, {:?} of CPU",
            tools::cpu_time(server.pid())
        );
        if calm {
            assert!(last < ms(300), "first byte p99 {last:?}");
        }
        assert_eq!(server.stop().code(), Some(0));
        assert_eq!(server.stdout.text().lines().count(), 5000);
    });
}

/// The most memory that a process has had.
fn peak_memory(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.expect("the kernel tells").trim().to_owned()
}

#[test]
#[ignore = "heavy: 10,000 requests in flight"]
fn ten_thousand_requests_in_flight_are_answered() {
    in_time(|| {
        if !tools::open_files(15_000) {
            return tools::not_run(
                "10,000 requests in flight",
                "the limit of open files cannot be raised to 15000",
            );
        }
        let mut server = Server::start(&[
            "--max-connections",
            "12000",
            "--delay-min",
            "1s",
            "--delay-max",
            "1s",
        ]);
        let calm = tools::is_calm("10,000 requests of 1 s in under 3 s");
        let request = b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        let start = Instant::now();
        let outcomes = swarm::ask_all(server.addr, 10_000, request, PATIENCE);
        let time = start.elapsed();
        let answered = outcomes.iter().filter(|outcome| outcome.is(200)).count();
        let (cpu, memory) = (tools::cpu_time(server.pid()), peak_memory(server.pid()));
        println!(
            "10,000 requests of 1 s in flight: {answered} answered in {time:?}, {cpu:?} of CPU, {memory}"
        );
        assert_eq!(
            answered,
            10_000,
            "all are answered: {}",
            server.stderr.text()
        );
        if calm {
            assert!(time < ms(3000), "in {time:?}");
        }
        assert_eq!(server.stop().code(), Some(0));
        assert_eq!(server.stdout.text().lines().count(), 10_000);
    });
}
