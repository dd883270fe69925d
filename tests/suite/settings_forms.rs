//! A hundred values as charts, compose files and people write them, for every kind of setting: what is taken and as
//! what, and what is refused with an error that names the setting, the value and the forms.
//!
//! The table is read by the library, without a process for each row; that flags and variables of the real binary reach
//! the same reader is `settings.rs`. A few rows run through the binary all the same.

use httpserver::config::settings::{self, Config};
use httpserver::config::units::{show_duration, show_size};

use crate::command_line::{fails, run};

use Outcome::{Bad, Good};

/// What becomes of a value.
enum Outcome {
    /// It is taken, and shown in one canonical form it is this.
    Good(&'static str),
    /// It is refused, and the error holds these words.
    Bad(&'static [&'static str]),
}

const DURATION: Outcome = Bad(&["250ms", "2s", "1.5s", "1m30s"]);
const TIME_LIMIT: Outcome = Bad(&["250ms", "2s", "1m30s", "above zero"]);
const SIZE: Outcome = Bad(&["512", "64Ki", "64KiB", "1MiB", "10M"]);
const RATE: Outcome = Bad(&["from 0 to 1"]);
const LEVEL: Outcome = Bad(&["error", "warn", "info", "debug"]);
const SWITCH: Outcome = Bad(&["true", "false"]);
const LISTEN: Outcome = Bad(&["0.0.0.0:8080", "[::]:8080", "localhost:8080", "8080"]);
const CONNECTIONS: Outcome = Bad(&["from 1 to 1000000"]);
const NETWORKS: Outcome = Bad(&["10.0.0.0/8", "fd00::/8"]);
const PREFIX: Outcome = Bad(&["/app"]);
const HEAD: Outcome = Bad(&["8KiB", "1MiB"]);

const TABLE: &[(&str, &str, Outcome)] = &[
    ("DELAY_MAX", "0", Good("0s")),
    ("DELAY_MAX", "0s", Good("0s")),
    ("DELAY_MAX", "0ms", Good("0s")),
    ("DELAY_MAX", "250ms", Good("250ms")),
    ("DELAY_MAX", "1.5s", Good("1s500ms")),
    ("DELAY_MAX", ".5s", Good("500ms")),
    ("DELAY_MAX", "0.25s", Good("250ms")),
    ("DELAY_MAX", "2.0s", Good("2s")),
    ("DELAY_MAX", "1m30s", Good("1m30s")),
    ("DELAY_MAX", "90s", Good("1m30s")),
    ("DELAY_MAX", "1h", Good("1h")),
    ("DELAY_MAX", "500us", Good("500us")),
    ("DELAY_MAX", "007s", Good("7s")),
    ("DELAY_MAX", "", Good("2s")),
    ("DELAY_MAX", "2", DURATION),
    ("DELAY_MAX", "2 s", DURATION),
    ("DELAY_MAX", "2s ", DURATION),
    ("DELAY_MAX", "2S", DURATION),
    ("DELAY_MAX", "2sec", DURATION),
    ("DELAY_MAX", "2 seconds", DURATION),
    ("DELAY_MAX", "1d", DURATION),
    ("DELAY_MAX", "-1s", DURATION),
    ("DELAY_MAX", "+1s", DURATION),
    ("DELAY_MAX", "1,5s", DURATION),
    ("DELAY_MAX", "PT2S", DURATION),
    ("DELAY_MAX", "00:00:02", DURATION),
    ("DELAY_MAX", "${DELAY}", DURATION),
    ("DELAY_MAX", "\"2s\"", DURATION),
    ("DELAY_MIN", "1s", Good("1s")),
    (
        "DELAY_MIN",
        "3s",
        Bad(&["--delay-min (DELAY_MIN)", "not more than delay-max, 2s"]),
    ),
    ("SHUTDOWN_DELAY", "5s", Good("5s")),
    ("SHUTDOWN_DELAY", "five", DURATION),
    ("DRAIN_TIMEOUT", "25s", Good("25s")),
    ("DRAIN_TIMEOUT", "0", Good("0s")),
    ("DRAIN_TIMEOUT", "25", DURATION),
    ("IDLE_TIMEOUT", "620s", Good("10m20s")),
    ("IDLE_TIMEOUT", "0s", TIME_LIMIT),
    ("IDLE_TIMEOUT", "60", TIME_LIMIT),
    ("HEADER_TIMEOUT", "10s", Good("10s")),
    ("HEADER_TIMEOUT", "0", TIME_LIMIT),
    ("BODY_TIMEOUT", "1m", Good("1m")),
    ("BODY_TIMEOUT", "never", TIME_LIMIT),
    ("WRITE_TIMEOUT", "30s", Good("30s")),
    ("WRITE_TIMEOUT", "0ms", TIME_LIMIT),
    ("MAX_BODY", "0", Good("0")),
    ("MAX_BODY", "512", Good("512")),
    ("MAX_BODY", "512B", Good("512")),
    ("MAX_BODY", "524288", Good("512KiB")),
    ("MAX_BODY", "64KiB", Good("64KiB")),
    ("MAX_BODY", "64Ki", Good("64KiB")),
    ("MAX_BODY", "64k", Good("64000")),
    ("MAX_BODY", "64kB", Good("64000")),
    ("MAX_BODY", "64KB", Good("64000")),
    ("MAX_BODY", "1Mi", Good("1MiB")),
    ("MAX_BODY", "1M", Good("1000000")),
    ("MAX_BODY", "1MB", Good("1000000")),
    ("MAX_BODY", "1.5Mi", Good("1536KiB")),
    ("MAX_BODY", ".5Mi", Good("512KiB")),
    ("MAX_BODY", "", Good("1MiB")),
    ("MAX_BODY", "1m", SIZE),
    ("MAX_BODY", "1mb", SIZE),
    ("MAX_BODY", "1 MiB", SIZE),
    ("MAX_BODY", "1mib", SIZE),
    ("MAX_BODY", "1e6", SIZE),
    ("MAX_BODY", "1,000,000", SIZE),
    ("MAX_BODY", "1_000_000", SIZE),
    ("MAX_BODY", "-1", SIZE),
    ("MAX_BODY", "unlimited", SIZE),
    ("MAX_BODY", "1TiB", SIZE),
    (
        "MAX_BODY",
        "32MiB",
        Bad(&["not more than --max-body-memory", "16MiB"]),
    ),
    (
        "MAX_BODY",
        "9999999999GiB",
        Bad(&["not more than --max-body-memory", "16MiB"]),
    ),
    ("MAX_BODY_MEMORY", "1Gi", Good("1GiB")),
    ("MAX_BODY_MEMORY", "1G", Good("1000000000")),
    ("MAX_BODY_MEMORY", "lots", SIZE),
    ("MAX_HEAD", "64Ki", Good("64KiB")),
    ("MAX_HEAD", "8192", Good("8KiB")),
    ("MAX_HEAD", "4KiB", HEAD),
    ("MAX_HEAD", "2MiB", HEAD),
    ("MAX_HEAD", "8191", HEAD),
    ("MAX_HEAD", "1025KiB", HEAD),
    ("MAX_HEAD", "64Kb", HEAD),
    ("ERROR_RATE", "0", Good("0")),
    ("ERROR_RATE", "0.25", Good("0.25")),
    ("ERROR_RATE", ".25", Good("0.25")),
    ("ERROR_RATE", "1.0", Good("1")),
    ("ERROR_RATE", "25%", RATE),
    ("ERROR_RATE", "25", RATE),
    ("ERROR_RATE", "0,25", RATE),
    ("ERROR_RATE", "-0.1", RATE),
    ("ERROR_RATE", "NaN", RATE),
    ("ERROR_RATE", "inf", RATE),
    ("LOG_LEVEL", "INFO", Good("info")),
    ("LOG_LEVEL", "Debug", Good("debug")),
    ("LOG_LEVEL", "warn", Good("warn")),
    ("LOG_LEVEL", "trace", LEVEL),
    ("LOG_LEVEL", "3", LEVEL),
    ("LOG_LEVEL", "verbose", LEVEL),
    ("LOG_LEVEL", "INFORMATION", LEVEL),
    ("LOG_FORMAT", "JSON", Good("true")),
    ("LOG_FORMAT", "Text", Good("false")),
    ("LOG_FORMAT", "logfmt", Bad(&["text or json"])),
    ("LOG_FORMAT", "xml", Bad(&["text or json"])),
    ("ALLOW_BURN", "true", Good("true")),
    ("ALLOW_BURN", "True", Good("true")),
    ("ALLOW_BURN", "false", Good("false")),
    ("ALLOW_BURN", "", Good("false")),
    ("ALLOW_BURN", "maybe", SWITCH),
    ("LISTEN", "8080", Good("[::]:8080 0.0.0.0:8080")),
    ("LISTEN", ":9090", Good("[::]:9090 0.0.0.0:9090")),
    ("LISTEN", "0.0.0.0:80", Good("0.0.0.0:80")),
    ("LISTEN", "[::1]:8080", Good("[::1]:8080")),
    ("LISTEN", "127.0.0.1", LISTEN),
    ("LISTEN", ":", LISTEN),
    ("LISTEN", "*:8080", LISTEN),
    ("LISTEN", "http://0.0.0.0:8080", LISTEN),
    ("LISTEN", "tcp://10.0.0.1:8080", LISTEN),
    ("LISTEN", "65536", LISTEN),
    ("LISTEN", "::1:8080:x", LISTEN),
    ("MAX_CONNECTIONS", "4096", Good("4096")),
    ("MAX_CONNECTIONS", "0", CONNECTIONS),
    ("MAX_CONNECTIONS", "-1", CONNECTIONS),
    ("MAX_CONNECTIONS", "1k", CONNECTIONS),
    ("MAX_CONNECTIONS", "unlimited", CONNECTIONS),
    ("TRUSTED_PROXIES", "10.0.0.0/8,fd00::/8", Good("2 networks")),
    (
        "TRUSTED_PROXIES",
        "10.0.0.0/8, 192.168.0.0/16",
        Good("2 networks"),
    ),
    ("TRUSTED_PROXIES", "10.1.2.3", Good("1 networks")),
    ("TRUSTED_PROXIES", "", Good("0 networks")),
    ("TRUSTED_PROXIES", "10.0.0.0/33", NETWORKS),
    (
        "TRUSTED_PROXIES",
        "10.0.0.1/8",
        Bad(&["bits set after its prefix", "10.0.0.0/8"]),
    ),
    ("TRUSTED_PROXIES", "10.*", NETWORKS),
    ("TRUSTED_PROXIES", "private_ranges", NETWORKS),
    ("PATH_PREFIX", "/app", Good("/app")),
    ("PATH_PREFIX", "/app/", Good("/app")),
    ("PATH_PREFIX", "/", Good("")),
    ("PATH_PREFIX", "", Good("")),
    ("PATH_PREFIX", "app", PREFIX),
    ("PATH_PREFIX", "/app?x", PREFIX),
    ("PATH_PREFIX", "/a b", PREFIX),
    ("VERSION", "v1.2.3+build", Good("v1.2.3+build")),
    ("VERSION", "a\nb", Bad(&["without control characters"])),
];

/// The value of a setting in one canonical form.
fn shown(variable: &str, config: &Config) -> String {
    let runtime = &config.runtime;
    match variable {
        "DELAY_MIN" => show_duration(runtime.delay_min),
        "DELAY_MAX" => show_duration(runtime.delay_max),
        "SHUTDOWN_DELAY" => show_duration(config.shutdown_delay),
        "DRAIN_TIMEOUT" => show_duration(config.drain_timeout),
        "IDLE_TIMEOUT" => show_duration(config.idle_timeout),
        "HEADER_TIMEOUT" => show_duration(config.header_timeout),
        "BODY_TIMEOUT" => show_duration(config.body_timeout),
        "WRITE_TIMEOUT" => show_duration(config.write_timeout),
        "MAX_BODY" => show_size(config.max_body),
        "MAX_BODY_MEMORY" => show_size(config.max_body_memory),
        "MAX_HEAD" => show_size(config.max_head as u64),
        "ERROR_RATE" => runtime.error_rate.to_string(),
        "LOG_LEVEL" => runtime.log_level.label().to_owned(),
        "LOG_FORMAT" => config.log_json.to_string(),
        "ALLOW_BURN" => config.allow_burn.to_string(),
        "MAX_CONNECTIONS" => config.max_connections.to_string(),
        "TRUSTED_PROXIES" => format!("{} networks", config.trusted_proxies.len()),
        "PATH_PREFIX" => config.path_prefix.clone(),
        "VERSION" => config.version.clone(),
        "LISTEN" => {
            let addresses: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
            addresses.join(" ")
        }
        other => panic!("no setting {other}"),
    }
}

#[test]
fn each_value_is_taken_for_what_was_meant_or_refused_with_the_forms() {
    assert!(TABLE.len() >= 100, "{}", TABLE.len());
    for (variable, value, outcome) in TABLE {
        let environment = |name: &str| (name == *variable).then(|| (*value).to_owned());
        let config = Config::read(&settings::flags(&[]).unwrap(), environment);
        match (config, outcome) {
            (Ok(config), Good(expected)) => {
                assert_eq!(shown(variable, &config), *expected, "{variable}={value:?}");
            }
            (Err(error), Bad(forms)) => {
                let text = error.to_string();
                assert!(text.contains(variable), "{variable}={value:?}: {text}");
                for form in *forms {
                    assert!(
                        text.contains(form),
                        "{form:?} for {variable}={value:?}: {text}"
                    );
                }
            }
            (Ok(config), Bad(_)) => panic!(
                "{variable}={value:?} is taken as {}",
                shown(variable, &config)
            ),
            (Err(error), Good(_)) => panic!("{variable}={value:?} is refused: {error}"),
        }
    }
}

#[test]
fn a_flag_with_an_empty_value_is_refused() {
    for setting in settings::SETTINGS {
        if setting.name.is_empty() || setting.variable.is_empty() {
            continue;
        }
        let arguments = [format!("--{}=", setting.name)];
        let config = Config::read(&settings::flags(&arguments).unwrap(), |_| None);
        // A list may be empty.
        let expected = (setting.name != "trusted-proxies").then(|| format!("--{}", setting.name));
        assert_eq!(config.err().map(|error| error.name), expected);
    }
}

#[test]
fn each_start_and_runtime_setting_stands_in_the_table() {
    for setting in settings::SETTINGS {
        let secret = setting.variable.starts_with("ADMIN_TOKEN");
        let in_table = TABLE
            .iter()
            .any(|(variable, ..)| *variable == setting.variable);
        assert!(
            setting.variable.is_empty() || secret || in_table,
            "{}",
            setting.variable
        );
    }
}

#[test]
fn the_binary_refuses_one_of_each_kind_in_one_line() {
    let mut seen = Vec::new();
    for (variable, value, outcome) in TABLE {
        let Bad(forms) = outcome else { continue };
        if seen.contains(variable) || value.contains('\n') {
            continue;
        }
        seen.push(variable);
        let names = [*variable, *value];
        let words: Vec<&str> = forms.iter().copied().chain(names).collect();
        fails(&run(&[] as &[&str], &[(*variable, *value)]), 78, &words);
    }
    assert!(seen.len() >= 15, "{seen:?}");
}
