//! What is typed at a machine that boots: the language of boot commands, and who types them.
//!
//! Texts are typed as they are, one behind the other. In brackets stand keys with a name (`<enter>`, `<f10>`), keys that are
//! held and released (`<leftCtrlOn>c<leftCtrlOff>`) and waits (`<wait>` for a second, `<wait5>`, `<wait1m30s>`).
//!
//! Beyond Packer's language, which would type them as they are:
//!
//! | what | waits until |
//! |---|---|
//! | `<wait "login:">` | the text shows on the serial line (behind what the last such wait found) or on the screen; at most 5 minutes |
//! | `<wait "login:" 90s>` | the same with another limit |
//! | `<wait still>` | nothing changes on the screen for 5 seconds; at most 5 minutes |
//! | `<wait still 10s>`, `<wait still 10s 2m>` | the same with another time, and another limit |
//!
//! In the quotes a backslash stands before a quote or a backslash; all white space is as one space. What is not exactly of
//! this form is typed.
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let bench = packer_core::testing::Bench::new();
//! # let cx = bench.context();
//! use packer_core::kit::boot_command::{self, BootCommand, Key, KeyDriver, Motion, Transcript};
//! use packer_core::Result;
//! use std::time::Duration;
//!
//! #[derive(Default)]
//! struct Typed(String);
//!
//! #[packer_core::async_trait]
//! impl KeyDriver for Typed {
//!     async fn key(&mut self, key: Key, motion: Motion) -> Result<()> {
//!         if let (Key::Char(c), Motion::Down) = (key, motion) {
//!             self.0.push(c);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let command = BootCommand::parse(&["<wait \"login:\">root", "<enter>"]).unwrap();
//! let (mut keys, mut serial) = (Typed::default(), Transcript::new());
//! serial.push("Debian 13\nlogin: ");
//! let pause = Duration::from_millis(1);
//! boot_command::type_into(cx, &command, &mut keys, pause, Duration::ZERO, Some(&mut serial)).await?;
//! assert_eq!(keys.0, "root");
//! # Ok::<(), packer_core::Error>(())
//! # }).unwrap();
//! ```

mod keys;
mod parse;
mod run;
mod sight;
#[cfg(test)]
mod tests;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use keys::{Key, Motion, Special};
pub use parse::{BootCommand, BootCommandError};
pub use run::{KeyDriver, Pace, type_into};
pub use sight::{NotSeen, Seeing, Transcript};

use crate::clock::Clock;
use crate::config::GoTemplate;
use crate::context::{Context, PrepareContext};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::duration::GoDuration;
use crate::language::go_template::Interpolation;

/// What is typed at a machine that boots: the options that builders of whole machines take beside their own, with
/// `#[serde(flatten)]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct BootConfig {
    /// How long the machine is left alone before anything is typed. Default 10 seconds; a negative one is none.
    pub boot_wait: GoDuration,
    /// What is typed: texts, one behind the other, with `<enter>`, `<wait5s>` and the like in them.
    pub boot_command: Vec<GoTemplate>,
    /// The pause behind each group of keys, for machines that take keys in groups.
    pub boot_keygroup_interval: GoDuration,
    /// The pause behind each key. Default `PACKER_KEY_INTERVAL`, else 100 ms.
    pub boot_key_interval: GoDuration,
}

impl BootConfig {
    /// Checks what can be checked before anything is rendered: that the texts are templates, and that they could be typed as
    /// they are now.
    pub fn prepare(&self, cx: &PrepareContext) -> Diagnostics {
        let templates = Interpolation::of_build(&cx.build, Clock::system().now());
        let mut found = Diagnostics::new();
        for text in self.boot_command.iter().map(GoTemplate::as_str) {
            if let Err(e) = templates.check(text) {
                let wrong = format!("invalid 'boot_command': {e} in:\n\n{text}");
                found.push(Diagnostic::error(wrong));
            }
        }
        let texts: Vec<&str> = self.boot_command.iter().map(GoTemplate::as_str).collect();
        if let Err(e) = BootCommand::parse(&texts) {
            let place = format!("It begins at character {} of text {}.", e.column, e.text_index + 1);
            found.push(Diagnostic::error(e.message).detail(place));
        }
        found
    }

    /// How long the machine is left alone before anything is typed.
    pub fn boot_wait(&self) -> Option<Duration> {
        match self.boot_wait {
            wait if wait.is_negative() => None,
            wait if wait.is_zero() => Some(Duration::from_secs(10)),
            wait => Some(wait.to_std()),
        }
    }

    /// The pause behind each key that goes down or up: `boot_key_interval`, else the variable `PACKER_KEY_INTERVAL`, else (also
    /// where that is no duration) 100 ms.
    pub fn key_interval(&self, cx: &Context) -> Duration {
        if self.boot_key_interval > GoDuration::ZERO {
            return self.boot_key_interval.to_std();
        }
        let lent = cx.env("PACKER_KEY_INTERVAL").and_then(|text| text.parse::<GoDuration>().ok());
        lent.map_or(Duration::from_millis(100), GoDuration::to_std)
    }
}
