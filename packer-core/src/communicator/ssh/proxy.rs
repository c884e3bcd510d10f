//! Proxies on the way to a machine: SOCKS5 (RFC 1928 and 1929), and HTTP with CONNECT (RFC 9110, 9.3.6).

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;

use super::super::config::{CommunicatorConfig, ProxyType, set};
use super::super::waiting::Cause;
use super::stage::endpoint;
use crate::context::Context;
use crate::error::{Error, Result, Unreachable, os_text};
use crate::secrets::Secret;

/// How long the head of a proxy's answer may be.
const MOST_HEAD: usize = 16 * 1024;

/// Who passes the connection on.
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    kind: ProxyType,
    /// Given where the proxy asks for it.
    login: Option<(String, Secret)>,
}

impl Proxy {
    /// The one that the options name; its password is registered as a secret.
    pub(super) fn new(cx: &Context, config: &CommunicatorConfig) -> Result<Option<Self>> {
        let Some(host) = set(&config.ssh_proxy_host) else { return Ok(None) };
        let kind = config.proxy_type().map_err(Error::user)?;
        let password = config.ssh_proxy_password.clone().unwrap_or_default();
        cx.secrets().add(password.reveal());
        let login = set(&config.ssh_proxy_username).map(|user| (user.to_owned(), password));
        let port = config.ssh_proxy_port.filter(|port| *port != 0).unwrap_or(1080);
        Ok(Some(Self { host: host.into(), port, kind, login }))
    }

    /// Asks the proxy, which is connected, for the way on; it is the one who looks the host's name up.
    pub(super) async fn pass(&self, stream: TcpStream, host: &str, port: u16) -> Result<TcpStream, Cause> {
        let passed = match self.kind {
            ProxyType::Socks5 => self.socks(stream, host, port).await,
            ProxyType::Http => self.connect(stream, host, port).await,
        };
        passed.map_err(|Refusal(why, said)| {
            let text = format!("{self} did not reach {host}:{port}: {said}");
            Cause::new(why, text)
        })
    }

    async fn socks(&self, stream: TcpStream, host: &str, port: u16) -> Result<TcpStream, Refusal> {
        let target = (host, port);
        let passed = match &self.login {
            Some((user, password)) => {
                let password = password.reveal();
                Socks5Stream::connect_with_password_and_socket(stream, target, user, password).await
            }
            None => Socks5Stream::connect_with_socket(stream, target).await,
        };
        use tokio_socks::Error as Socks;
        passed.map(Socks5Stream::into_inner).map_err(|error| match error {
            Socks::Io(e) => e.into(),
            Socks::NoAcceptableAuthMethods if self.login.is_none() => Refusal::asks_for_a_login(),
            Socks::PasswordAuthFailure(_) => Refusal::wrong_login(),
            Socks::NetworkUnreachable
            | Socks::HostUnreachable
            | Socks::ConnectionRefused
            | Socks::TtlExpired => Refusal(Unreachable::NoRoute, error.to_string()),
            other => Refusal(Unreachable::Other, other.to_string()),
        })
    }

    async fn connect(&self, mut stream: TcpStream, host: &str, port: u16) -> Result<TcpStream, Refusal> {
        if host.contains(|c: char| c.is_ascii_control() || c == ' ') {
            return Err(Refusal(Unreachable::UnknownHost, format!("{host:?} is no host")));
        }
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some((user, password)) = &self.login {
            let login = BASE64_STANDARD.encode(format!("{user}:{}", password.reveal()));
            request.push_str(&format!("Proxy-Authorization: Basic {login}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        // Byte by byte: what follows the head belongs to the machine, which may speak first.
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == MOST_HEAD {
                return Err(Refusal(Unreachable::OtherProtocol, "its answer is no HTTP".into()));
            }
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head);
        let line = head.lines().next().unwrap_or_default();
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
        match status.and_then(|status| status.parse::<u16>().ok()) {
            Some(200..300) => Ok(stream),
            Some(401 | 407) if self.login.is_none() => Err(Refusal::asks_for_a_login()),
            Some(401 | 407) => Err(Refusal::wrong_login()),
            Some(500..) => Err(Refusal(Unreachable::NoRoute, format!("it answered {line:?}"))),
            Some(_) => Err(Refusal(Unreachable::Other, format!("it answered {line:?}"))),
            None => Err(Refusal(Unreachable::OtherProtocol, format!("its answer is no HTTP: {line:?}"))),
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {}", endpoint(&self.host, self.port))
    }
}

/// Why a proxy does not lead on.
struct Refusal(Unreachable, String);

impl Refusal {
    fn asks_for_a_login() -> Self {
        Self(Unreachable::LoginRefused, "it asks for a login (ssh_proxy_username, ssh_proxy_password)".into())
    }

    fn wrong_login() -> Self {
        let text = "it does not take the login (ssh_proxy_username, ssh_proxy_password)";
        Self(Unreachable::LoginRefused, text.into())
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        match Unreachable::of(&error) {
            Unreachable::Closed => Self(Unreachable::Closed, "it closed the connection".into()),
            why => Self(why, os_text(&error)),
        }
    }
}
