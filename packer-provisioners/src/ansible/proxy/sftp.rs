//! SFTP for Ansible: what its client wants of files becomes uploads, downloads and commands of the communicator.
//!
//! Files are streamed from their beginning to their end, as `sftp` and `scp` do; a client that jumps about is refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use packer_core::{Error, ExitStatus, Result, Source};
use russh::Channel;
use russh::server::{self, Msg};
use russh_sftp::protocol::{
    Attrs, Data, File, FileAttributes, Handle, Name, OpenFlags, Packet, Status, StatusCode,
};
use russh_sftp::server::{Handler, StatusReply};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::exec::finish;
use super::remote::{Remote, Whole, safe};
use super::scp::unquoted;

/// How much of a file is on its way.
const PIPE: usize = 1 << 20;

/// The most that one answer holds.
const MOST_READ: u32 = 256 << 10;

/// How long the answers to a client that asks no more may take.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// How many names one answer holds, and how many files may be open.
const MOST_NAMES: usize = 100;
pub(super) const MOST_OPEN: usize = 256;

/// Serves SFTP on a channel until that is closed.
pub(super) async fn run(channel: Channel<Msg>, session: server::Handle, remote: Remote) {
    let (mut input, output) = channel.split();
    let stop = remote.stop.child_token();
    let remote = Remote { stop: stop.clone(), ..remote };
    // What the library's task is at, ends with this future too.
    let _guard = stop.drop_guard();
    let (near, far) = tokio::io::duplex(PIPE);
    // The library's task ends with `near`, which is dropped here.
    russh_sftp::server::run(far, Client { remote, open: HashMap::new(), next: 0, home: None }).await;
    let (mut answers, mut questions) = tokio::io::split(near);
    let ask = async {
        let _ = tokio::io::copy(&mut input.make_reader(), &mut questions).await;
        let _ = questions.shutdown().await;
    };
    let mut writer = output.make_writer();
    let answer = async {
        let _ = tokio::io::copy(&mut answers, &mut writer).await;
    };
    tokio::pin!(answer);
    tokio::select! {
        () = &mut answer => {}
        () = ask => drop(tokio::time::timeout(LAST_ANSWERS, answer).await),
    }
    finish(&output, &session, Ok(ExitStatus::Code(0))).await;
}

/// One client and what it has open.
struct Client {
    remote: Remote,
    open: HashMap<String, Open>,
    next: u64,
    /// The folder that relative paths start from, once it is known.
    home: Option<String>,
}

/// What a handle stands for.
enum Open {
    Write {
        transfer: Transfer,
        path: String,
        to: Option<DuplexStream>,
        at: u64,
        after: FileAttributes,
        whole: Flag,
    },
    Read {
        from: DuplexStream,
        at: u64,
        transfer: Transfer,
        attributes: FileAttributes,
    },
    Folder(Vec<(String, FileAttributes)>),
}

/// Whether a client has said that its file is at its end.
type Flag = Arc<AtomicBool>;

/// An upload or download that runs beside its client; ends with this value.
struct Transfer(Option<JoinHandle<Result<()>>>);

impl Transfer {
    fn start(remote: &Remote, work: impl Future<Output = Result<()>> + Send + 'static) -> Self {
        let stop = remote.stop.clone();
        let work = async move {
            stop.run_until_cancelled_owned(work).await.unwrap_or_else(|| Err(Error::cancelled()))
        };
        Self(Some(remote.work.spawn(work)))
    }

    /// Waits for its end.
    async fn end(&mut self) -> Result<()> {
        let Some(task) = &mut self.0 else { return Ok(()) };
        let ended = task.await;
        self.0 = None;
        ended.unwrap_or_else(|_| Err(Error::internal("the transfer was given up")))
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

type Reply<T> = Result<T, StatusReply>;

/// Why something failed, as SFTP says it.
fn failure(error: &Error) -> StatusReply {
    let message = error.to_string();
    let lower = message.to_lowercase();
    let code = if lower.contains("no such file") {
        StatusCode::NoSuchFile
    } else if lower.contains("permission denied") {
        StatusCode::PermissionDenied
    } else {
        StatusCode::Failure
    };
    code.with_message(message)
}

fn done(id: u32) -> Status {
    Status { id, status_code: StatusCode::Ok, error_message: "Ok".into(), language_tag: "en-US".into() }
}

impl Client {
    fn keep(&mut self, id: u32, open: Open) -> Reply<Handle> {
        if self.open.len() >= MOST_OPEN {
            return Err(StatusCode::Failure.with_message("too many files are open"));
        }
        self.next += 1;
        let handle = self.next.to_string();
        self.open.insert(handle.clone(), open);
        Ok(Handle { id, handle })
    }

    fn get(&mut self, handle: &str) -> Reply<&mut Open> {
        self.open.get_mut(handle).ok_or_else(|| StatusCode::Failure.with_message("no such handle"))
    }

    async fn attributes(&self, id: u32, path: &str, follow: bool) -> Reply<Attrs> {
        match self.remote.stat(path, follow).await {
            Ok(Some(attrs)) => Ok(Attrs { id, attrs }),
            Ok(None) => Err(StatusCode::NoSuchFile.into()),
            Err(e) => Err(failure(&e)),
        }
    }

    async fn command(&self, id: u32, script: &str, arguments: &[&str]) -> Reply<Status> {
        self.remote.succeed(script, arguments).await.map(|_| done(id)).map_err(|e| failure(&e))
    }

    /// Gives a file what a client wants of it beside its content.
    async fn change(&self, path: &str, attrs: &FileAttributes) -> Result<()> {
        if !self.remote.unix {
            // Windows has no modes.
            return Ok(());
        }
        if let Some(mode) = attrs.permissions {
            self.remote.set_mode(path, mode).await?;
        }
        if let (Some(uid), Some(gid)) = (attrs.uid, attrs.gid) {
            self.remote.succeed(r#"chown "$2" "$1""#, &[&safe(path), &format!("{uid}:{gid}")]).await?;
        }
        if let Some(mtime) = attrs.mtime {
            self.remote.set_time(path, mtime).await?;
        }
        Ok(())
    }

    fn upload(&self, path: String, mode: Option<u32>) -> Open {
        let (to, from) = tokio::io::duplex(PIPE);
        let (remote, target) = (self.remote.clone(), path.clone());
        let whole = Flag::default();
        let is_whole = whole.clone();
        let mut from = Whole { from, is_whole: move |_: &DuplexStream| is_whole.load(Ordering::Acquire) };
        let transfer = Transfer::start(&self.remote, async move {
            let source = Source::Reader { reader: &mut from, size: None, mode };
            remote.communicator.upload(&remote.cx, source, &target).await
        });
        let mut after = FileAttributes::empty();
        if !self.remote.communicator.keeps_modes() {
            after.permissions = mode;
        }
        Open::Write { path, to: Some(to), at: 0, transfer, after, whole }
    }

    fn download(&self, path: String, attributes: FileAttributes) -> Open {
        let (from, mut to) = tokio::io::duplex(PIPE);
        let remote = self.remote.clone();
        let transfer = Transfer::start(&self.remote, async move {
            remote.communicator.download(&remote.cx, &path, &mut to).await?;
            // The reader may have seen enough.
            let _ = to.shutdown().await;
            Ok(())
        });
        Open::Read { from, at: 0, transfer, attributes }
    }
}

impl Handler for Client {
    type Error = StatusReply;

    fn unimplemented(&self) -> StatusReply {
        StatusCode::OpUnsupported.into()
    }

    async fn open(
        &mut self,
        id: u32,
        path: String,
        flags: OpenFlags,
        attrs: FileAttributes,
    ) -> Reply<Handle> {
        let path = meant(path);
        let found = self.remote.stat(&path, true).await.map_err(|e| failure(&e))?;
        if found.as_ref().is_some_and(FileAttributes::is_dir) {
            return Err(StatusCode::Failure.with_message(format!("{path} is a folder")));
        }
        if !flags.contains(OpenFlags::WRITE) {
            let attributes = match found {
                Some(found) => found,
                // The download tells.
                None if !self.remote.unix => FileAttributes::empty(),
                None => return Err(StatusCode::NoSuchFile.into()),
            };
            let open = self.download(path, attributes);
            return self.keep(id, open);
        }
        if flags.contains(OpenFlags::APPEND) {
            return Err(StatusCode::OpUnsupported.with_message("files are written whole"));
        }
        if found.is_some() && flags.contains(OpenFlags::EXCLUDE) {
            return Err(StatusCode::Failure.with_message(format!("{path} is there already")));
        }
        if found.is_none() && self.remote.unix && !flags.contains(OpenFlags::CREATE) {
            return Err(StatusCode::NoSuchFile.into());
        }
        // A file that is there keeps its mode, as it does where it is opened.
        let mode = found.map_or(attrs.permissions, |found| found.permissions).map(|mode| mode & 0o7777);
        let open = self.upload(path, mode);
        self.keep(id, open)
    }

    async fn close(&mut self, id: u32, handle: String) -> Reply<Status> {
        let Some(open) = self.open.remove(&handle) else { return Err(StatusCode::Failure.into()) };
        if let Open::Write { path, to, mut transfer, after, whole, .. } = open {
            if let Some(mut to) = to {
                whole.store(true, Ordering::Release);
                let _ = to.shutdown().await;
            }
            transfer.end().await.map_err(|e| failure(&e))?;
            self.change(&path, &after).await.map_err(|e| failure(&e))?;
        }
        Ok(done(id))
    }

    async fn read(&mut self, id: u32, handle: String, offset: u64, len: u32) -> Reply<Data> {
        let Open::Read { from, at, transfer, .. } = self.get(&handle)? else {
            return Err(StatusCode::Failure.into());
        };
        if offset < *at {
            return Err(
                StatusCode::OpUnsupported.with_message("files are read from their beginning to their end")
            );
        }
        // What a client leaves out goes by; it is what it knows to be there.
        let skip = offset - *at;
        let skipped = tokio::io::copy(&mut (&mut *from).take(skip), &mut tokio::io::sink()).await;
        *at += skipped.unwrap_or(0);
        let len = len.min(MOST_READ);
        let mut data = Vec::with_capacity(len as usize);
        let read = (&mut *from).take(u64::from(len)).read_to_end(&mut data).await;
        *at += data.len() as u64;
        if read.is_err() || data.is_empty() {
            transfer.end().await.map_err(|e| failure(&e))?;
            return Err(StatusCode::Eof.into());
        }
        Ok(Data { id, data })
    }

    async fn write(&mut self, id: u32, handle: String, offset: u64, data: Vec<u8>) -> Reply<Status> {
        let Open::Write { to, at, transfer, .. } = self.get(&handle)? else {
            return Err(StatusCode::Failure.into());
        };
        if offset != *at {
            return Err(
                StatusCode::OpUnsupported.with_message("files are written from their beginning to their end")
            );
        }
        let written = match to {
            Some(to) => to.write_all(&data).await.is_ok(),
            None => false,
        };
        if !written {
            *to = None;
            transfer.end().await.map_err(|e| failure(&e))?;
            return Err(StatusCode::Failure.with_message("the machine took only a part of the file"));
        }
        *at += data.len() as u64;
        Ok(done(id))
    }

    async fn stat(&mut self, id: u32, path: String) -> Reply<Attrs> {
        self.attributes(id, &meant(path), true).await
    }

    async fn lstat(&mut self, id: u32, path: String) -> Reply<Attrs> {
        self.attributes(id, &meant(path), false).await
    }

    async fn fstat(&mut self, id: u32, handle: String) -> Reply<Attrs> {
        match self.get(&handle)? {
            Open::Read { attributes, .. } => Ok(Attrs { id, attrs: attributes.clone() }),
            Open::Write { at, .. } => {
                let mut attrs = FileAttributes::empty();
                attrs.size = Some(*at);
                Ok(Attrs { id, attrs })
            }
            Open::Folder(_) => Err(StatusCode::OpUnsupported.into()),
        }
    }

    async fn setstat(&mut self, id: u32, path: String, attrs: FileAttributes) -> Reply<Status> {
        self.change(&meant(path), &attrs).await.map(|()| done(id)).map_err(|e| failure(&e))
    }

    async fn fsetstat(&mut self, id: u32, handle: String, attrs: FileAttributes) -> Reply<Status> {
        let Open::Write { after, at, .. } = self.get(&handle)? else {
            return Err(StatusCode::OpUnsupported.into());
        };
        if attrs.size.is_some_and(|size| size != *at) {
            return Err(StatusCode::OpUnsupported.with_message("files are written whole"));
        }
        // The file is whole only when it is closed.
        after.permissions = attrs.permissions.or(after.permissions);
        after.mtime = attrs.mtime.or(after.mtime);
        (after.uid, after.gid) = (attrs.uid.or(after.uid), attrs.gid.or(after.gid));
        Ok(done(id))
    }

    async fn opendir(&mut self, id: u32, path: String) -> Reply<Handle> {
        let mut names = self.remote.list(&meant(path)).await.map_err(|e| failure(&e))?;
        names.reverse();
        self.keep(id, Open::Folder(names))
    }

    async fn readdir(&mut self, id: u32, handle: String) -> Reply<Name> {
        let Open::Folder(names) = self.get(&handle)? else { return Err(StatusCode::Failure.into()) };
        let rest = names.len().saturating_sub(MOST_NAMES);
        let files: Vec<File> =
            names.drain(rest..).rev().map(|(name, attributes)| File::new(name, attributes)).collect();
        if files.is_empty() { Err(StatusCode::Eof.into()) } else { Ok(Name { id, files }) }
    }

    async fn remove(&mut self, id: u32, path: String) -> Reply<Status> {
        self.command(
            id,
            r#"test -e "$1" || test -h "$1" || { echo No such file >&2; exit 1; }; rm -f "$1""#,
            &[&safe(&path)],
        )
        .await
    }

    async fn mkdir(&mut self, id: u32, path: String, attrs: FileAttributes) -> Reply<Status> {
        let mode = format!("{:04o}", attrs.permissions.unwrap_or(0o777) & 0o7777);
        self.command(id, r#"mkdir -m "$2" "$1""#, &[&safe(&path), &mode]).await
    }

    async fn rmdir(&mut self, id: u32, path: String) -> Reply<Status> {
        self.command(id, r#"rmdir "$1""#, &[&safe(&path)]).await
    }

    async fn realpath(&mut self, id: u32, path: String) -> Reply<Name> {
        let path = meant(path);
        if !self.remote.unix {
            return Ok(Name { id, files: vec![File::dummy(path)] });
        }
        let whole = if path.starts_with('/') {
            path
        } else {
            if self.home.is_none() {
                self.home = Some(self.remote.home().await.map_err(|e| failure(&e))?);
            }
            format!("{}/{path}", self.home.as_deref().unwrap_or_default())
        };
        Ok(Name { id, files: vec![File::dummy(plain(&whole))] })
    }

    async fn rename(&mut self, id: u32, from: String, to: String) -> Reply<Status> {
        let script = r#"if test -e "$2" || test -h "$2"; then echo "$2 is there already" >&2; exit 1; fi; mv "$1" "$2""#;
        self.command(id, script, &[&safe(&from), &safe(&to)]).await
    }

    async fn readlink(&mut self, id: u32, path: String) -> Reply<Name> {
        let output = self.remote.succeed(r#"readlink "$1""#, &[&safe(&path)]).await;
        let target = output.map_err(|e| failure(&e))?.text();
        Ok(Name { id, files: vec![File::dummy(target)] })
    }

    /// OpenSSH gives the two paths the other way round than the draft says.
    async fn symlink(&mut self, id: u32, target: String, link: String) -> Reply<Status> {
        self.command(id, r#"ln -s -- "$1" "$2""#, &[&target, &safe(&link)]).await
    }

    async fn extended(&mut self, _: u32, _: String, _: Vec<u8>) -> Reply<Packet> {
        Err(StatusCode::OpUnsupported.into())
    }
}

/// The path that is meant. Ansible quotes one with a blank for a shell, and `scp` of OpenSSH 9 passes it on to a server that has
/// none: no file whose name begins with a quote is asked for in any other way.
fn meant(path: String) -> String {
    let quoted = path.starts_with('\'').then(|| unquoted(&path)).flatten();
    quoted.unwrap_or(path)
}

/// A path without `.`, `..` and doubled slashes.
fn plain(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::{meant, plain};

    #[test]
    fn paths_become_plain() {
        assert_eq!(plain("/home/a/./b/../c//d/"), "/home/a/c/d");
        assert_eq!(plain("/.."), "/");
        assert_eq!(meant("'/tmp/a b'".into()), "/tmp/a b");
        assert_eq!(meant("/tmp/'a'".into()), "/tmp/'a'");
    }
}
