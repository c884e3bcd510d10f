//! The provisioner `shell`: runs scripts in the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use packer_core::config::{self, GoTemplate};
use packer_core::duration::GoDuration;
use packer_core::kit::render;
use packer_core::kit::shell;
use packer_core::{
    Command, Communicator, CommunicatorExt, Context, Diagnostics, Error, ExitStatus, Fault, Machine,
    PrepareContext, Provisioner, Resource, Result, Source, StatusLost, StepInputs, TempFile, Value,
    async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

mod one_command;
mod unix_lines;

use one_command::{Ran, is_plain};
use unix_lines::UnixLines;

use crate::scripts;
use crate::tries::Tries;

/// The largest script that comes with the command that runs it, in bytes.
const MOST_AT_ONCE: u64 = 1 << 20;

/// Runs scripts in the machine: lines of the template or script files, uploaded, run and removed again.
///
/// ```
/// use packer_provisioners::Shell;
/// let nginx = Shell::inline(["apt-get update", "apt-get install -y nginx"]).env("DEBIAN_FRONTEND", "noninteractive");
/// let harden = Shell::script("harden.sh").execute_command("sudo sh -c '{{.Vars}} {{.Path}}'");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Shell {
    /// Lines of one script. Each may hold `{{ … }}`, rendered with what is known about the machine.
    pub inline: Vec<String>,
    /// The path of a script on this computer.
    pub script: String,
    /// Paths of scripts, run in order.
    pub scripts: Vec<String>,
    /// Variables, each `NAME=VALUE`.
    pub environment_vars: Vec<String>,
    /// Variables by name; these win over `environment_vars`.
    pub env: BTreeMap<String, String>,
    /// How a variable is written into `{{.Vars}}` or the variable file: first `%s` its name, second its value.
    /// Default `%s='%s' `, with `use_env_var_file` a line `export %s='%s'`.
    pub env_var_format: String,
    /// The command that runs a script: `{{.Path}}` is the script in the machine, `{{.Vars}}` the variables,
    /// `{{.EnvVarFile}}` the variable file. Default `chmod +x {{.Path}}; {{.Vars}} {{.Path}}`, with
    /// `use_env_var_file` `chmod +x {{.Path}}; . {{.EnvVarFile}} && {{.Path}}`.
    pub execute_command: GoTemplate,
    /// What stands behind `#!` in the first line of an inline script. Default `/bin/sh -e`, unless the first
    /// inline line has a `#!` of its own.
    pub inline_shebang: String,
    /// Uploads scripts as they are. Otherwise line ends become those of Unix, and the last line gets one.
    pub binary: bool,
    /// The folder in the machine for scripts. Default `/tmp`.
    pub remote_folder: String,
    /// The name of the script in the machine. Default `script_` + a random number + `.sh`.
    pub remote_file: String,
    /// The path of the script in the machine, instead of folder and name.
    pub remote_path: String,
    /// Hands the variables over in a file of the machine instead of in the command, where other users may see them.
    pub use_env_var_file: bool,
    /// Exit codes that are no failure. Default only 0.
    pub valid_exit_codes: Vec<i32>,
    /// How long a script that cannot be uploaded or started, or whose remains cannot be removed, is tried again:
    /// a machine may be rebooting. Default 5 minutes.
    pub start_retry_timeout: GoDuration,
    /// Whether a script may end by breaking the connection, as a reboot does.
    pub expect_disconnect: bool,
    /// Leaves scripts and variable file in the machine.
    pub skip_clean: bool,
    /// How long to wait when all is done.
    pub pause_after: GoDuration,
}

impl Shell {
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

    /// Says with which command a script is run.
    #[must_use]
    pub fn execute_command(mut self, command: impl Into<String>) -> Self {
        self.execute_command = GoTemplate::new(command);
        self
    }

    /// Says which exit codes are no failure.
    #[must_use]
    pub fn valid_exit_codes(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.valid_exit_codes = codes.into_iter().collect();
        self
    }

    /// Lets a script end by breaking the connection, as a reboot does.
    #[must_use]
    pub fn expect_disconnect(mut self) -> Self {
        self.expect_disconnect = true;
        self
    }

    fn files(&self) -> impl Iterator<Item = &str> {
        scripts::files(&self.script, &self.scripts)
    }
}

#[async_trait]
impl Provisioner for Shell {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        scripts::check(&self.inline, &self.script, &self.scripts, &self.environment_vars)
    }

    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        let inline = if self.inline.is_empty() { None } else { Some(self.write_inline(cx)?) };
        let inline = inline.as_ref().map(|file| file.path().to_string_lossy());
        let run = Run::new(self, cx, machine)?;
        for script in self.files().chain(inline.as_deref()) {
            run.script(script).await?;
        }
        run.clean().await?;
        if !self.pause_after.is_zero() {
            cx.say(format!("Pausing {} after this provisioner...", self.pause_after));
            cx.sleep(self.pause_after.to_std()).await?;
        }
        Ok(())
    }

    async fn clean(&self, cx: &Context, machine: &dyn Machine, resource: &Resource) -> Result<()> {
        let command = Command::new(format!("rm -f {}", resource.name));
        match machine.communicator().exec(cx, command).await? {
            status if status.success() => Ok(()),
            status => Err(Error::guest(format!("rm ended with status {}", status.code()))),
        }
    }

    /// What is left in a machine that nobody is in any more stays there: how it was entered is not in the ledger, whose
    /// entries hold no secrets.
    async fn release(&self, _: &Context, resource: &Resource) -> Result<()> {
        let machine = resource.details.as_str().unwrap_or_default();
        let machine =
            if machine.is_empty() { "the machine".to_owned() } else { format!("the machine {machine}") };
        Err(Error::guest(format!("it is on {machine}, and has to be removed there")))
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

impl Shell {
    fn write_inline(&self, cx: &Context) -> Result<TempFile> {
        let mut text = String::new();
        for line in &self.inline {
            text.push_str(&render(cx, line, &[])?);
            text.push('\n');
        }
        if !self.inline_shebang.is_empty() {
            text.insert_str(0, &format!("#!{}\n", self.inline_shebang));
        } else if !text.starts_with("#!") {
            text.insert_str(0, "#!/bin/sh -e\n");
        }
        cx.temp_file("packer-shell", "", 0o600, text.as_bytes())
    }

    /// Where scripts go in the machine: a name that no other step uses at the same time.
    fn remote_path(&self) -> String {
        if !self.remote_path.is_empty() {
            return self.remote_path.clone();
        }
        let file = match self.remote_file.is_empty() {
            true => format!("script_{}.sh", random()),
            false => self.remote_file.clone(),
        };
        format!("{}/{file}", self.remote_folder())
    }

    fn remote_folder(&self) -> &str {
        if self.remote_folder.is_empty() { "/tmp" } else { &self.remote_folder }
    }

    fn variable_format(&self) -> &str {
        match (self.env_var_format.as_str(), self.use_env_var_file) {
            ("", true) => "export %s='%s'\n",
            ("", false) => "%s='%s' ",
            (own, _) => own,
        }
    }

    fn command(&self) -> &str {
        match (self.execute_command.as_str(), self.use_env_var_file) {
            ("", true) => "chmod +x {{.Path}}; . {{.EnvVarFile}} && {{.Path}}",
            ("", false) => "chmod +x {{.Path}}; {{.Vars}} {{.Path}}",
            (own, _) => own,
        }
    }
}

/// One go of the provisioner on one machine.
struct Run<'a> {
    shell: &'a Shell,
    cx: &'a Context,
    communicator: std::sync::Arc<dyn Communicator>,
    remote_path: String,
    variables: String,
    /// The variable file in the machine; empty without one.
    variable_file: String,
    /// What is to be gone from the machine in the end.
    remains: Vec<Resource>,
    /// Whether scripts come with the command that runs them.
    at_once: AtomicBool,
    /// Whether the machine has the variable file.
    has_variables: AtomicBool,
}

impl<'a> Run<'a> {
    fn new(shell: &'a Shell, cx: &'a Context, machine: &dyn Machine) -> Result<Self> {
        let variables = shell::variables(cx, &shell.environment_vars, &shell.env, shell::posix_escape);
        let variable_file = match shell.use_env_var_file {
            true => format!("{}/varfile_{}.sh", shell.remote_folder(), random()),
            false => String::new(),
        };
        let mut run = Self {
            shell,
            cx,
            communicator: machine.communicator(),
            remote_path: shell.remote_path(),
            variables: shell::flatten(shell.variable_format(), &variables)?,
            variable_file,
            remains: Vec::new(),
            at_once: AtomicBool::new(false),
            has_variables: AtomicBool::new(false),
        };
        // Another command may do anything with the files.
        let at_once = shell.execute_command.as_str().is_empty()
            && run.communicator.passes_input()
            && is_plain(&run.remote_path)
            && (run.variable_file.is_empty() || is_plain(&run.variable_file));
        run.at_once = AtomicBool::new(at_once);
        if !shell.skip_clean {
            run.write_down()?;
        }
        Ok(run)
    }

    /// Writes into the ledger which files the machine is about to get.
    fn write_down(&mut self) -> Result<()> {
        let host = self.cx.facts().get("Host").and_then(Value::as_str).unwrap_or_default();
        let host = self.cx.secrets().scrub(host);
        for path in [&self.remote_path, &self.variable_file].into_iter().filter(|path| !path.is_empty()) {
            let resource = Resource::remote_file(path).with_details(host.as_ref());
            self.cx.record(resource.clone())?;
            self.remains.push(resource);
        }
        Ok(())
    }

    /// Strikes out of the ledger what the machine does not have any more.
    fn gone(&self) -> Result<()> {
        self.remains.iter().try_for_each(|resource| self.cx.released(resource))
    }

    async fn script(&self, path: &str) -> Result<()> {
        self.cx.say(format!("Provisioning with shell script: {path}"));
        let known = [
            ("Vars", self.variables.as_str()),
            ("EnvVarFile", self.variable_file.as_str()),
            ("Path", self.remote_path.as_str()),
        ];
        let command = render(self.cx, self.shell.command(), &known)?;
        let tries = Tries::within(self.shell.start_retry_timeout);
        let Ran { status, removed } = loop {
            match self.bring_and_run(Path::new(path), &command).await {
                Ok(ran) => break ran,
                Err(e) => tries.again(self.cx, e).await?,
            }
        };
        if let Err(error) = self.check(status) {
            if removed && !self.shell.skip_clean {
                self.gone()?;
            } else if !self.shell.skip_clean && status != ExitStatus::Disconnected {
                let command = format!("rm -f {} {}", self.remote_path, self.variable_file);
                // The failure is what is reported, whether or not its remains can be removed.
                if self.run_quietly(&command).await.is_ok_and(ExitStatus::success) {
                    self.gone()?;
                }
            }
            return Err(error);
        }
        match removed {
            true => Ok(()),
            false => self.remove(&self.remote_path).await,
        }
    }

    async fn bring_and_run(&self, path: &Path, command: &str) -> Result<Ran> {
        if self.at_once.load(Ordering::Relaxed) {
            match self.run_at_once(path, command).await? {
                Some(ran) => return Ok(ran),
                None => self.at_once.store(false, Ordering::Relaxed),
            }
        }
        let status = self.upload_and_run(path, command).await?;
        Ok(Ran { status, removed: false })
    }

    /// Brings the script with the command that runs it; `None` where it is too large or the machine cannot do that.
    async fn run_at_once(&self, path: &Path, command: &str) -> Result<Option<Ran>> {
        let failed = |e| Error::io("open", path, e).context("Error opening shell script");
        let mut script = tokio::fs::File::open(path).await.map_err(failed)?.take(MOST_AT_ONCE + 1);
        let mut content = Vec::new();
        match self.shell.binary {
            true => script.read_to_end(&mut content).await,
            false => UnixLines::new(script).read_to_end(&mut content).await,
        }
        .map_err(failed)?;
        if content.len() as u64 > MOST_AT_ONCE {
            return Ok(None);
        }
        let mut variables = Vec::new();
        UnixLines::new(self.variables.as_bytes()).read_to_end(&mut variables).await.map_err(failed)?;
        let with = match self.variable_file.as_str() {
            "" => self.variables.clone(),
            file => format!(". {file} && "),
        };
        let script = one_command::Script {
            content: &content,
            path: &self.remote_path,
            variables: (!self.variable_file.is_empty()).then_some((&self.variable_file, &variables)),
            command,
            interpreted: &format!("{with}$packer_with {}", self.remote_path),
            stays: self.shell.skip_clean,
        };
        let ran = one_command::run(self.cx, &*self.communicator, &script).await;
        let ran = ran.map_err(|e| e.context("Error uploading script"))?;
        if ran.as_ref().is_some_and(|ran| !ran.removed) {
            self.has_variables.store(true, Ordering::Relaxed);
        }
        Ok(ran)
    }

    async fn upload_and_run(&self, path: &Path, command: &str) -> Result<ExitStatus> {
        if !self.variable_file.is_empty() {
            self.has_variables.store(true, Ordering::Relaxed);
            let uploaded = self.upload(self.variables.as_bytes(), &self.variable_file, 0o600).await;
            uploaded.map_err(|e| e.context("Error uploading environment variables"))?;
        }
        let script = tokio::fs::File::open(path).await;
        let script = script.map_err(|e| Error::io("open", path, e).context("Error opening shell script"))?;
        let uploaded = self.upload(script, &self.remote_path, 0o755).await;
        uploaded.map_err(|e| e.context("Error uploading script"))?;
        match self.communicator.run(self.cx, command).await {
            // Templates know by the number of a broken connection that nobody knows how a script ended.
            Err(e) if StatusLost::is_source_of(&e) => Ok(ExitStatus::Disconnected),
            status => status,
        }
    }

    /// Uploads a file and gives it these permission bits.
    async fn upload(&self, content: impl AsyncRead + Send + Unpin, to: &str, mode: u32) -> Result<()> {
        let (mut as_is, mut converted);
        let reader: &mut (dyn AsyncRead + Send + Unpin) = match self.shell.binary {
            true => {
                as_is = content;
                &mut as_is
            }
            false => {
                converted = UnixLines::new(content);
                &mut converted
            }
        };
        if self.communicator.keeps_modes() {
            let source = Source::Reader { reader, size: None, mode: Some(mode) };
            return self.communicator.upload(self.cx, source, to).await;
        }
        self.communicator.upload(self.cx, Source::reader(reader), to).await?;
        self.run_quietly(&format!("chmod {mode:04o} {to}")).await?;
        Ok(())
    }

    /// Runs a command of ours, whose output nobody wants to see.
    async fn run_quietly(&self, command: &str) -> Result<ExitStatus> {
        self.communicator.exec(self.cx, Command::new(command)).await
    }

    fn check(&self, status: ExitStatus) -> Result<()> {
        let valid = &self.shell.valid_exit_codes;
        if status.code() != ExitStatus::DISCONNECT_CODE || valid.contains(&status.code()) {
            return shell::check_exit_code(status.code(), valid, Fault::Guest);
        }
        if self.shell.expect_disconnect {
            return Ok(());
        }
        Err(Error::guest(format!(
            "Script disconnected unexpectedly. For a script that is meant to break the connection, such as a reboot, \
             set expect_disconnect = true or valid_exit_codes = [0, {}].",
            ExitStatus::DISCONNECT_CODE
        )))
    }

    /// Removes a file; a machine that is rebooting is waited for.
    async fn remove(&self, path: &str) -> Result<()> {
        if self.shell.skip_clean {
            return Ok(());
        }
        let failed = || Error::guest(format!("Error removing temporary script at {path}!"));
        let tries = Tries::within(self.shell.start_retry_timeout);
        loop {
            let error = match self.run_quietly(&format!("rm -f {path}")).await {
                Ok(status) if status.success() => return Ok(()),
                Ok(_) => failed(),
                Err(e) if e.is_cancelled() => return Err(e),
                Err(e) => failed().with_source(e),
            };
            tries.again(self.cx, error).await?;
        }
    }

    async fn clean(&self) -> Result<()> {
        if self.has_variables.load(Ordering::Relaxed) {
            self.remove(&self.variable_file).await?;
        }
        self.gone()
    }
}

/// A number that no step running beside this one has chosen.
fn random() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0 >> 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_kind_of_script_is_needed() {
        let messages = |shell: &Shell| -> Vec<String> {
            shell.prepare(&PrepareContext::default()).iter().map(|d| d.summary.clone()).collect()
        };
        let neither = "Either a script file or inline script must be specified.";
        assert_eq!(messages(&Shell::default()), [neither]);
        assert!(messages(&Shell::inline(["true"])).is_empty());
        let all = Shell { script: "/no/a".into(), scripts: vec!["/no/b".into()], ..Shell::inline(["true"]) };
        assert_eq!(
            messages(&all),
            [
                "Only one of script or scripts can be specified.",
                "Only a script file or an inline script can be specified, not both.",
                "Bad script '/no/b': stat /no/b: no such file or directory",
                "Bad script '/no/a': stat /no/a: no such file or directory",
            ]
        );
    }

    #[test]
    fn where_scripts_go() {
        let shell = Shell { remote_folder: "/var/tmp".into(), ..Shell::default() };
        let path = shell.remote_path();
        let number = path.strip_prefix("/var/tmp/script_").and_then(|p| p.strip_suffix(".sh"));
        assert!(number.is_some_and(|n| n.parse::<u64>().is_ok()), "{path}");
        assert_ne!(path, shell.remote_path());
        let shell = Shell { remote_file: "a.sh".into(), ..shell };
        assert_eq!(shell.remote_path(), "/var/tmp/a.sh");
        let shell = Shell { remote_path: "~/b.sh".into(), ..shell };
        assert_eq!(shell.remote_path(), "~/b.sh");
    }
}
