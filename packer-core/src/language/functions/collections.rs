//! Functions on lists, sets, maps, tuples and objects.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use unicode_segmentation::UnicodeSegmentation;

use super::{
    Add, Function, FunctionError, FunctionResult, Param, element_type, fits_values, text, types, whole,
};
use crate::value::{Data, Type, Value, convert, identity};

pub(super) fn add(add: Add<'_>) {
    let list_of = |name, element| Param::new(name, Type::list(element));
    let simple = |params: Vec<Param>, body: fn(&[Value]) -> FunctionResult| {
        Function::new(params, Type::Dynamic, move |args, _| body(args))
    };
    add(
        "alltrue",
        Function::new([list_of("list", Type::Bool).unknown_elements()], Type::Bool, |a, _| all_true(&a[0])),
    );
    add(
        "anytrue",
        Function::new([list_of("list", Type::Bool).unknown_elements()], Type::Bool, |a, _| any_true(&a[0])),
    );
    add(
        "chunklist",
        simple(vec![list_of("list", Type::Dynamic).unknown_elements(), Param::number("size")], chunk_list)
            .typed_by(types::chunk_list),
    );
    add("coalesce", simple(vec![], coalesce).variadic(Param::any("vals").nullable().unknown().dynamic()));
    add(
        "coalescelist",
        simple(vec![], coalesce_list).variadic(Param::any("vals").nullable().unknown().dynamic()),
    );
    add(
        "compact",
        Function::new([list_of("list", Type::String)], Type::list(Type::String), |a, _| compact(&a[0])),
    );
    let elements = |name| Param::any(name).unknown_elements();
    add("concat", simple(vec![], concat).variadic(elements("seqs")).typed_by(types::concat));
    add("contains", Function::new(["list", "value"].map(elements), Type::Bool, |a, _| contains(a)));
    add(
        "distinct",
        simple(vec![list_of("list", Type::Dynamic)], |a| distinct(&a[0])).typed_by(|a| Ok(a[0].ty())),
    );
    add("element", simple(vec![elements("list"), Param::number("index")], element).typed_by(types::element));
    add("flatten", simple(vec![elements("list")], |a| flatten(&a[0])));
    add("index", Function::new([Param::any("list"), Param::any("value")], Type::Number, |a, _| index(a)));
    add("keys", simple(vec![Param::any("inputMap").unknown()], keys));
    add(
        "length",
        Function::new([Param::any("value").unknown().dynamic()], Type::Number, |a, _| length(&a[0])),
    );
    add(
        "lookup",
        simple(vec![Param::any("inputMap"), Param::string("key"), elements("default")], lookup)
            .typed_by(types::lookup),
    );
    add(
        "merge",
        simple(vec![], merge).variadic(elements("maps").nullable().dynamic()).typed_by(types::merge),
    );
    add(
        "range",
        Function::new([], Type::list(Type::Number), |a, _| range(a)).variadic(Param::number("params")),
    );
    add("reverse", simple(vec![elements("list")], |a| reverse(&a[0])).typed_by(types::reverse));
    let sets = |name| Param::new(name, Type::set(Type::Dynamic));
    for (name, union) in [("setintersection", false), ("setunion", true)] {
        let combine = Function::new([sets("first_set")], Type::Dynamic, move |a, _| combine_sets(a, union));
        add(name, combine.variadic(sets("sets")).typed_by(types::combined_set));
    }
    add("setproduct", simple(vec![], set_product).variadic(Param::any("sets").unknown()));
    add(
        "slice",
        simple(vec![elements("list"), Param::number("start_index"), Param::number("end_index")], slice)
            .typed_by(types::slice),
    );
    add(
        "sort",
        Function::new(
            [list_of("list", Type::String).unknown_elements()],
            Type::list(Type::String),
            |a, _| sort(&a[0]),
        ),
    );
    add("values", simple(vec![elements("values")], |a| values(&a[0])).typed_by(types::values));
    add(
        "zipmap",
        simple(vec![list_of("keys", Type::String), elements("values")], zipmap).typed_by(types::zipmap),
    );
}

fn wrong<T>(index: usize, message: impl Into<String>) -> Result<T, FunctionError> {
    Err(FunctionError::argument(index, message))
}

fn items(value: &Value) -> &[Value] {
    value.as_slice().unwrap_or_default()
}

/// A known list or tuple; sets and everything else are refused in these words.
fn sequence<'a>(args: &'a [Value], index: usize, message: &str) -> Result<&'a [Value], FunctionError> {
    match args[index].data() {
        Data::List(_, values) | Data::Tuple(values) => Ok(values),
        _ => wrong(index, message),
    }
}

/// Values as a sequence of the kind `like` is: a list of its element type, else a tuple.
fn sequence_like(like: &Value, values: impl IntoIterator<Item = Value>) -> Value {
    match like.data() {
        Data::List(element, _) | Data::Set(element, _) => Value::list(element.clone(), values),
        _ => Value::tuple(values),
    }
}

fn all_true(list: &Value) -> FunctionResult {
    for value in items(list) {
        if !value.is_known() {
            return Ok(Value::unknown(Type::Bool));
        }
        if value.as_bool() != Some(true) {
            return Ok(Value::bool(false));
        }
    }
    Ok(Value::bool(true))
}

fn any_true(list: &Value) -> FunctionResult {
    if items(list).iter().any(|v| v.as_bool() == Some(true)) {
        return Ok(Value::bool(true));
    }
    if items(list).iter().any(|v| !v.is_known()) {
        return Ok(Value::unknown(Type::Bool));
    }
    Ok(Value::bool(false))
}

fn chunk_list(args: &[Value]) -> FunctionResult {
    let size = whole(args, 1)?;
    if size < 0 {
        return wrong(1, "the size argument must be positive");
    }
    let element = args[0].ty().element().cloned().unwrap_or(Type::Dynamic);
    let chunk_type = Type::list(element.clone());
    let values = items(&args[0]);
    if values.is_empty() {
        return Ok(Value::list(chunk_type, []));
    }
    let size = if size == 0 { values.len() } else { usize::try_from(size).unwrap_or(usize::MAX) };
    let chunks = values.chunks(size).map(|chunk| Value::list(element.clone(), chunk.iter().cloned()));
    Ok(Value::list(chunk_type, chunks))
}

fn coalesce(args: &[Value]) -> FunctionResult {
    if args.is_empty() {
        return Err("at least one argument is required".into());
    }
    // A bare `null` has a type too, one that is not known: beside it the others need not agree.
    let Some(ty) = element_type(args) else { return Err("all arguments must have the same type".into()) };
    for value in args {
        // What cannot be converted after all is passed over, as Packer does.
        let Ok(value) = convert(value, &ty) else { continue };
        if !value.is_known() {
            return Ok(Value::unknown(ty));
        }
        if value.is_null() {
            continue;
        }
        if ty == Type::String && value.as_str() == Some("") {
            continue;
        }
        return Ok(value);
    }
    Err("no non-null, non-empty-string arguments".into())
}

fn coalesce_list(args: &[Value]) -> FunctionResult {
    if args.is_empty() {
        return Err("at least one argument is required".into());
    }
    // What follows an unknown one is not looked at: the result is not known then, or found before.
    let known = args.iter().position(|arg| !arg.is_known()).unwrap_or(args.len());
    if let Some(i) = args[..known].iter().position(|v| !matches!(v.ty(), Type::List(_) | Type::Tuple(_))) {
        return wrong(i, "coalescelist arguments must be lists or tuples");
    }
    if let Some(first) = args[..known].iter().find(|v| !items(v).is_empty()) {
        return Ok(first.clone());
    }
    if known < args.len() {
        return Ok(Value::unknown(Type::Dynamic));
    }
    Err("no non-null arguments".into())
}

fn compact(list: &Value) -> FunctionResult {
    let kept = items(list).iter().filter(|v| v.as_str().is_some_and(|s| !s.is_empty()));
    Ok(Value::list(Type::String, kept.cloned()))
}

fn concat(args: &[Value]) -> FunctionResult {
    let ty = types::concat(args)?;
    let all = args.iter().flat_map(items);
    let Some(element) = ty.element() else { return Ok(Value::tuple(all.cloned())) };
    let converted: Result<Vec<_>, _> = all.map(|v| convert(v, element)).collect();
    Ok(Value::list(element.clone(), converted.map_err(|e| e.to_string())?))
}

/// Whether a value is among these: of the same type and equal.
fn find(values: &[Value], wanted: &Value) -> Option<usize> {
    values.iter().position(|v| v.equals(wanted).as_bool() == Some(true))
}

fn contains(args: &[Value]) -> FunctionResult {
    if !matches!(args[0].data(), Data::List(..) | Data::Set(..) | Data::Tuple(_)) {
        return wrong(0, "argument must be list, tuple, or set");
    }
    if find(items(&args[0]), &args[1]).is_some() {
        return Ok(Value::bool(true));
    }
    let undecided = items(&args[0]).iter().any(|v| !v.equals(&args[1]).is_known());
    Ok(if undecided { Value::unknown(Type::Bool) } else { Value::bool(false) })
}

fn distinct(list: &Value) -> FunctionResult {
    let mut seen = HashSet::new();
    // The elements are wholly known and of one type here.
    let kept = items(list).iter().filter(|v| seen.insert(identity(v)));
    Ok(sequence_like(list, kept.cloned()))
}

fn element(args: &[Value]) -> FunctionResult {
    let values = sequence(args, 0, "cannot read elements from this: a list or a tuple is required")?;
    let index = whole(args, 1)?;
    if index < 0 {
        return wrong(1, "cannot use element function with a negative index");
    }
    if values.is_empty() {
        return wrong(0, "cannot use element function with an empty list");
    }
    let at = index.unsigned_abs() % values.len() as u64;
    Ok(values[at as usize].clone()) // less than the length, by the remainder
}

fn flatten(list: &Value) -> FunctionResult {
    // What is not wholly known is not refused, and then flattened whatever it is.
    let sequence = matches!(list.data(), Data::List(..) | Data::Set(..) | Data::Tuple(_));
    if !sequence && list.is_wholly_known() {
        return wrong(0, "can only flatten lists, sets and tuples");
    }
    let mut flat = Vec::new();
    let mut pending: Vec<&Value> = list.children().collect();
    pending.reverse();
    if has_unknown_length(list) {
        return Ok(Value::unknown(Type::Dynamic));
    }
    while let Some(value) = pending.pop() {
        match value.data() {
            Data::Set(..) if has_unknown_length(value) => return Ok(Value::unknown(Type::Dynamic)),
            Data::List(_, v) | Data::Set(_, v) | Data::Tuple(v) => pending.extend(v.iter().rev()),
            // What is unknown may turn out to be a sequence, so nobody knows how long the result is.
            Data::Unknown(Type::Dynamic | Type::List(_) | Type::Set(_) | Type::Tuple(_)) => {
                return Ok(Value::unknown(Type::Dynamic));
            }
            _ => flat.push(value.clone()),
        }
    }
    Ok(Value::tuple(flat))
}

/// Whether it is a set of which elements that are not known yet may turn out to be equal to others.
fn has_unknown_length(value: &Value) -> bool {
    matches!(value.data(), Data::Set(_, values) if values.len() > 1 && !value.is_wholly_known())
}

fn index(args: &[Value]) -> FunctionResult {
    let values = sequence(args, 0, "argument must be a list or tuple")?;
    if values.is_empty() {
        return Err("cannot search an empty list".into());
    }
    let found = find(values, &args[1]).ok_or("item not found")?;
    Ok(Value::from(found as i64))
}

/// The names of an object are known even where it is not.
fn keys(args: &[Value]) -> FunctionResult {
    let ty = types::keys(args)?;
    if let Type::Object(object) = args[0].ty() {
        return Ok(Value::tuple(object.attributes.keys().map(|name| Value::string(name.clone()))));
    }
    Ok(match args[0].as_map() {
        Some(map) => Value::list(Type::String, map.keys().map(|key| Value::string(key.clone()))),
        None => Value::unknown(ty),
    })
}

fn values(map: &Value) -> FunctionResult {
    match map.data() {
        Data::Map(element, m) => Ok(Value::list(element.clone(), m.values().cloned())),
        Data::Object(m) => Ok(Value::tuple(m.values().cloned())),
        _ => wrong(0, "values() requires a map as the first argument"),
    }
}

fn length(value: &Value) -> FunctionResult {
    let count = match value.data() {
        Data::String(s) => s.graphemes(true).count(),
        Data::Unknown(Type::Tuple(elements)) => elements.len(),
        Data::Unknown(Type::Object(o)) => o.attributes.len(),
        Data::Unknown(Type::Dynamic | Type::String | Type::List(_) | Type::Set(_) | Type::Map(_)) => {
            return Ok(Value::unknown(Type::Number));
        }
        Data::Set(..) if has_unknown_length(value) => return Ok(Value::unknown(Type::Number)),
        _ => match value.len() {
            Some(count) => count,
            None => return wrong(0, "argument must be a string, a collection type, or a structural type"),
        },
    };
    Ok(Value::from(count as i64))
}

fn lookup(args: &[Value]) -> FunctionResult {
    // The default has to fit even where it is not wanted.
    let ty = types::lookup(args)?;
    match args[0].get(text(&args[1])) {
        Some(found) => Ok(found.clone()),
        None => convert(&args[2], &ty).map_err(|e| FunctionError::argument(2, e.to_string())),
    }
}

fn merge(args: &[Value]) -> FunctionResult {
    let ty = types::merge(args)?;
    let mut merged: BTreeMap<Arc<str>, Value> = BTreeMap::new();
    for (i, arg) in args.iter().enumerate().filter(|(_, arg)| !arg.is_null()) {
        match arg.data() {
            Data::Map(_, entries) | Data::Object(entries) => {
                merged.extend(entries.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
            // A set is gone through as a map from each of its elements to itself, so texts do as keys.
            Data::Set(_, values) if values.iter().all(|v| v.as_str().is_some()) => {
                merged.extend(values.iter().map(|v| (Arc::from(text(v)), v.clone())));
            }
            Data::List(_, values) | Data::Tuple(values) if values.is_empty() => {}
            _ => return wrong(i, format!("arguments must be maps or objects, got {}", quoted(arg))),
        }
    }
    Ok(match ty {
        Type::Map(element) => Value::map((*element).clone(), merged),
        _ => Value::object(merged),
    })
}

fn quoted(value: &Value) -> String {
    format!("\"{}\"", value.ty().friendly_name())
}

fn range(args: &[Value]) -> FunctionResult {
    let number = |i: usize| args[i].as_number().cloned().unwrap_or_else(|| 0.into());
    let zero = crate::value::Number::from(0);
    let step_towards = |from: &crate::value::Number, to: &crate::value::Number| {
        if to < from { crate::value::Number::from(-1) } else { 1.into() }
    };
    let (start, end, step) = match args.len() {
        1 => (zero.clone(), number(0), step_towards(&zero, &number(0))),
        2 => (number(0), number(1), step_towards(&number(0), &number(1))),
        3 => (number(0), number(1), number(2)),
        _ => return Err("must have one, two, or three arguments".into()),
    };
    // A step of zero is one upwards that never arrives.
    let down = step < zero;
    if down && end > start {
        return wrong(1, "end must be less than start when step is negative");
    }
    if !down && end < start {
        return wrong(1, "end must be greater than start when step is positive");
    }
    let mut values = Vec::new();
    let mut at = start;
    while if down { at > end } else { at < end } {
        if values.len() >= 1024 {
            return Err("more than 1024 values were generated; either decrease the difference between start and end or use a smaller step".into());
        }
        values.push(Value::number(at.clone()));
        at = at.add(&step).map_err(|e| e.to_string())?;
    }
    Ok(Value::list(Type::Number, values))
}

fn reverse(list: &Value) -> FunctionResult {
    match list.data() {
        Data::List(..) | Data::Set(..) | Data::Tuple(_) => {
            Ok(sequence_like(list, items(list).iter().rev().cloned()))
        }
        _ => wrong(0, "can only reverse list or tuple values"),
    }
}

fn combine_sets(args: &[Value], union: bool) -> FunctionResult {
    let set_type = types::combined_set(args)?;
    let element = set_type.element().cloned().unwrap_or(Type::Dynamic);
    let sets: Result<Vec<Value>, _> = args.iter().map(|a| convert(a, &set_type)).collect();
    let sets = sets.map_err(|e| e.to_string())?;
    if union {
        return Ok(Value::set(element, sets.iter().flat_map(|s| items(s).iter().cloned())));
    }
    let first = sets.first().map_or(&[][..], items);
    let others: Vec<HashSet<String>> =
        sets.iter().skip(1).map(|set| items(set).iter().map(identity).collect()).collect();
    let common = first.iter().filter(|v| others.iter().all(|other| other.contains(&identity(v))));
    Ok(Value::set(element, common.cloned()))
}

/// The most tuples that `setproduct` makes.
const MOST_PRODUCTS: usize = 1 << 20;

fn set_product(args: &[Value]) -> FunctionResult {
    let (types, ordered) = types::set_product(args)?;
    let element = Type::tuple(types.iter().cloned());
    let unknown = |arg: &Value| !arg.is_known() || has_unknown_length(arg);
    if args.iter().any(unknown) {
        return Ok(Value::unknown(if ordered { Type::list(element) } else { Type::set(element) }));
    }
    let total = args.iter().fold(1usize, |total, arg| total.saturating_mul(items(arg).len()));
    fits_values(total.saturating_mul(args.len()))?;
    if total > MOST_PRODUCTS {
        return Err(format!("the product would have more than {MOST_PRODUCTS} elements").into());
    }
    let mut columns: Vec<Vec<Value>> = Vec::new();
    for (i, (arg, ty)) in args.iter().zip(&types).enumerate() {
        let column: Result<Vec<Value>, _> = items(arg).iter().map(|v| convert(v, ty)).collect();
        columns.push(column.map_err(|e| FunctionError::argument(i, e.to_string()))?);
    }
    let rows = (0..total).map(|mut at| {
        let mut row: Vec<Value> = columns
            .iter()
            .rev()
            .map(|column| {
                let value = column[at % column.len()].clone(); // no column is empty where there is a row
                at /= column.len();
                value
            })
            .collect();
        row.reverse();
        Value::tuple(row)
    });
    Ok(if ordered { Value::list(element, rows) } else { Value::set(element, rows) })
}

fn slice(args: &[Value]) -> FunctionResult {
    if matches!(args[0].data(), Data::Set(..)) {
        return wrong(0, types::UNORDERED);
    }
    let values = sequence(args, 0, "must be a list or tuple value")?;
    let bound = |index, what| types::slice_bound(args, index, what, Some(values.len()));
    let (Some(start), Some(end)) = (bound(1, "start")?, bound(2, "end")?) else {
        return Ok(Value::unknown(types::slice(args)?));
    };
    if start > end {
        return wrong(1, "start index must not be greater than end index");
    }
    Ok(sequence_like(&args[0], values[start..end].iter().cloned()))
}

fn sort(list: &Value) -> FunctionResult {
    let mut texts: Vec<Value> = items(list).to_vec();
    if !list.is_wholly_known() {
        // How many there are is known.
        return Ok(Value::list(Type::String, texts.iter().map(|_| Value::unknown(Type::String))));
    }
    if let Some(i) = texts.iter().position(Value::is_null) {
        return wrong(0, format!("given list element {i} is null; a null string cannot be sorted"));
    }
    texts.sort_by(|a, b| text(a).cmp(text(b)));
    Ok(Value::list(Type::String, texts))
}

fn zipmap(args: &[Value]) -> FunctionResult {
    let values = sequence(args, 1, "values must be a list or tuple value")?;
    let keys = items(&args[0]);
    if keys.len() != values.len() {
        return Err(format!(
            "number of keys ({}) does not match number of values ({})",
            keys.len(),
            values.len()
        )
        .into());
    }
    if let Some(i) = keys.iter().position(Value::is_null) {
        return wrong(0, format!("key {i} is null"));
    }
    let entries = keys.iter().zip(values).map(|(k, v)| (Arc::<str>::from(text(k)), v.clone()));
    Ok(match args[1].data() {
        Data::List(element, _) => Value::map(element.clone(), entries),
        _ => Value::object(entries),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> Value {
        Value::null(Type::Dynamic)
    }

    /// Beside what cty's functions give for the same.
    #[test]
    fn a_bare_null_ends_checks_of_types() {
        let list = || Value::tuple([Value::from("x")]);
        let none = || Value::tuple([]);
        let object = || Value::object([("a", Value::from(1))]);
        let texts = Value::set(Type::String, [Value::from("x")]);
        for (args, want) in [
            (vec![Value::from("a"), null(), list()], Some(Value::from("a"))),
            (vec![null(), Value::from("a"), list()], Some(Value::from("a"))),
            (vec![Value::from("a"), list()], None),
            (vec![null(), null()], None),
            (vec![Value::from(""), Value::from(2)], Some(Value::from("2"))),
            (vec![Value::set(Type::Number, [Value::from(1)]), Value::tuple([object(), null()])], None),
        ] {
            assert_eq!(coalesce(&args).ok(), want, "{args:?}");
        }
        for (args, want) in [
            (vec![null(), none()], Some(Value::object::<&str>([]))),
            (vec![object(), null(), none()], Some(object())),
            (vec![none(), null()], None),
            (vec![null(), list()], None),
            (vec![null(), Value::from("a")], None),
            (vec![null(), texts], Some(Value::object([("x", Value::from("x"))]))),
            (vec![Value::null(Type::map(Type::String))], Some(Value::map::<&str>(Type::String, []))),
        ] {
            assert_eq!(merge(&args).ok(), want, "{args:?}");
        }
    }

    #[test]
    fn a_step_of_zero_never_arrives() {
        let call = |numbers: [i64; 3]| range(&numbers.map(Value::from));
        assert_eq!(call([2, 2, 0]), Ok(Value::list(Type::Number, [])));
        assert!(call([0, 1, 0]).is_err() && call([1, 0, 0]).is_err());
    }
}
