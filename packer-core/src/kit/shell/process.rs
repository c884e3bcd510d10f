//! Local programs that scripts are run with; see [`kit::process`](crate::kit::process) for what keeps them in hand.

use std::sync::{PoisonError, RwLock};

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
