//! The data source `amazon-parameterstore`: a parameter of AWS Systems Manager.

use packer_core::aws::{AccessConfig, Service};
use packer_core::{
    Context, DataSource, Diagnostics, Error, PrepareContext, Result, Type, Value, async_trait,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Reads a parameter: `value`, `version` and `arn`. The value of a `SecureString` is a secret; that of others is not.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[non_exhaustive]
pub struct AmazonParameterStore {
    /// The parameter's name or ARN. A version or a label may follow behind a colon.
    pub name: String,
    /// Whether a `SecureString` is decrypted.
    pub with_decryption: bool,
    /// Whose it is.
    #[serde(flatten)]
    pub access: AccessConfig,
}

#[async_trait]
impl DataSource for AmazonParameterStore {
    fn prepare(&self, cx: &PrepareContext) -> Diagnostics {
        super::check(cx, &self.access, &self.name)
    }

    fn output_type(&self) -> Type {
        Type::object([("value", Type::String), ("version", Type::String), ("arn", Type::String)])
    }

    async fn read(&self, cx: &Context) -> Result<Value> {
        let session = self.access.session(cx).await?;
        let asked = json!({ "Name": self.name, "WithDecryption": self.with_decryption });
        let answer =
            cx.until_cancelled(async { Ok(session.json(Service::SSM, "GetParameter", &asked).await) });
        let answer = answer.await?.map_err(|error| match error.code.as_str() {
            "ParameterNotFound" => Error::user(format!("The parameter name {:?} not found", self.name)),
            _ => Error::from(error).context("error to get parameter value"),
        })?;
        let parameter = &answer["Parameter"];
        let text = |name: &str| parameter[name].as_str().unwrap_or_default();
        let Some(value) = parameter["Value"].as_str() else {
            return Err(Error::provider(format!(
                "the answer about the parameter {:?} has no value",
                self.name
            )));
        };
        let value = match text("Type") {
            "SecureString" => super::secret(cx, value),
            _ => Value::text(value),
        };
        let version = parameter["Version"].as_i64().unwrap_or_default();
        Ok(Value::object([
            ("value", value),
            ("version", Value::text(&version.to_string())),
            ("arn", Value::text(text("ARN"))),
        ]))
    }
}
