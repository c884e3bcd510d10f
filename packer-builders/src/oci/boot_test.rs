//! Trees of what a build made, for its tests.

use std::path::PathBuf;

use packer_core::{Artifact, BootTest, Context, Error, Machine, Resource, Result, async_trait, kit};

use super::Oci;
use super::layer::is_digest;
use super::layout::Layout;
use super::name::ImageName;

/// What is put behind the tag of an image that did not pass.
const FAILED: &str = "failed-test";

/// The first output is unpacked anew, into a working folder of its own, and entered as the build's tree was: with the
/// variables and the folder that the image says.
#[async_trait]
impl BootTest for Oci {
    async fn boot(&self, cx: &Context, artifact: &Artifact) -> Result<Box<dyn Machine>> {
        // A layout may hold other images, and its tag may have gone to one of them.
        let digest = artifact.metadata.get("Digest").and_then(|digest| digest.as_str());
        let tested = Self {
            image: digest.filter(|digest| is_digest(digest)).map(str::to_owned),
            base: self.output.iter().next().cloned().unwrap_or_default(),
            platform: self.platform.clone(),
            base_limit: self.base_limit,
            upload_owner: self.upload_owner.clone(),
            source_date_epoch: self.source_date_epoch,
            ..Self::default()
        };
        Ok(Box::new(tested.start(cx, None).await?))
    }

    /// Every output gets another name: a file as [`kit::failed_test_name`] says, an image in a layout another tag.
    async fn set_aside(&self, cx: &Context, mut artifact: Artifact) -> Result<Artifact> {
        let (mut names, mut files, mut owned) = (Vec::new(), Vec::new(), Vec::new());
        let mut images = std::mem::take(&mut artifact.resources).into_iter();
        for output in self.outputs()? {
            let kept = match output {
                ImageName::OciArchive { file, tag } => {
                    let file = renamed(cx, file).await?;
                    files.push(file.clone());
                    ImageName::OciArchive { file, tag }
                }
                ImageName::DockerArchive { file, name } => {
                    let file = renamed(cx, file).await?;
                    files.push(file.clone());
                    ImageName::DockerArchive { file, name }
                }
                ImageName::Layout { folder, tag } => {
                    let tag = tag.map_or_else(|| FAILED.to_owned(), |tag| format!("{tag}-{FAILED}"));
                    let missing =
                        || Error::internal(format!("the image in {} is nobody's", folder.display()));
                    let image = images.next().ok_or_else(missing)?;
                    let (layout, new_tag, inner) = (Layout::at(&folder), tag.clone(), cx.clone());
                    owned.push(cx.blocking(move |stop| layout.rename(&inner, &image, new_tag, stop)).await?);
                    ImageName::Layout { folder, tag: Some(tag) }
                }
                // It is in nobody's hands any more; a build with tests does not push.
                pushed @ ImageName::Registry(_) => pushed,
            };
            names.push(kept.to_string());
        }
        artifact.description =
            format!("OCI image {} that failed its test, in {}", artifact.id, names.join(", "));
        artifact.id = names.into_iter().next().unwrap_or(artifact.id);
        (artifact.files, artifact.resources) = (files, owned);
        Ok(artifact)
    }
}

async fn renamed(cx: &Context, file: PathBuf) -> Result<PathBuf> {
    let kept = kit::failed_test_name(&file);
    let (from, to) = (file.clone(), kept.clone());
    let rename = cx.blocking(move |_| std::fs::rename(&from, &to).map_err(|e| Error::io("rename", &from, e)));
    cx.own(Resource::file(&kept), rename).await?;
    Ok(kept)
}
