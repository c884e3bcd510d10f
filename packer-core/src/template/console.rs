//! The console: expressions over what a template declares, `{{ … }}` for a legacy JSON template.

use super::Template;
use super::eval::Scope;
use super::go_template::{Interpolation, TemplateError};
use super::inputs::Inputs;
use super::inspect::Inspection;
use super::syntax::parse_expression;
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile};
use crate::registry::Registry;
use crate::value::Value;
use crate::value::print::print;

/// A template whose variables, locals and data sources are evaluated once, for any number of expressions.
#[derive(Debug, Clone)]
pub struct Console {
    scope: Scope,
    inspection: Inspection,
    /// Of a legacy JSON template: its language is this alone.
    legacy: Option<Interpolation>,
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

    /// The value of an expression; of a text with `{{ … }}` where the template is a legacy JSON template. It is in clear even where it is made of secrets; [`answer`](Self::answer) is for
    /// showing.
    ///
    /// # Errors
    /// What is wrong with the expression, placed in `<console-input>`.
    pub fn evaluate(&self, expression: &str) -> Result<Value, Diagnostics> {
        if let Some(interpolation) = &self.legacy {
            let wrong = |e: TemplateError| Diagnostic::error("Interpolation error").detail(e.to_string());
            return Ok(Value::from(interpolation.render(expression).map_err(wrong)?));
        }
        let source = SourceFile::new("<console-input>", expression);
        let (parsed, mut diagnostics) = parse_expression(&source);
        if diagnostics.has_errors() {
            return Err(diagnostics);
        }
        let value = super::eval::evaluate(&parsed, &self.scope, &source, &mut diagnostics);
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
}
