//! The boot test: what a build has made is started anew and looked at, before anything is made of it.

use std::collections::HashSet;
use std::time::Instant;

use crate::artifact::Artifact;
use crate::builder::{BootTest, Builder, Machine};
use crate::engine::build::{End, Life, facts, guarded};
use crate::engine::cleanup;
use crate::engine::on_error::{Decision, Phase};
use crate::engine::provision::{self, Part};
use crate::engine::report::{TestReport, TestStep};
use crate::error::{Error, ErrorInfo, Result};
use crate::ledger::{Ledger, ResourceId};
use crate::pipeline::RunValues;

/// The step in which the machine is started.
pub(super) const BOOT: &str = "boot for tests";

impl Life<'_> {
    /// Tests an artifact, where the build has tests for it; gives it back where they pass.
    pub(super) async fn test(&mut self, builder: &dyn Builder, artifact: Artifact) -> Result<Artifact, End> {
        if !self.build.tests.iter().any(|step| step.filter.admits(&self.build.source)) {
            return Ok(artifact);
        }
        let began = Instant::now();
        let mut report = TestReport::default();
        let result = match builder.boot_test() {
            Some(tester) => Box::pin(self.tries(tester, artifact, &mut report)).await,
            // A builder that is made from other builds' artifacts is not the one that was checked.
            None => {
                let error = Error::user(cannot_boot(&self.build.info.builder_type));
                Err(End { artifacts: vec![artifact], error: Some(error), leave: false })
            }
        };
        report.passed = result.is_ok();
        report.elapsed = began.elapsed();
        report.error = result.as_ref().err().and_then(|end| end.error.as_ref()).map(ErrorInfo::from);
        self.tested = Some(report);
        result
    }

    /// Boots and tests until the tests pass or nobody wants another try.
    async fn tries(
        &mut self,
        tester: &dyn BootTest,
        artifact: Artifact,
        report: &mut TestReport,
    ) -> Result<Artifact, End> {
        let cx = self.cx;
        let before: HashSet<ResourceId> =
            cx.record_of_build().owned.outstanding().into_iter().map(|resource| resource.id).collect();
        loop {
            report.steps.clear();
            let (machine, result) = match Box::pin(guarded(cx, BOOT, tester.boot(cx, &artifact))).await {
                Ok(machine) => {
                    let result = Box::pin(self.run_tests(machine.as_ref(), report)).await;
                    (Some(machine), result)
                }
                Err(error) => (
                    None,
                    Err(error
                        .map_message(|m| format!("what was made could not be started for its tests: {m}"))),
                ),
            };
            let decision = match &result {
                Ok(()) => Decision::CleanUp,
                Err(error) => self.failed(error, Phase::Test, machine.as_deref()).await,
            };
            let leaves = matches!(decision, Decision::Abort | Decision::RunCleanupProvisioner);
            let error = match result {
                Err(error) if leaves && !cx.is_cancelled() => {
                    cx.say_error("aborted: skipping cleanup of step \"StepTest\"");
                    return Err(End { artifacts: vec![artifact], error: Some(error), leave: true });
                }
                result => result.err(),
            };
            let pause = match machine {
                Some(_) => self.debug_pause("before cleanup of", "StepTest").await,
                None => Ok(()),
            };
            drop(machine);
            // What does not go now is tried again, and told, at the end of the build.
            cleanup::release_since(cx, &self.owners, &artifact, &before).await;
            match error.or(pause.err().map(|stop| stop.error)) {
                None => return Ok(artifact),
                Some(_) if matches!(decision, Decision::Retry | Decision::RetryProvisioner) => {}
                Some(error) => return Err(self.put_aside(tester, artifact, error, report).await),
            }
        }
    }

    /// Runs the tests in a machine that was started from the artifact.
    async fn run_tests(&mut self, machine: &dyn Machine, report: &mut TestReport) -> Result<()> {
        let build = self.build;
        let values = RunValues { facts: facts(self.cx, machine), artifacts: self.values.artifacts.clone() };
        let cx = self.cx.with_facts(values.facts.clone());
        let result =
            provision::all(build, Part::Test, 0, &cx, machine, &values, &mut self.owners, None).await;
        let last = result.as_ref().err().map_or(usize::MAX, |(at, _)| *at);
        let begun = build.tests.iter().enumerate().filter(|(i, _)| *i <= last).map(|(_, step)| step);
        report.steps = begun
            .filter(|step| step.filter.admits(&build.source))
            .map(|step| TestStep { kind: step.kind.clone(), name: step.name.clone() })
            .collect();
        result.map_err(|(at, error)| {
            let kind = build.tests.get(at).map_or("", |step| step.kind.as_str());
            error.map_message(|message| format!("test {kind:?} failed: {message}"))
        })
    }

    /// Ends a build whose artifact did not pass: the artifact is kept under a name that says so. Where the run was cancelled
    /// nobody knows what it is worth, and it goes.
    async fn put_aside(
        &mut self,
        tester: &dyn BootTest,
        artifact: Artifact,
        error: Error,
        report: &mut TestReport,
    ) -> End {
        let cx = self.cx;
        if cx.is_cancelled() {
            return End { artifacts: Vec::new(), error: Some(error), leave: false };
        }
        let work = async {
            let mut aside = tester.set_aside(cx, artifact.clone()).await?;
            cleanup::complete(cx, &mut aside)?;
            Ok(aside)
        };
        let (kept, why) = match Box::pin(guarded(cx, "set aside", work)).await {
            Ok(aside) => (aside, None),
            Err(_) if cx.is_cancelled() => {
                return End { artifacts: Vec::new(), error: Some(error), leave: false };
            }
            Err(why) => (artifact, Some(why)),
        };
        let name = called(&kept);
        let error = error.map_message(|message| match why {
            None => format!("{message}; the image is kept as {name}"),
            Some(why) => {
                format!("{message}; the image could not be put aside ({why}) and is kept under its own name, {name}")
            }
        });
        report.kept = Some(name);
        End { artifacts: vec![kept], error: Some(error), leave: false }
    }
}

/// Why a build with tests is refused.
pub(super) fn cannot_boot(builder: &str) -> String {
    format!("the builder {builder:?} cannot start what it has made, so that it cannot be tested")
}

/// How people find an artifact: by its first file, or by its id.
fn called(artifact: &Artifact) -> String {
    artifact.files.first().map_or_else(|| artifact.id.clone(), |file| file.display().to_string())
}
