//! What has changed since a template of the first generation was written: old names and forms, and the new ones.

use std::sync::Arc;

use serde_json::Value;

use super::document::{self, Object};
use super::fixes;
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, Span};
use crate::template::Template;

/// A change that [`fix`] makes.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fixer {
    /// A short name.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    pub(super) part: Part,
}

/// What a fixer looks at. Types end in `*` where any that begins so is meant; none at all means every type.
#[derive(Debug)]
pub(super) enum Part {
    Builders(&'static [&'static str], fn(&mut Object)),
    Provisioners(&'static [&'static str], fn(&mut Object)),
    PostProcessors(&'static [&'static str], fn(&mut Object)),
    Template(fn(&mut Object)),
}

/// A template of the first generation with all that is old in it replaced.
#[derive(Debug)]
pub struct Fixed {
    source: Arc<SourceFile>,
    root: Object,
}

/// Every change, in the order in which they are made.
pub fn fixers() -> &'static [Fixer] {
    &fixes::FIXERS
}

/// Replaces what is old in a template of the first generation. A value of a kind that was never right stays, and where
/// the new name is there already the old one is dropped.
///
/// ```
/// use packer_core::SourceFile;
/// use packer_core::template::upgrade::fix;
/// let source = SourceFile::new("t.json", r#"{"builders": [{"type": "null", "ssh_wait_timeout": "5m"}]}"#);
/// let fixed = fix(&source)?;
/// assert!(fixed.to_json().contains(r#""ssh_timeout": "5m""#));
/// # Ok::<(), packer_core::Diagnostics>(())
/// ```
///
/// # Errors
/// Where the text is not JSON, or the parts that are looked at are not what they must be.
pub fn fix(source: &Arc<SourceFile>) -> Result<Fixed, Diagnostics> {
    let mut root = document::read(source)?;
    check_shape(&root, source)?;
    root.entry("builders").or_insert(Value::Null);
    for fixer in fixers() {
        match &fixer.part {
            Part::Template(fix) => fix(&mut root),
            Part::Builders(types, fix) => each(&mut root, "builders", types, *fix),
            Part::Provisioners(types, fix) => each(&mut root, "provisioners", types, *fix),
            Part::PostProcessors(types, fix) => each(&mut root, "post-processors", types, *fix),
        }
    }
    Ok(Fixed { source: source.clone(), root })
}

impl Fixed {
    /// The template as JSON, two spaces a level and names sorted, without a line end behind it.
    pub fn to_json(&self) -> String {
        document::write(&self.root)
    }

    /// What keeps the fixed template from being loaded; places are those of its JSON.
    pub fn check(&self) -> Diagnostics {
        let mut found = Template::from_legacy(self.source.name(), self.to_json()).err().unwrap_or_default();
        if found.is_empty() && self.root.get("builders").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            found.push(Diagnostic::error("at least one builder must be defined"));
        }
        found
    }
}

fn check_shape(root: &Object, source: &Arc<SourceFile>) -> Result<(), Diagnostics> {
    let mut found = Diagnostics::new();
    let mut wrong = |what: &str| {
        let whole = Span::new(0, 0).in_source(source);
        found.push(
            Diagnostic::error(format!("{what} cannot be fixed"))
                .detail("A list of objects is needed.")
                .at(whole),
        );
    };
    for part in ["builders", "provisioners", "post-processors"] {
        match root.get(part) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) if part == "post-processors" || items.iter().all(Value::is_object) => {}
            Some(_) => wrong(part),
        }
    }
    found.into_result(())
}

/// Calls `fix` for each component of these types; post-processors may be in sequences.
pub(super) fn each(root: &mut Object, part: &str, types: &[&str], fix: impl Fn(&mut Object) + Copy) {
    let Some(Value::Array(items)) = root.get_mut(part) else { return };
    for item in items {
        match item {
            Value::Object(component) if is_of(component, types) => fix(component),
            Value::Array(sequence) => {
                let components = sequence.iter_mut().filter_map(Value::as_object_mut);
                components.filter(|c| is_of(c, types)).for_each(fix);
            }
            _ => {}
        }
    }
}

fn is_of(component: &Object, types: &[&str]) -> bool {
    let of = |pattern: &&str| match (component.get("type"), pattern.strip_suffix('*')) {
        (Some(Value::String(kind)), Some(start)) => kind.starts_with(start),
        (Some(Value::String(kind)), None) => kind == pattern,
        _ => false,
    };
    types.is_empty() || types.iter().any(of)
}
