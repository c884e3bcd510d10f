//! The post-processor `vagrant`: packs what was made as a box for Vagrant.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use packer_core::config::{self, GoTemplate};
use packer_core::kit::blocking::Stop;
use packer_core::kit::render;
use packer_core::{
    Artifact, Context, Diagnostic, Diagnostics, Error, PostProcessor, PrepareContext, Processed, Result,
    Value, WholeFile, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

mod contents;
mod ova;
mod provider;

use crate::compress::archive::{append, header};
use crate::compress::codec::encoder;
use crate::compress::format::Codec;
use crate::compress::{WRITE_SIZE, same_file};
use contents::{Contents, Source};
use provider::Provider;

/// Where the box goes unless `output` says otherwise.
const DEFAULT_OUTPUT: &str = "packer_{{ .BuildName }}_{{ .Provider }}_{{ .Architecture }}.box";

/// How hard to compress unless `compression_level` says otherwise.
const DEFAULT_LEVEL: i32 = 6;

/// Packs what was made as a box for Vagrant, which is the artifact from here on.
///
/// Who made the artifact decides which of Vagrant's providers the box is for: `qemu` libvirt, `docker` docker, and so on. The
/// artifact's files are read where they are; the box is compressed on all processors and appears whole.
///
/// ```
/// use packer_postproc::Vagrant;
/// let debian = Vagrant::to("debian.box").vagrantfile("Vagrantfile.tpl").include("info.json");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Vagrant {
    /// The path of the box; its folders are made, an old box is replaced. May hold `{{ .BuildName }}`, `{{ .Provider }}`,
    /// `{{ .Architecture }}`, `{{ .ArtifactId }}` and what is known about the machine. Default
    /// `packer_{{ .BuildName }}_{{ .Provider }}_{{ .Architecture }}.box`.
    pub output: GoTemplate,
    /// From 1, fast, to 9, small; -1 and the default are 6. 0 does not compress.
    pub compression_level: Option<i32>,
    /// Further files; each goes into the root of the box.
    pub include: Vec<String>,
    /// A file that goes to the end of the box's `Vagrantfile`; may hold what `output` may.
    pub vagrantfile_template: String,
    /// Whether that file is made during the build, so that it need not exist before.
    pub vagrantfile_template_generated: bool,
    /// Which provider the box is for, whoever made the artifact.
    pub provider_override: String,
    /// The architecture that the box says, in Vagrant's words (`amd64`, `arm64`, `i386`). Default this computer's.
    pub architecture: String,
    /// Other values of the above for one provider, by its name.
    pub r#override: BTreeMap<String, VagrantOverride>,
}

/// What is different for one provider; what is not given stays.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct VagrantOverride {
    /// As in [`Vagrant`], and so on.
    pub output: Option<GoTemplate>,
    /// See [`Vagrant::compression_level`].
    pub compression_level: Option<i32>,
    /// See [`Vagrant::include`].
    pub include: Option<Vec<String>>,
    /// See [`Vagrant::vagrantfile_template`].
    pub vagrantfile_template: Option<String>,
    /// See [`Vagrant::vagrantfile_template_generated`].
    pub vagrantfile_template_generated: Option<bool>,
    /// See [`Vagrant::architecture`].
    pub architecture: Option<String>,
}

impl Vagrant {
    /// Writes the box to this file.
    pub fn to(output: impl Into<String>) -> Self {
        Self { output: GoTemplate::new(output), ..Self::default() }
    }

    /// Adds a file to the root of the box.
    #[must_use]
    pub fn include(mut self, file: impl Into<String>) -> Self {
        self.include.push(file.into());
        self
    }

    /// Sets the file that goes to the end of the box's `Vagrantfile`.
    #[must_use]
    pub fn vagrantfile(mut self, template: impl Into<String>) -> Self {
        self.vagrantfile_template = template.into();
        self
    }

    /// The same as it is for one provider.
    fn with_override(&self, provider: Provider) -> Self {
        let mut this = self.clone();
        let Some(other) = self.r#override.get(provider.name()).cloned() else { return this };
        this.compression_level = other.compression_level.or(this.compression_level);
        this.output = other.output.unwrap_or(this.output);
        this.include = other.include.unwrap_or(this.include);
        this.vagrantfile_template = other.vagrantfile_template.unwrap_or(this.vagrantfile_template);
        this.architecture = other.architecture.unwrap_or(this.architecture);
        this
    }
}

#[async_trait]
impl PostProcessor for Vagrant {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        let mut check = |template: &str, generated: bool| {
            if !template.is_empty() && !generated && !Path::new(template).exists() {
                let missing = format!("vagrantfile_template '{template}' does not exist");
                found.push(Diagnostic::error(missing));
            }
        };
        check(&self.vagrantfile_template, self.vagrantfile_template_generated);
        for other in self.r#override.values() {
            let template = other.vagrantfile_template.as_deref().unwrap_or_default();
            let generated = other.vagrantfile_template_generated;
            check(template, generated.unwrap_or(self.vagrantfile_template_generated));
        }
        let provider = &self.provider_override;
        if !provider.is_empty() && Provider::named(provider).is_none() {
            let wrong = format!(
                "The given provider_override {provider} is not valid. Please choose from one of {}",
                Provider::ALL.map(Provider::name).join(", ")
            );
            found.push(Diagnostic::error(wrong));
        }
        found
    }

    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
        let provider = match self.provider_override.as_str() {
            "" => Provider::of(&artifact.builder_id),
            name => Provider::named(name),
        };
        let unknown = || format!("Unknown artifact type, can't build box: {}", artifact.builder_id);
        let provider = provider.ok_or_else(|| Error::user(unknown()))?;
        let config = self.with_override(provider);
        let architecture = match config.architecture.as_str() {
            "" => host_architecture(),
            given => given,
        };
        let known = [
            ("BuildName", cx.build().name.as_str()),
            ("Provider", provider.name()),
            ("Architecture", architecture),
            ("ArtifactId", artifact.id.as_str()),
        ];
        let output = if config.output.is_empty() { DEFAULT_OUTPUT } else { config.output.as_str() };
        let output = render(cx, output, &known)?;

        cx.say("Creating a dummy Vagrant box to ensure the host system can create one correctly");
        let level = config.compression_level.unwrap_or(DEFAULT_LEVEL);
        if !(-1..=9).contains(&level) {
            return Err(Error::user("Invalid compression level. Expected an integer from -1 to 9."));
        }
        cx.say(format!("Creating Vagrant box for '{}' provider", provider.name()));
        let (inner, include, made) = (cx.clone(), config.include, artifact.clone());
        let mut contents = cx.blocking(move |_| contents::collect(&inner, provider, &include, &made)).await?;
        contents.metadata.insert("architecture".to_owned(), json!(architecture));
        contents.metadata.insert("provider".to_owned(), json!(provider.in_metadata()));
        let template = match config.vagrantfile_template.as_str() {
            "" => String::new(),
            path => {
                cx.say(format!("Using custom Vagrantfile: {path}"));
                let text = fs::read_to_string(path).map_err(|e| Error::io("open", path, e))?;
                render(cx, &text, &known)?
            }
        };
        contents.finish(&template)?;
        let work = Work { cx: cx.clone(), output: output.clone().into(), level, contents };
        cx.blocking(move |stop| work.run(stop)).await?;

        let made = Artifact::new("mitchellh.post-processor.vagrant", provider.name())
            .describe(format!("'{}' provider box: {output}", provider.name()))
            .file(output);
        Ok(if provider.keeps_input() { Processed::beside(made) } else { Processed::replacing(made) })
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

/// This computer's architecture in Vagrant's words.
fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "i386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64",
        other => other,
    }
}

/// The packing of a box, off the async threads.
struct Work {
    cx: Context,
    output: PathBuf,
    level: i32,
    contents: Contents,
}

impl Work {
    fn run(&self, stop: &Stop) -> Result<()> {
        let failed = |e| Error::io("write", &self.output, e);
        if let Some(folder) = self.output.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::io("mkdir", folder, e))?;
        }
        if let Some(input) = self.contents.inputs().find(|input| same_file(input, &self.output)) {
            let is = "is one of the files that go into the box";
            return Err(Error::user(format!("The output {} {is}", input.display())));
        }
        let mut whole = WholeFile::create(&self.cx, &self.output, 0o666)?;
        let mut writer = BufWriter::with_capacity(WRITE_SIZE, whole.file());
        if self.level == 0 {
            self.tar(stop, &mut writer)?;
        } else {
            let mut gzip = encoder(Codec::Gzip, self.level, &mut writer)?;
            self.tar(stop, &mut *gzip)?;
            gzip.finish().map_err(failed)?;
        }
        writer.flush().map_err(failed)?;
        drop(writer);
        stop.check()?;
        whole.commit_for_artifact()
    }

    fn tar(&self, stop: &Stop, writer: &mut dyn Write) -> Result<()> {
        let mut archive = tar::Builder::new(writer);
        for (name, source) in self.contents.files() {
            self.cx.say(format!("Compressing: {name}"));
            let (path, part) = match source {
                Source::Text(text) => {
                    let mut head = header(text.len() as u64, 0o644);
                    let added = archive.append_data(&mut head, name, text.as_bytes());
                    added.map_err(|e| Error::io("archive", name, e))?;
                    continue;
                }
                Source::File(path) => (path, None),
                Source::Part { path, start, size } => (path, Some((*start, *size))),
            };
            append(&self.cx, stop, &mut archive, Path::new(name), path, part)?;
        }
        archive.finish().map_err(|e| Error::provider(format!("the archive cannot be ended: {e}")))
    }
}

#[cfg(test)]
mod tests;
