//! Keyed hashes: what is hashed cannot be guessed from its hash by whoever does not have the cache's own key.

use std::fmt::Write;
use std::io::{self, Read};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How much of a file is in memory at a time.
const PIECE: usize = 64 * 1024;

/// Hashes under one key.
#[derive(Clone)]
pub(crate) struct Keyed(Hmac<Sha256>);

impl Keyed {
    /// With a key of any length.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        // HMAC takes keys of every length; the type cannot say so.
        Hmac::new_from_slice(key).ok().map(Self)
    }

    /// The hash of parts, each of which keeps its bounds. `what` tells hashes of different things apart.
    pub(crate) fn of<P: AsRef<[u8]>>(&self, what: &str, parts: impl IntoIterator<Item = P>) -> String {
        let mut hash = self.begin(what);
        for part in parts {
            hash.part(part.as_ref());
        }
        hash.end()
    }

    /// A hash of parts that come one by one.
    pub(crate) fn begin(&self, what: &str) -> Hash {
        let mut hash = Hash(self.0.clone());
        hash.part(what.as_bytes());
        hash
    }
}

/// A hash in the making.
pub(crate) struct Hash(Hmac<Sha256>);

impl Hash {
    /// Adds bytes that keep their bounds.
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Adds everything that a reader gives.
    pub(crate) fn stream(&mut self, reader: &mut impl Read) -> io::Result<()> {
        let (mut piece, mut total) = (vec![0; PIECE], 0u64);
        loop {
            match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => {
                    self.0.update(&piece[..read]);
                    total += read as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        // Behind the content, since a file may grow while it is read.
        self.0.update(&total.to_le_bytes());
        Ok(())
    }

    /// The hash in hexadecimal.
    pub(crate) fn end(self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0.finalize().into_bytes() {
            // Writing into a text does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_things_and_keys_all_count() {
        let keyed = Keyed::new(b"a key").unwrap();
        let hashes = [
            keyed.of("x", ["ab", "c"]),
            keyed.of("x", ["a", "bc"]),
            keyed.of("x", ["abc"]),
            keyed.of("y", ["abc"]),
            Keyed::new(b"another").unwrap().of("x", ["abc"]),
        ];
        for (i, hash) in hashes.iter().enumerate() {
            assert_eq!(hash.len(), 64);
            assert!(!hashes[i + 1..].contains(hash), "{i}");
        }
        assert_eq!(keyed.of("x", ["abc"]), hashes[2]);
    }
}
