//! Waits for what a machine shows: a text on its screen or serial line, or a screen on which nothing changes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::parse::one_spaced;
use super::run::KeyDriver;
use crate::duration::GoDuration;
use crate::error::{Error, Result};
use crate::kit::screen::Screen;
use crate::secrets::last_lines;

/// Of what a machine printed so much is kept to look for a text in.
const MOST: usize = 64 * 1024;
/// A picture that changes all the time is looked at so often.
const LOOK: Duration = Duration::from_millis(50);
/// So much of what was last seen is told when a wait fails.
const TOLD: usize = 2048;

/// What a machine prints: for the waits of a boot command.
#[async_trait]
pub trait Seeing: Send {
    /// What was printed since the last call, as soon as there is something. Dropping the future loses nothing.
    async fn more(&mut self) -> Result<String>;
}

/// What a machine printed and nobody has looked at yet, of much the last 64 KiB and more. Whoever reads the serial line
/// [pushes](Self::push) into it, a clone of it is the [`Seeing`].
#[derive(Debug, Clone)]
pub struct Transcript(Arc<watch::Sender<String>>);

impl Transcript {
    /// Nothing yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(String::new())))
    }

    /// Adds what was printed.
    pub fn push(&self, text: &str) {
        self.0.send_if_modified(|all| {
            all.push_str(text);
            keep_the_last(all);
            !text.is_empty()
        });
    }
}

impl Default for Transcript {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Seeing for Transcript {
    async fn more(&mut self) -> Result<String> {
        let mut pushed = self.0.subscribe();
        loop {
            let mut taken = String::new();
            self.0.send_if_modified(|all| {
                taken = std::mem::take(all);
                false
            });
            if !taken.is_empty() {
                return Ok(taken);
            }
            pushed.changed().await.map_err(|e| Error::internal(format!("waiting for a text: {e}")))?;
        }
    }
}

fn keep_the_last(text: &mut String) {
    if text.len() > 2 * MOST {
        text.drain(..text.ceil_char_boundary(text.len() - MOST));
    }
}

/// Why a wait of a boot command ended: what it waited for did not show. It is the source of the error that
/// [`type_into`](super::type_into) gives.
///
/// ```no_run
/// # use packer_core::{Error, kit::boot_command::NotSeen};
/// # fn typed() -> Result<(), Error> { Ok(()) }
/// if let Err(error) = typed()
///     && let Some(screen) = NotSeen::of(&error).and_then(|not_seen| not_seen.screen.as_ref())
/// {
///     std::fs::write("last-screen.png", screen.png()?).unwrap();
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NotSeen {
    /// The text that was waited for; `None` where the screen should have been still.
    pub wanted: Option<String>,
    /// The last lines of what was seen, of the serial line and then of the screen.
    pub text: String,
    /// The last picture of the screen, where there is one.
    pub screen: Option<Screen>,
}

impl NotSeen {
    /// That of an error, where it is one of a wait.
    pub fn of(error: &Error) -> Option<&Self> {
        error.causes().find_map(|cause| cause.downcast_ref())
    }
}

impl fmt::Display for NotSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wanted {
            Some(text) => write!(f, "{text:?} did not show"),
            None => f.write_str("the screen was not still"),
        }
    }
}

impl std::error::Error for NotSeen {}

/// What is known of what a machine shows.
pub(super) struct Sight<'a> {
    seeing: Option<&'a mut dyn Seeing>,
    printed: Printed,
    screen: Option<Screen>,
}

impl<'a> Sight<'a> {
    pub(super) fn new(seeing: Option<&'a mut dyn Seeing>) -> Self {
        Self { seeing, printed: Printed::default(), screen: None }
    }

    /// Waits until a text shows: in what is printed behind the text of the last wait, or anywhere on the screen.
    pub(super) async fn text(
        &mut self,
        driver: &mut dyn KeyDriver,
        wanted: &str,
        limit: Duration,
    ) -> Result<()> {
        let looking = async {
            self.look(driver).await?;
            loop {
                if self.shows(wanted) {
                    return Ok(());
                }
                self.change(driver).await?;
            }
        };
        match timeout(limit, looking).await {
            Ok(result) => result,
            Err(_) => Err(self.not_seen(Some(wanted), limit, format!("{wanted:?} did not show"))),
        }
    }

    /// Waits until nothing changes for a while. A cursor that blinks is no change.
    pub(super) async fn still(
        &mut self,
        driver: &mut dyn KeyDriver,
        still: Duration,
        limit: Duration,
    ) -> Result<()> {
        let looking = async {
            self.look(driver).await?;
            // The picture, and the same with the other state of its cursor.
            let (mut one, mut other) = (self.screen.clone(), None);
            let mut since = Instant::now();
            loop {
                let printed = self.printed.count;
                tokio::select! {
                    biased;
                    () = sleep_until(since + still) => return Ok(()),
                    changed = self.change(driver) => changed?,
                }
                let known = |known: &Option<Screen>| match (known, &self.screen) {
                    (Some(known), Some(now)) => known.same_as(now),
                    (known, now) => known.is_none() && now.is_none(),
                };
                if self.printed.count == printed {
                    if known(&one) || known(&other) {
                        continue;
                    }
                    if other.is_none()
                        && let (Some(one), Some(now)) = (&one, &self.screen)
                        && one.differs_in_a_cell(now)
                    {
                        other = self.screen.clone();
                        continue;
                    }
                }
                (one, other, since) = (self.screen.clone(), None, Instant::now());
            }
        };
        match timeout(limit, looking).await {
            Ok(result) => result,
            Err(_) => {
                let what = format!("the screen was not still for {} at any time", GoDuration::from(still));
                Err(self.not_seen(None, limit, what))
            }
        }
    }

    /// Looks at the screen for the first time in a wait.
    async fn look(&mut self, driver: &mut dyn KeyDriver) -> Result<()> {
        self.screen = driver.screen().await?;
        if self.screen.is_none() && self.seeing.is_none() {
            return Err(Error::user(
                "the boot command waits for what the machine shows, and there is neither a serial line nor a picture to \
                 see it on",
            ));
        }
        Ok(())
    }

    /// Returns when there is more to see.
    async fn change(&mut self, driver: &mut dyn KeyDriver) -> Result<()> {
        let printed = async {
            match &mut self.seeing {
                Some(seeing) => seeing.more().await,
                None => std::future::pending().await,
            }
        };
        let changed = async {
            sleep(LOOK).await;
            driver.changed().await
        };
        tokio::select! {
            biased;
            more = printed => {
                self.printed.push(&more?);
                Ok(())
            }
            changed = changed => {
                changed?;
                self.screen = driver.screen().await?;
                Ok(())
            }
        }
    }

    fn shows(&mut self, wanted: &str) -> bool {
        let on_screen = |screen: &Screen| one_spaced(&screen.text()).contains(wanted);
        self.printed.take(wanted) || self.screen.as_ref().is_some_and(on_screen)
    }

    fn not_seen(&self, wanted: Option<&str>, limit: Duration, what: String) -> Error {
        let on_screen = self.screen.as_ref().map(Screen::text).unwrap_or_default();
        let all = format!("{}\n{on_screen}", self.printed.text);
        let text = last_lines(all.trim(), TOLD).into_owned();
        let seen = match (text.is_empty(), &self.screen) {
            (false, _) => format!("The last that was seen:\n{text}"),
            (true, Some(screen)) => {
                format!("The screen ({}x{}) shows no text", screen.width(), screen.height())
            }
            (true, None) => "Nothing was seen".to_owned(),
        };
        let screen = self.screen.clone();
        Error::guest(format!("{what} within {}. {seen}", GoDuration::from(limit))).with_source(NotSeen {
            wanted: wanted.map(str::to_owned),
            text,
            screen,
        })
    }
}

/// What came over a serial line, without the orders for a terminal in it.
#[derive(Default)]
struct Printed {
    /// The last of it.
    text: String,
    /// The same behind what was found last, with one space for all white space.
    spaced: String,
    /// How much there was.
    count: usize,
    escape: Escape,
}

/// Where in an order for a terminal a text is.
#[derive(Default, Clone, Copy, PartialEq)]
enum Escape {
    #[default]
    None,
    /// Behind the escape character.
    Begun,
    /// Behind `ESC [`: numbers, then a letter.
    Numbers,
    /// Behind `ESC ]` and the like: a text up to a bell or another escape.
    Text,
}

impl Printed {
    fn push(&mut self, text: &str) {
        self.count = self.count.wrapping_add(text.len());
        for c in text.chars() {
            self.push_char(c);
        }
        keep_the_last(&mut self.text);
        keep_the_last(&mut self.spaced);
    }

    fn push_char(&mut self, c: char) {
        let c = match (self.escape, c) {
            (_, '\x1b') => {
                self.escape = Escape::Begun;
                return;
            }
            (Escape::None, c) => c,
            (Escape::Begun, '[') => {
                self.escape = Escape::Numbers;
                return;
            }
            (Escape::Begun, ']' | 'P' | '_' | '^') => {
                self.escape = Escape::Text;
                return;
            }
            // The cursor goes elsewhere: what follows is no part of the word before.
            (Escape::Numbers, 'H' | 'f') => {
                self.escape = Escape::None;
                '\n'
            }
            (Escape::Numbers, '\x20'..='\x3f') | (Escape::Begun, ' '..='/') => return,
            (Escape::Text, c) if c != '\x07' => return,
            _ => {
                self.escape = Escape::None;
                return;
            }
        };
        if c.is_whitespace() {
            if !self.spaced.ends_with(' ') {
                self.spaced.push(' ');
            }
            if c != '\r' {
                self.text.push(c);
            }
        } else if !c.is_control() {
            self.spaced.push(c);
            self.text.push(c);
        }
    }

    /// Whether a text was printed; what stands before its end is not looked at again.
    fn take(&mut self, wanted: &str) -> bool {
        let Some(at) = self.spaced.find(wanted) else { return false };
        self.spaced.drain(..at + wanted.len());
        true
    }
}
