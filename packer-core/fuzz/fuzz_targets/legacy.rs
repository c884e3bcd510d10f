//! Any bytes as a legacy JSON template: they are read or refused, soon; every mistake has a place that lies in the text;
//! and what is read makes a pipeline, an inspection and a console, or is told why not.
#![no_main]

use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context as TaskContext, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use packer_core::diagnostic::{Diagnostics, packer_layout_all};
use packer_core::template::{Inputs, Template};
use packer_core::{
    Artifact, Builder, Context, Machine, PostProcessor, PrepareContext, Prepared, Processed, Provisioner,
    Registry, Resource, Result, async_trait, config::GoTemplate,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// A field of every kind.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[allow(dead_code)]
struct Anything {
    text: String,
    late: GoTemplate,
    number: i64,
    flag: bool,
    list: Vec<String>,
    map: std::collections::BTreeMap<String, String>,
    blocks: Vec<Inner>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[allow(dead_code)]
struct Inner {
    needed: String,
}

#[async_trait]
impl Builder for Anything {
    async fn prepare(&self, _: &PrepareContext) -> std::result::Result<Prepared, Diagnostics> {
        Ok(Prepared::new())
    }

    async fn launch(&self, _: &Context) -> Result<Box<dyn Machine>> {
        Err(packer_core::Error::user("there are no machines here"))
    }

    async fn release(&self, _: &Context, _: &Resource) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Provisioner for Anything {
    async fn provision(&self, _: &Context, _: &dyn Machine) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl PostProcessor for Anything {
    async fn post_process(&self, _: &Context, artifact: Artifact) -> Result<Processed> {
        Ok(Processed::replacing(artifact))
    }
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let mut registry = Registry::new();
    registry.builder::<Anything>("b").provisioner::<Anything>("p").post_processor::<Anything>("s");
    registry
});

/// What a future gives that waits for nothing.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a legacy template waits for nothing"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let template = match Template::from_legacy("t.json", bytes) {
        Ok(template) => template,
        Err(found) => {
            assert!(found.has_errors());
            packer_layout_all(&found);
            return;
        }
    };
    let inputs = || Inputs::new().var("given", "{{user `a`}}{{ .X }}");
    match now(template.evaluate(&REGISTRY, inputs())) {
        Ok(pipeline) => assert!(!pipeline.notes.has_errors()),
        Err(found) => {
            assert!(found.has_errors());
            packer_layout_all(&found);
        }
    }
    if let Ok(inspection) = now(template.inspect(&REGISTRY, inputs())) {
        let _ = (inspection.to_string(), inspection.values());
    }
    if let Ok(console) = now(template.console(&REGISTRY, inputs())) {
        let _ = console.answer("{{user `a`}} {{build_name}}");
    }
});
