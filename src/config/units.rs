//! Durations, sizes and rates as people write them.
//!
//! Settings, paths, `/admin` and the exercises read them here, so one form means the same
//! everywhere. Durations follow Go and Kubernetes (`1m30s`, `1.5s`), sizes follow Kubernetes (`Mi`
//! is 2^20, `M` is 10^6). A reader gives `None` for anything else, and its caller words the error
//! with the constants here, which name the forms.

use std::str::FromStr;
use std::time::Duration;

use crate::http::decimal::micros;

/// What a duration has to look like.
pub const DURATION: &str = "a duration such as 250ms, 2s, 1.5s or 1m30s";
/// What a size has to look like.
pub const SIZE: &str = "a size such as 512, 64Ki, 64KiB, 1MiB or 10M";
/// What a rate has to look like.
pub const RATE: &str = "a number from 0 to 1";

/// Units of durations in microseconds, from large to small.
const TIME_UNITS: [(&str, u64); 5] = [
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Units of sizes in bytes, with the names of each.
const SIZE_UNITS: [(&[&str], u64); 7] = [
    (&["", "B"], 1),
    (&["k", "kB", "KB"], 1_000),
    (&["Ki", "KiB"], 1 << 10),
    (&["M", "MB"], 1_000_000),
    (&["Mi", "MiB"], 1 << 20),
    (&["G", "GB"], 1_000_000_000),
    (&["Gi", "GiB"], 1 << 30),
];

/// Reads a duration, exact to the microsecond: `250ms`, `2s`, `1.5s`, `.5s`, `1m30s` or a plain
/// `0`. As in Go, a duration is a sum of any terms.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut sum) = (text, 0u64);
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        rest = after.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let name = &after[..after.len() - rest.len()];
        let (_, unit) = TIME_UNITS.iter().find(|(known, _)| *known == name)?;
        sum = sum.checked_add(times(number, *unit)?)?;
    }
    (!text.is_empty()).then(|| Duration::from_micros(sum))
}

/// Writes a duration as [`parse_duration`] reads it, exact to the microsecond.
pub fn show_duration(duration: Duration) -> String {
    let mut left = micros(duration);
    let mut text = String::new();
    for (name, unit) in TIME_UNITS {
        if left >= unit {
            text += &format!("{}{name}", left / unit);
            left %= unit;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Reads a size in bytes: `512`, `64Ki`, `64KiB`, `1MiB`, `10M`, `1.5Gi`.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, name) = split_number(text)?;
    let (_, unit) = SIZE_UNITS.iter().find(|(names, _)| names.contains(&name))?;
    times(number, *unit)
}

/// Writes a size with the largest binary unit that divides it.
pub fn show_size(bytes: u64) -> String {
    for (name, unit) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes > 0 && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// Reads a share from 0 to 1.
pub fn parse_rate(text: &str) -> Option<f64> {
    text.parse().ok().filter(|rate| (0.0..=1.0).contains(rate))
}

/// Reads a whole number from 1 to `max`.
pub fn parse_count<T: FromStr + From<u8> + PartialOrd>(text: &str, max: T) -> Option<T> {
    let number = text.parse().ok();
    number.filter(|number| (T::from(1)..=max).contains(number))
}

/// Splits a text after the decimal number that it begins with: the number in billionths, the rest.
fn split_number(text: &str) -> Option<(u128, &str)> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &text[..text.len() - rest.len()];
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if number.is_empty() || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    // With nine decimals, the digits without the point count billionths.
    Some((format!("{whole}{fraction:0<9}").parse().ok()?, rest))
}

/// A number in billionths times a unit, rounded down.
fn times(billionths: u128, unit: u64) -> Option<u64> {
    u64::try_from(billionths.checked_mul(unit.into())? / 1_000_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, micros) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("250ms", Some(250_000)),
            ("2s", Some(2_000_000)),
            ("1.5s", Some(1_500_000)),
            (".5s", Some(500_000)),
            ("0.000001s", Some(1)),
            ("1m30s", Some(90_000_000)),
            ("1m1.5s", Some(61_500_000)),
            ("1h0m1us", Some(3_600_000_001)),
            ("", None),
            ("2", None),
            ("s", None),
            (".s", None),
            ("1.s", None),
            ("1..5s", None),
            ("1.5m30s", Some(120_000_000)),
            ("banana", None),
            ("-1s", None),
            ("1s1m1s", Some(62_000_000)),
            ("1s ", None),
            ("1\u{e9}", None),
            ("99999999999999999999s", None),
            ("9999999999999999999s", None),
        ] {
            assert_eq!(
                parse_duration(text),
                micros.map(Duration::from_micros),
                "{text:?}"
            );
        }
        for text in ["0s", "250ms", "2s", "1m30s", "1h1us"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("512B", Some(512)),
            ("64KiB", Some(65_536)),
            ("64Ki", Some(65_536)),
            ("1MiB", Some(1_048_576)),
            ("1.5Mi", Some(1_572_864)),
            ("10M", Some(10_000_000)),
            ("2kB", Some(2_000)),
            ("2k", Some(2_000)),
            ("1Gi", Some(1 << 30)),
            ("", None),
            ("KiB", None),
            ("1 KiB", None),
            ("-1", None),
            ("1m", None),
            ("1mib", None),
            ("1XB", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
        assert_eq!(
            [1000, 65_536, 1 << 20].map(show_size),
            ["1000", "64KiB", "1MiB"]
        );
    }

    #[test]
    fn rates() {
        for (text, rate) in [
            ("0", Some(0.0)),
            (".25", Some(0.25)),
            ("1", Some(1.0)),
            ("0.000000001", Some(0.000_000_001)),
            ("NaN", None),
            ("1e-3", Some(0.001)),
            ("inf", None),
        ] {
            assert_eq!(parse_rate(text), rate);
        }
        assert!(
            ["1.1", "-0.1", "", "50%"]
                .iter()
                .all(|text| parse_rate(text).is_none())
        );
    }
}
