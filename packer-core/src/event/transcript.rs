//! The transcript: what Packer would say of a run, event by event. The one translation under its output for
//! people and its output for programs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::reason::{rebuilt_text, reused_text};
use super::{Event, EventKind, Level};
use crate::artifact::Artifact;
use crate::diagnostic::packer_layout;
use crate::ledger::Resource;

/// Something to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A text for people.
    Say {
        /// Whether it tells of a failure.
        level: Level,
        /// The place in the list of builds of the build that says it; `None` where the run does.
        build: Option<usize>,
        /// The text, without a final line end; each line of a build's output already begins with its name.
        text: String,
    },
    /// The line that names the colour of a build's output. It belongs to output for people alone.
    Legend {
        /// The place in the list of builds.
        build: usize,
        /// The text.
        text: String,
    },
    /// Fields for programs.
    Data {
        /// The build they are about; empty where they are about the run.
        target: String,
        /// What they are.
        category: Cow<'static, str>,
        /// The fields, in order.
        fields: Vec<String>,
    },
}

/// Turns the events of one run into what Packer would say. Feed it every event in order.
///
/// Steps, progress, resources and the like have no words of Packer's and are left out.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    builds: Vec<Outcome>,
    cancelled: bool,
    outputs: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone)]
struct Outcome {
    name: Arc<str>,
    error: Option<String>,
    artifacts: Vec<Artifact>,
}

impl Transcript {
    /// Nothing has happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// What there is to say of an event.
    pub fn entries(&mut self, event: &Event) -> Vec<Entry> {
        let build = event.build.as_deref().map(|name| self.number(name));
        match &event.kind {
            EventKind::RunStarted { builds, .. } => self.started(builds),
            EventKind::Say { level, text } => vec![say(*level, build, targeted(event, text))],
            EventKind::Output { level, line } => vec![say(*level, build, targeted(event, line))],
            EventKind::BuildFinished { elapsed, artifacts } => {
                let text = format!("Build '{}' finished after {}.", name(event), duration_text(*elapsed));
                self.record(build, None, artifacts);
                vec![say(Level::Info, build, text)]
            }
            EventKind::BuildFailed { elapsed, error, .. } => {
                let text =
                    format!("Build '{}' errored after {}: {error}", name(event), duration_text(*elapsed));
                self.record(build, Some(&error.message), &[]);
                vec![say(Level::Error, build, text)]
            }
            EventKind::BuildSkipped { reason } => {
                let text = format!("Build '{}' was not started: {reason}", name(event));
                if !self.cancelled {
                    self.record(build, Some(&format!("not started: {reason}")), &[]);
                }
                vec![say(Level::Error, build, text)]
            }
            EventKind::RunFinished { cancelled, elapsed, .. } => self.finished(*cancelled, *elapsed),
            EventKind::Outputs { outputs } => {
                self.outputs.clone_from(outputs);
                Vec::new()
            }
            EventKind::Cancelling { reason } => {
                self.cancelled = true;
                vec![say(Level::Error, None, format!("Cancelling build after receiving {reason}"))]
            }
            EventKind::CleanupAbandoned { left } => vec![say(Level::Error, None, abandoned(left))],
            EventKind::ResourceLeft { resource, error } => {
                vec![say(
                    Level::Error,
                    build,
                    targeted(event, &format!("Could not remove {resource}, it still exists: {error}")),
                )]
            }
            EventKind::Diagnostic { diagnostic } => {
                let level = if diagnostic.is_error() { Level::Error } else { Level::Info };
                vec![say(level, None, packer_layout(diagnostic))]
            }
            EventKind::Data { category, fields } => vec![Entry::Data {
                target: name(event).to_owned(),
                category: category.clone().into(),
                fields: fields.iter().flat_map(|(k, v)| [k.clone(), v.clone()]).collect(),
            }],
            EventKind::StepReused { number, steps, provisioner, name: step } => {
                let text = reused_text(*number, *steps, provisioner, step);
                vec![say(Level::Info, build, targeted(event, &text))]
            }
            EventKind::StepRebuilt { number, steps, provisioner, name: step, reasons } => {
                let text = rebuilt_text(*number, *steps, provisioner, step, reasons);
                vec![say(Level::Info, build, targeted(event, &text))]
            }
            EventKind::CachePruned { released } => {
                let what = if released.len() == 1 {
                    "1 saved state".to_owned()
                } else {
                    format!("{} saved states", released.len())
                };
                vec![say(Level::Info, None, format!("==> Pruned {what} from the step cache."))]
            }
            EventKind::CacheTrouble { error } if build.is_some() => {
                vec![say(Level::Error, build, targeted(event, &error.message))]
            }
            EventKind::CacheTrouble { error } => vec![say(Level::Error, None, format!("==> {error}"))],
            EventKind::Asked { .. }
            | EventKind::Checkpointed { .. }
            | EventKind::BuildStarted { .. }
            | EventKind::FailureIgnored { .. }
            | EventKind::PluginProvided { .. }
            | EventKind::Other { .. }
            | EventKind::PostProcessorFinished { .. }
            | EventKind::PostProcessorStarted { .. }
            | EventKind::HostKeyUnchecked { .. }
            | EventKind::Screen { .. }
            | EventKind::SecretTooShort { .. }
            | EventKind::Served { .. }
            | EventKind::Progress { .. }
            | EventKind::ProvisionerFinished { .. }
            | EventKind::ProvisionerStarted { .. }
            | EventKind::ResourceOwned { .. }
            | EventKind::ResourceReleased { .. }
            | EventKind::Retrying { .. }
            | EventKind::StepFinished { .. }
            | EventKind::StepStarted { .. }
            | EventKind::TimedOut { .. }
            | EventKind::Waiting { .. } => Vec::new(),
        }
    }

    fn started(&mut self, names: &[String]) -> Vec<Entry> {
        self.builds.clear();
        self.cancelled = false;
        self.outputs.clear();
        for name in names {
            // Builds of one name share what is told under it, as they cannot be told apart.
            self.number(name);
        }
        let legend = |(build, name): (usize, &String)| Entry::Legend {
            build,
            text: format!("{name}: output will be in this color."),
        };
        let mut entries: Vec<Entry> = names.iter().enumerate().map(legend).collect();
        if let Some(Entry::Legend { text, .. }) = entries.last_mut() {
            text.push('\n');
        }
        entries
    }

    fn finished(&self, cancelled: bool, elapsed: Duration) -> Vec<Entry> {
        let mut entries =
            vec![say(Level::Info, None, format!("\n==> Wait completed after {}", duration_text(elapsed)))];
        if cancelled {
            let text = "Cleanly cancelled builds after being interrupted.";
            entries.push(say(Level::Info, None, text.to_owned()));
            return entries;
        }
        let failed: Vec<_> = self.builds.iter().filter_map(|b| Some((b, b.error.as_ref()?))).collect();
        if !failed.is_empty() {
            entries.push(data("", "error-count", [failed.len().to_string()]));
            let text = "\n==> Some builds didn't complete successfully and had errors:";
            entries.push(say(Level::Error, None, text.to_owned()));
            for (build, error) in failed {
                entries.push(data(&build.name, "error", [error.clone()]));
                entries.push(say(Level::Error, None, format!("--> {}: {error}", build.name)));
            }
        }
        let made: Vec<_> = self.builds.iter().filter(|b| !b.artifacts.is_empty()).collect();
        if made.is_empty() {
            let text = "\n==> Builds finished but no artifacts were created.";
            entries.push(say(Level::Info, None, text.to_owned()));
            self.list_outputs(&mut entries);
            return entries;
        }
        let text = "\n==> Builds finished. The artifacts of successful builds are:";
        entries.push(say(Level::Info, None, text.to_owned()));
        for build in made {
            entries.push(data(&build.name, "artifact-count", [build.artifacts.len().to_string()]));
            for (index, artifact) in build.artifacts.iter().enumerate() {
                entries.extend(artifact_data(&build.name, index, artifact));
                let text = format!("--> {}: {}", build.name, artifact.description);
                entries.push(say(Level::Info, None, text));
            }
        }
        self.list_outputs(&mut entries);
        entries
    }

    /// Texts as they are, everything else as JSON.
    fn list_outputs(&self, entries: &mut Vec<Entry>) {
        if self.outputs.is_empty() {
            return;
        }
        entries.push(say(Level::Info, None, "\n==> Outputs:".to_owned()));
        for (name, value) in &self.outputs {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            entries.push(say(Level::Info, None, format!("--> {name}: {text}")));
            entries.push(data("", "output", [name.clone(), text]));
        }
    }

    fn record(&mut self, build: Option<usize>, error: Option<&str>, artifacts: &[Artifact]) {
        if let Some(outcome) = build.and_then(|i| self.builds.get_mut(i)) {
            outcome.artifacts.extend_from_slice(artifacts);
            if let Some(error) = error {
                outcome.error = Some(error.to_owned());
            }
        }
    }

    /// The place of a build in the list; one that nobody announced is put at its end.
    fn number(&mut self, name: &str) -> usize {
        self.builds.iter().position(|b| &*b.name == name).unwrap_or_else(|| {
            self.builds.push(Outcome { name: name.into(), error: None, artifacts: Vec::new() });
            self.builds.len() - 1
        })
    }
}

fn say(level: Level, build: Option<usize>, text: String) -> Entry {
    Entry::Say { level, build, text }
}

fn data(target: &str, category: &'static str, fields: impl IntoIterator<Item = String>) -> Entry {
    Entry::Data { target: target.to_owned(), category: category.into(), fields: fields.into_iter().collect() }
}

fn artifact_data(target: &str, index: usize, artifact: &Artifact) -> Vec<Entry> {
    let index = index.to_string();
    let row = |fields: &[&str]| {
        let fields = std::iter::once(index.as_str()).chain(fields.iter().copied()).map(str::to_owned);
        data(target, "artifact", fields)
    };
    let mut entries = vec![
        row(&["builder-id", &artifact.builder_id]),
        row(&["id", &artifact.id]),
        row(&["string", &artifact.description]),
        row(&["files-count", &artifact.files.len().to_string()]),
    ];
    for (i, file) in artifact.files.iter().enumerate() {
        entries.push(row(&["file", &i.to_string(), &file.to_string_lossy()]));
    }
    entries.push(row(&["end"]));
    entries
}

fn name(event: &Event) -> &str {
    event.build.as_deref().unwrap_or_default()
}

/// The text with the name of its build before each line, and that of its post-processor behind the name.
fn targeted(event: &Event, text: &str) -> String {
    let Some(build) = &event.build else { return text.to_owned() };
    let target = match &event.post_processor {
        Some(kind) => format!("{build} ({kind})"),
        None => build.to_string(),
    };
    let lines: Vec<String> = text.split('\n').map(|line| format!("==> {target}: {line}")).collect();
    lines.join("\n").trim_end().to_owned()
}

fn abandoned(left: &[Resource]) -> String {
    if left.is_empty() {
        return "Cleanup was abandoned; nothing is left behind.".to_owned();
    }
    let mut text = "Cleanup was abandoned. These still exist:".to_owned();
    for resource in left {
        text.push_str(&format!("\n    {resource}"));
        if !resource.component.is_empty() {
            text.push_str(&format!(" (made by {} for {})", resource.component, resource.build));
        }
    }
    text
}

/// A duration in words: its first two units that are not zero, `26 milliseconds 74 microseconds`; empty below one
/// microsecond.
pub fn duration_text(duration: Duration) -> String {
    const UNITS: [(&str, u128); 8] = [
        ("year", 365 * 24 * 3600 * 1_000_000),
        ("week", 7 * 24 * 3600 * 1_000_000),
        ("day", 24 * 3600 * 1_000_000),
        ("hour", 3600 * 1_000_000),
        ("minute", 60 * 1_000_000),
        ("second", 1_000_000),
        ("millisecond", 1000),
        ("microsecond", 1),
    ];
    let mut rest = duration.as_micros();
    let mut words = Vec::new();
    for (unit, size) in UNITS {
        let count = rest / size;
        rest %= size;
        if count > 0 && words.len() < 2 {
            words.push(format!("{count} {unit}{}", if count == 1 { "" } else { "s" }));
        }
    }
    words.join(" ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::diagnostic::Diagnostic;
    use crate::error::{Error, ErrorInfo};
    use jiff::Timestamp;

    /// Events at one-second distances from the beginning of 1970.
    pub(in super::super) fn events(kinds: Vec<(Option<&str>, Option<&str>, EventKind)>) -> Vec<Event> {
        let event =
            |(number, (build, post_processor, kind)): (usize, (Option<&str>, Option<&str>, EventKind))| {
                Event {
                    time: Timestamp::from_second(number as i64).unwrap(),
                    sequence: number as u64,
                    build: build.map(Into::into),
                    post_processor: post_processor.map(Into::into),
                    kind,
                }
            };
        kinds.into_iter().enumerate().map(event).collect()
    }

    /// Two builds: `null.a` makes two artifacts, `b.null.b` fails.
    pub(in super::super) fn two_builds() -> Vec<Event> {
        let (a, b) = (Some("null.a"), Some("b.null.b"));
        let second = Duration::from_secs(1);
        let say = |level, text: &str| EventKind::Say { level, text: text.into() };
        let file = Artifact::new("packer.file", "File").describe("Stored file: a,1").file("a,1");
        events(vec![
            (None, None, EventKind::Diagnostic { diagnostic: Diagnostic::warning("W").detail("D.") }),
            (
                None,
                None,
                EventKind::RunStarted {
                    run_id: "r".into(),
                    builds: vec!["null.a".into(), "b.null.b".into()],
                },
            ),
            (a, None, say(Level::Info, "one\n two \n\n")),
            (b, None, EventKind::Output { level: Level::Error, line: "oh, no".into() }),
            (a, Some("compress"), say(Level::Info, "packing")),
            (
                a,
                None,
                EventKind::Progress { id: 1, title: "t".into(), done: 1, total: None, finished: false },
            ),
            (
                b,
                None,
                EventKind::BuildFailed {
                    elapsed: second,
                    error: ErrorInfo::from(&Error::guest("E\nF")),
                    artifacts: vec![],
                },
            ),
            (
                a,
                None,
                EventKind::BuildFinished {
                    elapsed: second * 90,
                    artifacts: vec![Artifact::new("n", "").describe("Nothing"), file],
                },
            ),
            (None, None, EventKind::RunFinished { failed: 1, cancelled: false, elapsed: second * 2 }),
        ])
    }

    /// What a plain sink prints of them.
    fn printed(events: &[Event]) -> String {
        let mut transcript = Transcript::new();
        let texts = events.iter().flat_map(|e| transcript.entries(e)).filter_map(|entry| match entry {
            Entry::Say { text, .. } => Some(text + "\n"),
            _ => None,
        });
        texts.collect()
    }

    #[test]
    fn a_cancelled_run_lists_nothing_and_abandoned_cleanup_everything() {
        let left = vec![Resource {
            component: "docker".into(),
            build: "a".into(),
            ..Resource::new("container", "c")
        }];
        let resource = Resource::file("/x");
        let seconds = Duration::from_secs(3);
        let text = printed(&events(vec![
            (None, None, EventKind::RunStarted { run_id: "r".into(), builds: vec!["a".into(), "b".into()] }),
            (None, None, EventKind::Cancelling { reason: "interrupt".into() }),
            (Some("b"), None, EventKind::BuildSkipped { reason: "the run was cancelled".into() }),
            (
                Some("a"),
                None,
                EventKind::ResourceLeft { resource, error: (&crate::Error::provider("busy")).into() },
            ),
            (None, None, EventKind::CleanupAbandoned { left }),
            (None, None, EventKind::RunFinished { failed: 1, cancelled: true, elapsed: seconds }),
        ]));
        assert_eq!(
            text,
            "Cancelling build after receiving interrupt\n\
             Build 'b' was not started: the run was cancelled\n\
             ==> a: Could not remove file /x, it still exists: busy\n\
             Cleanup was abandoned. These still exist:\n\
             \x20   container c (made by docker for a)\n\
             \n==> Wait completed after 3 seconds\n\
             Cleanly cancelled builds after being interrupted.\n"
        );
    }

    #[test]
    fn a_build_that_was_not_started_counts_as_failed() {
        let text = printed(&events(vec![
            (None, None, EventKind::RunStarted { run_id: "r".into(), builds: vec!["a".into()] }),
            (Some("a"), None, EventKind::BuildSkipped { reason: "it needs b".into() }),
            (None, None, EventKind::RunFinished { failed: 1, cancelled: false, elapsed: Duration::ZERO }),
        ]));
        assert!(text.contains("had errors:\n--> a: not started: it needs b\n"), "{text}");
        assert!(text.ends_with("==> Builds finished but no artifacts were created.\n"), "{text}");
    }

    #[test]
    fn durations_show_their_first_two_units() {
        for (micros, text) in [
            (0, ""),
            (1, "1 microsecond"),
            (26_074, "26 milliseconds 74 microseconds"),
            (1_000_000, "1 second"),
            (3_600_000_000 + 5_000_000 + 1, "1 hour 5 seconds"),
            (90_061_000_000, "1 day 1 hour"),
            (366 * 24 * 3_600_000_000, "1 year 1 day"),
        ] {
            assert_eq!(duration_text(Duration::from_micros(micros)), text);
        }
    }
}
