//! What an import makes in an account, and how it is destroyed: after a build, and by a later process from the ledger alone.

use packer_core::aws::ec2::{Ec2, images};
use packer_core::aws::{AccessConfig, Session};
use packer_core::{Context, Error, Resource, Result};
use serde_json::Value as Json;

use super::task;

/// A file in S3, by its address.
pub(super) const OBJECT: &str = "S3 object";
/// A task of EC2's that imports an image, by its client token.
pub(super) const IMPORT: &str = "import task";
/// An image with its snapshots, by its name.
pub(super) const IMAGE: &str = "image";

/// Destroys one thing.
pub(super) async fn release(cx: &Context, access: &AccessConfig, resource: &Resource) -> Result<()> {
    let ec2 = Ec2::enter(cx, access).await?;
    match resource.kind.as_str() {
        OBJECT => release_object(ec2.session(), resource).await,
        IMPORT => release_task(cx, &ec2, resource).await,
        IMAGE => images::release(cx, &ec2, resource).await,
        kind => Err(Error::internal(format!("amazon-import has no {kind}"))),
    }
}

/// What is under a name in S3: null where nothing is, `true` where nobody may ask.
pub(super) async fn version(session: &Session, bucket: &str, key: &str) -> Json {
    session.s3_version(bucket, key).await.map_or(Json::Bool(true), Json::from)
}

async fn release_object(session: &Session, resource: &Resource) -> Result<()> {
    let text = |name: &str| resource.details[name].as_str().unwrap_or_default();
    let (bucket, key) = (text("bucket"), text("key"));
    if resource.details["uploaded"] != true {
        session.s3_abandon(bucket, key).await?;
        // Nobody knows whether the file arrived: what was there before is somebody else's, and stays.
        let now = version(session, bucket, key).await;
        if now == resource.details["before"] || now.is_null() {
            return Ok(());
        }
    }
    Ok(session.s3_delete(bucket, key).await?)
}

async fn release_task(cx: &Context, ec2: &Ec2, resource: &Resource) -> Result<()> {
    let id = match images::detail(resource, "id") {
        Some(id) => id.to_owned(),
        // The same call with the same token begins nothing more where it was begun, and tells its id.
        None => match task::start(ec2, &resource.name, &resource.details).await {
            Ok(id) => id,
            // It cannot be begun, and so was not.
            Err(e) if e.status == Some(400) && e.code.starts_with("Invalid") => return Ok(()),
            Err(e) => return Err(e.into()),
        },
    };
    let image = match task::end(cx, ec2, &id).await? {
        Some(image) => ec2.image(&image).await?,
        // EC2 calls an image that it imports like the task.
        None => images::named(ec2, &id).await?.into_iter().next(),
    };
    images::remove(ec2, image.as_ref(), Vec::new(), |text| cx.say(text)).await
}
