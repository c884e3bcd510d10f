//! The connection to an engine, and what its errors mean.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bollard::errors::Error as EngineError;
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};

use super::endpoint::{self, Endpoint};
use super::way::{Meter, Way};
use crate::context::Host;
use crate::error::{Error, Fault, Result};
use crate::secrets::first_lines;

/// How long an engine may take to answer the first question.
const GREETING: Duration = Duration::from_secs(60);

/// How many seconds a request may take until its answer begins. Committing or uploading a large container takes long;
/// a cancelled build does not wait for it.
const ANSWER: u64 = 24 * 60 * 60;

/// A Docker engine, or Podman's compatible service. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    api: Docker,
    way: Arc<Way>,
    endpoint: Arc<Endpoint>,
    /// Whether it was said that credentials cannot be found.
    pub(super) warned: Arc<AtomicBool>,
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
        let way = Arc::new(Way::to(&endpoint, host)?);
        let api = docker(&way, API_DEFAULT_VERSION, Meter::of_an_answer);
        let api = api.map_err(|e| unreachable(&endpoint, &e))?;
        let greeting = tokio::time::timeout(GREETING, api.negotiate_version()).await;
        let api = match greeting {
            Ok(Ok(api)) => api,
            Ok(Err(e)) => return Err(unreachable(&endpoint, &e)),
            Err(_) => {
                let text = format!("the Docker engine at {endpoint} did not answer for {GREETING:?}");
                return Err(Error::network(text));
            }
        };
        Ok(Self { api, way, endpoint, warned: Arc::default() })
    }

    /// The engine's API itself, whose types are those of the crate `bollard`. An answer of more than 64 MiB is an error;
    /// longer ones, and those without an end, [`in_pieces`](Self::in_pieces) takes.
    pub fn api(&self) -> &Docker {
        &self.api
    }

    /// The engine's API for one request whose answer is a stream of any length; whoever reads it gives each item to
    /// [`Pieces::take`]. An item of more than 4 MiB is an error.
    ///
    /// # Errors
    /// Where the crate `bollard` does not take the way to the engine; it takes every one that this client has connected on.
    pub fn in_pieces(&self) -> Result<(Docker, Pieces)> {
        let meter = Meter::of_pieces();
        let counting = meter.clone();
        let api = docker(&self.way, &self.api.client_version(), move || counting.clone());
        let api = api.map_err(|e| unreachable(&self.endpoint, &e))?;
        Ok((api, Pieces { client: self.clone(), meter }))
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
                let message = shortened(message);
                match (*status_code, fault_of(&message)) {
                    (_, Some(fault)) => with_fault(fault, &message),
                    (400 | 401 | 403 | 404, None) => Error::user(message),
                    _ => Error::provider(message),
                }
            }
            EngineError::DockerStreamError { error } => {
                let error = shortened(error);
                with_fault(fault_of(&error).unwrap_or(Fault::Provider), &error)
            }
            EngineError::JsonDataError { .. } | EngineError::APIVersionParseError {} => {
                Error::provider(format!("the engine's answer was not understood: {error}"))
            }
            other => unreachable(&self.endpoint, other),
        }
        .context(what)
    }
}

/// An answer that comes in pieces.
#[derive(Debug)]
pub struct Pieces {
    client: Client,
    meter: Meter,
}

impl Pieces {
    /// Whether more came at once than an item may have.
    pub fn exceeded(&self) -> bool {
        self.meter.excess().is_some()
    }

    /// Takes an item of the stream, or what became of it: as [`Client::error`], with the words `what` in front.
    ///
    /// # Errors
    /// Where the item is one; where more came at once than an item may have.
    pub fn take<T>(&self, what: impl fmt::Display, item: std::result::Result<T, EngineError>) -> Result<T> {
        match item {
            Ok(item) => {
                self.meter.taken();
                Ok(item)
            }
            Err(error) => Err(match self.meter.excess() {
                Some(why) => Error::provider(why).context(what),
                None => self.client.error(what, &error),
            }),
        }
    }
}

/// As much of what an engine says of a failure as is told.
pub(super) fn shortened(message: &str) -> String {
    const MOST: usize = 16 << 10;
    first_lines(message.trim(), MOST).trim().to_owned()
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

/// The API over a way on which each request has a meter.
fn docker(
    way: &Arc<Way>,
    version: &ClientVersion,
    meter: impl Fn() -> Meter + Send + Sync + 'static,
) -> std::result::Result<Docker, EngineError> {
    let way = way.clone();
    let transport = move |request: BollardRequest| way.clone().request(request, meter());
    Docker::connect_with_custom_transport(transport, Some("http://docker"), ANSWER, version)
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
