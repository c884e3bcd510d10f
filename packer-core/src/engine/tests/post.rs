use super::{World, error};
use crate::artifact::Artifact;
use crate::engine::Status;
use crate::pipeline::PostProcessorExt;
use crate::pipeline::{Build, PostProcessStep};
use crate::post_processor::Keep;
use crate::testing::{FakePostProcessor, Trouble};

fn described(artifacts: &[Artifact]) -> Vec<String> {
    let kind = |a: &Artifact| match a.files.first() {
        Some(file) => file.file_name().unwrap().to_string_lossy().into_owned(),
        None => a.id.split('-').next().unwrap().to_owned(),
    };
    artifacts.iter().map(kind).collect()
}

/// What a sequence of (what, keep, user's word) leads to: the artifacts and what is in the world.
#[tokio::test]
async fn artifacts_stay_as_asked() {
    type Step = (&'static str, Keep, Option<bool>);
    type Case<'a> = (&'a [&'a [Step]], &'a [&'a str], &'a [&'a str]);
    let cases: [Case<'_>; 12] = [
        (&[], &["image"], &["image"]),
        (&[&[("x", Keep::No, None)]], &["x"], &["x"]),
        (&[&[("x", Keep::No, Some(true))]], &["image", "x"], &["image", "x"]),
        (&[&[("x", Keep::Yes, None)]], &["image", "x"], &["image", "x"]),
        (&[&[("x", Keep::Yes, Some(false))]], &["x"], &["x"]),
        (&[&[("x", Keep::Always, Some(false))]], &["image", "x"], &["image", "x"]),
        (&[&[("x", Keep::No, None), ("y", Keep::No, None)]], &["y"], &["y"]),
        (&[&[("x", Keep::No, None), ("y", Keep::No, Some(true))]], &["x", "y"], &["x", "y"]),
        (&[&[("x", Keep::Yes, None), ("y", Keep::No, None)]], &["image", "y"], &["image", "y"]),
        (&[&[("x", Keep::No, None)], &[("y", Keep::Yes, None)]], &["image", "x", "y"], &["image", "x", "y"]),
        (&[&[("x", Keep::No, None)], &[("y", Keep::No, None)]], &["x", "y"], &["x", "y"]),
        (&[&[("", Keep::Always, None)], &[("", Keep::Always, None)]], &["image"; 3], &["image"]),
    ];
    for (sequences, artifacts, left) in cases {
        let world = World::new();
        let mut build = Build::new("a", world.builder());
        for sequence in sequences {
            let step = |(name, keep, user): &Step| {
                let path = world.folder.path().join(name);
                let pp = match *name {
                    "" => FakePostProcessor::passing(*keep),
                    _ => FakePostProcessor::writing(path, *keep),
                };
                let step = PostProcessStep::new(pp);
                match user {
                    Some(user) => step.keep_input_artifact(*user),
                    None => step,
                }
            };
            build = build.post_process_chain(sequence.iter().map(step));
        }
        let report = world.run(build).await;
        assert_eq!(error(&report), "", "{sequences:?}");
        assert_eq!(described(&report.builds[0].artifacts), artifacts, "{sequences:?}");
        assert_eq!(world.kinds(), left, "{sequences:?}");
        assert!(world.is_clean(), "{sequences:?}");
    }
}

#[tokio::test]
async fn a_failure_ends_its_sequence_and_destroys_nothing() {
    let world = World::new();
    let write = |name: &str, keep| FakePostProcessor::writing(world.folder.path().join(name), keep);
    let failing = || write("never", Keep::No).trouble(Trouble::FailHalfway);
    let build = Build::new("a", world.builder())
        .post_process_chain([write("x", Keep::No).into(), failing().into(), write("never", Keep::No).into()])
        .post_process(failing())
        .post_process(write("y", Keep::No).named("last"));
    let report = world.run(build).await;
    assert_eq!(report.builds[0].status, Status::Failed);
    assert_eq!(
        error(&report),
        "2 error(s) occurred:\n\n* Post-processor failed: post-processing failed\n* Post-processor failed: post-processing failed"
    );
    // The second sequence failed at its start: the image it was to work on stays; so does the first's `x`.
    assert_eq!(described(&report.builds[0].artifacts), ["image", "x", "y"]);
    assert_eq!(world.kinds(), ["image", "x", "y"], "and the half-written files are gone");
    assert!(world.is_clean());
    assert_eq!(
        world.lines(),
        [
            "Running post-processor:  (type fake)",
            "Running post-processor:  (type fake)",
            "Running post-processor:  (type fake)",
            "Running post-processor: last (type fake)",
        ]
    );
}

#[tokio::test]
async fn after_a_later_failure_the_replaced_artifact_goes_and_the_last_good_one_stays() {
    let world = World::new();
    let write = |name: &str| FakePostProcessor::writing(world.folder.path().join(name), Keep::No);
    let build = Build::new("a", world.builder())
        .post_process_chain([write("x").into(), write("y").trouble(Trouble::Fail).into()]);
    let report = world.run(build).await;
    assert_eq!(report.builds[0].status, Status::Failed);
    assert_eq!(described(&report.builds[0].artifacts), ["x"]);
    assert_eq!(world.kinds(), ["x"]);
}

#[tokio::test]
async fn a_file_that_is_gone_already_is_an_error() {
    struct Remover(std::path::PathBuf);
    #[async_trait::async_trait]
    impl crate::PostProcessor for Remover {
        async fn post_process(
            &self,
            _: &crate::Context,
            artifact: Artifact,
        ) -> crate::Result<crate::Processed> {
            std::fs::remove_file(&self.0).unwrap();
            Ok(crate::Processed::beside(artifact))
        }
    }
    let world = World::new();
    let path = |name: &str| world.folder.path().join(name);
    let write = |name: &str| FakePostProcessor::writing(path(name), Keep::No);
    let build = Build::new("a", world.builder()).post_process_chain([
        write("x").into(),
        PostProcessStep::new(Remover(path("x"))),
        write("y").into(),
    ]);
    let report = world.run(build).await;
    let expected = format!(
        "1 error(s) occurred:\n\n* Failed cleaning up prior artifact: remove {}: no such file or directory",
        path("x").display()
    );
    assert_eq!(error(&report), expected);
    assert!(world.is_clean());
}

#[tokio::test]
async fn a_post_processor_sees_what_its_input_carries() {
    use crate::pipeline::Late;
    use crate::post_processor::PostProcessor;
    use std::sync::Arc;
    let world = World::new();
    let seen = FakePostProcessor::passing(Keep::Yes);
    let inner = seen.clone();
    let folder = world.folder.path().to_owned();
    let late = Late::deferred(Arc::new(seen.clone()) as Arc<dyn PostProcessor>, move |values| {
        let id = values.facts.text("ID").unwrap_or_else(|| "none".to_owned());
        std::fs::write(folder.join("id"), id).unwrap();
        assert!(values.facts.get("PackerRunUUID").is_none());
        Ok(Arc::new(inner.clone()) as Arc<dyn PostProcessor>)
    });
    let step = PostProcessStep::with_post_processor("fake", late);
    assert!(world.run(Build::new("a", world.builder()).post_process(step)).await.succeeded());
    let id = std::fs::read_to_string(world.folder.path().join("id")).unwrap();
    assert_eq!(seen.seen()[0].generated_data["ID"], id);
}
