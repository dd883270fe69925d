//! RFC 9110 7.6.1 and DESIGN's list: which request fields an echo may repeat and which would change its meaning.

use super::Case;

/// Fields that the echo copies, as they came.
const COPIED: &[&str] = &[
    "X-Custom: some value",
    "x-lower-case: v",
    "X-MiXeD-cAsE: VaLuE",
    "User-Agent: curl/8.5",
    "Accept: */*",
    "Accept-Encoding: gzip, br",
    "Accept-Language: en",
    "Cookie: a=b; c=d",
    "Authorization: Basic eDp5",
    "Range: bytes=0-1",
    "If-None-Match: \"x\"",
    "If-Match: \"x\"",
    "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    "Referer: http://a/b",
    "Origin: http://a",
    "From: a@b",
    "Max-Forwards: 3",
    "Forwarded: for=1.2.3.4",
    "X-Forwarded-For: 1.2.3.4, 5.6.7.8",
    "X-Forwarded-Proto: https",
    "X-Real-IP: 1.2.3.4",
    "Via: 1.1 proxy",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate: a=b",
    "Sec-Fetch-Mode: navigate",
    "Priority: u=1",
    "DNT: 1",
    "!#$%&'*+.^_`|~: token",
    "X-Empty:",
    "X-Obs: \u{e9}\u{2028}",
    "X-Inner: a  b\tc",
    "X-Colons: :a:b:",
    "X-Markup: <script>alert(1)</script>",
    "X-Percent: %0d%0aSet-Cookie: a=b",
    "X-Escaped: \\r\\nSet-Cookie: a=b",
    "X-Long-Name-That-Begins-Like-Connection: v",
    "Connectionx: v",
    "XContent-Length: 3",
    "Te-: v",
    "Vary-By: v",
    "Linked: v",
    "Locations: v",
    "Proxy: v",
    "Serve: v",
    "X-Accel: v",
    "Expect: 100-continue",
    "a: v",
    "l: v",
];

/// Fields that would change what the response means, command a browser or command a proxy.
const DROPPED: &[&str] = &[
    "Connection: x",
    "Proxy-Connection: keep-alive",
    "Proxy-Authenticate: Basic",
    "Proxy-Authorization: Basic eDp5",
    "Proxy-Authentication-Info: x",
    "Proxy-Status: x",
    "TE: trailers",
    "Trailer: X",
    "Upgrade: h2c",
    "Content-Encoding: gzip",
    "Content-Language: en",
    "Content-Location: /x",
    "Content-MD5: x",
    "Content-Range: bytes 0-1/2",
    "Content-Security-Policy: default-src *",
    "Content-Disposition: attachment",
    "Content-Digest: x",
    "ETag: \"x\"",
    "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
    "Age: 5",
    "Expires: 0",
    "Vary: *",
    "Pragma: no-cache",
    "CDN-Cache-Control: max-age=99",
    "Cloudflare-CDN-Cache-Control: max-age=99",
    "Surrogate-Control: max-age=99",
    "Surrogate-Key: x",
    "Cache-Tag: x",
    "Accept-Ranges: bytes",
    "Digest: x",
    "Repr-Digest: x",
    "Set-Cookie: a=b",
    "Set-Cookie2: a=b",
    "Location: http://evil/",
    "Refresh: 0; url=http://evil/",
    "Link: </x>; rel=preload",
    "Clear-Site-Data: \"*\"",
    "Strict-Transport-Security: max-age=99999999",
    "Access-Control-Allow-Origin: *",
    "Access-Control-Request-Method: PUT",
    "Cross-Origin-Opener-Policy: unsafe-none",
    "Permissions-Policy: x",
    "Referrer-Policy: unsafe-url",
    "X-Frame-Options: ALLOWALL",
    "NEL: {\"a\":1}",
    "Report-To: {}",
    "Reporting-Endpoints: x",
    "Service-Worker-Allowed: /",
    "SourceMap: /x",
    "Timing-Allow-Origin: *",
    "Accept-CH: x",
    "Alt-Svc: h3=\":443\"",
    "WWW-Authenticate: Basic",
    "Authentication-Info: x",
    "Retry-After: 99",
    "X-Accel-Redirect: /etc/passwd",
    "X-Accel-Expires: 99",
    "X-Sendfile: /etc/passwd",
    "X-LIGHTTPD-send-file: /etc/passwd",
    "X-LiteSpeed-Location: /x",
    "X-LiteSpeed-Cache-Control: public",
    "X-Reproxy-URL: http://evil/",
    "X-Envoy-Immediate-Health-Check-Fail: 1",
    "X-Envoy-Upstream-Service-Time: 1",
    "Accept-CH-Lifetime: 1",
    "Allow: GET",
    "Attribution-Reporting-Register-Source: x",
    "Cache-Group-Invalidation: x",
    "Cache-Groups: x",
    "Cf-Edge-Cache: x",
    "Edge-Control: x",
    "Endpoint-Load-Metrics-Bin: x",
    "Fastly-Debug: 1",
    "Grpc-Status: 1",
    "Integrity-Policy-Report-Only: x",
    "L5d-Success-Class: 1",
    "Netlify-Vary: x",
    "Public-Key-Pins-Report-Only: x",
    "Sec-Session-Registration: x",
    "X-Compress-Hint: x",
    "X-Content-Security-Policy: x",
    "X-Esi: 1",
    "Xkey: x",
    "X-Middleware-Next: 1",
    "X-Sendfile2: x",
    "X-WebKit-CSP: x",
];

/// Fields that the server sets itself: exactly one of each, and never the client's value.
const OWN: &[&str] = &[
    "Version",
    "Date",
    "Server",
    "Content-Type",
    "X-Content-Type-Options",
    "Cache-Control",
    "Server-Timing",
    "Keep-Alive",
    "X-Request-Id",
];

pub(super) fn generated() -> Vec<Case> {
    let mut cases = Vec::new();
    for line in COPIED {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
        cases.push(
            Case::new(
                &format!("echo copies {line:?}"),
                input.as_bytes(),
                "200 keep",
            )
            .line(line)
            .body(line),
        );
    }
    for line in DROPPED {
        let name = line.split(':').next().unwrap_or_default();
        for sent in [(*line).to_owned(), line.to_uppercase(), line.to_lowercase()] {
            let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{sent}\r\n\r\n");
            let case = Case::new(
                &format!("echo drops {sent:?}"),
                input.as_bytes(),
                "200 keep",
            );
            cases.push(case.without(name).body(&sent));
        }
    }
    for name in OWN {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: the client's\r\n\r\n");
        let case = Case::new(
            &format!("echo sets {name} itself"),
            input.as_bytes(),
            "200 keep",
        );
        cases.push(
            case.has_field(name)
                .without_line(&format!("{name}: the client's")),
        );
    }
    cases
}

pub(super) fn special() -> Vec<Case> {
    let mut cases = order_and_body();
    let json =
        b"PUT /x?y HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nX: y\r\nX: z\r\nContent-Length: 2\r\n\r\nhi";
    cases.push(
        Case::new("echo as JSON", json, "200 keep")
            .field_has("Content-Type", "application/json")
            .body("\"method\":\"PUT\"")
            .body("\"target\":\"/x?y\"")
            .body("[\"X\",\"y\"],[\"X\",\"z\"]")
            .body("\"body\":\"hi\"")
            .body("\"body_bytes\":2"),
    );
    let binary = b"PUT / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nContent-Length: 2\r\n\r\n\xff\xfe";
    cases.push(
        Case::new("echo as JSON of a body that is no text", binary, "200 keep")
            .body("\"body\":null")
            .body("\"body_bytes\":2"),
    );
    let (text, json, html) = ("text/plain", "application/json", "text/html");
    for (accept, form) in [
        ("*/*", text),
        ("text/html, */*;q=0.8", html),
        ("text/plain, application/json;q=0.5", text),
        ("application/json;q=0", text),
        ("application/json", json),
        ("application/json, text/plain;q=0.5", json),
        ("text/plain;q=0.5, application/json;q=0.9", json),
        ("Application/JSON", json),
        ("application/json\r\nAccept: text/plain;q=0.5", json),
        ("text/plain;q=0.5\r\nAccept: application/json", json),
        ("application/json;q=0.5\r\nAccept: text/plain", text),
        ("text/plain\r\nAccept: application/json;q=0.5", text),
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n");
        let name = format!("9110-12.5.1 Accept: {accept:?}");
        let case = Case::new(&name, input.as_bytes(), "200 keep");
        cases.push(case.field_has("Content-Type", form));
    }
    cases
}

fn order_and_body() -> Vec<Case> {
    let many = b"GET / HTTP/1.1\r\nHost: h\r\nB: 2\r\nA: 1\r\nb: 3\r\nB: 2\r\nC: 4\r\n\r\n";
    let named = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-One, x-two ,,\r\nConnection: x-three\r\nX-One: 1\r\nX-TWO: 2\r\nX-Three: 3\r\nX-Four: 4\r\n\r\n";
    let own = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Version, Date, Server, Content-Length, Content-Type\r\n\r\n";
    let raw = b"PoSt /p%20q?r=s HTTP/1.1\r\nhOsT:a\r\nX:   spaced\t\r\nConnection: x\r\nCookie: secret\r\nContent-Length: 5\r\n\r\nhello";
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=ension\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: yes\r\n\r\n";
    let body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 19\r\n\r\nX: y\r\nSet-Cookie: z";
    vec![
        Case::new("echo keeps order, case and duplicates", many, "200 keep")
            .lines(&["Host: h", "B: 2", "A: 1", "b: 3", "B: 2", "C: 4"]),
        Case::new("9110-7.6.1 fields that Connection names are dropped", named, "200 keep")
            .without("X-One")
            .without("X-Two")
            .without("X-Three")
            .line("X-Four: 4"),
        Case::new("9110-7.6.1 Connection cannot remove the server's own", own, "200 keep")
            .has_field("Version")
            .has_field("Date")
            .has_field("Server")
            .has_field("Content-Length")
            .has_field("Content-Type"),
        Case::new("echo's body is the head as it arrived", raw, "200 keep")
            .body("\n\nPoSt /p%20q?r=s HTTP/1.1\r\nhOsT:a\r\nX:   spaced\t\r\nConnection: x\r\nCookie: secret\r\nContent-Length: 5\r\n\r\nhello")
            .body("method: PoSt\n")
            .body("target: /p%20q?r=s\n")
            .body("protocol: HTTP/1.1\n")
            .body("peer: 127.0.0.1:")
            .body("client: 127.0.0.1\n")
            .body("delay: "),
        Case::new("echo's body has the chunks' data and no trailers", chunked, "200 keep")
            .body_ends("\r\n\r\nhello")
            .body_without("X-Trailer")
            .body_without("ension")
            .without("X-Trailer"),
        Case::new("echo's body is no field", body, "200 keep").body_ends("X: y\r\nSet-Cookie: z").without("Set-Cookie").without("X"),
        Case::request("echo has its own fields", "GET /", "200 keep")
            .field("X-Content-Type-Options", "nosniff")
            .field("Cache-Control", "no-store")
            .field_has("Server-Timing", "delay;dur=0")
            .field_has("Content-Type", "text/plain")
            .has_field("Version")
            .has_field("Server"),
        Case::new("echo of 1.0", b"GET / HTTP/1.0\r\nX: y\r\n\r\n", "200 close").line("X: y").body("protocol: HTTP/1.0\n"),
        Case::request("echo of an absolute form", "GET http://b:1/x", "200 keep").body("GET http://b:1/x HTTP/1.1\r\n"),
        Case::new("echo of an escaped injection", b"GET /%0d%0aX-Injected:%20y?%0aX-Injected:z HTTP/1.1\r\nHost: a\r\nX-Request-Id: a%0d%0aX-Injected:%20y\r\n\r\n", "200 keep")
            .without("X-Injected"),
        Case::new("HEAD of the echo copies too", b"HEAD / HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Encoding: gzip\r\n\r\n", "H200 keep")
            .line("X: y")
            .without("Content-Encoding"),
    ]
}
