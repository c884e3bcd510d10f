//! The provisioner `powershell`: runs PowerShell scripts in a Windows machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use packer_core::config::{self, GoTemplate};
use packer_core::duration::GoDuration;
use packer_core::kit::{render, shell};
use packer_core::{
    Context, Diagnostic, Diagnostics, Machine, PrepareContext, Provisioner, Resource, Result, Secret, Source,
    StepInputs, TempFile, Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod policy;
mod texts;

pub use policy::ExecutionPolicy;

use crate::scripts;
use crate::tries::Tries;
use crate::windows::{self, Guest};
use texts::Elevated;

/// How long the removal of the files is tried in the end, and how long to wait between two tries.
const CLEANUP_LIMIT: Duration = Duration::from_secs(60);
const CLEANUP_PAUSE: Duration = Duration::from_secs(10);

/// Runs PowerShell scripts in a Windows machine: lines of the template or script files, uploaded, run and removed again,
/// as another user where `elevated_user` names one.
///
/// ```
/// use packer_provisioners::PowerShell;
/// let iis = PowerShell::inline(["Install-WindowsFeature Web-Server"]).env("STAGE", "test");
/// let updates = PowerShell::script("updates.ps1").elevated("SYSTEM", "").valid_exit_codes([0, 3010]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct PowerShell {
    /// Lines of one script. An exception in them ends it with code 1.
    pub inline: Vec<String>,
    /// The path of a script on this computer.
    pub script: String,
    /// Paths of scripts, run in order.
    pub scripts: Vec<String>,
    /// Variables, each `NAME=VALUE`.
    pub environment_vars: Vec<String>,
    /// Variables by name; these win over `environment_vars`.
    pub env: BTreeMap<String, String>,
    /// How a variable is written into the variable file and before inline lines: first `%s` its name, second its value.
    /// Default `$env:%s="%s"; `.
    pub env_var_format: String,
    /// The same for scripts of another user's.
    pub elevated_env_var_format: String,
    /// The command that runs a script: `{{.Path}}` is the script in the machine, `{{.Vars}}` the path of the variable file.
    /// Default for lines `powershell -executionpolicy bypass -file {{.Path}}`; for scripts a block that reads the variable
    /// file, runs the script and ends with its exit code.
    pub execute_command: GoTemplate,
    /// The same for another user.
    pub elevated_execute_command: GoTemplate,
    /// The user as whom scripts run, by a scheduled task, instead of the one that is logged in.
    pub elevated_user: String,
    /// That user's password; none for service accounts such as `SYSTEM`. `build.Password` and `{{.WinRMPassword}}` are the
    /// connection's.
    #[schemars(extend("x-late" = true))]
    pub elevated_password: Secret,
    /// Which scripts PowerShell runs: `bypass` (the default), `allsigned`, `default`, `remotesigned`, `restricted`,
    /// `undefined`, `unrestricted`, or `none` to name neither a policy nor PowerShell itself.
    pub execution_policy: ExecutionPolicy,
    /// How much PowerShell tells of what it runs: 1 its lines, 2 variables and calls too. Default 0.
    pub debug_mode: i64,
    /// Runs scripts with `pwsh` (PowerShell 7) instead of Windows PowerShell.
    pub use_pwsh: bool,
    /// Files are always uploaded as they are; this says so.
    pub binary: bool,
    /// The path of the script in the machine; one that ends in a slash gets the script's name. Default
    /// `c:/Windows/Temp/script-` + a random name + `.ps1`.
    pub remote_path: String,
    /// The path of the variable file in the machine. Default `c:/Windows/Temp/packer-ps-env-vars-` + a random name + `.ps1`.
    pub remote_env_var_path: String,
    /// Exit codes that are no failure, with a sign or without: -1 and 4294967295 are the same. Default only 0.
    pub valid_exit_codes: Vec<i64>,
    /// How long a script that cannot be uploaded or started is tried again: a machine may be rebooting. Default 5 minutes.
    pub start_retry_timeout: GoDuration,
    /// Leaves scripts and variable file in the machine.
    pub skip_clean: bool,
    /// How long to wait when all is done.
    pub pause_after: GoDuration,
}

impl PowerShell {
    /// One script of these lines.
    pub fn inline<S: Into<String>>(lines: impl IntoIterator<Item = S>) -> Self {
        Self { inline: lines.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// A script file.
    pub fn script(path: impl Into<String>) -> Self {
        Self { script: path.into(), ..Self::default() }
    }

    /// Script files, in order.
    pub fn scripts<S: Into<String>>(paths: impl IntoIterator<Item = S>) -> Self {
        Self { scripts: paths.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Runs scripts as another user; a service account has an empty password.
    #[must_use]
    pub fn elevated(mut self, user: impl Into<String>, password: impl Into<Secret>) -> Self {
        self.elevated_user = user.into();
        self.elevated_password = password.into();
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

    fn is_elevated(&self) -> bool {
        !self.elevated_user.is_empty()
    }

    /// The variables, as they stand before the lines and in the file.
    fn variables(&self, cx: &Context) -> Result<String> {
        let format = match self.is_elevated() {
            true => &self.elevated_env_var_format,
            false => &self.env_var_format,
        };
        let format = if format.is_empty() { "$env:%s=\"%s\"; " } else { format };
        let mut pairs = Vec::with_capacity(self.environment_vars.len());
        for pair in &self.environment_vars {
            pairs.push(render(cx, pair, &[])?);
        }
        let mut env = BTreeMap::new();
        for (name, value) in &self.env {
            env.insert(render(cx, name, &[])?, render(cx, value, &[])?);
        }
        shell::flatten(format, &shell::variables(cx, &pairs, &env, texts::escape))
    }

    /// The command of scripts, for the user who is logged in or for the other one.
    fn command(&self, elevated: bool) -> String {
        let own = if elevated { &self.elevated_execute_command } else { &self.execute_command };
        if !own.is_empty() {
            return own.as_str().to_owned();
        }
        let named = self.execution_policy != ExecutionPolicy::None;
        let program = match (named, self.use_pwsh) {
            (false, _) => String::new(),
            (true, false) => format!("powershell -executionpolicy {} ", self.execution_policy),
            (true, true) => format!("pwsh -executionpolicy {} ", self.execution_policy),
        };
        if !self.inline.is_empty() {
            return format!("{program}-file {{{{.Path}}}}");
        }
        let debug = match self.debug_mode {
            0 => String::new(),
            level => format!("Set-PsDebug -Trace {level}; "),
        };
        // Without a dollar sign where it can be: over SSH the shell around this may be PowerShell, too.
        let block = format!(
            "& {{ if (Test-Path Variable:Global:ProgressPreference) {{ Set-Variable -Name ProgressPreference -Scope Global \
             -Value SilentlyContinue }}; {debug}. {{{{.Vars}}}}; & '{{{{.Path}}}}'; exit $LastExitCode }}"
        );
        match (named, self.use_pwsh) {
            (false, _) => block,
            (true, false) => format!("{program}\"{block}\""),
            (true, true) => format!("{program}-command \"{block}\""),
        }
    }
}

#[async_trait]
impl Provisioner for PowerShell {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = scripts::check(&self.inline, &self.script, &self.scripts, &self.environment_vars);
        if !self.elevated_password.is_empty() && !self.is_elevated() {
            found.push(Diagnostic::error("Must supply an 'elevated_user' if 'elevated_password' provided"));
        }
        if !(0..=2).contains(&self.debug_mode) {
            found.push(Diagnostic::error(format!(
                "{} is an invalid Trace level for `debug_mode`; valid values are 0, 1, and 2",
                self.debug_mode
            )));
        }
        found
    }

    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        cx.say("Provisioning with Powershell...");
        let mut run = Run::new(self, cx, machine)?;
        let inline = if self.inline.is_empty() { None } else { Some(run.write_inline()?) };
        let inline = inline.as_ref().map(|file| file.path().to_string_lossy());
        for script in self.files().chain(inline.as_deref()) {
            if let Err(error) = run.script(script).await {
                // The failure is what is reported, whether or not its remains can be removed.
                if !error.is_cancelled() {
                    run.guest.remove().await?;
                }
                return Err(error);
            }
        }
        run.clean().await?;
        if !self.pause_after.is_zero() {
            cx.say(format!("Pausing {} after this provisioner...", self.pause_after));
            cx.sleep(self.pause_after.to_std()).await?;
        }
        Ok(())
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

/// One go of the provisioner on one machine.
struct Run<'a> {
    options: &'a PowerShell,
    cx: &'a Context,
    guest: Guest<'a>,
    variables: String,
    variable_file: String,
    /// Where scripts go; of a folder the first script makes a file, which the others overwrite.
    remote_path: String,
    /// The scripts in the machine, one for each that ran.
    uploaded: Vec<String>,
}

impl<'a> Run<'a> {
    fn new(options: &'a PowerShell, cx: &'a Context, machine: &dyn Machine) -> Result<Self> {
        let path = |own: &str, name: &str| match own {
            "" => format!("c:/Windows/Temp/{name}-{}.ps1", uuid::Uuid::new_v4()),
            own => own.to_owned(),
        };
        Ok(Self {
            options,
            cx,
            guest: Guest::new(cx, machine),
            variables: options.variables(cx)?,
            variable_file: path(&options.remote_env_var_path, "packer-ps-env-vars"),
            remote_path: path(&options.remote_path, "script"),
            uploaded: Vec::new(),
        })
    }

    fn write_inline(&self) -> Result<TempFile> {
        let text = texts::inline(&self.options.inline, &self.variables, self.options.debug_mode);
        self.cx.temp_file("powershell-provisioner", "", 0o600, text.as_bytes())
    }

    /// Notes a file that the machine is about to get, unless it is to stay there.
    fn write_down(&mut self, path: &str) -> Result<()> {
        if self.options.skip_clean { Ok(()) } else { self.guest.write_down(path) }
    }

    async fn script(&mut self, path: &str) -> Result<()> {
        self.cx.say(format!("Provisioning with powershell script: {path}"));
        let local = Path::new(path);
        if self.remote_path.ends_with(['/', '\\']) {
            self.remote_path.push_str(&local.file_name().unwrap_or_default().to_string_lossy());
        }
        let (script, variable_file) = (self.remote_path.clone(), self.variable_file.clone());
        self.write_down(&variable_file)?;
        let tries = Tries::within(self.options.start_retry_timeout);
        while let Err(e) = self.guest.upload(Source::Bytes(self.variables.as_bytes()), &variable_file).await {
            tries.again(self.cx, e.context("Error uploading ps script containing env vars")).await?;
        }
        let command = self.render(self.options.is_elevated(), &script)?;
        let elevated = match self.options.is_elevated() {
            true => Some(self.elevated(&command).await?),
            false => None,
        };
        let command = elevated.as_ref().map_or(command, Elevated::command);
        self.write_down(&script)?;
        let tries = Tries::within(self.options.start_retry_timeout);
        let code = loop {
            let done = async {
                let uploaded = self.guest.upload(Source::File(local), &script).await;
                uploaded.map_err(|e| e.context("Error uploading script"))?;
                self.guest.run(&command, &self.options.valid_exit_codes).await
            };
            match done.await {
                Ok(code) => break code,
                Err(e) => tries.again(self.cx, e).await?,
            }
        };
        self.uploaded.push(script);
        windows::check_exit_code(code, &self.options.valid_exit_codes)
    }

    fn render(&self, elevated: bool, script: &str) -> Result<String> {
        let known = [("Vars", self.variable_file.as_str()), ("Path", script)];
        render(self.cx, &self.options.command(elevated), &known)
    }

    /// Puts the script into the machine that runs a command as the other user.
    async fn elevated(&mut self, command: &str) -> Result<Elevated> {
        let user = render(self.cx, &self.options.elevated_user, &[])?;
        let password = render(self.cx, self.options.elevated_password.reveal(), &[])?;
        if !password.is_empty() {
            self.cx.secrets().add(&password);
        }
        let elevated = Elevated::new(command, &user, &password);
        // It holds a password: it does not stay, whatever is asked for.
        self.guest.write_down(&elevated.path)?;
        let tries = Tries::within(self.options.start_retry_timeout);
        let script = elevated.script.as_bytes();
        while let Err(e) = self.guest.upload(Source::Bytes(script), &elevated.path).await {
            tries.again(self.cx, e.context("Error uploading elevated script")).await?;
        }
        Ok(elevated)
    }

    /// Removes what is in the machine: with a script, as the user's own command runs scripts, and what that leaves by a
    /// command of ours.
    async fn clean(&mut self) -> Result<()> {
        if !self.options.skip_clean {
            let end = Instant::now() + CLEANUP_LIMIT;
            while let Err(error) = self.clean_by_script().await {
                if error.is_cancelled() {
                    return Err(error);
                }
                if Instant::now() + CLEANUP_PAUSE >= end {
                    break;
                }
                self.cx.sleep(CLEANUP_PAUSE).await?;
            }
        }
        self.guest.remove().await
    }

    async fn clean_by_script(&mut self) -> Result<()> {
        let path = format!("c:/Windows/Temp/packer-cleanup-{}.ps1", uuid::Uuid::new_v4());
        self.guest.write_down(&path)?;
        let files = std::iter::once(&self.variable_file).chain(&self.uploaded).chain([&path]);
        let text = texts::cleanup(files.map(String::as_str));
        self.guest.upload(Source::Bytes(text.as_bytes()), &path).await?;
        let code = self.guest.run(&self.render(false, &path)?, &[]).await?;
        windows::check_exit_code(code, &[])?;
        self.guest.gone(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_at_once() {
        let messages = |step: &PowerShell| -> Vec<String> {
            step.prepare(&PrepareContext::default()).iter().map(|d| d.summary.clone()).collect()
        };
        let neither = "Either a script file or inline script must be specified.";
        assert_eq!(messages(&PowerShell::default()), [neither]);
        let step = PowerShell { debug_mode: 3, ..PowerShell::inline(["x"]).elevated("", "secret") };
        assert_eq!(
            messages(&step),
            [
                "Must supply an 'elevated_user' if 'elevated_password' provided",
                "3 is an invalid Trace level for `debug_mode`; valid values are 0, 1, and 2",
            ]
        );
        assert!(!format!("{step:?}").contains("secret"));
    }

    #[test]
    fn commands_as_they_are_by_default() {
        let lines = PowerShell::inline(["x"]);
        assert_eq!(lines.command(false), "powershell -executionpolicy bypass -file {{.Path}}");
        let none = PowerShell { execution_policy: ExecutionPolicy::None, use_pwsh: true, ..lines };
        assert_eq!(none.command(true), "-file {{.Path}}");
        let script = PowerShell { debug_mode: 1, use_pwsh: true, ..PowerShell::script("a.ps1") };
        let command = script.command(false);
        assert!(command.starts_with("pwsh -executionpolicy bypass -command \"& {"), "{command}");
        assert!(
            command.ends_with("Set-PsDebug -Trace 1; . {{.Vars}}; & '{{.Path}}'; exit $LastExitCode }\"")
        );
    }
}
