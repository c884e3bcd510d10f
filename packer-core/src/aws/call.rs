//! Calls: signed, sent, and sent again where that may help.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Method, Request, Url};
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::failure::{is_clock_skew, is_transient, may_be_clock_skew};
use super::{Account, Credentials, Service, ServiceError, Xml, sign};
use crate::kit::http;

/// How long a try may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a try that sends a part of a file may take.
const UPLOAD_LIMIT: Duration = Duration::from_secs(60 * 60);

/// The longest pause before another try.
const LONGEST_PAUSE: f64 = 20.0;

/// How much the clocks may differ before AWS refuses, with room to spare.
const SKEW: Duration = Duration::from_secs(4 * 60);

/// A call of one of the services.
pub(super) struct Call<'a> {
    pub(super) service: Service,
    pub(super) action: &'static str,
    pub(super) region: &'a str,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
}

/// What a call sends.
pub(super) enum Payload {
    Text(String),
    /// A part of a file, which is read while it is sent; `sent` hears how much of it is.
    File {
        path: PathBuf,
        from: u64,
        length: u64,
        sent: std::sync::Arc<dyn Fn(u64) + Send + Sync>,
    },
}

/// Whose call it is.
pub(super) enum Who<'a> {
    /// The account's.
    Account,
    /// Of somebody with these credentials.
    These(&'a Credentials),
    /// Of nobody: it is not signed.
    Nobody,
}

/// An answer.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Account {
    /// Makes a call: again where the service or the way to it fails, and once with other credentials where they are over.
    pub(super) async fn call(&self, call: &Call<'_>, who: Who<'_>) -> Result<Answer, ServiceError> {
        let unknown = |e: crate::Error| {
            let mut error = ServiceError::new(call.service.name, call.action);
            (error.cause, error.retryable) = (Some(e.fault()), e.is_retryable());
            error.message = e.to_string();
            error
        };
        let mut credentials = match who {
            Who::Account => Some(self.credentials().await.map_err(unknown)?),
            Who::These(credentials) => Some(credentials.clone()),
            Who::Nobody => None,
        };
        let mut may_renew = matches!(who, Who::Account);
        let number = uuid::Uuid::new_v4().to_string();
        let most = self.max_attempts();
        let mut attempt = 1;
        loop {
            let mut error = match self.attempt(call, credentials.as_ref(), &number, attempt).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.is_expired() && std::mem::take(&mut may_renew) {
                let other = self.credentials_anew(credentials.as_ref()).await.map_err(unknown)?;
                if credentials.as_ref() != Some(&other) {
                    credentials = Some(other);
                    continue;
                }
            }
            if !error.retryable {
                return Err(error);
            }
            if attempt >= most {
                error.attempts = Some(attempt);
                return Err(error);
            }
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        call: &Call<'_>,
        credentials: Option<&Credentials>,
        number: &str,
        attempt: u32,
    ) -> Result<Answer, ServiceError> {
        let failed = |message: String, retryable: bool| {
            let mut error = ServiceError::new(call.service.name, call.action);
            (error.message, error.retryable) = (message, retryable);
            error
        };
        let wrong = |message: String| failed(message, false);
        let mut request = Request::new(call.method.clone(), call.url.clone());
        *request.headers_mut() = call.headers.clone();
        for (name, value) in [
            ("amz-sdk-invocation-id", number.to_owned()),
            ("amz-sdk-request", format!("attempt={attempt}; max={}", self.max_attempts())),
        ] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                request.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        let digest = match &call.payload {
            Payload::Text(text) => {
                *request.timeout_mut() = Some(LIMIT);
                *request.body_mut() = Some(Body::from(text.clone()));
                sign::digest(text.as_bytes())
            }
            Payload::File { path, from, length, sent } => {
                *request.timeout_mut() = Some(UPLOAD_LIMIT);
                request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(*length));
                let body = part_of(path, *from, *length, sent.clone()).await;
                *request.body_mut() =
                    Some(body.map_err(|e| wrong(format!("reading {}: {e}", path.display())))?);
                sign::UNSIGNED.to_owned()
            }
        };
        if let Some(credentials) = credentials {
            let (service, region) = (call.service, call.service.signing_region(call.region));
            let signed = sign::sign(&mut request, credentials, service.signing, region, self.now(), &digest);
            signed.map_err(wrong)?;
        }
        let response = self.http.execute(request).await;
        let response =
            response.map_err(|e| failed(http::failure(&e), !e.is_builder() && !e.is_redirect()))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let skew = self.skew_of(&headers);
        let body = http::body(response).await.map_err(|(message, again)| failed(message, again))?;
        if status.is_success() {
            return Ok(Answer { headers, body });
        }
        let mut error = refused(call, &headers, &body);
        error.status = Some(status.as_u16());
        if error.message.is_empty() {
            error.message = status.to_string();
        }
        let may_be_time = may_be_clock_skew(&error.code) && skew.is_some();
        if let Some(skew) = skew.filter(|_| may_be_time || is_clock_skew(&error.code)) {
            self.skew.store(skew, Ordering::Relaxed);
        }
        error.retryable = is_transient(status.as_u16(), &error.code) || may_be_time;
        Err(error)
    }

    /// The time as AWS has it.
    fn now(&self) -> Timestamp {
        let skew = jiff::SignedDuration::from_secs(self.skew.load(Ordering::Relaxed));
        Timestamp::now().checked_add(skew).unwrap_or_else(|_| Timestamp::now())
    }

    /// How many seconds AWS's clock is ahead of this one, where that differs from what is known.
    fn skew_of(&self, headers: &HeaderMap) -> Option<i64> {
        let date = headers.get(DATE)?.to_str().ok()?;
        let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
        let ahead = theirs.duration_since(self.now()).as_secs();
        let known = self.skew.load(Ordering::Relaxed);
        (ahead.unsigned_abs() > SKEW.as_secs()).then(|| known.saturating_add(ahead))
    }

    /// A call of a service that speaks JSON.
    pub(super) async fn json(
        &self,
        service: Service,
        region: &str,
        action: &'static str,
        body: &Json,
    ) -> Result<Json, ServiceError> {
        let target = format!("{}.{action}", service.api);
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1")),
            (
                HeaderName::from_static("x-amz-target"),
                HeaderValue::from_str(&target).unwrap_or_else(|_| HeaderValue::from_static("")),
            ),
        ];
        let call = self.post(service, region, action, HeaderMap::from_iter(headers), body.to_string())?;
        let answer = self.call(&call, Who::Account).await?;
        serde_json::from_slice(&answer.body).map_err(|e| unreadable(service, action, &e))
    }

    /// A call of a service that takes a form and answers in XML.
    pub(super) async fn query(
        &self,
        service: Service,
        region: &str,
        action: &'static str,
        parameters: &[(String, String)],
        who: Who<'_>,
    ) -> Result<Xml, ServiceError> {
        let mut form = format!("Action={}&Version={}", sign::escaped(action), service.api);
        for (name, value) in parameters {
            form.push_str(&format!("&{}={}", sign::escaped(name), sign::escaped(value)));
        }
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        let call = self.post(service, region, action, HeaderMap::from_iter([(CONTENT_TYPE, kind)]), form)?;
        let answer = self.call(&call, who).await?;
        Xml::parse(&answer.body).map_err(|e| unreadable(service, action, &e))
    }

    fn post<'a>(
        &self,
        service: Service,
        region: &'a str,
        action: &'static str,
        headers: HeaderMap,
        text: String,
    ) -> Result<Call<'a>, ServiceError> {
        let url = self.url(service, region, action)?;
        Ok(Call { service, action, region, method: Method::POST, url, headers, payload: Payload::Text(text) })
    }

    pub(super) fn url(
        &self,
        service: Service,
        region: &str,
        action: &'static str,
    ) -> Result<Url, ServiceError> {
        let address = self.address(service, region);
        Url::parse(&address).map_err(|e| {
            let mut error = ServiceError::new(service.name, action);
            error.message = format!("the address {address:?} is malformed: {e}");
            error
        })
    }
}

/// An answer that is none.
pub(super) fn unreadable(
    service: Service,
    action: &'static str,
    why: &impl std::fmt::Display,
) -> ServiceError {
    let mut error = ServiceError::new(service.name, action);
    error.status = Some(200);
    error.message = format!("the answer cannot be read: {why}");
    error
}

/// What an answer says of a call that is refused, in either of AWS's protocols.
fn refused(call: &Call<'_>, headers: &HeaderMap, body: &[u8]) -> ServiceError {
    let mut error = ServiceError::new(call.service.name, call.action);
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    error.request_id = ["x-amzn-requestid", "x-amz-request-id"]
        .map(header)
        .into_iter()
        .find(|id| !id.is_empty())
        .unwrap_or_default()
        .to_owned();
    if let Ok(answer) = serde_json::from_slice::<Json>(body) {
        let text = |name: &str| answer.get(name).and_then(Json::as_str).unwrap_or_default();
        let kind = [text("__type"), text("code"), header("x-amzn-errortype")];
        let kind = kind.into_iter().find(|kind| !kind.is_empty()).unwrap_or_default();
        // It may be a name behind a namespace, or before an address.
        let kind = kind.rsplit('#').next().unwrap_or(kind).split(':').next().unwrap_or(kind);
        kind.clone_into(&mut error.code);
        let message = if text("message").is_empty() { text("Message") } else { text("message") };
        message.clone_into(&mut error.message);
    } else if let Ok(answer) = Xml::parse(body) {
        let inner = answer.at("Errors.Error").or_else(|| answer.child("Error")).unwrap_or(&answer);
        inner.text_at("Code").clone_into(&mut error.code);
        inner.text_at("Message").clone_into(&mut error.message);
        if error.request_id.is_empty() {
            let ids = ["RequestId", "RequestID"].map(|name| answer.text_at(name));
            let id = ids.into_iter().find(|id| !id.is_empty()).unwrap_or_default();
            id.clone_into(&mut error.request_id);
        }
    }
    error
}

/// A part of a file as a body.
async fn part_of(
    path: &std::path::Path,
    from: u64,
    length: u64,
    sent: std::sync::Arc<dyn Fn(u64) + Send + Sync>,
) -> std::io::Result<Body> {
    use futures_util::TryStreamExt as _;
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(std::io::SeekFrom::Start(from)).await?;
    let mut done = 0;
    let pieces = ReaderStream::with_capacity(file.take(length), 256 << 10).inspect_ok(move |piece| {
        done += piece.len() as u64;
        sent(done);
    });
    Ok(Body::wrap_stream(pieces))
}

/// How long to wait before another try: a random part of a time that doubles.
fn pause(attempt: u32) -> Duration {
    let random = (uuid::Uuid::new_v4().as_u128() as u32) as f64 / f64::from(u32::MAX);
    Duration::from_secs_f64((random * 2f64.powi(attempt.min(16) as i32 - 1)).min(LONGEST_PAUSE))
}
