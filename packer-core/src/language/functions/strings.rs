//! Functions on text, but for `format` and the encodings.

use std::collections::HashSet;

use regex::{Captures, Regex};
use unicode_segmentation::UnicodeSegmentation;

use super::{
    Add, Function, FunctionError, FunctionResult, Param, fits, fits_values, re2, text, types, whole,
};
use crate::value::{Type, Value};

pub(super) fn add(add: Add<'_>) {
    let string = Param::string;
    let one = |body: fn(&str) -> String| {
        Function::new([string("str")], Type::String, move |a, _| Ok(Value::text(&body(text(&a[0])))))
    };
    let two = |names: [&'static str; 2], body: fn(&str, &str) -> String| {
        Function::new(names.map(string), Type::String, move |a, _| {
            Ok(Value::text(&body(text(&a[0]), text(&a[1]))))
        })
    };
    let test = |names: [&'static str; 2], body: fn(&str, &str) -> bool| {
        Function::new(names.map(string), Type::Bool, move |a, _| {
            Ok(Value::bool(body(text(&a[0]), text(&a[1]))))
        })
    };
    let list_of_strings = || Type::list(Type::String);
    add("chomp", one(|s| s.trim_end_matches(['\r', '\n']).to_owned()));
    add("endswith", test(["str", "suffix"], |s, suffix| s.ends_with(suffix)));
    add("indent", Function::new([Param::number("spaces"), string("str")], Type::String, |a, _| indent(a)));
    add(
        "join",
        Function::new([string("separator")], Type::String, |a, _| join(a))
            .variadic(Param::new("lists", list_of_strings())),
    );
    add("lower", one(|s| s.chars().map(lower).collect()));
    let matching = || ["pattern", "string"].map(string);
    add("regex", Function::new(matching(), Type::Dynamic, |a, _| regex(a)).typed_by(types::regex));
    add(
        "regex_replace",
        Function::new(["str", "pattern", "replace"].map(string), Type::String, |a, _| regex_replace(a)),
    );
    add(
        "regexall",
        Function::new(matching(), Type::Dynamic, |a, _| regex_all(a))
            .typed_by(|a| types::regex(a).map(Type::list)),
    );
    add(
        "replace",
        Function::new(["str", "substr", "replace"].map(string), Type::String, |a, _| {
            replace(text(&a[0]), text(&a[1]), text(&a[2]))
        }),
    );
    add(
        "split",
        Function::new(["separator", "str"].map(string), list_of_strings(), |a, _| {
            split(text(&a[0]), text(&a[1]))
        }),
    );
    add("startswith", test(["str", "prefix"], |s, prefix| s.starts_with(prefix)));
    add("strcontains", test(["str", "substr"], |s, part| s.contains(part)));
    add("strrev", one(|s| s.graphemes(true).rev().collect()));
    add(
        "substr",
        Function::new(
            [string("str"), Param::number("offset"), Param::number("length")],
            Type::String,
            |a, _| substr(a),
        ),
    );
    add("title", one(title));
    add(
        "trim",
        two(["str", "cutset"], |s, cutset| {
            // Both may be long.
            let cutset: HashSet<char> = cutset.chars().collect();
            s.trim_matches(|c| cutset.contains(&c)).to_owned()
        }),
    );
    add("trimprefix", two(["str", "prefix"], |s, prefix| s.strip_prefix(prefix).unwrap_or(s).to_owned()));
    add("trimspace", one(|s| s.trim().to_owned()));
    add("trimsuffix", two(["str", "suffix"], |s, suffix| s.strip_suffix(suffix).unwrap_or(s).to_owned()));
    add("upper", one(|s| s.chars().map(upper).collect()));
}

/// One code point becomes one code point: letters whose other case is several stay as they are.
fn upper(c: char) -> char {
    let mut mapped = c.to_uppercase();
    match (mapped.next(), mapped.next()) {
        (Some(upper), None) => upper,
        _ => c,
    }
}

fn lower(c: char) -> char {
    // The only letter whose small form is several code points is the dotted capital I.
    if c == '\u{130}' { 'i' } else { c.to_lowercase().next().unwrap_or(c) }
}

/// The first letter of each word in title case. Letters, digits and `_` continue a word.
fn title(s: &str) -> String {
    let mut in_word = false;
    let mut titled = String::with_capacity(s.len());
    for c in s.chars() {
        titled.push(if in_word { c } else { title_case(c) });
        // As Go sees it: beyond ASCII every letter, digit, and whatever is no space continues a word.
        in_word = match c {
            '_' => true,
            c if c.is_ascii() => c.is_ascii_alphanumeric(),
            c => c.is_alphanumeric() || !c.is_whitespace(),
        };
    }
    titled
}

fn title_case(c: char) -> char {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => 'ǅ',
        'Ǉ' | 'ǈ' | 'ǉ' => 'ǈ',
        'Ǌ' | 'ǋ' | 'ǌ' => 'ǋ',
        'Ǳ' | 'ǲ' | 'ǳ' => 'ǲ',
        c => upper(c),
    }
}

fn indent(args: &[Value]) -> FunctionResult {
    let spaces =
        usize::try_from(whole(args, 0)?).map_err(|_| FunctionError::argument(0, "must not be negative"))?;
    let s = text(&args[1]);
    let lines = s.matches('\n').count();
    if lines == 0 {
        return Ok(args[1].clone());
    }
    fits(s.len().saturating_add(lines.saturating_mul(spaces)))?;
    replace(s, "\n", &format!("\n{}", " ".repeat(spaces)))
}

fn replace(s: &str, old: &str, new: &str) -> FunctionResult {
    fits(s.len().saturating_add(s.matches(old).count().saturating_mul(new.len())))?;
    Ok(Value::text(&s.replace(old, new)))
}

fn join(args: &[Value]) -> FunctionResult {
    if args.len() < 2 {
        return Err("at least one list is required".into());
    }
    let mut parts = Vec::new();
    for (i, list) in args.iter().enumerate().skip(1) {
        for (k, item) in list.as_slice().unwrap_or_default().iter().enumerate() {
            let Some(part) = item.as_str() else {
                let message = format!("element {k} of list is null; cannot concatenate null values");
                return Err(FunctionError::argument(i, message));
            };
            parts.push(part);
        }
    }
    let separator = text(&args[0]);
    fits(separator.len().saturating_mul(parts.len()))?;
    Ok(Value::text(&parts.join(separator)))
}

fn split(separator: &str, s: &str) -> FunctionResult {
    fits_values(if separator.is_empty() { s.chars().count() } else { s.matches(separator).count() })?;
    let parts: Vec<Value> = if separator.is_empty() {
        s.chars().map(|c| Value::text(c.encode_utf8(&mut [0; 4]))).collect()
    } else {
        s.split(separator).map(Value::text).collect()
    };
    Ok(Value::list(Type::String, parts))
}

/// Counts in grapheme clusters. A negative offset counts from the end; a length of -1 takes the rest.
fn substr(args: &[Value]) -> FunctionResult {
    let (s, mut offset, length) = (text(&args[0]), whole(args, 1)?, whole(args, 2)?);
    let clusters: Vec<&str> = s.graphemes(true).collect();
    if offset < 0 {
        offset = (offset.saturating_add(clusters.len() as i64)).max(0);
    } else if length == 0 {
        return Ok(Value::from(""));
    }
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(clusters.len());
    let rest = &clusters[start..];
    // A length of zero behind a negative offset takes the rest too: what Packer does, and templates may see.
    let taken =
        if length <= 0 { rest.len() } else { usize::try_from(length).unwrap_or(usize::MAX).min(rest.len()) };
    Ok(Value::text(&rest[..taken].concat()))
}

/// Compiles a pattern; the syntax is RE2's.
pub(super) fn pattern(args: &[Value], index: usize) -> Result<Regex, FunctionError> {
    re2::compile(text(&args[index]))
        .map_err(|e| FunctionError::argument(index, format!("invalid regexp pattern: {e}")))
}

/// What kind of value a pattern's matches are.
pub(super) enum Shape {
    Whole,
    Unnamed,
    Named,
}

pub(super) fn shape(pattern: &Regex) -> Result<Shape, FunctionError> {
    let groups = pattern.captures_len() - 1; // the whole match is always one
    let named = pattern.capture_names().flatten().count();
    match (groups, named) {
        (0, _) => Ok(Shape::Whole),
        (_, 0) => Ok(Shape::Unnamed),
        (groups, named) if groups == named => Ok(Shape::Named),
        _ => Err(FunctionError::argument(
            0,
            "invalid regexp pattern: cannot mix both named and unnamed capture groups",
        )),
    }
}

fn matched(pattern: &Regex, shape: &Shape, captures: &Captures<'_>) -> Value {
    let group = |found: Option<regex::Match<'_>>| match found {
        Some(found) => Value::text(found.as_str()),
        None => Value::null(Type::String),
    };
    match shape {
        Shape::Whole => group(captures.get(0)),
        Shape::Unnamed => Value::tuple((1..captures.len()).map(|i| group(captures.get(i)))),
        Shape::Named => {
            Value::object(pattern.capture_names().flatten().map(|name| (name, group(captures.name(name)))))
        }
    }
}

fn regex(args: &[Value]) -> FunctionResult {
    let pattern = pattern(args, 0)?;
    let shape = shape(&pattern)?;
    match pattern.captures(text(&args[1])) {
        Some(captures) => Ok(matched(&pattern, &shape, &captures)),
        None => Err("pattern did not match any part of the given string".into()),
    }
}

fn regex_all(args: &[Value]) -> FunctionResult {
    let pattern = pattern(args, 0)?;
    let shape = shape(&pattern)?;
    let element = types::matched(&pattern, &shape);
    let groups = pattern.captures_len();
    let mut all = Vec::new();
    for captures in pattern.captures_iter(text(&args[1])) {
        fits_values(all.len().saturating_mul(groups))?;
        all.push(matched(&pattern, &shape, &captures));
    }
    Ok(Value::list(element, all))
}

fn regex_replace(args: &[Value]) -> FunctionResult {
    let pattern = pattern(args, 1)?;
    let (s, new) = (text(&args[0]), text(&args[2]));
    let mut replaced = String::with_capacity(s.len());
    let mut end = 0;
    for captures in pattern.captures_iter(s) {
        let Some(whole) = captures.get(0) else { continue };
        replaced.push_str(&s[end..whole.start()]);
        captures.expand(new, &mut replaced);
        end = whole.end();
        fits(replaced.len())?;
    }
    replaced.push_str(&s[end..]);
    Ok(Value::text(&replaced))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indents_as_far_as_the_result_allows() {
        let call = |spaces: i64, s: &str| indent(&[Value::from(spaces), Value::from(s)]);
        assert_eq!(call(2, "a\nb\n"), Ok(Value::from("a\n  b\n  ")));
        assert_eq!(call(i64::MAX, "a"), Ok(Value::from("a")));
        let wide = call(100_000, "a\nb").unwrap();
        assert_eq!(text(&wide).len(), 100_003);
        assert!(call(i64::MAX, "a\nb").is_err() && call(-1, "a\nb").is_err() && call(-1, "a").is_err());
    }
}
