//! Where the instance is put: VPC, subnet and zone.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Filter, LocationType, Subnet};
use packer_core::{Error, Result};

use super::source::filter_of;
use crate::amazon::config::filter::NameValue;
use crate::amazon::job::Job;

/// Where the instance is put, as far as that is known.
#[derive(Debug, Clone, Default)]
pub(in crate::amazon) struct Network {
    pub(in crate::amazon) vpc: Option<String>,
    /// Subnets with their zones, the one to try first in front. Without one EC2 takes one of its default VPC.
    pub(in crate::amazon) subnets: Vec<Place>,
    /// The zone where there is no subnet.
    pub(in crate::amazon) zone: Option<String>,
}

/// A subnet, and the zone that it is in.
#[derive(Debug, Clone)]
pub(in crate::amazon) struct Place {
    pub(in crate::amazon) subnet: String,
    pub(in crate::amazon) zone: Option<String>,
}

impl Place {
    fn of(subnet: &Subnet) -> Option<Self> {
        let zone = subnet.availability_zone().map(str::to_owned);
        Some(Self { subnet: subnet.subnet_id()?.to_owned(), zone })
    }
}

/// A map of filters with the blocks beside it.
pub(in crate::amazon) fn filters_of(
    map: &BTreeMap<String, String>,
    blocks: &[NameValue],
) -> BTreeMap<String, String> {
    let mut all = map.clone();
    all.extend(blocks.iter().map(|block| (block.name.clone(), block.value.clone())));
    all
}

/// Finds out where.
pub(in crate::amazon) async fn find(job: &Job<'_>) -> Result<Network> {
    let (cx, run) = (job.cx, job.run);
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut network =
        Network { vpc: given(&run.vpc_id), zone: given(&run.availability_zone), ..Network::default() };
    if let (None, Some(filter)) = (&network.vpc, &run.vpc_filter) {
        network.vpc = Some(vpc(job, &filters_of(&filter.filters, &filter.filter)).await?);
    }
    if !run.subnet_id.is_empty() {
        network.subnets = vec![Place { subnet: run.subnet_id.clone(), zone: network.zone.clone() }];
    } else if let Some(filter) = &run.subnet_filter {
        let mut filters = filters_of(&filter.filters, &filter.filter);
        filters.insert("state".to_owned(), "available".to_owned());
        filters.extend(network.vpc.iter().map(|vpc| ("vpc-id".to_owned(), vpc.clone())));
        filters.extend(network.zone.iter().map(|zone| ("availabilityZone".to_owned(), zone.clone())));
        let found = subnets(job, &filters).await?;
        network.subnets = in_order(found, filter.most_free, filter.random)?;
        if let Some(first) = network.subnets.first() {
            cx.say(format!("Found Subnet ID: {}", first.subnet));
        }
    } else if let Some(wanted) = run.associate_public_ip_address {
        cx.say(format!("Setting public IP address to {wanted} on instance without a subnet ID"));
        // EC2 wants a subnet beside that; where none is found it is left to its own default.
        match inferred(job, &mut network).await {
            Ok(()) => {}
            Err(e) if e.is_cancelled() => return Err(e),
            Err(e) => cx.say(format!("{e}")),
        }
    }
    match network.subnets.first() {
        Some(place) if network.vpc.is_none() || place.zone.is_none() => {
            learn(job, &mut network).await?;
        }
        _ => {}
    }
    Ok(network)
}

async fn vpc(job: &Job<'_>, filters: &BTreeMap<String, String>) -> Result<String> {
    let filter: Vec<Filter> = filters.iter().map(|(name, value)| filter_of(name, value)).collect();
    let look = |api: &aws_sdk_ec2::Client| api.describe_vpcs().set_filters(Some(filter.clone())).send();
    let asked = job.ec2.ask("DescribeVpcs", look).await;
    let found = asked.map_err(|e| Error::from(e).context("Error querying VPCs"))?.vpcs.unwrap_or_default();
    match found.as_slice() {
        [vpc] => {
            let id = vpc.vpc_id().unwrap_or_default().to_owned();
            job.cx.say(format!("Found VPC ID: {id}"));
            Ok(id)
        }
        found => {
            let shown: Vec<String> = filters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            Err(Error::user(format!(
                "Exactly one VPC should match the filter, but {} VPC's was found matching filters: {}",
                found.len(),
                shown.join(", ")
            )))
        }
    }
}

async fn subnets(job: &Job<'_>, filters: &BTreeMap<String, String>) -> Result<Vec<Subnet>> {
    let filter: Vec<Filter> = filters.iter().map(|(name, value)| filter_of(name, value)).collect();
    let look = |api: &aws_sdk_ec2::Client| api.describe_subnets().set_filters(Some(filter.clone())).send();
    let asked = job.ec2.ask("DescribeSubnets", look).await;
    Ok(asked.map_err(|e| Error::from(e).context("Error querying Subnets"))?.subnets.unwrap_or_default())
}

/// The subnets in the order in which they are tried: where one has no room the next has its turn.
fn in_order(mut found: Vec<Subnet>, most_free: bool, random: bool) -> Result<Vec<Place>> {
    if found.is_empty() {
        return Err(Error::user("No Subnets was found matching filters"));
    }
    if found.len() > 1 && !most_free && !random {
        return Err(Error::user(format!(
            "Your filter matched {} Subnets. Please try a more specific search, or set random or most_free to true.",
            found.len()
        )));
    }
    if most_free {
        most_free_first(&mut found);
    } else {
        let first = uuid::Uuid::new_v4().as_u128() as usize % found.len();
        found.rotate_left(first);
    }
    Ok(found.iter().filter_map(Place::of).collect())
}

fn most_free_first(found: &mut [Subnet]) {
    found.sort_by_key(Subnet::available_ip_address_count);
    found.reverse();
}

/// A subnet of the VPC, or of the default one, in a zone that has such instances; the one with most addresses left.
async fn inferred(job: &Job<'_>, network: &mut Network) -> Result<()> {
    let vpc = match &network.vpc {
        Some(vpc) => vpc.clone(),
        None => {
            job.cx.say("No VPC ID provided, Packer will use the default VPC");
            let default = BTreeMap::from([("is-default".to_owned(), "true".to_owned())]);
            let filter: Vec<Filter> = default.iter().map(|(name, value)| filter_of(name, value)).collect();
            let look =
                |api: &aws_sdk_ec2::Client| api.describe_vpcs().set_filters(Some(filter.clone())).send();
            let found = job.ec2.ask("DescribeVpcs", look).await?.vpcs.unwrap_or_default();
            let first = found.into_iter().find_map(|vpc| vpc.vpc_id);
            first.ok_or_else(|| Error::user("Failed to find the default VPC in this region"))?
        }
    };
    job.cx.say(format!("Inferring subnet from the selected VPC {vpc:?}"));
    let mut filters = BTreeMap::from([("vpc-id".to_owned(), vpc.clone())]);
    filters.extend(network.zone.iter().map(|zone| ("availability-zone".to_owned(), zone.clone())));
    let mut found = subnets(job, &filters).await?;
    let zones = zones_with(job).await?;
    found.retain(|subnet| subnet.availability_zone().is_some_and(|zone| zones.iter().any(|z| z == zone)));
    most_free_first(&mut found);
    network.subnets = found.iter().filter_map(Place::of).collect();
    let Some(first) = network.subnets.first() else {
        return Err(Error::user(format!("No subnet of {vpc} is in a zone with such instances")));
    };
    job.cx.say(format!("Set subnet as {:?}", first.subnet));
    network.vpc = Some(vpc);
    Ok(())
}

/// The zones where there are instances of the type.
async fn zones_with(job: &Job<'_>) -> Result<Vec<String>> {
    let types: Vec<String> = match job.run.instance_type.as_str() {
        "" => job.run.spot_instance_types.clone(),
        one => vec![one.to_owned()],
    };
    let filter = Filter::builder().name("instance-type").set_values(Some(types)).build();
    let look = |api: &aws_sdk_ec2::Client| {
        let call = api.describe_instance_type_offerings().location_type(LocationType::AvailabilityZone);
        call.filters(filter.clone()).send()
    };
    let answer = job.ec2.ask("DescribeInstanceTypeOfferings", look).await?;
    Ok(answer.instance_type_offerings.unwrap_or_default().into_iter().filter_map(|o| o.location).collect())
}

/// Asks which VPC and zone a subnet is in.
async fn learn(job: &Job<'_>, network: &mut Network) -> Result<()> {
    let Some(id) = network.subnets.first().map(|place| place.subnet.clone()) else { return Ok(()) };
    let asked = job.ec2.ask("DescribeSubnets", |api| api.describe_subnets().subnet_ids(&id).send()).await;
    let failed = |e| Error::from(e).context(format!("Describing the subnet: {id} returned error"));
    let found = asked.map_err(failed)?.subnets.unwrap_or_default();
    let Some(subnet) = found.first() else { return Ok(()) };
    network.vpc = network.vpc.take().or_else(|| subnet.vpc_id().map(str::to_owned));
    if let Some(place) = network.subnets.first_mut() {
        place.zone = place.zone.take().or_else(|| subnet.availability_zone().map(str::to_owned));
    }
    Ok(())
}
