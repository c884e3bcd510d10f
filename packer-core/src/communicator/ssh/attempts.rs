//! Attempts to connect, side by side where one gets stuck.

use std::future::Future;
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
/// How often to look whether one got stuck.
const LOOK: Duration = Duration::from_millis(250);

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
            if self.is_due() {
                self.make_one();
            }
            for attempt in &mut self.open {
                if !attempt.told && attempt.stage.is_stuck(PATIENCE, 0) {
                    attempt.told = true;
                    told(attempt.stage.describe());
                }
            }
            let look = tokio::time::sleep(LOOK);
            if self.open.is_empty() {
                look.await;
                continue;
            }
            let all = select_all(self.open.iter_mut().map(|attempt| &mut attempt.work));
            tokio::select! {
                (outcome, at, _) = all => {
                    self.open.remove(at);
                    return outcome;
                }
                () = look => {}
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

    fn is_due(&self) -> bool {
        if Instant::now() < self.rest || self.open.iter().any(|attempt| attempt.stage.is_logging_in()) {
            return false;
        }
        let others = self.open.len().saturating_sub(1) as u32;
        self.open.last().is_none_or(|newest| newest.stage.is_stuck(PATIENCE, others))
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
