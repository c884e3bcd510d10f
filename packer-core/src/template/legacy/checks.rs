//! What must hold in a legacy template as a whole: its version, at least one builder, names that steps refer to.

use std::collections::HashSet;

use super::document::Document;
use super::object::Text;
use super::steps::Filter;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::template::suggest::suggestion;
use crate::template::version;

/// Checks the version that the template asks for. One for a later version may hold what this one does not know, so this
/// is looked at before anything else.
pub(super) fn version(document: &Document) -> Result<(), Diagnostics> {
    let Some(Text { text, place }) = document.min_version.as_ref().filter(|text| !text.text.is_empty())
    else {
        return Ok(());
    };
    let d = match version::is_older(crate::VERSION, text) {
        Some((_, false)) => return Ok(()),
        Some((wanted, true)) => Diagnostic::error(format!(
            "This template requires Packer version {wanted} or higher; using {}",
            crate::VERSION
        )),
        None => Diagnostic::error("Invalid min_packer_version")
            .detail(format!("{text:?} is no version."))
            .help("write it as \"1.8.0\""),
    };
    Err(d.at(place.clone()).into())
}

/// Checks that there are builders, and that steps refer to those that there are.
pub(super) fn names(document: &Document, diagnostics: &mut Diagnostics) {
    if document.builders.is_empty() {
        diagnostics.push(
            Diagnostic::error("at least one builder must be defined")
                .detail(
                    "A template needs an item \"builders\", a list in which each builder makes a machine.",
                )
                .at(document.place.clone()),
        );
        // Whatever steps refer to is not there.
        return;
    }
    let builders = document.builders.iter().map(|builder| &*builder.name.text).collect();
    let checks = Checks { document, builders };
    for (i, step) in document.provisioners.iter().enumerate() {
        let what = format!("provisioner {}", i + 1);
        checks.filter(&what, &step.filter, diagnostics);
        diagnostics.extend(step.unfit_overrides.iter().cloned());
        for (name, _) in &step.overrides {
            if !checks.is_builder(name) {
                let summary = format!("{what}: override '{}' doesn't exist", name.text);
                diagnostics.push(checks.unknown(summary, name, diagnostics));
            }
        }
    }
    if let Some(step) = &document.error_cleanup {
        diagnostics.extend(step.unfit_overrides.iter().cloned());
    }
    for (i, sequence) in document.post_processors.iter().enumerate() {
        for (j, step) in sequence.iter().enumerate() {
            checks.filter(&format!("post-processor {}.{}", i + 1, j + 1), &step.filter, diagnostics);
        }
    }
}

struct Checks<'a> {
    document: &'a Document,
    builders: HashSet<&'a str>,
}

impl Checks<'_> {
    fn filter(&self, what: &str, filter: &Filter, diagnostics: &mut Diagnostics) {
        if let (Some(only), Some(except)) = (filter.only.first(), filter.except.first()) {
            diagnostics.push(
                Diagnostic::error(format!("{what}: only one of 'only' or 'except' may be specified"))
                    .at(only.place.clone())
                    .related("'except' is here", except.place.clone()),
            );
        }
        for (word, name) in filter.names() {
            if !self.is_builder(name) {
                let summary = format!("{what}: '{word}' specified builder '{}' not found", name.text);
                diagnostics.push(self.unknown(summary, name, diagnostics));
            }
        }
    }

    fn is_builder(&self, name: &Text) -> bool {
        self.builders.contains(&*name.text)
    }

    fn unknown(&self, summary: String, name: &Text, diagnostics: &Diagnostics) -> Diagnostic {
        let builders = || self.document.builders.iter().map(|builder| &*builder.name.text);
        let d = Diagnostic::error(summary).at(name.place.clone());
        if let Some(meant) = suggestion(&name.text, builders(), diagnostics) {
            return d.help(format!("did you mean {meant:?}?"));
        }
        let detail = "A builder is meant by the name that the template gives it, as it is written there; one without a name by its type.";
        if self.builders.len() > 10 {
            return d.detail(detail);
        }
        let known = builders().collect::<Vec<_>>().join(", ");
        d.detail(format!("{detail} There is: {known}."))
    }
}
