//! Reading JSON with the place of every value.

use std::sync::Arc;

use super::super::ast::Name;
use super::super::parser::MAX_DEPTH;
use super::{Node, NodeKind, Property};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, Span, did_you_mean};
use crate::value::{Number, Value};

/// Whose JSON it is: what is a mistake is the same, the places that are told for it are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A file of the template language: what is not closed is told where it begins, a comma too many at the comma.
    Hcl,
    /// A file of the first generation, read as Go reads JSON: a mistake is told where reading cannot go on, and numbers
    /// are doubles. What the root must be is for whoever asked.
    Plain,
}

/// Reads a whole text. Wrong values are reported and passed over; wrong punctuation ends the reading, and what
/// was read before it is kept.
pub(super) fn read(source: &Arc<SourceFile>, dialect: Dialect) -> (Node, Diagnostics) {
    let mut reader = Reader {
        dialect,
        source,
        text: source.text(),
        at: 0,
        depth: 0,
        failed: false,
        diagnostics: Diagnostics::new(),
    };
    if source.text().len() > u32::MAX as usize {
        reader.diagnostics.push(Diagnostic::error("File too large").detail("A file can have 4 GiB at most."));
        return (Node { kind: NodeKind::Invalid, span: Span::default() }, reader.diagnostics);
    }
    reader.skip_space();
    let start = reader.at;
    let root = reader.value();
    reader.skip_space();
    if !reader.failed && reader.at < reader.text.len() {
        let end = reader.at + reader.char_len();
        reader.error(reader.at, end, "Extraneous data after value", "The JSON value ends before this.");
    }
    let fits = match &root.kind {
        _ if dialect == Dialect::Plain => true,
        NodeKind::Object(_) => true,
        NodeKind::Array(items) => items.iter().all(|i| !matches!(i.kind, NodeKind::Invalid)),
        _ => false,
    };
    if !fits {
        reader.failed = false;
        reader.error(
            start,
            root.span.end as usize,
            "Root value must be object",
            "A file in JSON syntax holds one JSON object, or an array of objects.",
        );
    }
    (root, reader.diagnostics)
}

/// For each byte of the string that `raw` (with its quotes) stands for, where in `raw` it comes from.
pub(super) fn places(raw: &str) -> Vec<u32> {
    let mut places = Vec::with_capacity(raw.len());
    let mut at = 1;
    while at + 1 < raw.len() {
        let (len, decoded) = match raw.as_bytes()[at] {
            b'\\' => escape(&raw[at..]).map_or((1, 1), |(len, c)| (len, c.len_utf8())),
            _ => (1, 1),
        };
        places.resize(places.len() + decoded, at as u32);
        at += len;
    }
    places.push(raw.len().saturating_sub(1) as u32);
    places
}

struct Reader<'a> {
    dialect: Dialect,
    source: &'a Arc<SourceFile>,
    text: &'a str,
    at: usize,
    depth: u32,
    /// The punctuation is wrong: nothing behind it can be trusted.
    failed: bool,
    diagnostics: Diagnostics,
}

impl Reader<'_> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn char_len(&self) -> usize {
        self.text[self.at..].chars().next().map_or(0, char::len_utf8)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    /// Complains once about punctuation, and gives up.
    fn error(&mut self, start: usize, end: usize, summary: &str, detail: &str) {
        if !self.failed {
            self.complain(start, end, summary, detail.into());
        }
        self.failed = true;
    }

    /// Complains that the text ends before something that begins at `open` is closed.
    fn unclosed(&mut self, open: usize, what: &str, detail: &str) {
        let end = self.text.len();
        let summary = format!("Unclosed {what}");
        match self.dialect {
            Dialect::Hcl => self.error(open, open + 1, &summary, detail),
            Dialect::Plain if self.failed => {}
            Dialect::Plain => {
                self.failed = true;
                let place = |from: usize, to: usize| Span::new(from as u32, to as u32).in_source(self.source);
                self.diagnostics.push(
                    Diagnostic::error(summary)
                        .detail(format!("The text ends too early. {detail}"))
                        .at(place(end, end))
                        .related(format!("this {what} begins here"), place(open, open + 1)),
                );
            }
        }
    }

    fn complain(&mut self, start: usize, end: usize, summary: &str, detail: String) {
        let span = Span::new(start as u32, end as u32);
        self.diagnostics.push(Diagnostic::error(summary).detail(detail).at(span.in_source(self.source)));
    }

    fn value(&mut self) -> Node {
        let start = self.at;
        let kind = match self.peek() {
            b'{' | b'[' => self.nested(),
            b'"' => self.string().map_or(NodeKind::Invalid, NodeKind::String),
            b'-' | b'+' | b'.' | b'0'..=b'9' => self.number(),
            b'a'..=b'z' | b'A'..=b'Z' => self.keyword(),
            _ if self.at >= self.text.len() => {
                self.error(start, start, "Missing value", "The text ends where a JSON value must stand.");
                NodeKind::Invalid
            }
            c => {
                let (summary, end) = match c {
                    b',' | b'}' | b']' | b':' | b'=' => ("Missing JSON value", start + 1),
                    _ => ("Invalid start of value", start + self.char_len()),
                };
                self.error(
                    start,
                    end,
                    summary,
                    "A JSON value is an object, an array, a string, a number, true, false or null.",
                );
                NodeKind::Invalid
            }
        };
        Node { kind, span: Span::new(start as u32, self.at as u32) }
    }

    fn nested(&mut self) -> NodeKind {
        self.depth += 1;
        let kind = if self.depth > MAX_DEPTH {
            let detail = format!("JSON values may nest {MAX_DEPTH} levels deep.");
            self.error(self.at, self.at + 1, "Nesting too deep", &detail);
            NodeKind::Invalid
        } else if self.peek() == b'{' {
            self.object()
        } else {
            self.array()
        };
        self.depth -= 1;
        kind
    }

    fn object(&mut self) -> NodeKind {
        let open = self.at;
        let mut properties = Vec::new();
        self.at += 1;
        self.skip_space();
        while !self.failed && self.peek() != b'}' {
            properties.extend(self.property(open));
            if !self.failed {
                self.separator(open, b'}');
            }
        }
        if !self.failed {
            self.at += 1;
        }
        NodeKind::Object(properties.into())
    }

    fn property(&mut self, open: usize) -> Option<Property> {
        let start = self.at;
        if self.peek() != b'"' {
            if self.at >= self.text.len() {
                self.unclosed(open, "object", "The closing brace of this object is missing.");
            } else {
                let end = start + self.char_len();
                let detail = "The name of a property is a string in double quotes. (JSON has no comments.)";
                self.error(start, end, "Invalid object property name", detail);
            }
            return None;
        }
        let text = self.string().unwrap_or_default();
        let name = Name { text, span: Span::new(start as u32, self.at as u32) };
        self.skip_space();
        if self.peek() != b':' {
            let detail = "A colon must stand between the name of a property and its value.";
            self.error(self.at, self.at + self.char_len(), "Missing property value colon", detail);
            return None;
        }
        self.at += 1;
        self.skip_space();
        let value = self.value();
        Some(Property { name, value })
    }

    /// The comma behind an item, or the closing bracket, which is left.
    fn separator(&mut self, open: usize, closer: u8) {
        let (what, bracket) = if closer == b'}' { ("object", "brace") } else { ("array", "bracket") };
        self.skip_space();
        match self.peek() {
            b',' => {
                let comma = self.at;
                self.at += 1;
                self.skip_space();
                if self.peek() == closer {
                    let detail = format!("In JSON no comma may follow the last item of an {what}.");
                    let at = if self.dialect == Dialect::Hcl { comma } else { self.at };
                    self.complain(at, at + 1, &format!("Trailing comma in {what}"), detail);
                }
            }
            c if c == closer => {}
            _ if self.at >= self.text.len() => {
                let detail = format!("The closing {bracket} of this {what} is missing.");
                self.unclosed(open, what, &detail);
            }
            b'}' | b']' => {
                let detail = format!("A closing {bracket} must end this {what}.");
                self.error(self.at, self.at + 1, "Mismatched braces", &detail);
            }
            _ => {
                let detail = format!("A comma must separate this from the item of the {what} before it.");
                self.error(self.at, self.at + self.char_len(), "Missing separator comma", &detail);
            }
        }
    }

    fn array(&mut self) -> NodeKind {
        let open = self.at;
        let mut items = Vec::new();
        self.at += 1;
        self.skip_space();
        while !self.failed && self.peek() != b']' {
            items.push(self.value());
            if !self.failed {
                self.separator(open, b']');
            }
        }
        if !self.failed {
            self.at += 1;
        }
        NodeKind::Array(items.into())
    }

    fn number(&mut self) -> NodeKind {
        let start = self.at;
        while matches!(self.peek(), b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        if is_json_number(text)
            && let Ok(number) = text.parse::<Number>()
        {
            if self.dialect == Dialect::Hcl {
                return NodeKind::Number(Value::number(number));
            }
            if let Some(double) = text.parse().ok().filter(|f: &f64| f.is_finite()).and_then(Number::from_f64)
            {
                return NodeKind::Number(Value::number(double));
            }
            self.complain(start, self.at, "Number too large", "No double is as large as this.".into());
            return NodeKind::Invalid;
        }
        let detail = format!("{text} is not a number as JSON writes them.");
        self.complain(start, self.at, "Invalid JSON number", detail);
        NodeKind::Invalid
    }

    fn keyword(&mut self) -> NodeKind {
        let start = self.at;
        while self.peek().is_ascii_alphanumeric() {
            self.at += 1;
        }
        match &self.text[start..self.at] {
            "true" => NodeKind::Bool(true),
            "false" => NodeKind::Bool(false),
            "null" => NodeKind::Null,
            word => {
                let d = Diagnostic::error("Invalid JSON keyword")
                    .detail(format!("\"{word}\" is none of true, false and null."))
                    .at(Span::new(start as u32, self.at as u32).in_source(self.source));
                let meant = did_you_mean(&word.to_lowercase(), ["true", "false", "null"]);
                self.diagnostics.push(match meant {
                    Some(meant) => d.suggest(meant),
                    None => d,
                });
                NodeKind::Invalid
            }
        }
    }

    /// A string in quotes; nothing where it is wrong.
    fn string(&mut self) -> Option<Arc<str>> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut wrong: Option<(usize, usize, &str)> = None;
        let mut escaped = false;
        self.at += 1;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    match escape(&self.text[self.at..]) {
                        Some((len, _)) => self.at += len,
                        None => {
                            let next = self.text[self.at + 1..].chars().next().map_or(0, char::len_utf8);
                            wrong.get_or_insert((
                                self.at,
                                self.at + 1 + next,
                                "This is no escape sequence of JSON.",
                            ));
                            self.at += 1 + next;
                        }
                    }
                }
                // A string that is not closed ends with its line at the latest.
                Some(b'\n') | None if self.dialect == Dialect::Hcl => {
                    let detail = "The closing quote is missing. A line end inside a string is written \\n.";
                    self.error(start, self.at, "Invalid JSON string", detail);
                    return None;
                }
                end @ (None | Some(b'\n')) => {
                    // What was wrong before comes first.
                    if let Some((from, to, detail)) = wrong {
                        self.complain(from, to, "Invalid JSON string", detail.into());
                    }
                    if end.is_none() {
                        self.unclosed(start, "string", "The closing quote of this string is missing.");
                    } else {
                        // As Go counts, the mistake is behind the line end.
                        let detail = "The closing quote is missing in the line before. A line end inside a string is written \\n.";
                        self.error(self.at + 1, self.at + 1, "Invalid JSON string", detail);
                    }
                    return None;
                }
                Some(0..0x20) => {
                    wrong.get_or_insert((
                        self.at,
                        self.at + 1,
                        "A control character must be written as an escape sequence.",
                    ));
                    self.at += 1;
                }
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        if let Some((from, to, detail)) = wrong {
            self.complain(from, to, "Invalid JSON string", detail.into());
            return None;
        }
        let raw = &self.text[start + 1..self.at - 1];
        Some(if escaped { unescape(raw).into() } else { raw.into() })
    }
}

fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        // The caller has seen that every escape is right.
        let (len, c) = escape(rest).unwrap_or((1, '\\'));
        text.push(c);
        rest = &rest[len..];
    }
    text.push_str(rest);
    text
}

/// The length of the escape sequence that `rest` begins with, and the character it stands for.
fn escape(rest: &str) -> Option<(usize, char)> {
    let c = match rest.as_bytes().get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let high = hex4(rest.get(2..6)?)?;
            if (0xd800..0xdc00).contains(&high)
                && rest.get(6..8) == Some("\\u")
                && let Some(low) = rest.get(8..12).and_then(hex4)
                && (0xdc00..0xe000).contains(&low)
            {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Some((12, char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)));
            }
            return Some((6, char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)));
        }
        _ => return None,
    };
    Some((2, c))
}

fn hex4(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

fn is_json_number(text: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(e) => (&text[..e], Some(&text[e + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}
