//! What the engine itself costs: builds that do nothing, and events that nobody prints.

#![expect(clippy::expect_used, reason = "a benchmark stops at the first surprise")]

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use packer_builders::Null;
use packer_core::event::{EventKind, Events};
use packer_core::{Build, Clock, Engine, Event, EventSink, Level, Pipeline, Secrets};

fn null_builds(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let mut group = criterion.benchmark_group("engine/null_builds");
    group.sample_size(10);
    for count in [1usize, 100, 1000] {
        let pipeline = Pipeline::of((0..count).map(|i| Build::new(format!("b{i}"), Null::local())));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_with_input(BenchmarkId::from_parameter(count), &pipeline, |bencher, pipeline| {
            bencher.iter(|| {
                let report =
                    runtime.block_on(Engine::new().run(pipeline.clone())).expect("nothing to refuse");
                assert!(report.succeeded());
            });
        });
    }
    group.finish();
}

/// A sink that looks at each event and drops it.
struct Count;

impl EventSink for Count {
    fn event(&self, event: &Event) {
        std::hint::black_box(event.sequence);
    }
}

fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Elements(1));
    let build: Arc<str> = "null.a".into();
    for secrets in [0, 100] {
        let known = Secrets::new();
        for i in 0..secrets {
            known.add(&format!("secret number {i}"));
        }
        let events = Events::new(Clock::system(), known, vec![Arc::new(Count)]);
        group.bench_function(format!("a line, {secrets} secrets"), |bencher| {
            bencher.iter(|| {
                let line = "Setting up nginx (1.22.1-9+deb12u1) ...".to_owned();
                events.emit(Some(build.clone()), None, EventKind::Output { level: Level::Info, line });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, null_builds, events);
criterion_main!(benches);
