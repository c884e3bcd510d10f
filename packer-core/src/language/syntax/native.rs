//! Bodies of native syntax, and what a schema finds in them.

use std::borrow::Cow;

use super::ast::Name;
use super::body::{Attribute, Block, Body, Content, Expected};
use crate::diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean};

/// Attributes and blocks, each in the order written.
#[derive(Debug, Clone, Default)]
pub(super) struct NativeBody {
    pub(super) attributes: Vec<Attribute>,
    pub(super) blocks: Vec<Block>,
}

pub(super) fn content(
    body: &Body,
    native: &NativeBody,
    expected: &dyn Expected,
    partial: bool,
    diagnostics: &mut Diagnostics,
) -> Content {
    let mut content = Content::default();
    for attribute in &native.attributes {
        let name = attribute.name.as_str();
        if body.hides_attribute(name) {
            continue;
        }
        if expected.attribute(name).is_some() {
            content.attributes.push(attribute.clone());
        } else if !partial {
            diagnostics.push(unsupported_argument(expected, attribute));
        }
    }
    for (name, _) in expected.attributes().filter(|(_, required)| *required) {
        if content.attribute(name).is_none() {
            diagnostics.push(missing_argument(body, name));
        }
    }
    for block in &native.blocks {
        let kind = block.kind.as_str();
        if body.hides_block(kind) {
            continue;
        }
        match expected.block(kind) {
            Some(labels) => {
                if labels_fit(block, labels, diagnostics) {
                    content.blocks.push(block.clone());
                }
            }
            None if partial => {}
            None => diagnostics.push(unsupported_block(expected, block)),
        }
    }
    content
}

pub(super) fn attributes(body: &Body, native: &NativeBody, diagnostics: &mut Diagnostics) -> Vec<Attribute> {
    let mut first = true;
    for block in native.blocks.iter().filter(|b| !body.hides_block(&b.kind.text)) {
        // One block is enough to see that the body was taken for something else.
        if std::mem::take(&mut first) {
            diagnostics.push(
                Diagnostic::error(format!("Unexpected \"{}\" block", block.kind.text))
                    .detail("Only arguments (name = value) can stand here.")
                    .at(block.kind_location()),
            );
        }
    }
    native.attributes.iter().filter(|a| !body.hides_attribute(&a.name.text)).cloned().collect()
}

fn unsupported_argument(expected: &dyn Expected, attribute: &Attribute) -> Diagnostic {
    let name = attribute.name.as_str();
    let d = Diagnostic::error("Unsupported argument")
        .at(attribute.name.span.in_source(&attribute.source))
        .detail(format!("An argument named \"{name}\" is not expected here."));
    if expected.block(name).is_some() {
        return d.help(format!("did you mean to define a block of type \"{name}\"?"));
    }
    match did_you_mean(name, expected.attributes().map(|(name, _)| name)) {
        Some(meant) => d.suggest(meant),
        None => expected_names(d, expected.attributes().map(|(name, _)| name)),
    }
}

/// What could have been written, where that is little.
fn expected_names<'a>(d: Diagnostic, names: impl Iterator<Item = &'a str>) -> Diagnostic {
    const FEW: usize = 12;
    let names: Vec<&str> = names.take(FEW + 1).collect();
    if names.is_empty() || names.len() > FEW {
        d
    } else {
        d.help(format!("expected here: {}", names.join(", ")))
    }
}

fn unsupported_block(expected: &dyn Expected, block: &Block) -> Diagnostic {
    let kind = block.kind.as_str();
    let d = Diagnostic::error("Unsupported block type")
        .at(block.kind_location())
        .detail(format!("Blocks of type \"{kind}\" are not expected here."));
    if expected.attribute(kind).is_some() {
        return d.help(format!("did you mean to define argument \"{kind}\"? It needs an equals sign."));
    }
    match did_you_mean(kind, expected.blocks()) {
        Some(meant) => d.suggest(meant),
        None => expected_names(d, expected.blocks()),
    }
}

pub(super) fn missing_argument(body: &Body, name: &str) -> Diagnostic {
    let at = Span::new(body.span.start, body.span.start);
    Diagnostic::error("Missing required argument")
        .detail(format!("The argument \"{name}\" is required, but there is none."))
        .at(at.in_source(&body.source))
}

fn label_rule(kind: &str, labels: &[Cow<'static, str>]) -> String {
    match labels {
        [one] => format!("A \"{kind}\" block has one label, its {one}."),
        all => format!("A \"{kind}\" block has {} labels ({}).", all.len(), all.join(", ")),
    }
}

fn labels_fit(block: &Block, wanted: &[Cow<'static, str>], diagnostics: &mut Diagnostics) -> bool {
    let kind = block.kind.as_str();
    if let Some(extra) = block.labels.get(wanted.len()) {
        let detail = match wanted.len() {
            0 => format!("A \"{kind}\" block has no labels."),
            _ => label_rule(kind, wanted),
        };
        diagnostics.push(
            Diagnostic::error(format!("Extraneous label for {kind}"))
                .detail(detail)
                .at(extra.span.in_source(block.source())),
        );
        return false;
    }
    if let Some(name) = wanted.get(block.labels.len()) {
        let after: &Name = block.labels.last().unwrap_or(&block.kind);
        diagnostics.push(
            Diagnostic::error(format!("Missing {name} for {kind}"))
                .detail(label_rule(kind, wanted))
                .at(after.span.in_source(block.source())),
        );
        return false;
    }
    true
}
