//! Equality of values and the order of sets.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Data, Number, Type, Value, quote};

impl Value {
    /// The `==` of the language: never converts, so values of different types differ; nulls of any types are
    /// equal; the result is unknown where something unknown decides, and sensitive where either side is.
    pub fn equals(&self, other: &Self) -> Self {
        let result = compare(self, other).map_or_else(|| Self::unknown(Type::Bool), Self::bool);
        result.sensitive_if(self.contains_sensitive || other.contains_sensitive)
    }
}

/// `None` where it cannot be told yet.
fn compare(a: &Value, b: &Value) -> Option<bool> {
    match (a.is_known(), b.is_known()) {
        (false, false) => return None,
        (true, false) => return compare_with_unknown(a, &b.ty()),
        (false, true) => return compare_with_unknown(b, &a.ty()),
        (true, true) => {}
    }
    if a.is_null() || b.is_null() {
        return Some(a.is_null() && b.is_null());
    }
    if a.is_too_deep() || b.is_too_deep() {
        return None;
    }
    if let Some(equal) = primitives_equal(a, b) {
        return Some(equal);
    }
    if has_untyped_unknown(a) || has_untyped_unknown(b) {
        return None;
    }
    if a.ty() != b.ty() {
        return Some(false);
    }
    same_type_equal(a, b)
}

/// Whether something in it may still get any type. A null has none either, but keeps it.
fn has_untyped_unknown(value: &Value) -> bool {
    match &value.data {
        Data::Unknown(ty) => *ty == Type::Dynamic,
        _ => !value.is_wholly_known() && value.children().any(has_untyped_unknown),
    }
}

fn compare_with_unknown(known: &Value, unknown: &Type) -> Option<bool> {
    if known.is_null() || unknown.has_dynamic() || known.ty() == *unknown { None } else { Some(false) }
}

/// `None` where both are containers.
fn primitives_equal(a: &Value, b: &Value) -> Option<bool> {
    match (&a.data, &b.data) {
        (Data::String(a), Data::String(b)) => Some(a == b),
        (Data::Number(a), Data::Number(b)) => Some(a == b),
        (Data::Bool(a), Data::Bool(b)) => Some(a == b),
        (Data::String(_) | Data::Number(_) | Data::Bool(_), _) => Some(false),
        (_, Data::String(_) | Data::Number(_) | Data::Bool(_)) => Some(false),
        _ => None,
    }
}

/// Both are known and of the same type, down to their elements.
fn same_type_equal(a: &Value, b: &Value) -> Option<bool> {
    if a.is_null() || b.is_null() {
        // A null and an unknown may turn out equal.
        return if a.is_known() && b.is_known() { Some(a.is_null() && b.is_null()) } else { None };
    }
    if !a.is_known() || !b.is_known() {
        return None;
    }
    if let Some(equal) = primitives_equal(a, b) {
        return Some(equal);
    }
    let is_set = matches!(a.data, Data::Set(..));
    if is_set && !(a.is_wholly_known() && b.is_wholly_known()) {
        return None;
    }
    if a.len() != b.len() {
        return Some(false);
    }
    if let (Some(a), Some(b)) = (a.as_map(), b.as_map())
        && !a.keys().eq(b.keys())
    {
        return Some(false);
    }
    let mut result = Some(true);
    for (x, y) in a.children().zip(b.children()) {
        match same_type_equal(x, y) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => result = None,
        }
    }
    result
}

/// Identity rather than the language's `==`: unknowns of one type are the same, marks and types count. For tests
/// and for finding out whether anything changed.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        if self.sensitive != other.sensitive || self.depth != other.depth {
            return false;
        }
        match (&self.data, &other.data) {
            (Data::Unknown(a), Data::Unknown(b)) | (Data::Null(a), Data::Null(b)) => a == b,
            (Data::Bool(a), Data::Bool(b)) => a == b,
            (Data::Number(a), Data::Number(b)) => a == b,
            (Data::String(a), Data::String(b)) => a == b,
            (Data::List(t, a), Data::List(u, b)) | (Data::Set(t, a), Data::Set(u, b)) => {
                t == u && (Arc::ptr_eq(a, b) || !self.is_too_deep() && a == b)
            }
            (Data::Map(t, a), Data::Map(u, b)) => {
                t == u && (Arc::ptr_eq(a, b) || !self.is_too_deep() && a == b)
            }
            (Data::Tuple(a), Data::Tuple(b)) => Arc::ptr_eq(a, b) || !self.is_too_deep() && a == b,
            (Data::Object(a), Data::Object(b)) => Arc::ptr_eq(a, b) || !self.is_too_deep() && a == b,
            _ => false,
        }
    }
}

/// The elements in the order of a set, each once. Elements that are not wholly known may still differ, so
/// they all stay.
pub(super) fn sort_set(mut values: Vec<Value>) -> Vec<Value> {
    let primitive = |v: &Value| v.depth == 0;
    if values.iter().all(primitive) {
        values.sort_by(compare_primitives);
    } else {
        values.sort_by_cached_key(|v| {
            let mut key = String::new();
            write_key(v, &mut key);
            (!v.is_known(), v.is_null(), key, identity(v))
        });
    }
    // Equal elements are neighbours now. Which of two equal numbers stays does not show, but a mark does.
    let mut distinct: Vec<Value> = Vec::with_capacity(values.len());
    for v in values {
        match distinct.last_mut() {
            Some(last)
                if last.is_wholly_known()
                    && v.is_wholly_known()
                    && same_type_equal(last, &v) == Some(true) =>
            {
                if v.contains_sensitive {
                    *last = last.clone().sensitive();
                }
            }
            _ => distinct.push(v),
        }
    }
    distinct
}

/// Strings by bytes, numbers ascending, false before true, then null, then unknown.
fn compare_primitives(a: &Value, b: &Value) -> Ordering {
    match (&a.data, &b.data) {
        (Data::String(a), Data::String(b)) => a.cmp(b),
        (Data::Number(a), Data::Number(b)) => a.cmp(b),
        (Data::Bool(a), Data::Bool(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn rank(v: &Value) -> u8 {
    match v.data {
        Data::Unknown(_) => 9,
        Data::Null(_) => 8,
        Data::Bool(_) => 0,
        Data::Number(_) => 1,
        Data::String(_) => 2,
        _ => 3,
    }
}

/// A text that is the same for two wholly known values of one type just when they are equal.
pub(crate) fn identity(value: &Value) -> String {
    let mut key = String::new();
    // The decimal text will not do: two numbers of different precision can share it.
    write(value, &mut key, &Number::exact_text);
    key
}

/// The text that orders compound elements, as cty makes it: numbers by ten digits, strings quoted, `<…>` around
/// tuples and objects, `[…]` around lists and sets, `{…}` around maps.
fn write_key(v: &Value, out: &mut String) {
    write(v, out, &|n| n.format('g', Some(10)));
}

fn write(v: &Value, out: &mut String, number: &dyn Fn(&Number) -> String) {
    if v.is_too_deep() {
        return;
    }
    let (open, close) = match &v.data {
        Data::Unknown(_) => return out.push('?'),
        Data::Null(_) => return out.push('~'),
        Data::Bool(b) => return out.push(if *b { 'T' } else { 'F' }),
        // `-0` is 0.
        Data::Number(n) if n.is_zero() => return out.push('0'),
        Data::Number(n) => return out.push_str(&number(n)),
        Data::String(s) => return out.push_str(&quote::quote(s)),
        Data::List(..) | Data::Set(..) => ('[', ']'),
        Data::Tuple(_) | Data::Object(_) => ('<', '>'),
        Data::Map(_, m) => {
            out.push('{');
            for (k, v) in m.iter() {
                out.push_str(&quote::quote(k));
                out.push(':');
                write(v, out, number);
                out.push(';');
            }
            return out.push('}');
        }
    };
    out.push(open);
    for v in v.children() {
        write(v, out, number);
        out.push(';');
    }
    out.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_is_that_of_the_language() {
        let (one, text) = (Value::from(1), Value::from("1"));
        let unknown = Value::unknown(Type::String);
        let tuple = |v: &Value| Value::tuple([v.clone(), Value::from(true)]);
        for (a, b, want) in [
            (&one, &one, Some(true)),
            (&one, &text, Some(false)),
            (&Value::null(Type::Bool), &Value::null(Type::Dynamic), Some(true)),
            (&Value::null(Type::Bool), &one, Some(false)),
            (&unknown, &text, None),
            (&unknown, &one, Some(false)),
            (&unknown, &Value::null(Type::Dynamic), None),
            (&tuple(&unknown), &tuple(&text), None),
            (&tuple(&one), &tuple(&one), Some(true)),
            (&tuple(&one), &Value::tuple([one.clone()]), Some(false)),
            (&tuple(&Value::null(Type::Dynamic)), &tuple(&Value::null(Type::Dynamic)), Some(true)),
            (&tuple(&Value::null(Type::Dynamic)), &tuple(&one), Some(false)),
            (&tuple(&Value::unknown(Type::Dynamic)), &tuple(&one), None),
            (&Value::tuple([one.clone()]), &Value::list(Type::Number, [one.clone()]), Some(false)),
            (&Value::object([("a", one.clone())]), &Value::object([("b", one.clone())]), Some(false)),
        ] {
            assert_eq!(a.equals(b).as_bool(), want, "{a:?} == {b:?}");
            assert_eq!(b.equals(a).as_bool(), want, "{b:?} == {a:?}");
        }
        assert!(Value::tuple([one.clone().sensitive()]).equals(&text).is_sensitive());
    }

    #[test]
    fn sets_are_sorted_and_distinct() {
        let numbers = Value::set(Type::Number, [10, 9, 1, 10].map(Value::from));
        assert_eq!(format!("{numbers:?}"), "set(number)[1, 9, 10]");
        let strings = [Value::from("b"), Value::null(Type::String), Value::from("a"), Value::from("b")];
        assert_eq!(
            format!("{:?}", Value::set(Type::String, strings)),
            r#"set(string)["a", "b", null(string)]"#
        );
        let marked = Value::set(Type::String, [Value::from("a"), Value::from("a").sensitive()]);
        assert_eq!(marked.len(), Some(1));
        assert!(marked.is_sensitive());
        let pair = |n: &str| Value::tuple([Value::number(n.parse::<Number>().unwrap())]);
        let close = ["1.00000000001", "1.00000000002", "1.00000000001", "0.5"].map(pair);
        assert_eq!(Value::set(Type::tuple([Type::Number]), close).len(), Some(3));
        let tenths = [Number::from_f64(0.1).unwrap(), "0.1".parse().unwrap()];
        assert_ne!(identity(&Value::number(tenths[0].clone())), identity(&Value::number(tenths[1].clone())));
        let unknowns = Value::set(Type::String, [Value::unknown(Type::String), Value::unknown(Type::String)]);
        assert_eq!(unknowns.len(), Some(2));
    }
}
