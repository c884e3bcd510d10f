//! What components declare secret is in no output of the program and in no file that it leaves, whatever it came from.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use packer_core::Registry;
use packer_core::config::{FieldKind, Kind, Schema};
use packer_core::value::Type;

/// Where nobody listens.
const NOBODY: &str = "127.0.0.1:1";

/// Secrets, each another text.
#[derive(Default)]
struct Secrets {
    made: Vec<String>,
    /// Given as values of variables instead of as they are.
    by_variable: bool,
}

impl Secrets {
    /// A new one as an expression.
    fn next(&mut self) -> String {
        let secret = format!("Zq{}xGeheim", self.made.len());
        self.made.push(secret);
        match self.by_variable {
            true => format!("var.v{}", self.made.len() - 1),
            false => format!("{:?}", self.made[self.made.len() - 1]),
        }
    }

    /// The blocks of the variables.
    fn variables(&self) -> String {
        let variable = |i: usize| format!("variable \"v{i}\" {{\n  type = string\n}}\n");
        (0..if self.by_variable { self.made.len() } else { 0 }).map(variable).collect()
    }
}

/// Every field of a schema that is declared secret, also in its blocks, set to a secret.
fn body(schema: &Schema, secrets: &mut Secrets) -> String {
    let mut body = String::new();
    for (name, field) in &schema.fields {
        match &field.kind {
            FieldKind::Attribute(kind) if field.secret => {
                body.push_str(&format!("  {name} = {}\n", value(name, kind, secrets)));
            }
            FieldKind::Block(inner) | FieldKind::Blocks(inner) => {
                let inner = self::body(inner, secrets);
                if !inner.is_empty() {
                    body.push_str(&format!("  {name} {{\n{inner}  }}\n"));
                }
            }
            FieldKind::Attribute(_) => {}
            other => panic!("{name}: {other:?}"),
        }
    }
    body
}

fn value(name: &str, kind: &Kind, secrets: &mut Secrets) -> String {
    match kind {
        Kind::Plain(Type::String | Type::Dynamic) => secrets.next(),
        Kind::List(element) => {
            format!("[{}, {}]", value(name, element, secrets), value(name, element, secrets))
        }
        Kind::Map(element) => format!("{{ one = {} }}", value(name, element, secrets)),
        other => panic!("{name}: no secret of the kind {other:?} is known here"),
    }
}

/// What a component needs besides, so that it can be prepared.
fn besides(kind: &str) -> String {
    match kind {
        "null" => "  communicator         = \"ssh\"\n  ssh_host             = \"127.0.0.1\"\n  ssh_port             = 1\n  \
             ssh_username         = \"u\"\n  ssh_timeout          = \"1s\"\n  ssh_bastion_host     = \"127.0.0.1\"\n  \
             ssh_bastion_port     = 1\n  ssh_bastion_username = \"u\"\n".to_owned(),
        "docker" => format!(
            "  image = \"{NOBODY}/x/y\"\n  commit = true\n  login = true\n  login_server = \"{NOBODY}\"\n  \
             login_username = \"u\"\n"
        ),
        "docker-push" => "  login = true\n  login_username = \"u\"\n".into(),
        _ => String::new(),
    }
}

/// Templates that set every secret of every component, under what they show.
fn templates(registry: &Registry, by_variable: bool) -> Vec<(String, String, Vec<String>)> {
    let mut templates = Vec::new();
    let null = "source \"null\" \"plain\" {\n  communicator = \"none\"\n}\n";
    let mut add = |what: String, schema: &Schema, around: &dyn Fn(String) -> String| {
        let mut secrets = Secrets { by_variable, ..Secrets::default() };
        let body = body(schema, &mut secrets);
        if !body.is_empty() {
            templates.push((what, secrets.variables() + &around(body), secrets.made));
        }
    };
    for kind in registry.builders() {
        let schema = &registry.get_builder(kind).unwrap().schema;
        add(format!("builder {kind}"), schema, &|body| {
            format!(
                "source \"{kind}\" \"x\" {{\n{}{body}}}\nbuild {{\n  sources = [\"{kind}.x\"]\n}}\n",
                besides(kind)
            )
        });
    }
    for kind in registry.provisioners() {
        let schema = &registry.get_provisioner(kind).unwrap().schema;
        add(format!("provisioner {kind}"), schema, &|body| {
            let besides = besides(kind);
            format!(
                "{null}build {{\n  sources = [\"null.plain\"]\n  provisioner \"{kind}\" {{\n{besides}{body}  }}\n}}\n"
            )
        });
    }
    for kind in registry.post_processors() {
        let schema = &registry.get_post_processor(kind).unwrap().schema;
        add(format!("post-processor {kind}"), schema, &|body| {
            let besides = besides(kind);
            format!(
                "{null}build {{\n  sources = [\"null.plain\"]\n  post-processor \"{kind}\" {{\n{besides}{body}  }}\n}}\n"
            )
        });
    }
    for kind in registry.data_sources() {
        let schema = &registry.get_data_source(kind).unwrap().schema;
        add(format!("data source {kind}"), schema, &|body| {
            let besides = besides(kind);
            format!(
                "data \"{kind}\" \"x\" {{\n{besides}{body}}}\n{null}build {{\n  sources = [\"null.plain\"]\n}}\n"
            )
        });
    }
    templates
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    packer_provisioners::register(&mut registry);
    packer_postproc::register(&mut registry);
    registry
}

/// All that a command prints, and its exit code.
fn packer(folder: &Path, arguments: &[&str], env: &BTreeMap<String, String>, stdin: &str) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_packer"))
        .args(arguments)
        .current_dir(folder)
        .env("HOME", folder)
        .env("PACKER_CACHE_DIR", folder.join("cache"))
        .env("TMPDIR", folder)
        .env("DOCKER_HOST", format!("tcp://{NOBODY}"))
        .envs(env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that wants no input may have ended by then.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code().unwrap_or(-1), text.concat())
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Says which secret is in a text.
fn search(text: &str, secrets: &[impl AsRef<str>], whence: &str) {
    for secret in secrets {
        assert!(!text.contains(secret.as_ref()), "{} is shown by {whence}:\n{text}", secret.as_ref());
    }
}

/// Runs every command that shows something of a template, and searches what they print and leave.
fn show_all(
    folder: &Path,
    what: &str,
    secrets: &[String],
    env: &BTreeMap<String, String>,
    inspect: bool,
) -> String {
    let timeline = folder.join("timeline.html");
    let log = BTreeMap::from([("PACKER_LOG".to_owned(), "1".to_owned())]);
    let with_log: BTreeMap<String, String> =
        env.iter().chain(&log).map(|(k, v)| (k.clone(), v.clone())).collect();
    let timeline = format!("-timeline={}", timeline.display());
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["validate", "."],
        vec!["validate", "-json", "."],
        vec!["plan", "-json", "."],
        vec!["plan", "."],
        vec!["build", "-color=false", "-cache", &timeline, "."],
        vec!["build", "-json", "-cache", "."],
        vec!["build", "-machine-readable", "."],
    ];
    if inspect {
        commands.extend([
            vec!["inspect", "."],
            vec!["inspect", "-machine-readable", "."],
            vec!["console", "."],
        ]);
    }
    let mut plan = String::new();
    for command in commands {
        let (_, text) = packer(folder, &command, &with_log, "[1, nothing.here]\nvariables\nupper(1, 2)\n");
        search(&text, secrets, &format!("{what}: {}", command.join(" ")));
        if command == ["plan", "."] {
            plan = text;
        }
    }
    for file in files_below(folder) {
        if file.extension().is_some_and(|e| e == "hcl") {
            continue;
        }
        let content = fs::read(&file).unwrap();
        search(&String::from_utf8_lossy(&content), secrets, &format!("{what}: {}", file.display()));
    }
    plan
}

#[test]
fn what_any_component_declares_secret_is_shown_nowhere() {
    let registry = registry();
    let mut shown = Vec::new();
    for by_variable in [false, true] {
        for (what, template, secrets) in templates(&registry, by_variable) {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("t.pkr.hcl"), &template).unwrap();
            let variables = secrets.iter().enumerate();
            let env = match by_variable {
                true => variables.map(|(i, text)| (format!("PKR_VAR_v{i}"), text.clone())).collect(),
                false => BTreeMap::new(),
            };
            // What is said of a variable that nobody called sensitive is in clear where components are not looked at.
            let plan = show_all(folder.path(), &what, &secrets, &env, !by_variable);
            shown.push((what, plan.matches("\"<sensitive>\"").count(), secrets.len()));
        }
    }
    // Those that can be prepared are planned, with each of their secrets hidden.
    for kind in ["builder null", "builder docker", "post-processor docker-push"] {
        let all: Vec<_> = shown.iter().filter(|(what, ..)| what == kind).collect();
        assert_eq!(all.len(), 2, "{shown:?}");
        assert!(all.iter().all(|(_, hidden, secrets)| hidden >= secrets && *secrets > 0), "{shown:?}");
    }
}

/// A template with one step that prints.
fn printing(variables: &str, step: &str) -> String {
    format!(
        "{variables}\nsource \"null\" \"n\" {{\n  communicator = \"none\"\n}}\nbuild {{\n  sources = [\"null.n\"]\n  \
         provisioner \"shell-local\" {{\n{step}\n  }}\n}}\n"
    )
}

fn text_of(folder: &Path, arguments: &[&str]) -> String {
    packer(folder, arguments, &BTreeMap::new(), "").1
}

#[test]
fn what_was_made_of_a_secret_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let template = printing(
        r#"
variable "token" {
  type      = string
  sensitive = true
  default   = "S3cr3tStr"
}
variable "pin" {
  type      = number
  sensitive = true
  default   = 918273645
}
"#,
        r#"
    env    = { A = base64encode(var.token), B = upper(var.token), C = var.pin }
    inline = ["echo a $A b $B c $C"]
"#,
    );
    fs::write(folder.path().join("t.pkr.hcl"), template).unwrap();
    let secrets = ["S3cr3tStr", "UzNjcjN0U3Ry", "S3CR3TSTR", "918273645"];
    for command in [
        &["build", "-color=false", "."] as &[&str],
        &["build", "-json", "."],
        &["build", "-machine-readable", "."],
        &["plan", "."],
        &["inspect", "."],
    ] {
        let text = text_of(folder.path(), command);
        search(&text, &secrets, &command.join(" "));
        assert!(text.contains("<sensitive>"), "{text}");
    }
    let text = text_of(folder.path(), &["build", "-color=false", "."]);
    assert!(text.contains("==> null.n: a <sensitive> b <sensitive> c <sensitive>\n"), "{text}");
}

#[test]
fn a_short_secret_leaves_words_and_keys_as_they_are() {
    for secret in ["a", "true", "on", "e"] {
        let folder = tempfile::tempdir().unwrap();
        let variables = format!("variable \"s\" {{\n  sensitive = true\n  default   = {secret:?}\n}}\n");
        let template =
            printing(&variables, "    env    = { S = var.s }\n    inline = [\"echo got $S here\"]\n");
        fs::write(folder.path().join("t.pkr.hcl"), template).unwrap();
        let text = text_of(folder.path(), &["build", "-color=false", "."]);
        assert!(text.contains("==> null.n: Running local shell script: "), "{text}");
        assert!(text.contains("Did not export anything. This is the null builder"), "{text}");
        let shown = format!("==> null.n: {}\n", format!("got {secret} here").replace(secret, "<sensitive>"));
        assert!(text.contains(&shown), "{text}");
        let warning = "Warning: A secret is too short to be told apart";
        assert_eq!(text.matches(warning).count(), 1, "{text}");

        let text = text_of(folder.path(), &["build", "-json", "."]);
        let mut events = 0;
        for line in text.lines().filter(|line| !line.is_empty()) {
            let event: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(event["time"].is_string() && event["event"].is_string(), "{line}");
            events += 1;
        }
        assert!(events > 5 && text.contains("\"event\":\"output\""), "{text}");
        let text = text_of(folder.path(), &["plan", "."]);
        assert!(text.contains("env = {\"S\":\"<sensitive>\"}"), "{text}");
        assert!(text.contains("starts from its source with null"), "{text}");
        assert_eq!(text.matches(warning).count(), 1, "{text}");
        let text = text_of(folder.path(), &["inspect", "."]);
        assert!(text.contains("> input-variables:\n\nvar.s: \"<sensitive>\"\n"), "{text}");
    }
}

#[test]
fn a_mistake_beside_a_password_shows_no_password() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.pkr.hcl");
    let source = |line: &str| {
        format!(
            "source \"null\" \"n\" {{\n  communicator = \"ssh\"\n  ssh_host = \"h\"\n  {line}\n}}\nbuild {{\n  \
             sources = [\"null.n\"]\n}}\n"
        )
    };
    for line in [
        "ssh_password = [\"Zq1xGeheim\"]",
        "ssh_password = \"Zq1xGeheim\"\n  ssh_prot = \"Zq1xGeheim\"",
        "ssh_password = \"Zq1xGeheim{{ nothing }}\"",
        "ssh_password = \"Zq1xGeheim{{\"",
        "ssh_password = [\"Zq1xGeheim\"] # ssh_password = Zq1xGeheim",
        "winrm_password = { a = \"Zq1xGeheim\" }",
    ] {
        fs::write(&path, source(line)).unwrap();
        for command in
            [&["validate", "."] as &[&str], &["validate", "-json", "."], &["build", "."], &["plan", "."]]
        {
            let (code, text) = packer(folder.path(), command, &BTreeMap::new(), "");
            assert_ne!(code, 0, "{line}: {text}");
            search(&text, &["Zq1xGeheim"], &format!("{line}: {}", command.join(" ")));
        }
    }
    let legacy = r#"{"builders": [{"type": "null", "communicator": "ssh", "ssh_host": "h",
        "ssh_password": "Zq1xGeheim", "ssh_prot": "x"}]}"#;
    fs::remove_file(&path).unwrap();
    for text in [legacy.to_owned(), legacy.replace("\"x\"", "1, \"winrm_password\": \"Zq1xGeheim{{user\"")] {
        fs::write(folder.path().join("t.json"), text).unwrap();
        for command in
            [&["validate", "t.json"] as &[&str], &["validate", "-json", "t.json"], &["build", "t.json"]]
        {
            let (code, text) = packer(folder.path(), command, &BTreeMap::new(), "");
            assert_ne!(code, 0, "{text}");
            search(&text, &["Zq1xGeheim"], &command.join(" "));
        }
    }
}

#[test]
fn urls_in_errors_show_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let template = |url: &str| {
        format!(
            "data \"http\" \"x\" {{\n  url = {url:?}\n  request_headers = {{ Authorization = \"Bearer Zq9xGeheim\" }}\n}}\n\
             source \"null\" \"n\" {{\n  communicator = \"none\"\n}}\nbuild {{\n  sources = [\"null.n\"]\n}}\n"
        )
    };
    let proxy = BTreeMap::from([
        ("HTTP_PROXY".to_owned(), format!("http://me:Zq8xGeheim@{NOBODY}")),
        ("NO_PROXY".to_owned(), String::new()),
    ]);
    let secrets = ["Zq8xGeheim", "Zq9xGeheim", "Zq7xGeheim", "Zq6xGeheim", "Zq6x%47eheim"];
    for url in [
        format!("http://me:Zq7xGeheim@{NOBODY}/a?token=Zq6x%47eheim&b=c"),
        "http://me:Zq7xGeheim@192.0.2.1/a?api_key=Zq6xGeheim".to_owned(),
        "http://me:Zq7xGeheim@[broken/a?secret=Zq6xGeheim".to_owned(),
    ] {
        fs::write(folder.path().join("t.pkr.hcl"), template(&url)).unwrap();
        for command in [
            &["build", "."] as &[&str],
            &["build", "-json", "."],
            &["validate", "-evaluate-datasources", "."],
        ] {
            let (code, text) = packer(folder.path(), command, &proxy, "");
            assert_ne!(code, 0, "{text}");
            search(&text, &secrets, &format!("{url}: {}", command.join(" ")));
        }
    }
}

#[test]
fn a_secret_across_the_cut_of_a_long_line_is_shown_in_no_format() {
    let folder = tempfile::tempdir().unwrap();
    let template = printing(
        "variable \"token\" {\n  sensitive = true\n  default   = \"S3cr3tLongToken0123456789\"\n}\n",
        "    env    = { TOKEN = var.token }\n    \
         inline = [\"yes \\\"x$TOKEN\\\" | head -n 40000 | tr -d '\\\\n'\"]\n",
    );
    fs::write(folder.path().join("t.pkr.hcl"), template).unwrap();
    let timeline = folder.path().join("t.html");
    let timeline = format!("-timeline={}", timeline.display());
    for command in [
        &["build", "-color=false", &timeline, "."] as &[&str],
        &["build", "-json", "."],
        &["build", "-machine-readable", "."],
    ] {
        let text = text_of(folder.path(), command);
        assert!(text.matches("<sensitive>").count() >= 40_000, "{}", text.len());
        search_parts(&text);
    }
    search_parts(&fs::read_to_string(folder.path().join("t.html")).unwrap());
}

/// Searches a text for any five characters of the secret in a row.
fn search_parts(text: &str) {
    let secret = "S3cr3tLongToken0123456789";
    for at in 0..=secret.len() - 5 {
        let part = &secret[at..at + 5];
        // Digits in a row may be of a time.
        if !part.bytes().all(|b| b.is_ascii_digit()) {
            assert!(!text.contains(part), "{part} is shown");
        }
    }
}
