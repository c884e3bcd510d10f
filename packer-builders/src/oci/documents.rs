//! The documents that say what an image consists of, as the image specification of the Open Container Initiative has them.
//! What is not known here stays as it was read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::or_default;

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The images of a layout, or one image for several platforms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub(super) schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) media_type: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) manifests: Vec<Descriptor>,
    #[serde(flatten)]
    pub(super) other: BTreeMap<String, Value>,
}

impl Index {
    pub(super) fn of(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: Some(INDEX.to_owned()), manifests, other: BTreeMap::new() }
    }
}

/// What one image consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) media_type: Option<String>,
    pub(super) config: Descriptor,
    #[serde(deserialize_with = "or_default")]
    pub(super) layers: Vec<Descriptor>,
    #[serde(flatten)]
    pub(super) other: BTreeMap<String, Value>,
}

/// Names a document or a layer by its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    /// Read as it is: see [`checked`](super::image::checked).
    pub(super) digest: String,
    /// In bytes.
    pub(super) size: u64,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<PlatformOf>,
    #[serde(flatten)]
    pub(super) other: BTreeMap<String, Value>,
}

impl Descriptor {
    pub(super) fn new(media_type: impl Into<String>, digest: &str, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest: digest.to_owned(),
            size,
            annotations: BTreeMap::new(),
            platform: None,
            other: BTreeMap::new(),
        }
    }
}

/// The platform that an image of an index is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PlatformOf {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) variant: Option<String>,
    #[serde(flatten)]
    pub(super) other: BTreeMap<String, Value>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::config::canonical;
    use super::*;

    #[test]
    fn what_is_not_known_stays() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let descriptor = json!({
            "annotations": {"a": "b"}, "artifactType": "x/y", "digest": digest, "mediaType": MANIFEST,
            "platform": {"architecture": "arm64", "os": "linux", "os.features": ["z"], "variant": "v8"},
            "size": 9_007_199_254_740_993_u64, "urls": ["https://example.com"],
        });
        let index =
            json!({"annotations": {}, "manifests": [descriptor], "schemaVersion": 2, "subject": {"a": 1}});
        let read: Index = serde_json::from_value(index.clone()).unwrap();
        assert_eq!(read.manifests[0].platform.as_ref().unwrap().variant.as_deref(), Some("v8"));
        assert_eq!(canonical(&read).unwrap(), canonical(&index).unwrap());
        let manifest =
            json!({"config": descriptor, "layers": [descriptor], "mediaType": MANIFEST, "schemaVersion": 2});
        let read: Manifest = serde_json::from_value(manifest.clone()).unwrap();
        assert_eq!(canonical(&read).unwrap(), canonical(&manifest).unwrap());
    }

    #[test]
    fn lists_that_are_null_are_empty_and_sizes_below_nothing_are_wrong() {
        let index: Index = serde_json::from_value(json!({"schemaVersion": 2, "manifests": null})).unwrap();
        assert!(index.manifests.is_empty());
        let negative = json!({"mediaType": LAYER, "digest": "sha256:x", "size": -1});
        assert!(serde_json::from_value::<Descriptor>(negative).is_err());
    }
}
