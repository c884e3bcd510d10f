//! The recorded cases of `packer fmt`: text in, canonical text out. (What the command does with files is the host's.)

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::Path;

use packer_core::SourceFile;
use packer_core::language::fmt;

struct Case {
    exit: i32,
    /// Path and text of each section.
    sections: BTreeMap<String, String>,
}

/// Reads the format that the conformance cases share.
fn read(text: &str) -> Case {
    let mut case = Case { exit: 0, sections: BTreeMap::new() };
    let mut bare = Vec::new();
    let mut section: Option<String> = None;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_end_matches('\n');
        if let Some(name) = trimmed.strip_prefix("-- ").and_then(|l| l.strip_suffix(" --")) {
            case.sections.insert(name.to_owned(), String::new());
            section = Some(name.to_owned());
        } else if let Some(name) = &section {
            case.sections.get_mut(name).unwrap().push_str(line);
        } else if let Some(code) = trimmed.strip_prefix("exit ") {
            case.exit = code.parse().unwrap();
        } else if let Some(names) = trimmed.strip_prefix("no-final-newline ") {
            bare.extend(names.split_whitespace().map(str::to_owned));
        }
    }
    for name in bare {
        let text = case.sections.get_mut(&name).unwrap();
        assert_eq!(text.pop(), Some('\n'));
    }
    case
}

#[test]
fn texts_have_the_recorded_layout() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/fmt");
    let (mut count, mut mismatches) = (0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("cmd-") {
            continue;
        }
        let case = read(&std::fs::read_to_string(&path).unwrap());
        for (name, text) in &case.sections {
            let Some(file) = name.strip_prefix("in/") else { continue };
            count += 1;
            // What the command left alone is not recorded again.
            let expected = match case.exit {
                0 => Some(case.sections.get(&format!("out/{file}")).unwrap_or(text)),
                _ => None,
            };
            let actual = fmt::format(&SourceFile::new(file, text.as_str())).ok();
            if actual.as_ref() != expected {
                mismatches.push(format!("{}: {actual:?}\n  expected {expected:?}", path.display()));
            }
            if let Some(once) = actual {
                let twice = fmt::format(&SourceFile::new(file, once.as_str())).ok();
                assert_eq!(twice.as_ref(), Some(&once), "{}: not stable", path.display());
            }
        }
    }
    println!("{} of {count} match", count - mismatches.len());
    assert!(count > 50, "the cases are there");
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
}
