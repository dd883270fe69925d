//! The opening handshake of a WebSocket (RFC 6455 section 4.2).
//!
//! A request asks for a WebSocket by `Upgrade: websocket` and `Connection: upgrade`. Where a proxy
//! has removed one of them, it is an ordinary request (RFC 9110 section 7.8), and the echo shows
//! what has arrived.
//!
//! The response proves that this server understood the request: it repeats the key, hashed together
//! with a fixed text. SHA-1 protects nothing in this place: the key is public, and nobody gains by
//! finding another key with the same hash.

use crate::http::base64;
use crate::http::error::RequestError;
use crate::http::field;
use crate::http::field_name::FieldName;
use crate::http::request::{Framing, Method, Request, Version};

/// What RFC 6455 section 1.3 appends to the key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Accept`: the base64 of a SHA-1 hash.
pub type Accept = [u8; 28];

/// The value of `Sec-WebSocket-Accept` for a request that opens a WebSocket, `None` for one that does
/// not ask for that. Only a GET of HTTP/1.1 without a body may ask (HTTP/1.0 knows no `Upgrade`: RFC
/// 9110 section 7.8).
pub fn handshake(request: &Request) -> Result<Option<Accept>, RequestError> {
    let lists = |name, token: &str| {
        let mut members = request.values(name).flat_map(field::list);
        members.any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    };
    let may_ask = request.method == Method::Get
        && request.version == Version::Http11
        && request.framing == Framing::None;
    // Most requests name no field in `Connection` and need not be searched.
    if !request.names_fields
        || !may_ask
        || !lists(FieldName::Upgrade, "websocket")
        || !lists(FieldName::Connection, "upgrade")
    {
        return Ok(None);
    }
    if only(request.values(FieldName::SecWebSocketVersion)) != Some(b"13") {
        return Err(RequestError::WebSocketVersion);
    }
    match only(request.values(FieldName::SecWebSocketKey)) {
        Some(key) if is_key(key) => Ok(Some(accept(key))),
        _ => Err(RequestError::WebSocketKey),
    }
}

/// The value of a field that has to stand exactly once.
fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    values.next().filter(|_| values.next().is_none())
}

/// Whether this is the base64 of 16 bytes. The four bits that stand for no byte may be anything
/// (RFC 4648 section 3.5 leaves it open): people type keys by hand.
fn is_key(value: &[u8]) -> bool {
    let digits = value.strip_suffix(b"==").unwrap_or_default();
    digits.len() == 22 && digits.iter().all(|digit| base64::ALPHABET.contains(digit))
}

fn accept(key: &[u8]) -> Accept {
    let (mut accept, digest) = ([0; 28], sha1(&[key, GUID].concat()));
    for (byte, digit) in accept.iter_mut().zip(base64::encode(&digest)) {
        *byte = digit as u8;
    }
    accept
}

/// SHA-1 (RFC 3174).
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    let (blocks, rest) = message.as_chunks::<64>();
    let mut last = [0; 128];
    last[..rest.len()].copy_from_slice(rest);
    last[rest.len()] = 0x80;
    let end = if rest.len() < 56 { 64 } else { 128 };
    last[end - 8..end].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    for block in blocks.iter().chain(last[..end].as_chunks().0) {
        compress(&mut state, block);
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

/// Mixes one block into the state (RFC 3174 section 6.1).
#[expect(clippy::many_single_char_names, reason = "the names of the RFC")]
fn compress(state: &mut [u32; 5], block: &[u8; 64]) {
    let mut words = [0; 80];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for t in 16..80 {
        words[t] = (words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16]).rotate_left(1);
    }
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    for (t, word) in words.into_iter().enumerate() {
        let (mixed, constant) = match t {
            0..20 => (b & c | !b & d, 0x5a82_7999),
            20..40 => (b ^ c ^ d, 0x6ed9_eba1),
            40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6_u32),
        };
        let sum = [mixed, e, word, constant]
            .into_iter()
            .fold(a.rotate_left(5), u32::wrapping_add);
        (a, b, c, d, e) = (sum, a, b.rotate_left(30), c, d);
    }
    for (word, change) in state.iter_mut().zip([a, b, c, d, e]) {
        *word = word.wrapping_add(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_3174() {
        let millions = "a".repeat(1_000_000);
        let digits = "01234567".repeat(80);
        let table = [
            ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
            ),
            (&millions, "34aa973cd4c4daa4f61eeb2bdbad27316534016f"),
            (&digits, "dea356a2cddd90c7a7ecedc5ebb563934f460452"),
            ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        ];
        for (message, expected) in table {
            let digest = sha1(message.as_bytes());
            let hex: Vec<_> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex.concat(), expected, "{} bytes", message.len());
        }
    }

    /// The handshake of a request with these fields, one a line.
    fn judge(fields: &str) -> Result<Option<Accept>, RequestError> {
        let fields = fields.replace('\n', "\r\n");
        let head = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n",
            fields.trim_start()
        );
        let mut request = Request::default();
        assert!(request.parse(head.as_bytes(), 1 << 20).unwrap().is_some());
        handshake(&request)
    }

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    const ASKS: &str = "Upgrade: websocket\nConnection: Upgrade";

    #[test]
    fn the_example_of_rfc_6455() {
        let accept = Ok(Some(*b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        for asks in [
            ASKS,
            "Upgrade: h2c, WebSocket\nConnection: keep-alive, upgrade",
            "Upgrade: h2c\nUpgrade: websocket\nConnection: keep-alive\nConnection:  Upgrade\t",
        ] {
            let request = format!("{asks}\nSec-WebSocket-Version: 13\n{KEY}");
            assert_eq!(judge(&request), accept, "{request}");
        }
    }

    #[test]
    fn not_a_websocket() {
        for fields in [
            "",
            "Upgrade: websocket",
            "Connection: upgrade",
            "Upgrade: h2c\nConnection: upgrade",
            "Upgrade: websocket\nConnection: keep-alive",
            "Upgrade: websocket/13\nConnection: upgrade",
            "Upgrade: websockets\nConnection: upgrade",
        ] {
            let request = format!("{fields}\nSec-WebSocket-Version: 13\n{KEY}");
            assert_eq!(judge(&request), Ok(None), "{request}");
        }
    }

    #[test]
    fn versions() {
        let other = Err(RequestError::WebSocketVersion);
        for version in ["12", "14", "8", "", "013", "13, 8", "x"] {
            let request = format!("{ASKS}\nSec-WebSocket-Version: {version}\n{KEY}");
            assert_eq!(judge(&request), other, "{version:?}");
        }
        assert_eq!(judge(&format!("{ASKS}\n{KEY}")), other);
        let twice = "Sec-WebSocket-Version: 13\nSec-WebSocket-Version: 13";
        assert_eq!(judge(&format!("{ASKS}\n{twice}\n{KEY}")), other);
    }

    #[test]
    fn keys() {
        let judge = |keys: &str| judge(&format!("{ASKS}\nSec-WebSocket-Version: 13\n{keys}"));
        let bad = Err(RequestError::WebSocketKey);
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQ===",
            "dGhlIHNhbXBsZSBub25jZ===",
            "dGhlIHNhbXBsZSBub25jZUE=",
            "dGhlIHNhbXBsZSBub25jZ-==",
            "dGhlIHNhbXBs ZSBub25jQ==",
            "SGVsbG8sIHdvcmxkIQ==",
        ] {
            assert_eq!(judge(&format!("Sec-WebSocket-Key: {key}")), bad, "{key:?}");
        }
        assert_eq!(judge(""), bad);
        assert_eq!(judge(&format!("{KEY}\n{KEY}")), bad);
        let sloppy = judge("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==");
        assert!(matches!(sloppy, Ok(Some(_))), "{sloppy:?}");
    }
}
