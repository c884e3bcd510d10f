//! The provisioner `shell-local`: runs scripts on this computer while the machine is up.

use packer_core::kit::shell::LocalShell;
use packer_core::{
    Context, Diagnostics, Machine, PrepareContext, Provisioner, Result, Value, async_trait, config,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Runs scripts on the computer that runs the build. Its fields are those of [`LocalShell`].
///
/// ```
/// use packer_provisioners::{LocalShell, ShellLocal};
/// let plain = ShellLocal::inline(["terraform output -json > outputs.json"]);
/// let more = ShellLocal::from(LocalShell::scripts(["check.sh"]).env("STAGE", "test").valid_exit_codes([0, 2]));
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
impl Provisioner for ShellLocal {
    fn prepare(&self, cx: &PrepareContext) -> Diagnostics {
        self.0.check(cx)
    }

    async fn provision(&self, cx: &Context, _: &dyn Machine) -> Result<()> {
        self.0.run(cx).await
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}
