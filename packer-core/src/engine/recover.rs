//! Recovery: a later process releases what an earlier one left in its ledger.

use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::engine::Engine;
use crate::engine::cleanup::{Component, Gone, remove, with_patience};
use crate::engine::report::Left;
use crate::error::{Error, Result};
use crate::event::EventKind;
use crate::facts::BuildInfo;
use crate::ledger::{Ledger, Resource, Role};
use crate::registry::Registry;
use crate::secrets::Secrets;
use crate::value::Value;

/// What became of the resources of a ledger.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// What exists no more, in the order in which it was released.
    pub released: Vec<Resource>,
    /// What is still there, and in the ledger.
    pub left: Vec<Left>,
}

impl Engine {
    /// Releases what `ledger` still holds, newest first: files and folders by itself, everything else through the
    /// component of `registry` that made it, configured as the ledger tells.
    ///
    /// Safe to repeat, and to interrupt: what was not released stays in the ledger. Call it for a ledger that no run uses.
    pub async fn recover(&self, ledger: Arc<dyn Ledger>, registry: &Registry) -> RecoveryReport {
        let run = Self { ledger: Some(ledger.clone()), ..self.clone() }.run_context(Secrets::new());
        let run = Arc::new(run);
        let mut report = RecoveryReport::default();
        let mut outstanding = ledger.outstanding();
        // What lies in a machine comes last: it goes with the machine.
        outstanding.sort_by_key(|resource| !resource.is_in_machine());
        for resource in outstanding.into_iter().rev() {
            let info = BuildInfo {
                display_name: resource.build.as_str().into(),
                builder_type: resource.component.clone(),
                core_version: crate::VERSION.to_owned(),
                ..BuildInfo::default()
            };
            let cx = Context::new(run.clone(), Arc::new(info), &resource.component, CancellationToken::new());
            match release(&cx, registry, &resource).await {
                Ok(()) => report.released.push(resource),
                Err(error) => {
                    let reason = error.to_string();
                    cx.emit(EventKind::ResourceLeft { resource: resource.clone(), error: reason.clone() });
                    report.left.push(Left { resource, reason });
                }
            }
        }
        run.events.close();
        report
    }
}

async fn release(cx: &Context, registry: &Registry, resource: &Resource) -> Result<()> {
    if resource.is_local() {
        remove(resource, Gone::IsFine).await?;
    } else if !resource.went_with_its_machine(&cx.run().ledger.outstanding()) {
        let component = component(registry, resource)?;
        with_patience(cx, || component.release(cx, resource)).await?;
    }
    cx.released(resource)
}

/// The component of a registry that made a resource, configured as the resource tells.
pub(crate) fn component(registry: &Registry, resource: &Resource) -> Result<Component> {
    let name = &resource.component;
    let config = match &resource.config {
        serde_json::Value::Null => serde_json::Value::Object(serde_json::Map::new()),
        config => config.clone(),
    };
    let config = Value::from_json(&config);
    let made = match resource.role {
        Role::Builder => registry.get_builder(name).map(|t| t.decode(&config).map(Component::Builder)),
        Role::Provisioner => {
            registry.get_provisioner(name).map(|t| t.decode(&config).map(Component::Provisioner))
        }
        Role::PostProcessor => {
            registry.get_post_processor(name).map(|t| t.decode(&config).map(Component::PostProcessor))
        }
    };
    made.ok_or_else(|| Error::user(format!("{resource} belongs to {name:?}, which is not registered here")))?
        .map_err(|e| {
            Error::internal(format!("the configuration of {name:?} in the ledger is not usable: {e}"))
        })
}
