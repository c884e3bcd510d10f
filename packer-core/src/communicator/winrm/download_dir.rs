//! Folders out of the machine: a script prints what is in them, file after file.

use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::super::Globs;
use super::super::output::Kept;
use super::super::tree::inside;
use super::client::Client;
use super::download::Decoder;
use super::failure::Failure;
use super::powershell::{self, FOLDER};
use super::shell::Shell;
use crate::context::{Context, Progress};
use crate::error::{Error, Result};

/// The longest line the script prints: a piece of a file, or a name of 32,767 characters.
const LONGEST_LINE: usize = 256 * 1024;

/// Copies a folder, or what a pattern matches, into a local one.
pub(super) async fn folder(
    cx: &Context,
    client: &Client,
    source: &str,
    destination: &Path,
    exclude: &Globs,
) -> Result<()> {
    let contents = source.ends_with(['/', '\\']) || matches!(base_name(source), "." | "..");
    let mut shell = Shell::open_for(cx, client).await?;
    let mut copy =
        Copy { cx, source, contents, destination, exclude, come: None, ended: None, open: Open::Nothing };
    let done = Box::pin(cx.until_cancelled(copy.all(&mut shell))).await;
    shell.close().await;
    done
}

fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\', ':']).next().unwrap_or(path)
}

/// A folder that comes down.
struct Copy<'a> {
    cx: &'a Context,
    source: &'a str,
    /// Names are seen from inside the folder.
    contents: bool,
    destination: &'a Path,
    exclude: &'a Globs,
    /// How many files have come, once the script has begun.
    come: Option<(u64, Progress)>,
    /// How many files the script says that it has sent.
    ended: Option<u64>,
    open: Open,
}

/// What the lines of base64 belong to.
enum Open {
    Nothing,
    File(PathBuf, File, Decoder),
    /// A file that is left out.
    Excluded,
}

impl Copy<'_> {
    async fn all(&mut self, shell: &mut Shell) -> Result<()> {
        shell.start(&powershell::send_many(self.source, self.contents)).await.map_err(Failure::into_error)?;
        shell.send(&[], true).await.map_err(Failure::into_error)?;
        let mut complaint = Kept::complaint();
        let mut waiting = Vec::new();
        loop {
            let answer = shell.receive().await.map_err(Failure::into_error)?;
            // Writing into memory cannot fail.
            let _ = complaint.write_all(&answer.stderr).await;
            let mut rest = answer.stdout.as_slice();
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                waiting.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                self.line(waiting.trim_ascii()).await?;
                waiting.clear();
            }
            waiting.extend_from_slice(rest);
            if waiting.len() > LONGEST_LINE {
                return Err(self.garbled("a line of it does not end"));
            }
            if !answer.done {
                continue;
            }
            shell.ended();
            self.line(waiting.trim_ascii()).await?;
            let code = answer.exit_code.unwrap_or(-1);
            if code != 0 {
                return Err(Error::guest(format!(
                    "{}: {} (exit code {code})",
                    self.source,
                    complaint.text()
                )));
            }
            return self.end().await;
        }
    }

    async fn line(&mut self, line: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(line);
        if let Some(counts) = text.strip_prefix(FOLDER) {
            let mut counts = counts.split_whitespace().map(|count| count.parse::<u64>().ok());
            let (files, bytes) = (counts.next().flatten(), counts.next().flatten());
            match &self.come {
                Some(_) => self.ended = files,
                None => self.come = Some((0, self.cx.progress(base_name(self.source), bytes))),
            }
            return Ok(());
        }
        match line.split_first() {
            // A profile or a banner may have said something before.
            _ if self.come.is_none() => Ok(()),
            None => Ok(()),
            Some((sign @ (b'<' | b'>' | b'!'), name)) => self.entry(*sign, name).await,
            Some(_) => self.content(line).await,
        }
    }

    /// Another file or folder begins.
    async fn entry(&mut self, sign: u8, name: &[u8]) -> Result<()> {
        self.close().await?;
        let name = Decoder::default().take(name).map_err(|why| self.garbled(&why))?;
        let name = String::from_utf8(name).map_err(|_| self.garbled("a name is no text"))?;
        if let (b'>', Some((come, _))) = (sign, &mut self.come) {
            *come += 1;
        }
        let relative = inside(Path::new(&name))?;
        // Patterns are seen from the folder's root.
        let mut seen = relative.components();
        if !self.contents {
            seen.next();
        }
        let left_out = |part: &Path| part != Path::new("") && self.exclude.matches(part);
        if relative == Path::new("") || seen.as_path().ancestors().any(left_out) {
            self.open = Open::Excluded;
            return Ok(());
        }
        let path = self.destination.join(&relative);
        match sign {
            b'<' => make_folder(&path).await,
            b'>' => {
                make_folder(path.parent().unwrap_or(self.destination)).await?;
                let file = File::create(&path).await.map_err(|e| Error::io("open", &path, e))?;
                self.open = Open::File(path, file, Decoder::default());
                Ok(())
            }
            _ => {
                self.cx.say_error(format!("{name} is a link to a folder and does not come down"));
                Ok(())
            }
        }
    }

    async fn content(&mut self, line: &[u8]) -> Result<()> {
        let bytes = match &mut self.open {
            Open::Excluded => line.len() / 4 * 3,
            Open::Nothing => return Err(self.garbled("content comes where no file has begun")),
            Open::File(path, file, decoder) => {
                let bytes =
                    decoder.take(line).map_err(|why| Error::guest(format!("{}: {why}", self.source)))?;
                file.write_all(&bytes).await.map_err(|e| Error::io("write", path, e))?;
                bytes.len()
            }
        };
        if let Some((_, progress)) = &mut self.come {
            progress.advance(bytes as u64);
        }
        Ok(())
    }

    /// The file is whole.
    async fn close(&mut self) -> Result<()> {
        if let Open::File(path, mut file, decoder) = std::mem::replace(&mut self.open, Open::Nothing) {
            if !decoder.is_whole() {
                return Err(self.garbled("a file of it is cut off"));
            }
            file.flush().await.map_err(|e| Error::io("write", &path, e))?;
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        self.close().await?;
        let Some((come, _)) = &self.come else {
            // Scripts look for the first sentence.
            return Err(Error::guest(format!(
                "WinRM doesn't support download dir. The machine's PowerShell should print what is in {}, and printed nothing",
                self.source
            )));
        };
        match self.ended {
            Some(sent) if sent == *come => make_folder(self.destination).await,
            _ => Err(self.garbled("the end of it did not come")),
        }
    }

    fn garbled(&self, why: &str) -> Error {
        Error::guest(format!("{}: what the machine sends of this folder is damaged: {why}", self.source))
    }
}

async fn make_folder(path: &Path) -> Result<()> {
    tokio::fs::create_dir_all(path).await.map_err(|e| Error::io("mkdir", path, e))
}
