//! One connection, from its first byte to its last.
//!
//! [`serve`] reads a request and answers it, again and again. Responses are pending as long as the
//! next request is already here, so pipelined responses go out in one write. One rule ensures this:
//! each read and each sleep first writes what is pending. A kept-alive request costs one read, one
//! write and no allocation.
//!
//! Log lines follow the write of their responses, so a line can say whether its response was taken
//! whole. An idle connection gives its buffers back after a second.

use std::io::{self, ErrorKind};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::app::{App, Body, Stage};
use crate::http::date::Dates;
use crate::http::error::RequestError;
use crate::http::other_protocols::Found;
use crate::http::output::OutputBuffer;
use crate::http::request::Request;
use crate::limits;
use crate::observe::access_log;
use crate::observe::metrics::Aborted;
use crate::server::Server;
use crate::server::body::Received;
use crate::server::input::Input;
use crate::server::listener::Addresses;
use crate::server::slots::{Permit, Phase};
use crate::server::socket::{Reader, Transport, Writer};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It closes at once: no unread input can reset it and destroy a response.
    Close,
    /// The client may still be sending, so its input is read for a while.
    Linger,
    /// The client gets no more, and the connection waits for it to close.
    Stall,
}

/// What a thread keeps from one connection to the next, so that a short one costs few allocations.
#[derive(Default)]
pub struct Buffers {
    pub(super) input: Input,
    pub(super) request: Request,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<u8>,
    pub(super) dates: Dates,
    pub(super) pending: PendingResponses,
    output: Vec<u8>,
}

impl Buffers {
    /// The bytes of a body that was read.
    pub(super) fn body_bytes(&self, received: Received) -> &[u8] {
        match received.in_input {
            0 => &self.body,
            count => &self.input.unread()[..count],
        }
    }

    /// A body that was read, as a handler sees it.
    pub(super) fn body(&self, received: Received) -> Body<'_> {
        Body {
            bytes: self.body_bytes(received),
            length: received.length,
            duration: received.duration,
            trailers: &self.trailers,
        }
    }
}

/// A response that waits for the next write.
pub(super) struct PendingResponse {
    /// Where it ends in the output.
    pub(super) output_end: u64,
    /// Where its line stands among the lines; empty if it is not logged.
    pub(super) line: Range<usize>,
    /// Why it was left unfinished, if it was. Then it is the last one.
    pub(super) broken_off: Option<Aborted>,
}

/// Responses that wait for the next write, with their log lines.
#[derive(Default)]
pub(super) struct PendingResponses {
    pub(super) responses: Vec<PendingResponse>,
    /// The lines, each with the ending of a response that was taken whole.
    pub(super) lines: Vec<u8>,
    /// Whether room for the lines may be waited for: not for those of probes.
    pub(super) may_wait: bool,
}

/// A connection that is being served.
pub(super) struct Connection<'a> {
    pub(super) server: &'a Server,
    pub(super) permit: &'a Permit<'a>,
    pub(super) out: OutputBuffer<'a>,
    pub(super) buffers: &'a mut Buffers,
    pub(super) peer: String,
    pub(super) peer_ip: IpAddr,
    /// The address of the client: the peer's, unless trusted proxies name another one.
    pub(super) client: String,
    pub(super) local: String,
    pub(super) random: Rng,
    /// When the connection was accepted.
    pub(super) opened: Instant,
    /// When the first byte of the present request came.
    pub(super) started: Instant,
    /// Requests so far.
    pub(super) requests: u64,
    /// When the last response ended.
    pub(super) responded: Instant,
    reader: Reader<'a>,
    /// Whether more than a second passed before the last request: then the connection waits without
    /// its buffers.
    pauses: bool,
}

/// Serves one connection to its end. The transport must have the time limit for writes already.
/// After a panic `buffers` must not be used again. Inlined into the thread's function, it would take
/// twice the stack.
#[inline(never)]
pub fn serve(
    server: &Server,
    permit: &Permit<'_>,
    transport: &dyn Transport,
    (peer, local): Addresses,
    buffers: &mut Buffers,
) {
    let now = Instant::now();
    let end = permit.shed_time().map(|time| now + time);
    let (app, taken) = (&server.app, &server.app.metrics.response_bytes);
    let mut writer = Writer::new(transport, app.config.write_timeout, end, taken);
    let peer_ip = peer.ip().to_canonical();
    let mut connection = Connection {
        server,
        permit,
        out: OutputBuffer::new(mem::take(&mut buffers.output), &mut writer),
        buffers,
        peer: SocketAddr::new(peer_ip, peer.port()).to_string(),
        peer_ip,
        client: peer_ip.to_string(),
        local: SocketAddr::new(local.ip().to_canonical(), local.port()).to_string(),
        random: Rng::new(),
        opened: now,
        started: now,
        requests: 0,
        responded: now,
        reader: Reader::new(transport, end),
        pauses: false,
    };
    connection.run();
    // A body that was not read to its end would keep its memory.
    connection.finish_body(Received::default());
    let requests = connection.requests as f64;
    app.metrics.requests_per_connection.observe(requests);
    let Connection { out, buffers, .. } = connection;
    buffers.output = out.into_buffer();
    buffers.input.clear();
}

impl<'a> Connection<'a> {
    pub(super) fn app(&self) -> &'a App {
        &self.server.app
    }

    fn run(&mut self) {
        // A request is used together with the rest of the connection.
        let mut request = mem::take(&mut self.buffers.request);
        let end = loop {
            if let Err(end) = self.next_request(&mut request) {
                break end;
            }
            // At once, because a line in growing pieces costs seven allocations.
            self.buffers.pending.lines.reserve(limits::LINE_BYTES);
            if let Some(end) = self.exchange(&request) {
                break end;
            }
        };
        self.buffers.request = request;
        if self.flush() {
            self.wait_for_close(end);
        }
    }

    /// Waits for a whole request head and parses it; how the connection ends, if none comes.
    fn next_request(&mut self, request: &mut Request) -> Result<(), End> {
        if self.buffers.input.unread().is_empty() && !self.wait_for_first_bytes(request) {
            return Err(End::Close);
        }
        self.started = Instant::now();
        if self.requests == 0
            && let Found::Other(error, shown) = self.recognise()
        {
            return Err(self.refuse_head(error, shown.as_bytes()));
        }
        loop {
            let max_head = self.app().config.max_head;
            let input = &mut self.buffers.input;
            match request.parse(input.unread(), max_head) {
                Ok(Some(length)) => {
                    input.take(length);
                    self.permit.active(self.started);
                    return Ok(());
                }
                Ok(None) => self.read_line()?,
                Err(error) => return Err(self.refuse_head(error, b"")),
            }
        }
    }

    /// Reads until another line of the head has ended, which may be its last one, or has a fault
    /// that can be seen already; how the connection ends, if that does not come.
    fn read_line(&mut self) -> Result<(), End> {
        let deadline = self.started + self.app().config.header_timeout;
        let mut before = self.buffers.input.unread().len();
        let begun = |input: &Input| {
            input
                .unread()
                .iter()
                .any(|byte| !matches!(byte, b'\r' | b'\n'))
        };
        if begun(&self.buffers.input) {
            let first = self.requests == 0;
            let since = if first { self.opened } else { self.started };
            self.permit.enter(Phase::Head, since);
        }
        loop {
            match self.read(limits::READ_BYTES, deadline) {
                Ok(1..) => {}
                // Empty lines alone are no request yet.
                _ if !begun(&self.buffers.input) => return Err(End::Close),
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    return Err(self.refuse_head(RequestError::HeaderTimeout, b""));
                }
                _ => {
                    self.app().metrics.aborted(self.why_aborted());
                    return Err(End::Close);
                }
            }
            let input = self.buffers.input.unread();
            let line = limits::REQUEST_LINE_BYTES + 2;
            let too_long = before <= line && input.len() > line;
            let too_large = input.len() > self.app().config.max_head;
            // A CR may end a line, and another control byte is a fault.
            let after_cr = input[..before].ends_with(b"\r");
            let mut new = input[before..].iter();
            let control = new.any(|byte| *byte < b' ' && *byte != b'\t');
            if control || after_cr || too_long || too_large {
                return Ok(());
            }
            before = input.len();
        }
    }

    /// Waits for the first bytes of a request; false if none came. A long wait gives back the
    /// buffers and what `request` holds.
    fn wait_for_first_bytes(&mut self, request: &mut Request) -> bool {
        if !self.flush() {
            return false;
        }
        if self.requests > 0 {
            self.permit.enter(Phase::Idle, self.responded);
        }
        let start = self.responded;
        let limit = self.app().config.idle_timeout;
        if !self.pauses && !self.permit.is_shed() {
            let room = self.buffers.input.room(limits::READ_BYTES);
            match self.reader.try_read(room, limit.min(limits::KEEP_BUFFERS)) {
                Ok(count) => {
                    self.buffers.input.arrived(count);
                    return count > 0;
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => self.pauses = true,
                Err(_) => return false,
            }
        }
        *request = Request::default();
        self.shrink();
        let arrived = self.read_into_stack(start + limit);
        self.pauses = start.elapsed() >= limits::KEEP_BUFFERS;
        matches!(arrived, Ok(1..))
    }

    /// Reads some bytes until a deadline while the connection has no buffers: into the stack, whose
    /// pages earlier requests have touched. Inlined, its bytes would lie above every request and
    /// cost one more page.
    #[inline(never)]
    fn read_into_stack(&mut self, deadline: Instant) -> io::Result<usize> {
        let mut bytes = [0; limits::SMALL_READ_BYTES];
        let count = self.reader.read(&mut bytes, Instant::now(), deadline)?;
        self.buffers.input.room(count)[..count].copy_from_slice(&bytes[..count]);
        self.buffers.input.arrived(count);
        Ok(count)
    }

    /// Reads some bytes into the input until a deadline; 0 at the end. What is pending is written
    /// before.
    pub(super) fn read(&mut self, least: usize, deadline: Instant) -> io::Result<usize> {
        if !self.flush() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = self.buffers.input.room(least);
        let count = self.reader.read(room, Instant::now(), deadline)?;
        self.buffers.input.arrived(count);
        Ok(count)
    }

    /// Waits this long, or until the shutdown ends the sleep; the time that has passed. What is
    /// pending is written before, and a long sleep gives buffers back.
    pub(super) fn sleep(&mut self, duration: Duration) -> Duration {
        if !self.flush() {
            return Duration::ZERO;
        }
        if duration > limits::KEEP_BUFFERS_IN_DELAY {
            self.shrink();
        }
        self.permit.sleep(duration, Stage::NoDelays)
    }

    /// Writes what is pending, then its log lines; whether the client still takes it.
    pub(super) fn flush(&mut self) -> bool {
        if self.out.is_pending() || !self.buffers.pending.responses.is_empty() {
            self.out.flush();
            self.log_pending();
        }
        self.out.failed().is_none()
    }

    /// Hands the lines of pending responses to the log.
    fn log_pending(&mut self) {
        let (app, written) = (self.app(), self.out.written());
        let is_whole = |response: &PendingResponse| {
            response.output_end <= written && response.broken_off.is_none()
        };
        let whole = self.buffers.pending.responses.partition_point(is_whole);
        if whole < self.buffers.pending.responses.len() {
            self.mark_incomplete(whole);
        }
        let pending = &mut self.buffers.pending;
        let logged = |response: &&PendingResponse| !response.line.is_empty();
        let lines = pending.responses.iter().filter(logged).count() as u64;
        if lines > 0 {
            // A newcomer waits for the slot of an evicted connection.
            let waited_for = || self.permit.is_shed() || self.permit.is_evicted();
            let may_wait = || pending.may_wait && !waited_for();
            app.log.append(&pending.lines, lines, may_wait);
        }
        app.totals.completed(whole);
        pending.responses.clear();
        pending.lines.clear();
        pending.may_wait = false;
    }

    /// Counts the responses after the first `whole` ones, which were not taken whole, and gives
    /// their lines the other ending.
    fn mark_incomplete(&mut self, whole: usize) {
        let (app, why) = (self.app(), self.why_aborted());
        let ending = |complete| access_log::ending(app.config.log_json, complete);
        let PendingResponses {
            responses, lines, ..
        } = &mut self.buffers.pending;
        // From the last one, so that the lines before stay where they are.
        for response in responses[whole..].iter().rev() {
            app.metrics.aborted(response.broken_off.unwrap_or(why));
            if !response.line.is_empty() {
                let end = response.line.end;
                let place = end - ending(true).len()..end;
                drop(lines.splice(place, ending(false).iter().copied()));
            }
        }
    }

    /// Why a request that has begun gets no whole response.
    pub(super) fn why_aborted(&self) -> Aborted {
        if self.server.slots.stage().reached(Stage::Cut) {
            Aborted::Cut
        } else if self.permit.is_evicted() {
            Aborted::Evicted
        } else if self.out.failed() == Some(ErrorKind::TimedOut) {
            Aborted::WriteTimeout
        } else {
            Aborted::ClientClosed
        }
    }

    /// Gives back the memory that the connection does not need while it waits for a long time.
    pub(super) fn shrink(&mut self) {
        let buffers = &mut *self.buffers;
        buffers.input.shrink();
        buffers.body.shrink_to_fit();
        buffers.trailers.shrink_to_fit();
        buffers.pending = PendingResponses::default();
        self.out.release();
    }

    /// Reads and drops what the client still sends until it closes, so that no reset destroys the
    /// response (RFC 9112 section 9.6). A stalled client is told no end, and gets as long as a write
    /// may take.
    fn wait_for_close(&mut self, end: End) {
        let write_timeout = self.app().config.write_timeout;
        let (limit, quiet) = match end {
            End::Close => return,
            End::Linger => (limits::LINGER, limits::LINGER_QUIET),
            End::Stall => (write_timeout, write_timeout),
        };
        // The slot is marked before the client sees the end: the client may connect again at once
        // and need this slot.
        let may_wait = self.permit.linger();
        if end == End::Linger {
            self.reader.end_writing();
        }
        if !may_wait {
            return;
        }
        let (deadline, mut left) = (Instant::now() + limit, limits::LINGER_BYTES);
        loop {
            self.buffers.input.clear();
            match self.read(limits::READ_BYTES, deadline.min(Instant::now() + quiet)) {
                Ok(count @ 1..) if (count as u64) < left => left -= count as u64,
                _ => return,
            }
        }
    }
}
