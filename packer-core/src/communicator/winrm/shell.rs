//! A shell in the machine and the command in it. Neither stays behind, however this ends.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::{Command, ExitStatus, StatusLost};
use super::client::Client;
use super::failure::{Class, Failure};
use super::soap::{Answer, MOST_SENT, Request, is_carried};
use crate::context::Context;
use crate::error::{Error, Result, os_text};

/// How long the end of a shell is waited for: a machine may be going down with it.
const END_LIMIT: Duration = Duration::from_secs(3);
/// How long it may take where nobody waits.
const LATE_END_LIMIT: Duration = Duration::from_secs(20);
/// How long after a question what the command has printed the next one comes at the soonest, where the answer was nothing.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A shell of ours in the machine. Dropped it is ended by a task of a bounded time.
pub(super) struct Shell {
    client: Client,
    /// Its name in the machine; `None` where it is gone.
    id: Option<String>,
    /// The command in it that has not ended.
    running: Option<String>,
}

impl Shell {
    /// Makes one.
    pub(super) async fn open(client: &Client) -> Result<Self, Failure> {
        let answer = client.call(Request::Create).await?;
        let id = answer.shell.filter(|id| !id.is_empty()).ok_or_else(|| nameless(client, "shell"))?;
        Ok(Self { client: client.clone(), id: Some(id), running: None })
    }

    /// Makes one, unless the work is cancelled meanwhile.
    pub(super) async fn open_for(cx: &Context, client: &Client) -> Result<Self> {
        cx.until_cancelled(async { Self::open(client).await.map_err(Failure::into_error) }).await
    }

    /// Starts a command.
    pub(super) async fn start(&mut self, text: &str) -> Result<(), Failure> {
        if !is_carried(text) {
            let text = "the command contains a control character, which WinRM cannot carry";
            return Err(Failure::new(Class::Never, text));
        }
        let answer = self.client.call(Request::Command { shell: self.id()?, text }).await?;
        let id = answer.command.filter(|id| !id.is_empty());
        self.running = Some(id.ok_or_else(|| nameless(&self.client, "command"))?);
        Ok(())
    }

    /// Gives the command something to read. What the server says to that is no failure: a command that has ended reads
    /// nothing any more, and its exit code tells why.
    pub(super) async fn send(&self, bytes: &[u8], last: bool) -> Result<Sent, Failure> {
        let request = Request::Send { shell: self.id()?, command: self.command()?, bytes, last };
        match self.client.call(request).await {
            Ok(_) => Ok(Sent::Taken),
            Err(failure) if matches!(failure.class, Class::Says(_)) => Ok(Sent::Refused),
            Err(failure) => Err(failure),
        }
    }

    /// What the command has printed since, once there is something, or its end.
    pub(super) async fn receive(&self) -> Result<Answer, Failure> {
        loop {
            let asked = Instant::now();
            let request = Request::Receive { shell: self.id()?, command: self.command()? };
            match self.client.call(request).await {
                Err(failure) if failure.is_patience() => {}
                Ok(answer) if answer.is_empty() => {}
                answer => return answer,
            }
            // A server holds the question until there is something to say. One that does not is not asked for ever faster.
            tokio::time::sleep(ASK_AGAIN.saturating_sub(asked.elapsed())).await;
        }
    }

    /// Notes that the command has ended, so that another one can be started.
    pub(super) fn ended(&mut self) {
        self.running = None;
    }

    /// Ends it, and what still runs in it.
    pub(super) async fn close(mut self) {
        if let Some(id) = self.id.take() {
            let end = end(self.client.clone(), id, self.running.take());
            // Where it takes longer it goes on behind our back.
            let _ = tokio::time::timeout(END_LIMIT, tokio::spawn(end)).await;
        }
    }

    /// There is nothing to end: the machine is gone, or was started anew.
    pub(super) fn lost(mut self) {
        self.id = None;
        self.client.forget();
    }

    fn id(&self) -> Result<&str, Failure> {
        self.id.as_deref().ok_or_else(|| nameless(&self.client, "shell"))
    }

    fn command(&self) -> Result<&str, Failure> {
        self.running.as_deref().ok_or_else(|| nameless(&self.client, "command"))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) {
            drop(runtime.spawn(end(self.client.clone(), id, self.running.take())));
        }
    }
}

/// Ends a shell. A command that runs in it is ended first: with some versions of Windows it would go on.
async fn end(client: Client, shell: String, running: Option<String>) {
    let work = async {
        if let Some(command) = &running {
            let _ = client.call(Request::Terminate { shell: &shell, command }).await;
        }
        let _ = client.call(Request::Delete { shell: &shell }).await;
    };
    let _ = tokio::time::timeout(LATE_END_LIMIT, work).await;
}

fn nameless(client: &Client, what: &str) -> Failure {
    let settings = client.settings();
    Failure::new(Class::Http, format!("the server gave the {what} no name")).at(&settings.host, settings.port)
}

/// What became of bytes that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Taken,
    /// The command reads no more.
    Refused,
}

/// How a command ended of which nobody knows more: its connection broke, or the machine does not know it any more.
pub(super) fn is_gone(failure: &Failure) -> bool {
    /// The machine does not know the shell: it was started anew.
    const NO_SHELL: u32 = 0x8033_805B;
    failure.is_loss() || failure.class == Class::Says(NO_SHELL)
}

/// Runs a command with its streams.
pub(super) async fn run(cx: &Context, client: &Client, command: Command<'_>) -> Result<ExitStatus> {
    let mut shell = Shell::open_for(cx, client).await?;
    let done = cx.until_cancelled(stream(&mut shell, command)).await;
    match &done {
        Ok(ExitStatus::Disconnected) => shell.lost(),
        _ => shell.close().await,
    }
    done
}

async fn stream(shell: &mut Shell, command: Command<'_>) -> Result<ExitStatus> {
    let Command { text, stdin, mut stdout, mut stderr } = command;
    match shell.start(&text).await {
        Ok(()) => {}
        // It may have been started.
        Err(failure) if is_gone(&failure) && failure.class != Class::Refused => {
            return Ok(ExitStatus::Disconnected);
        }
        Err(failure) => return Err(failure.into_error()),
    }
    let running = &*shell;
    let done = async {
        let rest = begin(running, stdin).await?;
        let input = async {
            if let Some(rest) = rest
                && let Err(stopped) = write(running, rest).await
            {
                return stopped;
            }
            std::future::pending().await
        };
        let output = read(running, &mut stdout, &mut stderr);
        // A command that prints while it reads waits until somebody takes what it prints.
        tokio::select! {
            biased;
            stopped = input => Err(stopped),
            done = output => done,
        }
    };
    match done.await {
        Ok(status) => {
            shell.ended();
            Ok(status)
        }
        Err(Stopped::Server(failure)) if is_gone(&failure) => Ok(ExitStatus::Disconnected),
        Err(Stopped::Server(failure)) => Err(failure.into_error()),
        Err(Stopped::Ours(error)) => Err(error),
    }
}

/// Why a command is not waited for any more.
enum Stopped {
    Server(Failure),
    Ours(Error),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Server(failure)
    }
}

/// What a command reads.
type Input<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// Gives a command the beginning of its input; what is left of it then. Without any it reads the end of it at once.
async fn begin<'a>(shell: &Shell, input: Option<Input<'a>>) -> Result<Option<Input<'a>>, Stopped> {
    let bytes = match input {
        Some(input) => Some((piece(input).await?, input)),
        None => None,
    };
    match bytes {
        Some((bytes, input)) if !bytes.is_empty() => {
            Ok((shell.send(&bytes, false).await? == Sent::Taken).then_some(input))
        }
        _ => {
            shell.send(&[], true).await?;
            Ok(None)
        }
    }
}

/// Gives a command the rest of its input, and the end of it.
async fn write(shell: &Shell, input: Input<'_>) -> Result<(), Stopped> {
    loop {
        let bytes = piece(input).await?;
        if shell.send(&bytes, bytes.is_empty()).await? == Sent::Refused || bytes.is_empty() {
            return Ok(());
        }
    }
}

/// The next piece of what there is to read; at the end an empty one.
async fn piece(input: &mut (dyn AsyncRead + Send + Unpin)) -> Result<Vec<u8>, Stopped> {
    let mut buffer = Vec::with_capacity(MOST_SENT);
    let read = input.take(MOST_SENT as u64).read_buf(&mut buffer).await;
    read.map_err(|e| Stopped::Ours(Error::user(format!("its input: {}", os_text(&e)))))?;
    Ok(buffer)
}

/// Delivers what a command prints until it ends.
async fn read<'a>(
    shell: &Shell,
    stdout: &mut Option<&'a mut (dyn AsyncWrite + Send + Unpin)>,
    stderr: &mut Option<&'a mut (dyn AsyncWrite + Send + Unpin)>,
) -> Result<ExitStatus, Stopped> {
    loop {
        let answer = shell.receive().await?;
        for (sink, bytes) in [(&mut *stdout, &answer.stdout), (&mut *stderr, &answer.stderr)] {
            if let Some(sink) = sink {
                let written = async {
                    sink.write_all(bytes).await?;
                    sink.flush().await
                };
                written.await.map_err(|e| {
                    Stopped::Ours(Error::user(format!("what a command prints is not taken: {}", os_text(&e))))
                })?;
            }
        }
        if answer.done {
            return match answer.exit_code {
                Some(code) => Ok(ExitStatus::Code(code)),
                None => Err(Stopped::Ours(StatusLost::error("the WinRM server"))),
            };
        }
    }
}
