//! Key pairs made for one build, and taken out of the machine again.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature as ecdsa;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{KeypairData, RsaKeypair};
use russh::keys::{Algorithm, PrivateKey, decode_secret_key};

use super::super::archive::quoted_text;
use super::super::config::{CommunicatorConfig, Target, set};
use super::super::output::Kept;
use super::super::{Command, Communicator, program_on_input};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::secrets::Secret;

/// A key pair that lets into one machine while it is built.
///
/// Made by [`CommunicatorConfig::key_pair`]; the private half goes into the [`Target`], the public one into the machine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KeyPair {
    /// What the pair is called where clouds and `authorized_keys` give names to keys.
    pub name: String,
    /// The private key as text: PKCS#8 for RSA and ECDSA, OpenSSH's own form for the others.
    pub private: Secret,
    /// The public key as one line without a comment, such as `ssh-ed25519 AAAA…`.
    pub public: String,
}

impl KeyPair {
    /// A pair that somebody else has made, such as a cloud, of its private key as text. It is registered as a secret.
    ///
    /// # Errors
    /// A text that is no private key.
    pub fn of_private(cx: &Context, name: impl Into<String>, private: impl Into<Secret>) -> Result<Self> {
        let (name, private) = (name.into(), private.into());
        cx.secrets().add(private.reveal());
        let wrong = |e: String| Error::provider(format!("the private key of {name} cannot be read: {e}"));
        let key = decode_secret_key(private.reveal(), None).map_err(|e| wrong(e.to_string()))?;
        let public = key.public_key().to_openssh().map_err(|e| wrong(e.to_string()))?;
        // Without the comment that the file may have.
        let public = public.split(' ').take(2).collect::<Vec<_>>().join(" ");
        Ok(Self { name, private, public })
    }

    /// The line for `~/.ssh/authorized_keys`, by whose end
    /// [`clear_authorized_keys`](CommunicatorConfig::clear_authorized_keys) finds it again.
    pub fn authorized_line(&self) -> String {
        format!("{} {}", self.public, self.name)
    }

    /// The target entered with this key.
    pub fn target(&self, target: Target) -> Target {
        let mut target = target.private_key(self.private.clone());
        target.public_key = Some(self.public.clone());
        target
    }
}

impl CommunicatorConfig {
    /// Makes the key pair of this build; `None` where the template brings a private key, a password or the agent, or the machine
    /// is not entered by SSH.
    ///
    /// `temporary_key_pair_type` is `rsa` (the default, 4096 bits), `ecdsa` (521), `ed25519` or `dsa` (1024);
    /// `temporary_key_pair_bits` gives RSA and ECDSA another size. The private key is registered as a secret.
    ///
    /// ```no_run
    /// # use packer_core::{CommunicatorConfig, Context, Result, Target};
    /// # async fn start_machine(_: &str) -> Result<Target> { Ok(Target::new("192.0.2.7", 22)) }
    /// # async fn launch(cx: &Context, config: &CommunicatorConfig) -> Result<()> {
    /// let pair = config.key_pair(cx).await?;
    /// let line = pair.as_ref().map(|pair| pair.authorized_line()).unwrap_or_default();
    /// let mut target = start_machine(&line).await?;
    /// if let Some(pair) = &pair {
    ///     target = pair.target(target);
    /// }
    /// let machine = config.connect(cx, &target).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A type or size that there is not.
    pub async fn key_pair(&self, cx: &Context) -> Result<Option<KeyPair>> {
        if !self.makes_key_pair() {
            return Ok(None);
        }
        let kind = Kind::of(self)?;
        cx.say(format!("Creating temporary {} SSH key for instance...", kind.label()));
        // Primes take a while.
        let made = cx.blocking(move |_| kind.make().map_err(Error::internal)).await?;
        let (private, public) = made;
        cx.secrets().add(private.reveal());
        let name = match set(&self.temporary_key_pair_name) {
            Some(name) => name.to_owned(),
            None => format!("packer_{}", uuid::Uuid::new_v4()),
        };
        Ok(Some(KeyPair { name, private, public }))
    }

    /// Whether [`key_pair`](Self::key_pair) makes one: nothing else says how the machine is entered.
    pub fn makes_key_pair(&self) -> bool {
        let given = |text: &Option<String>| set(text).is_some();
        let password = self.ssh_password.as_ref().is_some_and(|password| !password.is_empty());
        self.kind() == "ssh" && !given(&self.ssh_private_key_file) && !password && !self.ssh_agent_auth
    }

    /// Takes the key pair out of the machine's `authorized_keys` again, that of the user and, where `sudo` allows it, root's.
    /// Does nothing unless `ssh_clear_authorized_keys` asks for it. That it fails is told and fails nothing else, as for a
    /// machine that has no such file.
    ///
    /// # Errors
    /// Where the work is cancelled.
    pub async fn clear_authorized_keys(
        &self,
        cx: &Context,
        machine: &dyn Communicator,
        pair: &KeyPair,
    ) -> Result<()> {
        if !self.ssh_clear_authorized_keys {
            return Ok(());
        }
        cx.say("Trying to remove ephemeral keys from authorized_keys files");
        let program = format!("name={}\n{REMOVE}", quoted_text(&pair.name));
        let (mut input, mut said) = (program.as_bytes(), Kept::complaint());
        let command = if machine.passes_input() {
            Command::new(program_on_input(program.len())).stdin(&mut input)
        } else {
            Command::new(format!("/bin/sh -c {}", quoted_text(&program)))
        };
        let command = command.stderr(&mut said);
        match machine.exec(cx, command).await {
            Ok(status) if status.success() => Ok(()),
            Err(e) if e.is_cancelled() => Err(e),
            Ok(_) => {
                cx.say_error(format!("The temporary key may still be in authorized_keys: {}", said.text()));
                Ok(())
            }
            Err(e) => {
                cx.say_error(format!("The temporary key may still be in authorized_keys: {e}"));
                Ok(())
            }
        }
    }
}

/// Writes the files without the line that ends in the name; they keep owner and mode. `sudo` asks nobody.
const REMOVE: &str = r#"
remove='f=$1; test -f "$f" || exit 0; umask 077
N=" $2" awk "substr(\$0, length(\$0) - length(ENVIRON[\"N\"]) + 1) != ENVIRON[\"N\"]" "$f" >"$f.packer" && cat "$f.packer" >"$f"; s=$?; rm -f "$f.packer"; exit $s'
sh -c "$remove" sh "$HOME/.ssh/authorized_keys" "$name"; s=$?
if test "$(id -u)" = 0; then test "$HOME" = /root || sh -c "$remove" sh /root/.ssh/authorized_keys "$name"
elif command -v sudo >/dev/null 2>&1; then sudo -n sh -c "$remove" sh /root/.ssh/authorized_keys "$name" 2>/dev/null
fi
exit $s
"#;

/// A kind of key, with its size in bits where it has a choice.
#[derive(Clone, Copy)]
enum Kind {
    Rsa(u32),
    Ecdsa(u32),
    Ed25519,
    Dsa,
}

impl Kind {
    fn of(config: &CommunicatorConfig) -> Result<Self> {
        let bits = config.temporary_key_pair_bits.filter(|bits| *bits != 0);
        let wrong = |kind: &str, sizes: &str| {
            let bits = bits.unwrap_or_default();
            Error::user(format!(
                "temporary_key_pair_bits ({bits}) is invalid for a key of type {kind}: {sizes}"
            ))
        };
        match set(&config.temporary_key_pair_type).unwrap_or("rsa").to_lowercase().as_str() {
            "rsa" => match u32::try_from(bits.unwrap_or(4096)) {
                Ok(bits @ 1024..=16384) => Ok(Self::Rsa(bits)),
                _ => Err(wrong("rsa", "1024 to 16384")),
            },
            "ecdsa" => match bits.unwrap_or(521) {
                256 => Ok(Self::Ecdsa(256)),
                384 => Ok(Self::Ecdsa(384)),
                521 => Ok(Self::Ecdsa(521)),
                _ => Err(wrong("ecdsa", "256, 384 or 521")),
            },
            "ed25519" => Ok(Self::Ed25519),
            // SSH knows no others (RFC 4253, 6.6).
            "dsa" if bits.is_none_or(|bits| bits == 1024) => Ok(Self::Dsa),
            "dsa" => Err(wrong("dsa", "1024")),
            other => Err(Error::user(format!(
                "temporary_key_pair_type ('{other}') is invalid, valid types: dsa, ecdsa, ed25519, rsa"
            ))),
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Rsa(_) => "RSA",
            Self::Ecdsa(_) => "ECDSA",
            Self::Ed25519 => "ED25519",
            Self::Dsa => "DSA",
        }
    }

    /// The private key as text, and the public one as a line.
    fn make(self) -> std::result::Result<(Secret, String), String> {
        let failed = |e: &dyn std::fmt::Display| format!("making an SSH key: {e}");
        let native = match self {
            Self::Rsa(2048) => Some(rsa(KeySize::Rsa2048)),
            Self::Rsa(3072) => Some(rsa(KeySize::Rsa3072)),
            Self::Rsa(4096) => Some(rsa(KeySize::Rsa4096)),
            Self::Rsa(8192) => Some(rsa(KeySize::Rsa8192)),
            Self::Ecdsa(256) => Some(curve(&ecdsa::ECDSA_P256_SHA256_ASN1_SIGNING)),
            Self::Ecdsa(384) => Some(curve(&ecdsa::ECDSA_P384_SHA384_ASN1_SIGNING)),
            Self::Ecdsa(_) => Some(curve(&ecdsa::ECDSA_P521_SHA512_ASN1_SIGNING)),
            Self::Rsa(_) | Self::Ed25519 | Self::Dsa => None,
        };
        let (key, text) = match native {
            Some(der) => {
                let text = pem(&der.map_err(|e| failed(&e))?);
                (decode_secret_key(text.reveal(), None).map_err(|e| failed(&e))?, text)
            }
            None => {
                let mut rng = russh::keys::key::safe_rng();
                let key = match self {
                    Self::Rsa(bits) => RsaKeypair::random(&mut rng, bits as usize)
                        .and_then(|pair| PrivateKey::new(KeypairData::Rsa(pair), "")),
                    Self::Dsa => PrivateKey::random(&mut rng, Algorithm::Dsa),
                    _ => PrivateKey::random(&mut rng, Algorithm::Ed25519),
                };
                let key = key.map_err(|e| failed(&e))?;
                let text = key.to_openssh(LineEnding::LF).map_err(|e| failed(&e))?;
                (key, Secret::new(text.as_str()))
            }
        };
        Ok((text, key.public_key().to_openssh().map_err(|e| failed(&e))?))
    }
}

type Der = std::result::Result<Vec<u8>, aws_lc_rs::error::Unspecified>;

fn rsa(size: KeySize) -> Der {
    let pair = aws_lc_rs::rsa::KeyPair::generate(size)?;
    let der: Pkcs8V1Der<'_> = pair.as_der()?;
    Ok(der.as_ref().to_vec())
}

fn curve(kind: &'static ecdsa::EcdsaSigningAlgorithm) -> Der {
    let der = ecdsa::EcdsaKeyPair::generate_pkcs8(kind, &SystemRandom::new())?;
    Ok(der.as_ref().to_vec())
}

/// PKCS#8 as text (RFC 7468).
fn pem(der: &[u8]) -> Secret {
    let encoded = BASE64_STANDARD.encode(der);
    let mut text = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    for (i, c) in encoded.chars().enumerate() {
        if i > 0 && i % 64 == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text.push_str("\n-----END PRIVATE KEY-----\n");
    Secret::new(text)
}
