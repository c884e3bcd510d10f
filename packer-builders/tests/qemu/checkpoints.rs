//! Saved states of machines: what their disks and their memory held.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use packer_builders::Qemu;
use packer_core::engine::{Cache, Prune};
use packer_core::testing::checkpoints;
use packer_core::{Build, Engine, Registry};

use crate::support::{Done, Guest, Run, build_by, disk, file_in, folder, host, machine, turn};

fn registry() -> Registry {
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    registry
}

/// Puts the clock back, and leaves something on the disk, in a file system in memory, and a program that runs.
const FIRST: &str = "date -u -s '2001-01-01 00:00'; echo one > /one; mount -t tmpfs none /mnt; echo kept > /mnt/m; sleep 1234 >/dev/null 2>&1 &";

/// Takes what the first step has left, and the year, over into files.
const SECOND: &str = "cat /mnt/m > /two && pidof sleep > /pid && date +%s > /now";

async fn cached(folder: &Path, cache: &Cache, vm: Qemu, steps: &[&'static str]) -> Done {
    let build = steps.iter().fold(Build::new("a", vm), |build, step| build.provision(Run(step)));
    build_by(Engine::new().host(host(folder)).cache(cache.clone()).force(true), folder, build).await
}

fn reused(done: &Done) -> usize {
    let cache = done.report.builds[0].cache.as_ref().unwrap();
    assert_eq!(cache.unsaved, None, "{:?}", done.recorder.lines());
    cache.reused()
}

/// Builds twice, with another last step; the image of the second time.
async fn goes_on(vm: impl Fn(&Path, &Path) -> Qemu) {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let (_turn, folder) = (turn().await, folder());
    let cache = Cache::new(folder.path().join("states"), registry());
    let vm = || vm(&disk, folder.path()).shutdown("poweroff");
    let done = cached(folder.path(), &cache, vm(), &[FIRST, "echo other > /two"]).await;
    assert_eq!(file_in(&done.artifact().files[0], "/two"), "other");
    assert_eq!(reused(&done), 0);
    let done = cached(folder.path(), &cache, vm(), &[FIRST, SECOND]).await;
    assert_eq!(reused(&done), 1, "{:?}", done.report.builds[0].cache);
    let image = &done.artifact().files[0];
    assert_eq!(done.artifact().files.len(), 1, "{:?}", done.artifact().files);
    for (file, content) in [("/one", "one"), ("/two", "kept")] {
        assert_eq!(file_in(image, file), content, "{file}");
    }
    assert!(!file_in(image, "/pid").is_empty());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let clock: u64 = file_in(image, "/now").parse().unwrap();
    assert!(now - clock < 60, "its clock goes on: {clock}, it is {now}");
    // All of them again; then they go.
    let done = cached(folder.path(), &cache, vm(), &[FIRST, SECOND]).await;
    assert_eq!(reused(&done), 2);
    assert_eq!(file_in(&done.artifact().files[0], "/two"), "kept");
    let engine = Engine::new().host(host(folder.path()));
    let pruned = cache.prune(&engine, Prune::Everything).await.unwrap();
    assert!(pruned.left.is_empty() && pruned.released.len() == 3, "{pruned:?}");
    let left: Vec<_> = std::fs::read_dir(folder.path().join("cache/qemu/checkpoints")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    // What the image lies over stays, and it does not lie over a state.
    assert_eq!(file_in(&done.artifact().files[0], "/one"), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_goes_on_with_what_was_in_its_memory() {
    goes_on(machine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_of_a_raw_disk() {
    goes_on(|disk, folder| {
        let mut vm = machine(disk, folder);
        vm.format = "raw".to_owned();
        vm
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_of_two_disks_one_of_them_over_another_image() {
    goes_on(|disk, folder| {
        let mut vm = machine(disk, folder);
        (vm.use_backing_file, vm.skip_compaction) = (true, true);
        vm.skip_resize_disk = false;
        vm.disk_size = "256M".to_owned();
        vm
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_be_saved_is_built_all_the_same() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let cases: [(&[&str], &str); 2] = [
        (&["-qmp", "null"], "machine protocol"),
        (&["-fda", "{{ .OutputDir }}/../other"], "none of its disks"),
    ];
    for (row, why) in cases {
        let (_turn, folder) = (turn().await, folder());
        std::fs::write(folder.path().join("other"), vec![0; 1 << 16]).unwrap();
        let cache = Cache::new(folder.path().join("states"), registry());
        let mut vm = machine(&disk, folder.path()).shutdown("poweroff");
        vm.qmp_enable = false;
        vm.qemuargs = vec![row.iter().map(|word| (*word).into()).collect()];
        let done = cached(folder.path(), &cache, vm, &["echo one > /one", "true"]).await;
        assert_eq!(file_in(&done.artifact().files[0], "/one"), "one");
        assert_eq!(done.artifact().files.len(), 1, "{:?}", done.artifact().files);
        let unsaved = done.report.builds[0].cache.as_ref().unwrap().unsaved.clone().unwrap_or_default();
        assert!(unsaved.contains(why), "{unsaved}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_rules_of_checkpoints() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let (_turn, folder) = (turn().await, folder());
    let number = AtomicUsize::new(0);
    let make = || {
        let out = folder.path().join(format!("out-{}", number.fetch_add(1, Ordering::Relaxed)));
        machine(&disk, folder.path()).output(out.display().to_string()).shutdown("poweroff")
    };
    checkpoints::suite(make, &registry(), &host(folder.path()), "/marker").await;
}
