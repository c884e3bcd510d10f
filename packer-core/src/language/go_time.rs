//! Dates as Go programs write them: example layouts (`2006-01-02`) and Packer's subset of strftime. Always UTC.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const MONTHS: [&str; 12] = [
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
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The layout of RFC 3339 with seconds, what `isotime` prints where no layout is given.
pub(crate) const RFC3339: &str = "2006-01-02T15:04:05Z07:00";

/// Writes an instant, in UTC, the way a Go layout shows it: the layout is the text of Monday, January 2 2006,
/// 15:04:05 (zone -0700), and whatever is no part of a date stays as it is.
pub(crate) fn format_layout(time: Timestamp, layout: &str) -> String {
    let civil = time.to_zoned(TimeZone::UTC).datetime();
    let mut out = String::with_capacity(layout.len() + 8);
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        if let Some((chunk, len)) = chunk_at(rest) {
            chunk.write(civil, &mut out);
            rest = &rest[len..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Writes an instant, in UTC, by a strftime format. Knows `%% %a %A %b %B %d %H %I %L %m %M %p %S %y %Y %z %Z`
/// (`%L` is milliseconds with their dot); any other letter stays with its percent sign.
pub(crate) fn strftime(time: Timestamp, format: &str) -> String {
    let mut out = String::with_capacity(format.len() + 8);
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(verb) = rest.chars().next() else {
            out.push('%');
            break;
        };
        let layout = match verb {
            'a' => "Mon",
            'A' => "Monday",
            'b' => "Jan",
            'B' => "January",
            'd' => "02",
            'H' => "15",
            'I' => "03",
            'L' => ".000",
            'm' => "01",
            'M' => "04",
            'p' => "PM",
            'S' => "05",
            'y' => "06",
            'Y' => "2006",
            'z' => "-0700",
            'Z' => "MST",
            '%' => {
                out.push('%');
                rest = &rest[1..];
                continue;
            }
            _ => {
                out.push('%');
                continue;
            }
        };
        out.push_str(&format_layout(time, layout));
        rest = &rest[1..];
    }
    out.push_str(rest);
    out
}

/// One date part of a layout.
#[derive(Clone, Copy)]
enum Chunk {
    LongMonth,
    ShortMonth,
    Month {
        width: usize,
    },
    LongWeekday,
    ShortWeekday,
    Day {
        pad: Pad,
    },
    YearDay {
        pad: Pad,
    },
    /// A literal `_` and the year: `_2006` is not the padded day.
    UnderscoreYear,
    LongYear,
    ShortYear,
    Hour,
    Hour12 {
        width: usize,
    },
    Minute {
        width: usize,
    },
    Second {
        width: usize,
    },
    UpperHalf,
    LowerHalf,
    Fraction {
        mark: char,
        digits: usize,
        trim: bool,
    },
    ZoneName,
    /// An offset, which is zero in UTC.
    Zone(&'static str),
}

#[derive(Clone, Copy)]
enum Pad {
    None,
    Zero,
    Space,
}

/// The date part that a layout starts with, and its length in bytes.
fn chunk_at(text: &str) -> Option<(Chunk, usize)> {
    const ZONES: [(&str, &str); 10] = [
        ("-070000", "+000000"),
        ("-07:00:00", "+00:00:00"),
        ("-0700", "+0000"),
        ("-07:00", "+00:00"),
        ("-07", "+00"),
        ("Z070000", "Z"),
        ("Z07:00:00", "Z"),
        ("Z0700", "Z"),
        ("Z07:00", "Z"),
        ("Z07", "Z"),
    ];
    const WORDS: [(&str, Chunk); 24] = [
        ("January", Chunk::LongMonth),
        ("Monday", Chunk::LongWeekday),
        ("MST", Chunk::ZoneName),
        ("002", Chunk::YearDay { pad: Pad::Zero }),
        ("01", Chunk::Month { width: 2 }),
        ("02", Chunk::Day { pad: Pad::Zero }),
        ("03", Chunk::Hour12 { width: 2 }),
        ("04", Chunk::Minute { width: 2 }),
        ("05", Chunk::Second { width: 2 }),
        ("06", Chunk::ShortYear),
        ("15", Chunk::Hour),
        ("1", Chunk::Month { width: 1 }),
        ("2006", Chunk::LongYear),
        ("2", Chunk::Day { pad: Pad::None }),
        ("_2006", Chunk::UnderscoreYear),
        ("__2", Chunk::YearDay { pad: Pad::Space }),
        ("_2", Chunk::Day { pad: Pad::Space }),
        ("3", Chunk::Hour12 { width: 1 }),
        ("4", Chunk::Minute { width: 1 }),
        ("5", Chunk::Second { width: 1 }),
        ("PM", Chunk::UpperHalf),
        ("pm", Chunk::LowerHalf),
        ("Jan", Chunk::ShortMonth),
        ("Mon", Chunk::ShortWeekday),
    ];
    for (word, chunk) in WORDS {
        let Some(rest) = text.strip_prefix(word) else { continue };
        // "Janet" and "Month" are words, not dates.
        let short_name = matches!(chunk, Chunk::ShortMonth | Chunk::ShortWeekday);
        if short_name && rest.starts_with(|c: char| c.is_ascii_lowercase()) {
            continue;
        }
        return Some((chunk, word.len()));
    }
    for (word, shown) in ZONES {
        if text.starts_with(word) {
            return Some((Chunk::Zone(shown), word.len()));
        }
    }
    let mark = text.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = text[1..].chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let digits = text[1..].chars().take_while(|c| *c == digit).count();
    if text[1 + digits..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some((Chunk::Fraction { mark, digits, trim: digit == '9' }, 1 + digits))
}

impl Chunk {
    fn write(self, t: DateTime, out: &mut String) {
        let month = MONTHS[usize::from(t.month().unsigned_abs() - 1) % 12];
        let weekday = WEEKDAYS[usize::from(t.weekday().to_sunday_zero_offset().unsigned_abs()) % 7];
        let hour12 = match t.hour() % 12 {
            0 => 12,
            hour => hour,
        };
        // Writing into a String cannot fail.
        let _ = match self {
            Self::LongMonth => out.write_str(month),
            Self::ShortMonth => out.write_str(&month[..3]),
            Self::Month { width } => write!(out, "{:0width$}", t.month()),
            Self::LongWeekday => out.write_str(weekday),
            Self::ShortWeekday => out.write_str(&weekday[..3]),
            Self::Day { pad: Pad::None } => write!(out, "{}", t.day()),
            Self::Day { pad: Pad::Zero } => write!(out, "{:02}", t.day()),
            Self::Day { pad: Pad::Space } => write!(out, "{:2}", t.day()),
            Self::YearDay { pad: Pad::Space } => write!(out, "{:3}", t.day_of_year()),
            Self::YearDay { .. } => write!(out, "{:03}", t.day_of_year()),
            Self::UnderscoreYear => write!(out, "_{:04}", t.year()),
            Self::LongYear => write!(out, "{:04}", t.year()),
            Self::ShortYear => write!(out, "{:02}", t.year().unsigned_abs() % 100),
            Self::Hour => write!(out, "{:02}", t.hour()),
            Self::Hour12 { width } => write!(out, "{hour12:0width$}"),
            Self::Minute { width } => write!(out, "{:0width$}", t.minute()),
            Self::Second { width } => write!(out, "{:0width$}", t.second()),
            Self::UpperHalf => out.write_str(if t.hour() < 12 { "AM" } else { "PM" }),
            Self::LowerHalf => out.write_str(if t.hour() < 12 { "am" } else { "pm" }),
            Self::Fraction { mark, digits, trim } => {
                let mut fraction = format!("{:09}", t.subsec_nanosecond());
                // Beyond nanoseconds Go writes zeros; a layout cannot ask for more than its own length.
                while fraction.len() < digits {
                    fraction.push('0');
                }
                fraction.truncate(digits);
                if trim {
                    fraction.truncate(fraction.trim_end_matches('0').len());
                }
                if !fraction.is_empty() {
                    out.push(mark);
                }
                out.write_str(&fraction)
            }
            Self::ZoneName => out.write_str("UTC"),
            Self::Zone(shown) => out.write_str(shown),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant() -> Timestamp {
        "2024-03-05T14:07:09.012345678Z".parse().unwrap()
    }

    /// Expected texts come from Go's own `time.Format`.
    #[test]
    fn layouts() {
        for (layout, expected) in [
            (RFC3339, "2024-03-05T14:07:09Z"),
            ("Mon Jan _2 15:04:05 MST 2006", "Tue Mar  5 14:07:09 UTC 2024"),
            ("Monday, 02-January-06 3:4:5pm PM 03", "Tuesday, 05-March-24 2:7:9pm PM 02"),
            ("__2 002 2 1 _2006", " 65 065 5 3 _2024"),
            ("05.000 05,000000 .999 .99 .9 .0009", "09.012 09,012345 .012 .01  .0009"),
            ("MST -0700 -07:00 -07 Z0700 Z07:00 -070000", "UTC +0000 +00:00 +00 Z Z +000000"),
            ("xyz Janet Month é", "xyz Janet Month é"),
            ("", ""),
        ] {
            assert_eq!(format_layout(instant(), layout), expected, "{layout}");
        }
    }

    #[test]
    fn strftime_formats() {
        for (format, expected) in [
            ("%Y-%m-%d %H:%M:%S%L", "2024-03-05 14:07:09.012"),
            ("%a %A %b %B %y %I %p", "Tue Tuesday Mar March 24 02 PM"),
            ("%Z %z %% %Q %", "UTC +0000 % %Q %"),
            ("é%é%%d", "é%é%d"),
        ] {
            assert_eq!(strftime(instant(), format), expected, "{format}");
        }
    }
}
