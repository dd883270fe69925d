//! A histogram of latencies: bounded memory, whatever the length of a run.
//!
//! A bucket is 1 us wide, or at most 1/32 of its latencies, so the latencies up to ten minutes have
//! about 800. A percentile is the upper bound of its bucket, so it is at most 1/32 too high and
//! never too low.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::http::decimal::micros;

/// Counts of latencies.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The count of each bucket, by its upper bound in microseconds.
    counts: BTreeMap<u64, u64>,
    count: u64,
    max: Duration,
}

/// The upper bound of a latency's bucket, in microseconds: its first six binary digits, rounded up.
fn upper_bound(micros: u64) -> u64 {
    let width = 1 << micros.max(1).ilog2().saturating_sub(5);
    micros.next_multiple_of(width)
}

impl Histogram {
    /// Counts one latency.
    pub fn add(&mut self, latency: Duration) {
        let bound = upper_bound(micros(latency));
        *self.counts.entry(bound).or_default() += 1;
        self.count += 1;
        self.max = self.max.max(latency);
    }

    /// The latency that this many of a thousand do not exceed; `None` where nothing was counted.
    pub fn per_mille(&self, per_mille: u64) -> Option<Duration> {
        let rank = (self.count * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bound, count) in &self.counts {
            seen += count;
            if seen >= rank {
                return Some(Duration::from_micros(*bound).min(self.max));
            }
        }
        None
    }

    /// The highest latency, exactly; `None` where nothing was counted.
    pub fn max(&self) -> Option<Duration> {
        (self.count > 0).then_some(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets() {
        for (micros, bound) in [
            (0, 0),
            (1, 1),
            (63, 63),
            (64, 64),
            (65, 66),
            (127, 128),
            (129, 132),
            (600_000_000, 603_979_776),
        ] {
            assert_eq!(upper_bound(micros), bound, "{micros}");
        }
    }

    #[test]
    fn percentiles_are_at_most_a_bucket_too_high() {
        let mut histogram = Histogram::default();
        // In another order than they are sorted: 7,919 is a prime.
        for step in 1..=10_000u64 {
            histogram.add(Duration::from_micros(step * 7919 % 10_007 * 100));
        }
        for (per_mille, exact) in [
            (1, 1_000),
            (500, 500_400),
            (900, 900_600),
            (990, 990_600),
            (999, 999_600),
        ] {
            let shown = histogram.per_mille(per_mille).unwrap().as_micros();
            assert!(
                shown >= exact && shown <= exact + exact / 32,
                "{per_mille}: {shown} of {exact}"
            );
        }
        assert_eq!(histogram.max(), Some(Duration::from_micros(1_000_600)));
        assert_eq!(histogram.per_mille(1000), histogram.max());
    }

    #[test]
    fn the_edges() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.per_mille(500), histogram.max()), (None, None));
        histogram.add(Duration::ZERO);
        assert_eq!(
            (histogram.per_mille(500), histogram.max()),
            (Some(Duration::ZERO), Some(Duration::ZERO))
        );
        let longest = Duration::from_secs(600);
        histogram.add(longest);
        assert_eq!(histogram.per_mille(500), Some(Duration::ZERO));
        assert_eq!(histogram.per_mille(1000), Some(longest));
    }
}
