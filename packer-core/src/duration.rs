//! Durations as templates write them: Go's form, `1h2m3.5s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration in a configuration, written `300ms`, `1.5h`, `1m30s` or `-1s`; a bare number in JSON means nanoseconds.
///
/// ```
/// use packer_core::duration::GoDuration;
/// let limit: GoDuration = "1h2m3.5s".parse()?;
/// assert_eq!(limit.to_string(), "1h2m3.5s");
/// assert_eq!(limit.to_std(), std::time::Duration::from_millis(3_723_500));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

impl GoDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From whole nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds; the longest duration where they are too many.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// As nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Whether it is shorter than nothing.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whether it is zero: most options take that for "not set".
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// As the standard library's type; a negative one is zero there.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<Duration> for GoDuration {
    /// The longest duration where it does not fit.
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl From<GoDuration> for Duration {
    fn from(duration: GoDuration) -> Self {
        duration.to_std()
    }
}

impl FromStr for GoDuration {
    type Err = String;

    /// The message is worded as Go words it.
    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("time: invalid duration {text:?}");
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
            let whole = &rest[..digits(rest)];
            rest = &rest[whole.len()..];
            let mut fraction = "";
            if let Some(after) = rest.strip_prefix('.') {
                fraction = &after[..digits(after)];
                rest = &after[fraction.len()..];
            }
            if whole.is_empty() && fraction.is_empty() {
                return Err(invalid());
            }
            let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            if name.is_empty() {
                return Err(format!("time: missing unit in duration {text:?}"));
            }
            let unit =
                unit(name).ok_or_else(|| format!("time: unknown unit {name:?} in duration {text:?}"))?;
            let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
            total = whole.checked_mul(unit).and_then(|n| total.checked_add(n)).ok_or_else(invalid)?;
            // An hour has 3.6 * 10^12 nanoseconds: digits behind the 18th are below one.
            let digits = &fraction[..fraction.len().min(18)];
            if !digits.is_empty() {
                let value: i128 = digits.parse().map_err(|_| invalid())?;
                total += value * unit / 10_i128.pow(digits.len() as u32);
            }
            // The lowest one has no counterpart above zero.
            if total > i128::from(i64::MAX) + i128::from(negative) {
                return Err(invalid());
            }
            rest = after;
        }
        let total = if negative { -total } else { total };
        i64::try_from(total).map(Self).map_err(|_| invalid())
    }
}

fn unit(name: &str) -> Option<i128> {
    Some(match name {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// As Go prints it: `1h2m3.5s`, `300ms`, `0s`.
impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}µs", decimal(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", decimal(nanos, 1_000_000)),
            _ => {
                let minutes = nanos / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                write!(f, "{}s", decimal(nanos % 60_000_000_000, 1_000_000_000))
            }
        }
    }
}

/// `value / unit` (a power of ten) as a plain decimal without zeros at its end.
fn decimal(value: u64, unit: u64) -> String {
    let width = unit.ilog10() as usize;
    let text = format!("{}.{:0width$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = GoDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"1m30s\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<GoDuration, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, nanos: i64) -> Result<GoDuration, E> {
        Ok(GoDuration(nanos))
    }

    fn visit_u64<E: de::Error>(self, nanos: u64) -> Result<GoDuration, E> {
        i64::try_from(nanos).map(GoDuration).map_err(|_| E::custom("the duration is too long"))
    }

    fn visit_f64<E: de::Error>(self, nanos: f64) -> Result<GoDuration, E> {
        // A float-to-integer cast saturates, so that no number can wrap around.
        Ok(GoDuration(nanos as i64))
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for GoDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "go-duration" })
    }
}

/// Durations in data that people and programs read: seconds, with a fraction. Written again they are the same number.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_as_go_does() {
        for (text, nanos, shown) in [
            ("0", 0, "0s"),
            ("5s", 5_000_000_000, "5s"),
            ("+5s", 5_000_000_000, "5s"),
            ("-1s", -1_000_000_000, "-1s"),
            ("1h2m3.5s", 3_723_500_000_000, "1h2m3.5s"),
            ("90m", 5_400_000_000_000, "1h30m0s"),
            (".5h", 1_800_000_000_000, "30m0s"),
            ("1.s", 1_000_000_000, "1s"),
            ("300ms", 300_000_000, "300ms"),
            ("1.5us", 1_500, "1.5µs"),
            ("2µs", 2_000, "2µs"),
            ("7ns", 7, "7ns"),
            ("0.000000001s", 1, "1ns"),
            ("-9223372036854775808ns", i64::MIN, "-2562047h47m16.854775808s"),
            ("9223372036854775807ns", i64::MAX, "2562047h47m16.854775807s"),
        ] {
            let duration: GoDuration = text.parse().unwrap();
            assert_eq!(duration.nanos(), nanos, "{text}");
            assert_eq!(duration.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong_as_go_does() {
        for (text, message) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("5", "time: missing unit in duration \"5\""),
            ("1m5", "time: missing unit in duration \"1m5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("s", "time: invalid duration \"s\""),
            (".s", "time: invalid duration \".s\""),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("-9223372036854775809ns", "time: invalid duration \"-9223372036854775809ns\""),
            (
                "99999999999999999999999999999999999999999999s",
                "time: invalid duration \"99999999999999999999999999999999999999999999s\"",
            ),
            ("é", "time: invalid duration \"é\""),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn a_number_means_nanoseconds() {
        assert_eq!(serde_json::from_str::<GoDuration>("1500").unwrap().nanos(), 1500);
        assert_eq!(serde_json::from_str::<GoDuration>("\"1.5s\"").unwrap().nanos(), 1_500_000_000);
    }
}
