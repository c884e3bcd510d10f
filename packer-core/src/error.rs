//! The error of everything that runs: what failed, where, whose fault it looks like, and whether to try again.

use std::fmt;
use std::io;
use std::path::Path;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::diagnostic::{Diagnostics, Location};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault a failure looks like: what a host decides by (mend the template, look into the guest, wait, ask for quota).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Fault {
    /// The run was cancelled.
    Cancelled,
    /// A command in the machine failed.
    Guest,
    /// A bug of ours or of a component.
    Internal,
    /// A connection could not be made or broke.
    Network,
    /// What runs the machine (cloud, hypervisor, container engine, this computer's disk) refused or broke.
    Provider,
    /// A limit of an account or a machine was reached.
    Quota,
    /// The configuration or an input file is wrong.
    User,
}

/// An error of a running component or of the engine.
///
/// `Display` is one line where the message is one; `Debug` adds fault, step and place. It never holds a
/// secret in clear by the time a sink or a report sees it: the engine scrubs texts on the way out.
///
/// ```
/// use packer_core::{Error, Fault};
/// let error = Error::new(Fault::Network, "connection reset").retryable().in_step("connect");
/// assert_eq!(error.to_string(), "connection reset");
/// assert!(error.is_retryable());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    message: String,
    fault: Fault,
    retryable: bool,
    step: Option<String>,
    location: Option<Location>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with its fault and message.
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            message: message.into(),
            fault,
            retryable: false,
            step: None,
            location: None,
            source: None,
        }))
    }

    /// Wrong configuration or input.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(Fault::User, message)
    }

    /// A failure in the machine.
    pub fn guest(message: impl Into<String>) -> Self {
        Self::new(Fault::Guest, message)
    }

    /// A failure of a connection; worth retrying.
    pub fn network(message: impl Into<String>) -> Self {
        Self::new(Fault::Network, message).retryable()
    }

    /// A failure of what runs the machine.
    pub fn provider(message: impl Into<String>) -> Self {
        Self::new(Fault::Provider, message)
    }

    /// A bug: something that the code says cannot happen.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Fault::Internal, message)
    }

    /// The work was cancelled.
    pub fn cancelled() -> Self {
        Self::new(Fault::Cancelled, "context canceled")
    }

    /// A failed file operation, worded `VERB PATH: reason` (`open a.txt: no such file or directory`).
    pub fn io(verb: &str, path: impl AsRef<Path>, error: io::Error) -> Self {
        let fault = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => {
                Fault::User
            }
            _ => Fault::Provider,
        };
        Self::new(fault, format!("{verb} {}: {}", path.as_ref().display(), os_text(&error)))
            .with_source(error)
    }

    /// Marks it as worth another try.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.0.retryable = true;
        self
    }

    /// Names the step it happened in, unless one is named already.
    #[must_use]
    pub fn in_step(mut self, step: impl Into<String>) -> Self {
        self.0.step.get_or_insert_with(|| step.into());
        self
    }

    /// Names the place in a template it comes from, unless one is named already.
    #[must_use]
    pub fn at(mut self, location: &Location) -> Self {
        self.0.location.get_or_insert_with(|| location.clone());
        self
    }

    /// Keeps the error that caused this one; its text is not part of `Display`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts words in front of the message: `"PREFIX: MESSAGE"`.
    #[must_use]
    pub fn context(mut self, prefix: impl fmt::Display) -> Self {
        self.0.message = format!("{prefix}: {}", self.0.message);
        self
    }

    /// The message with other words; everything else stays.
    #[must_use]
    pub(crate) fn map_message(mut self, change: impl FnOnce(&str) -> String) -> Self {
        self.0.message = change(&self.0.message);
        self
    }

    /// The message with every text changed by `change` (how the engine scrubs secrets).
    #[must_use]
    pub(crate) fn map_text(mut self, change: impl Fn(&str) -> String) -> Self {
        self.0.message = change(&self.0.message);
        self.0.source = None;
        self
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whose fault it looks like.
    pub fn fault(&self) -> Fault {
        self.0.fault
    }

    /// Whether another try may succeed without a change.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Whether it only says that the work was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.fault == Fault::Cancelled
    }

    /// The step it happened in.
    pub fn step(&self) -> Option<&str> {
        self.0.step.as_deref()
    }

    /// The place in a template it comes from.
    pub fn location(&self) -> Option<&Location> {
        self.0.location.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}", self.0.message, self.0.fault)?;
        if self.0.retryable {
            f.write_str(", retryable")?;
        }
        if let Some(step) = &self.0.step {
            write!(f, ", in step {step:?}")?;
        }
        if let Some(location) = &self.0.location {
            write!(f, ", at {location}")?;
        }
        f.write_str(")")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

impl From<Diagnostics> for Error {
    /// A user's error with the findings as text, at the place of the first.
    fn from(diagnostics: Diagnostics) -> Self {
        let error = Self::user(diagnostics.to_string());
        match diagnostics.iter().find(|d| d.is_error()).and_then(|d| d.location.as_ref()) {
            Some(location) => error.at(location),
            None => error,
        }
    }
}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut s = serializer.serialize_struct("Error", 5)?;
        s.serialize_field("message", &self.0.message)?;
        s.serialize_field("fault", &self.0.fault)?;
        s.serialize_field("retryable", &self.0.retryable)?;
        s.serialize_field("step", &self.0.step)?;
        s.serialize_field("location", &self.0.location)?;
        s.end()
    }
}

/// The text of an operating system's error as Go and C programs print it: `no such file or directory`.
pub fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_errors_read_like_the_systems_own() {
        let error = std::fs::File::open("/no/such/file").unwrap_err();
        let error = Error::io("open", "/no/such/file", error);
        assert_eq!(error.to_string(), "open /no/such/file: no such file or directory");
        assert_eq!(error.fault(), Fault::User);
    }

    #[test]
    fn the_first_step_and_place_stay() {
        let error = Error::guest("x").in_step("inner").in_step("outer");
        assert_eq!(error.step(), Some("inner"));
        assert_eq!(format!("{error:?}"), "x (Guest, in step \"inner\")");
    }
}
