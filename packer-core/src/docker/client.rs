//! The connection to an engine, and what its errors mean.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error as EngineError;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};

use super::endpoint::{self, Endpoint};
use super::ssh::Dialer;
use super::tls::Connector;
use crate::context::Host;
use crate::error::{Error, Fault, Result};

/// How long an engine may take to answer the first question.
const GREETING: Duration = Duration::from_secs(60);

/// How many seconds a request may take until its answer begins. Committing or uploading a large container takes long;
/// a cancelled build does not wait for it.
const ANSWER: u64 = 24 * 60 * 60;

/// A Docker engine, or Podman's compatible service. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    api: Docker,
    endpoint: Arc<Endpoint>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.endpoint)
    }
}

impl Client {
    /// Connects to the engine that the host's `DOCKER_HOST` (`unix:`, `tcp:`, `ssh:`, `npipe:`), `DOCKER_CONTEXT` or
    /// current context names, else to the one behind the usual socket; TLS as `DOCKER_TLS_VERIFY` and
    /// `DOCKER_CERT_PATH` say, where `ca.pem` alone is believed. Agrees with it on a version of the API.
    ///
    /// # Errors
    /// Where there is no engine, or none that may be used; the message says where it was looked for.
    pub async fn connect(host: &Host) -> Result<Self> {
        Self::open(host, endpoint::find(host)?).await
    }

    /// Connects to the engine at an address that an earlier connection had.
    pub(super) async fn connect_to(host: &Host, address: &str, certificates: Option<&str>) -> Result<Self> {
        let certificates = certificates.map(Into::into);
        Self::open(host, Endpoint { address: address.to_owned(), certificates }).await
    }

    async fn open(host: &Host, endpoint: Endpoint) -> Result<Self> {
        let endpoint = Arc::new(endpoint);
        let api = open(&endpoint, host)?;
        let greeting = tokio::time::timeout(GREETING, api.negotiate_version()).await;
        let api = match greeting {
            Ok(Ok(api)) => api,
            Ok(Err(e)) => return Err(unreachable(&endpoint, &e)),
            Err(_) => {
                let text = format!("the Docker engine at {endpoint} did not answer for {GREETING:?}");
                return Err(Error::network(text));
            }
        };
        Ok(Self { api, endpoint })
    }

    /// The engine's API itself, whose types are those of the crate `bollard`.
    pub fn api(&self) -> &Docker {
        &self.api
    }

    /// Where the engine is: the value of `DOCKER_HOST` that leads there.
    pub fn address(&self) -> &str {
        &self.endpoint.address
    }

    /// Where the certificates are that secure the way to it.
    pub(super) fn certificates(&self) -> Option<&Path> {
        self.endpoint.certificates.as_deref()
    }

    /// Waits for an answer; its error gets words in front.
    pub async fn ask<T>(
        &self,
        what: impl fmt::Display,
        answer: impl Future<Output = std::result::Result<T, EngineError>>,
    ) -> Result<T> {
        answer.await.map_err(|e| self.error(what, &e))
    }

    /// The same where the thing asked about may not be there: `None`.
    pub async fn find<T>(
        &self,
        what: impl fmt::Display,
        answer: impl Future<Output = std::result::Result<T, EngineError>>,
    ) -> Result<Option<T>> {
        match answer.await {
            Ok(found) => Ok(Some(found)),
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(e) => Err(self.error(what, &e)),
        }
    }

    /// An error of the engine's as one of ours: `WHAT: MESSAGE`, with whose fault it looks like.
    pub fn error(&self, what: impl fmt::Display, error: &EngineError) -> Error {
        match error {
            EngineError::DockerResponseServerError { status_code, message } => {
                let message = message.trim();
                match (*status_code, fault_of(message)) {
                    (_, Some(fault)) => with_fault(fault, message),
                    (400 | 401 | 403 | 404, None) => Error::user(message),
                    _ => Error::provider(message),
                }
            }
            EngineError::DockerStreamError { error } => {
                with_fault(fault_of(error).unwrap_or(Fault::Provider), error.trim())
            }
            EngineError::JsonDataError { .. } | EngineError::APIVersionParseError {} => {
                Error::provider(format!("the engine's answer was not understood: {error}"))
            }
            other => unreachable(&self.endpoint, other),
        }
        .context(what)
    }
}

fn with_fault(fault: Fault, message: &str) -> Error {
    let error = Error::new(fault, message);
    if fault == Fault::Network { error.retryable() } else { error }
}

/// What the text of an engine's error tells about whose fault it is.
fn fault_of(message: &str) -> Option<Fault> {
    let has = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    if has(&["no space left on device", "disk quota exceeded", "toomanyrequests"]) {
        Some(Fault::Quota)
    } else if has(&[
        "connection refused",
        "connection reset",
        "i/o timeout",
        "no such host",
        "unexpected EOF",
        "TLS handshake",
        "Client.Timeout",
        "server misbehaving",
        "503 Service Unavailable",
        "502 Bad Gateway",
    ]) || message.ends_with(": EOF")
    {
        Some(Fault::Network)
    } else if has(&[
        "unauthorized",
        "denied",
        "no basic auth credentials",
        "manifest unknown",
        "not found",
        "name unknown",
    ]) {
        Some(Fault::User)
    } else {
        None
    }
}

fn open(endpoint: &Endpoint, host: &Host) -> Result<Docker> {
    let address = endpoint.address.as_str();
    let scheme = address.split_once("://").map_or("", |(scheme, _)| scheme);
    match (scheme, &endpoint.certificates) {
        ("ssh", _) => {
            let dialer = Arc::new(Dialer::new(address, host)?);
            let transport = move |request: BollardRequest| dialer.clone().request(request);
            Docker::connect_with_custom_transport(transport, Some("http://docker"), ANSWER, API_DEFAULT_VERSION)
        }
        ("tcp" | "http" | "https", Some(folder)) => {
            let connector = Connector::new(address, folder);
            let connector = connector.map_err(|e| e.context(format!("cannot reach the Docker engine at {endpoint}")))?;
            let connector = Arc::new(connector);
            let transport = move |request: BollardRequest| connector.clone().request(request);
            Docker::connect_with_custom_transport(transport, Some("http://docker"), ANSWER, API_DEFAULT_VERSION)
        }
        ("tcp" | "http", None) => Docker::connect_with_http(address, ANSWER, API_DEFAULT_VERSION),
        #[cfg(unix)]
        ("unix", _) => Docker::connect_with_unix(address, ANSWER, API_DEFAULT_VERSION),
        #[cfg(windows)]
        ("npipe", _) => Docker::connect_with_named_pipe(address, ANSWER, API_DEFAULT_VERSION),
        _ => {
            return Err(Error::user(format!(
                "DOCKER_HOST {address:?}: an engine is reached by unix:// (npipe:// on Windows), tcp:// or ssh://"
            )));
        }
    }
    .map_err(|e| unreachable(endpoint, &e))
}

/// The engine could not be reached, or went away.
fn unreachable(endpoint: &Endpoint, error: &EngineError) -> Error {
    let mut reasons = vec![error.to_string()];
    let mut permission = false;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(inner) = cause {
        let io = inner.downcast_ref::<std::io::Error>();
        permission |= io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied);
        reasons.push(inner.to_string());
        cause = inner.source();
    }
    // The innermost says what happened, the outer ones only that something did.
    let reason = reasons.pop().unwrap_or_default();
    let reason = reason.split(" (os error").next().unwrap_or_default().trim_end();
    let text = format!("cannot reach the Docker engine at {endpoint}: {reason}");
    match error {
        _ if permission => Error::user(format!("{text}; may this user use it?")),
        EngineError::SocketNotFoundError(_) => {
            let text = format!("cannot reach the Docker engine at {endpoint}: there is no such socket");
            Error::new(
                Fault::Network,
                format!("{text}. Is the engine running? DOCKER_HOST says where it is."),
            )
        }
        _ => Error::network(text),
    }
}
