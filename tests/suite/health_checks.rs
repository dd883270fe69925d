//! Requests of health checkers, by their user agent: neither delayed nor failed by injection, on whatever path. A
//! chart's default probe asks `/` and waits for a second; delayed, it would restart the pod.

use crate::support::{Client, Response, Server};

const AGENTS: [&str; 5] = [
    "kube-probe/1.31",
    "GoogleHC/1.0",
    "ELB-HealthChecker/2.0",
    "Consul Health Check",
    "Blackbox Exporter/0.25.0",
];

#[track_caller]
fn ask(server: &Server, method: &str, target: &str, agent: &str) -> Response {
    let fields = format!("User-Agent: {agent}\r\nConnection: close\r\n");
    Client::new(server).call_raw(format!(
        "{method} {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"
    ))
}

#[test]
fn a_health_check_is_neither_delayed_nor_failed() {
    let server = Server::start(&[
        "--delay-min",
        "1h",
        "--delay-max",
        "1h",
        "--error-rate",
        "1",
    ]);
    for agent in AGENTS {
        for target in ["/", "/app/status", "/any?path=1"] {
            let response = ask(&server, "GET", target, agent);
            assert_eq!(response.status, 200, "{agent} {target}: {response}");
            assert!(response.told_delay().is_zero(), "{response}");
            let note = format!("note: User-Agent \"{agent}\" is a health check");
            assert!(response.text().contains(&note), "{note}: {response}");
        }
        assert_eq!(ask(&server, "POST", "/", agent).status, 200);
    }
    let faults = server.count("http_injected_faults_total{fault=\"error_rate\"}");
    assert_eq!(faults, 0);
}

#[test]
fn another_agent_fails_and_a_control_holds_for_a_health_check_too() {
    let server = Server::start(&["--error-rate", "1"]);
    for agent in [
        "curl/8.5.0",
        "a kube-probe/1.31",
        "KUBE-PROBE/1.31",
        "kube-probe",
        "",
    ] {
        assert_eq!(ask(&server, "GET", "/", agent).status, 500, "{agent}");
    }
    let asked = ask(
        &server,
        "GET",
        "/?echo-status=503&echo-delay=50ms",
        AGENTS[0],
    );
    assert_eq!(asked.status, 503);
    assert!(asked.told_delay().as_millis() >= 50, "{asked}");
}
