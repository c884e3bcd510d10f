//! A script that comes, runs and goes in one command of the machine: its text is the command's input.

use std::io::{self, Cursor};
use std::pin::Pin;
use std::task::{self, Poll, ready};

use packer_core::communicator::{LineWriter, program_on_input};
use packer_core::event::Level;
use packer_core::{Command, Communicator, Context, Error, ExitStatus, Result, StatusLost};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The most that a note of the machine's may say, and that is held back until its first note comes.
const MOST_HELD: usize = 64 * 1024;

/// What is to be done with one script.
pub(super) struct Script<'a> {
    /// Its content, as it is to arrive.
    pub(super) content: &'a [u8],
    /// Where it goes in the machine.
    pub(super) path: &'a str,
    /// The variable file's path and content.
    pub(super) variables: Option<(&'a str, &'a [u8])>,
    /// The command that runs it.
    pub(super) command: &'a str,
    /// The same through its interpreter, which is in the variable `packer_with`: for folders whose programs must not run.
    pub(super) interpreted: &'a str,
    /// Whether the files stay in the machine.
    pub(super) stays: bool,
}

/// How it went.
pub(super) struct Ran {
    pub(super) status: ExitStatus,
    /// Whether the machine has said that it removed the files.
    pub(super) removed: bool,
}

/// Whether a path means the same to every shell without quotes, and is no name that is looked for in `PATH`.
pub(super) fn is_plain(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:".contains(c);
    let rest = path.strip_prefix("~/").unwrap_or(path);
    !path.starts_with('-') && path.contains('/') && rest.chars().all(plain)
}

/// Runs the script; `None` where the machine's shell does not understand this way, and nothing has happened.
///
/// # Errors
/// Where the script cannot be brought into the machine or the command not be run; no part of it has run then.
pub(super) async fn run(
    cx: &Context,
    communicator: &dyn Communicator,
    script: &Script<'_>,
) -> Result<Option<Ran>> {
    // Other users of the machine may write into what a script prints, but do not know this.
    let mark = format!("packer-{}", uuid::Uuid::new_v4().simple());
    let program = program(&mark, script);
    let text = program_on_input(program.len());
    let variables = script.variables.map_or(&[][..], |(_, content)| content);
    let mut input = Cursor::new(program.as_bytes()).chain(Cursor::new(variables)).chain(script.content);
    let mut stdout = LineWriter::new(cx.clone(), Level::Info);
    let mut stderr = Notes::new(LineWriter::new(cx.clone(), Level::Error), &mark);
    let command = Command::new(text).stdin(&mut input).stdout(&mut stdout).stderr(&mut stderr);
    let status = communicator.exec(cx, command).await;
    let _ = stdout.shutdown().await;
    let _ = stderr.shutdown().await;
    let status = match status {
        // Templates know by the number of a broken connection that nobody knows how a script ended.
        Err(e) if StatusLost::is_source_of(&e) && stderr.has("runs") => ExitStatus::Disconnected,
        status => status?,
    };
    // A script may end what runs it, before it could remove anything: only what is said counts.
    let removed = stderr.has("gone");
    match (stderr.notes.into_iter().next().as_deref(), status) {
        (Some("runs"), _) => Ok(Some(Ran { status, removed })),
        (Some(failure), _) => {
            let why = failure.strip_prefix("failed").unwrap_or(failure).trim();
            Err(Error::guest(format!("upload {}: {why}", script.path)))
        }
        (None, ExitStatus::Disconnected) => {
            Err(Error::network(format!("upload {}: the connection broke", script.path)))
        }
        (None, _) => Ok(None),
    }
}

/// The program that the machine's `/bin/sh` runs: it takes the rest of its input into files and runs them.
fn program(mark: &str, script: &Script<'_>) -> String {
    let Script { path, content, command, interpreted, .. } = *script;
    let (mut take, mut files) = (String::new(), path.to_owned());
    if let Some((file, variables)) = script.variables {
        let size = variables.len();
        take = format!("(umask 077 && : >{file}) && chmod 0600 {file} && dd bs=1 count={size} >{file} && ");
        files = format!("{path} {file}");
    }
    // A command whose caller has gone reads the end of its input early: half a script must not run.
    let size = content.len();
    let arrive = format!(
        "{take}cat >{path} && chmod 0755 {path} && {{ [ $(wc -c <{path}) -eq {size} ] || {{ echo it did not come whole; false; }}; }}"
    );
    let remove = match script.stays {
        true => String::new(),
        // What the script printed last may be half a line.
        false => format!("rm -f {files} && printf '\\n%s gone\\n' {mark} >&2\n"),
    };
    format!(
        "packer_said=$({{ {arrive}; }} 2>&1) || {{ rm -f {files}; set -f; echo \"{mark} failed\" $packer_said >&2; exit 1; }}\n\
         echo \"{mark} runs\" >&2\n\
         if [ -x {path} ]; then\n\
         {command}\n\
         else\n\
         read -r packer_with <{path}\n\
         case $packer_with in '#!'*) packer_with=${{packer_with#??}};; *) packer_with=/bin/sh;; esac\n\
         {interpreted}\n\
         fi\n\
         packer_code=$?\n\
         {remove}\
         exit $packer_code\n"
    )
}

/// Takes lines that begin with a mark out of what passes, with the end of line before them. Until the first of them nothing
/// passes.
struct Notes<W> {
    inner: W,
    mark: Vec<u8>,
    notes: Vec<String>,
    /// A line that may be a note.
    line: Vec<u8>,
    /// Whether the rest of this line cannot be one.
    passes: bool,
    /// Whether an empty line waits for what comes next: it may be that of a note.
    empty: bool,
    /// What is on its way to the inner one.
    out: Vec<u8>,
    given: usize,
}

impl<W> Notes<W> {
    fn new(inner: W, mark: &str) -> Self {
        Self {
            inner,
            mark: format!("{mark} ").into_bytes(),
            notes: Vec::new(),
            line: Vec::new(),
            passes: false,
            empty: false,
            out: Vec::new(),
            given: 0,
        }
    }

    fn has(&self, note: &str) -> bool {
        self.notes.iter().any(|have| have == note)
    }

    fn sort(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = piece.ends_with(b"\n");
            if self.passes {
                self.out.extend_from_slice(piece);
            } else {
                self.line.extend_from_slice(&piece[..piece.len().min(MOST_HELD)]);
                self.decide(ends);
            }
            if ends {
                self.passes = false;
            }
        }
        // Of a machine that never says a note only the end is kept.
        if self.notes.is_empty() && self.out.len() > MOST_HELD {
            self.out.drain(..self.out.len() - MOST_HELD);
        }
    }

    /// Decides about the line that has begun, as far as it can be told.
    fn decide(&mut self, ends: bool) {
        if self.line.starts_with(&self.mark) {
            if ends {
                let note = String::from_utf8_lossy(&self.line[self.mark.len()..]).trim().to_owned();
                self.notes.push(note);
                self.line.clear();
                self.empty = false;
            }
            self.line.truncate(MOST_HELD);
        } else if ends || !self.mark.starts_with(&self.line) {
            self.end_empty();
            if self.line == b"\n" {
                self.line.clear();
                self.empty = true;
            }
            self.out.append(&mut self.line);
            self.passes = true;
        }
    }

    fn end_empty(&mut self) {
        if std::mem::take(&mut self.empty) {
            self.out.push(b'\n');
        }
    }
}

impl<W: AsyncWrite + Unpin> Notes<W> {
    fn poll_out(&mut self, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        if self.notes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.given < self.out.len() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.out[self.given..]))?;
            self.given += written;
        }
        self.out.clear();
        self.given = 0;
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Notes<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_out(cx))?;
        self.sort(bytes);
        // What does not pass at once does with the next call.
        if let Poll::Ready(Err(e)) = self.poll_out(cx) {
            return Poll::Ready(Err(e));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let rest = std::mem::take(&mut self.line);
        if !rest.starts_with(&self.mark) {
            self.end_empty();
            self.out.extend(rest);
        }
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_every_shell_reads_alike() {
        for plain in ["/tmp/script_1.sh", "~/b.sh", "./x", "a/b-c"] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in ["script.sh", "-a/b", "/tmp/a b", "~user/x", "/tmp/$x", "/tmp/ä", "/tmp/a'b"] {
            assert!(!is_plain(other), "{other}");
        }
    }

    #[tokio::test]
    async fn notes_are_taken_out_wherever_writes_are_cut() {
        let printed = b"noise\nm runs\nerror m x\n\nm\n\n\nhalf\nm gone\n\npart";
        for piece in 1..printed.len() {
            let mut notes = Notes::new(Vec::new(), "m");
            for piece in printed.chunks(piece) {
                notes.write_all(piece).await.unwrap();
            }
            notes.shutdown().await.unwrap();
            assert_eq!(notes.notes, ["runs", "gone"], "pieces of {piece}");
            assert_eq!(String::from_utf8_lossy(&notes.inner), "noise\nerror m x\n\nm\n\n\nhalf\n\npart");
        }
    }

    #[tokio::test]
    async fn an_empty_line_before_a_note_is_its_own() {
        for (printed, shown) in [
            ("m runs\nx\nhalf\nm gone\n", "x\nhalf\n"),
            ("m runs\nx\n\nm gone\n", "x\n"),
            ("m runs\nx\n\n\nm gone\n", "x\n\n"),
            ("m runs\n\n", "\n"),
        ] {
            let mut notes = Notes::new(Vec::new(), "m");
            notes.write_all(printed.as_bytes()).await.unwrap();
            notes.shutdown().await.unwrap();
            assert_eq!(String::from_utf8_lossy(&notes.inner), shown, "{printed:?}");
        }
    }

    #[tokio::test]
    async fn without_a_note_nothing_passes_and_little_is_kept() {
        let mut notes = Notes::new(Vec::new(), "m");
        for _ in 0..100 {
            notes.write_all(&[b'x'; 10_000]).await.unwrap();
        }
        notes.shutdown().await.unwrap();
        assert!(notes.inner.is_empty() && notes.out.len() <= MOST_HELD + 10_000);
    }
}
