//! The builder `qemu`: a whole machine, from an installer or a disk image, becomes a disk image.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use packer_core::communicator::CommunicatorConfig;
use packer_core::config::{self, GoTemplate};
use packer_core::duration::GoDuration;
use packer_core::kit::boot_command::BootConfig;
use packer_core::kit::download::IsoConfig;
use packer_core::kit::http_server::HttpConfig;
use packer_core::kit::media::{CdConfig, FloppyConfig};
use packer_core::{
    Artifact, BootTest, Builder, Context, Diagnostics, Error, Machine, PrepareContext, Prepared, Resource,
    Result, Secret, Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod accelerator;
mod arguments;
mod boot;
mod bridge;
mod checkpoint;
mod console;
mod disks;
mod film;
mod ground;
mod hypervisor;
mod launch;
mod machine;
mod output;
mod qmp;
mod rules;
mod shutdown;
mod tpm;
mod turn;
mod watched;

use checkpoint::Saved;
use ground::Origin;

/// The most bytes that the path of a socket may have.
const LONGEST_SOCKET: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Starts a machine with QEMU and makes a disk image of it: from an installer, or from a disk image that is there.
///
/// The programs `qemu-system-…` and `qemu-img` do the work. Without an `accelerator` the machine runs with KVM where a guest
/// really runs with it, else in software.
///
/// ```
/// use packer_builders::Qemu;
/// let vm = Qemu::from_disk("base.qcow2").memory_mib(1024).ssh("root", "secret").shutdown("poweroff");
/// let installed = Qemu::from_iso("debian.iso", "sha256:…")
///     .serve("/preseed.cfg", "d-i …")
///     .boot_command(["<esc><wait>", "auto url=http://{{ .HTTPIP }}:{{ .HTTPPort }}/preseed.cfg<enter>"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Qemu {
    /// What runs the machine's processor: `kvm`, `tcg` (software), `xen`, `hax`, `hvf`, `whpx` or `none`, which leaves it to
    /// QEMU. Default `kvm` where a guest runs with it, else `tcg`.
    pub accelerator: String,
    /// The kind of machine. Default `pc`.
    pub machine_type: String,
    /// The model of its processors. Default QEMU's own.
    pub cpu_model: String,
    /// Its memory in MiB. Default 512.
    pub memory: i64,
    /// How many processors it has. Default 1, or what the three options below make.
    pub cpus: i64,
    /// Sockets of its processors.
    pub sockets: i64,
    /// Cores of a socket.
    pub cores: i64,
    /// Threads of a core.
    pub threads: i64,

    /// The size of the disk: a number with `k`, `M`, `G` or `T` behind it; a bare one is MiB. Default `40960M`.
    pub disk_size: String,
    /// Sizes of further disks, as `qemu-img` takes them: a bare number is bytes.
    pub disk_additional_size: Vec<String>,
    /// How the machine sees its disks: `virtio`, the default, `ide`, `sata`, `scsi`, `sd`, `virtio-scsi`.
    pub disk_interface: String,
    /// How QEMU caches them: `writeback`, the default, `writethrough`, `none`, `unsafe`, `directsync`.
    pub disk_cache: String,
    /// What becomes of blocks that the machine frees: `ignore`, the default, or `unmap`.
    pub disk_discard: String,
    /// What becomes of zeroes that it writes: `off`, the default, `on` or `unmap`.
    pub disk_detect_zeroes: String,
    /// The form of the image: `qcow2`, the default, or `raw`.
    pub format: String,
    /// Whether the image stays as it is when the machine is off; it is written anew otherwise, without what was freed.
    pub skip_compaction: bool,
    /// Whether the image is compressed (qcow2 only).
    pub disk_compression: bool,
    /// Whether `iso_url` is a disk image that the machine starts from.
    pub disk_image: bool,
    /// Whether the machine's disk holds only what differs from that image, which has to stay.
    pub use_backing_file: bool,
    /// Whether the disk keeps the size of that image.
    pub skip_resize_disk: bool,
    /// More arguments of `qemu-img`.
    pub qemu_img_args: Option<QemuImgArgs>,

    /// Whether the machine boots by EFI.
    pub efi_boot: bool,
    /// The firmware for it. Default `/usr/share/OVMF/OVMF_CODE.fd`.
    pub efi_firmware_code: String,
    /// The variables to begin with. Default `/usr/share/OVMF/OVMF_VARS.fd`.
    pub efi_firmware_vars: String,
    /// Whether `efivars.fd` is left out of the artifact.
    pub efi_drop_efivars: bool,
    /// Another firmware.
    pub firmware: String,
    /// Whether it is flash memory.
    pub use_pflash: bool,
    /// Whether the machine has a TPM, which the program `swtpm` is.
    pub vtpm: bool,
    /// Whether it is one of version 1.2.
    pub use_tpm1: bool,
    /// How the machine sees it. Default `tpm-tis`.
    pub tpm_device_type: String,

    /// The network card. Default `virtio-net`.
    pub net_device: String,
    /// A bridge of this computer to put the machine on (Linux). Without it the machine reaches out through QEMU, and ports lead
    /// to it.
    pub net_bridge: String,
    /// The first port of this computer that may lead to the machine. Default 2222.
    pub host_port_min: i64,
    /// The last one. Default 4444.
    pub host_port_max: i64,
    /// The old name of `host_port_min`.
    pub ssh_host_port_min: i64,
    /// The old name of `host_port_max`.
    pub ssh_host_port_max: i64,
    /// Whether the communicator's port itself leads to the machine.
    pub skip_nat_mapping: bool,

    /// The folder of the image, which must not be there. Default `output-` and the build's name.
    pub output_directory: String,
    /// The name of the machine and of its disk. Default `packer-` and the build's name.
    pub vm_name: String,
    /// The program. Default `qemu-system-x86_64`.
    pub qemu_binary: String,
    /// Arguments that replace those of the same option, or come beside them: rows of an option and its value. `{{.HTTPIP}}`,
    /// `{{.HTTPPort}}`, `{{.HTTPDir}}`, `{{.OutputDir}}`, `{{.Name}}` and `{{.SSHHostPort}}` are known.
    pub qemuargs: Vec<Vec<GoTemplate>>,
    /// Whether QEMU opens its machine protocol. `vnc_use_password` and `net_bridge` need it.
    pub qmp_enable: bool,
    /// The path of its socket. Default `NAME.monitor` in `output_directory`.
    pub qmp_socket_path: String,
    /// Whether no window is opened.
    pub headless: bool,
    /// The kind of the window. Default `gtk`.
    pub display: String,
    /// Whether QEMU chooses it.
    pub use_default_display: bool,
    /// The graphics card.
    pub vga: String,
    /// Whether nothing connects to the screen: nothing is typed.
    pub disable_vnc: bool,
    /// The address of this computer where the screen is shown. Default `127.0.0.1`.
    pub vnc_bind_address: String,
    /// The first port for it. Default 5900.
    pub vnc_port_min: i64,
    /// The last one. Default 6000.
    pub vnc_port_max: i64,
    /// Whether it asks for a password.
    pub vnc_use_password: bool,
    /// That password, of at most 8 characters. Default a random one.
    pub vnc_password: Secret,
    /// What is typed in steps: rows of a boot command and what it is for. Not with `boot_command`.
    pub boot_steps: Vec<Vec<GoTemplate>>,
    /// How the machine sees its CDs. Default QEMU's own.
    pub cdrom_interface: String,
    /// Whether what the machine prints on its first serial line is read: the waits for a text of a boot command look there too, in
    /// any case where there is one, and the host keys that cloud-init prints there are those that the machine is known by; nobody
    /// logs in before. (Not in Packer.)
    pub serial_console: bool,
    /// Whether QEMU reads the installer from its URL itself.
    pub iso_skip_cache: bool,
    /// Known for templates that have it; does nothing.
    pub run_once: bool,

    /// The command that shuts the machine down. Without one it is asked to power down (ACPI), and killed where it does not.
    pub shutdown_command: String,
    /// How long that may take. Default 5 minutes.
    pub shutdown_timeout: GoDuration,

    /// The installer or the disk image.
    #[serde(flatten)]
    pub iso: IsoConfig,
    /// What is served to the machine.
    #[serde(flatten)]
    pub http: HttpConfig,
    /// What is typed at it.
    #[serde(flatten)]
    pub boot: BootConfig,
    /// Its CD.
    #[serde(flatten)]
    pub cd: CdConfig,
    /// Its floppy.
    #[serde(flatten)]
    pub floppy: FloppyConfig,
    /// How it is entered.
    #[serde(flatten)]
    pub communicator: CommunicatorConfig,
}

/// More arguments of `qemu-img`, by what it does.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct QemuImgArgs {
    /// When an image is written anew.
    pub convert: Vec<String>,
    /// When a disk is made.
    pub create: Vec<String>,
    /// When a disk gets another size.
    pub resize: Vec<String>,
}

impl Qemu {
    /// Starts from a disk image, a path or a URL, whose checksum is not known.
    pub fn from_disk(image: impl Into<String>) -> Self {
        let mut vm = Self::from_iso(image, "none");
        vm.disk_image = true;
        vm.skip_resize_disk = true;
        vm
    }

    /// Starts from an installer, a path or a URL, and its checksum: `sha256:…`, `file:` and a list of checksums, `none`.
    pub fn from_iso(installer: impl Into<String>, checksum: impl Into<String>) -> Self {
        let mut vm = Self { headless: true, qmp_enable: true, ..Self::default() };
        vm.iso.iso_url = installer.into();
        vm.iso.iso_checksum = checksum.into();
        vm
    }

    /// Says what the disk image must be.
    #[must_use]
    pub fn checksum(mut self, checksum: impl Into<String>) -> Self {
        self.iso.iso_checksum = checksum.into();
        self
    }

    /// Sets the memory.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory = mib.into();
        self
    }

    /// Sets the number of processors.
    #[must_use]
    pub fn cpus(mut self, number: u16) -> Self {
        self.cpus = number.into();
        self
    }

    /// Sets the size of the disk, as `20G`.
    #[must_use]
    pub fn disk_size(mut self, size: impl Into<String>) -> Self {
        self.disk_size = size.into();
        self.skip_resize_disk = false;
        self
    }

    /// Says where the image goes: a folder that is not there yet.
    #[must_use]
    pub fn output(mut self, folder: impl Into<String>) -> Self {
        self.output_directory = folder.into();
        self
    }

    /// Enters the machine by SSH with a password.
    #[must_use]
    pub fn ssh(self, user: impl Into<String>, password: impl Into<Secret>) -> Self {
        self.communicator(CommunicatorConfig::ssh(user).password(password))
    }

    /// Says how the machine is entered.
    #[must_use]
    pub fn communicator(mut self, communicator: CommunicatorConfig) -> Self {
        self.communicator = communicator;
        self
    }

    /// Serves a text to the machine under a path, as `/preseed.cfg`.
    #[must_use]
    pub fn serve(mut self, path: impl Into<String>, text: impl Into<String>) -> Self {
        self.http.http_content.insert(path.into(), text.into());
        self
    }

    /// Puts a text into a file of the machine's CD, as `user-data`; [`cd_label`](CdConfig::cd_label) names the volume.
    #[must_use]
    pub fn cd_file(mut self, path: impl Into<String>, text: impl Into<String>) -> Self {
        self.cd.cd_content.insert(path.into(), text.into());
        self
    }

    /// Says what is typed when the machine boots.
    #[must_use]
    pub fn boot_command<S: Into<GoTemplate>>(mut self, texts: impl IntoIterator<Item = S>) -> Self {
        self.boot.boot_command = texts.into_iter().map(Into::into).collect();
        self
    }

    /// Reads the machine's first serial line, for the waits of the boot command.
    #[must_use]
    pub fn serial_console(mut self) -> Self {
        self.serial_console = true;
        self
    }

    /// Sets the command that shuts the machine down.
    #[must_use]
    pub fn shutdown(mut self, command: impl Into<String>) -> Self {
        self.shutdown_command = command.into();
        self
    }

    /// Sets the accelerator.
    #[must_use]
    pub fn accelerator(mut self, name: impl Into<String>) -> Self {
        self.accelerator = name.into();
        self
    }

    /// The name of the machine in a build.
    fn name(&self, build: &str) -> String {
        if self.vm_name.is_empty() { format!("packer-{build}") } else { self.vm_name.clone() }
    }

    fn output_folder(&self, build: &str) -> PathBuf {
        match self.output_directory.as_str() {
            "" => PathBuf::from(format!("output-{build}")),
            own => PathBuf::from(own),
        }
    }

    fn image_format(&self) -> &str {
        or(&self.format, "qcow2")
    }

    fn disk_size_text(&self) -> String {
        match self.disk_size.as_str() {
            "" | "0" => "40960M".to_owned(),
            size if size.bytes().all(|b| b.is_ascii_digit()) => format!("{size}M"),
            size => size.to_owned(),
        }
    }

    fn boots_by_efi(&self) -> bool {
        self.efi_boot || !self.efi_firmware_code.is_empty() || !self.efi_firmware_vars.is_empty()
    }

    fn is_pc(&self) -> bool {
        let kind = self.machine_type.as_str();
        matches!(kind, "" | "pc" | "q35") || ["pc-i440fx", "pc-q35"].iter().any(|pc| kind.starts_with(pc))
    }

    fn uses_qmp(&self) -> bool {
        self.qmp_enable || self.vnc_use_password || !self.net_bridge.is_empty()
    }

    fn shows_at(&self) -> &str {
        or(&self.vnc_bind_address, "127.0.0.1")
    }

    /// Whether the image is written anew when the machine is off.
    fn compacts(&self) -> bool {
        self.image_format() != "raw"
            && (!self.skip_compaction && !self.use_backing_file || self.disk_compression)
    }

    fn img_args(&self) -> QemuImgArgs {
        self.qemu_img_args.clone().unwrap_or_default()
    }
}

/// A text, or another where it is empty.
fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

/// The name of the disk of a number in the output folder.
fn disk_path(folder: &Path, name: &str, number: usize) -> PathBuf {
    folder.join(if number == 0 { name.to_owned() } else { format!("{name}-{number}") })
}

#[async_trait]
impl Builder for Qemu {
    async fn prepare(&self, cx: &PrepareContext) -> Result<Prepared, Diagnostics> {
        rules::check(self, cx).await
    }

    async fn launch(&self, cx: &Context) -> Result<Box<dyn Machine>> {
        launch::launch(self, cx, Origin::Source).await
    }

    async fn release(&self, cx: &Context, resource: &Resource) -> Result<()> {
        match resource.kind.as_str() {
            output::FOLDER => output::release(cx, resource).await,
            checkpoint::KIND => checkpoint::release(cx, resource).await,
            kind => Err(Error::internal(format!("the builder qemu has no {kind}"))),
        }
    }

    async fn resume(&self, cx: &Context, checkpoint: &Resource) -> Result<Box<dyn Machine>> {
        let saved = Saved::read(checkpoint).await?;
        launch::launch(self, cx, Origin::Checkpoint(&saved)).await
    }

    async fn checkpoint_exists(&self, _: &Context, checkpoint: &Resource) -> Result<bool> {
        Ok(Saved::read(checkpoint).await.is_ok())
    }

    fn boot_test(&self) -> Option<&dyn BootTest> {
        Some(self)
    }

    async fn source_digest(&self, cx: &Context) -> Result<Option<String>> {
        self.iso.digest(cx).await
    }

    fn capture_arguments(&self) -> &'static [&'static str] {
        &["disk_compression", "efi_drop_efivars", "output_directory", "skip_compaction"]
    }

    fn variables(&self) -> Vec<Cow<'static, str>> {
        Vec::new()
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}

#[async_trait]
impl BootTest for Qemu {
    /// The machine has no installer and is typed nothing; CDs and floppies of files are there.
    async fn boot(&self, cx: &Context, _: &Artifact) -> Result<Box<dyn Machine>> {
        let mut vm = self.clone();
        vm.boot = BootConfig::default();
        vm.boot_steps.clear();
        vm.http = HttpConfig::default();
        (vm.disk_image, vm.use_backing_file) = (true, false);
        launch::launch(&vm, cx, Origin::Artifact(&self.output_folder(&cx.build().name))).await
    }

    async fn set_aside(&self, cx: &Context, artifact: Artifact) -> Result<Artifact> {
        output::set_aside(cx, artifact).await
    }
}
