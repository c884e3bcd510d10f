//! Images that are started anew before anything is made of them.

use packer_builders::Qemu;
use packer_core::{Build, Engine};

use crate::support::{Done, Guest, Run, build_by, disk, file_in, folder, host, machine, turn};

/// Builds with a file and a test; what it is about, and the folder.
async fn tested(change: impl Fn(&mut Qemu), test: &'static str) -> Option<(Done, tempfile::TempDir)> {
    let disk = disk(Guest::Deaf)?;
    let (_turn, folder) = (turn().await, folder());
    let mut vm = machine(&disk, folder.path()).shutdown("poweroff");
    change(&mut vm);
    let build = Build::new("a", vm).provision(Run("echo made > /made")).test(Run(test));
    let done = build_by(Engine::new().host(host(folder.path())), folder.path(), build).await;
    Some((done, folder))
}

const WRITES: &str = "grep made /made && echo tested > /tested && sync";

async fn passes(change: impl Fn(&mut Qemu)) {
    let Some((done, _folder)) = tested(change, WRITES).await else { return };
    let image = &done.artifact().files[0];
    assert_eq!(file_in(image, "/made"), "made");
    assert_eq!(file_in(image, "/tested"), "", "what a test writes is thrown away");
    let test = done.report.builds[0].test.as_ref().unwrap();
    assert!(test.passed && test.error.is_none() && test.steps.len() == 1, "{test:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_sees_the_image_and_leaves_it_alone() {
    passes(|_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_of_a_raw_image() {
    passes(|vm| vm.format = "raw".to_owned()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_fails_is_kept_aside() {
    let Some((done, folder)) = tested(|_| {}, "cat /missing").await else { return };
    let error = done.error();
    let kept = folder.path().join("out.failed-test/box");
    assert!(error.message().starts_with("test \"run\" failed: "), "{error}");
    assert!(error.message().contains(&format!("is kept as {}", kept.display())), "{error}");
    assert!(!folder.path().join("out").exists());
    assert_eq!(file_in(&kept, "/made"), "made");
    let build = &done.report.builds[0];
    assert_eq!(build.artifacts[0].files.as_slice(), std::slice::from_ref(&kept));
    let test = build.test.as_ref().unwrap();
    assert!(!test.passed && test.kept.as_deref() == kept.to_str(), "{test:?}");
}
