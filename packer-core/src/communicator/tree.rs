//! A local folder that is to be copied into a machine, and names that come out of one.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::Globs;
use crate::context::Context;
use crate::error::{Error, Result};

/// What becomes of links in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// They are what they lead to.
    Followed,
    /// They stay links.
    Kept,
}

/// What a folder contains.
#[derive(Debug, Clone)]
pub struct LocalTree {
    /// The folder's own name, where it is copied itself; `None` where only what it contains is.
    pub name: Option<String>,
    /// The folder's permission bits.
    pub mode: u32,
    /// Folders and files, each folder before what it contains, in the order of their names.
    pub entries: Vec<Entry>,
    /// The bytes of all files.
    pub total: u64,
}

/// A folder or file in a tree.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its path seen from the root, with `/`.
    pub relative: String,
    /// Where it is.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// `None` for a folder or link.
    pub size: Option<u64>,
    /// Where a link that stays one leads.
    pub link: Option<PathBuf>,
}

/// The real paths of the folders one is in, innermost first: a link back to one of them would never end.
struct Chain {
    real: PathBuf,
    outer: Option<Arc<Self>>,
}

impl LocalTree {
    /// How many files there are.
    pub fn files(&self) -> usize {
        self.entries.iter().filter(|entry| entry.size.is_some()).count()
    }

    /// Reads a folder. A slash at the end of `source` means what the folder contains, else it is the folder itself.
    ///
    /// # Errors
    /// Where the folder cannot be read, a link leads nowhere or back into a folder that contains it, an entry is
    /// neither file nor folder, or a name is no UTF-8.
    pub async fn read(cx: &Context, source: &Path, exclude: &Globs, links: Links) -> Result<Self> {
        let exclude = exclude.clone();
        Self::select(cx, source, links, move |path: &str| !exclude.matches(path)).await
    }

    /// The same with what `admits` lets in by its path, seen from the root; of a folder that it does not, nothing.
    pub async fn select(
        cx: &Context,
        source: &Path,
        links: Links,
        admits: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<Self> {
        let source = source.to_path_buf();
        cx.blocking(move |stop| {
            let metadata = std::fs::metadata(&source).map_err(|e| Error::io("open", &source, e))?;
            if !metadata.is_dir() {
                return Err(Error::user(format!("{} is not a folder", source.display())));
            }
            let mut tree =
                Self { name: own_name(&source), mode: mode(&metadata), entries: Vec::new(), total: 0 };
            let root = Arc::new(Chain { real: real_path(&source)?, outer: None });
            let mut folders = vec![(source, String::new(), root)];
            while let Some((folder, prefix, chain)) = folders.pop() {
                stop.check()?;
                let first = folders.len();
                for (name, path) in sorted(&folder)? {
                    let relative = format!("{prefix}{name}");
                    if !admits(&relative) {
                        continue;
                    }
                    let metadata = match links {
                        Links::Followed => std::fs::metadata(&path),
                        Links::Kept => std::fs::symlink_metadata(&path),
                    };
                    let metadata = metadata.map_err(|e| Error::io("open", &path, e))?;
                    let link = match metadata.is_symlink() {
                        true => Some(std::fs::read_link(&path).map_err(|e| Error::io("readlink", &path, e))?),
                        false => None,
                    };
                    let size = metadata.is_file().then_some(metadata.len());
                    if link.is_some() {
                        // Whatever it leads to is not looked at.
                    } else if metadata.is_dir() {
                        let inner = chain.enter(&path)?;
                        folders.push((path.clone(), format!("{relative}/"), inner));
                    } else if size.is_none() {
                        return Err(Error::user(format!(
                            "{} is neither a file nor a folder",
                            path.display()
                        )));
                    }
                    tree.total += size.unwrap_or(0);
                    tree.entries.push(Entry { relative, path, mode: mode(&metadata), size, link });
                }
                folders[first..].reverse();
            }
            Ok(tree)
        })
        .await
    }
}

impl Chain {
    fn enter(self: &Arc<Self>, path: &Path) -> Result<Arc<Self>> {
        let real = real_path(path)?;
        let mut outer = Some(self);
        while let Some(link) = outer {
            if link.real == real {
                return Err(Error::user(format!(
                    "{} leads back into a folder that contains it",
                    path.display()
                )));
            }
            outer = link.outer.as_ref();
        }
        Ok(Arc::new(Self { real, outer: Some(self.clone()) }))
    }
}

fn own_name(source: &Path) -> Option<String> {
    let text = source.as_os_str().to_string_lossy();
    if text.ends_with(std::path::is_separator) {
        return None;
    }
    // `.` and `..` have no name: what they contain is copied, as `scp` does.
    source.file_name().map(|name| name.to_string_lossy().into_owned())
}

fn sorted(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = |e| Error::io("open", folder, e);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|name| Error::user(format!("{}: the name is no UTF-8", folder.join(name).display())))?;
        entries.push((name, entry.path()));
    }
    entries.sort();
    Ok(entries)
}

fn real_path(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).map_err(|e| Error::io("open", path, e))
}

/// The permission bits; where the system has none, what is usual.
pub(crate) fn mode(metadata: &std::fs::Metadata) -> u32 {
    #[cfg(unix)]
    {
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
    }
    #[cfg(not(unix))]
    {
        if metadata.is_dir() { 0o755 } else { 0o644 }
    }
}

/// A path that the machine says, if it stays inside the folder where its copy goes.
pub(crate) fn inside(path: &Path) -> Result<PathBuf> {
    let mut relative = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => relative.push(part),
            Component::CurDir => {}
            _ => return Err(Error::guest(format!("the machine's folder contains {}", path.display()))),
        }
    }
    Ok(relative)
}

/// The copy of a file that is being written. Dropped before it is whole, it is removed.
pub(crate) struct Unfinished {
    path: PathBuf,
    is_whole: bool,
}

impl Unfinished {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, is_whole: false }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn finished(mut self) {
        self.is_whole = true;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_whole {
            // What went wrong before is told; this would say it again.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_machine_stay_inside() {
        assert_eq!(inside(Path::new("./a/b")).unwrap(), Path::new("a/b"));
        assert!(inside(Path::new("../a")).is_err() && inside(Path::new("/a")).is_err());
    }
}
