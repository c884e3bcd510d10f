//! What is needed to connect, read from the options of a template.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper_util::client::proxy::matcher::Matcher;
use tokio_rustls::rustls::ClientConfig;

use super::super::config::{CommunicatorConfig, Target};
use super::tls;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::secrets::Secret;

/// How long to try to connect where the template does not say.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The longest that a server is asked to think about one request: what is longer breaks in gateways on the way.
const LONGEST_OPERATION: Duration = Duration::from_secs(60);

/// Where the server is, and how it is entered.
pub(super) struct Settings {
    pub(super) host: String,
    pub(super) port: u16,
    /// Where requests go.
    pub(super) address: String,
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) ntlm: bool,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) proxies: Option<Matcher>,
    /// How long to try to connect.
    pub(super) timeout: Duration,
    /// How long the server may think about one request.
    pub(super) operation: Duration,
}

impl Settings {
    /// Reads the options; the password is registered as a secret.
    pub(super) fn new(cx: &Context, config: &CommunicatorConfig, target: &Target) -> Result<Self> {
        let (host, port) =
            config.endpoint(target).ok_or_else(|| Error::user("a winrm_host must be specified"))?;
        let user = config.username(target).ok_or_else(|| Error::user("winrm_username must be specified."))?;
        let password = config.login_password(target).cloned().unwrap_or_else(|| Secret::from(""));
        if !password.is_empty() {
            cx.secrets().add(password.reveal());
            // So it stands in each request with a Basic login, which a page of a server's may show.
            cx.secrets().add(&STANDARD.encode(format!("{user}:{}", password.reveal())));
        }
        let timeout = match config.winrm_timeout {
            given if given.is_zero() || given.is_negative() => TIMEOUT,
            given => given.to_std(),
        };
        let scheme = if config.winrm_use_ssl { "https" } else { "http" };
        // The address of IPv6 stands in brackets; who writes them already need not care.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let named = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        Ok(Self {
            address: format!("{scheme}://{named}:{port}/wsman"),
            user: user.to_owned(),
            password,
            ntlm: config.winrm_use_ntlm == Some(true),
            tls: match config.winrm_use_ssl {
                true => Some(tls::config(cx, config.winrm_insecure)?),
                false => None,
            },
            proxies: (!config.winrm_no_proxy).then(|| proxies(cx)),
            timeout,
            operation: timeout.clamp(Duration::from_secs(1), LONGEST_OPERATION),
            host,
            port,
        })
    }
}

/// Which proxies the host lends by its environment. What is on this computer is reached without one.
fn proxies(cx: &Context) -> Matcher {
    let either = |name: &str| {
        let found = cx.env(name).filter(|value| !value.is_empty());
        found.or_else(|| cx.env(&name.to_lowercase())).unwrap_or_default().to_owned()
    };
    Matcher::builder()
        .http(either("HTTP_PROXY"))
        .https(either("HTTPS_PROXY"))
        .no(format!("localhost,127.0.0.0/8,::1,{}", either("NO_PROXY")))
        .build()
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {}", self.address, self.user)
    }
}
