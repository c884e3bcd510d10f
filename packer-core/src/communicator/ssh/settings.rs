//! From the options of a block to all that a connection needs.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::Certificate;
use russh::keys::{Algorithm, PrivateKey};
use russh::{cipher, client, kex, mac};

use super::super::config::{CommunicatorConfig, Target, expand_home, read_key_file, set};
use super::super::tunnel::Tunnel;
use super::dial::Bastion;
use super::host_key::Trust;
use super::keys::{KeyText, Pin, check_pair, parse_certificate, parse_key};
use super::proxy::Proxy;
use super::side::Wanted;
use super::stage::endpoint;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::secrets::Secret;

/// What a connection needs.
pub(super) struct Settings {
    pub(super) target: Hop,
    pub(super) bastion: Option<Bastion>,
    pub(super) proxy: Option<Proxy>,
    /// Of the connection to the machine; that to a bastion carries nothing else.
    pub(super) wanted: Wanted,
    pub(super) timeout: Option<Duration>,
    /// How many refused logins end the connecting; `None` is no limit.
    pub(super) attempts: Option<u32>,
    /// How long silence is borne before the peer counts as gone; `None` is forever.
    pub(super) patience: Option<Duration>,
    pub(super) read_write: Option<Duration>,
    pub(super) pty: bool,
    /// Whether files and folders that are there keep their permission bits, as they do with scp.
    pub(super) keeps_bits: bool,
    keep_alive: Option<Duration>,
    ciphers: Vec<cipher::Name>,
    exchanges: Vec<kex::Name>,
}

/// One host on the way.
pub(super) struct Hop {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) login: Login,
    pub(super) trust: Trust,
}

impl Hop {
    /// `HOST:PORT`, as messages name it.
    pub(super) fn endpoint(&self) -> String {
        endpoint(&self.host, self.port)
    }
}

/// The ways to log in, tried in this order.
pub(super) struct Login {
    /// Where the SSH agent listens.
    pub(super) agent: Option<PathBuf>,
    /// Keys with what they are called in messages and their certificates.
    pub(super) keys: Vec<(String, Arc<PrivateKey>, Option<Certificate>)>,
    pub(super) password: Option<Secret>,
    /// Who answers the server's questions, where that is a person.
    pub(super) person: Option<Context>,
}

impl Settings {
    /// Reads the options; passwords and keys are registered as secrets. For passphrases of keys the host is asked.
    pub(super) async fn new(cx: &Context, config: &CommunicatorConfig, target: &Target) -> Result<Self> {
        let (host, port) =
            config.endpoint(target).ok_or_else(|| Error::user("an ssh_host must be specified"))?;
        let user = config.username(target).ok_or_else(|| Error::user("an ssh_username must be specified"))?;
        let mut keys = Vec::new();
        if let Some(path) = set(&config.ssh_private_key_file) {
            keys.push(key_file(cx, "ssh_private_key_file", path, &config.ssh_certificate_file).await?);
        }
        if let Some(text) = target.private_key.as_ref().filter(|key| !key.is_empty()) {
            cx.secrets().add(text.reveal());
            let key = parse_key(text.reveal()).map_err(Error::user)?;
            keys.push(("the machine's own key".into(), Arc::new(key), None));
        }
        let password = config.login_password(target).cloned();
        let login = login(cx, config.ssh_agent_auth, keys, password)?;
        let pin = |text: &str, whose: &str| {
            Pin::parse(text).map_err(|why| Error::user(format!("{whose} is invalid: {why}")))
        };
        let unsaid =
            set(&config.ssh_host_key_checking).is_none() && set(&config.ssh_known_hosts_file).is_none();
        let pinned = match set(&config.ssh_host_key) {
            Some(text) => vec![pin(text, "ssh_host_key")?],
            None if unsaid => {
                let pin = |text: &String| pin(text, "the host key that the builder knows");
                target.host_keys.iter().map(pin).collect::<Result<_>>()?
            }
            None => Vec::new(),
        };
        let trust = trust(cx, config)?;
        let bastion = bastion(cx, config, user, &trust).await?;
        let trust = match &target.host_key_source {
            _ if !pinned.is_empty() => Trust::Pinned(pinned),
            Some(source) if unsaid => Trust::Asked(source.clone()),
            _ => trust,
        };

        let timeout =
            if config.ssh_wait_timeout.is_zero() { config.ssh_timeout } else { config.ssh_wait_timeout };
        let unset = timeout.is_zero() && config.ssh_handshake_attempts == 0;
        let limit = |duration: crate::duration::GoDuration| {
            (!duration.is_zero() && !duration.is_negative()).then(|| duration.to_std())
        };
        let keep_alive = match config.ssh_keep_alive_interval {
            interval if interval.is_zero() => Some(Duration::from_secs(5)),
            interval => limit(interval),
        };
        Ok(Self {
            target: Hop { host, port, user: user.into(), login, trust },
            bastion: bastion.map(Bastion::new),
            proxy: Proxy::new(cx, config)?,
            wanted: Wanted {
                local: tunnels("ssh_local_tunnels", &config.ssh_local_tunnels)?,
                remote: tunnels("ssh_remote_tunnels", &config.ssh_remote_tunnels)?,
                agent: agent_socket(cx).filter(|_| !config.ssh_disable_agent_forwarding),
            },
            timeout: if unset { Some(Duration::from_secs(300)) } else { limit(timeout) },
            attempts: match u32::try_from(config.ssh_handshake_attempts) {
                _ if unset => Some(10),
                Ok(attempts) if attempts > 0 => Some(attempts),
                _ => None,
            },
            // russh closes the connection when the fourth question stays without an answer.
            patience: keep_alive.map(|interval| interval * 4),
            read_write: limit(config.ssh_read_write_timeout),
            pty: config.ssh_pty,
            keeps_bits: set(&config.ssh_file_transfer_method) != Some("sftp"),
            keep_alive,
            ciphers: ciphers(config).0,
            exchanges: exchanges(config).0,
        })
    }

    /// The protocol's options for one host.
    pub(super) fn client(&self, hop: &Hop) -> client::Config {
        let mut preferred = russh::Preferred {
            kex: Cow::Owned(self.exchanges.clone()),
            cipher: Cow::Owned(self.ciphers.clone()),
            ..russh::Preferred::DEFAULT
        };
        // Machines with an old SSH server know nothing better.
        preferred.mac.to_mut().push(mac::HMAC_SHA1);
        let known = hop.trust.known_algorithms(&hop.host, hop.port);
        preferred
            .key
            .to_mut()
            .sort_by_key(|algorithm| !known.iter().any(|known| same_kind(known, algorithm)));
        client::Config {
            preferred,
            window_size: 16 << 20,
            maximum_packet_size: 65_535,
            keepalive_interval: self.keep_alive,
            keepalive_max: 3,
            nodelay: true,
            ..client::Config::default()
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.target.user, self.target.host, self.target.port)
    }
}

/// What the lists of algorithms name that nobody knows. It is passed over: another one may do.
pub(in super::super) fn unknown_algorithms(config: &CommunicatorConfig) -> Vec<String> {
    [ciphers(config).1, exchanges(config).1].concat()
}

fn tunnels(option: &str, texts: &[String]) -> Result<Arc<[Tunnel]>> {
    let parse = |text: &String| {
        Tunnel::parse(text).map_err(|why| Error::user(format!("{option} ('{text}') is invalid: {why}")))
    };
    texts.iter().map(parse).collect()
}

/// Where the SSH agent of this computer listens.
fn agent_socket(cx: &Context) -> Option<PathBuf> {
    let windows = || cfg!(windows).then(|| PathBuf::from(r"\\.\pipe\openssh-ssh-agent"));
    cx.env("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from).or_else(windows)
}

fn same_kind(a: &Algorithm, b: &Algorithm) -> bool {
    match (a, b) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
        (a, b) => a == b,
    }
}

async fn key_file(
    cx: &Context,
    name: &str,
    path: &str,
    certificate: &Option<String>,
) -> Result<(String, Arc<PrivateKey>, Option<Certificate>)> {
    let invalid = |name: &str, why: String| Error::user(format!("{name} is invalid: {why}"));
    let text = read_file(cx, path)?;
    cx.secrets().add(&text);
    let key = match KeyText::read(&text).map_err(|why| invalid(name, why))? {
        KeyText::Open(key) => *key,
        KeyText::Locked(locked) => {
            let open = move |passphrase: &str| locked.open(passphrase);
            let question = format!("The passphrase of the private key {path}: ");
            cx.ask_secret(&question, open).await.map_err(|e| e.context(format!("{name} ({path})")))?
        }
    };
    let certificate = match set(certificate) {
        Some(file) => {
            let text = read_file(cx, file)?;
            let name = name.replace("private_key", "certificate");
            let certificate = parse_certificate(&text).map_err(|why| invalid(&name, why))?;
            check_pair(&key, &certificate).map_err(|why| invalid(&name, why))?;
            Some(certificate)
        }
        None => None,
    };
    Ok((format!("key {path}"), Arc::new(key), certificate))
}

fn read_file(cx: &Context, path: &str) -> Result<String> {
    let home = cx.env("HOME").or_else(|| cx.env("USERPROFILE"));
    let path = expand_home(path, home).ok_or_else(|| {
        Error::user(format!("{path}: the home folder is not known (the host lends no HOME)"))
    })?;
    read_key_file(&path).map_err(|e| Error::io("open", &path, e))
}

fn login(
    cx: &Context,
    with_agent: bool,
    keys: Vec<(String, Arc<PrivateKey>, Option<Certificate>)>,
    password: Option<Secret>,
) -> Result<Login> {
    let agent = agent_socket(cx).filter(|_| with_agent);
    if with_agent && agent.is_none() {
        return Err(Error::user("Cannot connect to SSH Agent: SSH_AUTH_SOCK is not set"));
    }
    if let Some(password) = &password {
        cx.secrets().add(password.reveal());
    }
    Ok(Login { agent, keys, password, person: None })
}

fn trust(cx: &Context, config: &CommunicatorConfig) -> Result<Trust> {
    let file = set(&config.ssh_known_hosts_file);
    let learn = match set(&config.ssh_host_key_checking) {
        Some("none") => return Ok(Trust::Any),
        Some("accept-new") => true,
        Some("strict") => false,
        Some(other) => return Err(Error::user(format!("ssh_host_key_checking ('{other}') is invalid"))),
        None if file.is_some() => false,
        None => return Ok(Trust::Any),
    };
    let home = cx.env("HOME").or_else(|| cx.env("USERPROFILE"));
    let file = expand_home(file.unwrap_or("~/.ssh/known_hosts"), home).ok_or_else(|| {
        Error::user("ssh_known_hosts_file: the home folder is not known (the host lends no HOME)")
    })?;
    Ok(Trust::Known { file, learn })
}

async fn bastion(
    cx: &Context,
    config: &CommunicatorConfig,
    user: &str,
    trust: &Trust,
) -> Result<Option<Hop>> {
    let Some(host) = set(&config.ssh_bastion_host) else { return Ok(None) };
    let (name, key, certificate) = match set(&config.ssh_bastion_private_key_file) {
        Some(key) => ("ssh_bastion_private_key_file", Some(key), &config.ssh_bastion_certificate_file),
        None => ("ssh_private_key_file", set(&config.ssh_private_key_file), &config.ssh_certificate_file),
    };
    let keys = match key {
        Some(path) => vec![key_file(cx, name, path, certificate).await?],
        None => Vec::new(),
    };
    let password = config.ssh_bastion_password.clone().filter(|p| !p.is_empty());
    let mut login = login(cx, config.ssh_bastion_agent_auth, keys, password)?;
    login.person = config.ssh_bastion_interactive.then(|| cx.clone());
    Ok(Some(Hop {
        host: host.into(),
        port: config.ssh_bastion_port.filter(|port| *port != 0).unwrap_or(22),
        user: set(&config.ssh_bastion_username).unwrap_or(user).into(),
        login,
        trust: trust.clone(),
    }))
}

/// The ciphers to offer, and what is wrong with the list of them.
fn ciphers(config: &CommunicatorConfig) -> (Vec<cipher::Name>, Vec<String>) {
    if config.ssh_ciphers.is_empty() {
        // With the processor's own AES these move data fastest.
        let fast = vec![
            cipher::AES_128_GCM,
            cipher::AES_256_GCM,
            cipher::CHACHA20_POLY1305,
            cipher::AES_256_CTR,
            cipher::AES_192_CTR,
            cipher::AES_128_CTR,
        ];
        return (fast, Vec::new());
    }
    let usable = |name: &cipher::Name| *name != cipher::CLEAR && *name != cipher::NONE;
    let all: Vec<_> = cipher::ALL_CIPHERS.iter().map(|name| **name).filter(usable).collect();
    known("ssh_ciphers", &config.ssh_ciphers, &all)
}

/// The same for the methods of exchanging keys.
fn exchanges(config: &CommunicatorConfig) -> (Vec<kex::Name>, Vec<String>) {
    let default = &russh::Preferred::DEFAULT.kex;
    let is_marker =
        |name: &kex::Name| name.as_ref().starts_with("ext-info-") || name.as_ref().starts_with("kex-strict-");
    let usable = |name: &kex::Name| *name != kex::NONE && !is_marker(name);
    let all: Vec<_> = kex::ALL_KEX_ALGORITHMS.iter().map(|name| **name).filter(usable).collect();
    let names = &config.ssh_key_exchange_algorithms;
    let (mut list, wrong) = known("ssh_key_exchange_algorithms", names, &all);
    if names.is_empty() {
        list.extend(default.iter().filter(|name| !is_marker(name)).copied());
        // What servers offer that are old or bound to national standards.
        list.extend([
            kex::ECDH_SHA2_NISTP256,
            kex::ECDH_SHA2_NISTP384,
            kex::ECDH_SHA2_NISTP521,
            kex::DH_G14_SHA1,
        ]);
    }
    // Not methods, but marks that switch extensions of the protocol on.
    list.extend(default.iter().filter(|name| is_marker(name)).copied());
    (list, wrong)
}

/// Those of the names that are known, and what to say of the others.
fn known<N: AsRef<str> + Copy>(option: &str, names: &[String], all: &[N]) -> (Vec<N>, Vec<String>) {
    let (mut list, mut wrong) = (Vec::new(), Vec::new());
    for name in names {
        match all.iter().find(|known| known.as_ref() == name) {
            Some(known) => list.push(*known),
            None => {
                let mut all: Vec<&str> = all.iter().map(AsRef::as_ref).collect();
                all.sort_unstable();
                wrong.push(format!(
                    "{option} ('{name}') is not known and passed over; valid names: {}",
                    all.join(", ")
                ));
            }
        }
    }
    (list, wrong)
}
