//! Copies of large files: shared blocks where the file system can, holes kept where it cannot.

use std::fs::File;
use std::io;
use std::path::Path;

use super::blocking::Stop;
use crate::context::Progress;
use crate::error::{Error, Result};

/// How much is copied between two looks at whether the work should end.
const PIECE: usize = 8 << 20;

/// Copies a file to a new one: by reference where the file system can (Btrfs, XFS), else inside the system, without the holes of
/// a sparse file. Nothing goes through this process's memory on Linux. For work off the async threads.
///
/// ```
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let bench = packer_core::testing::Bench::new();
/// # let cx = bench.context();
/// # let (base, disk) = (bench.folder().join("base"), bench.folder().join("disk"));
/// # std::fs::write(&base, "a disk").unwrap();
/// use packer_core::kit;
/// let progress = cx.progress("copying the disk", None);
/// let (from, to) = (base.clone(), disk.clone());
/// cx.blocking(move |stop| kit::copy_file(stop, Some(progress), &from, &to)).await?;
/// # assert_eq!(std::fs::read(&disk).unwrap(), b"a disk");
/// # Ok::<(), packer_core::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// Where the source cannot be read, the target is there already or cannot be written; cancellation. What was written stays.
pub fn copy_file(stop: &Stop, mut progress: Option<Progress>, from: &Path, to: &Path) -> Result<()> {
    let input = File::open(from).map_err(|e| Error::io("open", from, e))?;
    let size = input.metadata().map_err(|e| Error::io("stat", from, e))?.len();
    let output = File::create_new(to).map_err(|e| Error::io("create", to, e))?;
    let failed = |e: io::Error| match e.downcast::<Error>() {
        Ok(cancelled) => cancelled,
        Err(e) => Error::io("copy", from, e),
    };
    if shared(&input, &output) {
        return Ok(());
    }
    let mut at = 0;
    while let Some((begin, end)) = next_data(&input, at, size).map_err(failed)? {
        at = begin;
        while at < end {
            stop.check()?;
            let piece = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let copied = copy_piece(&input, &output, at, piece).map_err(failed)?;
            if copied == 0 {
                return Err(Error::user(format!(
                    "{}: the file became shorter while it was copied",
                    from.display()
                )));
            }
            at += copied as u64;
            if let Some(progress) = &mut progress {
                progress.set(at);
            }
        }
    }
    output.set_len(size).map_err(|e| Error::io("write", to, e))
}

/// Makes the output a reference to the blocks of the input; whether that was possible.
#[cfg(target_os = "linux")]
fn shared(input: &File, output: &File) -> bool {
    rustix::fs::ioctl_ficlone(output, input).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn shared(_: &File, _: &File) -> bool {
    false
}

/// Where the next data behind a place are; `None` where nothing but a hole follows.
#[cfg(target_os = "linux")]
fn next_data(input: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;
    if at >= size {
        return Ok(None);
    }
    let begin = match seek(input, SeekFrom::Data(at)) {
        Ok(begin) => begin,
        Err(Errno::NXIO) => return Ok(None),
        // A file system that knows no holes.
        Err(Errno::INVAL) => return Ok(Some((at, size))),
        Err(e) => return Err(e.into()),
    };
    let end = seek(input, SeekFrom::Hole(begin)).unwrap_or(size);
    Ok(Some((begin, end.min(size))))
}

#[cfg(not(target_os = "linux"))]
fn next_data(_: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    Ok((at < size).then_some((at, size)))
}

/// Copies up to `length` bytes from and to the same place.
#[cfg(target_os = "linux")]
fn copy_piece(input: &File, output: &File, at: u64, length: usize) -> io::Result<usize> {
    use rustix::io::Errno;
    let (mut from, mut to) = (at, at);
    match rustix::fs::copy_file_range(input, Some(&mut from), output, Some(&mut to), length) {
        Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {
            through_memory(input, output, at, length)
        }
        copied => Ok(copied?),
    }
}

#[cfg(not(target_os = "linux"))]
fn copy_piece(input: &File, output: &File, at: u64, length: usize) -> io::Result<usize> {
    through_memory(input, output, at, length)
}

/// The way for file systems that cannot copy by themselves; pieces that hold nothing become holes.
fn through_memory(mut input: &File, mut output: &File, at: u64, length: usize) -> io::Result<usize> {
    use std::io::{Read, Seek, SeekFrom, Write};
    let mut buffer = vec![0; length.min(256 << 10)];
    input.seek(SeekFrom::Start(at))?;
    let read = input.read(&mut buffer)?;
    let data = buffer.get(..read).unwrap_or_default();
    if data.iter().any(|byte| *byte != 0) {
        output.seek(SeekFrom::Start(at))?;
        output.write_all(data)?;
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;
    use crate::testing::Bench;

    fn sparse(path: &Path) -> Vec<u8> {
        let mut file = File::create(path).unwrap();
        file.write_all(b"begin").unwrap();
        file.seek(SeekFrom::Start(20 << 20)).unwrap();
        file.write_all(b"middle").unwrap();
        file.set_len(64 << 20).unwrap();
        std::fs::read(path).unwrap()
    }

    #[tokio::test]
    async fn content_and_holes_are_copied() {
        let bench = Bench::new();
        let (from, to) = (bench.folder().join("from"), bench.folder().join("to"));
        let content = sparse(&from);
        let (a, b) = (from.clone(), to.clone());
        bench.context().blocking(move |stop| copy_file(stop, None, &a, &b)).await.unwrap();
        assert!(std::fs::read(&to).unwrap() == content);
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::fs::MetadataExt;
            let blocks = std::fs::metadata(&to).unwrap().blocks();
            assert!(blocks * 512 < 4 << 20, "{blocks} blocks");
        }
        let (a, b) = (from.clone(), to.clone());
        let error = bench.context().blocking(move |stop| copy_file(stop, None, &a, &b)).await.unwrap_err();
        assert!(error.message().contains("exists"), "{error}");
    }

    #[test]
    fn memory_is_the_way_where_there_is_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let content = sparse(&from);
        let (input, output) = (File::open(&from).unwrap(), File::create(&to).unwrap());
        let mut at = 0;
        while at < content.len() as u64 {
            at += through_memory(&input, &output, at, PIECE).unwrap() as u64;
        }
        output.set_len(at).unwrap();
        assert!(std::fs::read(&to).unwrap() == content);
    }
}
