//! Secrets of AWS Secrets Manager.

use serde_json::Value as Json;

use crate::aws::{Account, Call};
use crate::kit::http::switch;
use crate::language::functions::Capabilities;

/// The text of a secret, in its current version.
#[cfg(feature = "functions-aws")]
pub(super) async fn read(cx: &Capabilities, name: &str) -> Result<String, String> {
    let account = Account::of(cx);
    let region = account.region(name)?;
    let fips = switch(cx, "AWS_USE_FIPS_ENDPOINT")?.unwrap_or(false);
    let service = if fips { "secretsmanager-fips" } else { "secretsmanager" };
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let own = account.endpoint("AWS_ENDPOINT_URL_SECRETS_MANAGER")?;
    let call = Call {
        service: "secretsmanager",
        target: "secretsmanager.GetSecretValue",
        address: own.unwrap_or_else(|| format!("https://{service}.{region}.{domain}")),
        region,
        body: serde_json::json!({ "SecretId": name, "VersionStage": "AWSCURRENT" }),
    };
    let answer = account.ask(call).await.map_err(|e| format!("reading the secret {name:?} of AWS: {e}"))?;
    match answer.get("SecretString").and_then(Json::as_str) {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("the secret {name:?} of AWS is no text")),
    }
}
