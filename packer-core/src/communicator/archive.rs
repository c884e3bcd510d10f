//! What moving folders as tar archives takes, whatever carries them.

use std::cell::Cell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{self, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Globs;
use super::tree::{Unfinished, inside};
use crate::context::Progress;
use crate::error::{Error, Result, os_text};

/// Whose names an archive has, and which of them the local copy keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// All names begin with the folder's own, and so do those of the copy.
    Folder,
    /// Names are seen from inside the folder, here and there.
    Contents,
    /// All names begin with the folder's own, which the copy leaves out.
    #[cfg_attr(not(feature = "docker"), allow(dead_code))]
    Strip,
}

impl Layout {
    /// A name as seen from the folder, and its place in the copy.
    fn place(self, relative: &Path) -> (PathBuf, PathBuf) {
        let mut inner = relative.components();
        if self != Self::Contents {
            inner.next();
        }
        let inner = inner.as_path().to_path_buf();
        match self {
            Self::Strip => (inner.clone(), inner),
            _ => (inner, relative.to_path_buf()),
        }
    }
}

/// How many bytes what describes one file may have: long names, and whatever else stands before its content.
const MOST_DESCRIBED: u64 = 4 << 20;

/// An archive that ends in an error where there is too much of it: its reader keeps names in memory, whatever their length.
struct Bounded<'a, R> {
    inner: R,
    /// How much may still come.
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            let text = format!("a name in it has more than {} MiB", MOST_DESCRIBED >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buffer[..most])?;
        self.left.set(left - read as u64);
        Ok(read)
    }
}

/// Unpacks an archive that the machine made, and nothing outside `destination`.
pub(super) fn unpack(
    stop: &crate::kit::blocking::Stop,
    archive: impl Read,
    destination: &Path,
    layout: Layout,
    exclude: &Globs,
) -> Result<()> {
    let failed = |e: io::Error| Error::provider(format!("reading the machine's archive: {}", os_text(&e)));
    std::fs::create_dir_all(destination).map_err(|e| Error::io("mkdir", destination, e))?;
    let (mut modes, mut links) = (Vec::new(), Vec::new());
    let left = Cell::new(MOST_DESCRIBED);
    let mut archive = tar::Archive::new(Bounded { inner: archive, left: &left });
    let mut entries = archive.entries().map_err(failed)?;
    let mut unread = 0;
    loop {
        stop.check()?;
        left.set(MOST_DESCRIBED.saturating_add(unread));
        unread = 0;
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(failed)?;
        left.set(u64::MAX);
        let (from_root, relative) = layout.place(&inside(&entry.path().map_err(failed)?)?);
        // Patterns are seen from the folder's root.
        if from_root.ancestors().any(|part| part != Path::new("") && exclude.matches(part)) {
            unread = entry.size();
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
                let first = destination.join(layout.place(&inside(&first)?).1);
                std::fs::copy(&first, &path).map_err(|e| Error::io("open", &first, e))?;
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let mut file = std::fs::File::create(&path).map_err(|e| Error::io("open", &path, e))?;
                let copy = Unfinished::new(path.clone());
                io::copy(&mut entry, &mut file).map_err(|e| Error::io("write", copy.path(), e))?;
                copy.finished();
                modes.push((path, mode));
            }
            tar::EntryType::Symlink => {
                let Some(target) = entry.link_name().map_err(failed)? else { continue };
                links.push((path, target.into_owned()));
            }
            other => {
                let name = relative.display();
                return Err(Error::guest(format!("{name} is neither a file nor a folder ({other:?})")));
            }
        }
    }
    // Links come when all else is written, so that nothing is written through one.
    for (path, target) in links {
        link(&target, &path)?;
    }
    // From the inside out: folders that must not be written to come last.
    for (path, mode) in modes.into_iter().rev() {
        set_mode(&path, mode)?;
    }
    Ok(())
}

#[cfg(unix)]
fn link(target: &Path, path: &Path) -> Result<()> {
    let made = std::os::unix::fs::symlink(target, path);
    let made = match made {
        // A link of an earlier download is replaced, as files are.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path).and_then(|()| std::os::unix::fs::symlink(target, path))
        }
        made => made,
    };
    made.map_err(|e| Error::io("symlink", path, e))
}

#[cfg(not(unix))]
fn link(_: &Path, path: &Path) -> Result<()> {
    Err(Error::user(format!("{}: links cannot be made on this system", path.display())))
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

/// A path as one word of the shell, which cannot be taken for an option.
pub(super) fn quoted(path: &str) -> String {
    match path.starts_with('-') {
        true => quoted_text(&format!("./{path}")),
        false => quoted_text(path),
    }
}

pub(super) fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A name for the shell in which only the signs of a pattern keep their meaning.
pub(super) fn pattern(name: &str) -> String {
    let mut word = String::from("./");
    for c in name.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && !"*?[]._-".contains(c) {
            word.push('\\');
        }
        word.push(c);
    }
    word
}

/// A stream that tells how much has passed.
pub(super) struct Told<'a, S: ?Sized> {
    pub(super) inner: &'a mut S,
    pub(super) progress: Option<&'a mut Progress>,
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

    /// A thing in an archive: its name, its kind and its content.
    fn entry(name: &str, kind: tar::EntryType, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let end = vec![0; content.len().next_multiple_of(512) - content.len()];
        [header.as_bytes(), content, &end].concat()
    }

    #[tokio::test]
    async fn names_without_an_end_are_refused_and_large_files_are_not() {
        use tar::EntryType::{GNULongName, Regular};
        let bench = crate::testing::Bench::new();
        let folder = bench.folder().join("to");
        let unpacked = async |archive: Vec<u8>| {
            let (to, exclude) = (folder.clone(), Globs::new(["skipped"]).unwrap());
            let work = move |stop: &_| unpack(stop, &archive[..], &to, Layout::Contents, &exclude);
            bench.context().blocking(work).await
        };
        let large = vec![7; 9 << 20];
        let name = "n".repeat(200);
        let whole = [
            entry("skipped", Regular, &large),
            entry("large", Regular, &large),
            entry("././@LongLink", GNULongName, name.as_bytes()),
            entry("n", Regular, b"x"),
        ]
        .concat();
        unpacked(whole).await.unwrap();
        assert_eq!(std::fs::read(folder.join("large")).unwrap(), large);
        assert_eq!(std::fs::read(folder.join(name)).unwrap(), b"x");
        assert!(!folder.join("skipped").exists());
        let endless = entry("././@LongLink", GNULongName, &large);
        let error = unpacked(endless).await.unwrap_err();
        assert!(error.message().contains("a name in it has more than 4 MiB"), "{error}");
    }
}
