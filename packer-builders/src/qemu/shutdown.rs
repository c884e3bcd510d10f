//! How a machine is switched off: by its own command, by the power button, by pulling the plug.

use std::time::Duration;

use packer_core::communicator::{Communicator, CommunicatorExt};
use packer_core::kit::boot_command::{BootCommand, type_into};
use packer_core::{Context, Error, Result};
use serde_json::{Value, json};

use super::Qemu;
use super::boot::Screen;
use super::hypervisor::Hypervisor;
use super::qmp::Qmp;

/// How long a machine may take to shut down that has not been told how long it may.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// How long a machine may take that was asked to power down; one that does not listen is not waited for longer.
const POWER_DOWN: Duration = Duration::from_secs(30);

/// Switches the machine off; returns when it is.
pub(super) async fn shut_down(
    vm: &Qemu,
    cx: &Context,
    machine: &Hypervisor,
    communicator: &dyn Communicator,
    qmp: Option<&Qmp>,
    screen: &Screen,
) -> Result<()> {
    let limit = if vm.shutdown_timeout.is_zero() { LIMIT } else { vm.shutdown_timeout.to_std() };
    let off = async |late: &str| {
        let off = tokio::time::timeout(limit, machine.off()).await;
        off.unwrap_or_else(|_| Err(Error::guest(late)))
    };
    if vm.communicator.kind() == "none" {
        cx.say("Waiting for shutdown...");
        return off("Failed to shutdown").await;
    }
    if vm.shutdown_command.is_empty() {
        cx.say("Halting the virtual machine...");
        if is_deaf(vm, machine, qmp).await {
            cx.say_error(
                "The machine does not know its power button, so that it cannot be asked to power down; what it has not \
                 written yet is lost.",
            );
        } else if power_button(vm, cx, machine, qmp, screen).await? {
            if let Ok(off) = tokio::time::timeout(limit.min(POWER_DOWN), machine.off()).await {
                return off;
            }
            cx.say_error(
                "The machine does not power down when it is asked to; what it has not written yet is lost.",
            );
        }
        machine.kill().await;
        return Ok(());
    }
    cx.say("Gracefully halting virtual machine...");
    let command = async {
        // Whether it worked shows in the machine: many a command never returns.
        match communicator.run(cx, &vm.shutdown_command).await {
            Ok(status)
                if !status.success()
                    && status.code() != packer_core::communicator::ExitStatus::DISCONNECT_CODE =>
            {
                cx.say_error(format!("The shutdown command ended with {}.", status.code()));
            }
            _ => {}
        }
        std::future::pending::<Result<()>>().await
    };
    tokio::select! {
        done = off("Timeout while waiting for machine to shut down.") => done,
        never = command => never,
    }
}

/// Whether nothing in the machine can notice its power button: known where QEMU tells, of a PC with its usual firmware.
///
/// A system that takes notice of the button says so to the hardware: bit 8 of the register PM1_EN (ACPI 6.5, 4.8.3.1.2), which
/// that firmware puts 2 bytes behind its port 0x600.
async fn is_deaf(vm: &Qemu, machine: &Hypervisor, qmp: Option<&Qmp>) -> bool {
    const READ: &str = "i /h 0x602";
    const BUTTON: u16 = 1 << 8;
    let other = ["-machine", "-M", "-bios", "-pflash", "-drive", "-readconfig", "-no-acpi"];
    let changed = vm.qemuargs.iter().filter_map(|row| row.first()).any(|word| other.contains(&word.as_str()));
    let Some(qmp) = qmp.filter(|_| vm.is_pc() && !changed && vm.firmware.is_empty() && !vm.boots_by_efi())
    else {
        return false;
    };
    let ask = qmp.ask("human-monitor-command", json!({ "command-line": READ }));
    let Ok(answer) = machine.while_running(ask).await else { return false };
    let value = answer.as_str().and_then(|text| text.rsplit_once("0x")).map(|(_, digits)| digits.trim());
    value.and_then(|digits| u16::from_str_radix(digits, 16).ok()).is_some_and(|bits| bits & BUTTON == 0)
}

/// Presses the machine's power button, where there is a way to it: the machine protocol, else QEMU's monitor, which is a screen
/// beside the machine's own. Whether it was pressed.
async fn power_button(
    vm: &Qemu,
    cx: &Context,
    machine: &Hypervisor,
    qmp: Option<&Qmp>,
    screen: &Screen,
) -> Result<bool> {
    /// How long QEMU may take to let somebody at its screen.
    const LIMIT: Duration = Duration::from_secs(5);
    if let Some(qmp) = qmp {
        return match machine.while_running(qmp.ask("system_powerdown", Value::Null)).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_cancelled() => Err(e),
            Err(_) => Ok(false),
        };
    }
    if vm.disable_vnc {
        return Ok(false);
    }
    // Ctrl-Alt-2 shows the monitor, Ctrl-Alt-1 the machine again.
    let keys = "<leftCtrlOn><leftAltOn>2<leftAltOff><leftCtrlOff>system_powerdown<enter>\
                <leftCtrlOn><leftAltOn>1<leftAltOff><leftCtrlOff>";
    let keys = BootCommand::parse(&[keys]).map_err(|e| Error::internal(e.to_string()))?;
    let press = async {
        let mut vnc = screen.connect(cx).await?;
        type_into(cx, &keys, &mut vnc, Duration::from_millis(5), Duration::ZERO, None).await
    };
    match tokio::time::timeout(LIMIT, machine.while_running(press)).await {
        Ok(Ok(())) => Ok(true),
        Ok(Err(e)) if e.is_cancelled() => Err(e),
        _ => Ok(false),
    }
}
