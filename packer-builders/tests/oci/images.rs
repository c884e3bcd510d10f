//! What is in the images that are made.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use packer_builders::{Compression, Oci};
use serde_json::json;

use crate::support::{
    Work, build_on, built, busybox, busybox_image, failure, folder, host, image, run, text,
};

const EPOCH: i64 = 1_700_000_000;

fn to(folder: &Path) -> String {
    format!("oci:{}:image", folder.join("out").display())
}

/// The owner of what this process uploads, inside.
fn own() -> String {
    "0:0".into()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_alone_need_no_runtime() {
    let folder = folder();
    let tree = folder.path().join("tree");
    std::fs::create_dir_all(tree.join("deep/er")).unwrap();
    std::fs::write(tree.join("deep/er/file"), "content").unwrap();
    std::fs::write(tree.join("program"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(tree.join("program"), PermissionsExt::from_mode(0o4755)).unwrap();
    std::fs::set_permissions(tree.join("deep"), PermissionsExt::from_mode(0o750)).unwrap();
    std::fs::hard_link(tree.join("program"), tree.join("same")).unwrap();
    symlink("/deep/er/../er/file", tree.join("link")).unwrap();
    let long = "n".repeat(120);
    std::fs::write(tree.join(&long), "").unwrap();
    let mut host = host(folder.path());
    host.env.remove("PATH");
    let oci = Oci::scratch([to(folder.path())])
        .entrypoint(["/program"])
        .cmd(["-x"])
        .env("A", "1")
        .label("l", "v")
        .expose("80")
        .change("USER 1000")
        .change("ENV B=$A-b")
        .source_date_epoch(EPOCH);
    let steps = vec![
        Work::UploadDir(tree.join(""), "/".into()),
        text("/note", "hello"),
        text("/note", "hello again"),
    ];
    let (report, _) = build_on(host, oci, steps).await;
    assert!(report.succeeded(), "{:?}", report.builds[0].error);
    let made = image(&folder.path().join("out"), "image");
    let own = own();
    let listed: Vec<(String, String)> = made.layers[0].clone().into_iter().collect();
    let expected = [
        ("deep/", format!("5 750 {own}")),
        ("deep/er/", format!("5 755 {own}")),
        ("deep/er/file", format!("0 644 {own}")),
        ("link", format!("2 777 {own} -> /deep/er/../er/file")),
        (&long, format!("0 644 {own}")),
        ("note", "0 644 0:0".into()),
        ("program", format!("0 4755 {own}")),
        ("same", format!("1 4755 {own} -> program")),
    ];
    let expected: Vec<(String, String)> =
        expected.into_iter().map(|(path, is)| (path.to_owned(), is)).collect();
    assert_eq!(listed, expected);
    assert_eq!(
        made.config["config"],
        json!({
            "Cmd": ["-x"], "Entrypoint": ["/program"], "Env": ["A=1", "B=1-b"], "ExposedPorts": {"80/tcp": {}},
            "Labels": {"l": "v"}, "User": "1000",
        })
    );
    assert_eq!(made.config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(made.config["os"], "linux");
    assert_eq!(made.config["history"][0]["created_by"], "packer build image");
    let artifact = report.artifacts().next().unwrap();
    assert_eq!(artifact.builder_id, "packer.oci");
    assert!(artifact.id.starts_with("sha256:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_without_a_runtime_are_refused_before_the_start() {
    let folder = folder();
    let mut host = host(folder.path());
    host.env.insert("PATH".into(), folder.path().display().to_string());
    let build = packer_core::Build::new("image", Oci::scratch([to(folder.path())])).provision(run("true"));
    let report = packer_core::Engine::new().host(host.clone()).run(packer_core::Pipeline::of([build])).await;
    let found = match report {
        Ok(report) => report.builds[0].error.as_ref().expect("a refusal").to_string(),
        Err(error) => error.to_string(),
    };
    assert!(found.contains("none of crun, runc and bwrap is on the PATH"), "{found}");
    assert!(!folder.path().join("tmp").exists(), "nothing was begun");
    // A provisioner that does not say so finds out later, as clearly.
    let later = packer_core::testing::FakeProvisioner::run("true");
    let build = packer_core::Build::new("image", Oci::scratch([to(folder.path())])).provision(later);
    let report = packer_core::Engine::new().host(host).run(packer_core::Pipeline::of([build])).await.unwrap();
    let error = report.builds[0].error.as_ref().unwrap().to_string();
    assert!(error.contains("none of crun, runc and bwrap"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_say_what_changed_and_nothing_else() {
    let folder = folder();
    let Some(base) = busybox_image(folder.path()).await else { return };
    let root = folder.path().join("busybox");
    std::fs::create_dir_all(root.join("opt/old/deep")).unwrap();
    std::fs::write(root.join("opt/old/deep/file"), "1").unwrap();
    std::fs::write(root.join("opt/kept"), "1").unwrap();
    std::fs::write(root.join("opt/mode"), "1").unwrap();
    let steps = vec![
        run("rm /bin/yes && echo new > /etc/new && echo x > /tmp/gone && rm /tmp/gone"),
        run("mkdir /srv && ln /etc/new /srv/hard && ln -s /etc/new /srv/soft && chmod 700 /var"),
        run("true"),
        run("rm /etc/new && mkdir -p /usr/a && echo 2 > /usr/a/b"),
    ];
    let oci = Oci::from(&base).output(to(folder.path())).source_date_epoch(EPOCH);
    built(folder.path(), oci.clone(), steps.clone()).await;
    let one = image(&folder.path().join("out"), "image");
    assert_eq!(one.layers.len(), 2, "the base's and one more");
    let changed: Vec<&str> = one.layers[1].keys().map(String::as_str).collect();
    let expected =
        ["bin/", "bin/.wh.yes", "srv/", "srv/hard", "srv/soft", "usr/", "usr/a/", "usr/a/b", "var/"];
    assert_eq!(changed, expected);
    assert_eq!(one.layers[1]["var/"], "5 700 0:0");
    let base_image = image(&folder.path().join("base"), "busybox");
    assert_eq!(one.manifest["layers"][0], base_image.manifest["layers"][0], "the base's layer is the base's");
    assert_eq!(one.config["config"]["Env"], json!(["FROM=base"]));

    built(folder.path(), oci.layer_per_provisioner().output(to(folder.path())), steps).await;
    let each = image(&folder.path().join("out"), "image");
    let layers: Vec<Vec<&str>> =
        each.layers.iter().skip(1).map(|l| l.keys().map(String::as_str).collect()).collect();
    assert_eq!(
        layers,
        [
            vec!["bin/", "bin/.wh.yes", "etc/", "etc/new"],
            vec!["etc/", "etc/new", "srv/", "srv/hard", "srv/soft", "var/"],
            vec!["etc/", "etc/.wh.new", "srv/", "srv/hard", "usr/", "usr/a/", "usr/a/b"],
        ]
    );
    let history: Vec<bool> =
        each.config["history"].as_array().unwrap().iter().map(|h| h["empty_layer"] == true).collect();
    assert_eq!(history, [false, false, false, true, false], "a step that changed nothing has no layer");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_inputs_give_the_same_bytes() {
    let folder = folder();
    let Some(base) = busybox_image(folder.path()).await else { return };
    let mut digests = Vec::new();
    for round in ["a", "b"] {
        for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
            let file = folder.path().join(format!("{round}.tar"));
            std::fs::write(&file, "the same").unwrap();
            let oci = Oci::from(&base)
                .output(format!(
                    "oci-archive:{}:x",
                    folder.path().join(format!("{round}-{compression:?}.tar")).display()
                ))
                .label("b", "2")
                .label("a", "1")
                .label("c", "3")
                .compression(compression)
                .layer_per_provisioner()
                .source_date_epoch(EPOCH);
            let steps = vec![
                Work::Upload(file, "/file".into()),
                run(
                    "mkdir /many && for i in 1 2 3 4 5 6 7 8 9; do echo $i > /many/$i; done; touch -d @1000 /many/3",
                ),
            ];
            let report = built(folder.path(), oci, steps).await;
            digests.push(report.artifacts().next().unwrap().id.clone());
        }
        // Whenever it is built.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    assert_eq!(digests[..3], digests[3..]);
    for compression in ["Gzip", "Zstd", "None"] {
        let bytes =
            |round: &str| std::fs::read(folder.path().join(format!("{round}-{compression}.tar"))).unwrap();
        assert!(bytes("a") == bytes("b"), "{compression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_see_the_image_and_leave_no_trace_of_the_runtime() {
    let folder = folder();
    let Some(root) = busybox(folder.path()) else { return };
    for name in ["proc", "dev", "sys"] {
        std::fs::remove_dir(root.join(name)).unwrap();
    }
    let oci =
        Oci::from(format!("rootfs:{}", root.display())).output(to(folder.path())).env("GREETING", "good day");
    let seen = "echo $GREETING $(id -u) $(pwd) $HOME $(hostname) > /seen && test -c /dev/null && test -e /proc/self && pwd >> /seen";
    let mut oci = oci;
    oci.workdir = "/var".into();
    built(folder.path(), oci, vec![run(seen), text("relative", "x")]).await;
    let made = image(&folder.path().join("out"), "image");
    let paths: Vec<&str> =
        made.layers[0].keys().map(String::as_str).filter(|p| !p.starts_with("bin/")).collect();
    assert_eq!(paths, ["etc/", "etc/passwd", "root/", "seen", "tmp/", "var/", "var/relative"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_build_leaves_outputs_as_they_were() {
    let folder = folder();
    let out = to(folder.path());
    built(folder.path(), Oci::scratch([&out]), vec![text("/a", "1")]).await;
    let before = std::fs::read(folder.path().join("out/index.json")).unwrap();
    let blobs = || std::fs::read_dir(folder.path().join("out/blobs/sha256")).unwrap().count();
    let count = blobs();
    // The second output cannot be written.
    let closed = format!("docker-archive:{}/file/x.tar", folder.path().display());
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = failure(folder.path(), Oci::scratch([&out, &closed]), vec![text("/a", "2")]).await;
    assert!(error.contains("file"), "{error}");
    assert_eq!(std::fs::read(folder.path().join("out/index.json")).unwrap(), before);
    assert_eq!(blobs(), count, "the blobs of the image that did not come to be are gone");
}
