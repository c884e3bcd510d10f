//! The console: expressions over what a template declares, `{{ … }}` for a legacy JSON template, and the names that
//! complete them.

mod complete;

pub use complete::Completion;

use super::inputs::Inputs;
use super::inspect::Inspection;
use super::{Language, Template};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile};
use crate::language::eval::Scope;
use crate::language::go_template::{Interpolation, TemplateError};
use crate::language::syntax::parse_expression;
use crate::registry::Registry;
use crate::value::Value;
use crate::value::print::print;

const HELP: &str = "\
Type an expression of the template language to see its value: it can use the
variables and locals of the template and every function. With a legacy JSON
template type a text with {{ }} in it.

  variables   lists the variables and locals with their values
  help        shows this text
  exit        leaves the console, as Ctrl-C and Ctrl-D do";

/// The words that are no expressions.
const COMMANDS: [&str; 3] = ["exit", "help", "variables"];

/// A template whose variables, locals and data sources are evaluated once, for any number of expressions.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), packer_core::Diagnostics> {
/// use packer_core::Registry;
/// use packer_core::template::{Inputs, Response, Template};
/// let template = Template::from_texts([("t.pkr.hcl", "variable \"region\" { default = \"north\" }")])?;
/// let console = template.console(&Registry::new(), Inputs::new()).await?;
/// assert_eq!(console.respond("upper(var.region)")?, Response::Text("NORTH".into()));
/// assert_eq!(console.complete("upper(var.r", 11).candidates, ["region"]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Console {
    scope: Scope,
    inspection: Inspection,
    /// Of a legacy JSON template: its language is this alone.
    legacy: Option<Interpolation>,
}

/// What comes of a line typed at the console.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Response {
    /// To be shown; empty for an empty line.
    Text(String),
    /// The person wants to leave.
    Exit,
}

impl Template {
    /// Evaluates what expressions can refer to: variables and locals. Data sources, which locals may need, are read
    /// unless `inputs` says otherwise. Mistakes in the template are in [`Console::inspection`] and leave what they
    /// concern unknown.
    ///
    /// # Errors
    /// Values that do not fit the variables they are given for.
    pub async fn console(&self, registry: &Registry, inputs: Inputs) -> Result<Console, Diagnostics> {
        if let Some(legacy) = &self.0.legacy {
            let (inspection, interpolation) = legacy.console(&inputs);
            return Ok(Console { scope: Scope::new(), inspection, legacy: Some(interpolation) });
        }
        let (inspection, scope) = self.look(registry, &inputs).await?;
        Ok(Console { scope, inspection, legacy: None })
    }
}

impl Console {
    /// What the template declares.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// The language of what is typed: expressions, or texts with `{{ … }}`.
    pub fn language(&self) -> Language {
        if self.legacy.is_some() { Language::LegacyJson } else { Language::Hcl }
    }

    /// Answers a line as `packer console` does: a command (`help`, `variables`, `exit`), or an expression. Secrets are
    /// replaced.
    ///
    /// # Errors
    /// What is wrong with the expression.
    pub fn respond(&self, line: &str) -> Result<Response, Diagnostics> {
        Ok(match line.trim() {
            "exit" => Response::Exit,
            "" => Response::Text(String::new()),
            "help" => Response::Text(HELP.to_owned()),
            "variables" => Response::Text(self.inspection.values()),
            expression => Response::Text(self.answer(expression)?),
        })
    }

    /// The value of an expression; of a text with `{{ … }}`, rendered until nothing changes any more,
    /// where the template is a legacy JSON template. It is in clear even where it is made of secrets; [`answer`](Self::answer) is for
    /// showing.
    ///
    /// # Errors
    /// What is wrong with the expression, placed in `<console-input>`.
    pub fn evaluate(&self, expression: &str) -> Result<Value, Diagnostics> {
        if let Some(interpolation) = &self.legacy {
            let wrong = |e: TemplateError| Diagnostic::error("Interpolation error").detail(e.to_string());
            return Ok(Value::from(interpolation.render_fixpoint(expression).map_err(wrong)?));
        }
        let source = SourceFile::new("<console-input>", expression);
        let (parsed, mut diagnostics) = parse_expression(&source);
        if diagnostics.has_errors() {
            return Err(diagnostics);
        }
        let value = crate::language::eval::evaluate(&parsed, &self.scope, &source, &mut diagnostics);
        diagnostics.into_result(value)
    }

    /// What `packer console` prints for an expression, with secrets replaced.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate), with secrets replaced too.
    pub fn answer(&self, expression: &str) -> Result<String, Diagnostics> {
        let secrets = &self.inspection.secrets;
        match self.evaluate(expression) {
            Ok(value) => Ok(secrets.scrub(print(&value)).into_owned()),
            Err(mut diagnostics) => {
                diagnostics.scrub(secrets);
                Err(diagnostics)
            }
        }
    }

    /// Whether a line is the beginning of an expression that goes on: a bracket or a string is still open. A console for
    /// people asks for the next line then.
    pub fn is_incomplete(&self, line: &str) -> bool {
        self.legacy.is_none() && complete::is_open(line)
    }

    /// The names that can stand at `cursor` (a byte of the line), going by what is before it: variables, locals, their
    /// attributes, functions, and commands at the start of the line. Nothing inside of a string; of a legacy
    /// JSON template only inside of `{{ … }}`.
    pub fn complete(&self, line: &str, cursor: usize) -> Completion {
        let before = line.get(..cursor).unwrap_or(line);
        if self.legacy.is_some() {
            let names = self.inspection.variables.iter().map(|(name, _)| name.as_str());
            return complete::complete_legacy(before, names);
        }
        complete::complete(before, &self.scope, |path| self.evaluate(path).ok())
    }
}
