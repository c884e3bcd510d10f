//! Files that appear whole: written beside their target, synced, renamed.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::ledger::Resource;

/// A file that is being written. [`commit`](Self::commit) gives it its name; dropped before, it leaves nothing behind
/// and the target as it was. What a killed process leaves is in the ledger.
///
/// A target that exists keeps its permission bits, and its owner where this process may say so; a symbolic link stays one and what it points to is replaced;
/// what is no file (a device, a pipe) is written directly.
///
/// ```
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let bench = packer_core::testing::Bench::new();
/// # let cx = bench.context();
/// # let path = bench.folder().join("list");
/// use std::io::Write;
/// use packer_core::{Error, WholeFile};
/// let mut list = WholeFile::create(cx, &path, 0o644)?;
/// writeln!(list, "one").map_err(|e| Error::io("write", &path, e))?;
/// assert!(!path.exists());
/// list.commit()?;
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
/// # Ok::<(), packer_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct WholeFile {
    file: File,
    target: PathBuf,
    beside: Option<Beside>,
}

#[derive(Debug)]
struct Beside {
    path: PathBuf,
    /// Where it is told of; nowhere outside of a run.
    owner: Option<(Context, Resource)>,
}

impl WholeFile {
    /// Starts to write `target`, whose folder must exist. A new file gets the permission bits `mode` (Unix; less
    /// what the process's umask takes away).
    ///
    /// # Errors
    /// `open TARGET: …` where the target cannot be written.
    pub fn create(cx: &Context, target: impl AsRef<Path>, mode: u32) -> Result<Self> {
        Self::start(Some(cx), target.as_ref(), mode)
    }

    /// The same outside of a run, where there is no ledger: a killed process leaves a hidden file beside the target.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_outside_of_a_run(target: impl AsRef<Path>, mode: u32) -> Result<Self> {
        Self::start(None, target.as_ref(), mode)
    }

    fn start(cx: Option<&Context>, named: &Path, mode: u32) -> Result<Self> {
        let fail = |e| Error::io("open", named, e);
        let mut target = named.to_owned();
        let existing = match fs::metadata(named) {
            Ok(found) => Some(found),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(fail(e)),
        };
        if let Some(found) = &existing {
            if !found.is_file() {
                // Opening a folder for writing gives the system's own error.
                let file = OpenOptions::new().write(true).open(named).map_err(fail)?;
                return Ok(Self { file, target, beside: None });
            }
            target = fs::canonicalize(named).map_err(fail)?;
            if found.permissions().readonly() {
                return Err(fail(io::ErrorKind::PermissionDenied.into()));
            }
        }
        let path = target.with_file_name(name_beside(&target));
        let mut beside = Beside { path, owner: None };
        if let Some(cx) = cx {
            let resource = Resource::file(&beside.path);
            cx.record(resource.clone())?;
            beside.owner = Some((cx.clone(), resource));
        }
        let file = open(&beside.path, mode, existing.as_ref()).map_err(fail)?;
        Ok(Self { file, target, beside: Some(beside) })
    }

    /// The file itself.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes what was written durable and gives it its name, as one of the files of the artifact that the component is making:
    /// until the artifact that lists it is complete, the file is in the ledger and goes with the build. Several files that
    /// belong together so stay or go together. The ledger knows the file from one that somebody puts in its place.
    ///
    /// # Errors
    /// Where that fails; the target is as it was then.
    pub fn commit_for_artifact(self) -> Result<()> {
        self.announce_target()?;
        self.commit()
    }

    /// The same for a file that must be new: where somebody has made one of its name meanwhile, that stays as it is. Whether
    /// the file is there now.
    ///
    /// # Errors
    /// As [`commit_for_artifact`](Self::commit_for_artifact).
    pub fn commit_new_for_artifact(self) -> Result<bool> {
        let announced = self.announce_target()?;
        let Some(beside) = &self.beside else { return Ok(true) };
        // A second name, where there is none yet; the first one goes with this value.
        match fs::hard_link(&beside.path, &self.target) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if let Some((cx, resource)) = announced {
                    cx.released(&resource)?;
                }
                Ok(false)
            }
            // A file system that knows no second names.
            Err(_) => self.commit().map(|()| true),
        }
    }

    /// Makes what was written durable, and writes down that the target is about to be that.
    fn announce_target(&self) -> Result<Option<(Context, Resource)>> {
        let Some(Beside { owner: Some((cx, _)), .. }) = &self.beside else { return Ok(None) };
        self.file.sync_all().map_err(|e| Error::io("sync", &self.target, e))?;
        let written = self.file.metadata().map_err(|e| Error::io("sync", &self.target, e))?;
        let details = serde_json::json!({ "identity": identity(&written) });
        let resource = Resource::file(&self.target).with_details(details);
        cx.record(resource.clone())?;
        Ok(Some((cx.clone(), resource)))
    }

    /// Makes what was written durable and gives it its name. It stays from then on.
    ///
    /// # Errors
    /// Where that fails; the target is as it was then.
    pub fn commit(self) -> Result<()> {
        let Some(beside) = &self.beside else { return Ok(()) };
        self.file.sync_all().map_err(|e| Error::io("sync", &self.target, e))?;
        fs::rename(&beside.path, &self.target).map_err(|e| Error::io("rename", &self.target, e))
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Beside {
    /// After the rename there is nothing to remove, only the entry in the ledger.
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            // What cannot be removed now stays in the ledger and is tried again with the build's cleanup.
            Err(e) if e.kind() != io::ErrorKind::NotFound => {}
            _ => {
                if let Some((cx, resource)) = &self.owner {
                    drop(cx.released(resource));
                }
            }
        }
    }
}

#[cfg_attr(not(unix), allow(unused_variables))]
fn open(path: &Path, mode: u32, existing: Option<&Metadata>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let file = options.open(path)?;
    if let Some(existing) = existing {
        #[cfg(unix)]
        keep_owner(&file, existing);
        file.set_permissions(existing.permissions())?;
    }
    Ok(file)
}

/// Gives a new file to whom the old one belongs: what root replaces in a user's folder stays the user's. Where that is not
/// possible the file is this process's own.
#[cfg(unix)]
fn keep_owner(file: &File, existing: &Metadata) {
    use std::os::unix::fs::{MetadataExt, fchown};
    let Ok(new) = file.metadata() else { return };
    let uid = (new.uid() != existing.uid()).then(|| existing.uid());
    let gid = (new.gid() != existing.gid()).then(|| existing.gid());
    // Whoever may not give it away may still be a member of the group.
    if (uid.is_some() || gid.is_some()) && fchown(file, uid, gid).is_err() {
        let _ = fchown(file, None, gid);
    }
}

/// What a file that is being written is called: hidden, beside its target, and no longer than a file system allows.
fn name_beside(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let end = (0..=name.len().min(LONGEST_PART)).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    format!(".{}.{}", &name[..end], uuid::Uuid::new_v4().simple())
}

/// How much of the target's name shows in that of the file beside it.
const LONGEST_PART: usize = 64;

/// Tells one file from another that has, or gets, its name.
pub(crate) fn identity(file: &Metadata) -> serde_json::Value {
    let changed = file.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let changed = changed.map(|time| (time.as_secs(), time.subsec_nanos()));
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(file);
    #[cfg(not(unix))]
    let number = 0u64;
    serde_json::json!([number, file.len(), changed])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn a_target_may_have_the_longest_name_there_is() {
        let bench = Bench::new();
        for name in ["x".repeat(255), "ü".repeat(127)] {
            let target = bench.folder().join(&name);
            for content in ["one", "two"] {
                let mut file = WholeFile::create(bench.context(), &target, 0o644).unwrap();
                file.write_all(content.as_bytes()).unwrap();
                file.commit().unwrap();
                assert_eq!(fs::read_to_string(&target).unwrap(), content);
            }
        }
        assert!(bench.outstanding().is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_root_replaces_stays_its_owners() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let bench = Bench::new();
        let target = bench.folder().join("file");
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        // Only root can try; for anybody else the owner is the same before and after.
        let _ = chown(&target, Some(12345), Some(23456));
        let before = fs::metadata(&target).unwrap();
        let mut file = WholeFile::create(bench.context(), &target, 0o600).unwrap();
        file.write_all(b"new").unwrap();
        file.commit().unwrap();
        let after = fs::metadata(&target).unwrap();
        assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
        assert_ne!(after.ino(), before.ino());
    }

    #[tokio::test]
    async fn a_file_of_an_artifact_goes_with_the_build_but_not_what_is_put_in_its_place() {
        use crate::engine::cleanup::{Gone, remove};
        let bench = Bench::new();
        let write = |name: &str| {
            let target = bench.folder().join(name);
            let mut file = WholeFile::create(bench.context(), &target, 0o600).unwrap();
            file.write_all(b"new").unwrap();
            file.commit_for_artifact().unwrap();
            target
        };
        let (one, two) = (write("one"), write("two"));
        let held = bench.outstanding();
        assert_eq!(held.iter().map(|r| Path::new(&r.name)).collect::<Vec<_>>(), [&one, &two]);
        fs::rename(&one, &two).unwrap();
        remove(&held[1], Gone::IsFine).await.unwrap();
        assert!(two.exists(), "it is not the file that was written there");
        fs::rename(&two, &one).unwrap();
        remove(&held[0], Gone::IsFine).await.unwrap();
        assert!(!one.exists());
    }
}
