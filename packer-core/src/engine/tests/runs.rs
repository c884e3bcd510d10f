use std::sync::Arc;

use super::{World, error};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, Span};
use crate::engine::Status;
use crate::event::EventKind;
use crate::pipeline::{Build, Pipeline, PostProcessStep, ProvisionStep};
use crate::testing::{FakeBuilder, FakeProvisioner, Trouble, Verb};

/// A provisioner and a post-processor whose preparation finds something.
struct Picky;

#[async_trait::async_trait]
impl crate::Provisioner for Picky {
    fn prepare(&self, _: &crate::PrepareContext) -> Diagnostics {
        [Diagnostic::error("no such thing").detail("look it up"), Diagnostic::warning("old")]
            .into_iter()
            .collect()
    }
    async fn provision(&self, _: &crate::Context, _: &dyn crate::Machine) -> crate::Result<()> {
        Ok(())
    }
}

#[async_trait::async_trait]
impl crate::PostProcessor for Picky {
    fn prepare(&self, _: &crate::PrepareContext) -> Diagnostics {
        Diagnostic::error("1 error(s) occurred:\n\n* output required").into()
    }
    async fn post_process(
        &self,
        _: &crate::Context,
        artifact: crate::Artifact,
    ) -> crate::Result<crate::Processed> {
        Ok(crate::Processed::beside(artifact))
    }
}

#[tokio::test]
async fn everything_wrong_is_told_at_once_with_its_place() {
    let world = World::new();
    let source = SourceFile::new("a.pkr.hcl", "source {}\nprovisioner {}\npost {}\n");
    let at = |start, end| Some(Span::new(start, end).in_source(&source));
    let mut build = Build::new("a", world.builder().trouble(Verb::Prepare, Trouble::Fail));
    build.location = at(0, 6);
    let mut step = ProvisionStep::new(Picky).named("n");
    step.location = at(10, 21);
    let mut post = PostProcessStep::new(Picky);
    post.location = at(25, 29);
    let build = build.provision(step).post_process(post).provision(ProvisionStep::new(Picky).only(["other"]));
    let findings = world.engine().prepare(&Pipeline::of([build.clone()])).await;
    let found: Vec<_> = findings
        .iter()
        .map(|d| {
            (d.summary.as_str(), d.detail.as_str(), d.location.as_ref().unwrap().start().line, d.is_error())
        })
        .collect();
    assert_eq!(
        found,
        [
            ("prepare failed", "", 1, true),
            ("Failed preparing provisioner-block \"picky\" \"n\"", "no such thing: look it up", 2, true),
            ("old", "", 2, false),
            (
                "Failed preparing post-processor-block \"picky\" \"\"",
                "1 error(s) occurred:\n\n* output required",
                3,
                true
            ),
        ]
    );
    assert_eq!(world.engine().run(Pipeline::of([build.clone()])).await.unwrap_err(), findings);
    assert!(world.recorder.events().is_empty(), "what is returned as an error is not told as events too");

    // A build that cannot be prepared is left out, the others run.
    let good = Build::new("b", world.builder());
    let report = world.engine().run(Pipeline::of([build, good])).await.unwrap();
    assert_eq!(report.builds[0].status, Status::Rejected);
    assert_eq!(report.builds[1].status, Status::Succeeded);
    assert_eq!(report.diagnostics, findings);
    let told: Vec<_> = world.recorder.events().into_iter().map(|e| e.kind).collect();
    assert!(told[..4].iter().all(|kind| matches!(kind, EventKind::Diagnostic { .. })));
    let EventKind::RunStarted { builds, .. } = &told[4] else { panic!("{:?}", told[4]) };
    assert_eq!(*builds, ["b"]);
}

#[tokio::test]
async fn the_report_is_data_with_steps_and_without_secrets() {
    let world = World::new();
    let pipeline = Pipeline::of([
        Build::new("good", world.builder()).provision(FakeProvisioner::run("echo the password is hunter2")),
        Build::new("bad", world.builder()).provision(FakeProvisioner::run("exit 1 # hunter2")),
    ]);
    pipeline.secrets.add("hunter2");
    let mut run = world.engine().run_id("r-1").start(pipeline).unwrap();
    assert_eq!(run.id(), "r-1");
    let mut events = run.events();
    let report = run.report().await.unwrap();
    let json = serde_json::to_string(&report).unwrap();
    assert!(!json.contains("hunter2"), "{json}");
    assert!(json.contains("exit 1 # <sensitive>"), "{json}");
    let steps: Vec<_> = report.build("good").unwrap().steps.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(steps, ["create key", "create machine", "launch", "provision with fake", "capture"]);
    assert!(report.build("bad").unwrap().steps.iter().any(|s| s.error.is_some()));
    // The stream has every event from the start and ends with the run.
    let mut numbers = Vec::new();
    while let Some(event) = events.recv().await {
        assert!(!serde_json::to_string(&event).unwrap().contains("hunter2"));
        numbers.push(event.sequence);
    }
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
    assert_eq!(numbers.len(), world.recorder.events().len());
    assert!(matches!(world.recorder.events().last().unwrap().kind, EventKind::RunFinished { failed: 1, .. }));
}

#[tokio::test]
async fn builds_of_one_name_do_not_mix_and_an_empty_pipeline_is_a_run() {
    let world = World::new();
    let builds = [
        Build::new("same", world.builder()),
        Build::new("same", world.builder().trouble(Verb::Capture, Trouble::FailHalfway)),
    ];
    let report = world.engine().run(Pipeline::of(builds)).await.unwrap();
    let statuses: Vec<_> = report.builds.iter().map(|b| b.status).collect();
    assert_eq!(statuses, [Status::Succeeded, Status::Failed]);
    assert_eq!(world.kinds(), ["image"]);
    assert!(world.is_clean());
    assert!(world.engine().run(Pipeline::default()).await.unwrap().succeeded());
}

#[tokio::test]
async fn debugging_pauses_between_steps_and_settings_reach_components() {
    /// Notes every question and answers it.
    struct Noting(Arc<std::sync::Mutex<Vec<String>>>);
    #[async_trait::async_trait]
    impl crate::Prompt for Noting {
        async fn ask(&self, question: &str) -> crate::Result<String> {
            self.0.lock().unwrap().push(question.trim().to_owned());
            Ok(String::new())
        }
    }
    struct Sees;
    #[async_trait::async_trait]
    impl crate::Provisioner for Sees {
        async fn provision(&self, cx: &crate::Context, _: &dyn crate::Machine) -> crate::Result<()> {
            let build = cx.build();
            cx.say(format!("{} {} {:?}", build.debug, build.force, build.on_error));
            Ok(())
        }
    }
    let (world, questions) = (World::new(), Arc::default());
    let host = crate::Host::new().prompt(Noting(Arc::clone(&questions)));
    let engine = world.engine().host(host).debug(true).force(true).on_error(crate::OnError::Abort);
    let builder: FakeBuilder = world.builder();
    let report = engine.run(Pipeline::of([Build::new("a", builder).provision(Sees)])).await.unwrap();
    assert!(report.succeeded(), "{}", error(&report));
    assert_eq!(world.lines(), ["true true \"abort\""]);
    assert_eq!(
        *questions.lock().unwrap(),
        [
            "Pausing after run of step 'create key'. Press enter to continue.",
            "Pausing after run of step 'create machine'. Press enter to continue.",
            "Pausing before the next provisioner . Press enter to continue.",
            "Pausing after run of step 'StepProvision'. Press enter to continue.",
            "Pausing before cleanup of step 'StepProvision'. Press enter to continue.",
            "Pausing before cleanup of step 'StepConnect'. Press enter to continue.",
        ]
    );
}
