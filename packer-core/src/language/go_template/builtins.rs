//! The functions that Go's template language brings along.

use std::cmp::Ordering;
use std::fmt::Write;

use super::data::Data;
use super::{Kind, Signature, printf};

pub(super) struct Builtin {
    pub(super) signature: Signature,
    pub(super) call: fn(&[Data]) -> Result<Data, String>,
}

pub(super) fn exists(name: &str) -> bool {
    find(name).is_some()
}

/// The function of a name. `and` and `or` are here for their signature; the executor evaluates them itself.
pub(super) fn find(name: &str) -> Option<Builtin> {
    const NONE: &[Kind] = &[];
    const ONE: &[Kind] = &[Kind::Any];
    const TWO: &[Kind] = &[Kind::Any, Kind::Any];
    const ANY: Option<Kind> = Some(Kind::Any);
    type Call = fn(&[Data]) -> Result<Data, String>;
    let (fixed, variadic, call): (&'static [Kind], Option<Kind>, Call) = match name {
        "and" | "or" => (ONE, ANY, |a| Ok(a.last().cloned().unwrap_or_default())),
        "not" => (ONE, None, |a| Ok(Data::Bool(!first(a).truth()))),
        "eq" => (ONE, ANY, equal),
        "ne" => (TWO, None, |a| Ok(Data::Bool(!same(first(a), second(a))?))),
        "lt" => (TWO, None, |a| Ok(Data::Bool(order(a)? == Some(Ordering::Less)))),
        "le" => (TWO, None, |a| {
            let order = order(a)?;
            Ok(Data::Bool(matches!(order, Some(Ordering::Less | Ordering::Equal))))
        }),
        // As Go has it, these two negate: they are true for numbers that do not compare.
        "gt" => (TWO, None, |a| {
            let order = order(a)?;
            Ok(Data::Bool(!matches!(order, Some(Ordering::Less | Ordering::Equal))))
        }),
        "ge" => (TWO, None, |a| Ok(Data::Bool(order(a)? != Some(Ordering::Less)))),
        "len" => (ONE, None, len),
        "index" => (ONE, ANY, index),
        "slice" => (ONE, ANY, slice),
        "print" => (NONE, ANY, |a| Ok(printf::sprint(a).into())),
        "println" => (NONE, ANY, |a| Ok(printf::sprintln(a).into())),
        "printf" => (&[Kind::String], ANY, |a| {
            let format = first(a).as_str().unwrap_or_default();
            Ok(printf::sprintf(format, a.get(1..).unwrap_or_default())?.into())
        }),
        "html" => (NONE, ANY, |a| Ok(html(&joined(a)).into())),
        "js" => (NONE, ANY, |a| Ok(js(&joined(a)).into())),
        "urlquery" => (NONE, ANY, |a| Ok(url_query(&joined(a)).into())),
        "call" => (ONE, ANY, |a| {
            let function = first(a);
            Err(match function {
                Data::Nil => "call of nil".into(),
                other => format!("non-function of type {}", other.type_name()),
            })
        }),
        _ => return None,
    };
    Some(Builtin { signature: Signature { fixed, variadic }, call })
}

fn first(arguments: &[Data]) -> &Data {
    arguments.first().unwrap_or(&Data::Nil)
}

fn second(arguments: &[Data]) -> &Data {
    arguments.get(1).unwrap_or(&Data::Nil)
}

/// Whether the first argument is any of the others.
fn equal(arguments: &[Data]) -> Result<Data, String> {
    if arguments.len() < 2 {
        return Err("missing argument for comparison".into());
    }
    for other in &arguments[1..] {
        if same(first(arguments), other)? {
            return Ok(Data::Bool(true));
        }
    }
    Ok(Data::Bool(false))
}

fn same(a: &Data, b: &Data) -> Result<bool, String> {
    match (a, b) {
        (Data::Nil, Data::Nil) => Ok(true),
        (Data::Nil, _) | (_, Data::Nil) => Ok(false),
        (Data::Bool(a), Data::Bool(b)) => Ok(a == b),
        (Data::Int(_) | Data::Byte(_), Data::Int(_) | Data::Byte(_)) => Ok(a.whole() == b.whole()),
        (Data::Float(a), Data::Float(b)) => Ok(a == b),
        (Data::Complex(..), Data::Complex(..)) => Ok(a == b),
        (Data::String(a), Data::String(b)) => Ok(a == b),
        (Data::List(_), Data::List(_)) | (Data::Map(_), Data::Map(_)) => {
            Err(format!("non-comparable type {}: {}", printf::print(a), a.type_name()))
        }
        (a, b) => Err(incompatible(a, b)),
    }
}

fn incompatible(a: &Data, b: &Data) -> String {
    format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name())
}

fn order(arguments: &[Data]) -> Result<Option<Ordering>, String> {
    match (first(arguments), second(arguments)) {
        (a @ (Data::Int(_) | Data::Byte(_)), b @ (Data::Int(_) | Data::Byte(_))) => {
            Ok(Some(a.whole().cmp(&b.whole())))
        }
        (Data::Float(a), Data::Float(b)) => Ok(a.partial_cmp(b)),
        (Data::String(a), Data::String(b)) => Ok(Some(a.as_bytes().cmp(b.as_bytes()))),
        (Data::Nil | Data::List(_) | Data::Map(_), _) | (_, Data::Nil | Data::List(_) | Data::Map(_)) => {
            Err("invalid type for comparison".into())
        }
        (Data::Bool(_), Data::Bool(_)) | (Data::Complex(..), Data::Complex(..)) => {
            Err("invalid type for comparison".into())
        }
        (a, b) => Err(incompatible(a, b)),
    }
}

fn len(arguments: &[Data]) -> Result<Data, String> {
    let len = match first(arguments) {
        Data::String(text) => text.len(),
        Data::List(items) => items.len(),
        Data::Map(entries) => entries.len(),
        Data::Nil => return Err("len of nil pointer".into()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Data::Int(len as i64))
}

/// A position in a list or text, checked.
fn position(index: &Data, limit: usize) -> Result<usize, String> {
    if let Some(n) = index.whole() {
        let position = usize::try_from(n).ok().filter(|n| *n < limit);
        return position.ok_or_else(|| format!("index out of range: {n}"));
    }
    match index {
        Data::Nil => Err("cannot index slice/array with nil".into()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

/// `index x 1 "a"` is what `x[1]["a"]` would be.
fn index(arguments: &[Data]) -> Result<Data, String> {
    let mut item = first(arguments).clone();
    if item == Data::Nil {
        return Err("index of untyped nil".into());
    }
    for at in &arguments[1..] {
        item = match &item {
            Data::Nil => return Err("index of nil pointer".into()),
            Data::String(text) => {
                let at = position(at, text.len())?;
                Data::Byte(text.as_bytes().get(at).copied().unwrap_or_default())
            }
            Data::List(items) => items.get(position(at, items.len())?).cloned().unwrap_or_default(),
            Data::Map(entries) => match at {
                Data::String(key) => entries.get(key).cloned().unwrap_or_default(),
                Data::Nil => return Err("value is nil; should be of type string".into()),
                other => {
                    return Err(format!("value has type {}; should be string", other.type_name()));
                }
            },
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(item)
}

/// `slice x 1 3` is what `x[1:3]` would be; a text is cut at bytes, and half a character becomes U+FFFD.
fn slice(arguments: &[Data]) -> Result<Data, String> {
    let item = first(arguments);
    let bounds = arguments.get(1..).unwrap_or_default();
    if *item == Data::Nil {
        return Err("slice of untyped nil".into());
    }
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let len = match item {
        Data::String(_) if bounds.len() == 3 => return Err("cannot 3-index slice a string".into()),
        Data::String(text) => text.len(),
        Data::List(items) => items.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let mut at = [0, len, len];
    for (slot, bound) in at.iter_mut().zip(bounds) {
        *slot = position(bound, len + 1)?;
    }
    let [from, to, cap] = at;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    if to > cap {
        return Err(format!("invalid slice index: {to} > {cap}"));
    }
    Ok(match item {
        Data::String(text) => String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned().into(),
        Data::List(items) => Data::List(items[from..to].into()),
        _ => Data::Nil,
    })
}

/// The arguments of an escaping function as one text.
fn joined(arguments: &[Data]) -> String {
    match arguments {
        [Data::String(text)] => text.to_string(),
        arguments => {
            let shown = |a: &Data| if *a == Data::Nil { "<no value>".into() } else { a.clone() };
            printf::sprint(&arguments.iter().map(shown).collect::<Vec<_>>())
        }
    }
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c if c < ' ' || (!c.is_ascii() && !printf::is_print(c)) => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

fn url_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(b.into()),
            b' ' => out.push('+'),
            b => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}
