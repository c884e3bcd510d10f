//! The provisioner `windows-shell`: runs batch files in a Windows machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use packer_core::config::{self, GoTemplate};
use packer_core::duration::GoDuration;
use packer_core::kit::{render, shell};
use packer_core::{
    Context, Diagnostics, Machine, PrepareContext, Provisioner, Resource, Result, Source, StepInputs,
    TempFile, Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scripts;
use crate::tries::Tries;
use crate::windows::{self, Guest};

/// Runs batch files in a Windows machine: lines of the template or script files, uploaded and run by `cmd`.
///
/// ```
/// use packer_provisioners::WindowsShell;
/// let features = WindowsShell::inline(["dism /online /enable-feature /featurename:IIS-WebServer"]);
/// let setup = WindowsShell::script("setup.bat").env("STAGE", "test").valid_exit_codes([0, 3010]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct WindowsShell {
    /// Lines of one batch file.
    pub inline: Vec<String>,
    /// The path of a batch file on this computer.
    pub script: String,
    /// Paths of batch files, run in order.
    pub scripts: Vec<String>,
    /// Variables, each `NAME=VALUE`.
    pub environment_vars: Vec<String>,
    /// Variables by name; these win over `environment_vars`.
    pub env: BTreeMap<String, String>,
    /// How a variable is written into `{{.Vars}}`: first `%s` its name, second its value. Default `set "%s=%s" && `.
    pub env_var_format: String,
    /// The command that runs a batch file: `{{.Path}}` is the file in the machine, `{{.Vars}}` the variables. Default
    /// `{{.Vars}}"{{.Path}}"`.
    pub execute_command: GoTemplate,
    /// Files are always uploaded as they are; this says so.
    pub binary: bool,
    /// The path of the batch file in the machine. Default `c:/Windows/Temp/script.bat`.
    pub remote_path: String,
    /// Exit codes that are no failure, with a sign or without: -1 and 4294967295 are the same. Default only 0.
    pub valid_exit_codes: Vec<i64>,
    /// How long a file that cannot be uploaded or started is tried again: a machine may be rebooting. Default 5 minutes.
    pub start_retry_timeout: GoDuration,
}

impl WindowsShell {
    /// One batch file of these lines.
    pub fn inline<S: Into<String>>(lines: impl IntoIterator<Item = S>) -> Self {
        Self { inline: lines.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// A batch file.
    pub fn script(path: impl Into<String>) -> Self {
        Self { script: path.into(), ..Self::default() }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Says which exit codes are no failure.
    #[must_use]
    pub fn valid_exit_codes<C: Into<i64>>(mut self, codes: impl IntoIterator<Item = C>) -> Self {
        self.valid_exit_codes = codes.into_iter().map(Into::into).collect();
        self
    }

    fn files(&self) -> impl Iterator<Item = &str> {
        scripts::files(&self.script, &self.scripts)
    }

    fn write_inline(&self, cx: &Context) -> Result<TempFile> {
        let text: String = self.inline.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        cx.temp_file("windows-shell-provisioner", "", 0o600, text.as_bytes())
    }

    fn remote_path(&self) -> &str {
        if self.remote_path.is_empty() { "c:/Windows/Temp/script.bat" } else { &self.remote_path }
    }

    fn command(&self) -> &str {
        if self.execute_command.is_empty() { "{{.Vars}}\"{{.Path}}\"" } else { self.execute_command.as_str() }
    }

    async fn run_script(&self, guest: &Guest<'_>, path: &str, command: &str) -> Result<()> {
        guest.cx.say(format!("Provisioning with shell script: {path}"));
        let tries = Tries::within(self.start_retry_timeout);
        let code = loop {
            let done = async {
                let uploaded = guest.upload(Source::File(Path::new(path)), self.remote_path()).await;
                uploaded.map_err(|e| e.context("Error uploading script"))?;
                guest.run(command, &self.valid_exit_codes).await
            };
            match done.await {
                Ok(code) => break code,
                Err(e) => tries.again(guest.cx, e).await?,
            }
        };
        windows::check_exit_code(code, &self.valid_exit_codes)
    }
}

#[async_trait]
impl Provisioner for WindowsShell {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        scripts::check(&self.inline, &self.script, &self.scripts, &self.environment_vars)
    }

    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        cx.say("Provisioning with windows-shell...");
        let inline = if self.inline.is_empty() { None } else { Some(self.write_inline(cx)?) };
        let inline = inline.as_ref().map(|file| file.path().to_string_lossy());
        let format = match self.env_var_format.as_str() {
            "" => "set \"%s=%s\" && ",
            own => own,
        };
        let variables = shell::variables(cx, &self.environment_vars, &self.env, str::to_owned);
        let variables = shell::flatten(format, &variables)?;
        let known = [("Vars", variables.as_str()), ("Path", self.remote_path())];
        let command = render(cx, self.command(), &known)?;
        let mut guest = Guest::new(cx, machine);
        guest.write_down(self.remote_path())?;
        for script in self.files().chain(inline.as_deref()) {
            if let Err(error) = self.run_script(&guest, script, &command).await {
                // The failure is what is reported, whether or not its remains can be removed.
                if !error.is_cancelled() {
                    guest.remove().await?;
                }
                return Err(error);
            }
        }
        guest.remove().await
    }

    async fn clean(&self, cx: &Context, machine: &dyn Machine, resource: &Resource) -> Result<()> {
        windows::remove(cx, &*machine.communicator(), &[&resource.name]).await
    }

    fn runs_commands(&self) -> bool {
        true
    }

    fn inputs(&self) -> StepInputs {
        StepInputs::Files(self.files().map(PathBuf::from).collect())
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}
