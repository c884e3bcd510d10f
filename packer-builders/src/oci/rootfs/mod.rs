//! The root filesystem that is being built: a folder of this computer, changed only through open folders inside it.
//!
//! What the disk cannot hold is kept beside it: for an ordinary user, who can give files to nobody else, owners, modes
//! that would shut the user out, and privileged attributes; for everybody, device nodes, which are never made on this
//! computer.

mod find;
mod scan;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use packer_core::{Error, Result};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown, fsetxattr,
    linkat, mkdirat, openat, renameat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

pub(super) use find::{Last, Place};
pub(super) use scan::{Change, Snapshot};

/// Whose something is, what may be done with it, and its extended attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permission bits, with set-uid, set-gid and sticky.
    pub(super) mode: u32,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Attributes {
    /// Root's, with these permission bits.
    pub(super) fn root(mode: u32) -> Self {
        Self { mode, ..Self::default() }
    }
}

/// A device node that the image has and the disk has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) block: bool,
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) attributes: Attributes,
    pub(super) mtime: i64,
}

/// Names a file for as long as it exists; the time tells it from a later one with its number.
type Identity = (u64, Option<SystemTime>);

#[derive(Debug, Default)]
struct Beside {
    /// What the disk says of the mode, and what is really meant, by file.
    held: HashMap<Identity, (u32, Attributes)>,
    devices: BTreeMap<PathBuf, Device>,
    /// Empty files and folders that were made only for something to be mounted on.
    mountpoints: BTreeSet<PathBuf>,
}

#[derive(Debug)]
pub(super) struct Rootfs {
    path: PathBuf,
    root: OwnedFd,
    /// Whether files can be given to anybody.
    any_owner: bool,
    beside: Mutex<Beside>,
    unique: AtomicU64,
}

impl Rootfs {
    /// Makes the empty folder.
    pub(super) fn create(path: PathBuf) -> Result<Self> {
        let failed = |e| Error::io("mkdir", &path, e);
        fs::DirBuilder::new().mode(0o755).create(&path).map_err(failed)?;
        let root = OwnedFd::from(File::open(&path).map_err(failed)?);
        // The process's umask must not show in the image.
        fchmod(&root, Mode::from_raw_mode(0o755)).map_err(|e| failed(e.into()))?;
        let give = |uid, gid| fchown(&root, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        // Where ids are mapped, giving to root may work and giving to others not.
        let any_owner = give(1, 1).and_then(|()| give(0, 0)).is_ok();
        Ok(Self { path, root, any_owner, beside: Mutex::default(), unique: AtomicU64::new(0) })
    }

    /// Where it is on this computer.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where something of the tree is on this computer. For what is known to hold no links on the way.
    pub(super) fn disk(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() { self.path.clone() } else { self.path.join(path) }
    }

    fn beside(&self) -> MutexGuard<'_, Beside> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a path leads.
    pub(super) fn find(&self, path: &Path, last: Last) -> io::Result<Place> {
        find::find(&self.root, path, last, false)
    }

    /// The same; folders that are missing on the way are made.
    pub(super) fn find_or_make(&self, path: &Path, last: Last) -> io::Result<Place> {
        find::find(&self.root, path, last, true)
    }

    /// A folder, opened and made where it is missing, and where it really is.
    pub(super) fn find_folder(&self, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        let place = self.find_or_make(path, Last::Followed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat(&place.dir, place.name.as_bytes(), flags, Mode::empty());
        let dir = match open() {
            Err(Errno::NOENT) => {
                self.make_dir(&place, &Attributes::root(0o755))?;
                open()?
            }
            dir => dir?,
        };
        Ok((dir, place.path))
    }

    /// What is in a place; `None` where nothing is.
    pub(super) fn stat(&self, place: &Place) -> io::Result<Option<Metadata>> {
        match fs::symlink_metadata(self.disk(&place.path)) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What a path leads to, links followed; `None` where that is nothing.
    pub(super) fn look(&self, path: &Path) -> io::Result<Option<(Place, Metadata)>> {
        let place = match self.find(path, Last::Followed) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            place => place?,
        };
        Ok(self.stat(&place)?.map(|metadata| (place, metadata)))
    }

    /// Opens a file for reading.
    pub(super) fn open(&self, place: &Place) -> io::Result<File> {
        // Not waiting for the other end of a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = || openat(&place.dir, place.name.as_bytes(), flags, Mode::empty()).map(File::from);
        let file = match open() {
            Err(Errno::ACCESS) => {
                self.let_in(&place.path)?;
                open()?
            }
            file => file?,
        };
        if file.metadata()?.is_dir() { Err(Errno::ISDIR.into()) } else { Ok(file) }
    }

    /// Makes something readable whose mode keeps its own owner (us) out, and remembers the mode that is meant.
    pub(super) fn let_in(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let disk = self.disk(path);
        let before = fs::symlink_metadata(&disk)?;
        if before.is_symlink() || self.any_owner {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let attributes = self.attributes_of(&disk, &before)?;
        let mode = readable(before.is_dir(), attributes.mode);
        fs::set_permissions(&disk, fs::Permissions::from_mode(mode))?;
        self.beside().held.insert(identity(&before), (mode, attributes));
        Ok(())
    }

    /// Begins to write a file that takes its place when it is finished.
    pub(super) fn new_file(&self, place: Place) -> io::Result<NewFile<'_>> {
        if matches!(self.stat(&place)?, Some(there) if there.is_dir()) {
            return Err(Errno::ISDIR.into());
        }
        let number = self.unique.fetch_add(1, Ordering::Relaxed);
        let name: OsString = format!(".packer-oci-{}-{number}", std::process::id()).into();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&place.dir, name.as_bytes(), flags, Mode::from_raw_mode(0o600))?;
        Ok(NewFile { rootfs: self, place, temporary: Some(name), file: File::from(fd) })
    }

    /// Makes a folder, or gives one that is there these attributes.
    pub(super) fn make_dir(&self, place: &Place, attributes: &Attributes) -> io::Result<()> {
        match mkdirat(&place.dir, place.name.as_bytes(), Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&place.dir, place.name.as_bytes(), flags, Mode::empty())?;
        self.dress(fd.as_fd(), attributes)
    }

    /// Makes a symbolic link; nothing may be there.
    pub(super) fn make_link(&self, place: &Place, target: &[u8], attributes: &Attributes) -> io::Result<()> {
        symlinkat(target, &place.dir, place.name.as_bytes())?;
        self.own_undressed(place, attributes)
    }

    /// Makes a named pipe; nothing may be there.
    pub(super) fn make_pipe(&self, place: &Place, attributes: &Attributes) -> io::Result<()> {
        let mode = Mode::from_raw_mode(attributes.mode as rustix::fs::RawMode);
        #[cfg(not(target_vendor = "apple"))]
        rustix::fs::mkfifoat(&place.dir, place.name.as_bytes(), mode)?;
        #[cfg(target_vendor = "apple")]
        return Err(io::Error::new(io::ErrorKind::Unsupported, format!("named pipes ({mode:?})")));
        rustix::fs::chmodat(&place.dir, place.name.as_bytes(), mode, AtFlags::empty())?;
        self.own_undressed(place, attributes)
    }

    /// Gives another name to what is there.
    pub(super) fn make_hard_link(&self, there: &Place, place: &Place) -> io::Result<()> {
        let flags = AtFlags::empty();
        Ok(linkat(&there.dir, there.name.as_bytes(), &place.dir, place.name.as_bytes(), flags)?)
    }

    /// Remembers a device node.
    pub(super) fn hold_device(&self, path: PathBuf, device: Device) {
        self.beside().devices.insert(path, device);
    }

    /// The remembered device of a path.
    pub(super) fn device(&self, path: &Path) -> Option<Device> {
        self.beside().devices.get(path).cloned()
    }

    /// The remembered devices directly in a folder.
    pub(super) fn devices_in(&self, folder: &Path) -> Vec<PathBuf> {
        let beside = self.beside();
        beside.devices.keys().filter(|path| path.parent() == Some(folder)).cloned().collect()
    }

    /// Removes whatever is in a place, with all that is in it.
    pub(super) fn remove(&self, place: &Place) -> io::Result<()> {
        if place.path.as_os_str().is_empty() {
            return Err(Errno::BUSY.into());
        }
        self.beside().devices.retain(|path, _| !path.starts_with(&place.path));
        let disk = self.disk(&place.path);
        match fs::symlink_metadata(&disk) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&disk),
            Ok(_) => fs::remove_file(&disk),
        }
    }

    /// Makes something to mount on, unless it is there, and remembers that it is no part of the image.
    pub(super) fn mountpoint(&self, path: &Path, folder: bool) -> io::Result<PathBuf> {
        let mut made = PathBuf::new();
        let place = self.find(path, Last::Followed);
        let place = match place {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // The folders that will be made on the way are remembered too.
                let parts: Vec<_> =
                    path.components().filter(|c| matches!(c, std::path::Component::Normal(_))).collect();
                for part in &parts[..parts.len().saturating_sub(1)] {
                    made.push(part);
                    if self.look(&made)?.is_none() {
                        let folder = self.find(&made, Last::Followed)?;
                        self.make_dir(&folder, &Attributes::root(0o755))?;
                        self.beside().mountpoints.insert(folder.path.clone());
                    }
                }
                self.find(path, Last::Followed)?
            }
            place => place?,
        };
        if self.stat(&place)?.is_none() {
            if folder {
                self.make_dir(&place, &Attributes::root(0o755))?;
            } else {
                let path = place.path.clone();
                self.new_file(place)?.finish(&Attributes::root(0o644), None)?;
                self.beside().mountpoints.insert(path.clone());
                return Ok(path);
            }
            self.beside().mountpoints.insert(place.path.clone());
        }
        Ok(place.path)
    }

    /// Sets when a file, folder or link was changed last.
    pub(super) fn set_time(&self, place: &Place, seconds: i64) -> io::Result<()> {
        let at = AtFlags::SYMLINK_NOFOLLOW;
        Ok(utimensat(&place.dir, place.name.as_bytes(), &times(seconds), at)?)
    }

    /// The attributes of something of the tree as the image is to have them.
    pub(super) fn attributes(&self, path: &Path, metadata: &Metadata) -> io::Result<Attributes> {
        self.attributes_of(&self.disk(path), metadata)
    }

    fn attributes_of(&self, disk: &Path, metadata: &Metadata) -> io::Result<Attributes> {
        let mode = metadata.mode() & 0o7777;
        let mut attributes =
            Attributes { uid: metadata.uid(), gid: metadata.gid(), mode, xattrs: xattrs(disk)? };
        if self.any_owner {
            return Ok(attributes);
        }
        (attributes.uid, attributes.gid) = (0, 0);
        if let Some((on_disk, meant)) = self.beside().held.get(&identity(metadata)) {
            (attributes.uid, attributes.gid) = (meant.uid, meant.gid);
            // A link has no mode of its own.
            if *on_disk == mode && !metadata.is_symlink() {
                attributes.mode = meant.mode;
            }
            for (name, value) in &meant.xattrs {
                attributes.xattrs.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        Ok(attributes)
    }

    /// The owner inside of what belongs to an owner outside: who builds is root, where nobody else can be.
    pub(super) fn owner_inside(&self, metadata: &Metadata) -> (u32, u32) {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let inside = |id: u32, own: u32| if !self.any_owner && id == own { 0 } else { id };
        (inside(metadata.uid(), own.0), inside(metadata.gid(), own.1))
    }

    /// Gives an open file or folder its attributes.
    fn dress(&self, fd: BorrowedFd<'_>, attributes: &Attributes) -> io::Result<()> {
        let mut left = BTreeMap::new();
        let mut mode = attributes.mode;
        let file = File::from(fd.try_clone_to_owned()?);
        if self.any_owner {
            fchown(fd, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))?;
        } else {
            mode = readable(file.metadata()?.is_dir(), mode);
        }
        for (name, value) in &attributes.xattrs {
            match fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS | Errno::INVAL) => {
                    left.insert(name.clone(), value.clone());
                }
                Err(e) => return Err(e.into()),
            }
        }
        // Behind the owner, which takes set-uid and set-gid away.
        fchmod(fd, Mode::from_raw_mode(mode as rustix::fs::RawMode))?;
        let plain = !self.any_owner && (attributes.uid, attributes.gid, attributes.mode) == (0, 0, mode);
        if !left.is_empty() || !(self.any_owner || plain) {
            let meant = Attributes { xattrs: left, ..attributes.clone() };
            self.beside().held.insert(identity(&file.metadata()?), (mode, meant));
        }
        Ok(())
    }

    /// Gives what cannot be opened (a link, a pipe) its owner.
    fn own_undressed(&self, place: &Place, attributes: &Attributes) -> io::Result<()> {
        if self.any_owner {
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            let at = AtFlags::SYMLINK_NOFOLLOW;
            chownat(&place.dir, place.name.as_bytes(), Some(uid), Some(gid), at)?;
        } else if (attributes.uid, attributes.gid) != (0, 0)
            && let Some(metadata) = self.stat(place)?
        {
            let meant = Attributes { xattrs: BTreeMap::new(), ..attributes.clone() };
            self.beside().held.insert(identity(&metadata), (metadata.mode() & 0o7777, meant));
        }
        Ok(())
    }
}

/// A file that is being written beside its place. Dropped before it is finished, it is gone.
#[derive(Debug)]
pub(super) struct NewFile<'a> {
    rootfs: &'a Rootfs,
    place: Place,
    temporary: Option<OsString>,
    pub(super) file: File,
}

impl NewFile<'_> {
    /// Gives it its attributes, its time (seconds; `None`: now) and its place.
    pub(super) fn finish(mut self, attributes: &Attributes, mtime: Option<i64>) -> io::Result<()> {
        self.rootfs.dress(self.file.as_fd(), attributes)?;
        if let Some(seconds) = mtime {
            rustix::fs::futimens(&self.file, &times(seconds))?;
        }
        if let Some(name) = self.temporary.take() {
            let (dir, to) = (&self.place.dir, self.place.name.as_bytes());
            if let Err(e) = renameat(dir, name.as_bytes(), dir, to) {
                self.temporary = Some(name);
                return Err(e.into());
            }
            self.rootfs.beside().devices.remove(&self.place.path);
        }
        Ok(())
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.temporary.take() {
            // What cannot be removed goes with the whole tree.
            let _ = unlinkat(&self.place.dir, name.as_bytes(), AtFlags::empty());
        }
    }
}

/// The mode with which an ordinary user can still read and replace what is his.
fn readable(folder: bool, mode: u32) -> u32 {
    mode | if folder { 0o700 } else { 0o600 }
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.ino(), metadata.created().ok())
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// The extended attributes of a file, other than those that belong to this computer and not to the file.
pub(super) fn xattrs(disk: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    use rustix::fs::{lgetxattr, llistxattr};
    let mut found = BTreeMap::new();
    let mut names = Vec::with_capacity(1024);
    loop {
        match llistxattr(disk, rustix::buffer::spare_capacity(&mut names)) {
            Ok(_) => break,
            Err(Errno::RANGE) => {
                let more = names.capacity() * 4;
                names = Vec::with_capacity(more);
            }
            Err(Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM) => return Ok(found),
            Err(e) => return Err(e.into()),
        }
    }
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"system.") || name.starts_with(b"trusted.") || name == b"security.selinux" {
            continue;
        }
        let mut value = Vec::with_capacity(64 * 1024);
        match lgetxattr(disk, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => drop(found.insert(name.to_vec(), value)),
            Err(Errno::NODATA | Errno::ACCESS | Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(found)
}
