//! The way into the instance: its password, its address, the keys that it is known by.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::Instance;
use base64::Engine;
use packer_core::aws::ec2::{Ec2, Seen};
use packer_core::communicator::{Communicator, HostKeySource, Target};
use packer_core::{CommunicatorConfig, Error, Result, Secret, async_trait};

use super::key_pair::Keys;
use crate::amazon::job::Job;
use crate::printed_keys::PrintedKeys;

/// How long Windows may take to make its password.
const PASSWORD: Duration = Duration::from_secs(20 * 60);

/// How long an instance may take to have an address.
const ADDRESS: Duration = Duration::from_secs(5 * 60);

/// An instance that was entered.
pub(in crate::amazon) struct Entered {
    pub(in crate::amazon) communicator: Arc<dyn Communicator>,
    pub(in crate::amazon) target: Target,
    /// How it is entered, with the port of this computer that leads to it, where one does.
    pub(in crate::amazon) config: CommunicatorConfig,
    /// The session manager's session, which has to last.
    pub(in crate::amazon) _session: Option<super::session::Session>,
}

/// Enters the instance.
pub(in crate::amazon) async fn enter(job: &Job<'_>, instance: &Instance, keys: &Keys) -> Result<Entered> {
    let id = instance.instance_id().unwrap_or_default();
    let mut config = job.run.communicator.clone();
    let mut target = Target::default();
    if config.kind() == "winrm" {
        target.password = password(job, id, keys).await?;
    }
    if config.kind() == "none" {
        let communicator = config.connect(job.cx, &target).await?;
        return Ok(Entered { communicator, target, config, _session: None });
    }
    let mut session = None;
    if job.run.ssh_interface == "session_manager" {
        let opened = super::session::open(job, id).await?;
        target.host = Some("localhost".to_owned());
        (config.ssh_port, config.winrm_port) = (Some(opened.port), Some(opened.port));
        session = Some(opened);
    } else if config.endpoint(&target).is_none() {
        target.host = Some(address(job, id).await?);
    }
    if let Some(pair) = &keys.pair {
        target = pair.target(target);
    }
    target.host_key_source = Some(Arc::new(Console { ec2: job.ec2.clone(), instance: id.to_owned() }));
    let communicator = config.connect(job.cx, &target).await?;
    Ok(Entered { communicator, target, config, _session: session })
}

/// The address of an instance, as soon as it has one.
async fn address(job: &Job<'_>, id: &str) -> Result<String> {
    let wanted = job.run.ssh_interface.as_str();
    let mut looks = 0;
    let late = "couldn't determine address for instance";
    let look = || {
        looks += 1;
        async move {
            let Some(instance) = job.ec2.instance(id).await? else { return Ok(Seen::Unknown) };
            Ok(match of(&instance, wanted, looks) {
                Some(address) => Seen::Done(address),
                None => Seen::Underway("has no address yet".to_owned()),
            })
        }
    };
    job.pace(ADDRESS).wait(job.cx, &format!("the address of instance {id}"), late, look).await
}

/// The address of the kind that is wanted; without a wish the public one, and after the third look the private one.
fn of(instance: &Instance, wanted: &str, looks: u32) -> Option<String> {
    let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    match wanted {
        "public_ip" => given(instance.public_ip_address()),
        "private_ip" => given(instance.private_ip_address()),
        "public_dns" => given(instance.public_dns_name()),
        "private_dns" => given(instance.private_dns_name()),
        "ipv6" => given(
            instance
                .network_interfaces()
                .iter()
                .find_map(|card| card.ipv6_addresses().first()?.ipv6_address()),
        ),
        _ if given(instance.vpc_id()).is_some() => given(instance.public_ip_address())
            .or_else(|| given(instance.private_ip_address()).filter(|_| looks >= 3)),
        _ => given(instance.public_dns_name()),
    }
}

/// The password that Windows has made, encrypted for the key pair.
async fn password(job: &Job<'_>, id: &str, keys: &Keys) -> Result<Option<Secret>> {
    let cx = job.cx;
    if job.run.communicator.winrm_password.as_ref().is_some_and(|password| !password.is_empty()) {
        cx.say("Skipping waiting for password since WinRM password set...");
        return Ok(None);
    }
    cx.say("Waiting for auto-generated password for instance...");
    cx.say("It is normal for this process to take up to 15 minutes,\nbut it usually takes around 5. Please wait.");
    let limit = match job.run.windows_password_timeout {
        none if none.is_zero() => PASSWORD,
        own => own.to_std(),
    };
    let look = || async {
        let call = |api: &Client| api.get_password_data().instance_id(id).send();
        let answer = job.ec2.ask("GetPasswordData", call).await?;
        let data = answer.password_data().unwrap_or_default().trim().to_owned();
        Ok(if data.is_empty() { Seen::Underway("not there yet".to_owned()) } else { Seen::Done(data) })
    };
    let late = "Timeout waiting for password.";
    let data = job.pace(limit).wait(cx, "the password of the instance", late, look).await;
    let data = data.map_err(|e| e.context("Error waiting for password"))?;
    let key = match &keys.pair {
        Some(pair) => pair.private.clone(),
        None => own_key(job)?,
    };
    let plain = packer_core::aws::ec2::decrypted(&data, &key);
    let plain =
        plain.map_err(|e| Error::user(format!("Error decrypting auto-generated instance password: {e}")))?;
    cx.secrets().add(plain.reveal());
    cx.say(" ");
    cx.say("Password retrieved!");
    Ok(Some(plain))
}

/// The key of the template's own that the password is encrypted for.
fn own_key(job: &Job<'_>) -> Result<Secret> {
    let path = job.run.communicator.ssh_private_key_file.as_deref().unwrap_or_default();
    if path.is_empty() {
        return Err(Error::user("ssh_private_key_file is needed to decrypt the password of the instance"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("open", path, e))?;
    job.cx.secrets().add(&text);
    Ok(Secret::new(text))
}

/// The console of an instance, on which cloud-init prints the host keys.
#[derive(Debug)]
struct Console {
    ec2: Ec2,
    instance: String,
}

/// How long between two looks at a console.
const CONSOLE: Duration = Duration::from_secs(3);

#[async_trait]
impl HostKeySource for Console {
    async fn host_keys(&self) -> Vec<String> {
        loop {
            let call =
                |api: &Client| api.get_console_output().instance_id(&self.instance).latest(true).send();
            let older = |api: &Client| api.get_console_output().instance_id(&self.instance).send();
            let output = match self.ec2.ask("GetConsoleOutput", call).await {
                // Older kinds of machines show only what they printed some minutes ago.
                Err(e) if e.code.starts_with("Unsupported") || e.code.starts_with("InvalidParameter") => {
                    self.ec2.ask("GetConsoleOutput", older).await
                }
                other => other,
            };
            let Ok(output) = output else { return Vec::new() };
            let text = base64::prelude::BASE64_STANDARD.decode(output.output().unwrap_or_default());
            let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
            let printed = PrintedKeys::default();
            printed.push(&text);
            match printed.known() {
                // Nothing was printed at all: the console is behind.
                Some(keys) if !text.is_empty() || !keys.is_empty() => return keys,
                _ => tokio::time::sleep(CONSOLE).await,
            }
        }
    }
}
