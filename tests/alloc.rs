//! The hot path does not allocate: a counting allocator around a connection that is served in this
//! process.
//!
//! The connection's transport is memory, so every allocation that is seen is the server's own. The
//! first requests grow the buffers that a connection keeps. From then on the count has to stand
//! still, with the log, the metrics and the whole echo at work.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "bench/request.rs"]
mod request;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use httpserver::config::settings::{self, Config};
use httpserver::observe::diagnostics::Diagnostics;
use httpserver::observe::log::Log;
use httpserver::server::Server;
use httpserver::server::connection::{self, Buffers};
use httpserver::server::socket::Transport;

/// Requests before the count begins, and requests that are counted.
const WARM_UP: usize = 100;
const REQUESTS: usize = 500;
/// Lines that give the buffers of the log their room, before any request.
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
    batch: &'a [u8],
    depth: usize,
    /// What each response begins with.
    status_line: &'a [u8],
    sent: Cell<usize>,
    answered: Cell<usize>,
    after_warm_up: Cell<usize>,
}

impl Transport for Client<'_> {
    fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        // Memory is faster than any log: without this its buffer would grow as no network lets it.
        wait_for_lines(self.log, WIDE_LINES + self.sent.get() as u64);
        match self.sent.get() {
            WARM_UP => self.after_warm_up.set(ALLOCATIONS.get()),
            sent if sent >= WARM_UP + REQUESTS => return Ok(0),
            _ => {}
        }
        self.sent.set(self.sent.get() + self.depth);
        bytes[..self.batch.len()].copy_from_slice(self.batch);
        Ok(self.batch.len())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let windows = bytes.windows(self.status_line.len());
        let responses = windows.filter(|window| *window == self.status_line).count();
        self.answered.set(self.answered.get() + responses);
        Ok(bytes.len())
    }

    fn set_read_timeout(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn set_write_timeout(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn set_nonblocking(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn end_writing(&self) {}
}

fn wait_for_lines(log: &Log, written: u64) {
    while log.totals().written < written {
        thread::yield_now();
    }
}

/// A log whose writer has come so far that it allocates nothing more.
fn log() -> &'static Log {
    let log: &'static Log = Box::leak(Box::default());
    thread::Builder::new()
        .spawn(|| log.write_to(&mut io::sink(), |_| ()))
        .unwrap();
    // The log has two buffers in turn; how many lines meet in one is the scheduler's choice, so
    // both get room first.
    for written in 1..=WIDE_LINES {
        log.append(&[b'\n'; 16 << 10], 1, || true);
        wait_for_lines(log, written);
    }
    log
}

/// Has a server with these settings answer a batch of `depth` requests again and again, each with
/// this status, without an allocation.
#[track_caller]
fn check(settings: &str, batch: &str, depth: usize, status: u16) {
    let settings = format!("--delay-max 0s --max-connections 1 {settings}");
    let flags: Vec<_> = settings.split_whitespace().map(str::to_owned).collect();
    let config = Config::read(&settings::flags(&flags).unwrap(), |_| None).unwrap();
    let log = log();
    let diagnostics = Diagnostics::new(Box::leak(Box::default()), false);
    let server = Server::new(config, log, diagnostics, |_| None).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let permit = server.slots.admit(stream).unwrap();
    let client = Client {
        log,
        batch: batch.as_bytes(),
        depth,
        status_line: &format!("HTTP/1.1 {status} ").into_bytes(),
        sent: Cell::new(0),
        answered: Cell::new(0),
        after_warm_up: Cell::new(usize::MAX),
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 34567));
    let mut buffers = Buffers::default();
    let addresses = (address, address);
    connection::serve(&server, &permit, &client, addresses, &mut buffers);
    assert_eq!(client.sent.get(), WARM_UP + REQUESTS);
    assert_eq!(client.answered.get(), client.sent.get());
    let allocations = ALLOCATIONS.get() - client.after_warm_up.get();
    assert_eq!(allocations, 0, "allocations for {REQUESTS} requests");
}

/// The request of all figures, for another target and with another method.
fn request(method: &str, target: &str) -> String {
    request::request(false, Some(target)).replacen("GET", method, 1)
}

#[test]
fn a_request() {
    check("", &request::request(false, None), 1, 200);
}

#[test]
fn pipelined_requests() {
    check("", &request::request(false, None).repeat(5), 5, 200);
}

#[test]
fn behind_a_trusted_proxy() {
    let settings = "--trusted-proxies 127.0.0.0/8,10.0.0.0/8";
    check(settings, &request::request(false, None), 1, 200);
}

#[test]
fn with_a_log_in_json() {
    let settings = "--log-format json --trusted-proxies 127.0.0.0/8";
    check(settings, &request::request(false, None), 1, 200);
}

#[test]
fn with_a_body() {
    let body = "\r\nContent-Length: 5\r\n\r\nhello";
    let post = request("POST", "/").replace("\r\n\r\n", body);
    check("", &post, 1, 200);
}

#[test]
fn every_form() {
    for form in ["text/plain", "application/json", "text/html"] {
        let accept = format!("\r\nAccept: {form}\r\nX-Was: ");
        let request = request::request(false, None).replacen("\r\nAccept: ", &accept, 1);
        assert!(request.contains(form));
        check("", &request, 1, 200);
    }
}

#[test]
fn refusals() {
    check("", &request("TRACE", "/"), 1, 405);
    check("", &request("POST", "/healthz"), 1, 405);
    check("", &request("GET", "/status/999"), 1, 400);
    check("", &request("GET", "/?echo-delay=soon"), 1, 400);
    check("--log-format json", &request("PUT", "/version"), 1, 405);
}

#[test]
fn other_routes() {
    check("--log-level debug", &request("GET", "/healthz"), 1, 200);
    check("", &request("GET", "/status/503"), 1, 503);
    check("--error-rate 1", &request("GET", "/"), 1, 500);
    check("", &request("GET", "/?echo-status=418"), 1, 418);
}
