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
    fn first(&self) -> PathBuf {
        self.of(0)
    }

    /// The one of a number.
    pub(super) fn of(&self, number: usize) -> PathBuf {
        disk_path(&self.folder, &self.name, number)
    }

    /// All of them.
    pub(super) fn all(&self, vm: &Qemu) -> Vec<PathBuf> {
        (0..=vm.disk_additional_size.len()).map(|number| self.of(number)).collect()
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

    /// Makes them over others, which stay as they are.
    pub(super) async fn make_over(&self, vm: &Qemu, cx: &Context, others: &Self) -> Result<()> {
        for disk in 0..self.all(vm).len() {
            let (under, new) = (others.of(disk), self.of(disk));
            let under = std::path::absolute(&under).map_err(|e| Error::io("find", &under, e))?;
            if vm.image_format() == "qcow2" {
                overlay(cx, &new, &under.to_string_lossy(), "qcow2").await?;
            } else {
                cx.blocking(move |stop| kit::copy_file(stop, None, &under, &new)).await?;
            }
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
}

/// How the names of files under disks begin.
const LAYER: &str = ".layer-";

/// The disks of a machine that runs, each a file over those that are part of its saved states.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) disks: Disks,
    /// The image that the first disk lies over for good.
    backing: Option<PathBuf>,
    /// How many files of each disk are not written to any more.
    frozen: usize,
    /// Whether what is written to has another name than the disk.
    moved: bool,
}

impl Chain {
    pub(super) fn new(disks: Disks, backing: Option<PathBuf>, frozen: usize) -> Self {
        Self { disks, backing, frozen, moved: false }
    }

    /// The name of a file under a disk, relative to the folder: so a state may lie anywhere.
    pub(super) fn layer(disk: usize, number: usize) -> String {
        format!("{LAYER}{disk}-{number}")
    }

    pub(super) fn frozen(&self) -> usize {
        self.frozen
    }

    /// The file of a disk that is written to.
    pub(super) fn top(&self, disk: usize) -> PathBuf {
        match self.moved {
            true => self.disks.folder.join(Self::layer(disk, self.frozen)),
            false => self.disks.of(disk),
        }
    }

    /// The form of a file under a disk.
    pub(super) fn form(vm: &Qemu, number: usize) -> &str {
        if number == 0 { vm.image_format() } else { "qcow2" }
    }

    /// Makes the files that are to be written to next; their paths.
    pub(super) async fn make_tops(&self, vm: &Qemu, cx: &Context) -> Result<Vec<PathBuf>> {
        let folder = &self.disks.folder;
        let mut tops = Vec::new();
        for disk in 0..self.disks.all(vm).len() {
            let under = Self::layer(disk, self.frozen);
            if !self.moved {
                let (name, layer) = (self.disks.of(disk), folder.join(&under));
                std::fs::hard_link(&name, &layer).map_err(|e| Error::io("link", &layer, e))?;
            }
            let top = folder.join(Self::layer(disk, self.frozen + 1));
            overlay(cx, &top, &under, Self::form(vm, self.frozen)).await?;
            tops.push(std::path::absolute(&top).map_err(|e| Error::io("find", &top, e))?);
        }
        Ok(tops)
    }

    /// The machine writes to other files from here on.
    pub(super) fn moved(&mut self) {
        self.frozen += 1;
        self.moved = true;
    }

    /// Makes the image of each disk when the machine is off: the first one anew, without what the machine has freed, where the
    /// template wants that, and each that lies over others.
    pub(super) async fn finish(&mut self, vm: &Qemu, cx: &Context) -> Result<()> {
        let layered = self.frozen > 0;
        cx.say("Converting hard drive...");
        let failed = |e: Error| e.context("Error converting hard drive");
        for disk in 0..if layered { self.disks.all(vm).len() } else { 1 } {
            let (top, path) = (self.top(disk), self.disks.of(disk));
            match &self.backing {
                Some(backing) if disk == 0 && !vm.compacts() => {
                    rebase(cx, &top, backing).await.map_err(failed)?;
                    std::fs::rename(&top, &path).map_err(|e| failed(Error::io("rename", &top, e)))?;
                }
                _ => rewrite(vm, cx, &top, Self::form(vm, self.frozen), &path, disk == 0)
                    .await
                    .map_err(failed)?,
            }
        }
        (self.frozen, self.moved) = (0, false);
        Ok(())
    }

    /// Whether the image has to be made of what the machine has left.
    pub(super) fn is_unfinished(&self, vm: &Qemu) -> bool {
        self.frozen > 0 || vm.compacts()
    }

    /// Removes what lies under the disks, also of a state that could not be saved.
    pub(super) fn clear(&self) -> Result<()> {
        let folder = &self.disks.folder;
        for entry in std::fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))? {
            let entry = entry.map_err(|e| Error::io("read", folder, e))?;
            if entry.file_name().to_string_lossy().starts_with(LAYER) {
                std::fs::remove_file(entry.path()).map_err(|e| Error::io("remove", entry.path(), e))?;
            }
        }
        Ok(())
    }
}

/// Writes an image anew, in the place of what the path has.
async fn rewrite(vm: &Qemu, cx: &Context, from: &Path, form: &str, to: &Path, first: bool) -> Result<()> {
    /// How often an image is tried that a program still has open.
    const TRIES: u64 = 10;
    let mut new = to.as_os_str().to_owned();
    new.push(".convert");
    let new = PathBuf::from(new);
    let mut img = Program::new("qemu-img").arg("convert");
    if vm.disk_compression && first {
        img = img.arg("-c");
    }
    if form == "raw" {
        img = img.args(["-f", form]);
    }
    let img = img.args(vm.img_args().convert).args(["-O", vm.image_format()]).arg(from).arg(&new);
    let mut tried = 1;
    loop {
        match convert(cx, &img, from, &new).await {
            Err(e) if e.message().contains("Failed to get shared \"write\" lock") && tried < TRIES => {
                cx.say("Error getting file lock for conversion; retrying...");
                cx.sleep(Duration::from_secs(tried)).await?;
                tried += 1;
            }
            done => break done?,
        }
    }
    let to = to.to_owned();
    cx.blocking(move |_| {
        let synced = std::fs::File::open(&new).and_then(|file| file.sync_all());
        synced.map_err(|e| Error::io("sync", &new, e))?;
        std::fs::rename(&new, &to).map_err(|e| Error::io("rename", &new, e))
    })
    .await
}

/// Makes an image that lies over another one, whose path is seen from its folder.
pub(super) async fn overlay(cx: &Context, image: &Path, under: &str, form: &str) -> Result<()> {
    let img = Program::new("qemu-img").args(["create", "-f", "qcow2", "-F", form, "-b", under]).arg(image);
    run(cx, &img).await
}

/// Makes an image lie over another one than before, with the same content.
async fn rebase(cx: &Context, image: &Path, under: &Path) -> Result<()> {
    let img = Program::new("qemu-img").args(["rebase", "-f", "qcow2", "-F", "qcow2", "-b"]);
    run(cx, &img.arg(under).arg(image)).await
}

/// Writes an image as another one of a form.
pub(super) async fn rewrite_as(
    cx: &Context,
    form: &str,
    from: &Path,
    from_form: &str,
    to: &Path,
) -> Result<()> {
    let img = Program::new("qemu-img").args(["convert", "-f", from_form, "-O", form]).arg(from).arg(to);
    convert(cx, &img, from, to).await
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
pub(super) fn on_disk(path: &Path) -> Option<u64> {
    let meta = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    return Some(std::os::unix::fs::MetadataExt::blocks(&meta).saturating_mul(512));
    #[cfg(not(unix))]
    Some(meta.len())
}
