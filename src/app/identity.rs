//! What stays the same for the whole process: names, versions, and the fields of every response.

use crate::config::settings::Config;
use crate::observe::{escape, process};

/// What stays the same for the whole process.
#[derive(Debug)]
pub struct Identity {
    /// The field lines of every response.
    pub common_fields: Vec<u8>,
    /// The `Keep-Alive` field line of responses that keep the connection open.
    pub keep_alive_field: Vec<u8>,
    /// Names and values that the echo tells of this process.
    pub facts: Vec<(&'static str, String)>,
    /// The same as lines of text.
    pub facts_text: Vec<u8>,
    /// The same as members of a JSON object.
    pub facts_json: Vec<u8>,
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

/// The labels of `httpserver_build_info`.
pub fn build_labels(version: &str) -> Vec<(&'static str, &str)> {
    let build = BUILD
        .into_iter()
        .filter(|(name, _)| matches!(*name, "revision" | "rustc"));
    [("version", version)].into_iter().chain(build).collect()
}

impl Identity {
    /// The identity of a process; `environment` tells pod, namespace and node.
    pub fn new(config: &Config, environment: impl Fn(&str) -> Option<String>) -> Identity {
        let version = &config.version;
        let versions = [("version", version.as_str())].into_iter().chain(BUILD);
        let mut facts = vec![("hostname", process::hostname())];
        for (name, variable) in [
            ("pod", "POD_NAME"),
            ("namespace", "POD_NAMESPACE"),
            ("node", "NODE_NAME"),
        ] {
            let value = environment(variable).filter(|value| !value.is_empty());
            facts.extend(value.map(|value| (name, value)));
        }
        facts.push(("version", version.clone()));
        // A value from the environment may hold a line end.
        let line = |(name, value): &(_, String)| {
            format!("{name}: {}\n", value.replace(char::is_control, " "))
        };
        Identity {
            common_fields: format!(
                "Server: httpserver\r\nVersion: {version}\r\nX-Content-Type-Options: nosniff\r\n\
                 Cache-Control: no-store\r\n"
            )
            .into_bytes(),
            keep_alive_field: keep_alive_field(config),
            facts_text: facts.iter().map(line).collect::<String>().into_bytes(),
            facts_json: members(facts.iter().map(|(name, value)| (*name, value.as_str()))),
            version_json: [b"{", &members(versions)[1..], b"}\n"].concat(),
            facts,
        }
    }
}

/// The field says one second less than the idle timeout, so that clients close first. There is none
/// for a timeout of 0 or 1 s.
fn keep_alive_field(config: &Config) -> Vec<u8> {
    match config.idle_timeout.as_secs() {
        0 | 1 => Vec::new(),
        seconds => format!("Keep-Alive: timeout={}\r\n", seconds - 1).into_bytes(),
    }
}

/// Names and values as members of a JSON object, each after a comma.
fn members<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut json = Vec::new();
    for (name, value) in pairs {
        escape::json_member(name, value.as_bytes(), &mut |bytes| {
            json.extend_from_slice(bytes);
        });
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn identity() {
        let config = Config {
            version: "7\"".to_owned(),
            idle_timeout: Duration::from_secs(75),
            ..Config::default()
        };
        let pod = |name: &str| (name == "POD_NAME").then(|| "pod\n1".to_owned());
        let identity = Identity::new(&config, pod);
        let text = String::from_utf8(identity.facts_text).unwrap();
        assert!(text.starts_with("hostname: "), "{text:?}");
        assert!(text.ends_with("\npod: pod 1\nversion: 7\"\n"), "{text:?}");
        let json = String::from_utf8(identity.version_json).unwrap();
        assert!(
            json.starts_with("{\"version\":\"7\\\"\",\"package\":\""),
            "{json}"
        );
        assert!(json.ends_with("\"}\n"), "{json}");
        let fields = String::from_utf8(identity.common_fields).unwrap();
        assert!(fields.contains("\r\nVersion: 7\"\r\n"), "{fields}");
        assert_eq!(identity.keep_alive_field, b"Keep-Alive: timeout=74\r\n");
        assert!(BUILD.iter().all(|(_, value)| !value.is_empty()));
    }
}
