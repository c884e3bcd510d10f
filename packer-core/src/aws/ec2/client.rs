//! Amazon's client on the HTTP client that all of AWS's services share here.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::http::{HttpRequest, HttpResponse};
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::{
    BehaviorVersion, Config, Credentials, IdentityCache, ProvideCredentials, Region,
    StalledStreamProtectionConfig,
};
use aws_sdk_ec2::error::ConnectorError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;

use crate::aws::{Service, Session};

/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The longest answer, in bytes: the list of all public images has some dozens of megabytes.
const LONGEST_ANSWER: usize = 256 << 20;

/// The client of a session.
pub(super) fn make(session: &Arc<Session>) -> Client {
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(session.region().to_owned()))
        .credentials_provider(Lent(session.clone()))
        // The session keeps them.
        .identity_cache(IdentityCache::no_cache())
        .http_client(Web(session.http().clone()))
        // What is made again, and how long, `Ec2::ask` knows; an answer is as long as its limit lets it be.
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    let own = session.custom_endpoint_ec2().map(str::to_owned);
    if let Some(address) = own.or_else(|| session.endpoint(Service::EC2)) {
        config = config.endpoint_url(address);
    }
    Client::from_conf(config.build())
}

/// A session's credentials.
#[derive(Debug)]
struct Lent(Arc<Session>);

impl ProvideCredentials for Lent {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let found = self.0.credentials().await;
            let found = found.map_err(CredentialsError::provider_error)?;
            let token = found.token.as_ref().map(|token| token.reveal().to_owned());
            Ok(Credentials::new(&found.access_key, found.secret_key.reveal(), token, None, "packer"))
        })
    }
}

#[derive(Debug, Clone)]
struct Web(reqwest::Client);

impl HttpClient for Web {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Web {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move { send(&client, request).await })
    }
}

async fn send(client: &reqwest::Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?;
    let (parts, body) = request.into_parts();
    // The calls of EC2 are forms, which are in memory.
    let body = body.bytes().map(<[u8]>::to_vec).unwrap_or_default();
    let request = http::Request::from_parts(parts, body);
    let mut request = reqwest::Request::try_from(request).map_err(|e| ConnectorError::user(e.into()))?;
    *request.timeout_mut() = Some(LIMIT);
    let failed = |e: reqwest::Error| match e.is_timeout() {
        true => ConnectorError::timeout(crate::kit::http::failure(&e).into()),
        false => ConnectorError::io(crate::kit::http::failure(&e).into()),
    };
    let response = client.execute(request).await.map_err(failed)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = crate::kit::http::body_of(response, LONGEST_ANSWER).await;
    let body = body.map_err(|(message, _)| ConnectorError::io(message.into()))?;
    let mut made = http::Response::new(SdkBody::from(body));
    *made.status_mut() = status;
    *made.headers_mut() = headers;
    HttpResponse::try_from(made).map_err(|e| ConnectorError::user(e.into()))
}
