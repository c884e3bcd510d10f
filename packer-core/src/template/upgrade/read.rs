//! The texts that are brought up to date.

use std::path::Path;
use std::sync::Arc;

use crate::diagnostic::SourceFile;
use crate::error::{Error, Result};
use crate::language::{LARGEST, read_bounded};

/// Reads a JSON template of at most 64 MiB, as large as templates may be. As Packer does, bytes that are no UTF-8 are
/// replaced.
///
/// # Errors
/// `open PATH: …` where it cannot be read or is larger.
pub fn read(path: &str) -> Result<Arc<SourceFile>> {
    let bytes = read_bounded(Path::new(path), LARGEST).map_err(|e| Error::io("open", path, e))?;
    Ok(SourceFile::new(path, String::from_utf8_lossy(&bytes)))
}
