//! The options by which builder and post-processors log in to a registry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reference;
use super::credentials::Credentials;
use crate::context::Context;
use crate::diagnostic::{Diagnostic, Diagnostics};
#[cfg(not(feature = "docker-ecr"))]
use crate::error::Error;
use crate::error::Result;
use crate::secrets::Secret;

/// How to log in to a registry. Nothing is stored and nothing has to be logged out: the credentials go with each request.
/// Without any of this those in Docker's configuration are used.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Login {
    /// Whether to log in with `login_username` and `login_password`.
    pub login: bool,
    /// The user.
    pub login_username: String,
    /// The password.
    pub login_password: Secret,
    /// The registry. Default Docker Hub.
    pub login_server: String,
    /// Whether to log in to Amazon's registry with a token that is asked for with the keys below, else those that AWS's own
    /// tools find: the environment's, a profile's, single sign-on's, the container's, the machine's.
    pub ecr_login: bool,
    /// The access key for `ecr_login`.
    pub aws_access_key: String,
    /// Its secret.
    pub aws_secret_key: Secret,
    /// The session token of temporary keys.
    pub aws_token: Secret,
    /// The profile of AWS's files of settings. Default `AWS_PROFILE`, else `default`.
    pub aws_profile: String,
    /// Whether `login_server` is the public registry although its name does not say so.
    pub aws_force_use_public_ecr: bool,
}

impl Login {
    /// A user's name and password for a registry (empty: Docker Hub).
    pub fn password(server: impl Into<String>, user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self {
            login: true,
            login_server: server.into(),
            login_username: user.into(),
            login_password: password.into(),
            ..Self::default()
        }
    }

    /// Checks what can be checked without a registry.
    pub fn check(&self) -> Diagnostics {
        let mut found = Diagnostics::new();
        if self.ecr_login && self.login_server.is_empty() {
            found.push(Diagnostic::error("ECR login requires login server to be provided."));
        }
        found
    }

    /// The credentials for the registry of an image, where this says how to log in to that one; from here on their secret is
    /// scrubbed from all output.
    ///
    /// # Errors
    /// Where Amazon gives no token, or this build of the library cannot ask for one.
    pub async fn credentials(&self, cx: &Context, image: &str) -> Result<Option<Credentials>> {
        if !self.login && !self.ecr_login {
            return Ok(None);
        }
        let server = if self.login_server.is_empty() { "docker.io" } else { &self.login_server };
        if !super::credentials::same(server, Reference::parse(image).registry()) {
            return Ok(None);
        }
        let found = match self.ecr_login {
            true => self.token(cx).await?,
            false => Credentials::password(self.login_username.clone(), self.login_password.clone()),
        };
        cx.secrets().add(found.secret.reveal());
        cx.say("Logging in...");
        Ok(Some(found))
    }

    #[cfg(feature = "docker-ecr")]
    async fn token(&self, cx: &Context) -> Result<Credentials> {
        cx.say("Fetching ECR credentials...");
        super::ecr::token(cx, self).await.map_err(|e| e.context("ECR login"))
    }

    #[cfg(not(feature = "docker-ecr"))]
    async fn token(&self, _: &Context) -> Result<Credentials> {
        Err(Error::user(
            "ecr_login: this build of the library cannot ask Amazon for a token; the host program was built without \
             the cargo feature \"docker-ecr\" of packer-core (docker-credential-ecr-login in Docker's configuration works)",
        ))
    }
}
