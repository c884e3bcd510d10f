use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{World, error};
use crate::communicator::CommunicatorExt;
use crate::context::{Host, Prompt};
use crate::engine::{Decision, Failure, FailureHandler, OnError, Status};
use crate::error::{Fault, Result};
use crate::pipeline::{Build, Pipeline};
use crate::testing::{FakeBuilder, FakePostProcessor, FakeProvisioner, Trouble, Verb};

const CLEANUP_LINE: &str = "Provisioning step had errors: Running the cleanup provisioner, if present...";

fn failing(world: &World) -> Build {
    Build::new("a", world.builder())
        .provision(FakeProvisioner::run("").trouble(Trouble::Fail))
        .on_error(FakeProvisioner::run("echo cleaning"))
}

#[tokio::test]
async fn policies_say_and_do_as_packer_does() {
    for (policy, lines, left) in [
        (OnError::Cleanup, vec![CLEANUP_LINE, "cleaning"], vec![]),
        (
            OnError::Abort,
            vec![
                "try 1 failed",
                "Step \"StepProvision\" failed, aborting...",
                "aborted: skipping cleanup of step \"StepConnect\"",
            ],
            vec!["key", "machine"],
        ),
        (
            OnError::RunCleanupProvisioner,
            vec![CLEANUP_LINE, "cleaning", "try 1 failed", "Step \"StepConnect\" failed, aborting..."],
            vec!["key", "machine"],
        ),
        // Nobody to ask.
        (
            OnError::Ask,
            vec!["try 1 failed", "Step \"StepProvision\" failed", CLEANUP_LINE, "cleaning"],
            vec![],
        ),
    ] {
        let world = World::new();
        let engine = world.engine().on_error(policy);
        let report = engine.run(Pipeline::of([failing(&world)])).await.unwrap();
        assert_eq!(report.builds[0].status, Status::Failed);
        assert_eq!(error(&report), "try 1 failed");
        assert_eq!(world.lines(), lines, "{policy}");
        assert_eq!(world.kinds(), left, "{policy}");
        let named: Vec<_> = report.left().map(|l| l.resource.kind.as_str()).collect();
        assert_eq!(named, left, "what is left is in the report");
        assert_eq!(world.is_clean(), left.is_empty(), "and in the ledger");
        assert_eq!(policy.as_str().parse::<OnError>().unwrap(), policy);
    }
    assert!("explode".parse::<OnError>().is_err());
}

/// Gives these answers, then none.
struct Answers(Mutex<Vec<&'static str>>);

#[async_trait]
impl Prompt for Answers {
    async fn ask(&self, _: &str) -> Result<String> {
        Ok(self.0.lock().unwrap().pop().unwrap_or_default().to_owned())
    }
}

#[tokio::test]
async fn whoever_is_asked_may_retry_abort_or_clean_up() {
    for (answers, status, left) in [
        (vec!["r", "what?"], Status::Succeeded, vec!["image"]),
        (vec!["a"], Status::Failed, vec!["key", "machine"]),
        (vec!["c"], Status::Failed, vec![]),
        (vec!["x"; 50], Status::Failed, vec![]),
    ] {
        let world = World::new();
        let step = FakeProvisioner::run("").trouble(Trouble::Fail).first_tries(1);
        let host = Host::new().prompt(Answers(Mutex::new(answers.clone().into_iter().rev().collect())));
        let engine = world.engine().host(host).on_error(OnError::Ask);
        let build = Build::new("a", world.builder()).provision(step);
        let report = engine.run(Pipeline::of([build])).await.unwrap();
        assert_eq!(report.builds[0].status, status, "{answers:?}");
        assert_eq!(world.kinds(), left, "{answers:?}");
    }
}

/// Looks into the machine and decides as it was told.
struct Look {
    decision: Decision,
    seen: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl FailureHandler for Look {
    async fn on_failure(&self, failure: &Failure<'_>) -> Decision {
        let looked = match failure.machine {
            Some(machine) => machine.communicator().output(failure.cx, "cat trace").await.unwrap().text(),
            None => "no machine".to_owned(),
        };
        let phase = failure.phase;
        self.seen.lock().unwrap().push(format!("{phase:?} {} {}: {looked}", failure.step, failure.error));
        if failure.tries > 0 { Decision::CleanUp } else { self.decision }
    }
}

#[tokio::test]
async fn a_host_looks_into_the_living_machine_and_decides() {
    for (decision, trace, status) in [
        (Decision::Retry, "a b a b c", Status::Succeeded),
        (Decision::RetryProvisioner, "a b b c", Status::Succeeded),
        (Decision::SkipProvisioner, "a b c", Status::Succeeded),
        (Decision::CleanUp, "a b", Status::Failed),
    ] {
        let world = World::new();
        let seen = Arc::default();
        let engine = world.engine().failure_handler(Look { decision, seen: Arc::clone(&seen) });
        let step = |name: &str| FakeProvisioner::run(format!("printf '{name} ' >> trace"));
        let failing = step("b").trouble(Trouble::FailHalfway).first_tries(1);
        let look = FakeProvisioner::run("cat trace");
        let build = Build::new("a", world.builder());
        let build = build.provision(step("a")).provision(failing).provision(step("c")).provision(look);
        let report =
            engine.run(Pipeline::of([build.on_error(FakeProvisioner::run("cat trace"))])).await.unwrap();
        assert_eq!(report.builds[0].status, status, "{decision:?}");
        assert_eq!(*seen.lock().unwrap(), ["Provision StepProvision try 1 failed: a b "], "{decision:?}");
        assert_eq!(world.lines().last().map(String::as_str), Some(trace), "{decision:?}");
        assert!(world.is_clean());
    }
}

#[tokio::test]
async fn every_phase_can_be_tried_again_and_leaves_nothing() {
    for (verb, phase) in [(Verb::Launch, "Launch StepConnect"), (Verb::Capture, "Capture StepCapture")] {
        let world = World::new();
        let seen = Arc::default();
        let engine =
            world.engine().failure_handler(Look { decision: Decision::Retry, seen: Arc::clone(&seen) });
        let builder = world.builder().trouble(verb, Trouble::FailHalfway);
        let build = Build::new("a", builder.clone()).provision(FakeProvisioner::run("echo x > trace"));
        let report = engine.run(Pipeline::of([build])).await.unwrap();
        assert_eq!(report.builds[0].status, Status::Failed);
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 2);
        assert!(seen[0].starts_with(phase), "{seen:?}");
        assert!(world.is_clean());
        assert_eq!(world.kinds(), [] as [&str; 0], "{:?}", builder.calls());
    }
}

#[tokio::test]
async fn a_flat_machine_just_fails() {
    let world = World::new();
    let build = Build::new("a", world.builder().flat())
        .provision(FakeProvisioner::run("").trouble(Trouble::Fail))
        .on_error(FakeProvisioner::run("echo never"));
    let engine = world.engine().on_error(OnError::Abort);
    let report = engine.run(Pipeline::of([build])).await.unwrap();
    assert_eq!(error(&report), "try 1 failed");
    assert_eq!(world.lines(), [] as [&str; 0]);
    assert!(world.is_clean());
}

#[tokio::test]
async fn both_errors_are_told_when_the_cleanup_provisioner_fails_too() {
    let world = World::new();
    let build = failing(&world).on_error(FakeProvisioner::run("exit 4"));
    let report = world.run(build).await;
    assert_eq!(
        error(&report),
        "Cleanup failed: \"exit 4\" ended with 4. Original Provisioning error: try 1 failed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_build_alone() {
    let world = World::new();
    let troubled = |verb| world.builder().trouble(verb, Trouble::Panic);
    let panicking = FakeProvisioner::run("").trouble(Trouble::Panic);
    let output = world.folder.path().join("out");
    let pp = FakePostProcessor::writing(output, crate::Keep::No).trouble(Trouble::Panic);
    let builds = [
        Build::new("good", world.builder()),
        Build::new("launch", troubled(Verb::Launch)),
        Build::new("provision", world.builder()).provision(panicking),
        Build::new("capture", troubled(Verb::Capture)),
        Build::new("post-process", world.builder()).post_process(pp),
        Build::new("prepare", troubled(Verb::Prepare)),
    ];
    let report = world.engine().run(Pipeline::of(builds)).await.unwrap();
    let statuses: Vec<_> = report.builds.iter().map(|b| b.status).collect();
    assert_eq!(statuses[0], Status::Succeeded);
    assert_eq!(statuses[1..5], [Status::Failed; 4]);
    assert_eq!(statuses[5], Status::Rejected);
    for build in &report.builds[1..4] {
        let error = build.error.as_ref().unwrap();
        assert_eq!(error.fault(), Fault::Internal);
        assert!(error.message().contains("on purpose"), "{error}");
    }
    // The image of `good`, and that of `post-process`, which stays although the build failed.
    assert_eq!(world.kinds(), ["image", "image"]);
    assert!(world.is_clean());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_released_is_named_and_stays_in_the_ledger() {
    for trouble in [Trouble::Fail, Trouble::Panic] {
        let world = World::new();
        let builder: FakeBuilder = world.builder().trouble(Verb::Release, trouble);
        let report = world.run(Build::new("a", builder)).await;
        assert_eq!(report.builds[0].status, Status::Succeeded, "the image is made all the same");
        let left: Vec<_> = report.left().map(|l| l.resource.kind.as_str()).collect();
        assert_eq!(left, ["machine", "key"]);
        assert!(!world.is_clean());
        assert_eq!(world.kinds(), ["image", "key", "machine"]);
    }
}
