//! What is found wrong with the options of the builders, beyond what the recorded cases show.

use packer_core::config::{self, Config, FieldKind, Schema};
use packer_core::language::go_template::Interpolation;
use packer_core::testing::Bench;
use packer_core::{Builder, Diagnostics, Value};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::*;

/// A builder as a template makes it.
fn made<B: DeserializeOwned + JsonSchema>(block: &Json) -> B {
    let schema = Schema::of::<B>();
    let mut found = Diagnostics::new();
    let value = Config::from_json(&schema, &Value::from(block.clone()), &mut found)
        .and_then(|config| config.finish(&schema, None, &Interpolation::default(), &mut found));
    config::from_value(&value.unwrap_or_else(|| panic!("{found}"))).unwrap()
}

/// What preparing a builder says; `more` is laid over the least that it needs.
async fn said<B: Builder + DeserializeOwned + JsonSchema>(least: Json, more: Json) -> Vec<String> {
    let mut block = least;
    for (name, value) in more.as_object().unwrap() {
        block[name] = value.clone();
    }
    let builder: B = made(&block);
    let found = match builder.prepare(Bench::new().prepare_context()).await {
        Ok(prepared) => prepared.warnings,
        Err(found) => found,
    };
    found.iter().map(|d| d.summary.clone()).collect()
}

fn ebs() -> Json {
    json!({"region": "us-east-1", "source_ami": "ami-1", "instance_type": "m5.large", "ami_name": "image", "ssh_username": "u"})
}

/// Each of the rows is wrong in just one way, and says so.
async fn each_says<B: Builder + DeserializeOwned + JsonSchema>(least: Json, rows: &[(Json, &str)]) {
    assert_eq!(said::<B>(least.clone(), json!({})).await, [""; 0]);
    for (more, part) in rows {
        let said = said::<B>(least.clone(), more.clone()).await;
        assert!(said.len() == 1 && said[0].contains(part), "{more}: {said:?}");
    }
}

/// A later process finds by this name who releases what a pipeline in code has left.
#[test]
fn in_code_they_are_called_as_in_templates() {
    let mut registry = Registry::new();
    register(&mut registry);
    let builders: [&dyn Builder; 5] = [
        &AmazonChroot::default(),
        &AmazonEbs::default(),
        &AmazonEbsSurrogate::default(),
        &AmazonEbsVolume::default(),
        &AmazonInstance::default(),
    ];
    for builder in builders {
        let name = builder.type_name();
        assert!(registry.get_builder(&name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn rules_of_the_image() {
    let keys = |keys: Json| json!({"encrypt_boot": true, "kms_key_id": "alias/x", "ami_regions": ["us-west-2"], "region_kms_key_ids": keys});
    each_says::<AmazonEbs>(
        ebs(),
        &[
            (json!({"ami_name": "a".repeat(129)}), "between 3 and 128"),
            (json!({"ami_name": "image é"}), "should only contain"),
            (json!({"ami_virtualization_type": "pv"}), "ami_virtualization_type"),
            (json!({"deprecate_at": "tomorrow"}), "is not a valid time"),
            (keys(json!({"us-west-2": "", "eu-west-1": ""})), "Region eu-west-1 is in region_kms_key_ids but not in ami_regions"),
            (keys(json!({"us-west-2": "my-key"})), "\"my-key\" is not a valid KMS Key Id."),
            (json!({"encrypt_boot": true, "ami_org_arns": ["arn"]}), "Cannot share AMI"),
            (json!({"encrypt_boot": true, "kms_key_id": "alias/x", "ami_users": ["1"], "ami_regions": ["us-west-2"],
                "region_kms_key_ids": {"us-west-2": ""}}), "has none for a region"),
            (json!({"ami_regions": ["us-west-2"], "snapshot_copy_duration_minutes": 50}), "multiple of 15"),
            (json!({"fast_launch": {"max_parallel_launches": 5}}), "max_parallel_launches must be >= 6"),
            (json!({"fast_launch": {"region_launch_templates": {"region": "us-west-2", "template_id": "x"}}}), "won't be copied there"),
        ],
    )
    .await;
    for right in [
        // The build's own region needs no copy to have its key.
        keys(json!({"us-west-2": "", "us-east-1": "alias/x"})),
        json!({"deprecate_at": "2030-01-02T03:04:05.5+02:00"}),
        json!({"encrypt_boot": true, "ami_users": ["1"], "ami_regions": ["us-east-1"], "region_kms_key_ids": {"us-east-1": "alias/x"}}),
        json!({"encrypt_boot": false, "ami_users": ["1"]}),
        json!({"snapshot_copy_duration_minutes": 50}),
        // Which region it is nobody knows yet.
        json!({"region": "", "fast_launch": {"region_launch_templates": {"region": "us-west-2", "template_id": "x"}}}),
    ] {
        assert_eq!(said::<AmazonEbs>(ebs(), right.clone()).await, [""; 0], "{right}");
    }
}

#[tokio::test]
async fn rules_of_the_instance() {
    each_says::<AmazonEbs>(
        ebs(),
        &[
            (json!({"shutdown_behavior": "hibernate"}), "shutdown_behavior"),
            (json!({"capacity_reservation_preference": "any"}), "capacity_reservation_preference"),
            (json!({"capacity_reservation_group_arn": "a", "capacity_reservation_preference": "none"}), "mutually exclusive"),
            (json!({"metadata_options": {"http_endpoint": "on"}}), "http_endpoint"),
            (json!({"metadata_options": {"instance_metadata_tags": "on"}}), "instance_metadata_tags"),
            (json!({"metadata_options": {"http_put_response_hop_limit": 65}}), "between 1 and 64"),
            (json!({"instance_type": "t3.micro", "enable_nitro_enclave": true}), "burstable"),
            (json!({"instance_type": "t3x.micro", "enable_unlimited_credits": true}), "t3x.micro is not within"),
            (json!({"instance_type": "", "spot_instance_types": ["t3.micro"], "enable_unlimited_credits": true}), "Spot Instances"),
            (json!({"instance_type": "", "spot_instance_types": ["m5.large"], "ena_support": true}), "do not support modification"),
            (json!({"fleet_tag": [{"key": "a", "value": "b"}]}), "fleet_tags should not be set"),
            (json!({"ssh_interface": "session_manager"}), "needs iam_instance_profile"),
            (json!({"session_manager_port": 65536}), "session_manager_port"),
            (json!({"user_data_file": "/no/such"}), "/no/such cannot be read: no such file"),
            (json!({"placement": {"host_id": "h", "tenancy": "dedicated"}}), "should be `host`"),
            (json!({"tenancy": "default", "placement": {"host_id": "h"}}), "should be `host`"),
            (json!({"temporary_security_group_source_cidrs": ["10.0.0.0/8", "10.0.0.0/33"]}), "10.0.0.0/33"),
            (json!({"temporary_security_group_source_cidrs": "::/129"}), "::/129"),
            (json!({"temporary_security_group_source_cidrs": "10.0.0.0/+8"}), "10.0.0.0/+8"),
            (json!({"source_ami": "", "source_ami_filter": {"filters": {"name": "x"}}}), "must declare an owner"),
        ],
    )
    .await;
    for right in [
        json!({"ssh_keypair_name": "x", "ssh_agent_auth": true}),
        json!({"temporary_key_pair_type": "ed25519"}),
        json!({"instance_type": "", "spot_instance_types": ["m5.large"], "spot_tags": {"a": "b"}}),
        json!({"placement": {"host_id": "h", "tenancy": "host"}}),
        json!({"communicator": "winrm", "winrm_username": "Administrator"}),
    ] {
        assert_eq!(said::<AmazonEbs>(ebs(), right.clone()).await, [""; 0], "{right}");
    }
}

#[tokio::test]
async fn rules_of_the_other_builders() {
    let mut surrogate = ebs();
    surrogate["ami_virtualization_type"] = "hvm".into();
    surrogate["launch_block_device_mappings"] = json!([{"device_name": "/dev/xvdf"}]);
    surrogate["ami_root_device"] = json!({"source_device_name": "/dev/xvdf", "device_name": "/dev/xvda"});
    each_says::<AmazonEbsSurrogate>(
        surrogate,
        &[
            (json!({"launch_block_device_mappings": {"device_name": "/dev/xvdf", "omit_from_artifact": true}}), "omit_from_artifact"),
            (json!({"launch_block_device_mappings": [{"device_name": "/dev/xvdf"}, {}]}), "`device_name` must be"),
            (json!({"ami_virtualization_type": ""}), "ami_virtualization_type is required."),
            (json!({"uefi_data": "x", "boot_mode": "legacy-bios"}), "legacy-bios"),
            (json!({"uefi_data": "x", "ami_architecture": "i386"}), "\"i386\" architecture defaults"),
        ],
    )
    .await;

    let chroot = json!({"source_ami": "ami-1", "ami_name": "image"});
    each_says::<AmazonChroot>(
        chroot.clone(),
        &[
            (json!({"tpm_support": "v1"}), "tpm_support"),
            (json!({"root_volume_kms_key_id": "alias/x"}), "root_volume_encrypt_boot must also be true"),
        ],
    )
    .await;
    let mapped = json!({"ami_block_device_mappings": {"device_name": "xvda"}, "root_device_name": "xvda"});
    let said_of = said::<AmazonChroot>(chroot.clone(), mapped).await;
    assert!(said_of.iter().any(|text| text.contains("root_volume_size must be specified")), "{said_of:?}");
    let sourceless = said::<AmazonChroot>(chroot, json!({"source_ami": ""})).await;
    assert_eq!(sourceless[0], "A source_ami or source_ami_filter must be specified");

    let file = tempfile::NamedTempFile::new().unwrap();
    let mut instance = ebs();
    instance["account_id"] = "1111".into();
    instance["s3_bucket"] = "bucket".into();
    instance["x509_cert_path"] = file.path().to_str().into();
    instance["x509_key_path"] = file.path().to_str().into();
    each_says::<AmazonInstance>(
        instance,
        &[
            (json!({"account_id": ""}), "account_id is required"),
            (json!({"spot_price": "auto", "sriov_support": true}), "or `enable_nitro_enclave` are set"),
            (json!({"ami_block_device_mappings": {}}), "`device_name`"),
        ],
    )
    .await;

    let mut volume = ebs();
    volume.as_object_mut().unwrap().remove("ami_name");
    each_says::<AmazonEbsVolume>(volume, &[(json!({"ebs_volumes": {"tags": {"a": "b"}}}), "`device_name`")])
        .await;
}

#[test]
fn blocks_of_tags_win_over_the_map() {
    let mut block = ebs();
    block["tags"] = json!({"a": "1", "b": "{{ .SourceAMI }}"});
    block["tag"] = json!([{"key": "a", "value": "2"}, {"key": "a", "value": "3"}, {"key": "c"}]);
    let builder: AmazonEbs = made(&block);
    let tags: Vec<_> =
        builder.ami.all_tags().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(tags, ["a=3", "b={{ .SourceAMI }}", "c="]);
}

#[test]
fn each_region_is_copied_to_once() {
    let ami = AmiConfig {
        ami_regions: ["b", "a", "b", "here"].map(str::to_owned).to_vec(),
        ..AmiConfig::default()
    };
    assert_eq!(ami.copies("here"), ["b", "a"]);
    assert_eq!(ami.copies(""), ["b", "a", "here"]);
}

#[test]
fn what_is_rendered_late_stays_as_it_is() {
    let late = |schema: &Schema, name: &str| schema.fields[name].late;
    let schema = Schema::of::<AmazonEbs>();
    for name in
        ["ami_description", "tags", "run_tags", "snapshot_tags", "spot_tags", "fleet_tags", "run_volume_tags"]
    {
        assert!(late(&schema, name), "{name}");
    }
    assert!(!late(&schema, "ami_name") && !late(&schema, "user_data"));
    for name in ["tag", "run_tag", "run_volume_tag"] {
        let FieldKind::Blocks(tag) = &schema.fields[name].kind else { panic!("{name} is no block") };
        assert!(late(tag, "value"), "{name}");
    }
    let schema = Schema::of::<AmazonChroot>();
    for name in
        ["command_wrapper", "mount_path", "pre_mount_commands", "post_mount_commands", "root_volume_tags"]
    {
        assert!(late(&schema, name), "{name}");
    }
}

#[test]
fn a_builder_comes_back_from_its_configuration() {
    let mut block = ebs();
    block["ena_support"] = false.into();
    block["source_ami_filter"] = json!({"owners": "self", "filters": {"name": "x"}});
    block["metadata_options"] = json!({"http_tokens": "required"});
    block["launch_block_device_mappings"] =
        json!([{"device_name": "/dev/sdb", "encrypted": "", "iops": "3000", "volume_type": "gp3"}]);
    block["temporary_iam_instance_profile_policy_document"] =
        json!({"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}});
    block["secret_key"] = "geheim".into();
    let builder: AmazonEbs = made(&block);
    assert_eq!(builder.ami.ena_support, Some(false));
    assert_eq!(builder.launch_block_device_mappings[0].encrypted, None);
    assert_eq!(builder.launch_block_device_mappings[0].iops, Some(3000));
    let value = Builder::config(&builder).unwrap();
    assert!(value.get("secret_key").unwrap().is_sensitive());
    assert_eq!(config::from_value::<AmazonEbs>(&value).unwrap(), builder);
}

#[tokio::test]
async fn a_builder_made_in_code_needs_no_more() {
    let builder = AmazonEbs::from_newest("136693071363", "debian-12-*")
        .instance_type("t3.micro")
        .ssh("admin")
        .name("web");
    let prepared = builder.prepare(Bench::new().prepare_context()).await.unwrap();
    assert!(prepared.warnings.is_empty(), "{}", prepared.warnings);
}
