//! Dockerfiles that only BuildKit can build, on a real engine.
#![cfg(all(unix, feature = "docker-buildkit"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::time::{Duration, Instant};

use packer_builders::{Docker, DockerBuild};
use packer_core::testing::dockerd::{Dockerd, IMAGE};
use packer_core::testing::{FakeProvisioner, Recorder};
use packer_core::{Build, Engine, Pipeline, Report};

fn from(engine: &Dockerd, text: &str) -> Docker {
    let context = engine.path().join("context");
    std::fs::create_dir_all(&context).unwrap();
    std::fs::write(context.join("here"), "from here\n").unwrap();
    std::fs::write(context.join("Dockerfile"), text).unwrap();
    let mut block = DockerBuild::from(context.join("Dockerfile").display().to_string());
    block.build_dir = context.display().to_string();
    block.pull = Some(false);
    Docker::build(block)
}

async fn run(engine: &Dockerd, docker: Docker) -> (Report, Recorder) {
    let recorder = Recorder::new();
    let build =
        Build::new("a", docker).provision(FakeProvisioner::run("cat /made /here && stat -c %a /here"));
    let runner = Engine::new().host(engine.host()).events(recorder.clone());
    let report = runner.run(Pipeline::of([build])).await.unwrap();
    assert_eq!(report.left().count(), 0);
    (report, recorder)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_builder_does_not_know() {
    let Some(engine) = Dockerd::start() else { return };
    let before = engine.inventory();
    let text = format!(
        "FROM {IMAGE}\nARG TARGETARCH\nCOPY --chmod=600 here /here\n\
         RUN --mount=type=cache,target=/cache echo \"made with $TARGETARCH\" > /made\n"
    );
    let (report, recorder) = run(&engine, from(&engine, &text).discard()).await;
    assert!(report.succeeded(), "{:?}\n{}", report.builds[0].error, recorder.lines().join("\n"));
    let lines = recorder.lines();
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert!(lines.contains(&format!("made with {arch}")) && lines.contains(&"from here".into()), "{lines:?}");
    assert!(lines.contains(&"600".into()), "{lines:?}");
    assert_eq!(engine.inventory(), before);

    // What goes wrong is told with what the step printed.
    let text = format!("FROM {IMAGE}\nRUN --mount=type=tmpfs,target=/x echo the reason; exit 3\n");
    let (report, recorder) = run(&engine, from(&engine, &text).discard()).await;
    let error = report.builds[0].error.as_ref().unwrap();
    assert!(
        error.message().starts_with("docker build failed: ") && error.message().contains("exit code: 3"),
        "{error}"
    );
    assert!(recorder.lines().iter().any(|line| line == "the reason"), "{:?}", recorder.lines());
    assert_eq!(engine.inventory(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_build_ends_in_the_engine() {
    let Some(engine) = Dockerd::start() else { return };
    let before = engine.inventory();
    let text = format!("FROM {IMAGE}\nRUN --mount=type=tmpfs,target=/x touch /began; sleep 98765\n");
    let build = Build::new("a", from(&engine, &text).discard());
    let runner = Engine::new().host(engine.host());
    let handle = runner.start(Pipeline::of([build])).unwrap();
    let sleeping = || {
        let ps = std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap();
        String::from_utf8_lossy(&ps.stdout).lines().any(|line| line.starts_with("sleep 98765"))
    };
    let until = |wanted: bool| {
        let deadline = Instant::now() + Duration::from_secs(30);
        async move {
            while sleeping() != wanted {
                assert!(Instant::now() < deadline, "sleeping: {}", !wanted);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    until(true).await;
    handle.cancel("the test has seen enough");
    let report = handle.report().await.unwrap();
    assert!(report.builds[0].error.as_ref().unwrap().is_cancelled(), "{:?}", report.builds[0].error);
    assert_eq!(report.left().count(), 0);
    until(false).await;
    assert_eq!(engine.inventory(), before);
}
