//! The echo: which request fields are copied into the response, and the response itself.
//!
//! A field is copied unless it would change what the response means to a cache, a browser, a proxy
//! or the framing. The one table below says which those are. Fields to copy stand in the head as
//! runs of lines and are copied run by run.

use std::ops::Range;

use crate::app::description::{Numbers, Sink, numbers};
use crate::app::negotiation::{self, Form};
use crate::app::notes::Notes;
use crate::app::{Exchange, description, notes, page};
use crate::http::field;
use crate::http::field_name::{FieldName, FieldNames};
use crate::http::output::OutputBuffer;
use crate::http::request::{Method, Request};
use crate::http::response::{HTML, JSON, Sent, TEXT};
use crate::http::status::Status;
use crate::http::websocket::frames::{Opcode, frame_header};
use crate::http::websocket::handshake::Accept;

/// Whether a field with this name, in lower case, is not copied into the response. The letter before
/// each line says why:
///
/// - h: they speak of this connection or of the transfer (RFC 9110 section 7.6.1);
/// - r: they describe a representation, or how long caches may keep it;
/// - b: by these a server commands a browser, which would obey whoever made it send the request;
/// - p: by these a server commands a proxy or a cache: one of them lets a client eject the pod from
///   an Envoy cluster, another lets a cache keep the response;
/// - s: the server sets these itself.
#[rustfmt::skip]
fn is_withheld(name: &str) -> bool {
    let starts = |start: &str| name.starts_with(start);
    // `CDN-Cache-Control` and its like are `Cache-Control` for one cache.
    name.ends_with("cache-control") || match name.as_bytes().first().copied().unwrap_or_default() {
        b'a' =>
            /* r */ matches!(name, "accept-ranges" | "age")
            /* b */ || matches!(name, "activate-storage-access" | "allow" | "alt-svc"
                        | "authentication-info")
                    || starts("accept-ch") || starts("access-control-") || starts("ad-auction-")
                    || starts("attribution-reporting-"),
        b'c' =>
            /* h */ name == "connection"
            /* r */ || starts("content-")
            /* b */ || matches!(name, "clear-site-data" | "critical-ch")
                    || starts("cross-origin-")
            /* p */ || name == "cf-edge-cache" || starts("cache-group") || starts("cache-tag")
                    || starts("cdn-"),
        b'd' =>
            /* r */ name == "digest"
            /* b */ || name == "deprecation" || starts("document-policy")
            /* s */ || name == "date",
        b'e' =>
            /* r */ matches!(name, "etag" | "expires")
            /* p */ || starts("edge-") || starts("endpoint-load-metrics"),
        b'f' =>
            /* b */ name == "feature-policy"
            /* p */ || starts("fastly-"),
        b'g' => /* p */ starts("grpc-"),
        b'i' => /* b */ starts("integrity-policy"),
        b'k' => /* h */ name == "keep-alive",
        b'l' =>
            /* r */ name == "last-modified"
            /* b */ || matches!(name, "link" | "location")
            /* p */ || starts("l5d-"),
        b'n' =>
            /* b */ matches!(name, "nel" | "no-vary-search")
            /* p */ || starts("netlify-"),
        b'o' =>
            /* b */ matches!(name, "observe-browsing-topics" | "origin-agent-cluster"
                        | "origin-trial"),
        b'p' =>
            /* h */ starts("proxy-")
            /* r */ || name == "pragma"
            /* b */ || name == "permissions-policy" || starts("public-key-pins"),
        b'r' =>
            /* r */ name == "repr-digest"
            /* b */ || matches!(name, "referrer-policy" | "refresh" | "report-to"
                        | "reporting-endpoints" | "retry-after"),
        b's' =>
            /* b */ matches!(name, "service-worker-allowed" | "set-login"
                        | "shared-storage-write" | "sourcemap" | "speculation-rules"
                        | "strict-transport-security" | "sunset" | "supports-loading-mode")
                    || starts("sec-session-") || starts("secure-session-")
                    || starts("set-cookie")
            /* p */ || starts("surrogate-")
            /* s */ || matches!(name, "sec-websocket-accept" | "sec-websocket-version"
                        | "server" | "server-timing"),
        b't' =>
            /* h */ matches!(name, "te" | "trailer" | "transfer-encoding")
            /* b */ || name == "timing-allow-origin",
        b'u' =>
            /* h */ name == "upgrade"
            /* b */ || name == "use-as-dictionary",
        b'v' =>
            /* r */ name == "vary"
            /* s */ || name == "version",
        b'w' => /* b */ matches!(name, "warning" | "www-authenticate"),
        b'x' =>
            /* b */ matches!(name, "x-dns-prefetch-control" | "x-download-options"
                        | "x-frame-options" | "x-permitted-cross-domain-policies"
                        | "x-robots-tag" | "x-sourcemap" | "x-ua-compatible" | "x-xss-protection")
                    || starts("x-content-security-policy") || starts("x-webkit-csp")
            /* p */ || matches!(name, "x-cache-tags" | "x-compress-hint" | "xkey")
                    || starts("x-accel-") || starts("x-accelerator-") || starts("x-envoy-")
                    || starts("x-esi") || starts("x-lighttpd-") || starts("x-litespeed-")
                    || starts("x-middleware-") || starts("x-reproxy-") || starts("x-sendfile")
            /* s */ || matches!(name, "x-content-type-options" | "x-request-id"),
        _ => false,
    }
}

/// The names with a meaning here that are copied, so that most names need no look at the table.
pub fn copied_names() -> FieldNames {
    let mut copied = FieldNames::default();
    for name in FieldName::ALL {
        if !is_withheld(name.label()) {
            copied.insert(*name);
        }
    }
    copied
}

/// Hands on the runs of fields to copy, in the order they came. `copied` are [`copied_names`].
fn copied_runs(request: &Request, copied: FieldNames, mut put: impl FnMut(Range<usize>)) {
    // What the `Connection` fields name; a field of such a name ends at this hop. It is sorted,
    // because a hundred long options beside a hundred long fields would cost a millisecond
    // otherwise. It is no array, because every idle connection would keep the room for it in its
    // stack.
    let mut named = Vec::new();
    if request.names_fields {
        let options = request.values(FieldName::Connection).flat_map(field::list);
        named.extend(options.map(<[u8]>::to_ascii_lowercase));
        named.sort_unstable();
    }
    let is_named = |name: &str| {
        let found = named.binary_search_by(|named| named.as_slice().cmp(name.as_bytes()));
        found.is_ok()
    };
    let (mut start, mut count) = (0, 0);
    for (place, (known, name)) in request.lower_names().enumerate() {
        count = place + 1;
        let withheld = known.map_or_else(|| is_withheld(name), |known| !copied.contains(known));
        if withheld || is_named(name) {
            if start < place {
                put(start..place);
            }
            start = count;
        }
    }
    if start < count {
        put(start..count);
    }
}

/// Writes the echo.
pub fn respond(exchange: &Exchange<'_>, out: &mut OutputBuffer<'_>) -> Sent {
    let (request, found) = (exchange.request, notes::find(exchange));
    let mut head = exchange.head(Status::OK, out);
    let copied = exchange.app.copied_names;
    copied_runs(request, copied, |run| head.lines(request, run));
    if request.method == Method::Options {
        head = head.field("Allow", exchange.decision.allow());
    }
    head = head.server_timing(exchange.delay);
    let form = form(request);
    let content_type = match form {
        Form::Text => TEXT,
        Form::Json => JSON,
        Form::Html => HTML,
    };
    if form == Form::Html {
        head = head.field("Content-Security-Policy", page::POLICY);
    }
    if request.method == Method::Head {
        return head.no_body(content_type);
    }
    let numbers = &numbers(exchange);
    let mut length = 0;
    describe(exchange, form, numbers, found, &mut |bytes| {
        length += bytes.len() as u64;
    });
    let Some(fault) = exchange.decision.controls.fault else {
        return head.sized_body(content_type, length, |out| {
            describe(exchange, form, numbers, found, &mut |bytes| out.put(bytes));
        });
    };
    fault.body(head, content_type, length, |put| {
        describe(exchange, form, numbers, found, put);
    })
}

/// Puts out the description of the request in this form.
fn describe(exchange: &Exchange<'_>, form: Form, numbers: &Numbers, notes: Notes, put: Sink<'_>) {
    match form {
        Form::Text => description::text(exchange, numbers, notes, put),
        Form::Json => description::json(exchange, numbers, notes, put),
        Form::Html => page::html(exchange, numbers, notes, put),
    }
}

/// The form that a request gets. The page asks for its own path with GET, so it stands for no other
/// method.
fn form(request: &Request) -> Form {
    match negotiation::preferred(request.values(FieldName::Accept)) {
        Form::Html if !matches!(request.method, Method::Get | Method::Head) => Form::Text,
        form => form,
    }
}

/// Opens a WebSocket: the 101 response, and the description in JSON as the first message. `accept`
/// is the value of `Sec-WebSocket-Accept`.
pub fn websocket(exchange: &Exchange<'_>, accept: &Accept, out: &mut OutputBuffer<'_>) -> Sent {
    let head = exchange.head(Status::SWITCHING_PROTOCOLS, out);
    let sent = head.server_timing(exchange.delay).websocket(accept);
    let mut message = Vec::new();
    let numbers = numbers(exchange);
    description::json(exchange, &numbers, notes::find(exchange), &mut |bytes| {
        message.extend_from_slice(bytes);
    });
    out.put(&frame_header(Opcode::Text, message.len()));
    out.put(&message);
    sent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fields: &str, copied: &str) {
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        let mut request = Request::default();
        assert!(request.parse(head.as_bytes(), 1 << 20).unwrap().is_some());
        let mut lines = Vec::new();
        copied_runs(&request, copied_names(), |run| {
            lines.extend_from_slice(request.lines(run));
        });
        assert_eq!(String::from_utf8(lines).unwrap(), copied);
    }

    #[test]
    fn copies_in_runs() {
        check("Host: a\r\n", "Host: a\r\n");
        let fields = "X-A: 1\r\nHost:a\r\nx-a:  2 \r\n";
        check(fields, fields);
        let withheld = "ETag: x\r\nHost: a\r\nTE: x\r\nAge: 1\r\nAccept: b\r\nLink: x\r\n";
        check(withheld, "Host: a\r\nAccept: b\r\n");
        check(
            "Connection: x-a, close\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\n",
            "Host: a\r\nX-B: 2\r\n",
        );
        let named = "Host: a\r\nConnection: x\r\nConnection: y\r\nX: 1\r\nY: 2\r\nZ: 3\r\n";
        check(named, "Host: a\r\nZ: 3\r\n");
    }
}
