//! The tar of a layer: what changed, in the order of paths, with nothing in it that differs from run to run.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use packer_core::kit::blocking::Stop;
use packer_core::{Error, Result};
use tar::{EntryType, Header};

use crate::oci::rootfs::{Attributes, Change, Last, Rootfs};

/// How times get into a layer, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// No file is newer than this, and what the build touched is exactly as old; `None`: as it is.
    pub(crate) epoch: Option<i64>,
    /// When the build began.
    pub(crate) began: i64,
}

impl Times {
    fn of(self, mtime: i64) -> i64 {
        match self.epoch {
            Some(epoch) if mtime >= self.began => epoch,
            Some(epoch) => mtime.min(epoch),
            None => mtime,
        }
    }
}

/// Writes the tar of these changes.
pub(crate) fn write(
    rootfs: &Rootfs,
    changes: &BTreeMap<PathBuf, Change>,
    times: Times,
    stop: &Stop,
    out: &mut dyn Write,
) -> Result<()> {
    let mut tar = Tar { rootfs, times, out, first_names: HashMap::new() };
    for (path, change) in changes {
        stop.check()?;
        let written = match change {
            Change::Put => tar.put(path, stop),
            Change::Gone => tar.gone(path),
        };
        written.map_err(|e| Error::io("pack", rootfs.disk(path), e))?;
    }
    // Two empty blocks end a tar.
    out.write_all(&[0; 1024]).map_err(|e| Error::provider(format!("write a layer: {e}")))
}

struct Tar<'a> {
    rootfs: &'a Rootfs,
    times: Times,
    out: &'a mut dyn Write,
    /// The name under which a file with several is in this layer.
    first_names: HashMap<u64, PathBuf>,
}

impl Tar<'_> {
    fn put(&mut self, path: &Path, stop: &Stop) -> io::Result<()> {
        let metadata = match std::fs::symlink_metadata(self.rootfs.disk(path)) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return self.put_device(path),
            Err(e) => return Err(e),
        };
        let attributes = self.rootfs.attributes(path, &metadata)?;
        let (kind, mtime) = (metadata.file_type(), self.times.of(metadata.mtime()));
        if !kind.is_dir() && metadata.nlink() > 1 {
            if let Some(first) = self.first_names.get(&metadata.ino()) {
                let (first, attributes) =
                    (first.clone(), Attributes { xattrs: BTreeMap::new(), ..attributes });
                return self.head(
                    EntryType::Link,
                    path,
                    &attributes,
                    mtime,
                    0,
                    Some(first.as_os_str().as_bytes()),
                );
            }
            self.first_names.insert(metadata.ino(), path.to_owned());
        }
        if kind.is_file() {
            return self.put_file(path, &metadata, &attributes, mtime, stop);
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(self.rootfs.disk(path))?;
            let target = Some(target.as_os_str().as_bytes());
            return self.head(EntryType::Symlink, path, &attributes, mtime, 0, target);
        }
        if kind.is_dir() {
            return self.head(EntryType::Directory, path, &attributes, mtime, 0, None);
        }
        if kind.is_fifo() {
            return self.head(EntryType::Fifo, path, &attributes, mtime, 0, None);
        }
        let kind = if kind.is_block_device() { EntryType::Block } else { EntryType::Char };
        let number = metadata.rdev();
        let mut header = self.header(kind, &attributes, mtime, 0)?;
        header.set_device_major(rustix::fs::major(number))?;
        header.set_device_minor(rustix::fs::minor(number))?;
        self.emit(header, path, &attributes, None)
    }

    fn put_device(&mut self, path: &Path) -> io::Result<()> {
        let Some(device) = self.rootfs.device(path) else { return Err(io::ErrorKind::NotFound.into()) };
        let kind = if device.block { EntryType::Block } else { EntryType::Char };
        let mut header = self.header(kind, &device.attributes, self.times.of(device.mtime), 0)?;
        header.set_device_major(device.major)?;
        header.set_device_minor(device.minor)?;
        self.emit(header, path, &device.attributes, None)
    }

    fn put_file(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        attributes: &Attributes,
        mtime: i64,
        stop: &Stop,
    ) -> io::Result<()> {
        let size = metadata.size();
        let file = self.rootfs.open(&self.rootfs.find(path, Last::Itself)?)?;
        self.head(EntryType::Regular, path, attributes, mtime, size, None)?;
        let mut content = stop.reader(file, None).take(size);
        let mut buffer = vec![0; 256 * 1024];
        let mut left = size;
        while left > 0 {
            let read = content.read(&mut buffer)?;
            if read == 0 {
                return Err(io::Error::other("the file got shorter while it was read"));
            }
            self.out.write_all(&buffer[..read])?;
            left -= read as u64;
        }
        self.pad(size)
    }

    /// An empty file whose name says what is gone.
    fn gone(&mut self, path: &Path) -> io::Result<()> {
        let mut name = std::ffi::OsString::from(".wh.");
        name.push(path.file_name().unwrap_or_default());
        let time = self.times.epoch.unwrap_or(0);
        self.head(EntryType::Regular, &path.with_file_name(name), &Attributes::root(0o644), time, 0, None)
    }

    fn head(
        &mut self,
        kind: EntryType,
        path: &Path,
        attributes: &Attributes,
        mtime: i64,
        size: u64,
        link: Option<&[u8]>,
    ) -> io::Result<()> {
        let header = self.header(kind, attributes, mtime, size)?;
        self.emit(header, path, attributes, link)
    }

    fn header(&self, kind: EntryType, attributes: &Attributes, mtime: i64, size: u64) -> io::Result<Header> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(attributes.mode);
        header.set_uid(u64::from(attributes.uid));
        header.set_gid(u64::from(attributes.gid));
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        header.set_size(size);
        header.set_device_major(0)?;
        header.set_device_minor(0)?;
        Ok(header)
    }

    /// Writes a header, and before it in an extended one what does not fit into it.
    fn emit(
        &mut self,
        mut header: Header,
        path: &Path,
        attributes: &Attributes,
        link: Option<&[u8]>,
    ) -> io::Result<()> {
        let mut name =
            if path.as_os_str().is_empty() { b".".to_vec() } else { path.as_os_str().as_bytes().to_vec() };
        if header.entry_type().is_dir() {
            name.push(b'/');
        }
        let mut records = Vec::new();
        let ustar = header.as_ustar_mut().ok_or_else(|| io::Error::other("no ustar header"))?;
        put_text(&mut ustar.name, &name);
        if name.len() > ustar.name.len() {
            record(&mut records, b"path", &name);
        }
        if let Some(link) = link {
            put_text(&mut ustar.linkname, link);
            if link.len() > ustar.linkname.len() {
                record(&mut records, b"linkpath", link);
            }
        }
        // Seven octal digits.
        for (key, id) in [(&b"uid"[..], attributes.uid), (b"gid", attributes.gid)] {
            if id > 0o7_777_777 {
                record(&mut records, key, id.to_string().as_bytes());
            }
        }
        for (name, value) in &attributes.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        if !records.is_empty() {
            let mut before = Header::new_ustar();
            before.set_entry_type(EntryType::XHeader);
            before.set_path("PaxHeaders/x")?;
            before.set_mode(0o644);
            before.set_uid(0);
            before.set_gid(0);
            before.set_mtime(0);
            before.set_size(records.len() as u64);
            before.set_cksum();
            self.out.write_all(before.as_bytes())?;
            self.out.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % 512) as usize;
        if over == 0 { Ok(()) } else { self.out.write_all(&[0; 512][over..]) }
    }
}

/// As much of a text as a field holds.
fn put_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// A record `LENGTH KEY=VALUE\n`, whose length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}
