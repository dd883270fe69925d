//! Dates in the three formats that responses and log lines need.
//!
//! A date is written anew only when its second changes, so most requests copy it.

use std::io::Write;
use std::time::Duration;

use crate::http::decimal;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// A time in all formats, in UTC.
#[derive(Debug)]
pub struct Dates {
    unix: Duration,
    bytes: Vec<u8>,
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

impl Dates {
    /// A time, counted from the Unix epoch.
    pub fn at(unix: Duration) -> Dates {
        let mut dates = Dates::default();
        dates.set(unix);
        dates
    }

    /// Sets the time, counted from the Unix epoch.
    pub fn set(&mut self, unix: Duration) {
        if self.unix.as_secs() != unix.as_secs() {
            self.bytes.clear();
            write(unix.as_secs(), &mut self.bytes);
        }
        self.unix = unix;
    }

    /// The date of HTTP (IMF-fixdate, RFC 9110 section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn http(&self) -> &[u8] {
        &self.bytes[..29]
    }

    /// The date of the common log format: `06/Nov/1994:08:49:37 +0000`.
    pub fn common_log(&self) -> &[u8] {
        &self.bytes[29..55]
    }

    /// Writes the date of RFC 3339 with milliseconds: `1994-11-06T08:49:37.007Z`.
    pub fn put_rfc3339(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[55..]);
        out.push(b'.');
        out.extend(decimal::three_digits(self.unix.subsec_millis()));
        out.push(b'Z');
    }
}

/// Writes the date of a Unix time in seconds in all formats, by the Gregorian calendar.
fn write(unix_seconds: u64, out: &mut Vec<u8>) {
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
    let month_number = (month_from_march as usize + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month_number < 3);
    let (month, weekday) = (MONTHS[month_number - 1], WEEKDAYS[(days % 7) as usize]);
    let (hour, minute) = (unix_seconds / 3600 % 24, unix_seconds / 60 % 60);
    let second = unix_seconds % 60;
    // Writing into a vector does not fail.
    let _ = write!(
        out,
        "{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT\
         {day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000\
         {year:04}-{month_number:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let dates = Dates::at(Duration::from_millis(unix * 1000 + 7));
            assert_eq!(
                [dates.http(), dates.common_log()],
                [http, log].map(str::as_bytes)
            );
            let mut out = Vec::new();
            dates.put_rfc3339(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{rfc3339}.007Z"));
        }
    }
}
