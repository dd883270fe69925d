//! To and from text: names of closed sets, durations, sizes, dates, numbers, and the escapes of the log and of JSON.
//!
//! What is read comes from a setting, a path or `/admin`; a reader gives `None` and its caller words the error. What is
//! written goes to the end of a `Vec<u8>`, which costs no allocation once it has grown; the escapes, whose result can
//! be six times as long as what they are given, are put out in runs.

use std::fmt;
use std::io::Write;
use std::time::Duration;

/// Declares a closed set: each member has a number, which tables are indexed by, and one name for settings, logs and
/// metrics. So what is read, what is shown and what is counted cannot part.
macro_rules! labelled {
    ($(#[$about_set:meta])* $set:ident { $($(#[$about:meta])* $name:ident $label:literal,)* }) => {
        $(#[$about_set])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $set { $($(#[$about])* $name,)* }

        impl $set {
            /// Every member, in the order of their numbers.
            pub const ALL: &[$set] = &[$($set::$name),*];

            /// The name of the member.
            pub fn label(self) -> &'static str {
                match self { $($set::$name => $label),* }
            }

            /// The member of a name.
            pub fn of_label(label: &str) -> Option<$set> {
                match label {
                    $($label => Some($set::$name),)*
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use labelled;

/// Units of durations in microseconds, from large to small.
const TIME_UNITS: [(&str, u64); 5] =
    [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// Reads a duration: `250ms`, `2s`, `1m30s` or a plain `0`. Each unit stands at most once, from large to small.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut micros, mut larger) = (text, 0u64, u64::MAX);
    while !rest.is_empty() {
        let (number, tail) = split_number(rest)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let &(_, unit) = TIME_UNITS.iter().find(|(name, _)| *name == &tail[..letters])?;
        if unit >= larger {
            return None;
        }
        micros = micros.checked_add(number.checked_mul(unit)?)?;
        (rest, larger) = (&tail[letters..], unit);
    }
    (!text.is_empty()).then(|| Duration::from_micros(micros))
}

/// Writes a duration as [`parse_duration`] reads it, exact to the microsecond.
pub fn show_duration(duration: Duration) -> String {
    let mut micros = micros(duration);
    let mut text = String::new();
    for (name, unit) in TIME_UNITS {
        if micros >= unit {
            text += &format!("{}{name}", micros / unit);
            micros %= unit;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// A duration in whole microseconds; more than 584,000 years are as many.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Reads a size in bytes: `512`, `64KiB`, `1MiB`, `1GiB`; also the decimal `kB`, `MB`, `GB`.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// The decimal number that the text begins with, and what follows it.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

/// A short number as text, without an allocation.
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
    let mut digits = Digits { bytes: [b'0'; 24], start: 24 };
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

/// A moment in UTC, taken apart for the three date formats that HTTP and logs want.
#[derive(Clone, Copy)]
pub struct Date {
    year: u64,
    month: usize,
    day: u64,
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

impl Date {
    /// The date of a Unix time in seconds, after the Gregorian calendar.
    pub fn of(unix_seconds: u64) -> Date {
        let days = unix_seconds / 86_400;
        // Years are counted from a first of March, so that a leap day is a year's last: 400 years have 146,097 days.
        let since_march_0000 = days + 719_468;
        let (era, day_of_era) = (since_march_0000 / 146_097, since_march_0000 % 146_097);
        let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
        let year_of_era = (day_of_era - leap_days) / 365;
        let day_of_year = day_of_era - (year_of_era * 365 + year_of_era / 4 - year_of_era / 100);
        // From March on, months have 153 days in every five.
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march as usize + 2) % 12;
        let year = era * 400 + year_of_era + u64::from(month < 2);
        let (hour, minute, second) = (unix_seconds / 3600 % 24, unix_seconds / 60 % 60, unix_seconds % 60);
        Date { year, month, day, weekday: (days % 7) as usize, hour, minute, second }
    }

    /// Writes the date of HTTP (IMF-fixdate, RFC 9110 section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn http(self, out: &mut Vec<u8>) {
        let Date { year, month, day, weekday, hour, minute, second } = self;
        let (weekday, month) = (WEEKDAYS[weekday], MONTHS[month]);
        push(out, format_args!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT"));
    }

    /// Writes the date of the common log format: `06/Nov/1994:08:49:37 +0000`.
    pub fn common_log(self, out: &mut Vec<u8>) {
        let Date { year, month, day, hour, minute, second, .. } = self;
        let month = MONTHS[month];
        push(out, format_args!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000"));
    }

    /// Writes the date of RFC 3339 up to the second: `1994-11-06T08:49:37`.
    pub fn rfc3339(self, out: &mut Vec<u8>) {
        let Date { year, month, day, hour, minute, second, .. } = self;
        push(out, format_args!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", month + 1));
    }
}

fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing into a vector does not fail.
    let _ = out.write_fmt(text);
}

/// Writes a fraction of a second behind a date: `.007`.
pub fn push_millis(out: &mut Vec<u8>, millis: u32) {
    out.push(b'.');
    out.extend([100, 10, 1].map(|unit| b'0' + (millis / unit % 10) as u8));
}

/// A moment in the formats that answers and log lines want, written anew only when its second changes.
pub struct Dates {
    unix: Duration,
    bytes: Vec<u8>,
}

impl Dates {
    /// Goes to a moment, told since the Unix epoch.
    pub fn set(&mut self, unix: Duration) {
        if self.unix.as_secs() != unix.as_secs() {
            self.bytes.clear();
            let date = Date::of(unix.as_secs());
            date.http(&mut self.bytes);
            date.common_log(&mut self.bytes);
            date.rfc3339(&mut self.bytes);
        }
        self.unix = unix;
    }

    /// The moment as [`Date::http`] writes it.
    pub fn http(&self) -> &[u8] {
        &self.bytes[..29]
    }

    /// The moment as [`Date::common_log`] writes it.
    pub fn common_log(&self) -> &[u8] {
        &self.bytes[29..55]
    }

    /// The moment as [`Date::rfc3339`] writes it.
    pub fn rfc3339(&self) -> &[u8] {
        &self.bytes[55..]
    }

    /// The milliseconds behind the second.
    pub fn millis(&self) -> u32 {
        self.unix.subsec_millis()
    }
}

impl Default for Dates {
    /// The Unix epoch.
    fn default() -> Self {
        let bytes = b"Thu, 01 Jan 1970 00:00:00 GMT01/Jan/1970:00:00:00 +00001970-01-01T00:00:00";
        Dates { unix: Duration::ZERO, bytes: bytes.to_vec() }
    }
}

/// Puts out a message of ours that may quote a user: as [`escape_log`], but quotes and backslashes stay.
pub fn escape_diagnostic(message: &str, mut put: impl FnMut(&[u8])) {
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' => put(&[byte]),
            _ => put(&[b'\\', b'x', hex_digit(byte >> 4), hex_digit(byte)]),
        }
    }
}

/// Puts out bytes for a quoted value of the text log: printable ASCII as it is, `"` and `\` after a `\`, others `\xHH`.
pub fn escape_log(bytes: &[u8], mut put: impl FnMut(&[u8])) {
    escape(bytes, &mut put, |rest, put| {
        match rest[0] {
            b @ (b'"' | b'\\') => put(&[b'\\', b]),
            b => put(&[b'\\', b'x', hex_digit(b >> 4), hex_digit(b)]),
        }
        1
    });
}

/// Puts out bytes for a JSON string: ASCII alone, other characters as `\uHHHH`, bytes that are no UTF-8 as U+FFFD.
///
/// Nothing but printable ASCII stands in the result, so that it can drive neither a terminal nor a line reader.
pub fn escape_json(bytes: &[u8], mut put: impl FnMut(&[u8])) {
    escape(bytes, &mut put, |rest, put| {
        let (character, length) = first_char(rest);
        match character {
            '"' | '\\' => put(&[b'\\', rest[0]]),
            '\n' => put(b"\\n"),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let [high, low] = unit.to_be_bytes();
                    let digits = [high >> 4, high, low >> 4, low].map(hex_digit);
                    put(b"\\u");
                    put(&digits);
                }
            }
        }
        length
    });
}

/// Puts out a whole JSON string, with its quotes.
pub fn json_string(bytes: &[u8], put: &mut impl FnMut(&[u8])) {
    put(b"\"");
    escape_json(bytes, &mut *put);
    put(b"\"");
}

/// Puts out runs of plain bytes as they are, and has `special` put out the others; it tells how many bytes it took.
fn escape<P: FnMut(&[u8])>(mut rest: &[u8], put: &mut P, special: impl Fn(&[u8], &mut P) -> usize) {
    loop {
        let plain = plain_len(rest);
        put(&rest[..plain]);
        rest = &rest[plain..];
        if rest.is_empty() {
            return;
        }
        rest = &rest[special(rest, put)..];
    }
}

/// How many bytes at the start are printable ASCII without `"` and `\`.
fn plain_len(bytes: &[u8]) -> usize {
    let special =
        |word| below(word, b' ') | equal(word, b'"') | equal(word, b'\\') | equal(word, 0x7f) | (word & HIGH_BITS);
    first_marked(bytes, special).unwrap_or(bytes.len())
}

/// A one and the high bit in each byte of a word.
const ONES: u64 = u64::MAX / 255;
const HIGH_BITS: u64 = ONES << 7;

/// The place of the first byte that `marks` gives its high bit, eight bytes at a time; a space must have no mark.
pub fn first_marked(bytes: &[u8], marks: impl Fn(u64) -> u64) -> Option<usize> {
    let place = |marked: u64| (marked != 0).then(|| marked.trailing_zeros() as usize / 8);
    let (words, tail) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        if let Some(at) = place(marks(u64::from_le_bytes(*word))) {
            return Some(8 * i + at);
        }
    }
    let mut last = [b' '; 8];
    last[..tail.len()].copy_from_slice(tail);
    place(marks(u64::from_le_bytes(last))).map(|at| 8 * words.len() + at)
}

/// Marks bytes below `limit`, which is ASCII; above a marked byte, one may be marked that is not below.
pub fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH_BITS
}

/// Marks bytes that are `byte`; above a marked byte, one may be marked that is not.
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

/// Whether a field name is `known`, which is in lower case. In a token, 0x20 makes a letter small and no other byte one
/// of those that names here have, so this costs a third of a comparison of ASCII in general.
pub fn same_name(name: &[u8], known: &[u8]) -> bool {
    name.len() == known.len() && name.iter().zip(known).all(|(byte, known)| byte | 0x20 == *known)
}

/// The first character of some bytes and its length in bytes; U+FFFD where they are no UTF-8.
fn first_char(bytes: &[u8]) -> (char, usize) {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    valid.chars().next().map_or((char::REPLACEMENT_CHARACTER, 1), |c| (c, c.len_utf8()))
}

fn hex_digit(nibble: u8) -> u8 {
    b"0123456789abcdef"[usize::from(nibble & 15)]
}

/// A number as 16 hexadecimal digits.
pub fn hex64(number: u64) -> [u8; 16] {
    std::array::from_fn(|i| hex_digit((number >> (60 - 4 * i)) as u8))
}

/// A run of bytes that a log line may hold: at most `limit` of them.
pub fn cut(bytes: &[u8], limit: usize) -> &[u8] {
    &bytes[..bytes.len().min(limit)]
}

/// The parts of a comma-separated list (RFC 9110 section 5.6.1) without the white space around them.
pub fn list(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn durations() {
        for (text, micros) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("250ms", Some(250_000)),
            ("2s", Some(2_000_000)),
            ("1m30s", Some(90_000_000)),
            ("1h0m1us", Some(3_600_000_001)),
            ("", None),
            ("2", None),
            ("s", None),
            ("banana", None),
            ("-1s", None),
            ("1.5s", None),
            ("1s1m", None),
            ("1s1s", None),
            ("1s ", None),
            ("1é", None),
            ("99999999999999999999s", None),
            ("9999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text), micros.map(Duration::from_micros), "{text:?}");
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
            ("64KiB", Some(65_536)),
            ("1MiB", Some(1_048_576)),
            ("2kB", Some(2_000)),
            ("", None),
            ("KiB", None),
            ("1 KiB", None),
            ("-1", None),
            ("1mib", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn dates() {
        for (unix, http, log, rfc3339) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT", "01/Jan/1970:00:00:00 +0000", "1970-01-01T00:00:00"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT", "06/Nov/1994:08:49:37 +0000", "1994-11-06T08:49:37"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT", "29/Feb/2000:00:00:00 +0000", "2000-02-29T00:00:00"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT", "28/Feb/2100:23:59:59 +0000", "2100-02-28T23:59:59"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT", "01/Mar/2100:00:00:00 +0000", "2100-03-01T00:00:00"),
        ] {
            assert_eq!(written(|out| Date::of(unix).http(out)), http);
            assert_eq!(written(|out| Date::of(unix).common_log(out)), log);
            assert_eq!(written(|out| Date::of(unix).rfc3339(out)), rfc3339);
            let mut dates = Dates::default();
            dates.set(Duration::from_millis(unix * 1000 + 7));
            assert_eq!(dates.millis(), 7);
            let parts = [dates.http(), dates.common_log(), dates.rfc3339()];
            assert_eq!(parts, [http, log, rfc3339].map(str::as_bytes));
        }
    }

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
        assert_eq!(&hex64(0x00ab_0000_0000_00ff), b"00ab0000000000ff");
    }

    #[test]
    fn escapes() {
        for (bytes, log, json) in [
            (&b"plain"[..], "plain", "plain"),
            (b"a\"b\\c", "a\\\"b\\\\c", "a\\\"b\\\\c"),
            (b"\r\n\t\x1b[0m", "\\x0d\\x0a\\x09\\x1b[0m", "\\u000d\\n\\u0009\\u001b[0m"),
            (b"\xff\xc3\xa9", "\\xff\\xc3\\xa9", "\\ufffd\\u00e9"),
            ("\u{9b}\u{1F600}".as_bytes(), "\\xc2\\x9b\\xf0\\x9f\\x98\\x80", "\\u009b\\ud83d\\ude00"),
            (b"\xf0\x9f", "\\xf0\\x9f", "\\ufffd\\ufffd"),
            (b"\x7f", "\\x7f", "\\u007f"),
        ] {
            assert_eq!(written(|out| escape_log(bytes, |b| out.extend_from_slice(b))), log);
            assert_eq!(written(|out| escape_json(bytes, |b| out.extend_from_slice(b))), json);
        }
    }
}
