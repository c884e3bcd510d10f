//! `output` blocks: values that a run gives back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::artifacts;
use super::{NAME_RULE, decode};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::language::eval::{Scope, references};
use crate::language::syntax::{Attribute, Block, BodySchema, is_identifier};
use crate::pipeline::Output;
use crate::pipeline::RunValues;
use crate::value::Value;

/// A declared output.
#[derive(Debug, Clone)]
pub(super) struct OutputBlock {
    pub(super) name: Arc<str>,
    description: String,
    sensitive: bool,
    value: Attribute,
    pub(super) location: Location,
}

/// Reads an `output` block.
pub(super) fn decode(block: &Block, diagnostics: &mut Diagnostics) -> Option<OutputBlock> {
    let schema = BodySchema::new().required("value").optional("description").optional("sensitive");
    let content = block.body.content(&schema, diagnostics);
    let name = block.labels.first()?;
    if !is_identifier(name.as_str()) {
        let place = name.span.in_source(block.source());
        diagnostics.push(Diagnostic::error("Invalid output name").detail(NAME_RULE).at(place));
        return None;
    }
    let constant = Scope::constant();
    let description = content.attribute("description").and_then(|a| decode::text(a, &constant, diagnostics));
    let sensitive = content.attribute("sensitive").and_then(|a| decode::flag(a, &constant, diagnostics));
    Some(OutputBlock {
        name: name.text.clone(),
        description: description.unwrap_or_default(),
        sensitive: sensitive.unwrap_or(false),
        value: content.attribute("value")?.clone(),
        location: block.location(),
    })
}

/// Says where two outputs have one name.
pub(super) fn check_duplicates(outputs: &[OutputBlock], diagnostics: &mut Diagnostics) {
    let mut seen: BTreeMap<&str, &OutputBlock> = BTreeMap::new();
    for output in outputs {
        if let Some(first) = seen.get(&*output.name) {
            diagnostics.push(
                Diagnostic::error("Duplicate output")
                    .detail(format!("The output {:?} is defined twice.", output.name))
                    .at(output.location.clone())
                    .related("the other definition", first.location.clone()),
            );
        } else {
            seen.insert(&output.name, output);
        }
    }
}

impl OutputBlock {
    /// The output for the engine, checked as far as it can be before the builds have run; `builds` are the display names
    /// of all builds of the template.
    pub(super) fn plan(&self, scope: &Scope, builds: &[String], diagnostics: &mut Diagnostics) -> Output {
        let source = self.value.source.clone();
        let mut needs = Vec::new();
        let mut found = Diagnostics::new();
        for need in artifacts::named_in(&references(&self.value.expr), &source) {
            if !builds.contains(&need.build) {
                let d = artifacts::no_such_build(&need, builds, diagnostics);
                found.push(d.detail(format!(
                    "The output {:?} refers to the artifact of {}, but there is no such build.",
                    self.name, need.build
                )));
            }
            needs.push(need.build);
        }
        if !found.has_errors() {
            let early = scope.with_variables([artifacts::unknown(builds)]);
            self.value.evaluate(&early, &mut found);
        }
        diagnostics.append(found);
        let (this, scope, names) = (self.clone(), scope.clone(), builds.to_vec());
        let mut output = Output::new(&*self.name, needs, move |values| this.evaluate(&scope, &names, values));
        output.description.clone_from(&self.description);
        output.location = Some(self.location.clone());
        output
    }

    fn evaluate(&self, scope: &Scope, builds: &[String], values: &RunValues) -> Result<Value, Diagnostics> {
        // A build that made nothing has no artifacts to speak of.
        let made: Vec<String> =
            builds.iter().filter(|b| values.artifacts.contains_key(*b)).cloned().collect();
        let scope = scope.with_variables([artifacts::known(&made, &values.artifacts)]);
        let mut found = Diagnostics::new();
        let value = self.value.evaluate(&scope, &mut found);
        if !found.has_errors() && !value.is_wholly_known() {
            found.push(
                Diagnostic::error("Unknown value of an output")
                    .detail(format!(
                        "The output {:?} depends on a value that is known only in a build.",
                        self.name
                    ))
                    .at(self.value.value_location()),
            );
        }
        found.into_result(value.sensitive_if(self.sensitive))
    }
}
