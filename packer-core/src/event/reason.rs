//! Reasons: why a step is not taken from the cache, as data and as a sentence.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a step runs although there is a cache. `Display` says it in words; secrets are masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Nothing is known of an earlier run of this build.
    FirstRun,
    /// A field of the step's configuration is another one. Values are JSON, cut short where they are long.
    Configuration {
        /// Its name; names of nested ones with dots.
        field: String,
        /// What it was; `None` where it was not set.
        from: Option<String>,
        /// What it is; `None` where it is not set.
        to: Option<String>,
    },
    /// The same for the configuration of the builder.
    BuilderConfiguration {
        /// Its name.
        field: String,
        /// What it was.
        from: Option<String>,
        /// What it is.
        to: Option<String>,
    },
    /// A file that the step reads is another one.
    File {
        /// Its path.
        path: String,
        /// What became of it.
        change: FileChange,
    },
    /// What the machine starts from is another one.
    SourceImage {
        /// Its digest before.
        from: String,
        /// Its digest now.
        to: String,
    },
    /// Another step stood in this place.
    OtherStep {
        /// What stood there; `None` where nothing did.
        from: Option<String>,
    },
    /// A step before this one runs again.
    StepBefore,
    /// The step did not succeed when it last ran.
    DidNotSucceed,
    /// The build ended before the step when it last ran.
    NotReached,
    /// There is no saved state of the machine behind it: it was pruned, or never saved.
    NoCheckpoint,
    /// The saved state is not there any more, or cannot be started from.
    Lost {
        /// What was found.
        error: String,
    },
    /// What the step's outcome depends on cannot be known: the provisioner says so, or its block does.
    Volatile {
        /// Whether the user marked it so.
        marked: bool,
    },
    /// The configuration holds values that are known only while the machine runs.
    RunValues {
        /// Their names (`build.ID`); empty where code makes the step when it runs.
        names: Vec<String>,
    },
    /// The component does not tell its configuration.
    NoConfiguration {
        /// Its type.
        component: String,
    },
    /// A file that the step reads, or its configuration, could not be read before it runs.
    Unreadable {
        /// What was found.
        error: String,
    },
    /// The builder cannot say what it starts from, so nothing of the build can be reused.
    NoSource {
        /// The builder's type.
        builder: String,
        /// What went wrong, where something did.
        error: Option<String>,
    },
    /// The builder is made from the artifacts of other builds, which have not run yet. In plans only.
    NeedsBuilds {
        /// Their names.
        names: Vec<String>,
    },
    /// One that this version cannot read, since a later one wrote it. It is written as it was read.
    #[serde(untagged)]
    Other {
        /// What it is called.
        reason: String,
        /// Everything that it says.
        #[serde(flatten)]
        fields: serde_json::Map<String, serde_json::Value>,
    },
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FileChange {
    /// It was not read before.
    Added,
    /// Its content, its mode or what it links to is another one.
    Changed,
    /// It is not read any more.
    Removed,
    /// What this version does not know, since a later one wrote it.
    #[serde(other)]
    Other,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstRun => f.write_str("it runs for the first time"),
            Self::Configuration { field, from, to } => {
                write!(f, "configuration field {field} ")?;
                change(f, from.as_deref(), to.as_deref())
            }
            Self::BuilderConfiguration { field, from, to } => {
                write!(f, "configuration field {field} of the builder ")?;
                change(f, from.as_deref(), to.as_deref())
            }
            Self::File { path, change } => {
                let verb = match change {
                    FileChange::Added => "is new",
                    FileChange::Changed => "changed",
                    FileChange::Removed => "is gone",
                    FileChange::Other => "is another one",
                };
                write!(f, "file {path} {verb}")
            }
            Self::SourceImage { from, to } => write!(f, "source image changed from {from} to {to}"),
            Self::OtherStep { from: Some(from) } => write!(f, "{from} stood in its place"),
            Self::OtherStep { from: None } => f.write_str("the step is new"),
            Self::StepBefore => f.write_str("a step before it runs again"),
            Self::DidNotSucceed => f.write_str("it did not succeed last time"),
            Self::NotReached => f.write_str("it was not reached last time"),
            Self::NoCheckpoint => f.write_str("no state of the machine is saved behind it"),
            Self::Lost { error } => write!(f, "the state saved behind it cannot be used: {error}"),
            Self::Volatile { marked: true } => f.write_str("it is marked volatile"),
            Self::Volatile { marked: false } => f.write_str("what its outcome depends on cannot be known"),
            Self::RunValues { names } if names.is_empty() => f.write_str("it is made only when it runs"),
            Self::RunValues { names } => {
                write!(f, "it needs {}, known only when it runs", names.join(", "))
            }
            Self::NoConfiguration { component } => {
                write!(f, "the component {component:?} does not tell its configuration")
            }
            Self::Unreadable { error } => write!(f, "its inputs cannot be read before it runs: {error}"),
            Self::NoSource { builder, error: None } => {
                write!(f, "the builder {builder:?} cannot say what it starts from")
            }
            Self::NoSource { builder, error: Some(error) } => {
                write!(f, "the builder {builder:?} cannot say what it starts from: {error}")
            }
            Self::NeedsBuilds { names } => {
                write!(f, "it is made from what {} will have made", names.join(", "))
            }
            Self::Other { reason, fields } => {
                f.write_str(&reason.replace('_', " "))?;
                let fields: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                if fields.is_empty() { Ok(()) } else { write!(f, " ({})", fields.join(", ")) }
            }
        }
    }
}

fn change(f: &mut fmt::Formatter<'_>, from: Option<&str>, to: Option<&str>) -> fmt::Result {
    match (from, to) {
        (Some(from), Some(to)) if from == to => write!(f, "changed (it shows as {to} before and after)"),
        (Some(from), Some(to)) => write!(f, "changed from {from} to {to}"),
        (None, Some(to)) => write!(f, "is new: {to}"),
        (Some(from), None) => write!(f, "is gone; it was {from}"),
        (None, None) => f.write_str("changed"),
    }
}

impl Reason {
    /// With every text changed by `clean`, which takes secrets out of it.
    pub(crate) fn scrub(&mut self, clean: &impl Fn(&mut String)) {
        match self {
            Self::Configuration { field, from, to } | Self::BuilderConfiguration { field, from, to } => {
                clean(field);
                from.iter_mut().chain(to).for_each(clean);
            }
            Self::File { path, .. } => clean(path),
            Self::Lost { error } | Self::Unreadable { error } => clean(error),
            Self::NoSource { error, .. } => error.iter_mut().for_each(clean),
            Self::OtherStep { from } => from.iter_mut().for_each(clean),
            Self::NeedsBuilds { names } => names.iter_mut().for_each(clean),
            Self::SourceImage { from, to } => {
                clean(from);
                clean(to);
            }
            Self::Other { fields, .. } => fields.values_mut().for_each(|v| super::scrub_json(v, clean)),
            Self::FirstRun
            | Self::StepBefore
            | Self::DidNotSucceed
            | Self::NotReached
            | Self::NoCheckpoint
            | Self::Volatile { .. }
            | Self::RunValues { .. }
            | Self::NoConfiguration { .. } => {}
        }
    }
}

/// Several reasons as one text.
pub(crate) fn in_words(reasons: &[Reason]) -> String {
    /// How many are told; the rest is counted.
    const TOLD: usize = 5;
    let mut words: Vec<String> = reasons.iter().take(TOLD).map(Reason::to_string).collect();
    if reasons.len() > TOLD {
        words.push(format!("and {} more", reasons.len() - TOLD));
    }
    words.join("; ")
}

/// What is told of a step that was taken from the cache; its number and that of all, its type and its name.
pub(super) fn reused_text(number: usize, steps: usize, kind: &str, name: &str) -> String {
    format!("Step {number} of {steps} ({}) is taken from the cache.", step_label(kind, name))
}

/// What is told of a step that runs although there is a cache.
pub(super) fn rebuilt_text(
    number: usize,
    steps: usize,
    kind: &str,
    name: &str,
    reasons: &[Reason],
) -> String {
    format!("Step {number} of {steps} ({}) runs: {}.", step_label(kind, name), in_words(reasons))
}

/// A step for people: its type, and its name where it has one.
pub(crate) fn step_label(kind: &str, name: &str) -> String {
    if name.is_empty() { kind.to_owned() } else { format!("{kind} {name}") }
}
