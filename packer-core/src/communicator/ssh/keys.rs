//! Private keys, certificates and pinned host keys, read from what users give.

use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::ssh_key::{Certificate, Fingerprint};
use russh::keys::{Algorithm, Error, PrivateKey, PublicKey, decode_secret_key};

use crate::secrets::Secret;

/// A private key as its file holds it: OpenSSH's own form, PEM (PKCS#1, SEC1) or PKCS#8.
pub(in super::super) enum KeyText {
    Open(Box<PrivateKey>),
    Locked(LockedKey),
}

/// The text of a key that a passphrase opens.
#[derive(Clone)]
pub(in super::super) struct LockedKey(Secret);

impl KeyText {
    pub(in super::super) fn read(text: &str) -> Result<Self, String> {
        if !text.contains("PRIVATE KEY-----") {
            return Err("this is no private key".into());
        }
        // Keys pasted into templates come with spaces around.
        let text: String = text.lines().flat_map(|line| [line.trim(), "\n"]).collect();
        if text.contains("Proc-Type: 4,ENCRYPTED") || text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            return Ok(Self::Locked(LockedKey(text.into())));
        }
        match decode_secret_key(&text, None) {
            Ok(key) => Ok(Self::Open(Box::new(key))),
            Err(Error::KeyIsEncrypted) => Ok(Self::Locked(LockedKey(text.into()))),
            Err(e) => Err(format!("the private key cannot be read: {e}")),
        }
    }
}

impl LockedKey {
    /// Takes as long as whoever locked it wanted guessing to take.
    pub(super) fn open(&self, passphrase: &str) -> Result<PrivateKey, String> {
        decode_secret_key(self.0.reveal(), Some(passphrase)).map_err(|error| match error {
            Error::SshKey(russh::keys::ssh_key::Error::Crypto) => {
                "the passphrase does not open the private key".into()
            }
            other => format!("the passphrase does not open the private key ({other})"),
        })
    }
}

/// What to say of a locked key where nobody can be asked.
pub(in super::super) const LOCKED: &str = "it is protected by a passphrase, and there is nobody to ask for it; remove the \
    passphrase (ssh-keygen -p -N \"\" -f FILE) or use ssh_agent_auth";

/// Reads a private key without a passphrase.
pub(super) fn parse_key(text: &str) -> Result<PrivateKey, String> {
    match KeyText::read(text)? {
        KeyText::Open(key) => Ok(*key),
        KeyText::Locked(_) => Err(LOCKED.into()),
    }
}

/// Whether a certificate was made for this key.
pub(in super::super) fn check_pair(key: &PrivateKey, certificate: &Certificate) -> Result<(), String> {
    if certificate.public_key() == key.public_key().key_data() {
        return Ok(());
    }
    Err("the certificate belongs to another key than the private key".into())
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

    /// Of which kind the key is, where that is known.
    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        match self {
            Self::Key(key) => Some(key.algorithm()),
            Self::Fingerprint(_) => None,
        }
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
            ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", "protected by a passphrase"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "protected by a passphrase"),
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
