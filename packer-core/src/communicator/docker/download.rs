//! Downloads: the engine packs what it finds in the container as a tar archive.

use std::path::Path;
use std::pin::Pin;

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::super::archive::{Layout, Told, pattern, quoted, unpack};
use super::super::output::Kept;
use super::super::{Command, Globs};
use super::{Inner, absolute, exec, split};
use crate::context::Context;
use crate::error::{Error, Result, os_text};

/// How many links may lead to a file.
const LINKS: usize = 40;

/// The longest extension of a header, in bytes; names are far shorter.
const EXTENSION: u64 = 1 << 20;

type Archive = StreamReader<Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>, Bytes>;

/// Asks for an archive of a path; that it cannot be had shows here, not while it is read.
async fn open(inner: &Inner, path: &str) -> Result<Archive> {
    let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
    let (api, pieces) = inner.client.in_pieces()?;
    let mut stream = api.download_from_container(&inner.id, Some(options)).boxed();
    let first = match stream.next().await {
        Some(Ok(first)) => first,
        Some(Err(e)) => return Err(inner.error("Error downloading file", &e).await),
        None => Bytes::new(),
    };
    let rest = stream.map(move |chunk| pieces.take("the archive", chunk).map_err(std::io::Error::other));
    let whole: Pin<Box<dyn Stream<Item = _> + Send>> =
        Box::pin(futures_util::stream::iter([Ok(first)]).chain(rest));
    Ok(StreamReader::new(whole))
}

/// Copies a file's content.
pub(super) async fn file(
    inner: &Inner,
    cx: &Context,
    source: &str,
    sink: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<()> {
    let mut path = absolute(source);
    for _ in 0..LINKS {
        let mut archive = open(inner, &path).await?;
        match first_entry(&mut archive, source).await? {
            First::File(size) => {
                let mut progress = cx.progress(source, Some(size));
                let mut sink = Told { inner: sink, progress: Some(&mut progress) };
                let mut content = archive.take(size);
                let copied = tokio::io::copy(&mut content, &mut sink).await;
                let copied =
                    copied.map_err(|e| Error::provider(format!("download {source}: {}", os_text(&e))))?;
                if copied != size {
                    let text = format!("download {source}: the engine sent {copied} of {size} bytes");
                    return Err(Error::network(text));
                }
                sink.flush().await.map_err(|e| Error::provider(format!("download {source}: {e}")))?;
                return Ok(());
            }
            First::Link(target) if target.starts_with('/') => path = target,
            First::Link(target) => {
                let folder = split(&path).map_or("/", |(folder, _)| folder);
                path = format!("{}/{target}", folder.trim_end_matches('/'));
            }
        }
    }
    Err(Error::user(format!("download {source}: too many links")))
}

/// What an archive begins with.
enum First {
    /// A file of this size, whose content comes next.
    File(u64),
    Link(String),
}

async fn first_entry(archive: &mut Archive, source: &str) -> Result<First> {
    let failed = |e: std::io::Error| Error::provider(format!("download {source}: {}", os_text(&e)));
    let (mut size, mut long_link) = (None, None);
    loop {
        let mut block = [0; 512];
        archive.read_exact(&mut block).await.map_err(failed)?;
        let header = tar::Header::from_byte_slice(&block);
        let length = header.entry_size().map_err(failed)?;
        match header.entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                return Ok(First::File(size.unwrap_or(length)));
            }
            tar::EntryType::Symlink | tar::EntryType::Link => {
                let name = header.link_name_bytes().unwrap_or_default();
                let short = String::from_utf8_lossy(&name).into_owned();
                return Ok(First::Link(long_link.unwrap_or(short)));
            }
            tar::EntryType::Directory => {
                return Err(Error::user(format!("download {source}: it is a folder, not a file")));
            }
            // What is too long or too large for a header stands before it.
            tar::EntryType::XHeader | tar::EntryType::GNULongLink | tar::EntryType::GNULongName
                if length <= EXTENSION =>
            {
                let content = content(archive, length).await.map_err(failed)?;
                if header.entry_type() == tar::EntryType::GNULongLink {
                    let text = String::from_utf8_lossy(&content);
                    long_link = Some(text.trim_end_matches('\0').to_owned());
                }
                if header.entry_type() == tar::EntryType::XHeader {
                    for extension in tar::PaxExtensions::new(&content).flatten() {
                        match extension.key() {
                            Ok("size") => size = extension.value().ok().and_then(|v| v.parse().ok()),
                            Ok("linkpath") => long_link = extension.value().ok().map(str::to_owned),
                            _ => {}
                        }
                    }
                }
            }
            other => return Err(Error::user(format!("download {source}: it is no file ({other:?})"))),
        }
    }
}

/// The content of an entry; what fills its last block is passed over.
async fn content(archive: &mut (impl AsyncRead + Unpin), length: u64) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let whole = length.div_ceil(512) * 512;
    archive.take(whole).read_to_end(&mut content).await?;
    content.truncate(usize::try_from(length).unwrap_or(0));
    Ok(content)
}

/// Copies a folder, or what a pattern in the last part of its name matches.
pub(super) async fn folder(
    inner: &Inner,
    cx: &Context,
    source: &str,
    destination: &Path,
    exclude: &Globs,
) -> Result<()> {
    let path = absolute(source);
    if let Some((folder, name)) = split(&path)
        && name.contains(['*', '?', '['])
    {
        for found in matches(inner, folder, name, source).await? {
            one_folder(inner, cx, &found, destination, exclude, Layout::Folder).await?;
        }
        return Ok(());
    }
    let contents = path.ends_with('/') || matches!(path.rsplit('/').next(), Some("." | ".."));
    let layout = if contents { Layout::Strip } else { Layout::Folder };
    one_folder(inner, cx, &path, destination, exclude, layout).await
}

async fn one_folder(
    inner: &Inner,
    cx: &Context,
    path: &str,
    destination: &Path,
    exclude: &Globs,
    layout: Layout,
) -> Result<()> {
    // The engine names the entries after the last part of the path; of a path without one, after nothing.
    let trimmed = path.trim_end_matches('/');
    let (asked, layout) = match trimmed {
        "" => ("/.", Layout::Contents),
        _ if trimmed.ends_with("/.") || trimmed.ends_with("/..") => (trimmed, Layout::Contents),
        _ => (trimmed, layout),
    };
    let archive = open(inner, asked).await?;
    let mut progress = cx.progress(path, None);
    let (destination, exclude) = (destination.to_path_buf(), exclude.clone());
    let counted = Counted { inner: archive, told: move |bytes: usize| progress.advance(bytes as u64) };
    cx.blocking(move |stop| unpack(stop, SyncIoBridge::new(counted), &destination, layout, &exclude)).await
}

/// How long the names may be that a pattern matches.
const MOST_NAMES: usize = 16 << 20;

/// What a pattern matches in a folder of the container.
async fn matches(inner: &Inner, folder: &str, name: &str, source: &str) -> Result<Vec<String>> {
    let text = format!("cd {} && printf '%s\\0' {}", quoted(folder), pattern(name));
    let (mut found, mut complaint) = (Kept::new(MOST_NAMES), Kept::complaint());
    let command = Command::new(&text).stdout(&mut found).stderr(&mut complaint);
    let words = vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()];
    let done = exec::run(inner, words, "root".to_owned(), command).await;
    if found.is_exceeded() {
        let message =
            format!("download {source}: the names that it matches are longer than {} MiB", MOST_NAMES >> 20);
        return Err(Error::guest(message));
    }
    if !done?.success() {
        return Err(Error::user(format!("download {source}: {}", complaint.text())));
    }
    let found = found.into_bytes();
    let names = found.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let names = names.map(|name| String::from_utf8_lossy(name).trim_start_matches("./").to_owned());
    Ok(names.map(|name| format!("{}/{name}", folder.trim_end_matches('/'))).collect())
}

/// A reader that tells how much has passed and can move to another thread.
struct Counted<R, F> {
    inner: R,
    told: F,
}

impl<R: AsyncRead + Unpin, F: FnMut(usize) + Unpin> AsyncRead for Counted<R, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        (self.told)(read);
        result
    }
}
