//! The ledger: what a run brought into the world, written down before it exists.
//!
//! Whatever outlives a function call (a container, a key pair, a temporary file) is a [`Resource`]. The entry is
//! durable before the call that creates it starts, so a process that dies at any instant leaves a ledger from
//! which a later one can clean up. Normal cleanup, cancellation and recovery are the same code: release
//! what the ledger still holds, in reverse order.
//!
//! [`FileLedger`] is one run's ledger in a file, [`LedgerFolder`] the place where those of many runs lie.

use std::collections::HashMap;
use std::fmt;
#[cfg(unix)]
use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod file;
mod folder;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Result;
use crate::secrets::{Secrets, scrub_json};

pub use file::{FileLedger, Spoilt};
pub use folder::{Found, LedgerFolder};

/// How long a lock may outlive its file here: a program that this process is just starting has all that is open in here
/// until it really begins.
pub(crate) const INHERITED: Duration = Duration::from_millis(500);

/// The kind of a local process, as [`kit::process`](crate::kit::process) starts it.
pub(crate) const PROCESS: &str = "process";

/// Names one resource for as long as any ledger remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceId(pub(crate) Uuid);

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What kind of component a resource belongs to: the same type name may stand for several (`file`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// A builder.
    #[default]
    Builder,
    /// A provisioner.
    Provisioner,
    /// A post-processor.
    PostProcessor,
}

/// Something that exists outside this process and has to be released.
///
/// It must say everything that releasing needs, without a secret: [`Builder::release`] may be called by a later
/// process, from the ledger alone, on a builder made from `config`.
///
/// [`Builder::release`]: crate::Builder::release
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Resource {
    /// Its name in the ledger.
    pub id: ResourceId,
    /// The type of the component that releases it (`docker`); the engine fills it in. Empty for what the
    /// engine releases itself: files, folders and local processes.
    #[serde(default)]
    pub component: String,
    /// What kind of component that is; the engine fills it in.
    #[serde(default)]
    pub role: Role,
    /// What it is: `container`, `image`, `file`, `directory`, `process`.
    pub kind: String,
    /// What it is called where it lives: a container's name, a path.
    pub name: String,
    /// What else releasing it needs.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
    /// The configuration from which a later process makes the component that releases it. No secrets.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub config: serde_json::Value,
    /// The display name of the build it belongs to; the engine fills it in.
    #[serde(default)]
    pub build: String,
    /// Of what lies inside the machine of the build: the resources that this machine is, which the engine fills in. It
    /// goes with them. None where the machine is somebody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Vec<ResourceId>>,
}

impl Resource {
    /// A resource of a kind, by the name under which it can be found again. Choose the name before the create
    /// call and make the call use it: a resource whose name only the answer tells is lost when the answer is.
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            id: ResourceId(Uuid::new_v4()),
            component: String::new(),
            role: Role::default(),
            kind: kind.into(),
            name: name.into(),
            details: serde_json::Value::Null,
            config: serde_json::Value::Null,
            build: String::new(),
            machine: None,
        }
    }

    /// A file that a provisioner puts into the machine and takes out again. What a try leaves there that failed or was
    /// dropped, [`Provisioner::clean`](crate::Provisioner::clean) takes out while the machine is up.
    pub fn remote_file(path: impl Into<String>) -> Self {
        Self { machine: Some(Vec::new()), ..Self::new("remote file", path) }
    }

    /// A file that the engine removes.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self::new("file", path.as_ref().to_string_lossy())
    }

    /// A folder that the engine removes with all that is in it.
    pub fn directory(path: impl AsRef<Path>) -> Self {
        Self::new("directory", path.as_ref().to_string_lossy())
    }

    /// Adds what releasing needs to know.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<serde_json::Value>) -> Self {
        self.details = details.into();
        self
    }

    /// Adds the configuration (without secrets) from which the releasing component can be made again.
    #[must_use]
    pub fn with_config(mut self, config: impl Into<serde_json::Value>) -> Self {
        self.config = config.into();
        self
    }

    /// Takes secrets out of what is shown of it. The ledger has it as it is: there should be none in it.
    pub(crate) fn scrub(&mut self, secrets: &Secrets) {
        let clean = |text: &mut String| {
            if let std::borrow::Cow::Owned(scrubbed) = secrets.scrub_prose(text.as_str()) {
                *text = scrubbed;
            }
        };
        clean(&mut self.name);
        scrub_json(&mut self.details, &clean);
        scrub_json(&mut self.config, &clean);
    }

    /// Whether it lies inside the machine of the build.
    pub fn is_in_machine(&self) -> bool {
        self.machine.is_some()
    }

    /// Whether it lies inside a machine that is none of the build's: one that was there before, and stays.
    pub(crate) fn is_in_anothers_machine(&self) -> bool {
        self.machine.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether it went with the machine that it lies in, as far as what still exists tells.
    pub(crate) fn went_with_its_machine(&self, outstanding: &[Self]) -> bool {
        let gone = |id: &ResourceId| outstanding.iter().all(|resource| resource.id != *id);
        self.machine.as_ref().is_some_and(|machine| !machine.is_empty() && machine.iter().all(gone))
    }

    /// Whether the engine releases it itself.
    pub fn is_local(&self) -> bool {
        self.is_path() || self.is_process()
    }

    /// Whether it is a file or folder that the engine removes.
    pub(crate) fn is_path(&self) -> bool {
        self.component.is_empty() && matches!(self.kind.as_str(), "file" | "directory")
    }

    /// Whether it is a local process that the engine ends, with all that it started.
    pub(crate) fn is_process(&self) -> bool {
        self.component.is_empty() && self.kind == PROCESS
    }
}

/// `KIND NAME`, for messages.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Where resources are written down.
///
/// # Behavior
/// - `record` returns only when the entry is as durable as the ledger can make it; recording an id again replaces
///   what is known of it (its place in the order stays).
/// - `released` and `kept` of an id that is not outstanding are no errors.
/// - All methods may be called from many threads at once; calls are short.
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Writes a resource down, before it is created.
    fn record(&self, resource: &Resource) -> Result<()>;
    /// Strikes out a resource that exists no more.
    fn released(&self, id: ResourceId) -> Result<()>;
    /// Strikes out a resource that outlives the run because an artifact owns it now.
    fn kept(&self, id: ResourceId) -> Result<()>;
    /// Strikes out several at once: all that an artifact owns. A ledger on disk should do so in one write, so that a process
    /// that dies meanwhile leaves none or all of them struck out.
    fn kept_all(&self, ids: &[ResourceId]) -> Result<()> {
        ids.iter().try_for_each(|id| self.kept(*id))
    }
    /// What is neither released nor kept, in the order of recording.
    fn outstanding(&self) -> Vec<Resource>;
    /// Why it is not sure that an outstanding resource is to be released, where it is not: recovery leaves such a one alone and
    /// says so.
    fn doubt(&self, _id: ResourceId) -> Option<String> {
        None
    }
}

/// Order-keeping table of what is outstanding.
#[derive(Debug, Default)]
struct Table {
    next: u64,
    entries: HashMap<ResourceId, (u64, Resource)>,
}

impl Table {
    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Recorded { resource } => {
                let order = self.entries.get(&resource.id).map_or(self.next, |(order, _)| *order);
                self.next += 1;
                self.entries.insert(resource.id, (order, *resource));
            }
            Entry::Released { id } | Entry::Kept { id } => {
                self.entries.remove(&id);
            }
            Entry::KeptAll { ids } => {
                for id in ids {
                    self.entries.remove(&id);
                }
            }
        }
    }

    fn outstanding(&self) -> Vec<Resource> {
        let mut rows: Vec<_> = self.entries.values().collect();
        rows.sort_by_key(|(order, _)| *order);
        rows.into_iter().map(|(_, resource)| resource.clone()).collect()
    }
}

/// One line of a file ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "entry")]
enum Entry {
    Recorded { resource: Box<Resource> },
    Released { id: ResourceId },
    Kept { id: ResourceId },
    KeptAll { ids: Vec<ResourceId> },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking holder left is a whole table: every change is one insert or remove.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A ledger that lives and dies with the process: enough for cleanup and cancellation, not for recovery.
#[derive(Debug, Default)]
pub struct MemoryLedger(Mutex<Table>);

impl MemoryLedger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Ledger for MemoryLedger {
    fn record(&self, resource: &Resource) -> Result<()> {
        lock(&self.0).apply(Entry::Recorded { resource: Box::new(resource.clone()) });
        Ok(())
    }

    fn released(&self, id: ResourceId) -> Result<()> {
        lock(&self.0).apply(Entry::Released { id });
        Ok(())
    }

    fn kept(&self, id: ResourceId) -> Result<()> {
        lock(&self.0).apply(Entry::Kept { id });
        Ok(())
    }

    fn outstanding(&self) -> Vec<Resource> {
        lock(&self.0).outstanding()
    }
}

/// Makes the name of a new file durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    #[cfg(unix)]
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| crate::error::Error::io("sync", folder, e))?;
    #[cfg(not(unix))]
    let _ = folder; // folders cannot be opened for syncing there; the file's own sync covers its name
    Ok(())
}
