//! Images with their snapshots: waited for, found again from the ledger, and taken away.
//!
//! An image that is made is a [`Resource`] of its name. Its details say which region it is in, its `id` and `snapshots` once
//! they are known, and what it is made of, which nothing else is: `instance`, `made_of` (snapshots), `source` (an image) or
//! `location` (a bundle). Where the answer of the call that made it was lost it is found by that.

use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, Image, ImageState};
use serde_json::Value as Json;

use super::{Ec2, Pace, Seen, not_there};
use crate::artifact::Artifact;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::ledger::Resource;

/// How long an image may take.
const IMAGING: Duration = Duration::from_secs(30 * 60);

/// How long a snapshot counts as used by an image that is gone.
const IN_USE: Duration = Duration::from_secs(60);

/// What stands before the reason that an image could not be used.
const NOT_READY: &str = "failed with ResourceNotReady error, which can have a variety of causes. For help troubleshooting, check our \
     docs: https://developer.hashicorp.com/packer/integrations/hashicorp/amazon#resourcenotready-error\noriginal error: ";

/// The snapshots that an image is made of.
pub fn snapshots_of(image: &Image) -> Vec<String> {
    let devices = image.block_device_mappings().iter();
    devices.filter_map(|device| device.ebs()?.snapshot_id().map(str::to_owned)).collect()
}

/// Waits until an image can be used.
///
/// # Errors
/// Where it never can, or not in time.
pub async fn available(cx: &Context, ec2: &Ec2, id: &str) -> Result<Image> {
    let late = format!("{NOT_READY}exceeded max wait time for ImageAvailable waiter");
    let look = || async {
        let Some(image) = ec2.image(id).await? else { return Ok(Seen::Unknown) };
        Ok(match image.state().cloned() {
            Some(ImageState::Available) => Seen::Done(image),
            Some(ImageState::Failed | ImageState::Error | ImageState::Invalid | ImageState::Deregistered) => {
                let why = image.state_reason().and_then(|reason| reason.message()).unwrap_or_default();
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                Seen::Never(Error::provider(format!("{NOT_READY}waiter state transitioned to Failure{why}")))
            }
            state => Seen::Underway(state.map_or_else(String::new, |state| state.as_str().to_owned())),
        })
    };
    let pace = Pace::new(&ec2.session().polling(), IMAGING);
    pace.wait(cx, &format!("image {id} in {}", ec2.region()), &late, look).await
}

/// The account's own images of a name.
///
/// # Errors
/// Where EC2 does not say.
pub async fn named(ec2: &Ec2, name: &str) -> Result<Vec<Image>> {
    let by_name = Filter::builder().name("name").values(name).build();
    let look = |api: &Client| {
        api.describe_images().owners("self").include_deprecated(true).filters(by_name.clone()).send()
    };
    let found = ec2.ask("DescribeImages", look).await?.images.unwrap_or_default();
    // A filter takes `*` and `?` for other characters; a name is itself.
    Ok(found.into_iter().filter(|image| image.name() == Some(name)).collect())
}

/// The image that a resource stands for: by its id; else the account's own of the name that is made of what this build alone has,
/// so that nobody else's is taken for it.
///
/// # Errors
/// Where EC2 does not say.
pub async fn of_resource(ec2: &Ec2, resource: &Resource) -> Result<Option<Image>> {
    if let Some(id) = detail(resource, "id") {
        return Ok(ec2.image(id).await?);
    }
    for image in named(ec2, &resource.name).await? {
        if is_ours(ec2, resource, &image).await? {
            return Ok(Some(image));
        }
    }
    Ok(None)
}

/// Whether an image is made of this build's instance, snapshots, image or bundle.
async fn is_ours(ec2: &Ec2, resource: &Resource, image: &Image) -> Result<bool> {
    let made_of = texts(&resource.details["made_of"]);
    if !made_of.is_empty() {
        return Ok(snapshots_of(image).iter().any(|snapshot| made_of.contains(snapshot)));
    }
    if let Some(source) = detail(resource, "source") {
        let told = image.description().is_some_and(|text| text.contains(source));
        return Ok(told || image.source_image_id() == Some(source));
    }
    if let Some(location) = detail(resource, "location") {
        return Ok(image.image_location() == Some(location));
    }
    let Some(instance) = detail(resource, "instance") else { return Ok(false) };
    if image.source_instance_id().is_some() {
        return Ok(image.source_instance_id() == Some(instance));
    }
    // Where EC2 does not say it of the image, its snapshots do: `Created by CreateImage(i-…) for ami-…`.
    for snapshot in snapshots_of(image) {
        let snapshot = ec2.snapshot(&snapshot).await?;
        let description = snapshot.as_ref().and_then(|snapshot| snapshot.description());
        if description.is_some_and(|text| text.contains(&format!("({instance})"))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes the image of a resource away, with its snapshots, and tells each unless it is `intermediary`, which nobody was to see.
///
/// # Errors
/// Where EC2 refuses; not where there is nothing.
pub async fn release(cx: &Context, ec2: &Ec2, resource: &Resource) -> Result<()> {
    let image = of_resource(ec2, resource).await?;
    let known = texts(&resource.details["snapshots"]);
    let is_intermediary = resource.details["intermediary"] == true;
    if image.is_some() || !known.is_empty() {
        cx.say(if is_intermediary {
            "Deregistering the AMI and deleting unencrypted temporary AMIs and snapshots"
        } else {
            "Deregistering the AMI and deleting associated snapshots because of cancellation, or error..."
        });
    }
    let tell = |text: String| {
        if !is_intermediary {
            cx.say(text);
        }
    };
    remove(ec2, image.as_ref(), known, tell).await
}

/// Deregisters an image and deletes its snapshots, and further ones; each that is done is told.
///
/// # Errors
/// Where EC2 refuses; not where there is nothing.
pub async fn remove(
    ec2: &Ec2,
    image: Option<&Image>,
    mut snapshots: Vec<String>,
    tell: impl Fn(String),
) -> Result<()> {
    if let Some(image) = image {
        snapshots.extend(snapshots_of(image));
        let id = image.image_id().unwrap_or_default();
        let gone = ec2.ask("DeregisterImage", |api| api.deregister_image().image_id(id).send()).await;
        gone.map(drop).or_else(not_there)?;
        tell(format!("Deregistered AMI id: {id}"));
    }
    snapshots.sort();
    snapshots.dedup();
    for snapshot in snapshots {
        delete_snapshot(ec2, &snapshot).await?;
        tell(format!("Deleted snapshot: {snapshot}"));
    }
    Ok(())
}

/// Deletes a snapshot.
///
/// # Errors
/// Where EC2 refuses; not where there is none.
pub async fn delete_snapshot(ec2: &Ec2, id: &str) -> Result<()> {
    let began = tokio::time::Instant::now();
    loop {
        let gone = ec2.ask("DeleteSnapshot", |api| api.delete_snapshot().snapshot_id(id).send()).await;
        match gone {
            // The image that it was in counts for a while.
            Err(e) if e.code == "InvalidSnapshot.InUse" && began.elapsed() < IN_USE => {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            other => return other.map(drop).or_else(not_there),
        }
    }
}

/// The artifact that images are, each a region and an id, in the order of the regions.
pub fn artifact<'a>(kind: &str, images: impl IntoIterator<Item = (&'a str, &'a str)>) -> Artifact {
    let images: Vec<_> = images.into_iter().collect();
    let all = |between: &str, separator: &str| {
        images.iter().map(|(region, id)| format!("{region}{between}{id}")).collect::<Vec<_>>().join(separator)
    };
    let described = format!("AMIs were created:\n{}\n", all(": ", "\n"));
    let mut artifact = Artifact::new(kind, all(":", ",")).describe(described);
    let regions = images.iter().map(|(region, id)| ((*region).to_owned(), Json::from(*id)));
    artifact.metadata.insert("regions".to_owned(), Json::Object(regions.collect()));
    artifact
}

/// Texts of a list.
pub fn texts(list: &Json) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
}

/// A text among the details of a resource, where it is not empty.
pub fn detail<'a>(resource: &'a Resource, name: &str) -> Option<&'a str> {
    resource.details[name].as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_names_regions_and_images() {
        let made = artifact("test", [("eu-west-1", "ami-2"), ("us-east-1", "ami-1")]);
        assert_eq!(made.id, "eu-west-1:ami-2,us-east-1:ami-1");
        assert_eq!(made.description, "AMIs were created:\neu-west-1: ami-2\nus-east-1: ami-1\n");
        assert_eq!(made.metadata["regions"]["us-east-1"], "ami-1");
    }
}
