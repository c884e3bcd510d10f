//! Containers of what a build made, for its tests.

use packer_core::docker::{Client, resources};
use packer_core::{Artifact, BootTest, Context, Error, Machine, Resource, Result, async_trait, kit};
use serde_json::json;

use super::{Docker, launch};

/// The repository in which images are kept that did not pass.
const FAILED: &str = "packer-failed-test";

/// The image is started as the one that the build started from, with the same arguments; a tar becomes an image for the
/// time of the test.
#[async_trait]
impl BootTest for Docker {
    async fn boot(&self, cx: &Context, artifact: &Artifact) -> Result<Box<dyn Machine>> {
        launch::from_artifact(self, cx, artifact).await
    }

    async fn set_aside(&self, cx: &Context, mut artifact: Artifact) -> Result<Artifact> {
        if let Some(tar) = artifact.files.first().cloned() {
            let kept = kit::failed_test_name(&tar);
            let rename = tokio::fs::rename(&tar, &kept);
            let rename = async { rename.await.map_err(|e| Error::io("rename", &tar, e)) };
            cx.own(Resource::file(&kept), rename).await?;
            artifact.description = format!("Exported Docker file: {}", kept.display());
            artifact.files = vec![kept];
            return Ok(artifact);
        }
        // What was committed has no name yet, only its id.
        let id = artifact.id.clone();
        let short: String = id.trim_start_matches("sha256:").chars().take(12).collect();
        let name = format!("{FAILED}:{short}");
        let client = Client::connect(cx.host()).await?;
        let tag = client.tag_resource(&name, &id);
        cx.own(tag.clone(), client.tag(&id, &name)).await?;
        artifact.description = format!("Docker image that failed its test: {name}");
        artifact.id = name;
        Ok(artifact.owning(tag))
    }
}

/// Makes an image of an exported file system, for as long as the test takes.
pub(super) async fn import(
    docker: &Docker,
    cx: &Context,
    client: &Client,
    artifact: &Artifact,
) -> Result<String> {
    let Some(tar) = artifact.files.first() else { return Ok(artifact.id.clone()) };
    let name = resources::image_name("test");
    let resource = client.image_resource(&name, None, json!({}));
    let importing = Box::pin(client.import(cx, tar, &name, &[], &docker.platform));
    let id = cx.own(resource.clone(), importing).await?;
    cx.record(resource.with_details(client.image_resource(&name, Some(&id), json!({})).details))?;
    Ok(name)
}
