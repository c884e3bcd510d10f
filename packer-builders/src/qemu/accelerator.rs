//! What runs the processor of a machine: the hardware where a guest really runs with it, else software.

use std::sync::OnceLock;

use packer_core::communicator::ExitStatus;
use packer_core::{Context, Error};

use super::Qemu;
use super::hypervisor::{Hypervisor, State};

/// What is known of KVM on this computer: set where a guest did not run with it.
#[derive(Debug, Default)]
struct KvmFails(OnceLock<()>);

/// The accelerators to try, best first. One that the user names is the only one.
pub(super) fn candidates(vm: &Qemu, cx: &Context) -> Vec<String> {
    if !vm.accelerator.is_empty() {
        return vec![vm.accelerator.clone()];
    }
    let fails = cx.of_run::<KvmFails>().0.get().is_some();
    let names: &[&str] = if !fails && opens() { &["kvm", "tcg"] } else { &["tcg"] };
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Whether there is a KVM that lets this process in, which says nothing of whether a guest runs.
fn opens() -> bool {
    std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

/// Whether a machine has come to nothing because of its accelerator.
pub(super) fn is_to_blame(name: &str, machine: &Hypervisor) -> bool {
    if matches!(name, "tcg" | "none") {
        return false;
    }
    let words = machine.last_words().to_ascii_lowercase();
    match machine.state() {
        State::Stuck => true,
        // QEMU aborts on what KVM answers.
        State::Ended(ExitStatus::Signal(6)) => true,
        State::Ended(status) if !status.success() => {
            [name, "accel"].iter().any(|word| words.contains(word))
                && ["fail", "not supported", "no accelerator", "could not", "invalid accelerator"]
                    .iter()
                    .any(|word| words.contains(word))
        }
        _ => false,
    }
}

/// Remembers for the run that this accelerator does not do, and says what comes next.
pub(super) fn gave_up(cx: &Context, name: &str, next: &str, error: &Error) {
    if name == "kvm" {
        let _ = cx.of_run::<KvmFails>().0.set(());
    }
    cx.say_error(format!(
        "A guest does not run with the accelerator {name} here ({error}). Going on with {next}."
    ));
}

/// The model of the processors: what only the hardware can be, the software is as far as it can.
pub(super) fn cpu_model(vm: &Qemu, accelerator: &str) -> String {
    let software = vm.accelerator.is_empty() && accelerator == "tcg";
    match vm.cpu_model.strip_prefix("host") {
        Some(flags) if software && (flags.is_empty() || flags.starts_with(',')) => format!("max{flags}"),
        _ => vm.cpu_model.clone(),
    }
}
