//! A floppy image (1440 KiB, FAT12) with files of this computer and of the template.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::{Context, PrepareContext};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::{Error, Result};
use crate::kit::blocking::Stop;

use super::fat12::{self, LONGEST_LABEL};
use super::find::{check, find};
use super::tree::{Again, Case, Parts, Tree, file_name, sorted_entries, write_image};

/// The files of a floppy that a machine sees while it is built: the options that builders of whole machines take beside their
/// own, with `#[serde(flatten)]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct FloppyConfig {
    /// Files and patterns; all go into the root. Of a folder its files.
    pub floppy_files: Vec<String>,
    /// Folders and patterns, with all that is in them, under their last names.
    pub floppy_dirs: Vec<String>,
    /// Files of the root by name, with their texts.
    pub floppy_content: BTreeMap<String, String>,
    /// The name of the volume. Default `packer`.
    pub floppy_label: String,
}

impl FloppyConfig {
    /// Whether no floppy is asked for.
    pub fn is_empty(&self) -> bool {
        self.floppy_files.is_empty() && self.floppy_dirs.is_empty() && self.floppy_content.is_empty()
    }

    /// Checks that what is named exists and that patterns are well formed; warns of a label that will be cut.
    pub fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = check("Floppy disk file", &self.floppy_files);
        found.append(check("Floppy disk directory", &self.floppy_dirs));
        if self.floppy_label.chars().count() > LONGEST_LABEL {
            let cut = format!("Of floppy_label the first {LONGEST_LABEL} characters are kept");
            found.push(Diagnostic::warning(cut));
        }
        found
    }

    /// Makes the image: a temporary file that goes with the build. `None` where no floppy is asked for.
    ///
    /// # Errors
    /// As [`FloppyImage::write`].
    pub async fn create(&self, cx: &Context) -> Result<Option<PathBuf>> {
        if self.is_empty() {
            return Ok(None);
        }
        cx.say("Creating floppy disk...");
        let (path, _) = cx.temp_path("packer")?;
        let (config, inner, target) = (self.clone(), cx.clone(), path.clone());
        cx.blocking(move |stop| {
            let label = if config.floppy_label.is_empty() { "packer" } else { &config.floppy_label };
            write(&inner, stop, &target, label, &config.tree(&inner, stop)?)
        })
        .await?;
        Ok(Some(path))
    }

    /// Looks at the files and puts everything in its place, saying so as Packer does.
    fn tree(&self, cx: &Context, stop: &Stop) -> Result<Tree> {
        let mut tree = Tree::new(Case::IsTheSame);
        cx.say("Copying files flatly from floppy_files");
        let mut add = |path: &Path, word: &str| {
            let failed =
                |e: Error| e.context(format!("Error adding file from floppy_files : {} ", path.display()));
            cx.say(format!("{word}: {}", path.display()));
            let added = file_name(path).and_then(|name| tree.add_path(&name, path, Again::IsAnError, stop));
            added.map_err(failed)
        };
        for path in find_all("floppy_files", &self.floppy_files)? {
            if path.is_dir() {
                cx.say(format!("Copying directory: {}", path.display()));
                for file in files_below(&path, stop)? {
                    add(&file, "Adding file")?;
                }
            } else {
                add(&path, "Copying file")?;
            }
        }
        cx.say("Done copying files from floppy_files");

        cx.say("Collecting paths from floppy_dirs");
        let folders = find_all("floppy_dirs", &self.floppy_dirs)?;
        let list: Vec<_> = folders.iter().map(|path| path.display().to_string()).collect();
        cx.say(format!("Resulting paths from floppy_dirs : [{}]", list.join(" ")));
        for path in folders {
            let name = path.display();
            cx.say(format!("Recursively copying : {name}"));
            let under = if path.file_name().is_some() { file_name(&path)? } else { String::new() };
            let added = tree.add_path(&under, &path, Again::IsAnError, stop);
            added.map_err(|e| e.context(format!("Error adding path {name} to floppy")))?;
        }
        cx.say("Done copying paths from floppy_dirs");

        cx.say("Copying files from floppy_content");
        for (path, text) in &self.floppy_content {
            let name = path.rsplit('/').next().unwrap_or_default();
            let added = tree.add_text(name, text.as_bytes().to_vec(), Again::IsAnError);
            added.map_err(|e| e.context(format!("Error adding file from floppy_content : {path} ")))?;
        }
        cx.say("Done copying files from floppy_content");
        Ok(tree)
    }
}

/// A floppy image in the making: 1440 KiB, FAT with 12 bits and long names. Names that differ in case alone are the same.
///
/// ```
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let bench = packer_core::testing::Bench::new();
/// # let cx = bench.context();
/// use packer_core::kit::media::FloppyImage;
/// let answers = FloppyImage::new("answers").text("Autounattend.xml", "<unattend/>");
/// let (path, _) = cx.temp_path_with_suffix("answers", ".img")?;
/// answers.write(cx, &path).await?;
/// assert_eq!(std::fs::metadata(&path).unwrap().len(), 1_474_560);
/// # Ok::<(), packer_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is written yet"]
pub struct FloppyImage {
    label: String,
    parts: Parts,
}

impl FloppyImage {
    /// An empty image. Of its label the first eleven characters are kept; what is not ASCII is `_`.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), parts: Parts::default() }
    }

    /// Adds a file with this text, at a path whose folders are made.
    pub fn text(mut self, at: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        self.parts.text(at.into(), text.into());
        self
    }

    /// Adds a file of this computer, or a folder with all that is in it, at a path whose folders are made. Links are followed.
    pub fn file(mut self, at: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.parts.path(at.into(), path.into());
        self
    }

    /// Writes the image, which appears whole; on Unix only the owner may read it.
    ///
    /// # Errors
    /// What cannot be read or written; a path with `..`; two files of one name; names that FAT cannot hold, or no UTF-8; more
    /// than there is room for; a file whose size changes meanwhile; cancellation.
    pub async fn write(self, cx: &Context, path: impl AsRef<Path>) -> Result<()> {
        let (inner, path) = (cx.clone(), path.as_ref().to_owned());
        cx.blocking(move |stop| {
            let tree = self.parts.into_tree(Case::IsTheSame, Again::IsAnError, stop)?;
            write(&inner, stop, &path, &self.label, &tree)
        })
        .await
    }
}

fn write(cx: &Context, stop: &Stop, path: &Path, label: &str, tree: &Tree) -> Result<()> {
    write_image(cx, stop, path, tree, |copier, out| fat12::write(tree, label, copier, out))
}

fn find_all(argument: &str, patterns: &[String]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for pattern in patterns {
        found.extend(find(pattern).map_err(|e| e.context(format!("{argument}: '{pattern}'")))?);
    }
    Ok(found)
}

/// The files of a folder and of those in it, in the order of their names.
fn files_below(folder: &Path, stop: &Stop) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for (_, path) in sorted_entries(folder)? {
        stop.check()?;
        // A link to a folder is not followed: the files are anywhere.
        if path.is_dir() && !path.is_symlink() {
            files.extend(files_below(&path, stop)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
