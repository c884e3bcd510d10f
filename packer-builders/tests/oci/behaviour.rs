//! The suites that every builder and every communicator passes.

use packer_builders::Oci;
use packer_core::testing::{Bench, FakeProvisioner, Trouble, boot_test, builder, checkpoints, communicator};
use packer_core::{Build, Builder, CommunicatorExt, Engine, Pipeline, Registry};

use crate::support::{busybox_image, folder, host};

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_rules_of_builders() {
    let folder = folder();
    let layout = folder.path().join("out");
    let archive = folder.path().join("out.tar");
    let make = || {
        Oci::scratch([
            format!("oci:{}:suite", layout.display()),
            format!("oci-archive:{}", archive.display()),
        ])
    };
    let host = host(folder.path());
    builder::suite(make, &host).await;
    assert!(!layout.exists(), "what was released takes the layout with it");
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    let recovering = || Oci::scratch([format!("oci:{}:suite", layout.display())]);
    builder::recovers(recovering, &registry, &host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_rules_of_boot_tests() {
    let folder = folder();
    let host = host(folder.path());
    let (layout, archive) = (folder.path().join("out"), folder.path().join("out.tar"));
    let in_layout = format!("oci:{}:suite", layout.display());
    for outputs in [
        vec![in_layout.clone()],
        vec![format!("oci:{}", layout.display())],
        vec![format!("oci-archive:{}", archive.display()), in_layout],
        vec![format!("docker-archive:{}:suite", archive.display())],
    ] {
        boot_test::suite(|| Oci::scratch(outputs.clone()), &host, "/marker").await;
        assert!(
            !layout.exists() && !archive.exists(),
            "what was released takes the layout with it: {outputs:?}"
        );
        assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0, "{outputs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_is_kept_and_the_tag_goes_back() {
    let folder = folder();
    let layout = folder.path().join("out");
    let made = |content: &'static str, test: FakeProvisioner| {
        let builder = Oci::scratch([format!("oci:{}:v1", layout.display())]).label("content", content);
        Build::new("a", builder).test(test)
    };
    let engine = Engine::new().host(host(folder.path()));
    let good = engine.run(Pipeline::of([made("good", FakeProvisioner::run(""))])).await.unwrap();
    assert!(good.succeeded(), "{:?}", good.builds[0].error);
    let bad = FakeProvisioner::run("").trouble(Trouble::Fail);
    let failed = engine.run(Pipeline::of([made("bad", bad)])).await.unwrap();
    let kept = format!("oci:{}:v1-failed-test", layout.display());
    assert_eq!(failed.builds[0].test.as_ref().unwrap().kept.as_deref(), Some(kept.as_str()));
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    let tag = |i: usize| manifests[i]["annotations"]["org.opencontainers.image.ref.name"].as_str();
    assert_eq!((manifests.len(), tag(0), tag(1)), (2, Some("v1"), Some("v1-failed-test")));
    assert_eq!(manifests[0]["digest"].as_str(), Some(good.builds[0].artifacts[0].id.as_str()));
    let pushed = Oci::scratch(["docker://localhost:1/a:1"]);
    let build = Build::new("a", pushed).test(FakeProvisioner::run(""));
    let refused = engine.run(Pipeline::of([build])).await.unwrap_err().to_string();
    assert!(refused.contains("would be pushed to docker://localhost:1/a:1 before it is tested"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_rules_of_checkpoints() {
    let folder = folder();
    let host = host(folder.path());
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    let layout = format!("oci:{}:suite", folder.path().join("out").display());
    let one = || Oci::scratch([&layout]);
    checkpoints::suite(one, &registry, &host, "/marker").await;
    let each = || Oci::scratch([&layout]).layer_per_provisioner();
    checkpoints::suite(each, &registry, &host, "/marker").await;
    let left = std::fs::read_dir(folder.path().join("cache/oci/checkpoints")).unwrap().count();
    assert_eq!(left, 0, "what was pruned is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_rules_of_communicators() {
    let folder = folder();
    let Some(base) = busybox_image(folder.path()).await else { return };
    for runtime in ["crun", "runc", "bwrap"] {
        let Some(program) = packer_core::testing::require(runtime) else { continue };
        // Only this one is on the PATH.
        let bin = folder.path().join(format!("only-{runtime}"));
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(&program, bin.join(runtime)).unwrap();
        let mut host = host(folder.path());
        host.env.insert("PATH".into(), bin.display().to_string());
        let bench = Bench::with_host(host);
        let oci = Oci::from(&base).output("oci:unused:x");
        let machine = oci.launch(bench.context()).await.unwrap();
        match machine.communicator().output(bench.context(), "true").await {
            Ok(_) => communicator::suite(machine.communicator().as_ref(), bench.context()).await,
            Err(error) => {
                // An old crun and a kernel with both kinds of control groups do not go together.
                assert!(runtime == "crun" && error.to_string().contains("cgroups in hybrid mode"), "{error}");
                eprintln!("skipped: crun does not run on this kernel");
            }
        }
        for resource in bench.outstanding().iter().rev().filter(|r| !r.is_local()) {
            oci.release(bench.context(), resource).await.unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0, "{runtime}");
    }
}
