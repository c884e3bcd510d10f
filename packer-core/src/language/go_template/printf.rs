//! Go's formatted printing: `print`, `println`, `printf` and the default form of values.

use std::fmt::Write;

use super::data::Data;

/// Widths and precisions from the arguments above this are refused, as in Go.
const MAX_NUMBER: u64 = 1_000_000;

/// Those in the format itself may have one more digit there.
const MAX_DIGITS: usize = 10_000_009;

/// The longest text that one call may make.
const MAX_LENGTH: usize = 64 << 20;

/// A value in its default form (`%v`).
pub(super) fn print(value: &Data) -> String {
    let mut out = String::new();
    Printer { out: &mut out, flags: Flags::default() }.value(value, 'v');
    out
}

/// The default forms of all, with spaces between neighbours that are both no text.
pub(super) fn sprint(arguments: &[Data]) -> String {
    let mut out = String::new();
    let mut after_text = true;
    for (i, argument) in arguments.iter().enumerate() {
        let text = matches!(argument, Data::String(_));
        if i > 0 && !text && !after_text {
            out.push(' ');
        }
        out.push_str(&print(argument));
        after_text = text;
    }
    out
}

/// The default forms of all, with spaces between them and a line end.
pub(super) fn sprintln(arguments: &[Data]) -> String {
    let mut out = arguments.iter().map(print).collect::<Vec<_>>().join(" ");
    out.push('\n');
    out
}

/// Text in double quotes with Go's escapes.
pub(super) fn quote(text: &str) -> String {
    quote_with(text, '"', false)
}

/// Whether a character shows as itself in quoted text.
pub(super) fn is_print(c: char) -> bool {
    if c == ' ' {
        return true;
    }
    let private = matches!(c as u32, 0xE000..=0xF8FF | 0xF_0000..=0x10_FFFF);
    // What Rust's own escaping would escape is unassigned, a format character, a space or a mark; marks print.
    !c.is_control()
        && !c.is_whitespace()
        && !private
        && (!c.escape_debug().to_string().starts_with("\\u") || is_mark(c))
        || matches!(c, '"' | '\'' | '\\')
}

/// Marks that extend the character before them; Rust escapes these as well.
fn is_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
}

fn quote_with(text: &str, mark: char, ascii: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(mark);
    for c in text.chars() {
        let _ = match c {
            c if c == mark || c == '\\' => write!(out, "\\{c}"),
            '\x07' => write!(out, "\\a"),
            '\x08' => write!(out, "\\b"),
            '\x0c' => write!(out, "\\f"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            '\x0b' => write!(out, "\\v"),
            c if is_print(c) && (c.is_ascii() || !ascii) => write!(out, "{c}"),
            c if c < ' ' || c == '\x7f' => write!(out, "\\x{:02x}", c as u32),
            c if (c as u32) < 0x10000 => write!(out, "\\u{:04x}", c as u32),
            c => write!(out, "\\U{:08x}", c as u32),
        };
    }
    out.push(mark);
    out
}

/// The text of a format and its arguments. Mistakes show in the text, as in Go (`%!d(string=x)`).
///
/// # Errors
/// Where the text gets too long.
pub(crate) fn sprintf(format: &str, arguments: &[Data]) -> Result<String, String> {
    let mut out = String::with_capacity(format.len() + 16);
    let mut next = 0;
    let mut reordered_any = false;
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        out.push_str(&rest[..percent]);
        rest = &rest[percent + 1..];
        if out.len() > MAX_LENGTH {
            return Err(format!("the text is longer than {} MiB", MAX_LENGTH >> 20));
        }
        let mut spec = Spec { rest, next, arguments, good: true, reordered: false, numbered: false };
        let mut flags = spec.flags();
        let mut broken = "";
        spec.argument_number();
        if spec.take('*') {
            match spec.star() {
                Some(width) => {
                    flags.width = Some(width.unsigned_abs() as usize);
                    if width < 0 {
                        flags.minus = true;
                        flags.zero = false;
                    }
                }
                None => broken = "%!(BADWIDTH)",
            }
        } else {
            flags.width = spec.number();
            if flags.width.is_some() && spec.reordered {
                spec.good = false;
            }
        }
        out.push_str(broken);
        if spec.take('.') {
            if spec.reordered {
                spec.good = false;
            }
            spec.argument_number();
            if spec.take('*') {
                match spec.star() {
                    Some(precision) if precision >= 0 => flags.precision = Some(precision as usize),
                    Some(_) => out.push_str("%!(BADPREC)"),
                    None => out.push_str("%!(BADPREC)"),
                }
            } else {
                flags.precision = Some(spec.number().unwrap_or(0));
            }
        }
        if !spec.reordered {
            spec.argument_number();
        }
        reordered_any |= spec.numbered;
        let Some(verb) = spec.rest.chars().next() else {
            out.push_str("%!(NOVERB)");
            next = spec.next;
            rest = "";
            break;
        };
        rest = &spec.rest[verb.len_utf8()..];
        next = spec.next;
        let _ = match (verb, arguments.get(next)) {
            ('%', _) => write!(out, "%"),
            (verb, _) if !spec.good => write!(out, "%!{verb}(BADINDEX)"),
            (verb, None) => write!(out, "%!{verb}(MISSING)"),
            (verb, Some(argument)) => {
                next += 1;
                Printer { out: &mut out, flags }.argument(argument, verb);
                Ok(())
            }
        };
    }
    out.push_str(rest);
    if !reordered_any && next < arguments.len() {
        out.push_str("%!(EXTRA ");
        for (i, argument) in arguments[next..].iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            match argument {
                Data::Nil => out.push_str("<nil>"),
                argument => {
                    let _ = write!(out, "{}={}", argument.type_name(), print(argument));
                }
            }
        }
        out.push(')');
    }
    if out.len() > MAX_LENGTH {
        return Err(format!("the text is longer than {} MiB", MAX_LENGTH >> 20));
    }
    Ok(out)
}

/// What stands between the percent sign and the verb, while it is read.
struct Spec<'a> {
    rest: &'a str,
    /// The argument that is used next.
    next: usize,
    arguments: &'a [Data],
    /// Argument numbers were fine so far.
    good: bool,
    /// The last thing read was an argument number.
    reordered: bool,
    /// There was one at all.
    numbered: bool,
}

impl Spec<'_> {
    fn take(&mut self, c: char) -> bool {
        let found = self.rest.starts_with(c);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn flags(&mut self) -> Flags {
        let mut flags = Flags::default();
        loop {
            match self.rest.chars().next() {
                Some('#') => flags.sharp = true,
                Some('0') => flags.zero = true,
                Some('+') => flags.plus = true,
                Some('-') => flags.minus = true,
                Some(' ') => flags.space = true,
                _ => return flags,
            }
            self.rest = &self.rest[1..];
        }
    }

    fn number(&mut self) -> Option<usize> {
        let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        let number = self.rest[..digits].parse().ok().filter(|n| *n <= MAX_DIGITS);
        // Behind a number that is too large Go reads nothing more.
        self.rest = if number.is_some() { &self.rest[digits..] } else { "" };
        number
    }

    /// `[3]`: the next argument is the third.
    fn argument_number(&mut self) {
        self.reordered = false;
        let Some(inner) = self.rest.strip_prefix('[') else { return };
        self.reordered = true;
        self.numbered = true;
        let Some((digits, rest)) = inner.split_once(']') else {
            self.good = false;
            self.rest = inner;
            return;
        };
        self.rest = rest;
        let number = digits.parse::<usize>().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
        match number.and_then(|n| n.checked_sub(1)).filter(|n| *n < self.arguments.len()) {
            Some(n) => self.next = n,
            None => self.good = false,
        }
    }

    /// A width or precision from the arguments; `None` where the argument is no such number.
    fn star(&mut self) -> Option<i64> {
        let value = self.arguments.get(self.next);
        if value.is_some() {
            self.next += 1;
        }
        self.reordered = false;
        value.and_then(Data::whole).filter(|n| n.unsigned_abs() <= MAX_NUMBER)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%#v`.
    go_syntax: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

struct Printer<'a> {
    out: &'a mut String,
    flags: Flags,
}

impl Printer<'_> {
    /// An argument of printf itself, where `%T` and `%v` of nothing mean something of their own.
    fn argument(&mut self, value: &Data, verb: char) {
        match (verb, value) {
            ('T', value) => self.text(value.type_name(), 's'),
            ('v', Data::Nil) => self.pad("<nil>"),
            (_, Data::Nil) | ('w', Data::List(_) | Data::Map(_)) => self.bad(value, verb),
            ('v', _) => {
                self.flags.go_syntax = std::mem::take(&mut self.flags.sharp);
                self.flags.plus = false;
                self.value(value, verb);
            }
            _ => self.value(value, verb),
        }
    }

    fn value(&mut self, value: &Data, verb: char) {
        let go_syntax = self.flags.go_syntax;
        if self.out.len() > MAX_LENGTH {
            return;
        }
        match value {
            Data::Nil if go_syntax => self.out.push_str("interface {}(nil)"),
            Data::Nil => self.out.push_str("<nil>"),
            Data::Bool(b) if matches!(verb, 't' | 'v') => self.pad(if *b { "true" } else { "false" }),
            Data::Int(n) => {
                if !self.int(*n, verb) {
                    self.bad(value, verb);
                }
            }
            Data::Byte(n) if go_syntax && verb == 'v' => self.pad(&format!("{n:#x}")),
            Data::Byte(n) if !self.int((*n).into(), verb) => self.bad(value, verb),
            Data::Byte(_) => {}
            Data::Float(n) => self.float(*n, verb),
            Data::Complex(real, imaginary)
                if matches!(verb, 'v' | 'b' | 'g' | 'G' | 'x' | 'X' | 'f' | 'F' | 'e' | 'E') =>
            {
                self.out.push('(');
                self.float(*real, verb);
                let plus = std::mem::replace(&mut self.flags.plus, true);
                self.float(*imaginary, verb);
                self.flags.plus = plus;
                self.out.push_str("i)");
            }
            Data::String(text) => self.text(text, if go_syntax { 'q' } else { verb }),
            Data::List(items) => {
                let (open, between, close) =
                    if go_syntax { ("[]interface {}{", ", ", "}") } else { ("[", " ", "]") };
                self.out.push_str(open);
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        self.out.push_str(between);
                    }
                    self.value(item, verb);
                }
                self.out.push_str(close);
            }
            Data::Map(entries) => {
                let (open, between, close) =
                    if go_syntax { ("map[string]interface {}{", ", ", "}") } else { ("map[", " ", "]") };
                self.out.push_str(open);
                for (i, (key, item)) in entries.iter().enumerate() {
                    if i > 0 {
                        self.out.push_str(between);
                    }
                    self.text(key, if go_syntax { 'q' } else { verb });
                    self.out.push(':');
                    self.value(item, verb);
                }
                self.out.push_str(close);
            }
            Data::Bool(_) | Data::Complex(..) => self.bad(value, verb),
        }
    }

    /// The note that a verb does not fit a value.
    fn bad(&mut self, value: &Data, verb: char) {
        let _ = match value {
            Data::Nil => write!(self.out, "%!{verb}(<nil>)"),
            value => {
                // The value keeps width and precision.
                let mut text = String::new();
                Printer { out: &mut text, flags: self.flags }.value(value, 'v');
                write!(self.out, "%!{verb}({}={text})", value.type_name())
            }
        };
    }

    /// Writes a number, padded with spaces: its zeros are in it already.
    fn pad_number(&mut self, text: &str) {
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(text);
        self.flags.zero = zero;
    }

    /// Writes a text, padded to the width in characters.
    fn pad(&mut self, text: &str) {
        let missing = self.flags.width.unwrap_or(0).saturating_sub(text.chars().count());
        if self.flags.minus {
            self.out.push_str(text);
            self.out.extend(std::iter::repeat_n(' ', missing));
        } else {
            let fill = if self.flags.zero { '0' } else { ' ' };
            self.out.extend(std::iter::repeat_n(fill, missing));
            self.out.push_str(text);
        }
    }

    fn text(&mut self, text: &str, verb: char) {
        match verb {
            's' | 'v' => self.pad(self.cut(text)),
            'q' => {
                let text = self.cut(text);
                let raw = self.flags.sharp
                    && !text.contains('`')
                    && text.chars().all(|c| c != '\u{feff}' && (c == '\t' || !c.is_control()));
                let quoted = if raw { format!("`{text}`") } else { quote_with(text, '"', self.flags.plus) };
                self.pad(&quoted);
            }
            'x' | 'X' => {
                let bytes = text.as_bytes();
                let bytes = &bytes[..self.flags.precision.unwrap_or(usize::MAX).min(bytes.len())];
                let prefix = if verb == 'x' { "0x" } else { "0X" };
                let mut hex = String::with_capacity(bytes.len() * 2);
                for (i, b) in bytes.iter().enumerate() {
                    if self.flags.space && i > 0 {
                        hex.push(' ');
                    }
                    if self.flags.sharp && (self.flags.space || i == 0) {
                        hex.push_str(prefix);
                    }
                    let _ = if verb == 'x' { write!(hex, "{b:02x}") } else { write!(hex, "{b:02X}") };
                }
                self.pad(&hex);
            }
            verb => self.bad(&text.into(), verb),
        }
    }

    /// The part of a text that the precision lets through, in characters.
    fn cut<'t>(&self, text: &'t str) -> &'t str {
        let Some(precision) = self.flags.precision else { return text };
        text.char_indices().nth(precision).map_or(text, |(end, _)| &text[..end])
    }

    /// Writes a whole number; says whether the verb is one for it.
    fn int(&mut self, n: i64, verb: char) -> bool {
        let flags = self.flags;
        let magnitude = n.unsigned_abs();
        let (digits, prefix) = match verb {
            'v' | 'd' => (magnitude.to_string(), ""),
            'b' => (format!("{magnitude:b}"), if flags.sharp { "0b" } else { "" }),
            'o' => (format!("{magnitude:o}"), if flags.sharp { "0" } else { "" }),
            'O' => (format!("{magnitude:o}"), "0o"),
            'x' => (format!("{magnitude:x}"), if flags.sharp { "0x" } else { "" }),
            'X' => (format!("{magnitude:X}"), if flags.sharp { "0X" } else { "" }),
            'c' | 'q' => {
                let c = u32::try_from(n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
                let text = c.to_string();
                let text = if verb == 'c' { text } else { quote_with(&text, '\'', flags.plus) };
                self.pad(&text);
                return true;
            }
            'U' => {
                let digits = format!("{:04X}", n as u64);
                let zeros = "0".repeat(flags.precision.unwrap_or(0).saturating_sub(digits.len()));
                let mut text = format!("U+{zeros}{digits}");
                if flags.sharp
                    && let Some(c) = u32::try_from(n).ok().and_then(char::from_u32).filter(|c| is_print(*c))
                {
                    let _ = write!(text, " '{c}'");
                }
                self.pad_number(&text);
                return true;
            }
            _ => return false,
        };
        let sign = match (n < 0, flags.plus, flags.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        let mut digits = digits;
        let mut least = 0;
        if let Some(precision) = flags.precision {
            if precision == 0 && n == 0 {
                // Go prints nothing but the padding here.
                self.pad_number("");
                return true;
            }
            least = precision;
        } else if flags.zero && !flags.minus {
            // Zeros go between the sign and the digits; the prefix of the base comes on top.
            least = flags.width.unwrap_or(0).saturating_sub(sign.len());
        }
        if digits.len() < least {
            digits.insert_str(0, &"0".repeat(least - digits.len()));
        }
        let prefix = if prefix == "0" && digits.starts_with('0') { "" } else { prefix };
        self.pad_number(&format!("{sign}{prefix}{digits}"));
        true
    }

    fn float(&mut self, n: f64, verb: char) {
        let flags = self.flags;
        let text = match verb {
            'v' | 'g' => general(n, flags.precision, 'e'),
            'G' => general(n, flags.precision, 'E'),
            'x' => hexadecimal(n, flags.precision),
            'X' => hexadecimal(n, flags.precision).to_uppercase(),
            'b' => binary(n),
            'f' | 'F' => fixed(n, flags.precision.unwrap_or(6)),
            'e' => exponential(n, Some(flags.precision.unwrap_or(6)), 'e'),
            'E' => exponential(n, Some(flags.precision.unwrap_or(6)), 'E'),
            verb => return self.bad(&Data::Float(n), verb),
        };
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None if flags.plus => ("+", text.as_str()),
            None if flags.space => (" ", text.as_str()),
            None => ("", text.as_str()),
        };
        let mut digits = digits.to_string();
        if flags.sharp && verb != 'b' && n.is_finite() {
            digits = with_point(&digits, verb, flags.precision);
        }
        if flags.zero && !flags.minus && n.is_finite() {
            let missing = flags.width.unwrap_or(0).saturating_sub(sign.len() + digits.len());
            digits.insert_str(0, &"0".repeat(missing));
        }
        self.pad_number(&format!("{sign}{digits}"));
    }
}

/// `%#g` keeps the point and the zeros behind it.
fn with_point(digits: &str, verb: char, precision: Option<usize>) -> String {
    let exponent: &[char] = if matches!(verb, 'x' | 'X') { &['p', 'P'] } else { &['e', 'E'] };
    let (mantissa, exponent) = digits.split_at(digits.find(exponent).unwrap_or(digits.len()));
    let mut mantissa = mantissa.to_string();
    if !mantissa.contains('.') {
        mantissa.push('.');
    }
    if matches!(verb, 'v' | 'g' | 'G' | 'x') {
        let wanted = precision.unwrap_or(6).max(1);
        // Go takes the x of a hexadecimal number for a digit.
        let significant = mantissa.bytes().filter(|b| *b != b'.').skip_while(|b| *b == b'0').count();
        let significant = if significant == 0 { 1 } else { significant };
        mantissa.push_str(&"0".repeat(wanted.saturating_sub(significant)));
    }
    mantissa + exponent
}

fn special(n: f64) -> Option<&'static str> {
    match n {
        n if n.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

/// No number has more digits than this, wherever its point stands: behind them come zeros. (Rust's own formatting
/// knows no precision above 65535.)
const MAX_FRACTION: usize = 1100;

fn fixed(n: f64, precision: usize) -> String {
    if let Some(text) = special(n) {
        return text.into();
    }
    let known = precision.min(MAX_FRACTION);
    format!("{n:.known$}") + &"0".repeat(precision - known)
}

/// `1.5e+10`; without a precision as many digits as tell the number from its neighbours.
fn exponential(n: f64, precision: Option<usize>, e: char) -> String {
    if let Some(text) = special(n) {
        return text.into();
    }
    let text = match precision {
        Some(precision) => format!("{n:.*e}", precision.min(MAX_FRACTION)),
        None => format!("{n:e}"),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let zeros = "0".repeat(precision.unwrap_or(0).saturating_sub(MAX_FRACTION));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}{zeros}{e}{sign}{exponent:0>2}")
}

/// The exponential form for very large and small numbers, else the plain one.
fn general(n: f64, precision: Option<usize>, e: char) -> String {
    if let Some(text) = special(n) {
        return text.into();
    }
    let digits = precision.map(|p| (p.max(1) - 1).min(MAX_FRACTION));
    let text = exponential(n, digits, e);
    let (mantissa, exponent) = text.split_once(e).unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa = match precision {
        // Zeros at the end do not count.
        Some(_) if mantissa.contains('.') => mantissa.trim_end_matches('0').trim_end_matches('.'),
        _ => mantissa,
    };
    let significant = mantissa.bytes().filter(u8::is_ascii_digit).count() as i32;
    let limit = match precision {
        None => 6,
        Some(p) => {
            let p = p.max(1) as i32;
            if p > significant && significant > exponent { significant } else { p }
        }
    };
    if exponent < -4 || exponent >= limit {
        let (_, tail) = text.split_at(text.find(e).unwrap_or(text.len()));
        return format!("{mantissa}{tail}");
    }
    format!("{n:.*}", usize::try_from(significant - 1 - exponent).unwrap_or(0))
}

/// `0x1.8p+01`.
fn hexadecimal(n: f64, precision: Option<usize>) -> String {
    if let Some(text) = special(n) {
        return text.into();
    }
    let sign = if n.is_sign_negative() { "-" } else { "" };
    let (mut mantissa, mut exponent) = parts(n.abs());
    if mantissa != 0 {
        // The leading one stands before the point, 52 bits behind it.
        let shift = mantissa.leading_zeros() as i32 - 11;
        mantissa <<= shift.max(0);
        exponent += 52 - shift;
    } else {
        exponent = 0;
    }
    let mut digits = 13;
    if let Some(precision) = precision.filter(|p| *p < 13) {
        let dropped = 4 * (13 - precision) as u32;
        let (kept, rest, half) =
            (mantissa >> dropped, mantissa & ((1 << dropped) - 1), 1_u64 << (dropped - 1));
        let up = rest > half || (rest == half && kept & 1 == 1);
        mantissa = kept + u64::from(up);
        digits = precision;
        // Rounding may carry into a second digit before the point.
        if mantissa >> (4 * digits) > 1 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let whole = mantissa >> (4 * digits);
    let fraction = mantissa & ((1_u64 << (4 * digits)) - 1);
    let mut fraction = if digits == 0 { String::new() } else { format!("{fraction:0digits$x}") };
    match precision {
        None => fraction.truncate(fraction.trim_end_matches('0').len()),
        Some(precision) => fraction.push_str(&"0".repeat(precision.saturating_sub(fraction.len()))),
    }
    let point = if fraction.is_empty() { "" } else { "." };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}0x{whole}{point}{fraction}p{exponent_sign}{:02}", exponent.unsigned_abs())
}

/// `4503599627370496p-52`: the bits of the mantissa as a whole number.
fn binary(n: f64) -> String {
    if let Some(text) = special(n) {
        return text.into();
    }
    let sign = if n.is_sign_negative() { "-" } else { "" };
    let (mantissa, exponent) = parts(n.abs());
    format!("{sign}{mantissa}p{exponent:+}")
}

/// Mantissa and exponent: the number is `mantissa * 2^exponent`.
fn parts(n: f64) -> (u64, i32) {
    let bits = n.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32;
    let mantissa = bits & ((1 << 52) - 1);
    if exponent == 0 { (mantissa, -1074) } else { (mantissa | 1 << 52, exponent - 1075) }
}
