//! The image: made of the instance, waited for, and what of the same name was there before.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{BlockDeviceMapping, Image, ResourceType, Tag};
use packer_core::aws::ec2::Ec2;
use packer_core::aws::ec2::images::available;
use packer_core::{Error, Resource, Result};
use serde_json::json;

use super::validate::own_images;
use crate::amazon::config::ami::AmiConfig;
use crate::amazon::job::{Job, specification};
use crate::amazon::resources;

/// How long an instance may take to be in a state in which an image can be made of it.
const STATE: Duration = Duration::from_secs(15 * 60);

/// An image that was made, with what it is in the ledger.
#[derive(Debug, Clone)]
pub(in crate::amazon) struct Made {
    pub(in crate::amazon) id: String,
    pub(in crate::amazon) snapshots: Vec<String>,
    pub(in crate::amazon) resource: Resource,
    /// Whether it is only there to be copied.
    pub(in crate::amazon) is_intermediary: bool,
}

/// The images of a build, by region.
pub(in crate::amazon) type Images = BTreeMap<String, Made>;

/// Whether the first image is not the one that is kept.
pub(in crate::amazon) fn is_intermediary(ami: &AmiConfig) -> bool {
    ami.encrypt_boot == Some(true) || ami.skip_save_build_region
}

/// The name of the first image: seven random characters where it is not kept.
pub(in crate::amazon) fn first_name(ami: &AmiConfig) -> String {
    if !is_intermediary(ami) {
        return ami.ami_name.clone();
    }
    const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let bytes = uuid::Uuid::new_v4().into_bytes();
    bytes.iter().take(7).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// Takes away the account's own images of the name in all regions, where the template asks for that.
pub(in crate::amazon) async fn deregister_existing(job: &Job<'_>, ami: &AmiConfig) -> Result<()> {
    if !ami.force_deregister && !job.cx.build().force {
        return Ok(());
    }
    let regions = std::iter::once(job.ec2.region()).chain(ami.ami_regions.iter().map(String::as_str));
    let mut seen = std::collections::BTreeSet::new();
    for region in regions.filter(|region| seen.insert(region.to_owned())) {
        let ec2 = job.ec2.in_region(job.cx, region);
        for image in own_images(job, &ec2, &ami.ami_name).await? {
            let id = image.image_id().unwrap_or_default();
            let gone = ec2.ask("DeregisterImage", |api| api.deregister_image().image_id(id).send()).await;
            gone.map(drop)
                .or_else(resources::not_there)
                .map_err(|e| e.context("Error deregistering existing AMI"))?;
            job.cx.say(format!("Deregistered AMI {}, id: {id}", ami.ami_name));
            if !ami.force_delete_snapshot {
                continue;
            }
            for snapshot in resources::snapshots_of(&image) {
                let call = |api: &Client| api.delete_snapshot().snapshot_id(&snapshot).send();
                let gone = ec2.ask("DeleteSnapshot", call).await.map(drop).or_else(resources::not_there);
                gone.map_err(|e| e.context("Error deleting existing snapshot"))?;
                job.cx.say(format!("Deleted snapshot: {snapshot}"));
            }
        }
    }
    Ok(())
}

/// Makes an image of an instance, with the tags of the run where it is to have them, and waits for it.
pub(in crate::amazon) async fn create(
    job: &Job<'_>,
    ami: &AmiConfig,
    instance: &str,
    devices: Vec<BlockDeviceMapping>,
    run_tags: Option<&[Tag]>,
) -> Result<Made> {
    let name = first_name(ami);
    job.cx.say(format!("Creating AMI {name} from instance {instance}"));
    job.cx.say(match run_tags {
        Some(_) => "Attaching run tags to AMI...",
        None => "Skipping attaching run tags to AMI...",
    });
    let kinds = [ResourceType::Image, ResourceType::Snapshot].into_iter();
    let tags: Vec<_> = kinds.filter_map(|kind| specification(kind, run_tags.unwrap_or_default())).collect();
    let details = json!({ "instance": instance, "intermediary": is_intermediary(ami) });
    let resource = job.resource(resources::IMAGE, &name, &job.ec2, details);
    let call = |api: &Client| {
        let call = api.create_image().instance_id(instance).name(&name);
        call.set_block_device_mappings((!devices.is_empty()).then(|| devices.clone()))
            .set_tag_specifications((!tags.is_empty()).then(|| tags.clone()))
            .send()
    };
    let create = async {
        let (began, mut pause) = (tokio::time::Instant::now(), Duration::from_millis(500));
        loop {
            match job.ec2.ask("CreateImage", call).await {
                Ok(answer) => return Ok(answer.image_id.unwrap_or_default()),
                Err(e) if e.message.contains("Instance is not in state") && began.elapsed() < STATE => {}
                // By an earlier try whose answer was lost: an image of this very instance is ours.
                Err(e) if e.code == "InvalidAMIName.Duplicate" => {
                    let ours = resources::image_of(&job.ec2, &resource).await?;
                    return ours.and_then(|image| image.image_id).ok_or_else(|| failed(e.into()));
                }
                Err(e) => return Err(failed(e.into())),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    };
    let id = job.cx.own(resource.clone(), create).await?;
    finish(job, &job.ec2, id, resource, is_intermediary(ami)).await
}

fn failed(error: Error) -> Error {
    error.context("Error creating AMI")
}

/// Waits for an image of the build's region.
pub(in crate::amazon) async fn finish(
    job: &Job<'_>,
    ec2: &Ec2,
    id: String,
    mut resource: Resource,
    is_intermediary: bool,
) -> Result<Made> {
    resources::known(job.cx, &mut resource, &id)?;
    job.cx.say(format!("AMI: {id}"));
    job.cx.say("Waiting for AMI to become ready...");
    let image = available(job.cx, ec2, &id).await.map_err(|e| match e.is_cancelled() {
        true => e,
        false => e.context("Error waiting for AMI"),
    })?;
    made(job, image, id, resource, is_intermediary)
}

/// Notes the snapshots of an image that is there.
pub(in crate::amazon) fn made(
    job: &Job<'_>,
    image: Image,
    id: String,
    mut resource: Resource,
    is_intermediary: bool,
) -> Result<Made> {
    let snapshots = resources::snapshots_of(&image);
    resource.details["snapshots"] = json!(snapshots);
    job.cx.record(resource.clone())?;
    Ok(Made { id, snapshots, resource, is_intermediary })
}

/// Takes the images of a build away that failed, and says so.
pub(in crate::amazon) async fn undo(job: &Job<'_>, images: &[&Resource]) {
    for resource in images {
        let undone = resources::release(job.cx, job.access, resource).await;
        // What is not undone here is left to the end of the build, which tries again and tells.
        if undone.is_ok() && job.cx.released(resource).is_err() {
            continue;
        }
    }
}
