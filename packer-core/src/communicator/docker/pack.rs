//! Makes the archives that an engine unpacks.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::path::Path;

use super::super::tree::{Entry, LocalTree, mode};
use crate::context::Progress;
use crate::error::{Error, Result, os_text};
use crate::kit::blocking::Stop;

/// Who owns what is packed, by number; `None` is whoever owns the local file.
pub(crate) type Ids = Option<(u64, u64)>;

/// The header of one entry, with the longer forms of its name where it is long; its content follows.
pub(super) fn file_header(name: &str, size: u64, mode: u32, mtime: u64, ids: (u64, u64)) -> Result<Vec<u8>> {
    let mut header = plain_header(tar::EntryType::Regular, mode, mtime, ids);
    header.set_size(size);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, io::empty()).map_err(|e| named(name, &e))?;
    // Not finished: the end of the archive comes behind the content.
    Ok(archive.get_ref().clone())
}

/// What stands behind a content of this size: it is filled up to whole blocks, then comes the end of the archive.
pub(super) fn tail(size: u64) -> Vec<u8> {
    let fill = usize::try_from((512 - size % 512) % 512).unwrap_or(0);
    vec![0; fill + 1024]
}

fn named(name: &str, error: &io::Error) -> Error {
    Error::user(format!("{name:?} cannot be the name of an uploaded file: {}", os_text(error)))
}

fn plain_header(kind: tar::EntryType, mode: u32, mtime: u64, (uid, gid): (u64, u64)) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(mtime);
    header.set_uid(uid);
    header.set_gid(gid);
    header.set_size(0);
    header
}

/// Packs one file under a name of the machine's. Returns the writer.
pub(super) fn file<W: Write>(
    stop: &Stop,
    writer: W,
    path: &Path,
    name: &str,
    ids: Ids,
    progress: Option<Progress>,
) -> Result<W> {
    let failed = |e: io::Error| Error::io("open", path, e);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Error::user(format!("{} is a folder", path.display())));
    }
    let size = metadata.len();
    let mut writer = writer;
    let bits = full_mode(&metadata);
    writer
        .write_all(&file_header(name, size, bits, modified(path), ids.unwrap_or(owner(&metadata)))?)
        .map_err(broken)?;
    // A file that grows meanwhile must not run over its entry; one that shrinks is not what was to be uploaded.
    let copied = io::copy(&mut stop.reader(file.take(size), progress), &mut writer).map_err(broken)?;
    if copied != size {
        return Err(Error::user(format!("{} became shorter while it was read", path.display())));
    }
    writer.write_all(&tail(size)).map_err(broken)?;
    Ok(writer)
}

/// Packs a tree. `root` is what stands before every name, and an entry of its own; `None` where the tree is the top of the
/// archive. Returns the writer.
pub(crate) fn tree<W: Write>(
    stop: &Stop,
    writer: W,
    tree: &LocalTree,
    root: Option<&str>,
    ids: Ids,
    extra: Option<(&str, &[u8])>,
    mut progress: Option<Progress>,
) -> Result<W> {
    let mut archive = tar::Builder::new(writer);
    if let Some(root) = root {
        let mut header = plain_header(tar::EntryType::Directory, tree.mode, 0, ids.unwrap_or((0, 0)));
        archive.append_data(&mut header, format!("{root}/"), io::empty()).map_err(broken)?;
    }
    for entry in &tree.entries {
        stop.check()?;
        let name = match root {
            Some(root) => format!("{root}/{}", entry.relative),
            None => entry.relative.clone(),
        };
        append(&mut archive, entry, &name, ids)?;
        if let Some(progress) = &mut progress {
            progress.advance(entry.size.unwrap_or(0));
        }
    }
    if let Some((name, content)) = extra {
        let mut header = plain_header(tar::EntryType::Regular, 0o644, 0, ids.unwrap_or((0, 0)));
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).map_err(broken)?;
    }
    archive.into_inner().map_err(broken)
}

fn append<W: Write>(archive: &mut tar::Builder<W>, entry: &Entry, name: &str, ids: Ids) -> Result<()> {
    let failed = |e: io::Error| Error::io("open", &entry.path, e);
    if let Some(target) = &entry.link {
        let metadata = std::fs::symlink_metadata(&entry.path).map_err(failed)?;
        let ids = ids.unwrap_or(owner(&metadata));
        let mut header = plain_header(tar::EntryType::Symlink, 0o777, modified(&entry.path), ids);
        return archive.append_link(&mut header, name, target).map_err(broken);
    }
    if entry.size.is_none() {
        let metadata = std::fs::metadata(&entry.path).map_err(failed)?;
        let (bits, ids) = (full_mode(&metadata), ids.unwrap_or(owner(&metadata)));
        let mut header = plain_header(tar::EntryType::Directory, bits, modified(&entry.path), ids);
        return archive.append_data(&mut header, name, io::empty()).map_err(broken);
    }
    let file = File::open(&entry.path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let size = metadata.len();
    let mtime = metadata.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    let ids = ids.unwrap_or(owner(&metadata));
    let mtime = mtime.map_or(0, |d| d.as_secs());
    let mut header = plain_header(tar::EntryType::Regular, full_mode(&metadata), mtime, ids);
    header.set_size(size);
    // See `file`; one of many that shrinks is filled up, as tar does.
    archive.append_data(&mut header, name, file.chain(io::repeat(0)).take(size)).map_err(broken)
}

/// The reader of the archive is gone, or a file could not be read.
fn broken(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::provider(format!("upload: {}", os_text(&error))),
    }
}

/// The permission bits with those for set-uid and the like.
fn full_mode(metadata: &Metadata) -> u32 {
    #[cfg(unix)]
    {
        let _ = mode; // for other systems
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777
    }
    #[cfg(not(unix))]
    {
        // Nothing here says what is a program; it must not fail for that.
        mode(metadata) | 0o111
    }
}

#[cfg_attr(not(unix), allow(unused_variables))]
fn owner(metadata: &Metadata) -> (u64, u64) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (metadata.uid().into(), metadata.gid().into())
    }
    #[cfg(not(unix))]
    {
        (0, 0)
    }
}
fn modified(path: &Path) -> u64 {
    let time = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    time.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |d| d.as_secs())
}
