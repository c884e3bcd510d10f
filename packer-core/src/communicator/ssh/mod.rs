//! The SSH communicator.
//!
//! One connection carries all commands and transfers, each on a channel of its own. A connection that is found broken
//! when a channel is to be opened is dialled anew once. Files move by SFTP, and through plain commands where the server
//! has no SFTP.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt};
use russh::Channel;
use russh::client::Msg;
use tokio::io::AsyncWrite;
use tokio::sync::Mutex;

use super::tree::{Links, LocalTree};
use super::{Command, Communicator, ExitStatus, Globs, Source};
use crate::context::Context;
use crate::error::{Error, Result};

mod attempts;
mod auth;
mod connect;
mod dial;
mod exec;
mod host_key;
mod key_pair;
mod keys;
mod names;
mod plain;
mod proxy;
mod scp;
mod settings;
mod sftp;
mod sftp_dir;
mod side;
mod stage;
mod stream;
mod tar;
mod tcp;
#[cfg(test)]
mod tests;

pub(super) use connect::connect;
pub use key_pair::KeyPair;
pub(super) use keys::{KeyText, LOCKED, check_pair, check_pin, parse_certificate};
pub(super) use settings::unknown_algorithms;

use self::tar::Bits;
use attempts::Attempts;
use dial::Connection;
use settings::Settings;

/// A machine entered by SSH. Made by [`CommunicatorConfig::connect`](super::CommunicatorConfig::connect).
///
/// Output that a sink does not take holds the command back, so that memory stays small; while a sink takes nothing at
/// all, the other channels of that connection wait too.
pub struct Ssh {
    settings: Settings,
    current: Mutex<Arc<Connection>>,
    /// Set when the server turned out to have no SFTP.
    without_sftp: AtomicBool,
    forsaken: sftp::Forsaken,
}

impl Ssh {
    fn new(settings: Settings, connection: Connection) -> Self {
        let (current, forsaken) = (Mutex::new(Arc::new(connection)), sftp::Forsaken::default());
        Self { settings, current, without_sftp: AtomicBool::new(false), forsaken }
    }

    /// A channel for one command or transfer, on the connection that carries it. What holds the channel holds the
    /// connection too.
    ///
    /// In a box, as what follows on it is: the compiler looks through everything that dialling consists of for each future
    /// that this one is a part of.
    fn open(&self) -> BoxFuture<'_, Result<(Arc<Connection>, Channel<Msg>)>> {
        Box::pin(async {
            let connection = self.current.lock().await.clone();
            let first = match connection.open().await {
                Ok(channel) => return Ok((connection, channel)),
                Err(error) => error,
            };
            // Commands that still run on the old connection keep it.
            let connection = self.reconnect(&connection).await.map_err(|e| e.context(&first))?;
            let channel = connection.open().await?;
            Ok((connection, channel))
        })
    }

    async fn reconnect(&self, broken: &Arc<Connection>) -> Result<Arc<Connection>> {
        let mut current = self.current.lock().await;
        // Of several that found it broken at once, one dials.
        if Arc::ptr_eq(&current, broken) {
            // The next one wants its ports.
            broken.end_streams().await;
            let fresh = Attempts::new(&self.settings).outcome(drop).await;
            *current = Arc::new(fresh.map_err(|e| e.into_error().context("reconnecting"))?);
        }
        Ok(current.clone())
    }

    /// An SFTP session, or `None` where the server has none.
    fn sftp(&self) -> BoxFuture<'_, Result<Option<sftp::Sftp>>> {
        Box::pin(async {
            if self.without_sftp.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let (connection, channel) = self.open().await?;
            let forsaken = self.forsaken.clone();
            let session = sftp::Sftp::start(connection, channel, self.settings.keeps_bits, forsaken).await?;
            if session.is_none() {
                self.without_sftp.store(true, Ordering::Relaxed);
            }
            Ok(session)
        })
    }
}

impl fmt::Debug for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ssh({:?})", self.settings)
    }
}

#[async_trait]
impl Communicator for Ssh {
    async fn exec(&self, cx: &Context, command: Command<'_>) -> Result<ExitStatus> {
        cx.until_cancelled(async {
            let (connection, channel) = self.open().await?;
            exec::run(connection, channel, command, self.settings.pty).await
        })
        .await
    }

    fn passes_input(&self) -> bool {
        !self.settings.pty
    }

    async fn upload(&self, cx: &Context, source: Source<'_>, destination: &str) -> Result<()> {
        cx.until_cancelled(async {
            let mut content = sftp::Content::open(cx, source, destination).await?;
            let destination = remote_path(destination)?;
            match self.sftp().await? {
                Some(session) => session.upload(&mut content, destination).boxed().await,
                // scp wants to know how much will come.
                None if content.size.is_none() && self.runs_commands().await? => {
                    self.upload_plainly(&mut content, destination).await
                }
                None => match self.upload_by_scp(cx, &mut content, destination).boxed().await? {
                    Some(()) => Ok(()),
                    None => self.upload_plainly(&mut content, destination).await,
                },
            }
        })
        .await
    }

    async fn upload_dir(
        &self,
        cx: &Context,
        source: &Path,
        destination: &str,
        exclude: &Globs,
    ) -> Result<()> {
        cx.until_cancelled(async {
            let destination = remote_path(destination)?;
            let tree = LocalTree::read(cx, source, exclude, Links::Followed).await?;
            let Some(session) = self.sftp().await? else {
                return match self.upload_dir_by_scp(cx, &tree, destination).boxed().await? {
                    Some(()) => Ok(()),
                    None => self.upload_archive(cx, tree, destination, Bits::Kept).boxed().await,
                };
            };
            if tar::is_worth_it(tree.files(), tree.total) {
                let bits = if self.settings.keeps_bits { Bits::Kept } else { Bits::Given };
                let copy = self.upload_archive(cx, tree.clone(), destination, bits).boxed();
                match copy.await {
                    Ok(()) => return Ok(()),
                    Err(e) if e.is_cancelled() => return Err(e),
                    // There is no `tar`, or it cannot do what was asked; what else is wrong is found once more.
                    Err(_) => {}
                }
            }
            session.upload_dir(cx, tree, destination).boxed().await
        })
        .await
    }

    async fn download(
        &self,
        cx: &Context,
        source: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        cx.until_cancelled(async {
            let path = remote_path(source)?;
            match self.sftp().await? {
                Some(session) => session.download(cx, path, sink).boxed().await,
                None => match self.download_by_scp(cx, path, sink).boxed().await? {
                    Some(()) => Ok(()),
                    None => self.download_plainly(cx, path, sink).await,
                },
            }
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
        cx.until_cancelled(async {
            let path = remote_path(source)?;
            let Some(session) = self.sftp().await? else {
                return match self.download_dir_by_scp(cx, path, destination, exclude).boxed().await? {
                    Some(()) => Ok(()),
                    None => self.download_archive(cx, path, destination, exclude, None).boxed().await,
                };
            };
            let found = session.look(path, destination, exclude).boxed().await?;
            if tar::is_worth_it(found.files(), found.total()) {
                let total = Some(found.total());
                match self.download_archive(cx, path, destination, exclude, total).boxed().await {
                    Ok(()) => return Ok(()),
                    Err(e) if e.is_cancelled() => return Err(e),
                    Err(_) => {}
                }
            }
            session.download_found(cx, path, found).boxed().await
        })
        .await
    }
}

/// A path of the machine: `~/` is the folder one is in after logging in, which is also where relative paths start.
fn remote_path(path: &str) -> Result<&str> {
    let path = match path.strip_prefix('~') {
        Some("") => ".",
        Some(rest) if rest.starts_with('/') => match rest.trim_start_matches('/') {
            "" => "./",
            rest => rest,
        },
        _ => path,
    };
    match path {
        "" => Err(Error::user("the path on the machine is empty")),
        path if path.contains('\0') => {
            Err(Error::user(format!("{path:?} is no path: it contains a null character")))
        }
        path => Ok(path),
    }
}

/// The last part of a path of the machine.
fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    trimmed.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}
