//! The ways to refuse a request: one table of label, status and reason.
//!
//! The label is the `reason` of the metric `http_rejected_requests_total` and of the log line. The
//! table has a group for each cause: syntax, limits, routes and load. A request that ends without a
//! response is no refusal: see `Aborted` in `observe/metrics.rs`.

use std::fmt;

use crate::http::status::Status;
use crate::labelled::labelled;

macro_rules! request_errors {
    ($($name:ident $label:literal $status:literal $reason:literal,)*) => {
        labelled! {
            /// Why a request is refused.
            #[allow(missing_docs, reason = "the text for the client says what each is")]
            RequestError { $($name $label,)* }
        }

        impl RequestError {
            /// The status of the response.
            pub fn status(self) -> Status {
                match self { $(RequestError::$name => Status($status),)* }
            }

            /// What was wrong and what was expected, for the client.
            pub fn reason(self) -> &'static str {
                match self { $(RequestError::$name => $reason,)* }
            }
        }
    };
}

request_errors! {
    // Syntax: the bytes are no request that RFC 9112 allows, or another protocol.
    RequestLine "request_line" 400 "the request line is not a method, a target and a version with one space between",
    Target "target" 400 "the target is not an absolute path or an http URL in visible ASCII or UTF-8",
    Version "version" 400 "the version is not HTTP/ and two digits with a dot between",
    Field "field" 400 "a header field is not a name, a colon and a value without control bytes",
    LineEnd "line_end" 400 "a line does not end with CR LF",
    Host "host" 400 "there is not exactly one Host field with a valid host and port",
    Framing "framing" 400 "Transfer-Encoding is not one final chunked in HTTP/1.1 without Content-Length",
    ContentLength "content_length" 400 "there is more than one Content-Length or it is not a number",
    Chunk "chunk" 400 "the chunked body is malformed or has too many bytes besides its data",
    VersionUnsupported "version_unsupported" 505 "this server speaks only HTTP/1.0 and HTTP/1.1",
    CodingUnsupported "coding_unsupported" 501 "the only transfer coding is chunked",
    Expectation "expectation" 417 "the only expectation is 100-continue",
    Tls "tls" 400 "this port speaks plain HTTP, the client began a TLS handshake",
    Http2 "http2" 505 "this port speaks HTTP/1.1, the client began HTTP/2",
    ProxyProtocol "proxy_protocol" 400 "this server does not take the PROXY protocol; switch it off at the proxy",

    // Limit: the request is larger or slower than the limits allow.
    TargetTooLong "target_too_long" 414 "the request line is longer than 8 KiB",
    HeadTooLarge "head_too_large" 431 "the request head is larger than max-head, or has more than 100 fields or Connection options",
    BodyTooLarge "body_too_large" 413 "the body is larger than this server takes",
    HeaderTimeout "header_timeout" 408 "the request head took too long",
    BodyTimeout "body_timeout" 408 "the request body took too long",

    // Route: the route does not take this request.
    Method "method" 405 "this route does not take the method",
    Parameter "parameter" 400 "a parameter has a value that this route does not take",
    NotFound "not_found" 404 "there is nothing here",
    Unauthorized "unauthorized" 401 "the bearer token is missing or wrong",
    WebSocketVersion "websocket_version" 426 "the only WebSocket version is 13",
    WebSocketKey "websocket_key" 400 "Sec-WebSocket-Key is not the base64 of 16 bytes",

    // Load: the server has no room at present; the client may try again.
    BodyMemory "body_memory" 503 "the memory for request bodies is in use",
    Shed "shed" 503 "every connection slot of this server is in use",
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for RequestError {}
