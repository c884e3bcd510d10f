//! What can be found wrong before anything runs.

use packer_core::{Diagnostic, Diagnostics, PrepareContext, Prepared, Result};

use super::Qemu;

pub(super) async fn check(vm: &Qemu, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
    let mut found = Diagnostics::new();
    let refuse = |found: &mut Diagnostics, text: &str| found.push(Diagnostic::error(text));
    if !is_size(&vm.disk_size) {
        refuse(&mut found, "Invalid disk size.");
    }
    let mut iso = vm.iso.clone();
    if vm.iso_skip_cache {
        // QEMU reads it while the machine runs: there is nothing to check.
        iso.iso_checksum = "none".to_owned();
    }
    found.append(iso.prepare(cx).await);
    found.append(vm.http.prepare());
    found.append(vm.boot.prepare(cx));
    found.append(vm.cd.prepare(cx));
    found.append(vm.floppy.prepare(cx));
    found.append(vm.communicator.prepare(cx));
    let choices: [(&str, &[&str], &str); 6] = [
        (&vm.format, &["qcow2", "raw"], "invalid format, only 'qcow2' or 'raw' are allowed"),
        (
            &vm.accelerator,
            &["none", "kvm", "tcg", "xen", "hax", "hvf", "whpx"],
            "invalid accelerator, only 'kvm', 'tcg', 'xen', 'hax', 'hvf', 'whpx', or 'none' are allowed",
        ),
        (
            &vm.disk_interface,
            &["ide", "sata", "scsi", "sd", "virtio", "virtio-scsi"],
            "unrecognized disk interface type",
        ),
        (
            &vm.disk_cache,
            &["writethrough", "writeback", "none", "unsafe", "directsync"],
            "unrecognized disk cache type",
        ),
        (&vm.disk_discard, &["unmap", "ignore"], "unrecognized disk discard type"),
        (&vm.disk_detect_zeroes, &["unmap", "on", "off"], "unrecognized disk detect zeroes setting"),
    ];
    for (value, known, text) in choices {
        if !value.is_empty() && !known.contains(&value) {
            refuse(&mut found, text);
        }
    }
    for (name, value) in
        [("cpus", vm.cpus), ("sockets", vm.sockets), ("cores", vm.cores), ("threads", vm.threads)]
    {
        if value < 0 {
            refuse(&mut found, &format!("{name} must be a positive number"));
        }
    }
    if vm.use_backing_file && !(vm.disk_image && vm.image_format() == "qcow2") {
        refuse(
            &mut found,
            "use_backing_file can only be enabled for QCOW2 images and when disk_image is true",
        );
    }
    if vm.skip_resize_disk && !vm.disk_image {
        refuse(&mut found, "skip_resize_disk can only be used when disk_image is true");
    }
    if !vm.boot.boot_command.is_empty() && !vm.boot_steps.is_empty() {
        refuse(&mut found, "boot_command and boot_steps cannot be used together");
    }
    if vm.disable_vnc && !vm.boot.boot_command.is_empty() {
        refuse(&mut found, "A boot command cannot be used when vnc is disabled.");
    }
    if !vm.net_bridge.is_empty() && !cfg!(target_os = "linux") {
        refuse(&mut found, "bridge is only supported in Linux based OSes");
    }
    ports(vm, &mut |text| refuse(&mut found, text));
    let folder = vm.output_folder(&cx.build.name);
    if !cx.build.force && folder.symlink_metadata().is_ok() {
        let folder = folder.display();
        refuse(&mut found, &format!("Output directory '{folder}' already exists. It must not exist."));
    }
    for (old, new, given) in [
        ("ssh_host_port_min", "host_port_min", vm.ssh_host_port_min != 0),
        ("ssh_host_port_max", "host_port_max", vm.ssh_host_port_max != 0),
    ] {
        if given {
            found.push(Diagnostic::warning(format!(
                "{old} is deprecated and is being replaced by {new}. Please, update your template to use {new}. In future \
                 versions of Packer, inclusion of {old} will error your builds."
            )));
        }
    }
    if !found.has_errors() {
        found.extend(vm.communicator.unsupported());
    }
    let mut prepared = Prepared::of(found)?;
    if vm.communicator.makes_key_pair() {
        prepared.no_boot_test = Some(
            "the machine is entered with a key of the build's own, which its image does not take again: with a password or \
             ssh_private_key_file it can be tested"
                .to_owned(),
        );
    }
    Ok(prepared)
}

/// The ports that may lead to the machine.
pub(super) fn host_ports(vm: &Qemu) -> (i64, i64) {
    let first = |values: [i64; 3]| values.into_iter().find(|value| *value != 0).unwrap_or_default();
    (
        first([vm.host_port_min, vm.ssh_host_port_min, 2222]),
        first([vm.host_port_max, vm.ssh_host_port_max, 4444]),
    )
}

/// The ports where its screen may be shown.
pub(super) fn screen_ports(vm: &Qemu) -> (i64, i64) {
    let or = |value, default| if value == 0 { default } else { value };
    (or(vm.vnc_port_min, FIRST_SCREEN), or(vm.vnc_port_max, 6000))
}

/// The port of screen 0.
pub(super) const FIRST_SCREEN: i64 = 5900;

fn ports(vm: &Qemu, refuse: &mut impl FnMut(&str)) {
    const LAST: i64 = u16::MAX as i64;
    let (min, max) = host_ports(vm);
    if min > max {
        refuse("host_port_min must be less than host_port_max");
    }
    if min < 0 {
        refuse("host_port_min must be positive");
    }
    if min > LAST || max > LAST {
        refuse("host_port_min and host_port_max must not be above 65535");
    }
    let (min, max) = screen_ports(vm);
    if min < FIRST_SCREEN {
        refuse("vnc_port_min cannot be below 5900");
    }
    if min > LAST || max > LAST {
        refuse("vnc_port_min and vnc_port_max must both be below 65535 to be valid TCP ports");
    }
    if min > max {
        refuse("vnc_port_min must be less than vnc_port_max");
    }
}

/// Whether a text is a number with at most one letter of a unit behind it.
fn is_size(text: &str) -> bool {
    let number = text.strip_suffix(|c: char| "bkmgtBKMGT".contains(c)).unwrap_or(text);
    text.is_empty() || !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_at_most_one_letter() {
        for right in ["", "0", "1", "40960", "40960M", "5g", "1T", "7b"] {
            assert!(is_size(right), "{right}");
        }
        for wrong in ["x", "M", "1 G", "1GB", "-1", "1.5G", "5é"] {
            assert!(!is_size(wrong), "{wrong}");
        }
    }
}
