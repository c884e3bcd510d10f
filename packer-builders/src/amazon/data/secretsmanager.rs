//! The data source `amazon-secretsmanager`: a secret of AWS Secrets Manager.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use packer_core::aws::{AccessConfig, Service};
use packer_core::{
    Context, DataSource, Diagnostics, Error, PrepareContext, Result, Type, Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

/// Reads a secret: `secret_string`, `secret_binary`, `version_id`, and `value`, which is an entry of a secret that is a JSON
/// object, and any other text as it is. Bytes that are no text are given in base64.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct AmazonSecretsManager {
    /// The secret's name or ARN.
    pub name: String,
    /// Which entry of a JSON object is the value. Default its first.
    pub key: String,
    /// Which version is read.
    pub version_id: String,
    /// Which stage is read where `version_id` is not set. Default `AWSCURRENT`.
    pub version_stage: String,
    /// Whose it is.
    #[serde(flatten)]
    pub access: AccessConfig,
}

impl AmazonSecretsManager {
    /// The version as AWS is asked for it: the name of the parameter, and what it is.
    fn version(&self) -> (&'static str, &str) {
        match (self.version_id.as_str(), self.version_stage.as_str()) {
            ("", "") => ("VersionStage", "AWSCURRENT"),
            ("", stage) => ("VersionStage", stage),
            (id, _) => ("VersionId", id),
        }
    }
}

#[async_trait]
impl DataSource for AmazonSecretsManager {
    fn prepare(&self, cx: &PrepareContext) -> Diagnostics {
        super::check(cx, &self.access, &self.name)
    }

    fn output_type(&self) -> Type {
        Type::object(
            ["value", "secret_string", "secret_binary", "version_id"].map(|name| (name, Type::String)),
        )
    }

    async fn read(&self, cx: &Context) -> Result<Value> {
        let session = self.access.session(cx).await?;
        let (kind, version) = self.version();
        let asked = json!({ "SecretId": self.name, kind: version });
        let answer = cx.until_cancelled(async {
            Ok(session.json(Service::SECRETS_MANAGER, "GetSecretValue", &asked).await)
        });
        let answer = answer.await?.map_err(|error| match error.code.as_str() {
            "ResourceNotFoundException" => {
                let name = &self.name;
                Error::user(format!("Secrets Manager Secret {name:?} Version {version:?} not found"))
            }
            _ => Error::from(error).context("error reading Secrets Manager Secret Version"),
        })?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default();
        let (whole, bytes) = (text("SecretString"), binary(text("SecretBinary")));
        let all = super::secret(cx, whole);
        let value = entry(whole, &self.key)
            .map_err(|why| Error::user(format!("error to get secret value: {why:?}")))?;
        Ok(Value::object([
            ("value", super::secret(cx, &value)),
            ("secret_string", all),
            ("secret_binary", super::secret(cx, &bytes)),
            ("version_id", Value::text(text("VersionId"))),
        ]))
    }
}

/// Bytes as a text: decoded where they are one.
fn binary(encoded: &str) -> Cow<'_, str> {
    let bytes = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    bytes.map_or(Cow::Borrowed(encoded), Cow::Owned)
}

/// The value of a secret: the entry of an object, the first one where `key` is empty; what is no JSON as it is.
fn entry(secret: &str, key: &str) -> Result<String, String> {
    let Ok(document) = serde_json::from_str::<Json>(secret) else { return Ok(secret.to_owned()) };
    let empty = serde_json::Map::new();
    let entries = match &document {
        Json::Object(entries) => entries,
        // To a program in Go it is an object without entries.
        Json::Null => &empty,
        other => {
            let kind = json_kind(other);
            return Err(format!("the secret is a JSON {kind}, which has no entries"));
        }
    };
    let value = if key.is_empty() { entries.values().next() } else { entries.get(key) };
    match value {
        Some(Json::String(text)) => Ok(text.clone()),
        // Packer writes no decimals.
        Some(Json::Number(number)) => Ok(format!("{:.0}", number.as_f64().unwrap_or_default())),
        Some(other) => Err(format!("Unsupported secret value type: {}", json_kind(other))),
        None => Err(format!("No secret found for key {key:?}")),
    }
}

fn json_kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_part_of_a_secret_is_the_value() {
        for (secret, key, expected) in [
            ("plain text", "k", Ok("plain text")),
            ("", "", Ok("")),
            (r#"{"a": "x", "b": "y"}"#, "", Ok("x")),
            (r#"{"a": "x", "b": "y"}"#, "b", Ok("y")),
            (r#"{"a": 5432.6}"#, "a", Ok("5433")),
            (r#"{"a": 2.5}"#, "a", Ok("2")),
            (r#"{"a": true}"#, "", Err("Unsupported secret value type: bool")),
            (r#"{"a": {"b": 1}}"#, "a", Err("Unsupported secret value type: object")),
            ("42", "", Err("the secret is a JSON number, which has no entries")),
            ("\"text\"", "", Err("the secret is a JSON string, which has no entries")),
            ("null", "", Err("No secret found for key \"\"")),
            (r#"{"a": "x"}"#, "z", Err("No secret found for key \"z\"")),
        ] {
            let found = entry(secret, key);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{secret} {key}");
        }
        assert_eq!(
            (binary("cGxhaW4="), binary("/w=="), binary("")),
            ("plain".into(), "/w==".into(), "".into())
        );
    }
}
