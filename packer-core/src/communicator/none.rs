//! The communicator of machines that cannot be entered (`communicator = "none"`).

use std::path::Path;

use async_trait::async_trait;
use tokio::io::AsyncWrite;

use super::{Command, Communicator, ExitStatus, Globs, Source};
use crate::context::Context;
use crate::error::{Error, Result};

/// Enters no machine: commands do nothing and succeed, so that provisioners which work locally can run;
/// transfers are errors, or go nowhere where the machine accepts everything.
#[derive(Debug, Clone, Copy)]
pub struct NoCommunicator {
    accept_transfers: bool,
}

impl NoCommunicator {
    /// Refuses transfers, as `communicator = "none"` does.
    pub const fn new() -> Self {
        Self { accept_transfers: false }
    }

    /// Lets transfers succeed without moving anything, as the `file` builder's does.
    pub const fn accepting() -> Self {
        Self { accept_transfers: true }
    }

    fn transfer(self, name: &str) -> Result<()> {
        if self.accept_transfers {
            return Ok(());
        }
        Err(Error::user(format!("{name} is not implemented when communicator = 'none'")))
    }
}

impl Default for NoCommunicator {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Communicator for NoCommunicator {
    async fn exec(&self, _: &Context, _: Command<'_>) -> Result<ExitStatus> {
        Ok(ExitStatus::Code(0))
    }

    async fn upload(&self, _: &Context, _: Source<'_>, _: &str) -> Result<()> {
        self.transfer("Upload")
    }

    async fn upload_dir(&self, _: &Context, _: &Path, _: &str, _: &Globs) -> Result<()> {
        self.transfer("UploadDir")
    }

    async fn download(&self, _: &Context, _: &str, _: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<()> {
        self.transfer("Download")
    }

    async fn download_dir(&self, _: &Context, _: &str, _: &Path, _: &Globs) -> Result<()> {
        self.transfer("DownloadDir")
    }
}
