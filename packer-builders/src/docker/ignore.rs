//! `.dockerignore`: what of a folder is not sent to the engine.

use std::path::Path;

use globset::{Glob, GlobBuilder, GlobMatcher};
use packer_core::{Error, Result};

/// The patterns of a file, in order; of several that match the last one counts.
#[derive(Debug, Default, Clone)]
pub(super) struct Ignore(Vec<Pattern>);

#[derive(Debug, Clone)]
struct Pattern {
    glob: GlobMatcher,
    /// `!PATTERN`: what it matches is sent all the same.
    back: bool,
}

impl Ignore {
    /// Reads `DOCKERFILE.dockerignore`, else `.dockerignore` in the folder; without either nothing is left out.
    ///
    /// # Errors
    /// Where the file cannot be read or a pattern is malformed.
    pub(super) fn read(folder: &Path, dockerfile: &Path) -> Result<Self> {
        let mut own = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        for path in [Path::new(&own), &folder.join(".dockerignore")] {
            match std::fs::read_to_string(path) {
                Ok(text) => return Self::parse(&text).map_err(|e| e.context(path.display())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("open", path, e)),
            }
        }
        Ok(Self::default())
    }

    fn parse(text: &str) -> Result<Self> {
        let mut patterns = Vec::new();
        for line in text.trim_start_matches('\u{feff}').lines() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let line = line.trim();
            let (back, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let cleaned = clean(pattern);
            if cleaned.is_empty() {
                continue;
            }
            let glob: Glob = GlobBuilder::new(&cleaned)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|e| Error::user(format!("pattern {pattern:?}: {e}")))?;
            patterns.push(Pattern { glob: glob.compile_matcher(), back });
        }
        Ok(Self(patterns))
    }

    /// Whether a path, seen from the folder, is sent. A folder that is left out is looked into all the same where a
    /// later pattern may bring back something in it.
    pub(super) fn admits(&self, path: &str) -> bool {
        let mut sent = true;
        for pattern in &self.0 {
            // A pattern that matches a folder matches all that is in it.
            let ancestors = Path::new(path).ancestors().filter(|part| !part.as_os_str().is_empty());
            if ancestors.into_iter().any(|part| pattern.glob.is_match(part)) {
                sent = pattern.back;
            }
        }
        sent
    }

    /// Whether anything is brought back.
    pub(super) fn has_exceptions(&self) -> bool {
        self.0.iter().any(|pattern| pattern.back)
    }
}

/// `/a/./b/../c/` is `a/c`.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_match_counts() {
        let ignore =
            Ignore::parse("# comment\n\n*.log\n/target/\n**/node_modules\n!keep.log\ndocs\n!docs/README*\n")
                .unwrap();
        for (path, sent) in [
            ("a.log", false),
            ("sub/a.log", true),
            ("keep.log", true),
            ("target", false),
            ("target/debug/x", false),
            ("web/node_modules/x", false),
            ("node_modules", false),
            ("docs/guide.md", false),
            ("docs/README.md", true),
            ("src/main.rs", true),
        ] {
            assert_eq!(ignore.admits(path), sent, "{path}");
        }
        assert!(ignore.has_exceptions());
        assert!(Ignore::parse("[").is_err());
    }
}
