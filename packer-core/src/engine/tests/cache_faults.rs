//! What can go wrong with a cache: no build fails because of it, and none gets a wrong state.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::{Place, ran};
use crate::engine::{Cache, Engine, Prune, Status};
use crate::ledger::{FileLedger, Ledger};
use crate::pipeline::{Build, Pipeline};
use crate::registry::Registry;
use crate::testing::{FakeBuilder, FakeProvisioner, TempFolder, Trouble, Verb};

fn build(place: &Place) -> Build {
    Build::new("a", place.builder()).provision(Place::step("1")).provision(Place::step("2"))
}

fn checkpoints(place: &Place) -> Vec<std::path::PathBuf> {
    let listed = place.cache().list().unwrap();
    listed.iter().map(|c| place.path("world").join(&c.resource.name)).collect()
}

#[tokio::test]
async fn a_state_that_somebody_removed_costs_its_step() {
    let place = Place::new();
    place.run(build(&place)).await;
    std::fs::remove_dir_all(&checkpoints(&place)[0]).unwrap();
    let report = place.as_planned(build(&place)).await;
    let why = "the state saved behind it cannot be used: it is not there any more";
    assert_eq!(ran(&report), [(2, why.to_owned())]);
    assert!(
        place.trouble()[0].starts_with("the state saved behind step 2 (checkpoint "),
        "{:?}",
        place.trouble()
    );
    assert!(ran(&place.as_planned(build(&place)).await).is_empty(), "it is saved again");
    for path in checkpoints(&place) {
        std::fs::remove_dir_all(path).unwrap();
    }
    let report = place.as_planned(build(&place)).await;
    assert_eq!(report.status, Status::Succeeded);
    assert_eq!(ran(&report).len(), 2);
    assert_eq!(checkpoints(&place).len(), 2);
}

#[tokio::test]
async fn a_state_that_cannot_be_started_from_is_released() {
    for trouble in [Trouble::Fail, Trouble::FailHalfway, Trouble::Panic] {
        let place = Place::new();
        place.run(build(&place)).await;
        let builder = place.builder().trouble(Verb::Resume, trouble);
        let build = Build::new("a", builder.clone()).provision(Place::step("1")).provision(Place::step("2"));
        let report = place.run(build).await;
        assert_eq!(report.status, Status::Succeeded, "{:?}", report.error);
        assert_eq!(ran(&report).len(), 2);
        let calls = builder.calls();
        assert_eq!(calls.iter().filter(|c| *c == "resume").count(), 2, "both were tried: {calls:?}");
        assert_eq!(place.kinds(), ["checkpoint", "checkpoint", "image", "image"]);
        assert_eq!(place.trouble().len(), 2);
    }
}

#[tokio::test]
async fn a_damaged_index_is_not_believed() {
    let place = Place::new();
    place.run(build(&place)).await;
    let index = place.path("cache").join("index");
    let text = std::fs::read_to_string(&index).unwrap();
    // A state's name that was changed, torn text, no text, and another key.
    let name = place.cache().list().unwrap()[0].resource.name.clone();
    let (key, torn) = (place.path("cache").join("key"), text.len() / 2);
    let other = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let old_key = std::fs::read_to_string(&key).unwrap();
    for (index_text, key_text) in [
        (text.replace(&name, &format!("{name}x")), &old_key),
        (text[..torn].to_owned(), &old_key),
        ("\0\u{1}{".to_owned(), &old_key),
        (text.clone(), &other),
        (text.clone(), &"short".to_owned()),
    ] {
        std::fs::write(&index, &index_text).unwrap();
        std::fs::write(&key, key_text).unwrap();
        let said = place.trouble().len();
        let report = place.run(build(&place)).await;
        assert_eq!(report.status, Status::Succeeded);
        assert!(!ran(&report).is_empty());
        assert!(place.trouble().len() > said, "it is told");
        assert!(ran(&place.run(build(&place)).await).is_empty(), "and mended");
    }
    // What is not believed is still released.
    let pruned = place.cache().prune(&place.engine(), Prune::Everything).await.unwrap();
    assert!(pruned.left.is_empty(), "{:?}", pruned.left);
    assert!(place.cache().list().unwrap().is_empty());

    std::fs::write(&index, "packer step cache 2\nwhatever\n").unwrap();
    let report = place.run(build(&place)).await;
    assert_eq!(report.status, Status::Succeeded);
    assert!(report.cache.is_none());
    assert!(place.trouble().last().unwrap().contains("another version"), "{:?}", place.trouble());
    assert_eq!(std::fs::read_to_string(&index).unwrap(), "packer step cache 2\nwhatever\n");
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_told_and_no_more() {
    let place = Place::new();
    std::fs::write(place.path("cache"), "a file").unwrap();
    let report = place.run(build(&place)).await;
    assert_eq!(report.status, Status::Succeeded);
    assert!(report.cache.is_none());
    assert!(place.trouble()[0].starts_with("the step cache is not used: mkdir "), "{:?}", place.trouble());
    assert_eq!(place.plan(&build(&place)).await.builds[0].steps[0].reused, None);

    // The index cannot be written: as with a full disk, or a folder that became read-only.
    let place = Place::new();
    place.run(build(&place)).await;
    std::fs::create_dir_all(place.path("cache").join("index.new")).unwrap();
    let changed = Build::new("a", place.builder()).provision(Place::step("x"));
    let report = place.run(changed).await;
    assert_eq!(report.status, Status::Succeeded);
    assert!(
        place.trouble()[0].starts_with("the state behind step 1 could not be saved: write "),
        "{:?}",
        place.trouble()
    );
    assert_eq!(
        place.kinds(),
        ["checkpoint", "checkpoint", "image", "image"],
        "what is not listed is not left"
    );
}

/// A full disk, for real: a file system of one megabyte. Needs a user namespace or root.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_told_and_no_more() {
    let folder = Path::new("/dev/full");
    let place = Place::new();
    place.run(build(&place)).await;
    // `/dev/full` takes no byte: the index is written through a link to it.
    std::os::unix::fs::symlink(folder, place.path("cache").join("index.new")).unwrap();
    let report = place.run(Build::new("a", place.builder()).provision(Place::step("x"))).await;
    assert_eq!(report.status, Status::Succeeded);
    assert!(place.trouble()[0].contains("no space left on device"), "{:?}", place.trouble());
    let kinds = place.kinds();
    assert_eq!(kinds.iter().filter(|k| *k == "checkpoint").count(), 2, "{kinds:?}");
}

#[tokio::test]
async fn a_file_that_changes_while_its_step_runs_is_not_believed() {
    let place = Place::new();
    let script = place.path("setup.sh");
    std::fs::write(&script, "1").unwrap();
    let rewrite = format!("sleep 0.05; echo 2 > {}", script.display());
    let build = Build::new("a", place.builder()).provision(FakeProvisioner::run(rewrite).reads(&script));
    let report = place.run(build).await;
    assert_eq!(report.status, Status::Succeeded);
    assert!(place.cache().list().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_runs_use_one_cache_at_once() {
    let place = Place::new();
    let slow = |place: &Place, last: usize| {
        Build::new("a", place.builder())
            .provision(FakeProvisioner::run("sleep 0.1; echo 1 >> log"))
            .provision(Place::step(&format!("own-{last}")))
            .provision(FakeProvisioner::run("cat log"))
    };
    let runs = (0..6).map(|i| {
        let engine = place.engine().ledger(Arc::new(crate::MemoryLedger::new()));
        let pipeline = Pipeline::of([slow(&place, i)]);
        tokio::spawn(async move { engine.run(pipeline).await.unwrap() })
    });
    for run in runs.collect::<Vec<_>>() {
        let report = run.await.unwrap();
        assert!(report.succeeded(), "{:?}", report.builds[0].error);
    }
    assert!(place.trouble().is_empty(), "{:?}", place.trouble());
    // One state behind the step that all share, and two of each run; those that came too late are gone.
    let listed = place.cache().list().unwrap();
    assert_eq!(listed.len(), 1 + 6 * 2);
    let kinds = place.kinds();
    assert_eq!(kinds.iter().filter(|k| *k == "checkpoint").count(), listed.len());
    for i in 0..6 {
        assert!(ran(&place.as_planned(slow(&place, i)).await).is_empty());
    }
}

#[tokio::test]
async fn nobody_prunes_what_a_run_uses() {
    let place = Place::new();
    place.run(build(&place)).await;
    let long = build(&place).provision(FakeProvisioner::run("").trouble(Trouble::Hang));
    let run = place.engine().start(Pipeline::of([long])).unwrap();
    let began = Instant::now();
    while !place
        .recorder
        .events()
        .iter()
        .any(|e| matches!(e.kind, crate::event::EventKind::StepRebuilt { number: 3, .. }))
    {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let busy = place.cache().prune(&place.engine(), Prune::Everything).await.unwrap_err();
    assert!(busy.is_retryable() && busy.message().ends_with("is in use by a run"), "{busy}");
    run.cancel("the test");
    assert!(run.report().await.unwrap().cancelled);
    assert!(place.ledger.outstanding().is_empty());
    assert_eq!(checkpoints(&place).len(), 2, "cancellation keeps what was saved");
    let pruned = place.cache().prune(&place.engine(), Prune::Everything).await.unwrap();
    assert_eq!(pruned.released.len(), 2);
}

const FOLDER: &str = "PACKER_TEST_CACHE_KILLED_IN";
const POINT: &str = "PACKER_TEST_CACHE_KILLED_AT";

fn killed_engine(folder: &Path) -> (Engine, Cache) {
    let mut registry = Registry::new();
    registry.builder::<FakeBuilder>("fake-builder");
    let cache = Cache::new(folder.join("cache"), registry);
    (Engine::new().cache(cache.clone()), cache)
}

fn killed_build(folder: &Path, point: &str) -> Build {
    let mut builder = FakeBuilder::new(folder.join("world")).source("image-1");
    let mut last = Place::step("2");
    match point {
        "checkpoint" => builder = builder.trouble(Verb::Checkpoint, Trouble::HangHalfway),
        "step" => last = last.trouble(Trouble::HangHalfway),
        "capture" => builder = builder.trouble(Verb::Capture, Trouble::HangHalfway),
        _ => {}
    }
    Build::new("a", builder).provision(Place::step("1")).provision(last)
}

/// The process to kill: hangs at its point for ever.
#[tokio::test]
#[ignore = "run by the test beside it, in a process of its own"]
async fn killed() {
    let (Ok(folder), Ok(point)) = (std::env::var(FOLDER), std::env::var(POINT)) else { return };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder.join("world")).unwrap();
    let ledger = Arc::new(FileLedger::open(folder.join("ledger")).unwrap());
    let engine = killed_engine(folder).0.ledger(ledger);
    let _ = engine.run(Pipeline::of([killed_build(folder, &point)])).await;
}

#[tokio::test]
async fn after_a_kill_and_a_recovery_a_run_goes_on_from_the_last_finished_step() {
    // Where it hangs, what exists then, and how many steps are saved.
    let points: [(&str, &[&str], usize); 3] = [
        ("checkpoint", &["checkpoint", "key", "machine"], 0),
        ("step", &["checkpoint", "key", "machine"], 1),
        ("capture", &["checkpoint", "checkpoint", "image", "key", "machine"], 2),
    ];
    for (point, made, saved) in points {
        let folder = TempFolder::new();
        let world = || -> Vec<String> {
            let names = FakeBuilder::new(folder.path().join("world")).world();
            names.into_iter().map(|n| n.split('-').next().unwrap().to_owned()).collect()
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "engine::tests::cache_faults::killed", "--ignored", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .env(POINT, point)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (engine, cache) = killed_engine(folder.path());
        // A state is the cache's when it is listed and the ledger has let go of it.
        let kept = || {
            let ledger = std::fs::read_to_string(folder.path().join("ledger")).unwrap_or_default();
            ledger.matches("\"kept\"").count()
        };
        let began = Instant::now();
        while world() != made || cache.list().unwrap().len() != saved || kept() != saved {
            assert!(began.elapsed() < Duration::from_secs(60), "{point}: {:?}", world());
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();

        let mut registry = Registry::new();
        registry.builder::<FakeBuilder>("fake-builder");
        // A program that the process was just starting may hold the lock for a moment more.
        let ledger = loop {
            match FileLedger::open(folder.path().join("ledger")) {
                Ok(ledger) => break Arc::new(ledger),
                Err(error) if began.elapsed() < Duration::from_secs(60) && error.is_retryable() => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{error}"),
            }
        };
        let recovery = Engine::new().recover(ledger.clone(), &registry).await;
        assert!(recovery.left.is_empty(), "{point}: {:?}", recovery.left);
        assert_eq!(world(), vec!["checkpoint"; saved], "{point}: only what the cache lists is left");

        let report = engine.run(Pipeline::of([killed_build(folder.path(), "")])).await.unwrap();
        assert!(report.succeeded());
        assert_eq!(report.builds[0].cache.as_ref().unwrap().reused(), saved, "{point}");
    }
}

/// The index says that a state is saved, and the ledger still holds it: the process died between the two.
#[tokio::test]
async fn a_state_that_recovery_released_is_found_to_be_gone() {
    let place = Place::new();
    place.run(build(&place)).await;
    let listed = place.cache().list().unwrap();
    place.ledger.record(&listed[0].resource).unwrap();
    let mut registry = Registry::new();
    registry.builder::<FakeBuilder>("fake-builder");
    let recovery = Engine::new().recover(place.ledger.clone(), &registry).await;
    assert_eq!(recovery.released.len(), 1);
    let report = place.as_planned(build(&place)).await;
    assert_eq!(report.status, Status::Succeeded);
    assert_eq!(report.cache.unwrap().reused(), 1);
}
