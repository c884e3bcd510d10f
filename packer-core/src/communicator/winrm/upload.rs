//! Files into the machine, through the standard input of a script there.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::super::Source;
use super::super::output::Kept;
use super::super::tree::{Entry, LocalTree};
use super::client::Client;
use super::failure::Failure;
use super::powershell::{self, RECEIPT};
use super::shell::{Sent, Shell};
use super::soap::MOST_SENT;
use crate::context::{Context, Progress};
use crate::error::{Error, Result};

/// How much of a file goes in one piece: a whole number of base64's groups, so that the lines are one text, and with the
/// end of a line not more than one request carries.
const PIECE: usize = (MOST_SENT - 2) / 4 * 3;

/// What `cmd` takes in one line. A file of no more bytes needs no script that reads.
const MOST_BY_ECHO: usize = 5 * 1024;

/// How long the removal of a temporary file may take that nobody waits for.
const REMOVAL_LIMIT: Duration = Duration::from_secs(20);

/// With more files than this a folder goes through one script instead of one for each file, which takes a second or so to
/// start.
const MANY: usize = 16;

/// Something to upload, opened.
pub(super) struct Content<'a> {
    reader: Box<dyn AsyncRead + Send + Unpin + 'a>,
    size: Option<u64>,
    /// The name of the local file.
    name: Option<String>,
}

impl<'a> Content<'a> {
    pub(super) async fn open(source: Source<'a>) -> Result<Self> {
        Ok(match source {
            Source::File(path) => Self::file(path).await?,
            Source::Bytes(bytes) => {
                Self { size: Some(bytes.len() as u64), reader: Box::new(bytes), name: None }
            }
            Source::Reader { reader, size, .. } => Self { reader: Box::new(reader), size, name: None },
        })
    }

    async fn file(path: &Path) -> Result<Self> {
        let failed = |e| Error::io("open", path, e);
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        let size = file.metadata().await.map_err(failed)?.len();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self { reader: Box::new(file), size: Some(size), name })
    }

    /// The next piece, full unless it is the last.
    async fn piece(&mut self, most: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(most as u64).read_to_end(&mut bytes).await;
        read.map_err(|e| Error::io("read", self.name.as_deref().unwrap_or("the source"), e))?;
        Ok(bytes)
    }
}

/// Uploads one file.
pub(super) async fn file(
    cx: &Context,
    client: &Client,
    content: &mut Content<'_>,
    destination: &str,
) -> Result<()> {
    let path = match destination.ends_with(['/', '\\']) {
        false => destination.to_owned(),
        true => match &content.name {
            Some(name) => format!("{destination}{name}"),
            None => return Err(Error::user("Was unable to infer file basename for upload.")),
        },
    };
    let temporary = format!("winrmcp-{}.tmp", uuid::Uuid::new_v4());
    let first = content.piece(PIECE).await?;
    let mut shell = Shell::open_for(cx, client).await?;
    let work = async {
        match first.len() {
            1..=MOST_BY_ECHO => echo(client, &mut shell, &first, &path, &temporary).await,
            _ => stream(cx, &mut shell, first, content, &path, &temporary).await,
        }
    };
    let done = Box::pin(cx.until_cancelled(work)).await;
    shell.close().await;
    done
}

/// A small file: `cmd` writes it as text, a script makes of it what it is.
async fn echo(client: &Client, shell: &mut Shell, bytes: &[u8], path: &str, name: &str) -> Result<()> {
    let mut temporary = Temporary { client: client.clone(), name: name.to_owned(), is_there: true };
    let text = STANDARD.encode(bytes);
    let done = finish(shell, format!("echo {text} >> \"%TEMP%\\{name}\"")).await?;
    if done.code != 0 {
        return Err(done.error(&format!("Error uploading file to $env:TEMP\\{name}: upload")));
    }
    let done = finish(shell, powershell::restore(path, name)).await?;
    // The script removes it however it ends.
    temporary.is_there = false;
    match done.code {
        0 => Ok(()),
        _ => Err(restoring(&done, path, name)),
    }
}

/// A temporary file of the machine's. Dropped while it may be there, it is removed by a task of a bounded time.
struct Temporary {
    client: Client,
    name: String,
    is_there: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let (true, Ok(runtime)) = (self.is_there, tokio::runtime::Handle::try_current()) else { return };
        let (client, name) = (self.client.clone(), std::mem::take(&mut self.name));
        let removal = async move {
            let mut shell = Shell::open(&client).await.map_err(Failure::into_error)?;
            let done = finish(&mut shell, powershell::remove_temporary(&name)).await;
            shell.close().await;
            done
        };
        drop(runtime.spawn(tokio::time::timeout(REMOVAL_LIMIT, removal)));
    }
}

fn restoring(done: &Done, path: &str, temporary: &str) -> Error {
    let path = path.replace('/', "\\");
    done.error(&format!("Error restoring file from $env:TEMP\\{temporary} to {path}: restore"))
}

/// A file of any size: lines of base64 for a script that decodes them.
async fn stream(
    cx: &Context,
    shell: &mut Shell,
    first: Vec<u8>,
    content: &mut Content<'_>,
    path: &str,
    temporary: &str,
) -> Result<()> {
    let mut progress = cx.progress(format!("Uploading to {path}"), content.size);
    shell.start(&powershell::receive(path, temporary)).await.map_err(Failure::into_error)?;
    let mut hash = Sha256::new();
    let (mut size, mut piece) = (0_u64, first);
    loop {
        // One piece ahead: the last one says that it is that.
        let next = if piece.len() < PIECE { Vec::new() } else { content.piece(PIECE).await? };
        hash.update(&piece);
        size += piece.len() as u64;
        progress.advance(piece.len() as u64);
        let sent = shell.send(&line(&piece), next.is_empty()).await.map_err(Failure::into_error)?;
        if sent == Sent::Refused || next.is_empty() {
            break;
        }
        piece = next;
    }
    let done = output(shell).await?;
    if done.code != 0 {
        return Err(restoring(&done, path, temporary));
    }
    let expected = format!("{RECEIPT} {size} {}", hex(&hash.finalize()));
    done.check(&expected, path)
}

/// Uploads what a folder contains.
pub(super) async fn folder(cx: &Context, client: &Client, tree: &LocalTree, destination: &str) -> Result<()> {
    let mut root = destination.trim_end_matches(['/', '\\']).to_owned();
    if let Some(name) = &tree.name {
        root = format!("{root}/{name}");
    }
    // Folders come to be with what is in them, so that only empty ones are told.
    let parents: BTreeSet<&str> =
        tree.entries.iter().filter_map(|entry| Some(entry.relative.rsplit_once('/')?.0)).collect();
    // Finder's own notes about a folder are nothing to any other machine.
    let wanted: Vec<&Entry> = tree
        .entries
        .iter()
        .filter(|entry| entry.size.is_some() || !parents.contains(entry.relative.as_str()))
        .filter(|entry| entry.relative.rsplit('/').next() != Some(".DS_Store"))
        .collect();
    let are_files = !wanted.is_empty() && wanted.iter().all(|entry| entry.size.is_some());
    if are_files && wanted.len() <= MANY {
        for entry in wanted {
            let mut content = Content::file(&entry.path).await?;
            file(cx, client, &mut content, &format!("{root}/{}", entry.relative)).await?;
        }
        return Ok(());
    }
    let progress = cx.progress(format!("Uploading to {root}"), Some(tree.total));
    let mut shell = Shell::open_for(cx, client).await?;
    let done = Box::pin(cx.until_cancelled(many(&mut shell, &wanted, &root, progress))).await;
    shell.close().await;
    done
}

async fn many(shell: &mut Shell, entries: &[&Entry], root: &str, mut progress: Progress) -> Result<()> {
    shell.start(&powershell::receive_many(root)).await.map_err(Failure::into_error)?;
    // Small files share a request.
    let mut waiting = Vec::with_capacity(MOST_SENT);
    let mut taken = Sent::Taken;
    'entries: for entry in entries {
        let name = STANDARD.encode(entry.relative.replace('/', "\\"));
        let (sign, mut content) = match entry.size {
            Some(_) => ('>', Content::file(&entry.path).await?),
            None => ('<', Content::open(Source::Bytes(b"")).await?),
        };
        let mut next = format!("{sign}{name}\r\n").into_bytes();
        loop {
            if waiting.len() + next.len() > MOST_SENT {
                taken = shell.send(&waiting, false).await.map_err(Failure::into_error)?;
                waiting.clear();
                if taken == Sent::Refused {
                    break 'entries;
                }
            }
            waiting.extend_from_slice(&next);
            let piece = content.piece(PIECE).await?;
            if piece.is_empty() {
                break;
            }
            progress.advance(piece.len() as u64);
            next = line(&piece);
        }
    }
    if taken == Sent::Taken {
        shell.send(&waiting, true).await.map_err(Failure::into_error)?;
    }
    let done = output(shell).await?;
    if done.code != 0 {
        return Err(done.error(&format!("Error restoring files to {}: restore", root.replace('/', "\\"))));
    }
    let files = entries.iter().filter(|entry| entry.size.is_some()).count();
    done.check(&format!("{RECEIPT} {files}"), root)
}

fn line(piece: &[u8]) -> Vec<u8> {
    let mut line = STANDARD.encode(piece).into_bytes();
    line.extend(b"\r\n");
    line
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How a command of ours ended.
pub(super) struct Done {
    pub(super) code: i32,
    printed: String,
    complaint: String,
}

impl Done {
    pub(super) fn error(&self, what: &str) -> Error {
        let code = self.code;
        let text = match self.complaint.as_str() {
            "" => format!("{what} operation returned code={code}"),
            complaint => format!("{what} operation returned code={code}: {complaint}"),
        };
        Error::guest(text)
    }

    /// Compares what the machine has with what was sent. A server that stands in for PowerShell says nothing.
    fn check(&self, expected: &str, path: &str) -> Result<()> {
        match self.printed.lines().find(|line| line.starts_with(RECEIPT)) {
            Some(line) if line.trim() != expected => Err(Error::network(format!(
                "{path} did not arrive as it was sent: the machine says {line:?}, it should be {expected:?}"
            ))),
            _ => Ok(()),
        }
    }
}

/// Runs a command of ours to its end.
async fn finish(shell: &mut Shell, text: String) -> Result<Done> {
    shell.start(&text).await.map_err(Failure::into_error)?;
    shell.send(&[], true).await.map_err(Failure::into_error)?;
    output(shell).await
}

/// Waits for the end of a command of ours. What it prints is little.
pub(super) async fn output(shell: &mut Shell) -> Result<Done> {
    let (mut printed, mut complaint) = (Kept::complaint(), Kept::complaint());
    loop {
        let answer = shell.receive().await.map_err(Failure::into_error)?;
        // Writing into memory cannot fail.
        let _ = printed.write_all(&answer.stdout).await;
        let _ = complaint.write_all(&answer.stderr).await;
        if answer.done {
            shell.ended();
            let code = answer.exit_code.unwrap_or(-1);
            return Ok(Done { code, printed: printed.text(), complaint: complaint.text() });
        }
    }
}
