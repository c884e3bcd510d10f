//! Checksums: the forms in which templates say them, and their computation.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use md5::Digest as _;

use crate::context::Progress;
use crate::error::{Error, Result};
use crate::kit::blocking::Stop;

/// How much of a file is in memory at a time.
const PIECE: usize = 256 * 1024;

/// What a file must be.
///
/// ```
/// use packer_core::kit::download::Checksum;
/// # fn main() -> packer_core::Result<()> {
/// // The kind may be left to the length.
/// let sum: Checksum = "D41D8CD98F00B204E9800998ECF8427E".parse()?;
/// assert_eq!(sum.to_string(), "md5:d41d8cd98f00b204e9800998ecf8427e");
/// assert!("crc32:00000000".parse::<Checksum>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum(pub(super) Form);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Anything is right.
    None,
    Sum(Sum),
    /// It stands in a list, which is at this path or URL.
    List(String),
}

/// A checksum of a known kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) kind: Kind,
    /// In small letters.
    pub(super) hex: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

impl Checksum {
    /// No checksum: any file is right.
    pub fn none() -> Self {
        Self(Form::None)
    }

    /// Whether any file is right.
    pub fn is_none(&self) -> bool {
        self.0 == Form::None
    }

    /// The kind and the digits, where they are known already.
    pub(super) fn sum(&self) -> Option<&Sum> {
        match &self.0 {
            Form::Sum(sum) => Some(sum),
            _ => None,
        }
    }
}

impl FromStr for Checksum {
    type Err = Error;

    /// Reads `none`, `KIND:HEX`, `HEX` or `file:LIST`.
    ///
    /// # Errors
    /// A user's error in Packer's words.
    fn from_str(text: &str) -> Result<Self> {
        if text == "none" {
            return Ok(Self::none());
        }
        if let Some(list) = text.strip_prefix("file:") {
            return Ok(Self(Form::List(list.to_owned())));
        }
        let sum = match text.split_once(':') {
            Some((kind, hex)) => Sum::of_kind(kind, hex),
            None => Sum::bare(text),
        };
        sum.map(|sum| Self(Form::Sum(sum))).map_err(|why| Error::user(format!("{why} in {text:?}")))
    }
}

/// As a template would say it.
impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::None => f.write_str("none"),
            Form::Sum(sum) => write!(f, "{}:{}", sum.kind.name(), sum.hex),
            Form::List(list) => write!(f, "file:{list}"),
        }
    }
}

impl Sum {
    /// Digits whose kind follows from how many they are.
    pub(super) fn bare(hex: &str) -> Result<Self, String> {
        Ok(Self { hex: digits(hex)?, kind: Kind::of_length(hex)? })
    }

    /// Digits of a kind that is named.
    pub(super) fn of_kind(kind: &str, hex: &str) -> Result<Self, String> {
        let kind = Kind::named(kind).ok_or_else(|| format!("unsupported checksum type: {kind}"))?;
        let hex = digits(hex)?;
        match Kind::of_length(&hex) {
            Ok(other) if other == kind => Ok(Self { kind, hex }),
            _ => Err(format!("invalid checksum: {} digits are no {}", hex.len(), kind.name())),
        }
    }
}

impl Kind {
    const ALL: [Self; 4] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha512];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    fn of_length(hex: &str) -> Result<Self, String> {
        match hex.len() {
            32 => Ok(Self::Md5),
            40 => Ok(Self::Sha1),
            64 => Ok(Self::Sha256),
            128 => Ok(Self::Sha512),
            _ => Err(format!("Unknown type for checksum {hex}")),
        }
    }
}

/// The digits in small letters.
fn digits(hex: &str) -> Result<String, String> {
    if let Some(wrong) = hex.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(format!(
            "invalid checksum: encoding/hex: invalid byte: U+{:04X} {wrong:?}",
            wrong as u32
        ));
    }
    if !hex.len().is_multiple_of(2) {
        return Err("invalid checksum: encoding/hex: odd length hex string".to_owned());
    }
    Ok(hex.to_ascii_lowercase())
}

/// Computes a checksum of what is written into it.
#[derive(Clone)]
pub(super) enum Hasher {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Md5 => Self::Md5(md5::Md5::new()),
            Kind::Sha1 => Self::Sha1(sha1::Sha1::new()),
            Kind::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Kind::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hash) => hash.update(bytes),
            Self::Sha1(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digits in small letters.
    pub(super) fn finish(self) -> String {
        match self {
            Self::Md5(hash) => hex(&hash.finalize()),
            Self::Sha1(hash) => hex(&hash.finalize()),
            Self::Sha256(hash) => hex(&hash.finalize()),
            Self::Sha512(hash) => hex(&hash.finalize()),
        }
    }

    /// Of all that is in a file, and how long that is.
    pub(super) fn of_file(kind: Kind, path: &Path, stop: &Stop, progress: Progress) -> Result<(Self, u64)> {
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let mut reader = stop.reader(file, Some(progress));
        let (mut hasher, mut length, mut piece) = (Self::new(kind), 0, vec![0; PIECE]);
        loop {
            stop.check()?;
            match reader.read(&mut piece) {
                Ok(0) => return Ok((hasher, length)),
                Ok(read) => {
                    hasher.update(piece.get(..read).unwrap_or_default());
                    length += read as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", path, e)),
            }
        }
    }
}

/// Writes on what it counts.
pub(super) struct Hashing<W> {
    pub(super) inner: W,
    pub(super) hasher: Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        match text.parse::<Checksum>() {
            Ok(sum) => sum.to_string(),
            Err(e) => format!("error: {e}"),
        }
    }

    #[test]
    fn every_form_is_read_and_what_is_none_is_told() {
        let sha256 = "6022499CCF48E32B9A7EA7E7BCA87EFD9CF93604FA0163348B8E3F8A9E23F9C0";
        assert_eq!(said("none"), "none");
        assert_eq!(said("file:SHA256SUMS"), "file:SHA256SUMS");
        assert_eq!(said(sha256), format!("sha256:{}", sha256.to_lowercase()));
        assert_eq!(said(&format!("SHA256:{sha256}")), format!("sha256:{}", sha256.to_lowercase()));
        assert!(said(&"0".repeat(128)).starts_with("sha512:"));
        assert!(said(&"0".repeat(40)).starts_with("sha1:"));
        for (text, error) in [
            ("abcd1234", "Unknown type for checksum abcd1234 in \"abcd1234\""),
            ("NONE", "invalid checksum: encoding/hex: invalid byte: U+004E 'N' in \"NONE\""),
            ("disc.iso", "invalid checksum: encoding/hex: invalid byte: U+0069 'i' in \"disc.iso\""),
            ("abc", "invalid checksum: encoding/hex: odd length hex string in \"abc\""),
            ("sha3:00", "unsupported checksum type: sha3 in \"sha3:00\""),
            ("md5:00", "invalid checksum: 2 digits are no md5 in \"md5:00\""),
            ("", "Unknown type for checksum  in \"\""),
        ] {
            assert_eq!(said(text), format!("error: {error}"));
        }
    }

    #[test]
    fn each_kind_is_what_everybody_computes() {
        for (kind, digits) in [
            (Kind::Md5, "35793cae08d778633e70d924572f4170"),
            (Kind::Sha1, "222baea24b3cab68a9b7a27b357abed81c3c42cb"),
            (Kind::Sha256, "6022499ccf48e32b9a7ea7e7bca87efd9cf93604fa0163348b8e3f8a9e23f9c0"),
            (
                Kind::Sha512,
                "9e3f7f87af58e8a08381f618dbec92666a34b0e8b53d73f6fc552d44b33fc233d862badb194f07ffed04002c28edcb72\
                 833b5ca5f7302d5d1382a73018a1c7d4",
            ),
        ] {
            let mut hasher = Hasher::new(kind);
            hasher.update(b"the ");
            hasher.update(b"disc\n");
            assert_eq!(hasher.finish(), digits);
        }
    }
}
