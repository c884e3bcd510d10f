//! The volume: made for the build, put on this instance.

use aws_sdk_ec2::types::{EbsBlockDevice, Instance};
use packer_core::{Error, Resource, Result, kit};
use serde_json::{Map, Value as Json, json};

use super::device;
use crate::amazon::AmazonChroot;
use crate::amazon::config::tags::{self, Tag};
use crate::amazon::job::Job;
use crate::amazon::resources;
use crate::amazon::steps::source::{self, Source};
use crate::amazon::steps::volume;

/// The instance that this runs on.
pub(super) async fn instance(job: &Job<'_>) -> Result<Instance> {
    job.cx.say("Gathering information about this EC2 instance...");
    let elsewhere = || {
        Error::user(
            "Error retrieving the ID of the instance Packer is running on.\n\
             Please verify Packer is running on a proper AWS EC2 instance.",
        )
    };
    let document = job.ec2.session().metadata("dynamic/instance-identity/document").await;
    let document: Json = document.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let id = document["instanceId"].as_str().filter(|id| !id.is_empty()).ok_or_else(elsewhere)?;
    let found =
        job.ec2.instance(id).await.map_err(|e| Error::from(e).context("Error getting instance data"))?;
    let region = job.ec2.region();
    found.ok_or_else(|| Error::user(format!("Error getting instance data: {id} is not in {region}")))
}

/// The source's root device.
pub(super) fn root_of(source: &Source) -> Result<&EbsBlockDevice> {
    let name = source.image.root_device_name();
    let mut devices = source.image.block_device_mappings().iter();
    let root = devices.find(|device| device.device_name() == name).and_then(|device| device.ebs());
    root.ok_or_else(|| Error::provider(format!("{} says nothing of its root device", source.id)))
}

/// Makes the volume: of the source's snapshot, or empty.
pub(super) async fn make(
    job: &Job<'_>,
    builder: &AmazonChroot,
    source: Option<&Source>,
    here: &Instance,
) -> Result<String> {
    let cx = job.cx;
    cx.say("Creating the root volume...");
    let facts = source.map_or_else(|| source::region_facts(job.ec2.region()), |source| source.facts.clone());
    let tags = tags::merged(&builder.root_volume_tags, builder.root_volume_tag.iter().map(Tag::pair));
    let tags = job.tags(&tags, &facts)?;
    let tags = tags.iter().filter_map(|tag| Some((tag.key()?.to_owned(), Json::from(tag.value()?))));
    let mut details = match source {
        Some(source) => of_snapshot(builder, root_of(source)?)?,
        None => empty(builder)?,
    };
    let zone = here.placement().and_then(|placement| placement.availability_zone());
    details["zone"] = zone.into();
    details["tags"] = Json::Object(tags.collect::<Map<_, _>>());
    let mut resource = job.resource(resources::VOLUME, &kit::unique_name("packer"), &job.ec2, details);
    let create = async {
        let made = volume::create(&job.ec2, &resource.name, &resource.details).await;
        made.map_err(|e| Error::from(e).context("Error creating root volume"))
    };
    let id = cx.own(resource.clone(), Box::pin(create)).await?;
    resource.details["id"] = id.as_str().into();
    cx.record(resource)?;
    volume::is_made(cx, &job.ec2, &id).await?;
    Ok(id)
}

/// A volume of the source's root device: the template may make it larger, and another kind.
fn of_snapshot(builder: &AmazonChroot, root: &EbsBlockDevice) -> Result<Json> {
    let usual = root.volume_type().map_or("", |kind| kind.as_str());
    let kind = Some(builder.root_volume_type.as_str()).filter(|kind| !kind.is_empty()).unwrap_or(usual);
    if kind == "io1" && usual != "io1" {
        let message =
            format!("Root volume type cannot be io1, because existing root volume type was {usual}");
        return Err(Error::user(message));
    }
    let key = Some(builder.root_volume_kms_key_id.as_str()).filter(|key| !key.is_empty());
    let is_encrypted = builder.root_volume_encrypt_boot == Some(true) || root.encrypted() == Some(true);
    Ok(json!({
        "snapshot": root.snapshot_id(),
        "size": root.volume_size().map(i64::from).unwrap_or_default().max(builder.root_volume_size),
        "type": kind,
        // Other kinds have operations of their own.
        "iops": root.iops().filter(|_| kind == usual),
        "encrypted": is_encrypted.then_some(true),
        "key": key.or(root.kms_key_id()),
    }))
}

/// An empty volume, of which the template says everything.
fn empty(builder: &AmazonChroot) -> Result<Json> {
    let kind = match builder.root_volume_type.as_str() {
        "io1" => return Err(Error::user("Cannot use io1 volume when building from scratch")),
        "" => "gp2",
        kind => kind,
    };
    let key = Some(builder.root_volume_kms_key_id.as_str()).filter(|key| !key.is_empty());
    let is_encrypted = builder.root_volume_encrypt_boot == Some(true);
    Ok(json!({
        "size": builder.root_volume_size,
        "type": kind,
        "encrypted": is_encrypted.then_some(true),
        "key": key,
    }))
}

/// Puts the volume on this instance; what it is in the ledger until it is taken off.
pub(super) async fn put_on(job: &Job<'_>, here: &Instance, id: &str, name: &str) -> Result<Resource> {
    let (cx, instance, called) = (job.cx, here.instance_id().unwrap_or_default(), device::for_ec2(name));
    cx.say(format!("Attaching the root volume to {called}"));
    let details = json!({ "instance": instance, "device": called });
    let resource = job.resource(resources::ATTACHMENT, id, &job.ec2, details);
    let attach = Box::pin(volume::attach(cx, &job.ec2, instance, id, &called));
    cx.own(resource.clone(), attach).await?;
    Ok(resource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ec2::types::VolumeType;

    fn root(kind: VolumeType, iops: Option<i32>) -> EbsBlockDevice {
        EbsBlockDevice::builder()
            .snapshot_id("snap-1")
            .volume_size(8)
            .volume_type(kind)
            .set_iops(iops)
            .build()
    }

    #[test]
    fn a_volume_is_what_the_source_has_unless_said_otherwise() {
        let builder = AmazonChroot::default();
        let usual = of_snapshot(&builder, &root(VolumeType::Io2, Some(500))).unwrap();
        assert_eq!((&usual["size"], &usual["type"], &usual["iops"]), (&json!(8), &json!("io2"), &json!(500)));
        assert_eq!((&usual["encrypted"], &usual["key"]), (&Json::Null, &Json::Null));

        let mut other = AmazonChroot { root_volume_type: "gp3".to_owned(), root_volume_size: 4, ..builder };
        let smaller = of_snapshot(&other, &root(VolumeType::Io2, Some(500))).unwrap();
        assert_eq!(
            (&smaller["size"], &smaller["type"], &smaller["iops"]),
            (&json!(8), &json!("gp3"), &Json::Null)
        );
        other.root_volume_size = 20;
        assert_eq!(of_snapshot(&other, &root(VolumeType::Gp3, Some(3000))).unwrap()["size"], 20);
        other.root_volume_type = "io1".to_owned();
        assert!(of_snapshot(&other, &root(VolumeType::Gp2, None)).is_err() && empty(&other).is_err());
    }

    #[test]
    fn an_empty_volume_is_encrypted_where_the_template_says_so() {
        let builder = AmazonChroot {
            root_volume_size: 10,
            root_volume_encrypt_boot: Some(true),
            root_volume_kms_key_id: "alias/k".to_owned(),
            ..AmazonChroot::default()
        };
        let made = empty(&builder).unwrap();
        assert_eq!(made, json!({ "size": 10, "type": "gp2", "encrypted": true, "key": "alias/k" }));
    }
}
