//! Private keys, certificates and pinned host keys, read from what users give.

use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::ssh_key::{Certificate, Fingerprint};
use russh::keys::{Error, PrivateKey, PublicKey, decode_secret_key};

/// Reads an unencrypted private key: OpenSSH's own form, PEM (PKCS#1, SEC1) or PKCS#8.
pub(in super::super) fn parse_key(text: &str) -> Result<PrivateKey, String> {
    const ENCRYPTED: &str = "password protected keys are not supported; remove the passphrase first \
        (ssh-keygen -p -N \"\" -f FILE) or use ssh_agent_auth";
    if text.contains("Proc-Type: 4,ENCRYPTED") || text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return Err(ENCRYPTED.into());
    }
    if !text.contains("PRIVATE KEY-----") {
        return Err("this is no private key".into());
    }
    // Keys pasted into templates come with spaces around.
    let text: String = text.lines().flat_map(|line| [line.trim(), "\n"]).collect();
    decode_secret_key(&text, None).map_err(|error| match error {
        Error::KeyIsEncrypted => ENCRYPTED.into(),
        other => format!("the private key cannot be read: {other}"),
    })
}

/// Reads a user certificate that is valid now.
pub(in super::super) fn parse_certificate(text: &str) -> Result<Certificate, String> {
    let certificate =
        Certificate::from_openssh(text.trim()).map_err(|e| format!("this is no OpenSSH certificate: {e}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    if now < certificate.valid_after() {
        return Err("the certificate is not valid yet".into());
    }
    // All bits set means forever.
    if certificate.valid_before() != u64::MAX && now >= certificate.valid_before() {
        return Err("the certificate has expired".into());
    }
    Ok(certificate)
}

/// The only key that a host may have.
#[derive(Debug, Clone)]
pub(super) enum Pin {
    Key(Box<PublicKey>),
    Fingerprint(Fingerprint),
}

impl Pin {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with("SHA256:") || text.starts_with("SHA512:") {
            let fingerprint = text.parse().map_err(|e| format!("this is no fingerprint: {e}"))?;
            return Ok(Self::Fingerprint(fingerprint));
        }
        let key = PublicKey::from_openssh(text).map_err(|e| format!("this is no public key: {e}"))?;
        Ok(Self::Key(Box::new(key)))
    }

    pub(super) fn fits(&self, key: &PublicKey) -> bool {
        match self {
            Self::Key(expected) => expected.key_data() == key.key_data(),
            Self::Fingerprint(expected) => key.fingerprint(expected.algorithm()) == *expected,
        }
    }
}

/// Whether a pinned host key can be understood.
pub(in super::super) fn check_pin(text: &str) -> Result<(), String> {
    Pin::parse(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_says_so() {
        for (text, why) in [
            ("", "this is no private key"),
            ("ssh-ed25519 AAAA", "this is no private key"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
                "password protected keys are not supported",
            ),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "password protected keys are not supported"),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----",
                "cannot be read",
            ),
            ("-----BEGIN PRIVATE KEY-----\n%%%%\n-----END PRIVATE KEY-----", "cannot be read"),
        ] {
            let error = parse_key(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(parse_certificate("x").is_err());
        assert!(check_pin("SHA256:short").is_err() && check_pin("nonsense").is_err());
    }
}
