//! Moments of time with the offset they were written with, for any year.
//!
//! Template functions accept every 64-bit count of seconds, which is far beyond the years that time libraries
//! support; and they are stricter about RFC 3339 than those.

use std::fmt;

const DAY: i64 = 86_400;

/// A day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: i64,
    /// From 1.
    pub(super) month: u8,
    /// From 1.
    pub(super) day: u8,
}

impl Date {
    /// The day that is this many days after 1970-01-01.
    fn from_days(days: i64) -> Self {
        // Count from 0000-03-01, so that the leap day is the last of its year, in eras of 400 years.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        Self { year, month: month as u8, day: day as u8 }
    }

    /// Days after 1970-01-01.
    fn days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let month = (i64::from(self.month) + 9) % 12;
        let of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }

    fn start_of_year(year: i64) -> Self {
        Self { year, month: 1, day: 1 }
    }

    /// From 1.
    pub(super) fn year_day(self) -> i64 {
        self.days() - Self::start_of_year(self.year).days() + 1
    }

    /// 0 is Sunday.
    pub(super) fn weekday(self) -> i64 {
        (self.days() + 4).rem_euclid(7)
    }

    /// Year and week of ISO 8601.
    pub(super) fn iso_week(self) -> (i64, i64) {
        // A week belongs to the year that its Thursday is in.
        let thursday = Self::from_days(self.days() - (self.weekday() + 6) % 7 + 3);
        (thursday.year, (thursday.year_day() - 1) / 7 + 1)
    }

    pub(super) fn month_name(self) -> &'static str {
        const NAMES: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        NAMES.get(usize::from(self.month).wrapping_sub(1)).copied().unwrap_or_default()
    }

    pub(super) fn weekday_name(self) -> &'static str {
        const NAMES: [&str; 7] =
            ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
        NAMES.get(self.weekday() as usize).copied().unwrap_or_default()
    }

    fn is_valid(self) -> bool {
        (1..=12).contains(&self.month) && Self::from_days(self.days()) == self
    }
}

/// A date and a time of day at an offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) date: Date,
    pub(super) hour: u8,
    pub(super) minute: u8,
    pub(super) second: u8,
    nanos: u32,
    /// Seconds east of UTC.
    pub(super) offset: i64,
}

impl Moment {
    /// In UTC.
    pub(super) fn from_unix(seconds: i64) -> Self {
        Self::at(seconds, 0, 0)
    }

    fn at(unix: i64, nanos: u32, offset: i64) -> Self {
        let local = i128::from(unix) + i128::from(offset);
        let (days, second) = (local.div_euclid(i128::from(DAY)), local.rem_euclid(i128::from(DAY)) as i64);
        let date = Date::from_days(days as i64);
        Self {
            date,
            hour: (second / 3600) as u8,
            minute: (second / 60 % 60) as u8,
            second: (second % 60) as u8,
            nanos,
            offset,
        }
    }

    /// Seconds after the start of 1970 in UTC.
    pub(super) fn unix(&self) -> i64 {
        let of_day = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        let unix = i128::from(self.date.days()) * i128::from(DAY) + i128::from(of_day - self.offset);
        i64::try_from(unix).unwrap_or(if unix < 0 { i64::MIN } else { i64::MAX })
    }

    /// That many nanoseconds later, at the same offset.
    pub(super) fn plus_nanos(&self, nanos: i64) -> Self {
        let total = i64::from(self.nanos) + nanos % 1_000_000_000;
        let seconds = nanos / 1_000_000_000 + total.div_euclid(1_000_000_000);
        Self::at(self.unix().saturating_add(seconds), total.rem_euclid(1_000_000_000) as u32, self.offset)
    }

    /// `+05:30`.
    pub(super) fn zone(&self) -> String {
        let sign = if self.offset < 0 { '-' } else { '+' };
        let minutes = self.offset.abs() / 60;
        format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }

    /// `+05:30`, or `Z` for UTC.
    pub(super) fn zone_or_z(&self) -> String {
        if self.offset == 0 { "Z".to_owned() } else { self.zone() }
    }

    /// Reads RFC 3339 strictly: two digits everywhere, a `T`, a point before the fraction, less than a day of offset.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text, (23, 59))
    }

    /// Reads RFC 3339 with a little more offset.
    pub(super) fn parse_lenient(text: &str) -> Result<Self, String> {
        Self::read(text, (24, 60))
    }

    /// The same with so many hours and minutes of offset at most.
    fn read(text: &str, most_offset: (u32, u32)) -> Result<Self, String> {
        let mut reader = Reader { text, at: 0 };
        let year = reader.digits(4, "year")?;
        reader.expect('-')?;
        let month = reader.digits(2, "month")? as u8;
        reader.expect('-')?;
        let day = reader.digits(2, "day")? as u8;
        if !(1..=12).contains(&month) {
            return Err("month out of range".to_owned());
        }
        let date = Date { year: year.into(), month, day };
        if !date.is_valid() {
            return Err("day out of range".to_owned());
        }
        if !reader.take('T') {
            return Err("missing required time introducer 'T'".to_owned());
        }
        let hour = reader.digits(2, "hour")? as u8;
        if hour > 23 {
            return Err("hour must be between 0 and 23 inclusive".to_owned());
        }
        reader.expect(':')?;
        let minute = reader.digits(2, "minute")? as u8;
        if minute > 59 {
            return Err("minute must be between 0 and 59 inclusive".to_owned());
        }
        reader.expect(':')?;
        let second = reader.digits(2, "second")? as u8;
        if second > 59 {
            return Err("second must be between 0 and 59 inclusive".to_owned());
        }
        let nanos = if reader.take('.') { reader.fraction()? } else { 0 };
        let offset = reader.offset(most_offset)?;
        Ok(Self { date, hour, minute, second, nanos, offset })
    }

    /// Reads RFC 3339 as `rfc3339_parse` does: also with a space for the `T`, one digit for the hour, a comma
    /// before the fraction and a little more offset.
    pub(super) fn parse_loosely(text: &str) -> Option<Self> {
        let (date, time) = text.split_at_checked(10)?;
        let time = time.strip_prefix(['T', ' '])?;
        let hour = if time.as_bytes().get(1) == Some(&b':') { "0" } else { "" };
        let strict = format!("{date}T{hour}{}", time.replacen(',', ".", 1));
        Self::parse_lenient(&strict).ok()
    }
}

/// RFC 3339 without a fraction.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Date { year, month, day } = self.date;
        let sign = if year < 0 { "-" } else { "" };
        write!(
            f,
            "{sign}{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{}",
            year.unsigned_abs(),
            self.hour,
            self.minute,
            self.second,
            self.zone_or_z()
        )
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.take(c) {
            return Ok(());
        }
        match self.rest().chars().next() {
            Some(found) => {
                Err(format!("found {:?} where {:?} is expected", found.to_string(), c.to_string()))
            }
            None => Err(format!("end of string where {:?} is expected", c.to_string())),
        }
    }

    fn digits(&mut self, count: usize, what: &str) -> Result<u32, String> {
        let found = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        let words = ["", "", "two", "", "four"];
        if found != count {
            return Err(format!("{what} must have exactly {} digits", words.get(count).unwrap_or(&"")));
        }
        let value = self.rest()[..count].parse().map_err(|_| format!("{what} is not a number"))?;
        self.at += count;
        Ok(value)
    }

    /// Nanoseconds, behind the point.
    fn fraction(&mut self) -> Result<u32, String> {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return Err("a fraction of a second needs digits".to_owned());
        }
        let nanos: String = self.rest()[..count].chars().chain(std::iter::repeat('0')).take(9).collect();
        self.at += count;
        nanos.parse().map_err(|_| "a fraction of a second needs digits".to_owned())
    }

    fn offset(&mut self, (most_hours, most_minutes): (u32, u32)) -> Result<i64, String> {
        let sign = match self.rest().chars().next() {
            None => return Err("end of string before UTC offset".to_owned()),
            Some('Z') => {
                self.at += 1;
                return self.end().map(|()| 0);
            }
            Some('+') => 1,
            Some('-') => -1,
            Some(other) => return Err(format!("cannot use {:?} as UTC offset", other.to_string())),
        };
        self.at += 1;
        let hours = self.digits(2, "UTC offset hours")?;
        self.expect(':')?;
        let minutes = self.digits(2, "UTC offset minutes")?;
        if hours > most_hours || minutes > most_minutes {
            return Err("UTC offset out of range".to_owned());
        }
        self.end()?;
        Ok(sign * i64::from(hours * 3600 + minutes * 60))
    }

    fn end(&self) -> Result<(), String> {
        match self.rest() {
            "" => Ok(()),
            rest => Err(format!("extra text {rest:?} after the timestamp")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_agree() {
        for days in (-800_000..800_000).step_by(97) {
            assert_eq!(Date::from_days(days).days(), days);
        }
        for (text, weekday, year_day, week) in [
            ("2021-01-01T00:00:00Z", 5, 1, (2020, 53)),
            ("2024-12-31T00:00:00Z", 2, 366, (2025, 1)),
            ("2024-03-03T00:00:00Z", 0, 63, (2024, 9)),
        ] {
            let date = Moment::parse(text).unwrap().date;
            assert_eq!(
                (date.weekday(), date.year_day(), date.iso_week()),
                (weekday, year_day, week),
                "{text}"
            );
        }
    }

    #[test]
    fn any_second_has_a_date() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (253_402_300_800, "10000-01-01T00:00:00Z"),
            (i64::MAX, "292277026596-12-04T15:30:07Z"),
        ] {
            assert_eq!(Moment::from_unix(seconds).to_string(), want);
            assert_eq!(Moment::from_unix(seconds).unix(), seconds);
        }
        assert_eq!(Moment::from_unix(i64::MIN).unix(), i64::MIN);
    }

    #[test]
    fn rfc3339_is_strict() {
        for text in [
            "2023-02-29T00:00:00Z",
            "2024-03-05 06:07:08Z",
            "2024-03-05T06:07:08",
            "2024-03-05T06:07Z",
            "2024-03-05",
            "2024-03-05T24:00:00Z",
            "2024-03-05T6:07:08Z",
            "2024-03-05T06:07:08,5Z",
            "2024-03-05T23:59:60Z",
            "2024-13-05T06:07:08Z",
            "2024-03-05T06:07:08Zx",
            "2024-03-05T06:07:08.Z",
            "2024-03-05T06:07:08+24:00",
            "2024-03-05T06:07:08-23:60",
            "é",
            "",
        ] {
            assert!(Moment::parse(text).is_err(), "{text}");
        }
        for text in ["2024-03-05 6:07:08,5+01:00", "2024-03-05T06:07:08Z", "2024-03-05T06:07:08+24:60"] {
            assert!(Moment::parse_loosely(text).is_some(), "{text}");
        }
        assert!(Moment::parse_loosely("1700000000").is_none());
        let later = Moment::parse("2023-12-31T23:59:59.9-05:00").unwrap().plus_nanos(200_000_000);
        assert_eq!(later.to_string(), "2024-01-01T00:00:00-05:00");
    }
}
