//! Windows images of which EC2 keeps prepared instances, so that they start faster.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{
    FastLaunchLaunchTemplateSpecificationRequest, FastLaunchSnapshotConfigurationRequest, FastLaunchStateCode,
};
use futures_util::future::try_join_all;
use packer_core::aws::ec2::{Ec2, Seen};
use packer_core::{Error, Result};

use super::image::Images;
use crate::amazon::config::fast_launch::{FastLaunch, RegionLaunchTemplate};
use crate::amazon::job::Job;
use crate::amazon::resources;

/// How long it may take until instances are prepared: each is started and stopped for it.
const PREPARING: Duration = Duration::from_secs(500 * 15);

/// Has instances of the images prepared, and waits until they are.
pub(in crate::amazon) async fn enable(job: &Job<'_>, wanted: &FastLaunch, images: &Images) -> Result<()> {
    let templates = templates(wanted, job.ec2.region());
    let mut enabled = Vec::new();
    for (region, image) in images {
        let template = templates.get(region);
        let is_wanted = template.map_or(wanted.enable_fast_launch, |t| t.enable_fast_launch != Some(false));
        if !is_wanted {
            continue;
        }
        let (ec2, id) = (job.ec2.in_region(job.cx, region), image.id.as_str());
        job.cx.say(format!("Enabling fast boot for AMI {id} in region {region}"));
        let failed =
            |e: Error| e.context(format!("error enabling fast boot for AMI {id} in region {region}"));
        let begin = begin(job, &ec2, wanted, template, id);
        Box::pin(begin).await.map_err(failed)?;
        enabled.push((ec2, id));
    }
    for (ec2, id) in &enabled {
        let region = ec2.region();
        job.cx.say(format!("Waiting for fast launch to become ready on AMI {id:?} in region {region}..."));
    }
    let waits = enabled.iter().map(|(ec2, id)| Box::pin(ready(job, ec2, id)));
    try_join_all(waits).await.map(drop)
}

/// The launch templates by region.
fn templates(wanted: &FastLaunch, build_region: &str) -> BTreeMap<String, RegionLaunchTemplate> {
    let all = wanted.templates(build_region);
    all.into_iter().map(|template| (template.region.clone(), template)).collect()
}

async fn begin(
    job: &Job<'_>,
    ec2: &Ec2,
    wanted: &FastLaunch,
    template: Option<&RegionLaunchTemplate>,
    id: &str,
) -> Result<()> {
    let template = match template {
        Some(template) => found(ec2, template).await?,
        None => None,
    };
    // What is too large for EC2's number is too large for EC2.
    let number = |number: i64| (number > 0).then(|| i32::try_from(number).unwrap_or(i32::MAX));
    let kept = number(wanted.target_resource_count);
    let kept = kept
        .map(|count| FastLaunchSnapshotConfigurationRequest::builder().target_resource_count(count).build());
    let call = |api: &Client| {
        api.enable_fast_launch()
            .image_id(id)
            .set_launch_template(template.clone())
            .set_max_parallel_launches(number(wanted.max_parallel_launches))
            .set_snapshot_configuration(kept.clone())
            .send()
    };
    resources::once_known(job.cx, || ec2.ask("EnableFastLaunch", call)).await?;
    Ok(())
}

/// A launch template as EC2 knows it: its newest version where the template does not say which.
async fn found(
    ec2: &Ec2,
    wanted: &RegionLaunchTemplate,
) -> Result<Option<FastLaunchLaunchTemplateSpecificationRequest>> {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (id, name) = (text(&wanted.template_id), text(&wanted.template_name));
    let Some(shown) = id.clone().or_else(|| name.clone()) else { return Ok(None) };
    let look = |api: &Client| {
        let look = api.describe_launch_templates().set_launch_template_ids(id.clone().map(|id| vec![id]));
        look.set_launch_template_names(name.clone().map(|name| vec![name])).send()
    };
    let failed = |e| Error::from(e).context(format!("Failed to get launch template {shown}"));
    let asked = ec2.ask("DescribeLaunchTemplates", look).await.map_err(failed)?;
    let template = asked.launch_templates.unwrap_or_default().into_iter().next();
    let template = template.ok_or_else(|| {
        Error::user(format!("there is no launch template {shown} in the region {}", ec2.region()))
    })?;
    let version = match wanted.template_version {
        version if version > 0 => version,
        _ => template.latest_version_number.unwrap_or(1),
    };
    let template = FastLaunchLaunchTemplateSpecificationRequest::builder()
        .set_launch_template_id(template.launch_template_id)
        .version(version.to_string());
    Ok(Some(template.build()))
}

/// Waits until instances of an image are prepared.
async fn ready(job: &Job<'_>, ec2: &Ec2, id: &str) -> Result<()> {
    let failed = |why: &str| {
        Error::provider(format!(
            "fast launch of AMI {id} in region {} did not become ready: {why}",
            ec2.region()
        ))
    };
    let late = failed("it takes too long").message().to_owned();
    let look = || async {
        let asked = ec2
            .ask("DescribeFastLaunchImages", |api| api.describe_fast_launch_images().image_ids(id).send())
            .await?;
        let images = asked.fast_launch_images.unwrap_or_default();
        let Some(image) = images.first() else { return Ok(Seen::Unknown) };
        Ok(match image.state() {
            Some(FastLaunchStateCode::Enabled) => Seen::Done(()),
            Some(state @ FastLaunchStateCode::Enabling) => Seen::Underway(state.as_str().to_owned()),
            state => {
                let state = state.map_or("", |state| state.as_str());
                let why = image.state_transition_reason().unwrap_or_default();
                Seen::Never(failed(&format!("{state} {why}")))
            }
        })
    };
    job.pace(PREPARING)
        .wait(job.cx, &format!("fast launch of image {id} in {}", ec2.region()), &late, look)
        .await
}
