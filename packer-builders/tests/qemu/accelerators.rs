//! What runs the machine's processor. Whether KVM runs a guest here nobody knows: either way has its rules.

use std::time::{Duration, Instant};

use packer_core::testing::Recorder;
use packer_core::{Build, Engine, Pipeline};

use crate::support::{Guest, Run, build, disk, folder, host, machine, nothing_left, turn};

#[tokio::test(flavor = "multi_thread")]
async fn without_an_accelerator_the_best_that_runs_is_taken() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let (_turn, folder) = (turn().await, folder());
    let builds = [("a", None), ("b", Some("a"))].map(|(name, after)| {
        let mut vm = machine(&disk, folder.path()).accelerator("").shutdown("poweroff");
        vm.output_directory = folder.path().join(name).display().to_string();
        after.into_iter().fold(Build::new(name, vm).provision(Run("true")), Build::after)
    });
    let recorder = Recorder::new();
    let engine = Engine::new().host(host(folder.path())).events(recorder.clone());
    let report = engine.run(Pipeline::of(builds)).await.unwrap();
    let errors: Vec<_> = report.builds.iter().map(|build| &build.error).collect();
    assert!(report.succeeded(), "{errors:?}\n{}", recorder.lines().join("\n"));
    let took: Vec<_> = report.artifacts().map(|artifact| artifact.metadata["domainType"].clone()).collect();
    assert_eq!(took[0], took[1], "both take the same");
    let gave_up = |build: &str| {
        recorder.lines_of(build).iter().any(|line| {
            line.starts_with("A guest does not run with the accelerator kvm here (")
                && line.ends_with("Going on with tcg.")
        })
    };
    let opens = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    assert_eq!(gave_up("a"), opens && took[0] == "tcg", "{:?}", recorder.lines());
    assert!(!gave_up("b"), "what is known is not tried again");
    nothing_left(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accelerator_that_is_asked_for_is_the_only_one() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let (_turn, folder) = (turn().await, folder());
    let began = Instant::now();
    let vm = machine(&disk, folder.path()).accelerator("kvm").shutdown("poweroff");
    let done = build(folder.path(), vm, Some(Run("true"))).await;
    if done.report.succeeded() {
        assert_eq!(done.artifact().metadata["domainType"], "kvm");
        return;
    }
    let error = done.error();
    assert!(error.message().starts_with("the accelerator kvm does not run this machine here: "), "{error}");
    assert!(began.elapsed() < Duration::from_secs(60), "nobody waits for a machine that stands still");
}
