//! Values to and from JSON text, with exact numbers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::{Data, Number, Type, Value, convert, normalize};

impl Value {
    /// The value as JSON data; numbers as [`serde::Serialize`] gives them. Fails where anything is unknown,
    /// infinite or nested too deeply.
    pub fn to_json(&self) -> Result<serde_json::Value, JsonError> {
        self.check_json()?;
        serde_json::to_value(self).map_err(|e| JsonError::new(e.to_string(), 0))
    }

    /// The value as compact JSON text as `jsonencode` writes it: keys sorted, numbers in plain decimal with all
    /// digits, `<`, `>`, `&`, U+2028 and U+2029 escaped.
    pub fn to_json_string(&self) -> Result<String, JsonError> {
        self.check_json()?;
        let mut out = String::new();
        write_value(self, &mut out)?;
        Ok(out)
    }

    /// JSON data as a value: objects, tuples, primitives and nulls without a type.
    pub fn from_json(json: &serde_json::Value) -> Self {
        Self::from(json)
    }

    fn check_json(&self) -> Result<(), JsonError> {
        if self.is_too_deep() {
            return Err(JsonError::new("the value is nested too deeply", 0));
        }
        if !self.is_wholly_known() {
            return Err(JsonError::new("value is not known", 0));
        }
        Ok(())
    }
}

/// What is wrong with a JSON text, or why a value has none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct JsonError {
    /// What is wrong.
    pub message: String,
    /// The byte of the text at which it was found; 0 when writing.
    pub offset: usize,
}

impl JsonError {
    fn new(message: impl Into<String>, offset: usize) -> Self {
        Self { message: message.into(), offset }
    }
}

fn write_value(value: &Value, out: &mut String) -> Result<(), JsonError> {
    match value.data() {
        // Ruled out before.
        Data::Unknown(_) => return Err(JsonError::new("value is not known", 0)),
        Data::Null(_) => out.push_str("null"),
        Data::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Data::Number(n) if n.is_infinite() => {
            return Err(JsonError::new("cannot serialize infinity as JSON", 0));
        }
        // Writing to a string cannot fail.
        Data::Number(n) => _ = write!(out, "{n}"),
        Data::String(s) => write_json_string(s, out),
        Data::List(_, v) | Data::Set(_, v) | Data::Tuple(v) => {
            out.push('[');
            for (i, v) in v.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write_value(v, out)?;
            }
            out.push(']');
        }
        Data::Map(_, m) | Data::Object(m) => {
            out.push('{');
            for (i, (k, v)) in m.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write_json_string(k, out);
                out.push(':');
                write_value(v, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// The text as a JSON string that is also safe inside HTML.
pub(crate) fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            c if c < ' ' || matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => {
                // Writing to a string cannot fail.
                _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Reads JSON text as `jsondecode` does: objects, tuples, numbers at 512 bits, nulls without a type. Of equal keys
/// the last wins, and the values before it must convert to its type.
pub fn from_json_str(text: &str) -> Result<Value, JsonError> {
    let mut reader = Reader { text, at: 0, nodes: 0 };
    reader.space();
    let value = reader.value(0)?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.error("invalid character after top-level value"));
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// How many values there were so far.
    nodes: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn error(&self, message: &str) -> JsonError {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => JsonError::new("unexpected end of JSON input", self.at),
            Some(c) => JsonError::new(format!("{message}: found {c:?} at byte {}", self.at), self.at),
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.nodes += 1;
        if self.nodes > Value::MAX_NODES {
            return Err(JsonError::new(format!("more than {} values", Value::MAX_NODES), self.at));
        }
        match self.peek() {
            Some(b'{' | b'[') if depth >= Value::MAX_DEPTH => {
                Err(self.error("the JSON text is nested too deeply"))
            }
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::text(&self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for (word, value) in [
                    ("null", Value::null(Type::Dynamic)),
                    ("true", Value::bool(true)),
                    ("false", Value::bool(false)),
                ] {
                    if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                Err(self.error("invalid character looking for the beginning of a value"))
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        let mut values = Vec::new();
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::tuple(values));
        }
        loop {
            self.space();
            values.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::tuple(values));
                }
                _ => return Err(self.error("invalid character after array element")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        let mut values: BTreeMap<Arc<str>, Vec<Value>> = BTreeMap::new();
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::object::<Arc<str>>([]));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.error("invalid character looking for beginning of object key string"));
            }
            let key = normalize(&self.string()?);
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.error("invalid character after object key"));
            }
            self.at += 1;
            self.space();
            let value = self.value(depth + 1)?;
            values.entry(key).or_default().push(value);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.error("invalid character after object key:value pair")),
            }
        }
        self.at += 1;
        let mut attributes: Vec<(Arc<str>, Value)> = Vec::with_capacity(values.len());
        for (key, mut all) in values {
            let Some(last) = all.pop() else { continue };
            if !all.is_empty() {
                let ty = last.ty();
                for earlier in &all {
                    convert(earlier, &ty)
                        .map_err(|e| JsonError::new(format!("duplicate key {key:?}: {e}"), self.at))?;
                }
            }
            attributes.push((key, last));
        }
        Ok(Value::object(attributes))
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        match text.parse::<Number>() {
            Ok(n) => Ok(Value::number(n)),
            Err(e) => Err(JsonError::new(e.to_string(), start)),
        }
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("invalid character in numeric literal")) } else { Ok(()) }
    }

    /// A string, at its opening quote.
    fn string(&mut self) -> Result<String, JsonError> {
        let mut out = String::new();
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain = rest.find(|c| matches!(c, '"' | '\\') || c < ' ').unwrap_or(rest.len());
            out.push_str(rest.get(..plain).unwrap_or_default());
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => return Err(self.error("invalid character in string literal")),
            }
        }
    }

    /// An escape, at its backslash. Half a surrogate pair is replaced by U+FFFD.
    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let c = match self.peek() {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(c @ (b'"' | b'\\' | b'/')) => c.into(),
            Some(b'u') => {
                self.at += 1;
                let unit = self.hex()?;
                if (0xd800..0xdc00).contains(&unit)
                    && self.text.get(self.at..).is_some_and(|rest| rest.starts_with("\\u"))
                {
                    let before = self.at;
                    self.at += 2;
                    let low = self.hex()?;
                    if (0xdc00..0xe000).contains(&low) {
                        let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                        return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    self.at = before;
                }
                return Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            _ => return Err(self.error("invalid character in string escape code")),
        };
        self.at += 1;
        Ok(c)
    }

    fn hex(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|d| u32::from_str_radix(d, 16).ok()) {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => Err(self.error("invalid character in \\u hexadecimal character escape")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips() {
        for (text, want) in [
            (r#" {"b":[1,2.50,-0.1e2],"a":null,"c":{}} "#, r#"{"a":null,"b":[1,2.5,-10],"c":{}}"#),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            (r#""<a href=\"x\">&\u2028\n\u0001\/""#, r#""\u003ca href=\"x\"\u003e\u0026\u2028\n\u0001/""#),
            (r#""\ud83d\ude00 \ud83d""#, "\"😀 \u{fffd}\""),
            (r#"{"a":1,"a":"x"}"#, r#"{"a":"x"}"#),
            ("[]", "[]"),
        ] {
            let got = from_json_str(text).and_then(|v| v.to_json_string());
            assert_eq!(got.as_deref(), Ok(want), "{text}");
        }
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            "+1",
            "nul",
            "\"\\x\"",
            "\"\n\"",
            "1 2",
            "{a:1}",
            "\"\\u12é\"",
            r#"{"a":"x","a":1}"#,
        ] {
            assert!(from_json_str(text).is_err(), "{text}");
        }
        assert!(from_json_str(&"[".repeat(1_000_000)).is_err());
        assert!(Value::number(Number::INFINITY).to_json_string().is_err());
    }

    proptest::proptest! {
        #[test]
        fn reads_what_serde_reads(text in r#"[\[\]{}:,"\\ 0-9.eE\-+tnu"a]{0,24}"#) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            let ours = from_json_str(&text);
            // We refuse what a later key of the same name makes inconsistent, and read halves of surrogate pairs.
            if !text.contains("\\u") && text.matches(':').count() < 2 {
                let overflow = theirs.as_ref().is_err_and(|e| e.to_string().contains("out of range"));
                assert!(overflow || ours.is_ok() == theirs.is_ok(), "{theirs:?} {ours:?}");
            }
        }
    }
}
