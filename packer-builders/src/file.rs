//! The builder `file`: writes one file and calls it an artifact.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use packer_core::kit::blocking::Stop;
use packer_core::{
    Artifact, Builder, Communicator, Context, Diagnostic, Diagnostics, Error, Facts, Lifecycle, Machine,
    NoCommunicator, PrepareContext, Prepared, Resource, Result, Value, WholeFile, async_trait, config,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Writes a file: a text, or a copy of another file. What belongs in a template that needs no machine.
///
/// The file is there before provisioners run, so that local ones can change it; remote ones do nothing and succeed.
///
/// ```
/// use packer_builders::FileBuilder;
/// let motd = FileBuilder::content("out/motd", "welcome\n");
/// let copy = FileBuilder::copy("base.img", "out/disk.img");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct FileBuilder {
    /// The path of the file to write. Its folders are made.
    pub target: String,
    /// The path of a file to copy.
    pub source: String,
    /// The text to write.
    pub content: String,
}

impl FileBuilder {
    /// Writes a text. Nobody but its owner may read a new file (mode 0600); one that exists keeps its mode.
    pub fn content(target: impl Into<String>, text: impl Into<String>) -> Self {
        Self { target: target.into(), content: text.into(), ..Self::default() }
    }

    /// Copies a file.
    pub fn copy(source: impl Into<String>, target: impl Into<String>) -> Self {
        Self { target: target.into(), source: source.into(), ..Self::default() }
    }
}

#[async_trait]
impl Builder for FileBuilder {
    async fn prepare(&self, _: &PrepareContext) -> Result<Prepared, Diagnostics> {
        let mut found = Diagnostics::new();
        if self.target.is_empty() {
            found.push(Diagnostic::error("target required"));
        }
        if !self.source.is_empty() && !self.content.is_empty() {
            found.push(Diagnostic::error("Cannot specify source file AND content"));
        }
        let mut prepared = Prepared::new();
        if self.source.is_empty() && self.content.is_empty() {
            prepared.warnings.push(Diagnostic::warning(
                "Both source file and contents are blank; target will have no content",
            ));
        }
        found.into_result(prepared)
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        let (this, inner) = (self.clone(), cx.clone());
        cx.blocking(move |stop| {
            if let Some(folder) = Path::new(&this.target).parent() {
                fs::create_dir_all(folder).map_err(|e| Error::io("mkdir", folder, e))?;
            }
            match this.source.is_empty() {
                true => write(&inner, &this.target, &this.content),
                false => copy(&inner, stop, &this.source, &this.target),
            }
        })
        .await?;
        Ok(Box::new(Written { target: self.target.clone().into(), facts: Facts::new() }))
    }

    /// There is nothing of its own to release: the engine removes files itself.
    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }

    fn type_name(&self) -> Cow<'static, str> {
        "file".into()
    }
}

/// A file that is there. There is nothing to enter and nothing to tear down.
struct Written {
    target: PathBuf,
    facts: Facts,
}

#[async_trait]
impl Machine for Written {
    fn communicator(&self) -> Arc<dyn Communicator> {
        Arc::new(NoCommunicator::accepting())
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    async fn capture(&self, _: &Context) -> Result<Artifact> {
        let description = format!("Stored file: {}", self.target.display());
        Ok(Artifact::new("packer.file", "File").describe(description).file(&self.target))
    }

    fn lifecycle(&self) -> Lifecycle {
        Lifecycle::Flat
    }
}

fn write(cx: &Context, target: &str, content: &str) -> Result<()> {
    let mut file = WholeFile::create(cx, target, 0o600)?;
    file.write_all(content.as_bytes()).map_err(|e| Error::io("write", target, e))?;
    file.commit()
}

fn copy(cx: &Context, stop: &Stop, source: &str, target: &str) -> Result<()> {
    let input = File::open(source).map_err(|e| Error::io("open", source, e))?;
    let size = input.metadata().ok().map(|m| m.len());
    let mut output = WholeFile::create(cx, target, 0o666)?;
    cx.say(format!("Copying {source} to {target}"));
    let mut input = stop.reader(input, Some(cx.progress(target, size)));
    let copied = std::io::copy(&mut input, output.file()).map_err(|e| Error::io("copy", source, e))?;
    stop.check()?;
    output.commit()?;
    cx.say(format!("Copied {copied} bytes"));
    Ok(())
}
