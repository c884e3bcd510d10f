//! A policy of IAM, as a block with the names that AWS has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a role may do.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
#[non_exhaustive]
pub struct PolicyDocument {
    /// The version of the language. Default none, which AWS takes for its first.
    pub version: String,
    /// What it may do and what not.
    pub statement: Vec<Statement>,
}

/// A part of a policy.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
#[non_exhaustive]
pub struct Statement {
    /// `Allow` or `Deny`.
    pub effect: String,
    /// What is done, as `s3:*`.
    pub action: Vec<String>,
    /// With what: ARNs, or `*`.
    pub resource: Vec<String>,
}
