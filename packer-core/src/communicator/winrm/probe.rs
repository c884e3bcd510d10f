//! Whether a WinRM server is there yet: asked without a login, several times side by side where nobody answers.
//!
//! What forwards ports accepts connections long before the machine behind it listens, and leaves them silent for ever. A
//! question without a login may be asked as often as that takes: it is none of the refused logins that lock an account.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::Instant;

use super::super::waiting::{self, Cause, Waiting};
use super::failure::{Class, Failure};
use super::http::Connection;
use super::settings::Settings;
use crate::error::{Result, Unreachable};

/// Between two questions to what is no WinRM server yet.
const EARLY: Duration = Duration::from_millis(250);
/// The same where the connection could not be secured; and how long a server that has refused others before, and thus
/// accepts by itself now, may take before it is asked again.
const NOT_READY: Duration = Duration::from_secs(1);
/// How long nobody may answer before that is told.
const TELL: Duration = Duration::from_secs(2);
/// How many questions are open at most, and how long each.
const MOST_OPEN: usize = 6;
const LIMIT: Duration = Duration::from_secs(80);

struct Question {
    begun: Instant,
    answer: Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>,
}

/// Returns when a WinRM server answers that was waited for since `began`.
pub(super) async fn until_there(
    settings: &Arc<Settings>,
    began: Instant,
    waiting: &mut Waiting<'_>,
) -> Result<()> {
    let mut open: Vec<Question> = Vec::new();
    let mut next = Instant::now();
    let mut was_refused = false;
    loop {
        let now = Instant::now();
        if next <= now {
            if open.len() >= MOST_OPEN {
                let begun: Vec<_> = open.iter().map(|question| question.begun).collect();
                open.remove(waiting::least_missed(&begun, now));
            }
            open.push(Question { begun: now, answer: Box::pin(ask(settings.clone())) });
            next = now + if was_refused { NOT_READY } else { waiting::beside(now - began) };
        }
        if open.first().is_some_and(|oldest| now - oldest.begun >= TELL) {
            waiting.tell(silent(settings));
        }
        let first = async {
            match open.is_empty() {
                true => pending().await,
                false => select_all(open.iter_mut().map(|question| &mut question.answer)).await,
            }
        };
        let (answer, at) = tokio::select! {
            (answer, at, _) = first => (answer, at),
            () = tokio::time::sleep_until(next) => continue,
        };
        open.remove(at);
        let Err(failure) = answer else { return Ok(()) };
        let cause = failure.cause();
        was_refused |= cause.why == Unreachable::Refused;
        let pause = match failure.class {
            Class::Never => return Err(failure.into_error()),
            Class::Refused => waiting::again(began.elapsed()),
            Class::Network => waiting::beside(began.elapsed()),
            Class::Http => EARLY,
            _ => NOT_READY,
        };
        waiting.tell(cause);
        next = Instant::now() + pause;
    }
}

/// That nobody answers.
pub(super) fn silent(settings: &Settings) -> Cause {
    let Settings { host, port, .. } = settings;
    Cause::new(Unreachable::Silent, format!("{host}:{port} does not answer"))
}

async fn ask(settings: Arc<Settings>) -> Result<(), Failure> {
    let asked = tokio::time::timeout(LIMIT, Connection::probe(&settings)).await;
    let late = |_| {
        let Cause { why, text } = silent(&settings);
        Failure::network(text).because(why)
    };
    asked.map_err(late)?
}
