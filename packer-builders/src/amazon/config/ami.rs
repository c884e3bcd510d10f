//! What the image is like, who may use it, and where it is copied to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use packer_core::aws::is_image_name;
use packer_core::config::GoTemplate;
use packer_core::{Diagnostic, Diagnostics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kms;
use super::tags::{self, Tag, Tags};

/// The options of the image that is made.
///
/// Its description and tags are rendered when they are needed, with `{{ .SourceAMI }}`, `{{ .SourceAMIName }}`,
/// `{{ .SourceAMICreationDate }}`, `{{ .SourceAMIOwner }}`, `{{ .SourceAMIOwnerName }}`, `{{ .SourceAMITags }}` and
/// `{{ .BuildRegion }}`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct AmiConfig {
    /// Its name, of 3 to 128 characters, which no other image of the account has in the region. Required.
    pub ami_name: String,
    /// Its description.
    pub ami_description: GoTemplate,
    /// How it is virtualized: `hvm` or `paravirtual`. Default what the source image is.
    pub ami_virtualization_type: String,
    /// Accounts that may start instances of it.
    pub ami_users: Vec<String>,
    /// Groups that may: `all` makes it public.
    pub ami_groups: Vec<String>,
    /// ARNs of organizations that may.
    pub ami_org_arns: Vec<String>,
    /// ARNs of organizational units that may.
    pub ami_ou_arns: Vec<String>,
    /// Product codes of the image.
    pub ami_product_codes: Vec<String>,
    /// Regions that it is copied to.
    pub ami_regions: Vec<String>,
    /// Whether nobody asks if these regions exist.
    pub skip_region_validation: bool,
    /// Tags of the image and its snapshots.
    pub tags: Tags,
    /// The same as blocks.
    pub tag: Vec<Tag>,
    /// Whether it has enhanced networking by ENA. Default what the source image has.
    pub ena_support: Option<bool>,
    /// Whether it has enhanced networking by SR-IOV.
    pub sriov_support: bool,
    /// Whether an image of its name is deregistered first.
    pub force_deregister: bool,
    /// Whether that one's snapshots are deleted too.
    pub force_delete_snapshot: bool,
    /// Whether it is encrypted. Default what the source image is; without it `kms_key_id` and `region_kms_key_ids` are refused.
    pub encrypt_boot: Option<bool>,
    /// The key that it is encrypted with: an id, an alias (`alias/…`) or an ARN. Default the account's own for EBS.
    pub kms_key_id: String,
    /// The same for each of `ami_regions`, by region; an empty one is that region's default.
    pub region_kms_key_ids: BTreeMap<String, String>,
    /// Whether only the copies of `ami_regions` stay.
    pub skip_save_build_region: bool,
    /// `v2.0`: instances of it only answer version 2 of the metadata service.
    pub imds_support: String,
    /// When it becomes deprecated: a time as `2030-01-02T03:04:05Z`.
    pub deprecate_at: String,
    /// Whether it is protected from being deregistered.
    pub deregistration_protection: Option<DeregistrationProtection>,
    /// Tags of its snapshots.
    pub snapshot_tags: Tags,
    /// The same as blocks.
    pub snapshot_tag: Vec<Tag>,
    /// Accounts that may make volumes of its snapshots.
    pub snapshot_users: Vec<String>,
    /// Groups that may: `all` makes them public.
    pub snapshot_groups: Vec<String>,
    /// In how many minutes copies of its snapshots are to be complete: a multiple of 15. Costs more.
    pub snapshot_copy_duration_minutes: i64,
}

/// Whether an image is protected from being deregistered.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct DeregistrationProtection {
    /// Whether it is.
    pub enabled: bool,
    /// Whether it stays so for a day after the protection was taken away.
    pub with_cooldown: bool,
}

impl AmiConfig {
    /// Whether the image, and the instance before it, get fast networking.
    pub(in crate::amazon) fn is_enhanced(&self) -> bool {
        self.sriov_support || self.ena_support == Some(true)
    }

    /// The tags of the image and its snapshots.
    pub(in crate::amazon) fn all_tags(&self) -> Tags {
        tags::merged(&self.tags, self.tag.iter().map(Tag::pair))
    }

    /// The tags of its snapshots alone.
    pub(in crate::amazon) fn all_snapshot_tags(&self) -> Tags {
        tags::merged(&self.snapshot_tags, self.snapshot_tag.iter().map(Tag::pair))
    }

    /// The regions that the image is copied to: each once, and not the one where it is made.
    pub(in crate::amazon) fn copies(&self, build_region: &str) -> Vec<String> {
        let mut copies: Vec<String> = Vec::new();
        for region in &self.ami_regions {
            if region != build_region && !copies.contains(region) {
                copies.push(region.clone());
            }
        }
        copies
    }

    /// Checks the image's options; `build_region` is empty where it is not given in the template.
    pub(in crate::amazon) fn check(&self, build_region: &str, found: &mut Diagnostics) {
        let mut say = |text: &str| found.push(Diagnostic::error(text));
        if self.ami_name.is_empty() {
            say("ami_name must be specified");
        }
        if !(3..=128).contains(&self.ami_name.len()) {
            say("ami_name must be between 3 and 128 characters long");
        }
        if !is_image_name(&self.ami_name) {
            say(BAD_NAME);
        }
        if !matches!(self.ami_virtualization_type.as_str(), "" | "hvm" | "paravirtual") {
            say("The only valid ami_virtualization_type values are \"hvm\" or \"paravirtual\"");
        }
        if !matches!(self.imds_support.as_str(), "" | "v2.0") {
            say("The only valid imds_support values are \"v2.0\" or the empty string");
        }
        if !self.deprecate_at.is_empty() && self.deprecate_at.parse::<Timestamp>().is_err() {
            say(&format!(
                "deprecate_at is not a valid time: {:?}. Expect time format: YYYY-MM-DDTHH:MM:SSZ",
                self.deprecate_at
            ));
        }
        let minutes = self.snapshot_copy_duration_minutes;
        if minutes != 0
            && !(minutes % 15 == 0 && (15..=2880).contains(&minutes))
            && !self.copies(build_region).is_empty()
        {
            say("snapshot_copy_duration_minutes must be a multiple of 15 and at most 2880");
        }
        self.check_keys(build_region, &mut say);
        self.check_sharing(build_region, &mut say);
    }

    /// Each copy has its key or none has, and each key is the one of a copy.
    fn check_keys(&self, build_region: &str, say: &mut impl FnMut(&str)) {
        let of_regions = &self.region_kms_key_ids;
        if !of_regions.is_empty() {
            for region in self.copies("") {
                if !of_regions.contains_key(&region) {
                    say(&format!("Region {region} is in ami_regions but not in region_kms_key_ids"));
                }
            }
            for region in of_regions.keys() {
                if region != build_region && !self.ami_regions.contains(region) {
                    say(&format!("Region {region} is in region_kms_key_ids but not in ami_regions"));
                }
            }
        }
        let keys: Vec<&String> = std::iter::once(&self.kms_key_id)
            .chain(of_regions.values())
            .filter(|key| !key.is_empty())
            .collect();
        if !keys.is_empty() && self.encrypt_boot != Some(true) {
            say("If you have set either region_kms_key_ids or kms_key_id, encrypt_boot must also be true.");
        }
        for key in keys {
            if !kms::is_key(key) {
                say(&format!("{key:?} is not a valid KMS Key Id."));
            }
        }
    }

    /// Another account cannot have the default key of this one.
    fn check_sharing(&self, build_region: &str, say: &mut impl FnMut(&str)) {
        if self.encrypt_boot != Some(true) {
            return;
        }
        let of_regions = &self.region_kms_key_ids;
        let own = [Some(&self.kms_key_id), of_regions.get(build_region)];
        let default_here = own.into_iter().flatten().all(String::is_empty);
        let default_there = of_regions.iter().any(|(region, key)| region != build_region && key.is_empty());
        if [&self.ami_users, &self.ami_org_arns, &self.ami_ou_arns].iter().any(|who| !who.is_empty()) {
            if default_here {
                say("Cannot share AMI encrypted with default KMS key");
            }
            if default_there {
                say(
                    "Cannot share AMI encrypted with default KMS key: region_kms_key_ids has none for a region",
                );
            }
        }
        if !self.snapshot_users.is_empty() {
            if default_here && of_regions.is_empty() {
                say("Cannot share snapshot encrypted with default KMS key, see \
                     https://www.packer.io/docs/builders/amazon-ebs#region_kms_key_ids for more information");
            } else if default_there {
                say("Cannot share snapshot encrypted with default KMS key");
            }
        }
    }
}

const BAD_NAME: &str = "AMIName should only contain alphanumeric characters, parentheses (()), square brackets ([]), spaces ( ), periods (.), \
     slashes (/), dashes (-), single quotes ('), at-signs (@), or underscores(_). You can use the `clean_resource_name` \
     template filter to automatically clean your ami name.";
