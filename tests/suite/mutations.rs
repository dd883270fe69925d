//! A hundred thousand mutated requests leave the process as it was: the descriptors of before, a bounded number of
//! threads, its memory within 1 MB, nothing panicked, and every byte that came back was the start of a response. "Before" is after a
//! warm-up by the same means, when each kind of thing has happened. Memory is what the process holds, not what glibc
//! keeps for later: it gets one arena, and is told to give back what is freed. Takes a minute or two.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::resources::GIVE_BACK;
use crate::support::mutate::{inputs, mutated};
use crate::support::{PATIENCE, Server, ms, pause, process};

/// Connections, each with one or more mutated requests.
const COUNT: usize = 100_000;
/// So many before the first look: by then the metrics have their series and glibc's heap has its holes.
const WARM_UP: usize = 40_000;
const THREADS: usize = 8;
/// Printed in a failure; change it to look elsewhere.
const SEED: u64 = 9_112;
const MEMORY_KIB: u64 = 1_024;
/// The threads that wait for a connection, and a few that are not connections.
const SPARE_THREADS: u64 = 72;
/// The memory of one of them.
const THREAD_KIB: u64 = 48;
/// So many looks without a change are enough.
const QUIET: u32 = 6;
/// How often the process is looked at until it is quiet.
const LOOK: Duration = ms(500);

/// What a process has in use.
#[derive(Debug, Clone, Copy)]
struct Resources {
    threads: u64,
    descriptors: usize,
    memory_kib: u64,
}

#[test]
#[ignore = "takes a minute or two"]
fn mutated_requests_leave_nothing_behind() {
    let server = Server::start_with(&["--listen", "0.0.0.0:0"], &GIVE_BACK);
    let seeds = inputs();
    batter(&server, &seeds, WARM_UP, SEED + 1);
    let before = settled(&server, |_| true);
    batter(&server, &seeds, COUNT, SEED);
    // Threads wait for a next connection, up to a number; each holds a stack and its buffers.
    let most_threads = before.threads.max(SPARE_THREADS);
    let memory = before.memory_kib + MEMORY_KIB + (most_threads - before.threads) * THREAD_KIB;
    let as_before = |now: Resources| {
        now.threads <= most_threads
            && now.descriptors <= before.descriptors
            && now.memory_kib <= memory
    };
    let after = settled(&server, as_before);
    println!("before {before:?}, after {after:?}");
    assert!(
        as_before(after),
        "{before:?}, {after:?}; at most {most_threads} threads and {memory} KiB"
    );
    let (status, metrics) = get(&server, "/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("\nhttp_panics_total 0\n"), "{metrics}");
}

fn batter(server: &Server, seeds: &[Vec<u8>], count: usize, seed: u64) {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let mut random =
                fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
            let input = mutated(&mut random, seeds);
            if let Err(failure) = exchange(server, number, &input) {
                let shown = input.escape_ascii();
                failures.lock().unwrap().push(format!(
                    "seed {seed} number {number}: {failure} for \"{shown}\""
                ));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            thread::Builder::new().spawn_scoped(scope, work).unwrap();
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} fail:\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
}

/// Sends all, ends its side, reads to the end.
fn exchange(server: &Server, number: usize, input: &[u8]) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = connect(server, number).map_err(text)?;
    let sent = stream
        .write_all(input)
        .and_then(|()| stream.shutdown(Shutdown::Write));
    sent.map_err(text)?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).map_err(text)?;
    let sound = response.is_empty() || response.starts_with(b"HTTP/1.1 ");
    if sound {
        Ok(())
    } else {
        Err(format!("got \"{}\"", response.escape_ascii()))
    }
}

/// Many of the machine's own addresses, because each has its own range of ports that a closed connection blocks.
fn connect(server: &Server, number: usize) -> std::io::Result<TcpStream> {
    let host = u8::try_from(number % 200).unwrap_or_default() + 1;
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), server.addr.port()));
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn get(server: &Server, target: &str) -> (u16, String) {
    let mut stream = connect(server, 0).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    (response[9..12].parse().unwrap(), response)
}

/// Waits until no thread has ended for a while and the process is as `good` wants it, or time is up.
fn settled(server: &Server, good: impl Fn(Resources) -> bool) -> Resources {
    let deadline = Instant::now() + Duration::from_secs(45);
    let mut last = resources(server);
    let mut still = 0;
    while Instant::now() < deadline {
        pause(LOOK);
        let now = resources(server);
        still = if now.threads == last.threads {
            still + 1
        } else {
            0
        };
        last = now;
        if still >= QUIET && good(now) {
            break;
        }
    }
    last
}

fn resources(server: &Server) -> Resources {
    let pid = server.pid();
    let number = |name: &str| process::status(pid, name);
    Resources {
        threads: number("Threads"),
        descriptors: process::open_files(pid),
        memory_kib: number("RssAnon"),
    }
}
