//! What the provisioners for Windows have in common: uploads and runs that are tried again while a machine reboots, and the
//! removal of what they put into the machine.

use std::sync::Arc;
use std::time::Duration;

use packer_core::kit::{powershell, shell};
use packer_core::{
    Command, Communicator, CommunicatorExt, Context, Error, ExitStatus, Fault, Machine, Resource, Result,
    Source, StatusLost, Value,
};

/// How long the removal of files may take that nobody waits for.
const REMOVAL_LIMIT: Duration = Duration::from_secs(20);

/// The exit code by which templates know a connection by WinRM that broke.
const WINRM_DISCONNECT: i32 = 16001;

/// The beginning of the paths of scripts that run a command as another user.
pub(crate) const ELEVATED: &str = "C:/Windows/Temp/packer-elevated-shell-";

/// A machine, and what is to be gone from it in the end.
pub(crate) struct Guest<'a> {
    pub(crate) cx: &'a Context,
    pub(crate) communicator: Arc<dyn Communicator>,
    remains: Vec<Resource>,
}

impl<'a> Guest<'a> {
    pub(crate) fn new(cx: &'a Context, machine: &dyn Machine) -> Self {
        Self { cx, communicator: machine.communicator(), remains: Vec::new() }
    }

    /// Writes into the ledger that the machine is about to get a file.
    pub(crate) fn write_down(&mut self, path: &str) -> Result<()> {
        if self.remains.iter().any(|resource| resource.name == path) {
            return Ok(());
        }
        let host = self.cx.facts().get("Host").and_then(Value::as_str).unwrap_or_default();
        let host = self.cx.secrets().scrub(host);
        let resource = Resource::remote_file(path).with_details(host.as_ref());
        self.cx.record(resource.clone())?;
        self.remains.push(resource);
        Ok(())
    }

    /// Strikes out of the ledger what the machine does not have any more: all but the scripts that run a command as another
    /// user, with `those_too` also these.
    pub(crate) fn gone(&mut self, those_too: bool) -> Result<()> {
        let cx = self.cx;
        let gone = self.remains.extract_if(.., |resource| those_too || !resource.name.starts_with(ELEVATED));
        gone.collect::<Vec<_>>().iter().try_for_each(|resource| cx.released(resource))
    }

    /// Removes what is written down. What cannot be removed stays in the ledger: a step that went well does not fail
    /// for that, and the machine may be rebooting.
    pub(crate) async fn remove(&mut self) -> Result<()> {
        if self.remains.is_empty() {
            return Ok(());
        }
        let paths: Vec<&str> = self.remains.iter().map(|resource| resource.name.as_str()).collect();
        let work = remove(self.cx, &*self.communicator, &paths);
        match tokio::time::timeout(REMOVAL_LIMIT, work).await {
            Ok(Ok(())) => self.gone(true),
            Ok(Err(error)) if error.is_cancelled() => Err(error),
            _ => Ok(()),
        }
    }

    /// Uploads a file.
    pub(crate) async fn upload(&self, source: Source<'_>, to: &str) -> Result<()> {
        self.communicator.upload(self.cx, source, to).await
    }

    /// Runs a command and shows what it prints; its exit code. A connection that breaks meanwhile is an exit code too where
    /// `valid` has it, and always by SSH, as templates know it; by WinRM it is an error, after which everything is tried
    /// again.
    pub(crate) async fn run(&self, command: &str, valid: &[i64]) -> Result<i32> {
        let status = match self.communicator.run(self.cx, command).await {
            Err(e) if StatusLost::is_source_of(&e) => ExitStatus::Disconnected,
            status => status?,
        };
        if status != ExitStatus::Disconnected
            || self.cx.facts().get("ConnType").and_then(Value::as_str) != Some("winrm")
        {
            return Ok(status.code());
        }
        let allowed =
            [WINRM_DISCONNECT, ExitStatus::DISCONNECT_CODE].into_iter().find(|code| is_valid(*code, valid));
        allowed.ok_or_else(|| {
            Error::network(format!(
                "the connection broke while the command ran, and nobody knows how it ended. To restart the machine use the \
                 provisioner windows-restart; valid_exit_codes = [0, {WINRM_DISCONNECT}] takes it as it is"
            ))
        })
    }
}

/// Whether a code is among those allowed. Windows counts in 32 bits: templates write the upper half of them with a sign or, as
/// machines say them, without.
fn is_valid(code: i32, valid: &[i64]) -> bool {
    valid.iter().any(|valid| *valid == i64::from(code) || *valid == i64::from(code.cast_unsigned()))
}

/// Refuses an exit code that is not among `valid` (empty: only 0).
pub(crate) fn check_exit_code(code: i32, valid: &[i64]) -> Result<()> {
    match is_valid(code, valid) {
        true => Ok(()),
        false => shell::check_exit_code(i64::from(code.cast_unsigned()), valid, Fault::Guest),
    }
}

/// How many files one command removes: the script is to fit into a command line of Windows.
const MOST_REMOVED: usize = 4;

/// Removes files of a machine, and what belongs to them.
pub(crate) async fn remove(cx: &Context, from: &dyn Communicator, paths: &[&str]) -> Result<()> {
    for paths in paths.chunks(MOST_REMOVED) {
        match from.exec(cx, Command::new(powershell::encoded(&removal(paths)))).await? {
            status if status.success() => {}
            status => {
                let (paths, code) = (paths.join(", "), status.code());
                return Err(Error::guest(format!("{paths} cannot be removed: exit code {code}")));
            }
        }
    }
    Ok(())
}

fn removal(paths: &[&str]) -> String {
    let mut script = "$ProgressPreference = 'SilentlyContinue'; $ErrorActionPreference = 'Stop'\n".to_owned();
    for path in paths {
        // A task that was cut off is still there, with what it prints to.
        if let Some(id) = path.strip_prefix(ELEVATED).and_then(|rest| rest.strip_suffix(".ps1")) {
            script.push_str(&format!(
                "cmd /c \"(schtasks /End /TN packer-{id} & schtasks /Delete /F /TN packer-{id} & \
                 del %SystemRoot%\\Temp\\packer-{id}.out) >nul 2>&1\"\n"
            ));
        }
        let word = path.replace('"', "`\"");
        script.push_str(&format!(
            "$tmp_file_path = [System.IO.Path]::GetFullPath(\"{word}\")\n\
             if (Test-Path $tmp_file_path) {{ Remove-Item $tmp_file_path }}\n"
        ));
    }
    // The last program's code is not that of the script.
    script.push_str("exit 0\n");
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_a_sign_or_none() {
        for (code, valid) in [
            (0, &[][..]),
            (3010, &[0, 3010]),
            (-1, &[-1]),
            (-1, &[0xFFFF_FFFF]),
            (-0x7FF0_F6F4, &[0x800F_090C]),
        ] {
            assert!(check_exit_code(code, valid).is_ok(), "{code} {valid:?}");
        }
        let error = check_exit_code(-1, &[0, 0xFFFF_FFFE]).unwrap_err();
        assert_eq!(
            error.message(),
            "Script exited with non-zero exit status: 4294967295. Allowed exit codes are: [0 4294967294]"
        );
        assert!(check_exit_code(0, &[1]).is_err());
    }

    #[test]
    fn a_task_goes_with_its_script() {
        let script = removal(&[&format!("{ELEVATED}0-1.ps1"), "C:/My \"Files\"/a.ps1"]);
        assert!(script.contains("schtasks /Delete /F /TN packer-0-1 & del"), "{script}");
        assert!(script.contains("GetFullPath(\"C:/My `\"Files`\"/a.ps1\")"), "{script}");
        assert!(!removal(&["C:/a.ps1"]).contains("schtasks"));
        let path = format!("{ELEVATED}{}.ps1", "0".repeat(36));
        let longest = powershell::encoded(&removal(&[path.as_str(); MOST_REMOVED]));
        assert!(longest.len() < 8191, "{} characters", longest.len());
    }
}
