//! Packed files, unpacked: one file each.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::checksum::{Hasher, Hashing, Kind};
use super::place::{Archive, Compression, Packed};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::kit::WholeFile;
use crate::kit::blocking::Stop;

/// How much of a file is in memory at a time.
const PIECE: usize = 256 * 1024;

/// Writes what is in `packed` to `target`, which appears whole. The SHA-256 of that.
pub(super) fn unpack(cx: &Context, packed: &Path, how: Packed, target: &Path, stop: &Stop) -> Result<String> {
    let file = File::open(packed).map_err(|e| Error::io("open", packed, e))?;
    let total = file.metadata().ok().map(|found| found.len());
    let output = WholeFile::create(cx, target, 0o644)?;
    let mut output = Hashing { inner: output, hasher: Hasher::new(Kind::Sha256) };
    if how.archive == Some(Archive::Zip) {
        zip(file, packed, &mut output, stop)?;
    } else {
        let input = BufReader::with_capacity(PIECE, file);
        let input = stop.reader(input, Some(cx.progress("unpacking", total)));
        let mut input = decoder(input, how.compression).map_err(|e| spoilt(packed, e))?;
        match how.archive {
            None => copy(&mut input, &mut output, stop).map_err(|e| e.of(packed, target))?,
            Some(_) => only_file_of_tar(input, packed, &mut output, target, stop)?,
        }
    }
    output.inner.commit()?;
    Ok(output.hasher.finish())
}

/// Which side of a copy failed.
enum Broken {
    Read(io::Error),
    Write(io::Error),
    Stopped(Error),
}

impl Broken {
    fn of(self, packed: &Path, target: &Path) -> Error {
        match self {
            Self::Read(e) => spoilt(packed, e),
            Self::Write(e) => Error::io("write", target, e),
            Self::Stopped(e) => e,
        }
    }
}

fn copy(input: &mut impl Read, output: &mut impl io::Write, stop: &Stop) -> Result<(), Broken> {
    let mut piece = vec![0; PIECE];
    loop {
        stop.check().map_err(Broken::Stopped)?;
        match input.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => output.write_all(piece.get(..read).unwrap_or_default()).map_err(Broken::Write)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Broken::Read(e)),
        }
    }
}

fn spoilt(packed: &Path, error: io::Error) -> Error {
    Error::user(format!("unpack {}: {}", packed.display(), crate::error::os_text(&error))).with_source(error)
}

fn decoder<'a>(input: impl Read + 'a, compression: Option<Compression>) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        None => Box::new(input),
        Some(Compression::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(input)),
        #[cfg(feature = "machines-archives")]
        Some(Compression::Bzip2) => Box::new(bzip2::read::MultiBzDecoder::new(input)),
        #[cfg(feature = "machines-archives")]
        Some(Compression::Xz) => Box::new(liblzma::read::XzDecoder::new_multi_decoder(input)),
        #[cfg(feature = "machines-archives")]
        Some(Compression::Zstd) => Box::new(zstd::Decoder::new(input)?),
        #[cfg(not(feature = "machines-archives"))]
        Some(other) => return Err(not_built_in(&format!("{other:?}"))),
    })
}

#[cfg(not(feature = "machines-archives"))]
fn not_built_in(form: &str) -> io::Error {
    let form = form.to_lowercase();
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("{form} is unpacked with the feature \"machines-archives\" of packer-core only"),
    )
}

#[cfg(feature = "machines-archives")]
fn several(packed: &Path) -> Error {
    Error::user(format!("{} does not hold one file alone", packed.display()))
}

#[cfg(feature = "machines-archives")]
fn only_file_of_tar(
    input: impl Read,
    packed: &Path,
    output: &mut impl io::Write,
    target: &Path,
    stop: &Stop,
) -> Result<()> {
    let mut archive = tar::Archive::new(input);
    let mut found = false;
    for entry in archive.entries().map_err(|e| spoilt(packed, e))? {
        let mut entry = entry.map_err(|e| spoilt(packed, e))?;
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse if !found => {
                found = true;
                copy(&mut entry, output, stop).map_err(|e| e.of(packed, target))?;
            }
            tar::EntryType::Directory | tar::EntryType::XGlobalHeader | tar::EntryType::XHeader => {}
            _ => return Err(several(packed)),
        }
    }
    if found { Ok(()) } else { Err(several(packed)) }
}

#[cfg(not(feature = "machines-archives"))]
fn only_file_of_tar(_: impl Read, packed: &Path, _: &mut impl io::Write, _: &Path, _: &Stop) -> Result<()> {
    Err(spoilt(packed, not_built_in("tar")))
}

#[cfg(feature = "machines-archives")]
fn zip(file: File, packed: &Path, output: &mut impl io::Write, stop: &Stop) -> Result<()> {
    let fail = |e: zip::result::ZipError| spoilt(packed, e.into());
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(fail)?;
    let mut found = None;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(fail)?;
        match (entry.is_dir(), entry.is_file() && found.is_none()) {
            (true, _) => {}
            (false, true) => found = Some(index),
            (false, false) => return Err(several(packed)),
        }
    }
    let index = found.ok_or_else(|| several(packed))?;
    let mut entry = archive.by_index(index).map_err(fail)?;
    copy(&mut entry, output, stop).map_err(|e| e.of(packed, Path::new("the unpacked file")))
}

#[cfg(not(feature = "machines-archives"))]
fn zip(_: File, packed: &Path, _: &mut impl io::Write, _: &Stop) -> Result<()> {
    Err(spoilt(packed, not_built_in("zip")))
}
