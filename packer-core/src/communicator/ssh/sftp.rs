//! Files by SFTP, with many requests on the way at once.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::Channel;
use russh::client::Msg;
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::fs::File;
use russh_sftp::client::{Config, SftpSession};
use russh_sftp::protocol::{FileAttributes, OpenFlags, Status, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::{Source, tree};
use super::base_name;
use super::dial::{Connection, granted};
use super::names::{Listed, TooMany};
use super::stream::Until;
use crate::context::{Context, Progress};
use crate::error::{Error, Fault, Result, os_text};

/// How much one request carries: the most that OpenSSH takes.
pub(super) const CHUNK: usize = 261_120;
/// How many requests of one file may be on the way: with chunks of this size 16 MiB, enough for any line.
pub(super) const IN_FLIGHT: usize = 64;
/// How long a server may take to see that a program has ended whose output has.
const REAPED: Duration = Duration::from_millis(100);
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to remove what did not come whole.
const REMOVE_LIMIT: Duration = Duration::from_secs(10);

/// What is to be written into one file.
pub(super) struct Content<'a> {
    pub(super) reader: Box<dyn AsyncRead + Send + Unpin + 'a>,
    /// How many bytes there are at least, where that is known.
    pub(super) size: Option<u64>,
    /// Permission bits; `None` leaves them to the machine.
    pub(super) mode: Option<u32>,
    pub(super) progress: Option<Progress>,
    /// Where it can be read from again.
    origin: Origin<'a>,
}

/// What a content can be read from a second time.
#[derive(Clone, Copy)]
enum Origin<'a> {
    File(&'a Path),
    Bytes(&'a [u8]),
    Gone,
}

impl<'a> Content<'a> {
    /// Opens the source. What has a name or a size tells its progress.
    pub(super) async fn open(cx: &Context, source: Source<'a>, destination: &str) -> Result<Self> {
        match source {
            Source::File(path) => {
                let file = tokio::fs::File::open(path).await.map_err(|e| Error::io("open", path, e))?;
                let metadata = file.metadata().await.map_err(|e| Error::io("open", path, e))?;
                if metadata.is_dir() {
                    return Err(Error::user(format!("{} is a folder", path.display())));
                }
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                let size = metadata.is_file().then_some(metadata.len());
                Ok(Self {
                    reader: Box::new(file),
                    size,
                    mode: size.is_some().then(|| tree::mode(&metadata)),
                    progress: Some(cx.progress(name, size)),
                    origin: Origin::File(path),
                })
            }
            Source::Bytes(bytes) => Ok(Self {
                reader: Box::new(bytes),
                size: Some(bytes.len() as u64),
                mode: None,
                progress: None,
                origin: Origin::Bytes(bytes),
            }),
            Source::Reader { reader, size, mode } => Ok(Self {
                reader: Box::new(reader),
                // What a caller says of a stream is for showing only.
                size: None,
                mode,
                progress: size.map(|size| cx.progress(base_name(destination), Some(size))),
                origin: Origin::Gone,
            }),
        }
    }

    /// Whether somebody asks for its permission bits, and they do not just come from a local file.
    pub(super) fn is_asked_for(&self) -> bool {
        self.mode.is_some() && !matches!(self.origin, Origin::File(_))
    }

    /// Begins at its beginning again; `false` where that cannot be.
    async fn rewind(&mut self) -> Result<bool> {
        self.reader = match self.origin {
            Origin::File(path) => {
                Box::new(tokio::fs::File::open(path).await.map_err(|e| Error::io("open", path, e))?)
            }
            Origin::Bytes(bytes) => Box::new(bytes),
            Origin::Gone => return Ok(false),
        };
        Ok(true)
    }
}

/// An SFTP session on a channel of its own; ends with this value.
#[derive(Clone)]
pub(super) struct Sftp {
    pub(super) session: Arc<SftpSession>,
    pub(super) connection: Arc<Connection>,
    /// Whether files and folders that are there keep their permission bits.
    pub(super) keeps_bits: bool,
    too_many: TooMany,
    forsaken: Forsaken,
    _end: Arc<DropGuard>,
}

/// Files that had not come whole when the connection broke: whoever comes next removes them.
#[derive(Clone, Default)]
pub(super) struct Forsaken(Arc<Mutex<Vec<String>>>);

impl Forsaken {
    fn add(&self, path: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(path);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A file that has not come whole; removed with this value.
struct Partial {
    sftp: Sftp,
    path: String,
    armed: bool,
}

impl Partial {
    /// A name of its own beside a file.
    fn beside(sftp: &Sftp, path: &str) -> Self {
        let folder = path.rfind('/').map_or("", |slash| &path[..=slash]);
        let name = uuid::Uuid::new_v4().simple();
        Self { sftp: sftp.clone(), path: format!("{folder}.packer-{name}"), armed: true }
    }

    /// It has another name now.
    fn done(mut self) {
        self.armed = false;
    }

    async fn remove(mut self) {
        let path = std::mem::take(&mut self.path);
        self.sftp.remove_partial(path).await;
        self.done();
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (sftp, path) = (self.sftp.clone(), std::mem::take(&mut self.path));
        if sftp.connection.is_closed() {
            sftp.forsaken.add(path);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // With the whole session: it ends with its guard.
            runtime.spawn(async move { sftp.remove_partial(path).await });
        }
    }
}

impl Sftp {
    /// Starts SFTP on a fresh channel; `None` where the server has no SFTP, or it does not work there.
    pub(super) async fn start(
        connection: Arc<Connection>,
        mut channel: Channel<Msg>,
        keeps_bits: bool,
        forsaken: Forsaken,
    ) -> Result<Option<Self>> {
        let asked = channel.request_subsystem(true, "sftp").await;
        let granted = asked.is_ok() && granted(&mut channel).await;
        if connection.is_closed() {
            return Err(connection.broken("the connection is closed"));
        }
        if !granted {
            let _ = channel.close().await;
            return Ok(None);
        }
        let token = CancellationToken::new();
        let too_many = TooMany::default();
        let stream = Listed::new(Until::new(channel.into_stream(), token.clone()), too_many.clone());
        let end = Arc::new(token.drop_guard());
        let config = Config {
            max_packet_len: 262_144,
            max_concurrent_reads: IN_FLIGHT,
            max_concurrent_writes: IN_FLIGHT,
            // The server's own limit is less by the packet's head, and is kept.
            max_write_packet_len: 262_144,
            // On a slow line the last of many requests takes long; that the server is there is asked otherwise.
            request_timeout_secs: 3600,
        };
        match tokio::time::timeout(START_LIMIT, SftpSession::new_with_config(stream, config)).await {
            Ok(Ok(session)) => {
                let session = Arc::new(session);
                let sftp = Self { session, connection, keeps_bits, too_many, forsaken, _end: end };
                for path in sftp.forsaken.take() {
                    sftp.remove_partial(path).await;
                }
                Ok(Some(sftp))
            }
            _ if connection.is_closed() => Err(connection.broken("the connection is closed")),
            // A subsystem that is configured but not installed ends at once.
            Ok(Err(_)) => {
                // A channel that is opened before Dropbear has seen the end of another one's program is closed with that.
                tokio::time::sleep(REAPED).await;
                Ok(None)
            }
            Err(_) => Err(Error::network("the server's SFTP does not answer")),
        }
    }

    /// Removes a file that has not come whole.
    async fn remove_partial(&self, path: String) {
        let removed = tokio::time::timeout(REMOVE_LIMIT, self.session.remove_file(&path)).await;
        if !matches!(removed, Ok(Ok(()))) && self.connection.is_closed() {
            self.forsaken.add(path);
        }
    }

    /// Writes a file. A new one appears when the whole has come; one that is there is written in its place, since it may be
    /// a link, a device, or somebody else's.
    pub(super) async fn upload(&self, content: &mut Content<'_>, path: &str) -> Result<()> {
        if !self.is_new(path).await {
            let mode = content.mode.filter(|mode| content.is_asked_for() || !self.keeps(*mode));
            return self.write_in_place(content, path, mode).await;
        }
        let part = Partial::beside(self, path);
        let Ok(file) = self.create(&part.path, content.mode).await else {
            // What is refused may be the name; if not, the error names what was asked for.
            return self.write_in_place(content, path, content.mode).await;
        };
        if let Err(error) = self.write_all(content, file, path, content.mode).await {
            let error = self.explained(error, path).await;
            if error.fault() == Fault::Guest {
                // A server that answers; behind a broken connection nobody waits.
                part.remove().await;
            }
            return Err(error);
        }
        let Err(e) = self.session.rename(&part.path, path).await else {
            part.done();
            return Ok(());
        };
        // Servers may be told to allow no renaming, and a file may have come to be meanwhile.
        part.remove().await;
        match content.rewind().await? {
            true => self.write_in_place(content, path, content.mode).await,
            false => Err(self.failed("upload", path, e)),
        }
    }

    async fn write_in_place(&self, content: &mut Content<'_>, path: &str, mode: Option<u32>) -> Result<()> {
        let written =
            async { self.write_all(content, self.create(path, mode).await?, path, mode).await }.await;
        match written {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explained(error, path).await),
        }
    }

    /// The error of an upload with what servers leave out: that the disk is full.
    pub(super) async fn explained(&self, error: Error, path: &str) -> Error {
        if error.fault() != Fault::Guest {
            return error;
        }
        let folder = path.rfind('/').map_or(".", |slash| &path[..slash.max(1)]);
        let disk = tokio::time::timeout(REMOVE_LIMIT, self.session.fs_info(folder)).await;
        let Ok(Ok(Some(disk))) = disk else { return error };
        // Less than anybody would try to write at once.
        let full = disk.blocks > 0 && disk.blocks_avail.saturating_mul(disk.fragment_size) < CHUNK as u64;
        if full || (disk.inodes > 0 && disk.inodes_avail == 0) {
            return error.map_message(|message| format!("{message} (no space left on the machine's disk)"));
        }
        error
    }

    /// Whether nothing is there, not even a link that leads nowhere.
    pub(super) async fn is_new(&self, path: &str) -> bool {
        let found = self.session.symlink_metadata(path).await;
        matches!(found, Err(SftpError::Status(Status { status_code: StatusCode::NoSuchFile, .. })))
    }

    /// Whether a file that is there keeps its own permission bits when one with these comes; scp sets those that its user
    /// could not write with.
    pub(super) fn keeps(&self, mode: u32) -> bool {
        self.keeps_bits && mode & 0o200 != 0
    }

    /// Writes all of a content into an open file; errors name `path`.
    async fn write_all(
        &self,
        content: &mut Content<'_>,
        mut file: File,
        path: &str,
        mode: Option<u32>,
    ) -> Result<()> {
        let mut buffer = Vec::with_capacity(CHUNK);
        let mut sent = 0;
        loop {
            fill(&mut content.reader, &mut buffer).await?;
            if buffer.is_empty() {
                break;
            }
            self.write(&mut file, &buffer, path).await?;
            sent += buffer.len() as u64;
            if let Some(progress) = &mut content.progress {
                progress.advance(buffer.len() as u64);
            }
        }
        self.finish(file, mode, path).await?;
        came_short(content.size, sent, path)
    }

    /// Opens a file for writing; what it contained is gone.
    pub(super) async fn create(&self, path: &str, mode: Option<u32>) -> Result<File> {
        let flags = OpenFlags::CREATE | OpenFlags::TRUNCATE | OpenFlags::WRITE;
        match self.session.open_with_flags_and_attributes(path, flags, permissions(mode)).await {
            Ok(file) => Ok(file),
            Err(SftpError::Status(_)) if self.is_dir(path).await == Ok(Some(true)) => {
                Err(Error::guest(format!("upload {path}: it is a folder")))
            }
            Err(e) => Err(self.failed("upload", path, e)),
        }
    }

    /// Sends bytes; waits only while too many requests are on the way.
    pub(super) async fn write(&self, file: &mut File, bytes: &[u8], path: &str) -> Result<()> {
        file.write_all(bytes).await.map_err(|e| self.failed_io("upload", path, e))
    }

    /// Sets the permission bits and waits until everything has arrived. The bits given when a file is made count only
    /// for a new file, and the machine's umask takes some away.
    pub(super) async fn finish(&self, file: File, mode: Option<u32>, path: &str) -> Result<()> {
        if mode.is_some() {
            match file.set_metadata(permissions(mode)).await {
                Err(SftpError::Status(Status { status_code: StatusCode::OpUnsupported, .. })) | Ok(()) => {}
                Err(e) => return Err(self.failed("chmod", path, e)),
            }
        }
        file.close().await.map_err(|e| self.failed_io("upload", path, e))
    }

    /// Copies a file into a sink.
    pub(super) async fn download(
        &self,
        cx: &Context,
        path: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        let mut file = self.session.open(path).await.map_err(|e| self.failed("download", path, e))?;
        let metadata = file.metadata().await.map_err(|e| self.failed("download", path, e))?;
        if metadata.file_type().is_dir() {
            return Err(Error::guest(format!("download {path}: it is a folder")));
        }
        let mut progress = cx.progress(base_name(path), metadata.size);
        self.copy(&mut file, metadata.size, path, sink, |read| progress.advance(read)).await
    }

    /// Copies an open file into a sink; as much as its size says, to the end where it says nothing (files of `/proc`
    /// have size 0).
    pub(super) async fn copy(
        &self,
        file: &mut File,
        size: Option<u64>,
        path: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
        mut told: impl FnMut(u64),
    ) -> Result<()> {
        let mut left = size.filter(|size| *size > 0).unwrap_or(u64::MAX);
        let mut buffer = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
        let local = |e: io::Error| {
            Error::provider(format!("download {path}: writing: {}", os_text(&e))).with_source(e)
        };
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(CHUNK));
            let read =
                file.read(&mut buffer[..most]).await.map_err(|e| self.failed_io("download", path, e))?;
            if read == 0 {
                break;
            }
            sink.write_all(&buffer[..read]).await.map_err(local)?;
            left -= read as u64;
            told(read as u64);
        }
        sink.flush().await.map_err(local)
    }

    /// Whether a path is a folder; `None` where nothing is there. The error is for people.
    pub(super) async fn is_dir(&self, path: &str) -> Result<Option<bool>, String> {
        match self.session.metadata(path).await {
            Ok(metadata) => Ok(Some(metadata.file_type().is_dir())),
            Err(SftpError::Status(Status { status_code: StatusCode::NoSuchFile, .. })) => Ok(None),
            Err(e) => Err(self.failed("stat", path, e).to_string()),
        }
    }

    /// The error of a request.
    pub(super) fn failed(&self, verb: &str, path: &str, error: SftpError) -> Error {
        match error {
            SftpError::Status(status) => Error::guest(format!("{verb} {path}: {}", said(&status))),
            other => {
                let why = match (self.too_many.text(), &other) {
                    (Some(why), _) => return Error::guest(format!("{verb} {path}: {why}")),
                    // The library reads no further, and does not say why.
                    (None, SftpError::UnexpectedBehavior(_)) => {
                        "the server's SFTP ended, or said what is no SFTP".to_owned()
                    }
                    (None, other) => other.to_string().to_lowercase(),
                };
                self.connection.broken(&why).context(format!("{verb} {path}"))
            }
        }
    }

    fn failed_io(&self, verb: &str, path: &str, error: io::Error) -> Error {
        match error.get_ref().and_then(|e| e.downcast_ref::<SftpError>()) {
            Some(e) => self.failed(verb, path, e.clone()),
            // Here the library keeps nothing of the server's answer but its text.
            None => Error::guest(format!("{verb} {path}: {}", error.to_string().to_lowercase())),
        }
    }
}

/// Attributes that say nothing but permission bits.
pub(super) fn permissions(mode: Option<u32>) -> FileAttributes {
    FileAttributes { permissions: mode, ..FileAttributes::empty() }
}

/// The error of a file that had fewer bytes in the end than at first.
pub(super) fn came_short(size: Option<u64>, sent: u64, path: &str) -> Result<()> {
    match size {
        Some(size) if sent < size => Err(Error::user(format!(
            "upload {path}: what is uploaded changed meanwhile: of {size} bytes {sent} were left"
        ))),
        _ => Ok(()),
    }
}

/// Fills the buffer anew, up to a chunk; it stays empty at the end.
pub(super) async fn fill(reader: &mut (dyn AsyncRead + Send + Unpin), buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    while buffer.len() < CHUNK {
        let room = (CHUNK - buffer.len()) as u64;
        let read = (&mut *reader).take(room).read_buf(buffer).await;
        if read.map_err(|e| Error::provider(format!("reading what is to be uploaded: {}", os_text(&e))))? == 0
        {
            break;
        }
    }
    Ok(())
}

fn said(status: &Status) -> String {
    match status.status_code {
        StatusCode::NoSuchFile => "no such file or directory".into(),
        StatusCode::PermissionDenied => "permission denied".into(),
        _ if status.error_message.is_empty() => format!("the server answered {:?}", status.status_code),
        _ => status.error_message.to_lowercase(),
    }
}
