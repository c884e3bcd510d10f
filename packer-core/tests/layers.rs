//! The layers of packer-core as `ARCHITECTURE.md` has them: no room uses what stands below it in the table.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of the table, top to bottom: paths in `packer-core/src` without `.rs`.
fn rooms(architecture: &str) -> Vec<Vec<String>> {
    let table = architecture.split("## Layers").nth(1).expect("a section Layers");
    let table =
        table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let rows = table.skip(2);
    let cells = rows.map(|row| row.split('|').nth(2).expect("a second column"));
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(|name| name.split('/').map(str::to_owned).collect()).collect()
}

/// The room that a path of modules or items leads into: the one with the longest name that it begins with.
fn room_of(rooms: &[Vec<String>], path: &[String]) -> Option<usize> {
    let fitting = rooms.iter().enumerate().filter(|(_, room)| path.starts_with(room));
    fitting.max_by_key(|(_, room)| room.len()).map(|(i, _)| i)
}

fn source_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a file is in: `a/b.rs` and `a/b/mod.rs` are `a`, `b`.
fn module(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// What a line names by paths that begin with `crate` or `super`, as paths from the root of the crate.
fn named(line: &str, module: &[String]) -> Vec<Vec<String>> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    for text in line.split(|c| !is_part(c)).filter(|text| text.contains("::")) {
        let mut parts = text.split("::").peekable();
        let mut path = match parts.peek() {
            Some(&"crate") => {
                parts.next();
                Vec::new()
            }
            Some(&"super") => module.to_vec(),
            _ => continue,
        };
        while parts.next_if_eq(&"super").is_some() {
            path.pop();
        }
        path.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
        found.push(path);
    }
    found
}

/// Each line that names something below its own room.
fn wrong_ways(src: &Path, rooms: &[Vec<String>]) -> Vec<String> {
    let mut files = Vec::new();
    source_files(src, &mut files);
    files.sort();
    let mut wrong = Vec::new();
    for file in files {
        let short = file.strip_prefix(src).unwrap();
        let module = module(short);
        // Tests may use everything, and `lib.rs` shows everything.
        if module == ["lib"] || module.iter().any(|part| part == "tests") {
            continue;
        }
        let Some(own) = room_of(rooms, &module) else {
            wrong.push(format!("{}: no room of the table holds it", short.display()));
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("\nmod tests {").next().unwrap_or_default();
        for (number, line) in
            code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for path in named(line, &module) {
                if let Some(other) = room_of(rooms, &path).filter(|other| *other > own) {
                    wrong.push(format!(
                        "{}:{}: {} must not know {}: {}",
                        short.display(),
                        number + 1,
                        rooms[own].join("/"),
                        rooms[other].join("/"),
                        line.trim()
                    ));
                }
            }
        }
    }
    wrong
}

#[test]
fn imports_go_one_way() {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let architecture = fs::read_to_string(crate_root.join("../ARCHITECTURE.md")).unwrap();
    let rooms = rooms(&architecture);
    let wrong = wrong_ways(&crate_root.join("src"), &rooms);
    assert!(wrong.is_empty(), "{} lines go the wrong way:\n{}", wrong.len(), wrong.join("\n"));
    for room in &rooms {
        let path = crate_root.join("src").join(room.join("/"));
        assert!(path.is_dir() || path.with_extension("rs").is_file(), "there is no room {}", room.join("/"));
    }
}

#[test]
fn a_line_that_goes_the_wrong_way_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("value.rs", "use crate::engine::{Engine};\n// crate::engine in a comment\n");
    write("engine/mod.rs", "use crate::value::Value;\nuse super::value::Type;\n");
    write(
        "engine/report.rs",
        "use super::cache::Use;\n#[cfg(test)]\nmod tests {\n    use super::super::Engine;\n}\n",
    );
    write("engine/cache.rs", "use super::report::Left;\n");
    write("stray.rs", "");
    let table = "## Layers\n\n| layer | rooms |\n|---|---|\n| data | `value` |\n| engine | `engine/report`, `engine/cache`, `engine` |\n";
    assert_eq!(
        wrong_ways(folder.path(), &rooms(table)),
        [
            "engine/report.rs:1: engine/report must not know engine/cache: use super::cache::Use;",
            "stray.rs: no room of the table holds it",
            "value.rs:1: value must not know engine: use crate::engine::{Engine};",
        ]
    );
}
