//! What can be said about a communicator's options before anything runs.

use super::config::{CommunicatorConfig, expand_home, set};
use crate::context::PrepareContext;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::os_text;
use crate::secrets::Secret;

impl CommunicatorConfig {
    /// Checks the options of the communicator that [`kind`](Self::kind) names; the findings have Packer's words.
    pub fn prepare(&self, cx: &PrepareContext) -> Diagnostics {
        check(self, self.kind(), cx)
    }

    /// The same with the builder's own default.
    pub fn prepare_or(&self, default: &str, cx: &PrepareContext) -> Diagnostics {
        check(self, self.kind_or(default), cx)
    }

    /// What these options ask for that this build of the library does not have, such as a communicator whose cargo feature is
    /// off. A builder says so when it has found nothing else wrong: mend the options first, then the build.
    pub fn unsupported(&self) -> Option<Diagnostic> {
        unsupported(self)
    }
}

/// Checks the options of the communicator `kind`.
fn check(config: &CommunicatorConfig, kind: &str, cx: &PrepareContext) -> Diagnostics {
    let mut found = Diagnostics::new();
    let mut say = |text: String| found.push(Diagnostic::error(text));
    match kind {
        "ssh" => ssh(config, cx, &mut say),
        "winrm" => {
            if set(&config.winrm_username).is_none() {
                say("winrm_username must be specified.".into());
            }
        }
        "none" | "docker" | "dockerWindowsContainer" => {}
        other => say(format!("Communicator type {other} is invalid")),
    }
    found
}

/// What the options ask for that this build of the library does not have.
fn unsupported(config: &CommunicatorConfig) -> Option<Diagnostic> {
    let missing = |what: &str, detail: &str| Some(Diagnostic::error(what).detail(detail));
    match config.kind() {
        "winrm" if !cfg!(feature = "winrm") => missing(
            "this build of the library has no WinRM communicator",
            "The host program was built without the cargo feature \"winrm\" of packer-core.",
        ),
        "ssh" if !cfg!(feature = "ssh") => missing(
            "this build of the library has no SSH communicator",
            "The host program was built without the cargo feature \"ssh\" of packer-core.",
        ),
        "ssh" if set(&config.ssh_proxy_host).is_some() => {
            missing("ssh_proxy_host: this version does not connect through a SOCKS proxy", "")
        }
        "ssh" if !config.ssh_remote_tunnels.is_empty() || !config.ssh_local_tunnels.is_empty() => {
            missing("ssh_local_tunnels, ssh_remote_tunnels: this version opens no tunnels", "")
        }
        "ssh" if config.ssh_bastion_interactive => missing(
            "ssh_bastion_interactive: this version does not ask for a bastion's password",
            "Use ssh_bastion_password, ssh_bastion_private_key_file or ssh_bastion_agent_auth.",
        ),
        _ => None,
    }
}

fn ssh(config: &CommunicatorConfig, cx: &PrepareContext, say: &mut impl FnMut(String)) {
    if set(&config.ssh_username).is_none() {
        say("An ssh_username must be specified\n  Note: some builders used to default ssh_username to \"root\"."
            .into());
    }
    let home = cx.env("HOME").or_else(|| cx.env("USERPROFILE"));
    key_pair(
        ("ssh_private_key_file", &config.ssh_private_key_file),
        ("ssh_certificate_file", &config.ssh_certificate_file),
        home,
        say,
    );
    if set(&config.ssh_bastion_host).is_some() {
        let password = config.ssh_bastion_password.as_ref().is_some_and(|p: &Secret| !p.is_empty());
        let key = set(&config.ssh_bastion_private_key_file).or_else(|| set(&config.ssh_private_key_file));
        if !password && key.is_none() && !config.ssh_bastion_agent_auth {
            say("ssh_bastion_password, ssh_bastion_private_key_file or ssh_bastion_agent_auth must be specified"
                .into());
        }
        key_pair(
            ("ssh_bastion_private_key_file", &config.ssh_bastion_private_key_file),
            ("ssh_bastion_certificate_file", &config.ssh_bastion_certificate_file),
            home,
            say,
        );
        if set(&config.ssh_proxy_host).is_some() {
            say("please specify either ssh_bastion_host or ssh_proxy_host, not both".into());
        }
    }
    if let Some(method) = set(&config.ssh_file_transfer_method)
        && !matches!(method, "scp" | "sftp")
    {
        say(format!("ssh_file_transfer_method ('{method}') is invalid, valid methods: sftp, scp"));
    }
    for (name, tunnels) in
        [("ssh_remote_tunnels", &config.ssh_remote_tunnels), ("ssh_local_tunnels", &config.ssh_local_tunnels)]
    {
        for text in tunnels {
            if let Err(why) = tunnel(text) {
                say(format!("{name} ('{text}') is invalid: {why}"));
            }
        }
    }
    temporary_key(config, say);
    host_key(config, say);
    #[cfg(feature = "ssh")]
    for text in super::ssh::check_algorithms(config) {
        say(text);
    }
}

fn key_pair(
    (key_name, key): (&str, &Option<String>),
    (certificate_name, certificate): (&str, &Option<String>),
    home: Option<&str>,
    say: &mut impl FnMut(String),
) {
    let readable = |name: &str, path: &Option<String>, check: fn(&str) -> Result<(), String>| {
        // Without a home folder a `~` cannot be looked into here; connecting will say so.
        let path = set(path).and_then(|path| expand_home(path, home))?;
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("open {}: {}", path.display(), os_text(&e)));
        text.and_then(|text| check(&text)).err().map(|why| format!("{name} is invalid: {why}"))
    };
    readable(key_name, key, check_key).into_iter().for_each(&mut *say);
    if set(certificate).is_some() && set(key).is_none() {
        say(format!("{certificate_name} needs {key_name}"));
    }
    readable(certificate_name, certificate, check_certificate).into_iter().for_each(say);
}

#[cfg(feature = "ssh")]
fn check_key(text: &str) -> Result<(), String> {
    super::ssh::parse_key(text).map(drop)
}

#[cfg(feature = "ssh")]
fn check_certificate(text: &str) -> Result<(), String> {
    super::ssh::parse_certificate(text).map(drop)
}

/// Without the SSH communicator nobody can read a key; that it is there is enough.
#[cfg(not(feature = "ssh"))]
fn check_key(_: &str) -> Result<(), String> {
    Ok(())
}

#[cfg(not(feature = "ssh"))]
fn check_certificate(_: &str) -> Result<(), String> {
    Ok(())
}

/// `LISTENPORT:HOST:PORT`, an IPv6 address in brackets.
fn tunnel(text: &str) -> Result<(), String> {
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("{text:?} is no port number"));
    let (listen, target) = text.split_once(':').ok_or("it must have the form LISTENPORT:HOST:PORT")?;
    port(listen)?;
    let (host, to) = target.rsplit_once(':').ok_or("it must have the form LISTENPORT:HOST:PORT")?;
    port(to)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || (host.contains(':') && !bracketed) {
        return Err(format!("{host:?} is no host (an IPv6 address stands in brackets)"));
    }
    Ok(())
}

fn temporary_key(config: &CommunicatorConfig, say: &mut impl FnMut(String)) {
    let kind = set(&config.temporary_key_pair_type).unwrap_or("rsa").to_lowercase();
    let bits = config.temporary_key_pair_bits.unwrap_or(0);
    let fits = match kind.as_str() {
        _ if bits == 0 => true,
        "rsa" => bits >= 1024,
        "ecdsa" => matches!(bits, 256 | 384 | 521),
        "dsa" => matches!(bits, 1024 | 2048 | 3072),
        _ => true,
    };
    if !matches!(kind.as_str(), "dsa" | "ecdsa" | "ed25519" | "rsa") {
        say(format!("temporary_key_pair_type ('{kind}') is invalid, valid types: dsa, ecdsa, ed25519, rsa"));
    } else if !fits {
        say(format!("temporary_key_pair_bits ({bits}) is invalid for a key of type {kind}"));
    }
}

fn host_key(config: &CommunicatorConfig, say: &mut impl FnMut(String)) {
    if let Some(mode) = set(&config.ssh_host_key_checking)
        && !matches!(mode, "none" | "accept-new" | "strict")
    {
        say(format!("ssh_host_key_checking ('{mode}') is invalid, valid modes: none, accept-new, strict"));
    }
    #[cfg(feature = "ssh")]
    if let Some(key) = set(&config.ssh_host_key)
        && let Err(why) = super::ssh::check_pin(key)
    {
        say(format!("ssh_host_key is invalid: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(json: serde_json::Value) -> Vec<String> {
        let config: CommunicatorConfig = serde_json::from_value(json).unwrap();
        config.prepare(&PrepareContext::default()).iter().map(|d| d.summary.clone()).collect()
    }

    #[test]
    fn findings_have_packers_words() {
        for (json, expected) in [
            (serde_json::json!({"communicator": "none"}), vec![]),
            (serde_json::json!({"communicator": "telnet"}), vec!["Communicator type telnet is invalid"]),
            (serde_json::json!({"communicator": "winrm"}), vec!["winrm_username must be specified."]),
            (
                serde_json::json!({}),
                vec![
                    "An ssh_username must be specified\n  Note: some builders used to default ssh_username to \"root\".",
                ],
            ),
            (
                serde_json::json!({"ssh_username": "u", "ssh_private_key_file": "/no/such", "ssh_file_transfer_method": "ftp"}),
                vec![
                    "ssh_private_key_file is invalid: open /no/such: no such file or directory",
                    "ssh_file_transfer_method ('ftp') is invalid, valid methods: sftp, scp",
                ],
            ),
            (
                serde_json::json!({"ssh_username": "u", "ssh_bastion_host": "b", "ssh_proxy_host": "p"}),
                vec![
                    "ssh_bastion_password, ssh_bastion_private_key_file or ssh_bastion_agent_auth must be specified",
                    "please specify either ssh_bastion_host or ssh_proxy_host, not both",
                ],
            ),
            (
                serde_json::json!({"ssh_username": "u", "temporary_key_pair_type": "quantum", "ssh_host_key_checking": "yes"}),
                vec![
                    "temporary_key_pair_type ('quantum') is invalid, valid types: dsa, ecdsa, ed25519, rsa",
                    "ssh_host_key_checking ('yes') is invalid, valid modes: none, accept-new, strict",
                ],
            ),
        ] {
            assert_eq!(messages(json.clone()), expected, "{json}");
        }
    }

    #[test]
    fn tunnels_are_port_host_port() {
        for good in ["8080:localhost:80", "1:[::1]:2", "65535:a.b:1"] {
            assert_eq!(tunnel(good), Ok(()), "{good}");
        }
        for bad in ["", "80", "80:x", "a:b:80", "80:b:c", "80::1:2", "80::5", "99999:h:1"] {
            assert!(tunnel(bad).is_err(), "{bad}");
        }
    }
}
