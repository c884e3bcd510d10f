//! The way to an engine on another machine: `ssh HOST docker system dial-stdio`, as the `docker` command does it.
//!
//! The user's own `ssh` program is used, so that its configuration, agent and known hosts count.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{self, Poll};
use std::time::Duration;

use bollard::BollardRequest;
use bollard::errors::Error as EngineError;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::endpoint::host_and_port;
use super::http;
use super::way::{Counted, Meter};
use crate::context::Host;
use crate::error::{Error, Result};
use crate::kit::shell::process;
use crate::secrets::first_lines;

/// How much of what the program says of a failure is kept.
const COMPLAINT: usize = 4096;

/// How long a program whose output has ended may take to say why.
const PATIENCE: Duration = Duration::from_secs(3);

/// Programs that lead to an engine; each request has one of its own.
#[derive(Debug)]
pub(super) struct Dialer {
    arguments: Vec<String>,
    host: Host,
}

impl Dialer {
    /// For `ssh://[USER@]HOST[:PORT]`.
    pub(super) fn new(address: &str, host: &Host) -> Result<Self> {
        let wrong = || Error::user(format!("DOCKER_HOST {address:?} is not ssh://[USER@]HOST[:PORT]"));
        let rest = address.strip_prefix("ssh://").ok_or_else(wrong)?.trim_end_matches('/');
        let (user, machine) = match rest.rsplit_once('@') {
            Some((user, machine)) => (Some(user), machine),
            None => (None, rest),
        };
        let (name, port) = host_and_port(machine).ok_or_else(wrong)?;
        // A name that begins with a dash would be an option of the program.
        if name.starts_with('-') {
            return Err(wrong());
        }
        let mut arguments: Vec<String> = ["-o", "ConnectTimeout=30", "-T"].map(str::to_owned).into();
        if let Some(user) = user.filter(|user| !user.is_empty()) {
            arguments.extend(["-l".to_owned(), user.to_owned()]);
        }
        if let Some(port) = port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--", name, "docker", "system", "dial-stdio"].map(str::to_owned));
        Ok(Self { arguments, host: host.clone() })
    }

    /// Starts the program; beside its input and output what it says of a failure.
    fn dial(&self) -> io::Result<(Line, JoinHandle<String>)> {
        let mut command = Command::new("ssh");
        command.args(&self.arguments).envs(&self.host.env);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = process::spawn(&mut command)?;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => {
                let line = Line { stdin: Some(stdin), stdout, _child: child };
                Ok((line, tokio::spawn(complaint(stderr))))
            }
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Sends one request.
    pub(super) async fn request(
        &self,
        request: BollardRequest,
        meter: Meter,
    ) -> std::result::Result<Response<Incoming>, EngineError> {
        let (line, complaint) = self.dial()?;
        let error = match http::send(
            Counted { stream: Box::new(line), meter },
            request,
            HeaderValue::from_static("docker"),
        )
        .await
        {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        // That the line went down says nothing; why it did, the program has said.
        match tokio::time::timeout(PATIENCE, complaint).await {
            Ok(Ok(said)) if !said.is_empty() => Err(io::Error::other(said).into()),
            _ => Err(error),
        }
    }
}

/// What the program says, in one line; what is too much is read and dropped.
async fn complaint(mut stderr: ChildStderr) -> String {
    let mut said = Vec::new();
    // What was read before a failure is all there is.
    let _ = (&mut stderr).take(COMPLAINT as u64 + 1).read_to_end(&mut said).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    let text = String::from_utf8_lossy(&said);
    first_lines(&text, COMPLAINT)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// A program's input and output as one stream; the program ends with it.
struct Line {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    _child: Child,
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The program sees the end of its input only when that is closed.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let Some(stdin) = &mut self.stdin else { return Poll::Ready(Ok(())) };
        let flushed = Pin::new(stdin).poll_flush(cx);
        if flushed.is_ready() {
            self.stdin = None;
        }
        flushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_arguments() {
        let arguments = |address: &str| Dialer::new(address, &Host::new()).map(|d| d.arguments.join(" "));
        assert_eq!(
            arguments("ssh://me@box:2222").unwrap(),
            "-o ConnectTimeout=30 -T -l me -p 2222 -- box docker system dial-stdio"
        );
        assert!(arguments("ssh://box").unwrap().ends_with("-T -- box docker system dial-stdio"));
        assert!(arguments("ssh://[::1]:22").unwrap().ends_with("-p 22 -- ::1 docker system dial-stdio"));
        for bad in ["ssh://", "ssh://-oProxyCommand=x", "ssh://a:b", "ssh://host/run/x.sock"] {
            assert!(arguments(bad).is_err(), "{bad}");
        }
    }
}
