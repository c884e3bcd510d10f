//! The WinRM communicator: WS-Management shells over HTTP, as Windows has them built in.
//!
//! Each command has a shell of its own in the machine, and nothing of it is kept between two commands but connections: a
//! machine that was started anew is entered as before. Files move through the standard input and output of short scripts.

use std::fmt;
use std::path::Path;

use async_trait::async_trait;
use tokio::io::AsyncWrite;

use super::tree::{Links, LocalTree};
use super::{Command, Communicator, ExitStatus, Globs, Source};
use crate::context::Context;
use crate::error::{Error, Result};

mod client;
mod connect;
mod download;
mod download_dir;
mod failure;
mod http;
mod ntlm;
mod powershell;
mod probe;
mod sealed;
mod settings;
mod shell;
mod soap;
mod tls;
mod upload;

pub(super) use connect::connect;

use client::Client;

/// A Windows machine entered by WinRM. Made by [`CommunicatorConfig::connect`](super::CommunicatorConfig::connect).
///
/// Commands run in `cmd`, as a user without a desktop. An upload makes the folders that its file is in; a destination that
/// ends in a slash is such a folder. In paths `/` and `\` are the same, and variables of PowerShell's (`$env:TEMP`) are
/// meant. Windows has no permission bits to keep. A folder comes down
/// without the folders that are links in it; each is named.
pub struct WinRm {
    client: Client,
}

impl fmt::Debug for WinRm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WinRm({:?})", self.client.settings())
    }
}

#[async_trait]
impl Communicator for WinRm {
    async fn exec(&self, cx: &Context, command: Command<'_>) -> Result<ExitStatus> {
        Box::pin(shell::run(cx, &self.client, command)).await
    }

    async fn upload(&self, cx: &Context, source: Source<'_>, destination: &str) -> Result<()> {
        let destination = remote_path(destination)?;
        let mut content = upload::Content::open(source).await?;
        upload::file(cx, &self.client, &mut content, destination).await
    }

    async fn upload_dir(
        &self,
        cx: &Context,
        source: &Path,
        destination: &str,
        exclude: &Globs,
    ) -> Result<()> {
        let destination = remote_path(destination)?;
        let tree = LocalTree::read(cx, source, exclude, Links::Followed).await?;
        upload::folder(cx, &self.client, &tree, destination).await
    }

    async fn download(
        &self,
        cx: &Context,
        source: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        download::file(cx, &self.client, remote_path(source)?, sink).await
    }

    async fn download_dir(
        &self,
        cx: &Context,
        source: &str,
        destination: &Path,
        exclude: &Globs,
    ) -> Result<()> {
        let source = remote_path(source)?;
        // A drive alone would be the folder that happens to be the current one on it.
        let drive = source.ends_with(':').then(|| format!("{source}/"));
        download_dir::folder(cx, &self.client, drive.as_deref().unwrap_or(source), destination, exclude).await
    }
}

/// A path of the machine, which scripts there hold in one line.
fn remote_path(path: &str) -> Result<&str> {
    match path {
        "" => Err(Error::user("the path on the machine is empty")),
        path if path.contains(char::is_control) => {
            Err(Error::user(format!("{path:?} is no path: it contains a control character")))
        }
        path => Ok(path),
    }
}
