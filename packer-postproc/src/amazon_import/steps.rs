//! From a file to an image: through S3 into EC2, under its name, with all that is said of it.

use std::path::{Path, PathBuf};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Image, Tag};
use packer_core::aws::Upload;
use packer_core::aws::ec2::{Attributes, Ec2, create_tags, images};
use packer_core::{Artifact, Context, Error, Resource, Result, kit};
use serde_json::{Value as Json, json};

use super::AmazonImport;
use super::resources::{self, IMAGE, IMPORT, OBJECT};
use super::task;

/// The kind of artifact that the image is.
const IMPORTED: &str = "packer.post-processor.amazon-import";

/// An import at work.
struct Import<'a> {
    cx: &'a Context,
    options: &'a AmazonImport,
    ec2: Ec2,
}

/// An image, with what it is in the ledger.
struct Made {
    id: String,
    image: Image,
    resource: Resource,
}

/// Makes an image of the artifact's file.
pub(super) async fn import(options: &AmazonImport, cx: &Context, artifact: &Artifact) -> Result<Artifact> {
    let format = options.file_format();
    let usual = format!("packer-import-{{{{timestamp}}}}.{format}");
    let key = Some(options.s3_key_name.as_str()).filter(|key| !key.is_empty()).unwrap_or(&usual);
    let key = kit::render(cx, key, &[]).map_err(|e| e.context("Error rendering s3_key_name template"))?;
    let file = file_of(artifact, format)?;
    let ec2 = Ec2::enter(cx, &options.access).await?;
    let import = Import { cx, options, ec2 };
    let object = Box::pin(import.upload(file, &key)).await?;
    let mut made = Box::pin(import.imported(&key)).await?;
    if !options.ami_name.is_empty() {
        made = Box::pin(import.renamed(made)).await?;
    }
    Box::pin(import.finish(&made)).await?;
    if let Some(object) = object {
        cx.say(format!("Deleting import source {}", import.address(&key)));
        resources::release(cx, &options.access, &object).await?;
        cx.released(&object)?;
    }
    let mut imported = images::artifact(IMPORTED, [(import.ec2.region(), made.id.as_str())]);
    imported.generated_data = artifact.generated_data.clone();
    Ok(imported.owning(made.resource))
}

/// The file that is imported: the artifact's first of the form.
fn file_of<'a>(artifact: &'a Artifact, format: &str) -> Result<&'a PathBuf> {
    let ending = format!(".{format}");
    let fits = |path: &&PathBuf| path.to_string_lossy().ends_with(&ending);
    let none = || Error::user(format!("No {format} image file found in artifact from builder"));
    artifact.files.iter().find(fits).ok_or_else(none)
}

/// An error with words in front, unless the work was cancelled.
fn told(error: Error, words: &str) -> Error {
    if error.is_cancelled() { error } else { error.context(words) }
}

impl Import<'_> {
    fn resource(&self, kind: &str, name: &str, details: Json) -> Resource {
        let config = self.options.access.for_recovery(self.ec2.region());
        Resource::new(kind, name).with_details(details).with_config(config)
    }

    /// The address of a name in the bucket, for people.
    fn address(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.options.s3_bucket_name)
    }

    /// Puts the file into S3. What is to be taken out of there again is the result.
    async fn upload(&self, file: &Path, key: &str) -> Result<Option<Resource>> {
        let (cx, options, address) = (self.cx, self.options, self.address(key));
        let (bucket, session) = (options.s3_bucket_name.as_str(), self.ec2.session());
        let mut upload = Upload::new(file, bucket, key);
        if !options.s3_encryption.is_empty() {
            upload = upload.header("x-amz-server-side-encryption", &options.s3_encryption);
        }
        if options.s3_encryption == "aws:kms" && !options.s3_encryption_key.is_empty() {
            upload = upload.header("x-amz-server-side-encryption-aws-kms-key-id", &options.s3_encryption_key);
        }
        cx.say(format!("Uploading {} to {address}", file.display()));
        let before = resources::version(session, bucket, key).await;
        let details = json!({ "bucket": bucket, "key": key, "before": before });
        let mut object = self.resource(OBJECT, &address, details);
        let put = cx.own(object.clone(), session.s3_put(cx, &upload)).await;
        put.map_err(|e| told(e, &format!("Failed to upload {}", file.display())))?;
        cx.say(format!("Completed upload of {} to {address}", file.display()));
        if options.skip_clean {
            // It is the user's now.
            cx.released(&object)?;
            return Ok(None);
        }
        object.details["uploaded"] = true.into();
        cx.record(object.clone())?;
        Ok(Some(object))
    }

    /// Has EC2 make an image of the file, and waits for it.
    async fn imported(&self, key: &str) -> Result<Made> {
        let (cx, options) = (self.cx, self.options);
        let details = json!({
            "architecture": options.processors(),
            "boot_mode": options.boots_by(),
            "bucket": options.s3_bucket_name,
            "encrypted": options.ami_encrypt,
            "format": options.file_format(),
            "key": key,
            "kms_key": options.ami_kms_key,
            "license_type": options.license_type,
            "platform": options.platform,
            "role_name": options.role_name,
        });
        if !options.license_type.is_empty() {
            cx.say(format!("Setting license type to '{}'", options.license_type));
        }
        let mut task = self.resource(IMPORT, &kit::unique_name("packer"), details);
        let start = async { task::start(&self.ec2, &task.name, &task.details).await.map_err(Error::from) };
        let started = cx.own(task.clone(), Box::pin(start)).await;
        let id =
            started.map_err(|e| told(e, &format!("Failed to start import from {}", self.address(key))))?;
        task.details["id"] = id.as_str().into();
        cx.record(task.clone())?;
        cx.say(format!("Started import of {}, task id {id}", self.address(key)));
        cx.say(format!("Waiting for task {id} to complete (may take a while)"));
        let image = Box::pin(task::finished(cx, &self.ec2, &id)).await?;
        cx.say(format!("Import task {id} complete"));
        let made = self.made(self.resource(IMAGE, &id, json!({ "id": image })), image).await?;
        // From here on it is the image that has to be taken away.
        cx.released(&task)?;
        Ok(made)
    }

    /// Waits for an image whose id is known, and notes that and its snapshots.
    async fn made(&self, mut resource: Resource, id: String) -> Result<Made> {
        resource.details["id"] = id.as_str().into();
        self.cx.record(resource.clone())?;
        let image = images::available(self.cx, &self.ec2, &id).await;
        let image = image.map_err(|e| told(e, &format!("Error waiting for AMI ({id})")))?;
        resource.details["snapshots"] = images::snapshots_of(&image).into();
        self.cx.record(resource.clone())?;
        Ok(Made { id, image, resource })
    }

    /// A copy takes the name: EC2 imports images without one, and gives none to what is there.
    async fn renamed(&self, imported: Made) -> Result<Made> {
        let (cx, options, id) = (self.cx, self.options, &imported.id);
        cx.say(format!("Starting rename of AMI ({id})"));
        let (token, text) =
            (kit::unique_name("packer"), |text: &str| (!text.is_empty()).then(|| text.to_owned()));
        let call = |api: &Client| {
            let call =
                api.copy_image().client_token(&token).source_region(self.ec2.region()).source_image_id(id);
            call.name(&options.ami_name)
                .set_encrypted(options.ami_encrypt.then_some(true))
                .set_kms_key_id(text(&options.ami_kms_key))
                .send()
        };
        let resource = self.resource(IMAGE, &options.ami_name, json!({ "source": id, "token": token }));
        let copy = async { self.ec2.ask("CopyImage", call).await.map_err(Error::from) };
        let copied = cx.own(resource.clone(), copy).await;
        let copied = copied.map_err(|e| told(e, &format!("Error Copying AMI ({id})")))?;
        cx.say("Waiting for AMI rename to complete (may take a while)");
        let copy = self.made(resource, copied.image_id.unwrap_or_default()).await?;
        cx.say("Destroying intermediary AMI...");
        images::remove(&self.ec2, Some(&imported.image), Vec::new(), |_| {}).await?;
        cx.released(&imported.resource)?;
        cx.say("AMI rename completed");
        Ok(copy)
    }

    /// Says what there is to say of the image.
    async fn finish(&self, made: &Made) -> Result<()> {
        let (cx, options) = (self.cx, self.options);
        if !options.tags.is_empty() {
            let tag = |(key, value): (&String, &String)| {
                cx.say(format!("Adding tag {key:?}: {value:?}"));
                Tag::builder().key(key).value(value).build()
            };
            let tags: Vec<Tag> = options.tags.iter().map(tag).collect();
            let mut all = vec![made.id.clone()];
            for snapshot in images::snapshots_of(&made.image) {
                cx.say(format!("Tagging snapshot {snapshot}"));
                all.push(snapshot);
            }
            cx.say(format!("Tagging AMI {}", made.id));
            let tagged = create_tags(cx, &self.ec2, &all, &tags).await;
            tagged.map_err(|e| Error::from(e).context("Failed to add tags to resources"))?;
        }
        let attributes = Attributes {
            description: &options.ami_description,
            groups: &options.ami_groups,
            users: &options.ami_users,
            org_arns: &options.ami_org_arns,
            ou_arns: &options.ami_ou_arns,
            product_codes: &[],
            imds_support: &options.imds_support,
        };
        let tell = |name: &str| {
            let name = if name == "imds_support" { "ami imds support" } else { name };
            cx.say(format!("Modifying: {name}"));
        };
        let set = attributes.set(cx, &self.ec2, &made.id, tell).await;
        set.map_err(|e| Error::from(e).context("Error modifying AMI attributes"))
    }
}

#[cfg(test)]
mod tests {
    use packer_core::Artifact;

    #[test]
    fn the_first_file_of_the_form_is_taken() {
        let mut artifact = Artifact::new("test", "a");
        artifact.files = ["box.ovf", "one.vhdx", "two.vhdx", "ova"].map(Into::into).to_vec();
        assert_eq!(super::file_of(&artifact, "vhdx").unwrap().to_str(), Some("one.vhdx"));
        let none = |format: &str| super::file_of(&artifact, format).unwrap_err().to_string();
        assert_eq!(none("vhd"), "No vhd image file found in artifact from builder");
        assert_eq!(none("ova"), "No ova image file found in artifact from builder");
    }
}
