//! Notes: what a person who debugs a proxy should see in a request, each as one sentence.
//!
//! A request is looked through once ([`find`]); a request with nothing odd costs nothing more. The
//! table `NOTES` has a line for each note, which names the value that is odd.

use crate::app::Exchange;
use crate::http::field;
use crate::http::field_name::{FieldName, FieldNames};
use crate::http::request::{Request, Version};

/// Which notes apply to a request: a bit for each line of `NOTES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes(u32);

/// The pieces of a sentence.
type Sentence<'a> = [&'a [u8]; 5];

/// A note: when it applies to a request, and the sentence.
struct Note {
    applies: fn(&Exchange<'_>) -> bool,
    sentence: for<'a> fn(&'a Exchange<'a>) -> Sentence<'a>,
}

/// Every note, in the order in which they are shown.
const NOTES: [Note; 10] = [
    Note {
        applies: |exchange| {
            exchange.request.has(FieldName::XForwardedFor) && !exchange.peer_trusted
        },
        sentence: |exchange| {
            [
                b"X-Forwarded-For \"",
                exchange.request.value(FieldName::XForwardedFor),
                b"\" is not believed: the peer ",
                exchange.peer.as_bytes(),
                b" is not in trusted-proxies",
            ]
        },
    },
    Note {
        applies: |exchange| {
            exchange.request.has(FieldName::Forwarded) && disagree(exchange.request)
        },
        sentence: |exchange| {
            [
                b"X-Forwarded-For \"",
                exchange.request.value(FieldName::XForwardedFor),
                b"\" and Forwarded \"",
                exchange.request.value(FieldName::Forwarded),
                b"\" name different clients",
            ]
        },
    },
    Note {
        applies: |exchange| {
            let request = exchange.request;
            let host = request.value(FieldName::Host);
            request.has(FieldName::XForwardedHost)
                && !request
                    .value(FieldName::XForwardedHost)
                    .eq_ignore_ascii_case(host)
        },
        sentence: |exchange| {
            [
                b"X-Forwarded-Host \"",
                exchange.request.value(FieldName::XForwardedHost),
                b"\" differs from Host \"",
                exchange.request.value(FieldName::Host),
                b"\": a proxy rewrote Host",
            ]
        },
    },
    Note {
        applies: |exchange| {
            let proto = exchange.request.values(FieldName::XForwardedProto).next();
            proto.is_some_and(|value| !matches!(value, b"http" | b"https" | b"ws" | b"wss"))
        },
        sentence: |exchange| {
            [
                b"X-Forwarded-Proto \"",
                exchange.request.value(FieldName::XForwardedProto),
                b"\" is not one of http, https, ws and wss",
                b"",
                b"",
            ]
        },
    },
    Note {
        applies: |exchange| {
            let present = exchange.request.present();
            present.intersects(PROXIED)
                && present.intersects(const { FieldNames::of(&HOP_BY_HOP) })
                && hop_by_hop(exchange.request).is_some()
        },
        sentence: |exchange| {
            let (name, value) = hop_by_hop(exchange.request).unwrap_or_default();
            [
                name,
                b" \"",
                value,
                b"\" is a hop-by-hop field",
                b"; a proxy should have removed it",
            ]
        },
    },
    Note {
        applies: |exchange| exchange.request.repeated().intersects(SINGLE),
        sentence: |exchange| {
            let repeated = exchange.request.repeated().and(SINGLE).first();
            let name = repeated.map_or("", FieldName::label).as_bytes();
            [
                name,
                b" stands more than once; only one is allowed",
                b"",
                b"",
                b"",
            ]
        },
    },
    Note {
        applies: |exchange| exchange.request.has_underscore(),
        sentence: |exchange| {
            let name = exchange
                .request
                .fields()
                .map(|(name, _)| name)
                .find(|name| name.contains(&b'_'));
            let name = name.unwrap_or_default();
            [
                b"the field name ",
                name,
                b" has an underscore: nginx and others drop it",
                b"",
                b"",
            ]
        },
    },
    Note {
        applies: |exchange| is_odd_path(exchange.request.path()),
        sentence: |exchange| {
            let path = exchange.request.path();
            let shown = |part: &'static str| if has_part(path, part) { part } else { "" };
            let [a, b, c, d] = ODD_PARTS.map(|part| shown(part).as_bytes());
            [b"the path has parts that many proxies rewrite:", a, b, c, d]
        },
    },
    Note {
        applies: |exchange| exchange.request.version == Version::Http10,
        sentence: |exchange| {
            let version = exchange.request.version.label().as_bytes();
            [
                b"the request came as ",
                version,
                b": no chunked bodies, and a connection",
                b" for each",
                b" request unless keep-alive is asked for",
            ]
        },
    },
    Note {
        applies: |exchange| exchange.decision.health_check,
        sentence: |exchange| {
            let agent = exchange.request.value(FieldName::UserAgent);
            [
                b"User-Agent \"",
                agent,
                b"\" is a health check",
                b": no random delay",
                b" and no injected error",
            ]
        },
    },
];

/// User agents of health checks begin with one of these. A chart's default probe asks `/` with a
/// time limit of 1 s; delayed, it would restart the pod.
pub const HEALTH_CHECKS: [&str; 5] = [
    "kube-probe/",
    "GoogleHC/",
    "ELB-HealthChecker/",
    "Consul Health Check",
    "Blackbox",
];

/// Whether a request is a health check, by its user agent.
pub fn is_health_check(request: &Request) -> bool {
    let agent = request.value(FieldName::UserAgent);
    HEALTH_CHECKS
        .iter()
        .any(|check| agent.starts_with(check.as_bytes()))
}

/// The notes that apply to a request.
pub fn find(exchange: &Exchange<'_>) -> Notes {
    let places = NOTES.iter().enumerate();
    let bits = places.map(|(place, note)| u32::from((note.applies)(exchange)) << place);
    Notes(bits.fold(0, |bits, bit| bits | bit))
}

impl Notes {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Hands on each note as the pieces of its sentence.
    pub fn for_each(self, exchange: &Exchange<'_>, mut each: impl FnMut(&[&[u8]])) {
        let mut left = self.0;
        while let Some(note) = NOTES.get(left.trailing_zeros() as usize) {
            each(&(note.sentence)(exchange));
            left &= left - 1;
        }
    }
}

/// Fields that may stand only once.
const SINGLE: FieldNames = FieldNames::of(&[
    FieldName::Authorization,
    FieldName::ContentLocation,
    FieldName::ContentType,
    FieldName::Date,
    FieldName::From,
    FieldName::IfModifiedSince,
    FieldName::IfUnmodifiedSince,
    FieldName::MaxForwards,
    FieldName::ProxyAuthorization,
    FieldName::Referer,
    FieldName::Traceparent,
    FieldName::UserAgent,
    FieldName::XForwardedHost,
    FieldName::XForwardedProto,
    FieldName::XRequestId,
]);

/// Hop-by-hop fields that end at a proxy (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [FieldName; 7] = [
    FieldName::KeepAlive,
    FieldName::ProxyConnection,
    FieldName::ProxyAuthenticate,
    FieldName::ProxyAuthorization,
    FieldName::Te,
    FieldName::Trailer,
    FieldName::Upgrade,
];

/// Fields that a request has only because of a proxy.
const PROXIED: FieldNames = FieldNames::of(&[
    FieldName::Via,
    FieldName::Forwarded,
    FieldName::XForwardedFor,
    FieldName::XForwardedProto,
    FieldName::ProxyConnection,
    FieldName::ProxyAuthenticate,
    FieldName::ProxyAuthorization,
]);

/// Whether `X-Forwarded-For` and `Forwarded` (RFC 7239) name different clients.
fn disagree(request: &Request) -> bool {
    let first = request
        .values(FieldName::XForwardedFor)
        .flat_map(field::list)
        .next();
    let forwarded = request
        .values(FieldName::Forwarded)
        .flat_map(field::list)
        .next()
        .unwrap_or_default();
    let mut pairs = forwarded
        .split(|byte| *byte == b';')
        .map(<[u8]>::trim_ascii);
    let client = pairs.find(|pair| pair.len() > 4 && pair[..4].eq_ignore_ascii_case(b"for="));
    match (first, client) {
        (Some(first), Some(client)) => {
            !bare_address(&client[4..]).eq_ignore_ascii_case(bare_address(first))
        }
        _ => false,
    }
}

/// An address without quotes, brackets and port.
fn bare_address(text: &[u8]) -> &[u8] {
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let text = text.strip_suffix(b"\"").unwrap_or(text);
    if let Some(inside) = text.strip_prefix(b"[") {
        return inside
            .split(|byte| *byte == b']')
            .next()
            .unwrap_or_default();
    }
    let mut parts = text.split(|byte| *byte == b':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(address), Some(_), None) => address,
        _ => text,
    }
}

/// The first hop-by-hop field that a proxy should have removed.
fn hop_by_hop(request: &Request) -> Option<(&[u8], &[u8])> {
    let is_hop = |name: &[u8]| {
        HOP_BY_HOP
            .iter()
            .any(|hop| name.eq_ignore_ascii_case(hop.label().as_bytes()))
    };
    // A proxy passes a WebSocket handshake on with the same fields.
    let websocket = |value: &[u8]| value.eq_ignore_ascii_case(b"websocket");
    request
        .fields()
        .find(|(name, value)| is_hop(name) && !websocket(value))
}

/// Parts of a path that proxies rewrite, as a note lists them.
const ODD_PARTS: [&str; 4] = [" //", " /./", " /../", " %2f"];

/// Whether a path has one of these parts.
fn has_part(path: &str, part: &str) -> bool {
    match part.trim_start() {
        "%2f" => path.contains("%2f") || path.contains("%2F"),
        "//" => path.contains("//"),
        part => path.contains(part) || path.ends_with(part.trim_end_matches('/')),
    }
}

/// Whether a path has a part that proxies rewrite.
fn is_odd_path(path: &str) -> bool {
    // Most paths hold none of these pairs and need not be searched for each part.
    let suspicious = |pair: &[u8]| matches!(pair, b"//" | b"/." | b"%2");
    path.as_bytes().windows(2).any(suspicious) && ODD_PARTS.iter().any(|part| has_part(path, part))
}
