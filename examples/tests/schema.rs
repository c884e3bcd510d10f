//! The JSON Schema of templates, in the hands of a validator: it takes what loads and refuses what is misspelt.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use jsonschema::Validator;
use packer_core::Registry;
use packer_core::template::schema;
use serde_json::{Value, json};

fn registry() -> Registry {
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    packer_provisioners::register(&mut registry);
    packer_postproc::register(&mut registry);
    registry
}

fn validator() -> Validator {
    let schema = schema(&registry());
    jsonschema::draft202012::meta::validate(&schema).unwrap_or_else(|e| panic!("no schema: {e}"));
    jsonschema::draft202012::new(&schema).unwrap_or_else(|e| panic!("{e}"))
}

/// The `.pkr.json` files of the recorded cases whose templates load.
fn recorded() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packer-core/tests/conformance/json-syntax");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.contains("\nexit 0\n") && !text.starts_with("exit 0\n") {
            continue;
        }
        for section in text.split("\n-- in/").skip(1) {
            let (name, content) = section.split_once(" --\n").unwrap();
            let content = content.split("\n-- ").next().unwrap();
            if name.ends_with(".pkr.json") {
                // A file beside the template may be anything.
                let Ok(value) = serde_json::from_str(content) else { continue };
                found.push((format!("{}: {name}", path.file_name().unwrap().to_string_lossy()), value));
            }
        }
    }
    found
}

#[test]
fn it_takes_every_template_that_loads() {
    let validator = validator();
    let recorded = recorded();
    assert!(recorded.len() > 30, "the cases are there");
    let mut refused = Vec::new();
    for (name, template) in recorded {
        let errors: Vec<String> =
            validator.iter_errors(&template).map(|e| format!("{e} at {}", e.instance_path())).collect();
        if !errors.is_empty() {
            refused.push(format!("{name}:\n  {}\n{template:#}", errors.join("\n  ")));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// A template around the body of a provisioner.
fn with_provisioner(kind: &str, body: Value) -> Value {
    json!({
        "source": {"null": {"a": {"communicator": "none"}}},
        "build": {"sources": ["null.a"], "provisioner": {kind: body}},
    })
}

#[test]
fn it_refuses_what_is_misspelt_or_of_another_type() {
    let validator = validator();
    for good in [
        json!({"variable": {"a": {"type": "string"}}, "locals": {"b": [1]}, "//": "a comment"}),
        json!([{"variable": [{"a": {}}, {"b": {"default": 1}}]}, {"locals": [{}]}]),
        with_provisioner(
            "shell",
            json!({"inline": ["a", 1], "pause_before": "1m30s", "max_retries": "${var.n}"}),
        ),
        with_provisioner("shell", json!([{"inline": "${var.lines}", "only": ["null.a"]}, {"script": null}])),
        with_provisioner(
            "file",
            json!({"source": "a", "destination": "b", "direction": "upload", "generated": true}),
        ),
    ] {
        assert!(validator.is_valid(&good), "{good:#}");
    }
    for bad in [
        json!({"varable": {}}),
        json!({"variable": {"a": {"defualt": 1}}}),
        json!({"source": {"nul": {"a": {}}}}),
        json!({"source": {"null": {"a": {"comunicator": "none"}}}}),
        json!({"source": {"null": {"a": {"ssh_port": true}}}}),
        json!({"packer": {"required_plugins": {"docker": {"source": "github.com/hashicorp/docker"}}}}),
        json!({"build": {"provisioner": {"shell": {"inlin": ["a"]}}}}),
        with_provisioner("shell", json!({"inline": "a plain text is no list"})),
        with_provisioner("shell", json!({"inline": [["a"]]})),
        with_provisioner("shell", json!({"inline": ["a"], "pause_before": "5"})),
        with_provisioner("shell", json!({"inline": ["a"], "max_retries": "many"})),
        with_provisioner("shell", json!({"inline": ["a"], "keep_input_artifact": true})),
    ] {
        assert!(!validator.is_valid(&bad), "{bad:#}");
    }
}

#[test]
fn every_field_of_every_component_has_a_type_a_doc_and_its_default() {
    let schema = schema(&registry());
    let field = |component: &str, name: &str| schema["$defs"][component]["properties"][name].clone();
    let pause = field("provisioner.shell", "pause_before");
    assert!(pause["description"].as_str().unwrap().contains("wait"));
    let mut undocumented = Vec::new();
    let mut fields = 0;
    for (component, body) in schema["$defs"].as_object().unwrap() {
        if !component.contains('.') {
            continue;
        }
        for (name, field) in body["properties"].as_object().unwrap() {
            fields += 1;
            if name != "dynamic" && field["description"].as_str().is_none_or(str::is_empty) {
                undocumented.push(format!("{component}.{name}"));
            }
        }
    }
    assert!(fields > 200, "{fields}");
    assert!(undocumented.is_empty(), "no doc: {undocumented:?}");
    assert_eq!(field("post-processor.checksum", "checksum_types")["default"], json!([]));
    assert_eq!(field("builder.null", "communicator")["type"], json!(["string", "number", "boolean", "null"]));
}
