//! The provisioner `ansible`: runs this computer's `ansible-playbook` on the machine.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use packer_core::config::{self, GoTemplate};
use packer_core::error::os_text;
use packer_core::kit::process::Program;
use packer_core::kit::{TempFile, render};
use packer_core::{
    Context, Diagnostic, Diagnostics, Error, ExitStatus, Machine, PrepareContext, Provisioner, Result, Value,
    async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod inventory;
mod keys;
mod proxy;
mod user;
mod version;

use inventory::{InventoryFile, Place};
use keys::KeyType;
use proxy::Proxy;
use version::Old;

use crate::plays::{absolute, learn, masked};

/// Runs a playbook from this computer, with the `ansible-playbook` that is installed here.
///
/// Ansible reaches the machine through an SSH server of this provisioner's on 127.0.0.1, which passes commands and files
/// on to the communicator of the build, whatever that is; with `use_proxy = false` Ansible connects by itself.
///
/// ```
/// use packer_provisioners::Ansible;
/// let site = Ansible::playbook("site.yml").user("admin").extra_arguments(["--tags", "base"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Ansible {
    /// The command to run; `ansible-playbook` by default.
    pub command: String,
    /// The playbook.
    pub playbook_file: String,
    /// Arguments for the command. Each may hold `{{ … }}`, rendered with what is known about the machine.
    pub extra_arguments: Vec<String>,
    /// Variables of the command's environment, each `NAME=VALUE`.
    pub ansible_env_vars: Vec<String>,
    /// Options for Ansible's `ssh`, in place of `-o IdentitiesOnly=yes`.
    pub ansible_ssh_extra_args: Vec<String>,
    /// Groups of the inventory that the machine is in.
    pub groups: Vec<String>,
    /// Groups of the inventory that are empty.
    pub empty_groups: Vec<String>,
    /// The machine's name in the inventory; `default` by default.
    pub host_alias: String,
    /// The user to log in as; by default the one who runs this, without the proxy that of the build's SSH connection.
    pub user: String,
    /// The first of ten ports to try for the SSH server; by default any that is free.
    pub local_port: i64,
    /// The private key of the SSH server; by default it is made for the run. With one Ansible checks it.
    pub ssh_host_key_file: String,
    /// The public key that the SSH server lets in; by default it is made for the run.
    pub ssh_authorized_key_file: String,
    /// What kind of keys are made: `ECDSA` (the default) or `RSA`.
    pub ansible_proxy_key_type: String,
    /// A command of the machine's that serves SFTP, in place of what this provisioner does.
    pub sftp_command: String,
    /// Leaves it to Ansible to move files by SFTP; otherwise it is told to use scp.
    pub use_sftp: bool,
    /// Whether Ansible goes through the SSH server of this provisioner's; it does by default.
    pub use_proxy: Option<bool>,
    /// The folder for the inventory that is made; beside it may stand `group_vars` and `host_vars`.
    pub inventory_directory: String,
    /// The machine's line in the inventory, with `{{ .HostAlias }}`, `{{ .Host }}`, `{{ .Port }}` and `{{ .User }}`.
    pub inventory_file_template: GoTemplate,
    /// An inventory of your own; then none is made.
    pub inventory_file: String,
    /// Leaves the inventory that was made.
    pub keep_inventory_file: bool,
    /// A requirements file for `ansible-galaxy`, installed on this computer before the playbook runs.
    pub galaxy_file: String,
    /// The command that installs it; `ansible-galaxy` by default.
    pub galaxy_command: String,
    /// Installs again what is there already.
    pub galaxy_force_install: bool,
    /// The same with all that it depends on.
    pub galaxy_force_with_deps: bool,
    /// The folder that roles are installed into.
    pub roles_path: String,
    /// The folder that collections are installed into.
    pub collections_path: String,
    /// A requirements file of collections alone, installed after `galaxy_file`.
    pub collections_requirements_file: String,
    /// Has Ansible speak WinRM over plain HTTP (with `use_proxy = false`).
    pub ansible_winrm_use_http: bool,
    /// Does not ask the command for its version before the build starts.
    pub skip_version_check: bool,
    /// What the version check found.
    #[serde(skip)]
    old: Old,
}

impl Ansible {
    /// Runs a playbook.
    pub fn playbook(path: impl Into<String>) -> Self {
        Self { playbook_file: path.into(), ..Self::default() }
    }

    /// Says as whom Ansible logs in.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = name.into();
        self
    }

    /// Adds arguments for the command.
    #[must_use]
    pub fn extra_arguments<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.extra_arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Has Ansible connect to the machine by itself.
    #[must_use]
    pub fn without_proxy(mut self) -> Self {
        self.use_proxy = Some(false);
        self
    }

    fn command(&self) -> &str {
        if self.command.is_empty() { "ansible-playbook" } else { &self.command }
    }
}

#[async_trait]
impl Provisioner for Ansible {
    fn prepare(&self, cx: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        let mut wrong = |what: String| found.push(Diagnostic::error(what));
        if self.playbook_file.is_empty() {
            wrong("playbook_file must be specified.".into());
        }
        let files = [
            ("playbook_file", &self.playbook_file),
            ("galaxy_file", &self.galaxy_file),
            ("collections_requirements_file", &self.collections_requirements_file),
            ("ssh_host_key_file", &self.ssh_host_key_file),
            ("ssh_authorized_key_file", &self.ssh_authorized_key_file),
        ];
        for (name, path) in files.into_iter().filter(|(_, path)| !path.is_empty()) {
            check_file(name, path, true).unwrap_or_else(&mut wrong);
        }
        if !self.inventory_directory.is_empty() {
            check_file("inventory_directory", &self.inventory_directory, false).unwrap_or_else(&mut wrong);
        }
        if !(0..=65535).contains(&self.local_port) {
            wrong(format!("local_port: {} must be a valid port", self.local_port));
        }
        if self.key_type().is_none() {
            let given = &self.ansible_proxy_key_type;
            wrong(format!(
                "Invalid value for ansible_proxy_key_type: {given:?}. Supported values are ECDSA or RSA."
            ));
        }
        if !self.skip_version_check {
            match version::ask(cx, self.command()) {
                Ok(numbers) => self.old.set(numbers.first().is_some_and(|major| *major < 2)),
                Err(why) => wrong(why),
            }
        }
        if self.user.is_empty() && user::current(&cx.host).is_none() {
            wrong("user: nobody knows the name of the user who runs this; say one".into());
        }
        // What is empty comes from a condition in the template.
        for variable in self.ansible_env_vars.iter().filter(|text| !text.is_empty() && !text.contains('=')) {
            let what =
                format!("ansible_env_vars: {variable:?} is not in the form NAME=VALUE, and is left out");
            found.push(Diagnostic::warning(what));
        }
        found
    }

    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        cx.say("Provisioning with Ansible...");
        let way = Way::choose(self, cx, machine).await?;
        let inventory = match self.inventory_file.is_empty() {
            true => Some(self.write_inventory(cx, &way.place)?),
            false => None,
        };
        let inventory = match &inventory {
            Some(file) => file.path.to_string_lossy().into_owned(),
            None => self.inventory_file.clone(),
        };
        let run = async {
            self.galaxy(cx).await?;
            self.run_playbook(cx, &way, &inventory).await
        };
        let done = run.await;
        if done.is_err() {
            self.hint(cx, &way);
        }
        way.end().await;
        done.map_err(|e| e.context("Error executing Ansible"))
    }

    fn runs_commands(&self) -> bool {
        true
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

/// How Ansible reaches the machine in one run.
struct Way {
    /// Where it connects to.
    place: Place,
    /// Packer's name of the communicator: `ssh`, `winrm`, `docker`, …
    connection: String,
    /// The file of the private key that Ansible is told to use.
    key_file: Option<PathBuf>,
    /// Whether Ansible connects by itself.
    direct: bool,
    /// What has to live as long as Ansible does.
    _key: Option<TempFile>,
    proxy: Option<Proxy>,
}

impl Way {
    async fn choose(ansible: &Ansible, cx: &Context, machine: &dyn Machine) -> Result<Self> {
        let fact = |name: &str| cx.facts().text(name).filter(|text| !text.is_empty());
        let connection = fact("ConnType").unwrap_or_default();
        let host = fact("Host");
        let mut direct = ansible.use_proxy == Some(false);
        if direct {
            if host.is_none() {
                cx.say(
                    "Warning: use_proxy is false, but instance does not have an IP address to give to Ansible. \
                     Falling back to use localhost proxy.",
                );
                direct = false;
            }
            if !matches!(connection.as_str(), "ssh" | "winrm") {
                cx.say(
                    "Warning: use_proxy is false, but communicator is neither ssh nor winrm, so without the proxy \
                     ansible will not function. Falling back to localhost proxy.",
                );
                direct = false;
            }
        }
        let user = match (ansible.user.is_empty(), connection.as_str()) {
            (false, _) => Some(ansible.user.clone()),
            (true, "ssh" | "winrm") if direct => fact("User").or_else(|| user::current(cx.host())),
            (true, _) => user::current(cx.host()),
        };
        let user =
            user.ok_or_else(|| Error::user("nobody knows the name of the user who runs this; set `user`"))?;
        match host.filter(|_| direct) {
            Some(host) => Self::direct(cx, connection, host, user),
            None => Self::through_proxy(ansible, cx, machine, connection, user).await,
        }
    }

    async fn end(self) {
        if let Some(proxy) = self.proxy {
            proxy.end().await;
        }
    }

    fn direct(cx: &Context, connection: String, host: String, user: String) -> Result<Self> {
        cx.say("Not using Proxy adapter for Ansible run:");
        let fact = |name: &str| cx.facts().text(name).filter(|text| !text.is_empty());
        let port = fact("Port").and_then(|port| port.parse().ok()).unwrap_or(0);
        let winrm = connection == "winrm";
        let (mut key_file, mut key) = (None, None);
        if winrm {
            cx.say("\tUsing WinRM Password from Packer communicator...");
        } else {
            cx.say("\tUsing ssh keys from Packer communicator...");
            if let Some(file) = fact("SSHPrivateKeyFile") {
                key_file = Some(expand_home(cx, &file));
            } else if fact("SSHAgentAuth").as_deref() != Some("true") {
                // A build without a key gets an empty file, as in Packer: with a file Ansible does not try other keys.
                let text = fact("SSHPrivateKey").unwrap_or_default();
                let file = cx.temp_file("ansible-key", "", 0o600, text.as_bytes())?;
                key_file = Some(file.path().to_owned());
                key = Some(file);
            }
        }
        let place = Place { winrm, host, port, user };
        Ok(Self { place, connection, key_file, direct: true, _key: key, proxy: None })
    }

    async fn through_proxy(
        ansible: &Ansible,
        cx: &Context,
        machine: &dyn Machine,
        connection: String,
        user: String,
    ) -> Result<Self> {
        cx.say("Setting up proxy adapter for Ansible....");
        let kind = ansible.key_type().unwrap_or(KeyType::Ecdsa);
        let (host_key, files) = (ansible.ssh_host_key_file.clone(), ansible.ssh_authorized_key_file.clone());
        let keys = cx.blocking(move |_| keys::Keys::make(kind, &host_key, &files)).await?;
        let (mut key_file, mut key) = (None, None);
        if let Some(text) = &keys.private {
            let file = cx.temp_file("ansible-key", "", 0o600, text.reveal().as_bytes())?;
            key_file = Some(file.path().to_owned());
            key = Some(file);
        }
        let port = u16::try_from(ansible.local_port).unwrap_or(0);
        let settings = proxy::Settings {
            first_port: port,
            host_key: keys.host,
            authorized: keys.authorized,
            user: user.clone(),
            sftp_command: (!ansible.sftp_command.is_empty()).then(|| ansible.sftp_command.clone()),
        };
        let proxy = Proxy::start(cx, machine.communicator(), settings).await?;
        let place = Place { winrm: false, host: "127.0.0.1".into(), port: proxy.port(), user };
        Ok(Self { place, connection, key_file, direct: false, _key: key, proxy: Some(proxy) })
    }
}

impl Ansible {
    /// Says what often is the reason where nothing ran: Ansible looks on the machine for the home folder of whom it logs in as.
    fn hint(&self, cx: &Context, way: &Way) {
        let machine = cx.facts().text("User").unwrap_or_default();
        let name = &way.place.user;
        if !way.direct && self.user.is_empty() && !machine.is_empty() && machine != *name {
            cx.say_error(format!(
                "Ansible logged in as {name}, the user who runs this, while the machine is entered as {machine}. Where it \
                 could not make its temporary directory, set user = {machine:?}."
            ));
        }
    }

    fn key_type(&self) -> Option<KeyType> {
        match self.ansible_proxy_key_type.to_ascii_uppercase().as_str() {
            "" | "ECDSA" => Some(KeyType::Ecdsa),
            "RSA" => Some(KeyType::Rsa),
            _ => None,
        }
    }

    fn write_inventory(&self, cx: &Context, place: &Place) -> Result<InventoryFile> {
        let text = inventory::text(self, cx, place)?;
        learn(cx, &text);
        let folder = match self.inventory_directory.is_empty() {
            true => cx.host().temp_dir.as_path(),
            false => Path::new(&self.inventory_directory),
        };
        InventoryFile::write(cx, folder, &text, self.keep_inventory_file)
    }

    /// The variables that both commands get, the last of a name wins.
    fn environment(&self, cx: &Context) -> Result<Vec<(String, String)>> {
        let mut variables = Vec::new();
        for variable in &self.ansible_env_vars {
            let variable = render(cx, variable, &[])?;
            learn(cx, &variable);
            if let Some((name, value)) = variable.split_once('=').filter(|(name, _)| !name.is_empty()) {
                variables.push((name.to_owned(), value.to_owned()));
            }
        }
        let mut more = |name: &str, value: &str| variables.push((name.into(), value.into()));
        if self.ssh_host_key_file.is_empty() {
            more("ANSIBLE_HOST_KEY_CHECKING", "False");
        }
        if !self.use_sftp {
            more("ANSIBLE_SCP_IF_SSH", "True");
        }
        Ok(variables)
    }

    async fn galaxy(&self, cx: &Context) -> Result<()> {
        let (file, more) = (&self.galaxy_file, &self.collections_requirements_file);
        if file.is_empty() && more.is_empty() {
            return Ok(());
        }
        cx.say("Executing Ansible Galaxy");
        if !file.is_empty() {
            let text = tokio::fs::read(file).await.map_err(|e| Error::io("read", file, e))?;
            let text = String::from_utf8_lossy(&text);
            let has = |key: &str| text.lines().any(|line| line.starts_with(key));
            let (roles, collections) = (has("roles:"), has("collections:"));
            if roles || !collections {
                self.install(cx, &["install"], file, &self.roles_path).await?;
            }
            if collections {
                self.install(cx, &["collection", "install"], file, &self.collections_path).await?;
            }
        }
        if !more.is_empty() {
            self.install(cx, &["collection", "install"], more, &self.collections_path).await?;
        }
        Ok(())
    }

    async fn install(&self, cx: &Context, what: &[&str], file: &str, into: &str) -> Result<()> {
        let command = if self.galaxy_command.is_empty() { "ansible-galaxy" } else { &self.galaxy_command };
        let mut program = Program::new(command).args(what.iter().copied()).args(["-r", file]);
        if self.galaxy_force_install {
            program = program.arg("-f");
        }
        if self.galaxy_force_with_deps {
            program = program.arg("--force-with-deps");
        }
        if !into.is_empty() {
            program = program.args(["-p", into]);
        }
        for (name, value) in self.environment(cx)? {
            program = program.env(name, value);
        }
        let run = async { succeeded(program.show(cx).await?, command) };
        run.await.map_err(|e| e.context("Error executing Ansible Galaxy"))
    }

    async fn run_playbook(&self, cx: &Context, way: &Way, inventory: &str) -> Result<()> {
        let environment = self.environment(cx)?;
        let arguments = self.arguments(cx, way, inventory, &environment)?;
        let mut shown = self.command().to_owned();
        for argument in &arguments {
            learn(cx, argument);
            // Writing to a text cannot fail.
            let _ = write!(shown, " {}", masked(argument));
        }
        cx.say(format!("Executing Ansible: {shown}"));
        let mut program = Program::new(self.command()).args(arguments);
        for (name, value) in environment {
            program = program.env(name, value);
        }
        succeeded(program.show(cx).await?, self.command())
    }

    fn arguments(
        &self,
        cx: &Context,
        way: &Way,
        inventory: &str,
        environment: &[(String, String)],
    ) -> Result<Vec<String>> {
        let (ssh, winrm) = (way.connection == "ssh", way.connection == "winrm");
        let mut list = List(Vec::new());
        // Ansible takes the value apart as a shell would, hence the quotes within.
        let name = cx.build().name.replace('\\', "\\\\").replace('"', "\\\"");
        list.variable(format!("packer_build_name=\"{name}\""));
        list.variable(format!("packer_builder_type={}", cx.build().builder_type));
        if let Some(address) =
            cx.facts().text("PackerHTTPAddr").filter(|a| !a.is_empty() && !a.starts_with("ERR_"))
        {
            list.variable(format!("packer_http_addr={address}"));
        }
        let extra = if !self.ansible_ssh_extra_args.is_empty() {
            let rendered: Result<Vec<String>> =
                self.ansible_ssh_extra_args.iter().map(|extra| render(cx, extra, &[])).collect();
            Some(rendered?.iter().map(|extra| format!("'{extra}'")).collect::<Vec<_>>().join(" "))
        } else if ssh && way.key_file.is_some() {
            Some("'-o IdentitiesOnly=yes'".to_owned())
        } else {
            None
        };
        if let Some(extra) = extra {
            list.0.extend(["--ssh-extra-args".to_owned(), extra]);
        }
        for argument in &self.extra_arguments {
            list.0.push(render(cx, argument, &[])?);
        }
        if winrm && way.direct {
            if self.ansible_winrm_use_http && !list.says("ansible_winrm_scheme") {
                list.variable("ansible_winrm_scheme=http".into());
            }
            if !list.says("ansible_password") {
                let password = cx.facts().text("Password").unwrap_or_default();
                cx.secrets().add(&password);
                list.variable(format!("ansible_password={password}"));
            }
        }
        if list.says("ansible_password") {
            let checked = list.says("ansible_host_key_checking")
                || environment.iter().any(|(name, _)| name == "ANSIBLE_HOST_KEY_CHECKING");
            if ssh && !checked {
                list.variable("ansible_host_key_checking=False".into());
            }
        } else if let Some(key) = &way.key_file {
            list.variable(format!("ansible_ssh_private_key_file={}", key.display()));
        }
        list.0.extend(["-i".to_owned(), inventory.to_owned()]);
        list.0.push(absolute(&self.playbook_file)?.to_string_lossy().into_owned());
        Ok(list.0)
    }
}

/// Arguments as they come together.
struct List(Vec<String>);

impl List {
    fn variable(&mut self, text: String) {
        self.0.extend(["-e".to_owned(), text]);
    }

    fn says(&self, word: &str) -> bool {
        self.0.iter().any(|argument| argument.contains(word))
    }
}

/// The error of a command that did not end well.
fn succeeded(status: ExitStatus, command: &str) -> Result<()> {
    match status {
        ExitStatus::Code(0) => Ok(()),
        ExitStatus::Code(code) => Err(Error::guest(format!("Non-zero exit status: exit status {code}"))),
        ExitStatus::Signal(signal) => {
            Err(Error::guest(format!("{command} was ended by signal {signal} before it was done")))
        }
        ExitStatus::Disconnected => Err(Error::guest(format!("nobody knows how {command} ended"))),
    }
}

/// Checks that a path names a file or a folder.
fn check_file(name: &str, path: &str, file: bool) -> Result<(), String> {
    match std::fs::metadata(path) {
        Err(e) => Err(format!("{name}: {path} is invalid: stat {path}: {}", os_text(&e))),
        Ok(found) if file && found.is_dir() => Err(format!("{name}: {path} must point to a file")),
        Ok(found) if !file && !found.is_dir() => Err(format!("{name}: {path} must point to a directory")),
        Ok(_) => Ok(()),
    }
}

fn expand_home(cx: &Context, path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), cx.env("HOME")) {
        (Some(rest), Some(home)) => Path::new(home).join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_is_found_at_once() {
        let ansible = Ansible {
            playbook_file: "/".into(),
            galaxy_file: "/no/such.yml".into(),
            local_port: 70_000,
            ansible_proxy_key_type: "ED25519".into(),
            ansible_env_vars: vec![String::new(), "A=".into(), "B".into()],
            skip_version_check: true,
            ..Ansible::default()
        };
        let found: Vec<_> =
            ansible.prepare(&PrepareContext::default()).iter().map(|d| d.summary.clone()).collect();
        assert_eq!(
            found,
            [
                "playbook_file: / must point to a file",
                "galaxy_file: /no/such.yml is invalid: stat /no/such.yml: no such file or directory",
                "local_port: 70000 must be a valid port",
                "Invalid value for ansible_proxy_key_type: \"ED25519\". Supported values are ECDSA or RSA.",
                "ansible_env_vars: \"B\" is not in the form NAME=VALUE, and is left out",
            ]
        );
    }
}
