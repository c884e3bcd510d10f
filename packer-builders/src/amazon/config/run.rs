//! The instance that the image is made in: from what, where, with which rights, and how it is entered.

use packer_core::communicator::CommunicatorConfig;
use packer_core::duration::GoDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::{ImageFilter, SecurityGroupFilter, SubnetFilter, VpcFilter};
use super::placement::{LicenseSpecification, MetadataOptions, Placement};
use super::policy::PolicyDocument;
use super::tags::{self, Tag, Tags};

/// The options of the instance that is started.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct RunConfig {
    /// The id of the image to start from. This or `source_ami_filter` is required.
    pub source_ami: String,
    /// What finds it. Not looked at where `source_ami` is given.
    pub source_ami_filter: Option<ImageFilter>,

    /// The type of the instance, as `t3.micro`. This or `spot_instance_types` is required.
    pub instance_type: String,
    /// Types of a spot instance, of which the cheapest that is to be had is taken.
    pub spot_instance_types: Vec<String>,
    /// The most that a spot instance may cost an hour: a number, or `auto` for the price of the day. Default an instance that is
    /// no spot instance, unless `spot_instance_types` is given; so does `0`.
    pub spot_price: String,
    /// How one of the types is chosen: `lowest-price`, the default, `diversified`, `capacity-optimized`,
    /// `capacity-optimized-prioritized`, `price-capacity-optimized`.
    pub spot_allocation_strategy: String,
    /// Known for templates that have it; does nothing.
    #[schemars(extend("deprecated" = true))]
    pub spot_price_auto_product: String,
    /// Tags of the spot request.
    pub spot_tags: Tags,
    /// The same as blocks.
    pub spot_tag: Vec<Tag>,
    /// Tags of the fleet that a spot instance is in.
    pub fleet_tags: Tags,
    /// The same as blocks.
    pub fleet_tag: Vec<Tag>,
    /// For how many minutes a spot instance is kept from being interrupted: a multiple of 60.
    pub block_duration_minutes: i64,

    /// The VPC of the instance. Default the one of its subnet, else the account's default one.
    pub vpc_id: String,
    /// What finds it; exactly one must be found.
    pub vpc_filter: Option<VpcFilter>,
    /// The subnet.
    pub subnet_id: String,
    /// What finds it.
    pub subnet_filter: Option<SubnetFilter>,
    /// The availability zone.
    pub availability_zone: String,
    /// Whether the instance has a public address. Default what its subnet says.
    pub associate_public_ip_address: Option<bool>,
    /// A security group of the instance. Without any a temporary one is made that lets the communicator in.
    pub security_group_id: String,
    /// Several of them.
    pub security_group_ids: Vec<String>,
    /// What finds them.
    pub security_group_filter: Option<SecurityGroupFilter>,
    /// The networks that the temporary security group lets in. Default `0.0.0.0/0`, with `ssh_interface = "ipv6"` `::/0`.
    pub temporary_security_group_source_cidrs: Vec<String>,
    /// Whether it lets in only the address that this computer has on the internet; a public service is asked for it.
    pub temporary_security_group_source_public_ip: bool,

    /// The instance profile of the instance.
    pub iam_instance_profile: String,
    /// Whether nobody asks if it exists.
    pub skip_profile_validation: bool,
    /// What the instance may do: a role and an instance profile with this policy are made for it.
    pub temporary_iam_instance_profile_policy_document: Option<PolicyDocument>,

    /// What the instance gets to run when it starts.
    pub user_data: String,
    /// The file of it.
    pub user_data_file: String,
    /// What happens when the instance shuts itself down: `stop`, the default, or `terminate`.
    pub shutdown_behavior: String,
    /// Whether the instance is not stopped before its image is made: what provisions it has to do that.
    pub disable_stop_instance: bool,
    /// Whether it is optimized for EBS.
    pub ebs_optimized: bool,
    /// Whether it can make Nitro enclaves.
    pub enable_nitro_enclave: bool,
    /// Whether it may use processors without a limit, at a price (types t2, t3, t3a, t4g).
    pub enable_unlimited_credits: bool,
    /// The old name of `enable_unlimited_credits`.
    #[schemars(extend("deprecated" = true))]
    pub enable_t2_unlimited: bool,
    /// Whether it may use reserved capacity: `none`, the default, or `open`.
    pub capacity_reservation_preference: String,
    /// The reservation that it uses.
    pub capacity_reservation_id: String,
    /// The group of reservations that it uses.
    pub capacity_reservation_group_arn: String,
    /// Which hardware it is on.
    pub placement: Option<Placement>,
    /// The old place of `placement`'s `tenancy`.
    #[schemars(extend("deprecated" = true))]
    pub tenancy: String,
    /// Licenses that it uses.
    pub license_specifications: Vec<LicenseSpecification>,
    /// What its metadata service is like.
    pub metadata_options: Option<MetadataOptions>,
    /// Tags of the instance and of all that is made for it.
    pub run_tags: Tags,
    /// The same as blocks.
    pub run_tag: Vec<Tag>,

    /// How long to wait for the password of a Windows instance. Default 20 minutes.
    pub windows_password_timeout: GoDuration,
    /// Which of the instance's addresses to connect to: `public_ip`, `private_ip`, `public_dns`, `private_dns`, `ipv6`, or
    /// `session_manager`, which needs none. Default the public one where it has one, in a VPC else the private one.
    pub ssh_interface: String,
    /// How long to wait before the session manager is asked for the first time.
    pub pause_before_ssm: GoDuration,
    /// The port of this computer that leads to the instance through the session manager. Default a free one.
    pub session_manager_port: i64,
    /// How the instance is entered.
    #[serde(flatten)]
    pub communicator: CommunicatorConfig,
}

impl RunConfig {
    /// Starts from the image of this id.
    pub fn from_ami(id: impl Into<String>) -> Self {
        Self { source_ami: id.into(), ..Self::default() }
    }

    /// Starts from the newest image of an owner (the number of an account, `amazon`, `self`) whose name matches.
    pub fn from_newest(owner: impl Into<String>, name: impl Into<String>) -> Self {
        Self { source_ami_filter: Some(ImageFilter::newest(owner, name)), ..Self::default() }
    }

    /// The tags of the instance and of all that is made for it.
    pub(in crate::amazon) fn all_run_tags(&self) -> Tags {
        tags::merged(&self.run_tags, self.run_tag.iter().map(Tag::pair))
    }

    /// The tags of the spot request.
    pub(in crate::amazon) fn all_spot_tags(&self) -> Tags {
        tags::merged(&self.spot_tags, self.spot_tag.iter().map(Tag::pair))
    }

    /// The tags of the fleet.
    pub(in crate::amazon) fn all_fleet_tags(&self) -> Tags {
        tags::merged(&self.fleet_tags, self.fleet_tag.iter().map(Tag::pair))
    }
}
