//! What functions may reach outside of their arguments: files, time, environment, services, as the host lends them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::services::{NoServices, Services};
use crate::clock::Clock;
use crate::language::read::{is_named_pipe, read_bounded};
use crate::secrets::Secrets;
use crate::value::Value;

/// What functions may reach. Cheap to clone.
///
/// [`Capabilities::none`] is the safest: files and services are refused, no variable is set, folders are `.`; the clock runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Capabilities {
    /// Reads files and lists folders.
    pub files: Arc<dyn Files>,
    /// Asks services outside of this machine: `vault`, `consul_key`, `aws_secretsmanager`.
    pub services: Arc<dyn Services>,
    /// Learns the secrets that services answer with.
    pub secrets: Secrets,
    /// Ends the waiting for a service.
    pub cancel: CancellationToken,
    /// What `timestamp()` shows.
    pub clock: Clock,
    /// When the process or run began: what `legacy_isotime()` and `legacy_strftime()` show.
    pub started: Timestamp,
    /// What `env("NAME")` sees where the language allows it, and where services are found.
    pub env: Arc<BTreeMap<String, String>>,
    /// What relative paths of `file`, `fileset`, `templatefile` start from: the template's folder.
    pub base_dir: PathBuf,
    /// What relative paths of `abspath` and `filebase64` start from: the working directory.
    pub cwd: PathBuf,
    /// What `~` stands for; `None` where nobody knows.
    pub home: Option<PathBuf>,
}

impl Capabilities {
    /// No files, no services, no variables.
    pub fn none() -> Self {
        let clock = Clock::system();
        let started = clock.now();
        Self {
            files: Arc::new(NoFiles),
            services: Arc::new(NoServices),
            secrets: Secrets::new(),
            cancel: CancellationToken::new(),
            clock,
            started,
            env: Arc::default(),
            base_dir: PathBuf::from("."),
            cwd: PathBuf::from("."),
            home: None,
        }
    }

    /// The real file system, seen from a template's folder and a working directory; no services, no variables.
    pub fn real_files(base_dir: impl Into<PathBuf>, cwd: impl Into<PathBuf>) -> Self {
        Self { files: Arc::new(RealFiles), base_dir: base_dir.into(), cwd: cwd.into(), ..Self::none() }
    }

    /// The path with a leading `~` replaced by the home folder.
    ///
    /// # Errors
    /// For `~user`, and where no home folder is known.
    pub fn expand_home(&self, path: &str) -> Result<PathBuf, String> {
        let Some(rest) = path.strip_prefix('~') else { return Ok(PathBuf::from(path)) };
        if !(rest.is_empty() || rest.starts_with(['/', '\\'])) {
            return Err("cannot expand user-specific home dir".to_owned());
        }
        let home = self.home.as_ref().ok_or("the home directory is not known")?;
        Ok(home.join(rest.trim_start_matches(['/', '\\'])))
    }

    /// A path as the file functions understand it: `~` expanded, relative ones from the template's folder.
    ///
    /// # Errors
    /// As [`expand_home`](Self::expand_home).
    pub fn template_path(&self, path: &str) -> Result<PathBuf, String> {
        Ok(self.cwd.join(&self.base_dir).join(self.expand_home(path)?))
    }
}

/// What kind of thing a path names, after following links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A folder.
    Directory,
    /// A regular file.
    File,
    /// A device, a socket, a pipe.
    Other,
}

/// Access to files, as far as the host grants it.
pub trait Files: Send + Sync + fmt::Debug {
    /// The whole content of a file.
    ///
    /// # Errors
    /// As the system says, or where the host refuses.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// What a path names.
    ///
    /// # Errors
    /// As the system says (`NotFound` where there is nothing), or where the host refuses.
    fn kind(&self, path: &Path) -> io::Result<FileKind>;

    /// The names in a folder, in any order.
    ///
    /// # Errors
    /// As the system says, or where the host refuses.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Where a path leads when every link in it is followed: tells folders apart that are reached twice.
    ///
    /// # Errors
    /// As the system says, or where the host refuses.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
}

/// The file system of this machine.
#[derive(Debug, Clone, Copy)]
pub struct RealFiles;

impl Files for RealFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if is_named_pipe(path) {
            return Err(io::Error::other(
                "it is a named pipe, and one could wait forever for what comes out of it",
            ));
        }
        read_bounded(path, Value::MAX_SIZE)
    }

    fn kind(&self, path: &Path) -> io::Result<FileKind> {
        let kind = std::fs::metadata(path)?.file_type();
        Ok(match () {
            () if kind.is_dir() => FileKind::Directory,
            () if kind.is_file() => FileKind::File,
            () => FileKind::Other,
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        // A name that is no Unicode cannot be said in a template.
        std::fs::read_dir(path)?
            .filter_map(|entry| entry.map(|e| e.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }
}

/// Refuses every access.
#[derive(Debug, Clone, Copy)]
pub struct NoFiles;

impl NoFiles {
    fn refuse<T>() -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "this host gives templates no access to files"))
    }
}

impl Files for NoFiles {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Self::refuse()
    }

    fn kind(&self, _: &Path) -> io::Result<FileKind> {
        Self::refuse()
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Self::refuse()
    }

    fn canonical(&self, _: &Path) -> io::Result<PathBuf> {
        Self::refuse()
    }
}
