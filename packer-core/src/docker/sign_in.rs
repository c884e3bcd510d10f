//! From the options of a login to the credentials that go with requests.

use super::Reference;
use super::credentials::Credentials;
use super::login::Login;
use crate::context::Context;
#[cfg(not(feature = "docker-ecr"))]
use crate::error::Error;
use crate::error::Result;

impl Login {
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
