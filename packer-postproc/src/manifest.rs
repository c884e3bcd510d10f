//! The post-processor `manifest`: keeps a JSON list of what builds made.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use packer_core::kit::render;
use packer_core::{
    Artifact, Context, Error, PostProcessor, Processed, Result, Value, WholeFile, async_trait, config,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// Where the list goes unless `output` says otherwise.
const DEFAULT_OUTPUT: &str = "packer-manifest.json";

/// How long a lock may stand unchanged before it counts as left behind.
const OLD_LOCK: Duration = Duration::from_millis(600);

/// Adds an entry for the artifact to a JSON file and hands the artifact on.
///
/// Entries of earlier runs stay; with `-force` only those of the same run do.
///
/// ```
/// use packer_postproc::Manifest;
/// let manifest = Manifest::to("out/manifest.json").custom_data("rev", "abc");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Manifest {
    /// The path of the JSON file; its folder must exist. Default `packer-manifest.json`.
    pub output: String,
    /// Lists files by their names alone, without folders.
    pub strip_path: bool,
    /// Leaves out when the build was made.
    pub strip_time: bool,
    /// Anything else to write into the entry. Values may hold `{{ … }}`, rendered with what is known about the
    /// machine.
    pub custom_data: BTreeMap<String, String>,
}

impl Manifest {
    /// Writes to this file.
    pub fn to(output: impl Into<String>) -> Self {
        Self { output: output.into(), ..Self::default() }
    }

    /// Adds a value to the entry.
    #[must_use]
    pub fn custom_data(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.custom_data.insert(name.into(), value.into());
        self
    }

    fn entry(&self, cx: &Context, artifact: &Artifact) -> Result<Entry> {
        let files = artifact.files.iter().map(|path| {
            let name = match path.file_name() {
                Some(name) if self.strip_path => Path::new(name),
                _ => path,
            };
            File {
                name: name.to_string_lossy().into_owned(),
                // A file that is gone by now is no reason to lose the entry.
                size: fs::metadata(path).map_or(0, |m| i64::try_from(m.len()).unwrap_or(i64::MAX)),
            }
        });
        let custom_data = self.custom_data.iter().map(|(k, v)| Ok((k.clone(), render(cx, v, &[])?)));
        Ok(Entry {
            name: cx.build().name.clone(),
            builder_type: cx.build().builder_type.clone(),
            build_time: if self.strip_time { 0 } else { cx.clock().now().as_second() },
            files: Some(files.collect::<Vec<_>>()).filter(|files| !files.is_empty()),
            artifact_id: artifact.id.clone(),
            packer_run_uuid: cx.run_id().to_owned(),
            custom_data: Some(custom_data.collect::<Result<BTreeMap<_, _>>>()?).filter(|c| !c.is_empty()),
        })
    }
}

#[async_trait]
impl PostProcessor for Manifest {
    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
        let output = if self.output.is_empty() { DEFAULT_OUTPUT } else { &self.output };
        let _lock = Lock::take(cx, output).await?;
        let (this, inner, output) = (self.clone(), cx.clone(), output.to_owned());
        let artifact = cx
            .blocking(move |_| {
                let mut document = Document::read(&output)?;
                if inner.build().force && document.last_run_uuid != inner.run_id() {
                    document.builds = None;
                }
                document.builds.get_or_insert_default().push(this.entry(&inner, &artifact)?);
                document.last_run_uuid = inner.run_id().to_owned();
                document.write(&inner, &output)?;
                Ok(artifact)
            })
            .await?;
        Ok(Processed::needing_input(artifact))
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

/// The file. The order of fields is the order of keys.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Document {
    #[serde(deserialize_with = "null_is_default")]
    builds: Option<Vec<Entry>>,
    #[serde(deserialize_with = "null_is_default")]
    last_run_uuid: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Entry {
    #[serde(deserialize_with = "null_is_default")]
    name: String,
    #[serde(deserialize_with = "null_is_default")]
    builder_type: String,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_zero")]
    build_time: i64,
    files: Option<Vec<File>>,
    #[serde(deserialize_with = "null_is_default")]
    artifact_id: String,
    #[serde(deserialize_with = "null_is_default")]
    packer_run_uuid: String,
    custom_data: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct File {
    #[serde(deserialize_with = "null_is_default")]
    name: String,
    #[serde(deserialize_with = "null_is_default")]
    size: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

impl Document {
    fn read(path: &str) -> Result<Self> {
        let text = match fs::read(path) {
            Ok(text) if text.is_empty() => return Ok(Self::default()),
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => {
                return Err(Error::io("open", path, e).context(format!("Unable to open {path} for reading")));
            }
        };
        serde_json::from_slice(&text)
            .map_err(|e| Error::user(format!("Unable to parse content from {path}: {e}")))
    }

    fn write(&self, cx: &Context, path: &str) -> Result<()> {
        let fail = |e: Error| e.context(format!("Unable to write {path}"));
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::internal(e.to_string()))?;
        let mut file = WholeFile::create(cx, path, 0o664).map_err(fail)?;
        file.write_all(escape_html(&text).as_bytes()).map_err(|e| fail(Error::io("write", path, e)))?;
        file.commit().map_err(fail)
    }
}

/// Escapes what existing manifests have escaped: characters that HTML or JavaScript around the document would misread.
/// They can stand inside of JSON strings only.
fn escape_html(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out
}

/// The lock beside a manifest that several builds and processes may write: a file of which there can be only one.
struct Lock(PathBuf);

impl Lock {
    /// Waits for whoever has it. A lock that nobody takes or gives back for a while was left behind, and must not
    /// stop builds.
    async fn take(cx: &Context, output: &str) -> Result<Self> {
        let path = PathBuf::from(format!("{output}.lock"));
        let mut seen = None;
        let mut since = Instant::now();
        loop {
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // Where no lock can be made, writing the manifest itself tells why.
                _ => return Ok(Self(path)),
            }
            let now = fs::metadata(&path).and_then(|m| m.modified()).ok();
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > OLD_LOCK {
                return Ok(Self(path));
            }
            cx.sleep(Duration::from_millis(20)).await?;
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whether it was ours or an old one: a next run shall not wait for it.
        let _ = fs::remove_file(&self.0);
    }
}
