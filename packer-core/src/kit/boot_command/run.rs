//! Types a boot command at a machine.

use std::time::Duration;

use async_trait::async_trait;

use super::keys::{Key, Motion, Special};
use super::parse::{BootCommand, Item};
use super::sight::{Seeing, Sight};
use crate::context::Context;
use crate::error::Result;
use crate::kit::screen::Screen;

/// What brings keys to a machine: VNC, scan codes of a hypervisor.
///
/// A driver that hears of whole keys only (a key and whether shift goes with it, as USB scan codes are sent) has a
/// [`press`](Self::press) of its own and [`shifts`](Self::shifts).
#[async_trait]
pub trait KeyDriver: Send {
    /// Brings a key down or up. A driver may collect them until [`flush`](Self::flush).
    async fn key(&mut self, key: Key, motion: Motion) -> Result<()>;

    /// Presses a key and releases it, with shift where it takes that.
    async fn press(&mut self, key: Key, pace: &Pace<'_>) -> Result<()> {
        let shift = Key::Special(Special::LeftShift);
        let shifted = key.needs_shift() && !self.shifts();
        if shifted {
            self.key(shift, Motion::Down).await?;
            pace.key().await?;
        }
        for motion in [Motion::Down, Motion::Up] {
            self.key(key, motion).await?;
            pace.key().await?;
        }
        if shifted {
            self.key(shift, Motion::Up).await?;
            pace.key().await?;
        }
        Ok(())
    }

    /// Whether the driver itself gives a character the shift that it [needs](Key::needs_shift). Default no: the shift key is
    /// pressed for it.
    fn shifts(&self) -> bool {
        false
    }

    /// Sends what was collected. Called before each wait and at the end.
    async fn flush(&mut self, _pace: &Pace<'_>) -> Result<()> {
        Ok(())
    }

    /// What the screen shows now, where the driver can see it.
    async fn screen(&mut self) -> Result<Option<Screen>> {
        Ok(None)
    }

    /// Returns when the screen shows something else than at the last call of [`screen`](Self::screen). Dropping the future
    /// loses nothing. Without sight it never returns.
    async fn changed(&mut self) -> Result<()> {
        std::future::pending().await
    }
}

/// The pauses while a boot command is typed; ended early by cancellation, which is an error.
#[derive(Debug, Clone, Copy)]
pub struct Pace<'a> {
    cx: &'a Context,
    key: Duration,
    group: Duration,
}

impl Pace<'_> {
    /// The pause behind each key that goes down or up.
    pub async fn key(&self) -> Result<()> {
        self.pause(self.key).await
    }

    /// The pause behind each group of keys, for a driver that sends them in groups.
    pub async fn group(&self) -> Result<()> {
        self.pause(self.group).await
    }

    async fn pause(&self, pause: Duration) -> Result<()> {
        if pause.is_zero() {
            return Ok(());
        }
        self.cx.sleep(pause).await
    }
}

/// Types a boot command, with a pause of `key_interval` behind each key that goes down or up. `seeing` is what the machine
/// prints on a serial line, for the waits of our own; they also see the picture where the driver does.
///
/// # Errors
/// Of the driver; cancellation; a wait for something that did not show: that one holds a
/// [`NotSeen`](super::NotSeen) with the last picture.
pub async fn type_into(
    cx: &Context,
    command: &BootCommand,
    driver: &mut dyn KeyDriver,
    key_interval: Duration,
    group_interval: Duration,
    seeing: Option<&mut dyn Seeing>,
) -> Result<()> {
    let pace = Pace { cx, key: key_interval, group: group_interval };
    cx.until_cancelled(type_items(command, driver, &pace, Sight::new(seeing))).await
}

async fn type_items(
    command: &BootCommand,
    driver: &mut dyn KeyDriver,
    pace: &Pace<'_>,
    mut sight: Sight<'_>,
) -> Result<()> {
    for item in &command.items {
        if matches!(item, Item::Wait(_) | Item::WaitText { .. } | Item::WaitStill { .. }) {
            driver.flush(pace).await?;
        }
        match item {
            Item::Press(key) => driver.press(*key, pace).await?,
            Item::Hold(key) => toggle(driver, *key, Motion::Down, pace).await?,
            Item::Release(key) => toggle(driver, *key, Motion::Up, pace).await?,
            Item::Wait(time) => pace.pause(*time).await?,
            Item::WaitText { text, limit } => sight.text(driver, text, *limit).await?,
            Item::WaitStill { still, limit } => sight.still(driver, *still, *limit).await?,
        }
    }
    driver.flush(pace).await
}

/// Holds a key or releases it: shift goes down before it and comes up behind it.
async fn toggle(driver: &mut dyn KeyDriver, key: Key, motion: Motion, pace: &Pace<'_>) -> Result<()> {
    let shift = (key.needs_shift() && !driver.shifts()).then_some(Key::Special(Special::LeftShift));
    let keys = match motion {
        Motion::Down => [shift, Some(key)],
        Motion::Up => [Some(key), shift],
    };
    for key in keys.into_iter().flatten() {
        driver.key(key, motion).await?;
        pace.key().await?;
    }
    Ok(())
}
