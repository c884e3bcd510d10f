//! What starts finishes: in the events and in the report, whatever happens.

use std::collections::BTreeMap;
use std::time::Duration;

use super::World;
use crate::builder::Machine;
use crate::context::Context;
use crate::error::{Error, Fault, Result};
use crate::event::{Event, EventKind};
use crate::pipeline::ProvisionerExt;
use crate::pipeline::{Build, Pipeline, ProvisionStep};
use crate::post_processor::Keep;
use crate::provisioner::Provisioner;
use crate::testing::{FakePostProcessor, FakeProvisioner, Trouble, Verb};

/// Every `…Started` has its `…Finished`, and no step is finished twice or before one inside of it.
fn all_finish(events: &[Event]) {
    let mut steps: BTreeMap<u64, &str> = BTreeMap::new();
    let mut progress: BTreeMap<u64, bool> = BTreeMap::new();
    let mut running: BTreeMap<(Option<&str>, &str), i32> = BTreeMap::new();
    for event in events {
        let build = event.build.as_deref();
        let mut count = |what: &'static str, by: i32| *running.entry((build, what)).or_default() += by;
        match &event.kind {
            EventKind::StepStarted { step, name } => {
                assert_eq!(steps.insert(*step, name), None);
                count("step", 1);
            }
            EventKind::StepFinished { step, name, .. } => {
                assert_eq!(steps.remove(step), Some(name.as_str()), "{name} finishes once");
                count("step", -1);
            }
            EventKind::ProvisionerStarted { .. } => count("provisioner", 1),
            EventKind::ProvisionerFinished { .. } => count("provisioner", -1),
            EventKind::PostProcessorStarted { .. } => count("post-processor", 1),
            EventKind::PostProcessorFinished { .. } => count("post-processor", -1),
            EventKind::BuildStarted { .. } => count("build", 1),
            EventKind::BuildFinished { .. } | EventKind::BuildFailed { .. } => count("build", -1),
            EventKind::Progress { id, finished, .. } => {
                assert_ne!(progress.insert(*id, *finished), Some(true), "finished is the last one");
            }
            _ => {}
        }
    }
    assert!(steps.is_empty(), "steps that never finish: {steps:?}");
    assert!(progress.values().all(|finished| *finished), "progress that never finishes");
    assert!(running.values().all(|n| *n == 0), "{running:?}");
}

/// How the steps of a name ended, by the events and by the report.
fn ends(world: &World, report: &crate::Report, name: &str) -> Vec<(String, Fault)> {
    let of_events = world.recorder.events().into_iter().filter_map(|e| match e.kind {
        EventKind::StepFinished { name: n, error, .. } if n == name => error,
        _ => None,
    });
    let of_events: Vec<_> = of_events.map(|e| (e.message, e.fault)).collect();
    let steps = report.builds.iter().flat_map(|b| &b.steps).filter(|s| s.name == name);
    let of_report = steps.filter_map(|s| s.error.clone()).map(|e| (e.message, e.fault));
    assert_eq!(of_report.collect::<Vec<_>>(), of_events);
    of_events
}

/// A provisioner that is at a step inside of a step, and at long work, when something happens.
#[derive(Clone, Copy)]
enum Deep {
    Hangs,
    Panics,
    GivesUp,
}

#[async_trait::async_trait]
impl Provisioner for Deep {
    async fn provision(&self, cx: &Context, _: &dyn Machine) -> Result<()> {
        let inner = async {
            let mut progress = cx.progress("copying", Some(10));
            progress.advance(3);
            match self {
                Self::Panics => panic!("on purpose"),
                Self::Hangs | Self::GivesUp => std::future::pending().await,
            }
        };
        let outer = cx.step("outer", cx.step("inner", inner));
        match self {
            Self::GivesUp => match tokio::time::timeout(Duration::from_secs(5), outer).await {
                Ok(result) => result,
                Err(_) => Err(Error::network("it took too long")),
            },
            _ => outer.await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn steps_that_are_cancelled_finish_and_the_report_says_where_it_hung() {
    let world = World::new();
    let pp = FakePostProcessor::passing(Keep::Yes).trouble(Trouble::Hang);
    let builds = vec![
        Build::new("deep", world.builder()).provision(Deep::Hangs),
        Build::new("launch", world.builder().trouble(Verb::Launch, Trouble::HangHalfway)),
        Build::new("capture", world.builder().trouble(Verb::Capture, Trouble::HangHalfway)),
        Build::new("post", world.builder()).post_process(pp),
    ];
    let run = world.engine().start(Pipeline::of(builds)).unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    run.cancel("interrupt");
    let report = run.report().await.unwrap();
    all_finish(&world.recorder.events());
    let cancelled = ("cancelled".to_owned(), Fault::Cancelled);
    assert_eq!(ends(&world, &report, "inner"), std::slice::from_ref(&cancelled));
    assert_eq!(ends(&world, &report, "outer"), [cancelled]);
    let hung = |name: &str| report.build(name).unwrap().error.as_ref().unwrap().step().unwrap();
    assert_eq!(
        [hung("deep"), hung("launch"), hung("capture"), hung("post")],
        ["inner", "launch", "capture", "post-process with fake"]
    );
    let deep = report.build("deep").unwrap();
    let inner = deep.steps.iter().find(|s| s.name == "inner").unwrap();
    assert!(inner.began + inner.elapsed <= report.elapsed);
}

#[tokio::test(start_paused = true)]
async fn steps_that_run_out_of_time_finish_and_the_error_says_where_it_hung() {
    let world = World::new();
    let limited = Deep::Hangs.timeout(Duration::from_secs(60)).max_retries(1);
    let report = world.run(Build::new("a", world.builder()).provision(limited)).await;
    all_finish(&world.recorder.events());
    let timed_out = ("timed out".to_owned(), Fault::Guest);
    assert_eq!(ends(&world, &report, "inner"), [timed_out.clone(), timed_out]);
    let error = report.builds[0].error.as_ref().unwrap();
    assert_eq!((error.message(), error.step()), ("the provisioner did not end within 1m0s", Some("inner")));
}

#[tokio::test(start_paused = true)]
async fn steps_that_panic_or_are_given_up_finish() {
    let world = World::new();
    let panics = Build::new("a", world.builder()).provision(Deep::Panics);
    let gives_up = Build::new("b", world.builder()).provision(Deep::GivesUp);
    let report = world.engine().run(Pipeline::of([panics, gives_up])).await.unwrap();
    all_finish(&world.recorder.events());
    let mut ends = ends(&world, &report, "inner");
    ends.sort_by_key(|(message, _)| message.clone());
    assert_eq!(
        ends,
        [
            ("given up before it was done".to_owned(), Fault::Cancelled),
            ("it panicked".to_owned(), Fault::Internal)
        ]
    );
    let error = report.build("b").unwrap().error.as_ref().unwrap();
    assert_eq!((error.message(), error.fault()), ("it took too long", Fault::Network));
}

#[tokio::test]
async fn steps_are_numbered_and_finish_with_what_became_of_them() {
    let world = World::new();
    let run = || FakeProvisioner::run("true");
    let elsewhere = ProvisionStep::new(run()).only(["other.source"]);
    let failing = run().trouble(Trouble::Fail);
    let build = Build::new("a", world.builder())
        .provision(run().named("first"))
        .provision(elsewhere)
        .provision(failing.clone().continue_on_error())
        .provision(failing.named("last"))
        .on_error(run().named("cleanup"));
    world.run(build).await;
    all_finish(&world.recorder.events());
    let told: Vec<_> = world
        .recorder
        .events()
        .into_iter()
        .filter_map(|e| match e.kind {
            EventKind::ProvisionerStarted { name, number, steps, .. } => Some((name, number, steps, None)),
            EventKind::ProvisionerFinished { name, number, steps, error, .. } => {
                Some((name, number, steps, Some(error.map(|e| e.message))))
            }
            _ => None,
        })
        .collect();
    let failed = || Some(Some("try 1 failed".to_owned()));
    let told: Vec<_> = told.iter().map(|(name, n, of, end)| (name.as_str(), *n, *of, end.clone())).collect();
    assert_eq!(
        told,
        [
            ("first", 1, 3, None),
            ("first", 1, 3, Some(None)),
            ("", 2, 3, None),
            ("", 2, 3, failed()),
            ("last", 3, 3, None),
            ("last", 3, 3, Some(Some("try 2 failed".to_owned()))),
            ("cleanup", 0, 3, None),
            ("cleanup", 0, 3, Some(None)),
        ]
    );
}

#[tokio::test]
async fn post_processors_are_numbered_over_all_sequences() {
    let world = World::new();
    let pass = || FakePostProcessor::passing(Keep::Yes);
    let fails = pass().trouble(Trouble::Fail);
    let build = Build::new("a", world.builder())
        .post_process_chain([fails.into(), pass().into()])
        .post_process(pass());
    world.run(build).await;
    all_finish(&world.recorder.events());
    let told: Vec<_> = world
        .recorder
        .events()
        .into_iter()
        .filter_map(|e| match e.kind {
            EventKind::PostProcessorStarted { number, steps, .. } => Some((number, steps, None)),
            EventKind::PostProcessorFinished { number, steps, error, .. } => {
                Some((number, steps, Some(error.map(|e| e.fault))))
            }
            _ => None,
        })
        .collect();
    let provider = Some(Some(Fault::Provider));
    assert_eq!(told, [(1, 3, None), (1, 3, provider), (3, 3, None), (3, 3, Some(None))]);
}

#[tokio::test]
async fn errors_are_data_in_events_and_report() {
    struct Refused;
    #[async_trait::async_trait]
    impl Provisioner for Refused {
        async fn provision(&self, cx: &Context, _: &dyn Machine) -> Result<()> {
            cx.secrets().add("s3cret");
            let cause = Error::network("no route with s3cret").with_source(std::io::Error::other("down"));
            Err(Error::network("cannot log in").with_source(cause).in_step("connect"))
        }
    }
    let world = World::new();
    let report = world.run(Build::new("a", world.builder()).provision(Refused)).await;
    let told = world.recorder.events().into_iter().find_map(|e| match e.kind {
        EventKind::BuildFailed { error, .. } => Some(error),
        _ => None,
    });
    let told = told.unwrap();
    assert_eq!(told.causes, ["no route with <sensitive>", "down"]);
    assert_eq!((told.fault, told.retryable, told.step.as_deref()), (Fault::Network, true, Some("connect")));
    let written = serde_json::to_value(&report).unwrap();
    assert_eq!(written["builds"][0]["error"], serde_json::to_value(&told).unwrap());
    assert!(!written.to_string().contains("s3cret"));
}
