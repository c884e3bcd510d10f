//! What hardware an instance is on, its licenses, and its metadata service.

use packer_core::{Diagnostic, Diagnostics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which hardware an instance is on.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Placement {
    /// The ARN of a group of hosts.
    pub host_resource_group_arn: String,
    /// A dedicated host.
    pub host_id: String,
    /// With whom it is shared: `default`, `dedicated` or `host`.
    pub tenancy: String,
}

/// A license that an instance uses.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct LicenseSpecification {
    /// Which.
    pub license_configuration_request: Option<LicenseConfigurationRequest>,
}

/// Names a license.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct LicenseConfigurationRequest {
    /// The ARN of its configuration.
    pub license_configuration_arn: String,
}

/// What the metadata service of an instance is like.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct MetadataOptions {
    /// Whether it answers: `enabled`, the default, or `disabled`.
    pub http_endpoint: String,
    /// Whether who asks must have a token (version 2): `optional`, the default, or `required`.
    pub http_tokens: String,
    /// Over how many hops an answer goes, 1 to 64. Default 1.
    pub http_put_response_hop_limit: i64,
    /// Whether it tells the tags of the instance: `enabled`, or `disabled`, the default.
    pub instance_metadata_tags: String,
}

impl Placement {
    /// Checks the hardware; `tenancy` is the old place of that option.
    pub(in crate::amazon) fn check(&self, tenancy: &str, found: &mut Diagnostics) {
        let mut say = |text: String| found.push(Diagnostic::error(text));
        if !tenancy.is_empty() && !self.tenancy.is_empty() {
            say("Error: Please set only one of placement.tenancy and tenancy (deprecated)".to_owned());
        }
        let tenancy = if self.tenancy.is_empty() { tenancy } else { &self.tenancy };
        if !matches!(tenancy, "" | "default" | "dedicated" | "host") {
            say(format!("Error: Unknown tenancy type {tenancy}"));
        }
        let of_host = (!self.host_id.is_empty(), !self.host_resource_group_arn.is_empty());
        if of_host == (true, true) {
            say("The `host_id` and `host_resource_group_arn` settings cannot be specified at the same time."
                .to_owned());
        }
        if of_host != (false, false) && !matches!(tenancy, "" | "host") {
            say("The tenancy should be `host` if either the `host_id` or `host_resource_group_arn` attributes are specified."
                .to_owned());
        }
    }
}

impl MetadataOptions {
    pub(in crate::amazon) fn check(&self, found: &mut Diagnostics) {
        let mut say = |text: &str| found.push(Diagnostic::error(text));
        if !matches!(self.http_endpoint.as_str(), "" | "enabled" | "disabled") {
            say("http_endpoint requires either disabled or enabled as its value");
        }
        if !matches!(self.http_tokens.as_str(), "" | "optional" | "required") {
            say("http_tokens requires either optional or required as its value");
        }
        if !matches!(self.instance_metadata_tags.as_str(), "" | "enabled" | "disabled") {
            say("instance_metadata_tags requires either disabled or enabled as its value");
        }
        if !(0..=64).contains(&self.http_put_response_hop_limit) {
            say("http_put_response_hop_limit requires a number between 1 and 64");
        }
    }
}
