//! The builder `null`: no machine of its own; provisions one that exists, or none at all.

use std::sync::Arc;

use packer_core::communicator::{CommunicatorConfig, Target};
use packer_core::{
    Artifact, Builder, Communicator, Context, Diagnostic, Diagnostics, Facts, Machine, PrepareContext,
    Prepared, Resource, Result, Value, async_trait, config,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Connects to a machine that exists (or to none) and runs provisioners; makes nothing.
///
/// ```
/// use packer_builders::Null;
/// use packer_core::communicator::CommunicatorConfig;
/// let here = Null::local();
/// let there = Null::from(CommunicatorConfig::ssh("admin").host("192.0.2.7").key_file("id_ed25519"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Null {
    /// How the machine is entered.
    #[serde(flatten)]
    pub communicator: CommunicatorConfig,
}

impl Null {
    /// Enters no machine: for builds that only run things on this computer.
    pub fn local() -> Self {
        CommunicatorConfig::none().into()
    }

    /// Enters a machine by SSH with a private key.
    pub fn ssh(host: impl Into<String>, user: impl Into<String>, key_file: impl Into<String>) -> Self {
        CommunicatorConfig::ssh(user).host(host).key_file(key_file).into()
    }
}

impl From<CommunicatorConfig> for Null {
    fn from(communicator: CommunicatorConfig) -> Self {
        Self { communicator }
    }
}

#[async_trait]
impl Builder for Null {
    async fn prepare(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        let config = &self.communicator;
        let mut found = config.prepare(cx);
        if config.kind() == "none" {
            return Prepared::of(found);
        }
        let mut refuse = |what: &str| found.push(Diagnostic::error(what));
        if config.endpoint(&Target::default()).is_none() {
            refuse("a Host must be specified, please reference your communicator documentation");
        }
        if config.username(&Target::default()).is_none() {
            refuse("a Username must be specified, please reference your communicator documentation");
        }
        let password = config.login_password(&Target::default()).is_some();
        // WinRM logs in with a password and looks at no option of SSH.
        let by_ssh = config.kind() != "winrm";
        let key = by_ssh && config.ssh_private_key_file.as_ref().is_some_and(|path| !path.is_empty());
        match [by_ssh && config.ssh_agent_auth, password, key].iter().filter(|given| **given).count() {
            0 => refuse(
                "one authentication method must be specified, please reference your communicator documentation",
            ),
            1 => {}
            _ => {
                refuse("only one of ssh_agent_auth, ssh_password, and ssh_private_key_file must be specified")
            }
        }
        if !found.has_errors() {
            found.extend(config.unsupported());
        }
        Prepared::of(found)
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        let target = Target::default();
        let communicator = cx.step("StepConnect", self.communicator.connect(cx, &target)).await?;
        let facts = self.communicator.facts(&target).id("Null");
        Ok(Box::new(Connected { communicator, facts }))
    }

    /// There is nothing to release: the machine is not ours.
    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

/// A machine that somebody else owns.
struct Connected {
    communicator: Arc<dyn Communicator>,
    facts: Facts,
}

#[async_trait]
impl Machine for Connected {
    fn communicator(&self) -> Arc<dyn Communicator> {
        self.communicator.clone()
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    async fn capture(&self, _: &Context) -> Result<Artifact> {
        let mut artifact = Artifact::new("fnoeding.null", "Null")
            .describe("Did not export anything. This is the null builder");
        artifact.generated_data.insert("ID".to_owned(), "Null".into());
        Ok(artifact)
    }
}

#[cfg(all(test, feature = "ssh"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_only_deserves_a_warning_is_one() {
        let mut null = Null::from(CommunicatorConfig::ssh("me").host("h").password("p"));
        null.communicator.ssh_ciphers = vec!["rot13".into(), "aes128-ctr".into()];
        let prepared = null.prepare(&PrepareContext::default()).await.unwrap();
        assert!(prepared.warnings.to_string().contains("ssh_ciphers ('rot13') is not known"));
        null.communicator.ssh_host = None;
        let found = null.prepare(&PrepareContext::default()).await.unwrap_err();
        assert_eq!(found.iter().count(), 2, "{found}");
    }
}
