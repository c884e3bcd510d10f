//! The step cache on a real Docker engine: states are images, and go as they came.
#![cfg(all(unix, feature = "docker"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use packer_builders::Docker;
use packer_core::engine::{BuildReport, Cache, Prune};
use packer_core::testing::dockerd::{Dockerd, IMAGE};
use packer_core::testing::{FakeProvisioner, Recorder, TempFolder};
use packer_core::{Build, Engine, EventKind, Pipeline, Registry};

struct Place {
    engine: Dockerd,
    folder: TempFolder,
    recorder: Recorder,
}

impl Place {
    fn start() -> Option<Self> {
        let engine = Dockerd::start()?;
        Some(Self { engine, folder: TempFolder::new(), recorder: Recorder::new() })
    }

    fn cache(&self) -> Cache {
        let mut registry = Registry::new();
        packer_builders::register(&mut registry);
        Cache::new(self.folder.path().join("cache"), registry)
    }

    fn packer(&self) -> Engine {
        Engine::new().host(self.engine.host()).cache(self.cache()).events(self.recorder.clone())
    }

    async fn run(&self, steps: &[&str]) -> BuildReport {
        self.run_on(Docker::image(IMAGE).commit(), steps).await
    }

    async fn run_on(&self, mut docker: Docker, steps: &[&str]) -> BuildReport {
        docker.pull = Some(false);
        let mut build = Build::new("a", docker);
        for step in steps {
            build = build.provision(FakeProvisioner::run(*step));
        }
        let mut report = self.packer().run(Pipeline::of([build])).await.unwrap();
        assert!(report.succeeded(), "{:?}", report.builds[0].error);
        assert_eq!(report.left().count(), 0);
        report.builds.remove(0)
    }

    /// What a file of the image says that a build made.
    fn shown(&self, report: &BuildReport) -> String {
        let image = &report.artifacts[0].id;
        self.engine.docker(&["run", "--rm", "--network=none", image, "cat", "/log"])
    }
}

fn reused(report: &BuildReport) -> usize {
    report.cache.as_ref().unwrap().reused()
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_images_that_builds_start_from_and_pruning_removes() {
    let Some(place) = Place::start() else { return };
    let before = place.engine.inventory();
    let steps = ["echo 1 >> /log", "echo 2 >> /log", "echo 3 >> /log"];
    let first = place.run(&steps).await;
    assert_eq!(reused(&first), 0);
    assert_eq!(place.cache().list().unwrap().len(), 3);
    let again = place.run(&steps).await;
    assert_eq!((reused(&again), place.shown(&again)), (3, "1\n2\n3".to_owned()));
    // What the image runs is its own, not what the states ran.
    let command = |report: &BuildReport| {
        let format = "{{json .Config.Cmd}} {{json .Config.Entrypoint}} {{json .Config.Labels}}";
        place.engine.docker(&["inspect", "--format", format, &report.artifacts[0].id])
    };
    assert_eq!(command(&again), command(&first));
    // No container ran for it, and nobody behind it can tell.
    let ran = |report: &BuildReport| report.steps.iter().any(|step| step.name == "StepRun");
    assert_eq!((ran(&first), ran(&again)), (true, false));
    let known = |report: &BuildReport| {
        let mut known = report.artifacts[0].generated_data.clone();
        known.insert("ID".into(), "of the container".into());
        known.insert("ImageSha256".into(), "of the image".into());
        known
    };
    assert_eq!(known(&again), known(&first));
    let changed = place.run(&["echo 1 >> /log", "echo 2 >> /log", "echo x >> /log"]).await;
    assert_eq!((reused(&changed), place.shown(&changed)), (2, "1\n2\nx".to_owned()));

    // Somebody removes a state by hand.
    let gone = place.cache().list().unwrap().into_iter().find(|c| c.number == 3).unwrap();
    place.engine.docker(&["rmi", &gone.resource.name]);
    let rebuilt = place.run(&["echo 1 >> /log", "echo 2 >> /log", "echo x >> /log"]).await;
    assert_eq!((reused(&rebuilt), place.shown(&rebuilt)), (2, "1\n2\nx".to_owned()));
    let told = |kind: &EventKind| matches!(kind, EventKind::CacheTrouble { .. });
    assert_eq!(place.recorder.events().iter().filter(|e| told(&e.kind)).count(), 1);

    let sizes: Vec<_> = place.cache().list().unwrap().iter().map(|c| c.size).collect();
    assert!(sizes.iter().all(Option::is_some), "{sizes:?}");
    let pruned = place.cache().prune(&place.packer(), Prune::Everything).await.unwrap();
    assert!(pruned.left.is_empty(), "{:?}", pruned.left);
    let names = place.engine.docker(&["images", "--format", "{{.Repository}}"]);
    assert!(!names.contains("packer-checkpoint"), "{names}");
    // The images that were made stay, and work.
    assert_eq!(place.shown(&changed), "1\n2\nx");
    for report in [first, again, changed, rebuilt] {
        place.engine.docker(&["rmi", &report.artifacts[0].id]);
    }
    assert_eq!(place.engine.inventory(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_image_says_leaves_the_states_valid() {
    let Some(place) = Place::start() else { return };
    place.run(&["echo 1 >> /log"]).await;
    let other = Docker::image(IMAGE).commit().change("LABEL of=\"the image\"");
    let again = place.run_on(other, &["echo 1 >> /log"]).await;
    assert_eq!((reused(&again), place.shown(&again)), (1, "1".to_owned()));
    let label = ["inspect", "--format", "{{.Config.Labels.of}}", &again.artifacts[0].id];
    assert_eq!(place.engine.docker(&label), "the image");
    // What the steps can see counts.
    let mut other = Docker::image(IMAGE).commit();
    other.tmpfs = vec!["/scratch".into()];
    assert_eq!(reused(&place.run_on(other, &["echo 1 >> /log"]).await), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_that_save_one_state_leave_one() {
    let Some(place) = Place::start() else { return };
    let steps = ["sleep 1; echo 1 >> /log"];
    let (one, other) = tokio::join!(place.run(&steps), place.run(&steps));
    for report in [&one, &other] {
        assert_eq!(place.shown(report), "1");
    }
    assert_eq!(place.cache().list().unwrap().len(), 1);
    let again = place.run(&steps).await;
    assert_eq!((reused(&again), place.shown(&again)), (1, "1".to_owned()));
    let names = place.engine.docker(&["images", "--format", "{{.Repository}}"]);
    assert_eq!(names.lines().filter(|n| *n == "packer-checkpoint").count(), 1, "{names}");
}
