//! The keys of one run: the SSH server's own, and the one that it lets in.

use std::path::Path;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use packer_core::{Error, Result, Secret};
use russh::keys::ssh_key::{EcdsaCurve, LineEnding};
use russh::keys::{Algorithm, PrivateKey, PublicKey};

/// What kind of keys are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyType {
    Ecdsa,
    Rsa,
}

/// The keys of one run.
pub(super) struct Keys {
    pub(super) host: PrivateKey,
    pub(super) authorized: PublicKey,
    /// The text of the private key that is let in; `None` where it is the user's own.
    pub(super) private: Option<Secret>,
}

impl Keys {
    /// Reads the keys that have files, and makes the others.
    pub(super) fn make(kind: KeyType, host_key_file: &str, authorized_key_file: &str) -> Result<Self> {
        let host = match host_key_file {
            "" => new(kind)?,
            file => read(file, |text| PrivateKey::from_openssh(text).ok().or_else(|| decode(text)))?,
        };
        if !authorized_key_file.is_empty() {
            let authorized = read(authorized_key_file, |text| PublicKey::from_openssh(text.trim()).ok())?;
            return Ok(Self { host, authorized, private: None });
        }
        let key = new(kind)?;
        let text = key.to_openssh(LineEnding::LF).map_err(|e| Error::internal(e.to_string()))?;
        Ok(Self { host, authorized: key.public_key().clone(), private: Some(Secret::new(text.as_str())) })
    }
}

fn new(kind: KeyType) -> Result<PrivateKey> {
    match kind {
        KeyType::Ecdsa => {
            let algorithm = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };
            PrivateKey::random(&mut rand::rng(), algorithm)
                .map_err(|e| Error::internal(format!("no key can be made: {e}")))
        }
        KeyType::Rsa => {
            let failed = || Error::internal("no RSA key can be made");
            let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| failed())?;
            let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| failed())?;
            russh::keys::pkcs8::decode_pkcs8(der.as_ref(), None).map_err(|_| failed())
        }
    }
}

/// A private key in one of the older forms.
fn decode(text: &str) -> Option<PrivateKey> {
    russh::keys::decode_secret_key(text, None).ok()
}

fn read<T>(file: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    let text = std::fs::read_to_string(file).map_err(|e| Error::io("read", Path::new(file), e))?;
    let text = Secret::from(text);
    parse(text.reveal()).ok_or_else(|| {
        Error::user(format!("{file} is no key that can be read (a key with a passphrase is none)"))
    })
}
