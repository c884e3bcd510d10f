//! The `packer` block: which version and which plugins a template asks for.

use std::collections::{BTreeMap, BTreeSet};

use super::version::VersionConstraint;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::language::eval::Scope;
use crate::language::syntax::{Attribute, Block, BodySchema};
use crate::pipeline::ProvidedPlugin;
use crate::registry::Registry;
use crate::value::{Data, Value};

/// A plugin that a template asks for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RequiredPlugin {
    /// The name that components of the plugin start with.
    pub name: String,
    /// Where it comes from: `github.com/hashicorp/docker`.
    pub source: String,
    /// Which versions will do.
    pub version: VersionConstraint,
    /// The attribute that asks.
    pub location: Location,
}

impl RequiredPlugin {
    /// The plugin as one that is not needed.
    pub(super) fn provided(&self) -> ProvidedPlugin {
        let (name, source, version) = (self.name.clone(), self.source.clone(), self.version.to_string());
        ProvidedPlugin { name, source, version }
    }
}

/// Checks the version that a block asks for; everything else in it is checked later.
pub(super) fn check_core_version(block: &Block, diagnostics: &mut Diagnostics) {
    let schema = BodySchema::new().optional("required_version");
    let (content, _) = block.body.partial_content(&schema, &mut Diagnostics::new());
    if let Some(attribute) = content.attribute("required_version") {
        check_required_version(attribute, diagnostics);
    }
}

fn check_required_version(attribute: &Attribute, diagnostics: &mut Diagnostics) {
    let invalid = |detail: &str| {
        Diagnostic::error("Invalid version constraint").detail(detail).at(attribute.location())
    };
    let before = diagnostics.len();
    let value = attribute.evaluate(&Scope::constant(), diagnostics);
    match value.data() {
        Data::Null(_) => {}
        _ if diagnostics.len() > before => {}
        Data::String(text) => match VersionConstraint::parse(text) {
            None => diagnostics.push(invalid(&format!("{text:?} is no version constraint: write `>= 1.7.0, < 2.0.0`."))),
            Some(constraint) if constraint.admits(crate::VERSION) => {}
            Some(constraint) => diagnostics.push(
                Diagnostic::error("Unsupported Packer Core version")
                    .detail(format!(
                        "This template asks for Packer {constraint}, and this is version {}. Use another version, or change \
                         the constraint if you know that the template works here.",
                        crate::VERSION
                    ))
                    .at(attribute.location()),
            ),
        },
        _ => diagnostics.push(invalid("A version constraint is a text.")),
    }
}

/// Checks a whole block and gives the plugins it asks for.
pub(super) fn decode_block(block: &Block, diagnostics: &mut Diagnostics) -> Vec<RequiredPlugin> {
    let schema = BodySchema::new().optional("required_version").block("required_plugins", &[]);
    let content = block.body.content(&schema, diagnostics);
    let mut plugins = Vec::new();
    for required in content.blocks("required_plugins") {
        for attribute in required.body.attributes(diagnostics) {
            plugins.extend(decode_plugin(&attribute, diagnostics));
        }
    }
    plugins
}

fn decode_plugin(attribute: &Attribute, diagnostics: &mut Diagnostics) -> Option<RequiredPlugin> {
    let name = attribute.name.as_str();
    let before = diagnostics.len();
    let value = attribute.evaluate(&Scope::constant(), diagnostics);
    if diagnostics.len() > before {
        return None;
    }
    let mut wrong = |summary: &str, detail: String| {
        diagnostics.push(Diagnostic::error(summary).detail(detail).at(attribute.value_location()));
    };
    if let Err(detail) = check_local_name(name) {
        wrong("Invalid plugin local name", detail);
        return None;
    }
    let object = match value.data() {
        Data::Object(object) => object,
        Data::String(_) | Data::Number(_) | Data::Bool(_) | Data::Null(_) => {
            wrong(
                "Invalid plugin requirement",
                format!(
                    "A plugin is asked for with an object: `{name} = {{ source = \"github.com/hashicorp/{name}\", version = \">= 1.0.0\" }}`."
                ),
            );
            return None;
        }
        _ => {
            wrong(
                "Invalid required_plugins syntax",
                "A plugin is asked for with an object of `source` and `version`.".into(),
            );
            return None;
        }
    };
    let version = match object.get("version").map(Value::data) {
        None => {
            wrong(
                "No version constraint was set",
                "Say which versions will do: `version = \">= 1.2.0, < 2.0.0\"`.".into(),
            );
            None
        }
        Some(Data::String(text)) => match VersionConstraint::parse(text) {
            None => {
                wrong(
                    "Invalid version constraint",
                    format!("{text:?} is no version constraint: write `>= 1.2.0, < 2.0.0`."),
                );
                None
            }
            Some(constraint) if constraint.names_pre_release() => {
                wrong(
                    "Invalid version constraint",
                    "A plugin's version constraint may not name a pre-release.".into(),
                );
                None
            }
            Some(constraint) => Some(constraint),
        },
        Some(_) => {
            wrong("Invalid version constraint", "A version constraint is a text.".into());
            None
        }
    };
    let source = match object.get("source").map(Value::data) {
        None => {
            wrong(
                "No source was set",
                format!("Say where the plugin comes from: `source = \"github.com/hashicorp/{name}\"`."),
            );
            None
        }
        Some(Data::String(text)) => match check_plugin_source(text) {
            Ok(()) => Some(text.to_string()),
            Err(detail) => {
                wrong("Failed to parse source", detail);
                None
            }
        },
        Some(_) => {
            wrong("Invalid source", "A source is a text such as \"github.com/hashicorp/happycloud\".".into());
            None
        }
    };
    if let Some(other) = object.keys().find(|k| !matches!(&***k, "version" | "source")) {
        wrong(
            "Invalid required_plugins object",
            format!("Only \"version\" and \"source\" may be given here, not {other:?}."),
        );
        return None;
    }
    Some(RequiredPlugin {
        name: name.to_owned(),
        source: source?,
        version: version?,
        location: attribute.location(),
    })
}

fn check_local_name(name: &str) -> Result<(), String> {
    let lower = name.to_lowercase();
    if lower != name {
        return Err(format!("Names of plugins are written in lower case: {lower:?} instead of {name:?}."));
    }
    if name.starts_with('-') || name.ends_with('-') || name.contains("--") || name.contains('.') {
        return Err(format!(
            "{name:?} may hold neither dots nor two dashes in a row, and may neither start nor end with a dash."
        ));
    }
    Ok(())
}

/// Checks the form of where a plugin comes from, `github.com/hashicorp/docker`.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn check_plugin_source(source: &str) -> Result<(), String> {
    let example = "A source looks like \"github.com/hashicorp/happycloud\".";
    let mut wrong = Vec::new();
    if source.contains("://") {
        wrong.push("it must not name a scheme such as https://");
    }
    if source.contains('?') {
        wrong.push("it must not hold a query");
    }
    if source.contains('#') {
        wrong.push("it must not hold a fragment");
    }
    if source.starts_with('/') || source.ends_with('/') {
        wrong.push("it must neither start nor end with a slash");
    }
    let parts: Vec<&str> = source.split('/').collect();
    if wrong.is_empty() && parts.iter().any(|p| p.is_empty()) {
        wrong.push("none of its parts may be empty");
    }
    if wrong.is_empty() && parts.len() < 3 {
        wrong.push("it needs a host and at least two more parts");
    }
    if parts.len() > 16 {
        wrong.push("it may have no more than 16 parts");
    }
    if !wrong.is_empty() {
        return Err(format!("The source {source:?} cannot be used: {}. {example}", wrong.join("; ")));
    }
    let last = parts.last().copied().unwrap_or_default();
    for prefix in ["packer-plugin-", "packer-"] {
        if let Some(rest) = last.strip_prefix(prefix) {
            return Err(format!(
                "The last part of a source must not start with {prefix:?}: did you mean {rest:?}?"
            ));
        }
    }
    Ok(())
}

/// Checks that every plugin asked for is provided here, and that no name is given twice. `used` are the types of
/// components that the template names.
pub(super) fn check_plugins(
    plugins: &[RequiredPlugin],
    used: &BTreeSet<String>,
    registry: &Registry,
    diagnostics: &mut Diagnostics,
) {
    let mut seen: BTreeMap<&str, &Location> = BTreeMap::new();
    for plugin in plugins {
        if let Some(first) = seen.get(plugin.name.as_str()) {
            diagnostics.push(
                Diagnostic::error(format!("Duplicate required_plugin.{:?} block", plugin.name))
                    .detail("The name of a plugin is what its components start with, so each needs one of its own.")
                    .at(plugin.location.clone())
                    .related("first asked for here", (*first).clone()),
            );
            return;
        }
        seen.insert(&plugin.name, &plugin.location);
    }
    let missing: Vec<&RequiredPlugin> = plugins.iter().filter(|p| !registry.is_provided(&p.source)).collect();
    if missing.is_empty() {
        return;
    }
    let mut lines = Vec::new();
    for plugin in &missing {
        let line = format!("* {} {}", plugin.source, plugin.version);
        let prefix = format!("{}-", plugin.name);
        let needed: Vec<&str> =
            used.iter().map(String::as_str).filter(|t| *t == plugin.name || t.starts_with(&prefix)).collect();
        lines.push(if needed.is_empty() { line } else { format!("{line} (for {})", needed.join(", ")) });
    }
    lines.dedup();
    diagnostics.push(
        Diagnostic::error("Missing plugins")
            .detail(format!(
                "The template requires plugins whose components are not built in here, and running the plugins themselves \
                 is not possible yet:\n\n{}",
                lines.join("\n")
            ))
            .help("register their components with the host's registry, or take them out of required_plugins if nothing uses them"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        for good in ["github.com/hashicorp/docker", "example.com/a/b/c"] {
            assert_eq!(check_plugin_source(good), Ok(()));
        }
        for bad in [
            "docker",
            "hashicorp/docker",
            "https://a/b/c",
            "/a/b/c",
            "a/b/c/",
            "a//b/c",
            "a/b/c?x=1",
            "a/b/packer-plugin-x",
        ] {
            assert!(check_plugin_source(bad).is_err(), "{bad}");
        }
    }
}
