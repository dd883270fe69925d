//! Every bound on what a request may be, from both sides: DESIGN 3.3, RFC 9112 3 and 7.1, RFC 9110 5.4 and 15.5.14.

use super::Case;

const LINE: usize = 8 * 1024;
const HEAD: usize = 32 * 1024;
const BODY: usize = 1024 * 1024;
const CHUNK_OVERHEAD: usize = 16 * 1024;

pub(super) fn generated() -> Vec<Case> {
    [lines(), heads(), bodies(), chunk_overhead()].concat()
}

/// A request whose request line, without its CRLF, has this length.
fn with_line(length: usize) -> Vec<u8> {
    let path = "x".repeat(length - "GET / HTTP/1.1".len());
    format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

#[rustfmt::skip]
fn lines() -> Vec<Case> {
    let unended = |byte: &str| format!("GET /{}", byte.repeat(LINE + 100)).into_bytes();
    let method = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(LINE + 100));
    let long_method = format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(LINE - 100));
    let version = format!("GET / HTTP/1.{}\r\nHost: a\r\n\r\n", "1".repeat(LINE + 100));
    vec![
        Case::new("9112-3 a request line of 8,192 bytes with its CRLF", &with_line(LINE - 2), "200 keep"),
        Case::new("9110-15.5.15 a request line of 8,193 bytes without its CRLF", &with_line(LINE + 1), "414/target_too_long close"),
        Case::new("9110-15.5.15 a request line of 9,000 bytes", &with_line(9_000), "414/target_too_long close"),
        Case::new("9110-15.5.15 a request line of 40,000 bytes", &with_line(40_000), "414/target_too_long close"),
        Case::new("9110-15.5.15 a request line that does not end", &unended("x"), "414/target_too_long close"),
        Case::new("9112-3 a method of 8,092 bytes", long_method.as_bytes(), "200 keep"),
        Case::new("9112-3 a method that is too long", method.as_bytes(), "414|400|501/* close"),
        Case::new("9112-3 a version that is too long", version.as_bytes(), "414|400/* close"),
        Case::new("9112-3 NUL without end", &[0; LINE + 100], "400|414/* close"),
        Case::new("9112-2.2 empty lines without end", &b"\r\n".repeat(LINE), "400/* close"),
        Case::new("9112-3 letters without end", &[b'A'; LINE + 100], "414|400/* close"),
    ]
}

/// A request whose head, the empty line at its end included, has this length.
fn with_head(length: usize) -> Vec<u8> {
    let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    format!("{start}{}\r\n\r\n", "v".repeat(length - start.len() - 4)).into_bytes()
}

/// A request with this many fields, Host included.
fn with_fields(count: usize) -> Vec<u8> {
    format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(count - 1)
    )
    .into_bytes()
}

#[rustfmt::skip]
fn heads() -> Vec<Case> {
    let unended = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "v".repeat(HEAD));
    let name = format!("GET / HTTP/1.1\r\nHost: a\r\n{}: v\r\n\r\n", "X".repeat(HEAD));
    let long_name = format!("GET / HTTP/1.1\r\nHost: a\r\n{}: v\r\n\r\n", "X".repeat(HEAD - 1_000));
    let lines = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(HEAD / 6));
    vec![
        Case::new("6585-5 a head of 32,700 bytes", &with_head(HEAD - 68), "200 keep"),
        Case::new("6585-5 a head of 32,768 bytes", &with_head(HEAD), "200 keep"),
        Case::new("6585-5 a head of 32,769 bytes", &with_head(HEAD + 1), "431/head_too_large close"),
        Case::new("6585-5 a head of 33,000 bytes", &with_head(33_000), "431/head_too_large close"),
        Case::new("6585-5 a head of 200,000 bytes", &with_head(200_000), "431/head_too_large close"),
        Case::new("6585-5 a value that does not end", unended.as_bytes(), "431/head_too_large close"),
        Case::new("6585-5 a name of 31,768 bytes", long_name.as_bytes(), "200 keep"),
        Case::new("6585-5 a name that is too long", name.as_bytes(), "431/head_too_large close"),
        Case::new("6585-5 a head of too many lines and bytes", lines.as_bytes(), "431/head_too_large close"),
        Case::new("6585-5 a second head that is too large", &[with_head(500), with_head(40_000)].concat(), "200 431/head_too_large close"),
        Case::new("6585-5 100 fields", &with_fields(100), "200 keep"),
        Case::new("6585-5 101 fields", &with_fields(101), "431/head_too_large close"),
        Case::new("6585-5 1,000 fields", &with_fields(1_000), "431/head_too_large close"),
    ]
}

fn with_body(length: usize) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), &vec![b'b'; length]].concat()
}

fn with_chunks(size: usize, count: usize) -> Vec<u8> {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("{size:x}\r\n{}\r\n", "c".repeat(size));
    format!("{head}{}0\r\n\r\n", chunk.repeat(count)).into_bytes()
}

#[rustfmt::skip]
fn bodies() -> Vec<Case> {
    let announced = |length: usize| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").into_bytes()
    };
    let chunk_announced = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", BODY + 1);
    let probe = format!("POST /status/200 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", BODY + 1);
    vec![
        Case::new("9110-15.5.14 a body of 1 MiB", &with_body(BODY), "200 keep"),
        Case::new("9110-15.5.14 a length of 1 MiB and one", &announced(BODY + 1), "413/body_too_large close"),
        Case::new("9110-15.5.14 half a body of 2 MiB", &[announced(2 * BODY), vec![b'b'; BODY / 2]].concat(), "413/body_too_large close"),
        Case::new("9110-15.5.14 a body too large for any route", probe.as_bytes(), "413/body_too_large close"),
        Case::new("9110-15.5.14 chunks of 1 MiB together", &with_chunks(BODY / 16, 16), "200 keep"),
        Case::new("9110-15.5.14 chunks of more than 1 MiB together", &with_chunks(BODY / 16, 17), "413/body_too_large close"),
        Case::new("9110-15.5.14 a chunk of 1 MiB and one, announced", chunk_announced.as_bytes(), "413/body_too_large close"),
        Case::new("9112-7.1 a thousand chunks of one byte", &with_chunks(1, 1_000), "200 keep"),
    ]
}

/// Size digits, extensions and trailers are bounded together, or a body of nothing would go on for ever.
#[rustfmt::skip]
fn chunk_overhead() -> Vec<Case> {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let some = CHUNK_OVERHEAD - 500;
    let much = CHUNK_OVERHEAD + 500;
    let zeros = |count: usize| format!("{head}{}1\r\nx\r\n0\r\n\r\n", "0".repeat(count));
    let extension = |count: usize| format!("{head}1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(count));
    let trailer = |count: usize| format!("{head}0\r\nX: {}\r\n\r\n", "t".repeat(count));
    let unended = format!("{head}{}", "0".repeat(much));
    let trailers = format!("{head}0\r\n{}\r\n", "X: y\r\n".repeat(much / 6));
    let spread = format!("{head}{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "e".repeat(1_000)).repeat(17));
    let together = format!("{head}1;{}\r\nx\r\n0\r\nX: {}\r\n\r\n", "e".repeat(9_000), "t".repeat(9_000));
    vec![
        Case::new("9112-7.1 zeros before a size", zeros(some).as_bytes(), "200 keep"),
        Case::new("9112-7.1 too many zeros before a size", zeros(much).as_bytes(), "400|431/* close"),
        Case::new("9112-7.1 zeros without end", unended.as_bytes(), "400|431/* close"),
        Case::new("9112-7.1.1 a long extension", extension(some).as_bytes(), "200 keep"),
        Case::new("9112-7.1.1 too long an extension", extension(much).as_bytes(), "400|431/* close"),
        Case::new("9112-7.1.1 extensions too long together", spread.as_bytes(), "400|431/* close"),
        Case::new("9112-7.1.2 a long trailer", trailer(some).as_bytes(), "200 keep"),
        Case::new("9112-7.1.2 too long a trailer", trailer(much).as_bytes(), "400|431/* close"),
        Case::new("9112-7.1.2 too many trailers", trailers.as_bytes(), "400|431/* close"),
        Case::new("9112-7.1 extensions and trailers too long together", together.as_bytes(), "400|431/* close"),
    ]
}
