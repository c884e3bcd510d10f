//! The builder of the examples `recover` and `suites`: small, and with cleanup that holds.

use std::path::PathBuf;
use std::sync::Arc;

use packer_core::{
    Artifact, Builder, Communicator, Context, Diagnostics, Error, Facts, Machine, NoCommunicator,
    PrepareContext, Prepared, Resource, Result, async_trait,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// A builder whose machine is a file, which stands for something that costs money as long as it is there.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Rented {
    /// Where machines are.
    pub(crate) folder: PathBuf,
}

#[async_trait]
impl Builder for Rented {
    async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Ok(Prepared::new())
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        let name = format!("machine-{}", cx.run_id());
        let path = self.folder.join(&name);
        // All that a later process needs to find it again; no secrets.
        let machine =
            Resource::new("machine", &name).with_config(serde_json::json!({ "folder": self.folder }));
        cx.own(machine, async { std::fs::write(&path, "").map_err(|e| Error::io("create", &path, e)) })
            .await?;
        Ok(Box::new(Running(Facts::new().id(&name))))
    }

    async fn release(&self, _: &Context, resource: &Resource) -> Result<()> {
        let path = self.folder.join(&resource.name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path, e)),
            _ => Ok(()),
        }
    }
}

struct Running(Facts);

#[async_trait]
impl Machine for Running {
    fn communicator(&self) -> Arc<dyn Communicator> {
        Arc::new(NoCommunicator::new())
    }

    fn facts(&self) -> &Facts {
        &self.0
    }

    async fn capture(&self, _: &Context) -> Result<Artifact> {
        Ok(Artifact::new("example.rented", ""))
    }
}
