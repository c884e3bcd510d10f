//! The provisioner `sleep`: waits.

use std::time::Duration;

use packer_core::duration::GoDuration;
use packer_core::{
    Context, Diagnostic, Diagnostics, Machine, PrepareContext, Provisioner, Result, StepInputs, Value,
    async_trait, config,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Waits for a while; cancelling the build ends the wait.
///
/// ```
/// use packer_provisioners::Sleep;
/// let settle = Sleep::seconds(30);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Sleep {
    /// How long.
    pub duration: GoDuration,
}

impl Sleep {
    /// Waits this many seconds.
    pub fn seconds(seconds: u64) -> Self {
        Self { duration: Duration::from_secs(seconds).into() }
    }
}

#[async_trait]
impl Provisioner for Sleep {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        if self.duration.is_negative() {
            found.push(Diagnostic::error("The duration of a sleep cannot be negative"));
        }
        found
    }

    async fn provision(&self, cx: &Context, _: &dyn Machine) -> Result<()> {
        cx.sleep(self.duration.to_std()).await
    }

    fn inputs(&self) -> StepInputs {
        StepInputs::Files(Vec::new())
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}
