//! The language of boot commands: from texts to what is done, one thing after the other.

use std::fmt;
use std::time::Duration;

use super::keys::{Key, Special};
use crate::duration::GoDuration;

/// How long a wait for what a screen shows takes at most, where it does not say.
const LIMIT: Duration = Duration::from_secs(5 * 60);
/// How long nothing may change on a still screen, where the wait does not say.
const STILL: Duration = Duration::from_secs(5);

/// A boot command that was read, to be typed with [`type_into`](super::type_into).
///
/// ```
/// use packer_core::kit::boot_command::BootCommand;
/// let command = BootCommand::parse(&["<esc><wait5s>", "auto <ent", "er>"])?;
/// assert!(!command.is_empty() && !command.uses_extensions());
/// let wrong = BootCommand::parse(&["linux", "x<wait0s>"]).unwrap_err();
/// assert_eq!(wrong.to_string(), "Expecting a positive wait value. Got 0s");
/// assert_eq!((wrong.text_index, wrong.column), (1, 2));
/// # Ok::<(), packer_core::kit::boot_command::BootCommandError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BootCommand {
    pub(super) items: Vec<Item>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    /// Press a key and release it.
    Press(Key),
    /// Press a key and hold it.
    Hold(Key),
    Release(Key),
    Wait(Duration),
    /// Until the machine shows this text.
    WaitText {
        text: String,
        limit: Duration,
    },
    /// Until nothing changes on the screen for a while.
    WaitStill {
        still: Duration,
        limit: Duration,
    },
}

/// What is wrong with a boot command, and where. `Display` is the message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BootCommandError {
    /// The text that it stands in, counted from 0.
    pub text_index: usize,
    /// The character in that text at which what is wrong begins, counted from 1.
    pub column: usize,
    /// What is wrong, in Packer's words.
    pub message: String,
}

impl fmt::Display for BootCommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BootCommandError {}

impl BootCommand {
    /// Reads texts that are typed one behind the other, with nothing between. They are to be rendered before.
    ///
    /// # Errors
    /// A wait of no time, or of more than can be counted. What is no key and no wait is typed as it is.
    pub fn parse(texts: &[impl AsRef<str>]) -> Result<Self, BootCommandError> {
        let all: String = texts.iter().map(AsRef::as_ref).collect();
        let mut items = Vec::new();
        let mut rest = all.as_str();
        while let Some(first) = rest.chars().next() {
            let here = all.len() - rest.len();
            let found = match first {
                '<' => bracket(&all, here).map_err(|message| error(texts, here, message))?,
                _ => None,
            };
            let (item, length) = found.unwrap_or((Item::Press(Key::Char(first)), first.len_utf8()));
            items.push(item);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(Self { items })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether it waits for a text that the machine shows.
    pub fn waits_for_text(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::WaitText { .. }))
    }

    /// Whether it uses what Packer does not know and would type as it is.
    pub fn uses_extensions(&self) -> bool {
        self.waits_for_text() || self.items.iter().any(|item| matches!(item, Item::WaitStill { .. }))
    }
}

/// An error at a byte of all the texts.
fn error(texts: &[impl AsRef<str>], mut at: usize, message: String) -> BootCommandError {
    for (text_index, text) in texts.iter().map(AsRef::as_ref).enumerate() {
        match text.get(..at) {
            Some(before) if at < text.len() => {
                return BootCommandError { text_index, column: before.chars().count() + 1, message };
            }
            _ => at = at.saturating_sub(text.len()),
        }
    }
    BootCommandError { text_index: 0, column: 1, message }
}

/// What stands in brackets, and its length with them; `None` where it is to be typed as it is. `at` is where the bracket
/// opens.
fn bracket(all: &str, at: usize) -> Result<Option<(Item, usize)>, String> {
    let text = all.get(at + 1..).unwrap_or_default();
    if let Some(after) = text.strip_prefix("wait") {
        let found = match after.as_bytes().first() {
            Some(b' ') => seen(after)?,
            _ => wait(all, all.len() - after.len())?,
        };
        if let Some((item, length)) = found {
            return Ok(Some((item, length + "<wait".len())));
        }
    }
    if let Some(c) = text.chars().next()
        && let Some(after) = text.get(c.len_utf8()..)
    {
        for (word, item) in [("on>", Item::Hold as fn(Key) -> Item), ("off>", Item::Release)] {
            if after.get(..word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word)) {
                return Ok(Some((item(Key::Char(c)), 1 + c.len_utf8() + word.len())));
            }
        }
    }
    let Some((name, _)) = text.split_once('>') else { return Ok(None) };
    Ok(special(name).map(|item| (item, name.len() + 2)))
}

/// `enter`, `leftShiftOn`, `leftShiftOff`.
fn special(name: &str) -> Option<Item> {
    let named = |name: &str| Special::named(name).map(Key::Special);
    let without = |word: &str| {
        let (name, end) = name.split_at_checked(name.len().checked_sub(word.len())?)?;
        named(name).filter(|_| end.eq_ignore_ascii_case(word))
    };
    named(name)
        .map(Item::Press)
        .or_else(|| without("on").map(Item::Hold))
        .or_else(|| without("off").map(Item::Release))
}

/// What follows `<wait` at `at` up to the bracket that closes it, as Packer reads it: nothing, whole seconds, or numbers with
/// units. A number never begins with a zero that could be left out.
fn wait(all: &str, at: usize) -> Result<Option<(Item, usize)>, String> {
    let text = all.get(at..).unwrap_or_default();
    let Some((amount, _)) = text.split_once('>') else { return Ok(None) };
    let length = amount.len() + 1;
    let item = |wait| Ok(Some((Item::Wait(wait), length)));
    if amount.is_empty() {
        return item(Duration::from_secs(1));
    }
    if integer(amount) == Some("") {
        let seconds: Result<i64, _> = amount.parse();
        // The counted place of a parser's message: line, column of characters, offset in bytes.
        let Ok(seconds) = seconds else {
            let before = all.get(..at).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            return Err(format!(
                "{line}:{column} ({at}): rule Integer: strconv.ParseInt: parsing {amount:?}: value out of range"
            ));
        };
        // Packer takes a wait of 0 for one that says nothing.
        return item(GoDuration::from_secs(seconds.max(1)).to_std());
    }
    if !is_duration(amount) {
        return Ok(None);
    }
    positive(amount).map(|wait| Some((Item::Wait(wait), length)))
}

/// What follows a whole number; `None` where there is none.
fn integer(text: &str) -> Option<&str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match (digits, text.as_bytes().first()) {
        (0, _) => None,
        (_, Some(b'0')) => text.get(1..),
        _ => text.get(digits..),
    }
}

/// Whether it is made of numbers with units: `1m30s`, `1.5s`, `-5s`.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let Some(after) = integer(rest.strip_prefix('-').unwrap_or(rest)) else { return false };
        let after = match after.strip_prefix('.') {
            Some(fraction) => match fraction.trim_start_matches(|c: char| c.is_ascii_digit()) {
                end if end.len() == fraction.len() => return false,
                end => end,
            },
            None => after,
        };
        let units = ["ns", "us", "µs", "ms", "s", "m", "h"];
        let Some(end) = units.iter().find_map(|unit| after.strip_prefix(unit)) else { return false };
        rest = end;
    }
    !text.is_empty()
}

/// A duration of some length.
fn positive(text: &str) -> Result<Duration, String> {
    let wait: GoDuration = text.parse()?;
    if wait.is_negative() || wait.is_zero() {
        return Err(format!("Expecting a positive wait value. Got {wait}"));
    }
    Ok(wait.to_std())
}

/// What follows `<wait` in the waits that Packer does not know: ` "TEXT"`, ` "TEXT" LIMIT`, ` still`, ` still DURATION`,
/// ` still DURATION LIMIT`.
fn seen(text: &str) -> Result<Option<(Item, usize)>, String> {
    let words = text.trim_start_matches(' ');
    let (wanted, mut rest) = match words.strip_prefix("still") {
        Some(rest) => (None, rest),
        None => match quoted(words) {
            Some((wanted, rest)) => (Some(wanted), rest),
            None => return Ok(None),
        },
    };
    let mut durations = Vec::new();
    while let Some(more) = rest.strip_prefix(' ') {
        let more = more.trim_start_matches(' ');
        let end = more.find([' ', '>']).unwrap_or(more.len());
        let (duration, after) = more.split_at(end);
        if !is_duration(duration) {
            return Ok(None);
        }
        durations.push(duration);
        rest = after;
    }
    let Some(after) = rest.strip_prefix('>') else { return Ok(None) };
    let length = text.len() - after.len();
    let given = |duration: Option<&&str>, default| duration.map_or(Ok(default), |d| positive(d));
    let item = match (wanted, durations.len()) {
        (Some(text), 0..=1) => Item::WaitText { text, limit: given(durations.first(), LIMIT)? },
        (None, 0..=2) => {
            let still = given(durations.first(), STILL)?;
            Item::WaitStill { still, limit: given(durations.get(1), LIMIT.max(still.saturating_mul(2)))? }
        }
        _ => return Ok(None),
    };
    Ok(Some((item, length)))
}

/// A text in quotes, in which a backslash stands before a quote or a backslash, and what follows. White space at its ends
/// does not count and that inside is one space.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let (mut wanted, mut chars) = (String::new(), inner.char_indices().peekable());
    loop {
        match chars.next()? {
            (at, '"') => {
                let wanted = one_spaced(&wanted);
                return (!wanted.is_empty()).then_some((wanted, inner.get(at + 1..)?));
            }
            (_, '\\') => {
                wanted.push(chars.next_if(|(_, c)| matches!(c, '"' | '\\')).map_or('\\', |(_, c)| c))
            }
            (_, c) => wanted.push(c),
        }
    }
}

/// The words of a text with one space between them.
pub(super) fn one_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
