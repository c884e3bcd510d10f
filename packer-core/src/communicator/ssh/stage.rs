//! How far an attempt to connect has come: what there is to say of one that does not go on.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

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
}

struct State {
    phase: Phase,
    /// `HOST:PORT` of the hop that this is about.
    peer: String,
    since: Instant,
    /// What the peer has said instead of a banner.
    heard: Vec<u8>,
    /// What is opened beside.
    opens: String,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::Dial,
            peer: String::new(),
            since: Instant::now(),
            heard: Vec::new(),
            opens: String::new(),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// Nobody has accepted the connection yet.
    Dial,
    /// It is accepted, and nobody has said that this is SSH.
    Banner,
    KeyExchange,
    Login,
    /// What was asked for beside is opened.
    Opening,
}

impl Stage {
    /// Of another attempt, which logs in when this one does not.
    pub(super) fn beside(&self) -> Self {
        Self { state: Arc::default(), turn: self.turn.clone(), further: self.further.clone() }
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

    /// A host is dialled.
    pub(super) fn dials(&self, host: &str, port: u16) {
        let mut state = self.lock();
        let bare = host.contains(':') && !host.starts_with('[');
        state.peer = if bare { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        state.heard.clear();
        drop(state);
        self.enter(Phase::Dial);
    }

    /// The host has accepted the connection.
    pub(super) fn accepted(&self) {
        self.enter(Phase::Banner);
    }

    /// The keys are exchanged; returns when no other attempt logs in, and keeps them from it while the guard lives.
    pub(super) async fn logs_in(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.enter(Phase::Login);
        self.turn.lock().await
    }

    /// The login has succeeded, and this is opened beside.
    pub(super) fn opens(&self, what: String) {
        self.lock().opens = what;
        self.enter(Phase::Opening);
    }

    /// Whether it is about to log in, or has.
    pub(super) fn is_logging_in(&self) -> bool {
        matches!(self.lock().phase, Phase::Login | Phase::Opening)
    }

    /// When it counts as stuck unless it comes further; `others` attempts make a machine's part in the exchange of keys,
    /// which costs it work, slower. `None` for one that logs in.
    pub(super) fn stuck_at(&self, patience: Duration, others: u32) -> Option<Instant> {
        let state = self.lock();
        let patience = match state.phase {
            Phase::Dial | Phase::Banner => patience,
            Phase::KeyExchange => patience * (1 + others),
            Phase::Login | Phase::Opening => return None,
        };
        Some(state.since + patience)
    }

    /// What an attempt that got no further says of the machine.
    pub(super) fn describe(&self) -> String {
        let state = self.lock();
        let peer = &state.peer;
        match state.phase {
            Phase::Dial => format!("dial {peer}: no answer"),
            Phase::Banner if state.heard.is_empty() => format!("{peer}: connected, but no SSH banner came"),
            Phase::Banner => {
                let heard = String::from_utf8_lossy(&state.heard);
                let line = heard.lines().next().unwrap_or_default();
                format!("{peer}: connected, but this is no SSH server: it said {line:?}")
            }
            Phase::KeyExchange => format!("{peer}: an SSH server, but the exchange of keys did not end"),
            Phase::Login => format!("{peer}: an SSH server, but the login did not end"),
            Phase::Opening => format!("{peer}: logged in, but {} does not open", state.opens),
        }
    }

    /// What an attempt says of the machine that failed for this reason before the login.
    pub(super) fn failed(&self, why: &str) -> String {
        let (phase, silent) = {
            let state = self.lock();
            (state.phase, state.heard.is_empty())
        };
        match phase {
            Phase::Banner if silent => format!("{}: {why}", self.describe()),
            Phase::Banner => self.describe(),
            _ => format!("SSH handshake with {}: {why}", self.lock().peer),
        }
    }

    /// Takes note of what the peer says until it says that it is an SSH server.
    fn hears(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.phase != Phase::Banner {
            return;
        }
        let room = HEARD - state.heard.len();
        state.heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
        // Servers may say something else in lines before.
        let is_banner = state.heard.split(|b| *b == b'\n').any(|line| line.starts_with(b"SSH-"));
        if is_banner || state.heard.len() == HEARD && bytes.windows(4).any(|part| part == b"SSH-") {
            drop(state);
            self.enter(Phase::KeyExchange);
        }
    }
}

/// A stream whose beginning is told to a [`Stage`].
pub(super) struct Watched<S> {
    inner: S,
    stage: Option<Stage>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, stage: Stage) -> Self {
        Self { inner, stage: Some(stage) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if let Some(stage) = &self.stage
            && buffer.filled().len() > before
        {
            stage.hears(&buffer.filled()[before..]);
            let listening = stage.lock().phase == Phase::Banner;
            if !listening {
                self.stage = None;
            }
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_each_stage() {
        let stage = Stage::default();
        stage.dials("::1", 22);
        assert_eq!(stage.describe(), "dial [::1]:22: no answer");
        stage.accepted();
        assert_eq!(stage.describe(), "[::1]:22: connected, but no SSH banner came");
        assert_eq!(stage.failed("reset"), "[::1]:22: connected, but no SSH banner came: reset");
        stage.hears(b"220 \x1b]52;c;x\x07mail\r\nmore");
        let strange =
            "[::1]:22: connected, but this is no SSH server: it said \"220 \\u{1b}]52;c;x\\u{7}mail\"";
        assert_eq!((stage.describe().as_str(), stage.failed("x").as_str()), (strange, strange));
        stage.hears(b"\nSSH-2.0-x\r\n");
        assert_eq!(stage.failed("reset"), "SSH handshake with [::1]:22: reset");
        assert!(stage.describe().ends_with("the exchange of keys did not end"));
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

    #[test]
    fn an_exchange_of_keys_has_the_more_time_the_more_run_side_by_side() {
        let stage = Stage::default();
        let began = stage.lock().since;
        let (patience, at) = (Duration::from_secs(4), |seconds| Some(began + Duration::from_secs(seconds)));
        assert_eq!((stage.stuck_at(patience, 0), stage.stuck_at(patience, 2)), (at(4), at(4)));
        stage.accepted();
        stage.hears(b"SSH-2.0-x\r\n");
        stage.lock().since = began;
        assert_eq!((stage.stuck_at(patience, 0), stage.stuck_at(patience, 2)), (at(4), at(12)));
        stage.enter(Phase::Login);
        assert_eq!(stage.stuck_at(patience, 0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_hears_of_each_that_comes_further() {
        let first = Stage::default();
        let other = first.beside();
        let further = async |stage: &Stage| {
            tokio::time::timeout(Duration::from_secs(1), stage.one_has_come_further()).await.is_ok()
        };
        assert!(!further(&first).await);
        let steps: [fn(&Stage); 3] = [|s| s.dials("h", 22), Stage::accepted, |s| s.hears(b"SSH-2.0-x\r\n")];
        for step in steps {
            step(&other);
            assert!(further(&first).await && !further(&first).await);
        }
        other.hears(b"more");
        assert!(!further(&first).await);
    }
}
