//! What commands that read a template have in common: their flags, and loading it.

use packer_core::template::{Inputs, Language, Template};
use packer_core::{Diagnostics, Pipeline};

use crate::flags::Flag;
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
        ]
    }

    /// The flags, and what the environment says, as inputs of a template.
    pub(crate) fn inputs(self, session: &Session) -> Inputs {
        let mut inputs = Inputs::new()
            .only(self.only)
            .except(self.except)
            .sequential(self.sequential)
            .language(match self.config_type.as_str() {
                "hcl2" => Language::Hcl,
                _ => Language::LegacyJson,
            })
            .host(session.host());
        for (name, text) in self.variables {
            inputs = inputs.var(name, text);
        }
        for path in self.var_files {
            inputs = inputs.var_file(path);
        }
        if session.log.is_on() {
            inputs = inputs.events(session.log.clone());
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
    /// Whether a path is that of a template in the template language, whatever is there.
    pub(crate) fn is_hcl(&self, path: &str) -> bool {
        Language::of(None, path, Language::LegacyJson) == Language::Hcl
    }

    /// Reads a template and the values of its variables; where that fails it has been said why. `-` is a legacy JSON
    /// template from standard input.
    pub(crate) async fn load(&mut self, path: &str, inputs: &Inputs) -> Result<Template, u8> {
        let template = match path {
            "-" if inputs.language_of(path) == Language::LegacyJson => {
                let text = self.read_stdin().await?;
                Template::from_legacy(path, text)
                    .and_then(|template| template.check(inputs).into_result(template))
            }
            _ => {
                let (path, inputs) = (path.to_owned(), inputs.clone());
                self.reading(move || Template::load_for(&path, &inputs)).await?
            }
        };
        template.map_err(|findings| self.failed(&findings))
    }

    /// Makes a template's pipeline; where that fails or is interrupted it has been said why.
    pub(crate) async fn pipeline(&mut self, template: &Template, inputs: Inputs) -> Result<Pipeline, u8> {
        let template = template.clone();
        let work = apart(async move { template.evaluate(&registry(), inputs).await });
        self.unless_stopped(work).await?.map_err(|findings| self.failed(&findings))
    }

    /// Says what is wrong with a template and its builds; where it is interrupted that has been said.
    pub(crate) async fn validate(&mut self, template: &Template, inputs: Inputs) -> Result<Diagnostics, u8> {
        let template = template.clone();
        let work = apart(async move { template.validate(&registry(), inputs).await });
        self.unless_stopped(work).await
    }

    /// Waits for something that may be dropped, unless a signal comes first.
    pub(crate) async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Result<T, u8> {
        tokio::select! {
            result = work => Ok(result),
            Some(reason) = self.signals.recv() => {
                self.ui.error(&format!("Cancelling build after receiving {reason}"));
                Err(FAILED)
            }
        }
    }

    /// Shows findings that leave nothing to do.
    pub(crate) fn failed(&self, findings: &Diagnostics) -> u8 {
        self.ui.diagnostics(findings);
        FAILED
    }
}

/// Work on a template as a task of its own: functions that ask a service wait for its answer, and signals are to be heard
/// in the meantime.
pub(crate) async fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    // On a thread that may wait: they may read pipes too.
    let runtime = tokio::runtime::Handle::current();
    match tokio::task::spawn_blocking(move || runtime.block_on(work)).await {
        Ok(result) => result,
        // Nobody aborts it.
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}
