//! Windows images that start faster, because EC2 has prepared instances of them.

use std::collections::BTreeSet;

use packer_core::{Diagnostic, Diagnostics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether and how instances of a Windows image are prepared.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct FastLaunch {
    /// Whether they are, in all regions. A template below says so too.
    pub enable_fast_launch: bool,
    /// The id of the launch template that EC2 makes them with in the build's region.
    pub template_id: String,
    /// The name of it.
    pub template_name: String,
    /// Its version. Default the newest.
    pub template_version: i64,
    /// The same for other regions.
    pub region_launch_templates: Vec<RegionLaunchTemplate>,
    /// How many are prepared at a time, at least 6. Default 6.
    pub max_parallel_launches: i64,
    /// How many are kept ready. Default 5.
    pub target_resource_count: i64,
}

/// The launch template of a region.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct RegionLaunchTemplate {
    /// The region. Required.
    pub region: String,
    /// Whether instances are prepared there. Default `true`.
    pub enable_fast_launch: Option<bool>,
    /// The id of the launch template.
    pub template_id: String,
    /// The name of it.
    pub template_name: String,
    /// Its version. Default the newest.
    pub template_version: i64,
}

impl FastLaunch {
    /// The launch templates of all regions; the one without a region is the build's own.
    pub(in crate::amazon) fn templates(&self, build_region: &str) -> Vec<RegionLaunchTemplate> {
        let mut templates = self.region_launch_templates.clone();
        if !self.template_id.is_empty() || !self.template_name.is_empty() || self.template_version != 0 {
            templates.push(RegionLaunchTemplate {
                region: build_region.to_owned(),
                enable_fast_launch: None,
                template_id: self.template_id.clone(),
                template_name: self.template_name.clone(),
                template_version: self.template_version,
            });
        }
        templates
    }

    /// Checks the templates. Which regions the image comes to is only known where the build's region is given.
    pub(in crate::amazon) fn check(&self, build_region: &str, copies: &[String], found: &mut Diagnostics) {
        let mut say = |text: String| found.push(Diagnostic::error(text));
        if self.max_parallel_launches != 0 && self.max_parallel_launches < 6 {
            say(format!(
                "max_parallel_launches must be >= 6, provided value is {}",
                self.max_parallel_launches
            ));
        }
        if self.target_resource_count < 0 {
            say(format!(
                "target_resource_count must be >= 1, provided value is {}",
                self.target_resource_count
            ));
        }
        let mut seen = BTreeSet::new();
        for (i, template) in self.templates(build_region).iter().enumerate() {
            let region = &template.region;
            let is_regional = i < self.region_launch_templates.len();
            if is_regional && region.is_empty() {
                say("region cannot be empty for a regional fast template config".to_owned());
            }
            if !seen.insert(region.clone()) {
                say(format!(
                    "fast launch: launch template specified twice for region {region:?}, only once is supported"
                ));
            }
            if template.enable_fast_launch == Some(false) {
                continue;
            }
            let mut wrong =
                |text: String| say(format!("fast_launch_template_config region {region:?}: {text}"));
            if !template.template_id.is_empty() && !template.template_name.is_empty() {
                wrong("both template ID and name cannot be specified at the same time".to_owned());
            }
            if template.template_version < 0 {
                wrong(format!(
                    "the launch template version must be >= 1, provided value is {}",
                    template.template_version
                ));
            }
            let is_reached = build_region.is_empty() && !region.is_empty() || region == build_region;
            if is_regional && !is_reached && !copies.contains(region) {
                say(format!(
                    "Launch template specified for enabling fast-launch on region {region:?}, but the AMI won't be copied there."
                ));
            }
        }
    }
}
