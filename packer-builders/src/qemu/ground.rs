//! What a machine stands on before it starts: made once, however often it is started.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use packer_core::communicator::ssh::KeyPair;
use packer_core::kit::http_server::HttpServer;
use packer_core::kit::process::Program;
use packer_core::{Context, Error, Resource, Result};

use super::checkpoint::Saved;
use super::disks::{Chain, Disks};
use super::{Qemu, bridge, or, output};

/// What a machine comes from.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// The installer or the disk image that the template names.
    Source,
    /// A state that was saved: the machine goes on from there.
    Checkpoint(&'a Saved),
    /// The image in a folder, made by an earlier machine: it boots, and what it writes is thrown away.
    Artifact(&'a Path),
}

/// The variables of EFI in the output folder.
pub(super) const EFI_VARIABLES: &str = "efivars.fd";

/// The QEMU that is installed.
pub(super) struct Version {
    /// The first line of what it says of itself.
    pub(super) text: String,
    pub(super) major: u32,
}

pub(super) struct Ground<'a> {
    origin: Origin<'a>,
    /// The installer or the image; what QEMU reads as the installer may be a URL.
    pub(super) source: PathBuf,
    pub(super) name: String,
    pub(super) folder: PathBuf,
    /// What the image becomes a part of; `None` where none is made.
    pub(super) output: Option<Resource>,
    pub(super) floppy: Option<PathBuf>,
    pub(super) cd: Option<PathBuf>,
    pub(super) http: Option<HttpServer>,
    pub(super) http_ip: String,
    pub(super) pair: Option<KeyPair>,
    pub(super) version: Version,
}

impl<'a> Ground<'a> {
    pub(super) async fn new(vm: &Qemu, cx: &Context, origin: Origin<'a>) -> Result<Self> {
        let version = driver(vm, cx).await?;
        if let Origin::Checkpoint(saved) = origin {
            saved.is_of(&version.text)?;
        }
        let source = source(vm, cx, origin).await?;
        let build = &cx.build().name;
        let name = vm.name(build);
        let (folder, output) = match origin {
            Origin::Artifact(_) => (cx.temp_dir()?, None),
            _ => {
                let folder = vm.output_folder(build);
                let output = cx.step("stepPrepareOutputDir", output::create(cx, &folder)).await?;
                (folder, Some(output))
            }
        };
        let floppy = cx.step("StepCreateFloppy", Box::pin(vm.floppy.create(cx))).await?;
        let cd = cx.step("StepCreateCD", Box::pin(vm.cd.create(cx))).await?;
        let mut ground = Self {
            origin,
            source,
            name,
            folder,
            output,
            floppy,
            cd,
            http: None,
            http_ip: String::new(),
            pair: None,
            version,
        };
        Box::pin(ground.make_disks(vm, cx)).await?;
        let http_ip = match vm.net_bridge.as_str() {
            "" => Ipv4Addr::new(10, 0, 2, 2),
            name => bridge::address_of(name)?,
        };
        let narrow = match () {
            // QEMU connects for the machine, from this computer itself.
            () if vm.net_bridge.is_empty() && !has_other_network(vm) => Ipv4Addr::LOCALHOST,
            () if vm.net_bridge.is_empty() => Ipv4Addr::UNSPECIFIED,
            () => http_ip,
        };
        ground.http = cx.step("StepHTTPServer", Box::pin(vm.http.serve(cx, IpAddr::V4(narrow)))).await?;
        ground.pair = cx.step("StepSshKeyGen", Box::pin(key_pair(vm, cx))).await?;
        ground.http_ip = http_ip.to_string();
        Ok(ground)
    }

    /// The state that the machine goes on from.
    pub(super) fn saved(&self) -> Option<&'a Saved> {
        match self.origin {
            Origin::Checkpoint(saved) => Some(saved),
            Origin::Source | Origin::Artifact(_) => None,
        }
    }

    /// Whether the machine boots as the template says, with what is typed then.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.origin, Origin::Source)
    }

    pub(super) fn disks(&self) -> Disks {
        Disks { folder: self.folder.clone(), name: self.name.clone() }
    }

    /// The disks with what they lie over.
    pub(super) fn chain(&self, vm: &Qemu) -> Chain {
        let backing = vm.use_backing_file.then(|| self.source.clone());
        let frozen = match self.saved() {
            Some(saved) if vm.image_format() == "qcow2" => saved.layers,
            _ => 0,
        };
        Chain::new(self.disks(), backing, frozen)
    }

    pub(super) async fn make_disks(&self, vm: &Qemu, cx: &Context) -> Result<()> {
        match self.origin {
            Origin::Source => {
                let source = vm.disk_image.then_some(self.source.as_path());
                self.disks().make(vm, cx, source).await
            }
            Origin::Checkpoint(saved) => cx.step("stepCreateDisk", saved.disks(vm, cx, &self.disks())).await,
            Origin::Artifact(folder) => {
                let made = Disks { folder: folder.to_owned(), name: self.name.clone() };
                cx.step("stepCreateDisk", self.disks().make_over(vm, cx, &made)).await
            }
        }
    }

    /// Removes what a try left in the output folder.
    pub(super) async fn clear(&self) -> Result<()> {
        let failed = |e: std::io::Error| Error::io("clear", &self.folder, e);
        let mut entries = tokio::fs::read_dir(&self.folder).await.map_err(failed)?;
        while let Some(entry) = entries.next_entry().await.map_err(failed)? {
            tokio::fs::remove_file(entry.path()).await.map_err(failed)?;
        }
        Ok(())
    }

    /// The machine's own variables of EFI, where it has any.
    pub(super) async fn efi_variables(&self, vm: &Qemu) -> Result<Option<PathBuf>> {
        if !vm.boots_by_efi() {
            return Ok(None);
        }
        let own = match self.origin {
            Origin::Source => None,
            Origin::Checkpoint(saved) => Some(saved.folder.join(EFI_VARIABLES)),
            Origin::Artifact(folder) => Some(folder.join(EFI_VARIABLES)).filter(|path| path.exists()),
        };
        let usual = || PathBuf::from(or(&vm.efi_firmware_vars, "/usr/share/OVMF/OVMF_VARS.fd"));
        let from = own.unwrap_or_else(usual);
        let to = self.folder.join(EFI_VARIABLES);
        let failed = |e: std::io::Error| Error::io("copy", &from, e).context("Error copying EFI variables");
        let content = tokio::fs::read(&from).await.map_err(failed)?;
        tokio::fs::write(&to, content).await.map_err(failed)?;
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
            tokio::fs::set_permissions(&to, mode).await.map_err(failed)?;
        }
        Ok(Some(to))
    }
}

async fn source(vm: &Qemu, cx: &Context, origin: Origin<'_>) -> Result<PathBuf> {
    if let Origin::Artifact(_) = origin {
        return Ok(PathBuf::new());
    }
    if vm.iso_skip_cache {
        return cx.step("StepDownload", Box::pin(vm.iso.byte_serving_url(cx))).await.map(PathBuf::from);
    }
    // The state has all that was in a disk image, unless it lies over that.
    if matches!(origin, Origin::Checkpoint(_)) && vm.disk_image && !vm.use_backing_file {
        return Ok(PathBuf::new());
    }
    Ok(cx.step("StepDownload", Box::pin(vm.iso.fetch(cx))).await?.path)
}

/// Whether `qemuargs` put the machine on a network that is none of ours.
fn has_other_network(vm: &Qemu) -> bool {
    vm.qemuargs.iter().any(|row| {
        let word = |at: usize| row.get(at).map(|word| word.as_str()).unwrap_or_default();
        matches!(word(0), "-netdev" | "-net" | "-nic") && !word(1).starts_with("user")
    })
}

/// The programs must be there before anything is done.
async fn driver(vm: &Qemu, cx: &Context) -> Result<Version> {
    let failed = |e: Error| e.context("Failed creating Qemu driver");
    let program = or(&vm.qemu_binary, "qemu-system-x86_64");
    for name in [program, "qemu-img"] {
        if !is_there(cx, name) {
            let error = format!("exec: {name:?}: executable file not found in $PATH");
            return Err(failed(Error::user(error)));
        }
    }
    let said = Program::new(program).arg("-version").capture(cx, 64 << 10).await;
    let said = said.and_then(|said| said.success()).map_err(failed)?.stdout_text();
    let major = said.split_ascii_whitespace().find_map(|word| {
        let (major, _) = word.split_once('.')?;
        major.parse().ok()
    });
    let text = said.lines().next().unwrap_or_default().to_owned();
    match major {
        Some(major) => Ok(Version { text, major }),
        None => Err(failed(Error::provider(format!("{program} does not say its version: {said}")))),
    }
}

/// Whether a program is there: a path, or a name on the host's `PATH`.
fn is_there(cx: &Context, name: &str) -> bool {
    let here = |path: &Path| path.is_file() || (cfg!(windows) && path.with_extension("exe").is_file());
    if name.contains(std::path::is_separator) {
        return here(Path::new(name));
    }
    std::env::split_paths(cx.env("PATH").unwrap_or_default()).any(|folder| here(&folder.join(name)))
}

/// The key pair of the build; also beside a password where the template types or serves it.
async fn key_pair(vm: &Qemu, cx: &Context) -> Result<Option<KeyPair>> {
    if let Some(pair) = vm.communicator.key_pair(cx).await? {
        return Ok(Some(pair));
    }
    let named = |text: &str| text.contains("SSHPublicKey");
    let typed = vm.boot.boot_command.iter().chain(vm.boot_steps.iter().flatten());
    if !typed.map(|text| text.as_str()).any(named) {
        return Ok(None);
    }
    let mut without = vm.communicator.clone();
    without.ssh_password = None;
    without.key_pair(cx).await
}
