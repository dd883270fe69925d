//! The command line of `httpserver watch`: one table declares each flag once, for the parser and
//! for `--help`.
//!
//! A bad value is refused before the first request, with the flag, the value and what is taken.

use std::fmt;
use std::time::Duration;

use crate::client::http::{Url, UrlError};
use crate::config::arguments::{ArgumentError, Arguments};
use crate::config::settings::log_json;
use crate::config::units::{parse_count, parse_duration, show_duration};

/// The highest rate, in requests a second. Half of them open a connection each, and a client has
/// 28,000 ports for the connections of the last minute; `watch` judges a server, it does not load
/// it.
const MAX_RATE: u32 = 1000;
/// The most requests that may become due within the time-out, which is about the most threads. Each
/// takes 12 KiB, and one descriptor of the 1,024 that a login shell has.
const MAX_IN_FLIGHT: u128 = 10_000;
/// The most kept connections.
const MAX_CONNECTIONS: usize = 1000;
/// The longest time-out, and so about the highest latency that is counted.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// What to ask, how, and for how long.
#[derive(Debug, PartialEq)]
pub struct Options {
    /// Requests a second in all.
    pub rate: u32,
    /// Kept connections, over which half of the requests go.
    pub connections: usize,
    /// When to end; `None` for not before a signal.
    pub length: Option<Duration>,
    /// When a request counts as lost, from its due time.
    pub timeout: Duration,
    /// Whether the output is JSON.
    pub json: bool,
    /// What to ask.
    pub url: Url,
}

/// A flag: its name, the placeholder for its value, which values it takes, what it means, and how
/// one is read.
struct Flag {
    name: &'static str,
    placeholder: &'static str,
    expected: &'static str,
    help: &'static str,
    read: fn(&mut Options, &str) -> Option<()>,
}

#[rustfmt::skip]
const FLAGS: [Flag; 5] = [
    Flag { name: "rate", placeholder: "N", expected: "a whole number from 1 to 1000",
        help: "requests a second in all, half of them on new connections (default: 20)",
        read: |options, text| set(&mut options.rate, parse_count(text, MAX_RATE)) },
    Flag { name: "connections", placeholder: "N", expected: "a whole number from 1 to 1000",
        help: "kept connections for the other half (default: 4)",
        read: |options, text| set(&mut options.connections, parse_count(text, MAX_CONNECTIONS)) },
    Flag { name: "for", placeholder: "TIME", expected: "a duration above zero such as 30s or 5m",
        help: "how long to run (default: until Ctrl-C or SIGTERM)",
        read: |options, text| set(&mut options.length, time(text, Duration::MAX).map(Some)) },
    Flag { name: "timeout", placeholder: "TIME",
        expected: "a duration such as 250ms or 5s, up to 10m",
        help: "a request without a whole response after this time is lost (default: 5s)",
        read: |options, text| set(&mut options.timeout, time(text, MAX_TIMEOUT)) },
    Flag { name: "format", placeholder: "WORD", expected: "text or json",
        help: "text or json, an object for each line (default: text)",
        read: |options, text| set(&mut options.json, log_json(text).ok()) },
];

fn set<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

fn time(text: &str, max: Duration) -> Option<Duration> {
    parse_duration(text).filter(|time| !time.is_zero() && *time <= max)
}

/// Why a command line cannot be used.
#[derive(Debug, PartialEq)]
pub enum Error {
    /// An argument that the command does not take.
    Arguments(ArgumentError),
    /// A flag's value that is not taken: flag, value, and what is expected.
    BadValue(&'static str, String, &'static str),
    /// Rate and time-out allow too many requests in flight.
    TooManyInFlight(u32, Duration, u128),
    /// No URL.
    NoUrl,
    /// A URL that cannot be asked.
    Url(UrlError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Arguments(error) => error.fmt(f),
            Error::BadValue(flag, value, expected) => {
                write!(f, "--{flag}: {value:?} is not usable: expected {expected}")
            }
            Error::TooManyInFlight(rate, timeout, count) => {
                let timeout = show_duration(*timeout);
                write!(
                    f,
                    "--rate {rate} and --timeout {timeout} allow {count} requests in flight: \
                     expected at most {MAX_IN_FLIGHT}"
                )
            }
            Error::NoUrl => {
                f.write_str("watch needs a URL such as http://127.0.0.1:8080/: see --help")
            }
            Error::Url(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl Options {
    /// Reads the arguments behind `watch`.
    pub fn parse(arguments: &[String]) -> Result<Options, Error> {
        let names = FLAGS.each_ref().map(|flag| flag.name);
        let arguments = Arguments::split(arguments, &names, true).map_err(Error::Arguments)?;
        let url = arguments.word.ok_or(Error::NoUrl)?;
        let mut options = Options {
            rate: 20,
            connections: 4,
            length: None,
            timeout: Duration::from_secs(5),
            json: false,
            url: Url::parse(url).map_err(Error::Url)?,
        };
        for flag in &FLAGS {
            if let Some(value) = arguments.value(flag.name) {
                let bad = || Error::BadValue(flag.name, value.to_owned(), flag.expected);
                (flag.read)(&mut options, value).ok_or_else(bad)?;
            }
        }
        let (rate, timeout) = (options.rate, options.timeout);
        let in_flight = u128::from(rate) * timeout.as_millis() / 1000;
        if in_flight > MAX_IN_FLIGHT {
            return Err(Error::TooManyInFlight(rate, timeout, in_flight));
        }
        Ok(options)
    }
}

/// The text of `httpserver watch --help`.
pub fn help() -> String {
    let mut text = String::from(
        "\
usage: httpserver watch [--FLAG VALUE]... URL

Asks an http:// URL at a constant rate and tells what was lost: during a rollout, a drain, a change
of an Ingress. A slow response delays no other request, and nothing that was sent is sent again.
One line a second: the time (UTC), responses that are ok (2xx and 3xx), lost requests, latency of
the ok ones from the time at which each request was due, losses by kind, versions and pods.

",
    );
    for flag in &FLAGS {
        let usage = format!("{} {}", flag.name, flag.placeholder);
        text += &format!("  --{usage:<17} {}\n", flag.help);
    }
    text + "
kinds of loss: STATUS  a response that is neither 2xx nor 3xx, shown by its code
               refused no connection            reset   the connection was reset
               closed  closed before the end of the response
               timeout no whole response in time
               bad     the response is not HTTP
               unsent  this command could not send it: no thread, port or descriptor is left

Versions come from the field Version, pods from the JSON of an httpserver's echo (any path that is
not another route, such as /delay/100ms). Ctrl-C, SIGTERM or the end of --for stop the requests,
wait for those in flight and write the summary; a second Ctrl-C does not wait.

example: httpserver watch --for 2m http://127.0.0.1:30080/delay/100ms

exit status: 0 nothing was lost, 1 a request was lost or not waited for, or an error,
             64 for a bad flag
"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Error> {
        Options::parse(
            &line
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn every_flag_in_both_forms() {
        let url = Url::parse("http://a/").unwrap();
        let defaults = parse("http://a/").unwrap();
        assert_eq!(
            (defaults.rate, defaults.connections, defaults.length),
            (20, 4, None)
        );
        assert_eq!(
            (defaults.timeout, defaults.json, &defaults.url),
            (Duration::from_secs(5), false, &url)
        );
        let (length, timeout) = (Some(Duration::from_secs(90)), Duration::from_millis(250));
        let expected = Options {
            rate: 7,
            connections: 3,
            length,
            timeout,
            json: true,
            url,
        };
        for line in [
            "--rate 7 --connections 3 --for 1m30s --timeout 250ms --format json http://a/",
            "http://a/ --rate=7 --connections=3 --for=90s --timeout=250ms --format=JSON --rate=7",
        ] {
            assert_eq!(parse(line).as_ref(), Ok(&expected));
        }
    }

    #[test]
    fn errors_name_flag_value_and_expectation() {
        for (line, expected) in [
            (
                "--rate 0 http://a/",
                "--rate: \"0\" is not usable: expected a whole number from 1 to 1000",
            ),
            ("--rate 1001 http://a/", "--rate: \"1001\" is not usable"),
            ("--rate=2.5 http://a/", "--rate: \"2.5\" is not usable"),
            (
                "--connections x http://a/",
                "--connections: \"x\" is not usable: expected a whole number from 1",
            ),
            (
                "--for 5 http://a/",
                "--for: \"5\" is not usable: expected a duration above zero such as 30s",
            ),
            ("--for 0s http://a/", "--for: \"0s\""),
            (
                "--timeout 0 http://a/",
                "--timeout: \"0\" is not usable: expected a duration such as 250ms",
            ),
            ("--timeout 11m http://a/", "--timeout: \"11m\""),
            (
                "--format xml http://a/",
                "--format: \"xml\" is not usable: expected text or json",
            ),
            (
                "--rate 1000 --timeout 1m http://a/",
                "--rate 1000 and --timeout 1m allow 60000 requests in flight",
            ),
            ("http://a/ --rate", "--rate needs a value"),
            ("--connection 3 http://a/", "did you mean --connections?"),
            ("--tiemout=3s http://a/", "did you mean --timeout?"),
            ("", "watch needs a URL such as http://"),
            (
                "http://a/ http://b/",
                "\"http://b/\" is one argument too many",
            ),
            (
                "https://a/",
                "\"https://a/\": this client does not speak TLS",
            ),
            ("a:80", "\"a:80\" is not a URL"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn help_tells_every_flag() {
        for flag in &FLAGS {
            assert!(help().contains(&format!("--{} {}", flag.name, flag.placeholder)));
        }
        assert!(help().lines().all(|line| line.len() <= 100));
    }
}
