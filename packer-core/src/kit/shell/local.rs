//! Scripts on this computer: what the provisioner and the post-processor `shell-local` have in common.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::process;
use crate::communicator::ExitStatus;
use crate::config::GoTemplate;
use crate::context::{Context, PrepareContext};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::{Error, Fault, Result};
use crate::kit::render;

/// The systems that `only_on` may name.
const SYSTEMS: [&str; 6] = ["darwin", "freebsd", "linux", "openbsd", "solaris", "windows"];

/// Scripts to run on the computer that runs the build.
///
/// A script inherits the environment, its standard input is empty, its output is shown line by line, and it is killed
/// with all it started when the build is cancelled. A relative path starts at the working directory.
///
/// ```
/// # #[cfg(all(unix, feature = "testing"))]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let bench = packer_core::testing::Bench::new();
/// # let cx = bench.context();
/// use packer_core::kit::shell::LocalShell;
/// let script = LocalShell::inline(["echo signed by $WHO", "exit 3"]).env("WHO", "me").valid_exit_codes([0, 3]);
/// assert!(script.check(bench.prepare_context()).is_empty());
/// script.run(cx).await?;
/// assert!(bench.recorder().lines().contains(&"signed by me".to_owned()));
/// # Ok::<(), packer_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct LocalShell {
    /// Old name of an `inline` of one line.
    pub command: String,
    /// Lines of one script. Each may hold `{{ … }}`, rendered with what is known about the machine.
    pub inline: Vec<String>,
    /// The path of a script.
    pub script: String,
    /// Paths of scripts, run in order.
    pub scripts: Vec<String>,
    /// Variables, each `NAME=VALUE`.
    pub environment_vars: Vec<String>,
    /// Variables by name; these win over `environment_vars`.
    pub env: BTreeMap<String, String>,
    /// How a variable is written into `{{.Vars}}`: first `%s` its name, second its value. Default `%s='%s' `,
    /// on Windows `set %s=%s && `.
    pub env_var_format: String,
    /// Program and arguments; `{{.Vars}}` are the variables, `{{.Script}}` the path of the script. Default
    /// `["/bin/sh", "-c", "{{.Vars}} {{.Script}}"]`, on Windows `["cmd", "/V", "/C", "{{.Vars}}", "call", "{{.Script}}"]`.
    pub execute_command: Vec<GoTemplate>,
    /// What stands behind `#!` in the first line of an inline script. Default `/bin/sh -e`, on Windows none.
    pub inline_shebang: String,
    /// Exit codes that are no failure. Default only 0.
    pub valid_exit_codes: Vec<i32>,
    /// The systems to run on (`darwin`, `freebsd`, `linux`, `openbsd`, `solaris`, `windows`); on others nothing
    /// happens. Default all.
    pub only_on: Vec<String>,
    /// The extension of the temporary file of an inline script. Default none, on Windows `cmd`.
    pub tempfile_extension: String,
    /// For Windows with WSL: hands a script `C:\x` over as `/mnt/c/x`. Not for inline scripts.
    pub use_linux_pathing: bool,
}

impl LocalShell {
    /// One script of these lines.
    pub fn inline<S: Into<String>>(lines: impl IntoIterator<Item = S>) -> Self {
        Self { inline: lines.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// These scripts, in order.
    pub fn scripts<S: Into<String>>(paths: impl IntoIterator<Item = S>) -> Self {
        Self { scripts: paths.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Says which exit codes are no failure.
    #[must_use]
    pub fn valid_exit_codes(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.valid_exit_codes = codes.into_iter().collect();
        self
    }

    /// Says how scripts are started.
    #[must_use]
    pub fn execute_command<S: Into<String>>(mut self, parts: impl IntoIterator<Item = S>) -> Self {
        self.execute_command = parts.into_iter().map(GoTemplate::new).collect();
        self
    }

    /// Checks the configuration.
    pub fn check(&self, _cx: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        let given = [
            !self.command.is_empty(),
            !self.inline.is_empty(),
            !self.script.is_empty(),
            !self.scripts.is_empty(),
        ];
        match given.iter().filter(|g| **g).count() {
            0 => found
                .push(Diagnostic::error("Command, Inline, Script and Scripts options cannot all be empty.")),
            1 => {}
            _ => found.push(Diagnostic::error(
                "You may only specify one of the following options: Command, Inline, Script or Scripts. \
                 Please consolidate these options in your config.",
            )),
        }
        found.append(super::check_scripts(self.files()));
        found.append(super::check_variables(&self.environment_vars));
        for system in &self.only_on {
            if !SYSTEMS.contains(&system.as_str()) {
                found.push(Diagnostic::error(format!(
                    "Invalid OS specified in only_on: '{system}'\nSupported OS names: {}",
                    SYSTEMS.join(", ")
                )));
            }
        }
        if self.use_linux_pathing {
            if self.lines().is_some() {
                found
                    .push(Diagnostic::error("use_linux_pathing is for script files, not for inline scripts"));
            }
            for script in self.files() {
                if let Err(e) = absolute(script).and_then(|path| linux_path(&path)) {
                    found.push(Diagnostic::error(e.to_string()));
                }
            }
        }
        found
    }

    /// Runs the scripts one after the other.
    ///
    /// # Errors
    /// Where one cannot be started or ends with a code that is not valid; later ones do not run then.
    pub async fn run(&self, cx: &Context) -> Result<()> {
        if !self.only_on.is_empty() && !self.only_on.iter().any(|s| s == system()) {
            cx.say("Skipping shell-local due to runtime OS");
            return Ok(());
        }
        let inline = match self.lines() {
            Some(lines) => Some(self.write_inline(cx, lines)?),
            None => None,
        };
        let inline = inline.as_ref().map(|file| file.path().to_string_lossy());
        let mut pairs = Vec::with_capacity(self.environment_vars.len());
        for pair in &self.environment_vars {
            pairs.push(render(cx, pair, &[])?);
        }
        let variables = super::variables(cx, &pairs, &self.env, super::posix_escape);
        let variables = super::flatten(&self.variable_format(), &variables)?;
        for script in inline.as_deref().into_iter().chain(self.files()) {
            self.run_script(cx, script, &variables).await?;
        }
        Ok(())
    }

    async fn run_script(&self, cx: &Context, script: &str, variables: &str) -> Result<()> {
        let path = absolute(script)?;
        let path = if self.use_linux_pathing { linux_path(&path)? } else { path };
        let known = [("Vars", variables), ("Script", path.as_str()), ("Command", path.as_str())];
        let mut words = Vec::new();
        for word in self.command_words() {
            words.push(word.render(cx, &known)?);
        }
        cx.say(format!("Running local shell script: {script}"));
        let Some((program, arguments)) = words.split_first() else {
            return Err(Error::user("execute_command is empty"));
        };
        let status = process::run(cx, program, arguments).await.map_err(|e| {
            Error::user(format!(
                "Error executing script: {path}\n\nPlease see output above for more information."
            ))
            .with_source(e)
        })?;
        let code = match status {
            ExitStatus::Code(code) => code,
            // As Packer counts it; a shell in between makes 128 + signal of it.
            _ => -1,
        };
        super::check_exit_code(code, &self.valid_exit_codes, Fault::User)
    }

    fn write_inline(&self, cx: &Context, lines: Vec<&str>) -> Result<crate::kit::TempFile> {
        let mut text = String::new();
        let shebang = match self.inline_shebang.as_str() {
            "" if cfg!(windows) => "",
            "" => "/bin/sh -e",
            own => own,
        };
        if !shebang.is_empty() {
            text = format!("#!{shebang}\n");
        }
        for line in lines {
            text.push_str(&render(cx, line, &[])?);
            text.push('\n');
        }
        let extension = match self.tempfile_extension.trim_start_matches('.') {
            "" if cfg!(windows) => ".cmd".to_owned(),
            "" => String::new(),
            own => format!(".{own}"),
        };
        cx.temp_file("packer-shell", &extension, 0o700, text.as_bytes())
    }

    /// The lines of the inline script, where there is one.
    fn lines(&self) -> Option<Vec<&str>> {
        if !self.command.is_empty() {
            return Some(vec![&self.command]);
        }
        (!self.inline.is_empty()).then(|| self.inline.iter().map(String::as_str).collect())
    }

    fn files(&self) -> impl Iterator<Item = &str> {
        let single = (!self.script.is_empty()).then_some(&self.script);
        self.scripts.iter().chain(single).map(String::as_str)
    }

    fn variable_format(&self) -> String {
        match self.env_var_format.as_str() {
            "" if cfg!(windows) && !self.use_linux_pathing => "set %s=%s && ".to_owned(),
            "" => "%s='%s' ".to_owned(),
            own => own.to_owned(),
        }
    }

    fn command_words(&self) -> Vec<GoTemplate> {
        let default: &[&str] = match cfg!(windows) {
            true if !self.use_linux_pathing => &["cmd", "/V", "/C", "{{.Vars}}", "call", "{{.Script}}"],
            true => &["bash", "-c", "{{.Vars}} {{.Script}}"],
            false => &["/bin/sh", "-c", "{{.Vars}} {{.Script}}"],
        };
        match self.execute_command.is_empty() {
            true => default.iter().copied().map(GoTemplate::from).collect(),
            false => self.execute_command.clone(),
        }
    }
}

/// This system's name as templates know it.
fn system() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

fn absolute(path: &str) -> Result<String> {
    let path = std::path::absolute(Path::new(path)).map_err(|e| Error::io("find", path, e))?;
    Ok(path.to_string_lossy().into_owned())
}

/// `C:\x` as WSL sees it: `/mnt/c/x`.
fn linux_path(absolute: &str) -> Result<String> {
    let path = absolute.replace('\\', "/");
    match path.split_once(":/") {
        Some((drive, rest)) => Ok(format!("/mnt/{}/{rest}", drive.to_lowercase())),
        None => Err(Error::user(format!(
            "There was an error splitting your absolute path; expected to find a drive following the format ':/' \
             but did not: absolute path: {absolute}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(shell: &LocalShell) -> Vec<String> {
        shell.check(&PrepareContext::default()).iter().map(|d| d.summary.clone()).collect()
    }

    #[test]
    fn exactly_one_kind_of_script_is_needed() {
        let empty = "Command, Inline, Script and Scripts options cannot all be empty.";
        assert_eq!(messages(&LocalShell::default()), [empty]);
        assert_eq!(messages(&LocalShell::inline(Vec::<String>::new())), [empty]);
        assert!(messages(&LocalShell::inline(["true"])).is_empty());
        let two = LocalShell { command: "true".into(), ..LocalShell::inline(["true"]) };
        assert!(messages(&two)[0].starts_with("You may only specify one of the following options"));
        let missing = LocalShell::scripts(["/no/such.sh"]);
        assert_eq!(
            messages(&missing),
            ["Bad script '/no/such.sh': stat /no/such.sh: no such file or directory"]
        );
    }

    #[test]
    fn only_known_systems_are_taken() {
        let shell = LocalShell { only_on: vec!["linux".into(), "plan9".into()], ..LocalShell::inline(["x"]) };
        assert_eq!(
            messages(&shell),
            [
                "Invalid OS specified in only_on: 'plan9'\nSupported OS names: darwin, freebsd, linux, openbsd, \
              solaris, windows"
            ]
        );
    }

    #[test]
    fn windows_paths_as_linux_sees_them() {
        assert_eq!(linux_path(r"C:\a b\do.sh").unwrap(), "/mnt/c/a b/do.sh");
        assert!(linux_path("/tmp/do.sh").unwrap_err().message().ends_with("absolute path: /tmp/do.sh"));
    }
}
