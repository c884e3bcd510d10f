//! Where the engine is: `DOCKER_HOST`, a context, or the usual socket, as the `docker` command finds it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::credentials::config_folder;
use crate::context::Host;
use crate::error::{Error, Result};
use crate::language::{LARGEST, read_bounded};

/// The address of an engine and what secures the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `unix:///var/run/docker.sock`, `tcp://HOST:PORT`, `ssh://USER@HOST`, `npipe:////./pipe/docker_engine`.
    pub(super) address: String,
    /// Where `ca.pem`, `cert.pem` and `key.pem` are; `None` is no TLS.
    pub(super) certificates: Option<PathBuf>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// `HOST[:PORT]`, an IPv6 address in brackets. `None` where that is not what it is; a path is not, which would name a
/// socket over there.
pub(super) fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']')? {
            (name, "") => (name, None),
            (name, port) => (name, Some(port.strip_prefix(':')?)),
        },
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map(str::parse).transpose().ok()?;
    (!name.is_empty() && !name.contains('/')).then_some((name, port))
}

const SOCKET: &str =
    if cfg!(windows) { "npipe:////./pipe/docker_engine" } else { "unix:///var/run/docker.sock" };

/// What the host's variables and Docker's configuration say.
pub(super) fn find(host: &Host) -> Result<Endpoint> {
    let set = |name: &str| host.env.get(name).map(String::as_str).filter(|value| !value.is_empty());
    // Any value counts, as for the `docker` command.
    let verify = set("DOCKER_TLS_VERIFY").is_some();
    if !verify && set("DOCKER_TLS").is_some() {
        return Err(Error::user(
            "DOCKER_TLS without DOCKER_TLS_VERIFY: an engine whose certificate is not checked is not spoken to",
        ));
    }
    let certificates = || -> Result<Option<PathBuf>> {
        if !verify {
            return Ok(None);
        }
        let folder = set("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| config_folder(host));
        folder.map(Some).ok_or_else(|| Error::user("DOCKER_TLS_VERIFY is set, but not DOCKER_CERT_PATH"))
    };
    if let Some(address) = set("DOCKER_HOST") {
        return Ok(Endpoint { address: address.to_owned(), certificates: certificates()? });
    }
    let usual = || Ok(Endpoint { address: SOCKET.to_owned(), certificates: None });
    let Some(folder) = config_folder(host) else { return usual() };
    let name = match set("DOCKER_CONTEXT") {
        Some(name) => name.to_owned(),
        None => current_context(&folder),
    };
    if name.is_empty() || name == "default" { usual() } else { context(&folder, &name) }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ConfigFile {
    #[serde(rename = "currentContext")]
    current: String,
}

/// The context that Docker's configuration names; empty for none.
fn current_context(folder: &Path) -> String {
    let path = folder.join("config.json");
    let Ok(text) = read_bounded(&path, LARGEST) else { return String::new() };
    // One that is not understood names none; who looks for credentials in it says so.
    serde_json::from_slice::<ConfigFile>(&text).unwrap_or_default().current
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "Endpoints", default)]
    endpoints: Endpoints,
}

#[derive(Default, Deserialize)]
struct Endpoints {
    docker: Option<DockerEndpoint>,
}

#[derive(Deserialize)]
struct DockerEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_verify: bool,
}

fn context(folder: &Path, name: &str) -> Result<Endpoint> {
    let id: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = folder.join("contexts/meta").join(&id).join("meta.json");
    let text = read_bounded(&path, LARGEST)
        .map_err(|e| Error::user(format!("the Docker context {name:?} is not known")).with_source(e))?;
    let metadata: Metadata =
        serde_json::from_slice(&text).map_err(|e| Error::user(format!("{}: {e}", path.display())))?;
    let endpoint = metadata
        .endpoints
        .docker
        .ok_or_else(|| Error::user(format!("the Docker context {name:?} has no engine")))?;
    if endpoint.skip_verify {
        return Err(Error::user(format!(
            "the Docker context {name:?} skips the check of the engine's certificate: such an engine is not spoken to"
        )));
    }
    let tls = folder.join("contexts/tls").join(&id).join("docker");
    let address = if endpoint.host.is_empty() { SOCKET.to_owned() } else { endpoint.host };
    Ok(Endpoint { address, certificates: tls.is_dir().then_some(tls) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(variables: &[(&str, &str)]) -> Host {
        let mut host = Host::new();
        host.env.extend(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        host
    }

    #[test]
    fn variables_go_before_contexts_before_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().display().to_string();
        assert_eq!(find(&host(&[])).unwrap().address, SOCKET);
        assert_eq!(find(&host(&[("DOCKER_CONFIG", &folder)])).unwrap().address, SOCKET);
        for spoilt in ["", "[1", "{\"currentContext\": 1}"] {
            std::fs::write(dir.path().join("config.json"), spoilt).unwrap();
            assert_eq!(find(&host(&[("DOCKER_CONFIG", &folder)])).unwrap().address, SOCKET, "{spoilt}");
        }
        std::fs::write(dir.path().join("config.json"), r#"{"currentContext": "far"}"#).unwrap();
        let error = find(&host(&[("DOCKER_CONFIG", &folder)])).unwrap_err();
        assert_eq!(error.message(), "the Docker context \"far\" is not known");
        let id: String = Sha256::digest(b"far").iter().map(|b| format!("{b:02x}")).collect();
        let meta = dir.path().join("contexts/meta").join(&id);
        std::fs::create_dir_all(&meta).unwrap();
        let text = r#"{"Name": "far", "Metadata": {}, "Endpoints": {"docker": {"Host": "tcp://far:2376", "SkipTLSVerify": false}}}"#;
        std::fs::write(meta.join("meta.json"), text).unwrap();
        let found = find(&host(&[("DOCKER_CONFIG", &folder)])).unwrap();
        assert_eq!(found, Endpoint { address: "tcp://far:2376".into(), certificates: None });
        let tls = dir.path().join("contexts/tls").join(&id).join("docker");
        std::fs::create_dir_all(&tls).unwrap();
        assert_eq!(find(&host(&[("DOCKER_CONFIG", &folder)])).unwrap().certificates, Some(tls));
        let default = host(&[("DOCKER_CONFIG", &folder), ("DOCKER_CONTEXT", "default")]);
        assert_eq!(find(&default).unwrap().address, SOCKET);
        let given = host(&[("DOCKER_CONFIG", &folder), ("DOCKER_HOST", "unix:///x")]);
        assert_eq!(find(&given).unwrap(), Endpoint { address: "unix:///x".into(), certificates: None });
        let secure =
            host(&[("DOCKER_HOST", "tcp://x"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/c")]);
        assert_eq!(find(&secure).unwrap().certificates, Some("/c".into()));
        assert!(find(&host(&[("DOCKER_TLS", "1")])).is_err());
    }
}
