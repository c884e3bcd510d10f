//! Copies of the image in other regions, and encrypted ones.

use aws_sdk_ec2::Client;
use packer_core::aws::ec2::images::available;
use packer_core::{Error, Result, kit};
use serde_json::json;

use super::image::{self, Images, Made};
use crate::amazon::config::ami::AmiConfig;
use crate::amazon::job::Job;
use crate::amazon::resources;

/// Copies the image; `images` then holds all of them.
pub(in crate::amazon) async fn copy(job: &Job<'_>, ami: &AmiConfig, images: &mut Images) -> Result<()> {
    let build = job.ec2.region().to_owned();
    let Some(first) = images.get(&build).cloned() else { return Ok(()) };
    let mut regions: Vec<&str> = ami.ami_regions.iter().map(String::as_str).filter(|r| *r != build).collect();
    if first.is_intermediary && !ami.skip_save_build_region {
        regions.push(&build);
    }
    regions.sort_unstable();
    regions.dedup();
    if regions.is_empty() {
        return Ok(());
    }
    job.cx.say(format!("Copying/Encrypting AMI ({}) to other regions...", first.id));
    let first_image = &first;
    for region in &regions {
        job.cx.say(format!("Copying to: {region}"));
    }
    let copies = regions
        .into_iter()
        .map(|region| async move { (region, Box::pin(one(job, ami, first_image, region)).await) });
    let copies = futures_util::future::join_all(copies);
    job.cx.say("Waiting for all copies to complete...");
    let mut errors = Vec::new();
    for (region, copied) in copies.await {
        match copied {
            Ok(made) => {
                images.insert(region.to_owned(), made);
            }
            Err(e) if e.is_cancelled() => return Err(e),
            Err(e) => errors.push(e),
        }
    }
    if first.is_intermediary && ami.skip_save_build_region {
        images.remove(&build);
    }
    match errors.len() {
        0 => Ok(()),
        count => {
            let told: Vec<String> = errors.iter().map(|e| format!("* {e}")).collect();
            let message = format!("{count} error(s) occurred:\n\n{}", told.join("\n"));
            Err(Error::new(errors[0].fault(), message))
        }
    }
}

async fn one(job: &Job<'_>, ami: &AmiConfig, first: &Made, region: &str) -> Result<Made> {
    let ec2 = job.ec2.in_region(job.cx, region);
    let id = &first.id;
    let own_key = (region == job.ec2.region()).then_some(ami.kms_key_id.as_str());
    let key =
        ami.region_kms_key_ids.get(region).map(String::as_str).or(own_key).filter(|key| !key.is_empty());
    let token = kit::unique_name("packer");
    let details = json!({ "source": id, "token": token });
    let resource = job.resource(resources::IMAGE, &ami.ami_name, &ec2, details);
    let minutes = Some(ami.snapshot_copy_duration_minutes).filter(|minutes| *minutes > 0);
    let call = |api: &Client| {
        let call = api.copy_image().client_token(&token).source_region(job.ec2.region()).source_image_id(id);
        call.name(&ami.ami_name)
            .copy_image_tags(true)
            .set_encrypted(ami.encrypt_boot)
            .set_kms_key_id(key.map(str::to_owned))
            .set_snapshot_copy_completion_duration_minutes(minutes)
            .send()
    };
    let wrong = |e| Error::from(e).context(format!("Error Copying AMI ({id}) to region ({region})"));
    let create = async { ec2.ask("CopyImage", call).await.map_err(wrong) };
    let copied = job.cx.own(resource.clone(), create).await;
    let copied = copied.map_err(|e| told(e, &format!("Error copying AMI ({id}) to region ({region})")))?;
    let mut known = resource;
    let copy = copied.image_id.unwrap_or_default();
    resources::known(job.cx, &mut known, &copy)?;
    let image = available(job.cx, &ec2, &copy).await;
    let image = image.map_err(|e| told(e, &format!("Error waiting for AMI ({id}) in region ({region})")))?;
    image::made(job, image, copy, known, false)
}

/// An error with words in front, unless the work was cancelled.
fn told(error: Error, words: &str) -> Error {
    if error.is_cancelled() { error } else { error.context(words) }
}
