//! The instance whose volumes are the artifact, with snapshots of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Instance, Tag};
use packer_core::{Artifact, Communicator, Context, Error, Facts, Machine, Result, async_trait};
use serde_json::json;

use super::{AmazonEbsVolume, EbsVolume};
use crate::amazon::config::ami::AmiConfig;
use crate::amazon::config::device::BlockDevice;
use crate::amazon::config::filter::KeyValue;
use crate::amazon::job::{Job, open_facts};
use crate::amazon::launch::Launched;
use crate::amazon::resources;
use crate::amazon::steps::snapshot::{self, Snapshot};
use crate::amazon::steps::source::Source;
use crate::amazon::steps::{attributes, stop};

/// The kind of artifact that the volumes are.
const VOLUMES: &str = "mitchellh.amazon.ebsvolume";

/// An instance that is up.
pub(super) struct Filling {
    pub(super) builder: AmazonEbsVolume,
    /// The devices that the instance was started with.
    pub(super) devices: Vec<BlockDevice>,
    pub(super) launched: Launched,
}

/// The volumes that are asked for, with their ids.
fn volumes<'a>(
    builder: &'a AmazonEbsVolume,
    instance: &'a Instance,
) -> Result<Vec<(&'a EbsVolume, &'a str)>> {
    let are_volumes =
        builder.ebs_volumes.iter().filter(|v| !v.device.no_device && v.device.virtual_name.is_empty());
    let with_id = are_volumes.map(|volume| {
        let name = volume.device.device_name.as_str();
        let mut devices = instance.block_device_mappings().iter();
        let found = devices.find(|device| device.device_name() == Some(name));
        let id = found.and_then(|device| device.ebs()?.volume_id());
        let missing = || Error::provider(format!("the instance has no volume of the device {name}"));
        Ok((volume, id.ok_or_else(missing)?))
    });
    with_id.collect()
}

/// The tags of a map and of blocks.
fn all_tags(map: &BTreeMap<String, String>, blocks: &[KeyValue]) -> Vec<Tag> {
    let mut all = map.clone();
    all.extend(blocks.iter().map(|block| (block.key.clone(), block.value.clone())));
    all.into_iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Gives the volumes their own tags in place of those that all volumes of the instance have.
pub(super) async fn tag(
    builder: &AmazonEbsVolume,
    job: &Job<'_>,
    source: &Source,
    instance: &Instance,
) -> Result<()> {
    let cx = job.cx;
    let volumes = volumes(builder, instance)?;
    if volumes.is_empty() {
        return Ok(());
    }
    let of_run = builder.all_run_volume_tags();
    if !of_run.is_empty() {
        cx.say("Removing any tags applied to EBS volumes when the source instance was created...");
        cx.say("Compiling list of existing tags to remove...");
        let tags = job.tags(&of_run, &source.facts)?;
        let ids: Vec<String> = volumes.iter().map(|(_, id)| (*id).to_owned()).collect();
        cx.say(format!("Deleting 'run_volume_tags' on EBS Volumes: {}", ids.join(", ")));
        let call = |api: &Client| {
            api.delete_tags().set_resources(Some(ids.clone())).set_tags(Some(tags.clone())).send()
        };
        let done = resources::once_known(cx, || job.ec2.ask("DeleteTags", call)).await;
        done.map_err(|e| Error::from(e).context("Error deleting tags on EBS Volumes"))?;
    }
    cx.say("Tagging EBS volumes...");
    let mut tagged = Vec::new();
    for (volume, id) in volumes {
        let (name, tags) = (&volume.device.device_name, all_tags(&volume.tags, &volume.tag));
        if tags.is_empty() {
            cx.say(format!("No tags specified for volume on {name}..."));
            continue;
        }
        cx.say(format!("Compiling list of tags to apply to volume on {name}..."));
        job.tell(&tags);
        tagged.push((id, tags));
    }
    let instance = instance.instance_id().unwrap_or_default();
    for (id, tags) in tagged {
        cx.say(format!("Applying tags to EBS Volume: {id}"));
        let done = packer_core::aws::ec2::create_tags(job.cx, &job.ec2, &[id.to_owned()], &tags).await;
        done.map_err(|e| Error::from(e).context(format!("Error tagging EBS Volume {id} on {instance}")))?;
    }
    Ok(())
}

#[async_trait]
impl Machine for Filling {
    fn communicator(&self) -> Arc<dyn Communicator> {
        self.launched.communicator()
    }

    fn facts(&self) -> &Facts {
        &self.launched.facts
    }

    async fn capture(&self, cx: &Context) -> Result<Artifact> {
        let (builder, launched) = (&self.builder, &self.launched);
        launched.clear_key(cx).await?;
        let job = Job::begin(cx, &builder.access, &builder.run).await?;
        job.step("StepStopEBSBackedInstance", stop::stop(&job, &launched.id)).await?;
        let networking = AmiConfig {
            ena_support: builder.ena_support,
            sriov_support: builder.sriov_support,
            ..AmiConfig::default()
        };
        let modify = stop::modify(&job, &networking, &launched.id);
        job.step("StepModifyEBSBackedInstance", modify).await?;
        let snapshots = job.step("stepSnapshotEBSVolumes", self.snapshots(&job)).await?;
        self.artifact(&job, &snapshots)
    }
}

impl Filling {
    /// Makes the snapshots, and says who may make volumes of them.
    async fn snapshots(&self, job: &Job<'_>) -> Result<Vec<Snapshot>> {
        let cx = job.cx;
        let mut made = Vec::new();
        let volumes = volumes(&self.builder, &self.launched.instance)?;
        for (volume, id) in volumes.into_iter().filter(|(volume, _)| volume.snapshot_volume) {
            let name = &volume.device.device_name;
            cx.say(format!("Compiling list of tags to apply to snapshot from Volume {name}..."));
            let tags = all_tags(&volume.snapshot_tags, &volume.snapshot_tag);
            job.tell(&tags);
            cx.say(format!("Requesting snapshot of volume: {id}..."));
            let description = snapshot::description(&volume.snapshot_description);
            let snapshot = Box::pin(snapshot::create(job, id, &description, &tags)).await;
            let snapshot = snapshot.map_err(|e| e.context("Error creating snapshot"))?;
            cx.say(format!("Requested Snapshot of Volume {id}: {}", snapshot.id));
            made.push((volume, snapshot));
        }
        cx.say("Waiting for Snapshots to become ready...");
        for (_, snapshot) in &made {
            let id = &snapshot.id;
            cx.say(format!("Waiting for {id} to be ready."));
            let done = Box::pin(snapshot::completed(job, id)).await;
            done.map_err(|e| e.context(format!("Error waiting for snapshot {id}")))?;
            cx.say(format!("Snapshot Ready: {id}"));
        }
        cx.say("Setting User/Group Permissions for Snapshots...");
        for (volume, snapshot) in &made {
            let (groups, users) = (&volume.snapshot_groups, &volume.snapshot_users);
            Box::pin(attributes::share_snapshot(job, &job.ec2, &snapshot.id, groups, users)).await?;
        }
        Ok(made.into_iter().map(|(_, snapshot)| snapshot).collect())
    }

    /// The volumes that stay when the instance goes, and the snapshots.
    fn artifact(&self, job: &Job<'_>, snapshots: &[Snapshot]) -> Result<Artifact> {
        let volumes = volumes(&self.builder, &self.launched.instance)?;
        let stay = volumes.into_iter().filter(|(volume, _)| !volume.device.delete_on_termination);
        let stay: Vec<&str> = stay.map(|(_, id)| id).collect();
        let all = stay.iter().copied().chain(snapshots.iter().map(|snapshot| snapshot.id.as_str()));
        let mut ids: Vec<String> = all.map(|id| format!("{}:{id}", job.ec2.region())).collect();
        ids.sort();
        let description = format!("EBS Volumes were created:\n\n{}", ids.join("\n"));
        job.cx.say(format!("Created Volumes: {description}"));
        let mut artifact = Artifact::new(VOLUMES, ids.join(",")).describe(description);
        artifact.generated_data.extend(open_facts(&self.launched.facts));
        artifact.resources.extend(snapshots.iter().map(|snapshot| snapshot.resource.clone()));
        for id in stay {
            let resource = job.resource(resources::VOLUME, id, &job.ec2, json!({ "id": id }));
            job.cx.record(resource.clone())?;
            artifact.resources.push(resource);
        }
        self.launched.keep_volumes(job, &self.devices)?;
        Ok(artifact)
    }
}
