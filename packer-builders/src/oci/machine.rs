//! A root filesystem that is being changed, and the image that becomes of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use packer_core::kit::blocking::Stop;
use packer_core::{
    Artifact, CheckpointKey, Communicator, Context, Error, Facts, Machine, Resource, Result, async_trait, kit,
};
use serde::{Deserialize, Serialize};

use super::base::Base;
use super::communicator::Inside;
use super::finish::Finish;
use super::image::Image;
use super::layer::{self, Compression, Layer, Times};
use super::name::ImageName;
use super::rootfs::{Rootfs, Snapshot};
use super::{Layers, Oci};

/// How layers of checkpoints are packed that are not those of the image.
const CHECKPOINT: Compression = Compression::Zstd;

pub(super) struct OciMachine {
    pub(super) oci: Oci,
    pub(super) outputs: Vec<ImageName>,
    pub(super) rootfs: Arc<Rootfs>,
    pub(super) work: PathBuf,
    pub(super) inside: Arc<Inside>,
    pub(super) facts: Facts,
    pub(super) base: Arc<Base>,
    pub(super) times: Times,
    pub(super) progress: Arc<Mutex<Progress>>,
}

/// What has come of the build so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The tree as the base left it, and at the last boundary between layers.
    pub(super) base: Snapshot,
    pub(super) last: Snapshot,
    pub(super) made: Vec<Made>,
    pub(super) number: u32,
}

/// What a step made: a layer, or none where it changed nothing.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) by: String,
    pub(super) layer: Option<Layer>,
}

/// A checkpoint's own account of itself, a file beside its layers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) base: String,
    pub(super) made: Vec<SavedLayer>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedLayer {
    pub(super) by: String,
    /// Digest, size, digest unpacked, and how it is packed.
    pub(super) layer: Option<(String, u64, String, Compression)>,
}

pub(super) const ACCOUNT: &str = "checkpoint.json";

impl OciMachine {
    fn sealer(&self) -> Sealer {
        Sealer {
            rootfs: self.rootfs.clone(),
            work: self.work.clone(),
            times: self.times,
            progress: self.progress.clone(),
        }
    }

    /// Ends a layer here.
    pub(super) async fn seal(&self, cx: &Context, by: String, compression: Compression) -> Result<()> {
        let sealer = self.sealer();
        cx.blocking(move |stop| sealer.seal(by, compression, stop)).await
    }

    fn per_provisioner(&self) -> bool {
        self.oci.layers == Layers::PerProvisioner
    }

    async fn image(&self, cx: &Context) -> Result<Image> {
        let made = if self.per_provisioner() {
            self.seal(cx, "packer".to_owned(), self.oci.compression).await?;
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            // Nothing came after the last step.
            if progress.made.last().is_some_and(|made| made.by == "packer" && made.layer.is_none()) {
                progress.made.pop();
            }
            progress.made.clone()
        } else {
            let (sealer, compression) = (self.sealer(), self.oci.compression);
            let by = format!("packer build {}", cx.build().name);
            cx.blocking(move |stop| Ok(vec![sealer.whole(by, compression, stop)?])).await?
        };
        self.finish().image(made)
    }

    fn finish(&self) -> Finish<'_> {
        Finish { oci: &self.oci, outputs: &self.outputs, base: &self.base, times: self.times }
    }
}

/// What makes layers, away from the async threads.
struct Sealer {
    rootfs: Arc<Rootfs>,
    work: PathBuf,
    times: Times,
    progress: Arc<Mutex<Progress>>,
}

impl Sealer {
    fn seal(&self, by: String, compression: Compression, stop: &Stop) -> Result<()> {
        let now = self.rootfs.scan(stop)?;
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = now.since(&progress.last);
        let layer = self.layer(&mut progress, &changes, compression, stop)?;
        progress.made.push(Made { by, layer });
        progress.last = now;
        Ok(())
    }

    /// Everything since the base in one layer.
    fn whole(&self, by: String, compression: Compression, stop: &Stop) -> Result<Made> {
        let now = self.rootfs.scan(stop)?;
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = now.since(&progress.base);
        let layer = self.layer(&mut progress, &changes, compression, stop)?;
        Ok(Made { by, layer })
    }

    fn layer(
        &self,
        progress: &mut Progress,
        changes: &std::collections::BTreeMap<PathBuf, super::rootfs::Change>,
        compression: Compression,
        stop: &Stop,
    ) -> Result<Option<Layer>> {
        if changes.is_empty() {
            return Ok(None);
        }
        progress.number += 1;
        let file = self.work.join(format!("layer-{}", progress.number));
        layer::pack(file, compression, |out| layer::write(&self.rootfs, changes, self.times, stop, out))
            .map(Some)
    }
}

#[async_trait]
impl Machine for OciMachine {
    fn communicator(&self) -> Arc<dyn Communicator> {
        self.inside.clone()
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    async fn capture(&self, cx: &Context) -> Result<Artifact> {
        let image = cx.step("StepPackImage", self.image(cx)).await?;
        self.finish().artifact(cx, image).await
    }

    async fn step_done(&self, cx: &Context, step: &str) -> Result<()> {
        if !self.per_provisioner() {
            return Ok(());
        }
        self.seal(cx, format!("packer: {step}"), self.oci.compression).await
    }

    async fn checkpoint(&self, cx: &Context, key: &CheckpointKey) -> Result<Option<Resource>> {
        if !self.per_provisioner() {
            self.seal(cx, "packer: checkpoint".to_owned(), CHECKPOINT).await?;
        }
        let made = self.progress.lock().unwrap_or_else(PoisonError::into_inner).made.clone();
        let short: String = key.0.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        let unique = self.work.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = cx.cache_dir().join("oci/checkpoints").join(format!("{short}-{}-{unique}", made.len()));
        let folder = std::path::absolute(&folder).map_err(|e| Error::io("mkdir", &folder, e))?;
        let size: u64 = made.iter().filter_map(|made| made.layer.as_ref()).map(|layer| layer.size).sum();
        let resource = Resource::new("checkpoint", folder.to_string_lossy())
            .with_details(serde_json::json!({ "size": size }));
        let base = self.base.layers.iter().map(|layer| layer.digest.as_str()).collect::<Vec<_>>().join(" ");
        let save = cx.blocking(move |stop| save(&folder, base, &made, stop));
        cx.own(resource.clone(), save).await?;
        Ok(Some(resource))
    }
}

fn save(folder: &Path, base: String, made: &[Made], stop: &Stop) -> Result<()> {
    kit::private_folder(folder)?;
    let mut account = Saved { base, made: Vec::new() };
    for made in made {
        stop.check()?;
        if let Some(layer) = &made.layer {
            let to = folder.join(layer::hex(&layer.digest));
            // Two steps may have made the same layer.
            if !to.exists() && fs::hard_link(&layer.file, &to).is_err() {
                fs::copy(&layer.file, &to).map_err(|e| Error::io("write", &to, e))?;
            }
            let synced = fs::File::open(&to).and_then(|file| file.sync_all());
            synced.map_err(|e| Error::io("sync", &to, e))?;
        }
        let layer = made.layer.as_ref().map(|l| (l.digest.clone(), l.size, l.diff_id.clone(), l.compression));
        account.made.push(SavedLayer { by: made.by.clone(), layer });
    }
    let path = folder.join(ACCOUNT);
    let text = serde_json::to_vec(&account).map_err(|e| Error::internal(format!("a checkpoint: {e}")))?;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&path).and_then(|mut file| {
        std::io::Write::write_all(&mut file, &text)?;
        file.sync_all()
    });
    written.map_err(|e| Error::io("write", &path, e))
}
