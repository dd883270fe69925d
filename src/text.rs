//! To and from text: durations, sizes, numbers, dates and the escapes of the two log formats.
//!
//! Everything here works on bytes and writes into a `Vec<u8>`, so that it can be tested with tables and costs no
//! allocation once the vector has grown.

use std::time::Duration;

/// Reads a duration such as `250ms`, `2s`, `1m30s`, `1h` or a plain `0`; `None` if it is none.
///
/// Units, each at most once and from large to small: `h`, `m`, `s`, `ms`, `us`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] =
        [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut micros, mut larger) = (text, 0u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit_len = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let (number, tail) = (&rest[..digits], &rest[digits + unit_len..]);
        let &(_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[digits..digits + unit_len])?;
        if unit >= larger {
            return None;
        }
        micros = micros.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        (rest, larger) = (tail, unit);
    }
    (larger != u64::MAX).then(|| Duration::from_micros(micros))
}
