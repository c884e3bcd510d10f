//! Whether a host is who it should be: a pinned key, or the known-hosts file.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, HashAlg, PublicKey};
use sha1::Sha1;

use super::super::config::HostKeySource;
use super::keys::Pin;

/// How long somebody is asked for the keys of a host. Servers wait for two minutes until somebody logs in.
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(60);

/// How a host must prove who it is.
#[derive(Debug, Clone)]
pub(super) enum Trust {
    /// Any key will do.
    Any,
    /// One of these keys.
    Pinned(Vec<Pin>),
    /// One of those that the source tells, any where it tells none.
    Asked(Arc<dyn HostKeySource>),
    /// What the file says; an unknown host is written into it where `learn` is set, else refused.
    Known { file: PathBuf, learn: bool },
}

impl Trust {
    /// The same where nobody has to be asked any more.
    pub(super) async fn settled(&self) -> Self {
        let Self::Asked(source) = self else { return self.clone() };
        let keys = tokio::time::timeout(ASK_LIMIT, source.host_keys()).await.unwrap_or_default();
        let pins: Vec<Pin> = keys.iter().filter_map(|key| Pin::parse(key).ok()).collect();
        if pins.is_empty() { Self::Any } else { Self::Pinned(pins) }
    }

    /// Checks the key that a host showed; the error says what is wrong with it.
    pub(super) fn check(&self, host: &str, port: u16, key: &PublicKey) -> Result<(), String> {
        let shown = format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256));
        match self {
            Self::Any | Self::Asked(_) => Ok(()),
            Self::Pinned(pins) if pins.iter().any(|pin| pin.fits(key)) => Ok(()),
            Self::Pinned(_) => Err(format!(
                "the host key of {host} is not the expected one (that in ssh_host_key, or the machine's own as its \
                 builder knows it): the host shows {shown}. Either somebody stands between, or the host was made \
                 anew; in that case write its new key there"
            )),
            Self::Known { file, learn } => {
                let name = name(host, port);
                let found = if *learn {
                    learn_or_look_up(file, &name, key)?
                } else {
                    look_up(&read(file)?, &name, key)
                };
                match found {
                    Found::Same => Ok(()),
                    Found::Revoked(line) => Err(format!(
                        "the host key of {host} ({shown}) is revoked ({} line {line})",
                        file.display()
                    )),
                    Found::Other(line) => Err(format!(
                        "the host key of {host} is not the known one ({} line {line}): the host shows {shown}. \
                         Either somebody stands between, or the host was made anew; in that case remove the line",
                        file.display()
                    )),
                    Found::Nothing => Err(format!(
                        "the host key of {host} is not known: the host shows {shown}. \
                         Add it to {}, or set ssh_host_key",
                        file.display()
                    )),
                }
            }
        }
    }

    /// The kinds of key that are known for a host: they are asked for first, so that a host is not taken for another
    /// because it shows a second key of its own.
    pub(super) fn known_algorithms(&self, host: &str, port: u16) -> Vec<Algorithm> {
        match self {
            Self::Any | Self::Asked(_) => Vec::new(),
            Self::Pinned(pins) => pins.iter().filter_map(Pin::algorithm).collect(),
            Self::Known { file, .. } => {
                let text = read(file).unwrap_or_default();
                let name = name(host, port);
                entries(&text)
                    .filter(|(_, entry)| entry.marker().is_none() && matches(entry.host_patterns(), &name))
                    .map(|(_, entry)| entry.public_key().algorithm())
                    .collect()
            }
        }
    }
}

/// How the file writes a host.
fn name(host: &str, port: u16) -> String {
    let host = host.to_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

fn read(file: &Path) -> Result<String, String> {
    match std::fs::read(file) {
        // Comments may be in any encoding; what counts is ASCII.
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(format!("open {}: {}", file.display(), crate::error::os_text(&e))),
    }
}

/// What a file says about a key; with the number of the line.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Same,
    Other(usize),
    Revoked(usize),
    Nothing,
}

fn look_up(text: &str, name: &str, key: &PublicKey) -> Found {
    let mut found = Found::Nothing;
    for (line, entry) in entries(text) {
        if !matches(entry.host_patterns(), name) {
            continue;
        }
        let same = entry.public_key().key_data() == key.key_data();
        match entry.marker() {
            Some(Marker::Revoked) if same => return Found::Revoked(line),
            Some(_) => {}
            None if same => found = Found::Same,
            None if found == Found::Nothing => found = Found::Other(line),
            None => {}
        }
    }
    found
}

/// The entries that can be read, with the numbers of their lines; others are left out, as OpenSSH does.
fn entries(text: &str) -> impl Iterator<Item = (usize, Entry)> {
    let readable = |(i, line): (usize, &str)| {
        let line = line.trim();
        let entry = if line.starts_with('#') { None } else { line.parse().ok() };
        Some((i + 1, entry?))
    };
    text.lines().enumerate().filter_map(readable)
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
            .is_ok_and(|mac| mac.chain_update(name).verify_slice(hash).is_ok()),
        HostPatterns::Patterns(patterns) => {
            let negated = |p: &String| p.strip_prefix('!').is_some_and(|p| wildcard(p, name));
            !patterns.iter().any(negated) && patterns.iter().any(|p| wildcard(p, name))
        }
    }
}

/// `*` stands for any text, `?` for any character; linear in the text for each star.
fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_lowercase().into_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// Looks a key up and writes an unknown host down. The file is locked meanwhile, so that of builds that meet a host
/// at once only one learns it and the others compare.
fn learn_or_look_up(path: &Path, name: &str, key: &PublicKey) -> Result<Found, String> {
    let work = || -> std::io::Result<Found> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file: File = options.open(path)?;
        file.lock()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let found = look_up(&String::from_utf8_lossy(&bytes), name, key);
        if found != Found::Nothing {
            return Ok(found);
        }
        let line = key.to_openssh().map_err(std::io::Error::other)?;
        // Kind and key without the comment, which the host chose.
        let line: Vec<&str> = line.split(' ').take(2).collect();
        let start = if bytes.last().is_none_or(|last| *last == b'\n') { "" } else { "\n" };
        file.write_all(format!("{start}{name} {}\n", line.join(" ")).as_bytes())?;
        Ok(Found::Same)
    };
    work().map_err(|e| format!("write {}: {}", path.display(), crate::error::os_text(&e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    #[test]
    fn finds_hosts_as_openssh_does() {
        let hashed = "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak=";
        for (line, host, port, expected) in [
            (format!("localhost {A}"), "localhost", 22, Found::Same),
            (format!("LOCALHOST {A}"), "LocalHost", 22, Found::Same),
            (format!("[localhost]:13265 {A}"), "localhost", 13265, Found::Same),
            (format!("localhost {A}"), "localhost", 2222, Found::Nothing),
            (format!("localhost {B}"), "localhost", 22, Found::Other(1)),
            (format!("x,*.example.com {A} comment"), "a.example.com", 22, Found::Same),
            (format!("*.example.com,!a.example.com {A}"), "a.example.com", 22, Found::Nothing),
            (format!("10.0.0.? {A}"), "10.0.0.7", 22, Found::Same),
            (format!("@revoked * {A}"), "h", 22, Found::Revoked(1)),
            (format!("@cert-authority * {A}"), "h", 22, Found::Nothing),
            (format!("{hashed} {A}"), "example.com", 22, Found::Same),
            (format!("{hashed} {A}"), "example.org", 22, Found::Nothing),
            (format!("# h {A}\nbroken\n\nh {A}"), "h", 22, Found::Same),
            (format!("h {B}\nh {A}"), "h", 22, Found::Same),
            (format!("h {A}\n@revoked h {A}"), "h", 22, Found::Revoked(2)),
        ] {
            assert_eq!(look_up(&line, &name(host, port), &key(A)), expected, "{line} for {host}:{port}");
        }
    }

    #[test]
    fn learns_once_and_then_insists() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/known_hosts");
        let trust = |learn| Trust::Known { file: file.clone(), learn };
        assert!(trust(false).check("h", 22, &key(A)).unwrap_err().contains("is not known"));
        trust(true).check("h", 22, &key(A)).unwrap();
        trust(true).check("h", 22, &key(A)).unwrap();
        trust(false).check("h", 22, &key(A)).unwrap();
        assert!(trust(true).check("h", 22, &key(B)).unwrap_err().contains("not the known one"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("h {A}\n"));
        std::fs::write(&file, format!("h {A}")).unwrap();
        trust(true).check("i", 2, &key(B)).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("h {A}\n[i]:2 {B}\n"));
    }

    #[test]
    fn a_pin_is_a_key_or_its_fingerprint() {
        for pin in [A.to_owned(), format!("{A} root@host"), key(A).fingerprint(HashAlg::Sha256).to_string()] {
            let trust = Trust::Pinned(vec![Pin::parse(&pin).unwrap()]);
            trust.check("h", 22, &key(A)).unwrap();
            assert!(trust.check("h", 22, &key(B)).unwrap_err().contains("ssh_host_key"), "{pin}");
        }
    }
}
