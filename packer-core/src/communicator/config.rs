//! The options of the communicator, which every builder takes at the top level of its block.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::GoDuration;
use crate::facts::Facts;
use crate::secrets::Secret;
use crate::value::Value;

/// How a machine is entered: the options that a builder takes beside its own, with `#[serde(flatten)]`.
///
/// An empty text, an empty list and a zero mean "not set", as they do in templates.
///
/// ```
/// use packer_core::communicator::{CommunicatorConfig, Target};
/// let config = CommunicatorConfig::ssh("admin").key_file("id_ed25519").host("192.0.2.7");
/// assert_eq!(config.endpoint(&Target::default()), Some(("192.0.2.7".into(), 22)));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct CommunicatorConfig {
    /// `ssh` (the default of most builders), `winrm` or `none`; container builders add `docker` and
    /// `dockerWindowsContainer`.
    pub communicator: Option<String>,
    /// How long to wait after the machine could be entered for the first time; it is entered anew afterwards.
    pub pause_before_connecting: GoDuration,

    /// The address to connect to, instead of the one that the builder finds out.
    pub ssh_host: Option<String>,
    /// The port; 22 by default.
    pub ssh_port: Option<u16>,
    /// The user to log in as.
    pub ssh_username: Option<String>,
    /// The user's password; also answers every question of keyboard-interactive login.
    pub ssh_password: Option<Secret>,
    /// The file of a private key: OpenSSH's own form, PEM or PKCS#8; RSA, ECDSA or Ed25519. For the passphrase of one that is
    /// encrypted the host is [asked](crate::Prompt::ask_secret), once in a run. `~/` means the home folder.
    pub ssh_private_key_file: Option<String>,
    /// The file of an OpenSSH certificate for the private key.
    pub ssh_certificate_file: Option<String>,
    /// The name of a key pair that the cloud already has.
    pub ssh_keypair_name: Option<String>,
    /// The name of the key pair made for this build.
    pub temporary_key_pair_name: Option<String>,
    /// Which kind of key pair to make: `rsa` (the default), `ecdsa`, `ed25519` or `dsa`.
    pub temporary_key_pair_type: Option<String>,
    /// How many bits it has.
    pub temporary_key_pair_bits: Option<i64>,
    /// The ciphers to offer, best first.
    pub ssh_ciphers: Vec<String>,
    /// The key exchange methods to offer, best first.
    pub ssh_key_exchange_algorithms: Vec<String>,
    /// Whether the temporary key is removed from the machine after provisioning.
    pub ssh_clear_authorized_keys: bool,
    /// Whether each command gets a terminal (some `sudo` configurations want one).
    pub ssh_pty: bool,
    /// How long to try to connect. Without this and `ssh_handshake_attempts`: 5 minutes; with only the other: without end.
    pub ssh_timeout: GoDuration,
    /// The old name of `ssh_timeout`; wins over it.
    pub ssh_wait_timeout: GoDuration,
    /// How many refused logins end the connecting. Without this and `ssh_timeout`: 10; with only the other: no limit.
    pub ssh_handshake_attempts: i64,
    /// Whether to log in with the keys of the SSH agent behind `SSH_AUTH_SOCK`.
    pub ssh_agent_auth: bool,
    /// Whether the machine must not ask the SSH agent behind `SSH_AUTH_SOCK`; commands there may, otherwise.
    pub ssh_disable_agent_forwarding: bool,
    /// A host through which the machine is reached.
    pub ssh_bastion_host: Option<String>,
    /// Its port; 22 by default.
    pub ssh_bastion_port: Option<u16>,
    /// The user there; `ssh_username` by default.
    pub ssh_bastion_username: Option<String>,
    /// The password there.
    pub ssh_bastion_password: Option<Secret>,
    /// Whether whoever sits before the host answers the questions of the login there.
    pub ssh_bastion_interactive: bool,
    /// Whether to log in there with the SSH agent.
    pub ssh_bastion_agent_auth: bool,
    /// The private key there; `ssh_private_key_file` by default.
    pub ssh_bastion_private_key_file: Option<String>,
    /// The certificate for that key.
    pub ssh_bastion_certificate_file: Option<String>,
    /// `scp` (the default) or `sftp`: whether files that are there keep their permission bits. They move by SFTP with both where
    /// the server has it, else by scp, else through plain commands; folders of many small files as one archive where it has
    /// `tar`.
    pub ssh_file_transfer_method: Option<String>,
    /// A proxy through which the machine is reached.
    pub ssh_proxy_host: Option<String>,
    /// Its port; 1080 by default.
    pub ssh_proxy_port: Option<u16>,
    /// The user there.
    pub ssh_proxy_username: Option<String>,
    /// The password there.
    pub ssh_proxy_password: Option<Secret>,
    /// What kind of proxy it is: `socks5` (the default) or `http`, which is asked with `CONNECT`. (Not in Packer.)
    pub ssh_proxy_type: Option<String>,
    /// After how much silence to ask whether the machine is still there, 5 seconds by default; after the fourth
    /// question without an answer the connection counts as broken. A negative one never asks.
    pub ssh_keep_alive_interval: GoDuration,
    /// How long a read or write of the connection may take; without end by default.
    pub ssh_read_write_timeout: GoDuration,
    /// Ports of the machine that lead to this computer, as `LISTENPORT:HOST:PORT`: what connects there to `localhost:LISTENPORT`
    /// arrives at `HOST:PORT` as seen from here.
    pub ssh_remote_tunnels: Vec<String>,
    /// Ports of this computer that lead to the machine, as `LISTENPORT:HOST:PORT`: what connects here to
    /// `127.0.0.1:LISTENPORT` arrives at `HOST:PORT` as seen from the machine.
    pub ssh_local_tunnels: Vec<String>,

    /// Whether the machine must prove who it is: `none` trusts any key, as Packer does; `accept-new` remembers an
    /// unknown host in the known-hosts file and refuses a changed key; `strict` refuses unknown hosts too.
    /// Without it: `strict` where `ssh_host_key` or `ssh_known_hosts_file` is given, the machine's own key where its builder knows
    /// it, else `none`. (Not in Packer.)
    pub ssh_host_key_checking: Option<String>,
    /// The only key the machine may have: a line as in `ssh_host_ed25519_key.pub`, or a fingerprint
    /// `SHA256:…`. (Not in Packer.)
    pub ssh_host_key: Option<String>,
    /// The known-hosts file; `~/.ssh/known_hosts` by default. (Not in Packer.)
    pub ssh_known_hosts_file: Option<String>,

    /// The Windows user to log in as.
    pub winrm_username: Option<String>,
    /// The user's password.
    pub winrm_password: Option<Secret>,
    /// The address to connect to, instead of the one that the builder finds out.
    pub winrm_host: Option<String>,
    /// Whether proxies are left aside.
    pub winrm_no_proxy: bool,
    /// The port; 5985 by default, 5986 with TLS.
    pub winrm_port: Option<u16>,
    /// How long to try to connect; 30 minutes by default.
    pub winrm_timeout: GoDuration,
    /// Whether to use TLS.
    pub winrm_use_ssl: bool,
    /// Whether any certificate is trusted.
    pub winrm_insecure: bool,
    /// Whether to log in with NTLM.
    pub winrm_use_ntlm: Option<bool>,
}

/// Where a machine is and how it is entered, as far as its builder found out; what the template says about
/// the same things wins.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Target {
    /// The address.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The user.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// A private key as text, for instance the one made for this build.
    pub private_key: Option<Secret>,
    /// Its public half as one line.
    pub public_key: Option<String>,
    /// The keys that the machine may show, as `ssh_host_key` takes them: what its builder has read from it or put into it.
    /// None where the builder cannot tell.
    pub host_keys: Vec<String>,
    /// Who is asked for them where there are none yet when the machine shows its key.
    pub host_key_source: Option<Arc<dyn HostKeySource>>,
}

/// Tells by which keys a machine is known where that shows only while it starts: on its console, over its provider's API.
#[async_trait]
pub trait HostKeySource: std::fmt::Debug + Send + Sync {
    /// The keys, as [`Target::host_keys`] has them, as soon as they are known; none where nobody will tell them. What is no key
    /// is left out. It is asked when the machine has shown its key and nobody has logged in yet, and has a minute; without an
    /// answer the key counts as [unchecked](crate::EventKind::HostKeyUnchecked). Dropping the future ends the asking.
    async fn host_keys(&self) -> Vec<String>;
}

impl Target {
    /// An address and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: Some(host.into()), port: Some(port), ..Self::default() }
    }

    /// Says with which private key (its text) the machine is entered.
    #[must_use]
    pub fn private_key(mut self, key: impl Into<Secret>) -> Self {
        self.private_key = Some(key.into());
        self
    }

    /// Says by which key the machine is known: a line as in `ssh_host_ed25519_key.pub`, or a fingerprint `SHA256:…`. A machine
    /// may have several; connecting fails with any other, unless the template says how it is checked.
    ///
    /// ```
    /// use packer_core::Target;
    /// let target = Target::new("192.0.2.7", 22).host_key("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU");
    /// ```
    #[must_use]
    pub fn host_key(mut self, key: impl Into<String>) -> Self {
        self.host_keys.push(key.into());
        self
    }

    /// Says as whom the machine is entered where the template does not.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.username = Some(name.into());
        self
    }

    /// Says with which password the machine is entered where the template gives none.
    #[must_use]
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }
}

impl CommunicatorConfig {
    /// For a machine that cannot be entered.
    pub fn none() -> Self {
        Self { communicator: Some("none".into()), ..Self::default() }
    }

    /// For SSH as this user.
    pub fn ssh(username: impl Into<String>) -> Self {
        Self { communicator: Some("ssh".into()), ssh_username: Some(username.into()), ..Self::default() }
    }

    /// For WinRM as this user, over HTTP; the fields `winrm_…` say more.
    pub fn winrm(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        let (username, password) = (Some(username.into()), Some(password.into()));
        Self {
            communicator: Some("winrm".into()),
            winrm_username: username,
            winrm_password: password,
            ..Self::default()
        }
    }

    /// Sets the host, of WinRM or SSH.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        let own = if self.kind() == "winrm" { &mut self.winrm_host } else { &mut self.ssh_host };
        *own = Some(host.into());
        self
    }

    /// Sets the port, of WinRM or SSH.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        let own = if self.kind() == "winrm" { &mut self.winrm_port } else { &mut self.ssh_port };
        *own = Some(port);
        self
    }

    /// Sets the password, of WinRM or SSH.
    #[must_use]
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        let own = if self.kind() == "winrm" { &mut self.winrm_password } else { &mut self.ssh_password };
        *own = Some(password.into());
        self
    }

    /// Sets the file of the SSH private key.
    #[must_use]
    pub fn key_file(mut self, path: impl Into<String>) -> Self {
        self.ssh_private_key_file = Some(path.into());
        self
    }

    /// Which communicator this asks for: `ssh` where it does not say.
    pub fn kind(&self) -> &str {
        self.kind_or("ssh")
    }

    /// Which communicator this asks for, with the builder's own default. A builder whose default is one of ours uses
    /// [`or`](Self::or); this is for those with a communicator of their own.
    pub fn kind_or<'a>(&'a self, default: &'a str) -> &'a str {
        set(&self.communicator).unwrap_or(default)
    }

    /// The address and port to connect to; `None` while nobody knows the address.
    pub fn endpoint(&self, target: &Target) -> Option<(String, u16)> {
        let (host, port, default) = match self.kind() {
            "winrm" => (&self.winrm_host, self.winrm_port, if self.winrm_use_ssl { 5986 } else { 5985 }),
            _ => (&self.ssh_host, self.ssh_port, 22),
        };
        let host = set(host).or_else(|| set(&target.host))?;
        Some((host.to_owned(), number(port).or_else(|| number(target.port)).unwrap_or(default)))
    }

    /// The user to log in as.
    pub fn username<'a>(&'a self, target: &'a Target) -> Option<&'a str> {
        let own = if self.kind() == "winrm" { &self.winrm_username } else { &self.ssh_username };
        set(own).or_else(|| set(&target.username))
    }

    /// The password to log in with.
    pub fn login_password<'a>(&'a self, target: &'a Target) -> Option<&'a Secret> {
        let own = if self.kind() == "winrm" { &self.winrm_password } else { &self.ssh_password };
        let set = |secret: &'a Option<Secret>| secret.as_ref().filter(|s| !s.is_empty());
        set(own).or_else(|| set(&target.password))
    }

    /// What kind of proxy the machine is reached through.
    pub(super) fn proxy_type(&self) -> Result<ProxyType, String> {
        match set(&self.ssh_proxy_type) {
            None | Some("socks5") => Ok(ProxyType::Socks5),
            Some("http") => Ok(ProxyType::Http),
            Some(other) => Err(format!("ssh_proxy_type ('{other}') is invalid, valid types: socks5, http")),
        }
    }

    /// What is known about the connection, as `build.*` shows it: `ConnType`, `Host`, `Port`, `User`, `Password`,
    /// `SSHPublicKey`, `SSHPrivateKey`, `SSHPrivateKeyFile` and `SSHAgentAuth`, with WinRM `WinRMPassword`. Nothing
    /// for `none`.
    pub fn facts(&self, target: &Target) -> Facts {
        let kind = self.kind();
        if kind == "none" {
            return Facts::new();
        }
        let (host, port) = self.endpoint(target).unwrap_or_default();
        let password = self.login_password(target).map_or("", Secret::reveal);
        let key = target.private_key.as_ref().map_or("", Secret::reveal);
        let facts = Facts::new()
            .connection(kind, &host, port, self.username(target).unwrap_or_default())
            .password(password)
            .with("SSHPublicKey", set(&target.public_key).unwrap_or_default())
            .with("SSHPrivateKey", Value::from(key).sensitive())
            .with("SSHPrivateKeyFile", set(&self.ssh_private_key_file).unwrap_or_default())
            .with("SSHAgentAuth", self.ssh_agent_auth);
        match kind {
            "winrm" => facts.with("WinRMPassword", Value::from(password).sensitive()),
            _ => facts,
        }
    }
}

/// A kind of proxy.
#[derive(Debug, Clone, Copy)]
pub(super) enum ProxyType {
    Socks5,
    Http,
}

/// A text that is set: there and not empty.
pub(super) fn set(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// The path with a leading `~/` replaced by the home folder; `None` where that is not known.
pub(super) fn expand_home(path: &str, home: Option<&str>) -> Option<PathBuf> {
    match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', '\\']) => {
            home.map(|home| Path::new(home).join(rest.trim_start_matches(['/', '\\'])))
        }
        _ => Some(PathBuf::from(path)),
    }
}

/// How long the file of a key or certificate may be, in bytes.
const MOST_KEY: u64 = 1 << 20;

/// The text of a key's file. Not the end of it is waited for: devices have none.
pub(super) fn read_key_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(MOST_KEY + 1).read_to_string(&mut text)?;
    match read as u64 > MOST_KEY {
        true => Err(io::Error::other(format!("it has more than {} MiB and is no key", MOST_KEY >> 20))),
        false => Ok(text),
    }
}

fn number(port: Option<u16>) -> Option<u16> {
    port.filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_is_the_home_folder() {
        assert_eq!(expand_home("~/k", Some("/h")), Some("/h/k".into()));
        assert_eq!(expand_home("~k", Some("/h")), Some("~k".into()));
        assert_eq!(expand_home("~/k", None), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_without_an_end_is_no_key() {
        let error = read_key_file(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 1 MiB and is no key");
        assert_eq!(read_key_file(Path::new("/dev/null")).unwrap(), "");
    }

    #[test]
    fn reads_from_a_block_among_other_options() {
        #[derive(Deserialize, JsonSchema)]
        struct Builder {
            image: String,
            #[serde(flatten)]
            communicator: CommunicatorConfig,
        }
        let builder: Builder = serde_json::from_value(serde_json::json!({
            "image": "a", "ssh_port": 2222, "ssh_timeout": "1m", "ssh_password": "geheim", "ssh_ciphers": ["x"],
        }))
        .unwrap();
        let config = &builder.communicator;
        assert_eq!((config.kind(), builder.image.as_str()), ("ssh", "a"));
        assert_eq!(config.ssh_timeout, GoDuration::from_secs(60));
        assert_eq!(config.endpoint(&Target::new("h", 22)), Some(("h".into(), 2222)));
        assert!(!format!("{config:?}").contains("geheim"));
        let schema = schemars::schema_for!(Builder);
        assert_eq!(schema.pointer("/properties/ssh_pty/type").unwrap(), "boolean");
        assert_eq!(schema.pointer("/properties/ssh_timeout/type").unwrap(), "string");
        assert_eq!(schema.get("required").unwrap(), &serde_json::json!(["image"]));
    }

    #[test]
    fn the_template_wins_over_the_builder() {
        let target = Target::new("found", 2200).user("ubuntu").password("p");
        let config = CommunicatorConfig::default();
        assert_eq!(config.endpoint(&target), Some(("found".into(), 2200)));
        assert_eq!(config.username(&target), Some("ubuntu"));
        let config = CommunicatorConfig::ssh("me").host("given").port(22).password("q");
        assert_eq!(config.endpoint(&target), Some(("given".into(), 22)));
        assert_eq!(config.username(&target), Some("me"));
        assert_eq!(config.login_password(&target).map(Secret::reveal), Some("q"));
        assert_eq!(CommunicatorConfig::none().facts(&target), Facts::new());
        let facts = config.facts(&target);
        assert_eq!(facts.get("ConnType"), Some(&Value::from("ssh")));
        assert_eq!(facts.get("Port"), Some(&Value::from(22_i64)));
        let windows = CommunicatorConfig::winrm("Administrator", "a").host("w").password("b");
        assert_eq!(windows.endpoint(&target), Some(("w".into(), 2200)));
        assert_eq!(windows.clone().port(5986).endpoint(&target), Some(("w".into(), 5986)));
        assert_eq!(windows.login_password(&target).map(Secret::reveal), Some("b"));
    }
}
