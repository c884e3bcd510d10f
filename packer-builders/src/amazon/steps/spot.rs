//! A spot instance: one that a fleet chooses from several types and subnets.

use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::types::{
    CreateFleetError, DefaultTargetCapacityType, FleetLaunchTemplateConfigRequest,
    FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecificationRequest, FleetType, Instance,
    InstanceType, ResourceType, SpotAllocationStrategy, SpotOptionsRequest, Tag, TagSpecification,
    TargetCapacitySpecificationRequest,
};
use packer_core::aws::ec2::Refused;
use packer_core::event::EventKind;
use packer_core::{Error, Result};
use serde_json::json;
use tokio::time::Instant;

use super::launch_template::{self, LaunchTemplate, StartTags};
use super::network::Network;
use super::run::{Request, volume_ids};
use crate::amazon::config::run::RunConfig;
use crate::amazon::job::{Job, rendered, specification};
use crate::amazon::resources;

/// How often a fleet is asked for where AWS has no room for its instance.
const TRIES: u32 = 11;

/// The longest pause between two of these.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Asks for an instance. Gives its id.
pub(in crate::amazon) async fn launch(job: &Job<'_>, request: &Request<'_>) -> Result<String> {
    let (cx, run, facts) = (job.cx, job.run, &request.source.facts);
    cx.say("Launching a spot AWS instance...");
    cx.say("Interpolating tags for spot instance...");
    let start = StartTags {
        instance: job.tags(&run.all_run_tags(), facts)?,
        volumes: job.tags(&request.volume_tags, facts)?,
    };
    let own_tags = rendered(cx, &run.all_spot_tags(), facts)?;
    let template = Box::pin(launch_template::make(job, request, &start, &own_tags)).await?;
    let tags = specification(ResourceType::Fleet, &job.tags(&run.all_fleet_tags(), facts)?);

    // What a fleet starts has no client token, but the template that it was started from.
    let name = uuid::Uuid::new_v4().to_string();
    let mut resource = job.resource(resources::INSTANCE, &name, &job.ec2, json!({ "template": template.id }));
    let id = cx.own(resource.clone(), fleet(job, request.network, &template, tags)).await?;
    resources::known(cx, &mut resource, &id)?;
    Ok(id)
}

/// Makes fleets of one instance until AWS has room for one.
async fn fleet(
    job: &Job<'_>,
    network: &Network,
    template: &LaunchTemplate,
    tags: Option<TagSpecification>,
) -> Result<String> {
    let (began, mut pause) = (Instant::now(), Duration::from_millis(500));
    let mut tries = 1;
    loop {
        let error = match ask(job, network, template, tags.clone()).await {
            Ok(answer) => match id_of(&answer) {
                Some(id) => return Ok(id.to_owned()),
                None => failed(&answer),
            },
            Err(refused) => {
                let no_room = refused.is_no_capacity();
                Failed { no_room, error: refused.into() }
            }
        };
        if !error.no_room || tries == TRIES {
            return Err(error.error);
        }
        job.cx.emit(EventKind::Waiting {
            what: "room for a spot instance".to_owned(),
            state: error.error.to_string(),
            elapsed: began.elapsed(),
            limit: LONGEST_PAUSE * TRIES,
        });
        job.cx.sleep(pause).await?;
        (tries, pause) = (tries + 1, (pause * 2).min(LONGEST_PAUSE));
    }
}

async fn ask(
    job: &Job<'_>,
    network: &Network,
    template: &LaunchTemplate,
    tags: Option<TagSpecification>,
) -> Result<CreateFleetOutput, Refused> {
    // A call with the token of an earlier one is answered as that one was.
    let token = uuid::Uuid::new_v4().to_string();
    let template =
        FleetLaunchTemplateSpecificationRequest::builder().launch_template_name(&template.name).version("1");
    let config = FleetLaunchTemplateConfigRequest::builder()
        .launch_template_specification(template.build())
        .set_overrides(Some(choices(job.run, network)))
        .build();
    let target = TargetCapacitySpecificationRequest::builder()
        .total_target_capacity(1)
        .default_target_capacity_type(DefaultTargetCapacityType::Spot)
        .build();
    let strategy = Some(job.run.spot_allocation_strategy.as_str()).filter(|strategy| !strategy.is_empty());
    let options = strategy.map(|strategy| {
        let strategy = SpotAllocationStrategy::from(strategy);
        SpotOptionsRequest::builder().allocation_strategy(strategy).build()
    });
    let call = |api: &Client| {
        api.create_fleet()
            .client_token(&token)
            .r#type(FleetType::Instant)
            .launch_template_configs(config.clone())
            .target_capacity_specification(target.clone())
            .replace_unhealthy_instances(false)
            .set_spot_options(options.clone())
            .set_tag_specifications(tags.clone().map(|tags| vec![tags]))
            .send()
    };
    job.ec2.ask("CreateFleet", call).await
}

/// What the fleet may choose from: each type, where there are several subnets in each of them.
fn choices(run: &RunConfig, network: &Network) -> Vec<FleetLaunchTemplateOverridesRequest> {
    let types = std::iter::once(&run.instance_type).chain(&run.spot_instance_types);
    let types = types.filter(|kind| !kind.is_empty()).map(|kind| {
        FleetLaunchTemplateOverridesRequest::builder().instance_type(InstanceType::from(kind.as_str()))
    });
    match network.subnets.as_slice() {
        [] | [_] => types.map(|choice| choice.build()).collect(),
        places => types
            .flat_map(|choice| {
                places.iter().map(move |place| choice.clone().subnet_id(&place.subnet).build())
            })
            .collect(),
    }
}

/// The id of the instance. That some types are not to be had somewhere does not matter where one was.
fn id_of(answer: &CreateFleetOutput) -> Option<&str> {
    let mut ids = answer.instances().iter().flat_map(|instance| instance.instance_ids());
    ids.next().map(String::as_str)
}

/// Why there is no instance.
struct Failed {
    error: Error,
    /// Whether there may be one a little later.
    no_room: bool,
}

fn failed(answer: &CreateFleetOutput) -> Failed {
    let id = answer.fleet_id().unwrap_or_default();
    let errors = answer.errors();
    let reasons: Vec<String> = errors.iter().map(reason).collect();
    let text = format!("Error waiting for fleet request ({id}) to become ready:{}", reasons.join("; "));
    let refused = |error: &CreateFleetError| {
        let (code, message) =
            (error.error_code().unwrap_or_default(), error.error_message().unwrap_or_default());
        Refused::answered("CreateFleet", code, message)
    };
    let no_room = errors.iter().find(|error| refused(error).is_no_capacity());
    let first = no_room.or(errors.first()).map(|error| Error::from(refused(error)));
    let fault = first.map_or(packer_core::Fault::Provider, |error| error.fault());
    let error = Error::new(fault, text);
    Failed { no_room: no_room.is_some(), error: if no_room.is_some() { error.retryable() } else { error } }
}

/// What AWS says of one choice, and which it was.
fn reason(error: &CreateFleetError) -> String {
    let message = error.error_message().unwrap_or_default();
    let choice = error.launch_template_and_overrides().and_then(|both| both.overrides());
    let Some(choice) = choice else { return message.to_owned() };
    let kind = choice.instance_type().map(|kind| kind.as_str().to_owned());
    let place = choice.availability_zone().or(choice.subnet_id()).map(str::to_owned);
    let which: Vec<String> = [kind, place].into_iter().flatten().collect();
    if which.is_empty() { message.to_owned() } else { format!("{message} ({})", which.join(" in ")) }
}

/// Tags what a spot instance has: not everything takes them when it is made.
pub(in crate::amazon) async fn tag(job: &Job<'_>, request: &Request<'_>, instance: &Instance) -> Result<()> {
    let facts = &request.source.facts;
    let spot = job.tags(&job.run.all_spot_tags(), facts)?;
    if let Some(id) = instance.spot_instance_request_id() {
        put(job, &[id], &spot).await.map_err(|e| e.context("Error tagging spot request"))?;
    }
    let own = rendered(job.cx, &job.run.all_run_tags(), facts)?;
    let id = instance.instance_id().unwrap_or_default();
    put(job, &[id], &own).await.map_err(|e| e.context("Error tagging source instance"))?;
    let volumes = rendered(job.cx, &request.volume_tags, facts)?;
    if volumes.is_empty() {
        return Ok(());
    }
    job.cx.say("Adding tags to source EBS Volumes");
    let ids = volume_ids(instance);
    let put = put(job, &ids, &volumes).await;
    put.map_err(|e| e.context(format!("Error tagging source EBS Volumes on {id}")))
}

async fn put(job: &Job<'_>, ids: &[&str], tags: &[Tag]) -> Result<()> {
    if tags.is_empty() || ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    let put = || {
        job.ec2.ask("CreateTags", |api| {
            api.create_tags().set_resources(Some(ids.clone())).set_tags(Some(tags.to_vec())).send()
        })
    };
    resources::once_known(job.cx, put).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
    use aws_sdk_ec2::types::{
        CreateFleetError, CreateFleetInstance, FleetLaunchTemplateOverrides, InstanceType,
        LaunchTemplateAndOverridesResponse,
    };

    use super::super::network::{Network, Place};
    use super::{choices, failed, id_of};
    use crate::amazon::RunConfig;

    fn error(code: &str, message: &str, zone: Option<&str>) -> CreateFleetError {
        let choice = zone.map(|zone| {
            let choice = FleetLaunchTemplateOverrides::builder().instance_type(InstanceType::T3Micro);
            let choice = choice.availability_zone(zone).build();
            LaunchTemplateAndOverridesResponse::builder().overrides(choice).build()
        });
        let error = CreateFleetError::builder().error_code(code).error_message(message);
        error.set_launch_template_and_overrides(choice).build()
    }

    #[test]
    fn room_may_be_there_later_and_the_text_says_where_there_is_none() {
        let full = CreateFleetOutput::builder()
            .fleet_id("fleet-1")
            .errors(error("InvalidFleetConfiguration", "not here", None))
            .errors(error("InsufficientInstanceCapacity", "no room", Some("us-east-1a")))
            .build();
        let full = failed(&full);
        assert!(full.no_room && full.error.is_retryable());
        let text = "Error waiting for fleet request (fleet-1) to become ready:not here; no room (t3.micro in us-east-1a)";
        assert_eq!(full.error.message(), text);

        let wrong =
            CreateFleetOutput::builder().errors(error("InvalidFleetConfiguration", "no", None)).build();
        let wrong = failed(&wrong);
        assert!(!wrong.no_room && !wrong.error.is_retryable());
    }

    #[test]
    fn an_instance_counts_more_than_what_else_was_not_to_be_had() {
        let answer = CreateFleetOutput::builder()
            .errors(error("InsufficientInstanceCapacity", "no room", None))
            .instances(CreateFleetInstance::builder().instance_ids("i-1").build())
            .build();
        assert_eq!(id_of(&answer), Some("i-1"));
    }

    #[test]
    fn every_type_may_be_in_every_subnet() {
        let run = RunConfig {
            spot_instance_types: vec!["t3.micro".into(), "t3.small".into()],
            ..RunConfig::default()
        };
        let place = |subnet: &str| Place { subnet: subnet.to_owned(), zone: None };
        let shown = |subnets: &[&str]| {
            let network =
                Network { subnets: subnets.iter().map(|s| place(s)).collect(), ..Network::default() };
            let all = choices(&run, &network);
            let shown = |choice: &aws_sdk_ec2::types::FleetLaunchTemplateOverridesRequest| {
                let kind = choice.instance_type().map_or("", |kind| kind.as_str());
                format!("{kind} {}", choice.subnet_id().unwrap_or("-"))
            };
            all.iter().map(shown).collect::<Vec<_>>()
        };
        // The only one is the template's.
        assert_eq!(shown(&["a"]), ["t3.micro -", "t3.small -"]);
        assert_eq!(shown(&["a", "b"]), ["t3.micro a", "t3.micro b", "t3.small a", "t3.small b"]);
    }
}
