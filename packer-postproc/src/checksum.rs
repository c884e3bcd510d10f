//! The post-processor `checksum`: writes checksums of the artifact's files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use packer_core::config::{self, GoTemplate};
use packer_core::kit::blocking::Stop;
use packer_core::kit::{WholeFile, render};
use packer_core::{
    Artifact, Context, Diagnostic, Diagnostics, Error, PostProcessor, PrepareContext, Processed, Result,
    Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::digest::{Digest, DynDigest};

/// Where checksums go unless `output` says otherwise.
const DEFAULT_OUTPUT: &str = "packer_{{.BuildName}}_{{.BuilderType}}_{{.ChecksumType}}.checksum";

/// Writes checksums of the artifact's files, one line `CHECKSUM<tab>NAME` for each, and adds the checksum files to the
/// artifact.
///
/// A file that exists is added to.
///
/// ```
/// use packer_postproc::Checksum;
/// let sums = Checksum::sha256().to("out/SHA256SUMS");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Checksum {
    /// Among `md5`, `sha1`, `sha224`, `sha256`, `sha384`, `sha512`. Default `md5`.
    pub checksum_types: Vec<String>,
    /// The path of the checksum file; its folders are made. May hold `{{.BuildName}}`, `{{.BuilderType}}`,
    /// `{{.ChecksumType}}` and what is known about the machine. Default
    /// `packer_{{.BuildName}}_{{.BuilderType}}_{{.ChecksumType}}.checksum`.
    pub output: GoTemplate,
}

impl Checksum {
    /// Checksums of these types.
    pub fn of<S: Into<String>>(types: impl IntoIterator<Item = S>) -> Self {
        Self { checksum_types: types.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// SHA-256 checksums.
    pub fn sha256() -> Self {
        Self::of(["sha256"])
    }

    /// Writes to this file.
    #[must_use]
    pub fn to(mut self, output: impl Into<String>) -> Self {
        self.output = GoTemplate::new(output);
        self
    }

    fn types(&self) -> Vec<String> {
        if self.checksum_types.is_empty() { vec!["md5".to_owned()] } else { self.checksum_types.clone() }
    }

    fn output(&self, cx: &Context, kind: &str) -> Result<String> {
        let output = if self.output.is_empty() { DEFAULT_OUTPUT } else { self.output.as_str() };
        let build = cx.build();
        let known =
            [("BuildName", &*build.name), ("BuilderType", &*build.builder_type), ("ChecksumType", kind)];
        render(cx, output, &known)
    }
}

#[async_trait]
impl PostProcessor for Checksum {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        for kind in self.types() {
            if hasher(&kind).is_none() {
                found.push(Diagnostic::error(format!("Unrecognized checksum type: {kind}")));
            }
        }
        found
    }

    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
        let mut outputs = Vec::new();
        for kind in self.types() {
            let output = self.output(cx, &kind)?;
            outputs.push((kind, PathBuf::from(output)));
        }
        let (inner, inputs) = (cx.clone(), artifact.files);
        let files = cx
            .blocking(move |stop| {
                let kinds: Vec<&str> = outputs.iter().map(|(kind, _)| kind.as_str()).collect();
                let mut sums = Vec::with_capacity(inputs.len());
                for path in &inputs {
                    sums.push(hash(&inner, stop, path, &kinds)?);
                }
                let mut files = inputs.clone();
                // Several types may go to one file.
                let mut texts: Vec<(&PathBuf, String)> = Vec::new();
                for (nth, (_, output)) in outputs.iter().enumerate() {
                    let mut lines = String::new();
                    for (path, sums) in inputs.iter().zip(&sums) {
                        let name = path.file_name().unwrap_or_default().to_string_lossy();
                        lines.push_str(&format!("{}\t{name}\n", sums[nth]));
                    }
                    match texts.iter_mut().find(|(path, _)| *path == output) {
                        Some((_, text)) => text.push_str(&lines),
                        None => texts.push((output, lines)),
                    }
                }
                for (output, text) in texts {
                    if !text.is_empty() && add(&inner, output, &text)? && !files.contains(output) {
                        files.push(output.clone());
                    }
                }
                Ok(files)
            })
            .await?;
        let names = files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ");
        let made = Artifact::new("packer.post-processor.checksum", "")
            .describe(format!("Created artifact from files: {names}"))
            .files(files);
        Ok(Processed::needing_input(made))
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

fn hasher(kind: &str) -> Option<Box<dyn DynDigest>> {
    Some(match kind {
        "md5" => Box::new(md5::Md5::new()),
        "sha1" => Box::new(sha1::Sha1::new()),
        "sha224" => Box::new(sha2::Sha224::new()),
        "sha256" => Box::new(sha2::Sha256::new()),
        "sha384" => Box::new(sha2::Sha384::new()),
        "sha512" => Box::new(sha2::Sha512::new()),
        _ => return None,
    })
}

/// The checksums of one file in hexadecimal digits, from one reading.
fn hash(cx: &Context, stop: &Stop, path: &Path, kinds: &[&str]) -> Result<Vec<String>> {
    let mut hashers = Vec::with_capacity(kinds.len());
    for kind in kinds {
        let unknown = || Error::user(format!("Unrecognized checksum type: {kind}"));
        hashers.push(hasher(kind).ok_or_else(unknown)?);
    }
    let file = File::open(path)
        .map_err(|e| Error::io("open", path, e).context(format!("unable to open file {}", path.display())))?;
    let size = file.metadata().ok().map(|m| m.len());
    let progress = cx.progress(path.to_string_lossy(), size);
    let mut reader = stop.reader(file, Some(progress));
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = io::Read::read(&mut reader, &mut buffer).map_err(|e| Error::io("read", path, e))?;
        if read == 0 {
            break;
        }
        for hasher in &mut hashers {
            hasher.update(&buffer[..read]);
        }
    }
    let hex = |hasher: Box<dyn DynDigest>| hasher.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(hashers.into_iter().map(hex).collect())
}

/// Adds lines to a file; whether it is a new one, which goes with a build that does not get as far as its artifact.
fn add(cx: &Context, path: &Path, lines: &str) -> Result<bool> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| Error::io("mkdir", folder, e))?;
    }
    if !path.exists() {
        let mut file = WholeFile::create(cx, path, 0o666)?;
        file.write_all(lines.as_bytes()).map_err(|e| Error::io("write", path, e))?;
        if file.commit_new_for_artifact()? {
            return Ok(true);
        }
        // Another build writes into it too.
    }
    let file = OpenOptions::new().append(true).create(true).open(path);
    let mut file = file.map_err(|e| Error::io("open", path, e))?;
    file.write_all(lines.as_bytes()).map_err(|e| Error::io("write", path, e))?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unknown_type_is_named() {
        let found = Checksum::of(["sha3", "md5", "crc"]).prepare(&PrepareContext::default());
        let messages: Vec<&str> = found.iter().map(|d| d.summary.as_str()).collect();
        assert_eq!(messages, ["Unrecognized checksum type: sha3", "Unrecognized checksum type: crc"]);
    }
}
