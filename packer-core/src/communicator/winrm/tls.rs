//! Whom a secured connection believes.

use std::sync::Arc;

use rustls_platform_verifier::BuilderVerifierExt;
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::context::Context;
use crate::error::{Error, Result};

/// Settings for secured connections: what the system believes, only what `SSL_CERT_FILE` names where the host lends it, or
/// anything.
pub(super) fn config(cx: &Context, anything: bool) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::internal(e.to_string()))?;
    let file = cx.env("SSL_CERT_FILE").filter(|path| !path.is_empty());
    let config = match file {
        _ if anything => config.dangerous().with_custom_certificate_verifier(Arc::new(Anything(provider))),
        Some(path) => config.with_root_certificates(certificates(path)?),
        None => config
            .with_platform_verifier()
            .map_err(|e| Error::provider(format!("the system's certificates cannot be read: {e}")))?,
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

fn certificates(path: &str) -> Result<RootCertStore> {
    let unusable = |why: String| Error::user(format!("the certificates of SSL_CERT_FILE ({path}): {why}"));
    let text = std::fs::read(path).map_err(|e| Error::io("open", path, e))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
        roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is none".into()));
    }
    Ok(roots)
}

/// The digest of a certificate that a login is bound to (RFC 5929): that of its own signature, SHA-256 where that is a
/// weaker one. `None` where it is signed in another way: a wrong digest would be worse than none.
pub(super) fn digest(certificate: &[u8]) -> Option<Vec<u8>> {
    // RSA with MD5, SHA-1 and SHA-256, ECDSA with SHA-1 and SHA-256; then SHA-384 and SHA-512 of both.
    const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: [u8; 6] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    let signed = |start: &[u8], end: &[u8]| {
        let name = [start, end].concat();
        certificate.windows(name.len()).any(|window| window == name)
    };
    if signed(&RSA, &[12]) || signed(&ECDSA, &[3, 3]) {
        Some(Sha384::digest(certificate).to_vec())
    } else if signed(&RSA, &[13]) || signed(&ECDSA, &[3, 4]) {
        Some(Sha512::digest(certificate).to_vec())
    } else if [4, 5, 11].iter().any(|end| signed(&RSA, &[*end]))
        || signed(&ECDSA, &[1])
        || signed(&ECDSA, &[3, 2])
    {
        Some(Sha256::digest(certificate).to_vec())
    } else {
        None
    }
}

/// Believes any certificate: what `winrm_insecure` asks for.
#[derive(Debug)]
struct Anything(Arc<CryptoProvider>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
