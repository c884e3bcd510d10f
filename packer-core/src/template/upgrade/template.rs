//! The parts of a template of the first generation, taken out of its JSON document.

use std::collections::BTreeSet;

use serde_json::Value;

use super::document::{Object, number_text};
/// What a template says.
#[derive(Debug, Default)]
pub(super) struct Template {
    pub(super) min_version: Option<String>,
    pub(super) description: Option<String>,
    /// `None` where a value must be given. In the order of their names.
    pub(super) variables: Vec<(String, Option<String>)>,
    pub(super) sensitive: BTreeSet<String>,
    pub(super) builders: Vec<Builder>,
    pub(super) provisioners: Vec<Component>,
    pub(super) error_cleanup: Option<Component>,
    /// Sequences; none is empty.
    pub(super) post_processors: Vec<Vec<Component>>,
}

/// A builder.
#[derive(Debug)]
pub(super) struct Builder {
    pub(super) component: Component,
    /// `None` where it is called as its type, whether that is written down or not.
    pub(super) name: Option<String>,
}

impl Builder {
    /// What steps call it.
    pub(super) fn called(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.component.kind)
    }
}

/// A component with all its settings but its type.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) kind: String,
    pub(super) config: Object,
}

impl Template {
    /// Takes a document apart that the loader accepts; what it would not accept is passed over.
    pub(super) fn of(root: &Object) -> Self {
        let mut template = Self::default();
        for (name, value) in root {
            // Names of the root are found in any case.
            match name.to_ascii_lowercase().as_str() {
                "min_packer_version" => template.min_version = text(value),
                "description" => template.description = text(value),
                "variables" => {
                    let variables = value.as_object().into_iter().flatten();
                    let default = |value: &Value| value.as_str().map(str::to_owned);
                    template.variables =
                        variables.map(|(name, value)| (name.clone(), default(value))).collect();
                    template.variables.sort();
                }
                "sensitive-variables" => {
                    template.sensitive = list(value).iter().filter_map(text).collect();
                }
                "builders" => template.builders = list(value).iter().filter_map(builder).collect(),
                "provisioners" => template.provisioners = list(value).iter().filter_map(component).collect(),
                "error-cleanup-provisioner" => template.error_cleanup = component(value),
                "post-processors" => {
                    template.post_processors = list(value).iter().map(sequence).collect();
                    template.post_processors.retain(|sequence| !sequence.is_empty());
                }
                _ => {}
            }
        }
        template
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text; numbers and bools are taken for one.
fn weak_text(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number_text(number)),
        Value::Bool(b) => Some(u8::from(*b).to_string()),
        value => text(value),
    }
}

fn builder(value: &Value) -> Option<Builder> {
    let mut component = component(value)?;
    let name = take(&mut component.config, "name").and_then(|name| weak_text(&name));
    let name = name.filter(|name| *name != component.kind);
    Some(Builder { component, name })
}

fn component(value: &Value) -> Option<Component> {
    let mut config = value.as_object()?.clone();
    let kind = take(&mut config, "type").and_then(|kind| weak_text(&kind))?;
    Some(Component { kind, config })
}

/// Takes an item out. A name in another case is the same name where the exact one is not there.
fn take(config: &mut Object, name: &str) -> Option<Value> {
    let other = || config.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
    let key = if config.contains_key(name) { name.to_owned() } else { other()? };
    config.shift_remove(&key)
}

fn sequence(value: &Value) -> Vec<Component> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        other => std::slice::from_ref(other),
    };
    let of = |item: &Value| match item {
        Value::String(kind) => Some(Component { kind: kind.clone(), config: Object::new() }),
        item => component(item),
    };
    items.iter().filter_map(of).collect()
}
