//! One connection, from its first byte to its last: the hot path.
//!
//! `serve` reads a head, `answer` reads the body and has the handler write the response, and responses are held back as
//! long as the next request is already here, so that pipelined answers go out in one write. A kept-alive request costs
//! one read, one write and no allocation. Log lines and counts follow the write, with the bytes really sent.
//!
//! Every time limit is a deadline for the whole thing. The socket's time-outs are set once, and again only after a
//! partial read or write, to the time that is left. An idle connection gives its buffers back.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::access_log::{self, Entry};
use crate::body::{Chunked, Share};
use crate::forwarded;
use crate::context::{self, Context};
use crate::echo;
use crate::handlers::{self, Call, Dispatch, Handler, Plan};
use crate::limits;
use crate::lobby::Seat;
use crate::metrics::Answer;
use crate::request::{self, Framing, HeadScan, Method, Reject, Request, Room};
use crate::response::{Head, Out, Preamble};
use crate::route::Route;
use crate::text::{self, Dates};

/// What a connection needs of its socket; a test brings bytes in memory instead.
pub trait Wire {
    /// Reads some bytes; 0 at the end. `WouldBlock` once the time-out is over.
    fn read(&self, bytes: &mut [u8]) -> io::Result<usize>;
    /// Writes some bytes. `WouldBlock` once the time-out is over.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Sets how long a read may take; more than zero.
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()>;
    /// Sets how long a write may take; more than zero.
    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()>;
    /// Tells the peer that nothing more will be written.
    fn end_writing(&self);
}

impl Wire for TcpStream {
    fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut &*self, bytes)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, bytes)
    }

    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        TcpStream::set_read_timeout(self, Some(timeout))
    }

    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        TcpStream::set_write_timeout(self, Some(timeout))
    }

    fn end_writing(&self) {
        // An error means that the connection has ended already.
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Nothing that could be destroyed: the client has gone, or knows that this was the last answer.
    Plain,
    /// The client may still be sending, and a close with unread input would destroy the answer.
    Linger,
}

/// What a thread keeps from one connection to the next, so that a short one costs few allocations.
#[derive(Default)]
pub struct Kept {
    input: Input,
    held: Vec<u8>,
    buffers: Buffers,
}

/// The buffers of a connection but for its input and its output.
#[derive(Default)]
struct Buffers {
    /// Room for the fields of a request.
    room: Room<'static>,
    /// Room for a body that is not in the input.
    body: Vec<u8>,
    /// Input that came with the end of a chunked body.
    spill: Input,
    notes: Notes,
    dates: RefCell<Dates>,
}

/// Serves one connection to its end; `addresses` are the peer's and our own.
///
/// The wire's write time-out has to be the one of the settings already. A panic leaves `kept` unfit for further use.
pub fn serve(
    ctx: Context<'_>, seat: &Seat<'_>, wire: &dyn Wire, addresses: (SocketAddr, SocketAddr), handler: Handler,
    kept: &mut Kept,
) {
    let Kept { input, held, buffers } = kept;
    let limit = if seat.is_shed() { limits::SHED_TIME } else { ctx.config.write_timeout };
    let mut writer = Writer::new(wire, ctx.config.write_timeout, limit);
    let mut out = Out::new(mem::take(held), &mut writer);
    let mut connection = Connection::new(ctx, seat, wire, addresses, handler, buffers);
    let end = loop {
        if !connection.begin(input, &mut out) {
            break End::Plain;
        }
        let (unread, mut room) = (input.unread(), request::reuse(mem::take(&mut connection.buffers.room)));
        let request = Request::parse_flawless(unread, &mut room);
        let answered = request.map(|request| connection.answer(&request, &unread[request.head.len()..], &mut out));
        connection.buffers.room = request::reuse(room);
        match answered.unwrap_or_else(|| connection.answer_slowly(input, &mut out)) {
            Ok(taken) => input.take(taken),
            Err(end) => break end,
        }
        if !connection.buffers.spill.unread().is_empty() {
            // It came behind all that the input held.
            mem::swap(input, &mut connection.buffers.spill);
        }
        if out.failed().is_some() {
            break End::Plain;
        }
        if connection.buffers.notes.pending.len() >= limits::HELD_ANSWERS {
            connection.flush(&mut out);
        }
    };
    connection.flush(&mut out);
    match out.failed() {
        Some(ErrorKind::TimedOut) => ctx.metrics.rejected(Reject::WriteTimeout),
        None if end == End::Linger => connection.linger(input),
        _ => {}
    }
    input.clear();
    connection.buffers.spill.clear();
    *held = out.into_buffer();
}

struct Connection<'a> {
    ctx: Context<'a>,
    seat: &'a Seat<'a>,
    wire: &'a dyn Wire,
    handler: Handler,
    peer: String,
    peer_ip: IpAddr,
    peer_ip_text: String,
    local: String,
    random: Rng,
    /// The read time-out that the socket has.
    read_timeout: Duration,
    /// The end of a shed connection's time.
    deadline: Option<Instant>,
    /// The moment of the present request's first byte.
    started: Instant,
    /// The last moment that was looked at.
    now: Instant,
    buffers: &'a mut Buffers,
}

impl<'a> Connection<'a> {
    fn new(
        ctx: Context<'a>, seat: &'a Seat<'a>, wire: &'a dyn Wire, (peer, local): (SocketAddr, SocketAddr),
        handler: Handler, buffers: &'a mut Buffers,
    ) -> Connection<'a> {
        let now = Instant::now();
        let peer_ip = peer.ip().to_canonical();
        Connection {
            ctx,
            seat,
            wire,
            handler,
            peer: SocketAddr::new(peer_ip, peer.port()).to_string(),
            peer_ip,
            peer_ip_text: peer_ip.to_string(),
            local: SocketAddr::new(local.ip().to_canonical(), local.port()).to_string(),
            random: Rng::new(),
            read_timeout: Duration::ZERO,
            deadline: seat.is_shed().then(|| now + limits::SHED_TIME),
            started: now,
            now,
            buffers,
        }
    }

    /// Waits for a whole head; what is held goes out before anything that can block. `None` if no request came.
    fn next_head(&mut self, input: &mut Input, out: &mut Out<'_>) -> Result<Option<Range<usize>>, Reject> {
        let mut scan = HeadScan::default();
        loop {
            if let Some(range) = scan.find(input.unread())? {
                return Ok(Some(range));
            }
            self.flush(out);
            if out.failed().is_some() {
                return Ok(None);
            }
            let left = self.left(self.started, self.ctx.config.header_timeout);
            match self.read(left, input.room(limits::READ)) {
                Ok(n) if n > 0 => input.came(n),
                // An empty line is no part of a request yet.
                _ if input.unread() == b"\r\n" => return Ok(None),
                Err(error) if error.kind() == ErrorKind::TimedOut => return Err(Reject::HeaderTimeout),
                _ => return Err(Reject::Incomplete),
            }
        }
    }

    /// Waits for the first bytes of a request, if none are here; whether a request begins.
    fn begin(&mut self, input: &mut Input, out: &mut Out<'_>) -> bool {
        if input.unread().is_empty() && !self.first_bytes(input, out) {
            return false;
        }
        self.started = Instant::now();
        // A shed connection can be cut until its whole head is here.
        if !self.seat.is_shed() {
            self.seat.busy();
        }
        true
    }

    /// Answers a request whose head is not here yet, or not without a flaw; how much of the input it took.
    #[cold]
    #[inline(never)]
    fn answer_slowly(&mut self, input: &mut Input, out: &mut Out<'_>) -> Result<usize, End> {
        let range = match self.next_head(input, out) {
            Ok(Some(range)) => range,
            Ok(None) => return Err(End::Plain),
            Err(reject) => return Err(self.refuse(reject, input.unread(), out)),
        };
        let (head, rest) = input.unread().split_at(range.end);
        let head = &head[range.start..];
        match Request::parse(head, &mut Room::new()) {
            Ok(request) => Ok(range.start + self.answer(&request, rest, out)?),
            Err(reject) => Err(self.refuse(reject, head, out)),
        }
    }

    /// Waits for the first bytes of a request; whether some came.
    fn first_bytes(&mut self, input: &mut Input, out: &mut Out<'_>) -> bool {
        self.flush(out);
        if out.failed().is_some() {
            return false;
        }
        self.seat.idle(self.now);
        let limit = self.deadline.map_or(self.ctx.config.idle_timeout, |_| limits::SHED_TIME);
        let since = self.now;
        let first_look = limit.min(limits::KEEP_BUFFERS);
        let mut read = self.read(first_look, input.room(limits::READ));
        if matches!(&read, Err(error) if error.kind() == ErrorKind::TimedOut) && limit > first_look {
            self.release(input, out);
            let left = self.left(since, limit);
            read = self.read(left, input.room(limits::SMALL_READ));
        }
        let count = read.unwrap_or(0);
        input.came(count);
        count > 0
    }

    /// Gives back what an idle connection does not need.
    fn release(&mut self, input: &mut Input, out: &mut Out<'_>) {
        (*input, *self.buffers) = Default::default();
        out.release();
    }

    /// The time that is left of a limit since a moment; a shed connection has its own deadline besides.
    fn left(&mut self, since: Instant, limit: Duration) -> Duration {
        self.now = Instant::now();
        let left = limit.saturating_sub(self.now.saturating_duration_since(since));
        self.deadline.map_or(left, |deadline| left.min(deadline.saturating_duration_since(self.now)))
    }

    /// Reads some bytes; `TimedOut` once the time is over, which is counted from the moment last looked at.
    fn read(&mut self, within: Duration, room: &mut [u8]) -> io::Result<usize> {
        let mut left = within;
        loop {
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            if self.read_timeout != left {
                self.wire.set_read_timeout(left)?;
                self.read_timeout = left;
            }
            match self.wire.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    left = within.saturating_sub(self.now.elapsed());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                result => return result,
            }
        }
    }

    /// Reads the body of a request and answers it; the length of both, if another request may come.
    fn answer(&mut self, request: &Request<'_>, rest: &[u8], out: &mut Out<'_>) -> Result<usize, End> {
        self.seat.busy();
        let head = request.head;
        let mut dispatch = Dispatch::of(self.ctx, request, self.seat.is_shed(), &mut self.random);
        // A client that waits for a 100 gets its refusal instead; one that is shed is not listened to any further.
        let waits = request.expects_continue && rest.is_empty() && request.framing != Framing::None;
        let ends = dispatch.route == Route::None || request.method == Method::Connect;
        let shed = self.seat.is_shed() && request.framing != Framing::None;
        let leave_unread = shed || (matches!(dispatch.plan, Plan::Refuse(_)) && (waits || ends));
        let mut share = self.ctx.bodies.share();
        let read = if leave_unread { Ok(Content::default()) } else { self.content(request, rest, &mut share, out) };
        let content = match read {
            Ok(content) => content,
            Err(_) if out.failed().is_some() => return Err(End::Plain),
            Err(Reject::Incomplete) => return Err(self.refuse(Reject::Incomplete, head, out)),
            Err(reject) => {
                (dispatch.route, dispatch.plan) = (Route::None, Plan::Refuse(reject));
                Content::default()
            }
        };
        self.ctx.metrics.request_bytes.inc_by((head.len() + content.bytes.len()) as u64);
        if dispatch.plan.delays() {
            self.flush(out);
        }
        if out.failed().is_some() {
            return Err(End::Plain);
        }
        let behind = content.taken.map_or(&b""[..], |taken| &rest[taken..]);
        let closes = self.respond(request, dispatch, &content, behind, out);
        // A client that asked for this end sends no more.
        let asked_for =
            !request.keep_alive && !request.http10 && behind.is_empty() && self.buffers.spill.unread().is_empty();
        let taken = content.taken;
        self.keep_room(content.bytes);
        match taken {
            Some(taken) if !closes => Ok(head.len() + taken),
            Some(_) if asked_for => Err(End::Plain),
            _ => Err(End::Linger),
        }
    }

    /// Has the handler respond, and takes note of it; whether the connection ends.
    fn respond(
        &mut self, request: &Request<'_>, dispatch: Dispatch<'_>, content: &Content<'_>, behind: &[u8],
        out: &mut Out<'_>,
    ) -> bool {
        let client = self.other_client(request);
        let made_id = made_id(&mut self.random);
        let call = Call {
            ctx: self.ctx,
            seat: self.seat,
            request,
            dispatch,
            body: &content.bytes,
            behind,
            client: client.as_deref().unwrap_or(&self.peer_ip_text),
            peer: &self.peer,
            local: &self.local,
            request_id: if is_plain_token(request.request_id) { request.request_id } else { &made_id },
            dates: &self.buffers.dates,
            close: !request.keep_alive || content.taken.is_none(),
        };
        let start = out.position();
        let sent = (self.handler)(&call, &mut self.random, out);
        let entry = Entry {
            client: call.client,
            peer: call.peer,
            method: request.method_text,
            target: request.target.as_bytes(),
            protocol: echo::protocol(request.http10),
            delay: sent.delay,
            user_agent: request.user_agent,
            referrer: request.referrer,
            request_id: call.request_id,
            trace_id: trace_id(request.traceparent),
        };
        let answer = Answer { route: dispatch.route, method: request.method, status: sent.status };
        let output = start..out.position();
        self.buffers.notes.add(self.ctx, answer, self.started, output, &entry, &self.buffers.dates.borrow());
        sent.close
    }

    /// The client that trusted proxies name, if it is not the peer.
    fn other_client(&self, request: &Request<'_>) -> Option<String> {
        let trusted = &self.ctx.config.trusted_proxies;
        if trusted.is_empty() {
            return None;
        }
        Some(forwarded::of(self.peer_ip, trusted, request.values("x-forwarded-for")).to_string())
    }

    /// Refuses what could not be parsed: its first line stands in the log as it came.
    fn refuse(&mut self, reject: Reject, came: &[u8], out: &mut Out<'_>) -> End {
        self.ctx.metrics.rejected(reject);
        if reject == Reject::Incomplete {
            // The client has left: nobody is there to be told.
            return End::Plain;
        }
        self.ctx.metrics.request_bytes.inc_by(came.len() as u64);
        let came = came.trim_ascii_start();
        let request_id = made_id(&mut self.random);
        self.buffers.dates.borrow_mut().set(context::unix_now());
        let dates = self.buffers.dates.borrow();
        let start = out.position();
        let preamble = Preamble {
            common: &self.ctx.identity.common_fields,
            date: dates.http(),
            request_id: &request_id,
            http10: false,
            head_only: came.starts_with(b"HEAD "),
            close: true,
        };
        handlers::refusal(Head::new(out, reject.status(), &preamble), reject, "");
        let line_end = came.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(came.len());
        let entry = Entry {
            client: &self.peer_ip_text,
            peer: &self.peer,
            target: text::cut(&came[..line_end], limits::LOGGED_VALUE),
            request_id: &request_id,
            ..Entry::default()
        };
        let answer = Answer { route: Route::None, method: Method::Other, status: reject.status() };
        self.buffers.notes.add(self.ctx, answer, self.started, start..out.position(), &entry, &dates);
        End::Linger
    }

    /// Writes what is held, then the log lines of it; afterwards the connection may be idle.
    fn flush(&mut self, out: &mut Out<'_>) {
        if out.holds() || !self.buffers.notes.pending.is_empty() {
            out.flush();
            self.now = Instant::now();
            self.buffers.notes.written(self.ctx, self.seat.is_shed(), out, self.now);
        }
    }

    /// Reads the body, all of it.
    fn content<'r>(
        &mut self, request: &Request<'_>, rest: &'r [u8], share: &mut Share<'_>, out: &mut Out<'_>,
    ) -> Result<Content<'r>, Reject> {
        let max = self.ctx.config.max_body;
        match request.framing {
            Framing::None => Ok(Content { bytes: Cow::Borrowed(b""), taken: Some(0) }),
            Framing::Length(length) if length > max => Err(Reject::BodyTooLarge),
            Framing::Length(length) if length <= rest.len() as u64 => {
                let bytes = &rest[..length as usize];
                Ok(Content { bytes: bytes.into(), taken: Some(bytes.len()) })
            }
            Framing::Length(length) => {
                share.grow(length)?;
                self.continue_if_awaited(request, rest, out)?;
                self.read_length(rest, length as usize)
            }
            Framing::Chunked => self.read_chunked(request, rest, share, out),
        }
    }

    /// Tells a client that waits for it to send its body. The body is about to be read, so what is held goes out too.
    fn continue_if_awaited(&mut self, request: &Request<'_>, rest: &[u8], out: &mut Out<'_>) -> Result<(), Reject> {
        if request.expects_continue && rest.is_empty() {
            out.put(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.flush(out);
        out.failed().map_or(Ok(()), |_| Err(Reject::Incomplete))
    }

    fn read_length<'r>(&mut self, rest: &[u8], length: usize) -> Result<Content<'r>, Reject> {
        let since = Instant::now();
        let mut body = mem::take(&mut self.buffers.body);
        body.extend_from_slice(rest);
        body.resize(length, 0);
        let mut at = rest.len();
        while at < length {
            at += self.body_bytes(since, &mut body[at..])?;
        }
        Ok(Content { bytes: body.into(), taken: Some(rest.len()) })
    }

    fn read_chunked<'r>(
        &mut self, request: &Request<'_>, rest: &[u8], share: &mut Share<'_>, out: &mut Out<'_>,
    ) -> Result<Content<'r>, Reject> {
        let since = Instant::now();
        let (mut chunked, mut body) = (Chunked::new(self.ctx.config.max_body), mem::take(&mut self.buffers.body));
        let mut keep = |data: &[u8]| {
            share.grow(data.len() as u64)?;
            body.extend_from_slice(data);
            Ok(())
        };
        let taken = chunked.decode(rest, &mut keep)?;
        if !chunked.done() {
            self.continue_if_awaited(request, rest, out)?;
        }
        let mut spill = mem::take(&mut self.buffers.spill);
        while !chunked.done() {
            spill.clear();
            let n = self.body_bytes(since, spill.room(limits::READ))?;
            spill.came(n);
            let taken = chunked.decode(spill.unread(), &mut keep)?;
            spill.take(taken);
        }
        self.buffers.spill = spill;
        Ok(Content { bytes: body.into(), taken: Some(taken) })
    }

    /// Reads some bytes of a body within its time limit.
    fn body_bytes(&mut self, since: Instant, room: &mut [u8]) -> Result<usize, Reject> {
        let left = self.left(since, self.ctx.config.body_timeout);
        match self.read(left, room) {
            Ok(n) if n > 0 => Ok(n),
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(Reject::BodyTimeout),
            _ => Err(Reject::Incomplete),
        }
    }

    /// Keeps the room of a body for the next one, unless it is large.
    fn keep_room(&mut self, body: Cow<'_, [u8]>) {
        if let Cow::Owned(mut body) = body
            && body.capacity() <= limits::HELD
        {
            body.clear();
            self.buffers.body = body;
        }
    }

    /// Ends the writing side, and reads what the client still sends, so that no reset destroys the answer.
    fn linger(&mut self, input: &mut Input) {
        self.wire.end_writing();
        let since = Instant::now();
        if !self.seat.linger() {
            return;
        }
        let mut left = limits::LINGER_BYTES;
        while left > 0 {
            input.clear();
            let within = self.left(since, limits::LINGER);
            match self.read(within, input.room(limits::READ)) {
                Ok(n) if n > 0 => left = left.saturating_sub(n),
                _ => return,
            }
        }
    }
}

/// The content of a request; by default, one that was left unread.
#[derive(Default)]
struct Content<'r> {
    /// It: in the input where all of it came with the head, else in a buffer of its own.
    bytes: Cow<'r, [u8]>,
    /// How much of the input it took; unknown if it was left unread, and then no request can follow.
    taken: Option<usize>,
}

/// Bytes that came and were not taken yet.
#[derive(Default)]
struct Input {
    /// All of it is initialised, so that a read needs no clearing.
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Input {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    /// Room to read into; what is unread moves to the front, or the buffer grows.
    fn room(&mut self, least: usize) -> &mut [u8] {
        if self.bytes.len() - self.to < least.min(limits::READ / 2) {
            self.bytes.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            if self.bytes.len() - self.to < least {
                self.bytes.resize(self.to + least, 0);
            }
        }
        &mut self.bytes[self.to..]
    }

    /// Takes note of bytes that were read into the room; if they fill it, there is more the next time.
    fn came(&mut self, count: usize) {
        self.to += count;
        if self.to == self.bytes.len() && (limits::READ..limits::READ_MUCH).contains(&self.to) {
            self.bytes.resize(limits::READ_MUCH, 0);
        }
    }

    /// Takes unread bytes away.
    fn take(&mut self, count: usize) {
        self.from += count;
        if self.from == self.to {
            self.clear();
        }
    }

    fn clear(&mut self) {
        (self.from, self.to) = (0, 0);
    }
}

/// Answers that are being written, with their log lines but for the sent bytes and the duration.
#[derive(Default)]
struct Notes {
    pending: Vec<Pending>,
    lines: Vec<u8>,
    line: Vec<u8>,
}

/// An answer that is being written.
struct Pending {
    answer: Answer,
    started: Instant,
    /// Where it stands in the output.
    output: Range<u64>,
    /// Where its line stands, empty if it is not logged, and where in that its sent bytes belong.
    line: Range<usize>,
    sent_bytes_at: usize,
}

impl Notes {
    /// Takes note of an answer to a request that began at `started`.
    fn add(
        &mut self, ctx: Context<'_>, answer: Answer, started: Instant, output: Range<u64>, entry: &Entry<'_>,
        dates: &Dates,
    ) {
        let line_start = self.lines.len();
        let logged = ctx.live.logs(answer.level());
        let sent_bytes_at =
            if logged { entry.begin_line(answer, dates, ctx.config.log_json, &mut self.lines) } else { line_start };
        self.pending.push(Pending { answer, started, output, line: line_start..self.lines.len(), sent_bytes_at });
    }

    /// Counts and logs what was written, with the bytes that the wire really took.
    fn written(&mut self, ctx: Context<'_>, shed: bool, out: &Out<'_>, now: Instant) {
        for Pending { answer, started, output, line, sent_bytes_at } in self.pending.drain(..) {
            let sent_bytes = out.written().clamp(output.start, output.end) - output.start;
            let duration = now.saturating_duration_since(started);
            ctx.metrics.answered(answer, duration, sent_bytes);
            if out.written() < output.end {
                ctx.metrics.unwritten_answers.inc();
            }
            if !line.is_empty() {
                self.line.clear();
                self.line.extend_from_slice(&self.lines[line.start..sent_bytes_at]);
                self.line.extend_from_slice(&text::decimal(sent_bytes));
                self.line.extend_from_slice(&self.lines[sent_bytes_at..line.end]);
                access_log::end_line(ctx.config.log_json, duration, &mut self.line);
                // Probes, scrapes and shed answers never wait for whoever reads the log.
                let may_wait = !answer.route.is_probe() && !shed;
                ctx.log.append(&self.line, may_wait);
            }
        }
        self.lines.clear();
    }
}

/// The writing side with its time limit: so long for each MiB that the client takes.
struct Writer<'a> {
    wire: &'a dyn Wire,
    limit: Duration,
    /// The write time-out that the socket has.
    timeout: Duration,
    /// The end of the time for the present MiB, and what is left of that.
    deadline: Option<Instant>,
    unit_left: u64,
    /// Whether the last write was not taken whole.
    partial: bool,
}

impl<'a> Writer<'a> {
    fn new(wire: &'a dyn Wire, timeout: Duration, limit: Duration) -> Writer<'a> {
        Writer { wire, limit, timeout, deadline: None, unit_left: limits::WRITE_UNIT, partial: false }
    }

    /// The time left for a write. A client that takes its bytes fast costs no change of the socket's time-out.
    fn time_left(&mut self) -> Duration {
        let now = Instant::now();
        let left = self.deadline.get_or_insert(now + self.limit).saturating_duration_since(now);
        if self.partial || left < self.limit / 2 { left } else { self.limit }
    }

    /// Counts what the client took; a whole MiB gives the next one its own time.
    fn count(&mut self, taken: usize) {
        match self.unit_left.checked_sub(taken as u64) {
            Some(left) => self.unit_left = left,
            None => self.start_over(),
        }
    }

    fn start_over(&mut self) {
        (self.deadline, self.unit_left) = (None, limits::WRITE_UNIT);
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let left = self.time_left();
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            if self.timeout != left {
                self.wire.set_write_timeout(left)?;
                self.timeout = left;
            }
            match self.wire.write(bytes) {
                Ok(taken) => {
                    self.count(taken);
                    self.partial = taken < bytes.len();
                    return Ok(taken);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Err(_) => self.partial = true,
            }
        }
    }

    /// Everything is written: what comes next has its own time.
    fn flush(&mut self) -> io::Result<()> {
        self.start_over();
        Ok(())
    }
}

/// A request id of our own: 64 random bits.
fn made_id(random: &mut Rng) -> [u8; 16] {
    text::hex64(random.u64(..))
}

/// Whether a client's request id may stand in our answers and logs.
fn is_plain_token(id: &[u8]) -> bool {
    (1..=limits::REQUEST_ID).contains(&id.len()) && id.iter().copied().all(request::is_token_byte)
}

/// The trace id of a valid `traceparent` (W3C Trace Context sections 3.2 and 4): version, trace id, parent id, flags,
/// and in versions to come more behind another dash.
fn trace_id(traceparent: &[u8]) -> &[u8] {
    let Some((known, more)) = traceparent.split_first_chunk::<55>() else { return b"" };
    let [version, trace, parent, flags] = [0..2, 3..35, 36..52, 53..55].map(|place| &known[place]);
    let dashes = [2, 35, 52].iter().all(|place| known[*place] == b'-');
    // No way out in the middle, so that it compiles to vectors.
    let hex = |part: &[u8]| part.iter().fold(true, |all, b| all & matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let not_zero = |part: &[u8]| part.iter().any(|b| *b != b'0');
    let version_fits = match version {
        b"00" => more.is_empty(),
        b"ff" => false,
        _ => matches!(more, [] | [b'-', ..]),
    };
    let valid = dashes && version_fits && [version, trace, parent, flags].into_iter().all(hex);
    if valid && not_zero(trace) && not_zero(parent) { trace } else { b"" }
}
