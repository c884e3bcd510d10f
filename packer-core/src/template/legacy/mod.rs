//! JSON templates of the first generation.
//!
//! ```text
//! text ─ object ─ Node ─ document, steps ─ Document ┬ checks ┐
//!                    files, flags ─ variables ──────┴────────┴ plan ─ Pipeline
//! ```
//!
//! What they say comes out as the same pipeline as that of an HCL template. They differ in that `{{ … }}` is all the
//! language they have: variables are texts, made of each other in whatever order; and what exists only while a machine
//! runs is written ``{{build `ID`}}``, which becomes `{{.ID}}` when the template is read and is rendered again by the step that uses
//! it. As in Packer, a provisioner with `pause_before` has no `timeout`.

mod checks;
mod document;
mod inspect;
mod object;
mod plan;
mod steps;
mod variables;

use std::path::Path;
use std::sync::Arc;

pub use inspect::{InspectLine, InspectedVariable, LegacyInspection};

use document::Document;
use plan::Known;

use super::files;
use super::inputs::Inputs;
use super::setting::Setting;
use crate::diagnostic::{Diagnostic, Diagnostics, Hide, SourceFile};
use crate::language::functions::{CallError, Capabilities, Functions};
use crate::language::go_template::{OutsideFunction, VariablesSection};
use crate::value::{Type, Value};

/// So many findings of one text or one build are told at most.
const MOST: usize = 200;

/// A template of the first generation, read.
#[derive(Debug, Clone)]
pub(super) struct Legacy {
    /// The path it was read under.
    path: String,
    document: Document,
    /// What was found when it was read that is no error.
    warnings: Diagnostics,
}

impl Legacy {
    /// Reads a file.
    ///
    /// # Errors
    /// All that is wrong with its syntax, or else with its structure.
    pub(super) fn load(working_dir: Option<&Path>, path: &str) -> Result<Self, Diagnostics> {
        let (source, warning) = files::read_lossy(working_dir, path)?;
        Self::read(&source, warning)
    }

    /// Reads a text that has this path.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(super) fn from_bytes(path: &str, text: Vec<u8>) -> Result<Self, Diagnostics> {
        if text.len() >= u32::MAX as usize {
            return Err(Diagnostic::error("The template is larger than 4 GiB").into());
        }
        let (source, warning) = files::lossy(path, text);
        Self::read(&source, warning)
    }

    fn read(source: &Arc<SourceFile>, warning: Option<Diagnostic>) -> Result<Self, Diagnostics> {
        let with_warning = |found: Diagnostics| {
            let mut all: Diagnostics = warning.iter().cloned().chain(capped(in_order(found))).collect();
            // Nobody knows yet what of it is secret.
            all.hide_values(0, Hide::Telling);
            all
        };
        let root = object::read(source).map_err(|found| with_warning(misnamed(found, source)))?;
        let document = Document::read(source, &root).map_err(with_warning)?;
        Ok(Self { path: source.name().to_owned(), document, warnings: warning.into_iter().collect() })
    }

    /// The path it was read under.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Reads the files of variables, for what is wrong with them.
    pub(super) fn check(inputs: &Inputs) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        variables::given(inputs, &|_| false, &mut diagnostics);
        diagnostics
    }

    /// Resolves the variables: what builders and steps may use.
    fn known(&self, inputs: &Inputs, diagnostics: &mut Diagnostics) -> Known {
        let root = files::forward(&files::parent(&self.path));
        let setting = Setting::new(inputs, &root);
        let before = diagnostics.iter().filter(|d| d.is_error()).count();
        let mut base = setting.interpolation();
        let path = setting.working_dir().join(&self.path);
        base.template_path = Some(files::clean(&std::path::absolute(&path).unwrap_or(path)).into());
        let mut section = base.clone();
        let capabilities = setting.capabilities().clone();
        let env = capabilities.env.clone();
        let outside = outside(inputs.functions.clone(), capabilities);
        section.variables_section = Some(VariablesSection::new(env, Some(outside)));
        let is_name = |name: &str| self.document.variable(name).is_some();
        let given = variables::given(inputs, &is_name, diagnostics);
        let values = variables::resolve(&self.document, given, &section, &setting.secrets, diagnostics);
        base.user_variables = Some(Arc::new(values));
        Known {
            interpolation: base,
            secrets: setting.secrets.clone(),
            complete: diagnostics.iter().filter(|d| d.is_error()).count() == before,
        }
    }
}

/// `vault`, `consul_key` and the like: the functions of these names that HCL templates call.
fn outside(functions: Functions, capabilities: Capabilities) -> OutsideFunction {
    Arc::new(move |name, arguments| {
        let function = functions.get(name).ok_or_else(|| format!("this program does not offer {name}"))?;
        let mut values: Vec<Value> = arguments.iter().map(|text| Value::from(*text)).collect();
        // What may be left out here is null there.
        values.resize(values.len().max(function.params().len()), Value::null(Type::String));
        let value = function.call(values, &capabilities).map_err(|e| match e {
            CallError::Failed(e) => e.message,
            CallError::NotEnough(param) => format!("the argument {param:?} is missing"),
            CallError::TooMany(most) => format!("{most} arguments can be given at most"),
        })?;
        value.as_str().map(str::to_owned).ok_or_else(|| format!("{name} gave no text"))
    })
}

/// The findings in the order of their places.
fn in_order(found: Diagnostics) -> Diagnostics {
    let mut all: Vec<Diagnostic> = found.into_iter().collect();
    all.sort_by_key(|d| d.location.as_ref().map_or(0, |place| place.span().start));
    all.into_iter().collect()
}

/// The findings that somebody may read; how many more there are.
fn capped(found: Diagnostics) -> Diagnostics {
    let more = found.len().saturating_sub(MOST);
    let left = (more > 0).then(|| {
        let summary = format!("There are {more} more mistakes of this kind");
        Diagnostic::error(summary).detail(format!("The first {MOST} are shown."))
    });
    found.into_iter().take(MOST).chain(left).collect()
}

/// Says of a text that looks like no JSON where templates of the other language are looked for.
fn misnamed(found: Diagnostics, source: &SourceFile) -> Diagnostics {
    if !source.name().ends_with(".hcl") && source.text().trim_start().starts_with(['{', '[']) {
        return found;
    }
    let help = "the name of an HCL template ends in .pkr.hcl or .pkr.json; anything else is read as a legacy JSON template";
    let mut help = Some(help);
    let first = |d: Diagnostic| match help.take() {
        Some(help) => d.help(help),
        None => d,
    };
    found.into_iter().map(first).collect()
}

#[cfg(test)]
mod tests;
