//! Files through plain commands, for servers without SFTP: `cat` for files, `tar` for folders.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::task::{self, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::SyncIoBridge;

use super::super::tree::LocalTree;
use super::super::{Command, ExitStatus, Globs};
use super::sftp::Content;
use super::{Ssh, base_name, exec};
use crate::context::{Context, Progress};
use crate::error::{Error, Result, os_text};

/// How much of a command's complaint is kept.
const LONGEST_COMPLAINT: usize = 4096;
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
        let unpacking = cx
            .blocking(move |stop| unpack(stop, SyncIoBridge::new(reader), &destination, contents, &exclude));
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
        let mut complaint = Complaint(Vec::new());
        let (connection, channel) = self.open().await?;
        let Command { text, stdin, stdout, .. } = command;
        let command = Command {
            text,
            stdin: stdin.map(|stdin| stdin as &mut (dyn AsyncRead + Send + Unpin)),
            stdout: stdout.map(|stdout| stdout as &mut (dyn AsyncWrite + Send + Unpin)),
            stderr: Some(&mut complaint),
        };
        let status = exec::run(connection.clone(), channel, command, false).await?;
        let text = String::from_utf8_lossy(&complaint.0);
        let line = text.trim();
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

/// Unpacks an archive that the machine made, and nothing outside `destination`.
fn unpack(
    stop: &crate::blocking::Stop,
    archive: impl Read,
    destination: &Path,
    contents: bool,
    exclude: &Globs,
) -> Result<()> {
    let failed = |e: io::Error| Error::provider(format!("reading the machine's archive: {}", os_text(&e)));
    std::fs::create_dir_all(destination).map_err(|e| Error::io("mkdir", destination, e))?;
    let mut modes = Vec::new();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(failed)? {
        stop.check()?;
        let mut entry = entry.map_err(failed)?;
        let relative = inside(&entry.path().map_err(failed)?)?;
        // Patterns are seen from the folder's root, whose name comes first unless its contents were asked for.
        let mut from_root = relative.components();
        if !contents {
            from_root.next();
        }
        let from_root = from_root.as_path();
        if from_root.ancestors().any(|part| part != Path::new("") && exclude.matches(part)) {
            continue;
        }
        let path = destination.join(&relative);
        let mode = entry.header().mode().ok();
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                std::fs::create_dir_all(&path).map_err(|e| Error::io("mkdir", &path, e))?;
                if relative != Path::new("") {
                    modes.push((path, mode));
                }
            }
            tar::EntryType::Link => {
                let Some(first) = entry.link_name().map_err(failed)? else { continue };
                let first = destination.join(inside(&first)?);
                std::fs::copy(&first, &path).map_err(|e| Error::io("open", &first, e))?;
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let mut file = std::fs::File::create(&path).map_err(|e| Error::io("open", &path, e))?;
                io::copy(&mut entry, &mut file).map_err(|e| Error::io("write", &path, e))?;
                modes.push((path, mode));
            }
            other => {
                let name = relative.display();
                return Err(Error::guest(format!("{name} is neither a file nor a folder ({other:?})")));
            }
        }
    }
    // From the inside out: folders that must not be written to come last.
    for (path, mode) in modes.into_iter().rev() {
        set_mode(&path, mode)?;
    }
    Ok(())
}

/// A path of an archive, if it stays inside the folder where it is unpacked.
fn inside(path: &Path) -> Result<PathBuf> {
    let mut relative = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => relative.push(part),
            Component::CurDir => {}
            _ => return Err(Error::guest(format!("the machine's archive contains {}", path.display()))),
        }
    }
    Ok(relative)
}

#[cfg_attr(not(unix), allow(unused_variables))]
fn set_mode(path: &Path, mode: Option<u32>) -> Result<()> {
    #[cfg(unix)]
    if let Some(mode) = mode {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777);
        std::fs::set_permissions(path, permissions).map_err(|e| Error::io("chmod", path, e))?;
    }
    Ok(())
}

fn modified(path: &Path) -> u64 {
    let time = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    time.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |d| d.as_secs())
}

/// A path as one word of the shell, which cannot be taken for an option.
fn quoted(path: &str) -> String {
    match path.starts_with('-') {
        true => quoted_text(&format!("./{path}")),
        false => quoted_text(path),
    }
}

fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A name for the shell in which only the signs of a pattern keep their meaning.
fn pattern(name: &str) -> String {
    let mut word = String::from("./");
    for c in name.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && !"*?[]._-".contains(c) {
            word.push('\\');
        }
        word.push(c);
    }
    word
}

/// The first part of what a command says about its failure.
struct Complaint(Vec<u8>);

impl AsyncWrite for Complaint {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = LONGEST_COMPLAINT.saturating_sub(self.0.len()).min(bytes.len());
        self.0.extend_from_slice(&bytes[..room]);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A stream that tells how much has passed.
struct Told<'a, S: ?Sized> {
    inner: &'a mut S,
    progress: Option<&'a mut Progress>,
}

impl<S: ?Sized> Told<'_, S> {
    fn tell(&mut self, bytes: usize) {
        if let Some(progress) = &mut self.progress {
            progress.advance(bytes as u64);
        }
    }
}

impl<S: AsyncRead + Unpin + ?Sized> AsyncRead for Told<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut *self.inner).poll_read(cx, buffer);
        self.tell(buffer.filled().len() - before);
        result
    }
}

impl<S: AsyncWrite + Unpin + ?Sized> AsyncWrite for Told<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut *self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = result {
            self.tell(written);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_words_of_the_shell() {
        assert_eq!(quoted("it's a b"), r"'it'\''s a b'");
        assert_eq!(quoted("-rf"), "'./-rf'");
        assert_eq!(pattern("a b*;$(x)"), r"./a\ b*\;\$\(x\)");
    }

    #[test]
    fn archives_stay_inside() {
        assert_eq!(inside(Path::new("./a/b")).unwrap(), Path::new("a/b"));
        assert!(inside(Path::new("../a")).is_err() && inside(Path::new("/a")).is_err());
    }
}
