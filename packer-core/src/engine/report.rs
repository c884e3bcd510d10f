//! The report: what became of each build, as data.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::artifact::Artifact;
use crate::context::{StepTime, seconds};
use crate::diagnostic::Diagnostics;
use crate::error::{Error, ErrorInfo};
use crate::event::{Reason, scrub_artifact};
use crate::ledger::Resource;
use crate::pipeline::Outputs;
use crate::secrets::Secrets;

/// What became of a run. Texts are scrubbed of secrets.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Names the run: `PACKER_RUN_UUID`.
    pub run_id: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    #[serde(serialize_with = "seconds", rename = "seconds")]
    pub elapsed: Duration,
    /// Whether somebody cancelled it.
    pub cancelled: bool,
    /// The builds, in the order of the pipeline.
    pub builds: Vec<BuildReport>,
    /// What was made of the artifacts by the pipeline's outputs; those whose builds did not succeed are not there.
    pub outputs: Outputs,
    /// What preparation found: warnings, and the errors of builds that were rejected. Also why an output is missing.
    pub diagnostics: Diagnostics,
}

impl Report {
    /// Whether every build succeeded and every output could be made.
    pub fn succeeded(&self) -> bool {
        self.builds.iter().all(|b| b.status == Status::Succeeded) && !self.diagnostics.has_errors()
    }

    /// The report of the first build of this name.
    pub fn build(&self, name: &str) -> Option<&BuildReport> {
        self.builds.iter().find(|b| b.name == name)
    }

    /// The artifacts of all builds that succeeded, in order.
    pub fn artifacts(&self) -> impl Iterator<Item = &Artifact> {
        self.builds.iter().filter(|b| b.status == Status::Succeeded).flat_map(|b| &b.artifacts)
    }

    /// Everything that the run brought into the world and could or should not release.
    pub fn left(&self) -> impl Iterator<Item = &Left> {
        self.builds.iter().flat_map(|b| &b.left)
    }
}

/// What became of one build.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct BuildReport {
    /// Its display name.
    pub name: String,
    /// The type of its builder.
    pub builder: String,
    /// How it ended.
    pub status: Status,
    /// What it made and what stays, in order: after success the build's results, after a failure what the
    /// failing step had to work with.
    pub artifacts: Vec<Artifact>,
    /// Why it did not succeed.
    pub error: Option<Error>,
    /// Its steps in the order in which they ended.
    pub steps: Vec<StepTime>,
    /// What came of its tests; `None` where it has none, or did not get as far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<TestReport>,
    /// What the cache did for it; `None` where the run had none, or the build did not get as far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheUse>,
    /// How long it took; zero where it never started.
    #[serde(serialize_with = "seconds", rename = "seconds")]
    pub elapsed: Duration,
    /// What is left in the world although no artifact owns it; it is in the ledger still.
    pub left: Vec<Left>,
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// It has made its artifacts.
    Succeeded,
    /// Something went wrong.
    Failed,
    /// It never started because a build it needs did not succeed.
    Skipped,
    /// The run was cancelled before it was done.
    Cancelled,
    /// It never started because its configuration is wrong; the findings are in [`Report::diagnostics`].
    Rejected,
}

/// Something that a build left in the world.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Left {
    /// What it is.
    pub resource: Resource,
    /// Why it was not released.
    pub reason: String,
    /// The same as data: whose fault it looks like, what caused it.
    pub error: ErrorInfo,
}

impl Left {
    /// Something that is left because of an error.
    pub(crate) fn new(resource: Resource, error: &Error) -> Self {
        Self { resource, reason: error.to_string(), error: error.into() }
    }

    /// Takes the secrets out of its texts.
    pub(crate) fn scrub(&mut self, secrets: &Secrets) {
        self.resource.scrub(secrets);
        if let Cow::Owned(scrubbed) = secrets.scrub_prose(self.reason.as_str()) {
            self.reason = scrubbed;
        }
        self.error.scrub(secrets);
    }
}

impl BuildReport {
    /// A build that never ran.
    pub(crate) fn not_run(build: &crate::pipeline::Build, status: Status, error: Error) -> Self {
        Self {
            name: build.name().to_owned(),
            builder: build.info.builder_type.clone(),
            status,
            artifacts: Vec::new(),
            error: Some(error),
            steps: Vec::new(),
            test: None,
            cache: None,
            elapsed: Duration::ZERO,
            left: Vec::new(),
        }
    }

    pub(crate) fn scrub(mut self, secrets: &Secrets) -> Self {
        if secrets.is_empty() {
            return self;
        }
        let clean = |text: &mut String| {
            if let Cow::Owned(scrubbed) = secrets.scrub_prose(text.as_str()) {
                *text = scrubbed;
            }
        };
        clean(&mut self.name);
        self.error = self.error.map(|e| e.scrubbed(secrets));
        self.artifacts.iter_mut().for_each(|a| scrub_artifact(a, &clean));
        for step in &mut self.steps {
            clean(&mut step.name);
            step.error.iter_mut().for_each(|error| error.scrub(secrets));
        }
        if let Some(test) = &mut self.test {
            test.steps.iter_mut().for_each(|step| clean(&mut step.name));
            test.kept.iter_mut().for_each(clean);
            test.error.iter_mut().for_each(|error| error.scrub(secrets));
        }
        self.cache.iter_mut().for_each(|cache| cache.scrub(&clean));
        self.left.iter_mut().for_each(|left| left.scrub(secrets));
        self
    }
}

/// What came of the [tests](crate::Build::test) of a build. Texts are scrubbed of secrets.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct TestReport {
    /// Whether the artifact started and all tests passed.
    pub passed: bool,
    /// How long it took: starting, testing, cleaning up.
    #[serde(serialize_with = "seconds", rename = "seconds")]
    pub elapsed: Duration,
    /// The tests that began, in order; those of the last try where there were several.
    pub steps: Vec<TestStep>,
    /// What an artifact that did not pass is called now; `None` where it passed, or was not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// Why it did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
}

/// A test that began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TestStep {
    /// The provisioner's type.
    pub kind: String,
    /// Its name; may be empty.
    pub name: String,
}

/// What the cache did for a build. Texts are scrubbed of secrets.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CacheUse {
    /// The steps that belong to the build, in order.
    pub steps: Vec<StepUse>,
    /// Why states were not saved (any more), where that was so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsaved: Option<String>,
}

impl CacheUse {
    /// How many steps were, or would be, reused.
    pub fn reused(&self) -> usize {
        self.steps.iter().filter(|step| step.reused).count()
    }

    pub(crate) fn scrub(&mut self, clean: &impl Fn(&mut String)) {
        for step in &mut self.steps {
            clean(&mut step.name);
            step.reasons.iter_mut().for_each(|reason| reason.scrub(clean));
        }
        self.unsaved.iter_mut().for_each(clean);
    }
}

/// What the cache did for a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StepUse {
    /// Its number among the steps of the build, from 1.
    pub number: usize,
    /// The provisioner's type.
    pub kind: String,
    /// Its name; may be empty.
    pub name: String,
    /// Whether it was reused.
    pub reused: bool,
    /// Why it was not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Whether the state behind it is saved.
    pub saved: bool,
}
