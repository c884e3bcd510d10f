//! Another volume in the place of the one that an instance ran from, and volumes taken off it.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{EbsInstanceBlockDeviceSpecification, InstanceBlockDeviceMappingSpecification};
use futures_util::future::try_join_all;
use packer_core::{Error, Result};

use super::volume::{attach, detach, is_off};
use crate::amazon::job::Job;
use crate::amazon::resources;

/// What is moved.
pub(in crate::amazon) struct Swap<'a> {
    pub(in crate::amazon) instance: &'a str,
    /// The volume that becomes the root device.
    pub(in crate::amazon) volume: &'a str,
    /// What that device is called.
    pub(in crate::amazon) device: &'a str,
    /// Whether the volume goes when the instance does.
    pub(in crate::amazon) delete_on_termination: bool,
    /// The names of devices that are only taken off.
    pub(in crate::amazon) omitted: &'a [String],
}

/// A device as it is on the instance.
struct Device {
    name: String,
    volume: String,
    delete_on_termination: bool,
}

impl Swap<'_> {
    /// Moves the volumes. Gives those that are on no instance any more, and that would have gone with it.
    pub(in crate::amazon) async fn swap(&self, job: &Job<'_>) -> Result<Vec<String>> {
        let devices = self.devices(job).await?;
        let is_there = |device: &Device| device.name == self.device && device.volume == self.volume;
        // After another try to make the image it may be.
        let is_swapped = devices.iter().any(is_there);
        let mut off = Vec::new();
        for device in &devices {
            let (name, volume) = (&device.name, &device.volume);
            let is_root = !is_swapped && (name == self.device || volume == self.volume);
            if is_root {
                job.cx.say(format!("Detaching Root EBS Device Name: {name}, Volume ID: {volume}\n"));
            } else if self.omitted.contains(name) {
                job.cx.say(format!("Detaching Ommitted EBS Device Name: {name}, Volume ID: {volume}\n"));
            } else {
                continue;
            }
            detach(&job.ec2, volume).await?;
            off.push(device);
        }
        try_join_all(off.iter().map(|device| Box::pin(is_off(job.cx, &job.ec2, &device.volume)))).await?;
        if !is_swapped {
            Box::pin(self.attach(job)).await?;
        }
        let gone = off.iter().filter(|device| device.volume != self.volume && device.delete_on_termination);
        Ok(gone.map(|device| device.volume.clone()).collect())
    }

    async fn devices(&self, job: &Job<'_>) -> Result<Vec<Device>> {
        let id = self.instance;
        let instance = job.ec2.instance(id).await?;
        let instance = instance.ok_or_else(|| Error::provider(format!("instance {id} is gone")))?;
        let devices = instance.block_device_mappings.unwrap_or_default().into_iter().filter_map(|device| {
            let ebs = device.ebs?;
            let delete_on_termination = ebs.delete_on_termination == Some(true);
            Some(Device { name: device.device_name?, volume: ebs.volume_id?, delete_on_termination })
        });
        Ok(devices.collect())
    }

    async fn attach(&self, job: &Job<'_>) -> Result<()> {
        let Self { instance, volume, device, .. } = *self;
        job.cx.say(format!("Attaching Root EBS Device Name {device}, Volume ID: {volume}"));
        Box::pin(attach(job.cx, &job.ec2, instance, volume, device)).await?;
        let ebs =
            EbsInstanceBlockDeviceSpecification::builder().delete_on_termination(self.delete_on_termination);
        let mapping = InstanceBlockDeviceMappingSpecification::builder().device_name(device).ebs(ebs.build());
        let mapping = mapping.build();
        let call = |api: &Client| {
            let call = api.modify_instance_attribute().instance_id(instance);
            call.block_device_mappings(mapping.clone()).send()
        };
        let done = job.ec2.ask("ModifyInstanceAttribute", call).await;
        done.map(drop).map_err(|e| Error::from(e).context(format!("Error modifying the device {device}")))
    }
}

/// Deletes volumes that are on no instance any more. What is not deleted here is left to the end of the build.
pub(in crate::amazon) async fn delete(job: &Job<'_>, volumes: &[String]) {
    job.cx.say("Cleaning up any detached volumes with delete_on_termination set to true...");
    for id in volumes {
        job.cx.say(format!("Deleting EBS Volume ID: {id}"));
        let gone = job.ec2.ask("DeleteVolume", |api| api.delete_volume().volume_id(id).send()).await;
        match gone.map(drop).or_else(resources::not_there) {
            Ok(()) => job.cx.say(format!("Deleted EBS Volume ID: {id}")),
            Err(e) => job.cx.say_error(format!("Error deleting EBS volume {id}: {e}")),
        }
    }
}
