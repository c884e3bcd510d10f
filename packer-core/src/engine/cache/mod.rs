//! The step cache: states of machines that are saved behind each step, so that a later run starts from the last one whose
//! inputs are still the same.
//!
//! Off unless an engine is given one ([`Engine::cache`](crate::Engine::cache)). The key of a state is a keyed hash over the
//! builder's configuration (but [what only the image says](crate::Builder::capture_arguments)), the digest of what it
//! starts from, and, for each step so far, its type, its resolved configuration and the content of the files it reads.
//! Pauses, limits, retries and names of steps do not count. What saves and restores a state is the builder: see
//! [`Machine::checkpoint`](crate::Machine::checkpoint).
//!
//! A step whose inputs cannot be known ends the chain: it runs, and so do all steps behind it. Steps that
//! failed, were pardoned by `continue_on_error`, or follow a failure that a person chose to go on from are not saved.
//!
//! Whatever is wrong with a cache (a folder that cannot be written, a damaged index, a state that somebody removed) is
//! told as an event, and the build goes on without.

mod files;
mod imprint;
mod index;
mod inputs;
mod keyed;
mod lookup;
mod prune;
mod track;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use index::Checkpoint;
pub use prune::{Prune, Pruned};

pub(crate) use imprint::masked;
pub(crate) use index::{Index, Store};
pub(crate) use inputs::is_fixed;
pub(crate) use lookup::Lookup;
pub(crate) use track::{Resumed, Track, exists};

use crate::context::RunContext;
use crate::engine::report::{Left, StepUse};
use crate::error::{Error, ErrorInfo, Result};
use crate::event::EventKind;
use crate::kit::blocking::start;
use crate::registry::Registry;

/// How long a run waits for somebody who prunes the cache.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder in which states of machines are listed, and how many of them may be kept. Several processes may use one
/// folder at once.
///
/// ```
/// use packer_core::{Engine, Registry, engine::Cache};
/// let mut registry = Registry::new(); // with the builders whose states are to be pruned
/// # let folder = tempfile::tempdir().unwrap();
/// let cache = Cache::new(folder.path(), registry).keep_at_most(50).keep_bytes(10 << 30);
/// let engine = Engine::new().cache(cache.clone());
/// assert!(cache.list()?.is_empty());
/// # Ok::<(), packer_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    registry: Arc<Registry>,
    most: usize,
    bytes: u64,
}

impl Cache {
    /// How many states are kept unless [`keep_at_most`](Self::keep_at_most) says otherwise.
    pub const DEFAULT_MOST: usize = 100;

    /// How many bytes they may have together unless [`keep_bytes`](Self::keep_bytes) says otherwise: 20 GiB.
    pub const DEFAULT_BYTES: u64 = 20 << 30;

    /// A cache in a folder, which is made by the first run. The registry makes the components that release states which
    /// are pruned; one that it does not know stays listed.
    pub fn new(folder: impl Into<PathBuf>, registry: Registry) -> Self {
        Self {
            folder: folder.into(),
            registry: Arc::new(registry),
            most: Self::DEFAULT_MOST,
            bytes: Self::DEFAULT_BYTES,
        }
    }

    /// Keeps no more than this many states: at the end of each run those that were not used for longest go.
    #[must_use]
    pub fn keep_at_most(mut self, states: usize) -> Self {
        self.most = states;
        self
    }

    /// Keeps no more than this many bytes of states, as far as their sizes are known.
    #[must_use]
    pub fn keep_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The saved states, the one used last first. Changes nothing.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn list(&self) -> Result<Vec<Checkpoint>> {
        let store = Store::peek(&self.folder)?;
        let mut listed = index::read(&self.folder, store.as_ref().map(|s| &s.keyed))?.checkpoints;
        listed.sort_by_key(|c| std::cmp::Reverse((c.used, c.number)));
        Ok(listed)
    }

    /// What there is to look builds up in; `None` where nothing was saved yet. Changes nothing.
    pub(crate) fn peek(&self) -> Result<Option<(Store, Index)>> {
        let Some(store) = Store::peek(&self.folder)? else { return Ok(None) };
        let index = store.read()?;
        Ok(Some((store, index)))
    }

    /// Opens the cache for a run; where that is not possible the run is told so and goes on without.
    pub(crate) async fn open(&self, run: &RunContext, stop: &CancellationToken) -> Option<Arc<Open>> {
        match self.try_open(run, stop).await {
            Ok(open) => Some(Arc::new(open)),
            Err(error) if error.is_cancelled() => None,
            Err(error) => {
                trouble(run, &error.context("the step cache is not used"));
                None
            }
        }
    }

    async fn try_open(&self, run: &RunContext, stop: &CancellationToken) -> Result<Open> {
        let folder = self.folder.clone();
        let (store, note) = start(move || Store::open(&folder)).await?;
        if let Some(note) = note {
            trouble(run, &Error::user(format!("the step cache in {}: {note}", self.folder.display())));
        }
        let began = std::time::Instant::now();
        let lease = loop {
            if let Some(lease) = index::lease(&self.folder, false)? {
                break lease;
            }
            if began.elapsed() > PATIENCE {
                return Err(Error::provider(format!("{} is being pruned", self.folder.display())));
            }
            tokio::select! {
                () = stop.cancelled() => return Err(Error::cancelled()),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        };
        let open = Open { store, _lease: lease };
        let damaged = open.read().await?.damaged;
        if damaged > 0 {
            let folder = self.folder.display();
            let message = format!(
                "the index of the step cache in {folder} is damaged: {damaged} of its lines are not used"
            );
            trouble(run, &Error::provider(message));
        }
        Ok(open)
    }

    /// Closes the cache behind a run, and prunes what is too much where nobody else uses it.
    pub(crate) async fn close(&self, run: &Arc<RunContext>, open: Arc<Open>) {
        drop(open);
        match self.prune_in(run, Prune::Excess).await {
            Ok(pruned) if pruned.released.is_empty() && pruned.left.is_empty() => {}
            Ok(Pruned { released, left }) => {
                for Left { resource, error, .. } in left {
                    let message = format!("the step cache: {resource} could not be pruned: {error}");
                    let error = ErrorInfo { message, ..error };
                    run.events.emit(None, None, EventKind::CacheTrouble { error });
                }
                let released = released.into_iter().map(|c| c.resource).collect();
                run.events.emit(None, None, EventKind::CachePruned { released });
            }
            // Whoever uses it too prunes it when it is done.
            Err(error) if error.is_retryable() => {}
            Err(error) => trouble(run, &error.context("the step cache could not be pruned")),
        }
    }
}

/// A cache that a run uses; nobody prunes it meanwhile.
pub(crate) struct Open {
    store: Store,
    _lease: File,
}

impl Open {
    async fn read(&self) -> Result<Index> {
        let store = self.store.clone();
        start(move || store.read()).await
    }

    async fn update<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Index) -> T + Send + 'static,
    ) -> Result<T> {
        let store = self.store.clone();
        start(move || store.update(change)).await
    }
}

fn trouble(run: &RunContext, error: &Error) {
    run.events.emit(None, None, EventKind::CacheTrouble { error: error.into() });
}

/// What is to be said of the steps of a build of which the first `reused` are reused.
pub(crate) fn uses(lookup: &Lookup, reused: usize, lost: &[Option<String>]) -> Vec<StepUse> {
    let step = |(i, step): (usize, &lookup::Step)| StepUse {
        number: i + 1,
        kind: step.kind.clone(),
        name: step.name.clone(),
        reused: i < reused,
        reasons: match i < reused {
            true => Vec::new(),
            false => lookup.reasons(i, reused, lost.get(i).and_then(Option::as_deref)),
        },
        saved: step.checkpoint.is_some(),
    };
    lookup.steps.iter().enumerate().map(step).collect()
}

/// A time for entries; the run's own clock may stand still.
fn now() -> Timestamp {
    Timestamp::now()
}
