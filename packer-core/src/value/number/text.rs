//! Numbers to and from decimal text.

use std::cmp::Ordering;

use num_bigint::BigUint;

use super::{FULL, Float, Number, Repr, WORD, div_floats, sign_of};

impl Number {
    /// The number as text: `verb` is `e`, `f` or `g` (or in upper case) as in C; without a precision the
    /// shortest digits that read back as the same number are used. Infinity is `+Inf` or `-Inf`.
    pub fn format(&self, verb: char, precision: Option<usize>) -> String {
        let Some(float) = self.float() else {
            return if self.signum() < 0 { "-Inf".to_owned() } else { "+Inf".to_owned() };
        };
        let mut decimal = match precision {
            None => shortest(&float),
            Some(_) => exact(&float),
        };
        if let Some(precision) = precision {
            // Digits to keep, counted from the first digit that is not zero.
            let keep = match verb {
                'e' | 'E' => precision as i64 + 1,
                'f' | 'F' => decimal.point + precision as i64,
                _ => precision.max(1) as i64,
            };
            decimal.round(keep);
        }
        let sign = if float.negative { "-" } else { "" };
        let body = match verb {
            'e' | 'E' => decimal.exponential(precision.unwrap_or(decimal.fraction_of_first()), verb),
            'f' | 'F' => decimal.plain(precision.unwrap_or(decimal.fraction())),
            _ => decimal.general(precision, verb),
        };
        format!("{sign}{body}")
    }
}

/// A double as `%g` writes it: the shortest digits that read back, `+Inf` or `-Inf`.
pub(in crate::value) fn format_double(value: f64) -> String {
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value.is_infinite() {
        return format!("{}Inf", if sign.is_empty() { "+" } else { sign });
    }
    format!("{sign}{}", Decimal::of_f64(value).general(None, 'g'))
}

/// `0.d₁d₂d₃… × 10^point`, digits as ASCII, without zeros at either end; zero has no digits.
struct Decimal {
    digits: Vec<u8>,
    point: i64,
}

impl Decimal {
    fn new(digits: &[u8], point: i64) -> Self {
        let leading = digits.iter().take_while(|d| **d == b'0').count();
        let end = digits.iter().rposition(|d| *d != b'0').map_or(leading, |i| i + 1);
        let digits = digits.get(leading..end).unwrap_or_default().to_vec();
        let point = if digits.is_empty() { 0 } else { point - leading as i64 };
        Self { digits, point }
    }

    /// The shortest digits that read back as the same double, which is finite.
    fn of_f64(value: f64) -> Self {
        // `{:e}` prints `d.ddde-7`.
        let text = format!("{:e}", value.abs());
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
        Self::new(&digits, exponent.parse::<i64>().unwrap_or(0) + 1)
    }

    /// Keeps the first `keep` digits, rounding half to even.
    fn round(&mut self, keep: i64) {
        let Ok(keep) = usize::try_from(keep) else {
            self.digits.clear();
            self.point = 0;
            return;
        };
        let Some(next) = self.digits.get(keep) else { return };
        let odd = keep > 0 && self.digits.get(keep - 1).is_some_and(|d| d % 2 == 1);
        let up = match next.cmp(&b'5') {
            Ordering::Less => false,
            Ordering::Equal => odd || self.digits.len() > keep + 1,
            Ordering::Greater => true,
        };
        self.digits.truncate(keep);
        if up {
            while self.digits.last() == Some(&b'9') {
                self.digits.pop();
            }
            match self.digits.last_mut() {
                Some(d) => *d += 1,
                None => {
                    self.digits.push(b'1');
                    self.point += 1;
                }
            }
        }
        *self = Self::new(&self.digits, self.point);
    }

    fn digit(&self, index: i64) -> char {
        usize::try_from(index).ok().and_then(|i| self.digits.get(i)).map_or('0', |d| *d as char)
    }

    /// Digits behind the point in the plain form.
    fn fraction(&self) -> usize {
        usize::try_from(self.digits.len() as i64 - self.point).unwrap_or(0)
    }

    /// Digits behind the first one.
    fn fraction_of_first(&self) -> usize {
        self.digits.len().saturating_sub(1)
    }

    fn plain(&self, fraction: usize) -> String {
        let mut out = String::new();
        for i in 0..self.point.max(0) {
            out.push(self.digit(i));
        }
        if self.point <= 0 {
            out.push('0');
        }
        if fraction > 0 {
            out.push('.');
            for i in 0..fraction as i64 {
                out.push(self.digit(self.point + i));
            }
        }
        out
    }

    fn exponential(&self, fraction: usize, verb: char) -> String {
        let mut out = String::new();
        out.push(self.digit(0));
        if fraction > 0 {
            out.push('.');
            for i in 1..=fraction as i64 {
                out.push(self.digit(i));
            }
        }
        let exponent = if self.digits.is_empty() { 0 } else { self.point - 1 };
        out.push(if verb.is_ascii_uppercase() { 'E' } else { 'e' });
        out.push(if exponent < 0 { '-' } else { '+' });
        out.push_str(&format!("{:02}", exponent.unsigned_abs()));
        out
    }

    /// `%g`: exponential where the exponent is below -4 or not below the precision; 6 where none is asked.
    fn general(&self, precision: Option<usize>, verb: char) -> String {
        let length = self.digits.len() as i64;
        let threshold = match precision {
            None => 6,
            Some(p) if p as i64 > length && length >= self.point => length,
            Some(p) => p.max(1) as i64,
        };
        // Zero counts as a number with exponent 0.
        let exponent = if self.digits.is_empty() { 0 } else { self.point - 1 };
        if exponent < -4 || exponent >= threshold.max(1) {
            let verb = if verb.is_ascii_uppercase() { 'E' } else { 'e' };
            return self.exponential(self.fraction_of_first(), verb);
        }
        self.plain(self.fraction())
    }
}

/// All digits of the number.
fn exact(f: &Float) -> Decimal {
    let (scaled, fraction) = scale(&f.mantissa, f.exponent);
    let digits = scaled.to_string().into_bytes();
    let point = digits.len() as i64 - fraction;
    Decimal::new(&digits, point)
}

/// `mantissa × 2^exponent` as `integer / 10^fraction`.
fn scale(mantissa: &BigUint, exponent: i64) -> (BigUint, i64) {
    if exponent >= 0 {
        return (mantissa << exponent.unsigned_abs(), 0);
    }
    // The exponent is bounded (see MAX_EXPONENT), so it fits.
    let places = u32::try_from(exponent.unsigned_abs()).unwrap_or(u32::MAX);
    (mantissa * BigUint::from(5u32).pow(places), i64::from(places))
}

/// The fewest digits that no other number of this precision is nearer to.
fn shortest(f: &Float) -> Decimal {
    if f.mantissa.bits() == 0 {
        return exact(f);
    }
    // One bit more than the precision, so that the neighbours' midpoints are one unit away.
    let shift = i64::from(f.precision) + 1 - f.mantissa.bits() as i64;
    let (mantissa, exponent) = (&f.mantissa << shift.unsigned_abs(), f.exponent - shift);
    let inclusive = !mantissa.bit(1);
    let (middle, places) = scale(&mantissa, exponent);
    let (lower, _) = scale(&(&mantissa - 1u32), exponent);
    let (upper, _) = scale(&(&mantissa + 1u32), exponent);
    let (lower, middle, upper) = (lower.to_string(), middle.to_string(), upper.to_string());
    let width = upper.len().max(middle.len());
    // Zeros at the end count as absent: the length tells whether a bound has digits left.
    let padded = |s: &str| {
        let mut digits = vec![b'0'; width - s.len()];
        digits.extend(s.bytes());
        digits
    };
    let used = |digits: &[u8]| digits.iter().rposition(|d| *d != b'0').map_or(0, |i| i + 1);
    let (lower, middle, upper) = (padded(&lower), padded(&middle), padded(&upper));
    let (lower_used, upper_used) = (used(&lower), used(&upper));
    let point = width as i64 - places;
    let mut above = false;
    for (i, ((l, m), u)) in lower.iter().zip(&middle).zip(&upper).enumerate() {
        let down = l != m || inclusive && i + 1 == lower_used;
        let up = above || m != u && (inclusive || m + 1 < *u || i + 1 < upper_used);
        above |= up;
        if !down && !up {
            continue;
        }
        let first = middle.iter().take_while(|d| **d == b'0').count() as i64;
        let mut decimal = Decimal::new(&middle, point);
        let keep = i as i64 + 1 - first;
        match (down, up) {
            (true, true) => decimal.round(keep),
            (true, false) => decimal.digits.truncate(usize::try_from(keep).unwrap_or(0)),
            _ => decimal.round_up(keep),
        }
        return Decimal::new(&decimal.digits, decimal.point);
    }
    Decimal::new(&middle, point)
}

impl Decimal {
    /// Keeps `keep` digits and adds one to the last.
    fn round_up(&mut self, keep: i64) {
        let keep = usize::try_from(keep).unwrap_or(0);
        if keep >= self.digits.len() {
            return;
        }
        self.digits.truncate(keep);
        while self.digits.last() == Some(&b'9') {
            self.digits.pop();
        }
        match self.digits.last_mut() {
            Some(d) => *d += 1,
            None => {
                self.digits.push(b'1');
                self.point += 1;
            }
        }
    }
}

/// Reads `[+-]digits[.digits][(e|p)[+-]digits]` or `[+-]Inf`; `None` for anything else.
pub(super) fn parse(text: &str) -> Option<Number> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if matches!(rest, "Inf" | "inf") {
        return Some(Number(Repr::Infinite(sign_of(negative))));
    }
    if !negative
        && rest.len() <= 18
        && rest.bytes().all(|b| b.is_ascii_digit())
        && let Ok(small) = rest.parse::<i64>()
    {
        return Some(Number(Repr::Int(small, FULL)));
    }
    let (mantissa, exponent, binary) = match rest.find(['e', 'E', 'p', 'P']) {
        None => (rest, 0, false),
        Some(at) => {
            let (mantissa, tail) = rest.split_at(at);
            (mantissa, parse_exponent(tail.get(1..)?)?, tail.starts_with(['p', 'P']))
        }
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let trimmed = digits.trim_start_matches('0');
    // A number longer than any that could be printed is out of range, whatever its value; zero is zero.
    if trimmed.is_empty() {
        return Some(Number::rounded(negative, BigUint::ZERO, 0, FULL));
    }
    let tens = (if binary { 0 } else { exponent }).saturating_sub_unsigned(fraction.len() as u64);
    let twos = if binary { exponent } else { 0 };
    // Beyond this cty's reader takes no exponent for one, be the number that is meant zero or infinite to it or not.
    if i32::try_from(tens.saturating_add(twos).saturating_add(bit_length(trimmed))).is_err() {
        return None;
    }
    let magnitude = trimmed.len() as i64 + tens;
    if magnitude > super::MAX_EXPONENT || (binary && exponent > super::MAX_EXPONENT) {
        return Some(Number(Repr::Infinite(sign_of(negative))));
    }
    if magnitude < -super::MAX_EXPONENT || (binary && exponent < -super::MAX_EXPONENT) {
        return Some(Number::rounded(negative, BigUint::ZERO, 0, FULL));
    }
    // The digits are rounded first and scaled by a power of five that carries 64 bits more, as cty's reader
    // does; so the last bit is the same one.
    let (value, dropped) = read_digits(trimmed)?;
    let tens = tens + dropped;
    let value = Number::rounded(negative, value, tens + twos, FULL);
    if tens == 0 {
        return Some(value);
    }
    let value = value.float()?;
    let power = power_of_five(tens.unsigned_abs(), FULL + WORD).float()?;
    Some(if tens < 0 { div_floats(&value, &power, FULL) } else { multiply(&value, &power, FULL) })
}

fn multiply(a: &Float, b: &Float, precision: u32) -> Number {
    let negative = a.negative != b.negative;
    Number::rounded(negative, &a.mantissa * &b.mantissa, a.exponent + b.exponent, precision)
}

/// How many bits a whole number of so many digits has; of very long ones about so many.
fn bit_length(digits: &str) -> i64 {
    const EXACT: usize = 64;
    let (kept, rest) = digits.split_at_checked(EXACT).unwrap_or((digits, ""));
    let bits = BigUint::parse_bytes(kept.as_bytes(), 10).map_or(0, |value| value.bits());
    bits as i64 + (rest.len() as f64 * std::f64::consts::LOG2_10) as i64
}

/// Decimal digits (and nothing else) as a number times a power of ten. Far beyond what can matter, digits only
/// count as "a little more", so that a text of any length is read in linear time.
fn read_digits(digits: &str) -> Option<(BigUint, i64)> {
    const ENOUGH: usize = 4096;
    let (kept, rest) = digits.split_at_checked(ENOUGH).unwrap_or((digits, ""));
    let value = BigUint::parse_bytes(kept.as_bytes(), 10)?;
    if rest.bytes().all(|b| b == b'0') {
        return Some((value, rest.len() as i64));
    }
    Some((value * 10u32 + 1u32, rest.len() as i64 - 1))
}

/// The exponent; `None` too where it does not fit in 64 bits.
fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// `5^n`, by squaring; exact up to 5^27 and then rounded to `precision` at each step.
fn power_of_five(n: u64, precision: u32) -> Number {
    const EXACT: u64 = 27;
    let exact = n.min(EXACT);
    let mut power = Number::rounded(false, BigUint::from(5u32).pow(exact as u32), 0, precision);
    let mut square = Number::rounded(false, BigUint::from(5u32), 0, precision);
    let mut n = n - exact;
    while n > 0 {
        let (Some(p), Some(s)) = (power.float(), square.float()) else { break };
        if n & 1 == 1 {
            power = multiply(&p, &s, precision);
        }
        square = multiply(&s, &s, precision);
        n >>= 1;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(text: &str) -> Number {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn text_round_trips() {
        for text in [
            "0",
            "1",
            "-1",
            "1.5",
            "0.1",
            "123456789012345678901234567890",
            "1000000000000000000000",
            "-0.25",
            "0.1000000000000000000000000000000000000001",
            "99999999999999999999.9",
        ] {
            assert_eq!(n(text).to_string(), text);
        }
        for (text, want) in [
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("1E-2", "0.01"),
            ("+5", "5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("0x10", "error"),
            ("1_0", "error"),
            ("", "error"),
            ("-", "error"),
            ("1e", "error"),
            (".", "error"),
            ("1.2.3", "error"),
            (" 1", "error"),
            ("é", "error"),
            ("-Inf", "-Inf"),
            ("inf", "+Inf"),
            ("1p3", "8"),
            ("1e99999999999999999999", "error"),
            ("1e-99999999999999999999", "error"),
            ("0e99999999999999999999", "error"),
            ("0e9223372036854775807", "0"),
            ("1e2147483646", "+Inf"),
            ("1e2147483647", "error"),
            ("3e2147483645", "+Inf"),
            ("4e2147483645", "error"),
            ("0.0004e2147483648", "+Inf"),
            ("0.0004e2147483649", "error"),
            ("1e-2147483649", "0"),
            ("1e-2147483650", "error"),
            ("1p2147483646", "+Inf"),
            ("1.5p2147483647", "error"),
            ("-0", "-0"),
        ] {
            let got = text.parse::<Number>().map_or("error".to_owned(), |n| n.to_string());
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn formats() {
        for (text, verb, precision, want) in [
            ("1000000", 'g', None, "1e+06"),
            ("123456", 'g', None, "123456"),
            ("0.0001", 'g', None, "0.0001"),
            ("0.00001", 'g', None, "1e-05"),
            ("0", 'g', None, "0"),
            ("100000", 'g', Some(3), "1e+05"),
            ("100", 'g', Some(3), "100"),
            ("2.25", 'f', Some(1), "2.2"),
            ("2.55", 'f', Some(1), "2.5"),
            ("9.99", 'f', Some(1), "10.0"),
            ("0.05", 'f', Some(1), "0.1"),
            ("0.04", 'f', Some(1), "0.0"),
            ("0.5", 'f', Some(0), "0"),
            ("1.5", 'f', Some(0), "2"),
            ("0.006", 'f', Some(1), "0.0"),
            ("1234.5", 'e', None, "1.2345e+03"),
            ("1234.5", 'E', Some(2), "1.23E+03"),
            ("0", 'e', Some(2), "0.00e+00"),
            ("Inf", 'f', Some(2), "+Inf"),
        ] {
            assert_eq!(n(text).format(verb, precision), want, "{text} %{verb} {precision:?}");
        }
    }
}
