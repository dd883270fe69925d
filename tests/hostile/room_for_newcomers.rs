//! Slightly more busy clients than slots: the surplus is told 503, and nobody is reset.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Server, ask, connect, open_files, pause};

#[derive(Debug, Default)]
struct Seen {
    served: u64,
    shed: u64,
    lost: Vec<String>,
}

/// After a second without a request the server may end a connection for a newcomer. A client that a
/// busy machine held up for so long, from one request to the next, proves nothing.
const HELD_UP: Duration = Duration::from_millis(900);

/// A client that keeps its connection and asks again at once; when it is shed, it comes back a
/// little later on a new connection.
fn busy_client(address: SocketAddr, path: &str, end: Instant) -> Seen {
    let mut seen = Seen::default();
    while Instant::now() < end {
        let mut since = Instant::now();
        let mut stream = match connect(address) {
            Ok(stream) => stream,
            Err(error) => {
                seen.lost.push(format!("connect: {error}"));
                continue;
            }
        };
        while Instant::now() < end {
            let start = Instant::now();
            let held_up = start - since > HELD_UP;
            since = start;
            let result = ask(&mut stream, path);
            match result {
                Ok((200, _)) => seen.served += 1,
                Ok((503, _)) => {
                    seen.shed += 1;
                    pause(Duration::from_millis(10));
                    break;
                }
                Ok((status, _)) => seen.lost.push(status.to_string()),
                Err(_) if held_up => break,
                Err(error) => {
                    seen.lost.push(error.to_string());
                    break;
                }
            }
        }
    }
    seen
}

fn busy_clients(slots: &str, clients: usize, path: &'static str, duration: Duration) {
    if !open_files("busy clients", clients) {
        return;
    }
    let server = Server::start(&["--max-connections", slots]);
    let (address, end) = (server.address, Instant::now() + duration);
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let builder = thread::Builder::new().stack_size(256 << 10);
            let client = move || busy_client(address, path, end);
            builder.spawn(client).unwrap()
        })
        .collect();
    let mut all = Seen::default();
    for thread in threads {
        let seen = thread.join().unwrap();
        all.served += seen.served;
        all.shed += seen.shed;
        all.lost.extend(seen.lost);
    }
    println!("{} served, {} shed", all.served, all.shed);
    assert!(
        all.lost.is_empty(),
        "{} lost: {:?}",
        all.lost.len(),
        &all.lost[..all.lost.len().min(5)]
    );
    assert!(all.served > 0 && all.shed > 0, "{all:?}");
    server.terminate().assert_exact();
}

#[test]
fn a_few_busy_clients_too_many_lose_nothing() {
    busy_clients("32", 34, "/", Duration::from_secs(3));
}

#[test]
#[ignore = "1,056 connections"]
fn a_thousand_busy_clients_lose_nothing() {
    // Half as many too many as there are overflow slots: on a slow machine a slot is still taken when
    // its client comes back, and a newcomer that finds all of them taken ends another one.
    busy_clients("1024", 1056, "/delay/100ms", Duration::from_secs(8));
}
