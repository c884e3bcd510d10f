//! The log that `PACKER_LOG` and `PACKER_LOG_PATH` ask for.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const TEMPLATE: &str = r#"
variable "password" {
  default = "unknown"
}
source "null" "a" {
  communicator = "none"
}
build {
  sources = ["null.a"]
}
"#;

/// Each command, so that it does something.
const COMMANDS: [&[&str]; 14] = [
    &["build", "-color=false", "-var", "password=geheim", "t.pkr.hcl"],
    &["cache", "list"],
    &["console", "t.pkr.hcl"],
    &["fix", "old.json"],
    &["fmt", "-check", "t.pkr.hcl"],
    &["hcl2_upgrade", "-output-file=new.pkr.hcl", "old.json"],
    &["init", "t.pkr.hcl"],
    &["inspect", "t.pkr.hcl"],
    &["plan", "t.pkr.hcl"],
    &["plugins", "installed"],
    &["recover"],
    &["schema"],
    &["validate", "-var", "password=geheim", "t.pkr.hcl"],
    &["version"],
];

/// A folder with what they read.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.pkr.hcl"), TEMPLATE).unwrap();
    let old = r#"{"builders": [{"type": "null", "communicator": "none"}]}"#;
    fs::write(folder.path().join("old.json"), old).unwrap();
    folder
}

fn run(folder: &Path, env: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packer"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("HOME", folder)
        .env("PACKER_CACHE_DIR", folder.join("cache"));
    command.env_remove("PACKER_LOG").env_remove("PACKER_LOG_PATH").env_remove("COMP_LINE");
    let Output { status, stdout, stderr } = command.envs(env.iter().copied()).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn every_command_writes_it_and_nothing_else_changes() {
    let folder = folder();
    let path = folder.path().join("log.txt");
    for arguments in COMMANDS {
        fs::write(&path, "of an earlier run").unwrap();
        let (code, plain, quiet) = run(folder.path(), &[("PACKER_LOG", "0")], arguments);
        assert_eq!(quiet, "", "{arguments:?}");
        let logged = run(folder.path(), &[("PACKER_LOG", "1")], arguments);
        let (in_file, _, nothing) =
            run(folder.path(), &[("PACKER_LOG_PATH", path.to_str().unwrap())], arguments);
        assert_eq!((logged.0, in_file), (code, code), "{arguments:?}");
        if arguments[0] != "build" {
            assert_eq!(logged.1, plain, "{arguments:?}");
        }
        assert_eq!(nothing, "", "{arguments:?}");
        for log in [logged.2, fs::read_to_string(&path).unwrap()] {
            let first = log.lines().next().unwrap();
            assert!(first.contains(" [packer] version 1.16.0 "), "{arguments:?}: {log}");
            assert!(log.contains(&format!("the command {} ", arguments[0])), "{arguments:?}: {log}");
            let end = format!(" [packer] exit code {}\n", code.unwrap());
            assert!(log.ends_with(&end), "{arguments:?}: {log}");
            assert!(!log.contains("geheim"), "{arguments:?}: {log}");
        }
    }
    let (_, _, log) = run(folder.path(), &[("PACKER_LOG", "1")], &["build", "t.pkr.hcl"]);
    assert!(log.contains(" [null.a] {"), "{log}");
}

#[test]
fn one_that_cannot_be_written_is_an_error_of_every_command() {
    let folder = folder();
    let others: [&[&str]; 5] =
        [&["--version"], &["-autocomplete-install"], &["build", "-help"], &["nosuch"], &[]];
    for arguments in COMMANDS.into_iter().chain(others) {
        let env = [("PACKER_LOG_PATH", "no-such-folder/log.txt"), ("PACKER_LOG", "1")];
        let (code, shown, why) = run(folder.path(), &env, arguments);
        assert_eq!((code, shown.as_str()), (Some(1), ""), "{arguments:?}");
        let expected =
            "packer: the log, PACKER_LOG_PATH: open no-such-folder/log.txt: no such file or directory\n";
        assert_eq!(why, expected, "{arguments:?}");
    }
    // None of them has done anything.
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["old.json", "t.pkr.hcl"]);
}
