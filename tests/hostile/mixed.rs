//! All attacks at once: probes stay green, and what the server took it gives back.
//!
//! `HOSTILE_SECONDS` sets how long it goes on; 20 by default.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::{Prober, Server, ask, connect, open_files, pause, wait_until};

/// Threads that a server keeps for next connections, and a few of its own.
const SPARE_THREADS: u64 = 64 + 8;

/// An attack: what one connection sends, how many there are in a second, and for how many of them
/// the client stays.
struct Attack {
    first: Vec<u8>,
    each_second: u64,
    stays: usize,
}

fn attacks() -> Vec<Attack> {
    let attack = |first: &str, each_second, stays| Attack {
        first: first.as_bytes().to_vec(),
        each_second,
        stays,
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let options: Vec<_> = (0..98)
        .map(|n| format!("{}{n:02}", "o".repeat(140)))
        .collect();
    let options = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n{}\r\n",
        options.join(","),
        "f: v\r\n".repeat(90)
    );
    let logged = "x".repeat(512);
    let logged =
        format!("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: {logged}\r\nReferer: {logged}\r\n\r\n");
    let body = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 32768\r\n\r\n{}",
        "x".repeat(32 << 10)
    );
    vec![
        attack(&get("/delay/10s"), 40, 0),
        attack(&get("/delay/10s"), 5, 20),
        attack("G", 40, 60),
        attack("", 20, 60),
        attack("GET / HTTP/1.1\r\nA: b\r\n", 20, 40),
        attack(&get("/metrics"), 40, 60),
        attack(&options, 10, 10),
        attack(&(body + &logged.repeat(10) + &get("/delay/5s")), 10, 20),
        attack("\x16\x03\x01\x02\x00\x01\x00", 5, 10),
        attack("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 5, 10),
        attack(&get("/events?interval=100ms"), 5, 10),
        attack(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
            5,
            10,
        ),
    ]
}

fn start(attack: Attack, address: SocketAddr, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut held: VecDeque<TcpStream> = VecDeque::new();
        while !stop.load(SeqCst) {
            if let Ok(mut stream) = connect(address) {
                let _ = stream.write_all(&attack.first);
                held.push_back(stream);
            }
            while held.len() > attack.stays {
                held.pop_front();
            }
            pause(Duration::from_micros(1_000_000 / attack.each_second));
        }
    })
}

/// Clients that behave, among the attacks. What they ask is answered or shed.
fn start_client(address: SocketAddr, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    thread::spawn(move || {
        while !stop.load(SeqCst) {
            let Ok(mut stream) = connect(address) else {
                continue;
            };
            while !stop.load(SeqCst) && matches!(ask(&mut stream, "/"), Ok((200, _))) {
                pause(Duration::from_millis(2));
            }
        }
    })
}

#[test]
#[ignore = "20 seconds of load; HOSTILE_SECONDS for more"]
fn all_attacks_at_once() {
    if !open_files("all attacks at once", 512) {
        return;
    }
    let seconds = std::env::var("HOSTILE_SECONDS").ok();
    let seconds = seconds.map_or(20, |text| text.parse().unwrap());
    let arguments = ["--max-connections", "128", "--log-format", "json"];
    let server = Server::start(&arguments);
    for _ in 0..20 {
        assert_eq!(server.get("/").unwrap().status, 200);
    }
    let descriptors = server.descriptors();
    let stop = Arc::new(AtomicBool::new(false));
    let prober = Prober::start(server.address);
    let attackers = attacks()
        .into_iter()
        .map(|attack| start(attack, server.address, stop.clone()));
    let mut threads: Vec<_> = attackers.collect();
    threads.extend((0..10).map(|_| start_client(server.address, stop.clone())));
    pause(Duration::from_secs(seconds));
    stop.store(true, SeqCst);
    for thread in threads {
        thread.join().unwrap();
    }
    let probes = prober.stop();
    // The scrape itself is a connection, and a request in flight.
    let quiet = wait_until(|| {
        let metrics = server.get("/metrics").unwrap().text;
        let open = crate::support::sum_of(&metrics, "http_open_connections ");
        open <= 1 && server.descriptors() <= descriptors + 2
    });
    println!(
        "{} threads, {} descriptors, {} KiB resident",
        server.status("Threads:"),
        server.descriptors(),
        server.status("VmRSS:")
    );
    assert!(
        quiet,
        "connections are left: {}",
        server.get("/metrics").unwrap().text
    );
    assert!(server.status("Threads:") <= SPARE_THREADS);
    assert!(server.status("VmRSS:") < 64 << 10);
    assert_eq!(server.metric("http_panics_total "), 0);
    probes.assert_green(&server);
    let ended = server.terminate();
    println!("{:?}", ended.totals);
    ended.assert_exact();
}
