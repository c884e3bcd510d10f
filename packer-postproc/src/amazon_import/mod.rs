//! The post-processor `amazon-import`: a machine's image that was made elsewhere becomes an image of Amazon's EC2.

mod resources;
mod steps;
mod task;

use std::collections::BTreeMap;

use packer_core::aws::AccessConfig;
use packer_core::config::{self, GoTemplate};
use packer_core::{
    Artifact, Context, Diagnostic, Diagnostics, PostProcessor, PrepareContext, Processed, Resource, Result,
    Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Puts an artifact's file into S3 and has EC2 make an image of it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct AmazonImport {
    /// The bucket of S3 that the file goes through. Required.
    pub s3_bucket_name: String,
    /// Its name there. Known is what is known of the build. Default `packer-import-{{timestamp}}.` and the format.
    pub s3_key_name: GoTemplate,
    /// How it is encrypted there: `AES256` or `aws:kms`. Default what the bucket says.
    pub s3_encryption: String,
    /// The key for `aws:kms`. Default the account's own.
    pub s3_encryption_key: String,
    /// Whether it stays there.
    pub skip_clean: bool,
    /// The form of the file: `ova`, the default, `raw`, `vmdk`, `vhd` or `vhdx`. The first file of the artifact with that ending
    /// is taken.
    pub format: String,
    /// The processors that the image is for: `x86_64`, the default, or `arm64`.
    pub architecture: String,
    /// How it boots: `legacy-bios`, the default, or `uefi`, which is the default for `arm64`.
    pub boot_mode: String,
    /// What is in it: `linux` or `windows`. Needed where it boots by UEFI.
    pub platform: String,
    /// The license of it: `AWS`, or `BYOL` for one of your own.
    pub license_type: String,
    /// The role that EC2 imports it with. Default `vmimport`.
    pub role_name: String,
    /// The name of the image. Default one that EC2 makes.
    pub ami_name: String,
    /// Its description.
    pub ami_description: String,
    /// Its tags, and those of its snapshots.
    pub tags: BTreeMap<String, String>,
    /// Accounts that may start instances of it.
    pub ami_users: Vec<String>,
    /// Groups that may: `all` makes it public.
    pub ami_groups: Vec<String>,
    /// ARNs of organizations that may.
    pub ami_org_arns: Vec<String>,
    /// ARNs of organizational units that may.
    pub ami_ou_arns: Vec<String>,
    /// Whether it is encrypted.
    pub ami_encrypt: bool,
    /// The key for that. Default the account's own for EBS.
    pub ami_kms_key: String,
    /// `v2.0`: instances of it only answer version 2 of the metadata service.
    pub imds_support: String,

    /// Who asks, and where.
    #[serde(flatten)]
    pub access: AccessConfig,
}

impl AmazonImport {
    /// Goes through this bucket of S3.
    pub fn through(bucket: impl Into<String>) -> Self {
        Self { s3_bucket_name: bucket.into(), ..Self::default() }
    }

    /// Sets the region.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.access.region = region.into();
        self
    }

    /// Sets the form of the file, as `vmdk`.
    #[must_use]
    pub fn format(mut self, format: impl Into<String>) -> Self {
        self.format = format.into();
        self
    }

    /// Sets the name of the image.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.ami_name = name.into();
        self
    }

    fn file_format(&self) -> &str {
        if self.format.is_empty() { "ova" } else { &self.format }
    }

    fn processors(&self) -> &str {
        if self.architecture.is_empty() { "x86_64" } else { &self.architecture }
    }

    /// How the image boots.
    fn boots_by(&self) -> &str {
        match (self.boot_mode.as_str(), self.processors()) {
            ("", "arm64") => "uefi",
            ("", _) => "legacy-bios",
            (mode, _) => mode,
        }
    }
}

#[async_trait]
impl PostProcessor for AmazonImport {
    fn prepare(&self, cx: &PrepareContext) -> Diagnostics {
        let mut found = self.access.check(cx);
        let mut say = |text: String| found.push(Diagnostic::error(text));
        if self.s3_bucket_name.is_empty() {
            say("s3_bucket_name must be set".to_owned());
        }
        let format = self.file_format();
        if !["ova", "raw", "vmdk", "vhd", "vhdx"].contains(&format) {
            say(format!(
                "invalid format '{format}'. Only 'ova', 'raw', 'vmdk', 'vhd', or 'vhdx' are allowed"
            ));
        }
        if !matches!(self.s3_encryption.as_str(), "" | "AES256" | "aws:kms") {
            say(format!(
                "invalid s3 encryption format '{}'. Only 'AES256' and 'aws:kms' are allowed",
                self.s3_encryption
            ));
        }
        if !matches!(self.imds_support.as_str(), "" | "v2.0") {
            say("The only valid imds_support values are \"v2.0\" or the empty string".to_owned());
        }
        let architecture = self.processors();
        if !matches!(architecture, "x86_64" | "arm64") {
            say(format!("invalid architecture '{architecture}'. Only 'x86_64' and 'arm64' are allowed"));
        }
        let mode = self.boots_by();
        if !matches!(mode, "uefi" | "legacy-bios") {
            say(format!("invalid boot mode '{mode}'. Only 'uefi' and 'legacy-bios' are allowed"));
        }
        if mode == "legacy-bios" && architecture == "arm64" {
            say("invalid boot mode 'legacy-bios' for 'arm64' architecture".to_owned());
        }
        match self.platform.as_str() {
            "linux" | "windows" => {}
            "" if mode == "uefi" => {
                say("invalid platform '', 'platform' must be set for 'uefi' image imports".to_owned());
            }
            "" => {}
            other => say(format!("invalid platform '{other}'. Only 'linux' and 'windows' are allowed")),
        }
        found
    }

    async fn post_process(&self, cx: &Context, artifact: Artifact) -> Result<Processed> {
        let imported = Box::pin(steps::import(self, cx, &artifact)).await?;
        Ok(Processed::replacing(imported))
    }

    async fn release(&self, cx: &Context, resource: &Resource) -> Result<()> {
        Box::pin(resources::release(cx, &self.access, resource)).await
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

#[cfg(test)]
mod tests {
    use packer_core::testing::Bench;

    use super::*;

    #[test]
    fn what_ec2_does_not_import_is_refused() {
        let said = |import: AmazonImport| {
            let found = import.prepare(Bench::new().prepare_context());
            found.iter().map(|d| d.summary.clone()).collect::<Vec<_>>()
        };
        let least = || AmazonImport::through("bucket").region("eu-west-1").format("vmdk").name("web");
        assert_eq!(said(least()), [""; 0]);
        assert_eq!(
            said(least().format("qcow2")),
            ["invalid format 'qcow2'. Only 'ova', 'raw', 'vmdk', 'vhd', or 'vhdx' are allowed"]
        );
        let of = |architecture: &str, boot_mode: &str, platform: &str| {
            let (architecture, boot_mode, platform) =
                (architecture.into(), boot_mode.into(), platform.into());
            said(AmazonImport { architecture, boot_mode, platform, ..least() })
        };
        assert_eq!(of("x86_64", "legacy-bios", ""), [""; 0]);
        assert_eq!(of("", "uefi", "windows"), [""; 0]);
        assert_eq!(
            of("i386", "", ""),
            ["invalid architecture 'i386'. Only 'x86_64' and 'arm64' are allowed"]
        );
        // It boots by UEFI without being told.
        let text = "invalid platform '', 'platform' must be set for 'uefi' image imports";
        assert_eq!(of("arm64", "", ""), [text]);
    }
}
