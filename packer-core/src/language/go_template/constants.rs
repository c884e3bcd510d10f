//! Go's constants: quoted text, characters, numbers.

use super::ast::Number;

/// The text of a constant in double quotes, quotes included; `None` where an escape is wrong. Bytes that escapes
/// make and that are no UTF-8 become U+FFFD.
pub(super) fn unquote(quoted: &str) -> Option<String> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(inner.into());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while !rest.is_empty() {
        let (unit, len) = unit(rest, '"')?;
        match unit {
            Unit::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Unit::Byte(b) => bytes.push(b),
        }
        rest = &rest[len..];
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

enum Unit {
    Char(char),
    Byte(u8),
}

/// The character or escape that a text starts with, and its length.
fn unit(text: &str, quote: char) -> Option<(Unit, usize)> {
    let mut chars = text.chars();
    let first = chars.next()?;
    if first != '\\' {
        return (first != quote).then_some((Unit::Char(first), first.len_utf8()));
    }
    let number = |from: usize, len: usize, radix: u32| {
        let digits = text.get(from..from + len)?;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, radix).ok())?
    };
    let escape = chars.next()?;
    let simple = match escape {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' => '\\',
        c if c == quote => c,
        'x' => return Some((Unit::Byte(number(2, 2, 16)? as u8), 4)),
        'u' => return Some((Unit::Char(char::from_u32(number(2, 4, 16)?)?), 6)),
        'U' => return Some((Unit::Char(char::from_u32(number(2, 8, 16)?)?), 10)),
        '0'..='7' => return Some((Unit::Byte(u8::try_from(number(1, 3, 8)?).ok()?), 4)),
        _ => return None,
    };
    Some((Unit::Char(simple), 2))
}

/// A character constant: the number of the character.
pub(super) fn character(text: &str) -> Result<Number, String> {
    let malformed = || format!("malformed character constant: {text}");
    let inner = text.strip_prefix('\'').ok_or_else(malformed)?;
    let (unit, len) = unit(inner, '\'').ok_or("invalid syntax")?;
    if &inner[len..] != "'" {
        return Err(malformed());
    }
    let code = match unit {
        Unit::Char(c) => i64::from(c as u32),
        Unit::Byte(b) => i64::from(b),
    };
    Ok(Number { int: Some(code), float: Some(code as f64), ..constant(text) })
}

/// A constant of which only the text is known.
fn constant(text: &str) -> Number {
    Number { text: text.into(), int: None, float: None, complex: None, fractional: false }
}

/// A numeric constant.
pub(super) fn number(text: &str) -> Result<Number, String> {
    if let Some(int) = integer(text) {
        return Ok(Number { int: i64::try_from(int).ok(), float: Some(int as f64), ..constant(text) });
    }
    if let Some((real, imaginary)) = text.strip_suffix('i').and_then(complex) {
        let float = (imaginary == 0.0).then_some(real);
        let complex = Some((real, imaginary));
        return Ok(Number { int: float.and_then(whole), float, complex, ..constant(text) });
    }
    let Some(float) = float(text) else {
        return Err(format!("illegal number syntax: {}", super::printf::quote(text)));
    };
    if !text.contains(['.', 'e', 'E', 'p', 'P']) {
        return Err(format!("integer overflow: {}", super::printf::quote(text)));
    }
    let hex = text.trim_start_matches(['+', '-']).starts_with(['0']) && text.contains(['x', 'X']);
    let fractional = !hex || text.contains(['p', 'P']);
    Ok(Number { int: whole(float), float: Some(float), fractional, ..constant(text) })
}

/// A float that is whole may stand where an integer is asked.
fn whole(float: f64) -> Option<i64> {
    (float.fract() == 0.0 && float.abs() < 9.2e18).then_some(float as i64)
}

/// The parts of `1.5-2` (an `i` stood behind it), or of an imaginary part alone.
fn complex(text: &str) -> Option<(f64, f64)> {
    // A sign that is not that of the text or of an exponent begins the imaginary part.
    let exponent: &[u8] = if text.contains(['x', 'X']) { b"pP" } else { b"eE" };
    let bytes = text.as_bytes();
    let sign = (1..bytes.len())
        .rev()
        .find(|i| matches!(bytes[*i], b'+' | b'-') && !exponent.contains(&bytes[i - 1]));
    let (real, imaginary) = text.split_at(sign.unwrap_or(0));
    let real = if real.is_empty() { 0.0 } else { float(real)? };
    Some((real, float(imaginary)?))
}

/// Digits with the sign and base prefix; what exceeds 64 bits is no integer.
pub(crate) fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = base(digits);
    let digits = without_underscores(digits, radix != 10)?;
    let value = i128::from(u64::from_str_radix(&digits, radix).ok().filter(|_| !digits.starts_with('+'))?);
    let value = if negative { -value } else { value };
    (value >= i128::from(i64::MIN)).then_some(value)
}

fn base(digits: &str) -> (u32, &str) {
    let mut chars = digits.chars();
    if chars.next() != Some('0') {
        return (10, digits);
    }
    match chars.next() {
        Some('x' | 'X') => (16, &digits[2..]),
        Some('o' | 'O') => (8, &digits[2..]),
        Some('b' | 'B') => (2, &digits[2..]),
        Some(_) => (8, &digits[1..]),
        None => (10, digits),
    }
}

/// Underscores may stand between digits, and before the first one behind a base prefix.
fn without_underscores(digits: &str, prefixed: bool) -> Option<String> {
    let mut before_digit = prefixed;
    let mut out = String::with_capacity(digits.len());
    let mut ends_in_underscore = false;
    for c in digits.chars() {
        if c == '_' {
            if !before_digit {
                return None;
            }
            before_digit = false;
            ends_in_underscore = true;
            continue;
        }
        let digit = c.is_ascii_alphanumeric();
        if ends_in_underscore && !digit {
            return None;
        }
        before_digit = digit;
        ends_in_underscore = false;
        out.push(c);
    }
    (!ends_in_underscore).then_some(out)
}

fn float(text: &str) -> Option<f64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => hex_float(&without_underscores(hex, true)?)?,
        None => {
            let digits = without_underscores(digits, false)?;
            let value: f64 = digits.parse().ok()?;
            value.is_finite().then_some(value)?
        }
    };
    Some(if negative { -value } else { value })
}

/// `1.8p-3`: up to 31 hexadecimal digits and a binary exponent.
fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.len() > 31 {
        return None;
    }
    let mantissa = u128::from_str_radix(&digits, 16).ok()? as f64;
    let exponent: i32 = exponent.parse().ok()?;
    let exponent = exponent.checked_sub(4 * fraction.len() as i32)?;
    // In two steps: each power alone is in range where the product is.
    let value = mantissa * 2_f64.powi(exponent / 2) * 2_f64.powi(exponent - exponent / 2);
    value.is_finite().then_some(value)
}
