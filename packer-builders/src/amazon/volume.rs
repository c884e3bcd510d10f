//! The builder `amazon-ebsvolume`: volumes that an instance has filled, and snapshots of them.

mod machine;

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_sdk_ec2::types::Instance;
use packer_core::aws::AccessConfig;
use packer_core::config;
use packer_core::{
    Builder, Context, Diagnostic, Diagnostics, Machine, PrepareContext, Prepared, Resource, Result, Value,
    async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::machine::Filling;
use super::config::device::BlockDevice;
use super::config::filter::KeyValue;
use super::config::run::RunConfig;
use super::config::tags::{self, Tag, Tags};
use super::job::Job;
use super::launch::{Wanted, launch};
use super::resources;
use super::steps::source::Source;

/// Starts an instance of EC2 with volumes that it fills. They are the artifact, with snapshots of them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct AmazonEbsVolume {
    /// The volumes. Those that do not go with the instance are of the artifact.
    pub ebs_volumes: Vec<EbsVolume>,
    /// Whether the instance gets enhanced networking by ENA. Default what its image has.
    pub ena_support: Option<bool>,
    /// Whether it gets enhanced networking by SR-IOV.
    pub sriov_support: bool,
    /// Tags of its volumes, which do not get `run_tags` where there are any.
    pub run_volume_tags: Tags,
    /// The same as blocks.
    pub run_volume_tag: Vec<Tag>,

    /// Who asks, and where.
    #[serde(flatten)]
    pub access: AccessConfig,
    /// The instance.
    #[serde(flatten)]
    pub run: RunConfig,
}

/// A volume that is made.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct EbsVolume {
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The same as blocks.
    pub tag: Vec<KeyValue>,
    /// Whether a snapshot of it is made.
    pub snapshot_volume: bool,
    /// The description of the snapshot.
    pub snapshot_description: String,
    /// The tags of the snapshot.
    pub snapshot_tags: BTreeMap<String, String>,
    /// The same as blocks.
    pub snapshot_tag: Vec<KeyValue>,
    /// Accounts that may make volumes of the snapshot.
    pub snapshot_users: Vec<String>,
    /// Groups that may: `all` makes it public.
    pub snapshot_groups: Vec<String>,
    /// What it is.
    #[serde(flatten)]
    pub device: BlockDevice,
}

impl AmazonEbsVolume {
    fn all_run_volume_tags(&self) -> Tags {
        tags::merged(&self.run_volume_tags, self.run_volume_tag.iter().map(Tag::pair))
    }

    async fn check(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        let mut found = super::check_access(&self.access, cx).await;
        self.run.check(cx, &mut found);
        for volume in &self.ebs_volumes {
            volume.device.check(&mut found);
            if !volume.snapshot_description.is_empty() && !volume.snapshot_volume {
                found.push(Diagnostic::error(
                    "All `ebs_volumes` blocks setting `snapshot_description` must also set `snapshot_volume`.",
                ));
            }
        }
        if self.run.is_spot() && (self.ena_support == Some(true) || self.sriov_support) {
            super::refuse_spot("`ena_support` or `sriov_support`", &mut found);
        }
        super::prepared(&self.run, found)
    }
}

#[async_trait]
impl Builder for AmazonEbsVolume {
    async fn prepare(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Box::pin(self.check(cx)).await
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        let devices: Vec<BlockDevice> = self.ebs_volumes.iter().map(|volume| volume.device.clone()).collect();
        let wanted = Wanted {
            access: &self.access,
            run: &self.run,
            ami: None,
            creates_image: false,
            enhanced: self.sriov_support || self.ena_support == Some(true),
            is_ebs: true,
            tells_volumes: false,
            devices: &devices,
            no_ephemeral: false,
            volume_tags: self.all_run_volume_tags(),
        };
        let tag = async |job: &Job<'_>, source: &Source, instance: &Instance| {
            job.step("stepTagEBSVolumes", machine::tag(self, job, source, instance)).await
        };
        let launched = Box::pin(launch(cx, &wanted, tag)).await?;
        Ok(Box::new(Filling { builder: self.clone(), devices, launched }))
    }

    async fn release(&self, cx: &Context, resource: &Resource) -> Result<()> {
        Box::pin(resources::release(cx, &self.access, resource)).await
    }

    fn variables(&self) -> Vec<Cow<'static, str>> {
        super::VARIABLES.iter().copied().map(Cow::Borrowed).collect()
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }

    fn type_name(&self) -> Cow<'static, str> {
        "amazon-ebsvolume".into()
    }
}
