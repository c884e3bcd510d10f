use std::time::Duration;

use super::{World, error};
use crate::engine::Status;
use crate::event::EventKind;
use crate::pipeline::ProvisionerExt;
use crate::pipeline::{Build, Pipeline};
use crate::post_processor::Keep;
use crate::testing::{FakePostProcessor, FakeProvisioner, Trouble, Verb};

/// Runs until nothing moves any more, then cancels.
async fn cancelled(world: &World, builds: Vec<Build>, parallel: usize) -> crate::Report {
    let run = world.engine().parallel(parallel).start(Pipeline::of(builds)).unwrap();
    // Under paused time this passes once every task waits.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    run.cancel("interrupt");
    run.cancel("interrupt again");
    tokio::time::timeout(Duration::from_secs(60), run.report()).await.expect("no hang").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_build_is_cancelled_and_cleaned_up_wherever_it_hangs() {
    let world = World::new();
    let hang = |verb| world.builder().trouble(verb, Trouble::HangHalfway);
    let slow = FakeProvisioner::run("").trouble(Trouble::Hang);
    let pp =
        FakePostProcessor::writing(world.folder.path().join("out"), Keep::No).trouble(Trouble::HangHalfway);
    let builds = vec![
        Build::new("launch", hang(Verb::Launch)),
        Build::new("provision", world.builder())
            .provision(slow.clone().max_retries(5).continue_on_error())
            .on_error(FakeProvisioner::run("echo never")),
        Build::new("pause", world.builder()).provision(slow.pause_before(Duration::from_secs(86400))),
        Build::new("capture", hang(Verb::Capture)),
        Build::new("post-process", world.builder()).post_process(pp),
        Build::new("done", world.builder()),
        Build::new("needs it", world.builder()).after("pause"),
    ];
    let report = cancelled(&world, builds, 0).await;
    assert!(report.cancelled);
    for build in &report.builds {
        let expected = if build.name == "done" { Status::Succeeded } else { Status::Cancelled };
        assert_eq!(build.status, expected, "{}", build.name);
        assert!(build.left.is_empty());
    }
    assert!(world.is_clean());
    // The images of `done`, and of `post-process`, whose image was finished.
    assert_eq!(world.kinds(), ["image", "image"]);
    assert_eq!(report.build("post-process").unwrap().artifacts.len(), 1);
    assert_eq!(world.recorder.lines_of("provision"), [] as [&str; 0]);
    let asked =
        |e: &crate::Event| matches!(&e.kind, EventKind::Cancelling { reason } if reason == "interrupt");
    assert_eq!(world.recorder.events().iter().filter(|e| asked(e)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn builds_that_wait_never_start() {
    let world = World::new();
    let hanging = world.builder().trouble(Verb::Launch, Trouble::Hang);
    let second = world.builder();
    let builds = vec![Build::new("a", hanging), Build::new("b", second.clone())];
    let report = cancelled(&world, builds, 1).await;
    assert_eq!(report.builds[1].status, Status::Cancelled);
    assert_eq!(second.calls(), [] as [&str; 0]);
    let skipped = |e: &crate::Event| matches!(&e.kind, EventKind::BuildSkipped { .. });
    assert_eq!(world.recorder.events().iter().filter(|e| skipped(e)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn abandoned_cleanup_ends_and_names_what_is_left() {
    let world = World::new();
    let builder = world.builder().trouble(Verb::Release, Trouble::Hang);
    let build = Build::new("a", builder).provision(FakeProvisioner::run("").trouble(Trouble::Hang));
    // Zero is for ever.
    let engine = world.engine().release_limit(Duration::ZERO);
    let run = engine.start(Pipeline::of([build])).unwrap();
    let control = run.control();
    let work = tokio::spawn(run.report());
    tokio::time::sleep(Duration::from_secs(60)).await;
    control.cancel("interrupt");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!work.is_finished(), "cleanup is not dropped by the first cancellation");
    control.abandon_cleanup();
    let report = work.await.unwrap().unwrap();
    assert_eq!(report.builds[0].status, Status::Cancelled, "{}", error(&report));
    let left: Vec<_> = report.left().map(|l| (l.resource.kind.as_str(), l.reason.as_str())).collect();
    assert_eq!(left, [("machine", "cleanup was abandoned"), ("key", "cleanup was abandoned")]);
    let told = world.recorder.events().into_iter().find_map(|e| match e.kind {
        EventKind::CleanupAbandoned { left } => Some(left.len()),
        _ => None,
    });
    assert_eq!(told, Some(2));
    assert!(!world.is_clean());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_run_cancels_it_and_cleans_up() {
    let world = World::new();
    let build = Build::new("a", world.builder()).provision(FakeProvisioner::run("").trouble(Trouble::Hang));
    let engine = world.engine();
    let work = engine.run(Pipeline::of([build]));
    assert!(tokio::time::timeout(Duration::from_secs(60), work).await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.is_clean());
    assert_eq!(world.kinds(), [] as [&str; 0]);
}

/// A provisioner that owns something, and hangs.
#[derive(Clone, Default)]
struct Owner(std::sync::Arc<std::sync::Mutex<Vec<String>>>, &'static str, bool);

#[async_trait::async_trait]
impl crate::Provisioner for Owner {
    async fn provision(&self, cx: &crate::Context, _: &dyn crate::Machine) -> crate::Result<()> {
        cx.own(crate::Resource::new("proxy", self.1), async { Ok(()) }).await?;
        if self.2 { std::future::pending().await } else { Ok(()) }
    }

    async fn release(&self, _: &crate::Context, resource: &crate::Resource) -> crate::Result<()> {
        self.0.lock().unwrap().push(format!("{} releases {}", self.1, resource.name));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn each_component_releases_its_own_when_it_is_dropped() {
    let (world, log) = (World::new(), std::sync::Arc::default());
    let build = Build::new("a", world.builder())
        .provision(Owner(std::sync::Arc::clone(&log), "one", false))
        .provision(Owner(std::sync::Arc::clone(&log), "two", true));
    let report = cancelled(&world, vec![build], 0).await;
    assert_eq!(report.builds[0].status, Status::Cancelled);
    assert_eq!(*log.lock().unwrap(), ["two releases two", "one releases one"]);
    assert!(world.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_run_can_be_cancelled_while_it_is_prepared() {
    let world = World::new();
    let builds = vec![Build::new("a", world.builder().trouble(Verb::Prepare, Trouble::Hang))];
    let report = cancelled(&world, builds, 0).await;
    assert_eq!(report.builds[0].status, Status::Cancelled);
    assert!(report.cancelled);
}
