//! Too many connections: who makes room, who is shed, and that probes stay green meanwhile.
//!
//! What must hold is always the same: whoever asks gets a response and no reset, a client that says nothing holds
//! nothing, and when the load is gone the server is as before.

use std::time::{Duration, Instant};

use crate::support::metrics::{aborted, rejected};
use crate::support::{Client, Response, Server, eventually, host, ms, pause};

/// A response takes milliseconds, and one that waits for an overflow slot takes until the first of those is over, which
/// is a second. The quickest of several tries tells them apart on a slow machine too.
const PROMPT: Duration = ms(600);

/// The places for connections that find no slot, where the host has room for them.
const OVERFLOW: usize = 64;

/// A server whose slots are all taken, for as long as the test likes, by responses that their clients do not read yet.
#[track_caller]
fn full_server(slots: usize, flags: &[&str]) -> (Server, Vec<Client>) {
    let count = slots.to_string();
    let server = Server::start(
        &[
            &["--max-connections", &count, "--write-timeout", "1h"],
            flags,
        ]
        .concat(),
    );
    let busy = (0..slots).map(|_| {
        let mut client = Client::new(&server);
        assert_eq!(client.hold(), 200);
        client
    });
    let busy = busy.collect();
    (server, busy)
}

/// The time of one GET on a new connection.
#[track_caller]
fn time_of_one(server: &Server, target: &str, status: u16) -> Duration {
    let start = Instant::now();
    let response = Client::new(server).get(target);
    assert_eq!(response.status, status, "{target}: {response}");
    start.elapsed()
}

/// Asserts that the probes are answered promptly.
#[track_caller]
pub(crate) fn probes_are_prompt(server: &Server, what: &str) {
    for target in ["/healthz", "/readyz", "/metrics"] {
        let quickest = (0..5)
            .map(|_| time_of_one(server, target, 200))
            .min()
            .unwrap();
        assert!(quickest < PROMPT, "{what}: {target} takes {quickest:?}");
    }
}

/// Lets a crowd come again and again, and each time asks at once for a probe and for something else.
#[track_caller]
fn prompt_after_each(server: &Server, what: &str, mut crowd: impl FnMut() -> Vec<Client>) {
    let mut quickest = [Duration::MAX; 2];
    for _ in 0..4 {
        let crowd = crowd();
        for (quickest, (target, status)) in quickest.iter_mut().zip([("/healthz", 200), ("/", 503)])
        {
            *quickest = time_of_one(server, target, status).min(*quickest);
        }
        drop(crowd);
    }
    assert!(
        quickest.iter().all(|time| *time < PROMPT),
        "after {what}: {quickest:?}"
    );
}

/// Whether the host has room for a crowd and all overflow slots.
fn room_for_a_crowd(what: &str) -> bool {
    host::open_files(what, 2048)
}

#[test]
fn the_longest_idle_makes_room() {
    let server = Server::start(&["--max-connections", "4"]);
    let mut idle: Vec<Client> = (0..4).map(|_| Client::new(&server)).collect();
    for client in &mut idle {
        assert_eq!(client.get("/").status, 200);
    }
    pause(ms(1_200));
    assert_eq!(
        idle[0].get("/").status,
        200,
        "so the second is now the longest idle"
    );
    let mut newcomer = Client::new(&server);
    assert_eq!(
        newcomer.get("/").status,
        200,
        "with every slot idle a newcomer is served"
    );
    idle[1].finish();
    for index in [0, 2, 3] {
        assert_eq!(
            idle[index].get("/").status,
            200,
            "idle connection {index} was left alone"
        );
    }
    let scrape = server.scrape();
    for reason in ["client_closed", "evicted", "cut", "write_timeout"] {
        let count = scrape.count_or_zero(&aborted(reason));
        assert_eq!(count, 0, "{reason}: it had no request");
    }
}

#[test]
fn as_many_newcomers_as_slots_are_served_where_all_are_idle() {
    const SLOTS: usize = 16;
    let server = Server::start(&["--max-connections", &SLOTS.to_string()]);
    let mut idle: Vec<Client> = (0..SLOTS).map(|_| Client::new(&server)).collect();
    for client in &mut idle {
        assert_eq!(client.get("/").status, 200);
    }
    pause(ms(1_200));
    // Each asks at once: one that is silent for a second makes room for the next one.
    let asks = |_| {
        let mut client = Client::new(&server);
        client.ask("/");
        client
    };
    let mut newcomers: Vec<Client> = (0..SLOTS).map(asks).collect();
    for client in &mut newcomers {
        assert_eq!(client.response().status, 200);
    }
    for client in &mut idle {
        client.finish();
    }
    for client in &mut newcomers {
        assert_eq!(
            client.get("/").status,
            200,
            "no slot was made up and none was lost"
        );
    }
}

#[test]
fn a_newcomer_without_a_slot_is_shed_with_a_response() {
    let (server, busy) = full_server(2, &[]);
    let mut client = Client::new(&server);
    let response = client.get("/any");
    assert_eq!(
        (response.status, response.field("retry-after")),
        (503, "1"),
        "{response}"
    );
    assert!(response.closes(), "{response}");
    client.finish();
    let mut client = Client::new(&server);
    let response = client.call("POST", "/big", "", &"x".repeat(100_000));
    assert_eq!(
        response.status, 503,
        "unread input does not reset the response"
    );
    client.finish();
    probes_are_prompt(&server, "every slot taken");
    for probe in ["/healthz", "/readyz", "/metrics"] {
        let mut client = Client::new(&server);
        let response = client.get(probe);
        assert!(
            response.status == 200 && response.closes(),
            "answered once and closed: {response}"
        );
        client.finish();
    }
    let scrape = server.scrape();
    assert_eq!(scrape.count(&rejected("shed")), 2);
    for method in ["GET", "POST"] {
        let labels = format!("code=\"503\",method=\"{method}\",route=\"none\"");
        assert_eq!(
            scrape.count(&format!("http_requests_total{{{labels}}}")),
            1,
            "a shed response has route none"
        );
    }
    assert!(scrape.count("http_connections_total{outcome=\"shed\"}") >= 20);
    for mut client in busy {
        assert_eq!(
            client.response().status,
            200,
            "those with a slot are answered"
        );
    }
    eventually("a free slot is given again, and kept", || {
        let mut newcomer = Client::new(&server);
        newcomer.get("/").status == 200 && newcomer.get("/").status == 200
    });
}

#[test]
fn a_newcomer_has_one_second_in_all() {
    let (server, _busy) = full_server(1, &["--header-timeout", "1h", "--idle-timeout", "1h"]);
    let opened = Instant::now();
    let mut silent = Client::new(&server);
    silent.finish();
    let after = opened.elapsed();
    assert!(
        after > ms(900) && after < ms(20_000),
        "a silent one has a second: {after:?}"
    );
    // A byte now and then buys no time.
    let opened = Instant::now();
    let mut slow = Client::new(&server);
    for byte in "GET / HTTP/1.1\r\nHost: t\r\nX: "
        .bytes()
        .chain(std::iter::repeat_n(b'x', 2_000))
    {
        if slow.try_send([byte]).is_err() || !slow.is_silent_for(ms(20)) {
            break;
        }
    }
    let after = opened.elapsed();
    assert!(
        after > ms(900) && after < ms(20_000),
        "a slow one has a second: {after:?}"
    );
}

#[test]
fn a_newcomer_with_part_of_a_request_gets_408() {
    let (server, _busy) = full_server(1, &["--header-timeout", "1h"]);
    let mut slow = Client::new(&server);
    slow.send("GET / HTTP/1.1\r\nHo");
    let response: Response = slow.response();
    assert!(response.status == 408 && response.closes(), "{response}");
    slow.finish();
}

#[test]
fn silent_newcomers_hold_nothing() {
    if !room_for_a_crowd("silent newcomers hold nothing") {
        return;
    }
    let (server, _busy) = full_server(1, &[]);
    // More than the overflow slots: each of the others has to make room for the next one.
    prompt_after_each(&server, "silent newcomers", || {
        (0..OVERFLOW + 8).map(|_| Client::new(&server)).collect()
    });
}

#[test]
fn newcomers_with_half_a_head_hold_nothing_and_count_as_evicted() {
    if !room_for_a_crowd("newcomers with half a head hold nothing") {
        return;
    }
    let (server, _busy) = full_server(1, &[]);
    prompt_after_each(&server, "newcomers with half a head", || {
        let mut half: Vec<Client> = (0..OVERFLOW + 8).map(|_| Client::new(&server)).collect();
        for client in &mut half {
            let _ = client.try_send("GET / HTTP/1.1\r\nHost: t\r\n");
        }
        half
    });
    server.wait_count(&aborted("evicted"), |count| count > 0);
}

#[test]
fn who_is_evicted_did_not_close_by_itself() {
    if !room_for_a_crowd("who is evicted did not close by itself") {
        return;
    }
    let (server, _busy) = full_server(1, &[]);
    let mut half: Vec<Client> = (0..2 * OVERFLOW).map(|_| Client::new(&server)).collect();
    for client in &mut half {
        let _ = client.try_send("GET / HTTP/1.1\r\nHost: t\r\n");
    }
    // Each is evicted or gets its 408; all stay until the server has ended them.
    let mut ended = [0, 0];
    for client in &mut half {
        let end = client.end();
        ended[usize::from(end.rest.starts_with(b"HTTP/1.1 408 "))] += 1;
    }
    let scrape = server.scrape();
    assert_eq!(
        scrape.count_or_zero(&aborted("client_closed")),
        0,
        "evicted and answered: {ended:?}"
    );
}

#[test]
fn newcomers_that_stay_after_their_response_hold_nothing() {
    if !room_for_a_crowd("newcomers that stay hold nothing") {
        return;
    }
    let (server, _busy) = full_server(1, &[]);
    prompt_after_each(
        &server,
        "newcomers for all overflow slots, shed and still there",
        || {
            (0..OVERFLOW)
                .map(|_| {
                    let mut client = Client::new(&server);
                    client.ask("/");
                    // One of the crowd before may still be there, and this one makes room for the next.
                    let _ = client.try_response(false);
                    client
                })
                .collect()
        },
    );
}

#[test]
fn newcomers_whose_probe_waits_for_a_body_hold_nothing() {
    if !room_for_a_crowd("newcomers whose probe waits for a body hold nothing") {
        return;
    }
    let (server, _busy) = full_server(1, &[]);
    prompt_after_each(
        &server,
        "as many probes as overflow slots, without their body",
        || {
            let mut probes: Vec<Client> = (0..OVERFLOW).map(|_| Client::new(&server)).collect();
            for client in &mut probes {
                let _ = client
                    .try_send("GET /healthz HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n");
            }
            probes
        },
    );
}

#[test]
#[ignore = "heavy: 2,000 silent connections"]
fn slow_clients_in_all_slots_and_2000_silent_ones_leave_probes_prompt() {
    if !host::open_files("2,000 silent connections", 8192) {
        return;
    }
    let (server, mut slow) = full_server(64, &["--header-timeout", "1h"]);
    let crowd = || (0..2000).map(|_| Client::new(&server)).collect();
    prompt_after_each(&server, "2,000 silent connections", crowd);
    for _ in 0..3 {
        let silent: Vec<Client> = crowd();
        probes_are_prompt(&server, "2,000 silent connections");
        for _ in 0..20 {
            let mut client = Client::new(&server);
            assert_eq!(client.get("/").status, 503);
            client.finish();
        }
        drop(silent);
    }
    for client in &mut slow {
        assert_eq!(client.response().status, 200, "a slow client kept its slot");
    }
}

#[test]
fn clients_that_go_away_leave_no_trace() {
    const SLOTS: usize = 32;
    let server = Server::start(&["--max-connections", &SLOTS.to_string()]);
    for round in 0..200 {
        let mut client = Client::new(&server);
        match round % 5 {
            0 => client.ask("/bytes/1MiB"),
            1 => client.send("GET / HTTP/1.1\r\nHo"),
            2 => client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\nx"),
            3 => client.ask("/delay/100ms"),
            _ => {}
        }
    }
    server.wait_count("http_open_connections", |open| open == 1);
    assert_eq!(server.count("http_panics_total"), 0);
    eventually("each slot can be taken, and kept", || {
        let mut clients: Vec<Client> = (0..SLOTS).map(|_| Client::new(&server)).collect();
        let mut all = || {
            clients
                .iter_mut()
                .all(|client| client.get("/").status == 200)
        };
        all() && all()
    });
}

#[test]
fn making_room_costs_nobody_a_request_that_has_arrived() {
    let server = Server::start(&["--max-connections", "2"]);
    for round in 0..20 {
        server.freeze();
        let mut crowd: Vec<Client> = (0..40).map(|_| Client::new(&server)).collect();
        for client in &mut crowd {
            client.ask("/");
        }
        server.signal("CONT");
        for (index, client) in crowd.iter_mut().enumerate() {
            let response = client.try_response(false);
            let response = response
                .unwrap_or_else(|error| panic!("round {round}, connection {index}: {error}"));
            assert!([200, 503].contains(&response.status), "{response}");
        }
    }
}
