//! Waiting until a machine can be entered.

use std::sync::Arc;

use super::super::Communicator;
use super::super::config::{CommunicatorConfig, Target};
use super::super::waiting::{Waiting, within};
use super::Ssh;
use super::attempts::Attempts;
use super::dial::{Connection, Failure};
use super::settings::Settings;
use crate::context::Context;
use crate::error::{Result, Unreachable};
use crate::event::EventKind;

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
    let mut waiting = Waiting::new(cx, "SSH");
    let mut attempts = Attempts::new(settings);
    let tries = cx.until_cancelled(try_until_open(settings, &mut attempts, &mut waiting));
    let result = within(settings.timeout, tries).await;
    waiting.end(result, || attempts.describe())
}

/// Tries until the machine lets us in.
async fn try_until_open(
    settings: &Settings,
    attempts: &mut Attempts<'_>,
    waiting: &mut Waiting<'_>,
) -> Result<Connection> {
    let mut refused = 0_u32;
    loop {
        let failure = match attempts.outcome(|stuck| waiting.tell(stuck)).await {
            Ok(connection) => return Ok(connection),
            Err(failure) => failure,
        };
        waiting.tell(failure.cause());
        if let Failure::Never(error) = failure {
            return Err(error);
        }
        if matches!(failure.why(), Unreachable::LoginRefused | Unreachable::TooManyAttempts) {
            refused += 1;
            if settings.attempts.is_some_and(|most| refused >= most) {
                return Err(failure.into_error());
            }
            // The others would be refused at once.
            attempts.clear();
        }
    }
}
