//! A process that is killed leaves a ledger from which another one cleans up. The process is this test program itself,
//! started again to run nothing but [`killed`].

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::ledger::{FileLedger, Ledger};
use crate::pipeline::{Build, Pipeline};
use crate::post_processor::Keep;
use crate::registry::Registry;
use crate::testing::{FakeBuilder, FakePostProcessor, FakeProvisioner, TempFolder, Trouble, Verb};

const FOLDER: &str = "PACKER_TEST_KILLED_IN";
const POINT: &str = "PACKER_TEST_KILLED_AT";

/// Where the process hangs when it is killed, and what it has made by then.
const POINTS: [(&str, &[&str]); 4] = [
    ("launch", &["key"]),
    ("provision", &["key", "machine"]),
    ("capture", &["image", "key", "machine"]),
    ("post-process", &["image", "out.partial"]),
];

/// The process to kill: hangs at its point for ever.
#[tokio::test]
#[ignore = "run by the test beside it, in a process of its own"]
async fn killed() {
    let (Ok(folder), Ok(point)) = (std::env::var(FOLDER), std::env::var(POINT)) else { return };
    let folder = Path::new(&folder);
    let world = folder.join("world");
    std::fs::create_dir_all(&world).unwrap();
    let mut builder = FakeBuilder::new(&world);
    let mut build = |provisioner: Option<FakeProvisioner>| {
        let build = Build::new("a", std::mem::take(&mut builder));
        provisioner.into_iter().fold(build, |build, p| build.provision(p))
    };
    let build = match point.as_str() {
        "launch" => Build::new("a", FakeBuilder::new(&world).trouble(Verb::Launch, Trouble::HangHalfway)),
        "capture" => Build::new("a", FakeBuilder::new(&world).trouble(Verb::Capture, Trouble::HangHalfway)),
        "provision" => build(Some(FakeProvisioner::run("").trouble(Trouble::Hang))),
        "post-process" => build(None).post_process(
            FakePostProcessor::writing(world.join("out"), Keep::No).trouble(Trouble::HangHalfway),
        ),
        other => panic!("unknown point {other}"),
    };
    let ledger = Arc::new(FileLedger::open(folder.join("ledger")).unwrap());
    let _ = Engine::new().ledger(ledger).run(Pipeline::of([build])).await;
}

fn start(folder: &Path, point: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "engine::tests::recovery::killed", "--ignored", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(POINT, point)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_for(world: &Path, expected: &[&str]) {
    let began = Instant::now();
    loop {
        let mut kinds = Vec::new();
        for name in FakeBuilder::new(world).world() {
            kinds.push(name.split('-').next().unwrap().to_owned());
        }
        if kinds == expected {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{kinds:?}, not {expected:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_cleans_up_after_one_that_was_killed() {
    let mut registry = Registry::new();
    registry.builder::<FakeBuilder>("fake-builder");
    for (point, made) in POINTS {
        let folder = TempFolder::new();
        let world = folder.path().join("world");
        let mut child = start(folder.path(), point);
        wait_for(&world, made);
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        wait_for(&world, made);

        let ledger = Arc::new(FileLedger::open(folder.path().join("ledger")).unwrap());
        let report = Engine::new().recover(ledger.clone(), &registry).await;
        assert!(report.left.is_empty(), "{point}: {:?}", report.left);
        wait_for(&world, &[]);
        assert!(ledger.outstanding().is_empty(), "{point}");
        drop(ledger);
        // Nothing is left to do for a third process, and the ledger says so.
        let ledger = Arc::new(FileLedger::open(folder.path().join("ledger")).unwrap());
        assert!(Engine::new().recover(ledger, &registry).await.released.is_empty());
    }
}

#[tokio::test]
async fn what_nobody_knows_stays_in_the_ledger() {
    let folder = TempFolder::new();
    let ledger = Arc::new(crate::MemoryLedger::new());
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let mut unknown = crate::Resource::new("volume", "v");
    unknown.component = "nobody".to_owned();
    for resource in [&unknown, &crate::Resource::file(&file), &crate::Resource::directory("/")] {
        ledger.record(resource).unwrap();
    }
    let report = Engine::new().recover(ledger.clone(), &Registry::new()).await;
    assert_eq!(report.released.len(), 1);
    assert!(!file.exists());
    let reasons: Vec<_> = report.left.iter().map(|l| l.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "directory / is not removed: it names no file of its own",
            "volume v belongs to \"nobody\", which is not registered here"
        ]
    );
    assert_eq!(ledger.outstanding().len(), 2);
}
