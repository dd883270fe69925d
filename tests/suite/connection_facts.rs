//! What the echo tells of its connection: the number of the request on it, its age, how long it was idle. And what the
//! server tells of it in `Keep-Alive`.

use crate::support::{Client, Response, Server, ms, pause};

/// The three facts of a response, which must stand in either form; the number as it is written.
#[track_caller]
fn facts(client: &mut Client, form: &str) -> (String, f64, f64) {
    let response = client.call("GET", "/", &format!("Accept: {form}\r\n"), "");
    let fact = |name: &str| -> String {
        if form == "application/json" {
            return response.json()[name].to_string();
        }
        let start = format!("{name}: ");
        let text = response.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {name} in {response}"))
            .to_owned()
    };
    let seconds = |name| -> f64 { fact(name).parse().expect("a number") };
    (
        fact("request_on_connection"),
        seconds("connection_age"),
        seconds("idle_before"),
    )
}

#[test]
fn the_echo_tells_number_age_and_idle_time() {
    let server = Server::start(&[]);
    for form in ["text/plain", "application/json"] {
        let mut client = Client::new(&server);
        let (number, first_age, idle) = facts(&mut client, form);
        assert_eq!(number, "1");
        assert!(
            (idle - first_age).abs() < 0.001,
            "before the first request age and idle time are one"
        );
        pause(ms(300));
        let (number, age, idle) = facts(&mut client, form);
        assert_eq!(number, "2");
        assert!(idle >= 0.3, "it was idle for 0.3 s: {idle}");
        assert!(
            age >= first_age + 0.3 && age >= idle,
            "age {age} after {first_age}"
        );
        assert_eq!(facts(&mut client, form).0, "3");
        assert_eq!(
            facts(&mut Client::new(&server), form).0,
            "1",
            "each connection counts for itself"
        );
    }
}

#[test]
fn the_idle_time_is_that_before_the_request_and_not_its_delay() {
    let server = Server::start(&[]);
    let mut client = Client::new(&server);
    client.send("GET /?echo-delay=3s HTTP/1.1\r\nHost: test\r\n\r\nGET / HTTP/1.1\r\nHost: test\r\nAccept: application/json\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let json = client.response().json();
    assert_eq!(json["request_on_connection"], 2);
    let (age, idle) = (
        json["connection_age"].as_f64(),
        json["idle_before"].as_f64(),
    );
    assert!(age >= Some(3.0), "{json}");
    assert!(
        idle < Some(2.0),
        "the second was here before the first response: {json}"
    );
}

#[track_caller]
fn keep_alive(server: &Server, request: &str) -> (Response, String) {
    let response = Client::new(server).call_raw(format!("{request}\r\nHost: test\r\n\r\n"));
    let told = response.field("keep-alive").to_owned();
    (response, told)
}

#[test]
fn what_keeps_the_connection_tells_for_how_long() {
    // A second less than the limit, so that clients close first.
    for (flags, told) in [
        (&[][..], "timeout=74"),
        (&["--idle-timeout", "10m"], "timeout=599"),
        (&["--idle-timeout", "2500ms"], "timeout=1"),
        (&["--idle-timeout", "1s"], ""),
    ] {
        let server = Server::start(flags);
        for target in [
            "/",
            "/healthz",
            "/version",
            "/status/404",
            "/bytes/9?chunked",
        ] {
            let request = format!("GET {target} HTTP/1.1");
            assert_eq!(keep_alive(&server, &request).1, told, "{flags:?} {target}");
        }
        let (response, kept) = keep_alive(&server, "GET / HTTP/1.0\r\nConnection: keep-alive");
        assert_eq!(
            (response.field("connection"), &kept[..]),
            ("keep-alive", told)
        );
        for closes in [
            "GET / HTTP/1.0",
            "GET / HTTP/1.1\r\nConnection: close",
            "GET /?echo-close HTTP/1.1",
        ] {
            let (response, kept) = keep_alive(&server, closes);
            assert_eq!((response.closes(), &kept[..]), (true, ""), "{closes}");
        }
    }
}
