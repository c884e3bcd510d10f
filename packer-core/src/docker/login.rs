//! The options by which builder and post-processors log in to a registry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, Diagnostics};
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
}
