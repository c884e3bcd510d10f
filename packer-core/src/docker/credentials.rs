//! Credentials of container registries, from where the `docker` command keeps them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::context::Host;
use crate::error::{Error, Result};
use crate::kit::shell::process;
use crate::language::{LARGEST, read_bounded};
use crate::secrets::{Secret, first_lines};

/// The key under which credentials of Docker Hub are kept.
pub const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What lets into a registry.
///
/// Whoever sends it registers the secret first: `cx.secrets().add(found.secret.reveal())`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The user; empty beside an identity token.
    pub username: String,
    /// The password, or the identity token.
    pub secret: Secret,
    /// Whether the secret is an OAuth2 refresh token, which is exchanged for an access token, and no password.
    pub is_identity_token: bool,
}

impl Credentials {
    /// A user's name and password.
    pub fn password(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { username: username.into(), secret: password.into(), is_identity_token: false }
    }

    /// An identity token.
    pub fn identity_token(token: impl Into<Secret>) -> Self {
        Self { username: String::new(), secret: token.into(), is_identity_token: true }
    }
}

/// What is known of a registry.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Found {
    /// What lets into it; `None` where nothing is known.
    pub credentials: Option<Credentials>,
    /// The first thing that was wrong with the configuration: a file that cannot be read or understood, a helper that is
    /// missing or fails otherwise than by not knowing the registry. No reason to give up: a public image can be had
    /// without credentials. Who needs them wants to hear of it.
    pub problem: Option<Error>,
}

impl Found {
    /// The two of them.
    pub fn into_parts(self) -> (Option<Credentials>, Option<Error>) {
        (self.credentials, self.problem)
    }

    /// What one place has; whether the search ends with it.
    fn take(&mut self, place: Result<Option<Credentials>>) -> bool {
        match place {
            Ok(found) => self.credentials = found,
            Err(error) => drop(self.problem.get_or_insert(error)),
        }
        self.credentials.is_some()
    }
}

/// Looks for the credentials of a registry (`ghcr.io`, `127.0.0.1:5000`, `docker.io`; a URL is taken too): in the helper
/// that `credHelpers` names for it, else in `credsStore`, then in `auths` of `DOCKER_AUTH_CONFIG` and of `config.json`
/// in `DOCKER_CONFIG` or `HOME/.docker`, all as the host lends them.
pub async fn find(host: &Host, server: &str) -> Found {
    let server = hostname(server);
    let mut found = Found::default();
    if let Some(text) = host.env.get("DOCKER_AUTH_CONFIG").filter(|text| !text.trim().is_empty()) {
        let file = parse("DOCKER_AUTH_CONFIG", text.as_bytes());
        if found.take(file.and_then(|file| file.stored("DOCKER_AUTH_CONFIG", server))) {
            return found;
        }
    }
    let Some(path) = config_folder(host).map(|folder| folder.join("config.json")) else { return found };
    let file = match read(path.clone()).await {
        Ok(Some(text)) => parse(&path.display().to_string(), &text),
        Ok(None) => return found,
        Err(error) => Err(error),
    };
    let file = match file {
        Ok(file) => file,
        Err(error) => {
            found.take(Err(error));
            return found;
        }
    };
    if let Some(helper) = file.helper(server)
        && found.take(ask(host, helper, key(server)).await)
    {
        return found;
    }
    found.take(file.stored(&path.display().to_string(), server));
    found
}

/// The text of the configuration; `None` where there is none.
async fn read(path: PathBuf) -> Result<Option<Vec<u8>>> {
    let name = path.clone();
    let read = tokio::task::spawn_blocking(move || read_bounded(&path, LARGEST)).await;
    match read.map_err(io::Error::other).flatten() {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("open", &name, e)),
    }
}

/// The folder of Docker's configuration: `DOCKER_CONFIG`, else `.docker` in the home folder, as the host lends them.
pub fn config_folder(host: &Host) -> Option<PathBuf> {
    let set = |name: &str| host.env.get(name).filter(|value| !value.is_empty());
    match set("DOCKER_CONFIG") {
        Some(folder) => Some(PathBuf::from(folder)),
        None => set("HOME").or_else(|| set("USERPROFILE")).map(|home| Path::new(home).join(".docker")),
    }
}

/// What `config.json` says about credentials; nothing else of it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigFile {
    auths: BTreeMap<String, Stored>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stored {
    /// Base64 of `USER:PASSWORD`.
    auth: Secret,
    username: String,
    password: Secret,
    identitytoken: Secret,
}

fn parse(place: &str, text: &[u8]) -> Result<ConfigFile> {
    // The parser's own message may quote the text, which holds secrets.
    let wrong = |line: usize, column: usize| {
        Error::user(format!("{place}: not a Docker configuration (line {line}, column {column})"))
    };
    let file = serde_json::from_slice(text).map_err(|e| wrong(e.line(), e.column()))?;
    // The values of a list would count as those of the fields, in their order.
    match text.trim_ascii_start().starts_with(b"{") {
        true => Ok(file),
        false => Err(wrong(1, 1)),
    }
}

impl ConfigFile {
    fn helper(&self, server: &str) -> Option<&str> {
        let own = self.helpers.iter().find(|(name, _)| same(name, server)).map(|(_, helper)| helper);
        own.or(Some(&self.store)).map(String::as_str).filter(|helper| !helper.is_empty())
    }

    fn stored(&self, place: &str, server: &str) -> Result<Option<Credentials>> {
        // Of several spellings of one registry the one that `docker login` writes goes first.
        let exact = self.auths.get_key_value(key(server));
        let Some((name, entry)) = exact.or_else(|| self.auths.iter().find(|(name, _)| same(name, server)))
        else {
            return Ok(None);
        };
        if !entry.identitytoken.is_empty() {
            return Ok(Some(Credentials::identity_token(entry.identitytoken.clone())));
        }
        if entry.auth.is_empty() {
            // Beside a helper `docker login` leaves an empty entry.
            let given = !entry.username.is_empty() || !entry.password.is_empty();
            return Ok(given.then(|| Credentials::password(entry.username.clone(), entry.password.clone())));
        }
        let pair = base64::engine::general_purpose::STANDARD.decode(entry.auth.reveal().trim()).ok();
        let pair = pair.and_then(|bytes| String::from_utf8(bytes).ok());
        match pair.as_deref().and_then(|pair| pair.split_once(':')) {
            // Some programs pad the password with zero bytes.
            Some((user, password)) => Ok(Some(Credentials::password(user, password.trim_end_matches('\0')))),
            None => Err(Error::user(format!("{place}: auth of {name} is not base64 of USER:PASSWORD"))),
        }
    }
}

/// What a helper answers.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: Secret,
}

/// How much a helper may answer, in bytes, and how much of what it says of a failure is told.
const LONGEST_ANSWER: usize = 1 << 20;
const LONGEST_COMPLAINT: usize = 4096;

/// Asks `docker-credential-HELPER`.
async fn ask(host: &Host, helper: &str, key: &str) -> Result<Option<Credentials>> {
    let program = format!("docker-credential-{helper}");
    let mut command = Command::new(&program);
    command.arg("get").envs(&host.env);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let fail = |e: io::Error| Error::io("exec", &program, e);
    let mut child = process::spawn(&mut command).map_err(fail)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says why in its answer.
        let _ = stdin.write_all(key.as_bytes()).await;
    }
    let output = process::output(child, LONGEST_ANSWER).await.map_err(fail)?;
    if !output.status.success() {
        // Failing helpers answer on standard output; what they write is no secret then.
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let said = first_lines(said.trim(), LONGEST_COMPLAINT);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        let status = output.status;
        return Err(Error::user(format!("{program}: credentials of {key}: {status}: {said}")));
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| Error::user(format!("{program}: the answer for {key} is not what a helper answers")))?;
    Ok(match answer.username.as_str() {
        "" if answer.secret.is_empty() => None,
        "<token>" => Some(Credentials::identity_token(answer.secret)),
        _ => Some(Credentials::password(answer.username, answer.secret)),
    })
}

/// The registry of a key: without scheme and path.
fn hostname(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or_default()
}

fn is_docker_hub(hostname: &str) -> bool {
    matches!(hostname, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// Whether a key of the configuration stands for a registry.
pub(super) fn same(key: &str, server: &str) -> bool {
    let name = hostname(key);
    name == server || (is_docker_hub(name) && is_docker_hub(server))
}

/// The key that `docker login` uses for a registry.
fn key(server: &str) -> &str {
    if is_docker_hub(server) { DOCKER_HUB } else { server }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(folder: &Path, config: &str) -> Host {
        std::fs::write(folder.join("config.json"), config).unwrap();
        let mut host = Host::new();
        host.env.insert("DOCKER_CONFIG".into(), folder.display().to_string());
        host
    }

    #[tokio::test]
    async fn stored_credentials_are_found_under_any_spelling() {
        let dir = tempfile::tempdir().unwrap();
        // u:p:q, and a token
        let host = host(
            dir.path(),
            r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpwOnE="}, "https://r.example/v2/": {"identitytoken": "t"},
                "empty.example": {}, "plain.example:5000": {"username": "a", "password": "b"}, "bad.example": {"auth": "!"}},
                "HttpHeaders": {"x": "y"}}"#,
        );
        let found = |server: &'static str| {
            let host = host.clone();
            async move { find(&host, server).await.credentials }
        };
        let hub = Credentials::password("u", "p:q");
        for name in ["docker.io", "index.docker.io", "registry-1.docker.io", DOCKER_HUB] {
            assert_eq!(found(name).await, Some(hub.clone()), "{name}");
        }
        assert_eq!(found("r.example").await, Some(Credentials::identity_token("t")));
        assert_eq!(found("plain.example:5000").await, Some(Credentials::password("a", "b")));
        assert_eq!(found("empty.example").await, None);
        assert_eq!(found("unknown.example").await, None);
        let (none, error) = find(&host, "bad.example").await.into_parts();
        let error = error.unwrap();
        assert_eq!(none, None);
        assert!(error.message().ends_with("auth of bad.example is not base64 of USER:PASSWORD"), "{error}");
    }

    #[tokio::test]
    async fn a_spoilt_file_is_a_problem_that_does_not_quote_it() {
        let dir = tempfile::tempdir().unwrap();
        for text in [r#"{"auths": {"r": {"auth": 12345}}}"#, "", "12345"] {
            let (none, error) = find(&host(dir.path(), text), "r").await.into_parts();
            let error = error.unwrap();
            assert_eq!(none, None);
            assert!(error.message().contains("not a Docker configuration (line "), "{error}");
            assert!(!error.message().contains("12345"), "{error}");
        }
        let nothing = find(&Host::new(), "r").await;
        assert!(nothing.credentials.is_none() && nothing.problem.is_none());
        // The environment still counts.
        let mut host = host(dir.path(), "");
        host.env.insert("DOCKER_AUTH_CONFIG".into(), r#"{"auths": {"r": {"auth": "eDp5"}}}"#.into());
        assert_eq!(find(&host, "r").await.credentials, Some(Credentials::password("x", "y")));
    }

    #[tokio::test]
    async fn the_environment_goes_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = host(dir.path(), r#"{"auths": {"r": {"auth": "dTpw"}, "s": {"auth": "dTpw"}}}"#);
        host.env.insert("DOCKER_AUTH_CONFIG".into(), r#"{"auths": {"r": {"auth": "eDp5"}}}"#.into());
        assert_eq!(find(&host, "r").await.credentials, Some(Credentials::password("x", "y")));
        assert_eq!(find(&host, "s").await.credentials, Some(Credentials::password("u", "p")));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn helpers_are_asked() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = host(
            dir.path(),
            r#"{"credsStore": "all", "credHelpers": {"r.example": "one", "gone.example": "no-such", "endless.example": "endless"}, "auths": {"s.example": {"auth": "dTpw"}, "broken.example": {"auth": "dTpw"}}}"#,
        );
        let helper = |name: &str, script: &str| {
            use std::os::unix::fs::PermissionsExt;
            let path = dir.path().join(format!("docker-credential-{name}"));
            process::write_executable(|| std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        };
        helper(
            "one",
            r#"read -r s; echo "{\"ServerURL\": \"$s\", \"Username\": \"$1\", \"Secret\": \"of $s\"}""#,
        );
        helper(
            "all",
            r#"read -r s; case "$s" in t.example) echo '{"Username":"<token>","Secret":"T"}';; broken.example) echo no bus; exit 2;; *) echo "credentials not found in native keychain"; exit 1;; esac"#,
        );
        helper("endless", "exec yes");
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        host.env.insert("PATH".into(), path);
        let credentials = |server: &'static str| {
            let host = host.clone();
            async move { find(&host, server).await.credentials }
        };
        assert_eq!(credentials("r.example").await, Some(Credentials::password("get", "of r.example")));
        assert_eq!(credentials("t.example").await, Some(Credentials::identity_token("T")));
        assert_eq!(credentials("s.example").await, Some(Credentials::password("u", "p")));
        assert_eq!(credentials("docker.io").await, None);
        let broken = find(&host, "broken.example").await;
        // What a helper that fails does not say, the file may.
        assert_eq!(broken.credentials, Some(Credentials::password("u", "p")));
        assert!(broken.problem.unwrap().message().ends_with("no bus"));
        let endless = find(&host, "endless.example").await.problem.unwrap();
        assert!(endless.message().ends_with("it prints more than 1024 KiB"), "{endless}");
        let gone = find(&host, "gone.example").await;
        assert_eq!(gone.credentials, None);
        let why = gone.problem.unwrap();
        assert_eq!(why.message(), "exec docker-credential-no-such: no such file or directory");
    }
}
