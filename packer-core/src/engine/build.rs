//! One build: launch, provision, capture, clean up, post-process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::artifact::Artifact;
use crate::builder::{Builder, Lifecycle, Machine};
use crate::context::{Context, PrepareContext};
use crate::engine::cache::{Open, Resumed, Track};
use crate::engine::cleanup::{self, Component, Owners};
use crate::engine::on_error::{Decision, Failure, FailureHandler, Phase};
use crate::engine::provision::Part;
use crate::engine::report::{BuildReport, Left, Status, TestReport};
use crate::engine::{guard, post_process, prepare, provision};
use crate::error::{Error, ErrorInfo, Result};
use crate::event::EventKind;
use crate::facts::Facts;
use crate::ledger::Ledger;
use crate::pipeline::{Build, Decoded, RunValues};

/// Runs a build to its end, whatever happens.
pub(crate) async fn run(
    build: Build,
    cx: Context,
    handler: Arc<dyn FailureHandler>,
    needed: BTreeMap<String, Vec<Artifact>>,
    cache: Option<Arc<Open>>,
) -> BuildReport {
    let began = Instant::now();
    cx.emit(EventKind::BuildStarted { builder: build.info.builder_type.clone() });
    let mut life = Life {
        build: &build,
        cx: &cx,
        handler: handler.as_ref(),
        values: RunValues { facts: Facts::new(), artifacts: needed },
        owners: Owners::default(),
        tries: 0,
        cache,
        track: None,
        tested: None,
    };
    // The parts that call components catch their panics; this one catches the engine's own.
    let end = guard::unwound(life.live()).await.unwrap_or_else(|message| End {
        artifacts: Vec::new(),
        error: Some(Error::internal(format!("the engine panicked: {message}"))),
        leave: false,
    });
    let End { artifacts, mut error, leave } = end;
    let left = if leave {
        let reason = Error::user("the build failed and was left as it is");
        if let Err(e) = cleanup::keep_all(&cx, &artifacts) {
            error.get_or_insert(e.context("The ledger could not be told that the artifacts stay"));
        }
        let outstanding = cx.record_of_build().owned.outstanding();
        outstanding.into_iter().map(|resource| Left::new(resource, &reason)).collect()
    } else {
        let owners: Vec<&Artifact> = artifacts.iter().collect();
        let left = cleanup::release_all(&cx, &life.owners, &owners).await;
        for Left { resource, error, .. } in &left {
            cx.emit(EventKind::ResourceLeft { resource: resource.clone(), error: error.clone() });
        }
        if let Err(e) = cleanup::keep_all(&cx, &artifacts) {
            error.get_or_insert(e.context("The ledger could not be told that the artifacts stay"));
        }
        left
    };
    let cache = match life.track.take() {
        Some(track) => Some(track.finish(&cx).await),
        None => None,
    };
    let elapsed = began.elapsed();
    let status = match &error {
        None => Status::Succeeded,
        Some(_) if cx.is_cancelled() => Status::Cancelled,
        Some(_) => Status::Failed,
    };
    cx.emit(match &error {
        None => EventKind::BuildFinished { elapsed, artifacts: artifacts.clone() },
        Some(e) => {
            let mut error = ErrorInfo::from(e);
            error.location = error.location.or_else(|| build.location.clone());
            EventKind::BuildFailed { elapsed, error, artifacts: artifacts.clone() }
        }
    });
    let steps = cx.record_of_build().steps();
    BuildReport {
        name: build.name().to_owned(),
        builder: build.info.builder_type.clone(),
        status,
        artifacts,
        error,
        steps,
        test: life.tested.take(),
        cache,
        elapsed,
        left,
    }
}

/// How the life of a build ended.
pub(super) struct End {
    pub(super) artifacts: Vec<Artifact>,
    pub(super) error: Option<Error>,
    /// Whether everything is to be left as it is.
    pub(super) leave: bool,
}

pub(super) struct Life<'a> {
    pub(super) build: &'a Build,
    pub(super) cx: &'a Context,
    handler: &'a dyn FailureHandler,
    pub(super) values: RunValues,
    pub(super) owners: Owners,
    tries: u32,
    /// Saved states, where the run has any.
    cache: Option<Arc<Open>>,
    track: Option<Track>,
    /// What came of the tests, where there were any.
    pub(super) tested: Option<TestReport>,
}

impl Life<'_> {
    async fn live(&mut self) -> End {
        let builder = match self.make_builder().await {
            Ok(builder) => builder,
            Err(error) => return End::of(Stop::clean(error)),
        };
        let artifact = match self.build_artifact(&builder).await {
            Ok(artifact) => artifact,
            Err(stop) => return End::of(stop),
        };
        // What only the machine needed goes before the artifact is worked on; what does not go now is tried again,
        // and told, at the end of the build.
        cleanup::release_all(self.cx, &self.owners, &[&artifact]).await;
        if artifact.is_none() {
            return End { artifacts: Vec::new(), error: None, leave: false };
        }
        let artifact = match Box::pin(self.test(builder.component.as_ref(), artifact)).await {
            Ok(artifact) => artifact,
            Err(end) => return end,
        };
        let outcome = post_process::all(self.build, artifact, self.cx, &self.values, &mut self.owners).await;
        End { artifacts: outcome.artifacts, error: outcome.error, leave: false }
    }

    async fn make_builder(&mut self) -> Result<Decoded<dyn Builder>> {
        let late = &self.build.builder;
        let builder = guard::unwound_call(|| late.make_decoded(&self.values))
            .map_err(|message| Error::internal(format!("making the builder panicked: {message}")))??;
        if late.is_deferred() {
            prepare::register(builder.config.is_some(), || builder.component.config(), self.cx.secrets());
            let cx = PrepareContext::new(self.build.info.clone(), self.cx.run().host.clone());
            let place = self.build.location.as_ref();
            prepare::builder(late, &builder.component, &cx, place).await.into_result(())?;
        }
        self.owners.begin(self.cx, Component::Builder(builder.component.clone()));
        Ok(builder)
    }

    /// Launches, provisions and captures.
    async fn build_artifact(&mut self, builder: &Decoded<dyn Builder>) -> Result<Artifact, Stop> {
        let (machine, first) = match self.resume(builder).await.map_err(Stop::clean)? {
            Some(Resumed::Machine(machine, next)) => (machine, next.unwrap_or(self.build.provisioners.len())),
            Some(Resumed::Artifact(mut artifact)) => {
                cleanup::complete(self.cx, &mut artifact).map_err(Stop::clean)?;
                return Ok(artifact);
            }
            None => (self.launch(builder).await?, 0),
        };
        let (cx, machine) = (self.cx, machine.as_ref());
        self.values.facts = facts(cx, machine);
        let provisioning = cx.with_facts(self.values.facts.clone());
        self.provision(&provisioning, machine, first).await?;
        self.debug_pause("after run of", "StepProvision").await?;
        let artifact = loop {
            match guarded(cx, "capture", captured(cx, machine)).await {
                Ok(artifact) => break artifact,
                Err(error) => match self.failed(&error, Phase::Capture, Some(machine)).await {
                    Decision::Retry | Decision::RetryProvisioner => {}
                    decision => return Err(self.stop(error, Phase::Capture, decision, Some(machine)).await),
                },
            }
        };
        self.debug_pause("before cleanup of", "StepProvision").await?;
        self.debug_pause("before cleanup of", "StepConnect").await?;
        Ok(artifact)
    }

    /// Starts from a saved state, where there is one.
    async fn resume(&mut self, builder: &Decoded<dyn Builder>) -> Result<Option<Resumed>> {
        let Some(open) = self.cache.take() else { return Ok(None) };
        self.track = Track::begin(open, self.cx, self.build, builder, &self.values).await?;
        match &mut self.track {
            Some(track) => track.resume(self.cx, builder.component.as_ref(), &self.owners).await,
            None => Ok(None),
        }
    }

    /// Starts the machine from the source.
    async fn launch(&mut self, builder: &Decoded<dyn Builder>) -> Result<Box<dyn Machine>, Stop> {
        let cx = self.cx;
        let machine = loop {
            match guarded(cx, "launch", builder.component.launch(cx)).await {
                Ok(machine) => break machine,
                Err(error) => match self.failed(&error, Phase::Launch, None).await {
                    Decision::Retry | Decision::RetryProvisioner => {
                        cleanup::release_all(cx, &self.owners, &[]).await;
                    }
                    decision => return Err(self.stop(error, Phase::Launch, decision, None).await),
                },
            }
        };
        if let Some(track) = &mut self.track {
            track.launched(cx, self.build, builder).await;
        }
        Ok(machine)
    }

    /// Runs the provisioners from number `first` on; those before are in the saved state that the machine started from.
    async fn provision(&mut self, cx: &Context, machine: &dyn Machine, first: usize) -> Result<(), Stop> {
        let mut from = first;
        loop {
            let (owners, track) = (&mut self.owners, self.track.as_mut());
            let (part, values) = (Part::Provision, &self.values);
            let result = provision::all(self.build, part, from, cx, machine, values, owners, track).await;
            let Err((at, error)) = result else { return Ok(()) };
            from = match self.failed(&error, Phase::Provision, Some(machine)).await {
                Decision::Retry => first,
                Decision::RetryProvisioner => at,
                Decision::SkipProvisioner => at + 1,
                decision => return Err(self.stop(error, Phase::Provision, decision, Some(machine)).await),
            };
        }
    }

    /// Asks what to do about a failure.
    pub(super) async fn failed(
        &mut self,
        error: &Error,
        phase: Phase,
        machine: Option<&dyn Machine>,
    ) -> Decision {
        let flat = machine.is_some_and(|m| m.lifecycle() == Lifecycle::Flat);
        if self.cx.is_cancelled() || flat {
            return Decision::CleanUp;
        }
        let step = step_name(error, phase);
        let failure = Failure { error, phase, step: &step, machine, cx: self.cx, tries: self.tries };
        let asking =
            guard::caught("the failure handler", async { Ok(self.handler.on_failure(&failure).await) });
        let decision = self.cx.until_cancelled(asking).await.unwrap_or(Decision::CleanUp);
        self.tries += 1;
        decision
    }

    /// Ends the build as decided.
    async fn stop(
        &mut self,
        error: Error,
        phase: Phase,
        decision: Decision,
        machine: Option<&dyn Machine>,
    ) -> Stop {
        let cx = self.cx;
        let flat = machine.is_some_and(|m| m.lifecycle() == Lifecycle::Flat);
        if cx.is_cancelled() || flat {
            return Stop::clean(error);
        }
        if decision == Decision::Abort {
            if phase == Phase::Capture {
                cx.say_error("aborted: skipping cleanup of step \"StepProvision\"");
            }
            if phase != Phase::Launch {
                cx.say_error("aborted: skipping cleanup of step \"StepConnect\"");
            }
            return Stop { error, leave: true };
        }
        let message = error.to_string();
        let error = match machine {
            Some(machine) => self.error_cleanup(error, machine).await,
            None => error,
        };
        if decision == Decision::RunCleanupProvisioner {
            cx.say_error(message);
            let step = if phase == Phase::Launch { step_name(&error, phase) } else { "StepConnect".into() };
            cx.say_error(format!("Step {step:?} failed, aborting..."));
            return Stop { error, leave: true };
        }
        for step in ["StepProvision", "StepConnect"] {
            if machine.is_some() && self.debug_pause("before cleanup of", step).await.is_err() {
                break;
            }
        }
        Stop::clean(error)
    }

    /// Runs the error-cleanup provisioner, which a cancellation does not stop.
    async fn error_cleanup(&mut self, error: Error, machine: &dyn Machine) -> Error {
        self.cx.say("Provisioning step had errors: Running the cleanup provisioner, if present...");
        let Some(step) = &self.build.error_cleanup else { return error };
        if !step.filter.admits(&self.build.source) {
            return error;
        }
        let cx = self.cx.with_facts(self.values.facts.clone()).for_cleanup();
        match provision::cleanup(self.build, step, &cx, machine, &self.values, &mut self.owners).await {
            Ok(()) => error,
            Err(second) => error.map_message(|first| {
                format!("Cleanup failed: {second}. Original Provisioning error: {first}")
            }),
        }
    }

    pub(super) async fn debug_pause(&self, when: &str, step: &str) -> Result<(), Stop> {
        if !self.build.info.debug {
            return Ok(());
        }
        let question = format!("Pausing {when} step '{step}'. Press enter to continue. ");
        self.cx.pause(&question).await.map_err(Stop::clean)
    }
}

/// Why a build ended before it had an artifact.
pub(super) struct Stop {
    pub(super) error: Error,
    leave: bool,
}

impl Stop {
    fn clean(error: Error) -> Self {
        Self { error, leave: false }
    }
}

impl End {
    /// Of a build without an artifact.
    fn of(Stop { error, leave }: Stop) -> Self {
        Self { artifacts: Vec::new(), error: Some(error), leave }
    }
}

/// Runs one of the builder's verbs as a step; a panic in it is an error.
pub(super) async fn guarded<T>(cx: &Context, verb: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let who = format!("the builder {:?} during {verb}", cx.build().builder_type);
    cx.timed(verb, guard::caught(&who, work)).await
}

/// The machine's artifact, which is complete and stays from here on.
async fn captured(cx: &Context, machine: &dyn Machine) -> Result<Artifact> {
    let mut artifact = machine.capture(cx).await?;
    cleanup::complete(cx, &mut artifact)?;
    Ok(artifact)
}

/// The name of a failed step as Packer's output has it.
fn step_name(error: &Error, phase: Phase) -> String {
    let (own, usual) = match phase {
        Phase::Launch => (error.step().filter(|s| *s != "launch"), "StepConnect"),
        Phase::Provision => (None, "StepProvision"),
        Phase::Test => (None, "StepTest"),
        Phase::Capture => (error.step().filter(|s| *s != "capture"), "StepCapture"),
    };
    own.unwrap_or(usual).to_owned()
}

/// The facts of a machine and what the engine knows beside them.
pub(super) fn facts(cx: &Context, machine: &dyn Machine) -> Facts {
    let mut facts = machine.facts().clone();
    if machine.lifecycle() == Lifecycle::Flat {
        return facts;
    }
    for (name, value) in [
        ("ID", "ERR_ID_NOT_IMPLEMENTED_BY_BUILDER"),
        ("PackerRunUUID", cx.run_id()),
        ("PackerHTTPIP", "ERR_HTTP_IP_NOT_IMPLEMENTED_BY_BUILDER"),
        ("PackerHTTPPort", "ERR_HTTP_PORT_NOT_IMPLEMENTED_BY_BUILDER"),
        ("PackerHTTPAddr", "ERR_HTTP_ADDR_NOT_IMPLEMENTED_BY_BUILDER"),
    ] {
        if facts.get(name).is_none() {
            facts.set(name, value);
        }
    }
    facts
}
