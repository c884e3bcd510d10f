//! What templates can say here that Packer does not know.

use std::time::Duration;

use super::*;
use crate::artifact::Artifact;
use crate::provisioner::StepInputs;

/// A builder that has an argument of its own with the name of an extension.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Own {
    for_each: String,
}

#[async_trait]
impl Builder for Own {
    async fn prepare(&self, _: &PrepareContext) -> std::result::Result<Prepared, Diagnostics> {
        let mut prepared = Prepared::new();
        prepared.warnings.push(Diagnostic::warning(self.for_each.clone()));
        Ok(prepared)
    }

    async fn launch(&self, _: &Context) -> Result<Box<dyn Machine>> {
        Err(Error::user("there are no machines here"))
    }

    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
    }
}

/// A provisioner that has one.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Gate {
    when: String,
}

#[async_trait]
impl Provisioner for Gate {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        Diagnostic::warning(self.when.clone()).into()
    }

    async fn provision(&self, _: &Context, _: &dyn Machine) -> Result<()> {
        Ok(())
    }
}

fn names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.builds.iter().map(|b| b.name()).collect()
}

/// The findings of a template that is wrong.
async fn wrong(text: &str) -> String {
    lines(&evaluate(text, Inputs::new()).await.unwrap_err())
}

#[tokio::test]
async fn a_source_stands_for_several() {
    let text = r#"
        source "image" "a" {
          for_each = { x = ["1"], y = [] }
          text     = "${each.key} of ${source.name}"
          list     = each.value
        }
        source "image" "b" {
          for_each = toset(["q"])
          name     = "named-${each.value}"
        }
        build { sources = ["image.a", "image.named-q", "image.b"] }
    "#
    .replace("toset([\"q\"])", "convert([\"q\"], set(string))");
    let pipeline = evaluate(&text, Inputs::new()).await.unwrap();
    assert_eq!(names(&pipeline), ["image.a-x", "image.a-y", "image.named-q", "image.named-q"]);
    assert_eq!(pipeline.builds[0].source, "image.a-x");
    let told = prepared(&text).await;
    assert!(told.starts_with("\"x of a-x\" [\"1\"]\n\"y of a-y\" []\n\"\" []\n"), "{told}");
}

#[tokio::test]
async fn a_build_adds_to_each_of_several_sources() {
    let text = r#"
        source "image" "a" {
          for_each = ["p", "q"]
          text     = each.value
        }
        build {
          name = "b"
          source "image.a" {
            name = "as-${each.key}"
            list = [each.value]
          }
          provisioner "echo" {
            when = each.key == 1
            text = "step of ${each.value}"
          }
        }
    "#;
    let pipeline = evaluate(text, Inputs::new()).await.unwrap();
    assert_eq!(names(&pipeline), ["b.image.as-0", "b.image.as-1"]);
    assert_eq!(pipeline.builds.iter().map(|b| b.provisioners.len()).collect::<Vec<_>>(), [0, 1]);
    let told = prepared(text).await;
    assert!(told.starts_with("\"p\" [\"p\"]\n\"q\" [\"q\"]\n"), "{told}");
    assert!(told.contains("step of q"), "{told}");
}

#[tokio::test]
async fn a_build_block_stands_for_several() {
    let text = r#"
        source "image" "a" {
          for_each = { x = 1, y = 2 }
          text     = "source ${each.value}"
        }
        build {
          for_each    = { dev = ["image.a-x"], prod = ["image.a"] }
          description = "for ${each.key}"
          sources     = each.value
          provisioner "echo" {
            only = ["image.a-${each.key == "dev" ? "x" : "y"}"]
            text = "${build.name} ${each.key}"
          }
        }
        build {
          for_each = ["n"]
          name     = "called-${each.value}"
          sources  = ["image.a-x"]
        }
    "#;
    let pipeline = evaluate(text, Inputs::new()).await.unwrap();
    let expected = ["dev.image.a-x", "prod.image.a-x", "prod.image.a-y", "called-n.image.a-x"];
    assert_eq!(names(&pipeline), expected);
    assert_eq!(pipeline.builds[1].description, "for prod");
    assert_eq!(pipeline.builds.iter().map(|b| b.provisioners.len()).collect::<Vec<_>>(), [1, 0, 1, 0]);
    let told = prepared(text).await;
    assert!(told.contains("\"source 1\" []") && told.contains("prod prod"), "{told}");
    // None at all is nothing wrong.
    let none = text.replace("{ dev = [\"image.a-x\"], prod = [\"image.a\"] }", "{}");
    assert_eq!(names(&evaluate(&none, Inputs::new()).await.unwrap()), ["called-n.image.a-x"]);
    let empty = text.replace("{ x = 1, y = 2 }", "{ x = 1 }").replace("[\"image.a-x\"]", "[\"image.a\"]");
    assert_eq!(names(&evaluate(&empty, Inputs::new()).await.unwrap()).len(), 3);
}

#[tokio::test]
async fn what_is_wrong_with_for_each_is_told() {
    let template = |for_each: &str, more: &str| {
        format!(
            "variable \"s\" {{\n  default = \"x\"\n  sensitive = true\n}}\nsource \"image\" \"a\" {{\n  for_each = {for_each}\n{more}}}\nbuild {{ sources = [\"image.a\"] }}\n"
        )
    };
    for (for_each, more, told) in [
        ("1", "", "6: Invalid for_each value | A number is no collection"),
        ("null", "", "6: Invalid for_each value | The value is null"),
        ("{ (var.s) = 1 }", "", "6: Invalid for_each value | The value is sensitive"),
        ("convert([var.s], set(string))", "", "6: Invalid for_each value | The value is sensitive"),
        (
            "convert([[1]], set(list(number)))",
            "",
            "6: Invalid for_each value | The elements of a set become keys",
        ),
        (
            "{ a = source.name }[\"a\"] == \"x\" ? [1] : []",
            "",
            "6: Invalid for_each value | The value is not known",
        ),
        ("[1, 2]", "  name = \"same\"\n", "5: Duplicate source block | There are two sources image.same"),
        ("[1]", "  name = each.valeu\n", "7: Unsupported attribute"),
    ] {
        let text = template(for_each, more);
        let found = wrong(&text).await;
        assert!(found.contains(told), "{told} for:\n{text}\nin:\n{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
    let twice = "source \"image\" \"a\" {\n  for_each = [1]\n}\nsource \"image\" \"a\" {}\nsource \"image\" \"a-0\" {}\nbuild { sources = [\"image.a\"] }\n";
    assert_eq!(wrong(twice).await.matches("Duplicate source block").count(), 2);
    let build = "source \"image\" \"a\" {}\nbuild {\n  for_each = \"x\"\n  sources = [\"image.a\"]\n}\n";
    assert!(wrong(build).await.contains("3: Invalid for_each value | A string is no collection"));
    let lost = "source \"image\" \"a\" { text = each.key }\nbuild { sources = [\"image.a\"] }\n";
    assert!(prepared(lost).await.contains("Unknown variable"));
    let missing = "source \"image\" \"a\" {\n  for_each = [1]\n}\nbuild { sources = [\"image.a-1\"] }\n";
    let found = evaluate(missing, Inputs::new()).await.unwrap_err();
    assert_eq!(found.iter().next().unwrap().help.as_deref(), Some("did you mean \"image.a-0\"?"));
}

#[tokio::test]
async fn what_data_sources_would_say_is_checked_without_them() {
    let text = r#"
        data "pair" "p" { name = "n" }
        source "image" "a" {
          for_each = { (data.pair.p.name) = 1 }
          text     = each.key
          list     = [each.value]
        }
        source "image" "plain" { text = "x" }
        build { sources = ["image.a", "image.a-n"] }
        build {
          for_each = [data.pair.p.name]
          sources  = ["image.${each.value}"]
        }
        build {
          sources = ["image.plain"]
          provisioner "echo" {
            when = data.pair.p.name == "n"
            inputs = [data.pair.p.name]
          }
        }
    "#
    // The key of an object of unknown keys, and a list whose length is known.
    .replace("for_each = [data.pair.p.name]", "for_each = split(\",\", data.pair.p.name)");
    let unread = || Inputs::new().evaluate_data_sources(false);
    let pipeline = evaluate(&text, unread()).await.unwrap();
    assert_eq!(names(&pipeline), ["image.a", "image.a-n", "image.plain"]);
    assert_eq!(pipeline.builds[2].provisioners.len(), 1);
    assert!(lines(&pipeline.notes).contains("11: Builds not checked"));
    let bad = text.replace("list     = [each.value]", "list     = [each.other]");
    let pipeline = evaluate(&bad, unread()).await.unwrap();
    assert!(lines(&Engine::new().prepare(&pipeline).await).contains("6: Unsupported attribute"));
}

#[tokio::test]
async fn steps_are_left_out_where_their_condition_is_false() {
    let text = r#"
        variable "on" { default = true }
        source "image" "a" {}
        source "image" "b" {}
        build {
          name    = "n"
          sources = ["image.a", "image.b"]
          provisioner "echo" {
            when = var.on && source.name == "a" && build.name == "n"
            text = "one"
          }
          dynamic "provisioner" {
            for_each = ["a", "b"]
            labels   = ["echo"]
            content {
              when = source.name == provisioner.value
              text = "for ${provisioner.value}"
            }
          }
          error-cleanup-provisioner "echo" {
            when = source.type == "other"
          }
        }
    "#;
    let counts =
        |pipeline: &Pipeline| pipeline.builds.iter().map(|b| b.provisioners.len()).collect::<Vec<_>>();
    let pipeline = evaluate(text, Inputs::new()).await.unwrap();
    assert_eq!(counts(&pipeline), [2, 1]);
    assert!(pipeline.builds[0].error_cleanup.is_none());
    assert_eq!(counts(&evaluate(text, Inputs::new().var("on", "false")).await.unwrap()), [1, 1]);
    for (when, told) in [
        ("null", "4: Unsuitable value type | The value of \"when\" does not fit: null value is not allowed."),
        ("\"maybe\"", "4: Unsuitable value type | The value of \"when\" does not fit: "),
        ("build.ID == \"\"", "4: Unsupported attribute"),
        ("sorce.name == \"a\"", "4: Unknown variable"),
    ] {
        let text = format!(
            "source \"image\" \"a\" {{}}\nbuild {{\n  sources = [\"image.a\"]\n  provisioner \"echo\" {{ when = {when} }}\n}}\n"
        );
        let pipeline = evaluate(&text, Inputs::new()).await.unwrap();
        let found = lines(&Engine::new().prepare(&pipeline).await);
        assert!(found.contains(told), "{told} in:\n{found}");
    }
}

#[tokio::test]
async fn steps_say_what_they_depend_on() {
    let step = |arguments: &str| {
        format!(
            "source \"image\" \"a\" {{}}\nbuild {{\n  sources = [\"image.a\"]\n  provisioner \"echo\" {{\n{arguments}\n  }}\n}}\n"
        )
    };
    let files = |paths: [&str; 2]| Some(StepInputs::Files(paths.map(Into::into).into()));
    for (arguments, expected) in [
        ("", None),
        ("volatile = false", None),
        ("volatile = true", Some(StepInputs::Volatile)),
        ("inputs = [\"a/${source.name}.txt\", \"/abs\"]", files(["./a/a.txt", "/abs"])),
        ("inputs = [\"../x\", \"./y/../z\"]\nvolatile = false", files(["./../x", "./z"])),
        ("inputs = []", Some(StepInputs::Files(Vec::new()))),
    ] {
        let pipeline = evaluate(&step(arguments), Inputs::new().working_dir(".")).await.unwrap();
        assert_eq!(pipeline.builds[0].provisioners[0].inputs, expected, "{arguments}");
    }
    for (arguments, told) in [
        ("inputs = [\"x\"]\nvolatile = true", "6: only one of 'inputs' or 'volatile' may be specified"),
        ("inputs = [null]", "5: Unsuitable value type"),
        ("volatile = 7", "5: Unsuitable value type"),
    ] {
        let pipeline = evaluate(&step(arguments), Inputs::new()).await.unwrap();
        let found = lines(&Engine::new().prepare(&pipeline).await);
        assert!(found.contains(told), "{told} in:\n{found}");
    }
}

#[tokio::test]
async fn what_a_component_calls_so_itself_stays_its_own() {
    let mut registry = registry();
    registry.builder::<Own>("own").provisioner::<Gate>("gate");
    let text = "source \"own\" \"a\" { for_each = \"mine\" }\nbuild {\n  sources = [\"own.a\"]\n  provisioner \"gate\" { when = \"mine too\" }\n}\n";
    let template = Template::from_texts([("t.pkr.hcl", text)]).unwrap();
    assert!(template.portability(&registry).is_empty());
    let pipeline = template.evaluate(&registry, Inputs::new()).await.unwrap();
    let told = lines(&Engine::new().prepare(&pipeline).await);
    assert!(told.contains("mine | ") && told.contains("mine too"), "{told}");
}

#[tokio::test]
async fn outputs_are_made_of_artifacts() {
    let text = r#"
        variable "secret" {
          default   = "hunter2"
          sensitive = true
        }
        source "image" "a" {}
        source "image" "b" {}
        build { sources = ["image.a", "image.b"] }
        output "id" { value = upper(artifacts["image.a"].id) }
        output "plain" { value = { n = 1 + 1 } }
        output "hidden" {
          value     = "x"
          sensitive = true
        }
        output "of_secret" { value = "${var.secret}!" }
        output "all" { value = [for name, made in artifacts : "${name}=${length(made.all)}"] }
    "#;
    let pipeline = evaluate(text, Inputs::new()).await.unwrap();
    let mut values = RunValues::default();
    values.artifacts.insert("image.a".into(), vec![Artifact::new("x", "ami-1"), Artifact::new("x", "ami-2")]);
    let made: Vec<(&str, String)> = pipeline
        .outputs
        .iter()
        .map(|o| (o.name.as_str(), format!("{:?}", o.evaluate(&values).unwrap())))
        .collect();
    let expected = [
        ("id", "\"AMI-1\""),
        ("plain", "{\"n\": 2}"),
        ("hidden", "(sensitive)"),
        ("of_secret", "(sensitive)"),
        ("all", "[\"image.a=2\"]"),
    ];
    assert_eq!(made, expected.map(|(name, value)| (name, value.to_owned())));
    assert_eq!(pipeline.outputs[0].needs, ["image.a"]);
    // Also with builds left out, whose outputs are then not made.
    assert!(evaluate(text, Inputs::new().only(["image.b"])).await.is_ok());
    for (output, told) in [
        ("value = artifacts[\"image.c\"].id", "4: Unknown build in a reference to an artifact"),
        ("value = artifacts[\"image.a\"].idd", "4: Unsupported attribute"),
        ("value = local.nope", "4: Unsupported attribute"),
        ("vlaue = 1", "4: Unsupported argument"),
        ("sensitive = var.x", "4: Variables not allowed"),
    ] {
        let output =
            if output.starts_with("value") { output.to_owned() } else { format!("value = 1\n{output}") };
        let text = format!(
            "source \"image\" \"a\" {{}}\nbuild {{ sources = [\"image.a\"] }}\noutput \"o\" {{\n{output}\n}}\n"
        );
        let found = match Template::from_texts([("t.pkr.hcl", text.as_str())]) {
            Ok(template) => template.evaluate(&registry(), Inputs::new()).await.unwrap_err(),
            Err(found) => found,
        };
        let told = if output.starts_with("value = 1\n") { told.replace("4:", "5:") } else { told.to_owned() };
        assert!(lines(&found).contains(&told), "{told} in:\n{found}");
    }
    let found = Template::from_texts([(
        "t",
        "output \"o\" { value = 1 }\noutput \"o\" { value = 2 }\noutput \"1\" { value = 1 }\noutput \"p\" {}\n",
    )]);
    let found = lines(&found.unwrap_err());
    for told in ["2: Duplicate output", "3: Invalid output name", "4: Missing required argument"] {
        assert!(found.contains(told), "{told} in:\n{found}");
    }
}

#[tokio::test]
async fn json_says_the_same() {
    let text = r#"{
      "source": {"image": {"a": {"for_each": {"x": 1, "y": 2}, "text": "${each.key}"}}},
      "build": {
        "for_each": ["only"],
        "name": "b-${each.value}",
        "sources": ["image.a"],
        "provisioner": {"echo": {"when": "${source.name == \"a-x\"}", "inputs": ["f"]}}
      },
      "output": {"o": {"value": "${artifacts[\"b-only.image.a-x\"].id}"}}
    }"#;
    let template = Template::from_texts([("t.pkr.json", text)]).unwrap();
    assert_eq!(template.portability(&registry()).len(), 5);
    let pipeline = template.evaluate(&registry(), Inputs::new()).await.unwrap();
    assert_eq!(names(&pipeline), ["b-only.image.a-x", "b-only.image.a-y"]);
    assert_eq!(pipeline.builds.iter().map(|b| b.provisioners.len()).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(pipeline.outputs[0].needs, ["b-only.image.a-x"]);
}

#[test]
fn each_use_is_named_with_its_place() {
    let text = "source \"image\" \"a\" {\n  for_each = [1]\n  text = artifacts[\"x\"].id\n}\nbuild {\n  for_each = [1]\n  sources = [\"image.a\"]\n  source \"image.a\" {\n    list = artifacts[\"y\"].files\n  }\n  provisioner \"echo\" {\n    when = true\n    volatile = true\n  }\n  dynamic \"provisioner\" {\n    for_each = [1]\n    labels = [\"echo\"]\n    content {\n      inputs = []\n    }\n  }\n  post-processors {\n    post-processor \"p\" {\n      when = false\n    }\n  }\n  post-processor \"q\" {\n    inputs = \"its own\"\n  }\n}\noutput \"o\" { value = artifacts }\n";
    let template = Template::from_texts([("t.pkr.hcl", text)]).unwrap();
    let told: Vec<u32> =
        template.portability(&registry()).iter().map(|d| d.location.as_ref().unwrap().start().line).collect();
    assert_eq!(told, [2, 3, 6, 9, 12, 13, 19, 24, 31]);
    let plain = "source \"image\" \"a\" {}\nbuild {\n  sources = [\"image.a\"]\n  dynamic \"provisioner\" {\n    for_each = [1]\n    labels = [\"echo\"]\n    content {}\n  }\n}\n";
    assert!(Template::from_texts([("t", plain)]).unwrap().portability(&registry()).is_empty());
}

#[tokio::test]
async fn tests_are_written_as_provisioners_are() {
    let text = r#"
        variable "on" { default = true }
        source "image" "a" {}
        source "image" "b" {}
        build {
          sources = ["image.a", "image.b"]
          test "echo" {
            name        = "first"
            only        = ["image.a"]
            text        = "hi"
            max_retries = 2
            timeout     = "5s"
          }
          dynamic "test" {
            for_each = ["x"]
            labels   = ["echo"]
            content {
              when     = var.on && source.name == "b"
              text     = test.value
              override = { b = { text = "of b" } }
            }
          }
        }
    "#;
    let pipeline = evaluate(text, Inputs::new()).await.unwrap();
    let tests: Vec<Vec<&str>> =
        pipeline.builds.iter().map(|b| b.tests.iter().map(|t| t.name.as_str()).collect()).collect();
    assert_eq!(tests, [vec!["first"], vec![""]]);
    let first = &pipeline.builds[0].tests[0];
    assert_eq!((first.max_retries, first.timeout), (2, Some(Duration::from_secs(5))));
    assert_eq!(first.location.as_ref().unwrap().start().line, 7);
    let template = Template::from_texts([("t.pkr.hcl", text)]).unwrap();
    let told: Vec<u32> =
        template.portability(&registry()).iter().map(|d| d.location.as_ref().unwrap().start().line).collect();
    assert_eq!(told, [7, 14, 18]);
    // Its builder cannot start what it has made: said at the block.
    let found = lines(&Engine::new().prepare(&pipeline).await);
    let words = "the builder \"image\" cannot start what it has made, so that it cannot be tested";
    assert!(found.contains(&format!("7: {words}")), "{found}");

    let json = r#"{"source": {"image": {"a": {}}},
      "build": {"sources": ["image.a"], "test": [{"echo": {"text": "hi", "except": ["image.b"]}}]}}"#;
    let template = Template::from_texts([("t.pkr.json", json)]).unwrap();
    assert_eq!(template.portability(&registry()).len(), 1);
    assert_eq!(template.evaluate(&registry(), Inputs::new()).await.unwrap().builds[0].tests.len(), 1);

    let unknown = "source \"image\" \"a\" {}\nbuild {\n  sources = [\"image.a\"]\n  test \"ecko\" {}\n}\n";
    assert!(wrong(unknown).await.starts_with("4: Unknown test type \"ecko\""), "{}", wrong(unknown).await);
    let inputs = "source \"image\" \"a\" {}\nbuild {\n  sources = [\"image.a\"]\n  test \"echo\" {\n    inputs = []\n  }\n}\n";
    let found = match evaluate(inputs, Inputs::new()).await {
        Ok(pipeline) => lines(&Engine::new().prepare(&pipeline).await),
        Err(found) => lines(&found),
    };
    assert!(found.contains("5: "), "{found}");
}
