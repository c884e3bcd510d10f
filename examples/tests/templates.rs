//! The templates among the examples: each is valid, and what the folder says is portable is.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The templates, each with the variables that have no default.
const TEMPLATES: [(&str, &[&str]); 10] = [
    ("amazon/image.pkr.hcl", &[]),
    ("amazon/linux_and_windows.pkr.hcl", &[]),
    ("amazon/regions.pkr.hcl", &[]),
    ("docker/from-another.pkr.hcl", &[]),
    ("docker/push.pkr.hcl", &["repository=registry.example/web"]),
    ("docker/web.pkr.hcl", &[]),
    ("qemu/from-image.pkr.hcl", &["image=base.qcow2"]),
    ("qemu/installer.pkr.hcl", &["iso=installer.iso"]),
    ("quickstart/quickstart.pkr.hcl", &[]),
    ("windows/windows.pkr.hcl", &["host=192.0.2.7", "password=a-long-password"]),
];

fn examples() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether this build has the components of a template.
fn has_components(template: &str) -> bool {
    let (amazon, unix) = (cfg!(feature = "amazon"), cfg!(unix));
    if template.starts_with("amazon/") { amazon } else { unix }
}

/// Whether `packer validate` finds nothing wrong, and all it says. The repository's root is where a reader stands.
fn validate(template: &str, options: &[&str], variables: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packer"));
    command.current_dir(examples().parent().unwrap()).arg("validate").args(options);
    for variable in variables {
        command.args(["-var", variable]);
    }
    let output = command.arg(Path::new("examples").join(template)).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn every_template_is_valid() {
    for (template, variables) in TEMPLATES.iter().filter(|(template, _)| has_components(template)) {
        let (is_valid, said) = validate(template, &[], variables);
        assert!(is_valid && said.ends_with("The configuration is valid.\n"), "{template}: {said}");
    }
}

#[test]
fn no_template_is_left_out() {
    let all: BTreeSet<PathBuf> = TEMPLATES.iter().map(|(template, _)| examples().join(template)).collect();
    let mut found = BTreeSet::new();
    for folder in std::fs::read_dir(examples()).unwrap() {
        let folder = folder.unwrap().path();
        // What tests write, and their own data.
        if !folder.is_dir() || folder.ends_with("tests") || folder.ends_with("out") {
            continue;
        }
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        found.extend(files.filter(|path| path.to_string_lossy().ends_with(".pkr.hcl")));
    }
    assert_eq!(found, all);
}

#[test]
#[cfg(feature = "amazon")]
fn those_for_amazon_are_packers_too() {
    let image = "amazon/linux_and_windows.pkr.hcl";
    for (template, variables) in TEMPLATES.iter().filter(|(template, _)| template.starts_with("amazon/")) {
        let (is_valid, said) = validate(template, &["-portable"], variables);
        assert!(is_valid && said == "The configuration is valid.\n", "{template}: {said}");
    }
    for only in ["amazon-ebs.linux", "amazon-ebs.windows"] {
        let (is_valid, said) = validate(image, &["-only", only], &[]);
        assert!(is_valid, "{only}: {said}");
    }
    // What is wrong is seen: a template that nobody looks at would be valid too.
    let (is_valid, said) = validate("amazon/image.pkr.hcl", &[], &["version=a?b"]);
    assert!(!is_valid && said.contains("AMIName should only contain"), "{said}");
}
