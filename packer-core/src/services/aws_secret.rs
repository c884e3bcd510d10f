//! Secrets of AWS Secrets Manager.

use serde_json::{Value as Json, json};

use crate::aws::{AccessConfig, Service, Session};
use crate::language::functions::Capabilities;

/// The text of a secret, in its current version.
pub(super) async fn read(cx: &Capabilities, name: &str) -> Result<String, String> {
    let options = AccessConfig::default().for_one_call();
    let of_arn = || name.strip_prefix("arn:")?.split(':').nth(2).filter(|region| !region.is_empty());
    let failed = |e: &str| format!("reading the secret {name:?} of AWS: {e}");
    let session = Box::pin(Session::open(cx.clone(), options, of_arn())).await;
    let session = session.map_err(|e| failed(e.message()))?;
    let asked = json!({ "SecretId": name, "VersionStage": "AWSCURRENT" });
    let answer = session.json(Service::SECRETS_MANAGER, "GetSecretValue", &asked).await;
    let answer = answer.map_err(|e| failed(&e.in_short()))?;
    match answer.get("SecretString").and_then(Json::as_str) {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("the secret {name:?} of AWS is no text")),
    }
}
