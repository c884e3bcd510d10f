//! Layers: tars of what changed, packed and hashed while they are written, and unpacked with care.

mod pack;
mod read;
mod unpack;
mod write;

use std::io::{self, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

pub use pack::Compression;
pub(super) use pack::{decompressed, pack};
pub(super) use unpack::{Budget, unpack, with_entries};
pub(super) use write::{Times, write};

/// A layer whose bytes are in a file of this computer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// `sha256:…` of the file.
    pub(super) digest: String,
    pub(super) size: u64,
    /// `sha256:…` of the tar in it.
    pub(super) diff_id: String,
    pub(super) compression: Compression,
    pub(super) file: PathBuf,
}

/// Passes bytes on, counts and hashes them.
#[derive(Debug)]
pub(super) struct Hashing<T> {
    pub(super) inner: T,
    hash: Sha256,
    pub(super) count: u64,
}

impl<T> Hashing<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    /// `sha256:…` of what passed.
    pub(super) fn digest(&self) -> String {
        digest_text(self.hash.clone())
    }

    fn saw(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.count += bytes.len() as u64;
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.saw(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: io::Read> io::Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.saw(&buffer[..read]);
        Ok(read)
    }
}

fn digest_text(hash: Sha256) -> String {
    use std::fmt::Write as _;
    hash.finalize().iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `sha256:…` of bytes.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    digest_text(Sha256::new_with_prefix(bytes))
}

/// The hexadecimal part of a digest.
pub(super) fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

/// Whether a text is a digest of the one kind that is understood here; only such a text is ever part of a path.
pub(super) fn is_digest(text: &str) -> bool {
    let lower = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(lower))
}
