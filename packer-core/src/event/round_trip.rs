//! Every kind of event is read as it was written.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Event, EventKind, EventSink, FileChange, JsonLines, Level, Reason};
use crate::artifact::Artifact;
use crate::diagnostic::{Diagnostic, SourceFile, Span};
use crate::error::{Error, ErrorInfo, Fault, Unreachable};
use crate::ledger::Resource;

fn text() -> impl Strategy<Value = String> {
    "[ -~é\n\u{0}\u{301}]{0,12}"
}

fn time() -> impl Strategy<Value = Duration> {
    (0..1_000_000u64, 0..1_000_000_000u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn level() -> impl Strategy<Value = Level> {
    select(vec![Level::Info, Level::Error])
}

fn resource() -> impl Strategy<Value = Resource> {
    (text(), text(), text()).prop_map(|(kind, name, detail)| {
        Resource::new(kind, name).with_details(serde_json::json!({ "detail": [detail, 1, null] }))
    })
}

fn fields() -> impl Strategy<Value = serde_json::Map<String, serde_json::Value>> {
    btree_map("f[a-z]{0,3}", text().prop_map(|text| serde_json::json!([text, 1, null])), 0..3)
        .prop_map(|fields| fields.into_iter().collect())
}

fn artifact() -> impl Strategy<Value = Artifact> {
    (text(), text(), text(), resource()).prop_map(|(id, description, file, resource)| {
        Artifact::new("test", id).describe(description).file(file).with("n", 1.5).owning(resource)
    })
}

fn location() -> impl Strategy<Value = crate::Location> {
    (text(), "[a-zé\r\n\u{301} ]{0,60}", any::<(u32, u32)>()).prop_map(|(name, text, (a, b))| {
        let most = text.len() as u32 + 1;
        let (start, end) = ((a % most).min(b % most), (a % most).max(b % most));
        Span::new(start, end).in_source(&SourceFile::new(name, text))
    })
}

fn error() -> impl Strategy<Value = ErrorInfo> {
    use Fault::*;
    let fault = select(vec![Cancelled, Guest, Internal, Network, Provider, Quota, User, Other]);
    let why = of(select(vec![Unreachable::Refused, Unreachable::NoCommonAlgorithm, Unreachable::Other]));
    (text(), fault, any::<bool>(), of(text()), of(location()), vec(text(), 0..3), why).prop_map(
        |(message, fault, retryable, step, location, causes, unreachable)| {
            let mut error = ErrorInfo::from(&Error::new(fault, message));
            (error.retryable, error.step, error.location, error.causes) = (retryable, step, location, causes);
            error.unreachable = unreachable;
            error
        },
    )
}

fn diagnostic() -> impl Strategy<Value = Diagnostic> {
    (text(), text(), of(location()), of(text()), of(text()), vec((text(), location()), 0..2)).prop_map(
        |(summary, detail, location, about, meant, related)| {
            let mut d = Diagnostic::warning(summary).detail(detail);
            (d.location, d.about) = (location, about);
            let d = related.into_iter().fold(d, |d, (label, place)| d.related(label, place));
            match meant {
                Some(meant) => d.suggest(&meant),
                None => d.help_list("One of:", ["a".to_owned(), "b".to_owned()]),
            }
        },
    )
}

fn reasons() -> impl Strategy<Value = Vec<Reason>> {
    let change = select(vec![FileChange::Added, FileChange::Changed, FileChange::Removed, FileChange::Other]);
    (text(), of(text()), change, any::<bool>()).prop_map(|(text, maybe, change, marked)| {
        let t = || text.clone();
        vec![
            Reason::FirstRun,
            Reason::Configuration { field: t(), from: maybe.clone(), to: None },
            Reason::BuilderConfiguration { field: t(), from: None, to: maybe.clone() },
            Reason::File { path: t(), change },
            Reason::SourceImage { from: t(), to: t() },
            Reason::OtherStep { from: maybe.clone() },
            Reason::StepBefore,
            Reason::DidNotSucceed,
            Reason::NotReached,
            Reason::NoCheckpoint,
            Reason::Lost { error: t() },
            Reason::Volatile { marked },
            Reason::RunValues { names: vec![t()] },
            Reason::NoConfiguration { component: t() },
            Reason::Unreadable { error: t() },
            Reason::NoSource { builder: t(), error: maybe },
            Reason::NeedsBuilds { names: vec![] },
        ]
    })
}

/// The kinds, and how many there are.
fn kinds() -> (BoxedStrategy<EventKind>, usize) {
    let number = || any::<u16>().prop_map(usize::from);
    let step = || (text(), text(), number(), number());
    let all: Vec<BoxedStrategy<EventKind>> = vec![
        (text(), vec(text(), 0..3))
            .prop_map(|(run_id, builds)| EventKind::RunStarted { run_id, builds })
            .boxed(),
        (number(), any::<bool>(), time())
            .prop_map(|(failed, cancelled, elapsed)| EventKind::RunFinished { failed, cancelled, elapsed })
            .boxed(),
        btree_map(text(), text(), 0..3)
            .prop_map(|texts| {
                let outputs = texts.into_iter().map(|(k, v)| (k, serde_json::json!({ "a": [v, 2.5, null] })));
                EventKind::Outputs { outputs: outputs.collect() }
            })
            .boxed(),
        text().prop_map(|reason| EventKind::Cancelling { reason }).boxed(),
        vec(resource(), 0..3).prop_map(|left| EventKind::CleanupAbandoned { left }).boxed(),
        (text(), text(), text())
            .prop_map(|(name, source, version)| EventKind::PluginProvided { name, source, version })
            .boxed(),
        text().prop_map(|builder| EventKind::BuildStarted { builder }).boxed(),
        (time(), vec(artifact(), 0..3))
            .prop_map(|(elapsed, artifacts)| EventKind::BuildFinished { elapsed, artifacts })
            .boxed(),
        (time(), error(), vec(artifact(), 0..3))
            .prop_map(|(elapsed, error, artifacts)| EventKind::BuildFailed { elapsed, error, artifacts })
            .boxed(),
        text().prop_map(|reason| EventKind::BuildSkipped { reason }).boxed(),
        (any::<u64>(), text()).prop_map(|(step, name)| EventKind::StepStarted { step, name }).boxed(),
        (any::<u64>(), text(), time(), of(error()))
            .prop_map(|(step, name, elapsed, error)| EventKind::StepFinished { step, name, elapsed, error })
            .boxed(),
        (level(), text()).prop_map(|(level, text)| EventKind::Say { level, text }).boxed(),
        (level(), text()).prop_map(|(level, line)| EventKind::Output { level, line }).boxed(),
        (any::<u64>(), text(), any::<u64>(), of(any::<u64>()), any::<bool>())
            .prop_map(|(id, title, done, total, finished)| EventKind::Progress {
                id,
                title,
                done,
                total,
                finished,
            })
            .boxed(),
        diagnostic().prop_map(|diagnostic| EventKind::Diagnostic { diagnostic }).boxed(),
        step()
            .prop_map(|(provisioner, name, number, steps)| EventKind::ProvisionerStarted {
                provisioner,
                name,
                number,
                steps,
            })
            .boxed(),
        (step(), time(), of(error()))
            .prop_map(|((provisioner, name, number, steps), elapsed, error)| EventKind::ProvisionerFinished {
                provisioner,
                name,
                number,
                steps,
                elapsed,
                error,
            })
            .boxed(),
        (error(), any::<u32>()).prop_map(|(error, left)| EventKind::Retrying { error, left }).boxed(),
        error().prop_map(|error| EventKind::FailureIgnored { error }).boxed(),
        time().prop_map(|limit| EventKind::TimedOut { limit }).boxed(),
        step()
            .prop_map(|(kind, name, number, steps)| EventKind::PostProcessorStarted {
                kind,
                name,
                number,
                steps,
            })
            .boxed(),
        (step(), time(), of(error()))
            .prop_map(|((kind, name, number, steps), elapsed, error)| EventKind::PostProcessorFinished {
                kind,
                name,
                number,
                steps,
                elapsed,
                error,
            })
            .boxed(),
        step()
            .prop_map(|(provisioner, name, number, steps)| EventKind::StepReused {
                number,
                steps,
                provisioner,
                name,
            })
            .boxed(),
        (step(), reasons())
            .prop_map(|((provisioner, name, number, steps), reasons)| EventKind::StepRebuilt {
                number,
                steps,
                provisioner,
                name,
                reasons,
            })
            .boxed(),
        (number(), number(), resource())
            .prop_map(|(number, steps, resource)| EventKind::Checkpointed { number, steps, resource })
            .boxed(),
        vec(resource(), 0..3).prop_map(|released| EventKind::CachePruned { released }).boxed(),
        error().prop_map(|error| EventKind::CacheTrouble { error }).boxed(),
        resource().prop_map(|resource| EventKind::ResourceOwned { resource }).boxed(),
        resource().prop_map(|resource| EventKind::ResourceReleased { resource }).boxed(),
        (resource(), error())
            .prop_map(|(resource, error)| EventKind::ResourceLeft { resource, error })
            .boxed(),
        text().prop_map(|question| EventKind::Asked { question }).boxed(),
        (text(), btree_map(text(), text(), 0..3))
            .prop_map(|(category, fields)| EventKind::Data { category, fields })
            .boxed(),
        ("moon_[a-z_]{0,5}", fields()).prop_map(|(event, fields)| EventKind::Other { event, fields }).boxed(),
        diagnostic().prop_map(|warning| EventKind::SecretTooShort { warning }).boxed(),
        (text(), any::<u16>(), text())
            .prop_map(|(host, port, key)| EventKind::HostKeyUnchecked { host, port, key })
            .boxed(),
        (text(), text(), any::<u16>(), any::<u64>(), text())
            .prop_map(|(method, path, status, bytes, peer)| EventKind::Served {
                method,
                path,
                status,
                bytes,
                peer,
            })
            .boxed(),
        (text(), text(), text())
            .prop_map(|(title, png, text)| EventKind::Screen { title, png, text })
            .boxed(),
        (text(), text(), time(), time())
            .prop_map(|(what, state, elapsed, limit)| EventKind::Waiting { what, state, elapsed, limit })
            .boxed(),
    ];
    let count = all.len();
    (proptest::strategy::Union::new(all).boxed(), count)
}

/// A kind that is not listed here does not compile, and belongs above too.
fn number_of(kind: &EventKind) -> usize {
    match kind {
        EventKind::RunStarted { .. } => 0,
        EventKind::RunFinished { .. } => 1,
        EventKind::Outputs { .. } => 2,
        EventKind::Cancelling { .. } => 3,
        EventKind::CleanupAbandoned { .. } => 4,
        EventKind::PluginProvided { .. } => 5,
        EventKind::BuildStarted { .. } => 6,
        EventKind::BuildFinished { .. } => 7,
        EventKind::BuildFailed { .. } => 8,
        EventKind::BuildSkipped { .. } => 9,
        EventKind::StepStarted { .. } => 10,
        EventKind::StepFinished { .. } => 11,
        EventKind::Say { .. } => 12,
        EventKind::Output { .. } => 13,
        EventKind::Progress { .. } => 14,
        EventKind::Diagnostic { .. } => 15,
        EventKind::ProvisionerStarted { .. } => 16,
        EventKind::ProvisionerFinished { .. } => 17,
        EventKind::Retrying { .. } => 18,
        EventKind::FailureIgnored { .. } => 19,
        EventKind::TimedOut { .. } => 20,
        EventKind::PostProcessorStarted { .. } => 21,
        EventKind::PostProcessorFinished { .. } => 22,
        EventKind::StepReused { .. } => 23,
        EventKind::StepRebuilt { .. } => 24,
        EventKind::Checkpointed { .. } => 25,
        EventKind::CachePruned { .. } => 26,
        EventKind::CacheTrouble { .. } => 27,
        EventKind::ResourceOwned { .. } => 28,
        EventKind::ResourceReleased { .. } => 29,
        EventKind::ResourceLeft { .. } => 30,
        EventKind::Asked { .. } => 31,
        EventKind::Data { .. } => 32,
        EventKind::Other { .. } => 33,
        EventKind::SecretTooShort { .. } => 34,
        EventKind::HostKeyUnchecked { .. } => 35,
        EventKind::Served { .. } => 36,
        EventKind::Screen { .. } => 37,
        EventKind::Waiting { .. } => 38,
    }
}

fn written(event: &Event) -> String {
    let mut line = Vec::new();
    JsonLines::new(&mut line).event(event);
    String::from_utf8(line).unwrap()
}

#[test]
fn what_json_lines_writes_is_read_as_the_same_event() {
    let (kinds, count) = kinds();
    let seen = std::cell::RefCell::new(BTreeSet::new());
    let events = (of(text()), of(text()), any::<u64>(), 0..4_000_000_000i64, kinds);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let run = runner.run(&events, |(build, post_processor, sequence, time, kind)| {
        seen.borrow_mut().insert(number_of(&kind));
        let time = Timestamp::from_millisecond(time * 1000 + 7).unwrap();
        let (build, post_processor) = (build.map(Into::into), post_processor.map(Into::into));
        let event = Event { time, sequence, build, post_processor, kind };
        let line = written(&event);
        let read: Event =
            serde_json::from_str(&line).map_err(|e| TestCaseError::fail(format!("{e}: {line}")))?;
        prop_assert_eq!(number_of(&read.kind), number_of(&event.kind));
        prop_assert_eq!(written(&read), line);
        Ok(())
    });
    run.unwrap();
    assert_eq!(seen.into_inner(), (0..count).collect::<BTreeSet<_>>(), "every kind was tried");
}

/// An event of this kind, as a line.
fn line(kind: &str, fields: &str) -> String {
    format!(r#"{{"time":"2026-01-02T03:04:05Z","sequence":1,"event":"{kind}"{fields}}}"#)
}

fn read(line: &str) -> Event {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

#[test]
fn what_a_later_version_writes_can_be_read_and_passed_on() {
    let new = line("moon_phase", r#","phase":{"of":["it"]},"error":7"#);
    assert!(matches!(&read(&new).kind, EventKind::Other { event, .. } if event == "moon_phase"));
    assert_eq!(written(&read(&new)), format!("{new}\n"));
    let more = line("build_started", r#","where":"here","builder":"x","arch":[]"#);
    assert!(matches!(read(&more).kind, EventKind::BuildStarted { builder } if builder == "x"));
    // What an earlier version wrote had no numbers.
    let old = line("provisioner_started", r#","provisioner":"x","name":"""#);
    assert!(matches!(read(&old).kind, EventKind::ProvisionerStarted { number: 0, steps: 0, .. }));
}

#[test]
fn what_is_new_inside_of_an_event_does_not_hide_the_rest_of_it() {
    let failed = line("retrying", r#","left":1,"error":{"message":"m","fault":"weather","sun":true}"#);
    assert!(matches!(&read(&failed).kind, EventKind::Retrying { error, .. }
        if error.fault == Fault::Other && error.message == "m"));
    let reasons = r#"[{"reason":"base_moved","from":"a"},{"reason":"file","path":"p","change":"signed"},{"reason":"first_run"}]"#;
    let rebuilt = line(
        "step_rebuilt",
        &format!(r#","number":1,"steps":1,"provisioner":"shell","name":"","reasons":{reasons}"#),
    );
    let EventKind::StepRebuilt { reasons, .. } = read(&rebuilt).kind else { panic!("another event") };
    let words: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["base moved (from: \"a\")", "file p is another one", "it runs for the first time"]);
    let EventKind::StepRebuilt { reasons: again, .. } = read(&written(&read(&rebuilt))).kind else {
        panic!("another event")
    };
    assert_eq!(again, reasons);
}

#[test]
fn an_event_that_cannot_be_read_is_passed_on_as_it_is() {
    let seconds = |n: &str| line("timed_out", &format!(r#","seconds":{n}"#));
    assert!(matches!(read(&seconds("1.5")).kind, EventKind::TimedOut { .. }));
    for other in ["-1", "1e+300", "\"x\"", "null"] {
        let event = read(&seconds(other));
        assert!(matches!(event.kind, EventKind::Other { .. }), "{event:?}");
        assert_eq!(written(&event), format!("{}\n", seconds(other)));
    }
    let level = line("say", r#","level":"debug","text":"hello""#);
    assert_eq!(written(&read(&level)), format!("{level}\n"));
    // What has no kind is no event.
    assert!(serde_json::from_str::<Event>(r#"{"time":"2026-01-02T03:04:05Z","sequence":1}"#).is_err());
}

#[test]
fn secrets_in_what_cannot_be_read_are_scrubbed_when_it_is_told_again() {
    let secrets = crate::Secrets::new();
    secrets.add("hunter2hunter2");
    let new = line("moon_phase", r#","deep":[{"x":"is hunter2hunter2"}]"#);
    let kind = super::scrubbed(read(&new).kind, &secrets);
    assert!(!format!("{kind:?}").contains("hunter2"), "{kind:?}");
}
