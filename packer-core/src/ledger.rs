//! The ledger: what a run brought into the world, written down before it exists.
//!
//! Whatever outlives a function call (a container, a key pair, a temporary file) is a [`Resource`]. The entry is
//! durable before the call that creates it starts, so a process that dies at any instant leaves a ledger from
//! which a later one can clean up. Normal cleanup, cancellation and recovery are the same code: release
//! what the ledger still holds, in reverse order.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

/// How long a lock may outlive its file here: a program that this process is just starting has all that is open in here
/// until it really begins.
pub(crate) const INHERITED: Duration = Duration::from_millis(500);

/// Names one resource for as long as any ledger remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceId(Uuid);

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
    /// engine releases itself: files and folders.
    #[serde(default)]
    pub component: String,
    /// What kind of component that is; the engine fills it in.
    #[serde(default)]
    pub role: Role,
    /// What it is: `container`, `image`, `file`, `directory`.
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

    /// Whether it lies inside the machine of the build.
    pub fn is_in_machine(&self) -> bool {
        self.machine.is_some()
    }

    /// Whether it went with the machine that it lies in, as far as what still exists tells.
    pub(crate) fn went_with_its_machine(&self, outstanding: &[Self]) -> bool {
        let gone = |id: &ResourceId| outstanding.iter().all(|resource| resource.id != *id);
        self.machine.as_ref().is_some_and(|machine| !machine.is_empty() && machine.iter().all(gone))
    }

    /// Whether the engine releases it itself.
    pub fn is_local(&self) -> bool {
        self.component.is_empty() && matches!(self.kind.as_str(), "file" | "directory")
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
    /// What is neither released nor kept, in the order of recording.
    fn outstanding(&self) -> Vec<Resource>;
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
#[serde(rename_all = "lowercase", tag = "entry")]
enum Entry {
    Recorded { resource: Box<Resource> },
    Released { id: ResourceId },
    Kept { id: ResourceId },
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

/// A ledger in a file: one JSON line an entry, written before `record` returns.
///
/// What a component made (a machine in a cloud) is also synced to the disk, so that it survives a loss of power, and so
/// is what is kept. A local file or folder is no more durable than its line and is not synced, nor is a release,
/// which can be repeated.
///
/// A process that dies while it writes leaves a torn last line; opening the file again drops that line, whose
/// resource cannot exist yet because its create call waits for the sync. The file is locked while it is open,
/// so that a recovery never releases what a living run still needs.
#[derive(Debug)]
pub struct FileLedger {
    path: PathBuf,
    state: Mutex<State>,
    /// How many bytes are synced, and the file again: syncing does not keep others from writing.
    synced: Mutex<(u64, File)>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// The bytes of whole lines.
    whole: u64,
    table: Table,
}

impl FileLedger {
    /// Opens a ledger, or makes it, and reads what is outstanding in it.
    ///
    /// # Errors
    /// Where the file cannot be opened or read, another process has it open (which is worth another try later), or a line before the last is
    /// not a ledger entry.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let fail = |verb: &str, e| Error::io(verb, &path, e);
        let existed = path.exists();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| fail("open", e))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if began.elapsed() < INHERITED => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    let message = format!("the ledger {} is in use by another run", path.display());
                    return Err(Error::user(message).retryable());
                }
                Err(TryLockError::Error(e)) => return Err(fail("lock", e)),
            }
        }
        if !existed {
            sync_folder(&path)?;
        }
        let mut table = Table::default();
        let mut whole = 0u64;
        let mut reader = BufReader::new(&mut file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(|e| fail("read", e))?;
            if read == 0 || line.last() != Some(&b'\n') {
                break; // the end, or a torn last line
            }
            let entry = serde_json::from_slice(&line).map_err(|e| {
                Error::user(format!("{}: not a ledger entry at byte {whole}: {e}", path.display()))
            })?;
            table.apply(entry);
            whole += read as u64;
        }
        file.set_len(whole).map_err(|e| fail("truncate", e))?;
        file.seek(SeekFrom::Start(whole)).map_err(|e| fail("seek", e))?;
        let again = file.try_clone().map_err(|e| fail("open", e))?;
        let state = Mutex::new(State { file, whole, table });
        Ok(Self { path, state, synced: Mutex::new((0, again)) })
    }

    /// Where the ledger is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn append(&self, entry: Entry, sync: bool) -> Result<()> {
        let mut line =
            serde_json::to_vec(&entry).map_err(|e| Error::internal(format!("ledger entry: {e}")))?;
        line.push(b'\n');
        let mut state = lock(&self.state);
        let State { file, whole, table } = &mut *state;
        if let Err(e) = file.write_all(&line) {
            // A half-written line must not stand before a whole one.
            let _ = file.set_len(*whole).and_then(|()| file.seek(SeekFrom::Start(*whole)));
            return Err(Error::io("write", &self.path, e));
        }
        *whole += line.len() as u64;
        let end = *whole;
        table.apply(entry);
        drop(state);
        if sync { self.sync(end) } else { Ok(()) }
    }

    /// Syncs what was written up to `end`. Those who wait here for one another's sync share the next one.
    fn sync(&self, end: u64) -> Result<()> {
        let mut synced = lock(&self.synced);
        let (done, file) = &mut *synced;
        if *done < end {
            let written = lock(&self.state).whole;
            file.sync_data().map_err(|e| Error::io("sync", &self.path, e))?;
            *done = written;
        }
        Ok(())
    }
}

impl Ledger for FileLedger {
    fn record(&self, resource: &Resource) -> Result<()> {
        let entry = Entry::Recorded { resource: Box::new(resource.clone()) };
        self.append(entry, !resource.is_local())
    }

    fn released(&self, id: ResourceId) -> Result<()> {
        self.append(Entry::Released { id }, false)
    }

    fn kept(&self, id: ResourceId) -> Result<()> {
        self.append(Entry::Kept { id }, true)
    }

    fn outstanding(&self) -> Vec<Resource> {
        lock(&self.state).table.outstanding()
    }
}

/// Makes the name of a new file durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    #[cfg(unix)]
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io("sync", folder, e))?;
    #[cfg(not(unix))]
    let _ = folder; // folders cannot be opened for syncing there; the file's own sync covers its name
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ledger: &dyn Ledger) -> Vec<String> {
        ledger.outstanding().into_iter().map(|r| r.name).collect()
    }

    #[test]
    fn a_file_ledger_survives_its_process_and_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.ledger");
        let (a, b, c) = (Resource::new("container", "a"), Resource::file("/b"), Resource::new("image", "c"));
        {
            let ledger = FileLedger::open(&path).unwrap();
            for r in [&a, &b, &c] {
                ledger.record(r).unwrap();
            }
            ledger.released(a.id).unwrap();
            ledger.record(&Resource { name: "/b2".into(), ..b.clone() }).unwrap();
            let busy = FileLedger::open(&path).unwrap_err();
            assert!(busy.message().contains("in use by another run"), "{busy}");
        }
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"entry\":\"recorded\",\"resou").unwrap();
        drop(file);
        let ledger = FileLedger::open(&path).unwrap();
        assert_eq!(names(&ledger), ["/b2", "c"]);
        ledger.kept(c.id).unwrap();
        drop(ledger);
        assert_eq!(names(&FileLedger::open(&path).unwrap()), ["/b2"]);
    }

    #[test]
    fn a_spoilt_line_is_an_error_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.ledger");
        std::fs::write(&path, "{\"entry\":\"kept\"}\nrest\n").unwrap();
        let error = FileLedger::open(&path).unwrap_err();
        assert!(error.message().contains("at byte 0"), "{error}");
    }
}
