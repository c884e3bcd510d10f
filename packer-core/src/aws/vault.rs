//! Keys that Vault makes for a build (`vault_aws_engine`).

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Credentials, VaultAwsEngine};
use crate::kit::vault;
use crate::language::functions::Capabilities;
use crate::secrets::Secret;

/// Keys that came from Vault when the options were checked. They are no part of the options: it does not matter to their being
/// equal.
#[derive(Clone, Default)]
pub(super) struct Leased(Arc<tokio::sync::Mutex<Option<Credentials>>>);

impl PartialEq for Leased {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leased")
    }
}

impl Leased {
    /// Fetches keys and keeps them for who asks next.
    pub(super) async fn fetch(&self, cx: &Capabilities, engine: &VaultAwsEngine) -> Result<(), String> {
        *self.0.lock().await = Some(engine.keys(cx).await?);
        Ok(())
    }

    /// The keys that are kept, once; else others.
    pub(super) async fn keys(
        &self,
        cx: &Capabilities,
        engine: &VaultAwsEngine,
    ) -> Result<Credentials, String> {
        let now = Timestamp::now();
        let kept = self.0.lock().await.take();
        match kept.filter(|keys| keys.expires.is_none_or(|end| end > now)) {
            Some(keys) => Ok(keys),
            None => engine.keys(cx).await,
        }
    }
}

impl VaultAwsEngine {
    async fn keys(&self, cx: &Capabilities) -> Result<Credentials, String> {
        let engine = if self.engine_name.is_empty() { "aws" } else { self.engine_name.trim_matches('/') };
        let query = [("role_arn", self.role_arn.as_str()), ("ttl", self.ttl.as_str())];
        let query: Vec<_> = query.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        // Both are for keys of a role; those have a path of their own.
        let kind = if query.is_empty() { "creds" } else { "sts" };
        let path = format!("{engine}/{kind}/{}", self.name);
        let (status, answer) =
            vault::read(cx, &path, &query).await.map_err(|e| format!("Error reading vault secret: {e}"))?;
        if status.as_u16() == 404 {
            return Err("Vault Secret does not exist at the given path.".to_owned());
        }
        if !status.is_success() {
            return Err(format!("Error reading vault secret: {path}: {status}{}", vault::errors(&answer)));
        }
        let text = |name: &str| answer["data"][name].as_str().filter(|text| !text.is_empty());
        let (Some(access), Some(secret)) = (text("access_key"), text("secret_key")) else {
            return Err(format!("the secret at {path:?} of Vault has no access_key and secret_key"));
        };
        let mut found = Credentials::new(access, secret);
        found.token = text("security_token").or_else(|| text("session_token")).map(Secret::from);
        let lease = answer["lease_duration"].as_i64().filter(|seconds| *seconds > 0);
        found.expires = lease.and_then(|s| Timestamp::now().checked_add(SignedDuration::from_secs(s)).ok());
        found.register(&cx.secrets);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_fetched_before_serves_once() {
        let leased = Leased::default();
        *leased.clone().0.lock().await = Some(Credentials::new("A", "B"));
        let cx = Capabilities::none();
        let engine = VaultAwsEngine::default();
        assert_eq!(leased.keys(&cx, &engine).await.unwrap().access_key, "A");
        // Vault is asked again, and here nobody lends its token.
        let error = leased.keys(&cx, &engine).await.unwrap_err();
        assert!(error.contains("VAULT_TOKEN"), "{error}");
    }
}
