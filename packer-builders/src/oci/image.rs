//! A finished image: its documents and where the bytes of its layers are; and what is read of other people's.

use std::collections::BTreeMap;

use packer_core::{Error, Result};

use super::config::{ImageConfig, canonical};
use super::documents::{CONFIG, Descriptor, Index, LAYER, MANIFEST, Manifest};
use super::layer::{Compression, Layer, digest_of, is_digest};

/// An image that is ready to be written anywhere.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) config: Vec<u8>,
    pub(super) config_digest: String,
    pub(super) manifest: Vec<u8>,
    /// The digest of the manifest: what the image is called for good.
    pub(super) digest: String,
    pub(super) layers: Vec<Layer>,
    /// From which repository of which registry the first layers came, and how many: these need not be sent there again.
    pub(super) from: Option<(String, String, usize)>,
    /// The time of what is written, in seconds since 1970.
    pub(super) time: i64,
}

impl Image {
    pub(super) fn new(config: &ImageConfig, layers: Vec<Layer>, time: i64) -> Result<Self> {
        let config = config.to_bytes()?;
        let config_digest = digest_of(&config);
        let layer = |layer: &Layer| Descriptor::new(layer_type(layer.compression), &layer.digest, layer.size);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            config: Descriptor::new(CONFIG, &config_digest, config.len() as u64),
            layers: layers.iter().map(layer).collect(),
            other: BTreeMap::new(),
        };
        let manifest = canonical(&manifest)?;
        let digest = digest_of(&manifest);
        Ok(Self { config, config_digest, manifest, digest, layers, from: None, time })
    }

    /// What an index says of it.
    pub(super) fn descriptor(&self) -> Descriptor {
        Descriptor::new(MANIFEST, &self.digest, self.manifest.len() as u64)
    }
}

fn layer_type(compression: Compression) -> String {
    match compression {
        Compression::Gzip => format!("{LAYER}+gzip"),
        Compression::Zstd => format!("{LAYER}+zstd"),
        Compression::None => LAYER.to_owned(),
    }
}

/// The platform of an image: `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
    pub(super) variant: String,
}

impl Platform {
    /// An empty text is this computer's.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            let (architecture, variant) = own_architecture();
            return Ok(Self {
                os: "linux".to_owned(),
                architecture: architecture.into(),
                variant: variant.into(),
            });
        }
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] if !variant.is_empty() => (os, architecture, variant),
            _ => ("", "", ""),
        };
        if os.is_empty() || architecture.is_empty() {
            return Err(Error::user(format!(
                "platform: {text:?} is not OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT"
            )));
        }
        Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() })
    }
}

/// This computer's architecture as images name it.
fn own_architecture() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "x86" => ("386", ""),
        "aarch64" => ("arm64", ""),
        "arm" => ("arm", "v7"),
        "powerpc64" => ("ppc64le", ""),
        "loongarch64" => ("loong64", ""),
        other => (other, ""),
    }
}

/// What a document turned out to be.
#[derive(Debug)]
pub(super) enum Document {
    Manifest(Box<Manifest>),
    /// The digest of the image for the platform.
    Index(String),
}

/// Understands a manifest, or finds the right one in an index.
pub(super) fn understand(bytes: &[u8], place: &str, platform: &Platform) -> Result<Document> {
    let wrong = |e: String| Error::user(format!("{place}: this is no manifest of an image: {e}"));
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
    if value.get("manifests").is_some() {
        let index: Index = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
        return Ok(Document::Index(pick(&index.manifests, place, platform)?.digest.clone()));
    }
    if value.get("schemaVersion").and_then(serde_json::Value::as_u64) == Some(1) {
        return Err(wrong("it is of the first version, which is out of use".into()));
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        checked(blob, place)?;
    }
    Ok(Document::Manifest(Box::new(manifest)))
}

/// The one image for a platform; where only one is there it may be for any.
pub(super) fn pick<'a>(images: &'a [Descriptor], place: &str, platform: &Platform) -> Result<&'a Descriptor> {
    let fits = |image: &&Descriptor| {
        image.platform.as_ref().is_some_and(|p| {
            let variant = p.variant.as_deref().unwrap_or_default();
            p.os == platform.os
                && p.architecture == platform.architecture
                && (platform.variant.is_empty() || variant.is_empty() || variant == platform.variant)
        })
    };
    let found = images.iter().find(fits).or(match images {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    });
    let Platform { os, architecture, .. } = platform;
    let found = found.ok_or_else(|| Error::user(format!("{place} has no image for {os}/{architecture}")))?;
    checked(found, place)?;
    Ok(found)
}

/// Refuses digests of kinds that are not understood: what is not a digest could be a path.
pub(super) fn checked(blob: &Descriptor, place: &str) -> Result<()> {
    if is_digest(&blob.digest) {
        return Ok(());
    }
    Err(Error::user(format!("{place}: {:?} is no sha256 digest", blob.digest)))
}
