//! The post-processor `compress`: packs the artifact's files into one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
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

pub(crate) mod archive;
pub(crate) mod codec;
pub(crate) mod format;
mod parallel;

use codec::Encoder;
use format::{Codec, Format};

/// Where the archive goes unless `output` says otherwise.
const DEFAULT_OUTPUT: &str = "packer_{{.BuildName}}_{{.BuilderType}}";

/// How much is written to the disk at once.
pub(crate) const WRITE_SIZE: usize = 1 << 20;

/// Packs the artifact's files into one archive or compressed file, which is the artifact from here on.
///
/// The name of `output` decides: `.tar`, `.zip`, `.tar.gz`, `.tar.lz4`, `.tar.bgzf`, `.tar.xz`, `.tar.bzip2` are archives;
/// `.gz`, `.lz4`, `.bgzf`, `.xz`, `.bzip2` alone compress the one file there is; any other name is a `.tar.gz` by
/// whatever name.
///
/// ```
/// use packer_core::PostProcessorExt;
/// use packer_postproc::Compress;
/// let keep_both = Compress::to("out/disk.tar.gz").level(9).keep_input_artifact(true);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Compress {
    /// The path of the archive; its folders are made. May hold `{{.BuildName}}`, `{{.BuilderType}}` and what is known
    /// about the machine. Default `packer_{{.BuildName}}_{{.BuilderType}}`.
    pub output: GoTemplate,
    /// What the archive is (`tar.gz`, `zip`) where its name does not say; the name stays as it is.
    pub format: String,
    /// From 1, fast, to 9, small; more counts as 9. 0 and -1 are the codec's default: 6 for `gz` and `bgzf`, 9 for `bzip2`.
    /// `lz4` has one level here and `xz` always uses 6.
    pub compression_level: i32,
}

impl Compress {
    /// Writes to this file, whose name says what it is.
    pub fn to(output: impl Into<String>) -> Self {
        Self { output: GoTemplate::new(output), ..Self::default() }
    }

    /// Sets how hard to try, from 1 to 9.
    #[must_use]
    pub fn level(mut self, level: i32) -> Self {
        self.compression_level = level;
        self
    }

    fn output(&self) -> &str {
        if self.output.is_empty() { DEFAULT_OUTPUT } else { self.output.as_str() }
    }

    fn format(&self) -> Format {
        match self.format.is_empty() {
            true => Format::of(self.output()),
            false => Format::of(&format!("{}.{}", self.output(), self.format)),
        }
    }
}

#[async_trait]
impl PostProcessor for Compress {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        if let Some(feature) = self.format().missing_feature() {
            found.push(
                Diagnostic::error(format!("this build of the library cannot write \"{}\"", self.output()))
                    .detail(format!(
                        "The host program was built without the cargo feature \"{feature}\" of packer-postproc."
                    )),
            );
        }
        found
    }

    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
        let build = cx.build();
        let known = [("BuildName", build.name.as_str()), ("BuilderType", build.builder_type.as_str())];
        let output = render(cx, self.output(), &known)?;
        let work = Work {
            cx: cx.clone(),
            output: output.clone(),
            format: self.format(),
            level: self.compression_level.min(9),
            inputs: artifact.files,
        };
        cx.blocking(move |stop| work.run(stop)).await?;
        let made = Artifact::new("packer.post-processor.compress", "")
            .describe(format!("compressed artifacts in: {output}"))
            .file(output);
        Ok(Processed::replacing(made))
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

/// One go of the post-processor, off the async threads.
struct Work {
    cx: Context,
    output: String,
    format: Format,
    level: i32,
    inputs: Vec<PathBuf>,
}

impl Work {
    fn run(&self, stop: &Stop) -> Result<()> {
        let output = Path::new(&self.output);
        if let Some(folder) = output.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::io("mkdir", folder, e))?;
        }
        if self.inputs.iter().any(|input| same_file(input, output)) {
            return Err(Error::user(format!("The output {} is one of the files to compress", self.output)));
        }
        let mut whole = WholeFile::create(&self.cx, output, 0o666)?;
        let mut writer = BufWriter::with_capacity(WRITE_SIZE, whole.file());
        match self.format {
            Format::Zip => self.zip(&mut writer, stop)?,
            Format::Tar(None) => {
                self.cx.say(format!("Tarring {} with no compression", self.output));
                archive::tar(&self.cx, stop, &self.inputs, &mut writer)?;
            }
            Format::Tar(Some(codec)) => {
                let mut encoder = self.encoder(codec, &mut writer)?;
                self.cx.say(format!("Tarring {} with {}", self.output, codec.name()));
                archive::tar(&self.cx, stop, &self.inputs, &mut *encoder)?;
                encoder.finish().map_err(|e| self.write_error(e))?;
            }
            Format::Single(codec) => {
                let mut encoder = self.encoder(codec, &mut writer)?;
                let input = self.single_input()?;
                self.cx.say(format!("Archiving {} with {}", input.display(), codec.name()));
                copy(&self.cx, stop, input, &mut *encoder)?;
                encoder.finish().map_err(|e| self.write_error(e))?;
            }
        }
        writer.flush().map_err(|e| self.write_error(e))?;
        drop(writer);
        stop.check()?;
        whole.commit_for_artifact()?;
        self.cx.say(format!("Archive {} completed", self.output));
        Ok(())
    }

    #[cfg(feature = "compress-zip")]
    fn zip(&self, writer: &mut BufWriter<&mut File>, stop: &Stop) -> Result<()> {
        self.cx.say(format!("Zipping {}", self.output));
        archive::zip(&self.cx, stop, &self.inputs, self.level, writer)
    }

    #[cfg(not(feature = "compress-zip"))]
    fn zip(&self, _: &mut BufWriter<&mut File>, _: &Stop) -> Result<()> {
        Err(codec::not_built("compress-zip"))
    }

    fn encoder<'a>(&self, codec: Codec, writer: &'a mut (dyn Write + Send)) -> Result<Box<dyn Encoder + 'a>> {
        let cores = if codec.is_parallel() { parallel::cores() } else { 1 };
        let note =
            if matches!(codec, Codec::Bzip2 | Codec::Xz) { " (library does not support MT)" } else { "" };
        let name = codec.name();
        self.cx.say(format!("Using {name} compression with {cores} cores for {}{note}", self.output));
        codec::encoder(codec, self.level, writer)
            .map_err(|e| e.context(format!("error creating {name} writer")))
    }

    fn single_input(&self) -> Result<&Path> {
        match self.inputs.as_slice() {
            [one] => Ok(one),
            others => {
                let names: Vec<_> = others.iter().map(|path| path.display().to_string()).collect();
                Err(Error::user(format!(
                    "Can only have 1 input file when not using tar/zip. Found {} files: [{}]",
                    names.len(),
                    names.join(" ")
                )))
            }
        }
    }

    fn write_error(&self, error: io::Error) -> Error {
        Error::io("write", &self.output, error)
    }
}

/// Copies a file into a writer, telling how far it is.
fn copy(cx: &Context, stop: &Stop, input: &Path, writer: &mut dyn Write) -> Result<()> {
    let file = File::open(input).map_err(|e| Error::io("open", input, e))?;
    let size = file.metadata().ok().map(|m| m.len());
    let reader = stop.reader(file, Some(cx.progress(input.to_string_lossy(), size)));
    // `io::copy` reads 8 KiB at a time, unless the reader has a larger buffer.
    let mut reader = io::BufReader::with_capacity(256 * 1024, reader);
    io::copy(&mut reader, writer).map(drop).map_err(|e| Error::io("compress", input, e))
}

pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
