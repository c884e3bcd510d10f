//! The command line of QEMU: what the options say, and what `qemuargs` puts in its place.

use std::path::{Path, PathBuf};

use packer_core::{Context, Result, kit};

use super::{Qemu, or, rules};

/// What the command line is made of beside the options.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) accelerator: String,
    pub(super) cpu_model: String,
    pub(super) output: PathBuf,
    pub(super) disks: Vec<PathBuf>,
    /// What its CD drives hold, paths or a URL.
    pub(super) cds: Vec<String>,
    pub(super) floppy: Option<PathBuf>,
    pub(super) efi_variables: Option<PathBuf>,
    pub(super) tpm_socket: Option<PathBuf>,
    pub(super) qmp_socket: Option<PathBuf>,
    /// The port where the screen is shown.
    pub(super) screen: u16,
    /// Whether the machine's first serial line goes to QEMU's output.
    pub(super) serial: bool,
    /// The port of this computer that leads to a port of the machine.
    pub(super) forward: Option<(u16, u16)>,
    pub(super) http_ip: String,
    pub(super) http_port: u16,
    /// The major version of QEMU.
    pub(super) version: u32,
    /// Whether the machine is told when it goes on from a state that was saved, so that it draws its random numbers anew.
    pub(super) generation: bool,
    /// Whether it waits for such a state.
    pub(super) incoming: bool,
}

/// Options and their values, in order.
#[derive(Debug, Default, PartialEq)]
struct Table(Vec<(String, Vec<String>)>);

impl Table {
    fn add(&mut self, option: &str, value: impl Into<String>) {
        let value = value.into();
        match self.0.iter_mut().find(|(name, _)| name == option) {
            Some((_, values)) => values.push(value),
            None => self.0.push((option.to_owned(), vec![value])),
        }
    }

    /// Rows as the user gave them: an option that is named there loses the values that it has.
    fn replace(&mut self, rows: &[(String, String)]) {
        self.0.retain(|(name, _)| rows.iter().all(|(option, _)| option != name));
        for (option, value) in rows {
            self.add(option, value);
        }
    }

    fn words(self) -> Vec<String> {
        let row = |option: &str, value: String| {
            let value = Some(value).filter(|value| !value.is_empty());
            std::iter::once(option.to_owned()).chain(value)
        };
        self.0
            .into_iter()
            .flat_map(|(option, values)| {
                values.into_iter().flat_map(move |value| row(&option, value)).collect::<Vec<_>>()
            })
            .collect()
    }
}

/// The whole command line, without the program.
pub(super) fn command_line(vm: &Qemu, cx: &Context, parts: &Parts) -> Result<Vec<String>> {
    let mut table = usual(vm, parts);
    let card = or(&vm.net_device, "virtio-net");
    if !vm.qemuargs.is_empty() {
        cx.say("Overriding default Qemu arguments with qemuargs template option...");
        table.replace(&rows(vm, cx, parts)?);
        let devices = table.0.iter().find(|(option, _)| option == "-device");
        if !devices.is_some_and(|(_, values)| values.iter().any(|value| value.contains(card))) {
            table.add("-device", format!("{card},netdev=user.0"));
        }
    }
    if parts.incoming {
        table.add("-incoming", "defer");
    }
    Ok(table.words())
}

/// What the options of the template say.
fn usual(vm: &Qemu, parts: &Parts) -> Table {
    let mut table = Table::default();
    table.add("-name", &parts.name);
    let machine = or(&vm.machine_type, "pc");
    match parts.accelerator.as_str() {
        "none" => table.add("-machine", format!("type={machine}")),
        accelerator => table.add("-machine", format!("type={machine},accel={accelerator}")),
    }
    if !parts.cpu_model.is_empty() {
        table.add("-cpu", &parts.cpu_model);
    }
    table.add("-smp", processors(vm));
    table.add("-m", format!("{}M", if vm.memory < 10 { 512 } else { vm.memory }));
    if !vm.boots_by_efi() {
        table.add("-boot", if vm.disk_image { "c" } else { "once=d" });
    }
    if !vm.firmware.is_empty() && !vm.use_pflash {
        table.add("-bios", &vm.firmware);
    }
    match (&parts.forward, vm.net_bridge.as_str()) {
        (_, bridge) if !bridge.is_empty() => table.add("-netdev", format!("bridge,id=user.0,br={bridge}")),
        (Some((here, there)), _) => {
            table.add("-netdev", format!("user,id=user.0,hostfwd=tcp::{here}-:{there}"));
        }
        (None, _) => table.add("-netdev", "user,id=user.0"),
    }
    screen(vm, parts, &mut table);
    if let Some(socket) = &parts.qmp_socket {
        table.add("-qmp", format!("unix:{},server,nowait", escaped(socket)));
    }
    if parts.serial {
        table.add("-serial", "stdio");
    }
    if let Some(floppy) = &parts.floppy {
        table.add("-fda", floppy.to_string_lossy());
    }
    drives(vm, parts, &mut table);
    if let Some(socket) = &parts.tpm_socket {
        table.add("-chardev", format!("socket,id=vtpm,path={}", escaped(socket)));
        table.add("-tpmdev", "emulator,id=tpm0,chardev=vtpm");
        table.add("-device", format!("{},tpmdev=tpm0", or(&vm.tpm_device_type, "tpm-tis")));
    }
    if parts.generation {
        table.add("-device", "vmgenid,guid=auto");
    }
    table
}

fn screen(vm: &Qemu, parts: &Parts, table: &mut Table) {
    let number = i64::from(parts.screen) - rules::FIRST_SCREEN;
    let password = if vm.vnc_use_password { ",password" } else { "" };
    table.add("-vnc", format!("{}:{number}{password}", vm.shows_at()));
    if !vm.headless && parts.version >= 2 {
        match vm.display.as_str() {
            "" | "none" if vm.use_default_display => {}
            "" | "none" => table.add("-display", "gtk"),
            display => table.add("-display", display),
        }
    }
    if !vm.vga.is_empty() {
        table.add("-vga", &vm.vga);
    }
}

/// How many processors there are, and how they hang together.
fn processors(vm: &Qemu) -> String {
    let topology = [("sockets", vm.sockets), ("cores", vm.cores), ("threads", vm.threads)];
    let most = topology.iter().fold(1i64, |most, (_, number)| most.saturating_mul((*number).max(1)));
    let given = topology.iter().any(|(_, number)| *number > 0);
    let number = match vm.cpus {
        0 => most,
        cpus if given => cpus.min(most),
        cpus => cpus,
    };
    let mut text = number.to_string();
    for (name, number) in topology.into_iter().filter(|(_, number)| *number > 0) {
        text.push_str(&format!(",{name}={number}"));
    }
    text
}

const SCSI: &str = "virtio-scsi";

/// Disks, CDs and firmware, with the devices that some of them need.
fn drives(vm: &Qemu, parts: &Parts, table: &mut Table) {
    let interface = or(&vm.disk_interface, "virtio");
    let mut how = format!("cache={}", or(&vm.disk_cache, "writeback"));
    if parts.version >= 2 {
        how.push_str(&format!(",discard={}", or(&vm.disk_discard, "ignore")));
    }
    how.push_str(&format!(",format={}", vm.image_format()));
    if parts.version >= 2 && !matches!(vm.disk_detect_zeroes.as_str(), "" | "off") {
        how.push_str(&format!(",detect-zeroes={}", vm.disk_detect_zeroes));
    }
    let controller = "virtio-scsi-pci,id=scsi0";
    if interface == SCSI {
        table.add("-device", controller);
    }
    for (number, disk) in parts.disks.iter().enumerate() {
        let file = escaped(disk);
        if interface == SCSI {
            table.add("-device", format!("scsi-hd,bus=scsi0.0,drive=drive{number}"));
            table.add("-drive", format!("if=none,file={file},id=drive{number},{how}"));
        } else {
            table.add("-drive", format!("file={file},if={interface},{how}"));
        }
    }
    table.add("-device", format!("{},netdev=user.0", or(&vm.net_device, "virtio-net")));
    if vm.cdrom_interface == SCSI && interface != SCSI && !parts.cds.is_empty() {
        table.add("-device", controller);
    }
    for (number, cd) in parts.cds.iter().enumerate() {
        let file = cd.replace(',', ",,");
        match vm.cdrom_interface.as_str() {
            "" => table.add("-drive", format!("file={file},media=cdrom")),
            SCSI => {
                let index = number + if interface == SCSI { parts.disks.len() } else { 0 };
                table.add("-device", "virtio-scsi-device");
                table.add("-device", format!("scsi-cd,drive=cdrom{number}"));
                let drive = format!("file={file},if=none,index={index},id=cdrom{number},media=cdrom");
                table.add("-drive", drive);
            }
            other => {
                let drive = format!("file={file},if={other},index={number},id=cdrom{number},media=cdrom");
                table.add("-drive", drive);
            }
        }
    }
    if !vm.firmware.is_empty() && vm.use_pflash {
        let file = escaped(Path::new(&vm.firmware));
        table.add("-drive", format!("file={file},if=pflash,format=raw,readonly=on"));
    }
    if let Some(variables) = &parts.efi_variables {
        let code = escaped(Path::new(or(&vm.efi_firmware_code, "/usr/share/OVMF/OVMF_CODE.fd")));
        table.add("-drive", format!("file={code},if=pflash,unit=0,format=raw,readonly=on"));
        let variables = escaped(variables);
        table.add("-drive", format!("file={variables},if=pflash,unit=1,format=raw"));
    }
}

/// A path inside a value of several parts: a comma would end it.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// The rows of `qemuargs`, rendered.
fn rows(vm: &Qemu, cx: &Context, parts: &Parts) -> Result<Vec<(String, String)>> {
    let port = parts.http_port.to_string();
    let forward = parts.forward.map_or(0, |(here, _)| here).to_string();
    let content: Vec<String> =
        vm.http.http_content.iter().map(|(path, text)| format!("{path}:{text}")).collect();
    let content = format!("map[{}]", content.join(" "));
    let output = parts.output.to_string_lossy();
    let variables = [
        ("HTTPIP", parts.http_ip.as_str()),
        ("HTTPPort", &port),
        ("HTTPDir", &vm.http.http_directory),
        ("HTTPContent", &content),
        ("OutputDir", &output),
        ("Name", &parts.name),
        ("SSHHostPort", &forward),
    ];
    let mut rows = Vec::new();
    for row in &vm.qemuargs {
        let mut words = Vec::new();
        for word in row {
            let word = kit::render_known(cx, word.as_str(), &variables);
            let word = word.map_err(|e| e.context("Error processing QemuArgs"))?;
            words.push(word);
        }
        if let Some((option, value)) = words.split_first() {
            rows.push((option.clone(), value.concat()));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use packer_core::testing::Bench;

    fn line(vm: &Qemu, parts: &Parts) -> String {
        let bench = Bench::new();
        command_line(vm, bench.context(), parts).unwrap().join(" ")
    }

    fn parts() -> Parts {
        Parts {
            name: "vm".into(),
            accelerator: "tcg".into(),
            output: "out".into(),
            disks: vec!["out/vm".into()],
            cds: vec!["a.iso".into()],
            screen: 5901,
            version: 7,
            ..Parts::default()
        }
    }

    #[test]
    fn an_option_of_the_user_replaces_all_values_of_ours() {
        let mut vm = Qemu { headless: true, ..Qemu::default() };
        vm.qemuargs = [["-drive", "file=x,if=ide"].as_slice(), &["-device", "usb", ",id=a"], &["-no-reboot"]]
            .iter()
            .map(|row| row.iter().map(|word| (*word).into()).collect())
            .collect();
        assert_eq!(
            line(&vm, &parts()),
            "-name vm -machine type=pc,accel=tcg -smp 1 -m 512M -boot once=d -netdev user,id=user.0 -vnc 127.0.0.1:1 \
             -drive file=x,if=ide -device usb,id=a -device virtio-net,netdev=user.0 -no-reboot"
        );
        vm.qemuargs = vec![vec!["-append".into(), "{{ .Nope }}".into()]];
        let bench = Bench::new();
        let error = command_line(&vm, bench.context(), &parts()).unwrap_err();
        assert!(error.message().starts_with("Error processing QemuArgs: "), "{error}");
    }

    #[test]
    fn commas_in_paths_stay_in_them() {
        let vm = Qemu { headless: true, disk_image: true, ..Qemu::default() };
        let parts = Parts { disks: vec!["a,b/vm".into()], cds: vec!["c,d.iso".into()], ..parts() };
        let line = line(&vm, &parts);
        assert!(line.contains("file=a,,b/vm,if=virtio,") && line.contains("file=c,,d.iso,media"), "{line}");
    }
}
