//! `packer fix`: replaces what is old in a JSON template.

use packer_core::diagnostic::packer_layout_all;
use packer_core::template::upgrade::{fix, read};

use crate::flags::{self, Flag};
use crate::{FAILED, OK, Session};

pub(crate) const USAGE: &str = "Usage: packer fix [options] TEMPLATE

  Replaces old names and forms in a JSON template and prints the result. The template itself is not changed.

What is replaced, in this order:

  iso-md5                     iso_md5: iso_checksum
  createtime                  {{.CreateTime}} in names: {{timestamp}}
  virtualbox-gaattach         guest_additions_attach: guest_additions_mode
  pp-vagrant-override         provider settings of the post-processor vagrant: override
  virtualbox-rename           builder virtualbox: virtualbox-iso
  vmware-rename               builder vmware: vmware-iso
  parallels-headless          headless: nothing
  parallels-deprecations      parallels_tools_host_path: nothing; guest_os_distribution: guest_os_type
  sshkeypath                  ssh_key_path: ssh_private_key_file
  sshdisableagent             ssh_disable_agent: ssh_disable_agent_forwarding
  scaleway-access-key         access_key: organization_id
  manifest-filename           filename: output
  amazon-shutdown_behavior    shutdown_behaviour: shutdown_behavior
  amazon-enhanced-networking  enhanced_networking: ena_support
  amazon-private-ip           ssh_private_ip: ssh_interface
  amazon-temp-sec-cidrs       temporary_security_group_source_cidr: a list
  docker-email                login_email: nothing
  docker-tag-tags             tag: the list tags
  powershell-escapes          backticks in variables, user and password: nothing
  vmware-compaction           skip_compaction for disks that cannot be compacted
  hyperv-deprecations         vhd_temp_path: nothing
  hyperv-vmxc-typo            clone_from_vmxc_path: clone_from_vmcx_path
  hyperv-cpu-and-ram          cpu: cpus; ram_size: memory
  clean-image-name            clean_image_name, clean_ami_name: clean_resource_name
  spot-price-auto-product     spot_price_auto_product: nothing
  qemu-disk-size              disk_size: a text with its unit
  galaxy-command              galaxycommand: galaxy_command
  comm-config                 ports of virtualbox: without ssh_
  ssh-wait-timeout            ssh_wait_timeout: ssh_timeout
  vsphere-iso-net-disk        network and disk: network_adapters and storage
  iso-checksum-type-and-url   iso_checksum_type, iso_checksum_url: part of iso_checksum
  qemu-host-port              ports of qemu: without ssh_
  azure-exclude_from_latest   exlude_from_latest: exclude_from_latest
  proxmox-type                builder proxmox: proxmox-iso

Options:

  -validate=false   Do not check whether the result is a template.
";

pub(crate) async fn run(mut session: Session, args: Vec<String>) -> u8 {
    let mut validate = true;
    let path = match flags::parse(&args, &mut [("validate", Flag::Switch(&mut validate))]) {
        Ok(arguments) => session.only_argument(arguments),
        Err(stop) => return session.misused(stop),
    };
    let Ok(path) = path else { return FAILED };
    if session.is_hcl(&path) {
        session.ui.error("packer fix only works with JSON files for now.");
        return FAILED;
    }
    let source = match session.reading(move || read(&path)).await {
        Ok(Ok(source)) => source,
        Err(code) => return code,
        Ok(Err(error)) => {
            session.ui.error(&format!("Error opening template: {error}"));
            return FAILED;
        }
    };
    let fixed = match fix(&source) {
        Ok(fixed) => fixed,
        Err(findings) => {
            session.ui.error(&format!("Error parsing template:\n\n{}", packer_layout_all(&findings)));
            return FAILED;
        }
    };
    session.ui.say(&fixed.to_json());
    let findings = if validate { fixed.check() } else { Default::default() };
    if findings.is_empty() {
        return OK;
    }
    session.ui.error(&format!(
        "\nError! Fixed template fails to parse:\n\n{}\
         This is usually caused by an error in the input template.\nPlease fix the error and try again.",
        packer_layout_all(&findings)
    ));
    FAILED
}

#[cfg(test)]
mod tests {
    use packer_core::template::upgrade::fixers;

    #[test]
    fn the_help_names_every_change_in_order() {
        let listed = super::USAGE.split("in this order:\n\n").nth(1).unwrap().split("\n\n").next().unwrap();
        let listed: Vec<_> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let all: Vec<_> = fixers().iter().map(|fixer| fixer.name).collect();
        assert_eq!(listed, all);
    }
}
