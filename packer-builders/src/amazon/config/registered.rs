//! How an image boots that is registered from snapshots.

use packer_core::{Diagnostic, Diagnostics};

/// Checks the options of it that EC2 is told when it is registered.
pub(in crate::amazon) fn check(
    architecture: &str,
    boot_mode: &str,
    uefi_data: &str,
    tpm: &str,
    found: &mut Diagnostics,
) {
    let mut say = |text: String| found.push(Diagnostic::error(text));
    let architecture = if architecture.is_empty() { "x86_64" } else { architecture };
    if !["arm64", "arm64_mac", "i386", "x86_64", "x86_64_mac"].contains(&architecture) {
        say("The only valid ami_architecture values are \"arm64\", \"arm64_mac\", \"i386\", \"x86_64\", or \"x86_64_mac\""
            .to_owned());
    }
    if !matches!(boot_mode, "" | "legacy-bios" | "uefi" | "uefi-preferred") {
        say(format!(
            "invalid boot mode {boot_mode:?}, valid values are either 'uefi', 'legacy-bios' or 'uefi-preferred'"
        ));
    }
    match boot_mode {
        _ if uefi_data.is_empty() => {}
        "legacy-bios" => say("Cannot use uefi_data with boot_mode set to \"legacy-bios\".".to_owned()),
        "" if architecture != "arm64" => say(format!(
            "You need boot_mode set to \"uefi\" to use uefi_data, {architecture:?} architecture defaults to \"legacy-bios\"."
        )),
        _ => {}
    }
    check_tpm(tpm, found);
}

/// Checks which TPM the image has.
pub(in crate::amazon) fn check_tpm(version: &str, found: &mut Diagnostics) {
    if !matches!(version, "" | "v2.0") {
        found.push(Diagnostic::error("The only valid tpm_support value is \"v2.0\""));
    }
}
