//! What the tests of this suite share: the server as a child process, one strict client, one parser of log lines, and
//! the questions about the host.
//!
//! No test may depend on luck. A test waits for a state (a metric, a log line, the end of a stream) for at most
//! `PATIENCE`. Where a time is the promise, lower bounds are exact and upper bounds are several times what is expected,
//! but below what a server without the promise would need.

pub(crate) mod client;
pub(crate) mod host;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod mutate;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod swarm;

use std::env;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use client::{Client, Response, get};
pub(crate) use host::not_run;
pub(crate) use server::Server;

/// How long a test waits for a state that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a state that cannot be waited for.
const LOOK: Duration = ms(10);

/// Milliseconds.
pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Lets time pass where time is what the test is about.
pub(crate) fn pause(length: Duration) {
    let end = Instant::now() + length;
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        thread::park_timeout(left);
    }
}

/// Looks again and again until `done` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < limit, "not within {PATIENCE:?}: {what}");
        pause(LOOK);
    }
}

/// Runs a test for each of some items at the same time, because most of their time is waiting; a failure of any is a
/// failure.
pub(crate) fn each<T: Send>(items: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        let start = |item| {
            let run = thread::Builder::new().spawn_scoped(scope, move || test(item));
            run.expect("a thread starts")
        };
        let running: Vec<_> = items.into_iter().map(start).collect();
        for thread in running {
            thread
                .join()
                .unwrap_or_else(|failure| panic::resume_unwind(failure));
        }
    });
}

/// Where `part` first stands in `bytes`.
pub(crate) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// A path in the directory for temporary files that belongs to one test; what stands there is removed at its end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A path where nothing is yet.
    pub(crate) fn path(name: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        Self(env::temp_dir().join(format!("httpserver-{process}-{count}-{name}")))
    }

    /// A file with this content.
    pub(crate) fn file(name: &str, content: impl AsRef<[u8]>) -> Self {
        let scratch = Self::path(name);
        fs::write(&scratch.0, content).expect("a scratch file can be written");
        scratch
    }

    /// An empty directory.
    pub(crate) fn directory(name: &str) -> Self {
        let scratch = Self::path(name);
        fs::create_dir(&scratch.0).expect("a scratch directory can be made");
        scratch
    }

    /// Writes a file into a directory; the path of the file.
    pub(crate) fn put(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a scratch file can be written");
        path.to_str().expect("the path is text").to_owned()
    }

    /// As text, for a command line.
    pub(crate) fn text(&self) -> &str {
        self.0.to_str().expect("the path is text")
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.0.is_dir() {
            let _ = fs::remove_dir_all(&self.0);
        } else {
            let _ = fs::remove_file(&self.0);
        }
    }
}
