//! Pruning: saved states that are too many, or that nobody wants any more, go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::index::{self, Checkpoint};
use super::{Cache, Store};
use crate::context::{Context, RunContext};
use crate::engine::Engine;
use crate::engine::cleanup::with_patience;
use crate::engine::recover::component;
use crate::engine::report::Left;
use crate::error::{Error, Result};
use crate::facts::BuildInfo;
use crate::kit::blocking::start;
use crate::ledger::INHERITED;
use crate::secrets::Secrets;

/// Which states are to be pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prune {
    /// Those beyond the limits of the cache, the one that was not used for longest first.
    Excess,
    /// Those that were not used for so long.
    Unused(Duration),
    /// All.
    Everything,
}

/// What became of the states that were to be pruned.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// What exists no more, in the order in which it was released.
    pub released: Vec<Checkpoint>,
    /// What is still there, and listed.
    pub left: Vec<Left>,
}

impl Cache {
    /// Releases states through the components that saved them. The engine says what these may use, and who is told.
    ///
    /// Safe to interrupt: what was not released stays listed.
    ///
    /// # Errors
    /// Where the index cannot be read or written, or a run uses the cache just now (worth another try later).
    pub async fn prune(&self, engine: &Engine, which: Prune) -> Result<Pruned> {
        let run = Arc::new(engine.run_context(Secrets::new()));
        let pruned = self.prune_in(&run, which).await;
        run.events.close();
        pruned
    }

    pub(super) async fn prune_in(&self, run: &Arc<RunContext>, which: Prune) -> Result<Pruned> {
        let listed = self.list()?;
        if self.chosen(listed, which).is_empty() {
            return Ok(Pruned::default());
        }
        let began = Instant::now();
        let _lease = loop {
            if let Some(lease) = index::lease(&self.folder, true)? {
                break lease;
            }
            if began.elapsed() > INHERITED {
                let message = format!("the step cache in {} is in use by a run", self.folder.display());
                return Err(Error::user(message).retryable());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let folder = self.folder.clone();
        let (store, _) = start(move || Store::open(&folder)).await?;
        let mut pruned = Pruned::default();
        // Again, now that nobody adds to them.
        for checkpoint in self.chosen(self.list()?, which) {
            match self.release(run, &checkpoint).await {
                Ok(()) => {
                    let (store, id) = (store.clone(), checkpoint.resource.id);
                    start(move || store.update(|i| i.checkpoints.retain(|c| c.resource.id != id))).await?;
                    pruned.released.push(checkpoint);
                }
                Err(error) => {
                    pruned.left.push(Left::new(checkpoint.resource, &error));
                }
            }
        }
        Ok(pruned)
    }

    /// Those of `listed`, which has the one used last first, that go; the one used longest ago first.
    fn chosen(&self, mut listed: Vec<Checkpoint>, which: Prune) -> Vec<Checkpoint> {
        // What is of no use goes first.
        listed.sort_by_key(|c| !c.intact);
        let mut kept_bytes = 0u64;
        let mut room = true;
        let since = |c: &Checkpoint| Timestamp::now().duration_since(c.used).unsigned_abs();
        let mut go: Vec<Checkpoint> = listed
            .into_iter()
            .enumerate()
            .filter(|(i, c)| match which {
                Prune::Everything => true,
                Prune::Unused(limit) => !c.intact || since(c) >= limit,
                Prune::Excess => {
                    kept_bytes = kept_bytes.saturating_add(c.size.unwrap_or(0));
                    room &= *i < self.most && kept_bytes <= self.bytes;
                    !room
                }
            })
            .map(|(_, c)| c)
            .collect();
        go.reverse();
        go
    }

    async fn release(&self, run: &Arc<RunContext>, checkpoint: &Checkpoint) -> Result<()> {
        let resource = &checkpoint.resource;
        let info = BuildInfo {
            display_name: resource.build.as_str().into(),
            builder_type: resource.component.clone(),
            core_version: crate::VERSION.to_owned(),
            ..BuildInfo::default()
        };
        let cx = Context::new(run.clone(), Arc::new(info), &resource.component, CancellationToken::new());
        let cx = cx.for_cleanup();
        let component = component(&self.registry, resource)?;
        with_patience(&cx, || component.release(&cx, resource)).await
    }
}
