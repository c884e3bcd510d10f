//! The one type that several types can all be converted to.

use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::convert::converted_type;
use super::{ConversionError, Type, Value, convert};

/// The type that values of all the types can be converted to, or `None`.
///
/// Collections of one kind become one of what their elements have in common; objects with the same attributes are united
/// attribute by attribute, others as a map; tuples of one length element by element, others as a list; objects beside maps
/// are maps, and tuples beside lists lists. Whatever else there is takes the most general of the types as it stands: string
/// above number and bool, lists and tuples above sets. A type that is not known yet becomes that of the primitives beside
/// it; beside structures the result is not known either.
pub fn unify(types: &[Type]) -> Option<Type> {
    if types.is_empty() { Some(Type::Dynamic) } else { common(types) }
}

/// The same, but nothing has no type in common.
fn common(types: &[Type]) -> Option<Type> {
    let first = types.first()?;
    if types.iter().all(|t| t == first) {
        return Some(first.clone());
    }
    let types = &distinct(types)[..];
    let any = |f: fn(&Type) -> bool| types.iter().any(f);
    let only = |f: fn(&Type) -> bool, g: fn(&Type) -> bool| {
        types.iter().all(|t| f(t) || g(t) || *t == Type::Dynamic)
    };
    for (kind, in_disguise, of) in [
        (is_map as fn(&Type) -> bool, is_object as fn(&Type) -> bool, Type::map as fn(Type) -> Type),
        (is_list, is_tuple, Type::list),
    ] {
        if any(kind) && only(kind, kind) {
            return collection(types, of);
        }
        if any(kind)
            && only(kind, in_disguise)
            && let Some(united) = united_as(types, in_disguise, of)
        {
            return Some(united);
        }
    }
    match () {
        () if any(is_set) && only(is_set, is_set) => collection(types, Type::set),
        () if any(is_object) && only(is_object, is_object) => unless_dynamic(types, unify_objects),
        () if any(is_tuple) && only(is_tuple, is_tuple) => unless_dynamic(types, unify_tuples),
        () if any(is_object) && any(is_tuple) => None,
        () => most_general(types),
    }
}

/// Each of the types once, in order.
fn distinct(types: &[Type]) -> Vec<Type> {
    let mut seen = HashSet::new();
    types.iter().filter(|t| seen.insert(*t)).cloned().collect()
}

/// What types have in common cannot be told before all of them are known.
fn unless_dynamic(types: &[Type], unite: fn(&[Type]) -> Option<Type>) -> Option<Type> {
    if types.contains(&Type::Dynamic) { Some(Type::Dynamic) } else { unite(types) }
}

/// A collection of what the elements of collections have in common.
fn collection(types: &[Type], of: fn(Type) -> Type) -> Option<Type> {
    if types.contains(&Type::Dynamic) {
        return Some(Type::Dynamic);
    }
    common(&types.iter().filter_map(|t| t.element().cloned()).collect::<Vec<_>>()).map(of)
}

/// Tuples beside lists as lists, objects beside maps as maps; `None` where not all of them are.
fn united_as(types: &[Type], in_disguise: fn(&Type) -> bool, of: fn(Type) -> Type) -> Option<Type> {
    let (hidden, mut plain): (Vec<Type>, Vec<Type>) = types.iter().cloned().partition(in_disguise);
    plain.push(as_collection(&hidden, of)?);
    common(&plain).filter(|t| *t != Type::Dynamic)
}

/// The first of the types, the more general ones before others, that all the others can be converted to.
fn most_general(types: &[Type]) -> Option<Type> {
    // Beyond any use, and the work grows with the square.
    const MOST: usize = 1 << 10;
    if types.len() > MOST {
        return None;
    }
    let above = |a: &Type, b: &Type| generality(a, b) == Ordering::Less;
    let mut more_general: Vec<usize> =
        types.iter().map(|t| types.iter().filter(|other| above(other, t)).count()).collect();
    let mut queue: VecDeque<usize> = (0..types.len()).filter(|i| more_general[*i] == 0).collect();
    while let Some(i) = queue.pop_front() {
        let candidate = &types[i];
        if types.iter().all(|t| t == candidate || converted_type(t, candidate).is_ok()) {
            return Some(candidate.clone());
        }
        for j in (0..types.len()).filter(|j| above(candidate, &types[*j])) {
            more_general[j] -= 1;
            if more_general[j] == 0 {
                queue.push_back(j);
            }
        }
    }
    None
}

/// `Less` where the first type looks like the more general one. Whether the other can be converted to it is another question.
fn generality(a: &Type, b: &Type) -> Ordering {
    match (a, b) {
        (Type::Dynamic, Type::Dynamic) => Ordering::Equal,
        (_, Type::Dynamic) => Ordering::Less,
        (Type::String, Type::Number | Type::Bool) => Ordering::Less,
        (Type::List(a), Type::List(b)) | (Type::Set(a), Type::Set(b)) | (Type::Map(a), Type::Map(b)) => {
            generality(a, b)
        }
        (Type::List(_), Type::Set(_) | Type::Tuple(_))
        | (Type::Tuple(_), Type::Set(_))
        | (Type::Map(_), Type::Object(_)) => Ordering::Less,
        (Type::Object(a), Type::Object(b)) if a.attributes.keys().eq(b.attributes.keys()) => {
            all_as_general(a.attributes.values().zip(b.attributes.values()))
        }
        (Type::Tuple(a), Type::Tuple(b)) if a.len() == b.len() => all_as_general(a.iter().zip(b.iter())),
        (Type::Dynamic, _)
        | (Type::Number | Type::Bool, Type::String)
        | (Type::Set(_) | Type::Tuple(_), Type::List(_))
        | (Type::Set(_), Type::Tuple(_))
        | (Type::Object(_), Type::Map(_)) => Ordering::Greater,
        _ => Ordering::Equal,
    }
}

/// `Less` where none of the second types is the more general one and one of the first is.
fn all_as_general<'t>(mut pairs: impl Iterator<Item = (&'t Type, &'t Type)>) -> Ordering {
    let mut all = Ordering::Equal;
    let contradiction = pairs.any(|(a, b)| {
        let one = generality(a, b);
        let contrary = one != Ordering::Equal && one == all.reverse();
        all = all.then(one);
        contrary
    });
    if contradiction { Ordering::Equal } else { all }
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

/// All the attributes of objects as one map, all the elements of tuples as one list.
fn as_collection(types: &[Type], of: fn(Type) -> Type) -> Option<Type> {
    let mut elements = Vec::new();
    for t in types {
        match t {
            Type::Tuple(ts) => elements.extend(ts.iter().cloned()),
            Type::Object(o) => elements.extend(o.attributes.values().cloned()),
            _ => return None,
        }
    }
    let ty = of(common(&elements)?);
    types.iter().all(|t| converted_type(t, &ty).is_ok()).then_some(ty)
}

fn unify_objects(types: &[Type]) -> Option<Type> {
    let objects: Vec<_> =
        types.iter().filter_map(|t| if let Type::Object(o) = t { Some(o) } else { None }).collect();
    let first = objects.first()?;
    if !objects.iter().all(|o| o.attributes.keys().eq(first.attributes.keys())) {
        return as_collection(types, Type::map);
    }
    let attributes: Option<Vec<(Arc<str>, Type)>> = first
        .attributes
        .keys()
        .map(|name| {
            let types: Vec<Type> = objects.iter().filter_map(|o| o.attributes.get(name).cloned()).collect();
            Some((name.clone(), common(&types)?))
        })
        .collect();
    attributes.map(Type::object)
}

fn unify_tuples(types: &[Type]) -> Option<Type> {
    let tuples: Vec<_> =
        types.iter().filter_map(|t| if let Type::Tuple(t) = t { Some(t) } else { None }).collect();
    let length = tuples.first()?.len();
    if !tuples.iter().all(|t| t.len() == length) {
        return as_collection(types, Type::list);
    }
    let elements: Option<Vec<Type>> = (0..length)
        .map(|i| common(&tuples.iter().filter_map(|t| t.get(i).cloned()).collect::<Vec<_>>()))
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
            (vec![Type::set(String), Type::list(Number)], Some(Type::list(Number))),
            (vec![Type::set(Number), Type::tuple([String])], Some(Type::set(Number))),
            (vec![Type::set(Number), Type::tuple([object(&[("c", String)]), Dynamic])], None),
            (vec![Type::list(Number), Type::tuple([String]), Type::set(Bool)], None),
            (vec![Type::map(Number), object(&[("a", String)]), Dynamic], Some(Type::map(Number))),
            (vec![String, Dynamic, Type::tuple([Number])], Some(Dynamic)),
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
