//! The provisioner `breakpoint`: stops the build until somebody presses enter.

use packer_core::{Context, Machine, Provisioner, Result, StepInputs, Value, async_trait, config};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Waits until somebody has had a look at the machine and presses enter; cancelling the build ends the wait.
///
/// ```
/// use packer_provisioners::Breakpoint;
/// let look = Breakpoint::note("nginx is installed, not yet configured");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct Breakpoint {
    /// What to tell whoever looks.
    pub note: String,
    /// Goes on without waiting.
    pub disable: bool,
}

impl Breakpoint {
    /// Waits, and tells this.
    pub fn note(note: impl Into<String>) -> Self {
        Self { note: note.into(), disable: false }
    }
}

#[async_trait]
impl Provisioner for Breakpoint {
    async fn provision(&self, cx: &Context, _: &dyn Machine) -> Result<()> {
        let note = if self.note.is_empty() { String::new() } else { format!(" with note \"{}\"", self.note) };
        if self.disable {
            cx.say(format!("Breakpoint provisioner{note} disabled; continuing..."));
            return Ok(());
        }
        cx.say(format!("Pausing at breakpoint provisioner{note}."));
        match cx.ask("Press enter to continue.").await {
            Ok(_) => Ok(()),
            Err(e) if e.is_cancelled() => Err(e),
            Err(e) => Err(e.context("Error asking for input")),
        }
    }

    /// Whoever looks at the machine may change it.
    fn inputs(&self) -> StepInputs {
        if self.disable { StepInputs::Files(Vec::new()) } else { StepInputs::Volatile }
    }

    fn config(&self) -> Option<Value> {
        config::to_value(self)
    }
}
