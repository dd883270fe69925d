//! What is to be done for a request, and one function for each route that does it.
//!
//! [`decide`] looks at the head alone. [`respond`] carries the decision out, with the body at hand;
//! it ends in [`Sent`], which only a framed response gives.

use std::time::Duration;

use fastrand::Rng;

use crate::app::bytes::{self, Bytes};
use crate::app::controls::{self, Controls, Refusal, ResponseFault};
use crate::app::events::{self, Events};
use crate::app::{App, Exchange, Stage, admin, burn, echo, notes, upload};
use crate::config::settings::{RuntimeSettings, Setting};
use crate::http::decimal;
use crate::http::error::RequestError;
use crate::http::output::OutputBuffer;
use crate::http::request::{Method, Request, Version};
use crate::http::response::{After, Head, JSON, Sent, TEXT};
use crate::http::route::Route;
use crate::http::status::Status;
use crate::http::websocket::handshake::{Accept, handshake};
use crate::limits;
use crate::observe::metrics::{self, Fault, Faults};

/// What is to be done for a request.
#[derive(Clone, Copy)]
pub enum Action<'a> {
    /// Send the echo.
    Echo,
    /// Wait for so long, then send the echo.
    Delay(Duration),
    /// Open a WebSocket; this is the value of `Sec-WebSocket-Accept`.
    WebSocket(Accept),
    /// Send 500 because of the error rate.
    FailByRate,
    /// Use a core for so long, then send the echo.
    Burn(Duration),
    /// Say whether the process is alive.
    Healthz,
    /// Say whether it wants requests.
    Readyz,
    /// Send the metrics.
    Metrics,
    /// Say what runs here.
    Version,
    /// Send this status.
    Status(Status),
    /// Send bytes.
    Bytes(Bytes),
    /// Read and drop the body, and say how fast it came.
    Upload,
    /// Send events.
    Events(Events),
    /// Say that there is no icon.
    NoIcon,
    /// Say which methods there are.
    Options,
    /// List the settings that can be changed.
    ListSettings,
    /// Change this setting to the value in the body.
    ChangeSetting(&'static Setting),
    /// List the last requests.
    ListRequests,
    /// Refuse.
    Refuse(Refusal<'a>),
}

/// Where a request goes and what is to be done there.
#[derive(Clone, Copy)]
pub struct Decision<'a> {
    /// Its route; none for a request that is shed, and for one whose body was refused.
    pub route: Route,
    /// The parameter in its path.
    pub parameter: &'a str,
    /// What is to be done.
    pub action: Action<'a>,
    /// How the request wants its response to be changed.
    pub controls: Controls,
    /// The delay before the response.
    pub delay: Duration,
    /// Whether the request is a health check, which is neither delayed nor failed at random.
    pub health_check: bool,
}

impl<'a> Decision<'a> {
    fn now(route: Route, parameter: &'a str, action: Action<'a>) -> Decision<'a> {
        Decision {
            route,
            parameter,
            action,
            controls: Controls::default(),
            delay: Duration::ZERO,
            health_check: false,
        }
    }

    /// A refusal.
    pub fn refuse(route: Route, parameter: &'a str, refusal: impl Into<Refusal<'a>>) -> Self {
        Decision::now(route, parameter, Action::Refuse(refusal.into()))
    }

    /// Why the request is refused, if it is.
    pub fn refused(&self) -> Option<RequestError> {
        match self.action {
            Action::Refuse(refusal) => Some(refusal.error()),
            _ => None,
        }
    }

    /// Whether the response may wait for a long time between its first and its last byte.
    pub fn streams(&self) -> bool {
        matches!(
            self.action,
            Action::Bytes(_) | Action::Events(_) | Action::Burn(_)
        )
    }

    /// The methods that the route takes, as the value of an `Allow` field.
    pub fn allow(&self) -> &'static str {
        self.route.allow(self.parameter)
    }

    /// The status that the client asked for.
    pub fn asked_for_status(&self) -> bool {
        self.controls.status.is_some() || matches!(self.action, Action::Status(_))
    }

    /// Whether the connection closes after the response: because the client asked for it, or
    /// because to a client of HTTP/1.0 only its end tells the end of a body without a length.
    pub fn closes(&self, version: Version) -> bool {
        let chunked = match self.action {
            Action::Bytes(bytes) => bytes.chunked,
            Action::Events(_) => true,
            _ => false,
        };
        let asked = self.controls.close || self.controls.fault.is_some();
        asked || (chunked && version == Version::Http10)
    }

    /// The faults that are injected, for metrics and the log line.
    pub fn faults(&self) -> Faults {
        let Controls {
            status,
            delay,
            fault,
            close,
        } = self.controls;
        let by_rate = matches!(self.action, Action::FailByRate).then_some(Fault::ErrorRate);
        [
            status.map(|_| Fault::Status).or(by_rate),
            delay.map(|_| Fault::Delay),
            fault.map(|fault| match fault {
                ResponseFault::Empty => Fault::Empty,
                ResponseFault::Truncate => Fault::Truncate,
                ResponseFault::Stall => Fault::Stall,
            }),
            close.then_some(Fault::Close),
        ]
    }

    /// What only the echo has: a random delay, WebSockets, and errors at random.
    fn choose_for_echo(
        &mut self,
        settings: &RuntimeSettings,
        request: &Request,
        random: &mut Rng,
    ) -> Result<(), RequestError> {
        let plain = self.controls.status.is_none() && self.controls.fault.is_none();
        self.health_check = notes::is_health_check(request);
        if !self.health_check && !settings.delay_max.is_zero() {
            self.delay = controls::uniform(settings.delay_min, settings.delay_max, random);
        }
        let may_fail = plain && !self.health_check && settings.error_rate > 0.0;
        if plain && let Some(accept) = handshake(request)? {
            (self.route, self.action) = (Route::WebSocket, Action::WebSocket(accept));
        } else if may_fail && random.f64() < settings.error_rate {
            self.action = Action::FailByRate;
        } else if self.controls.status.is_some() {
            // A status that was asked for counts as such, so that no alert on the echo's errors fires.
            self.route = Route::Status;
        }
        Ok(())
    }
}

/// Decides by the head of a request what is to be done. `shed` says that the connection has only
/// an overflow slot.
pub fn decide<'a>(
    app: &App,
    settings: &RuntimeSettings,
    request: &'a Request,
    shed: bool,
    random: &mut Rng,
) -> Decision<'a> {
    let (route, parameter) = app.routes.find(request.path());
    if shed && !route.is_probe() {
        return Decision::refuse(Route::None, "", RequestError::Shed);
    }
    let refuse = |error: RequestError| Decision::refuse(route, parameter, error);
    if route == Route::Admin && !admin::is_authorized(request, app.config.admin_token.as_bytes()) {
        return refuse(RequestError::Unauthorized);
    }
    if route == Route::Admin && admin_action(parameter).is_none() {
        return refuse(RequestError::NotFound);
    }
    if !route.takes(request.method, parameter) {
        return refuse(RequestError::Method);
    }
    if request.method == Method::Options && has_options(route) {
        return Decision::now(route, parameter, Action::Options);
    }
    let decided = decide_route(settings, request, route, parameter, random);
    decided.unwrap_or_else(|refusal| Decision::refuse(route, parameter, refusal))
}

/// What a route does with a request that it takes, changed by the controls.
fn decide_route<'a>(
    settings: &RuntimeSettings,
    request: &'a Request,
    route: Route,
    parameter: &'a str,
    random: &mut Rng,
) -> Result<Decision<'a>, Refusal<'a>> {
    let controls = if has_controls(route) {
        Controls::read(request, random)?
    } else {
        Controls::default()
    };
    let mut decision = Decision {
        controls,
        ..Decision::now(route, parameter, action(route, parameter, request)?)
    };
    if let Action::Delay(delay) = decision.action {
        decision.delay = delay;
    }
    if route == Route::Echo {
        decision.choose_for_echo(settings, request, random)?;
    }
    decision.delay = controls.delay.unwrap_or(decision.delay);
    Ok(decision)
}

/// Whether OPTIONS gets the methods of the route. The echo shows what came instead, and the probes
/// give OPTIONS the response of GET, because HAProxy's default check sends it.
fn has_options(route: Route) -> bool {
    !matches!(route, Route::Echo | Route::Healthz | Route::Readyz)
}

/// Whether the controls hold for a route. The others report the state of the server, so no client
/// may change their responses.
fn has_controls(route: Route) -> bool {
    !route.is_probe() && !matches!(route, Route::Version | Route::Admin | Route::Asterisk)
}

/// What a route does.
fn action<'a>(
    route: Route,
    parameter: &'a str,
    request: &'a Request,
) -> Result<Action<'a>, Refusal<'a>> {
    let bad = |name, expected| Refusal::Parameter(name, parameter.as_bytes(), expected);
    Ok(match route {
        Route::Healthz => Action::Healthz,
        Route::Readyz => Action::Readyz,
        Route::Metrics => Action::Metrics,
        Route::Version => Action::Version,
        Route::Upload => Action::Upload,
        Route::Favicon => Action::NoIcon,
        Route::Status => {
            let status = controls::status(parameter);
            Action::Status(status.ok_or(bad("status", "a status from 200 to 599"))?)
        }
        Route::Delay => {
            let expected = "a duration such as 250ms, 2s, 1.5s or 1m, up to 60s";
            let delay = controls::duration(parameter, limits::DELAY);
            Action::Delay(delay.ok_or(bad("delay", expected))?)
        }
        Route::Bytes => Action::Bytes(Bytes::read(parameter, request)?),
        Route::Events => Action::Events(Events::read(request)?),
        Route::Burn => {
            let expected = "a duration such as 500ms or 2s, up to 10s";
            let time = controls::duration(parameter, limits::BURN);
            Action::Burn(time.ok_or(bad("burn", expected))?)
        }
        Route::Admin => admin_action(parameter).ok_or(RequestError::NotFound)?,
        Route::Asterisk => Action::Options,
        Route::Echo | Route::WebSocket | Route::None => Action::Echo,
    })
}

fn admin_action(parameter: &str) -> Option<Action<'static>> {
    match parameter {
        "settings" => Some(Action::ListSettings),
        "requests" => Some(Action::ListRequests),
        _ => {
            let name = parameter.strip_prefix("settings/")?;
            Setting::from_runtime_name(name).map(Action::ChangeSetting)
        }
    }
}

/// Writes the response to a request.
pub type Respond = fn(&Exchange<'_>, &mut OutputBuffer<'_>) -> Sent;

/// Carries out the decision.
pub fn respond(exchange: &Exchange<'_>, out: &mut OutputBuffer<'_>) -> Sent {
    let app = exchange.app;
    if exchange.decision.controls.fault == Some(ResponseFault::Empty) {
        return Sent {
            status: Status::NONE,
            after: After::Abort,
        };
    }
    match exchange.decision.action {
        Action::Echo | Action::Delay(_) => echo::respond(exchange, out),
        Action::WebSocket(accept) => echo::websocket(exchange, &accept, out),
        Action::FailByRate => {
            let head = exchange.head(Status::INTERNAL_SERVER_ERROR, out);
            let text = b"500 Internal Server Error: injected by the error rate\n";
            head.server_timing(exchange.delay).body(TEXT, text)
        }
        Action::Burn(duration) => {
            burn::burn(exchange, duration);
            echo::respond(exchange, out)
        }
        Action::Healthz => probe(exchange, out, exchange.settings.live, "ok\n", "not alive\n"),
        Action::Readyz if exchange.host.reached(Stage::Draining) => {
            probe(exchange, out, false, "ready\n", "draining\n")
        }
        Action::Readyz => {
            let ready = exchange.settings.ready;
            probe(exchange, out, ready, "ready\n", "not ready\n")
        }
        Action::Metrics => {
            let metrics = app.metrics.render(&exchange.host.snapshot());
            let head = exchange.head(Status::OK, out);
            head.body(metrics::CONTENT_TYPE, &metrics)
        }
        Action::Version => exchange
            .head(Status::OK, out)
            .body(JSON, &app.identity.version_json),
        Action::Status(status) => {
            let status = exchange.decision.controls.status.unwrap_or(status);
            let code = decimal::decimal(status.code().into());
            let pieces = [&code[..], b" ", status.reason().as_bytes(), b"\n"];
            exchange.pieces(exchange.head(status, out), TEXT, &pieces)
        }
        Action::Bytes(bytes) => bytes::respond(exchange, bytes, out),
        Action::Upload => upload::respond(exchange, out),
        Action::Events(events) => events::respond(exchange, events, out),
        Action::NoIcon => {
            let head = exchange.head(Status::NOT_FOUND, out);
            exchange.pieces(head, TEXT, &[b"404 Not Found: there is no icon\n"])
        }
        Action::Options => {
            let head = exchange.head(Status::OK, out);
            head.field("Allow", exchange.decision.allow())
                .body(TEXT, b"")
        }
        Action::ListSettings => admin::list_settings(exchange, out),
        Action::ChangeSetting(setting) => admin::change(exchange, setting, out),
        Action::ListRequests => admin::list_requests(exchange, out),
        Action::Refuse(refusal) => refuse(exchange.head(refusal.error().status(), out), refusal),
    }
}

fn probe(
    exchange: &Exchange<'_>,
    out: &mut OutputBuffer<'_>,
    well: bool,
    yes: &'static str,
    no: &'static str,
) -> Sent {
    let (status, text) = if well {
        (Status::OK, yes)
    } else {
        (Status::SERVICE_UNAVAILABLE, no)
    };
    exchange.head(status, out).body(TEXT, text.as_bytes())
}

/// Ends a response that refuses: the fields that the reason asks for, and the reason in words.
pub fn refuse(head: Head<'_, '_>, refusal: Refusal<'_>) -> Sent {
    let status = refusal.error().status();
    let head = match refusal.error() {
        RequestError::WebSocketVersion => head.field("Sec-WebSocket-Version", "13"),
        _ if status == Status::SERVICE_UNAVAILABLE => head.field("Retry-After", "1"),
        _ => head,
    };
    let code = decimal::decimal(status.code().into());
    let (start, quote, value, end, expected) = match refusal {
        Refusal::Because(error) => (error.reason(), "", &b""[..], "", ""),
        Refusal::Parameter(name, value, expected) => {
            (name, " \"", value, "\" is not usable: expected ", expected)
        }
    };
    head.pieces(
        TEXT,
        &[
            &code,
            b" ",
            status.reason().as_bytes(),
            b": ",
            start.as_bytes(),
            quote.as_bytes(),
            value,
            end.as_bytes(),
            expected.as_bytes(),
            b"\n",
        ],
    )
}
