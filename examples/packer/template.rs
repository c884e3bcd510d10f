//! What commands that read a template have in common: their flags, and loading it.

use packer_core::template::{Inputs, Template};
use packer_core::{Diagnostics, Pipeline};
use tokio_util::sync::CancellationToken;

use crate::flags::Flag;
use crate::ui::Format;
use crate::{FAILED, Session, registry};

/// Their flags.
#[derive(Debug, Default)]
pub(crate) struct TemplateFlags {
    variables: Vec<(String, String)>,
    var_files: Vec<String>,
    only: Vec<String>,
    except: Vec<String>,
    config_type: String,
    sequential: bool,
    /// Taken and without effect: there are no plugins whose releases could be chosen from.
    ignore_prerelease: bool,
    json: bool,
}

impl TemplateFlags {
    /// Where each flag goes.
    pub(crate) fn flags(&mut self) -> Vec<(&'static str, Flag<'_>)> {
        vec![
            ("var", Flag::Pairs(&mut self.variables)),
            ("var-file", Flag::Each(&mut self.var_files)),
            ("only", Flag::List(&mut self.only)),
            ("except", Flag::List(&mut self.except)),
            ("config-type", Flag::Word(&mut self.config_type, &["json", "hcl2"])),
            ("use-sequential-evaluation", Flag::Switch(&mut self.sequential)),
            ("ignore-prerelease-plugins", Flag::Switch(&mut self.ignore_prerelease)),
            ("json", Flag::Switch(&mut self.json)),
        ]
    }

    /// The flags as inputs of a template.
    pub(crate) fn inputs(self, session: &mut Session) -> Inputs {
        if self.json {
            session.ui.format = Format::Json;
        }
        let mut inputs = Inputs::new()
            .only(self.only)
            .except(self.except)
            .sequential(self.sequential)
            .host(session.host());
        for (name, text) in self.variables {
            inputs = inputs.var(name, text);
        }
        for path in self.var_files {
            inputs = inputs.var_file(path);
        }
        for (name, text) in &session.env {
            if let Some(name) = name.strip_prefix("PKR_VAR_") {
                inputs = inputs.env_var(name, text);
            }
        }
        inputs
    }
}

impl Session {
    /// Reads a template and makes its pipeline; where that fails or is interrupted it has been said why.
    pub(crate) async fn pipeline(&mut self, path: &str, inputs: Inputs) -> Result<Pipeline, u8> {
        let template = self.load(path)?;
        let stop = CancellationToken::new();
        let registry = registry();
        let evaluation = template.evaluate(&registry, inputs.cancelled_by(stop.clone()));
        let result = tokio::select! {
            result = evaluation => result,
            Some(reason) = self.signals.recv() => {
                stop.cancel();
                self.ui.error(&format!("Cancelling build after receiving {reason}"));
                return Err(FAILED);
            }
        };
        result.map_err(|findings| self.failed(&findings))
    }

    /// Reads a template; where that fails it has been said why.
    pub(crate) fn load(&mut self, path: &str) -> Result<Template, u8> {
        Template::load(path).map_err(|findings| self.failed(&findings))
    }

    /// Shows findings that leave nothing to do.
    pub(crate) fn failed(&self, findings: &Diagnostics) -> u8 {
        self.ui.diagnostics(findings);
        FAILED
    }
}
