//! Escapes for the text log, for JSON, and for HTML.
//!
//! Whatever a client chose passes through one of these before it stands in a log line or a page, or
//! it was checked to be a token (the method, the request id). So no request can forge or break a
//! line. The results are put out in runs, because they can be six times as long as the input. JSON
//! and log lines hold printable ASCII alone: they can drive neither a terminal nor a line reader.

use crate::http::decimal::hex_digit;

/// Puts out bytes for a quoted value of the text log: printable ASCII as it is, `"` and `\` after a
/// `\`, others as `\xHH`.
pub fn log_value(bytes: &[u8], out: &mut Vec<u8>) {
    if all_plain(bytes) {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => out.extend([b'\\', b'x', hex_digit(byte >> 4), hex_digit(*byte)]),
        }
    }
}

/// Puts out a JSON string with its quotes.
pub fn json_string(bytes: &[u8], put: &mut dyn FnMut(&[u8])) {
    put(b"\"");
    json(bytes, put);
    put(b"\"");
}

/// Puts out a member of a JSON object that is not its first.
pub fn json_member(name: &str, value: &[u8], put: &mut dyn FnMut(&[u8])) {
    put(b",\"");
    put(name.as_bytes());
    put(b"\":");
    json_string(value, put);
}

/// Puts out the inside of a JSON string: ASCII alone, other characters as `\uHHHH`. Where the bytes
/// are not UTF-8 as a whole, each byte counts as one ISO-8859-1 character, so nothing is lost.
pub fn json(bytes: &[u8], put: &mut dyn FnMut(&[u8])) {
    if all_plain(bytes) {
        return put(bytes);
    }
    let is_utf8 = str::from_utf8(bytes).is_ok();
    // All plain or all special, so no run begins inside of a character.
    for run in bytes.chunk_by(|a, b| is_plain(*a) == is_plain(*b)) {
        if is_plain(run[0]) {
            put(run);
        } else if is_utf8 {
            for character in str::from_utf8(run).unwrap_or_default().chars() {
                put_json_char(character, put);
            }
        } else {
            for byte in run {
                put_json_char(char::from(*byte), put);
            }
        }
    }
}

fn put_json_char(character: char, put: &mut dyn FnMut(&[u8])) {
    match character {
        '"' => put(b"\\\""),
        '\\' => put(b"\\\\"),
        '\n' => put(b"\\n"),
        _ => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let [high, low] = unit.to_be_bytes();
                let digits = [high >> 4, high, low >> 4, low].map(hex_digit);
                put(b"\\u");
                put(&digits);
            }
        }
    }
}

/// Puts out bytes for an HTML document in UTF-8, also inside quoted attributes. Control bytes and
/// bytes that are not UTF-8 become U+FFFD.
pub fn html(bytes: &[u8], put: &mut dyn FnMut(&[u8])) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '&' => put(b"&amp;"),
                '<' => put(b"&lt;"),
                '>' => put(b"&gt;"),
                '"' => put(b"&quot;"),
                '\'' => put(b"&#39;"),
                '\n' | '\t' | '\r' => put(&[character as u8]),
                _ if character.is_control() => put("\u{fffd}".as_bytes()),
                _ => put(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            put("\u{fffd}".as_bytes());
        }
    }
}

/// Whether a byte stands for itself in a log line and in JSON.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

/// Whether all bytes are plain, as nearly always. The loop has no early exit, so the compiler lets
/// it process many bytes at once.
fn all_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |all, byte| all & is_plain(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut dyn FnMut(&[u8]))) -> String {
        let mut out = Vec::new();
        write(&mut |bytes| out.extend_from_slice(bytes));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes() {
        for (bytes, log, json_text) in [
            (&b"plain"[..], "plain", "plain"),
            (b"a\"b\\c", "a\\\"b\\\\c", "a\\\"b\\\\c"),
            (
                b"\r\n\t\x1b[0m",
                "\\x0d\\x0a\\x09\\x1b[0m",
                "\\u000d\\n\\u0009\\u001b[0m",
            ),
            (b"\xff\xc3\xa9", "\\xff\\xc3\\xa9", "\\u00ff\\u00c3\\u00a9"),
            (
                "\u{9b}\u{1F600}".as_bytes(),
                "\\xc2\\x9b\\xf0\\x9f\\x98\\x80",
                "\\u009b\\ud83d\\ude00",
            ),
            (b"\xf0\x9f", "\\xf0\\x9f", "\\u00f0\\u009f"),
            (b"\x7f", "\\x7f", "\\u007f"),
        ] {
            let mut line = Vec::new();
            log_value(bytes, &mut line);
            assert_eq!(line, log.as_bytes());
            assert_eq!(written(|put| json(bytes, put)), json_text);
        }
        let string = |bytes: &[u8]| written(|put| json_string(bytes, put));
        assert_eq!(string(b"\xff\xc3\xa9"), "\"\\u00ff\\u00c3\\u00a9\"");
        assert_eq!(string("\u{e9}".as_bytes()), "\"\\u00e9\"");
        let page = written(|put| html(b"<a href='\"'>\xff\x1b\xc3\xa9&\n", put));
        assert_eq!(
            page,
            "&lt;a href=&#39;&quot;&#39;&gt;\u{fffd}\u{fffd}\u{e9}&amp;\n"
        );
    }
}
