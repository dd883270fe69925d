//! What `watch` counts: the outcome of each request by kind, connection, status, version and pod.
//!
//! The same type counts one second and the whole run. Its memory is bounded: kinds are a closed
//! set, latencies go into a histogram, and of the names that a server can choose only so many are
//! told apart.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::client::histogram::Histogram;
use crate::client::http::Error;
use crate::client::target::Request;
use crate::labelled::labelled;

/// Versions, pods, statuses or causes that are told apart; the rest is counted together.
const NAMES: usize = 64;
/// The name under which the rest is counted.
const OTHERS: &str = "(others)";

labelled! {
    /// How a request ended, in the order in which the kinds are shown.
    Kind {
        /// A whole response, 2xx or 3xx.
        Ok "ok",
        /// A whole response with another status.
        Status "status",
        /// No connection.
        Refused "refused",
        /// The connection was reset.
        Reset "reset",
        /// The connection was closed in order before the end of the response.
        Closed "closed",
        /// No whole response in time.
        Timeout "timeout",
        /// What came is not HTTP.
        Bad "bad",
        /// This host could not send it, which says nothing about the server.
        Unsent "unsent",
    }
}

impl Kind {
    /// The kind of a request without a whole response.
    pub fn of_error(error: &Error) -> Kind {
        match error {
            Error::Unresolved(..) | Error::Refused(_) => Kind::Refused,
            Error::Reset(_) => Kind::Reset,
            Error::Closed(_) => Kind::Closed,
            Error::Timeout(_) => Kind::Timeout,
            Error::NotHttp(_) => Kind::Bad,
            Error::Local(_) => Kind::Unsent,
        }
    }
}

/// What became of one request.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub kind: Kind,
    /// The request.
    pub request: Request,
    /// When it ended.
    pub finished: Instant,
    /// How much later than due it was started, because this host had no processor time for it.
    pub late: Duration,
    /// Whether it opened a connection.
    pub opened: bool,
    /// Whether the kept connection that it wanted to use had ended between two requests.
    pub ended_idle: bool,
    /// The status, where there was a whole response.
    pub status: Option<u16>,
    /// The response's `Version` field.
    pub version: Option<String>,
    /// The pod, or else the host, that responded.
    pub pod: Option<String>,
    /// Why it was lost, in words, with its kind before it.
    pub cause: Option<String>,
}

impl Outcome {
    /// The outcome of a request that nobody has sent yet.
    pub fn of_request(request: Request) -> Outcome {
        Outcome {
            kind: Kind::Unsent,
            request,
            finished: request.due,
            late: Duration::ZERO,
            opened: false,
            ended_idle: false,
            status: None,
            version: None,
            pod: None,
            cause: None,
        }
    }

    /// The time from when the request was due to its end.
    pub fn latency(&self) -> Duration {
        self.finished.saturating_duration_since(self.request.due)
    }
}

/// How often a name was seen, and its first and last second as Unix times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How often.
    pub count: u64,
    /// The first second.
    pub first: u64,
    /// The last second.
    pub last: u64,
}

/// Names with their counts, in the order of the alphabet; a bounded number.
#[derive(Debug, Default)]
pub struct Names(BTreeMap<String, Seen>);

impl Names {
    fn add(&mut self, name: Option<&str>, second: u64) {
        let Some(name) = name else { return };
        let known = self.0.len() < NAMES || self.0.contains_key(name);
        let name = if known { name } else { OTHERS };
        let seen = self.0.entry(name.to_owned()).or_insert(Seen {
            count: 0,
            first: second,
            last: second,
        });
        seen.count += 1;
        // Outcomes come in about the order of their ends.
        seen.first = seen.first.min(second);
        seen.last = seen.last.max(second);
    }

    /// Each name with its counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Seen)> {
        self.0.iter().map(|(name, seen)| (name.as_str(), *seen))
    }
}

/// The counts of a second or of a run.
#[derive(Debug, Default)]
pub struct Tally {
    counts: [[u64; Kind::ALL.len()]; 2],
    /// The latencies of the requests that were ok.
    pub latencies: Histogram,
    /// The statuses of whole responses.
    pub statuses: Names,
    /// The versions that responded.
    pub versions: Names,
    /// The pods that responded.
    pub pods: Names,
    /// Why requests were lost.
    pub causes: Names,
    /// Connections opened.
    pub opened: u64,
    /// Kept connections that were found closed between two requests.
    pub ended_idle: u64,
    /// The longest time by which a request was started late.
    pub late: Duration,
}

impl Tally {
    /// Counts an outcome that came in this second, a Unix time.
    pub fn add(&mut self, outcome: &Outcome, second: u64) {
        let Outcome { kind, request, .. } = outcome;
        self.counts[usize::from(request.kept)][*kind as usize] += 1;
        if *kind == Kind::Ok {
            self.latencies.add(outcome.latency());
        }
        let status = outcome.status.map(|status| status.to_string());
        self.statuses.add(status.as_deref(), second);
        self.versions.add(outcome.version.as_deref(), second);
        self.pods.add(outcome.pod.as_deref(), second);
        self.causes.add(outcome.cause.as_deref(), second);
        self.opened += u64::from(outcome.opened);
        self.ended_idle += u64::from(outcome.ended_idle);
        self.late = self.late.max(outcome.late);
    }

    /// Requests of a kind, on new or on kept connections.
    pub fn count_on(&self, kept: bool, kind: Kind) -> u64 {
        self.counts[usize::from(kept)][kind as usize]
    }

    /// Requests of a kind.
    pub fn count(&self, kind: Kind) -> u64 {
        self.count_on(false, kind) + self.count_on(true, kind)
    }

    /// Requests on new or on kept connections.
    pub fn requests_on(&self, kept: bool) -> u64 {
        self.counts[usize::from(kept)].iter().sum()
    }

    /// All requests.
    pub fn requests(&self) -> u64 {
        self.requests_on(false) + self.requests_on(true)
    }

    /// Requests that were not ok.
    pub fn lost(&self) -> u64 {
        self.requests() - self.count(Kind::Ok)
    }
}

/// The longest time without a request that was ok.
#[derive(Debug)]
pub struct Gap {
    last_ok: Instant,
    /// How long it was.
    pub longest: Duration,
    /// When it began.
    pub from: Instant,
}

impl Gap {
    /// The gap from the start of a run.
    pub fn new(start: Instant) -> Gap {
        Gap {
            last_ok: start,
            longest: Duration::ZERO,
            from: start,
        }
    }

    /// Ends the present gap at this time: by a request that was ok, or by the end of the run.
    pub fn end(&mut self, at: Instant) {
        let length = at.saturating_duration_since(self.last_ok);
        if length > self.longest {
            (self.longest, self.from) = (length, self.last_ok);
        }
        self.last_ok = self.last_ok.max(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An outcome on a new connection.
    fn outcome(kind: Kind) -> Outcome {
        Outcome {
            kind,
            ..Outcome::of_request(Request {
                kept: false,
                due: Instant::now(),
            })
        }
    }

    #[test]
    fn every_kind_has_its_place() {
        let mut tally = Tally::default();
        for (place, kind) in Kind::ALL.iter().copied().enumerate() {
            (0..=place).for_each(|_| tally.add(&outcome(kind), 1));
        }
        let kept = Outcome {
            request: Request {
                kept: true,
                due: Instant::now(),
            },
            ..outcome(Kind::Bad)
        };
        tally.add(&kept, 2);
        assert_eq!(
            (
                tally.count(Kind::Ok),
                tally.count(Kind::Unsent),
                tally.count(Kind::Bad)
            ),
            (1, 8, 8)
        );
        assert_eq!(
            (
                tally.count_on(false, Kind::Bad),
                tally.count_on(true, Kind::Bad)
            ),
            (7, 1)
        );
        assert_eq!(
            (tally.requests(), tally.requests_on(true), tally.lost()),
            (37, 1, 36)
        );
    }

    #[test]
    fn names_are_bounded_and_keep_their_seconds() {
        let mut names = Names::default();
        for second in 0..1000 {
            names.add(Some(&format!("n{:02}", second % 100)), second);
        }
        let all: Vec<(&str, Seen)> = names.iter().collect();
        assert_eq!(all.len(), NAMES + 1);
        assert_eq!(
            all[0],
            (
                "(others)",
                Seen {
                    count: 360,
                    first: 64,
                    last: 999
                }
            )
        );
        assert_eq!(
            all[1],
            (
                "n00",
                Seen {
                    count: 10,
                    first: 0,
                    last: 900
                }
            )
        );
    }

    #[test]
    fn statuses_and_causes_are_counted() {
        let mut tally = Tally::default();
        let bad = Outcome {
            status: Some(503),
            cause: Some("status 503".into()),
            ..outcome(Kind::Status)
        };
        let good = Outcome {
            status: Some(200),
            ..outcome(Kind::Ok)
        };
        for outcome in [&bad, &good, &bad] {
            tally.add(outcome, 1);
        }
        let count = |(name, seen): (&str, Seen)| (name.to_owned(), seen.count);
        let counts = |names: &Names| names.iter().map(count).collect::<Vec<_>>();
        assert_eq!(counts(&tally.causes), [("status 503".to_owned(), 2)]);
        let statuses = [("200".to_owned(), 1), ("503".to_owned(), 2)];
        assert_eq!(counts(&tally.statuses), statuses);
    }

    #[test]
    fn gaps() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut gap = Gap::new(start);
        gap.end(at(300));
        assert_eq!((gap.longest, gap.from), (Duration::from_millis(300), start));
        // Threads tell of their ends not quite in order.
        gap.end(at(290));
        gap.end(at(500));
        gap.end(at(1000));
        gap.end(at(1100));
        assert_eq!(
            (gap.longest, gap.from),
            (Duration::from_millis(500), at(500))
        );
    }
}
