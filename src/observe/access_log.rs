//! The lines of the access log: one for each response, refused ones included.
//!
//! The text format is the combined log format, which every log tool reads, followed by the fields
//! that it lacks as `name=value`. The JSON format is one flat object. A line is complete when its
//! response is complete; only its last field, `complete`, depends on the write that follows.

use std::time::Duration;

use crate::config::level::Level;
use crate::http::date::Dates;
use crate::http::decimal;
use crate::http::error::RequestError;
use crate::http::field::truncated;
use crate::http::field_name::FieldName;
use crate::http::request::Request;
use crate::http::route::Route;
use crate::http::status::Status;
use crate::limits;
use crate::observe::escape;
use crate::observe::metrics::Faults;

/// What a line tells of a request. An absent value is empty.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The address of the client.
    pub client: &'a str,
    /// The address and port of the peer.
    pub peer: &'a str,
    /// The request, if what came could be parsed.
    pub request: Option<&'a Request>,
    /// What came instead of a request line.
    pub raw: &'a [u8],
    /// Where the request went.
    pub route: Route,
    /// The status of the response.
    pub status: Status,
    /// How much the line matters.
    pub level: Level,
    /// The bytes of the response, head and body.
    pub bytes: u64,
    /// From the request's first byte to the end of its response.
    pub duration: Duration,
    /// The injected delay.
    pub delay: Duration,
    /// The id of the request, a token.
    pub request_id: &'a [u8],
    /// Why the request was refused.
    pub refused: Option<RequestError>,
    /// The injected faults.
    pub faults: Faults,
    /// The messages that a WebSocket connection received.
    pub messages: Option<u64>,
}

/// How much the line of a response matters. `asked_for` says that the client asked for this status.
pub fn level(route: Route, status: Status, asked_for: bool) -> Level {
    match (route, status.code()) {
        (route, 400..) if route.is_probe() => Level::Warn,
        (route, _) if route.is_probe() || route == Route::Favicon => Level::Debug,
        (_, 500 | 503) if !asked_for => Level::Warn,
        _ => Level::Info,
    }
}

impl Entry<'_> {
    /// Adds the line to `out`.
    pub fn write(&self, dates: &Dates, json: bool, out: &mut Vec<u8>) {
        if json {
            self.write_json(dates, out);
        } else {
            self.write_text(dates, out);
        }
        out.extend_from_slice(ending(json, true));
    }

    fn write_text(&self, dates: &Dates, out: &mut Vec<u8>) {
        let client = self.client.as_bytes();
        put(out, [client, b" - - [", dates.common_log(), b"] \""]);
        self.write_request_line(out);
        let status = decimal::three_digits(self.status.code().into());
        let bytes = decimal::decimal(self.bytes);
        put(out, [b"\" ", &status, b" ", &bytes, b" \""]);
        escape::log_value(dash(self.value(FieldName::Referer)), out);
        put(out, [b"\" \""]);
        escape::log_value(dash(self.value(FieldName::UserAgent)), out);
        put(out, [b"\" level=", self.level.label().as_bytes()]);
        put(out, [b" peer=", self.peer.as_bytes()]);
        put(out, [b" route=", self.route.label().as_bytes()]);
        put(out, [b" delay=", &decimal::seconds(self.delay)]);
        put(out, [b" request_id=", self.request_id]);
        put(out, [b" trace_id=", dash(self.trace_id()), b" host=\""]);
        escape::log_value(self.value(FieldName::Host), out);
        put(out, [b"\" forwarded_for=\""]);
        self.forwarded_for(|bytes| escape::log_value(bytes, out));
        put(out, [b"\" reason=", dash(self.reason()), b" fault="]);
        self.put_faults(b"-", out);
        if let Some(messages) = self.messages {
            put(out, [b" messages=", &decimal::decimal(messages)]);
        }
        put(out, [b" duration=", &decimal::seconds(self.duration)]);
    }

    /// Adds the request line, or what came instead.
    fn write_request_line(&self, out: &mut Vec<u8>) {
        let Some(request) = self.request else {
            return escape::log_value(truncated(self.raw, limits::LOGGED_VALUE_BYTES), out);
        };
        let target = request.target().as_bytes();
        put(out, [self.method(), b" "]);
        escape::log_value(truncated(target, limits::LOGGED_TARGET_BYTES), out);
        put(out, [b" ", request.version.label().as_bytes()]);
    }

    fn write_json(&self, dates: &Dates, out: &mut Vec<u8>) {
        let (target, protocol) = match self.request {
            Some(request) => (request.target().as_bytes(), request.version.label()),
            None => (truncated(self.raw, limits::LOGGED_VALUE_BYTES), ""),
        };
        let target = whole_characters(target, limits::LOGGED_TARGET_BYTES);
        put(out, [b"{\"time\":\""]);
        dates.put_rfc3339(out);
        for (name, value) in [
            ("\",\"level\":\"", self.level.label().as_bytes()),
            ("\",\"client\":\"", self.client.as_bytes()),
            ("\",\"peer\":\"", self.peer.as_bytes()),
            ("\",\"method\":\"", self.method()),
            ("\",\"target\":\"", target),
            ("\",\"route\":\"", self.route.label().as_bytes()),
            ("\",\"protocol\":\"", protocol.as_bytes()),
            ("\",\"user_agent\":\"", self.value(FieldName::UserAgent)),
            ("\",\"referrer\":\"", self.value(FieldName::Referer)),
            ("\",\"request_id\":\"", self.request_id),
            ("\",\"trace_id\":\"", self.trace_id()),
            ("\",\"host\":\"", self.value(FieldName::Host)),
            ("\",\"reason\":\"", self.reason()),
        ] {
            put(out, [name.as_bytes()]);
            escape::json(value, &mut |bytes| out.extend_from_slice(bytes));
        }
        put(out, [b"\",\"fault\":\""]);
        self.put_faults(b"", out);
        put(out, [b"\",\"forwarded_for\":\""]);
        self.forwarded_for(|bytes| escape::json(bytes, &mut |bytes| out.extend_from_slice(bytes)));
        let status = decimal::decimal(self.status.code().into());
        let bytes = decimal::decimal(self.bytes);
        put(out, [b"\",\"status\":", &status, b",\"bytes\":", &bytes]);
        if let Some(messages) = self.messages {
            put(out, [b",\"messages\":", &decimal::decimal(messages)]);
        }
        put(out, [b",\"delay\":", &decimal::seconds(self.delay)]);
        put(out, [b",\"duration\":", &decimal::seconds(self.duration)]);
    }

    fn method(&self) -> &[u8] {
        let method = self.request.map_or("", Request::method_text);
        truncated(method.as_bytes(), limits::LOGGED_METHOD_BYTES)
    }

    /// The value of a field, cut to what a line may hold.
    fn value(&self, name: FieldName) -> &[u8] {
        let value = self.request.map_or(&b""[..], |request| request.value(name));
        whole_characters(value, limits::LOGGED_VALUE_BYTES)
    }

    /// The values of `X-Forwarded-For` as one list, as they came and cut to what a line may hold.
    fn forwarded_for(&self, mut put: impl FnMut(&[u8])) {
        let mut room = limits::LOGGED_VALUE_BYTES;
        let Some(request) = self.request else { return };
        let values = request.values(FieldName::XForwardedFor);
        for (place, value) in values.enumerate() {
            if place > 0 {
                put(truncated(b", ", room));
                room = room.saturating_sub(2);
            }
            let value = truncated(value, room);
            put(value);
            room -= value.len();
        }
    }

    /// Adds the names of the injected faults as one list, or `none` where there are none.
    fn put_faults(&self, none: &[u8], out: &mut Vec<u8>) {
        let mut names = self.faults.iter().flatten().map(|fault| fault.label());
        put(out, [names.next().map_or(none, str::as_bytes)]);
        for name in names {
            put(out, [b",", name.as_bytes()]);
        }
    }

    fn trace_id(&self) -> &[u8] {
        trace_id(self.value(FieldName::Traceparent))
    }

    fn reason(&self) -> &[u8] {
        self.refused.map_or("", RequestError::label).as_bytes()
    }
}

/// The end of a line, which says whether the client's side took the whole response.
pub fn ending(json: bool, complete: bool) -> &'static [u8] {
    match (json, complete) {
        (false, true) => b" complete=true\n",
        (false, false) => b" complete=false\n",
        (true, true) => b",\"complete\":true}\n",
        (true, false) => b",\"complete\":false}\n",
    }
}

#[expect(
    clippy::inline_always,
    reason = "most pieces are constants, which are copied without a call where they are known"
)]
#[inline(always)]
fn put<const N: usize>(out: &mut Vec<u8>, pieces: [&[u8]; N]) {
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

/// At most the first `limit` bytes of a value. A part of a character at its end would make text in
/// UTF-8 look like another encoding.
fn whole_characters(value: &[u8], limit: usize) -> &[u8] {
    if value.len() <= limit {
        return value;
    }
    let cut = &value[..limit];
    match str::from_utf8(cut) {
        Err(error) if error.error_len().is_none() => &cut[..error.valid_up_to()],
        _ => cut,
    }
}

/// A value, or a dash where there is none.
fn dash(value: &[u8]) -> &[u8] {
    if value.is_empty() { b"-" } else { value }
}

/// The trace id of a valid `traceparent` (W3C Trace Context sections 3.2 and 4): version, trace id,
/// parent id and flags; later versions may add more after another dash.
fn trace_id(traceparent: &[u8]) -> &[u8] {
    let Some((known, more)) = traceparent.split_first_chunk::<55>() else {
        return b"";
    };
    let [version, trace, parent, flags] = [0..2, 3..35, 36..52, 53..55].map(|part| &known[part]);
    let dashes = [2, 35, 52].iter().all(|place| known[*place] == b'-');
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    // The loop has no early exit, so the compiler lets it process many bytes at once.
    let hex = |part: &[u8]| part.iter().fold(true, |all, byte| all & is_hex(byte));
    let not_zero = |part: &[u8]| part.iter().any(|byte| *byte != b'0');
    let version_fits = match version {
        b"00" => more.is_empty(),
        b"ff" => false,
        _ => matches!(more, [] | [b'-', ..]),
    };
    let valid = dashes && version_fits && [version, trace, parent, flags].into_iter().all(hex);
    if valid && not_zero(trace) && not_zero(parent) {
        trace
    } else {
        b""
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Fault;

    const ENTRY: Entry<'_> = Entry {
        client: "1.2.3.4",
        peer: "10.0.0.1:5",
        request: None,
        raw: b"\x16\x03",
        route: Route::Echo,
        status: Status::OK,
        level: Level::Info,
        bytes: 512,
        duration: Duration::from_micros(1_500_042),
        delay: Duration::from_millis(1500),
        request_id: b"id",
        refused: None,
        faults: [None; 4],
        messages: None,
    };

    const HEAD: &str = "GET /a\"\\\u{e9} HTTP/1.1\r\nHost: h\r\nUser-Agent: \u{e9}\"\r\n\
                        X-Forwarded-For: a\r\nX-Forwarded-For: b\r\n\r\n";

    fn line(entry: &Entry<'_>, head: impl AsRef<[u8]>, json: bool) -> String {
        let head = head.as_ref();
        let mut dates = Dates::default();
        dates.set(Duration::from_millis(1_795_370_645_007));
        let mut request = Request::default();
        let parsed = !head.is_empty();
        assert!(!parsed || request.parse(head, 1 << 20).unwrap().is_some());
        let entry = Entry {
            request: parsed.then_some(&request),
            ..*entry
        };
        let mut out = Vec::new();
        entry.write(&dates, json, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines() {
        assert_eq!(
            line(&ENTRY, HEAD, false),
            "1.2.3.4 - - [22/Nov/2026:18:04:05 +0000] \"GET /a\\\"\\\\\\xc3\\xa9 HTTP/1.1\" 200 \
             512 \"-\" \"\\xc3\\xa9\\\"\" level=info peer=10.0.0.1:5 route=echo delay=1.500000 \
             request_id=id trace_id=- host=\"h\" forwarded_for=\"a, b\" reason=- fault=- \
             duration=1.500042 complete=true\n"
        );
        assert_eq!(
            line(&ENTRY, HEAD, true),
            "{\"time\":\"2026-11-22T18:04:05.007Z\",\"level\":\"info\",\"client\":\"1.2.3.4\",\
             \"peer\":\"10.0.0.1:5\",\"method\":\"GET\",\"target\":\"/a\\\"\\\\\\u00e9\",\
             \"route\":\"echo\",\"protocol\":\"HTTP/1.1\",\"user_agent\":\"\\u00e9\\\"\",\
             \"referrer\":\"\",\"request_id\":\"id\",\"trace_id\":\"\",\"host\":\"h\",\
             \"reason\":\"\",\"fault\":\"\",\"forwarded_for\":\"a, b\",\"status\":200,\
             \"bytes\":512,\"delay\":1.500000,\"duration\":1.500042,\"complete\":true}\n"
        );
        let refused = Entry {
            refused: Some(RequestError::Tls),
            faults: [None, Some(Fault::Delay), Some(Fault::Stall), None],
            messages: Some(3),
            ..ENTRY
        };
        let text = line(&refused, "", false);
        assert!(
            text.contains("] \"\\x16\\x03\" 200 512 \"-\" \"-\" level=info"),
            "{text}"
        );
        assert!(
            text.contains(" reason=tls fault=delay,stall messages=3 duration="),
            "{text}"
        );
        let json = line(&refused, "", true);
        assert!(json.contains("\",\"fault\":\"delay,stall\",\""), "{json}");
        assert!(
            json.contains("\"target\":\"\\u0016\\u0003\",\"route\":\"echo\",\"protocol\":\"\"")
        );
        assert!(
            json.contains("\"bytes\":512,\"messages\":3,\"delay\":"),
            "{json}"
        );
    }

    #[test]
    fn json_tells_every_byte() {
        let agent = |value: &[u8]| {
            let start = b"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: ";
            let json = line(&ENTRY, [&start[..], value, b"\r\n\r\n"].concat(), true);
            let (_, value) = json.split_once("\"user_agent\":\"").unwrap();
            value.split_once("\",\"referrer\"").unwrap().0.to_owned()
        };
        assert_eq!(agent(b"a\xff\xc3\xa9"), "a\\u00ff\\u00c3\\u00a9");
        // The last character that fits in part is left out.
        let long = format!("x{}", "\u{e9}".repeat(300));
        assert_eq!(
            agent(long.as_bytes()),
            format!("x{}", "\\u00e9".repeat(255))
        );
    }

    #[test]
    fn long_values_are_cut() {
        let long = "x".repeat(8_000);
        let head = format!(
            "GET /{long} HTTP/1.1\r\nHost: h\r\nUser-Agent: {long}\r\nReferer: {long}\r\n\
             X-Forwarded-For: {long}\r\nX-Forwarded-For: {long}\r\n\r\n"
        );
        for json in [false, true] {
            assert!(line(&ENTRY, &head, json).len() < 4_200, "{json}");
        }
    }

    #[test]
    fn a_shed_connection_is_a_warning() {
        let level = level(Route::None, Status::SERVICE_UNAVAILABLE, false);
        assert_eq!(level, Level::Warn);
    }
}
