//! The way into the root filesystem: files are copied straight, commands run through a runtime.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use packer_core::kit::blocking::Stop;
use packer_core::{Command, Communicator, Context, Error, ExitStatus, Globs, Result, Source, async_trait};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::base::{TreeCopy, each_in};
use super::changes::below;
use super::rootfs::{Attributes, Last, Place, Rootfs, xattrs};
use super::runtime::Runner;

/// A root filesystem as a machine.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) rootfs: Arc<Rootfs>,
    pub(super) runner: Runner,
    /// Where relative paths start.
    pub(super) folder: String,
    /// Whose uploaded files are; `None`: as they are on this computer.
    pub(super) owner: Option<(u32, u32)>,
}

impl Inside {
    fn path(&self, path: &str) -> Result<PathBuf> {
        match path {
            "" => Err(Error::user("the path in the image is empty")),
            path if path.contains('\0') => {
                Err(Error::user(format!("{path:?} is no path: it contains a null character")))
            }
            path => Ok(below(&self.folder, path).into()),
        }
    }
}

fn failed(verb: &str, path: &Path, e: io::Error) -> Error {
    match e.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        true => e.downcast::<Error>().unwrap_or_else(|e| Error::io(verb, path, e)),
        false => Error::io(verb, path, e),
    }
}

/// What an upload without attributes of its own gets: those of the file that it replaces.
fn attributes_for(
    rootfs: &Rootfs,
    place: &Place,
    mode: Option<u32>,
    owner: Option<(u32, u32)>,
) -> io::Result<Attributes> {
    let mut attributes = match rootfs.stat(place)? {
        Some(there) if there.is_file() => {
            Attributes { xattrs: Default::default(), ..rootfs.attributes(&place.path, &there)? }
        }
        _ => {
            let (uid, gid) = owner.unwrap_or((0, 0));
            Attributes { uid, gid, ..Attributes::root(0o644) }
        }
    };
    if let Some(mode) = mode {
        attributes.mode = mode & 0o7777;
    }
    Ok(attributes)
}

#[async_trait]
impl Communicator for Inside {
    async fn exec(&self, cx: &Context, command: Command<'_>) -> Result<ExitStatus> {
        self.runner.exec(cx, command).await
    }

    fn keeps_modes(&self) -> bool {
        true
    }

    async fn upload(&self, cx: &Context, source: Source<'_>, destination: &str) -> Result<()> {
        let (to, rootfs, owner) = (self.path(destination)?, self.rootfs.clone(), self.owner);
        match source {
            Source::File(from) => {
                let from = from.to_owned();
                cx.blocking(move |stop| upload_file(&rootfs, &from, &to, owner, stop)).await
            }
            Source::Bytes(bytes) => {
                let bytes = bytes.to_vec();
                cx.blocking(move |_| upload_pieces(&rootfs, &to, None, owner, [Ok(bytes)].into_iter())).await
            }
            Source::Reader { reader, mode, .. } => {
                // The writer sees the end (`None`) only where all was read: what breaks off leaves the old file.
                let (sender, mut pieces) = tokio::sync::mpsc::channel::<Option<Vec<u8>>>(4);
                let pieces = std::iter::from_fn(move || match pieces.blocking_recv() {
                    Some(piece) => piece.map(Ok),
                    None => Some(Err(io::Error::other("the upload broke off"))),
                });
                let work = cx.blocking(move |_| upload_pieces(&rootfs, &to, mode, owner, pieces));
                let feed = async move {
                    loop {
                        let mut piece = vec![0; 256 * 1024];
                        let read =
                            reader.read(&mut piece).await.map_err(|e| Error::io("upload", destination, e))?;
                        piece.truncate(read);
                        let end = read == 0;
                        // Where nobody takes it any more, the writer says why.
                        if sender.send((!end).then_some(piece)).await.is_err() || end {
                            return Ok(());
                        }
                    }
                };
                tokio::try_join!(work, feed).map(drop)
            }
            _ => Err(Error::internal("this kind of source is not known here")),
        }
    }

    async fn upload_dir(
        &self,
        cx: &Context,
        source: &Path,
        destination: &str,
        exclude: &Globs,
    ) -> Result<()> {
        let (to, rootfs, owner) = (self.path(destination)?, self.rootfs.clone(), self.owner);
        let (from, exclude) = (source.to_owned(), exclude.clone());
        cx.blocking(move |stop| {
            let metadata = fs::metadata(&from).map_err(|e| Error::io("open", &from, e))?;
            if !metadata.is_dir() {
                return Err(Error::user(format!("{} is not a folder", from.display())));
            }
            let contents = from.as_os_str().to_string_lossy().ends_with('/');
            let to = match from.file_name() {
                Some(name) if !contents => to.join(name),
                _ => to,
            };
            let mut copy = TreeCopy::default();
            each_in(&from, stop, |path, disk, metadata| {
                if !path.as_os_str().is_empty() && exclude.matches(path) {
                    return Ok(false);
                }
                let copied = copy.one(&rootfs, &to.join(path), disk, metadata, owner, false, stop);
                copied.map(|()| true).map_err(|e| failed("upload", disk, e))
            })?;
            copy.finish(&rootfs).map_err(|e| failed("upload", &from, e))
        })
        .await
    }

    async fn download(
        &self,
        cx: &Context,
        source: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        let (from, rootfs) = (self.path(source)?, self.rootfs.clone());
        let shown = from.clone();
        let file = cx.blocking(move |_| {
            let place = rootfs.find(&from, Last::Followed).map_err(|e| Error::io("open", &from, e))?;
            rootfs.open(&place).map_err(|e| Error::io("open", &from, e))
        });
        let mut file = tokio::fs::File::from_std(file.await?);
        cx.until_cancelled(async {
            let copied = tokio::io::copy(&mut file, sink).await;
            copied.map_err(|e| Error::io("download", &shown, e))?;
            sink.flush().await.map_err(|e| Error::io("download", &shown, e))
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
        let (from, rootfs) = (self.path(source)?, self.rootfs.clone());
        let contents = source.ends_with('/') || source.ends_with("/.");
        let (to, exclude) = (destination.to_owned(), exclude.clone());
        cx.blocking(move |stop| {
            fs::create_dir_all(&to).map_err(|e| Error::io("mkdir", &to, e))?;
            let download = Download { rootfs: &rootfs, exclude: &exclude, stop };
            for start in starts(&rootfs, &from)? {
                let to = match start.file_name() {
                    Some(name) if !contents => to.join(name),
                    _ => to.clone(),
                };
                download.all(start, to)?;
            }
            Ok(())
        })
        .await
    }
}

fn upload_file(
    rootfs: &Rootfs,
    from: &Path,
    to: &Path,
    owner: Option<(u32, u32)>,
    stop: &Stop,
) -> Result<()> {
    let mut file = fs::File::open(from).map_err(|e| Error::io("open", from, e))?;
    let metadata = file.metadata().map_err(|e| Error::io("open", from, e))?;
    if metadata.is_dir() {
        return Err(Error::io("open", from, io::ErrorKind::IsADirectory.into()));
    }
    let upload = || -> io::Result<()> {
        let (uid, gid) = owner.unwrap_or_else(|| rootfs.owner_inside(&metadata));
        let xattrs = if owner.is_none() { xattrs(&fs::canonicalize(from)?)? } else { Default::default() };
        let attributes = Attributes { uid, gid, mode: metadata.mode() & 0o7777, xattrs };
        let mut new = rootfs.new_file(rootfs.find(to, Last::Followed)?)?;
        loop {
            stop.check().map_err(io::Error::other)?;
            // The system copies by itself where it can.
            if io::copy(&mut io::Read::take(&mut file, 64 << 20), &mut new.file)? == 0 {
                return new.finish(&attributes, None);
            }
        }
    };
    let mut upload = upload;
    upload().map_err(|e| failed("write", to, e))
}

fn upload_pieces(
    rootfs: &Rootfs,
    to: &Path,
    mode: Option<u32>,
    owner: Option<(u32, u32)>,
    pieces: impl Iterator<Item = io::Result<Vec<u8>>>,
) -> Result<()> {
    let upload = || -> io::Result<()> {
        let place = rootfs.find(to, Last::Followed)?;
        let attributes = attributes_for(rootfs, &place, mode, owner)?;
        let mut new = rootfs.new_file(place)?;
        for piece in pieces {
            new.file.write_all(&piece?)?;
        }
        new.finish(&attributes, None)
    };
    upload().map_err(|e| failed("write", to, e))
}

/// What a download begins with: the path, or all that a pattern in its last part matches.
fn starts(rootfs: &Rootfs, from: &Path) -> Result<Vec<PathBuf>> {
    let missing = || Error::io("open", from, io::ErrorKind::NotFound.into());
    if rootfs.look(from).map_err(|e| Error::io("open", from, e))?.is_some() {
        return Ok(vec![from.to_owned()]);
    }
    let (Some(parent), Some(name)) = (from.parent(), from.file_name().and_then(|name| name.to_str())) else {
        return Err(missing());
    };
    if !name.contains(['*', '?', '[', '{']) {
        return Err(missing());
    }
    let pattern = Globs::new([name])?;
    let folder = rootfs.find(parent, Last::Followed).map_err(|e| Error::io("open", parent, e))?;
    let entries = fs::read_dir(rootfs.disk(&folder.path)).map_err(|e| Error::io("open", parent, e))?;
    let names = entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name()));
    let mut found: Vec<PathBuf> =
        names.filter(|name| pattern.matches(name)).map(|name| parent.join(name)).collect();
    found.sort();
    if found.is_empty() { Err(missing()) } else { Ok(found) }
}

struct Download<'a> {
    rootfs: &'a Rootfs,
    exclude: &'a Globs,
    stop: &'a Stop,
}

impl Download<'_> {
    /// Copies what is in the image at `start`; links are what they lead to in there.
    fn all(&self, start: PathBuf, to: PathBuf) -> Result<()> {
        let mut todo = vec![(start, PathBuf::new(), HashSet::new())];
        let mut modes = Vec::new();
        while let Some((path, relative, mut inside)) = todo.pop() {
            self.stop.check()?;
            let shown = |e| Error::io("download", &path, e);
            let local = if relative.as_os_str().is_empty() { to.clone() } else { to.join(&relative) };
            let Some((place, metadata)) = self.rootfs.look(&path).map_err(shown)? else {
                return Err(shown(io::ErrorKind::NotFound.into()));
            };
            if metadata.is_dir() {
                if !inside.insert(place.path.clone()) {
                    return Err(Error::user(format!(
                        "{} leads back into a folder that contains it",
                        path.display()
                    )));
                }
                match fs::create_dir(&local) {
                    Ok(()) => modes.push((local, metadata.mode())),
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists && local.is_dir() => {}
                    Err(e) => return Err(Error::io("mkdir", &local, e)),
                }
                for entry in fs::read_dir(self.rootfs.disk(&place.path)).map_err(shown)? {
                    let name = entry.map_err(shown)?.file_name();
                    let relative = relative.join(&name);
                    if !self.exclude.matches(&relative) {
                        todo.push((Path::new("/").join(&place.path).join(name), relative, inside.clone()));
                    }
                }
            } else if metadata.is_file() {
                let from = self.rootfs.open(&place).map_err(shown)?;
                let mut file = fs::File::create(&local).map_err(|e| Error::io("write", &local, e))?;
                io::copy(&mut self.stop.reader(from, None), &mut file)
                    .map_err(|e| failed("write", &local, e))?;
                let mode = fs::Permissions::from_mode(metadata.mode() & 0o777);
                file.set_permissions(mode).map_err(|e| Error::io("chmod", &local, e))?;
            } else {
                return Err(Error::user(format!("{} is neither a file nor a folder", path.display())));
            }
        }
        // From the inside out: a folder that must not be written to could not have been filled.
        for (path, mode) in modes.into_iter().rev() {
            let mode = fs::Permissions::from_mode(mode & 0o777);
            fs::set_permissions(&path, mode).map_err(|e| Error::io("chmod", &path, e))?;
        }
        Ok(())
    }
}
