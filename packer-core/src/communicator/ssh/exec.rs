//! Running one command on a channel of its own.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Pty, Sig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::{Command, ExitStatus, StatusLost};
use super::dial::{Connection, granted};
use crate::error::{Error, Result};

/// The stream number of error output.
const STDERR: u32 = 1;
const CHUNK: usize = 256 * 1024;
const FAREWELL_LIMIT: Duration = Duration::from_secs(5);

/// Runs a command; returns when the server has closed its channel and all output is delivered.
pub(super) async fn run(
    connection: Arc<Connection>,
    mut channel: Channel<Msg>,
    command: Command<'_>,
    pty: bool,
) -> Result<ExitStatus> {
    let sent = |result: std::result::Result<(), russh::Error>| {
        result.map_err(|_| connection.broken("the connection is closed"))
    };
    if pty {
        let modes = [(Pty::ECHO, 0), (Pty::TTY_OP_ISPEED, 14400), (Pty::TTY_OP_OSPEED, 14400)];
        sent(channel.request_pty(true, "xterm", 80, 40, 0, 0, &modes).await)?;
        if !granted(&mut channel).await {
            return Err(connection.broken("the server gives no terminal (ssh_pty)"));
        }
    }
    if connection.forwards_agent() {
        // A server that refuses it runs the command all the same.
        sent(channel.agent_forward(false).await)?;
    }
    sent(channel.exec(true, format!("{}\n", command.text)).await)?;
    let (reader, writer) = channel.split();
    let mut running = Running { writer: Some(writer), connection: connection.clone() };
    let result = follow(reader, &running, command).await;
    if result.is_ok() {
        // The server has closed the channel: nothing is left to end.
        running.writer = None;
    }
    match result {
        Ok(Some(status)) => Ok(status),
        // What nobody says is what a broken connection leaves.
        Ok(None) if !connection.stands().await => Ok(ExitStatus::Disconnected),
        Ok(None) => Err(StatusLost::error("the SSH server")),
        Err(Failure::NotStarted) => Err(connection.broken("the server refused to run the command")),
        Err(Failure::Stream(error)) => Err(error),
    }
}

enum Failure {
    NotStarted,
    Stream(Error),
}

/// Moves input and output until the channel is closed; `None` where nobody said how the command ended.
async fn follow(
    reader: ChannelReadHalf,
    running: &Running,
    command: Command<'_>,
) -> Result<Option<ExitStatus>, Failure> {
    let Command { stdin, stdout, stderr, .. } = command;
    let mut output = pin!(receive(reader, stdout, stderr));
    let mut input = pin!(send(running, stdin));
    let mut sending = true;
    // Both are polled by turns, so that a command whose output nobody takes just now can still read.
    poll_fn(|cx| {
        if let std::task::Poll::Ready(status) = output.as_mut().poll(cx) {
            return std::task::Poll::Ready(status);
        }
        if sending && let std::task::Poll::Ready(sent) = input.as_mut().poll(cx) {
            sending = false;
            if let Err(error) = sent {
                return std::task::Poll::Ready(Err(Failure::Stream(error)));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

async fn receive<'a>(
    mut reader: ChannelReadHalf,
    mut stdout: Option<&'a mut (dyn AsyncWrite + Send + Unpin)>,
    mut stderr: Option<&'a mut (dyn AsyncWrite + Send + Unpin)>,
) -> Result<Option<ExitStatus>, Failure> {
    let broken = |e: std::io::Error| {
        let why = crate::error::os_text(&e);
        Failure::Stream(
            Error::provider(format!("the command's output could not be written: {why}")).with_source(e),
        )
    };
    let mut status = None;
    let mut started = false;
    while let Some(message) = reader.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if let Some(stdout) = &mut stdout {
                    stdout.write_all(&data).await.map_err(broken)?;
                }
            }
            ChannelMsg::ExtendedData { data, ext: STDERR } => {
                if let Some(stderr) = &mut stderr {
                    stderr.write_all(&data).await.map_err(broken)?;
                }
            }
            ChannelMsg::Success => started = true,
            ChannelMsg::Failure if !started => return Err(Failure::NotStarted),
            // Data may still follow.
            ChannelMsg::ExitStatus { exit_status } => status = Some(ExitStatus::Code(exit_status as i32)),
            ChannelMsg::ExitSignal { signal_name, .. } => {
                status = Some(ExitStatus::Signal(number(&signal_name)));
            }
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    for sink in [stdout, stderr].into_iter().flatten() {
        sink.flush().await.map_err(broken)?;
    }
    Ok(status)
}

/// Sends the input; the channel's window holds it back while the command does not read.
async fn send(running: &Running, stdin: Option<&mut (dyn AsyncRead + Send + Unpin)>) -> Result<()> {
    let Some(writer) = &running.writer else { return Ok(()) };
    if let Some(stdin) = stdin {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = stdin.read_buf(&mut chunk).await.map_err(|e| {
                let why = crate::error::os_text(&e);
                Error::provider(format!("the command's input could not be read: {why}")).with_source(e)
            })?;
            // A command that does not read to the end, or a connection that is gone, shows in the output.
            if read == 0 || writer.data_bytes(chunk).await.is_err() {
                break;
            }
        }
    }
    let _ = writer.eof().await;
    Ok(())
}

/// A command that runs. Dropping this before the server has closed the channel asks the command to end.
struct Running {
    writer: Option<ChannelWriteHalf<Msg>>,
    connection: Arc<Connection>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(writer), Ok(runtime)) = (self.writer.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let connection = self.connection.clone();
        runtime.spawn(async move {
            let farewell = async {
                let _ = writer.signal(Sig::TERM).await;
                let _ = writer.close().await;
            };
            let _ = tokio::time::timeout(FAREWELL_LIMIT, farewell).await;
            drop(connection);
        });
    }
}

/// The number of a signal, as Linux counts them; 0 for an unknown one.
fn number(signal: &Sig) -> i32 {
    match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(name) => match name.trim_end_matches("@openssh.com") {
            "TRAP" => 5,
            "BUS" => 7,
            "USR2" => 12,
            "STKFLT" => 16,
            "CHLD" => 17,
            "CONT" => 18,
            "STOP" => 19,
            "TSTP" => 20,
            "TTIN" => 21,
            "TTOU" => 22,
            "XCPU" => 24,
            "XFSZ" => 25,
            "SYS" => 31,
            _ => 0,
        },
    }
}
