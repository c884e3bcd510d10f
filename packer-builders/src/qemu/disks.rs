//! The disks of a machine: made, copied, given another size, and written anew when the machine is off. `qemu-img` does it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use packer_core::kit;
use packer_core::kit::process::Program;
use packer_core::{Context, Error, Result};

use super::{Qemu, disk_path};

/// The disks in the output folder.
#[derive(Debug, Clone)]
pub(super) struct Disks {
    pub(super) folder: PathBuf,
    pub(super) name: String,
}

impl Disks {
    /// The first one, which the machine boots from.
    pub(super) fn first(&self) -> PathBuf {
        disk_path(&self.folder, &self.name, 0)
    }

    /// All of them.
    pub(super) fn all(&self, vm: &Qemu) -> Vec<PathBuf> {
        (0..=vm.disk_additional_size.len())
            .map(|number| disk_path(&self.folder, &self.name, number))
            .collect()
    }

    /// Makes them; `source` is the image that the machine starts from.
    pub(super) async fn make(&self, vm: &Qemu, cx: &Context, source: Option<&Path>) -> Result<()> {
        cx.step("stepCreateDisk", self.create(vm, cx, source)).await?;
        let Some(source) = source else { return Ok(()) };
        if !vm.use_backing_file {
            cx.step("stepCopyDisk", Box::pin(self.copy(vm, cx, source))).await?;
        }
        if !vm.skip_resize_disk {
            cx.step("stepResizeDisk", self.resize(vm, cx)).await?;
        }
        Ok(())
    }

    async fn create(&self, vm: &Qemu, cx: &Context, source: Option<&Path>) -> Result<()> {
        let copied = source.is_some() && !vm.use_backing_file;
        if !vm.disk_additional_size.is_empty() || vm.use_backing_file {
            cx.say("Creating required virtual machine disks");
        }
        let first = (!copied).then(|| (vm.disk_size_text(), source));
        let more = vm.disk_additional_size.iter().map(|size| (size.clone(), None));
        let numbers = if copied { 1.. } else { 0.. };
        for (number, (size, base)) in numbers.zip(first.into_iter().chain(more)) {
            let mut img = Program::new("qemu-img").args(["create", "-f", vm.image_format()]);
            if let Some(base) = base {
                img = img.arg("-b").arg(base).args(["-F", "qcow2"]);
            }
            let path = disk_path(&self.folder, &self.name, number);
            let img = img.args(vm.img_args().create).arg(path).arg(size);
            run(cx, &img).await.map_err(|e| e.context("Error creating hard drive"))?;
        }
        Ok(())
    }

    async fn copy(&self, vm: &Qemu, cx: &Context, source: &Path) -> Result<()> {
        let target = self.first();
        let failed = |e: Error| e.context("Error copying hard drive");
        if source.extension().is_some_and(|extension| extension == vm.image_format()) {
            cx.say("File extension already matches desired output format. Skipping qemu-img convert step");
            let size = tokio::fs::metadata(source).await.map(|meta| meta.len()).ok();
            let progress = cx.progress("Copying hard drive", size);
            let source = source.to_owned();
            let copy = move |stop: &_| kit::copy_file(stop, Some(progress), &source, &target);
            return cx.blocking(copy).await.map_err(failed);
        }
        cx.say("Copying hard drive...");
        let img =
            Program::new("qemu-img").args(["convert", "-O", vm.image_format()]).arg(source).arg(&target);
        convert(cx, &img, source, &target).await.map_err(failed)
    }

    async fn resize(&self, vm: &Qemu, cx: &Context) -> Result<()> {
        cx.say("Resizing hard drive...");
        let img = Program::new("qemu-img").args(["resize", "-f", vm.image_format()]);
        let img = img.args(vm.img_args().resize).arg(self.first()).arg(vm.disk_size_text());
        run(cx, &img).await.map_err(|e| e.context("Error resizing hard drive"))
    }

    /// Writes the first disk anew, without what the machine has freed.
    pub(super) async fn compact(&self, vm: &Qemu, cx: &Context) -> Result<()> {
        /// How often an image is tried that a program still has open.
        const TRIES: u64 = 10;
        cx.say("Converting hard drive...");
        let path = self.first();
        let mut new = path.clone().into_os_string();
        new.push(".convert");
        let new = PathBuf::from(new);
        let mut img = Program::new("qemu-img").arg("convert");
        if vm.disk_compression {
            img = img.arg("-c");
        }
        let img = img.args(vm.img_args().convert).args(["-O", vm.image_format()]).arg(&path).arg(&new);
        let mut tried = 1;
        let done = loop {
            match convert(cx, &img, &path, &new).await {
                Err(e) if e.message().contains("Failed to get shared \"write\" lock") && tried < TRIES => {
                    cx.say("Error getting file lock for conversion; retrying...");
                    cx.sleep(Duration::from_secs(tried)).await?;
                    tried += 1;
                }
                done => break done,
            }
        };
        done.map_err(|e| e.context("Error converting hard drive"))?;
        cx.blocking(move |_| {
            let synced = std::fs::File::open(&new).and_then(|file| file.sync_all());
            synced.map_err(|e| Error::io("sync", &new, e))?;
            std::fs::rename(&new, &path).map_err(|e| Error::io("rename", &new, e))
        })
        .await
    }
}

/// The most that `qemu-img` may print.
const MOST: usize = 64 << 10;

async fn run(cx: &Context, img: &Program) -> Result<()> {
    let said = img.capture(cx, MOST).await?;
    if said.status.success() {
        return Ok(());
    }
    let words = said.stderr_text();
    match words.as_str() {
        "" => said.success().map(drop),
        words => Err(Error::provider(format!("QemuImg error: {words}"))),
    }
}

/// Runs a conversion, and tells how far it is: `qemu-img` itself says so only where it is asked at its start, with an argument
/// that it does not get here.
async fn convert(cx: &Context, img: &Program, from: &Path, to: &Path) -> Result<()> {
    /// How often the new file is looked at.
    const LOOK: Duration = Duration::from_millis(250);
    let done = run(cx, img);
    tokio::pin!(done);
    let mut progress = None;
    loop {
        match tokio::time::timeout(LOOK, &mut done).await {
            Ok(done) => return done,
            Err(_) => {
                let progress =
                    progress.get_or_insert_with(|| cx.progress("Writing the image", on_disk(from)));
                progress.set(on_disk(to).unwrap_or_default());
            }
        }
    }
}

/// How much room a file takes, which is less than its length where it has holes.
fn on_disk(path: &Path) -> Option<u64> {
    let meta = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    return Some(std::os::unix::fs::MetadataExt::blocks(&meta).saturating_mul(512));
    #[cfg(not(unix))]
    Some(meta.len())
}
