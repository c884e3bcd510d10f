//! Input that no one means well with: a diagnostic soon, without much memory and without using up the stack.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use packer_core::diagnostic::Diagnostics;
use packer_core::language::functions::{FileKind, Files, Functions};
use packer_core::language::go_template::{Data, Interpolation, render_fixpoint};
use packer_core::language::syntax::{parse_expression, parse_json, parse_native, parse_template};
use packer_core::template::{Inputs, Template};
use packer_core::{Registry, SourceFile};

/// Far more than any of this takes, also unoptimised and on a busy machine.
const SOON: Duration = Duration::from_secs(120);

fn soon<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    assert!(began.elapsed() < SOON, "{what} took {:?}", began.elapsed());
    result
}

/// What is found in a template of one file; an empty list where nothing is.
fn found(text: &str) -> Diagnostics {
    found_with(text, Inputs::new())
}

fn found_with(text: &str, inputs: Inputs) -> Diagnostics {
    let template = match Template::from_texts([("t.pkr.hcl", text)]) {
        Ok(template) => template,
        Err(found) => return found,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(template.evaluate(&Registry::new(), inputs));
    result.err().unwrap_or_default()
}

/// What is found in the locals of a template, beside the missing build.
fn found_in_locals(locals: &str) -> Vec<String> {
    let all = found(&format!("locals {{\n{locals}\n}}\n"));
    all.iter().filter(|d| d.summary != "Missing build block").map(|d| d.to_string()).collect()
}

fn refused(what: &str, text: &str, expected: &str) {
    let told = soon(what, || found_in_locals(text));
    assert!(told.iter().any(|d| d.contains(expected)), "{what}: no {expected:?} in {told:?}");
}

#[test]
fn deep_nesting() {
    const DEEP: usize = 50_000;
    for (open, middle, close) in [
        ("[", "1", "]"),
        ("(", "1", ")"),
        ("{ a = ", "1", " }"),
        ("!", "true", ""),
        ("-", "1", ""),
        ("f(", "1", ")"),
        ("a[", "0", "]"),
        ("\"${", "1", "}\""),
        ("true ? (", "1", ") : 1"),
        ("[for x in ", "y", " : x]"),
        ("x[*].y[", "0", "]"),
        ("<<E\n${", "1", "}\nE\n"),
    ] {
        for closed in [true, false] {
            let end = if closed { close.repeat(DEEP) } else { String::new() };
            let text = format!("{}{middle}{end}", open.repeat(DEEP));
            soon(open, || {
                let (_, found) = parse_expression(&SourceFile::new("t", text.as_str()));
                assert!(found.has_errors() || open == "!", "{open}");
                assert!(parse_native(&SourceFile::new("t", format!("a = {text}\n"))).1.has_errors());
            });
        }
    }
    for text in ["b {\n".repeat(DEEP), "%{ if true }".repeat(DEEP), "${\"".repeat(DEEP)] {
        soon("blocks and directives", || {
            assert!(parse_native(&SourceFile::new("t", text.as_str())).1.has_errors());
            parse_template(&SourceFile::new("t", text.as_str()));
        });
    }
    for text in
        ["[".repeat(DEEP), "{\"a\":".repeat(DEEP), format!("{}1{}", "[".repeat(DEEP), "]".repeat(DEEP))]
    {
        soon("JSON", || assert!(parse_json(&SourceFile::new("t.json", text.as_str())).1.has_errors()));
        refused("jsondecode", &format!("x = jsondecode({text:?})"), "nested too deeply");
        refused("yamldecode", &format!("x = yamldecode({text:?})"), "Error in function call");
    }
    let types =
        format!("variable \"a\" {{\n type = {}string{}\n}}\n", "list(".repeat(DEEP), ")".repeat(DEEP));
    assert!(soon("types", || found(&types)).has_errors());
    for text in
        ["{{if true}}".repeat(DEEP), format!("{{{{ {}1", "(".repeat(DEEP)), "{{define `a`}}".repeat(DEEP)]
    {
        soon("go template", || {
            render_fixpoint(&text, &Data::map::<&str, &str>([]), &Interpolation::default()).unwrap_err()
        });
    }
}

#[test]
fn huge_numbers() {
    for text in ["1e999999999999", "1e-999999999999", "1e99999 * 1e99999", "-1e200000 / 1e-200000"] {
        soon(text, || {
            found_in_locals(&format!("a = {text}\nb = \"${{local.a}}\"\nc = jsonencode([local.a])"))
        });
    }
    let digits = "9".repeat(1_000_000);
    soon("digits", || found_in_locals(&format!("a = {digits} + 0.{digits}\nb = \"{digits}\" + 1")));
    for (text, expected) in [
        ("x = range(0, 1e18)", "Error in function call"),
        ("x = indent(1e12, \"a\\nb\")", "Error in function call"),
        ("x = format(\"%999999999d\", 1)", "too large"),
        ("x = [1, 2][1e30]", "Invalid index"),
        ("x = [1, 2][0.5]", "Invalid index"),
        ("x = cidrhost(\"10.0.0.0/8\", 1e30)", "whole number"),
        ("x = jsonencode(1 / 0)", "Error in function call"),
        ("x = 1.2.3", "Invalid number literal"),
    ] {
        refused(text, text, expected);
    }
    // So many large numbers that their text would be too long.
    let many =
        "a = [for i in range(1024): 1e78000]\nb = [for i in range(1024): local.a]\nc = jsonencode(local.b)";
    refused("many large numbers", many, "Value too large");
}

#[test]
fn circles() {
    let mut chain = String::from("c0 = local.c19999\n");
    for i in 1..20_000 {
        chain.push_str(&format!("c{i} = local.c{}\n", i - 1));
    }
    refused("a long circle", &chain, "in a circle");
    refused("itself", "a = local.a", "refers to itself");
    refused("in a branch not taken", "a = false ? local.b : 1\nb = local.a", "in a circle");
}

#[test]
fn what_is_no_unicode() {
    let folder = tempfile::tempdir().unwrap();
    let bad = b"locals {\n  a = \"\xff\xfe\"\n}\n";
    let cases: [(&str, &[u8]); 3] =
        [("a.pkr.hcl", bad), ("a.pkr.json", b"{\"locals\": {\"a\": \"\xff\"}}"), ("a.auto.pkrvars.hcl", bad)];
    for (name, text) in cases {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("main.pkr.hcl"), "").unwrap();
        fs::write(folder.path().join(name), text).unwrap();
        let found = Template::load_for(".", &Inputs::new().working_dir(folder.path())).unwrap_err();
        let first = found.iter().next().unwrap();
        assert_eq!(first.summary, "Invalid character encoding", "{name}");
        assert!(first.location.as_ref().unwrap().file().ends_with(name));
    }
    fs::write(folder.path().join("x"), bad).unwrap();
    let text = "locals {\n  a = file(\"x\")\n  b = templatefile(\"x\", {})\n}\n";
    let found = found_with(text, Inputs::new().working_dir(folder.path()));
    assert_eq!(found.iter().filter(|d| d.detail.contains("UTF-8")).count(), 2, "{found}");
}

/// A text with about everything in it.
const EVERYTHING: &str = "# c\n/* d */ variable \"a\" {\n  type = list(object({ x = optional(string, \"d\") }))\n  default = [{ x = \"q\\u00e9$${}${upper(\"y\")}%{ if true ~}t%{ else }e%{ endif }\" }]\n}\nlocals {\n  b = <<-EOT\n    l ${1 + 2 * -3} %{ for k, v in {a = 1} }${k}%{ endfor }\n  EOT\n  c = [for i, x in [1, 2] : x if x > 1 && !false][*].y[0].z...\n  d = true ? {(\"k\") : null} : {for x in [1] : x => x...}\n}\nsource \"n\" \"a\" { x = 1 }\n";

#[test]
fn everything_left_open() {
    let json = r#"{"variable": {"a": {"default": ["${upper(\"x\")}", 1.5e3, true, null, {"k": "\u00e9\n"}]}}, "//": 1}"#;
    let go = "a {{ if eq (printf `%d` 1) \"1\" }}{{ range $i, $x := .l }}{{ $x | upper }}{{ else }}{{/* c */}}{{ end }}{{ end }}";
    soon("every beginning", || {
        for end in (0..EVERYTHING.len()).filter(|i| EVERYTHING.is_char_boundary(*i)) {
            let (text, rest) = EVERYTHING.split_at(end);
            for text in [text, rest] {
                let source = SourceFile::new("t", text);
                for (_, found) in [parse_expression(&source), parse_template(&source)] {
                    found.iter().for_each(|d| drop(d.to_string()));
                }
                parse_native(&source).1.iter().for_each(|d| drop(d.to_string()));
            }
        }
        for end in 1..json.len() {
            assert!(parse_json(&SourceFile::new("t.json", &json[..end])).1.has_errors(), "{}", &json[..end]);
        }
        for end in 0..go.len() {
            drop(render_fixpoint(&go[..end], &Data::map::<&str, &str>([]), &Interpolation::default()));
        }
    });
    for text in ["\"", "\"${", "<<E\n", "(", "[", "{", "f(", "/*", "a ? b", "[for", "\"%{ if x }", "a."] {
        assert!(parse_expression(&SourceFile::new("t", text)).1.has_errors(), "{text}");
        assert!(parse_native(&SourceFile::new("t", format!("a = {text}"))).1.has_errors(), "{text}");
    }
}

#[test]
fn large_files() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = || Inputs::new().working_dir(folder.path());
    let large = folder.path().join("large.pkr.hcl");
    fs::File::create(&large).unwrap().set_len(100 << 20).unwrap();
    let refused = soon("100 MB", || Template::load_for("large.pkr.hcl", &inputs()).unwrap_err());
    assert!(refused.to_string().contains("larger than 64 MiB"), "{refused}");
    let text = "locals {\n  a = file(\"large.pkr.hcl\")\n  b = filebase64(\"large.pkr.hcl\")\n}\n";
    let refused = soon("100 MB in a function", || found_with(text, inputs()));
    assert_eq!(refused.to_string().matches("larger than 64 MiB").count(), 2, "{refused}");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("endless.pkr.hcl")).unwrap();
        let refused = soon("endless", || Template::load_for("endless.pkr.hcl", &inputs()).unwrap_err());
        assert!(refused.to_string().contains("larger than 64 MiB"), "{refused}");
    }
    // Large, and wrong all over: told are the first mistakes.
    for piece in ["= ", "a = \"\n", "x y\n", "}\n", "'", "a = 1 1\n", "${", "\"", "<<E\n"] {
        let text = piece.repeat((2 << 20) / piece.len());
        let (_, found) = soon(piece, || parse_native(&SourceFile::new("t", text)));
        assert!(found.has_errors() && found.len() <= 101, "{piece}: {}", found.len());
    }
}

#[cfg(unix)]
#[test]
fn pipes_that_no_one_writes_to() {
    use std::os::fd::AsRawFd;
    let folder = tempfile::tempdir().unwrap();
    let inputs = || Inputs::new().working_dir(folder.path());
    let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
    assert!(made.success());
    let text =
        "locals {\n  a = file(\"pipe\")\n  b = filebase64(\"pipe\")\n  c = templatefile(\"pipe\", {})\n}\n";
    let found = soon("functions", || found_with(text, inputs()));
    assert_eq!(found.to_string().matches("a named pipe").count(), 3, "{found}");
    for name in ["b.pkr.hcl", "b.pkr.json", "b.auto.pkrvars.hcl"] {
        fs::write(folder.path().join("a.pkr.hcl"), "").unwrap();
        fs::rename(folder.path().join("pipe"), folder.path().join(name)).unwrap();
        let found = soon(name, || Template::load_for(".", &inputs()).unwrap_err());
        assert!(found.to_string().contains("a named pipe"), "{name}: {found}");
        fs::rename(folder.path().join(name), folder.path().join("pipe")).unwrap();
    }
    // As a shell gives them for `<(command)`: these have an end.
    let pipe = |text: &str| {
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, text.as_bytes()).unwrap();
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        (reader, path)
    };
    let (_vars, vars_path) = pipe("a = \"from a pipe\"\n");
    std::os::unix::fs::symlink(vars_path, folder.path().join("link.pkrvars.hcl")).unwrap();
    let (_other, other_path) = pipe("the same");
    let text = format!(
        "variable \"a\" {{}}\nlocals {{\n  b = substr(\"\", 0, var.a == \"from a pipe\" ? 0 : \"no\")\n  c = substr(\"\", 0, file(\"{other_path}\") == \"the same\" ? 0 : \"no\")\n}}\n"
    );
    let found = found_with(&text, inputs().var_file("link.pkrvars.hcl"));
    assert!(found.iter().all(|d| d.summary == "Missing build block"), "{found}");
    // And one that was given by its own path.
    let path = folder.path().join("pipe.pkrvars.hcl");
    fs::rename(folder.path().join("pipe"), &path).unwrap();
    let writer = std::thread::spawn(move || fs::write(path, "a = \"from a pipe\"\n").unwrap());
    let found = found_with("variable \"a\" {}\n", inputs().var_file("pipe.pkrvars.hcl"));
    writer.join().unwrap();
    assert!(found.iter().all(|d| d.summary == "Missing build block"), "{found}");
}

#[cfg(unix)]
#[test]
fn links_in_circles() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    symlink("self.pkr.hcl", folder.path().join("self.pkr.hcl")).unwrap();
    let found = Template::load_for(".", &Inputs::new().working_dir(folder.path())).unwrap_err();
    assert!(found.iter().any(|d| d.summary == "Failed to read file"), "{found}");
    // From each of many folders links to all of them: the ways through are more than can be counted.
    let folder = tempfile::tempdir().unwrap();
    for i in 0..12 {
        fs::create_dir(folder.path().join(format!("d{i}"))).unwrap();
        fs::write(folder.path().join(format!("d{i}/f")), "").unwrap();
    }
    for (i, k) in (0..12).flat_map(|i| (0..12).map(move |k| (i, k))) {
        symlink(folder.path().join(format!("d{k}")), folder.path().join(format!("d{i}/to{k}"))).unwrap();
    }
    let text = "locals {\n  a = fileset(\".\", \"**\")\n}\n";
    let found = soon("links", || found_with(text, Inputs::new().working_dir(folder.path())));
    assert!(found.to_string().contains("names to look at"), "{found}");
}

/// A tree without an end: a hundred folders in each folder.
#[derive(Debug, Default)]
struct Endless(AtomicUsize);

impl Files for Endless {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn kind(&self, _: &Path) -> io::Result<FileKind> {
        Ok(FileKind::Directory)
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        let so_far = self.0.fetch_add(100, Ordering::Relaxed);
        assert!(so_far < 10_000_000, "the search does not end");
        Ok((0..100).map(|i| i.to_string()).collect())
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }
}

#[test]
fn a_tree_without_an_end() {
    for pattern in ["**", "**/x", "**/**/{a,b}/**"] {
        let text = format!("locals {{\n  a = fileset(\"/\", \"{pattern}\")\n}}\n");
        let found = soon(pattern, || found_with(&text, Inputs::new().files(Endless::default())));
        assert!(found.to_string().contains("names to look at"), "{pattern}: {found}");
    }
}

#[test]
fn yaml_bombs() {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for i in 1..12 {
        let last = i - 1;
        laughs.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{last}"); 9].join(", ")));
    }
    refused("laughs", &format!("x = yamldecode({laughs:?})"), "Error in function call");
    let merges = "a: &a {b: 1}\nc: &c {<<: *a, d: *a}\ne: {<<: *c, f: *c}\n";
    assert!(found_in_locals(&format!("x = yamldecode({merges:?})")).is_empty());
    refused("itself", "x = yamldecode(\"a: &a [*a]\")", "Error in function call");
    let wide = "- &a x\n".to_owned() + &"- *a\n".repeat(1_100_000);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wide.yaml"), wide).unwrap();
    let text = "locals {\n  x = yamldecode(file(\"wide.yaml\"))\n}\n";
    let found = soon("wide", || found_with(text, Inputs::new().working_dir(folder.path())));
    assert!(found.to_string().contains("yamldecode"), "{found}");
}

#[test]
fn values_that_grow_and_grow() {
    let doubling = |first: &str, next: &dyn Fn(usize) -> String| {
        (1..60).fold(format!("v0 = {first}\n"), |text, i| text + &format!("v{i} = {}\n", next(i - 1)))
    };
    for (what, text) in [
        ("tuples", doubling("[1]", &|i| format!("[local.v{i}, local.v{i}]"))),
        ("objects", doubling("{}", &|i| format!("{{ a = local.v{i}, b = local.v{i} }}"))),
        ("strings", doubling("\"xxxxxxxx\"", &|i| format!("\"${{local.v{i}}}${{local.v{i}}}\""))),
        ("loops", doubling("[1]", &|i| format!("[for x in [1, 2, 3, 4] : local.v{i}]"))),
        ("splats", doubling("[1]", &|i| format!("[1, 2][*] == 1 ? [] : [local.v{i}, local.v{i}]"))),
    ] {
        refused(what, &text, "Value too large");
    }
    for (what, text) in [
        ("replace", doubling("\"xxxxxxxx\"", &|i| format!("replace(local.v{i}, \"x\", local.v{i})"))),
        ("join", doubling("\"xxxxxxxx\"", &|i| format!("join(local.v{i}, split(\"\", local.v{i}))"))),
        (
            "regex_replace",
            doubling("\"xxxxxxxx\"", &|i| format!("regex_replace(local.v{i}, \"^x\", local.v{i})")),
        ),
        (
            "format",
            doubling("\"xxxxxxxx\"", &|i| format!("format(\"%s%s%s\", local.v{i}, local.v{i}, local.v{i})")),
        ),
        ("concat", doubling("[1, 2, 3]", &|i| format!("concat(local.v{i}, local.v{i}, local.v{i})"))),
    ] {
        let told = soon(what, || found_in_locals(&text));
        let bounded = |d: &String| d.contains("would have more than") || d.contains("have more than");
        assert!(told.iter().any(bounded), "{what}: {told:?}");
    }
    let product = "a = range(1024)\nb = setproduct(local.a, local.a, local.a)";
    refused("setproduct", product, "would have more than");
}

#[test]
fn loops_in_loops() {
    let loops = "a = range(1024)\nb = length([for x in local.a : length([for y in local.a : length([for z in local.a : 1])])])";
    refused("loops in loops", loops, "Too many steps");
    let text = "a = range(1024)\nb = \"%{ for x in local.a }%{ for y in local.a }%{ for z in local.a }%{ endfor }%{ endfor }%{ endfor }\"";
    refused("directives in directives", text, "Too many steps");
}

#[test]
fn functions_are_all_bounded_by_their_arguments() {
    // A function that a host adds is bounded too.
    use packer_core::language::functions::{Function, Param};
    use packer_core::value::{Type, Value};
    let grow = Function::new([Param::string("s")], Type::String, |_, _| {
        Ok(Value::from("x".repeat(Value::MAX_SIZE + 1)))
    });
    let inputs = Inputs::new().functions(Functions::standard().with("grow", grow));
    let found = found_with("locals {\n  a = grow(\"\")\n}\n", inputs);
    assert!(found.to_string().contains("Value too large"), "{found}");
}
