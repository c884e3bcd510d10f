//! Waiting until a machine can be entered.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::super::config::{CommunicatorConfig, Target};
use super::super::output::Kept;
use super::super::{Command, Communicator, ExitStatus, LineWriter};
use super::client::Client;
use super::failure::{Class, Failure};
use super::powershell::{self, GREETING};
use super::settings::Settings;
use super::shell::Shell;
use super::{WinRm, shell};
use crate::context::{Context, Progress};
use crate::error::{Error, Result};
use crate::event::Level;

/// Between two tries while nothing listens: such a try costs nothing, and a machine may be up the next moment.
const REFUSED: Duration = Duration::from_millis(50);
/// Between two tries while something answers that is not what it should be yet.
const NOT_READY: Duration = Duration::from_secs(1);
/// Between two refused logins. Windows locks accounts on which too many are tried too fast.
const LOG_IN_AGAIN: Duration = Duration::from_secs(5);
/// How long the first try may take, each later one twice as long: what forwards ports accepts a connection long before the
/// machine behind it listens, and a machine that starts for the first time is slow.
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
    cx.say("Waiting for WinRM to become available...");
    let mut causes = Causes { cx, last: None, shown: None };
    let limit = client.settings().timeout;
    let tries = cx.until_cancelled(try_until_open(cx, client, &mut causes));
    match tokio::time::timeout(limit, tries).await {
        Ok(Ok(())) => {
            cx.say("Connected to WinRM!");
            Ok(())
        }
        Ok(Err(error)) if error.is_cancelled() => Err(error),
        Ok(Err(error)) => {
            cx.say_error(format!("Error waiting for WinRM: {error}"));
            Err(error)
        }
        Err(_) => {
            let Settings { host, port, .. } = client.settings();
            let cause = causes.last.take();
            let cause = cause.unwrap_or_else(|| format!("{host}:{port} said nothing within {limit:?}"));
            // Scripts look for the beginning.
            let message = format!("Timeout waiting for WinRM. The last attempt: {cause}");
            cx.say_error(&message);
            Err(Error::network(message).with_source(cause))
        }
    }
}

/// Tries until the machine lets us in and its PowerShell answers.
async fn try_until_open(cx: &Context, client: &Client, causes: &mut Causes<'_>) -> Result<()> {
    let mut patience = FIRST_TRY;
    loop {
        let tried = tokio::time::timeout(patience, attempt(cx, client)).await;
        let failure = match tried {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(_) => {
                let Settings { host, port, .. } = client.settings();
                let why = format!("{host}:{port} takes a connection and says nothing for {patience:?}");
                patience = (patience * 2).min(LONGEST_TRY);
                Failure::network(why)
            }
        };
        causes.tell(failure.to_string());
        // A machine that has just come up may have closed what was open.
        client.forget();
        let pause = match failure.class {
            Class::Never => return Err(failure.into_error()),
            Class::Refused => REFUSED,
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

/// Why the machine cannot be entered yet: told when it changes, not with each try.
struct Causes<'a> {
    cx: &'a Context,
    last: Option<String>,
    /// What is shown while the cause stays the same.
    shown: Option<Progress>,
}

impl Causes<'_> {
    fn tell(&mut self, cause: String) {
        if self.last.as_ref() == Some(&cause) {
            return;
        }
        // One after the other, not both at once.
        self.shown = None;
        let mut progress = self.cx.progress(format!("Waiting for WinRM: {cause}"), None);
        progress.set(0);
        self.shown = Some(progress);
        self.last = Some(cause);
    }
}
