//! Pipelines written out as templates read back to the same pipelines.

#![cfg(feature = "hcl")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use packer_core::config::{self, GoTemplate, OneOrMany};
use packer_core::template::{Exported, Inputs, Template, export};
use packer_core::{
    Artifact, Build, Builder, Context, Diagnostics, GoDuration, Late, Machine, Pipeline, PostProcessStep,
    PostProcessor, PrepareContext, Prepared, Processed, ProvisionStep, Provisioner, Registry, Resource,
    Result, RunValues, Secret, SourceFilter, Value, async_trait, provisioner,
};
use proptest::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A component with a field of every kind.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
struct Everything {
    text: String,
    late: GoTemplate,
    lines: Vec<String>,
    map: BTreeMap<String, String>,
    maybe: Option<String>,
    whole: i64,
    float: f64,
    flag: bool,
    password: Secret,
    tokens: BTreeMap<String, Secret>,
    wait: GoDuration,
    codes: OneOrMany<i32>,
    anything: serde_json::Value,
    disk: Option<Disk>,
    disks: Vec<Disk>,
    #[serde(flatten)]
    shared: Shared,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
struct Disk {
    label: String,
    key: Secret,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
struct Shared {
    shared_port: Option<u16>,
}

#[async_trait]
impl Builder for Everything {
    async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Ok(Prepared::new())
    }
    async fn launch(&self, _: &Context) -> Result<Box<dyn Machine>> {
        panic!("not in this test")
    }
    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
    }
    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

#[async_trait]
impl Provisioner for Everything {
    async fn provision(&self, _: &Context, _: &dyn Machine) -> Result<()> {
        Ok(())
    }
    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

#[async_trait]
impl PostProcessor for Everything {
    async fn post_process(&self, _: &Context, artifact: Artifact) -> Result<Processed> {
        Ok(Processed::replacing(artifact))
    }
    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.builder::<Everything>("everything");
    registry.provisioner::<Everything>("everything");
    registry.post_processor::<Everything>("everything");
    registry
}

fn build(name: &str, component: Everything) -> Build {
    Build::with_builder(name, "everything".into(), Late::ready(Arc::new(component) as Arc<dyn Builder>))
}

fn provision(component: Everything) -> ProvisionStep {
    ProvisionStep::with_provisioner("everything", Late::ready(Arc::new(component) as Arc<dyn Provisioner>))
}

fn post_process(component: Everything) -> PostProcessStep {
    PostProcessStep::with_post_processor(
        "everything",
        Late::ready(Arc::new(component) as Arc<dyn PostProcessor>),
    )
}

/// Writes a pipeline and reads it again.
fn there_and_back(pipeline: &Pipeline) -> (Exported, Pipeline) {
    let exported = export(pipeline, &registry()).unwrap_or_else(|e| panic!("{e}"));
    let template = Template::from_texts([("exported.pkr.hcl", exported.text())])
        .unwrap_or_else(|e| panic!("{e}\n{}", exported.text()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let again = runtime.block_on(template.evaluate(&registry(), exported.inputs()));
    let again = again.unwrap_or_else(|e| panic!("{e}\n{}", exported.text()));
    assert!(again.notes.is_empty(), "{}", again.notes);
    (exported, again)
}

/// All that the engine sees of a pipeline but display names.
fn seen(pipeline: &Pipeline) -> String {
    let now = RunValues::default();
    let mut text = String::new();
    for build in &pipeline.builds {
        let builder = build.builder.make(&now).unwrap().config();
        let info = (&build.info.name, &build.info.builder_type, &build.info.build_block);
        text.push_str(&format!("{info:?} {} {:?} {builder:?}\n", build.source, build.description));
        for step in build.provisioners.iter().chain(&build.error_cleanup).chain(&build.tests) {
            let config = step.provisioner.make(&now).unwrap().config();
            let ways = (step.pause_before, step.timeout, step.max_retries, step.continue_on_error);
            let inputs = (&step.inputs, &step.filter);
            text.push_str(&format!("  {} {:?} {ways:?} {inputs:?} {config:?}\n", step.kind, step.name));
        }
        for step in build.post_processors.iter().flat_map(|s| s.iter().chain([])) {
            let config = step.post_processor.make(&now).unwrap().config();
            let ways = (step.keep_input_artifact, &step.filter);
            text.push_str(&format!("  {} {:?} {ways:?} {config:?}\n", step.kind, step.name));
        }
        text.push_str(&format!("  {:?}\n", build.post_processors.iter().map(Vec::len).collect::<Vec<_>>()));
    }
    text
}

#[test]
fn tests_are_said_too() {
    let test =
        provision(Everything { text: "a".into(), ..Everything::default() }).named("answers").max_retries(2);
    let pipeline = Pipeline::of([build("a", Everything::default()).test(test.only(["everything.a"]))]);
    let (exported, again) = there_and_back(&pipeline);
    assert_eq!(seen(&again), seen(&pipeline));
    assert!(exported.text().contains("test \"everything\" {"), "{}", exported.text());
}

#[test]
fn everything_a_pipeline_says() {
    let disk = Disk { label: "a".into(), key: "disk-secret".into() };
    let full = Everything {
        text: "${a} %{b} {{ c }} \"d\" \\ \n$${e}".into(),
        late: "{{.Vars}} sh '{{ .Path }}' ${HOME}".into(),
        lines: ["", "{{", "{{{{{", "$%%{x}", "%$the-token", "$%$"].map(String::from).into(),
        map: [("k ${x}".into(), "v".into()), ("{{k}}".into(), String::new())].into(),
        maybe: Some(String::new()),
        whole: -3,
        float: 0.1,
        flag: true,
        password: "pa{{ss".into(),
        tokens: [("one".into(), "t1".into()), ("two".into(), "pa{{ss".into())].into(),
        wait: GoDuration::from_nanos(1_500_000),
        codes: OneOrMany(vec![0, -1]),
        anything: serde_json::json!({"a": [1, null, {"b": "${c}"}], "d e": 1.5}),
        disk: Some(disk.clone()),
        disks: vec![Disk::default(), disk],
        shared: Shared { shared_port: Some(0) },
    };
    let plain = Everything { text: "with the-token inside{".into(), ..Everything::default() };
    let step = provision(full.clone())
        .named("one")
        .pause_before(Duration::from_millis(1))
        .timeout(Duration::from_secs(90))
        .max_retries(3)
        .continue_on_error()
        .inputs(provisioner::StepInputs::Files(vec!["a/b".into(), PathBuf::from("/c ${d}")]))
        .except(["everything.x"]);
    let mut web = build("web", full.clone())
        .provision(step)
        .provision(provision(plain.clone()).inputs(provisioner::StepInputs::Volatile))
        .on_error(provision(plain.clone()))
        .post_process_chain([post_process(full).keep_input_artifact(true), post_process(plain.clone())])
        .post_process(post_process(plain.clone()).named("last"));
    web.description = "made of the-token".into();
    let named = build("a name", Everything::default());
    // One source in two build blocks, which say different things of it.
    let (mut x, mut y) = (build("src", plain.clone()), build("src", Everything::default()));
    for (build, block, local) in [(&mut x, "first", "x"), (&mut y, "second", "y")] {
        let mut info = (*build.info).clone();
        info.build_block = block.into();
        info.display_name = format!("{block}.everything.{local}").as_str().into();
        build.info = Arc::new(info);
        build.source = format!("everything.{local}");
    }
    let pipeline = Pipeline::of([web, named, x, y]);
    pipeline.secrets.add("the-token");

    let (exported, again) = there_and_back(&pipeline);
    assert_eq!(seen(&pipeline), seen(&again), "{}", exported.text());
    let names: Vec<&str> = again.builds.iter().map(Build::name).collect();
    assert_eq!(names, ["everything.web", "everything.a name", "first.everything.x", "second.everything.y"]);
    assert_eq!(exported.names().iter().map(|(_, new)| new.as_str()).collect::<Vec<_>>(), names);
    for secret in ["pa{{ss", "t1\"", "disk-secret", "the-token"] {
        assert!(!exported.text().contains(secret), "{secret} in {}", exported.text());
        assert!(!format!("{exported:?}").contains(secret));
    }
    assert_eq!(exported.values().len(), 4, "{:?}", exported.values().keys());
    assert_eq!(again.secrets.scrub("x the-token y"), "x <sensitive> y");
    // Writing changes nothing any more.
    let template = Template::from_texts([("t.pkr.hcl", hcl::format::to_string(exported.body()).unwrap())]);
    assert!(template.is_ok());
}

#[test]
fn what_cannot_be_said_is_named() {
    let say = |pipeline: &Pipeline| -> String {
        let found = export(pipeline, &registry()).expect_err("it cannot be said");
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let with = |text: &str| Everything { text: text.into(), ..Everything::default() };
    let mut deferred = provision(Everything::default());
    deferred.provisioner =
        Late::deferred(Arc::new(Everything::default()), |_| Ok(Arc::new(Everything::default()) as Arc<_>));
    struct Silent;
    #[async_trait]
    impl Provisioner for Silent {
        async fn provision(&self, _: &Context, _: &dyn Machine) -> Result<()> {
            Ok(())
        }
        fn type_name(&self) -> std::borrow::Cow<'static, str> {
            "everything".into()
        }
    }
    let mut nowhere = provision(Everything::default());
    nowhere.filter = SourceFilter::Only(Vec::new());
    let late = Everything { late: "{{ .Broken".into(), ..Everything::default() };
    for (build, expected) in [
        (build("a.b", with("")), "\"a.b\" cannot name a source"),
        (build("web", with("")).after("base"), "waits for the build \"base\""),
        (
            build("web", with("e\u{301}")),
            "the argument \"text\" of the builder \"everything\" of the build \"web\"",
        ),
        (build("web", late), "is no template"),
        (build("web", with("")).provision(deferred), "made by code"),
        (build("web", with("")).provision(Silent), "does not tell its configuration"),
        (build("web", with("")).provision(nowhere), "no build at all"),
        (
            build("web", with("")).provision(provision(with("")).timeout(Duration::ZERO)),
            "the provisioner \"everything\" of the build \"web\"",
        ),
        (
            Build::with_builder("web", "other".into(), Late::ready(Arc::new(with("")) as Arc<dyn Builder>)),
            "not registered",
        ),
    ] {
        let said = say(&Pipeline::of([build]));
        assert!(said.contains(expected), "{expected:?} in {said}");
    }
    let pipeline = Pipeline::of([build("secret-name", with(""))]);
    pipeline.secrets.add("secret-name");
    let said = say(&pipeline);
    assert!(said.contains("a secret in a name") && !said.contains("secret-name"), "{said}");
}

#[test]
fn data_of_the_hosts_own() {
    let text = "source \"everything\" \"a\" { text = \"x ${var.greeting} y\" }\nbuild { sources = [\"everything.a\"] }\n";
    let parsed: hcl::Body = hcl::parse(&text.replace("{ ", "{\n").replace(" }", "\n}")).unwrap();
    let literal = "a ${b} c $${d} {{";
    let extra = hcl::Block::builder("locals")
        .add_attribute(("text", hcl::Expression::from(literal)))
        .add_attribute(("list", hcl::Expression::from(vec![hcl::Expression::from(literal)])))
        .build();
    let body: hcl::Body = parsed.into_iter().chain([extra.into()]).collect();
    let host = [("host", body)];
    let rest = "variable \"greeting\" {}\nvariable \"ports\" { type = list(number) }\noutput \"x\" { value = local.text }\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.pkr.hcl"), rest).unwrap();
    let value = hcl::value!({ "n" = [80, "443"], "t" = null });
    assert_eq!(
        Value::from(&value),
        Value::object([
            ("n", Value::tuple([Value::from(80), Value::from("443")])),
            ("t", Value::null(packer_core::Type::Dynamic)),
        ])
    );
    let ports = value.as_object().unwrap()["n"].clone();
    let inputs = Inputs::new().value("ports", Value::from(&ports)).value("greeting", "${hi}");
    let inputs = inputs.working_dir(folder.path());
    let template = Template::load_with(".", host, &inputs).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let console = runtime.block_on(template.console(&registry(), inputs.clone())).unwrap();
    assert_eq!(console.evaluate("var.ports[1] + 1").unwrap(), Value::from(444));
    assert_eq!(console.evaluate("local.text").unwrap(), Value::from(literal));
    assert_eq!(console.evaluate("local.list[0]").unwrap(), Value::from(literal));
    let pipeline = runtime.block_on(template.evaluate(&registry(), inputs)).unwrap();
    let config = pipeline.builds[0].builder.preview().config().unwrap();
    assert_eq!(config.get("text"), Some(&Value::from("x ${hi} y")));
}

#[test]
fn values_of_the_hosts_own_must_fit() {
    let template = Template::from_texts([("t.pkr.hcl", "variable \"n\" { type = number }")]).unwrap();
    let said = template.check(&Inputs::new().value("n", "x").value("m", 1)).to_string();
    assert!(said.contains("does not fit its type") && said.contains("Undefined -var variable"), "{said}");
    assert!(!template.check(&Inputs::new().var("n", "1").value("n", 2)).has_errors());
}

/// Texts made of what has a meaning somewhere.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "${", "%{", "{{", "}}", "$", "%", "{", "}", "\"", "\\", "\n", "\r", "\t", "`", "~", "é", "\0",
        "\u{7f}", "\u{feff}", "a", " ", "EOT\n", "//", "#", "\u{2028}", "😀", "-", "{{-", "tok",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// A number that shows in Debug what it is: nought may be negative and is equal all the same.
fn not_nought(float: f64) -> f64 {
    if float.is_finite() && float != 0.0 { float } else { 0.5 }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(|f| serde_json::Value::from(not_nought(f))),
        nasty().prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map(nasty(), inner, 0..4).prop_map(|m| m.into_iter().collect()),
        ]
    })
}

fn everything() -> impl Strategy<Value = Everything> {
    let late = prop::sample::select(vec!["", "{{.Vars}} ${x}", "$%{ {{.Path}}", "plain {", "{{`{{`}}"]);
    let texts = (nasty(), prop::option::of(nasty()), nasty(), late);
    let many = (
        prop::collection::vec(nasty(), 0..3),
        prop::collection::btree_map(nasty(), nasty(), 0..3),
        prop::collection::btree_map("[a-z]{1,3}", nasty(), 0..2),
        prop::collection::vec((nasty(), nasty()), 0..3),
    );
    (texts, many, any::<(i64, f64, bool, i64)>(), json()).prop_map(|(texts, many, plain, anything)| {
        let (text, maybe, password, late) = texts;
        let (lines, map, tokens, disks) = many;
        let (whole, float, flag, wait) = plain;
        Everything {
            text,
            late: late.into(),
            lines,
            map,
            maybe,
            whole,
            float: not_nought(float),
            flag,
            password: Secret::new(password),
            tokens: tokens.into_iter().map(|(k, v)| (k, Secret::new(v))).collect(),
            wait: GoDuration::from_nanos(wait),
            anything,
            disks: disks.into_iter().map(|(label, key)| Disk { label, key: Secret::new(key) }).collect(),
            ..Everything::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_configuration_comes_back(a in everything(), b in everything(), secret in nasty()) {
        let secret = format!("tok{secret}");
        let pipeline = Pipeline::of([build("a", a).provision(provision(b.clone())).post_process(post_process(b))]);
        pipeline.secrets.add(&secret);
        // A secret in the name of a map entry cannot be said: told, and told only then.
        match export(&pipeline, &registry()) {
            Err(found) => {
                let only_names = found.iter().all(|d| d.to_string().contains("a secret in a name"));
                prop_assert!(only_names, "{}", found);
            }
            Ok(_) => {
                let (exported, again) = there_and_back(&pipeline);
                prop_assert_eq!(seen(&pipeline), seen(&again), "{}", exported.text());
            }
        }
    }
}
