//! What the clients of services have in common: TLS, proxies, another try, an answer of a bounded size.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HOST, HeaderMap, HeaderValue};
use reqwest::{
    Certificate, Client, ClientBuilder, Identity, NoProxy, Proxy, RequestBuilder, Response, StatusCode, Url,
    redirect,
};

use super::Body;
use crate::language::functions::Capabilities;

/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait for another try.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The longest answer: it becomes a value of the template, so it has to be a small one.
const LONGEST_ANSWER: usize = 16 << 20;

/// Runs a request to its end on a thread of its own: functions are called from async code, and wait.
pub(crate) fn wait<T: Send, F: Future<Output = Result<T, String>>>(
    cx: &Capabilities,
    request: impl FnOnce() -> F + Send,
) -> Result<T, String> {
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|e| e.to_string())?.block_on(async {
                tokio::select! {
                    result = request() => result,
                    () = cx.cancel.cancelled() => Err("cancelled".to_owned()),
                }
            })
        });
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A variable that the host lends; an empty one is none.
pub(crate) fn variable<'a>(cx: &'a Capabilities, name: &str) -> Option<&'a str> {
    variable_of(&cx.env, name)
}

fn variable_of<'a>(env: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    env.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// Whether a variable is set to a word that means yes, or to one that means no.
pub(crate) fn switch(cx: &Capabilities, name: &str) -> Result<Option<bool>, String> {
    match variable(cx, name).map(str::to_ascii_lowercase).as_deref() {
        None => Ok(None),
        Some("1" | "t" | "true") => Ok(Some(true)),
        Some("0" | "f" | "false") => Ok(Some(false)),
        Some(_) => Err(format!("the variable {name} must be true or false")),
    }
}

/// A file that a variable names.
pub(crate) fn read(cx: &Capabilities, path: &str) -> Result<Vec<u8>, String> {
    let path = cx.cwd.join(cx.expand_home(path)?);
    cx.files.read(&path).map_err(|e| format!("{} cannot be read: {e}", path.display()))
}

/// How a server is talked to.
#[derive(Default)]
pub(crate) struct Options<'a> {
    /// A file of certificates in PEM form; the system's where there is none.
    pub(crate) ca_file: Option<&'a str>,
    /// A folder of such files.
    pub(crate) ca_folder: Option<&'a str>,
    /// Certificates themselves.
    pub(crate) ca_text: Option<&'a str>,
    /// Files of a certificate and a key to show to the server.
    pub(crate) client: Option<(&'a str, &'a str)>,
    /// Any certificate is trusted.
    pub(crate) insecure: bool,
    /// Which name the certificate must have, where it is not that of the address.
    pub(crate) server_name: Option<&'a str>,
    /// The proxy, instead of those that `HTTP_PROXY` and `HTTPS_PROXY` name.
    pub(crate) proxy: Option<&'a str>,
    /// How long a request may take; zero where each request says that itself.
    pub(crate) limit: Duration,
}

/// A server.
pub(crate) struct Server {
    client: Client,
    base: Url,
    /// The name it has in requests, where the URL has another one.
    host: Option<String>,
}

impl Server {
    /// `address` is `http://…`, `https://…` or `unix://PATH`.
    pub(crate) fn new(cx: &Capabilities, address: &str, options: &Options<'_>) -> Result<Self, String> {
        let gzip = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
        let mut builder = usual(options).default_headers(gzip);
        let mut address = address;
        if let Some(path) = address.strip_prefix("unix://") {
            builder = unix_socket(builder, path)?;
            address = "http://localhost";
        } else {
            builder = with_proxies(builder, &cx.env, options.proxy)?;
        }
        builder = with_certificates(builder, cx, options)?;
        let mut base =
            Url::parse(address).map_err(|e| format!("the address {address:?} is malformed: {e}"))?;
        let mut host = None;
        if let (Some(name), Some(real)) = (options.server_name, base.host_str().map(str::to_owned)) {
            let port = base.port_or_known_default().unwrap_or(443);
            let found = (real.trim_matches(['[', ']']), port).to_socket_addrs();
            let found: Vec<_> = found.map_err(|e| format!("{real} is not known: {e}"))?.collect();
            builder = builder.resolve_to_addrs(name, &found);
            base.set_host(Some(name)).map_err(|e| format!("the name {name:?} is malformed: {e}"))?;
            host = Some(base.port().map_or_else(|| real.clone(), |port| format!("{real}:{port}")));
        }
        let client = builder.build().map_err(|e| failure(&e))?;
        Ok(Self { client, base, host })
    }

    /// A request for a path behind that of the address. The parts of the path are escaped.
    pub(crate) fn get(&self, path: &str) -> Result<RequestBuilder, String> {
        let mut url = self.base.clone();
        {
            let mut parts = url.path_segments_mut().map_err(|()| "the address has no path".to_owned())?;
            parts.pop_if_empty();
            for part in path.split('/') {
                if matches!(part, "." | "..") {
                    return Err(format!("the path {path:?} may not hold {part:?}"));
                }
                parts.push(part);
            }
        }
        let request = self.client.get(url);
        Ok(match &self.host {
            Some(host) => request.header(HOST, host),
            None => request,
        })
    }
}

/// A client for whatever address a request names; of the options what says where is left out. It asks
/// for no compressed answers: whoever reads them may not know how.
#[cfg(feature = "aws-requests")]
pub(crate) fn client(cx: &Capabilities, options: &Options<'_>) -> Result<Client, String> {
    let builder = with_proxies(usual(options), &cx.env, options.proxy)?;
    with_certificates(builder, cx, options)?.build().map_err(|e| failure(&e))
}

fn usual(options: &Options<'_>) -> ClientBuilder {
    let builder = Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT_LIMIT)
        .redirect(downgrades_refused())
        .user_agent(concat!("packer-core/", env!("CARGO_PKG_VERSION")));
    if options.limit.is_zero() { builder } else { builder.timeout(options.limit) }
}

/// Sends a request, again where the server or the way to it fails, and reads the answer.
pub(crate) async fn send(request: RequestBuilder, retries: u32) -> Result<(StatusCode, Vec<u8>), String> {
    let mut left = retries;
    loop {
        let this = request.try_clone().ok_or("the request cannot be sent twice")?;
        let tried = once(this).await;
        let again = match &tried {
            Ok((status, _)) => {
                status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED
                    || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Err((_, again)) => *again,
        };
        if left == 0 || !again {
            return tried.map_err(|(message, _)| message);
        }
        left -= 1;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// One try; with an error whether another one may help.
async fn once(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), (String, bool)> {
    let wrong = |e: reqwest::Error| {
        let again = !e.is_builder() && !e.is_redirect();
        (failure(&e), again)
    };
    let response = request.send().await.map_err(wrong)?;
    Ok((response.status(), body(response).await?))
}

/// The body of an answer, decoded; with an error whether another try may help.
pub(crate) async fn body(response: Response) -> Result<Vec<u8>, (String, bool)> {
    body_of(response, LONGEST_ANSWER).await
}

/// The same of an answer of at most so many bytes.
pub(crate) async fn body_of(mut response: Response, longest: usize) -> Result<Vec<u8>, (String, bool)> {
    let encoding = response.headers().get(CONTENT_ENCODING).and_then(|name| name.to_str().ok());
    let mut body = Body::new(encoding, longest);
    let spoilt = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::FileTooLarge => {
            (format!("the answer is longer than {} MiB", longest >> 20), false)
        }
        _ => (format!("the answer is not compressed as it says: {e}"), true),
    };
    while let Some(chunk) = response.chunk().await.map_err(|e| (failure(&e), true))? {
        body.push(&chunk).map_err(spoilt)?;
    }
    body.finish().map_err(spoilt)
}

/// The failure in words, down to what the system said; the address is in it, no header is.
pub(crate) fn failure(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(cause) = reason.source() {
        reason = cause;
    }
    let reason = match reason.downcast_ref::<std::io::Error>() {
        Some(e) => crate::error::os_text(e),
        None => reason.to_string(),
    };
    match error.url() {
        Some(url) => {
            let host = url.host_str().unwrap_or_default();
            let port = url.port_or_known_default().unwrap_or_default();
            format!("{host}:{port}: {reason}")
        }
        None => reason,
    }
}

/// A token goes to no server that a redirect leads to without encryption.
fn downgrades_refused() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let from_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > 5 {
            attempt.error("too many redirects")
        } else if from_https && attempt.url().scheme() != "https" {
            attempt.error("the server redirects to an address without TLS")
        } else {
            attempt.follow()
        }
    })
}

#[cfg(unix)]
fn unix_socket(builder: ClientBuilder, path: &str) -> Result<ClientBuilder, String> {
    Ok(builder.unix_socket(std::path::Path::new(path)))
}

#[cfg(not(unix))]
fn unix_socket(_: ClientBuilder, path: &str) -> Result<ClientBuilder, String> {
    Err(format!("unix://{path}: this system has no such sockets"))
}

fn with_proxies(
    mut builder: ClientBuilder,
    env: &BTreeMap<String, String>,
    own: Option<&str>,
) -> Result<ClientBuilder, String> {
    let either = |name: &str| variable_of(env, name).or_else(|| variable_of(env, &name.to_lowercase()));
    // As usual, what is asked of this computer itself goes nowhere else.
    let direct = format!("localhost,127.0.0.0/8,::1,{}", either("NO_PROXY").unwrap_or_default());
    let scheme = |proxy: &str| match proxy.split_once("://") {
        // Names are looked up where the proxy is, as programs in Go do it.
        Some(("socks5", rest)) => format!("socks5h://{rest}"),
        Some(_) => proxy.to_owned(),
        None => format!("http://{proxy}"),
    };
    let wrong = |e: reqwest::Error| format!("the address of a proxy is malformed: {}", failure(&e));
    if let Some(own) = own {
        return Ok(builder.proxy(Proxy::all(scheme(own)).map_err(wrong)?));
    }
    for (name, proxy) in [("HTTP_PROXY", Proxy::http as fn(String) -> _), ("HTTPS_PROXY", Proxy::https)] {
        if let Some(address) = either(name) {
            let proxy = proxy(scheme(address)).map_err(wrong)?;
            builder = builder.proxy(proxy.no_proxy(NoProxy::from_string(&direct)));
        }
    }
    Ok(builder)
}

/// Only these certificates, in PEM form, are believed.
fn trusting_only(builder: ClientBuilder, texts: &[Vec<u8>]) -> Result<ClientBuilder, String> {
    let mut all = Vec::new();
    for text in texts {
        let found = Certificate::from_pem_bundle(text);
        all.extend(found.map_err(|e| format!("a certificate cannot be read: {}", failure(&e)))?);
    }
    Ok(builder.tls_certs_only(all))
}

/// A client for files: an answer may take as long as it goes on, and redirects lead to wherever mirrors are. The host's
/// variables name proxies, and the certificates that are believed in place of the system's (`SSL_CERT_FILE`).
#[cfg(feature = "machines")]
pub(crate) fn client_for_files(env: &BTreeMap<String, String>) -> Result<Client, String> {
    let builder = Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT_LIMIT)
        .redirect(redirect::Policy::limited(10))
        .user_agent(concat!("packer-core/", env!("CARGO_PKG_VERSION")));
    let mut builder = with_proxies(builder, env, None)?;
    if let Some(file) = variable_of(env, "SSL_CERT_FILE") {
        let text = std::fs::read(file).map_err(|e| format!("{file} cannot be read: {e}"))?;
        builder = trusting_only(builder, &[text])?;
    }
    builder.build().map_err(|e| failure(&e))
}

fn with_certificates(
    mut builder: ClientBuilder,
    cx: &Capabilities,
    options: &Options<'_>,
) -> Result<ClientBuilder, String> {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    if let Some(text) = options.ca_text {
        texts.push(text.as_bytes().to_vec());
    } else if let Some(file) = options.ca_file {
        texts.push(read(cx, file)?);
    } else if let Some(folder) = options.ca_folder {
        let path = cx.cwd.join(cx.expand_home(folder)?);
        let mut names = cx.files.list(&path).map_err(|e| format!("{folder} cannot be read: {e}"))?;
        names.sort_unstable();
        for name in names {
            texts.push(read(cx, &path.join(name).to_string_lossy())?);
        }
    }
    if !texts.is_empty() {
        builder = trusting_only(builder, &texts)?;
    }
    if let Some((certificate, key)) = options.client {
        let mut pem = read(cx, certificate)?;
        pem.push(b'\n');
        pem.extend(read(cx, key)?);
        let identity =
            Identity::from_pem(&pem).map_err(|e| format!("{certificate} and {key}: {}", failure(&e)))?;
        builder = builder.identity(identity);
    }
    if options.insecure {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers every request with a compressed text; the last request.
    async fn server(text: Vec<u8>) -> (String, Arc<std::sync::Mutex<String>>) {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&text).unwrap();
        let body = encoder.finish().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(std::sync::Mutex::new(String::new()));
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 16 * 1024];
                let length = stream.read(&mut request).await.unwrap();
                *seen.lock().unwrap() = String::from_utf8_lossy(&request[..length]).into_owned();
                let length = body.len();
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                let _ = stream.write_all(&body).await;
            }
        });
        (address, asked)
    }

    #[tokio::test]
    async fn an_answer_may_come_compressed_and_is_no_longer_than_it_may_be() {
        let cx = Capabilities::real_files(".", ".");
        let options = Options { limit: Duration::from_secs(60), ..Options::default() };
        let (address, asked) = server(b"{\"a\": 1}".to_vec()).await;
        let server_of = |address: &str| Server::new(&cx, address, &options).unwrap();
        let request = |address: &str| server_of(address).get("").unwrap();
        let (status, body) = send(request(&address), 0).await.unwrap();
        assert_eq!((status, body.as_slice()), (StatusCode::OK, &b"{\"a\": 1}"[..]));
        assert!(asked.lock().unwrap().contains("\r\naccept-encoding: gzip\r\n"), "{asked:?}");
        let (address, _) = server(vec![b' '; LONGEST_ANSWER + 1]).await;
        assert_eq!(send(request(&address), 3).await.unwrap_err(), "the answer is longer than 16 MiB");
    }
}
