//! Filters: what among an account's things is meant.

use std::collections::BTreeMap;

use packer_core::{Diagnostic, Diagnostics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which image to start from: the one that all filters find.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct ImageFilter {
    /// What the image must be, by the names that EC2's `DescribeImages` has; several values are parted by commas.
    pub filters: BTreeMap<String, String>,
    /// Whose image it may be: numbers of accounts, `self`, `amazon`, `aws-marketplace`, `aws-backup-vault`.
    pub owners: Vec<String>,
    /// Whether the newest is taken where there are several; that is an error otherwise.
    pub most_recent: bool,
    /// Whether images that are deprecated count.
    pub include_deprecated: bool,
}

impl ImageFilter {
    /// The newest image of an owner (the number of an account, `amazon`, `self`) whose name matches.
    pub fn newest(owner: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            filters: BTreeMap::from([("name".to_owned(), name.into())]),
            owners: vec![owner.into()],
            most_recent: true,
            include_deprecated: false,
        }
    }

    /// Checks which image a builder starts from: the one of an id, or the one that a filter finds.
    pub(in crate::amazon) fn check_source(id: &str, filter: Option<&Self>, found: &mut Diagnostics) {
        if !id.is_empty() {
            return;
        }
        let none = Self::default();
        let filter = filter.unwrap_or(&none);
        if filter.filters.is_empty() && filter.owners.is_empty() {
            found.push(Diagnostic::error("A source_ami or source_ami_filter must be specified"));
        }
        if filter.owners.is_empty() {
            let text = "For security reasons, your source AMI filter must declare an owner.";
            found.push(Diagnostic::error(text));
        }
    }
}

/// A filter written as a block.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct NameValue {
    /// The name that EC2 has for it.
    pub name: String,
    /// The value; several are parted by commas.
    pub value: String,
}

/// Something with a key and a value, written as a block.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Which security groups the instance is in: all that the filters find.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct SecurityGroupFilter {
    /// What a group must be, by the names that EC2's `DescribeSecurityGroups` has; several values are parted by commas.
    pub filters: BTreeMap<String, String>,
    /// The same as blocks.
    pub filter: Vec<NameValue>,
}

/// Which VPC the instance is in: the only one that the filters find.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct VpcFilter {
    /// What the VPC must be, by the names that EC2's `DescribeVpcs` has; several values are parted by commas.
    pub filters: BTreeMap<String, String>,
    /// The same as blocks.
    pub filter: Vec<NameValue>,
}

/// Which subnet the instance is in: one of those that the filters find.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct SubnetFilter {
    /// What the subnet must be, by the names that EC2's `DescribeSubnets` has; several values are parted by commas.
    pub filters: BTreeMap<String, String>,
    /// The same as blocks.
    pub filter: Vec<NameValue>,
    /// Whether the one with most free addresses is taken where there are several.
    pub most_free: bool,
    /// Whether any of them is taken.
    pub random: bool,
}
