//! From an installer or an image to a machine that can be entered.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use packer_core::communicator::ssh::KeyPair;
use packer_core::communicator::{CommunicatorConfig, NoCommunicator, Target};
use packer_core::kit::ReservedPort;
use packer_core::kit::boot_command::Transcript;
use packer_core::kit::http_server::HttpServer;
use packer_core::kit::process::Program;
use packer_core::{Communicator, Context, Error, Machine, Resource, Result, Secret, kit};

use super::arguments::{self, Parts};
use super::boot::{Screen, Typing, show_failure};
use super::disks::Disks;
use super::hypervisor::{Hypervisor, State};
use super::machine::Vm;
use super::qmp::Qmp;
use super::watched::Watched;
use super::{Qemu, accelerator, bridge, or, output, rules, tpm};

/// What a machine starts from: made once, however often it is started.
struct Ground {
    source: PathBuf,
    /// What QEMU reads as the installer where it reads it from elsewhere.
    url: Option<String>,
    name: String,
    folder: PathBuf,
    output: Resource,
    floppy: Option<PathBuf>,
    cd: Option<PathBuf>,
    http: Option<HttpServer>,
    http_ip: String,
    pair: Option<KeyPair>,
    version: u32,
}

impl Ground {
    fn disks(&self) -> Disks {
        Disks { folder: self.folder.clone(), name: self.name.clone() }
    }

    async fn make_disks(&self, vm: &Qemu, cx: &Context) -> Result<()> {
        let source = vm.disk_image.then_some(self.source.as_path());
        self.disks().make(vm, cx, source).await
    }
}

pub(super) async fn from_source(vm: &Qemu, cx: &Context) -> Result<Box<dyn Machine>> {
    let mut ground = Box::pin(ground(vm, cx)).await?;
    let mut accelerators = accelerator::candidates(vm, cx).into_iter().peekable();
    while let Some(name) = accelerators.next() {
        match Box::pin(start(vm, cx, &mut ground, &name)).await {
            Ok(machine) => return Ok(Box::new(machine)),
            Err(Failed { error, why: Why::Accelerator }) => match accelerators.peek() {
                Some(next) => {
                    accelerator::gave_up(cx, &name, next, &error);
                    clear(&ground).await?;
                    Box::pin(ground.make_disks(vm, cx)).await?;
                }
                None => {
                    let error =
                        error.context(format!("the accelerator {name} does not run this machine here"));
                    return Err(error);
                }
            },
            Err(Failed { error, .. }) => return Err(error),
        }
    }
    Err(Error::internal("there is no accelerator to try"))
}

async fn ground(vm: &Qemu, cx: &Context) -> Result<Ground> {
    let version = driver(vm, cx).await?;
    let (source, url) = if vm.iso_skip_cache {
        let url = cx.step("StepDownload", Box::pin(vm.iso.byte_serving_url(cx))).await?;
        (PathBuf::from(&url), Some(url))
    } else {
        let downloaded = cx.step("StepDownload", Box::pin(vm.iso.fetch(cx))).await?;
        (downloaded.path, None)
    };
    let build = &cx.build().name;
    let (name, folder) = (vm.name(build), vm.output_folder(build));
    let output = cx.step("stepPrepareOutputDir", output::create(cx, &folder)).await?;
    let floppy = cx.step("StepCreateFloppy", Box::pin(vm.floppy.create(cx))).await?;
    let cd = cx.step("StepCreateCD", Box::pin(vm.cd.create(cx))).await?;
    let mut ground = Ground {
        source,
        url,
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

/// Whether `qemuargs` put the machine on a network that is none of ours.
fn has_other_network(vm: &Qemu) -> bool {
    vm.qemuargs.iter().any(|row| {
        let word = |at: usize| row.get(at).map(|word| word.as_str()).unwrap_or_default();
        matches!(word(0), "-netdev" | "-net" | "-nic") && !word(1).starts_with("user")
    })
}

/// The programs must be there before anything is done. The major version of QEMU.
async fn driver(vm: &Qemu, cx: &Context) -> Result<u32> {
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
    let version = said.split_ascii_whitespace().find_map(|word| {
        let (major, _) = word.split_once('.')?;
        major.parse().ok()
    });
    version.ok_or_else(|| failed(Error::provider(format!("{program} does not say its version: {said}"))))
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

/// Why a machine did not come up.
struct Failed {
    error: Error,
    why: Why,
}

#[derive(PartialEq)]
enum Why {
    /// Its accelerator does not run a guest.
    Accelerator,
    /// Another program took one of its ports.
    Ports,
    Other,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, why: Why::Other }
    }
}

/// Starts the machine, again with other ports where a program was faster.
async fn start(vm: &Qemu, cx: &Context, ground: &mut Ground, accelerator: &str) -> Result<Vm, Failed> {
    const TRIES: usize = 5;
    let efi = cx.step("stepPrepareEfivars", efi_variables(vm, &ground.folder)).await?;
    let mut tried = 1;
    loop {
        match Box::pin(run(vm, cx, ground, accelerator, efi.clone())).await {
            Err(Failed { error, why: Why::Ports }) if tried < TRIES => {
                cx.say_error(format!("Another program has taken a port ({error}); trying others."));
                tried += 1;
            }
            done => return done,
        }
    }
}

/// Removes what a try left in the output folder.
async fn clear(ground: &Ground) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("clear", &ground.folder, e);
    let mut entries = tokio::fs::read_dir(&ground.folder).await.map_err(failed)?;
    while let Some(entry) = entries.next_entry().await.map_err(failed)? {
        tokio::fs::remove_file(entry.path()).await.map_err(failed)?;
    }
    Ok(())
}

async fn efi_variables(vm: &Qemu, folder: &Path) -> Result<Option<PathBuf>> {
    if !vm.boots_by_efi() {
        return Ok(None);
    }
    let from = or(&vm.efi_firmware_vars, "/usr/share/OVMF/OVMF_VARS.fd");
    let to = folder.join("efivars.fd");
    let failed = |e: std::io::Error| Error::io("copy", from, e).context("Error copying EFI variables");
    let content = tokio::fs::read(from).await.map_err(failed)?;
    tokio::fs::write(&to, content).await.map_err(failed)?;
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
        tokio::fs::set_permissions(&to, mode).await.map_err(failed)?;
    }
    Ok(Some(to))
}

/// The port of this computer that leads to the machine, and the one that it leads to.
async fn forward(vm: &Qemu, cx: &Context) -> Result<Option<(u16, u16, Option<ReservedPort>)>> {
    let config = &vm.communicator;
    if config.kind() == "none" {
        cx.say("No communicator is set; skipping port forwarding setup.");
        return Ok(None);
    }
    if !vm.net_bridge.is_empty() {
        return Ok(None);
    }
    let there = config.endpoint(&Target::new("127.0.0.1", 0)).map_or(22, |(_, port)| port);
    if vm.skip_nat_mapping {
        return Ok(Some((there, there, None)));
    }
    let (min, max) = rules::host_ports(vm);
    let port = reserve(cx, min, max).await?;
    cx.say(format!("Found port for communicator (SSH, WinRM, etc): {}.", port.number()));
    Ok(Some((port.number(), there, Some(port))))
}

/// A port of a range; waits for one where each is taken, as the one of another build may be.
async fn reserve(cx: &Context, min: i64, max: i64) -> Result<ReservedPort> {
    /// How often it is looked whether one is free.
    const PAUSE: Duration = Duration::from_millis(500);
    let port = |number: i64| u16::try_from(number).unwrap_or(u16::MAX);
    let mut told = false;
    loop {
        match cx.reserve_port(port(min)..=port(max)) {
            Err(e) if e.is_retryable() => {
                if !std::mem::replace(&mut told, true) {
                    cx.say(format!("Each port from {min} to {max} is taken; waiting for one."));
                }
                cx.sleep(PAUSE).await?;
            }
            reserved => return reserved,
        }
    }
}

/// The password of the screen.
fn screen_password(vm: &Qemu, cx: &Context) -> Result<Option<Secret>> {
    const MOST: usize = 8;
    if !vm.vnc_use_password {
        return Ok(None);
    }
    let own = vm.vnc_password.reveal();
    let length = own.chars().count();
    if length > MOST {
        let text =
            format!("Error finding VNC password: password length is longer than expected {length} > {MOST}");
        return Err(Error::user(text));
    }
    let password = match own {
        "" => kit::unique_name("").chars().filter(char::is_ascii_alphanumeric).take(MOST).collect(),
        own => own.to_owned(),
    };
    cx.secrets().add(&password);
    Ok(Some(Secret::new(password)))
}

async fn run(
    vm: &Qemu,
    cx: &Context,
    ground: &mut Ground,
    accelerator: &str,
    efi: Option<PathBuf>,
) -> Result<Vm, Failed> {
    let tpm = cx.step("stepCreatevTPM", Box::pin(tpm::start(vm, cx))).await?;
    let mut forward = forward(vm, cx).await?;
    let (min, max) = rules::screen_ports(vm);
    cx.say(format!("Looking for available port between {min} and {max} on {}", vm.shows_at()));
    let mut shown = reserve(cx, min, max).await?;
    let password = screen_password(vm, cx)?;
    let screen = Screen::new(vm, shown.number(), password.clone())?;
    let qmp_socket = vm.uses_qmp().then(|| match vm.qmp_socket_path.as_str() {
        "" => ground.folder.join(format!("{}.monitor", ground.name)),
        own => PathBuf::from(own),
    });
    let installer = (!vm.disk_image).then(|| match &ground.url {
        Some(url) => url.clone(),
        None => ground.source.to_string_lossy().into_owned(),
    });
    let cd = ground.cd.as_ref().map(|path| path.to_string_lossy().into_owned());
    let http_port = ground.http.as_ref().map_or(0, HttpServer::port);
    let public = ground.pair.as_ref().map_or("", |pair| pair.public.as_str());
    let http_port_text = http_port.to_string();
    let variables = [
        ("HTTPIP", ground.http_ip.as_str()),
        ("HTTPPort", &http_port_text),
        ("Name", &ground.name),
        ("SSHPublicKey", public),
    ];
    let typing = Typing::new(vm, cx, &variables)?;
    let serial = reads_serial(vm, &typing).then(Transcript::new);
    let parts = Parts {
        name: ground.name.clone(),
        accelerator: accelerator.to_owned(),
        cpu_model: accelerator::cpu_model(vm, accelerator),
        output: ground.folder.clone(),
        disks: ground.disks().all(vm),
        cds: installer.into_iter().chain(cd).collect(),
        floppy: ground.floppy.clone(),
        efi_variables: efi,
        tpm_socket: tpm.as_ref().map(|tpm| tpm.socket.clone()),
        qmp_socket: qmp_socket.clone(),
        screen: shown.number(),
        serial: serial.is_some(),
        forward: forward.as_ref().map(|(here, there, _)| (*here, *there)),
        http_ip: ground.http_ip.clone(),
        http_port,
        version: ground.version,
    };
    let http_port = http_port_text;
    let program = or(&vm.qemu_binary, "qemu-system-x86_64");
    cx.say(if vm.disk_image {
        "Starting VM, booting disk image"
    } else {
        "Starting VM, booting from CD-ROM"
    });
    if accelerator == "none" {
        cx.say_error("WARNING: The VM will be started with no hardware acceleration.");
    }
    let words = arguments::command_line(vm, cx, &parts)?;
    if let Some(socket) = &qmp_socket {
        cx.record(Resource::file(socket))?;
    }
    say_where(vm, cx, &screen);
    let number = shown.hand_over();
    let here =
        forward.as_mut().map(|(number, _, port)| port.as_mut().map_or(*number, ReservedPort::hand_over));
    debug_assert_eq!((number, here), (parts.screen, parts.forward.map(|(here, _)| here)));
    let machine = cx.step("stepRun", async { Hypervisor::start(cx, program, words, serial.clone()) }).await?;
    let work = async {
        let qmp = match &qmp_socket {
            Some(socket) => {
                Some(cx.step("stepConfigureQMP", Box::pin(control(cx, socket, &machine, &password))).await?)
            }
            None => None,
        };
        let (communicator, target) =
            Box::pin(enter(vm, cx, ground, &machine, &typing, &screen, serial, qmp.as_ref(), here)).await?;
        Ok((qmp, communicator, target))
    };
    let (qmp, communicator, target) = match work.await {
        Ok(entered) => entered,
        Err(error) => {
            Box::pin(show_failure(vm, cx, &machine, &screen, &error)).await;
            return Err(judge(error, accelerator, &machine));
        }
    };
    let config = reached(vm, here);
    let mut facts = config.facts(&target);
    if ground.http.is_some() {
        let address = format!("{}:{http_port}", ground.http_ip);
        facts = facts.with("PackerHTTPAddr", address);
    }
    facts = facts.with("PackerHTTPIP", ground.http_ip.as_str()).with("PackerHTTPPort", http_port.as_str());
    let machine = Arc::new(machine);
    let communicator: Arc<dyn Communicator> = match vm.communicator.kind() {
        "none" => communicator,
        _ => Arc::new(Watched { inner: communicator, machine: machine.clone() }),
    };
    Ok(Vm {
        vm: vm.clone(),
        config,
        accelerator: accelerator.to_owned(),
        machine,
        qmp,
        screen,
        disks: ground.disks(),
        output: ground.output.clone(),
        communicator,
        facts,
        pair: ground.pair.clone(),
        _tpm: tpm,
        _ports: [Some(shown), forward.and_then(|(_, _, port)| port)],
        _http: ground.http.take(),
    })
}

/// Whether the machine's serial line is read: QEMU has one output, which the user may have put something else on.
fn reads_serial(vm: &Qemu, typing: &Typing) -> bool {
    let taken = ["-serial", "-nographic", "-nodefaults", "-monitor"];
    let other = vm.qemuargs.iter().filter_map(|row| row.first()).any(|word| taken.contains(&word.as_str()));
    (vm.serial_console || typing.waits_for_text()) && !other
}

/// The host keys that the build itself gives to the machine, in the answers of cloud-init (`ssh_keys`).
fn given_host_keys(vm: &Qemu) -> Vec<String> {
    let texts = [&vm.cd.cd_content, &vm.floppy.floppy_content, &vm.http.http_content];
    let lines = texts.into_iter().flat_map(|texts| texts.values()).flat_map(|text| text.lines());
    let key = |line: &str| {
        let (name, key) = line.trim().split_once(':')?;
        let key = key.trim().trim_matches(['"', '\'']);
        let is_key = matches!(name, "rsa_public" | "ecdsa_public" | "ed25519_public") && key.contains(' ');
        is_key.then(|| key.to_owned())
    };
    lines.filter_map(key).collect()
}

/// Says where the screen can be looked at.
fn say_where(vm: &Qemu, cx: &Context, screen: &Screen) {
    if !vm.headless {
        return;
    }
    cx.say("The VM will be run headless, without a GUI. If you want to");
    match &screen.password {
        None => {
            cx.say("view the screen of the VM, connect via VNC without a password to");
            cx.say(format!("vnc://{}", screen.address));
        }
        Some(_) => {
            cx.say(format!("view the screen of the VM, connect via VNC to vnc://{}", screen.address));
            cx.say("with the password that the template gives, or a random one.");
        }
    }
}

/// Opens the machine protocol, and sets the password of the screen.
async fn control(
    cx: &Context,
    socket: &Path,
    machine: &Hypervisor,
    password: &Option<Secret>,
) -> Result<Qmp> {
    cx.say(format!("QMP socket at: {}", socket.display()));
    let connect = async {
        let qmp = Qmp::connect(cx, socket).await?;
        if let Some(password) = password {
            qmp.ask("change-vnc-password", serde_json::json!({ "password": password.reveal() })).await?;
        }
        Ok(qmp)
    };
    machine.while_running(connect).await
}

/// How the machine is entered: over the port that leads to it.
fn reached(vm: &Qemu, here: Option<u16>) -> CommunicatorConfig {
    let mut config = vm.communicator.clone();
    if let Some(port) = here {
        (config.ssh_port, config.winrm_port) = (Some(port), Some(port));
    }
    config
}

/// Types the boot command and connects. Where nothing is typed, nothing of that holds up the connecting.
#[expect(clippy::too_many_arguments, reason = "all that a machine has")]
async fn enter(
    vm: &Qemu,
    cx: &Context,
    ground: &Ground,
    machine: &Hypervisor,
    typing: &Typing,
    screen: &Screen,
    serial: Option<Transcript>,
    qmp: Option<&Qmp>,
    here: Option<u16>,
) -> Result<(Arc<dyn Communicator>, Target)> {
    // A future of its own on the heap: what is inside of it is large.
    let boot = cx.step("stepTypeBootCommand", Box::pin(typing.run(vm, cx, machine, screen, serial)));
    let boot = Box::pin(boot);
    if vm.communicator.kind() == "none" {
        boot.await?;
        return Ok((Arc::new(NoCommunicator::new()), Target::default()));
    }
    let connect = cx.step("StepConnect", Box::pin(connect(vm, cx, ground, machine, qmp, here)));
    if !typing.is_empty() {
        boot.await?;
        return connect.await;
    }
    let mut connect = Box::pin(connect);
    tokio::select! {
        connected = &mut connect => return connected,
        booted = boot => booted?,
    }
    connect.await
}

async fn connect(
    vm: &Qemu,
    cx: &Context,
    ground: &Ground,
    machine: &Hypervisor,
    qmp: Option<&Qmp>,
    here: Option<u16>,
) -> Result<(Arc<dyn Communicator>, Target)> {
    const LIMIT: Duration = Duration::from_secs(5 * 60);
    let config = reached(vm, here);
    let work = async {
        let mut target = Target::default();
        target.host = Some(match (vm.net_bridge.as_str(), qmp) {
            (name, Some(qmp)) if !name.is_empty() && config.endpoint(&target).is_none() => {
                let limit = if config.ssh_timeout.is_zero() { LIMIT } else { config.ssh_timeout.to_std() };
                bridge::machine_address(cx, name, qmp, limit).await?.to_string()
            }
            _ => "127.0.0.1".to_owned(),
        });
        if let Some(pair) = &ground.pair {
            target = pair.target(target);
        }
        target.host_keys = given_host_keys(vm);
        let communicator = config.connect(cx, &target).await?;
        Ok((communicator, target))
    };
    machine.while_running(work).await
}

/// What kind of failure it is: what QEMU said tells.
fn judge(error: Error, accelerator: &str, machine: &Hypervisor) -> Failed {
    let words = machine.last_words();
    let taken = [
        "Address already in use",
        "Could not set up host forwarding rule",
        "Failed to find an available port",
    ];
    let why = match machine.state() {
        State::Ended(status) if !status.success() && taken.iter().any(|text| words.contains(text)) => {
            Why::Ports
        }
        _ if accelerator::is_to_blame(accelerator, machine) => Why::Accelerator,
        _ => Why::Other,
    };
    let gone = machine.state() != State::Runs;
    let error =
        if gone && !error.is_cancelled() { error.context("Error launching VM: Qemu failed") } else { error };
    Failed { error, why }
}
