//! The one type that several types can all be converted to.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::convert::converted_type;
use super::{ConversionError, Type, Value, convert};

/// The type that values of all the types can be converted to without loss, or `None`.
///
/// String is above number and bool; objects with the same attributes unify attribute by attribute, others to a
/// map; tuples of one length element by element, others to a list. A type that is not known yet becomes that of the
/// primitives beside it; beside structures the result is not known either.
pub fn unify(types: &[Type]) -> Option<Type> {
    let Some(first) = types.first() else { return Some(Type::Dynamic) };
    if types.iter().all(|t| t == first) {
        return Some(first.clone());
    }
    if types.contains(&Type::Dynamic) {
        return unify_with_dynamic(types);
    }
    let all = |f: fn(&Type) -> bool| types.iter().all(f);
    let any = |f: fn(&Type) -> bool| types.iter().any(f);
    if all(is_object) {
        return unify_objects(types);
    }
    if all(is_tuple) {
        return unify_tuples(types);
    }
    if any(is_object) && any(is_tuple) {
        return None;
    }
    if all(|t| is_map(t) || is_object(t)) {
        return unify_elements(types).map(Type::map);
    }
    if all(|t| is_list(t) || is_tuple(t)) {
        return unify_elements(types).map(Type::list);
    }
    if all(is_set) {
        return unify_elements(types).map(Type::set);
    }
    if all(|t| is_set(t) || is_list(t) || is_tuple(t)) {
        let element = unify_elements(types)?;
        return Some(if any(is_list) { Type::list(element) } else { Type::set(element) });
    }
    // Primitives: two different ones meet in string, except number and bool.
    let string = types.contains(&Type::String) && all(Type::is_primitive);
    string.then_some(Type::String)
}

/// Converts all values to the type they unify to; `None` where there is no such type.
pub fn convert_all(values: &[Value]) -> Option<Result<(Type, Vec<Value>), ConversionError>> {
    let types: Vec<Type> = values.iter().filter(|v| !is_bare_null(v)).map(Value::ty).collect();
    let ty = unify(&types)?;
    let converted: Result<Vec<Value>, _> = values.iter().map(|v| convert(v, &ty)).collect();
    Some(converted.map(|values| (ty, values)))
}

/// A `null` without a type takes any other's.
fn is_bare_null(v: &Value) -> bool {
    v.is_null() && v.ty() == Type::Dynamic
}

fn is_object(t: &Type) -> bool {
    matches!(t, Type::Object(_))
}

fn is_tuple(t: &Type) -> bool {
    matches!(t, Type::Tuple(_))
}

fn is_map(t: &Type) -> bool {
    matches!(t, Type::Map(_))
}

fn is_list(t: &Type) -> bool {
    matches!(t, Type::List(_))
}

fn is_set(t: &Type) -> bool {
    matches!(t, Type::Set(_))
}

/// A type that is not known yet can become any of the others, if all the others can; but what structures have in common
/// cannot be told before it is known.
fn unify_with_dynamic(types: &[Type]) -> Option<Type> {
    let any = |f: fn(&Type) -> bool| types.iter().any(f);
    if any(is_object) && any(is_tuple) {
        return None;
    }
    let known: Vec<Type> = types.iter().filter(|t| **t != Type::Dynamic).cloned().collect();
    let kinds = [is_object, is_tuple, is_map, is_list, is_set];
    let of_one_kind = kinds.iter().any(|kind| known.iter().all(kind));
    let common = unify(&known).filter(|t| !of_one_kind && known.contains(t));
    Some(common.unwrap_or(Type::Dynamic))
}

/// One type for the elements of all the collections, tuples and objects.
fn unify_elements(types: &[Type]) -> Option<Type> {
    let mut elements: BTreeSet<Type> = BTreeSet::new();
    for t in types {
        match t {
            Type::List(t) | Type::Set(t) | Type::Map(t) => {
                elements.insert((**t).clone());
            }
            Type::Tuple(ts) => elements.extend(ts.iter().cloned()),
            Type::Object(o) => elements.extend(o.attributes.values().cloned()),
            _ => return None,
        }
    }
    unify(&elements.into_iter().collect::<Vec<_>>())
}

/// A collection of what the elements unify to; where that is not known, each of the types must be able to become one.
fn collection(types: &[Type], of: fn(Type) -> Type) -> Option<Type> {
    let ty = of(unify_elements(types)?);
    types.iter().all(|t| converted_type(t, &ty).is_ok()).then_some(ty)
}

fn unify_objects(types: &[Type]) -> Option<Type> {
    let objects: Vec<_> =
        types.iter().filter_map(|t| if let Type::Object(o) = t { Some(o) } else { None }).collect();
    let first = objects.first()?;
    if !objects.iter().all(|o| o.attributes.keys().eq(first.attributes.keys())) {
        return collection(types, Type::map);
    }
    let attributes: Option<Vec<(Arc<str>, Type)>> = first
        .attributes
        .keys()
        .map(|name| {
            let types: Vec<Type> = objects.iter().filter_map(|o| o.attributes.get(name).cloned()).collect();
            Some((name.clone(), unify(&types)?))
        })
        .collect();
    attributes.map(Type::object)
}

fn unify_tuples(types: &[Type]) -> Option<Type> {
    let tuples: Vec<_> =
        types.iter().filter_map(|t| if let Type::Tuple(t) = t { Some(t) } else { None }).collect();
    let length = tuples.first()?.len();
    if !tuples.iter().all(|t| t.len() == length) {
        return collection(types, Type::list);
    }
    let elements: Option<Vec<Type>> = (0..length)
        .map(|i| unify(&tuples.iter().filter_map(|t| t.get(i).cloned()).collect::<Vec<_>>()))
        .collect();
    elements.map(Type::tuple)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unifies_as_cty_does() {
        use Type::{Bool, Dynamic, Number, String};
        let object = |fields: &[(&'static str, Type)]| Type::object(fields.iter().cloned());
        for (types, want) in [
            (vec![], Some(Dynamic)),
            (vec![Number, String], Some(String)),
            (vec![Number, Bool], None),
            (vec![Number, Bool, String], Some(String)),
            (vec![Number, Dynamic], Some(Number)),
            (vec![Number, Dynamic, String], Some(String)),
            (vec![Number, Dynamic, Bool], Some(Dynamic)),
            (vec![Type::list(String), Dynamic], Some(Dynamic)),
            (vec![Type::list(String), Dynamic, Type::tuple([Number])], Some(Type::list(String))),
            (vec![Type::tuple([Dynamic]), Type::tuple([Number])], Some(Type::tuple([Number]))),
            (vec![Type::tuple([Dynamic, Number]), Type::tuple([])], Some(Type::list(Number))),
            (vec![Type::tuple([Dynamic, Type::tuple([Number])]), Type::tuple([])], None),
            (vec![Type::list(Number), Type::tuple([String])], Some(Type::list(String))),
            (vec![Type::set(Number), Type::list(String)], Some(Type::list(String))),
            (vec![Type::set(Number), Type::tuple([String])], Some(Type::set(String))),
            (vec![Type::tuple([Number]), Type::tuple([String])], Some(Type::tuple([String]))),
            (vec![Type::tuple([Number]), Type::tuple([])], Some(Type::list(Number))),
            (vec![Type::tuple([Number, Bool]), Type::tuple([])], None),
            (vec![object(&[("a", Number)]), object(&[("a", String)])], Some(object(&[("a", String)]))),
            (vec![object(&[("a", Number)]), object(&[("b", String)])], Some(Type::map(String))),
            (vec![object(&[("a", Number)]), object(&[("b", Bool)])], None),
            (vec![object(&[("a", Number)]), Type::map(String)], Some(Type::map(String))),
            (vec![object(&[]), Type::tuple([])], None),
            (vec![String, Type::list(String)], None),
        ] {
            assert_eq!(unify(&types), want, "{types:?}");
        }
    }
}
