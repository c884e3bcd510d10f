//! The instance whose further volumes become an image: of their snapshots, or of the instance with one of them as its root.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_ec2::operation::register_image::builders::RegisterImageFluentBuilder;
use aws_sdk_ec2::types::{ArchitectureValues, BlockDeviceMapping, BootModeValues};
use futures_util::future::join_all;
use packer_core::{Artifact, Communicator, Context, Error, Facts, Machine, Result, async_trait};
use serde_json::json;

use super::{AmazonEbsSurrogate, RootDevice};
use crate::amazon::config::device::BlockDevice;
use crate::amazon::finish::{Finish, artifact};
use crate::amazon::job::{Job, rendered};
use crate::amazon::launch::Launched;
use crate::amazon::steps::image::{self, Images};
use crate::amazon::steps::snapshot::{self, Snapshot};
use crate::amazon::steps::swap::{self, Swap};
use crate::amazon::steps::{register, request, stop};

/// The kind of artifact that the images are.
const IMAGES: &str = "mitchellh.amazon.ebssurrogate";

/// An instance that is up.
pub(super) struct Surrogate {
    pub(super) builder: AmazonEbsSurrogate,
    /// The devices that the instance was started with.
    pub(super) devices: Vec<BlockDevice>,
    pub(super) launched: Launched,
}

#[async_trait]
impl Machine for Surrogate {
    fn communicator(&self) -> Arc<dyn Communicator> {
        self.launched.communicator()
    }

    fn facts(&self) -> &Facts {
        &self.launched.facts
    }

    async fn capture(&self, cx: &Context) -> Result<Artifact> {
        let (builder, launched) = (&self.builder, &self.launched);
        launched.clear_key(cx).await?;
        let job = Job::begin(cx, &builder.access, &builder.run).await?;
        job.step("StepStopEBSBackedInstance", stop::stop(&job, &launched.id)).await?;
        let modify = stop::modify(&job, &builder.ami, &launched.id);
        job.step("StepModifyEBSBackedInstance", modify).await?;
        let images = if builder.use_create_image {
            Box::pin(self.created(&job)).await?
        } else {
            Box::pin(self.registered(&job)).await?
        };
        launched.keep_volumes(&job, &self.devices)?;
        Ok(artifact(IMAGES, &images, &launched.facts))
    }
}

impl AmazonEbsSurrogate {
    fn root(&self) -> RootDevice {
        self.ami_root_device.clone().unwrap_or_default()
    }

    /// The devices that are of the image.
    fn kept(&self) -> impl Iterator<Item = &BlockDevice> {
        let launched = self.launch_block_device_mappings.iter();
        launched.filter(|launched| !launched.omit_from_artifact).map(|launched| &launched.device)
    }

    /// The devices of the image, with the snapshots that they are made of: the instance's in place of others of their name,
    /// then one of them as its root device.
    fn image_devices(&self, snapshots: &BTreeMap<&str, &str>) -> Vec<BlockDeviceMapping> {
        let root = self.root();
        let mut devices: BTreeMap<String, BlockDevice> = BTreeMap::new();
        let named = |device: BlockDevice| (device.device_name.clone(), device);
        devices.extend(self.ami_block_device_mappings.iter().cloned().map(named));
        devices.extend(self.kept().map(|kept| {
            let mut device = kept.clone();
            // The snapshot is encrypted where the volume is.
            (device.encrypted, device.kms_key_id) = (None, String::new());
            device.snapshot_id =
                snapshots.get(kept.device_name.as_str()).map_or_else(String::new, |id| (*id).to_owned());
            if device.device_name == root.source_device_name {
                device.device_name = root.device_name.clone();
            }
            named(device)
        }));
        request::devices(devices.values(), false)
    }
}

impl Surrogate {
    /// The volume of a device.
    fn volume(&self, name: &str) -> Result<&str> {
        let mut devices = self.launched.instance.block_device_mappings().iter();
        let found = devices.find(|device| device.device_name() == Some(name));
        let volume = found.and_then(|device| device.ebs()?.volume_id());
        volume.ok_or_else(|| Error::provider(format!("the instance has no volume of the device {name}")))
    }

    fn finish<'a>(&'a self, job: &'a Job<'a>) -> Finish<'a> {
        let source = &self.launched.source.facts;
        Finish { job, ami: &self.builder.ami, source, fast_launch: None }
    }

    /// Makes the image of the instance, which gets the volume as its root device before.
    async fn created(&self, job: &Job<'_>) -> Result<Images> {
        let (builder, root) = (&self.builder, self.builder.root());
        let omitted: Vec<String> = builder
            .launch_block_device_mappings
            .iter()
            .filter(|launched| launched.omit_from_artifact)
            .map(|launched| launched.device.device_name.clone())
            .collect();
        let swap = Swap {
            instance: &self.launched.id,
            volume: self.volume(&root.source_device_name)?,
            device: &root.device_name,
            delete_on_termination: root.delete_on_termination,
            omitted: &omitted,
        };
        let detached = job.step("StepSwapVolumes", swap.swap(job)).await?;
        let images = Box::pin(self.imaged(job)).await;
        if !images.as_ref().is_err_and(Error::is_cancelled) {
            swap::delete(job, &detached).await;
        }
        images
    }

    async fn imaged(&self, job: &Job<'_>) -> Result<Images> {
        let (cx, builder) = (job.cx, &self.builder);
        let existing = image::deregister_existing(job, &builder.ami);
        job.step("StepDeregisterAMI", existing).await?;
        let tags = rendered(cx, &builder.run.all_run_tags(), &self.launched.source.facts)?;
        let devices = self.builder.image_devices(&BTreeMap::new());
        let create = image::create(job, &builder.ami, &self.launched.id, devices, Some(&tags));
        let first = job.step("StepCreateAMI", create).await?;
        Box::pin(self.finish(job).finish(first)).await
    }

    /// Registers snapshots of the volumes as an image.
    async fn registered(&self, job: &Job<'_>) -> Result<Images> {
        let mut snapshots = Vec::new();
        match Box::pin(self.registered_of(job, &mut snapshots)).await {
            Ok(images) => {
                // They are the images' now.
                snapshots.iter().try_for_each(|snapshot| job.cx.released(&snapshot.resource))?;
                Ok(images)
            }
            Err(error) => {
                if !error.is_cancelled() {
                    snapshot::undo(job, &snapshots).await;
                }
                Err(error)
            }
        }
    }

    async fn registered_of(&self, job: &Job<'_>, snapshots: &mut Vec<Snapshot>) -> Result<Images> {
        let (builder, root) = (&self.builder, self.builder.root());
        job.step("StepSnapshotVolumes", self.snapshots(job, snapshots)).await?;
        let existing = image::deregister_existing(job, &builder.ami);
        job.step("StepDeregisterAMI", existing).await?;
        let of_volumes = snapshots.iter().map(|snapshot| (snapshot.volume.as_str(), snapshot.id.as_str()));
        let of_volumes: BTreeMap<&str, &str> = of_volumes.collect();
        let mut of_devices = BTreeMap::new();
        for device in self.builder.kept() {
            let name = device.device_name.as_str();
            let found = self.volume(name).ok().and_then(|volume| of_volumes.get(volume));
            of_devices.extend(found.map(|id| (name, *id)));
        }
        let devices = self.builder.image_devices(&of_devices);
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let architecture = text(&builder.ami_architecture).unwrap_or_else(|| "x86_64".to_owned());
        let fill = |call: RegisterImageFluentBuilder| {
            call.architecture(ArchitectureValues::from(architecture.as_str()))
                .root_device_name(&root.device_name)
                .set_block_device_mappings(Some(devices.clone()))
                .set_boot_mode(text(&builder.boot_mode).as_deref().map(BootModeValues::from))
                .set_uefi_data(text(&builder.uefi_data))
        };
        let made_of = json!({ "made_of": of_volumes.values().collect::<Vec<_>>() });
        let register = register::register(job, &builder.ami, made_of, &builder.tpm_support, fill);
        let first = job.step("StepRegisterAMI", register).await?;
        Box::pin(self.finish(job).finish(first)).await
    }

    /// Makes snapshots of all volumes of the image.
    async fn snapshots(&self, job: &Job<'_>, made: &mut Vec<Snapshot>) -> Result<()> {
        let (cx, builder) = (job.cx, &self.builder);
        let with_volumes =
            self.builder.kept().filter(|device| !device.no_device && device.virtual_name.is_empty());
        let volumes: Vec<&str> =
            with_volumes.map(|device| self.volume(&device.device_name)).collect::<Result<_>>()?;
        let mut tags = Vec::new();
        for _ in &volumes {
            cx.say("Creating snapshot tags");
            tags = job.tags(&builder.ami.all_snapshot_tags(), &self.launched.source.facts)?;
        }
        let description = snapshot::description(&builder.snapshot_description);
        let creates = volumes.iter().map(|volume| {
            cx.say(format!("Creating snapshot of EBS Volume {volume}..."));
            Box::pin(snapshot::create(job, volume, &description, &tags))
        });
        let mut errors = Vec::new();
        for created in join_all(creates).await {
            match created {
                Ok(snapshot) => made.push(snapshot),
                Err(error) => errors.push(error),
            }
        }
        let waits = made.iter().map(|snapshot| Box::pin(snapshot::completed(job, &snapshot.id)));
        errors.extend(join_all(waits).await.into_iter().filter_map(Result::err));
        all_went_well(errors)
    }
}

/// One error for several.
fn all_went_well(mut errors: Vec<Error>) -> Result<()> {
    if let Some(cancelled) = errors.iter().position(Error::is_cancelled) {
        return Err(errors.swap_remove(cancelled));
    }
    let Some(first) = errors.first() else { return Ok(()) };
    let told: String = errors.iter().map(|error| format!("\t* {error}\n")).collect();
    let what = if errors.len() == 1 { "error" } else { "errors" };
    Err(Error::new(first.fault(), format!("{} {what} occurred:\n{told}\n", errors.len())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::amazon::{AmazonEbsSurrogate, BlockDevice, RootDevice, SurrogateDevice};

    fn device(name: &str, size: i64) -> BlockDevice {
        BlockDevice { device_name: name.to_owned(), volume_size: size, ..BlockDevice::default() }
    }

    #[test]
    fn the_image_has_the_devices_of_the_instance_and_one_of_them_is_its_root() {
        let secret = BlockDevice { encrypted: Some(true), kms_key_id: "k".into(), ..device("/dev/xvdf", 5) };
        let of_image = |device| SurrogateDevice { omit_from_artifact: false, device };
        let surrogate = AmazonEbsSurrogate {
            ami_block_device_mappings: vec![device("/dev/xvdf", 99), device("/dev/xvdg", 98)],
            launch_block_device_mappings: vec![
                of_image(secret),
                of_image(device("/dev/xvdg", 7)),
                SurrogateDevice { omit_from_artifact: true, device: device("/dev/xvdh", 1) },
            ],
            ami_root_device: Some(RootDevice {
                source_device_name: "/dev/xvdf".into(),
                device_name: "/dev/xvda".into(),
                volume_size: 6,
                ..RootDevice::default()
            }),
            ..AmazonEbsSurrogate::default()
        };
        let snapshots = BTreeMap::from([("/dev/xvdf", "snap-f"), ("/dev/xvdg", "snap-g")]);
        let shown = |device: &aws_sdk_ec2::types::BlockDeviceMapping| {
            let ebs = device.ebs().unwrap();
            assert_eq!((ebs.encrypted(), ebs.kms_key_id()), (None, None));
            let snapshot = ebs.snapshot_id().unwrap_or("-");
            format!("{} {} {snapshot}", device.device_name().unwrap(), ebs.volume_size().unwrap())
        };
        let all: Vec<_> = surrogate.image_devices(&snapshots).iter().map(shown).collect();
        assert_eq!(all, ["/dev/xvda 5 snap-f", "/dev/xvdf 99 -", "/dev/xvdg 7 snap-g"]);
    }

    #[test]
    fn several_failures_are_one() {
        use packer_core::Error;
        let error = super::all_went_well(vec![Error::provider("a"), Error::user("b")]).unwrap_err();
        assert_eq!(error.message(), "2 errors occurred:\n\t* a\n\t* b\n\n");
        assert!(super::all_went_well(vec![Error::user("b"), Error::cancelled()]).unwrap_err().is_cancelled());
        assert!(super::all_went_well(Vec::new()).is_ok());
    }
}
