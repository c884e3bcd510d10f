//! Functions of outside services: secrets of Vault and AWS, values of Consul.
//!
//! What they reach is a capability of the host's: [`RealServices`](crate::services::RealServices) asks the services;
//! [`NoServices`] refuses; a host can have an answer of its own.

use std::fmt;

use super::{Add, Capabilities, Function, FunctionResult, Param, text};
use crate::value::{Type, Value};

/// Access to services outside of this machine, as far as the host grants it.
///
/// The calls wait for the answer. `cx` is what else may be used: variables, files, cancellation. An error is a sentence
/// without a full stop, and holds no secret.
pub trait Services: Send + Sync + fmt::Debug {
    /// The field `key` of the secret at `path` of Vault: of the key/value engine of version 2, else of version 1.
    ///
    /// # Errors
    /// Where there is none, or Vault cannot be asked.
    fn vault(&self, cx: &Capabilities, path: &str, key: &str) -> Result<String, String>;

    /// The value of a key of Consul's key/value store.
    ///
    /// # Errors
    /// Where there is none, or Consul cannot be asked.
    fn consul_key(&self, cx: &Capabilities, key: &str) -> Result<String, String>;

    /// The text of a secret of AWS Secrets Manager, by its name or ARN, in its current version.
    ///
    /// # Errors
    /// Where there is none, it is no text, or the service cannot be asked.
    fn aws_secret(&self, cx: &Capabilities, name: &str) -> Result<String, String>;
}

/// Refuses every request.
#[derive(Debug, Clone, Copy)]
pub struct NoServices;

impl NoServices {
    fn refuse(what: &str) -> Result<String, String> {
        Err(format!("this host gives templates no access to {what}"))
    }
}

impl Services for NoServices {
    fn vault(&self, _: &Capabilities, _: &str, _: &str) -> Result<String, String> {
        Self::refuse("Vault")
    }

    fn consul_key(&self, _: &Capabilities, _: &str) -> Result<String, String> {
        Self::refuse("Consul")
    }

    fn aws_secret(&self, _: &Capabilities, _: &str) -> Result<String, String> {
        Self::refuse("AWS Secrets Manager")
    }
}

/// A shorter text is no secret; every word with it in would be replaced in the output.
const SHORTEST_SECRET: usize = 4;

/// What the functions of both template languages do. Secrets are registered where they enter.
impl Capabilities {
    fn learn(&self, secret: &str) {
        if secret.len() >= SHORTEST_SECRET {
            self.secrets.add(secret);
        }
    }

    /// `vault`: a field of a secret of Vault.
    ///
    /// # Errors
    /// As [`Services::vault`].
    pub fn vault(&self, path: &str, key: &str) -> Result<String, String> {
        let secret = self.services.vault(self, path, key)?;
        self.learn(&secret);
        Ok(secret)
    }

    /// `consul_key`: a value of Consul.
    ///
    /// # Errors
    /// As [`Services::consul_key`], and where the value is empty.
    pub fn consul_key(&self, key: &str) -> Result<String, String> {
        match self.services.consul_key(self, key)? {
            value if value.is_empty() => Err(format!("the value of the Consul key {key:?} is empty")),
            value => Ok(value),
        }
    }

    /// `aws_secretsmanager`: a secret of AWS Secrets Manager. Of one that is a JSON object the entry `key`, which may be
    /// left out where there is only one; any other text as it is.
    ///
    /// # Errors
    /// As [`Services::aws_secret`], and where there is no such entry or it is neither text nor number.
    pub fn aws_secretsmanager(&self, name: &str, key: Option<&str>) -> Result<String, String> {
        let whole = self.services.aws_secret(self, name)?;
        self.learn(&whole);
        let secret = entry(&whole, name, key.unwrap_or_default())?;
        self.learn(&secret);
        Ok(secret)
    }

    /// `aws_secretsmanager_raw`: the text of a secret of AWS Secrets Manager.
    ///
    /// # Errors
    /// As [`Services::aws_secret`].
    pub fn aws_secretsmanager_raw(&self, name: &str) -> Result<String, String> {
        let secret = self.services.aws_secret(self, name)?;
        self.learn(&secret);
        Ok(secret)
    }
}

/// The entry of a secret that may be a JSON object; an empty `key` is none.
fn entry(secret: &str, name: &str, key: &str) -> Result<String, String> {
    let Ok(serde_json::Value::Object(entries)) = serde_json::from_str(secret) else {
        return Ok(secret.to_owned());
    };
    let value = match (key, entries.len()) {
        ("", 1) => entries.values().next(),
        ("", 0) => return Err(format!("the secret {name:?} has no entries")),
        ("", count) => {
            return Err(format!("the secret {name:?} has {count} entries: say which key is meant"));
        }
        (key, _) => entries.get(key),
    };
    match value {
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        // Packer writes no decimals.
        Some(serde_json::Value::Number(n)) if n.is_f64() => {
            Ok(format!("{:.0}", n.as_f64().unwrap_or_default()))
        }
        Some(serde_json::Value::Number(n)) => Ok(n.to_string()),
        Some(_) => Err(format!("the value of the entry of the secret {name:?} is neither text nor number")),
        None => Err(format!("the secret {name:?} has no entry {key:?}")),
    }
}

pub(super) fn add(add: Add<'_>) {
    let secret = |result: Result<String, String>| -> FunctionResult { Ok(Value::text(&result?).sensitive()) };
    add(
        "vault",
        Function::new(["path", "key"].map(Param::string), Type::String, move |a, cx| {
            secret(cx.vault(text(&a[0]), text(&a[1])))
        }),
    );
    add(
        "consul_key",
        Function::new([Param::string("key")], Type::String, |a, cx| {
            Ok(Value::text(&cx.consul_key(text(&a[0]))?))
        }),
    );
    add(
        "aws_secretsmanager",
        Function::new(
            [Param::string("name"), Param::string("key").nullable()],
            Type::String,
            move |a, cx| secret(cx.aws_secretsmanager(text(&a[0]), a[1].as_str())),
        ),
    );
    add(
        "aws_secretsmanager_raw",
        Function::new([Param::string("name")], Type::String, move |a, cx| {
            secret(cx.aws_secretsmanager_raw(text(&a[0])))
        }),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_secrets() {
        for (secret, key, expected) in [
            ("plain text", "", Ok("plain text")),
            ("plain text", "k", Ok("plain text")),
            ("123", "", Ok("123")),
            ("[1]", "", Ok("[1]")),
            (r#"{"a": "x"}"#, "", Ok("x")),
            (r#"{"a": "x", "b": "y"}"#, "b", Ok("y")),
            (r#"{"a": 5432}"#, "a", Ok("5432")),
            (r#"{"a": 2.75}"#, "a", Ok("3")),
            (r#"{"a": 12345678901234567890}"#, "a", Ok("12345678901234567890")),
            (r#"{"a": "x", "b": "y"}"#, "", Err("the secret \"n\" has 2 entries: say which key is meant")),
            ("{}", "", Err("the secret \"n\" has no entries")),
            (r#"{"a": "x"}"#, "z", Err("the secret \"n\" has no entry \"z\"")),
            (
                r#"{"a": true}"#,
                "a",
                Err("the value of the entry of the secret \"n\" is neither text nor number"),
            ),
        ] {
            let entry = entry(secret, "n", key);
            assert_eq!(entry.as_deref().map_err(String::as_str), expected, "{secret} {key}");
        }
    }
}
