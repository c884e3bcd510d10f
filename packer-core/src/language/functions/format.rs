//! `format` and `formatlist`: text by a pattern of `%` verbs.

use num_bigint::{BigInt, Sign};
use unicode_segmentation::UnicodeSegmentation;

use super::{Add, Function, FunctionError, FunctionResult, Param, fits, text};
use crate::value::{Data, Number, Type, Value, convert, write_json_string};

/// More than any text needs; a larger width is a mistake that would use up the memory.
const MAX_WIDTH: usize = 1_000_000;

pub(super) fn add(add: Add<'_>) {
    add(
        "format",
        Function::new([Param::string("format")], Type::String, |a, _| {
            format(text(&a[0]), &a[1..]).map(|s| Value::text(&s))
        })
        .variadic(Param::any("args").nullable()),
    );
    add(
        "formatlist",
        Function::new([Param::string("format")], Type::list(Type::String), |a, _| {
            format_list(text(&a[0]), &a[1..])
        })
        .variadic(Param::any("args").nullable().unknown()),
    );
}

fn format_list(pattern: &str, args: &[Value]) -> FunctionResult {
    // An unknown tuple has a length, another unknown sequence has none yet.
    let length_of = |arg: &Value| match arg.data() {
        Data::Unknown(Type::Tuple(types)) => Some(types.len()),
        Data::List(_, values) | Data::Tuple(values) => Some(values.len()),
        Data::Set(_, values) if values.len() == 1 || arg.is_wholly_known() => Some(values.len()),
        _ => None,
    };
    let lengths: Vec<Option<usize>> = args.iter().map(length_of).collect();
    let first = lengths.iter().enumerate().find_map(|(i, length)| length.map(|length| (i, length)));
    let length = first.map_or(1, |(_, length)| length);
    for (i, own) in lengths.iter().enumerate() {
        if let (Some(own), Some((first, length))) = (own, first)
            && *own != length
        {
            let message = format!(
                "argument {} has length {own}, which is inconsistent with argument {} of length {length}",
                i + 1,
                first + 1,
            );
            return Err(FunctionError::argument(i + 1, message));
        }
    }
    let sequences: Vec<Option<&[Value]>> = args.iter().map(Value::as_slice).collect();
    let open = |(arg, length): (&Value, &Option<usize>)| match arg.ty() {
        Type::List(_) | Type::Set(_) => length.is_none() && !arg.is_null(),
        Type::Tuple(_) => !arg.is_known(),
        _ => false,
    };
    if args.iter().zip(&lengths).any(open) {
        return Ok(Value::unknown(Type::list(Type::String)));
    }
    let (mut results, mut size) = (Vec::new(), 0);
    for i in 0..length {
        let row: Vec<Value> = args
            .iter()
            .zip(&sequences)
            .map(|(arg, sequence)| sequence.and_then(|s| s.get(i)).unwrap_or(arg).clone())
            .collect();
        if row.iter().all(Value::is_wholly_known) {
            let line = format(pattern, &row).map_err(|e| FunctionError {
                message: format!("error on format iteration {i}: {}", e.message),
                ..e
            })?;
            size += line.len();
            fits(size)?;
            results.push(Value::text(&line));
        } else {
            results.push(Value::unknown(Type::String));
        }
    }
    Ok(Value::list(Type::String, results))
}

fn format(pattern: &str, args: &[Value]) -> Result<String, FunctionError> {
    let mut out = String::with_capacity(pattern.len());
    let (mut next, mut used) = (0, 0);
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        let (literal, from) = rest.split_at(at);
        fits(out.len())?;
        out.push_str(literal);
        let offset = pattern.len() - from.len();
        if let Some(after) = from.strip_prefix("%%") {
            out.push('%');
            rest = after;
            continue;
        }
        let verb = Verb::parse(from, offset)?;
        let index = verb.index.unwrap_or(next + 1);
        let Some(arg) = args.get(index - 1) else {
            return Err(format!(
                "not enough arguments for {:?} at {offset}: need index {index} but have {} total",
                verb.raw,
                args.len()
            )
            .into());
        };
        next = index;
        used = used.max(index);
        verb.write(arg, &mut out).map_err(|message| match verb.is_supported() {
            true => format!("unsupported value for {:?} at {offset}: {message}", verb.raw),
            false => message,
        })?;
        rest = &from[verb.raw.len()..];
    }
    out.push_str(rest);
    if used < args.len() {
        let message = match used {
            0 => "too many arguments; no verbs in format string".to_owned(),
            _ => format!("too many arguments; only {used} used by format string"),
        };
        return Err(FunctionError::argument(used + 1, message));
    }
    Ok(out)
}

/// One `%…` of a pattern: flags, then width, precision, index of the argument, letter.
struct Verb<'p> {
    raw: &'p str,
    plus: bool,
    space: bool,
    sharp: bool,
    minus: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    index: Option<usize>,
    letter: char,
}

impl<'p> Verb<'p> {
    /// Reads the verb that `from` (the part of the pattern at `offset`) begins with.
    fn parse(from: &'p str, offset: usize) -> Result<Self, FunctionError> {
        let mut verb = Self {
            raw: from,
            plus: false,
            space: false,
            sharp: false,
            minus: false,
            zero: false,
            width: 0,
            precision: None,
            index: None,
            letter: ' ',
        };
        let mut at = 1;
        let peek = |at: usize| from.as_bytes().get(at).copied();
        let number = |at: &mut usize| -> Result<usize, FunctionError> {
            let start = *at;
            while peek(*at).is_some_and(|b| b.is_ascii_digit()) {
                *at += 1;
            }
            let digits = &from[start..*at];
            match digits.parse::<usize>() {
                Ok(n) if n <= MAX_WIDTH => Ok(n),
                _ if digits.is_empty() => Ok(0),
                _ => Err(format!("the number {digits} at offset {} is too large", offset + start).into()),
            }
        };
        loop {
            match peek(at) {
                Some(b'+') => verb.plus = true,
                Some(b' ') => verb.space = true,
                Some(b'#') => verb.sharp = true,
                Some(b'-') => verb.minus = true,
                Some(b'0') => verb.zero = true,
                _ => break,
            }
            at += 1;
        }
        verb.width = number(&mut at)?;
        if peek(at) == Some(b'.') {
            at += 1;
            verb.precision = Some(number(&mut at)?);
        }
        if peek(at) == Some(b'[') {
            let open = at;
            at += 1;
            let index = number(&mut at)?;
            // Counted from 1, without leading zeros.
            if index == 0 || peek(open + 1) == Some(b'0') || peek(at) != Some(b']') {
                return Err(format!("unrecognized argument index at offset {}", offset + open).into());
            }
            at += 1;
            verb.index = Some(index);
        }
        match from[at..].chars().next() {
            None => Err(format!("invalid format string starting at offset {}", offset + at).into()),
            Some(letter) if letter.is_alphabetic() => {
                verb.letter = letter;
                verb.raw = &from[..at + letter.len_utf8()];
                if verb.is_supported() {
                    return Ok(verb);
                }
                Err(format!("unsupported format verb {letter:?} in {:?} at offset {offset}", verb.raw).into())
            }
            Some(other) => {
                Err(format!("unrecognized format character {other:?} at offset {}", offset + at).into())
            }
        }
    }

    fn is_supported(&self) -> bool {
        "vtbdoxXeEfgGsq".contains(self.letter)
    }

    fn write(&self, arg: &Value, out: &mut String) -> Result<(), String> {
        if arg.is_null() && self.letter != 'v' {
            return Err("null value cannot be formatted".to_owned());
        }
        let to = |ty| convert(arg, &ty).map_err(|e| e.to_string());
        match self.letter {
            'v' => return self.write_any(arg, out),
            't' => {
                // Never filled up.
                out.push_str(if to(Type::Bool)?.as_bool() == Some(true) { "true" } else { "false" });
            }
            'b' | 'd' | 'o' | 'x' | 'X' => {
                let number = to(Type::Number)?;
                let whole = number.as_number().and_then(Number::to_bigint).ok_or("an integer is required")?;
                self.write_integer(&whole, out);
            }
            'e' | 'E' | 'f' | 'g' | 'G' => {
                if let Some(number) = to(Type::Number)?.as_number() {
                    self.write_float(number, out);
                }
            }
            's' => self.pad_text(self.cut(text(&to(Type::String)?)), out),
            // Only `q` is left of the supported verbs.
            _ => {
                let mut quoted = String::new();
                write_json_string(self.cut(text(&to(Type::String)?)), &mut quoted);
                self.pad_text(&quoted, out);
            }
        }
        Ok(())
    }

    /// `%v` and `%#v`: of the flags only those of the width count.
    fn write_any(&self, arg: &Value, out: &mut String) -> Result<(), String> {
        match arg.data() {
            Data::String(s) if !self.sharp => self.pad_text(s, out),
            Data::Number(n) if !self.sharp => self.pad_text(&n.format('g', None), out),
            _ => self.pad_text(&arg.to_json_string().map_err(|e| e.to_string())?, out),
        }
        Ok(())
    }

    /// As many user-perceived characters of a text as the precision says.
    fn cut<'t>(&self, text: &'t str) -> &'t str {
        let end = self.precision.and_then(|length| text.grapheme_indices(true).nth(length));
        end.map_or(text, |(end, _)| &text[..end])
    }

    /// The precision is the least number of digits.
    fn write_integer(&self, number: &BigInt, out: &mut String) {
        let radix = match self.letter {
            'b' => 2,
            'o' => 8,
            'd' => 10,
            _ => 16,
        };
        let mut digits = number.magnitude().to_str_radix(radix);
        if self.letter == 'X' {
            digits.make_ascii_uppercase();
        }
        if let Some(precision) = self.precision {
            digits = format!("{digits:0>precision$}");
        }
        let prefix = match self.letter {
            'b' if self.sharp => "0b",
            'o' if self.sharp => "0",
            'x' if self.sharp => "0x",
            'X' if self.sharp => "0X",
            _ => "",
        };
        let sign = self.sign(number.sign() == Sign::Minus);
        self.pad(&format!("{sign}{prefix}"), &digits, self.zero && self.precision.is_none(), out);
    }

    fn write_float(&self, number: &Number, out: &mut String) {
        let default = if matches!(self.letter, 'g' | 'G') { None } else { Some(6) };
        let text = number.format(self.letter, self.precision.or(default));
        if number.is_infinite() {
            return self.pad("", &text, false, out);
        }
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, &*text),
        };
        self.pad(self.sign(negative), digits, self.zero, out);
    }

    fn sign(&self, negative: bool) -> &'static str {
        match () {
            () if negative => "-",
            () if self.plus => "+",
            () if self.space => " ",
            () => "",
        }
    }

    /// Writes a number, filled up to the width. Zeros stand behind the sign, and never on the right.
    fn pad(&self, sign: &str, digits: &str, zero: bool, out: &mut String) {
        let missing = self.missing(sign.len(), digits);
        let fill = |c: char, out: &mut String| out.extend(std::iter::repeat_n(c, missing));
        if !self.minus && !zero {
            fill(' ', out);
        }
        out.push_str(sign);
        if !self.minus && zero {
            fill('0', out);
        }
        out.push_str(digits);
        if self.minus {
            fill(' ', out);
        }
    }

    /// Writes a text, filled up to the width, with zeros where the flag for them is there: on either side.
    fn pad_text(&self, text: &str, out: &mut String) {
        let fill = std::iter::repeat_n(if self.zero { '0' } else { ' ' }, self.missing(0, text));
        if self.minus {
            out.push_str(text);
            out.extend(fill);
        } else {
            out.extend(fill);
            out.push_str(text);
        }
    }

    /// How many characters are missing to the width.
    fn missing(&self, sign: usize, body: &str) -> usize {
        // Of a long body no more is counted than could matter.
        self.width.saturating_sub(sign + body.graphemes(true).take(self.width).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let n = |text: &str| Value::number(text.parse::<Number>().unwrap());
        let s = |text: &str| Value::from(text);
        for (pattern, args, want) in [
            ("100%% é%s", vec![s("x")], "100% éx"),
            (
                "[%5s][%-5s][%.2s][%05s]",
                vec![s("ab"), s("cd"), s("abcdef"), s("ab")],
                "[   ab][cd   ][ab][000ab]",
            ),
            (
                "%05d|%-05d|%+d|% d|%.3d",
                vec![n("-42"), n("42"), n("7"), n("7"), n("7")],
                "-0042|42   |+7| 7|007",
            ),
            ("%#x %X %b %o %#b", vec![n("255"), n("255"), n("-5"), n("8"), n("2")], "0xff FF -101 10 0b10"),
            (
                "%e %.2e %f %.1f %G",
                vec![n("123456.789"), n("123456.789"), n("3.14159265"), n("2.25"), n("1e30")],
                "1.234568e+05 1.23e+05 3.141593 2.2 1E+30",
            ),
            (
                "%v %v %#v",
                vec![n("1000000"), Value::tuple([n("1"), s("a")]), s("<")],
                r#"1e+06 [1,"a"] "\u003c""#,
            ),
            ("%[2]s %[1]s", vec![s("a"), s("b")], "b a"),
            ("%[2]s %s", vec![s("a"), s("b"), s("c")], "b c"),
            ("%q %t", vec![s("a\"b"), s("true")], r#""a\"b" true"#),
            ("%v %+.1f", vec![Value::number(Number::INFINITY), n("2.25")], "+Inf +2.2"),
            ("%5%", vec![], "error"),
            ("%", vec![], "error"),
            ("%é", vec![s("a")], "error"),
            ("%[0]s", vec![s("a")], "error"),
            ("%[1s", vec![s("a")], "error"),
            ("%[9999999999999999999999]s", vec![s("a")], "error"),
            ("%999999999s", vec![s("a")], "error"),
            ("%d", vec![n("1.5")], "error"),
            ("%s", vec![Value::null(Type::String)], "error"),
            ("%v", vec![Value::null(Type::String)], "null"),
            ("x", vec![s("a")], "error"),
            ("%s", vec![], "error"),
            ("%*d", vec![n("1"), n("2")], "error"),
        ] {
            let got = format(pattern, &args).unwrap_or_else(|_| "error".to_owned());
            assert_eq!(got, want, "{pattern}");
        }
    }
}
