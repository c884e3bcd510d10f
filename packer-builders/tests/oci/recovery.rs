//! What later runs and recoveries leave of one another.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use packer_builders::Oci;
use packer_core::engine::LedgerState;
use packer_core::testing::{Bench, require};
use packer_core::{
    Build, Builder, CommunicatorExt, Engine, Ledger, LedgerFolder, Pipeline, Registry, Resource,
};

use crate::support::{busybox, busybox_image, failure, folder, host, image, run};

fn registry() -> Registry {
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    registry
}

/// Launches and captures as a run does that is killed before it hears of its artifact; gives its ledger.
async fn killed_while_capturing(folder: &Path, oci: &Oci, file: &str) -> std::path::PathBuf {
    let bench = Bench::with_host(host(folder));
    let machine = oci.launch(bench.context()).await.unwrap();
    machine.communicator().upload_bytes(bench.context(), file.as_bytes(), "/file").await.unwrap();
    machine.capture(bench.context()).await.unwrap();
    let ledgers = LedgerFolder::at(folder.join("ledger"));
    let ledger = ledgers.create().unwrap();
    for resource in bench.outstanding() {
        ledger.record(&in_ledger(resource)).unwrap();
    }
    ledger.path().to_owned()
}

/// What the bench's context says of who made it.
fn in_ledger(mut resource: Resource) -> Resource {
    if !resource.is_local() {
        resource.component = "oci".to_owned();
    }
    resource
}

async fn built(folder: &Path, oci: &Oci, file: &'static str) {
    let step = crate::support::text("/file", file);
    let engine = Engine::new().host(host(folder));
    let report = engine.run(Pipeline::of([Build::new("image", oci.clone()).provision(step)])).await.unwrap();
    assert!(report.succeeded(), "{:?}", report.builds[0].error);
}

async fn recover(folder: &Path, ledger: &Path) {
    let report = Engine::new().host(host(folder)).recovery(&registry()).file(ledger).await;
    assert_eq!(report.state, LedgerState::Finished, "{report:?}");
}

fn oci(folder: &Path, outputs: &[&str]) -> Oci {
    let outputs = outputs.iter().map(|output| output.replace("DIR", &folder.display().to_string()));
    Oci::scratch(outputs).source_date_epoch(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_takes_all_outputs_of_an_artifact_that_was_not_complete() {
    let folder = folder();
    let outputs = ["oci:DIR/img:base", "docker-archive:DIR/base.tar:bk/x:1", "oci-archive:DIR/arch.tar:z"];
    let oci = oci(folder.path(), &outputs);
    let ledger = killed_while_capturing(folder.path(), &oci, "content").await;
    let there = || ["img", "base.tar", "arch.tar"].map(|name| folder.path().join(name).exists());
    assert_eq!(there(), [true; 3]);
    recover(folder.path(), &ledger).await;
    assert_eq!(there(), [false; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_leaves_what_a_later_run_has_made_again() {
    let folder = folder();
    let outputs = ["oci:DIR/img:base", "oci-archive:DIR/arch.tar:z"];
    let oci = oci(folder.path(), &outputs);
    let layout = folder.path().join("img");
    // The same content, so the same digest.
    let dead = killed_while_capturing(folder.path(), &oci, "content").await;
    built(folder.path(), &oci, "content").await;
    let before = std::fs::read(layout.join("index.json")).unwrap();
    recover(folder.path(), &dead).await;
    assert_eq!(std::fs::read(layout.join("index.json")).unwrap(), before);
    assert_eq!(image(&layout, "base").layers.len(), 1);
    assert!(folder.path().join("arch.tar").exists(), "the file is another one");

    // And what an earlier run has made stays whatever a killed one did after it.
    let dead = killed_while_capturing(folder.path(), &oci, "content").await;
    recover(folder.path(), &dead).await;
    assert_eq!(image(&layout, "base").layers.len(), 1);
    let dead = killed_while_capturing(folder.path(), &oci, "other content").await;
    recover(folder.path(), &dead).await;
    assert_eq!(std::fs::read(layout.join("index.json")).unwrap(), before);
    assert_eq!(image(&layout, "base").layers.len(), 1);
}

/// Of two killed runs that made the same image, the earlier one's is removed once the later one has given it back.
#[tokio::test(flavor = "multi_thread")]
async fn two_killed_runs_leave_nothing() {
    let folder = folder();
    let oci = oci(folder.path(), &["oci:DIR/img:base"]);
    let first = killed_while_capturing(folder.path(), &oci, "content").await;
    let second = killed_while_capturing(folder.path(), &oci, "content").await;
    recover(folder.path(), &second).await;
    assert_eq!(image(&folder.path().join("img"), "base").layers.len(), 1);
    recover(folder.path(), &first).await;
    assert!(!folder.path().join("img").exists());
}

/// A pipe where a runtime or this program expects a file keeps nobody waiting.
#[tokio::test(flavor = "multi_thread")]
async fn pipes_in_images_are_refused() {
    let folder = crate::support::folder();
    let pipe = |path: &Path| {
        let _ = std::fs::remove_file(path);
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    if let Some(base) = busybox(folder.path()) {
        pipe(&base.join("etc/passwd"));
        let oci = Oci::from(format!("rootfs:{}", base.display())).output("oci:unused:x");
        if ["crun", "runc", "bwrap"].iter().any(|runtime| require(runtime).is_some()) {
            let error = failure(folder.path(), oci, vec![run("true")]).await;
            assert!(error.ends_with("its /etc/passwd is no regular file"), "{error}");
        }
        std::fs::remove_file(base.join("etc/passwd")).unwrap();
    }
    let folder = crate::support::folder();
    let Some(name) = busybox_image(folder.path()).await else { return };
    for part in ["layer", "manifest", "index.json"] {
        let layout = folder.path().join("base");
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap_or_default())
                .unwrap_or_default();
        let blob =
            |digest: &serde_json::Value| layout.join("blobs/sha256").join(&digest.as_str().unwrap()[7..]);
        let place = match part {
            "index.json" => layout.join("index.json"),
            part => {
                let manifest = blob(&index["manifests"][0]["digest"]);
                match part {
                    "manifest" => manifest,
                    _ => {
                        let manifest: serde_json::Value =
                            serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
                        blob(&manifest["layers"][0]["digest"])
                    }
                }
            }
        };
        let kept = std::fs::read(&place).unwrap();
        pipe(&place);
        let error = failure(folder.path(), Oci::from(&name).output("oci:unused:x"), Vec::new()).await;
        assert!(error.contains("no regular file"), "{part}: {error}");
        std::fs::remove_file(&place).unwrap();
        std::fs::write(&place, kept).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_states_are_their_owners_alone() {
    let folder = folder();
    let host = host(folder.path());
    let bench = Bench::with_host(host.clone());
    let oci = oci(folder.path(), &["oci:DIR/img:base"]);
    let machine = oci.launch(bench.context()).await.unwrap();
    machine.communicator().upload_bytes(bench.context(), b"secret", "/file").await.unwrap();
    let key = packer_core::CheckpointKey("0123456789ab".to_owned());
    let saved = machine.checkpoint(bench.context(), &key).await.unwrap().unwrap();
    let mut path = Path::new(&saved.name);
    while path != host.cache_dir {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        path = path.parent().unwrap();
    }
    for resource in bench.outstanding().iter().rev().filter(|r| !r.is_local()) {
        oci.release(bench.context(), resource).await.unwrap();
    }
}
