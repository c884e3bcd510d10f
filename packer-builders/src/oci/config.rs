//! The configuration document of an image. What is not known here (health checks, what other tools added) stays as the
//! base has it.

use std::collections::BTreeMap;

use packer_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ImageConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) author: String,
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) variant: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) config: RunConfig,
    pub(super) rootfs: RootFs,
    #[serde(deserialize_with = "or_default")]
    pub(super) history: Vec<History>,
    #[serde(flatten)]
    pub(super) other: BTreeMap<String, Value>,
}

/// How containers run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct RunConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) user: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) exposed_ports: BTreeMap<String, Map<String, Value>>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cmd: Option<Vec<String>>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) volumes: BTreeMap<String, Map<String, Value>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) working_dir: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) stop_signal: String,
    #[serde(flatten)]
    pub(super) other: BTreeMap<String, Value>,
}

/// The layers, lowest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) diff_ids: Vec<String>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// Where a layer, or a change of the configuration, comes from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct History {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) created_by: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) empty_layer: bool,
    #[serde(flatten)]
    pub(super) other: BTreeMap<String, Value>,
}

/// Go writes `null` for what is empty.
pub(super) fn or_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

impl ImageConfig {
    pub(super) fn parse(bytes: &[u8], place: &str) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|e| Error::user(format!("{place}: this is no configuration of an image: {e}")))
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        canonical(self)
    }
}

impl RunConfig {
    /// The value of a variable.
    pub(super) fn env(&self, name: &str) -> Option<&str> {
        self.env.iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// Sets a variable; one that is there stays in its place.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let pair = format!("{name}={value}");
        let same = |old: &&mut String| old.split('=').next() == Some(name);
        match self.env.iter_mut().find(same) {
            Some(old) => *old = pair,
            None => self.env.push(pair),
        }
    }

    /// Says that a port is listened on: `80` is `80/tcp`.
    pub(super) fn expose(&mut self, port: &str) {
        let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
        self.exposed_ports.insert(port.to_lowercase(), Map::new());
    }
}

/// JSON whose bytes depend on nothing but the value: names sorted, nothing between.
pub(super) fn canonical(value: &impl Serialize) -> Result<Vec<u8>> {
    let failed = |e| Error::internal(format!("a JSON document: {e}"));
    let mut value = serde_json::to_value(value).map_err(failed)?;
    value.sort_all_objects();
    serde_json::to_vec(&value).map_err(failed)
}
