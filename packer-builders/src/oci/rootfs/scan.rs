//! What is in the tree at one moment, and what has changed between two.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use packer_core::kit::blocking::Stop;
use packer_core::{Error, Result};

use super::{Rootfs, xattrs};

/// What tells whether something is still as it was. The time of change says so for content, attributes and names
/// alike: nothing can set it back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    inode: u64,
    size: u64,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    changed: (i64, i64),
    /// Of folders, whose times say nothing: these change with what they contain.
    xattrs: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// Everything in the tree, by path, folders before what they contain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    entries: BTreeMap<PathBuf, Seen>,
    devices: BTreeSet<PathBuf>,
}

/// What a layer says about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is there, as it is now.
    Put,
    /// It is there no more.
    Gone,
}

impl Rootfs {
    /// Looks at everything. What is changed after this returns is seen as changed, however soon.
    pub(crate) fn scan(&self, stop: &Stop) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let mut latest = (0, 0);
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            stop.check()?;
            let disk = self.disk(&folder);
            let failed = |e| Error::io("read", &disk, e);
            let list = match fs::read_dir(&disk) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    self.let_in(&folder).map_err(failed)?;
                    fs::read_dir(&disk)
                }
                list => list,
            };
            let metadata = fs::symlink_metadata(&disk).map_err(failed)?;
            let seen = Seen::folder(&disk, &metadata).map_err(failed)?;
            snapshot.entries.insert(folder.clone(), seen);
            for entry in list.map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let path = folder.join(entry.file_name());
                let metadata = entry.metadata().map_err(failed)?;
                latest = latest.max((metadata.ctime(), metadata.ctime_nsec()));
                if metadata.is_dir() {
                    folders.push(path);
                } else if !metadata.file_type().is_socket() {
                    // A socket is the way to a program that runs no more.
                    snapshot.entries.insert(path, Seen::of(&metadata));
                }
            }
        }
        self.leave_out_mountpoints(&mut snapshot);
        let beside = self.beside();
        let parent_is_there =
            |path: &Path| path.parent().is_some_and(|parent| snapshot.entries.contains_key(parent));
        let there = |path: &&PathBuf| parent_is_there(path) && !snapshot.entries.contains_key(*path);
        snapshot.devices = beside.devices.keys().filter(there).cloned().collect();
        drop(beside);
        self.wait_beyond(latest).map_err(|e| Error::io("write", self.path(), e))?;
        Ok(snapshot)
    }

    /// What was made to be mounted on and is still empty is no part of the image.
    fn leave_out_mountpoints(&self, snapshot: &mut Snapshot) {
        let beside = self.beside();
        for path in beside.mountpoints.iter().rev() {
            let Some(seen) = snapshot.entries.get(path) else { continue };
            let below = snapshot.entries.range(path.clone()..).nth(1);
            let empty = match seen.xattrs {
                Some(_) => below.is_none_or(|(next, _)| !next.starts_with(path)),
                None => seen.size == 0,
            };
            if empty {
                snapshot.entries.remove(path);
            }
        }
    }

    /// Waits until the clock of the filesystem, which moves in steps, has passed the latest change.
    fn wait_beyond(&self, latest: (i64, i64)) -> io::Result<()> {
        let probe = self.path().with_extension("clock");
        let began = Instant::now();
        loop {
            fs::write(&probe, b"")?;
            let now = fs::symlink_metadata(&probe)?;
            fs::remove_file(&probe)?;
            // A clock that was set back never gets there.
            if (now.ctime(), now.ctime_nsec()) > latest || began.elapsed() > Duration::from_secs(2) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            xattrs: None,
        }
    }

    fn folder(disk: &Path, metadata: &Metadata) -> io::Result<Self> {
        let (size, modified, changed) = (0, (0, 0), (0, 0));
        Ok(Self { size, modified, changed, xattrs: Some(xattrs(disk)?), ..Self::of(metadata) })
    }
}

impl Snapshot {
    /// What a layer over `before` has to say to get here, in the order of paths: what is new or different, the folders
    /// it is in, and what is gone.
    pub(crate) fn since(&self, before: &Self) -> BTreeMap<PathBuf, Change> {
        let mut changes = BTreeMap::new();
        for (path, seen) in &self.entries {
            if before.entries.get(path) != Some(seen) {
                changes.insert(path.clone(), Change::Put);
            }
        }
        for path in self.devices.difference(&before.devices) {
            changes.insert(path.clone(), Change::Put);
        }
        for path in before.entries.keys().chain(&before.devices) {
            let there = self.entries.contains_key(path) || self.devices.contains(path);
            // With a folder goes what it contains; what is no folder any more contains nothing.
            let parent = path.parent().unwrap_or(Path::new(""));
            let in_folder = self.entries.get(parent).is_some_and(|seen| seen.xattrs.is_some());
            if !there && in_folder {
                changes.insert(path.clone(), Change::Gone);
            }
        }
        let parents: BTreeSet<PathBuf> =
            changes.keys().flat_map(|path| path.ancestors().skip(1)).map(Path::to_owned).collect();
        for parent in parents {
            changes.entry(parent).or_insert(Change::Put);
        }
        // The root is there anyway, and says something only where it was changed itself.
        if before.entries.get(Path::new("")) == self.entries.get(Path::new("")) {
            changes.remove(Path::new(""));
        }
        changes
    }
}
