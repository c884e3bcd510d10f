//! Unpacking layers of other people's into the tree: nothing in them leads out of it, and no bomb goes off.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};

use packer_core::kit::blocking::Stop;
use packer_core::{Error, Result};
use tar::EntryType;

use super::read::{Head, Reader};
use super::{Hashing, decompressed};
use crate::oci::rootfs::{Attributes, Device, Last, Place, Rootfs};

/// The system bears no longer path.
const LONGEST_PATH: usize = 4000;

/// How many times its size something may become by unpacking, from 1 GiB on.
const MOST_GROWTH: u64 = 200;

/// How much a base may unpack to.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u64,
    limit: Option<u64>,
}

impl Budget {
    /// Of so many bytes; `None`: 64 GiB, as long as nothing over 1 GiB grows to more than 200 times its size.
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self { left: limit.unwrap_or(64 << 30), limit }
    }

    fn spend(&mut self, bytes: u64, packed: u64, unpacked: u64) -> io::Result<()> {
        let grown = unpacked > 1 << 30 && unpacked / MOST_GROWTH > packed;
        if self.limit.is_none() && grown {
            let what = format!("it grows to more than {MOST_GROWTH} times its size");
            return Err(wrong(&format!("{what}; set base_limit if that is right")));
        }
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or_else(|| wrong("the base is larger than base_limit allows (64 GiB where none is given)"))?;
        Ok(())
    }
}

/// What a layer's bytes turned out to be.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) digest: String,
    pub(crate) diff_id: String,
}

/// Unpacks a packed or plain tar over what is in the tree; names that say what is gone are understood in a layer.
///
/// # Errors
/// What is no tar, leads out of the tree, or is more than `budget`; the tree is worth nothing then.
pub(crate) fn unpack(
    rootfs: &Rootfs,
    file: &Path,
    is_layer: bool,
    budget: &mut Budget,
    stop: &Stop,
) -> Result<Unpacked> {
    with_entries(file, budget, stop, |reader| Unpacker::new(rootfs, is_layer).all(reader, stop))
}

/// The entries of a packed or plain tar, for whatever is to be done with them; then its digests.
pub(crate) fn with_entries(
    file: &Path,
    budget: &mut Budget,
    stop: &Stop,
    work: impl FnOnce(&mut Reader<Chunks>) -> io::Result<()>,
) -> Result<Unpacked> {
    let failed = |e: io::Error| told(file, e);
    let mut packed =
        Hashing::new(stop.reader(File::open(file).map_err(|e| Error::io("open", file, e))?, None));
    // Decompressing and hashing is one processor's work, making files another's.
    std::thread::scope(|scope| {
        let (sender, chunks) = mpsc::sync_channel(4);
        let feeding = scope.spawn(move || feed(&mut packed, budget, &sender));
        let mut reader = Reader::new(Chunks { chunks, chunk: Vec::new(), at: 0 });
        // What follows the end of a tar is part of what is hashed.
        let worked = work(&mut reader).and_then(|()| reader.drain());
        drop(reader);
        let fed = feeding.join().map_err(|_| Error::internal("unpacking stopped"))?;
        // A stream that broke off makes a tar that ends too early: the stream's is the reason.
        let fed = fed.map_err(failed)?;
        worked.map_err(failed)?;
        fed.ok_or_else(|| Error::internal("unpacking stopped"))
    })
}

/// Sends what is packed in pieces; `None` where nobody wants them.
fn feed<R: Read + Send>(
    packed: &mut Hashing<R>,
    budget: &mut Budget,
    sender: &SyncSender<Vec<u8>>,
) -> io::Result<Option<Unpacked>> {
    let taken = AtomicU64::new(0);
    let tar = decompressed(Counted { inner: &mut *packed, count: &taken })?;
    let mut tar = Hashing::new(tar);
    loop {
        let mut chunk = Vec::with_capacity(256 * 1024);
        let read = (&mut tar).take(256 * 1024).read_to_end(&mut chunk)?;
        if read == 0 {
            break;
        }
        budget.spend(read as u64, taken.load(Ordering::Relaxed), tar.count)?;
        if sender.send(chunk).is_err() {
            return Ok(None);
        }
    }
    let diff_id = tar.digest();
    drop(tar);
    io::copy(packed, &mut io::sink())?;
    Ok(Some(Unpacked { digest: packed.digest(), diff_id }))
}

struct Counted<'a, R> {
    inner: R,
    count: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The pieces that [`feed`] sends.
pub(crate) struct Chunks {
    chunks: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            let Ok(chunk) = self.chunks.recv() else { return Ok(0) };
            (self.chunk, self.at) = (chunk, 0);
        }
        let read = (&self.chunk[self.at..]).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

fn told(file: &Path, e: io::Error) -> Error {
    let name = file.display();
    match e.kind() {
        _ if e.get_ref().is_some_and(|inner| inner.is::<Error>()) => {
            e.downcast::<Error>().unwrap_or_else(|e| Error::io("unpack", file, e))
        }
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            Error::user(format!("unpack {name}: {e}"))
        }
        io::ErrorKind::UnexpectedEof => Error::user(format!("unpack {name}: it ends too early")),
        _ => Error::io("unpack", file, e),
    }
}

fn wrong(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

struct Unpacker<'a> {
    rootfs: &'a Rootfs,
    is_layer: bool,
    /// What this layer has put into the tree: what it says is gone is not meant of that.
    made: BTreeSet<PathBuf>,
    /// The times of folders, set last: they change with what is put into them.
    times: Vec<(PathBuf, i64)>,
    /// The folder of the last entry: as named, open, and where it really is.
    folder: Option<(PathBuf, OwnedFd, PathBuf)>,
}

impl<'a> Unpacker<'a> {
    fn new(rootfs: &'a Rootfs, is_layer: bool) -> Self {
        Self { rootfs, is_layer, made: BTreeSet::new(), times: Vec::new(), folder: None }
    }

    fn all<R: Read>(mut self, tar: &mut Reader<R>, stop: &Stop) -> io::Result<()> {
        while let Some(head) = tar.next()? {
            stop.check().map_err(io::Error::other)?;
            let shown = String::from_utf8_lossy(&head.path).into_owned();
            self.entry(&head, tar).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => e,
                kind => io::Error::new(kind, format!("{shown}: {}", packer_core::error::os_text(&e))),
            })?;
        }
        for (path, time) in self.times.iter().rev() {
            let place = self.rootfs.find(path, Last::Itself)?;
            if matches!(self.rootfs.stat(&place)?, Some(there) if there.is_dir()) {
                self.rootfs.set_time(&place, *time)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, head: &Head, content: &mut impl Read) -> io::Result<()> {
        let path = inside(&head.path)?;
        let name = path.file_name().unwrap_or_default().as_bytes();
        if self.is_layer
            && let Some(gone) = name.strip_prefix(b".wh.")
        {
            return self.gone(&path, gone);
        }
        let place = self.place(&path)?;
        let attributes = attributes(head)?;
        let there = self.rootfs.stat(&place)?;
        let is_dir = there.as_ref().is_some_and(|there| there.is_dir());
        let file = matches!(head.kind, EntryType::Regular | EntryType::Continuous);
        if path.as_os_str().is_empty() && head.kind != EntryType::Directory {
            return Err(wrong("this is no name for a file"));
        }
        // A folder stays where one is wanted, a file where one will take its place.
        let stays = if head.kind == EntryType::Directory { is_dir } else { file && !is_dir };
        if there.is_some() && !stays && head.kind != EntryType::Link {
            self.rootfs.remove(&place)?;
        }
        match head.kind {
            EntryType::Regular | EntryType::Continuous => {
                let made = place.path.clone();
                let mut file = self.rootfs.new_file(place)?;
                io::copy(content, &mut file.file)?;
                file.finish(&attributes, Some(head.mtime))?;
                self.made.insert(made);
                return Ok(());
            }
            EntryType::Directory => {
                self.rootfs.make_dir(&place, &attributes)?;
                self.times.push((place.path.clone(), head.mtime));
            }
            EntryType::Symlink => {
                self.rootfs.make_link(&place, &head.link, &attributes)?;
                self.rootfs.set_time(&place, head.mtime)?;
            }
            EntryType::Link => self.hard_link(head, &place)?,
            EntryType::Fifo => {
                self.rootfs.make_pipe(&place, &attributes)?;
                self.rootfs.set_time(&place, head.mtime)?;
            }
            EntryType::Char | EntryType::Block => {
                let (major, minor) = head.device;
                let block = head.kind == EntryType::Block;
                let device = Device { block, major, minor, attributes, mtime: head.mtime };
                self.rootfs.hold_device(place.path.clone(), device);
            }
            kind => {
                return Err(wrong(&format!(
                    "entries of the kind {:?} are not understood",
                    kind.as_byte() as char
                )));
            }
        }
        self.made.insert(place.path);
        Ok(())
    }

    /// The place of a path, the folders on the way made. Links on the way are followed, the last part is not.
    fn place(&mut self, path: &Path) -> io::Result<Place> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.rootfs.find(Path::new(""), Last::Followed);
        };
        if self.folder.as_ref().is_none_or(|(named, ..)| named != parent) {
            let (open, real) = self.rootfs.find_folder(parent)?;
            self.folder = Some((parent.to_owned(), open, real));
        }
        match &self.folder {
            Some((_, open, real)) => {
                Ok(Place { dir: open.try_clone()?, name: name.to_owned(), path: real.join(name) })
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn hard_link(&mut self, head: &Head, place: &Place) -> io::Result<()> {
        let target = inside(&head.link)?;
        let there = self.rootfs.find(&target, Last::Itself)?;
        if there.path == place.path {
            return Ok(());
        }
        if let Some(device) = self.rootfs.device(&there.path) {
            self.rootfs.remove(place)?;
            self.rootfs.hold_device(place.path.clone(), device);
            return Ok(());
        }
        match self.rootfs.stat(&there)? {
            Some(found) if !found.is_dir() => {
                self.rootfs.remove(place)?;
                self.rootfs.make_hard_link(&there, place)
            }
            _ => Err(wrong(&format!("it is a link to {}, which is no file", target.display()))),
        }
    }

    /// Something of the layers below is gone: a name, or with an opaque mark all that is in a folder.
    fn gone(&mut self, path: &Path, name: &[u8]) -> io::Result<()> {
        let target = match name {
            b".wh..opq" => path.parent().unwrap_or(Path::new("")).to_owned(),
            // Marks of an old storage driver that say nothing about the image.
            _ if name.starts_with(b".wh.") => return Ok(()),
            b"" | b"." | b".." => return Err(wrong("it says that something is gone, but not what")),
            name => path.with_file_name(OsStr::from_bytes(name)),
        };
        let opaque = name == b".wh..opq";
        let place = match self.rootfs.find(&target, if opaque { Last::Followed } else { Last::Itself }) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            place => place?,
        };
        self.folder = None;
        if opaque { self.empty(&place.path) } else { self.remove_lower(&place.path) }
    }

    /// Removes what this layer has not made itself.
    fn remove_lower(&self, path: &Path) -> io::Result<()> {
        if self.made.range(path.to_owned()..).next().is_none_or(|made| !made.starts_with(path)) {
            return self.rootfs.remove(&self.rootfs.find(path, Last::Itself)?);
        }
        self.empty(path)
    }

    fn empty(&self, path: &Path) -> io::Result<()> {
        let disk = self.rootfs.disk(path);
        if !std::fs::symlink_metadata(&disk).is_ok_and(|there| there.is_dir()) {
            return Ok(());
        }
        for entry in std::fs::read_dir(&disk)? {
            self.remove_lower(&path.join(entry?.file_name()))?;
        }
        for device in self.rootfs.devices_in(path) {
            self.remove_lower(&device)?;
        }
        Ok(())
    }
}

/// A path of a tar as one inside the tree. One that climbs is hostile.
fn inside(path: &[u8]) -> io::Result<PathBuf> {
    if path.len() > LONGEST_PATH {
        return Err(wrong("the path is too long"));
    }
    let mut inside = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(path)).components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(wrong("a path with `..` would lead out of the image"));
            }
        }
    }
    Ok(inside)
}

fn attributes(head: &Head) -> io::Result<Attributes> {
    let id = |id: u64| u32::try_from(id).map_err(|_| wrong("the number of its owner is too large"));
    // Others are this computer's business: of its security modules, of its overlays.
    let ours = |name: &[u8]| name.starts_with(b"user.") || name == b"security.capability";
    let xattrs =
        head.xattrs.iter().filter(|(name, _)| ours(name)).map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok(Attributes { uid: id(head.uid)?, gid: id(head.gid)?, mode: head.mode, xattrs })
}
