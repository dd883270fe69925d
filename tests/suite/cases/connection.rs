//! RFC 9112 9: which connections persist, and requests one behind the other.

use super::{Case, Row};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    // RFC 9112 9.3: persistence in 1.1.
    ("9112-9.3 1.1 keep-alive", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", "200 keep"),
    ("9112-9.6 close", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "200 close"),
    ("9112-9.6 CLOSE", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: CLOSE\r\n\r\n", "200 close"),
    ("9112-9.6 close first in a list", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\n\r\n", "200 close"),
    ("9112-9.6 close last in a list", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x,close\r\n\r\n", "200 close"),
    ("9112-9.6 close between empty elements", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: , ,close\t,\r\n\r\n", "200 close"),
    ("9112-9.6 close and keep-alive", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, keep-alive\r\n\r\n", "200 close"),
    ("9112-9.6 keep-alive and close", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n", "200 close"),
    ("9112-9.6 close in a second line", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n", "200 close"),
    ("9112-9.6 close in a first line", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n", "200 close"),
    ("9110-7.6.1 a longer token than close", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", "200 keep"),
    ("9110-7.6.1 a shorter token than close", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: clos\r\n\r\n", "200 keep"),
    ("9110-7.6.1 an empty Connection", b"GET / HTTP/1.1\r\nHost: a\r\nConnection:\r\n\r\n", "200 keep"),
    ("9112-9.6 close on a fixed route", b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "200 close"),
    ("9112-9.6 close on a status", b"GET /status/404 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "404 close"),
    ("9112-9.6 close on bytes", b"GET /bytes/100 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "200 close"),
    ("9112-9.6 close on HEAD", b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "H200 close"),
    // RFC 9112 9.3 and C.2.2: persistence in 1.0.
    ("9112-9.3 1.0 closes after a probe", b"GET /healthz HTTP/1.0\r\n\r\n", "200 close"),
    ("9112-9.3 1.0 with another option", b"GET / HTTP/1.0\r\nConnection: x\r\n\r\n", "200 close"),
    ("9112-9.3 1.0 asks for close", b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n", "200 close"),
    ("9112-C.2.2 1.0 Proxy-Connection means nothing", b"GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n", "200 close"),
    ("9112-C.2.2 1.0 Keep-Alive alone means nothing", b"GET / HTTP/1.0\r\nKeep-Alive: timeout=5\r\n\r\n", "200 close"),
    ("9112-9.3 1.0 keep-alive and close", b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "200 close"),
    ("9112-9.3 1.0 nothing behind it is answered", b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n", "200 close"),
    ("9112-9.3 1.0 HEAD closes", b"HEAD / HTTP/1.0\r\n\r\n", "H200 close"),
    ("9112-9.3 1.0 kept alive and then not", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n", "200 200 close"),
    ("9112-9.3 1.0 with a body kept alive", b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\nHost: a\r\n\r\n", "200 200 keep"),
    ("9112-9.3 1.0 and 1.1 on one connection", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "200 200 close"),
    ("6455-4.4 WebSocket without its version", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "426/websocket_version any"),
    ("9110-7.8 another upgrade is ignored", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "200 keep"),
    ("9110-7.8 h2c is ignored", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "200 keep"),
    // RFC 9112 9.3.2: pipelining.
    ("9112-9.3.2 three requests in order", b"GET /status/201 HTTP/1.1\r\nHost: a\r\n\r\nGET /status/404 HTTP/1.1\r\nHost: a\r\n\r\nGET /status/500 HTTP/1.1\r\nHost: a\r\n\r\n", "201 404 500 keep"),
    ("9112-9.3.2 HEAD between two GETs", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /status/404 HTTP/1.1\r\nHost: a\r\n\r\n", "200 H200 404 keep"),
    ("9112-9.3.2 bodies of each kind between requests", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /status/404 HTTP/1.1\r\nHost: a\r\n\r\n", "200 200 404 keep"),
    ("9112-9.3.2 responses without bodies in order", b"GET /status/204 HTTP/1.1\r\nHost: a\r\n\r\nGET /status/304 HTTP/1.1\r\nHost: a\r\n\r\nGET /status/205 HTTP/1.1\r\nHost: a\r\n\r\nGET /bytes/3 HTTP/1.1\r\nHost: a\r\n\r\n", "204 304 205 200 keep"),
    ("9112-9.3.2 an error ends the row", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "200 400/host close"),
    ("9112-9.3.2 garbage behind a request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\0\0\0\0\r\n\r\n", "200 400/request_line close"),
    ("9112-9.3.2 a bad chunk behind a request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "200 400/chunk close"),
    // RFC 9112 8: what the client ends in the middle gets no response.
    ("9112-8 nothing at all", b"", "eof"),
    ("9112-8 an empty line", b"\r\n", "eof"),
    ("9112-8 half a request line", b"GET / HT", "eof/client_closed"),
    ("9112-8 half a head", b"GET / HTTP/1.1\r\nHost: a\r\n", "eof/client_closed"),
    ("9112-8 a head without its last byte", b"GET / HTTP/1.1\r\nHost: a\r\n\r", "eof/client_closed"),
    ("9112-8 no body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "eof/client_closed"),
    ("9112-8 half a body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel", "eof/client_closed"),
    ("9112-8 half a chunk", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "eof/client_closed"),
    ("9112-8 no last chunk", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "eof/client_closed"),
    ("9112-8 no end of trailers", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "eof/client_closed"),
    ("9112-8 half a request behind a whole one", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT", "200 eof/client_closed"),
    // RFC 9112 9.6: a client that has ended its side of the connection still reads.
    ("9112-9.6 a half-closed client gets its response", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "200 eof"),
    ("9112-9.6 a half-closed client gets the response to its body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "200 eof"),
    ("9112-9.6 a half-closed client gets all its responses", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /status/404 HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "200 404 H200 eof"),
    ("9112-9.6 a half-closed client gets its response after a delay", b"GET /delay/20ms HTTP/1.1\r\nHost: a\r\n\r\n", "200 eof"),
    ("9112-9.6 a half-closed client gets many bytes", b"GET /bytes/100000 HTTP/1.1\r\nHost: a\r\n\r\n", "200 eof"),
    ("9112-9.6 a half-closed client gets its error", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400/host eof"),
];

pub(super) fn special() -> Vec<Case> {
    let alive = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let mixed = b"GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n";
    let probe = b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    vec![
        Case::new("9112-9.6 nothing after a close with a body is answered", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\nHost: a\r\n\r\n", "200 close").whole_only(),
        Case::new("9112-9.6 nothing after close is answered", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "200 close").whole_only(),
        Case::new("9112-C.2.2 1.0 is kept alive and told so", alive, "200 keep")
            .field("Connection", "keep-alive"),
        Case::new("9112-C.2.2 1.0 Keep-Alive in a list", mixed, "200 keep").field("Connection", "keep-alive"),
        Case::new("9112-C.2.2 1.0 keep-alive on a probe", probe, "200 keep")
            .field("Connection", "keep-alive"),
        Case::new(
            "9112-C.2.2 1.0 keep-alive is not said in 1.1",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            "200 keep",
        )
        .without("Connection")
        .field("Keep-Alive", "timeout=74"),
        Case::new(
            "9110-7.8 no Upgrade in the response",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            "200 keep",
        )
        .without("Upgrade")
        .without("Connection"),
    ]
}
