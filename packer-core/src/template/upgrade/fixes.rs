//! The changes that `fix` makes, one by one.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::document::{Object, number_text};
use super::fix::{Fixer, Part, each};

const ANY: &[&str] = &[];
const AMAZON: &[&str] = &["amazon-*"];
const PARALLELS: &[&str] = &["parallels-iso", "parallels-pvm"];

pub(super) const FIXERS: [Fixer; 34] = [
    builders("iso-md5", "iso_md5 becomes iso_checksum", ANY, iso_md5),
    builders("createtime", "{{.CreateTime}} in names becomes {{timestamp}}", ANY, create_time),
    builders(
        "virtualbox-gaattach",
        "guest_additions_attach becomes guest_additions_mode",
        &["virtualbox"],
        guest_additions,
    ),
    Fixer {
        name: "pp-vagrant-override",
        summary: "settings for one provider of the post-processor vagrant go into override",
        part: Part::PostProcessors(&["vagrant"], vagrant_override),
    },
    template("virtualbox-rename", "the builder virtualbox is now virtualbox-iso", |t| {
        rename_type(t, "virtualbox", "virtualbox-iso")
    }),
    template("vmware-rename", "the builder vmware is now vmware-iso", |t| {
        rename_type(t, "vmware", "vmware-iso")
    }),
    builders("parallels-headless", "headless goes: it does nothing", PARALLELS, |b| {
        drop(b.remove("headless"))
    }),
    builders(
        "parallels-deprecations",
        "parallels_tools_host_path goes; guest_os_distribution becomes guest_os_type",
        PARALLELS,
        |b| {
            b.remove("parallels_tools_host_path");
            rename(b, "guest_os_distribution", "guest_os_type", Value::is_string);
        },
    ),
    builders("sshkeypath", "ssh_key_path becomes ssh_private_key_file", ANY, |b| {
        rename(b, "ssh_key_path", "ssh_private_key_file", Value::is_string)
    }),
    builders("sshdisableagent", "ssh_disable_agent becomes ssh_disable_agent_forwarding", ANY, |b| {
        rename(b, "ssh_disable_agent", "ssh_disable_agent_forwarding", Value::is_boolean)
    }),
    builders("scaleway-access-key", "access_key becomes organization_id", &["scaleway"], |b| {
        rename(b, "access_key", "organization_id", Value::is_string)
    }),
    Fixer {
        name: "manifest-filename",
        summary: "filename of the post-processor manifest becomes output",
        part: Part::PostProcessors(&["manifest"], |p| rename(p, "filename", "output", Value::is_string)),
    },
    builders("amazon-shutdown_behavior", "shutdown_behaviour becomes shutdown_behavior", AMAZON, |b| {
        rename(b, "shutdown_behaviour", "shutdown_behavior", Value::is_string)
    }),
    builders("amazon-enhanced-networking", "enhanced_networking becomes ena_support", ANY, |b| {
        rename(b, "enhanced_networking", "ena_support", Value::is_boolean)
    }),
    builders("amazon-private-ip", "ssh_private_ip becomes ssh_interface", AMAZON, private_ip),
    builders(
        "amazon-temp-sec-cidrs",
        "temporary_security_group_source_cidr becomes the list temporary_security_group_source_cidrs",
        AMAZON,
        source_cidrs,
    ),
    template("docker-email", "login_email goes: registries do not ask for it", docker_email),
    Fixer {
        name: "docker-tag-tags",
        summary: "tag of the post-processor docker-tag becomes the list tags",
        part: Part::PostProcessors(&["docker-tag"], docker_tags),
    },
    Fixer {
        name: "powershell-escapes",
        summary: "backticks go from environment variables, elevated_user and elevated_password",
        part: Part::Provisioners(&["powershell"], powershell_escapes),
    },
    builders(
        "vmware-compaction",
        "skip_compaction is set for disks that cannot be compacted",
        &["vmware-iso"],
        vmware_compaction,
    ),
    builders("hyperv-deprecations", "vhd_temp_path goes", &["hyperv-iso"], |b| {
        drop(b.remove("vhd_temp_path"))
    }),
    builders(
        "hyperv-vmxc-typo",
        "clone_from_vmxc_path becomes clone_from_vmcx_path",
        &["hyperv-vmcx"],
        |b| rename(b, "clone_from_vmxc_path", "clone_from_vmcx_path", Value::is_string),
    ),
    builders(
        "hyperv-cpu-and-ram",
        "cpu becomes cpus, ram_size becomes memory",
        &["hyperv-iso", "hyperv-vmcx"],
        |b| {
            rename(b, "cpu", "cpus", Value::is_number);
            rename(b, "ram_size", "memory", Value::is_number);
        },
    ),
    builders(
        "clean-image-name",
        "clean_image_name and clean_ami_name become clean_resource_name",
        ANY,
        clean_resource_name,
    ),
    builders("spot-price-auto-product", "spot_price_auto_product goes", AMAZON, |b| {
        drop(b.remove("spot_price_auto_product"))
    }),
    builders("qemu-disk-size", "a number as disk_size becomes a text with its unit", &["qemu"], |b| {
        if let Some(Value::Number(size)) = b.get("disk_size") {
            let size = format!("{}M", number_text(size));
            b.insert("disk_size".into(), size.into());
        }
    }),
    Fixer {
        name: "galaxy-command",
        summary: "galaxycommand of the provisioner ansible-local becomes galaxy_command",
        part: Part::Provisioners(&["ansible-local"], |p| {
            rename(p, "galaxycommand", "galaxy_command", Value::is_string)
        }),
    },
    builders("comm-config", "port forwarding loses the ssh_ in front of its names", &["virtualbox*"], |b| {
        host_ports(b);
        rename(b, "ssh_skip_nat_mapping", "skip_nat_mapping", |_| true);
    }),
    builders("ssh-wait-timeout", "ssh_wait_timeout becomes ssh_timeout", ANY, |b| {
        rename(b, "ssh_wait_timeout", "ssh_timeout", |_| true)
    }),
    builders(
        "vsphere-iso-net-disk",
        "settings of the network and the disk go into network_adapters and storage",
        &["vsphere-iso"],
        |b| {
            gather(
                b,
                "network_adapters",
                &[("network", "network"), ("networkCard", "network_card"), ("network_card", "network_card")],
            );
            let disk = ["disk_size", "disk_thin_provisioned", "disk_eagerly_scrub"];
            gather(b, "storage", &disk.map(|name| (name, name)));
        },
    ),
    builders(
        "iso-checksum-type-and-url",
        "iso_checksum_url and iso_checksum_type become part of iso_checksum",
        ANY,
        iso_checksum,
    ),
    builders("qemu-host-port", "ports lose the ssh_ in front of their names", &["qemu"], host_ports),
    builders(
        "azure-exclude_from_latest",
        "exlude_from_latest becomes exclude_from_latest",
        &["azure*"],
        |b| {
            let typo = |o: &mut Object| rename(o, "exlude_from_latest", "exclude_from_latest", |_| true);
            b.values_mut().filter_map(Value::as_object_mut).for_each(typo);
            typo(b);
        },
    ),
    template("proxmox-type", "the builder proxmox is now proxmox-iso", |t| {
        rename_type(t, "proxmox", "proxmox-iso")
    }),
];

const fn builders(
    name: &'static str,
    summary: &'static str,
    types: &'static [&'static str],
    fix: fn(&mut Object),
) -> Fixer {
    Fixer { name, summary, part: Part::Builders(types, fix) }
}

const fn template(name: &'static str, summary: &'static str, fix: fn(&mut Object)) -> Fixer {
    Fixer { name, summary, part: Part::Template(fix) }
}

/// Gives an item a new name, unless its value is not as it must be. An item that has the new name stays.
fn rename(object: &mut Object, old: &str, new: &str, fits: fn(&Value) -> bool) {
    if object.get(old).is_some_and(fits)
        && let Some(value) = object.remove(old)
    {
        object.entry(new).or_insert(value);
    }
}

/// Takes a text that is not empty out; anything else stays.
fn take_text(object: &mut Object, name: &str) -> Option<String> {
    let text = object.get(name)?.as_str()?.to_owned();
    object.remove(name);
    Some(text).filter(|text| !text.is_empty())
}

fn iso_md5(builder: &mut Object) {
    if builder.get("iso_md5").is_some_and(Value::is_string)
        && let Some(sum) = builder.remove("iso_md5")
        && !builder.contains_key("iso_checksum")
    {
        builder.insert("iso_checksum".into(), sum);
        builder.insert("iso_checksum_type".into(), "md5".into());
    }
}

fn create_time(builder: &mut Object) {
    static CREATE_TIME: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\{\{\s*\.CreateTime\s*\}\}").ok());
    for name in ["ami_name", "bundle_prefix", "snapshot_name"] {
        if let (Some(Value::String(text)), Some(pattern)) = (builder.get_mut(name), &*CREATE_TIME) {
            *text = pattern.replace_all(text, "{{timestamp}}").into_owned();
        }
    }
}

fn guest_additions(builder: &mut Object) {
    if let Some(attach) = builder.get("guest_additions_attach").and_then(Value::as_bool) {
        builder.remove("guest_additions_attach");
        builder.entry("guest_additions_mode").or_insert(if attach { "attach" } else { "upload" }.into());
    }
}

fn vagrant_override(post_processor: &mut Object) {
    let providers = ["aws", "digitalocean", "virtualbox", "vmware"];
    let found: Vec<_> = providers.iter().filter_map(|p| post_processor.remove_entry(*p)).collect();
    if found.is_empty() {
        return;
    }
    let settings = post_processor.entry("override").or_insert_with(|| json!({}));
    if let Value::Object(settings) = settings {
        for (name, value) in found {
            settings.entry(name).or_insert(value);
        }
    }
}

/// Gives builders of a type their new type. What refers to them by their type, because they have no name, follows.
fn rename_type(template: &mut Object, old: &str, new: &str) {
    let mut named = false;
    if let Some(Value::Array(builders)) = template.get_mut("builders") {
        for builder in builders.iter_mut().filter_map(Value::as_object_mut) {
            named |= builder.get("name").is_some_and(|name| name == old);
            if let Some(kind) = builder.get_mut("type").filter(|kind| *kind == old) {
                *kind = new.into();
            }
        }
    }
    if named {
        return;
    }
    let follow = |component: &mut Object| {
        for filter in ["only", "except"] {
            if let Some(Value::Array(names)) = component.get_mut(filter) {
                names.iter_mut().filter(|name| **name == old).for_each(|name| *name = new.into());
            }
        }
    };
    each(template, "provisioners", ANY, |provisioner| {
        follow(provisioner);
        if let Some(Value::Object(overrides)) = provisioner.get_mut("override") {
            rename(overrides, old, new, |_| true);
        }
    });
    each(template, "post-processors", ANY, follow);
}

fn private_ip(builder: &mut Object) {
    // With both there is no telling which was meant.
    if builder.contains_key("ssh_interface") {
        return;
    }
    let private = match builder.get("ssh_private_ip") {
        Some(Value::Bool(private)) => *private,
        Some(Value::String(text)) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return,
        },
        _ => return,
    };
    builder.remove("ssh_private_ip");
    builder.insert("ssh_interface".into(), if private { "private_ip" } else { "public_ip" }.into());
}

fn source_cidrs(builder: &mut Object) {
    if builder.get("temporary_security_group_source_cidr").is_some_and(Value::is_string)
        && let Some(cidr) = builder.remove("temporary_security_group_source_cidr")
    {
        builder.entry("temporary_security_group_source_cidrs").or_insert_with(|| json!([cidr]));
    }
}

fn docker_email(template: &mut Object) {
    if !matches!(template.get("post-processors"), Some(Value::Array(_))) {
        return;
    }
    for part in ["builders", "post-processors"] {
        each(template, part, &["docker*"], |component| drop(component.remove("login_email")));
    }
}

fn docker_tags(post_processor: &mut Object) {
    let mut tags: Vec<Value> = Vec::new();
    let mut add = |tag: &str| {
        let tag = tag.trim();
        if !tag.is_empty() && !tags.iter().any(|t| t == tag) {
            tags.push(tag.into());
        }
    };
    for name in ["tag", "tags"] {
        match post_processor.get(name) {
            Some(Value::String(text)) => text.split(',').for_each(&mut add),
            Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
                items.iter().filter_map(Value::as_str).for_each(&mut add);
            }
            None | Some(Value::Null) => {}
            // What is no tag is left for whoever checks.
            Some(_) => return,
        }
    }
    post_processor.remove("tag");
    post_processor.insert("tags".into(), Value::Array(tags));
}

fn powershell_escapes(provisioner: &mut Object) {
    let unescape = |value: &mut Value| {
        let Value::String(text) = value else { return };
        let mut plain = String::with_capacity(text.len());
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            let escaped = rest.next_if(|next| c == '`' && matches!(next, '$' | '"' | '`' | '\''));
            plain.push(escaped.unwrap_or(c));
        }
        *text = plain;
    };
    for name in ["elevated_user", "elevated_password"] {
        provisioner.get_mut(name).into_iter().for_each(unescape);
    }
    if let Some(Value::Array(variables)) = provisioner.get_mut("environment_vars") {
        variables.iter_mut().for_each(unescape);
    }
}

fn vmware_compaction(builder: &mut Object) {
    if builder.get("remote_type").is_none_or(|remote| remote != "esx5") {
        return;
    }
    let disk = builder.entry("disk_type_id").or_insert_with(|| "zeroedthick".into());
    if disk != "thin" {
        builder.insert("skip_compaction".into(), true.into());
    }
}

/// In texts and in maps of texts.
fn clean_resource_name(builder: &mut Object) {
    let clean = |value: &mut Value| {
        if let Value::String(text) = value {
            for old in ["clean_image_name", "clean_ami_name"] {
                *text = text.replace(old, "clean_resource_name");
            }
        }
    };
    for value in builder.values_mut() {
        match value {
            Value::Object(map) => map.values_mut().for_each(clean),
            value => clean(value),
        }
    }
}

fn host_ports(builder: &mut Object) {
    rename(builder, "ssh_host_port_min", "host_port_min", |_| true);
    rename(builder, "ssh_host_port_max", "host_port_max", |_| true);
}

/// Makes the settings of what there was one of the first in the list of those that there are now.
fn gather(builder: &mut Object, list: &str, settings: &[(&str, &str)]) {
    let mut first = Object::new();
    for (old, new) in settings {
        if let Some(value) = builder.remove(*old) {
            first.entry(*new).or_insert(value);
        }
    }
    if first.is_empty() {
        return;
    }
    match builder.entry(list).or_insert_with(|| json!([])) {
        Value::Array(items) => items.insert(0, first.into()),
        other => *other = json!([first, other]),
    }
}

fn iso_checksum(builder: &mut Object) {
    let (url, kind) = (take_text(builder, "iso_checksum_url"), take_text(builder, "iso_checksum_type"));
    if let Some(url) = url {
        builder.insert("iso_checksum".into(), format!("file:{url}").into());
    } else if let (Some(kind), Some(Value::String(sum))) = (kind, builder.get_mut("iso_checksum")) {
        *sum = if kind == "none" { kind } else { format!("{kind}:{sum}") };
    }
}
