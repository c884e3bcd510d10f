//! What is typed at the machine's screen when it boots.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use packer_core::kit::boot_command::{BootCommand, KeyDriver, NotSeen, Seeing, Transcript, type_into};
use packer_core::kit::vnc::Vnc;
use packer_core::{Context, Error, GoDuration, Result, Secret};

use super::Qemu;
use super::hypervisor::Hypervisor;

/// How long it takes at most until QEMU has said what it does not like.
const STARTS: Duration = Duration::from_secs(1);

/// Where the screen of a machine is shown.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    pub(super) address: SocketAddr,
    pub(super) password: Option<Secret>,
}

impl Screen {
    pub(super) fn new(vm: &Qemu, port: u16, password: Option<Secret>) -> Result<Self> {
        let shown = vm.shows_at();
        let address: IpAddr =
            shown.parse().map_err(|e| Error::user(format!("vnc_bind_address {shown:?}: {e}")))?;
        // What listens everywhere is reached here.
        let address = match address {
            IpAddr::V4(any) if any.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            IpAddr::V6(any) if any.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            own => own,
        };
        Ok(Self { address: SocketAddr::new(address, port), password })
    }

    /// Connects, as soon as QEMU shows it.
    pub(super) async fn connect(&self, cx: &Context) -> Result<Vnc> {
        /// How long QEMU may take to open the port.
        const APPEARS: Duration = Duration::from_secs(10);
        let deadline = tokio::time::Instant::now() + APPEARS;
        loop {
            match Vnc::connect(cx, self.address, self.password.as_ref()).await {
                Err(e) if e.is_retryable() && tokio::time::Instant::now() < deadline => {
                    cx.sleep(Duration::from_millis(20)).await?;
                }
                done => return done,
            }
        }
    }
}

/// Shows what is on the screen of a machine that does not do what it should, where it can be seen.
pub(super) async fn show_failure(
    vm: &Qemu,
    cx: &Context,
    machine: &Hypervisor,
    screen: &Screen,
    error: &Error,
) {
    /// How long the screen is waited for: the failure is not told before.
    const LIMIT: Duration = Duration::from_secs(2);
    if error.is_cancelled() || vm.disable_vnc {
        return;
    }
    let title = error.message().lines().next().unwrap_or_default();
    if let Some(picture) = NotSeen::of(error).and_then(|seen| seen.screen.as_ref()) {
        cx.show_screen(title, picture);
        return;
    }
    let look = async { Vnc::connect(cx, screen.address, screen.password.as_ref()).await?.screen().await };
    if let Ok(Ok(Some(picture))) = tokio::time::timeout(LIMIT, machine.while_running(look)).await {
        cx.show_screen(title, &picture);
    }
}

/// What is typed, and what for.
#[derive(Debug)]
pub(super) struct Typing {
    steps: Vec<(String, String)>,
}

impl Typing {
    /// Renders what is to be typed.
    pub(super) fn new(vm: &Qemu, cx: &Context, variables: &[(&str, &str)]) -> Result<Self> {
        let mut steps = Vec::new();
        let mut add = |text: String, what: String| -> Result<()> {
            let text = packer_core::kit::render_known(cx, &text, variables);
            let text = text.map_err(|e| e.context("Error preparing boot command"))?;
            if !text.is_empty() {
                steps.push((text, what));
            }
            Ok(())
        };
        add(vm.boot.boot_command.iter().map(|text| text.as_str()).collect(), String::new())?;
        for step in &vm.boot_steps {
            let word = |at: usize| step.get(at).map(|text| text.as_str().to_owned()).unwrap_or_default();
            add(word(0), word(1))?;
        }
        Ok(Self { steps })
    }

    /// Whether it waits for a text that the machine shows.
    pub(super) fn waits_for_text(&self) -> bool {
        let waits = |text: &String| BootCommand::parse(&[text]).is_ok_and(|command| command.waits_for_text());
        self.steps.iter().any(|(text, _)| waits(text))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Waits as long as the template says, and types. A machine that shuts itself down meanwhile is left alone.
    pub(super) async fn run(
        &self,
        vm: &Qemu,
        cx: &Context,
        machine: &Hypervisor,
        screen: &Screen,
        mut serial: Option<Transcript>,
    ) -> Result<()> {
        if vm.disable_vnc {
            return Ok(());
        }
        let work = async {
            if let Some(wait) = vm.boot.boot_wait() {
                // Whether it starts at all shows first.
                let first = wait.min(STARTS);
                cx.sleep(first).await?;
                cx.say(format!("Waiting {} for boot...", GoDuration::from(wait)));
                cx.sleep(wait - first).await?;
            }
            cx.say(format!("Connecting to VM via VNC ({})", screen.address));
            let mut vnc = screen.connect(cx).await?;
            cx.say("Typing the boot commands over VNC...");
            for (text, what) in &self.steps {
                if !what.is_empty() {
                    cx.say(format!("Typing boot command for: {what}"));
                }
                let failed = |e: Error| e.context("Error running boot command");
                let command = BootCommand::parse(&[text]).map_err(|e| {
                    let place =
                        format!("Found an invalid boot command, at character {}: {}", e.column, e.message);
                    failed(Error::user(place))
                })?;
                let pause = vm.boot.key_interval(cx);
                let seeing = serial.as_mut().map(|serial| serial as &mut dyn Seeing);
                type_into(cx, &command, &mut vnc, pause, Duration::ZERO, seeing).await.map_err(failed)?;
                if cx.build().debug
                    && let Some(picture) = vnc.screen().await?
                {
                    cx.show_screen(format!("typed {what}"), &picture);
                }
            }
            Ok(())
        };
        machine.until_ended(work).await.map(|_| ())
    }
}
