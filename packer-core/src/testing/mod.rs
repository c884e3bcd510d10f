//! For tests: a machine in a folder, fakes of every component, and the behaviour suite that every implementation of
//! a trait passes, ours and other people's alike.
//!
//! Suites fail by panicking, with a message that names the rule that was broken: call them from a `#[tokio::test]`.
//!
//! ```no_run
//! # use packer_core::testing::{Bench, LocalMachine, communicator};
//! # async fn test() {
//! let bench = Bench::new();
//! communicator::suite(&LocalMachine::new(bench.folder()), bench.context()).await;
//! # }
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a suite fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::context::{Context, Host, PrepareContext, RunContext};
use crate::event::{Event, EventKind, EventSink, Events};
use crate::facts::{BuildInfo, Facts};
use crate::ledger::{Ledger, MemoryLedger, Resource};
use crate::secrets::Secrets;

pub mod boot_test;
pub mod builder;
pub mod checkpoints;
mod cmd;
pub mod communicator;
pub mod data_source;
#[cfg(unix)]
pub mod dockerd;
mod fakes;
pub mod ledger;
mod local;
mod peers;
pub mod post_processor;
pub mod provisioner;
#[cfg(unix)]
pub mod rootfs;
mod scripted;
mod shells;
#[cfg(unix)]
pub mod sshd;
mod windows;
pub mod winrm;

pub use fakes::{FakeBuilder, FakeMachine, FakePostProcessor, FakeProvisioner, Trouble, Verb};
pub use local::LocalMachine;
pub use peers::{require, skip};
pub use scripted::{Answer, EnteredMachine, ScriptedMachine};

/// A place to call components directly: a context, a folder of its own that goes with this value, and a record of what
/// was told.
#[derive(Debug)]
pub struct Bench {
    cx: Context,
    prepare: PrepareContext,
    folder: TempFolder,
    recorder: Recorder,
    ledger: Arc<MemoryLedger>,
    stop: CancellationToken,
}

impl Bench {
    /// A bench for a build called `test.bench`; temporary files go into its folder.
    pub fn new() -> Self {
        let folder = TempFolder::new();
        let mut host = Host::new();
        host.temp_dir = folder.path().to_owned();
        host.cache_dir = folder.path().join("cache");
        Self::at(folder, host)
    }

    /// The same with what a host lends; temporary files go where it says.
    pub fn with_host(host: Host) -> Self {
        Self::at(TempFolder::new(), host)
    }

    fn at(folder: TempFolder, host: Host) -> Self {
        let (recorder, ledger) = (Recorder::new(), Arc::new(MemoryLedger::new()));
        let (clock, secrets) = (Clock::system(), Secrets::new());
        let events = Events::new(clock.clone(), secrets.clone(), vec![Arc::new(recorder.clone())]);
        let id = uuid::Uuid::new_v4().to_string();
        let run = RunContext::new(id, events, ledger.clone(), secrets, clock, host.clone());
        let info = Arc::new(BuildInfo {
            display_name: "test.bench".into(),
            name: "bench".to_owned(),
            builder_type: "test".to_owned(),
            core_version: crate::VERSION.to_owned(),
            ..BuildInfo::default()
        });
        let stop = CancellationToken::new();
        let cx = Context::new(Arc::new(run), info.clone(), "test", stop.clone());
        Self { cx, prepare: PrepareContext::new(info, host), folder, recorder, ledger, stop }
    }

    /// The context for running components.
    pub fn context(&self) -> &Context {
        &self.cx
    }

    /// The same for a provisioner of a machine of which this is known.
    pub fn context_on(&self, facts: Facts) -> Context {
        self.cx.with_facts(facts)
    }

    /// The context for preparing components.
    pub fn prepare_context(&self) -> &PrepareContext {
        &self.prepare
    }

    /// An empty folder that goes with this value.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What was told.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// What was brought into the world and not released.
    pub fn outstanding(&self) -> Vec<Resource> {
        self.ledger.outstanding()
    }

    /// Cancels the work in this bench's context.
    pub fn cancel(&self) {
        self.stop.cancel();
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

/// A new empty folder that is removed with all its content when this value is dropped.
#[derive(Debug)]
pub struct TempFolder(PathBuf);

impl TempFolder {
    /// Makes the folder among the system's temporary files.
    pub fn new() -> Self {
        let path = Host::new().temp_dir.join(format!("packer-test-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for TempFolder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // Nothing more can be done for a test's folder that does not go.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A sink that keeps every event. Cheap to clone; every clone sees the same.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<Event>>>);

impl Recorder {
    /// Nothing recorded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was said and printed so far, in order.
    pub fn lines(&self) -> Vec<String> {
        let text = |event: Event| match event.kind {
            EventKind::Say { text, .. } => Some(text),
            EventKind::Output { line, .. } => Some(line),
            _ => None,
        };
        self.events().into_iter().filter_map(text).collect()
    }

    /// What was said and printed so far by the build of this name, in order.
    pub fn lines_of(&self, build: &str) -> Vec<String> {
        let own = Self::default();
        let events = self.events().into_iter().filter(|e| e.build.as_deref() == Some(build)).collect();
        *own.0.lock().unwrap_or_else(PoisonError::into_inner) = events;
        own.lines()
    }
}

impl EventSink for Recorder {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}
