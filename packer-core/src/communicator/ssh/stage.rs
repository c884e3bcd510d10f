//! How far an attempt to connect has come: what there is to say of one that does not go on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::io::InspectReader;

use super::super::waiting::Cause;
use super::dial::said;
use super::tcp::Names;
use crate::error::Unreachable;

/// How much of what a peer says before its banner is remembered.
const HEARD: usize = 256;

/// How far one attempt has come; whoever makes the attempt writes, whoever waits for it reads. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Stage {
    state: Arc<Mutex<State>>,
    /// Attempts that run side by side log in one after the other: the number of refusals is limited, here and there.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Told whenever one of them has come further.
    further: Arc<Notify>,
    pub(super) names: Arc<Names>,
}

struct State {
    phase: Phase,
    /// Whether it has logged in to a host that leads on to another one.
    is_led: bool,
    /// `HOST:PORT` of the hop that this is about.
    peer: String,
    since: Instant,
    /// What the peer has said instead of a banner.
    heard: Vec<u8>,
    /// What is opened beside.
    opens: String,
    /// Who makes the connection for us.
    through: String,
    /// Who is asked for what the login needs, beside the peer.
    asked: String,
}

impl Default for State {
    fn default() -> Self {
        let (peer, since, heard, opens) = (String::new(), Instant::now(), Vec::new(), String::new());
        let (through, asked) = (String::new(), String::new());
        Self { phase: Phase::LookUp, is_led: false, peer, since, heard, opens, through, asked }
    }
}

/// In the order in which an attempt passes through them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The name of the host is looked up.
    LookUp,
    /// Nobody has accepted the connection yet.
    Dial,
    /// It is accepted, and nobody has said that this is SSH.
    Banner,
    KeyExchange,
    /// The peer has shown its key, and somebody is asked whether it is the peer's.
    HostKey,
    Login,
    /// What was asked for beside is opened.
    Opening,
}

impl Stage {
    /// Of another attempt, which logs in when this one does not.
    pub(super) fn beside(&self) -> Self {
        let (turn, further, names) = (self.turn.clone(), self.further.clone(), self.names.clone());
        Self { state: Arc::default(), turn, further, names }
    }

    /// Returns when this one, or one [beside](Self::beside) it, has come further since the last call.
    pub(super) async fn one_has_come_further(&self) {
        self.further.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        (state.phase, state.since) = (phase, Instant::now());
        drop(state);
        self.further.notify_one();
    }

    /// The name of a host is looked up.
    pub(super) fn looks_up(&self, host: &str, port: u16) {
        self.begin(Phase::LookUp, host, port);
    }

    /// A host is dialled.
    pub(super) fn dials(&self, host: &str, port: u16) {
        self.begin(Phase::Dial, host, port);
    }

    /// The same by another host, such as `the proxy HOST:PORT`.
    pub(super) fn is_dialled_by(&self, whom: &str, host: &str, port: u16) {
        self.begin(Phase::Dial, host, port);
        self.lock().through = format!(" through {whom}");
    }

    fn begin(&self, phase: Phase, host: &str, port: u16) {
        let mut state = self.lock();
        state.peer = endpoint(host, port);
        state.heard.clear();
        state.through.clear();
        state.asked.clear();
        state.is_led |= state.phase == Phase::Login;
        drop(state);
        self.enter(phase);
    }

    /// The host has accepted the connection.
    pub(super) fn accepted(&self) {
        self.enter(Phase::Banner);
    }

    /// The peer has shown its key, and somebody is asked for those that it has.
    pub(super) fn asks_for_host_keys(&self) {
        self.enter(Phase::HostKey);
    }

    /// The keys are exchanged; returns when no other attempt logs in, and keeps them from it while the guard lives.
    pub(super) async fn logs_in(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.enter(Phase::Login);
        self.turn.lock().await
    }

    /// The login waits for somebody beside the peer, or does so no longer.
    pub(super) fn asks(&self, whom: Option<&str>) {
        self.lock().asked = whom.unwrap_or_default().to_owned();
    }

    /// The login has succeeded, and this is opened beside.
    pub(super) fn opens(&self, what: String) {
        self.lock().opens = what;
        self.enter(Phase::Opening);
    }

    /// It goes on from a host that it, or another one, has logged in to.
    pub(super) fn is_led_on(&self) {
        self.lock().is_led = true;
    }

    pub(super) fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Since when it is in this phase.
    pub(super) fn since(&self) -> Instant {
        self.lock().since
    }

    /// Whether it is led by a host that it has logged in to.
    pub(super) fn is_led(&self) -> bool {
        self.lock().is_led
    }

    /// Whether the peer has said anything that is no banner.
    pub(super) fn has_heard(&self) -> bool {
        let state = self.lock();
        state.phase == Phase::Banner && !state.heard.is_empty()
    }

    /// Whether an SSH server has said that it is one, be it one that only leads on.
    pub(super) fn has_spoken(&self) -> bool {
        let state = self.lock();
        state.is_led || state.phase >= Phase::KeyExchange
    }

    /// How far it has come, to be compared.
    pub(super) fn progress(&self) -> (bool, Phase) {
        let state = self.lock();
        (state.is_led, state.phase)
    }

    /// The host that is dialled, as `HOST:PORT`.
    pub(super) fn peer(&self) -> String {
        self.lock().peer.clone()
    }

    /// When it counts as stuck unless it comes further. `None` for one that is about to log in.
    pub(super) fn stuck_at(&self, patience: Duration) -> Option<Instant> {
        let state = self.lock();
        (state.phase < Phase::HostKey).then(|| state.since + patience)
    }

    /// What an attempt that got no further says of the machine.
    pub(super) fn describe(&self) -> Cause {
        let state = self.lock();
        let peer = &state.peer;
        match state.phase {
            Phase::LookUp => {
                let text = format!("dial {peer}: the name is looked up, and no answer comes");
                Cause::new(Unreachable::UnknownHost, text)
            }
            Phase::Dial => {
                let text = format!("dial {peer}{}: no answer", state.through);
                Cause::new(Unreachable::Silent, text)
            }
            Phase::Banner if state.heard.is_empty() => {
                Cause::new(Unreachable::Silent, format!("{peer}: connected, but no SSH banner came"))
            }
            Phase::Banner => {
                let heard = String::from_utf8_lossy(&state.heard);
                let line = heard.lines().next().unwrap_or_default();
                // What OpenSSH says to those that it has no room for, or that it makes wait.
                if line.starts_with("Exceeded MaxStartups") || line.starts_with("Not allowed at this time") {
                    let text =
                        format!("{peer}: the SSH server takes no further connection: it said {line:?}");
                    return Cause::new(Unreachable::TooManyAttempts, text);
                }
                let text = format!("{peer}: connected, but this is no SSH server: it said {line:?}");
                Cause::new(Unreachable::OtherProtocol, text)
            }
            Phase::KeyExchange => {
                let text = format!("{peer}: an SSH server, but the exchange of keys did not end");
                Cause::new(Unreachable::Silent, text)
            }
            Phase::HostKey => {
                let text = format!("{peer}: an SSH server, but nobody has told which host key it has");
                Cause::new(Unreachable::Other, text)
            }
            Phase::Login if !state.asked.is_empty() => {
                let text = format!("{peer}: the login waits for {}, which does not answer", state.asked);
                Cause::new(Unreachable::Other, text)
            }
            Phase::Login => {
                let text = format!("{peer}: an SSH server, but the login did not end");
                Cause::new(Unreachable::Silent, text)
            }
            Phase::Opening => {
                let text = format!("{peer}: logged in, but {} does not open", state.opens);
                Cause::new(Unreachable::Other, text)
            }
        }
    }

    /// What an attempt says of the machine that failed with this error before the login.
    pub(super) fn failed(&self, error: &russh::Error) -> Cause {
        let (phase, silent) = {
            let state = self.lock();
            (state.phase, state.heard.is_empty())
        };
        let why = match error {
            russh::Error::NoCommonAlgo { .. } => Unreachable::NoCommonAlgorithm,
            _ => Unreachable::Closed,
        };
        match phase {
            Phase::Banner if silent => {
                // Whether it closes or resets is chance, and no other cause.
                let text = match error {
                    russh::Error::IO(e) if Unreachable::of(e) == Unreachable::Closed => {
                        said(&russh::Error::HUP)
                    }
                    error => said(error),
                };
                Cause::new(why, format!("{}: {text}", self.describe().text))
            }
            Phase::Banner => self.describe(),
            _ => Cause::new(why, format!("SSH handshake with {}: {}", self.peer(), said(error))),
        }
    }

    /// A stream to the peer, of which is noted what the peer says until it says that it is an SSH server.
    pub(super) fn listens_to<S: AsyncRead>(&self, stream: S) -> InspectReader<S, impl FnMut(&[u8]) + use<S>> {
        let mut stage = Some(self.clone());
        InspectReader::new(stream, move |bytes| {
            if stage.as_ref().is_some_and(|stage| !bytes.is_empty() && !stage.hears(bytes)) {
                stage = None;
            }
        })
    }

    /// Takes note of what the peer says; whether there is more to listen to.
    fn hears(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        if state.phase != Phase::Banner {
            return false;
        }
        let room = HEARD - state.heard.len();
        state.heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
        // Servers may say something else in lines before.
        let is_banner = state.heard.split(|b| *b == b'\n').any(|line| line.starts_with(b"SSH-"));
        if is_banner || state.heard.len() == HEARD && bytes.windows(4).any(|part| part == b"SSH-") {
            drop(state);
            self.enter(Phase::KeyExchange);
            return false;
        }
        true
    }
}

/// `HOST:PORT`; an address of IPv6 stands in brackets.
pub(super) fn endpoint(host: &str, port: u16) -> String {
    let bare = host.contains(':') && !host.starts_with('[');
    if bare { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_each_stage() {
        let stage = Stage::default();
        stage.dials("::1", 22);
        assert_eq!(stage.describe().text, "dial [::1]:22: no answer");
        stage.accepted();
        assert_eq!(stage.describe().text, "[::1]:22: connected, but no SSH banner came");
        let closed = Cause::new(
            Unreachable::Closed,
            "[::1]:22: connected, but no SSH banner came: the server closed the connection",
        );
        assert_eq!(stage.failed(&russh::Error::HUP), closed);
        stage.hears(b"220 \x1b]52;c;x\x07mail\r\nmore");
        let strange =
            "[::1]:22: connected, but this is no SSH server: it said \"220 \\u{1b}]52;c;x\\u{7}mail\"";
        let strange = Cause::new(Unreachable::OtherProtocol, strange);
        assert_eq!((stage.describe(), stage.failed(&russh::Error::HUP)), (strange.clone(), strange));
        stage.hears(b"\nSSH-2.0-x\r\n");
        let closed = stage.failed(&russh::Error::HUP).text;
        assert_eq!(closed, "SSH handshake with [::1]:22: the server closed the connection");
        assert!(stage.describe().text.ends_with("the exchange of keys did not end"));
    }

    #[test]
    fn a_server_that_has_no_room_is_an_ssh_server() {
        for text in [&b"Exceeded MaxStartups\r\n"[..], b"Not allowed at this time\r\n"] {
            let stage = Stage::default();
            stage.accepted();
            stage.hears(text);
            assert_eq!(stage.failed(&russh::Error::HUP).why, Unreachable::TooManyAttempts);
        }
    }

    #[test]
    fn a_peer_that_talks_without_end_is_not_remembered_and_a_late_banner_is_heard() {
        let stage = Stage::default();
        stage.accepted();
        for _ in 0..1000 {
            stage.hears(&[b'x'; 1000]);
        }
        assert_eq!(stage.lock().heard.len(), HEARD);
        stage.hears(b"\nSSH-2.0-x\r\n");
        assert!(stage.lock().phase == Phase::KeyExchange);
    }

    #[tokio::test]
    async fn an_attempt_that_has_logged_in_and_dials_on_is_led() {
        let stage = Stage::default();
        stage.dials("bastion", 22);
        assert!(!stage.is_led() && !stage.has_spoken());
        drop(stage.logs_in().await);
        assert_eq!(stage.stuck_at(Duration::from_secs(4)), None);
        stage.dials("machine", 22);
        assert!(stage.is_led() && stage.has_spoken() && stage.stuck_at(Duration::from_secs(4)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_hears_of_each_that_comes_further() {
        let first = Stage::default();
        let other = first.beside();
        let further = async |stage: &Stage| {
            tokio::time::timeout(Duration::from_secs(1), stage.one_has_come_further()).await.is_ok()
        };
        assert!(!further(&first).await);
        let steps: [fn(&Stage); 3] =
            [|s| s.dials("h", 22), Stage::accepted, |s| _ = s.hears(b"SSH-2.0-x\r\n")];
        for step in steps {
            step(&other);
            assert!(further(&first).await && !further(&first).await);
        }
        other.hears(b"more");
        assert!(!further(&first).await);
    }
}
