//! One kept-alive connection to a server: dialled, through a proxy where there is one, secured, logged in.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, PROXY_AUTHORIZATION, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsConnector, rustls};
use tokio_util::task::AbortOnDropHandle;

use super::failure::{Class, Failure};
use super::settings::Settings;
use super::{ntlm, sealed, tls};
use crate::error::{Unreachable, os_text};
use crate::kit::stream::Stream;
use crate::secrets::first_lines;

/// How long a server may take to accept a connection and to secure it. Short: what forwards ports accepts connections for
/// machines that are not up and leaves them silent.
const DIAL_LIMIT: Duration = Duration::from_secs(8);

/// The longest answer. Servers keep to the size that each request names, in which text may be encoded twice.
const LONGEST_ANSWER: usize = 16 << 20;

/// How much of a page is shown that came instead of an answer.
const LONGEST_PAGE: usize = 400;

const SOAP: &str = "application/soap+xml;charset=UTF-8";

/// A connection. One request at a time; dropped in the middle of one it is closed.
pub(super) struct Connection {
    settings: Arc<Settings>,
    sender: SendRequest<Full<Bytes>>,
    /// Where requests go, as a proxy wants to read it or as the server itself does.
    target: Uri,
    proxy_login: Option<http::HeaderValue>,
    login: Login,
    task: tokio::task::JoinHandle<()>,
}

/// How requests say who we are.
enum Login {
    /// With each of them.
    Basic,
    /// The connection is logged in, and secured in another way.
    Connection,
    /// The connection is logged in, and its content sealed.
    Sealed(Box<ntlm::Sealing>),
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Dials and logs in.
    pub(super) async fn dial(settings: &Arc<Settings>) -> Result<Self, Failure> {
        let (mut connection, certificate) = Self::open(settings).await?;
        if settings.ntlm {
            connection.log_in(certificate.as_deref()).await?;
        }
        Ok(connection)
    }

    /// Asks whether a server is there that may be one of WinRM, without a login.
    pub(super) async fn probe(settings: &Arc<Settings>) -> Result<(), Failure> {
        let (mut connection, _) = Self::open(settings).await?;
        let response = connection.send(SOAP, None, Vec::new()).await?;
        let status = response.status();
        // Windows answers so before the service has begun to listen, and gateways while nobody does.
        if status == StatusCode::NOT_FOUND || status.is_server_error() {
            let body = connection.body(response).await?;
            return Err(connection.page(status, &body));
        }
        Ok(())
    }

    /// Dials; the digest of the server's certificate where it has one.
    async fn open(settings: &Arc<Settings>) -> Result<(Self, Option<Vec<u8>>), Failure> {
        let who = format!("{}:{}", settings.host, settings.port);
        let late = |_| {
            let text = format!("{who} did not accept a connection within {DIAL_LIMIT:?}");
            Failure::network(text).because(Unreachable::Silent)
        };
        let proxy = proxy(settings)?;
        let (stream, certificate) =
            tokio::time::timeout(DIAL_LIMIT, stream(settings, proxy.as_ref())).await.map_err(late)??;
        let (sender, task) = handshake(stream).await?;
        let through = proxy.filter(|_| settings.tls.is_none());
        let target = match &through {
            Some(_) => settings.address.parse(),
            None => "/wsman".parse(),
        };
        let connection = Self {
            settings: settings.clone(),
            sender,
            target: target.map_err(|_| unusable(settings))?,
            proxy_login: through.as_ref().and_then(Intercept::basic_auth).cloned(),
            login: Login::Basic,
            task,
        };
        Ok((connection, certificate))
    }

    /// Whether it can carry another request.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a document and reads the one that answers it, whatever status it came with.
    pub(super) async fn post(&mut self, xml: &str) -> Result<String, Failure> {
        let (kind, body) = match &mut self.login {
            Login::Sealed(sealing) => (sealed::KIND, sealed::seal(sealing, xml)),
            _ => (SOAP, xml.as_bytes().to_vec()),
        };
        let basic = match self.login {
            Login::Basic => {
                let Settings { user, password, .. } = &*self.settings;
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal()))))
            }
            _ => None,
        };
        let response = self.send(kind, basic, body).await?;
        let status = response.status();
        let offers = offers(&response);
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_ascii_lowercase();
        let body = self.body(response).await?;
        if status == StatusCode::UNAUTHORIZED {
            return Err(self.refused(&offers));
        }
        let body = match &mut self.login {
            Login::Sealed(sealing) if kind.starts_with("multipart/encrypted") => sealed::open(sealing, body)?,
            _ if kind.starts_with("application/soap+xml") => body,
            // On a connection whose content is sealed nothing else is believed.
            _ => return Err(self.page(status, &body)),
        };
        String::from_utf8(body).map_err(|_| self.page(status, b"what came is no text"))
    }

    async fn send(
        &mut self,
        kind: &str,
        login: Option<String>,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        let headers = request.headers_mut();
        let mut set = |name: HeaderName, text: &str, hidden: bool| {
            let mut value = http::HeaderValue::from_str(text).map_err(|_| unusable(&self.settings))?;
            value.set_sensitive(hidden);
            headers.insert(name, value);
            Ok::<(), Failure>(())
        };
        let host = self.settings.address.split('/').nth(2).unwrap_or_default();
        set(HOST, host, false)?;
        set(CONTENT_TYPE, kind, false)?;
        set(hyper::header::USER_AGENT, concat!("packer-core/", env!("CARGO_PKG_VERSION")), false)?;
        if let Some(login) = login {
            set(AUTHORIZATION, &login, true)?;
        }
        if let Some(login) = &self.proxy_login {
            headers.insert(PROXY_AUTHORIZATION, login.clone());
        }
        // The end of the answer before may not have been seen yet.
        self.sender.ready().await.map_err(|e| broken(&self.settings, &e).unsent())?;
        self.sender.send_request(request).await.map_err(|e| match broken(&self.settings, &e) {
            failure if e.is_canceled() => failure.unsent(),
            failure => failure,
        })
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Vec<u8>, Failure> {
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        let body = body.map_err(|e| match e.downcast::<hyper::Error>() {
            Ok(error) => broken(&self.settings, &error),
            Err(error) if error.is::<LengthLimitError>() => {
                self.no_server(format!("answers with more than {} MiB", LONGEST_ANSWER >> 20))
            }
            Err(error) => Failure::network(error.to_string()),
        })?;
        Ok(body.to_bytes().to_vec())
    }

    /// Logs in with NTLM: a question and an answer without content, on this connection.
    async fn log_in(&mut self, certificate: Option<&[u8]>) -> Result<(), Failure> {
        let first = ntlm::negotiate();
        let response = self.send(SOAP, Some(token("Negotiate", &first)), Vec::new()).await?;
        let status = response.status();
        let found = offers(&response);
        self.body(response).await?;
        let challenge = found.iter().find_map(|offer| {
            let (scheme, text) = offer.split_once(' ')?;
            let known = scheme.eq_ignore_ascii_case("Negotiate") || scheme.eq_ignore_ascii_case("NTLM");
            Some((scheme, STANDARD.decode(text.trim()).ok()?)).filter(|_| known)
        });
        let Some((scheme, second)) = challenge.filter(|_| status == StatusCode::UNAUTHORIZED) else {
            return Err(match status {
                StatusCode::UNAUTHORIZED => self.refused(&found),
                _ => self.page(status, b"it does not answer a login"),
            });
        };
        let settings = self.settings.clone();
        let mut random = [0; 24];
        aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut random)
            .map_err(|_| Failure::new(Class::Never, "this computer gives no random numbers"))?;
        let login = ntlm::Login {
            user: &settings.user,
            password: settings.password.reveal(),
            host: &settings.host,
            certificate,
            random,
            time: now(),
        };
        let (third, sealing) =
            ntlm::authenticate(&login, &first, &second).map_err(|why| Failure::new(Class::Login, why))?;
        let response = self.send(SOAP, Some(token(scheme, &third)), Vec::new()).await?;
        let status = response.status();
        let found = offers(&response);
        let body = self.body(response).await?;
        match status {
            StatusCode::UNAUTHORIZED => return Err(self.refused(&found)),
            status if !status.is_success() => return Err(self.page(status, &body)),
            _ => {}
        }
        self.login = match settings.tls {
            Some(_) => Login::Connection,
            None => Login::Sealed(Box::new(sealing)),
        };
        Ok(())
    }

    /// That the login was refused, and what to do.
    fn refused(&self, offers: &[String]) -> Failure {
        let offered = |scheme: &str| {
            offers.iter().any(|offer| offer.split(' ').next().is_some_and(|o| o.eq_ignore_ascii_case(scheme)))
        };
        let Settings { user, host, .. } = &*self.settings;
        let text = match self.settings.ntlm {
            false if !offers.is_empty() && !offered("Basic") => {
                "the server takes no Basic login: set winrm_use_ntlm = true, or allow Basic in the machine".to_owned()
            }
            true if !offers.is_empty() && !offered("Negotiate") && !offered("NTLM") => match offered("Kerberos") {
                true => "the server takes Kerberos alone, which this communicator does not speak: allow Negotiate or Basic \
                         in the machine"
                    .to_owned(),
                false => "the server takes no NTLM login: leave winrm_use_ntlm out, or allow Negotiate in the machine"
                    .to_owned(),
            },
            _ => format!("the user {user} or the password is wrong (HTTP status 401)"),
        };
        Failure::new(Class::Login, format!("{host}: {text}"))
    }

    /// That something answers which is no WinRM server.
    fn page(&self, status: StatusCode, body: &[u8]) -> Failure {
        let text = String::from_utf8_lossy(body);
        let text = first_lines(&text, LONGEST_PAGE).split_whitespace().collect::<Vec<_>>().join(" ");
        self.no_server(format!(
            "answers with HTTP status {status}, and not as a WinRM server does: {text}. Is it the port of WinRM (as a rule \
             5985, with winrm_use_ssl 5986)?"
        ))
    }

    fn no_server(&self, what: String) -> Failure {
        Failure::new(Class::Http, format!("{} {what}", self.settings.address))
    }
}

fn token(scheme: &str, message: &[u8]) -> String {
    format!("{scheme} {}", STANDARD.encode(message))
}

fn offers(response: &Response<Incoming>) -> Vec<String> {
    let all = response.headers().get_all(WWW_AUTHENTICATE).iter();
    all.filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(|t| t.trim().to_owned())
        .collect()
}

/// Units of 100 nanoseconds since 1601, as Windows counts.
fn now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let units = since_1970.as_nanos() / 100 + 11_644_473_600 * 10_000_000;
    u64::try_from(units).unwrap_or(u64::MAX)
}

/// The proxy in between, where there is one.
fn proxy(settings: &Settings) -> Result<Option<Intercept>, Failure> {
    let Some(proxies) = &settings.proxies else { return Ok(None) };
    let address: Uri = settings.address.parse().map_err(|_| unusable(settings))?;
    match proxies.intercept(&address) {
        Some(proxy) if proxy.uri().scheme_str() != Some("http") => Err(Failure::new(
            Class::Never,
            format!(
                "the proxy {} is not one for HTTP: WinRM goes through no other (winrm_no_proxy = true goes without)",
                proxy.uri().host().unwrap_or_default()
            ),
        )),
        found => Ok(found),
    }
}

/// A stream to the server, and the digest of its certificate where it has one.
async fn stream(
    settings: &Settings,
    proxy: Option<&Intercept>,
) -> Result<(Stream, Option<Vec<u8>>), Failure> {
    let (host, port) = (settings.host.as_str(), settings.port);
    let stream: Stream = match proxy {
        None => Box::new(tcp(host, port).await?),
        Some(proxy) => {
            let uri = proxy.uri();
            let name = uri.host().unwrap_or_default();
            let tcp = tcp(name, uri.port_u16().unwrap_or(80)).await;
            let tcp = tcp.map_err(|e| Failure::network(format!("the proxy: {e}")).because(e.cause().why))?;
            match settings.tls {
                Some(_) => Box::new(tunnel(settings, proxy, Box::new(tcp)).await?),
                None => Box::new(tcp),
            }
        }
    };
    let Some(config) = &settings.tls else { return Ok((stream, None)) };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| unusable(settings))?;
    let secured = TlsConnector::from(config.clone()).connect(name, stream).await;
    let secured = secured.map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Failure::new(
            Class::Tls,
            format!(
                "{host}:{port}: {}. If the certificate is the machine's own, set winrm_insecure = true",
                e.to_string().trim_end_matches('.')
            ),
        )
        .because(match e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(_)) => Unreachable::HostKey,
            Some(rustls::Error::AlertReceived(_) | rustls::Error::PeerIncompatible(_)) => {
                Unreachable::NoCommonAlgorithm
            }
            _ => Unreachable::OtherProtocol,
        }),
        _ => Failure::network(format!("{host}:{port} broke off while it was being secured: {}", os_text(&e))),
    })?;
    let certificates = secured.get_ref().1.peer_certificates();
    let digest = certificates.and_then(|all| all.first()).and_then(|first| tls::digest(first));
    Ok((Box::new(secured), digest))
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let failed = |class: Class, why: Unreachable, e: &io::Error| {
        Failure::new(class, format!("{host}:{port}: {}", os_text(e))).because(why)
    };
    let found = tokio::net::lookup_host((host, port)).await;
    let found: Vec<_> = found.map_err(|e| failed(Class::Network, Unreachable::UnknownHost, &e))?.collect();
    let stream = TcpStream::connect(&found[..]).await.map_err(|e| {
        let why = Unreachable::of(&e);
        let class = if why == Unreachable::Refused { Class::Refused } else { Class::Network };
        failed(class, why, &e)
    })?;
    // Requests are written whole.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Asks a proxy to lead to the server.
async fn tunnel(
    settings: &Settings,
    proxy: &Intercept,
    stream: Stream,
) -> Result<TokioIo<hyper::upgrade::Upgraded>, Failure> {
    let wrong = |what: String| Failure::network(format!("the proxy {what}"));
    let (mut sender, task) = handshake(stream).await?;
    // A proxy that says nothing would keep it for ever. It has handed the stream over when that is here.
    let _ends = AbortOnDropHandle::new(task);
    let authority = settings.address.split('/').nth(2).unwrap_or_default();
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = authority.parse().map_err(|_| unusable(settings))?;
    let host = http::HeaderValue::from_str(authority).map_err(|_| unusable(settings))?;
    request.headers_mut().insert(HOST, host);
    if let Some(login) = proxy.basic_auth() {
        request.headers_mut().insert(PROXY_AUTHORIZATION, login.clone());
    }
    let response = sender.send_request(request).await.map_err(|e| wrong(format!("does not answer: {e}")))?;
    if !response.status().is_success() {
        return Err(wrong(format!("does not lead to {authority}: HTTP status {}", response.status())));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|e| wrong(format!("breaks off: {e}")))?;
    Ok(TokioIo::new(upgraded))
}

async fn handshake(
    stream: Stream,
) -> Result<(SendRequest<Full<Bytes>>, tokio::task::JoinHandle<()>), Failure> {
    let begun = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = begun.map_err(|e| Failure::network(e.to_string()))?;
    let task = tokio::spawn(async move {
        // Why it ended, the request hears that was on it.
        let _ = connection.with_upgrades().await;
    });
    Ok((sender, task))
}

fn broken(settings: &Settings, error: &hyper::Error) -> Failure {
    let mut reason: &dyn std::error::Error = error;
    while let Some(cause) = reason.source() {
        reason = cause;
    }
    let why = match reason.downcast_ref::<io::Error>() {
        Some(e) => os_text(e),
        None if error.is_incomplete_message() => "the connection was closed before an answer came".to_owned(),
        None => reason.to_string(),
    };
    let class = match error.is_parse() {
        true => Class::Http,
        false => Class::Network,
    };
    Failure::new(class, format!("{}:{}: {why}", settings.host, settings.port))
}

fn unusable(settings: &Settings) -> Failure {
    Failure::new(Class::Never, format!("{:?} cannot be the address of a machine", settings.host))
}
