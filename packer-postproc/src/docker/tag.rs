//! The post-processor `docker-tag`: gives an image names.

use packer_core::config;
use packer_core::docker::Client;
use packer_core::{Artifact, Context, Error, PostProcessor, Processed, Resource, Result, Value, async_trait};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IMAGE, TAGGED, TAGS, describe, engine, tags};

/// Gives an image names: `REPOSITORY:TAG` for each tag, or `REPOSITORY` (which is `:latest`) without any.
///
/// A name that another image has moves to this one.
///
/// ```
/// use packer_postproc::DockerTag;
/// let names = DockerTag::new("ghcr.io/acme/web").tag("1.2").tag("latest");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct DockerTag {
    /// The repository, with the registry where it is not Docker Hub.
    pub repository: String,
    /// The tags.
    pub tags: Vec<String>,
    /// The old name of `tags`; these come after them.
    pub tag: Vec<String>,
    /// Without meaning: names are always moved.
    pub force: bool,
}

impl DockerTag {
    /// Names in a repository.
    pub fn new(repository: impl Into<String>) -> Self {
        Self { repository: repository.into(), ..Self::default() }
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    fn names(&self) -> Vec<String> {
        let tags: Vec<&String> = self.tags.iter().chain(&self.tag).filter(|tag| !tag.is_empty()).collect();
        match tags.is_empty() {
            true => vec![self.repository.clone()],
            false => tags.into_iter().map(|tag| format!("{}:{tag}", self.repository)).collect(),
        }
    }
}

#[async_trait]
impl PostProcessor for DockerTag {
    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
        let advice = "Can only tag from Docker builder artifacts.";
        let client = engine(cx, &artifact, &[IMAGE, TAGGED], advice).await?;
        if self.repository.is_empty() {
            return Err(Error::user("docker-tag: repository is not set"));
        }
        let found = client.image(&artifact.id).await?;
        let id = found
            .and_then(|image| image.id)
            .ok_or_else(|| Error::user(format!("the image {} is not in the engine", artifact.id)))?;
        if !self.tag.is_empty() {
            cx.say(
                "Deprecation warning: \"tag\" option has been replaced with \"tags\". In future versions of Packer, this \
                 configuration may not work. Please call `packer fix` on your template to update.",
            );
        }
        let mut tagged = Artifact::new(TAGGED, "");
        let mut given = tags(&artifact);
        for name in self.names() {
            cx.say(format!("Tagging image: {}", artifact.id));
            cx.say(format!("Repository: {name}"));
            let resource = client.tag_resource(&name, &id);
            let tagging = client.tag(&artifact.id, &name);
            cx.own(resource.clone(), tagging).await.map_err(|e| e.context("Error tagging image"))?;
            tagged = tagged.owning(resource);
            name.clone_into(&mut tagged.id);
            given.push(name);
        }
        // Without a tag there is a name, but no list of them.
        let shown: &[String] = if self.tags.is_empty() && self.tag.is_empty() { &[] } else { &given };
        (tagged.generated_data, tagged.metadata) = (artifact.generated_data, artifact.metadata);
        let description = describe(&tagged.id, shown);
        tagged = tagged.with(TAGS, given.clone()).with("ImageSha256", id).describe(description);
        Ok(Processed::needing_input(tagged))
    }

    async fn release(&self, cx: &Context, resource: &Resource) -> Result<()> {
        Client::release_resource(cx, resource).await
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}
