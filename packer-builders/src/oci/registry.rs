//! A registry: what it takes and gives, with credentials, retries and a second try where a transfer broke off.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::path::Path;
use std::time::Duration;

use packer_core::docker::credentials::{self, Credentials};
use packer_core::secrets::url_without_secrets;
use packer_core::{Context, Error, Fault, Progress, Result};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::Mutex;

use super::layer::{digest_of, hex, is_digest};
use super::reference::Reference;
use crate::web::{self, Broken};

/// How many tries a request has, and how long to wait between them.
const WAITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// No manifest and no configuration is longer.
pub(super) const LONGEST_DOCUMENT: usize = 8 << 20;

const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A repository of a registry, opened for reading or for writing too.
pub(super) struct Repository {
    cx: Context,
    client: Client,
    /// `https://HOST`
    host: String,
    name: String,
    scopes: Vec<String>,
    credentials: Option<Credentials>,
    /// Why there are none, where there may be some.
    missing: Option<Error>,
    /// The header that lets in, once the registry asked for one.
    pass: Mutex<Option<HeaderValue>>,
}

impl Repository {
    /// Finds out how the registry is spoken to. Into a repository that is written to, blobs of `mount_from` may be taken.
    pub(super) async fn open(
        cx: &Context,
        reference: &Reference,
        write: bool,
        mount_from: Option<&str>,
        tls_verify: bool,
    ) -> Result<Self> {
        let server = reference.registry();
        let (credentials, problem) = credentials::find(cx.host(), server).await.into_parts();
        if let Some(problem) = &problem {
            cx.say_error(format!("Warning: Docker's configuration: {problem}"));
        }
        if let Some(found) = &credentials {
            cx.secrets().add(found.secret.reveal());
        }
        let host = reference.host();
        let build = |b: reqwest::ClientBuilder| b.danger_accept_invalid_certs(!tls_verify).build();
        let client = web::client(cx).and_then(build).map_err(|e| Error::internal(web::reason(&e)))?;
        let name = reference.repository().to_owned();
        let scope = format!("repository:{name}:{}", if write { "pull,push" } else { "pull" });
        let mount = mount_from.filter(|from| *from != name).map(|from| format!("repository:{from}:pull"));
        let scopes = [scope].into_iter().chain(mount).collect();
        let mut repository = Self {
            cx: cx.clone(),
            client,
            host: format!("https://{host}"),
            name,
            scopes,
            missing: problem.filter(|_| credentials.is_none()),
            credentials,
            pass: Mutex::new(None),
        };
        // What is on this computer needs no encryption; elsewhere only who says so goes without.
        if is_loopback(host) || !tls_verify {
            let ping = repository.client.get(format!("https://{host}/v2/")).send();
            if cx.until_cancelled(async { Ok(ping.await) }).await?.is_err() {
                repository.host = format!("http://{host}");
            }
        }
        Ok(repository)
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.host, self.name)
    }

    /// One request, let in where the registry asks, tried again where that may help. `body` makes the body anew.
    async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(header::HeaderName, String)],
        body: Option<Body<'_>>,
    ) -> Result<Response> {
        // What has been sent in part has to be begun anew, by whoever calls.
        let mut waits = if matches!(body, Some(Body::File(..))) { [].iter() } else { WAITS.iter() };
        let mut asked = false;
        loop {
            let mut request = self.client.request(method.clone(), url);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            // Only the registry itself gets to see what lets into it.
            let own = url.starts_with(&self.host);
            if let Some(pass) = self.pass.lock().await.clone().filter(|_| own) {
                request = request.header(header::AUTHORIZATION, pass);
            }
            request = match body {
                None if method == Method::POST || method == Method::PUT => {
                    request.header(header::CONTENT_LENGTH, 0)
                }
                None => request,
                Some(Body::Bytes(bytes)) => request.body(bytes.to_vec()),
                Some(Body::File(path, size)) => {
                    let file = tokio::fs::File::open(path).await.map_err(|e| Error::io("open", path, e))?;
                    let stream = tokio_util::io::ReaderStream::with_capacity(file, 256 * 1024);
                    let progress = self.cx.progress(format!("push {}", self.name), Some(size));
                    request.header(header::CONTENT_LENGTH, size).body(told(stream, progress))
                }
            };
            let sent = self.cx.until_cancelled(async { Ok(request.send().await) }).await?;
            let error = match sent {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !asked && own => {
                    asked = true;
                    self.ask_for_pass(response.headers()).await?;
                    continue;
                }
                Ok(response) if !worth_another_try(response.status()) => return Ok(response),
                Ok(response) => self.refused(response).await,
                Err(e) => {
                    let url = url_without_secrets(url);
                    Error::network(format!("{method} {url}: {}", web::reason(&e)))
                }
            };
            match waits.next() {
                Some(wait) => self.cx.sleep(*wait).await?,
                None => return Err(error),
            }
        }
    }

    /// Gets what the registry wants to see.
    async fn ask_for_pass(&self, headers: &HeaderMap) -> Result<()> {
        let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let challenges: Vec<_> = challenges.map(challenge).collect();
        let find = |scheme: &str| challenges.iter().find(|(s, _)| s.eq_ignore_ascii_case(scheme));
        let pass = if let Some((_, parameters)) = find("bearer") {
            self.token(parameters).await?
        } else if let (Some(_), Some(found)) = (find("basic"), &self.credentials) {
            let request =
                self.client.get(&self.host).basic_auth(&found.username, Some(found.secret.reveal()));
            let request = request.build().map_err(|e| Error::internal(web::reason(&e)))?;
            request.headers().get(header::AUTHORIZATION).cloned()
        } else {
            None
        };
        *self.pass.lock().await = pass;
        Ok(())
    }

    async fn token(&self, parameters: &BTreeMap<String, String>) -> Result<Option<HeaderValue>> {
        let realm = parameters.get("realm").map(String::as_str).unwrap_or_default();
        let failed = |why: String| Error::new(Fault::Network, format!("the token for {}: {why}", self.name));
        let mut url = Url::parse(realm).map_err(|e| failed(format!("{realm:?}: {e}")))?;
        let identity = self.credentials.as_ref().filter(|found| found.is_identity_token);
        let service = parameters.get("service").map(String::as_str).unwrap_or_default();
        let request = match identity {
            Some(found) => {
                let mut form = Url::parse("x:").map_err(|e| failed(e.to_string()))?;
                form.query_pairs_mut()
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", "packer")
                    .append_pair("service", service)
                    .append_pair("scope", &self.scopes.join(" "))
                    .append_pair("refresh_token", found.secret.reveal());
                let form = form.query().unwrap_or_default().to_owned();
                let kind = "application/x-www-form-urlencoded";
                self.client.post(url).header(header::CONTENT_TYPE, kind).body(form)
            }
            None => {
                url.query_pairs_mut().append_pair("service", service);
                for scope in &self.scopes {
                    url.query_pairs_mut().append_pair("scope", scope);
                }
                let request = self.client.get(url);
                match &self.credentials {
                    Some(found) => request.basic_auth(&found.username, Some(found.secret.reveal())),
                    None => request,
                }
            }
        };
        let (name, value) = packed();
        let asking = request.header(name, value).send();
        let response = self.cx.until_cancelled(async { Ok(asking.await) }).await?;
        let response = response.map_err(|e| failed(web::reason(&e)).retryable())?;
        if !response.status().is_success() {
            let status = response.status();
            let text = format!("{realm} lets nobody into {}: {status}{}", self.name, self.without());
            return Err(Error::user(text));
        }
        #[derive(serde::Deserialize)]
        struct Token {
            #[serde(alias = "access_token")]
            token: String,
        }
        let body = body_of(response, LONGEST_DOCUMENT).await?;
        // The parser's message would quote the token.
        let token: Token = serde_json::from_slice(&body).map_err(|_| failed("it is none".into()))?;
        self.cx.secrets().add(&token.token);
        let mut pass = HeaderValue::from_str(&format!("Bearer {}", token.token))
            .map_err(|_| failed("no header can hold it".into()))?;
        pass.set_sensitive(true);
        Ok(Some(pass))
    }

    /// That a refusal may come from credentials which could not be found.
    fn without(&self) -> String {
        self.missing.as_ref().map(|why| format!("; no credentials were sent: {why}")).unwrap_or_default()
    }

    /// What a refusal says.
    async fn refused(&self, response: Response) -> Error {
        let (status, url) = (response.status(), response.url().clone());
        let body = body_of(response, 64 * 1024).await.unwrap_or_default();
        let told = serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|answer| {
            let first = answer.get("errors")?.get(0)?;
            let text = |name: &str| first.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
            Some(format!(": {} ({})", text("message"), text("code")))
        });
        let message = format!(
            "{}{}: {status}{}{}",
            url.host_str().unwrap_or_default(),
            url.path(),
            told.unwrap_or_default(),
            if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                self.without()
            } else {
                String::new()
            }
        );
        let fault = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Fault::User,
            StatusCode::TOO_MANY_REQUESTS => Fault::Quota,
            _ => Fault::Provider,
        };
        let error = Error::new(fault, message);
        if worth_another_try(status) { error.retryable() } else { error }
    }

    /// A manifest or an index by tag or digest: its bytes, media type and digest.
    pub(super) async fn manifest(&self, reference: &str) -> Result<(Vec<u8>, String)> {
        let accept = [(header::ACCEPT, MANIFESTS.to_owned()), packed()];
        let response =
            self.send(Method::GET, &self.url(&format!("manifests/{reference}")), &accept, None).await?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let body = body_of(response, LONGEST_DOCUMENT).await?;
        let digest = digest_of(&body);
        if is_digest(reference) && digest != reference {
            return Err(wrong_digest(&format!("the manifest of {}", self.name), reference, &digest));
        }
        Ok((body, digest))
    }

    /// A small blob.
    pub(super) async fn document(&self, digest: &str) -> Result<Vec<u8>> {
        let url = self.url(&format!("blobs/{digest}"));
        let response = self.send(Method::GET, &url, &[packed()], None).await?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let body = body_of(response, LONGEST_DOCUMENT).await?;
        let found = digest_of(&body);
        if found == digest { Ok(body) } else { Err(wrong_digest(&self.name, digest, &found)) }
    }

    /// Copies a blob into a file; goes on where a transfer broke off. Whoever reads the file checks its digest.
    pub(super) async fn fetch(
        &self,
        digest: &str,
        size: u64,
        file: &mut tokio::fs::File,
        name: &Path,
    ) -> Result<()> {
        let mut progress = self.cx.progress(format!("pull {}", &hex(digest)[..12]), Some(size));
        let failed = |e| Error::io("write", name, e);
        let mut waits = WAITS.iter();
        let mut done = 0;
        loop {
            let error = match self.fetch_from(digest, &mut done, size, file, &mut progress).await {
                Ok(()) if done == size => return file.flush().await.map_err(failed),
                Ok(()) => Error::network(format!(
                    "{}: the registry sent {done} of {size} bytes of {digest}",
                    self.name
                )),
                Err(error) if error.is_retryable() => error,
                Err(error) => return Err(error),
            };
            match waits.next() {
                Some(wait) => self.cx.sleep(*wait).await?,
                None => return Err(error),
            }
        }
    }

    async fn fetch_from(
        &self,
        digest: &str,
        done: &mut u64,
        size: u64,
        file: &mut tokio::fs::File,
        progress: &mut Progress,
    ) -> Result<()> {
        // Its digest is that of the bytes as they are kept.
        let mut headers = vec![(header::ACCEPT_ENCODING, "identity".to_owned())];
        headers.extend((*done > 0).then(|| (header::RANGE, format!("bytes={done}-"))));
        let url = self.url(&format!("blobs/{digest}"));
        let mut response = self.send(Method::GET, &url, &headers, None).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if *done > 0 => {}
            StatusCode::OK => *done = 0,
            _ => return Err(self.refused(response).await),
        }
        let failed = |e| Error::provider(format!("write a blob: {}", packer_core::error::os_text(&e)));
        file.seek(SeekFrom::Start(*done)).await.map_err(failed)?;
        loop {
            let chunk = self.cx.until_cancelled(async { Ok(response.chunk().await) }).await?;
            let broken = |e: reqwest::Error| Error::network(format!("{url} broke off: {}", web::reason(&e)));
            let Some(chunk) = chunk.map_err(broken)? else { return Ok(()) };
            *done += chunk.len() as u64;
            if *done > size {
                return Err(Error::provider(format!(
                    "{url} is longer than the {size} bytes that it should be"
                )));
            }
            file.write_all(&chunk).await.map_err(failed)?;
            progress.set(*done);
        }
    }

    /// Makes sure that the registry has a blob: it has it, takes it from another repository of its own, or is sent it.
    pub(super) async fn push(&self, digest: &str, body: Body<'_>, mount_from: Option<&str>) -> Result<()> {
        let mut waits = WAITS.iter();
        loop {
            match (self.push_once(digest, body, mount_from).await, waits.next()) {
                (Err(error), Some(wait)) if error.is_retryable() => self.cx.sleep(*wait).await?,
                (result, _) => return result,
            }
        }
    }

    async fn push_once(&self, digest: &str, body: Body<'_>, mount_from: Option<&str>) -> Result<()> {
        let there = self.send(Method::HEAD, &self.url(&format!("blobs/{digest}")), &[], None).await?;
        if there.status().is_success() {
            return Ok(());
        }
        let mount = mount_from.map(|from| format!("?mount={digest}&from={from}")).unwrap_or_default();
        let url = self.url(&format!("blobs/uploads/{mount}"));
        let begun = self.send(Method::POST, &url, &[], None).await?;
        if begun.status() == StatusCode::CREATED && mount_from.is_some() {
            return Ok(());
        }
        if begun.status() != StatusCode::ACCEPTED {
            return Err(self.refused(begun).await);
        }
        let odd =
            |what: &str| Error::provider(format!("{url}: the registry names no place to upload to{what}"));
        let location =
            begun.headers().get(header::LOCATION).and_then(|v| v.to_str().ok()).ok_or_else(|| odd(""))?;
        let base = Url::parse(&url).map_err(|e| odd(&format!(": {e}")))?;
        let mut location = base.join(location).map_err(|e| odd(&format!(": {e}")))?;
        location.query_pairs_mut().append_pair("digest", digest);
        let kind = [(header::CONTENT_TYPE, "application/octet-stream".to_owned())];
        let done = self.send(Method::PUT, location.as_str(), &kind, Some(body)).await?;
        if done.status().is_success() { Ok(()) } else { Err(self.refused(done).await) }
    }

    /// Gives a manifest its tag.
    pub(super) async fn push_manifest(&self, tag: &str, media_type: &str, manifest: &[u8]) -> Result<()> {
        let kind = [(header::CONTENT_TYPE, media_type.to_owned())];
        let url = self.url(&format!("manifests/{tag}"));
        let done = self.send(Method::PUT, &url, &kind, Some(Body::Bytes(manifest))).await?;
        if done.status().is_success() { Ok(()) } else { Err(self.refused(done).await) }
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'a> {
    Bytes(&'a [u8]),
    /// A file and its size.
    File(&'a Path, u64),
}

/// A stream that tells how far it is.
fn told(stream: tokio_util::io::ReaderStream<tokio::fs::File>, mut progress: Progress) -> reqwest::Body {
    use futures_util::StreamExt;
    reqwest::Body::wrap_stream(stream.map(move |chunk| {
        if let Ok(chunk) = &chunk {
            progress.advance(chunk.len() as u64);
        }
        chunk
    }))
}

/// The header that lets an answer come compressed, as [`body_of`] decodes it.
fn packed() -> (header::HeaderName, String) {
    (header::ACCEPT_ENCODING, "gzip".to_owned())
}

async fn body_of(response: Response, longest: usize) -> Result<Vec<u8>> {
    // Where a redirect leads to, its query may let anybody in.
    let url = url_without_secrets(response.url().as_str()).into_owned();
    web::body(response, longest).await.map_err(|broken| match broken {
        Broken::Off(e) => Error::network(format!("{url} broke off: {}", web::reason(&e))),
        Broken::TooLong => Error::provider(format!("{url}: the answer is longer than {longest} bytes")),
        Broken::Spoilt(why) => {
            Error::provider(format!("{url}: the answer is not compressed as it says: {why}"))
        }
    })
}

pub(super) fn wrong_digest(what: &str, wanted: &str, found: &str) -> Error {
    Error::provider(format!("{what}: the content has the digest {found} and should have {wanted}"))
}

fn worth_another_try(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `SCHEME a="b",c=d`: the scheme and its parameters.
fn challenge(text: &str) -> (String, BTreeMap<String, String>) {
    let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let mut parameters = BTreeMap::new();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_lowercase();
        let mut value = String::new();
        let mut chars = after.char_indices();
        let quoted = after.starts_with('"');
        if quoted {
            chars.next();
        }
        let mut end = after.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' if quoted => {
                    end = at + 1;
                    break;
                }
                ',' if !quoted => {
                    end = at;
                    break;
                }
                '\\' if quoted => value.extend(chars.next().map(|(_, c)| c)),
                c => value.push(c),
            }
        }
        parameters.insert(name, value);
        rest = &after[end..];
    }
    (scheme.to_owned(), parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_understood() {
        let (scheme, parameters) = challenge(
            r#"Bearer realm="https://a/t?x=1,2",service="r \"1\"",scope="repository:a/b:pull,push",x=y"#,
        );
        assert_eq!(scheme, "Bearer");
        let expected = [
            ("realm", "https://a/t?x=1,2"),
            ("scope", "repository:a/b:pull,push"),
            ("service", "r \"1\""),
            ("x", "y"),
        ];
        assert!(parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected));
        assert_eq!(challenge("Basic").0, "Basic");
    }

    #[test]
    fn this_computer_is_known() {
        assert!(is_loopback("localhost:5000") && is_loopback("127.0.0.1:1") && is_loopback("[::1]:80"));
        assert!(!is_loopback("localhost.example.com") && !is_loopback("10.0.0.1:5000"));
    }
}
