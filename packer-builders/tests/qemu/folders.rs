//! The output folder, and who else wants it.

use std::sync::Arc;

use packer_core::testing::Recorder;
use packer_core::{Build, Engine, Ledger, MemoryLedger, Pipeline};

use crate::support::{Guest, Run, closed, disk, file_in, folder, host, machine, nothing_left, turn};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_builds_with_one_folder_one_fails() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let (_turn, folder) = (turn().await, folder());
    // What may be deleted is of an earlier run.
    std::fs::create_dir(folder.path().join("out")).unwrap();
    let builds = ["a", "b"].map(|name| {
        let vm = machine(&disk, folder.path()).shutdown("poweroff");
        Build::new(name, vm).provision(Run("echo mine > /mine"))
    });
    let (recorder, ledger) = (Recorder::new(), Arc::new(MemoryLedger::new()));
    let engine = Engine::new().host(host(folder.path())).events(recorder.clone()).ledger(ledger.clone());
    let report = engine.force(true).run(Pipeline::of(builds)).await.unwrap();
    let failed: Vec<_> = report.builds.iter().filter_map(|build| build.error.as_ref()).collect();
    let [error] = failed.as_slice() else { panic!("{failed:?}\n{}", recorder.lines().join("\n")) };
    assert!(error.message().starts_with("Output directory exists: "), "{error}");
    let artifact = report.artifacts().next().unwrap();
    assert_eq!(file_in(&artifact.files[0], "/mine"), "mine");
    assert!(ledger.outstanding().is_empty());
    nothing_left(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_where_the_folder_goes_stays() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let folder = folder();
    let file = folder.path().join("out");
    std::fs::write(&file, "theirs").unwrap();
    let vm = closed(&disk, folder.path());
    let found =
        Engine::new().host(host(folder.path())).run(Pipeline::of([Build::new("a", vm)])).await.unwrap_err();
    assert!(found.to_string().contains("already exists. It must not exist."), "{found}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "theirs");

    // Nor can it be made below one.
    let vm = closed(&disk, folder.path()).output(file.join("deep").display().to_string());
    let report =
        Engine::new().host(host(folder.path())).run(Pipeline::of([Build::new("a", vm)])).await.unwrap();
    let error = report.builds[0].error.as_ref().unwrap();
    assert!(
        error.message().starts_with("mkdir ") && error.step() == Some("stepPrepareOutputDir"),
        "{error:?}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "theirs");
    nothing_left(folder.path());
}
