//! A flood of new connections does not hold up the drain, and a second signal still ends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{Server, connect, get, wait_until};

/// Connections as fast as four threads can open them.
struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Flood {
    fn start(address: SocketAddr) -> Flood {
        let stop = Arc::new(AtomicBool::new(false));
        let flood = |_| {
            let stop = stop.clone();
            thread::spawn(move || {
                let mut opened = 0;
                // A bound in count too: a refused connect costs nothing.
                while !stop.load(SeqCst) && opened < 100_000 {
                    if connect(address).is_err() && stop.load(SeqCst) {
                        break;
                    }
                    opened += 1;
                }
                opened
            })
        };
        let threads = (0..4).map(flood).collect();
        Flood { stop, threads }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, SeqCst);
        self.threads.into_iter().map(|t| t.join().unwrap()).sum()
    }
}

#[test]
fn a_flood_does_not_hold_up_the_drain() {
    let server = Server::start(&["--drain-timeout", "2s"]);
    let flood = Flood::start(server.address);
    assert!(wait_until(|| get(server.address, "/healthz").is_ok()));
    let start = Instant::now();
    let ended = server.terminate();
    let took = start.elapsed();
    // A connect whose SYN was dropped ends seconds later, which is not the server's time.
    println!("ended after {took:?}, {} connections", flood.stop());
    ended.assert_exact();
    assert!(took < Duration::from_secs(15));
}

#[test]
fn a_second_signal_ends_a_drain_under_a_flood() {
    let server = Server::start(&["--drain-timeout", "120s", "--shutdown-delay", "120s"]);
    let mut delayed = server.connect();
    std::io::Write::write_all(&mut delayed, b"GET /delay/60s HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(wait_until(|| server.metric("http_requests_in_flight ") > 1));
    let flood = Flood::start(server.address);
    server.signal("TERM");
    assert!(server.stderr.wait_for("draining").is_some());
    let start = Instant::now();
    server.signal("TERM");
    let ended = server.wait();
    println!("ended after {:?}", start.elapsed());
    flood.stop();
    ended.assert_exact();
    assert_eq!(ended.totals.get("cut"), Some(&1), "{}", ended.stderr);
}
