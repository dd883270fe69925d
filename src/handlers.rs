//! One function for each route.
//!
//! `plan` looks at the head alone and refuses what the route cannot take, so that a client which waits for a 100 learns
//! it before it sends its body. `respond` then carries the plan out, with the body at hand. A handler ends in `Sent`,
//! which only a framed response gives; nothing else gets out of here.

use std::cell::RefCell;
use std::time::Duration;

use fastrand::Rng;

use crate::context::{self, Context};
use crate::echo::{self, Facts};
use crate::limits;
use crate::live::{self, Level};
use crate::lobby::Seat;
use crate::metrics;
use crate::request::{HeadScan, Method, Reject, Request};
use crate::response::{Head, Out, Preamble, Sent, Status};
use crate::route::Route;
use crate::text::{self, Dates};

/// What is to be done for a request: its route with the parameter read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plan {
    /// Echo after a delay; a random one is measured, and may end in an injected error.
    Echo {
        /// How long it waits.
        delay: Duration,
        /// Whether the delay was drawn.
        random: bool,
    },
    /// Is the process alive?
    Healthz,
    /// Does it want requests?
    Readyz,
    /// The metrics.
    Metrics,
    /// What runs here?
    Version,
    /// This status.
    Status(Status),
    /// So many bytes.
    Bytes(u64),
    /// The settings that can be changed.
    ListSettings,
    /// This setting, to the value that is the body.
    ChangeSetting(live::Setting),
    /// What the server as a whole takes.
    Asterisk,
    /// No.
    Refuse(Reject),
}

impl Plan {
    /// Whether the answer waits; what is held has to go out before.
    pub fn delays(&self) -> bool {
        matches!(self, Plan::Echo { delay, .. } if !delay.is_zero())
    }
}

/// Where a request goes and what is to be done there.
#[derive(Clone, Copy, Debug)]
pub struct Dispatch<'a> {
    /// Its route; none for a request that is shed.
    pub route: Route,
    /// What follows the prefix of a route with a parameter.
    pub parameter: &'a str,
    /// What is to be done.
    pub plan: Plan,
}

/// A request with all that its handler may look at.
pub struct Call<'a> {
    /// The server.
    pub ctx: Context<'a>,
    /// The connection's place.
    pub seat: &'a Seat<'a>,
    /// The request.
    pub request: &'a Request<'a>,
    /// What is to be done for it.
    pub dispatch: Dispatch<'a>,
    /// Its body.
    pub body: &'a [u8],
    /// What came behind it.
    pub behind: &'a [u8],
    /// The address of the client.
    pub client: &'a str,
    /// The address and port of the peer.
    pub peer: &'a str,
    /// The address and port that the peer connected to.
    pub local: &'a str,
    /// The id of the request.
    pub request_id: &'a [u8],
    /// The moment of the answer, once it has begun.
    pub dates: &'a RefCell<Dates>,
    /// Whether the connection has to end after this answer.
    pub close: bool,
}

/// Carries a call's plan out; a test may bring a handler of its own.
pub type Handler = fn(&Call<'_>, &mut Rng, &mut Out<'_>) -> Sent;

impl<'a> Dispatch<'a> {
    /// Where a request goes and what is to be done there, by its head alone.
    pub fn of(ctx: Context<'_>, request: &Request<'a>, shed: bool, random: &mut Rng) -> Dispatch<'a> {
        let (route, parameter) = Route::of(request.path, !ctx.config.admin_token.is_empty());
        if shed && !route.is_probe() {
            return Dispatch { route: Route::None, parameter: "", plan: Plan::Refuse(Reject::Shed) };
        }
        let plan = if route == Route::Admin && !is_authorized(request, ctx.config.admin_token.as_bytes()) {
            Err(Reject::Unauthorized)
        } else if route == Route::Admin && parameter != "settings" && setting(parameter).is_none() {
            Err(Reject::NotFound)
        } else if !route.takes(request.method, parameter) {
            Err(Reject::Method)
        } else {
            plan(route, parameter, || ctx.live.random_delay(random))
        };
        Dispatch { route, parameter, plan: plan.unwrap_or_else(Plan::Refuse) }
    }
}

/// Reads what a route's path asks for.
fn plan(route: Route, parameter: &str, random_delay: impl FnOnce() -> Duration) -> Result<Plan, Reject> {
    let read = match route {
        Route::Echo | Route::None => Some(Plan::Echo { delay: random_delay(), random: true }),
        Route::Healthz => Some(Plan::Healthz),
        Route::Readyz => Some(Plan::Readyz),
        Route::Metrics => Some(Plan::Metrics),
        Route::Version => Some(Plan::Version),
        Route::Asterisk => Some(Plan::Asterisk),
        Route::Status => parse_code(parameter).and_then(Status::of).map(Plan::Status),
        Route::Delay => {
            let delay = text::parse_duration(parameter).filter(|delay| *delay <= limits::DELAY);
            delay.map(|delay| Plan::Echo { delay, random: false })
        }
        Route::Bytes => text::parse_size(parameter).filter(|size| *size <= limits::BYTES).map(Plan::Bytes),
        Route::Admin if parameter == "settings" => Some(Plan::ListSettings),
        Route::Admin => setting(parameter).map(Plan::ChangeSetting),
    };
    read.ok_or(Reject::Parameter)
}

fn parse_code(text: &str) -> Option<u16> {
    (text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn setting(parameter: &str) -> Option<live::Setting> {
    live::Setting::of_label(parameter.strip_prefix("settings/")?)
}

/// Whether there is one `Authorization` field, and it has the token; of two, a proxy may have looked at the other.
fn is_authorized(request: &Request<'_>, token: &[u8]) -> bool {
    let mut values = request.values("authorization");
    values.next().is_some_and(|value| is_token(value, token)) && values.next().is_none()
}

/// Whether an `Authorization` value is `Bearer` and the token; the time it takes tells only the length.
fn is_token(value: &[u8], token: &[u8]) -> bool {
    let (scheme, given) = value.split_at(value.len().min(7));
    let given = given.trim_ascii();
    let different = given.iter().zip(token).fold(0, |different, (a, b)| std::hint::black_box(different | (a ^ b)));
    scheme.eq_ignore_ascii_case(b"bearer ") && given.len() == token.len() && different == 0
}

/// The handler of the product.
pub fn respond(call: &Call<'_>, random: &mut Rng, out: &mut Out<'_>) -> Sent {
    match call.dispatch.plan {
        Plan::Echo { delay, random: false } => echo(call, call.ctx.lobby.pause(delay), out),
        Plan::Echo { delay, random: true } => random_echo(call, delay, random, out),
        Plan::Healthz => probe(call, out, call.ctx.live.live(), "ok\n", "not alive\n"),
        Plan::Readyz => {
            let not_ready = if call.ctx.lobby.draining() { "draining\n" } else { "not ready\n" };
            probe(call, out, call.ctx.ready(), "ready\n", not_ready)
        }
        Plan::Metrics => {
            let metrics = call.ctx.metrics.render(&call.ctx.moment());
            call.head(Status::OK, out).body(metrics::CONTENT_TYPE, &metrics)
        }
        Plan::Version => call.head(Status::OK, out).body(JSON, &call.ctx.identity.version_json),
        Plan::Status(status) => with_status(call, status, out),
        Plan::Bytes(size) => bytes(call, size, out),
        Plan::ListSettings => call.head(Status::OK, out).body(JSON, call.ctx.live.to_json().as_bytes()),
        Plan::ChangeSetting(setting) => change_setting(call, setting, out),
        Plan::Asterisk => call.head(Status::OK, out).field("Allow", Route::Echo.allow("")).body(TEXT, b""),
        Plan::Refuse(reject) => refuse(call, reject, out),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

impl Call<'_> {
    /// Begins the response. Whether the connection ends is decided now, not before a delay.
    fn head<'o, 'w>(&self, status: Status, out: &'o mut Out<'w>) -> Head<'o, 'w> {
        self.closing_head(status, self.close, out)
    }

    /// Whether another request came whole behind this one: it is answered too, before the connection ends.
    fn is_followed(&self) -> bool {
        !self.seat.is_shed() && matches!(HeadScan::default().find(self.behind), Ok(Some(_)))
    }

    fn closing_head<'o, 'w>(&self, status: Status, close: bool, out: &'o mut Out<'w>) -> Head<'o, 'w> {
        self.dates.borrow_mut().set(context::unix_now());
        let dates = self.dates.borrow();
        let preamble = Preamble {
            common: &self.ctx.identity.common_fields,
            date: dates.http(),
            request_id: self.request_id,
            http10: self.request.http10,
            head_only: self.request.method == Method::Head,
            close: close || (self.seat.leaving() && !self.is_followed()),
        };
        Head::new(out, status, &preamble)
    }
}

fn probe(call: &Call<'_>, out: &mut Out<'_>, well: bool, yes: &'static str, no: &'static str) -> Sent {
    let (status, text) = if well { (Status::OK, yes) } else { (Status::SERVICE_UNAVAILABLE, no) };
    call.head(status, out).body(TEXT, text.as_bytes())
}

fn random_echo(call: &Call<'_>, delay: Duration, random: &mut Rng, out: &mut Out<'_>) -> Sent {
    let delay = call.ctx.lobby.pause(delay);
    call.ctx.metrics.injected_delay.observe(delay.as_secs_f64());
    if call.ctx.live.fails(random) {
        let head = call.head(Status::INTERNAL_SERVER_ERROR, out).server_timing(delay);
        return head.body(TEXT, b"500 Internal Server Error: injected by the error rate\n");
    }
    echo(call, delay, out)
}

fn echo(call: &Call<'_>, delay: Duration, out: &mut Out<'_>) -> Sent {
    let request = call.request;
    let facts = Facts {
        client: call.client,
        peer: call.peer,
        local: call.local,
        process: &call.ctx.identity.facts,
        process_text: &call.ctx.identity.facts_text,
        delay,
        body: str::from_utf8(call.body).ok(),
        body_bytes: call.body.len(),
    };
    let mut head = call.head(Status::OK, out);
    echo::copied_lines(request, |lines| head.lines(lines));
    let head = head.server_timing(delay);
    let json = echo::prefers_json(request.accept);
    let content_type = if json { JSON } else { TEXT };
    if request.method == Method::Head {
        return head.no_body(content_type);
    }
    let mut length = 0;
    echo::describe(json, request, &facts, |bytes| length += bytes.len() as u64);
    let write = |out: &mut Out<'_>| echo::describe(json, request, &facts, |bytes| out.put(bytes));
    head.sized_body(content_type, length, write)
}

/// A status on demand, with the fields that its definition asks for (RFC 9110 section 15).
fn with_status(call: &Call<'_>, status: Status, out: &mut Out<'_>) -> Sent {
    let text = format!("{} {}\n", status.code(), status.reason());
    let head = call.head(status, out);
    let head = match status.code() {
        206 => head.field("Content-Range", "bytes 0-19/20"),
        300..=303 | 305..=399 => head.field("Location", "/"),
        401 => head.field("WWW-Authenticate", "Bearer"),
        405 => head.field("Allow", call.dispatch.route.allow("")),
        407 => head.field("Proxy-Authenticate", "Basic"),
        416 => head.field("Content-Range", "bytes */0"),
        426 => head.field("Upgrade", "HTTP/2.0").field("Connection", "upgrade"),
        _ => head,
    };
    head.body(TEXT, text.as_bytes())
}

fn bytes(call: &Call<'_>, size: u64, out: &mut Out<'_>) -> Sent {
    const BLOCK: &[u8] = &[b'x'; 64 << 10];
    const BINARY: &str = "application/octet-stream";
    if call.request.query.split('&').any(|part| part == "chunked") {
        // Without chunks only the end of the connection tells the end of the bytes.
        return call.closing_head(Status::OK, call.close || call.request.http10, out).chunked_body(BINARY, size, BLOCK);
    }
    call.head(Status::OK, out).sized_body(BINARY, size, |out| out.repeat(BLOCK, size, Out::put))
}

fn change_setting(call: &Call<'_>, setting: live::Setting, out: &mut Out<'_>) -> Sent {
    let (ctx, name) = (call.ctx, setting.label());
    let value = str::from_utf8(call.body).unwrap_or("(not UTF-8)").trim();
    let (status, text) = match ctx.live.set(setting, value) {
        Ok(()) => {
            ctx.say(Level::Info, format_args!("admin: {name} is now {value}, by {}", call.client));
            (Status::OK, format!("{name} is now {value}\n"))
        }
        Err(expected) => {
            ctx.metrics.rejected(Reject::Parameter);
            (Status::BAD_REQUEST, format!("400 Bad Request: {name}: {value:?} is not usable: expected {expected}\n"))
        }
    };
    call.head(status, out).body(TEXT, text.as_bytes())
}

/// Says no: the one status of the reason, the fields it asks for, and the reason in words.
fn refuse(call: &Call<'_>, reject: Reject, out: &mut Out<'_>) -> Sent {
    call.ctx.metrics.rejected(reject);
    refusal(call.head(reject.status(), out), reject, call.dispatch.route.allow(call.dispatch.parameter))
}

/// The rest of a refusal behind the head's first fields; `allow` are the methods that the route takes.
pub fn refusal(head: Head<'_, '_>, reject: Reject, allow: &'static str) -> Sent {
    let status = reject.status();
    let head = match reject {
        Reject::Method => head.field("Allow", allow),
        Reject::Unauthorized => head.field("WWW-Authenticate", "Bearer realm=\"admin\""),
        Reject::BodyMemory | Reject::Shed => head.field("Retry-After", "1"),
        _ => head,
    };
    head.body(TEXT, format!("{} {}: {}\n", status.code(), status.reason(), reject.reason()).as_bytes())
}
