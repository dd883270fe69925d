//! What `/admin` can change while the server runs: delays, error rate, log level, readiness and liveness.
//!
//! Each value is one atomic, because requests read them and must not wait; changes are rare and take turns, so that the
//! two bounds of the delay never cross.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::text::{self, labelled, micros};

labelled! {
    /// How much a line matters; a line is written if the log's level is as high or higher.
    #[allow(missing_docs, reason = "the names are the ones every log has")]
    #[derive(Default)]
    Level {
        Error "error",
        Warn "warn",
        #[default]
        Info "info",
        Debug "debug",
    }
}

/// The share of requests that fail, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// Reads a share from 0 to 1.
    pub fn parse(text: &str) -> Option<Rate> {
        text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).map(Rate)
    }
}

/// The start values of what can be changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start {
    /// The shortest delay.
    pub delay_min: Duration,
    /// The longest delay, not below the shortest.
    pub delay_max: Duration,
    /// The share of echo requests answered 500.
    pub error_rate: Rate,
    /// What the log shows.
    pub log_level: Level,
}

/// What can be changed while the server runs.
#[derive(Debug)]
pub struct Live {
    delay_min_micros: AtomicU64,
    delay_max_micros: AtomicU64,
    error_rate_bits: AtomicU64,
    log_level: AtomicU8,
    ready: AtomicBool,
    alive: AtomicBool,
    change: Mutex<()>,
}

labelled! {
    /// A setting that can be changed.
    #[allow(missing_docs, reason = "the names are those of the fields above")]
    Setting {
        DelayMin "delay-min",
        DelayMax "delay-max",
        ErrorRate "error-rate",
        LogLevel "log-level",
        Ready "ready",
        Live "live",
    }
}

/// What a duration has to look like.
pub const DURATION: &str = "a duration such as 250ms, 2s or 1m30s";
/// What the two bounds of the delay have to be.
pub const DELAY_ORDER: &str = "a delay-min that is not above delay-max";
/// What a rate has to be.
pub const RATE: &str = "a number from 0 to 1";
/// What a switch has to be.
const SWITCH: &str = "true or false";
/// What a level has to be.
pub const LEVEL: &str = "error, warn, info or debug";

impl Live {
    /// The start values; ready and alive.
    pub fn new(start: Start) -> Live {
        Live {
            delay_min_micros: AtomicU64::new(micros(start.delay_min)),
            delay_max_micros: AtomicU64::new(micros(start.delay_max)),
            error_rate_bits: AtomicU64::new(start.error_rate.0.to_bits()),
            log_level: AtomicU8::new(start.log_level as u8),
            ready: AtomicBool::new(true),
            alive: AtomicBool::new(true),
            change: Mutex::new(()),
        }
    }

    /// A random delay, uniform in microseconds between both bounds.
    pub fn random_delay(&self, random: &mut fastrand::Rng) -> Duration {
        let (min, max) = (self.delay_min_micros.load(Relaxed), self.delay_max_micros.load(Relaxed));
        // Between the two loads a change may have crossed them.
        Duration::from_micros(if max == 0 { 0 } else { random.u64(min.min(max)..=max) })
    }

    /// Whether this echo request is one of those that fail.
    pub fn fails(&self, random: &mut fastrand::Rng) -> bool {
        let rate = f64::from_bits(self.error_rate_bits.load(Relaxed));
        rate > 0.0 && random.f64() < rate
    }

    /// Whether lines of a level are written.
    pub fn logs(&self, level: Level) -> bool {
        level as u8 <= self.log_level.load(Relaxed)
    }

    /// Whether `/readyz` may say so.
    pub fn ready(&self) -> bool {
        self.ready.load(Relaxed)
    }

    /// Whether `/healthz` may say so.
    pub fn live(&self) -> bool {
        self.alive.load(Relaxed)
    }

    /// Changes a setting, or tells what value was expected and changes nothing.
    pub fn set(&self, setting: Setting, value: &str) -> Result<(), &'static str> {
        let _turn = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        match setting {
            Setting::DelayMin => {
                let max = self.delay_max_micros.load(Relaxed);
                set_delay(&self.delay_min_micros, value, |min| min <= max)
            }
            Setting::DelayMax => {
                let min = self.delay_min_micros.load(Relaxed);
                set_delay(&self.delay_max_micros, value, |max| min <= max)
            }
            Setting::ErrorRate => {
                let Rate(share) = Rate::parse(value).ok_or(RATE)?;
                self.error_rate_bits.store(share.to_bits(), Relaxed);
                Ok(())
            }
            Setting::LogLevel => {
                self.log_level.store(Level::of_label(value).ok_or(LEVEL)? as u8, Relaxed);
                Ok(())
            }
            Setting::Ready => set_switch(&self.ready, value),
            Setting::Live => set_switch(&self.alive, value),
        }
    }

    /// The settings and their values as one JSON object.
    pub fn to_json(&self) -> String {
        let delay = |micros: &AtomicU64| text::show_duration(Duration::from_micros(micros.load(Relaxed)));
        format!(
            "{{\"delay-min\":\"{}\",\"delay-max\":\"{}\",\"error-rate\":{},\"log-level\":\"{}\",\
             \"ready\":{},\"live\":{}}}\n",
            delay(&self.delay_min_micros),
            delay(&self.delay_max_micros),
            f64::from_bits(self.error_rate_bits.load(Relaxed)),
            Level::ALL[usize::from(self.log_level.load(Relaxed)).min(Level::ALL.len() - 1)].label(),
            self.ready(),
            self.live(),
        )
    }
}

fn set_delay(bound: &AtomicU64, value: &str, in_order: impl Fn(u64) -> bool) -> Result<(), &'static str> {
    let delay = micros(text::parse_duration(value).ok_or(DURATION)?);
    if !in_order(delay) {
        return Err(DELAY_ORDER);
    }
    bound.store(delay, Relaxed);
    Ok(())
}

fn set_switch(switch: &AtomicBool, value: &str) -> Result<(), &'static str> {
    switch.store(value.parse().map_err(|_| SWITCH)?, Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Live {
        Live::new(Start {
            delay_min: Duration::from_millis(1),
            delay_max: Duration::from_millis(3),
            error_rate: Rate::default(),
            log_level: Level::Info,
        })
    }

    #[test]
    fn changes() {
        let live = live();
        for (name, value, outcome) in [
            ("delay-max", "2s", Ok(())),
            ("delay-min", "3s", Err(DELAY_ORDER)),
            ("delay-min", "1s500ms", Ok(())),
            ("delay-max", "1s", Err(DELAY_ORDER)),
            ("delay-max", "banana", Err(DURATION)),
            ("error-rate", "0.25", Ok(())),
            ("error-rate", "1.1", Err(RATE)),
            ("error-rate", "NaN", Err(RATE)),
            ("error-rate", "-0.1", Err(RATE)),
            ("log-level", "debug", Ok(())),
            ("log-level", "DEBUG", Err(LEVEL)),
            ("ready", "false", Ok(())),
            ("ready", "no", Err(SWITCH)),
            ("live", "false", Ok(())),
        ] {
            assert_eq!(live.set(Setting::of_label(name).unwrap(), value), outcome, "{name} {value}");
        }
        let json = "{\"delay-min\":\"1s500ms\",\"delay-max\":\"2s\",\"error-rate\":0.25,\"log-level\":\"debug\",\
                    \"ready\":false,\"live\":false}\n";
        assert_eq!(live.to_json(), json);
        assert!(Setting::ALL.iter().all(|setting| json.contains(setting.label())));
        assert_eq!(Setting::of_label("speed"), None);
        assert!(live.logs(Level::Debug) && !live.ready() && !live.live());
    }

    #[test]
    fn delays_are_uniform_between_the_bounds() {
        let (live, mut random) = (live(), fastrand::Rng::with_seed(7));
        let delays: Vec<u64> = (0..10_000).map(|_| micros(live.random_delay(&mut random))).collect();
        assert!(delays.iter().all(|delay| (1_000..=3_000).contains(delay)));
        for quarter in 0..4u64 {
            let within = 1_000 + quarter * 500u64..1_500 + quarter * 500;
            let share = delays.iter().filter(|delay| within.contains(*delay)).count();
            assert!((2_300..2_700).contains(&share), "{share} in {within:?}");
        }
    }

    #[test]
    fn failures_come_at_their_rate() {
        let (live, mut random) = (live(), fastrand::Rng::with_seed(7));
        assert!(!(0..1_000).any(|_| live.fails(&mut random)));
        live.set(Setting::ErrorRate, "0.25").unwrap();
        let failed = (0..10_000).filter(|_| live.fails(&mut random)).count();
        assert!((2_300..2_700).contains(&failed), "{failed}");
    }
}
