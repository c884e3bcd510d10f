//! An instance that is up: what all builders with an instance do until it is provisioned, and right after.

use std::sync::Arc;

use aws_sdk_ec2::types::{DeviceType, Instance};
use packer_core::aws::AccessConfig;
use packer_core::communicator::Communicator;
use packer_core::{Context, Error, Facts, Resource, Result};
use serde_json::json;

use super::config::ami::AmiConfig;
use super::config::device::BlockDevice;
use super::config::run::RunConfig;
use super::config::tags::Tags;
use super::job::Job;
use super::steps::enter::{Entered, enter};
use super::steps::key_pair::{self, Keys};
use super::steps::run::{Request, instance_facts, run};
use super::steps::source::{self, Source};
use super::steps::{network, profile, security_group, validate};

/// What a builder wants of an instance.
pub(super) struct Wanted<'a> {
    pub(super) access: &'a AccessConfig,
    pub(super) run: &'a RunConfig,
    /// The image to be made; none for builders that make none.
    pub(super) ami: Option<&'a AmiConfig>,
    pub(super) creates_image: bool,
    /// Whether the instance gets fast networking, which not every source can have.
    pub(super) enhanced: bool,
    /// Whether the instance runs from a volume.
    pub(super) is_ebs: bool,
    /// Whether people are told that volumes are cleaned up.
    pub(super) tells_volumes: bool,
    pub(super) devices: &'a [BlockDevice],
    pub(super) no_ephemeral: bool,
    pub(super) volume_tags: Tags,
}

/// An instance that runs and was entered.
pub(super) struct Launched {
    pub(super) source: Source,
    pub(super) instance: Instance,
    pub(super) id: String,
    keys: Keys,
    pub(super) entered: Entered,
    pub(super) facts: Facts,
    volumes: Resource,
}

/// Starts an instance; `when_it_runs` is done before it is entered.
pub(super) async fn launch(
    cx: &Context,
    wanted: &Wanted<'_>,
    when_it_runs: impl AsyncFnOnce(&Job<'_>, &Source, &Instance) -> Result<()>,
) -> Result<Launched> {
    let job = Job::begin(cx, wanted.access, wanted.run).await?;
    let run_config = wanted.run;
    if let Some(ami) = wanted.ami {
        validate::regions(&job, ami).await?;
        let valid = validate::validate(&job, ami, wanted.creates_image);
        job.step("StepPreValidate", valid).await?;
    }
    let find = async {
        let found = source::find(cx, &job.ec2, &run_config.source_ami, run_config.source_ami_filter.as_ref());
        let found = found.await?;
        source::check_networking(&found, wanted.enhanced)?;
        Ok(found)
    };
    let source = job.step("StepSourceAMIInfo", find).await?;
    let network = job.step("StepNetworkInfo", network::find(&job)).await?;
    let keys = cx.step("StepKeyPair", Box::pin(key_pair::make(&job, &source))).await?;
    let groups = security_group::find_or_make(&job, &source, &network);
    let groups = job.step("StepSecurityGroup", groups).await?;
    let profile = profile::find_or_make(&job, &source);
    let profile = job.step("StepIamInstanceProfile", profile).await?;
    if wanted.is_ebs {
        check_root(&source)?;
    }
    let request = Request {
        source: &source,
        network: &network,
        keys: &keys,
        groups: &groups,
        profile: profile.as_deref(),
        devices: wanted.devices,
        no_ephemeral: wanted.no_ephemeral,
        is_ebs: wanted.is_ebs,
        tells_volumes: wanted.tells_volumes,
        volume_tags: wanted.volume_tags.clone(),
    };
    let (instance, volumes) = job.step("StepRunSourceInstance", run(&job, &request)).await?;
    let id = instance.instance_id().unwrap_or_default().to_owned();
    when_it_runs(&job, &source, &instance).await?;
    let entered = cx.step("StepConnect", Box::pin(enter(&job, &instance, &keys))).await?;
    let mut facts = instance_facts(&source, &id);
    for (name, value) in entered.config.facts(&entered.target).iter() {
        facts.set(name.as_str(), value.clone());
    }
    Ok(Launched { source, instance, id, keys, entered, facts, volumes })
}

fn check_root(source: &Source) -> Result<()> {
    match source.image.root_device_type() {
        Some(DeviceType::Ebs) => Ok(()),
        kind => Err(Error::user(format!(
            "The provided source AMI has an invalid root device type.\nExpected 'ebs', got '{}'.",
            kind.map_or("", DeviceType::as_str)
        ))),
    }
}

impl Launched {
    pub(super) fn communicator(&self) -> Arc<dyn Communicator> {
        self.entered.communicator.clone()
    }

    /// Takes the temporary key out of the instance.
    pub(super) async fn clear_key(&self, cx: &Context) -> Result<()> {
        let Some(pair) = &self.keys.pair else { return Ok(()) };
        let config = &self.entered.config;
        let cleared = config.clear_authorized_keys(cx, self.entered.communicator.as_ref(), pair);
        cx.step("StepCleanupTempKeys", cleared).await
    }

    /// The build went well: the volumes stay that the template does not want to be deleted with the instance.
    pub(super) fn keep_volumes(&self, job: &Job<'_>, devices: &[BlockDevice]) -> Result<()> {
        let stays = |name: Option<&str>| {
            devices.iter().any(|d| Some(d.device_name.as_str()) == name && !d.delete_on_termination)
        };
        let kept = self.instance.block_device_mappings().iter().filter(|device| stays(device.device_name()));
        let kept: Vec<&str> = kept.filter_map(|device| device.ebs()?.volume_id()).collect();
        let mut known = self.volumes.clone();
        known.details["kept"] = json!(kept);
        job.cx.record(known)
    }
}
