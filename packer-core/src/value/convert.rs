//! Conversion of values between types.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Data, Number, ObjectType, Type, Value, quote, unify};

/// Converts a value to a type, as the language does wherever a type is asked for.
///
/// Numbers and bools become strings and strings that look like them become numbers and bools; tuples become
/// lists and sets, objects maps, and the reverse where it fits; attributes that are not asked for are dropped,
/// optional ones that are missing become null. `any` inside the wanted type takes the one type that the
/// elements unify to. Marks stay where they are. Null and unknown stay, in the new type.
pub fn convert(value: &Value, to: &Type) -> Result<Value, ConversionError> {
    if value.is_too_deep() {
        return Err(ConversionError::new("nested too deeply"));
    }
    Ok(convert_data(value, to)?.with_marks_of(value))
}

/// Why a value cannot be converted, in cty's words, and where in the value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConversionError {
    /// The way from the value to the part that does not fit.
    pub path: Vec<PathStep>,
    /// What is required: `string required`.
    pub message: String,
}

/// One step into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathStep {
    /// An attribute of an object.
    Attribute(Arc<str>),
    /// An element of a map.
    Key(Arc<str>),
    /// An element of a list, set or tuple, from 0.
    Index(usize),
}

impl ConversionError {
    fn new(message: impl Into<String>) -> Self {
        Self { path: Vec::new(), message: message.into() }
    }

    fn required(to: &Type) -> Self {
        Self::new(format!("{} required", to.friendly_name_wanted()))
    }

    /// The error together with what came in the place of what was wanted: `element 1: a number is required, not the
    /// string "x"`. `value` is what was to be converted. Of what is sensitive only the type is told.
    pub fn about(&self, value: &Value) -> String {
        let mut part = Some(value);
        let mut sensitive = value.is_sensitive();
        for step in &self.path {
            part = part.and_then(|v| match step {
                PathStep::Attribute(name) | PathStep::Key(name) => v.get(name),
                PathStep::Index(i) => v.as_slice()?.get(*i),
            });
            sensitive |= part.is_some_and(Value::is_sensitive);
        }
        match part {
            // What an object lacks says enough.
            Some(part) if !self.message.contains("attribute") => {
                format!("{self}, not {}", came(part, sensitive))
            }
            _ => self.to_string(),
        }
    }

    fn inside(mut self, step: PathStep) -> Self {
        // Nesting is bounded, so putting the step first is cheap.
        self.path.insert(0, step);
        self
    }
}

/// A value in a few words: `the string "x"`, `a list of string`.
fn came(value: &Value, sensitive: bool) -> String {
    const LONGEST: usize = 60;
    match &value.data {
        _ if sensitive => format!("a (sensitive) {}", value.ty().friendly_name()),
        Data::Null(_) => "null".into(),
        Data::Bool(b) => b.to_string(),
        Data::Number(n) if n.is_integer() => format!("the number {n}"),
        // Where a text is cut, a part of a secret might be left that nobody finds any more.
        Data::String(s) if s.chars().count() > LONGEST => {
            format!("a string of {} characters", s.chars().count())
        }
        Data::String(s) => format!("the string {}", quote::quote(s)),
        _ => {
            let name = value.ty().friendly_name();
            let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
            format!("{article} {name}")
        }
    }
}

/// `element 1: attribute "a": string required`.
impl fmt::Display for ConversionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.path {
            match step {
                PathStep::Attribute(name) => write!(f, "attribute {name:?}: ")?,
                PathStep::Key(name) => write!(f, "element {name:?}: ")?,
                PathStep::Index(i) => write!(f, "element {i}: ")?,
            }
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConversionError {}

type Result1<T> = Result<T, ConversionError>;

fn convert_data(value: &Value, to: &Type) -> Result1<Value> {
    match (&value.data, to) {
        (_, Type::Dynamic) => Ok(value.clone()),
        (Data::Unknown(from), _) => Ok(Value::unknown(converted_type(from, to)?)),
        (Data::Null(from), _) => Ok(Value::null(converted_type(from, to)?)),
        (Data::String(_), Type::String) | (Data::Number(_), Type::Number) | (Data::Bool(_), Type::Bool) => {
            Ok(value.clone())
        }
        (Data::Number(n), Type::String) => Ok(Value::string(n.to_string())),
        (Data::Bool(b), Type::String) => Ok(Value::from(if *b { "true" } else { "false" })),
        (Data::String(s), Type::Number) => match s.parse::<Number>() {
            Ok(n) => Ok(Value::number(n)),
            Err(e) => Err(ConversionError::new(e.to_string())),
        },
        (Data::String(s), Type::Bool) => string_to_bool(s),
        (Data::List(e, v), Type::List(t) | Type::Set(t))
        | (Data::Set(e, v), Type::List(t) | Type::Set(t)) => {
            converted_type(e, t)?;
            if **t == Type::Dynamic || e == &**t {
                return Ok(sequence(to, e.clone(), v.to_vec()));
            }
            convert_sequence(v, t, e, to)
        }
        (Data::Tuple(v), Type::List(t) | Type::Set(t)) => convert_sequence(v, t, &Type::Dynamic, to),
        (Data::Tuple(v), Type::Tuple(types)) if v.len() == types.len() => {
            let values: Result1<Vec<Value>> = v
                .iter()
                .zip(types.iter())
                .enumerate()
                .map(|(i, (v, t))| convert(v, t).map_err(|e| e.inside(PathStep::Index(i))))
                .collect();
            Ok(Value::tuple(values?))
        }
        (Data::Map(e, m), Type::Map(t)) => {
            converted_type(e, t)?;
            if **t == Type::Dynamic || e == &**t {
                return Ok(value.clone());
            }
            convert_map(m, t, e, PathStep::Key)
        }
        (Data::Object(m), Type::Map(t)) => convert_map(m, t, &Type::Dynamic, PathStep::Attribute),
        (Data::Object(m), Type::Object(o)) => {
            require_attributes(o, |name| m.contains_key(name), |names| missing_attributes(&names))?;
            convert_to_object(m, o, PathStep::Attribute)
        }
        (Data::Map(e, m), Type::Object(o)) => {
            for (name, t) in &o.attributes {
                converted_type(e, t).map_err(|e| e.inside(PathStep::Attribute(name.clone())))?;
            }
            require_attributes(
                o,
                |name| m.contains_key(name),
                |names| {
                    let name = names.first().copied().unwrap_or_default();
                    format!("map has no element for required attribute {name:?}")
                },
            )?;
            convert_to_object(m, o, PathStep::Key)
        }
        _ => Err(ConversionError::required(to)),
    }
}

fn string_to_bool(text: &str) -> Result1<Value> {
    match text {
        "true" | "1" => Ok(Value::bool(true)),
        "false" | "0" => Ok(Value::bool(false)),
        "True" | "TRUE" => {
            Err(ConversionError::new("a bool is required; to convert from string, use lowercase \"true\""))
        }
        "False" | "FALSE" => {
            Err(ConversionError::new("a bool is required; to convert from string, use lowercase \"false\""))
        }
        _ => Err(ConversionError::new("a bool is required")),
    }
}

/// Elements to a list or set; `empty` is the element type of a list(any) without elements.
fn convert_sequence(values: &[Value], element: &Type, empty: &Type, to: &Type) -> Result1<Value> {
    let step = |i: usize| PathStep::Index(i);
    let converted: Result1<Vec<Value>> =
        values.iter().enumerate().map(|(i, v)| convert(v, element).map_err(|e| e.inside(step(i)))).collect();
    let kind = if matches!(to, Type::Set(_)) { "set" } else { "list" };
    let (element, values) = one_type(converted?, element, empty, kind)?;
    Ok(sequence(to, element, values))
}

fn sequence(to: &Type, element: Type, values: Vec<Value>) -> Value {
    if matches!(to, Type::Set(_)) { Value::set(element, values) } else { Value::list(element, values) }
}

fn convert_map(
    values: &BTreeMap<Arc<str>, Value>,
    element: &Type,
    empty: &Type,
    step: fn(Arc<str>) -> PathStep,
) -> Result1<Value> {
    let converted: Result1<Vec<Value>> =
        values.iter().map(|(k, v)| convert(v, element).map_err(|e| e.inside(step(k.clone())))).collect();
    let (element, converted) = one_type(converted?, element, empty, "map")?;
    Ok(Value::map(element, values.keys().cloned().zip(converted)))
}

/// Gives the elements of a collection one type where the wanted one leaves it open.
fn one_type(values: Vec<Value>, element: &Type, empty: &Type, kind: &str) -> Result1<(Type, Vec<Value>)> {
    if !element.has_dynamic() {
        return Ok((element.without_optional(), values));
    }
    if values.is_empty() {
        let element = if *element == Type::Dynamic { empty } else { element };
        return Ok((element.without_optional(), values));
    }
    if *element == Type::Dynamic && stays_open(&values, kind) {
        return Err(ConversionError::new(format!("all {kind} elements must have the same type")));
    }
    match unify::convert_all(&values) {
        Some(converted) => converted,
        None => Err(ConversionError::new(format!("all {kind} elements must have the same type"))),
    }
}

/// Whether values without a type keep the others from having one: beside structures a bare null does. In a map it does not
/// where the others have one type anyhow.
fn stays_open(values: &[Value], kind: &str) -> bool {
    let untyped = |v: &Value| matches!(v.data(), Data::Null(Type::Dynamic) | Data::Unknown(Type::Dynamic));
    if !values.iter().any(untyped) {
        return false;
    }
    let types: Vec<Type> = values.iter().map(Value::ty).collect();
    let mut known = types.iter().filter(|t| **t != Type::Dynamic);
    let Some(first) = known.next() else { return false };
    unify(&types) == Some(Type::Dynamic) && (kind != "map" || known.any(|t| t != first))
}

fn require_attributes<'o>(
    wanted: &'o ObjectType,
    has: impl Fn(&str) -> bool,
    message: impl Fn(Vec<&'o str>) -> String,
) -> Result1<()> {
    let missing: Vec<&str> = wanted
        .attributes
        .keys()
        .filter(|name| !wanted.optional.contains(*name) && !has(name))
        .map(|name| &**name)
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(ConversionError::new(message(missing))) }
}

/// `attribute "a" is required`, `attributes "a", "b" and "c" are required`.
fn missing_attributes(names: &[&str]) -> String {
    match names {
        [one] => format!("attribute {one:?} is required"),
        [most @ .., last] => {
            let most: Vec<String> = most.iter().map(|n| format!("{n:?}")).collect();
            format!("attributes {} and {last:?} are required", most.join(", "))
        }
        [] => String::new(),
    }
}

fn convert_to_object(
    values: &BTreeMap<Arc<str>, Value>,
    wanted: &ObjectType,
    step: fn(Arc<str>) -> PathStep,
) -> Result1<Value> {
    let attributes: Result1<Vec<(Arc<str>, Value)>> = wanted
        .attributes
        .iter()
        .map(|(name, t)| match values.get(name) {
            Some(v) => Ok((name.clone(), convert(v, t).map_err(|e| e.inside(step(name.clone())))?)),
            None => Ok((name.clone(), Value::null(t.without_optional()))),
        })
        .collect();
    Ok(Value::object(attributes?))
}

/// The type a value of type `from` has after conversion to `to`; an error where no value could be converted.
pub(super) fn converted_type(from: &Type, to: &Type) -> Result1<Type> {
    match (from, to) {
        (_, Type::Dynamic) => Ok(from.clone()),
        (Type::Dynamic, _) => Ok(to.without_optional()),
        (Type::String | Type::Number | Type::Bool, Type::String)
        | (Type::String | Type::Number, Type::Number)
        | (Type::String | Type::Bool, Type::Bool) => Ok(to.clone()),
        (Type::List(e) | Type::Set(e), Type::List(t)) => converted_type(e, t).map(Type::list),
        (Type::List(e) | Type::Set(e), Type::Set(t)) => converted_type(e, t).map(Type::set),
        (Type::Map(e), Type::Map(t)) => converted_type(e, t).map(Type::map),
        (Type::Tuple(es), Type::List(t) | Type::Set(t)) => {
            let elements: Result1<Vec<Type>> = es
                .iter()
                .enumerate()
                .map(|(i, e)| converted_type(e, t).map_err(|e| e.inside(PathStep::Index(i))))
                .collect();
            let is_set = matches!(to, Type::Set(_));
            let element = one_element_type(elements?, t, if is_set { "set" } else { "list" })?;
            Ok(if is_set { Type::set(element) } else { Type::list(element) })
        }
        (Type::Object(o), Type::Map(t)) => {
            let elements: Result1<Vec<Type>> = o
                .attributes
                .iter()
                .map(|(k, e)| converted_type(e, t).map_err(|e| e.inside(PathStep::Attribute(k.clone()))))
                .collect();
            one_element_type(elements?, t, "map").map(Type::map)
        }
        (Type::Tuple(es), Type::Tuple(ts)) if es.len() == ts.len() => {
            let elements: Result1<Vec<Type>> = es
                .iter()
                .zip(ts.iter())
                .enumerate()
                .map(|(i, (e, t))| converted_type(e, t).map_err(|e| e.inside(PathStep::Index(i))))
                .collect();
            Ok(Type::tuple(elements?))
        }
        (Type::Object(o), Type::Object(t)) => {
            require_attributes(
                t,
                |name| o.attributes.contains_key(name),
                |names| missing_attributes(&names),
            )?;
            attribute_types(t, |name| o.attributes.get(name))
        }
        (Type::Map(e), Type::Object(t)) => attribute_types(t, |_| Some(e)),
        _ => Err(ConversionError::required(to)),
    }
}

fn one_element_type(elements: Vec<Type>, wanted: &Type, kind: &str) -> Result1<Type> {
    if !wanted.has_dynamic() || elements.is_empty() {
        return Ok(wanted.without_optional());
    }
    // Where a type is not known yet, one for all cannot be found.
    unify(&elements)
        .filter(|t| *t != Type::Dynamic || elements.iter().all(|e| *e == Type::Dynamic))
        .ok_or_else(|| ConversionError::new(format!("all {kind} elements must have the same type")))
}

fn attribute_types<'t>(wanted: &ObjectType, from: impl Fn(&str) -> Option<&'t Type>) -> Result1<Type> {
    let attributes: Result1<Vec<(Arc<str>, Type)>> = wanted
        .attributes
        .iter()
        .map(|(name, t)| match from(name) {
            Some(e) => converted_type(e, t)
                .map(|t| (name.clone(), t))
                .map_err(|e| e.inside(PathStep::Attribute(name.clone()))),
            None => Ok((name.clone(), t.without_optional())),
        })
        .collect();
    attributes.map(Type::object)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn s(text: &str) -> Value {
        Value::from(text)
    }

    #[test]
    fn conversions() {
        let optional = Type::Object(Arc::new(ObjectType {
            attributes: [("a".into(), Type::String), ("b".into(), Type::Number)].into(),
            optional: BTreeSet::from(["b".into()]),
        }));
        let tuple = Value::tuple([Value::from(1), s("b")]);
        let empty = Value::tuple([]);
        for (value, to, want) in [
            (Value::from(1), Type::String, r#""1""#),
            (s("1.50"), Type::Number, "1.5"),
            (s("x"), Type::Number, "a number is required"),
            (Value::from(true), Type::Number, "number required"),
            (s("True"), Type::Bool, r#"a bool is required; to convert from string, use lowercase "true""#),
            (s("1"), Type::Bool, "true"),
            (tuple.clone(), Type::list(Type::String), r#"list(string)["1", "b"]"#),
            (tuple.clone(), Type::list(Type::Dynamic), r#"list(string)["1", "b"]"#),
            (tuple.clone(), Type::set(Type::Number), "element 1: a number is required"),
            (tuple.clone(), Type::list(Type::Bool), "element 0: bool required"),
            (s("a"), Type::list(Type::String), "list of string required"),
            (tuple.clone(), Type::tuple([Type::String]), "tuple required"),
            (empty.clone(), Type::list(Type::Dynamic), "list(any)[]"),
            (empty, Type::list(Type::String), "list(string)[]"),
            (Value::list(Type::String, []), Type::tuple([]), "tuple required"),
            (Value::list(Type::String, []), Type::list(Type::list(Type::String)), "list of string required"),
            (
                Value::tuple([Value::from(1), Value::from(true)]),
                Type::list(Type::Dynamic),
                "all list elements must have the same type",
            ),
            (
                Value::tuple([Value::from(1), Value::null(Type::Dynamic)]),
                Type::list(Type::Dynamic),
                "list(number)[1, null(number)]",
            ),
            (
                Value::tuple([Value::tuple([s("x")]), Value::null(Type::Dynamic)]),
                Type::list(Type::Dynamic),
                "all list elements must have the same type",
            ),
            (
                Value::object([("a", Value::tuple([s("x")])), ("b", Value::null(Type::Dynamic))]),
                Type::map(Type::Dynamic),
                r#"map(tuple([string])){"a": ["x"], "b": null(tuple([string]))}"#,
            ),
            (
                Value::object([("a", Value::from(1)), ("z", s("dropped"))]),
                optional.clone(),
                r#"{"a": "1", "b": null(number)}"#,
            ),
            (Value::object([("b", Value::from(1))]), optional.clone(), r#"attribute "a" is required"#),
            (Value::object([("a", Value::tuple([]))]), optional.clone(), r#"attribute "a": string required"#),
            (Value::map(Type::String, [("a", s("x"))]), optional.clone(), r#"{"a": "x", "b": null(number)}"#),
            (
                Value::object([("a", Value::from(1)), ("b", s("x"))]),
                Type::map(Type::Dynamic),
                r#"map(string){"a": "1", "b": "x"}"#,
            ),
            (Value::null(Type::Dynamic), Type::list(Type::String), "null(list(string))"),
            (Value::null(Type::String), Type::list(Type::String), "list of string required"),
            (
                Value::unknown(Type::tuple([Type::Number, Type::String])),
                Type::list(Type::Dynamic),
                "unknown(list(string))",
            ),
            (Value::unknown(Type::Bool), Type::Number, "number required"),
        ] {
            let got = convert(&value, &to).map_or_else(|e| e.to_string(), |v| format!("{v:?}"));
            assert_eq!(got, want, "{value:?} to {to}");
        }
        assert!(convert(&s("1").sensitive(), &Type::Number).is_ok_and(|v| v.is_sensitive()));
    }
}
