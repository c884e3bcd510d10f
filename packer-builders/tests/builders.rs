//! The builders and data sources that need no machine.
#![cfg(all(feature = "file", feature = "null", unix))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use packer_builders::data_source::NullData;
use packer_builders::{FileBuilder, Null};
use packer_core::communicator::CommunicatorConfig;
use packer_core::testing::{Bench, FakeProvisioner, Recorder, TempFolder, builder, data_source};
use packer_core::{Build, Builder, Diagnostics, Engine, Host, Pipeline, PrepareContext};

async fn findings(builder: &dyn Builder) -> Vec<String> {
    let summary = |found: Diagnostics| found.iter().map(|d| d.summary.clone()).collect();
    match builder.prepare(&PrepareContext::default()).await {
        Ok(prepared) => summary(prepared.warnings),
        Err(found) => summary(found),
    }
}

/// Builds and gives the error, the artifacts' descriptions and what was said.
async fn build(builder: FileBuilder) -> (Option<String>, Vec<String>, Vec<String>) {
    let recorder = Recorder::new();
    let pipeline = Pipeline::of([Build::new("f", builder)]);
    let report = Engine::new().events(recorder.clone()).run(pipeline).await.unwrap();
    let described = report.artifacts().map(|a| a.description.clone()).collect();
    (report.builds[0].error.as_ref().map(|e| e.to_string()), described, recorder.lines_of("f"))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn file_says_what_is_wrong() {
    assert_eq!(findings(&FileBuilder::content("", "x")).await, ["target required"]);
    let mut both = FileBuilder::content("t", "x");
    both.source = "s".into();
    assert_eq!(findings(&both).await, ["Cannot specify source file AND content"]);
    let blank = "Both source file and contents are blank; target will have no content";
    assert_eq!(findings(&FileBuilder::content("t", "")).await, [blank]);
}

#[tokio::test]
async fn file_writes_texts_and_copies() {
    let folder = TempFolder::new();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let target = path("a/b/f.txt");
    let (error, described, _) = build(FileBuilder::content(&target, "one\ntwo")).await;
    assert_eq!((error, described), (None, vec![format!("Stored file: {target}")]));
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "one\ntwo");
    assert_eq!(mode(Path::new(&target)), 0o600);

    std::fs::set_permissions(&target, PermissionsExt::from_mode(0o640)).unwrap();
    let copy = path("copy");
    std::os::unix::fs::symlink(&target, &copy).unwrap();
    let source = path("source");
    std::fs::write(&source, "12345\n").unwrap();
    let (error, _, lines) = build(FileBuilder::copy(&source, &copy)).await;
    assert_eq!(error, None);
    assert_eq!(lines, [format!("Copying {source} to {copy}"), "Copied 6 bytes".into()]);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "12345\n", "the link stays a link");
    assert_eq!(mode(Path::new(&target)), 0o640, "an existing file keeps its mode");
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["a", "copy", "source"], "nothing half-written is left");
}

#[tokio::test]
async fn file_names_what_cannot_be_opened() {
    let folder = TempFolder::new();
    let target = folder.path().display().to_string();
    let (error, ..) = build(FileBuilder::content(&target, "x")).await;
    assert_eq!(error, Some(format!("open {target}: is a directory")));
    let (error, ..) =
        build(FileBuilder::copy("/no/such", folder.path().join("t").display().to_string())).await;
    assert_eq!(error.as_deref(), Some("open /no/such: no such file or directory"));
    assert!(!folder.path().join("t").exists());
}

#[tokio::test]
async fn null_wants_to_know_whom_to_enter() {
    let note =
        "An ssh_username must be specified\n  Note: some builders used to default ssh_username to \"root\".";
    assert_eq!(
        findings(&Null::default()).await,
        [
            note,
            "a Host must be specified, please reference your communicator documentation",
            "a Username must be specified, please reference your communicator documentation",
            "one authentication method must be specified, please reference your communicator documentation",
        ]
    );
    let mut two = CommunicatorConfig::ssh("me").host("127.0.0.1").password("x");
    two.ssh_agent_auth = true;
    assert_eq!(
        findings(&Null::from(two)).await,
        ["only one of ssh_agent_auth, ssh_password, and ssh_private_key_file must be specified"]
    );
    assert!(findings(&Null::local()).await.is_empty());
}

#[tokio::test]
async fn null_reads_its_communicator_from_the_same_block() {
    let config = serde_json::json!({ "communicator": "none", "ssh_port": 2222 });
    let null: Null = serde_json::from_value(config).unwrap();
    assert_eq!((null.communicator.kind(), null.communicator.ssh_port), ("none", Some(2222)));
}

#[tokio::test]
async fn null_makes_nothing_and_says_so() {
    let pipeline = Pipeline::of([Build::new("a", Null::local()).provision(FakeProvisioner::run("exit 1"))]);
    let report = Engine::new().run(pipeline).await.unwrap();
    let artifact = report.artifacts().next().unwrap();
    assert_eq!(artifact.builder_id, "fnoeding.null");
    assert_eq!(artifact.id, "Null");
    assert_eq!(artifact.description, "Did not export anything. This is the null builder");
    assert_eq!(artifact.generated_data["ID"], "Null");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_keeps_the_rules() {
    let bench = Bench::new();
    let target = bench.folder().join("out/f.txt").display().to_string();
    builder::suite(|| FileBuilder::content(&target, "text"), &Host::new()).await;
    builder::suite(Null::local, &Host::new()).await;
    let value = data_source::suite(&serde_json::from_str::<NullData>(r#"{"input": "hello"}"#).unwrap()).await;
    assert_eq!(value.get("output").and_then(|v| v.as_str()), Some("hello"));
}
