//! Dates in the three formats that responses and log lines need.
//!
//! A date is written anew only when its second changes, so most requests copy it.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use crate::http::decimal;

/// A second in UTC, split into the parts that the formats need.
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

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

impl Date {
    /// The date of a Unix time in seconds in the Gregorian calendar.
    pub fn from_unix(unix_seconds: u64) -> Date {
        let days = unix_seconds / 86_400;
        // Years begin on the first of March here, so a leap day is the last day of its year.
        // 400 years have 146,097 days.
        let since_march_0000 = days + 719_468;
        let (era, day_of_era) = (since_march_0000 / 146_097, since_march_0000 % 146_097);
        let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
        let year_of_era = (day_of_era - leap_days) / 365;
        let day_of_year = day_of_era - (year_of_era * 365 + year_of_era / 4 - year_of_era / 100);
        // Counted from March, every five months have 153 days.
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march as usize + 2) % 12;
        let year = era * 400 + year_of_era + u64::from(month < 2);
        let (hour, minute, second) = (
            unix_seconds / 3600 % 24,
            unix_seconds / 60 % 60,
            unix_seconds % 60,
        );
        Date {
            year,
            month,
            day,
            weekday: (days % 7) as usize,
            hour,
            minute,
            second,
        }
    }

    /// Writes the date of HTTP (IMF-fixdate, RFC 9110 section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn http(self, out: &mut Vec<u8>) {
        let Date {
            year,
            month,
            day,
            weekday,
            hour,
            minute,
            second,
        } = self;
        let (weekday, month) = (WEEKDAYS[weekday], MONTHS[month]);
        push(
            out,
            format_args!(
                "{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
            ),
        );
    }

    /// Writes the date of the common log format: `06/Nov/1994:08:49:37 +0000`.
    pub fn common_log(self, out: &mut Vec<u8>) {
        let Date {
            year,
            month,
            day,
            hour,
            minute,
            second,
            ..
        } = self;
        let month = MONTHS[month];
        push(
            out,
            format_args!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000"),
        );
    }

    /// Writes the date of RFC 3339 up to the second: `1994-11-06T08:49:37`.
    pub fn rfc3339(self, out: &mut Vec<u8>) {
        let Date {
            year,
            month,
            day,
            hour,
            minute,
            second,
            ..
        } = self;
        push(
            out,
            format_args!(
                "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}",
                month + 1
            ),
        );
    }
}

fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing into a vector does not fail.
    let _ = out.write_fmt(text);
}

/// Writes the fraction of a second that follows a date: `.007`.
pub fn push_millis(out: &mut Vec<u8>, millis: u32) {
    out.push(b'.');
    out.extend(decimal::three_digits(millis));
}

/// The present time in all formats.
#[derive(Debug)]
pub struct Dates {
    unix: Duration,
    bytes: Vec<u8>,
}

impl Dates {
    /// Sets the time, counted from the Unix epoch.
    pub fn set(&mut self, unix: Duration) {
        if self.unix.as_secs() != unix.as_secs() {
            self.bytes.clear();
            let date = Date::from_unix(unix.as_secs());
            date.http(&mut self.bytes);
            date.common_log(&mut self.bytes);
            date.rfc3339(&mut self.bytes);
        }
        self.unix = unix;
    }

    /// The time as [`Date::http`] writes it.
    pub fn http(&self) -> &[u8] {
        &self.bytes[..29]
    }

    /// The time as [`Date::common_log`] writes it.
    pub fn common_log(&self) -> &[u8] {
        &self.bytes[29..55]
    }

    /// The time as [`Date::rfc3339`] writes it.
    pub fn rfc3339(&self) -> &[u8] {
        &self.bytes[55..]
    }

    /// The milliseconds after the second.
    pub fn millis(&self) -> u32 {
        self.unix.subsec_millis()
    }
}

impl Default for Dates {
    /// The Unix epoch.
    fn default() -> Self {
        let bytes = b"Thu, 01 Jan 1970 00:00:00 GMT01/Jan/1970:00:00:00 +00001970-01-01T00:00:00";
        Dates {
            unix: Duration::ZERO,
            bytes: bytes.to_vec(),
        }
    }
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
    fn dates() {
        for (unix, http, log, rfc3339) in [
            (
                0,
                "Thu, 01 Jan 1970 00:00:00 GMT",
                "01/Jan/1970:00:00:00 +0000",
                "1970-01-01T00:00:00",
            ),
            (
                784_111_777,
                "Sun, 06 Nov 1994 08:49:37 GMT",
                "06/Nov/1994:08:49:37 +0000",
                "1994-11-06T08:49:37",
            ),
            (
                951_782_400,
                "Tue, 29 Feb 2000 00:00:00 GMT",
                "29/Feb/2000:00:00:00 +0000",
                "2000-02-29T00:00:00",
            ),
            (
                4_107_542_399,
                "Sun, 28 Feb 2100 23:59:59 GMT",
                "28/Feb/2100:23:59:59 +0000",
                "2100-02-28T23:59:59",
            ),
            (
                4_107_542_400,
                "Mon, 01 Mar 2100 00:00:00 GMT",
                "01/Mar/2100:00:00:00 +0000",
                "2100-03-01T00:00:00",
            ),
        ] {
            assert_eq!(written(|out| Date::from_unix(unix).http(out)), http);
            assert_eq!(written(|out| Date::from_unix(unix).common_log(out)), log);
            assert_eq!(written(|out| Date::from_unix(unix).rfc3339(out)), rfc3339);
            let mut dates = Dates::default();
            dates.set(Duration::from_millis(unix * 1000 + 7));
            assert_eq!(dates.millis(), 7);
            let parts = [dates.http(), dates.common_log(), dates.rfc3339()];
            assert_eq!(parts, [http, log, rfc3339].map(str::as_bytes));
        }
    }
}
