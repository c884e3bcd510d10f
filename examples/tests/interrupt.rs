//! What the program does when it is interrupted (once cancels and cleans up, twice ends cleanup too) or killed.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// A run of the program in a folder of its own.
struct Packer {
    folder: tempfile::TempDir,
    child: Child,
    output: BufReader<ChildStdout>,
    seen: String,
}

impl Packer {
    fn build(template: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tmp", "cache", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("work/t.pkr.hcl"), template).unwrap();
        let mut child = command(folder.path()).args(["build", "."]).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { folder, child, output, seen: String::new() }
    }

    /// Reads on until a line holds `text`.
    fn wait_for(&mut self, text: &str) {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "no {text:?} in:\n{}", self.seen);
            self.seen.push_str(&line);
            if line.contains(text) {
                return;
            }
        }
    }

    fn interrupt(&self) {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The exit code and all output.
    fn end(&mut self) -> (i32, String) {
        let since = Instant::now();
        self.output.read_to_string(&mut self.seen).unwrap();
        let status = self.child.wait().unwrap();
        assert!(since.elapsed() < Duration::from_secs(20), "took {:?}", since.elapsed());
        (status.code().unwrap_or(-1), self.seen.clone())
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join(folder)).into_iter().flatten();
        entries.map(|e| e.unwrap().path()).collect()
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        // After a failed assertion the program may still run.
        let _ = self.child.kill();
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packer"));
    command.current_dir(folder.join("work"));
    command.env("TMPDIR", folder.join("tmp")).env("PACKER_CACHE_DIR", folder.join("cache"));
    command
}

#[test]
fn one_interrupt_cancels_and_cleans_up() {
    let mut packer = Packer::build(
        r#"
        source "null" "a" {
          communicator = "none"
        }
        build {
          sources = ["null.a"]
          provisioner "shell-local" {
            inline = ["echo it has begun; sleep 60"]
          }
        }
        "#,
    );
    packer.wait_for("it has begun");
    assert_eq!(packer.files("tmp").len(), 1, "the script");
    assert_eq!(packer.files("cache/ledger").len(), 1);
    packer.interrupt();
    let (code, output) = packer.end();
    assert_eq!(code, 1, "{output}");
    assert!(output.contains("\nCancelling build after receiving interrupt\n"), "{output}");
    assert!(output.ends_with("\nCleanly cancelled builds after being interrupted.\n"), "{output}");
    assert!(!output.contains("artifacts"), "{output}");
    assert_eq!(packer.files("tmp"), [] as [PathBuf; 0]);
    assert_eq!(packer.files("cache/ledger"), [] as [PathBuf; 0]);
}

#[test]
fn a_second_interrupt_ends_cleanup_too() {
    let mut packer = Packer::build(
        r#"
        source "null" "a" {
          communicator = "none"
        }
        build {
          sources = ["null.a"]
          provisioner "shell-local" {
            inline = ["exit 1"]
          }
          error-cleanup-provisioner "shell-local" {
            inline = ["echo cleaning for long; sleep 60"]
          }
        }
        "#,
    );
    packer.wait_for("cleaning for long");
    packer.interrupt();
    packer.wait_for("Cancelling build after receiving interrupt");
    std::thread::sleep(Duration::from_millis(300));
    assert!(packer.child.try_wait().unwrap().is_none(), "one interrupt does not end cleanup");
    packer.interrupt();
    let (code, output) = packer.end();
    assert_eq!(code, 1, "{output}");
    assert!(output.contains("\nCleanup was abandoned; nothing is left behind.\n"), "{output}");
    assert_eq!(packer.files("cache/ledger"), [] as [PathBuf; 0]);
}

#[test]
fn recover_removes_what_a_killed_run_has_left() {
    let mut packer = Packer::build(
        r#"
        source "null" "a" {
          communicator = "none"
        }
        build {
          sources = ["null.a"]
          provisioner "shell-local" {
            inline = ["echo it has begun; sleep 3"]
          }
        }
        "#,
    );
    packer.wait_for("it has begun");
    let running = command(packer.folder.path()).arg("recover").output().unwrap();
    let text = String::from_utf8(running.stdout).unwrap();
    assert!(text.starts_with("Left alone: ") && running.status.code() == Some(0), "{text}");
    packer.child.kill().unwrap();
    packer.child.wait().unwrap();
    let (script, ledger) = (packer.files("tmp").remove(0), packer.files("cache/ledger").remove(0));

    let recovered = command(packer.folder.path()).arg("recover").output().unwrap();
    let text = String::from_utf8(recovered.stdout).unwrap();
    assert_eq!((recovered.status.code(), text), (Some(0), format!("Removed file {}\n", script.display())));
    assert!(!script.exists() && !ledger.exists());
}
