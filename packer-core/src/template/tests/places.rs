//! Findings of a component's own `prepare`: at the argument that they are about.

use super::*;
use crate::ErrorInfo;
use crate::post_processor::{PostProcessor, Processed};

/// Finds something wrong with every argument that it is told to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Picky {
    about: Vec<String>,
    name: String,
    commands: Vec<String>,
    tags: std::collections::BTreeMap<String, String>,
    drive: Vec<Drive>,
    #[schemars(extend("x-aliases" = ["lan"]))]
    network: Option<Network>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Drive {
    size: u64,
    cache: Option<Network>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Network {
    mode: String,
}

impl Picky {
    fn found(&self) -> Diagnostics {
        let wrong = |path: &String| Diagnostic::error(format!("wrong: {path}")).about(path);
        self.about.iter().map(wrong).collect()
    }
}

#[async_trait]
impl Builder for Picky {
    async fn prepare(&self, _: &PrepareContext) -> std::result::Result<Prepared, Diagnostics> {
        Prepared::of(self.found())
    }

    async fn launch(&self, _: &Context) -> Result<Box<dyn Machine>> {
        Err(Error::user("there are no machines here"))
    }

    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Provisioner for Picky {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        self.found()
    }

    async fn provision(&self, _: &Context, _: &dyn Machine) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl PostProcessor for Picky {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        self.found()
    }

    async fn post_process(&self, _: &Context, artifact: Artifact) -> Result<Processed> {
        Ok(Processed::beside(artifact))
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.builder::<Picky>("picky").provisioner::<Picky>("picky").post_processor::<Picky>("picky");
    registry
}

/// What the template says where each finding is placed, one by one; white space is one space.
async fn places(name: &str, text: &str) -> Vec<(String, String)> {
    let template = match name.ends_with(".json") && !name.ends_with(".pkr.json") {
        true => Template::from_legacy(name, text),
        false => Template::from_texts([(name, text)]),
    };
    let found = template.unwrap().validate(&registry(), Inputs::new()).await;
    let place = |d: &Diagnostic| {
        let place = d.location.as_ref().unwrap();
        let shown = &place.source().text()[place.span().range()];
        (d.about.clone().unwrap_or_default(), shown.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    found.iter().map(place).collect()
}

/// Paths and what is shown for each.
fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(path, shown)| ((*path).to_owned(), (*shown).to_owned())).collect()
}

fn list(pairs: &[(&str, &str)]) -> String {
    let paths: Vec<&str> = pairs.iter().map(|(path, _)| *path).collect();
    serde_json::to_string(&paths).unwrap()
}

#[tokio::test]
async fn an_argument_is_found_in_native_syntax() {
    let pairs = [
        ("name", "name = \"x\""),
        ("name.of", "name = \"x\""),
        ("commands[1]", "\"b\""),
        ("commands[7]", "commands = [\"a\", \"b\"]"),
        ("tags.owner", "owner = \"me\""),
        ("tags[\"a.b\"]", "\"a.b\" = \"c\""),
        ("tags.missing", "tags = { owner = \"me\", \"a.b\" = \"c\" }"),
        ("drive", "drive"),
        ("drive[1].size", "size = 0"),
        ("drive[1].cache.mode", "mode = \"off\""),
        ("drive[1].cache", "cache"),
        ("drive[0].cache.mode", "drive"),
        ("drive[2].size", "size = drive.value"),
        ("network.mode", "mode = \"nat\""),
        ("drive[9]", "source \"picky\" \"a\""),
        ("nothing", "source \"picky\" \"a\""),
        ("[0]", "source \"picky\" \"a\""),
    ];
    let about = list(&pairs);
    let text = format!(
        r#"
        source "picky" "a" {{
          about    = {about}
          name     = "x"
          commands = ["a", "b"]
          tags     = {{ owner = "me", "a.b" = "c" }}
          drive {{
            size = 1
          }}
          drive {{
            size = 0
            cache {{
              mode = "off"
            }}
          }}
          dynamic "drive" {{
            for_each = [3, 4]
            content {{
              size = drive.value
            }}
          }}
          lan {{
            mode = "nat"
          }}
        }}
        build {{ sources = ["picky.a"] }}
        "#
    );
    let mut found = places("a.pkr.hcl", &text).await;
    let mut expected = expected(&pairs);
    // They come in the order of the places.
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_a_build_adds_to_a_source_is_found_there() {
    let text = r#"
        source "picky" "a" {
          about = ["commands[0]", "drive[0].size", "drive[1].size"]
          drive { size = 1 }
        }
        build {
          source "picky.a" {
            name     = "b"
            commands = ["of the build"]
            drive { size = 2 }
          }
        }
        "#;
    let mut found = places("a.pkr.hcl", text).await;
    found.sort();
    let pairs =
        [("commands[0]", "\"of the build\""), ("drive[0].size", "size = 1"), ("drive[1].size", "size = 2")];
    assert_eq!(found, expected(&pairs));
}

#[tokio::test]
async fn an_argument_is_found_in_an_override() {
    let step = |over: &str| {
        format!(
            r#"
            locals {{
              all = {{ name = "of a local", tags = {{ owner = "me" }} }}
            }}
            source "picky" "a" {{}}
            build {{
              sources = ["picky.a"]
              provisioner "picky" {{
                about = [
                  "name", "commands[0]", "commands[1]", "tags.owner", "drive[0].size", "drive[1].size", "network.mode"
                ]
                commands = ["x", "y"]
                tags     = {{ owner = "you" }}
                drive {{ size = 1 }}
                drive {{ size = 2 }}
                override = {over}
              }}
            }}
            "#
        )
    };
    let cases = [
        // Written out; what it leaves as it was is where it was, as are the items behind those of a shorter list.
        (
            r#"{ a = { commands = ["o"], drive = [{ Size = 3 }], lan = { mode = "nat" } }, b = { tags = {} } }"#,
            ["provisioner", "\"o\"", "\"y\"", "owner = \"you\"", "Size = 3", "size = 2", "mode = \"nat\""],
        ),
        // One block, and one of a list.
        (
            r#"{ "a" = { Drive = { size = 3 }, network = [{ mode = "nat" }] } }"#,
            ["provisioner", "\"x\"", "\"y\"", "owner = \"you\"", "size = 3", "size = 2", "mode = \"nat\""],
        ),
        // What it is made of is not written out.
        (
            r#"{ a = { commands = split(",", "o,p"), tags = local.all.tags } }"#,
            [
                "provisioner",
                "commands = split(\",\", \"o,p\")",
                "commands = split(\",\", \"o,p\")",
                "tags = local.all.tags",
                "size = 1",
                "size = 2",
                "provisioner",
            ],
        ),
        (
            "{ a = local.all }",
            ["a = local.all", "\"x\"", "\"y\"", "a = local.all", "size = 1", "size = 2", "provisioner"],
        ),
        (
            r#"{ (lower("A")) = local.all }"#,
            [
                "override = { (lower(\"A\")) = local.all }",
                "\"x\"",
                "\"y\"",
                "override = { (lower(\"A\")) = local.all }",
                "size = 1",
                "size = 2",
                "provisioner",
            ],
        ),
        (
            r#"{ a = { (lower("TAGS")) = {} } }"#,
            [
                "provisioner",
                "\"x\"",
                "\"y\"",
                "a = { (lower(\"TAGS\")) = {} }",
                "size = 1",
                "size = 2",
                "provisioner",
            ],
        ),
    ];
    let paths = [
        "name",
        "commands[0]",
        "commands[1]",
        "tags.owner",
        "drive[0].size",
        "drive[1].size",
        "network.mode",
    ];
    for (over, shown) in cases {
        let found = places("a.pkr.hcl", &step(over)).await;
        for (path, expected) in paths.iter().zip(shown) {
            let (_, place) = found.iter().find(|(about, _)| about == path).unwrap();
            // Of the block itself its head is shown.
            let place = if place.starts_with("provisioner ") { "provisioner" } else { place };
            assert_eq!(place, expected, "{path} of {over}");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_in_an_override_is_shown_beside_the_block() {
    let text = r#"
        source "picky" "a" {}
        build {
          sources = ["picky.a"]
          provisioner "picky" {
            override = {
              a = {
                drive = [{ sise = 3 }]
                tags  = 7
              }
            }
          }
        }
        "#;
    let validate = async |text: &str| {
        Template::from_texts([("a.pkr.hcl", text)]).unwrap().validate(&registry(), Inputs::new()).await
    };
    let shown = |found: &Diagnostics| -> Vec<(u32, String)> {
        let text = |place: &crate::Location| place.source().text()[place.span().range()].to_owned();
        found.iter().map(|d| (d.location.as_ref().unwrap().start().line, text(&d.related[0].1))).collect()
    };
    assert_eq!(shown(&validate(text).await), [(5, "sise = 3".to_owned())]);
    let mended = text.replace("sise", "size");
    assert_eq!(shown(&validate(&mended).await), [(5, "tags  = 7".to_owned())]);
}

#[tokio::test]
async fn an_argument_is_found_in_json_syntax() {
    let pairs = [
        ("commands[1]", "\"b\""),
        ("drive[1].size", "\"size\": 0"),
        ("name", "\"name\": \"x\""),
        ("tags.owner", "\"owner\": \"me\""),
    ];
    let text = format!(
        r#"{{"source": {{"picky": {{"a": {{
            "about": {}, "name": "x", "commands": ["a", "b"], "tags": {{"owner": "me"}},
            "drive": [{{"size": 1}}, {{"size": 0}}]}}}}}},
            "build": {{"sources": ["picky.a"]}}}}"#,
        list(&pairs)
    );
    let mut found = places("a.pkr.json", &text).await;
    found.sort();
    assert_eq!(found, expected(&pairs));
}

#[tokio::test]
async fn an_argument_is_found_in_a_legacy_template() {
    let pairs = [
        ("commands[1]", "\"b\""),
        ("drive[1].size", "\"Size\": 0"),
        ("drive[5].size", "\"DRIVE\": [{\"size\": 1}, {\"Size\": 0}]"),
        ("name", "\"name\": \"over\""),
        ("network[0].mode", "\"mode\": \"nat\""),
        ("nothing", "\"picky\""),
        ("tags.owner", "\"owner\": \"me\""),
    ];
    let step = format!(
        r#"{{"type": "picky", "about": {}, "name": "x", "commands": ["a", "b"], "tags": {{"owner": "me"}},
            "DRIVE": [{{"size": 1}}, {{"Size": 0}}], "network": {{"mode": "nat"}},
            "override": {{"a": {{"name": "over"}}}}}}"#,
        list(&pairs)
    );
    let text = format!(r#"{{"builders": [{{"type": "picky", "name": "a"}}], "provisioners": [{step}]}}"#);
    let mut found = places("a.json", &text).await;
    found.sort();
    let found: Vec<_> = found.iter().filter(|(path, _)| path != "nothing").collect();
    let expected = expected(&pairs);
    assert_eq!(found, expected.iter().filter(|(path, _)| path != "nothing").collect::<Vec<_>>());
}

#[tokio::test]
async fn steps_have_places_too_and_keep_what_is_said_of_them() {
    let text = r#"
        source "picky" "a" {}
        build {
          sources = ["picky.a"]
          provisioner "picky" {
            about = ["name"]
            name  = "p"
            override = { a = { commands = ["x"] } }
          }
          post-processor "picky" {
            about    = ["commands[0]", "name"]
            commands = ["q"]
          }
        }
        "#;
    let found =
        Template::from_texts([("a.pkr.hcl", text)]).unwrap().validate(&registry(), Inputs::new()).await;
    let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
    // `name` is an argument that the engine reads; the component has none of it.
    assert_eq!(
        lines,
        [
            "a.pkr.hcl:5,11-30: Failed preparing provisioner-block \"picky\" \"p\"; wrong: name",
            "a.pkr.hcl:12,25-28: Failed preparing post-processor-block \"picky\" \"\"; wrong: commands[0]",
            "a.pkr.hcl:10,11-33: Failed preparing post-processor-block \"picky\" \"\"; wrong: name",
        ]
    );
}

#[tokio::test]
async fn a_component_that_is_made_late_has_places_and_events_carry_them() {
    let mut registry = registry();
    registry.builder::<crate::testing::FakeBuilder>("fake");
    let folder = crate::testing::TempFolder::new();
    let text = format!(
        r#"
        source "fake" "a" {{ folder = "{}" }}
        build {{
          sources = ["fake.a"]
          provisioner "picky" {{
            about    = build.ID == "" ? [] : (length(build.ID) > 20 ? ["commands[0]"] : [])
            commands = [build.ID]
          }}
        }}
        "#,
        folder.path().display()
    );
    let template = Template::from_texts([("a.pkr.hcl", text)]).unwrap();
    assert_eq!(template.validate(&registry, Inputs::new()).await.len(), 0);
    let pipeline = template.evaluate(&registry, Inputs::new()).await.unwrap();
    let recorder = crate::testing::Recorder::new();
    let report = Engine::new().events(recorder.clone()).run(pipeline).await.unwrap();
    let error = report.builds[0].error.as_ref().unwrap();
    assert_eq!(error.location().unwrap().to_string(), "a.pkr.hcl:7,25-33", "{error}");
    let told = recorder.events().into_iter().find_map(|e| match e.kind {
        crate::EventKind::BuildFailed { error, .. } => Some(error),
        _ => None,
    });
    assert_eq!(told, Some(ErrorInfo::from(error)));
}

#[tokio::test]
async fn everything_is_validated_at_once() {
    let text = r#"
        variable "missing" {}
        source "picky" "a" { about = ["name"] }
        build { sources = ["picky.a"] }
        "#;
    let template = Template::from_texts([("a.pkr.hcl", text)]).unwrap();
    let found = template.validate(&registry(), Inputs::new()).await;
    assert!(found.iter().any(|d| d.summary.contains("missing")), "{found:?}");
    let found = template.validate(&registry(), Inputs::new().var("missing", "x")).await;
    assert!(found.iter().any(|d| d.to_string().contains("wrong: name")), "{found:?}");
}
