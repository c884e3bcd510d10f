//! The post-processor `artifice`: names the files that are the artifact from here on.

use std::path::PathBuf;

use packer_core::{
    Artifact, Context, Diagnostic, Diagnostics, Error, PostProcessor, PrepareContext, Processed, Result,
    Value, async_trait, config,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Replaces the artifact by files that provisioners have brought here.
///
/// Nothing is deleted by it; whether what it replaces stays is for `keep_input_artifact` to say (default: it does).
///
/// ```
/// use packer_postproc::Artifice;
/// let disks = Artifice::files(["output/*.img", "output/checksums"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Artifice {
    /// Paths, which may be patterns (`out/*.img`). One that matches nothing adds nothing.
    pub files: Vec<String>,
}

impl Artifice {
    /// These files.
    pub fn files<S: Into<String>>(files: impl IntoIterator<Item = S>) -> Self {
        Self { files: files.into_iter().map(Into::into).collect() }
    }
}

#[async_trait]
impl PostProcessor for Artifice {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        if self.files.is_empty() {
            found.push(Diagnostic::error("No files specified in artifice configuration"));
        }
        for pattern in &self.files {
            if let Err(e) = glob::Pattern::new(pattern) {
                found.push(Diagnostic::error(format!("The pattern \"{pattern}\" is malformed: {e}")));
            }
        }
        found
    }

    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
        if !artifact.files.is_empty() {
            cx.say(format!("Discarding files from artifact: {}", list(&artifact.files)));
        }
        let patterns = self.files.clone();
        let files = cx
            .blocking(move |stop| {
                let mut files = Vec::new();
                for pattern in &patterns {
                    stop.check()?;
                    files.extend(matches(pattern)?);
                }
                Ok(files)
            })
            .await?;
        let names = list(&files);
        cx.say(format!("Using these artifact files: {names}"));
        let made = Artifact::new("packer.post-processor.artifice", "")
            .describe(format!("Created artifact from files: {names}"))
            .files(files);
        Ok(Processed::beside(made))
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

/// What a pattern matches, in alphabetical order. A star stands for no slash; a leading dot is nothing special.
fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    // Templates negate a class as `[^…]`.
    let found = glob::glob_with(&pattern.replace("[^", "[!"), options)
        .map_err(|e| Error::user(format!("The pattern \"{pattern}\" is malformed: {e}")))?;
    // A folder that may not be read holds nothing for us.
    Ok(found.flatten().collect())
}

fn list(files: &[PathBuf]) -> String {
    files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_within_folders_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.img", "a.img", "c.txt", "sub/d.img", ".e.img"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let found = matches(&format!("{}/{pattern}", dir.path().display())).unwrap();
            let name = |p: PathBuf| p.strip_prefix(dir.path()).unwrap().display().to_string();
            found.into_iter().map(name).collect()
        };
        assert_eq!(names("*.img"), [".e.img", "a.img", "b.img"]);
        assert_eq!(names("*/*.img"), ["sub/d.img"]);
        assert_eq!(names("c.txt"), ["c.txt"]);
        assert!(names("none").is_empty());
    }

    #[test]
    fn malformed_patterns_are_found_early() {
        let found = Artifice::files(["[a"]).prepare(&PrepareContext::default());
        assert!(found.has_errors());
    }
}
