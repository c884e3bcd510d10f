//! From an installer or an image to a machine that can be entered.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use packer_core::communicator::{CommunicatorConfig, HostKeySource, NoCommunicator, Target};
use packer_core::kit::ReservedPort;
use packer_core::kit::http_server::HttpServer;
use packer_core::{Communicator, Context, Error, Machine, Resource, Result, Secret, kit};
use tokio::sync::Mutex;

use super::arguments::{self, Parts};
use super::boot::{Screen, Typing, show_failure};
use super::console::Console;
use super::film::Film;
use super::ground::{Ground, Origin};
use super::hypervisor::{Hypervisor, State};
use super::machine::Vm;
use super::qmp::Qmp;
use super::turn::Turn;
use super::watched::Watched;
use super::{LONGEST_SOCKET, Qemu, accelerator, bridge, checkpoint, or, rules, tpm};
use crate::printed_keys::PrintedKeys;

/// Starts a machine and enters it.
pub(super) async fn launch(vm: &Qemu, cx: &Context, origin: Origin<'_>) -> Result<Box<dyn Machine>> {
    let mut ground = Box::pin(Ground::new(vm, cx, origin)).await?;
    let accelerators = match origin {
        Origin::Checkpoint(saved) => vec![saved.accelerator.clone()],
        _ => accelerator::candidates(vm, cx),
    };
    let mut accelerators = accelerators.into_iter().peekable();
    while let Some(name) = accelerators.next() {
        match Box::pin(start(vm, cx, &mut ground, &name)).await {
            Ok(machine) => return Ok(Box::new(machine)),
            Err(Failed { error, why: Why::Accelerator }) => match accelerators.peek() {
                Some(next) => {
                    accelerator::gave_up(cx, &name, next, &error);
                    ground.clear().await?;
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
async fn start(vm: &Qemu, cx: &Context, ground: &mut Ground<'_>, accelerator: &str) -> Result<Vm, Failed> {
    const TRIES: usize = 5;
    let efi = cx.step("stepPrepareEfivars", ground.efi_variables(vm)).await?;
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
    ground: &mut Ground<'_>,
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
    let qmp_socket = qmp_socket(vm, cx, ground);
    let installer = (!vm.disk_image).then(|| ground.source.to_string_lossy().into_owned());
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
    let serial = reads_serial(vm, &typing).then(Console::new);
    let parts = Parts {
        name: ground.name.clone(),
        accelerator: accelerator.to_owned(),
        cpu_model: accelerator::cpu_model(vm, accelerator),
        output: ground.folder.clone(),
        disks: ground.disks().all(vm),
        cds: installer.into_iter().chain(cd).collect(),
        floppy: ground.floppy.clone(),
        efi_variables: efi.clone(),
        tpm_socket: tpm.as_ref().map(|tpm| tpm.socket.clone()),
        qmp_socket: qmp_socket.clone(),
        screen: shown.number(),
        serial: serial.is_some(),
        forward: forward.as_ref().map(|(here, there, _)| (*here, *there)),
        http_ip: ground.http_ip.clone(),
        http_port,
        version: ground.version.major,
        generation: cx.saves_states() && vm.is_pc(),
        incoming: ground.saved().is_some(),
    };
    let http_port = http_port_text;
    let program = or(&vm.qemu_binary, "qemu-system-x86_64");
    // When it has its ports: who waits for one keeps nobody from starting.
    let mut turn = Turn::new(cx, accelerator).await?;
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
    let started = async { Hypervisor::start(cx, program, words, &ground.folder, serial.clone()) };
    let machine = cx.step("stepRun", started).await?;
    let work = async {
        let qmp = match &qmp_socket {
            Some(socket) => {
                Some(cx.step("stepConfigureQMP", Box::pin(control(cx, socket, &machine, &password))).await?)
            }
            None => None,
        };
        if let Some(saved) = ground.saved() {
            let closed = || Error::user("without a way to QEMU's machine protocol no state is loaded");
            let qmp = qmp.as_ref().ok_or_else(closed)?;
            cx.step("restore the state", Box::pin(machine.while_running(saved.load(qmp)))).await?;
        }
        let (communicator, target) =
            Box::pin(enter(vm, cx, ground, &machine, &typing, &screen, serial, qmp.as_ref(), here)).await?;
        Ok((qmp, communicator, target))
    };
    let mut film = Film::default();
    let meanwhile = async { tokio::join!(film.record(vm, cx, &screen), turn.lapse()) };
    let entered = tokio::select! {
        biased;
        entered = Box::pin(work) => entered,
        (never, ()) = meanwhile => match never {},
    };
    drop(turn);
    let (qmp, communicator, target) = match entered {
        Ok(entered) => entered,
        Err(error) => {
            film.show(cx);
            let error = machine.explained(error);
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
        chain: Mutex::new(ground.chain(vm)),
        output: ground.output.clone(),
        version: ground.version.text.clone(),
        floppy: ground.floppy.clone(),
        efi_variables: efi,
        communicator,
        facts,
        pair: ground.pair.clone(),
        _tpm: tpm,
        _ports: [Some(shown), forward.and_then(|(_, _, port)| port)],
        _http: ground.http.take(),
    })
}

/// Where QEMU opens its machine protocol: where the template wants it, and for the states of a cache where nothing is in the way
/// of that, since a cache fails no build.
fn qmp_socket(vm: &Qemu, cx: &Context, ground: &Ground<'_>) -> Option<PathBuf> {
    let socket = match vm.qmp_socket_path.as_str() {
        "" => ground.folder.join(format!("{}.monitor", ground.name)),
        own => PathBuf::from(own),
    };
    let taken = vm.qemuargs.iter().filter_map(|row| row.first()).any(|word| word.as_str() == "-qmp");
    let fits = cfg!(unix) && socket.as_os_str().len() <= LONGEST_SOCKET && !taken;
    (vm.uses_qmp() || fits && (cx.saves_states() || ground.saved().is_some())).then_some(socket)
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
    ground: &Ground<'_>,
    machine: &Hypervisor,
    typing: &Typing,
    screen: &Screen,
    serial: Option<Console>,
    qmp: Option<&Qmp>,
    here: Option<u16>,
) -> Result<(Arc<dyn Communicator>, Target)> {
    let keys = serial.as_ref().map(|serial| serial.keys.clone());
    let connect = Box::pin(connect(vm, cx, ground, machine, qmp, here, keys));
    if !ground.is_new() && vm.communicator.kind() != "none" {
        let entered = cx.step("StepConnect", connect).await?;
        if ground.saved().is_some() {
            checkpoint::set_clock(vm, cx, entered.0.as_ref()).await?;
        }
        return Ok(entered);
    }
    if !ground.is_new() {
        return Ok((Arc::new(NoCommunicator::new()), Target::default()));
    }
    // A future of its own on the heap: what is inside of it is large.
    let transcript = serial.map(|serial| serial.transcript);
    let boot = cx.step("stepTypeBootCommand", Box::pin(typing.run(vm, cx, machine, screen, transcript)));
    let boot = Box::pin(boot);
    if vm.communicator.kind() == "none" {
        boot.await?;
        return Ok((Arc::new(NoCommunicator::new()), Target::default()));
    }
    let connect = cx.step("StepConnect", connect);
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
    ground: &Ground<'_>,
    machine: &Hypervisor,
    qmp: Option<&Qmp>,
    here: Option<u16>,
    keys: Option<PrintedKeys>,
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
        target.host_key_source = keys.map(|keys| Arc::new(keys) as Arc<dyn HostKeySource>);
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
