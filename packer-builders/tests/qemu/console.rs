//! What a machine shows and prints while it comes up.

use packer_core::communicator::CommunicatorConfig;
use packer_core::{Event, EventKind};

use crate::support::{Done, Guest, Run, build, disk, folder, machine, turn};

/// Builds with a machine of this serial number, which tells the guest what to do, and whose serial line is read.
async fn printed(serial: &str) -> Option<Done> {
    let disk = disk(Guest::Deaf)?;
    let (_turn, folder) = (turn().await, folder());
    let mut vm = machine(&disk, folder.path()).shutdown("poweroff").serial_console();
    vm.qemuargs = vec![vec!["-smbios".into(), format!("type=1,serial={serial}").into()]];
    Some(build(folder.path(), vm, Some(Run("true"))).await)
}

fn is_unchecked(done: &Done) -> bool {
    done.recorder.events().iter().any(|event| matches!(event.kind, EventKind::HostKeyUnchecked { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_known_by_the_keys_that_it_prints() {
    let Some(done) = printed("late-keys").await else { return };
    done.artifact();
    assert!(!is_unchecked(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_other_keys_than_it_prints_is_not_entered() {
    let Some(done) = printed("other-keys").await else { return };
    assert!(done.error().message().contains("the host key of 127.0.0.1 is not the expected one"), "{done:?}");
    assert!(!is_unchecked(&done) && !done.said("Connected to SSH"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_not_entered_leaves_pictures_of_all_the_time() {
    let Some(disk) = disk(Guest::Deaf) else { return };
    let (_turn, folder) = (turn().await, folder());
    let mut vm = machine(&disk, folder.path());
    let mut way = CommunicatorConfig::ssh("root").password("rootpw");
    (way.ssh_port, way.ssh_timeout) = (Some(2299), std::time::Duration::from_secs(15).into());
    vm.communicator = way;
    let done = build(folder.path(), vm, None).await;
    assert!(done.error().message().starts_with("Timeout waiting for SSH."), "{}", done.error());
    let title = |event: Event| match event.kind {
        EventKind::Screen { title, png, .. } if !png.is_empty() => Some(title),
        _ => None,
    };
    let titles: Vec<String> = done.recorder.events().into_iter().filter_map(title).collect();
    let [film @ .., last] = titles.as_slice() else { panic!("no picture: {done:?}") };
    assert!(last.starts_with("Timeout waiting for SSH."), "{titles:?}");
    assert!(film.iter().any(|title| title.ends_with("s after the start")), "{titles:?}");
}
