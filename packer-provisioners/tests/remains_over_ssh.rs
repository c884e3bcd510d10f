//! What the provisioner `shell` has put into a machine goes when its step is cancelled or out of time, or is named.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use packer_core::ledger::{FileLedger, Ledger, MemoryLedger};
use packer_core::testing::sshd::Sshd;
use packer_core::testing::{EnteredMachine, Recorder, TempFolder};
use packer_core::{
    Build, Builder, CommunicatorConfig, Context, Diagnostics, Engine, Error, EventKind, Machine, Pipeline,
    PrepareContext, Prepared, ProvisionStep, ProvisionerExt, Registry, Report, Resource, Result, Target,
    async_trait,
};
use packer_provisioners::Shell;

/// Enters a server; with `ours` as if the machine had been made for the build, and were thrown away at its end.
#[derive(Clone)]
struct Enter {
    config: CommunicatorConfig,
    ours: bool,
}

#[async_trait]
impl Builder for Enter {
    async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Ok(Prepared::new())
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        if self.ours {
            cx.record(Resource::new("machine", "m"))?;
        }
        let communicator = self.config.connect(cx, &Target::default()).await?;
        Ok(Box::new(EnteredMachine::new(communicator).facts(self.config.facts(&Target::default()))))
    }

    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
    }
}

/// A server, and a folder in it for scripts.
struct World {
    server: Sshd,
    folder: PathBuf,
    ledger: Arc<MemoryLedger>,
    recorder: Recorder,
}

impl World {
    fn new() -> Option<Self> {
        let server = Sshd::start()?;
        let folder = server.scratch();
        Some(Self { server, folder, ledger: Arc::default(), recorder: Recorder::new() })
    }

    /// A step that says that it runs and then sleeps; its variable file holds a secret.
    fn step(&self) -> Shell {
        let mut step = Shell::inline(["echo it runs", "sleep 60"]).env("PW", "geheim");
        step.use_env_var_file = true;
        step.remote_folder = self.folder.display().to_string();
        step
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn start(&self, step: impl Into<ProvisionStep>, ours: bool) -> packer_core::Run {
        let build = Build::new("b", Enter { config: self.server.config(), ours }).provision(step);
        let engine = Engine::new().ledger(self.ledger.clone()).events(self.recorder.clone());
        engine.start(Pipeline::of([build])).unwrap()
    }

    /// Returns when the script says that it runs for the `nth` time.
    async fn runs(&self, nth: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.recorder.lines().iter().filter(|line| *line == "it runs").count() < nth {
            assert!(Instant::now() < deadline, "{:?}", self.recorder.lines());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(self.files()[0].starts_with("script_") && self.files()[1].starts_with("varfile_"));
        assert_eq!(self.files().len(), 2);
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, work).await.expect("it ends in time")
}

fn left(report: &Report) -> Vec<String> {
    report.left().map(|left| format!("{}: {}", left.resource, left.reason)).collect()
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.provisioner::<Shell>("shell");
    registry.builder::<Nothing>("enter");
    registry
}

/// What recovery finds under the name of `Enter`.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Nothing {}

#[async_trait]
impl Builder for Nothing {
    async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Ok(Prepared::new())
    }

    async fn launch(&self, _: &Context) -> Result<Box<dyn Machine>> {
        Err(Error::user("nothing"))
    }

    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_script_and_its_variables_are_removed() {
    let Some(world) = World::new() else { return };
    let run = world.start(world.step(), false);
    world.runs(1).await;
    run.cancel("interrupt");
    let report = within(Duration::from_secs(8), run.report()).await.unwrap();
    assert!(report.cancelled);
    assert_eq!(world.files(), [""; 0]);
    assert_eq!(left(&report), [""; 0]);
    assert!(world.ledger.outstanding().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_is_out_of_time_is_removed_before_the_next_try() {
    let Some(world) = World::new() else { return };
    let step = world.step().timeout(Duration::from_secs(3)).max_retries(1).continue_on_error();
    let run = world.start(step, false);
    world.runs(1).await;
    // Counts the files of the second try alone.
    world.runs(2).await;
    let report = within(Duration::from_secs(20), run.report()).await.unwrap();
    assert!(report.succeeded());
    assert_eq!((world.files(), left(&report)), (Vec::new(), Vec::new()));
    assert!(world.ledger.outstanding().is_empty());
    let timeouts = |e: &packer_core::Event| matches!(e.kind, EventKind::TimedOut { .. });
    assert_eq!(world.recorder.events().iter().filter(|e| timeouts(e)).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_stay_stays() {
    let Some(world) = World::new() else { return };
    let mut step = world.step();
    step.skip_clean = true;
    let run = world.start(step, false);
    world.runs(1).await;
    run.cancel("interrupt");
    let report = within(Duration::from_secs(8), run.report()).await.unwrap();
    assert_eq!((world.files().len(), left(&report)), (2, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_removed_is_named_unless_it_goes_with_the_machine() {
    for ours in [false, true] {
        let Some(mut world) = World::new() else { return };
        let run = world.start(world.step(), ours);
        world.runs(1).await;
        // From here on nobody gets in.
        world.server.down();
        run.cancel("interrupt");
        let report = within(Duration::from_secs(20), run.report()).await.unwrap();
        let files = world.files();
        assert_eq!(files.len(), 2);
        if ours {
            assert_eq!(left(&report), [""; 0]);
            assert!(world.ledger.outstanding().is_empty());
            continue;
        }
        let named = |file: &String| {
            let path = world.folder.join(file);
            let why = "it is on the machine 127.0.0.1, and has to be removed there";
            format!("remote file {}: {why}", path.display())
        };
        let mut expected: Vec<String> = files.iter().map(named).collect();
        expected.reverse();
        assert_eq!(left(&report), expected);
        let again = Engine::new().recover(world.ledger.clone(), &registry()).await;
        let told: Vec<String> = again.left.iter().map(|l| format!("{}: {}", l.resource, l.reason)).collect();
        let once: Vec<String> = expected.iter().map(|text| format!("{text}; it is not told again")).collect();
        assert_eq!((told, again.released), (once, Vec::new()));
        assert!(world.ledger.outstanding().is_empty(), "it is told once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_names_what_a_killed_run_has_left_unless_it_went_with_the_machine() {
    for ours in [false, true] {
        let Some(world) = World::new() else { return };
        let run = world.start(world.step(), ours);
        world.runs(1).await;
        // What the ledger holds at this moment is what a killed process leaves.
        let folder = TempFolder::new();
        let path = folder.path().join("run.ledger");
        let ledger = FileLedger::open(&path).unwrap();
        for resource in world.ledger.outstanding() {
            ledger.record(&resource).unwrap();
        }
        drop(ledger);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("varfile_") && !text.contains("geheim"), "{text}");
        let (left, registry) = (Arc::new(FileLedger::open(&path).unwrap()), registry());
        let report = Engine::new().recover(left.clone(), &registry).await;
        let remote = |r: &&Resource| r.kind == "remote file";
        match ours {
            true => assert_eq!(report.released.iter().filter(remote).count(), 2),
            false => assert_eq!(report.left.iter().map(|l| &l.resource).filter(remote).count(), 2),
        }
        run.cancel("interrupt");
        within(Duration::from_secs(8), run.report()).await.unwrap();
        assert_eq!(world.files(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_fails_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let mut step = world.step();
    step.inline = vec!["echo it fails".to_owned(), "exit 3".to_owned()];
    let report = within(Duration::from_secs(20), world.start(step, false).report()).await.unwrap();
    let error = report.builds[0].error.as_ref().unwrap().to_string();
    assert_eq!(error, "Script exited with non-zero exit status: 3. Allowed exit codes are: [0]");
    assert_eq!((world.files(), left(&report)), (Vec::new(), Vec::new()));
    assert!(world.ledger.outstanding().is_empty());
}
