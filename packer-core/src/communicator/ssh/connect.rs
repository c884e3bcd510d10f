//! Waiting until a machine can be entered.

use std::sync::Arc;
use std::time::Duration;

use super::super::Communicator;
use super::super::config::{CommunicatorConfig, Target};
use super::Ssh;
use super::dial::{Connection, Failure};
use super::settings::Settings;
use crate::context::Context;
use crate::error::{Error, Result};

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
    let settings = Settings::new(cx, config, target)?;
    cx.say(format!("Using SSH communicator to connect: {}", settings.target.host));
    let mut connection = wait(cx, &settings).await?;
    let pause = config.pause_before_connecting;
    if !pause.is_zero() && !pause.is_negative() {
        drop(connection);
        cx.say(format!("Pausing {pause} before connecting..."));
        cx.sleep(pause.to_std()).await?;
        connection = wait(cx, &settings).await?;
    }
    Ok(Arc::new(Ssh::new(settings, connection)))
}

async fn wait(cx: &Context, settings: &Settings) -> Result<Connection> {
    cx.say("Waiting for SSH to become available...");
    let mut last = String::new();
    let tries = cx.until_cancelled(try_until_open(settings, &mut last));
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
            cx.say_error("Timeout waiting for SSH.");
            Err(Error::network("Timeout waiting for SSH.").with_source(last))
        }
    }
}

/// Tries until the machine lets us in; `last` is why the last try failed.
async fn try_until_open(settings: &Settings, last: &mut String) -> Result<Connection> {
    let mut refused = 0_u32;
    loop {
        let failure = match Connection::dial(settings).await {
            Ok(connection) => return Ok(connection),
            Err(failure) => failure,
        };
        *last = failure.to_string();
        let pause = match failure {
            Failure::Later(_) => TRY_AGAIN,
            Failure::Never(error) => return Err(error),
            Failure::Refused(_) => {
                refused += 1;
                if settings.attempts.is_some_and(|most| refused >= most) {
                    return Err(failure.into_error());
                }
                LOG_IN_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}
