//! What the tests share: a small root filesystem, builds, and images taken apart.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use packer_builders::Oci;
use packer_core::ledger::Ledger;
use packer_core::testing::{Recorder, TempFolder, require};
use packer_core::{
    Build, Context, Engine, Host, Machine, MemoryLedger, Pipeline, Provisioner, Report, Result, async_trait,
};

/// What the process has, and temporary files in a folder of the test's.
pub(crate) fn host(folder: &Path) -> Host {
    let mut host = Host::new();
    host.temp_dir = folder.join("tmp");
    host.cache_dir = folder.join("cache");
    host.env.insert("PATH".into(), std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin");
    host.env.insert("HOME".into(), folder.display().to_string());
    host
}

/// A root filesystem with a shell, in a folder.
pub(crate) fn busybox(folder: &Path) -> Option<PathBuf> {
    let program = require("busybox")?;
    let root = folder.join("busybox");
    for name in ["bin", "etc", "tmp", "proc", "dev", "sys", "root", "var"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::copy(&program, root.join("bin/busybox")).unwrap();
    let list = Command::new(&program).arg("--list").output().unwrap();
    for name in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    Some(root)
}

/// An image of that in a layout.
pub(crate) async fn busybox_image(folder: &Path) -> Option<String> {
    let root = busybox(folder)?;
    let name = format!("oci:{}:busybox", folder.join("base").display());
    let oci = Oci::from(format!("rootfs:{}", root.display())).output(&name).cmd(["/bin/sh"]);
    built(folder, oci.env("FROM", "base"), Vec::new()).await;
    Some(name)
}

#[derive(Clone)]
pub(crate) enum Work {
    Run(String),
    Upload(PathBuf, String),
    UploadDir(PathBuf, String),
    Text(String, String),
}

/// Runs commands in the machine.
pub(crate) fn run(text: &str) -> Work {
    Work::Run(text.to_owned())
}

/// Writes a file in the machine.
pub(crate) fn text(path: &str, content: &str) -> Work {
    Work::Text(path.to_owned(), content.to_owned())
}

#[async_trait]
impl Provisioner for Work {
    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()> {
        use packer_core::{CommunicatorExt, Error, Globs};
        let communicator = machine.communicator();
        match self {
            Self::Run(text) => match communicator.run(cx, text).await? {
                status if status.success() => Ok(()),
                status => Err(Error::guest(format!("{text:?} ended with {}", status.code()))),
            },
            Self::Upload(from, to) => communicator.upload_file(cx, from, to).await,
            Self::UploadDir(from, to) => communicator.upload_dir(cx, from, to, &Globs::none()).await,
            Self::Text(path, content) => communicator.upload_bytes(cx, content.as_bytes(), path).await,
        }
    }

    fn runs_commands(&self) -> bool {
        matches!(self, Self::Run(_))
    }
}

/// Builds; the report and what was said.
pub(crate) async fn build_on(host: Host, oci: Oci, steps: Vec<Work>) -> (Report, Recorder) {
    let (recorder, ledger) = (Recorder::new(), Arc::new(MemoryLedger::new()));
    let mut build = Build::new("image", oci);
    for step in steps {
        build = build.provision(step);
    }
    let engine = Engine::new().host(host).events(recorder.clone()).ledger(ledger.clone());
    let report = engine.run(Pipeline::of([build])).await.unwrap();
    assert!(ledger.outstanding().is_empty(), "left: {:?}", ledger.outstanding());
    (report, recorder)
}

/// Builds what has to succeed.
pub(crate) async fn built(folder: &Path, oci: Oci, steps: Vec<Work>) -> Report {
    let (report, recorder) = build_on(host(folder), oci, steps).await;
    assert!(report.succeeded(), "{:?}\n{}", report.builds[0].error, recorder.lines().join("\n"));
    let left: Vec<_> = std::fs::read_dir(folder.join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "temporary files: {left:?}");
    report
}

/// Builds what has to fail; why it did.
pub(crate) async fn failure(folder: &Path, oci: Oci, steps: Vec<Work>) -> String {
    let (report, _) = build_on(host(folder), oci, steps).await;
    let error = report.builds[0].error.as_ref().expect("a build that fails").to_string();
    let left = std::fs::read_dir(folder.join("tmp")).map(Iterator::count).unwrap_or(0);
    assert_eq!(left, 0, "temporary files");
    error
}

/// An image of a layout, taken apart.
pub(crate) struct Image {
    pub manifest: serde_json::Value,
    pub config: serde_json::Value,
    /// By layer: paths, and what `tar -tv` is about: kind, mode, owner, link.
    pub layers: Vec<BTreeMap<String, String>>,
}

pub(crate) fn image(layout: &Path, tag: &str) -> Image {
    let json = |path: PathBuf| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
            .unwrap()
    };
    let index = json(layout.join("index.json"));
    let named = |m: &&serde_json::Value| m["annotations"]["org.opencontainers.image.ref.name"] == tag;
    let found = index["manifests"].as_array().unwrap().iter().find(named).expect("the tag");
    let blob = |value: &serde_json::Value| {
        let digest = value["digest"].as_str().unwrap();
        let path = layout.join("blobs").join(digest.replace(':', "/"));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), value["size"].as_u64().unwrap());
        let sum = Command::new("sha256sum").arg(&path).output().unwrap();
        assert!(digest.ends_with(std::str::from_utf8(&sum.stdout).unwrap().split(' ').next().unwrap()));
        path
    };
    let manifest = json(blob(found));
    let config = json(blob(&manifest["config"]));
    let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| listing(&blob(layer))).collect();
    Image { manifest, config, layers }
}

fn listing(layer: &Path) -> BTreeMap<String, String> {
    let packed = std::fs::read(layer).unwrap();
    let mut bytes = Vec::new();
    if packed.starts_with(&[0x1f, 0x8b]) {
        std::io::copy(&mut flate2::read::MultiGzDecoder::new(&packed[..]), &mut bytes).unwrap();
    } // else nobody looks into it
    let mut tar = tar::Archive::new(&bytes[..]);
    let entries = tar.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let header = entry.header();
        let link = entry.link_name().unwrap().map(|l| format!(" -> {}", l.display())).unwrap_or_default();
        let (mode, uid, gid) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        let kind = header.entry_type().as_byte() as char;
        (entry.path().unwrap().display().to_string(), format!("{kind} {mode:o} {uid}:{gid}{link}"))
    });
    entries.collect()
}

/// Runs a program that has to succeed; what it prints.
pub(crate) fn output(program: &Path, arguments: &[&str]) -> String {
    let run = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{} {arguments:?}: {errors}", program.display());
    String::from_utf8_lossy(&run.stdout).trim().to_owned()
}

/// A folder of its own for a test.
pub(crate) fn folder() -> TempFolder {
    TempFolder::new()
}
