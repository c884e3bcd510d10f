//! What a host lends to components: folders, variables, and somebody who answers questions.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, Result};

/// What the host lends to components. The library itself reads no environment variable: a host that wants
/// components to see its own calls [`Host::from_process`].
#[derive(Clone)]
#[non_exhaustive]
pub struct Host {
    /// Where temporary files go.
    pub temp_dir: PathBuf,
    /// Where downloads and the like stay between runs.
    pub cache_dir: PathBuf,
    /// Variables that components read (`HOME`, `SSH_AUTH_SOCK`, proxies); local commands inherit the process's own beside them.
    pub env: BTreeMap<String, String>,
    /// Who answers questions.
    pub prompt: Arc<dyn Prompt>,
}

impl Host {
    /// The system's usual folder for temporary files, no variables, nobody to ask.
    pub fn new() -> Self {
        let temp = if cfg!(windows) { "C:\\Windows\\Temp" } else { "/tmp" };
        Self {
            temp_dir: PathBuf::from(temp),
            cache_dir: Path::new(temp).join("packer-cache"),
            env: BTreeMap::new(),
            prompt: Arc::new(NobodyToAsk),
        }
    }

    /// The environment of this process: `TMPDIR`, `PACKER_CACHE_DIR`, `XDG_CACHE_HOME`, `HOME` and all else.
    pub fn from_process() -> Self {
        // Names and values that are no Unicode cannot be said in a template either.
        Self::from_env(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    /// An environment: its variables, and the folders that they name as Packer finds them.
    pub fn from_env(env: BTreeMap<String, String>) -> Self {
        let usual = Self::new();
        let mut host = Self { env, ..usual };
        let temp = if cfg!(windows) { ["TMP", "TEMP"].as_slice() } else { &["TMPDIR"] };
        if let Some(folder) = temp.iter().find_map(|name| host.folder(name)) {
            host.temp_dir = folder;
        }
        host.cache_dir = host
            .folder("PACKER_CACHE_DIR")
            .or_else(|| Some(host.folder("XDG_CACHE_HOME")?.join("packer")))
            .or_else(|| Some(host.folder("HOME")?.join(".cache/packer")))
            .unwrap_or_else(|| PathBuf::from("packer_cache"));
        host
    }

    /// Packer's folder for what is a user's own, plugins for one: `.packer.d` in `PACKER_CONFIG_DIR`, else in `HOME` where
    /// there is one, else `packer` in `XDG_CONFIG_HOME` or `HOME/.config`; on Windows `packer.d` in `PACKER_CONFIG_DIR` or
    /// `APPDATA`. `None` where the variables name none. It need not be there. Nothing makes a `.packer.d` in `HOME`: from
    /// then on it would hide what is in `HOME/.config/packer`.
    pub fn config_dir(&self) -> Option<PathBuf> {
        if cfg!(windows) {
            let parent =
                ["PACKER_CONFIG_DIR", "APPDATA", "HOME"].into_iter().find_map(|name| self.folder(name));
            return Some(parent?.join("packer.d"));
        }
        if let Some(parent) = self.folder("PACKER_CONFIG_DIR") {
            return Some(parent.join(".packer.d"));
        }
        let home = self.folder("HOME")?;
        let old = home.join(".packer.d");
        if old.exists() {
            return Some(old);
        }
        Some(self.folder("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("packer"))
    }

    /// The folder that a variable names; an empty one names none.
    fn folder(&self, name: &str) -> Option<PathBuf> {
        self.env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// Says who answers questions.
    #[must_use]
    pub fn prompt(mut self, prompt: impl Prompt + 'static) -> Self {
        self.prompt = Arc::new(prompt);
        self
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Variables may hold secrets.
        write!(f, "Host({}, {} variables)", self.temp_dir.display(), self.env.len())
    }
}

/// Answers questions of a run: a terminal, a window, a test.
#[async_trait]
pub trait Prompt: Send + Sync {
    /// Shows the question and returns the answer without its line end.
    ///
    /// # Errors
    /// Where nobody can be asked. The future is dropped when the run is cancelled.
    async fn ask(&self, question: &str) -> Result<String>;

    /// The same for an answer that nobody else must see, such as a passphrase: a terminal does not show it.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask), which is what this calls unless it is overridden.
    async fn ask_secret(&self, question: &str) -> Result<String> {
        self.ask(question).await
    }

    /// Whether there is somebody who could answer; where there is nobody, what needs an answer is found before anything
    /// runs. `true` unless it is overridden.
    fn can_ask(&self) -> bool {
        true
    }
}

struct NobodyToAsk;

#[async_trait]
impl Prompt for NobodyToAsk {
    async fn ask(&self, _: &str) -> Result<String> {
        Err(Error::user("there is nobody to ask: the host has no terminal"))
    }

    fn can_ask(&self) -> bool {
        false
    }
}
