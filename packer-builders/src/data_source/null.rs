//! The data source `null`: hands its input on.

use packer_core::{
    Context, DataSource, Diagnostic, Diagnostics, PrepareContext, Result, Type, Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Gives back what it is given: a value with a place in the order of data sources.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct NullData {
    /// The text to hand on, as `output`.
    pub input: String,
}

#[async_trait]
impl DataSource for NullData {
    fn prepare(&self, _: &PrepareContext) -> Diagnostics {
        let mut found = Diagnostics::new();
        if self.input.is_empty() {
            found.push(Diagnostic::error("The `input` must be specified"));
        }
        found
    }

    fn output_type(&self) -> Type {
        Type::object([("output", Type::String)])
    }

    async fn read(&self, _: &Context) -> Result<Value> {
        Ok(Value::object([("output", Value::text(&self.input))]))
    }
}
