//! What holds for every input: the fuzz targets assert it for what libFuzzer thinks of, and `tests/corpora.rs` for what
//! is committed under `corpus/`, as an ordinary test.
//!
//! Nothing here trusts the code under test to judge itself: bytes in one piece and in many must give the same, and
//! where a head is accepted, a second, slower reading of its lines has to agree.
#![allow(dead_code, reason = "each fuzz target asserts one of these")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use httpserver::access_log::Log;
use httpserver::body::{Budget, Chunked};
use httpserver::client::{self, Network};
use httpserver::config::{Config, SETTINGS};
use httpserver::connection::{self, Kept, Wire};
use httpserver::context::{BUILD, Context, Identity};
use httpserver::handlers;
use httpserver::http::http2;
use httpserver::http::other_protocols::{Found, recognise};
use httpserver::http::websocket::frames::{Decoder, Event, FrameHeader, Opcode};
use httpserver::live::Live;
use httpserver::lobby::{Lobby, Seat};
use httpserver::metrics::Metrics;
use httpserver::process::Capacity;
use httpserver::request::{self, Framing, HeadScan, Reject, Request};
use httpserver::text;

/// A head is found and judged the same however it arrives, and what is accepted keeps RFC 9112.
pub fn head(data: &[u8]) {
    let whole = HeadScan::default().find(data);
    let mut scan = HeadScan::default();
    let mut pieces = Ok(None);
    for end in cuts(data) {
        pieces = scan.find(&data[..end]);
        if !matches!(pieces, Ok(None)) {
            break;
        }
    }
    assert_eq!(whole, pieces, "whole and in pieces");
    let Ok(Some(range)) = whole else { return };
    let head = &data[range];
    let mut room = request::Room::new();
    if let Ok(request) = Request::parse(head, &mut room) {
        accepted(head, &request);
    }
}

/// A second reading of an accepted head.
fn accepted(head: &[u8], request: &Request<'_>) {
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let lines: Vec<_> = text
        .strip_suffix("\r\n\r\n")
        .expect("it ends with an empty line")
        .split("\r\n")
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| !line.is_empty() && !line.contains(['\r', '\n', '\0', '\x7f'])),
        "{lines:?}"
    );
    let version = if request.http10 {
        "HTTP/1.0"
    } else {
        "HTTP/1.1"
    };
    assert_eq!(
        lines[0],
        format!("{} {} {version}", request.method_text, request.target)
    );
    assert!(
        request.target.bytes().all(|byte| byte.is_ascii_graphic()),
        "{:?}",
        request.target
    );
    assert_eq!(request.fields.len(), lines.len() - 1);
    let values = |name: &str| -> Vec<String> {
        let fields = lines[1..]
            .iter()
            .map(|line| line.split_once(':').expect("a colon"));
        let named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named
            .map(|(_, value)| value.trim_matches([' ', '\t']).to_ascii_lowercase())
            .collect()
    };
    let (hosts, lengths, codings) = (
        values("host"),
        values("content-length"),
        values("transfer-encoding"),
    );
    assert!(
        hosts.len() == 1 || (hosts.is_empty() && request.http10),
        "{hosts:?}"
    );
    assert!(
        hosts
            .iter()
            .all(|host| !host.contains([' ', '/', '@', '\t'])),
        "{hosts:?}"
    );
    match request.framing {
        Framing::None => {
            assert!(codings.is_empty() && lengths.iter().all(|length| length.parse() == Ok(0u64)));
        }
        Framing::Length(length) => {
            assert!(
                codings.is_empty() && lengths.len() == 1,
                "{lengths:?} {codings:?}"
            );
            // What 64 bits do not hold is too large for any limit.
            assert_eq!(lengths[0].parse().unwrap_or(u64::MAX), length);
        }
        Framing::Chunked => {
            assert!(lengths.is_empty() && !request.http10, "{lengths:?}");
            let listed = codings.join(",");
            let named: Vec<_> = listed
                .split(',')
                .map(str::trim)
                .filter(|coding| !coding.is_empty())
                .collect();
            assert_eq!(named, ["chunked"], "{codings:?}");
        }
    }
}

/// A chunked body is decoded the same however it arrives, and as a second decoder does it.
pub fn chunked(data: &[u8]) {
    let whole = decode(data, [data.len()]);
    assert_eq!(whole, decode(data, cuts(data)), "whole and in pieces");
    if let Some((body, taken)) = simply_decoded(data).filter(|(body, _)| body.len() as u64 <= MOST)
    {
        assert_eq!(whole, Ok(Some((body, taken))), "a plain body");
    }
}

/// The largest body, small enough for the fuzzer to exceed it.
const MOST: u64 = 2_000;

type Decoded = Result<Option<(Vec<u8>, usize)>, Reject>;

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
    Ok(chunked.done().then_some((body, taken)))
}

/// A body of the plainest form: no extensions, no trailers, no leading zeros.
fn simply_decoded(data: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let line = data[at..].windows(2).position(|window| window == b"\r\n")?;
        let digits = std::str::from_utf8(&data[at..at + line]).ok()?;
        let plain = digits == "0" || !digits.starts_with('0');
        let size = usize::from_str_radix(digits, 16)
            .ok()
            .filter(|_| plain && !digits.starts_with('+'))?;
        at += line + 2;
        let run = data.get(at..at.checked_add(size)?.checked_add(2)?)?;
        if !run.ends_with(b"\r\n") {
            return None;
        }
        body.extend_from_slice(&run[..size]);
        at += size + 2;
        if size == 0 {
            return Some((body, at));
        }
    }
}

/// Every setting takes any text or says in one line why not; what is a duration stays it when written again.
pub fn settings(data: &[u8]) {
    let value = String::from_utf8_lossy(data).into_owned();
    for setting in SETTINGS
        .iter()
        .filter(|setting| !setting.flag.is_empty() && setting.flag != "admin-token-file")
    {
        let result = Config::read(&[format!("--{}={value}", setting.flag)], |_| None);
        if let Err(error) = result {
            let text = error.to_string();
            assert!(
                text.contains(setting.flag),
                "{text:?} does not name {}",
                setting.flag
            );
            assert!(
                !text.contains(char::is_control),
                "{text:?} is more than a line"
            );
        }
    }
    if let Some(duration) = text::parse_duration(&value) {
        assert_eq!(
            text::parse_duration(&text::show_duration(duration)),
            Some(duration),
            "{value:?}"
        );
    }
    if let Some(size) = text::parse_size(&value) {
        assert_eq!(text::parse_size(&size.to_string()), Some(size), "{value:?}");
    }
    let peer = IpAddr::from(Ipv4Addr::LOCALHOST);
    let trusted = Network::parse_list("127.0.0.0/8,10.0.0.0/8").expect("two networks");
    let client = client::of(peer, &trusted, data.split(|&byte| byte == b'\n'));
    assert_eq!(client::of(peer, &[], [data].into_iter()), peer);
    assert!(client == peer || !data.is_empty());
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

/// Opcodes and payloads; those of pongs are not handed on.
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
                Ok(Some(Event::Close { code, reason })) => {
                    let code = code.map(u16::to_be_bytes);
                    (
                        8,
                        code.map_or(Vec::new(), |code| [&code, reason.as_bytes()].concat()),
                    )
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
        assert_eq!(FrameHeader::new(Opcode::Ping, length).as_bytes()[1], short);
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
        assert!(answer.is_none() || decided == Found::Http2);
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
        Found::Http2 => starts(&http2),
        Found::ProxyV1 => starts(&proxy_v1),
        Found::ProxyV2 => starts(&proxy_v2),
        Found::Tls { server_name, alpn } => {
            // The characters of a name stand in the bytes in their order, maybe with the header of a record between.
            let stands = |name: &String| {
                let mut rest = bytes.iter();
                name.bytes().all(|wanted| rest.any(|byte| *byte == wanted))
            };
            starts(&["\x16\x03"]) && alpn.iter().chain(server_name).all(stands)
        }
    };
    assert!(holds, "{found:?} of {}", bytes.escape_ascii());
}

/// A connection answers the same, however its input arrives.
pub fn connection(data: &[u8]) {
    // These take their time, or count, on purpose.
    let unfit = [&b"/delay"[..], b"/metrics", b"/bytes"];
    if unfit
        .iter()
        .any(|part| data.windows(part.len()).any(|window| window == *part))
    {
        return;
    }
    HOUSE.with(|house| {
        let whole = house.serve(data, [data.len()]);
        let pieces = house.serve(data, cuts(data));
        assert_eq!(
            comparable(&whole),
            comparable(&pieces),
            "whole and in pieces"
        );
    });
}

thread_local! {
    static HOUSE: House = House::new();
}

/// Everything that a connection needs, leaked because it lives as long as the fuzzer.
struct House {
    context: Context<'static>,
    seat: Seat<'static>,
}

impl House {
    fn new() -> Self {
        let flags = ["--delay-max=0s".to_owned(), "--log-level=error".to_owned()];
        let config: &Config = Box::leak(Box::new(
            Config::read(&flags, |_| None).expect("good flags"),
        ));
        let capacity = Capacity {
            seats: 1,
            shed_places: 1,
            spare_threads: 1,
            lowered_by: None,
        };
        let lobby: &Lobby = Box::leak(Box::new(Lobby::new(&capacity)));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let stream =
            TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        let context = Context {
            config,
            live: Box::leak(Box::new(Live::new(config.start))),
            metrics: Box::leak(Box::new(Metrics::new(&BUILD).expect("metrics"))),
            lobby,
            bodies: Box::leak(Box::new(Budget::new(config.max_body_memory))),
            log: Box::leak(Box::default()),
            diagnostics: Box::leak(Box::<Log>::default()),
            identity: Box::leak(Box::new(Identity::new("1", |_| None))),
        };
        Self {
            context,
            seat: lobby.admit(stream).expect("a seat is free"),
        }
    }

    fn serve(&self, data: &[u8], ends: impl IntoIterator<Item = usize>) -> Vec<u8> {
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
        connection::serve(
            self.context,
            &self.seat,
            &memory,
            (address, address),
            handlers::respond,
            &mut Kept::default(),
        );
        memory.written.into_inner()
    }
}

/// A socket in memory: each read gives at most one piece, and then there is the end.
struct Memory {
    pieces: RefCell<VecDeque<Vec<u8>>>,
    written: RefCell<Vec<u8>>,
}

impl Wire for Memory {
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

    fn end_writing(&self) {}
}

/// What was written, without what differs from one moment to the next: interim answers, which depend on how much has
/// arrived, and the values of dates, ids and times.
fn comparable(written: &[u8]) -> String {
    let text: String = written.iter().map(|&byte| char::from(byte)).collect();
    let text = text.replace("HTTP/1.1 100 Continue\r\n\r\n", "");
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        let varies = [
            "Date: ",
            "X-Request-Id: ",
            "Server-Timing: ",
            "delay: ",
            "Content-Length: ",
        ];
        let name = varies.iter().find(|name| line.starts_with(**name));
        kept += name.copied().unwrap_or(line);
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
