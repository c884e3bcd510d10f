//! What can be said about a communicator's options before anything runs.

use super::config::{CommunicatorConfig, expand_home, read_key_file, set};
use super::tunnel::Tunnel;
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
    #[cfg(feature = "ssh")]
    if kind == "ssh" {
        for text in super::ssh::unknown_algorithms(config) {
            found.push(Diagnostic::warning(text));
        }
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
        _ => None,
    }
}

fn ssh(config: &CommunicatorConfig, cx: &PrepareContext, say: &mut impl FnMut(String)) {
    if set(&config.ssh_username).is_none() {
        say("An ssh_username must be specified\n  Note: some builders used to default ssh_username to \"root\"."
            .into());
    }
    key_pair(
        ("ssh_private_key_file", &config.ssh_private_key_file),
        ("ssh_certificate_file", &config.ssh_certificate_file),
        cx,
        say,
    );
    if set(&config.ssh_bastion_host).is_some() {
        let password = config.ssh_bastion_password.as_ref().is_some_and(|p: &Secret| !p.is_empty());
        let key = set(&config.ssh_bastion_private_key_file).or_else(|| set(&config.ssh_private_key_file));
        let asks = config.ssh_bastion_interactive && cx.host.prompt.can_ask();
        if !password && key.is_none() && !config.ssh_bastion_agent_auth && !asks {
            say("ssh_bastion_password, ssh_bastion_private_key_file or ssh_bastion_agent_auth must be specified"
                .into());
        }
        key_pair(
            ("ssh_bastion_private_key_file", &config.ssh_bastion_private_key_file),
            ("ssh_bastion_certificate_file", &config.ssh_bastion_certificate_file),
            cx,
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
            if let Err(why) = Tunnel::parse(text) {
                say(format!("{name} ('{text}') is invalid: {why}"));
            }
        }
    }
    host_key(config, say);
    if let Err(why) = config.proxy_type() {
        say(why);
    }
}

fn key_pair(
    (key_name, key): (&str, &Option<String>),
    (certificate_name, certificate): (&str, &Option<String>),
    cx: &PrepareContext,
    say: &mut impl FnMut(String),
) {
    let home = cx.env("HOME").or_else(|| cx.env("USERPROFILE"));
    let read = |path: &Option<String>| {
        // Without a home folder a `~` cannot be looked into here; connecting will say so.
        let path = set(path).and_then(|path| expand_home(path, home))?;
        let text = read_key_file(&path);
        Some(text.map_err(|e| format!("open {}: {}", path.display(), os_text(&e))))
    };
    if set(certificate).is_some() && set(key).is_none() {
        say(format!("{certificate_name} needs {key_name}"));
    }
    let (key, certificate) = (read(key), read(certificate));
    for (name, why) in check_key_pair(key, certificate, cx.host.prompt.can_ask()) {
        let name = if name == Half::Key { key_name } else { certificate_name };
        say(format!("{name} is invalid: {why}"));
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Half {
    Key,
    Certificate,
}

type Text = Option<Result<String, String>>;

/// What is wrong with the texts of a key and its certificate.
#[cfg(feature = "ssh")]
fn check_key_pair(key: Text, certificate: Text, can_ask: bool) -> Vec<(Half, String)> {
    use super::ssh::{KeyText, LOCKED, check_pair, parse_certificate};
    let key = key.map(|text| text.and_then(|text| KeyText::read(&text)));
    let certificate = certificate.map(|text| text.and_then(|text| parse_certificate(&text)));
    match (key, certificate) {
        (Some(Ok(KeyText::Locked(_))), _) if !can_ask => vec![(Half::Key, LOCKED.into())],
        (Some(Err(why)), _) => vec![(Half::Key, why)],
        (_, Some(Err(why))) => vec![(Half::Certificate, why)],
        (Some(Ok(KeyText::Open(key))), Some(Ok(certificate))) => {
            check_pair(&key, &certificate).err().map(|why| (Half::Certificate, why)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Without the SSH communicator nobody can read a key; that it is there is enough.
#[cfg(not(feature = "ssh"))]
fn check_key_pair(key: Text, certificate: Text, _: bool) -> Vec<(Half, String)> {
    let missing = |half, text: Text| text.and_then(Result::err).map(|why| (half, why));
    missing(Half::Key, key).into_iter().chain(missing(Half::Certificate, certificate)).collect()
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
                serde_json::json!({"ssh_username": "u", "ssh_proxy_type": "ftp", "ssh_host_key_checking": "yes"}),
                vec![
                    "ssh_host_key_checking ('yes') is invalid, valid modes: none, accept-new, strict",
                    "ssh_proxy_type ('ftp') is invalid, valid types: socks5, http",
                ],
            ),
        ] {
            assert_eq!(messages(json.clone()), expected, "{json}");
        }
    }
}
