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
/// A target that exists keeps its permission bits; a symbolic link stays one and what it points to is replaced;
/// what is no file (a device, a pipe) is written directly.
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
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let unique = uuid::Uuid::new_v4().simple();
        let path = target.with_file_name(format!(".{name}.{unique}"));
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

    /// Makes what was written durable and gives it its name.
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
        file.set_permissions(existing.permissions())?;
    }
    Ok(file)
}
