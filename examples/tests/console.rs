//! `packer console` with every kind of input: a pipe, a file, a terminal.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]
#![cfg(unix)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use packer_core::testing::require;

const TEMPLATE: &str = r#"
variable "region" { default = "north" }
variable "password" {
  default   = "geheim123"
  sensitive = true
}
locals {
  nested = { first_name = "ada", list = [{ zone = "z1" }] }
}
"#;

/// Runs the console over the template, in a folder of its own that is the home folder too.
fn console(folder: &Path, args: &[&str]) -> Command {
    fs::write(folder.join("t.pkr.hcl"), TEMPLATE).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_packer"));
    command.arg("console").args(args).current_dir(folder).env("HOME", folder);
    command.env_remove("PACKER_CACHE_DIR").env_remove("XDG_CACHE_HOME").stdout(Stdio::piped());
    command
}

/// The output and the exit code of a console at the end of a pipe.
fn piped(args: &[&str], lines: &str) -> (String, i32) {
    let folder = tempfile::tempdir().unwrap();
    let mut child = console(folder.path(), args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

#[test]
fn of_a_pipe_the_last_line_is_answered() {
    for (lines, expected, code) in [
        ("1 + 1\n upper(var.region) \n", "NORTH\n", 0),
        ("var.region", "north\n", 0),
        ("", "\n", 0),
        ("1\n\n", "\n", 0),
        ("1\nexit\n2\n", "2\n", 0),
        ("\"it is ${var.password}\"", "it is <sensitive>\n", 0),
    ] {
        assert_eq!(piped(&["t.pkr.hcl"], lines), (expected.to_owned(), code), "{lines:?}");
    }
    assert_eq!(piped(&["-var", "region=south", "t.pkr.hcl"], "var.region\n").0, "south\n");
    assert_eq!(piped(&["-config-type=hcl2"], "1 + 1\n"), ("2\n".to_owned(), 0));
    assert!(piped(&["."], "help\n").0.contains("variables   lists"));
    // Without a template the language is that of legacy JSON ones, unless told otherwise.
    assert_eq!(piped(&[], "{{ upper `x` }} 1 + 1\n"), ("X 1 + 1\n".to_owned(), 0));
    assert_eq!(piped(&["-var", "a=b"], "{{ user `a` }}"), ("b\n".to_owned(), 0));
    assert_eq!(piped(&["-var", "a=b"], "variables"), ("\na: b,\n\n".to_owned(), 0));
    let (output, code) = piped(&[], "{{ nope }}");
    assert!(output.contains("Interpolation error"), "{output}");
    assert_eq!(code, 0);
}

#[test]
fn a_wrong_line_makes_the_exit_code_whatever_comes_after() {
    let (output, code) = piped(&["t.pkr.hcl"], "var.nope\n1 + 1\n");
    assert!(output.starts_with("Error: ") && output.ends_with("2\n"), "{output}");
    assert_eq!(code, 1);
    let (output, code) = piped(&["-var", "nope=1", "t.pkr.hcl"], "1\n");
    assert!(output.contains("Undefined -var variable"), "{output}");
    assert_eq!(code, 1);
    assert_eq!(piped(&["a", "b"], "").1, 1);
}

#[test]
fn of_a_file_every_line_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines");
    fs::write(&lines, "1 + 1\n\nvar.nope\nvar.region\nexit\n3\n").unwrap();
    let output = console(folder.path(), &["."]).stdin(File::open(lines).unwrap()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("2\nError: ") && text.ends_with("north\n"), "{text}");
    assert!(output.status.success());
}

/// What the line editor sends when it begins to read keys.
const READY: &str = "\x1b[?2004h";

/// A console at a terminal that `script` makes.
struct Terminal {
    child: std::process::Child,
    keys: ChildStdin,
    screen: std::sync::mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn open(folder: &Path) -> Option<Self> {
        let script = require("script")?;
        fs::write(folder.join("t.pkr.hcl"), TEMPLATE).unwrap();
        let line = format!("{} console t.pkr.hcl", env!("CARGO_BIN_EXE_packer"));
        let mut command = Command::new(script);
        command.args(["-q", "-e", "-c", &line, "/dev/null"]).current_dir(folder);
        command.env("HOME", folder).env("TERM", "xterm").env("PACKER_CACHE_DIR", folder.join("cache"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let (sender, screen) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        let keys = child.stdin.take().unwrap();
        let mut terminal = Self { child, keys, screen, seen: String::new() };
        terminal.wait_for(READY);
        Some(terminal)
    }

    /// Types, and waits until the screen shows `expected`, which was not there before, and where a line is ended until
    /// the next one can be typed.
    fn type_keys(&mut self, keys: &str, expected: &str) {
        self.seen.clear();
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
        self.wait_for(expected);
        if keys.ends_with('\r') && !keys.ends_with(",\r") {
            self.wait_for(READY);
        }
    }

    fn wait_for(&mut self, expected: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.seen.contains(expected) {
            let left = end.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("no {expected:?} in {:?}", self.seen),
            }
        }
    }

    fn leave(mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return assert!(status.success(), "{status}: {}", self.seen);
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("still there: {}", self.seen);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where the test failed; else it has ended.
        let _ = self.child.kill();
    }
}

#[test]
fn a_signal_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = console(folder.path(), &["."]).stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = child.stdin.take().unwrap();
    // More than the pipe holds: part of it has been read, so the console is there.
    lines.write_all("1\n".repeat(200_000).as_bytes()).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn at_a_terminal_names_are_completed_and_lines_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut terminal) = Terminal::open(folder.path()) else { return };
    terminal.type_keys("uppe\t", "upper(");
    terminal.type_keys("var.reg\t", "var.region");
    terminal.type_keys(")\r", "NORTH");
    terminal.type_keys("local.nes\t.fi\t\r", "ada");
    terminal.type_keys("local.nested.list[0].\t\r", "z1");
    // An open bracket goes on in the next line.
    terminal.type_keys("[1,\r", "[1,");
    terminal.type_keys("41 + 1]\r", "  42,");
    terminal.type_keys("var.password\r", "<sensitive>");
    terminal.type_keys("nope\x03", "> ");
    terminal.leave("\x03");

    // Another one, another day: the last line but one.
    let mut terminal = Terminal::open(folder.path()).unwrap();
    terminal.type_keys("\x1b[A\x1b[A\r", "  42,");
    terminal.leave("\x04");
    let history = fs::read_to_string(folder.path().join("cache/console_history")).unwrap();
    assert!(history.contains("upper(var.region)") && !history.contains("geheim"), "{history}");
}
