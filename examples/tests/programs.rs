//! The examples, run as a reader would run them, but for those with tests of their own (`test = true`), of which `cargo test`
//! builds no program.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![cfg(unix)]

use std::process::Command;

/// Runs an example with a folder of its own for temporary files; what it printed. Nothing may be left of it but `leaves`.
fn run(name: &str, leaves: &[&str]) -> String {
    // Cargo builds the examples beside the tests.
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(name);
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program).env("TMPDIR", folder.path()).output().unwrap();
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {printed}\n{errors}");
    let mut left: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, leaves, "{name}: what is left");
    printed.into_owned()
}

#[test]
fn builds_from_builds() {
    let printed = run("builds_from_builds", &["packer-builds-from-builds"]);
    assert!(printed.contains("index: Succeeded\n"), "{printed}");
}

#[test]
fn cache() {
    let printed = run("cache", &[]);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[2], "step 1: taken from the cache", "{printed}");
    assert!(lines[3].starts_with("step 2: ran, because configuration field content "), "{printed}");
    assert_eq!(lines[4], "3 states are saved");
}

#[test]
fn custom_builder() {
    run("custom_builder", &["packer-custom-builder", "packer-custom-builder-template"]);
}

#[test]
fn custom_provisioner() {
    run("custom_provisioner", &[]);
}

#[test]
fn load_template() {
    assert!(run("load_template", &[]).contains("Stored file: "));
}

#[test]
fn pipeline_in_code() {
    let printed = run("pipeline_in_code", &["packer-pipeline-in-code"]);
    assert!(printed.contains("\"builder_id\": \"packer.file\""), "{printed}");
}

#[test]
fn plan() {
    let printed = run("plan", &[]);
    let second = printed.split("When a file has changed:").nth(1).unwrap();
    assert!(second.contains("1. file: taken from the cache"), "{printed}");
    assert!(second.contains("2. file: runs: ") && second.contains("motd"), "{printed}");
}

#[test]
fn recover() {
    let printed = run("recover", &[]);
    let expected = "A run was killed. It has left 1 machines.\nReleased the machine of the build web\nThere are 0 machines now.\n";
    assert_eq!(printed, expected);
}

#[test]
fn ssh_builder() {
    if packer_core::testing::require("sshd").is_none() {
        return;
    }
    let printed = run("ssh_builder", &[]);
    assert!(printed.contains(", entered as ") && printed.ends_with("Succeeded\n"), "{printed}");
}

#[test]
fn watch_events() {
    let printed = run("watch_events", &[]);
    assert!(printed.contains("that is enough\n"), "{printed}");
}

#[test]
fn windows() {
    let printed = run("windows", &[]);
    for line in ["Connected to WinRM!", "STAND-IN restarted.", "stage: test"] {
        assert!(printed.contains(line), "{printed}");
    }
    assert!(printed.ends_with("Succeeded\n"), "{printed}");
}
