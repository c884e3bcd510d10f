//! Locks that processes share: by files that stay where they are, since whoever removed one would let two others in.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// What trying to lock a file came to.
#[derive(Debug)]
pub enum Locked {
    /// It is ours for as long as the file is open.
    Ours(File),
    /// Somebody else has it.
    Theirs,
    /// This file system knows no locks: everybody goes on without.
    Unknown,
}

/// Tries to lock a file, which is made where there is none. Its folder must exist.
///
/// # Errors
/// Where it cannot be made or opened.
pub fn try_lock(path: &Path) -> io::Result<Locked> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Locked::Ours(file)),
        Err(TryLockError::WouldBlock) => Ok(Locked::Theirs),
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => Ok(Locked::Unknown),
        Err(TryLockError::Error(e)) => Err(e),
    }
}
