//! The body of the echo: a description of the request as it arrived, as text or as JSON.
//!
//! The description is produced twice, once to count its length and once to write it, so it needs no
//! memory of its own. Text is the facts, an empty line, the request's head exactly as it arrived,
//! then the body. JSON has the same facts and loses nothing either: a value that is not UTF-8
//! stands as ISO-8859-1, a body that is not UTF-8 as base64.

use crate::app::Exchange;
use crate::app::notes::Notes;
use crate::http::base64;
use crate::http::decimal::{self, Digits};
use crate::observe::escape::{self, json_member, json_string};

/// Where a description goes, piece by piece.
pub type Sink<'s> = &'s mut dyn FnMut(&[u8]);

/// Puts out the description as text.
pub fn text(exchange: &Exchange<'_>, numbers: &Numbers, notes: Notes, put: Sink<'_>) {
    let request = exchange.request;
    let [(_, delay, _), (_, age, _), (_, idle, _), (_, number, _)] = numbers;
    put(b"method: ");
    put(request.method_text().as_bytes());
    put(b"\ntarget: ");
    put(request.target().as_bytes());
    put(b"\nprotocol: ");
    put(request.version.label().as_bytes());
    put(b"\nclient: ");
    put(exchange.client.as_bytes());
    put(b"\npeer: ");
    put(exchange.peer.as_bytes());
    put(b"\nlocal: ");
    put(exchange.local.as_bytes());
    put(b"\ndelay: ");
    put(delay);
    put(b"\nconnection_age: ");
    put(age);
    put(b"\nidle_before: ");
    put(idle);
    put(b"\nrequest_on_connection: ");
    put(number);
    put(b"\n");
    put(&exchange.app.identity.facts_text);
    notes.for_each(exchange, |words, values| {
        put(b"note: ");
        for (words, value) in words.iter().zip(values) {
            put(words.as_bytes());
            put(value);
        }
        put(b"\n");
    });
    put(b"\n");
    put(request.head());
    if str::from_utf8(exchange.body.bytes).is_ok() {
        put(exchange.body.bytes);
    } else {
        put(b"(");
        put(&decimal::decimal(exchange.body.length));
        put(b" bytes, not UTF-8)\n");
    }
}

/// The numbers that every form tells, written once for both of its passes: name, value and unit.
pub type Numbers = [(&'static str, Digits, &'static str); 4];

/// The numbers of an exchange.
pub fn numbers(exchange: &Exchange<'_>) -> Numbers {
    let connection = exchange.connection;
    let number = decimal::decimal(connection.request_number);
    [
        ("delay", decimal::seconds(exchange.delay), " s"),
        ("connection_age", decimal::seconds(connection.age), " s"),
        ("idle_before", decimal::seconds(connection.idle), " s"),
        ("request_on_connection", number, ""),
    ]
}

/// The names and values of the request, for the forms that write each in the same way.
pub(super) fn strings<'a>(exchange: &'a Exchange<'_>) -> [(&'static str, &'a str); 6] {
    [
        ("method", exchange.request.method_text()),
        ("target", exchange.request.target()),
        ("protocol", exchange.request.version.label()),
        ("client", exchange.client),
        ("peer", exchange.peer),
        ("local", exchange.local),
    ]
}

/// Puts out the description as one JSON object.
///
/// Inlined, it would stand in the program once for each of its callers, as `page::html` would.
#[inline(never)]
pub fn json(exchange: &Exchange<'_>, numbers: &Numbers, notes: Notes, put: Sink<'_>) {
    let request = exchange.request;
    let mut separator: &[u8] = b"{\"";
    for (name, value, _) in numbers {
        put(separator);
        put(name.as_bytes());
        put(b"\":");
        put(value);
        separator = b",\"";
    }
    for (name, value) in strings(exchange) {
        json_member(name, value.as_bytes(), put);
    }
    put(&exchange.app.identity.facts_json);
    put(b",\"notes\":[");
    let mut separator: &[u8] = b"\"";
    notes.for_each(exchange, |words, values| {
        put(separator);
        for (words, value) in words.iter().zip(values) {
            escape::json(words.as_bytes(), put);
            escape::json(value, put);
        }
        put(b"\"");
        separator = b",\"";
    });
    put(b"],\"headers\":");
    pairs(&mut request.fields(), put);
    body(exchange, put);
    put(b"}\n");
}

/// Puts out names and values as a list of pairs.
fn pairs<'a>(fields: &mut dyn Iterator<Item = (&'a [u8], &'a [u8])>, put: Sink<'_>) {
    put(b"[");
    for (i, (name, value)) in fields.enumerate() {
        put(if i == 0 { b"[" } else { b",[" });
        json_string(name, put);
        put(b",");
        json_string(value, put);
        put(b"]");
    }
    put(b"]");
}

fn body(exchange: &Exchange<'_>, put: Sink<'_>) {
    let body = &exchange.body;
    if str::from_utf8(body.bytes).is_ok() {
        json_member("body", body.bytes, put);
    } else {
        put(b",\"body\":null,\"body_base64\":\"");
        for digit in base64::encode(body.bytes) {
            put(&[digit as u8]);
        }
        put(b"\"");
    }
    put(b",\"body_bytes\":");
    put(&decimal::decimal(body.length));
    put(b",\"trailers\":");
    pairs(&mut trailers(body.trailers), put);
}

/// Names and values of trailer lines, whose syntax the decoder has checked.
pub(super) fn trailers(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines.map(|line| {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let mut part = || parts.next().unwrap_or_default();
        (part(), part().trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailer_lines() {
        let lines: Vec<_> = trailers(b"A: b \r\nC:\r\n").collect();
        assert_eq!(lines, [(&b"A"[..], &b"b"[..]), (b"C", b"")]);
        assert_eq!(trailers(b"").count(), 0);
    }
}
