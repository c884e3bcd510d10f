use std::time::Duration;

use super::{World, error};
use crate::engine::Status;
use crate::pipeline::Build;
use crate::pipeline::ProvisionerExt;
use crate::testing::{FakeProvisioner, Trouble};

#[tokio::test(start_paused = true)]
async fn each_try_has_its_pause_and_the_whole_of_its_limit() {
    let world = World::new();
    let step = FakeProvisioner::run("").trouble(Trouble::Hang).first_tries(1).takes(Duration::from_secs(4));
    let step = step.pause_before(Duration::from_secs(60)).timeout(Duration::from_secs(5)).max_retries(1);
    let began = tokio::time::Instant::now();
    let report = world.run(Build::new("a", world.builder()).provision(step)).await;
    assert_eq!(report.builds[0].status, Status::Succeeded, "{}", error(&report));
    assert_eq!(began.elapsed().as_secs(), 60 + 5 + 60 + 4);
    assert_eq!(
        world.lines(),
        [
            "Pausing 1m0s before the next provisioner...",
            "Setting a 5s timeout for the next provisioner...",
            "Cancelling provisioner after a timeout...",
            "Provisioner failed with \"the provisioner did not end within 5s\", retrying with 1 trie(s) left",
            "Pausing 1m0s before the next provisioner...",
            "Setting a 5s timeout for the next provisioner...",
        ]
    );
}

#[tokio::test]
async fn the_first_error_is_told_again_and_again() {
    let world = World::new();
    let step = FakeProvisioner::run("").trouble(Trouble::Fail);
    let build = Build::new("a", world.builder()).provision(step.clone().max_retries(2));
    let report = world.run(build).await;
    assert_eq!(step.tries(), 3);
    assert_eq!(error(&report), "try 1 failed");
    assert_eq!(
        world.lines(),
        [
            "Provisioner failed with \"try 1 failed\", retrying with 2 trie(s) left",
            "Provisioner failed with \"try 1 failed\", retrying with 1 trie(s) left",
            "retry limit reached.",
            "Provisioning step had errors: Running the cleanup provisioner, if present...",
        ]
    );
    assert!(world.is_clean());
    assert_eq!(world.kinds(), [] as [&str; 0]);
}

#[tokio::test]
async fn a_pardoned_failure_is_a_warning() {
    let world = World::new();
    let step = FakeProvisioner::run("").trouble(Trouble::Fail).max_retries(1).continue_on_error();
    let next = FakeProvisioner::run("echo next");
    let report = world.run(Build::new("a", world.builder()).provision(step).provision(next)).await;
    assert_eq!(report.builds[0].status, Status::Succeeded);
    assert_eq!(
        world.lines(),
        [
            "Provisioner failed with \"try 1 failed\", retrying with 1 trie(s) left",
            "retry limit reached.",
            "Warning: Provisioner failed with \"try 1 failed\", but continue_on_error is set; continuing the build.",
            "next",
        ]
    );
}

#[tokio::test]
async fn steps_run_where_their_filter_admits_them() {
    let world = World::new();
    let say = |text: &str| FakeProvisioner::run(format!("echo {text}"));
    let report = world
        .run(
            Build::new("a", world.builder())
                .provision(say("only here").only(["fake-builder.a"]))
                .provision(say("only there").only(["fake-builder.b"]))
                .provision(say("not here").except(["fake-builder.a"]))
                .provision(say("not there").except(["a"])),
        )
        .await;
    assert!(report.succeeded());
    assert_eq!(world.lines(), ["only here", "not there"]);
}

#[tokio::test]
async fn a_provisioner_knows_what_the_engine_knows_of_the_machine() {
    use crate::pipeline::{Late, ProvisionStep};
    use crate::provisioner::Provisioner;
    use std::sync::Arc;
    let world = World::new();
    let late = |preview: FakeProvisioner| {
        Late::deferred(Arc::new(preview) as Arc<dyn Provisioner>, |values| {
            let text = |name: &str| values.facts.text(name).unwrap_or_default();
            let command = format!("echo {} {}", text("PackerHTTPAddr"), text("PackerRunUUID"));
            Ok(Arc::new(FakeProvisioner::run(command)) as Arc<dyn Provisioner>)
        })
    };
    let step = || ProvisionStep::with_provisioner("fake", late(FakeProvisioner::run("echo preview")));
    let engine = world.engine().run_id("the-run");
    let builds = [
        Build::new("steps", world.builder()).provision(step()),
        Build::new("flat", world.builder().flat()).provision(step()),
    ];
    assert!(engine.run(crate::Pipeline::of(builds)).await.unwrap().succeeded());
    assert_eq!(world.recorder.lines_of("steps"), ["ERR_HTTP_ADDR_NOT_IMPLEMENTED_BY_BUILDER the-run"]);
    assert_eq!(world.recorder.lines_of("flat"), [""]);
}
