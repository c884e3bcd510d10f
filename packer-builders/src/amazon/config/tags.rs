//! Tags: a map, and blocks beside it.

use std::collections::BTreeMap;

use packer_core::config::GoTemplate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Tags by their key. Keys and values are rendered late, with what is known of the source image.
pub type Tags = BTreeMap<String, GoTemplate>;

/// A tag written as a block: `tag { key = "…" value = "…" }`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Tag {
    /// Its key.
    pub key: GoTemplate,
    /// Its value.
    pub value: GoTemplate,
}

/// A tag written as a block where the block's own names are `name` and `value`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct NamedTag {
    /// Its key.
    pub name: GoTemplate,
    /// Its value.
    pub value: GoTemplate,
}

impl Tag {
    pub(in crate::amazon) fn pair(&self) -> (&GoTemplate, &GoTemplate) {
        (&self.key, &self.value)
    }
}

impl NamedTag {
    pub(in crate::amazon) fn pair(&self) -> (&GoTemplate, &GoTemplate) {
        (&self.name, &self.value)
    }
}

/// The tags of a map and of blocks together; a block wins over the map, a later block over an earlier one.
pub(in crate::amazon) fn merged<'a>(
    map: &Tags,
    blocks: impl IntoIterator<Item = (&'a GoTemplate, &'a GoTemplate)>,
) -> Tags {
    let mut all = map.clone();
    all.extend(blocks.into_iter().map(|(key, value)| (key.as_str().to_owned(), value.clone())));
    all
}
