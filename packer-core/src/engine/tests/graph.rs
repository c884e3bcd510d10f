use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::World;
use crate::builder::Machine;
use crate::context::Context;
use crate::engine::Status;
use crate::error::Result;
use crate::event::EventKind;
use crate::pipeline::{Build, Pipeline};
use crate::provisioner::Provisioner;
use crate::testing::{FakeProvisioner, Trouble, Verb};

#[tokio::test]
async fn a_build_is_made_from_the_artifacts_of_others() {
    let world = World::new();
    let folder = world.folder.path().to_owned();
    let preview = world.builder();
    let web = Build::made_from("web", ["base"], preview, move |values| {
        let base = &values.artifacts["base"][0];
        Ok(crate::testing::FakeBuilder::new(folder.join(&base.id).with_extension("from")))
    });
    // Listed before what it needs.
    let report = world.engine().run(Pipeline::of([web, Build::new("base", world.builder())])).await.unwrap();
    let base = report.build("base").unwrap().artifacts[0].id.clone();
    // The folder named after the base image is not there: that the machine could not be made shows what was used.
    let error = report.build("web").unwrap().error.as_ref().unwrap().to_string();
    assert!(error.contains(&format!("{base}.from")), "{error}");
}

#[tokio::test]
async fn what_needs_a_failed_build_is_skipped_with_the_reason() {
    let world = World::new();
    let builds = [
        Build::new("bad", world.builder().trouble(Verb::Launch, Trouble::Fail)),
        Build::new("child", world.builder()).after("bad").after("good"),
        Build::new("grandchild", world.builder()).after("child"),
        Build::new("invalid", world.builder().trouble(Verb::Prepare, Trouble::Fail)),
        Build::new("of invalid", world.builder()).after("invalid"),
        Build::new("good", world.builder()),
        Build::new("of good", world.builder()).after("good"),
    ];
    let report = world.engine().run(Pipeline::of(builds)).await.unwrap();
    let end = |name: &str| {
        let build = report.build(name).unwrap();
        (build.status, build.error.as_ref().map(ToString::to_string).unwrap_or_default())
    };
    assert_eq!(end("bad"), (Status::Failed, "launch failed".into()));
    assert_eq!(end("child"), (Status::Skipped, "it needs the build \"bad\", which failed".into()));
    assert_eq!(
        end("grandchild"),
        (Status::Skipped, "it needs the build \"child\", which was skipped".into())
    );
    assert_eq!(end("invalid").0, Status::Rejected);
    let reason = "it needs the build \"invalid\", which could not be prepared".to_owned();
    assert_eq!(end("of invalid"), (Status::Skipped, reason));
    assert_eq!(end("of good").0, Status::Succeeded);
    let skipped = |e: &crate::Event| matches!(e.kind, EventKind::BuildSkipped { .. });
    assert_eq!(world.recorder.events().iter().filter(|e| skipped(e)).count(), 3);
}

#[tokio::test]
async fn unknown_names_and_circles_are_found_before_anything_runs() {
    let world = World::new();
    let build = |name: &str, needs: &[&str]| {
        needs.iter().fold(Build::new(name, world.builder()), |build, needed| build.after(*needed))
    };
    for (builds, summary, text) in [
        (
            vec![build("base", &[]), build("web", &["bsae"])],
            "Unknown build",
            "The build \"web\" needs the build \"bsae\", which is not part of this run.",
        ),
        (
            vec![build("a", &["b", "d"]), build("b", &["c"]), build("c", &["b"]), build("d", &[])],
            "Builds need each other",
            "None of them can start before the others: \"b\" needs \"c\" needs \"b\".",
        ),
        (
            vec![build("a", &["a"])],
            "Builds need each other",
            "None of them can start before the others: \"a\" needs \"a\".",
        ),
    ] {
        let pipeline = Pipeline::of(builds);
        let findings = world.engine().prepare(&pipeline).await;
        assert_eq!(findings.len(), 1, "{findings}");
        let errors = world.engine().run(pipeline).await.unwrap_err();
        let error = errors.iter().next().unwrap();
        assert_eq!((error.summary.as_str(), error.detail.as_str()), (summary, text));
        if summary == "Unknown build" {
            assert_eq!(error.help.as_deref(), Some("did you mean \"base\"?"));
        }
    }
    assert!(world.recorder.events().is_empty());
}

/// Counts how many run at once.
#[derive(Clone, Default)]
struct Gauge {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

#[async_trait]
impl Provisioner for Gauge {
    async fn provision(&self, _: &Context, _: &dyn Machine) -> Result<()> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_kept_and_builds_start_in_order() {
    for (limit, most, seconds) in [(0, 20, 1), (1, 1, 20), (7, 7, 3)] {
        let (world, gauge) = (World::new(), Gauge::default());
        let names: Vec<String> = (0..20).map(|i| format!("b{i}")).collect();
        let builds = names.iter().map(|n| Build::new(n, world.builder()).provision(gauge.clone()));
        let began = tokio::time::Instant::now();
        let report = world.engine().parallel(limit).run(Pipeline::of(builds)).await.unwrap();
        assert!(report.succeeded());
        assert_eq!(gauge.most.load(Ordering::SeqCst), most);
        assert_eq!(began.elapsed().as_secs(), seconds);
        let started = world.recorder.events().into_iter();
        let started: Vec<_> = started
            .filter(|e| matches!(e.kind, EventKind::BuildStarted { .. }))
            .map(|e| e.build.unwrap().to_string())
            .collect();
        assert_eq!(started, names);
        assert!(report.builds.iter().map(|b| &b.name).eq(&names), "the report has the pipeline's order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_builds_at_once_and_a_chain_of_a_thousand() {
    let world = World::new();
    let many =
        (0..1000).map(|i| Build::new(format!("b{i}"), world.builder()).provision(FakeProvisioner::run("")));
    let began = std::time::Instant::now();
    let report = world.engine().run(Pipeline::of(many)).await.unwrap();
    assert!(report.succeeded());
    assert_eq!(report.builds.len(), 1000);
    assert!(world.is_clean());
    let chain = (0..1000).map(|i| {
        let build = Build::new(format!("c{i}"), world.builder());
        if i == 0 { build } else { build.after(format!("c{}", i - 1)) }
    });
    assert!(world.engine().run(Pipeline::of(chain)).await.unwrap().succeeded());
    // Generous: debug code on a busy machine; anything quadratic takes far longer.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}
