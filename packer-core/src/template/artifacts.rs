//! `artifacts`: what builds have made, for the builds and outputs that are made of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::suggest::suggestion;
use crate::artifact::Artifact;
use crate::diagnostic::{Diagnostic, Diagnostics, Location, SourceFile};
use crate::language::eval::Reference;
use crate::language::syntax::Body;
use crate::value::{Type, Value};

/// The root name of references.
pub(super) const ROOT: &str = "artifacts";

/// A build that is referred to.
#[derive(Debug, Clone)]
pub(super) struct Need {
    /// Its display name.
    pub(super) build: String,
    pub(super) place: Location,
}

/// The builds that bodies refer to, each once.
pub(super) fn needed_by<'b>(
    bodies: impl Iterator<Item = &'b Body>,
    diagnostics: &mut Diagnostics,
) -> Vec<Need> {
    let mut needs: BTreeMap<String, Need> = BTreeMap::new();
    for body in bodies {
        let references = body.references();
        for reference in references.iter().filter(|r| &*r.root == ROOT && r.name(0).is_none()) {
            diagnostics.push(computed(reference, body));
        }
        for need in named_in(&references, body.source()) {
            needs.entry(need.build.clone()).or_insert(need);
        }
    }
    needs.into_values().collect()
}

/// The builds that references name outright.
pub(super) fn named_in(references: &[Reference], source: &Arc<SourceFile>) -> Vec<Need> {
    let ours = references.iter().filter(|r| &*r.root == ROOT);
    let need = |r: &Reference| Some(Need { build: r.name(0)?.to_owned(), place: r.span.in_source(source) });
    ours.filter_map(need).collect()
}

/// What is said where there is no build of the name; the detail is left to the caller.
pub(super) fn no_such_build(need: &Need, builds: &[String], diagnostics: &Diagnostics) -> Diagnostic {
    let d = Diagnostic::error("Unknown build in a reference to an artifact").at(need.place.clone());
    match suggestion(&need.build, builds.iter().map(String::as_str), diagnostics) {
        Some(meant) if meant != need.build => d.suggest(meant),
        _ => d,
    }
}

fn computed(reference: &Reference, body: &Body) -> Diagnostic {
    Diagnostic::error("Invalid reference to an artifact")
        .detail("Which build is meant must be known before anything is evaluated: write artifacts[\"NAME\"], with the build's display name in quotes.")
        .at(reference.span.in_source(body.source()))
}

/// What is seen before the builds have run.
pub(super) fn unknown(names: &[String]) -> (Arc<str>, Value) {
    let mut attributes = artifact_type();
    attributes.insert("all".into(), Type::list(Type::object(attributes.clone())));
    let unknown = Value::object(attributes.into_iter().map(|(name, ty)| (name, Value::unknown(ty))));
    (ROOT.into(), Value::object(names.iter().map(|name| (name.as_str(), unknown.clone()))))
}

/// What is seen when they have run.
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
