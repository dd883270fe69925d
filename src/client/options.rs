//! The command line of `httpserver watch`: one table declares each flag once, for the parser and
//! for `--help`.
//!
//! A bad value is refused before the first request, with the flag, the value and what is taken.

use std::fmt;
use std::time::Duration;

use super::http::{Url, UrlError};
use crate::config::units::{parse_duration, show_duration};

/// The highest rate, in requests a second. Half of them open a connection each, and a client has
/// 28,000 ports for the connections of the last minute; `watch` judges a server, it does not load
/// it.
const MAX_RATE: u32 = 1000;
/// The most requests in flight, which is the most threads; each takes 12 KiB, and one descriptor of
/// the 1,024 that a login shell has.
const MAX_IN_FLIGHT: usize = 10_000;
/// The most kept connections.
const MAX_CONNECTIONS: usize = 1000;
/// The longest time-out: the histogram's buckets reach further.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// A flag that differs in at most this many letters from a known one is taken for a slip.
const SLIP: usize = 2;

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

/// The values of the flags, before there is a URL.
struct Flags {
    rate: u32,
    connections: usize,
    length: Option<Duration>,
    timeout: Duration,
    json: bool,
}

const DEFAULTS: Flags = Flags {
    rate: 20,
    connections: 4,
    length: None,
    timeout: Duration::from_secs(5),
    json: false,
};

/// A flag: its name, the sign for its value, what it means, which values it takes, and how one is
/// read.
struct Flag {
    name: &'static str,
    sign: &'static str,
    help: &'static str,
    expected: &'static str,
    read: fn(&mut Flags, &str) -> Option<()>,
}

const FLAGS: [Flag; 5] = [
    Flag {
        name: "rate",
        sign: "N",
        help: "requests a second in all, half of them on new connections (default: 20)",
        expected: "a whole number from 1 to 1000",
        read: |flags, text| {
            flags.rate = text
                .parse()
                .ok()
                .filter(|rate| (1..=MAX_RATE).contains(rate))?;
            Some(())
        },
    },
    Flag {
        name: "connections",
        sign: "N",
        help: "kept connections for the other half (default: 4)",
        expected: "a whole number from 1 to 1000",
        read: |flags, text| {
            flags.connections = text
                .parse()
                .ok()
                .filter(|count| (1..=MAX_CONNECTIONS).contains(count))?;
            Some(())
        },
    },
    Flag {
        name: "for",
        sign: "TIME",
        help: "when to end (default: at Ctrl-C or SIGTERM)",
        expected: "a duration above zero such as 30s or 5m",
        read: |flags, text| {
            flags.length = Some(parse_duration(text).filter(|length| !length.is_zero())?);
            Some(())
        },
    },
    Flag {
        name: "timeout",
        sign: "TIME",
        help: "when a request without a whole response is lost (default: 5s)",
        expected: "a duration such as 250ms or 5s, up to 10m",
        read: |flags, text| {
            flags.timeout =
                parse_duration(text).filter(|time| !time.is_zero() && *time <= MAX_TIMEOUT)?;
            Some(())
        },
    },
    Flag {
        name: "format",
        sign: "WORD",
        help: "text or json, an object for each line (default: text)",
        expected: "text or json",
        read: |flags, text| {
            flags.json = ["text", "json"]
                .iter()
                .position(|word| text.eq_ignore_ascii_case(word))?
                == 1;
            Some(())
        },
    },
];

/// Why a command line cannot be used.
#[derive(Debug, PartialEq)]
pub enum Error {
    /// A flag that does not exist, and the known one that is similar.
    UnknownFlag(String, Option<&'static str>),
    /// A flag without its value.
    MissingValue(&'static str, &'static str),
    /// A flag's value that is not taken: flag, value, and what is expected.
    BadValue(&'static str, String, &'static str),
    /// Rate and time-out allow too many requests in flight.
    TooManyInFlight(u32, Duration, usize),
    /// No URL.
    NoUrl,
    /// A second URL, or another word that is no flag.
    ExtraArgument(String),
    /// A URL that cannot be asked.
    Url(UrlError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HELP: &str = "see httpserver watch --help";
        match self {
            Error::UnknownFlag(flag, Some(near)) => {
                write!(f, "unknown flag {flag:?}: did you mean --{near}?")
            }
            Error::UnknownFlag(flag, None) => write!(f, "unknown flag {flag:?}: {HELP}"),
            Error::MissingValue(flag, expected) => write!(f, "--{flag} needs a value: {expected}"),
            Error::BadValue(flag, value, expected) => {
                write!(f, "--{flag}: {value:?} is not usable: expected {expected}")
            }
            Error::TooManyInFlight(rate, timeout, count) => write!(
                f,
                "--rate {rate} and --timeout {} allow {count} requests in flight: \
                 expected at most {MAX_IN_FLIGHT}",
                show_duration(*timeout)
            ),
            Error::NoUrl => write!(
                f,
                "watch needs a URL such as http://127.0.0.1:8080/: {HELP}"
            ),
            Error::ExtraArgument(word) => {
                write!(f, "watch takes one URL, not {word:?} too: {HELP}")
            }
            Error::Url(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl Options {
    /// Reads the arguments behind `watch`; `None` if they ask for help.
    pub fn parse(arguments: &[String]) -> Result<Option<Options>, Error> {
        let (mut flags, mut url) = (DEFAULTS, None);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if matches!(argument.as_str(), "--help" | "-h") {
                return Ok(None);
            } else if argument.starts_with('-') {
                read_flag(&mut flags, argument, || rest.next().map(String::as_str))?;
            } else if url.replace(argument).is_some() {
                return Err(Error::ExtraArgument(argument.clone()));
            }
        }
        let url = Url::parse(url.ok_or(Error::NoUrl)?).map_err(Error::Url)?;
        let Flags {
            rate,
            connections,
            length,
            timeout,
            json,
        } = flags;
        let options = Options {
            rate,
            connections,
            length,
            timeout,
            json,
            url,
        };
        let in_flight = options.max_in_flight();
        if in_flight > MAX_IN_FLIGHT {
            return Err(Error::TooManyInFlight(rate, timeout, in_flight));
        }
        Ok(Some(options))
    }

    /// How many requests can be in flight at once: all that become due within the time-out, and a
    /// margin for those that end a little late.
    pub fn max_in_flight(&self) -> usize {
        let due = u128::from(self.rate) * self.timeout.as_millis() / 1000;
        usize::try_from(due)
            .unwrap_or(usize::MAX)
            .saturating_add(self.connections + 1)
    }
}

/// Reads `--name=value`, or `--name` with the next argument as its value.
fn read_flag<'a>(
    flags: &mut Flags,
    argument: &'a str,
    next: impl FnOnce() -> Option<&'a str>,
) -> Result<(), Error> {
    let (dashed, value) = argument
        .split_once('=')
        .map_or((argument, None), |(name, value)| (name, Some(value)));
    let name = dashed.trim_start_matches('-');
    let flag = FLAGS
        .iter()
        .find(|flag| dashed.strip_prefix("--") == Some(flag.name));
    let flag = flag.ok_or_else(|| Error::UnknownFlag(dashed.to_owned(), similar(name)))?;
    let value = value
        .or_else(next)
        .ok_or(Error::MissingValue(flag.name, flag.expected))?;
    (flag.read)(flags, value)
        .ok_or_else(|| Error::BadValue(flag.name, value.to_owned(), flag.expected))
}

/// The known flag that was probably meant.
fn similar(name: &str) -> Option<&'static str> {
    let names = FLAGS.iter().map(|flag| flag.name).chain(["help"]);
    let near = names.map(|known| (distance(name, known), known)).min()?;
    // Of a short name two letters are too much of it.
    (near.0 <= SLIP && near.0 * 2 <= near.1.len()).then_some(near.1)
}

/// How many letters have to be put in, taken out or replaced to make one word of the other
/// (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, char) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(char != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
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
        text += &format!(
            "  --{:<17} {}\n",
            format!("{} {}", flag.name, flag.sign),
            flag.help
        );
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

exit status: 0 nothing was lost, 1 something was lost, or an error, 64 for a bad flag
"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, Error> {
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
        let defaults = parse("http://a/").unwrap().unwrap();
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
            assert_eq!(parse(line).unwrap().as_ref(), Some(&expected));
        }
        for line in ["--help", "-h", "--rate 5 --help", "http://a/ -h"] {
            assert_eq!(parse(line), Ok(None));
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
                "--rate 1000 and --timeout 1m allow 60005 requests in flight",
            ),
            ("http://a/ --rate", "--rate needs a value: a whole number"),
            (
                "--connection 3 http://a/",
                "unknown flag \"--connection\": did you mean --connections?",
            ),
            (
                "--tiemout=3s http://a/",
                "unknown flag \"--tiemout\": did you mean --timeout?",
            ),
            (
                "-rate 3 http://a/",
                "unknown flag \"-rate\": did you mean --rate?",
            ),
            ("--form json http://a/", "did you mean --for?"),
            (
                "--nonsense http://a/",
                "unknown flag \"--nonsense\": see httpserver watch --help",
            ),
            ("-x http://a/", "unknown flag \"-x\": see"),
            ("", "watch needs a URL such as http://"),
            (
                "http://a/ http://b/",
                "watch takes one URL, not \"http://b/\" too",
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
            assert!(help().contains(&format!("--{} {}", flag.name, flag.sign)));
        }
        assert!(help().lines().all(|line| line.len() <= 100));
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "", 3),
            ("abc", "axc", 1),
            ("ab", "ba", 2),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected));
        }
    }
}
