//! What a request for an instance says alike, whether it is for a spot instance or not; block devices also those of an image.

use std::path::Path;

use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, HttpTokensState, InstanceMetadataEndpointState,
    InstanceMetadataOptionsRequest, InstanceMetadataTagsState, VolumeType,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use packer_core::{Error, Result};

use crate::amazon::config::device::BlockDevice;
pub(in crate::amazon) use crate::amazon::config::rules::is_burstable;
use crate::amazon::config::run::RunConfig;
use crate::amazon::job::Job;

/// The kinds of volume that are told how many operations a second they have.
const WITH_IOPS: [&str; 3] = ["io1", "io2", "gp3"];

/// Block devices as EC2 takes them; with `no_ephemeral` also the names that instance stores get, each left empty.
pub(in crate::amazon) fn devices<'a>(
    devices: impl IntoIterator<Item = &'a BlockDevice>,
    no_ephemeral: bool,
) -> Vec<BlockDeviceMapping> {
    let mut all: Vec<BlockDeviceMapping> = devices.into_iter().map(device).collect();
    if no_ephemeral {
        let empty = |letter| empty(&format!("xvdc{letter}"));
        all.extend(('a'..='z').map(empty));
    }
    all
}

fn empty(name: &str) -> BlockDeviceMapping {
    BlockDeviceMapping::builder().device_name(name).no_device("").build()
}

fn device(device: &BlockDevice) -> BlockDeviceMapping {
    let name = &device.device_name;
    let mapping = BlockDeviceMapping::builder().device_name(name);
    if device.no_device {
        return empty(name);
    }
    if device.virtual_name.starts_with("ephemeral") {
        return mapping.virtual_name(&device.virtual_name).build();
    }
    let kind = device.volume_type.as_str();
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    // What is too large for EC2's number is too large for EC2.
    let number = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
    let volume = EbsBlockDevice::builder()
        .delete_on_termination(device.delete_on_termination)
        .set_volume_type(text(kind).as_deref().map(VolumeType::from))
        .set_volume_size((device.volume_size > 0).then(|| number(device.volume_size)))
        .set_iops(device.iops.filter(|_| WITH_IOPS.contains(&kind)).map(number))
        .set_throughput(device.throughput.filter(|_| kind == "gp3").map(number))
        .set_encrypted(device.encrypted)
        .set_kms_key_id(text(&device.kms_key_id))
        .set_snapshot_id(text(&device.snapshot_id));
    mapping.ebs(volume.build()).build()
}

/// What the instance gets to run when it starts, as base64: encoded here unless it is so already.
pub(in crate::amazon) async fn user_data(job: &Job<'_>) -> Result<Option<String>> {
    let (text, file) = (&job.run.user_data, &job.run.user_data_file);
    let data = if file.is_empty() {
        text.as_bytes().to_vec()
    } else {
        let read = tokio::fs::read(file).await.map_err(|e| Error::io("read", Path::new(file), e));
        read.map_err(|e| e.context("Problem reading user data file"))?
    };
    Ok((!data.is_empty()).then(|| encoded(data)))
}

fn encoded(data: Vec<u8>) -> String {
    match String::from_utf8(data) {
        Ok(text) => {
            // The ends of lines are not of the code.
            let code: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
            if STANDARD.decode(code).is_ok() { text } else { STANDARD.encode(text) }
        }
        Err(e) => STANDARD.encode(e.into_bytes()),
    }
}

/// What the metadata service is like: nothing is said of one that is turned off.
pub(in crate::amazon) fn metadata_options(run: &RunConfig) -> Option<InstanceMetadataOptionsRequest> {
    let given = run.metadata_options.clone().unwrap_or_default();
    if !matches!(given.http_endpoint.as_str(), "" | "enabled") {
        return None;
    }
    let tokens = if given.http_tokens.is_empty() { "optional" } else { &given.http_tokens };
    let hops = i32::try_from(given.http_put_response_hop_limit).unwrap_or(i32::MAX);
    let tags = (given.instance_metadata_tags == "enabled").then_some(InstanceMetadataTagsState::Enabled);
    let options = InstanceMetadataOptionsRequest::builder()
        .http_endpoint(InstanceMetadataEndpointState::Enabled)
        .http_tokens(HttpTokensState::from(tokens))
        .http_put_response_hop_limit(hops.max(1))
        .set_instance_metadata_tags(tags);
    Some(options.build())
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::HttpTokensState;

    use super::{devices, encoded, is_burstable, metadata_options};
    use crate::amazon::{BlockDevice, MetadataOptions, RunConfig};

    #[test]
    fn user_data_is_encoded_once() {
        assert_eq!(encoded(b"#!/bin/sh\n".to_vec()), "IyEvYmluL3NoCg==");
        assert_eq!(encoded(b"IyEvYmluL3NoCg==".to_vec()), "IyEvYmluL3NoCg==");
        assert_eq!(encoded(b"IyEvYmlu\nL3NoCg==\n".to_vec()), "IyEvYmlu\nL3NoCg==\n");
        assert_eq!(encoded(vec![0x1f, 0x8b, 0xff]), "H4v/");
    }

    #[test]
    fn devices_say_what_ec2_takes_for_their_kind() {
        let device = |name: &str, kind: &str| BlockDevice {
            device_name: name.to_owned(),
            volume_type: kind.to_owned(),
            iops: Some(4000),
            throughput: Some(250),
            ..BlockDevice::default()
        };
        let all = devices(&[device("a", "gp3"), device("b", "io2"), device("c", "gp2")], false);
        let told: Vec<_> =
            all.iter().filter_map(|d| d.ebs()).map(|ebs| (ebs.iops(), ebs.throughput())).collect();
        assert_eq!(told, [(Some(4000), Some(250)), (Some(4000), None), (None, None)]);

        let none = BlockDevice { no_device: true, ..device("d", "gp3") };
        let store = BlockDevice { virtual_name: "ephemeral0".to_owned(), ..device("e", "") };
        let all = devices(&[none, store], true);
        assert_eq!((all[0].no_device(), all[0].ebs()), (Some(""), None));
        assert_eq!((all[1].virtual_name(), all[1].ebs()), (Some("ephemeral0"), None));
        assert_eq!((all.len(), all[27].device_name(), all[27].no_device()), (28, Some("xvdcz"), Some("")));
    }

    #[test]
    fn the_metadata_service_answers_to_everybody_nearby_unless_said_otherwise() {
        let options =
            |options| metadata_options(&RunConfig { metadata_options: options, ..RunConfig::default() });
        let usual = options(None).unwrap();
        assert_eq!(usual.http_tokens(), Some(&HttpTokensState::Optional));
        assert_eq!((usual.http_put_response_hop_limit(), usual.instance_metadata_tags()), (Some(1), None));
        let off = MetadataOptions {
            http_endpoint: "disabled".to_owned(),
            instance_metadata_tags: "enabled".to_owned(),
            ..MetadataOptions::default()
        };
        assert_eq!(options(Some(off)), None);
    }

    #[test]
    fn types_with_credits() {
        assert!(["t2.micro", "t3a.small", "t4g.nano"].iter().all(|kind| is_burstable(kind)));
        assert!(["m5.large", "t1.micro", ""].iter().all(|kind| !is_burstable(kind)));
    }
}
