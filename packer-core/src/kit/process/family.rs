//! A program and all that it started: written down before it exists, found again, and ended.

use std::ffi::OsStr;

use tokio::process::{Child, Command};

use crate::context::Context;
use crate::error::Result;
use crate::ledger::Resource;

#[cfg(target_os = "linux")]
pub(crate) use linux::end;

/// A program and what it started; killed when dropped, unless let go.
#[derive(Debug)]
pub(super) struct Family {
    leader: Option<u32>,
    /// By what it is found again, as far as that is possible.
    known: Option<Resource>,
    /// Where that is written down.
    owner: Option<Context>,
}

impl Family {
    /// Gives a program that will be started its mark, and writes it down where there is a ledger.
    #[cfg(target_os = "linux")]
    pub(super) fn announce(cx: Option<&Context>, program: &OsStr, command: &mut Command) -> Result<Self> {
        let mut resource = Resource::new(crate::ledger::PROCESS, "");
        let mark = resource.id.to_string();
        resource.name = super::program::title(program, &mark);
        command.env(super::MARK, &mark);
        if let Some(cx) = cx {
            cx.record(resource.clone())?;
        }
        Ok(Self { leader: None, known: Some(resource), owner: cx.cloned() })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn announce(_: Option<&Context>, _: &OsStr, _: &mut Command) -> Result<Self> {
        Ok(Self { leader: None, known: None, owner: None })
    }

    /// The program runs. Its number and the time of its start are written down too: by them its group is found whose members
    /// hide their environment.
    pub(super) fn born(mut self, child: &Child) -> Result<Self> {
        self.leader = child.id();
        #[cfg(target_os = "linux")]
        if let (Some(cx), Some(resource), Some(leader)) = (&self.owner, &self.known, self.leader)
            && let Some(details) = linux::identify(leader)
        {
            cx.record(resource.clone().with_details(details))?;
        }
        Ok(self)
    }

    /// The program could not be started.
    pub(super) fn stillborn(mut self) {
        self.let_go();
    }

    /// It has ended, and what it started may go on.
    pub(super) fn let_go(&mut self) {
        self.leader = None;
        if let (Some(cx), Some(resource)) = (self.owner.take(), self.known.take()) {
            // Where the ledger cannot be told, recovery finds nothing under the mark.
            drop(cx.released(&resource));
        }
    }

    /// The leader has ended and its number may be another's soon: the group cannot be named by it any more.
    pub(super) fn reaped(&mut self) {
        self.leader = None;
    }

    /// Ends what is left of it by its mark, and strikes it out. Blocks.
    pub(super) fn end(&mut self) -> Result<()> {
        self.kill();
        if let Some(resource) = &self.known {
            end(resource)?;
            if let Some(cx) = self.owner.take() {
                cx.released(resource)?;
            }
            self.known = None;
        }
        Ok(())
    }

    /// Asks the group to end; whether that is possible here.
    pub(super) fn ask_to_end(&self) -> bool {
        #[cfg(unix)]
        if let Some(group) = self.group() {
            return rustix::process::kill_process_group(group, rustix::process::Signal::TERM).is_ok();
        }
        false
    }

    #[cfg(unix)]
    fn group(&self) -> Option<rustix::process::Pid> {
        i32::try_from(self.leader?).ok().and_then(rustix::process::Pid::from_raw)
    }

    /// Kills the group. It stays written down: the engine ends what has left the group.
    pub(super) fn kill(&mut self) {
        // Nothing can be done about a failure here: whoever is left has ended already, or is not ours.
        #[cfg(unix)]
        if let Some(group) = self.group() {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        #[cfg(windows)]
        if let Some(leader) = self.leader {
            let _ = std::process::Command::new("taskkill")
                .args(["/F", "/T", "/PID", &leader.to_string()])
                .stdin(std::process::Stdio::null())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .status();
        }
        self.leader = None;
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Nothing is written down on this system, so there is nothing to end; a ledger from elsewhere is of no use here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn end(resource: &Resource) -> Result<()> {
    Err(crate::error::Error::user(format!("{resource} was started on another system")))
}

/// What Linux tells of processes.
#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashSet;
    use std::fs::{self, File};
    use std::io::Read;
    use std::time::{Duration, Instant};

    use rustix::io::Errno;
    use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
    use serde::{Deserialize, Serialize};

    use crate::error::{Error, Result};
    use crate::kit::process::MARK;
    use crate::ledger::Resource;

    /// How long a killed process may take to be gone.
    const LAST_BREATH: Duration = Duration::from_secs(10);

    /// No environment is longer that the system lets a program have.
    const LONGEST_ENVIRONMENT: u64 = 16 << 20;

    /// One process, told from a later one that has its number.
    #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
    struct Identity {
        pid: i32,
        /// When it started, in the system's ticks since it was booted.
        started: u64,
        /// Which time it was booted.
        boot: String,
    }

    /// What `/proc` says of a process.
    struct Stat {
        group: i32,
        started: u64,
        /// Whether it runs no more and only waits for its parent to notice.
        ended: bool,
    }

    fn stat(pid: i32) -> Option<Stat> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let text = String::from_utf8_lossy(&text);
        // The name stands in parentheses and may hold anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        Some(Stat {
            ended: matches!(*fields.first()?, "Z" | "X" | "x"),
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    fn boot() -> Option<String> {
        Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
    }

    /// What to write down of a process that has just been started.
    pub(super) fn identify(leader: u32) -> Option<serde_json::Value> {
        let pid = i32::try_from(leader).ok()?;
        let leader = Identity { pid, started: stat(pid)?.started, boot: boot()? };
        serde_json::to_value(leader).ok()
    }

    fn all() -> std::io::Result<Vec<i32>> {
        let names = fs::read_dir("/proc")?.filter_map(|entry| entry.ok());
        Ok(names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// Kills a process, but none that has got its number meanwhile.
    fn kill(pid: i32, started: u64) -> Result<(), Errno> {
        let Some(number) = Pid::from_raw(pid) else { return Ok(()) };
        let killed = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(process) if stat(pid).is_some_and(|stat| stat.started == started) => {
                pidfd_send_signal(process, Signal::KILL)
            }
            Ok(_) => Ok(()),
            // The system is older than that.
            Err(Errno::NOSYS) => kill_process(number, Signal::KILL),
            Err(error) => Err(error),
        };
        // It may have ended by itself.
        killed.or_else(|error| if error == Errno::SRCH { Ok(()) } else { Err(error) })
    }

    fn has_mark(pid: i32, mark: &[u8]) -> bool {
        let mut environment = Vec::new();
        // Those of others cannot be read, and are not ours.
        let read = File::open(format!("/proc/{pid}/environ"))
            .and_then(|file| file.take(LONGEST_ENVIRONMENT).read_to_end(&mut environment));
        read.is_ok() && environment.split(|byte| *byte == 0).any(|variable| variable == mark)
    }

    /// Ends a process that a ledger tells of, with all that it started. Done when none is left.
    ///
    /// # Errors
    /// Where one does not end, or may not be ended.
    pub(crate) fn end(resource: &Resource) -> Result<()> {
        let mark = format!("{MARK}={}", resource.id).into_bytes();
        let leader: Option<Identity> = serde_json::from_value(resource.details.clone()).ok();
        let leader = leader.filter(|leader| boot().as_deref() == Some(&leader.boot));
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let began = Instant::now();
        // Members of the group stay ours when their leader is gone.
        let mut known: HashSet<(i32, u64)> = HashSet::new();
        loop {
            let leads = |leader: &Identity| stat(leader.pid).is_some_and(|s| s.started == leader.started);
            let group = leader.as_ref().filter(|leader| leads(leader)).map(|leader| leader.pid);
            let pids = all().map_err(|e| Error::io("open", "/proc", e))?;
            let mut left = Vec::new();
            for pid in pids.into_iter().filter(|pid| *pid != own && *pid > 1) {
                let Some(stat) = stat(pid).filter(|stat| !stat.ended) else { continue };
                let ours = group == Some(stat.group) || has_mark(pid, &mark);
                if ours {
                    known.insert((pid, stat.started));
                }
                if known.contains(&(pid, stat.started)) {
                    left.push((pid, stat.started));
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            let denied =
                left.iter().filter(|(pid, started)| kill(*pid, *started) == Err(Errno::PERM)).count();
            let left: Vec<i32> = left.into_iter().map(|(pid, _)| pid).collect();
            if denied == left.len() {
                return Err(Error::user(format!("{resource}: this user may not end the processes {left:?}")));
            }
            if began.elapsed() > LAST_BREATH {
                let message = format!("{resource}: processes {left:?} do not end");
                return Err(Error::provider(message).retryable());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
