//! The behaviour suite of builders that save and restore states of their machines.

use async_trait::async_trait;

use super::builder::{INSTANTS, Tried, attempt, discard};
use super::{Bench, TempFolder};
use crate::artifact::Artifact;
use crate::builder::{Builder, CheckpointKey, Machine};
use crate::communicator::CommunicatorExt;
use crate::context::{Context, Host};
use crate::engine::{BuildReport, Cache, Engine, Prune, Status};
use crate::error::Result;
use crate::ledger::Resource;
use crate::pipeline::Build;
use crate::provisioner::{Provisioner, StepInputs};
use crate::registry::Registry;
use crate::value::Value;

/// Checks the rules of checkpoints ([`Machine::checkpoint`], [`Builder::resume`], [`Builder::source_digest`]): a state that
/// was saved can be started from, again and again and by several builds at once, whatever becomes of the machines;
/// it goes when it is released, and nothing else does. Then the same through the engine and its [`Cache`].
///
/// `make` gives the same working builder each time, except that its outputs may be others. `registry` makes it too, as a
/// later process would. In its machines a file can be written at `path`.
///
/// ```no_run
/// # use packer_core::testing::{FakeBuilder, checkpoints};
/// # use packer_core::{Host, Registry};
/// # async fn test() {
/// let mut registry = Registry::new();
/// registry.builder::<FakeBuilder>("fake-builder");
/// let make = || FakeBuilder::new("/tmp/world").source("image-1");
/// checkpoints::suite(make, &registry, &Host::new(), "marker").await;
/// # }
/// ```
///
/// # Panics
/// Where a rule is broken.
pub async fn suite<B: Builder + 'static>(make: impl Fn() -> B, registry: &Registry, host: &Host, path: &str) {
    let names = [format!("{path}.1"), format!("{path}.2"), format!("{path}.3")];
    is_known(&make(), host).await;
    let (first, second) = saves(&make, host, &names).await;
    let third = restores(&make, host, &names, &first).await;
    let later = resumed(&make, host, &third).await;
    assert_eq!(later.shown(&names).await, [true, false, true], "a state over another has what both have");
    later.end(make()).await;
    captures_directly(&make, host, &second).await;
    for checkpoint in [third, second, first] {
        goes(&make, host, &checkpoint).await;
    }
    is_cached(&make, registry, host, &names).await;
}

/// What keys are made of has to be there, and to stay.
async fn is_known(builder: &dyn Builder, host: &Host) {
    let bench = Bench::with_host(host.clone());
    let digest = builder.source_digest(bench.context()).await.expect("the digest of the source");
    assert!(digest.is_some(), "without a digest of its source no step of a build is reused");
    let again = builder.source_digest(bench.context()).await.expect("the digest of the source");
    assert_eq!(again, digest, "the same source has the same digest");
    assert!(builder.config().is_some(), "without its configuration no step of a build is reused");
    assert_eq!(bench.outstanding(), [], "asking for a digest leaves nothing behind");
}

/// A machine and the bench it was started on.
struct Up {
    bench: Bench,
    machine: Box<dyn Machine>,
}

impl Up {
    async fn write(&self, name: &str) {
        let communicator = self.machine.communicator();
        communicator.upload_bytes(self.bench.context(), b"written", name).await.expect("an upload");
        self.machine.step_done(self.bench.context(), "suite").await.expect("the end of a step");
    }

    /// Which of the files are in the machine.
    async fn shown(&self, names: &[String; 3]) -> Vec<bool> {
        let mut shown = Vec::new();
        for name in names {
            let read = self.machine.communicator().read(self.bench.context(), name).await;
            shown.push(read.is_ok_and(|content| content == b"written"));
        }
        shown
    }

    async fn checkpoint(&self, key: &str) -> Resource {
        let key = CheckpointKey(format!("{key:0<64}"));
        let saved = self.machine.checkpoint(self.bench.context(), &key).await.expect("a checkpoint");
        let saved = saved.expect("the builder saves states of its machines");
        let held = self.bench.outstanding();
        let held = held.into_iter().find(|r| r.id == saved.id).expect("a checkpoint is in the ledger");
        assert!(!held.is_local(), "a checkpoint is released by its builder");
        // What goes through the index of a cache is data.
        serde_json::from_str(&serde_json::to_string(&held).unwrap()).unwrap()
    }

    async fn capture(&self) -> Artifact {
        self.machine.capture(self.bench.context()).await.expect("an artifact")
    }

    /// Releases everything but checkpoints, with the artifacts that were made.
    async fn end(self, builder: impl Builder) {
        self.end_but(builder, &[], Vec::new()).await;
    }

    async fn end_but(self, builder: impl Builder, keep: &[&Resource], artifacts: Vec<Artifact>) {
        drop(self.machine);
        let held = self.bench.outstanding();
        let held = held.into_iter().filter(|r| keep.iter().all(|kept| kept.id != r.id)).collect();
        discard(&builder, &self.bench, held, &artifacts).await;
    }
}

async fn launched<B: Builder>(make: &impl Fn() -> B, host: &Host) -> Up {
    let bench = Bench::with_host(host.clone());
    let machine = make().launch(bench.context()).await.expect("a machine");
    Up { bench, machine }
}

async fn resumed<B: Builder>(make: &impl Fn() -> B, host: &Host, checkpoint: &Resource) -> Up {
    let bench = Bench::with_host(host.clone());
    let builder = make();
    let there = builder.checkpoint_exists(bench.context(), checkpoint).await;
    assert!(there.is_ok_and(|there| there), "a checkpoint is there until it is released");
    let machine = builder.resume(bench.context(), checkpoint).await.expect("a machine from a checkpoint");
    Up { bench, machine }
}

/// A machine goes on after its state was saved, and what it does then is not in that state.
async fn saves<B: Builder>(make: &impl Fn() -> B, host: &Host, names: &[String; 3]) -> (Resource, Resource) {
    let up = launched(make, host).await;
    up.write(&names[0]).await;
    let first = up.checkpoint("a").await;
    up.write(&names[1]).await;
    assert_eq!(up.shown(names).await, [true, true, false], "a machine goes on as if nothing had happened");
    let second = up.checkpoint("a").await;
    assert_ne!(first.name, second.name, "two states have two names, even under one key");
    let artifact = up.capture().await;
    up.end_but(make(), &[&first, &second], vec![artifact]).await;
    (first, second)
}

/// Two builds start from one state at once, and neither sees the other nor changes the state.
async fn restores<B: Builder>(
    make: &impl Fn() -> B,
    host: &Host,
    names: &[String; 3],
    first: &Resource,
) -> Resource {
    let (one, other) = tokio::join!(resumed(make, host, first), resumed(make, host, first));
    one.write(&names[1]).await;
    other.write(&names[2]).await;
    assert_eq!(one.shown(names).await, [true, true, false], "a machine from a checkpoint is its own");
    assert_eq!(other.shown(names).await, [true, false, true], "a machine from a checkpoint is its own");
    let artifact = one.capture().await;
    one.end_but(make(), &[], vec![artifact]).await;
    let third = other.checkpoint("b").await;
    other.end_but(make(), &[&third], Vec::new()).await;
    let again = resumed(make, host, first).await;
    assert_eq!(again.shown(names).await, [true, false, false], "a checkpoint stays as it is");
    again.end(make()).await;
    third
}

/// Where a state can be captured without a machine, it leaves nothing but the artifact.
async fn captures_directly<B: Builder>(make: &impl Fn() -> B, host: &Host, checkpoint: &Resource) {
    let bench = Bench::with_host(host.clone());
    let builder = make();
    let artifact = builder.capture_checkpoint(bench.context(), checkpoint).await;
    let artifact =
        artifact.expect("a checkpoint is captured without a machine, or the builder says that it cannot");
    discard(&builder, &bench, bench.outstanding(), artifact.as_slice()).await;
}

/// A state that was released is gone, and releasing it again is no error.
async fn goes<B: Builder>(make: &impl Fn() -> B, host: &Host, checkpoint: &Resource) {
    let bench = Bench::with_host(host.clone());
    for _ in 0..2 {
        make().release(bench.context(), checkpoint).await.expect("a released checkpoint");
    }
    // The default believes that all are there, so the answer may be either.
    make().checkpoint_exists(bench.context(), checkpoint).await.expect("whether a checkpoint is there");
    let resumed = make().resume(bench.context(), checkpoint).await;
    assert!(resumed.is_err(), "nothing starts from a checkpoint that is gone");
    discard(&make(), &bench, bench.outstanding(), &[]).await;
}

/// Writes a file; what it depends on is known.
struct Writes(String, &'static str);

#[async_trait]
impl Provisioner for Writes {
    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        machine.communicator().upload_bytes(cx, self.1.as_bytes(), &self.0).await
    }

    fn inputs(&self) -> StepInputs {
        StepInputs::Files(Vec::new())
    }

    fn config(&self) -> Option<Value> {
        Some(Value::object([("path", Value::text(&self.0)), ("content", Value::text(self.1))]))
    }
}

/// Runs two steps with a cache, and discards the artifact; cancels at the instant of this number. Gives what became of it,
/// and how many instants there were.
async fn cached<B: Builder + 'static>(
    cache: &Cache,
    make: &impl Fn() -> B,
    host: &Host,
    steps: [Writes; 2],
    cancel_at: Option<usize>,
) -> (BuildReport, usize) {
    let [first, last] = steps;
    let build = Build::new("suite", make()).provision(first).provision(last);
    let engine = Engine::new().host(host.clone()).cache(cache.clone());
    let Tried { build, mut owned, instants } = attempt(engine, build, cancel_at).await;
    let kept = cache.list().expect("the cache");
    owned.retain(|resource| kept.iter().all(|checkpoint| checkpoint.resource.id != resource.id));
    discard(&make(), &Bench::with_host(host.clone()), owned, &build.artifacts).await;
    (build, instants)
}

async fn is_cached<B: Builder + 'static>(
    make: &impl Fn() -> B,
    registry: &Registry,
    host: &Host,
    names: &[String; 3],
) {
    let folder = TempFolder::new();
    let cache = Cache::new(folder.path(), registry.clone());
    let steps = |last| [Writes(names[0].clone(), "first"), Writes(names[1].clone(), last)];
    let reused = |build: &BuildReport| build.cache.as_ref().map(|cache| cache.reused());
    for (last, expected) in [("second", 0), ("second", 2), ("other", 1)] {
        let (build, _) = cached(&cache, make, host, steps(last), None).await;
        assert_eq!(build.status, Status::Succeeded, "a build with a cache: {:?}", build.error);
        assert_eq!(reused(&build), Some(expected), "steps that are reused: {:?}", build.cache);
    }
    for instant in 1..=INSTANTS {
        let (build, instants) = cached(&cache, make, host, steps("second"), Some(instant)).await;
        if instants < instant {
            assert_eq!(reused(&build), Some(2), "a cancelled build leaves its checkpoints usable");
            break;
        }
    }
    let engine = Engine::new().host(host.clone());
    let pruned = cache.prune(&engine, Prune::Everything).await.expect("a pruned cache");
    assert!(pruned.left.is_empty(), "checkpoints that do not go: {:?}", pruned.left);
}

#[cfg(test)]
mod tests {
    use crate::context::Host;
    use crate::registry::Registry;
    use crate::testing::{FakeBuilder, TempFolder};

    #[tokio::test(flavor = "multi_thread")]
    async fn the_fake_passes() {
        let mut registry = Registry::new();
        registry.builder::<FakeBuilder>("fake-builder");
        for directly in [false, true] {
            let folder = TempFolder::new();
            let make = || {
                let fake = FakeBuilder::new(folder.path()).source("image-1");
                if directly { fake.captures_checkpoints() } else { fake }
            };
            super::suite(make, &registry, &Host::new(), "marker").await;
            assert_eq!(make().world(), [] as [&str; 0], "nothing is left in the world");
        }
    }
}
