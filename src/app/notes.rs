//! Notes: what a person who debugs a proxy should see in a request, each as one sentence.
//!
//! A request is looked through once ([`find`]); a request with nothing odd costs nothing more. The
//! table `NOTES` has a line for each note: a function that finds the values that are odd, and the
//! words between them.

use crate::app::Exchange;
use crate::http::field;
use crate::http::field_name::FieldName::{
    self, Authorization, ContentLocation, ContentType, Date, Forwarded, From, Host,
    IfModifiedSince, IfUnmodifiedSince, KeepAlive, MaxForwards, ProxyAuthenticate,
    ProxyAuthorization, ProxyConnection, Referer, Te, Traceparent, Trailer, Upgrade, UserAgent,
    Via, XForwardedFor, XForwardedHost, XForwardedProto, XRequestId,
};
use crate::http::field_name::FieldNames;
use crate::http::request::{Request, Version};

/// Which notes apply to a request: a bit for each line of `NOTES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes(u32);

/// The values that a note names; the rest is empty.
type Values<'a> = [&'a [u8]; 4];

/// The values of a note, if it applies to a request.
type Find = for<'a> fn(&'a Exchange<'a>) -> Option<Values<'a>>;

/// Every note, in the order in which they are shown: the names of which a request with the note has
/// one, its values, and its words. After each of the words stands the next value.
#[rustfmt::skip]
const NOTES: [(Option<FieldNames>, Find, &[&str]); 10] = [
    (Some(FieldNames::of(&[XForwardedFor])), not_believed,
        &["X-Forwarded-For \"", "\" is not believed: the peer ", " is not in trusted-proxies"]),
    (Some(FieldNames::of(&[Forwarded])), other_client,
        &["X-Forwarded-For \"", "\" and Forwarded \"", "\" name different clients"]),
    (Some(FieldNames::of(&[XForwardedHost])), other_host,
        &["X-Forwarded-Host \"", "\" differs from Host \"", "\": a proxy rewrote Host"]),
    (Some(FieldNames::of(&[XForwardedProto])), odd_proto,
        &["X-Forwarded-Proto \"", "\" is not one of http, https, ws and wss"]),
    (Some(HOP_BY_HOP), hop_by_hop,
        &["", " \"", "\" is a hop-by-hop field; a proxy should have removed it"]),
    (Some(SINGLE), repeated,
        &["", " stands more than once; only one is allowed"]),
    (None, underscore,
        &["the field name ", " has an underscore: nginx and others drop it"]),
    (None, odd_path,
        &["the path has parts that many proxies rewrite:", "", "", ""]),
    (None, version_10,
        &["the request came as HTTP/1.0: no chunked bodies, and a connection for each request \
           unless keep-alive is asked for"]),
    (Some(FieldNames::of(&[UserAgent])), health_check,
        &["User-Agent \"", "\" is a health check: no random delay and no injected error"]),
];

/// User agents of health checks begin with one of these. A chart's default probe asks `/` with a
/// time limit of 1 s; a delayed response would make the kubelet restart the pod.
const HEALTH_CHECKS: [&[u8]; 5] = [
    b"kube-probe/",
    b"GoogleHC/",
    b"ELB-HealthChecker/",
    b"Consul Health Check",
    b"Blackbox",
];

/// Whether a request is a health check, by its user agent.
pub fn is_health_check(request: &Request) -> bool {
    let agent = request.value(UserAgent);
    HEALTH_CHECKS.iter().any(|check| agent.starts_with(check))
}

/// The notes that apply to a request.
pub fn find(exchange: &Exchange<'_>) -> Notes {
    let present = exchange.request.present();
    let bits = NOTES.iter().enumerate().map(|(place, (names, find, _))| {
        let may_apply = names.is_none_or(|names| present.intersects(names));
        u32::from(may_apply && find(exchange).is_some()) << place
    });
    Notes(bits.fold(0, |bits, bit| bits | bit))
}

impl Notes {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Hands on each note as its words and the values that stand after each of them.
    pub fn for_each(self, exchange: &Exchange<'_>, mut each: impl FnMut(&[&str], Values<'_>)) {
        let mut left = self.0;
        while let Some((_, find, words)) = NOTES.get(left.trailing_zeros() as usize) {
            each(words, find(exchange).unwrap_or_default());
            left &= left - 1;
        }
    }
}

/// Fields that may stand only once.
#[rustfmt::skip]
const SINGLE: FieldNames = FieldNames::of(&[
    Authorization, ContentLocation, ContentType, Date, From, IfModifiedSince, IfUnmodifiedSince,
    MaxForwards, ProxyAuthorization, Referer, Traceparent, UserAgent, XForwardedHost,
    XForwardedProto, XRequestId,
]);

/// Hop-by-hop fields that end at a proxy (RFC 9110 section 7.6.1).
#[rustfmt::skip]
const HOP_BY_HOP: FieldNames = FieldNames::of(&[
    KeepAlive, ProxyConnection, ProxyAuthenticate, ProxyAuthorization, Te, Trailer, Upgrade,
]);

/// Fields that a request has only because of a proxy.
#[rustfmt::skip]
const PROXIED: FieldNames = FieldNames::of(&[
    Via, Forwarded, XForwardedFor, XForwardedProto, ProxyConnection, ProxyAuthenticate,
    ProxyAuthorization,
]);

fn not_believed<'a>(exchange: &'a Exchange<'_>) -> Option<Values<'a>> {
    let claims = exchange.request.values(XForwardedFor).next()?;
    (!exchange.peer_trusted).then_some([claims, exchange.peer.as_bytes(), b"", b""])
}

/// `X-Forwarded-For` and `Forwarded` (RFC 7239) name different clients.
fn other_client<'a>(exchange: &'a Exchange<'_>) -> Option<Values<'a>> {
    let request = exchange.request;
    let first = |name| request.values(name).flat_map(field::list).next();
    let (hop, claimed) = (first(Forwarded)?, first(XForwardedFor)?);
    let mut pairs = hop.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let client = pairs.find(|pair| pair.len() > 4 && pair[..4].eq_ignore_ascii_case(b"for="))?;
    let differ = !bare_address(&client[4..]).eq_ignore_ascii_case(bare_address(claimed));
    let value = |name| request.value(name);
    differ.then(|| [value(XForwardedFor), value(Forwarded), b"", b""])
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

fn other_host<'a>(exchange: &'a Exchange<'_>) -> Option<Values<'a>> {
    let claimed = exchange.request.values(XForwardedHost).next()?;
    let host = exchange.request.value(Host);
    (!claimed.eq_ignore_ascii_case(host)).then_some([claimed, host, b"", b""])
}

fn odd_proto<'a>(exchange: &'a Exchange<'_>) -> Option<Values<'a>> {
    let proto = exchange.request.values(XForwardedProto).next()?;
    let known = matches!(proto, b"http" | b"https" | b"ws" | b"wss");
    (!known).then_some([proto, b"", b"", b""])
}

/// The first hop-by-hop field that a proxy should have removed.
fn hop_by_hop<'a>(exchange: &'a Exchange<'_>) -> Option<Values<'a>> {
    let request = exchange.request;
    if !request.present().intersects(PROXIED) {
        return None;
    }
    let is_hop = |name: Option<FieldName>| name.is_some_and(|name| HOP_BY_HOP.contains(name));
    // A proxy passes a WebSocket handshake on with the same fields.
    let websocket = |value: &[u8]| value.eq_ignore_ascii_case(b"websocket");
    let mut fields = request.fields().zip(request.lower_names());
    let ((name, value), _) =
        fields.find(|((_, value), (known, _))| is_hop(*known) && !websocket(value))?;
    Some([name, value, b"", b""])
}

fn repeated<'a>(exchange: &'a Exchange<'_>) -> Option<Values<'a>> {
    let name = exchange.request.repeated().and(SINGLE).first()?;
    Some([name.label().as_bytes(), b"", b"", b""])
}

fn underscore<'a>(exchange: &'a Exchange<'_>) -> Option<Values<'a>> {
    let request = exchange.request;
    let mut fields = request.has_underscore().then(|| request.fields())?;
    let (name, _) = fields.find(|(name, _)| name.contains(&b'_'))?;
    Some([name, b"", b"", b""])
}

fn odd_path<'a>(exchange: &'a Exchange<'_>) -> Option<Values<'a>> {
    let path = exchange.request.path();
    // Most paths hold none of these pairs and need not be searched for each part.
    let suspicious = |pair: &[u8]| matches!(pair, b"//" | b"/." | b"%2");
    if !path.as_bytes().windows(2).any(suspicious) {
        return None;
    }
    let parts = [
        (" //", path.contains("//")),
        (" /./", path.contains("/./") || path.ends_with("/.")),
        (" /../", path.contains("/../") || path.ends_with("/..")),
        (" %2f", path.contains("%2f") || path.contains("%2F")),
    ];
    let shown = parts.map(|(part, found)| if found { part } else { "" }.as_bytes());
    parts.iter().any(|(_, found)| *found).then_some(shown)
}

fn version_10<'a>(exchange: &'a Exchange<'_>) -> Option<Values<'a>> {
    (exchange.request.version == Version::Http10).then_some([b""; 4])
}

fn health_check<'a>(exchange: &'a Exchange<'_>) -> Option<Values<'a>> {
    let agent = || exchange.request.value(UserAgent);
    let is_check = exchange.decision.health_check;
    is_check.then(|| [agent(), b"", b"", b""])
}
