//! Settings of a step, written behind its component.

use std::time::Duration;

use super::{PostProcessStep, ProvisionStep};
use crate::post_processor::PostProcessor;
use crate::provisioner::Provisioner;

/// Settings of a step, written behind a provisioner: `Shell::inline(["true"]).max_retries(2)`.
pub trait ProvisionerExt: Provisioner + Sized + 'static {
    /// Names the step.
    fn named(self, name: impl Into<String>) -> ProvisionStep {
        ProvisionStep::new(self).named(name)
    }

    /// Waits before each try.
    fn pause_before(self, pause: Duration) -> ProvisionStep {
        ProvisionStep::new(self).pause_before(pause)
    }

    /// Limits each try.
    fn timeout(self, timeout: Duration) -> ProvisionStep {
        ProvisionStep::new(self).timeout(timeout)
    }

    /// Tries this many times more after a failure.
    fn max_retries(self, retries: u32) -> ProvisionStep {
        ProvisionStep::new(self).max_retries(retries)
    }

    /// Lets the build go on when the step fails.
    fn continue_on_error(self) -> ProvisionStep {
        ProvisionStep::new(self).continue_on_error()
    }

    /// Runs the step only in builds made from these sources (`TYPE.NAME`).
    fn only<S: Into<String>>(self, sources: impl IntoIterator<Item = S>) -> ProvisionStep {
        ProvisionStep::new(self).only(sources)
    }

    /// Leaves the step out in builds made from these sources (`TYPE.NAME`).
    fn except<S: Into<String>>(self, sources: impl IntoIterator<Item = S>) -> ProvisionStep {
        ProvisionStep::new(self).except(sources)
    }
}

impl<P: Provisioner + 'static> ProvisionerExt for P {}

/// Settings of a step, written behind a post-processor: `Compress::to("a.tar.gz").keep_input_artifact(true)`.
pub trait PostProcessorExt: PostProcessor + Sized + 'static {
    /// Names the step.
    fn named(self, name: impl Into<String>) -> PostProcessStep {
        PostProcessStep::new(self).named(name)
    }

    /// Says whether the step's input stays.
    fn keep_input_artifact(self, keep: bool) -> PostProcessStep {
        PostProcessStep::new(self).keep_input_artifact(keep)
    }
}

impl<P: PostProcessor + 'static> PostProcessorExt for P {}
