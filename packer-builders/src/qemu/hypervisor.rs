//! The program that is the machine: started, watched, ended.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use packer_core::communicator::ExitStatus;
use packer_core::event::Level;
use packer_core::kit::process::{Process, Program};
use packer_core::{Context, Error, Result};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::console::Console;

/// The longest line of QEMU that is kept.
const LONGEST_LINE: u64 = 4096;
/// How many of its last lines an error shows.
const LAST_LINES: usize = 8;

/// How the machine is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    /// Its program runs.
    Runs,
    /// Its program runs, but the accelerator has given up: the machine stands still for ever.
    Stuck,
    /// Its program has ended.
    Ended(ExitStatus),
}

/// A machine. Dropped, its program is killed.
#[derive(Debug)]
pub(super) struct Hypervisor {
    program: String,
    /// Where its disks are.
    folder: PathBuf,
    state: watch::Receiver<State>,
    words: Words,
    kill: mpsc::Sender<()>,
    _task: AbortOnDropHandle<()>,
}

/// The last lines that QEMU printed.
#[derive(Debug, Clone, Default)]
struct Words(Arc<Mutex<VecDeque<String>>>);

impl Words {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

impl Hypervisor {
    /// Starts it with disks in a folder. With `serial` its output is what the machine prints.
    pub(super) fn start(
        cx: &Context,
        program: &str,
        arguments: Vec<String>,
        folder: &Path,
        serial: Option<Console>,
    ) -> Result<Self> {
        let mut process = Program::new(program).args(arguments).start_piped(cx)?;
        drop(process.stdin());
        let words = Words::default();
        let (sender, state) = watch::channel(State::Runs);
        let (kill, killed) = mpsc::channel(1);
        let task = watch_over(cx.clone(), process, words.clone(), sender, killed, serial);
        Ok(Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            state,
            words,
            kill,
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        })
    }

    /// How it is now.
    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// What it said last.
    pub(super) fn last_words(&self) -> String {
        self.words.text()
    }

    /// Waits until the machine does not run any more, however that came.
    pub(super) async fn stops(&self) {
        let mut state = self.state.clone();
        // The task that watches is gone only together with this value.
        let _ = state.wait_for(|state| *state != State::Runs).await;
    }

    /// Waits until the machine does not run any more: an error with its last words unless its program ended well.
    pub(super) async fn off(&self) -> Result<()> {
        self.stops().await;
        match self.state() {
            State::Ended(status) if status.success() => Ok(()),
            _ => Err(self.gone()),
        }
    }

    /// Runs work that needs the machine; an error at once where the machine does not run any more.
    pub(super) async fn while_running<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let done = tokio::select! {
            done = work => done,
            () = self.stops() => return Err(self.gone()),
        };
        match done {
            // What talks to a program that ends often hears of it before its end is known.
            Err(error) if !error.is_cancelled() && self.stops_soon().await => Err(self.gone()),
            done => done,
        }
    }

    /// Whether the machine does not run any more, as far as that is known in a moment.
    pub(super) async fn stops_soon(&self) -> bool {
        /// How long it may take until the end of its program is known.
        const SHOWS: Duration = Duration::from_millis(500);
        tokio::time::timeout(SHOWS, self.stops()).await.is_ok()
    }

    /// The same for work that also makes sense when the machine has shut itself down: `None` then.
    pub(super) async fn until_ended<T>(&self, work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
        match self.while_running(work).await {
            Err(_) if matches!(self.state(), State::Ended(status) if status.success()) => Ok(None),
            done => done.map(Some),
        }
    }

    /// Why it does not run any more, with its last words.
    pub(super) fn gone(&self) -> Error {
        let how = match self.state() {
            State::Stuck => format!("{}: the accelerator has stopped the machine", self.program),
            State::Ended(ExitStatus::Signal(signal)) => {
                format!("{} was ended by signal {signal}", self.program)
            }
            State::Ended(status) => format!("{} ended with {}", self.program, status.code()),
            State::Runs => format!("{} runs", self.program),
        };
        match self.last_words() {
            words if words.is_empty() => Error::provider(how),
            words => Error::provider(format!("{how}: {words}")),
        }
    }

    /// The error of work with the machine, with a word in front where the disk of this computer is full.
    pub(super) fn explained(&self, error: Error) -> Error {
        match self.wants_room() {
            Some(why) if !error.is_cancelled() => error.context(why),
            _ => error,
        }
    }

    /// Says so where the machine may stand still for want of room on this computer: QEMU stops it when a write to its disks fails,
    /// and does not say that it has.
    pub(super) fn wants_room(&self) -> Option<String> {
        /// More than a machine writes at once.
        const LEAST: u64 = 16 << 20;
        let folder = self.folder.display();
        let why =
            || format!("no space left on the device of {folder}, where QEMU stops a machine that writes");
        (available(&self.folder)? < LEAST).then(why)
    }

    /// Ends it now, as if its plug were pulled.
    pub(super) async fn kill(&self) {
        let _ = self.kill.try_send(());
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| matches!(state, State::Ended(_))).await;
    }
}

/// How many bytes may still be written to the file system of a folder, where that is known.
#[cfg(unix)]
fn available(folder: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(folder).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(not(unix))]
fn available(_: &Path) -> Option<u64> {
    None
}

/// Shows what the program prints until it ends, and kills it when asked.
async fn watch_over(
    cx: Context,
    mut process: Process,
    words: Words,
    state: watch::Sender<State>,
    mut killed: mpsc::Receiver<()>,
    serial: Option<Console>,
) {
    /// How long what it has printed is waited for when it has ended.
    const LAST: Duration = Duration::from_secs(1);
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let output = async {
        match &serial {
            Some(serial) => transcribe(stdout, serial).await,
            None => lines(&cx, stdout, &words, &state).await,
        }
    };
    let read = async { tokio::join!(output, lines(&cx, stderr, &words, &state)) };
    tokio::pin!(read);
    let mut all_read = false;
    let status = loop {
        tokio::select! {
            status = process.wait() => break status,
            Some(()) = killed.recv() => break process.stop(Duration::ZERO).await,
            _ = &mut read, if !all_read => all_read = true,
        }
    };
    if !all_read {
        let _ = tokio::time::timeout(LAST, read).await;
    }
    // How a program ended that nobody can ask is not known: as if it had failed.
    state.send_replace(State::Ended(status.unwrap_or(ExitStatus::Disconnected)));
}

/// Keeps what the machine prints.
async fn transcribe(stream: Option<impl AsyncRead + Unpin>, serial: &Console) {
    let Some(mut stream) = stream else { return };
    let mut piece = vec![0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        serial.push(&String::from_utf8_lossy(piece.get(..length).unwrap_or_default()));
    }
}

async fn lines(
    cx: &Context,
    stream: Option<impl AsyncRead + Unpin>,
    words: &Words,
    state: &watch::Sender<State>,
) {
    let Some(stream) = stream else { return };
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stream).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        // What follows on that it stands still are the registers of its processor.
        if text.is_empty() || *state.borrow() == State::Stuck {
            continue;
        }
        cx.output(Level::Error, text.clone());
        let stuck = text.starts_with("KVM internal error");
        words.push(text);
        if stuck {
            state.send_if_modified(|state| {
                let runs = *state == State::Runs;
                if runs {
                    *state = State::Stuck;
                }
                runs
            });
        }
    }
}
