//! Every answer is one log line, and every refusal counts under its reason and no other: the whole table once more,
//! one case after the other, for each of the two log formats.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::cases::{self, Case, End};
use crate::client::Answer;
use crate::json::Json;
use crate::support::{PATIENCE, Server};
use crate::table;

/// The keys of a line, in this order.
const KEYS: [&str; 16] = [
    "time",
    "level",
    "client",
    "peer",
    "method",
    "target",
    "route",
    "protocol",
    "status",
    "bytes",
    "delay",
    "user_agent",
    "referrer",
    "request_id",
    "trace_id",
    "duration",
];

type Counts = BTreeMap<String, u64>;

#[test]
fn every_case_logs_and_counts_what_it_answers_in_json() {
    let server = Server::start(&["--log-format", "json", "--log-level", "debug"]);
    every_case(&server, json_status);
}

#[test]
fn every_case_logs_and_counts_what_it_answers_in_text() {
    let server = Server::start(&["--log-format", "text", "--log-level", "debug"]);
    every_case(&server, text_status);
}

/// Runs the table and compares counters and log; `status_of` takes a line apart or says what is wrong with it.
fn every_case(server: &Server, status_of: fn(&str) -> Result<u16, String>) {
    let mut failures = Vec::new();
    let (mut before, mut seen) = (counts(server), 0);
    for case in cases::all() {
        let answers = match table::run_whole(server, &case) {
            Ok(answers) => answers,
            Err(failure) => {
                failures.push(format!("{}: {failure}", case.name));
                thread::park_timeout(Duration::from_millis(100));
                seen = server.stdout.bytes().len();
                before = counts(server);
                continue;
            }
        };
        let mut expected: Vec<u16> = answers
            .iter()
            .map(|answer| answer.status)
            .filter(|&status| status != 100)
            .collect();
        if case.end == End::Keep
            || case.end == End::Any && !answers.last().is_some_and(Answer::closes)
        {
            expected.push(200);
        }
        match log_since(server, &mut seen, expected.len(), status_of) {
            Ok(logged) if logged == expected => {}
            other => failures.push(format!(
                "{}: answered {expected:?}, logged {other:?}",
                case.name
            )),
        }
        let refused = answers.iter().any(|answer| answer.status >= 400);
        if let Err(failure) = counted(server, &case, refused, &mut before) {
            failures.push(format!("{}: {failure}", case.name));
        }
    }
    assert!(
        failures.is_empty(),
        "{} fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Waits for so many lines behind the `seen` bytes of the log, leaving out our own scrapes.
fn log_since(
    server: &Server,
    seen: &mut usize,
    count: usize,
    status_of: fn(&str) -> Result<u16, String>,
) -> Result<Vec<u16>, String> {
    server.stdout.wait_until(PATIENCE / 4, |bytes| {
        whole_lines(&bytes[*seen..]).len() >= count
    });
    let fresh = server.stdout.bytes().split_off(*seen);
    *seen += fresh
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |last| last + 1);
    whole_lines(&fresh)
        .iter()
        .map(|line| status_of(line))
        .collect()
}

fn whole_lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter(|line| !line.contains("/metrics?scrape"))
        .map(str::to_owned)
        .collect()
}

/// What was refused is looked up after each refusal, so a count that moved without one shows at the next one.
///
/// Counters follow the answer, so they are looked at until they are right or time is up.
fn counted(server: &Server, case: &Case, refused: bool, before: &mut Counts) -> Result<(), String> {
    let reasons = case
        .expected
        .iter()
        .filter(|_| refused)
        .filter_map(|expected| expected.reason.as_deref());
    let Some(reason) = reasons.chain(case.end_reason.as_deref()).next() else {
        return Ok(());
    };
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let now = counts(server);
        let moved: Vec<_> = now
            .iter()
            .filter(|&(name, count)| before.get(name) != Some(count))
            .collect();
        let right = matches!(moved[..], [(name, count)]
            if (reason == "*" || reason == name) && *count == before.get(name).unwrap_or(&0) + 1);
        if right || Instant::now() > deadline {
            let verdict = if right {
                Ok(())
            } else {
                Err(format!("expected reason {reason:?}, counted {moved:?}"))
            };
            *before = now;
            return verdict;
        }
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn counts(server: &Server) -> Counts {
    let (_, answer) = server.get("/metrics?scrape");
    let series = answer
        .lines()
        .filter_map(|line| line.strip_prefix("http_rejected_requests_total{reason=\""));
    series
        .filter_map(|rest| {
            let (reason, value) = rest.split_once("\"} ")?;
            Some((reason.to_owned(), value.trim().parse().ok()?))
        })
        .filter(|&(_, value)| value > 0)
        .collect()
}

/// The status of a JSON line, if it is one flat object with the right keys and types.
pub(crate) fn json_status(line: &str) -> Result<u16, String> {
    let json = Json::read(line.as_bytes())?;
    let Json::Object(members) = &json else {
        return Err(format!("no object: {line}"));
    };
    let keys: Vec<_> = members.iter().map(|(key, _)| key.as_str()).collect();
    if keys != KEYS {
        return Err(format!("keys {keys:?}"));
    }
    for (key, value) in members {
        let number = ["status", "bytes", "delay", "duration"].contains(&key.as_str());
        match value {
            Json::Number(_) if number => {}
            Json::Text(_) if !number => {}
            other => return Err(format!("{key} is {other:?}")),
        }
    }
    let time = json.text("time");
    if time.len() != 24 || !time.ends_with('Z') || &time[10..11] != "T" {
        return Err(format!("time {time:?}"));
    }
    json.text("status")
        .parse()
        .map_err(|error| format!("status: {error}"))
}

/// The status of a text line, if it has the combined format's shape and then name=value pairs.
pub(crate) fn text_status(line: &str) -> Result<u16, String> {
    let bad = |what: &str| format!("{what} in {line:?}");
    if line.chars().any(char::is_control) {
        return Err(bad("a control character"));
    }
    let quotes = unescaped_quotes(line);
    let [
        request,
        request_end,
        referrer,
        referrer_end,
        agent,
        agent_end,
    ] = quotes[..]
    else {
        return Err(bad("other than six quotes"));
    };
    let start = &line[..request];
    let shape: String = start
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    let (address, rest) = shape
        .split_once(" - - [")
        .ok_or_else(|| bad("no address"))?;
    if address != "000.0.0.0"
        || rest.len() != 28
        || !rest.starts_with("00/")
        || !rest.ends_with(":00:00:00 +0000] ")
    {
        return Err(bad("a wrong start"));
    }
    if &line[referrer_end..agent] != "\" " || request_end > referrer {
        return Err(bad("a wrong middle"));
    }
    for name in [
        "level",
        "peer",
        "route",
        "delay",
        "request_id",
        "trace_id",
        "duration",
    ] {
        if line[agent_end..].matches(&format!(" {name}=")).count() != 1 {
            return Err(bad(&format!("no single {name}")));
        }
    }
    let mut middle = line[request_end + 1..referrer].split_whitespace();
    let status = middle
        .next()
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| bad("no status"))?;
    middle
        .next()
        .filter(|bytes| *bytes == "-" || bytes.parse::<u64>().is_ok())
        .ok_or_else(|| bad("no bytes"))?;
    Ok(status)
}

fn unescaped_quotes(line: &str) -> Vec<usize> {
    let (mut quotes, mut escaped) = (Vec::new(), false);
    for (at, byte) in line.bytes().enumerate() {
        if byte == b'"' && !escaped {
            quotes.push(at);
        }
        escaped = byte == b'\\' && !escaped;
    }
    quotes
}
