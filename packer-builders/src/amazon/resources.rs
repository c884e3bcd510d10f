//! What a build makes in an account, and how it is destroyed: after a build, and by a later process from the ledger alone.
//!
//! Each thing has a name or a client token that is in the ledger before the call that makes it. Where the answer was lost it is
//! looked for by that.

use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, Instance, InstanceStateName, Snapshot, Volume, VolumeState};
use packer_core::aws::AccessConfig;
use packer_core::aws::ec2::images;
pub(super) use packer_core::aws::ec2::images::{
    delete_snapshot, detail, of_resource as image_of, snapshots_of, texts,
};
use packer_core::aws::ec2::{Ec2, Pace, Refused, Seen};
pub(super) use packer_core::aws::ec2::{not_there, once_known};
use packer_core::{Context, Error, Resource, Result};

/// A key pair, by its name.
pub(super) const KEY_PAIR: &str = "key pair";
/// A security group, by its name.
pub(super) const SECURITY_GROUP: &str = "security group";
/// An instance profile of IAM, by its name.
pub(super) const PROFILE: &str = "instance profile";
/// A role of IAM, by its name.
pub(super) const ROLE: &str = "role";
/// A session of the session manager, by its id.
pub(super) const SESSION: &str = "session";
/// A launch template, by its name.
pub(super) const LAUNCH_TEMPLATE: &str = "launch template";
/// An instance, by the client token of the call that starts it.
pub(super) const INSTANCE: &str = "instance";
/// The volumes that an instance leaves behind, by a name of their own.
pub(super) const VOLUMES: &str = "volumes";
/// A volume on an instance, by the volume's id.
#[cfg(unix)]
pub(super) const ATTACHMENT: &str = "attachment";
/// A volume, by its client token.
pub(super) const VOLUME: &str = "volume";
/// An image with its snapshots, by its name.
pub(super) const IMAGE: &str = "image";
/// A snapshot, by the volume that it is of.
pub(super) const SNAPSHOT: &str = "snapshot";

/// How often, and how long, a group is tried to be deleted that something still uses.
const IN_USE: Duration = Duration::from_secs(120);

/// How long an instance may take to end.
const ENDING: Duration = Duration::from_secs(10 * 60);

/// Destroys one thing.
pub(super) async fn release(cx: &Context, access: &AccessConfig, resource: &Resource) -> Result<()> {
    let region = resource.details["region"].as_str().unwrap_or_default();
    let ec2 = Ec2::enter(cx, access).await?.in_region(cx, region);
    let name = resource.name.as_str();
    match resource.kind.as_str() {
        KEY_PAIR => {
            cx.say("Deleting temporary keypair...");
            let gone = ec2.ask("DeleteKeyPair", |api| api.delete_key_pair().key_name(name).send()).await;
            gone.map(drop).or_else(not_there)
        }
        SECURITY_GROUP => release_group(cx, &ec2, resource).await,
        PROFILE | ROLE => super::steps::profile::release(cx, &ec2, resource).await,
        SESSION => super::steps::session::release(&ec2, name).await,
        LAUNCH_TEMPLATE => {
            let call = |api: &Client| api.delete_launch_template().launch_template_name(name).send();
            ec2.ask("DeleteLaunchTemplate", call).await.map(drop).or_else(not_there)
        }
        INSTANCE => release_instance(cx, &ec2, resource).await,
        VOLUMES => release_volumes(cx, &ec2, resource).await,
        #[cfg(unix)]
        ATTACHMENT => {
            let instance = resource.details["instance"].as_str().unwrap_or_default();
            super::steps::volume::take_off(cx, &ec2, name, instance).await
        }
        VOLUME => release_volume(cx, &ec2, resource).await,
        IMAGE => images::release(cx, &ec2, resource).await,
        SNAPSHOT => release_snapshots(cx, &ec2, resource).await,
        kind => Err(Error::internal(format!("the Amazon builders have no {kind}"))),
    }
}

/// Notes under which id a thing is known since it was made.
pub(super) fn known(cx: &Context, resource: &mut Resource, id: &str) -> Result<()> {
    resource.details["made_as"] = std::mem::replace(&mut resource.name, id.to_owned()).into();
    resource.details["id"] = id.into();
    cx.record(resource.clone())
}

fn by(name: &str, value: impl Into<String>) -> Filter {
    Filter::builder().name(name).values(value).build()
}

/// The id of a group of this name.
pub(super) async fn group_id(ec2: &Ec2, name: &str) -> Result<Option<String>> {
    let look = |api: &Client| api.describe_security_groups().filters(by("group-name", name)).send();
    let found = ec2.ask("DescribeSecurityGroups", look).await?.security_groups.unwrap_or_default();
    Ok(found.into_iter().find_map(|group| group.group_id))
}

async fn release_group(cx: &Context, ec2: &Ec2, resource: &Resource) -> Result<()> {
    let id = match detail(resource, "id") {
        Some(id) => Some(id.to_owned()),
        None => group_id(ec2, &resource.name).await?,
    };
    let Some(id) = id else { return Ok(()) };
    cx.say("Deleting temporary security group...");
    let began = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(500);
    loop {
        let call = |api: &Client| api.delete_security_group().group_id(&id).send();
        match ec2.ask("DeleteSecurityGroup", call).await {
            // An instance that has just ended still counts for a while.
            Err(e) if e.code == "DependencyViolation" && began.elapsed() < IN_USE => cx.sleep(pause).await?,
            other => {
                return other.map(drop).or_else(not_there);
            }
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// The instances that a call with a client token has started; those that a fleet has, by the key pair or launch template that
/// is the build's own.
pub(super) async fn instances(ec2: &Ec2, resource: &Resource) -> Result<Vec<Instance>> {
    if let Some(id) = detail(resource, "id") {
        return Ok(ec2.instance(id).await?.into_iter().collect());
    }
    let filter = match (detail(resource, "template"), detail(resource, "key")) {
        (Some(template), _) => by("tag:aws:ec2launchtemplate:id", template),
        (None, Some(key)) => by("key-name", key),
        (None, None) => by("client-token", resource.name.as_str()),
    };
    let look = |api: &Client| api.describe_instances().filters(filter.clone()).send();
    let found = ec2.ask("DescribeInstances", look).await?.reservations.unwrap_or_default();
    Ok(found.into_iter().flat_map(|reservation| reservation.instances.unwrap_or_default()).collect())
}

async fn release_instance(cx: &Context, ec2: &Ec2, resource: &Resource) -> Result<()> {
    for instance in instances(ec2, resource).await? {
        let state = instance.state().and_then(|state| state.name());
        let Some(id) = instance.instance_id() else { continue };
        if state == Some(&InstanceStateName::Terminated) && detail(resource, "id").is_none() {
            continue;
        }
        cx.say("Terminating the source AWS instance...");
        end(cx, ec2, id).await?;
    }
    Ok(())
}

async fn end(cx: &Context, ec2: &Ec2, id: &str) -> Result<()> {
    let call = |api: &Client| api.terminate_instances().instance_ids(id).send();
    match ec2.ask("TerminateInstances", call).await {
        Ok(_) => {}
        Err(e) => return not_there(e),
    }
    let pace = Pace::new(&ec2.session().polling(), ENDING);
    let late = format!("instance {id} does not end");
    pace.wait(cx, &format!("the end of instance {id}"), &late, || async {
        Ok(match ec2.instance(id).await? {
            None => Seen::Done(()),
            Some(instance) => match instance.state().and_then(|state| state.name()) {
                Some(InstanceStateName::Terminated) => Seen::Done(()),
                state => Seen::Underway(state.map_or_else(String::new, |state| state.as_str().to_owned())),
            },
        })
    })
    .await
}

/// Deletes the volumes that the instance has left behind: those that were made for it, and that the template wants nothing of.
async fn release_volumes(cx: &Context, ec2: &Ec2, resource: &Resource) -> Result<()> {
    let (ids, kept) = (texts(&resource.details["ids"]), texts(&resource.details["kept"]));
    let is_told = resource.details["told"] != false;
    if is_told && resource.details["launched"] == true {
        cx.say("Cleaning up any extra volumes...");
    }
    let looks = futures_util::future::join_all(ids.iter().map(|id| ec2.volume(id)));
    let found = looks.await.into_iter().collect::<Result<Vec<_>, Refused>>()?;
    let left: Vec<Volume> = found.into_iter().flatten().collect();
    if is_told && left.is_empty() {
        cx.say("No volumes to clean up, skipping");
    }
    for volume in left {
        let is_kept = volume.volume_id().is_some_and(|id| kept.iter().any(|kept| kept == id));
        if volume.state() == Some(&VolumeState::Available) && !is_kept {
            delete_volume(cx, ec2, &volume).await?;
        }
    }
    Ok(())
}

async fn delete_volume(cx: &Context, ec2: &Ec2, volume: &Volume) -> Result<()> {
    let Some(id) = volume.volume_id() else { return Ok(()) };
    cx.say(format!("Destroying volume ({id})..."));
    let gone = ec2.ask("DeleteVolume", |api| api.delete_volume().volume_id(id).send()).await;
    gone.map(drop).or_else(not_there)
}

async fn release_volume(cx: &Context, ec2: &Ec2, resource: &Resource) -> Result<()> {
    let id = match detail(resource, "id") {
        Some(id) if ec2.volume(id).await?.is_none() => return Ok(()),
        Some(id) => id.to_owned(),
        // The same call with the same token makes nothing more where the volume was made, and tells its id.
        None => super::steps::volume::create(ec2, &resource.name, &resource.details).await?,
    };
    cx.say("Deleting the created EBS volume...");
    let call = |api: &Client| api.delete_volume().volume_id(&id).send();
    ec2.ask("DeleteVolume", call).await.map(drop).or_else(not_there)
}

/// Deletes the snapshot of a volume that is the build's own; all that bear its description, where the answer was lost.
async fn release_snapshots(cx: &Context, ec2: &Ec2, resource: &Resource) -> Result<()> {
    for id in snapshot_ids(ec2, resource).await? {
        cx.say(format!("Removing snapshot: {id}"));
        delete_snapshot(ec2, &id).await?;
    }
    Ok(())
}

pub(super) async fn snapshot_ids(ec2: &Ec2, resource: &Resource) -> Result<Vec<String>> {
    if let Some(id) = detail(resource, "id") {
        return Ok(ec2.snapshot(id).await?.and_then(|snapshot| snapshot.snapshot_id).into_iter().collect());
    }
    let (volume, description) = (resource.name.as_str(), resource.details["description"].as_str());
    let look =
        |api: &Client| api.describe_snapshots().owner_ids("self").filters(by("volume-id", volume)).send();
    let found: Vec<Snapshot> = ec2.ask("DescribeSnapshots", look).await?.snapshots.unwrap_or_default();
    let ours = found.into_iter().filter(|snapshot| snapshot.description() == description);
    Ok(ours.filter_map(|snapshot| snapshot.snapshot_id).collect())
}
