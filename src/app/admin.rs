//! `/admin`: the settings that can be changed while the server runs, and the last requests.
//!
//! It exists only where a token is set. The token is compared in constant time, and the server
//! never shows it by itself.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::app::Exchange;
use crate::config::level::Level;
use crate::config::settings::{self, BadValue, Setting};
use crate::http::date::Dates;
use crate::http::decimal;
use crate::http::error::RequestError;
use crate::http::field::truncated;
use crate::http::field_name::FieldName;
use crate::http::output::OutputBuffer;
use crate::http::request::Request;
use crate::http::response::{JSON, Sent, TEXT};
use crate::http::status::Status;
use crate::limits;
use crate::observe::diagnostics::unix_now;
use crate::observe::escape::json_member;
use crate::sync::lock;

/// Whether a request has one `Authorization` field, and that has the token. Of two fields a proxy
/// may have checked the other.
pub fn is_authorized(request: &Request, token: &[u8]) -> bool {
    let mut values = request.values(FieldName::Authorization);
    values.next().is_some_and(|value| is_token(value, token)) && values.next().is_none()
}

/// Whether an `Authorization` value is `Bearer` and the token. The time this takes tells only the
/// length of the token.
fn is_token(value: &[u8], token: &[u8]) -> bool {
    let (scheme, given) = value.split_at(value.len().min(7));
    let given = given.trim_ascii();
    let pairs = given.iter().zip(token);
    let different = pairs.fold(0, |different, (a, b)| black_box(different | (a ^ b)));
    scheme.eq_ignore_ascii_case(b"bearer ") && given.len() == token.len() && different == 0
}

/// Lists the settings.
pub fn list_settings(exchange: &Exchange<'_>, out: &mut OutputBuffer<'_>) -> Sent {
    let json = settings::runtime_json(&exchange.app.runtime());
    exchange.head(Status::OK, out).body(JSON, json.as_bytes())
}

/// Changes a setting to the value in the body.
pub fn change(exchange: &Exchange<'_>, setting: &Setting, out: &mut OutputBuffer<'_>) -> Sent {
    let value = str::from_utf8(exchange.body.bytes).unwrap_or("(not UTF-8)");
    let (name, value) = (setting.name, value.trim());
    let (status, text) = match apply(exchange, setting, value) {
        Ok(()) => (Status::OK, format!("{name} is now {value}\n")),
        Err(error) => {
            exchange.app.metrics.rejected(RequestError::Parameter);
            (Status::BAD_REQUEST, format!("400 Bad Request: {error}\n"))
        }
    };
    exchange.head(status, out).body(TEXT, text.as_bytes())
}

/// Changes a setting for all requests from now on, and says so in the diagnostics.
fn apply(exchange: &Exchange<'_>, setting: &Setting, value: &str) -> Result<(), BadValue> {
    let app = exchange.app;
    let mut runtime = app.runtime.write().unwrap_or_else(PoisonError::into_inner);
    let changed = app.config.with_runtime(setting, value, *runtime)?;
    // A change of the level is told at whichever of both levels shows more.
    let level = runtime.log_level.max(changed.log_level);
    *runtime = changed;
    drop(runtime);
    if Level::Info <= level {
        let (name, client) = (setting.name, exchange.client);
        let message = format_args!("admin: {name} is now {value}, by {client}");
        app.diagnostics.say(Level::Info, message);
    }
    Ok(())
}

/// The last requests, for callers that cannot show their response, such as webhooks.
#[derive(Debug, Default)]
pub struct RecentRequests(Mutex<VecDeque<Recent>>);

/// A request as it is remembered.
#[derive(Debug)]
struct Recent {
    unix: Duration,
    client: String,
    head: Vec<u8>,
    body: Vec<u8>,
    status: Status,
    duration: Duration,
}

impl RecentRequests {
    /// Remembers a request, its client, and what became of it.
    pub fn remember(
        &self,
        request: &Request,
        client: &str,
        body: &[u8],
        status: Status,
        duration: Duration,
    ) {
        let recent = Recent {
            unix: unix_now(),
            client: client.to_owned(),
            head: redacted_head(request),
            body: truncated(body, limits::RECENT_BODY_BYTES).to_owned(),
            status,
            duration,
        };
        let mut requests = lock(&self.0);
        if requests.len() == limits::RECENT_REQUESTS {
            requests.pop_front();
        }
        requests.push_back(recent);
    }

    /// The requests as a JSON list, the last one first.
    fn json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        let requests = lock(&self.0);
        for recent in requests.iter().rev() {
            json.extend_from_slice(if json.is_empty() { b"[" } else { b",\n " });
            recent.write(&mut json);
        }
        json.extend_from_slice(if json.is_empty() { b"[]\n" } else { b"]\n" });
        json
    }
}

impl Recent {
    fn write(&self, json: &mut Vec<u8>) {
        json.extend_from_slice(b"{\"time\":\"");
        Dates::at(self.unix).put_rfc3339(json);
        json.push(b'"');
        let mut member = |name, value: &[u8]| {
            json_member(name, value, &mut |bytes| json.extend_from_slice(bytes));
        };
        member("client", self.client.as_bytes());
        member("head", &self.head);
        member("body", &self.body);
        let status = self.status.code();
        json.extend_from_slice(format!(",\"status\":{status},\"duration\":").as_bytes());
        json.extend_from_slice(&decimal::seconds(self.duration));
        json.push(b'}');
    }
}

/// The start of a head, in which the values of secret fields are replaced by their lengths.
fn redacted_head(request: &Request) -> Vec<u8> {
    let line_end = request
        .head()
        .iter()
        .position(|byte| *byte == b'\r')
        .unwrap_or_default();
    let mut head = [&request.head()[..line_end], b"\r\n"].concat();
    for ((name, value), (_, lower)) in request.fields().zip(request.lower_names()) {
        let length;
        let shown = match lower {
            "authorization" | "cookie" | "proxy-authorization" => {
                length = format!("({} bytes)", value.len());
                length.as_bytes()
            }
            _ => value,
        };
        head.extend([name, b": ", shown, b"\r\n"].concat());
    }
    head.truncate(limits::RECENT_HEAD_BYTES);
    head
}

/// Lists the last requests.
pub fn list_requests(exchange: &Exchange<'_>, out: &mut OutputBuffer<'_>) -> Sent {
    exchange
        .head(Status::OK, out)
        .body(JSON, &exchange.app.recent.json())
}
