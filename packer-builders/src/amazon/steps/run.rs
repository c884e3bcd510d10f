//! The instance: started on demand, and waited for until it runs.

use std::time::Duration;

use aws_sdk_ec2::types::{
    CapacityReservationPreference, CapacityReservationSpecification, CapacityReservationTarget,
    CreditSpecificationRequest, EnclaveOptionsRequest, IamInstanceProfileSpecification, Instance,
    InstanceNetworkInterfaceSpecification, InstanceStateName, InstanceType, LicenseConfigurationRequest,
    Placement, ResourceType, ShutdownBehavior, Tag, Tenancy,
};
use packer_core::aws::ec2::{Refused, Seen};
use packer_core::{Error, Resource, Result, Value};
use serde_json::json;

use super::key_pair::Keys;
use super::network::{Network, Place};
use super::request;
use super::source::Source;
use crate::amazon::config::device::BlockDevice;
use crate::amazon::config::tags::Tags;
use crate::amazon::job::{Job, specification};
use crate::amazon::resources;

/// How long an instance may take to run.
const STARTING: Duration = Duration::from_secs(10 * 60);

/// What an instance is started with.
pub(in crate::amazon) struct Request<'a> {
    pub(in crate::amazon) source: &'a Source,
    pub(in crate::amazon) network: &'a Network,
    pub(in crate::amazon) keys: &'a Keys,
    pub(in crate::amazon) groups: &'a [String],
    pub(in crate::amazon) profile: Option<&'a str>,
    pub(in crate::amazon) devices: &'a [BlockDevice],
    pub(in crate::amazon) no_ephemeral: bool,
    /// Whether it runs from a volume.
    pub(in crate::amazon) is_ebs: bool,
    /// Whether people are told that its volumes are cleaned up.
    pub(in crate::amazon) tells_volumes: bool,
    pub(in crate::amazon) volume_tags: Tags,
}

/// Starts an instance and waits until it runs.
pub(in crate::amazon) async fn run(job: &Job<'_>, request: &Request<'_>) -> Result<(Instance, Resource)> {
    let volumes = job.resource(
        resources::VOLUMES,
        &packer_core::kit::unique_name("volumes"),
        &job.ec2,
        json!({ "told": request.tells_volumes }),
    );
    job.cx.record(volumes.clone())?;
    let id = if job.run.is_spot() {
        super::spot::launch(job, request).await?
    } else {
        on_demand(job, request).await?
    };
    job.cx.say(format!("Instance ID: {id}"));
    job.cx.say(format!("Waiting for instance ({id}) to become ready..."));
    let instance = running(job, &id).await?;
    let mut known = volumes;
    known.details["launched"] = true.into();
    known.details["ids"] = json!(volume_ids(&instance));
    job.cx.record(known.clone())?;
    if job.run.is_spot() {
        super::spot::tag(job, request, &instance).await?;
    }
    Ok((instance, known))
}

/// The ids of an instance's volumes.
pub(in crate::amazon) fn volume_ids(instance: &Instance) -> Vec<&str> {
    instance.block_device_mappings().iter().filter_map(|device| device.ebs()?.volume_id()).collect()
}

async fn on_demand(job: &Job<'_>, request: &Request<'_>) -> Result<String> {
    job.cx.say("Launching a source AWS instance...");
    let failed = |e: Error| e.context("Error launching source instance");
    let refused = |e: Refused| match e.code.as_str() {
        "VPCIdNotSpecified" => Error::user("a valid Subnet Id was not specified").with_source(e),
        _ => e.into(),
    };
    let tags = job.tags(&job.run.all_run_tags(), &request.source.facts)?;
    let volume_tags = job.tags(&request.volume_tags, &request.source.facts)?;
    if let (Some(public), Some(place)) =
        (job.run.associate_public_ip_address, request.network.subnets.first())
    {
        let subnet = &place.subnet;
        job.cx
            .say(format!("changing public IP address config to {public} for instance on subnet {subnet:?}"));
    }
    let user_data = request::user_data(job).await?;
    let mut places: Vec<Option<&Place>> = request.network.subnets.iter().map(Some).collect();
    if places.is_empty() {
        places.push(None);
    }
    let last = places.len() - 1;
    for (number, place) in places.into_iter().enumerate() {
        let token = uuid::Uuid::new_v4().to_string();
        // A key pair whose name nobody had before tells the instance as well as the token does.
        let is_new = job.run.communicator.temporary_key_pair_name.as_deref().unwrap_or_default().is_empty();
        let pair = request.keys.pair.as_ref().filter(|_| is_new);
        let details = json!({ "key": pair.map(|pair| &pair.name) });
        let resource = job.resource(resources::INSTANCE, &token, &job.ec2, details);
        let call = start(job, request, place, &tags, &volume_tags, user_data.clone(), &token);
        let started = job.cx.own(resource.clone(), async { Ok(call.await) }).await?;
        match started {
            Ok(id) => {
                let mut known = resource;
                resources::known(job.cx, &mut known, &id)?;
                return Ok(id);
            }
            Err(e) if e.is_no_capacity() && number < last => {
                job.cx.released(&resource)?;
                job.cx.say(format!("{}: {}", where_is(job, place), e.message));
            }
            Err(e) if e.made_nothing() && !e.is_no_capacity() => {
                job.cx.released(&resource)?;
                return Err(failed(refused(e)));
            }
            Err(e) if e.is_no_capacity() => {
                return Err(failed(Error::from(e).context(where_is(job, place))));
            }
            Err(e) => return Err(failed(refused(e))),
        }
    }
    Err(Error::internal("no place was tried"))
}

fn where_is(job: &Job<'_>, place: Option<&Place>) -> String {
    let kind = &job.run.instance_type;
    match place {
        Some(place) => format!(
            "no {kind} in the zone {} (subnet {})",
            place.zone.as_deref().unwrap_or("of the subnet"),
            place.subnet
        ),
        None if !job.run.availability_zone.is_empty() => {
            format!("no {kind} in the zone {}", job.run.availability_zone)
        }
        None => format!("no {kind} in {}", job.ec2.region()),
    }
}

async fn start(
    job: &Job<'_>,
    request: &Request<'_>,
    place: Option<&Place>,
    tags: &[Tag],
    volume_tags: &[Tag],
    user_data: Option<String>,
    token: &str,
) -> Result<String, Refused> {
    let run = job.run;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let specifications: Vec<_> = [
        specification(ResourceType::Instance, tags),
        specification(ResourceType::NetworkInterface, tags),
        specification(ResourceType::Volume, volume_tags),
    ]
    .into_iter()
    .flatten()
    .collect();
    let zone = place.map_or(request.network.zone.as_deref(), |place| place.zone.as_deref());
    // One that runs from an instance store cannot be stopped.
    let shutdown = text(&run.shutdown_behavior).or_else(|| request.is_ebs.then(|| "stop".to_owned()));
    let shutdown = shutdown.as_deref().map(ShutdownBehavior::from);
    let metadata =
        request::metadata_options(run).filter(|_| request.is_ebs || run.metadata_options.is_some());
    let call = |api: &aws_sdk_ec2::Client| {
        let mut call = api
            .run_instances()
            .client_token(token)
            .min_count(1)
            .max_count(1)
            .image_id(&request.source.id)
            .instance_type(InstanceType::from(run.instance_type.as_str()))
            .set_user_data(user_data.clone())
            .ebs_optimized(run.ebs_optimized)
            .enclave_options(EnclaveOptionsRequest::builder().enabled(run.enable_nitro_enclave).build())
            .set_metadata_options(metadata.clone())
            .set_key_name(request.keys.name.clone())
            .set_instance_initiated_shutdown_behavior(shutdown.clone())
            .capacity_reservation_specification(reservation(job));
        let devices = request::devices(request.devices, request.no_ephemeral);
        call = call.set_block_device_mappings((!devices.is_empty()).then_some(devices));
        call = call.set_tag_specifications((!specifications.is_empty()).then(|| specifications.clone()));
        call = call.set_placement(placement(job, zone));
        if let Some(profile) = request.profile {
            call =
                call.iam_instance_profile(IamInstanceProfileSpecification::builder().name(profile).build());
        }
        if request::is_burstable(&run.instance_type) {
            let credits = if run.enable_unlimited_credits || run.enable_t2_unlimited {
                "unlimited"
            } else {
                "standard"
            };
            call =
                call.credit_specification(CreditSpecificationRequest::builder().cpu_credits(credits).build());
        }
        for license in
            run.license_specifications.iter().filter_map(|l| l.license_configuration_request.as_ref())
        {
            let arn = &license.license_configuration_arn;
            call = call.license_specifications(
                LicenseConfigurationRequest::builder().license_configuration_arn(arn).build(),
            );
        }
        match (place, run.associate_public_ip_address) {
            (Some(place), Some(public)) => {
                let card = InstanceNetworkInterfaceSpecification::builder()
                    .device_index(0)
                    .associate_public_ip_address(public)
                    .subnet_id(&place.subnet)
                    .set_groups((!request.groups.is_empty()).then(|| request.groups.to_vec()))
                    .delete_on_termination(true);
                call = call.network_interfaces(card.build());
            }
            (place, _) => {
                call = call
                    .set_subnet_id(place.map(|place| place.subnet.clone()))
                    .set_security_group_ids((!request.groups.is_empty()).then(|| request.groups.to_vec()));
            }
        }
        call.send()
    };
    // EC2 may not know a new instance profile yet.
    let mut pause = Duration::from_millis(200);
    for _ in 0..10 {
        match job.ec2.ask("RunInstances", call).await {
            Err(e) if request.profile.is_some() && e.message.contains("iamInstanceProfile") => {}
            other => return other.map(first_id),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    }
    job.ec2.ask("RunInstances", call).await.map(first_id)
}

fn first_id(answer: aws_sdk_ec2::operation::run_instances::RunInstancesOutput) -> String {
    answer
        .instances
        .unwrap_or_default()
        .into_iter()
        .find_map(|instance| instance.instance_id)
        .unwrap_or_default()
}

fn reservation(job: &Job<'_>) -> CapacityReservationSpecification {
    let run = job.run;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (id, group) = (text(&run.capacity_reservation_id), text(&run.capacity_reservation_group_arn));
    let all = CapacityReservationSpecification::builder();
    if id.is_none() && group.is_none() {
        let preference = text(&run.capacity_reservation_preference).unwrap_or_else(|| "none".to_owned());
        let preference = CapacityReservationPreference::from(preference.as_str());
        return all.capacity_reservation_preference(preference).build();
    }
    let target = CapacityReservationTarget::builder()
        .set_capacity_reservation_id(id)
        .set_capacity_reservation_resource_group_arn(group);
    all.capacity_reservation_target(target.build()).build()
}

/// Where the hardware is to be, where the template says something of it.
fn placement(job: &Job<'_>, zone: Option<&str>) -> Option<Placement> {
    let given = job.run.placement.clone().unwrap_or_default();
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let tenancy = text(&given.tenancy).or_else(|| text(&job.run.tenancy));
    let placement = Placement::builder()
        .set_availability_zone(zone.map(str::to_owned))
        .set_host_id(text(&given.host_id))
        .set_host_resource_group_arn(text(&given.host_resource_group_arn))
        .set_tenancy(tenancy.as_deref().map(Tenancy::from))
        .build();
    (placement != Placement::builder().build()).then_some(placement)
}

/// Waits until an instance runs.
pub(in crate::amazon) async fn running(job: &Job<'_>, id: &str) -> Result<Instance> {
    let failed = |why: &str, details: &str| {
        let details = if details.is_empty() { String::new() } else { format!(": {details}") };
        Error::provider(format!("Error waiting for instance ({id}) to become ready: {why}{details}"))
    };
    let late = failed("exceeded max wait time for InstanceRunning waiter", "").message().to_owned();
    let look = || async {
        let Some(instance) = job.ec2.instance(id).await? else { return Ok(Seen::Unknown) };
        let state = instance.state().and_then(|state| state.name()).cloned();
        Ok(match state {
            Some(InstanceStateName::Running) => Seen::Done(instance),
            Some(
                InstanceStateName::ShuttingDown
                | InstanceStateName::Terminated
                | InstanceStateName::Stopping
                | InstanceStateName::Stopped,
            ) => {
                let reason = instance.state_reason().and_then(|reason| reason.message());
                Seen::Never(failed("waiter state transitioned to Failure", reason.unwrap_or_default()))
            }
            state => Seen::Underway(state.map_or_else(String::new, |state| state.as_str().to_owned())),
        })
    };
    job.pace(STARTING).wait(job.cx, &format!("instance {id}"), &late, look).await
}

/// What `build.*` shows of the instance.
pub(in crate::amazon) fn instance_facts(source: &Source, id: &str) -> packer_core::Facts {
    let mut facts = packer_core::Facts::new().id(id);
    for name in crate::amazon::VARIABLES {
        facts.set(name, source.facts.get(name).cloned().unwrap_or_else(|| Value::from("")));
    }
    facts
}
