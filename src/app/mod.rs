//! What a request gets: routes, the echo, admin. It knows no socket and no slots.
//!
//! [`App`] owns what every request needs. A request becomes a [`handlers::Decision`] by its head
//! (`decide`), so that a client which waits for a 100 response is refused before it sends its body.
//! The server then reads the body, waits out the delay, and has a handler write the response for
//! the [`Exchange`].

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use crate::config::level::Level;
use crate::config::settings::{Config, RuntimeSettings};
use crate::http::date::Dates;
use crate::http::field_name::FieldNames;
use crate::http::output::OutputBuffer;
use crate::http::request::{Method, Request};
use crate::http::response::{Head, Preamble, Sent};
use crate::http::route::Routes;
use crate::http::status::Status;
use crate::observe::diagnostics::Diagnostics;
use crate::observe::log::Log;
use crate::observe::metrics::{Metrics, Snapshot};

pub mod identity;

pub mod negotiation;

pub mod controls;

pub mod notes;

pub mod description;

pub mod page;

pub mod echo;

pub mod admin;

pub mod bytes;

pub mod upload;

pub mod events;

pub mod burn;

pub mod handlers;

use admin::RecentRequests;
use handlers::Decision;
use identity::Identity;

/// What every request needs.
pub struct App {
    /// The settings.
    pub config: Config,
    /// Which optional routes exist.
    pub routes: Routes,
    /// The metrics.
    pub metrics: Metrics,
    /// The access log.
    pub log: &'static Log,
    /// The diagnostics on stderr.
    pub diagnostics: Diagnostics,
    /// What stays the same for the whole process.
    pub identity: Identity,
    /// The field names with a meaning here that the echo copies.
    pub copied_names: FieldNames,
    /// The last requests, where `/admin` can ask for them.
    pub recent: RecentRequests,
    /// The counts that the drain's last line tells.
    pub totals: Totals,
    runtime: RwLock<RuntimeSettings>,
}

impl App {
    /// An app with this configuration that writes to these logs; `environment` tells pod,
    /// namespace and node.
    pub fn new(
        config: Config,
        log: &'static Log,
        diagnostics: Diagnostics,
        environment: impl Fn(&str) -> Option<String>,
    ) -> prometheus::Result<App> {
        let routes = Routes {
            admin: !config.admin_token.is_empty(),
            burn: config.allow_burn,
            prefix: config.path_prefix.clone(),
        };
        Ok(App {
            identity: Identity::new(&config, environment),
            metrics: Metrics::new(&identity::build_labels(&config.version))?,
            runtime: RwLock::new(config.runtime),
            copied_names: echo::copied_names(),
            recent: RecentRequests::default(),
            totals: Totals::default(),
            routes,
            log,
            diagnostics,
            config,
        })
    }

    /// What `/admin` can change, as it is now.
    pub fn runtime(&self) -> RuntimeSettings {
        *self.runtime.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line of diagnostics to stderr, if the log's level shows it.
    pub fn say(&self, level: Level, message: fmt::Arguments<'_>) {
        if level <= self.runtime().log_level {
            self.diagnostics.say(level, message);
        }
    }
}

/// Counts of requests that the drain's last line tells.
#[derive(Debug, Default)]
pub struct Totals {
    /// Requests.
    pub requests: AtomicU64,
    /// Those of them without a line in the access log.
    pub not_logged: AtomicU64,
    /// Responses that were taken whole.
    pub completed: AtomicU64,
}

impl Totals {
    /// Counts a request, and whether it has a line in the access log.
    pub fn request(&self, logged: bool) {
        self.requests.fetch_add(1, Relaxed);
        if !logged {
            self.not_logged.fetch_add(1, Relaxed);
        }
    }

    /// Counts responses that were taken whole.
    pub fn completed(&self, count: usize) {
        self.completed.fetch_add(count as u64, Relaxed);
    }
}

/// What the server offers to a handler.
pub trait Host {
    /// Whether the shutdown has come this far.
    fn reached(&self, stage: Stage) -> bool;

    /// Counts of connections and requests at this time.
    fn snapshot(&self) -> Snapshot;

    /// Waits this long, or until a stage of the shutdown; the time that has passed.
    fn sleep(&self, duration: Duration, until: Stage) -> Duration;

    /// Does work that needs a core, unless none gets free within this time.
    fn with_core(&self, within: Duration, work: &mut dyn FnMut());
}

/// How far the shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Connections come and stay.
    Open,
    /// Each response is its connection's last.
    Draining,
    /// The port is being closed.
    Closing,
    /// No connection may wait for a request.
    NoIdling,
    /// No response may be delayed.
    NoDelays,
    /// Everything ends.
    Cut,
}

/// What is known of a connection when a request comes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionFacts {
    /// The number of the request on its connection, from 1.
    pub request_number: u64,
    /// How long the connection has been open.
    pub age: Duration,
    /// How long the connection was idle before this request.
    pub idle: Duration,
}

/// The body of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Body<'a> {
    /// Its bytes; empty where it was dropped while it was read.
    pub bytes: &'a [u8],
    /// Its length in bytes.
    pub length: u64,
    /// How long it took to arrive.
    pub duration: Duration,
    /// Its trailer lines as they came.
    pub trailers: &'a [u8],
}

/// One request with all that its handler may look at.
pub struct Exchange<'a> {
    /// The app.
    pub app: &'a App,
    /// What the server offers.
    pub host: &'a dyn Host,
    /// The runtime settings that hold for this request.
    pub settings: RuntimeSettings,
    /// The request.
    pub request: &'a Request,
    /// What is to be done for it.
    pub decision: &'a Decision<'a>,
    /// Its body.
    pub body: Body<'a>,
    /// The address of the client.
    pub client: &'a str,
    /// The address and port of the peer.
    pub peer: &'a str,
    /// Whether the peer is a trusted proxy.
    pub peer_trusted: bool,
    /// The address and port that the peer connected to.
    pub local: &'a str,
    /// The id of the request.
    pub request_id: &'a [u8],
    /// The time of the response.
    pub dates: &'a Dates,
    /// What is known of the connection.
    pub connection: ConnectionFacts,
    /// How long the injected delay really took.
    pub delay: Duration,
    /// Whether the connection ends after this response.
    pub close: bool,
}

impl Exchange<'_> {
    /// Begins the response, with the fields that the definition of its status demands (RFC 9110
    /// section 15). A status that the controls ask for takes the place of `status`.
    pub fn head<'o, 'w>(&self, status: Status, out: &'o mut OutputBuffer<'w>) -> Head<'o, 'w> {
        let status = self.decision.controls.status.unwrap_or(status);
        let preamble = Preamble {
            common: &self.app.identity.common_fields,
            date: self.dates.http(),
            request_id: self.request_id,
            keep_alive: &self.app.identity.keep_alive_field,
            version: self.request.version,
            head_only: self.request.method == Method::Head,
            close: self.close,
        };
        let head = Head::new(out, status, &preamble);
        match status.code() {
            206 => head.field("Content-Range", "bytes 0-19/20"),
            300..=303 | 305..=399 => head.field("Location", "/"),
            401 => head.field("WWW-Authenticate", "Bearer realm=\"httpserver\""),
            405 => head.field("Allow", self.decision.allow()),
            407 => head.field("Proxy-Authenticate", "Basic"),
            416 => head.field("Content-Range", "bytes */0"),
            426 => head
                .field("Upgrade", "websocket")
                .field("Connection", "Upgrade"),
            _ => head,
        }
    }

    /// Ends a response with a body in a few pieces, or with what a fault leaves of it.
    pub fn pieces(&self, head: Head<'_, '_>, content_type: &'static str, pieces: &[&[u8]]) -> Sent {
        let Some(fault) = self.decision.controls.fault else {
            return head.pieces(content_type, pieces);
        };
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        fault.body(head, content_type, length, |put| {
            for piece in pieces {
                put(piece);
            }
        })
    }
}
