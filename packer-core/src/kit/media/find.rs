//! The paths and patterns of an option: what they find, and what is wrong with them.

use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::{Error, Result, os_text};

/// The paths that a pattern finds, in the order of their names; a path that is no pattern is itself.
pub(super) fn find(pattern: &str) -> Result<Vec<PathBuf>> {
    if !is_pattern(pattern) {
        return Ok(vec![PathBuf::from(pattern)]);
    }
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let found = glob::glob_with(&as_globs(pattern), options);
    // A folder that may not be read holds nothing for us.
    found.map(|found| found.flatten().collect()).map_err(|_| bad_pattern())
}

/// What is wrong with the paths of `argument`, each of which is `what`.
pub(super) fn check(what: &str, patterns: &[String]) -> Diagnostics {
    let mut found = Diagnostics::new();
    for pattern in patterns {
        let wrong = match is_pattern(pattern) {
            true => glob::Pattern::new(&as_globs(pattern)).err().map(|_| bad_pattern().to_string()),
            false => {
                let missing = std::fs::metadata(Path::new(pattern)).err();
                missing.map(|e| format!("stat {pattern}: {}", os_text(&e)))
            }
        };
        if let Some(why) = wrong {
            found.push(Diagnostic::error(format!("Bad {what} '{pattern}': {why}")));
        }
    }
    found
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn bad_pattern() -> Error {
    Error::user("syntax error in pattern")
}

/// Templates negate a class as `[^…]`, and two stars are one.
fn as_globs(pattern: &str) -> String {
    let mut pattern = pattern.replace("[^", "[!");
    while pattern.contains("**") {
        pattern = pattern.replace("**", "*");
    }
    pattern
}
