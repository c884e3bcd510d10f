//! Legacy templates from text to pipeline, with components that tell what they were given.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::artifact::Artifact;
use crate::builder::{Builder, Machine, Prepared};
use crate::config::GoTemplate;
use crate::context::{Context, Host, PrepareContext};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::language::functions::{Function, Functions, Param};
use crate::ledger::Resource;
use crate::pipeline::Pipeline;
use crate::post_processor::{PostProcessor, Processed};
use crate::provisioner::Provisioner;
use crate::registry::Registry;
use crate::template::{Inputs, InspectLine, Language, Template};
use crate::value::{Type, Value};

/// Tells its configuration as a warning.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Tell {
    text: String,
    list: Vec<String>,
    number: i64,
    map: BTreeMap<String, String>,
    late: GoTemplate,
    inner: Vec<Inner>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
struct Inner {
    name: String,
}

impl Tell {
    fn told(&self) -> Diagnostics {
        let mut text = format!("{:?} {:?} {}", self.text, self.list, self.number);
        if !self.map.is_empty() || !self.inner.is_empty() {
            let _ =
                write!(text, " {:?} {:?}", self.map, self.inner.iter().map(|i| &i.name).collect::<Vec<_>>());
        }
        if !self.late.is_empty() {
            let _ = write!(text, " late {}", self.late.as_str());
        }
        Diagnostic::warning(text).into()
    }
}

#[async_trait]
impl Builder for Tell {
    async fn prepare(&self, _: &PrepareContext) -> std::result::Result<Prepared, Diagnostics> {
        let mut prepared = Prepared::new();
        prepared.warnings = self.told();
        if self.text == "refused" {
            return Err(Diagnostic::error("text must not be refused").into());
        }
        Ok(prepared)
    }

    async fn launch(&self, _: &Context) -> Result<Box<dyn Machine>> {
        Err(Error::user("there are no machines here"))
    }

    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
    }

    fn variables(&self) -> Vec<std::borrow::Cow<'static, str>> {
        vec!["Own".into()]
    }
}

#[async_trait]
impl Provisioner for Tell {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        self.told()
    }

    async fn provision(&self, _: &Context, _: &dyn Machine) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl PostProcessor for Tell {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        self.told()
    }

    async fn post_process(&self, _: &Context, artifact: Artifact) -> Result<Processed> {
        Ok(Processed::replacing(artifact))
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.builder::<Tell>("b").provisioner::<Tell>("p").post_processor::<Tell>("s");
    registry
}

async fn evaluate(text: &str, inputs: Inputs) -> std::result::Result<Pipeline, Diagnostics> {
    Template::from_legacy("t.json", text)?.evaluate(&registry(), inputs).await
}

/// One finding a line, each with the line it is about.
fn lines(found: &Diagnostics) -> String {
    let line = |d: &Diagnostic| d.location.as_ref().map_or(0, |l| l.start().line);
    found.iter().map(|d| format!("{}: {} | {}\n", line(d), d.summary, d.detail)).collect()
}

/// What preparing the pipeline of a template tells.
async fn prepared(text: &str, inputs: Inputs) -> String {
    let pipeline = evaluate(text, inputs).await.unwrap_or_else(|found| panic!("{text}: {found}"));
    lines(&Engine::new().prepare(&pipeline).await)
}

#[tokio::test]
async fn what_is_wrong_with_the_text_is_told_where_it_is() {
    let deep = format!("{{\"variables\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for (text, expected) in [
        ("", vec!["1: Missing value"]),
        ("\u{feff}{}", vec!["1: Invalid start of value"]),
        ("{\n\"a\": [\n1\n", vec!["4: Unclosed array"]),
        ("{\n\"a\": \"b", vec!["2: Unclosed string"]),
        ("{\n\"description\": \"b\n\"}", vec!["3: Invalid JSON string"]),
        ("{\n\"description\": \"\\u12\n\"}", vec!["2: Invalid JSON string", "3: Invalid JSON string"]),
        (
            "{\n\"a\": [1,\n],\n\"b\": 01\n,\"c\": +1}",
            vec!["3: Trailing comma in array", "4: Invalid JSON number", "5: Invalid JSON number"],
        ),
        ("{\"variables\":\n1e999}", vec!["2: Number too large"]),
        (&deep, vec!["1: Nesting too deep"]),
        ("{}\nx", vec!["2: Extraneous data after value"]),
        ("null", vec!["1: A template must be a JSON object"]),
        ("{\n\"builder\": [],\n\"x\": {\"a\": 1,\n\"a\": 2}}", vec!["4: template has duplicate field: a"]),
        (
            "{\n\"builder\": [],\n\"_c\": 1,\n\"push\": 1,\n\"Description\": 1,\n\"variables\": {\"a\": true, \"b\":\n5}}",
            vec![
                "2: Unknown root level key in template: 'builder'",
                "3: The comment \"_c\" is not a text",
                "4: Wrong kind of value",
                "5: Wrong kind of value",
                "6: variable a: the default must be a text",
                "7: variable b: the default must be a text",
            ],
        ),
        (
            "{\"builders\": [{},\n3,\n{\"type\": \"b\"},\n{\"type\": \"b\"},\nnull, {\"type\":\n[]}]}",
            vec![
                "1: builder 1: missing 'type'",
                "2: builder 2 must be an object",
                "4: builder 4: builder with name 'b' already exists",
                "5: builder 5: missing 'type'",
                "5: builder 6: missing 'type'",
                "6: Wrong kind of value",
            ],
        ),
        (
            "{\"provisioners\": [{\"type\": \"p\",\n\"pause_before\": \"1\",\n\"timeout\": [],\n\"only\": {},\n\"override\": 1},\n{}]}",
            vec![
                "2: Failed to parse pause_before duration",
                "3: Wrong kind of value",
                "4: Wrong kind of value",
                "5: Wrong kind of value",
                "6: provisioner 2: Provisioner missing 'type'",
            ],
        ),
        (
            "{\"post-processors\": [\"s\", [\"s\",\n[\"s\"]],\n{\"type\": \"s\", \"only\": \"b\"},\n{\"type\": \"s\", \"keep_input_artifact\": 1},\n7]}",
            vec![
                "2: post-processor 2.2: sequence not allowed to be nested in a sequence",
                "3: Wrong kind of value",
                "4: post-processor 4.1: 'keep_input_artifact' must be true or false",
                "5: post-processor 5.1 must be an object",
            ],
        ),
    ] {
        let found = Template::from_legacy("t.json", text).unwrap_err();
        let found = lines(&found);
        let found: Vec<&str> = found.lines().map(|line| line.split(" | ").next().unwrap()).collect();
        let shown: String = text.chars().take(100).collect();
        assert_eq!(found, expected, "{shown}");
    }
}

#[tokio::test]
async fn what_does_not_hold_together_is_told_at_once() {
    for (text, expected) in [
        ("{}", vec!["1: at least one builder must be defined"]),
        (
            "{\"builders\": [{\"type\": \"nope\"}],\n\"min_packer_version\": \"1.16.1\"}",
            vec!["2: This template requires Packer version 1.16.1 or higher; using 1.16.0"],
        ),
        (
            "{\"builders\": [{\"type\": \"b\"}],\n\"min_packer_version\": \"new\"}",
            vec!["2: Invalid min_packer_version"],
        ),
        (
            "{\"builders\": [{\"type\": \"b\"}], \"provisioners\": [{\"type\": \"p\",\n\"only\": [\"b\", \"c\"],\n\
             \"except\": \"b\",\n\"override\": {\"x\": {}},\n\"nope\": 1}],\n\"variables\": {\"a\": \"{{user `a`}}\",\n\
             \"r\": null}}",
            vec![
                "2: provisioner 1: only one of 'only' or 'except' may be specified",
                "2: provisioner 1: 'only' specified builder 'c' not found",
                "4: provisioner 1: override 'x' doesn't exist",
                "6: Failed to interpolate \"a\"",
                "7: required variable not set: r",
            ],
        ),
        (
            "{\"builders\": [{\"type\": \"b\"}], \"provisioners\": [{\"type\": \"p\",\n\"override\": {\"b\": 1}}]}",
            vec!["2: Wrong kind of value"],
        ),
        (
            "{\"builders\": [{\"type\": \"b\",\n\"nope\": 1}], \"provisioners\": [{\"type\": \"p\",\n\"only\": \"c\"}]}",
            vec![
                "2: Failed to prepare build: \"b\"",
                "3: provisioner 1: 'only' specified builder 'c' not found",
            ],
        ),
        (
            "{\"variables\": {\"n\": \"x\"}, \"builders\": [{\"type\": \"b\", \"name\": \"{{user `n`}}\"},\n\
             {\"type\": \"b\", \"name\": \"x\"},\n{\"type\": \"b\", \"name\": \"{{nope}}\"}]}",
            vec![
                "2: builder with name 'x' already exists",
                "3: Failed to interpolate the name of the builder \"{{nope}}\"",
            ],
        ),
    ] {
        let found = lines(&evaluate(text, Inputs::new()).await.unwrap_err());
        let found: Vec<&str> = found.lines().map(|line| line.split(" | ").next().unwrap()).collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[tokio::test]
async fn mistakes_of_components_are_told_under_the_name_of_each_build() {
    let text = r#"{"builders": [
        {"type": "b", "name": "good", "text": "x"},
        {"type": "b", "name": "bad",
         "text": "{{upper}}",
         "inner": [{"name": "a"}, {
           "Name": "b", "nmae": 1}],
         "number": "x"},
        {"type": "b", "name": "refused", "text": "refused"},
        {"type": "c"}
      ],
      "provisioners": [{"type": "p", "only": "good", "override": {"good": {
         "lisst": []}}},
        {"type": "q", "only": "refused"}]}"#;
    let found = prepared(text, Inputs::new()).await;
    let expected = [
        "6: Failed to prepare build: \"bad\" | unknown configuration key: '\"inner.nmae\"'",
        "9: Failed to initialize build \"c\" | Unknown builder type \"c\". Nothing of this type is built in here.",
        "12: Failed to prepare build: \"good\" | unknown configuration key: '\"lisst\"'",
        "13: Failed to initialize build \"refused\" | Unknown provisioner type \"q\". Nothing of this type is built in here.",
    ];
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
    let text = text.replace("\"nmae\": 1", "\"_\": null").replace(", \"_\": null", "");
    let found = prepared(&text, Inputs::new().only(["bad"])).await;
    assert!(
        found.contains("4: Failed to prepare build: \"bad\" | render 'text': template: root:1:2"),
        "{found}"
    );
    assert!(found.contains("7: Failed to prepare build: \"bad\" | error decoding 'number'"), "{found}");
}

#[tokio::test]
async fn variables_are_made_of_each_other() {
    let env = BTreeMap::from([
        ("E".to_owned(), "env".to_owned()),
        ("ASKS".to_owned(), "<{{user `z`}}{{ .Later }}>".to_owned()),
    ]);
    let mut host = Host::new();
    host.env = env;
    let text = r#"{
      "variables": {"a": "{{user `m`}}-{{ user \"z\" | upper }}", "m": "{{user `z`}}{{ .Later }}{{env `E`}}", "z": "base",
        "asks": "{{env `ASKS`}}", "given": null, "none": "{{env `NONE`}}"},
      "builders": [{"type": "b", "text": "{{user `a`}}|{{user `asks`}}|{{user `given`}}|{{user `extra`}}|{{user `nope`}}|"}]}"#;
    let inputs =
        Inputs::new().host(host).var("given", "").var("given", "{{user `z`}}!").var("extra", "{{`{{`}}");
    let found = prepared(text, inputs).await;
    let expected = "base{{ .Later }}env-BASE|<base{{ .Later }}>|base!|{{||";
    assert!(found.contains(expected), "{found}");
}

#[tokio::test]
async fn variables_that_cannot_be_resolved_are_each_told_once() {
    for (variables, expected) in [
        (
            r#""a": "{{user `a`}}""#,
            vec!["Failed to interpolate \"a\" | variable not set: it is made of itself. a, which needs a."],
        ),
        (
            r#""a": "{{user `b`}}", "b": "{{user `c`}}", "c": "{{user `b`}}", "d": "{{user `a`}}""#,
            vec![
                "Failed to interpolate \"b\" | variable not set: it is made of itself. b, which needs c, which needs b.",
            ],
        ),
        (
            r#""a": "{{user `nope`}}", "b": "{{user `a`}}""#,
            vec![
                "Failed to interpolate \"a\" | variable not set: nope. What a variable is made of must be declared or given.",
            ],
        ),
        (
            r#""a": null, "b": "{{user `a`}}""#,
            vec!["required variable not set: a | The variable has no default, so a value must be given."],
        ),
        (
            r#""a": "{{build_name}}", "b": "{{if}}""#,
            vec![
                "Failed to interpolate \"a\" | template: root:1:2: executing \"root\" at <build_name>: error calling build_name: \
                 build_name not available",
                "Failed to interpolate \"b\" | template: root:1: missing value for if",
            ],
        ),
        (
            r#""a": "{{vault `x` `y`}}""#,
            vec![
                "Failed to interpolate \"a\" | template: root:1:2: executing \"root\" at <vault `x` `y`>: error calling vault: \
                 this program does not offer vault",
            ],
        ),
    ] {
        let text = format!("{{\"builders\": [{{\"type\": \"b\"}}], \"variables\": {{{variables}}}}}");
        let inputs = Inputs::new().functions(Functions::standard().without("vault"));
        let found = lines(&evaluate(&text, inputs).await.unwrap_err());
        let expected: String = expected.iter().map(|line| format!("1: {line}\n")).collect();
        assert_eq!(found, expected, "{variables}");
    }
}

#[tokio::test]
async fn secrets_come_from_the_functions_that_hcl_templates_call() {
    let secret = |params: usize| {
        let params = ["a", "b"].into_iter().take(params).map(|name| Param::string(name).nullable());
        Function::new(params, Type::String, |args, capabilities| {
            let args: Vec<&str> = args.iter().map(|a| a.as_str().unwrap_or("-")).collect();
            Ok(Value::from(format!("{}@{}", args.join("/"), capabilities.env["WHERE"])))
        })
    };
    let functions = Functions::none()
        .with("vault", secret(2))
        .with("consul_key", secret(1))
        .with("aws_secretsmanager", secret(2));
    let mut host = Host::new();
    host.env.insert("WHERE".into(), "here".into());
    let text = r#"{"variables": {"v": "{{vault `p` `k`}} {{consul_key `c`}} {{aws_secretsmanager `n`}} {{aws_secretsmanager `n` `k`}}"},
        "sensitive-variables": ["v"], "builders": [{"type": "b", "text": "{{user `v`}}"}]}"#;
    let pipeline = evaluate(text, Inputs::new().functions(functions.clone()).host(host)).await.unwrap();
    let found = lines(&Engine::new().prepare(&pipeline).await);
    assert!(!found.contains("p/k@here"), "{found}");
    assert_eq!(pipeline.secrets.scrub("p/k@here c@here n/-@here n/k@here"), "<sensitive>");
    let text = r#"{"builders": [{"type": "b", "text": "{{vault `p` `k`}}"}]}"#;
    let found = prepared(text, Inputs::new().functions(functions)).await;
    assert!(found.contains("Vault vars are only allowed in the variables section"), "{found}");
}

#[tokio::test]
async fn no_message_holds_a_secret() {
    let text = r#"{"variables": {"pw": "hunter2{{nope}}", "other": "hunter3"}, "sensitive-variables": ["pw", "other"],
        "builders": [{"type": "b", "number": "hunter3"}, {"type": "b", "name": "n", "text": "{{nope `hunter3`}}"}]}"#;
    let found = evaluate(text, Inputs::new()).await.unwrap_err();
    assert!(!found.to_string().contains("hunter"), "{found}");
    let text = text.replace("hunter2{{nope}}", "hunter2");
    let pipeline = evaluate(&text, Inputs::new()).await.unwrap();
    let mut found = Engine::new().prepare(&pipeline).await;
    found.scrub(&pipeline.secrets);
    assert!(
        found.has_errors() && !crate::diagnostic::packer_layout_all(&found).contains("hunter"),
        "{found}"
    );
}

#[tokio::test]
async fn builds_have_the_names_and_the_steps_that_the_template_gives_them() {
    let text = r#"{
      "variables": {"n": "web", "r": "2"},
      "builders": [
        {"type": "b", "name": "{{user `n`}}", "text": "{{build_name}} {{build_type}}"},
        {"type": "b", "text": true, "number": "0x10", "LIST": "a,b"},
        {"type": "b", "name": "Z", "text": 1e21, "list": ["x", null, 1.5], "map": {"{{user `n`}}": 7}}
      ],
      "provisioners": [
        {"type": "p", "text": "{{build `ID`}} {{build `Own`}} {{.Port}} {{.Nope}}", "late": "{{.Vars}} {{user `n`}}", "only": ["b"],
         "pause_before": 1500000, "timeout": "1s"},
        {"type": "p", "text": "base", "list": ["1", "2"], "except": "b", "timeout": "90s", "max_retries": "{{user `r`}}",
         "override": {"{{user `n`}}": {"list": ["over"]}}}
      ],
      "error-cleanup-provisioner": {"type": "p", "text": "clean"},
      "post-processors": [
        ["s", {"type": "s", "name": "two", "keep_input_artifact": true}, "s"],
        {"type": "s", "except": ["Z"], "text": "{{build `WinRMPassword`}}"}
      ]
    }"#;
    let pipeline = evaluate(text, Inputs::new().except(["two"])).await.unwrap();
    let mut seen = String::new();
    for build in &pipeline.builds {
        let steps = |s: &crate::ProvisionStep| (s.pause_before, s.timeout, s.max_retries);
        let sequences: Vec<Vec<&str>> =
            build.post_processors.iter().map(|s| s.iter().map(|p| p.name.as_str()).collect()).collect();
        let provisioners: Vec<_> = build.provisioners.iter().map(steps).collect();
        let _ = writeln!(seen, "{} {} {provisioners:?} {sequences:?}", build.name(), build.info.name);
    }
    let expected = "b.Z Z [(0ns, Some(90s), 2)] [[\"s\"]]\n\
                    b b [(1.5ms, None, 0)] [[\"s\"], [\"s\"]]\n\
                    b.web web [(0ns, Some(90s), 2)] [[\"s\"], [\"s\"]]\n";
    assert_eq!(seen, expected);
    let found = lines(&Engine::new().prepare(&pipeline).await);
    for expected in [
        r#"build: "Z" | "1000000000000000000000" ["x", "", "1.5"] 0 {"web": "7"} []"#,
        r#"build: "b" | "1" ["a", "b"] 16"#,
        r#"build: "b" | "{{.ID}} {{.Own}} Build_Port. To set this dynamically in the Packer template, you must use the `build` function <no value>" [] 0 late {{.Vars}} {{user `n`}}"#,
        r#"build: "web" | "web b" [] 0"#,
        r#"build: "web" | "base" ["over", "2"] 0"#,
        r#"build: "web" | "clean" [] 0"#,
        r#"build: "web" | "{{.WinRMPassword}}" [] 0"#,
    ] {
        assert!(found.contains(&format!("0: Warning when preparing {expected}\n")), "{expected} in\n{found}");
    }
    for (only, except, names) in [
        (vec!["web"], vec![], vec!["b.web"]),
        (vec!["b.web"], vec![], vec![]),
        (vec!["*"], vec![], vec![]),
        (vec!["web", "b"], vec!["b"], vec!["b.web"]),
        (vec![], vec!["Z", "web"], vec!["b"]),
    ] {
        let pipeline = evaluate(text, Inputs::new().only(only).except(except)).await.unwrap();
        assert_eq!(pipeline.builds.iter().map(crate::Build::name).collect::<Vec<_>>(), names);
    }
}

#[tokio::test]
async fn files_of_variables_are_plain_json() {
    let folder = tempfile::tempdir().unwrap();
    let template = r#"{"variables": {"a": "default"}, "builders": [{"type": "b", "text": "{{user `a`}}|{{user `b`}}|{{template_dir}}"}]}"#;
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::write(folder.path().join("sub/t.json"), template).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("one.json", "{\"a\": \"1\", \"b\": \"1\", \"b\": \"{{user `a`}}\"}");
    write("two.json", "{\"a\": null}");
    write("wrong.json", "{\"a\": \"x\",\n\"b\": 5,\n\"c\": []}");
    write("bad.hcl", "a = 1");
    let inputs = || Inputs::new().working_dir(folder.path());
    let load = |inputs: &Inputs| Template::load_for("sub/../sub/t.json", inputs);
    let root = folder.path().join("sub").display().to_string();
    for (inputs, expected) in [
        (inputs().var_file("one.json"), "1|1"),
        (inputs().var_file("one.json").var_file("two.json"), "|"),
        (inputs().var("a", "flag").var_file("one.json"), "flag|flag"),
        (inputs().env_var("a", "env"), "default|"),
    ] {
        let pipeline = load(&inputs).unwrap().evaluate(&registry(), inputs).await.unwrap();
        let found = lines(&Engine::new().prepare(&pipeline).await);
        assert!(found.contains(&format!("{expected}|{root}\"")), "{expected} in {found}");
    }
    for (file, expected) in [
        (
            "wrong.json",
            "2: Error reading variables in 'wrong.json' | The value of \"b\" must be a text, not a number.\n\
                        3: Error reading variables in 'wrong.json' | The value of \"c\" must be a text, not a list.\n",
        ),
        (
            "bad.hcl",
            "1: Error reading variables in 'bad.hcl' | Invalid JSON keyword: \"<sensitive>\" is none of true, false and null.\n\
                     1: Error reading variables in 'bad.hcl' | Extraneous data after value: The JSON value ends before this.\n",
        ),
        ("none.json", "0: Failed to read file | open none.json: no such file or directory\n"),
    ] {
        assert_eq!(lines(&load(&inputs().var_file(file)).unwrap_err()), expected);
    }
    assert_eq!(load(&inputs()).unwrap().language(), Language::LegacyJson);
    let hcl = inputs().language(Language::Hcl);
    assert!(lines(&load(&hcl).unwrap_err()).contains("Could not find any config file in sub/../sub/t.json"));
}

#[tokio::test]
async fn bytes_that_are_no_utf8_are_replaced_with_a_warning() {
    let text = b"{\"builders\": [{\"type\": \"b\",\n\"text\": \"caf\xe9\"}]}".to_vec();
    let template = Template::from_legacy("t.json", text).unwrap();
    let pipeline = template.evaluate(&registry(), Inputs::new()).await.unwrap();
    assert!(lines(&pipeline.notes).starts_with("2: Invalid character encoding | "));
    assert!(lines(&Engine::new().prepare(&pipeline).await).contains("\"caf\u{fffd}\""));
    let found = Template::from_legacy("t.json", b"{\n\xff}".to_vec()).unwrap_err();
    assert_eq!(found.len(), 2, "{found}");
}

#[tokio::test]
async fn inspection_shows_what_is_written_and_no_secret() {
    let text = r#"{"description": "all of hunter2", "variables": {"need": null, "longer": "a,b", "pw": "hunter2", "same": "hunter2"},
        "sensitive-variables": ["pw"],
        "builders": [{"type": "b", "name": "{{user `x`}}"}, {"type": "b"}], "provisioners": [{"type": "nope"}]}"#;
    let template = Template::from_legacy("t.json", text).unwrap();
    let inspection = template.inspect(&registry(), Inputs::new()).await.unwrap();
    let expected = "Packer Inspect: JSON mode\nDescription:\n\nall of <sensitive>\n\nRequired variables:\n\n  need\n\n\
                    Optional variables and their defaults:\n\n  longer = a,b\n  pw     = <sensitive>\n  same   = <sensitive>\n\n\
                    Builders:\n\n  b           \n  {{user `x`}} (b)\n\nProvisioners:\n\n  nope\n\nNote: ";
    let shown = inspection.to_string();
    assert!(shown.starts_with(expected), "{shown}");
    assert_eq!(inspection.diagnostics.len(), 1);
    let lines = inspection.legacy.unwrap().lines();
    let told: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            InspectLine::Tell(category, fields) => Some(format!("{category} {}", fields.join("|"))),
            InspectLine::Say(_) => None,
        })
        .collect();
    let expected = [
        "template-variable need||1",
        "template-variable longer|a,b|0",
        "template-variable pw|<sensitive>|0",
        "template-variable same|<sensitive>|0",
        "template-builder b|b",
        "template-builder {{user `x`}}|b",
        "template-provisioner nope",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn the_console_renders_texts() {
    let text = r#"{"variables": {"a": "x", "pw": "hunter2"}, "sensitive-variables": ["pw"], "builders": []}"#;
    let template = Template::from_legacy("t.json", text).unwrap();
    let console = template.console(&registry(), Inputs::new().var("b", "{{user `a`}}y")).await.unwrap();
    for (line, expected) in [
        ("{{user `a` | upper}}-{{len `abc`}}", Ok("X-3")),
        ("plain", Ok("plain")),
        ("{{user `b`}} {{user `pw`}} {{user `nope`}}", Ok("xy <sensitive> ")),
        ("{{`{{upper \"k\"}}`}}", Ok("K")),
        ("{{nope}}", Err("Interpolation error; template: root:1: function \"nope\" not defined")),
        ("{{env `HOME`}}", Err("env vars are not allowed here")),
    ] {
        match (console.answer(line), expected) {
            (Ok(answer), Ok(expected)) => assert_eq!(answer, expected),
            (Err(found), Err(expected)) => assert!(found.to_string().contains(expected), "{found}"),
            (answer, _) => panic!("{line}: {answer:?}"),
        }
    }
    assert_eq!(console.inspection().values(), "\na: x,\nb: xy,\npw: <sensitive>,\n");
}

#[tokio::test]
async fn much_of_everything_takes_little_time() {
    let before = Instant::now();
    let chain: String =
        (1..10_000).map(|n| format!(", \"v{n:05}\": \"{{{{user `v{:05}`}}}}\"", n - 1)).collect();
    let back: String =
        (1..10_000).map(|n| format!(", \"w{n:05}\": \"{{{{user `w{:05}`}}}}\"", n + 1)).collect();
    let keys: String = (0..20_000).map(|n| format!(", \"k{n}.x\": {{\"k\": 1}}")).collect();
    let text = format!(
        "{{\"variables\": {{\"v00000\": \"end\", \"w10000\": \"end\"{chain}{back}}},
          \"builders\": [{{\"type\": \"b\", \"text\": \"{{{{user `v09999`}}}}{{{{user `w00001`}}}}\"}}]}}"
    );
    assert!(prepared(&text, Inputs::new()).await.contains("\"endend\""));
    let text = format!("{{\"builders\": [{{\"type\": \"b\"{keys}}}]}}");
    assert_eq!(prepared(&text, Inputs::new()).await.lines().count(), super::MOST + 1);
    assert!(before.elapsed() < Duration::from_secs(60), "{:?}", before.elapsed());

    // Each is twice as long as the one before.
    let doubling: String =
        (1..40).map(|n| format!(", \"v{n}\": \"{{{{user `v{0}`}}}}{{{{user `v{0}`}}}}\"", n - 1)).collect();
    let text = format!(
        "{{\"variables\": {{\"v0\": \"0123456789\"{doubling}}}, \"builders\": [{{\"type\": \"b\"}}]}}"
    );
    let found = evaluate(&text, Inputs::new()).await.unwrap_err();
    assert_eq!(found.len(), 1, "{found}");
}
