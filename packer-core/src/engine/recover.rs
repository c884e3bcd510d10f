//! Recovery: a later process releases what an earlier one left in its ledger.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::config::Schema;
use crate::context::{Context, Recoverable, RunContext};
use crate::engine::cleanup::{Component, Gone, limited, remove, with_patience};
use crate::engine::report::Left;
use crate::engine::{Engine, guard};
use crate::error::{Error, Fault, Result};
use crate::event::EventKind;
use crate::facts::BuildInfo;
use crate::ledger::{Found, Ledger, LedgerFolder, Resource, Role};
use crate::registry::Registry;
use crate::secrets::Secrets;
use crate::value::Value;

/// What became of the resources of a ledger.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// What exists no more, in the order in which it was released.
    pub released: Vec<Resource>,
    /// What is still there. It stays in the ledger, but for files in a machine that is somebody else's and that nobody can
    /// enter from here: of those one hears once.
    pub left: Vec<Left>,
    /// Whether somebody cancelled it.
    pub cancelled: bool,
}

/// What became of a ledger in a file.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct LedgerReport {
    /// Where it is, or was.
    pub path: PathBuf,
    /// How it stands with it now.
    pub state: LedgerState,
    /// Its resources.
    pub report: RecoveryReport,
    /// What was wrong with the ledger itself.
    pub faults: Vec<String>,
}

/// How it stands with a ledger after recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LedgerState {
    /// Nothing is left in it, and it is gone.
    Finished,
    /// Something is left in it, or it is damaged.
    Unfinished,
    /// A run that goes on has it; it was left alone.
    InUse,
    /// It is no ledger or cannot be read; it was left alone.
    Unusable,
}

/// What became of the ledgers of a folder.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct FolderReport {
    /// The ledgers, oldest first.
    pub ledgers: Vec<LedgerReport>,
}

impl FolderReport {
    /// Whether nothing is left but in ledgers of runs that go on.
    pub fn all_gone(&self) -> bool {
        let is_gone = |l: &LedgerReport| match l.state {
            LedgerState::Finished => l.report.left.is_empty(),
            state => state == LedgerState::InUse,
        };
        self.ledgers.iter().all(is_gone)
    }
}

impl Engine {
    /// Releases what `ledger` still holds, newest first: files, folders and processes by itself, everything else through the
    /// component of `registry` that made it, configured as the ledger tells.
    ///
    /// Safe to repeat, and to interrupt: what was not released stays in the ledger. Call it for a ledger that no run uses.
    pub async fn recover(&self, ledger: Arc<dyn Ledger>, registry: &Registry) -> RecoveryReport {
        self.recovery(registry).ledger(ledger).await
    }

    /// Releases what the ledgers of a folder still hold, oldest ledger first. Those of runs that go on are left alone; one in
    /// which nothing is left is removed.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub async fn recover_all(&self, folder: &LedgerFolder, registry: &Registry) -> Result<FolderReport> {
        self.recovery(registry).folder(folder).await
    }

    /// A recovery that can be cancelled.
    pub fn recovery(&self, registry: &Registry) -> Recovery {
        Recovery { engine: self.clone(), registry: registry.clone(), stop: CancellationToken::new() }
    }
}

/// A recovery: what releases, and a handle to end it.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> packer_core::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let (folder, disk) = (dir.path().join("ledger"), dir.path().join("disk"));
/// use packer_core::{Engine, Ledger, LedgerFolder, Registry, Resource};
/// let ledgers = LedgerFolder::at(folder);
/// // What a run leaves that is killed.
/// # std::fs::write(&disk, "").unwrap();
/// ledgers.create()?.record(&Resource::file(&disk))?;
///
/// let recovery = Engine::new().recovery(&Registry::new());
/// let control = recovery.control(); // for a signal handler, a button
/// control.cancel();
/// let report = recovery.folder(&ledgers).await?;
/// assert!(report.ledgers[0].report.cancelled && !report.all_gone() && disk.exists());
///
/// // What is left is still in the ledger.
/// let report = Engine::new().recovery(&Registry::new()).folder(&ledgers).await?;
/// assert!(report.all_gone() && !disk.exists());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Recovery {
    engine: Engine,
    registry: Registry,
    stop: CancellationToken,
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// Cancels a recovery. Cheap to clone; harmless once it is over.
#[derive(Debug, Clone)]
pub struct RecoveryControl(CancellationToken);

impl RecoveryControl {
    /// Ends the release that is going on and begins no other; the report lists what is left.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl Recovery {
    /// A handle that can cancel this recovery from elsewhere while it is awaited.
    pub fn control(&self) -> RecoveryControl {
        RecoveryControl(self.stop.clone())
    }

    /// Releases what a ledger still holds; see [`Engine::recover`].
    pub async fn ledger(&self, ledger: Arc<dyn Ledger>) -> RecoveryReport {
        let mut run =
            Engine { ledger: Some(ledger.clone()), ..self.engine.clone() }.run_context(Secrets::new());
        run.abandon = self.stop.clone();
        let run = Arc::new(run);
        let mut report = RecoveryReport::default();
        let mut outstanding = ledger.outstanding();
        // What lies in a machine comes last: it goes with the machine.
        outstanding.sort_by_key(|resource| !resource.is_in_machine());
        for resource in outstanding.into_iter().rev() {
            let cx = context(&run, &resource);
            let released = match ledger.doubt(resource.id) {
                _ if self.stop.is_cancelled() => Err(Error::cancelled()),
                Some(doubt) => Err(Error::internal(doubt)),
                None => self.release(&cx, &resource).await,
            };
            match released {
                Ok(()) => report.released.push(resource),
                Err(error) => {
                    let error = match error.is_cancelled() {
                        true => Error::new(Fault::Cancelled, "the recovery was cancelled"),
                        false => error,
                    };
                    // Nobody will ever get at it from here, and it costs nothing: whoever has heard of it knows enough.
                    let is_hopeless = resource.is_in_anothers_machine()
                        && error.fault() == Fault::Guest
                        && !error.is_retryable();
                    let error = match is_hopeless {
                        true => error.map_message(|why| format!("{why}; it is not told again")),
                        false => error,
                    };
                    let left = Left::new(resource, &error);
                    let (resource, error) = (left.resource.clone(), left.error.clone());
                    cx.emit(EventKind::ResourceLeft { resource, error });
                    if is_hopeless && let Err(error) = ledger.kept(left.resource.id) {
                        cx.say_error(error.to_string());
                    }
                    report.left.push(left);
                }
            }
        }
        report.cancelled = self.stop.is_cancelled();
        run.events.close();
        report
    }

    /// Works through a ledger in a file. One in which nothing is left is removed, but not one that is damaged.
    pub async fn file(&self, path: &Path) -> LedgerReport {
        let mut outcome = LedgerReport {
            path: path.to_owned(),
            state: LedgerState::Finished,
            report: RecoveryReport::default(),
            faults: Vec::new(),
        };
        let file = path.to_owned();
        let folder = LedgerFolder::at(path.parent().unwrap_or(Path::new("")));
        let found = tokio::task::spawn_blocking(move || folder.open(&file)).await;
        let ledger = match found {
            Ok(Found::Open(ledger)) => Arc::new(ledger),
            Ok(Found::Gone) => {
                outcome.faults.push(Error::io("open", path, std::io::ErrorKind::NotFound.into()).to_string());
                outcome.state = LedgerState::Unusable;
                return outcome;
            }
            Ok(Found::InUse) => {
                outcome.state = LedgerState::InUse;
                return outcome;
            }
            Ok(Found::Unusable(error)) => {
                outcome.faults.push(error.to_string());
                outcome.state = LedgerState::Unusable;
                return outcome;
            }
            Err(error) => {
                outcome.faults.push(format!("opening {}: {error}", path.display()));
                outcome.state = LedgerState::Unusable;
                return outcome;
            }
        };
        for spoilt in ledger.spoilt() {
            let what = format!("line {} cannot be read: {}", spoilt.line, spoilt.reason);
            outcome.faults.push(format!("{}: {what}", path.display()));
        }
        outcome.report = self.ledger(ledger.clone()).await;
        match ledger.finish() {
            Ok(true) => {}
            Ok(false) => outcome.state = LedgerState::Unfinished,
            Err(error) => {
                outcome.faults.push(error.to_string());
                outcome.state = LedgerState::Unfinished;
            }
        }
        outcome
    }

    /// Works through the ledgers of a folder; see [`Engine::recover_all`].
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub async fn folder(&self, folder: &LedgerFolder) -> Result<FolderReport> {
        let mut report = FolderReport::default();
        for path in folder.files()? {
            let ledger = self.file(&path).await;
            // Whoever has removed it meanwhile found nothing in it.
            if ledger.state != LedgerState::Unusable || path.symlink_metadata().is_ok() {
                report.ledgers.push(ledger);
            }
        }
        Ok(report)
    }

    async fn release(&self, cx: &Context, resource: &Resource) -> Result<()> {
        if resource.is_local() {
            limited(cx, remove(resource, Gone::IsFine)).await?;
        } else if !(resource.is_in_machine()
            && resource.went_with_its_machine(&cx.run().ledger.outstanding()))
        {
            let component = component(&self.registry, resource)?;
            with_patience(cx, || component.release(cx, resource)).await?;
        }
        cx.released(resource)
    }
}

fn context(run: &Arc<RunContext>, resource: &Resource) -> Context {
    let info = BuildInfo {
        display_name: resource.build.as_str().into(),
        builder_type: resource.component.clone(),
        core_version: crate::VERSION.to_owned(),
        ..BuildInfo::default()
    };
    Context::new(run.clone(), Arc::new(info), &resource.component, run.abandon.clone())
        .for_component(resource.role, &resource.component)
}

/// The component of a registry that made a resource, configured as the resource tells.
pub(crate) fn component(registry: &Registry, resource: &Resource) -> Result<Component> {
    let name = &resource.component;
    let config = match &resource.config {
        serde_json::Value::Null => serde_json::Value::Object(serde_json::Map::new()),
        config => config.clone(),
    };
    let config = Value::from_json(&config);
    let made = guard::unwound_call(|| match resource.role {
        Role::Builder => registry.get_builder(name).map(|t| t.decode(&config).map(Component::Builder)),
        Role::Provisioner => {
            registry.get_provisioner(name).map(|t| t.decode(&config).map(Component::Provisioner))
        }
        Role::PostProcessor => {
            registry.get_post_processor(name).map(|t| t.decode(&config).map(Component::PostProcessor))
        }
    });
    made.map_err(|message| Error::internal(format!("making {name:?} panicked: {message}")))?
        .ok_or_else(|| Error::user(format!("{resource} belongs to {name:?}, which is not registered here")))?
        .map_err(|e| {
            Error::internal(format!("the configuration of {name:?} in the ledger is not usable: {e}"))
        })
}

/// What sees to it that later processes with this registry can release what is recorded.
pub(crate) fn recoverable(registry: Arc<Registry>) -> Recoverable {
    Recoverable(Arc::new(move |resource, config, secrets| {
        let first = match component(&registry, resource) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let wrong = |why: &str| {
            let message = format!("{resource} could not be released by a later process: {why}");
            Err(Error::internal(message))
        };
        let Some(schema) = schema(&registry, resource).filter(|_| resource.config.is_null()) else {
            return wrong(first.message());
        };
        let name = &resource.component;
        let Some(config) = config() else {
            return wrong(&format!(
                "{name:?} cannot be made of an empty block and does not say its configuration, nor does the resource"
            ));
        };
        let mut needed = serde_json::Map::new();
        for (argument, _) in schema.fields.iter().filter(|(_, field)| field.required) {
            let Some(value) = config.get(argument) else { continue };
            let json = value.to_json().ok().filter(|_| !value.contains_sensitive());
            let Some(json) = json.filter(|json| secrets.scrub(json.to_string()) == json.to_string()) else {
                return wrong(&format!("{argument:?}, which {name:?} requires, is secret"));
            };
            needed.insert(argument.to_string(), json);
        }
        let complete = Resource { config: needed.into(), ..resource.clone() };
        match component(&registry, &complete) {
            Ok(_) => {
                *resource = complete;
                Ok(())
            }
            Err(error) => wrong(error.message()),
        }
    }))
}

/// What the component that made a resource may be made of.
fn schema(registry: &Registry, resource: &Resource) -> Option<Arc<Schema>> {
    let name = &resource.component;
    match resource.role {
        Role::Builder => registry.get_builder(name).map(|t| t.schema.clone()),
        Role::Provisioner => registry.get_provisioner(name).map(|t| t.schema.clone()),
        Role::PostProcessor => registry.get_post_processor(name).map(|t| t.schema.clone()),
    }
}
