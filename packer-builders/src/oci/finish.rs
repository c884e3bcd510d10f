//! From layers to an artifact: the image's documents, and its outputs.

use std::sync::Arc;

use packer_core::kit::blocking::Stop;
use packer_core::{Artifact, Context, Error, Resource, Result, WholeFile};

use super::Oci;
use super::archive;
use super::base::Base;
use super::config::{History, ImageConfig};
use super::image::Image;
use super::layer::Times;
use super::layout::Layout;
use super::machine::Made;
use super::name::ImageName;
use super::reference::Reference;
use super::registry::{Body, Repository};

/// What an image is made of beside the layers of the steps.
pub(super) struct Finish<'a> {
    pub(super) oci: &'a Oci,
    pub(super) outputs: &'a [ImageName],
    pub(super) base: &'a Base,
    pub(super) times: Times,
}

impl Finish<'_> {
    /// The image: the base's layers, and those of the steps over them.
    pub(super) fn image(&self, made: Vec<Made>) -> Result<Image> {
        let time = self.times.epoch.unwrap_or(self.times.began);
        let config = self.config(&made, time)?;
        let layers =
            self.base.layers.iter().cloned().chain(made.into_iter().filter_map(|made| made.layer)).collect();
        let mut image = Image::new(&config, layers, time)?;
        image.from = self.base.from.clone().map(|(host, name)| (host, name, self.base.layers.len()));
        Ok(image)
    }

    fn config(&self, made: &[Made], time: i64) -> Result<ImageConfig> {
        let mut config = self.base.config.clone();
        self.oci.configure(&mut config)?;
        let created =
            jiff::Timestamp::from_second(time).map_err(|e| Error::user(format!("the time {time}: {e}")))?;
        let created = Some(created.to_string());
        config.created.clone_from(&created);
        // Where the base does not tell of its layers, the places in the history have to be kept all the same.
        let told = config.history.iter().filter(|entry| !entry.empty_layer).count();
        for _ in told..self.base.layers.len() {
            config.history.push(History { created_by: "base".to_owned(), ..History::default() });
        }
        for made in made {
            config.history.push(History {
                created: created.clone(),
                created_by: made.by.clone(),
                empty_layer: made.layer.is_none(),
                ..History::default()
            });
            config.rootfs.diff_ids.extend(made.layer.as_ref().map(|layer| layer.diff_id.clone()));
        }
        Ok(config)
    }

    async fn push(&self, cx: &Context, reference: &Reference, image: &Image) -> Result<()> {
        cx.say(format!("Pushing docker://{reference}"));
        let from = image.from.as_ref().filter(|(host, ..)| host == reference.registry());
        let mount = from.map(|(_, name, _)| name.as_str());
        let repository = Repository::open(cx, reference, true, mount, self.oci.tls_verify()).await?;
        for (number, layer) in image.layers.iter().enumerate() {
            let mount = from.filter(|(_, name, count)| number < *count && name != reference.repository());
            let mount = mount.map(|(_, name, _)| name.as_str());
            repository.push(&layer.digest, Body::File(&layer.file, layer.size), mount).await?;
        }
        repository.push(&image.config_digest, Body::Bytes(&image.config), None).await?;
        let tag = reference.tag().unwrap_or("latest");
        repository.push_manifest(tag, "application/vnd.oci.image.manifest.v1+json", &image.manifest).await
    }

    /// Writes every output: first everything that takes long and shows nothing, then the names.
    async fn write(&self, cx: &Context, image: Arc<Image>) -> Result<Vec<Resource>> {
        let mut staged = Vec::new();
        for output in self.outputs {
            let (output, image, inner) = (output.clone(), image.clone(), cx.clone());
            staged.push(cx.blocking(move |stop| stage(&inner, output, &image, stop)).await?);
        }
        for output in self.outputs {
            if let ImageName::Registry(reference) = output {
                self.push(cx, reference, &image).await?;
            }
        }
        let inner = cx.clone();
        cx.blocking(move |stop| {
            let mut owned = Vec::new();
            for staged in staged {
                match staged {
                    Staged::Pushed => {}
                    Staged::File(file) => file.commit_for_artifact()?,
                    Staged::Layout(layout, resource) => {
                        owned.push(layout.name(&inner, &image, &resource, stop)?)
                    }
                }
            }
            Ok(owned)
        })
        .await
    }

    /// Writes the image everywhere it is to go.
    pub(super) async fn artifact(&self, cx: &Context, image: Image) -> Result<Artifact> {
        let image = Arc::new(image);
        let owned = cx.step("StepWriteImage", self.write(cx, image.clone())).await?;
        let names: Vec<String> = self.outputs.iter().map(ToString::to_string).collect();
        let mut artifact = Artifact::new("packer.oci", &image.digest).describe(format!(
            "OCI image {} in {}",
            image.digest,
            names.join(", ")
        ));
        for output in self.outputs {
            if let ImageName::OciArchive { file, .. } | ImageName::DockerArchive { file, .. } = output {
                artifact = artifact.file(file);
            }
        }
        for resource in owned {
            artifact = artifact.owning(resource);
        }
        let layers: Vec<&str> = image.layers.iter().map(|layer| layer.digest.as_str()).collect();
        let sized: u64 = image.layers.iter().map(|layer| layer.size).sum();
        let artifact =
            artifact.with("Digest", image.digest.clone()).with("ImageId", image.config_digest.clone());
        let mut artifact = artifact.with("Layers", layers).with("Size", sized);
        artifact.generated_data.insert("ID".to_owned(), image.digest.clone().into());
        artifact.generated_data.insert("ImageSha256".to_owned(), image.digest.clone().into());
        Ok(artifact)
    }
}

/// An output that lacks only its name.
enum Staged {
    Pushed,
    File(WholeFile),
    Layout(Layout, Resource),
}

fn stage(cx: &Context, output: ImageName, image: &Image, stop: &Stop) -> Result<Staged> {
    Ok(match output {
        ImageName::Registry(_) => Staged::Pushed,
        ImageName::OciArchive { file, tag } => {
            Staged::File(archive::write_layout(cx, &file, tag.as_deref(), image, stop)?)
        }
        ImageName::DockerArchive { file, name } => {
            Staged::File(archive::write_saved(cx, &file, name.as_deref(), image, stop)?)
        }
        ImageName::Layout { folder, tag } => {
            let layout = Layout::at(folder);
            let resource = layout.put(cx, image, tag.as_deref(), stop)?;
            Staged::Layout(layout, resource)
        }
    })
}
