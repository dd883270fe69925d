//! What arrives on the port but is not HTTP/1.x, recognised by its first bytes.
//!
//! TLS (RFC 8446), HTTP/2 (RFC 9113 section 3.4) and the PROXY protocol come from a wrong port, a
//! wrong scheme or a wrong setting of a proxy. The refusal and the log line name the protocol and
//! the names that the client asked for, so a person finds the mistake quickly.
//!
//! Invariant: an ordinary request is never delayed. Its first byte decides, or one of the next few
//! if it starts like one of the signatures, and no signature begins with a whole request. Only
//! visible ASCII of strings from the wire is kept; the limit of a head and of a log line bound them.

use crate::http::error::RequestError::{self, Http2, ProxyProtocol, Tls};
use crate::http::http2;

/// The type of a TLS record that carries a handshake.
const HANDSHAKE: u8 = 0x16;
/// The type of a handshake message with which a client begins.
const CLIENT_HELLO: usize = 1;
/// The largest payload of a TLS record, in bytes (RFC 8446 section 5.1).
const RECORD: usize = 1 << 14;
/// The number of the extension that names the server (RFC 6066 section 3).
const SERVER_NAME_EXTENSION: usize = 0;
/// The number of the extension that lists protocols (RFC 7301 section 3.1).
const ALPN_EXTENSION: usize = 16;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Too few to tell.
    NotYet,
    /// HTTP/1.x, or nothing that is known.
    Http,
    /// Another protocol: why it is refused, and what the log shows instead of a request line.
    Other(RequestError, String),
}

/// Fixed first bytes; `UNKNOWN` may be followed by the line's end.
const SIGNATURES: [(&[u8], RequestError, &str); 5] = [
    (http2::PREFACE, Http2, "HTTP/2 connection preface"),
    (b"PROXY TCP4 ", ProxyProtocol, "PROXY protocol v1"),
    (b"PROXY TCP6 ", ProxyProtocol, "PROXY protocol v1"),
    (b"PROXY UNKNOWN", ProxyProtocol, "PROXY protocol v1"),
    (b"\r\n\r\n\0\r\nQUIT\n", ProxyProtocol, "PROXY protocol v2"),
];

/// Judges the first bytes of a connection; from `limit` bytes on it never asks for more. When the
/// client sends no more, the number of its bytes is the limit.
pub fn recognise(bytes: &[u8], limit: usize) -> Found {
    let whole = bytes.len() >= limit;
    if let [HANDSHAKE, 3, ..] = bytes {
        return match join_records(bytes) {
            None if !whole => Found::NotYet,
            message => tls(&message.unwrap_or_default()),
        };
    }
    let mut known = SIGNATURES.iter();
    if let Some((_, error, shown)) = known.find(|(known, ..)| bytes.starts_with(known)) {
        return Found::Other(*error, (*shown).to_owned());
    }
    let mut known = SIGNATURES.iter();
    let undecided = bytes == [HANDSHAKE] || known.any(|(known, ..)| known.starts_with(bytes));
    if whole || !undecided {
        return Found::Http;
    }
    Found::NotYet
}

/// The first handshake message, which may stand in several records; `None` while bytes are missing.
/// A record of another type ends the message; then what was joined so far is returned.
fn join_records(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let ([kind, major, _minor, high, low], rest) = bytes.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if (*kind, *major) != (HANDSHAKE, 3) || length > RECORD {
            return Some(message);
        }
        message.extend_from_slice(rest.get(..length)?);
        if is_whole(&message) {
            return Some(message);
        }
        bytes = &rest[length..];
    }
}

/// Whether no further record belongs to this message.
fn is_whole(message: &[u8]) -> bool {
    let mut reader = Reader(message);
    reader.number(1) != Some(CLIENT_HELLO) || reader.vector(3).is_some()
}

fn tls(message: &[u8]) -> Found {
    let (server_name, alpn) = names(message).unwrap_or_default();
    let or_dash = |text: String| if text.is_empty() { "-".into() } else { text };
    let (name, alpn) = (or_dash(server_name), or_dash(alpn.join(",")));
    let shown = format!("TLS ClientHello server_name={name} alpn={alpn}");
    Found::Other(Tls, shown)
}

/// The names in a `ClientHello` (RFC 8446 section 4.1.2); `None` where it is malformed or has no
/// extensions.
fn names(message: &[u8]) -> Option<(String, Vec<String>)> {
    let mut reader = Reader(message);
    (reader.number(1)? == CLIENT_HELLO).then_some(())?;
    let mut hello = reader.vector(3)?;
    let _version_and_random = hello.take(2 + 32)?;
    let _session = hello.vector(1)?;
    let _cipher_suites = hello.vector(2)?;
    let _compression = hello.vector(1)?;
    let mut extensions = hello.vector(2)?;
    let (mut server_name, mut alpn) = (String::new(), Vec::new());
    while !extensions.0.is_empty() {
        let number = extensions.number(2)?;
        let data = extensions.vector(2)?;
        match number {
            SERVER_NAME_EXTENSION => server_name = read_server_name(data).unwrap_or_default(),
            ALPN_EXTENSION => alpn = read_alpn(data).unwrap_or_default(),
            _ => {}
        }
    }
    Some((server_name, alpn))
}

fn read_server_name(mut data: Reader<'_>) -> Option<String> {
    let mut list = data.vector(2)?;
    let is_host_name = list.number(1)? == 0;
    let name = visible(list.vector(2)?.0);
    is_host_name.then_some(name)
}

fn read_alpn(mut data: Reader<'_>) -> Option<Vec<String>> {
    let (mut list, mut names) = (data.vector(2)?, Vec::new());
    while !list.0.is_empty() {
        names.push(visible(list.vector(1)?.0));
    }
    names.retain(|name| !name.is_empty());
    Some(names)
}

/// The visible ASCII characters.
fn visible(bytes: &[u8]) -> String {
    let chars = bytes.iter().map(|byte| char::from(*byte));
    chars.filter(char::is_ascii_graphic).collect()
}

/// Reads TLS's way of writing numbers and vectors (RFC 8446 section 3) from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        let bytes = self.take(bytes)?.iter();
        Some(bytes.fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// A vector behind a length of so many bytes.
    fn vector(&mut self, length_bytes: usize) -> Option<Reader<'a>> {
        let length = self.number(length_bytes)?;
        self.take(length).map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 32 << 10;

    /// What `openssl s_client -tls1_3 -servername shop.example.com -alpn h2,http/1.1` sent, in
    /// hexadecimal.
    const S_CLIENT: &str = "\
        1603010107010001030303308b1a5f862d41c5c23fbb44c12d12ff7fb20f04e29215ee72b4bf0033\
        e7cf8d20062c43022e072154b092a4ea2532371a86ca683262980dc3d45f00735f3f6b7e00081302\
        1303130100ff010000b200000015001300001073686f702e6578616d706c652e636f6d000b000403\
        000102000a00160014001d0017001e0019001801000101010201030104002300000010000e000c02\
        683208687474702f312e310016000000170000000d001e001c040305030603080708080809080a08\
        0b080408050806040105010601002b0003020304002d00020101003300260024001d002075d3e065\
        5bc307e2e815a5b1d969b028f37dd3db292bf2e169fcf5cb087b7d40";

    fn s_client() -> Vec<u8> {
        let digits = S_CLIENT.as_bytes().chunks(2);
        let text = digits.map(|pair| std::str::from_utf8(pair).expect("digits"));
        text.map(|pair| u8::from_str_radix(pair, 16).expect("digits"))
            .collect()
    }

    fn tls(server_name: &str, alpn: &str) -> Found {
        let shown = format!("TLS ClientHello server_name={server_name} alpn={alpn}");
        Found::Other(Tls, shown)
    }

    fn no_names() -> Found {
        tls("-", "-")
    }

    /// Numbers and data.
    type Extensions<'a> = &'a [(u16, &'a [u8])];

    /// A `ClientHello` with these extensions, in records with at most so many bytes.
    fn hello(extensions: Extensions<'_>, record: usize) -> Vec<u8> {
        let mut listed = Vec::new();
        for (number, data) in extensions {
            listed.extend_from_slice(&number.to_be_bytes());
            listed.extend_from_slice(&(data.len() as u16).to_be_bytes());
            listed.extend_from_slice(data);
        }
        let fixed = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
        let body = [&fixed[..], &(listed.len() as u16).to_be_bytes(), &listed].concat();
        let [_, length @ ..] = (body.len() as u32).to_be_bytes();
        let message = [&[CLIENT_HELLO as u8][..], &length, &body].concat();
        let records = message.chunks(record);
        records
            .flat_map(|part| {
                [
                    &[HANDSHAKE, 3, 1][..],
                    &(part.len() as u16).to_be_bytes(),
                    part,
                ]
                .concat()
            })
            .collect()
    }

    /// The data of the extension that names the server.
    fn server_name(kind: u8, name: &[u8]) -> Vec<u8> {
        let length = name.len() as u16;
        [
            &(length + 3).to_be_bytes()[..],
            &[kind],
            &length.to_be_bytes(),
            name,
        ]
        .concat()
    }

    /// The data of the extension that lists protocols.
    fn alpn(names: &[&[u8]]) -> Vec<u8> {
        let list: Vec<u8> = names
            .iter()
            .flat_map(|name| [&[name.len() as u8], *name].concat())
            .collect();
        [&(list.len() as u16).to_be_bytes()[..], &list].concat()
    }

    /// The first bytes, what they are, and how many of them it takes to tell.
    #[track_caller]
    fn check(bytes: &[u8], expected: &Found, decided_at: usize) {
        let shown = bytes[..bytes.len().min(40)].escape_ascii();
        for end in 0..=bytes.len() {
            let found = recognise(&bytes[..end], LIMIT);
            let expected = if end < decided_at {
                &Found::NotYet
            } else {
                expected
            };
            assert_eq!(&found, expected, "{end} bytes of {shown}");
            assert_ne!(
                recognise(&bytes[..end], end),
                Found::NotYet,
                "{end} bytes of {shown}, and then the end"
            );
        }
    }

    #[test]
    fn fixed_signatures() {
        let proxy =
            |version: &str| Found::Other(ProxyProtocol, format!("PROXY protocol {version}"));
        let (v1, v2) = (proxy("v1"), proxy("v2"));
        let http2 = Found::Other(Http2, "HTTP/2 connection preface".to_owned());
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", &http2, 24);
        check(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\nGET /", &v1, 11);
        check(b"PROXY TCP6 ::1 ::1 1 80\r\n", &v1, 11);
        check(b"PROXY UNKNOWN\r\n", &v1, 13);
        check(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &v2, 12);
    }

    #[test]
    fn requests_are_not_delayed() {
        let table: &[(&[u8], usize)] = &[
            (b"GET / HTTP/1.1\r\n", 1),
            (b"HEAD / HTTP/1.1\r\n", 1),
            (b"OPTIONS * HTTP/1.1\r\n", 1),
            (b"POST / HTTP/1.1\r\n", 2),
            (b"PUT / HTTP/1.1\r\n", 2),
            (b"PATCH / HTTP/1.1\r\n", 2),
            (b"PROPFIND / HTTP/1.1\r\n", 4),
            (b"PROXY / HTTP/1.1\r\n", 7),
            (b"PRI / HTTP/1.1\r\n", 5),
            (b"PRI * HTTP/1.1\r\n", 12),
            (b"PRI * HTTP/2.0\r\n\r\nGET", 19),
            (b"\nGET / HTTP/1.1\r\n", 1),
            (b"\r\nGET / HTTP/1.1\r\n", 3),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", 5),
        ];
        for (bytes, decided_at) in table {
            check(bytes, &Found::Http, *decided_at);
        }
    }

    #[test]
    fn garbage_behind_the_first_byte() {
        for first in 0..=255 {
            for second in (0..=255).filter(|second| (first, *second) != (HANDSHAKE, 3)) {
                let expected = match [first, second] {
                    [b'P', b'R'] | [b'\r', b'\n'] => Found::NotYet,
                    _ => Found::Http,
                };
                assert_eq!(
                    recognise(&[first, second], LIMIT),
                    expected,
                    "{first} {second}"
                );
            }
        }
        check(&[HANDSHAKE, 2, 0, 0, 0], &Found::Http, 2);
        check(&[HANDSHAKE, 3, 1, 0, 0, 1], &no_names(), 5);
        check(&[HANDSHAKE, 3, 1, 0x40, 1, 1], &no_names(), 5);
        check(&[HANDSHAKE, 3, 1, 0, 2, 2, 0, 0], &no_names(), 7);
        check(
            &[HANDSHAKE, 3, 1, 0, 1, CLIENT_HELLO as u8, b'G', 3, 1, 0, 1],
            &no_names(),
            11,
        );
    }

    #[test]
    fn a_real_client_hello() {
        let bytes = s_client();
        let told = tls("shop.example.com", "h2,http/1.1");
        check(&bytes, &told, bytes.len());
        let behind = [&bytes[..], b"more"].concat();
        check(&behind, &told, bytes.len());
    }

    #[test]
    fn what_a_client_hello_tells() {
        let shop = server_name(0, b"shop");
        let table: &[(Extensions<'_>, Found)] = &[
            (&[], no_names()),
            (&[(0, &shop)], tls("shop", "-")),
            (
                &[(16, &alpn(&[b"h2", b"\x0a\x0a", b"x y"]))],
                tls("-", "h2,xy"),
            ),
            (
                &[(13, b"x"), (0, &shop), (16, &alpn(&[b"a"]))],
                tls("shop", "a"),
            ),
            (
                &[(0, &server_name(1, b"shop")), (16, &alpn(&[b"a"]))],
                tls("-", "a"),
            ),
            (
                &[(0, &server_name(0, b"\n\xff")), (16, &alpn(&[b"a"]))],
                tls("-", "a"),
            ),
            (&[(0, &server_name(0, b"a\r\nb c\x1b"))], tls("abc", "-")),
            (&[(0, &shop[1..]), (16, b"\0\x09")], no_names()),
        ];
        for (extensions, expected) in table {
            for record in [RECORD, 5, 1] {
                let bytes = hello(extensions, record);
                check(&bytes, expected, bytes.len());
            }
        }
    }

    #[test]
    fn a_record_of_another_kind_ends_the_wait() {
        let mut bytes = hello(&[(0, &server_name(0, b"shop"))], 20);
        bytes[25] = 0x17;
        check(&bytes, &no_names(), 30);
    }

    #[test]
    fn the_limit_ends_the_wait() {
        let bytes = s_client();
        assert_eq!(recognise(&bytes[..200], 201), Found::NotYet);
        assert_eq!(recognise(&bytes[..200], 200), no_names());
        assert_eq!(recognise(b"PRI * HT", 8), Found::Http);
    }

    #[test]
    fn mutations_never_panic_and_stay_visible() {
        let seeds: [&[u8]; 4] = [
            &s_client(),
            &hello(&[(0, &[]), (16, &alpn(&[b"h2"]))], 9),
            http2::PREFACE,
            b"PROXY TCP4 ",
        ];
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = seeds[random.usize(..seeds.len())].to_vec();
            for _ in 0..random.usize(..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            let found = recognise(&bytes, LIMIT);
            let at_its_end = recognise(&bytes, bytes.len());
            assert!(
                found == at_its_end || found == Found::NotYet,
                "seed {seed}: {found:?}, {at_its_end:?}"
            );
            if let Found::Other(_, shown) = at_its_end {
                let visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
                assert!(shown.bytes().all(visible), "seed {seed}: {shown:?}");
            }
        }
    }
}
