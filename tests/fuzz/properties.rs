//! What holds for every input: the fuzz targets assert it for what libFuzzer thinks of, and
//! `tests/suite/corpora.rs` for what is committed under `corpus/`, as an ordinary test.
//!
//! Nothing here trusts the code under test to judge itself: bytes in one piece and in many must
//! give the same, and a second, slower reading has to agree with what is accepted.
#![allow(dead_code, reason = "each fuzz target asserts one of these")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use httpserver::app::controls::{Controls, Refusal};
use httpserver::config::settings::{self, Config, SETTINGS, Setting};
use httpserver::config::units;
use httpserver::http::chunked::Chunked;
use httpserver::http::error::RequestError;
use httpserver::http::forwarded::{self, Network};
use httpserver::http::http2;
use httpserver::http::other_protocols::{Found, recognise};
use httpserver::http::request::{Framing, Request, Version};
use httpserver::http::status::Status;
use httpserver::http::websocket::frames::{Decoder, Event, Opcode, frame_header};
use httpserver::limits;
use httpserver::observe::diagnostics::Diagnostics;
use httpserver::observe::escape;
use httpserver::observe::log::Log;
use httpserver::server::Server;
use httpserver::server::connection::{self, Buffers};
use httpserver::server::slots::Permit;
use httpserver::server::socket::Transport;
use serde_json::Value;

/// The largest head: a little more than the longest request line.
const MAX_HEAD: usize = 9 << 10;

/// A head is judged the same however it arrives, and what is accepted keeps RFC 9112.
pub fn head(data: &[u8]) {
    let whole = parse(data, [data.len()]);
    let pieces = parse(data, cuts(data));
    match (whole, pieces) {
        (Ok(Some((request, length))), Ok(Some((other, other_length)))) => {
            assert_eq!((length, request.head()), (other_length, other.head()));
            accepted(&data[..length], &request);
        }
        // Of several faults, the first that has arrived is told.
        (Err(whole), Err(pieces)) => {
            assert_eq!(whole.status(), pieces.status(), "{whole:?} and {pieces:?}");
        }
        (whole, pieces) => assert_eq!(format!("{whole:?}"), format!("{pieces:?}")),
    }
}

/// The first request and the length of its head; `None` while it has not ended.
fn parse(
    data: &[u8],
    ends: impl IntoIterator<Item = usize>,
) -> Result<Option<(Request, usize)>, RequestError> {
    let mut request = Request::default();
    for end in ends {
        if let Some(length) = request.parse(&data[..end], MAX_HEAD)? {
            return Ok(Some((request, length)));
        }
    }
    Ok(None)
}

/// A second reading of an accepted head, with the empty lines before it.
fn accepted(taken: &[u8], request: &Request) {
    let mut head = taken;
    while let Some(rest) = head.strip_prefix(b"\r\n") {
        head = rest;
    }
    assert!(taken.len() - head.len() <= 2 * limits::EMPTY_LINES);
    assert_eq!(head, request.head());
    assert!(head.len() <= MAX_HEAD, "{} bytes", head.len());
    let text = latin1(head);
    let lines: Vec<_> = text
        .strip_suffix("\r\n\r\n")
        .expect("it ends with an empty line")
        .split("\r\n")
        .collect();
    let broken = |line: &&str| line.is_empty() || line.contains(['\r', '\n', '\0', '\x7f']);
    assert!(!lines.iter().any(broken), "{lines:?}");
    let (method, target) = (request.method_text(), request.target());
    let line = format!("{method} {target} {}", request.version.label());
    assert_eq!(lines[0], latin1(line.as_bytes()));
    assert!(
        !target.contains(|c: char| c.is_ascii_control() || c == ' '),
        "{target:?}"
    );
    assert!(target.ends_with(request.query()), "{target:?}");
    assert!(lines.len() <= limits::FIELDS + 1);
    let fields: Vec<_> = lines[1..].iter().map(|line| simple_field(line)).collect();
    let parsed: Vec<_> = request
        .fields()
        .map(|(name, value)| (latin1(name), latin1(value)))
        .collect();
    assert_eq!(parsed, fields);
    let values = |name: &str| -> Vec<String> {
        let named = fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.to_ascii_lowercase()).collect()
    };
    check_host(request, &values("host"));
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    check_framing(request, &lengths, &codings);
    check_persistence(request, &values("connection"));
}

/// The name and the value of a field line.
fn simple_field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').expect("a colon");
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    assert!(!name.is_empty() && name.chars().all(token), "{name:?}");
    (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
}

fn check_host(request: &Request, hosts: &[String]) {
    let is_10 = request.version == Version::Http10;
    assert!(hosts.len() == 1 || (hosts.is_empty() && is_10), "{hosts:?}");
    let odd = |host: &String| host.contains([' ', '/', '@', '\t', '?', '#']);
    assert!(!hosts.iter().any(odd), "{hosts:?}");
}

fn check_framing(request: &Request, lengths: &[String], codings: &[String]) {
    match request.framing {
        Framing::None => {
            assert!(codings.is_empty() && lengths.iter().all(|length| length.parse() == Ok(0u64)));
        }
        Framing::Length(length) => {
            assert!(codings.is_empty() && lengths.len() == 1, "{lengths:?}");
            let digits = lengths[0].bytes().all(|byte| byte.is_ascii_digit());
            assert!(digits, "{lengths:?}");
            // What 64 bits do not hold is too large for any limit.
            assert_eq!(lengths[0].parse().unwrap_or(u64::MAX), length);
        }
        Framing::Chunked => {
            assert!(lengths.is_empty() && request.version == Version::Http11);
            assert_eq!(codings, ["chunked"]);
        }
    }
}

fn check_persistence(request: &Request, connection: &[String]) {
    let has = |wanted: &str| {
        let mut options = connection.iter().flat_map(|value| value.split(','));
        options.any(|option| option.trim_matches([' ', '\t']) == wanted)
    };
    let by_default = request.version == Version::Http11;
    let expected = !has("close") && (by_default || has("keep-alive"));
    assert_eq!(request.keep_alive, expected, "{connection:?}");
}

/// A chunked body is decoded the same however it arrives, and as a second, more lenient decoder does
/// it.
pub fn chunked(data: &[u8]) {
    let whole = decode(data, [data.len()]);
    assert_eq!(whole, decode(data, cuts(data)), "whole and in pieces");
    let simple = simply_decoded(data).filter(|simple| simple.body.len() as u64 <= MOST);
    if let Ok(Some((body, _, taken))) = &whole {
        let simple = simple.as_ref().expect("it is a body");
        assert_eq!((body, taken), (&simple.body, &simple.taken));
    }
    if let Some(simple) = simple.filter(|simple| simple.plain) {
        let expected = (simple.body, Vec::new(), simple.taken);
        assert_eq!(whole, Ok(Some(expected)), "a plain body");
    }
}

/// The largest body, small enough for the fuzzer to exceed it.
const MOST: u64 = 2_000;

/// The body, its trailers, and how many bytes of input they took; `None` while it has not ended.
type Decoded = Result<Option<(Vec<u8>, Vec<u8>, usize)>, RequestError>;

fn decode(data: &[u8], ends: impl IntoIterator<Item = usize>) -> Decoded {
    let (mut chunked, mut body, mut taken) = (Chunked::new(MOST), Vec::new(), 0);
    for end in ends {
        if chunked.done() {
            break;
        }
        taken += chunked.decode(&data[taken..end], |run| {
            body.extend_from_slice(run);
            Ok(())
        })?;
        assert!(
            taken == end || chunked.done(),
            "it leaves input of an unfinished body"
        );
    }
    assert!(body.len() as u64 <= MOST, "{} bytes", body.len());
    let trailers = chunked.trailers().to_vec();
    Ok(chunked.done().then_some((body, trailers, taken)))
}

/// A body, as a reader sees it that only follows sizes and line ends.
struct Simple {
    body: Vec<u8>,
    taken: usize,
    /// Whether it has no extensions, trailers, or leading zeros.
    plain: bool,
}

fn simply_decoded(data: &[u8]) -> Option<Simple> {
    let (mut at, mut body, mut plain) = (0, Vec::new(), true);
    loop {
        let line = line_at(data, at)?;
        at += line.len() + 2;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
        let (digits, rest) = line.split_at(digits.count());
        if !matches!(rest, [] | [b';' | b' ' | b'\t', ..]) {
            return None;
        }
        plain &= rest.is_empty() && (digits == b"0" || !digits.starts_with(b"0"));
        let size = usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        let run = data.get(at..at.checked_add(size)?.checked_add(2)?)?;
        body.extend_from_slice(run.strip_suffix(b"\r\n")?);
        at += run.len();
    }
    loop {
        let line = line_at(data, at)?;
        at += line.len() + 2;
        if line.is_empty() {
            let taken = at;
            return Some(Simple { body, taken, plain });
        }
        plain = false;
    }
}

/// The line that begins at a place, without its CR LF.
fn line_at(data: &[u8], at: usize) -> Option<&[u8]> {
    let rest = data.get(at..)?;
    let end = rest.windows(2).position(|window| window == b"\r\n")?;
    Some(&rest[..end])
}

/// Every setting takes any text or says in one line why not, at the start and while the server
/// runs; what is a duration or a size stays it when it is written again.
pub fn settings(data: &[u8]) {
    let value = String::from_utf8_lossy(data).into_owned();
    let present = Config::default();
    for setting in SETTINGS {
        let name = setting.name;
        // A file is read, and a name is looked up in the network.
        let looks_up = name == "listen" && value.contains(|c: char| c.is_alphabetic());
        if name.is_empty() || name == "admin-token-file" || looks_up {
            continue;
        }
        let flags = [format!("--{name}={value}")];
        // Some settings are for `/admin` alone.
        if let Ok(flags) = settings::flags(&flags)
            && let Err(error) = Config::read(&flags, |_| None)
        {
            one_line(&error.to_string(), name);
        }
        if let Some(setting) = Setting::from_runtime_name(name)
            && let Err(error) = present.with_runtime(setting, &value, present.runtime)
        {
            one_line(&error.to_string(), "");
        }
    }
    if let Some(duration) = units::parse_duration(&value) {
        let shown = units::show_duration(duration);
        assert_eq!(units::parse_duration(&shown), Some(duration), "{value:?}");
    }
    if let Some(size) = units::parse_size(&value) {
        let shown = units::show_size(size);
        assert_eq!(units::parse_size(&shown), Some(size), "{value:?}");
    }
    let peer = IpAddr::from(Ipv4Addr::LOCALHOST);
    let trusted = Network::parse_list("127.0.0.0/8,10.0.0.0/8").expect("two networks");
    let client = forwarded::client(peer, &trusted, data.split(|&byte| byte == b'\n'));
    assert_eq!(forwarded::client(peer, &[], [data].into_iter()), peer);
    assert!(client == peer || !data.is_empty());
}

#[track_caller]
fn one_line(text: &str, name: &str) {
    assert!(text.contains(name), "{text:?} does not name {name}");
    assert!(
        !text.contains(char::is_control),
        "{text:?} is more than a line"
    );
}

/// The controls of the echo are in bounds or refused by name, and mean the same as query parameters
/// and as fields.
pub fn controls(data: &[u8]) {
    let names = ["echo-status", "echo-delay", "echo-fault", "echo-close"];
    let (&which, value) = data.split_first().unwrap_or((&0, b""));
    let name = names[usize::from(which) % names.len()];
    let mut whole_query = b"/?".to_vec();
    whole_query.extend_from_slice(data);
    check_controls(&whole_query, b"");
    let target = [b"/?x&", name.as_bytes(), b"=", value].concat();
    let field = [name.as_bytes(), b": ", value, b"\r\n"].concat();
    let by_query = check_controls(&target, b"");
    let by_field = check_controls(b"/", &field);
    // An `&` ends the value and begins another parameter.
    let one = !value.contains(&b'&');
    let by_both = check_controls(&target, b"echo-status: 999\r\nECHO-DELAY: 1h\r\n");
    if let (Some(by_query), Some(by_field)) = (&by_query, &by_field)
        && one
    {
        assert_eq!(by_query, by_field, "{name} as query and as field");
    }
    if let (Some(Ok(_)), Some(by_both), true) = (&by_query, &by_both, one) {
        let wrong = ["echo-delay", "echo-status"];
        let expected = wrong.iter().rev().find(|wrong| **wrong != name);
        assert_eq!(by_both.as_ref().err(), expected, "{name} and bad fields");
    }
}

/// Reads the controls of a request, or the name of the one that is refused; `None` if there is no
/// such request.
fn check_controls(target: &[u8], fields: &[u8]) -> Option<Result<Controls, &'static str>> {
    let (start, end) = (b"GET ", b" HTTP/1.1\r\nHost: a\r\n");
    let head = [start, target, end, fields, b"\r\n"].concat();
    let (request, length) = parse(&head, [head.len()]).ok()??;
    // A target with a space, or a value with a line end, makes another request.
    if length != head.len() || request.target().as_bytes() != target {
        return None;
    }
    let name = |refusal| match refusal {
        Refusal::Parameter(name, ..) => name,
        Refusal::Because(error) => error.label(),
    };
    let read = |seed| Controls::read(&request, &mut Rng::with_seed(seed)).map_err(name);
    let first = read(7);
    assert_eq!(first, read(7), "the same draws");
    for seed in 0..3 {
        let drawn = read(seed);
        assert_eq!(drawn.is_ok(), first.is_ok(), "{:?}", request.target());
        let Ok(controls) = drawn else { continue };
        let code = controls.status.map_or(200, Status::code);
        assert!((200..=599).contains(&code), "{code}");
        assert!(controls.delay.unwrap_or_default() <= limits::DELAY);
    }
    Some(first)
}

/// The frames of a WebSocket are decoded the same however they arrive, and as a second, more lenient decoder does it.
pub fn websocket(data: &[u8]) {
    let whole = events(data, [data.len()]);
    assert_eq!(whole, events(data, cuts(data)), "whole and in pieces");
    let (events, violation) = whole;
    let simple = simple_events(data);
    let known = if violation.is_some() {
        &simple[..events.len().min(simple.len())]
    } else {
        &simple
    };
    assert_eq!(events, known, "{violation:?}");
    for (kind, payload) in &events {
        assert!(
            *kind != 1 || std::str::from_utf8(payload).is_ok(),
            "text that is not UTF-8: {payload:?}"
        );
        assert!(
            payload.len() as u64 <= MOST && (*kind < 8 || payload.len() <= 125),
            "{} bytes",
            payload.len()
        );
    }
    assert!(
        violation.is_none_or(|code| [1002, 1007, 1009].contains(&code)),
        "{violation:?}"
    );
}

/// Opcodes and payloads; those of pongs and the reasons of closes are not handed on.
type Events = Vec<(u8, Vec<u8>)>;

/// The events, and the close code of the violation that ended them.
fn events(data: &[u8], ends: impl IntoIterator<Item = usize>) -> (Events, Option<u16>) {
    let (mut decoder, mut events, mut start) = (Decoder::new(MOST as usize), Vec::new(), 0);
    for end in ends {
        let mut piece = &data[std::mem::replace(&mut start, end)..end];
        loop {
            let event = match decoder.decode(&mut piece) {
                Err(violation) => return (events, Some(violation.code())),
                Ok(None) => break,
                Ok(Some(Event::Message { text, payload })) => {
                    (if text { 1 } else { 2 }, payload.to_vec())
                }
                Ok(Some(Event::Close(code))) => {
                    let code = code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec());
                    events.push((8, code));
                    return (events, None);
                }
                Ok(Some(Event::Ping(payload))) => (9, payload.to_vec()),
                Ok(Some(Event::Pong)) => (10, Vec::new()),
            };
            events.push(event);
        }
        assert!(piece.is_empty(), "it leaves input");
        assert!(
            decoder.memory() <= 2 * end.max(8),
            "{} bytes held after {end}",
            decoder.memory()
        );
    }
    (events, None)
}

/// What the frames say to a reader that only follows lengths, masks and fragments, up to a close frame.
fn simple_events(mut data: &[u8]) -> Events {
    let (mut events, mut message) = (Vec::new(), (0, Vec::new()));
    while let Some((opcode, last, payload, rest)) = simple_frame(data) {
        data = rest;
        match opcode {
            0 => message.1.extend(payload),
            1 | 2 => message = (opcode, payload),
            8 => events.push((8, payload.into_iter().take(2).collect())),
            10 => events.push((10, Vec::new())),
            _ => events.push((opcode, payload)),
        }
        if opcode < 3 && last {
            events.push(std::mem::take(&mut message));
        }
        if opcode == 8 {
            break;
        }
    }
    events
}

/// Opcode, whether it is the last fragment, payload, and what follows the frame.
fn simple_frame(data: &[u8]) -> Option<(u8, bool, Vec<u8>, &[u8])> {
    let (first, short) = (*data.first()?, *data.get(1)? & 0x7f);
    let extended = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let number = data
        .get(2..2 + extended)?
        .iter()
        .fold(0u64, |number, byte| (number << 8) | u64::from(*byte));
    let length = usize::try_from(if extended == 0 {
        u64::from(short)
    } else {
        number
    })
    .ok()?;
    let start = 2 + extended + 4;
    let mask = data.get(2 + extended..start)?;
    let masked = data.get(start..start.checked_add(length)?)?;
    let payload: Vec<_> = masked
        .iter()
        .enumerate()
        .map(|(at, byte)| byte ^ mask[at % 4])
        .collect();
    if short < 126 {
        assert_eq!(frame_header(Opcode::Ping, length)[1], short);
    }
    Some((
        first & 0x0f,
        first & 0x80 != 0,
        payload,
        &data[start + length..],
    ))
}

/// What a connection speaks is decided once, however its bytes arrive, and at the latest at the limit or the end.
pub fn door(data: &[u8]) {
    let limit = 1_000;
    let mut decided = Found::NotYet;
    let mut refusal = None;
    for end in cuts(data) {
        let bytes = &data[..end];
        let found = recognise(bytes, limit);
        assert!(
            decided == Found::NotYet || found == decided || end > limit,
            "{decided:?}, then {found:?}"
        );
        assert!(
            end < limit || found != Found::NotYet,
            "no decision at the limit"
        );
        let at_the_end = recognise(bytes, end);
        assert!(
            found == at_the_end || found == Found::NotYet,
            "{found:?}, at the end {at_the_end:?}"
        );
        second_opinion(bytes, &at_the_end);
        decided = found;
        let answer = http2::refusal(bytes);
        assert!(refusal.is_none() || answer == refusal);
        assert!(answer.is_none() || matches!(decided, Found::Other(RequestError::Http2, _)));
        refusal = answer;
    }
}

/// What a slower look at the bytes says about a decision.
fn second_opinion(bytes: &[u8], found: &Found) {
    let starts = |signatures: &[&str]| {
        signatures
            .iter()
            .any(|known| bytes.starts_with(known.as_bytes()))
    };
    let http2 = ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    let proxy_v1 = ["PROXY TCP4 ", "PROXY TCP6 ", "PROXY UNKNOWN"];
    let proxy_v2 = ["\r\n\r\n\0\r\nQUIT\n"];
    let holds = match found {
        Found::NotYet => bytes.is_empty(),
        Found::Http => {
            !(starts(&["\x16\x03"]) || starts(&http2) || starts(&proxy_v1) || starts(&proxy_v2))
        }
        Found::Other(RequestError::Http2, _) => starts(&http2),
        Found::Other(RequestError::ProxyProtocol, shown) => {
            let signatures: &[&str] = if shown.ends_with("v2") {
                &proxy_v2
            } else {
                &proxy_v1
            };
            starts(signatures)
        }
        Found::Other(_, shown) => {
            // The characters of the names stand in the bytes in their order, maybe with the header of a record between.
            let names = shown.strip_prefix("TLS ClientHello server_name=");
            let (server_name, alpn) = names.and_then(|names| names.split_once(" alpn=")).unwrap();
            let stands = |name: &str| {
                let mut rest = bytes.iter();
                name == "-" || name.bytes().all(|wanted| rest.any(|byte| *byte == wanted))
            };
            starts(&["\x16\x03"]) && stands(server_name) && alpn.split(',').all(stands)
        }
    };
    assert!(holds, "{found:?} of {}", bytes.escape_ascii());
}

/// A connection answers the same, however its input arrives. Heads are judged by whole lines, so
/// the input ends with one.
pub fn connection(data: &[u8]) {
    if takes_its_time(data) {
        return;
    }
    let data = [data, b"\r\n"].concat();
    SERVERS.with(|servers| {
        let whole = servers[0].serve(&data, [data.len()]);
        let pieces = servers[0].serve(&data, cuts(&data));
        assert_eq!(
            comparable(&whole.0),
            comparable(&pieces.0),
            "whole and in pieces"
        );
    });
}

/// Whether an input may ask for what takes its time, or counts, on purpose.
fn takes_its_time(data: &[u8]) -> bool {
    let unfit = [
        "/delay",
        "/metrics",
        "/bytes",
        "/upload",
        "/events",
        "echo-delay",
    ];
    let text = data.to_ascii_lowercase();
    let has = |part: &&str| {
        text.windows(part.len())
            .any(|window| window == part.as_bytes())
    };
    unfit.iter().any(has)
}

/// Wherever a client's bytes stand in a request, they forge no field of the response, break no
/// log line, leave JSON valid, and are no markup in HTML.
pub fn echo(data: &[u8]) {
    let mut page = Vec::new();
    escape::html(data, &mut |bytes| page.extend_from_slice(bytes));
    check_html(&page);
    if takes_its_time(data) {
        return;
    }
    // The form of a response and the format of its log line have nothing to do with each other.
    let forms = [&b"text/plain"[..], b"application/json", b"text/html"];
    SERVERS.with(|servers| {
        for (accept, server) in forms.into_iter().zip(servers.iter().cycle()) {
            for request in requests(data, accept) {
                let (response, lines) = server.serve(&request, [request.len()]);
                check_responses(&request, &response);
                check_lines(&lines, server.json);
            }
        }
    });
}

/// Requests with the bytes in each place of a request. Most are refused, and the refusal has to
/// keep the same promises.
fn requests(data: &[u8], accept: &[u8]) -> Vec<Vec<u8>> {
    let end = b"Connection: close\r\n\r\n";
    let host = b" HTTP/1.1\r\nHost: a\r\nAccept: ";
    let mut requests = vec![
        [data, b" / HTTP/1.1\r\nHost: a\r\n", end].concat(),
        [b"GET / ", data, b"\r\nHost: a\r\n", end].concat(),
    ];
    for target in [
        &b"/"[..],
        b"/?",
        b"/?echo-status=",
        b"/status/",
        b"/version?",
        b"http://a/",
    ] {
        requests.push([b"GET ", target, data, host, accept, b"\r\n", end].concat());
    }
    let start = [b"GET /", &host[..], accept, b"\r\n"].concat();
    requests.push([&start, data, b": x\r\n", end].concat());
    requests.push([b"GET / HTTP/1.1\r\nHost: ", data, b"\r\n", end].concat());
    for name in [
        "X-A",
        "User-Agent",
        "Referer",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "Forwarded",
        "X-Request-Id",
        "traceparent",
        "Connection",
        "Upgrade",
        "echo-fault",
        "Content-Type",
    ] {
        requests.push([&start, name.as_bytes(), b": ", data, b"\r\n", end].concat());
    }
    let length = format!("Content-Length: {}\r\n", data.len());
    requests.push([&start, length.as_bytes(), end, data].concat());
    let size = format!(
        "Transfer-Encoding: chunked\r\n{}1;",
        str::from_utf8(end).unwrap_or("")
    );
    requests.push([&start, size.as_bytes(), data, b"\r\nx\r\n0\r\n\r\n"].concat());
    requests
}

/// Looks through responses as a careful proxy would, up to one whose length is not told.
fn check_responses(request: &[u8], mut rest: &[u8]) {
    let sent = latin1(request);
    let to_head = sent.contains("HEAD ");
    while !rest.is_empty() {
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.filter(|_| rest.starts_with(b"HTTP/1.1 "));
        let Some(end) = end else {
            // What ends another protocol: a settings frame of HTTP/2, an alert of TLS.
            let other = [&b"\0\0"[..], b"\x15\x03"];
            let known = other.iter().any(|start| rest.starts_with(start));
            assert!(known, "{}", rest.escape_ascii());
            return;
        };
        let (head, after) = rest.split_at(end + 4);
        let head = latin1(&head[..end]);
        let fields = check_fields(&sent, &head);
        if head.starts_with("HTTP/1.1 100 ") {
            rest = after;
            continue;
        }
        let Some(length) = fields.get("content-length").filter(|_| !to_head) else {
            return;
        };
        let length = length.parse().expect("a length");
        if after.len() < length {
            let on_purpose = sent.to_ascii_lowercase().contains("echo-fault");
            assert!(on_purpose, "the body ends early");
            return;
        }
        let (body, next) = after.split_at(length);
        if fields["content-type"] == "application/json" {
            let parsed = serde_json::from_slice::<Value>(body);
            parsed.unwrap_or_else(|error| panic!("{error}: {}", body.escape_ascii()));
        }
        if fields["content-type"].starts_with("text/html") {
            check_page(&latin1(body));
        }
        rest = next;
    }
}

/// A page has no tag that a page of a harmless request does not have.
fn check_page(page: &str) {
    KNOWN_TAGS.with(|known| {
        for tag in tags(page) {
            assert!(known.contains(tag), "a foreign tag: {tag:?}");
        }
    });
}

/// What stands between `<` and `>`.
fn tags(page: &str) -> impl Iterator<Item = &str> {
    let pieces = page.split('<').skip(1);
    pieces.map(|piece| piece.split('>').next().unwrap_or_default())
}

/// Each character a byte.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// The fields that the server set itself, each once. Every other line came from the client.
fn check_fields(sent: &str, head: &str) -> BTreeMap<String, String> {
    let mut own = BTreeMap::new();
    for line in head.split("\r\n").skip(1) {
        let (name, value) = simple_field(line);
        let control = |c: char| c.is_ascii_control() && c != '\t';
        assert!(!value.contains(control), "{line:?}");
        let name = name.to_ascii_lowercase();
        if OWN.contains(&&*name) {
            assert!(own.insert(name, value).is_none(), "twice: {line:?}");
        } else {
            let copied = sent.contains(&format!("\r\n{line}\r\n"));
            assert!(copied, "forged: {line:?}");
        }
    }
    own
}

/// The fields that the server itself sets.
const OWN: &[&str] = &[
    "version",
    "date",
    "server",
    "content-type",
    "content-length",
    "transfer-encoding",
    "x-content-type-options",
    "content-security-policy",
    "cache-control",
    "server-timing",
    "x-request-id",
    "connection",
    "keep-alive",
    "allow",
    "location",
    "content-range",
    "www-authenticate",
    "proxy-authenticate",
    "retry-after",
    "upgrade",
    "sec-websocket-accept",
    "sec-websocket-version",
];

/// Takes log lines apart: each is one line of printable ASCII with all its fields.
fn check_lines(lines: &[u8], json: bool) {
    let text = str::from_utf8(lines).expect("ASCII");
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    for line in text.lines() {
        assert!(
            line.bytes().all(|byte| matches!(byte, b' '..=b'~')),
            "{line:?}"
        );
        if json {
            let object: Value =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            let members = object.as_object().expect("an object");
            assert!(
                members
                    .values()
                    .all(|value| !value.is_object() && !value.is_array())
            );
            let known = line.matches("\":").count();
            assert!(members.len() >= 20 && known >= members.len(), "{line}");
            assert!(
                object["complete"].is_boolean() && object["status"].is_u64(),
                "{line}"
            );
            assert_eq!(object["peer"], "127.0.0.1:1");
        } else {
            check_text_line(line);
        }
    }
}

/// Outside of quoted values, a text line has nothing that a client chose but tokens.
fn check_text_line(line: &str) {
    let (mut outside, mut quoted, mut values) = (String::new(), false, 0);
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        match character {
            '"' => {
                quoted = !quoted;
                values += usize::from(quoted);
            }
            '\\' if quoted => {
                let escaped = rest.next();
                assert!(matches!(escaped, Some('"' | '\\' | 'x')), "{line:?}");
            }
            _ if quoted => {}
            _ => outside.push(character),
        }
    }
    assert!(!quoted && values == 5, "{values} quoted values: {line:?}");
    let mut names: Vec<_> = outside
        .split(' ')
        .filter_map(|word| Some(word.split_once('=')?.0))
        .collect();
    names.retain(|name| *name != "messages");
    let expected = [
        "level",
        "peer",
        "route",
        "delay",
        "request_id",
        "trace_id",
        "host",
        "forwarded_for",
        "reason",
        "fault",
        "duration",
        "complete",
    ];
    assert_eq!(names, expected, "{line:?}");
}

/// Text for HTML has no markup: each `&` begins one of the references that stand for the others.
fn check_html(page: &[u8]) {
    let page = str::from_utf8(page).expect("UTF-8");
    assert!(!page.contains(['<', '>', '"', '\'', '\0']), "{page:?}");
    let references = ["amp;", "lt;", "gt;", "quot;", "#39;"];
    for after in page.split('&').skip(1) {
        assert!(
            references.iter().any(|known| after.starts_with(known)),
            "{page:?}"
        );
    }
}

thread_local! {
    /// The tags of a page with every part: fields, notes, a body and trailers.
    static KNOWN_TAGS: BTreeSet<String> = SERVERS.with(|servers| {
        let head = "GET /a//b HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nA_B: c\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        let request = format!("{head}1\r\nx\r\n0\r\nA: b\r\n\r\n").into_bytes();
        let page = latin1(&servers[0].serve(&request, [request.len()]).0);
        tags(&page).map(str::to_owned).collect()
    });
    /// One with a log in text, one with a log in JSON.
    static SERVERS: [Served; 2] = [false, true].map(Served::new);
}

/// A server with one connection, leaked because it lives as long as the fuzzer.
struct Served {
    server: &'static Server,
    permit: Permit<'static>,
    log: &'static Log,
    lines: Arc<Mutex<Vec<u8>>>,
    json: bool,
}

/// Log lines in memory.
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Served {
    fn new(json: bool) -> Served {
        let format = if json { "json" } else { "text" };
        let flags = [
            "--delay-max=0s",
            "--max-connections=1",
            "--log-level=debug",
            "--trusted-proxies=127.0.0.0/8",
            &format!("--log-format={format}"),
        ];
        let flags = flags.map(str::to_owned);
        let flags = settings::flags(&flags).expect("known flags");
        let config = Config::read(&flags, |_| None).expect("good values");
        let log: &'static Log = Box::leak(Box::default());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let mut sink = Lines(lines.clone());
        let writer = thread::Builder::new().spawn(move || log.write_to(&mut sink, |_| ()));
        writer.expect("a thread");
        let diagnostics = Diagnostics::new(Box::leak(Box::default()), false);
        let server = Server::new(config, log, diagnostics, |_| None).expect("a server");
        let server: &'static Server = Box::leak(Box::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stream = TcpStream::connect(address).expect("it listens");
        Served {
            server,
            permit: server.slots.admit(stream).expect("a slot is free"),
            log,
            lines,
            json,
        }
    }

    /// What was written, and the log lines.
    fn serve(&self, data: &[u8], ends: impl IntoIterator<Item = usize>) -> (Vec<u8>, Vec<u8>) {
        let mut start = 0;
        let pieces = ends
            .into_iter()
            .map(|end| data[std::mem::replace(&mut start, end)..end].to_owned())
            .collect();
        let memory = Memory {
            pieces: RefCell::new(pieces),
            written: RefCell::default(),
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let addresses = (address, address);
        // What is drawn at random is the same for the same requests.
        fastrand::seed(7);
        let mut buffers = Buffers::default();
        let (server, permit) = (self.server, &self.permit);
        connection::serve(server, permit, &memory, addresses, &mut buffers);
        let counts = &server.app.totals;
        let logged = counts.requests.load(Relaxed) - counts.not_logged.load(Relaxed);
        while self.log.totals().written < logged {
            thread::yield_now();
        }
        let lines = self
            .lines
            .lock()
            .map(|mut lines| std::mem::take(&mut *lines));
        (memory.written.into_inner(), lines.unwrap_or_default())
    }
}

/// A socket in memory: each read gives at most one piece, and then there is the end.
struct Memory {
    pieces: RefCell<VecDeque<Vec<u8>>>,
    written: RefCell<Vec<u8>>,
}

impl Transport for Memory {
    fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut pieces = self.pieces.borrow_mut();
        let Some(mut piece) = pieces.pop_front() else {
            return Ok(0);
        };
        let count = piece.len().min(bytes.len());
        bytes[..count].copy_from_slice(&piece[..count]);
        if count < piece.len() {
            pieces.push_front(piece.split_off(count));
        }
        Ok(count)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.written.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn set_read_timeout(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn set_write_timeout(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn set_nonblocking(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn end_writing(&self) {}
}

/// What was written, without what differs from one time to the next: interim responses, which
/// depend on how much has arrived, dates and times, and which of several faults a 400 names.
fn comparable(written: &[u8]) -> String {
    let text = latin1(written).replace("HTTP/1.1 100 Continue\r\n\r\n", "");
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        // No body follows where it can be seen that the method is HEAD.
        if line.starts_with("400 Bad Request: ") {
            continue;
        }
        let varies = ["Date: ", "Server-Timing: ", "Content-Length: "];
        let name = varies.iter().find(|name| line.starts_with(**name));
        kept += &name.map_or_else(|| without_times(line), |name| (*name).to_owned());
    }
    kept
}

/// A line without its times in seconds, which have six digits after their point.
fn without_times(line: &str) -> String {
    let mut parts = line.split('.');
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_time = part.len() >= 6 && part.bytes().take(6).all(|byte| byte.is_ascii_digit());
        if is_time {
            let whole = kept.trim_end_matches(|c: char| c.is_ascii_digit()).len();
            kept.truncate(whole);
            kept.push_str(part.get(6..).unwrap_or_default());
        } else {
            kept.push('.');
            kept.push_str(part);
        }
    }
    kept
}

/// The ends of the pieces, the same for the same data: mostly small, some of them large, none empty.
fn cuts(data: &[u8]) -> Vec<usize> {
    let hash = data.iter().fold(0u64, |hash, &byte| {
        hash.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let mut random = fastrand::Rng::with_seed(hash);
    let mut ends = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let most = if random.u8(..8) == 0 { 5_000 } else { 9 };
        at = (at + random.usize(1..=most)).min(data.len());
        ends.push(at);
    }
    ends
}
