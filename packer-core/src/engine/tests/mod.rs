//! Tests of whole runs, on fakes.

use std::sync::Arc;

use super::{Engine, Report};
use crate::ledger::{Ledger, MemoryLedger};
use crate::pipeline::{Build, Pipeline};
use crate::testing::{FakeBuilder, Recorder, TempFolder};

mod boot_test;
mod cache;
mod cache_faults;
mod cancel;
mod failures;
mod graph;
mod outputs;
mod plan;
mod post;
mod provisioning;
mod recovery;
mod runs;
mod steps;

/// A folder as the world, an engine that records what it tells, and its ledger.
struct World {
    folder: TempFolder,
    recorder: Recorder,
    ledger: Arc<MemoryLedger>,
}

impl World {
    fn new() -> Self {
        Self { folder: TempFolder::new(), recorder: Recorder::new(), ledger: Arc::default() }
    }

    fn engine(&self) -> Engine {
        let mut host = crate::Host::new();
        host.temp_dir = self.folder.path().to_owned();
        Engine::new().host(host).ledger(self.ledger.clone()).events(self.recorder.clone())
    }

    fn builder(&self) -> FakeBuilder {
        FakeBuilder::new(self.folder.path())
    }

    async fn run(&self, build: Build) -> Report {
        self.engine().run(Pipeline::of([build])).await.unwrap()
    }

    fn lines(&self) -> Vec<String> {
        self.recorder.lines()
    }

    /// What is in the world, without the numbers in the names.
    fn kinds(&self) -> Vec<String> {
        let kind = |name: String| name.split('-').next().unwrap_or_default().to_owned();
        self.builder().world().into_iter().map(kind).collect()
    }

    fn is_clean(&self) -> bool {
        self.ledger.outstanding().is_empty()
    }
}

/// The message of the first build's error; empty where it succeeded.
fn error(report: &Report) -> String {
    report.builds[0].error.as_ref().map(ToString::to_string).unwrap_or_default()
}
