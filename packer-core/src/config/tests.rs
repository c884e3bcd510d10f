//! From text to a struct, as components see it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::*;
use crate::diagnostic::SourceFile;
use crate::duration::GoDuration;
use crate::language::eval::Scope;
use crate::language::go_template::Data;
use crate::language::syntax::{Body, parse_file};
use crate::value::Type;

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
struct Shared {
    wait: GoDuration,
    port: Option<u16>,
    password: Option<String>,
}

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
struct Disk {
    size: i64,
    label: String,
    mount: GoTemplate,
    parts: Vec<Part>,
}

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
struct Part {
    name: String,
}

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Fast,
    VerySlow,
}

#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
struct Machine {
    #[serde(flatten)]
    shared: Shared,
    name: String,
    pty: bool,
    agent: Option<bool>,
    mode: Mode,
    lines: Vec<String>,
    codes: OneOrMany<i32>,
    tags: BTreeMap<String, String>,
    command: Vec<GoTemplate>,
    disk: Vec<Disk>,
    root: Option<Disk>,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
struct Needy {
    name: String,
    #[serde(default)]
    #[schemars(extend("x-aliases" = ["old_size"]))]
    size: u8,
}

fn body(name: &str, text: &str) -> Body {
    let (file, found) = parse_file(&SourceFile::new(name, text));
    assert!(!found.has_errors(), "{found}");
    file.body
}

fn scope() -> Scope {
    Scope::new().with_variables([(
        "var",
        Value::object([
            ("later", Value::unknown(Type::String)),
            ("many", Value::unknown(Type::list(Type::String))),
            ("secret", Value::from("s3cret{{ upper `x` }}").sensitive()),
            ("none", Value::null(Type::Dynamic)),
        ]),
    )])
}

fn interpolation() -> Interpolation {
    Interpolation { build_name: Some("web".into()), ..Interpolation::default() }
        .with_data(Data::map::<&str, &str>([]))
}

fn decode<T: serde::de::DeserializeOwned + JsonSchema>(
    texts: &[&str],
    overrides: Option<&Value>,
) -> Result<T, String> {
    let schema = Schema::of::<T>();
    let bodies: Vec<Body> = texts.iter().map(|text| body("t.pkr.hcl", text)).collect();
    let scope = scope();
    let parts: Vec<super::Part<'_>> =
        bodies.iter().map(|body| super::Part { body, scope: &scope, unknown: false }).collect();
    let mut found = Diagnostics::new();
    let value = Config::from_bodies(&schema, &parts, &mut found)
        .and_then(|config| config.finish(&schema, overrides, &interpolation(), &mut found));
    match value {
        Some(value) => from_value(&value),
        None => Err(found.to_string()),
    }
}

fn decode_json<T: serde::de::DeserializeOwned + JsonSchema>(json: serde_json::Value) -> Result<T, String> {
    let schema = Schema::of::<T>();
    let mut found = Diagnostics::new();
    let value = Config::from_json(&schema, &Value::from(json), &mut found)
        .and_then(|config| config.finish(&schema, None, &interpolation(), &mut found));
    match value {
        Some(value) => from_value(&value),
        None => Err(found.to_string()),
    }
}

#[test]
fn a_block_becomes_a_struct() {
    let machine: Machine = decode(
        &[r#"
            name     = "{{ build_name }}-${upper}"
            wait     = "1m30s"
            port     = "2222"
            password = var.none
            pty      = "true"
            mode     = "very_slow"
            lines    = ["a", 1, true]
            codes    = [0, "3"]
            tags     = { n = 1, "{{ build_name }}" = "{{ build_name }}" }
            command  = ["sh", "{{.Vars}} {{.Path}}"]
            disk {
              size  = 10
              label = "{{ build_name }}"
              mount = "{{.Mount}}"
              parts { name = "p1" }
              parts { name = "p2" }
            }
            dynamic "disk" {
              for_each = [20, 30]
              content { size = disk.value }
            }
            root { size = 5 }
        "#
        .replace("${upper}", "x")
        .as_str()],
        None,
    )
    .unwrap();
    let parts = vec![Part { name: "p1".into() }, Part { name: "p2".into() }];
    let disk = |size| Disk { size, ..Disk::default() };
    assert_eq!(
        machine,
        Machine {
            shared: Shared { wait: GoDuration::from_secs(90), port: Some(2222), password: None },
            name: "web-x".into(),
            pty: true,
            mode: Mode::VerySlow,
            lines: vec!["a".into(), "1".into(), "true".into()],
            codes: OneOrMany(vec![0, 3]),
            tags: BTreeMap::from([("n".into(), "1".into()), ("web".into(), "web".into())]),
            command: vec!["sh".into(), "{{.Vars}} {{.Path}}".into()],
            disk: vec![
                Disk { label: "web".into(), mount: "{{.Mount}}".into(), parts, ..disk(10) },
                disk(20),
                disk(30)
            ],
            root: Some(disk(5)),
            ..Machine::default()
        }
    );
}

#[test]
fn what_is_unknown_becomes_a_placeholder() {
    let machine: Machine = decode(
        &[r#"
            name  = "a-${var.later}"
            port  = var.later
            pty   = var.later
            lines = var.many
            tags  = { a = var.later }
            dynamic "disk" {
              for_each = var.many
              content { size = length(disk.value) }
            }
        "#
        .replace("length(disk.value)", "disk.value")
        .as_str()],
        None,
    )
    .unwrap();
    assert_eq!(machine.name, "<unknown>");
    assert_eq!((machine.shared.port, machine.pty), (Some(0), false));
    assert!(machine.lines.is_empty());
    assert_eq!(machine.tags["a"], "<unknown>");
    assert_eq!(machine.disk, [Disk::default()]);
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, expected) in [
        (
            "nmae = 1",
            "t.pkr.hcl:1,1-5: Unsupported argument; An argument named \"nmae\" is not expected here.",
        ),
        (
            "name = [1]",
            "t.pkr.hcl:1,8-11: Incorrect attribute value type; Inappropriate value for attribute \"name\": string required, not a tuple.",
        ),
        (
            "pty = 1",
            "t.pkr.hcl:1,7-8: Incorrect attribute value type; Inappropriate value for attribute \"pty\": bool required, not the number 1.",
        ),
        (
            "tags {}",
            "t.pkr.hcl:1,1-5: Unsupported block type; Blocks of type \"tags\" are not expected here.",
        ),
        ("root {}\nroot {}", "t.pkr.hcl:2,1-5: Duplicate root block; Only one \"root\" block is allowed."),
        ("disk {\n  sice = 1\n}", "t.pkr.hcl:2,3-7: Unsupported argument; An argument named \"sice\""),
        ("wait = 5", "error decoding 'wait': time: missing unit in duration \"5\""),
        ("port = 70000", "error decoding 'port': the number must be between 0 and 65535"),
        ("lines = [\"a\", null]", "error decoding 'lines[1]': null value is not allowed"),
        ("tags = { a = null }", "error decoding 'tags.a': null value is not allowed"),
        ("name = \"a {{ b\"", "invalid 'name': template: root:1: function \"b\" not defined in:\n\na {{ b"),
        (
            "lines = [\"{{ env `HOME` }}\"]",
            "render 'lines': template: root:1:3: executing \"root\" at <env `HOME`>: error calling env: env vars are \
             not allowed here in:\n\n{{ env `HOME` }}",
        ),
        (
            "command = [\"{{.Vars} {{.Script}}\"]",
            "invalid 'command': template: root:1: bad character U+007D '}' in:\n\n{{.Vars} {{.Script}}",
        ),
        ("disk {\n  mount = \"{{\"\n}", "invalid 'disk': template: root:1: unclosed action in:\n\n{{"),
        ("mode = \"slow\"", "error decoding 'mode': unknown variant `slow`, expected `fast` or `very_slow`"),
    ] {
        let error = decode::<Machine>(&[text], None).unwrap_err();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    let error = decode::<Machine>(&["name = 1", "name = 2"], None).unwrap_err();
    assert!(error.starts_with("t.pkr.hcl:1,1-9: Duplicate argument"), "{error}");
    // All mistakes are told at once.
    let error = decode::<Machine>(&["nmae = 1\npty = 1\nroot {}\nroot {}"], None).unwrap_err();
    assert_eq!(error.lines().count(), 3, "{error}");
}

#[test]
fn what_is_required_must_be_there() {
    for texts in [&["size = 1"][..], &["size = 1", ""]] {
        let error = decode::<Needy>(texts, None).unwrap_err();
        assert!(error.contains("Missing required argument"), "{error}");
    }
    assert_eq!(decode(&["size = 1", "name = 2"], None), Ok(Needy { name: "2".into(), size: 1 }));
    assert_eq!(decode(&["old_size = 1\nname = 2"], None), Ok(Needy { name: "2".into(), size: 1 }));
    let error = decode_json::<Needy>(serde_json::json!({})).unwrap_err();
    assert!(error.contains("Missing required argument"), "{error}");
}

#[test]
fn an_override_lies_over_maps_by_key_and_lists_by_position() {
    let base =
        "lines = [\"a\", \"b\"]\ntags = { x = 1, y = 2 }\nname = \"n\"\ndisk { size = 1 }\ndisk { size = 2 }";
    let over = Value::from(serde_json::json!({
        "lines": ["{{ build_name }}"], "tags": {"y": 3, "z": 4}, "name": null, "disk": [{"label": "l"}],
        "port": "22", "codes": 7,
    }));
    let machine: Machine = decode(&[base], Some(&over)).unwrap();
    assert_eq!(machine.lines, ["web", "b"]);
    assert_eq!(machine.tags, BTreeMap::from(["x1", "y3", "z4"].map(|t| (t[..1].into(), t[1..].into()))));
    assert_eq!(
        (machine.name.as_str(), machine.shared.port, machine.codes),
        ("n", Some(22), OneOrMany(vec![7]))
    );
    let sizes: Vec<_> = machine.disk.iter().map(|d| (d.size, d.label.as_str())).collect();
    assert_eq!(sizes, [(1, "l"), (2, "")]);
    let wrong = Value::from(serde_json::json!({"nmae": 1}));
    let error = decode::<Machine>(&[base], Some(&wrong)).unwrap_err();
    assert_eq!(error, "unknown configuration key: '\"nmae\"' (did you mean \"name\"?)");
}

#[test]
fn legacy_json_is_taken_weakly() {
    let machine: Machine = decode_json(serde_json::json!({
        "type": "machine", "packer_debug": true,
        "NAME": true, "wait": 1_500_000_000, "port": "0x16", "pty": "1", "agent": "", "lines": "a,b,{{ build_name }}",
        "codes": "3", "tags": [{"a": 1.5}, {"b": "x"}], "command": "one", "disk": {"SIZE": "10"}, "root": [{"size": 2.9}],
    }))
    .unwrap();
    assert_eq!(machine.name, "1");
    assert_eq!(machine.shared.wait.to_string(), "1.5s");
    assert_eq!((machine.shared.port, machine.pty, machine.agent), (Some(22), true, None));
    assert_eq!(machine.lines, ["a", "b", "web"]);
    assert_eq!(machine.codes.0, [3]);
    assert_eq!(machine.tags, BTreeMap::from([("a".into(), "1.5".into()), ("b".into(), "x".into())]));
    assert_eq!(machine.command, ["one".into()]);
    assert_eq!((machine.disk[0].size, machine.root.unwrap().size), (10, 2));

    for (json, expected) in [
        (serde_json::json!({"nonsense": 1}), "unknown configuration key: '\"nonsense\"'"),
        (serde_json::json!({"iso_md5": "x"}), "Deprecated configuration key: 'iso_md5'"),
        (
            serde_json::json!({"disk": [{"sice": 1}]}),
            "unknown configuration key: '\"disk.sice\"' (did you mean",
        ),
        (serde_json::json!({"port": "22x"}), "error decoding 'port': \"22x\" is no whole number"),
        (serde_json::json!({"pty": "yes"}), "error decoding 'pty': \"yes\" is neither true nor false"),
        (serde_json::json!({"name": ["x"]}), "error decoding 'name': a text is wanted, not a tuple"),
        (serde_json::json!({"tags": 1}), "error decoding 'tags': a map is wanted, not a number"),
        (serde_json::json!({"disk": 1}), "'disk' must be an object, not a number"),
        (serde_json::json!([]), "the configuration must be an object, not a tuple"),
        (serde_json::json!({"root": [{}, {}]}), "'root' may be given only once"),
    ] {
        let error = decode_json::<Machine>(json).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn secrets_stay_marked_and_out_of_messages() {
    let schema = Schema::of::<Machine>();
    let body = body("t.pkr.hcl", "password = var.secret\nmode = var.secret");
    let scope = scope();
    let mut found = Diagnostics::new();
    let parts = [super::Part { body: &body, scope: &scope, unknown: false }];
    let config = Config::from_bodies(&schema, &parts, &mut found).unwrap();
    assert!(config.is_known());
    let value = config.finish(&schema, None, &interpolation(), &mut found).unwrap();
    let password = value.get("password").unwrap();
    assert_eq!((password.as_str(), password.is_sensitive()), (Some("s3cretX"), true));
    let error = from_value::<Machine>(&value).unwrap_err();
    assert_eq!(error, "error decoding 'mode': the (sensitive) value does not fit");
    for text in ["name = var.bad", "port = var.bad", "wait = var.bad", "pty = var.bad"] {
        let bad = Value::object([("bad", Value::from("{{ hunter2").sensitive())]);
        let scope = Scope::new().with_variables([("var", bad)]);
        let body = self::body("t.pkr.hcl", text);
        let parts = [super::Part { body: &body, scope: &scope, unknown: false }];
        let mut found = Diagnostics::new();
        let config = Config::from_bodies(&schema, &parts, &mut found).unwrap_or_default();
        config.finish(&schema, None, &interpolation(), &mut found);
        assert!(found.has_errors() && !found.to_string().contains("hunter2"), "{found}");
    }
}
