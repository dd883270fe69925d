//! The settings: one table declares each of them once.
//!
//! `--help`, the README's table, the environment, and `/admin` all come from the table. A flag
//! overrides its variable, which overrides the default. A value is read into its type here, so
//! nothing after this file meets a bad one. No variable begins with `HTTPSERVER_`: Kubernetes puts
//! `HTTPSERVER_PORT=tcp://…` and its like into pods beside a Service of that name.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::config::arguments::{ArgumentError, Arguments};
use crate::config::level::Level;
use crate::config::units;
use crate::http::field::is_value_byte;
use crate::http::forwarded::Network;

/// Every setting with its value.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where to listen; the first address that can be opened is taken.
    pub listen: Vec<SocketAddr>,
    /// What the `Version` field says.
    pub version: String,
    /// What `/admin` can change while the server runs, as it is at the start.
    pub runtime: RuntimeSettings,
    /// Whether logs are JSON rather than text.
    pub log_json: bool,
    /// The networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// How many connections are served at once.
    pub max_connections: usize,
    /// The largest request head, in bytes.
    pub max_head: usize,
    /// The largest request body, in bytes.
    pub max_body: u64,
    /// The memory for all request bodies together, in bytes.
    pub max_body_memory: u64,
    /// From a request's first byte to the end of its head.
    pub header_timeout: Duration,
    /// How long a client may take for each MiB of a request's body.
    pub body_timeout: Duration,
    /// How long a client may take for each MiB of a response.
    pub write_timeout: Duration,
    /// How long an idle kept-alive connection stays open.
    pub idle_timeout: Duration,
    /// After SIGTERM: how long requests are still accepted.
    pub shutdown_delay: Duration,
    /// After that: how long requests in flight may take.
    pub drain_timeout: Duration,
    /// A prefix below which every route exists too; empty without one.
    pub path_prefix: String,
    /// Whether `/burn` exists.
    pub allow_burn: bool,
    /// The bearer token that opens `/admin`; empty without one.
    pub admin_token: String,
}

/// What `/admin` can change while the server runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RuntimeSettings {
    /// The shortest random delay of the echo.
    pub delay_min: Duration,
    /// The longest random delay of the echo, not below the shortest.
    pub delay_max: Duration,
    /// The share of echo requests that get a 500.
    pub error_rate: f64,
    /// Which lines the logs show.
    pub log_level: Level,
    /// Whether `/readyz` responds with 200.
    pub ready: bool,
    /// Whether `/healthz` responds with 200.
    pub live: bool,
}

/// A setting: its names, its default, and how its value is read.
pub struct Setting {
    /// The flag without its dashes, which is also its name for `/admin`.
    pub name: &'static str,
    /// The environment variable; empty where only `/admin` gives it.
    pub variable: &'static str,
    /// The default as a user would write it; empty for none.
    pub default: &'static str,
    /// What it means.
    pub help: &'static str,
    read: fn(&mut Config, &str) -> Result<(), Expected>,
    /// The present value as JSON, where `/admin` can change it.
    show: Option<fn(&RuntimeSettings) -> String>,
}

/// What was expected instead of a bad value.
type Expected = std::borrow::Cow<'static, str>;

/// Declares [`SETTINGS`]: name, variable, default, help text, the step that reads the value into its
/// place, and for runtime settings the JSON of the present value.
macro_rules! settings {
    (|$config:ident, $text:ident, $runtime:ident| $(
        $name:literal $variable:literal $default:expr, $help:literal
        read $read:expr;
        $(show $show:expr;)?
    )*) => {
        /// Every setting, in the order of `--help`.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            name: $name,
            variable: $variable,
            default: $default,
            help: $help,
            read: |$config, $text| { $read; Ok(()) },
            show: settings!(@show $runtime $($show)?),
        }),*];
    };
    (@show $runtime:ident) => { None };
    (@show $runtime:ident $show:expr) => { Some(|$runtime| $show) };
}

settings! { |config, text, runtime|
    "listen" "LISTEN" "8080",
    "address and port; a port alone means every IPv6 and IPv4 address of the host; with port 0 the system picks a free port, and the log shows it"
    read config.listen = listen(text)?;

    "" "VERSION" env!("CARGO_PKG_VERSION"),
    "what the `Version` field of every response says"
    read config.version = version(text)?;

    "delay-min" "DELAY_MIN" "0s", "shortest random delay of the echo"
    read config.runtime.delay_min = duration(text)?;
    show quoted(&units::show_duration(runtime.delay_min));

    "delay-max" "DELAY_MAX" "2s", "longest random delay of the echo"
    read config.runtime.delay_max = duration(text)?;
    show quoted(&units::show_duration(runtime.delay_max));

    "error-rate" "ERROR_RATE" "0",
    "share (0 to 1) of echo requests that get a 500"
    read config.runtime.error_rate = units::parse_rate(text).ok_or(units::RATE)?;
    show runtime.error_rate.to_string();

    "log-level" "LOG_LEVEL" "info",
    "`error`, `warn`, `info` or `debug`; probes and scrapes that succeed are `debug`"
    read config.runtime.log_level = Level::from_label(&text.to_ascii_lowercase())
        .ok_or("error, warn, info or debug")?;
    show quoted(runtime.log_level.label());

    "ready" "" "true", "whether `/readyz` responds with 200"
    read config.runtime.ready = switch(text)?;
    show runtime.ready.to_string();

    "live" "" "true", "whether `/healthz` responds with 200"
    read config.runtime.live = switch(text)?;
    show runtime.live.to_string();

    "log-format" "LOG_FORMAT" "text", "`text` (combined log format) or `json`"
    read config.log_json = log_json(text)?;

    "trusted-proxies" "TRUSTED_PROXIES" "",
    "comma-separated networks whose `X-Forwarded-For` is believed"
    read config.trusted_proxies = networks(text)?;

    "max-connections" "MAX_CONNECTIONS" "1024", "connections served at once"
    read config.max_connections = units::parse_count(text, 1_000_000)
        .ok_or("a number from 1 to 1000000")?;

    "max-head" "MAX_HEAD" "32KiB", "larger request heads get 431; from 8KiB to 1MiB"
    read config.max_head = head_size(text)?;

    "max-body" "MAX_BODY" "1MiB", "larger request bodies get 413"
    read config.max_body = size(text)?;

    "max-body-memory" "MAX_BODY_MEMORY" "16MiB",
    "memory for all request bodies together; beyond it 503 with `Retry-After`"
    read config.max_body_memory = size(text)?;

    "header-timeout" "HEADER_TIMEOUT" "10s",
    "from a request's first byte to the end of its head"
    read config.header_timeout = time_limit(text)?;

    "body-timeout" "BODY_TIMEOUT" "30s",
    "how long a client may take for each MiB of a request's body"
    read config.body_timeout = time_limit(text)?;

    "write-timeout" "WRITE_TIMEOUT" "30s",
    "how long a client may take for each MiB of a response"
    read config.write_timeout = time_limit(text)?;

    "idle-timeout" "IDLE_TIMEOUT" "75s",
    "how long an idle kept-alive connection stays open"
    read config.idle_timeout = time_limit(text)?;

    "shutdown-delay" "SHUTDOWN_DELAY" "0s",
    "after SIGTERM: how long requests are still accepted while `/readyz` says 503"
    read config.shutdown_delay = duration(text)?;

    "drain-timeout" "DRAIN_TIMEOUT" "8s",
    "after that: how long requests in flight may take"
    read config.drain_timeout = duration(text)?;

    "path-prefix" "PATH_PREFIX" "",
    "routes also exist below it (`/app/healthz`), for an Ingress that does not rewrite paths"
    read config.path_prefix = path_prefix(text)?;

    "allow-burn" "ALLOW_BURN" "false", "switches `/burn/{duration}` on"
    read config.allow_burn = switch(text)?;

    "admin-token-file" "ADMIN_TOKEN_FILE" "", "a file with the token that opens `/admin`"
    read config.admin_token = token_from_file(text)?;

    "" "ADMIN_TOKEN" "", "the token itself, where no file is given"
    read if config.admin_token.is_empty() { config.admin_token = admin_token(text)? };
}

/// A bad value.
#[derive(Debug, PartialEq, Eq)]
pub struct BadValue {
    /// The flag or variable that it was given to.
    pub name: String,
    /// The value as it is shown.
    pub value: String,
    /// What is taken instead.
    pub expected: Expected,
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} is not usable: ", self.name, self.value)?;
        write!(f, "expected {}", self.expected)
    }
}

impl std::error::Error for BadValue {}

impl BadValue {
    fn new(name: &str, value: &str, expected: impl Into<Expected>) -> BadValue {
        BadValue {
            name: name.to_owned(),
            value: value.to_owned(),
            expected: expected.into(),
        }
    }
}

impl Config {
    /// Takes each setting from its flag, else from the environment, else the default. A variable
    /// that is set but empty counts as not set, because compose files and charts write `VAR=`.
    pub fn read(
        flags: &Arguments<'_>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Config, BadValue> {
        let mut config = Config::default();
        for setting in SETTINGS {
            let variable = environment(setting.variable).filter(|value| !value.is_empty());
            let (name, value) = match (flags.value(setting.name), variable) {
                (Some(value), _) => (setting.dashed_flag(), value.to_owned()),
                (None, Some(value)) => (setting.variable.to_owned(), value),
                (None, None) if setting.default.is_empty() => continue,
                (None, None) => (setting.variable.to_owned(), setting.default.to_owned()),
            };
            (setting.read)(&mut config, &value).map_err(|expected| {
                let secret = setting.variable == "ADMIN_TOKEN";
                let shown = if secret { "(hidden)" } else { &quoted(&value) };
                BadValue::new(&name, shown, expected)
            })?;
        }
        config.check()?;
        Ok(config)
    }

    /// The runtime settings with one of them changed.
    pub fn with_runtime(
        &self,
        setting: &Setting,
        value: &str,
        present: RuntimeSettings,
    ) -> Result<RuntimeSettings, BadValue> {
        let mut changed = self.clone();
        changed.runtime = present;
        (setting.read)(&mut changed, value)
            .map_err(|expected| BadValue::new(setting.name, &quoted(value), expected))?;
        changed.check()?;
        Ok(changed.runtime)
    }

    /// Checks what only several settings together can tell.
    fn check(&self) -> Result<(), BadValue> {
        let (min, max) = (self.runtime.delay_min, self.runtime.delay_max);
        if min > max {
            let expected = format!("not more than delay-max, {}", units::show_duration(max));
            let name = "--delay-min (DELAY_MIN)";
            return Err(BadValue::new(name, &units::show_duration(min), expected));
        }
        let (body, memory) = (self.max_body, self.max_body_memory);
        if body > memory {
            let most = units::show_size(memory);
            let expected = format!("not more than --max-body-memory (MAX_BODY_MEMORY), {most}");
            let name = "--max-body (MAX_BODY)";
            return Err(BadValue::new(name, &units::show_size(body), expected));
        }
        Ok(())
    }
}

impl Setting {
    /// The setting of a name that `/admin` can change.
    pub fn from_runtime_name(name: &str) -> Option<&'static Setting> {
        let mut runtime = SETTINGS.iter().filter(|setting| setting.show.is_some());
        runtime.find(|setting| setting.name == name)
    }

    fn is_flag(&self) -> bool {
        !self.name.is_empty() && !self.variable.is_empty()
    }

    /// The flag as a user writes it; empty where there is none.
    fn dashed_flag(&self) -> String {
        let dashed = || format!("--{}", self.name);
        self.is_flag().then(dashed).unwrap_or_default()
    }
}

/// All runtime settings as one JSON object.
pub fn runtime_json(runtime: &RuntimeSettings) -> String {
    let members: Vec<String> = SETTINGS
        .iter()
        .filter_map(|setting| Some(format!("\"{}\":{}", setting.name, setting.show?(runtime))))
        .collect();
    format!("{{{}}}\n", members.join(","))
}

/// Takes the arguments of `serve` apart: flags alone.
pub fn flags(arguments: &[String]) -> Result<Arguments<'_>, ArgumentError> {
    let flags = SETTINGS.iter().filter(|setting| setting.is_flag());
    let names: Vec<&str> = flags.map(|setting| setting.name).collect();
    Arguments::split(arguments, &names, false)
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "A tiny HTTP/1.1 echo server for Kubernetes.\n\n\
         usage: httpserver [serve] [--SETTING VALUE]...   run the server\n\
         \x20      httpserver healthcheck [URL]              exit 0 if URL answers 2xx within 3 s, else 1\n\
         \x20      httpserver watch [--FLAG VALUE]... URL    ask URL steadily and tell what was lost\n\
         \x20      httpserver [COMMAND] --help | --version\n\n\
         settings (a flag overrides its variable, which overrides the default; an empty variable\n\
         \x20         counts as not set; durations read 250ms, 2s, 1.5s, 1m30s, sizes 512, 64Ki, 1MiB, 10M):\n",
    );
    let listed = |setting: &&Setting| !setting.variable.is_empty();
    for setting in SETTINGS.iter().filter(listed) {
        let default = match setting.default {
            "" => "none",
            default => default,
        };
        let (flag, variable) = (setting.dashed_flag(), setting.variable);
        let help = setting.help.replace('`', "");
        text += &format!("  {flag:<20} {variable:<18} {help} (default: {default})\n");
    }
    text + "\nexit status: 0 after SIGTERM, SIGINT or SIGHUP, 64 for a bad command line, 78 for a bad value,\n\
            \x20            1 for anything else\n"
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    units::parse_duration(text).ok_or(units::DURATION)
}

/// A duration that a socket takes as its time limit: not zero.
fn time_limit(text: &str) -> Result<Duration, &'static str> {
    let limit = units::parse_duration(text).filter(|limit| !limit.is_zero());
    limit.ok_or("a duration such as 250ms, 2s, 1.5s or 1m30s, above zero")
}

fn size(text: &str) -> Result<u64, &'static str> {
    units::parse_size(text).ok_or(units::SIZE)
}

fn head_size(text: &str) -> Result<usize, &'static str> {
    let fits = |size: &u64| (8 << 10..=1 << 20).contains(size);
    let size = units::parse_size(text).filter(fits);
    let size = size.map(|size| size as usize);
    size.ok_or("a size from 8KiB to 1MiB")
}

/// Reads the format of lines: whether it is JSON.
pub fn log_json(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "json" => Ok(true),
        "text" => Ok(false),
        _ => Err("text or json"),
    }
}

fn switch(text: &str) -> Result<bool, &'static str> {
    let text = text.to_ascii_lowercase();
    text.parse().map_err(|_| "true or false")
}

/// Reads an address with a port, a name with a port, or a port alone, which means every address.
fn listen(text: &str) -> Result<Vec<SocketAddr>, &'static str> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    if let Ok(port) = port {
        // IPv4 comes second, for a host that has no IPv6.
        return Ok(vec![
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        ]);
    }
    let expected = "an address and port such as 0.0.0.0:8080, [::]:8080, localhost:8080 or 8080";
    Ok(text.to_socket_addrs().map_err(|_| expected)?.collect())
}

fn version(text: &str) -> Result<String, &'static str> {
    let valid = text.trim() == text && text.bytes().all(is_value_byte);
    let version = valid.then(|| text.to_owned());
    version.ok_or("a text without control characters and without white space at its ends")
}

fn networks(text: &str) -> Result<Vec<Network>, Expected> {
    let expected =
        "networks such as 10.0.0.0/8 or fd00::/8, each with no bits set after its prefix";
    Network::parse_list(text).map_err(|part| format!("{expected}, but {part:?} is none").into())
}

/// Reads a prefix such as `/app`; a slash at its end is dropped.
fn path_prefix(text: &str) -> Result<String, &'static str> {
    let visible = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
    let valid = text.starts_with('/') && visible;
    let prefix = valid.then(|| text.trim_end_matches('/').to_owned());
    prefix.ok_or("a path such as /app")
}

fn token_from_file(path: &str) -> Result<String, Expected> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("a readable file: {error}"))?;
    Ok(admin_token(&text)?)
}

fn admin_token(text: &str) -> Result<String, &'static str> {
    let token = text.trim_ascii_end();
    let valid = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let token = valid.then(|| token.to_owned());
    token.ok_or("a token of visible ASCII characters, not an empty one")
}
