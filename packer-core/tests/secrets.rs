//! A component that holds secrets in every way a struct can: in blocks, lists, maps and by `writeOnly`. What it says and
//! fails with, what the cache remembers of it, and what code sets, shows none of them.
#![cfg(all(unix, feature = "testing"))]
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use packer_core::StepInputs as Reads;
use packer_core::config;
use packer_core::engine::Cache;
use packer_core::event::{JsonLines, MachineReadable, PackerLines, Timeline};
use packer_core::template::{Inputs, Template};
use packer_core::testing::{FakeBuilder, TempFolder};
use packer_core::{
    Build, Context, Engine, Error, FileLedger, Late, Level, Machine, Pipeline, ProvisionStep, Provisioner,
    Registry, Result, Secret, Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
struct Login {
    user: String,
    password: Secret,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
struct Keys {
    note: String,
    token: Option<Secret>,
    tokens: Vec<Secret>,
    by_name: BTreeMap<String, Secret>,
    login: Option<Login>,
    logins: Vec<Login>,
    #[schemars(extend("writeOnly" = true))]
    words: Vec<String>,
    #[schemars(extend("x-attribute" = true))]
    object: Option<Login>,
    fails: bool,
}

impl Keys {
    fn all(&self) -> Vec<&str> {
        let logins =
            self.logins.iter().chain(&self.login).chain(&self.object).map(|login| login.password.reveal());
        let tokens = self.tokens.iter().chain(&self.token).chain(self.by_name.values()).map(Secret::reveal);
        logins.chain(tokens).chain(self.words.iter().map(String::as_str)).collect()
    }
}

#[async_trait]
impl Provisioner for Keys {
    async fn provision(&self, cx: &Context, _: &dyn Machine) -> Result<()> {
        for text in self.all() {
            cx.say(format!("it uses {text}!"));
            cx.output(Level::Info, format!("x{text}x"));
        }
        match self.fails {
            true => Err(Error::user(format!("none of {} is let in", self.all().join(", ")))),
            false => Ok(()),
        }
    }

    fn inputs(&self) -> Reads {
        Reads::Files(Vec::new())
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }

    fn type_name(&self) -> std::borrow::Cow<'static, str> {
        "keys".into()
    }
}

/// A writer whose bytes several hold.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

const SECRETS: [&str; 8] = [
    "Zq1xGeheim",
    "Zq2xGeheim",
    "Zq3xGeheim",
    "Zq4xGeheim",
    "Zq5xGeheim",
    "Zq6xGeheim",
    "Zq7xGeheim",
    "kurz",
];

fn template(folder: &TempFolder, fails: bool, secrets: &[String]) -> String {
    format!(
        r#"
source "fake" "x" {{
  folder = "{}"
  source = "image-1"
}}
build {{
  sources = ["fake.x"]
  provisioner "keys" {{
    note    = "seen by all"
    token   = "{}"
    tokens  = ["{}", "{}"]
    by_name = {{ one = "{}" }}
    login {{
      user     = "me"
      password = "{}"
    }}
    logins {{
      password = "{}"
    }}
    words   = ["{}"]
    object  = {{ user = "them", password = "{}" }}
    fails   = {fails}
  }}
}}
"#,
        folder.path().join("world").display(),
        secrets[0],
        secrets[1],
        secrets[2],
        secrets[3],
        secrets[4],
        secrets[5],
        secrets[6],
        secrets[7],
    )
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.builder::<FakeBuilder>("fake").provisioner::<Keys>("keys");
    registry
}

fn search(text: &str, secrets: &[String], whence: &str) {
    for secret in secrets {
        assert!(!text.contains(secret.as_str()), "{secret} is shown by {whence}:\n{text}");
    }
}

/// Runs a pipeline with every sink and a cache; gives what the sinks for people and for programs showed, and the report.
async fn run(folder: &TempFolder, pipeline: Pipeline) -> [String; 5] {
    let [people, machine, json] = [(); 3].map(|()| Shared::default());
    let page = folder.path().join("run.html");
    let ledger = Arc::new(FileLedger::open(folder.path().join("ledger")).unwrap());
    let engine = engine(folder)
        .events(PackerLines::new(people.clone()))
        .events(MachineReadable::new(machine.clone()))
        .events(JsonLines::new(json.clone()))
        .events(Timeline::new().write_to(&page))
        .ledger(ledger);
    let report = engine.run(pipeline).await.unwrap();
    let report = serde_json::to_string(&report).unwrap() + &format!("{report:?}");
    let page = std::fs::read_to_string(&page).unwrap();
    [people.text(), machine.text(), json.text(), page, report]
}

fn engine(folder: &TempFolder) -> Engine {
    Engine::new().cache(Cache::new(folder.path().join("cache"), registry()))
}

fn folder() -> TempFolder {
    let folder = TempFolder::new();
    std::fs::create_dir(folder.path().join("world")).unwrap();
    folder
}

/// Everything in the files below a folder.
fn left(folder: &std::path::Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        text.push_str(&match path.is_dir() {
            true => left(&path),
            false => String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned(),
        });
    }
    text
}

#[tokio::test]
async fn secrets_in_blocks_lists_and_maps_are_shown_and_kept_nowhere() {
    let first = SECRETS.map(str::to_owned).to_vec();
    let second: Vec<String> = first.iter().map(|secret| format!("{secret}Neu")).collect();
    for fails in [false, true] {
        let folder = folder();
        for secrets in [&first, &second] {
            let text = template(&folder, fails, secrets);
            let template = Template::from_texts([("t.pkr.hcl", text.as_str())]).unwrap();
            let pipeline = template.evaluate(&registry(), Inputs::new()).await.unwrap();
            let plan = engine(&folder).plan(&pipeline).await.unwrap();
            let (words, data) = (plan.to_string(), serde_json::to_string(&plan).unwrap());
            search(&words, secrets, "plan");
            search(&data, secrets, "plan as data");
            assert_eq!(
                words.matches("<sensitive>\"").count() - words.matches("it shows as").count(),
                9,
                "{words}"
            );
            assert!(words.contains("note = \"seen by all\"") && words.contains("\"user\":\"me\""), "{words}");
            let shown = run(&folder, pipeline).await;
            for text in &shown {
                search(text, secrets, "a run");
            }
            assert!(shown[0].contains("it uses <sensitive>!"), "{}", shown[0]);
            assert!(shown[0].contains("x<sensitive>x"), "{}", shown[0]);
            assert_eq!(shown[0].contains("none of <sensitive>, <sensitive>"), fails, "{}", shown[0]);
            if secrets == &second {
                assert!(
                    shown[0].contains("configuration field login.password changed (it shows as"),
                    "{}",
                    shown[0]
                );
            }
            search(&left(folder.path()), secrets, "a file that is left");
            assert!(
                left(&folder.path().join("cache")).contains("login.password"),
                "the cache remembers the step"
            );
        }
    }
}

#[tokio::test]
async fn what_code_sets_is_as_secret_as_what_a_template_says() {
    let folder = folder();
    let secrets = SECRETS.map(str::to_owned).to_vec();
    let mut keys = Keys {
        token: Some(SECRETS[0].into()),
        tokens: vec![SECRETS[1].into(), SECRETS[2].into()],
        login: Some(Login { user: "me".into(), password: SECRETS[3].into() }),
        ..Keys::default()
    };
    let builder = || FakeBuilder::new(folder.path().join("world")).source("image-1");
    let pipeline = Pipeline::of([Build::new("x", builder()).provision(keys.clone())]);
    let plan = engine(&folder).plan(&pipeline).await.unwrap();
    search(&plan.to_string(), &secrets, "plan");
    for text in run(&folder, pipeline).await {
        search(&text, &secrets, "a run");
    }
    // The same of what is made only when it runs.
    keys.fails = true;
    let late = Late::deferred(Arc::new(Keys::default()) as Arc<dyn Provisioner>, move |_| {
        Ok(Arc::new(keys.clone()) as Arc<dyn Provisioner>)
    });
    let step = ProvisionStep::with_provisioner("keys", late);
    let shown = run(&folder, Pipeline::of([Build::new("x", builder()).provision(step)])).await;
    for text in &shown {
        search(text, &secrets, "a run");
    }
    assert!(shown[0].contains("none of <sensitive>"), "{}", shown[0]);
    search(&left(folder.path()), &secrets, "a file that is left");
}

#[tokio::test]
async fn what_a_mistake_quotes_holds_no_secret() {
    for (line, says) in [
        ("token = [\"Zq1xGeheim\"]", "string required"),
        ("login { pasword = \"Zq1xGeheim\" }", "pasword"),
        ("login { password = [\"Zq1xGeheim\"] }", "string required"),
        ("words = \"Zq1xGeheim\" # a secret: Zq1xGeheim", "list of string required"),
        ("token = \"Zq1xGeheim{{ env `X` }}\"", "(sensitive)"),
        ("object = { password = [\"Zq1xGeheim\"] }", "error decoding 'object.password'"),
    ] {
        let text = format!(
            "source \"fake\" \"x\" {{\n  folder = \"f\"\n}}\nbuild {{\n  sources = [\"fake.x\"]\n  provisioner \"keys\" \
             {{\n    {line}\n  }}\n}}\n"
        );
        let template = Template::from_texts([("t.pkr.hcl", text.as_str())]).unwrap();
        let pipeline = template.evaluate(&registry(), Inputs::new()).await;
        let found = match pipeline {
            Ok(pipeline) => {
                let mut found = Engine::new().prepare(&pipeline).await;
                found.scrub(&pipeline.secrets);
                found
            }
            Err(found) => found,
        };
        assert!(found.has_errors(), "{line}");
        let told =
            packer_core::diagnostic::packer_layout_all(&found) + &serde_json::to_string(&found).unwrap();
        assert!(told.contains(says), "{told}");
        search(&told, &["Zq1xGeheim".to_owned()], line);
    }
}

/// Everything that a finding says, in each of its layouts.
fn told(found: &packer_core::Diagnostics) -> String {
    let json = serde_json::to_string(found).unwrap();
    let drawn = found.iter().map(|d| packer_core::diagnostic::snippet_layout(d, false)).collect::<String>();
    format!("{found:?}\n{found}\n{json}\n{drawn}")
}

#[test]
fn what_is_wrong_with_a_variable_file_is_told_without_its_values() {
    let folder = folder();
    let template = folder.path().join("t.pkr.hcl");
    let text = "variable \"pw\" {\n  type = string\n  default = \"\"\n}\nvariable \"n\" {\n  type = number\n  default = 1\n}\n\
                variable \"pin\" {\n  type = number\n  sensitive = true\n  default = 1\n}\n";
    std::fs::write(&template, text).unwrap();
    let load = |inputs: Inputs| Template::load_for(&template.display().to_string(), &inputs).map(drop);
    for (name, content, line) in [
        ("a.pkrvars.hcl", "n = 1\npw = \"geheim-4711\n", 2),
        ("b.pkrvars.hcl", "pw = geheim-4711\n", 1),
        ("c.pkrvars.hcl", "pw = <<EOT\ngeheim-4711\n", 3),
        ("d.pkrvars.hcl", "pw = [\n  \"x\",\n  geheim-4711 geheim-4711\n]\n", 3),
        ("e.pkrvars.hcl", "pw \"geheim-4711\"\n", 1),
        ("f.pkrvars.json", "{\"n\": 1,\n \"pw\": \"geheim-4711\n}\n", 2),
        ("g.pkrvars.json", "{\"pw\": geheim-4711}\n", 1),
        ("h.pkrvars.hcl", "pin = \"geheim-4711\"\n", 1),
        ("i.pkrvars.hcl", "pw = \"geheim-4711\"\npw = \"geheim-4711\"\n", 2),
        ("j.pkrvars.hcl", "variable \"pw\" {\n  default = \"geheim-4711\"\n}\n", 1),
        ("k.pkrvars.hcl", "n = 4711geheim-4711\n", 1),
        ("l.pkrvars.hcl", "pw = upper(\"geheim-4711\")\n", 1),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let found = load(Inputs::new().var_file(path.display().to_string())).unwrap_err();
        let text = told(&found);
        assert!(!text.contains("geheim") && !text.contains("4711"), "{name}: {text}");
        let place = found.iter().find_map(|d| d.location.as_ref()).unwrap();
        assert_eq!((place.start().line, place.file().ends_with(name)), (line, true), "{text}");
    }
    // Which variable it is about is shown, and of one that is not sensitive what it was given.
    std::fs::write(folder.path().join("n.pkrvars.hcl"), "n = \"many\"\n").unwrap();
    let found =
        load(Inputs::new().var_file(folder.path().join("n.pkrvars.hcl").display().to_string())).unwrap_err();
    assert!(told(&found).contains("1: n = ******\n"), "{found:?}");
    assert!(told(&found).contains("not the string \"many\""), "{found:?}");
    for (name, value) in [("pin", "geheim-4711"), ("n", "[geheim-4711")] {
        let found = load(Inputs::new().var(name, value)).unwrap_err();
        let text = told(&found);
        assert!(name == "n" || !text.contains("geheim"), "{text}");
    }
    let legacy = folder.path().join("t.json");
    std::fs::write(&legacy, "{\"variables\": {\"pw\": \"\"}, \"builders\": [{\"type\": \"null\"}]}").unwrap();
    for content in [
        "{\"pw\": \"geheim-4711}\n",
        "{\"pw\": [\"geheim-4711\"]}",
        "{\"pw\": geheim}",
        "pw = \"geheim-4711\"\n",
    ] {
        let path = folder.path().join("legacy.json");
        std::fs::write(&path, content).unwrap();
        let inputs = Inputs::new().var_file(path.display().to_string());
        let found = Template::load_for(&legacy.display().to_string(), &inputs).map(drop).unwrap_err();
        let text = told(&found);
        assert!(!text.contains("geheim") && !text.contains("4711"), "{content}: {text}");
    }
    std::fs::write(&template, "variable \"l\" {\n  type = list(string)\n}\n").unwrap();
    for value in ["[\"geheim-4711\"", "geheim-4711", "[geheim]", "4711 4711"] {
        let found = load(Inputs::new().var("l", value)).unwrap_err();
        let text = told(&found);
        assert!(!text.contains("geheim") && !text.contains("4711"), "{value}: {text}");
    }
}

#[test]
fn a_template_that_cannot_be_read_does_not_show_what_its_names_call_secret() {
    for (name, text) in [
        ("a.pkr.hcl", "source \"null\" \"n\" {\n  ssh_password = \"geheim-4711\n}\n"),
        ("a.pkr.hcl", "variable \"token\" {\n  default = \"geheim-4711\n}\n"),
        (
            "a.pkr.hcl",
            "variable \"pin\" {\n  type = number\n  sensitive = true\n  default = \"geheim-4711\"\n}\n",
        ),
        ("a.pkr.json", "{\"variable\": {\"x\": {\"default\": 1}},\n \"api_token\": \"geheim-4711\n}\n"),
        ("a.json", "{\"builders\": [{\"type\": \"null\",\n \"ssh_password\": \"geheim-4711\n}]}\n"),
    ] {
        let folder = folder();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let found = Template::load(&path).unwrap_err();
        let text = told(&found);
        assert!(!text.contains("geheim") && !text.contains("4711"), "{name}: {text}");
        assert!(text.contains("***") || text.contains("in the line before"), "{text}");
    }
}
