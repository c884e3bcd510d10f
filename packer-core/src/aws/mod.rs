//! Requests to AWS in its JSON protocol, signed.
//!
//! Credentials are found as AWS's own tools find them (variables, profiles, SSO, web identity, `credential_process`, the
//! container, the machine), with the variables, files and home folder that the host lends and nothing else.

use std::borrow::Cow;
use std::time::Duration;

use http::request::Parts;
use ini::Ini;
use reqsign_aws_v4::{
    AssumeRoleCredentialProvider, Credential, DefaultCredentialProvider, ProfileCredentialProvider,
    RequestSigner,
};
use reqsign_core::{CommandExecute, CommandOutput, Context, FileRead, HttpSend, Signer, StaticEnv};
use reqwest::{Client, Request};
use serde_json::Value as Json;

use crate::kit::http::{Options, Server, read as read_file, send, switch, variable};
use crate::kit::shell::process;
use crate::language::functions::Capabilities;

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(30);

/// How long the machine's or the container's own service of credentials may take: where there is none nobody answers.
const LOCAL_LIMIT: Duration = Duration::from_secs(2);

/// How often a request is sent again where the service or the way to it fails.
const RETRIES: u32 = 2;

/// A request to one of AWS's services.
pub(crate) struct Call {
    /// What the signature is for.
    pub(crate) service: &'static str,
    /// The operation, as the header `X-Amz-Target` names it.
    pub(crate) target: &'static str,
    pub(crate) region: String,
    /// Where the service is.
    pub(crate) address: String,
    pub(crate) body: Json,
}

/// Who asks: the profile in use and what the host lends.
pub(crate) struct Account<'a> {
    cx: &'a Capabilities,
    profile: Profile,
}

impl<'a> Account<'a> {
    pub(crate) fn of(cx: &'a Capabilities) -> Self {
        Self { cx, profile: Profile::of(cx) }
    }

    /// The answer to a request; where the service refuses, what it says.
    pub(crate) async fn ask(&self, call: Call) -> Result<Json, String> {
        let cx = self.cx;
        let options = Options { ca_file: variable(cx, "AWS_CA_BUNDLE"), limit: LIMIT, ..Options::default() };
        let server = Server::new(cx, &call.address, &options)?;
        let request = server
            .client()
            .post(call.address.trim_end_matches('/').to_owned() + "/")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", call.target)
            .body(call.body.to_string());
        let request = request.build().map_err(|e| crate::kit::http::failure(&e))?;
        let signed = self.sign(server.client(), call.service, &call.region, request).await?;
        let request = reqwest::RequestBuilder::from_parts(server.client().clone(), signed);
        let (status, body) = send(request, RETRIES).await?;
        let answer: Json = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() { Ok(answer) } else { Err(refused(&status.to_string(), &answer)) }
    }

    /// The region of the variables, of the profile, or of the ARN that `name` may be.
    #[cfg(feature = "functions-aws")]
    pub(crate) fn region(&self, name: &str) -> Result<String, String> {
        let of_arn = || name.strip_prefix("arn:")?.split(':').nth(2).filter(|region| !region.is_empty());
        let region = variable(self.cx, "AWS_REGION")
            .or_else(|| variable(self.cx, "AWS_DEFAULT_REGION"))
            .or_else(|| self.profile.setting("region"))
            .or_else(of_arn)
            .ok_or("the region of AWS is not known: set the variable AWS_REGION")?;
        let plain = region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if plain { Ok(region.to_owned()) } else { Err(format!("{region:?} is no region of AWS")) }
    }

    /// Where the variables (`own` is the service's) or the profile say that the service is, instead of at Amazon.
    pub(crate) fn endpoint(&self, own: &str) -> Result<Option<String>, String> {
        let own = variable(self.cx, own)
            .or_else(|| variable(self.cx, "AWS_ENDPOINT_URL"))
            .or_else(|| self.profile.setting("endpoint_url"));
        let ignored = switch(self.cx, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")?.unwrap_or(false);
        Ok(own.filter(|_| !ignored).map(str::to_owned))
    }

    /// Adds the signature to a request.
    async fn sign(
        &self,
        client: &Client,
        service: &'static str,
        region: &str,
        mut request: Request,
    ) -> Result<Request, String> {
        let cx = self.cx;
        let context = Context::new()
            .with_file_read(Lent(cx.clone()))
            .with_http_send(Metadata(client.clone()))
            .with_command_execute(Lent(cx.clone()))
            .with_env(StaticEnv {
                home_dir: cx.home.clone(),
                envs: cx.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            });
        let signer = match self.profile.role(&context) {
            Some(role) => Signer::new(context, role, RequestSigner::new(service, region)),
            None => {
                let provider = DefaultCredentialProvider::new();
                Signer::new(context, provider, RequestSigner::new(service, region))
            }
        };
        let body = request.body().and_then(|b| b.as_bytes()).unwrap_or_default();
        let hash: String =
            <sha2::Sha256 as sha2::Digest>::digest(body).iter().map(|b| format!("{b:02x}")).collect();
        let mut parts: Parts = http::Request::builder()
            .method(request.method().clone())
            .uri(request.url().as_str())
            .body(())
            .map_err(|e| e.to_string())?
            .into_parts()
            .0;
        parts.headers = request.headers().clone();
        // What is signed is the content.
        parts.headers.insert("x-amz-content-sha256", hash.parse().map_err(|_| "the hash is no header")?);
        signer.sign(&mut parts, None).await.map_err(|e| match e.kind() {
            reqsign_core::ErrorKind::CredentialInvalid => {
                "no credentials of AWS are found in the variables, profiles and services that the host lends"
                    .to_owned()
            }
            _ => format!("signing the request to AWS: {e}"),
        })?;
        *request.headers_mut() = parts.headers;
        Ok(request)
    }
}

/// What the service says of a request that it refuses.
fn refused(status: &str, answer: &Json) -> String {
    let text = |name: &str| answer.get(name).and_then(Json::as_str);
    // `__type` may be a name behind a namespace.
    let kind = text("__type").map(|kind| kind.rsplit('#').next().unwrap_or(kind));
    let message = text("message").or_else(|| text("Message"));
    match (kind, message) {
        (Some(kind), Some(message)) => format!("{kind}: {message}"),
        (Some(kind), None) => kind.to_owned(),
        (None, Some(message)) => format!("{status}: {message}"),
        (None, None) => status.to_owned(),
    }
}

/// The profile that is in use, from the files of settings.
struct Profile {
    name: String,
    config: Option<Ini>,
}

impl Profile {
    fn of(cx: &Capabilities) -> Self {
        let name = variable(cx, "AWS_PROFILE").unwrap_or("default").to_owned();
        let path = variable(cx, "AWS_CONFIG_FILE").unwrap_or("~/.aws/config");
        // Where there is no such file the variables say everything.
        let text = read_file(cx, path).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let config = text.and_then(|text| Ini::load_from_str_noescape(&text).ok());
        Self { name, config }
    }

    fn setting(&self, name: &str) -> Option<&str> {
        let section = match self.name.as_str() {
            "default" => Cow::Borrowed("default"),
            other => format!("profile {other}").into(),
        };
        self.config.as_ref()?.get_from(Some(&*section), name).filter(|value| !value.is_empty())
    }

    /// The role that the profile takes on, with the keys of another profile.
    fn role(&self, context: &Context) -> Option<AssumeRoleCredentialProvider> {
        let (role, source) = (self.setting("role_arn")?, self.setting("source_profile")?);
        let region = self.setting("region").unwrap_or("us-east-1");
        let keys = ProfileCredentialProvider::new().with_profile(source);
        let signer: Signer<Credential> =
            Signer::new(context.clone(), keys, RequestSigner::new("sts", region));
        let mut provider = AssumeRoleCredentialProvider::new(role.to_owned(), signer)
            .with_role_session_name(self.setting("role_session_name").unwrap_or("packer").to_owned())
            .with_region(region.to_owned())
            .with_regional_sts_endpoint();
        if let Some(id) = self.setting("external_id") {
            provider = provider.with_external_id(id.to_owned());
        }
        Some(provider)
    }
}

/// What the host lends, for whoever looks for credentials.
#[derive(Debug)]
struct Lent(Capabilities);

impl FileRead for Lent {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        read_file(&self.0, path).map_err(reqsign_core::Error::config_invalid)
    }
}

/// How much a program that tells credentials may print, in bytes.
const LONGEST_CREDENTIALS: usize = 1 << 20;

/// A profile's `credential_process`.
impl CommandExecute for Lent {
    async fn command_execute<'a>(
        &'a self,
        program: &'a str,
        args: &'a [&'a str],
    ) -> reqsign_core::Result<CommandOutput> {
        let mut command = tokio::process::Command::new(program);
        command.args(args).env_clear().envs(self.0.env.iter()).kill_on_drop(true);
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let output = async { process::output(process::spawn(&mut command)?, LONGEST_CREDENTIALS).await };
        let output = output.await.map_err(|e| reqsign_core::Error::unexpected(format!("{program}: {e}")))?;
        Ok(CommandOutput {
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }
}

/// Requests for credentials.
#[derive(Debug)]
struct Metadata(Client);

impl HttpSend for Metadata {
    async fn http_send(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> reqsign_core::Result<http::Response<bytes::Bytes>> {
        let failed = |e: reqwest::Error| reqsign_core::Error::unexpected(crate::kit::http::failure(&e));
        let is_local = request
            .uri()
            .host()
            .is_some_and(|host| host.starts_with("169.254.") || host == "[fd00:ec2::254]");
        let mut request = Request::try_from(request).map_err(failed)?;
        if is_local {
            *request.timeout_mut() = Some(LOCAL_LIMIT);
        }
        let response = self.0.execute(request).await.map_err(failed)?;
        let (status, mut headers) = (response.status(), response.headers().clone());
        let body = crate::kit::http::body(response).await;
        let body = body.map_err(|(message, _)| reqsign_core::Error::unexpected(message))?;
        // Of what it was, there it was decoded.
        headers.remove(http::header::CONTENT_ENCODING);
        headers.remove(http::header::CONTENT_LENGTH);
        let mut made = http::Response::new(bytes::Bytes::from(body));
        *made.status_mut() = status;
        *made.headers_mut() = headers;
        Ok(made)
    }
}
