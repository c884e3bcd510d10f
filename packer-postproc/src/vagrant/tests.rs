use std::collections::BTreeMap;
use std::io::Read;
use std::process::Command;

use packer_core::testing::{Bench, require};

use super::*;

fn unpacked(path: &Path) -> Vec<(String, Vec<u8>)> {
    let listed = Command::new("gzip").arg("-dcf").arg(path).output().unwrap();
    assert!(listed.status.success());
    let mut archive = tar::Archive::new(listed.stdout.as_slice());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), content)
    });
    entries.collect()
}

fn text(files: &[(String, Vec<u8>)], name: &str) -> String {
    let found = files.iter().find(|(other, _)| other == name);
    String::from_utf8(found.unwrap_or_else(|| panic!("no {name}")).1.clone()).unwrap()
}

/// A box made of an artifact with these files; its result and what is in it.
async fn boxed(
    bench: &Bench,
    vagrant: Vagrant,
    builder_id: &str,
    id: &str,
    files: &[(&str, &str)],
    metadata: &[(&str, &str)],
) -> Result<(Processed, Vec<(String, Vec<u8>)>)> {
    let mut artifact = Artifact::new(builder_id, id);
    for (name, content) in files {
        let path = bench.folder().join("made").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        artifact = artifact.file(path);
    }
    for (name, value) in metadata {
        artifact = artifact.with(*name, *value);
    }
    let output = bench.folder().join("out/x.box");
    let vagrant = Vagrant { output: output.display().to_string().into(), ..vagrant };
    let made = vagrant.post_process(bench.context(), artifact).await?;
    Ok((made, unpacked(&output)))
}

const QEMU: [(&str, &str); 3] = [("diskName", "vm"), ("diskType", "qcow2"), ("domainType", "kvm")];

#[tokio::test]
async fn disks_of_qemu_are_a_box_for_libvirt() {
    let bench = Bench::new();
    let more = bench.folder().join("more.txt");
    fs::write(&more, "more").unwrap();
    let template = bench.folder().join("template");
    fs::write(&template, "# {{ .BuildName }} {{ .Provider }} {{ .ArtifactId }}\n").unwrap();
    let vagrant =
        Vagrant::default().include(more.display().to_string()).vagrantfile(template.display().to_string());
    let files = [("vm", "one"), ("vm-1", "two"), ("efivars.fd", "vars")];
    let (made, inside) = boxed(&bench, vagrant, "transcend.qemu", "VM", &files, &QEMU).await.unwrap();
    let names: Vec<_> = inside.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Vagrantfile", "box_0.img", "box_1.img", "metadata.json", "more.txt"]);
    assert_eq!((text(&inside, "box_0.img").as_str(), text(&inside, "box_1.img").as_str()), ("one", "two"));
    let metadata: serde_json::Value = serde_json::from_str(&text(&inside, "metadata.json")).unwrap();
    assert_eq!(metadata["disks"][1], json!({ "format": "qcow2", "path": "box_1.img" }));
    assert_eq!(metadata["provider"], "libvirt");
    let vagrantfile = text(&inside, "Vagrantfile");
    assert!(vagrantfile.contains("    libvirt.driver = \"kvm\"\n"), "{vagrantfile}");
    assert!(vagrantfile.ends_with("image build.\n# bench libvirt VM\n"), "{vagrantfile}");
    let artifact = made.artifact.unwrap();
    assert_eq!(artifact.id, "libvirt");
    assert!(artifact.description.starts_with("'libvirt' provider box: "));
    assert_eq!(made.keep, packer_core::Keep::No);
}

#[tokio::test]
async fn the_same_files_make_the_same_box() {
    let bench = Bench::new();
    let mut boxes = Vec::new();
    for _ in 0..2 {
        boxed(&bench, Vagrant::default(), "packer.file", "File", &[("f", "x")], &[]).await.unwrap();
        boxes.push(fs::read(bench.folder().join("out/x.box")).unwrap());
    }
    assert_eq!(boxes[0], boxes[1]);
    let plain = Vagrant { compression_level: Some(0), ..Vagrant::default() };
    boxed(&bench, plain, "packer.file", "File", &[("f", "x")], &[]).await.unwrap();
    let tar = fs::read(bench.folder().join("out/x.box")).unwrap();
    assert_eq!(&tar[257..265], b"ustar  \0", "the GNU form, not compressed");
}

#[tokio::test]
async fn every_provider_gets_what_it_wants() {
    let ovf = "<Adapter slot=\"0\" enabled=\"true\" MACAddress=\"080027AB12CD\"/>";
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [&'a str], &'a str);
    let cases: &[Case<'_>] = &[
        (
            "mitchellh.amazonebs",
            "us-west-2:ami-2,eu-west-1:ami-1",
            &[],
            &[],
            "aws.region_config \"eu-west-1\", ami: \"ami-1\"\n    aws.region_config \"us-west-2\", ami: \"ami-2\"",
        ),
        (
            "pearkes.digitalocean",
            "nyc3,sfo2:123",
            &[],
            &[],
            "digital_ocean.image = \"123\"\n    digital_ocean.region = \"nyc3\"",
        ),
        ("packer.googlecompute", "image-1", &[], &[], "google.image = \"image-1\""),
        (
            "hashicorp.scaleway",
            "fr-par-1:abc",
            &[],
            &[],
            "scaleway.image = \"abc\"\n    scaleway.region = \"fr-par-1\"",
        ),
        (
            "Azure.ResourceManagement.VMImage",
            "/subscriptions/x",
            &[],
            &[],
            "azure.vm_managed_image_id = \"/subscriptions/x\"",
        ),
        (
            "packer.post-processor.docker-tag",
            "acme/\"x\"#{1}",
            &[],
            &[],
            "docker.image = \"acme/\\\"x\\\"\\#{1}\"",
        ),
        (
            "mitchellh.virtualbox",
            "VM",
            &[("a.ovf", ovf), ("a.vmdk", "d")],
            &["a.vmdk", "box.ovf"],
            "config.vm.base_mac = \"080027AB12CD\"",
        ),
        ("vmware.desktop", "VM", &[("a.vmx", ""), ("a.vmdk", "")], &["a.vmdk", "a.vmx"], ""),
        ("packer.parallels", "VM", &[("a.pvm/a.hdd/0.hds", ""), ("log", "")], &["a.pvm/a.hdd/0.hds"], ""),
        ("MSOpenTech.hyperv", "VM", &[("Virtual Hard Disks/a.vhdx", "")], &["Virtual Hard Disks/a.vhdx"], ""),
        ("ustream.lxc", "VM", &[("rootfs.tar.gz", "")], &["rootfs.tar.gz"], ""),
    ];
    for (builder_id, id, files, expected, line) in cases {
        let bench = Bench::new();
        let (_, inside) = boxed(&bench, Vagrant::default(), builder_id, id, files, &[]).await.unwrap();
        let names: Vec<_> = inside.iter().map(|(name, _)| name.as_str()).collect();
        let mut expected = [*expected, &["Vagrantfile", "metadata.json"]].concat();
        expected.sort_unstable();
        assert_eq!(names, expected, "{builder_id}");
        let vagrantfile = text(&inside, "Vagrantfile");
        assert!(vagrantfile.contains(line), "{builder_id}: {vagrantfile}");
    }
}

#[tokio::test]
async fn an_ova_is_unpacked() {
    let bench = Bench::new();
    let ova = bench.folder().join("a.ova");
    let mut archive = tar::Builder::new(fs::File::create(&ova).unwrap());
    for (name, content) in [("a.ovf", "<Adapter MACAddress=\"0800\"/>"), ("a-disk001.vmdk", "disk")] {
        archive.append_data(&mut header(content.len() as u64, 0o644), name, content.as_bytes()).unwrap();
    }
    archive.finish().unwrap();
    let output = bench.folder().join("x.box");
    let artifact = Artifact::new("mitchellh.virtualbox", "VM").file(&ova);
    Vagrant::to(output.display().to_string()).post_process(bench.context(), artifact).await.unwrap();
    let inside = unpacked(&output);
    assert_eq!(text(&inside, "a-disk001.vmdk"), "disk");
    assert_eq!(text(&inside, "box.ovf"), "<Adapter MACAddress=\"0800\"/>");
    assert!(text(&inside, "Vagrantfile").contains("config.vm.base_mac = \"0800\""));
}

#[tokio::test]
async fn what_cannot_be_a_box_is_an_error_and_leaves_nothing() {
    let include = Vagrant::default().include("/no/such/file");
    let level = Vagrant { compression_level: Some(10), ..Vagrant::default() };
    let libvirt = Vagrant { provider_override: "libvirt".into(), ..Vagrant::default() };
    let xen = [QEMU[0], QEMU[1], ("domainType", "xen")];
    type Case<'a> = (Vagrant, &'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 6] = [
        (Vagrant::default(), "fnoeding.null", &[], "Unknown artifact type, can't build box: fnoeding.null"),
        (
            include,
            "packer.file",
            &[],
            "Error copying include file: /no/such/file\n\nopen /no/such/file: no such",
        ),
        (level, "packer.file", &[], "Invalid compression level. Expected an integer from -1 to 9."),
        (libvirt, "packer.file", &[], "The artifact of packer.file does not say its diskName"),
        (Vagrant::default(), "transcend.qemu", &xen, "Unknown libvirt domain type: xen"),
        (Vagrant::default(), "mitchellh.virtualbox", &[], "ovf file couldn't be found"),
    ];
    for (vagrant, builder_id, metadata, expected) in cases {
        let bench = Bench::new();
        let result = boxed(&bench, vagrant, builder_id, "VM", &[("vm", "x")], metadata).await;
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(!bench.folder().join("out/x.box").exists());
        assert!(bench.outstanding().is_empty());
    }
}

#[tokio::test]
async fn the_box_is_none_of_its_files() {
    let bench = Bench::new();
    let path = bench.folder().join("disk");
    fs::write(&path, "precious").unwrap();
    let artifact = Artifact::new("packer.file", "File").file(&path);
    let vagrant = Vagrant::to(path.display().to_string());
    let error = vagrant.post_process(bench.context(), artifact).await.unwrap_err();
    assert!(error.to_string().contains("is one of the files that go into the box"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn what_is_wrong_is_found_before_the_run() {
    let found = Vagrant { provider_override: "kvm".into(), ..Vagrant::to("x").vagrantfile("/no/such") };
    let found = found.prepare(&PrepareContext::default());
    let texts: Vec<_> = found.iter().map(|d| d.summary.clone()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert_eq!(texts[0], "vagrantfile_template '/no/such' does not exist");
    let later = Vagrant { vagrantfile_template_generated: true, ..Vagrant::to("x").vagrantfile("/no/such") };
    assert!(later.prepare(&PrepareContext::default()).is_empty());
}

#[tokio::test]
async fn one_provider_may_have_values_of_its_own() {
    let bench = Bench::new();
    let other = VagrantOverride { architecture: Some("riscv64".into()), ..VagrantOverride::default() };
    let r#override = BTreeMap::from([("file".to_owned(), other)]);
    let vagrant = Vagrant { r#override, ..Vagrant::default() };
    let (_, inside) = boxed(&bench, vagrant, "packer.file", "File", &[("f", "x")], &[]).await.unwrap();
    assert_eq!(text(&inside, "metadata.json"), "{\"architecture\":\"riscv64\",\"provider\":\"file\"}\n");
}

#[tokio::test]
async fn vagrant_takes_the_box() {
    let Some(program) = require("vagrant") else { return };
    let bench = Bench::new();
    boxed(&bench, Vagrant::default(), "transcend.qemu", "VM", &[("vm", "disk")], &QEMU).await.unwrap();
    let vagrant = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(bench.folder());
        command.env("VAGRANT_HOME", bench.folder().join("home")).env("HOME", bench.folder());
        let output = command.env("VAGRANT_CHECKPOINT_DISABLE", "1").output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    };
    vagrant(&["box", "add", "--name", "x", "out/x.box"]);
    let listed = vagrant(&["box", "list"]);
    assert!(listed.contains("libvirt"), "{listed}");
    let disk = bench.folder().join("home/boxes/x/0/libvirt/box_0.img");
    assert_eq!(fs::read_to_string(disk).unwrap(), "disk");
}
