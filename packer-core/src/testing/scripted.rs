//! A communicator that answers as it is told and remembers what it was asked, for unit tests of provisioners.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::artifact::Artifact;
use crate::builder::Machine;
use crate::communicator::{Command, Communicator, ExitStatus, Globs, Source};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::facts::Facts;

/// A machine that is a list of answers. What no answer is for succeeds in silence, or goes to the machine
/// [behind](Self::before) it.
///
/// ```
/// # use packer_core::{CommunicatorExt, testing::{Answer, Bench, ScriptedMachine}};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bench = Bench::new();
/// let machine = ScriptedMachine::new()
///     .on("uname", Answer::prints("Linux\n"))
///     .on("reboot", Answer::disconnects())
///     .file("/etc/hostname", "box\n");
/// let cx = bench.context();
/// assert_eq!(machine.output(cx, "uname -s").await?.text(), "Linux");
/// machine.upload_bytes(cx, b"hello", "/etc/motd").await?;
/// assert_eq!(machine.read(cx, "/etc/hostname").await?, b"box\n");
/// assert_eq!(machine.calls(), ["exec uname -s", "upload /etc/motd", "download /etc/hostname"]);
/// assert_eq!(machine.content("/etc/motd").as_deref(), Some(&b"hello"[..]));
/// # Ok::<(), packer_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct ScriptedMachine {
    state: Arc<Mutex<State>>,
    behind: Option<Arc<dyn Communicator>>,
}

#[derive(Default)]
struct State {
    /// Each with the part of a call that it answers; the first that fits is used up, a lasting one stays.
    answers: VecDeque<(String, Answer)>,
    files: BTreeMap<String, (Vec<u8>, Option<u32>)>,
    calls: Vec<String>,
    inputs: Vec<Vec<u8>>,
}

/// What the machine does with a call.
#[derive(Debug, Clone)]
pub struct Answer {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    end: End,
    lasts: bool,
}

#[derive(Debug, Clone)]
enum End {
    Status(ExitStatus),
    Fails(String),
    Never,
}

impl Answer {
    /// A command that ends with this code.
    pub fn code(code: i32) -> Self {
        let end = End::Status(ExitStatus::Code(code));
        Self { stdout: Vec::new(), stderr: Vec::new(), end, lasts: false }
    }

    /// A command that prints this and succeeds.
    pub fn prints(text: impl Into<Vec<u8>>) -> Self {
        Self { stdout: text.into(), ..Self::code(0) }
    }

    /// A command during which the connection breaks.
    pub fn disconnects() -> Self {
        Self { end: End::Status(ExitStatus::Disconnected), ..Self::code(0) }
    }

    /// A call that fails as on a broken connection.
    pub fn fails(why: impl Into<String>) -> Self {
        Self { end: End::Fails(why.into()), ..Self::code(0) }
    }

    /// A call that never ends.
    pub fn hangs() -> Self {
        Self { end: End::Never, ..Self::code(0) }
    }

    /// Prints this as error output too.
    #[must_use]
    pub fn stderr(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stderr = text.into();
        self
    }

    /// Answers every call that fits, not only the first.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.lasts = true;
        self
    }
}

impl ScriptedMachine {
    /// A machine where everything succeeds and prints nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A machine whose calls go to another one unless there is an answer for them.
    pub fn before(behind: impl Communicator + 'static) -> Self {
        Self { behind: Some(Arc::new(behind)), ..Self::default() }
    }

    /// Answers the first call that contains `part`: as in [`calls`](Self::calls), `exec uname`, `upload /etc/`, or a piece
    /// of a command. Of several answers that fit the one said first is used first.
    #[must_use]
    pub fn on(self, part: impl Into<String>, answer: Answer) -> Self {
        self.lock().answers.push_back((part.into(), answer));
        self
    }

    /// Has a file that can be downloaded.
    #[must_use]
    pub fn file(self, path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        self.lock().files.insert(path.into(), (content.into(), None));
        self
    }

    /// What was asked, in order: `exec COMMAND`, `upload PATH`, `upload_dir PATH`, `download PATH` and `download_dir PATH`
    /// with the machine's paths.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// What the commands were given to read, in order; empty for those without input. Only of commands that were not handed
    /// on.
    pub fn inputs(&self) -> Vec<Vec<u8>> {
        self.lock().inputs.clone()
    }

    /// What a file contains, if the machine has it.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.lock().files.get(path).map(|(content, _)| content.clone())
    }

    /// With which permission bits a file was uploaded.
    pub fn mode(&self, path: &str) -> Option<u32> {
        self.lock().files.get(path).and_then(|(_, mode)| *mode)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a call; its answer, where there is one.
    fn call(&self, call: String) -> Option<Answer> {
        let mut state = self.lock();
        let at = state.answers.iter().position(|(part, _)| call.contains(part.as_str()));
        state.calls.push(call);
        let (_, answer) = state.answers.get(at?)?.clone();
        if !answer.lasts {
            state.answers.remove(at?);
        }
        Some(answer)
    }

    /// The same for a transfer: whether it goes on to the machine behind.
    async fn transfer(&self, call: String) -> Result<Option<&dyn Communicator>> {
        match self.call(call).map(|answer| answer.end) {
            Some(End::Fails(why)) => Err(Error::network(why)),
            Some(End::Never) => std::future::pending().await,
            Some(End::Status(status)) if !status.success() => {
                Err(Error::guest(format!("the transfer ended with status {}", status.code())))
            }
            Some(_) => Ok(None),
            None => Ok(self.behind.as_deref()),
        }
    }
}

fn mode_of(metadata: &std::fs::Metadata) -> Option<u32> {
    #[cfg(unix)]
    return Some(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777);
    #[cfg(not(unix))]
    return Some(if metadata.is_dir() { 0o755 } else { 0o644 });
}

/// A machine that somebody else runs: it is entered, and what is made of it is an artifact of nothing.
#[derive(Clone)]
pub struct EnteredMachine {
    communicator: Arc<dyn Communicator>,
    facts: Facts,
}

impl EnteredMachine {
    /// The machine that this communicator enters.
    pub fn new(communicator: Arc<dyn Communicator>) -> Self {
        Self { communicator, facts: Facts::new() }
    }

    /// Says what is known about it.
    #[must_use]
    pub fn facts(mut self, facts: Facts) -> Self {
        self.facts = facts;
        self
    }
}

#[async_trait]
impl Machine for EnteredMachine {
    fn communicator(&self) -> Arc<dyn Communicator> {
        self.communicator.clone()
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    async fn capture(&self, _: &Context) -> Result<Artifact> {
        Ok(Artifact::new("test", "entered"))
    }
}

impl std::fmt::Debug for EnteredMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EnteredMachine({:?})", self.facts)
    }
}

impl std::fmt::Debug for ScriptedMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ScriptedMachine({:?})", self.calls())
    }
}

#[async_trait]
impl Communicator for ScriptedMachine {
    async fn exec(&self, cx: &Context, mut command: Command<'_>) -> Result<ExitStatus> {
        let answer = match (self.call(format!("exec {}", command.text)), &self.behind) {
            (Some(answer), _) => answer,
            (None, Some(behind)) => return behind.exec(cx, command).await,
            (None, None) => Answer::code(0),
        };
        let failed = |e| Error::provider(format!("the command's streams: {}", crate::error::os_text(&e)));
        let mut input = Vec::new();
        if let Some(stdin) = &mut command.stdin {
            stdin.read_to_end(&mut input).await.map_err(failed)?;
        }
        self.lock().inputs.push(input);
        for (bytes, sink) in [(&answer.stdout, &mut command.stdout), (&answer.stderr, &mut command.stderr)] {
            if let Some(sink) = sink {
                sink.write_all(bytes).await.map_err(failed)?;
            }
        }
        match answer.end {
            End::Status(status) => Ok(status),
            End::Fails(why) => Err(Error::network(why)),
            End::Never => std::future::pending().await,
        }
    }

    async fn upload(&self, cx: &Context, source: Source<'_>, destination: &str) -> Result<()> {
        if let Some(behind) = self.transfer(format!("upload {destination}")).await? {
            return behind.upload(cx, source, destination).await;
        }
        let (content, mode) = match source {
            Source::File(path) => {
                let metadata = tokio::fs::metadata(path).await.map_err(|e| Error::io("open", path, e))?;
                let content = tokio::fs::read(path).await.map_err(|e| Error::io("open", path, e))?;
                (content, mode_of(&metadata))
            }
            Source::Bytes(bytes) => (bytes.to_vec(), None),
            Source::Reader { reader, mode, .. } => {
                let mut content = Vec::new();
                let read = reader.read_to_end(&mut content).await;
                read.map_err(|e| {
                    Error::user(format!("what is to be uploaded: {}", crate::error::os_text(&e)))
                })?;
                (content, mode)
            }
        };
        self.lock().files.insert(destination.to_owned(), (content, mode));
        Ok(())
    }

    fn passes_input(&self) -> bool {
        self.behind.as_ref().is_some_and(|behind| behind.passes_input())
    }

    async fn upload_dir(&self, cx: &Context, source: &Path, to: &str, exclude: &Globs) -> Result<()> {
        match self.transfer(format!("upload_dir {to}")).await? {
            Some(behind) => behind.upload_dir(cx, source, to, exclude).await,
            None => Ok(()),
        }
    }

    async fn download(
        &self,
        cx: &Context,
        source: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        if let Some(behind) = self.transfer(format!("download {source}")).await? {
            return behind.download(cx, source, sink).await;
        }
        let content = self.content(source);
        let content = content.ok_or_else(|| Error::guest(format!("download {source}: no such file")))?;
        sink.write_all(&content).await.map_err(|e| Error::io("write", source, e))
    }

    async fn download_dir(&self, cx: &Context, source: &str, to: &Path, exclude: &Globs) -> Result<()> {
        match self.transfer(format!("download_dir {source}")).await? {
            Some(behind) => behind.download_dir(cx, source, to, exclude).await,
            None => Ok(()),
        }
    }
}
