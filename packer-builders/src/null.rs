//! The builder `null`: no machine of its own; provisions one that exists, or none at all.

use std::sync::Arc;

use packer_core::{
    Artifact, Builder, Communicator, Context, Diagnostics, Facts, Machine, NoCommunicator, PrepareContext,
    Prepared, Resource, Result, async_trait,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// Connects to a machine that exists (or to none) and runs provisioners; makes nothing.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Null {
    /// How to enter the machine: `none`.
    pub communicator: String,
}

impl Null {
    /// Enters no machine: for builds that only run things on this computer.
    pub fn local() -> Self {
        Self { communicator: "none".into() }
    }
}

#[async_trait]
impl Builder for Null {
    async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Ok(Prepared::new())
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        cx.step("StepConnect", async {
            let machine: Box<dyn Machine> = Box::new(Connected {
                communicator: Arc::new(NoCommunicator::new()),
                facts: Facts::new().id("Null"),
            });
            Ok(machine)
        })
        .await
    }

    /// There is nothing to release: the machine is not ours.
    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
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
