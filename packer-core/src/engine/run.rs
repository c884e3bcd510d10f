//! A run: starts each build as soon as it may, and gathers what becomes of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::artifact::Artifact;
use crate::context::{Context, RunContext};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::engine::cache::{Cache, Open};
use crate::engine::graph::Graph;
use crate::engine::on_error::FailureHandler;
use crate::engine::report::{BuildReport, Left, Report, Status};
use crate::engine::{build, prepare};
use crate::error::{Error, Fault};
use crate::event::EventKind;
use crate::ledger::FileLedger;
use crate::pipeline::{Build, Pipeline, ProvidedPlugin, RunValues};
use crate::pipeline::{Output, Outputs};

/// Drives one run.
pub(crate) struct Driver {
    pub(crate) run: Arc<RunContext>,
    pub(crate) stop: CancellationToken,
    /// Set by the first cancellation and by the end: nobody can cancel after that.
    pub(crate) settled: Arc<AtomicBool>,
    /// How many builds may run at once; 0 is no limit.
    pub(crate) limit: usize,
    pub(crate) handler: Arc<dyn FailureHandler>,
    pub(crate) cache: Option<Cache>,
    /// The run's own ledger, which goes when nothing is left in it.
    pub(crate) ledger: Option<Arc<FileLedger>>,
}

impl Driver {
    pub(crate) async fn run(self, pipeline: Pipeline, graph: Graph) -> Result<Report, Diagnostics> {
        let result = self.drive(pipeline, graph).await;
        if let Some(ledger) = &self.ledger {
            // One that cannot be removed is found empty by the next recovery.
            let _ = ledger.finish();
        }
        self.settled.store(true, Ordering::Release);
        self.run.events.close();
        result
    }

    async fn drive(&self, pipeline: Pipeline, graph: Graph) -> Result<Report, Diagnostics> {
        let (mut findings, outputs) = (pipeline.notes, pipeline.outputs);
        let preparing = prepare::all(pipeline.builds.clone(), &self.run.host);
        let prepared = tokio::select! {
            prepared = preparing => prepared,
            () = self.stop.cancelled() => return Ok(self.cancelled_early(&pipeline.builds, findings)),
        };
        let rejected: Vec<bool> = prepared.iter().map(|p| p.findings.has_errors()).collect();
        let mut builds = Vec::with_capacity(prepared.len());
        for p in prepared {
            findings.append(p.findings);
            builds.push(p.build);
        }
        findings.scrub(&self.run.secrets);
        if !rejected.is_empty() && rejected.iter().all(|r| *r) {
            return Err(findings);
        }
        for diagnostic in findings.iter() {
            self.tell(EventKind::Diagnostic { diagnostic: diagnostic.clone() });
        }
        // What only a component calls a secret, or has a few characters, is hidden nearly everywhere: no reason to show more
        // than Packer does. The shortest ones are in the notes.
        if !self.run.secrets.has_tiny()
            && let Some(warning) = prepare::short_secrets(&self.run.secrets, true)
        {
            self.tell(EventKind::SecretTooShort { warning });
        }
        let taking_part = builds.iter().zip(&rejected).filter(|(_, rejected)| !**rejected);
        let names = taking_part.map(|(b, _)| b.name().to_owned()).collect();
        self.tell(EventKind::RunStarted { run_id: self.run.run_id.clone(), builds: names });
        for ProvidedPlugin { name, source, version } in pipeline.provided {
            self.tell(EventKind::PluginProvided { name, source, version });
        }
        let open = match &self.cache {
            Some(cache) => cache.open(&self.run, &self.stop).await,
            None => None,
        };
        let reports = Schedule::new(self, &builds, &graph, open.clone()).run(&rejected).await;
        if let (Some(cache), Some(open)) = (&self.cache, open)
            && !self.stop.is_cancelled()
        {
            cache.close(&self.run, open).await;
        }
        Ok(self.report(reports, &outputs, findings))
    }

    /// The report of a run that was cancelled before any build could start.
    fn cancelled_early(&self, builds: &[Build], findings: Diagnostics) -> Report {
        let names = builds.iter().map(|b| b.name().to_owned()).collect();
        self.tell(EventKind::RunStarted { run_id: self.run.run_id.clone(), builds: names });
        let reports = builds.iter().map(|b| self.never_started(b)).collect();
        self.report(reports, &[], findings)
    }

    fn never_started(&self, build: &Build) -> BuildReport {
        let reason = "the run was cancelled before it started";
        self.context(build).emit(EventKind::BuildSkipped { reason: reason.to_owned() });
        BuildReport::not_run(build, Status::Cancelled, Error::new(Fault::Cancelled, reason))
    }

    fn report(&self, builds: Vec<BuildReport>, outputs: &[Output], mut diagnostics: Diagnostics) -> Report {
        // Made of the artifacts as they are, not as they are shown.
        let outputs = self.outputs(&builds, outputs, &mut diagnostics);
        let builds: Vec<BuildReport> = builds.into_iter().map(|b| b.scrub(&self.run.secrets)).collect();
        if self.run.abandon.is_cancelled() {
            let left = builds.iter().flat_map(|b| &b.left);
            let left = left.map(|Left { resource, .. }| resource.clone()).collect();
            self.tell(EventKind::CleanupAbandoned { left });
        }
        let report = Report {
            run_id: self.run.run_id.clone(),
            started: self.run.started,
            elapsed: self.run.began.elapsed(),
            cancelled: self.stop.is_cancelled(),
            builds,
            outputs,
            diagnostics,
        };
        let failed = report.builds.iter().filter(|b| b.status == Status::Failed).count();
        self.tell(EventKind::RunFinished { failed, cancelled: report.cancelled, elapsed: report.elapsed });
        report
    }

    /// Makes the outputs of what the builds made. One whose builds did not all succeed is left out with a word why.
    fn outputs(&self, builds: &[BuildReport], outputs: &[Output], findings: &mut Diagnostics) -> Outputs {
        let mut made = Outputs::default();
        if outputs.is_empty() {
            return made;
        }
        let mut values = RunValues::default();
        for build in builds.iter().filter(|b| b.status == Status::Succeeded) {
            values.artifacts.entry(build.name.clone()).or_default().extend_from_slice(&build.artifacts);
        }
        let mut found = Diagnostics::new();
        for output in outputs {
            if let Some(missing) = output.needs.iter().find(|n| !values.artifacts.contains_key(*n)) {
                let detail = format!("It is made of what {missing} makes, which this run has not made.");
                let d = Diagnostic::warning(format!("No output {:?}", output.name)).detail(detail);
                found.push(match &output.location {
                    Some(place) => d.at(place.clone()),
                    None => d,
                });
                continue;
            }
            match output.evaluate(&values) {
                Ok(value) => made.insert(output.name.clone(), value),
                Err(wrong) => found.append(wrong),
            }
        }
        found.scrub(&self.run.secrets);
        for diagnostic in &found {
            self.tell(EventKind::Diagnostic { diagnostic: diagnostic.clone() });
        }
        findings.append(found);
        if !made.is_empty() {
            self.tell(EventKind::Outputs { outputs: made.shown(&self.run.secrets) });
        }
        made
    }

    fn tell(&self, kind: EventKind) {
        self.run.events.emit(None, None, kind);
    }

    fn context(&self, build: &Build) -> Context {
        Context::new(self.run.clone(), build.info.clone(), &build.info.builder_type, self.stop.clone())
    }
}

/// Which builds wait, run and are done.
struct Schedule<'a> {
    driver: &'a Driver,
    builds: &'a [Build],
    graph: &'a Graph,
    cache: Option<Arc<Open>>,
    /// How many needed builds each one waits for.
    waiting: Vec<usize>,
    /// Builds that may start, in the order of the pipeline.
    ready: BTreeSet<usize>,
    running: JoinSet<BuildReport>,
    /// Which build runs as which task.
    tasks: HashMap<Id, usize>,
    done: Vec<Option<BuildReport>>,
}

impl<'a> Schedule<'a> {
    fn new(driver: &'a Driver, builds: &'a [Build], graph: &'a Graph, cache: Option<Arc<Open>>) -> Self {
        let waiting: Vec<usize> = graph.needs.iter().map(BTreeSet::len).collect();
        Self {
            ready: (0..builds.len()).filter(|i| waiting[*i] == 0).collect(),
            waiting,
            driver,
            builds,
            graph,
            cache,
            running: JoinSet::new(),
            tasks: HashMap::new(),
            done: builds.iter().map(|_| None).collect(),
        }
    }

    /// Runs to the end; the reports have the order of the pipeline.
    async fn run(mut self, rejected: &[bool]) -> Vec<BuildReport> {
        for (i, _) in rejected.iter().enumerate().filter(|(_, rejected)| **rejected) {
            let error = Error::user("the configuration of the build is wrong");
            self.settle(i, BuildReport::not_run(&self.builds[i], Status::Rejected, error));
        }
        let mut stopped = false;
        loop {
            if !stopped && self.driver.stop.is_cancelled() {
                stopped = true;
                self.cancel_waiting();
            }
            if !stopped {
                self.start_ready();
            }
            if self.running.is_empty() {
                break;
            }
            tokio::select! {
                ended = self.running.join_next_with_id() => self.ended(ended),
                () = self.driver.stop.cancelled(), if !stopped => {}
            }
        }
        let lost = |build| {
            let error = Error::internal("the build ended without a report");
            BuildReport::not_run(build, Status::Failed, error)
        };
        self.builds.iter().zip(self.done).map(|(b, report)| report.unwrap_or_else(|| lost(b))).collect()
    }

    fn start_ready(&mut self) {
        let limit = self.driver.limit;
        while limit == 0 || self.running.len() < limit {
            let Some(i) = self.ready.pop_first() else { break };
            let build = &self.builds[i];
            let cx = self.driver.context(build);
            let (handler, cache) = (self.driver.handler.clone(), self.cache.clone());
            let work = build::run(build.clone(), cx, handler, self.needed(i), cache);
            let task = self.running.spawn(work).id();
            self.tasks.insert(task, i);
        }
    }

    /// The artifacts of the builds that a build needs, by name.
    fn needed(&self, i: usize) -> BTreeMap<String, Vec<Artifact>> {
        let mut artifacts: BTreeMap<String, Vec<Artifact>> = BTreeMap::new();
        for report in self.graph.needs[i].iter().filter_map(|n| self.done[*n].as_ref()) {
            artifacts.entry(report.name.clone()).or_default().extend_from_slice(&report.artifacts);
        }
        artifacts
    }

    fn ended(&mut self, ended: Option<Result<(Id, BuildReport), tokio::task::JoinError>>) {
        match ended {
            Some(Ok((id, report))) => {
                if let Some(i) = self.tasks.remove(&id) {
                    self.settle(i, report);
                }
            }
            // The runtime ends, or the engine itself panicked where it catches no panic.
            Some(Err(error)) => {
                if let Some(i) = self.tasks.remove(&error.id()) {
                    let error = Error::internal(format!("the build's task ended early: {error}"));
                    self.settle(i, BuildReport::not_run(&self.builds[i], Status::Failed, error));
                }
            }
            None => {}
        }
    }

    /// Notes the end of a build, and what follows for the builds that need it.
    fn settle(&mut self, i: usize, report: BuildReport) {
        let mut news = vec![(i, report)];
        while let Some((i, report)) = news.pop() {
            self.ready.remove(&i);
            for d in &self.graph.dependents[i] {
                if self.done[*d].is_some() {
                    continue;
                }
                self.waiting[*d] -= 1;
                if report.status != Status::Succeeded {
                    news.push((*d, self.skipped(*d, &report)));
                } else if self.waiting[*d] == 0 {
                    self.ready.insert(*d);
                }
            }
            self.done[i].get_or_insert(report);
        }
    }

    fn skipped(&self, i: usize, needed: &BuildReport) -> BuildReport {
        let build = &self.builds[i];
        let what = match needed.status {
            Status::Cancelled => "was cancelled",
            Status::Skipped => "was skipped",
            Status::Rejected => "could not be prepared",
            Status::Failed | Status::Succeeded => "failed",
        };
        let reason = format!("it needs the build {:?}, which {what}", needed.name);
        self.driver.context(build).emit(EventKind::BuildSkipped { reason: reason.clone() });
        let fault = needed.error.as_ref().map_or(Fault::User, Error::fault);
        BuildReport::not_run(build, Status::Skipped, Error::new(fault, reason))
    }

    /// Nothing that has not started starts any more.
    fn cancel_waiting(&mut self) {
        let running: BTreeSet<usize> = self.tasks.values().copied().collect();
        for i in 0..self.builds.len() {
            if self.done[i].is_none() && !running.contains(&i) {
                self.done[i] = Some(self.driver.never_started(&self.builds[i]));
            }
        }
        self.ready.clear();
    }
}
