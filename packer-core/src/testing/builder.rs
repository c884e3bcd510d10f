//! The behaviour suite of builders.

use std::sync::Arc;
use std::time::Duration;

use super::{FakeProvisioner, Recorder, Trouble};
use crate::artifact::Artifact;
use crate::builder::Builder;
use crate::context::{Host, PrepareContext};
use crate::engine::cleanup::{self, Gone};
use crate::engine::{Engine, OnError, Status};
use crate::event::EventKind;
use crate::facts::BuildInfo;
use crate::ledger::{Ledger, MemoryLedger, Resource};
use crate::pipeline::{Build, Pipeline, ProvisionStep};
use crate::registry::Registry;
use crate::testing::Bench;

/// How long a build of the suite may take.
pub(super) const LIMIT: Duration = Duration::from_secs(300);

/// How many instants of a build are tried out for cancellation at most.
const INSTANTS: usize = 64;

/// Checks every rule of [`Builder`]: the order of calls, that everything is released after success, failure and
/// cancellation at any instant, and that releasing can be repeated.
///
/// `make` gives the same working builder each time, except that its outputs may be others; it is launched some dozens of
/// times. What a build has made is discarded before the next one, so that an output that must not exist does not.
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

struct Tried {
    status: Status,
    error: Option<String>,
    artifacts: Vec<Artifact>,
    ledger: Arc<MemoryLedger>,
    /// Everything that was in the ledger at any time.
    owned: Vec<Resource>,
    events: usize,
}

/// Runs one build; cancels it at the event of this number.
async fn attempt<B: Builder + 'static>(
    builder: B,
    host: &Host,
    provisioner: FakeProvisioner,
    cancel_at: Option<usize>,
) -> Tried {
    let (ledger, recorder) = (Arc::new(MemoryLedger::new()), Recorder::new());
    let engine = Engine::new().host(host.clone()).ledger(ledger.clone()).events(recorder.clone());
    let build = Build::new("suite", builder).provision(ProvisionStep::new(provisioner));
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
    let (report, events) = tokio::time::timeout(LIMIT, work).await.expect("the build ends in time");
    let report = report.expect("the builder prepares");
    let owned = |event: crate::event::Event| match event.kind {
        EventKind::ResourceOwned { resource } => Some(resource),
        _ => None,
    };
    let build = report.builds.into_iter().next().expect("a report of the build");
    assert!(build.left.is_empty(), "left after the build: {:?}", build.left);
    Tried {
        status: build.status,
        error: build.error.as_ref().map(ToString::to_string),
        artifacts: build.artifacts,
        ledger,
        owned: recorder.events().into_iter().filter_map(owned).collect(),
        events,
    }
}

async fn succeeds<B: Builder + 'static>(make: &impl Fn() -> B, host: &Host) {
    let tried = attempt(make(), host, FakeProvisioner::run(""), None).await;
    assert_eq!(tried.status, Status::Succeeded, "a build without trouble: {:?}", tried.error);
    assert!(tried.ledger.outstanding().is_empty(), "outstanding after success");
    for artifact in &tried.artifacts {
        for file in artifact.files.iter().filter(|file| !file.as_os_str().is_empty()) {
            assert!(file.exists(), "the artifact lists {}, which is not there", file.display());
        }
    }
    discard(&make(), &Bench::with_host(host.clone()), tried.owned, &tried.artifacts).await;
}

/// Discards what a build has made: everything that it owned at any time, and the files of its artifacts. Releasing what is
/// gone, or never was, is no error.
pub(super) async fn discard(
    builder: &dyn Builder,
    bench: &Bench,
    owned: Vec<Resource>,
    artifacts: &[Artifact],
) {
    for file in artifacts.iter().flat_map(|a| &a.files) {
        match std::fs::remove_file(file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{}: {e}", file.display()),
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
    let tried = attempt(make(), host, failing, None).await;
    assert_eq!(tried.status, Status::Failed);
    assert!(tried.ledger.outstanding().is_empty(), "outstanding after a failure");
}

async fn cleans_up_after_cancellation<B: Builder + 'static>(make: &impl Fn() -> B, host: &Host) {
    for instant in 1..=INSTANTS {
        let tried = attempt(make(), host, FakeProvisioner::run(""), Some(instant)).await;
        let left = tried.ledger.outstanding();
        assert!(left.is_empty(), "outstanding after a cancellation at instant {instant}: {left:?}");
        if tried.status == Status::Succeeded {
            discard(&make(), &Bench::with_host(host.clone()), tried.owned, &tried.artifacts).await;
        }
        if tried.events < instant {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::context::Host;
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
}
