//! The index of a cache on disk: which states are saved, and what the steps of each build were when it last ran.
//!
//! One line of JSON an entry, each behind its keyed hash, so that a line that is torn or was changed is known for what
//! it is and the others stay. The file is replaced as a whole, under a lock.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::imprint::Imprint;
use super::keyed::Keyed;
use crate::error::{Error, Result};
use crate::kit::private_folder;
use crate::ledger::Resource;

/// The first line of the file.
const HEAD: &str = "packer step cache 1";

/// What it begins with in every version.
const FAMILY: &[u8] = b"packer step cache ";

/// How many builds are remembered.
const BUILDS: usize = 500;

/// How long to wait for another process that changes the index.
const PATIENCE: Duration = Duration::from_secs(10);

/// A saved state of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The key of the state: a keyed hash over everything that led to it.
    pub key: String,
    /// What its component saved it as.
    pub resource: Resource,
    /// The display name of the build that saved it.
    pub build: String,
    /// The step behind which it was saved: the provisioner's type, and its name where it has one.
    pub step: String,
    /// The step's number among those of the build, from 1.
    pub number: usize,
    /// When it was saved.
    pub created: Timestamp,
    /// When a build last started from it or saved it.
    pub used: Timestamp,
    /// Its size in bytes, where the component says it.
    pub size: Option<u64>,
    /// Whether its entry is as it was written. One that is not is never used, only released.
    #[serde(skip)]
    pub intact: bool,
}

/// What a build was when it last ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) used: Timestamp,
    pub(crate) source: String,
    pub(crate) builder: Imprint,
    pub(crate) steps: Vec<StepMemory>,
}

/// What a step was when it last ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepMemory {
    /// Type and name.
    pub(crate) label: String,
    /// `None` where it could not be known.
    pub(crate) imprint: Option<Imprint>,
    pub(crate) outcome: Outcome,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It ran to its end, or was reused.
    Succeeded,
    Failed,
    NotReached,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Entry {
    Checkpoint(Box<Checkpoint>),
    Build { scope: String, memory: Box<Memory> },
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// By the scope of the build.
    pub(crate) builds: BTreeMap<String, Memory>,
    /// How many lines could not be read, or were not as they were written.
    pub(crate) damaged: usize,
}

impl Index {
    /// The saved state of a key, if it may be used.
    pub(crate) fn checkpoint(&self, key: &str) -> Option<&Checkpoint> {
        self.checkpoints.iter().find(|c| c.key == key && c.intact)
    }

    /// Remembers a build, and forgets those that were not run for longest.
    pub(crate) fn remember(&mut self, scope: String, memory: Memory) {
        self.builds.insert(scope, memory);
        while self.builds.len() > BUILDS {
            let Some(oldest) = self.builds.iter().min_by_key(|(_, m)| m.used).map(|(s, _)| s.clone()) else {
                return;
            };
            self.builds.remove(&oldest);
        }
    }

    fn parse(text: &[u8], keyed: Option<&Keyed>) -> Self {
        let mut index = Self::default();
        let mut lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        if lines.next().is_some_and(|head| head != HEAD.as_bytes()) {
            index.damaged += 1;
        }
        for line in lines {
            let line = String::from_utf8_lossy(line);
            let (hash, json) = line.split_once(' ').unwrap_or_default();
            let intact = keyed.is_some_and(|keyed| keyed.of("line", [json]) == hash);
            index.damaged += usize::from(!intact);
            match serde_json::from_str(json) {
                // One that was changed still names something to release.
                Ok(Entry::Checkpoint(checkpoint)) => {
                    index.checkpoints.push(Checkpoint { intact, ..*checkpoint });
                }
                Ok(Entry::Build { scope, memory }) if intact => drop(index.builds.insert(scope, *memory)),
                Ok(Entry::Build { .. }) => {}
                Err(_) if intact => index.damaged += 1,
                Err(_) => {}
            }
        }
        index
    }

    fn print(self, keyed: &Keyed) -> Result<String> {
        let mut text = format!("{HEAD}\n");
        let mut add = |entry: &Entry, intact: bool| {
            let json =
                serde_json::to_string(entry).map_err(|e| Error::internal(format!("cache index: {e}")))?;
            // What was damaged stays so, however often it is written again.
            let hash = if intact { keyed.of("line", [&json]) } else { "damaged".to_owned() };
            text.push_str(&format!("{hash} {json}\n"));
            Ok::<_, Error>(())
        };
        for checkpoint in self.checkpoints {
            let intact = checkpoint.intact;
            add(&Entry::Checkpoint(Box::new(checkpoint)), intact)?;
        }
        for (scope, memory) in self.builds {
            add(&Entry::Build { scope, memory: Box::new(memory) }, true)?;
        }
        Ok(text)
    }
}

/// The folder of a cache.
#[derive(Clone)]
pub(crate) struct Store {
    folder: PathBuf,
    pub(crate) keyed: Keyed,
}

impl Store {
    /// Opens the folder, and makes it and its key where they are not there.
    ///
    /// The text says what was wrong and was mended.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Option<String>)> {
        private_folder(folder)?;
        let _lock = lock(folder)?;
        let path = folder.join("key");
        let mut note = None;
        let key = match read_key(&path) {
            Ok(Some(key)) => key,
            Ok(None) | Err(None) => {
                if path.exists() {
                    let text = "its key was damaged, so nothing saved before can be used";
                    note = Some(text.to_owned());
                }
                // Each holds 122 random bits.
                let key = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
                write_whole(&path, key.as_bytes())?;
                key
            }
            Err(Some(error)) => return Err(error),
        };
        let keyed = Keyed::new(key.as_bytes()).ok_or_else(|| Error::internal("the cache's key is no key"))?;
        Ok((Self { folder: folder.to_owned(), keyed }, note))
    }

    /// A folder in which nothing is yet, as if it had been opened.
    pub(crate) fn unwritten(folder: &Path) -> Result<Self> {
        let key = uuid::Uuid::new_v4();
        let keyed = Keyed::new(key.as_bytes()).ok_or_else(|| Error::internal("the cache's key is no key"))?;
        Ok(Self { folder: folder.to_owned(), keyed })
    }

    /// The folder as it is; `None` where there is nothing in it.
    pub(crate) fn peek(folder: &Path) -> Result<Option<Self>> {
        match read_key(&folder.join("key")) {
            Ok(Some(key)) => {
                let keyed = Keyed::new(key.as_bytes());
                Ok(keyed.map(|keyed| Self { folder: folder.to_owned(), keyed }))
            }
            Ok(None) | Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    /// What is in the index now.
    pub(crate) fn read(&self) -> Result<Index> {
        read(&self.folder, Some(&self.keyed))
    }

    /// Changes the index: nobody else does meanwhile, and whoever reads sees all of the change or nothing.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Index) -> T) -> Result<T> {
        let _lock = lock(&self.folder)?;
        let mut index = self.read()?;
        let path = index_path(&self.folder);
        if index.damaged > 0 && index.checkpoints.iter().filter(|c| !c.intact).count() < index.damaged {
            // What cannot be read is lost with the next line; whoever wants to look into it finds it here.
            let _ = fs::copy(&path, self.folder.join("index.damaged"));
        }
        let result = change(&mut index);
        write_whole(&path, index.print(&self.keyed)?.as_bytes())?;
        Ok(result)
    }
}

/// What is in the index of a folder; without its key nothing in it is intact.
pub(crate) fn read(folder: &Path, keyed: Option<&Keyed>) -> Result<Index> {
    let path = index_path(folder);
    match fs::read(&path) {
        Ok(text) if text.starts_with(FAMILY) && !text.starts_with(HEAD.as_bytes()) => {
            Err(Error::user(format!("{} was written by another version of this library", path.display())))
        }
        Ok(text) => Ok(Index::parse(&text, keyed)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
        Err(e) => Err(Error::io("read", &path, e)),
    }
}

/// A lock that as many as want to may share, or one may have alone; gone with the value, and with the process.
pub(crate) fn lease(folder: &Path, alone: bool) -> Result<Option<File>> {
    let file = open(&folder.join("runs.lock"), false).map_err(|e| Error::io("open", folder, e))?;
    match if alone { file.try_lock() } else { file.try_lock_shared() } {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(Error::io("lock", folder, e)),
    }
}

fn index_path(folder: &Path) -> PathBuf {
    folder.join("index")
}

/// The key of a folder; `Err(None)` where what is there is none.
fn read_key(path: &Path) -> Result<Option<String>, Option<Error>> {
    match fs::read_to_string(path) {
        Ok(text) if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(Some(text)),
        Ok(_) => Err(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(None),
        Err(e) => Err(Some(Error::io("read", path, e))),
    }
}

fn open(path: &Path, truncate: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(truncate);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Keeps other processes from changing the index for as long as the value lives.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("index.lock");
    let file = open(&path, false).map_err(|e| Error::io("open", &path, e))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => {
                let message = format!("{} is locked by another process", path.display());
                return Err(Error::provider(message).retryable());
            }
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path, e)),
        }
    }
}

/// Replaces a file as a whole. Only called under the lock, so that there is one new file at a time; one that a killed
/// process left is written over.
fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = open(&new, true)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&new);
        Error::io("write", path, e)
    })?;
    crate::ledger::sync_folder(path)
}
