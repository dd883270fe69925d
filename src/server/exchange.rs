//! One request and its response.
//!
//! The order is always the same: decide by the head, read the body, wait out the delay, write the
//! response, record it. A request that is refused may leave its body unread; then no request
//! can follow it, and the connection ends.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::app::handlers::{self, Action, Decision};
use crate::app::{ConnectionFacts, Exchange, Host, Stage};
use crate::config::level::Level;
use crate::config::settings::RuntimeSettings;
use crate::http::decimal;
use crate::http::error::RequestError;
use crate::http::field;
use crate::http::field_name::FieldName;
use crate::http::forwarded;
use crate::http::request::{Framing, Method, Request, Version};
use crate::http::response::{After, Sent};
use crate::http::route::Route;
use crate::http::status::Status;
use crate::limits;
use crate::observe::access_log::{self, Entry};
use crate::observe::diagnostics::unix_now;
use crate::observe::metrics::{Aborted, Snapshot};
use crate::server::Server;
use crate::server::body::{BodyError, Received, Use};
use crate::server::connection::{Buffers, Connection, End, PendingResponse};
use crate::server::slots::Permit;

/// What a handler may ask of the server.
struct ServerHost<'a> {
    server: &'a Server,
    permit: &'a Permit<'a>,
}

impl Host for ServerHost<'_> {
    fn reached(&self, stage: Stage) -> bool {
        self.server.slots.stage().reached(stage)
    }

    fn snapshot(&self) -> Snapshot {
        self.server.snapshot()
    }

    fn sleep(&self, duration: Duration, until: Stage) -> Duration {
        self.permit.sleep(duration, until)
    }

    fn with_core(&self, within: Duration, work: &mut dyn FnMut()) {
        if let Some(_core) = self.server.cores.take(within) {
            work();
        }
    }
}

/// What the log line and the metrics tell of a response besides its request.
struct ResponseFacts<'a> {
    decision: &'a Decision<'a>,
    status: Status,
    /// The log's level, as it was when the request came.
    log_level: Level,
    delay: Duration,
    request_id: &'a [u8],
    body: Received,
    /// The messages that a WebSocket received.
    messages: Option<u64>,
    /// Where the response begins in the output.
    output_start: u64,
    /// Why the response was left unfinished, if it was.
    broken_off: Option<Aborted>,
}

impl<'a> Connection<'a> {
    /// Answers a request; how the connection ends, if it does. Inlined, its variables would lie in
    /// the stack above the parser's, and every idle connection would keep one more page.
    #[inline(never)]
    pub(super) fn exchange(&mut self, request: &Request) -> Option<End> {
        self.requests += 1;
        let app = self.app();
        let settings = app.runtime();
        let shed = self.permit.is_shed();
        let mut decision = handlers::decide(app, &settings, request, shed, &mut self.random);
        let mut reservation = self.server.body_memory.reservation();
        let body = if self.leaves_body(request, &decision) {
            None
        } else {
            let dropped = matches!(decision.action, Action::Upload);
            let purpose = if dropped { Use::Drop } else { Use::Keep };
            match self.read_body(request, purpose, &mut reservation) {
                Ok(received) => Some(received),
                Err(BodyError::Refused(error)) => {
                    decision = Decision::refuse(Route::None, "", error);
                    None
                }
                Err(BodyError::Aborted(why)) => {
                    app.metrics.aborted(why);
                    return Some(End::Close);
                }
            }
        };
        let received = body.unwrap_or_default();
        app.metrics
            .request_bytes
            .inc_by(request.head().len() as u64 + received.length);
        let delay = self.delay(&decision);
        if decision.streams() && self.flush() {
            self.shrink();
        }
        if self.out.failed().is_some() {
            app.metrics.aborted(self.why_aborted());
            return Some(End::Close);
        }
        let after = self.respond(request, None, &decision, settings, body, delay);
        self.finish_body(received);
        self.end_after(request, after, body.is_some())
    }

    /// Whether the body is left unread: a client that waits for a 100 response gets its refusal
    /// instead, and one that is shed is not read any further.
    fn leaves_body(&self, request: &Request, decision: &Decision<'_>) -> bool {
        let has_body = request.framing != Framing::None;
        let waits = request.expects_continue && self.buffers.input.unread().is_empty();
        let ends = decision.route == Route::None || request.method == Method::Connect;
        let refused = decision.refused().is_some() && (ends || (has_body && waits));
        refused || (has_body && self.permit.is_shed())
    }

    /// Waits out the delay of a decision; how long it really was.
    fn delay(&mut self, decision: &Decision<'_>) -> Duration {
        let app = self.app();
        let delay = match decision.delay {
            Duration::ZERO => Duration::ZERO,
            delay => self.sleep(delay),
        };
        // Measured for the echo, so that its own time can be told apart from the delay.
        if matches!(decision.action, Action::Echo | Action::FailByRate) {
            app.metrics.injected_delay.observe(delay.as_secs_f64());
        }
        delay
    }

    /// Writes the response and records it; what happens to the connection. For a head that could not
    /// be parsed, `unparsed` is what the log shows, and the request is one without fields.
    fn respond(
        &mut self,
        request: &Request,
        unparsed: Option<&[u8]>,
        decision: &Decision<'_>,
        settings: RuntimeSettings,
        body: Option<Received>,
        delay: Duration,
    ) -> After {
        let app = self.app();
        self.set_client(request);
        let made_id;
        let request_id = if let Some(sent_id) = sent_id(request) {
            sent_id
        } else {
            made_id = decimal::hex64(self.random.u64(..));
            &made_id
        };
        let close = self.is_last(request, decision, body);
        self.buffers.dates.set(unix_now());
        let (output_start, received) = (self.out.position(), body.unwrap_or_default());
        let sent = if decision.refused() == Some(RequestError::Http2) {
            self.refuse_http2();
            let (status, after) = (RequestError::Http2.status(), After::Close);
            Sent { status, after }
        } else {
            let exchange = Exchange {
                app,
                host: &self.host(),
                settings,
                request,
                decision,
                body: self.buffers.body(received),
                client: &self.client,
                peer: &self.peer,
                peer_trusted: forwarded::is_trusted(self.peer_ip, &app.config.trusted_proxies),
                local: &self.local,
                request_id,
                dates: &self.buffers.dates,
                connection: self.facts(),
                delay,
                close,
            };
            (self.server.respond)(&exchange, &mut self.out)
        };
        let messages = (sent.after == After::WebSocket).then(|| self.websocket());
        let facts = ResponseFacts {
            decision,
            status: sent.status,
            log_level: settings.log_level,
            delay,
            request_id,
            body: received,
            messages,
            output_start,
            broken_off: self.why_broken_off(sent.after, decision),
        };
        self.record(request, unparsed, &facts);
        sent.after
    }

    /// Why a response was left unfinished, if it was: by a fault, by the end of its connection, or
    /// by the drain.
    fn why_broken_off(&self, after: After, decision: &Decision<'_>) -> Option<Aborted> {
        let ended = || self.out.failed().is_some() || self.permit.is_evicted();
        let unfinished = matches!(after, After::Abort | After::Stall);
        unfinished.then(|| match decision.controls.fault {
            Some(_) => Aborted::Fault,
            None if ended() => self.why_aborted(),
            None => Aborted::Cut,
        })
    }

    /// What a handler may ask of the server.
    fn host(&self) -> ServerHost<'a> {
        ServerHost {
            server: self.server,
            permit: self.permit,
        }
    }

    fn facts(&self) -> ConnectionFacts {
        ConnectionFacts {
            request_number: self.requests,
            age: self.started.saturating_duration_since(self.opened),
            idle: self.started.saturating_duration_since(self.responded),
        }
    }

    /// Whether this response is the connection's last. A request that is already here behind this
    /// one is answered too.
    fn is_last(&self, request: &Request, decision: &Decision<'_>, body: Option<Received>) -> bool {
        let closes =
            !request.keep_alive || decision.closes(request.version) || self.permit.is_shed();
        let Some(body) = body.filter(|_| !closes) else {
            return true;
        };
        if !self.permit.closes_after_next_response() {
            return false;
        }
        let next = &self.buffers.input.unread()[body.in_input..];
        let max_head = self.app().config.max_head;
        !matches!(Request::default().parse(next, max_head), Ok(Some(_)))
    }

    /// Marks the body as used, and keeps its buffer for the next one unless it is large.
    pub(super) fn finish_body(&mut self, received: Received) {
        self.buffers.input.take(received.in_input);
        self.buffers.trailers.clear();
        self.buffers.body.clear();
        if self.buffers.body.capacity() > limits::BODY_STEP_BYTES {
            self.buffers.body = Vec::new();
        }
    }

    fn end_after(&self, request: &Request, after: After, body_read: bool) -> Option<End> {
        match after {
            _ if self.out.failed().is_some() => Some(End::Close),
            After::KeepOpen => None,
            After::Abort => Some(End::Close),
            After::Stall => Some(End::Stall),
            After::WebSocket => Some(End::Linger),
            After::Close => {
                // A client of 1.1 that asked for this end sends no more.
                let asked = !request.keep_alive && request.version == Version::Http11;
                let quiet = body_read && self.buffers.input.unread().is_empty();
                Some(if asked && quiet {
                    End::Close
                } else {
                    End::Linger
                })
            }
        }
    }

    /// Refuses what could not be parsed; how the connection ends. The log shows `shown`, or the first
    /// line as it came. Inlined, its variables would lie in the stack of every idle connection.
    #[inline(never)]
    pub(super) fn refuse_head(&mut self, error: RequestError, shown: &[u8]) -> End {
        self.requests += 1;
        let (settings, mut request) = (self.app().runtime(), Request::default());
        if first_line(self.buffers.input.unread()).starts_with(b"HEAD ") {
            request.method = Method::Head;
        }
        let decision = Decision::refuse(Route::None, "", error);
        let line = Some(shown);
        self.respond(&request, line, &decision, settings, None, Duration::ZERO);
        let length = self.buffers.input.unread().len() as u64;
        self.app().metrics.request_bytes.inc_by(length);
        match error {
            // nginx drops a response that comes together with the end of the connection.
            RequestError::Http2 => End::Stall,
            _ => End::Linger,
        }
    }

    /// Counts a response.
    fn count(&self, method: Method, duration: Duration, facts: &ResponseFacts<'_>) {
        let (metrics, decision) = (&self.app().metrics, facts.decision);
        if let Some(error) = decision.refused() {
            metrics.rejected(error);
        }
        for fault in decision.faults().iter().flatten() {
            metrics.injected(*fault);
        }
        if facts.status != Status::NONE {
            metrics.responded(decision.route, method, facts.status, duration);
        }
    }

    /// Counts and logs a response.
    fn record(&mut self, request: &Request, unparsed: Option<&[u8]>, facts: &ResponseFacts<'_>) {
        let (app, decision, status) = (self.app(), facts.decision, facts.status);
        self.responded = Instant::now();
        let duration = self.responded.saturating_duration_since(self.started);
        let parsed = unparsed.is_none().then_some(request);
        let method = parsed.map_or(Method::Other, |request| request.method);
        self.count(method, duration, facts);
        let level = access_log::level(decision.route, status, decision.asked_for_status());
        let logged = level <= facts.log_level;
        let line_start = self.buffers.pending.lines.len();
        if logged {
            let Buffers {
                dates,
                input,
                pending,
                ..
            } = &mut *self.buffers;
            let raw = match unparsed {
                Some(b"") => first_line(input.unread()),
                shown => shown.unwrap_or_default(),
            };
            let entry = Entry {
                client: &self.client,
                peer: &self.peer,
                request: parsed,
                raw,
                route: decision.route,
                status,
                level,
                bytes: self.out.position() - facts.output_start,
                duration,
                delay: facts.delay,
                request_id: facts.request_id,
                refused: decision.refused(),
                faults: decision.faults(),
                messages: facts.messages,
            };
            entry.write(dates, app.config.log_json, &mut pending.lines);
        }
        app.totals.request(logged);
        let pending = &mut self.buffers.pending;
        pending.responses.push(PendingResponse {
            output_end: self.out.position(),
            line: line_start..pending.lines.len(),
            broken_off: facts.broken_off,
        });
        pending.may_wait |= !decision.route.is_probe();
        if let Some(request) = parsed.filter(|_| app.routes.admin) {
            let body = self.buffers.body_bytes(facts.body);
            app.recent
                .remember(request, &self.client, body, status, duration);
        }
        if self.buffers.pending.lines.len() > limits::PENDING_LOG_BYTES {
            self.flush();
        }
    }

    /// Writes the address of the client: the peer, or the one that trusted proxies name.
    fn set_client(&mut self, request: &Request) {
        let trusted = &self.app().config.trusted_proxies;
        if trusted.is_empty() {
            return;
        }
        let forwarded = request.values(FieldName::XForwardedFor);
        let client = forwarded::client(self.peer_ip, trusted, forwarded);
        self.client.clear();
        // Writing into a string does not fail.
        let _ = write!(self.client, "{client}");
    }
}

/// The first line of a head that could not be parsed.
fn first_line(input: &[u8]) -> &[u8] {
    let mut lines = input
        .trim_ascii_start()
        .split(|byte| matches!(byte, b'\r' | b'\n'));
    lines.next().unwrap_or_default()
}

/// The client's own id of a request, if it may stand in our responses and logs.
fn sent_id(request: &Request) -> Option<&[u8]> {
    let id = request.value(FieldName::XRequestId);
    (id.len() <= limits::REQUEST_ID_BYTES && field::is_token(id)).then_some(id)
}
