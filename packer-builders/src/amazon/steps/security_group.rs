//! The security groups that let the build into the instance.

use aws_sdk_ec2::types::{IpPermission, IpRange, Ipv6Range, ResourceType};
use packer_core::{Error, Result};
use serde_json::json;

use super::network::{Network, filters_of};
use super::source::Source;
use crate::amazon::job::{Job, rendered, specification};
use crate::amazon::resources;

/// The ids of the groups: those that the template names, or one of the build's own.
pub(in crate::amazon) async fn find_or_make(
    job: &Job<'_>,
    source: &Source,
    network: &Network,
) -> Result<Vec<String>> {
    let run = job.run;
    let mut given = run.security_group_ids.clone();
    given.extend((!run.security_group_id.is_empty()).then(|| run.security_group_id.clone()));
    if !given.is_empty() {
        let look = |api: &aws_sdk_ec2::Client| {
            api.describe_security_groups().set_group_ids(Some(given.clone())).send()
        };
        job.ec2
            .ask("DescribeSecurityGroups", look)
            .await
            .map_err(|e| Error::from(e).context("Couldn't find specified security group"))?;
        return Ok(given);
    }
    if let Some(filter) = &run.security_group_filter {
        let mut filters = filters_of(&filter.filters, &filter.filter);
        if let Some(vpc) = &network.vpc {
            filters.insert("vpc-id".to_owned(), vpc.clone());
        }
        let filters: Vec<_> =
            filters.iter().map(|(name, value)| super::source::filter_of(name, value)).collect();
        let look = |api: &aws_sdk_ec2::Client| {
            api.describe_security_groups().set_filters(Some(filters.clone())).send()
        };
        let found = job.ec2.ask("DescribeSecurityGroups", look).await?.security_groups.unwrap_or_default();
        let ids: Vec<String> = found.into_iter().filter_map(|group| group.group_id).collect();
        job.cx.say(format!("Found Security Group(s): {}", ids.join(", ")));
        return Ok(ids);
    }
    make(job, source, network).await.map(|id| vec![id])
}

async fn make(job: &Job<'_>, source: &Source, network: &Network) -> Result<String> {
    let name = format!("packer_{}", uuid::Uuid::new_v4());
    job.cx.say(format!("Creating temporary security group for this instance: {name}"));
    let tags = rendered(job.cx, &job.run.all_run_tags(), &source.facts)?;
    let tags = specification(ResourceType::SecurityGroup, &tags);
    let resource = job.resource(resources::SECURITY_GROUP, &name, &job.ec2, json!({ "vpc": network.vpc }));
    let call = |api: &aws_sdk_ec2::Client| {
        let call = api.create_security_group().group_name(&name).description("Temporary group for Packer");
        let call = call.set_vpc_id(network.vpc.clone());
        call.set_tag_specifications(tags.clone().map(|tags| vec![tags])).send()
    };
    let create = async {
        match job.ec2.ask("CreateSecurityGroup", call).await {
            Ok(answer) => Ok(answer.group_id.unwrap_or_default()),
            // The answer to an earlier try was lost: nobody else knows the name.
            Err(e) if e.code == "InvalidGroup.Duplicate" => {
                resources::group_id(&job.ec2, &name).await?.ok_or_else(|| Error::from(e))
            }
            Err(e) => Err(e.into()),
        }
    };
    let id = job.cx.own(resource.clone(), create).await?;
    let mut known = resource;
    known.details["id"] = id.as_str().into();
    job.cx.record(known)?;
    if job.run.ssh_interface != "session_manager" {
        open(job, &id).await?;
    }
    Ok(id)
}

/// Lets connections to the communicator's port in.
async fn open(job: &Job<'_>, id: &str) -> Result<()> {
    let port = port(job);
    let cidrs = sources(job).await?;
    job.cx.say(format!(
        "Authorizing access to port {port} from [{}] in the temporary security groups...",
        cidrs.join(" ")
    ));
    let (v6, v4): (Vec<_>, Vec<_>) = cidrs.into_iter().partition(|cidr| cidr.contains(':'));
    let v4: Vec<_> = v4.into_iter().map(|cidr| IpRange::builder().cidr_ip(cidr).build()).collect();
    let v6: Vec<_> = v6.into_iter().map(|cidr| Ipv6Range::builder().cidr_ipv6(cidr).build()).collect();
    let rule = IpPermission::builder().ip_protocol("tcp").from_port(port).to_port(port);
    let rule = rule.set_ip_ranges((!v4.is_empty()).then_some(v4));
    let rule = rule.set_ipv6_ranges((!v6.is_empty()).then_some(v6)).build();
    // EC2 may not know the group yet.
    let open = || {
        job.ec2.ask("AuthorizeSecurityGroupIngress", |api| {
            api.authorize_security_group_ingress().group_id(id).ip_permissions(rule.clone()).send()
        })
    };
    match resources::once_known(job.cx, open).await {
        Ok(_) => Ok(()),
        // By an earlier try whose answer was lost.
        Err(e) if e.code == "InvalidPermission.Duplicate" => Ok(()),
        Err(e) => Err(Error::from(e).context("Error authorizing temporary security group")),
    }
}

/// The port by which the instance is entered; 0 where it is not.
fn port(job: &Job<'_>) -> i32 {
    let communicator = &job.run.communicator;
    if communicator.kind() == "none" {
        return 0;
    }
    let target = packer_core::Target::new("instance", 0);
    communicator.endpoint(&target).map_or(22, |(_, port)| i32::from(port))
}

/// From where the instance may be reached.
async fn sources(job: &Job<'_>) -> Result<Vec<String>> {
    let given = &job.run.temporary_security_group_source_cidrs;
    if !given.is_empty() {
        return Ok(given.clone());
    }
    if job.run.temporary_security_group_source_public_ip {
        let address = own_address(job).await?;
        return Ok(vec![format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })]);
    }
    let everywhere = if job.run.ssh_interface == "ipv6" { "::/0" } else { "0.0.0.0/0" };
    Ok(vec![everywhere.to_owned()])
}

/// The service of AWS's that tells a caller its address.
const WHO_ASKS: &str = "https://checkip.amazonaws.com/";

/// How long it may take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// The address that this computer has in the internet.
async fn own_address(job: &Job<'_>) -> Result<std::net::IpAddr> {
    let failed = |e: &dyn std::fmt::Display| {
        Error::network(format!("the public address of this computer cannot be found out: {e}"))
    };
    let answer = job.ec2.session().http().get(WHO_ASKS).timeout(LIMIT).send().await;
    let mut answer = answer.map_err(|e| failed(&e))?;
    // An address is short; of anything else the beginning is enough.
    let first = answer.chunk().await.map_err(|e| failed(&e))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&first[..first.len().min(64)]).into_owned();
    let wrong = |_| Error::provider(format!("{WHO_ASKS} answers with no address: {text:?}"));
    text.trim().parse().map_err(wrong)
}
