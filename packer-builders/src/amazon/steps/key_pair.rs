//! The key pair that lets into the instance, made by EC2.

use std::path::PathBuf;

use aws_sdk_ec2::types::{KeyType, ResourceType};
use packer_core::communicator::ssh::KeyPair;
use packer_core::{Error, Result, Secret};
use serde_json::json;

use super::source::Source;
use crate::amazon::job::{Job, rendered, specification};
use crate::amazon::resources;

/// What an instance is started with and entered by.
pub(in crate::amazon) struct Keys {
    /// The name of a key pair that EC2 puts into the instance.
    pub(in crate::amazon) name: Option<String>,
    /// The pair, where it was made for this build.
    pub(in crate::amazon) pair: Option<KeyPair>,
}

/// Makes a key pair where nothing else says how the instance is entered; for WinRM EC2 encrypts the password with it.
pub(in crate::amazon) async fn make(job: &Job<'_>, source: &Source) -> Result<Keys> {
    let (cx, communicator) = (job.cx, &job.run.communicator);
    let given = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    let name = given(&communicator.ssh_keypair_name);
    if communicator.kind() == "ssh" && given(&communicator.ssh_private_key_file).is_some() {
        cx.say("Using existing SSH private key");
        return Ok(Keys { name, pair: None });
    }
    if communicator.ssh_agent_auth {
        cx.say(match &name {
            None => "Using SSH Agent with key pair in Source AMI".to_owned(),
            Some(name) => format!("Using SSH Agent for existing key pair {name}"),
        });
        return Ok(Keys { name, pair: None });
    }
    let has_password = communicator.ssh_password.as_ref().is_some_and(|password| !password.is_empty());
    if name.is_some() || communicator.kind() == "ssh" && has_password {
        return Ok(Keys { name, pair: None });
    }
    let name = given(&communicator.temporary_key_pair_name)
        .unwrap_or_else(|| format!("packer_{}", uuid::Uuid::new_v4()));
    cx.say(format!("Creating temporary keypair: {name}"));
    let is_new = given(&communicator.temporary_key_pair_name).is_none();
    let private = create(job, source, &name, is_new)
        .await
        .map_err(|e| e.context("Error creating temporary keypair"))?;
    let pair = KeyPair::of_private(cx, name.as_str(), private)?;
    if cx.build().debug {
        save(job, &pair)?;
    }
    Ok(Keys { name: Some(name), pair: Some(pair) })
}

async fn create(job: &Job<'_>, source: &Source, name: &str, is_new: bool) -> Result<Secret> {
    let kind = match job.run.communicator.temporary_key_pair_type.as_deref() {
        None | Some("") => KeyType::Rsa,
        Some(kind) => KeyType::from(kind),
    };
    let tags =
        specification(ResourceType::KeyPair, &rendered(job.cx, &job.run.all_run_tags(), &source.facts)?);
    let resource = job.resource(resources::KEY_PAIR, name, &job.ec2, json!({}));
    if !is_new {
        // A name that a person chose may be somebody's: it is not ours before EC2 says so.
        let asked =
            job.ec2.ask("DescribeKeyPairs", |api| api.describe_key_pairs().key_names(name).send()).await;
        if asked.is_ok_and(|answer| !answer.key_pairs().is_empty()) {
            return Err(Error::user(format!("there is a key pair {name} already")));
        }
    }
    let call = || {
        job.ec2.ask("CreateKeyPair", |api| {
            let call = api.create_key_pair().key_name(name).key_type(kind.clone());
            call.set_tag_specifications(tags.clone().map(|tags| vec![tags])).send()
        })
    };
    let create = async {
        let answer = match call().await {
            Err(e) if e.code == "InvalidKeyPair.Duplicate" && !is_new => {
                job.cx.released(&resource)?;
                return Err(e.into());
            }
            Err(e) if e.code == "InvalidKeyPair.Duplicate" => {
                // The answer to an earlier try was lost, and the key in it: nobody else knows the name.
                job.ec2.ask("DeleteKeyPair", |api| api.delete_key_pair().key_name(name).send()).await?;
                call().await?
            }
            other => other?,
        };
        Ok(Secret::new(answer.key_material.unwrap_or_default()))
    };
    job.cx.own(resource.clone(), create).await
}

/// With debugging on people can enter the instance, too.
fn save(job: &Job<'_>, pair: &KeyPair) -> Result<()> {
    let path = PathBuf::from(format!("ec2_{}.pem", job.cx.build().name));
    job.cx.say(format!("Saving key for debug purposes: {}", path.display()));
    let mut file = packer_core::WholeFile::create(job.cx, &path, 0o600)?;
    std::io::Write::write_all(&mut file, pair.private.reveal().as_bytes())
        .map_err(|e| Error::io("write", &path, e))?;
    file.commit()?;
    job.cx.record(packer_core::Resource::file(&path))
}
