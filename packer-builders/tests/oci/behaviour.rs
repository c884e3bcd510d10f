//! The suites that every builder and every communicator passes.

use packer_builders::Oci;
use packer_core::testing::{Bench, builder, checkpoints, communicator};
use packer_core::{Builder, CommunicatorExt, Registry};

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
