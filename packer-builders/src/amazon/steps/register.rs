//! An image that is registered: of snapshots, or of a bundle.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::register_image::builders::RegisterImageFluentBuilder;
use aws_sdk_ec2::types::TpmSupportValues;
use packer_core::{Error, Result};
use serde_json::{Value as Json, json};

use super::image::{self, Made};
use crate::amazon::config::ami::AmiConfig;
use crate::amazon::job::Job;
use crate::amazon::resources;

/// Registers an image, and waits for it. `details` say what it is made of; `fill` says the rest of the call.
pub(in crate::amazon) async fn register(
    job: &Job<'_>,
    ami: &AmiConfig,
    mut details: Json,
    tpm_support: &str,
    fill: impl Fn(RegisterImageFluentBuilder) -> RegisterImageFluentBuilder,
) -> Result<Made> {
    job.cx.say("Registering the AMI...");
    let name = image::first_name(ami);
    details["intermediary"] = json!(image::is_intermediary(ami));
    let resource = job.resource(resources::IMAGE, &name, &job.ec2, details);
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let call = |api: &Client| {
        let call = api.register_image().name(&name);
        let call = call
            .set_virtualization_type(text(&ami.ami_virtualization_type))
            .set_sriov_net_support(ami.sriov_support.then(|| "simple".to_owned()))
            .set_ena_support(ami.ena_support.filter(|wanted| *wanted))
            .set_tpm_support(text(tpm_support).as_deref().map(TpmSupportValues::from));
        fill(call).send()
    };
    let failed = |e: Error| e.context("Error registering AMI");
    let create = async {
        match job.ec2.ask("RegisterImage", call).await {
            Ok(answer) => Ok(answer.image_id.unwrap_or_default()),
            // By an earlier try whose answer was lost: an image of what this build alone has is ours.
            Err(e) if e.code == "InvalidAMIName.Duplicate" => {
                let ours = resources::image_of(&job.ec2, &resource).await?;
                ours.and_then(|image| image.image_id).ok_or_else(|| failed(e.into()))
            }
            Err(e) => Err(failed(e.into())),
        }
    };
    let id = job.cx.own(resource.clone(), create).await?;
    let is_intermediary = image::is_intermediary(ami);
    image::finish(job, &job.ec2, id, resource, is_intermediary).await
}
