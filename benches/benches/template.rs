//! Templates: how fast text is parsed (beside hcl-edit) and evaluated, what validating many sources costs, and whether
//! large inputs take time in proportion. `hcl_go` sets the first two beside the implementation in Go.

#![expect(clippy::expect_used, reason = "a benchmark stops at the first surprise")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use packer_core::language::syntax::parse_file;
use packer_core::template::{Inputs, Template};
use packer_core::value::from_json_str;
use packer_core::{Engine, Registry, SourceFile};

fn registry() -> Registry {
    let mut registry = Registry::new();
    packer_builders::register(&mut registry);
    packer_provisioners::register(&mut registry);
    registry
}

fn text(criterion: &mut Criterion) {
    let text = benches::realistic_template(1_000_000);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let registry = registry();
    let mut group = criterion.benchmark_group("template/1MB");
    group.sample_size(10).throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| {
            let (file, diagnostics) = parse_file(&SourceFile::new("bench.pkr.hcl", text.clone()));
            assert!(diagnostics.is_empty(), "{diagnostics}");
            file
        });
    });
    group.bench_function("parse, hcl-edit", |bencher| {
        bencher.iter(|| hcl_edit::parser::parse_body(&text).expect("the text is sound"));
    });
    let scope = benches::scope_of(&from_json_str(&benches::variables_of(&text)).expect("it is JSON"));
    group.bench_function("parse and evaluate", |bencher| {
        bencher.iter(|| {
            let (file, _) = parse_file(&SourceFile::new("bench.pkr.hcl", text.clone()));
            benches::evaluate_all(&file, &scope, &mut |value| drop(black_box(value)));
        });
    });
    group.bench_function("from text to pipeline", |bencher| {
        bencher.iter(|| {
            let template =
                Template::from_texts([("bench.pkr.hcl", text.as_str())]).expect("the text is sound");
            runtime.block_on(template.evaluate(&registry, Inputs::new())).expect("the template is sound")
        });
    });
    group.finish();
}

fn validate(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let registry = registry();
    let mut group = criterion.benchmark_group("template/validate_sources");
    group.sample_size(10);
    for count in [1usize, 50, 500, 5000] {
        let text = benches::many_sources(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_with_input(BenchmarkId::from_parameter(count), &text, |bencher, text| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let template =
                        Template::from_texts([("t.pkr.hcl", text.as_str())]).expect("the text is sound");
                    let pipeline =
                        template.evaluate(&registry, Inputs::new()).await.expect("the template is sound");
                    assert!(Engine::new().prepare(&pipeline).await.is_empty());
                });
            });
        });
    }
    group.finish();
}

/// Inputs that a careless evaluator is quadratic on.
fn growth(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let registry = registry();
    let mut group = criterion.benchmark_group("template/growth");
    group.sample_size(10);
    for count in [1000usize, 10_000] {
        let mut chain = String::from("locals {\n  l0 = 1\n");
        for i in 1..count {
            chain.push_str(&format!("  l{i} = local.l{} + 1\n", i - 1));
        }
        let mut object = String::from("locals {\n  o = {\n");
        for i in 0..count * 4 {
            object.push_str(&format!("    key_{i} = {i}\n"));
        }
        object.push_str("  }\n");
        let one_source = benches::many_sources(1);
        let inputs = [
            ("chain of locals", format!("{chain}}}\n{one_source}")),
            ("object, 4 keys each", format!("{object}}}\n{one_source}")),
            ("sources", benches::many_sources(count)),
        ];
        for (name, text) in inputs {
            group.throughput(Throughput::Elements(count as u64));
            group.bench_with_input(BenchmarkId::new(name, count), &text, |bencher, text| {
                bencher.iter(|| {
                    let template =
                        Template::from_texts([("t.pkr.hcl", text.as_str())]).expect("the text is sound");
                    runtime
                        .block_on(template.evaluate(&registry, Inputs::new()))
                        .expect("the template is sound")
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, text, validate, growth);
criterion_main!(benches);
