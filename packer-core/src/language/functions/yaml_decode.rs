//! `yamldecode`: one document, with the scalars of YAML 1.1 as Packer's reader knows them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::calendar::Moment;
use crate::value::{Data, Number, Type, Value, normalize};

/// How many nodes a document may have, those of aliases counted wherever they are used.
const MAX_NODES: usize = Value::MAX_NODES;

/// How much text is read again for the sake of tabs, in bytes.
const MOST_READ_AGAIN: usize = 8 << 20;

/// The value of a document: objects, tuples and primitives.
///
/// # Errors
/// What is wrong with the text and where.
pub(super) fn decode(text: &str) -> Result<Value, String> {
    let mut text = Cow::Borrowed(text);
    let mut read_again = 0;
    loop {
        let e = match read(&text) {
            Ok(value) => return value,
            Err(e) => e,
        };
        // The parser takes a tab behind a colon only where a space follows; YAML asks for no more than the tab.
        let end = text.char_indices().nth(e.marker().index()).map_or(text.len(), |(at, _)| at);
        let tabs = text[..end].trim_end_matches('\t');
        read_again += end;
        if tabs.len() == end || !tabs.ends_with(':') || read_again > MOST_READ_AGAIN {
            return Err(at(e.marker().line(), e.marker().col() + 1, e.info()));
        }
        let tab = tabs.len();
        text.to_mut().replace_range(tab..tab + 1, " ");
    }
}

/// The value, or what is wrong with it; an error of the parser is one of the syntax.
fn read(text: &str) -> Result<Result<Value, String>, ScanError> {
    let last_line = text.rsplit(['\n', '\r']).next().unwrap_or_default();
    let open_end = (!last_line.trim_start().is_empty()).then(|| text.chars().count());
    let mut reader = Reader { open: Vec::new(), anchors: HashMap::new(), document: None, open_end };
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event?;
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
        }
        let here = |message: String| at(span.start.line(), span.start.col() + 1, &message);
        if documents > 1 {
            return Ok(Err(here("unexpected extra content after value".to_owned())));
        }
        if let Err(message) = reader.event(event, span) {
            return Ok(Err(here(message)));
        }
    }
    Ok(reader.document.ok_or_else(|| at(1, 1, "missing start of document")))
}

fn at(line: usize, column: usize, message: &str) -> String {
    format!("on line {line}, column {column}: {message}")
}

/// A value and how many nodes it has with all its aliases written out.
type Weighed = (Value, usize);

struct Reader {
    open: Vec<Open>,
    anchors: HashMap<usize, Weighed>,
    document: Option<Value>,
    /// Where the text ends, in characters, if its last line does not.
    open_end: Option<usize>,
}

/// A collection that has not ended yet.
struct Open {
    anchor: usize,
    weight: usize,
    kind: Kind,
}

enum Kind {
    Sequence(Vec<Value>),
    Mapping { entries: BTreeMap<Arc<str>, Value>, key: Option<Key> },
}

enum Key {
    Name(Arc<str>),
    /// `<<`: the mapping that follows is merged into this one.
    Merge,
}

impl Reader {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        match event {
            Event::Scalar(mut text, style, anchor, tag) => {
                // A block has the line breaks that are there; the parser adds one.
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                if block && self.open_end == Some(span.end.index()) && text.ends_with('\n') {
                    text.to_mut().pop();
                }
                let plain = style == ScalarStyle::Plain;
                if plain && tag.is_none() && text == "<<" && self.wants_key() {
                    return self.key(Key::Merge);
                }
                let value = match tag {
                    Some(tag) => tagged(&text, plain, &tag)?,
                    None if plain => resolve(&text)?,
                    None => Value::text(&text),
                };
                self.value((value, 1), anchor)
            }
            Event::Alias(id) => {
                let found = self.anchors.get(&id).cloned();
                self.value(found.ok_or("reference to an anchor that is still open")?, 0)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq", "sequence")?;
                self.open(anchor, Kind::Sequence(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map", "mapping")?;
                self.open(anchor, Kind::Mapping { entries: BTreeMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let value = match open.kind {
                    Kind::Sequence(values) => Value::tuple(values),
                    Kind::Mapping { entries, .. } => Value::object(entries),
                };
                self.value((value, open.weight), open.anchor)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, anchor: usize, kind: Kind) -> Result<(), String> {
        if self.wants_key() {
            return Err("only strings are allowed as mapping keys".to_owned());
        }
        if self.open.len() >= Value::MAX_DEPTH {
            return Err("the document is nested too deeply".to_owned());
        }
        self.open.push(Open { anchor, weight: 1, kind });
        Ok(())
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: Kind::Mapping { key: None, .. }, .. }))
    }

    fn key(&mut self, key: Key) -> Result<(), String> {
        if let Some(Open { kind: Kind::Mapping { key: slot, .. }, .. }) = self.open.last_mut() {
            *slot = Some(key);
        }
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn value(&mut self, (value, weight): Weighed, anchor: usize) -> Result<(), String> {
        // The parser numbers anchors from 1.
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), weight));
        }
        if self.open.len() + value.depth() > Value::MAX_DEPTH {
            return Err("the document is nested too deeply".to_owned());
        }
        if self.wants_key() {
            let name = key_name(&value)?;
            return self.key(Key::Name(name));
        }
        let Some(open) = self.open.last_mut() else {
            self.document = Some(value);
            return Ok(());
        };
        open.weight += weight;
        if open.weight > MAX_NODES {
            return Err("the document grows too large through its aliases".to_owned());
        }
        match &mut open.kind {
            Kind::Sequence(values) => values.push(value),
            Kind::Mapping { entries, key } => match key.take() {
                Some(Key::Name(name)) => {
                    entries.insert(name, value);
                }
                Some(Key::Merge) => match value.data() {
                    Data::Object(merged) => {
                        entries.extend(merged.iter().map(|(k, v)| (k.clone(), v.clone())));
                    }
                    _ => return Err(format!("cannot merge {} into mapping", value.ty().friendly_name())),
                },
                // A value without a key does not come: `wants_key` was false.
                None => {}
            },
        }
        Ok(())
    }
}

fn key_name(value: &Value) -> Result<Arc<str>, String> {
    match value.data() {
        Data::String(s) => Ok(s.clone()),
        Data::Bool(b) => Ok(if *b { "true".into() } else { "false".into() }),
        Data::Number(n) => Ok(n.to_string().into()),
        Data::Null(_) => Err("mapping key cannot be null".to_owned()),
        _ => Err("only strings are allowed as mapping keys".to_owned()),
    }
    .map(|name| normalize(&name))
}

const CORE: &str = "tag:yaml.org,2002:";

fn check_tag(tag: Option<&Tag>, wanted: &str, what: &str) -> Result<(), String> {
    match tag.map(|t| format!("{}{}", t.handle, t.suffix)) {
        None => Ok(()),
        Some(name) if name == "!" || name.strip_prefix(CORE) == Some(wanted) => Ok(()),
        Some(name) => Err(format!("can't interpret {what} as {name}")),
    }
}

/// A scalar with a tag.
fn tagged(text: &str, plain: bool, tag: &Tag) -> Result<Value, String> {
    let name = format!("{}{}", tag.handle, tag.suffix);
    let fail = || Err(format!("cannot parse {text:?} as {name}"));
    match name.strip_prefix(CORE) {
        Some("str" | "binary") => return Ok(Value::text(text)),
        None if name == "!" => return Ok(Value::text(text)),
        _ => {}
    }
    let value = resolve(text)?;
    match (name.strip_prefix(CORE), value.data()) {
        (Some("int"), Data::Number(n)) if n.is_integer() => Ok(value),
        (Some("float"), Data::Number(_)) | (Some("bool"), Data::Bool(_)) => Ok(value),
        (Some("timestamp"), Data::String(_)) if timestamp(text).is_some() => Ok(value),
        (Some("null"), _) if !plain => Ok(Value::text(text)),
        (Some("null"), Data::Null(_)) => Ok(value),
        (Some("int" | "float" | "bool" | "timestamp" | "null"), _) => fail(),
        _ => Err(format!("unsupported tag {name:?}")),
    }
}

/// What a plain scalar means.
fn resolve(text: &str) -> Result<Value, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::null(Type::Dynamic),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::bool(false)
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::number(Number::INFINITY),
        // As `yamlencode` writes them.
        "+Inf" | "+inf" => Value::number(Number::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" | "-Inf" | "-inf" => Value::number(Number::NEGATIVE_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Err("floating point NaN is not supported".to_owned()),
        _ => match (timestamp(text), number(text)) {
            (Some(time), _) => Value::from(time),
            (_, Some(number)) => Value::number(number),
            _ => Value::text(text),
        },
    })
}

/// Decimal numbers and `0b…`, with `_` anywhere between; leading zeros mean nothing.
fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    let (sign, magnitude) = match digits.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", digits.strip_prefix('+').unwrap_or(&digits)),
    };
    if let Some(bits) = magnitude.strip_prefix("0b").filter(|_| !digits.starts_with('+')) {
        let value = num_bigint::BigInt::parse_bytes(format!("{sign}{bits}").as_bytes(), 2)?;
        return bits.starts_with(['0', '1']).then(|| Number::from_bigint(&value));
    }
    let decimal =
        magnitude.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    digits.parse().ok().filter(|_| decimal)
}

/// A date, or a date and a time, as RFC 3339 with seconds.
fn timestamp(text: &str) -> Option<String> {
    let (year, rest) = text.split_once('-')?;
    let numbers =
        |s: &str, most: usize| !s.is_empty() && s.len() <= most && s.bytes().all(|b| b.is_ascii_digit());
    if year.len() != 4 || !numbers(year, 4) {
        return None;
    }
    let (month, rest) = rest.split_once('-')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (day, time) = rest.split_at(end);
    if !numbers(month, 2) || !numbers(day, 2) {
        return None;
    }
    let date = format!("{year}-{month:0>2}-{day:0>2}");
    if time.is_empty() {
        return Moment::parse(&format!("{date}T00:00:00Z")).ok().map(|m| m.to_string());
    }
    // With `T` an offset must follow, with a space none may.
    let (clock, zone) = match time.strip_prefix(['T', 't']) {
        Some(time) => time.split_at(time.find(['Z', '+', '-'])?),
        None => (time.strip_prefix(' ')?, "Z"),
    };
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) if numbers(fraction, 100) => (clock, Some(fraction)),
        Some(_) => return None,
        None => (clock, None),
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = parts.as_slice() else { return None };
    if ![hour, minute, second].into_iter().all(|part| numbers(part, 2)) {
        return None;
    }
    let fraction = fraction.map_or(String::new(), |f| format!(".{f}"));
    let strict = format!("{date}T{hour:0>2}:{minute:0>2}:{second:0>2}{fraction}{zone}");
    Moment::parse(&strict).ok().map(|m| m.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes() {
        for (yaml, want) in [
            ("a: 1\nb: [x, 'y', \"z\\n\"]\n", r#"{"a":1,"b":["x","y","z\n"]}"#),
            (
                "[yes, No, 0x1F, 0o17, 017, 0b101, 1_000, 1e3, .5, 5., 1:2, 1.2.3]",
                r#"[true,false,"0x1F","0o17",17,5,1000,1000,0.5,5,"1:2","1.2.3"]"#,
            ),
            (
                "[2020-01-02, 2020-1-2T3:4:5.5+01:00, 2020-01-02 03:04:05 +1, 2020-13-01]",
                r#"["2020-01-02T00:00:00Z","2020-01-02T03:04:05+01:00","2020-01-02 03:04:05 +1","2020-13-01"]"#,
            ),
            ("a: &a {k: 1}\nc: {k: 9, <<: *a, m: 2}\n", r#"{"a":{"k":1},"c":{"k":1,"m":2}}"#),
            ("y: 1\n1.50: x\n", r#"{"1.5":"x","true":1}"#),
            ("a: |\n  x\n   y\nb: >-\n  c\n  d\n", r#"{"a":"x\n y\n","b":"c d"}"#),
            ("[!!int 5, !!str 5, !!bool yes, !!null '', !!binary aGk=]", r#"[5,"5",true,"","aGk="]"#),
            ("a:\nb: ''\n", r#"{"a":null,"b":""}"#),
            ("just text", r#""just text""#),
            ("a: |\n  x\n  # y", r##"{"a":"x\n# y"}"##),
            ("a: |\n  x\n# y", r#"{"a":"x\n"}"#),
            ("- >+\n  é\n\n  y", r#"["é\ny"]"#),
            ("a:\tx\né:\t\ty\nc: \"d:\tz\"\n", r#"{"a":"x","c":"d:\tz","é":true}"#),
        ] {
            let got = decode(yaml).and_then(|v| v.to_json_string().map_err(|e| e.to_string()));
            assert_eq!(got.as_deref(), Ok(want), "{yaml}");
        }
        assert_eq!(decode("-Inf"), Ok(Value::number(Number::NEGATIVE_INFINITY)));
        for yaml in [
            "",
            "# only\n",
            "a: 1\n---\nb: 2\n",
            "? [a]\n: 1\n",
            "~: x\n",
            ".nan",
            "!!int x",
            "!!set {a}",
            "a: *nope",
            "a: &a [*a]",
            "c:\n  <<: 5\n",
            "a: @x",
            "a: [",
            "a:\t- x",
        ] {
            assert!(decode(yaml).is_err(), "{yaml}");
        }
    }

    #[test]
    fn hostile_documents_are_refused() {
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..20 {
            let row = vec![format!("*a{}", i - 1); 10].join(",");
            laughs.push_str(&format!("a{i}: &a{i} [{row}]\n"));
        }
        assert!(decode(&laughs).is_err());
        assert!(decode(&"[".repeat(100_000)).is_err());
        assert!(decode(&"- ".repeat(20_000)).is_err());
        assert!(decode(&(0..5_000).map(|i| format!("k{i}:\tv\n")).collect::<String>()).is_err());
    }
}
