//! Temporary files: in the ledger before they exist, gone with their guard.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::kit::shell::process::write_executable;
use crate::ledger::Resource;

/// A file that is removed when this value is dropped; should the process die before, recovery removes it.
#[derive(Debug)]
pub struct TempFile {
    cx: Context,
    path: PathBuf,
    resource: Resource,
}

impl TempFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.path) {
            // What cannot be removed now stays in the ledger and is tried again with the build's cleanup.
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {}
            _ => drop(self.cx.released(&self.resource)),
        }
    }
}

impl Context {
    /// Writes a temporary file named `PREFIX` + random number + `SUFFIX`. On Unix it gets the permission bits
    /// `mode`; nobody else can have opened it before.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let bench = packer_core::testing::Bench::new();
    /// # let cx = bench.context();
    /// let seed = cx.temp_file("seed-", ".iso", 0o600, b"a cloud-init image")?;
    /// let path = seed.path().to_owned();
    /// assert!(path.exists() && bench.outstanding().len() == 1);
    /// drop(seed);
    /// assert!(!path.exists() && bench.outstanding().is_empty());
    /// # Ok::<(), packer_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Where the file cannot be made or written.
    pub fn temp_file(&self, prefix: &str, suffix: &str, mode: u32, content: &[u8]) -> Result<TempFile> {
        let (path, resource) = self.temp_path_with_suffix(prefix, suffix)?;
        let file = TempFile { cx: self.clone(), path, resource };
        write_executable(|| create_new(&file.path, mode).and_then(|mut f| f.write_all(content)))
            .map_err(|e| Error::io("write", &file.path, e))?;
        Ok(file)
    }
}

#[cfg_attr(not(unix), allow(unused_variables))]
fn create_new(path: &Path, mode: u32) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    options.open(path)
}
