//! The builder `amazon-ebs`: an image of the volumes of an instance that was provisioned.

use std::borrow::Cow;
use std::sync::Arc;

use packer_core::aws::AccessConfig;
use packer_core::communicator::CommunicatorConfig;
use packer_core::config::{self, GoTemplate};
use packer_core::{
    Artifact, Builder, Communicator, Context, Diagnostics, Facts, Machine, PrepareContext, Prepared,
    Resource, Result, Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::ami::AmiConfig;
use super::config::device::BlockDevice;
use super::config::fast_launch::FastLaunch;
use super::config::run::RunConfig;
use super::config::tags::{self, NamedTag, Tags};
use super::finish::{Finish, artifact};
use super::job::{Job, rendered};
use super::launch::{Launched, Wanted, launch};
use super::resources;
use super::steps::{image, request, stop};

/// Starts an instance of EC2 from an image, and makes an image of it when it was provisioned.
///
/// ```
/// use packer_builders::AmazonEbs;
/// let web = AmazonEbs::from_ami("ami-0123456789abcdef0")
///     .region("eu-central-1")
///     .instance_type("t3.micro")
///     .ssh("admin")
///     .name("web 1.2")
///     .tag("Team", "web")
///     .copy_to(["us-east-1"]);
/// let debian = AmazonEbs::from_newest("136693071363", "debian-12-amd64-*").instance_type("t3.micro").ssh("admin").name("web");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct AmazonEbs {
    /// Block devices of the image, beside those that the instance has or instead of them.
    pub ami_block_device_mappings: Vec<BlockDevice>,
    /// Block devices of the instance, beside those of the source image or instead of them.
    pub launch_block_device_mappings: Vec<BlockDevice>,
    /// Tags of the instance's volumes, which do not get `run_tags` where there are any.
    pub run_volume_tags: Tags,
    /// The same as blocks.
    pub run_volume_tag: Vec<NamedTag>,
    /// Whether the instance and its image have no instance stores.
    pub no_ephemeral: bool,
    /// Whether no image is made.
    pub skip_create_ami: bool,
    /// Whether the image and its snapshots do not get `run_tags`.
    pub skip_ami_run_tags: bool,
    /// Whether and how instances of the image, which has Windows in it, are prepared so that they start faster.
    pub fast_launch: Option<FastLaunch>,

    /// Who asks, and where.
    #[serde(flatten)]
    pub access: AccessConfig,
    /// The instance.
    #[serde(flatten)]
    pub run: RunConfig,
    /// The image.
    #[serde(flatten)]
    pub ami: AmiConfig,
}

/// The kind of artifact that the images are.
const IMAGES: &str = "mitchellh.amazonebs";

/// What is not done where no image is made.
const SKIPPED: [&str; 7] = [
    "AMI creation",
    "AMI region copy",
    "fast-launch template setup",
    "Enable AMI deprecation",
    "Enable AMI deregistration protection",
    "AMI modify attributes",
    "AMI create tags",
];

impl AmazonEbs {
    /// Starts from the image of this id.
    pub fn from_ami(id: impl Into<String>) -> Self {
        Self { run: RunConfig::from_ami(id), ..Self::default() }
    }

    /// Starts from the newest image of an owner (the number of an account, `amazon`, `self`) whose name matches.
    pub fn from_newest(owner: impl Into<String>, name: impl Into<String>) -> Self {
        Self { run: RunConfig::from_newest(owner, name), ..Self::default() }
    }

    /// Sets the region.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.access.region = region.into();
        self
    }

    /// Sets the type of the instance, as `t3.micro`.
    #[must_use]
    pub fn instance_type(mut self, name: impl Into<String>) -> Self {
        self.run.instance_type = name.into();
        self
    }

    /// Enters the instance by SSH as this user, with a key pair made for it.
    #[must_use]
    pub fn ssh(self, user: impl Into<String>) -> Self {
        self.communicator(CommunicatorConfig::ssh(user))
    }

    /// Says how the instance is entered.
    #[must_use]
    pub fn communicator(mut self, communicator: CommunicatorConfig) -> Self {
        self.run.communicator = communicator;
        self
    }

    /// Sets the name of the image.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.ami.ami_name = name.into();
        self
    }

    /// Adds a tag to the image and its snapshots.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<GoTemplate>) -> Self {
        self.ami.tags.insert(key.into(), value.into());
        self
    }

    /// Says which regions the image is copied to.
    #[must_use]
    pub fn copy_to<S: Into<String>>(mut self, regions: impl IntoIterator<Item = S>) -> Self {
        self.ami.ami_regions = regions.into_iter().map(Into::into).collect();
        self
    }

    async fn check(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        let mut found = super::check_access(&self.access, cx).await;
        let region = &self.access.region;
        self.ami.check(region, &mut found);
        for device in self.ami_block_device_mappings.iter().chain(&self.launch_block_device_mappings) {
            device.check(&mut found);
        }
        self.run.check(cx, &mut found);
        if let Some(fast_launch) = &self.fast_launch {
            fast_launch.check(region, &self.ami.ami_regions, &mut found);
        }
        if self.run.is_spot() && (self.ami.ena_support == Some(true) || self.ami.sriov_support) {
            super::refuse_spot("`ena_support` or `sriov_support`", &mut found);
        }
        super::prepared(&self.run, found)
    }
}

#[async_trait]
impl Builder for AmazonEbs {
    async fn prepare(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        Box::pin(self.check(cx)).await
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        let wanted = Wanted {
            access: &self.access,
            run: &self.run,
            ami: Some(&self.ami),
            creates_image: !self.skip_create_ami,
            enhanced: self.ami.is_enhanced(),
            is_ebs: true,
            tells_volumes: true,
            devices: &self.launch_block_device_mappings,
            no_ephemeral: self.no_ephemeral,
            volume_tags: tags::merged(&self.run_volume_tags, self.run_volume_tag.iter().map(NamedTag::pair)),
        };
        let launched = Box::pin(launch(cx, &wanted, async |_, _, _| Ok(()))).await?;
        Ok(Box::new(Ebs { builder: self.clone(), launched }))
    }

    async fn release(&self, cx: &Context, resource: &Resource) -> Result<()> {
        Box::pin(resources::release(cx, &self.access, resource)).await
    }

    fn capture_arguments(&self) -> &'static [&'static str] {
        &super::CAPTURED
    }

    fn variables(&self) -> Vec<Cow<'static, str>> {
        super::VARIABLES.iter().copied().map(Cow::Borrowed).collect()
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

struct Ebs {
    builder: AmazonEbs,
    launched: Launched,
}

#[async_trait]
impl Machine for Ebs {
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
        if builder.skip_create_ami {
            for skipped in SKIPPED {
                cx.say(format!("Skipping {skipped}..."));
            }
            return Ok(Artifact::none());
        }
        let existing = image::deregister_existing(&job, &builder.ami);
        job.step("StepDeregisterAMI", existing).await?;
        let tags = rendered(cx, &builder.run.all_run_tags(), &launched.source.facts)?;
        let tags = (!builder.skip_ami_run_tags).then_some(tags.as_slice());
        let devices = request::devices(&builder.ami_block_device_mappings, false);
        let create = image::create(&job, &builder.ami, &launched.id, devices, tags);
        let first = job.step("stepCreateAMI", create).await?;
        let finish = Finish {
            job: &job,
            ami: &builder.ami,
            source: &launched.source.facts,
            fast_launch: builder.fast_launch.as_ref(),
        };
        let images = Box::pin(finish.finish(first)).await?;
        launched.keep_volumes(&job, &builder.launch_block_device_mappings)?;
        Ok(artifact(IMAGES, &images, &launched.facts))
    }
}
