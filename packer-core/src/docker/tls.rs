//! The way to an engine that listens with TLS: `ca.pem` says whose engine is believed, `cert.pem` and `key.pem` who we are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard::BollardRequest;
use bollard::errors::Error as EngineError;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, ClientConfig, RootCertStore};

use super::endpoint::host_and_port;
use super::http;
use super::way::{Counted, Meter, authority};
use crate::error::{Error, Result};

/// The port of engines that listen with TLS.
const PORT: u16 = 2376;

/// Makes secured connections to one engine; each request has one of its own.
pub(super) struct Connector {
    tls: TlsConnector,
    name: ServerName<'static>,
    host: String,
    port: u16,
    /// The folder in which there is nothing to show to the engine.
    empty: Option<PathBuf>,
}

impl Connector {
    /// For `tcp://HOST[:PORT]`, with the certificates in a folder. Only `ca.pem` is believed, not what the system believes
    /// besides. Without `cert.pem` and `key.pem` nothing is shown to the engine, which may want nothing.
    pub(super) fn new(address: &str, folder: &Path) -> Result<Self> {
        let wrong = || Error::user(format!("DOCKER_HOST {address:?} is not tcp://HOST[:PORT]"));
        let (_, rest) = address.split_once("://").ok_or_else(wrong)?;
        let (host, port) = host_and_port(rest.trim_end_matches('/')).ok_or_else(wrong)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&folder.join("ca.pem"))? {
            roots.add(certificate).map_err(|e| unusable(&folder.join("ca.pem"), &e))?;
        }
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::internal(e.to_string()))?
            .with_root_certificates(roots);
        let (config, empty) = if certificate.exists() || key.exists() {
            let (chain, private) = (certificates(&certificate)?, private_key(&key)?);
            let config = config.with_client_auth_cert(chain, private);
            (config.map_err(|e| unusable(&certificate, &e))?, None)
        } else {
            (config.with_no_client_auth(), Some(folder.to_owned()))
        };
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self { tls, name, host: host.to_owned(), port: port.unwrap_or(PORT), empty })
    }

    /// Sends one request.
    pub(super) async fn request(
        &self,
        request: BollardRequest,
        meter: Meter,
    ) -> std::result::Result<Response<Incoming>, EngineError> {
        let error = match self.send(request, meter).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        match &self.empty {
            // The engine's own word for it differs from version to version.
            Some(folder) if is_about_a_certificate(&error) => {
                let folder = folder.display();
                let text =
                    format!("it asks for a certificate, and {folder} holds none (cert.pem and key.pem)");
                Err(io::Error::other(text).into())
            }
            _ => Err(error),
        }
    }

    async fn send(
        &self,
        request: BollardRequest,
        meter: Meter,
    ) -> std::result::Result<Response<Incoming>, EngineError> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let _ = tcp.set_nodelay(true); // without it things are only slower
        let stream = self.tls.connect(self.name.clone(), tcp).await?;
        let host = HeaderValue::try_from(authority(&self.host, self.port)).map_err(io::Error::other)?;
        http::send(Counted { stream: Box::new(stream), meter }, request, host).await
    }
}

/// Whether the other side ended the connection for want of a certificate of ours.
fn is_about_a_certificate(error: &EngineError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        let wrapped = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(rustls::Error::AlertReceived(alert)) = wrapped.and_then(|e| e.downcast_ref()) {
            return matches!(
                alert,
                AlertDescription::BadCertificate
                    | AlertDescription::CertificateRequired
                    | AlertDescription::NoCertificate
                    | AlertDescription::HandshakeFailure
            );
        }
        cause = inner.source();
    }
    false
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("open", path, e))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(Error::user(format!("{}: holds no certificate", path.display())))
        }
        Ok(found) => Ok(found),
        // What is wrong with it is not quoted.
        Err(_) => Err(Error::user(format!("{}: not a certificate in PEM", path.display()))),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|e| {
        let why = match e {
            PemError::NoItemsFound => "holds no private key that can be used without a passphrase",
            _ => "not a private key in PEM",
        };
        Error::user(format!("{}: {why}", path.display()))
    })
}

fn unusable(path: &Path, error: &rustls::Error) -> Error {
    Error::user(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_certificates_are_checked_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let new = |address: &str| Connector::new(address, folder.path()).map(|c| (c.host, c.port));
        for bad in
            ["tcp://", "tcp://:1", "tcp://a:b", "tcp://a:70000", "tcp://[::1", "tcp://[::1]x", "tcp://a/path"]
        {
            let error = new(bad).unwrap_err();
            assert_eq!(error.message(), format!("DOCKER_HOST {bad:?} is not tcp://HOST[:PORT]"));
        }
        assert!(new("tcp://a").unwrap_err().message().contains("ca.pem: no such file"));
        std::fs::write(folder.path().join("ca.pem"), "no certificate").unwrap();
        assert!(new("tcp://a").unwrap_err().message().ends_with("ca.pem: holds no certificate"));
        let text = "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n";
        std::fs::write(folder.path().join("ca.pem"), text).unwrap();
        assert!(new("tcp://a").unwrap_err().message().ends_with("ca.pem: not a certificate in PEM"));
    }

    #[test]
    fn a_host_may_have_a_port() {
        assert_eq!(host_and_port("engine"), Some(("engine", None)));
        assert_eq!(host_and_port("10.0.0.1:2376"), Some(("10.0.0.1", Some(2376))));
        assert_eq!(host_and_port("[::1]:1"), Some(("::1", Some(1))));
        assert_eq!(host_and_port("[fe80::1]"), Some(("fe80::1", None)));
    }
}
