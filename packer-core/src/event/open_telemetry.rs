//! The run as OpenTelemetry spans.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use opentelemetry::trace::{Span, SpanContext, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};

use super::{Event, EventKind, EventSink, Level, in_words, step_label};

/// A sink that gives a tracer of the host's one span for the run, one for each build under it, and one for each step
/// under its build: provisioners, post-processors and the named pieces of work inside them. A span that failed has
/// the status `Error` with the message; retries, timeouts and resources that stay are events of the innermost span.
///
/// Who exports them, and where to, is the host's: the tracer comes from its provider. Lines of output are not
/// exported, and texts are scrubbed of secrets as they are for every sink. (Feature `opentelemetry`.)
///
/// ```no_run
/// # fn example(tracer: opentelemetry::global::BoxedTracer) {
/// use packer_core::{Engine, event::OpenTelemetry};
/// let engine = Engine::new().events(OpenTelemetry::new(tracer));
/// # }
/// ```
pub struct OpenTelemetry<T: Tracer> {
    tracer: T,
    /// What the span of a run is a child of, where the host has one.
    parent: Context,
    open: Mutex<Open<T::Span>>,
}

/// The spans that have begun and not ended.
struct Open<S> {
    run: Option<S>,
    builds: HashMap<Arc<str>, OpenBuild<S>>,
}

struct OpenBuild<S> {
    span: S,
    /// Innermost last.
    steps: Vec<(u64, S)>,
}

impl<S> OpenBuild<S> {
    fn innermost(&mut self) -> &mut S {
        match self.steps.last_mut() {
            Some((_, span)) => span,
            None => &mut self.span,
        }
    }
}

impl<T: Tracer> OpenTelemetry<T> {
    /// Spans of a tracer, the run's own a root.
    pub fn new(tracer: T) -> Self {
        Self::under(tracer, Context::new())
    }

    /// Spans of a tracer, the run's own a child of the span in `parent`.
    pub fn under(tracer: T, parent: Context) -> Self {
        Self { tracer, parent, open: Mutex::new(Open { run: None, builds: HashMap::new() }) }
    }

    fn start(&self, name: String, at: SystemTime, parent: &Context, attributes: Vec<KeyValue>) -> T::Span {
        let builder = self.tracer.span_builder(name).with_start_time(at).with_attributes(attributes);
        self.tracer.build_with_context(builder, parent)
    }
}

/// A context in which a span of this identity is the parent.
fn below(parent: &SpanContext) -> Context {
    Context::new().with_remote_span_context(parent.clone())
}

/// Ends a span, with what went wrong.
fn end(span: &mut impl Span, at: SystemTime, error: Option<&str>) {
    if let Some(message) = error {
        span.set_status(Status::error(message.to_owned()));
    }
    span.end_with_timestamp(at);
}

impl<T: Tracer + Send + Sync> EventSink for OpenTelemetry<T>
where
    T::Span: Send + Sync,
{
    fn event(&self, event: &Event) {
        let at = SystemTime::from(event.time);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match (&event.kind, &event.build) {
            (EventKind::RunStarted { run_id, builds }, _) => {
                let count = i64::try_from(builds.len()).unwrap_or(i64::MAX);
                let attributes = vec![
                    KeyValue::new("packer.run_id", run_id.clone()),
                    KeyValue::new("packer.builds", count),
                ];
                open.run = Some(self.start("packer run".into(), at, &self.parent, attributes));
            }
            (EventKind::RunFinished { failed, cancelled, .. }, _) => {
                // A build that never told its end does not outlive the run.
                for mut build in std::mem::take(&mut open.builds).into_values() {
                    build.steps.drain(..).rev().for_each(|(_, mut step)| end(&mut step, at, None));
                    end(&mut build.span, at, None);
                }
                if let Some(mut run) = open.run.take() {
                    run.set_attribute(KeyValue::new("packer.cancelled", *cancelled));
                    let error = (*failed > 0).then(|| format!("{failed} build(s) failed"));
                    end(&mut run, at, error.as_deref());
                }
            }
            (EventKind::BuildStarted { builder }, Some(name)) => {
                let parent =
                    open.run.as_ref().map_or_else(|| self.parent.clone(), |run| below(run.span_context()));
                let attributes = vec![
                    KeyValue::new("packer.build", name.to_string()),
                    KeyValue::new("packer.builder", builder.clone()),
                ];
                let span = self.start(format!("build {name}"), at, &parent, attributes);
                open.builds.insert(name.clone(), OpenBuild { span, steps: Vec::new() });
            }
            (EventKind::BuildFinished { artifacts, .. }, Some(name)) => {
                if let Some(mut build) = open.builds.remove(name) {
                    let count = i64::try_from(artifacts.len()).unwrap_or(i64::MAX);
                    build.span.set_attribute(KeyValue::new("packer.artifacts", count));
                    end(&mut build.span, at, None);
                }
            }
            (EventKind::BuildFailed { error, .. }, Some(name)) => {
                if let Some(mut build) = open.builds.remove(name) {
                    end(&mut build.span, at, Some(&error.message));
                }
            }
            (EventKind::StepStarted { step, name }, Some(build)) => {
                let Some(build) = open.builds.get_mut(build) else { return };
                let parent = below(build.innermost().span_context());
                let span = self.start(name.clone(), at, &parent, Vec::new());
                build.steps.push((*step, span));
            }
            (EventKind::StepFinished { step, error, .. }, Some(build)) => {
                let Some(build) = open.builds.get_mut(build) else { return };
                let Some(place) = build.steps.iter().position(|(number, _)| number == step) else { return };
                let error = error.as_ref().map(|error| error.message.as_str());
                end(&mut build.steps.remove(place).1, at, error);
            }
            (kind, Some(build)) => {
                let Some((name, message)) = noteworthy(kind) else { return };
                let Some(build) = open.builds.get_mut(build) else { return };
                let attributes = vec![KeyValue::new("message", message)];
                build.innermost().add_event_with_timestamp(name, at, attributes);
            }
            _ => {}
        }
    }
}

/// What of a span's course is worth an event of its own.
fn noteworthy(kind: &EventKind) -> Option<(&'static str, String)> {
    match kind {
        EventKind::Retrying { error, left } => Some(("retry", format!("{error} ({left} left)"))),
        EventKind::TimedOut { limit } => Some(("timeout", format!("{limit:?}"))),
        EventKind::FailureIgnored { error } => Some(("failure ignored", error.message.clone())),
        EventKind::StepReused { provisioner, name, .. } => {
            Some(("step reused", step_label(provisioner, name)))
        }
        EventKind::StepRebuilt { provisioner, name, reasons, .. } => {
            let message = format!("{}: {}", step_label(provisioner, name), in_words(reasons));
            Some(("step rebuilt", message))
        }
        EventKind::CacheTrouble { error } => Some(("cache trouble", error.message.clone())),
        EventKind::ResourceLeft { resource, error } => {
            Some(("resource left", format!("{resource}: {error}")))
        }
        EventKind::Say { level: Level::Error, text } => Some(("error", text.clone())),
        _ => None,
    }
}

impl<T: Tracer> fmt::Debug for OpenTelemetry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenTelemetry")
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TracerProvider};
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

    use super::*;
    use crate::testing::{FakeBuilder, FakeProvisioner, TempFolder, Trouble};
    use crate::{Build, Engine, Pipeline, ProvisionerExt};

    #[tokio::test]
    async fn a_run_is_a_tree_of_spans() {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let folder = TempFolder::new();
        let good =
            Build::new("good", FakeBuilder::new(folder.path())).provision(FakeProvisioner::run("true"));
        let bad = Build::new("bad", FakeBuilder::new(folder.path()))
            .provision(FakeProvisioner::run("true").trouble(Trouble::Fail).max_retries(1));
        let engine = Engine::new().events(OpenTelemetry::new(provider.tracer("packer")));
        engine.run(Pipeline::of([good, bad])).await.unwrap();

        let spans = exporter.get_finished_spans().unwrap();
        let named = |name: &str| spans.iter().find(|s| s.name == name).unwrap();
        let id = |span: &SpanData| span.span_context.span_id();
        let run = named("packer run");
        assert_eq!(run.parent_span_id, SpanId::INVALID);
        assert_eq!(run.status, Status::error("1 build(s) failed"));
        let (good, bad) = (named("build good"), named("build bad"));
        assert_eq!([good.parent_span_id, bad.parent_span_id], [id(run), id(run)]);
        assert_eq!(good.status, Status::Unset);
        assert!(matches!(&bad.status, Status::Error { .. }), "{:?}", bad.status);
        let steps_of = |build: &SpanData| spans.iter().filter(|s| s.parent_span_id == id(build)).count();
        assert!(steps_of(good) >= 3 && steps_of(bad) >= 2, "{spans:#?}");
        let retried = spans.iter().flat_map(|s| s.events.iter()).any(|e| e.name == "retry");
        assert!(retried, "{spans:#?}");
        assert!(spans.iter().all(|s| s.span_context.trace_id() == run.span_context.trace_id()));
    }
}
