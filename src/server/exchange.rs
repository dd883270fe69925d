//! One request and its response.
//!
//! The order is always the same: decide by the head, read the body, wait out the delay, write the
//! response, take note of it. A request that is refused may leave its body unread; then no request
//! can follow it, and the connection ends.

use std::fmt::Write;
use std::mem;
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
use crate::http::response::{After, Head, Preamble};
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
        let after = self.respond(request, &decision, settings, body, delay);
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
        let delay = if decision.delay.is_zero() {
            Duration::ZERO
        } else {
            self.sleep(decision.delay)
        };
        // Measured for the echo, so that its own time can be told apart from the delay.
        if matches!(decision.action, Action::Echo | Action::FailByRate) {
            self.app()
                .metrics
                .injected_delay
                .observe(delay.as_secs_f64());
        }
        delay
    }

    /// Writes the response and takes note of it; what happens to the connection.
    fn respond(
        &mut self,
        request: &Request,
        decision: &Decision<'_>,
        settings: RuntimeSettings,
        body: Option<Received>,
        delay: Duration,
    ) -> After {
        let app = self.app();
        self.set_client(Some(request));
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
        let sent = {
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
        self.take_note(Some(request), b"", &facts);
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
        let leaves =
            !request.keep_alive || decision.closes(request.version) || self.permit.is_shed();
        let Some(body) = body.filter(|_| !leaves) else {
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
        self.set_client(None);
        let request_id = decimal::hex64(self.random.u64(..));
        self.buffers.dates.set(unix_now());
        let output_start = self.out.position();
        let end = if error == RequestError::Http2 {
            self.refuse_http2();
            // nginx drops a response that comes together with the end of the connection.
            End::Stall
        } else {
            let came = self.buffers.input.unread().trim_ascii_start();
            let preamble = Preamble {
                common: &self.app().identity.common_fields,
                date: self.buffers.dates.http(),
                request_id: &request_id,
                keep_alive: b"",
                version: Version::Http11,
                head_only: came.starts_with(b"HEAD "),
                close: true,
            };
            let head = Head::new(&mut self.out, error.status(), &preamble);
            handlers::refuse(head, error.into());
            End::Linger
        };
        // The input is used together with the rest of the connection.
        let input = mem::take(&mut self.buffers.input);
        let length = input.unread().len() as u64;
        self.app().metrics.request_bytes.inc_by(length);
        let came = input.unread().trim_ascii_start();
        let mut lines = came.split(|byte| matches!(byte, b'\r' | b'\n'));
        let first_line = lines.next().unwrap_or_default();
        let facts = ResponseFacts {
            decision: &Decision::refuse(Route::None, "", error),
            status: error.status(),
            log_level: self.app().runtime().log_level,
            delay: Duration::ZERO,
            request_id: &request_id,
            body: Received::default(),
            messages: None,
            output_start,
            broken_off: None,
        };
        let line = if shown.is_empty() { first_line } else { shown };
        self.take_note(None, line, &facts);
        self.buffers.input = input;
        end
    }

    /// Counts and logs a response.
    fn take_note(&mut self, request: Option<&Request>, raw: &[u8], facts: &ResponseFacts<'_>) {
        let (app, decision) = (self.app(), facts.decision);
        self.responded = Instant::now();
        let duration = self.responded.saturating_duration_since(self.started);
        let (status, refused) = (facts.status, decision.refused());
        if let Some(error) = refused {
            app.metrics.rejected(error);
        }
        let faults = decision.faults();
        for fault in faults.iter().flatten() {
            app.metrics.injected(*fault);
        }
        let method = request.map_or(Method::Other, |request| request.method);
        if status != Status::NONE {
            app.metrics
                .responded(decision.route, method, status, duration);
        }
        let level = access_log::level(decision.route, status, decision.asked_for_status());
        let logged = level <= facts.log_level;
        let line_start = self.buffers.pending.lines.len();
        if logged {
            let entry = Entry {
                client: &self.client,
                peer: &self.peer,
                request,
                raw,
                route: decision.route,
                status,
                level,
                bytes: self.out.position() - facts.output_start,
                duration,
                delay: facts.delay,
                request_id: facts.request_id,
                refused,
                faults,
                messages: facts.messages,
            };
            let Buffers { dates, pending, .. } = &mut *self.buffers;
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
        if let Some(request) = request.filter(|_| app.routes.admin) {
            let body = self.buffers.body_bytes(facts.body);
            app.recent
                .remember(request, &self.client, body, status, duration);
        }
        if self.buffers.pending.lines.len() > limits::PENDING_LOG_BYTES {
            self.flush();
        }
    }

    /// Writes the address of the client: the peer, or the one that trusted proxies name.
    fn set_client(&mut self, request: Option<&Request>) {
        let trusted = &self.app().config.trusted_proxies;
        if trusted.is_empty() {
            return;
        }
        let client = request.map_or(self.peer_ip, |request| {
            let forwarded = request.values(FieldName::XForwardedFor);
            forwarded::client(self.peer_ip, trusted, forwarded)
        });
        self.client.clear();
        // Writing into a string does not fail.
        let _ = write!(self.client, "{client}");
    }
}

/// The client's own id of a request, if it may stand in our responses and logs.
fn sent_id(request: &Request) -> Option<&[u8]> {
    let id = request.value(FieldName::XRequestId);
    (id.len() <= limits::REQUEST_ID_BYTES && field::is_token(id)).then_some(id)
}
