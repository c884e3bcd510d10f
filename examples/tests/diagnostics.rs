//! Wrong templates, and what is said about each, drawn as a terminal shows it.
//!
//! `diagnostics.txt` beside this file is the table: a title, the files of a template, values of variables, and what is
//! expected. `PACKER_BLESS=1 cargo test -p examples --test diagnostics` writes what is said now into it, to be read and
//! committed.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use packer_core::diagnostic::snippet_layout;
use packer_core::template::{Inputs, Template};
use packer_core::{Diagnostics, Engine, Registry};

/// One template of the table.
#[derive(Default)]
struct Case {
    title: String,
    variables: Vec<(String, String)>,
    files: Vec<(String, String)>,
    expected: String,
}

impl Case {
    fn read(text: &str) -> Self {
        let mut lines = text.lines();
        let mut case = Self { title: lines.next().unwrap().to_owned(), ..Self::default() };
        let mut part: Option<&mut String> = None;
        for line in lines {
            let name = line.strip_prefix("-- ").and_then(|l| l.strip_suffix(" --"));
            match (name, &mut part) {
                (Some("expected"), _) => part = Some(&mut case.expected),
                (Some(name), _) => {
                    case.files.push((name.to_owned(), String::new()));
                    part = case.files.last_mut().map(|(_, text)| text);
                }
                (None, Some(text)) => {
                    text.push_str(line);
                    text.push('\n');
                }
                (None, None) => {
                    let (name, value) = line.strip_prefix("var ").unwrap().split_once('=').unwrap();
                    case.variables.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        case
    }

    fn write(&self) -> String {
        let mut text = format!("=== {}\n", self.title);
        for (name, value) in &self.variables {
            writeln!(text, "var {name}={value}").unwrap();
        }
        for (name, content) in &self.files {
            write!(text, "-- {name} --\n{content}").unwrap();
        }
        write!(text, "-- expected --\n{}", self.expected).unwrap();
        text
    }

    /// Everything that is found in the template, and what it is as JSON.
    async fn found(&self) -> Diagnostics {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in &self.files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let inputs = || {
            let inputs = Inputs::new().working_dir(folder.path()).warn_on_undeclared(true);
            let inputs = self.variables.iter().fold(inputs, |i, (name, value)| i.var(name, value));
            let names = self.files.iter().map(|(name, _)| name);
            names.filter(|n| n.ends_with(".pkrvars.hcl")).fold(inputs, |i, name| i.var_file(name))
        };
        let mut registry = Registry::new();
        packer_builders::register(&mut registry);
        packer_provisioners::register(&mut registry);
        packer_postproc::register(&mut registry);
        let template = match Template::load_for(".", &inputs()) {
            Ok(template) => template,
            Err(found) => return found,
        };
        match template.evaluate(&registry, inputs()).await {
            Ok(pipeline) => {
                let mut found = pipeline.notes.clone();
                found.append(Engine::new().prepare(&pipeline).await);
                found
            }
            Err(found) => found,
        }
    }
}

fn drawn(diagnostics: &Diagnostics) -> String {
    diagnostics.iter().fold(String::new(), |text, d| text + &snippet_layout(d, false) + "\n\n")
}

#[tokio::test]
async fn what_is_said_about_wrong_templates() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics.txt");
    let text = fs::read_to_string(&path).unwrap();
    let mut cases: Vec<Case> = text.split("=== ").skip(1).map(Case::read).collect();
    assert!(cases.len() > 30);
    let mut wrong = String::new();
    for case in &mut cases {
        let found = case.found().await;
        let drawn = drawn(&found);
        assert!(!drawn.contains("hunter2"), "{}:\n{drawn}", case.title);
        let json = serde_json::to_string(&found).unwrap();
        assert!(!json.contains("hunter2"), "{}:\n{json}", case.title);
        if drawn.trim_end() != case.expected.trim_end() {
            write!(wrong, "=== {}\n{drawn}\nand not\n{}", case.title, case.expected).unwrap();
        }
        case.expected = drawn;
    }
    if std::env::var_os("PACKER_BLESS").is_some() {
        fs::write(&path, cases.iter().map(Case::write).collect::<String>()).unwrap();
    } else {
        assert!(wrong.is_empty(), "{wrong}");
    }
}

/// What programs get.
#[tokio::test]
async fn each_is_data() {
    let text = "title\n-- t.pkr.hcl --\nvariable \"a\" {\n  defualt = 1\n}\n\nlocals {\n  x = [\n    nope,\n  ]\n}\n";
    let found = Case::read(text).found().await;
    let json = serde_json::to_value(&found).unwrap();
    let expected = serde_json::json!([{
        "severity": "error",
        "summary": "Unsupported argument",
        "detail": "An argument named \"defualt\" is not expected here.",
        "file": "t.pkr.hcl", "line": 2, "column": 3, "end_line": 2, "end_column": 10,
        "snippet": "  defualt = 1",
        "help": "did you mean \"default\"?",
        "suggestions": [{"text": "did you mean \"default\"?", "replacement": "default"}],
    }]);
    assert_eq!(json, expected);
    let unset = "title\n-- t.pkr.hcl --\nvariable \"a\" {}\nvariable \"b\" { type = bool }\n";
    let json = serde_json::to_value(Case::read(unset).found().await).unwrap();
    assert_eq!(json[0]["suggestions"][1]["text"], "-var 'b=true', or PKR_VAR_b in the environment");
    assert_eq!(
        (&json[0]["related"][0]["line"], &json[0]["related"][0]["file"]),
        (&2.into(), &"t.pkr.hcl".into())
    );
}
