//! Where credentials come from, in the order of AWS's own tools.

use serde_json::Value as Json;

use super::process;
use super::profiles::Settings;
use super::role::{Role, Token};
use super::{Account, Credentials};
use crate::error::{Error, Result};
use crate::kit::http::variable;
use crate::secrets::Secret;

/// How many profiles may take their credentials from one another.
const LONGEST_CHAIN: usize = 16;

impl Account {
    /// Credentials as they are now, of the role that the options name, if any.
    pub(super) async fn fetch(&self) -> Result<Credentials> {
        let base = self.base().await?;
        base.register(&self.cx.secrets);
        let Some(role) = self.options.assume_role.as_ref().filter(|role| !role.role_arn.is_empty()) else {
            return Ok(base);
        };
        let mut found = self.assume(&Role::from(role), &base).await?;
        if !self.options.mfa_code.is_empty() {
            // As in Packer: the role takes itself on, and without a device's number AWS is told no code.
            found = self.assume(&Role::named(&role.role_arn), &found).await?;
        }
        Ok(found)
    }

    async fn base(&self) -> Result<Credentials> {
        let options = &self.options;
        if options.access_key.is_empty() != options.secret_key.is_empty() {
            return Err(Error::user(super::access::ONE_KEY));
        }
        if !options.access_key.is_empty() {
            let mut own = Credentials::new(options.access_key.as_str(), options.secret_key.clone());
            own.token = Some(options.token.clone()).filter(|token| !token.is_empty());
            return Ok(own);
        }
        if let Some(engine) = &options.vault_aws_engine {
            return options.leased.keys(&self.cx, engine).await.map_err(Error::user);
        }
        let own_profile = !options.profile.is_empty();
        let of_variables = if own_profile { None } else { self.of_variables().await? };
        if let Some(found) = of_variables {
            return Ok(found);
        }
        let (name, settings) = &self.profile;
        if let Some(found) = self.of_profile(name, settings).await? {
            return Ok(found);
        }
        let container = self.metadata.container(&self.cx, &self.http).await.map_err(Error::user)?;
        match container {
            Some(found) => Ok(found),
            None => self.of_machine().await?.ok_or_else(none),
        }
    }

    async fn of_machine(&self) -> Result<Option<Credentials>> {
        if self.options.skip_metadata_api_check {
            return Ok(None);
        }
        self.metadata.credentials().await.map_err(Error::provider)
    }

    /// Keys, or a role for whoever shows a token.
    async fn of_variables(&self) -> Result<Option<Credentials>> {
        if let Some(keys) = self.keys_of_variables() {
            return Ok(Some(keys));
        }
        let value = |name: &str| variable(&self.cx, name);
        match (value("AWS_WEB_IDENTITY_TOKEN_FILE"), value("AWS_ROLE_ARN")) {
            (Some(file), Some(role)) => {
                let session = value("AWS_ROLE_SESSION_NAME").unwrap_or_default();
                let token = Token { file, role, session };
                self.assume_with_token(&token).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    fn keys_of_variables(&self) -> Option<Credentials> {
        let value = |names: [&str; 2]| names.into_iter().find_map(|name| variable(&self.cx, name));
        let key = value(["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"])?;
        let mut found = Credentials::new(key, value(["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"])?);
        found.token = variable(&self.cx, "AWS_SESSION_TOKEN").map(Secret::from);
        Some(found)
    }

    /// What a profile says; the profiles that it takes its credentials from are looked up one after the other.
    async fn of_profile(&self, name: &str, settings: &Settings) -> Result<Option<Credentials>> {
        // The profiles on the way, the last one has credentials by itself.
        let mut way: Vec<(String, Settings)> = vec![(name.to_owned(), settings.clone())];
        while let Some((name, settings)) = way.last()
            && let Some(source) = setting(settings, "source_profile")
            && setting(settings, "role_arn").is_some()
            && source != name
        {
            if way.len() >= LONGEST_CHAIN || way.iter().any(|(seen, _)| seen == source) {
                return Err(Error::user(format!(
                    "the profiles of AWS take their credentials from one another: {source}"
                )));
            }
            let next = self.profiles.profile(source);
            let next =
                next.ok_or_else(|| Error::user(format!("failed to get shared config profile, {source}")))?;
            way.push((source.to_owned(), next));
        }
        let Some((name, settings)) = way.pop() else { return Ok(None) };
        let Some(mut found) = Box::pin(self.of_last(&name, &settings)).await? else {
            return if way.is_empty() { Ok(None) } else { Err(none()) };
        };
        // A profile with a token of web identity took its role on with that.
        let of_token = setting(&settings, "web_identity_token_file").is_some();
        if let Some(role) = self.role_of(&settings).filter(|_| !of_token) {
            found = self.assume(&role, &found).await?;
        }
        while let Some((_, settings)) = way.pop() {
            if let Some(role) = self.role_of(&settings) {
                found = self.assume(&role, &found).await?;
            }
        }
        Ok(Some(found))
    }

    /// The credentials of a profile itself, before it takes a role on.
    async fn of_last(&self, name: &str, settings: &Settings) -> Result<Option<Credentials>> {
        let get = |name: &str| setting(settings, name);
        if let (Some(key), Some(secret)) = (get("aws_access_key_id"), get("aws_secret_access_key")) {
            let mut found = Credentials::new(key, secret);
            found.token = get("aws_session_token").map(Secret::from);
            return Ok(Some(found));
        }
        if let (Some(source), Some(_)) = (get("credential_source"), get("role_arn")) {
            let found = match source {
                "Environment" => self.keys_of_variables(),
                "Ec2InstanceMetadata" => self.of_machine().await?,
                "EcsContainer" => self.metadata.container(&self.cx, &self.http).await.map_err(Error::user)?,
                other => {
                    let why = format!("the credential_source {other:?} of the profile {name:?} is not known");
                    return Err(Error::user(why));
                }
            };
            return found.map(Some).ok_or_else(none);
        }
        if let (Some(file), Some(role)) = (get("web_identity_token_file"), get("role_arn")) {
            let token = Token { file, role, session: get("role_session_name").unwrap_or_default() };
            return self.assume_with_token(&token).await.map(Some);
        }
        if get("sso_account_id").is_some() {
            return self.of_single_sign_on(name, settings).await.map(Some);
        }
        if let Some(command) = get("credential_process") {
            let answer: Json = process::answer(&self.cx, command).await.map_err(Error::user)?;
            let found = Credentials::from_json(&answer);
            return found.map(Some).ok_or_else(|| {
                Error::user(format!("the credential_process of the profile {name:?} printed no credentials"))
            });
        }
        Ok(None)
    }

    fn role_of<'a>(&self, settings: &'a Settings) -> Option<Role<'a>> {
        let get = |name: &str| setting(settings, name);
        let mut role = Role::named(get("role_arn")?);
        role.session = get("role_session_name").unwrap_or_default().to_owned();
        role.external_id = get("external_id").unwrap_or_default();
        role.seconds = get("duration_seconds").and_then(|text| text.parse().ok()).unwrap_or_default();
        if let Some(device) = get("mfa_serial") {
            role.device = Some((device, self.options.mfa_code.clone()));
        }
        Some(role)
    }
}

pub(super) fn setting<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    settings.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn none() -> Error {
    Error::user("No valid credential sources found")
}
