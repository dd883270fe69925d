//! `/burn/{duration}`: uses a core, so that an autoscaler has something to see.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::app::{Exchange, Stage};

/// Uses one core for so long, or until the drain ends all delays. The drain does not need to wake
/// those that wait for a core: each burn that ends frees its core for the next one, which ends as
/// well.
pub fn burn(exchange: &Exchange<'_>, duration: Duration) {
    let (start, mut number) = (Instant::now(), 1u64);
    exchange.host.with_core(duration, &mut || {
        while start.elapsed() < duration && !exchange.host.reached(Stage::NoDelays) {
            for _ in 0..1000 {
                number = black_box(number.wrapping_mul(6_364_136_223_846_793_005) + 1);
            }
        }
    });
}
