//! Two things that only the operator of a process sees: the lines on stderr as log collectors read them, and SIGHUP,
//! which a terminal or a process manager sends and which drains as SIGTERM does.

use serde_json::Value;

use crate::support::{Client, Server};

#[test]
fn a_hangup_finishes_what_is_in_flight() {
    let mut server = Server::start(&["--drain-timeout", "1h"]);
    let mut client = Client::new(&server);
    client.ask("/delay/4s");
    server.wait_in_flight(1);
    server.signal("HUP");
    server.stderr.line("draining");
    let response = client.response();
    assert!(response.status == 200 && response.closes(), "{response}");
    server.ends_well();
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn json_diagnostics_carry_the_severity_that_google_cloud_reads() {
    // More connections than any host allows: that is a warning.
    let flags = ["--log-format", "json", "--max-connections", "1000000"];
    let mut server = Server::start(&flags);
    server.stop();
    let text = server.stderr.text();
    let mut seen = Vec::new();
    for line in text.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let pair = (line["level"].as_str(), line["severity"].as_str());
        assert!(
            [
                (Some("info"), Some("INFO")),
                (Some("warn"), Some("WARNING"))
            ]
            .contains(&pair),
            "{line}"
        );
        seen.push(pair.0.unwrap_or_default().to_owned());
    }
    assert!(
        ["info", "warn"]
            .iter()
            .all(|level| seen.iter().any(|seen| seen == level)),
        "{text}"
    );
}
