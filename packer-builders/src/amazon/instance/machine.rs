//! The instance that bundles itself as an image, which is then registered.

use std::path::Path;
use std::sync::Arc;

use packer_core::communicator::CommunicatorExt;
use packer_core::config::GoTemplate;
use packer_core::{
    Artifact, Communicator, Context, Error, ExitStatus, Facts, Machine, Result, async_trait, kit,
};
use serde_json::json;

use super::AmazonInstance;
use crate::amazon::finish::{Finish, artifact};
use crate::amazon::job::Job;
use crate::amazon::launch::Launched;
use crate::amazon::steps::image::{self, Images};
use crate::amazon::steps::{register, request};

/// The kind of artifact that the images are.
const IMAGES: &str = "mitchellh.amazon.instance";

/// What makes the bundle unless the template says it.
const BUNDLE: &str = "sudo -i -n ec2-bundle-vol -k {{.KeyPath}} -u {{.AccountId}} -c {{.CertPath}} -r {{.Architecture}} \
     -e {{.PrivatePath}}/* -d {{.Destination}} -p {{.Prefix}} --batch --no-filter";

/// What uploads it unless the template says it. An instance with a profile has keys of its own.
fn usual_upload(has_profile: bool, has_token: bool) -> String {
    let keys = match (has_profile, has_token) {
        (true, _) => "",
        (false, false) => "-a {{.AccessKey}} -s {{.SecretKey}} ",
        (false, true) => "-a {{.AccessKey}} -s {{.SecretKey}} -t {{.Token}} ",
    };
    let (before, after) = (
        "sudo -i -n ec2-upload-bundle -b {{.BucketName}} -m {{.ManifestPath}}",
        "-d {{.BundleDirectory}} --batch --region {{.Region}} --retry",
    );
    format!("{before} {keys}{after}")
}

/// An instance that is up.
pub(super) struct Bundling {
    pub(super) builder: AmazonInstance,
    pub(super) launched: Launched,
}

/// Where things are in the instance.
struct Places {
    /// The folder of the certificate and its key.
    private: String,
    certificate: String,
    key: String,
    /// The folder of the bundle.
    destination: String,
    /// What its files begin with.
    prefix: String,
}

#[async_trait]
impl Machine for Bundling {
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
        let places = self.places(cx)?;
        job.step("StepUploadX509Cert", self.upload_keys(cx, &places)).await?;
        job.step("StepBundleVolume", self.bundle(cx, &places)).await?;
        job.step("StepUploadBundle", self.upload_bundle(&job, &places)).await?;
        let images = Box::pin(self.images(&job, &places)).await?;
        launched.keep_volumes(&job, &builder.launch_block_device_mappings)?;
        Ok(artifact(IMAGES, &images, &launched.facts))
    }
}

fn or<'a>(given: &'a str, usual: &'a str) -> &'a str {
    if given.is_empty() { usual } else { given }
}

impl Bundling {
    fn places(&self, cx: &Context) -> Result<Places> {
        let builder = &self.builder;
        let private = or(&builder.x509_upload_path, "/tmp").to_owned();
        Ok(Places {
            certificate: format!("{private}/cert.pem"),
            key: format!("{private}/key.pem"),
            private,
            destination: or(&builder.bundle_destination, "/tmp").to_owned(),
            prefix: kit::render_known(cx, or(&builder.bundle_prefix, "image-{{timestamp}}"), &[])?,
        })
    }

    async fn upload_keys(&self, cx: &Context, places: &Places) -> Result<()> {
        cx.say("Uploading X509 Certificate...");
        let communicator = self.launched.communicator();
        let files =
            [(&self.builder.x509_cert_path, &places.certificate), (&self.builder.x509_key_path, &places.key)];
        for (from, to) in files {
            let done = communicator.upload_file(cx, Path::new(from), to).await;
            done.map_err(|e| e.context("Error uploading X509 cert"))?;
        }
        Ok(())
    }

    async fn bundle(&self, cx: &Context, places: &Places) -> Result<()> {
        let builder = &self.builder;
        cx.say("Bundling the volume...");
        let account = builder.account_id.replace('-', "");
        let architecture = self.launched.source.image.architecture().map_or("", |kind| kind.as_str());
        let variables = [
            ("AccountId", account.as_str()),
            ("Architecture", architecture),
            ("CertPath", &places.certificate),
            ("Destination", &places.destination),
            ("KeyPath", &places.key),
            ("Prefix", &places.prefix),
            ("PrivatePath", &places.private),
        ];
        let command = command(cx, &builder.bundle_vol_command, BUNDLE, &variables)
            .map_err(|e| e.context("Error processing bundle volume command"))?;
        let status = self.launched.communicator().run(cx, &command).await;
        let status = status.map_err(|e| e.context("Error bundling volume"))?;
        ended(status, "Volume bundling", "ec2-bundle-vol")
    }

    async fn upload_bundle(&self, job: &Job<'_>, places: &Places) -> Result<()> {
        let (cx, builder) = (job.cx, &self.builder);
        cx.say("Uploading the bundle...");
        // They are registered as secrets: what the command prints of them is masked.
        let credentials = job.ec2.session().credentials().await?;
        let token = credentials.token.as_ref().map_or("", |token| token.reveal());
        let manifest = places.manifest();
        let variables = [
            ("AccessKey", credentials.access_key.as_str()),
            ("SecretKey", credentials.secret_key.reveal()),
            ("Token", token),
            ("BucketName", &builder.s3_bucket),
            ("BundleDirectory", &places.destination),
            ("ManifestPath", &manifest),
            ("Region", job.ec2.region()),
        ];
        let usual = usual_upload(!builder.run.iam_instance_profile.is_empty(), !token.is_empty());
        let command = command(cx, &builder.bundle_upload_command, &usual, &variables)
            .map_err(|e| e.context("Error processing bundle upload command"))?;
        let status = self.launched.communicator().run(cx, &command).await;
        let status = status.map_err(|e| e.context("Error uploading volume"))?;
        ended(status, "Bundle upload", "ec2-upload-bundle")
    }

    async fn images(&self, job: &Job<'_>, places: &Places) -> Result<Images> {
        let builder = &self.builder;
        let existing = image::deregister_existing(job, &builder.ami);
        job.step("StepDeregisterAMI", existing).await?;
        let location = format!("{}/{}.manifest.xml", builder.s3_bucket, places.prefix);
        let devices = request::devices(&builder.ami_block_device_mappings, false);
        let devices = (!devices.is_empty()).then_some(devices);
        let details = json!({ "location": location });
        let register = register::register(job, &builder.ami, details, &builder.tpm_support, |call| {
            call.image_location(&location).set_block_device_mappings(devices.clone())
        });
        let first = job.step("StepRegisterAMI", register).await?;
        let source = &self.launched.source.facts;
        let finish = Finish { job, ami: &builder.ami, source, fast_launch: None };
        Box::pin(finish.finish(first)).await
    }
}

impl Places {
    fn manifest(&self) -> String {
        format!("{}/{}.manifest.xml", self.destination, self.prefix)
    }
}

/// A command of the template's, or the usual one, with what it is to know.
fn command(cx: &Context, given: &GoTemplate, usual: &str, variables: &[(&str, &str)]) -> Result<String> {
    kit::render_known(cx, or(given.as_str(), usual), variables)
}

fn ended(status: ExitStatus, what: &str, program: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(Error::guest(format!(
        "{what} failed. Please see the output above for more\ndetails on what went wrong.\n\n\
         One common cause for this error is {program} not being\navailable on the target instance."
    )))
}

#[cfg(test)]
mod tests {
    use super::usual_upload;

    #[test]
    fn an_instance_is_given_keys_where_it_has_none() {
        assert!(
            usual_upload(false, false).contains("{{.ManifestPath}} -a {{.AccessKey}} -s {{.SecretKey}} -d ")
        );
        assert!(usual_upload(false, true).contains("-s {{.SecretKey}} -t {{.Token}} -d "));
        assert!(usual_upload(true, true).contains("{{.ManifestPath}} -d {{.BundleDirectory}}"));
    }
}
