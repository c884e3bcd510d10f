//! The HTTP client of everything here, set up from what the host lends.

use std::io;
use std::time::Duration;

use packer_core::Context;
use packer_core::kit::Body;
use reqwest::header::CONTENT_ENCODING;
use reqwest::{Client, ClientBuilder, NoProxy, Proxy, Response, redirect};

/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// How long a server may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);

/// A client that goes through the proxies of `HTTP_PROXY`, `HTTPS_PROXY` (`http://`, `https://`, `socks5://`) and `NO_PROXY`.
pub(crate) fn client(cx: &Context) -> reqwest::Result<ClientBuilder> {
    // The client looks into no environment by itself.
    let mut builder = Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT_LIMIT)
        .read_timeout(SILENCE_LIMIT)
        .redirect(redirect::Policy::limited(10))
        .user_agent(concat!("packer-builders/", env!("CARGO_PKG_VERSION")));
    let variable = |name: &str| {
        let value = cx.env(name).filter(|v| !v.is_empty());
        value.or_else(|| cx.env(&name.to_lowercase()).filter(|v| !v.is_empty()))
    };
    // As usual, what is asked of this computer itself goes nowhere else.
    let direct = format!("localhost,127.0.0.0/8,::1,{}", variable("NO_PROXY").unwrap_or_default());
    let through = |proxy: Proxy| proxy.no_proxy(NoProxy::from_string(&direct));
    if let Some(proxy) = variable("HTTP_PROXY") {
        builder = builder.proxy(through(Proxy::http(with_scheme(proxy))?));
    }
    if let Some(proxy) = variable("HTTPS_PROXY") {
        builder = builder.proxy(through(Proxy::https(with_scheme(proxy))?));
    }
    Ok(builder)
}

fn with_scheme(proxy: &str) -> String {
    match proxy.split_once("://") {
        // Names are looked up where the proxy is, as programs in Go do it.
        Some(("socks5", rest)) => format!("socks5h://{rest}"),
        Some(_) => proxy.to_owned(),
        None => format!("http://{proxy}"),
    }
}

/// The body of an answer, decoded as its headers say, of at most so many bytes. An answer is compressed where the request
/// says that it may be: `Accept-Encoding: gzip`.
pub(crate) async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, Broken> {
    let encoding = response.headers().get(CONTENT_ENCODING).and_then(|name| name.to_str().ok());
    let mut body = Body::new(encoding, most);
    while let Some(chunk) = response.chunk().await.map_err(Broken::Off)? {
        body.push(&chunk).map_err(Broken::of)?;
    }
    body.finish().map_err(Broken::of)
}

/// Why there is no body.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The connection broke off.
    Off(reqwest::Error),
    /// It is longer than it may be.
    TooLong,
    /// It is not compressed as its headers say.
    Spoilt(String),
}

impl Broken {
    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::FileTooLarge => Self::TooLong,
            _ => Self::Spoilt(packer_core::error::os_text(&error)),
        }
    }
}

/// What failed in the end, as the system says it.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(cause) = reason.source() {
        reason = cause;
    }
    match reason.downcast_ref::<std::io::Error>() {
        Some(e) => packer_core::error::os_text(e),
        None => reason.to_string(),
    }
}
