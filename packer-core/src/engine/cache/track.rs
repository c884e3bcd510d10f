//! The cache beside one build: starts it from a saved state, saves the state behind each step, and says why.

use std::collections::HashSet;
use std::sync::Arc;

use super::index::{Checkpoint, Outcome};
use super::lookup::{self, Lookup};
use super::{Open, is_fixed, now, uses};
use crate::artifact::Artifact;
use crate::builder::{Builder, CheckpointKey, Machine};
use crate::context::Context;
use crate::engine::cleanup::{self, Owners};
use crate::engine::guard;
use crate::engine::report::{CacheUse, StepUse};
use crate::error::{Error, Result};
use crate::event::{EventKind, Reason};
use crate::ledger::{Ledger, Resource, ResourceId};
use crate::pipeline::{Build, Decoded, ProvisionStep, RunValues};
use crate::provisioner::Provisioner;

/// The cache beside a build.
pub(crate) struct Track {
    open: Arc<Open>,
    lookup: Lookup,
    /// What is said of each step.
    steps: Vec<StepUse>,
    /// What was wrong with saved states.
    lost: Vec<Option<String>>,
    outcomes: Vec<Outcome>,
    /// The key of the state that the machine is in; `None` where it is in none that may be saved.
    state: Option<String>,
    /// Why states are not saved any more.
    unsaved: Option<String>,
}

impl Track {
    /// Looks a build up. `None` where the cache cannot be read, which was told then.
    pub(crate) async fn begin(
        open: Arc<Open>,
        cx: &Context,
        build: &Build,
        builder: &Decoded<dyn Builder>,
        values: &RunValues,
    ) -> Result<Option<Self>> {
        let index = match open.read().await {
            Ok(index) => index,
            Err(error) => {
                trouble(cx, &error.context("the step cache is not used"));
                return Ok(None);
            }
        };
        let lookup = Lookup::new(cx, &open.store, &index, build, builder, values).await?;
        let count = lookup.steps.len();
        Ok(Some(Self {
            open,
            steps: Vec::new(),
            lost: vec![None; count],
            outcomes: vec![Outcome::NotReached; count],
            state: None,
            unsaved: None,
            lookup,
        }))
    }

    /// Starts from the last saved state that can be used.
    ///
    /// # Errors
    /// Where the work was cancelled.
    pub(crate) async fn resume(
        &mut self,
        cx: &Context,
        builder: &dyn Builder,
        owners: &Owners,
    ) -> Result<Option<Resumed>> {
        let mut resumed = None;
        while let Some(last) = self.lookup.reusable().checked_sub(1) {
            let Some(checkpoint) = self.lookup.steps[last].checkpoint.clone() else { break };
            let next = self.lookup.steps.get(last + 1).map(|step| step.at);
            match start(cx, builder, &checkpoint.resource, next, owners).await {
                Ok(started) => {
                    resumed = Some(started);
                    break;
                }
                Err(error) if cx.is_cancelled() => return Err(error),
                Err(error) => {
                    cleanup::release_all(cx, owners, &[]).await;
                    self.lose(cx, builder, last, &checkpoint, error).await;
                }
            }
        }
        let reused = self.lookup.reusable();
        self.steps = uses(&self.lookup, reused, &self.lost);
        if reused == 0 {
            return Ok(None);
        }
        self.state = self.lookup.steps[reused - 1].key.clone();
        self.outcomes[..reused].fill(Outcome::Succeeded);
        for step in &self.steps[..reused] {
            cx.emit(EventKind::StepReused {
                number: step.number,
                steps: self.steps.len(),
                provisioner: step.kind.clone(),
                name: step.name.clone(),
            });
        }
        let used: HashSet<String> =
            self.lookup.steps[..reused].iter().filter_map(|step| step.key.clone()).collect();
        let touched = self.open.update(move |index| {
            let now = now();
            index.checkpoints.iter_mut().filter(|c| used.contains(&c.key)).for_each(|c| c.used = now);
        });
        if let Err(error) = touched.await {
            trouble(cx, &error.context("the step cache cannot note what was used"));
        }
        Ok(resumed)
    }

    /// The machine was launched from the source.
    pub(crate) async fn launched(&mut self, cx: &Context, build: &Build, builder: &Decoded<dyn Builder>) {
        if self.lookup.steps.is_empty() {
            return;
        }
        // A tag may have moved between the question and the launch.
        self.lookup.rebase(cx, &self.open.store, build, builder).await;
        self.state = self.lookup.base.as_ref().ok().map(|base| base.key.clone());
    }

    /// A step is about to run.
    pub(crate) async fn before(&mut self, cx: &Context, at: usize) -> Result<()> {
        let Some(i) = self.place(at) else { return Ok(()) };
        let step = &self.steps[i];
        cx.emit(EventKind::StepRebuilt {
            number: step.number,
            steps: self.steps.len(),
            provisioner: step.kind.clone(),
            name: step.name.clone(),
            reasons: step.reasons.clone(),
        });
        if self.state.is_some() {
            self.refresh(cx, i).await?;
        }
        Ok(())
    }

    /// A step ran to its end: saves the state behind it.
    ///
    /// # Errors
    /// Where the work was cancelled.
    pub(crate) async fn succeeded(
        &mut self,
        cx: &Context,
        build: &Build,
        at: usize,
        made: &Decoded<dyn Provisioner>,
        machine: &dyn Machine,
        owners: &Owners,
    ) -> Result<()> {
        let Some(i) = self.place(at) else { return Ok(()) };
        self.outcomes[i] = Outcome::Succeeded;
        let Some(before) = self.state.take() else { return Ok(()) };
        if self.refresh(cx, i).await? {
            let error = "a file that it reads changed while it ran".to_owned();
            self.lookup.steps[i].inputs = Err(Reason::Unreadable { error });
        }
        self.settle(cx, build, i, &build.provisioners[at], made);
        let Ok(inputs) = &self.lookup.steps[i].inputs else { return Ok(()) };
        let key = inputs.imprint.after(&self.open.store.keyed, &before);
        self.state = Some(key.clone());
        self.save(cx, i, key, machine, owners).await
    }

    /// A step failed, and the build goes on or not.
    pub(crate) fn failed(&mut self, at: usize) {
        if let Some(i) = self.place(at) {
            self.outcomes[i] = Outcome::Failed;
        }
        self.state = None;
    }

    /// The build is over: remembers what its steps were.
    pub(crate) async fn finish(self, cx: &Context) -> CacheUse {
        if let Some((scope, memory)) = self.lookup.memory(now(), &self.outcomes)
            && let Err(error) = self.open.update(move |index| index.remember(scope, memory)).await
        {
            trouble(cx, &error.context("the step cache cannot note what the build was"));
        }
        CacheUse { steps: self.steps, unsaved: self.unsaved }
    }

    fn place(&self, at: usize) -> Option<usize> {
        self.lookup.steps.iter().position(|step| step.at == at)
    }

    /// Reads the files of a step again where they seem to have changed; whether they had.
    async fn refresh(&mut self, cx: &Context, i: usize) -> Result<bool> {
        let Ok(inputs) = &self.lookup.steps[i].inputs else { return Ok(false) };
        if inputs.files.is_empty() {
            return Ok(false);
        }
        let (files, keyed) = (inputs.files.clone(), self.open.store.keyed.clone());
        let fresh = cx.blocking(move |stop| Ok(files.iter().all(|read| read.is_fresh(&keyed, stop)))).await?;
        if fresh {
            return Ok(false);
        }
        let paths = inputs.files.iter().map(|read| read.path().clone()).collect();
        let read = lookup::read(cx, &self.open.store.keyed, paths).await;
        let Ok(inputs) = &mut self.lookup.steps[i].inputs else { return Ok(false) };
        match read {
            Ok(files) => {
                let same = files.iter().map(|f| &f.digest).eq(inputs.files.iter().map(|f| &f.digest));
                inputs.files = Arc::new(files);
                Ok(!same)
            }
            Err(error) if error.is_cancelled() => Err(error),
            Err(error) => {
                self.lookup.steps[i].inputs = Err(Reason::Unreadable { error: error.to_string() });
                Ok(true)
            }
        }
    }

    /// Notes what a step really was, which may be something else than what was known of it before.
    fn settle(
        &mut self,
        cx: &Context,
        build: &Build,
        i: usize,
        step: &ProvisionStep,
        made: &Decoded<dyn Provisioner>,
    ) {
        let Ok(inputs) = &self.lookup.steps[i].inputs else { return };
        if step.inputs.is_some() && !is_fixed(step) {
            return;
        }
        let files = inputs.files.clone();
        let keyed = &self.open.store.keyed;
        let inputs = self.lookup.inputs_of(keyed, build, step, made, &files, cx.secrets());
        self.lookup.steps[i].inputs = inputs;
    }

    async fn save(
        &mut self,
        cx: &Context,
        i: usize,
        key: String,
        machine: &dyn Machine,
        owners: &Owners,
    ) -> Result<()> {
        if self.unsaved.is_some() {
            return Ok(());
        }
        let listed = self.open.read().await.is_ok_and(|index| index.checkpoint(&key).is_some());
        if listed {
            self.steps[i].saved = true;
            return Ok(());
        }
        let held = held(cx);
        let who = format!("the builder {:?} during checkpoint", cx.build().builder_type);
        let state = CheckpointKey(key.clone());
        let work = guard::caught(&who, machine.checkpoint(cx, &state));
        let saved = match cx.timed("checkpoint", work).await {
            Ok(None) => {
                let builder = &cx.build().builder_type;
                self.unsaved = Some(format!("the builder {builder:?} does not save states of its machines"));
                return Ok(());
            }
            Ok(Some(resource)) => self.list(cx, i, key, resource).await,
            Err(error) if cx.is_cancelled() => return Err(error),
            Err(error) => Err(error),
        };
        match saved {
            Ok(true) => self.steps[i].saved = true,
            // Somebody else was first: theirs stays.
            Ok(false) => {
                self.steps[i].saved = true;
                release_new(cx, owners, &held).await;
            }
            Err(error) => {
                let error = error.context(format!("the state behind step {} could not be saved", i + 1));
                trouble(cx, &error);
                self.unsaved = Some(error.to_string());
                release_new(cx, owners, &held).await;
            }
        }
        Ok(())
    }

    /// Lists a state that was saved, and strikes it out of the ledger: from here on the cache owns it. `false` where
    /// the same state is listed already.
    async fn list(&self, cx: &Context, i: usize, key: String, resource: Resource) -> Result<bool> {
        let record = cx.record_of_build();
        let known = record.owned.outstanding().into_iter().find(|r| r.id == resource.id);
        let Some(resource) = known else {
            return Err(Error::internal(format!("{resource} was not written into the ledger first")));
        };
        let (id, now) = (resource.id, now());
        let step = &self.lookup.steps[i];
        let checkpoint = Checkpoint {
            key,
            size: resource.details.get("size").and_then(serde_json::Value::as_u64),
            resource: resource.clone(),
            build: cx.build().display_name.to_string(),
            step: step.label(),
            number: i + 1,
            created: now,
            used: now,
            intact: true,
        };
        let listed = self.open.update(move |index| {
            let new = index.checkpoint(&checkpoint.key).is_none();
            if new {
                index.checkpoints.push(checkpoint);
            }
            new
        });
        if !listed.await? {
            return Ok(false);
        }
        if let Err(error) = cx.run().ledger.kept(id).and_then(|()| record.owned.kept(id)) {
            // What the ledger holds is released with the build.
            self.unlist(id).await?;
            return Err(error);
        }
        cx.emit(EventKind::Checkpointed { number: i + 1, steps: self.steps.len(), resource });
        Ok(true)
    }

    async fn unlist(&self, id: ResourceId) -> Result<()> {
        self.open.update(move |index| index.checkpoints.retain(|c| c.resource.id != id)).await
    }

    /// A saved state cannot be used: tells it, and takes it off the list where it will never be usable.
    async fn lose(
        &mut self,
        cx: &Context,
        builder: &dyn Builder,
        i: usize,
        checkpoint: &Checkpoint,
        error: Error,
    ) {
        let resource = &checkpoint.resource;
        self.lost[i] = Some(error.to_string());
        self.lookup.steps[i].checkpoint = None;
        let is_retryable = error.is_retryable();
        trouble(
            cx,
            &error.context(format!("the state saved behind step {} ({resource}) cannot be used", i + 1)),
        );
        if is_retryable {
            return;
        }
        let id = resource.id;
        let cleanup = cx.for_cleanup();
        let released = guard::caught("releasing a checkpoint", builder.release(&cleanup, resource));
        let gone = match cleanup::limited(&cleanup, released).await {
            Ok(()) => self.unlist(id).await,
            // It stays listed, so that pruning finds it.
            Err(_) => {
                let spoil = self.open.update(move |index| {
                    let listed = index.checkpoints.iter_mut().filter(|c| c.resource.id == id);
                    listed.for_each(|c| c.intact = false);
                });
                spoil.await
            }
        };
        if let Err(error) = gone {
            trouble(cx, &error.context(format!("the step cache still lists {resource}")));
        }
    }
}

/// What became of a saved state.
pub(crate) enum Resumed {
    /// A machine, and the provisioner to go on with; `None` where all have run.
    Machine(Box<dyn Machine>, Option<usize>),
    /// All that was to be made of it.
    Artifact(Artifact),
}

/// Starts a machine from a saved state, in which provisioner `next` has not run; where all have, makes the artifact
/// without one if the builder can.
async fn start(
    cx: &Context,
    builder: &dyn Builder,
    checkpoint: &Resource,
    next: Option<usize>,
    owners: &Owners,
) -> Result<Resumed> {
    let who = |verb| format!("the builder {:?} during {verb}", cx.build().builder_type);
    let exists = exists(cx, builder, checkpoint);
    cx.until_cancelled(exists).await?;
    if next.is_none() && !cx.build().debug {
        let who = who("capture_checkpoint");
        let work = guard::caught(&who, builder.capture_checkpoint(cx, checkpoint));
        match cx.until_cancelled(work).await {
            Ok(Some(artifact)) => return Ok(Resumed::Artifact(artifact)),
            Ok(None) => {}
            Err(error) if cx.is_cancelled() => return Err(error),
            Err(error) => {
                trouble(cx, &error.context(format!("{checkpoint} cannot be captured without a machine")));
                cleanup::release_all(cx, owners, &[]).await;
            }
        }
    }
    let who = who("resume");
    let machine = cx.timed("resume", guard::caught(&who, builder.resume(cx, checkpoint))).await?;
    Ok(Resumed::Machine(machine, next))
}

/// Finds out whether a saved state is still there, as far as the builder can say.
pub(crate) async fn exists(cx: &Context, builder: &dyn Builder, checkpoint: &Resource) -> Result<()> {
    let who = format!("the builder {:?} asked for a checkpoint", cx.build().builder_type);
    match guard::caught(&who, builder.checkpoint_exists(cx, checkpoint)).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::user("it is not there any more")),
        Err(error) => Err(error),
    }
}

fn held(cx: &Context) -> HashSet<ResourceId> {
    cx.record_of_build().owned.outstanding().into_iter().map(|r| r.id).collect()
}

/// Releases what came since `before`; what does not go now is tried again at the end of the build.
async fn release_new(cx: &Context, owners: &Owners, before: &HashSet<ResourceId>) {
    for resource in cx.record_of_build().owned.outstanding().into_iter().rev() {
        if !before.contains(&resource.id) {
            let _ = cleanup::release(cx, owners, &resource).await;
        }
    }
}

fn trouble(cx: &Context, error: &Error) {
    cx.emit(EventKind::CacheTrouble { error: error.into() });
}
