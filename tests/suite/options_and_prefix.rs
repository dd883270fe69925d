//! `OPTIONS` on every route, other spellings of the probes, `--path-prefix`, and the icon that browsers ask for.

use crate::support::{Client, Response, Server};

const TOKEN: &str = "s3cret-Token.of~the+test/44=";
const READ: &str = "GET, HEAD, OPTIONS";
const ANY: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

#[track_caller]
fn ask(server: &Server, method: &str, target: &str) -> Response {
    let fields = format!("Authorization: Bearer {TOKEN}\r\n");
    Client::new(server).call(method, target, &fields, "")
}

#[test]
fn options_tells_the_methods_of_every_route() {
    let server = Server::start_with(&["--allow-burn", "true"], &[("ADMIN_TOKEN", TOKEN)]);
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

#[test]
fn a_probe_takes_options_as_get() {
    let server = Server::start_with(&["--path-prefix", "/app"], &[("ADMIN_TOKEN", TOKEN)]);
    // HAProxy's check by default: without Host, and with the connection's end.
    let check =
        |path: &str| Client::new(&server).call_raw(format!("OPTIONS {path} HTTP/1.0\r\n\r\n"));
    let set = |name: &str, value: &str| {
        let fields = format!("Authorization: Bearer {TOKEN}\r\n");
        let response =
            Client::new(&server).call("PUT", &format!("/admin/settings/{name}"), &fields, value);
        assert_eq!(response.status, 200, "{response}");
    };
    for (name, good, bad, paths) in [
        (
            "live",
            "ok\n",
            "not alive\n",
            &[
                "/healthz",
                "/healthz/",
                "/livez",
                "/livez/",
                "/app/healthz",
                "/app/livez/",
            ][..],
        ),
        (
            "ready",
            "ready\n",
            "not ready\n",
            &["/readyz", "/readyz/", "/app/readyz"],
        ),
    ] {
        for (value, status, text) in [("true", 200, good), ("false", 503, bad)] {
            set(name, value);
            for path in paths {
                let response = check(path);
                assert_eq!(
                    (response.status, &response.text()[..]),
                    (status, text),
                    "OPTIONS {path}"
                );
                let response = server.get(path);
                assert_eq!(
                    (response.status, &response.text()[..]),
                    (status, text),
                    "GET {path}"
                );
                let response = server.get(&format!("{path}?full=1"));
                assert_eq!(response.status, status, "GET {path}?full=1");
            }
        }
    }
    // What only begins like a probe is the echo.
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
    let server = Server::start_with(
        &["--path-prefix", "/shop/v1/", "--allow-burn", "true"],
        &[("ADMIN_TOKEN", TOKEN)],
    );
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

#[test]
fn there_is_no_icon() {
    let mut server = Server::start(&["--log-level", "debug"]);
    let response = server.get("/favicon.ico");
    assert_eq!(response.status, 404, "{response}");
    assert!(
        server.get("/favicon.ico/x").text().contains("\ntarget: "),
        "another path is the echo"
    );
    let line = server.line("/favicon.ico ");
    assert_eq!(
        (line.field("route"), line.field("level")),
        ("favicon", "debug")
    );
    server.stop();
}
