//! The communicator's contract: run commands in a machine and move files in and out.

use std::fmt;
use std::path::Path;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::context::Context;
use crate::error::{Error, Result};

#[cfg(any(feature = "docker", feature = "ssh"))]
mod archive;
mod check;
mod config;
mod connect;
#[cfg(feature = "docker")]
pub mod docker;
mod none;
mod output;
mod posix;
#[cfg(feature = "ssh")]
pub mod ssh;
#[cfg(any(feature = "docker", feature = "ssh", feature = "winrm"))]
pub(crate) mod tree;
mod tunnel;
#[cfg(any(feature = "ssh", feature = "winrm"))]
mod waiting;
#[cfg(feature = "winrm")]
pub mod winrm;

pub use config::{CommunicatorConfig, HostKeySource, Target};
pub use none::NoCommunicator;
use output::Kept;
pub use output::LineWriter;
pub use posix::program_on_input;
#[cfg(any(feature = "docker", feature = "ssh", feature = "winrm"))]
pub use tree::{Entry, Links, LocalTree};

pub use crate::error::Unreachable;

/// The way into a machine.
///
/// # Behavior
/// - All methods may be called at once on one communicator; each command and transfer stands by itself.
/// - A command's exit status is no error: `Err` means that it could not be run, or that nobody knows how it ended
///   although the connection stands ([`StatusLost`] is then the source of the error). A connection that breaks while the command runs is
///   [`ExitStatus::Disconnected`].
/// - Transfers stream: memory does not grow with the size of a file. An upload over an existing file replaces its
///   content; parent folders are not made.
/// - Dropping a future (cancellation, timeout) ends the local side at once; the remote command is asked to end where
///   the protocol can.
/// - In folder transfers a trailing slash on the *source* means "its contents", none "the folder itself".
#[async_trait]
pub trait Communicator: Send + Sync {
    /// Runs a command and streams its input and output; returns when it has ended and all output is delivered.
    async fn exec(&self, cx: &Context, command: Command<'_>) -> Result<ExitStatus>;

    /// Writes `source` to a file. A source that is a local file keeps its permission bits.
    async fn upload(&self, cx: &Context, source: Source<'_>, destination: &str) -> Result<()>;

    /// Whether a file that is uploaded with permission bits has exactly those afterwards, so that nobody needs a command
    /// to set them. `false`, the default, is always right.
    fn keeps_modes(&self) -> bool {
        false
    }

    /// Whether a command of a Unix machine reads exactly the bytes that it is given, and then their end: no terminal stands
    /// between. A script can then be brought by the command that runs it. `false`, the default, is always right.
    fn passes_input(&self) -> bool {
        false
    }

    /// Copies a local folder.
    async fn upload_dir(&self, cx: &Context, source: &Path, destination: &str, exclude: &Globs)
    -> Result<()>;

    /// Copies a file's content into `sink`.
    async fn download(
        &self,
        cx: &Context,
        source: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()>;

    /// Copies a folder (or what a pattern in the last part of `source` matches) into a local folder.
    async fn download_dir(
        &self,
        cx: &Context,
        source: &str,
        destination: &Path,
        exclude: &Globs,
    ) -> Result<()>;
}

/// A command for the machine's own shell, with its streams.
#[non_exhaustive]
pub struct Command<'a> {
    /// The text that the machine's shell interprets.
    pub text: String,
    /// What the command reads; `None` is an empty input.
    pub stdin: Option<&'a mut (dyn AsyncRead + Send + Unpin)>,
    /// Where its output goes; `None` drops it.
    pub stdout: Option<&'a mut (dyn AsyncWrite + Send + Unpin)>,
    /// Where its error output goes; `None` drops it.
    pub stderr: Option<&'a mut (dyn AsyncWrite + Send + Unpin)>,
}

impl<'a> Command<'a> {
    /// A command without input whose output is dropped.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), stdin: None, stdout: None, stderr: None }
    }

    /// Gives it something to read.
    #[must_use]
    pub fn stdin(mut self, stdin: &'a mut (dyn AsyncRead + Send + Unpin)) -> Self {
        self.stdin = Some(stdin);
        self
    }

    /// Says where its output goes.
    #[must_use]
    pub fn stdout(mut self, stdout: &'a mut (dyn AsyncWrite + Send + Unpin)) -> Self {
        self.stdout = Some(stdout);
        self
    }

    /// Says where its error output goes.
    #[must_use]
    pub fn stderr(mut self, stderr: &'a mut (dyn AsyncWrite + Send + Unpin)) -> Self {
        self.stderr = Some(stderr);
        self
    }
}

impl fmt::Debug for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({:?})", self.text)
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// With an exit code.
    Code(i32),
    /// By a signal (its number).
    Signal(i32),
    /// Nobody knows: the connection broke while it ran.
    Disconnected,
}

impl ExitStatus {
    /// The code by which Packer's templates know a broken connection.
    pub const DISCONNECT_CODE: i32 = 2_300_218;

    /// As one number: a signal is 128 and its number, a broken connection 2300218.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
            Self::Disconnected => Self::DISCONNECT_CODE,
        }
    }

    /// Whether the command ended with code 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// Why nobody knows how a command ended although the connection stands: the [source](std::error::Error::source) of the
/// error that [`Communicator::exec`] gives then. It may have done all that it was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatusLost;

impl StatusLost {
    /// The error of a command whose end `who` did not tell. Nothing says that running the command again is harmless.
    pub fn error(who: impl fmt::Display) -> Error {
        Error::guest(format!("{who} did not say how the command ended")).with_source(Self)
    }

    /// Whether this is why a command failed.
    pub fn is_source_of(error: &Error) -> bool {
        std::error::Error::source(error).is_some_and(|source| source.is::<Self>())
    }
}

impl fmt::Display for StatusLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the exit status was lost")
    }
}

impl std::error::Error for StatusLost {}

/// What to upload.
#[non_exhaustive]
pub enum Source<'a> {
    /// A local file; its permission bits go with it.
    File(&'a Path),
    /// A text or other bytes in memory.
    Bytes(&'a [u8]),
    /// A stream of unknown or known length, with the permission bits the file is to have.
    Reader {
        /// What to read.
        reader: &'a mut (dyn AsyncRead + Send + Unpin),
        /// How many bytes will come, where that is known.
        size: Option<u64>,
        /// Permission bits; `None` leaves them to the machine.
        mode: Option<u32>,
    },
}

impl<'a> Source<'a> {
    /// A stream whose length nobody knows yet; the machine chooses the permission bits.
    pub fn reader(reader: &'a mut (dyn AsyncRead + Send + Unpin)) -> Self {
        Self::Reader { reader, size: None, mode: None }
    }
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Reader { size, .. } => write!(f, "Reader({size:?})"),
        }
    }
}

/// Patterns of names that a folder transfer leaves out.
#[derive(Debug, Clone, Default)]
pub struct Globs(globset::GlobSet);

impl Globs {
    /// Leaves nothing out.
    pub fn none() -> Self {
        Self::default()
    }

    /// Leaves out what any of the patterns matches, seen from the folder's root (`*.o`, `target/**`).
    ///
    /// # Errors
    /// Where a pattern is malformed.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut set = globset::GlobSetBuilder::new();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            set.add(
                globset::Glob::new(pattern).map_err(|e| Error::user(format!("pattern {pattern:?}: {e}")))?,
            );
        }
        Ok(Self(set.build().map_err(|e| Error::user(e.to_string()))?))
    }

    /// Whether a path relative to the folder's root is left out.
    pub fn matches(&self, path: impl AsRef<Path>) -> bool {
        self.0.is_match(path)
    }
}

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its output.
    pub stdout: Vec<u8>,
    /// Its error output.
    pub stderr: Vec<u8>,
}

impl Output {
    /// The output as text, without the line end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches(['\r', '\n']).to_owned()
    }
}

/// What is convenient to do with any [`Communicator`].
#[async_trait]
pub trait CommunicatorExt: Communicator {
    /// Runs a command and keeps what it prints in memory.
    ///
    /// # Errors
    /// Where it cannot run, or prints more than 64 MiB.
    async fn output(&self, cx: &Context, text: &str) -> Result<Output> {
        let (mut stdout, mut stderr) = (Kept::new(MOST_KEPT), Kept::new(MOST_KEPT));
        let command = Command::new(text).stdout(&mut stdout).stderr(&mut stderr);
        let done = self.exec(cx, command).await;
        if stdout.is_exceeded() || stderr.is_exceeded() {
            return Err(too_much("a command prints"));
        }
        Ok(Output { status: done?, stdout: stdout.into_bytes(), stderr: stderr.into_bytes() })
    }

    /// Runs a command and shows its lines as they come: output as said, error output as errors.
    async fn run(&self, cx: &Context, text: &str) -> Result<ExitStatus> {
        let mut stdout = LineWriter::new(cx.clone(), crate::event::Level::Info);
        let mut stderr = LineWriter::new(cx.clone(), crate::event::Level::Error);
        let command = Command::new(text).stdout(&mut stdout).stderr(&mut stderr);
        let status = self.exec(cx, command).await;
        // An unfinished last line is shown before anything that follows the command.
        let _ = stdout.shutdown().await;
        let _ = stderr.shutdown().await;
        status
    }

    /// Uploads a local file.
    async fn upload_file(&self, cx: &Context, source: &Path, destination: &str) -> Result<()> {
        self.upload(cx, Source::File(source), destination).await
    }

    /// Uploads bytes from memory.
    async fn upload_bytes(&self, cx: &Context, bytes: &[u8], destination: &str) -> Result<()> {
        self.upload(cx, Source::Bytes(bytes), destination).await
    }

    /// Downloads a small file into memory.
    ///
    /// # Errors
    /// Where it cannot be downloaded, or has more than 64 MiB.
    async fn read(&self, cx: &Context, source: &str) -> Result<Vec<u8>> {
        let mut content = Kept::new(MOST_KEPT);
        let done = self.download(cx, source, &mut content).await;
        if content.is_exceeded() {
            return Err(too_much(&format!("{source} has")));
        }
        done.map(|()| content.into_bytes())
    }
}

/// How much of what a machine sends is kept in memory.
const MOST_KEPT: usize = 64 << 20;

fn too_much(what: &str) -> Error {
    Error::guest(format!("{what} more than {} MiB", MOST_KEPT >> 20))
}

impl<C: Communicator + ?Sized> CommunicatorExt for C {}
