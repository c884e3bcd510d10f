//! Images of Amazon's EC2: five builders, and data sources beside them.

use packer_core::aws::{AccessConfig, clean_image_name};
use packer_core::{Diagnostic, Diagnostics, PrepareContext, Prepared, Registry, Result};

mod chroot;
mod config;
pub(crate) mod data;
mod ebs;
mod finish;
mod instance;
mod job;
mod launch;
mod resources;
mod steps;
mod surrogate;
#[cfg(test)]
mod tests;
mod volume;

pub use chroot::AmazonChroot;
pub use config::ami::{AmiConfig, DeregistrationProtection};
pub use config::device::BlockDevice;
pub use config::fast_launch::{FastLaunch, RegionLaunchTemplate};
pub use config::filter::{ImageFilter, KeyValue, NameValue, SecurityGroupFilter, SubnetFilter, VpcFilter};
pub use config::placement::{LicenseConfigurationRequest, LicenseSpecification, MetadataOptions, Placement};
pub use config::policy::{PolicyDocument, Statement};
pub use config::run::RunConfig;
pub use config::tags::{NamedTag, Tag, Tags};
use data::{AmazonAmi, AmazonParameterStore, AmazonSecretsManager};
pub use ebs::AmazonEbs;
pub use instance::AmazonInstance;
pub use surrogate::{AmazonEbsSurrogate, RootDevice, SurrogateDevice};
pub use volume::{AmazonEbsVolume, EbsVolume};

/// Registers the builders and data sources.
pub(super) fn register(registry: &mut Registry) {
    registry
        .builder::<AmazonChroot>("amazon-chroot")
        .builder::<AmazonEbs>("amazon-ebs")
        .builder::<AmazonEbsSurrogate>("amazon-ebssurrogate")
        .builder::<AmazonEbsVolume>("amazon-ebsvolume")
        .builder::<AmazonInstance>("amazon-instance")
        .data_source::<AmazonAmi>("amazon-ami")
        .data_source::<AmazonParameterStore>("amazon-parameterstore")
        .data_source::<AmazonSecretsManager>("amazon-secretsmanager")
        .provides("github.com/hashicorp/amazon");
    for builder in
        ["amazon-chroot", "amazon-ebs", "amazon-ebssurrogate", "amazon-ebsvolume", "amazon-instance"]
    {
        registry.cleans_names(builder, clean_image_name);
    }
}

/// The `build.*` values of all these builders.
const VARIABLES: [&str; 6] = [
    "SourceAMI",
    "SourceAMIName",
    "SourceAMICreationDate",
    "SourceAMIOwner",
    "SourceAMIOwnerName",
    "BuildRegion",
];

/// The arguments that only `capture` of a builder of images looks at.
const CAPTURED: [&str; 35] = [
    "ami_block_device_mappings",
    "ami_description",
    "ami_groups",
    "ami_name",
    "ami_org_arns",
    "ami_ou_arns",
    "ami_product_codes",
    "ami_regions",
    "ami_root_device",
    "ami_users",
    "boot_mode",
    "deprecate_at",
    "deregistration_protection",
    "encrypt_boot",
    "fast_launch",
    "force_delete_snapshot",
    "force_deregister",
    "imds_support",
    "kms_key_id",
    "region_kms_key_ids",
    "skip_ami_run_tags",
    "skip_create_ami",
    "skip_region_validation",
    "skip_save_build_region",
    "snapshot_copy_duration_minutes",
    "snapshot_description",
    "snapshot_groups",
    "snapshot_tag",
    "snapshot_tags",
    "snapshot_users",
    "tag",
    "tags",
    "tpm_support",
    "uefi_data",
    "use_create_image",
];

/// What is wrong with the way into the account. Vault is asked for its keys now.
async fn check_access(access: &AccessConfig, cx: &PrepareContext) -> Diagnostics {
    let mut found = access.check(cx);
    found.append(access.check_vault(cx).await);
    found
}

/// A spot instance cannot be modified: it has what its image has.
fn refuse_spot(needs: &str, found: &mut Diagnostics) {
    found.push(Diagnostic::error(format!(
        "Spot instances do not support modification, which is required when either {needs} are set. Please ensure you use an \
         AMI that already has either SR-IOV or ENA enabled."
    )));
}

/// What was found in the end: what this build of the library cannot do is told when the rest is right.
fn prepared(run: &RunConfig, mut found: Diagnostics) -> Result<Prepared, Diagnostics> {
    if !found.has_errors() {
        found.extend(run.communicator.unsupported());
    }
    Prepared::of(found)
}
