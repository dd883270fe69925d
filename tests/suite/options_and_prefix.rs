//! `OPTIONS` on every route, the probes and their other spellings, and `--path-prefix`.

use crate::support::server::TOKEN;
use crate::support::{Client, Response, Server};

const READ: &str = "GET, HEAD, OPTIONS";
const ANY: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

#[track_caller]
fn ask(server: &Server, method: &str, target: &str) -> Response {
    let fields = format!("Authorization: Bearer {TOKEN}\r\n");
    Client::new(server).call(method, target, &fields, "")
}

#[test]
fn options_tells_the_methods_of_every_route() {
    let server = Server::start_admin(&["--allow-burn", "true"]);
    for (target, allow) in [
        ("/metrics", READ),
        ("/version", READ),
        ("/bytes/1MiB", READ),
        ("/bytes/1MiB?over=10m", READ),
        ("/events", "GET, OPTIONS"),
        ("/favicon.ico", READ),
        ("/status/503", ANY),
        ("/delay/60s", ANY),
        ("/upload", ANY),
        ("/burn/10s", ANY),
        ("/admin/settings", READ),
        ("/admin/requests", READ),
        ("/admin/settings/ready", "PUT, OPTIONS"),
        ("*", "OPTIONS"),
    ] {
        let response = ask(&server, "OPTIONS", target);
        assert_eq!(
            (
                response.status,
                response.field("allow"),
                response.body.len()
            ),
            (200, allow, 0),
            "{target}: {response}"
        );
        // What is told is true: the first that is not told is refused.
        if target != "*" && !allow.contains("DELETE") {
            let refused = ask(&server, "DELETE", target);
            assert_eq!(
                (refused.status, refused.field("allow")),
                (405, allow),
                "{target}"
            );
        }
    }
    // The echo shows what came, and tells its methods too.
    let echo = ask(&server, "OPTIONS", "/app/x");
    assert_eq!((echo.status, echo.field("allow")), (200, ANY), "{echo}");
    assert!(echo.text().starts_with("method: OPTIONS\n"), "{echo}");
    // Whoever has no token is not told anything.
    assert_eq!(
        Client::new(&server)
            .call("OPTIONS", "/admin/settings", "", "")
            .status,
        401
    );
}

/// Asserts that each of these paths answers so, by whatever method a health checker asks.
#[track_caller]
fn probes_say(server: &Server, paths: &[&str], status: u16, text: &str) {
    for path in paths {
        // HAProxy's check by default: without Host, and with the connection's end.
        let options = Client::new(server).call_raw(format!("OPTIONS {path} HTTP/1.0\r\n\r\n"));
        for (method, response) in [("OPTIONS", options), ("GET", server.get(path))] {
            let got = (response.status, &response.text()[..]);
            assert_eq!(got, (status, text), "{method} {path}");
        }
        let full = server.get(&format!("{path}?full=1"));
        assert_eq!(full.status, status, "GET {path}?full=1");
    }
}

#[test]
fn the_settings_switch_the_probes_which_take_options_as_get() {
    const LIVE: &[&str] = &[
        "/healthz",
        "/healthz/",
        "/livez",
        "/livez/",
        "/app/healthz",
        "/app/livez/",
    ];
    const READY: &[&str] = &["/readyz", "/readyz/", "/app/readyz"];
    let server = Server::start_admin(&["--path-prefix", "/app"]);
    for (name, good, bad, paths, other) in [
        ("live", "ok\n", "not alive\n", LIVE, "/readyz"),
        ("ready", "ready\n", "not ready\n", READY, "/healthz"),
    ] {
        for (value, status, text) in [
            ("true", 200, good),
            ("false", 503, bad),
            ("true", 200, good),
        ] {
            server.set(name, value);
            probes_say(&server, paths, status, text);
            assert_eq!(server.get(other).status, 200, "{name} leaves {other} alone");
            let listed = server.admin("GET", "settings", "").json();
            assert_eq!(listed[name].to_string(), value);
            // The gauge follows.
            let ready = u64::from(name != "ready" || value == "true");
            assert_eq!(server.count("httpserver_ready"), ready);
        }
    }
}

#[test]
fn what_only_begins_like_a_probe_is_the_echo() {
    let server = Server::start(&["--path-prefix", "/app"]);
    for path in [
        "/healthz/x",
        "/readyzx",
        "/livez//",
        "/app/healthz/x",
        "/apphealthz",
        "/healthz%2f",
    ] {
        let response = server.get(path);
        assert!(
            response.text().contains(&format!("\ntarget: {path}\n")),
            "{path}: {response}"
        );
    }
}

#[test]
fn a_prefix_adds_every_route_below_it_and_takes_none_away() {
    let server = Server::start_admin(&["--path-prefix", "/shop/v1/", "--allow-burn", "true"]);
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/version",
        "/bytes/3",
        "/admin/settings",
        "/burn/1ms",
        "/events?count=0",
    ] {
        for target in [path.to_owned(), format!("/shop/v1{path}")] {
            let response = ask(&server, "GET", &target);
            assert_eq!(response.status, 200, "{target}: {response}");
            assert_eq!(
                response.text().contains("\ntarget: "),
                path.starts_with("/burn"),
                "{target}: {response}"
            );
        }
    }
    assert_eq!(server.get("/shop/v1/status/404").status, 404);
    for echo in [
        "/shop/v1",
        "/shop/v1/",
        "/shop/v1healthz",
        "/shop/healthz",
        "/shop/v1/shop/v1/healthz",
        "/Shop/v1/healthz",
    ] {
        let response = server.get(echo);
        assert!(
            response.text().contains(&format!("\ntarget: {echo}\n")),
            "{echo}: {response}"
        );
    }
    // The metrics count them by route, and no label has the path.
    let scrape = server.scrape();
    assert_eq!(
        scrape.count("http_requests_total{code=\"404\",method=\"GET\",route=\"status\"}"),
        1
    );
    assert!(!scrape.0.contains("shop"), "{}", scrape.0);
}
