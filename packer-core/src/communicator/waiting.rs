//! Waiting until a machine can be entered: what is told meanwhile and in the end, and how often it is tried.

use std::time::Duration;

use tokio::time::Instant;

use crate::context::{Context, Progress};
use crate::error::{Error, Result, Unreachable};

/// The soonest and the latest another try after one that was refused. Such a try costs one packet there and back.
const REFUSED: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(100));
/// The same beside tries that nobody answers, and after those that were closed without a word.
const SILENT: (Duration, Duration) = (Duration::from_millis(80), Duration::from_secs(1));

/// Why a machine cannot be entered, as data and in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) why: Unreachable,
    pub(super) text: String,
}

impl Cause {
    pub(super) fn new(why: Unreachable, text: impl Into<String>) -> Self {
        Self { why, text: text.into() }
    }

    /// The words, and what to do.
    pub(super) fn with_advice(&self) -> String {
        match self.why.advice() {
            "" => self.text.clone(),
            advice => format!("{}. {advice}", self.text.trim_end_matches('.')),
        }
    }
}

/// A wait for one machine. What keeps it is told when it changes, not with each try.
pub(super) struct Waiting<'a> {
    cx: &'a Context,
    /// What is waited for: `SSH`.
    what: &'static str,
    last: Option<Cause>,
    /// What is shown while the cause stays the same.
    shown: Option<Progress>,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(cx: &'a Context, what: &'static str) -> Self {
        cx.say(format!("Waiting for {what} to become available..."));
        Self { cx, what, last: None, shown: None }
    }

    /// Tells what keeps the machine from being entered.
    pub(super) fn tell(&mut self, cause: Cause) {
        if self.last.as_ref() == Some(&cause) {
            return;
        }
        // One after the other, not both at once.
        self.shown = None;
        let mut progress = self.cx.progress(format!("Waiting for {}: {}", self.what, cause.text), None);
        progress.set(0);
        self.shown = Some(progress);
        self.last = Some(cause);
    }

    /// Says how it ended; `None` is out of time, of which `otherwise` knows a cause where none was told.
    pub(super) fn end<T>(
        self,
        result: Option<Result<T>>,
        otherwise: impl FnOnce() -> Option<Cause>,
    ) -> Result<T> {
        let Self { cx, what, last, .. } = self;
        match result {
            Some(Ok(done)) => {
                cx.say(format!("Connected to {what}!"));
                Ok(done)
            }
            Some(Err(error)) if error.is_cancelled() => Err(error),
            Some(Err(error)) => {
                cx.say_error(format!("Error waiting for {what}: {error}"));
                Err(error)
            }
            None => {
                // Scripts look for the beginning.
                let mut message = format!("Timeout waiting for {what}.");
                let Some(cause) = last.or_else(otherwise) else {
                    cx.say_error(&message);
                    return Err(Error::unreachable(Unreachable::Silent, message));
                };
                message.push_str(" The last attempt: ");
                message.push_str(&cause.with_advice());
                cx.say_error(&message);
                Err(Error::unreachable(cause.why, message).with_source(cause.text))
            }
        }
    }
}

/// The result of some work; `None` where a limit comes first.
pub(super) async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}

/// How soon it is tried again where nothing listens, after so long a wait.
pub(super) fn again(waited: Duration) -> Duration {
    (waited / 100).clamp(REFUSED.0, REFUSED.1)
}

/// How soon another try is made beside those that nobody answers, after so long a wait: a machine that takes a minute to
/// start is entered at once, and one that takes an hour is not asked ten times a second.
pub(super) fn beside(waited: Duration) -> Duration {
    (waited / 600).clamp(SILENT.0, SILENT.1)
}

/// Which of several tries nobody answers, by when they were begun (the oldest first), is given up for another one: the
/// first and the newest stay, and of the rest that one goes which leaves the least gap. So there are tries of all ages,
/// and a server gets the time that it needs to answer, however long that is.
pub(super) fn least_missed(begun: &[Instant], now: Instant) -> usize {
    let age = |at: usize| begun.get(at).map_or(0.0, |begun| now.duration_since(*begun).as_secs_f64());
    let gap = |at: &usize| age(at - 1) / age(at + 1).max(0.001);
    let inner = 1..begun.len().saturating_sub(1).max(1);
    inner.min_by(|a, b| gap(a).total_cmp(&gap(b))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_frequent_at_first_and_few_in_the_end() {
        let seconds = Duration::from_secs;
        assert_eq!((again(seconds(0)), again(seconds(3600))), REFUSED);
        assert_eq!((beside(seconds(40)), beside(seconds(3600))), SILENT);
    }

    #[test]
    fn a_server_that_is_slow_to_answer_has_time_whenever_it_begins_to() {
        let tick = Duration::from_millis(100);
        let began = Instant::now();
        for start in [1_u32, 37, 500] {
            for slow in [1_u32, 3, 10, 40, 150] {
                let mut open: Vec<Instant> = Vec::new();
                let answered = (0_u32..5000).find(|now| {
                    let at = began + tick * *now;
                    if open.len() == 6 {
                        open.remove(least_missed(&open, at));
                    }
                    open.push(at);
                    // What was begun before the server listened is never answered.
                    let alive = |begun: &&Instant| **begun >= began + tick * start;
                    open.iter().filter(alive).any(|begun| at - *begun >= tick * slow)
                });
                let answered = answered.unwrap();
                assert!(answered - start <= 6 * slow + 1, "{start} {slow}: after {}", answered - start);
            }
        }
    }
}
