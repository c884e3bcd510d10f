//! The plan: what a run would do, found out without doing any of it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, RunContext, seconds};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::duration::GoDuration;
use crate::engine::cache::{self, Cache, Index, Lookup, Store, masked};
use crate::engine::graph::Graph;
use crate::engine::report::StepUse;
use crate::engine::{Engine, guard, prepare};
use crate::event::{Reason, in_words, step_label};
use crate::ledger::Resource;
use crate::pipeline::{Build, Decoded, Pipeline, PostProcessStep, ProvisionStep, RunValues};
use crate::secrets::Secrets;
use crate::value::Value;

/// What a run would do. Secrets in it are masked; `Display` shows it to people.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The builds, each behind those it needs.
    pub builds: Vec<PlannedBuild>,
    /// What preparation found. Builds with errors are rejected.
    pub diagnostics: Diagnostics,
}

/// What a run would do for one build.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PlannedBuild {
    /// Its display name.
    pub name: String,
    /// The type of its builder.
    pub builder: String,
    /// Display names of the builds that must have succeeded first.
    pub needs: Vec<String>,
    /// Whether it would not run because its configuration is wrong.
    pub rejected: bool,
    /// The builder's configuration; `None` where it does not tell it.
    pub configuration: Option<serde_json::Value>,
    /// The saved state that the machine would start from; `None` where it starts from the source.
    pub starts_from: Option<Resource>,
    /// The steps that belong to it, in order.
    pub steps: Vec<PlannedStep>,
    /// What would run when provisioning failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_cleanup: Option<PlannedStep>,
    /// What would look at a machine that is started from the artifact.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<PlannedStep>,
    /// The sequences of post-processors.
    pub post_processors: Vec<Vec<PlannedPostProcessor>>,
}

/// What a run would do for one provisioner.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PlannedStep {
    /// Its number among the steps of the build, from 1.
    pub number: usize,
    /// The provisioner's type.
    pub kind: String,
    /// Its name; may be empty.
    pub name: String,
    /// Its configuration; values that are known only when it runs are placeholders. `None` where it does not tell it.
    pub configuration: Option<serde_json::Value>,
    /// Wait before each try.
    #[serde(serialize_with = "seconds", rename = "pause_before_seconds")]
    pub pause_before: Duration,
    /// Limit of each try.
    #[serde(serialize_with = "maybe_seconds", rename = "timeout_seconds")]
    pub timeout: Option<Duration>,
    /// How often it would be tried again.
    pub max_retries: u32,
    /// Whether the build goes on when it fails.
    pub continue_on_error: bool,
    /// Whether it would be taken from the cache. `None` without a cache, or where that is not known yet.
    pub reused: Option<bool>,
    /// Why it would not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
}

/// A post-processor that would run.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PlannedPostProcessor {
    /// Its type.
    pub kind: String,
    /// Its name; may be empty.
    pub name: String,
    /// Its configuration.
    pub configuration: Option<serde_json::Value>,
    /// Whether its input stays, where the user says.
    pub keep_input_artifact: Option<bool>,
}

fn maybe_seconds<S: serde::Serializer>(limit: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    limit.map(|limit| limit.as_secs_f64()).serialize(serializer)
}

impl Engine {
    /// Says what [`run`](Self::run) would do with a pipeline, without side effects: nothing is launched, written or told to
    /// sinks. Files that steps read are read, and builders are asked what they start from.
    ///
    /// # Errors
    /// Where builds need ones that are not there, or each other.
    pub async fn plan(&self, pipeline: &Pipeline) -> Result<Plan, Diagnostics> {
        let pipeline = self.settled(pipeline);
        let graph = Graph::of(&pipeline.builds)?;
        let quiet = Self { sinks: Vec::new(), ledger: None, ..self.clone() };
        let run = Arc::new(quiet.run_context(pipeline.secrets.clone()));
        let mut diagnostics = pipeline.notes.clone();
        let cached = self.cache.as_ref().and_then(|cache| match peek(cache) {
            Ok((store, index)) => {
                if index.damaged > 0 {
                    let detail = format!("{} of its lines are not used.", index.damaged);
                    diagnostics
                        .push(Diagnostic::warning("The index of the step cache is damaged").detail(detail));
                }
                Some((store, index))
            }
            Err(error) => {
                let detail = error.to_string();
                diagnostics.push(Diagnostic::warning("The step cache cannot be used").detail(detail));
                None
            }
        });
        let mut planned: Vec<Option<PlannedBuild>> = Vec::with_capacity(pipeline.builds.len());
        for prepared in prepare::all(pipeline.builds.clone(), &self.host).await {
            let rejected = prepared.findings.has_errors();
            diagnostics.append(prepared.findings);
            let looking = if rejected { None } else { cached.as_ref() };
            planned.push(Some(build(&run, &prepared.build, rejected, looking).await));
        }
        diagnostics.extend(prepare::short_secrets(&pipeline.secrets, true));
        diagnostics.scrub(&pipeline.secrets);
        let builds = order(&graph).into_iter().filter_map(|i| planned.get_mut(i)?.take()).collect();
        Ok(Plan { builds, diagnostics })
    }
}

/// The cache as it is; an empty one where nothing was saved yet.
fn peek(cache: &Cache) -> crate::Result<(Store, Index)> {
    Ok(match cache.peek()? {
        Some(found) => found,
        None => (Store::unwritten(cache.folder())?, Index::default()),
    })
}

/// Each build behind those it needs, otherwise in the order of the pipeline.
fn order(graph: &Graph) -> Vec<usize> {
    let mut missing: Vec<usize> = graph.needs.iter().map(BTreeSet::len).collect();
    let mut ready: BTreeSet<usize> = (0..missing.len()).filter(|i| missing[*i] == 0).collect();
    let mut order = Vec::with_capacity(missing.len());
    while let Some(i) = ready.pop_first() {
        order.push(i);
        for d in &graph.dependents[i] {
            missing[*d] -= 1;
            if missing[*d] == 0 {
                ready.insert(*d);
            }
        }
    }
    order
}

async fn build(
    run: &Arc<RunContext>,
    build: &Build,
    rejected: bool,
    cached: Option<&(Store, Index)>,
) -> PlannedBuild {
    let secrets = &run.secrets;
    let builder = Decoded {
        component: build.builder.preview().clone(),
        config: build.builder.preview_config().cloned(),
    };
    let mut starts_from = None;
    let mut uses: Vec<StepUse> = Vec::new();
    if let Some((store, index)) = cached.filter(|_| !build.builder.is_deferred()) {
        let stop = CancellationToken::new();
        let cx = Context::new(run.clone(), build.info.clone(), &build.info.builder_type, stop);
        let lookup = Lookup::new(&cx, store, index, build, &builder, &RunValues::default()).await;
        if let Ok(mut lookup) = lookup {
            let mut lost = vec![None; lookup.steps.len()];
            while let Some(last) = lookup.reusable().checked_sub(1) {
                let Some(found) = lookup.steps[last].checkpoint.clone() else { break };
                match cache::exists(&cx, builder.component.as_ref(), &found.resource).await {
                    Ok(()) => {
                        starts_from = Some(found.resource);
                        break;
                    }
                    Err(error) => lost[last] = Some(error.to_string()),
                }
                lookup.steps[last].checkpoint = None;
            }
            uses = cache::uses(&lookup, lookup.reusable(), &lost);
        }
    }
    let waits = match cached.is_some() && build.builder.is_deferred() {
        true => vec![Reason::NeedsBuilds { names: build.needs.clone() }],
        false => Vec::new(),
    };
    let clean = |text: &mut String| *text = secrets.scrub_prose(text.as_str()).into_owned();
    let admitted = build.provisioners.iter().filter(|step| step.filter.admits(&build.source));
    let mut steps: Vec<PlannedStep> =
        admitted.enumerate().map(|(i, s)| step(i + 1, s, uses.get(i), &waits, secrets)).collect();
    for reason in steps.iter_mut().flat_map(|step| &mut step.reasons) {
        reason.scrub(&clean);
    }
    let tests = build.tests.iter().filter(|step| step.filter.admits(&build.source));
    let cleanup = build.error_cleanup.iter().find(|step| step.filter.admits(&build.source));
    let own = || guard::unwound_call(|| builder.component.config()).unwrap_or_default();
    let sequence = |sequence: &Vec<PostProcessStep>| -> Vec<PlannedPostProcessor> {
        let admitted = sequence.iter().filter(|step| step.filter.admits(&build.source));
        admitted.map(|step| post_processor(step, secrets)).collect()
    };
    PlannedBuild {
        name: secrets.scrub_prose(build.name()).into_owned(),
        builder: build.info.builder_type.clone(),
        needs: build.needs.clone(),
        rejected,
        configuration: shown(builder.config.clone().or_else(own), secrets),
        starts_from,
        steps,
        error_cleanup: cleanup.map(|s| step(0, s, None, &[], secrets)),
        tests: tests.enumerate().map(|(i, s)| step(i + 1, s, None, &[], secrets)).collect(),
        post_processors: build.post_processors.iter().map(sequence).filter(|s| !s.is_empty()).collect(),
    }
}

fn step(
    number: usize,
    step: &ProvisionStep,
    used: Option<&StepUse>,
    waits: &[Reason],
    secrets: &Secrets,
) -> PlannedStep {
    let late = &step.provisioner;
    let own = || guard::unwound_call(|| late.preview().config()).unwrap_or_default();
    PlannedStep {
        number,
        kind: step.kind.clone(),
        name: secrets.scrub_prose(&step.name).into_owned(),
        configuration: shown(late.preview_config().cloned().or_else(own), secrets),
        pause_before: step.pause_before,
        timeout: step.timeout,
        max_retries: step.max_retries,
        continue_on_error: step.continue_on_error,
        reused: used.map(|used| used.reused),
        reasons: used.map_or_else(|| waits.to_vec(), |used| used.reasons.clone()),
    }
}

fn post_processor(step: &PostProcessStep, secrets: &Secrets) -> PlannedPostProcessor {
    let late = &step.post_processor;
    let own = || guard::unwound_call(|| late.preview().config()).unwrap_or_default();
    PlannedPostProcessor {
        kind: step.kind.clone(),
        name: secrets.scrub_prose(&step.name).into_owned(),
        configuration: shown(late.preview_config().cloned().or_else(own), secrets),
        keep_input_artifact: step.keep_input_artifact,
    }
}

fn shown(config: Option<Value>, secrets: &Secrets) -> Option<serde_json::Value> {
    config.map(|config| masked(&config, secrets))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, build) in self.builds.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            build.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for PlannedBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        if self.rejected {
            return writeln!(f, "  does not run: its configuration is wrong");
        }
        if !self.needs.is_empty() {
            writeln!(f, "  runs when these have succeeded: {}", self.needs.join(", "))?;
        }
        match &self.starts_from {
            Some(state) => writeln!(f, "  starts from the saved state {state}")?,
            None => writeln!(f, "  starts from its source with {}", self.builder)?,
        }
        fields(f, "    ", self.configuration.as_ref())?;
        for step in &self.steps {
            write!(f, "  {}. {}", step.number, step_label(&step.kind, &step.name))?;
            match step.reused {
                Some(true) => f.write_str(": taken from the cache")?,
                Some(false) => write!(f, ": runs: {}", in_words(&step.reasons))?,
                None if step.reasons.is_empty() => f.write_str(": runs")?,
                None => write!(f, ": not known yet whether it runs: {}", in_words(&step.reasons))?,
            }
            f.write_str("\n")?;
            step.settings(f)?;
            fields(f, "       ", step.configuration.as_ref())?;
        }
        if let Some(step) = &self.error_cleanup {
            writeln!(f, "  if provisioning fails: {}", step_label(&step.kind, &step.name))?;
            step.settings(f)?;
            fields(f, "       ", step.configuration.as_ref())?;
        }
        for step in &self.tests {
            writeln!(f, "  test of the artifact: {}", step_label(&step.kind, &step.name))?;
            step.settings(f)?;
            fields(f, "       ", step.configuration.as_ref())?;
        }
        for sequence in &self.post_processors {
            for (i, step) in sequence.iter().enumerate() {
                let then = if i == 0 { "of the artifact" } else { "then" };
                writeln!(f, "  {then}: {}", step_label(&step.kind, &step.name))?;
                fields(f, "       ", step.configuration.as_ref())?;
            }
        }
        Ok(())
    }
}

impl PlannedStep {
    fn settings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let duration = |d: Duration| GoDuration::from(d).to_string();
        let mut settings = Vec::new();
        if !self.pause_before.is_zero() {
            settings.push(format!("pauses {} before", duration(self.pause_before)));
        }
        settings.extend(self.timeout.map(|limit| format!("at most {}", duration(limit))));
        if self.max_retries > 0 {
            settings.push(format!("up to {} more tries", self.max_retries));
        }
        if self.continue_on_error {
            settings.push("the build goes on when it fails".to_owned());
        }
        if settings.is_empty() { Ok(()) } else { writeln!(f, "       ({})", settings.join(", ")) }
    }
}

/// The fields of a configuration, one a line.
fn fields(f: &mut fmt::Formatter<'_>, indent: &str, config: Option<&serde_json::Value>) -> fmt::Result {
    for (name, value) in config.and_then(serde_json::Value::as_object).into_iter().flatten() {
        writeln!(f, "{indent}{name} = {value}")?;
    }
    Ok(())
}
