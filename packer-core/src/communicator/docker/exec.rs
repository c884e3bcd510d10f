//! Runs commands in a container.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error as EngineError;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::{Command, ExitStatus};
use super::Inner;
use crate::error::{Error, Result, os_text};

/// The most output that is taken over at once, in bytes.
const OUTPUT: usize = 1 << 20;

/// How much input is handed over at once, in bytes.
const INPUT: usize = 128 * 1024;

/// Runs a program with its arguments as a user (empty: the user of the image).
pub(super) async fn run(
    inner: &Inner,
    words: Vec<String>,
    user: String,
    command: Command<'_>,
) -> Result<ExitStatus> {
    let Command { stdin, mut stdout, mut stderr, .. } = command;
    let tty = inner.options.pty;
    let options = CreateExecOptions {
        cmd: Some(words),
        user: Some(user).filter(|user| !user.is_empty()),
        // Without input to attach the command reads its end at once.
        attach_stdin: Some(stdin.is_some()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(tty),
        ..CreateExecOptions::default()
    };
    let (api, pieces) = inner.client.in_pieces()?;
    let what = "run a command in the container";
    let id = match api.create_exec(&inner.id, options).await {
        Ok(created) => created.id,
        Err(e) => return Err(inner.error(what, &e).await),
    };
    let start = StartExecOptions { detach: false, tty, output_capacity: Some(OUTPUT) };
    let (mut output, input) = match api.start_exec(&id, Some(start)).await {
        Ok(StartExecResults::Attached { output, input }) => (output, input),
        Ok(StartExecResults::Detached) => return Err(Error::internal("the command was started detached")),
        Err(e) => return Err(inner.error(what, &e).await),
    };
    let feeding = feed(stdin, input);
    let reading = async {
        while let Some(piece) = output.next().await {
            let (sink, bytes) = match pieces.take(what, piece) {
                Ok(LogOutput::StdErr { message }) => (&mut stderr, message),
                Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => (&mut stdout, message),
                Ok(LogOutput::StdIn { .. }) => continue,
                Err(error) if pieces.exceeded() => return Err(error),
                // Whether the engine is still there shows when it is asked for the exit code.
                Err(_) => break,
            };
            if let Some(sink) = sink {
                let written = sink.write_all(&bytes).await;
                written.map_err(|e| Error::provider(format!("{what}: its output: {}", os_text(&e))))?;
            }
        }
        Ok::<(), Error>(())
    };
    // The end of the output is the end of the command; whether it has read all its input does not matter.
    tokio::pin!(feeding, reading);
    let mut fed = false;
    loop {
        tokio::select! {
            result = &mut reading => { let () = result?; break }
            result = &mut feeding, if !fed => { fed = true; result? }
        }
    }
    exit_status(inner, &id).await
}

/// Hands the input over and closes it.
async fn feed(
    stdin: Option<&mut (dyn AsyncRead + Send + Unpin)>,
    mut input: std::pin::Pin<Box<dyn AsyncWrite + Send>>,
) -> Result<()> {
    let Some(stdin) = stdin else {
        // The connection must stay open as long as the command runs.
        return std::future::pending().await;
    };
    let mut buffer = vec![0; INPUT];
    loop {
        let read = stdin.read(&mut buffer).await;
        let read = read.map_err(|e| Error::user(format!("the command's input: {}", os_text(&e))))?;
        // A command that reads no more is no failure: its exit code counts.
        if read == 0 || input.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = input.shutdown().await;
    std::future::pending().await
}

async fn exit_status(inner: &Inner, id: &str) -> Result<ExitStatus> {
    let mut pause = Duration::from_millis(2);
    loop {
        match inner.client.api().inspect_exec(id).await {
            Ok(found) if found.running != Some(true) => {
                return Ok(match found.exit_code {
                    Some(code) => ExitStatus::Code(i32::try_from(code).unwrap_or(-1)),
                    None => ExitStatus::Disconnected,
                });
            }
            // The output is closed a moment before the end is noted, or the command has closed it itself.
            Ok(_) => {}
            // The container is gone, and the command with it.
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => {
                return Ok(ExitStatus::Disconnected);
            }
            Err(e) => {
                let error = inner.client.error("ask for the command's exit code", &e);
                return if error.is_retryable() { Ok(ExitStatus::Disconnected) } else { Err(error) };
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}
