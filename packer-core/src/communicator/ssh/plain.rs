//! Files through plain commands, for servers without SFTP.

use tokio::io::{AsyncRead, AsyncWrite};

use super::super::archive::{Told, quoted};
use super::super::output::Kept;
use super::super::{Command, ExitStatus};
use super::sftp::Content;
use super::{Ssh, base_name, exec};
use crate::context::Context;
use crate::error::{Error, Result};

/// Writes a file: path, mode, the name it has until it is whole, size. One that is there is written in its place.
const WRITE: &str = concat!(
    r#"bits() { test -z "$m" || chmod "$m" "$1"; }; f=$1 m=$2 t=$3 s=$4; "#,
    r#"if test -e "$f" || test -h "$f"; then cat >"$f" && bits "$f"; else "#,
    r#"cat >"$t" && { test -z "$s" || test "$(($(wc -c <"$t")))" = "$s"; } && bits "$t" && mv -f "$t" "$f" "#,
    r#"|| { rm -f "$t"; exit 1; }; fi"#,
);

impl Ssh {
    /// Whether the server runs commands, and not scp alone.
    pub(super) async fn runs_commands(&self) -> Result<bool> {
        let (connection, channel) = self.open().await?;
        Ok(exec::run(connection, channel, Command::new(":"), false).await?.success())
    }

    pub(super) async fn upload_plainly(&self, content: &mut Content<'_>, path: &str) -> Result<()> {
        let mode = content.mode.map(|mode| format!("{mode:o}")).unwrap_or_default();
        let size = content.size.map(|size| size.to_string()).unwrap_or_default();
        let folder = path.rfind('/').map_or("", |slash| &path[..=slash]);
        let part = quoted(&format!("{folder}.packer-{}", uuid::Uuid::new_v4().simple()));
        let command = format!("/bin/sh -c '{WRITE}' sh {} '{mode}' {part} '{size}'", quoted(path));
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
