//! The commands `plan` and `cache` of the program.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::Command;

const TEMPLATE: &str = r#"
variable "token" {
  default   = "hunter2-and-more"
  sensitive = true
}
source "file" "base" {
  content = "base"
  target  = "base.txt"
}
source "file" "copy" {
  source = artifacts["file.base"].files[0]
  target = "copy.txt"
}
build {
  sources = ["file.copy", "file.base"]
  provisioner "shell-local" {
    name   = "greet"
    inline = ["echo ${var.token} > greeting.txt"]
    only   = ["file.base"]
  }
  post-processor "manifest" {}
}
"#;

/// The exit code and all output of a command in a folder.
fn packer(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_packer"))
        .args(arguments)
        .current_dir(folder)
        .env("PACKER_CACHE_DIR", folder.join("cache"))
        .output()
        .unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_plan_shows_what_a_build_would_do_and_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.pkr.hcl"), TEMPLATE).unwrap();
    let (code, text) = packer(folder.path(), &["plan", "."]);
    let expected = "file.base
  starts from its source with file
    content = \"base\"
    target = \"base.txt\"
  1. shell-local greet: runs: the builder \"file\" cannot say what it starts from
       inline = [\"<sensitive>\"]
  of the artifact: manifest

file.copy
  runs when these have succeeded: file.base
  starts from its source with file
    source = \"<unknown>\"
    target = \"copy.txt\"
  of the artifact: manifest
";
    assert_eq!((code, text.as_str()), (0, expected));
    let (code, text) = packer(folder.path(), &["plan", "-json", "-cache=false", "-only=file.base", "."]);
    let start = text.find("\n{\n  \"builds\"").map_or(0, |at| at + 1);
    let plan: serde_json::Value = serde_json::from_str(&text[start..]).unwrap();
    assert_eq!(code, 0);
    assert_eq!(plan["builds"].as_array().unwrap().len(), 1);
    assert_eq!(plan["builds"][0]["steps"][0]["reused"], serde_json::Value::Null);
    assert!(!text.contains("hunter2"), "{text}");
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(files, ["t.pkr.hcl"]);
    // What is wrong with a build is said, and the plan is made all the same.
    fs::write(folder.path().join("t.pkr.hcl"), TEMPLATE.replace("\"base.txt\"", "\"\"")).unwrap();
    let (code, text) = packer(folder.path(), &["plan", "."]);
    assert!(code == 1 && text.contains("does not run: its configuration is wrong"), "{code} {text}");
}

#[test]
fn a_cache_is_listed_and_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let steps = folder.path().join("cache/steps");
    let nothing = format!("0 saved states in {}, 0 bytes\n", steps.display());
    assert_eq!(packer(folder.path(), &["cache", "list"]), (0, nothing));
    assert_eq!(packer(folder.path(), &["cache", "list", "-json"]), (0, "[]\n".to_owned()));
    assert_eq!(
        packer(folder.path(), &["cache", "prune", "-all"]),
        (0, "0 saved states removed\n".to_owned())
    );
    for (arguments, why) in [
        (&["cache"] as &[&str], "packer cache needs list or prune\n"),
        (&["cache", "empty"], "packer cache has no \"empty\"; there are list and prune\n"),
        (&["cache", "list", "x"], "packer cache takes no argument \"x\"\n"),
        (&["cache", "prune", "-unused=0s"], "-unused needs more than no time; -all removes all\n"),
    ] {
        let (code, text) = packer(folder.path(), arguments);
        assert!(code == 1 && text.ends_with(why), "{code} {text}");
    }
    assert!(!steps.exists(), "nothing was written");
}
