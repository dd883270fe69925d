//! Base64 (RFC 4648 section 4), encoding only.
//!
//! The WebSocket handshake needs it for 20 bytes, and JSON for a body that is not UTF-8. The
//! characters come from an iterator, so nothing is allocated here.

/// The 64 characters, in the order of their values.
pub(super) const ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The characters that stand for these bytes, with padding.
pub fn encode(bytes: &[u8]) -> impl Iterator<Item = char> {
    bytes.chunks(3).flat_map(|group| {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        (0..4).map(move |at| {
            let value = bits >> (18 - 6 * at) & 63;
            if at <= group.len() {
                char::from(ALPHABET[value as usize])
            } else {
                '='
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        let table = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, expected) in table {
            assert_eq!(
                encode(bytes.as_bytes()).collect::<String>(),
                expected,
                "{bytes:?}"
            );
        }
        assert_eq!(encode(&[0xfb, 0xff, 0xbf]).collect::<String>(), "+/+/");
    }
}
