//! Builds made from the artifacts of others: an extension of the template language.
//!
//! A `source` block (or one in a build) may refer to what another build of the same template makes, by the other build's
//! display name:
//!
//! ```hcl
//! source "file" "copy" {
//!   source = artifacts["base.file.image"].files[0]
//!   target = "copy.img"
//! }
//! ```
//!
//! The reference makes the build wait for the other one. Each artifact is an object of `id`, `builder_id` and
//! `description` (texts), `files` (a list of texts) and `metadata` (whatever the component said); `all` lists every artifact
//! that the other build leaves, and the attributes directly behind the name are those of the first. Before the
//! other build has run all of it is unknown. Packer has no name `artifacts`, so no template of its can mean something else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::eval::Reference;
use super::syntax::Body;
use crate::artifact::Artifact;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::value::{Type, Value};

/// The root name of references.
const ROOT: &str = "artifacts";

/// The display names of the builds that bodies refer to.
pub(super) fn needed_by<'b>(
    bodies: impl Iterator<Item = &'b Body>,
    diagnostics: &mut Diagnostics,
) -> Vec<String> {
    let mut names = BTreeSet::new();
    for body in bodies {
        for reference in body.references().iter().filter(|r| &*r.root == ROOT) {
            match reference.name(0) {
                Some(name) => drop(names.insert(name.to_owned())),
                None => diagnostics.push(computed(reference, body)),
            }
        }
    }
    names.into_iter().collect()
}

fn computed(reference: &Reference, body: &Body) -> Diagnostic {
    Diagnostic::error("Invalid reference to an artifact")
        .detail("Which build is meant must be known before anything is evaluated: write artifacts[\"NAME\"], with the build's display name in quotes.")
        .at(reference.span.in_source(body.source()))
}

/// What a source sees before the builds it needs have run.
pub(super) fn unknown(names: &[String]) -> (Arc<str>, Value) {
    let mut attributes = artifact_type();
    attributes.insert("all".into(), Type::list(Type::object(attributes.clone())));
    let unknown = Value::object(attributes.into_iter().map(|(name, ty)| (name, Value::unknown(ty))));
    (ROOT.into(), Value::object(names.iter().map(|name| (name.as_str(), unknown.clone()))))
}

/// What a source sees when they have run.
pub(super) fn known(names: &[String], made: &BTreeMap<String, Vec<Artifact>>) -> (Arc<str>, Value) {
    let of_build = |name: &String| {
        let all: Vec<Value> = made.get(name).into_iter().flatten().map(value).collect();
        let mut attributes: BTreeMap<Arc<str>, Value> = match all.first().and_then(Value::as_map) {
            Some(first) => first.clone(),
            None => value(&Artifact::default()).as_map().cloned().unwrap_or_default(),
        };
        attributes.insert("all".into(), Value::tuple(all));
        Value::object(attributes)
    };
    (ROOT.into(), Value::object(names.iter().map(|name| (name.as_str(), of_build(name)))))
}

fn artifact_type() -> BTreeMap<Arc<str>, Type> {
    let attributes = [
        ("id", Type::String),
        ("builder_id", Type::String),
        ("description", Type::String),
        ("files", Type::list(Type::String)),
        ("metadata", Type::Dynamic),
    ];
    attributes.into_iter().map(|(name, ty)| (name.into(), ty)).collect()
}

fn value(artifact: &Artifact) -> Value {
    let files = artifact.files.iter().map(|path| Value::text(&path.to_string_lossy()));
    let metadata = artifact.metadata.iter().map(|(name, v)| (name.as_str(), Value::from_json(v)));
    Value::object([
        ("id", Value::text(&artifact.id)),
        ("builder_id", Value::text(&artifact.builder_id)),
        ("description", Value::text(&artifact.description)),
        ("files", Value::list(Type::String, files)),
        ("metadata", Value::object(metadata)),
    ])
}
