//! Bases that other people made: hostile, damaged, strange.

use std::io::Write;
use std::path::{Path, PathBuf};

use packer_builders::Oci;
use packer_core::testing::Bench;
use packer_core::{Builder, CheckpointKey, CommunicatorExt};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use crate::support::{built, busybox_image, failure, folder, host, image, run, text};

/// A tar under construction, with whatever names one wants.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, kind: EntryType, path: &str, link: &str, content: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(42);
        header.set_mtime(1000);
        header.set_size(content.len() as u64);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..path.len()].copy_from_slice(path.as_bytes());
        ustar.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, path, "", content.as_bytes())
    }

    fn dir(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", b"")
    }

    fn link(self, path: &str, to: &str) -> Self {
        self.entry(EntryType::Symlink, path, to, b"")
    }

    fn hard(self, path: &str, to: &str) -> Self {
        self.entry(EntryType::Link, path, to, b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A layout of plain layers; `spoil` changes the manifest.
fn layout(folder: &Path, layers: &[Vec<u8>], spoil: impl Fn(&mut serde_json::Value)) -> String {
    let out = folder.join(format!("hostile-{}", std::fs::read_dir(folder).unwrap().count()));
    let blobs = out.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = digest(bytes);
        std::fs::write(blobs.join(&digest[7..]), bytes).unwrap();
        json!({"digest": digest, "size": bytes.len(), "mediaType": "application/vnd.oci.image.layer.v1.tar"})
    };
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(&unpacked(layer))).collect();
    let config = json!({"os": "linux", "architecture": "amd64", "config": null, "history": null,
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let mut manifest = json!({
        "schemaVersion": 2, "config": put(config.to_string().as_bytes()),
        "layers": layers.iter().map(|layer| put(layer)).collect::<Vec<_>>(),
    });
    spoil(&mut manifest);
    let mut found = put(manifest.to_string().as_bytes());
    found["mediaType"] = "application/vnd.oci.image.manifest.v1+json".into();
    std::fs::write(out.join("index.json"), json!({"schemaVersion": 2, "manifests": [found]}).to_string())
        .unwrap();
    std::fs::write(out.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    format!("oci:{}", out.display())
}

fn unpacked(layer: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match layer.starts_with(&[0x1f, 0x8b]) {
        true => drop(std::io::copy(&mut flate2::read::MultiGzDecoder::new(layer), &mut bytes).unwrap()),
        false => bytes.extend_from_slice(layer),
    }
    bytes
}

fn out(folder: &Path) -> String {
    format!("oci:{}:image", folder.join("out").display())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leads_out_of_the_tree() {
    let folder = folder();
    let victim = folder.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("file"), "precious").unwrap();
    let outside = victim.display().to_string();
    let outside_file = format!("{outside}/file");
    for (what, layers, told) in [
        ("a path that climbs", vec![Tar::default().file("a/../../x", "1").end()], "`..`"),
        ("a hard link that climbs", vec![Tar::default().hard("x", "../../file").end()], "`..`"),
        (
            "a hard link to a file outside",
            vec![Tar::default().hard("x", &outside_file).end()],
            "no such file",
        ),
        ("gone: nothing", vec![Tar::default().file("a/.wh...", "").end()], "but not what"),
        ("a file that is the root", vec![Tar::default().file("./", "x").end()], "no name for a file"),
        ("no tar at all", vec![b"this is no tar".repeat(100)], "no tar"),
        (
            "a tar that breaks off",
            vec![Tar::default().file("a", &"x".repeat(2000)).end()[..1000].to_vec()],
            "too early",
        ),
        (
            "a strange entry",
            vec![Tar::default().entry(EntryType::new(b'Q'), "a", "", b"").end()],
            "not understood",
        ),
    ] {
        let base = layout(folder.path(), &layers, |_| {});
        let error = failure(folder.path(), Oci::from(base).output(out(folder.path())), vec![]).await;
        assert!(error.contains(told), "{what}: {error}");
    }
    // What is strange, but has a meaning inside, is done inside.
    let up = "../".repeat(20);
    let layers = [
        Tar::default()
            .link("escape", &outside)
            .link("up", &up)
            .file("escape/planted", "1")
            .file(&format!("up{outside}/planted2"), "2")
            .file("/absolute", "3")
            .dir("lower")
            .file("lower/a", "1")
            .file("lower/b", "1")
            .file("plain", "1")
            .entry(EntryType::Char, "null", "", b"")
            .end(),
        // What is gone is meant of the layers below, wherever it stands; through links it stays inside.
        Tar::default()
            .file("lower/c", "2")
            .file("lower/.wh..wh..opq", "")
            .file("lower/d", "2")
            .file("plain", "2")
            .file(".wh.plain", "")
            .file(".wh.missing", "")
            .file("escape/.wh.file", "")
            .file(".wh..wh.plnk", "")
            .hard("linked", "up/absolute")
            .end(),
    ];
    let base = layout(folder.path(), &layers, |_| {});
    let bench = Bench::with_host(host(folder.path()));
    let oci = Oci::from(&base).output(out(folder.path()));
    let machine = oci.launch(bench.context()).await.unwrap();
    let inside = machine.communicator();
    let read = async |path: &str| {
        inside.read(bench.context(), path).await.map(|b| String::from_utf8(b).unwrap()).ok()
    };
    assert_eq!(read(&format!("{outside}/planted")).await.as_deref(), Some("1"));
    assert_eq!(read(&format!("{outside}/planted2")).await.as_deref(), Some("2"));
    assert_eq!(read("/linked").await.as_deref(), Some("3"));
    assert_eq!(read("/plain").await.as_deref(), Some("2"), "a mark is not meant of its own layer");
    assert_eq!(read("/lower/a").await, None);
    assert_eq!(
        (read("/lower/c").await.as_deref(), read("/lower/d").await.as_deref()),
        (Some("2"), Some("2"))
    );
    // Uploads through links stay inside as well.
    inside.upload_bytes(bench.context(), b"new", "/escape/file").await.unwrap();
    inside.upload_bytes(bench.context(), b"new", &format!("/up{outside}/file2")).await.unwrap();
    assert_eq!(read("/escape/file").await.as_deref(), Some("new"));
    assert_eq!(std::fs::read_to_string(victim.join("file")).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 1, "nothing was planted");
    let tree: Vec<PathBuf> =
        std::fs::read_dir(folder.path().join("tmp")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(!tree[0].join("rootfs/null").exists(), "devices are not made on this computer");
    for resource in bench.outstanding().iter().rev().filter(|r| !r.is_local()) {
        oci.release(bench.context(), resource).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_it_says_is_refused() {
    let folder = folder();
    let good = || vec![Tar::default().file("a", "1").end()];
    let oci = |base: String| Oci::from(base).output(out(folder.path()));
    let changed = layout(folder.path(), &good(), |_| {});
    let blobs = PathBuf::from(changed.strip_prefix("oci:").unwrap()).join("blobs/sha256");
    let layer = blobs.join(&digest(&good()[0])[7..]);
    let mut bytes = std::fs::read(&layer).unwrap();
    bytes[512] ^= 1;
    std::fs::write(&layer, bytes).unwrap();
    let error = failure(folder.path(), oci(changed), vec![]).await;
    assert!(error.contains("layer 1 of the base: the content has the digest"), "{error}");
    for wrong in ["sha256:../../../../etc/passwd", &format!("sha512:{}", "a".repeat(128))] {
        let base = layout(folder.path(), &good(), |manifest| manifest["layers"][0]["digest"] = json!(wrong));
        let error = failure(folder.path(), oci(base), vec![]).await;
        assert!(error.contains("is no sha256 digest"), "{error}");
    }
    let more = layout(folder.path(), &good(), |manifest| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"].as_array_mut().unwrap().push(layer);
    });
    let error = failure(folder.path(), oci(more), vec![]).await;
    assert!(error.contains("2 layers, but its configuration tells of 1"), "{error}");
    let error = failure(folder.path(), oci(format!("oci:{}/none:x", folder.path().display())), vec![]).await;
    assert!(error.contains("no such file"), "{error}");
    let tagged = layout(folder.path(), &good(), |_| {});
    let error = failure(folder.path(), oci(format!("{tagged}:nope")), vec![]).await;
    assert!(error.contains("has no image with the tag \"nope\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_does_not_go_off() {
    let folder = folder();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&Tar::default().entry(EntryType::Regular, "zeros", "", &vec![0; 40 << 20]).end()).unwrap();
    let layer = gzip.finish().unwrap();
    let base = layout(folder.path(), &[layer], |_| {});
    let mut oci = Oci::from(base).output(out(folder.path()));
    oci.base_limit = Some(10 << 20);
    let error = failure(folder.path(), oci.clone(), vec![]).await;
    assert!(error.contains("larger than base_limit allows"), "{error}");
    oci.base_limit = Some(50 << 20);
    built(folder.path(), oci, vec![]).await;
    // A name of a gigabyte is no name.
    let mut long = Header::new_ustar();
    long.set_entry_type(EntryType::XHeader);
    long.set_size(1 << 30);
    long.set_cksum();
    let base = layout(folder.path(), &[long.as_bytes().to_vec()], |_| {});
    let error = failure(folder.path(), Oci::from(base).output(out(folder.path())), vec![]).await;
    assert!(error.contains("too long"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_modes_and_devices_outlive_the_build() {
    let folder = folder();
    let tree = Tar::default()
        .dir("etc")
        .entry(EntryType::Regular, "etc/shadow", "", b"secret")
        .link("etc/link", "shadow")
        .entry(EntryType::Char, "dev-null", "", b"")
        .entry(EntryType::Fifo, "pipe", "", b"")
        .end();
    let file = folder.path().join("tree.tar");
    std::fs::write(&file, tree).unwrap();
    let oci = Oci::from(format!("rootfs:{}", file.display())).output(out(folder.path()));
    built(folder.path(), oci, vec![text("/etc/more", "x")]).await;
    let made = image(&folder.path().join("out"), "image");
    let listed: Vec<(&str, &str)> = made.layers[0].iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expected = [
        ("dev-null", "3 755 0:42"),
        ("etc/", "5 755 0:42"),
        ("etc/link", "2 777 0:42 -> shadow"),
        ("etc/more", "0 644 0:0"),
        ("etc/shadow", "0 755 0:42"),
        ("pipe", "6 755 0:42"),
    ];
    assert_eq!(listed, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_layers() {
    let folder = folder();
    let Some(base) = busybox_image(folder.path()).await else { return };
    for oci in [
        Oci::from(&base).output(out(folder.path())).source_date_epoch(1_700_000_000),
        Oci::from(&base).output(out(folder.path())).source_date_epoch(1_700_000_000).layer_per_provisioner(),
    ] {
        let steps = || vec![run("echo 1 > /one && rm /bin/yes"), run("echo 2 >> /one && mkdir /two")];
        let whole = built(folder.path(), oci.clone(), steps()).await;
        let bench = Bench::with_host(host(folder.path()));
        let cx = bench.context();
        let machine = oci.launch(cx).await.unwrap();
        let status = machine.communicator().run(cx, "echo 1 > /one && rm /bin/yes").await.unwrap();
        assert!(status.success());
        machine.step_done(cx, "provision with work").await.unwrap();
        let checkpoint =
            machine.checkpoint(cx, &CheckpointKey("0123456789abcdef".into())).await.unwrap().unwrap();
        assert!(checkpoint.details["size"].as_u64().unwrap() > 0);
        drop(machine);
        // Another process goes on from there.
        let machine = oci.resume(cx, &checkpoint).await.unwrap();
        assert!(machine.communicator().run(cx, "echo 2 >> /one && mkdir /two").await.unwrap().success());
        machine.step_done(cx, "provision with work").await.unwrap();
        let artifact = machine.capture(cx).await.unwrap();
        let layers = |artifact: &packer_core::Artifact| artifact.metadata["Layers"].clone();
        assert_eq!(layers(&artifact), layers(whole.artifacts().next().unwrap()), "the same as in one go");
        // One that was damaged is refused.
        let folder_of = PathBuf::from(&checkpoint.name);
        let blob = std::fs::read_dir(&folder_of)
            .unwrap()
            .map(|e| e.unwrap().path())
            .find(|p| p.extension().is_none());
        let blob = blob.unwrap();
        let mut bytes = std::fs::read(&blob).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::remove_file(&blob).unwrap();
        std::fs::write(&blob, bytes).unwrap();
        assert!(oci.resume(cx, &checkpoint).await.is_err());
        for resource in bench.outstanding().iter().rev().filter(|r| !r.is_local()) {
            Oci::default().release(cx, resource).await.unwrap();
        }
        assert!(!folder_of.exists());
        assert!(oci.resume(cx, &checkpoint).await.is_err(), "one that is gone, too");
        for resource in bench.outstanding().iter().rev().filter(|r| !r.is_local()) {
            Oci::default().release(cx, resource).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_image_says_leaves_checkpoints_valid() {
    let folder = folder();
    let Some(base) = busybox_image(folder.path()).await else { return };
    let reused = async |oci: Oci| {
        let mut registry = packer_core::Registry::new();
        packer_builders::register(&mut registry);
        let cache = packer_core::engine::Cache::new(folder.path().join("steps"), registry);
        let work = packer_core::testing::FakeProvisioner::run("echo $X > /one");
        let pipeline = packer_core::Pipeline::of([packer_core::Build::new("image", oci).provision(work)]);
        let engine = packer_core::Engine::new().host(host(folder.path())).cache(cache);
        let report = engine.run(pipeline).await.unwrap();
        assert!(report.succeeded(), "{:?}", report.builds[0].error);
        report.builds[0].cache.as_ref().unwrap().reused()
    };
    let oci = || Oci::from(&base).source_date_epoch(1_700_000_000);
    assert_eq!(reused(oci().output(out(folder.path()))).await, 0);
    let other = format!("oci:{}:other", folder.path().join("elsewhere").display());
    assert_eq!(reused(oci().output(&other).cmd(["/bin/ls"]).label("a", "b")).await, 1);
    let made = image(&folder.path().join("elsewhere"), "other");
    assert_eq!(made.config["config"]["Cmd"], serde_json::json!(["/bin/ls"]));
    assert_eq!(made.config["config"]["Labels"]["a"], "b");
    assert!(made.layers.iter().any(|layer| layer.keys().any(|path| path.ends_with("one"))));
    assert_eq!(reused(oci().output(out(folder.path())).env("X", "y")).await, 0, "commands see it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_layers_are_all_saved_is_made_without_a_tree() {
    let folder = folder();
    let Some(base) = busybox_image(folder.path()).await else { return };
    let archive = format!("docker-archive:{}", folder.path().join("image.tar").display());
    let oci = || {
        let oci = Oci::from(&base).layer_per_provisioner().source_date_epoch(1_700_000_000);
        oci.output(out(folder.path())).output(&archive)
    };
    let mut registry = packer_core::Registry::new();
    packer_builders::register(&mut registry);
    let cache = packer_core::engine::Cache::new(folder.path().join("steps"), registry);
    let build = async || {
        let step = packer_core::testing::FakeProvisioner::run;
        let build = packer_core::Build::new("image", oci());
        let build = build.provision(step("echo 1 > /one && rm /bin/yes")).provision(step("true"));
        let heard = packer_core::testing::Recorder::new();
        let engine = packer_core::Engine::new().host(host(folder.path())).cache(cache.clone());
        let run = engine.events(heard.clone()).run(packer_core::Pipeline::of([build])).await.unwrap();
        assert!(run.succeeded(), "{:?}", run.builds[0].error);
        let reused = run.builds[0].cache.as_ref().unwrap().reused();
        let artifact = run.builds[0].artifacts[0].clone();
        let is_unpacked = heard.lines().iter().any(|line| line.contains("Starting from"));
        (reused, is_unpacked, artifact.metadata, artifact.generated_data, artifact.files)
    };
    let first = build().await;
    let again = build().await;
    assert_eq!((first.0, first.1, again.0, again.1), (0, true, 2, false));
    assert_eq!((&again.2, &again.3, &again.4), (&first.2, &first.3, &first.4), "the same artifact");
    assert_eq!(
        image(&folder.path().join("out"), "image").layers.len(),
        again.2["Layers"].as_array().unwrap().len()
    );
    // Nothing is made of layers that are damaged.
    let saved = cache.list().unwrap();
    for checkpoint in &saved {
        for entry in std::fs::read_dir(&checkpoint.resource.name).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none() {
                let mut bytes = std::fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::remove_file(&path).unwrap();
                std::fs::write(&path, bytes).unwrap();
            }
        }
    }
    let mended = build().await;
    assert_eq!((mended.0, mended.1, &mended.2), (0, true, &first.2));
}
