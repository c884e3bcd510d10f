//! The post-processor `shell-local`: runs scripts on this computer when the artifact is there.

use packer_core::kit::shell::LocalShell;
use packer_core::{
    Artifact, Context, Diagnostics, PostProcessor, PrepareContext, Processed, Result, Value, async_trait,
    config,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Runs scripts on the computer that runs the build and hands the artifact on. Its fields are those of
/// [`LocalShell`].
///
/// An `execute_command` of one element alone is run by `sh -c`.
///
/// ```
/// use packer_postproc::ShellLocal;
/// let upload = ShellLocal::inline(["rsync -a output/ mirror:/images/"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct ShellLocal(pub LocalShell);

impl ShellLocal {
    /// Runs one script of these lines.
    pub fn inline<S: Into<String>>(lines: impl IntoIterator<Item = S>) -> Self {
        LocalShell::inline(lines).into()
    }

    /// Runs a script file.
    pub fn script(path: impl Into<String>) -> Self {
        LocalShell::scripts([path]).into()
    }
}

impl From<LocalShell> for ShellLocal {
    fn from(shell: LocalShell) -> Self {
        Self(shell)
    }
}

#[async_trait]
impl PostProcessor for ShellLocal {
    fn prepare(&self, cx: &PrepareContext) -> Diagnostics {
        self.0.check(cx)
    }

    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
        match self.0.execute_command.as_slice() {
            [whole] => {
                let words = ["sh", "-c", whole.as_str()];
                self.0.clone().execute_command(words).run(cx).await?;
            }
            _ => self.0.run(cx).await?,
        }
        Ok(Processed::needing_input(artifact))
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}
