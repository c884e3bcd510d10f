//! The beginning and the end: a machine from its base or from a checkpoint, and the release of what was made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use packer_core::kit::blocking::Stop;
use packer_core::{Context, Error, Facts, Resource, Result};

use super::Oci;
use super::communicator::Inside;
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
            let under: Vec<String> = base.layers.iter().map(|layer| layer.digest.clone()).collect();
            progress.made =
                cx.blocking(move |stop| oci.restore(&folder, &under.join(" "), &tree, stop)).await?;
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

    /// Unpacks the layers of a checkpoint; what it has is checked as a base is.
    fn restore(&self, folder: &Path, base: &str, rootfs: &Rootfs, stop: &Stop) -> Result<Vec<Made>> {
        let path = folder.join(ACCOUNT);
        let text = layout::read_short(&path)?;
        let wrong =
            |what: &str| Error::user(format!("the checkpoint {} is not usable: {what}", folder.display()));
        let saved: Saved = serde_json::from_slice(&text).map_err(|e| wrong(&e.to_string()))?;
        if saved.base != base {
            return Err(wrong("it is of another base"));
        }
        let mut budget = self.budget();
        let mut made = Vec::new();
        for step in saved.made {
            let Some((digest, size, diff_id, compression)) = step.layer else {
                made.push(Made { by: step.by, layer: None });
                continue;
            };
            if !is_digest(&digest) {
                return Err(wrong("it is damaged"));
            }
            let file = folder.join(hex(&digest));
            let unpacked = unpack(rootfs, &file, true, &mut budget, stop)?;
            if unpacked.digest != digest {
                return Err(wrong_digest(&file.display().to_string(), &digest, &unpacked.digest));
            }
            made.push(Made { by: step.by, layer: Some(Layer { digest, size, diff_id, compression, file }) });
        }
        Ok(made)
    }
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
    use std::os::unix::fs::DirBuilderExt;
    if let Some(parent) = work.parent() {
        fs::create_dir_all(parent).map_err(|e| Error::io("mkdir", parent, e))?;
    }
    fs::DirBuilder::new().mode(0o700).create(work).map_err(|e| Error::io("mkdir", work, e))?;
    Rootfs::create(work.join("rootfs"))
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
