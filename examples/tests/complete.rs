//! Completion: what a shell is told, and setting it up.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const TEMPLATE: &str = r#"
variable "region" {
  default = "eu"
}
variable "release" {
  type = string
}
variable "size" {
  default = 1
}
data "http" "nobody" {
  url = "http://127.0.0.1:1/"
}
source "null" "a" {
  communicator = "none"
}
source "null" "b" {
  communicator = "none"
}
build {
  name    = "web"
  sources = ["null.a", "null.b"]
  post-processor "manifest" {
    name = "list"
  }
}
build {
  for_each = convert(split(",", var.release), set(string))
  sources  = ["null.a"]
}
build {
  sources = ["null.b"]
}
"#;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("images/deep")).unwrap();
    fs::write(at("t.pkr.hcl"), TEMPLATE).unwrap();
    fs::write(at("images/one.pkr.hcl"), TEMPLATE).unwrap();
    fs::write(
        at("images/old.json"),
        r#"{"variables": {"v": "1"}, "builders": [{"type": "null", "name": "n"}]}"#,
    )
    .unwrap();
    for name in ["a.pkrvars.hcl", "notes.txt", "ledger.jsonl", ".hidden.pkr.hcl"] {
        fs::write(at(name), "").unwrap();
    }
    folder
}

/// The candidates for a line with the cursor at `|`, else at its end.
fn candidates(folder: &Path, line: &str, words: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packer"));
    let point = line.find('|').unwrap_or(line.len());
    command.env("COMP_LINE", line.replacen('|', "", 1)).env("COMP_POINT", point.to_string());
    command.args(words).current_dir(folder).env("HOME", folder).env("PACKER_LOG_PATH", "log");
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(!folder.join("log").exists(), "completing is no command");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_place_of_a_line() {
    let folder = folder();
    for (line, expected) in [
        ("packer hcl", &["hcl2_upgrade"][..]),
        ("packer p", &["plan", "plugins"]),
        ("packer p| build", &["plan", "plugins"]),
        ("packer -au", &["-autocomplete-install", "-autocomplete-uninstall"]),
        ("packer nosuch ", &[]),
        ("packer cache ", &["list", "prune"]),
        ("packer cache prune -un", &["-unused"]),
        ("packer plugins in", &["install", "installed"]),
        ("packer plugin required im", &["images/"]),
        ("packer plugins install -", &["-force", "-help", "-path"]),
        // Flags.
        ("packer build -on", &["-on-error", "-only"]),
        ("packer build --va", &["--var", "--var-file"]),
        ("packer build -force -on-e", &["-on-error"]),
        ("packer validate -sy", &["-syntax-only"]),
        ("packer build t.pkr.hcl -on", &[]),
        ("packer schema ", &[]),
        // Their values.
        ("packer build -on-error ", &["abort", "ask", "cleanup", "run-cleanup-provisioner"]),
        ("packer build -on-error=a", &["-on-error=abort", "-on-error=ask"]),
        ("packer build -color=", &["-color=false", "-color=true"]),
        ("packer build -var re", &["region=", "release="]),
        ("packer build -var 're", &["region=", "release="]),
        ("packer build -var=s", &["-var=size="]),
        ("packer build -var region=", &[]),
        ("packer build -var | images/old.json", &["v="]),
        ("packer build -var-file ", &["a.pkrvars.hcl", "images/", "t.pkr.hcl"]),
        ("packer build -only web", &["web.null.a", "web.null.b"]),
        ("packer build -only=web.null.a,", &["-only=web.null.a,null.b", "-only=web.null.a,web.null.b"]),
        ("packer build -only | images/old.json", &["n"]),
        ("packer build -except l", &["list"]),
        ("packer build -var release=new,next -only ne", &["new.null.a", "next.null.a"]),
        // Arguments.
        ("packer build im", &["images/"]),
        ("packer build images/", &["images/deep/", "images/old.json", "images/one.pkr.hcl"]),
        ("packer build -force images/o", &["images/old.json", "images/one.pkr.hcl"]),
        ("packer fix images/", &["images/deep/", "images/old.json"]),
        ("packer validate ./t", &["./t.pkr.hcl"]),
        ("packer validate ~/t", &["~/t.pkr.hcl"]),
        ("packer validate .h", &[".hidden.pkr.hcl"]),
        ("packer fmt ", &["a.pkrvars.hcl", "images/", "t.pkr.hcl"]),
        ("packer recover l", &["ledger.jsonl"]),
        ("packer build no/such/folder/", &[]),
    ] {
        assert_eq!(candidates(folder.path(), line, &[]), expected, "{line}");
    }
}

#[test]
fn a_template_that_is_wrong_or_never_comes_has_no_names() {
    let folder = folder();
    fs::write(folder.path().join("wrong.pkr.hcl"), "source {").unwrap();
    assert_eq!(candidates(folder.path(), "packer build -var | wrong.pkr.hcl", &[]), [] as [&str; 0]);
    assert_eq!(candidates(folder.path(), "packer build -var | nosuch.pkr.hcl", &[]), [] as [&str; 0]);
    #[cfg(unix)]
    {
        let pipe = folder.path().join("pipe.pkr.hcl");
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        assert_eq!(candidates(folder.path(), "packer build -var | pipe.pkr.hcl", &[]), [] as [&str; 0]);
    }
}

#[test]
fn what_the_shell_leaves_as_it_is_is_not_repeated() {
    let folder = folder();
    let line = "packer build -only=web.";
    // Bash's word begins behind the equals sign.
    let of_bash = candidates(folder.path(), line, &["packer", "web.", "="]);
    assert_eq!(of_bash, ["web.null.a", "web.null.b"]);
    let whole = candidates(folder.path(), line, &["packer", "-only=web.", "build"]);
    assert_eq!(whole, ["-only=web.null.a", "-only=web.null.b"]);
    // Behind the only candidate bash puts a space.
    let templates = ["images/", "images/deep/", "images/old.json", "images/one.pkr.hcl"];
    assert_eq!(candidates(folder.path(), "packer build im", &["packer", "im", "build"]), templates);
    // A shell that takes a candidate as it is typed gets it so; fish, which calls without words, does that itself.
    fs::write(folder.path().join("my file.pkr.hcl"), "").unwrap();
    for (line, words, expected) in [
        ("packer build my", &["packer", "my", "build"][..], "my\\ file.pkr.hcl"),
        ("packer build my\\ f", &["packer", "my\\ f", "build"], "my\\ file.pkr.hcl"),
        ("packer build 'my f", &["packer", "my f", "build"], "my file.pkr.hcl"),
        ("packer build my", &[], "my file.pkr.hcl"),
    ] {
        assert_eq!(candidates(folder.path(), line, words), [expected], "{line}");
    }
}

/// What an interactive shell shows for a line and two tabs; `None` where the shell is not there.
#[cfg(unix)]
fn typed_in(shell: &str, folder: &Path, line: &str) -> Option<String> {
    // `script` gives the shell a terminal.
    let name = shell.split(' ').next().unwrap();
    for program in [name, "script"] {
        if Command::new(program).arg("--version").output().is_err() {
            packer_core::testing::skip(&format!("{name} and script"));
            return None;
        }
    }
    let mut child = Command::new("script")
        .args(["-qec", shell, "/dev/null"])
        .current_dir(folder)
        .env("HOME", folder)
        .env("TERM", "dumb")
        .env("PS1", "$ ")
        .env_remove("COMP_LINE")
        .env_remove("ZDOTDIR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut shown = Vec::new();
        let _ = output.read_to_end(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    let pause = std::time::Duration::from_millis(1500);
    std::thread::sleep(pause);
    stdin.write_all(format!("{line}\t\t").as_bytes()).unwrap();
    std::thread::sleep(pause * 2);
    // Ctrl-U drops the line.
    stdin.write_all(b"\x15exit\n").unwrap();
    drop(stdin);
    child.wait().unwrap();
    Some(reading.join().unwrap())
}

/// Sets completion up for a user who has only this file, in which something stands already.
#[cfg(target_os = "linux")]
fn set_up(folder: &Path, flag: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packer"));
    command.arg(flag).current_dir(folder).env("HOME", folder);
    let output = command.env_remove("XDG_CONFIG_HOME").env_remove("COMP_LINE").output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn zsh_completes_once_it_is_set_up() {
    let folder = folder();
    fs::write(folder.path().join(".zshrc"), "PS1='$ '\n").unwrap();
    fs::create_dir(folder.path().join("größer als das")).unwrap();
    fs::write(folder.path().join("größer als das/ä b.pkr.hcl"), TEMPLATE).unwrap();
    assert_eq!(set_up(folder.path(), "-autocomplete-install"), (Some(0), String::new()));
    for (line, completed) in [
        ("packer bui", "packer build "),
        ("packer build -only=web.null.a,nu", "packer build -only=web.null.a,null.b "),
        ("packer build -var re\tg", "packer build -var region="),
        ("packer build grö\t", "packer build größer\\ als\\ das/ä\\ b.pkr.hcl "),
        ("packer build 'größer a\t", "packer build 'größer als das/ä b.pkr.hcl' "),
        ("packer validate ~/ima\ton", "packer validate ~/images/one.pkr.hcl "),
    ] {
        let Some(shown) = typed_in("zsh -i", folder.path(), line) else { return };
        assert!(as_it_stands(&shown).contains(completed), "{line}: {shown:?}");
    }
    assert_eq!(set_up(folder.path(), "-autocomplete-uninstall"), (Some(0), String::new()));
    assert_eq!(fs::read_to_string(folder.path().join(".zshrc")).unwrap(), "PS1='$ '\n");
}

/// What a terminal shows in the end that is sent backspaces and returns, without its other orders.
#[cfg(target_os = "linux")]
fn as_it_stands(shown: &str) -> String {
    let mut text = String::new();
    for c in shown.chars() {
        match c {
            '\u{8}' => drop(text.pop()),
            c if c.is_control() && c != '\n' => {}
            c => text.push(c),
        }
    }
    text
}

#[cfg(target_os = "linux")]
#[test]
fn fish_completes_once_it_is_set_up() {
    let folder = folder();
    fs::create_dir_all(folder.path().join(".config/fish")).unwrap();
    fs::write(folder.path().join("größer als das.pkr.hcl"), "").unwrap();
    assert_eq!(set_up(folder.path(), "-autocomplete-install"), (Some(0), String::new()));
    for (line, expected) in [
        ("packer bui", &["build"][..]),
        ("packer build -only=web", &["-only=web.null.a", "-only=web.null.b"]),
        ("packer build -var reg", &["region="]),
        ("packer build grö", &["größer als das.pkr.hcl"]),
        ("packer build images/o", &["images/old.json", "images/one.pkr.hcl"]),
    ] {
        let mut fish = Command::new("fish");
        fish.args(["-c", "complete --do-complete $argv[1]", line]).current_dir(folder.path());
        fish.env("HOME", folder.path()).env_remove("XDG_CONFIG_HOME").env_remove("COMP_LINE");
        // It asks for programs that it finds.
        let program = Path::new(env!("CARGO_BIN_EXE_packer")).parent().unwrap();
        fish.env("PATH", format!("{}:{}", program.display(), std::env::var("PATH").unwrap()));
        let Ok(output) = fish.output() else {
            packer_core::testing::skip("fish");
            return;
        };
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            shown.lines().collect::<Vec<_>>(),
            expected,
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn bash_completes_once_it_is_set_up() {
    let folder = folder();
    fs::write(folder.path().join(".bashrc"), "PS1='$ '\n").unwrap();
    let packer = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packer"));
        command.args(arguments).current_dir(folder.path()).env("HOME", folder.path());
        let output = command.env_remove("XDG_CONFIG_HOME").env_remove("COMP_LINE").output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let rc = folder.path().join(".bashrc").display().to_string();
    assert_eq!(packer(&["-autocomplete-install"]), (Some(0), String::new()));
    assert_eq!(packer(&["-autocomplete-install"]), (Some(1), format!("already installed in {rc}\n")));
    for (line, completed) in [
        ("packer bui", "packer build "),
        ("packer build -on-error=run", "packer build -on-error=run-cleanup-provisioner "),
        ("packer build -only=web.null.a,nu", "packer build -only=web.null.a,null.b "),
        ("packer build -only=", "web.null.b"),
        ("packer build images/on", "packer build images/one.pkr.hcl "),
    ] {
        let Some(shown) = typed_in("bash --noprofile --rcfile .bashrc -i", folder.path(), line) else {
            return;
        };
        assert!(shown.contains(completed), "{line}: {shown}");
    }
    assert_eq!(packer(&["-autocomplete-uninstall"]), (Some(0), String::new()));
    assert_eq!(fs::read_to_string(&rc).unwrap(), "PS1='$ '\n");
    assert_eq!(packer(&["--autocomplete-uninstall"]), (Some(1), format!("not installed in {rc}\n")));
    let (code, shown) = packer(&["-autocomplete-install", "-autocomplete-uninstall"]);
    assert!(code == Some(1) && shown.contains("exclude each other"), "{shown}");
}
