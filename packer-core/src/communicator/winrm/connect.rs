//! Waiting until a machine can be entered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::super::config::{CommunicatorConfig, Target};
use super::super::output::Kept;
use super::super::waiting::{Cause, Waiting, within};
use super::super::{Command, Communicator, ExitStatus, LineWriter};
use super::client::Client;
use super::failure::{Class, Failure};
use super::powershell::{self, GREETING};
use super::settings::Settings;
use super::shell::Shell;
use super::{WinRm, probe, shell};
use crate::context::Context;
use crate::error::{Result, Unreachable};
use crate::event::Level;

/// Between two tries while the server is there and does not do what it should yet.
const NOT_READY: Duration = Duration::from_secs(1);
/// Between two refused logins. Windows locks accounts on which too many are tried too fast.
const LOG_IN_AGAIN: Duration = Duration::from_secs(5);
/// How long the first try may take, each later one twice as long: a machine that starts for the first time is slow.
const FIRST_TRY: Duration = Duration::from_secs(10);
const LONGEST_TRY: Duration = Duration::from_secs(80);

/// Connects, and connects anew after `pause_before_connecting`.
pub(in super::super) async fn connect(
    cx: &Context,
    config: &CommunicatorConfig,
    target: &Target,
) -> Result<Arc<dyn Communicator>> {
    let settings = Settings::new(cx, config, target)?;
    cx.say(format!("Using WinRM communicator to connect: {}", settings.host));
    let client = Client::new(settings);
    wait(cx, &client).await?;
    let pause = config.pause_before_connecting;
    if !pause.is_zero() && !pause.is_negative() {
        cx.say(format!("Pausing {pause} before connecting..."));
        cx.sleep(pause.to_std()).await?;
        client.forget();
        wait(cx, &client).await?;
    }
    Ok(Arc::new(WinRm { client }))
}

async fn wait(cx: &Context, client: &Client) -> Result<()> {
    let mut waiting = Waiting::new(cx, "WinRM");
    let is_there = AtomicBool::new(false);
    let tries = cx.until_cancelled(try_until_open(cx, client, &mut waiting, &is_there));
    let result = within(Some(client.settings().timeout), tries).await;
    waiting.end(result, || {
        let Settings { host, port, .. } = &**client.settings();
        Some(match is_there.load(Ordering::Relaxed) {
            true => {
                Cause::new(Unreachable::Silent, format!("{host}:{port} answers, and has let nobody in yet"))
            }
            false => probe::silent(client.settings()),
        })
    })
}

/// Tries until the machine lets us in and its PowerShell answers; `is_there` is set once a WinRM server has answered.
async fn try_until_open(
    cx: &Context,
    client: &Client,
    waiting: &mut Waiting<'_>,
    is_there: &AtomicBool,
) -> Result<()> {
    let began = Instant::now();
    let mut patience = FIRST_TRY;
    loop {
        probe::until_there(client.settings(), began, waiting).await?;
        is_there.store(true, Ordering::Relaxed);
        let tried = tokio::time::timeout(patience, attempt(cx, client)).await;
        let failure = match tried {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(_) => {
                let Settings { host, port, .. } = &**client.settings();
                let why = format!("{host}:{port} answers, and lets nobody in within {patience:?}");
                patience = (patience * 2).min(LONGEST_TRY);
                Failure::network(why).because(Unreachable::Silent)
            }
        };
        waiting.tell(failure.cause());
        // A machine that has just come up may have closed what was open.
        client.forget();
        let pause = match failure.class {
            Class::Never => return Err(failure.into_error()),
            Class::Login => LOG_IN_AGAIN,
            _ => NOT_READY,
        };
        tokio::time::sleep(pause).await;
    }
}

/// Makes a shell and ends it, then asks PowerShell for a greeting, which it gives when the machine is up in earnest.
async fn attempt(cx: &Context, client: &Client) -> Result<(), Failure> {
    Shell::open(client).await?.close().await;
    let mut kept = Kept::complaint();
    let mut shown = LineWriter::new(cx.clone(), Level::Info);
    let command = Command::new(powershell::greeting()).stdout(&mut kept);
    let done = shell::run(cx, client, command).await;
    let said = kept.text();
    if done.is_ok() {
        // Writing into memory cannot fail.
        let _ = shown.write_all(format!("{said}\n").as_bytes()).await;
    }
    match done {
        Ok(_) if said.contains(GREETING) => Ok(()),
        Ok(ExitStatus::Disconnected) => {
            Err(Failure::network("the connection broke while PowerShell was asked whether it answers"))
        }
        Ok(status) => Err(Failure::new(
            Class::Http,
            format!(
                "PowerShell does not answer rightly yet: it says {said:?} and ends with {}",
                status.code()
            ),
        )),
        Err(error) => Err(Failure::network(error.to_string())),
    }
}
