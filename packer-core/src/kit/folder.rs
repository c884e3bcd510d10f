//! Folders for what is nobody else's business.

use std::path::Path;

use crate::error::{Error, Result};

/// Makes a folder, and those above it that are not there, which nobody but its owner may look into (mode 0700 on Unix). One that
/// is there stays as it is.
///
/// # Errors
/// Where it cannot be made.
pub fn private_folder(folder: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|e| Error::io("mkdir", folder, e))
}
