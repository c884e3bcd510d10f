//! The parts of a template of the first generation, taken out of its JSON document.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::document::Object;
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, Span, did_you_mean};

const ROOT_KEYS: [&str; 10] = [
    "min_packer_version",
    "description",
    "variables",
    "sensitive-variables",
    "builders",
    "provisioners",
    "error-cleanup-provisioner",
    "post-processors",
    "push",
    "comments",
];

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
    /// `None` where it is called as its type.
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

/// Takes a template apart.
///
/// # Errors
/// All that is not as it must be. Places are that of the whole text: a document knows no other.
pub(super) fn read(root: &Object, source: &Arc<SourceFile>) -> Result<Template, Diagnostics> {
    let mut reader = Reader { source, found: Diagnostics::new() };
    let template = reader.template(root);
    reader.found.into_result(template)
}

/// What would keep the document from being loaded.
pub(super) fn check(root: &Object, source: &Arc<SourceFile>) -> Diagnostics {
    let template = match read(root, source) {
        Ok(template) => template,
        Err(found) => return found,
    };
    let mut reader = Reader { source, found: Diagnostics::new() };
    if template.builders.is_empty() {
        reader.wrong("at least one builder must be defined".into());
    }
    reader.found
}

struct Reader<'a> {
    source: &'a Arc<SourceFile>,
    found: Diagnostics,
}

impl Reader<'_> {
    fn wrong(&mut self, what: String) {
        self.push(Diagnostic::error(what));
    }

    fn push(&mut self, d: Diagnostic) {
        self.found.push(d.at(Span::new(0, 0).in_source(self.source)));
    }

    fn template(&mut self, root: &Object) -> Template {
        let mut template = Template::default();
        for (name, value) in root {
            // Names of the root are found in any case.
            let known = ROOT_KEYS.iter().find(|key| key.eq_ignore_ascii_case(name));
            match known.copied() {
                Some("min_packer_version") => template.min_version = self.text(name, value),
                Some("description") => template.description = self.text(name, value),
                Some("variables") => template.variables = self.variables(value),
                Some("sensitive-variables") => {
                    let names = self.list(name, value).iter();
                    template.sensitive = names.filter_map(Value::as_str).map(str::to_owned).collect();
                }
                Some("builders") => {
                    let items = self.list(name, value).iter().enumerate();
                    template.builders = items.filter_map(|(i, b)| self.builder(i + 1, b)).collect();
                }
                Some("provisioners") => {
                    let items = self.list(name, value).iter().enumerate();
                    let what = |i: usize| format!("provisioner {}", i + 1);
                    template.provisioners = items.filter_map(|(i, p)| self.component(&what(i), p)).collect();
                }
                Some("error-cleanup-provisioner") if !value.is_null() => {
                    template.error_cleanup = self.component("error-cleanup-provisioner", value);
                }
                Some("post-processors") => {
                    let items = self.list(name, value).iter().enumerate();
                    template.post_processors = items.map(|(i, p)| self.sequence(i + 1, p)).collect();
                    template.post_processors.retain(|sequence| !sequence.is_empty());
                }
                Some(_) => {}
                None if name.starts_with('_') => {}
                None => {
                    let d = Diagnostic::error(format!("Unknown root level key in template: '{name}'"));
                    self.push(match did_you_mean(name, ROOT_KEYS) {
                        Some(meant) => d.help(format!("did you mean {meant:?}?")),
                        None => d,
                    });
                }
            }
        }
        let mut names = BTreeSet::new();
        for builder in &template.builders {
            if !names.insert(builder.called()) {
                self.wrong(format!("builder with name '{}' already exists", builder.called()));
            }
        }
        template
    }

    fn text(&mut self, name: &str, value: &Value) -> Option<String> {
        if !matches!(value, Value::String(_) | Value::Null) {
            self.wrong(format!("{name} must be a text"));
        }
        value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn list<'v>(&mut self, name: &str, value: &'v Value) -> &'v [Value] {
        match value {
            Value::Array(items) => items,
            Value::Null => &[],
            _ => {
                self.wrong(format!("{name} must be a list"));
                &[]
            }
        }
    }

    fn variables(&mut self, value: &Value) -> Vec<(String, Option<String>)> {
        let mut variables = Vec::new();
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    match value {
                        Value::Null => variables.push((name.clone(), None)),
                        Value::String(text) => variables.push((name.clone(), Some(text.clone()))),
                        _ => self.wrong(format!("variable {name}: the default must be a text")),
                    }
                }
            }
            Value::Null => {}
            _ => self.wrong("variables must be an object".into()),
        }
        variables.sort();
        variables
    }

    fn builder(&mut self, number: usize, value: &Value) -> Option<Builder> {
        let mut component = self.component(&format!("builder {number}"), value)?;
        let name = match component.config.shift_remove("name") {
            Some(Value::String(name)) => Some(name).filter(|name| !name.is_empty()),
            Some(Value::Number(name)) => Some(name.to_string()),
            None | Some(Value::Null) => None,
            Some(_) => {
                self.wrong(format!("builder {number}: the name must be a text"));
                None
            }
        };
        Some(Builder { component, name })
    }

    fn component(&mut self, what: &str, value: &Value) -> Option<Component> {
        let Value::Object(object) = value else {
            self.wrong(format!("{what} must be an object"));
            return None;
        };
        let mut config = object.clone();
        match config.shift_remove("type") {
            Some(Value::String(kind)) if !kind.is_empty() => Some(Component { kind, config }),
            _ => {
                self.wrong(format!("{what}: missing 'type'"));
                None
            }
        }
    }

    fn sequence(&mut self, number: usize, value: &Value) -> Vec<Component> {
        let items = match value {
            Value::Array(items) => items.as_slice(),
            other => std::slice::from_ref(other),
        };
        let each = items.iter().enumerate().filter_map(|(i, item)| match item {
            Value::String(kind) => Some(Component { kind: kind.clone(), config: Object::new() }),
            Value::Array(_) => {
                self.wrong("sequence not allowed to be nested in a sequence".into());
                None
            }
            item => self.component(&format!("post-processor {number}.{}", i + 1), item),
        });
        each.collect()
    }
}
