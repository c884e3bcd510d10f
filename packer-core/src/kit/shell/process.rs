//! Local programs that scripts are run with; see [`kit::process`](crate::kit::process) for what keeps them in hand.

use std::sync::{PoisonError, RwLock};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::communicator::ExitStatus;
use crate::context::Context;
use crate::error::Result;
use crate::kit::process::Program;

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

/// What a program prints and how it ended, as [`Child::wait_with_output`] gives it; it is killed where it prints more than
/// `most` bytes on one of its streams.
///
/// # Errors
/// [`FileTooLarge`](std::io::ErrorKind::FileTooLarge) where it prints more; where it cannot be read or waited for.
pub async fn output(mut child: Child, most: usize) -> std::io::Result<std::process::Output> {
    drop(child.stdin.take());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = async { tokio::try_join!(bounded(stdout, most), bounded(stderr, most)) };
    match read.await {
        Ok((stdout, stderr)) => Ok(std::process::Output { status: child.wait().await?, stdout, stderr }),
        Err(error) => {
            // Whether it has ended by itself meanwhile does not matter.
            let _ = child.kill().await;
            Err(error)
        }
    }
}

async fn bounded(stream: Option<impl AsyncRead + Unpin>, most: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(stream) = stream else { return Ok(bytes) };
    stream.take(most as u64 + 1).read_to_end(&mut bytes).await?;
    if bytes.len() > most {
        let message = format!("it prints more than {} KiB", most >> 10);
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Writes a file that is to be executed, while no program is being started.
pub(crate) fn write_executable<T>(write: impl FnOnce() -> T) -> T {
    let _guard = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    write()
}

/// Runs a program with empty input and shows what it prints: [`Program::show`].
///
/// # Errors
/// Where the program cannot be started.
pub async fn run(cx: &Context, program: &str, arguments: &[String]) -> Result<ExitStatus> {
    Program::new(program).args(arguments).show(cx).await
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
        assert!(bench.outstanding().is_empty());
    }
}
