//! Local programs: their output shown or captured, and nothing left running when the work ends early, is cancelled, or the
//! whole process is killed.
//!
//! A program leads a process group of its own and is a [`Resource`](crate::Resource) in the ledger before it exists. It and all that it
//! starts carry a mark of the resource in their environment ([`MARK`]); by that, and by the group as long as its leader
//! lives (told by its number and the time of its start), the engine finds them again: at the end of the build, and from
//! the ledger in a later process. That takes Linux's `/proc`; on other systems the group (on Windows: the tree) is killed
//! when the work ends early, and nothing is written down.
//!
//! Before a build there is no ledger: what is asked then ([`Program::ask`]) has ended, with all it started, when the answer is
//! here.
//!
//! A builder whose machine is a program beside it starts it with [`Program::start`] or [`Program::start_shown`]:
//!
//! ```no_run
//! # use packer_core::{Context, Result, kit::process::{Process, Program}};
//! # async fn connect() -> Result<()> { Ok(()) }
//! # async fn launch(cx: &Context) -> Result<Process> {
//! let version = Program::new("qemu-img").arg("--version").capture(cx, 64 * 1024).await?.success()?;
//! cx.say(version.stdout_text());
//! let machine = Program::new("qemu-system-x86_64").args(["-display", "none", "-drive", "file=disk.img"]);
//! let mut machine = machine.start_shown(cx)?;
//! machine.while_running(connect()).await?; // an error at once where it does not run any more
//! Ok(machine)
//! # }
//! ```

mod family;
mod program;
#[cfg(test)]
mod tests;

pub(crate) use family::end;
pub use program::{Captured, Process, Program};
#[cfg(feature = "testing")]
pub(crate) use program::{feed, pump};

/// The variable by which a program that this library started, and whatever that started, is known. Its value names a resource.
pub const MARK: &str = "PACKER_PROCESS_MARK";
