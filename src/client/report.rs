//! What `watch` prints: a line for each second and a summary, as text or as JSON.
//!
//! Text and JSON tell the same. Times of day are UTC; in JSON they are Unix times in seconds, and
//! durations are seconds with a fraction.

use std::fmt;
use std::time::Duration;

use crate::client::http::Url;
use crate::client::json::Object;
use crate::client::tally::{Kind, Names, Seen, Tally};

/// Above this, the summary tells how late requests were started.
const LATE: Duration = Duration::from_millis(50);
/// The percentiles of the summary, in thousandths.
const PERCENTILES: [(&str, u64); 4] = [("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999)];

/// A run at its end.
#[derive(Debug)]
pub struct Run<'a> {
    /// What was asked.
    pub url: &'a Url,
    /// Requests a second.
    pub rate: u32,
    /// The Unix time of the first and of the last second.
    pub seconds: (u64, u64),
    /// How long requests were sent.
    pub length: Duration,
    /// All outcomes.
    pub total: &'a Tally,
    /// The longest time without an ok.
    pub gap: Duration,
    /// The Unix time of its start.
    pub gap_from: u64,
    /// Requests whose end nobody waited for.
    pub unfinished: u64,
    /// Lines that were dropped because nobody read the output.
    pub dropped_lines: u64,
}

/// The line of a second, a Unix time.
pub fn second(tally: &Tally, second: u64, as_json: bool) -> String {
    if as_json {
        second_json(tally, second)
    } else {
        second_text(tally, second)
    }
}

/// The summary of a run.
pub fn summary(run: &Run<'_>, as_json: bool) -> String {
    if as_json {
        summary_json(run)
    } else {
        summary_text(run)
    }
}

fn second_text(tally: &Tally, second: u64) -> String {
    let percentile = |per_mille| latency(tally.latencies.per_mille(per_mille));
    let (ok, lost) = (tally.count(Kind::Ok), tally.lost());
    let (time, p50, p99) = (time_of_day(second), percentile(500), percentile(990));
    let mut line = format!("{time}  ok {ok:>4}  lost {lost:>4}  p50 {p50:>7}  p99 {p99:>7}");
    for (kind, count) in losses(tally) {
        line += &format!("  {} {count}", kind.label());
    }
    // An httpserver is told by its version; of another server only the statuses are known.
    let all = tally.versions.iter().next().is_none();
    let is_told = |(code, _): &(&str, Seen)| all || !is_ok(code);
    line += &counts("status", tally.statuses.iter().filter(is_told));
    line += &counts("version", tally.versions.iter());
    line + &counts("pod", tally.pods.iter()) + "\n"
}

/// Names and their counts for a line: `  version 1.0.0:7 1.1.0:13`.
fn counts<'a>(title: &str, names: impl Iterator<Item = (&'a str, Seen)>) -> String {
    let count = |(name, seen): (&str, Seen)| format!("{name}:{}", seen.count);
    let list: Vec<String> = names.map(count).collect();
    if list.is_empty() {
        String::new()
    } else {
        format!("  {title} {}", list.join(" "))
    }
}

/// Whether a request with this status counts as ok.
fn is_ok(code: &str) -> bool {
    code.starts_with(['2', '3'])
}

/// The kinds of loss that there were, with their counts. A status is told by its code instead.
fn losses(tally: &Tally) -> impl Iterator<Item = (Kind, u64)> {
    let is_loss = |kind: &Kind| !matches!(kind, Kind::Ok | Kind::Status);
    let kinds = Kind::ALL.iter().copied().filter(is_loss);
    let counts = kinds.map(|kind| (kind, tally.count(kind)));
    counts.filter(|(_, count)| *count > 0)
}

fn summary_text(run: &Run<'_>) -> String {
    let (url, rate, total) = (run.url, run.rate, run.total);
    let (length, gap, gap_from) = (show(run.length), show(run.gap), time_of_day(run.gap_from));
    let mut text = format!("\n{url}: {rate} a second for {length}\n\n");
    text += "                  all       new      kept  connections\n";
    text += &row("requests", |kept| total.requests_on(kept));
    for kind in Kind::ALL.iter().copied() {
        if kind == Kind::Ok || total.count(kind) > 0 {
            text += &row(kind.label(), |kept| total.count_on(kept, kind));
        }
    }
    text += "\nlatency      ";
    for (name, per_mille) in PERCENTILES {
        let percentile = latency(total.latencies.per_mille(per_mille));
        text += &format!("{name} {percentile}  ");
    }
    text += &format!("max {}\n", latency(total.latencies.max()));
    text += &format!("longest gap  {gap} without an ok, from {gap_from}\n");
    text += &format!(
        "connections  {} opened; {} kept ones ended between two requests, which is no loss\n",
        total.opened, total.ended_idle
    );
    for (title, _, names) in groups(total) {
        text += &rows(title, names);
    }
    text + &notes(run) + &format!("\nverdict: {}\n", verdict(run))
}

/// What is told name by name: the title of its rows, its name in JSON, and the names.
fn groups(total: &Tally) -> [(&'static str, &'static str, &Names); 4] {
    [
        ("status", "statuses", &total.statuses),
        ("version", "versions", &total.versions),
        ("pod", "pods", &total.pods),
        ("lost", "causes", &total.causes),
    ]
}

/// A row of the table of kinds; `count` is asked for new and for kept connections.
fn row(title: &str, count: impl Fn(bool) -> u64) -> String {
    let (new, kept) = (count(false), count(true));
    format!("{title:<12}{:>9} {new:>9} {kept:>9}\n", new + kept)
}

/// A table of names with their counts and the times of the first and the last.
fn rows(title: &str, names: &Names) -> String {
    let widths = names.iter().map(|(name, _)| name.chars().count());
    let width = widths.max().unwrap_or(0);
    let row = |(name, seen): (&str, Seen)| {
        let (count, first, last) = (seen.count, time_of_day(seen.first), time_of_day(seen.last));
        format!("{title:<12} {name:<width$}  {count:>7}  {first} to {last}\n")
    };
    names.iter().map(row).collect()
}

/// What the reader of the figures has to know about this host.
fn notes(run: &Run<'_>) -> String {
    let mut text = String::new();
    if run.total.late > LATE {
        let late = show(run.total.late);
        text +=
            &format!("note: requests were started up to {late} late, because this host was busy\n");
    }
    if run.dropped_lines > 0 {
        let lines = run.dropped_lines;
        text += &format!("note: {lines} lines were dropped, because nobody read the output\n");
    }
    text
}

fn verdict(run: &Run<'_>) -> String {
    let (requests, lost) = (run.total.requests(), run.total.lost());
    let mut text = if lost == 0 {
        format!("nothing lost of {requests}")
    } else {
        format!("lost {lost} of {requests}: {}", lost_by_kind(run.total))
    };
    if run.unfinished > 0 {
        let more = run.unfinished;
        text += &format!("; {more} more were in flight and not waited for");
    }
    text
}

/// The losses by kind, a status by its code: `3 refused, 2 status 503`.
fn lost_by_kind(total: &Tally) -> String {
    let kinds = losses(total).map(|(kind, count)| format!("{count} {}", kind.label()));
    let codes = total.statuses.iter().filter(|(code, _)| !is_ok(code));
    let codes = codes.map(|(code, seen)| format!("{} status {code}", seen.count));
    kinds.chain(codes).collect::<Vec<_>>().join(", ")
}

fn second_json(tally: &Tally, second: u64) -> String {
    let count = |seen: Seen| seen.count;
    let object = Object::default()
        .text("type", "second")
        .member("time", second);
    let object = kinds(object, |kind| tally.count(kind))
        .member("p50_seconds", seconds(tally.latencies.per_mille(500)))
        .member("p99_seconds", seconds(tally.latencies.per_mille(990)))
        .member("statuses", names_json(&tally.statuses, count))
        .member("versions", names_json(&tally.versions, count))
        .member("pods", names_json(&tally.pods, count));
    format!("{object}\n")
}

fn summary_json(run: &Run<'_>) -> String {
    let total = run.total;
    let use_of = |kept| kinds(Object::default(), |kind| total.count_on(kept, kind));
    let object = Object::default()
        .text("type", "summary")
        .text("url", &run.url.to_string())
        .member("rate", run.rate)
        .member("first", run.seconds.0)
        .member("last", run.seconds.1)
        .member("seconds", seconds(Some(run.length)))
        .member("requests", total.requests())
        .member("lost", total.lost());
    let mut object = kinds(object, |kind| total.count(kind))
        .member("unfinished", run.unfinished)
        .member("new_connections", use_of(false))
        .member("kept_connections", use_of(true))
        .member("connections_opened", total.opened)
        .member("connections_ended_idle", total.ended_idle);
    for (name, per_mille) in PERCENTILES {
        let percentile = seconds(total.latencies.per_mille(per_mille));
        object = object.member(&format!("{name}_seconds"), percentile);
    }
    object = object
        .member("max_seconds", seconds(total.latencies.max()))
        .member("gap_seconds", seconds(Some(run.gap)))
        .member("gap_from", run.gap_from)
        .member("late_seconds", seconds(Some(total.late)))
        .member("dropped_lines", run.dropped_lines);
    let seen = |Seen { count, first, last }| {
        let object = Object::default().member("count", count);
        object.member("first", first).member("last", last)
    };
    for (_, name, names) in groups(total) {
        object = object.member(name, names_json(names, seen));
    }
    format!("{}\n", object.text("verdict", &verdict(run)))
}

fn kinds(object: Object, count: impl Fn(Kind) -> u64) -> Object {
    Kind::ALL.iter().fold(object, |object, kind| {
        object.member(kind.label(), count(*kind))
    })
}

fn names_json<V: fmt::Display>(names: &Names, value: impl Fn(Seen) -> V) -> Object {
    let names = names.iter();
    names.fold(Object::default(), |object, (name, seen)| {
        object.member(name, value(seen))
    })
}

/// A duration in seconds, exact to the microsecond.
fn seconds(duration: Option<Duration>) -> String {
    let number = |time: Duration| format!("{}.{:06}", time.as_secs(), time.subsec_micros());
    duration.map_or("null".into(), number)
}

/// A latency, as a person reads it; `-` where there is none.
fn latency(time: Option<Duration>) -> String {
    time.map_or("-".into(), show)
}

/// A duration with three digits or more, as a person reads it.
fn show(duration: Duration) -> String {
    let micros = duration.as_micros();
    let (millis, secs) = (micros / 1000, duration.as_secs());
    match micros {
        0..10_000 => format!("{millis}.{:02}ms", micros % 1000 / 10),
        10_000..1_000_000 => format!("{millis}.{}ms", micros % 1000 / 100),
        1_000_000..60_000_000 => format!("{secs}.{:02}s", millis % 1000 / 10),
        60_000_000..3_600_000_000 => format!("{}m{:02}s", secs / 60, secs % 60),
        _ => format!("{}h{:02}m", secs / 3600, secs / 60 % 60),
    }
}

/// The time of day of a Unix time, in UTC.
fn time_of_day(unix: u64) -> String {
    let (hour, minute, second) = (unix / 3600 % 24, unix / 60 % 60, unix % 60);
    format!("{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tally::Outcome;
    use crate::client::target::Request;
    use std::time::Instant;

    const NOON: u64 = 1_700_049_600;

    fn outcome(kind: Kind, kept: bool, millis: u64) -> Outcome {
        let due = Instant::now();
        let finished = due + Duration::from_millis(millis);
        Outcome {
            kind,
            finished,
            ..Outcome::of_request(Request { kept, due })
        }
    }

    fn tally(with_names: bool) -> Tally {
        let mut tally = Tally::default();
        let named = |name: &str| with_names.then(|| name.to_owned());
        for (kept, version) in [(false, "1.0"), (true, "1.1")] {
            let (version, pod) = (named(version), named("pod-1"));
            let outcome = outcome(Kind::Ok, kept, 20);
            tally.add(
                &Outcome {
                    status: Some(200),
                    version,
                    pod,
                    opened: true,
                    ..outcome
                },
                NOON,
            );
        }
        tally.add(
            &Outcome {
                cause: Some("refused: no".into()),
                ended_idle: true,
                ..outcome(Kind::Refused, false, 1)
            },
            NOON + 1,
        );
        tally
    }

    fn run<'a>(url: &'a Url, total: &'a Tally) -> Run<'a> {
        let (gap, length) = (Duration::from_millis(1234), Duration::from_secs(90));
        let (seconds, gap_from) = ((NOON, NOON + 90), NOON + 3);
        Run {
            url,
            rate: 2,
            seconds,
            length,
            total,
            gap,
            gap_from,
            unfinished: 0,
            dropped_lines: 0,
        }
    }

    #[test]
    fn a_second_as_text() {
        assert_eq!(
            second(&tally(true), NOON, false),
            "12:00:00  ok    2  lost    1  p50  20.0ms  p99  20.0ms  refused 1  version 1.0:1 1.1:1  pod pod-1:2\n"
        );
        assert_eq!(
            second(&tally(false), NOON, false),
            "12:00:00  ok    2  lost    1  p50  20.0ms  p99  20.0ms  refused 1  status 200:2\n"
        );
        assert_eq!(
            second(&Tally::default(), NOON + 3661, false),
            "13:01:01  ok    0  lost    0  p50       -  p99       -\n"
        );
    }

    #[test]
    fn a_status_is_told_by_its_code() {
        let mut tally = tally(true);
        tally.add(
            &Outcome {
                status: Some(503),
                ..outcome(Kind::Status, true, 1)
            },
            NOON,
        );
        let line = second(&tally, NOON, false);
        assert!(line.contains("lost    2") && line.contains("  refused 1  status 503:1  version"));
        assert_eq!(lost_by_kind(&tally), "1 refused, 1 status 503");
    }

    #[test]
    fn a_summary_as_text() {
        let url = Url::parse("http://a/").unwrap();
        let (total, nothing) = (tally(true), Tally::default());
        let text = summary(&run(&url, &total), false);
        for line in [
            "http://a/: 2 a second for 1m30s",
            "requests            3         2         1",
            "ok                  2         1         1",
            "refused             1         1         0",
            "latency      p50 20.0ms  p90 20.0ms  p99 20.0ms  p999 20.0ms  max 20.0ms",
            "longest gap  1.23s without an ok, from 12:00:03",
            "connections  2 opened; 1 kept ones ended between two requests, which is no loss",
            "version      1.1        1  12:00:00 to 12:00:00",
            "pod          pod-1        2  12:00:00 to 12:00:00",
            "lost         refused: no        1  12:00:01 to 12:00:01",
            "verdict: lost 1 of 3: 1 refused",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line:?} in {text}"
            );
        }
        assert!(!text.contains("note:"));
        let quiet = Run {
            unfinished: 2,
            dropped_lines: 5,
            ..run(&url, &nothing)
        };
        let text = summary(&quiet, false);
        assert!(
            text.ends_with(
                "verdict: nothing lost of 0; 2 more were in flight and not waited for\n"
            ),
            "{text}"
        );
        assert!(text.contains("note: 5 lines were dropped"));
    }

    #[test]
    fn the_same_as_json() {
        assert_eq!(
            second(&tally(true), NOON, true),
            "{\"type\":\"second\",\"time\":1700049600,\"ok\":2,\"status\":0,\"refused\":1,\"reset\":0,\"closed\":0,\
             \"timeout\":0,\"bad\":0,\"unsent\":0,\"p50_seconds\":0.020000,\"p99_seconds\":0.020000,\
             \"statuses\":{\"200\":2},\"versions\":{\"1.0\":1,\"1.1\":1},\"pods\":{\"pod-1\":2}}\n"
        );
        let (url, total) = (Url::parse("http://a/").unwrap(), tally(true));
        let text = summary(&run(&url, &total), true);
        for part in [
            "{\"type\":\"summary\",\"url\":\"http://a/\",\"rate\":2,\"first\":1700049600,\"last\":1700049690,",
            "\"requests\":3,\"lost\":1,\"ok\":2,\"status\":0,\"refused\":1,",
            "\"new_connections\":{\"ok\":1,\"status\":0,\"refused\":1,",
            "\"connections_opened\":2,\"connections_ended_idle\":1,",
            "\"gap_seconds\":1.234000,\"gap_from\":1700049603",
            "\"causes\":{\"refused: no\":{\"count\":1,\"first\":1700049601,\"last\":1700049601}}",
            "\"verdict\":\"lost 1 of 3: 1 refused\"}\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(second(&Tally::default(), NOON, true).contains("\"p50_seconds\":null"));
    }

    #[test]
    fn durations_as_people_read_them() {
        for (micros, text) in [
            (0, "0.00ms"),
            (1_239, "1.23ms"),
            (9_999, "9.99ms"),
            (10_000, "10.0ms"),
            (999_999, "999.9ms"),
            (1_000_000, "1.00s"),
            (59_999_999, "59.99s"),
            (60_000_000, "1m00s"),
            (3_599_000_000, "59m59s"),
            (3_660_000_000, "1h01m"),
        ] {
            assert_eq!(show(Duration::from_micros(micros)), text);
        }
    }
}
