//! Templates from text to pipeline, with components that tell what they were given.

mod extensions;
mod inspect;
mod places;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::LazyLock;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Barrier;

use super::{Inputs, Template};
use crate::artifact::Artifact;
use crate::builder::{Builder, Machine, Prepared};
use crate::context::{Context, Host, PrepareContext};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::ledger::Resource;
use crate::pipeline::{Pipeline, RunValues};
use crate::provisioner::Provisioner;
use crate::registry::Registry;
use crate::value::{Type, Value};
use crate::{DataSource, Engine};

/// Tells its configuration as a warning.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Image {
    text: String,
    list: Vec<String>,
}

#[async_trait]
impl Builder for Image {
    async fn prepare(&self, _: &PrepareContext) -> std::result::Result<Prepared, Diagnostics> {
        let mut prepared = Prepared::new();
        prepared.warnings.push(Diagnostic::warning(format!("{:?} {:?}", self.text, self.list)));
        Ok(prepared)
    }

    async fn launch(&self, _: &Context) -> Result<Box<dyn Machine>> {
        Err(Error::user("there are no machines here"))
    }

    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
    }

    fn variables(&self) -> Vec<Cow<'static, str>> {
        vec!["Source".into()]
    }
}

/// Tells its configuration as an error of prepare.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Echo {
    text: String,
}

#[async_trait]
impl Provisioner for Echo {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        Diagnostic::error(self.text.clone()).into()
    }

    async fn provision(&self, _: &Context, _: &dyn Machine) -> Result<()> {
        Ok(())
    }
}

/// Two of these must be read at the same time, or neither ends.
#[derive(Debug, Deserialize, JsonSchema)]
struct Pair {
    name: String,
}

static BOTH: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(2));

#[async_trait]
impl DataSource for Pair {
    fn output_type(&self) -> Type {
        Type::object([("name", Type::String)])
    }

    async fn read(&self, _: &Context) -> Result<Value> {
        BOTH.wait().await;
        Ok(Value::object([("name", Value::text(&self.name))]))
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.builder::<Image>("image").provisioner::<Echo>("echo").data_source::<Pair>("pair");
    registry
}

async fn evaluate(text: &str, inputs: Inputs) -> std::result::Result<Pipeline, Diagnostics> {
    Template::from_texts([("t.pkr.hcl", text)])?.evaluate(&registry(), inputs).await
}

/// One finding a line, each with the line it is about.
fn lines(diagnostics: &Diagnostics) -> String {
    diagnostics.iter().fold(String::new(), |mut text, d| {
        let line = d.location.as_ref().map_or(0, |l| l.start().line);
        let _ = writeln!(text, "{line}: {} | {}", d.summary, d.detail);
        text
    })
}

/// What preparing the pipeline of a template tells.
async fn prepared(text: &str) -> String {
    let pipeline = evaluate(text, Inputs::new()).await.unwrap();
    Engine::new().prepare(&pipeline).await.iter().fold(String::new(), |mut text, d| {
        let _ = writeln!(text, "{}{}", d.summary, d.detail);
        text
    })
}

#[tokio::test]
async fn a_template_becomes_a_pipeline() {
    let text = r#"
        variable "who" { default = "world" }
        locals { greeting = "hello ${var.who}" }
        source "image" "a" { text = "${local.greeting} from ${source.type}.${source.name}" }
        build {
          name = "b"
          sources = ["image.a"]
          source "image.a" {
            name = "other"
            list = [1, true]
          }
          provisioner "echo" {
            only = ["image.other"]
            text = "${build.name} ${build.ID} ${source.name} ${build.Source}"
          }
        }
    "#;
    let pipeline = evaluate(text, Inputs::new()).await.unwrap();
    let names: Vec<&str> = pipeline.builds.iter().map(|b| b.name()).collect();
    assert_eq!(names, ["b.image.a", "b.image.other"]);
    assert_eq!(
        prepared(text).await,
        "\"hello world from image.a\" []\n\"hello world from image.other\" [\"1\", \"true\"]\n\
         Failed preparing provisioner-block \"echo\" \"\"b <unknown> other <unknown>\n"
    );

    // The step is made again when the machine is known; it says what of it it needs.
    let step = &pipeline.builds[1].provisioners[0];
    assert_eq!(step.provisioner.reads().unwrap(), ["build.ID", "build.Source"]);
    let values = RunValues::new(Facts::new().id("i-1").with("Source", "debian"));
    let made = step.provisioner.make(&values).unwrap();
    let told = made.prepare(&PrepareContext::new(pipeline.builds[1].info.clone(), Host::new()));
    assert_eq!(told.iter().next().unwrap().summary, "b i-1 other debian");
}

#[tokio::test]
async fn a_build_is_made_from_the_artifact_of_another() {
    let text = r#"
        source "image" "base" { text = "base" }
        source "image" "web" {
          text = "from ${artifacts["image.base"].id}"
          list = artifacts["image.base"].files
        }
        build { sources = ["image.web", "image.base"] }
    "#;
    let pipeline = evaluate(text, Inputs::new()).await.unwrap();
    let web = &pipeline.builds[0];
    assert_eq!(web.needs, ["image.base"]);
    let mut values = RunValues::default();
    values.artifacts.insert("image.base".into(), vec![Artifact::new("x", "ami-1").file("disk.img")]);
    let made = web.builder.make(&values).unwrap();
    let cx = PrepareContext::new(web.info.clone(), Host::new());
    let told = made.prepare(&cx).await.unwrap().warnings;
    assert_eq!(told.iter().next().unwrap().summary, "\"from ami-1\" [\"disk.img\"]");

    let lonely = evaluate(text, Inputs::new().only(["image.web"])).await.unwrap_err();
    assert_eq!(lonely.iter().next().unwrap().summary, "Unknown build in a reference to an artifact");
    let misspelt = evaluate(&text.replace("[\"image.base\"].id", "[\"image.bass\"].id"), Inputs::new()).await;
    assert_eq!(
        misspelt.unwrap_err().iter().next().unwrap().help.as_deref(),
        Some("did you mean \"image.base\"?")
    );
    let computed =
        prepared(&text.replace("artifacts[\"image.base\"].id", "artifacts[upper(\"x\")].id")).await;
    assert!(computed.contains("Invalid reference to an artifact"), "{computed}");
}

#[tokio::test]
async fn independent_data_sources_are_read_side_by_side() {
    let text = r#"
        data "pair" "one" { name = "1" }
        data "pair" "two" { name = "2" }
        locals { both = "${data.pair.one.name}${data.pair.two.name}" }
        source "image" "a" { text = local.both }
        build { sources = ["image.a"] }
    "#;
    let limit = std::time::Duration::from_secs(20);
    let told = tokio::time::timeout(limit, prepared(text)).await.expect("they wait for each other");
    assert_eq!(told, "\"12\" []\n");
    let unread = Template::from_texts([("t.pkr.hcl", text)]).unwrap();
    let pipeline = unread.evaluate(&registry(), Inputs::new().evaluate_data_sources(false)).await.unwrap();
    assert_eq!(Engine::new().prepare(&pipeline).await.iter().next().unwrap().summary, "\"<unknown>\" []");
}

#[tokio::test]
async fn circles_and_missing_ones_are_all_named() {
    let text = "locals {\n  a = local.b\n  b = local.a\n  c = local.c\n  d = local.zzz\n  e = data.pair.q.name\n  f = 1\n}\nbuild {}\n";
    let found = evaluate(text, Inputs::new()).await.unwrap_err();
    let told = lines(&found);
    for part in
        ["2: failed", "local.a, local.b", "4: failed", "local.c refers to itself", "5: failed", "6: failed"]
    {
        assert!(told.contains(part), "{part} in:\n{told}");
    }
    assert_eq!(found.iter().filter(|d| d.summary.starts_with("failed to prepare")).count(), 4);
}

#[tokio::test]
async fn mistakes_of_all_files_are_told_in_order() {
    let files = [
        ("a.pkr.hcl", "variable \"a\" {\n  defualt = 1\n  type = strng\n}\n"),
        ("b.pkr.hcl", "sourc \"x\" \"y\" {}\nlocal \"1x\" { expression = 1 }\nvariable \"a\" {}\n"),
    ];
    let found = Template::from_texts(files).unwrap_err();
    let places: Vec<(&str, u32)> =
        found.iter().map(|d| d.location.as_ref().map_or(("", 0), |l| (l.file(), l.start().line))).collect();
    assert_eq!(
        places,
        [("a.pkr.hcl", 2), ("a.pkr.hcl", 3), ("b.pkr.hcl", 1), ("b.pkr.hcl", 2), ("b.pkr.hcl", 3)]
    );
}

#[tokio::test]
async fn secrets_stay_secret() {
    let text = "variable \"pass\" {\n  sensitive = true\n  validation {\n    condition = length(var.pass) > 90\n    error_message = \"Not hunter2.\"\n  }\n}\nbuild {}\n";
    let found = evaluate(text, Inputs::new().var("pass", "hunter2")).await.unwrap_err();
    assert!(found.iter().any(|d| d.summary == "Invalid value for cmd variable"));
    assert!(!format!("{found} {found:?}").contains("hunter2"));
    let text = "local \"key\" {\n  expression = { a = [\"first\\nsecond\"] }\n  sensitive = true\n}\nsource \"image\" \"a\" {}\nbuild { sources = [\"image.a\"] }\n";
    let pipeline = evaluate(text, Inputs::new()).await.unwrap();
    assert_eq!(pipeline.secrets.scrub("x second x"), "x <sensitive> x");
}

#[tokio::test]
async fn what_is_wrong_with_one_build_rejects_that_build() {
    let text = "source \"image\" \"a\" { txt = 1 }\nsource \"image\" \"b\" {}\nbuild { sources = [\"image.a\", \"image.b\"] }\n";
    let pipeline = evaluate(text, Inputs::new()).await.unwrap();
    let found = Engine::new().prepare(&pipeline).await;
    let errors: Vec<&Diagnostic> = found.iter().filter(|d| d.is_error()).collect();
    assert_eq!((errors.len(), errors[0].summary.as_str()), (1, "Unsupported argument"));
}

#[tokio::test]
async fn a_required_plugin_that_is_built_in_is_told_of() {
    let text = r#"
      packer {
        required_plugins {
          cloud = {
            source  = "example.com/acme/cloud"
            version = ">= 1.2"
          }
        }
      }
      source "image" "a" {}
      build { sources = ["image.a"] }
    "#;
    let template = Template::from_texts([("t.pkr.hcl", text)]).unwrap();
    let mut registry = Registry::new();
    registry.builder::<Image>("image");
    let missing = template.check_plugins(&registry);
    assert!(missing.iter().next().unwrap().detail.contains("* example.com/acme/cloud >= 1.2"), "{missing}");
    assert_eq!(template.evaluate(&registry, Inputs::new()).await.unwrap_err(), missing);

    registry.provides("example.com/acme/cloud");
    assert!(template.check_plugins(&registry).is_empty());
    let pipeline = template.evaluate(&registry, Inputs::new()).await.unwrap();
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = told.clone();
    let sink = move |event: &crate::Event| {
        if let crate::EventKind::PluginProvided { name, source, version } = &event.kind {
            heard.lock().unwrap().push(format!("{name} {source} {version}"));
        }
    };
    Engine::new().events(sink).run(pipeline).await.unwrap();
    assert_eq!(*told.lock().unwrap(), ["cloud example.com/acme/cloud >= 1.2"]);
}
