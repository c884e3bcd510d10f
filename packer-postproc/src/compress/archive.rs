//! Archives of many files.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use packer_core::kit::blocking::Stop;
use packer_core::{Context, Error, Result};

/// Writes a tar of the files under their names alone.
pub(super) fn tar(cx: &Context, stop: &Stop, inputs: &[PathBuf], writer: &mut dyn Write) -> Result<()> {
    let mut archive = tar::Builder::new(writer);
    for input in inputs {
        let name = input.file_name().unwrap_or(input.as_os_str());
        append(cx, stop, &mut archive, Path::new(name), input, None)?;
    }
    archive.finish().map_err(|e| Error::provider(format!("the archive cannot be ended: {e}")))
}

/// Adds a file to a tar, or a part of it: where that begins, and how long it is.
pub(crate) fn append(
    cx: &Context,
    stop: &Stop,
    archive: &mut tar::Builder<impl Write>,
    name: &Path,
    input: &Path,
    part: Option<(u64, u64)>,
) -> Result<()> {
    let (mut file, metadata) = open(input)?;
    let (start, size) = part.unwrap_or((0, metadata.len()));
    file.seek(SeekFrom::Start(start)).map_err(|e| Error::io("seek", input, e))?;
    let progress = cx.progress(input.to_string_lossy(), Some(size));
    let content = Exactly { inner: stop.reader(file, Some(progress)), left: size };
    let content = io::BufReader::with_capacity(256 * 1024, content);
    let added = archive.append_data(&mut header(size, mode(&metadata)), name, content);
    added.map_err(|e| Error::io("archive", input, e))
}

/// The head of a file: nothing in it but these and the name depends on when and where the archive is made.
pub(crate) fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Writes a zip of the files under their whole paths.
#[cfg(feature = "compress-zip")]
pub(super) fn zip(
    cx: &Context,
    stop: &Stop,
    inputs: &[PathBuf],
    level: i32,
    writer: &mut (impl Write + io::Seek),
) -> Result<()> {
    let mut archive = zip::ZipWriter::new(writer);
    for input in inputs {
        let fail = |e: zip::result::ZipError| Error::io("archive", input, e.into());
        let (file, metadata) = open(input)?;
        let mut options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .compression_level((level > 0).then_some(level.into()))
            .unix_permissions(mode(&metadata))
            .large_file(metadata.len() >= u64::from(u32::MAX) / 2);
        if let Some(time) = modified(&metadata) {
            options = options.last_modified_time(time);
        }
        let name = input.to_string_lossy();
        let name = if cfg!(windows) { name.replace('\\', "/") } else { name.into_owned() };
        archive.start_file(name, options).map_err(fail)?;
        let progress = cx.progress(input.to_string_lossy(), Some(metadata.len()));
        let mut content = io::BufReader::with_capacity(256 * 1024, stop.reader(file, Some(progress)));
        io::copy(&mut content, &mut archive).map_err(|e| Error::io("archive", input, e))?;
    }
    let ended = archive.finish();
    ended.map(drop).map_err(|e| Error::provider(format!("the archive cannot be ended: {e}")))
}

#[cfg(feature = "compress-zip")]
fn modified(metadata: &Metadata) -> Option<zip::DateTime> {
    let time = jiff::Timestamp::try_from(metadata.modified().ok()?).ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC);
    let small = |number: i8| u8::try_from(number).ok();
    zip::DateTime::from_date_and_time(
        u16::try_from(time.year()).ok()?,
        small(time.month())?,
        small(time.day())?,
        small(time.hour())?,
        small(time.minute())?,
        small(time.second())?,
    )
    .ok()
}

fn open(path: &Path) -> Result<(File, Metadata)> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let metadata = file.metadata().map_err(|e| Error::io("stat", path, e))?;
    if !metadata.is_file() {
        return Err(Error::user(format!("read {}: only files can be compressed", path.display())));
    }
    Ok((file, metadata))
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
}

#[cfg(not(unix))]
fn mode(metadata: &Metadata) -> u32 {
    if metadata.permissions().readonly() { 0o444 } else { 0o666 }
}

/// Reads as many bytes as the archive's header promises: a file that grows meanwhile is cut, one that shrinks is an
/// error.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        self.left -= read as u64;
        Ok(read)
    }
}
