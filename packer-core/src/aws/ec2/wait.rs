//! Waits: a look, what it saw, and the next look a little later; told in events where what is seen changes.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::Refused;
use crate::aws::Polling;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::EventKind;

/// What a look saw.
#[derive(Debug)]
#[non_exhaustive]
pub enum Seen<T> {
    /// What is waited for.
    Done(T),
    /// It is on its way; the state as AWS calls it.
    Underway(String),
    /// EC2 does not know it: where it has just been made, not yet.
    Unknown,
    /// It will never be.
    Never(Error),
}

/// Makes a call again as long as EC2 does not know yet what it is about.
///
/// # Errors
/// What the last call was refused with.
pub async fn once_known<T, F>(cx: &Context, call: impl Fn() -> F) -> Result<T, Refused>
where
    F: Future<Output = Result<T, Refused>>,
{
    const MOST: u32 = 11;
    let mut pause = Duration::from_millis(200);
    for _ in 1..MOST {
        match call().await {
            Err(e) if e.is_not_found() => {}
            other => return other,
        }
        if cx.sleep(pause).await.is_err() {
            break;
        }
        pause = (pause * 2).min(Duration::from_secs(30));
    }
    call().await
}

/// How often and how long is looked.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    first: Duration,
    longest: Duration,
    limit: Duration,
}

/// How long EC2 may not know what it has just made.
const LAG: Duration = Duration::from_secs(120);

impl Pace {
    /// Looks that begin close together and end a few seconds apart, for at most so long; what the user set (`aws_polling`, or the
    /// variables for it) wins.
    pub fn new(polling: &Polling, limit: Duration) -> Self {
        let (delay, attempts) = (polling.delay(), polling.attempts());
        let fixed = delay.or(attempts.map(|_| Duration::from_secs(2)));
        let limit = match (attempts, fixed) {
            (Some(attempts), Some(delay)) => delay.saturating_mul(attempts),
            _ => limit,
        };
        let (first, longest) = match fixed {
            Some(delay) => (delay, delay),
            None => (Duration::from_millis(500), Duration::from_secs(5)),
        };
        Self { first, longest, limit }
    }

    /// Looks until `look` sees the end.
    ///
    /// # Errors
    /// What [`Seen::Never`] says; what the look itself failed with; where it takes longer than it may, the text `late`.
    pub async fn wait<T, F>(
        &self,
        cx: &Context,
        what: &str,
        late: &str,
        mut look: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<Seen<T>, Refused>>,
    {
        let (began, mut pause, mut told) = (Instant::now(), self.first, None);
        loop {
            let state = match look().await? {
                Seen::Done(what) => return Ok(what),
                Seen::Never(error) => return Err(error),
                Seen::Underway(state) => state,
                Seen::Unknown if began.elapsed() < LAG => "not known yet".to_owned(),
                Seen::Unknown => return Err(Error::provider(format!("{what} is gone"))),
            };
            if told.as_ref() != Some(&state) {
                let (what, state) = (what.to_owned(), state.clone());
                cx.emit(EventKind::Waiting { what, state, elapsed: began.elapsed(), limit: self.limit });
            }
            told = Some(state);
            if began.elapsed() + pause > self.limit {
                return Err(Error::provider(late.to_owned()).retryable());
            }
            cx.sleep(pause).await?;
            pause = pause.mul_f64(1.5).min(self.longest);
        }
    }
}
