//! The old protocol of `scp` (`scp -O`, and OpenSSH before 9): one file in or out, through the communicator.
//!
//! Folders (`-r`) go to the machine's own `scp`, as any command does.

use packer_core::{Error, ExitStatus, Result, Source};
use russh::Channel;
use russh::server::{Handle, Msg};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use super::exec::finish;
use super::remote::{Remote, Whole};

/// How much of a file is on its way.
const PIPE: usize = 1 << 20;

/// The longest line that says what comes.
const MOST_LINE: u64 = 16 << 10;

/// What a client's `scp` asks of the other side.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Whether files come in (`-t`) or go out (`-f`).
    into: bool,
    /// Whether the target must be a folder.
    folder: bool,
    /// Whether times and modes are to be kept.
    keep: bool,
    path: String,
}

impl Request {
    /// Reads a command; `None` where it is another one, or wants more than single files.
    pub(super) fn parse(command: &str) -> Option<Self> {
        let rest = command.strip_prefix("scp ")?;
        let mut request = Self { into: false, folder: false, keep: false, path: String::new() };
        let (mut way, mut rest) = (None, rest.trim_start());
        while let Some(option) = rest.strip_prefix('-') {
            let (flags, behind) = option.split_once(' ')?;
            rest = behind.trim_start();
            if flags == "-" {
                break;
            }
            for flag in flags.chars() {
                match flag {
                    't' => way = Some(true),
                    'f' => way = Some(false),
                    'd' => request.folder = true,
                    'p' => request.keep = true,
                    'v' | 'q' => {}
                    _ => return None,
                }
            }
        }
        request.into = way?;
        request.path = unquoted(rest)?;
        Some(request)
    }
}

/// One word of a shell, as it is; `None` where only a shell knows what it means.
pub(super) fn unquoted(text: &str) -> Option<String> {
    let (mut word, mut rest) = (String::new(), text.trim().chars());
    while let Some(c) = rest.next() {
        match c {
            '\'' => loop {
                match rest.next()? {
                    '\'' => break,
                    c => word.push(c),
                }
            },
            '"' => loop {
                match rest.next()? {
                    '"' => break,
                    '\\' | '$' | '`' => return None,
                    c => word.push(c),
                }
            },
            '\\' => word.push(rest.next()?),
            c if c.is_whitespace() || "$`*?[]{}()<>|&;!#~".contains(c) => return None,
            c => word.push(c),
        }
    }
    (!word.is_empty()).then_some(word)
}

/// Serves a request on a channel.
pub(super) async fn run(channel: Channel<Msg>, session: Handle, remote: Remote, request: Request) {
    let (mut input, output) = channel.split();
    let done = {
        let mut reader = BufReader::with_capacity(64 << 10, input.make_reader());
        let mut writer = output.make_writer();
        let done = match request.into {
            true => take(&remote, &request, &mut reader, &mut writer).await,
            false => give(&remote, &request, &mut reader, &mut writer).await,
        };
        if let Err(error) = &done {
            // 2 is what ends the client; who has gone does not read it.
            let line = error.to_string().replace('\n', " ");
            let _ = writer.write_all(format!("\u{2}scp: {line}\n").as_bytes()).await;
        }
        done
    };
    let code = i32::from(done.is_err());
    finish(&output, &session, Ok(ExitStatus::Code(code))).await;
}

fn broken(error: std::io::Error) -> Error {
    Error::network("the connection of scp broke").with_source(error)
}

/// Takes files in.
async fn take(
    remote: &Remote,
    request: &Request,
    reader: &mut (impl AsyncRead + AsyncBufReadExt + Unpin + Send),
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<()> {
    let found = remote.stat(&request.path, true).await?;
    let is_folder = found.is_some_and(|found| found.is_dir());
    if request.folder && !is_folder && remote.unix {
        return Err(Error::guest(format!("{}: Not a directory", request.path)));
    }
    ready(writer).await?;
    let mut mtime = None;
    loop {
        let mut line = Vec::new();
        (&mut *reader).take(MOST_LINE).read_until(b'\n', &mut line).await.map_err(broken)?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let Some(line) = line.strip_suffix('\n') else {
            // The client has no more; half a line is half a message.
            return if line.is_empty() { Ok(()) } else { Err(Error::network("scp ended in the middle")) };
        };
        let malformed = || Error::network(format!("scp sends a line that means nothing: {line:?}"));
        match line.chars().next() {
            Some('T') => {
                let time = line[1..].split(' ').next().and_then(|time| time.parse().ok());
                mtime = Some(time.ok_or_else(malformed)?);
            }
            Some('C') => {
                let mut fields = line[1..].splitn(3, ' ');
                let mode =
                    fields.next().and_then(|mode| u32::from_str_radix(mode, 8).ok()).ok_or_else(malformed)?;
                let size: u64 = fields.next().and_then(|size| size.parse().ok()).ok_or_else(malformed)?;
                let name = fields.next().ok_or_else(malformed)?;
                if name.is_empty() || name == ".." || name.contains('/') {
                    return Err(malformed());
                }
                let path = match is_folder {
                    true => format!("{}/{name}", request.path.trim_end_matches('/')),
                    false => request.path.clone(),
                };
                ready(writer).await?;
                receive(remote, reader, &path, size, mode & 0o7777).await?;
                if let Some(mtime) = mtime.take().filter(|_| request.keep) {
                    remote.set_time(&path, mtime).await?;
                }
            }
            Some('\u{1}' | '\u{2}') => return Err(Error::network(format!("scp says: {}", &line[1..]))),
            _ => return Err(malformed()),
        }
        ready(writer).await?;
    }
}

/// Takes the content of one file, and the byte that says it was whole.
async fn receive(
    remote: &Remote,
    reader: &mut (impl AsyncRead + Unpin + Send),
    path: &str,
    size: u64,
    mode: u32,
) -> Result<()> {
    let is_whole = |content: &tokio::io::Take<_>| content.limit() == 0;
    let mut content = Whole { from: (&mut *reader).take(size), is_whole };
    let source = Source::Reader { reader: &mut content, size: Some(size), mode: Some(mode) };
    remote.communicator.upload(&remote.cx, source, path).await?;
    if remote.unix && !remote.communicator.keeps_modes() {
        remote.set_mode(path, mode).await?;
    }
    acknowledged(reader).await
}

/// Gives one file out.
async fn give(
    remote: &Remote,
    request: &Request,
    reader: &mut (impl AsyncRead + Unpin + Send),
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<()> {
    let path = &request.path;
    acknowledged(reader).await?;
    let Some(found) = remote.stat(path, true).await? else {
        return Err(Error::guest(format!("{path}: No such file or directory")));
    };
    if found.is_dir() {
        return Err(Error::guest(format!("{path}: not a regular file")));
    }
    let (size, mode) = (found.size.unwrap_or(0), found.permissions.unwrap_or(0o644) & 0o7777);
    if let (true, Some(mtime), Some(atime)) = (request.keep, found.mtime, found.atime) {
        writer.write_all(format!("T{mtime} 0 {atime} 0\n").as_bytes()).await.map_err(broken)?;
        acknowledged(reader).await?;
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    writer.write_all(format!("C{mode:04o} {size} {name}\n").as_bytes()).await.map_err(broken)?;
    acknowledged(reader).await?;
    let (from, mut to) = tokio::io::duplex(PIPE);
    let download = async {
        let done = remote.communicator.download(&remote.cx, path, &mut to).await;
        drop(to);
        done
    };
    let send = async {
        let sent = tokio::io::copy(&mut from.take(size), writer).await.map_err(broken)?;
        if sent < size {
            return Err(Error::guest(format!("{path} is shorter than it was")));
        }
        Ok(())
    };
    let (downloaded, sent) = tokio::join!(download, send);
    // A file that grew is sent as it was: its download breaks off where nobody reads any more.
    if sent.is_err() {
        downloaded?;
    }
    sent?;
    ready(writer).await?;
    acknowledged(reader).await
}

async fn ready(writer: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
    writer.write_all(&[0]).await.map_err(broken)
}

/// Reads the byte by which the client says that all is well.
async fn acknowledged(reader: &mut (impl AsyncRead + Unpin)) -> Result<()> {
    match reader.read_u8().await.map_err(broken)? {
        0 => Ok(()),
        _ => Err(Error::network("scp gave up")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(command: &str) -> Option<(bool, bool, String)> {
        Request::parse(command).map(|r| (r.into, r.folder, r.path))
    }

    #[test]
    fn commands_of_scp_are_told_from_others() {
        assert_eq!(parsed("scp -t /tmp/a"), Some((true, false, "/tmp/a".into())));
        assert_eq!(parsed("scp -p -d -t -- '/tmp/a b'"), Some((true, true, "/tmp/a b".into())));
        assert_eq!(parsed("scp -vf /tmp/a\\ b"), Some((false, false, "/tmp/a b".into())));
        for other in
            ["scp -r -t /tmp", "scp a b:", "scp -t $HOME/a", "scp -t ~/a", "scpx -t a", "scp", "scp -t "]
        {
            assert_eq!(parsed(other), None, "{other}");
        }
    }
}
