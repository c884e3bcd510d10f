//! The recorded expressions of `conformance/console*`: what `packer console` prints for each over the set's
//! `base.pkr.hcl`, or that it reports an error.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::collections::HashMap;
use std::path::Path;

use packer_core::context::Host;
use packer_core::template::{Console, Inputs, Template};
use packer_core::{Context, DataSource, Diagnostics, Registry, Result, Type, Value, async_trait};

/// Cases that are answered differently on purpose.
const DIFFERENT: &[(&str, &str)] =
    &[("length-devanagari", "segmentation by the current Unicode standard (Packer: Unicode 13)")];

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    expr: String,
    #[serde(default)]
    args: Vec<String>,
    /// Without it an error is expected.
    out: Option<String>,
}

/// The data source `null`, which lives in another crate.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Null {
    #[serde(default)]
    input: String,
}

#[async_trait]
impl DataSource for Null {
    fn output_type(&self) -> Type {
        Type::object([("output", Type::String)])
    }

    async fn read(&self, _: &Context) -> Result<Value> {
        Ok(Value::object([("output", Value::text(&self.input))]))
    }
}

#[test]
fn the_console_prints_what_was_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let mut sets: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    sets.retain(|set| set.join("base.pkr.hcl").exists());
    sets.sort();
    assert_eq!(sets.len(), 11);
    let mut mismatches = Vec::new();
    for set in sets {
        let (count, wrong) = run_set(&set);
        let name = set.file_name().unwrap().display().to_string();
        println!("{name}: {} of {count} match", count - wrong.len());
        mismatches.extend(wrong.into_iter().map(|m| format!("{name}#{m}")));
    }
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
}

/// How many cases a set has, and what is wrong with those that do not match.
fn run_set(set: &Path) -> (usize, Vec<String>) {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().canonicalize().unwrap();
    copy(set, &root);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut consoles: HashMap<Vec<String>, std::result::Result<Console, Diagnostics>> = HashMap::new();
    let (mut count, mut mismatches) = (0, Vec::new());
    for line in std::fs::read_to_string(set.join("cases.jsonl")).unwrap().lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let needs_crypto = ["bcrypt", "rsadecrypt"].iter().any(|f| case.expr.contains(f));
        if DIFFERENT.iter().any(|(name, _)| *name == case.name)
            || needs_crypto && !cfg!(feature = "functions-crypto")
        {
            continue;
        }
        count += 1;
        let console =
            consoles.entry(case.args.clone()).or_insert_with(|| runtime.block_on(open(&root, &case.args)));
        let actual = match console {
            Ok(console) => answer(console, &case.expr),
            Err(diagnostics) => Err(diagnostics.to_string()),
        };
        // As the recorder leaves the ends of lines out, and where it ran.
        let actual = actual.map(|text| {
            let text = text.replace("\r\n", "\n").replace(root.to_str().unwrap(), "<TMP>");
            let lines: Vec<&str> = text.split('\n').map(str::trim_end).collect();
            lines.join("\n").trim_matches('\n').to_owned()
        });
        let same = match (&actual, &case.out) {
            (Ok(actual), Some(expected)) => actual == expected,
            (Err(_), None) => true,
            _ => false,
        };
        if !same {
            let expected = case.out.as_deref().unwrap_or("an error");
            mismatches.push(format!(
                "{}: {} {}\n  expected {expected:?}\n  got      {actual:?}",
                case.name,
                case.args.join(" "),
                case.expr
            ));
        }
    }
    (count, mismatches)
}

/// Copies a folder; a file NAME.hex stands for the file NAME.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.extension().is_some_and(|e| e == "hex") {
            let text = std::fs::read_to_string(&path).unwrap();
            let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
            let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
            std::fs::write(target.with_extension(""), digits.chunks(2).map(byte).collect::<Vec<_>>())
                .unwrap();
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// The console of `packer console ARGS base.pkr.hcl`, run in the folder, which is also the home folder.
async fn open(root: &Path, args: &[String]) -> std::result::Result<Console, Diagnostics> {
    let mut registry = Registry::new();
    registry.data_source::<Null>("null");
    let mut host = Host::new();
    host.env.insert("HOME".to_owned(), root.to_str().unwrap().to_owned());
    let mut inputs = Inputs::new().working_dir(root).host(host);
    let mut args = args.iter().map(|arg| arg.trim_start_matches('-'));
    while let Some(arg) = args.next() {
        let (flag, value) = match arg.split_once('=') {
            Some((flag, value)) => (flag, value),
            None => (arg, args.next().unwrap()),
        };
        inputs = match flag {
            "var-file" => inputs.var_file(value),
            "var" => {
                let (name, text) = value.split_once('=').unwrap();
                inputs.var(name, text)
            }
            other => panic!("unknown flag {other}"),
        };
    }
    Template::load_for("base.pkr.hcl", &inputs)?.console(&registry, inputs).await
}

/// What is printed for the lines of the standard input: the result of the last one.
fn answer(console: &Console, lines: &str) -> std::result::Result<String, String> {
    let mut printed = String::new();
    for line in lines.lines().map(str::trim) {
        printed = match line {
            "exit" | "" => continue,
            "variables" => console.inspection().values(),
            expression => console.answer(expression).map_err(|d| d.to_string())?,
        };
    }
    Ok(printed)
}
