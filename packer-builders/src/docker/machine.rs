//! A container that is up: what becomes of it, and how it goes.

use std::path::Path;
use std::sync::Arc;

use bollard::errors::Error as EngineError;
use bollard::models::ContainerConfig;
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, InspectContainerOptionsBuilder, StopContainerOptions,
};
use packer_core::docker::{Client, Reference, resources};
use packer_core::{
    Artifact, CheckpointKey, Communicator, Context, Error, Facts, Machine, Resource, Result, async_trait,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Docker;

/// The kind of artifact that an image is.
const IMAGE: &str = "packer.post-processor.docker-import";

/// What is known of the image that the container was started from in the first place.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Source {
    pub(super) id: String,
    /// Its name with its digest in a registry; empty where none has it.
    pub(super) digest: String,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) entrypoint: Option<Vec<String>>,
}

impl Source {
    /// From the details of a checkpoint.
    pub(super) fn from_details(details: &serde_json::Value) -> Self {
        serde_json::from_value(details["source"].clone()).unwrap_or_default()
    }
}

pub(super) struct Container {
    pub(super) docker: Docker,
    pub(super) client: Client,
    pub(super) id: String,
    /// What it runs.
    pub(super) image: String,
    pub(super) communicator: Arc<dyn Communicator>,
    pub(super) facts: Facts,
    pub(super) source: Source,
}

#[async_trait]
impl Machine for Container {
    fn communicator(&self) -> Arc<dyn Communicator> {
        self.communicator.clone()
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    async fn capture(&self, cx: &Context) -> Result<Artifact> {
        let mut artifact = if self.docker.commit {
            cx.step("StepCommit", Box::pin(self.commit(cx))).await?
        } else if self.docker.discard {
            Artifact::new("packer.docker", "Container").describe("Exported Docker file: ").file("")
        } else {
            cx.step("StepExport", Box::pin(self.export(cx))).await?
        };
        for (name, value) in self.facts.iter().filter(|(_, value)| !value.is_sensitive()) {
            if let Ok(value) = value.to_json() {
                artifact.generated_data.entry(name.clone()).or_insert(value);
            }
        }
        Ok(artifact)
    }

    async fn checkpoint(&self, cx: &Context, key: &CheckpointKey) -> Result<Option<Resource>> {
        // The start of the key is for people who look; another process may save the same state at the same time.
        let key: String = key.0.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        let name = format!("packer-checkpoint:k{key}-{}", uuid::Uuid::new_v4().simple());
        let more = json!({ "source": self.source });
        let resource = self.client.image_resource(&name, None, more.clone());
        let id = cx.own(resource.clone(), self.commit_as(cx, &resource, "", "", &[])).await?;
        let mut saved = resource.with_details(self.client.image_resource(&name, Some(&id), more).details);
        // What it takes beside the image that it lies on.
        let (whole, base) = (self.size(&id).await, self.size(&self.image).await);
        saved.details["size"] = whole.zip(base).map(|(whole, base)| whole.saturating_sub(base)).into();
        cx.record(saved.clone())?;
        Ok(Some(saved))
    }
}

impl Container {
    async fn commit(&self, cx: &Context) -> Result<Artifact> {
        let docker = &self.docker;
        if docker.windows_container {
            // The engine cannot commit a Windows container that runs.
            let stop = self.client.api().stop_container(&self.id, None::<StopContainerOptions>);
            self.client.ask("stop the container", stop).await?;
        }
        cx.say("Committing the container");
        let mut changes = docker.changes.clone();
        for (name, own) in [("CMD", &self.source.cmd), ("ENTRYPOINT", &self.source.entrypoint)] {
            if !docker.changes.iter().any(|change| change.starts_with(name)) {
                // The container ran something else, which must not become the image's own.
                let words = own.clone().unwrap_or_else(|| vec![String::new()]);
                changes.push(format!("{name} {}", json!(words)));
            }
        }
        // Until its id is in the ledger the image is known by a name of ours, which nobody sees afterwards.
        let name = resources::image_name("commit");
        let resource = self.client.image_resource(&name, None, json!({}));
        let committed = self.commit_as(cx, &resource, &docker.author, &docker.message, &changes);
        let id =
            cx.own(resource.clone(), committed).await.map_err(|e| e.context("Error committing container"))?;
        let known = resource.with_details(self.client.image_resource(&name, Some(&id), json!({})).details);
        cx.record(known.clone())?;
        self.client.untag_keeping(&name, &self.source_image()).await?;
        cx.say(format!("Image ID: {id}"));
        let mut artifact =
            Artifact::new(IMAGE, &id).describe(format!("Imported Docker image: {id}")).owning(known);
        artifact.generated_data.insert("ImageSha256".to_owned(), id.into());
        Ok(artifact)
    }

    /// The bytes of an image with all that it lies on.
    async fn size(&self, image: &str) -> Option<u64> {
        self.client.image(image).await.ok()??.size?.try_into().ok()
    }

    /// The image that the running container keeps from going.
    fn source_image(&self) -> String {
        if self.source.id.is_empty() { self.image.clone() } else { self.source.id.clone() }
    }

    /// Commits under the name of a resource; the engine finishes that also where the build is cancelled meanwhile.
    async fn commit_as(
        &self,
        cx: &Context,
        resource: &Resource,
        author: &str,
        message: &str,
        changes: &[String],
    ) -> Result<String> {
        let reference = Reference::parse(&resource.name);
        let mut options = CommitContainerOptionsBuilder::default()
            .container(&self.id)
            .repo(reference.repository)
            .tag(reference.version())
            .author(author)
            .comment(message)
            .pause(true);
        if !changes.is_empty() {
            options = options.changes(&changes.join("\n"));
        }
        let (api, options) = (self.client.api().clone(), options.build());
        let asked = async move { Ok(api.commit_container(options, ContainerConfig::default()).await) };
        match self.docker.in_flight.run(resource.id, asked).await? {
            Ok(made) => Ok(made.id),
            Err(e) => {
                if matches!(e, EngineError::DockerResponseServerError { .. }) {
                    // The engine says that it made nothing.
                    cx.released(resource)?;
                }
                Err(self.client.error("the engine", &e))
            }
        }
    }

    async fn export(&self, cx: &Context) -> Result<Artifact> {
        cx.say("Exporting the container");
        let path = Path::new(&self.docker.export_path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| Error::io("mkdir", folder, e))?;
        }
        let options = InspectContainerOptionsBuilder::default().size(true).build();
        let sizes = self.client.api().inspect_container(&self.id, Some(options)).await;
        let total = sizes.ok().and_then(|found| found.size_root_fs).and_then(|size| size.try_into().ok());
        self.client.export(cx, &self.id, path, total).await?;
        let description = format!("Exported Docker file: {}", self.docker.export_path);
        Ok(Artifact::new("packer.docker", "Container").describe(description).file(path))
    }
}

/// Releases a container, an image or a name.
pub(super) async fn release(cx: &Context, resource: &Resource) -> Result<()> {
    let committed = resource.details.get("commit").and_then(serde_json::Value::as_bool);
    let Some(committed) = committed else { return Client::release_resource(cx, resource).await };
    // The image that the block `build` made. One that became another image cannot go before that.
    let client = Client::connect(cx.host()).await?;
    let id = client.image(&resource.name).await?.and_then(|image| image.id);
    Client::release_resource(cx, resource).await?;
    if let (true, Some(id)) = (committed, id)
        && client.image(&id).await?.is_some()
    {
        cx.say(
            "final image is not discarded, removing the built image will fail because of existing dependencies, \
             skipping cleanup for docker build.",
        );
    }
    Ok(())
}
