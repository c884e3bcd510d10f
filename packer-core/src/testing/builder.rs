//! The behaviour suite of builders.

use std::sync::Arc;
use std::time::Duration;

use super::{FakeProvisioner, Recorder, Trouble};
use crate::artifact::Artifact;
use crate::builder::Builder;
use crate::context::{Host, PrepareContext};
use crate::engine::cleanup::{self, Gone};
use crate::engine::{BuildReport, Engine, OnError, Status};
use crate::event::EventKind;
use crate::facts::BuildInfo;
use crate::ledger::{Ledger, MemoryLedger, Resource};
use crate::pipeline::{Build, Pipeline, ProvisionStep};
use crate::registry::Registry;
use crate::testing::Bench;

/// How long a build of the suite may take.
const LIMIT: Duration = Duration::from_secs(300);

/// How many instants of a build are tried out for cancellation at most.
pub(super) const INSTANTS: usize = 64;

/// Checks every rule of [`Builder`]: the order of calls, that everything is released after success, failure and
/// cancellation at any instant, and that releasing can be repeated.
///
/// `make` gives the same working builder each time, except that its outputs may be others; it is launched some dozens of
/// times. What a build has made is discarded before the next one, also the files and folders that its artifacts list, so
/// that an output that must not exist does not.
/// Builders that save states of their machines have a suite of their own beside it, [`checkpoints`](super::checkpoints).
///
/// # Panics
/// Where a rule is broken.
pub async fn suite<B: Builder + 'static>(make: impl Fn() -> B, host: &Host) {
    prepares(&make(), host).await;
    succeeds(&make, host).await;
    cleans_up_after_a_failed_provisioner(&make, host).await;
    cleans_up_after_cancellation(&make, host).await;
}

/// Checks that a later process can release what a builder left, from the ledger alone, with the builder that
/// `registry` makes.
///
/// # Panics
/// Where something cannot be released.
pub async fn recovers<B: Builder + 'static>(make: impl Fn() -> B, registry: &Registry, host: &Host) {
    let ledger = Arc::new(MemoryLedger::new());
    let engine = Engine::new().host(host.clone()).ledger(ledger.clone()).on_error(OnError::Abort);
    let failing = FakeProvisioner::run("").trouble(Trouble::Fail);
    let pipeline = Pipeline::of([Build::new("suite", make()).provision(ProvisionStep::new(failing))]);
    let report = engine.run(pipeline).await.expect("the builder prepares");
    assert_eq!(report.builds[0].status, Status::Failed);
    let left = ledger.outstanding();
    assert_eq!(report.left().count(), left.len(), "the report names what was left");
    // What goes through a file ledger is data.
    let stored: Vec<Resource> =
        left.iter().map(|r| serde_json::from_str(&serde_json::to_string(r).unwrap()).unwrap()).collect();
    let later = Arc::new(MemoryLedger::new());
    for resource in &stored {
        later.record(resource).unwrap();
    }
    for round in ["the first", "a repeated"] {
        let recovery = Engine::new().host(host.clone()).recover(later.clone(), registry).await;
        assert!(recovery.left.is_empty(), "{round} recovery left {:?}", recovery.left);
        assert!(later.outstanding().is_empty());
        for resource in &stored {
            later.record(resource).unwrap();
        }
    }
}

async fn prepares(builder: &dyn Builder, host: &Host) {
    let cx = PrepareContext::new(Arc::new(BuildInfo::default()), host.clone());
    for _ in 0..2 {
        let prepared = builder.prepare(&cx).await;
        assert!(prepared.is_ok(), "prepare of a working builder: {}", prepared.unwrap_err());
    }
}

/// What became of a build of a suite.
pub(super) struct Tried {
    pub(super) build: BuildReport,
    /// Everything that was in the ledger at any time.
    pub(super) owned: Vec<Resource>,
    /// At how many instants it could have been cancelled.
    pub(super) instants: usize,
}

/// Runs one build; cancels it at the instant of this number, of those at which something is owned or a step begins.
pub(super) async fn attempt(engine: Engine, build: Build, cancel_at: Option<usize>) -> Tried {
    let recorder = Recorder::new();
    let ledger = Arc::new(MemoryLedger::new());
    let engine = engine.ledger(ledger.clone()).events(recorder.clone());
    let mut run = engine.start(Pipeline::of([build])).expect("the pipeline starts");
    let control = run.control();
    let mut events = run.events();
    let watch = async move {
        let mut seen = 0;
        while let Some(event) = events.recv().await {
            if matches!(event.kind, EventKind::ResourceOwned { .. } | EventKind::StepStarted { .. }) {
                seen += 1;
                if Some(seen) == cancel_at {
                    control.cancel("the suite");
                }
            }
        }
        seen
    };
    let work = async { tokio::join!(run.report(), watch) };
    let (report, instants) = tokio::time::timeout(LIMIT, work).await.expect("the build ends in time");
    let build = report.expect("the builder prepares").builds.remove(0);
    assert!(build.left.is_empty(), "left after the build: {:?}", build.left);
    let left = ledger.outstanding();
    let when = cancel_at.map_or_else(String::new, |at| format!(" that was cancelled at instant {at}"));
    assert!(left.is_empty(), "outstanding after a build{when}: {left:?}");
    let owned = recorder.events().into_iter().filter_map(|event| match event.kind {
        EventKind::ResourceOwned { resource } => Some(resource),
        _ => None,
    });
    Tried { build, owned: owned.collect(), instants }
}

/// The same of a builder, with one provisioner.
async fn try_out<B: Builder + 'static>(
    builder: B,
    host: &Host,
    provisioner: FakeProvisioner,
    cancel_at: Option<usize>,
) -> Tried {
    let build = Build::new("suite", builder).provision(ProvisionStep::new(provisioner));
    attempt(Engine::new().host(host.clone()), build, cancel_at).await
}

async fn succeeds<B: Builder + 'static>(make: &impl Fn() -> B, host: &Host) {
    let tried = try_out(make(), host, FakeProvisioner::run(""), None).await;
    assert_eq!(tried.build.status, Status::Succeeded, "a build without trouble: {:?}", tried.build.error);
    for artifact in &tried.build.artifacts {
        for file in artifact.files.iter().filter(|file| !file.as_os_str().is_empty()) {
            assert!(file.exists(), "the artifact lists {}, which is not there", file.display());
        }
    }
    discard(&make(), &Bench::with_host(host.clone()), tried.owned, &tried.build.artifacts).await;
}

/// Discards what a build has made: everything that it owned at any time, and the files and folders that its artifacts list.
/// Releasing what is gone, or never was, is no error.
pub(super) async fn discard(
    builder: &dyn Builder,
    bench: &Bench,
    owned: Vec<Resource>,
    artifacts: &[Artifact],
) {
    for path in artifacts.iter().flat_map(|a| &a.files) {
        let is_folder = path.symlink_metadata().is_ok_and(|found| found.is_dir());
        let removed = if is_folder { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{}: {e}", path.display()),
            _ => {}
        }
    }
    for _ in 0..2 {
        for resource in owned.iter().rev() {
            let released = match resource.is_local() {
                true => cleanup::remove(resource, Gone::IsFine).await,
                false => builder.release(bench.context(), resource).await,
            };
            assert!(released.is_ok(), "releasing {resource} again: {}", released.unwrap_err());
        }
    }
}

async fn cleans_up_after_a_failed_provisioner<B: Builder + 'static>(make: &impl Fn() -> B, host: &Host) {
    let failing = FakeProvisioner::run("").trouble(Trouble::Fail);
    assert_eq!(try_out(make(), host, failing, None).await.build.status, Status::Failed);
}

async fn cleans_up_after_cancellation<B: Builder + 'static>(make: &impl Fn() -> B, host: &Host) {
    for instant in 1..=INSTANTS {
        let tried = try_out(make(), host, FakeProvisioner::run(""), Some(instant)).await;
        if tried.build.status == Status::Succeeded {
            discard(&make(), &Bench::with_host(host.clone()), tried.owned, &tried.build.artifacts).await;
        }
        if tried.instants < instant {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;

    use crate::artifact::Artifact;
    use crate::builder::{Builder, Machine, Prepared};
    use crate::communicator::{Communicator, NoCommunicator};
    use crate::context::{Context, Host, PrepareContext};
    use crate::diagnostic::{Diagnostic, Diagnostics};
    use crate::error::{Error, Result};
    use crate::facts::Facts;
    use crate::ledger::Resource;
    use crate::registry::Registry;
    use crate::testing::{FakeBuilder, TempFolder};

    #[tokio::test(flavor = "multi_thread")]
    async fn the_fake_passes() {
        let folder = TempFolder::new();
        let make = || FakeBuilder::new(folder.path());
        super::suite(make, &Host::new()).await;
        assert_eq!(make().world(), [] as [&str; 0], "nothing is left in the world");
        let mut registry = Registry::new();
        registry.builder::<FakeBuilder>("fake-builder");
        super::recovers(make, &registry, &Host::new()).await;
        assert_eq!(make().world(), [] as [&str; 0], "recovery leaves nothing either");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_output_that_must_not_exist_passes_too() {
        let folder = TempFolder::new();
        let output = folder.path().join("output");
        let make = || FakeBuilder::new(folder.path()).output(&output);
        super::suite(make, &Host::new()).await;
        assert_eq!(make().world(), [] as [&str; 0], "nothing is left in the world");
    }

    /// A builder whose machine is a folder, and whose artifact is another that must not exist.
    struct Copies(std::path::PathBuf);

    #[async_trait]
    impl Builder for Copies {
        async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
            match self.0.exists() {
                true => Err(Diagnostic::error("the output exists").into()),
                false => Ok(Prepared::new()),
            }
        }

        async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
            let machine = cx.temp_dir()?;
            std::fs::write(machine.join("file"), "x").map_err(|e| Error::io("write", &machine, e))?;
            Ok(Box::new(Copied { machine, output: self.0.clone(), facts: Facts::new() }))
        }

        async fn release(&self, _: &Context, resource: &Resource) -> Result<()> {
            Err(Error::internal(format!("{resource} is the engine's")))
        }
    }

    struct Copied {
        machine: std::path::PathBuf,
        output: std::path::PathBuf,
        facts: Facts,
    }

    #[async_trait]
    impl Machine for Copied {
        fn communicator(&self) -> Arc<dyn Communicator> {
            Arc::new(NoCommunicator::new())
        }

        fn facts(&self) -> &Facts {
            &self.facts
        }

        async fn capture(&self, cx: &Context) -> Result<Artifact> {
            let made = Resource::directory(&self.output);
            let copy = async {
                std::fs::create_dir_all(self.output.join("deep"))
                    .and_then(|()| std::fs::copy(self.machine.join("file"), self.output.join("deep/file")))
                    .map_err(|e| Error::io("copy", &self.output, e))
            };
            cx.own(made.clone(), copy).await?;
            Ok(Artifact::new("test", "").file(&self.output).owning(made))
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_artifact_that_lists_a_folder_is_discarded_with_it() {
        let folder = TempFolder::new();
        let output = folder.path().join("output");
        super::suite(|| Copies(output.clone()), &Host::new()).await;
        assert!(!output.exists());
    }
}
