//! Waiting until a machine can be entered.

use std::sync::Arc;
use std::time::Duration;

use super::super::Communicator;
use super::super::config::{CommunicatorConfig, Target};
use super::Ssh;
use super::attempts::Attempts;
use super::dial::{Connection, Failure};
use super::settings::Settings;
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::event::EventKind;

/// Between two tries while the machine is not up.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// Between two refused logins: what sets a machine up may need minutes until it has put the key in place, and the number
/// of refusals is limited.
const LOG_IN_AGAIN: Duration = Duration::from_secs(7);

/// Connects, and connects anew after `pause_before_connecting`.
pub(in super::super) async fn connect(
    cx: &Context,
    config: &CommunicatorConfig,
    target: &Target,
) -> Result<Arc<dyn Communicator>> {
    let settings = Settings::new(cx, config, target).await?;
    cx.say(format!("Using SSH communicator to connect: {}", settings.target.host));
    let mut connection = wait(cx, &settings).await?;
    let pause = config.pause_before_connecting;
    if !pause.is_zero() && !pause.is_negative() {
        connection.end_streams().await;
        drop(connection);
        cx.say(format!("Pausing {pause} before connecting..."));
        cx.sleep(pause.to_std()).await?;
        connection = wait(cx, &settings).await?;
    }
    if let Some(key) = connection.unchecked_key() {
        let (host, port) = (settings.target.host.clone(), settings.target.port);
        cx.emit(EventKind::HostKeyUnchecked { host, port, key });
    }
    Ok(Arc::new(Ssh::new(settings, connection)))
}

async fn wait(cx: &Context, settings: &Settings) -> Result<Connection> {
    cx.say("Waiting for SSH to become available...");
    let mut attempts = Attempts::new(settings);
    let mut causes = Causes::new(cx);
    let tries = cx.until_cancelled(try_until_open(settings, &mut attempts, &mut causes));
    let result = match settings.timeout {
        Some(limit) => tokio::time::timeout(limit, tries).await,
        None => Ok(tries.await),
    };
    match result {
        Ok(Ok(connection)) => {
            cx.say("Connected to SSH!");
            Ok(connection)
        }
        Ok(Err(error)) if error.is_cancelled() => Err(error),
        Ok(Err(error)) => {
            cx.say_error(format!("Error waiting for SSH: {error}"));
            Err(error)
        }
        Err(_) => {
            let cause = causes.last.or_else(|| attempts.describe());
            // Scripts look for the beginning.
            let mut message = "Timeout waiting for SSH.".to_owned();
            if let Some(cause) = &cause {
                message.push_str(" The last attempt: ");
                message.push_str(cause);
            }
            cx.say_error(&message);
            Err(Error::network(message).with_source(cause.unwrap_or_default()))
        }
    }
}

/// Tries until the machine lets us in.
async fn try_until_open(
    settings: &Settings,
    attempts: &mut Attempts<'_>,
    causes: &mut Causes<'_>,
) -> Result<Connection> {
    let mut refused = 0_u32;
    loop {
        let failure = match attempts.outcome(|stuck| causes.tell(stuck)).await {
            Ok(connection) => return Ok(connection),
            Err(failure) => failure,
        };
        causes.tell(failure.to_string());
        let pause = match failure {
            Failure::Later(_) => TRY_AGAIN,
            Failure::Never(error) => return Err(error),
            Failure::Refused(_) => {
                refused += 1;
                if settings.attempts.is_some_and(|most| refused >= most) {
                    return Err(failure.into_error());
                }
                // The others would be refused at once.
                attempts.clear();
                LOG_IN_AGAIN
            }
        };
        attempts.rest(pause);
    }
}

/// Why the machine cannot be entered yet: told when it changes, not with each try.
struct Causes<'a> {
    cx: &'a Context,
    last: Option<String>,
    /// What is shown while the cause stays the same.
    shown: Option<Progress>,
}

impl<'a> Causes<'a> {
    fn new(cx: &'a Context) -> Self {
        Self { cx, last: None, shown: None }
    }

    fn tell(&mut self, cause: String) {
        if self.last.as_ref() == Some(&cause) {
            return;
        }
        // One after the other, not both at once.
        self.shown = None;
        let mut progress = self.cx.progress(format!("Waiting for SSH: {cause}"), None);
        progress.set(0);
        self.shown = Some(progress);
        self.last = Some(cause);
    }
}
