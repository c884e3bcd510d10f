//! What is left of a build whose process is killed, and who removes it. The process is this test program itself, started again
//! to run nothing but [`killed`].

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use packer_core::engine::LedgerState;
use packer_core::{Build, Engine, FileLedger, Pipeline, Registry};
use rustix::process::Signal;

use crate::support::{
    Guest, QEMU, disk, folder, host, machine, nothing_left, processes, running, send, turn, until,
};

const FOLDER: &str = "PACKER_TEST_KILLED_IN";

/// The process to kill.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests beside it, in a process of its own"]
async fn killed() {
    let Ok(folder) = std::env::var(FOLDER).map(PathBuf::from) else { return };
    let Some(disk) = disk(Guest::Deaf) else { return };
    let mut vm = machine(&disk, &folder);
    vm.vtpm = true;
    let ledger = Arc::new(FileLedger::open(folder.join("ledger")).unwrap());
    let engine = Engine::new().host(host(&folder)).ledger(ledger);
    let _ = engine.run(Pipeline::of([Build::new("a", vm)])).await;
}

/// Starts a build, and kills its process when its machine runs.
async fn kill_a_build(folder: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "recovery::killed", "--ignored", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    running(folder).await;
    let socket = folder.join("out/box.monitor");
    until("the machine runs", || socket.exists().then_some(())).await;
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    assert_eq!(processes(QEMU, folder).len(), 1, "it outlives a process that is killed");
}

async fn recover(folder: &Path) {
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    let report = Engine::new().host(host(folder)).recovery(&registry).file(&folder.join("ledger")).await;
    assert_eq!((report.state, report.report.left.len()), (LedgerState::Finished, 0), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_ends_the_machine_and_removes_its_files() {
    if disk(Guest::Deaf).is_none() {
        return;
    }
    let (_turn, folder) = (turn().await, folder());
    kill_a_build(folder.path()).await;
    recover(folder.path()).await;
    assert!(!folder.path().join("out").exists());
    nothing_left(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_leaves_a_folder_that_somebody_has_made_since() {
    if disk(Guest::Deaf).is_none() {
        return;
    }
    let (_turn, folder) = (turn().await, folder());
    kill_a_build(folder.path()).await;
    for number in processes("", folder.path()) {
        send(Signal::KILL, number);
    }
    let out = folder.path().join("out");
    std::fs::remove_dir_all(&out).unwrap();
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("box"), "theirs").unwrap();
    recover(folder.path()).await;
    assert_eq!(std::fs::read_to_string(out.join("box")).unwrap(), "theirs");
    nothing_left(folder.path());
}
