//! Locals: `locals` and `local` blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{NAME_RULE, decode};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::language::eval::Scope;
use crate::language::syntax::{Attribute, Block, BodySchema, is_identifier};

/// A declared local.
#[derive(Debug, Clone)]
pub(super) struct Local {
    pub(super) name: Arc<str>,
    /// What it stands for.
    pub(super) expression: Attribute,
    pub(super) sensitive: bool,
    pub(super) location: Location,
}

/// Reads a `locals` block.
pub(super) fn decode_locals(block: &Block, diagnostics: &mut Diagnostics) -> Vec<Local> {
    let attributes = block.body.attributes(diagnostics);
    let local = |attribute: Attribute| Local {
        name: attribute.name.text.clone(),
        sensitive: false,
        location: attribute.location(),
        expression: attribute,
    };
    attributes.into_iter().map(local).collect()
}

/// Reads a `local` block.
pub(super) fn decode_local(block: &Block, diagnostics: &mut Diagnostics) -> Option<Local> {
    let schema = BodySchema::new().required("expression").optional("sensitive");
    let content = block.body.content(&schema, diagnostics);
    let name = block.labels.first()?;
    if !is_identifier(name.as_str()) {
        diagnostics.push(
            Diagnostic::error("Invalid local name").detail(NAME_RULE).at(name.span.in_source(block.source())),
        );
        return None;
    }
    let sensitive = content
        .attribute("sensitive")
        .and_then(|a| decode::flag(a, &Scope::constant(), diagnostics))
        .unwrap_or(false);
    let expression = content.attribute("expression")?.clone();
    Some(Local { name: name.text.clone(), expression, sensitive, location: block.location() })
}

/// Says where two locals have one name.
pub(super) fn check_duplicates(locals: &[Local], diagnostics: &mut Diagnostics) {
    let mut seen: BTreeMap<&str, &Local> = BTreeMap::new();
    for local in locals {
        if let Some(first) = seen.get(&*local.name) {
            diagnostics.push(
                Diagnostic::error("Duplicate local definition")
                    .detail(format!("The local {:?} is defined twice.", local.name))
                    .at(local.location.clone())
                    .related("the other definition", first.location.clone()),
            );
        } else {
            seen.insert(&local.name, local);
        }
    }
}
