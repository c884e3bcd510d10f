//! The behaviour suite of builders whose artifacts can be started anew.

use async_trait::async_trait;

use super::builder::{INSTANTS, Tried, attempt, discard};
use super::{Bench, FakeProvisioner, Trouble};
use crate::artifact::Artifact;
use crate::builder::{Builder, Machine};
use crate::communicator::CommunicatorExt;
use crate::context::{Context, Host};
use crate::engine::{Decision, Engine, Failure, FailureHandler, Phase, Status};
use crate::error::{Error, Result};
use crate::pipeline::Build;
use crate::provisioner::Provisioner;

/// Checks the rules of [`BootTest`](crate::BootTest): a machine that is started from an artifact shows what was provisioned;
/// what it writes is not in the artifact; two can be started at once; what did not pass is kept under another name, and the
/// first name is free; and nothing else is left, at whatever instant a build is cancelled.
///
/// `make` gives the same working builder each time. In its machines files can be written at `path` with endings behind it.
///
/// ```no_run
/// # use packer_core::testing::{FakeBuilder, boot_test};
/// # use packer_core::Host;
/// # async fn test() {
/// boot_test::suite(|| FakeBuilder::new("/tmp/world").boots(), &Host::new(), "marker").await;
/// # }
/// ```
///
/// # Panics
/// Where a rule is broken.
pub async fn suite<B: Builder + 'static>(make: impl Fn() -> B, host: &Host, path: &str) {
    passes(&make, host, path).await;
    throws_away(&make, host, path).await;
    fails(&make, host, path).await;
    is_cancelled(&make, host, path).await;
}

/// Writes a file, when it has seen that one is there and another is not.
#[derive(Clone)]
struct Looks {
    has: Option<String>,
    has_not: String,
    writes: String,
}

impl Looks {
    /// A step that provisions.
    fn first(path: &str) -> Self {
        let made = format!("{path}.made");
        Self { has: None, has_not: made.clone(), writes: made }
    }

    /// A step that tests.
    fn then(path: &str) -> Self {
        let written = format!("{path}.written");
        Self { has: Some(format!("{path}.made")), has_not: written.clone(), writes: written }
    }

    async fn look(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        let inside = machine.communicator();
        if let Some(has) = &self.has {
            inside
                .read(cx, has)
                .await
                .map_err(|e| e.context("what was provisioned is not in the machine"))?;
        }
        if inside.read(cx, &self.has_not).await.is_ok() {
            return Err(Error::guest(format!("{} is in a machine that should not have it", self.has_not)));
        }
        inside.upload_bytes(cx, b"written", &self.writes).await
    }
}

#[async_trait]
impl Provisioner for Looks {
    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        self.look(cx, machine).await
    }
}

fn build<B: Builder + 'static>(builder: B, path: &str) -> Build {
    Build::new("suite", builder).provision(Looks::first(path)).test(Looks::then(path))
}

async fn end<B: Builder + 'static>(make: &impl Fn() -> B, host: &Host, tried: Tried) {
    discard(&make(), &Bench::with_host(host.clone()), tried.owned, &tried.build.artifacts).await;
}

async fn passes<B: Builder + 'static>(make: &impl Fn() -> B, host: &Host, path: &str) {
    assert!(make().boot_test().is_some(), "the builder starts what it has made");
    let tried = attempt(Engine::new().host(host.clone()), build(make(), path), None).await;
    assert_eq!(tried.build.status, Status::Succeeded, "a build whose test passes: {:?}", tried.build.error);
    assert!(tried.build.test.as_ref().is_some_and(|test| test.passed), "the report says that it passed");
    let (one, other) = tokio::join!(
        booted(make, host, path, &tried.build.artifacts[0]),
        booted(make, host, path, &tried.build.artifacts[0])
    );
    assert_eq!((one, other), ((), ()));
    end(make, host, tried).await;
}

/// Starts a machine from an artifact, which has nothing that other machines have written, and throws it away.
async fn booted<B: Builder>(make: &impl Fn() -> B, host: &Host, path: &str, artifact: &Artifact) {
    let (bench, builder) = (Bench::with_host(host.clone()), make());
    let tester = builder.boot_test().expect("the builder starts what it has made");
    let machine = tester.boot(bench.context(), artifact).await.expect("a machine");
    let looked = Looks::then(path).look(bench.context(), machine.as_ref()).await;
    assert!(looked.is_ok(), "a machine that is started from the artifact: {}", looked.unwrap_err());
    drop(machine);
    discard(&builder, &bench, bench.outstanding(), &[]).await;
}

/// Asks for one more try.
struct Once;

#[async_trait]
impl FailureHandler for Once {
    async fn on_failure(&self, failure: &Failure<'_>) -> Decision {
        assert_eq!(failure.phase, Phase::Test, "{}", failure.error);
        if failure.tries == 0 { Decision::Retry } else { Decision::CleanUp }
    }
}

/// What a first try wrote is not there in a second.
async fn throws_away<B: Builder + 'static>(make: &impl Fn() -> B, host: &Host, path: &str) {
    let failing = FakeProvisioner::run("").trouble(Trouble::Fail).first_tries(1);
    let engine = Engine::new().host(host.clone()).failure_handler(Once);
    let tried = attempt(engine, build(make(), path).test(failing), None).await;
    assert_eq!(tried.build.status, Status::Succeeded, "a second try: {:?}", tried.build.error);
    end(make, host, tried).await;
}

async fn fails<B: Builder + 'static>(make: &impl Fn() -> B, host: &Host, path: &str) {
    let failing = || build(make(), path).test(FakeProvisioner::run("").trouble(Trouble::Fail));
    let tried = attempt(Engine::new().host(host.clone()), failing(), None).await;
    assert_eq!(tried.build.status, Status::Failed, "a build whose test fails");
    let kept = tried.build.test.as_ref().and_then(|test| test.kept.clone());
    let error = tried.build.error.as_ref().map(ToString::to_string).unwrap_or_default();
    let kept = kept.unwrap_or_else(|| panic!("what did not pass is kept: {error}"));
    assert!(error.ends_with(&format!("; the image is kept as {kept}")), "{error}");
    assert_eq!(tried.build.artifacts.len(), 1, "what is kept is in the report");
    for file in &tried.build.artifacts[0].files {
        assert!(file.exists(), "the artifact lists {}, which is not there", file.display());
    }
    // The first name is free: a build that passes takes it.
    let passed = attempt(Engine::new().host(host.clone()), build(make(), path), None).await;
    assert_eq!(passed.build.status, Status::Succeeded, "beside what was kept: {:?}", passed.build.error);
    let (one, other) = (&passed.build.artifacts[0], &tried.build.artifacts[0]);
    assert_ne!((&one.id, &one.files), (&other.id, &other.files), "what is kept has another name");
    end(make, host, passed).await;
    for file in &tried.build.artifacts[0].files {
        assert!(file.exists(), "discarding what passed took {}, which did not", file.display());
    }
    end(make, host, tried).await;
}

async fn is_cancelled<B: Builder + 'static>(make: &impl Fn() -> B, host: &Host, path: &str) {
    // What comes before a test is the affair of the suite of builders.
    let untested = Build::new("suite", make()).provision(Looks::first(path));
    let tried = attempt(Engine::new().host(host.clone()), untested, None).await;
    let mut first = tried.instants + 1;
    end(make, host, tried).await;
    for failing in [false, true] {
        for instant in first..first + INSTANTS {
            let mut build = build(make(), path);
            if failing {
                build = build.test(FakeProvisioner::run("").trouble(Trouble::Fail));
            }
            let tried = attempt(Engine::new().host(host.clone()), build, Some(instant)).await;
            let is_over = tried.instants < instant;
            if tried.build.status == Status::Cancelled {
                let is_aside = tried.build.test.as_ref().is_some_and(|test| test.kept.is_some());
                assert!(is_aside || tried.build.artifacts.is_empty(), "what was not tested is not kept");
            }
            end(make, host, tried).await;
            if is_over {
                // The one that fails does the same up to its last test.
                first = instant - 1;
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::context::Host;
    use crate::testing::{FakeBuilder, TempFolder};

    #[tokio::test(flavor = "multi_thread")]
    async fn the_fake_passes() {
        let folder = TempFolder::new();
        let make = || FakeBuilder::new(folder.path()).boots();
        super::suite(make, &Host::new(), "marker").await;
        assert_eq!(make().world(), [] as [&str; 0], "nothing is left in the world");
    }
}
