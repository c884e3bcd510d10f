//! Files through plain commands, for servers without SFTP: `cat` for files, `tar` for folders.

use std::io::{self, Read};
use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::SyncIoBridge;

use super::super::archive::{Layout, Told, modified, pattern, quoted, quoted_text, unpack};
use super::super::output::Kept;
use super::super::tree::LocalTree;
use super::super::{Command, ExitStatus, Globs};
use super::sftp::Content;
use super::{Ssh, base_name, exec};
use crate::context::Context;
use crate::error::{Error, Result, os_text};

/// What may be on the way between a command and the thread that reads or writes the archive.
const PIPE: usize = 1 << 20;

impl Ssh {
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

    pub(super) async fn upload_dir_plainly(
        &self,
        cx: &Context,
        tree: LocalTree,
        destination: &str,
    ) -> Result<()> {
        let what = format!("upload {destination}");
        let into = quoted(destination);
        let named = match &tree.name {
            Some(name) => format!("if [ -d {into} ]; then d={into}/{}; else d={into}; fi", quoted_text(name)),
            None => format!("d={into}"),
        };
        let command = format!(
            "command -v tar >/dev/null || {{ echo 'the machine has neither SFTP nor tar' >&2; exit 127; }}; {named}; \
             if [ ! -d \"$d\" ]; then mkdir \"$d\" && chmod {:o} \"$d\" || exit; fi; exec tar -C \"$d\" -xpof -",
            tree.mode | 0o700
        );
        let title = tree.name.clone().unwrap_or_else(|| base_name(destination).to_owned());
        let mut progress = cx.progress(title, Some(tree.total));
        let (mut reader, writer) = tokio::io::simplex(PIPE);
        let packing = cx.blocking(move |stop| {
            let mut archive = tar::Builder::new(SyncIoBridge::new(writer));
            for entry in &tree.entries {
                stop.check()?;
                let failed = |e: io::Error| Error::io("open", &entry.path, e);
                let mut header = tar::Header::new_gnu();
                header.set_mode(entry.mode);
                header.set_mtime(modified(&entry.path));
                match entry.size {
                    None => {
                        header.set_entry_type(tar::EntryType::Directory);
                        header.set_size(0);
                        archive.append_data(&mut header, &entry.relative, io::empty()).map_err(failed)?;
                    }
                    Some(_) => {
                        let file = std::fs::File::open(&entry.path).map_err(failed)?;
                        let size = file.metadata().map_err(failed)?.len();
                        header.set_size(size);
                        // A file that grows meanwhile must not run over its entry; one that shrinks is filled up.
                        let content = file.chain(io::repeat(0)).take(size);
                        archive.append_data(&mut header, &entry.relative, content).map_err(failed)?;
                    }
                }
            }
            let mut pipe = archive.into_inner().map_err(|e| Error::provider(os_text(&e)))?;
            pipe.shutdown().map_err(|e| Error::provider(os_text(&e)))
        });
        let mut reader = Told { inner: &mut reader, progress: Some(&mut progress) };
        let unpacking = self.plain(&what, Command::new(command).stdin(&mut reader));
        // The command's complaint says more than the pipe that broke because of it.
        let (packed, unpacked) = first_failure(packing, unpacking).await;
        unpacked.and(packed)
    }

    pub(super) async fn download_dir_plainly(
        &self,
        cx: &Context,
        source: &str,
        destination: &Path,
        exclude: &Globs,
    ) -> Result<()> {
        let base = base_name(source);
        let contents = source.ends_with('/') || matches!(base, "." | ".." | "/");
        let (folder, what) = match source.trim_end_matches('/').rsplit_once('/') {
            _ if contents => (quoted(source), ".".to_owned()),
            Some(("", _)) => ("/".to_owned(), pattern(base)),
            Some((parent, _)) => (quoted(parent), pattern(base)),
            None => (".".to_owned(), pattern(base)),
        };
        let command = format!(
            "command -v tar >/dev/null || {{ echo 'the machine has neither SFTP nor tar' >&2; exit 127; }}; \
             cd {folder} && exec tar -chf - {what}"
        );
        let mut progress = cx.progress(base, None);
        let (reader, mut writer) = tokio::io::simplex(PIPE);
        let (destination, exclude) = (destination.to_path_buf(), exclude.clone());
        let layout = if contents { Layout::Contents } else { Layout::Folder };
        let unpacking =
            cx.blocking(move |stop| unpack(stop, SyncIoBridge::new(reader), &destination, layout, &exclude));
        let packing = async {
            let mut sink = Told { inner: &mut writer, progress: Some(&mut progress) };
            let result =
                self.plain(&format!("download {source}"), Command::new(command).stdout(&mut sink)).await;
            // The end of the archive: without it the unpacking would wait on.
            drop(writer);
            result
        };
        let (unpacked, packed) = first_failure(unpacking, packing).await;
        packed.and(unpacked)
    }

    /// Runs a command that must succeed; its complaint becomes the error.
    async fn plain(&self, what: &str, command: Command<'_>) -> Result<()> {
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

/// Runs both to their ends, but leaves the first where the second has failed: nobody serves its pipe any more.
async fn first_failure(
    local: impl Future<Output = Result<()>>,
    remote: impl Future<Output = Result<()>>,
) -> (Result<()>, Result<()>) {
    let (mut local, mut remote) = (std::pin::pin!(local), std::pin::pin!(remote));
    tokio::select! {
        biased;
        done = &mut remote => match done {
            Ok(()) => (local.await, Ok(())),
            Err(e) => (Ok(()), Err(e)),
        },
        done = &mut local => match done {
            Ok(()) => (Ok(()), remote.await),
            Err(e) => {
                // The command may be about to say why.
                let limit = std::time::Duration::from_secs(2);
                match tokio::time::timeout(limit, remote).await {
                    Ok(Err(why)) => (Err(e), Err(why)),
                    _ => (Err(e), Ok(())),
                }
            }
        },
    }
}
