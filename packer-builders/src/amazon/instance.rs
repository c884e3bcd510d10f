//! The builder `amazon-instance`: an image of an instance store, bundled in the instance and kept in S3.

mod machine;

use std::borrow::Cow;
use std::path::Path;

use packer_core::aws::AccessConfig;
use packer_core::config::{self, GoTemplate};
use packer_core::error::os_text;
use packer_core::{
    Builder, Context, Diagnostic, Diagnostics, Machine, PrepareContext, Prepared, Resource, Result, Value,
    async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::machine::Bundling;
use super::config::ami::AmiConfig;
use super::config::device::BlockDevice;
use super::config::registered;
use super::config::run::RunConfig;
use super::config::tags::Tags;
use super::launch::{Wanted, launch};
use super::resources;

/// Starts an instance of EC2 that runs from its instance store, and has it bundle itself as an image. The tools for it
/// (`ec2-bundle-vol`, `ec2-upload-bundle`) must be in the instance.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct AmazonInstance {
    /// The number of the account. Required.
    pub account_id: String,
    /// The bucket of S3 for the bundle, and the folder in it. Required.
    pub s3_bucket: String,
    /// The file of the certificate that the bundle is signed with. Required.
    pub x509_cert_path: String,
    /// The file of its key. Required.
    pub x509_key_path: String,
    /// The folder of the instance that both are put into. Default `/tmp`.
    pub x509_upload_path: String,
    /// The folder of the instance for the bundle. Default `/tmp`.
    pub bundle_destination: String,
    /// The name that the bundle's files begin with. Default `image-{{timestamp}}`.
    pub bundle_prefix: String,
    /// The command that makes the bundle. `{{.AccountId}}`, `{{.Architecture}}`, `{{.CertPath}}`, `{{.Destination}}`,
    /// `{{.KeyPath}}`, `{{.Prefix}}` and `{{.PrivatePath}}` are known. Default one with `ec2-bundle-vol`.
    pub bundle_vol_command: GoTemplate,
    /// The command that uploads it. `{{.AccessKey}}`, `{{.SecretKey}}`, `{{.Token}}`, `{{.BucketName}}`, `{{.BundleDirectory}}`,
    /// `{{.ManifestPath}}` and `{{.Region}}` are known. Default one with `ec2-upload-bundle`.
    pub bundle_upload_command: GoTemplate,
    /// Block devices of the image, beside those that the instance has or instead of them.
    pub ami_block_device_mappings: Vec<BlockDevice>,
    /// Block devices of the instance, beside those of the source image or instead of them.
    pub launch_block_device_mappings: Vec<BlockDevice>,
    /// `v2.0`: the image has a TPM.
    pub tpm_support: String,

    /// Who asks, and where.
    #[serde(flatten)]
    pub access: AccessConfig,
    /// The instance.
    #[serde(flatten)]
    pub run: RunConfig,
    /// The image.
    #[serde(flatten)]
    pub ami: AmiConfig,
}

impl AmazonInstance {
    async fn check(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        let mut found = super::check_access(&self.access, cx).await;
        self.ami.check(&self.access.region, &mut found);
        for device in self.ami_block_device_mappings.iter().chain(&self.launch_block_device_mappings) {
            device.check(&mut found);
        }
        self.run.check(cx, &mut found);
        for (name, value) in [("account_id", &self.account_id), ("s3_bucket", &self.s3_bucket)] {
            if value.is_empty() {
                found.push(Diagnostic::error(format!("{name} is required")));
            }
        }
        for (name, path) in [("x509_cert_path", &self.x509_cert_path), ("x509_key_path", &self.x509_key_path)]
        {
            if path.is_empty() {
                found.push(Diagnostic::error(format!("{name} is required")));
            } else if let Err(e) = Path::new(path).metadata() {
                let why = os_text(&e);
                found.push(Diagnostic::error(format!("{name} points to bad file: stat {path}: {why}")));
            }
        }
        registered::check_tpm(&self.tpm_support, &mut found);
        let modified =
            self.ami.ena_support == Some(true) || self.ami.sriov_support || self.run.enable_nitro_enclave;
        if self.run.is_spot() && modified {
            super::refuse_spot("`ena_support`, `sriov_support`, or `enable_nitro_enclave`", &mut found);
        }
        super::prepared(&self.run, found)
    }
}

#[async_trait]
impl Builder for AmazonInstance {
    async fn prepare(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Box::pin(self.check(cx)).await
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        let wanted = Wanted {
            access: &self.access,
            run: &self.run,
            ami: Some(&self.ami),
            creates_image: true,
            enhanced: self.ami.is_enhanced(),
            is_ebs: false,
            tells_volumes: false,
            devices: &self.launch_block_device_mappings,
            no_ephemeral: false,
            volume_tags: Tags::new(),
        };
        let launched = Box::pin(launch(cx, &wanted, async |_, _, _| Ok(()))).await?;
        Ok(Box::new(Bundling { builder: self.clone(), launched }))
    }

    async fn release(&self, cx: &Context, resource: &Resource) -> Result<()> {
        Box::pin(resources::release(cx, &self.access, resource)).await
    }

    fn capture_arguments(&self) -> &'static [&'static str] {
        &super::CAPTURED
    }

    fn variables(&self) -> Vec<Cow<'static, str>> {
        super::VARIABLES.iter().copied().map(Cow::Borrowed).collect()
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}
