//! The engine: runs the builds of a pipeline, in parallel, and leaves nothing behind that no artifact owns.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::context::{Host, RELEASE_LIMIT, RunContext};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::event::{Event, EventKind, EventSink, Events};
use crate::facts::BuildInfo;
use crate::ledger::{Ledger, LedgerFolder, MemoryLedger};
use crate::pipeline::Pipeline;
use crate::registry::Registry;
use crate::secrets::Secrets;

mod boot_test;
mod build;
pub(crate) mod cache;
pub(crate) mod cleanup;
mod graph;
mod guard;
mod on_error;
mod plan;
mod post_process;
mod prepare;
mod provision;
mod recover;
mod report;
mod run;
#[cfg(test)]
mod tests;

pub use crate::context::StepTime;
pub use crate::event::{FileChange, Reason};
pub use cache::{Cache, Checkpoint, Prune, Pruned};
pub use on_error::{Decision, Failure, FailureHandler, OnError, Phase};
pub use plan::{Plan, PlannedBuild, PlannedPostProcessor, PlannedStep};
pub use recover::{FolderReport, LedgerReport, LedgerState, Recovery, RecoveryControl, RecoveryReport};
pub use report::{BuildReport, CacheUse, Left, Report, Status, StepUse, TestReport, TestStep};

/// Runs pipelines. An engine is settings; every run stands by itself.
///
/// ```no_run
/// use packer_core::{Engine, OnError, Pipeline};
/// # async fn example(pipeline: Pipeline) -> Result<(), packer_core::Diagnostics> {
/// let report = Engine::new().parallel(4).on_error(OnError::Abort).run(pipeline).await?;
/// for build in &report.builds {
///     println!("{}: {:?}, {} artifact(s)", build.name, build.status, build.artifacts.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Engine {
    sinks: Vec<Arc<dyn EventSink>>,
    ledger: Option<Arc<dyn Ledger>>,
    ledger_folder: Option<LedgerFolder>,
    registry: Option<Arc<Registry>>,
    release_limit: Duration,
    parallel: usize,
    on_error: OnError,
    handler: Option<Arc<dyn FailureHandler>>,
    force: bool,
    debug: bool,
    host: Host,
    clock: Clock,
    run_id: Option<String>,
    cache: Option<Cache>,
}

impl Engine {
    /// An engine without sinks that keeps its ledger in memory, runs any number of builds at once and cleans up after
    /// failures.
    pub fn new() -> Self {
        Self {
            sinks: Vec::new(),
            ledger: None,
            ledger_folder: None,
            registry: None,
            release_limit: RELEASE_LIMIT,
            parallel: 0,
            on_error: OnError::default(),
            handler: None,
            force: false,
            debug: false,
            host: Host::new(),
            clock: Clock::system(),
            run_id: None,
            cache: None,
        }
    }

    /// Adds a sink that sees every event of every run.
    #[must_use]
    pub fn events(mut self, sink: impl EventSink + 'static) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }

    /// Says where resources are written down. With a [`FileLedger`](crate::FileLedger) a later process can
    /// [`recover`](Self::recover) what this one leaves when it is killed.
    #[must_use]
    pub fn ledger(mut self, ledger: Arc<dyn Ledger>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// Says where the ledgers of runs lie: each run of this engine gets one of its own there, and removes it when nothing is left
    /// in it. What a killed run leaves [`recover_all`](Self::recover_all) releases later. A [`ledger`](Self::ledger) given
    /// goes before.
    #[must_use]
    pub fn ledger_folder(mut self, folder: LedgerFolder) -> Self {
        self.ledger_folder = Some(folder);
        self
    }

    /// Says what later processes will have to release what a killed run leaves. With it every resource is checked when it
    /// is recorded, before it is created: a component that such a process could not make is an error then, and not when it is
    /// too late.
    ///
    /// A resource that says no [`config`](crate::Resource::config), of a component that cannot be made of an empty block, gets
    /// the arguments that the component requires from its own `config()`. It is an error where the component does not say
    /// them, and where one of them is secret: a secret is never written to a ledger.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(Arc::new(registry));
        self
    }

    /// Limits how long the release of one resource may take, tries and waits included: 15 minutes unless said otherwise, for
    /// ever where it is zero. What takes longer is listed among what is [left](Report::left), stays in the ledger, and the
    /// next one is released. (A release that blocks its thread cannot be ended.)
    #[must_use]
    pub fn release_limit(mut self, limit: Duration) -> Self {
        self.release_limit = limit;
        self
    }

    /// Limits how many builds run at once; 0, the default, is no limit.
    #[must_use]
    pub fn parallel(mut self, builds: usize) -> Self {
        self.parallel = builds;
        self
    }

    /// Says what happens when a build fails. The default cleans up.
    #[must_use]
    pub fn on_error(mut self, policy: OnError) -> Self {
        self.on_error = policy;
        self
    }

    /// Lets the host decide what happens when a build fails, in place of the policy.
    #[must_use]
    pub fn failure_handler(mut self, handler: impl FailureHandler + 'static) -> Self {
        self.handler = Some(Arc::new(handler));
        self
    }

    /// Lets builds replace outputs that exist.
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Runs one build at a time, and pauses between its steps for as long as the host's prompt takes.
    #[must_use]
    pub fn debug(mut self, debug: bool) -> Self {
        self.debug = debug;
        self
    }

    /// Says what the host lends to components.
    #[must_use]
    pub fn host(mut self, host: Host) -> Self {
        self.host = host;
        self
    }

    /// Says where the time comes from.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Names the run (`PACKER_RUN_UUID`); a run without a name given gets a new UUID.
    #[must_use]
    pub fn run_id(mut self, id: impl Into<String>) -> Self {
        self.run_id = Some(id.into());
        self
    }

    /// Saves the state of machines behind each step, and starts from the last saved state whose inputs are still the same.
    /// Without a cache, the default, every step runs.
    #[must_use]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Checks every build of a pipeline without side effects: all findings at once, in the order of the builds, without secrets.
    pub async fn prepare(&self, pipeline: &Pipeline) -> Diagnostics {
        let mut findings = match graph::Graph::of(&pipeline.builds) {
            Ok(_) => Diagnostics::new(),
            Err(e) => e,
        };
        for build in prepare::all(self.settled(pipeline).builds, &self.host).await {
            findings.append(build.findings);
        }
        findings.extend(prepare::short_secrets(&pipeline.secrets, false));
        findings.scrub(&pipeline.secrets);
        findings
    }

    /// Runs a pipeline to its end.
    ///
    /// Builds that fail are in the report. A build whose configuration is wrong is left out
    /// ([`Status::Rejected`]) and the others run. Dropping the future cancels the run; its cleanup goes on in
    /// the background.
    ///
    /// # Errors
    /// Where nothing ran: a build needs one that is not there or itself, or no build can be prepared.
    pub async fn run(&self, pipeline: Pipeline) -> Result<Report, Diagnostics> {
        self.start(pipeline)?.report().await
    }

    /// Starts a pipeline in the background.
    ///
    /// # Errors
    /// Where builds need ones that are not there, or each other, where no tokio runtime is running, or where no ledger can be
    /// made in the [ledger folder](Self::ledger_folder).
    pub fn start(&self, pipeline: Pipeline) -> Result<Run, Diagnostics> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|e| Diagnostic::error("No async runtime").detail(e.to_string()))?;
        let mut pipeline = self.settled(&pipeline);
        let graph = graph::Graph::of(&pipeline.builds)?;
        pipeline.notes.extend(prepare::short_secrets(&pipeline.secrets, false));
        let ledger = match (&self.ledger, &self.ledger_folder) {
            (None, Some(folder)) => Some(Arc::new(folder.create().map_err(|e| {
                Diagnostic::error("No ledger").detail(format!("Nothing could be recovered later: {e}"))
            })?)),
            _ => None,
        };
        let mut run = self.run_context(pipeline.secrets.clone());
        if let Some(ledger) = &ledger {
            run.ledger = ledger.clone();
        }
        let run = Arc::new(run);
        let stop = CancellationToken::new();
        let events = run.events.subscribe();
        let settled = Arc::new(AtomicBool::new(false));
        let driver = run::Driver {
            run: run.clone(),
            stop: stop.clone(),
            settled: settled.clone(),
            limit: if self.debug { 1 } else { self.parallel },
            handler: self.handler.clone().unwrap_or_else(|| self.on_error.handler()),
            cache: self.cache.clone(),
            ledger,
        };
        let task = runtime.spawn(driver.run(pipeline, graph));
        Ok(Run { control: RunControl { run, stop, settled }, events: Some(events), task: Some(task) })
    }

    fn run_context(&self, secrets: Secrets) -> RunContext {
        let events = Events::new(self.clock.clone(), secrets.clone(), self.sinks.clone());
        let id = self.run_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let ledger = self.ledger.clone().unwrap_or_else(|| Arc::new(MemoryLedger::new()));
        let mut run = RunContext::new(id, events, ledger, secrets, self.clock.clone(), self.host.clone());
        run.release_limit = self.release_limit;
        run.recoverable = self.registry.clone().map(recover::recoverable);
        run.saves_states = self.cache.is_some();
        run
    }

    /// The pipeline with the engine's settings in what its components see, and with its secrets known.
    fn settled(&self, pipeline: &Pipeline) -> Pipeline {
        let mut pipeline = pipeline.clone();
        pipeline.builds.iter().for_each(|build| prepare::register_secrets(build, &pipeline.secrets));
        // A proxy's, say.
        self.host.env.values().for_each(|value| pipeline.secrets.add_url(value));
        for build in &mut pipeline.builds {
            let (force, debug) = (build.info.force | self.force, build.info.debug | self.debug);
            if (force, debug) != (build.info.force, build.info.debug) {
                let info: &mut BuildInfo = Arc::make_mut(&mut build.info);
                (info.force, info.debug) = (force, debug);
            }
            if build.info.on_error.is_empty() && self.on_error != OnError::Cleanup {
                Arc::make_mut(&mut build.info).on_error = self.on_error.as_str().to_owned();
            }
        }
        pipeline
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("parallel", &self.parallel)
            .field("on_error", &self.on_error)
            .field("force", &self.force)
            .field("debug", &self.debug)
            .finish_non_exhaustive()
    }
}

/// A run in progress. Dropping it cancels the run; cleanup goes on in the background.
#[derive(Debug)]
pub struct Run {
    control: RunControl,
    /// Every event since the start, until somebody takes the stream.
    events: Option<mpsc::UnboundedReceiver<Event>>,
    task: Option<JoinHandle<Result<Report, Diagnostics>>>,
}

impl Run {
    /// Names the run: `PACKER_RUN_UUID`.
    pub fn id(&self) -> &str {
        &self.control.run.run_id
    }

    /// The run's events. The first call gets all of them from the start, a later one those from then on; the stream ends
    /// with the run.
    pub fn events(&mut self) -> mpsc::UnboundedReceiver<Event> {
        self.events.take().unwrap_or_else(|| self.control.run.events.subscribe())
    }

    /// A handle that can cancel the run from elsewhere while this one is awaited.
    pub fn control(&self) -> RunControl {
        self.control.clone()
    }

    /// Stops the work: builds that run are cancelled and cleaned up, builds that wait never start.
    /// `reason` says what asked for it: `interrupt`, `terminated`, the host's own words.
    pub fn cancel(&self, reason: &str) {
        self.control.cancel(reason);
    }

    /// Stops the work and the cleanup too; the report lists what is left in the world.
    pub fn abandon_cleanup(&self) {
        self.control.abandon_cleanup();
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Where no build could be prepared, so that nothing ran.
    pub async fn report(mut self) -> Result<Report, Diagnostics> {
        // Nobody will take the stream any more: events need not be kept for it.
        self.events = None;
        let Some(task) = &mut self.task else {
            return Err(Diagnostic::error("The run is over").into());
        };
        let result = task.await;
        self.task = None;
        result.unwrap_or_else(|e| {
            Err(Diagnostic::error("The run ended without a report").detail(e.to_string()).into())
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            self.control.cancel("the run's handle was dropped");
        }
    }
}

/// Cancels a run. Cheap to clone; harmless once the run is over.
#[derive(Debug, Clone)]
pub struct RunControl {
    run: Arc<RunContext>,
    stop: CancellationToken,
    settled: Arc<AtomicBool>,
}

impl RunControl {
    /// Stops the work, as [`Run::cancel`] does. Only the first call has an effect.
    pub fn cancel(&self, reason: &str) {
        if !self.settled.swap(true, Ordering::AcqRel) {
            self.run.events.emit(None, None, EventKind::Cancelling { reason: reason.to_owned() });
            self.stop.cancel();
        }
    }

    /// Stops the work and the cleanup, as [`Run::abandon_cleanup`] does.
    pub fn abandon_cleanup(&self) {
        self.cancel("a request to abandon cleanup");
        self.run.abandon.cancel();
    }
}
