//! A run as one HTML page: builds as rows, steps as bars in time, what went wrong, and the log of each step.

mod page;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::reason::{rebuilt_text, reused_text, step_label};
use super::{Event, EventKind, EventSink, Level};
use crate::diagnostic::packer_layout;
use crate::error::{Error, Result};

/// How many lines of a build's log are kept; of a longer log the last ones.
const LINES: usize = 20_000;

/// How many pictures of a machine's screen are kept, and how many bytes of them; of more the last ones.
const PICTURES: usize = 48;
const PICTURE_BYTES: usize = 12 << 20;

/// A sink that draws a run as a page which needs nothing but a browser: no network, no other file.
///
/// The page can be had at any time with [`page`](Self::page). [`write_to`](Self::write_to) writes it, whole or not at
/// all, when the run is over. Of a build's log the last 20,000 lines are kept.
///
/// ```
/// use std::sync::Arc;
/// use packer_core::event::{Event, EventSink, Timeline};
/// use packer_core::Engine;
/// let timeline = Arc::new(Timeline::new());
/// let sink = timeline.clone();
/// let engine = Engine::new().events(move |event: &Event| sink.event(event));
/// // … engine.run(pipeline) …
/// std::fs::write(std::env::temp_dir().join("run.html"), timeline.page())?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Timeline {
    run: Mutex<Run>,
    file: Option<PathBuf>,
    failure: Mutex<Option<Error>>,
}

/// What the page shows.
#[derive(Debug, Default)]
struct Run {
    id: String,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
    failed: usize,
    cancelled: bool,
    findings: Vec<String>,
    builds: Vec<Row>,
}

/// A build.
#[derive(Debug, Default)]
struct Row {
    name: String,
    builder: String,
    state: State,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
    artifacts: Vec<String>,
    steps: Vec<Bar>,
    /// The steps that have begun and not ended, innermost last.
    open: Vec<usize>,
    lines: VecDeque<Line>,
    /// What the machine's screen showed.
    film: VecDeque<Picture>,
    /// The number of the line that says why the step runs that is about to begin.
    why: Option<usize>,
    /// How many lines are not kept any more: the number of the first one that is.
    dropped: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Waiting,
    Running,
    Succeeded,
    Failed(String),
    Skipped(String),
}

/// A step.
#[derive(Debug)]
struct Bar {
    number: u64,
    name: String,
    depth: usize,
    began: Timestamp,
    ended: Option<Timestamp>,
    error: Option<String>,
    /// Whether it was taken from the cache.
    reused: bool,
    /// The numbers of the lines that were told meanwhile.
    lines: Range<usize>,
}

#[derive(Debug)]
struct Line {
    time: Timestamp,
    level: Level,
    text: String,
}

/// A picture of a screen.
#[derive(Debug)]
struct Picture {
    time: Timestamp,
    title: String,
    /// A PNG in base64.
    png: String,
    text: String,
}

impl Timeline {
    /// A page about nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the page to a file when the run is over.
    #[must_use]
    pub fn write_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// The page as it is now.
    pub fn page(&self) -> String {
        page::html(&self.run.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the page could not be written; a sink has nobody to tell that to while the run goes on.
    pub fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl EventSink for Timeline {
    fn event(&self, event: &Event) {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).take(event);
        if let (EventKind::RunFinished { .. }, Some(file)) = (&event.kind, &self.file)
            && let Err(error) = write(file, &self.page())
        {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }
}

/// Writes beside the target, syncs and renames, so that the page is there whole or not at all.
fn write(target: &Path, page: &str) -> Result<()> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let beside = target.with_file_name(format!(".{name}.{}", uuid::Uuid::new_v4().simple()));
    let written = File::create_new(&beside)
        .and_then(|mut file| file.write_all(page.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, target));
    written.map_err(|e| {
        // The failure that is told is the first one.
        let _ = fs::remove_file(&beside);
        Error::io("write", target, e)
    })
}

impl Run {
    fn take(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted { run_id, builds } => {
                let row = |name: &String| Row { name: name.clone(), ..Row::default() };
                *self = Self {
                    id: run_id.clone(),
                    began: Some(event.time),
                    builds: builds.iter().map(row).collect(),
                    findings: std::mem::take(&mut self.findings),
                    ..Self::default()
                };
            }
            EventKind::RunFinished { failed, cancelled, .. } => {
                self.ended = Some(event.time);
                (self.failed, self.cancelled) = (*failed, *cancelled);
            }
            EventKind::Diagnostic { diagnostic } => self.findings.push(packer_layout(diagnostic)),
            _ => {
                let Some(name) = event.build.as_deref() else { return };
                // Builds may share a name: what happens belongs to the one that is not over.
                let mine = |row: &&mut Row| row.name == name && row.ended.is_none();
                if let Some(row) = self.builds.iter_mut().find(mine) {
                    row.take(event);
                }
            }
        }
    }
}

impl Row {
    fn take(&mut self, event: &Event) {
        match &event.kind {
            EventKind::BuildStarted { builder } => {
                self.builder.clone_from(builder);
                self.began = Some(event.time);
                self.state = State::Running;
            }
            EventKind::BuildFinished { artifacts, .. } => {
                self.artifacts = artifacts.iter().map(|a| a.description.clone()).collect();
                self.end(event.time, State::Succeeded);
            }
            EventKind::BuildFailed { error, artifacts, .. } => {
                self.artifacts = artifacts.iter().map(|a| a.description.clone()).collect();
                self.end(event.time, State::Failed(error.message.clone()));
            }
            EventKind::BuildSkipped { reason } => self.end(event.time, State::Skipped(reason.clone())),
            EventKind::StepStarted { step, name } => {
                let first = self.why.take().unwrap_or_else(|| self.next_line());
                self.steps.push(Bar {
                    number: *step,
                    name: name.clone(),
                    depth: self.open.len(),
                    began: event.time,
                    ended: None,
                    error: None,
                    reused: false,
                    lines: first..first,
                });
                self.open.push(self.steps.len() - 1);
            }
            EventKind::StepFinished { step, error, .. } => {
                let Some(place) = self.open.iter().position(|i| self.steps[*i].number == *step) else {
                    return;
                };
                let end = self.next_line();
                let bar = &mut self.steps[self.open.remove(place)];
                bar.ended = Some(event.time);
                bar.error = error.as_ref().map(|error| error.message.clone());
                bar.lines.end = end;
            }
            EventKind::StepReused { number, steps, provisioner, name } => {
                self.reuse(event.time, step_label(provisioner, name));
                self.log(event, Level::Info, &reused_text(*number, *steps, provisioner, name));
            }
            EventKind::StepRebuilt { number, steps, provisioner, name, reasons } => {
                let text = rebuilt_text(*number, *steps, provisioner, name, reasons);
                self.why = Some(self.next_line());
                self.log(event, Level::Info, &text);
            }
            EventKind::CacheTrouble { error } => self.log(event, Level::Error, &error.message),
            EventKind::Say { level, text } => text.lines().for_each(|line| self.log(event, *level, line)),
            EventKind::Output { level, line } => self.log(event, *level, line),
            EventKind::HostKeyUnchecked { host, port, key } => {
                self.log(event, Level::Info, &format!("The host key of {host}:{port} is not checked: {key}"));
            }
            EventKind::Waiting { what, state, .. } => {
                self.log(event, Level::Info, &format!("Waiting for {what}: {state}"));
            }
            EventKind::Served { method, path, status, bytes, peer } => {
                let text = format!("{peer} was answered: {method} {path}: {status}, {bytes} bytes");
                self.log(event, Level::Info, &text);
            }
            EventKind::Screen { title, png, text } => {
                let (title, png, text) = (title.clone(), png.clone(), text.clone());
                self.film.push_back(Picture { time: event.time, title, png, text });
                while self.film.len() > PICTURES
                    || self.film.iter().map(|picture| picture.png.len()).sum::<usize>() > PICTURE_BYTES
                {
                    self.film.pop_front();
                }
            }
            EventKind::SecretTooShort { warning } => self.log(event, Level::Info, &warning.to_string()),
            EventKind::ResourceLeft { resource, error } => {
                self.log(event, Level::Error, &format!("{resource} still exists: {error}"));
            }
            _ => {}
        }
    }

    /// Draws a step that was taken from the cache: one below the other, under the start that brought them back.
    fn reuse(&mut self, at: Timestamp, label: String) {
        let before = self.steps.iter().rev().take_while(|bar| bar.reused).count();
        let start = self.steps.iter().rev().find(|bar| !bar.reused);
        let (began, ended, depth) = match start {
            Some(bar) => (bar.began, bar.ended, bar.depth + 1 + before),
            None => (at, Some(at), before),
        };
        let first = self.next_line();
        self.steps.push(Bar {
            number: u64::MAX,
            name: format!("{label} (from the cache)"),
            depth,
            began,
            ended,
            error: None,
            reused: true,
            lines: first..first + 1,
        });
    }

    /// The number of the line that is told next.
    fn next_line(&self) -> usize {
        self.dropped + self.lines.len()
    }

    fn log(&mut self, event: &Event, level: Level, text: &str) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
            self.dropped += 1;
        }
        let text = match &event.post_processor {
            Some(kind) => format!("({kind}) {text}"),
            None => text.to_owned(),
        };
        self.lines.push_back(Line { time: event.time, level, text });
    }

    fn end(&mut self, at: Timestamp, state: State) {
        let end = self.next_line();
        for i in self.open.drain(..) {
            self.steps[i].ended = Some(at);
            self.steps[i].lines.end = end;
        }
        self.began.get_or_insert(at);
        self.ended = Some(at);
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeBuilder, FakeProvisioner, TempFolder, Trouble};
    use crate::{Build, Engine, Pipeline};

    /// The page of a run of two builds, one of which fails, that was written to a file.
    async fn page(output: &str) -> String {
        let folder = TempFolder::new();
        let file = folder.path().join("run.html");
        let good =
            Build::new("good", FakeBuilder::new(folder.path())).provision(FakeProvisioner::run(output));
        let bad = Build::new("b<a>d", FakeBuilder::new(folder.path()))
            .provision(FakeProvisioner::run("true").trouble(Trouble::Fail));
        Engine::new().events(Timeline::new().write_to(&file)).run(Pipeline::of([good, bad])).await.unwrap();
        let written: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(!written.iter().any(|name| name.to_string_lossy().starts_with(".run")), "{written:?}");
        fs::read_to_string(file).unwrap()
    }

    #[tokio::test]
    async fn every_build_and_step_is_in_the_page() {
        let page = page("true").await;
        for part in ["good", "b&lt;a&gt;d", "launch", "capture", "1 of 2 builds failed"] {
            assert!(page.contains(part), "{part}:\n{page}");
        }
    }

    #[tokio::test]
    async fn what_was_printed_is_text_and_never_markup() {
        let page = page("echo '</script><script>alert(1)</script>&amp;'").await;
        assert!(!page.contains("<script>alert"), "{page}");
    }

    #[test]
    fn a_page_that_cannot_be_written_is_told_and_leaves_nothing() {
        let folder = TempFolder::new();
        let timeline = Timeline::new().write_to(folder.path().join("none/run.html"));
        let events = crate::event::Events::new(
            crate::Clock::system(),
            crate::Secrets::new(),
            vec![std::sync::Arc::new(timeline)],
        );
        events.emit(None, None, EventKind::RunStarted { run_id: "1".into(), builds: vec![] });
        let elapsed = std::time::Duration::ZERO;
        events.emit(None, None, EventKind::RunFinished { failed: 0, cancelled: false, elapsed });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn of_a_long_log_the_end_stays() {
        let mut row = Row::default();
        let event = |kind| Event {
            time: Timestamp::UNIX_EPOCH,
            sequence: 0,
            build: None,
            post_processor: None,
            kind,
        };
        row.take(&event(EventKind::StepStarted { step: 1, name: "long".into() }));
        for i in 0..LINES + 5 {
            row.take(&event(EventKind::Output { level: Level::Info, line: i.to_string() }));
        }
        row.take(&event(EventKind::StepFinished {
            step: 1,
            name: "long".into(),
            elapsed: std::time::Duration::ZERO,
            error: None,
        }));
        assert_eq!((row.lines.len(), row.dropped, row.lines[0].text.as_str()), (LINES, 5, "5"));
        assert_eq!(row.steps[0].lines, 0..LINES + 5);
    }
}
