//! Looking a build up in the cache: the key of each of its steps, which states are saved, and why others are not.
//! The same for a run and for a plan.

use std::sync::Arc;

use super::files::Read;
use super::imprint::Imprint;
use super::index::{Checkpoint, Index, Memory, Outcome, StepMemory, Store};
use super::inputs::{self, Described};
use super::keyed::Keyed;
use crate::builder::Builder;
use crate::context::Context;
use crate::engine::guard;
use crate::error::Result;
use crate::event::{Reason, step_label};
use crate::pipeline::{Build, Decoded, ProvisionStep, RunValues};
use crate::secrets::Secrets;
use crate::value::Value;

/// A build and what the cache knows of it.
pub(crate) struct Lookup {
    /// Under what the build is remembered.
    scope: String,
    pub(crate) base: Result<Base, Reason>,
    /// The steps that run in this build, in order.
    pub(crate) steps: Vec<Step>,
    /// What the build was when it last ran.
    memory: Option<Memory>,
    /// Names of values that the builder adds to the common ones.
    own: Vec<String>,
}

/// What the machine is before the first step.
pub(crate) struct Base {
    source: String,
    builder: Imprint,
    pub(crate) key: String,
}

/// A step.
pub(crate) struct Step {
    /// Its place among the provisioners of the build.
    pub(crate) at: usize,
    pub(crate) kind: String,
    pub(crate) name: String,
    /// What it depends on.
    pub(crate) inputs: Result<Inputs, Reason>,
    /// The key of the state behind it; `None` where that cannot be known.
    pub(crate) key: Option<String>,
    /// That state, where it is saved.
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// What a step depends on.
pub(crate) struct Inputs {
    pub(crate) imprint: Imprint,
    pub(crate) files: Arc<Vec<Read>>,
}

impl Step {
    pub(crate) fn label(&self) -> String {
        step_label(&self.kind, &self.name)
    }
}

impl Lookup {
    /// Looks a build up. `values` are those known before the machine runs.
    ///
    /// # Errors
    /// Where the work was cancelled.
    pub(crate) async fn new(
        cx: &Context,
        store: &Store,
        index: &Index,
        build: &Build,
        builder: &Decoded<dyn Builder>,
        values: &RunValues,
    ) -> Result<Self> {
        let secrets = cx.secrets().clone();
        let base = base(cx, &store.keyed, build, builder).await;
        let own: Vec<String> = guard::unwound_call(|| builder.component.variables())
            .unwrap_or_default()
            .into_iter()
            .map(std::borrow::Cow::into_owned)
            .collect();
        let mut steps = Vec::new();
        for (at, step) in build.provisioners.iter().enumerate() {
            if !step.filter.admits(&build.source) {
                continue;
            }
            let described = inputs::describe(build, step, &own, values);
            let inputs = match described {
                Ok(described) => self::inputs(cx, &store.keyed, step, described, &secrets).await?,
                Err(reason) => Err(reason),
            };
            let (kind, name) = (step.kind.clone(), step.name.clone());
            steps.push(Step { at, kind, name, inputs, key: None, checkpoint: None });
        }
        let scope = scope(build);
        let memory = index.builds.get(&scope).cloned();
        let mut lookup = Self { scope, base, steps, memory, own };
        lookup.link(&store.keyed);
        for step in &mut lookup.steps {
            step.checkpoint = step.key.as_ref().and_then(|key| index.checkpoint(key)).cloned();
        }
        Ok(lookup)
    }

    /// Works out the keys: each from the one before.
    fn link(&mut self, keyed: &Keyed) {
        let mut before = self.base.as_ref().ok().map(|base| base.key.clone());
        for step in &mut self.steps {
            before = match (&step.inputs, before) {
                (Ok(inputs), Some(before)) => Some(inputs.imprint.after(keyed, &before)),
                _ => None,
            };
            step.key = before.clone();
        }
    }

    /// Asks the builder again what it starts from, now that it has.
    pub(crate) async fn rebase(
        &mut self,
        cx: &Context,
        store: &Store,
        build: &Build,
        builder: &Decoded<dyn Builder>,
    ) {
        self.base = base(cx, &store.keyed, build, builder).await;
        self.link(&store.keyed);
    }

    /// How many steps are reused when the machine starts from the last saved state.
    pub(crate) fn reusable(&self) -> usize {
        self.steps.iter().rposition(|step| step.checkpoint.is_some()).map_or(0, |last| last + 1)
    }

    /// Why step `i` runs, when the first `reused` steps do not. `lost` says what was wrong with a state that was saved.
    pub(crate) fn reasons(&self, i: usize, reused: usize, lost: Option<&str>) -> Vec<Reason> {
        let Some(step) = self.steps.get(i) else { return Vec::new() };
        let base = match &self.base {
            Ok(base) => base,
            Err(reason) => return vec![reason.clone()],
        };
        let earlier = self.memory.as_ref().map(|memory| (memory, memory.steps.get(i)));
        let mut reasons = Vec::new();
        if let Some((memory, _)) = earlier.filter(|_| i == 0) {
            if base.source != memory.source {
                let (from, to) = (memory.source.clone(), base.source.clone());
                reasons.push(Reason::SourceImage { from, to });
            }
            reasons.extend(base.builder.changes(&memory.builder, true));
        }
        match (&step.inputs, earlier) {
            (Err(reason), _) => reasons.push(reason.clone()),
            (Ok(_), None) => reasons.push(Reason::FirstRun),
            (Ok(_), Some((_, None))) => reasons.push(Reason::OtherStep { from: None }),
            (Ok(inputs), Some((_, Some(was)))) => reasons.extend(since(step, inputs, was)),
        }
        if reasons.is_empty() {
            reasons.push(match lost {
                _ if i > reused => Reason::StepBefore,
                Some(error) => Reason::Lost { error: error.to_owned() },
                None => Reason::NoCheckpoint,
            });
        }
        reasons
    }

    /// What is remembered of this run: `outcomes` are those of the steps, in order.
    pub(crate) fn memory(&self, now: jiff::Timestamp, outcomes: &[Outcome]) -> Option<(String, Memory)> {
        let base = self.base.as_ref().ok()?;
        let steps = self.steps.iter().zip(outcomes).map(|(step, outcome)| StepMemory {
            label: step.label(),
            imprint: step.inputs.as_ref().ok().map(|inputs| inputs.imprint.clone()),
            outcome: *outcome,
        });
        let (source, builder) = (base.source.clone(), base.builder.clone());
        Some((self.scope.clone(), Memory { used: now, source, builder, steps: steps.collect() }))
    }

    /// What a step that has run depends on; `files` are what it read.
    pub(crate) fn inputs_of(
        &self,
        keyed: &Keyed,
        build: &Build,
        step: &ProvisionStep,
        made: &Decoded<dyn crate::Provisioner>,
        files: &Arc<Vec<Read>>,
        secrets: &Secrets,
    ) -> Result<Inputs, Reason> {
        let described = inputs::describe_made(build, step, &self.own, &made.component, made.config.clone())?;
        if !described.files.iter().eq(files.iter().map(Read::path)) {
            let error = "the files it reads became known only when it ran".to_owned();
            return Err(Reason::Unreadable { error });
        }
        imprint(keyed, &step.kind, &described.config, files, secrets)
            .map(|imprint| Inputs { imprint, files: files.clone() })
    }
}

/// What differs in a step from what it was when it last ran.
fn since(step: &Step, inputs: &Inputs, was: &StepMemory) -> Vec<Reason> {
    let mut reasons = Vec::new();
    match &was.imprint {
        Some(imprint) if imprint.is_same(&inputs.imprint) => {}
        _ if was.label != step.label() => {
            return vec![Reason::OtherStep { from: Some(was.label.clone()) }];
        }
        Some(imprint) => reasons = inputs.imprint.changes(imprint, false),
        None => {}
    }
    match was.outcome {
        Outcome::Succeeded => {}
        Outcome::Failed => reasons.push(Reason::DidNotSucceed),
        Outcome::NotReached => reasons.push(Reason::NotReached),
    }
    reasons
}

async fn base(
    cx: &Context,
    keyed: &Keyed,
    build: &Build,
    builder: &Decoded<dyn Builder>,
) -> Result<Base, Reason> {
    let kind = &build.info.builder_type;
    let component = &builder.component;
    let config = builder.config.clone();
    let config = config.or_else(|| guard::unwound_call(|| component.config()).unwrap_or_default());
    let Some(config) = config else {
        return Err(Reason::NoConfiguration { component: kind.clone() });
    };
    let at_the_end = guard::unwound_call(|| component.capture_arguments()).unwrap_or_default();
    let config = without(config, at_the_end);
    let none = |error| Reason::NoSource { builder: kind.clone(), error };
    let who = format!("the builder {kind:?} asked for its source");
    let digest = cx.until_cancelled(guard::caught(&who, component.source_digest(cx))).await;
    let source = digest.map_err(|e| none(Some(e.to_string())))?.ok_or_else(|| none(None))?;
    let builder = imprint(keyed, kind, &config, &[], cx.secrets())?;
    // Scripts are told these names.
    let names = [build.info.name.as_str(), kind, &build.info.build_block, &source];
    let key = builder.after(keyed, &keyed.of("base", names));
    Ok(Base { source, builder, key })
}

/// An object without some of its attributes.
fn without(config: Value, names: &[&str]) -> Value {
    let Some(all) = config.as_map().filter(|all| names.iter().any(|name| all.contains_key(*name))) else {
        return config;
    };
    let kept = all.iter().filter(|(name, _)| !names.contains(&&***name));
    Value::object(kept.map(|(name, value)| (name.clone(), value.clone()))).with_marks_of(&config)
}

async fn inputs(
    cx: &Context,
    keyed: &Keyed,
    step: &ProvisionStep,
    described: Described,
    secrets: &Secrets,
) -> Result<Result<Inputs, Reason>> {
    let Described { config, files } = described;
    let files = match read(cx, keyed, files).await {
        Ok(files) => Arc::new(files),
        Err(error) if error.is_cancelled() => return Err(error),
        Err(error) => return Ok(Err(Reason::Unreadable { error: error.to_string() })),
    };
    let imprint = imprint(keyed, &step.kind, &config, &files, secrets);
    Ok(imprint.map(|imprint| Inputs { imprint, files }))
}

/// Reads files, off the async threads.
pub(crate) async fn read(cx: &Context, keyed: &Keyed, paths: Vec<std::path::PathBuf>) -> Result<Vec<Read>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let keyed = keyed.clone();
    cx.blocking(move |stop| paths.iter().map(|path| Read::new(&keyed, path, stop)).collect()).await
}

fn imprint(
    keyed: &Keyed,
    kind: &str,
    config: &Value,
    files: &[Read],
    secrets: &Secrets,
) -> Result<Imprint, Reason> {
    Imprint::new(keyed, kind, config, files, secrets).map_err(|error| Reason::Unreadable { error })
}

/// Builds of one name in several templates are several builds.
fn scope(build: &Build) -> String {
    let file = build.location.as_ref().map(|place| place.file().to_owned());
    let file = file.map(|file| std::path::absolute(&file).map_or(file, |p| p.to_string_lossy().into_owned()));
    format!("{}\0{}", file.unwrap_or_default(), build.name())
}
