//! The behaviour suite of post-processors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Bench;
use crate::artifact::Artifact;
use crate::post_processor::{PostProcessor, Processed};

/// Checks every rule of [`PostProcessor`] on an artifact whose files exist: it prepares without finding anything
/// wrong, leaves its input as it was, and the files it names exist. Returns what it made.
///
/// # Panics
/// Where a rule is broken.
pub async fn suite(post_processor: &dyn PostProcessor, artifact: &Artifact) -> Processed {
    let bench = Bench::new();
    let findings = post_processor.prepare(bench.prepare_context());
    assert!(!findings.has_errors(), "prepare of a working post-processor: {findings}");
    let before = contents(artifact);
    let processed = post_processor.post_process(bench.context(), artifact.clone()).await;
    let processed = processed.unwrap_or_else(|e| panic!("post-processing: {e}"));
    let after = contents(artifact);
    for (path, content) in &before {
        assert!(after.get(path) == Some(content), "the input {} was changed or removed", path.display());
    }
    if let Some(made) = &processed.artifact {
        for file in &made.files {
            assert!(file.exists(), "the artifact names {}, which does not exist", file.display());
        }
        let data = serde_json::to_string(made).unwrap();
        assert_eq!(&serde_json::from_str::<Artifact>(&data).unwrap(), made, "an artifact is data");
        let owned = |id| made.resources.iter().any(|r| r.id == id);
        for resource in bench.outstanding().into_iter().filter(|r| !r.is_local() && !owned(r.id)) {
            let released = post_processor.release(bench.context(), &resource).await;
            assert!(released.is_ok(), "releasing {resource}: {}", released.unwrap_err());
        }
    }
    processed
}

fn contents(artifact: &Artifact) -> BTreeMap<PathBuf, Vec<u8>> {
    artifact.files.iter().filter_map(|f| Some((f.clone(), std::fs::read(f).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::post_processor::Keep;
    use crate::testing::FakePostProcessor;

    #[tokio::test]
    async fn the_fake_passes() {
        let bench = Bench::new();
        let input = bench.folder().join("input");
        std::fs::write(&input, "x").unwrap();
        let artifact = Artifact::new("test", "").file(&input);
        let output = bench.folder().join("output");
        let processed = suite(&FakePostProcessor::writing(&output, Keep::No), &artifact).await;
        assert_eq!(processed.artifact.unwrap().files, [output]);
        let processed = suite(&FakePostProcessor::passing(Keep::Always), &artifact).await;
        assert_eq!(processed.artifact.unwrap().files, [input]);
    }
}
