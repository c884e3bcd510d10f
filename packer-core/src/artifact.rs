//! Artifacts: what a build made, as plain data that owns resources.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ledger::Resource;

/// What a builder or a post-processor made.
///
/// An artifact is data: it can be stored, sent and loaded again. It *owns* the resources it lists, and
/// discarding it releases them through the component that made it; files of `files` are removed by the engine
/// itself.
///
/// ```
/// use packer_core::Artifact;
/// let artifact = Artifact::new("packer.file", "File").describe("Stored file: a.txt").file("a.txt");
/// let json = serde_json::to_string(&artifact).unwrap();
/// assert_eq!(serde_json::from_str::<Artifact>(&json).unwrap(), artifact);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Artifact {
    /// Which kind of component made it, as post-processors and machine-readable output know it: `packer.file`.
    pub builder_id: String,
    /// The identity of what was made (an image id); may be empty.
    pub id: String,
    /// One line for people, or several.
    pub description: String,
    /// The files it consists of, in order.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// What later steps may want to know, by name (`ImageSha256`, a digest, a region map).
    #[serde(default)]
    pub metadata: BTreeMap<String, serde_json::Value>,
    /// What post-processors see as `build.*`; secrets are left out.
    #[serde(default)]
    pub generated_data: BTreeMap<String, serde_json::Value>,
    /// Resources (other than `files`) that exist as long as the artifact does.
    #[serde(default)]
    pub resources: Vec<Resource>,
}

impl Artifact {
    /// An artifact without files, from the id of its maker and its own.
    pub fn new(builder_id: impl Into<String>, id: impl Into<String>) -> Self {
        Self { builder_id: builder_id.into(), id: id.into(), ..Self::default() }
    }

    /// No artifact: the builder was asked to make none. No post-processor runs, and nothing is listed.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether it is [none](Self::none).
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Sets the description.
    #[must_use]
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Adds files.
    #[must_use]
    pub fn files(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.files.extend(paths);
        self
    }

    /// Adds a piece of metadata.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Takes over a resource.
    #[must_use]
    pub fn owning(mut self, resource: Resource) -> Self {
        self.resources.push(resource);
        self
    }
}
