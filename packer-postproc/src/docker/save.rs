//! The post-processor `docker-save`: an image as a tar that `docker load` reads.

use std::path::Path;

use packer_core::config;
use packer_core::{Artifact, Context, Error, PostProcessor, Processed, Result, Value, async_trait};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IMAGE, TAGGED, engine, unowned};

/// Writes an image, with the name it was given last, into a tar that `docker load` reads. The artifact stays what it was.
///
/// ```
/// use packer_postproc::DockerSave;
/// let tar = DockerSave::to("out/web.tar");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct DockerSave {
    /// The path of the tar. Its folder must exist.
    pub path: String,
}

impl DockerSave {
    /// Writes to this path.
    pub fn to(path: impl Into<String>) -> Self {
        Self { path: path.into() }
    }
}

#[async_trait]
impl PostProcessor for DockerSave {
    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
        let advice = "Can only save Docker builder artifacts.";
        let client = engine(cx, &artifact, &[IMAGE, TAGGED], advice).await?;
        if self.path.is_empty() {
            return Err(Error::user("docker-save: path is not set"));
        }
        cx.say(format!("Saving image: {}", artifact.id));
        let saved = client.save(cx, &artifact.id, Path::new(&self.path)).await;
        saved.map_err(|e| e.context("Error creating output file"))?;
        cx.say(format!("Saved to: {}", self.path));
        Ok(Processed::beside(unowned(artifact)))
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}
