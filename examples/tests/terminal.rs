//! What machines print gives no orders to the terminal of the person who looks.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![cfg(unix)]

use std::process::{Command, Stdio};

const TEMPLATE: &str = r#"
source "null" "a" {
  communicator = "none"
}
build {
  sources = ["null.a"]
  provisioner "shell-local" {
    inline = ["printf '\\033[32mgreen\\033[0m \\033]52;c;aGFjaw==\\007 \\033[2J\\n'"]
  }
}
"#;

fn printed(program: &str, args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.pkr.hcl"), TEMPLATE).unwrap();
    let mut command = Command::new(program);
    command.args(args).current_dir(folder.path()).stdin(Stdio::null());
    command.env("TMPDIR", folder.path()).env("PACKER_CACHE_DIR", folder.path().join("cache"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn orders_reach_a_pipe_as_they_are_and_a_terminal_written_out() {
    let packer = env!("CARGO_BIN_EXE_packer");
    let text = printed(packer, &["build", "-color=false", "."]);
    assert!(text.contains("\x1b[32mgreen\x1b[0m \x1b]52;c;aGFjaw==\x07 \x1b[2J"), "{text:?}");
    let Some(script) = packer_core::testing::require("script") else { return };
    for redirection in ["", " 2>/dev/null"] {
        let line = format!("{packer} build -color=false .{redirection}");
        let text = printed(&script.to_string_lossy(), &["-qec", &line, "/dev/null"]);
        assert!(text.contains("\x1b[32mgreen\x1b[0m ^[]52;c;aGFjaw==^G ^[[2J"), "{text:?}");
        assert!(!text.contains("\x1b]52") && !text.contains("\x1b[2J"), "{text:?}");
    }
}
