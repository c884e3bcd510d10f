//! The recorded expressions of `conformance/hcl-expressions`: what HashiCorp's own library makes of each, as JSON,
//! or that it refuses it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use packer_core::SourceFile;
use packer_core::diagnostic::Diagnostics;
use packer_core::language::eval::Scope;
use packer_core::language::functions::{Capabilities, Functions};
use packer_core::language::syntax::{Attribute, parse_native};
use packer_core::value::Value;

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    src: String,
}

#[derive(serde::Deserialize)]
struct Expected {
    name: String,
    out: String,
}

fn lines<T: serde::de::DeserializeOwned>(name: &str) -> Vec<T> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/hcl-expressions");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The attributes of a text; the blocks of some cases do not matter.
fn attributes(source: &Arc<SourceFile>) -> Result<Vec<Attribute>, Diagnostics> {
    let (file, diagnostics) = parse_native(source);
    let attributes = file.body.attributes(&mut Diagnostics::new());
    diagnostics.into_result(attributes)
}

/// The scope of the cases: the variables of vars.hcl and every function.
fn scope() -> Scope {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/hcl-expressions");
    let text = std::fs::read_to_string(folder.join("vars.hcl")).unwrap();
    let mut diagnostics = Diagnostics::new();
    let variables: Vec<(Arc<str>, Value)> = attributes(&SourceFile::new("vars.hcl", text))
        .unwrap()
        .iter()
        .map(|a| (a.name.text.clone(), a.evaluate(&Scope::constant(), &mut diagnostics)))
        .collect();
    assert!(diagnostics.is_empty(), "{diagnostics}");
    Scope::new().with_functions(Functions::standard(), Capabilities::none()).with_variables(variables)
}

/// The value of `x` as JSON, or what is wrong.
fn run(text: &str, scope: &Scope) -> Result<String, String> {
    let source = SourceFile::new("t.hcl", text);
    let attributes = attributes(&source).map_err(|d| d.to_string())?;
    let x = attributes.iter().find(|a| a.name.as_str() == "x").ok_or("no x")?;
    let mut diagnostics = Diagnostics::new();
    let value = x.evaluate(scope, &mut diagnostics);
    diagnostics.into_result(()).map_err(|d| d.to_string())?;
    value.to_json_string().map_err(|e| e.to_string())
}

#[test]
fn expressions_have_the_recorded_values() {
    let expected: BTreeMap<String, String> =
        lines::<Expected>("expected.jsonl").into_iter().map(|e| (e.name, e.out)).collect();
    let scope = scope();
    let cases = lines::<Case>("cases.jsonl");
    let mut mismatches = Vec::new();
    for case in &cases {
        let expected = &expected[&case.name];
        let actual = run(&case.src, &scope);
        let same = match (&actual, expected.starts_with("ERR")) {
            (Ok(value), false) => value == expected,
            (Err(_), true) => true,
            _ => false,
        };
        if !same {
            mismatches.push(format!("{}: {}\n  expected {expected}\n  got {actual:?}", case.name, case.src));
        }
    }
    println!("{} of {} match", cases.len() - mismatches.len(), cases.len());
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
}
