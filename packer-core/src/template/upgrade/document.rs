//! A template of the first generation as a JSON document: reading it, and writing it as Packer does.

use std::fmt::Write;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Number, Value};

use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, Span};

pub(super) type Object = Map<String, Value>;

/// Reads the first JSON document of a text, which must be an object; what follows it is not looked at. Of a
/// name that is there twice the last counts.
///
/// # Errors
/// What is wrong, with its place.
pub(super) fn read(source: &Arc<SourceFile>) -> Result<Object, Diagnostics> {
    let text = source.text();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match Value::deserialize(&mut deserializer) {
        Ok(Value::Object(root)) => Ok(root),
        Ok(_) => {
            let start = text.len() - text.trim_start().len();
            let place = Span::new(start as u32, start as u32 + 1).in_source(source);
            Err(Diagnostic::error("A template must be a JSON object").at(place).into())
        }
        Err(error) => {
            let line_start: usize =
                text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
            let mut at = (line_start + error.column().saturating_sub(1)).min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            let end = at + text[at..].chars().next().map_or(0, char::len_utf8);
            // The place is said by the diagnostic itself.
            let message = error.to_string();
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(m, _)| m);
            let d = Diagnostic::error("Error parsing JSON").detail(message);
            Err(d.at(Span::new(at as u32, end as u32).in_source(source)).into())
        }
    }
}

/// The document as Packer writes it: two spaces a level, names sorted, `&` escaped.
pub(super) fn write(root: &Object) -> String {
    let mut out = String::new();
    write_object(root, 0, &mut out);
    out
}

/// It recurses no deeper than reading did.
fn write_value(value: &Value, level: usize, out: &mut String) {
    match value {
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                begin_item(i, level, out);
                write_value(item, level + 1, out);
            }
            end_items(level, ']', out);
        }
        Value::Object(object) => write_object(object, level, out),
        Value::String(text) => write_string(text, out),
        Value::Number(number) => out.push_str(&number_text(number)),
        Value::Bool(_) | Value::Null => out.push_str(&value.to_string()),
    }
}

fn write_object(object: &Object, level: usize, out: &mut String) {
    if object.is_empty() {
        return out.push_str("{}");
    }
    out.push('{');
    for (i, (name, value)) in sorted(object).into_iter().enumerate() {
        begin_item(i, level, out);
        write_string(name, out);
        out.push_str(": ");
        write_value(value, level + 1, out);
    }
    end_items(level, '}', out);
}

/// The items of an object in the order of their names.
pub(super) fn sorted(object: &Object) -> Vec<(&String, &Value)> {
    let mut items: Vec<_> = object.iter().collect();
    items.sort_unstable_by_key(|(name, _)| *name);
    items
}

fn begin_item(number: usize, level: usize, out: &mut String) {
    out.push_str(if number > 0 { ",\n" } else { "\n" });
    out.extend(std::iter::repeat_n("  ", level + 1));
}

fn end_items(level: usize, bracket: char, out: &mut String) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", level));
    out.push(bracket);
}

fn write_string(text: &str, out: &mut String) {
    let quoted = Value::from(text).to_string();
    for c in quoted.chars() {
        match c {
            '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a text cannot fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
}

/// A number in the form in which Go writes one: `1.0` is `1`, and only very large and very small ones have exponents.
pub(super) fn number_text(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    let size = float.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        return match format!("{float:e}").split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            Some((digits, exponent)) => format!("{digits}e{exponent}"),
            None => float.to_string(),
        };
    }
    float.to_string()
}

/// A number without an exponent, as the template language writes one. JSON's numbers are doubles, so only so many of
/// the digits count.
pub(super) fn plain_number(number: &Number) -> String {
    number.as_f64().map_or_else(|| number.to_string(), |float| float.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Object, String> {
        let place = |d: &Diagnostic| d.location.as_ref().map(|l| (l.start().line, l.start().column));
        read(&SourceFile::new("t.json", text)).map_err(|found| {
            let d = found.iter().next().unwrap();
            format!("{:?} {} {}", place(d).unwrap(), d.summary, d.detail).trim().to_owned()
        })
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        for (text, error) in [
            ("{\n  \"builders\": [\n}", "(3, 1) Error parsing JSON expected value"),
            ("source {\n}", "(1, 1) Error parsing JSON expected value"),
            ("", "(1, 1) Error parsing JSON EOF while parsing a value"),
            ("  [1]", "(1, 3) A template must be a JSON object"),
        ] {
            assert_eq!(read_text(text).unwrap_err(), error, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(read_text(&deep).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn the_first_document_counts_and_of_a_name_the_last() {
        let root = read_text("{\"a\": 1, \"a\": 2} more").unwrap();
        assert_eq!(root["a"], 2);
        assert_eq!(read_text("{\"a\": 1}\n{]").unwrap()["a"], 1);
    }

    #[test]
    fn plain_numbers_have_no_exponent() {
        let root = read_text(r#"{"n": [0, -0.0, 1.0, 1.50, 1e3, 1e25, 2.5e-7, 9007199254740993]}"#).unwrap();
        let numbers = root["n"].as_array().unwrap().iter().filter_map(Value::as_number);
        let expected = "0 -0 1 1.5 1000 10000000000000000000000000 0.00000025 9007199254740992";
        assert_eq!(numbers.map(plain_number).collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn written_as_go_does() {
        let text = r#"{"z": [1.0, 1e30, 1e21, 1e20, 1.5e-7, 0.000001, -2.50, 12345678901, 0], "a": {"<&>": "\u2028\u0001\n\u007f"}}"#;
        let root = read_text(text).unwrap();
        let lines: Vec<String> = write(&root).lines().map(|l| l.trim().to_owned()).collect();
        let expected = r#"{|"a": {|"<\u0026>": "\u2028\u0001\n"|},|"z": [|1,|1e+30,|1e+21,|100000000000000000000,|1.5e-7,|0.000001,|-2.5,|12345678901,|0|]|}"#;
        assert_eq!(lines.join("|"), expected);
    }
}
