//! What `hcl2_upgrade` writes loads, and means what the JSON template meant.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use packer_core::language::fmt;
use packer_core::template::upgrade::{Upgraded, fix, to_hcl};
use packer_core::template::{Inputs, Template};
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

/// Files by name.
type Made = std::collections::BTreeMap<String, String>;

/// Runs the upgraded template in a folder of its own; `$DIR` in it is that folder. Returns the files that it made, what was said, and the
/// template that was run. The JSON template, run in the same folder before, must have said the same.
async fn run(template: &str, variables: &[(&str, &str)]) -> (Made, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_string_lossy().replace('\\', "/");
    let template = template.replace("$DIR", &here);
    let upgraded = upgraded(&template);
    let before = Template::from_legacy("t.json", template).unwrap();
    let (said_before, made_before) = outcome(&before, variables, &folder).await;
    let after = Template::from_texts([("t.pkr.hcl", upgraded.text.as_str())])
        .unwrap_or_else(|e| panic!("{e}\n{}", upgraded.text));
    let (said, made) = outcome(&after, variables, &folder).await;
    assert_eq!(said, said_before, "{}", upgraded.text);
    assert_eq!(made, made_before, "{}", upgraded.text);
    (made, said, upgraded.text)
}

/// What a template's builds say, sorted, and the files they make.
async fn outcome(
    template: &Template,
    variables: &[(&str, &str)],
    folder: &tempfile::TempDir,
) -> (String, Made) {
    let mut inputs = Inputs::new();
    for (name, value) in variables {
        inputs = inputs.var(*name, *value);
    }
    let mut pipeline = template.evaluate(&registry(), inputs).await.unwrap_or_else(|e| panic!("{e}"));
    for build in &mut pipeline.builds {
        std::sync::Arc::make_mut(&mut build.info).force = true;
    }
    let said = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = said.clone();
    let report = Engine::new()
        .ledger(std::sync::Arc::new(MemoryLedger::default()))
        .events(move |event: &Event| {
            if let EventKind::Output { line, .. } = &event.kind {
                heard.lock().unwrap().push(line.clone());
            }
        })
        .run(pipeline)
        .await
        .unwrap();
    assert!(report.succeeded(), "{report:?}");
    let mut said = said.lock().unwrap().clone();
    said.sort_unstable();
    let mut made = Made::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        made.insert(name, std::fs::read_to_string(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
    (said.join("\n"), made)
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
        {"type": "file", "target": "$DIR/a", "content": "{{user `both`}} $ $$ $${x} $$${y} %%{z} \\ \t {{upper `up`}} {{user `plain` | lower}} ${{user `my var`}} $$%{{user `my var`}} %{{packer_version}}${{`x`}} $%{{`y`}}%%{{`z`}}"},
        {"type": "file", "name": "16.04 b", "target": "$DIR/b", "content": "{{if eq build_name `16.04 b`}}{{user `my var`}}{{end}} {{ `{{` }}"},
        {"type": "file", "name": "c", "target": "$DIR/c", "content": "{{build_name}} {{build_type}} {{user `chosen`}} {{split `a-b` `-` 1}} {{replace `a` `b` -1 `aa`}}"}
      ]
    }"#;
    let (made, _, text) = run(template, &[]).await;
    assert_eq!(
        made["a"],
        "a \"b\" ${c} %{d}-spaced $ $$ $${x} $$${y} %%{z} \\ \t UP a \"b\" ${c} %{d} $spaced $$%spaced %1.16.0$x $%y%%z",
        "{text}"
    );
    assert_eq!(made["b"], "spaced {{", "{text}");
    assert_eq!(made["c"], "c file yes b bb", "{text}");
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
    let (_, said, text) = run(template, &[("who", "me")]).await;
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        ["five my box", "four null", "one null me", "three", "two my box"],
        "{text}"
    );
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
fn the_texts_of_a_sequence_are_converted_together() {
    let upgraded = upgraded(
        r#"{"variables": {"v": "x"}, "builders": [{"type": "null", "communicator": "none"}],
            "post-processors": [
              [{"type": "shell-local", "inline": ["{{if true}}x{{end}}"]}, {"type": "manifest", "output": "{{.BuildName}}-{{user `v`}}"}],
              {"type": "manifest", "output": "{{.BuildName}}-{{user `v`}}"}]}"#,
    );
    let outputs: Vec<&str> =
        upgraded.text.lines().filter(|line| line.contains("output")).map(str::trim).collect();
    assert_eq!(
        outputs,
        [r#"output = "{{ .BuildName }}-${var.v}""#, r#"output = "{{ .BuildName }}-${var.v}""#],
        "{}",
        upgraded.text
    );
    let upgraded = self::upgraded(
        r#"{"builders": [{"type": "null", "communicator": "none"}],
            "post-processors": [
              [{"type": "shell-local", "inline": ["{{if true}}x{{end}}"]}, {"type": "manifest", "output": "{{.BuildName}}"}],
              {"type": "manifest", "output": "{{.BuildName}}"}]}"#,
    );
    assert!(upgraded.text.contains(r#"output = "{{.BuildName}}""#), "{}", upgraded.text);
    assert!(upgraded.text.contains(r#"output = "{{ .BuildName }}""#), "{}", upgraded.text);
    assert_eq!(upgraded.text.matches("{{if}} has no counterpart").count(), 1, "{}", upgraded.text);
    // Texts are composed as the template language composes them.
    let upgraded = self::upgraded("{\"builders\": [{\"type\": \"x\", \"a\": \"e\u{301}\"}]}");
    assert!(upgraded.text.contains("a = \"\u{e9}\""), "{}", upgraded.text);
}

#[test]
fn what_is_no_template_is_said() {
    for (text, message, column) in [
        ("{\"builders\": [", "Missing value", 15),
        ("[]", "A template must be a JSON object", 1),
        (
            "{\"builders\": [{\"type\": \"null\", \"type\": \"null\"}]}",
            "template has duplicate field: type",
            32,
        ),
        ("{\"builder\": []}", "Unknown root level key in template: 'builder'", 2),
        ("{\"variables\": {\"a\": 1}}", "variable a: the default must be a text", 21),
    ] {
        let found = to_hcl(&SourceFile::new("t.json", text), &registry(), false).unwrap_err();
        let first = found.iter().next().unwrap();
        let place = first.location.as_ref().unwrap().start();
        assert_eq!((first.summary.as_str(), place.column), (message, column), "{text}");
    }
}
