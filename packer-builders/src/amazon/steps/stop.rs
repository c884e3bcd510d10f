//! The instance at rest: stopped, and what is changed of it then.

use std::time::Duration;

use aws_sdk_ec2::types::{AttributeBooleanValue, AttributeValue, InstanceStateName};
use packer_core::aws::ec2::Seen;
use packer_core::{Error, Result};

use crate::amazon::config::ami::AmiConfig;
use crate::amazon::job::Job;

/// How long an instance may take to stop.
const STOPPING: Duration = Duration::from_secs(10 * 60);

/// How often it is tried to be stopped where EC2 does not know it.
const TRIES: u32 = 6;

/// Stops the instance, unless it ends with its request or the template keeps it from that, and waits until it is stopped.
pub(in crate::amazon) async fn stop(job: &Job<'_>, id: &str) -> Result<()> {
    if job.run.is_spot() {
        return Ok(());
    }
    if job.run.disable_stop_instance {
        job.cx.say("Automatic instance stop disabled. Please stop instance manually.");
    } else {
        job.cx.say("Stopping the source instance...");
        let mut pause = Duration::from_millis(500);
        for number in 1.. {
            job.cx.say("Stopping instance");
            match job.ec2.ask("StopInstances", |api| api.stop_instances().instance_ids(id).send()).await {
                Ok(_) => break,
                Err(e) if e.is_not_found() && number < TRIES => job.cx.sleep(pause).await?,
                Err(e) => return Err(Error::from(e).context("Error stopping instance")),
            }
            pause = (pause * 3).min(Duration::from_secs(60));
        }
    }
    job.cx.say("Waiting for the instance to stop...");
    let late = "Error waiting for instance to stop: exceeded max wait time for InstanceStopped waiter";
    let look = || async {
        let Some(instance) = job.ec2.instance(id).await? else { return Ok(Seen::Unknown) };
        Ok(match instance.state().and_then(|state| state.name()) {
            Some(InstanceStateName::Stopped) => Seen::Done(()),
            Some(InstanceStateName::Terminated) => {
                Seen::Never(Error::provider("Error waiting for instance to stop: it has been terminated"))
            }
            state => Seen::Underway(state.map_or_else(String::new, |state| state.as_str().to_owned())),
        })
    };
    job.pace(STOPPING).wait(job.cx, &format!("instance {id} to stop"), late, look).await
}

/// Turns fast networking on or off.
pub(in crate::amazon) async fn modify(job: &Job<'_>, ami: &AmiConfig, id: &str) -> Result<()> {
    if ami.sriov_support {
        job.cx.say("Enabling Enhanced Networking (SR-IOV)...");
        let simple = AttributeValue::builder().value("simple").build();
        let call = |api: &aws_sdk_ec2::Client| {
            api.modify_instance_attribute().instance_id(id).sriov_net_support(simple.clone()).send()
        };
        let done = job.ec2.ask("ModifyInstanceAttribute", call).await;
        done.map_err(|e| {
            Error::from(e).context(format!("Error enabling Enhanced Networking (SR-IOV) on {id}"))
        })?;
    }
    if let Some(wanted) = ami.ena_support {
        let verb = if wanted { "Enabling" } else { "Disabling" };
        job.cx.say(format!("{verb} Enhanced Networking (ENA)..."));
        let value = AttributeBooleanValue::builder().value(wanted).build();
        let call = |api: &aws_sdk_ec2::Client| {
            api.modify_instance_attribute().instance_id(id).ena_support(value.clone()).send()
        };
        let done = job.ec2.ask("ModifyInstanceAttribute", call).await;
        done.map_err(|e| {
            let verb = if wanted { "enabling" } else { "disabling" };
            Error::from(e).context(format!("Error {verb} Enhanced Networking (ENA) on {id}"))
        })?;
    }
    Ok(())
}
