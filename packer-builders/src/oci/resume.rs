//! The beginning and the end: a machine from its base or from a checkpoint, and the release of what was made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use packer_core::kit::blocking::Stop;
use packer_core::{Artifact, Context, Error, Facts, Resource, Result};

use super::Oci;
use super::base::{Base, file_digest};
use super::communicator::Inside;
use super::finish::Finish;
use super::layer::{Layer, Times, hex, is_digest, unpack};
use super::machine::{ACCOUNT, Made, OciMachine, Progress, Saved};
use super::registry::wrong_digest;
use super::rootfs::Rootfs;
use super::runtime::{self, Runner};
use super::{Layers, layout};

impl Oci {
    /// Unpacks the base, and what a checkpoint holds over it.
    pub(super) async fn start(&self, cx: &Context, checkpoint: Option<&Resource>) -> Result<OciMachine> {
        let (request, outputs) = (self.request()?, self.outputs()?);
        let epoch = self.epoch(cx.env("SOURCE_DATE_EPOCH"))?;
        let times = Times { epoch, began: cx.started().as_second() };
        let name = format!("packer-oci-{}", unique(cx));
        let work = cx.host().temp_dir.join(&name);
        let work = std::path::absolute(&work).map_err(|e| Error::io("mkdir", &work, e))?;
        let made = work.clone();
        let resource = Resource::new("rootfs", work.to_string_lossy());
        let rootfs = cx.own(resource, async move { make(&made) }).await?;
        let rootfs = Arc::new(rootfs);
        let empty = scan(cx, &rootfs).await?;
        cx.say(match self.base.as_str() {
            "" | "scratch" => "Starting from scratch".to_owned(),
            base => format!("Starting from {base}"),
        });
        let base = cx.step("StepUnpackBase", request.unpack(cx, &work, &rootfs)).await?;
        // What is no image has no layers: all of it is new.
        let before = if base.layers.is_empty() { empty } else { scan(cx, &rootfs).await? };
        let mut progress = Progress { base: before.clone(), last: before, ..Progress::default() };
        if let Some(checkpoint) = checkpoint {
            let (folder, tree, oci) = (PathBuf::from(&checkpoint.name), rootfs.clone(), self.clone());
            let under = digests(&base);
            progress.made = cx.blocking(move |stop| oci.restore(&folder, &under, &tree, stop)).await?;
            progress.last = scan(cx, &rootfs).await?;
        }
        let (env, folder) = self.surroundings(&base.config, &rootfs)?;
        let runtimes = runtime::find(cx.env("PATH"));
        let runner = Runner::new(rootfs.clone(), work.clone(), runtimes, env, folder.clone());
        let inside = Inside { rootfs: rootfs.clone(), runner, folder, owner: self.owner()? };
        let machine = OciMachine {
            oci: self.clone(),
            outputs,
            rootfs,
            work,
            inside: Arc::new(inside),
            facts: Facts::new().id(&name).with("ConnType", "oci").with("ImageSha256", ""),
            base: Arc::new(base),
            times,
            progress: Arc::new(Mutex::new(progress)),
        };
        if self.layers == Layers::PerProvisioner && checkpoint.is_none() && machine.is_bare() {
            machine.seal(cx, format!("packer: base {}", self.base), self.compression).await?;
        }
        Ok(machine)
    }

    /// Makes the image of a checkpoint whose layers are its own, without a tree. `None` where the image has one layer: that
    /// is made of what all steps left behind, and so of a tree.
    pub(super) async fn capture_layers(
        &self,
        cx: &Context,
        checkpoint: &Resource,
    ) -> Result<Option<Artifact>> {
        if self.layers != Layers::PerProvisioner {
            return Ok(None);
        }
        let (request, outputs) = (self.request()?, self.outputs()?);
        let epoch = self.epoch(cx.env("SOURCE_DATE_EPOCH"))?;
        let times = Times { epoch, began: cx.started().as_second() };
        let work = cx.host().temp_dir.join(format!("packer-oci-{}", unique(cx)));
        let work = std::path::absolute(&work).map_err(|e| Error::io("mkdir", &work, e))?;
        let (resource, made) = (Resource::new("rootfs", work.to_string_lossy()), work.clone());
        cx.own(resource, async move { make_folder(&made) }).await?;
        let base = cx.step("StepFetchBase", request.layers(cx, &work)).await?;
        let folder = PathBuf::from(&checkpoint.name);
        let under = digests(&base);
        let made = cx.blocking(move |stop| saved_layers(&folder, &under, stop)).await?;
        let finish = Finish { oci: self, outputs: &outputs, base: &base, times };
        let image = cx.step("StepPackImage", async { finish.image(made) }).await?;
        finish.artifact(cx, image).await.map(Some)
    }

    /// Unpacks the layers of a checkpoint; what it has is checked as a base is.
    fn restore(&self, folder: &Path, base: &str, rootfs: &Rootfs, stop: &Stop) -> Result<Vec<Made>> {
        let made = account(folder, base)?;
        let mut budget = self.budget();
        for Layer { digest, file, .. } in made.iter().filter_map(|made| made.layer.as_ref()) {
            let unpacked = unpack(rootfs, file, true, &mut budget, stop)?;
            if unpacked.digest != *digest {
                return Err(wrong_digest(&file.display().to_string(), digest, &unpacked.digest));
            }
        }
        Ok(made)
    }
}

/// What a checkpoint says of itself; its layers are not looked at.
fn account(folder: &Path, base: &str) -> Result<Vec<Made>> {
    let text = layout::read_short(&folder.join(ACCOUNT))?;
    let wrong =
        |what: &str| Error::user(format!("the checkpoint {} is not usable: {what}", folder.display()));
    let saved: Saved = serde_json::from_slice(&text).map_err(|e| wrong(&e.to_string()))?;
    if saved.base != base {
        return Err(wrong("it is of another base"));
    }
    let made = saved.made.into_iter().map(|step| {
        let layer = match step.layer {
            Some((digest, size, diff_id, compression)) if is_digest(&digest) => {
                let file = folder.join(hex(&digest));
                Some(Layer { digest, size, diff_id, compression, file })
            }
            Some(_) => return Err(wrong("it is damaged")),
            None => None,
        };
        Ok(Made { by: step.by, layer })
    });
    made.collect()
}

/// The layers of a checkpoint, packed as they are; each is looked at whether it is still what it was.
fn saved_layers(folder: &Path, base: &str, stop: &Stop) -> Result<Vec<Made>> {
    let made = account(folder, base)?;
    for Layer { digest, file, size, .. } in made.iter().filter_map(|made| made.layer.as_ref()) {
        let there = fs::metadata(file).map_err(|e| Error::io("open", file, e))?;
        let found = match there.is_file() && there.len() == *size {
            true => file_digest(file, stop)?,
            false => format!("{} bytes", there.len()),
        };
        if found != *digest {
            return Err(wrong_digest(&file.display().to_string(), digest, &found));
        }
    }
    Ok(made)
}

/// What a base is known by to the checkpoints over it.
fn digests(base: &Base) -> String {
    base.layers.iter().map(|layer| layer.digest.as_str()).collect::<Vec<_>>().join(" ")
}

impl OciMachine {
    /// Whether the base brought files and no layers.
    fn is_bare(&self) -> bool {
        self.base.layers.is_empty() && self.oci.base.starts_with("rootfs:")
    }
}

/// Names a working folder; `Base` is told apart by it too.
fn unique(cx: &Context) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    /// Tells the machines of one process apart; it holds no other state.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", cx.run_id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

async fn scan(cx: &Context, rootfs: &Arc<Rootfs>) -> Result<super::rootfs::Snapshot> {
    let rootfs = rootfs.clone();
    cx.blocking(move |stop| rootfs.scan(stop)).await
}

/// Makes the working folder, which nobody else may look into.
fn make(work: &Path) -> Result<Rootfs> {
    make_folder(work)?;
    Rootfs::create(work.join("rootfs"))
}

fn make_folder(work: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(parent) = work.parent() {
        fs::create_dir_all(parent).map_err(|e| Error::io("mkdir", parent, e))?;
    }
    fs::DirBuilder::new().mode(0o700).create(work).map_err(|e| Error::io("mkdir", work, e))
}

/// Releases a resource of this builder's, in whatever process.
pub(super) async fn release(cx: &Context, resource: &Resource) -> Result<()> {
    let (resource, inner) = (resource.clone(), cx.clone());
    let path = PathBuf::from(&resource.name);
    match resource.kind.as_str() {
        "image" => cx.blocking(move |stop| layout::release(&inner, &resource, stop)).await,
        "rootfs" => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.starts_with("packer-oci-") {
                return Err(Error::internal(format!(
                    "{resource} is not removed: its name is not one of ours"
                )));
            }
            cx.blocking(move |_| {
                runtime::kill_inhabitants(&path.join("rootfs"))?;
                remove(&path)
            })
            .await
        }
        "checkpoint" => {
            if !path.components().any(|part| part.as_os_str() == "checkpoints") {
                return Err(Error::internal(format!(
                    "{resource} is not removed: its name is not one of ours"
                )));
            }
            cx.blocking(move |_| remove(&path)).await
        }
        _ => Err(Error::internal(format!("nothing is known about how to release {resource}"))),
    }
}

/// Removes a folder with all that is in it, also what shuts its owner out.
fn remove(folder: &Path) -> Result<()> {
    let failed = |e| Error::io("remove", folder, e);
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // What could not even be made: something on the way is no folder.
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(folder).map_err(failed)?;
            fs::remove_dir_all(folder).map_err(failed)
        }
        // Something was written meanwhile, by work that ends just now.
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Err(failed(e).retryable()),
        Err(e) => Err(failed(e)),
    }
}

fn open_up(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(())
}
