//! Provisioners and post-processors as blocks of a build.

use serde_json::{Value, json};

use super::body;
use super::document::{Object, plain_number};
use super::hcl::{Upgrade, comment};
use super::template::{Builder, Component};
use super::text::{Place, References};
use crate::config::Schema;
use crate::duration::GoDuration;
use crate::registry::Registry;

/// What builds are called in the new template.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    /// Builders, each with the name of its source.
    pub(super) builders: &'a [(&'a Builder, String)],
    /// Whether they keep the names that they had.
    pub(super) keep: bool,
}

impl<'a> Names<'a> {
    /// The builder that had a name, with the name that its builds have now.
    fn now(self, old: &str) -> Option<(&'a Builder, &'a str)> {
        let (builder, source) = self.builders.iter().find(|(builder, _)| builder.called() == old)?;
        Some((builder, Upgrade::local_name(builder, source, self.keep)))
    }
}

/// A provisioner, also the one that cleans up after an error.
pub(super) fn provisioner(
    block: &str,
    step: &Component,
    schema: Option<&Schema>,
    names: Names<'_>,
    references: &mut References,
) -> String {
    let mut config = step.config.clone();
    filters(&mut config, names);
    for name in ["pause_before", "timeout"] {
        if let Some(duration) = config.get(name).and_then(duration) {
            // One of nothing is none.
            let set = duration > GoDuration::ZERO;
            replace(&mut config, name, set.then(|| duration.to_string()));
        }
    }
    match config.get("max_retries") {
        Some(Value::Number(retries)) => {
            let retries = plain_number(retries);
            replace(&mut config, "max_retries", Some(retries));
        }
        Some(Value::String(retries)) if retries.is_empty() => replace(&mut config, "max_retries", None),
        _ => {}
    }
    if let Some(Value::Object(overrides)) = config.get_mut("override") {
        let renamed = std::mem::take(overrides).into_iter().map(|(old, settings)| match names.now(&old) {
            Some((_, now)) => (now.to_owned(), settings),
            None => (old, settings),
        });
        *overrides = renamed.collect();
    }
    let inside = body::write(&config, None, schema, Place::Provisioner, references);
    noted(format!("{}{inside}}}\n", body::head(block, &[&step.kind])), references)
}

/// A sequence of post-processors; one needs no block around it. What becomes of the artifact that one is given stands before
/// its settings.
pub(super) fn post_processors(
    sequence: &[Component],
    registry: &Registry,
    names: Names<'_>,
    references: &mut References,
) -> String {
    let (mut heads, mut configs, mut schemas) = (Vec::new(), Vec::new(), Vec::new());
    for step in sequence {
        let mut config = step.config.clone();
        filters(&mut config, names);
        let mut head = body::head("post-processor", &[&step.kind]);
        if let Some(Value::Bool(keep)) = config.get("keep_input_artifact") {
            head.push_str(&format!("keep_input_artifact = {keep}\n"));
            config.shift_remove("keep_input_artifact");
        }
        heads.push(head);
        configs.push(config);
        schemas.push(registry.get_post_processor(&step.kind).map(|c| c.schema.clone()));
    }
    let configs: Vec<_> = configs.iter().zip(schemas.iter().map(Option::as_deref)).collect();
    let bodies = body::write_all(&configs, None, Place::PostProcessor, references);
    let blocks: String = heads.iter().zip(bodies).map(|(head, body)| format!("{head}{body}}}\n")).collect();
    let whole = if sequence.len() > 1 { format!("post-processors {{\n{blocks}}}\n") } else { blocks };
    noted(whole, references)
}

/// A block with the notes about it above.
fn noted(block: String, references: &mut References) -> String {
    let mut out = String::new();
    for note in std::mem::take(&mut references.notes) {
        comment(&note, &mut out);
    }
    out + &block
}

/// Lets `only` and `except` name builds as the new template does.
fn filters(config: &mut Object, names: Names<'_>) {
    for filter in ["only", "except"] {
        for name in names_in(config.get_mut(filter)) {
            if let Some((builder, now)) = name.as_str().and_then(|old| names.now(old)) {
                *name = format!("{}.{now}", builder.component.kind).into();
            }
        }
    }
}

/// The names in a filter, which may be one text instead of a list.
fn names_in(filter: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    if let Some(one) = filter {
        if one.is_string() {
            *one = json!([one.take()]);
        }
        return one.as_array_mut().map(|names| names.iter_mut()).into_iter().flatten();
    }
    None.into_iter().flatten()
}

fn replace(config: &mut Object, name: &str, text: Option<String>) {
    match text {
        Some(text) => drop(config.insert(name.into(), text.into())),
        None => drop(config.shift_remove(name)),
    }
}

/// A duration; bare numbers are nanoseconds.
fn duration(value: &Value) -> Option<GoDuration> {
    match value {
        Value::Number(nanos) => nanos.as_i64().map(GoDuration::from_nanos),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}
