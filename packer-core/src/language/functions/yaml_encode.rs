//! `yamlencode`: block style, every string quoted or literal, laid out as libyaml does.

use crate::value::{Data, Value};

/// Columns after which a quoted string is folded at the next space.
const WIDTH: usize = 80;
/// Bytes up to which a key stands before its colon; longer ones are written as `? key`.
const SIMPLE_KEY: usize = 128;

/// The value as a YAML document that ends in a newline.
///
/// # Errors
/// Where the value nests too deeply.
pub(super) fn encode(value: &Value) -> Result<String, String> {
    if value.is_too_deep() {
        return Err("the value is nested too deeply".to_owned());
    }
    let mut emitter = Emitter { out: String::new() };
    emitter.node(value, None, Place::Root);
    if !emitter.out.ends_with('\n') {
        emitter.out.push('\n');
    }
    Ok(emitter.out)
}

/// What a node stands behind.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    /// `key:`
    Key,
    /// `-`
    Dash,
}

struct Emitter {
    out: String,
}

impl Emitter {
    /// Writes a node; `indent` is that of the collection it is in. The text before it ends in `:` or `-`.
    fn node(&mut self, value: &Value, indent: Option<usize>, place: Place) {
        match value.data() {
            Data::List(_, v) | Data::Set(_, v) | Data::Tuple(v) if !v.is_empty() => {
                // A list under a key is not indented.
                let inner =
                    if place == Place::Key { indent.unwrap_or(0) } else { indent.map_or(0, |i| i + 2) };
                for (i, v) in v.iter().enumerate() {
                    self.begin(i, inner, place);
                    self.out.push('-');
                    self.node(v, Some(inner), Place::Dash);
                }
            }
            Data::Map(_, m) | Data::Object(m) if !m.is_empty() => {
                let inner = indent.map_or(0, |i| i + 2);
                for (i, (k, v)) in m.iter().enumerate() {
                    self.begin(i, inner, place);
                    if k.len() > SIMPLE_KEY || k.contains(is_break) {
                        self.out.push_str("? ");
                        self.quoted(k, inner + 2, true);
                        self.line(inner);
                    } else {
                        self.quoted(k, inner, false);
                    }
                    self.out.push(':');
                    self.node(v, Some(inner), Place::Key);
                }
            }
            _ => {
                if place != Place::Root {
                    self.out.push(' ');
                }
                self.scalar(value, indent.map_or(2, |i| i + 2), place == Place::Root);
            }
        }
    }

    /// Goes to where the `i`th item of a collection is to stand: the first of a list or map in a list stands on
    /// the line of its dash.
    fn begin(&mut self, i: usize, indent: usize, place: Place) {
        match place {
            Place::Dash if i == 0 => self.out.push(' '),
            Place::Root if i == 0 => {}
            _ => self.line(indent),
        }
    }

    fn line(&mut self, indent: usize) {
        if !self.out.ends_with('\n') {
            self.out.push('\n');
        }
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    fn scalar(&mut self, value: &Value, indent: usize, root: bool) {
        match value.data() {
            Data::String(s) if s.contains('\n') && may_be_literal(s) => return self.literal(s, indent),
            Data::String(s) => return self.quoted(s, indent, true),
            Data::Bool(b) => self.out.push_str(if *b { "true" } else { "false" }),
            Data::Number(n) => self.out.push_str(&n.to_string()),
            Data::List(..) | Data::Set(..) | Data::Tuple(_) => return self.out.push_str("[]"),
            Data::Map(..) | Data::Object(_) => return self.out.push_str("{}"),
            // Unknown values do not come here.
            Data::Null(_) | Data::Unknown(_) => self.out.push_str("null"),
        }
        if root {
            // A plain scalar may go on for all a reader knows.
            self.out.push_str("\n...");
        }
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.out.push('|');
        if text.starts_with([' ', '\n']) {
            self.out.push('2');
        }
        match text.strip_suffix('\n') {
            None => self.out.push('-'),
            Some(rest) if rest.is_empty() || rest.ends_with('\n') => self.out.push('+'),
            Some(_) => {}
        }
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            self.out.push('\n');
            if !line.is_empty() {
                self.out.extend(std::iter::repeat_n(' ', indent));
                self.out.push_str(line);
            }
        }
        self.out.push('\n');
    }

    fn quoted(&mut self, text: &str, indent: usize, fold: bool) {
        let line = self.out.rfind('\n').map_or(0, |at| at + 1);
        let mut column = self.out[line..].chars().count() + 1;
        let mut after_space = false;
        self.out.push('"');
        let mut chars = text.chars().peekable();
        let mut first = true;
        while let Some(c) = chars.next() {
            let start = self.out.len();
            if c == ' ' && fold && !after_space && column > WIDTH && !first && chars.peek().is_some() {
                self.out.push('\n');
                self.out.extend(std::iter::repeat_n(' ', indent));
                column = indent;
                if chars.peek() == Some(&' ') {
                    self.out.push('\\');
                    column += 1;
                }
            } else {
                escape(c, &mut self.out);
                column += self.out[start..].chars().count();
            }
            after_space = c == ' ';
            first = false;
        }
        self.out.push('"');
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What libyaml writes unescaped.
fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}') && !is_break(c)
}

/// Whether a text of several lines can be written as a literal block.
fn may_be_literal(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || is_printable(c)) && !text.contains(" \n") && !text.ends_with(' ')
}

fn escape(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\0' => out.push_str("\\0"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\x0b' => out.push_str("\\v"),
        '\x0c' => out.push_str("\\f"),
        '\r' => out.push_str("\\r"),
        '\x1b' => out.push_str("\\e"),
        '\u{85}' => out.push_str("\\N"),
        '\u{2028}' => out.push_str("\\L"),
        '\u{2029}' => out.push_str("\\P"),
        c if is_printable(c) => out.push(c),
        c => match c as u32 {
            code @ 0..=0xff => out.push_str(&format!("\\x{code:02X}")),
            code @ 0x100..=0xffff => out.push_str(&format!("\\u{code:04X}")),
            code => out.push_str(&format!("\\U{code:08X}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::from_json_str;

    #[test]
    fn encodes() {
        for (json, want) in [
            (r#""a""#, "\"a\"\n"),
            ("1.5", "1.5\n...\n"),
            ("null", "null\n...\n"),
            ("{}", "{}\n"),
            (
                r#"{"list":["a",{"k":"v"},["n","m"],[]],"obj":{"z":1,"e":{}}}"#,
                "\"list\":\n- \"a\"\n- \"k\": \"v\"\n- - \"n\"\n  - \"m\"\n- []\n\"obj\":\n  \"e\": {}\n  \"z\": 1\n",
            ),
            (r#"[{"a":1,"b":["x"]}]"#, "- \"a\": 1\n  \"b\":\n  - \"x\"\n"),
            (
                r#"{"a":"x\ny\n","b":"x\ny","c":"x\n\n"}"#,
                "\"a\": |\n  x\n  y\n\"b\": |-\n  x\n  y\n\"c\": |+\n  x\n\n",
            ),
            (r#"[{"a":"x\ny"}]"#, "- \"a\": |-\n    x\n    y\n"),
            (r#""  a\nb\n""#, "|2\n    a\n  b\n"),
            (r#""a \nb""#, "\"a \\nb\"\n"),
            (r#""a\tb\nc é \ud83d\ude00""#, "\"a\\tb\\nc é \\U0001F600\"\n"),
            (r#"{"a\nb":1}"#, "? \"a\\nb\"\n: 1\n"),
        ] {
            assert_eq!(encode(&from_json_str(json).unwrap()).unwrap(), want, "{json}");
        }
        let long = format!("{} tail", "x".repeat(90));
        assert_eq!(encode(&Value::from(long)).unwrap(), format!("\"{}\n  tail\"\n", "x".repeat(90)));
    }
}
