//! Programs as builders start them.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::task::JoinSet;

use super::family::Family;
use crate::communicator::{Command, ExitStatus, LineWriter};
use crate::context::{Context, Host, PrepareContext};
use crate::error::{Error, Result};
use crate::event::Level;
use crate::kit::blocking;
use crate::kit::shell::process::spawn;

/// A program to run, with its arguments.
///
/// It inherits this process's environment, over that what the host lends ([`Context::envs`]) and `PACKER_RUN_UUID`.
#[derive(Debug, Clone)]
pub struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
}

impl Program {
    /// A program by its path, or by its name on the `PATH`.
    pub fn new(name: impl Into<OsString>) -> Self {
        Self { name: name.into(), arguments: Vec::new(), env: Vec::new(), folder: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Says where it starts; this process's working folder unless said.
    #[must_use]
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Runs it with empty input and shows what it prints, line by line; returns when it has ended and its output is closed.
    /// Dropping the future (cancellation, timeout) kills it with all it started.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub async fn show(&self, cx: &Context) -> Result<ExitStatus> {
        let mut process = self.spawn(cx, Stdio::null(), Stdio::piped)?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let (stdout, stderr, status) =
            tokio::join!(show(cx, stdout, Level::Info), show(cx, stderr, Level::Error), process.exit());
        process.family.let_go();
        stdout.and(stderr).map_err(|e| Error::io("read", &self.name, e))?;
        status
    }

    /// Runs it with empty input and returns what it prints, up to `most` bytes of each stream; returns when it has ended and
    /// its output is closed. Dropping the future kills it with all it started.
    ///
    /// # Errors
    /// Where it cannot be started, or prints more.
    pub async fn capture(&self, cx: &Context, most: usize) -> Result<Captured> {
        let mut process = self.spawn(cx, Stdio::null(), Stdio::piped)?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let output = async { tokio::try_join!(self.read(stdout, most), self.read(stderr, most)) };
        let (output, status) = tokio::try_join!(output, process.exit())?;
        process.family.let_go();
        Ok(Captured { name: self.title(), status, stdout: output.0, stderr: output.1 })
    }

    /// Starts it with empty input, its output thrown away.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(&self, cx: &Context) -> Result<Process> {
        self.spawn(cx, Stdio::null(), Stdio::null)
    }

    /// Starts it with empty input, and shows what it prints, line by line, as long as it runs: what a hypervisor says of its
    /// configuration, for one.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start_shown(&self, cx: &Context) -> Result<Process> {
        let mut process = self.spawn(cx, Stdio::null(), Stdio::piped)?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let cx = cx.clone();
        process.shown.spawn(async move {
            // What cannot be read any more is not shown.
            let _ = tokio::join!(show(&cx, stdout, Level::Info), show(&cx, stderr, Level::Error));
        });
        Ok(process)
    }

    /// Starts it with its three streams in the hands of the caller, who has to read what it prints: a pipe that nobody reads
    /// fills up.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start_piped(&self, cx: &Context) -> Result<Process> {
        self.spawn(cx, Stdio::piped(), Stdio::piped)
    }

    /// Asks it something before a build starts, where there is no [`Context`] yet: which version it is, say. Runs it with empty
    /// input and returns what it prints, up to `most` bytes of each stream. It may take as long as `limit`, and **blocks** the
    /// thread meanwhile. When this returns it has ended, with all that it started: that is why no ledger need know of it.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use std::time::Duration;
    /// use packer_core::{PrepareContext, kit::process::Program};
    /// let cx = PrepareContext::default();
    /// let program = Program::new("sh").args(["-c", "sleep 60 & echo 2.14"]);
    /// let said = program.ask(&cx, 1024, Duration::from_secs(30))?.success()?;
    /// assert_eq!(said.stdout_text(), "2.14");
    /// # }
    /// # Ok::<(), packer_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where it cannot be started, prints more or does not end in time.
    pub fn ask(&self, cx: &PrepareContext, most: usize, limit: Duration) -> Result<Captured> {
        let unable = |e: std::io::Error| Error::internal("nothing can be asked now").with_source(e);
        // A thread and a runtime of its own: whoever prepares may be on one already, which cannot be waited on.
        std::thread::scope(|scope| {
            let work = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(unable)?.block_on(self.answer(cx, most, limit))
            };
            let thread = std::thread::Builder::new().spawn_scoped(scope, work).map_err(unable)?;
            thread.join().unwrap_or_else(|_| Err(Error::internal("what was asked got lost")))
        })
    }

    async fn answer(&self, cx: &PrepareContext, most: usize, limit: Duration) -> Result<Captured> {
        let mut process = self.spawn_for(None, &cx.host, Stdio::null(), Stdio::piped)?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let output = async { tokio::try_join!(self.read(stdout, most), self.read(stderr, most)) };
        let exit = async {
            let status = process.exit().await;
            // What it has started may hold its output open.
            process.family.end().and(status)
        };
        let done = tokio::time::timeout(limit, async { tokio::try_join!(output, exit) }).await;
        process.family.end()?;
        let (output, status) = done.unwrap_or_else(|_| {
            Err(Error::provider(format!("{} did not end within {} s", self.title(), limit.as_secs())))
        })?;
        Ok(Captured { name: self.title(), status, stdout: output.0, stderr: output.1 })
    }

    fn spawn(&self, cx: &Context, stdin: Stdio, output: fn() -> Stdio) -> Result<Process> {
        self.spawn_for(Some(cx), cx.host(), stdin, output)
    }

    fn spawn_for(
        &self,
        cx: Option<&Context>,
        host: &Host,
        stdin: Stdio,
        output: fn() -> Stdio,
    ) -> Result<Process> {
        let mut command = tokio::process::Command::new(&self.name);
        command.args(&self.arguments).envs(&host.env);
        if let Some(cx) = cx {
            command.env("PACKER_RUN_UUID", cx.run_id());
        }
        command
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(stdin)
            .stdout(output())
            .stderr(output())
            .kill_on_drop(true);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        #[cfg(unix)]
        command.process_group(0);
        let family = Family::announce(cx, &self.name, &mut command)?;
        match spawn(&mut command) {
            Ok(child) => {
                let family = family.born(&child)?;
                Ok(Process { child, family, shown: JoinSet::new(), name: self.name.clone() })
            }
            Err(e) => {
                family.stillborn();
                Err(Error::io("exec", &self.name, e))
            }
        }
    }

    async fn read(&self, stream: Option<impl AsyncRead + Unpin>, most: usize) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let Some(stream) = stream else { return Ok(text) };
        let limit = (most as u64).saturating_add(1);
        let read = stream.take(limit).read_to_end(&mut text).await;
        read.map_err(|e| Error::io("read", &self.name, e))?;
        if text.len() > most {
            return Err(Error::provider(format!("{} prints more than {most} bytes", self.title())));
        }
        Ok(text)
    }

    fn title(&self) -> String {
        Path::new(&self.name).display().to_string()
    }
}

/// What a program printed, and how it ended.
///
/// ```
/// # #[cfg(all(unix, feature = "testing"))]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use packer_core::kit::process::Program;
/// # let bench = packer_core::testing::Bench::new();
/// # let cx = bench.context();
/// let said = Program::new("echo").arg("10.0.2.15").capture(cx, 1024).await?.success()?;
/// assert_eq!(said.stdout_text(), "10.0.2.15");
///
/// let refused = Program::new("sh").args(["-c", "echo no such disk >&2; exit 2"]).capture(cx, 1024).await?;
/// assert_eq!(refused.success().unwrap_err().message(), "sh ended with 2: no such disk");
/// # Ok::<(), packer_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Captured {
    name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its output.
    pub stdout: Vec<u8>,
    /// Its error output.
    pub stderr: Vec<u8>,
}

/// How many of the last lines that a program printed an error shows.
const LAST_LINES: usize = 5;

impl Captured {
    /// The same where the program ended with 0.
    ///
    /// # Errors
    /// Where it did not: with the last lines of what it said.
    pub fn success(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let said = [self.stderr_text(), self.stdout_text()].into_iter().find(|text| !text.is_empty());
        let lines: Vec<&str> = said.iter().flat_map(|text| text.lines()).collect();
        // Whole lines: no part of a secret is cut off from the rest.
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        let ended = ended(&self.name, self.status);
        Err(Error::provider(if last.is_empty() { ended } else { format!("{ended}: {last}") }))
    }

    /// The output as a text, without white space around it; what is no UTF-8 is replaced.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// The same of the error output.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

/// A program that runs. Dropped, it is killed with all it started; what of that has left its process group, the engine ends with
/// the build, and after `kill -9` of this process recovery ends it all.
#[derive(Debug)]
pub struct Process {
    child: Child,
    family: Family,
    /// Shows what it prints.
    shown: JoinSet<()>,
    name: OsString,
}

/// How long the last lines of a program that has ended are waited for: what it has started may hold its output open.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Process {
    /// Its number; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What is written here it reads; `None` where it was not started so, or the second time.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// What it prints; `None` where it was not started so, or the second time.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The same of its error output.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits for its end, and until what it printed is shown; may be called again.
    ///
    /// # Errors
    /// Where the system does not say how it ended.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.exit().await?;
        self.family.reaped();
        last_words(&mut self.shown).await;
        Ok(status)
    }

    /// Runs work that needs the program: waiting until the machine that it is can be entered, say. Ends at once where the program
    /// does.
    ///
    /// ```
    /// # #[cfg(all(unix, feature = "testing"))]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use packer_core::kit::process::Program;
    /// # let bench = packer_core::testing::Bench::new();
    /// # let cx = bench.context();
    /// let mut machine = Program::new("sh").args(["-c", "echo no such disk >&2; exit 1"]).start_shown(cx)?;
    /// let connected = machine.while_running(cx.sleep(Duration::from_secs(600))).await;
    /// assert_eq!(connected.unwrap_err().message(), "sh ended with 1");
    /// assert_eq!(bench.recorder().lines(), ["no such disk"]);
    /// # Ok::<(), packer_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of the work; where the program ends before it.
    pub async fn while_running<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let status = tokio::select! {
            done = work => return done,
            status = self.wait() => status?,
        };
        Err(Error::provider(ended(&Path::new(&self.name).display().to_string(), status)))
    }

    /// Gives a program that was [started piped](Program::start_piped) the streams of a command, whose text means nothing here; returns
    /// when it has ended and its output is closed. What it has started and left running is let go then. Dropping the future kills it
    /// with all it started.
    ///
    /// ```
    /// # #[cfg(all(unix, feature = "testing"))]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use packer_core::{Command, kit::process::Program};
    /// # let bench = packer_core::testing::Bench::new();
    /// # let cx = bench.context();
    /// let (mut input, mut output) = (&b"in the pipe"[..], Vec::new());
    /// let streams = Command::new("").stdin(&mut input).stdout(&mut output);
    /// let status = Program::new("cat").start_piped(cx)?.exchange(streams).await?;
    /// assert!(status.success() && output == b"in the pipe");
    /// # Ok::<(), packer_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Where the streams break, or the system does not say how it ended.
    pub async fn exchange(mut self, command: Command<'_>) -> Result<ExitStatus> {
        let (stdin, stdout, stderr) = (self.stdin(), self.stdout(), self.stderr());
        let output = async {
            let both = tokio::try_join!(pump(stdout, command.stdout), pump(stderr, command.stderr));
            both.map_err(|e| Error::io("read", &self.name, e))?;
            self.child.wait().await.map_err(|e| Error::io("wait", &self.name, e))
        };
        // A command need not read its input: once it has ended, what is left of that is dropped.
        let status = tokio::select! {
            status = output => status?,
            never = feed(command.stdin, stdin) => match never {},
        };
        self.family.let_go();
        Ok(exit_status(status))
    }

    async fn exit(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().await.map_err(|e| Error::io("wait", &self.name, e))?;
        Ok(exit_status(status))
    }

    /// Asks its process group to end (`SIGTERM`), and kills it with all it started when it has not ended within `patience`. On
    /// Windows it is killed at once.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and where something of it does not end.
    pub async fn stop(mut self, patience: Duration) -> Result<ExitStatus> {
        let mut status = None;
        if self.family.ask_to_end() {
            status = tokio::time::timeout(patience, self.wait()).await.ok().transpose()?;
        }
        let status = match status {
            Some(status) => status,
            None => {
                self.family.kill();
                self.wait().await?
            }
        };
        let Self { mut family, mut shown, .. } = self;
        blocking::start(move || family.end()).await?;
        last_words(&mut shown).await;
        Ok(status)
    }
}

/// Returns when everything that a program has printed is shown.
async fn last_words(shown: &mut JoinSet<()>) {
    let all = async { while shown.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_WORDS, all).await;
}

/// How a program ended, in words.
fn ended(name: &str, status: ExitStatus) -> String {
    match status {
        ExitStatus::Signal(signal) => format!("{name} was ended by signal {signal}"),
        status => format!("{name} ended with {}", status.code()),
    }
}

async fn show(cx: &Context, stream: Option<impl AsyncRead + Unpin>, level: Level) -> std::io::Result<()> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut lines = LineWriter::new(cx.clone(), level);
    let copied = tokio::io::copy(&mut stream, &mut lines).await;
    lines.shutdown().await?;
    copied.map(drop)
}

/// Moves all of an output to where it is wanted, or drops it.
pub(crate) async fn pump(
    from: Option<impl AsyncRead + Unpin>,
    to: Option<&mut (dyn AsyncWrite + Send + Unpin)>,
) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    match to {
        Some(to) => {
            tokio::io::copy(&mut from, to).await?;
            to.flush().await
        }
        None => tokio::io::copy(&mut from, &mut tokio::io::sink()).await.map(drop),
    }
}

/// Gives a command its input, and then waits for ever: its end is seen elsewhere.
pub(crate) async fn feed(
    from: Option<&mut (dyn AsyncRead + Send + Unpin)>,
    to: Option<ChildStdin>,
) -> std::convert::Infallible {
    if let (Some(from), Some(mut to)) = (from, to) {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut piece).await {
            if to.write_all(&piece[..read]).await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}

fn exit_status(status: std::process::ExitStatus) -> ExitStatus {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return ExitStatus::Signal(signal);
    }
    ExitStatus::Code(status.code().unwrap_or(-1))
}

/// How a program is called in the ledger: nothing of its arguments, which may hold secrets, and no path that is one.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "nothing is written down there"))]
pub(super) fn title(name: &OsStr, mark: &str) -> String {
    let name = Path::new(name).file_name().unwrap_or(name).to_string_lossy();
    format!("{name} ({})", mark.get(..8).unwrap_or(mark))
}
