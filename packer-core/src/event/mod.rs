//! Events: everything a run tells, as typed data; how it looks is a sink's part.

mod json_lines;
mod machine_readable;
#[cfg(feature = "opentelemetry")]
mod open_telemetry;
mod packer_lines;
mod reason;
#[cfg(test)]
mod round_trip;
mod terminal;
mod timeline;
mod transcript;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use json_lines::JsonLines;
pub use machine_readable::{MachineReadable, machine_line};
#[cfg(feature = "opentelemetry")]
pub use open_telemetry::OpenTelemetry;
pub use packer_lines::PackerLines;
pub use reason::{FileChange, Reason};
pub(crate) use reason::{in_words, step_label};
pub use terminal::{ForTerminal, visible};
pub use timeline::Timeline;
pub use transcript::{Entry, Transcript, duration_text};

use crate::artifact::Artifact;
use crate::clock::Clock;
use crate::diagnostic::Diagnostic;
use crate::duration::seconds;
use crate::error::ErrorInfo;
use crate::ledger::Resource;
use crate::secrets::{Secrets, scrub_json};

/// Something that happened in a run.
///
/// What [`JsonLines`] writes can be read again, also what a later version wrote: what this one cannot read is
/// [`EventKind::Other`], and of what it can read, fields that it does not know are left out.
///
/// ```
/// use packer_core::{Event, EventKind};
/// let line = r#"{"time":"2026-01-02T03:04:05Z","sequence":7,"build":"null.a","event":"say","level":"info","text":"hello"}"#;
/// let event: Event = serde_json::from_str(line).unwrap();
/// assert!(matches!(&event.kind, EventKind::Say { text, .. } if text == "hello"));
/// assert_eq!(serde_json::to_string(&event).unwrap(), line);
/// // Of a later version.
/// let line = r#"{"time":"2026-01-02T03:04:05Z","sequence":8,"event":"moon_phase","phase":"full"}"#;
/// let event: Event = serde_json::from_str(line).unwrap();
/// assert!(matches!(&event.kind, EventKind::Other { event, fields } if event == "moon_phase" && fields["phase"] == "full"));
/// assert_eq!(serde_json::to_string(&event).unwrap(), line);
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// Its place in the run, from 0 without gaps: two events of one instant keep their order.
    pub sequence: u64,
    /// The display name of the build it belongs to; `None` where it belongs to the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Arc<str>>,
    /// The type of the post-processor it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_processor: Option<Arc<str>>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened. Texts are scrubbed of secrets before a sink sees them.
///
/// Everything that starts finishes: of each `…Started` a run tells the `…Finished` too, also where the work was cancelled,
/// ran out of time or panicked, unless the process itself dies.
///
/// ```
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # use packer_core::testing::{FakeBuilder, FakeProvisioner, TempFolder, Trouble};
/// # let folder = TempFolder::new();
/// # let builder = FakeBuilder::new(folder.path());
/// # let hanging = FakeProvisioner::run("").trouble(Trouble::Hang);
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
/// use packer_core::{Build, Engine, Event, EventKind, Pipeline, ProvisionerExt};
///
/// /// How far a run is, in a line.
/// fn line(kind: &EventKind) -> Option<String> {
///     match kind {
///         EventKind::ProvisionerStarted { provisioner, number, steps, .. } => {
///             Some(format!("[{number}/{steps}] {provisioner}"))
///         }
///         EventKind::ProvisionerFinished { number, steps, error: Some(error), .. } => {
///             Some(format!("[{number}/{steps}] failed: {} ({})", error.message, error.fault))
///         }
///         _ => None,
///     }
/// }
///
/// let lines = Arc::new(Mutex::new(Vec::new()));
/// let seen = lines.clone();
/// let engine = Engine::new().events(move |event: &Event| seen.lock().unwrap().extend(line(&event.kind)));
/// let build = Build::new("web", builder).provision(hanging.timeout(Duration::from_millis(20)));
/// engine.run(Pipeline::of([build])).await.unwrap();
/// let lines = lines.lock().unwrap();
/// assert_eq!(lines[0], "[1/1] fake");
/// assert!(lines[1].starts_with("[1/1] failed: "));
/// # });
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The run begins: the display names of its builds, in order.
    RunStarted {
        /// Names the run; `PACKER_RUN_UUID` of its children.
        run_id: String,
        /// Display names.
        builds: Vec<String>,
    },
    /// The run is over; the report has the rest.
    RunFinished {
        /// How many builds failed.
        failed: usize,
        /// Whether it was cancelled.
        cancelled: bool,
        /// How long it took.
        #[serde(with = "seconds", rename = "seconds")]
        elapsed: std::time::Duration,
    },
    /// The run's outputs, made when its builds were done; what is sensitive is masked.
    Outputs {
        /// The values by name.
        outputs: BTreeMap<String, serde_json::Value>,
    },
    /// Somebody asked the run to stop.
    Cancelling {
        /// What asked: `interrupt`, `terminated`, or the host's own words.
        reason: String,
    },
    /// Somebody asked for cleanup to be left undone; what is left in the world.
    CleanupAbandoned {
        /// What nobody will release.
        left: Vec<Resource>,
    },
    /// The template requires a plugin whose components are built in, so that none is run: whatever version it asks
    /// for, it gets theirs.
    PluginProvided {
        /// What the plugin's components are called after.
        name: String,
        /// Where the plugin comes from: `github.com/hashicorp/docker`.
        source: String,
        /// The versions that the template asks for.
        version: String,
    },
    /// A build begins.
    BuildStarted {
        /// The builder's type.
        builder: String,
    },
    /// A build succeeded.
    BuildFinished {
        /// How long it took.
        #[serde(with = "seconds", rename = "seconds")]
        elapsed: std::time::Duration,
        /// What it made, in order.
        artifacts: Vec<Artifact>,
    },
    /// A build failed.
    BuildFailed {
        /// How long it took.
        #[serde(with = "seconds", rename = "seconds")]
        elapsed: std::time::Duration,
        /// Why; its place is the block of the template that it failed in.
        error: ErrorInfo,
        /// Artifacts that stay in place although the build failed.
        artifacts: Vec<Artifact>,
    },
    /// A build was not started.
    BuildSkipped {
        /// Why.
        reason: String,
    },
    /// A named piece of work begins.
    StepStarted {
        /// Names the step among all of the run.
        step: u64,
        /// What it does.
        name: String,
    },
    /// A named piece of work is over.
    StepFinished {
        /// The number that `StepStarted` gave.
        step: u64,
        /// What it did.
        name: String,
        /// How long it took.
        #[serde(with = "seconds", rename = "seconds")]
        elapsed: std::time::Duration,
        /// Why it failed; `None` where it did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorInfo>,
    },
    /// A line for people, from the engine or a component.
    Say {
        /// Whether it tells of a failure.
        level: Level,
        /// The text; may have several lines.
        text: String,
    },
    /// A line that a command printed.
    Output {
        /// [`Level::Error`] for its error output.
        level: Level,
        /// The line without its end.
        line: String,
    },
    /// Long work goes on.
    Progress {
        /// Names the work among all of the run.
        id: u64,
        /// What is moved or made.
        title: String,
        /// How much is done, in bytes unless the title says otherwise.
        done: u64,
        /// How much there is, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
        /// Whether this is the last event of the work.
        finished: bool,
    },
    /// A finding about the template or a build's configuration.
    Diagnostic {
        /// The finding.
        diagnostic: Diagnostic,
    },
    /// A secret of the run is too short to be replaced inside of words: told once, for programs that follow the run and for
    /// logs. Lines of Packer's layout do not show it.
    SecretTooShort {
        /// What that means.
        warning: Diagnostic,
    },
    /// A machine was entered whose key nobody could check: neither does its builder know it, nor was it given
    /// (`ssh_host_key`, `ssh_host_key_checking`). Once for each connecting; lines of Packer's layout do not show it.
    HostKeyUnchecked {
        /// The machine.
        host: String,
        /// Its port.
        port: u16,
        /// The key it showed: kind and fingerprint, as `ssh_host_key` takes it behind the blank.
        key: String,
    },
    /// Something is waited for that somebody else makes, such as a machine or an image of a cloud: told when the waiting begins
    /// and where what is seen of it changes. Lines of Packer's layout do not show it.
    Waiting {
        /// What is waited for.
        what: String,
        /// How it is now, in the words of who makes it.
        state: String,
        /// How long it is waited for already.
        #[serde(with = "seconds", rename = "elapsed_seconds")]
        elapsed: std::time::Duration,
        /// How long it may take.
        #[serde(with = "seconds", rename = "limit_seconds")]
        limit: std::time::Duration,
    },
    /// The HTTP server of a build answered a request. Lines of Packer's layout do not show it.
    Served {
        /// The method of the request: `GET`.
        method: String,
        /// The path that was asked for, as it was sent, without its query.
        path: String,
        /// The status of the answer.
        status: u16,
        /// How long the body of the answer is.
        bytes: u64,
        /// Whoever asked: address and port.
        peer: String,
    },
    /// What the screen of a machine showed: in a debugged build while it boots, and where a build fails. Lines of Packer's
    /// layout do not show it.
    Screen {
        /// When or why it was looked at.
        title: String,
        /// The picture, a PNG in base64. Empty where the text on it holds a secret.
        png: String,
        /// The text on it, where it is a text console.
        text: String,
    },
    /// A provisioner begins.
    ProvisionerStarted {
        /// Its type.
        provisioner: String,
        /// Its name in the template; may be empty.
        name: String,
        /// Its number among the provisioners of the build, from 1; 0 for the one that runs when they failed.
        #[serde(default)]
        number: usize,
        /// How many provisioners the build has.
        #[serde(default)]
        steps: usize,
    },
    /// A provisioner is over, with all its tries.
    ProvisionerFinished {
        /// Its type.
        provisioner: String,
        /// Its name in the template; may be empty.
        name: String,
        /// As it was when it started.
        number: usize,
        /// How many provisioners the build has.
        steps: usize,
        /// How long it took.
        #[serde(with = "seconds", rename = "seconds")]
        elapsed: std::time::Duration,
        /// Why it failed, also where the build goes on all the same; `None` where it did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorInfo>,
    },
    /// A provisioner failed and is tried again.
    Retrying {
        /// Why it failed.
        error: ErrorInfo,
        /// How many tries are left.
        left: u32,
    },
    /// A provisioner failed; the build goes on because it was told to.
    FailureIgnored {
        /// Why it failed.
        error: ErrorInfo,
    },
    /// A provisioner ran out of time.
    TimedOut {
        /// Its limit.
        #[serde(with = "seconds", rename = "seconds")]
        limit: std::time::Duration,
    },
    /// A post-processor begins.
    PostProcessorStarted {
        /// Its type.
        kind: String,
        /// Its name in the template; may be empty.
        name: String,
        /// Its number among the post-processors of the build, those of all sequences, from 1.
        #[serde(default)]
        number: usize,
        /// How many post-processors the build has.
        #[serde(default)]
        steps: usize,
    },
    /// A post-processor is over.
    PostProcessorFinished {
        /// Its type.
        kind: String,
        /// Its name in the template; may be empty.
        name: String,
        /// As it was when it started.
        number: usize,
        /// How many post-processors the build has.
        steps: usize,
        /// How long it took.
        #[serde(with = "seconds", rename = "seconds")]
        elapsed: std::time::Duration,
        /// Why it failed; `None` where it did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorInfo>,
    },
    /// A step was taken from the cache: the machine starts from a state that was saved behind it or a later one.
    StepReused {
        /// Its number among the steps of the build, from 1.
        number: usize,
        /// How many steps the build has.
        steps: usize,
        /// The provisioner's type.
        provisioner: String,
        /// Its name in the template; may be empty.
        name: String,
    },
    /// A step runs although there is a cache.
    StepRebuilt {
        /// Its number among the steps of the build, from 1.
        number: usize,
        /// How many steps the build has.
        steps: usize,
        /// The provisioner's type.
        provisioner: String,
        /// Its name in the template; may be empty.
        name: String,
        /// Why.
        reasons: Vec<Reason>,
    },
    /// The state of the machine behind a step was saved, and is in the cache.
    Checkpointed {
        /// The step's number, from 1.
        number: usize,
        /// How many steps the build has.
        steps: usize,
        /// What it was saved as.
        resource: Resource,
    },
    /// Saved states that were too many are gone.
    CachePruned {
        /// What they were saved as.
        released: Vec<Resource>,
    },
    /// Something is wrong with the cache. The build goes on without what could not be used.
    CacheTrouble {
        /// What.
        error: ErrorInfo,
    },
    /// A resource was written into the ledger: it is about to exist.
    ResourceOwned {
        /// The resource.
        resource: Resource,
    },
    /// A resource was released.
    ResourceReleased {
        /// The resource.
        resource: Resource,
    },
    /// A resource could not be released and stays in the ledger.
    ResourceLeft {
        /// The resource.
        resource: Resource,
        /// Why.
        error: ErrorInfo,
    },
    /// A question to whoever sits before the host.
    Asked {
        /// The question.
        question: String,
    },
    /// Something for programs that follow the run: a category and its fields, as in Packer's machine-readable lines.
    Data {
        /// The category.
        category: String,
        /// The fields.
        fields: BTreeMap<String, String>,
    },
    /// One that this version cannot read, since a later one wrote it: of a kind that is new, or has become another. It is written
    /// as it was read. Never told by a run.
    #[serde(untagged)]
    Other {
        /// The kind.
        event: String,
        /// Everything that it says.
        #[serde(flatten)]
        fields: serde_json::Map<String, serde_json::Value>,
    },
}

/// Whether a text tells of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It goes as it should.
    Info,
    /// It does not.
    Error,
}

/// Receives every event of a run.
///
/// Called from the task that emits, one event at a time and in order of `sequence`; what takes long here slows
/// the builds down. It must not call back into the run.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn event(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> EventSink for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}

/// The way events take from a run to its sinks: numbered, stamped and scrubbed. Cheap to clone.
#[derive(Clone)]
pub struct Events(Arc<Hub>);

struct Hub {
    clock: Clock,
    secrets: Secrets,
    sequence: AtomicU64,
    /// Locked while an event is delivered, so that sinks see events in order.
    outlets: RwLock<Outlets>,
    order: std::sync::Mutex<()>,
}

#[derive(Default)]
struct Outlets {
    sinks: Vec<Arc<dyn EventSink>>,
    streams: Vec<mpsc::UnboundedSender<Event>>,
}

impl Events {
    /// Events that go to these sinks.
    pub fn new(clock: Clock, secrets: Secrets, sinks: Vec<Arc<dyn EventSink>>) -> Self {
        Self(Arc::new(Hub {
            clock,
            secrets,
            sequence: AtomicU64::new(0),
            outlets: RwLock::new(Outlets { sinks, streams: Vec::new() }),
            order: std::sync::Mutex::new(()),
        }))
    }

    /// A receiver of every event from now on. It is closed when the run is over; one that is dropped costs nothing.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Event> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut outlets = self.0.outlets.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        outlets.streams.push(sender);
        receiver
    }

    /// Ends every subscription.
    pub(crate) fn close(&self) {
        let mut outlets = self.0.outlets.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        outlets.streams.clear();
    }

    /// Tells an event.
    pub fn emit(&self, build: Option<Arc<str>>, post_processor: Option<Arc<str>>, kind: EventKind) {
        let kind = scrubbed(kind, &self.0.secrets);
        let build = build.map(|name| match self.0.secrets.scrub_prose(&*name) {
            std::borrow::Cow::Owned(scrubbed) => scrubbed.into(),
            std::borrow::Cow::Borrowed(_) => name.clone(),
        });
        let outlets = self.0.outlets.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if outlets.sinks.is_empty() && outlets.streams.is_empty() {
            return;
        }
        let _in_order = self.0.order.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let event = Event {
            time: self.0.clock.now(),
            sequence: self.0.sequence.fetch_add(1, Ordering::Relaxed),
            build,
            post_processor,
            kind,
        };
        for sink in &outlets.sinks {
            sink.event(&event);
        }
        for stream in &outlets.streams {
            if !stream.is_closed() {
                // One that goes this very moment does not want the event either.
                let _ = stream.send(event.clone());
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({} so far)", self.0.sequence.load(Ordering::Relaxed))
    }
}

/// The event with every secret in its texts replaced.
fn scrubbed(mut kind: EventKind, secrets: &Secrets) -> EventKind {
    if secrets.is_empty() {
        return kind;
    }
    let clean = |text: &mut String| {
        if let std::borrow::Cow::Owned(scrubbed) = secrets.scrub_prose(text.as_str()) {
            *text = scrubbed;
        }
    };
    let clean_value = |text: &mut String| {
        if let std::borrow::Cow::Owned(scrubbed) = secrets.scrub(text.as_str()) {
            *text = scrubbed;
        }
    };
    match &mut kind {
        EventKind::RunStarted { builds, .. } => builds.iter_mut().for_each(clean),
        EventKind::Say { text, .. } => clean(text),
        EventKind::Output { line, .. } => clean_value(line),
        EventKind::BuildFailed { error, artifacts, .. } => {
            error.scrub(secrets);
            artifacts.iter_mut().for_each(|a| scrub_shown(a, secrets, &clean));
        }
        EventKind::BuildFinished { artifacts, .. } => {
            artifacts.iter_mut().for_each(|a| scrub_shown(a, secrets, &clean));
        }
        EventKind::BuildSkipped { reason } | EventKind::Cancelling { reason } => clean(reason),
        EventKind::StepStarted { name, .. } => clean(name),
        EventKind::StepFinished { name, error, .. }
        | EventKind::ProvisionerFinished { name, error, .. }
        | EventKind::PostProcessorFinished { name, error, .. } => {
            clean(name);
            error.iter_mut().for_each(|error| error.scrub(secrets));
        }
        EventKind::ProvisionerStarted { name, .. } | EventKind::PostProcessorStarted { name, .. } => {
            clean(name);
        }
        EventKind::Outputs { outputs } => outputs.values_mut().for_each(|v| scrub_json(v, &clean_value)),
        EventKind::PluginProvided { name, source, version } => {
            [name, source, version].into_iter().for_each(clean)
        }
        EventKind::Progress { title, .. } => clean(title),
        EventKind::Retrying { error, .. } | EventKind::FailureIgnored { error } => error.scrub(secrets),
        EventKind::Asked { question } => clean(question),
        EventKind::HostKeyUnchecked { host, key, .. } => [host, key].into_iter().for_each(clean),
        EventKind::Waiting { what, state, .. } => [what, state].into_iter().for_each(clean),
        EventKind::Served { method, path, .. } => [method, path].into_iter().for_each(clean),
        EventKind::Screen { title, png, text } => {
            let before = text.clone();
            [title, &mut *text].into_iter().for_each(clean);
            if *text != before {
                png.clear();
            }
        }
        EventKind::Diagnostic { diagnostic } | EventKind::SecretTooShort { warning: diagnostic } => {
            diagnostic.scrub(secrets);
        }
        EventKind::Data { fields, .. } => fields.values_mut().for_each(clean_value),
        EventKind::ResourceOwned { resource }
        | EventKind::ResourceReleased { resource }
        | EventKind::Checkpointed { resource, .. } => resource.scrub(secrets),
        EventKind::ResourceLeft { resource, error } => {
            resource.scrub(secrets);
            error.scrub(secrets);
        }
        EventKind::StepReused { name, .. } => clean(name),
        EventKind::StepRebuilt { name, reasons, .. } => {
            clean(name);
            reasons.iter_mut().for_each(|reason| reason.scrub(&clean));
        }
        EventKind::CacheTrouble { error } => error.scrub(secrets),
        EventKind::CachePruned { released: left } | EventKind::CleanupAbandoned { left } => {
            left.iter_mut().for_each(|r| r.scrub(secrets))
        }
        EventKind::Other { fields, .. } => fields.values_mut().for_each(|v| scrub_json(v, &clean_value)),
        EventKind::BuildStarted { .. } | EventKind::RunFinished { .. } | EventKind::TimedOut { .. } => {}
    }
    kind
}

/// Takes the secrets out of the texts of an artifact. Its paths stay: whoever has the artifact needs them.
pub(crate) fn scrub_artifact(artifact: &mut Artifact, clean: &impl Fn(&mut String)) {
    clean(&mut artifact.id);
    clean(&mut artifact.description);
    artifact
        .metadata
        .values_mut()
        .chain(artifact.generated_data.values_mut())
        .for_each(|v| scrub_json(v, clean));
}

/// The same for an artifact that is shown: its paths and resources too.
fn scrub_shown(artifact: &mut Artifact, secrets: &Secrets, clean: &impl Fn(&mut String)) {
    scrub_artifact(artifact, clean);
    artifact.resources.iter_mut().for_each(|resource| resource.scrub(secrets));
    for file in &mut artifact.files {
        let mut text = file.to_string_lossy().into_owned();
        clean(&mut text);
        if text != file.to_string_lossy() {
            *file = text.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn what_is_told_of_resources_is_scrubbed_wherever_they_stand() {
        let secrets = Secrets::new();
        secrets.add("geheim-4711");
        let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
        let sink = heard.clone();
        let sink = move |event: &Event| sink.lock().unwrap().push(event.clone());
        let events = Events::new(Clock::system(), secrets, vec![Arc::new(sink)]);
        let resource = Resource::new("image", "registry/geheim-4711")
            .with_details(serde_json::json!({ "at": ["geheim-4711"] }))
            .with_config(serde_json::json!({ "url": { "of": "https://x/geheim-4711" } }));
        let error = || ErrorInfo::from(&crate::Error::user("no geheim-4711").with_source("geheim-4711"));
        let artifact = || vec![Artifact::new("x", "y").owning(resource.clone())];
        let elapsed = std::time::Duration::ZERO;
        for kind in [
            EventKind::BuildFinished { elapsed, artifacts: artifact() },
            EventKind::BuildFailed { elapsed, error: error(), artifacts: artifact() },
            EventKind::ResourceOwned { resource: resource.clone() },
            EventKind::ResourceReleased { resource: resource.clone() },
            EventKind::ResourceLeft { resource: resource.clone(), error: error() },
            EventKind::Checkpointed { number: 1, steps: 1, resource: resource.clone() },
            EventKind::CachePruned { released: vec![resource.clone()] },
            EventKind::CleanupAbandoned { left: vec![resource.clone()] },
            EventKind::CacheTrouble { error: error() },
        ] {
            events.emit(None, None, kind);
        }
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 9);
        let text = serde_json::to_string(&*heard).unwrap();
        assert!(!text.contains("geheim"), "{text}");
    }
}
