//! What every part of a running server needs: one bundle of borrows, copied freely and passed first.
//!
//! It holds no state of its own. There are no globals and no reference counts: `main` owns what is borrowed here, and
//! everything that borrows ends before it.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::access_log::{self, Log};
use crate::body::Budget;
use crate::config::Config;
use crate::live::{Level, Live};
use crate::lobby::Lobby;
use crate::metrics::{Metrics, Moment};
use crate::process;
use crate::text;

/// The bundle.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The settings.
    pub config: &'a Config,
    /// What `/admin` can change.
    pub live: &'a Live,
    /// The metrics.
    pub metrics: &'a Metrics,
    /// Who is here, and the drain.
    pub lobby: &'a Lobby,
    /// The memory for request bodies.
    pub bodies: &'a Budget,
    /// The access log.
    pub log: &'a Log,
    /// The diagnostics.
    pub diagnostics: &'a Log,
    /// What stays the same for the whole process.
    pub identity: &'a Identity,
}

/// What stays the same for the whole process, and was built.
#[derive(Debug)]
pub struct Identity {
    /// The fields that every response has.
    pub common_fields: Vec<u8>,
    /// Names and values that the echo tells of this process.
    pub facts: Vec<(&'static str, String)>,
    /// The same as the last lines of the echo's facts, with the empty line behind.
    pub facts_text: Vec<u8>,
    /// The body of `/version`.
    pub version_json: Vec<u8>,
}

/// What was built: name and value.
pub const BUILD: [(&str, &str); 4] = [
    ("package", env!("CARGO_PKG_VERSION")),
    ("revision", env!("HTTPSERVER_REVISION")),
    ("rustc", env!("HTTPSERVER_RUSTC")),
    ("target", env!("HTTPSERVER_TARGET")),
];

impl Identity {
    /// The identity of a process with this `VERSION`; `environment` tells pod, namespace and node.
    pub fn new(version: &str, environment: impl Fn(&str) -> Option<String>) -> Identity {
        let mut facts = vec![("hostname", process::hostname())];
        for (name, variable) in [("pod", "POD_NAME"), ("namespace", "POD_NAMESPACE"), ("node", "NODE_NAME")] {
            facts.extend(environment(variable).map(|value| (name, value)));
        }
        facts.push(("version", version.to_owned()));
        // A value from the environment may hold what would end its line.
        let line = |(name, value): &(_, String)| format!("\n{name}: {}", value.replace(char::is_control, " "));
        let lines: String = facts.iter().map(line).collect();
        let mut version_json = Vec::new();
        for (name, value) in [("version", version)].into_iter().chain(BUILD) {
            version_json.extend_from_slice(if version_json.is_empty() { b"{" } else { b"," });
            text::json_string(name.as_bytes(), &mut |bytes| version_json.extend_from_slice(bytes));
            version_json.push(b':');
            text::json_string(value.as_bytes(), &mut |bytes| version_json.extend_from_slice(bytes));
        }
        version_json.extend_from_slice(b"}\n");
        Identity {
            common_fields: format!(
                "Server: httpserver\r\nVersion: {version}\r\nX-Content-Type-Options: nosniff\r\n\
                 Cache-Control: no-store\r\n"
            )
            .into_bytes(),
            facts_text: (lines + "\n\n").into_bytes(),
            version_json,
            facts,
        }
    }
}

impl Context<'_> {
    /// Writes a line of diagnostics to stderr, if the log's level shows it; it never waits for whoever reads them.
    pub fn say(self, level: Level, message: fmt::Arguments<'_>) {
        if self.live.logs(level) {
            say(self.diagnostics, self.config.log_json, level, message);
        }
    }

    /// Whether `/readyz` says so.
    pub fn ready(self) -> bool {
        self.live.ready() && !self.lobby.draining()
    }

    /// What a scrape tells of this moment.
    pub fn moment(self) -> Moment {
        let totals = self.log.totals();
        Moment { ready: self.ready(), log_lines: totals.written, log_errors: totals.errors, ..self.lobby.moment() }
    }
}

/// The time since the Unix epoch.
pub fn unix_now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// Writes a line of diagnostics.
pub fn say(diagnostics: &Log, json: bool, level: Level, message: fmt::Arguments<'_>) {
    diagnostics.append(&access_log::diagnostic(json, unix_now(), level, &message.to_string()), false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity() {
        let identity = Identity::new("7\"", |name| (name == "POD_NAME").then(|| "pod\n1".to_owned()));
        let text = String::from_utf8(identity.facts_text).unwrap();
        assert!(text.starts_with("\nhostname: ") && text.ends_with("\npod: pod 1\nversion: 7\"\n\n"), "{text:?}");
        assert!(identity.version_json.starts_with(b"{\"version\":\"7\\\"\",\"package\":\""));
        assert!(identity.version_json.ends_with(b"\"}\n"));
        assert!(String::from_utf8(identity.common_fields).unwrap().contains("\r\nVersion: 7\"\r\n"));
        assert!(BUILD.iter().all(|(_, value)| !value.is_empty()));
    }
}
