//! The provisioners `shell` and `file` over SSH to a real server, also one that goes away and comes back.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::path::Path;
use std::time::Duration;

use packer_core::testing::sshd::Sshd;
use packer_core::testing::{Bench, EnteredMachine, provisioner};
use packer_core::{Provisioner, Target};
use packer_provisioners::{FileProvisioner, Shell, Upload};

async fn entered(server: &Sshd, bench: &Bench) -> EnteredMachine {
    EnteredMachine::new(server.config().connect(bench.context(), &Target::default()).await.unwrap())
}

/// A shell step whose scripts go into this folder.
fn shell(folder: &Path, lines: &[&str]) -> Shell {
    let mut shell = Shell::inline(lines.iter().copied());
    shell.remote_folder = folder.display().to_string();
    shell.start_retry_timeout = Duration::from_secs(30).into();
    shell
}

fn scripts_left(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".sh")).collect()
}

/// Waits until the machine has a file.
async fn there(path: &Path) {
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_run_and_are_removed() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let machine = entered(&server, &bench).await;
    let scratch = server.scratch();
    // One line is longer than 64 KiB.
    let long = format!(": {}", "x".repeat(100_000));
    let mut step = shell(&scratch, &[&long, "echo \"$GREETING\" | tr a-z A-Z", "echo wrong >&2"])
        .env("GREETING", "it's me");
    step.use_env_var_file = true;
    step.provision(bench.context(), &machine).await.unwrap();
    let lines = bench.recorder().lines();
    assert!(
        lines.iter().any(|line| line == "IT'S ME") && lines.iter().any(|line| line == "wrong"),
        "{lines:?}"
    );
    assert_eq!(scripts_left(&scratch), [""; 0]);
    provisioner::suite_on(&shell(&scratch, &["echo hello"]), &machine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_is_a_failure_unless_it_is_expected() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let machine = entered(&server, &bench).await;
    let scratch = server.scratch();
    let started = scratch.join("started");
    let script = [format!("touch {}", started.display()), "sleep 60".to_owned()];
    for expected in [false, true] {
        let _ = std::fs::remove_file(&started);
        let mut step = shell(&scratch, &script.each_ref().map(String::as_str));
        step.expect_disconnect = expected;
        let broken = async {
            there(&started).await;
            server.kill_sessions();
        };
        let (result, ()) = tokio::join!(step.provision(bench.context(), &machine), broken);
        match result {
            Ok(()) => assert!(expected),
            Err(e) => {
                assert!(!expected, "{e}");
                assert!(e.message().starts_with("Script disconnected unexpectedly"), "{e}");
            }
        }
    }
    // What is left is the script of the failed one: nobody could be asked to remove it.
    assert_eq!(scripts_left(&scratch).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_reboots_is_waited_for() {
    let Some(mut server) = Sshd::start() else { return };
    let bench = Bench::new();
    let machine = entered(&server, &bench).await;
    let scratch = server.scratch();
    let (reboot, after) = (scratch.join("reboot"), scratch.join("after"));
    let first = shell(&scratch, &[&format!("touch {}", reboot.display()), "sleep 60"]).expect_disconnect();
    let second = shell(&scratch, &[&format!("touch {}", after.display())]);
    let (cx, machine) = (bench.context(), &machine);
    let steps = async {
        first.provision(cx, machine).await?;
        second.provision(cx, machine).await
    };
    let rebooting = async {
        there(&reboot).await;
        server.kill_sessions();
        server.down();
        tokio::time::sleep(Duration::from_secs(3)).await;
        server.up();
    };
    let (result, ()) = tokio::join!(steps, rebooting);
    result.unwrap();
    assert!(after.exists());
    assert_eq!(scripts_left(&scratch), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_arrive_whole() {
    let Some(server) = Sshd::start() else { return };
    let bench = Bench::new();
    let machine = entered(&server, &bench).await;
    let scratch = server.scratch();
    let content: Vec<u8> =
        (0..3_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let local = bench.folder().join("local.img");
    std::fs::write(&local, &content).unwrap();
    std::fs::set_permissions(&local, std::os::unix::fs::PermissionsExt::from_mode(0o751)).unwrap();
    let remote = scratch.join("remote.img");
    let up = Upload::new(local.display().to_string(), remote.display().to_string());
    up.provision(bench.context(), &machine).await.unwrap();
    assert!(std::fs::read(&remote).unwrap() == content);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&remote).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o751);
    let back = bench.folder().join("back/");
    let down = FileProvisioner::download(remote.display().to_string(), back.display().to_string());
    down.provision(bench.context(), &machine).await.unwrap();
    assert!(std::fs::read(back.join("remote.img")).unwrap() == content);
    provisioner::suite_on(&up, &machine).await;
}
