//! The server: accept, admit, serve, drain.
//!
//! Every thread accepts for itself: it takes a connection from the kernel's queue, admits and serves it, and comes back
//! to wait for the next. So a connection costs no hand-over. Only a thread that is the last to wait hands its connection
//! to a new one and goes on accepting, so that the queue never stands. The listener's receive time-out ends threads that
//! are too many; the last one waits without one. A full lobby makes its newcomers wait in the thread that accepts, and
//! those behind them in the kernel's queue.
//!
//! At the drain the port is closed first: a thread that is blocked in `accept` proves that the queue is empty, and
//! where none is, the queue is emptied without blocking. Then `shutdown` on the listener makes each blocked `accept`
//! return, and refuses newcomers. From there on threads only end, and the last one tells so.

use std::any::Any;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::connection::{self, Kept};
use crate::context::Context;
use crate::handlers::Handler;
use crate::limits;
use crate::live::Level;
use crate::lobby::Seat;
use crate::metrics::Outcome;
use crate::signals::{Event, Events, Notifier};
use crate::text;

/// The port of the default address.
const PORT: u16 = 8080;

/// Opens a port, by default on every IPv6 and IPv4 address, or on IPv4 alone where the host has no IPv6.
pub fn listen(address: Option<SocketAddr>) -> Result<TcpListener, String> {
    let every: SocketAddr = (Ipv6Addr::UNSPECIFIED, PORT).into();
    let wanted = address.unwrap_or(every);
    let listener = match TcpListener::bind(wanted) {
        Err(error) if address.is_none() && error.kind() != ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))
        }
        result => result,
    };
    let listener = listener.map_err(|error| format!("cannot listen on {wanted}: {error}"))?;
    lengthen_queue(&listener).map_err(|error| format!("cannot lengthen the queue of {wanted}: {error}"))?;
    Ok(listener)
}

/// Asks for a longer queue than the 128 that std asks for: with those, a burst of 5,000 connections loses SYNs, and
/// their clients wait for seconds.
fn lengthen_queue(listener: &TcpListener) -> io::Result<()> {
    // listen(2) may be called again on a listening socket, and sets the new length. It takes two integers and touches
    // no memory of ours: on a descriptor that is no socket it fails, so no argument of it can break a rule of Rust.
    #[expect(unsafe_code, reason = "no safe function of std sets the length of the queue")]
    unsafe extern "C" {
        safe fn listen(socket: i32, backlog: i32) -> i32;
    }
    if listen(listener.as_raw_fd(), limits::BACKLOG) == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the drain did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drained {
    /// Requests answered since the signal.
    pub completed: u64,
    /// Requests that were cut.
    pub cut: usize,
}

/// A connection and its peer, as `accept` gives them.
type Accepted = (TcpStream, SocketAddr);

/// A connection that was admitted, with the peer's address and our own.
struct Seated<'a> {
    seat: Seat<'a>,
    addresses: (SocketAddr, SocketAddr),
}

/// What every thread of the server shares.
struct Server<'a> {
    ctx: Context<'a>,
    listener: &'a TcpListener,
    /// The same, with the options that std has for streams alone.
    socket: &'a TcpStream,
    /// Our address, where the listener has just one.
    local: Option<SocketAddr>,
    handler: Handler,
    notifier: &'a Notifier,
    /// Threads alive, and those of them that wait in `accept` or for admission.
    threads: AtomicUsize,
    waiting: AtomicUsize,
    /// Connections on their way to a new thread.
    handed_over: Mutex<Vec<Seated<'a>>>,
    closing: AtomicBool,
    /// Whether `accept` has a time-out.
    timed: AtomicBool,
    last_warning: Mutex<Option<Instant>>,
}

/// Serves connections until a signal comes, then drains.
pub fn run(
    listener: &TcpListener, ctx: Context<'_>, mut events: Events, notifier: &Notifier, handler: Handler,
) -> io::Result<Drained> {
    // On Linux a connection takes these over from its listener, which spares each connection two system calls.
    let socket = TcpStream::from(OwnedFd::from(listener.try_clone()?));
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(ctx.config.write_timeout))?;
    let server = Server {
        ctx,
        listener,
        socket: &socket,
        local: listener.local_addr().ok().filter(|address| !address.ip().is_unspecified()),
        handler,
        notifier,
        threads: AtomicUsize::new(0),
        waiting: AtomicUsize::new(0),
        handed_over: Mutex::new(Vec::new()),
        closing: AtomicBool::new(false),
        timed: AtomicBool::new(false),
        last_warning: Mutex::new(None),
    };
    thread::scope(|scope| {
        server.waiting.fetch_add(1, SeqCst);
        server.spawn(scope)?;
        while events.wait(None) != Event::Signal {}
        Ok(server.drain(scope, &mut events))
    })
}

impl<'a> Server<'a> {
    /// Starts a thread that serves what is handed over to it, if anything is, and then accepts.
    fn spawn<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> io::Result<()> {
        self.threads.fetch_add(1, SeqCst);
        let alive = Alive(self);
        let work = move || {
            let _alive = alive;
            self.work(scope);
        };
        // `Scope::spawn` would panic where the system refuses a thread. A refused closure is dropped with all it holds,
        // which is why the connection is not in it.
        let thread = thread::Builder::new().stack_size(limits::STACK).spawn_scoped(scope, work);
        thread.map(drop).inspect_err(|_| self.ctx.metrics.thread_spawn_errors.inc())
    }

    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let mut seated = self.handed_over().pop();
        let mut kept = Kept::default();
        loop {
            if let Some(seated) = seated.take() {
                self.serve(&seated, &mut kept);
                drop(seated);
                if !self.may_wait() {
                    return;
                }
            }
            let Some(accepted) = self.next() else { return };
            seated = self.admit(accepted).and_then(|seated| self.hand_over(scope, seated));
        }
    }

    /// Gives a connection to a new thread if this one has to go on accepting; else gives it back, to be served here.
    fn hand_over<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, seated: Seated<'a>) -> Option<Seated<'a>> {
        if self.stop_waiting() {
            return Some(seated);
        }
        self.handed_over().push(seated);
        let error = self.spawn(scope).err()?;
        self.ctx.lobby.lower_seats();
        self.warn(format_args!("no new thread, fewer seats for a while: {error}"));
        let mut seated = self.handed_over().pop()?;
        seated.seat.shed();
        self.waiting.fetch_sub(1, SeqCst);
        Some(seated)
    }

    fn handed_over(&self) -> MutexGuard<'_, Vec<Seated<'a>>> {
        self.handed_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a thread that has finished waits for another connection; if so, it counts as waiting.
    fn may_wait(&self) -> bool {
        let most = self.ctx.lobby.spare_threads();
        let one_more = |waiting| (waiting < most).then_some(waiting + 1);
        self.waiting.fetch_update(SeqCst, SeqCst, one_more).is_ok()
    }

    /// Counts this thread as waiting no more, unless it is the last and the port is open; of two that ask at once, one
    /// stays.
    fn stop_waiting(&self) -> bool {
        let one_less = |waiting| (waiting > 1 || self.closing.load(SeqCst)).then(|| waiting - 1);
        self.waiting.fetch_update(SeqCst, SeqCst, one_less).is_ok()
    }

    /// The next connection; `None` once this thread was one too many, or the port is closed.
    fn next(&self) -> Option<Accepted> {
        let mut pause = limits::ACCEPT_PAUSE;
        loop {
            self.set_accept_timeout(self.waiting.load(SeqCst) > 1);
            match self.listener.accept() {
                Ok(accepted) => return Some(accepted),
                Err(_) if self.closing.load(SeqCst) => return None,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.stop_waiting() {
                        return None;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    self.ctx.metrics.accept_errors.inc();
                    self.warn(format_args!("accept failed: {error}"));
                    self.ctx.lobby.pause(pause);
                    pause = (pause * 2).min(limits::ACCEPT_PAUSE_MAX);
                }
            }
        }
    }

    /// Lets `accept` time out where more than one thread waits, so that those which are too many end; the last one
    /// waits for as long as it takes. Linux looks at the time-out when `accept` begins.
    fn set_accept_timeout(&self, timed: bool) {
        if self.timed.swap(timed, SeqCst) != timed {
            // A failure would only keep threads.
            let _ = self.socket.set_read_timeout(timed.then_some(limits::SPARE_TIME));
        }
    }

    /// Admits a connection; as long as it waits for a place, it counts as waiting, so that their number has a bound.
    fn admit(&self, (stream, peer): Accepted) -> Option<Seated<'a>> {
        let local = self.local.map_or_else(|| stream.local_addr(), Ok).ok()?;
        let seat = self.ctx.lobby.admit(stream);
        if seat.is_none() {
            self.ctx.metrics.connected(Outcome::Refused);
        }
        Some(Seated { seat: seat?, addresses: (peer, local) })
    }

    fn serve(&self, Seated { seat, addresses }: &Seated<'_>, kept: &mut Kept) {
        self.ctx.metrics.connected(if seat.is_shed() { Outcome::Shed } else { Outcome::Served });
        let guard = seat.stream();
        let Some(stream) = &*guard else { return };
        let serve = || connection::serve(self.ctx, seat, stream, *addresses, self.handler, kept);
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(serve)) {
            *kept = Kept::default();
            self.ctx.metrics.panics.inc();
            let (peer, text) = (addresses.0, message(&*payload));
            self.ctx.say(Level::Error, format_args!("a panic cost the connection of {peer}: {text}"));
        }
    }

    /// From the signal to the last thread.
    fn drain<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, events: &mut Events) -> Drained {
        let (ctx, config) = (self.ctx, self.ctx.config);
        let completed = || {
            // Each is counted as an answer first.
            let unwritten = ctx.metrics.unwritten_answers.get();
            ctx.metrics.answers() - unwritten
        };
        let completed_before = completed();
        ctx.lobby.begin_drain();
        let [linger, timeout] = [config.drain_linger, config.drain_timeout].map(text::show_duration);
        ctx.say(Level::Info, format_args!("draining: {linger} of lingering, then {timeout} to finish"));
        let linger_ended = events.wait(Some(Instant::now() + config.drain_linger)) == Event::Nothing;
        self.close_port(scope);
        ctx.lobby.close_idle(limits::GRACE);
        let end_idling = || ctx.lobby.end_idling();
        let end_waiting = || {
            ctx.lobby.end_pauses();
            ctx.log.end_waiting();
        };
        let steps: [(Duration, &dyn Fn()); 3] = [
            (limits::GRACE.min(config.drain_timeout), &end_idling),
            (config.drain_timeout, &end_waiting),
            (config.drain_timeout + limits::LAST_ANSWERS, &|| {}),
        ];
        let closed = Instant::now();
        let mut event = if linger_ended { Event::Nothing } else { Event::Signal };
        for (after, step) in steps {
            if event == Event::Nothing {
                event = self.wait_for_threads(events, closed + after);
                step();
            }
        }
        let cut = if event == Event::Empty { 0 } else { ctx.lobby.cut() };
        end_waiting();
        // The scope joins the threads, which now have nothing left to wait for.
        self.wait_for_threads(events, Instant::now() + limits::LAST_ANSWERS);
        Drained { completed: completed().saturating_sub(completed_before), cut }
    }

    /// Waits until every thread has ended, a signal comes, or the time is over.
    fn wait_for_threads(&self, events: &mut Events, deadline: Instant) -> Event {
        loop {
            if self.threads.load(SeqCst) == 0 {
                return Event::Empty;
            }
            match events.wait(Some(deadline)) {
                Event::Empty => {}
                event => return event,
            }
        }
    }

    /// Serves what waits in the kernel's queue, then refuses newcomers and wakes those who wait in `accept`.
    fn close_port<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        self.closing.store(true, SeqCst);
        // Where this fails, the loop below would block: then what waits in the queue is given up.
        if self.listener.set_nonblocking(true).is_ok() {
            while let Ok(accepted) = self.listener.accept() {
                let Some(seated) = self.admit(accepted) else { continue };
                self.handed_over().push(seated);
                if self.spawn(scope).is_err() {
                    self.handed_over().pop();
                }
            }
        }
        // An error means that the socket is not listening any more.
        let _ = self.socket.shutdown(Shutdown::Read);
    }

    /// Writes a warning, unless there was one just before.
    fn warn(&self, message: fmt::Arguments<'_>) {
        let mut last = self.last_warning.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_none_or(|last| now.duration_since(last) >= limits::WARNING_EVERY) {
            *last = Some(now);
            self.ctx.say(Level::Warn, message);
        }
    }
}

/// A thread of the server; the last to go at the end tells so.
struct Alive<'s, 'a>(&'s Server<'a>);

impl Drop for Alive<'_, '_> {
    fn drop(&mut self) {
        if self.0.threads.fetch_sub(1, SeqCst) == 1 {
            self.0.notifier.tell_empty();
        }
    }
}

/// What a panic said.
fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("(no message)")
}
