//! From the options of a communicator to a connection: which of those that are built in connects.

use std::sync::Arc;

use super::{Communicator, CommunicatorConfig, NoCommunicator, Target};
use crate::context::Context;
use crate::error::{Error, Result};

impl CommunicatorConfig {
    /// Connects to the machine.
    ///
    /// Says what it waits for through `cx`, registers passwords and keys as secrets, and ends early on cancellation.
    ///
    /// # Errors
    /// `Timeout waiting for SSH.` and the like; an error at once where another try cannot help (the machine's
    /// key is not the expected one) and where this build has no such communicator.
    #[cfg_attr(not(feature = "ssh"), expect(unused_variables, reason = "nothing to connect with"))]
    pub async fn connect(&self, cx: &Context, target: &Target) -> Result<Arc<dyn Communicator>> {
        match self.kind() {
            "none" => Ok(Arc::new(NoCommunicator::new())),
            #[cfg(feature = "ssh")]
            "ssh" if self.unsupported().is_none() => super::ssh::connect(cx, self, target).await,
            kind => Err(match self.unsupported() {
                Some(finding) => Error::user(finding.to_string()),
                None => Error::user(format!("this builder does not support the communicator {kind}")),
            }),
        }
    }
}
