//! Templates that are large where a careless evaluator is quadratic: four times as much takes about four times as long.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fmt::Write;
use std::time::{Duration, Instant};

use packer_core::diagnostic::Diagnostics;
use packer_core::template::{Inputs, Template};
use packer_core::{
    Builder, Context, Engine, Error, Machine, Pipeline, PrepareContext, Prepared, Registry, Resource, Result,
    async_trait,
};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize, JsonSchema)]
struct Nothing {
    /// Something to evaluate.
    text: String,
}

#[async_trait]
impl Builder for Nothing {
    async fn prepare(&self, _: &PrepareContext) -> std::result::Result<Prepared, Diagnostics> {
        match self.text.is_empty() {
            true => Err(packer_core::diagnostic::Diagnostic::error("No text").into()),
            false => Ok(Prepared::new()),
        }
    }

    async fn launch(&self, _: &Context) -> Result<Box<dyn Machine>> {
        Err(Error::user("there are no machines here"))
    }

    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
    }
}

const BUILD: &str =
    "source \"nothing\" \"a\" {\n  text = \"x\"\n}\nbuild {\n  sources = [\"nothing.a\"]\n}\n";

fn evaluated(text: &str) -> Pipeline {
    let mut registry = Registry::new();
    registry.builder::<Nothing>("nothing");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let template = Template::from_texts([("t.pkr.hcl", text)]).unwrap();
        let pipeline = template.evaluate(&registry, Inputs::new()).await.unwrap();
        let found = Engine::new().prepare(&pipeline).await;
        assert!(found.is_empty(), "{found}");
        pipeline
    })
}

/// The shortest of three times: what else the machine does only adds to it.
fn time(text: &str, builds: usize) -> Duration {
    let once = || {
        let began = Instant::now();
        let pipeline = evaluated(text);
        let took = began.elapsed();
        assert_eq!(pipeline.builds.len(), builds);
        took
    };
    (0..3).map(|_| once()).min().unwrap()
}

/// Compares a template of `count` pieces with one of a quarter. What is quadratic takes 16 times as long.
#[track_caller]
fn grows_linearly(count: usize, text: impl Fn(usize) -> String, builds: impl Fn(usize) -> usize) {
    let mut times = Vec::new();
    for _ in 0..3 {
        let [small, large] = [count / 4, count].map(|n| time(&text(n), builds(n)));
        if large < 10 * small {
            return;
        }
        times.push((small, large));
    }
    assert_eq!(times, [], "{} and {count} pieces took so long", count / 4);
}

#[test]
fn a_chain_of_locals() {
    let chain = |count: usize| {
        // Backwards, so that the order of the file is of no help.
        let mut text = format!("{BUILD}locals {{\n");
        for i in (1..count).rev() {
            writeln!(text, "  l{i} = local.l{} + 1", i - 1).unwrap();
        }
        text + "  l0 = 1\n}\n"
    };
    grows_linearly(10_000, chain, |_| 1);
}

#[test]
fn many_sources() {
    let sources = |count: usize| {
        let mut text = String::new();
        for i in 0..count {
            writeln!(text, "source \"nothing\" \"s{i}\" {{\n  text = \"x{i}\"\n}}").unwrap();
        }
        text.push_str("build {\n  sources = [\n");
        for i in 0..count {
            writeln!(text, "    \"source.nothing.s{i}\",").unwrap();
        }
        text + "  ]\n}\n"
    };
    grows_linearly(10_000, sources, |count| count);
}

#[test]
fn an_object_of_many_keys() {
    let object = |count: usize| {
        let mut text = format!("{BUILD}locals {{\n  o = {{\n");
        for i in 0..count {
            writeln!(text, "    key_{i} = {i}").unwrap();
        }
        let last = count - 1;
        text + &format!(
            "  }}\n  again = {{ for k, v in local.o : k => v + 1 }}\n  last = local.again.key_{last}\n}}\n"
        )
    };
    grows_linearly(40_000, object, |_| 1);
}
