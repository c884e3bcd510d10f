//! Attempts to connect, side by side where one gets stuck.

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::Instant;

use super::dial::{Connection, Failure};
use super::settings::Settings;
use super::stage::Stage;

/// How long an attempt may come no further before another one is made beside it. What forwards ports accepts a
/// connection long before the machine behind it listens, and leaves it silent for ever.
const PATIENCE: Duration = Duration::from_secs(4);
/// How many attempts are open at most.
const MOST_OPEN: usize = 3;

/// The attempts to enter one machine.
pub(super) struct Attempts<'a> {
    settings: &'a Settings,
    /// Oldest first.
    open: Vec<Attempt<'a>>,
    first: Stage,
    /// No attempt is made before.
    rest: Instant,
}

struct Attempt<'a> {
    stage: Stage,
    /// Whether it was told that it is stuck.
    told: bool,
    work: Pin<Box<dyn Future<Output = Result<Connection, Failure>> + Send + 'a>>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self { settings, open: Vec::new(), first: Stage::default(), rest: Instant::now() }
    }

    /// The outcome of the first attempt that has one. Beside an attempt that is stuck another one is made; `told`
    /// hears what keeps it.
    pub(super) async fn outcome(&mut self, mut told: impl FnMut(String)) -> Result<Connection, Failure> {
        loop {
            let now = Instant::now();
            if self.next_at().is_some_and(|at| at <= now) {
                self.make_one();
            }
            let mut wake = self.next_at();
            for attempt in self.open.iter_mut().filter(|attempt| !attempt.told) {
                match attempt.stage.stuck_at(PATIENCE, 0) {
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
                    self.open.remove(at);
                    return outcome;
                }
                // What comes further has other times.
                () = self.first.one_has_come_further() => {}
                () = late => {}
            }
        }
    }

    /// Makes no attempt for a while.
    pub(super) fn rest(&mut self, pause: Duration) {
        self.rest = Instant::now() + pause;
    }

    /// Gives up those that are open.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    /// What keeps the newest attempt just now.
    pub(super) fn describe(&self) -> Option<String> {
        self.open.last().map(|attempt| attempt.stage.describe())
    }

    /// When the next attempt is made; `None` while one is about to log in.
    fn next_at(&self) -> Option<Instant> {
        if self.open.iter().any(|attempt| attempt.stage.is_logging_in()) {
            return None;
        }
        let others = self.open.len().saturating_sub(1) as u32;
        let stuck = self.open.last().and_then(|newest| newest.stage.stuck_at(PATIENCE, others));
        Some(stuck.map_or(self.rest, |at| at.max(self.rest)))
    }

    fn make_one(&mut self) {
        if self.open.len() == MOST_OPEN {
            // The first may belong to a server that is slow: it has all the time there is.
            self.open.remove(1);
        }
        let (settings, stage) = (self.settings, self.first.beside());
        let work = Box::pin({
            let stage = stage.clone();
            async move { Connection::dial(settings, &stage).await }
        });
        self.open.push(Attempt { stage, told: false, work });
    }
}
