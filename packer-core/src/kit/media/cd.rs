//! A CD image (ISO 9660) with files of this computer and of the template.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::{Context, PrepareContext};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::{Error, Result};
use crate::kit::blocking::Stop;

use super::find::{check, find};
use super::iso9660::{self, LONGEST_LABEL};
use super::tree::{Again, Case, Parts, file_name, sorted_entries, write_image};

/// The files of a CD that a machine sees while it is built: the options that builders of whole machines take beside their own,
/// with `#[serde(flatten)]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct CdConfig {
    /// Files, folders and patterns. A folder goes under its last name, or with a `/` at its end as what is in it.
    pub cd_files: Vec<String>,
    /// Files by path, with their texts.
    pub cd_content: BTreeMap<String, String>,
    /// The name of the volume. Default `packer`.
    pub cd_label: String,
}

impl CdConfig {
    /// Whether no CD is asked for.
    pub fn is_empty(&self) -> bool {
        self.cd_files.is_empty() && self.cd_content.is_empty()
    }

    /// Checks that what is named exists, that patterns are well formed and the label is not too long.
    pub fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = check("CD disk file", &self.cd_files);
        if let Err(e) = check_label(&self.cd_label) {
            found.push(Diagnostic::error(e.to_string()));
        }
        found
    }

    /// Makes the image: a temporary file that goes with the build. `None` where no CD is asked for.
    ///
    /// # Errors
    /// As [`CdImage::write`].
    pub async fn create(&self, cx: &Context) -> Result<Option<PathBuf>> {
        if self.is_empty() {
            return Ok(None);
        }
        cx.say("Creating CD disk...");
        let config = self.clone();
        let image = cx.blocking(move |stop| config.image(stop)).await?;
        let (path, _) = cx.temp_path_with_suffix("packer", ".iso")?;
        image.write(cx, &path).await?;
        cx.say("Done copying paths from CD_dirs");
        Ok(Some(path))
    }

    fn image(self, stop: &Stop) -> Result<CdImage> {
        let mut image = CdImage::new(if self.cd_label.is_empty() { "packer" } else { &self.cd_label });
        for pattern in &self.cd_files {
            stop.check()?;
            let failed = |e: Error| e.context(format!("Bad CD disk file '{pattern}'"));
            // Of `a/b/` what is in it, also where that is no name: `.` and `..`.
            if pattern.ends_with(std::path::is_separator) || Path::new(pattern).file_name().is_none() {
                for folder in find(pattern).map_err(failed)? {
                    for (name, path) in sorted_entries(&folder).map_err(failed)? {
                        image = image.file(name, path);
                    }
                }
                continue;
            }
            for path in find(pattern).map_err(failed)? {
                image = image.file(file_name(&path).map_err(failed)?, path);
            }
        }
        Ok(self.cd_content.into_iter().fold(image, |image, (path, text)| image.text(path, text)))
    }
}

/// A CD image in the making: ISO 9660 with the names of Rock Ridge and Joliet.
///
/// Files have mode 0644, folders 0755, all belong to root. A file replaces one of the same path that was added before.
///
/// ```
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let bench = packer_core::testing::Bench::new();
/// # let cx = bench.context();
/// use packer_core::kit::media::CdImage;
/// let seed = CdImage::new("cidata").text("/meta-data", "").text("/user-data", "#cloud-config\n");
/// let (path, _) = cx.temp_path_with_suffix("seed", ".iso")?;
/// seed.write(cx, &path).await?;
/// assert_eq!(&std::fs::read(&path).unwrap()[0x8001..0x8006], b"CD001");
/// # Ok::<(), packer_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is written yet"]
pub struct CdImage {
    label: String,
    parts: Parts,
}

impl CdImage {
    /// An empty image. Its label has at most 32 bytes; Joliet's readers (Windows) see the first 16 characters.
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

    /// Writes the image, which appears whole. Files are read piece by piece; on Unix only the owner may read the image.
    ///
    /// # Errors
    /// What cannot be read or written; a label that is too long; a path with `..`; a file where a folder must be; names that
    /// are no UTF-8 or longer than 255 bytes; more than 65,535 files and folders, or 64 folders in each other; a file whose
    /// size changes meanwhile; cancellation.
    pub async fn write(self, cx: &Context, path: impl AsRef<Path>) -> Result<()> {
        check_label(&self.label)?;
        let (inner, path) = (cx.clone(), path.as_ref().to_owned());
        cx.blocking(move |stop| {
            let tree = self.parts.into_tree(Case::Differs, Again::Replaces, stop)?;
            write_image(&inner, stop, &path, &tree, |copier, out| {
                iso9660::write(&tree, &self.label, copier, out)
            })
        })
        .await
    }
}

fn check_label(label: &str) -> Result<()> {
    match label.len() {
        0..=LONGEST_LABEL => Ok(()),
        more => {
            let bound = format!("of a CD has at most {LONGEST_LABEL} bytes");
            Err(Error::user(format!("the label {label:?} has {more} bytes, and one {bound}")))
        }
    }
}
