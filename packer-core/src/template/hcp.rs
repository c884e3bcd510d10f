//! `hcp_packer_registry` blocks: checked, and otherwise without effect, because this library talks to no registry.

use super::decode;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::eval::Scope;
use crate::language::syntax::{Attribute, Block, BodySchema};
use crate::value::{Type, convert};

/// Checks the blocks at the top level of a template.
pub(super) fn check_top_level(blocks: &[Block], scope: &Scope, diagnostics: &mut Diagnostics) {
    only_one(blocks.iter(), diagnostics);
    for block in blocks {
        check(block, scope, diagnostics);
    }
}

/// Checks the blocks in a build.
pub(super) fn check_in_build(blocks: &[&Block], scope: &Scope, diagnostics: &mut Diagnostics) {
    only_one(blocks.iter().copied(), diagnostics);
    for block in blocks {
        diagnostics.push(
            Diagnostic::warning("Build block level hcp_packer_registry are deprecated")
                .detail("Write the block at the top level of the template instead.")
                .at(block.location()),
        );
        check(block, scope, diagnostics);
    }
}

/// Whether a build has such a block.
pub(super) fn is_in(build: &Block) -> bool {
    let schema = BodySchema::new().block("hcp_packer_registry", &[]);
    !build.body.partial_content(&schema, &mut Diagnostics::new()).0.blocks.is_empty()
}

/// Says where there is a block at the top level and another in a build.
pub(super) fn check_both(top: &[Block], in_build: bool, diagnostics: &mut Diagnostics) {
    if let (Some(block), true) = (top.first(), in_build) {
        diagnostics.push(
            Diagnostic::error("Multiple HCP Packer registry block declaration")
                .detail("There is one hcp_packer_registry block at the top level and another in a build.")
                .at(block.location()),
        );
    }
}

fn only_one<'a>(blocks: impl Iterator<Item = &'a Block>, diagnostics: &mut Diagnostics) {
    for more in blocks.skip(1) {
        diagnostics.push(Diagnostic::error("Only one hcp_packer_registry is allowed").at(more.location()));
    }
}

fn check(block: &Block, scope: &Scope, diagnostics: &mut Diagnostics) {
    let schema = BodySchema::new()
        .optional("bucket_name")
        .optional("description")
        .optional("labels")
        .optional("bucket_labels")
        .optional("build_labels")
        .optional("channels");
    let content = block.body.content(&schema, diagnostics);
    let mut wrong = |attribute: &Attribute, detail: &str| {
        let summary = format!("Invalid hcp_packer_registry.{}", attribute.name.as_str());
        diagnostics.push(Diagnostic::error(summary).detail(detail).at(attribute.value_location()));
    };
    let mut found = Diagnostics::new();
    if let Some(name) = content.attribute("bucket_name")
        && let Some(text) = decode::text(name, scope, &mut found)
        && !((3..=36).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    {
        wrong(name, "A bucket's name has 3 to 36 letters, digits and dashes.");
    }
    if let Some(description) = content.attribute("description")
        && let Some(text) = decode::text(description, scope, &mut found)
        && text.len() > 255
    {
        wrong(description, "A description has at most 255 bytes.");
    }
    if let (Some(old), Some(_)) = (content.attribute("labels"), content.attribute("bucket_labels")) {
        wrong(old, "\"labels\" is the old name of \"bucket_labels\"; only one of them may be given.");
    }
    for name in ["labels", "bucket_labels", "build_labels"] {
        let Some(labels) = content.attribute(name) else { continue };
        if name == "labels" {
            found.push(
                Diagnostic::warning("the argument \"labels\" is deprecated")
                    .help("write \"bucket_labels\" instead")
                    .at(labels.location()),
            );
        }
        let before = found.len();
        let value = labels.evaluate(scope, &mut found);
        if found.len() == before
            && let Err(e) = convert(&value, &Type::map(Type::String))
        {
            wrong(labels, &format!("Labels are a map of texts: {e}."));
        }
    }
    if let Some(channels) = content.attribute("channels") {
        decode::texts(channels, scope, &mut found);
    }
    diagnostics.append(found);
}
