//! The post-processor `docker-push`: sends an image to a registry.

use packer_core::config;
use packer_core::docker::Login;
use packer_core::{
    Artifact, Context, Diagnostics, PostProcessor, PrepareContext, Processed, Result, Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IMAGE, TAGGED, engine, tags, unowned};

/// Sends an image to the registry that its names say, under each of them. The digest that it has there is the artifact's
/// `Digest`.
///
/// ```
/// use packer_core::docker::Login;
/// use packer_postproc::DockerPush;
/// let push = DockerPush::new();
/// let with_login = DockerPush::new().login(Login::password("ghcr.io", "me", "secret"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct DockerPush {
    /// How to log in to the registry; without it the credentials in Docker's configuration are used.
    #[serde(flatten)]
    pub login: Login,
    /// Which platform of an image for several is sent: `linux/arm64`.
    pub platform: String,
}

impl DockerPush {
    /// With the credentials in Docker's configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how to log in.
    #[must_use]
    pub fn login(mut self, login: Login) -> Self {
        self.login = login;
        self
    }
}

#[async_trait]
impl PostProcessor for DockerPush {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        self.login.check()
    }

    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
        let advice = "Can only import from docker-import and docker-tag artifacts.";
        let client = engine(cx, &artifact, &[IMAGE, TAGGED], advice).await?;
        let mut names = tags(&artifact);
        if !names.contains(&artifact.id) {
            names.insert(0, artifact.id.clone());
        }
        let mut pushed = artifact;
        for name in names {
            cx.say(format!("Pushing: {name}"));
            let login = self.login.credentials(cx, &name).await?;
            let digest = client.push(cx, &name, &self.platform, login.as_ref()).await?;
            match digest {
                Some(digest) => {
                    pushed.generated_data.insert("Digest".to_owned(), digest.clone().into());
                    pushed = pushed.with("Digest", digest);
                }
                None => cx.say_error(format!("The registry did not say which digest {name} has now.")),
            }
        }
        Ok(Processed::beside(unowned(pushed)))
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}
