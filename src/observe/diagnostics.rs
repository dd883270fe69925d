//! Diagnostics: what the server says about itself on stderr.
//!
//! `LOG_FORMAT` holds for these lines too. A blocked stderr delays nothing: a line is dropped where
//! the log has no room.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::config::level::Level;
use crate::http::date::Dates;
use crate::observe::escape;
use crate::observe::log::Log;

/// The log on stderr and its format.
#[derive(Clone, Copy, Debug)]
pub struct Diagnostics {
    /// The log on stderr.
    pub log: &'static Log,
    json: bool,
}

impl Diagnostics {
    /// Diagnostics that go to this log.
    pub fn new(log: &'static Log, json: bool) -> Diagnostics {
        Diagnostics { log, json }
    }

    /// Writes a line.
    pub fn say(self, level: Level, message: fmt::Arguments<'_>) {
        let line = line(self.json, unix_now(), level, &message.to_string());
        self.log.append(&line, 1, || false);
    }
}

/// The time since the Unix epoch.
pub fn unix_now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

fn line(json: bool, unix: Duration, level: Level, message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if json {
        out.extend_from_slice(b"{\"time\":\"");
    }
    Dates::at(unix).put_rfc3339(&mut out);
    let (label, severity) = (level.label(), level.severity());
    if json {
        let names = format!("\",\"level\":\"{label}\",\"severity\":\"{severity}\",\"message\":\"");
        out.extend_from_slice(names.as_bytes());
        escape::json(message.as_bytes(), &mut |bytes| {
            out.extend_from_slice(bytes);
        });
        out.extend_from_slice(b"\"}\n");
    } else {
        out.extend_from_slice(format!(" {label} ").as_bytes());
        escape::log_value(message.as_bytes(), &mut out);
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let said = line(false, Duration::from_millis(7), Level::Warn, "a\nb \u{e9}");
        let text = "1970-01-01T00:00:00.007Z warn a\\x0ab \\xc3\\xa9\n";
        assert_eq!(String::from_utf8(said).unwrap(), text);
        let said = line(true, Duration::ZERO, Level::Warn, "a \"b\"\n");
        let json = "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warn\",\
                    \"severity\":\"WARNING\",\"message\":\"a \\\"b\\\"\\n\"}\n";
        assert_eq!(String::from_utf8(said).unwrap(), json);
    }
}
