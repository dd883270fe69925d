//! RFC 9112 5 and RFC 9110 5: field lines, and RFC 9112 3.2: Host.

use super::{Case, Row};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    // RFC 9112 5 and 5.1: names.
    ("9112-5 no colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "400/field close"),
    ("9112-5 an empty name", b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", "400/field close"),
    ("9112-5 a colon alone", b"GET / HTTP/1.1\r\nHost: a\r\n:\r\n\r\n", "400/field close"),
    ("9112-5.1 space before the colon", b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", "400/field close"),
    ("9112-5.1 tab before the colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\t: y\r\n\r\n", "400/field close"),
    ("9112-5.1 space before Host's colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400/field close"),
    ("9112-5.1 space before Content-Length's colon", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello", "400/field close"),
    ("9112-5.1 space before Transfer-Encoding's colon", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400/field close"),
    ("9110-5.1 a space in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n", "400/field close"),
    ("9110-5.1 UTF-8 in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\xc3\xa9: y\r\n\r\n", "400/field close"),
    ("9110-5.1 NUL in the name of a length", b"POST / HTTP/1.1\r\nHost: a\r\nContent\0-Length: 5\r\n\r\nhello", "400/field close"),
    ("9110-5.1 an underscore is another name", b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n", "200 keep"),
    ("9110-5.1 names compare without case", b"GET / HTTP/1.1\r\nhOsT: a\r\ncOnNeCtIoN: cLoSe\r\n\r\n", "200 close"),
    // RFC 9112 5.2: no folds.
    ("9112-5.2 a fold by space", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", "400/field close"),
    ("9112-5.2 a fold by tab", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n", "400/field close"),
    ("9112-5.2 a fold of Host", b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "400/field close"),
    ("9112-5.2 a fold of nothing", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n \r\n\r\n", "400/field close"),
    ("9112-5.2 a folded Transfer-Encoding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400/field close"),
    // RFC 9110 5.5: values.
    ("9110-5.5 no space after the colon", b"GET / HTTP/1.1\r\nHost:a\r\nX:y\r\n\r\n", "200 keep"),
    ("9110-5.5 much white space around", b"GET / HTTP/1.1\r\nHost: \t  a \t \r\nX: \t y \t\r\n\r\n", "200 keep"),
    ("9110-5.5 a tab inside", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\tz\r\n\r\n", "200 keep"),
    ("9110-5.5 an empty value", b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \r\n\r\n", "200 keep"),
    ("9110-5.5 obs-text", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x80\xc3\xa9\xff\r\n\r\n", "200 keep"),
    ("9110-5.5 colons inside", b"GET / HTTP/1.1\r\nHost: a\r\nX: :y:z:\r\n\r\n", "200 keep"),
    // RFC 9112 3.2: Host.
    ("9112-3.2 no Host", b"GET / HTTP/1.1\r\n\r\n", "400/host close"),
    ("9112-3.2 no Host, other fields", b"GET / HTTP/1.1\r\nX: Host: a\r\n\r\n", "400/host close"),
    ("9112-3.2 HEAD without Host (stricter: no body)", b"HEAD / HTTP/1.1\r\n\r\n", "H400/host close"),
    ("9112-3.2 two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400/host close"),
    ("9112-3.2 two equal Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400/host close"),
    ("9112-3.2 two Hosts apart", b"GET / HTTP/1.1\r\nhost: a\r\nX: y\r\nHOST: b\r\n\r\n", "400/host close"),
    ("9112-3.2 two Hosts in 1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "400/host close"),
    ("9112-3.2 a bad Host in 1.0", b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", "400/host close"),
    ("9112-3.2 no Host in 1.0", b"GET / HTTP/1.0\r\n\r\n", "200 close"),
    ("9112-3.2 a good Host in 1.0, which closes", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", "200 close"),
    ("9112-3.2 an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "200 keep"),
    ("9112-3.2 a Host of spaces is empty", b"GET / HTTP/1.1\r\nHost: \t \r\n\r\n", "200 keep"),
    ("9112-3.2 an empty Host and another", b"GET / HTTP/1.1\r\nHost:\r\nHost: a\r\n\r\n", "400/host close"),
];

/// Host values by RFC 3986 3.2.2 and 3.2.3, and whether they are valid.
const HOSTS: &[(&[u8], bool)] = &[
    (b"example.org", true),
    (b"example.org:8080", true),
    (b"EXAMPLE.org:80", true),
    (b"a_b.example", true),
    (b"a-b.example.", true),
    (b"127.0.0.1", true),
    (b"127.0.0.1:65535", true),
    (b"[::1]", true),
    (b"[::1]:8080", true),
    (b"[2001:db8::1]", true),
    (b"[::ffff:1.2.3.4]:1", true),
    (b"a%20b", true),
    (b"a:", true),
    (b"a:80:80", false),
    (b"a::80", false),
    (b":80", false),
    (b":", false),
    (b"::1", false),
    (b"a:b", false),
    (b"a:-1", false),
    (b"a:+1", false),
    (b"a: 80", false),
    (b"a :80", false),
    (b"a:8x", false),
    (b"a:65536", false),
    (b"a:99999999999", false),
    (b"[::1", false),
    (b"::1]", false),
    (b"[::1]]", false),
    (b"[[::1]]", false),
    (b"[::1]x", false),
    (b"[::1]80", false),
    (b"[::1]x:80", false),
    (b"[::1]:80:80", false),
    (b"[::1]:b", false),
    (b"[]", false),
    (b"[g::1]", false),
    (b"[1.2.3.4]", false),
    (b"[:::1]", false),
    (b"[1:2:3:4:5:6:7:8:9]", false),
    (b"a]", false),
    (b"a[b]", false),
    (b"a b", false),
    (b"a\tb", false),
    (b"a, b", false),
    (b"a/b", false),
    (b"/", false),
    (b"http://a", false),
    (b"a?b", false),
    (b"a#b", false),
    (b"u@a", false),
    (b"u:p@a", false),
    (b"a\"b", false),
    (b"<a>", false),
    (b"a\\b", false),
    (b"a^b", false),
    (b"a`b", false),
    (b"{a}", false),
    (b"a|b", false),
    (b"a%2", false),
    (b"a%", false),
    (b"a%zzb", false),
    (b"\xc3\xa9.example", false),
    (b"a\x80", false),
];

/// Field names with one byte that no token has.
const DELIMITERS: &[u8] = b"\"(),/;<=>?@[\\]{}";

pub(super) fn generated() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(host, valid) in HOSTS {
        let name = format!("9112-3.2 Host: {}", host.escape_ascii());
        let input = [b"GET / HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
        cases.push(Case::new(
            &name,
            &input,
            if valid { "200 keep" } else { "400/host close" },
        ));
    }
    for &byte in DELIMITERS {
        let name = format!("9110-5.1 {} in a name", byte.escape_ascii());
        let input = [
            b"GET / HTTP/1.1\r\nHost: a\r\nX",
            &[byte][..],
            b"Y: z\r\n\r\n",
        ]
        .concat();
        cases.push(Case::new(&name, &input, "400/field close"));
    }
    for byte in (0..=31)
        .chain([127])
        .filter(|byte| !b"\t\r\n".contains(byte))
    {
        let name = format!("9110-5.5 {} in a value", byte.escape_ascii());
        let input = [
            b"GET / HTTP/1.1\r\nHost: a\r\nX: y",
            &[byte][..],
            b"z\r\n\r\n",
        ]
        .concat();
        cases.push(Case::new(&name, &input, "400/field close"));
        let name = format!("9110-5.1 {} in a name", byte.escape_ascii());
        let input = [
            b"GET / HTTP/1.1\r\nHost: a\r\nX",
            &[byte][..],
            b"Y: z\r\n\r\n",
        ]
        .concat();
        cases.push(Case::new(&name, &input, "400/field close"));
    }
    cases
}
