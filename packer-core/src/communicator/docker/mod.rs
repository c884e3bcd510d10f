//! The communicator into containers, over the engine's API: no `docker` command, no agent in the container.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bollard::errors::Error as EngineError;
use bollard::query_parameters::InspectContainerOptions;
use tokio::io::AsyncWrite;

use super::{Command, Communicator, ExitStatus, Globs, Source};
use crate::context::Context;
use crate::docker::Client;
use crate::error::{Error, Result};

mod download;
mod exec;
mod owner;
pub(crate) mod pack;
mod upload;
mod windows;

use owner::Owner;

/// How a container is entered.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// The user that commands run as; empty for the user of the image.
    pub exec_user: String,
    /// Whether commands get a terminal: output and error output are one then.
    pub pty: bool,
    /// Whether uploads keep the owner of the local files (by number) instead of becoming the property of the user
    /// that commands run as.
    pub keep_upload_owner: bool,
    /// For Windows containers: the folder that this computer and the container share, as each of them calls it.
    pub windows: Option<(std::path::PathBuf, String)>,
}

/// Enters a container. Cheap to clone.
///
/// Commands run in `/bin/sh`. Paths that do not begin with `/` start there and not in the working directory. In uploads of
/// folders links stay links.
#[derive(Debug, Clone)]
pub struct DockerCommunicator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    /// The container's id.
    id: String,
    options: Options,
    /// The user of the image.
    user: String,
    owner: tokio::sync::OnceCell<Owner>,
}

impl DockerCommunicator {
    /// Enters a container by its id or name.
    ///
    /// # Errors
    /// Where there is no such container, or the engine does not say.
    pub async fn connect(client: Client, container: &str, options: Options) -> Result<Self> {
        let found = client.api().inspect_container(container, None::<InspectContainerOptions>);
        let found = client.ask(format!("inspect the container {container}"), found).await?;
        let user = found.config.and_then(|config| config.user).unwrap_or_default();
        let id = found.id.unwrap_or_else(|| container.to_owned());
        Ok(Self(Arc::new(Inner { client, id, options, user, owner: tokio::sync::OnceCell::new() })))
    }
}

impl Inner {
    /// The user that commands run as.
    fn user(&self) -> &str {
        if self.options.exec_user.is_empty() { &self.user } else { &self.options.exec_user }
    }

    /// An error of the engine's; that the container has ended is said in so many words.
    async fn error(&self, what: &str, error: &EngineError) -> Error {
        let told = self.client.error(what, error);
        let EngineError::DockerResponseServerError { status_code: 404 | 409, .. } = error else {
            return told;
        };
        let found = self.client.api().inspect_container(&self.id, None::<InspectContainerOptions>).await;
        match found {
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => {
                Error::provider(format!("{what}: the container {} is gone", self.id))
            }
            Ok(found) => match found.state {
                Some(state) if state.running == Some(false) => {
                    let code = state.exit_code.unwrap_or_default();
                    let why = if state.oom_killed == Some(true) { ": it ran out of memory" } else { "" };
                    Error::provider(format!(
                        "{what}: the container {} has ended with exit code {code}{why}",
                        self.id
                    ))
                }
                _ => told,
            },
            Err(_) => told,
        }
    }
}

#[async_trait]
impl Communicator for DockerCommunicator {
    async fn exec(&self, _: &Context, command: Command<'_>) -> Result<ExitStatus> {
        let words = match self.0.options.windows {
            Some(_) => windows::shell(&command.text),
            None => vec!["/bin/sh".to_owned(), "-c".to_owned(), command.text.clone()],
        };
        Box::pin(exec::run(&self.0, words, self.0.options.exec_user.clone(), command)).await
    }

    fn keeps_modes(&self) -> bool {
        self.0.options.windows.is_none()
    }

    fn passes_input(&self) -> bool {
        self.0.options.windows.is_none() && !self.0.options.pty
    }

    async fn upload(&self, cx: &Context, source: Source<'_>, destination: &str) -> Result<()> {
        match &self.0.options.windows {
            Some(shared) => windows::upload(&self.0, shared, source, destination).await,
            None => Box::pin(upload::file(&self.0, cx, source, destination)).await,
        }
    }

    async fn upload_dir(
        &self,
        cx: &Context,
        source: &Path,
        destination: &str,
        exclude: &Globs,
    ) -> Result<()> {
        match &self.0.options.windows {
            Some(shared) => windows::upload_dir(&self.0, cx, shared, source, destination, exclude).await,
            None => Box::pin(upload::folder(&self.0, cx, source, destination, exclude)).await,
        }
    }

    async fn download(
        &self,
        cx: &Context,
        source: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        match &self.0.options.windows {
            Some(shared) => windows::download(&self.0, shared, source, sink).await,
            None => Box::pin(download::file(&self.0, cx, source, sink)).await,
        }
    }

    async fn download_dir(
        &self,
        cx: &Context,
        source: &str,
        destination: &Path,
        exclude: &Globs,
    ) -> Result<()> {
        match self.0.options.windows {
            Some(_) => Err(Error::user("folders cannot be downloaded from a Windows container")),
            None => Box::pin(download::folder(&self.0, cx, source, destination, exclude)).await,
        }
    }
}

/// A path in the container as it is meant: from the root.
fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// The folder of a path and its last part; `None` where that is no name.
fn split(path: &str) -> Option<(&str, &str)> {
    let (folder, name) = path.rsplit_once('/')?;
    if matches!(name, "" | "." | "..") {
        return None;
    }
    Some((if folder.is_empty() { "/" } else { folder }, name))
}
