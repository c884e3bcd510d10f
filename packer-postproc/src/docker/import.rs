//! The post-processor `docker-import`: an image of the tar of a file system.

use packer_core::config;
use packer_core::docker::{Client, resources};
use packer_core::{Artifact, Context, Error, PostProcessor, Processed, Resource, Result, Value, async_trait};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IMAGE, describe, engine};

/// Makes an image of the first file of an artifact: the tar of a file system, from `docker` with `export_path` or
/// from `artifice`.
///
/// ```
/// use packer_postproc::DockerImport;
/// let image = DockerImport::new("acme/rootfs").tag("1.2").change(r#"CMD ["/sbin/init"]"#);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct DockerImport {
    /// The repository of the image's name. Without it the image has no name.
    pub repository: String,
    /// The tag of the name. Default `latest`.
    pub tag: String,
    /// Instructions of a Dockerfile that change the image's configuration.
    pub changes: Vec<String>,
    /// The platform that the image is for.
    pub platform: String,
    /// Without meaning: the import goes over the engine's API.
    pub docker_path: String,
}

impl DockerImport {
    /// An image with a name.
    pub fn new(repository: impl Into<String>) -> Self {
        Self { repository: repository.into(), ..Self::default() }
    }

    /// Sets the tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = tag.into();
        self
    }

    /// Adds an instruction that changes the image.
    #[must_use]
    pub fn change(mut self, instruction: impl Into<String>) -> Self {
        self.changes.push(instruction.into());
        self
    }

    fn name(&self) -> String {
        match (self.repository.as_str(), self.tag.as_str()) {
            ("", _) => String::new(),
            (repository, "") => repository.to_owned(),
            (repository, tag) => format!("{repository}:{tag}"),
        }
    }

    /// Imports under a name of ours, which the user's then replaces: what was called so before stays until the new image is
    /// there, and a later process knows which of the two it may remove.
    async fn named(
        &self,
        cx: &Context,
        client: &Client,
        tar: &std::path::Path,
        name: &str,
    ) -> Result<(String, Vec<Resource>)> {
        let own = resources::image_name("import");
        let none = serde_json::json!({});
        let image = client.image_resource(&own, None, none.clone());
        let importing = client.import(cx, tar, &own, &self.changes, &self.platform);
        let id = cx.own(image.clone(), importing).await?;
        let image = image.with_details(client.image_resource(&own, Some(&id), none).details);
        cx.record(image.clone())?;
        let tag = client.tag_resource(name, &id);
        cx.own(tag.clone(), client.tag(&own, name)).await?;
        client.remove_image(&own).await?;
        // With the name goes the image.
        cx.released(&image)?;
        Ok((id, vec![tag]))
    }
}

#[async_trait]
impl PostProcessor for DockerImport {
    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
        let advice = "Can only import from Docker builder and Artifice post-processor artifacts. If you are getting this error \
                      after having run the docker builder, it may be because you set commit: true in your Docker \
                      builder, so the image is already imported.";
        let kinds = ["packer.docker", "packer.post-processor.artifice"];
        let client = engine(cx, &artifact, &kinds, advice).await?;
        let name = self.name();
        let tar = artifact.files.first().filter(|path| !path.as_os_str().is_empty());
        let tar = tar.ok_or_else(|| Error::user("docker-import: the artifact has no file"))?;
        cx.say(format!("Importing image: {}", artifact.id));
        cx.say(format!("Repository: {name}"));
        let (id, owned) = match name.as_str() {
            // An image without any name: it is known only when it is there.
            "" => {
                let id = client.import(cx, tar, "", &self.changes, &self.platform).await?;
                let resource = client.image_resource("", Some(&id), serde_json::json!({}));
                cx.record(resource.clone())?;
                (id, vec![resource])
            }
            name => self.named(cx, &client, tar, name).await?,
        };
        cx.say(format!("Imported ID: {id}"));
        let mut imported =
            Artifact::new(IMAGE, &name).describe(describe(&name, &[])).with("ImageSha256", id.clone());
        imported.generated_data = artifact.generated_data;
        imported.generated_data.insert("ImageSha256".to_owned(), id.into());
        imported.resources = owned;
        Ok(Processed::replacing(imported))
    }

    async fn release(&self, cx: &Context, resource: &Resource) -> Result<()> {
        Client::release_resource(cx, resource).await
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}
