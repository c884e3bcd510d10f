//! Folders out of the machine: a script prints what is in them, file after file.

use std::path::Path;

use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::super::Globs;
use super::super::output::Kept;
use super::super::tree::{Unfinished, inside};
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
    let contents = source.ends_with(['/', '\\']) || matches!(base_name(source), "" | "." | "..");
    let mut shell = Shell::open_for(cx, client).await?;
    let mut copy = Copy::new(cx, source, contents, destination, exclude);
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
    /// The beginning of a line.
    waiting: Vec<u8>,
}

/// What the lines of base64 belong to.
enum Open {
    Nothing,
    File(Unfinished, File, Decoder),
    /// A file that is left out.
    Excluded,
}

impl<'a> Copy<'a> {
    fn new(cx: &'a Context, source: &'a str, contents: bool, to: &'a Path, exclude: &'a Globs) -> Self {
        let (come, ended, open, waiting) = (None, None, Open::Nothing, Vec::new());
        Self { cx, source, contents, destination: to, exclude, come, ended, open, waiting }
    }

    async fn all(&mut self, shell: &mut Shell) -> Result<()> {
        shell.start(&powershell::send_many(self.source, self.contents)).await.map_err(Failure::into_error)?;
        shell.send(&[], true).await.map_err(Failure::into_error)?;
        let mut complaint = Kept::complaint();
        loop {
            let answer = shell.receive().await.map_err(Failure::into_error)?;
            // Writing into memory cannot fail.
            let _ = complaint.write_all(&answer.stderr).await;
            self.take(&answer.stdout).await?;
            if !answer.done {
                continue;
            }
            shell.ended();
            return match answer.exit_code.unwrap_or(-1) {
                0 => self.end().await,
                code => {
                    let why = complaint.text();
                    Err(Error::guest(format!("{}: {why} (exit code {code})", self.source)))
                }
            };
        }
    }

    /// Takes more of what the script prints.
    async fn take(&mut self, mut printed: &[u8]) -> Result<()> {
        while let Some(end) = printed.iter().position(|byte| *byte == b'\n') {
            self.waiting.extend_from_slice(&printed[..end]);
            printed = &printed[end + 1..];
            let line = std::mem::take(&mut self.waiting);
            self.line(line.trim_ascii()).await?;
        }
        self.waiting.extend_from_slice(printed);
        match self.waiting.len() > LONGEST_LINE {
            true => Err(self.garbled("a line of it does not end")),
            false => Ok(()),
        }
    }

    async fn line(&mut self, line: &[u8]) -> Result<()> {
        if let Some(counts) = line.strip_prefix(FOLDER.as_bytes()) {
            let counts = String::from_utf8_lossy(counts);
            let mut counts = counts.split_whitespace().map(|count| count.parse::<u64>().ok());
            let (files, bytes) = (counts.next().flatten(), counts.next().flatten());
            match &self.come {
                Some(_) => {
                    self.close().await?;
                    self.ended = files;
                }
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
                self.open = Open::File(Unfinished::new(path), file, Decoder::default());
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
            Open::File(copy, file, decoder) => {
                let bytes =
                    decoder.take(line).map_err(|why| Error::guest(format!("{}: {why}", self.source)))?;
                file.write_all(&bytes).await.map_err(|e| Error::io("write", copy.path(), e))?;
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
        if let Open::File(copy, mut file, decoder) = std::mem::replace(&mut self.open, Open::Nothing) {
            if !decoder.is_whole() {
                return Err(self.garbled("a file of it is cut off"));
            }
            file.flush().await.map_err(|e| Error::io("write", copy.path(), e))?;
            copy.finished();
        }
        Ok(())
    }

    /// The script has ended well.
    async fn end(&mut self) -> Result<()> {
        self.take(b"\n").await?;
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

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::testing::Bench;

    fn entry(sign: char, name: &str) -> String {
        format!("{sign}{}\r\n", STANDARD.encode(name))
    }

    /// What becomes of a folder that the machine prints in pieces.
    async fn copied(bench: &Bench, printed: &str, piece: usize) -> Result<()> {
        let (none, to) = (Globs::none(), bench.folder().join("to"));
        let mut copy = Copy::new(bench.context(), "C:/d", false, &to, &none);
        for part in printed.as_bytes().chunks(piece) {
            copy.take(part).await?;
        }
        copy.end().await
    }

    #[tokio::test]
    async fn a_folder_comes_in_pieces_of_any_size() {
        let content: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let printed = [
            "a banner\r\n",
            "packer-folder 3 10000\r\n",
            &entry('<', "d"),
            &entry('>', "d/größe"),
            &format!("{}\r\n{}\r\n", STANDARD.encode(&content[..50]), STANDARD.encode(&content[50..])),
            &entry('>', "d/empty"),
            &entry('!', "d/link"),
            &entry('<', "d/hollow"),
            &entry('>', "d/a/b"),
            "Yg==\r\npacker-folder 3",
        ]
        .concat();
        for piece in [1, 7, 4096, 1_000_000] {
            let bench = Bench::new();
            copied(&bench, &printed, piece).await.unwrap();
            let to = bench.folder().join("to/d");
            assert_eq!(std::fs::read(to.join("größe")).unwrap(), content);
            assert_eq!(std::fs::read(to.join("empty")).unwrap(), b"");
            assert_eq!(std::fs::read(to.join("a/b")).unwrap(), b"b");
            assert!(to.join("hollow").is_dir() && !to.join("link").exists());
            let told = bench.recorder().lines().join("\n");
            assert!(told.contains("d/link is a link to a folder and does not come down"), "{told}");
        }
    }

    #[tokio::test]
    async fn what_is_damaged_or_leads_elsewhere_is_refused() {
        let begin = "packer-folder 1 1\r\n";
        for (printed, expected) in [
            (String::new(), "WinRM doesn't support download dir. The machine's PowerShell should"),
            ([begin, &entry('>', "../x")].concat(), "the machine's folder contains ../x"),
            ([begin, &entry('<', "/etc/x")].concat(), "the machine's folder contains /etc/x"),
            ([begin, "Yg==\r\n"].concat(), "content comes where no file has begun"),
            ([begin, &entry('>', "x"), "????\r\n"].concat(), "not encoded as it should be"),
            ([begin, &entry('>', "x"), "Yg\r\npacker-folder 1"].concat(), "a file of it is cut off"),
            ([begin, ">/w==\r\n"].concat(), "a name is no text"),
            ([begin, &entry('>', "x")].concat(), "the end of it did not come"),
            ([begin, "packer-folder 1"].concat(), "the end of it did not come"),
            ([begin, &"x".repeat(LONGEST_LINE + 1)].concat(), "a line of it does not end"),
        ] {
            let bench = Bench::new();
            let error = copied(&bench, &printed, 1_000_000).await.unwrap_err();
            assert!(error.message().contains(expected), "{error}");
            assert!(!bench.folder().join("x").exists() && !bench.folder().join("to/x").exists());
        }
    }
}
