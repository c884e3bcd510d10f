//! The provisioner `windows-restart`: starts a Windows machine anew and waits until it is back.

use std::time::{Duration, Instant};

use packer_core::communicator::LineWriter;
use packer_core::duration::GoDuration;
use packer_core::kit::powershell;
use packer_core::{
    Communicator, CommunicatorExt, Context, Error, ExitStatus, Machine, PrepareContext, Provisioner, Result,
    Value, async_trait, config,
};
use packer_core::{Diagnostics, event::Level};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use crate::tries::{LIMIT, Tries};

const RESTART: &str = "shutdown /r /f /t 0 /c \"packer restart\"";
/// Asks for another restart, a minute later: a machine that is going down says no.
const PROBE: &str = "shutdown /r /f /t 60 /c \"packer restart test\"";
const TAKE_BACK: &str = "shutdown /a";

/// What `shutdown` says where the machine is going down already.
const IN_PROGRESS: i32 = 1115;
const SCHEDULED: i32 = 1190;
/// What it says where the machine's interfaces are gone already.
const NO_INTERFACE: i32 = 1717;

/// Between two probes of a machine that is going down.
const PROBE_PAUSE: Duration = Duration::from_secs(10);
/// Between two questions whether the machine is back.
const CHECK_PAUSE: Duration = Duration::from_secs(5);
/// How long one question may take: a machine in the middle of a restart may take a connection and say nothing.
const QUESTION_LIMIT: Duration = Duration::from_secs(60);

/// Where Windows notes that it wants to be restarted.
const KEYS: [&str; 3] = [
    r"HKLM:SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending",
    r"HKLM:SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\PackagesPending",
    r"HKLM:Software\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootInProgress",
];

/// Starts a Windows machine anew and waits until it answers again.
///
/// ```
/// use packer_provisioners::WindowsRestart;
/// let plain = WindowsRestart::new();
/// let after_updates = WindowsRestart::new().timeout("30m".parse()?).check_registry();
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct WindowsRestart {
    /// The command that restarts the machine. Default `shutdown /r /f /t 0 /c "packer restart"`.
    pub restart_command: String,
    /// A command that the machine has to take before it counts as back, whatever its exit code. Default none; that
    /// PowerShell answers is asked for in any case.
    pub restart_check_command: String,
    /// How long the restart may take. Default 5 minutes.
    pub restart_timeout: GoDuration,
    /// Whether to wait until none of the keys in `registry_keys` is there.
    pub check_registry: bool,
    /// Keys of the registry which are there while a restart is pending. Default the three of Component Based Servicing
    /// (`RebootPending`, `PackagesPending`, `RebootInProgress`).
    pub registry_keys: Vec<String>,
}

impl WindowsRestart {
    /// As Packer does it where nothing else is said.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the restart may take.
    #[must_use]
    pub fn timeout(mut self, timeout: GoDuration) -> Self {
        self.restart_timeout = timeout;
        self
    }

    /// Waits until Windows does not want to be restarted any more.
    #[must_use]
    pub fn check_registry(mut self) -> Self {
        self.check_registry = true;
        self
    }

    fn keys(&self) -> Vec<&str> {
        match self.registry_keys.is_empty() {
            true => KEYS.to_vec(),
            false => self.registry_keys.iter().map(String::as_str).collect(),
        }
    }
}

#[async_trait]
impl Provisioner for WindowsRestart {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        Diagnostics::new()
    }

    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        let communicator = machine.communicator();
        let restart = Restart { options: self, cx, communicator: &*communicator, last: None.into() };
        cx.say("Restarting Machine");
        let begun = restart.begin().await?;
        cx.say("Waiting for machine to restart...");
        let limit = if self.restart_timeout.is_zero() { LIMIT } else { self.restart_timeout.to_std() };
        let left =
            (begun.checked_add(limit)).map_or(LIMIT, |end| end.saturating_duration_since(Instant::now()));
        // With nothing left, nothing is begun.
        let waited = match left.is_zero() {
            true => None,
            false => tokio::time::timeout(left, cx.until_cancelled(restart.wait())).await.ok(),
        };
        match waited {
            Some(done) => done?,
            None => {
                let last = restart.last.lock().map(|mut last| last.take()).ok().flatten();
                let last = last.map_or_else(String::new, |last| format!(" Last: {last}."));
                // Scripts look for the beginning.
                let message = format!(
                    "Timeout waiting for machine to restart.{last} A restart that takes longer needs a larger restart_timeout."
                );
                cx.say_error(&message);
                return Err(Error::guest(message));
            }
        }
        cx.say("Machine successfully restarted, moving on");
        Ok(())
    }

    fn runs_commands(&self) -> bool {
        true
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

/// One restart of one machine.
struct Restart<'a> {
    options: &'a WindowsRestart,
    cx: &'a Context,
    communicator: &'a dyn Communicator,
    /// Why the machine does not count as back yet.
    last: std::sync::Mutex<Option<String>>,
}

impl Restart<'_> {
    /// Restarts the machine; since when it has been restarting.
    async fn begin(&self) -> Result<Instant> {
        let command = match self.options.restart_command.as_str() {
            "" => RESTART,
            own => own,
        };
        let tries = Tries::within(self.options.restart_timeout);
        loop {
            let begun = Instant::now();
            match self.communicator.run(self.cx, command).await {
                // The machine may be gone before it can say so.
                Ok(ExitStatus::Disconnected) => return Ok(begun),
                Ok(ExitStatus::Code(0 | IN_PROGRESS | SCHEDULED)) => return Ok(Instant::now()),
                Ok(status) => {
                    let code = status.code();
                    return Err(Error::guest(format!(
                        "Restart script exited with non-zero exit status: {code}"
                    )));
                }
                Err(error) => tries.again(self.cx, error).await?,
            }
        }
    }

    /// Waits until the machine is gone, and then until it is back.
    async fn wait(&self) -> Result<()> {
        self.until_gone().await?;
        let mut taken = self.options.restart_check_command.is_empty();
        loop {
            self.cx.sleep(CHECK_PAUSE).await?;
            if !taken {
                taken = self.ask(&self.options.restart_check_command).await?.is_some();
            }
            if taken && self.is_back().await? && !self.is_pending().await? {
                return Ok(());
            }
        }
    }

    async fn until_gone(&self) -> Result<()> {
        loop {
            let probe = self.communicator.run(self.cx, PROBE);
            let status = match tokio::time::timeout(QUESTION_LIMIT, probe).await {
                Ok(Err(error)) if error.is_cancelled() => return Err(error),
                Ok(Ok(status)) => status,
                // Nobody is there to say anything.
                Ok(Err(_)) | Err(_) => return Ok(()),
            };
            match status {
                ExitStatus::Code(0) => {
                    // It is back already, and would go down once more.
                    self.communicator.run(self.cx, TAKE_BACK).await?;
                    return Ok(());
                }
                ExitStatus::Code(1) | ExitStatus::Signal(_) | ExitStatus::Disconnected => return Ok(()),
                ExitStatus::Code(code) => {
                    let why = match code {
                        IN_PROGRESS | SCHEDULED | NO_INTERFACE => "the machine is going down".to_owned(),
                        code => format!("the question whether it goes down ends with {code}"),
                    };
                    self.note(why);
                    self.cx.sleep(PROBE_PAUSE).await?;
                }
            }
        }
    }

    async fn is_back(&self) -> Result<bool> {
        let question = powershell::encoded(
            "$ProgressPreference = 'SilentlyContinue';echo \"$env:COMPUTERNAME restarted.\"",
        );
        let said = self.ask(&question).await?;
        let back = said.as_ref().is_some_and(|text| text.contains("restarted."));
        if let Some(text) = said.filter(|_| !back) {
            self.note(format!("PowerShell does not answer rightly yet: {:?}", text.trim()));
        }
        Ok(back)
    }

    async fn is_pending(&self) -> Result<bool> {
        let mut pending = false;
        if self.options.check_registry {
            for key in self.options.keys() {
                let question = powershell::encoded(&format!(
                    "$ProgressPreference = 'SilentlyContinue';Test-Path \"{key}\""
                ));
                // A machine that is gone again is not back.
                let Some(said) = self.ask(&question).await? else { return Ok(true) };
                if said.contains("True") {
                    self.note(format!("the registry has {key}"));
                    pending = true;
                }
            }
        }
        Ok(pending)
    }

    /// Runs a command and shows what it prints; that, or nothing where it could not be run to its end.
    async fn ask(&self, command: &str) -> Result<Option<String>> {
        let question = self.communicator.output(self.cx, command);
        let done = tokio::time::timeout(QUESTION_LIMIT, question).await;
        if let Ok(Ok(said)) = &done {
            self.show(Level::Info, &said.stdout).await;
            self.show(Level::Error, &said.stderr).await;
        }
        match done {
            Ok(Err(error)) if error.is_cancelled() => Err(error),
            Ok(Ok(said)) if said.status == ExitStatus::Disconnected => {
                self.note("the connection broke while it was asked".to_owned());
                Ok(None)
            }
            Ok(Ok(said)) => Ok(Some(said.text())),
            Ok(Err(error)) => {
                self.note(error.to_string());
                Ok(None)
            }
            Err(_) => {
                self.note(format!("it said nothing for {QUESTION_LIMIT:?}"));
                Ok(None)
            }
        }
    }

    async fn show(&self, level: Level, text: &[u8]) {
        let mut lines = LineWriter::new(self.cx.clone(), level);
        // Showing cannot fail.
        let _ = lines.write_all(text).await;
        let _ = lines.shutdown().await;
    }

    fn note(&self, why: String) {
        if let Ok(mut last) = self.last.lock() {
            *last = Some(why);
        }
    }
}
