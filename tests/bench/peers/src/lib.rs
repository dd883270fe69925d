//! What the hyper peer needs to do the same work as the server it is compared with: the access log, one bounded buffer
//! that many threads fill and one thread empties with one write for each millisecond, and the two metrics of a request.
//!
//! Kept apart from `hyper.rs` so that the peer reads as what it is: a plain hyper server.

use std::io::Write;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts};

const GATHER: Duration = Duration::from_millis(1);
const BUFFER_BYTES: usize = 1 << 20;

/// Lines on their way to stdout.
pub struct AccessLog {
    lines: Mutex<Vec<u8>>,
    filled: Condvar,
}

impl AccessLog {
    /// A log with its writer thread, which lives as long as the process.
    pub fn start() -> std::io::Result<&'static Self> {
        let log: &'static Self =
            Box::leak(Box::new(Self { lines: Mutex::new(Vec::with_capacity(BUFFER_BYTES)), filled: Condvar::new() }));
        thread::Builder::new().name("log".into()).spawn(|| log.write_forever())?;
        Ok(log)
    }

    /// Appends a line. A peer may drop what does not fit: the server it is compared with waits instead.
    pub fn append(&self, line: &[u8]) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = lines.is_empty();
        if lines.len() + line.len() <= BUFFER_BYTES {
            lines.extend_from_slice(line);
        }
        drop(lines);
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn write_forever(&self) {
        let mut batch = Vec::with_capacity(BUFFER_BYTES);
        loop {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.filled.wait_while(lines, |lines| lines.is_empty()));
            thread::park_timeout(GATHER);
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut *lines, &mut batch);
            drop(lines);
            if std::io::stdout().write_all(&batch).is_err() {
                return;
            }
            batch.clear();
        }
    }
}

/// The counter and the histogram that the server keeps for each request.
pub struct Metrics {
    /// Answers by route, method and code.
    pub requests: IntCounterVec,
    /// Durations in seconds.
    pub duration: Histogram,
}

impl Metrics {
    /// Both, with the server's number of buckets.
    pub fn new() -> prometheus::Result<Self> {
        let buckets = (0..22).map(|step| 0.0005 * 1.6_f64.powi(step)).collect();
        let options = HistogramOpts::new("http_request_duration_seconds", "duration").buckets(buckets);
        let requests = Opts::new("http_requests_total", "answers");
        Ok(Self {
            requests: IntCounterVec::new(requests, &["route", "method", "code"])?,
            duration: Histogram::with_opts(options)?,
        })
    }
}
