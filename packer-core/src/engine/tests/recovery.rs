//! A process that is killed leaves a ledger from which another one cleans up. The process is this test program itself,
//! started again to run nothing but [`killed`].

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::builder::{Builder, Machine, Prepared};
use crate::config;
use crate::context::{Context, PrepareContext};
use crate::diagnostic::Diagnostics;
use crate::engine::{Engine, LedgerState};
use crate::error::{Error, Result};
use crate::kit::process::Program;
use crate::ledger::{FileLedger, Ledger, LedgerFolder, MemoryLedger, Resource};
use crate::pipeline::{Build, Pipeline};
use crate::post_processor::Keep;
use crate::provisioner::Provisioner;
use crate::registry::Registry;
use crate::secrets::Secret;
use crate::testing::{FakeBuilder, FakePostProcessor, FakeProvisioner, TempFolder, Trouble, Verb};

const FOLDER: &str = "PACKER_TEST_KILLED_IN";
const POINT: &str = "PACKER_TEST_KILLED_AT";

/// Where the process hangs when it is killed, what it has made by then, and what of that stays: an artifact that is
/// complete does, as it does when a later step fails or is cancelled.
const POINTS: [(&str, &[&str], &[&str]); 4] = [
    ("launch", &["key"], &[]),
    ("provision", &["key", "machine"], &[]),
    ("capture", &["image", "key", "machine"], &[]),
    ("post-process", &["image", "out.partial"], &["image"]),
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
        "script" => build(None).provision(Children(folder.to_owned())),
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
    for (point, made, stays) in POINTS {
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
        wait_for(&world, stays);
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

/// Starts local programs that never end: one like any other, one without the environment it was given, and one in a
/// session of its own.
struct Children(std::path::PathBuf);

const CHILDREN: [&str; 4] = ["leader", "child", "bare", "escaped"];

#[async_trait]
impl Provisioner for Children {
    async fn provision(&self, cx: &Context, _: &dyn Machine) -> Result<()> {
        let sleeper =
            |name: &str| format!("/bin/sh -c 'echo $$ > {name}.new; mv {name}.new {name}; exec sleep 1000'");
        let [leader, child, bare, escaped] = CHILDREN.map(sleeper);
        let script = format!("{child} & env -i {bare} & setsid {escaped} & exec {leader}");
        Program::new("/bin/sh").args(["-c".to_owned(), script]).current_dir(&self.0).show(cx).await.map(drop)
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn local_programs_of_a_killed_process_end_with_its_recovery() {
    let folder = TempFolder::new();
    let mut child = start(folder.path(), "script");
    let began = Instant::now();
    while !CHILDREN.iter().all(|name| folder.path().join(name).exists()) {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    let runs = || -> Vec<&str> {
        let runs = |name: &&&str| {
            let pid = std::fs::read_to_string(folder.path().join(**name)).unwrap();
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
        };
        CHILDREN.iter().filter(runs).copied().collect()
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(runs(), CHILDREN, "they outlive a process that is killed");
    let mut registry = Registry::new();
    registry.builder::<FakeBuilder>("fake-builder");
    let report = Engine::new().recovery(&registry).file(&folder.path().join("ledger")).await;
    assert_eq!((report.state, report.report.left.len()), (LedgerState::Finished, 0), "{report:?}");
    assert_eq!(runs(), [""; 0]);
    assert!(!folder.path().join("ledger").exists());
}

/// A builder some of whose resources cannot be released in a lifetime.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
struct Slow {}

#[async_trait]
impl Builder for Slow {
    async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Ok(Prepared::new())
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        for kind in ["first", "endless", "last"] {
            cx.record(Resource::new(kind, "x"))?;
        }
        Err(Error::provider("no machine"))
    }

    async fn release(&self, _: &Context, resource: &Resource) -> Result<()> {
        if resource.kind == "endless" { std::future::pending().await } else { Ok(()) }
    }
}

fn slow_ledger() -> Arc<MemoryLedger> {
    let ledger = Arc::new(MemoryLedger::new());
    for kind in ["first", "endless", "last"] {
        let mut resource = Resource::new(kind, "x");
        resource.component = "slow".to_owned();
        ledger.record(&resource).unwrap();
    }
    ledger
}

#[tokio::test]
async fn a_release_that_hangs_is_left_and_the_next_goes_on() {
    let limit = Duration::from_millis(1500);
    let engine = Engine::new().release_limit(limit);
    let report = engine.run(Pipeline::of([Build::new("a", Slow {})])).await.unwrap();
    let told: Vec<_> = report.left().map(|l| (l.resource.kind.as_str(), l.reason.as_str())).collect();
    assert_eq!(told, [("endless", "its release did not end within 1.5s")]);

    let mut registry = Registry::new();
    registry.builder::<Slow>("slow");
    let ledger = slow_ledger();
    let report = engine.recover(ledger.clone(), &registry).await;
    let released: Vec<_> = report.released.iter().map(|r| r.kind.as_str()).collect();
    assert_eq!(released, ["last", "first"]);
    let left: Vec<_> = report.left.iter().map(|l| (l.resource.kind.as_str(), l.reason.as_str())).collect();
    assert_eq!(left, told);
    assert_eq!((ledger.outstanding().len(), report.cancelled), (1, false));
}

#[tokio::test]
async fn a_recovery_can_be_cancelled() {
    let mut registry = Registry::new();
    registry.builder::<Slow>("slow");
    let ledger = slow_ledger();
    let recovery = Engine::new().recovery(&registry);
    let control = recovery.control();
    let ends = async {
        while ledger.outstanding().len() == 3 {
            tokio::task::yield_now().await;
        }
        control.cancel();
    };
    let (report, ()) = tokio::join!(recovery.ledger(ledger.clone()), ends);
    let left: Vec<_> = report.left.iter().map(|l| (l.resource.kind.as_str(), l.reason.as_str())).collect();
    let reason = "the recovery was cancelled";
    assert_eq!(left, [("endless", reason), ("first", reason)]);
    assert!(report.cancelled && report.released.len() == 1 && ledger.outstanding().len() == 2);
}

#[tokio::test]
async fn the_ledgers_of_a_folder_are_worked_through_but_for_those_in_use() {
    let folder = TempFolder::new();
    let ledgers = LedgerFolder::at(folder.path().join("ledger"));
    let file = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, "x").unwrap();
        Resource::file(path)
    };
    let (dead, living, damaged) =
        (ledgers.create().unwrap(), ledgers.create().unwrap(), ledgers.create().unwrap());
    let resources = ["dead", "living", "lost", "kept", "damaged"].map(file);
    dead.record(&resources[0]).unwrap();
    living.record(&resources[1]).unwrap();
    resources[2..].iter().for_each(|resource| damaged.record(resource).unwrap());
    damaged.kept(resources[3].id).unwrap();
    let (dead, damaged) = {
        let paths = (dead.path().to_owned(), damaged.path().to_owned());
        drop((dead, damaged));
        paths
    };
    // One line is lost altogether, another one still says which resource it is about.
    let text = std::fs::read_to_string(&damaged).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[0] = "#".to_owned();
    lines[3] = lines[3].replace("\"kept\"", "kept");
    std::fs::write(&damaged, lines.join("\n") + "\n").unwrap();
    std::fs::write(ledgers.path().join("notes.jsonl"), "").unwrap();

    let report = Engine::new().recover_all(&ledgers, &Registry::new()).await.unwrap();
    let state = |path: &Path| report.ledgers.iter().find(|l| l.path == path).unwrap();
    assert_eq!(report.ledgers.len(), 3);
    assert_eq!((state(&dead).state, dead.exists()), (LedgerState::Finished, false));
    assert_eq!(state(living.path()).state, LedgerState::InUse);
    let damaged_report = state(&damaged);
    assert_eq!((damaged_report.state, damaged_report.faults.len()), (LedgerState::Unfinished, 2));
    let left: Vec<_> = damaged_report.report.left.iter().map(|l| &l.resource.name).collect();
    assert_eq!(left, [&resources[3].name], "it may be an artifact by now");
    assert!(damaged.exists() && ledgers.path().join("notes.jsonl").exists() && !report.all_gone());
    let there: Vec<_> = resources.iter().map(|r| Path::new(&r.name).exists()).collect();
    assert_eq!(there, [false, true, true, true, false]);
}

#[tokio::test]
async fn a_run_has_a_ledger_of_its_own_in_the_folder() {
    let folder = TempFolder::new();
    let ledgers = LedgerFolder::at(folder.path().join("ledger"));
    let engine = Engine::new().ledger_folder(ledgers.clone());
    let build = || Build::new("a", FakeBuilder::new(folder.path().join("world")));
    std::fs::create_dir(folder.path().join("world")).unwrap();
    assert!(engine.run(Pipeline::of([build()])).await.unwrap().succeeded());
    assert!(ledgers.files().unwrap().is_empty());
    let fails = Build::new("a", Slow {});
    let report =
        engine.clone().release_limit(Duration::from_millis(20)).run(Pipeline::of([fails])).await.unwrap();
    assert_eq!((report.left().count(), ledgers.files().unwrap().len()), (1, 1));
    std::fs::write(folder.path().join("file"), "").unwrap();
    let nowhere = Engine::new().ledger_folder(LedgerFolder::at(folder.path().join("file/x")));
    assert!(
        nowhere.run(Pipeline::of([build()])).await.is_err(),
        "nothing begins that could not be recovered"
    );
}

#[tokio::test]
async fn what_never_came_to_be_is_not_left() {
    let folder = TempFolder::new();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let ledger = Arc::new(MemoryLedger::new());
    for path in ["x".repeat(300), "file/x".to_owned(), "no/such".to_owned()] {
        ledger.record(&Resource::file(folder.path().join(&path))).unwrap();
        ledger.record(&Resource::directory(folder.path().join(&path))).unwrap();
    }
    let report = Engine::new().recover(ledger, &Registry::new()).await;
    assert!(report.left.is_empty() && report.released.len() == 6, "{:?}", report.left);
}

/// A builder that needs its arguments for a release.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
struct Needy {
    region: String,
    password: Secret,
    #[serde(default)]
    size: u32,
    /// Whether the builder says how it is configured.
    #[serde(default)]
    silent: bool,
}

#[async_trait]
impl Builder for Needy {
    async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Ok(Prepared::new())
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        let config = match self.size {
            1 => serde_json::json!({ "region": "r", "password": "p" }),
            _ => serde_json::Value::Null,
        };
        cx.record(Resource::new("disk", "d").with_config(config))?;
        Err(Error::provider("recorded"))
    }

    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        std::future::pending().await
    }

    fn config(&self) -> Option<crate::Value> {
        (!self.silent).then(|| config::to_value(self))?
    }
}

/// The same without a secret.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
struct Open {
    region: String,
    #[serde(default)]
    notes: String,
}

#[async_trait]
impl Builder for Open {
    async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Ok(Prepared::new())
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        cx.secrets().add("hunter22");
        cx.record(Resource::new("disk", "d"))?;
        Err(Error::provider("recorded"))
    }

    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        std::future::pending().await
    }

    fn config(&self) -> Option<crate::Value> {
        config::to_value(self)
    }
}

#[tokio::test]
async fn what_a_later_process_could_not_release_is_refused_before_it_exists() {
    let mut registry = Registry::new();
    registry.builder::<Needy>("needy").builder::<Open>("open");
    let engine = Engine::new().registry(registry.clone()).release_limit(Duration::from_millis(1));
    let needy = |size, silent| {
        let builder = Needy { region: "r".into(), password: Secret::new("hunter22"), size, silent };
        Build::new("a", builder)
    };
    let open = |region: &str| Build::new("a", Open { region: region.into(), notes: "hunter22".into() });
    let error = async |build: Build| {
        let report = engine.run(Pipeline::of([build])).await.unwrap();
        let left = report.left().map(|l| l.resource.config.clone()).collect::<Vec<_>>();
        (report.builds[0].error.as_ref().unwrap().to_string(), left)
    };
    let refused = "disk d could not be released by a later process: ";
    let (message, left) = error(needy(0, false)).await;
    assert_eq!(
        (message, left.len()),
        (format!("{refused}\"password\", which \"needy\" requires, is secret"), 0)
    );
    let (message, _) = error(needy(0, true)).await;
    assert!(message.starts_with(refused) && message.contains("does not say its configuration"), "{message}");
    let (message, left) = error(needy(1, true)).await;
    assert_eq!((message.as_str(), left.len()), ("recorded", 1), "the resource says it itself");
    // Only what is required is written down.
    let (message, left) = error(open("eu")).await;
    assert_eq!((message.as_str(), left), ("recorded", vec![serde_json::json!({ "region": "eu" })]));
    let (message, _) = error(open("hunter22")).await;
    assert!(message.ends_with("which \"open\" requires, is secret"), "{message}");
    let (message, _) = error(Build::new("a", Slow {})).await;
    assert!(message.ends_with("belongs to \"slow\", which is not registered here"), "{message}");
    // Without a registry nobody knows what later processes have.
    let report =
        Engine::new().release_limit(Duration::from_millis(1)).run(Pipeline::of([needy(0, true)])).await;
    assert_eq!(report.unwrap().builds[0].error.as_ref().unwrap().to_string(), "recorded");
}
