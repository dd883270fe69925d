//! Numbers as text without an allocation.

use std::time::Duration;

/// A number as text.
pub struct Digits {
    bytes: [u8; 24],
    start: usize,
}

impl std::ops::Deref for Digits {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// A number in decimal.
pub fn decimal(number: u64) -> Digits {
    fixed::<0>(number)
}

/// A duration in seconds with six decimals, such as `1.234567`.
pub fn seconds(duration: Duration) -> Digits {
    fixed::<6>(micros(duration))
}

/// A duration in milliseconds with three decimals, such as `1234.567`.
pub fn millis(duration: Duration) -> Digits {
    fixed::<3>(micros(duration))
}

/// A number with a point before its last `DECIMALS` digits.
fn fixed<const DECIMALS: u32>(number: u64) -> Digits {
    let scale = const { 10u64.pow(DECIMALS) };
    let (mut whole, mut fraction) = (number / scale, number % scale);
    let mut digits = Digits {
        bytes: [b'0'; 24],
        start: 24,
    };
    if DECIMALS > 0 {
        let mut at = digits.start;
        digits.start -= DECIMALS as usize + 1;
        while fraction > 0 {
            at -= 1;
            digits.bytes[at] = b'0' + (fraction % 10) as u8;
            fraction /= 10;
        }
        digits.bytes[digits.start] = b'.';
    }
    loop {
        digits.start -= 1;
        digits.bytes[digits.start] = b'0' + (whole % 10) as u8;
        whole /= 10;
        if whole == 0 {
            return digits;
        }
    }
}

/// The last three digits of a number.
pub fn three_digits(number: u32) -> [u8; 3] {
    [100, 10, 1].map(|unit| b'0' + (number / unit % 10) as u8)
}

/// A duration in whole microseconds, at most `u64::MAX`.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A number as 16 hexadecimal digits.
pub fn hex64(number: u64) -> [u8; 16] {
    std::array::from_fn(|place| hex_digit((number >> (60 - 4 * place)) as u8))
}

/// The low four bits of a byte as a hexadecimal digit.
pub fn hex_digit(nibble: u8) -> u8 {
    b"0123456789abcdef"[usize::from(nibble & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let shown = |digits: Digits| String::from_utf8(digits.to_vec()).unwrap();
        assert_eq!(shown(decimal(0)), "0");
        assert_eq!(shown(decimal(10)), "10");
        assert_eq!(shown(decimal(u64::MAX)), "18446744073709551615");
        assert_eq!(shown(seconds(Duration::from_micros(1_000_042))), "1.000042");
        assert_eq!(shown(seconds(Duration::ZERO)), "0.000000");
        assert_eq!(shown(seconds(Duration::MAX)), "18446744073709.551615");
        assert_eq!(shown(millis(Duration::from_micros(12_345))), "12.345");
        assert_eq!(shown(millis(Duration::from_micros(7))), "0.007");
        let padded = [7, 42, 503, 1503].map(three_digits);
        assert_eq!(padded, [*b"007", *b"042", *b"503", *b"503"]);
        assert_eq!(&hex64(0x00ab_0000_0000_00ff), b"00ab0000000000ff");
    }
}
