//! The documentation of what templates can say here beyond Packer: its examples are built, and each use is warned of.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const DOCUMENTATION: &str = include_str!("../../packer-core/src/template/extensions.rs");

/// The ```hcl blocks of the documentation.
fn documented() -> Vec<String> {
    let lines =
        DOCUMENTATION.lines().filter_map(|l| l.strip_prefix("//!")).map(|l| l.strip_prefix(' ').unwrap_or(l));
    let (mut blocks, mut open) = (Vec::new(), None);
    for line in lines {
        match (&mut open, line) {
            (None, "```hcl") => open = Some(String::new()),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(text), line) => {
                text.push_str(line);
                text.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

/// What the program says, and whether it is content.
fn packer(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let at = |name: &str| folder.parent().unwrap().join(name);
    let output = Command::new(env!("CARGO_BIN_EXE_packer"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs([("HOME", at("home")), ("TMPDIR", at("tmp")), ("PACKER_CACHE_DIR", at("cache"))])
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// Builds a template in a folder of its own: what was said, and the files in the folder.
fn build(text: &str, arguments: &[&str]) -> (bool, String, BTreeMap<String, Vec<u8>>) {
    let root = tempfile::tempdir().unwrap();
    for name in ["work", "home", "tmp", "cache"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    let work = root.path().join("work");
    fs::write(work.join("t.pkr.hcl"), text).unwrap();
    let (good, said) = packer(&work, arguments);
    let mut files = BTreeMap::new();
    let mut pending = vec![work.clone()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => pending.push(path),
                false => drop(files.insert(
                    path.strip_prefix(&work).unwrap().to_string_lossy().replace('\\', "/"),
                    fs::read(&path).unwrap(),
                )),
            }
        }
    }
    (good, said, files)
}

#[test]
fn every_documented_template_builds() {
    let made: [&[&str]; 7] = [
        &["motd/web.txt", "motd/db.txt"],
        &["dev.conf", "prod.conf", "dev.sum", "prod.sum"],
        &["notes.tar.gz", "draft.txt"],
        &[],
        &["motd.txt", "motd/index.json"],
        &["image.img", "copy.img"],
        &["key.txt"],
    ];
    let blocks = documented();
    assert_eq!(blocks.len(), made.len());
    for (text, expected) in blocks.iter().zip(made) {
        let (good, said, files) = build(text, &["build", "-var", "release=true", "."]);
        let (good, said, files) = match text.contains("variable \"release\"") {
            true => (good, said, files),
            false => build(text, &["build", "."]),
        };
        assert!(good, "{said}\nfor\n{text}");
        for name in expected {
            assert!(files.contains_key(*name), "no {name} in {:?} for\n{text}", files.keys());
        }
        let (good, said, _) = build(text, &["validate", "-portable", "."]);
        assert!(good && said.contains("Warning: Not portable"), "{said}\nfor\n{text}");
        let (_, plain, _) = build(text, &["validate", "."]);
        assert_eq!(plain, "The configuration is valid.\n", "for\n{text}");
    }
}

#[test]
fn outputs_are_listed_for_people_and_programs() {
    let text = documented().pop().unwrap();
    let (_, said, _) = build(&text, &["build", "-color=false", "."]);
    assert!(said.ends_with("\n==> Outputs:\n--> all_files: <sensitive>\n--> key_file: key.txt\n"), "{said}");
    let (_, said, _) = build(&text, &["build", "-machine-readable", "."]);
    assert!(said.contains(",,output,key_file,key.txt\n"), "{said}");
    let (_, said, _) = build(&text, &["build", "-json", "."]);
    let line = said.lines().find(|l| l.contains(r#""event":"outputs""#)).unwrap();
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(event["outputs"], serde_json::json!({"all_files": "<sensitive>", "key_file": "key.txt"}));
}

#[test]
fn a_portable_template_is_not_warned_of() {
    let text =
        "source \"null\" \"n\" {\n  communicator = \"none\"\n}\nbuild {\n  sources = [\"null.n\"]\n}\n";
    assert_eq!(build(text, &["validate", "-portable", "."]).1, "The configuration is valid.\n");
}
