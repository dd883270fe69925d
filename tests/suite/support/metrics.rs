//! One scrape of `/metrics`.
//!
//! A series that does not exist is an error and not zero, so that no test passes because a metric was renamed.

use std::fmt::Display;
use std::str::FromStr;

/// The text of a scrape.
pub(crate) struct Scrape(pub(crate) String);

impl Scrape {
    /// The value of a series that must exist, written as in the text: `name` or `name{label="value"}`.
    #[track_caller]
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.read(series)
    }

    /// The value of a series that must exist and counts something.
    #[track_caller]
    pub(crate) fn count(&self, series: &str) -> u64 {
        self.read(series)
    }

    #[track_caller]
    fn read<T: FromStr<Err: Display>>(&self, series: &str) -> T {
        let text = self
            .find(series)
            .unwrap_or_else(|| panic!("no series {series} in:\n{}", self.0));
        text.parse()
            .unwrap_or_else(|error| panic!("{series}: {error}: {text:?}"))
    }

    /// As `count` for a labelled series that is made when it is first used: absent counts as zero. The metric itself
    /// must exist.
    #[track_caller]
    pub(crate) fn count_or_zero(&self, series: &str) -> u64 {
        let name = series.split('{').next().unwrap_or_default();
        let parts = ["_bucket", "_count", "_sum"];
        let name = parts
            .iter()
            .find_map(|part| name.strip_suffix(part))
            .unwrap_or(name);
        assert!(
            self.0.contains(&format!("# TYPE {name} ")),
            "no metric {name} in:\n{}",
            self.0
        );
        self.find(series).map_or(0, |_| self.count(series))
    }

    fn find(&self, series: &str) -> Option<&str> {
        self.0
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
    }
}

/// `name{label="value"}`.
pub(crate) fn series(name: &str, label: &str, value: &str) -> String {
    format!("{name}{{{label}=\"{value}\"}}")
}

/// The counter of refusals for this reason.
pub(crate) fn rejected(reason: &str) -> String {
    series("http_rejected_requests_total", "reason", reason)
}

/// The counter of requests that ended without a whole response for this reason.
pub(crate) fn aborted(reason: &str) -> String {
    series("http_aborted_requests_total", "reason", reason)
}
