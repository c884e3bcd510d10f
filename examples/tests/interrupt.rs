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
        Self::build_through(&[], template)
    }

    /// The same, started by another program.
    fn build_through(program: &[&str], template: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tmp", "cache", "work"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("work/t.pkr.hcl"), template).unwrap();
        let mut command = started(program, folder.path());
        let mut child = command.args(["build", "."]).stdout(Stdio::piped()).spawn().unwrap();
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
    started(&[], folder)
}

fn started(through: &[&str], folder: &Path) -> Command {
    let words = [through, &[env!("CARGO_BIN_EXE_packer")]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
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
    assert_eq!(packer.files("cache/.ledger").len(), 1);
    packer.interrupt();
    let (code, output) = packer.end();
    assert_eq!(code, 1, "{output}");
    assert!(output.contains("\nCancelling build after receiving interrupt\n"), "{output}");
    assert!(output.ends_with("\nCleanly cancelled builds after being interrupted.\n"), "{output}");
    assert!(!output.contains("artifacts"), "{output}");
    assert_eq!(packer.files("tmp"), [] as [PathBuf; 0]);
    assert_eq!(packer.files("cache/.ledger"), [] as [PathBuf; 0]);
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
    assert_eq!(packer.files("cache/.ledger"), [] as [PathBuf; 0]);
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
    let (script, ledger) = (packer.files("tmp").remove(0), packer.files("cache/.ledger").remove(0));

    let recovered = command(packer.folder.path()).arg("recover").output().unwrap();
    let text = String::from_utf8(recovered.stdout).unwrap();
    let removed = format!("\nRemoved file {}\n", script.display());
    // Its process, and the file that it runs.
    let process = text.strip_suffix(&removed).unwrap_or_default();
    if cfg!(target_os = "linux") {
        assert!(process.starts_with("Removed process sh ("), "{text}");
    }
    assert!(recovered.status.success() && text.ends_with(&removed[1..]), "{text}");
    assert!(!script.exists() && !ledger.exists());
}

/// A null build with this script of the provisioner `shell-local`.
fn script(lines: &str) -> String {
    format!(
        r#"
        source "null" "a" {{
          communicator = "none"
        }}
        build {{
          sources = ["null.a"]
          provisioner "shell-local" {{
            inline = ["{lines}"]
          }}
        }}
        "#
    )
}

fn signal(name: &str, child: &Child) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// The terminal is closed, the connection breaks off.
#[cfg(target_os = "linux")]
#[test]
fn a_hangup_cleans_up_as_an_interrupt_does() {
    for (name, reason) in [("-HUP", "hangup"), ("-QUIT", "quit"), ("-TERM", "terminated")] {
        // Whoever runs the tests may have had some of them ignored.
        let heard = ["env", "--default-signal"];
        let mut packer = Packer::build_through(&heard, &script("echo it has begun; sleep 60"));
        packer.wait_for("it has begun");
        signal(name, &packer.child);
        let (code, output) = packer.end();
        assert_eq!(code, 1, "{output}");
        assert!(output.contains(&format!("\nCancelling build after receiving {reason}\n")), "{output}");
        assert_eq!(packer.files("tmp"), [] as [PathBuf; 0]);
        assert_eq!(packer.files("cache/.ledger"), [] as [PathBuf; 0]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_hangup_that_is_ignored_stays_so() {
    let lines = "echo it has begun; while [ ! -e go ]; do sleep 0.05; done; echo to the end";
    let mut packer = Packer::build_through(&["nohup"], &script(lines));
    packer.wait_for("it has begun");
    signal("-HUP", &packer.child);
    fs::write(packer.folder.path().join("work/go"), "").unwrap();
    let (code, output) = packer.end();
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("to the end") && !output.contains("Cancelling"), "{output}");
}

/// `kill -9` leaves local scripts behind, and recovery ends them.
#[cfg(target_os = "linux")]
#[test]
fn recover_ends_scripts_that_go_on() {
    let lines = "setsid sh -c 'echo $$ > pid.new; mv pid.new pid; sleep 1000; touch late' & echo $$ > own; sleep 1000; touch late";
    let mut packer = Packer::build(&script(lines));
    let work = packer.folder.path().join("work");
    let since = Instant::now();
    while !work.join("pid").exists() || !work.join("own").exists() {
        assert!(since.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    packer.child.kill().unwrap();
    packer.child.wait().unwrap();
    let runs = |name: &str| {
        let pid = fs::read_to_string(work.join(name)).unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
    };
    assert!(runs("pid") && runs("own"));
    let recovered = command(packer.folder.path()).arg("recover").output().unwrap();
    let text = String::from_utf8(recovered.stdout).unwrap();
    assert!(recovered.status.success() && text.starts_with("Removed process sh ("), "{text}");
    assert!(!runs("pid") && !runs("own"));
    assert_eq!(packer.files("cache/.ledger"), [] as [PathBuf; 0]);
}

#[test]
fn recover_leaves_what_is_no_ledger() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tmp", "work", "cache/.ledger"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    let build = "{\"builders\":[{\"type\":\"null\",\"communicator\":\"none\"}]}";
    let (work, ledgers) = (folder.path().join("work"), folder.path().join("cache/.ledger"));
    fs::write(work.join("build.json"), build).unwrap();
    std::os::unix::fs::symlink("build.json", work.join("link")).unwrap();
    fs::write(ledgers.join("token.jsonl"), "one line").unwrap();
    fs::write(ledgers.join("20260101T000000Z-1.jsonl"), "one line").unwrap();
    for name in ["build.json", "link", "missing", "/dev/null", "."] {
        let recovered = command(folder.path()).args(["recover", name]).output().unwrap();
        let text = String::from_utf8(recovered.stdout).unwrap();
        assert_eq!(recovered.status.code(), Some(1), "{name}: {text}");
        assert!(!text.is_empty(), "{name}");
        assert_eq!(fs::read_to_string(work.join("build.json")).unwrap(), build);
        assert!(work.join("link").is_symlink() && !work.join("missing").exists());
    }
    let recovered = command(folder.path()).arg("recover").output().unwrap();
    let text = String::from_utf8(recovered.stdout).unwrap();
    assert!(text.ends_with("20260101T000000Z-1.jsonl is no ledger\n") && text.lines().count() == 1, "{text}");
    assert_eq!(recovered.status.code(), Some(1));
    assert_eq!(fs::read_dir(&ledgers).unwrap().count(), 2);
}

/// All outputs of an artifact that is complete stay, as they do when the build is interrupted then.
#[test]
fn an_artifact_that_is_complete_outlives_a_kill() {
    let template = r#"
        source "oci" "i" {
          output = ["oci:o/img:base", "docker-archive:o/base.tar:bk/x:1", "oci-archive:o/arch.tar:z"]
        }
        source "file" "f" {
          target  = "o/f.bin"
          content = "x"
        }
        build {
          sources = ["oci.i", "file.f"]
          provisioner "file" {
            only        = ["oci.i"]
            content     = "hello"
            destination = "/hello"
          }
          post-processor "shell-local" {
            inline = ["echo it has begun; sleep 1000"]
          }
        }
        "#;
    let mut packer = Packer::build(template);
    packer.wait_for("it has begun");
    packer.wait_for("it has begun");
    packer.child.kill().unwrap();
    packer.child.wait().unwrap();
    let recovered = command(packer.folder.path()).arg("recover").output().unwrap();
    let text = String::from_utf8(recovered.stdout).unwrap();
    assert!(recovered.status.success() && !text.contains("image"), "{text}");
    let made = packer.files("work/o");
    assert_eq!(made.len(), 4, "{made:?}");
    let index = fs::read_to_string(packer.folder.path().join("work/o/img/index.json")).unwrap();
    assert!(index.contains("base"), "{index}");
    assert_eq!(packer.files("tmp"), [] as [PathBuf; 0]);
    assert_eq!(packer.files("cache/.ledger"), [] as [PathBuf; 0]);
}
