//! What the post-processors for Docker images have in common.

#[cfg(feature = "docker-import")]
pub(crate) mod import;
#[cfg(feature = "docker-push")]
pub(crate) mod push;
#[cfg(feature = "docker-save")]
pub(crate) mod save;
#[cfg(feature = "docker-tag")]
pub(crate) mod tag;

use packer_core::docker::Client;
use packer_core::{Artifact, Context, Error, Result};

/// The kind of artifact that an image is, whatever it was made of.
pub(crate) const IMAGE: &str = "packer.post-processor.docker-import";
/// The kind of artifact that an image with names is.
pub(crate) const TAGGED: &str = "packer.post-processor.docker-tag";

/// Where an artifact lists the names that it was given.
pub(crate) const TAGS: &str = "docker_tags";

/// The engine, once the artifact is of a kind that can be handled.
pub(crate) async fn engine(
    cx: &Context,
    artifact: &Artifact,
    kinds: &[&str],
    advice: &str,
) -> Result<Client> {
    if !kinds.contains(&artifact.builder_id.as_str()) {
        return Err(Error::user(format!("Unknown artifact type: {}\n{advice}", artifact.builder_id)));
    }
    Client::connect(cx.host()).await
}

/// The names that an artifact was given so far.
#[cfg(any(feature = "docker-tag", feature = "docker-push"))]
pub(crate) fn tags(artifact: &Artifact) -> Vec<String> {
    let list = artifact.metadata.get(TAGS).and_then(|tags| tags.as_array());
    list.into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
}

/// How an image is told: with all its names, where it was given any.
#[cfg(any(feature = "docker-import", feature = "docker-tag"))]
pub(crate) fn describe(id: &str, tags: &[String]) -> String {
    match tags {
        [] => format!("Imported Docker image: {id}"),
        tags => format!("Imported Docker image: {id} with tags {}", tags.join(" ")),
    }
}

/// The same image once more, for what comes next: it stays as long as the one that it was made from, so that
/// `keep_input_artifact = false` removes it from the engine.
#[cfg(any(feature = "docker-push", feature = "docker-save"))]
pub(crate) fn unowned(mut artifact: Artifact) -> Artifact {
    artifact.resources.clear();
    artifact
}
