//! A histogram of latencies with fixed buckets: bounded memory, whatever the length of a run.
//!
//! Each bucket is 3 % wide, or 1 us where that is more, from 1 us to above the longest time-out. A
//! percentile is the upper bound of its bucket, so it is at most 3 % too high and never too low.

use std::time::Duration;

use crate::http::decimal::micros;

/// With 640 buckets the last one is above 17 minutes; a histogram takes 5 KiB.
const BUCKETS: usize = 640;
/// The upper bounds of the buckets in microseconds, both ends included.
const BOUNDS: [u64; BUCKETS] = bounds();

const fn bounds() -> [u64; BUCKETS] {
    let mut bounds = [1; BUCKETS];
    let mut at = 1;
    while at < BUCKETS {
        let last = bounds[at - 1];
        let wider = last * 103 / 100;
        bounds[at] = if wider > last { wider } else { last + 1 };
        at += 1;
    }
    bounds
}

/// Counts of latencies.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    count: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: Box::new([0; BUCKETS]),
            count: 0,
            max: Duration::ZERO,
        }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn add(&mut self, latency: Duration) {
        let micros = micros(latency);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.count += 1;
        self.max = self.max.max(latency);
    }

    /// The latency that this many of a thousand do not exceed; `None` where nothing was counted.
    pub fn per_mille(&self, per_mille: u64) -> Option<Duration> {
        let rank = (self.count * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bound, count) in BOUNDS.iter().zip(self.counts.iter()) {
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
    fn buckets_are_three_percent_wide() {
        for pair in BOUNDS.windows(2) {
            let width = pair[1] - pair[0];
            assert!(
                width == 1 || (width * 100 <= pair[0] * 3 && width * 100 > pair[0]),
                "{pair:?}"
            );
        }
        assert!(
            BOUNDS[BUCKETS - 1] > 17 * 60 * 1_000_000,
            "{}",
            BOUNDS[BUCKETS - 1]
        );
    }

    #[test]
    fn percentiles_are_at_most_three_percent_too_high() {
        let mut histogram = Histogram::default();
        // In another order than they are sorted: 7,919 is a prime.
        for step in 1..=10_000u64 {
            histogram.add(Duration::from_micros(step * 7919 % 10_007 * 100));
        }
        for (per_mille, exact) in [
            (1, 1_000),
            (500, 500_350),
            (900, 900_630),
            (990, 990_693),
            (999, 999_700),
        ] {
            let shown = histogram.per_mille(per_mille).unwrap().as_micros();
            assert!(
                shown * 100 >= exact * 99 && shown * 100 <= exact * 104,
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
        histogram.add(Duration::MAX);
        assert_eq!(histogram.per_mille(500), Some(Duration::from_micros(1)));
        assert!(histogram.per_mille(1000).unwrap() > Duration::from_secs(17 * 60));
    }
}
