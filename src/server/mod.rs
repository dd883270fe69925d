//! The server: accept, serve, drain.
//!
//! Threads accept as leader and followers. Each thread accepts for itself and serves what it got;
//! before it serves, it makes sure that a few other threads wait in `accept` (the followers), and
//! starts one if they are fewer. So a connection costs no hand-over, and a thread that is started
//! holds nothing yet: if the system refuses it and no follower is left, nothing is lost, and the
//! connection at hand is shed. Finished threads wait for a next connection, up to a number.
//!
//! At the drain the queue of the kernel is emptied first, because closing it would reset the
//! connections in it. Then every blocked `accept` returns and newcomers are refused.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Condvar, Mutex};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::app::handlers::{self, Respond};
use crate::app::{App, Stage};
use crate::config::level::Level;
use crate::config::settings::Config;
use crate::config::units::show_duration;
use crate::limits;
use crate::observe::diagnostics::Diagnostics;
use crate::observe::log::Log;
use crate::observe::metrics::{Aborted, Outcome, Snapshot};
use crate::sync::lock;

pub mod capacity;

pub mod shutdown;

pub mod slots;

pub mod socket;

pub mod input;

pub mod body;

pub mod cores;

pub mod connection;

mod exchange;

mod other_protocols;

pub mod websocket;

pub mod listener;

use body::BodyMemory;
use capacity::Capacity;
use connection::Buffers;
use cores::Cores;
use listener::{Addresses, Listener};
use shutdown::{Event, Events, Notifier};
use slots::{Permit, Slots};

/// Why the server could not run.
#[derive(Debug)]
pub enum Error {
    /// The configured name has no address.
    NoAddress,
    /// The port could not be opened.
    Listen(SocketAddr, io::Error),
    /// The metrics could not be registered.
    Metrics(prometheus::Error),
    /// The system refused the first thread.
    Thread(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoAddress => f.write_str("the name to listen on has no address"),
            Error::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Error::Metrics(error) => write!(f, "cannot register the metrics: {error}"),
            Error::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// What a shutdown did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Responses that were taken whole since the signal.
    pub completed: u64,
    /// Requests that were cut.
    pub cut: u64,
}

/// A server: all that its threads share.
pub struct Server {
    /// What every request needs.
    pub app: App,
    /// The slots: which connections are admitted.
    pub slots: Slots,
    /// Writes the responses; a test may bring its own.
    pub respond: Respond,
    body_memory: BodyMemory,
    cores: Cores,
    capacity: Capacity,
    /// Threads that serve or wait, and those of them that wait in `accept`.
    threads: AtomicUsize,
    waiting: AtomicUsize,
    /// A way to wait until the port begins to close.
    pausing: Mutex<()>,
    closing: Condvar,
    closed: AtomicBool,
    /// Connections that were accepted since the port began to close.
    queued: AtomicUsize,
    last_warning: Mutex<Option<Instant>>,
}

impl Server {
    /// A server with this configuration that writes to these logs; `environment` tells pod,
    /// namespace and node.
    pub fn new(
        config: Config,
        log: &'static Log,
        diagnostics: Diagnostics,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Server, Error> {
        let capacity = capacity::of_host(config.max_connections, config.max_head);
        Ok(Server {
            slots: Slots::new(&capacity),
            body_memory: BodyMemory::new(config.max_body_memory),
            cores: Cores::default(),
            app: App::new(config, log, diagnostics, environment).map_err(Error::Metrics)?,
            respond: handlers::respond,
            capacity,
            threads: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            pausing: Mutex::new(()),
            closing: Condvar::new(),
            closed: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            last_warning: Mutex::new(None),
        })
    }

    /// The limit of the host that lowered the number of connections, in words.
    pub fn lowered_by(&self) -> Option<(usize, &str)> {
        let limit = self.capacity.lowered_by.as_deref()?;
        Some((self.capacity.connections, limit))
    }

    /// Counts of connections and requests at this time.
    pub fn snapshot(&self) -> Snapshot {
        let totals = self.app.log.totals();
        let draining = self.slots.stage().reached(Stage::Draining);
        Snapshot {
            ready: self.app.runtime().ready && !draining,
            log_lines: totals.written,
            log_errors: totals.errors,
            ..self.slots.snapshot()
        }
    }

    /// Serves connections until a signal comes, then drains.
    pub fn run(
        &self,
        listener: &Listener,
        mut events: Events,
        notifier: &Notifier,
    ) -> Result<Drained, Error> {
        let mut completed = 0;
        thread::scope(|scope| {
            let acceptor = Acceptor {
                server: self,
                listener,
                notifier,
                scope,
            };
            acceptor.start_thread().map_err(Error::Thread)?;
            for _ in 1..limits::FOLLOWERS {
                // One is enough to begin with.
                let _ = acceptor.start_thread();
            }
            while events.wait(None) != Event::Signal {}
            completed = self.app.totals.completed.load(Relaxed);
            acceptor.drain(&mut events);
            Ok(())
        })?;
        // The scope has joined every thread, so nothing changes any more.
        Ok(Drained {
            completed: self.app.totals.completed.load(Relaxed) - completed,
            // Nothing is cut before the drain.
            cut: self.app.metrics.aborted_for(Aborted::Cut),
        })
    }

    fn is_closing(&self) -> bool {
        self.slots.stage().reached(Stage::Closing)
    }

    /// Waits this long, or until the port is being closed.
    fn pause(&self, duration: Duration) {
        let (pausing, open) = (lock(&self.pausing), |(): &mut ()| !self.is_closing());
        drop(self.closing.wait_timeout_while(pausing, duration, open));
    }

    /// Writes a warning, unless there was one just before.
    fn warn(&self, message: fmt::Arguments<'_>) {
        let mut last = lock(&self.last_warning);
        let now = Instant::now();
        if last.is_none_or(|last| now.duration_since(last) >= limits::WARNING_INTERVAL) {
            *last = Some(now);
            self.app.say(Level::Warn, message);
        }
    }
}

/// What a thread of the server needs.
#[derive(Clone, Copy)]
struct Acceptor<'scope, 'env> {
    server: &'env Server,
    listener: &'env Listener,
    notifier: &'env Notifier,
    /// Where threads are started.
    scope: &'scope Scope<'scope, 'env>,
}

impl Acceptor<'_, '_> {
    /// Starts a thread that waits in `accept`.
    fn start_thread(self) -> io::Result<()> {
        let server = self.server;
        server.threads.fetch_add(1, SeqCst);
        server.waiting.fetch_add(1, SeqCst);
        let alive = Alive(self);
        let work = move || {
            let _alive = alive;
            self.work();
        };
        // `Scope::spawn` would panic where the system refuses a thread. A refused closure is
        // dropped with all it holds, which is why no connection is in it.
        let thread = thread::Builder::new().stack_size(limits::STACK_BYTES);
        match thread.spawn_scoped(self.scope, work) {
            Ok(_) => {
                server.slots.thread_started();
                Ok(())
            }
            Err(error) => {
                server.waiting.fetch_sub(1, SeqCst);
                server.app.metrics.thread_spawn_errors.inc();
                Err(error)
            }
        }
    }

    /// Accepts and serves, until this thread is one too many or the port is closed.
    fn work(self) {
        let server = self.server;
        let mut buffers = Buffers::default();
        while let Some((stream, addresses)) = self.next() {
            let mut permit = server.slots.admit(stream);
            self.leave_to_follower(permit.as_mut());
            match permit {
                Some(permit) => self.serve(&permit, addresses, &mut buffers),
                None => server.app.metrics.connected(Outcome::Refused),
            }
            // A thread that ends is never counted as waiting. Otherwise a follower could see that
            // count, start no thread, and no thread would accept.
            let spare = server.capacity.spare_threads;
            let wait = |waiting| (waiting < spare).then_some(waiting + 1);
            if server.waiting.fetch_update(SeqCst, SeqCst, wait).is_err() {
                return;
            }
        }
        server.waiting.fetch_sub(1, SeqCst);
    }

    /// Makes sure that other threads wait in `accept`. If the system refuses a thread and none waits,
    /// the connection is shed, and another one is evicted so that its thread accepts.
    fn leave_to_follower(self, permit: Option<&mut Permit<'_>>) {
        let server = self.server;
        let left = server.waiting.fetch_sub(1, SeqCst) - 1;
        if left >= limits::FOLLOWERS || server.closed.load(SeqCst) {
            return;
        }
        let Err(error) = self.start_thread() else {
            return;
        };
        // Read after this thread has taken back its own count: of several that are refused at once,
        // the last one sees that nobody waits.
        if server.waiting.load(SeqCst) > 0 {
            return;
        }
        server.slots.thread_refused();
        server.warn(format_args!(
            "no new thread, fewer connections for a while: {error}"
        ));
        server.slots.free_a_thread();
        let alone = server.waiting.load(SeqCst) == 0;
        if let Some(permit) = permit {
            permit.shed(if alone {
                limits::SHED_TIME_ALONE
            } else {
                limits::SHED_TIME
            });
        }
    }

    /// The next connection; `None` once the port is closed.
    fn next(self) -> Option<(TcpStream, Addresses)> {
        let server = self.server;
        let mut pause = limits::ACCEPT_PAUSE;
        loop {
            let error = match self.listener.accept() {
                Ok(accepted) => {
                    self.count_queued();
                    return Some(accepted);
                }
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                // The queue is empty, or the port is closed already.
                _ if server.is_closing() => {
                    self.close();
                    return None;
                }
                _ => {
                    server.app.metrics.accept_errors.inc();
                    server.warn(format_args!("accept failed: {error}"));
                    server.pause(pause);
                    pause = (pause * 2).min(limits::ACCEPT_PAUSE_MAX);
                }
            }
        }
    }

    /// While the port is being closed: closes it once as many connections were accepted as the queue
    /// can hold, so that a flood of newcomers does not keep it open.
    fn count_queued(self) {
        let server = self.server;
        let queue = limits::BACKLOG.unsigned_abs() as usize;
        if server.is_closing() && server.queued.fetch_add(1, SeqCst) >= queue {
            self.close();
        }
    }

    /// Refuses newcomers from now on.
    fn close(self) {
        self.server.closed.store(true, SeqCst);
        self.listener.close();
    }

    fn serve(self, permit: &Permit<'_>, addresses: Addresses, buffers: &mut Buffers) {
        let app = &self.server.app;
        app.metrics.connected(if permit.is_shed() {
            Outcome::Shed
        } else {
            Outcome::Served
        });
        let serve = || connection::serve(self.server, permit, permit, addresses, buffers);
        // The panic hook has told the message and the place.
        if panic::catch_unwind(AssertUnwindSafe(serve)).is_err() {
            *buffers = Buffers::default();
            app.metrics.panics.inc();
            let (peer, _) = addresses;
            let message = format_args!("a panic ended the connection of {peer}");
            app.say(Level::Error, message);
        }
    }

    /// Goes from the signal to the last thread.
    fn drain(self, events: &mut Events) {
        let Server { app, slots, .. } = self.server;
        let (delay, limit) = (app.config.shutdown_delay, app.config.drain_timeout);
        slots.begin_drain();
        let [delay_text, limit_text] = [delay, limit].map(show_duration);
        app.say(
            Level::Info,
            format_args!("draining: open for {delay_text}, then {limit_text} to finish"),
        );
        // False if the last thread ended or a second signal came before that time.
        let mut wait_until = |time| events.wait(Some(time)) == Event::Nothing;
        let in_time = wait_until(Instant::now() + delay);
        let emptying = self.begin_close();
        slots.close_idle(limits::DRAIN_GRACE);
        let start = Instant::now();
        if in_time && wait_until(start + limits::DRAIN_GRACE.min(limit)) {
            if !emptying {
                self.close();
            }
            slots.end_idling();
            if wait_until(start + limit) {
                self.close();
                slots.end_delays();
                app.log.end_waiting();
                wait_until(start + limit + limits::LAST_RESPONSES);
            }
        }
        self.close();
        slots.cut();
        app.log.end_waiting();
    }

    /// Begins to close the port: a thread serves what waits in the kernel's queue, and the thread
    /// that finds it empty closes it. Where the system has no thread, one that finishes does this.
    /// Whether a thread does it at once.
    fn begin_close(self) -> bool {
        let server = self.server;
        server.slots.stage().raise(Stage::Closing);
        // A thread in `pause` has seen the new stage, or it already waits and gets this notification.
        drop(lock(&server.pausing));
        server.closing.notify_all();
        self.listener.set_nonblocking().is_ok() && self.start_thread().is_ok()
    }
}

/// Proof that a thread of the server is alive; the last one to end tells the main thread.
struct Alive<'scope, 'env>(Acceptor<'scope, 'env>);

impl Drop for Alive<'_, '_> {
    fn drop(&mut self) {
        if self.0.server.threads.fetch_sub(1, SeqCst) == 1 {
            self.0.notifier.tell_empty();
        }
    }
}
