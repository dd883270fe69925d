//! `/metrics`: each refusal counts under its reason, what comes and goes is counted in bytes and seconds, the gauges
//! tell who is there, and the process's own figures move.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::cases::{self, Case};
use crate::support::metrics::{Scrape, series};
use crate::support::{Client, PATIENCE, Response, Server, eventually, get, ms, pause, process};
use crate::table;

type Counts = BTreeMap<String, u64>;

#[test]
fn each_refusal_of_the_table_counts_once_under_its_reason() {
    let server = Server::start(&[]);
    let (mut before, mut failures) = (counts(&server), Vec::new());
    for case in cases::all() {
        let outcome = table::run_whole(&server, &case);
        let outcome =
            outcome.and_then(|responses| counted(&server, &case, &responses, &mut before));
        if let Err(failure) = outcome {
            failures.push(format!("{}: {failure}", case.name));
            before = counts(&server);
        }
    }
    assert!(
        failures.is_empty(),
        "{} fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Looks at the counters after each refusal, so a count that moved without one shows at the next one.
///
/// Counters follow the response, so they are looked at until they are right or time is up.
fn counted(
    server: &Server,
    case: &Case,
    responses: &[Response],
    before: &mut Counts,
) -> Result<(), String> {
    let refused = responses.iter().any(|response| response.status >= 400);
    let reasons = case
        .expected
        .iter()
        .filter(|_| refused)
        .filter_map(|expected| expected.reason.as_deref());
    let Some(reason) = reasons.chain(case.end_reason.as_deref()).next() else {
        return Ok(());
    };
    let limit = Instant::now() + ms(5_000);
    loop {
        let now = counts(server);
        let moved: Vec<_> = now
            .iter()
            .filter(|&(name, count)| before.get(name) != Some(count))
            .collect();
        let right = matches!(moved[..], [(name, count)]
            if (reason == "*" || reason == name) && *count == before.get(name).unwrap_or(&0) + 1);
        if right {
            *before = now;
            return Ok(());
        }
        if Instant::now() > limit {
            return Err(format!("expected reason {reason:?}, counted {moved:?}"));
        }
        pause(ms(5));
    }
}

/// What was refused and what was aborted so far, by reason.
fn counts(server: &Server) -> Counts {
    let text = server.scrape().0;
    let of = |line: &str| -> Option<(String, u64)> {
        let rest = line.strip_prefix("http_rejected_requests_total{reason=\"");
        let rest = rest.or_else(|| line.strip_prefix("http_aborted_requests_total{reason=\""))?;
        let (reason, value) = rest.split_once("\"} ")?;
        Some((reason.to_owned(), value.trim().parse().ok()?))
    };
    text.lines()
        .filter_map(of)
        .filter(|&(_, count)| count > 0)
        .collect()
}

#[test]
fn the_series_of_normal_work_are_there_from_the_start() {
    let scrape = Server::start(&[]).scrape();
    for (series, expected) in [
        ("http_requests_in_flight", 1),
        ("http_open_connections", 1),
        ("http_idle_connections", 0),
        ("http_connections_total{outcome=\"served\"}", 1),
        ("http_connections_total{outcome=\"shed\"}", 0),
        ("http_connections_total{outcome=\"refused\"}", 0),
        ("http_injected_delay_seconds_count", 0),
        ("http_panics_total", 0),
        ("accept_errors_total", 0),
        ("thread_spawn_errors_total", 0),
        ("access_log_lines_total", 0),
        ("access_log_write_errors_total", 0),
        ("httpserver_ready", 1),
        ("httpserver_draining", 0),
    ] {
        assert_eq!(scrape.count(series), expected, "{series}");
    }
    for metric in [
        "http_rejected_requests_total",
        "http_aborted_requests_total",
        "http_injected_faults_total",
    ] {
        assert!(
            scrape.0.contains(&format!("# TYPE {metric} counter")),
            "{metric}"
        );
    }
    assert!(scrape.count("http_max_connections") > 0);
    assert!(
        scrape.0.lines().count() < 400,
        "{} lines",
        scrape.0.lines().count()
    );
    for line in scrape.0.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn requests_count_by_route_method_and_status() {
    let server = Server::start(&[]);
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/"),
        ("POST", "/status/404"),
        ("BREW", "/"),
        ("GET", "/status/599"),
    ] {
        Client::new(&server).call(method, target, "", "");
    }
    let scrape = server.scrape();
    for (route, method, code, expected) in [
        ("echo", "GET", "200", 2),
        ("status", "POST", "404", 1),
        ("echo", "other", "200", 1),
        ("status", "GET", "other", 1),
    ] {
        let labels = format!("code=\"{code}\",method=\"{method}\",route=\"{route}\"");
        assert_eq!(
            scrape.count(&format!("http_requests_total{{{labels}}}")),
            expected,
            "{labels}"
        );
    }
    assert_eq!(
        scrape.count("http_request_duration_seconds_count{route=\"echo\"}"),
        3
    );
}

#[test]
fn request_and_response_bytes_are_those_of_the_wire() {
    let server = Server::start(&[]);
    // All on one connection, whose responses are counted before it reads the next request.
    let mut client = Client::new(&server);
    let body = "b".repeat(10_000);
    let (mut sent, mut got) = (0, 0);
    let mut grown = Vec::new();
    // The first round makes series, which a scrape is longer by; in the last one all is as before.
    for _ in 0..3 {
        let response = client.call_raw(get("/metrics"));
        let scrape = Scrape(response.text());
        let counts = ["http_request_bytes_total", "http_response_bytes_total"]
            .map(|name| scrape.count(name));
        grown.push((counts[0], counts[1], sent, got));
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        sent +=
            (get("/metrics").len() + head.len() + body.len() + get("/bytes/100000").len()) as u64;
        let echo = client.call_raw(head + &body);
        got += (response.length() + echo.length() + client.get("/bytes/100000").length()) as u64;
    }
    let [_, (request, response, sent, got), last] = grown[..] else {
        panic!("three rounds");
    };
    // A scrape counts its own request already, in each round.
    assert_eq!(
        (last.0 - request, last.1 - response),
        (last.2 - sent, last.3 - got)
    );
}

#[test]
fn the_bytes_of_a_response_count_before_its_end() {
    const BYTES: usize = 8 << 20;
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    client.ask("/bytes/1GiB");
    while client.received().len() < BYTES {
        assert!(client.read().expect("it comes") > 0, "it goes on");
    }
    // The last write may have been taken and not counted yet; it has less than a MiB.
    let counted = server.scrape().count("http_response_bytes_total");
    assert!(counted >= 7 << 20, "{counted}");
}

#[test]
fn the_injected_delay_is_observed_apart() {
    let server = Server::start(&["--delay-min", "60ms", "--delay-max", "60ms"]);
    for target in ["/", "/x", "/healthz", "/delay/1ms"] {
        server.get(target);
    }
    let scrape = server.scrape();
    assert_eq!(
        scrape.count("http_injected_delay_seconds_count"),
        2,
        "the random delay of the echo alone"
    );
    let sum = scrape.value("http_injected_delay_seconds_sum");
    assert!(
        (0.119..0.13).contains(&sum),
        "two delays of 60 ms are {sum} s"
    );
}

#[test]
fn the_process_figures_move() {
    let server = Server::start(&[]);
    let scrape = server.scrape();
    let files = scrape.count("process_open_fds");
    assert!(
        files >= 5,
        "standard streams, a listener and a connection are {files} open files"
    );
    let clients: Vec<Client> = (0..10).map(|_| Client::new(&server)).collect();
    server.wait_count("process_open_fds", |now| now >= files + 10);
    assert!(process::open_files(server.pid()) >= 15);
    for series in [
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_threads",
        "process_max_fds",
    ] {
        assert!(scrape.value(series) > 0.0, "{series}");
    }
    let start = scrape.value("process_start_time_seconds");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    assert!(
        (0.0..3600.0).contains(&(now - start)),
        "started {} s ago",
        now - start
    );
    let before = scrape.value("process_cpu_seconds_total");
    let limit = Instant::now() + PATIENCE;
    let mut busy = Client::new(&server);
    while server.scrape().value("process_cpu_seconds_total") <= before {
        assert!(
            Instant::now() < limit,
            "CPU seconds stand still at {before}"
        );
        busy.get("/bytes/8MiB");
    }
    drop(clients);
}

#[test]
fn gauges_tell_who_is_there() {
    let server = Server::start(&["--max-connections", "40"]);
    let mut idle: Vec<Client> = (0..3).map(|_| Client::new(&server)).collect();
    for client in &mut idle {
        assert_eq!(client.get("/").status, 200);
    }
    let mut busy: Vec<Client> = (0..2).map(|_| Client::new(&server)).collect();
    for client in &mut busy {
        client.ask("/delay/60s");
    }
    server.wait_in_flight(2);
    server.wait_count("http_idle_connections", |idle| idle == 3);
    server.wait_count("http_open_connections", |open| open == 6);
    assert_eq!(server.count("http_max_connections"), 40);
    drop(idle);
    server.wait_count("http_idle_connections", |idle| idle == 0);
}

#[test]
fn only_a_connection_that_waits_for_a_next_request_is_idle() {
    let server = Server::start(&["--idle-timeout", "1h", "--header-timeout", "1h"]);
    let mut kept = Client::new(&server);
    assert_eq!(kept.get("/").status, 200);
    // One without a request yet, one with a part of one, one that lingers, and one whose client asked for the end.
    let _new = Client::new(&server);
    let mut part = Client::new(&server);
    part.send("GET / HT");
    server.wait_count("http_open_connections", |open| open == 4);
    let mut lingers = Client::new(&server);
    assert_eq!(
        lingers
            .call_raw("GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
            .status,
        400
    );
    lingers.finish();
    // Whoever else would count as idle does so by now. The connection of the scrape before may still be there.
    pause(ms(100));
    eventually("the kept one alone is idle", || {
        // Each byte gives the one that lingers five seconds more.
        let _ = lingers.try_send("x");
        let scrape = server.scrape();
        ["http_open_connections", "http_idle_connections"].map(|name| scrape.count(name)) == [5, 1]
    });
}

#[test]
fn requests_of_a_connection_are_observed_at_its_end() {
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    for _ in 0..5 {
        client.get("/");
    }
    drop(client);
    // The scrapes are connections of one request each.
    let ones = series("http_requests_per_connection_bucket", "le", "1");
    let mut scrape = server.scrape();
    eventually("one had more than one request", || {
        scrape = server.scrape();
        scrape.count("http_requests_per_connection_count") == scrape.count(&ones) + 1
    });
    let sum = scrape.count("http_requests_per_connection_sum");
    assert_eq!(sum, scrape.count(&ones) + 5, "{}", scrape.0);
}
