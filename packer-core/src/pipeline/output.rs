//! Outputs: named values that a run gives back beside its artifacts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::late::RunValues;
use crate::diagnostic::{Diagnostics, Location};
use crate::secrets::Secrets;
use crate::value::{Data, Value};

/// What stands for a sensitive value that is shown.
const MASK: &str = "<sensitive>";

/// A value to be made when the builds are done, from their artifacts.
///
/// ```
/// use packer_core::{Output, Value};
/// let id = Output::new("id", ["docker.web"], |values| {
///     let artifact = values.artifacts.get("docker.web").and_then(|all| all.first());
///     Ok(Value::from(artifact.map_or("", |a| a.id.as_str())))
/// });
/// assert_eq!(id.name, "id");
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Output {
    /// Names it in the report.
    pub name: String,
    /// Says what it is for.
    pub description: String,
    /// Display names of builds without whose success there is no such output.
    pub needs: Vec<String>,
    /// The block it comes from.
    pub location: Option<Location>,
    value: Arc<Make>,
}

type Make = dyn Fn(&RunValues) -> Result<Value, Diagnostics> + Send + Sync;

impl Output {
    /// An output that is made when the builds in `needs` have succeeded. `value` finds the artifacts of every build that
    /// did in [`RunValues::artifacts`]; a value marked sensitive is masked wherever the report is shown.
    pub fn new(
        name: impl Into<String>,
        needs: impl IntoIterator<Item = impl Into<String>>,
        value: impl Fn(&RunValues) -> Result<Value, Diagnostics> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            needs: needs.into_iter().map(Into::into).collect(),
            location: None,
            value: Arc::new(value),
        }
    }

    /// Its value.
    ///
    /// # Errors
    /// What is wrong with it now that the artifacts are known.
    pub fn evaluate(&self, values: &RunValues) -> Result<Value, Diagnostics> {
        (self.value)(values)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("name", &self.name).field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// The outputs of a run, by name.
///
/// The values are there in clear, sensitive ones with their mark. What is serialized, or printed with `Debug`, has
/// `<sensitive>` in the place of those.
#[derive(Debug, Clone, Default)]
pub struct Outputs(BTreeMap<String, Value>);

impl Outputs {
    /// The value of an output.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Every output, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn insert(&mut self, name: String, value: Value) {
        self.0.insert(name, value);
    }

    /// Each as it may be shown: without what is marked sensitive, and without texts that are secrets.
    pub(crate) fn shown(&self, secrets: &Secrets) -> BTreeMap<String, serde_json::Value> {
        self.0.iter().map(|(name, value)| (name.clone(), shown(value, secrets))).collect()
    }
}

impl Serialize for Outputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown(&Secrets::new()).serialize(serializer)
    }
}

/// The value as JSON, masked. It recurses no deeper than values may nest.
fn shown(value: &Value, secrets: &Secrets) -> serde_json::Value {
    use serde_json::Value as Json;
    if value.is_sensitive() {
        return MASK.into();
    }
    if value.is_too_deep() {
        return Json::Null;
    }
    match value.data() {
        Data::List(_, items) | Data::Set(_, items) | Data::Tuple(items) => {
            items.iter().map(|item| shown(item, secrets)).collect()
        }
        Data::Map(_, entries) | Data::Object(entries) => entries
            .iter()
            .map(|(key, item)| (secrets.scrub_prose(&**key).into_owned(), shown(item, secrets)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Data::String(text) => secrets.scrub(&**text).into_owned().into(),
        _ => serde_json::to_value(value).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sensitive_is_masked_where_it_is_shown() {
        let secrets = Secrets::new();
        secrets.add("hunter2");
        let mut outputs = Outputs::default();
        outputs.insert("plain".into(), Value::from("hunter2 is in here"));
        outputs.insert(
            "nested".into(),
            Value::object([("a", Value::from(1)), ("b", Value::tuple([Value::from("x").sensitive()]))]),
        );
        let shown = serde_json::to_string(&outputs.shown(&secrets)).unwrap();
        assert_eq!(shown, r#"{"nested":{"a":1,"b":["<sensitive>"]},"plain":"<sensitive> is in here"}"#);
        let plain = serde_json::to_string(&outputs).unwrap();
        assert!(plain.contains(r#""b":["<sensitive>"]"#), "{plain}");
        assert!(!format!("{outputs:?}").contains("\"x\""));
        assert_eq!(outputs.get("plain").and_then(Value::as_str), Some("hunter2 is in here"));
    }
}
