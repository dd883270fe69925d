//! The settings: one table declares each of them once, with its flag, variable, default and help text.
//!
//! `--help` and the README's table are made from it. A flag stands above the environment, and that above the default.
//! A value is read into its type here, so that nothing behind this file meets a bad one. No variable begins with
//! `HTTPSERVER_`: Kubernetes puts `HTTPSERVER_PORT=tcp://…` and its like into pods beside a Service of that name.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::forwarded::Network;
use crate::live::{self, Level, Rate, Start};
use crate::response::Value;
use crate::text;

/// Every setting with its value; the default is what stands there before [`Config::read`] has read any.
#[derive(Debug, Default)]
pub struct Config {
    /// The address to listen on; without one, every IPv6 and IPv4 address at port 8080.
    pub listen: Option<SocketAddr>,
    /// What the `Version` field says.
    pub version: String,
    /// The start values of what `/admin` can change.
    pub start: Start,
    /// Whether logs are JSON rather than text.
    pub log_json: bool,
    /// The networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Seats for connections.
    pub max_connections: usize,
    /// The largest request body, in bytes.
    pub max_body: u64,
    /// All request bodies held at once, in bytes.
    pub max_body_memory: u64,
    /// From a request's first byte to the end of its head.
    pub header_timeout: Duration,
    /// To read a request's body.
    pub body_timeout: Duration,
    /// For each MiB of a response that the client takes.
    pub write_timeout: Duration,
    /// A kept-alive connection without a request.
    pub idle_timeout: Duration,
    /// After SIGTERM: still accepting, not ready.
    pub drain_linger: Duration,
    /// Then: to finish what is in flight.
    pub drain_timeout: Duration,
    /// The bearer token that opens `/admin`; empty without one.
    pub admin_token: String,
}

/// A setting: how it is named, what it is by default, and how its value is read.
pub struct Setting {
    /// The flag without its dashes; empty where there is none.
    pub flag: &'static str,
    /// The environment variable.
    pub variable: &'static str,
    /// The default as a user would write it; empty for none.
    pub default: &'static str,
    /// What it means.
    pub help: &'static str,
    read: fn(&mut Config, &str) -> Result<(), String>,
}

/// Declares [`SETTINGS`]: flag, variable, default, help text, and the step that reads the value into its place.
macro_rules! settings {
    (|$config:ident, $text:ident| $($flag:literal $variable:literal $default:expr, $help:literal $read:block)*) => {
        /// Every setting, in the order of `--help`.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            flag: $flag,
            variable: $variable,
            default: $default,
            help: $help,
            read: |$config, $text| Ok($read),
        }),*];
    };
}

settings! { |config, text|
    "listen" "LISTEN" "[::]:8080",
    "address and port, IPv4 alone where the host has no IPv6; port 0 picks one, and the log tells it"
    { config.listen = Some(listen_address(text)?); }

    "" "VERSION" env!("CARGO_PKG_VERSION"), "what the `Version` field of every response says"
    { config.version = version(text)?; }

    "delay-min" "DELAY_MIN" "0s", "shortest random delay of the echo"
    { config.start.delay_min = duration(text)?; }

    "delay-max" "DELAY_MAX" "2s", "longest random delay of the echo"
    { config.start.delay_max = duration(text)?; }

    "error-rate" "ERROR_RATE" "0", "share (0 to 1) of echo requests that are answered 500"
    { config.start.error_rate = expect(Rate::parse(text), live::RATE)?; }

    "log-level" "LOG_LEVEL" "info", "`error`, `warn`, `info` or `debug`; probes and scrapes are `debug`"
    { config.start.log_level = expect(Level::of_label(text), live::LEVEL)?; }

    "log-format" "LOG_FORMAT" "text", "`text` (combined log format) or `json`"
    { config.log_json = expect(matches!(text, "text" | "json").then_some(text == "json"), "text or json")?; }

    "trusted-proxies" "TRUSTED_PROXIES" "", "comma-separated networks whose `X-Forwarded-For` is believed"
    { config.trusted_proxies = networks(text)?; }

    "max-connections" "MAX_CONNECTIONS" "1024", "connections served at once; see Limits"
    { config.max_connections = seats(text)?; }

    "max-body" "MAX_BODY" "1MiB", "larger request bodies get 413"
    { config.max_body = size(text)?; }

    "max-body-memory" "MAX_BODY_MEMORY" "16MiB", "all request bodies held at once; past it 503 with `Retry-After`"
    { config.max_body_memory = size(text)?; }

    "header-timeout" "HEADER_TIMEOUT" "10s", "from a request's first byte to the end of its head"
    { config.header_timeout = time_limit(text)?; }

    "body-timeout" "BODY_TIMEOUT" "30s", "to read a request's body"
    { config.body_timeout = time_limit(text)?; }

    "write-timeout" "WRITE_TIMEOUT" "30s", "for each MiB of a response that the client takes"
    { config.write_timeout = time_limit(text)?; }

    "idle-timeout" "IDLE_TIMEOUT" "75s", "a kept-alive connection without a request"
    { config.idle_timeout = time_limit(text)?; }

    "drain-linger" "DRAIN_LINGER" "0s", "after SIGTERM: still accepting, not ready"
    { config.drain_linger = duration(text)?; }

    "drain-timeout" "DRAIN_TIMEOUT" "8s", "then: to finish what is in flight"
    { config.drain_timeout = duration(text)?; }

    "admin-token-file" "ADMIN_TOKEN_FILE" "", "a file with the token that opens `/admin`"
    { config.admin_token = admin_token_of_file(text)?; }

    "" "ADMIN_TOKEN" "", "the token itself, where no file is given"
    { config.admin_token = admin_token(text)?; }
}

/// Where a server with these flags and this environment listens; for the subcommand that asks it.
pub fn listen_setting(flags: &[String], environment: impl Fn(&str) -> Option<String>) -> Result<SocketAddr, Error> {
    if let Some((flag, _)) = parse_flags(flags)?.iter().find(|(flag, _)| *flag != "listen") {
        return Err(Error::Usage(format!("healthcheck takes a URL or --listen, not --{flag}: see --help")));
    }
    let only_listen = |name: &str| if name == "LISTEN" { environment(name) } else { None };
    let default = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080));
    Ok(Config::read(flags, only_listen)?.listen.unwrap_or(default))
}

/// Why there is no configuration.
#[derive(Debug, PartialEq)]
pub enum Error {
    /// A flag that does not exist, or one without its value.
    Usage(String),
    /// A bad value: the setting, the value, and what was expected.
    Value(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) | Error::Value(text) => f.write_str(text),
        }
    }
}

impl Config {
    /// Reads flags (`--name value` or `--name=value`) over the environment over the defaults.
    pub fn read(flags: &[String], environment: impl Fn(&str) -> Option<String>) -> Result<Config, Error> {
        let flags = parse_flags(flags)?;
        let mut config = Config::default();
        for setting in SETTINGS {
            let given = flags.iter().rev().find(|(flag, _)| !flag.is_empty() && *flag == setting.flag);
            let (name, value) = match given {
                Some((flag, value)) => (format!("--{flag}"), Some((*value).to_owned())),
                None => (setting.variable.to_owned(), environment(setting.variable)),
            };
            let secret = setting.variable == "ADMIN_TOKEN";
            if secret && !config.admin_token.is_empty() {
                continue;
            }
            // The default of `listen` is decided when the port is opened.
            let has_default = !setting.default.is_empty() && setting.variable != "LISTEN";
            let Some(value) = value.or_else(|| has_default.then(|| setting.default.to_owned())) else { continue };
            (setting.read)(&mut config, &value).map_err(|expected| {
                let shown = if secret { "(hidden)".to_owned() } else { format!("{value:?}") };
                Error::Value(format!("{name}: {shown} is not usable: {expected}"))
            })?;
        }
        if config.start.delay_min > config.start.delay_max {
            let (min, max) = (config.start.delay_min, config.start.delay_max);
            let (min, max) = (text::show_duration(min), text::show_duration(max));
            return Err(Error::Value(format!(
                "--delay-min (DELAY_MIN): {min:?} is above --delay-max (DELAY_MAX) {max:?}: expected {}",
                live::DELAY_ORDER
            )));
        }
        Ok(config)
    }
}

impl Setting {
    /// The flag as a user writes it; empty where there is none.
    fn dashed_flag(&self) -> String {
        if self.flag.is_empty() { String::new() } else { format!("--{}", self.flag) }
    }
}

/// Takes arguments apart into flags and values; every flag has to be one of the table.
fn parse_flags(arguments: &[String]) -> Result<Vec<(&str, &str)>, Error> {
    let (mut flags, mut rest) = (Vec::new(), arguments.iter());
    while let Some(argument) = rest.next() {
        let Some(name) = argument.strip_prefix("--") else {
            return Err(Error::Usage(format!("{argument:?} is not a flag: see --help")));
        };
        let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        if name.is_empty() || !SETTINGS.iter().any(|setting| setting.flag == name) {
            return Err(Error::Usage(format!("unknown flag \"--{name}\": see --help")));
        }
        let value = value.or_else(|| rest.next().map(String::as_str));
        flags.push((name, value.ok_or_else(|| Error::Usage(format!("--{name} needs a value: see --help")))?));
    }
    Ok(flags)
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "A tiny HTTP/1.1 echo server for Kubernetes.\n\n\
         usage: httpserver [serve] [--SETTING VALUE]...   run the server\n\
         \x20      httpserver healthcheck [URL]              exit 0 if URL answers 2xx within 3 s, else 1\n\
         \x20      httpserver --help | --version\n\n\
         settings (a flag stands above its variable, and that above the default;\n\
         \x20         durations read 250ms, 2s, 1m30s, sizes 512, 64KiB, 1MiB):\n",
    );
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { "none" } else { setting.default };
        let help = setting.help.replace('`', "");
        text += &format!("  {:<20} {:<18} {help} (default: {default})\n", setting.dashed_flag(), setting.variable);
    }
    text + "\nexit status: 0 after SIGTERM or SIGINT, 78 for a bad value, 64 for a bad flag, 1 for anything else\n"
}

/// The rows of the README's table of settings.
pub fn readme_table() -> String {
    let code = |text: &str| if text.is_empty() { "(none)".to_owned() } else { format!("`{text}`") };
    let row = |setting: &Setting| {
        let (flag, default) = (code(&setting.dashed_flag()), code(setting.default));
        format!("| {flag} | `{}` | {default} | {} |\n", setting.variable, setting.help)
    };
    SETTINGS.iter().map(row).collect()
}

fn expect<T>(value: Option<T>, expected: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("expected {expected}"))
}

fn duration(text: &str) -> Result<Duration, String> {
    expect(text::parse_duration(text), live::DURATION)
}

/// A duration that a socket takes as its time-out: not zero.
fn time_limit(text: &str) -> Result<Duration, String> {
    expect(text::parse_duration(text).filter(|limit| !limit.is_zero()), "a duration above zero such as 250ms or 30s")
}

fn size(text: &str) -> Result<u64, String> {
    expect(text::parse_size(text), "a size such as 512, 64KiB or 1MiB")
}

/// Reads an address and port; without an address, as in `:8080`, every address.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let every = text.strip_prefix(':').and_then(|port| port.parse().ok());
    let address = every.map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).or_else(|| text.parse().ok());
    expect(address, "an address and port such as 0.0.0.0:8080 or [::]:8080")
}

fn version(text: &str) -> Result<String, String> {
    let valid = !text.is_empty() && text.trim() == text && Value::new(text.as_bytes()).is_some();
    expect(valid.then(|| text.to_owned()), "a text without control characters")
}

fn networks(text: &str) -> Result<Vec<Network>, String> {
    let bad = |part| format!("in it, {part:?} is not a network such as 10.0.0.0/8 or fd00::/8");
    Network::parse_list(text).map_err(bad)
}

fn seats(text: &str) -> Result<usize, String> {
    expect(text.parse().ok().filter(|seats| (1..=1_000_000).contains(seats)), "a number from 1 to 1000000")
}

fn admin_token_of_file(path: &str) -> Result<String, String> {
    admin_token(&std::fs::read_to_string(path).map_err(|error| format!("the file cannot be read: {error}"))?)
}

fn admin_token(text: &str) -> Result<String, String> {
    let token = text.trim_ascii_end();
    let valid = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    expect(valid.then(|| token.to_owned()), "a token of visible ASCII characters, not an empty one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[&str], environment: &[(&str, &str)]) -> Result<Config, Error> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Config::read(&flags, |name| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_default_is_valid() {
        let config = read(&[], &[]).unwrap();
        assert_eq!((config.listen, config.max_connections, config.max_body), (None, 1024, 1 << 20));
        assert_eq!(config.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(config.start.delay_max, Duration::from_secs(2));
        assert!(config.admin_token.is_empty() && config.trusted_proxies.is_empty() && !config.log_json);
    }

    #[test]
    fn flags_stand_above_the_environment() {
        let environment = [("MAX_CONNECTIONS", "7"), ("DELAY_MAX", "3s"), ("LISTEN", ":0")];
        let config = read(&["--max-connections=9", "--delay-min", "1s"], &environment).unwrap();
        assert_eq!((config.max_connections, config.start.delay_max.as_secs()), (9, 3));
        assert_eq!(config.listen.unwrap(), "[::]:0".parse().unwrap());
        assert_eq!(read(&["--max-body", "1", "--max-body", "2"], &[]).unwrap().max_body, 2);
    }

    #[test]
    fn bad_values_name_setting_value_and_expectation() {
        for (flags, environment, expected) in [
            (&["--delay-max", "banana"][..], &[][..], "--delay-max: \"banana\" is not usable: expected a duration"),
            (&[], &[("DELAY_MIN", "3s")], "--delay-min (DELAY_MIN): \"3s\" is above --delay-max (DELAY_MAX) \"2s\""),
            (&["--listen", "nonsense"], &[], "--listen: \"nonsense\" is not usable: expected an address and port"),
            (&[], &[("LISTEN", "")], "LISTEN: \"\" is not usable"),
            (&["--idle-timeout", "0s"], &[], "--idle-timeout: \"0s\" is not usable: expected a duration above zero"),
            (&["--max-connections", "0"], &[], "--max-connections: \"0\" is not usable: expected a number from 1"),
            (&["--error-rate", "2"], &[], "--error-rate: \"2\" is not usable: expected a number from 0 to 1"),
            (&["--log-format", "xml"], &[], "--log-format: \"xml\" is not usable: expected text or json"),
            (&[], &[("VERSION", "a\r\nb")], "VERSION: \"a\\r\\nb\" is not usable: expected a text without control"),
            (&[], &[("TRUSTED_PROXIES", "10.0.0.0/8,x")], "in it, \"x\" is not a network"),
            (&[], &[("ADMIN_TOKEN", "s3cret \n x")], "ADMIN_TOKEN: (hidden) is not usable: expected a token"),
            (&[], &[("ADMIN_TOKEN", "")], "ADMIN_TOKEN: (hidden) is not usable: expected a token"),
            (
                &["--admin-token-file", "/nonexistent"],
                &[],
                "--admin-token-file: \"/nonexistent\" is not usable: the file",
            ),
        ] {
            match read(flags, environment) {
                Err(Error::Value(text)) => assert!(text.contains(expected), "{text}"),
                other => panic!("{flags:?} {environment:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn unknown_flags_are_usage_errors() {
        for flags in [&["--nonsense"][..], &["-x"], &["--"], &["--max-body"], &["serve"], &["--version-x=1"]] {
            assert!(matches!(read(flags, &[]), Err(Error::Usage(_))), "{flags:?}");
        }
    }

    #[test]
    fn help_tells_every_setting() {
        let help = help();
        for setting in SETTINGS {
            assert!(help.contains(setting.variable) && help.contains(setting.flag), "{}", setting.variable);
        }
    }
}
