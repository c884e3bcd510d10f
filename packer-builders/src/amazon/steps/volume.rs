//! Volumes that are made by themselves, put on an instance and taken off.

use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{ResourceType, Tag, Volume, VolumeAttachmentState, VolumeState, VolumeType};
use packer_core::aws::ec2::{Ec2, Pace, Refused, Seen};
use packer_core::{Context, Error, Result};
use serde_json::Value as Json;

use crate::amazon::job::specification;

/// How long a volume may take to be made, to be put on an instance or to be taken off.
const MOVING: Duration = Duration::from_secs(40 * 5);

/// Makes a volume as the details of its resource say, which hold all that the call needs: the same token and the same details
/// are the same volume.
pub(in crate::amazon) async fn create(ec2: &Ec2, token: &str, details: &Json) -> Result<String, Refused> {
    let text = |name: &str| details[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let number = |name: &str| details[name].as_i64().and_then(|number| i32::try_from(number).ok());
    let tags = details["tags"].as_object().into_iter().flatten();
    let tags: Vec<Tag> = tags
        .map(|(key, value)| Tag::builder().key(key).value(value.as_str().unwrap_or_default()).build())
        .collect();
    let tags = specification(ResourceType::Volume, &tags);
    let call = |api: &Client| {
        api.create_volume()
            .client_token(token)
            .set_availability_zone(text("zone"))
            .set_snapshot_id(text("snapshot"))
            .set_size(number("size"))
            .set_iops(number("iops"))
            .set_volume_type(text("type").as_deref().map(VolumeType::from))
            .set_encrypted(details["encrypted"].as_bool())
            .set_kms_key_id(text("key"))
            .set_tag_specifications(tags.clone().map(|tags| vec![tags]))
            .send()
    };
    Ok(ec2.ask("CreateVolume", call).await?.volume_id.unwrap_or_default())
}

/// Waits until a volume that was made can be used.
#[cfg(unix)]
pub(in crate::amazon) async fn is_made(cx: &Context, ec2: &Ec2, id: &str) -> Result<()> {
    wait(cx, ec2, id, "available", |known| known.state() == Some(&VolumeState::Available)).await
}

/// Puts a volume on an instance, and waits until it is there.
pub(in crate::amazon) async fn attach(
    cx: &Context,
    ec2: &Ec2,
    instance: &str,
    volume: &str,
    device: &str,
) -> Result<()> {
    let call =
        |api: &Client| api.attach_volume().device(device).instance_id(instance).volume_id(volume).send();
    match ec2.ask("AttachVolume", call).await {
        // By an earlier try whose answer was lost; on which instance it is is looked at below.
        Err(e) if e.code != "VolumeInUse" => {
            return Err(Error::from(e).context(format!("Error attaching volume {volume}")));
        }
        _ => {}
    }
    let is_on = |known: &Volume| {
        let mut on = known.attachments().iter();
        on.any(|on| {
            on.instance_id() == Some(instance) && on.state() == Some(&VolumeAttachmentState::Attached)
        })
    };
    wait(cx, ec2, volume, "attached", is_on).await
}

/// Asks for a volume to be taken off what it is on.
pub(in crate::amazon) async fn detach(ec2: &Ec2, volume: &str) -> Result<()> {
    match ec2.ask("DetachVolume", |api| api.detach_volume().volume_id(volume).send()).await {
        // By an earlier try whose answer was lost; whether it is off is looked at.
        Err(e) if e.code != "IncorrectState" => {
            Err(Error::from(e).context(format!("Error detaching volume {volume}")))
        }
        _ => Ok(()),
    }
}

/// Waits until a volume is on no instance any more.
pub(in crate::amazon) async fn is_off(cx: &Context, ec2: &Ec2, volume: &str) -> Result<()> {
    wait(cx, ec2, volume, "detached", |known| known.state() == Some(&VolumeState::Available)).await
}

async fn wait(
    cx: &Context,
    ec2: &Ec2,
    id: &str,
    verb: &str,
    is_done: impl Fn(&Volume) -> bool,
) -> Result<()> {
    let late = format!("volume {id} is not {verb}: it takes too long");
    let is_done = &is_done;
    let look = || async move {
        let Some(volume) = ec2.volume(id).await? else { return Ok(Seen::Unknown) };
        if volume.state() == Some(&VolumeState::Error) {
            return Ok(Seen::Never(Error::provider(format!("volume {id} has failed"))));
        }
        let state = volume.state().map_or("", VolumeState::as_str).to_owned();
        Ok(if is_done(&volume) { Seen::Done(()) } else { Seen::Underway(state) })
    };
    let pace = Pace::new(&ec2.session().polling(), MOVING);
    pace.wait(cx, &format!("volume {id} to be {verb}"), &late, look).await
}

/// Takes a volume off the instance that it was put on, and waits until it is off.
#[cfg(unix)]
pub(in crate::amazon) async fn take_off(cx: &Context, ec2: &Ec2, volume: &str, instance: &str) -> Result<()> {
    let Some(known) = ec2.volume(volume).await? else { return Ok(()) };
    if !known.attachments().iter().any(|on| on.instance_id() == Some(instance)) {
        return Ok(());
    }
    cx.say("Detaching EBS volume...");
    detach(ec2, volume).await?;
    is_off(cx, ec2, volume).await
}
