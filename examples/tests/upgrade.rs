//! What `hcl2_upgrade` writes loads, and means what the JSON template meant.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use packer_core::template::upgrade::{Upgraded, fix, to_hcl};
use packer_core::template::{Inputs, Template, fmt};
use packer_core::{Engine, Event, EventKind, MemoryLedger, Registry, SourceFile};

fn registry() -> Registry {
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    packer_provisioners::register(&mut registry);
    packer_postproc::register(&mut registry);
    registry
}

fn upgraded(text: &str) -> Upgraded {
    to_hcl(&SourceFile::new("t.json", text), &registry(), false).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Every JSON template of the recorded cases that can be read.
fn recorded() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packer-core/tests/conformance/upgrade");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if let Some((_, template)) = text.split_once("-- in/t.json --\n") {
            let template = template.split("\n-- ").next().unwrap();
            found.push((path.file_name().unwrap().to_string_lossy().into_owned(), template.to_owned()));
        }
    }
    found
}

#[test]
fn every_recorded_template_loads_afterwards() {
    let mut count = 0;
    for (name, template) in recorded() {
        let source = SourceFile::new("t.json", template.as_str());
        let Ok(upgraded) = to_hcl(&source, &registry(), true) else { continue };
        count += 1;
        let file = SourceFile::new("t.pkr.hcl", upgraded.text.as_str());
        assert_eq!(fmt::format(&file).unwrap(), upgraded.text, "{name}: not in canonical layout");
        Template::from_texts([("t.pkr.hcl", upgraded.text.as_str())])
            .unwrap_or_else(|e| panic!("{name}: {e}\n{}", upgraded.text));
        // A template that has been fixed has nothing more to fix.
        if let Ok(fixed) = fix(&source) {
            let again = fix(&SourceFile::new("t.json", fixed.to_json())).unwrap();
            assert_eq!(again.to_json(), fixed.to_json(), "{name}");
        }
    }
    assert!(count > 40, "{count}");
}

/// Runs the upgraded template in a folder of its own; `$DIR` in it is that folder. Returns it with what was said.
async fn run(template: &str, variables: &[(&str, &str)]) -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_string_lossy().replace('\\', "/");
    let upgraded = upgraded(&template.replace("$DIR", &here));
    let template = Template::from_texts([("t.pkr.hcl", upgraded.text.as_str())])
        .unwrap_or_else(|e| panic!("{e}\n{}", upgraded.text));
    let mut inputs = Inputs::new();
    for (name, value) in variables {
        inputs = inputs.var(*name, *value);
    }
    let pipeline =
        template.evaluate(&registry(), inputs).await.unwrap_or_else(|e| panic!("{e}\n{}", upgraded.text));
    let said = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let heard = said.clone();
    let report = Engine::new()
        .ledger(std::sync::Arc::new(MemoryLedger::default()))
        .events(move |event: &Event| {
            if let EventKind::Output { line, .. } = &event.kind {
                heard.lock().unwrap().push_str(&format!("{line}\n"));
            }
        })
        .run(pipeline)
        .await
        .unwrap();
    assert!(report.succeeded(), "{report:?}\n{}", upgraded.text);
    let said = said.lock().unwrap().clone();
    (folder, said, upgraded.text)
}

fn file(folder: &tempfile::TempDir, name: &str) -> String {
    std::fs::read_to_string(folder.path().join(name)).unwrap()
}

#[tokio::test]
async fn texts_mean_what_they_meant() {
    let template = r#"{
      "variables": {
        "plain": "a \"b\" ${c} %{d}",
        "my var": "spaced",
        "both": "{{user `plain`}}-{{user `my var`}}",
        "chosen": "{{if eq (user `my var`) `spaced`}}yes{{else}}no{{end}}"
      },
      "builders": [
        {"type": "file", "target": "$DIR/a", "content": "{{user `both`}} $ $$ $${x} $$${y} %%{z} \\ \t {{upper `up`}} {{user `plain` | lower}}"},
        {"type": "file", "name": "16.04 b", "target": "$DIR/b", "content": "{{if eq build_name `16.04 b`}}{{user `my var`}}{{end}} {{ `{{` }}"},
        {"type": "file", "name": "c", "target": "$DIR/c", "content": "{{build_name}} {{build_type}} {{user `chosen`}} {{split `a-b` `-` 1}} {{replace `a` `b` -1 `aa`}}"}
      ]
    }"#;
    let (folder, _, text) = run(template, &[]).await;
    assert_eq!(
        file(&folder, "a"),
        "a \"b\" ${c} %{d}-spaced $ $$ $${x} $$${y} %%{z} \\ \t UP a \"b\" ${c} %{d}",
        "{text}"
    );
    assert_eq!(file(&folder, "b"), "spaced {{", "{text}");
    assert_eq!(file(&folder, "c"), "c file yes b bb", "{text}");
}

#[cfg(unix)]
#[tokio::test]
async fn steps_mean_what_they_meant() {
    let template = r#"{
      "variables": {"who": null},
      "builders": [
        {"type": "null", "communicator": "none"},
        {"type": "null", "communicator": "none", "name": "my box"}
      ],
      "provisioners": [
        {"type": "shell-local", "inline": "echo one {{build_name}} {{user `who`}}", "only": "null"},
        {"type": "shell-local", "inline": ["echo two {{build_name}}"], "except": ["null"]},
        {"type": "shell-local", "inline": ["echo three"], "override": {"my box": {"inline": ["echo four {{build_type}}"]}},
         "pause_before": 1000000, "max_retries": 1}
      ],
      "post-processors": [
        [{"type": "shell-local", "inline": ["echo five {{build_name}}"], "only": ["my box"]}]
      ]
    }"#;
    let (_folder, said, text) = run(template, &[("who", "me")]).await;
    let mut said: Vec<&str> = said.lines().collect();
    said.sort_unstable();
    assert_eq!(said, ["five my box", "four null", "one null me", "three", "two my box"], "{text}");
}

#[test]
fn environment_is_read_by_a_variable_where_a_local_needs_it() {
    let upgraded = upgraded(
        r#"{"variables": {"h": "{{env `HOME_DIR`}}-{{timestamp}}", "timestamp": "{{isotime `2006`}}"},
            "builders": [{"type": "file", "target": "{{user `h`}}", "content": "{{user `timestamp`}}{{timestamp}}"}]}"#,
    );
    for line in [
        "  default = \"${env(\"HOME_DIR\")}\"",
        "locals { timestamp_2 = regex_replace(timestamp(), \"[- TZ:]\", \"\") }",
        "  h         = \"${var.env_HOME_DIR}-${local.timestamp_2}\"",
        "  content = \"${local.timestamp}${local.timestamp_2}\"",
    ] {
        assert!(upgraded.text.lines().any(|l| l == line), "{line}\n{}", upgraded.text);
    }
}

#[test]
fn what_is_no_template_is_said() {
    for (text, message) in [
        ("{\"builders\": [", "Error parsing JSON"),
        ("[]", "A template must be a JSON object"),
        ("{\"builders\": [{\"type\": \"null\", \"type\": \"null\"}]}", "template has duplicate field: type"),
        ("{\"builders\": [{}]}", "builder 1: missing 'type'"),
        ("{\"builder\": []}", "Unknown root level key in template: 'builder'"),
        ("{\"variables\": {\"a\": 1}}", "variable a: the default must be a text"),
        ("{\"post-processors\": [[[]]]}", "sequence not allowed to be nested in a sequence"),
        (
            "{\"builders\": [{\"type\": \"null\"}, {\"type\": \"null\"}]}",
            "builder with name 'null' already exists",
        ),
    ] {
        let found = to_hcl(&SourceFile::new("t.json", text), &registry(), false).unwrap_err();
        assert_eq!(found.iter().next().unwrap().summary, message, "{text}");
    }
}
