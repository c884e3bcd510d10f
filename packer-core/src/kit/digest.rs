//! Digests of files: what a machine starts from, as content.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::blocking::Stop;
use crate::context::Context;
use crate::error::{Error, Result};

/// How much of a file is in memory at a time.
const PIECE: usize = 128 * 1024;

/// The SHA-256 of a file's content in hexadecimal, as `sha256sum` prints it. Read off the async threads, and ended by
/// cancellation.
///
/// ```
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let bench = packer_core::testing::Bench::new();
/// # let cx = bench.context();
/// # let kernel = bench.folder().join("vmlinux");
/// # std::fs::write(&kernel, "abc").unwrap();
/// use packer_core::kit;
/// // What `source_digest` of a builder returns.
/// let digest = kit::digest_file(cx, &kernel).await?;
/// assert!(digest.starts_with("ba7816bf8f01cfea"));
/// # Ok::<(), packer_core::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// Where the file cannot be read; cancellation.
pub async fn digest_file(cx: &Context, path: impl Into<PathBuf>) -> Result<String> {
    let path = path.into();
    cx.blocking(move |stop| Ok(hex(&content(&path, stop)?))).await
}

/// The SHA-256 in hexadecimal over several files and folders with everything in them: content, names, whether a file may
/// be executed, and where links lead. The paths themselves do not count, their order does: what is moved elsewhere has
/// the same digest.
///
/// ```
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let bench = packer_core::testing::Bench::new();
/// # let cx = bench.context();
/// # let folder = bench.folder().to_owned();
/// # let at = |name: &str| folder.join(name);
/// # std::fs::create_dir(at("rootfs")).unwrap();
/// # std::fs::write(at("vmlinux"), "a kernel").unwrap();
/// # std::fs::write(at("rootfs/init"), "#!/bin/sh").unwrap();
/// use packer_core::kit;
/// let before = kit::digest_files(cx, [at("vmlinux"), at("rootfs")]).await?;
/// std::fs::rename(at("rootfs/init"), at("rootfs/init.old")).unwrap();
/// assert_ne!(kit::digest_files(cx, [at("vmlinux"), at("rootfs")]).await?, before);
/// # Ok::<(), packer_core::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// Where something cannot be read, or is neither file, folder nor link; cancellation.
pub async fn digest_files<P: Into<PathBuf>>(
    cx: &Context,
    paths: impl IntoIterator<Item = P>,
) -> Result<String> {
    let paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
    cx.blocking(move |stop| {
        let mut whole = Sha256::new();
        for path in &paths {
            whole.update(tree(path, stop)?);
        }
        Ok(hex(&whole.finalize().into()))
    })
    .await
}

/// The digest of a file, or of a folder with everything in it. The folder itself may be given by a link.
fn tree(top: &Path, stop: &Stop) -> Result<[u8; 32]> {
    let mut whole = Sha256::new();
    let mut pending = vec![(top.to_owned(), Vec::new())];
    while let Some((path, name)) = pending.pop() {
        stop.check()?;
        let found = if name.is_empty() { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
        let found = found.map_err(|e| Error::io("stat", &path, e))?;
        // Each part keeps its bounds.
        let mut part = |kind: u8, bytes: &[u8]| {
            for bytes in [name.as_slice(), bytes] {
                whole.update((bytes.len() as u64).to_le_bytes());
                whole.update(bytes);
            }
            whole.update([kind]);
        };
        if found.is_dir() {
            part(b'd', &[]);
            let entries = fs::read_dir(&path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
            let mut entries = entries.map_err(|e| Error::io("readdir", &path, e))?;
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
            for entry in entries {
                let mut inside = name.clone();
                inside.push(b'/');
                inside.extend(entry.file_name().as_encoded_bytes());
                pending.push((entry.path(), inside));
            }
        } else if found.is_symlink() {
            let target = fs::read_link(&path).map_err(|e| Error::io("readlink", &path, e))?;
            part(b'l', target.as_os_str().as_encoded_bytes());
        } else if found.is_file() {
            part(if is_executable(&found) { b'x' } else { b'f' }, &content(&path, stop)?);
        } else {
            return Err(Error::user(format!("{} is neither a file nor a folder", path.display())));
        }
    }
    Ok(whole.finalize().into())
}

fn content(path: &Path, stop: &Stop) -> Result<[u8; 32]> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut reader = stop.reader(file, None);
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        stop.check()?;
        match reader.read(&mut piece) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(read) => hash.update(&piece[..read]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("read", path, e)),
        }
    }
}

#[cfg(unix)]
fn is_executable(found: &Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &Metadata) -> bool {
    false
}

fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::testing::Bench;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[tokio::test]
    async fn a_file_has_the_digest_that_everybody_knows() {
        let bench = Bench::new();
        let path = bench.folder().join("a");
        fs::write(&path, "abc").unwrap();
        let digest = digest_file(bench.context(), &path).await.unwrap();
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let missing = digest_file(bench.context(), bench.folder().join("b")).await.unwrap_err();
        assert!(missing.message().ends_with("b: no such file or directory"), "{missing}");
    }

    #[tokio::test]
    async fn everything_in_a_folder_counts_and_where_it_is_does_not() {
        let bench = Bench::new();
        let make = |name: &str| {
            let top = bench.folder().join(name);
            fs::create_dir_all(top.join("d")).unwrap();
            fs::write(top.join("d/f"), "1").unwrap();
            symlink("f", top.join("d/l")).unwrap();
            top
        };
        let (one, other) = (make("one"), make("other"));
        let digest =
            async |paths: &[&PathBuf]| digest_files(bench.context(), paths.iter().copied()).await.unwrap();
        let first = digest(&[&one]).await;
        assert_eq!(digest(&[&other]).await, first);
        assert_eq!(digest(&[&bench.folder().join("one/.")]).await, first);
        let mut seen = vec![first, digest(&[&one, &other]).await, digest(&[]).await];
        let changes: [fn(&Path); 6] = [
            |top| fs::write(top.join("d/f"), "2").unwrap(),
            |top| fs::rename(top.join("d/f"), top.join("d/g")).unwrap(),
            |top| fs::set_permissions(top.join("d/g"), fs::Permissions::from_mode(0o755)).unwrap(),
            |top| {
                fs::remove_file(top.join("d/l")).unwrap();
                symlink("g", top.join("d/l")).unwrap();
            },
            |top| fs::create_dir(top.join("e")).unwrap(),
            |top| fs::rename(top.join("d/g"), top.join("e/g")).unwrap(),
        ];
        for (i, change) in changes.iter().enumerate() {
            change(&one);
            let digest = digest(&[&one]).await;
            assert!(!seen.contains(&digest), "change {i} counts");
            seen.push(digest);
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_digest_once_the_build_is_cancelled() {
        let bench = Bench::new();
        let path = bench.folder().join("large");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        bench.cancel();
        assert!(digest_file(bench.context(), &path).await.unwrap_err().is_cancelled());
        // The thread that was reading ends too: the bench's build is quiet.
        tokio::time::timeout(std::time::Duration::from_secs(10), bench.context().record_of_build().quiet())
            .await
            .unwrap();
    }
}
