//! RFC 9110: methods, expectations, and the routes with their statuses and the fields these demand.

use super::{Case, Row};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    // RFC 9110 9: methods on the echo.
    ("9110-9.3.4 PUT /", b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "200 keep"),
    ("9110-9.3.5 DELETE /", b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", "200 keep"),
    ("9110-9.3.7 OPTIONS /", b"OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", "200 keep"),
    ("5789-2 PATCH /", b"PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "200 keep"),
    ("9110-9.1 PROPFIND /", b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", "200 keep"),
    ("9110-9.3.8 TRACE is no method of any route", b"TRACE /status/200 HTTP/1.1\r\nHost: a\r\n\r\n", "405/method any"),
    ("9110-9.3.8 TRACE /healthz", b"TRACE /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "405/method any"),
    ("9110-9.3.8 TRACE of an absolute form", b"TRACE http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "405/method any"),
    // RFC 9110 9.3.6: what follows CONNECT is tunnel bytes.
    ("9110-9.3.6 CONNECT", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "405/method close"),
    ("9110-9.3.6 a request behind CONNECT is none", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "405/method close"),
    ("9110-9.3.6 CONNECT without Host", b"CONNECT a:80 HTTP/1.1\r\n\r\n", "400/host close"),
    ("9112-3.2.3 CONNECT of a path", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", "400|405/* close"),
    ("9112-3.2.3 CONNECT of a URL", b"CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400|405/* close"),
    ("9112-3.2.3 CONNECT without a port", b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", "400|405/* close"),
    ("9110-9.3.6 CONNECT in 1.0", b"CONNECT a:80 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "405/method close"),
    ("9110-9.3.6 CONNECT with a length", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 100\r\n\r\n", "405/method close"),
    // RFC 9110 10.1.1: expectations. The body is here, so the interim response is only sent where it came late.
    ("9110-10.1.1 100-continue and its body", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "100? 200 keep"),
    ("9110-10.1.1 100-Continue compares without case", b"POST / HTTP/1.1\r\nHost: a\r\nexpect: 100-CONTINUE\r\nContent-Length: 5\r\n\r\nhello", "100? 200 keep"),
    ("9110-10.1.1 100-continue and chunks", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "100? 200 keep"),
    ("9110-10.1.1 100-continue and a bad chunk", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "100? 400/chunk close"),
    ("9110-10.1.1 100-continue without a body", b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", "200 keep"),
    ("9110-10.1.1 100-continue and a length of zero", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n", "200 keep"),
    ("9110-10.1.1 100-continue in 1.0 is ignored", b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "200 close"),
    ("9110-10.1.1 another expectation in 1.0 is ignored", b"GET / HTTP/1.0\r\nExpect: x\r\n\r\n", "200 close"),
    ("9110-10.1.1 another expectation", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 5\r\n\r\nhello", "417/expectation close"),
    ("9110-10.1.1 another expectation without a body", b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", "417/expectation close"),
    ("9110-10.1.1 100-continue and another", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\nContent-Length: 5\r\n\r\nhello", "417/expectation close"),
    ("9110-10.1.1 another in a second line", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: x\r\nContent-Length: 5\r\n\r\nhello", "417/expectation close"),
    ("9110-10.1.1 100-continue with a parameter (stricter: refused)", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue;x=y\r\nContent-Length: 5\r\n\r\nhello", "417/expectation close"),
    ("9110-10.1.1 no interim response before 413", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n", "413/body_too_large close"),
    ("9110-10.1.1 no interim response before 400", b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "400/host close"),
    ("9110-10.1.1 no interim response before 405", b"POST /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "405/method any"),
    ("9110-10.1.1 no interim response before a parameter's 400", b"POST /status/abc HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "400/parameter any"),
    // RFC 9110 14.2 and 13: what the echo does not do.
    ("9110-14.2 Range is ignored", b"GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n", "200 keep"),
    ("9110-14.2 Range on bytes is ignored", b"GET /bytes/10 HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n", "200 keep"),
    ("9110-13.1.2 If-None-Match is ignored", b"GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\n\r\n", "200 keep"),
    // The routes' parameters.
    ("routes /status without a code", b"GET /status/ HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /status/199", b"GET /status/199 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /status/100", b"GET /status/100 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /status/101", b"GET /status/101 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /status/600", b"GET /status/600 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /status/0", b"GET /status/0 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /status/2000", b"GET /status/2000 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /status/65736 does not wrap", b"GET /status/65736 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /status/+200 (stricter: refused)", b"GET /status/+200 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /status/0200 (stricter: refused)", b"GET /status/0200 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /status/200x", b"GET /status/200x HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /status/-200", b"GET /status/-200 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /status by POST with chunks", b"POST /status/503 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "503 keep"),
    ("routes HEAD /status", b"HEAD /status/404 HTTP/1.1\r\nHost: a\r\n\r\n", "H404 keep"),
    ("routes HEAD /status/204", b"HEAD /status/204 HTTP/1.1\r\nHost: a\r\n\r\n", "H204 keep"),
    ("routes HEAD /status/abc", b"HEAD /status/abc HTTP/1.1\r\nHost: a\r\n\r\n", "H400/parameter any"),
    ("routes /delay with letters", b"GET /delay/abc HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /delay without a duration", b"GET /delay/ HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /delay without a unit", b"GET /delay/5 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /delay below zero", b"GET /delay/-1s HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /delay too long by a little", b"GET /delay/60s1ms HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /delay of a year", b"GET /delay/8760h HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /delay past 64 bits", b"GET /delay/99999999999999999999s HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /delay of nothing", b"GET /delay/0s HTTP/1.1\r\nHost: a\r\n\r\n", "200 keep"),
    ("routes /delay by POST", b"POST /delay/1ms HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", "200 keep"),
    ("routes HEAD /delay", b"HEAD /delay/1ms HTTP/1.1\r\nHost: a\r\n\r\n", "H200 keep"),
    ("routes /bytes with letters", b"GET /bytes/abc HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /bytes without a size", b"GET /bytes/ HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /bytes below zero", b"GET /bytes/-1 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /bytes too many by one", b"GET /bytes/1073741825 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /bytes too many", b"GET /bytes/2GiB HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /bytes past 64 bits", b"GET /bytes/99999999999999999999 HTTP/1.1\r\nHost: a\r\n\r\n", "400/parameter any"),
    ("routes /bytes of nothing in chunks", b"GET /bytes/0?chunked HTTP/1.1\r\nHost: a\r\n\r\n", "200 keep"),
    ("routes /bytes in 1.0 chunked is close-delimited", b"GET /bytes/5000?chunked HTTP/1.0\r\n\r\n", "200 close"),
    ("routes /bytes in 1.0 chunked closes although asked not to", b"GET /bytes/5000?chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200 close"),
    ("routes /admin without a token echoes", b"GET /admin/settings HTTP/1.1\r\nHost: a\r\n\r\n", "200 keep"),
    ("routes a longer path than /healthz echoes", b"POST /healthz/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "200 keep"),
    ("routes a longer name than /healthz echoes", b"POST /healthzz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "200 keep"),
    ("routes are in lower case", b"POST /Healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "200 keep"),
];

const GET_HEAD: &[&str] = &[
    "/healthz",
    "/healthz/",
    "/livez",
    "/readyz",
    "/readyz/",
    "/metrics",
    "/version",
    "/bytes/5",
];

/// Parameters that are refused, and what the refusal tells of the value and of the forms that are taken.
#[rustfmt::skip]
const REFUSED: &[(&str, &[&str])] = &[
    ("/status/999", &["200 to 599"]),
    ("/status/abc", &["200 to 599"]),
    ("/delay/3", &["250ms"]),
    ("/delay/61s", &["60s"]),
    ("/bytes/1XB", &["64KiB"]),
    ("/bytes/2Gi", &["\"2Gi\"", "64KiB"]),
    ("/bytes/1mib", &["\"1mib\"", "1MiB"]),
    ("/bytes/1Mi?over=11m", &["\"11m\"", "10m"]),
    ("/bytes/1Mi?over=3", &["\"3\"", "duration"]),
];

/// Statuses and a field that each must have.
const DEMANDED: &[(u16, &str)] = &[
    (300, "Location"),
    (301, "Location"),
    (302, "Location"),
    (303, "Location"),
    (307, "Location"),
    (308, "Location"),
    (401, "WWW-Authenticate"),
    (405, "Allow"),
    (407, "Proxy-Authenticate"),
    (416, "Content-Range"),
    (426, "Upgrade"),
];

pub(super) fn generated() -> Vec<Case> {
    let request = |name: &str, method: &str, path: &str, expect: &str| {
        Case::request(
            &format!("{name}: {method} {path}"),
            &format!("{method} {path}"),
            expect,
        )
    };
    let mut cases = Vec::new();
    for path in GET_HEAD {
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
            let case = request("9110-15.5.6", method, path, "405/method any");
            cases.push(case.field_has("Allow", "GET, HEAD"));
        }
        for (method, expect) in [("GET", "200 keep"), ("HEAD", "H200 keep")] {
            let case = request("9110-9.3.2", method, path, expect);
            cases.push(
                case.has_field("Content-Length")
                    .without("Transfer-Encoding"),
            );
        }
    }
    for (path, tells) in REFUSED {
        let case = request("routes", "GET", path, "400/parameter any");
        cases.push(tells.iter().fold(case, |case, part| case.body(part)));
    }
    for (status, field) in DEMANDED {
        let (path, expect) = (format!("/status/{status}"), format!("{status} any"));
        cases.push(request("9110-15 its field", "GET", &path, &expect).has_field(field));
    }
    for status in [204, 205, 304] {
        for method in ["GET", "POST"] {
            let name = format!("9110-15 {status} to {method} has no body");
            let head = format!("{method} /status/{status} HTTP/1.1\r\nHost: a\r\n");
            let input = head + "Content-Length: 2\r\n\r\nhi";
            let case = Case::new(&name, input.as_bytes(), &format!("{status} keep"));
            cases.push(case.body_is(b""));
        }
        let (path, expect) = (format!("/?echo-status={status}"), format!("H{status} keep"));
        let case = request("9110-9.3.2 as to GET", "HEAD", &path, &expect);
        let case = case.without("Content-Type");
        cases.push(if status == 205 {
            case.field("Content-Length", "0")
        } else {
            case.without("Content-Length")
        });
    }
    cases
}

#[rustfmt::skip]
pub(super) fn special() -> Vec<Case> {
    let options = b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
    let old = b"OPTIONS * HTTP/1.0\r\n\r\n";
    vec![
        Case::new("9110-9.3.7 OPTIONS *", options, "200 keep").has_field("Allow"),
        Case::new("9110-9.3.7 OPTIONS * in 1.0", old, "200 close").has_field("Allow"),
        Case::request("9110-9.3.8 TRACE / has Allow", "TRACE /", "405/method any").has_field("Allow"),
        Case::new("9110-9.3.6 CONNECT has Allow", b"CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n", "405/method close")
            .has_field("Allow"),
        Case::request("routes Location is /", "GET /status/302", "302 keep").field("Location", "/"),
        Case::request("routes 201 has no Location", "GET /status/201", "201 keep").without("Location"),
        Case::request("9110-8.6 204 has no Content-Length", "GET /status/204", "204 keep")
            .without("Content-Length").without("Transfer-Encoding"),
        Case::request("9110-15.3.6 205 has no Transfer-Encoding", "GET /status/205", "205 keep").without("Transfer-Encoding"),
        Case::request("9110-15.4.5 304 has no Transfer-Encoding", "GET /status/304", "304 keep").without("Transfer-Encoding"),
    ]
}

/// What the routes say.
#[rustfmt::skip]
pub(super) fn routes() -> Vec<Case> {
    vec![
        Case::request("routes /healthz says ok", "GET /healthz", "200 keep").body("ok"),
        Case::request("routes /readyz says ready", "GET /readyz", "200 keep").body("ready"),
        Case::request("routes /healthz with a query", "GET /healthz?x", "200 keep").body("ok"),
        Case::request("routes /metrics and its type", "GET /metrics", "200 keep")
            .field_has("Content-Type", "text/plain; version=0.0.4").body("\nhttp_requests_total{"),
        Case::request("routes /version is JSON", "GET /version", "200 keep")
            .field_has("Content-Type", "application/json").body("\"version\""),
        Case::request("routes /favicon.ico is not found", "GET /favicon.ico", "404 keep"),
        Case::request("routes /bytes/5", "GET /bytes/5", "200 keep").body_length(5),
        Case::request("routes /bytes/0", "GET /bytes/0", "200 keep").body_length(0).field("Content-Length", "0"),
        Case::request("routes /bytes/64KiB", "GET /bytes/64KiB", "200 keep").body_length(65_536),
        Case::request("routes /bytes/100001", "GET /bytes/100001", "200 keep").body_length(100_001),
        Case::request("routes /bytes in chunks", "GET /bytes/100001?chunked", "200 keep")
            .body_length(100_001).field("Transfer-Encoding", "chunked").without("Content-Length"),
        Case::new("routes /bytes in 1.0 chunked is whole", b"GET /bytes/100001?chunked HTTP/1.0\r\n\r\n", "200 close")
            .body_length(100_001).without("Transfer-Encoding").without("Content-Length"),
        Case::request("9110-9.3.2 HEAD of all bytes", "HEAD /bytes/1GiB", "H200 keep").field("Content-Length", "1073741824"),
        Case::request("9110-9.3.2 HEAD of chunked bytes", "HEAD /bytes/5?chunked", "H200 keep").without("Content-Length"),
        Case::request("9110-9.3.2 HEAD of the echo has no length", "HEAD /", "H200 keep")
            .without("Content-Length").without("Transfer-Encoding"),
        Case::request("routes /delay says how long", "GET /delay/20ms", "200 keep").field_has("Server-Timing", "delay;dur=2"),
        Case::new("9110-15.5.1 a refusal is text and says why", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400/host close")
            .field_has("Content-Type", "text/plain").body("400 Bad Request: ").field("X-Content-Type-Options", "nosniff"),
    ]
}
