//! Input without an end: every command that reads has a bound, and one signal ends it while it reads.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![cfg(unix)]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TEMPLATE: &str = r#"
    variable "x" {
      default = "y"
    }
    source "null" "a" {
      communicator = "none"
    }
    build {
      sources = ["null.a"]
    }
"#;

/// The program, with far less memory than all of a machine, and more than a text of 64 MiB takes.
fn packer(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 4000000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_packer")]);
    command.args(arguments).current_dir(folder).env("HOME", folder);
    command.env("PACKER_CACHE_DIR", folder.join("cache")).env_remove("COMP_LINE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn every_command_that_reads_a_text_has_the_same_bound() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.pkr.hcl"), TEMPLATE).unwrap();
    // A name that says what is in it.
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero.pkr.hcl")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero.pkrvars.hcl")).unwrap();
    for (arguments, stdin) in [
        (&["fix", "/dev/zero"][..], false),
        (&["hcl2_upgrade", "/dev/zero"], false),
        (&["fmt", "zero.pkr.hcl"], false),
        (&["fmt", "-"], true),
        (&["validate", "-"], true),
        (&["console", "t.pkr.hcl"], true),
        (&["console", "zero.pkr.hcl"], false),
        (&["build", "zero.pkr.hcl"], false),
        (&["validate", "-var-file=zero.pkrvars.hcl", "t.pkr.hcl"], false),
        (&["inspect", "/dev/zero"], false),
        (&["plan", "/dev/zero"], false),
        (&["init", "zero.pkr.hcl"], false),
    ] {
        let mut command = packer(folder.path(), arguments);
        if stdin {
            command.stdin(File::open("/dev/zero").unwrap());
        }
        let output = command.output().unwrap();
        let shown =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {shown}");
        assert!(shown.contains("is larger than 64 MiB"), "{arguments:?}: {shown}");
    }
}

/// A command that reads, and what it reads from: nobody ever writes there.
struct Waiting {
    child: Child,
}

impl Waiting {
    fn start(mut command: Command) -> Self {
        Self { child: command.spawn().unwrap() }
    }

    /// How long it takes to end after a signal.
    fn end(&mut self, what: &[&str], signal: &str) -> (Option<i32>, Duration) {
        // It has come to the reading by then, or is stopped before it.
        std::thread::sleep(Duration::from_millis(700));
        assert!(self.child.try_wait().unwrap().is_none(), "{what:?} does not wait");
        let since = Instant::now();
        assert!(
            Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success()
        );
        while since.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), since.elapsed());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        (None, since.elapsed())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn one_signal_ends_a_command_while_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["f.pkr.hcl", "f.pkrvars.hcl", "f.json", "log"] {
        assert!(Command::new("mkfifo").arg(at(name)).status().unwrap().success());
    }
    let inner = at("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("t.pkr.hcl"), TEMPLATE).unwrap();
    let template = "inner/t.pkr.hcl";
    for (arguments, log) in [
        (&["validate", "f.pkr.hcl"][..], false),
        (&["validate", "-var-file=f.pkrvars.hcl", template], false),
        (&["build", "f.pkr.hcl"], false),
        (&["inspect", "f.json"], false),
        (&["plan", "-var-file=f.pkrvars.hcl", template], false),
        (&["init", "f.pkr.hcl"], false),
        (&["plugins", "required", "f.pkr.hcl"], false),
        (&["fmt", "f.pkr.hcl"], false),
        (&["fix", "f.json"], false),
        (&["hcl2_upgrade", "f.json"], false),
        (&["console", "f.pkr.hcl"], false),
        // A log that nobody reads.
        (&["version"], true),
        // The standard input.
        (&["fmt", "-"], false),
        (&["validate", "-"], false),
        (&["console", template], false),
    ] {
        for signal in ["-INT", "-TERM"] {
            let mut command = packer(folder.path(), arguments);
            command.stdin(Stdio::piped());
            if log {
                command.env("PACKER_LOG_PATH", at("log"));
            }
            let (code, took) = Waiting::start(command).end(arguments, signal);
            assert_eq!(code, Some(1), "{arguments:?} {signal} after {took:?}");
            assert!(took < Duration::from_secs(1), "{arguments:?} {signal} took {took:?}");
        }
    }
}
