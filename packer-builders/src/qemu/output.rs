//! The output folder: made by the build or not at all, and removed again where the build fails.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use packer_core::{Artifact, Context, Error, Resource, Result, kit};
use serde_json::json;

/// What the folder is called in the ledger.
pub(super) const FOLDER: &str = "output folder";

/// The folders that builds of a run make or have made: what `-force` deletes is of an earlier one.
#[derive(Default)]
struct Claimed(Mutex<HashSet<PathBuf>>);

impl Claimed {
    fn folders(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the folder, which becomes the artifact's. One that is there is removed first where the run is to replace it.
pub(super) async fn create(cx: &Context, folder: &Path) -> Result<Resource> {
    let path = std::path::absolute(folder).map_err(|e| Error::io("find", folder, e))?;
    let shown = folder.display();
    let exists = || {
        Error::user(format!(
            "Output directory exists: {shown}\n\nUse the force flag to delete it prior to building."
        ))
    };
    // Before anything is looked at or deleted: two builds at once may want it.
    if !cx.of_run::<Claimed>().folders().insert(path.clone()) {
        return Err(exists());
    }
    let made = make(cx, folder, &path, exists).await;
    if made.is_err() {
        cx.of_run::<Claimed>().folders().remove(&path);
    }
    made
}

async fn make(cx: &Context, folder: &Path, path: &Path, exists: impl Fn() -> Error) -> Result<Resource> {
    let shown = folder.display();
    if path.symlink_metadata().is_ok() {
        if !cx.build().force {
            return Err(exists());
        }
        let here = std::env::current_dir().map_err(|e| Error::io("find", ".", e))?;
        if here.starts_with(path) {
            return Err(Error::user(format!("the output directory {shown} holds the working directory")));
        }
        cx.say("Deleting previous output directory...");
        let old = path.to_owned();
        cx.blocking(move |_| remove(&old)).await?;
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| Error::io("mkdir", parent, e))?;
    }
    let resource = Resource::new(FOLDER, path.to_string_lossy());
    cx.record(resource.clone())?;
    if let Err(e) = std::fs::create_dir(path) {
        // It is not ours, whether somebody else has made it meanwhile or nobody has.
        cx.released(&resource)?;
        let meanwhile = e.kind() == std::io::ErrorKind::AlreadyExists;
        return Err(if meanwhile { exists() } else { Error::io("mkdir", folder, e) });
    }
    // By this it is known again: another run may have made one of the same name since.
    let resource = resource.with_details(json!({ "identity": identity(path) }));
    cx.record(resource.clone())?;
    Ok(resource)
}

/// Removes the folder if it is the one that was made.
pub(super) async fn release(cx: &Context, resource: &Resource) -> Result<()> {
    let path = PathBuf::from(&resource.name);
    let deleted = delete(cx, resource, &path).await;
    cx.of_run::<Claimed>().folders().remove(&path);
    deleted
}

async fn delete(cx: &Context, resource: &Resource, path: &Path) -> Result<()> {
    let known = resource.details.get("identity").cloned().unwrap_or_default();
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    if known.is_null() {
        // The process died between two lines: nothing is in it, or it is somebody else's.
        let _ = std::fs::remove_dir(path);
        return Ok(());
    }
    if known != json!(identity(path)) {
        return Ok(());
    }
    cx.say("Deleting output directory...");
    let path = path.to_owned();
    cx.blocking(move |_| remove(&path)).await
}

/// Gives the folder of an image that did not pass its test another name.
pub(super) async fn set_aside(cx: &Context, mut artifact: Artifact) -> Result<Artifact> {
    let lost = || Error::internal("the artifact has no folder");
    let at = artifact.resources.iter().position(|resource| resource.kind == FOLDER).ok_or_else(lost)?;
    let old = artifact.resources.remove(at);
    let from = PathBuf::from(&old.name);
    let to = kit::failed_test_name(&from);
    let new = Resource::new(FOLDER, to.to_string_lossy()).with_details(old.details.clone());
    cx.record(new.clone())?;
    if let Err(e) = std::fs::rename(&from, &to) {
        cx.released(&new)?;
        return Err(Error::io("rename", &from, e));
    }
    cx.released(&old)?;
    cx.of_run::<Claimed>().folders().remove(&from);
    artifact.resources.push(new);
    for file in &mut artifact.files {
        if let (Some(folder), Some(kept), Some(name)) = (file.parent(), to.file_name(), file.file_name()) {
            *file = folder.with_file_name(kept).join(name);
        }
    }
    Ok(artifact.describe(format!("VM files in directory: {}", to.display())))
}

fn remove(path: &Path) -> Result<()> {
    let folder = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let removed = if folder { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// What tells a folder from another one of its name: its number, which may be used again, and when it was made.
fn identity(path: &Path) -> Option<String> {
    let meta = path.symlink_metadata().ok()?;
    let made = meta.created().ok().and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
    let made = made.unwrap_or_default().as_nanos();
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&meta);
    #[cfg(not(unix))]
    let number = 0;
    Some(format!("{number}:{made}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use packer_core::testing::Bench;

    #[tokio::test]
    async fn only_the_folder_that_was_made_is_removed() {
        let bench = Bench::new();
        let cx = bench.context();
        let folder = bench.folder().join("out/deep");
        let resource = create(cx, &folder).await.unwrap();
        std::fs::write(folder.join("disk"), "x").unwrap();
        let error = create(cx, &folder).await.unwrap_err();
        assert!(error.message().starts_with("Output directory exists: "), "{error}");
        assert!(folder.join("disk").exists());
        release(cx, &resource).await.unwrap();
        release(cx, &resource).await.unwrap();
        assert!(!folder.exists());
        // Another one of its name stays.
        std::fs::create_dir(bench.folder().join("other")).unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("disk"), "y").unwrap();
        let theirs =
            Resource::new(FOLDER, folder.to_string_lossy()).with_details(json!({ "identity": "0:0" }));
        release(cx, &theirs).await.unwrap();
        let died = Resource::new(FOLDER, folder.to_string_lossy());
        release(cx, &died).await.unwrap();
        assert!(folder.join("disk").exists());
    }
}
