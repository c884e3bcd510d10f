//! Local programs: output shown line by line, and nothing left running when the work is cancelled.

use std::process::Stdio;
use std::sync::{PoisonError, RwLock};

use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::communicator::{ExitStatus, LineWriter};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::Level;

/// Held by many while they start programs, and by one alone while it writes a file that is to be executed: a program
/// started at that moment would inherit the open file, and a file that somebody has open for writing cannot be
/// executed ("text file busy"). It guards no state; starting programs is a matter of the whole process.
static STARTING: RwLock<()> = RwLock::new(());

/// Starts a program. Components start theirs with this, so that scripts written by others at the same moment can
/// be executed.
///
/// # Errors
/// Where it cannot be started.
pub fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _guard = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// Writes a file that is to be executed, while no program is being started.
pub(crate) fn write_executable<T>(write: impl FnOnce() -> T) -> T {
    let _guard = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    write()
}

/// Runs a program with empty input and shows what it prints; returns when it has ended and its output is closed.
///
/// It inherits this process's environment, over that what the host lends ([`Context::envs`]) and `PACKER_RUN_UUID`.
/// Dropping the future (cancellation, timeout) kills the program with everything it started: its process group
/// on Unix, its process tree on Windows.
///
/// # Errors
/// Where the program cannot be started.
pub async fn run(cx: &Context, program: &str, arguments: &[String]) -> Result<ExitStatus> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(cx.envs())
        .env("PACKER_RUN_UUID", cx.run_id())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    let mut child = spawn(&mut command).map_err(|e| Error::io("exec", program, e))?;
    let mut family = Family::of(&child);
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let (stdout, stderr, status) =
        tokio::join!(show(cx, stdout, Level::Info), show(cx, stderr, Level::Error), child.wait());
    family.let_go();
    stdout.and(stderr).map_err(|e| Error::io("read", program, e))?;
    Ok(exit_status(status.map_err(|e| Error::io("wait", program, e))?))
}

async fn show(cx: &Context, stream: Option<impl AsyncRead + Unpin>, level: Level) -> std::io::Result<()> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut lines = LineWriter::new(cx.clone(), level);
    let copied = tokio::io::copy(&mut stream, &mut lines).await;
    lines.shutdown().await?;
    copied.map(drop)
}

fn exit_status(status: std::process::ExitStatus) -> ExitStatus {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return ExitStatus::Signal(signal);
    }
    ExitStatus::Code(status.code().unwrap_or(-1))
}

/// A program and what it started; killed when dropped, unless let go.
struct Family {
    leader: Option<u32>,
}

impl Family {
    fn of(child: &Child) -> Self {
        Self { leader: child.id() }
    }

    fn let_go(&mut self) {
        self.leader = None;
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let Some(leader) = self.leader else { return };
        // Nothing can be done about a failure here: whoever is left has ended already, or is not ours.
        #[cfg(unix)]
        if let Some(group) = i32::try_from(leader).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        #[cfg(windows)]
        let _ = std::process::Command::new("taskkill")
            .args(["/F", "/T", "/PID", &leader.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        #[cfg(not(any(unix, windows)))]
        let _ = leader;
    }
}

#[cfg(all(test, unix))]
mod tests {
    use crate::kit::shell::LocalShell;
    use crate::testing::Bench;

    #[tokio::test(flavor = "multi_thread", worker_threads = 8)]
    async fn scripts_are_written_and_started_at_the_same_time() {
        let bench = Bench::new();
        let mut scripts = tokio::task::JoinSet::new();
        for _ in 0..300 {
            let cx = bench.context().clone();
            scripts.spawn(async move { LocalShell::inline(["exit 0"]).run(&cx).await });
        }
        for result in scripts.join_all().await {
            result.unwrap();
        }
    }
}
