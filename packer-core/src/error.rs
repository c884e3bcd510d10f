//! The error of everything that runs: what failed, where, whose fault it looks like, and whether to try again.

use std::fmt;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};

use crate::diagnostic::{Diagnostics, Location};
use crate::secrets::Secrets;

mod unreachable;

pub use unreachable::Unreachable;

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
    /// What this version does not know, since a later one wrote it.
    #[serde(other)]
    Other,
}

/// In small letters, as it is serialized.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled",
            Self::Guest => "guest",
            Self::Internal => "internal",
            Self::Network => "network",
            Self::Provider => "provider",
            Self::Quota => "quota",
            Self::User => "user",
            Self::Other => "other",
        })
    }
}

/// An error of a running component or of the engine.
///
/// `Display` is one line where the message is one; `Debug`, which a `main` that returns it prints, adds fault, step, place
/// and causes. It never holds a secret in clear by the time a sink or a report sees it: the engine scrubs texts on the
/// way out. Events carry it as [`ErrorInfo`], which is also what it serializes as.
///
/// ```
/// use packer_core::{Error, Fault};
/// let error = Error::new(Fault::Network, "connection reset").retryable().in_step("connect");
/// assert_eq!(error.to_string(), "connection reset");
/// assert!(error.is_retryable());
/// assert_eq!(format!("{error:?}"), "connection reset (network, retryable, in step \"connect\")");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    message: String,
    fault: Fault,
    retryable: bool,
    step: Option<String>,
    location: Option<Location>,
    unreachable: Option<Unreachable>,
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
            unreachable: None,
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

    /// Without secrets in any of its texts; of its causes only the texts stay.
    #[must_use]
    pub(crate) fn scrubbed(mut self, secrets: &Secrets) -> Self {
        if secrets.is_empty() {
            return self;
        }
        let clean = |text: &str| secrets.scrub_prose(text).into_owned();
        self.0.message = clean(&self.0.message);
        self.0.step = self.0.step.as_deref().map(clean);
        self.0.location.iter_mut().for_each(|place| place.mask(secrets));
        self.0.unreachable = self.why_unreachable();
        let causes: Vec<String> = self.causes().map(|cause| clean(&cause.to_string())).collect();
        let chain = causes.into_iter().rev().fold(None, |source, message| {
            let source: Option<Box<Cause>> = source.map(Box::new);
            Some(Cause { message, source })
        });
        self.0.source = chain.map(Into::into);
        self
    }

    /// What caused it, the nearest first; of a very long chain the first ones.
    pub fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        /// An error that names itself as its cause would have no end.
        const MOST: usize = 32;
        let first: Option<&(dyn std::error::Error + 'static)> = self.0.source.as_deref().map(|e| e as _);
        std::iter::successors(first, |cause| cause.source()).take(MOST)
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
        write!(f, "{} ({}", self.0.message, self.0.fault)?;
        if self.0.retryable {
            f.write_str(", retryable")?;
        }
        if let Some(step) = &self.0.step {
            write!(f, ", in step {step:?}")?;
        }
        if let Some(location) = &self.0.location {
            write!(f, ", at {location}")?;
        }
        f.write_str(")")?;
        self.causes().try_for_each(|cause| write!(f, "\n  caused by: {cause}"))
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
        ErrorInfo::from(self).serialize(serializer)
    }
}

/// An [`Error`] as data: what events and reports carry, and what can be read again from where they were written.
///
/// `Display` is the message.
///
/// ```
/// use packer_core::error::ErrorInfo;
/// use packer_core::{Error, Fault};
/// let error = Error::io("open", "/no/such", std::fs::File::open("/no/such").unwrap_err());
/// let json = serde_json::to_string(&error).unwrap();
/// let info: ErrorInfo = serde_json::from_str(&json).unwrap();
/// assert_eq!(info, ErrorInfo::from(&error));
/// assert_eq!((info.fault, info.causes.len()), (Fault::User, 1));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorInfo {
    /// The message.
    pub message: String,
    /// Whose fault it looks like.
    pub fault: Fault,
    /// Whether another try may succeed without a change.
    #[serde(default)]
    pub retryable: bool,
    /// The step it happened in.
    #[serde(default)]
    pub step: Option<String>,
    /// The place in a template it comes from.
    #[serde(default)]
    pub location: Option<Location>,
    /// What caused it, in words, the nearest first.
    #[serde(default)]
    pub causes: Vec<String>,
    /// Why a machine could not be entered, where that is what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<Unreachable>,
}

impl ErrorInfo {
    /// Takes the secrets out of every text, also out of the source text that the place shows.
    pub(crate) fn scrub(&mut self, secrets: &Secrets) {
        for text in [&mut self.message].into_iter().chain(&mut self.step).chain(&mut self.causes) {
            if let std::borrow::Cow::Owned(scrubbed) = secrets.scrub_prose(text.as_str()) {
                *text = scrubbed;
            }
        }
        self.location.iter_mut().for_each(|place| place.mask(secrets));
    }
}

impl From<&Error> for ErrorInfo {
    fn from(error: &Error) -> Self {
        Self {
            message: error.0.message.clone(),
            fault: error.0.fault,
            retryable: error.0.retryable,
            step: error.0.step.clone(),
            location: error.0.location.clone(),
            causes: error.causes().map(ToString::to_string).collect(),
            unreachable: error.why_unreachable(),
        }
    }
}

impl fmt::Display for ErrorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What is left of the cause of an error when its secrets are gone: the text.
#[derive(Debug)]
struct Cause {
    message: String,
    source: Option<Box<Self>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
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
        assert_eq!(format!("{error:?}"), "x (guest, in step \"inner\")");
    }

    #[test]
    fn causes_stay_without_their_secrets() {
        let inner = Error::network("key s3cret refused").with_source(io::Error::other("s3cret again"));
        let error = Error::provider("no machine").with_source(inner).in_step("connect s3cret");
        let secrets = Secrets::new();
        secrets.add("s3cret");
        let error = error.scrubbed(&secrets);
        let causes: Vec<String> = error.causes().map(ToString::to_string).collect();
        assert_eq!(causes, ["key <sensitive> refused", "<sensitive> again"]);
        assert_eq!(
            format!("{error:?}"),
            "no machine (provider, in step \"connect <sensitive>\")\n  caused by: key <sensitive> refused\n  \
             caused by: <sensitive> again"
        );
        let info = ErrorInfo::from(&error);
        let json = serde_json::to_value(&error).unwrap();
        assert_eq!(json["causes"], serde_json::json!(causes));
        assert_eq!(serde_json::from_value::<ErrorInfo>(json).unwrap(), info);
    }
}
