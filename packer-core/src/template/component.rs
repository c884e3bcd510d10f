//! From the body of a block to the component it configures.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::builds::PartBody;
use super::eval::Scope;
use super::syntax::{Attribute, BodySchema};
use crate::diagnostic::{Diagnostic, Diagnostics, Location, did_you_mean};
use crate::registry::ComponentType;
use crate::value::{Data, Type, Value, convert};

/// What is said of a component type that nobody registered.
pub(super) fn unknown<'a>(summary: String, kind: &str, known: impl Iterator<Item = &'a str>) -> Diagnostic {
    let d = Diagnostic::error(summary);
    let known: Vec<&str> = known.collect();
    if let Some(meant) = did_you_mean(kind, known.iter().copied()) {
        return d.detail("Nothing of this type is built in here.").help(format!("did you mean {meant:?}?"));
    }
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    d.detail(format!("Nothing of this type is built in here. There is: {known}."))
}

/// Makes a component of one or several bodies, which together are its configuration. `overrides` replaces arguments.
///
/// Findings without a place of their own get `place`.
pub(super) fn decode<T: ?Sized>(
    kind: &ComponentType<T>,
    parts: &[PartBody],
    overrides: Option<&Value>,
    scope: &Scope,
    place: &Location,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<T>> {
    let before = diagnostics.len();
    let fields = fields(&kind.schema);
    let schema = fields.keys().fold(BodySchema::new(), |s, name| s.optional(name.clone()));
    let mut given: BTreeMap<Arc<str>, (Attribute, Value)> = BTreeMap::new();
    for part in parts {
        let scope = scope.with_variables(part.iterators.clone());
        let content = part.body.expand(&schema, &scope, diagnostics);
        for attribute in content.attributes {
            let name = attribute.name.text.clone();
            if let Some((first, _)) = given.get(&name) {
                diagnostics.push(
                    Diagnostic::error("Duplicate argument")
                        .detail(format!("The argument {name:?} is set already; a build can add arguments, not replace them."))
                        .at(attribute.location())
                        .related("set here", first.location()),
                );
                continue;
            }
            let value = if part.unknown {
                Value::unknown(Type::Dynamic)
            } else {
                attribute.evaluate(&scope, diagnostics)
            };
            let ty = fields.get(&*name).cloned().unwrap_or(Type::Dynamic);
            match convert(&value, &ty) {
                Ok(value) => drop(given.insert(name, (attribute, value))),
                Err(e) => diagnostics.push(
                    Diagnostic::error("Incorrect attribute value type")
                        .detail(format!("Inappropriate value for attribute {name:?}: {e}."))
                        .at(attribute.value_location()),
                ),
            }
        }
    }
    if diagnostics.len() > before {
        return None;
    }
    let mut config: BTreeMap<Arc<str>, Value> =
        given.into_iter().filter(|(_, (_, v))| !v.is_null()).map(|(k, (_, v))| (k, known(&v))).collect();
    for (name, value) in overrides.and_then(Value::as_map).into_iter().flatten() {
        let Some(ty) = fields.get(&**name) else {
            diagnostics
                .push(Diagnostic::error(format!("unknown configuration key: '{name:?}'")).at(place.clone()));
            continue;
        };
        match convert(value, ty) {
            Ok(value) => drop(config.insert(name.clone(), known(&value))),
            Err(e) => {
                diagnostics.push(Diagnostic::error(format!("error decoding '{name}': {e}")).at(place.clone()))
            }
        }
    }
    if diagnostics.len() > before {
        return None;
    }
    kind.decode(&Value::object(config))
        .map_err(|e| diagnostics.push(Diagnostic::error(e).at(place.clone())))
        .ok()
}

/// The value with a placeholder for everything that is unknown in it.
fn known(value: &Value) -> Value {
    if value.is_wholly_known() {
        return value.clone();
    }
    let filled = match value.data() {
        Data::Unknown(Type::String | Type::Dynamic) => Value::from("<unknown>"),
        Data::Unknown(Type::Number) => Value::from(0),
        Data::Unknown(Type::Bool) => Value::bool(false),
        Data::Unknown(Type::List(t) | Type::Set(t)) => Value::list((**t).clone(), []),
        Data::Unknown(_) => Value::object::<&str>([]),
        Data::List(t, items) => Value::list(t.clone(), items.iter().map(known)),
        Data::Set(t, items) => Value::set(t.clone(), items.iter().map(known)),
        Data::Tuple(items) => Value::tuple(items.iter().map(known)),
        Data::Map(t, items) => Value::map(t.clone(), items.iter().map(|(k, v)| (k.clone(), known(v)))),
        Data::Object(items) => Value::object(items.iter().map(|(k, v)| (k.clone(), known(v)))),
        _ => value.clone(),
    };
    filled.with_marks_of(value)
}

fn fields(schema: &schemars::Schema) -> BTreeMap<String, Type> {
    let root = schema.as_value();
    // The schema of a struct that is nothing but another one refers to that one's.
    let target = root.get("$ref").and_then(serde_json::Value::as_str);
    let object = target.and_then(|path| root.pointer(path.trim_start_matches('#'))).unwrap_or(root);
    let properties = object.get("properties").and_then(serde_json::Value::as_object);
    properties.into_iter().flatten().map(|(name, s)| (name.clone(), type_of(s, root))).collect()
}

fn type_of(schema: &serde_json::Value, root: &serde_json::Value) -> Type {
    if let Some(path) = schema.get("$ref").and_then(serde_json::Value::as_str) {
        let target = root.pointer(path.trim_start_matches('#'));
        return target.map_or(Type::Dynamic, |s| type_of(s, root));
    }
    let kind = match schema.get("type") {
        Some(serde_json::Value::String(s)) => s.as_str(),
        Some(serde_json::Value::Array(all)) => {
            all.iter().filter_map(serde_json::Value::as_str).find(|t| *t != "null").unwrap_or_default()
        }
        _ => "",
    };
    match kind {
        "string" => Type::String,
        "integer" | "number" => Type::Number,
        "boolean" => Type::Bool,
        "array" => Type::list(schema.get("items").map_or(Type::Dynamic, |s| type_of(s, root))),
        "object" => Type::map(schema.get("additionalProperties").map_or(Type::String, |s| type_of(s, root))),
        _ => Type::Dynamic,
    }
}
