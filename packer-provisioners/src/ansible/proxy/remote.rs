//! The machine behind the server: what SFTP and scp ask for beside the content of files, by commands of any Unix.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};

use packer_core::communicator::Output;
use packer_core::kit::shell::posix_escape;
use packer_core::{Communicator, CommunicatorExt, Context, Error, Result};
use russh_sftp::protocol::FileAttributes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The way into the machine.
#[derive(Clone)]
pub(super) struct Remote {
    pub(super) cx: Context,
    pub(super) communicator: Arc<dyn Communicator>,
    /// Whether the machine has a Bourne shell and what belongs to it; Windows has not.
    pub(super) unix: bool,
    /// Ends what is being done.
    pub(super) stop: CancellationToken,
    /// All that runs for the server.
    pub(super) work: TaskTracker,
}

/// What a script of ours ends with where there is no such file.
const NO_SUCH_FILE: i32 = 44;

/// Says a file's mode, size, owner, group and times; a second form is BSD's. GNU's `stat` takes that for something else, and
/// is asked first.
const STAT: &str =
    r#"stat $l -c "%f %s %u %g %X %Y" "$1" 2>/dev/null || stat $l -f "%Xp %z %u %g %a %m" "$1""#;

impl Remote {
    /// Runs a shell script with arguments, quoted for a Bourne shell.
    pub(super) async fn script(&self, script: &str, arguments: &[&str]) -> Result<Output> {
        let mut text = format!("sh -c {} sh", quoted(script));
        for argument in arguments {
            text.push(' ');
            text.push_str(&quoted(argument));
        }
        let output = self.stop.run_until_cancelled(self.communicator.output(&self.cx, &text)).await;
        output.unwrap_or_else(|| Err(Error::cancelled()))
    }

    /// The same; that it ends with another status than 0 is an error.
    pub(super) async fn succeed(&self, script: &str, arguments: &[&str]) -> Result<Output> {
        let output = self.script(script, arguments).await?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::guest(match said.is_empty() {
            true => format!("a command ended with status {}", output.status.code()),
            false => said,
        }))
    }

    /// What is known of a file; `None` where there is none, or where nothing can be known.
    pub(super) async fn stat(&self, path: &str, follow: bool) -> Result<Option<FileAttributes>> {
        if !self.unix {
            return Ok(None);
        }
        let follow = if follow { "l=-L" } else { "l=" };
        let script = format!(
            r#"test -e "$1" || test -h "$1" || exit {NO_SUCH_FILE}; {follow}; LC_ALL=C; export LC_ALL; {STAT}"#
        );
        let output = self.script(&script, &[&safe(path)]).await?;
        match output.status.code() {
            NO_SUCH_FILE => Ok(None),
            0 => attributes(&output.text())
                .map(|(attributes, _)| Some(attributes))
                .ok_or_else(|| Error::guest(format!("stat of {path} says {:?}", output.text()))),
            _ => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(Error::guest(format!("stat of {path}: {said}")))
            }
        }
    }

    /// The names in a folder, with what is known of each.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<(String, FileAttributes)>> {
        let script = r#"cd "$1" || exit 1; LC_ALL=C; export LC_ALL
            stat -c "%f %s %u %g %X %Y %n" ./* ./.[!.]* ./..?* 2>/dev/null ||
            stat -f "%Xp %z %u %g %a %m %N" ./* ./.[!.]* ./..?* 2>/dev/null; exit 0"#;
        let output = self.succeed(script, &[&safe(path)]).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut found = Vec::new();
        for line in text.lines() {
            if let Some((attributes, name)) = attributes(line) {
                let name = name.strip_prefix("./").unwrap_or(name);
                // What BSD's form makes GNU's print is no entry of the folder.
                if !name.is_empty() && !found.iter().any(|(known, _)| known == name) {
                    found.push((name.to_owned(), attributes));
                }
            }
        }
        Ok(found)
    }

    /// Gives a file its permissions.
    pub(super) async fn set_mode(&self, path: &str, mode: u32) -> Result<()> {
        let mode = format!("{:04o}", mode & 0o7777);
        self.succeed(r#"chmod "$2" "$1""#, &[&safe(path), &mode]).await.map(drop)
    }

    /// Gives a file the time of its last change, in seconds.
    pub(super) async fn set_time(&self, path: &str, time: u32) -> Result<()> {
        let script = r#"touch -d "@$2" "$1" 2>/dev/null || touch -t "$(date -r "$2" +%Y%m%d%H%M.%S)" "$1""#;
        self.succeed(script, &[&safe(path), &time.to_string()]).await.map(drop)
    }

    /// The folder that relative paths start from.
    pub(super) async fn home(&self) -> Result<String> {
        Ok(self.succeed("pwd", &[]).await?.text())
    }
}

/// What is uploaded. A client that goes in the middle is not the end of the file: half a file is none.
pub(super) struct Whole<R, F> {
    pub(super) from: R,
    /// Whether an end is the end of the file.
    pub(super) is_whole: F,
}

impl<R: AsyncRead + Unpin, F: Fn(&R) -> bool + Unpin> AsyncRead for Whole<R, F> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Task<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { from, is_whole } = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut *from).poll_read(cx, buffer))?;
        if buffer.filled().len() == before && buffer.remaining() > 0 && !is_whole(from) {
            let message = "the client went before the file was whole";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
        }
        Poll::Ready(Ok(()))
    }
}

/// A text as one word of a shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", posix_escape(text))
}

/// A path that no command takes for an option.
pub(super) fn safe(path: &str) -> String {
    if path.starts_with('-') { format!("./{path}") } else { path.to_owned() }
}

/// Reads a line that `stat` printed; what is behind the numbers comes second.
fn attributes(line: &str) -> Option<(FileAttributes, &str)> {
    let mut fields = line.splitn(7, ' ');
    let mode = u32::from_str_radix(fields.next()?, 16).ok()?;
    let size = fields.next()?.parse().ok()?;
    let mut number = || fields.next()?.parse::<u32>().ok();
    let (uid, gid, atime, mtime) = (number()?, number()?, number()?, number()?);
    let mut attributes = FileAttributes::empty();
    attributes.size = Some(size);
    attributes.uid = Some(uid);
    attributes.gid = Some(gid);
    attributes.permissions = Some(mode);
    attributes.atime = Some(atime);
    attributes.mtime = Some(mtime);
    Some((attributes, fields.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_stat_are_read() {
        let (found, name) = attributes("81a4 12 0 0 1700000000 1700000001 ./a b").unwrap();
        assert_eq!((found.size, found.permissions, name), (Some(12), Some(0o100_644), "./a b"));
        assert!(attributes("stat: no").is_none());
    }

    #[test]
    fn words_are_quoted() {
        assert_eq!(quoted("it's"), r#"'it'"'"'s'"#);
        assert_eq!(safe("-rf"), "./-rf");
    }
}
