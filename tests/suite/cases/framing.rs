//! RFC 9112 6 and 7, RFC 9110 8.6: where a body ends, which is where requests are smuggled.
//!
//! Each refused case is sent with a request behind it (see `table.rs`): that one must never be answered.

use super::{Case, Row};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    // RFC 9112 6.3: both, and neither.
    ("9112-6.3 TE and CL", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400/framing close"),
    ("9112-6.3 CL and TE", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400/framing close"),
    ("9112-6.3 CL of zero and TE", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400/framing close"),
    ("9112-6.3 CL and an unknown TE", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\nhello", "400/framing close"),
    ("9112-6.3 CL and an unknown TE before chunked", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: x, chunked\r\n\r\nhello", "400/framing close"),
    ("9112-6.3 CL and an empty TE", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding:\r\n\r\nhello", "400/framing close"),
    ("9112-6.3 POST without either has no body", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "200 keep"),
    ("9112-6.3 GET with a body", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "200 keep"),
    ("9112-6.3 GET with a body that looks like a request", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nGET /status/404 HTTP/1.1\r\nHost: evil\r\n\r\n", "200 keep"),
    ("9112-6.3 HEAD with a body", b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "H200 keep"),
    ("9112-6.3 OPTIONS * with a body", b"OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "200 keep"),
    ("9112-6.3 DELETE with a chunked body", b"DELETE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "200 keep"),
    ("9112-6.3 a body on a route without one", b"POST /status/404 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "404 keep"),
    ("9112-6.3 GET /healthz with a body", b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "200 any"),
    ("9112-6.3 Connection cannot remove Content-Length", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello", "200 keep"),
    ("9112-6.3 Connection cannot remove Transfer-Encoding", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "200 keep"),
    // RFC 9110 8.6: Content-Length.
    ("9110-8.6 length 0", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "200 keep"),
    ("9110-8.6 length 5", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "200 keep"),
    ("9110-8.6 name in lower case", b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\n\r\nhello", "200 keep"),
    ("9110-8.6 white space around", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \t5 \t\r\n\r\nhello", "200 keep"),
    ("9110-8.6 leading zeros", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello", "200 keep"),
    ("9110-8.6 two differing lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400/content_length close"),
    ("9110-8.6 two equal lengths (stricter: refused)", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400/content_length close"),
    ("9110-8.6 a list of equal lengths (stricter: refused)", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", "400/content_length close"),
    ("9110-8.6 a length and a bad one", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: x\r\n\r\nhello", "400/content_length close"),
    ("9110-8.6 a length and an empty one", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length:\r\n\r\nhello", "400/content_length close"),
    ("9110-8.6 a bad length in 1.0", b"POST / HTTP/1.0\r\nContent-Length: x\r\n\r\nhello", "400/content_length close"),
    ("9110-8.6 a length in 1.0", b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", "200 close"),
    // RFC 9112 6.1: Transfer-Encoding.
    ("9112-6.1 in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400/framing close"),
    ("9112-6.1 in 1.0 kept alive", b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400/framing close"),
    ("9112-6.1 chunked twice in two lines", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400/framing close"),
    ("9112-6.1 a coding and chunked in two lines", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "501/coding_unsupported close"),
    ("9112-6.1 chunked and then a coding in two lines", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n", "400/framing close"),
    ("9112-6.1 chunked and then identity in two lines", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "400/framing close"),
    ("9112-6.1 chunked and then an empty line of it", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n", "200|400/* any"),
];

/// Lengths that are no `1*DIGIT`.
#[rustfmt::skip]
const BAD_LENGTHS: &[&[u8]] = &[
    b"", b" ", b"x", b"+5", b"-5", b"-0", b"5x", b"0x5", b"5.0", b"5e0", b"5;", b"5 5", b"5,", b",5", b"5,6", b"\"5\"",
    b"1_0", b"'5'", b"5\xc2\xa0", b"\xd9\xa5", b"\xef\xbc\x95", b"0 5", b"5h", b"five", b"5/6", b"=5",
];

/// Lists of codings, and what must come back.
const CODINGS: &[(&[u8], &str)] = &[
    (b"chunked", "200 keep"),
    (b"Chunked", "200 keep"),
    (b"CHUNKED", "200 keep"),
    (b" \tchunked\t ", "200 keep"),
    (b"chunked, chunked", "400/framing close"),
    (b"chunked,chunked", "400/framing close"),
    (b"chunked, gzip", "400/framing close"),
    (b"chunked, gzip, chunked", "400/framing close"),
    (b"chunked, identity", "400/framing close"),
    (b"gzip, chunked", "501/coding_unsupported close"),
    (b"GZIP,chunked", "501/coding_unsupported close"),
    (b"identity, chunked", "501/coding_unsupported close"),
    (b"deflate, gzip, chunked", "501/coding_unsupported close"),
    (b"x;a=b, chunked", "400|501/* close"),
    (b"gzip", "400/framing close"),
    (b"identity", "400/framing close"),
    (b"x", "400/framing close"),
    (b"xchunked", "400/framing close"),
    (b"chunkedx", "400/framing close"),
    (b"chunke", "400/framing close"),
    (b"chunked chunked", "400/framing close"),
    (b"gzip chunked", "400/framing close"),
    (b"chunked gzip", "400/framing close"),
    (b"chunked;a=b", "400/framing close"),
    (b"chunked;", "400/framing close"),
    (b"chunked; q=1", "400/framing close"),
    (b"\"chunked\"", "400/framing close"),
    (b"'chunked'", "400/framing close"),
    (b"chunked\xff", "400/framing close"),
    (b"\xef\xbb\xbfchunked", "400/framing close"),
    (b"chun ked", "400/framing close"),
    (b"c\xc4\xa7unked", "400/framing close"),
    (b"", "400/framing close"),
    (b",", "400/framing close"),
    (b"\x0bchunked", "400/field close"),
    (b"chunked:", "400/framing close"),
    (b": chunked", "400/framing close"),
    (b"=chunked", "400/framing close"),
    (b"[chunked]", "400/framing close"),
    (b"gzip;x=\"a, chunked\"", "400/framing close"),
    // An empty list element may be ignored (RFC 9110 5.6.1.2); a refusal is the stricter choice, never a mistake.
    (b", chunked", "200|400/* any"),
    (b"chunked,", "200|400/* any"),
    (b"chunked, ,", "200|400/* any"),
];

/// What stands where the chunks stand, and what must come back.
#[rustfmt::skip]
const CHUNKS: &[(&str, &[u8], &str)] = &[
    ("9112-7.1 no chunk", b"0\r\n\r\n", "200 keep"),
    ("9112-7.1 one chunk", b"5\r\nhello\r\n0\r\n\r\n", "200 keep"),
    ("9112-7.1 three chunks", b"1\r\nh\r\n3\r\nell\r\n1\r\no\r\n0\r\n\r\n", "200 keep"),
    ("9112-7.1 a size in upper case", b"A\r\n0123456789\r\n0\r\n\r\n", "200 keep"),
    ("9112-7.1 a size in lower case", b"a\r\n0123456789\r\n0\r\n\r\n", "200 keep"),
    ("9112-7.1 leading zeros", b"0005\r\nhello\r\n000\r\n\r\n", "200 keep"),
    ("9112-7.1 twenty leading zeros", b"000000000000000000005\r\nhello\r\n0\r\n\r\n", "200 keep"),
    ("9112-7.1 CRLF as data", b"2\r\n\r\n\r\n0\r\n\r\n", "200 keep"),
    ("9112-7.1 a last chunk as data", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", "200 keep"),
    ("9112-7.1 no size", b"\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 not hexadecimal", b"g\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 hexadecimal and more", b"5g\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 0x", b"0x5\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 a minus", b"-5\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 a minus and zero", b"-0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 a plus", b"+5\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 a space before the size", b" 5\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 a space after the size (stricter: refused)", b"5 \r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 a tab after the size (stricter: refused)", b"5\t\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 a space inside the size", b"5 0\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 a comma", b"5,6\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 an underscore", b"0_5\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 a full-width digit", b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 NUL in the size", b"5\0\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 LF after the size", b"5\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 CR after the size", b"5\rhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 CR CR LF after the size", b"5\r\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 LF after the data", b"5\r\nhello\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 CR after the data", b"5\r\nhello\r0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 nothing after the data", b"5\r\nhello0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 too much data", b"5\r\nhello!\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 too little data", b"6\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 LF ends the last size", b"0\n\r\n", "400/chunk close"),
    ("9112-7.1 LF ends the body", b"0\r\n\n", "400/chunk close"),
    ("9112-7.1 CR and another byte end the body", b"0\r\n\rX", "400/chunk close"),
    ("9112-7.1 64 bits and one", b"10000000000000000\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 a size that wraps to five", b"10000000000000005\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1 a size that wraps 32 bits", b"100000005\r\nhello\r\n0\r\n\r\n", "413/body_too_large close"),
    ("9112-7.1 all 64 bits", b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n", "413/body_too_large close"),
    ("9112-7.1 two sizes that add up past 64 bits", b"5\r\nhello\r\nfffffffffffffffe\r\nx", "413/body_too_large close"),
    ("9112-7.1.1 an extension", b"5;a\r\nhello\r\n0\r\n\r\n", "200 keep"),
    ("9112-7.1.1 an extension with a value", b"5;a=b;c=d\r\nhello\r\n0;e=f\r\n\r\n", "200 keep"),
    ("9112-7.1.1 a quoted value", b"5;a=\"b;c d\"\r\nhello\r\n0\r\n\r\n", "200 keep"),
    ("9112-7.1.1 white space before an extension", b"5 ;a=b\r\nhello\r\n0\r\n\r\n", "200|400/chunk any"),
    ("9112-7.1.1 a semicolon alone", b"5;\r\nhello\r\n0\r\n\r\n", "200|400/chunk any"),
    ("9112-7.1.1 LF ends an extension", b"5;a\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1.1 CR inside an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1.1 LF inside a quoted value", b"5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1.1 CRLF ends a quoted value", b"5;a=\"\r\nhello\r\n0\r\n\r\n", "200|400/chunk any"),
    ("9112-7.1.1 NUL inside an extension", b"5;a\0\r\nhello\r\n0\r\n\r\n", "400/chunk close"),
    ("9112-7.1.2 a trailer", b"5\r\nhello\r\n0\r\nX-Trailer: yes\r\n\r\n", "200 keep"),
    ("9112-7.1.2 two trailers", b"0\r\nX: y\r\nZ:\r\n\r\n", "200 keep"),
    ("9112-7.1.2 a length as a trailer", b"0\r\nContent-Length: 100\r\n\r\n", "200 keep"),
    ("9112-7.1.2 a coding as a trailer", b"0\r\nTransfer-Encoding: chunked\r\n\r\n", "200 keep"),
    ("9112-7.1.2 Host as a trailer", b"0\r\nHost: b\r\n\r\n", "200 keep"),
    ("9112-7.1.2 Connection: close as a trailer", b"0\r\nConnection: close\r\n\r\n", "200 keep"),
    ("9112-7.1.2 a trailer without a colon", b"0\r\nX\r\n\r\n", "400/* close"),
    ("9112-7.1.2 a request where trailers stand", b"0\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "400/* close"),
    ("9112-7.1.2 a trailer without a name", b"0\r\n: y\r\n\r\n", "400/* close"),
    ("9112-7.1.2 a trailer with a space before the colon", b"0\r\nX : y\r\n\r\n", "400/* close"),
    ("9112-7.1.2 a folded trailer", b"0\r\nX: y\r\n z\r\n\r\n", "400/* close"),
    ("9112-7.1.2 a fold as the first trailer", b"0\r\n X: y\r\n\r\n", "400/* close"),
    ("9112-7.1.2 LF ends a trailer", b"0\r\nX: y\n\r\n", "400/* close"),
    ("9112-7.1.2 LF ends the trailers", b"0\r\nX: y\r\n\n", "400/* close"),
    ("9112-7.1.2 CR in a trailer", b"0\r\nX: y\rz\r\n\r\n", "400/* close"),
    ("9112-7.1.2 NUL in a trailer", b"0\r\nX: y\0z\r\n\r\n", "400/* close"),
];

const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

pub(super) fn generated() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in BAD_LENGTHS {
        let name = format!("9110-8.6 Content-Length: {}", length.escape_ascii());
        let input = [
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ",
            *length,
            b"\r\n\r\nhello",
        ]
        .concat();
        cases.push(Case::new(&name, &input, "400/content_length close"));
    }
    // Digits that no integer holds are a number above any limit.
    for length in [
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999999999",
        "9223372036854775808",
    ] {
        let name = format!("9110-8.6 Content-Length: {length}");
        let input = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nhello");
        cases.push(Case::new(
            &name,
            input.as_bytes(),
            "413/body_too_large close",
        ));
    }
    for &(codings, expect) in CODINGS {
        let name = format!("9112-6.1 Transfer-Encoding: {}", codings.escape_ascii());
        let head = [
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ",
            codings,
            b"\r\n\r\n",
        ]
        .concat();
        cases.push(Case::new(
            &name,
            &[&head[..], b"5\r\nhello\r\n0\r\n\r\n"].concat(),
            expect,
        ));
    }
    for &(name, chunks, expect) in CHUNKS {
        cases.push(Case::new(name, &[CHUNKED, chunks].concat(), expect));
    }
    cases
}
