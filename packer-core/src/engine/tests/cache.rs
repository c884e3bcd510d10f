//! What is reused, what is rebuilt and why.

use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::{BuildReport, Cache, Engine, Plan, Prune, Reason, Status};
use crate::event::EventKind;
use crate::ledger::{Ledger, MemoryLedger};
use crate::pipeline::ProvisionerExt;
use crate::pipeline::{Build, Late, Pipeline, ProvisionStep};
use crate::provisioner::{Provisioner, StepInputs};
use crate::registry::Registry;
use crate::testing::{FakeBuilder, FakeProvisioner, Recorder, TempFolder, Trouble, Verb};

/// A world, a cache beside it, and what the last run told.
pub(super) struct Place {
    pub(super) folder: TempFolder,
    pub(super) recorder: Recorder,
    pub(super) ledger: Arc<MemoryLedger>,
}

impl Place {
    pub(super) fn new() -> Self {
        let folder = TempFolder::new();
        std::fs::create_dir(folder.path().join("world")).unwrap();
        Self { folder, recorder: Recorder::new(), ledger: Arc::default() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn builder(&self) -> FakeBuilder {
        FakeBuilder::new(self.path("world")).source("image-1")
    }

    pub(super) fn cache(&self) -> Cache {
        let mut registry = Registry::new();
        registry.builder::<FakeBuilder>("fake-builder");
        Cache::new(self.path("cache"), registry)
    }

    pub(super) fn engine(&self) -> Engine {
        let mut host = crate::Host::new();
        host.temp_dir = self.folder.path().to_owned();
        Engine::new().host(host).ledger(self.ledger.clone()).events(self.recorder.clone()).cache(self.cache())
    }

    /// A step that writes its number; nobody may see what it does not.
    pub(super) fn step(text: &str) -> FakeProvisioner {
        FakeProvisioner::run(format!("echo {text} >> log"))
    }

    pub(super) async fn run(&self, build: Build) -> BuildReport {
        self.run_with(&self.engine(), build).await
    }

    pub(super) async fn run_with(&self, engine: &Engine, build: Build) -> BuildReport {
        let report = engine.run(Pipeline::of([build])).await.unwrap();
        assert!(self.ledger.outstanding().is_empty(), "{:?}", self.ledger.outstanding());
        report.builds.into_iter().next().unwrap()
    }

    pub(super) fn plan(&self, build: &Build) -> impl Future<Output = Plan> {
        let (engine, pipeline) = (self.engine(), Pipeline::of([build.clone()]));
        async move { engine.plan(&pipeline).await.unwrap() }
    }

    /// Runs what a plan was made of, and checks that it came so.
    pub(super) async fn as_planned(&self, build: Build) -> BuildReport {
        let plan = self.plan(&build).await;
        let report = self.run(build).await;
        let used = report.cache.as_ref().unwrap();
        let planned: Vec<_> = plan.builds[0].steps.iter().map(|s| (s.reused, s.reasons.clone())).collect();
        let done: Vec<_> = used.steps.iter().map(|s| (Some(s.reused), s.reasons.clone())).collect();
        assert_eq!(planned, done);
        report
    }

    /// What exists, without the numbers in the names.
    pub(super) fn kinds(&self) -> Vec<String> {
        let names = FakeBuilder::new(self.path("world")).world();
        names.into_iter().map(|n| n.split('-').next().unwrap_or_default().to_owned()).collect()
    }

    pub(super) fn trouble(&self) -> Vec<String> {
        let text = |kind| match kind {
            EventKind::CacheTrouble { error } => Some(error.message),
            _ => None,
        };
        self.recorder.events().into_iter().filter_map(|e| text(e.kind)).collect()
    }
}

/// Which steps ran, and why.
pub(super) fn ran(report: &BuildReport) -> Vec<(usize, String)> {
    let used = report.cache.as_ref().unwrap();
    let why = |reasons: &[Reason]| reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join("; ");
    used.steps.iter().filter(|s| !s.reused).map(|s| (s.number, why(&s.reasons))).collect()
}

fn expect(report: &BuildReport, steps: &[(usize, &str)]) {
    assert_eq!(report.status, Status::Succeeded, "{:?}", report.error);
    let found = ran(report);
    let found: Vec<_> = found.iter().map(|(n, why)| (*n, why.as_str())).collect();
    assert_eq!(found, steps);
}

const NEW: &str = "it runs for the first time";
const BEFORE: &str = "a step before it runs again";

/// Three steps; the last one shows what all have done.
fn three(place: &Place, texts: [&str; 3]) -> Build {
    let mut build = Build::new("a", place.builder());
    for text in texts {
        build = build.provision(Place::step(text));
    }
    build.provision(FakeProvisioner::run("cat log > shown; cat log"))
}

#[tokio::test]
async fn a_second_run_reuses_everything_and_goes_straight_to_capture() {
    let place = Place::new();
    let first = place.as_planned(three(&place, ["1", "2", "3"])).await;
    expect(&first, &[(1, NEW), (2, NEW), (3, NEW), (4, NEW)]);
    assert!(first.cache.unwrap().steps.iter().all(|s| s.saved));
    assert_eq!(place.kinds(), ["checkpoint", "checkpoint", "checkpoint", "checkpoint", "image"]);
    let build = three(&place, ["1", "2", "3"]);
    let builder = place.builder();
    let mut again = build.clone();
    again.builder = Late::ready(Arc::new(builder.clone()) as Arc<dyn crate::Builder>);
    expect(&place.as_planned(again).await, &[]);
    assert_eq!(builder.calls(), ["resume", "capture", "release machine"]);
    assert_eq!(place.cache().list().unwrap().len(), 4);
    assert_eq!(place.recorder.lines().iter().filter(|l| *l == "1").count(), 1, "the steps ran once");
}

#[tokio::test]
async fn a_state_with_all_steps_is_captured_without_a_machine_where_the_builder_can() {
    let place = Place::new();
    place.run(three(&place, ["1", "2", "3"])).await;
    let run = async |builder: &FakeBuilder, texts, debug| {
        let mut build = three(&place, texts);
        build.builder = Late::ready(Arc::new(builder.clone()) as Arc<dyn crate::Builder>);
        let out = place.path("out");
        build = build.post_process(crate::testing::FakePostProcessor::writing(out, crate::Keep::No));
        place.run_with(&place.engine().debug(debug), build).await
    };
    let direct = place.builder().captures_checkpoints();
    let report = run(&direct, ["1", "2", "3"], false).await;
    expect(&report, &[]);
    assert_eq!(direct.calls(), ["capture_checkpoint", "release image"]);
    assert_eq!(report.artifacts[0].files, [place.path("out")], "post-processors have run");

    // A step that has to run needs a machine, and so does whoever wants to look into it.
    for (texts, debug, calls) in [(["1", "2", "x"], false, "resume"), (["1", "2", "3"], true, "resume")] {
        let direct = place.builder().captures_checkpoints();
        let report = run(&direct, texts, debug).await;
        assert_eq!(report.status, Status::Succeeded, "{:?}", report.error);
        assert_eq!(direct.calls().first().map(String::as_str), Some(calls));
    }
}

/// Fails where an image that is finished is still in the ledger: it would go with a process that is killed now.
struct Looks(Arc<MemoryLedger>);

#[async_trait::async_trait]
impl crate::PostProcessor for Looks {
    async fn post_process(
        &self,
        _: &crate::Context,
        artifact: crate::Artifact,
    ) -> crate::Result<crate::Processed> {
        match self.0.outstanding().iter().find(|resource| resource.kind == "image") {
            Some(image) => Err(crate::Error::internal(format!("{image} is in the ledger"))),
            None => Ok(crate::Processed::needing_input(artifact)),
        }
    }
}

#[tokio::test]
async fn an_artifact_of_a_state_is_complete_as_one_of_a_machine_is() {
    let place = Place::new();
    place.run(three(&place, ["1", "2", "3"])).await;
    for builder in [place.builder(), place.builder().captures_checkpoints()] {
        let mut build = three(&place, ["1", "2", "3"]);
        build.builder = Late::ready(Arc::new(builder.clone()) as Arc<dyn crate::Builder>);
        let report = place.run(build.post_process(Looks(place.ledger.clone()))).await;
        assert_eq!(report.status, Status::Succeeded, "{:?}", report.error);
    }
}

#[tokio::test]
async fn a_state_that_cannot_be_captured_directly_is_started() {
    for trouble in [Trouble::Fail, Trouble::FailHalfway, Trouble::Panic] {
        let place = Place::new();
        place.run(three(&place, ["1", "2", "3"])).await;
        // The capture of the machine fails too: the error is its own.
        let direct = place.builder().captures_checkpoints().trouble(Verb::Capture, trouble);
        let mut build = three(&place, ["1", "2", "3"]);
        build.builder = Late::ready(Arc::new(direct.clone()) as Arc<dyn crate::Builder>);
        let report = place.run(build).await;
        assert_eq!(report.status, Status::Failed);
        assert_eq!(direct.calls()[0], "capture_checkpoint");
        assert!(direct.calls().contains(&"resume".to_owned()), "{:?}", direct.calls());
        let told = place.trouble();
        assert!(told.len() == 1 && told[0].contains("cannot be captured without a machine"), "{told:?}");
        assert_eq!(place.cache().list().unwrap().len(), 4, "the states stay");
    }
}

#[tokio::test]
async fn only_what_a_change_touches_runs_again() {
    for (texts, changed) in [(["1", "2", "x"], 3), (["1", "x", "3"], 2), (["x", "2", "3"], 1)] {
        let place = Place::new();
        place.run(three(&place, ["1", "2", "3"])).await;
        let before = place.recorder.lines().len();
        let report = place.as_planned(three(&place, texts)).await;
        let why = format!(
            "configuration field command changed from \"echo {changed} >> log\" to \"echo x >> log\""
        );
        let mut expected = vec![(changed, why.as_str())];
        expected.extend((changed + 1..=4).map(|n| (n, BEFORE)));
        expect(&report, &expected);
        assert_eq!(place.recorder.lines()[before..], texts, "the machine is as if all had run");
    }
}

#[tokio::test]
async fn files_count_by_their_content() {
    let place = Place::new();
    let (script, folder) = (place.path("setup.sh"), place.path("conf"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&script, "1").unwrap();
    std::fs::write(folder.join("a"), "1").unwrap();
    let build = || {
        Build::new("a", place.builder())
            .provision(Place::step("1").reads(&script))
            .provision(Place::step("2").reads(&folder))
    };
    place.run(build()).await;
    // Written again with the same content.
    std::fs::write(&script, "1").unwrap();
    expect(&place.as_planned(build()).await, &[]);
    std::fs::write(folder.join("a"), "2").unwrap();
    std::fs::write(folder.join("b"), "").unwrap();
    let (a, b) = (folder.join("a"), folder.join("b"));
    let why = format!("file {} changed; file {} is new", a.display(), b.display());
    expect(&place.as_planned(build()).await, &[(2, &why)]);
    std::fs::write(&script, "2").unwrap();
    let why = format!("file {} changed", script.display());
    expect(&place.as_planned(build()).await, &[(1, &why), (2, BEFORE)]);
}

#[tokio::test]
async fn a_secret_counts_and_is_not_told() {
    let place = Place::new();
    let build =
        |secret: &str| Build::new("a", place.builder()).provision(Place::step("1").secret("TOKEN", secret));
    let run = async |secret: &str| {
        let pipeline = Pipeline::of([build(secret)]);
        pipeline.secrets.add(secret);
        place.engine().run(pipeline).await.unwrap().builds.remove(0)
    };
    run("correct horse").await;
    let plan = place.plan(&build("battery staple")).await;
    let report = run("battery staple").await;
    let why = "configuration field env.TOKEN changed (it shows as \"<sensitive>\" before and after)";
    expect(&report, &[(1, why)]);
    expect(&run("battery staple").await, &[]);
    let mut all = vec![
        serde_json::to_string(&plan).unwrap(),
        plan.to_string(),
        serde_json::to_string(&report).unwrap(),
        serde_json::to_string(&place.recorder.events()).unwrap(),
    ];
    for entry in std::fs::read_dir(place.path("cache")).unwrap() {
        all.push(std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    assert!(all.iter().all(|text| !text.contains("horse") && !text.contains("staple")));
}

#[tokio::test]
async fn source_and_builder_count() {
    let place = Place::new();
    let build = |source: &str| {
        let builder = FakeBuilder::new(place.path("world")).source(source);
        Build::new("a", builder).provision(Place::step("1"))
    };
    place.run(build("image-1")).await;
    let why = "source image changed from image-1 to image-2";
    expect(&place.as_planned(build("image-2")).await, &[(1, why)]);
    // Both are there now.
    expect(&place.as_planned(build("image-1")).await, &[]);
    let elsewhere = place.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let moved = Build::new("a", FakeBuilder::new(&elsewhere).source("image-1")).provision(Place::step("1"));
    let why = format!(
        "configuration field folder of the builder changed from {:?} to {:?}",
        place.path("world"),
        elsewhere
    );
    expect(&place.as_planned(moved).await, &[(1, &why)]);
    let unknown = Build::new("b", FakeBuilder::new(place.path("world"))).provision(Place::step("1"));
    for _ in 0..2 {
        let why = "the builder \"fake-builder\" cannot say what it starts from";
        expect(&place.as_planned(unknown.clone()).await, &[(1, why)]);
    }
}

#[tokio::test]
async fn a_volatile_step_ends_the_chain() {
    let place = Place::new();
    let build = |middle: ProvisionStep| {
        Build::new("a", place.builder())
            .provision(Place::step("1"))
            .provision(middle)
            .provision(Place::step("3"))
    };
    let volatile = "what its outcome depends on cannot be known";
    place.run(build(Place::step("2").volatile().into())).await;
    let report = place.as_planned(build(Place::step("2").volatile().into())).await;
    expect(&report, &[(2, volatile), (3, BEFORE)]);
    let saved: Vec<bool> = report.cache.unwrap().steps.iter().map(|s| s.saved).collect();
    assert_eq!(saved, [true, false, false]);
    // Whoever writes the step knows better, both ways.
    let declared = || ProvisionStep::new(Place::step("2").volatile()).inputs(StepInputs::Files(Vec::new()));
    expect(
        &place.as_planned(build(declared())).await,
        &[(2, "no state of the machine is saved behind it"), (3, BEFORE)],
    );
    expect(&place.as_planned(build(declared())).await, &[]);
    let marked = ProvisionStep::new(Place::step("2")).inputs(StepInputs::Volatile);
    expect(&place.as_planned(build(marked)).await, &[(2, "it is marked volatile"), (3, BEFORE)]);
}

#[tokio::test]
async fn values_of_the_running_machine_end_the_chain() {
    let place = Place::new();
    let step = |reads: Option<&[&str]>| {
        let make = |id: &str| Arc::new(Place::step(id)) as Arc<dyn Provisioner>;
        let late = Late::deferred(make("preview"), move |values| {
            Ok(make(&values.facts.text("ID").unwrap_or_default()))
        });
        let late = match reads {
            Some(names) => late.reading(names.iter().copied()),
            None => late,
        };
        ProvisionStep::with_provisioner("fake", late)
    };
    let build =
        |step: ProvisionStep| Build::new("a", place.builder()).provision(Place::step("1")).provision(step);
    for (reads, why) in [
        (Some(&["build.ID"] as &[&str]), "it needs build.ID, known only when it runs"),
        (None, "it is made only when it runs"),
    ] {
        place.run(build(step(reads))).await;
        expect(&place.as_planned(build(step(reads))).await, &[(2, why)]);
    }
    let rendered = || build(FakeProvisioner::run("echo {{build `ID`}}").into());
    place.run(rendered()).await;
    let why = "it needs {{build `ID`}}, known only when it runs";
    expect(&place.as_planned(rendered()).await, &[(2, why)]);
    // Made late of nothing of the run: a step like any other.
    let fixed = || {
        let made = || Arc::new(Place::step("2")) as Arc<dyn Provisioner>;
        ProvisionStep::with_provisioner("fake", Late::deferred(made(), move |_| Ok(made())).reading([""; 0]))
    };
    place.run(build(fixed())).await;
    expect(&place.as_planned(build(fixed())).await, &[]);
}

#[tokio::test]
async fn a_failed_run_is_resumed_where_it_failed() {
    let place = Place::new();
    let build = |trouble: Option<Trouble>| {
        let mut second = Place::step("2");
        if let Some(trouble) = trouble {
            second = second.trouble(trouble);
        }
        Build::new("a", place.builder())
            .provision(Place::step("1"))
            .provision(second)
            .provision(Place::step("3"))
    };
    let report = place.as_planned(build(Some(Trouble::FailHalfway))).await;
    assert_eq!(report.status, Status::Failed);
    assert_eq!(place.kinds(), ["checkpoint"], "what failed is not saved");
    let report = place.as_planned(build(None)).await;
    expect(&report, &[(2, "it did not succeed last time"), (3, "it was not reached last time")]);
    expect(&place.as_planned(build(None)).await, &[]);
}

#[tokio::test]
async fn pardoned_failures_are_not_saved_and_retries_are() {
    let place = Place::new();
    let pardoned = || {
        let failing = Place::step("1").trouble(Trouble::Fail).continue_on_error();
        Build::new("a", place.builder()).provision(failing).provision(Place::step("2"))
    };
    place.run(pardoned()).await;
    assert_eq!(place.kinds(), ["image"]);
    let report = place.as_planned(pardoned()).await;
    expect(&report, &[(1, "it did not succeed last time"), (2, BEFORE)]);
    let retried = || {
        let failing = Place::step("1").trouble(Trouble::Fail).first_tries(1).max_retries(1);
        Build::new("b", place.builder()).provision(failing)
    };
    place.run(retried()).await;
    expect(&place.as_planned(retried()).await, &[]);
}

#[tokio::test]
async fn what_a_person_decides_after_a_failure_is_not_saved() {
    use crate::engine::{Decision, Failure, FailureHandler};
    struct Skip;
    #[async_trait::async_trait]
    impl FailureHandler for Skip {
        async fn on_failure(&self, _: &Failure<'_>) -> Decision {
            Decision::SkipProvisioner
        }
    }
    let place = Place::new();
    let build = Build::new("a", place.builder())
        .provision(Place::step("1"))
        .provision(Place::step("2").trouble(Trouble::Fail))
        .provision(Place::step("3"));
    let report = place.run_with(&place.engine().failure_handler(Skip), build).await;
    assert_eq!(report.status, Status::Succeeded);
    assert_eq!(place.kinds(), ["checkpoint", "image"]);
}

#[tokio::test]
async fn pauses_limits_and_names_do_not_count_and_a_retry_starts_behind_the_saved_state() {
    let place = Place::new();
    place.run(three(&place, ["1", "2", "3"])).await;
    let build = Build::new("a", place.builder())
        .provision(Place::step("1").named("first").max_retries(3))
        .provision(Place::step("2").timeout(std::time::Duration::from_secs(60)))
        .provision(Place::step("y").trouble(Trouble::Fail).first_tries(1));
    struct Again;
    #[async_trait::async_trait]
    impl crate::engine::FailureHandler for Again {
        async fn on_failure(&self, _: &crate::engine::Failure<'_>) -> crate::engine::Decision {
            crate::engine::Decision::Retry
        }
    }
    let build = build.provision(FakeProvisioner::run("cat log"));
    let before = place.recorder.lines().len();
    let report = place.run_with(&place.engine().failure_handler(Again), build).await;
    assert_eq!(report.cache.as_ref().unwrap().reused(), 2);
    assert_eq!(
        place.recorder.lines()[before..].iter().filter(|l| l.len() == 1).collect::<Vec<_>>(),
        ["1", "2", "y"]
    );
}

#[tokio::test]
async fn events_and_lines_say_what_the_cache_did_and_nothing_without_one() {
    let place = Place::new();
    place.run(three(&place, ["1", "2", "3"])).await;
    let lines = |engine: Engine, build: Build| async move {
        #[derive(Clone, Default)]
        struct Shared(Arc<std::sync::Mutex<Vec<u8>>>);
        impl std::io::Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let out = Shared::default();
        let engine = engine.events(crate::event::PackerLines::new(out.clone()));
        engine.run(Pipeline::of([build])).await.unwrap();
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    };
    let text = lines(place.engine(), three(&place, ["1", "x", "3"])).await;
    let expected = "==> a: Step 1 of 4 (fake) is taken from the cache.\n\
        ==> a: Step 2 of 4 (fake) runs: configuration field command changed from \"echo 2 >> log\" to \
        \"echo x >> log\".\n\
        ==> a: Step 3 of 4 (fake) runs: a step before it runs again.\n";
    assert!(text.starts_with(expected), "{text}");
    let mut quiet = place.engine();
    quiet.cache = None;
    let text = lines(quiet, three(&place, ["1", "x", "3"])).await;
    assert!(text.starts_with("==> a: 1\n==> a: x\n==> a: 3\nBuild 'a' finished"), "{text}");
}

#[tokio::test]
async fn too_many_states_are_pruned_the_one_not_used_for_longest_first() {
    let place = Place::new();
    let build = |name: &str| Build::new(name, place.builder()).provision(Place::step(name));
    let small = place.engine().cache(place.cache().keep_at_most(2));
    let listed = || {
        let mut builds: Vec<_> = place.cache().list().unwrap().into_iter().map(|c| c.build).collect();
        builds.sort();
        builds
    };
    for name in ["a", "b"] {
        place.run_with(&small, build(name)).await;
    }
    // It is used, so that the other goes.
    place.run_with(&small, build("a")).await;
    place.run_with(&small, build("c")).await;
    assert_eq!(listed(), ["a", "c"]);
    assert_eq!(place.kinds().iter().filter(|k| *k == "checkpoint").count(), 2);
    let pruned = place.recorder.events().into_iter().find_map(|e| match e.kind {
        EventKind::CachePruned { released } => Some(released),
        _ => None,
    });
    assert_eq!(pruned.unwrap()[0].build, "b");
    // By size: each state has 2 bytes.
    let tiny = place.cache().keep_bytes(3);
    assert_eq!(place.cache().list().unwrap()[0].size, Some(2));
    let pruned = tiny.prune(&place.engine(), Prune::Excess).await.unwrap();
    assert_eq!(pruned.released.len(), 1);
    assert_eq!(listed(), ["c"]);
    let hour = std::time::Duration::from_secs(3600);
    assert!(tiny.prune(&place.engine(), Prune::Unused(hour)).await.unwrap().released.is_empty());
    let all = tiny.prune(&place.engine(), Prune::Everything).await.unwrap();
    assert_eq!((all.released.len(), all.left.len()), (1, 0));
    assert!(!place.kinds().contains(&"checkpoint".to_owned()));
    // A release that fails leaves it listed.
    place.run(build("a")).await;
    let nobody = Cache::new(place.path("cache"), Registry::new());
    let left = nobody.prune(&place.engine(), Prune::Everything).await.unwrap().left;
    assert!(left[0].reason.contains("not registered"), "{left:?}");
    assert_eq!(listed(), ["a"]);
}

#[tokio::test]
async fn a_builder_that_saves_nothing_builds_as_ever() {
    let place = Place::new();
    let builder = place.builder().trouble(Verb::Checkpoint, Trouble::Fail);
    let build = Build::new("a", builder.clone()).provision(Place::step("1")).provision(Place::step("2"));
    let report = place.run(build).await;
    assert_eq!(report.status, Status::Succeeded);
    assert_eq!(place.trouble(), ["the state behind step 1 could not be saved: checkpoint failed"]);
    assert_eq!(report.cache.unwrap().unsaved.unwrap(), place.trouble()[0]);
    let calls = builder.calls();
    assert_eq!(calls.iter().filter(|c| *c == "checkpoint").count(), 1, "it is not tried again: {calls:?}");
    assert_eq!(place.kinds(), ["image"]);
}
