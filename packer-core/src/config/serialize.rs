//! The configuration of a component as a value: what a block of a template would hold.

use std::sync::Arc;

use serde::Serialize;

use crate::secrets;
use crate::value::{Type, Value};

/// The fields of a component that differ from its default, as one object; a [`Secret`](crate::Secret) in it is a sensitive value.
/// What [`Provisioner::config`](crate::Provisioner::config) and its like return for a struct that serializes.
///
/// Where serde gives a field that is absent another value than `Default` does, the two must be made to agree.
///
/// `None` where the struct does not serialize to an object.
///
/// ```
/// use packer_core::{Secret, config};
/// #[derive(Default, serde::Serialize)]
/// struct Login { user: String, password: Secret, port: u16 }
///
/// let login = Login { user: "admin".into(), password: "hunter2".into(), ..Login::default() };
/// let value = config::to_value(&login).unwrap();
/// assert_eq!(value.get("user").and_then(|v| v.as_str()), Some("admin"));
/// assert!(value.get("password").unwrap().is_sensitive());
/// assert!(value.get("port").is_none());
/// // Any other serializer sees no secret.
/// assert_eq!(serde_json::to_value(&login).unwrap()["password"], "<sensitive>");
/// ```
pub fn to_value<T: Serialize + Default>(component: &T) -> Option<Value> {
    let (set, unset) =
        secrets::reveal(|| (serde_json::to_value(component), serde_json::to_value(T::default())));
    let (serde_json::Value::Object(set), serde_json::Value::Object(unset)) = (set.ok()?, unset.ok()?) else {
        return None;
    };
    let given = set.into_iter().filter(|(name, value)| unset.get(name) != Some(value));
    Some(Value::object(given.map(|(name, value)| (Arc::<str>::from(name), marked(&value)))))
}

/// A value in which what a `Secret` wrote is sensitive.
fn marked(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Object(fields) => match fields.get(secrets::REVEALED) {
            Some(text) if fields.len() == 1 => Value::from(text.as_str().unwrap_or_default()).sensitive(),
            _ => Value::object(
                fields.iter().map(|(name, value)| (Arc::<str>::from(name.as_str()), marked(value))),
            ),
        },
        serde_json::Value::Array(items) => Value::tuple(items.iter().map(marked)),
        serde_json::Value::Null => Value::null(Type::Dynamic),
        // As it is: the language would bring it into a normal form.
        serde_json::Value::String(text) => Value::from(text.as_str()),
        plain => Value::from(plain),
    }
}
