//! What goes wrong with programs and images, in words, and that nothing is left of it.

use std::sync::Arc;

use packer_core::testing::{Recorder, require};
use packer_core::{Build, Engine, Ledger, MemoryLedger, Pipeline};
use rustix::process::Signal;

use crate::support::{
    Guest, QEMU, Run, build, build_on, closed, disk, during, folder, host, machine, nothing_left, running,
    send, turn, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_step_says_that_its_machine_has_gone() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let (_turn, folder) = (turn().await, folder());
    let recorder = Recorder::new();
    let vm = machine(&disk, folder.path()).shutdown("poweroff");
    let engine = Engine::new().host(host(folder.path())).events(recorder.clone());
    let run = engine.run(Pipeline::of([Build::new("a", vm).provision(Run("echo now; sleep 1000"))]));
    let kill = async {
        until("the step runs", || recorder.lines().contains(&"now".to_owned()).then_some(())).await;
        send(Signal::KILL, running(folder.path()).await);
    };
    let (report, ()) = during(run, kill).await;
    let report = report.unwrap();
    let error = report.builds[0].error.as_ref().unwrap();
    assert!(error.message().contains("qemu-system-x86_64 was ended by signal 9"), "{error:?}");
    assert!(report.builds[0].left.is_empty() && !folder.path().join("out").exists());
    nothing_left(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_of_qemu_are_in_the_error() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let folder = folder();
    let mut vm = closed(&disk, folder.path());
    vm.machine_type = "bicycle".to_owned();
    let done = build(folder.path(), vm, None).await;
    let error = done.error();
    let starts = "Error launching VM: Qemu failed: qemu-system-x86_64 ended with 1: ";
    assert!(
        error.message().starts_with(starts) && error.message().contains("unsupported machine type"),
        "{error}"
    );

    // An image that is none.
    let garbage = folder.path().join("garbage.qcow2");
    std::fs::write(&garbage, [7; 70_000]).unwrap();
    let done = build(folder.path(), closed(&garbage, folder.path()), None).await;
    let error = done.error();
    assert!(error.message().contains("Image is not in qcow2 format"), "{error}");
    let mut vm = closed(&garbage, folder.path());
    vm.format = "raw".to_owned();
    vm.disk_size = "1M".to_owned();
    vm.use_backing_file = false;
    vm.skip_resize_disk = false;
    vm.qemuargs = vec![vec!["-no-such-option".into()]];
    let done = build(folder.path(), vm, None).await;
    assert!(done.error().message().contains("-no-such-option: invalid option"), "{}", done.error());
}

/// A file system of its own; unmounted when dropped.
struct Small<'a>(&'a std::path::Path);

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").args(["-l".as_ref(), self.0.as_os_str()]).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let (_turn, folder) = (turn().await, folder());
    let small = folder.path().join("small");
    std::fs::create_dir(&small).unwrap();
    // Room for what is copied, and two MiB.
    let size = format!("size={}", std::fs::metadata(&disk).unwrap().len() + (2 << 20));
    let mount = ["-t", "tmpfs", "-o", &size, "small"].map(std::ffi::OsStr::new);
    let mounted = std::process::Command::new("mount").args(mount).arg(&small).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: needs the right to mount");
        return;
    }
    let _small = Small(&small);
    let mut vm = machine(&disk, folder.path()).output(small.join("out").display().to_string());
    vm.communicator.ssh_keep_alive_interval = std::time::Duration::from_secs(1).into();
    let step = Run("dd if=/dev/urandom of=/big bs=1M count=20; sync");
    let done = build(folder.path(), vm, Some(step)).await;
    let why = format!("no space left on the device of {}", small.join("out").display());
    assert!(done.said(&why), "{}: {:?}", done.error(), done.recorder.lines());
    assert!(!small.join("out").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_programs_must_be_there() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let folder = folder();
    let programs = folder.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    let mut poor = host(folder.path());
    poor.env.insert("PATH".into(), programs.display().to_string());
    for missing in [QEMU, "qemu-img"] {
        let done = build_on(poor.clone(), folder.path(), closed(&disk, folder.path()), None).await;
        let words =
            format!("Failed creating Qemu driver: exec: \"{missing}\": executable file not found in $PATH");
        assert_eq!(done.error().message(), words);
        std::os::unix::fs::symlink(require(missing).unwrap(), programs.join(missing)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_machine_leaves_nothing() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let (_turn, folder) = (turn().await, folder());
    let mut vm = machine(&disk, folder.path());
    vm.vtpm = true;
    let ledger = Arc::new(MemoryLedger::new());
    let engine = Engine::new().host(host(folder.path())).ledger(ledger.clone());
    let run = engine.start(Pipeline::of([Build::new("a", vm)])).unwrap();
    let control = run.control();
    let cancel = async {
        running(folder.path()).await;
        let socket = folder.path().join("out/box.monitor");
        until("the socket is there", || socket.exists().then_some(())).await;
        control.cancel("the test");
    };
    let (report, ()) = during(run.report(), cancel).await;
    let report = report.unwrap();
    assert!(report.builds[0].error.as_ref().is_some_and(packer_core::Error::is_cancelled));
    assert!(ledger.outstanding().is_empty() && report.builds[0].left.is_empty());
    assert!(!folder.path().join("out").exists());
    nothing_left(folder.path());
}
