//! Attempts to connect: how soon the next one is made, side by side where one comes no further.

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::Instant;

use super::super::waiting::{self, Cause};
use super::dial::{Connection, Failure};
use super::settings::Settings;
use super::stage::{Phase, Stage};
use crate::error::Unreachable;

/// How long an attempt that cost the other side work may come no further before another one is made beside it.
const PATIENCE: Duration = Duration::from_secs(4);
/// The same where the server itself has accepted the connection, as is known when it refused others or spoke before.
const LISTENS: Duration = Duration::from_secs(1);
/// How long an attempt may come no further before that is told.
const TELL: Duration = Duration::from_secs(2);
/// How many attempts are open at most.
const MOST_OPEN: usize = 6;
/// Before another attempt, after one that found a server which is not ready, or a way that costs a login.
const AGAIN: Duration = Duration::from_secs(2);
/// Before a name is looked up again.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(1);
/// Between two refused logins: what sets a machine up may need minutes until it has put the key in place, and the number
/// of refusals is limited.
const LOG_IN_AGAIN: Duration = Duration::from_secs(7);

/// The attempts to enter one machine.
pub(super) struct Attempts<'a> {
    settings: &'a Settings,
    /// Oldest first.
    open: Vec<Attempt<'a>>,
    first: Stage,
    began: Instant,
    /// No attempt is made before.
    rest: Instant,
    /// Whether the machine has refused a connection, and whether an SSH server has spoken: what accepts connections then
    /// is that server, and nothing that forwards ports to a machine that is not up.
    has_refused: bool,
    has_spoken: bool,
}

struct Attempt<'a> {
    stage: Stage,
    begun: Instant,
    /// Whether it was told that it is stuck.
    told: bool,
    work: Pin<Box<dyn Future<Output = Result<Connection, Failure>> + Send + 'a>>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        let now = Instant::now();
        let (open, first) = (Vec::new(), Stage::default());
        Self { settings, open, first, began: now, rest: now, has_refused: false, has_spoken: false }
    }

    /// The outcome of the first attempt that has one. Beside an attempt that is stuck another one is made; `told`
    /// hears what keeps it.
    pub(super) async fn outcome(&mut self, mut told: impl FnMut(Cause)) -> Result<Connection, Failure> {
        loop {
            self.make_way();
            let now = Instant::now();
            if self.next_at().is_some_and(|at| at <= now) {
                self.make_one(now);
            }
            let mut wake = self.next_at();
            for attempt in self.open.iter_mut().filter(|attempt| !attempt.told) {
                match attempt.stage.stuck_at(TELL) {
                    Some(at) if at <= now => {
                        attempt.told = true;
                        told(attempt.stage.describe());
                    }
                    at => wake = wake.into_iter().chain(at).min(),
                }
            }
            let open = &mut self.open;
            let first = async {
                match open.is_empty() {
                    true => pending().await,
                    false => select_all(open.iter_mut().map(|attempt| &mut attempt.work)).await,
                }
            };
            let late = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                (outcome, at, _) = first => {
                    let ended = self.open.remove(at);
                    if let Err(failure) = &outcome {
                        self.rest = Instant::now() + self.pause(failure, &ended.stage);
                    }
                    return outcome;
                }
                // What comes further has other times.
                () = self.first.one_has_come_further() => {}
                () = late => {}
            }
        }
    }

    /// Gives up those that are open.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    /// What keeps the attempt that has come the furthest.
    pub(super) fn describe(&self) -> Option<Cause> {
        let furthest = self.open.iter().rev().max_by_key(|attempt| attempt.stage.progress());
        furthest.map(|attempt| attempt.stage.describe())
    }

    /// How long no attempt is made after one that failed.
    fn pause(&mut self, failure: &Failure, stage: &Stage) -> Duration {
        let (why, waited) = (failure.why(), self.began.elapsed());
        let is_led = stage.is_led();
        self.has_refused |= !is_led && why == Unreachable::Refused;
        self.has_spoken |= !is_led && stage.has_spoken();
        match why {
            Unreachable::LoginRefused | Unreachable::TooManyAttempts => LOG_IN_AGAIN,
            // The connection to the bastion stands: asking it once more costs little.
            Unreachable::NoRoute if is_led => waiting::beside(waited),
            _ if is_led => AGAIN,
            Unreachable::Refused => waiting::again(waited),
            Unreachable::Closed if !self.has_spoken => waiting::beside(waited),
            Unreachable::NoRoute | Unreachable::Silent => waiting::beside(waited),
            Unreachable::UnknownHost => LOOK_UP_AGAIN,
            _ => AGAIN,
        }
    }

    /// How long an attempt may stay where it is before another one is made; `None` for one that is about to log in.
    fn patience(&self, stage: &Stage) -> Option<Duration> {
        match stage.phase() {
            Phase::HostKey | Phase::Login | Phase::Opening => None,
            // Attempts side by side make the machine's part in it, which costs it work, slower.
            Phase::KeyExchange => Some(PATIENCE * self.open.len().max(1) as u32),
            _ if stage.is_led() || stage.has_heard() => Some(PATIENCE),
            Phase::LookUp => Some(PATIENCE),
            Phase::Banner if self.has_refused || self.has_spoken => Some(LISTENS),
            Phase::Dial | Phase::Banner => Some(waiting::beside(self.began.elapsed())),
        }
    }

    /// When the next attempt is made; `None` while one is about to log in.
    fn next_at(&self) -> Option<Instant> {
        if self.open.iter().any(|attempt| attempt.stage.phase() >= Phase::HostKey) {
            return None;
        }
        let Some(newest) = self.open.last() else { return Some(self.rest) };
        let stuck = self.patience(&newest.stage).and_then(|patience| newest.stage.stuck_at(patience));
        stuck.map(|at| at.max(self.rest))
    }

    /// Gives up those that another one has overtaken: a server that has said what it is to one need not say it to the
    /// others, and a machine that accepts connections now has not seen those that it did not answer.
    fn make_way(&mut self) {
        let spoken = self.open.iter().filter(|attempt| attempt.stage.has_spoken());
        self.has_spoken |= spoken.clone().any(|attempt| !attempt.stage.is_led());
        if let Some(since) = spoken.map(|attempt| attempt.stage.since()).max() {
            self.open.retain(|attempt| attempt.stage.has_spoken() || attempt.begun >= since);
            return;
        }
        let accepted = self.open.iter().rposition(|attempt| attempt.stage.phase() == Phase::Banner);
        let mut at = 0;
        self.open.retain(|attempt| {
            at += 1;
            accepted.is_none_or(|accepted| at > accepted) || attempt.stage.phase() == Phase::Banner
        });
    }

    fn make_one(&mut self, now: Instant) {
        if self.open.len() >= MOST_OPEN {
            let begun: Vec<_> = self.open.iter().map(|attempt| attempt.begun).collect();
            self.open.remove(waiting::least_missed(&begun, now));
        }
        let (settings, stage) = (self.settings, self.first.beside());
        let work = Box::pin({
            let stage = stage.clone();
            async move { Connection::dial(settings, &stage).await }
        });
        self.open.push(Attempt { stage, begun: now, told: false, work });
    }
}
