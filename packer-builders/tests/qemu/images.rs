//! What comes out of a build, and how its machine is switched off.

use std::process::Command;
use std::time::Duration;

use packer_core::testing::skip;
use rustix::process::Signal;

use crate::support::{
    Guest, Run, build, closed, disk, during, file_in, folder, machine, output, processes, running, send,
    turn, until,
};

const LOST: &str = "what it has not written yet is lost";

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_image_becomes_another_one() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let (_turn, folder) = (turn().await, folder());
    let before = std::fs::read(&disk).unwrap();
    let mut vm = machine(&disk, folder.path()).shutdown("poweroff");
    vm.disk_additional_size = vec!["1M".to_owned()];
    let done = build(folder.path(), vm, Some(Run("echo hello > /hello"))).await;
    let artifact = done.artifact();
    let [image, more] = ["box", "box-1"].map(|name| folder.path().join("out").join(name));
    assert_eq!(artifact.files, [image.clone(), more]);
    let metadata: Vec<String> = ["diskName", "diskPaths", "diskType", "domainType"]
        .iter()
        .map(|k| artifact.metadata[*k].to_string())
        .collect();
    assert_eq!(metadata, ["\"box\"", "[\"box\",\"box-1\"]", "\"qcow2\"", "\"tcg\""]);
    assert_eq!(file_in(&image, "/hello"), "hello");
    let info = output(Command::new("qemu-img").args(["info", "--output=json"]).arg(&image));
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!((&info["format"], &info["virtual-size"]), (&"qcow2".into(), &(128 << 20).into()), "{info}");
    assert_eq!(info.get("backing-filename"), None);
    assert!(std::fs::read(&disk).unwrap() == before, "the source has changed");
    assert!(!done.said(LOST));
}

/// Without a command for it the machine is asked to power down, and writes what it has not written yet.
#[tokio::test(flavor = "multi_thread")]
async fn the_power_button_is_pressed_over_the_machine_protocol() {
    powers_down(true).await;
}

/// The same where there is only the screen.
#[tokio::test(flavor = "multi_thread")]
async fn the_power_button_is_pressed_at_the_screen() {
    powers_down(false).await;
}

async fn powers_down(qmp: bool) {
    let Some(disk) = disk(Guest::Listens) else { return };
    let (_turn, folder) = (turn().await, folder());
    let mut vm = machine(&disk, folder.path());
    vm.qmp_enable = qmp;
    vm.skip_compaction = true;
    let done = build(folder.path(), vm, Some(Run("echo last > /last"))).await;
    let image = &done.artifact().files[0];
    assert!(!done.said(LOST), "{:?}", done.recorder.lines());
    assert_eq!(file_in(image, "/last"), "last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_does_not_know_its_power_button_is_not_waited_for() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let (_turn, folder) = (turn().await, folder());
    let done = build(folder.path(), machine(&disk, folder.path()), Some(Run("echo x > /x; sync"))).await;
    assert_eq!(file_in(&done.artifact().files[0], "/x"), "x");
    assert!(done.said("The machine does not know its power button"), "{:?}", done.recorder.lines());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_boots_by_efi_with_a_tpm() {
    let firmware = ["CODE", "VARS"].map(|part| format!("/usr/share/OVMF/OVMF_{part}_4M.fd"));
    if !firmware.iter().all(|path| std::path::Path::new(path).exists()) {
        return skip("the package ovmf");
    }
    let Some(disk) = disk(Guest::Deaf) else { return };
    let (_turn, folder) = (turn().await, folder());
    let mut vm = closed(&disk, folder.path());
    [vm.efi_firmware_code, vm.efi_firmware_vars] = firmware;
    vm.machine_type = "q35".to_owned();
    vm.vtpm = true;
    // As somebody who closes its window ends it.
    let closes = async {
        let qemu = running(folder.path()).await;
        until("the TPM runs", || processes("swtpm", folder.path()).first().copied()).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        send(Signal::TERM, qemu);
    };
    let (done, ()) = during(build(folder.path(), vm.clone(), None), closes).await;
    let files = ["box", "efivars.fd"].map(|name| folder.path().join("out").join(name));
    assert_eq!(done.artifact().files, files);
    assert_eq!(std::fs::metadata(&files[1]).unwrap().len(), 540_672);

    // One that is never switched off.
    std::fs::remove_dir_all(folder.path().join("out")).unwrap();
    vm.shutdown_timeout = Duration::from_secs(2).into();
    let done = build(folder.path(), vm, None).await;
    assert_eq!(done.error().message(), "Failed to shutdown");
}
