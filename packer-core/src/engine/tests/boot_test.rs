use std::time::Duration;

use async_trait::async_trait;

use super::{World, error};
use crate::engine::{Cache, Decision, Failure, FailureHandler, OnError, Phase, Status, TestReport};
use crate::event::EventKind;
use crate::pipeline::{Build, Pipeline, ProvisionerExt};
use crate::post_processor::Keep;
use crate::registry::Registry;
use crate::testing::{FakeBuilder, FakePostProcessor, FakeProvisioner, TempFolder, Trouble, Verb};

/// A build that provisions, tests what it made with this, and post-processes.
fn build(builder: FakeBuilder, test: FakeProvisioner) -> (Build, FakePostProcessor) {
    let post_processor = FakePostProcessor::passing(Keep::Yes);
    let build = Build::new("a", builder)
        .provision(FakeProvisioner::run("echo made > made"))
        .test(test)
        .post_process(post_processor.clone());
    (build, post_processor)
}

fn report(report: &crate::Report) -> &TestReport {
    report.builds[0].test.as_ref().unwrap()
}

#[tokio::test]
async fn what_was_made_is_started_and_tested_before_anything_is_made_of_it() {
    let world = World::new();
    let builder = world.builder().boots();
    let test = FakeProvisioner::run("cat made; echo left > left");
    let (build, post_processor) = build(builder.clone(), test);
    let done = world.run(build.test(FakeProvisioner::run("cat left").named("again"))).await;
    assert_eq!(error(&done), "");
    assert_eq!(world.lines(), ["made", "left", "Running post-processor:  (type fake)"].map(String::from));
    assert_eq!(
        builder.calls(),
        ["launch", "capture", "release machine", "release key", "boot", "release machine"]
    );
    let names: Vec<_> = done.builds[0].steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "create key",
            "create machine",
            "launch",
            "provision with fake",
            "capture",
            "boot for tests",
            "test with fake",
            "test with fake again",
            "post-process with fake"
        ]
    );
    let test = report(&done);
    assert!(test.passed && test.kept.is_none() && test.error.is_none());
    assert_eq!(test.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["", "again"]);
    let json = serde_json::to_value(&done).unwrap();
    assert_eq!(json["builds"][0]["test"]["passed"], true);
    assert_eq!((world.kinds(), world.is_clean()), (vec!["image".to_owned()], true));
    assert_eq!(post_processor.seen().len(), 1);
    let image = world.folder.path().join(&post_processor.seen()[0].id);
    assert!(image.join("made").exists() && !image.join("left").exists(), "the image stays as it is");
}

#[tokio::test]
async fn what_fails_is_kept_under_a_name_that_says_so() {
    let world = World::new();
    let builder = world.builder().boots();
    let (build, post_processor) = build(builder.clone(), FakeProvisioner::run("exit 3"));
    let done = world.run(build.test(FakeProvisioner::run("echo never"))).await;
    let test = report(&done);
    let kept = test.kept.clone().unwrap();
    assert!(kept.starts_with("image-") && kept.ends_with("-failed-test"), "{kept}");
    let expected = format!("test \"fake\" failed: \"exit 3\" ended with 3; the image is kept as {kept}");
    assert_eq!(error(&done), expected);
    assert_eq!(done.builds[0].error.as_ref().unwrap().step(), Some("test with fake"));
    assert_eq!((done.builds[0].status, test.passed, test.steps.len()), (Status::Failed, false, 1));
    assert_eq!(test.error.as_ref().unwrap().message, expected);
    assert_eq!(post_processor.seen().len(), 0, "nothing is made of it");
    assert_eq!(done.builds[0].artifacts[0].id, kept);
    assert_eq!((world.builder().world(), world.is_clean()), (vec![kept], true));
    assert_eq!(done.left().count(), 0);
    assert_eq!(done.artifacts().count(), 0, "no result of the run");
}

#[tokio::test]
async fn where_it_does_not_start_or_cannot_be_set_aside() {
    for (verb, trouble) in [(Verb::Boot, Trouble::Fail), (Verb::Boot, Trouble::FailHalfway)] {
        let world = World::new();
        let (build, post_processor) =
            build(world.builder().boots().trouble(verb, trouble), FakeProvisioner::run(""));
        let done = world.run(build).await;
        let said = error(&done);
        assert!(
            said.starts_with(
                "what was made could not be started for its tests: boot failed; the image is kept as "
            ),
            "{said}"
        );
        assert_eq!(done.builds[0].error.as_ref().unwrap().step(), Some("boot for tests"));
        assert_eq!((post_processor.seen().len(), report(&done).steps.len()), (0, 0));
        assert_eq!((world.kinds(), world.is_clean()), (vec!["image".to_owned()], true));
    }
    let world = World::new();
    let builder = world.builder().boots().trouble(Verb::SetAside, Trouble::Fail);
    let done = world.run(build(builder, FakeProvisioner::run("false")).0).await;
    let name = done.builds[0].artifacts[0].id.clone();
    let why = "the image could not be put aside (setaside failed) and is kept under its own name";
    assert_eq!(error(&done), format!("test \"fake\" failed: \"false\" ended with 1; {why}, {name}"));
    assert_eq!((world.builder().world(), world.is_clean()), (vec![name.clone()], true));
    assert_eq!(report(&done).kept.as_deref(), Some(name.as_str()));
}

#[tokio::test]
async fn only_where_a_test_is_for_the_build() {
    let world = World::new();
    // Not even the builder has to know how.
    let build = Build::new("a", world.builder()).test(FakeProvisioner::run("false").only(["fake.other"]));
    let done = world.run(build).await;
    assert_eq!((error(&done).as_str(), done.builds[0].test.is_none()), ("", true));
    let json = serde_json::to_value(&done).unwrap();
    assert!(json["builds"][0].get("test").is_none(), "where there are no tests the report is as it was");
    let builder = world.builder().boots();
    let build = Build::new("a", builder.clone()).test(FakeProvisioner::run("").except(["fake-builder.a"]));
    world.run(build).await;
    assert!(!builder.calls().contains(&"boot".to_owned()));
}

#[tokio::test]
async fn a_builder_that_cannot_is_refused_before_anything_runs() {
    let world = World::new();
    let builder = world.builder();
    let (build, _) = build(builder.clone(), FakeProvisioner::run(""));
    let refused = world.engine().run(Pipeline::of([build])).await.unwrap_err().to_string();
    let words = "the builder \"fake-builder\" cannot start what it has made, so that it cannot be tested";
    assert!(refused.contains(words), "{refused}");
    assert_eq!(builder.calls(), [] as [&str; 0]);
}

#[tokio::test]
async fn steps_are_tried_again_and_pardoned_as_others_are() {
    let world = World::new();
    let flaky = FakeProvisioner::run("").trouble(Trouble::Fail).first_tries(2);
    let failing = FakeProvisioner::run("").trouble(Trouble::Fail);
    let slow = FakeProvisioner::run("").trouble(Trouble::Hang);
    let build = Build::new("a", world.builder().boots())
        .test(flaky.clone().max_retries(2))
        .test(failing.continue_on_error())
        .test(slow.timeout(Duration::from_millis(20)));
    let done = world.run(build).await;
    assert_eq!(flaky.tries(), 3);
    let said = error(&done);
    assert!(
        said.starts_with("test \"fake\" failed: the test did not end within 20ms; the image is"),
        "{said}"
    );
    assert_eq!(report(&done).steps.len(), 3);
    let lines = world.lines();
    assert!(
        lines.iter().any(|l| l == "Test failed with \"try 1 failed\", retrying with 2 trie(s) left"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_cancelled_test_leaves_nothing() {
    let world = World::new();
    let (build, _) = build(world.builder().boots(), FakeProvisioner::run("").trouble(Trouble::Hang));
    let mut run = world.engine().start(Pipeline::of([build])).unwrap();
    let (control, mut events) = (run.control(), run.events());
    let watch = async move {
        while let Some(event) = events.recv().await {
            if matches!(&event.kind, EventKind::StepStarted { name, .. } if name == "test with fake") {
                control.cancel("the test");
            }
        }
    };
    let (done, ()) = tokio::join!(run.report(), watch);
    let done = done.unwrap();
    assert_eq!((done.builds[0].status, done.builds[0].artifacts.len()), (Status::Cancelled, 0));
    assert_eq!(world.builder().world(), [] as [&str; 0]);
    assert!(world.is_clean() && !report(&done).passed && report(&done).kept.is_none());
}

#[tokio::test]
async fn policies_for_failures() {
    let world = World::new();
    let (build, _) = build(world.builder().boots(), FakeProvisioner::run("false"));
    let done = world.engine().on_error(OnError::Abort).run(Pipeline::of([build])).await.unwrap();
    assert_eq!(error(&done), "test \"fake\" failed: \"false\" ended with 1");
    assert_eq!(done.left().map(|left| left.resource.kind.as_str()).collect::<Vec<_>>(), ["machine"]);
    assert_eq!(
        (done.builds[0].artifacts.len(), world.kinds()),
        (1, vec!["image".to_owned(), "machine".to_owned()])
    );
    assert!(world.lines().ends_with(&["aborted: skipping cleanup of step \"StepTest\"".to_owned()]));

    struct Retries;
    #[async_trait]
    impl FailureHandler for Retries {
        async fn on_failure(&self, failure: &Failure<'_>) -> Decision {
            assert_eq!(
                (failure.phase, failure.step, failure.machine.is_some()),
                (Phase::Test, "StepTest", true)
            );
            Decision::Retry
        }
    }
    let world = World::new();
    let builder = world.builder().boots();
    let once =
        FakeProvisioner::run("test ! -e left && echo > left").trouble(Trouble::FailHalfway).first_tries(1);
    let (build, _) = super::boot_test::build(builder.clone(), once);
    let done = world.engine().failure_handler(Retries).run(Pipeline::of([build])).await.unwrap();
    assert_eq!(error(&done), "", "what the first try wrote is not there in the second");
    assert_eq!(builder.calls().iter().filter(|call| *call == "boot").count(), 2);
    assert_eq!((world.kinds(), world.is_clean()), (vec!["image".to_owned()], true));
}

#[tokio::test]
async fn tests_run_each_time_and_are_no_part_of_keys() {
    let world = World::new();
    let folder = TempFolder::new();
    let mut registry = Registry::new();
    registry.builder::<FakeBuilder>("fake-builder");
    let cache = Cache::new(folder.path(), registry);
    for (round, command) in ["", "true", "false"].into_iter().enumerate() {
        let builder = world.builder().boots().source("image-1").captures_checkpoints();
        let test = FakeProvisioner::run(command);
        let (build, _) = build(builder.clone(), test.clone());
        let done = world.engine().cache(cache.clone()).run(Pipeline::of([build])).await.unwrap();
        assert_eq!((error(&done).is_empty(), test.tries()), (command != "false", 1));
        assert_eq!(done.builds[0].cache.as_ref().unwrap().reused(), usize::from(round > 0));
        assert_eq!(builder.calls().contains(&"capture_checkpoint".to_owned()), round > 0);
    }
}
