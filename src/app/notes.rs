//! Notes: what a person who debugs a proxy should see in a request, each as one sentence.
//!
//! A request is looked through once ([`find`]); a request with nothing odd costs nothing more. The
//! table [`NOTES`] has a line for each note, which names the value that is odd.

use crate::app::Exchange;
use crate::http::field;
use crate::http::request::{Request, Version};

/// Which notes a request deserves: a bit for each line of [`NOTES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes(u32);

/// The pieces of a sentence.
type Sentence<'a> = [&'a [u8]; 5];

/// A note: when a request deserves it, and the sentence.
struct Note {
    deserved: fn(&Exchange<'_>, &Fields) -> bool,
    sentence: for<'a> fn(&'a Exchange<'a>) -> Sentence<'a>,
}

/// Every note, in the order in which they are shown.
const NOTES: [Note; 10] = [
    Note {
        deserved: |exchange, fields| fields.forwarded_for && !exchange.peer_trusted,
        sentence: |exchange| {
            [
                b"X-Forwarded-For \"",
                exchange.request.value("x-forwarded-for"),
                b"\" is not believed: the peer ",
                exchange.peer.as_bytes(),
                b" is not in trusted-proxies",
            ]
        },
    },
    Note {
        deserved: |exchange, fields| {
            fields.forwarded_for && fields.forwarded && disagree(exchange.request)
        },
        sentence: |exchange| {
            [
                b"X-Forwarded-For \"",
                exchange.request.value("x-forwarded-for"),
                b"\" and Forwarded \"",
                exchange.request.value("forwarded"),
                b"\" name different clients",
            ]
        },
    },
    Note {
        deserved: |exchange, fields| {
            let request = exchange.request;
            let host = request.value("host");
            fields.forwarded_host && !request.value("x-forwarded-host").eq_ignore_ascii_case(host)
        },
        sentence: |exchange| {
            [
                b"X-Forwarded-Host \"",
                exchange.request.value("x-forwarded-host"),
                b"\" differs from Host \"",
                exchange.request.value("host"),
                b"\": a proxy rewrote Host",
            ]
        },
    },
    Note {
        deserved: |exchange, fields| {
            let mut values = exchange.request.values("x-forwarded-proto");
            fields.forwarded_proto
                && (values.any(|value| !matches!(value, b"http" | b"https" | b"ws" | b"wss"))
                    || exchange.request.values("x-forwarded-proto").count() > 1)
        },
        sentence: |exchange| {
            [
                b"X-Forwarded-Proto \"",
                exchange.request.value("x-forwarded-proto"),
                b"\" is not one of http, https, ws and wss, or stands twice",
                b"",
                b"",
            ]
        },
    },
    Note {
        deserved: |exchange, fields| {
            (fields.proxied || fields.proxy_hop) && hop_by_hop(exchange.request).is_some()
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
        deserved: |_, fields| fields.repeated.is_some(),
        sentence: |exchange| {
            let place = Fields::look_through(exchange.request).repeated;
            let name = place.map_or("", |place| SINGLE[place]).as_bytes();
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
        deserved: |_, fields| fields.underscore,
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
        deserved: |exchange, _| odd_path_part(exchange.request.path()).is_some(),
        sentence: |exchange| {
            let part = odd_path_part(exchange.request.path()).unwrap_or_default();
            [
                b"the path has ",
                part.as_bytes(),
                b", which many proxies rewrite",
                b"",
                b"",
            ]
        },
    },
    Note {
        deserved: |exchange, _| exchange.request.version == Version::Http10,
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
        deserved: |exchange, _| is_health_check(exchange.request),
        sentence: |exchange| {
            let agent = exchange.request.value("user-agent");
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
    let agent = request.value("user-agent");
    HEALTH_CHECKS
        .iter()
        .any(|check| agent.starts_with(check.as_bytes()))
}

/// The notes that a request deserves.
pub fn find(exchange: &Exchange<'_>) -> Notes {
    let fields = Fields::look_through(exchange.request);
    let bit =
        |(place, note): (usize, &Note)| u32::from((note.deserved)(exchange, &fields)) << place;
    Notes(
        NOTES
            .iter()
            .enumerate()
            .map(bit)
            .fold(0, |bits, bit| bits | bit),
    )
}

impl Notes {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Hands on each note as the pieces of its sentence.
    pub fn for_each(self, exchange: &Exchange<'_>, mut each: impl FnMut(&[&[u8]])) {
        for (place, note) in NOTES.iter().enumerate() {
            if self.0 & (1 << place) != 0 {
                each(&(note.sentence)(exchange));
            }
        }
    }
}

/// What one look through the fields tells.
#[derive(Default)]
struct Fields {
    forwarded_for: bool,
    forwarded: bool,
    forwarded_host: bool,
    forwarded_proto: bool,
    /// Whether a proxy left a trace.
    proxied: bool,
    /// Whether there is a field that only a client of a proxy sends.
    proxy_hop: bool,
    /// The first field that stands twice and may stand only once, by its place in [`SINGLE`].
    repeated: Option<usize>,
    underscore: bool,
}

impl Fields {
    fn look_through(request: &Request) -> Fields {
        let mut fields = Fields::default();
        let mut seen = 0u32;
        for (name, _) in request.fields() {
            let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
            if let Some(place) = SINGLE.iter().position(|single| is(single.as_bytes())) {
                fields.repeated = fields
                    .repeated
                    .or(Some(place).filter(|_| seen & 1 << place != 0));
                seen |= 1 << place;
            }
            match name.len() {
                3 => fields.proxied |= is(b"via"),
                9 => fields.forwarded |= is(b"forwarded"),
                15 => fields.forwarded_for |= is(b"x-forwarded-for"),
                16 => {
                    fields.forwarded_host |= is(b"x-forwarded-host");
                    fields.proxy_hop |= is(b"proxy-connection");
                }
                17 => fields.forwarded_proto |= is(b"x-forwarded-proto"),
                _ => {}
            }
            fields.proxy_hop |= name.len() > 6 && name[..6].eq_ignore_ascii_case(b"proxy-");
            fields.underscore |= name.contains(&b'_');
        }
        fields.proxied |= fields.forwarded_for || fields.forwarded || fields.forwarded_proto;
        fields
    }
}

/// Whether `X-Forwarded-For` and `Forwarded` (RFC 7239) name different clients.
fn disagree(request: &Request) -> bool {
    let first = request
        .values("x-forwarded-for")
        .flat_map(field::list)
        .next();
    let forwarded = request
        .values("forwarded")
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

/// The first hop-by-hop field that ends at a proxy (RFC 9110 section 7.6.1).
fn hop_by_hop(request: &Request) -> Option<(&[u8], &[u8])> {
    const NAMES: [&str; 7] = [
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "upgrade",
    ];
    let is_hop = |name: &[u8]| {
        NAMES
            .iter()
            .any(|hop| name.eq_ignore_ascii_case(hop.as_bytes()))
    };
    // A proxy passes a WebSocket handshake on with the same fields.
    let websocket = |value: &[u8]| value.eq_ignore_ascii_case(b"websocket");
    request
        .fields()
        .find(|(name, value)| is_hop(name) && !websocket(value))
}

/// Fields that may stand only once, in lower case.
const SINGLE: [&str; 14] = [
    "authorization",
    "content-location",
    "content-type",
    "date",
    "from",
    "if-modified-since",
    "if-unmodified-since",
    "max-forwards",
    "proxy-authorization",
    "referer",
    "traceparent",
    "user-agent",
    "x-forwarded-host",
    "x-request-id",
];

/// The first part of a path that proxies rewrite.
fn odd_path_part(path: &str) -> Option<&'static str> {
    // Most paths hold none of these pairs and need not be searched for each part.
    let suspicious = |pair: &[u8]| matches!(pair, b"//" | b"/." | b"%2");
    if !path.as_bytes().windows(2).any(suspicious) {
        return None;
    }
    let dots = |part: &str| path.contains(part) || path.ends_with(part.trim_end_matches('/'));
    match path {
        "/" | "*" => None,
        _ if path.contains("//") => Some("//"),
        _ if dots("/./") => Some("/./"),
        _ if dots("/../") => Some("/../"),
        _ if path.contains("%2f") || path.contains("%2F") => Some("%2f"),
        _ => None,
    }
}
