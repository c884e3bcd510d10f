//! The data source's contract: look something up before the builds are known.

use async_trait::async_trait;

use crate::context::{Context, PrepareContext};
use crate::diagnostic::Diagnostics;
use crate::error::Result;
use crate::value::{Type, Value};

/// Looks something up for a template: `data.TYPE.NAME.ATTRIBUTE`.
///
/// # Behavior
/// - `prepare` has no side effects. `read` only reads, is called at most once an evaluation, and several
///   sources may read at once.
/// - The value has the type that `output_type` says; `validate` shows an unknown value of that type to the rest of
///   the template instead of reading.
#[async_trait]
pub trait DataSource: Send + Sync {
    /// Checks what can be checked without looking anything up. The default finds nothing wrong.
    fn prepare(&self, _cx: &PrepareContext) -> Diagnostics {
        Diagnostics::new()
    }

    /// The type of what `read` returns.
    fn output_type(&self) -> Type;

    /// Looks it up.
    async fn read(&self, cx: &Context) -> Result<Value>;
}
