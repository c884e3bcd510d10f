//! Uploads as tar archives that the engine unpacks in the container.

use std::io;
use std::path::Path;

use bollard::body_try_stream;
use bollard::query_parameters::UploadToContainerOptionsBuilder;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use super::super::archive::quoted;
use super::super::output::Kept;
use super::super::tree::{Links, LocalTree};
use super::super::{Command, Globs, Source};
use super::owner::{self, Owner};
use super::{Inner, absolute, exec, pack, split};
use crate::context::Context;
use crate::docker::streams::{self, CHUNK};
use crate::error::{Error, Result, os_text};

/// The permission bits of what comes without any.
const MODE: u32 = 0o644;

/// Uploads one file.
pub(super) async fn file(inner: &Inner, cx: &Context, source: Source<'_>, destination: &str) -> Result<()> {
    let path = absolute(destination);
    let Some((folder, name)) = split(&path) else {
        return Err(Error::user(format!("{destination} is not the name of a file")));
    };
    let owner = owner::find(inner, cx).await;
    let what = format!("Failed to upload to '{destination}' in container");
    match source {
        Source::File(local) => local_file(inner, cx, local, (folder, name), &owner, &what).await?,
        Source::Bytes(bytes) => {
            let mut archive = pack::file_header(name, bytes.len() as u64, MODE, now(cx), ids(&owner))?;
            archive.extend_from_slice(bytes);
            archive.extend(pack::tail(bytes.len() as u64));
            let archive = futures_util::stream::iter([Ok(archive.into())]);
            put(inner, folder, archive, &what).await?;
        }
        Source::Reader { reader, size: Some(size), mode } => {
            let header = pack::file_header(name, size, mode.unwrap_or(MODE), now(cx), ids(&owner))?;
            let (sender, receiver) = mpsc::channel(2);
            let sending = send(reader, size, header, sender);
            let stream = streams::received(receiver);
            let (sent, put) = tokio::join!(sending, put(inner, folder, stream, &what));
            // A source that fails breaks the upload off: its own error says why.
            sent.and(put)?;
        }
        Source::Reader { reader, size: None, mode } => {
            // An archive says sizes first. The content may be larger than the memory.
            let spool = cx.temp_file("packer-upload", "", 0o600, b"")?;
            let failed = |e| Error::io("write", spool.path(), e);
            let mut file = tokio::fs::File::create(spool.path()).await.map_err(failed)?;
            tokio::io::copy(reader, &mut file).await.map_err(failed)?;
            tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(failed)?;
            let mut file = tokio::fs::File::open(spool.path()).await.map_err(failed)?;
            let size = file.metadata().await.map_err(failed)?.len();
            let source = Source::Reader { reader: &mut file, size: Some(size), mode: mode.or(Some(MODE)) };
            return Box::pin(self::file(inner, cx, source, destination)).await;
        }
    }
    fix_owner(inner, &owner, &path).await
}

async fn local_file(
    inner: &Inner,
    cx: &Context,
    local: &Path,
    (folder, name): (&str, &str),
    owner: &Owner,
    what: &str,
) -> Result<()> {
    let size = tokio::fs::metadata(local).await.map_err(|e| Error::io("open", local, e))?.len();
    let progress = cx.progress(local.display().to_string(), Some(size));
    let (writer, stream) = streams::body();
    let (local, name, known) = (local.to_path_buf(), name.to_owned(), known(owner));
    let packing = cx.blocking(move |stop| {
        let writer = pack::file(stop, writer, &local, &name, known, Some(progress))?;
        writer.finish().map_err(|e| Error::provider(os_text(&e)))
    });
    send_packed(inner, folder, packing, stream, what).await
}

/// Uploads a folder. Where the destination is a folder, the source goes into it under its own name, or its contents do; where it
/// is not there, it becomes a copy of the source.
pub(super) async fn folder(
    inner: &Inner,
    cx: &Context,
    source: &Path,
    destination: &str,
    exclude: &Globs,
) -> Result<()> {
    let tree = LocalTree::read(cx, source, exclude, Links::Kept).await?;
    let owner = owner::find(inner, cx).await;
    let path = absolute(destination);
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { &path };
    let what = format!("Failed to upload to '{destination}' in container");
    // Into a folder that is there, or as a new one beside others.
    let (folder, root) = match (&tree.name, is_folder(inner, path, &what).await?) {
        (None, true) => (path, None),
        (Some(name), true) => (path, Some(name.clone())),
        (_, false) => match split(path) {
            Some((folder, name)) => (folder, Some(name.to_owned())),
            None => return Err(Error::user(format!("{destination} is not the name of a folder"))),
        },
    };
    let progress = cx.progress(source.display().to_string(), Some(tree.total));
    let (writer, stream) = streams::body();
    let known = known(&owner);
    let packing = cx.blocking(move |stop| {
        let writer = pack::tree(stop, writer, &tree, root.as_deref(), known, None, Some(progress))?;
        writer.finish().map_err(|e| Error::provider(os_text(&e)))
    });
    send_packed(inner, folder, packing, stream, &what).await?;
    match &owner {
        // The user shall be able to work in the destination itself too.
        Owner::Ids(uid, _) if *uid != 0 => chown(inner, &uid.to_string(), path).await,
        owner => fix_owner(inner, owner, path).await,
    }
}

/// Whether there is a folder of this name, or a link to one.
async fn is_folder(inner: &Inner, path: &str, what: &str) -> Result<bool> {
    // With a slash behind it the engine looks at what a link leads to.
    let options = bollard::query_parameters::ContainerArchiveInfoOptionsBuilder::default();
    let options = options.path(&format!("{}/", path.trim_end_matches('/'))).build();
    let found = inner.client.api().get_container_archive_info(&inner.id, Some(options)).await;
    match found {
        Ok(_) => Ok(true),
        // Nothing, or a file: unpacking will say so.
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 400 | 404, .. }) => Ok(false),
        Err(e) => Err(inner.error(what, &e).await),
    }
}

async fn send_packed(
    inner: &Inner,
    folder: &str,
    packing: impl Future<Output = Result<()>>,
    stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    what: &str,
) -> Result<()> {
    let (packed, put) = tokio::join!(packing, put(inner, folder, stream, what));
    match (packed, put) {
        // What broke first counts: the engine's refusal breaks the packing, a bad file breaks the request.
        (Err(packed), Err(put)) => Err(if packed.message().contains("broken pipe") { put } else { packed }),
        (packed, put) => put.and(packed),
    }
}

async fn put(
    inner: &Inner,
    folder: &str,
    archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    what: &str,
) -> Result<()> {
    let options = UploadToContainerOptionsBuilder::default();
    let options = options.path(folder).no_overwrite_dir_non_dir("1").build();
    let body = body_try_stream(archive);
    match inner.client.api().upload_to_container(&inner.id, Some(options), body).await {
        Ok(()) => Ok(()),
        Err(e) => Err(inner.error(what, &e).await),
    }
}

/// Reads exactly `size` bytes and sends them behind a header.
async fn send(
    reader: &mut (dyn AsyncRead + Send + Unpin),
    size: u64,
    header: Vec<u8>,
    sender: mpsc::Sender<io::Result<Bytes>>,
) -> Result<()> {
    // Nobody takes it any more: the request's own error says why.
    if sender.send(Ok(header.into())).await.is_err() {
        return Ok(());
    }
    let mut left = size;
    while left > 0 {
        let mut buffer = BytesMut::with_capacity(CHUNK.min(usize::try_from(left).unwrap_or(CHUNK)));
        let mut limited = (&mut *reader).take(left);
        let read = limited.read_buf(&mut buffer).await;
        let read = read.map_err(|e| Error::user(format!("upload: {}", os_text(&e))))?;
        if read == 0 {
            return Err(Error::user(format!("upload: {left} of {size} bytes are missing")));
        }
        left -= read as u64;
        if sender.send(Ok(buffer.freeze())).await.is_err() {
            return Ok(());
        }
    }
    let _ = sender.send(Ok(pack::tail(size).into())).await;
    let _ = sender.send(Ok(Bytes::new())).await;
    Ok(())
}

async fn fix_owner(inner: &Inner, owner: &Owner, path: &str) -> Result<()> {
    match owner {
        Owner::Named(user) => chown(inner, user, path).await,
        _ => Ok(()),
    }
}

async fn chown(inner: &Inner, user: &str, path: &str) -> Result<()> {
    let text = format!("chown -R {} {}", quoted(user), quoted(path));
    let mut complaint = Kept::complaint();
    let command = Command::new(&text).stderr(&mut complaint);
    let words = vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()];
    let status = exec::run(inner, words, "root".to_owned(), command).await?;
    if status.success() {
        return Ok(());
    }
    // A user that does not exist does not come into being by trying again.
    Err(Error::user(format!("{text}: {} (exit code {})", complaint.text(), status.code())))
}

/// The owner as an archive says it; what is not known there belongs to root until the container has looked it up.
fn known(owner: &Owner) -> pack::Ids {
    match owner {
        Owner::Local => None,
        Owner::Ids(uid, gid) => Some((*uid, *gid)),
        Owner::Named(_) => Some((0, 0)),
    }
}

/// The same for content that has no local file: it belongs to whoever runs this.
fn ids(owner: &Owner) -> (u64, u64) {
    #[cfg(unix)]
    let own = || {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        (uid.into(), gid.into())
    };
    #[cfg(not(unix))]
    let own = || (0, 0);
    known(owner).unwrap_or_else(own)
}

fn now(cx: &Context) -> u64 {
    u64::try_from(cx.clock().now().as_second()).unwrap_or(0)
}
