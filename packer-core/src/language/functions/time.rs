//! Functions on dates and times.

use super::calendar::{Date, Moment};
use super::{Add, Function, FunctionError, FunctionResult, Param, text};
use crate::duration::GoDuration;
use crate::language::go_time;
use crate::value::{Type, Value};

pub(super) fn add(add: Add<'_>) {
    let string = Param::string;
    add(
        "formatdate",
        Function::new(["format", "time"].map(string), Type::String, |a, _| {
            let moment = parse(text(&a[1])).map_err(|e| FunctionError::argument(1, e))?;
            format_date(text(&a[0]), &moment)
                .map(|s| Value::text(&s))
                .map_err(|e| FunctionError::argument(0, e))
        }),
    );
    add(
        "legacy_isotime",
        Function::new([], Type::String, |a, cx| {
            let layout = one_at_most(a)?.unwrap_or(go_time::RFC3339);
            Ok(Value::text(&go_time::format_layout(cx.started, layout)))
        })
        .variadic(string("format")),
    );
    add(
        "legacy_strftime",
        Function::new([], Type::String, |a, cx| {
            Ok(Value::text(&match one_at_most(a)? {
                Some(format) => go_time::strftime(cx.started, format),
                None => go_time::format_layout(cx.started, go_time::RFC3339),
            }))
        })
        .variadic(string("format")),
    );
    add(
        "rfc3339_parse",
        Function::new([string("timestamp")], parts_type("unix", Type::Number), |a, _| {
            let given = text(&a[0]);
            let moment = Moment::parse_loosely(given).ok_or_else(|| {
                FunctionError::argument(0, format!("{given:?} is not a valid RFC3339 timestamp"))
            })?;
            Ok(parts(&moment, "unix", Value::from(moment.unix())))
        }),
    );
    add("timeadd", Function::new(["timestamp", "duration"].map(string), Type::String, |a, _| time_add(a)));
    add(
        "timestamp",
        Function::new([], Type::String, |_, cx| {
            Ok(Value::from(Moment::from_unix(cx.clock.now().as_second()).to_string()))
        }),
    );
    add(
        "unix_timestamp_parse",
        Function::new([Param::number("unix_timestamp")], parts_type("rfc3339", Type::String), |a, _| {
            let seconds = super::whole(a, 0).map_err(|e| FunctionError {
                message: format!(
                    "unix_timestamp must be a whole number of seconds representable as a 64-bit integer: {}",
                    e.message
                ),
                ..e
            })?;
            let moment = Moment::from_unix(seconds);
            Ok(parts(&moment, "rfc3339", Value::from(moment.to_string())))
        }),
    );
}

fn one_at_most(args: &[Value]) -> Result<Option<&str>, FunctionError> {
    match args {
        [] => Ok(None),
        [one] => Ok(Some(text(one))),
        [..] => Err(format!("too many values, 1 needed: {} were given", args.len()).into()),
    }
}

fn parse(text: &str) -> Result<Moment, String> {
    Moment::parse(text).map_err(|why| format!("not a valid RFC3339 timestamp: {why}"))
}

fn time_add(args: &[Value]) -> FunctionResult {
    let moment = parse(text(&args[0]))?;
    let duration: GoDuration = text(&args[1]).parse()?;
    Ok(Value::from(moment.plus_nanos(duration.nanos()).to_string()))
}

fn parts_type(last: &'static str, ty: Type) -> Type {
    let numbers =
        ["day", "hour", "iso_week", "iso_year", "minute", "month", "second", "weekday", "year", "year_day"];
    let texts = ["month_name", "weekday_name"];
    Type::object(
        numbers
            .map(|n| (n, Type::Number))
            .into_iter()
            .chain(texts.map(|n| (n, Type::String)))
            .chain([(last, ty)]),
    )
}

fn parts(moment: &Moment, last: &'static str, value: Value) -> Value {
    let Date { year, month, day } = moment.date;
    let (iso_year, iso_week) = moment.date.iso_week();
    Value::object([
        ("year", Value::from(year)),
        ("year_day", Value::from(moment.date.year_day())),
        ("day", Value::from(day)),
        ("month", Value::from(month)),
        ("month_name", Value::from(moment.date.month_name())),
        ("weekday", Value::from(moment.date.weekday())),
        ("weekday_name", Value::from(moment.date.weekday_name())),
        ("hour", Value::from(moment.hour)),
        ("minute", Value::from(moment.minute)),
        ("second", Value::from(moment.second)),
        ("iso_year", Value::from(iso_year)),
        ("iso_week", Value::from(iso_week)),
        (last, value),
    ])
}

/// `formatdate`: runs of one letter are verbs, text in `'…'` stands for itself, `''` for a quote.
fn format_date(format: &str, moment: &Moment) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = format;
    while let Some(c) = rest.chars().next() {
        if c == '\'' {
            rest = quoted(&rest[1..], &mut out)?;
            continue;
        }
        if !c.is_ascii_alphabetic() {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let length = rest.bytes().take_while(|b| *b == c as u8).count();
        out.push_str(&verb(c, length, moment)?);
        rest = &rest[length..];
    }
    Ok(out)
}

/// Copies text in quotes, behind the opening one, and returns what follows.
fn quoted<'t>(mut rest: &'t str, out: &mut String) -> Result<&'t str, String> {
    if let Some(after) = rest.strip_prefix('\'') {
        out.push('\'');
        return Ok(after);
    }
    loop {
        let end = rest.find('\'').ok_or("unterminated literal '")?;
        out.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(after) => {
                out.push('\'');
                rest = after;
                // A doubled quote that ends the format closes the text as well.
                if rest.is_empty() {
                    return Ok(rest);
                }
            }
            None => return Ok(rest),
        }
    }
}

fn verb(letter: char, length: usize, m: &Moment) -> Result<String, String> {
    let two = |n: u8| format!("{n:02}");
    let hour12 = match m.hour % 12 {
        0 => 12,
        h => h,
    };
    let half = if m.hour < 12 { "AM" } else { "PM" };
    let fail =
        |what: &str| Err(format!("invalid date format verb {:?}: {what}", letter.to_string().repeat(length)));
    Ok(match (letter, length) {
        ('Y', 4) => format!("{:04}", m.date.year),
        ('Y', 2) => format!("{:02}", m.date.year.rem_euclid(100)),
        ('Y', _) => return fail("year must either be \"YY\" or \"YYYY\""),
        ('M', 1) => m.date.month.to_string(),
        ('M', 2) => two(m.date.month),
        ('M', 3) => m.date.month_name().chars().take(3).collect(),
        ('M', 4) => m.date.month_name().to_owned(),
        ('M', _) => return fail("month must be \"M\", \"MM\", \"MMM\", or \"MMMM\""),
        ('D', 1) => m.date.day.to_string(),
        ('D', 2) => two(m.date.day),
        ('D', _) => return fail("day of month must either be \"D\" or \"DD\""),
        ('E', 3) => m.date.weekday_name().chars().take(3).collect(),
        ('E', 4) => m.date.weekday_name().to_owned(),
        ('E', _) => return fail("day of week must either be \"EEE\" or \"EEEE\""),
        ('h', 1) => m.hour.to_string(),
        ('h', 2) => two(m.hour),
        ('h', _) => return fail("24-hour must either be \"h\" or \"hh\""),
        ('H', 1) => hour12.to_string(),
        ('H', 2) => two(hour12),
        ('H', _) => return fail("12-hour must either be \"H\" or \"HH\""),
        ('A', 2) => half.to_owned(),
        ('a', 2) => half.to_lowercase(),
        ('A', _) => return fail("must be \"AA\""),
        ('a', _) => return fail("must be \"aa\""),
        ('m', 1) => m.minute.to_string(),
        ('m', 2) => two(m.minute),
        ('m', _) => return fail("minute must either be \"m\" or \"mm\""),
        ('s', 1) => m.second.to_string(),
        ('s', 2) => two(m.second),
        ('s', _) => return fail("second must either be \"s\" or \"ss\""),
        ('Z', 1) => m.zone_or_z(),
        ('Z', 3) if m.offset == 0 => "UTC".to_owned(),
        ('Z', 3 | 4) => m.zone().replace(':', ""),
        ('Z', 5) => m.zone(),
        ('Z', _) => return fail("timezone must be Z, ZZZ, ZZZZ or ZZZZZ"),
        _ => return Err(format!("invalid date format verb {:?}", letter.to_string().repeat(length))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_dates() {
        let m = Moment::parse("2024-03-05T00:07:08+05:30").unwrap();
        for (format, want) in [
            ("YYYY-YY-MM-M-DD-D", "2024-24-03-3-05-5"),
            ("EEEE EEE MMMM MMM", "Tuesday Tue March Mar"),
            ("hh h HH H AA aa mm ss", "00 0 12 12 AM am 07 08"),
            ("Z ZZZ ZZZZ ZZZZZ", "+05:30 +0530 +0530 +05:30"),
            ("'it''s' ''hh é", "it's '00 é"),
            ("hh'x''", "00x'"),
        ] {
            assert_eq!(format_date(format, &m).as_deref(), Ok(want), "{format}");
        }
        for format in ["YYY", "'x", "T", "ZZ", "hhh", "q"] {
            assert!(format_date(format, &m).is_err(), "{format}");
        }
    }
}
