//! A communicator whose errors say it where the machine has gone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use packer_core::communicator::{Command, ExitStatus, Source};
use packer_core::{Communicator, Context, Error, Fault, Globs, Result, async_trait};
use tokio::io::AsyncWrite;

use super::hypervisor::{Hypervisor, State};

/// How long a connection may take to break when the machine has gone.
const BREAKS: Duration = Duration::from_secs(5);

/// A way into a machine that looks at the machine's program too: nothing waits for one that has gone.
pub(super) struct Watched {
    pub(super) inner: Arc<dyn Communicator>,
    pub(super) machine: Arc<Hypervisor>,
}

impl Watched {
    async fn over<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        // On the heap: what is inside of it is large.
        let mut work = Box::pin(work);
        let done = tokio::select! {
            done = &mut work => done,
            () = self.machine.stops() => match tokio::time::timeout(BREAKS, work).await {
                Ok(done) => done,
                Err(_) => return Err(self.machine.gone()),
            },
        };
        match done {
            Err(error) if !error.is_cancelled() => Err(self.explained(error).await),
            done => done,
        }
    }

    /// The error with what has become of the machine in front of it, where that is why.
    async fn explained(&self, error: Error) -> Error {
        let gone = match error.fault() {
            Fault::Network => self.machine.stops_soon().await,
            _ => self.machine.state() != State::Runs,
        };
        match self.machine.state() {
            _ if !gone => self.machine.explained(error),
            // A step that switches the machine off may expect that.
            State::Ended(how) if how.success() => error.context(self.machine.gone()),
            _ => Error::provider(format!("{}: {error}", self.machine.gone())),
        }
    }
}

#[async_trait]
impl Communicator for Watched {
    async fn exec(&self, cx: &Context, command: Command<'_>) -> Result<ExitStatus> {
        let status = self.over(self.inner.exec(cx, command)).await?;
        // No error: the command may have started the machine again.
        if status == ExitStatus::Disconnected
            && let Some(why) = self.machine.wants_room()
        {
            cx.say_error(format!("The connection broke, and there is {why}."));
        }
        if status == ExitStatus::Disconnected && self.machine.stops_soon().await {
            // A command may switch the machine off, or start it again; nothing that runs in it makes its program fail.
            match self.machine.state() {
                State::Stuck => return Err(self.machine.gone()),
                State::Ended(how) if !how.success() => return Err(self.machine.gone()),
                _ => {}
            }
        }
        Ok(status)
    }

    async fn upload(&self, cx: &Context, source: Source<'_>, destination: &str) -> Result<()> {
        self.over(self.inner.upload(cx, source, destination)).await
    }

    fn keeps_modes(&self) -> bool {
        self.inner.keeps_modes()
    }

    fn passes_input(&self) -> bool {
        self.inner.passes_input()
    }

    async fn upload_dir(
        &self,
        cx: &Context,
        source: &Path,
        destination: &str,
        exclude: &Globs,
    ) -> Result<()> {
        self.over(self.inner.upload_dir(cx, source, destination, exclude)).await
    }

    async fn download(
        &self,
        cx: &Context,
        source: &str,
        sink: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<()> {
        self.over(self.inner.download(cx, source, sink)).await
    }

    async fn download_dir(
        &self,
        cx: &Context,
        source: &str,
        destination: &Path,
        exclude: &Globs,
    ) -> Result<()> {
        self.over(self.inner.download_dir(cx, source, destination, exclude)).await
    }
}
