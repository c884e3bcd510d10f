//! Replays cases recorded from Packer 1.16 on the host program, in-process, and prints `N of M match` for each set.
//!
//! The cases are in `packer-core/tests/conformance/`, a folder a set. `PACKER_CONFORMANCE` names another folder to replay
//! instead, `PACKER_CONFORMANCE_ONLY` a word that the paths of the cases must hold. `differences.list` names cases that
//! are answered differently on purpose, with the reason. Those of `docker` get an engine and a registry of their own, and are left
//! out where these cannot be started.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod case;
mod compare;
mod engine;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use case::Case;
use packer_host::{Input, Process, run};

#[test]
fn every_recorded_case() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packer-core/tests/conformance");
    let folder = std::env::var_os("PACKER_CONFORMANCE").map_or_else(|| own.clone(), PathBuf::from);
    let only = std::env::var("PACKER_CONFORMANCE_ONLY").unwrap_or_default();
    let on_purpose = differences(&own.join("differences.list"));
    let name_of =
        |path: &Path| path.strip_prefix(&folder).unwrap_or(path).to_string_lossy().replace('\\', "/");
    let mut paths = Vec::new();
    collect(&folder, &mut paths);
    paths.retain(|path| name_of(path).contains(&only));
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {}", folder.display());

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut sets: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut engine = None;
    for path in &paths {
        let name = name_of(path);
        if on_purpose.contains(&name) {
            continue;
        }
        let mut case = Case::read(path);
        if case.needs_engine {
            let Some(address) = engine.get_or_insert_with(engine::start) else { continue };
            case.env.entry("DOCKER_HOST".to_owned()).or_insert_with(|| address.address());
        }
        let set = sets
            .entry(name.rsplit_once('/').map_or_else(String::new, |(set, _)| set.to_owned()))
            .or_default();
        set.1 += 1;
        let differences = compare::check(&case, &execute(&runtime, &case));
        if differences.is_empty() {
            set.0 += 1;
        } else {
            wrong.push(format!("{name}: packer {}\n  {}", case.args.join(" "), differences.join("\n  ")));
        }
    }
    for (set, (same, all)) in &sets {
        println!("{set}: {same} of {all} match");
    }
    assert!(wrong.is_empty(), "{}\n{} cases differ", wrong.join("\n"), wrong.len());
}

/// What a run of the program left.
pub(crate) struct Outcome {
    pub(crate) code: u8,
    /// Normalised.
    pub(crate) output: String,
    /// Files that were made or changed, by name, normalised.
    pub(crate) files: BTreeMap<String, String>,
}

/// Runs a case in a folder of its own.
fn execute(runtime: &tokio::runtime::Runtime, case: &Case) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    for name in ["work", "home", "tmp", "cache"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    let work = root.join("work");
    for (name, content) in &case.inputs {
        write_input(&work.join(name), content);
    }
    let at = |name: &str| root.join(name).display().to_string();
    let mut env: BTreeMap<String, String> =
        std::env::vars().filter(|(k, _)| !k.starts_with("PKR_") && !k.starts_with("PACKER_")).collect();
    let (home, tmp, cache) = (at("home"), at("tmp"), at("cache"));
    for (name, value) in [
        ("HOME", home.as_str()),
        ("TMPDIR", &tmp),
        ("PACKER_CONFIG_DIR", &home),
        ("PACKER_CACHE_DIR", &cache),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
    ] {
        env.insert(name.into(), value.into());
    }
    let here = work.display().to_string();
    env.extend(case.env.iter().map(|(k, v)| (k.clone(), v.replace("<DIR>", &here))));

    // The only test of this program: nobody else minds where the process is.
    std::env::set_current_dir(&work).unwrap();
    let output = Shared::default();
    let (_nobody, signals) = tokio::sync::mpsc::unbounded_channel();
    let code = runtime.block_on(run(Process {
        args: case.args.iter().map(|a| a.replace("<DIR>", &here)).collect(),
        env,
        stdin: Box::new(io::Cursor::new(case.stdin.clone())),
        input: Input::Pipe,
        stdout: Box::new(output.clone()),
        stderr: Box::new(output.clone()),
        terminal: false,
        signals,
    }));
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).unwrap();

    let output = String::from_utf8_lossy(&output.0.lock().unwrap()).into_owned();
    let root = root.display().to_string();
    let mut files = BTreeMap::new();
    changed(&work, &work, case, &root, &mut files);
    Outcome { code, output: compare::normalise(&output, &root), files }
}

fn write_input(path: &Path, content: &[u8]) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).unwrap();
    }
    fs::write(path, content).unwrap();
    #[cfg(unix)]
    if content.starts_with(b"#!") {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn changed(folder: &Path, work: &Path, case: &Case, root: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            changed(&path, work, case, root, files);
            continue;
        }
        let name = path.strip_prefix(work).unwrap().to_string_lossy().replace('\\', "/");
        let content = fs::read(&path).unwrap();
        if case.inputs.get(&name) == Some(&content) {
            continue;
        }
        let text = match String::from_utf8(content) {
            Ok(text) if case.is_exact() => text,
            Ok(text) => compare::normalise(&text, root),
            Err(_) => "(binary)\n".into(),
        };
        files.insert(name, text);
    }
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|e| e == "txt") {
            paths.push(path);
        }
    }
}

/// The names of the cases on the list: `SET/CASE.txt: reason`, one a line.
fn differences(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.split_once(": ")?.0.trim().to_owned())).collect()
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
