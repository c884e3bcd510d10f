//! An account and a region, as the builds of a run share them.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Client;
use serde_json::Value as Json;

use super::call::Who;
use super::credentials::learn;
use super::metadata::Metadata;
use super::profiles::{Profiles, Settings};
use super::service::is_region;
use super::{AccessConfig, Credentials, Polling, Service, ServiceError, Xml};
use crate::error::{Error, Result};
use crate::kit::http::{self, Options, switch, variable};
use crate::language::functions::Capabilities;

/// How often a call is tried unless the options say otherwise.
const ATTEMPTS: u32 = 10;

/// For how long credentials that have just been fetched are not fetched again because somebody found the ones before them
/// over.
const JUST: Duration = Duration::from_secs(5);

/// An account and a region as a build sees it. All builds of a run with the same options share one.
pub struct Session {
    pub(super) account: Arc<Account>,
    region: String,
}

/// Who calls, in whatever region.
pub(super) struct Account {
    pub(super) cx: Capabilities,
    pub(super) options: AccessConfig,
    pub(super) profiles: Profiles,
    /// The name of the profile in use, and what the files say of it.
    pub(super) profile: (String, Settings),
    pub(super) http: Client,
    pub(super) metadata: Metadata,
    /// The region of the build.
    pub(super) home: String,
    /// How many seconds AWS's clock is ahead of this one.
    pub(super) skew: AtomicI64,
    fips: bool,
    ignores_endpoints: bool,
    cached: tokio::sync::Mutex<Option<Cached>>,
    regions: Mutex<BTreeMap<String, Weak<Session>>>,
}

struct Cached {
    credentials: Credentials,
    fetched: Timestamp,
}

impl Session {
    /// Finds region and credentials, and asks AWS whether they are good unless the options say that nobody asks. `usual` is
    /// the region where neither variables nor the profile name one.
    pub(crate) async fn open(
        cx: Capabilities,
        options: AccessConfig,
        usual: Option<&str>,
    ) -> Result<Arc<Self>> {
        let account = Account::of(cx, options, usual).await?;
        let session = Arc::new(Self { region: account.home.clone(), account: Arc::new(account) });
        session.regions().insert(session.region.clone(), Arc::downgrade(&session));
        session.account.credentials().await?;
        if !session.account.options.skip_credential_validation {
            session.account.validate().await?;
        }
        Ok(session)
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The credentials as they are now. They are fetched anew before they are over.
    ///
    /// # Errors
    /// Where they are over and there are no others.
    pub async fn credentials(&self) -> Result<Credentials> {
        self.account.credentials().await
    }

    /// Other credentials: for when AWS said in the middle of a build that those of [`credentials`](Self::credentials) are
    /// over. Where there are no others they are the same.
    ///
    /// # Errors
    /// Where they cannot be fetched.
    pub async fn credentials_anew(&self) -> Result<Credentials> {
        self.account.credentials_anew(None).await
    }

    /// The same account in another region.
    pub fn in_region(self: &Arc<Self>, region: &str) -> Arc<Self> {
        if region == self.region {
            return self.clone();
        }
        let mut regions = self.regions();
        if let Some(known) = regions.get(region).and_then(Weak::upgrade) {
            return known;
        }
        let other = Arc::new(Self { account: self.account.clone(), region: region.to_owned() });
        regions.insert(region.to_owned(), Arc::downgrade(&other));
        other
    }

    /// Where variables or the profile say that a service is, instead of at Amazon.
    pub fn endpoint(&self, service: Service) -> Option<String> {
        self.account.endpoint(service)
    }

    /// Where the options say that EC2 is; only for the region of the build.
    pub fn custom_endpoint_ec2(&self) -> Option<&str> {
        let own = self.account.options.custom_endpoint_ec2.as_str();
        (!own.is_empty() && self.region == self.account.home).then_some(own)
    }

    /// Whether the addresses are those that keep to FIPS.
    pub fn uses_fips(&self) -> bool {
        self.account.fips
    }

    /// The client for requests: it knows proxies and certificates. How long one may take is each request's own.
    pub fn http(&self) -> &Client {
        &self.account.http
    }

    /// How waits ask: what the options say, else the variables.
    pub fn polling(&self) -> Polling {
        self.account.options.aws_polling.unwrap_or_default().over(|name| variable(&self.account.cx, name))
    }

    /// How often a call is tried.
    pub fn max_attempts(&self) -> u32 {
        self.account.max_attempts()
    }

    /// The options.
    pub fn options(&self) -> &AccessConfig {
        &self.account.options
    }

    /// Calls a service that speaks JSON: SSM, Secrets Manager, KMS, ECR.
    ///
    /// # Errors
    /// What AWS says, or why it cannot be asked.
    pub async fn json(
        &self,
        service: Service,
        action: &'static str,
        body: &Json,
    ) -> Result<Json, ServiceError> {
        Box::pin(self.account.json(service, &self.region, action, body)).await
    }

    /// Calls a service that takes a form and answers in XML: IAM, STS, EC2. The result is the outermost element.
    ///
    /// # Errors
    /// As for [`json`](Self::json).
    pub async fn query(
        &self,
        service: Service,
        action: &'static str,
        parameters: &[(String, String)],
    ) -> Result<Xml, ServiceError> {
        Box::pin(self.account.query(service, &self.region, action, parameters, Who::Account)).await
    }

    /// What the machine that this runs on knows of itself, where it is one of EC2: a path behind `/latest/`, such as
    /// `dynamic/instance-identity/document`.
    ///
    /// # Errors
    /// Where nobody answers, or there is nothing at the path.
    pub async fn metadata(&self, path: &str) -> Result<String> {
        self.account.metadata.get(path).await.map_err(|e| Error::provider(e.to_string()))
    }

    /// A message about missing permissions, decoded where the options want that and AWS does it.
    pub async fn decoded(&self, message: &str) -> String {
        const BEFORE: &str = "Encoded authorization failure message: ";
        let encoded = message.split_once(BEFORE).map(|(before, rest)| {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            (before, &rest[..end], &rest[end..])
        });
        let Some((before, encoded, after)) = encoded else { return message.to_owned() };
        if !self.account.options.decode_authorization_messages {
            return message.to_owned();
        }
        let parameters = [("EncodedMessage".to_owned(), encoded.to_owned())];
        let answer = self.query(Service::STS, "DecodeAuthorizationMessage", &parameters).await;
        let answer = answer.unwrap_or_default();
        match answer.text_at("DecodeAuthorizationMessageResult.DecodedMessage") {
            // It says the same in a form that Amazon can read.
            "" => message.to_owned(),
            decoded => format!("{before}Authorization failure message: {decoded}{after}"),
        }
    }

    fn regions(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Weak<Self>>> {
        self.account.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.region)
    }
}

impl Account {
    async fn of(cx: Capabilities, options: AccessConfig, usual: Option<&str>) -> Result<Self> {
        for name in [
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SECRET_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        ] {
            learn(&cx.secrets, variable(&cx, name).unwrap_or_default());
        }
        let reading = cx.clone();
        let file = options.shared_credentials_file.clone();
        let profiles = tokio::task::spawn_blocking(move || Profiles::read(&reading, &file)).await;
        let profiles = profiles.map_err(|e| Error::internal(format!("reading AWS's files: {e}")))?;
        let named = Some(options.profile.as_str()).filter(|name| !name.is_empty());
        let named = named.or_else(|| variable(&cx, "AWS_PROFILE")).map(str::to_owned);
        let name = named.clone().unwrap_or_else(|| "default".to_owned());
        let settings = match profiles.profile(&name) {
            Some(settings) => settings,
            None if named.is_some() => {
                return Err(Error::user(format!("failed to get shared config profile, {name}")));
            }
            None => Settings::default(),
        };
        let yes = |variable: &str, setting: &str| -> Result<bool> {
            let said = switch(&cx, variable).map_err(Error::user)?;
            Ok(said.unwrap_or_else(|| {
                settings.get(setting).is_some_and(|text| text.eq_ignore_ascii_case("true"))
            }))
        };
        let (fips, ignores_endpoints) = (
            yes("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")?,
            yes("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls")?,
        );
        let bundle = variable(&cx, "AWS_CA_BUNDLE").or_else(|| settings.get("ca_bundle").map(String::as_str));
        let client =
            Options { ca_file: bundle, insecure: options.insecure_skip_tls_verify, ..Options::default() };
        let http = http::client(&cx, &client).map_err(Error::user)?;
        let metadata = Metadata::new(&cx, &settings).map_err(Error::user)?;
        let home = region(&cx, &options, &settings, usual, &metadata).await?;
        Ok(Self {
            profile: (name, settings),
            http,
            metadata,
            home,
            skew: AtomicI64::new(0),
            fips,
            ignores_endpoints,
            cached: tokio::sync::Mutex::default(),
            regions: Mutex::default(),
            cx,
            options,
            profiles,
        })
    }

    /// The future has a type that says nothing of what is in it: to fetch credentials calls are made, which need credentials.
    pub(super) fn credentials(&self) -> Pin<Box<dyn Future<Output = Result<Credentials>> + Send + '_>> {
        Box::pin(async {
            let mut cached = self.cached.lock().await;
            let now = Timestamp::now();
            if let Some(known) = &*cached
                && known.credentials.are_fresh(now, known.fetched)
            {
                return Ok(known.credentials.clone());
            }
            match (self.fetch().await, &*cached) {
                (Ok(credentials), _) => {
                    *cached = Some(Cached { credentials: credentials.clone(), fetched: now });
                    Ok(credentials)
                }
                // They do for the moment.
                (Err(_), Some(old)) if old.credentials.expires.is_some_and(|end| end > now) => {
                    Ok(old.credentials.clone())
                }
                (Err(error), _) => Err(error),
            }
        })
    }

    /// Other credentials than `over`, which may have been fetched since; where nobody says which are over, than those that were
    /// not fetched just now.
    pub(super) fn credentials_anew<'a>(
        &'a self,
        over: Option<&'a Credentials>,
    ) -> Pin<Box<dyn Future<Output = Result<Credentials>> + Send + 'a>> {
        Box::pin(async move {
            let mut cached = self.cached.lock().await;
            let now = Timestamp::now();
            if let Some(known) = &*cached {
                let fetched = now.duration_since(known.fetched).unsigned_abs();
                if over.map_or(fetched < JUST, |over| *over != known.credentials) {
                    return Ok(known.credentials.clone());
                }
            }
            let credentials = self.fetch().await?;
            *cached = Some(Cached { credentials: credentials.clone(), fetched: now });
            Ok(credentials)
        })
    }

    pub(super) fn max_attempts(&self) -> u32 {
        match u32::try_from(self.options.max_retries) {
            Ok(most) if most > 0 => most,
            _ => ATTEMPTS,
        }
    }

    fn endpoint(&self, service: Service) -> Option<String> {
        if self.ignores_endpoints {
            return None;
        }
        let settings = &self.profile.1;
        let id = service.variable.trim_start_matches("AWS_ENDPOINT_URL_").to_lowercase();
        let services =
            || self.profiles.services(settings.get("services")?)?.get(&format!("{id}.endpoint_url"));
        variable(&self.cx, service.variable)
            .or_else(|| variable(&self.cx, "AWS_ENDPOINT_URL"))
            .or_else(|| services().map(String::as_str))
            .or_else(|| settings.get("endpoint_url").map(String::as_str))
            .filter(|address| !address.is_empty())
            .map(str::to_owned)
    }

    /// Where a service is asked.
    pub(super) fn address(&self, service: Service, region: &str) -> String {
        self.endpoint(service).unwrap_or_else(|| service.address(region, self.fips))
    }

    /// Asks AWS who this is.
    async fn validate(&self) -> Result<()> {
        // Vault's keys are so new that AWS may not know them everywhere yet.
        let mut tries_left = if self.options.vault_aws_engine.is_some() { 10 } else { 0 };
        let mut pause = Duration::from_millis(200);
        loop {
            let asked = self.query(Service::STS, &self.home, "GetCallerIdentity", &[], Who::Account).await;
            match asked {
                Ok(_) => return Ok(()),
                Err(error) if tries_left > 0 && error.code == "InvalidClientTokenId" => {
                    tokio::time::sleep(pause).await;
                    (tries_left, pause) = (tries_left - 1, (pause * 2).min(Duration::from_secs(30)));
                }
                Err(error) => {
                    let error = Error::from(error).context("retrieving caller identity from STS");
                    return Err(error.context("validating provider credentials"));
                }
            }
        }
    }
}

/// The region: of the options, the variables, the profile; `usual`; the machine's.
async fn region(
    cx: &Capabilities,
    options: &AccessConfig,
    settings: &Settings,
    usual: Option<&str>,
    metadata: &Metadata,
) -> Result<String> {
    let named = Some(options.region.as_str())
        .filter(|region| !region.is_empty())
        .or_else(|| variable(cx, "AWS_REGION"))
        .or_else(|| variable(cx, "AWS_DEFAULT_REGION"))
        .or_else(|| settings.get("region").map(String::as_str).filter(|region| !region.is_empty()))
        .or(usual);
    let found = match named {
        Some(named) => named.to_owned(),
        None if options.skip_metadata_api_check => String::new(),
        // Where nobody answers there is none.
        None => metadata.get("meta-data/placement/region").await.unwrap_or_default().trim().to_owned(),
    };
    match found.as_str() {
        "" => Err(Error::user("the region of AWS is not known: set `region` or the variable AWS_REGION")),
        region if is_region(region) => Ok(found),
        wrong => Err(Error::user(format!("{wrong:?} is no region of AWS"))),
    }
}
