//! The image as a machine, and how it becomes one of EC2's: taken apart, kept as a snapshot, registered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_ec2::operation::register_image::builders::RegisterImageFluentBuilder;
use aws_sdk_ec2::types::{ArchitectureValues, BlockDeviceMapping, BootModeValues, EbsBlockDevice};
use packer_core::{Artifact, Communicator, Context, Facts, Machine, Resource, Result, async_trait};
use serde_json::json;

use super::commands::Commands;
use super::communicator::Inside;
use super::mounts;
use crate::amazon::AmazonChroot;
use crate::amazon::config::run::RunConfig;
use crate::amazon::finish::{Finish, artifact};
use crate::amazon::job::Job;
use crate::amazon::resources;
use crate::amazon::steps::image::{self, Images};
use crate::amazon::steps::snapshot::{self, Snapshot};
use crate::amazon::steps::source::{self, Source};
use crate::amazon::steps::{register, request};

/// The kind of artifact that the images are.
const IMAGES: &str = "mitchellh.amazon.chroot";

/// An image that is mounted.
pub(super) struct Mounted {
    pub(super) builder: AmazonChroot,
    pub(super) run: RunConfig,
    /// None where the volume was empty at first.
    pub(super) source: Option<Source>,
    pub(super) volume: String,
    /// What has to be taken out again before the volume is whole: its attachment, the mounts, files; what is at the end goes first.
    pub(super) inside: Mutex<Vec<Resource>>,
    pub(super) communicator: Arc<Inside>,
    pub(super) commands: Commands,
    pub(super) facts: Facts,
}

#[async_trait]
impl Machine for Mounted {
    fn communicator(&self) -> Arc<dyn Communicator> {
        self.communicator.clone()
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    async fn capture(&self, cx: &Context) -> Result<Artifact> {
        let job = Job::begin(cx, &self.builder.access, &self.run).await?;
        job.step("StepEarlyCleanup", self.leave(cx)).await?;
        let mut snapshots = Vec::new();
        let images = match Box::pin(self.registered(&job, &mut snapshots)).await {
            Ok(images) => images,
            Err(error) => {
                if !error.is_cancelled() && !snapshots.is_empty() {
                    snapshot::undo(&job, &snapshots).await;
                }
                return Err(error);
            }
        };
        // They are the images' now.
        snapshots.iter().try_for_each(|snapshot| cx.released(&snapshot.resource))?;
        Ok(artifact(IMAGES, &images, &self.facts))
    }
}

impl Mounted {
    fn inside(&self) -> MutexGuard<'_, Vec<Resource>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the volume off this instance, and all before that that has to be. Another try goes on where this one ended.
    async fn leave(&self, cx: &Context) -> Result<()> {
        loop {
            let Some(resource) = self.inside().last().cloned() else { return Ok(()) };
            if resource.kind == resources::ATTACHMENT {
                Box::pin(resources::release(cx, &self.builder.access, &resource)).await?;
            } else {
                mounts::take_out(cx, &self.commands, &resource, true).await?;
            }
            self.inside().pop();
            cx.released(&resource)?;
        }
    }

    async fn registered(&self, job: &Job<'_>, snapshots: &mut Vec<Snapshot>) -> Result<Images> {
        let builder = &self.builder;
        let made = job.step("StepSnapshot", self.snapshot(job, snapshots)).await?;
        let existing = image::deregister_existing(job, &builder.ami);
        job.step("StepDeregisterAMI", existing).await?;
        let fill = |call: RegisterImageFluentBuilder| self.fill(call, &made);
        let details = json!({ "made_of": [made] });
        let register = register::register(job, &builder.ami, details, &builder.tpm_support, fill);
        let first = job.step("StepRegisterAMI", register).await?;
        let facts = match &self.source {
            Some(source) => source.facts.clone(),
            None => source::region_facts(job.ec2.region()),
        };
        let finish = Finish { job, ami: &builder.ami, source: &facts, fast_launch: None };
        Box::pin(finish.finish(first)).await
    }

    async fn snapshot(&self, job: &Job<'_>, made: &mut Vec<Snapshot>) -> Result<String> {
        job.cx.say("Creating snapshot...");
        let snapshot = snapshot::create(job, &self.volume, &snapshot::description(""), &[]).await?;
        let id = snapshot.id.clone();
        made.push(snapshot);
        job.cx.say(format!("Snapshot ID: {id}"));
        snapshot::completed(job, &id).await?;
        Ok(id)
    }

    /// What the image is: what the source is, unless the template says otherwise.
    fn fill(&self, call: RegisterImageFluentBuilder, snapshot: &str) -> RegisterImageFluentBuilder {
        let builder = &self.builder;
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut call = call
            .set_boot_mode(text(&builder.boot_mode).as_deref().map(BootModeValues::from))
            .set_uefi_data(text(&builder.uefi_data));
        let is_own = !builder.ami_block_device_mappings.is_empty();
        let (mut devices, mut root) =
            (request::devices(&builder.ami_block_device_mappings, false), builder.root_device_name.clone());
        if let Some(Source { image, .. }) = &self.source {
            call = call.set_architecture(image.architecture().cloned());
            let own = text(&builder.ami.ami_virtualization_type);
            let kind = own.or_else(|| Some(image.virtualization_type()?.as_str().to_owned()));
            call = call.set_virtualization_type(kind.clone());
            if kind.as_deref() != Some("hvm") {
                call = call.set_kernel_id(image.kernel_id.clone()).set_ramdisk_id(image.ramdisk_id.clone());
            }
            if !is_own {
                devices = image.block_device_mappings().to_vec();
                root = image.root_device_name().unwrap_or_default().to_owned();
            }
        } else {
            let processors = text(&builder.ami_architecture).unwrap_or_else(|| "x86_64".to_owned());
            call = call.architecture(ArchitectureValues::from(processors.as_str()));
        }
        let size = i32::try_from(builder.root_volume_size).unwrap_or(i32::MAX);
        let devices = with_snapshot(devices, &root, snapshot, size, is_own);
        call.root_device_name(&root).set_block_device_mappings(Some(devices))
    }
}

/// The devices of the image, the root one of which is the snapshot: at least as large as the template says, exactly so where the
/// devices are the template's own.
fn with_snapshot(
    devices: Vec<BlockDeviceMapping>,
    root: &str,
    snapshot: &str,
    size: i32,
    is_own: bool,
) -> Vec<BlockDeviceMapping> {
    let change = |mut device: BlockDeviceMapping| {
        if device.device_name() == Some(root) {
            let ebs = device.ebs.get_or_insert_with(|| EbsBlockDevice::builder().build());
            ebs.snapshot_id = Some(snapshot.to_owned());
            if is_own || size > ebs.volume_size.unwrap_or_default() {
                ebs.volume_size = Some(size);
            }
        }
        if let Some(ebs) = &mut device.ebs
            && ebs.snapshot_id.is_some()
        {
            // It is as its snapshot is, and EC2 refuses to be told.
            (ebs.encrypted, ebs.kms_key_id) = (None, None);
        }
        device
    };
    devices.into_iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, ebs: EbsBlockDevice) -> BlockDeviceMapping {
        BlockDeviceMapping::builder().device_name(name).ebs(ebs).build()
    }

    #[test]
    fn the_root_device_is_the_snapshot() {
        let root = EbsBlockDevice::builder().snapshot_id("snap-old").volume_size(8).encrypted(true).build();
        let data = EbsBlockDevice::builder().snapshot_id("snap-data").volume_size(5).build();
        let devices = || vec![device("/dev/xvda", root.clone()), device("/dev/xvdb", data.clone())];
        let made = with_snapshot(devices(), "/dev/xvda", "snap-new", 0, false);
        let told = made[0].ebs().unwrap();
        assert_eq!(
            (told.snapshot_id(), told.volume_size(), told.encrypted()),
            (Some("snap-new"), Some(8), None)
        );
        assert_eq!(made[1].ebs(), Some(&data));
        let size = |size, is_own| {
            with_snapshot(devices(), "/dev/xvda", "s", size, is_own)[0]
                .ebs()
                .and_then(|ebs| ebs.volume_size())
        };
        assert_eq!((size(4, false), size(20, false), size(4, true)), (Some(8), Some(20), Some(4)));
        let bare = BlockDeviceMapping::builder().device_name("/dev/sda").build();
        let made = with_snapshot(vec![bare], "/dev/sda", "snap-new", 10, true);
        assert_eq!(made[0].ebs().unwrap().snapshot_id(), Some("snap-new"));
    }
}
