//! `csvdecode`: comma separated values with a header line.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{FunctionResult, fits_values};
use crate::value::{Type, Value, normalize};

/// A list of objects of strings, one for each line behind the header. Lines that are blank are left out.
pub(super) fn decode(text: &str) -> FunctionResult {
    let mut reader = Reader { rest: text, line: 1 };
    let (header, _) = reader.record()?.ok_or("missing header line")?;
    let names: Vec<Arc<str>> = header.iter().map(|name| normalize(name)).collect();
    let mut seen = BTreeSet::new();
    for name in &names {
        if !seen.insert(name) {
            return Err(format!("duplicate column name {name:?}").into());
        }
    }
    let mut rows = Vec::new();
    while let Some((fields, line)) = reader.record()? {
        if fields.len() != names.len() {
            return Err(format!("CSV parse error on line {line}: wrong number of fields").into());
        }
        fits_values(rows.len().saturating_mul(names.len()))?;
        rows.push(Value::object(names.iter().cloned().zip(fields.iter().map(|f| Value::text(f)))));
    }
    Ok(Value::list(Type::object(names.into_iter().map(|n| (n, Type::String))), rows))
}

struct Reader<'t> {
    rest: &'t str,
    /// The line that `rest` begins on.
    line: usize,
}

impl<'t> Reader<'t> {
    /// The fields of the next line that is not blank, and its number.
    fn record(&mut self) -> Result<Option<(Vec<String>, usize)>, String> {
        let mut line = loop {
            match self.take_line() {
                None => return Ok(None),
                Some("") => {}
                Some(line) => break line,
            }
        };
        let first = self.line - 1;
        let mut fields = Vec::new();
        loop {
            let Some(quoted) = line.strip_prefix('"') else {
                let (field, next) = match line.split_once(',') {
                    Some((field, next)) => (field, Some(next)),
                    None => (line, None),
                };
                if field.contains('"') {
                    return Err(self.error("bare \" in non-quoted-field"));
                }
                fields.push(field.to_owned());
                match next {
                    Some(next) => line = next,
                    None => return Ok(Some((fields, first))),
                }
                continue;
            };
            let (field, next) = self.quoted(quoted)?;
            fields.push(field);
            match next {
                Some(next) => line = next,
                None => return Ok(Some((fields, first))),
            }
        }
    }

    /// A field in quotes, behind the opening one, and what follows its comma. The field may run over lines.
    fn quoted(&mut self, mut line: &'t str) -> Result<(String, Option<&'t str>), String> {
        let mut field = String::new();
        loop {
            let Some((text, after)) = line.split_once('"') else {
                field.push_str(line);
                field.push('\n');
                line =
                    self.take_line().ok_or_else(|| self.error("extraneous or missing \" in quoted-field"))?;
                continue;
            };
            field.push_str(text);
            if let Some(more) = after.strip_prefix('"') {
                field.push('"');
                line = more;
            } else if after.is_empty() {
                return Ok((field, None));
            } else if let Some(next) = after.strip_prefix(',') {
                return Ok((field, Some(next)));
            } else {
                return Err(self.error("extraneous or missing \" in quoted-field"));
            }
        }
    }

    /// The next line, without its line end (`\n` or `\r\n`).
    fn take_line(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }

    fn error(&self, what: &str) -> String {
        format!("CSV parse error on line {}: {what}", self.line - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes() {
        for (csv, want) in [
            ("a,b\n1,2\r\n\n3,\"x \"\"y\"\",\r\nz\"\n", r#"[{"a":"1","b":"2"},{"a":"3","b":"x \"y\",\nz"}]"#),
            ("\"a b\",c\n 1, 2", r#"[{"a b":" 1","c":" 2"}]"#),
            ("a,b\n", "[]"),
            ("a\n\"\"\n", r#"[{"a":""}]"#),
            ("a,b\n1,\n", r#"[{"a":"1","b":""}]"#),
            ("", "missing header line"),
            ("a,a\n", "duplicate column name \"a\""),
            ("a,b\n1\n", "CSV parse error on line 2: wrong number of fields"),
            ("a\nx\"y\n", "CSV parse error on line 2: bare \" in non-quoted-field"),
            ("a\n\"x\n", "CSV parse error on line 2: extraneous or missing \" in quoted-field"),
            ("a\n\"x\"y\n", "CSV parse error on line 2: extraneous or missing \" in quoted-field"),
        ] {
            let got = match decode(csv) {
                Ok(v) => v.to_json_string().unwrap(),
                Err(e) => e.message,
            };
            assert_eq!(got, want, "{csv:?}");
        }
    }
}
