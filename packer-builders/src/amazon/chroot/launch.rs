//! From nothing to a folder that is the image: a volume on this instance, mounted, with what commands in it need.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use aws_sdk_ec2::types::{DeviceType, Instance};
use packer_core::{Context, Error, Machine, Resource, Result, kit};

use super::commands::Commands;
use super::communicator::Inside;
use super::machine::Mounted;
use super::mounts::Tree;
use super::{device, volume};
use crate::amazon::AmazonChroot;
use crate::amazon::config::run::RunConfig;
use crate::amazon::job::Job;
use crate::amazon::steps::source::{self, Source};
use crate::amazon::steps::validate;

/// Where volumes are mounted unless the template says otherwise.
const MOUNT_PATH: &str = "/mnt/packer-amazon-chroot-volumes/{{.Device}}";

/// The volume as this computer has it.
struct Attached {
    volume: String,
    attachment: Resource,
    device: String,
    /// Whether the kernel was asked what it calls the device.
    is_found: bool,
}

/// Attaches and mounts a volume.
pub(super) async fn launch(builder: &AmazonChroot, cx: &Context) -> Result<Box<dyn Machine>> {
    let run = RunConfig::default();
    let job = Job::begin(cx, &builder.access, &run).await?;
    validate::regions(&job, &builder.ami).await?;
    job.step("StepPreValidate", validate::validate(&job, &builder.ami, true)).await?;
    let here = job.step("StepInstanceInfo", volume::instance(&job)).await?;
    let source = Box::pin(source_of(&job, builder)).await?;
    let attached = Box::pin(attach(&job, builder, source.as_ref(), &here)).await?;
    let commands = Commands { wrapper: builder.command_wrapper.as_str().to_owned() };
    let device = attached.device.as_str();
    if !builder.pre_mount_commands.is_empty() {
        let run = async {
            cx.say("Running device setup commands...");
            for command in &builder.pre_mount_commands {
                let command = kit::render_known(cx, command.as_str(), &[("Device", device)])?;
                commands.show(cx, &command).await?;
            }
            Ok(())
        };
        job.step("StepPreMountCommands", run).await?;
    }
    let root = mount_path(builder, cx, mounted_device(builder, device))?;
    let mut tree = Tree {
        job: &job,
        builder,
        commands: &commands,
        root: &root,
        made: vec![attached.attachment.clone()],
    };
    let partition = partition(builder, &attached, is_hvm(builder, source.as_ref()));
    job.step("StepMountDevice", tree.mount_root(&partition)).await?;
    if !builder.post_mount_commands.is_empty() {
        let run = async {
            cx.say("Running post-mount commands...");
            let path = root.to_string_lossy();
            for command in &builder.post_mount_commands {
                let known = [("Device", device), ("MountPath", &*path)];
                let command = kit::render_known(cx, command.as_str(), &known)?;
                commands.show(cx, &command).await?;
            }
            Ok(())
        };
        job.step("StepPostMountCommands", run).await?;
    }
    job.step("StepMountExtra", tree.mount_more()).await?;
    job.step("StepCopyFiles", tree.copy_files()).await?;
    let inside = Mutex::new(tree.made);
    let facts = source.as_ref().map_or_else(|| source::region_facts(job.ec2.region()), |s| s.facts.clone());
    let facts = facts.with("Device", device).with("MountPath", root.to_string_lossy().into_owned());
    Ok(Box::new(Mounted {
        builder: builder.clone(),
        run: run.clone(),
        source,
        volume: attached.volume,
        inside,
        communicator: Arc::new(Inside { root, commands: commands.clone() }),
        commands,
        facts,
    }))
}

async fn source_of(job: &Job<'_>, builder: &AmazonChroot) -> Result<Option<Source>> {
    if builder.from_scratch {
        return Ok(None);
    }
    let cx = job.cx;
    let find = async {
        let filter = builder.source_ami_filter.as_ref();
        let found = source::find(cx, &job.ec2, &builder.source_ami, filter).await?;
        source::check_networking(&found, builder.ami.is_enhanced())?;
        Ok(found)
    };
    let found = job.step("StepSourceAMIInfo", find).await?;
    cx.say("Checking the root device on source AMI...");
    if found.image.root_device_type() != Some(&DeviceType::Ebs) {
        return Err(Error::user("The root device of the source AMI must be EBS-backed."));
    }
    Ok(Some(found))
}

/// Makes the volume and puts it on this instance, while nobody else on this computer does the like: they would choose the same
/// device.
async fn attach(
    job: &Job<'_>,
    builder: &AmazonChroot,
    source: Option<&Source>,
    here: &Instance,
) -> Result<Attached> {
    let cx = job.cx;
    let lock = job.step("StepFlock", device::lock(cx)).await?;
    let given = builder.device_path.as_str();
    let choose = async {
        if !given.is_empty() {
            return Ok(given.to_owned());
        }
        // Whoever had the lock before has put a volume on it since.
        let id = here.instance_id().unwrap_or_default();
        let now = job.ec2.instance(id).await?;
        device::choose(now.as_ref().unwrap_or(here))
    };
    let name = job.step("StepPrepareDevice", choose).await?;
    let make = volume::make(job, builder, source, here);
    let id = job.step("StepCreateVolume", make).await?;
    let attachment = job.step("StepAttachVolume", volume::put_on(job, here, &id, &name)).await?;
    let is_found = given.is_empty() && builder.nvme_device_path.is_empty();
    let device = if is_found { device::appeared(cx, &name, &id).await? } else { name };
    drop(lock);
    Ok(Attached { volume: id, attachment, device, is_found })
}

/// The device as `mount` is told it.
fn mounted_device<'a>(builder: &'a AmazonChroot, device: &'a str) -> &'a str {
    if builder.nvme_device_path.is_empty() { device } else { &builder.nvme_device_path }
}

fn mount_path(builder: &AmazonChroot, cx: &Context, device: &str) -> Result<PathBuf> {
    let name = Path::new(device).file_name().unwrap_or_default().to_string_lossy();
    let given = Some(builder.mount_path.as_str()).filter(|path| !path.is_empty()).unwrap_or(MOUNT_PATH);
    let path = kit::render_known(cx, given, &[("Device", &*name)]);
    let path = PathBuf::from(path.map_err(|e| e.context("Error preparing mount directory"))?);
    let whole = std::path::absolute(&path).map_err(|e| Error::io("mkdir", &path, e))?;
    // What is taken out of the image at the end would be taken out of this computer.
    if whole.parent().is_none() {
        return Err(Error::user("mount_path cannot be the root of this computer"));
    }
    Ok(whole)
}

fn is_hvm(builder: &AmazonChroot, source: Option<&Source>) -> bool {
    let own = builder.ami.ami_virtualization_type.as_str();
    let kind = source.and_then(|source| source.image.virtualization_type()).map(|kind| kind.as_str());
    if own.is_empty() { kind == Some("hvm") } else { own == "hvm" }
}

/// What is mounted: the file system is on a partition, unless there are none.
fn partition(builder: &AmazonChroot, attached: &Attached, is_hvm: bool) -> String {
    let device = mounted_device(builder, &attached.device);
    match builder.mount_partition.as_str() {
        "0" => device.to_owned(),
        _ if !is_hvm => device.to_owned(),
        given => {
            let number = if given.is_empty() { "1" } else { given };
            // A device that the template names has its partitions as the template names them.
            if attached.is_found { device::partition(device, number) } else { format!("{device}{number}") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packer_core::testing::Bench;

    #[test]
    fn partitions_are_named_as_the_device_is() {
        let attached = |device: &str, is_found| Attached {
            volume: "vol-1".to_owned(),
            attachment: Resource::new("attachment", "vol-1"),
            device: device.to_owned(),
            is_found,
        };
        let mut builder = AmazonChroot::default();
        assert_eq!(partition(&builder, &attached("/dev/xvdf", false), true), "/dev/xvdf1");
        assert_eq!(partition(&builder, &attached("/dev/xvdf", false), false), "/dev/xvdf");
        assert_eq!(partition(&builder, &attached("/dev/nvme1n1", true), true), "/dev/nvme1n1p1");
        builder.nvme_device_path = "/dev/nvme1n1".to_owned();
        builder.mount_partition = "p2".to_owned();
        assert_eq!(partition(&builder, &attached("/dev/xvdf", false), true), "/dev/nvme1n1p2");
        builder.mount_partition = "0".to_owned();
        assert_eq!(partition(&builder, &attached("/dev/xvdf", false), true), "/dev/nvme1n1");
    }

    #[test]
    fn the_computer_itself_is_no_place_for_the_image() {
        let bench = Bench::new();
        let at = |path: &str| {
            let builder = AmazonChroot { mount_path: path.into(), ..AmazonChroot::default() };
            mount_path(&builder, bench.context(), "/dev/xvdf")
        };
        assert_eq!(at("").unwrap(), Path::new("/mnt/packer-amazon-chroot-volumes/xvdf"));
        assert_eq!(at("/x/{{.Device}}").unwrap(), Path::new("/x/xvdf"));
        assert!(at("/").is_err() && at("{{.Nothing}}").is_err());
    }
}
