//! The way into the image: commands run in it by `chroot`, files are copied into it by `cp`, each through the template's wrapper.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use packer_core::communicator::{Links, LocalTree};
use packer_core::{Command, Communicator, Context, Error, ExitStatus, Globs, Result, Source, async_trait};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::commands::{Commands, quoted, word};
use super::download;
use super::paths;

/// The image, mounted in a folder.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) root: PathBuf,
    pub(super) commands: Commands,
}

impl Inside {
    fn path(&self, path: &str) -> Result<PathBuf> {
        if path.is_empty() {
            return Err(Error::user("the path in the image is empty"));
        }
        paths::inside(&self.root, Path::new(path)).map_err(|e| Error::io("open", Path::new(path), e))
    }

    /// Gives a file the permission bits that are wanted, where it can be seen that it has others.
    async fn set_mode(&self, cx: &Context, path: &Path, mode: Option<u32>) -> Result<()> {
        let Some(mode) = mode.map(|mode| mode & 0o7777) else { return Ok(()) };
        match fs::metadata(path) {
            Ok(there) if there.permissions().mode() & 0o7777 != mode => {
                self.commands.must(cx, &format!("chmod {mode:o} {}", shown(path))).await
            }
            _ => Ok(()),
        }
    }
}

fn shown(path: &Path) -> String {
    word(&path.to_string_lossy())
}

#[async_trait]
impl Communicator for Inside {
    async fn exec(&self, cx: &Context, command: Command<'_>) -> Result<ExitStatus> {
        let text = format!("chroot {} /bin/sh -c {}", shown(&self.root), quoted(&command.text));
        self.commands.exec(cx, &text, command).await
    }

    async fn upload(&self, cx: &Context, source: Source<'_>, destination: &str) -> Result<()> {
        let to = self.path(destination)?;
        if to.is_dir() {
            return Err(Error::user(format!("{destination} is a folder in the image")));
        }
        // A file of our own first: a wrapper may run the copying as somebody who sees less than we do.
        let file = cx.temp_file("packer-amazon-chroot", "", 0o600, b"")?;
        let failed = |e| Error::io("write", file.path(), e);
        let options = tokio::fs::OpenOptions::new().write(true).open(file.path()).await;
        let mut writer = options.map_err(failed)?;
        let (read, mode) = match source {
            Source::File(path) => {
                let mut reader = tokio::fs::File::open(path).await.map_err(|e| Error::io("open", path, e))?;
                let mode =
                    reader.metadata().await.map_err(|e| Error::io("open", path, e))?.permissions().mode();
                let read = cx.until_cancelled(async {
                    tokio::io::copy(&mut reader, &mut writer).await.map_err(|e| Error::io("read", path, e))
                });
                (read.await, Some(mode))
            }
            Source::Bytes(mut bytes) => {
                (tokio::io::copy(&mut bytes, &mut writer).await.map_err(failed), None)
            }
            Source::Reader { reader, mode, .. } => {
                let read = cx.until_cancelled(async {
                    tokio::io::copy(reader, &mut writer)
                        .await
                        .map_err(|e| Error::io("upload", destination, e))
                });
                (read.await, mode)
            }
            _ => return Err(Error::internal("this kind of source is not known here")),
        };
        read?;
        writer.flush().await.map_err(failed)?;
        drop(writer);
        let command = format!("cp {} {}", shown(file.path()), shown(&to));
        self.commands.must(cx, &command).await?;
        self.set_mode(cx, &to, mode).await
    }

    async fn upload_dir(
        &self,
        cx: &Context,
        source: &Path,
        destination: &str,
        exclude: &Globs,
    ) -> Result<()> {
        let to = self.path(destination)?;
        let all = LocalTree::read(cx, source, &Globs::none(), Links::Kept).await?;
        let wanted = LocalTree::read(cx, source, exclude, Links::Followed).await?;
        // `cp` knows no patterns, and a link that it copied would mean something else in the image.
        let is_plain = all.entries.iter().all(|entry| entry.link.is_none());
        let (from, staged) = if is_plain && all.entries.len() == wanted.entries.len() {
            (source.to_owned(), None)
        } else {
            let folder = cx.temp_dir()?;
            let from = folder.join(wanted.name.as_deref().unwrap_or_default());
            let (work, into) = (wanted.clone(), from.clone());
            cx.blocking(move |stop| stage(&work, &into, stop)).await?;
            (from, Some(folder))
        };
        let contents = if wanted.name.is_none() { "/." } else { "" };
        let from = format!("{}{contents}", from.to_string_lossy().trim_end_matches('/'));
        let copied = self.commands.must(cx, &format!("cp -R {} {}", word(&from), shown(&to))).await;
        if let Some(folder) = staged {
            // What is left of it goes with the build.
            let _ = cx
                .blocking(move |_| fs::remove_dir_all(&folder).map_err(|e| Error::io("remove", &folder, e)))
                .await;
        }
        copied
    }

    async fn download(
        &self,
        cx: &Context,
        source: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        let from = self.path(source)?;
        let failed = |e| Error::io("download", &from, e);
        // A pipe would be waited for.
        if !fs::metadata(&from).map_err(failed)?.is_file() {
            return Err(Error::user(format!("{source} is no file in the image")));
        }
        cx.until_cancelled(async {
            let mut file = tokio::fs::File::open(&from).await.map_err(failed)?;
            tokio::io::copy(&mut file, sink).await.map_err(failed)?;
            sink.flush().await.map_err(failed)
        })
        .await
    }

    async fn download_dir(
        &self,
        cx: &Context,
        source: &str,
        destination: &Path,
        exclude: &Globs,
    ) -> Result<()> {
        self.path(source)?;
        let (root, source) = (self.root.clone(), source.to_owned());
        let (to, exclude) = (destination.to_owned(), exclude.clone());
        cx.blocking(move |stop| download::folder(&root, &source, &to, &exclude, stop)).await
    }
}

/// Copies a folder as it is to be in the image.
fn stage(tree: &LocalTree, to: &Path, stop: &packer_core::kit::blocking::Stop) -> Result<()> {
    fs::create_dir_all(to).map_err(|e| Error::io("mkdir", to, e))?;
    for entry in &tree.entries {
        stop.check()?;
        let into = to.join(&entry.relative);
        match entry.size {
            None => fs::create_dir(&into).map_err(|e| Error::io("mkdir", &into, e))?,
            Some(_) => {
                fs::copy(&entry.path, &into).map(drop).map_err(|e| Error::io("copy", &entry.path, e))?
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use packer_core::testing::{Bench, communicator, require, rootfs, skip};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_mounted_image_is_a_machine() {
        let Some(busybox) = require("busybox") else { return };
        if !rustix::process::geteuid().is_root() {
            skip("chroot: only root may change its root");
            return;
        }
        let bench = Bench::new();
        rootfs::fill(bench.folder(), &busybox);
        // The one device that the suite reads.
        let zero = bench.folder().join("dev/zero");
        let made = std::process::Command::new("mknod").arg(&zero).args(["c", "1", "5"]).status();
        if !made.is_ok_and(|status| status.success()) {
            skip("mknod: a container may forbid it");
            return;
        }
        let inside =
            Inside { root: bench.folder().to_owned(), commands: Commands { wrapper: String::new() } };
        communicator::suite(&inside, bench.context()).await;
        assert!(bench.outstanding().iter().all(|left| left.kind != "file"), "no temporary file is left");
    }
}
