//! What is said of finished images: when they are deprecated, who may use them, their description and tags.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::primitives::{DateTime, DateTimeFormat};
use aws_sdk_ec2::types::{CreateVolumePermission, CreateVolumePermissionModifications, PermissionGroup, Tag};
use packer_core::aws::ec2::{Attributes, Ec2, create_tags};
use packer_core::{Error, Facts, Result, kit};

use super::image::Images;
use crate::amazon::config::ami::AmiConfig;
use crate::amazon::job::Job;
use crate::amazon::resources;

/// All of it, region by region.
pub(in crate::amazon) async fn set(
    job: &Job<'_>,
    ami: &AmiConfig,
    source: &Facts,
    images: &Images,
) -> Result<()> {
    deprecate(job, ami, images).await?;
    protect(job, ami, images).await?;
    share(job, ami, source, images).await?;
    tag(job, ami, source, images).await
}

async fn deprecate(job: &Job<'_>, ami: &AmiConfig, images: &Images) -> Result<()> {
    if ami.deprecate_at.is_empty() {
        job.cx.say("Skipping Enable AMI deprecation...");
        return Ok(());
    }
    let wrong = |e| Error::user(format!("deprecate_at: {e}"));
    let at = DateTime::from_str(&ami.deprecate_at, DateTimeFormat::DateTimeWithOffset).map_err(wrong)?;
    for (region, image) in images {
        let (ec2, id) = (job.ec2.in_region(job.cx, region), &image.id);
        job.cx.say(format!("Enabling deprecation on AMI ({id}) in region {region:?} ..."));
        let call = |api: &Client| api.enable_image_deprecation().image_id(id).deprecate_at(at).send();
        let done = resources::once_known(job.cx, || ec2.ask("EnableImageDeprecation", call)).await;
        done.map_err(|e| Error::from(e).context("Error enable AMI deprecation"))?;
    }
    Ok(())
}

async fn protect(job: &Job<'_>, ami: &AmiConfig, images: &Images) -> Result<()> {
    let Some(wanted) =
        ami.deregistration_protection.as_ref().filter(|wanted| wanted.enabled || wanted.with_cooldown)
    else {
        job.cx.say("Skipping Enable AMI deregistration protection...");
        return Ok(());
    };
    for (region, image) in images {
        let ec2 = job.ec2.in_region(job.cx, region);
        let call = |api: &Client| {
            let call = api.enable_image_deregistration_protection().image_id(&image.id);
            call.with_cooldown(wanted.with_cooldown).send()
        };
        let done =
            resources::once_known(job.cx, || ec2.ask("EnableImageDeregistrationProtection", call)).await;
        done.map_err(|e| Error::from(e).context("failed to enable AMI deregistration protection"))?;
    }
    Ok(())
}

/// The source as it is called in a region.
fn in_region(source: &Facts, region: &str) -> Facts {
    source.clone().with("BuildRegion", region)
}

fn attributes<'a>(ami: &'a AmiConfig, description: &'a str) -> Attributes<'a> {
    Attributes {
        description,
        groups: &ami.ami_groups,
        users: &ami.ami_users,
        org_arns: &ami.ami_org_arns,
        ou_arns: &ami.ami_ou_arns,
        product_codes: &ami.ami_product_codes,
        imds_support: &ami.imds_support,
    }
}

async fn share(job: &Job<'_>, ami: &AmiConfig, source: &Facts, images: &Images) -> Result<()> {
    let shares_snapshots = !ami.snapshot_users.is_empty() || !ami.snapshot_groups.is_empty();
    let nothing = attributes(ami, ami.ami_description.as_str()).is_empty() && !shares_snapshots;
    if nothing {
        return Ok(());
    }
    for (region, image) in images {
        let ec2 = job.ec2.in_region(job.cx, region);
        let text = ami.ami_description.as_str();
        let description = kit::render_facts(job.cx, text, &in_region(source, region))
            .map_err(|e| e.context("Error interpolating ami description"))?;
        let attributes = attributes(ami, &description);
        job.cx.say(format!("Modifying attributes on AMI ({})...", image.id));
        let set = attributes.set(job.cx, &ec2, &image.id, |name| job.cx.say(format!("Modifying: {name}")));
        set.await.map_err(|e| Error::from(e).context("Error modify AMI attributes"))?;
    }
    for (region, image) in images {
        let ec2 = job.ec2.in_region(job.cx, region);
        for snapshot in &image.snapshots {
            job.cx.say(format!("Modifying attributes on snapshot ({snapshot})..."));
            share_snapshot(job, &ec2, snapshot, &ami.snapshot_groups, &ami.snapshot_users).await?;
        }
    }
    Ok(())
}

/// Lets others make volumes of a snapshot.
pub(in crate::amazon) async fn share_snapshot(
    job: &Job<'_>,
    ec2: &Ec2,
    snapshot: &str,
    groups: &[String],
    users: &[String],
) -> Result<()> {
    let permit = async |name: &str, added: Vec<CreateVolumePermission>| {
        job.cx.say(format!("Modifying: {name}"));
        let call = |api: &Client| {
            let added = CreateVolumePermissionModifications::builder().set_add(Some(added.clone())).build();
            let call = api.modify_snapshot_attribute().snapshot_id(snapshot).create_volume_permission(added);
            match name {
                "users" => call.set_user_ids(Some(users.to_vec())).send(),
                _ => call.set_group_names(Some(groups.to_vec())).send(),
            }
        };
        let done = resources::once_known(job.cx, || ec2.ask("ModifySnapshotAttribute", call)).await;
        done.map(drop).map_err(|e| Error::from(e).context("Error modify snapshot attributes"))
    };
    if !groups.is_empty() {
        let to = |group: &String| {
            CreateVolumePermission::builder().group(PermissionGroup::from(group.as_str())).build()
        };
        permit("groups", groups.iter().map(to).collect()).await?;
    }
    if !users.is_empty() {
        let to = |user: &String| CreateVolumePermission::builder().user_id(user).build();
        permit("users", users.iter().map(to).collect()).await?;
    }
    Ok(())
}

async fn tag(job: &Job<'_>, ami: &AmiConfig, source: &Facts, images: &Images) -> Result<()> {
    let (tags, snapshot_tags) = (ami.all_tags(), ami.all_snapshot_tags());
    if tags.is_empty() && snapshot_tags.is_empty() {
        return Ok(());
    }
    for (region, image) in images {
        let (ec2, facts) = (job.ec2.in_region(job.cx, region), in_region(source, region));
        job.cx.say(format!("Adding tags to AMI ({})...", image.id));
        for snapshot in &image.snapshots {
            job.cx.say(format!("Tagging snapshot: {snapshot}"));
        }
        job.cx.say("Creating AMI tags");
        let tags = job.tags(&tags, &facts)?;
        job.cx.say("Creating snapshot tags");
        let snapshot_tags = job.tags(&snapshot_tags, &facts)?;
        let mut all = vec![image.id.clone()];
        all.extend(image.snapshots.iter().cloned());
        attach(job, &ec2, &all, &tags).await?;
        attach(job, &ec2, &image.snapshots, &snapshot_tags).await?;
    }
    Ok(())
}

/// Gives tags to things.
pub(in crate::amazon) async fn attach(job: &Job<'_>, ec2: &Ec2, ids: &[String], tags: &[Tag]) -> Result<()> {
    if tags.is_empty() || ids.is_empty() {
        return Ok(());
    }
    create_tags(job.cx, ec2, ids, tags).await.map_err(|e| {
        Error::from(e).context(format!("Error adding tags to Resources ([]string{{{}}})", listed(ids)))
    })
}

fn listed(ids: &[String]) -> String {
    ids.iter().map(|id| format!("{id:?}")).collect::<Vec<_>>().join(", ")
}
