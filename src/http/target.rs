//! The request target and the Host field.
//!
//! The target has one of the forms of RFC 9112 section 3.2: origin form (`/path?query`), absolute
//! form (`http://host/path`), authority form (CONNECT), or `*` (OPTIONS). Both it and `Host` follow
//! RFC 3986 section 3.2.2, with one addition: a target may hold UTF-8, because curl sends it raw.

use std::net::Ipv6Addr;
use std::ops::Range;

use crate::http::request::Method;

/// Where the path and the query of a target stand; `None` if it has no form that the method allows.
/// In absolute form the path may be empty.
pub fn split(method: Method, target: &str) -> Option<(Range<usize>, Range<usize>)> {
    let may_stand = |byte: u8| byte > b' ' && byte != 0x7f && byte != b'#';
    // The loop has no early exit, so the compiler checks many bytes at once.
    if !target.bytes().fold(true, |all, byte| all & may_stand(byte)) {
        return None;
    }
    let end = target.len();
    if method == Method::Connect {
        let (_, port) = target.rsplit_once(':')?;
        let valid = !port.is_empty() && is_authority(target.as_bytes());
        return valid.then_some((0..end, end..end));
    }
    if target == "*" {
        return (method == Method::Options).then_some((0..end, end..end));
    }
    let origin = if target.starts_with('/') {
        target
    } else {
        strip_authority(target)?
    };
    let start = end - origin.len();
    let mark = origin.bytes().position(|byte| byte == b'?');
    let path_end = mark.map_or(end, |mark| start + mark);
    Some((start..path_end, end.min(path_end + 1)..end))
}

/// What follows scheme and authority in a target in absolute form.
fn strip_authority(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let (authority, origin) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    is_authority(authority.as_bytes()).then_some(origin)
}

/// Whether a `Host` value is valid: an authority, or empty, as RFC 9112 section 3.2 allows and
/// some load balancers send.
pub fn is_host(value: &[u8]) -> bool {
    value.is_empty() || is_authority(value)
}

/// Whether a value is `uri-host [ ":" port ]` (RFC 9110 section 7.2).
fn is_authority(value: &[u8]) -> bool {
    let (host_valid, port) = if let [b'[', rest @ ..] = value {
        let end = rest.iter().position(|byte| *byte == b']').unwrap_or(0);
        let (address, port) = rest.split_at(end);
        (is_ipv6(address), port.get(1..).unwrap_or_default())
    } else {
        let (name, port) = value.split_at(name_length(value));
        (!name.is_empty(), port)
    };
    host_valid && is_port(port)
}

/// Whether bytes are a colon and a port number, whose digits may be missing, or nothing.
fn is_port(bytes: &[u8]) -> bool {
    let [b':', digits @ ..] = bytes else {
        return bytes.is_empty();
    };
    let value = digits.iter().try_fold(0u32, |sum, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(sum * 10 + digit).filter(|sum| u16::try_from(*sum).is_ok())
    });
    value.is_some()
}

/// How many bytes at the start may stand in a registered name (RFC 3986 section 3.2.2).
fn name_length(bytes: &[u8]) -> usize {
    let mut length = 0;
    loop {
        length += bytes[length..]
            .iter()
            .take_while(|byte| NAME_BYTES[usize::from(**byte)])
            .count();
        match bytes[length..] {
            [b'%', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => length += 3,
            _ => return length,
        }
    }
}

/// Which bytes may stand in a registered name.
const NAME_BYTES: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0u8);
    while byte < 0x7f {
        let mark = matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b',' | b';' | b'='
        );
        table[byte as usize] = byte.is_ascii_alphanumeric() || mark;
        byte += 1;
    }
    table
};

fn is_ipv6(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let split = |method, target: &'static str| {
            split(method, target).map(|(path, query)| (&target[path], &target[query]))
        };
        for (target, parts) in [
            ("/a/b?c=d?e", Some(("/a/b", "c=d?e"))),
            ("http://h:1/x?y", Some(("/x", "y"))),
            ("HTTPS://h", Some(("", ""))),
            ("http://h?q", Some(("", "q"))),
            ("/?", Some(("/", ""))),
            ("/", Some(("/", ""))),
            ("/a?b|{}[]^\"<>\\`", Some(("/a", "b|{}[]^\"<>\\`"))),
            ("/\u{e9}", Some(("/\u{e9}", ""))),
            ("*", None),
            ("a", None),
            ("/#f", None),
            ("ftp://a/", None),
            ("http:///", None),
            ("http://u@a/", None),
            ("http://a:b/", None),
            ("http://:80/", None),
        ] {
            assert_eq!(split(Method::Get, target), parts, "{target}");
        }
        assert_eq!(split(Method::Options, "*"), Some(("*", "")));
        assert_eq!(split(Method::Connect, "a:1"), Some(("a:1", "")));
        assert_eq!(split(Method::Connect, "/"), None);
        assert_eq!(split(Method::Connect, "a"), None);
    }
}
