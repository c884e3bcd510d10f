//! Folders by SFTP: many files at once, so that a long line costs little.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use globset::{Glob, GlobBuilder, GlobMatcher};
use russh_sftp::protocol::FileAttributes;
use tokio::sync::Semaphore;

use super::super::Globs;
use super::super::tree::{Entry, LocalTree, Unfinished};
use super::base_name;
use super::scp::DEEPEST;
use super::sftp::{CHUNK, IN_FLIGHT, Sftp, came_short, fill, permissions};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};

/// Files and folders worked on at once.
const AT_ONCE: usize = 32;
/// The longest path that is copied out of a machine, in bytes: Linux knows no longer one.
const LONGEST_PATH: usize = 4096;

/// What the files that move at once share: how many requests may be on the way, which bounds the memory, and the
/// progress of all.
struct Shared {
    requests: Semaphore,
    progress: Mutex<Progress>,
}

impl Shared {
    fn new(progress: Progress) -> Self {
        Self { requests: Semaphore::new(IN_FLIGHT), progress: Mutex::new(progress) }
    }

    fn told(&self, bytes: u64) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).advance(bytes);
    }

    /// Waits for room for a file of this size.
    async fn room(&self, size: u64) -> Result<tokio::sync::SemaphorePermit<'_>> {
        let chunks = (size / CHUNK as u64 + 1).min(IN_FLIGHT as u64) as u32;
        self.requests.acquire_many(chunks).await.map_err(|_| Error::internal("the semaphore is closed"))
    }
}

impl Sftp {
    /// Copies a folder: into `destination` where that is a folder, else `destination` becomes its copy.
    pub(super) async fn upload_dir(&self, cx: &Context, tree: LocalTree, destination: &str) -> Result<()> {
        let exists = match self.is_dir(destination).await.map_err(Error::guest)? {
            Some(false) => {
                return Err(Error::guest(format!("upload {destination}: it is a file, not a folder")));
            }
            Some(true) => true,
            None => false,
        };
        let (root, exists) = match &tree.name {
            Some(name) if exists => (format!("{}/{name}", destination.trim_end_matches('/')), false),
            _ => (destination.to_owned(), exists),
        };
        let mut made = Vec::new();
        let fresh = !exists && self.make_dir(&root).await?;
        // One that is there is given the bits of its copy, as far as those of files are.
        if fresh || (!exists && !self.keeps_bits) {
            made.push((root.clone(), tree.mode));
        }
        let shared = Shared::new(cx.progress(title(&tree, destination), Some(tree.total)));
        let join = |entry: &Entry| format!("{}/{}", root.trim_end_matches('/'), entry.relative);
        let (folders, files): (Vec<Entry>, Vec<Entry>) =
            tree.entries.into_iter().partition(|entry| entry.size.is_none());
        for level in by_depth(folders) {
            let level: Vec<_> = stream::iter(level)
                .map(|entry: Entry| {
                    let path = join(&entry);
                    async move { Ok::<_, Error>((self.make_dir(&path).await?, path, entry.mode)) }
                })
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            let bits = level.into_iter().filter(|(new, ..)| *new || !self.keeps_bits);
            made.extend(bits.map(|(_, path, mode)| (path, mode)));
        }
        stream::iter(files)
            .map(|entry: Entry| {
                let (path, shared) = (join(&entry), &shared);
                async move {
                    match self.upload_entry(entry, &path, fresh, shared).await {
                        Ok(()) => Ok(()),
                        Err(error) => Err(self.explained(error, &path).await),
                    }
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        // Only now, from the inside out: a folder that must not be written to could not have been filled.
        stream::iter(made.into_iter().rev())
            .map(|(path, mode)| async move {
                let set = self.session.set_metadata(&path, permissions(Some(mode))).await;
                set.map_err(|e| self.failed("chmod", &path, e))
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Whether the folder is new; one that exists is left as it is.
    async fn make_dir(&self, path: &str) -> Result<bool> {
        match self.session.create_dir(path).await {
            Ok(()) => Ok(true),
            Err(_) if self.is_dir(path).await == Ok(Some(true)) => Ok(false),
            Err(e) => Err(self.failed("mkdir", path, e)),
        }
    }

    async fn upload_entry(&self, entry: Entry, path: &str, fresh: bool, shared: &Shared) -> Result<()> {
        let _room = shared.room(entry.size.unwrap_or(0)).await?;
        let mut reader =
            tokio::fs::File::open(&entry.path).await.map_err(|e| Error::io("open", &entry.path, e))?;
        let keeps = !fresh && self.keeps(entry.mode) && !self.is_new(path).await;
        let mode = (!keeps).then_some(entry.mode);
        let mut file = self.create(path, mode).await?;
        let (mut buffer, mut sent) = (Vec::new(), 0);
        loop {
            fill(&mut reader, &mut buffer).await?;
            if buffer.is_empty() {
                break;
            }
            self.write(&mut file, &buffer, path).await?;
            sent += buffer.len() as u64;
            shared.told(buffer.len() as u64);
        }
        self.finish(file, mode, path).await?;
        came_short(entry.size, sent, path)
    }

    /// Finds what `source` names: the folder itself, what it contains (with a slash at its end), or all that a pattern in
    /// its last part matches.
    pub(super) async fn look(&self, source: &str, destination: &Path, exclude: &Globs) -> Result<Listing> {
        let mut found =
            Listing { destination: destination.to_owned(), folders: Vec::new(), files: Vec::new() };
        let mut level = Vec::new();
        for start in self.starts(source, destination).await? {
            if !start.found.attributes.file_type().is_dir() {
                found.files.push(start);
                continue;
            }
            let real = self.real_path(&start.found.path).await?;
            level.push(Folder {
                start,
                relative: String::new(),
                real: Arc::new(Chain { real, outer: None }),
            });
        }
        let mut depth = 0;
        while !level.is_empty() {
            // What a server invents may never end.
            if depth == DEEPEST {
                let text = format!("folders lie deeper than {DEEPEST} in each other");
                return Err(Error::guest(format!("download {source}: {text}")));
            }
            depth += 1;
            for Folder { start, .. } in &level {
                found.folders.push((start.local.clone(), start.found.attributes.permissions));
            }
            let listed: Vec<(Vec<Folder>, Vec<Start>)> = stream::iter(level)
                .map(|folder: Folder| self.list(folder, exclude))
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            level = Vec::new();
            for (inner, files) in listed {
                level.extend(inner);
                found.files.extend(files);
            }
        }
        Ok(found)
    }

    /// Copies what was found; the destination is made where it is not there.
    pub(super) async fn download_found(&self, cx: &Context, source: &str, found: Listing) -> Result<()> {
        let make = tokio::fs::create_dir_all(&found.destination).await;
        make.map_err(|e| Error::io("mkdir", &found.destination, e))?;
        let mut modes = Vec::new();
        let shared = Shared::new(cx.progress(base_name(source), Some(found.total())));
        for (path, mode) in found.folders {
            match tokio::fs::create_dir(&path).await {
                Ok(()) => modes.push((path, mode)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => {}
                Err(e) => return Err(Error::io("mkdir", &path, e)),
            }
        }
        stream::iter(found.files)
            .map(|file: Start| self.download_entry(file, &shared))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        for (path, mode) in modes.into_iter().rev() {
            set_mode(&path, mode).await?;
        }
        Ok(())
    }

    async fn starts(&self, source: &str, destination: &Path) -> Result<Vec<Start>> {
        let base = base_name(source);
        if let Ok(attributes) = self.session.metadata(source).await {
            // Of `.`, `..` and `/` only what they contain can be meant.
            let contents = source.ends_with('/') || matches!(base, "." | ".." | "/");
            let folder = attributes.file_type().is_dir();
            let local = if contents && folder {
                destination.to_path_buf()
            } else {
                destination.join(local_name(base)?)
            };
            return Ok(vec![Start { found: Found { path: source.to_owned(), attributes }, local }]);
        }
        let Some(pattern) = pattern(base)? else {
            let error = self.session.metadata(source).await.err();
            return match error {
                Some(e) => Err(self.failed("download", source, e)),
                None => Err(Error::guest(format!("download {source}: it came to be just now; try again"))),
            };
        };
        let parent = match source.trim_end_matches('/').rsplit_once('/') {
            Some(("", _)) => "/",
            Some((parent, _)) => parent,
            None => ".",
        };
        let mut starts = Vec::new();
        for (name, found) in self.entries(parent).await? {
            // As in a shell, a pattern does not mean hidden files unless it says so.
            if pattern.is_match(&name) && (!name.starts_with('.') || base.starts_with('.')) {
                starts.push(Start { local: destination.join(local_name(&name)?), found });
            }
        }
        if starts.is_empty() {
            return Err(Error::guest(format!("download {source}: nothing matches")));
        }
        Ok(starts)
    }

    async fn list(&self, folder: Folder, exclude: &Globs) -> Result<(Vec<Folder>, Vec<Start>)> {
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        for (name, found) in self.entries(&folder.start.found.path).await? {
            let relative = format!("{}{name}", folder.relative);
            if exclude.matches(&relative) {
                continue;
            }
            let start = Start { local: folder.start.local.join(local_name(&name)?), found };
            if start.found.attributes.file_type().is_dir() {
                let real = folder.real.enter(self.real_path(&start.found.path).await?, &start.found.path)?;
                folders.push(Folder { start, relative: format!("{relative}/"), real });
            } else if start.found.attributes.file_type().is_file() {
                files.push(start);
            } else {
                return Err(Error::guest(format!(
                    "download {}: it is neither a file nor a folder",
                    start.found.path
                )));
            }
        }
        Ok((folders, files))
    }

    /// What a folder contains, by name; links are what they lead to.
    async fn entries(&self, folder: &str) -> Result<Vec<(String, Found)>> {
        let listed = self.session.read_dir(folder).await.map_err(|e| self.failed("list", folder, e))?;
        let mut entries = Vec::new();
        for entry in listed {
            let name = entry.file_name();
            let path = format!("{}/{name}", folder.trim_end_matches('/'));
            if path.len() > LONGEST_PATH {
                let text = format!("it contains a path of more than {LONGEST_PATH} bytes");
                return Err(Error::guest(format!("download {folder}: {text}")));
            }
            let mut attributes = entry.metadata();
            if !attributes.file_type().is_dir() && !attributes.file_type().is_file() {
                attributes = self.session.metadata(&path).await.map_err(|e| self.failed("stat", &path, e))?;
            }
            entries.push((name, Found { path, attributes }));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    async fn real_path(&self, path: &str) -> Result<String> {
        self.session.canonicalize(path).await.map_err(|e| self.failed("list", path, e))
    }

    async fn download_entry(&self, file: Start, shared: &Shared) -> Result<()> {
        let Found { path, attributes } = &file.found;
        let _room = shared.room(attributes.size.unwrap_or(u64::MAX)).await?;
        let mut remote = self.session.open(path).await.map_err(|e| self.failed("download", path, e))?;
        let mut local =
            tokio::fs::File::create(&file.local).await.map_err(|e| Error::io("open", &file.local, e))?;
        let copy = Unfinished::new(file.local.clone());
        self.copy(&mut remote, attributes.size, path, &mut local, |read| shared.told(read)).await?;
        copy.finished();
        set_mode(&file.local, attributes.permissions).await
    }
}

/// Something on the machine.
struct Found {
    path: String,
    attributes: FileAttributes,
}

/// What is to be copied out of the machine.
pub(super) struct Listing {
    destination: PathBuf,
    /// Where the copies of folders go, with their permission bits; each before what it contains.
    folders: Vec<(PathBuf, Option<u32>)>,
    files: Vec<Start>,
}

impl Listing {
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// The bytes of all files.
    pub(super) fn total(&self) -> u64 {
        self.files.iter().filter_map(|file| file.found.attributes.size).sum()
    }
}

/// Something on the machine and where its copy goes.
struct Start {
    found: Found,
    local: PathBuf,
}

struct Folder {
    start: Start,
    /// Its path seen from where the copy began, with a slash at its end.
    relative: String,
    real: Arc<Chain>,
}

/// The real paths of the folders one is in, innermost first: a link back to one of them would never end.
struct Chain {
    real: String,
    outer: Option<Arc<Self>>,
}

impl Chain {
    fn enter(self: &Arc<Self>, real: String, path: &str) -> Result<Arc<Self>> {
        let mut outer = Some(self);
        while let Some(link) = outer {
            if link.real == real {
                return Err(Error::guest(format!(
                    "download {path}: it leads back into a folder that contains it"
                )));
            }
            outer = link.outer.as_ref();
        }
        Ok(Arc::new(Self { real, outer: Some(self.clone()) }))
    }
}

fn title(tree: &LocalTree, destination: &str) -> String {
    tree.name.clone().unwrap_or_else(|| base_name(destination).to_owned())
}

/// Folders of one depth after the other; within a depth none contains another.
fn by_depth(folders: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut levels: Vec<Vec<Entry>> = Vec::new();
    for folder in folders {
        let depth = folder.relative.matches('/').count();
        if levels.len() <= depth {
            levels.resize_with(depth + 1, Vec::new);
        }
        levels[depth].push(folder);
    }
    levels
}

/// The name as that of one file in a local folder: a server that says `../x` must not write elsewhere.
pub(super) fn local_name(name: &str) -> Result<&str> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(part)), None) if part == name => Ok(name),
        _ => Err(Error::guest(format!("the machine has a file named {name:?}, which cannot be a name here"))),
    }
}

/// The pattern that a name is, if it is one.
fn pattern(name: &str) -> Result<Option<GlobMatcher>> {
    if !name.contains(['*', '?', '[', '{']) {
        return Ok(None);
    }
    let glob: Result<Glob, _> = GlobBuilder::new(name).literal_separator(true).build();
    Ok(Some(glob.map_err(|e| Error::user(format!("pattern {name:?}: {e}")))?.compile_matcher()))
}

/// Gives a local file the permission bits that the machine's has.
#[cfg_attr(not(unix), allow(unused_variables, clippy::unused_async))]
pub(super) async fn set_mode(path: &Path, mode: Option<u32>) -> Result<()> {
    #[cfg(unix)]
    if let Some(mode) = mode {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777);
        let set = tokio::fs::set_permissions(path, permissions).await;
        set.map_err(|e| Error::io("chmod", path, e))?;
    }
    Ok(())
}
