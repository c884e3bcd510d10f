//! Files through plain commands, for servers without SFTP.

use tokio::io::{AsyncRead, AsyncWrite};

use super::super::archive::{Told, quoted};
use super::super::output::Kept;
use super::super::{Command, ExitStatus};
use super::sftp::Content;
use super::{Ssh, base_name, exec};
use crate::context::Context;
use crate::error::{Error, Result};

impl Ssh {
    /// Whether the server runs commands, and not scp alone.
    pub(super) async fn runs_commands(&self) -> Result<bool> {
        let (connection, channel) = self.open().await?;
        Ok(exec::run(connection, channel, Command::new(":"), false).await?.success())
    }

    pub(super) async fn upload_plainly(&self, content: &mut Content<'_>, path: &str) -> Result<()> {
        let file = quoted(path);
        let mut command = format!("cat > {file}");
        if let Some(mode) = content.mode {
            command.push_str(&format!(" && chmod {mode:o} {file}"));
        }
        let mut reader = Told { inner: &mut content.reader, progress: content.progress.as_mut() };
        self.plain(&format!("upload {path}"), Command::new(command).stdin(&mut reader)).await
    }

    pub(super) async fn download_plainly(
        &self,
        cx: &Context,
        path: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        let mut progress = cx.progress(base_name(path), None);
        let mut sink = Told { inner: sink, progress: Some(&mut progress) };
        self.plain(
            &format!("download {path}"),
            Command::new(format!("cat {}", quoted(path))).stdout(&mut sink),
        )
        .await
    }

    /// Runs a command that must succeed; its complaint becomes the error.
    pub(super) async fn plain(&self, what: &str, command: Command<'_>) -> Result<()> {
        let mut complaint = Kept::complaint();
        let (connection, channel) = self.open().await?;
        let Command { text, stdin, stdout, .. } = command;
        let command = Command {
            text,
            stdin: stdin.map(|stdin| stdin as &mut (dyn AsyncRead + Send + Unpin)),
            stdout: stdout.map(|stdout| stdout as &mut (dyn AsyncWrite + Send + Unpin)),
            stderr: Some(&mut complaint),
        };
        let status = exec::run(connection.clone(), channel, command, false).await?;
        let line = complaint.text();
        match status {
            ExitStatus::Code(0) => Ok(()),
            ExitStatus::Disconnected => Err(connection.broken("the server closed the channel").context(what)),
            status if line.is_empty() => {
                Err(Error::guest(format!("{what}: the command ended with status {}", status.code())))
            }
            _ => Err(Error::guest(format!("{what}: {line}"))),
        }
    }
}
