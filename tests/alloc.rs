//! The hot path does not allocate: a counting allocator around a connection that is served in this process.
//!
//! The connection's wire is memory, so that every allocation that is seen is the server's own. Its first requests grow
//! the buffers that a connection keeps; from then on the count has to stand still, with the log, the metrics and the
//! whole echo at work, one request at a time and pipelined.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "bench/request.rs"]
mod request;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use httpserver::access_log::Log;
use httpserver::body::Budget;
use httpserver::config::Config;
use httpserver::connection::{self, Kept, Wire};
use httpserver::context::{Context, Identity};
use httpserver::handlers;
use httpserver::live::Live;
use httpserver::lobby::Lobby;
use httpserver::metrics::Metrics;
use httpserver::process::capacity;

const WARM_UP: usize = 100;
const REQUESTS: usize = 500;
const WIDE_LINES: u64 = 2;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count for each thread.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

#[expect(
    unsafe_code,
    reason = "an allocator can be declared in no other way; this one only counts and hands on"
)]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are the ones that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

/// A client in memory: it sends its batch again and again, and looks at the count in between.
struct Client<'a> {
    log: &'a Log,
    batch: String,
    depth: usize,
    sent: Cell<usize>,
    answered: Cell<usize>,
    after_warm_up: Cell<usize>,
}

impl Wire for Client<'_> {
    fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        // Memory is faster than any log: without this pause its buffer would grow as no network lets it.
        wait_for_lines(self.log, WIDE_LINES + self.sent.get() as u64);
        match self.sent.get() {
            WARM_UP => self.after_warm_up.set(ALLOCATIONS.get()),
            sent if sent >= WARM_UP + REQUESTS => return Ok(0),
            _ => {}
        }
        self.sent.set(self.sent.get() + self.depth);
        bytes[..self.batch.len()].copy_from_slice(self.batch.as_bytes());
        Ok(self.batch.len())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let answers = bytes
            .windows(15)
            .filter(|window| window == b"HTTP/1.1 200 OK")
            .count();
        self.answered.set(self.answered.get() + answers);
        Ok(bytes.len())
    }

    fn set_read_timeout(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn set_write_timeout(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn end_writing(&self) {}
}

fn wait_for_lines(log: &Log, written: u64) {
    while log.totals().written < written {
        thread::yield_now();
    }
}

#[test]
fn a_request_allocates_nothing() {
    check(1);
}

#[test]
fn pipelined_requests_allocate_nothing() {
    check(5);
}

#[track_caller]
fn check(depth: usize) {
    let flags = ["--delay-max", "0s"].map(str::to_owned);
    let config = Config::read(&flags, |_| None).unwrap();
    let live = Live::new(config.start);
    let metrics = Metrics::new(&[]).unwrap();
    let lobby = Lobby::new(&capacity(1));
    let bodies = Budget::new(1);
    let log: &'static Log = Box::leak(Box::default());
    thread::Builder::new()
        .spawn(|| log.write_to(&mut io::sink(), |_| ()))
        .unwrap();
    // The log has two buffers in turn; how many lines meet in one is the scheduler's choice, so both get room first.
    for written in 1..=WIDE_LINES {
        log.append(&[b'\n'; 16 << 10], true);
        wait_for_lines(log, written);
    }
    let diagnostics = Log::default();
    let identity = Identity::new("1.0.0", |_| None);
    let ctx = Context {
        config: &config,
        live: &live,
        metrics: &metrics,
        lobby: &lobby,
        bodies: &bodies,
        log,
        diagnostics: &diagnostics,
        identity: &identity,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let seat = lobby
        .admit(TcpStream::connect(listener.local_addr().unwrap()).unwrap())
        .unwrap();
    let client = Client {
        log,
        batch: request::request(false, None).repeat(depth),
        depth,
        sent: Cell::new(0),
        answered: Cell::new(0),
        after_warm_up: Cell::new(usize::MAX),
    };
    let address = SocketAddr::from(([127, 0, 0, 1], 34567));
    connection::serve(
        ctx,
        &seat,
        &client,
        (address, address),
        handlers::respond,
        &mut Kept::default(),
    );
    assert_eq!(client.answered.get(), client.sent.get());
    assert_eq!(
        ALLOCATIONS.get() - client.after_warm_up.get(),
        0,
        "allocations for {REQUESTS} requests"
    );
}
