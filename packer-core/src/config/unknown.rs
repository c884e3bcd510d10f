//! Placeholders for what is not known yet.

use crate::value::{Data, Type, Value};

/// The value with a placeholder of its type for everything in it that is unknown: a component's checks always see
/// complete values.
pub(super) fn filled(value: &Value) -> Value {
    if value.is_wholly_known() || value.is_too_deep() {
        return value.clone();
    }
    let filled = match value.data() {
        Data::Unknown(ty) => placeholder(ty),
        Data::List(ty, items) => Value::list(ty.clone(), items.iter().map(filled)),
        Data::Set(ty, items) => Value::set(ty.clone(), items.iter().map(filled)),
        Data::Tuple(items) => Value::tuple(items.iter().map(filled)),
        Data::Map(ty, items) => Value::map(ty.clone(), items.iter().map(|(k, v)| (k.clone(), filled(v)))),
        Data::Object(items) => Value::object(items.iter().map(|(k, v)| (k.clone(), filled(v)))),
        _ => value.clone(),
    };
    filled.with_marks_of(value)
}

fn placeholder(ty: &Type) -> Value {
    match ty {
        Type::String | Type::Dynamic => Value::from("<unknown>"),
        Type::Number => Value::from(0),
        Type::Bool => Value::bool(false),
        Type::List(element) => Value::list((**element).clone(), []),
        Type::Set(element) => Value::set((**element).clone(), []),
        Type::Map(element) => Value::map::<&str>((**element).clone(), []),
        Type::Tuple(elements) => Value::tuple(elements.iter().map(placeholder)),
        Type::Object(object) => {
            Value::object(object.attributes.iter().map(|(name, ty)| (name.clone(), placeholder(ty))))
        }
    }
}
