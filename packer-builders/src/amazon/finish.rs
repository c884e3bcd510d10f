//! What becomes of the first image: its copies, and what is said of all of them.

use packer_core::aws::ec2;
use packer_core::{Artifact, Error, Facts, Resource, Result};

use super::config::ami::AmiConfig;
use super::config::fast_launch::FastLaunch;
use super::job::{Job, open_facts};
use super::steps::image::{Images, Made};
use super::steps::{attributes, copy, fast_launch, image};

/// How an image is finished.
pub(super) struct Finish<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) ami: &'a AmiConfig,
    /// What templates know of the source.
    pub(super) source: &'a Facts,
    pub(super) fast_launch: Option<&'a FastLaunch>,
}

impl Finish<'_> {
    /// Copies the image and says what there is to say of it. Where that fails all of them are taken away.
    pub(super) async fn finish(&self, first: Made) -> Result<Images> {
        let region = self.job.ec2.region().to_owned();
        let mut made = Images::from([(region, first.clone())]);
        let error = match Box::pin(self.steps(&mut made)).await {
            Ok(()) => return Ok(made),
            Err(error) => error,
        };
        if !error.is_cancelled() {
            let all = made.values().chain([&first]);
            let mut all: Vec<&Resource> = all.map(|made| &made.resource).collect();
            all.dedup_by_key(|resource| resource.id);
            image::undo(self.job, &all).await;
        }
        Err(error)
    }

    async fn steps(&self, images: &mut Images) -> Result<(), Error> {
        let copied = copy::copy(self.job, self.ami, images);
        self.job.step("StepAMIRegionCopy", copied).await?;
        if let Some(wanted) = self.fast_launch {
            let enabled = fast_launch::enable(self.job, wanted, images);
            self.job.step("StepEnableFastLaunch", enabled).await?;
        }
        let said = attributes::set(self.job, self.ami, self.source, images);
        self.job.step("StepModifyAMIAttributes", said).await
    }
}

/// The artifact that images are.
pub(super) fn artifact(kind: &str, images: &Images, facts: &Facts) -> Artifact {
    let ids = images.iter().map(|(region, made)| (region.as_str(), made.id.as_str()));
    let mut artifact = ec2::images::artifact(kind, ids);
    artifact.generated_data.extend(open_facts(facts));
    artifact.resources = images.values().map(|made| made.resource.clone()).collect();
    artifact
}
