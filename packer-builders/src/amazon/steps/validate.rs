//! What can be found wrong with a build by asking, before anything is made.

use packer_core::aws::ec2::images;
use packer_core::{Error, Result};

use crate::amazon::config::ami::AmiConfig;
use crate::amazon::job::Job;

/// Checks the network and the image's name.
pub(in crate::amazon) async fn validate(job: &Job<'_>, ami: &AmiConfig, creates: bool) -> Result<()> {
    if ami.force_deregister || job.cx.build().force {
        job.cx.say("Force Deregister flag found, skipping prevalidating AMI Name");
        return Ok(());
    }
    if !creates {
        job.cx.say("skip_create_ami was set; not prevalidating AMI name");
        return Ok(());
    }
    if ami.skip_save_build_region {
        job.cx.say("skip_save_build_region was set; not prevalidating AMI name");
        return Ok(());
    }
    job.cx.say("Prevalidating any provided VPC information");
    vpc(job).await?;
    job.cx.say(format!("Prevalidating AMI Name: {}", ami.ami_name));
    let images = own_images(job, &job.ec2, &ami.ami_name).await?;
    match images.first().and_then(|image| image.image_id()) {
        Some(id) => {
            Err(Error::user(format!("Error: AMI Name: '{}' is used by an existing AMI: {id}", ami.ami_name)))
        }
        None => Ok(()),
    }
}

/// Checks that there are the regions.
pub(in crate::amazon) async fn regions(job: &Job<'_>, ami: &AmiConfig) -> Result<()> {
    if ami.skip_region_validation {
        return Ok(());
    }
    let wrong = |e: Error| e.context("error validating regions");
    let asked = job.ec2.ask("DescribeRegions", |api| api.describe_regions().send()).await;
    let known = asked.map_err(|e| wrong(e.into()))?.regions.unwrap_or_default();
    let named = ami.ami_regions.iter().map(String::as_str).chain([job.ec2.region()]);
    let unknown: Vec<&str> =
        named.filter(|name| !known.iter().any(|known| known.region_name() == Some(*name))).collect();
    match unknown.first() {
        Some(name) => Err(wrong(Error::user(format!("Invalid region: {name}")))),
        None => Ok(()),
    }
}

/// In another VPC than the default one nobody knows which subnet is meant.
async fn vpc(job: &Job<'_>) -> Result<()> {
    let id = &job.run.vpc_id;
    if id.is_empty() || !job.run.subnet_id.is_empty() || job.run.subnet_filter.is_some() {
        return Ok(());
    }
    let asked = job.ec2.ask("DescribeVpcs", |api| api.describe_vpcs().vpc_ids(id).send()).await;
    let failed = |e| Error::from(e).context(format!("Error retrieving VPC information for vpc_id {id}"));
    let vpcs = asked.map_err(failed)?.vpcs.unwrap_or_default();
    match vpcs.first() {
        Some(vpc) if vpc.is_default() == Some(true) => Ok(()),
        _ => Err(Error::user(format!(
            "Error: subnet_id or subnet_filter must be provided for non-default VPCs ({id})"
        ))),
    }
}

/// The account's own images of a name.
pub(in crate::amazon) async fn own_images(
    job: &Job<'_>,
    ec2: &packer_core::aws::ec2::Ec2,
    name: &str,
) -> Result<Vec<aws_sdk_ec2::types::Image>> {
    let asked = job.cx.until_cancelled(async { Ok(images::named(ec2, name).await) }).await?;
    asked.map_err(|e| e.context("Error querying AMI"))
}
