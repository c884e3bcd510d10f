//! A command that Ansible runs: its streams go through the communicator, its end comes back.

use packer_core::{Command, ExitStatus, Result};
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::io::{AsyncWriteExt, DuplexStream};

use super::remote::Remote;

/// How much input of a command waits to be read.
const PIPE: usize = 256 << 10;

/// What `ssh` says where the connection failed, and not the command; Ansible calls the machine unreachable then.
const CONNECTION_FAILED: u32 = 255;

/// Runs a command; ends early where nobody is at the other end of the channel any more.
pub(super) async fn run(channel: Channel<Msg>, session: Handle, remote: Remote, command: String) {
    let (input, output) = channel.split();
    let (near, far) = tokio::io::duplex(PIPE);
    let ended = tokio::select! {
        ended = execute(&remote, command, far, &output) => ended,
        () = feed(input, near) => return,
    };
    finish(&output, &session, ended).await;
}

async fn execute(
    remote: &Remote,
    command: String,
    mut stdin: DuplexStream,
    output: &ChannelWriteHalf<Msg>,
) -> Result<ExitStatus> {
    let (mut stdout, mut stderr) = (output.make_writer(), output.make_writer_ext(Some(1)));
    let command = Command::new(command).stdin(&mut stdin).stdout(&mut stdout).stderr(&mut stderr);
    remote.communicator.exec(&remote.cx, command).await
}

/// Passes input on, returns when the channel is closed.
async fn feed(mut input: ChannelReadHalf, into: DuplexStream) {
    let mut into = Some(into);
    while let Some(message) = input.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if let Some(open) = &mut into
                    && open.write_all(&data).await.is_err()
                {
                    // The command reads no more; what comes is dropped, as a closed pipe does.
                    into = None;
                }
            }
            ChannelMsg::Eof => into = None,
            ChannelMsg::Close => return,
            _ => {}
        }
    }
}

/// Tells how a channel's work ended, and closes it.
pub(super) async fn finish(output: &ChannelWriteHalf<Msg>, session: &Handle, ended: Result<ExitStatus>) {
    // Who has gone is told nothing.
    let _ = match ended {
        Ok(ExitStatus::Code(code)) => output.exit_status(code.cast_unsigned()).await,
        Ok(ExitStatus::Signal(number)) => match signal(number) {
            Some(name) => {
                let told =
                    session.exit_signal_request(output.id(), name, false, String::new(), String::new());
                told.await.map_err(|()| russh::Error::SendError)
            }
            None => output.exit_status(128_u32.wrapping_add(number.cast_unsigned())).await,
        },
        Ok(ExitStatus::Disconnected) => {
            failed(output, "the connection to the machine broke while the command ran").await
        }
        Err(error) => failed(output, &error.to_string()).await,
    };
    let _ = output.eof().await;
    let _ = output.close().await;
}

async fn failed(output: &ChannelWriteHalf<Msg>, why: &str) -> Result<(), russh::Error> {
    output.extended_data_bytes(1, format!("packer: {why}\n").into_bytes()).await?;
    output.exit_status(CONNECTION_FAILED).await
}

/// The signals that have a name in SSH.
fn signal(number: i32) -> Option<Sig> {
    Some(match number {
        1 => Sig::HUP,
        2 => Sig::INT,
        3 => Sig::QUIT,
        4 => Sig::ILL,
        6 => Sig::ABRT,
        8 => Sig::FPE,
        9 => Sig::KILL,
        11 => Sig::SEGV,
        13 => Sig::PIPE,
        14 => Sig::ALRM,
        15 => Sig::TERM,
        _ => return None,
    })
}
