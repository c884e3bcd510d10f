//! The provisioner's contract: change a machine while it is up.

use std::borrow::Cow;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::builder::{Machine, type_name_of};
use crate::context::{Context, PrepareContext};
use crate::diagnostic::Diagnostics;
use crate::error::{Error, Result};
use crate::ledger::Resource;
use crate::value::Value;

/// Changes a machine.
///
/// # Behavior
/// - `prepare` is called before any build starts, `provision` once for each try. The machine a try finds is the
///   machine the last one left: a provisioner that can be retried must bear that.
/// - Pauses, timeouts, retries and `continue_on_error` are the engine's. A timeout or a cancellation drops the
///   future at an await point; what must be undone belongs into the ledger ([`Context::own`]), also what lies in the
///   machine ([`Resource::remote_file`]): [`clean`](Self::clean) takes that out.
/// - One value may provision several machines at once.
#[async_trait]
pub trait Provisioner: Send + Sync {
    /// Checks what can be checked without a machine. The default finds nothing wrong.
    fn prepare(&self, _cx: &PrepareContext) -> Diagnostics {
        Diagnostics::new()
    }

    /// Does the work on one machine.
    async fn provision(&self, cx: &Context, machine: &dyn Machine) -> Result<()>;

    /// Destroys one resource of this provisioner's. Idempotent, like
    /// [`Builder::release`](crate::Builder::release).
    ///
    /// What lies in a machine that nobody can enter any more is an error of the [fault](crate::Fault) `Guest`, as by default.
    /// Where the machine was somebody else's, recovery tells it once and strikes it out of the ledger.
    async fn release(&self, _cx: &Context, resource: &Resource) -> Result<()> {
        if resource.is_in_machine() {
            return Err(Error::guest(
                "it is in a machine that nobody is in any more, and has to be removed there",
            ));
        }
        Err(Error::internal(format!("nothing is known about how to release {resource}")))
    }

    /// Takes out of the machine what a try left there that failed, ran out of time or was cancelled: a
    /// [`Resource::remote_file`] of this provisioner's. Idempotent. The machine is still up, but it may be the very reason
    /// why the try failed: the engine waits some seconds and no longer. What stays goes to [`release`](Self::release)
    /// when the machine is gone, unless it went with the machine.
    async fn clean(&self, _cx: &Context, _machine: &dyn Machine, resource: &Resource) -> Result<()> {
        Err(Error::internal(format!("nothing is known about how to take {resource} out of the machine")))
    }

    /// Whether it runs commands in the machine. Of a build whose machine cannot run any
    /// ([`Prepared::no_commands`](crate::Prepared::no_commands)) those that say so are refused before it starts; the
    /// default, `false`, leaves it to the machine's communicator to refuse.
    fn runs_commands(&self) -> bool {
        false
    }

    /// What this step's outcome depends on; feeds the key under which a finished step may be reused.
    fn inputs(&self) -> StepInputs {
        StepInputs::Volatile
    }

    /// The configuration as a block of a template would hold it: an object without the fields that are not
    /// set, sensitive where it is secret. What a
    /// pipeline written in code is exported from, what `plan` shows, and part of the key under which a finished step may
    /// be reused. `None`, the default, where a component cannot say; [`config::to_value`](crate::config::to_value) makes
    /// it from a struct that serializes.
    fn config(&self) -> Option<Value> {
        None
    }

    /// The name of this kind of provisioner in output where no template gives one.
    fn type_name(&self) -> Cow<'static, str> {
        type_name_of::<Self>()
    }
}

/// What the outcome of a step depends on beside its configuration.
///
/// ```
/// use packer_core::{Provisioner, ProvisionStep, StepInputs};
/// fn building(make: impl Provisioner + 'static) -> ProvisionStep {
///     ProvisionStep::new(make).inputs(StepInputs::Files(vec!["src".into(), "Makefile".into()]))
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepInputs {
    /// The content of these files and folders, and nothing else.
    Files(Vec<PathBuf>),
    /// More than can be known: the step is never reused.
    Volatile,
}
