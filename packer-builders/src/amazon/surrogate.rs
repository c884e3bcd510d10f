//! The builder `amazon-ebssurrogate`: an image of a further volume of an instance, not of the one that it runs from.

mod machine;

use std::borrow::Cow;

use packer_core::aws::AccessConfig;
use packer_core::config;
use packer_core::{
    Builder, Context, Diagnostic, Diagnostics, Machine, PrepareContext, Prepared, Resource, Result, Value,
    async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::machine::Surrogate;
use super::config::ami::AmiConfig;
use super::config::device::BlockDevice;
use super::config::registered;
use super::config::run::RunConfig;
use super::config::tags::{self, NamedTag, Tags};
use super::launch::{Wanted, launch};
use super::resources;

/// Starts an instance of EC2 with further volumes that it fills, and makes an image of one of these.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct AmazonEbsSurrogate {
    /// Block devices of the image, beside those of the instance.
    pub ami_block_device_mappings: Vec<BlockDevice>,
    /// Block devices of the instance. One of them becomes the root device of the image.
    pub launch_block_device_mappings: Vec<SurrogateDevice>,
    /// Which, and what it is in the image. Required.
    pub ami_root_device: Option<RootDevice>,
    /// Tags of the instance's volumes, which do not get `run_tags` where there are any.
    pub run_volume_tags: Tags,
    /// The same as blocks.
    pub run_volume_tag: Vec<NamedTag>,
    /// The processors that the image is for: `x86_64`, the default, `arm64`, `i386`, `x86_64_mac` or `arm64_mac`.
    pub ami_architecture: String,
    /// How the image boots: `legacy-bios`, `uefi` or `uefi-preferred`. Default what EC2 takes for its architecture.
    pub boot_mode: String,
    /// The variables of its UEFI, as EC2 gives and takes them. Needs `boot_mode = "uefi"` unless it is of `arm64`.
    pub uefi_data: String,
    /// `v2.0`: the image has a TPM.
    pub tpm_support: String,
    /// The description of the snapshots. Default `Packer: ` and the time.
    pub snapshot_description: String,
    /// Whether EC2 makes the image of the instance, with the volume in the place of the one that it ran from. Snapshots of the
    /// volumes are registered as an image otherwise.
    pub use_create_image: bool,

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

/// A block device of the instance, which may be one of the image.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct SurrogateDevice {
    /// Whether it is none of the image.
    pub omit_from_artifact: bool,
    /// What it is.
    #[serde(flatten)]
    pub device: BlockDevice,
}

/// The root device of the image. Beside its name it is what the instance's device is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct RootDevice {
    /// The name of the instance's device that it is made of. Required.
    pub source_device_name: String,
    /// Its name in the image, as `/dev/xvda`. Required.
    pub device_name: String,
    /// With `use_create_image`, whether its volume goes when the instance does that it is put on.
    pub delete_on_termination: bool,
    /// Known for templates that have it; the image has what the instance's device has. Not for `gp2`.
    pub iops: i64,
    /// Known for templates that have it; the image has what the instance's device is.
    pub volume_type: String,
    /// Known for templates that have it; the image has the size of the instance's device.
    pub volume_size: i64,
}

impl AmazonEbsSurrogate {
    async fn check(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        let mut found = super::check_access(&self.access, cx).await;
        self.run.check(cx, &mut found);
        self.ami.check(&self.access.region, &mut found);
        for device in &self.ami_block_device_mappings {
            device.check(&mut found);
        }
        for launched in &self.launch_block_device_mappings {
            launched.device.check(&mut found);
        }
        let root = self.ami_root_device.clone().unwrap_or_default();
        root.check(&mut found);
        let source = &root.source_device_name;
        match self.launch_block_device_mappings.iter().find(|launched| launched.device.device_name == *source)
        {
            None => found.push(Diagnostic::error(format!("no volume with name '{source}' is found"))),
            Some(launched) if launched.omit_from_artifact => found.push(Diagnostic::error(format!(
                "the volume '{source}' becomes the root device: it cannot have omit_from_artifact"
            ))),
            Some(_) => {}
        }
        if self.ami.ami_virtualization_type.is_empty() {
            found.push(Diagnostic::error("ami_virtualization_type is required."));
        }
        registered::check(
            &self.ami_architecture,
            &self.boot_mode,
            &self.uefi_data,
            &self.tpm_support,
            &mut found,
        );
        if self.run.is_spot() && (self.ami.ena_support == Some(true) || self.ami.sriov_support) {
            super::refuse_spot("`ena_support` or `sriov_support`", &mut found);
        }
        super::prepared(&self.run, found)
    }
}

impl RootDevice {
    fn check(&self, found: &mut Diagnostics) {
        let mut say = |text: &str| found.push(Diagnostic::error(text));
        if self.source_device_name.is_empty() {
            say("source_device_name for the root_device must be specified");
        }
        if self.device_name.is_empty() {
            say("device_name for the root_device must be specified");
        }
        if self.volume_type == "gp2" && self.iops != 0 {
            say("iops may not be specified for a gp2 volume");
        }
        if self.iops < 0 {
            say("iops must be greater than 0");
        }
        if self.volume_size < 0 {
            say("volume_size must be greater than 0");
        }
    }
}

#[async_trait]
impl Builder for AmazonEbsSurrogate {
    async fn prepare(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Box::pin(self.check(cx)).await
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        let devices: Vec<BlockDevice> =
            self.launch_block_device_mappings.iter().map(|launched| launched.device.clone()).collect();
        let wanted = Wanted {
            access: &self.access,
            run: &self.run,
            ami: Some(&self.ami),
            creates_image: true,
            enhanced: self.ami.is_enhanced(),
            is_ebs: true,
            tells_volumes: true,
            devices: &devices,
            no_ephemeral: false,
            volume_tags: tags::merged(&self.run_volume_tags, self.run_volume_tag.iter().map(NamedTag::pair)),
        };
        let launched = Box::pin(launch(cx, &wanted, async |_, _, _| Ok(()))).await?;
        Ok(Box::new(Surrogate { builder: self.clone(), devices, launched }))
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

    fn type_name(&self) -> Cow<'static, str> {
        "amazon-ebssurrogate".into()
    }
}
