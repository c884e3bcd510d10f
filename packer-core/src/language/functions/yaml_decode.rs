//! `yamldecode`: one document, with the scalars of YAML 1.1 as Packer's reader knows them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::calendar::Moment;
use super::yaml::{Event, Events, Fault, Mark, Style};
use crate::language::go_template::constants::integer as parse_integer;
use crate::value::{Data, Number, Type, Value, convert, normalize};

/// How many nodes a document may have, those of aliases counted wherever they are used.
const MAX_NODES: usize = Value::MAX_NODES;

/// The value of a document: objects, tuples and primitives. A document that is null is unknown.
///
/// # Errors
/// What is wrong with the text and where.
pub(super) fn decode(text: &str) -> Result<Value, String> {
    match read(text) {
        Ok(value) if matches!(value.data(), Data::Null(Type::Dynamic)) => Ok(Value::unknown(Type::Dynamic)),
        Ok(value) => Ok(value),
        Err(Fault { mark, message }) => {
            Err(format!("on line {}, column {}: {message}", mark.line + 1, mark.column + 1))
        }
    }
}

fn read(text: &str) -> Result<Value, Fault> {
    let mut events = Events::of(text)?;
    let wrong = |mark: Mark, message: &str| Fault { mark, message: message.to_owned() };
    let (first, mark) = events.next()?;
    if first != Event::DocumentStart {
        return Err(wrong(mark, "missing start of document"));
    }
    let mut reader = Reader::default();
    let value = loop {
        let (event, mark) = events.next()?;
        let step = reader.event(event).map_err(|message| Fault { mark, message })?;
        if let Some(value) = step {
            break value;
        }
    };
    let (event, mark) = events.next()?;
    if event != Event::DocumentEnd {
        return Err(wrong(mark, "unexpected extra content after value"));
    }
    match events.next()? {
        (Event::StreamEnd, _) => Ok(value),
        (_, mark) => Err(wrong(mark, "unexpected extra content after value")),
    }
}

/// A value and how many nodes it has with all its aliases written out.
type Weighed = (Value, usize);

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    anchors: HashMap<String, Weighed>,
}

/// A collection that has not ended yet.
struct Open {
    anchor: Option<String>,
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
    /// Takes an event; gives the value of the document when it is whole.
    fn event(&mut self, event: Event) -> Result<Option<Value>, String> {
        let Event::Scalar(node, text, style) = event else { return self.structure(event) };
        if self.wants_key() {
            // An anchor of a key is no anchor.
            let key = match resolve(&text, style, &node.tag)? {
                Some(value) => Key::Name(key_name(&value)?),
                None => Key::Merge,
            };
            if let Some(Open { kind: Kind::Mapping { key: slot, .. }, .. }) = self.open.last_mut() {
                *slot = Some(key);
            }
            return Ok(None);
        }
        let value = resolve(&text, style, &node.tag)?.unwrap_or_else(|| Value::text(&text));
        // Only plain scalars mean more than a text; what a block seems to mean is written out as a text again.
        let value = match style == Style::Block && node.tag.is_empty() {
            true => convert(&value, &Type::String).map_err(|e| e.to_string())?,
            false => value,
        };
        self.value((value, 1), node.anchor)
    }

    fn structure(&mut self, event: Event) -> Result<Option<Value>, String> {
        match event {
            Event::Alias(_) | Event::SequenceStart(_) | Event::MappingStart(_) if self.wants_key() => {
                Err("only strings are allowed as mapping keys".to_owned())
            }
            Event::Alias(name) => {
                if self.open.iter().any(|open| open.anchor.as_ref() == Some(&name)) {
                    return Err(format!("cannot refer to anchor {name:?} from inside its own definition"));
                }
                let found = self.anchors.get(&name).cloned();
                self.value(found.ok_or_else(|| format!("reference to undefined anchor {name:?}"))?, None)
            }
            Event::SequenceStart(node) => {
                check_tag(&node.tag, "seq", "sequence")?;
                self.open(node.anchor, Kind::Sequence(Vec::new()))
            }
            Event::MappingStart(node) => {
                check_tag(&node.tag, "map", "mapping")?;
                self.open(node.anchor, Kind::Mapping { entries: BTreeMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(None) };
                let value = match open.kind {
                    Kind::Sequence(values) => Value::tuple(values),
                    Kind::Mapping { entries, .. } => Value::object(entries),
                };
                self.value((value, open.weight), open.anchor)
            }
            _ => Err("expecting value but found the end of the document".to_owned()),
        }
    }

    fn open(&mut self, anchor: Option<String>, kind: Kind) -> Result<Option<Value>, String> {
        if self.open.len() >= Value::MAX_DEPTH {
            return Err("the document is nested too deeply".to_owned());
        }
        self.open.push(Open { anchor, weight: 1, kind });
        Ok(None)
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: Kind::Mapping { key: None, .. }, .. }))
    }

    /// Puts a finished value where it belongs, and gives it back where it is the document.
    fn value(&mut self, (value, weight): Weighed, anchor: Option<String>) -> Result<Option<Value>, String> {
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, (value.clone(), weight));
        }
        if self.open.len() + value.depth() > Value::MAX_DEPTH {
            return Err("the document is nested too deeply".to_owned());
        }
        let Some(open) = self.open.last_mut() else { return Ok(Some(value)) };
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
                // A value without a key does not come: it would be one.
                None => {}
            },
        }
        Ok(None)
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

fn check_tag(tag: &str, wanted: &str, what: &str) -> Result<(), String> {
    match tag.is_empty() || tag.strip_prefix(CORE) == Some(wanted) {
        true => Ok(()),
        false => Err(format!("can't interpret {what} as {tag}")),
    }
}

/// What a scalar means; `None` for the `<<` that merges a mapping into another one.
///
/// A quoted scalar is a text, and a plain one that looks like a value is that value, whatever the tag says; the tag counts
/// for what looks like nothing, and where it says that the text is meant.
fn resolve(text: &str, style: Style, tag: &str) -> Result<Option<Value>, String> {
    let kind = match tag.strip_prefix(CORE) {
        Some(kind @ ("str" | "bool" | "int" | "float" | "null" | "timestamp" | "binary")) => kind,
        None if tag.is_empty() => "",
        _ => return Err(format!("unsupported tag {tag:?}")),
    };
    let fail = || Err(format!("cannot parse {text:?} as {tag}"));
    let first = text.bytes().next();
    let telling = first.is_none_or(|b| b"+-.0123456789yYnNtTfFoO~".contains(&b));
    if telling && !matches!(kind, "str" | "binary") {
        if style == Style::Quoted {
            return Ok(Some(Value::text(text)));
        }
        if let Some(value) = word(text) {
            return Ok(Some(value));
        }
        if kind.is_empty() && matches!(text, ".nan" | ".NaN" | ".NAN") {
            return Err("floating point NaN is not supported".to_owned());
        }
        let numeric = first.is_some_and(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-'));
        if numeric
            && matches!(kind, "" | "timestamp")
            && let Some(time) = timestamp(text)
        {
            return Ok(Some(Value::from(time)));
        }
        if (numeric || first == Some(b'.'))
            && let Some(number) = number(text, numeric)
        {
            return Ok(Some(number));
        }
        if numeric && is_binary(text) {
            return whole(text).map_or_else(fail, |number| Ok(Some(number)));
        }
    }
    match kind {
        "" if text == "<<" => Ok(None),
        "binary" if super::encoding::decode(text).is_err() => fail(),
        "" | "str" | "binary" => Ok(Some(Value::text(text))),
        "int" | "float" => match number(text, true).or_else(|| whole(text)) {
            Some(number) => Ok(Some(number)),
            None => fail(),
        },
        "timestamp" => timestamp(text).map_or_else(fail, |time| Ok(Some(Value::from(time)))),
        "null" => Ok(Some(Value::null(Type::Dynamic))),
        // Every word that is a bool tells itself.
        _ => fail(),
    }
}

/// The words that are values.
fn word(text: &str) -> Option<Value> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::null(Type::Dynamic),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::bool(false)
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::number(Number::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::number(Number::NEGATIVE_INFINITY),
        _ => return None,
    })
}

/// A decimal number, with `_` anywhere between where that is `loose`; leading zeros mean nothing.
fn number(text: &str, loose: bool) -> Option<Value> {
    match loose && text.contains('_') {
        true => text.replace('_', "").parse::<Number>(),
        false => text.parse::<Number>(),
    }
    .ok()
    .map(Value::number)
}

fn is_binary(text: &str) -> bool {
    let digits = text.replace('_', "");
    digits.starts_with("0b") || digits.starts_with("-0b")
}

/// A whole number of 64 bits with the prefix of its base.
fn whole(text: &str) -> Option<Value> {
    parse_integer(&text.replace('_', "")).map(|n| Value::number(Number::from_bigint(&n.into())))
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
        return Moment::parse_lenient(&format!("{date}T00:00:00Z")).ok().map(|m| m.to_string());
    }
    // With `T` an offset must follow, with a space none may.
    let (clock, zone) = match time.strip_prefix(['T', 't']) {
        Some(time) => time.split_at(time.find(['Z', '+', '-'])?),
        None => (time.strip_prefix(' ')?, "Z"),
    };
    let (clock, fraction) = match clock.split_once(['.', ',']) {
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
    Moment::parse_lenient(&strict).ok().map(|m| m.to_string())
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
            ("[!!int yes, !!int 1.5, !!int '5', !!null x, !!float 1_0, 1p3]", r#"[true,1.5,"5",null,10,8]"#),
            ("- |-\n  5\n- >-\n  yes\n- |\n  1\n", r#"["5","true","1\n"]"#),
            ("a:\nb: ''\n", r#"{"a":null,"b":""}"#),
            ("just text", r#""just text""#),
            ("a: |\n  x\n  # y", r##"{"a":"x\n# y"}"##),
            ("a: |\n  x\n# y", r#"{"a":"x\n"}"#),
            ("- >+\n  é\n\n  y", r#"["é\ny"]"#),
            ("a:\tx\né:\t\ty\nc: \"d:\tz\"\n", r#"{"a":"x","c":"d:\tz","é":true}"#),
            ("a: b\rc: d\r", r#"{"a":"b","c":"d"}"#),
            ("a: 'b'#c\nd: [x]#e\n", r#"{"a":"b","d":["x"]}"#),
            ("a: b#c\n", r#"{"a":"b#c"}"#),
            ("%YAML 1.1\n%TAG !t! tag:yaml.org,2002:\n---\n!t!str 5\n...\n", r#""5""#),
        ] {
            let got = decode(yaml).and_then(|v| v.to_json_string().map_err(|e| e.to_string()));
            assert_eq!(got.as_deref(), Ok(want), "{yaml}");
        }
        assert_eq!(decode("-Inf"), Ok(Value::number(Number::NEGATIVE_INFINITY)));
        for yaml in ["~", "null", "---", "--- # nothing\n", "!!null x"] {
            assert_eq!(decode(yaml), Ok(Value::unknown(Type::Dynamic)), "{yaml}");
        }
        assert_eq!(decode("|-\n  ~"), Ok(Value::null(Type::String)));
        for yaml in [
            "",
            "a:\n\n\t\n  b",
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
            "\ta: b",
            "a: 1\n\tb: 2",
            "%YAML 1.2\n--- a",
            "&k k: 1\nb: *k",
            "a: \u{1}",
            "0b12",
            "!x y",
            "a: b: c",
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
        assert!(decode(&(0..5_000).map(|i| format!("k{i}:\tv\n")).collect::<String>()).is_ok());
        assert!(decode(&"{? ".repeat(100_000)).is_err());
    }
}
