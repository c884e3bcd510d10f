//! The options by which builders, data sources and `amazon-import` reach an account of AWS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::vault::Leased;
use super::{Session, lent};
use crate::config;
use crate::context::{Context, PrepareContext};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::Result;
use crate::secrets::Secret;

/// Which account, and with whose credentials. Without any of it they are found as AWS's own tools find them: the
/// variables that the host lends, profiles, single sign-on, web identity, the container's, the machine's.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct AccessConfig {
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Secret,
    /// The session token of temporary keys.
    pub token: Secret,
    /// The profile of AWS's files of settings. Default `AWS_PROFILE`, else `default`.
    pub profile: String,
    /// A file that is read in place of AWS's file `config`, whose form it has: the heading of a profile is `[profile NAME]`.
    pub shared_credentials_file: String,
    /// The region. Default `AWS_REGION`, else `AWS_DEFAULT_REGION`, the profile's, the machine's.
    pub region: String,
    /// A role that is taken on with the credentials.
    pub assume_role: Option<AssumeRole>,
    /// The code of a device, for a profile's role that asks for one (`mfa_serial`). With `assume_role`, which names no device,
    /// the role takes itself on once more, as in Packer.
    pub mfa_code: String,
    /// Where EC2 is asked in place of Amazon's own address. Only for `region`.
    pub custom_endpoint_ec2: String,
    /// Whether nobody asks AWS at the beginning whether the credentials are good.
    pub skip_credential_validation: bool,
    /// Whether the machine is not asked for credentials and a region.
    pub skip_metadata_api_check: bool,
    /// Whether any certificate is trusted.
    pub insecure_skip_tls_verify: bool,
    /// Whether AWS is asked what its encoded messages about missing permissions say.
    pub decode_authorization_messages: bool,
    /// How often a call is tried. Default 10.
    pub max_retries: i64,
    /// Keys that Vault makes.
    pub vault_aws_engine: Option<VaultAwsEngine>,
    /// How the waits for machines, images and the like ask.
    pub aws_polling: Option<Polling>,
    /// What Vault gave when the options were checked: it serves the build too.
    #[serde(skip)]
    pub(super) leased: Leased,
}

/// What is wrong with a key alone.
pub(super) const ONE_KEY: &str = "`access_key` and `secret_key` must both be either set or not set.";

/// The sessions of a run, by the options that they were opened with.
#[derive(Default)]
struct Sessions(Mutex<Vec<(AccessConfig, Opening)>>);

/// A session that several builds may wait for: one of them opens it.
type Opening = Arc<tokio::sync::OnceCell<Arc<Session>>>;

/// A role that is taken on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct AssumeRole {
    /// The role's ARN.
    pub role_arn: String,
    /// How long its credentials are good. Default 900; they are fetched anew in time.
    pub duration_seconds: i64,
    /// What the role's owner agreed on with whoever takes it on.
    pub external_id: String,
    /// A policy, in JSON, that allows less than the role does.
    pub policy: String,
    /// ARNs of such policies.
    pub policy_arns: Vec<String>,
    /// The name that AWS's records show. Default one with the time.
    pub session_name: String,
    /// Tags of the session.
    pub tags: BTreeMap<String, String>,
    /// Which of them stay when another role is taken on.
    pub transitive_tag_keys: Vec<String>,
}

/// Keys that Vault makes (its secrets engine for AWS). Vault is found through `VAULT_ADDR`, `VAULT_TOKEN` and the like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct VaultAwsEngine {
    /// The role of Vault's.
    pub name: String,
    /// Which role of AWS, where that one allows several.
    pub role_arn: String,
    /// How long the keys are good. Default Vault's own.
    pub ttl: String,
    /// Where the engine is mounted. Default `aws`.
    pub engine_name: String,
}

/// How waits ask: how often, and how long they pause. What is not given is each wait's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Polling {
    /// How often to ask. Default `AWS_MAX_ATTEMPTS`.
    pub max_attempts: Option<i64>,
    /// How many seconds to pause. Default `AWS_POLL_DELAY_SECONDS`.
    pub delay_seconds: Option<i64>,
}

impl Polling {
    /// How often to ask.
    pub fn attempts(&self) -> Option<u32> {
        self.max_attempts.filter(|n| *n > 0).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
    }

    /// With what variables say where the options say nothing; `AWS_TIMEOUT_SECONDS` is how long all of it may take.
    pub(super) fn over<'a>(self, variable: impl Fn(&str) -> Option<&'a str>) -> Self {
        const DELAY: i64 = 2;
        let number = |name: &str| variable(name).and_then(|text| text.parse::<i64>().ok()).filter(|n| *n > 0);
        let positive = |own: Option<i64>| own.filter(|n| *n > 0);
        let mut all = Self {
            max_attempts: positive(self.max_attempts).or_else(|| number("AWS_MAX_ATTEMPTS")),
            delay_seconds: positive(self.delay_seconds).or_else(|| number("AWS_POLL_DELAY_SECONDS")),
        };
        if all.max_attempts.is_none()
            && let Some(whole) = number("AWS_TIMEOUT_SECONDS")
        {
            all.max_attempts = Some((whole / all.delay_seconds.unwrap_or(DELAY)).max(1));
        }
        if all.max_attempts.is_some() {
            all.delay_seconds = all.delay_seconds.or(Some(DELAY));
        }
        all
    }

    /// How long to pause.
    pub fn delay(&self) -> Option<Duration> {
        self.delay_seconds.filter(|n| *n > 0).map(|n| Duration::from_secs(n.unsigned_abs()))
    }
}

impl AccessConfig {
    /// The options by which a later process enters the account, without secrets: keys that are the template's own it has to find
    /// in its environment. What a [`Resource`](crate::Resource) in a region of the account is configured with.
    pub fn for_recovery(&self, region: &str) -> Json {
        let mut open = self.clone();
        open.access_key = String::new();
        open.secret_key = Secret::default();
        open.token = Secret::default();
        open.mfa_code = String::new();
        open.region = region.to_owned();
        let written = config::to_value(&open).and_then(|value| value.to_json().ok());
        written.unwrap_or_else(|| json!({ "region": region }))
    }

    /// A region, with whatever credentials are found.
    pub fn in_region(region: impl Into<String>) -> Self {
        Self { region: region.into(), ..Self::default() }
    }

    /// The same for one call that somebody waits for: it tells by itself whether the credentials are good.
    #[cfg(any(feature = "docker-ecr", feature = "functions-aws"))]
    pub(crate) fn for_one_call(mut self) -> Self {
        self.skip_credential_validation = true;
        self.max_retries = 3;
        self
    }

    /// Opens the account: finds region and credentials and asks AWS whether they are good, unless
    /// `skip_credential_validation` is set. Builds of a run with the same options share one session.
    ///
    /// # Errors
    /// Where there are no credentials or no region, or AWS does not know them.
    pub async fn session(&self, cx: &Context) -> Result<Arc<Session>> {
        let opening = cx.of_run::<Sessions>().of(self);
        let open = opening.get_or_try_init(|| async {
            let mut lent = lent(cx.host());
            lent.secrets = cx.secrets().clone();
            Box::pin(Session::open(lent, self.clone(), None)).await
        });
        cx.until_cancelled(open).await.cloned()
    }

    /// Fetches the keys of `vault_aws_engine`, as Packer does when a template is checked; they serve the build too. Without that
    /// block nobody is asked.
    pub async fn check_vault(&self, cx: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        if let Some(engine) = &self.vault_aws_engine
            && let Err(error) = Box::pin(self.leased.fetch(&lent(&cx.host), engine)).await
        {
            found.push(Diagnostic::error(error));
        }
        found
    }

    /// Checks what can be checked without asking anybody; see also [`check_vault`](Self::check_vault).
    pub fn check(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        if self.access_key.is_empty() != self.secret_key.is_empty() {
            found.push(Diagnostic::error(ONE_KEY));
        }
        if self.vault_aws_engine.is_some() && !(self.access_key.is_empty() && self.secret_key.is_empty()) {
            found.push(Diagnostic::error(
                "If you have set vault_aws_engine, you must not set the access_key or secret_key.",
            ));
        }
        found
    }
}

impl Sessions {
    fn of(&self, options: &AccessConfig) -> Opening {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = all.iter().find(|(known, _)| known == options) {
            return known.clone();
        }
        let opening = Opening::default();
        all.push((options.clone(), opening.clone()));
        opening
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_options_say_of_waits_comes_before_the_variables() {
        let over = |own: [i64; 2], variables: &[(&str, &str)]| {
            let options = Polling { max_attempts: Some(own[0]), delay_seconds: Some(own[1]) };
            let found = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
            let all = options.over(found);
            (all.attempts(), all.delay().map(|delay| delay.as_secs()))
        };
        let (attempts, delay, whole) = ("AWS_MAX_ATTEMPTS", "AWS_POLL_DELAY_SECONDS", "AWS_TIMEOUT_SECONDS");
        assert_eq!(over([0, 0], &[]), (None, None));
        assert_eq!(over([0, 0], &[(delay, "7")]), (None, Some(7)));
        assert_eq!(over([0, 0], &[(attempts, "9")]), (Some(9), Some(2)));
        assert_eq!(over([3, 1], &[(attempts, "9"), (delay, "7")]), (Some(3), Some(1)));
        assert_eq!(over([0, 0], &[(whole, "60"), (delay, "5")]), (Some(12), Some(5)));
        assert_eq!(over([4, 0], &[(whole, "60")]), (Some(4), Some(2)));
        assert_eq!(over([0, 0], &[(attempts, "many"), (delay, "-1")]), (None, None));
    }

    #[test]
    fn keys_are_a_pair_and_vault_has_its_own() {
        let cx = PrepareContext::default();
        let said = |options: &AccessConfig| options.check(&cx).iter().count();
        let mut options = AccessConfig::in_region("r");
        assert_eq!(said(&options), 0);
        options.access_key = "A".into();
        assert_eq!(said(&options), 1);
        options.secret_key = "B".into();
        assert_eq!(said(&options), 0);
        options.vault_aws_engine = Some(VaultAwsEngine::default());
        assert_eq!(said(&options), 1);
    }
}
