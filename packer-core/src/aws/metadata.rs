//! What a machine of EC2 knows of itself: the service at 169.254.169.254, and the one of containers beside it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, StatusCode, redirect};
use serde_json::Value as Json;

use super::Credentials;
use super::profiles::Settings;
use crate::kit::http::{body, failure, variable};
use crate::language::functions::Capabilities;

/// How long the machine's own service may take: where there is none nobody answers, or packets go nowhere.
const LIMIT: Duration = Duration::from_secs(2);

/// How long it may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// How often it is asked where it fails.
const TRIES: u32 = 3;

/// For how long a token is asked for, and used.
const TOKEN_SECONDS: &str = "21600";
const TOKEN_USE: Duration = Duration::from_secs(5 * 60 * 60);

/// The service of the machine.
pub(super) struct Metadata {
    client: Client,
    /// Where it is; `None` where nobody may ask.
    base: Option<String>,
    /// A machine may be made so that nobody is answered without a token.
    token: tokio::sync::Mutex<Option<(String, Instant)>>,
    /// Nobody answered.
    absent: AtomicBool,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// This is no machine of EC2, or its service is turned off.
    Nobody(String),
    /// It knows nothing of that.
    Nothing,
    /// It fails.
    Failed(String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody(why) => write!(f, "there is no instance metadata: {why}"),
            Self::Nothing => f.write_str("the instance metadata has no such entry"),
            Self::Failed(why) => write!(f, "reading the instance metadata: {why}"),
        }
    }
}

impl Metadata {
    /// Asks nobody yet.
    pub(super) fn new(cx: &Capabilities, settings: &Settings) -> Result<Self, String> {
        let off =
            variable(cx, "AWS_EC2_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let setting = |name: &str, setting: &str| {
            variable(cx, name)
                .or_else(|| settings.get(setting).map(String::as_str))
                .unwrap_or_default()
                .to_owned()
        };
        let own = setting("AWS_EC2_METADATA_SERVICE_ENDPOINT", "ec2_metadata_service_endpoint");
        let mode = setting("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ec2_metadata_service_endpoint_mode");
        let base = match own.trim_end_matches('/') {
            "" if mode.eq_ignore_ascii_case("ipv6") => "http://[fd00:ec2::254]",
            "" => "http://169.254.169.254",
            own => own,
        };
        // It is beside this computer: no proxy leads there, and no certificate is looked at.
        let client = Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .connect_timeout(CONNECT_LIMIT)
            .timeout(LIMIT)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|e| failure(&e))?;
        Ok(Self {
            client,
            base: (!off).then(|| base.to_owned()),
            token: tokio::sync::Mutex::default(),
            absent: AtomicBool::new(false),
        })
    }

    /// What stands at a path behind `/latest/`.
    pub(super) async fn get(&self, path: &str) -> Result<String, Unanswered> {
        let Some(base) = &self.base else {
            return Err(Unanswered::Nobody("AWS_EC2_METADATA_DISABLED is true".to_owned()));
        };
        if self.absent.load(Ordering::Relaxed) {
            return Err(Unanswered::Nobody(format!("{base} does not answer")));
        }
        let mut request = self.client.get(format!("{base}/latest/{path}"));
        if let Some(token) = self.token(base).await? {
            request = request.header("x-aws-ec2-metadata-token", token);
        }
        text(self.send(request).await?)
    }

    /// A token; none where the service is one of the old kind, which knows no tokens.
    async fn token(&self, base: &str) -> Result<Option<String>, Unanswered> {
        let mut known = self.token.lock().await;
        if let Some((token, since)) = &*known
            && since.elapsed() < TOKEN_USE
        {
            return Ok(Some(token.clone()));
        }
        let request = self.client.request(Method::PUT, format!("{base}/latest/api/token"));
        let request = request
            .header("content-length", "0")
            .header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
        let (status, body) = self.send(request).await?;
        if matches!(status.as_u16(), 403..=405) {
            return Ok(None);
        }
        let token = text((status, body))?;
        *known = Some((token.clone(), Instant::now()));
        Ok(Some(token))
    }

    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), Unanswered> {
        send(request, |error| {
            self.absent.store(true, Ordering::Relaxed);
            Unanswered::Nobody(failure(error))
        })
        .await
    }

    /// The credentials of the machine's role; `None` where it has none, or this is no machine of EC2.
    pub(super) async fn credentials(&self) -> Result<Option<Credentials>, String> {
        const ROLE: &str = "meta-data/iam/security-credentials/";
        let asked = async {
            let roles = self.get(ROLE).await?;
            let role = roles.lines().next().unwrap_or_default().trim();
            if role.is_empty() { Err(Unanswered::Nothing) } else { self.get(&format!("{ROLE}{role}")).await }
        };
        let document = match asked.await {
            Ok(document) => document,
            Err(Unanswered::Nobody(_) | Unanswered::Nothing) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let answer: Json = serde_json::from_str(&document).unwrap_or_default();
        let found = Credentials::from_json(&answer);
        let text = |name: &str| answer.get(name).and_then(Json::as_str).unwrap_or_default();
        found.map(Some).ok_or_else(|| match text("Code") {
            "" => "the instance metadata has no credentials for the machine's role".to_owned(),
            code => format!("the instance metadata has no credentials: {code}: {}", text("Message")),
        })
    }

    /// The credentials that a container is given at an address; `far` is the client for one that is not beside this computer.
    pub(super) async fn container(
        &self,
        cx: &Capabilities,
        far: &Client,
    ) -> Result<Option<Credentials>, String> {
        const HERE: &str = "http://169.254.170.2";
        let address = match variable(cx, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            Some(path) => format!("{HERE}{path}"),
            None => match variable(cx, "AWS_CONTAINER_CREDENTIALS_FULL_URI") {
                Some(address) => address.to_owned(),
                None => return Ok(None),
            },
        };
        let wrong = |why: &str| format!("AWS_CONTAINER_CREDENTIALS_FULL_URI {address:?} {why}");
        let url = reqwest::Url::parse(&address).map_err(|e| wrong(&format!("is malformed: {e}")))?;
        let client = match url.scheme() {
            "https" => far,
            _ if is_beside(&url) => &self.client,
            _ => return Err(wrong("is neither HTTPS nor on this computer")),
        };
        let mut request = client.get(url).timeout(LIMIT);
        let token = match variable(cx, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(file) => Some(String::from_utf8_lossy(&crate::kit::http::read(cx, file)?).trim().to_owned()),
            None => variable(cx, "AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned),
        };
        if let Some(token) = token {
            super::credentials::learn(&cx.secrets, &token);
            request = request.header("authorization", token);
        }
        let answer = send(request, |error| Unanswered::Failed(failure(error))).await.and_then(text);
        let answer = answer.map_err(|e| match e {
            Unanswered::Failed(why) => format!("asking the container's service for credentials: {why}"),
            _ => "the container's service has no credentials".to_owned(),
        })?;
        let answer: Json = serde_json::from_str(&answer).unwrap_or_default();
        let found = Credentials::from_json(&answer);
        found.map(Some).ok_or_else(|| format!("{address} answers without credentials"))
    }
}

/// Whether an address without encryption is one that no network is between: this computer's, or those at which containers are
/// given credentials.
fn is_beside(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => {
            address.is_loopback() || matches!(host, "169.254.170.2" | "169.254.170.23" | "fd00:ec2::23")
        }
        Err(_) => host == "localhost",
    }
}

/// Sends a request, again where the service fails; `gone` says what it means that nobody answers at all.
async fn send(
    request: RequestBuilder,
    gone: impl Fn(&reqwest::Error) -> Unanswered,
) -> Result<(StatusCode, Vec<u8>), Unanswered> {
    let mut left = TRIES;
    loop {
        left -= 1;
        let this =
            request.try_clone().ok_or_else(|| Unanswered::Failed("it cannot be sent twice".to_owned()))?;
        let failed = match this.send().await {
            Ok(response) => {
                let status = response.status();
                match body(response).await {
                    Ok(body) if !status.is_server_error() => return Ok((status, body)),
                    Ok(_) => Unanswered::Failed(status.to_string()),
                    Err((why, _)) => Unanswered::Failed(why),
                }
            }
            // It is too near to come back soon, or to be silent twice.
            Err(error) if error.is_connect() && !error.is_timeout() || error.is_builder() => {
                return Err(gone(&error));
            }
            Err(error) if error.is_timeout() && left < TRIES - 1 => return Err(gone(&error)),
            Err(error) => Unanswered::Failed(failure(&error)),
        };
        if left == 0 {
            return Err(failed);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn text((status, body): (StatusCode, Vec<u8>)) -> Result<String, Unanswered> {
    match status {
        StatusCode::NOT_FOUND => Err(Unanswered::Nothing),
        status if !status.is_success() => Err(Unanswered::Failed(status.to_string())),
        _ => String::from_utf8(body).map_err(|_| Unanswered::Failed("it is no text".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_encryption_only_neighbours_are_asked() {
        let beside = |text: &str| is_beside(&reqwest::Url::parse(text).unwrap());
        for near in [
            "http://127.0.0.1:1/x",
            "http://[::1]/",
            "http://localhost/",
            "http://169.254.170.23/v1",
            "http://[fd00:ec2::23]/",
        ] {
            assert!(beside(near), "{near}");
        }
        for far in ["http://10.0.0.1/", "http://localhost.evil.com/", "http://169.254.169.254/"] {
            assert!(!beside(far), "{far}");
        }
    }
}
