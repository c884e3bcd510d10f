//! Files by scp, for servers that have nothing else: the protocol that `scp -t` and `scp -f` speak on their standard
//! streams, as OpenSSH's `scp.c` does.

use std::path::{Path, PathBuf};

use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream,
};

use super::super::archive::{pattern, quoted};
use super::super::output::Kept;
use super::super::tree::{Entry, LocalTree, Unfinished};
use super::super::{Command, ExitStatus, Globs};
use super::sftp::{CHUNK, Content, came_short, fill};
use super::sftp_dir::{local_name, set_mode};
use super::{Ssh, base_name, exec};
use crate::context::{Context, Progress};
use crate::error::{Error, Result, os_text};

/// What may be on the way in each direction.
const PIPE: usize = 1 << 20;
/// The longest line that a server may send, in bytes.
const LONGEST_LINE: u64 = 64 << 10;
/// How deep folders may lie in each other.
pub(super) const DEEPEST: usize = 1000;

/// What is wrong with a conversation.
enum Trouble {
    /// The other side does not speak scp, or has nothing to speak it.
    Stranger,
    /// It has ended before it should.
    Ended,
    Told(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

type Talk<T = ()> = std::result::Result<T, Trouble>;

/// Both streams of a command that speaks scp.
struct Wire {
    stream: BufReader<DuplexStream>,
    /// Whether the other side has said something that only scp says.
    begun: bool,
}

impl Wire {
    async fn send(&mut self, bytes: &[u8]) -> Talk {
        // What the other side said before it went is still to be read.
        self.stream.write_all(bytes).await.map_err(|_| Trouble::Ended)
    }

    async fn byte(&mut self) -> Talk<u8> {
        self.stream.read_u8().await.map_err(|_| Trouble::Ended)
    }

    async fn line(&mut self) -> Talk<String> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(LONGEST_LINE).read_until(b'\n', &mut line).await;
        match read {
            Ok(_) if line.ends_with(b"\n") => {
                Ok(String::from_utf8_lossy(&line[..line.len() - 1]).into_owned())
            }
            Ok(_) if line.len() as u64 == LONGEST_LINE => Err(Trouble::Stranger),
            _ => Err(Trouble::Ended),
        }
    }

    /// Waits until the other side has taken what was sent.
    async fn taken(&mut self) -> Talk {
        match self.byte().await? {
            0 => {
                self.begun = true;
                Ok(())
            }
            1 | 2 => Err(self.complaint().await),
            _ => Err(Trouble::Stranger),
        }
    }

    async fn complaint(&mut self) -> Trouble {
        match self.line().await {
            Ok(line) => Trouble::Told(Error::guest(line.trim_start_matches("scp: ").to_owned())),
            Err(trouble) => trouble,
        }
    }

    async fn give(&mut self, line: &str) -> Talk {
        self.send(line.as_bytes()).await?;
        self.taken().await
    }

    /// Gives a file's head and content; the content must have as many bytes as were said.
    async fn give_file(
        &mut self,
        head: &str,
        size: u64,
        reader: &mut (dyn AsyncRead + Send + Unpin),
        progress: Option<&mut Progress>,
        path: &str,
    ) -> Talk {
        self.give(head).await?;
        let (mut buffer, mut sent) = (Vec::with_capacity(CHUNK), 0);
        let mut reader = reader.take(size);
        let mut progress = progress;
        loop {
            fill(&mut reader, &mut buffer).await?;
            if buffer.is_empty() {
                break;
            }
            self.send(&buffer).await?;
            sent += buffer.len() as u64;
            if let Some(progress) = &mut progress {
                progress.advance(buffer.len() as u64);
            }
        }
        came_short(Some(size), sent, path)?;
        self.give("\0").await
    }

    /// The next head that the other side gives: its kind and the rest of its line; `None` at the end.
    async fn next(&mut self) -> Talk<Option<(u8, String)>> {
        self.send(b"\0").await?;
        match self.byte().await {
            Err(Trouble::Ended) => Ok(None),
            Ok(1 | 2) => Err(self.complaint().await),
            Ok(kind @ (b'C' | b'D' | b'E')) => {
                let line = self.line().await?;
                self.begun |= kind == b'E' || head(&line).is_ok();
                Ok(Some((kind, line)))
            }
            Ok(_) => Err(Trouble::Stranger),
            Err(trouble) => Err(trouble),
        }
    }

    /// Takes the content of a file whose head has come.
    async fn take_file(
        &mut self,
        size: u64,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
        path: &str,
        progress: &mut Progress,
    ) -> Talk {
        self.send(b"\0").await?;
        let local = |e: std::io::Error| {
            Error::provider(format!("download {path}: writing: {}", os_text(&e))).with_source(e)
        };
        let mut left = size;
        while left > 0 {
            let piece = self.stream.fill_buf().await.map_err(|_| Trouble::Ended)?;
            if piece.is_empty() {
                return Err(Trouble::Ended);
            }
            let count = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            sink.write_all(&piece[..count]).await.map_err(local)?;
            self.stream.consume(count);
            left -= count as u64;
            progress.advance(count as u64);
        }
        sink.flush().await.map_err(local)?;
        self.taken().await
    }
}

/// The head of a file or folder: permission bits, size, name.
fn head(line: &str) -> Talk<(u32, u64, &str)> {
    let mut words = line.splitn(3, ' ');
    let bits = words.next().and_then(|bits| u32::from_str_radix(bits, 8).ok());
    let size = words.next().and_then(|size| size.parse().ok());
    match (bits, size, words.next()) {
        (Some(bits), Some(size), Some(name)) => Ok((bits & 0o777, size, name)),
        _ => Err(Trouble::Stranger),
    }
}

/// A name as it may stand in a head.
fn one_line(name: &str) -> Result<&str> {
    match name.contains('\n') {
        true => Err(Error::user(format!("{name:?} has a line break, which scp cannot bring"))),
        false => Ok(name),
    }
}

impl Ssh {
    /// Runs `scp` on the machine and talks with it. `None` where there is no scp; nothing has happened then.
    async fn scp<T>(
        &self,
        what: &str,
        arguments: &str,
        talk: impl AsyncFnOnce(&mut Wire) -> Talk<T>,
    ) -> Result<Option<T>> {
        let (near, far) = tokio::io::duplex(PIPE);
        let (mut stdin, mut stdout) = tokio::io::split(far);
        let mut complaint = Kept::complaint();
        let (connection, channel) = self.open().await?;
        let running = async {
            let command = Command::new(format!("scp {arguments}"))
                .stdin(&mut stdin)
                .stdout(&mut stdout)
                .stderr(&mut complaint);
            let status = exec::run(connection.clone(), channel, command, false).await;
            // The end of what it says, and of what it hears.
            drop((stdin, stdout));
            status
        };
        let talking = async {
            let mut wire = Wire { stream: BufReader::with_capacity(CHUNK, near), begun: false };
            let said = talk(&mut wire).await;
            let _ = wire.stream.shutdown().await;
            // Whatever else it says, so that it can end.
            let _ = tokio::io::copy(&mut wire.stream, &mut tokio::io::sink()).await;
            match said {
                Err(Trouble::Stranger) if wire.begun => {
                    Err(Trouble::Told(Error::guest("the machine's scp says what is no scp")))
                }
                said => said,
            }
        };
        let (status, said) = tokio::join!(running, talking);
        let complaint = complaint.text();
        let ended = |status: ExitStatus| match status {
            ExitStatus::Disconnected => connection.broken("the server closed the channel").context(what),
            status if complaint.is_empty() => {
                Error::guest(format!("{what}: scp ended with status {}", status.code()))
            }
            _ => Error::guest(format!("{what}: {complaint}")),
        };
        match (said, status) {
            (Err(Trouble::Told(error)), _) => Err(error.context(what)),
            (_, Ok(ExitStatus::Code(127))) | (Err(Trouble::Stranger), Ok(_)) => Ok(None),
            (_, Err(error)) => Err(error),
            (Ok(value), Ok(ExitStatus::Code(0))) => Ok(Some(value)),
            (_, Ok(status)) => Err(ended(status)),
        }
    }

    /// Writes a file; `None` where there is no scp.
    pub(super) async fn upload_by_scp(
        &self,
        cx: &Context,
        content: &mut Content<'_>,
        path: &str,
    ) -> Result<Option<()>> {
        let name = one_line(base_name(path))?;
        let (size, spooled) = match content.size {
            Some(size) if size > 0 => (size, None),
            // Its length stands before the content: what does not tell it is read first.
            _ => {
                let file = cx.temp_file("packer-upload", "", 0o600, b"")?;
                let failed = |e| Error::io("write", file.path(), e);
                let mut writer = tokio::fs::File::create(file.path()).await.map_err(failed)?;
                let size = tokio::io::copy(&mut content.reader, &mut writer).await.map_err(failed)?;
                writer.flush().await.map_err(failed)?;
                (size, Some(file))
            }
        };
        if let Some(file) = &spooled {
            let reader = tokio::fs::File::open(file.path()).await;
            content.reader = Box::new(reader.map_err(|e| Error::io("open", file.path(), e))?);
        }
        // With a time before it the bits of a file are set that is there.
        let asked = content.is_asked_for();
        let options = if asked { "-pt" } else { "-t" };
        let head = format!("C{:04o} {size} {name}\n", content.mode.unwrap_or(0o644));
        let what = format!("upload {path}");
        self.scp(&what, &format!("{options} {}", quoted(path)), async |wire: &mut Wire| {
            wire.taken().await?;
            if asked {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let now = now.map_or(0, |now| now.as_secs());
                wire.give(&format!("T{now} 0 {now} 0\n")).await?;
            }
            wire.give_file(&head, size, &mut content.reader, content.progress.as_mut(), path).await
        })
        .await
    }

    /// Copies a folder by the rules of [`upload_dir`](super::super::Communicator::upload_dir); `None` where there is no scp.
    pub(super) async fn upload_dir_by_scp(
        &self,
        cx: &Context,
        tree: &LocalTree,
        destination: &str,
    ) -> Result<Option<()>> {
        let what = format!("upload {destination}");
        let title = tree.name.clone().unwrap_or_else(|| base_name(destination).to_owned());
        // Told only once there is somebody to talk to.
        let progress = || cx.progress(title.as_str(), Some(tree.total));
        let target = quoted(destination);
        if tree.name.is_none() {
            // Into a folder that is there; without one, what is sent becomes it.
            let arguments = format!("-rtd {target}");
            let sent = self.scp(&what, &arguments, async |wire: &mut Wire| {
                wire.taken().await?;
                give_tree(wire, tree, &mut progress()).await
            });
            match sent.await {
                Err(e) if e.message().to_lowercase().contains("no such file") => {}
                done => return done,
            }
        }
        let name = one_line(tree.name.as_deref().unwrap_or(base_name(destination)))?;
        self.scp(&what, &format!("-rt {target}"), async |wire: &mut Wire| {
            wire.taken().await?;
            wire.give(&format!("D{:04o} 0 {name}\n", tree.mode)).await?;
            give_tree(wire, tree, &mut progress()).await?;
            wire.give("E\n").await
        })
        .await
    }

    /// Copies a file's content into a sink; `None` where there is no scp.
    pub(super) async fn download_by_scp(
        &self,
        cx: &Context,
        path: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<Option<()>> {
        let what = format!("download {path}");
        let arguments = format!("-f {}", quoted(path));
        let copied = self.scp(&what, &arguments, async |wire: &mut Wire| {
            let Some((kind, line)) = wire.next().await? else { return Err(Trouble::Ended) };
            if kind != b'C' {
                return Err(Error::guest("it is a folder").into());
            }
            let (_, size, _) = head(&line)?;
            let mut progress = cx.progress(base_name(path), Some(size));
            wire.take_file(size, sink, path, &mut progress).await?;
            // So that it ends with success.
            wire.send(b"\0").await
        });
        match copied.await {
            // Commands can read devices too.
            Err(e) if e.message().ends_with("not a regular file") => Ok(None),
            copied => copied,
        }
    }

    /// Copies what `source` names by the rules of [`download_dir`](super::super::Communicator::download_dir); `None` where
    /// there is no scp.
    pub(super) async fn download_dir_by_scp(
        &self,
        cx: &Context,
        source: &str,
        destination: &Path,
        exclude: &Globs,
    ) -> Result<Option<()>> {
        let base = base_name(source);
        let contents = source.ends_with('/') || matches!(base, "." | ".." | "/");
        let words = match source.trim_end_matches('/').rsplit_once('/') {
            _ if contents => quoted(source),
            Some((parent, _)) => format!("{}/{}", quoted(parent), pattern(base)),
            None => pattern(base),
        };
        tokio::fs::create_dir_all(destination).await.map_err(|e| Error::io("mkdir", destination, e))?;
        let what = format!("download {source}");
        self.scp(&what, &format!("-rf {words}"), async |wire: &mut Wire| {
            let Some(first) = wire.next().await? else { return Err(Trouble::Ended) };
            take_tree(wire, first, destination, contents, exclude, &mut cx.progress(base, None)).await
        })
        .await
    }
}

/// Gives what a folder contains.
async fn give_tree(wire: &mut Wire, tree: &LocalTree, progress: &mut Progress) -> Talk {
    let mut entries: Vec<&Entry> = tree.entries.iter().collect();
    // Each folder is followed by all that is in it.
    entries.sort_by(|a, b| a.relative.split('/').cmp(b.relative.split('/')));
    let mut inside: Vec<&str> = Vec::new();
    for entry in entries {
        let (folder, name) = entry.relative.rsplit_once('/').unwrap_or(("", &entry.relative));
        while inside.last().copied().unwrap_or("") != folder {
            inside.pop();
            wire.give("E\n").await?;
        }
        let name = one_line(name)?;
        let Some(size) = entry.size else {
            wire.give(&format!("D{:04o} 0 {name}\n", entry.mode)).await?;
            inside.push(&entry.relative);
            continue;
        };
        let file = tokio::fs::File::open(&entry.path).await;
        let mut file = file.map_err(|e| Error::io("open", &entry.path, e))?;
        let head = format!("C{:04o} {size} {name}\n", entry.mode);
        wire.give_file(&head, size, &mut file, Some(&mut *progress), &entry.relative).await?;
    }
    for _ in inside {
        wire.give("E\n").await?;
    }
    Ok(())
}

/// Takes folders and files until the other side has no more. With `contents` the outermost folder is the destination.
async fn take_tree(
    wire: &mut Wire,
    first: (u8, String),
    destination: &Path,
    contents: bool,
    exclude: &Globs,
    progress: &mut Progress,
) -> Talk {
    // The folders one is in, with their places, the paths that patterns see, and the bits they get in the end.
    let mut inside: Vec<(Option<PathBuf>, PathBuf, Option<u32>)> = Vec::new();
    let mut coming = Some(first);
    loop {
        let Some((kind, line)) = coming.take() else {
            coming = wire.next().await?;
            if coming.is_none() {
                return Ok(());
            }
            continue;
        };
        if kind == b'E' {
            if let Some((Some(path), _, mode)) = inside.pop() {
                set_mode(&path, mode).await?;
            }
            continue;
        }
        let (mode, size, name) = head(&line)?;
        let name = local_name(name)?;
        let outermost = inside.is_empty();
        let (folder, relative) = match inside.last() {
            Some((folder, relative, _)) => (folder.clone(), relative.join(name)),
            None => (Some(destination.to_owned()), PathBuf::new()),
        };
        // Patterns are seen from the folder's root.
        let left_out = !relative.as_os_str().is_empty() && exclude.matches(&relative);
        let path = folder.filter(|_| !left_out).map(|folder| folder.join(name));
        if kind == b'D' {
            if inside.len() == DEEPEST {
                return Err(Error::guest(format!("folders lie deeper than {DEEPEST} in each other")).into());
            }
            if outermost && contents {
                inside.push((Some(destination.to_owned()), PathBuf::new(), None));
                continue;
            }
            let mut new = None;
            if let Some(path) = &path {
                match tokio::fs::create_dir(path).await {
                    Ok(()) => new = Some(mode),
                    Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => {}
                    Err(e) => return Err(Error::io("mkdir", path, e).into()),
                }
            }
            inside.push((path, relative, new));
            continue;
        }
        match path {
            Some(path) => {
                let file = tokio::fs::File::create(&path).await;
                let mut file = file.map_err(|e| Error::io("open", &path, e))?;
                let copy = Unfinished::new(path.clone());
                wire.take_file(size, &mut file, name, progress).await?;
                copy.finished();
                set_mode(&path, Some(mode)).await?;
            }
            None => wire.take_file(size, &mut tokio::io::sink(), name, progress).await?,
        }
    }
}
