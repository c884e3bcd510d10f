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

/// How long services are waited for that are starting.
const QUIET_LIMIT: Duration = Duration::from_secs(60);

/// Begins the line in which a machine says for how many milliseconds it has been up, and how many services are starting.
const REPORT: &str = "packer-up ";

/// Asks whether PowerShell answers. How long the machine has been up it knows by itself, also while WMI is still starting,
/// and whatever its clock says; the number begins anew after 24 days.
const QUESTION: &str = "$ProgressPreference = 'SilentlyContinue';echo \"$env:COMPUTERNAME restarted.\"\n\
    $starting = @(Get-Service -ErrorAction SilentlyContinue | Where-Object { $_.Status -eq 'StartPending' }).Count\n\
    echo \"packer-up $([Environment]::TickCount -band [int]::MaxValue) $starting\"";

/// Where Windows notes that it wants to be restarted.
const KEYS: [&str; 3] = [
    r"HKLM:SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending",
    r"HKLM:SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\PackagesPending",
    r"HKLM:Software\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootInProgress",
];

/// Starts a Windows machine anew and waits until it is back: until it was booted after the restart was asked for, its
/// PowerShell answers, and none of its services is starting any more.
///
/// The last is waited for no longer than a minute: there are services that never get beyond it. A `restart_command` of one's
/// own may leave the machine as it is, where no restart is due, say: then a machine that goes down by no other sign
/// than that command counts as back when it answers.
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
        let (begun, going) = restart.begin().await?;
        cx.say("Waiting for machine to restart...");
        let limit = if self.restart_timeout.is_zero() { LIMIT } else { self.restart_timeout.to_std() };
        let left =
            (begun.checked_add(limit)).map_or(LIMIT, |end| end.saturating_duration_since(Instant::now()));
        // With nothing left, nothing is begun.
        let waited = match left.is_zero() {
            true => None,
            false => tokio::time::timeout(left, cx.until_cancelled(restart.wait(going))).await.ok(),
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
    /// Restarts the machine; since when it has been restarting, and what is known of that.
    async fn begin(&self) -> Result<(Instant, Going)> {
        let (command, own) = match self.options.restart_command.as_str() {
            "" => (RESTART, false),
            own => (own, true),
        };
        let tries = Tries::within(self.options.restart_timeout);
        loop {
            let asked = Instant::now();
            let going = |certain| Going { asked, certain };
            match self.communicator.run(self.cx, command).await {
                // The machine may be gone before it can say so.
                Ok(ExitStatus::Disconnected) => return Ok((asked, going(!own))),
                Ok(ExitStatus::Code(0)) => return Ok((Instant::now(), going(!own))),
                Ok(ExitStatus::Code(IN_PROGRESS | SCHEDULED)) => return Ok((Instant::now(), going(true))),
                Ok(status) => {
                    // As Windows counts, without a sign.
                    let code = status.code().cast_unsigned();
                    return Err(Error::guest(format!(
                        "Restart script exited with non-zero exit status: {code}"
                    )));
                }
                Err(error) => tries.again(self.cx, error).await?,
            }
        }
    }

    /// Waits until the machine is gone, and then until it is back.
    async fn wait(&self, mut going: Going) -> Result<()> {
        self.until_gone(&mut going).await?;
        let mut taken = self.options.restart_check_command.is_empty();
        let mut answers_since = None;
        loop {
            self.cx.sleep(CHECK_PAUSE).await?;
            if !taken {
                taken = self.ask(&self.options.restart_check_command).await?.is_some();
            }
            if taken && self.is_back(&going, &mut answers_since).await? && !self.is_pending().await? {
                return Ok(());
            }
        }
    }

    async fn until_gone(&self, going: &mut Going) -> Result<()> {
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
                    let goes_down = matches!(code, IN_PROGRESS | SCHEDULED | NO_INTERFACE);
                    going.certain |= goes_down;
                    self.note(match goes_down {
                        true => "the machine is going down".to_owned(),
                        false => format!("the question whether it goes down ends with {code}"),
                    });
                    self.cx.sleep(PROBE_PAUSE).await?;
                }
            }
        }
    }

    /// Asks whether the machine is up, since it was restarted. One that does not say since when (it only stands in for
    /// Windows) is believed.
    async fn is_back(&self, going: &Going, answers_since: &mut Option<Instant>) -> Result<bool> {
        let Some(said) = self.output(&powershell::encoded(QUESTION)).await? else { return Ok(false) };
        let (report, rest): (Vec<&str>, Vec<&str>) =
            said.stdout.lines().partition(|line| line.starts_with(REPORT));
        let answers = said.stdout.contains("restarted.");
        let report = report.first().and_then(|line| Report::read(line)).filter(|_| answers);
        if let Some(up) = report.as_ref().map(|report| report.up)
            && going.certain
            && up >= going.asked.elapsed()
        {
            self.note(format!("it has not gone down yet: it has been up for {} s", up.as_secs()));
            return Ok(false);
        }
        let since = *answers_since.get_or_insert_with(Instant::now);
        if let Some(starting) = report.map(|report| report.starting).filter(|starting| *starting > 0)
            && since.elapsed() < QUIET_LIMIT
        {
            self.note(format!("services that are still starting: {starting}"));
            return Ok(false);
        }
        self.show(Level::Info, &rest.join("\n")).await;
        self.show(Level::Error, &said.stderr).await;
        if !answers {
            self.note(format!("PowerShell does not answer rightly yet: {:?}", said.stdout.trim()));
        }
        Ok(answers)
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

    /// Runs a command and shows what it prints; its output, or nothing where it could not be run to its end.
    async fn ask(&self, command: &str) -> Result<Option<String>> {
        let Some(said) = self.output(command).await? else { return Ok(None) };
        self.show(Level::Info, &said.stdout).await;
        self.show(Level::Error, &said.stderr).await;
        Ok(Some(said.stdout))
    }

    /// Runs a command; what it prints, or nothing where it could not be run to its end.
    async fn output(&self, command: &str) -> Result<Option<Said>> {
        let question = self.communicator.output(self.cx, command);
        match tokio::time::timeout(QUESTION_LIMIT, question).await {
            Ok(Err(error)) if error.is_cancelled() => return Err(error),
            Ok(Ok(said)) if said.status == ExitStatus::Disconnected => {
                self.note("the connection broke while it was asked".to_owned());
            }
            Ok(Ok(said)) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                return Ok(Some(Said { stdout: text(&said.stdout), stderr: text(&said.stderr) }));
            }
            Ok(Err(error)) => self.note(error.to_string()),
            Err(_) => self.note(format!("it said nothing for {QUESTION_LIMIT:?}")),
        }
        Ok(None)
    }

    async fn show(&self, level: Level, text: &str) {
        let mut lines = LineWriter::new(self.cx.clone(), level);
        // Showing cannot fail.
        let _ = lines.write_all(text.as_bytes()).await;
        let _ = lines.shutdown().await;
    }

    fn note(&self, why: String) {
        if let Ok(mut last) = self.last.lock() {
            *last = Some(why);
        }
    }
}

/// A restart that was asked for.
struct Going {
    asked: Instant,
    /// Whether the machine will be booted for certain, or has been.
    certain: bool,
}

/// What a command printed.
struct Said {
    stdout: String,
    stderr: String,
}

/// What a machine says of itself.
#[derive(Debug, PartialEq)]
struct Report {
    /// For how long it has been up.
    up: Duration,
    /// How many services are starting.
    starting: u32,
}

impl Report {
    fn read(line: &str) -> Option<Self> {
        let (up, starting) = line.strip_prefix(REPORT)?.trim().split_once(' ')?;
        Some(Self { up: Duration::from_millis(up.parse().ok()?), starting: starting.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let read = Report::read("packer-up 61000 2\r");
        assert_eq!(read, Some(Report { up: Duration::from_secs(61), starting: 2 }));
        for line in ["packer-up", "packer-up x 0", "packer-up 5", "WIN restarted."] {
            assert_eq!(Report::read(line), None, "{line}");
        }
        assert!(QUESTION.contains(&format!("echo \"{REPORT}$(")));
        assert!(powershell::encoded(QUESTION).len() < 8191);
    }
}
