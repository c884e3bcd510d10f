//! Secrets of HashiCorp Vault.

use reqwest::StatusCode;
use serde_json::Value as Json;

use crate::kit::vault::{self, errors, texts};
use crate::language::functions::Capabilities;

/// The field `key` of the secret at `path`.
pub(super) async fn read(cx: &Capabilities, path: &str, key: &str) -> Result<String, String> {
    let (status, answer) = vault::read(cx, path, &[]).await?;
    if !status.is_success() {
        return Err(refused(path, status, &answer));
    }
    field(&answer, path, key)
}

/// The field of an answer. A secret of version 2 has its fields in an object `data` of its own.
fn field(answer: &Json, path: &str, key: &str) -> Result<String, String> {
    let outer = answer.get("data").and_then(Json::as_object);
    let outer =
        outer.ok_or_else(|| format!("there is no secret at {path:?} of Vault{}", warnings(answer)))?;
    let fields = match outer.get("data") {
        Some(Json::Object(inner)) => inner,
        Some(Json::Null) if outer.contains_key("metadata") => {
            return Err(format!("the secret at {path:?} of Vault is deleted"));
        }
        _ => outer,
    };
    match fields.get(key) {
        Some(Json::String(text)) => Ok(text.clone()),
        Some(value @ (Json::Number(_) | Json::Bool(_))) => Ok(value.to_string()),
        Some(_) => Err(format!("the field {key:?} of the secret at {path:?} of Vault is no text")),
        None => Err(format!("the secret at {path:?} of Vault has no field {key:?}{}", warnings(answer))),
    }
}

fn refused(path: &str, status: StatusCode, answer: &Json) -> String {
    let errors = errors(answer);
    match (status, errors.is_empty()) {
        // A deleted one of version 2 is not found either, but comes with what is known of it.
        (StatusCode::NOT_FOUND, true) if answer.pointer("/data/metadata").is_some() => {
            format!("the secret at {path:?} of Vault is deleted")
        }
        (StatusCode::NOT_FOUND, true) => {
            format!("there is no secret at {path:?} of Vault{}", warnings(answer))
        }
        _ => format!("reading {path:?} of Vault: {status}{errors}"),
    }
}

/// What Vault says beside its answer: that a path is one of version 2, for instance.
fn warnings(answer: &Json) -> String {
    let warnings: Vec<&str> = texts(answer, "warnings").collect();
    if warnings.is_empty() { String::new() } else { format!(" ({})", warnings.join("; ")) }
}
