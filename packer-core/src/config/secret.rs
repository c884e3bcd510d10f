//! What the fields of a component hold of secrets.

use super::schema::{Field, FieldKind, Schema};
use crate::diagnostic::{Diagnostics, did_you_mean};
use crate::language::eval::Scope;
use crate::language::syntax::Body;
use crate::secrets::{Secrets, is_telling};
use crate::value::{Data, Value};

/// The value of a field, marked where the field is declared secret.
pub(super) fn marked(field: &Field, value: Value) -> Value {
    match field.secret && !value.is_null() {
        true => hidden(&value),
        false => value,
    }
}

/// The value with everything in it marked. The marks are on what holds no other values, so that what is shown of a map
/// still has its names.
fn hidden(value: &Value) -> Value {
    if value.is_too_deep() {
        return value.clone().sensitive();
    }
    let hidden = match value.data() {
        Data::List(ty, items) => Value::list(ty.clone(), items.iter().map(hidden)),
        Data::Set(ty, items) => Value::set(ty.clone(), items.iter().map(hidden)),
        Data::Tuple(items) => Value::tuple(items.iter().map(hidden)),
        Data::Map(ty, items) => Value::map(ty.clone(), items.iter().map(|(k, v)| (k.clone(), hidden(v)))),
        Data::Object(items) => Value::object(items.iter().map(|(k, v)| (k.clone(), hidden(v)))),
        _ => value.clone().sensitive(),
    };
    hidden.with_marks_of(value)
}

/// Registers what the value of a field holds of secrets: all of it where it is declared secret, otherwise what is marked.
pub(super) fn register(field: &Field, value: &Value, secrets: &Secrets) {
    match &field.kind {
        _ if field.secret => secrets.add_declared(&marked(field, value.clone())),
        FieldKind::Attribute(_) => secrets.add_marked(value),
        FieldKind::Block(schema) | FieldKind::Blocks(schema) => {
            let blocks = value.as_slice().unwrap_or(std::slice::from_ref(value));
            blocks.iter().for_each(|block| register_all(schema, block, secrets));
        }
    }
}

/// The same for an object of a schema.
pub(super) fn register_all(schema: &Schema, object: &Value, secrets: &Secrets) {
    let mut unknown = 0;
    for (name, value) in object.as_map().into_iter().flatten() {
        let Some((_, field)) = schema.field_ignoring_case(name) else {
            unknown += 1;
            if is_meant(schema, name, unknown) {
                secrets.add_declared(&hidden(value));
            }
            continue;
        };
        match object.is_sensitive() {
            true => register(field, &value.clone().with_marks_of(object), secrets),
            false => register(field, value, secrets),
        }
    }
}

/// Registers what a body gives to names that do not exist and are meant for secrets: what is said of them shows the line.
pub(super) fn register_misnamed(schema: &Schema, body: &Body, scope: &Scope, secrets: &Secrets) {
    let attributes = body.all_attributes();
    let unknown = attributes.iter().filter(|attribute| schema.field(attribute.name.as_str()).is_none());
    for (i, attribute) in unknown.enumerate() {
        if is_meant(schema, attribute.name.as_str(), i) {
            // What is wrong with the value is told elsewhere, or not at all.
            secrets.add_declared(&hidden(&attribute.evaluate(scope, &mut Diagnostics::new())));
        }
    }
}

/// Whether a name that does not exist is meant for a secret; `before` counts the unknown ones before it.
fn is_meant(schema: &Schema, name: &str, before: usize) -> bool {
    /// So many that it would take long to look at each; they are no slips of the pen.
    const MANY: usize = 50;
    let names = schema.fields.keys().map(|name| &**name).filter(|_| before < MANY);
    let meant = || did_you_mean(name, names).and_then(|meant| schema.fields.get(meant));
    is_telling(name) || meant().is_some_and(|field| field.secret)
}
