//! What the echo gives back: which request fields may stand in its response, and the body that describes the request.
//!
//! A field is copied unless it would change what the response means to a cache, a browser, a proxy or the framing; the
//! one table below says which those are. The lines to copy stand in the head as runs, and are copied run by run. The
//! description is walked twice, once to count its length and once to write it, so that it needs no memory of its own.

use std::time::Duration;

use crate::request::Request;
use crate::response::Value;
use crate::text;

/// Fields that are not copied, in lower case; a `*` at one end stands for whatever comes there.
const WITHHELD: [&str; 55] = [
    // They speak of this connection, or of the transfer (RFC 9110 section 7.6.1).
    "connection", "keep-alive", "proxy-*", "te", "trailer", "transfer-encoding", "upgrade",
    // They describe a representation or how long it stays fresh: here they would describe the description.
    "content-*", "etag", "last-modified", "age", "expires", "vary", "pragma", "*cache-control", "surrogate-*",
    "cache-tag", "accept-ranges", "digest", "repr-digest",
    // By these a server commands a browser, which would obey whoever made it send the request.
    "set-cookie", "set-cookie2", "location", "refresh", "link", "clear-site-data", "strict-transport-security",
    "access-control-*", "cross-origin-*", "permissions-policy", "referrer-policy", "x-frame-options", "nel",
    "report-to", "reporting-endpoints", "service-worker-allowed", "sourcemap", "timing-allow-origin", "accept-ch",
    "alt-svc", "www-authenticate", "authentication-info", "retry-after",
    // By these a server commands a proxy; one of them lets a client eject the pod from an Envoy cluster.
    "x-accel-*", "x-sendfile", "x-lighttpd-*", "x-litespeed-*", "x-reproxy-*", "x-envoy-*",
    // The server sets these itself.
    "version", "date", "server", "server-timing", "x-content-type-options", "x-request-id",
];

/// Whether a field is copied into the response; those that `Connection` names are not either.
fn is_copied(name: &str) -> bool {
    let mut candidates = candidates(name.as_bytes());
    while candidates != 0 {
        if matches(WITHHELD[candidates.trailing_zeros() as usize], name) {
            return false;
        }
        candidates &= candidates - 1;
    }
    true
}

/// The patterns, as bits, that fit the first letter, the third and the length of a name: for most names none is left to
/// be compared.
fn candidates(name: &[u8]) -> u64 {
    match name {
        [first, _, third, ..] => FIRST[letter(*first)] & THIRD[letter(*third)] & LENGTH[name.len().min(31)],
        _ => u64::MAX >> (64 - WITHHELD.len()),
    }
}

const fn letter(byte: u8) -> usize {
    (byte & 31) as usize
}

const FIRST: [u64; 32] = index_by_letter(0);
const THIRD: [u64; 32] = index_by_letter(2);
const LENGTH: [u64; 32] = {
    let (mut index, mut i) = ([0; 32], 0);
    while i < WITHHELD.len() * 32 {
        let (pattern, length) = (WITHHELD[i / 32].as_bytes(), i % 32);
        let last = pattern.len() - 1;
        let fits = if pattern[0] == b'*' || pattern[last] == b'*' { length >= last } else { length == last + 1 };
        index[length] |= (fits as u64) << (i / 32);
        i += 1;
    }
    index
};

const fn index_by_letter(place: usize) -> [u64; 32] {
    let (mut index, mut i) = ([0; 32], 0);
    while i < WITHHELD.len() * 32 {
        let pattern = WITHHELD[i / 32].as_bytes();
        let fits = pattern[0] == b'*' || place >= pattern.len() || letter(pattern[place]) == i % 32;
        index[i % 32] |= (fits as u64) << (i / 32);
        i += 1;
    }
    index
}

fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    match pattern {
        [start @ .., b'*'] => name.get(..start.len()).is_some_and(|name| text::same_name(name, start)),
        [b'*', end @ ..] => {
            let from = name.len().checked_sub(end.len());
            from.is_some_and(|from| text::same_name(&name[from..], end))
        }
        _ => text::same_name(name, pattern),
    }
}

/// Hands on the field lines to copy, run by run, in the order they came.
pub fn copied_lines<'a>(request: &Request<'a>, mut put: impl FnMut(Value<'a>)) {
    let mut run_start = 0;
    for (i, field) in request.fields.iter().enumerate() {
        let named = || request.values("connection").flat_map(text::list).any(|option| same(option, field.name));
        if !is_copied(field.name) || (request.names_fields && named()) {
            put_run(request, run_start, i, &mut put);
            run_start = i + 1;
        }
    }
    put_run(request, run_start, request.fields.len(), &mut put);
}

fn same(option: &[u8], name: &str) -> bool {
    option.eq_ignore_ascii_case(name.as_bytes())
}

fn put_run<'a>(request: &Request<'a>, from: usize, to: usize, put: &mut impl FnMut(Value<'a>)) {
    if from < to {
        put(Value::checked_lines(&request.head[request.line_start(from)..request.line_start(to)]));
    }
}

/// What the description tells besides the request: each value is text as it is shown.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The address of the client.
    pub client: &'a str,
    /// The address and port of the peer.
    pub peer: &'a str,
    /// The address and port that the peer connected to.
    pub local: &'a str,
    /// Names and values that stay the same for the whole process.
    pub process: &'a [(&'static str, String)],
    /// The same as lines of text.
    pub process_text: &'a [u8],
    /// The injected delay.
    pub delay: Duration,
    /// The body, if it is UTF-8.
    pub body: Option<&'a str>,
    /// How long the body is.
    pub body_bytes: usize,
}

/// The name of the request's version.
pub fn protocol(http10: bool) -> &'static str {
    if http10 { "HTTP/1.0" } else { "HTTP/1.1" }
}

/// Puts out the description, as JSON or as text.
pub fn describe(json: bool, request: &Request<'_>, facts: &Facts<'_>, put: impl FnMut(&[u8])) {
    if json { describe_json(request, facts, put) } else { describe_text(request, facts, put) }
}

/// Puts out the description as text: the facts, an empty line, the head exactly as it arrived, then the body.
fn describe_text(request: &Request<'_>, facts: &Facts<'_>, mut put: impl FnMut(&[u8])) {
    put(b"method: ");
    put(request.method_text.as_bytes());
    put(b"\ntarget: ");
    put(request.target.as_bytes());
    put(if request.http10 { b"\nprotocol: HTTP/1.0\nclient: " } else { b"\nprotocol: HTTP/1.1\nclient: " });
    put(facts.client.as_bytes());
    put(b"\ndelay: ");
    put(&text::seconds(facts.delay));
    put(b"\npeer: ");
    put(facts.peer.as_bytes());
    put(b"\nlocal: ");
    put(facts.local.as_bytes());
    put(facts.process_text);
    put(request.head);
    match facts.body {
        Some(body) => put(body.as_bytes()),
        None => put(format!("({} bytes, not UTF-8)\n", facts.body_bytes).as_bytes()),
    }
}

/// Puts out the description as one JSON object, every field and the body included.
fn describe_json(request: &Request<'_>, facts: &Facts<'_>, mut put: impl FnMut(&[u8])) {
    let delay = text::seconds(facts.delay);
    let strings = [
        ("method", request.method_text),
        ("target", request.target),
        ("protocol", protocol(request.http10)),
        ("client", facts.client),
        ("peer", facts.peer),
        ("local", facts.local),
    ];
    put(b"{\"delay\":");
    put(&delay);
    for (name, value) in strings.into_iter().chain(facts.process.iter().map(|(name, value)| (*name, value.as_str()))) {
        put(b",\"");
        put(name.as_bytes());
        put(b"\":");
        text::json_string(value.as_bytes(), &mut put);
    }
    put(b",\"headers\":[");
    for (i, field) in request.fields.iter().enumerate() {
        put(if i == 0 { b"[" } else { b",[" });
        text::json_string(field.name.as_bytes(), &mut put);
        put(b",");
        text::json_string(field.value, &mut put);
        put(b"]");
    }
    put(b"],\"body\":");
    match facts.body {
        Some(body) => text::json_string(body.as_bytes(), &mut put),
        None => put(b"null"),
    }
    put(b",\"body_bytes\":");
    put(&text::decimal(facts.body_bytes as u64));
    put(b"}\n");
}

/// Whether an `Accept` value prefers `application/json` to `text/plain` (RFC 9110 section 12.5.1).
///
/// At equal weight the one that stands first in the list wins, and a range such as `*/*` asks for neither.
pub fn prefers_json(accept: &[u8]) -> bool {
    // Few clients name JSON or plain text, whole or as `/*`: the letter behind the slash tells without taking it apart.
    let names_either = |w: &[u8]| w[1] == b'/' && w[0] != b'*' && b"*jJpP".contains(&w[2]);
    accept.windows(3).any(names_either) && weighs_json_more(accept)
}

fn weighs_json_more(accept: &[u8]) -> bool {
    // Of each type the rank, the weight and the place of the range that decides: the most specific one that matches.
    let (mut json, mut text) = (Range::NONE, Range::NONE);
    for (place, item) in text::list(accept).enumerate() {
        let (range, parameters) = item.split_at(item.iter().position(|b| *b == b';').unwrap_or(item.len()));
        let range = range.trim_ascii_end();
        let rank_of = |names: [&str; 2]| match range {
            b"*/*" => Some(2),
            _ => names.iter().position(|name| same(range, name)),
        };
        let quality = || quality(parameters.split(|b| *b == b';').map(<[u8]>::trim_ascii));
        for (best, names) in [(&mut json, ["application/json", "application/*"]), (&mut text, ["text/plain", "text/*"])]
        {
            if let Some(rank) = rank_of(names).filter(|rank| *rank < best.rank) {
                *best = Range { rank, weight: quality(), place };
            }
        }
    }
    let first = json.rank < 2 && json.place < text.place;
    json.weight > text.weight || (json.weight == text.weight && json.weight > 0 && first)
}

/// What an `Accept` value says of a media type.
struct Range {
    rank: usize,
    weight: u32,
    place: usize,
}

impl Range {
    /// It does not name it.
    const NONE: Range = Range { rank: usize::MAX, weight: 0, place: usize::MAX };
}

/// The weight of a range in thousandths; 1000 without one, 0 for a malformed one.
fn quality<'a>(mut parameters: impl Iterator<Item = &'a [u8]>) -> u32 {
    let weight = parameters.find_map(|p| p.strip_prefix(b"q=").or_else(|| p.strip_prefix(b"Q=")));
    let Some(weight) = weight else { return 1000 };
    match weight {
        [b'1', ..] => 1000,
        [b'0', b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => {
            (0..3).fold(0, |sum, i| sum * 10 + digits.get(i).map_or(0, |digit| u32::from(digit - b'0')))
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::read_for_test;

    #[track_caller]
    fn check(fields: &str, copied: &str) {
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        let lines = read_for_test(head.as_bytes(), |request| {
            let mut wire = Vec::new();
            let mut out = crate::response::Out::new(Vec::new(), &mut wire);
            let preamble = crate::response::Preamble {
                common: b"",
                date: b"",
                request_id: b"",
                http10: false,
                head_only: true,
                close: false,
            };
            let mut head = crate::response::Head::new(&mut out, crate::response::Status::OK, &preamble);
            copied_lines(request, |lines| head.lines(lines));
            head.no_body("t");
            out.flush();
            String::from_utf8(wire).unwrap()
        });
        let start = "HTTP/1.1 200 OK\r\nDate: \r\nX-Request-Id: \r\n";
        assert_eq!(lines.unwrap(), format!("{start}{copied}Content-Type: t\r\n\r\n"));
    }

    #[test]
    fn copies_in_runs() {
        check("Host: a\r\n", "Host: a\r\n");
        check("X-A: 1\r\nHost:a\r\nx-a:  2 \r\n", "X-A: 1\r\nHost:a\r\nx-a:  2 \r\n");
        check("ETag: x\r\nHost: a\r\nTE: x\r\nAge: 1\r\nAccept: b\r\nLink: x\r\n", "Host: a\r\nAccept: b\r\n");
        check("Connection: x-a, close\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\n", "Host: a\r\nX-B: 2\r\n");
        check("Host: a\r\nConnection: x\r\nConnection: y\r\nX: 1\r\nY: 2\r\nZ: 3\r\n", "Host: a\r\nZ: 3\r\n");
    }

    #[test]
    fn withholds_what_the_table_names() {
        for pattern in WITHHELD {
            let name = pattern.replace('*', "x");
            for name in [name.clone(), name.to_uppercase(), pattern.replace('*', "")] {
                assert!(!is_copied(&name), "{name}");
            }
        }
        for name in [
            "Host", "Accept", "Accept-Encoding", "If-Match", "Range", "User-Agent", "Cookie", "Authorization",
            "X-Forwarded-For", "Origin", "Referer", "a", "l", "Via", "X-Accel", "Proxy", "Serve", "Sec-Fetch-Mode",
        ] {
            assert!(is_copied(name), "{name}");
        }
    }

    #[test]
    fn describes() {
        let process = [("hostname", "h".to_owned())];
        let facts = Facts {
            client: "1.2.3.4",
            peer: "1.2.3.4:5",
            local: "[::1]:80",
            process: &process,
            process_text: b"\nhostname: h\n\n",
            delay: Duration::from_millis(1_500),
            body: None,
            body_bytes: 0,
        };
        let head = "GET /a?\"b HTTP/1.1\r\nHost: a\r\n\r\n";
        let described = |body: &[u8], json: bool| {
            let written = read_for_test(head.as_bytes(), |request| {
                let mut bytes = Vec::new();
                let facts = Facts { body: str::from_utf8(body).ok(), body_bytes: body.len(), ..facts };
                describe(json, request, &facts, |b| bytes.extend_from_slice(b));
                String::from_utf8(bytes).unwrap()
            });
            written.unwrap()
        };
        let text = "method: GET\ntarget: /a?\"b\nprotocol: HTTP/1.1\nclient: 1.2.3.4\ndelay: 1.500000\npeer: 1.2.3.4:5\n\
                    local: [::1]:80\nhostname: h\n\n";
        assert_eq!(described("caf\u{e9}".as_bytes(), false), format!("{text}{head}caf\u{e9}"));
        assert_eq!(described(b"\xff\xfe", false), format!("{text}{head}(2 bytes, not UTF-8)\n"));
        let json = "{\"delay\":1.500000,\"method\":\"GET\",\"target\":\"/a?\\\"b\",\"protocol\":\"HTTP/1.1\",\
                    \"client\":\"1.2.3.4\",\"peer\":\"1.2.3.4:5\",\"local\":\"[::1]:80\",\"hostname\":\"h\",\
                    \"headers\":[[\"Host\",\"a\"]],\"body\":";
        assert_eq!(described(b"a\n", true), format!("{json}\"a\\n\",\"body_bytes\":2}}\n"));
        assert_eq!(described(b"\xff", true), format!("{json}null,\"body_bytes\":1}}\n"));
    }

    #[test]
    fn what_is_not_weighed_would_not_win() {
        let ranges =
            ["", "*/*", "text/html", "text/*", "text/plain", "application/*", "Application/JSON", "image/*", "a"];
        let weights = ["", ";q=0", ";q=0.4", ";q=0.8"];
        let items: Vec<String> = ranges.iter().flat_map(|r| weights.map(|w| format!("{r}{w}"))).collect();
        for (first, second) in items.iter().flat_map(|a| items.iter().map(move |b| (a, b))) {
            let accept = format!("{first}, {second}");
            assert_eq!(prefers_json(accept.as_bytes()), weighs_json_more(accept.as_bytes()), "{accept}");
        }
    }

    #[test]
    fn accepts() {
        for (accept, json) in [
            ("", false),
            ("*/*", false),
            ("text/html", false),
            ("application/json", true),
            ("APPLICATION/JSON", true),
            ("application/*", true),
            ("application/json, text/plain, */*", true),
            ("text/plain, application/json", false),
            ("text/plain;q=0.5, application/json", true),
            ("application/json;q=0.5, text/plain", false),
            ("application/json;q=0", false),
            ("application/json;q=0.001", true),
            ("*/*;q=0.1, application/json;q=0.2", true),
            ("text/html, */*;q=0.8", false),
            ("text/*, application/json;q=0.9", false),
        ] {
            assert_eq!(prefers_json(accept.as_bytes()), json, "{accept}");
        }
    }
}
