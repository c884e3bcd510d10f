//! What templates look up in an account of AWS.

mod ami;
mod parameterstore;
mod secretsmanager;

pub use ami::AmazonAmi;
pub use parameterstore::AmazonParameterStore;
pub use secretsmanager::AmazonSecretsManager;

use packer_core::aws::AccessConfig;
use packer_core::{Context, Diagnostic, Diagnostics, PrepareContext, Value};

/// A shorter text is not looked for in the output: every word with it in would be replaced.
const SHORTEST_SECRET: usize = 4;

/// A text that is a secret.
fn secret(cx: &Context, text: &str) -> Value {
    if text.len() >= SHORTEST_SECRET {
        cx.secrets().add(text);
    }
    Value::text(text).sensitive()
}

/// What is wrong with the options of something that has a name.
fn check(cx: &PrepareContext, access: &AccessConfig, name: &str) -> Diagnostics {
    let mut found = access.check(cx);
    if name.is_empty() {
        found.push(Diagnostic::error("a 'name' must be provided"));
    }
    found
}
