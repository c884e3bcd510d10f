//! The types of results that are not known yet: what an argument is may be unknown, but seldom its type, and one of a type
//! that can never do is refused at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use super::strings::{self, Shape};
use super::{FunctionError, text, whole};
use crate::value::{Data, Type, Value, convert, unify};

type Found = Result<Type, FunctionError>;

fn wrong(index: usize, message: &str) -> Found {
    Err(FunctionError::argument(index, message))
}

pub(super) fn chunk_list(args: &[Value]) -> Found {
    Ok(Type::list(args[0].ty()))
}

pub(super) fn concat(args: &[Value]) -> Found {
    if args.is_empty() {
        return Err("at least one argument is required".into());
    }
    let types: Vec<Type> = args.iter().map(Value::ty).collect();
    if types.iter().all(|ty| matches!(ty, Type::List(_)))
        && let Some(united) = unify(&types)
    {
        return Ok(united);
    }
    let mut elements = Vec::new();
    for (i, (arg, ty)) in args.iter().zip(&types).enumerate() {
        match ty {
            Type::Tuple(types) => elements.extend(types.iter().cloned()),
            Type::List(element) => match arg.as_slice() {
                Some(values) => elements.extend(std::iter::repeat_n((**element).clone(), values.len())),
                None => return Ok(Type::Dynamic),
            },
            _ => return wrong(i, "all arguments must be lists or tuples; got something else"),
        }
    }
    Ok(Type::tuple(elements))
}

pub(super) fn element(args: &[Value]) -> Found {
    if args[1].as_number().is_some_and(|index| *index < 0.into()) {
        return wrong(1, "cannot use element function with a negative index");
    }
    match args[0].ty() {
        Type::List(element) => Ok((*element).clone()),
        Type::Tuple(_) if !args[1].is_known() => Ok(Type::Dynamic),
        Type::Tuple(types) => {
            let index = whole(args, 1)?.unsigned_abs();
            match index.checked_rem(types.len() as u64) {
                Some(at) => Ok(types[at as usize].clone()), // less than the length, by the remainder
                None => wrong(0, "cannot use element function with an empty list"),
            }
        }
        _ => wrong(0, "cannot read elements from this: a list or a tuple is required"),
    }
}

pub(super) fn keys(args: &[Value]) -> Found {
    match args[0].ty() {
        Type::Map(_) => Ok(Type::list(Type::String)),
        Type::Object(object) => Ok(Type::tuple(object.attributes.keys().map(|_| Type::String))),
        _ => wrong(0, "must have a map or object as the first argument"),
    }
}

pub(super) fn values(args: &[Value]) -> Found {
    match args[0].ty() {
        Type::Map(element) => Ok(Type::list((*element).clone())),
        Type::Object(object) => Ok(Type::tuple(object.attributes.values().cloned())),
        _ => wrong(0, "values() requires a map as the first argument"),
    }
}

pub(super) fn lookup(args: &[Value]) -> Found {
    match args[0].ty() {
        Type::Object(object) => Ok(match args[1].as_str() {
            Some(key) => object.attributes.get(key).cloned().unwrap_or_else(|| args[2].ty()),
            None => Type::Dynamic,
        }),
        Type::Map(element) => match convert(&args[2], &element) {
            Ok(_) => Ok((*element).clone()),
            Err(_) => wrong(2, "the default value must have the same type as the map elements"),
        },
        _ => wrong(0, "lookup() requires a map as the first argument"),
    }
}

/// Types are looked at up to the first argument that has none: a bare `null`.
pub(super) fn merge(args: &[Value]) -> Found {
    let mut attributes: BTreeMap<Arc<str>, Type> = BTreeMap::new();
    let mut complete = true;
    for (i, arg) in args.iter().enumerate() {
        match (arg.ty(), arg.data()) {
            (Type::Dynamic, _) => return Ok(Type::Dynamic),
            (Type::Map(_) | Type::Object(_), Data::Null(_)) => {}
            (Type::Object(object), _) => {
                attributes.extend(object.attributes.iter().map(|(name, ty)| (name.clone(), ty.clone())));
            }
            (Type::Map(element), Data::Map(_, entries)) => {
                attributes.extend(entries.keys().map(|name| (name.clone(), (*element).clone())));
            }
            (Type::Map(_), _) => complete = false,
            (ty, _) => {
                let message = format!("arguments must be maps or objects, got \"{}\"", ty.friendly_name());
                return wrong(i, &message);
            }
        }
    }
    Ok(match args.first().map(Value::ty) {
        Some(first) if args.iter().all(|arg| arg.ty() == first) => first,
        _ if complete => Type::object(attributes),
        _ => Type::Dynamic,
    })
}

pub(super) fn reverse(args: &[Value]) -> Found {
    match args[0].ty() {
        Type::List(element) | Type::Set(element) => Ok(Type::list((*element).clone())),
        Type::Tuple(types) => Ok(Type::tuple(types.iter().rev().cloned())),
        _ => wrong(0, "can only reverse list or tuple values"),
    }
}

/// The set that all the sets can become. Empty ones of elements of any type become any set.
pub(super) fn combined_set(args: &[Value]) -> Found {
    let any_empty = |arg: &Value, element: &Type| {
        *element == Type::Dynamic && arg.as_slice().is_some_and(<[_]>::is_empty)
    };
    let sets = args.iter().filter_map(|arg| Some((arg, arg.ty().element()?.clone())));
    let elements: Vec<Type> =
        sets.filter(|(arg, element)| !any_empty(arg, element)).map(|(_, element)| element).collect();
    match unify(&elements) {
        Some(element) => Ok(Type::set(element)),
        None => Err("given sets must all have compatible element types".into()),
    }
}

/// What each of the sequences brings to the tuples of a product, and whether their order counts, which it does where none is
/// a set.
pub(super) fn set_product(args: &[Value]) -> Result<(Vec<Type>, bool), FunctionError> {
    if args.len() < 2 {
        return Err("at least two arguments are required".into());
    }
    let mut elements = Vec::with_capacity(args.len());
    for (i, arg) in args.iter().enumerate() {
        let element = match arg.ty() {
            Type::List(element) | Type::Set(element) => Some((*element).clone()),
            Type::Tuple(types) => unify(&types),
            _ => return Err(FunctionError::argument(i, "a set or a list is required")),
        };
        let different = || FunctionError::argument(i, "all elements must be of the same type");
        elements.push(element.ok_or_else(different)?);
    }
    let ordered = !args.iter().any(|arg| matches!(arg.ty(), Type::Set(_)));
    Ok((elements, ordered))
}

pub(super) fn slice(args: &[Value]) -> Found {
    let length = match args[0].ty() {
        Type::Tuple(types) => Some(types.len()),
        Type::List(_) => args[0].len(),
        Type::Set(_) => return wrong(0, UNORDERED),
        _ => return wrong(0, "must be a list or tuple value"),
    };
    let start = slice_bound(args, 1, "start", length)?;
    let end = slice_bound(args, 2, "end", length)?;
    if start > end && end.is_some() {
        return wrong(1, "start index must not be greater than end index");
    }
    Ok(match (args[0].ty(), start, end) {
        (Type::Tuple(types), Some(start), Some(end)) => {
            Type::tuple(types.get(start..end).unwrap_or_default().iter().cloned())
        }
        (Type::Tuple(_), ..) => Type::Dynamic,
        (list, ..) => list,
    })
}

pub(super) const UNORDERED: &str = "cannot slice a set, because its elements do not have indices; explicitly convert to a \
                                    list if the ordering of the result is not important";

/// One of the two bounds of a slice; `None` where it is not known.
pub(super) fn slice_bound(
    args: &[Value],
    index: usize,
    what: &str,
    length: Option<usize>,
) -> Result<Option<usize>, FunctionError> {
    if !args[index].is_known() {
        return Ok(None);
    }
    let Ok(bound) = usize::try_from(whole(args, index)?) else {
        return Err(FunctionError::argument(index, format!("{what} index must not be less than zero")));
    };
    match length {
        Some(length) if bound > length => Err(FunctionError::argument(
            index,
            format!("{what} index must not be greater than the length of the list ({length})"),
        )),
        _ => Ok(Some(bound)),
    }
}

pub(super) fn zipmap(args: &[Value]) -> Found {
    let types = match args[1].ty() {
        Type::List(element) => return Ok(Type::map((*element).clone())),
        Type::Tuple(types) => types,
        _ => return wrong(1, "values must be a list or tuple value"),
    };
    let Some(keys) = args[0].as_slice().filter(|_| args[0].is_wholly_known()) else {
        return Ok(Type::Dynamic);
    };
    if keys.len() != types.len() {
        let (keys, values) = (keys.len(), types.len());
        return Err(format!("number of keys ({keys}) does not match number of values ({values})").into());
    }
    if let Some(i) = keys.iter().position(Value::is_null) {
        return wrong(0, &format!("key {i} is null"));
    }
    Ok(Type::object(keys.iter().map(|key| Arc::<str>::from(text(key))).zip(types.iter().cloned())))
}

pub(super) fn parse_int(args: &[Value]) -> Found {
    match args[0].ty() {
        Type::String => Ok(Type::Number),
        ty => wrong(0, &format!("first argument must be a string, not {}", ty.friendly_name())),
    }
}

/// What a match is; not known where the pattern is not.
pub(super) fn regex(args: &[Value]) -> Found {
    if !args[0].is_known() {
        return Ok(Type::Dynamic);
    }
    let pattern = strings::pattern(args, 0)?;
    Ok(matched(&pattern, &strings::shape(&pattern)?))
}

/// What a match of a pattern is.
pub(super) fn matched(pattern: &Regex, shape: &Shape) -> Type {
    match shape {
        Shape::Whole => Type::String,
        Shape::Unnamed => Type::tuple(vec![Type::String; pattern.captures_len() - 1]), // the whole match is always one
        Shape::Named => Type::object(pattern.capture_names().flatten().map(|name| (name, Type::String))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CallError, Capabilities, Functions};
    use super::*;

    /// What a function gives; what is wrong with the argument of a number, where it is refused.
    fn call(name: &str, args: Vec<Value>) -> Result<Value, Option<usize>> {
        let functions = Functions::standard();
        functions.get(name).unwrap().call(args, &Capabilities::none()).map_err(|e| match e {
            CallError::Failed(e) => e.argument,
            other => panic!("{name}: {other:?}"),
        })
    }

    /// Beside what cty's functions give for the same.
    #[test]
    fn what_is_not_known_has_a_type() {
        let unknown = Value::unknown;
        let (text, number, any) =
            (|| unknown(Type::String), || unknown(Type::Number), || unknown(Type::Dynamic));
        let list = || unknown(Type::list(Type::Bool));
        let pair = || unknown(Type::tuple([Type::String, Type::Number]));
        let object = || unknown(Type::object([("a", Type::Bool)]));
        let map = || unknown(Type::map(Type::Number));
        let texts = Type::list(Type::String);
        for (name, args, ty) in [
            ("chunklist", vec![list(), number()], Type::list(Type::list(Type::Bool))),
            ("concat", vec![list(), list()], Type::list(Type::Bool)),
            (
                "concat",
                vec![pair(), Value::list(Type::Bool, [Value::bool(true)])],
                Type::tuple([Type::String, Type::Number, Type::Bool]),
            ),
            ("concat", vec![pair(), list()], Type::Dynamic),
            ("distinct", vec![list()], Type::list(Type::Bool)),
            ("element", vec![list(), Value::from(7)], Type::Bool),
            ("element", vec![pair(), Value::from(3)], Type::Number),
            ("element", vec![pair(), number()], Type::Dynamic),
            ("keys", vec![map()], texts.clone()),
            ("values", vec![map()], Type::list(Type::Number)),
            ("values", vec![object()], Type::tuple([Type::Bool])),
            ("lookup", vec![map(), text(), Value::from("5")], Type::Number),
            ("lookup", vec![object(), Value::from("a"), number()], Type::Bool),
            ("lookup", vec![object(), Value::from("b"), number()], Type::Number),
            ("lookup", vec![object(), text(), number()], Type::Dynamic),
            ("merge", vec![map(), map()], Type::map(Type::Number)),
            (
                "merge",
                vec![object(), Value::map(Type::Number, [("b", Value::from(1))])],
                Type::object([("a", Type::Bool), ("b", Type::Number)]),
            ),
            ("merge", vec![object(), map()], Type::Dynamic),
            ("regex", vec![Value::from("(?P<x>a)"), text()], Type::object([("x", Type::String)])),
            ("regex", vec![text(), text()], Type::Dynamic),
            (
                "regexall",
                vec![Value::from("(a)(b)"), text()],
                Type::list(Type::tuple([Type::String, Type::String])),
            ),
            ("reverse", vec![pair()], Type::tuple([Type::Number, Type::String])),
            ("setproduct", vec![list(), pair()], Type::list(Type::tuple([Type::Bool, Type::String]))),
            ("setunion", vec![list(), Value::list(Type::Dynamic, [])], Type::set(Type::Bool)),
            ("slice", vec![pair(), Value::from(1), Value::from(2)], Type::tuple([Type::Number])),
            ("slice", vec![pair(), Value::from(1), number()], Type::Dynamic),
            ("slice", vec![list(), Value::from(1), Value::from(9)], Type::list(Type::Bool)),
            ("sort", vec![unknown(texts.clone())], texts.clone()),
            ("zipmap", vec![unknown(texts.clone()), list()], Type::map(Type::Bool)),
            ("zipmap", vec![unknown(texts.clone()), pair()], Type::Dynamic),
            // What may be anything ends all checks.
            ("contains", vec![any(), Value::null(Type::String)], Type::Dynamic),
            ("lookup", vec![any(), text(), Value::null(Type::Dynamic)], Type::Dynamic),
            ("formatlist", vec![Value::from("%s"), list()], texts.clone()),
        ] {
            assert_eq!(call(name, args.clone()), Ok(unknown(ty)), "{name} {args:?}");
        }
        for (name, args, index) in [
            ("chunklist", vec![text(), number()], Some(0)),
            ("concat", vec![pair(), map()], Some(1)),
            ("element", vec![text(), number()], Some(0)),
            ("element", vec![list(), Value::from(-1)], Some(1)),
            ("element", vec![unknown(Type::tuple([])), Value::from(0)], Some(0)),
            ("keys", vec![text()], Some(0)),
            ("values", vec![list()], Some(0)),
            ("length", vec![number()], Some(0)),
            ("lookup", vec![list(), text(), text()], Some(0)),
            ("lookup", vec![map(), text(), list()], Some(2)),
            ("lookup", vec![map(), Value::null(Type::String), text()], Some(1)),
            ("merge", vec![map(), text()], Some(1)),
            ("parseint", vec![number(), Value::from(10)], Some(0)),
            ("regex", vec![Value::from("("), text()], Some(0)),
            ("reverse", vec![map()], Some(0)),
            ("setproduct", vec![list(), map()], Some(1)),
            ("setunion", vec![list(), unknown(Type::set(texts.clone()))], None),
            ("slice", vec![pair(), Value::from(1), Value::from(3)], Some(2)),
            ("slice", vec![unknown(Type::set(Type::Bool)), number(), number()], Some(0)),
            ("zipmap", vec![unknown(texts.clone()), text()], Some(1)),
            ("formatlist", vec![Value::from("%s%s"), pair(), Value::tuple([text()])], Some(2)),
        ] {
            assert_eq!(call(name, args.clone()), Err(index), "{name} {args:?}");
        }
    }

    #[test]
    fn a_default_has_to_fit_even_where_it_is_not_wanted() {
        let map = Value::map(Type::String, [("a", Value::from("x"))]);
        let lookup = |default| call("lookup", vec![map.clone(), Value::from("a"), default]);
        assert_eq!(lookup(Value::from(1)), Ok(Value::from("x")));
        assert_eq!(lookup(Value::tuple([])), Err(Some(2)));
    }

    #[test]
    fn what_is_known_within_the_unknown_is_used() {
        let text = || Value::unknown(Type::String);
        let both = || Value::tuple([Value::from("a"), text()]);
        let object = Value::unknown(Type::object([("b", Type::Bool), ("a", Type::Bool)]));
        let set = |values: Vec<Value>| Value::set(Type::String, values);
        for (name, args, want) in [
            ("contains", vec![both(), Value::from("a")], Value::bool(true)),
            ("contains", vec![both(), Value::from("b")], Value::unknown(Type::Bool)),
            ("contains", vec![both(), Value::from(1)], Value::bool(false)),
            ("coalescelist", vec![both(), Value::unknown(Type::Dynamic), Value::from(1)], both()),
            (
                "coalescelist",
                vec![Value::unknown(Type::list(Type::Bool)), both()],
                Value::unknown(Type::Dynamic),
            ),
            ("keys", vec![object], Value::tuple(["a", "b"].map(Value::from))),
            ("length", vec![set(vec![text()])], Value::from(1)),
            ("length", vec![set(vec![text(), Value::from("a")])], Value::unknown(Type::Number)),
            ("sort", vec![both()], Value::list(Type::String, [text(), text()])),
            (
                "flatten",
                vec![Value::tuple([both(), set(vec![text()])])],
                Value::tuple([Value::from("a"), text(), text()]),
            ),
            (
                "flatten",
                vec![Value::tuple([set(vec![text(), Value::from("a")])])],
                Value::unknown(Type::Dynamic),
            ),
            ("formatlist", vec![Value::from("%s"), text()], Value::list(Type::String, [text()])),
            (
                "formatlist",
                vec![Value::from("%s"), both()],
                Value::list(Type::String, [Value::from("a"), text()]),
            ),
            (
                "lookup",
                vec![Value::object([("a", Value::from(1))]), Value::from("a"), text()],
                Value::unknown(Type::Number),
            ),
        ] {
            assert_eq!(call(name, args.clone()), Ok(want), "{name} {args:?}");
        }
    }
}
