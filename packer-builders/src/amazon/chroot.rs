//! The builder `amazon-chroot`: an image made on an instance of EC2 itself, of a volume that is attached to it.

#[cfg(unix)]
mod commands;
#[cfg(unix)]
mod communicator;
#[cfg(unix)]
mod device;
#[cfg(unix)]
mod download;
#[cfg(unix)]
mod launch;
#[cfg(unix)]
mod machine;
#[cfg(unix)]
mod mounts;
#[cfg(unix)]
mod paths;
#[cfg(unix)]
mod volume;

use std::borrow::Cow;

use packer_core::aws::AccessConfig;
use packer_core::config::{self, GoTemplate};
use packer_core::{
    Builder, Context, Diagnostic, Diagnostics, Machine, PrepareContext, Prepared, Resource, Result, Value,
    async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::ami::AmiConfig;
use super::config::device::BlockDevice;
use super::config::filter::ImageFilter;
use super::config::tags::{Tag, Tags};
use super::config::{kms, registered};
use super::resources;

/// Attaches a volume to the instance of EC2 that it runs on (Linux), changes what is on it, and makes an image of it. No instance
/// is started.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct AmazonChroot {
    /// The id of the image to start from. This or `source_ami_filter` is required, unless `from_scratch` is set.
    pub source_ami: String,
    /// What finds it. Not looked at where `source_ami` is given.
    pub source_ami_filter: Option<ImageFilter>,
    /// Whether the volume is empty at first: `pre_mount_commands` make a file system on it.
    pub from_scratch: bool,
    /// Block devices of the image, instead of those of the source image. Needs `root_device_name` and `root_volume_size`.
    pub ami_block_device_mappings: Vec<BlockDevice>,
    /// The root device of the image, as `/dev/xvda`. Only with `ami_block_device_mappings`.
    pub root_device_name: String,
    /// The size of the volume in GiB. Default that of the source image, which it cannot be smaller than.
    pub root_volume_size: i64,
    /// The kind of the volume: `standard`, `gp2`, `gp3` … Default that of the source image, with `from_scratch` `gp2`.
    pub root_volume_type: String,
    /// Tags of the volume.
    pub root_volume_tags: Tags,
    /// The same as blocks.
    pub root_volume_tag: Vec<Tag>,
    /// Whether the volume is encrypted. Default what its snapshot is.
    pub root_volume_encrypt_boot: Option<bool>,
    /// The key that it is encrypted with. Needs `root_volume_encrypt_boot`.
    pub root_volume_kms_key_id: String,

    /// What every command is put into. `{{.Command}}` is known. Default that itself.
    pub command_wrapper: GoTemplate,
    /// Commands before the volume is mounted. `{{.Device}}` is known.
    pub pre_mount_commands: Vec<GoTemplate>,
    /// Commands when it is mounted. `{{.Device}}` and `{{.MountPath}}` are known.
    pub post_mount_commands: Vec<GoTemplate>,
    /// What is mounted into it: rows of a file system's type, a device and a folder. Default `/proc`, `/sys`, `/dev`, `/dev/pts`
    /// and `/proc/sys/fs/binfmt_misc` as they are here.
    pub chroot_mounts: Vec<Vec<String>>,
    /// Files of this computer that are put into it for the time being. Default `/etc/resolv.conf`, with `from_scratch` none.
    pub copy_files: Option<Vec<String>>,
    /// The device that the volume becomes. Default the first free one.
    pub device_path: String,
    /// The device that it really is, on instances that see it as NVMe.
    pub nvme_device_path: String,
    /// Where it is mounted. `{{.Device}}` is known. Default `/mnt/packer-amazon-chroot-volumes/{{.Device}}`.
    pub mount_path: GoTemplate,
    /// The partition that is mounted; `0` is the device itself. Default 1.
    pub mount_partition: String,
    /// Options of the mount.
    pub mount_options: Vec<String>,

    /// The processors that the image is for, with `from_scratch`: `x86_64`, the default, `arm64`, `i386`, `x86_64_mac` or
    /// `arm64_mac`.
    pub ami_architecture: String,
    /// How the image boots: `legacy-bios`, `uefi` or `uefi-preferred`. Default what EC2 takes for its architecture.
    pub boot_mode: String,
    /// The variables of its UEFI, as EC2 gives and takes them. Needs `boot_mode = "uefi"` unless it is of `arm64`.
    pub uefi_data: String,
    /// `v2.0`: the image has a TPM.
    pub tpm_support: String,

    /// Who asks, and where.
    #[serde(flatten)]
    pub access: AccessConfig,
    /// The image.
    #[serde(flatten)]
    pub ami: AmiConfig,
}

/// What is said elsewhere.
#[cfg(not(unix))]
const NOT_HERE: &str = "The amazon-chroot builder only works on Linux environments.";

impl AmazonChroot {
    async fn check(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        let mut found = super::check_access(&self.access, cx).await;
        #[cfg(not(unix))]
        found.push(Diagnostic::error(NOT_HERE));
        self.ami.check(&self.access.region, &mut found);
        for device in &self.ami_block_device_mappings {
            device.check(&mut found);
        }
        if self.chroot_mounts.iter().any(|mount| mount.len() != 3) {
            found.push(Diagnostic::error("Each chroot_mounts entry should be three elements."));
        }
        if self.from_scratch {
            self.check_scratch(&mut found);
        } else {
            self.check_source(&mut found);
        }
        let mut say = |text: &str| found.push(Diagnostic::error(text));
        let key = &self.root_volume_kms_key_id;
        if !key.is_empty() && self.root_volume_encrypt_boot != Some(true) {
            say("If you have set root_volume_kms_key_id, root_volume_encrypt_boot must also be true.");
        }
        if !key.is_empty() && !kms::is_key(key) {
            say(&format!("{key:?} is not a valid KMS Key Id."));
        }
        registered::check(
            &self.ami_architecture,
            &self.boot_mode,
            &self.uefi_data,
            &self.tpm_support,
            &mut found,
        );
        Prepared::of(found)
    }

    /// An empty volume says nothing of itself: all must be said here.
    fn check_scratch(&self, found: &mut Diagnostics) {
        if !self.source_ami.is_empty() || self.source_ami_filter.is_some() {
            let text = "source_ami and source_ami_filter are unused when from_scratch is true";
            found.push(Diagnostic::warning(text));
        }
        for (name, is_missing) in [
            ("root_volume_size", self.root_volume_size == 0),
            ("pre_mount_commands", self.pre_mount_commands.is_empty()),
            ("ami_virtualization_type", self.ami.ami_virtualization_type.is_empty()),
            ("root_device_name", self.root_device_name.is_empty()),
            ("ami_block_device_mappings", self.ami_block_device_mappings.is_empty()),
        ] {
            if is_missing {
                found.push(Diagnostic::error(format!("{name} is required with from_scratch.")));
            }
        }
    }

    fn check_source(&self, found: &mut Diagnostics) {
        ImageFilter::check_source(&self.source_ami, self.source_ami_filter.as_ref(), found);
        let mut say = |text: &str| found.push(Diagnostic::error(text));
        match (self.ami_block_device_mappings.is_empty(), self.root_device_name.is_empty()) {
            (true, true) => {}
            (false, true) => {
                say("If ami_block_device_mappings is specified, root_device_name must be specified");
            }
            (true, false) => {
                say("If root_device_name is specified, ami_block_device_mappings must be specified");
            }
            (false, false) => {
                if self.root_volume_size == 0 {
                    say("If ami_block_device_mappings is specified, root_volume_size must be specified");
                }
                let text = "ami_block_device_mappings from source image will be completely overwritten";
                found.push(Diagnostic::warning(text));
            }
        }
    }
}

#[async_trait]
impl Builder for AmazonChroot {
    async fn prepare(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Box::pin(self.check(cx)).await
    }

    #[cfg(unix)]
    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        Box::pin(launch::launch(self, cx)).await
    }

    #[cfg(not(unix))]
    async fn launch(&self, _: &Context) -> Result<Box<dyn Machine>> {
        Err(packer_core::Error::user(NOT_HERE))
    }

    async fn release(&self, cx: &Context, resource: &Resource) -> Result<()> {
        #[cfg(unix)]
        if matches!(resource.kind.as_str(), mounts::MOUNT | mounts::COPY) {
            let commands = commands::Commands { wrapper: self.command_wrapper.as_str().to_owned() };
            return mounts::take_out(cx, &commands, resource, false).await;
        }
        Box::pin(resources::release(cx, &self.access, resource)).await
    }

    fn capture_arguments(&self) -> &'static [&'static str] {
        &super::CAPTURED
    }

    fn variables(&self) -> Vec<Cow<'static, str>> {
        super::VARIABLES.iter().chain(&["Device", "MountPath"]).copied().map(Cow::Borrowed).collect()
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}
