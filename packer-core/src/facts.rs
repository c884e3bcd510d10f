//! Facts: what is known about a machine that is up, as `build.*` and `{{build "…"}}` show it.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;

use crate::value::Value;

/// Names and values of what a builder knows about its machine. Names are those of Packer's templates: `ID`,
/// `Host`, `Port`, `User`, `Password`, `ConnType`, `SSHPrivateKey`, …, and the builder's own.
///
/// Values that are secret (`Password`, `SSHPrivateKey`, `WinRMPassword`) are marked sensitive by the setters
/// here; a builder marks its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts(BTreeMap<String, Value>);

impl Facts {
    /// Names that templates may refer to before the machine exists, whatever the builder.
    pub const COMMON: [&'static str; 13] = [
        "ID",
        "Host",
        "Port",
        "User",
        "Password",
        "ConnType",
        "PackerRunUUID",
        "PackerHTTPPort",
        "PackerHTTPIP",
        "PackerHTTPAddr",
        "SSHPublicKey",
        "SSHPrivateKey",
        "WinRMPassword",
    ];

    /// Nothing known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a value of any name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets the identity of the machine.
    #[must_use]
    pub fn id(self, id: &str) -> Self {
        self.with("ID", id)
    }

    /// Sets how the machine is reached.
    #[must_use]
    pub fn connection(self, kind: &str, host: &str, port: u16, user: &str) -> Self {
        self.with("ConnType", kind).with("Host", host).with("Port", i64::from(port)).with("User", user)
    }

    /// Sets the password of the connection.
    #[must_use]
    pub fn password(self, password: &str) -> Self {
        self.with("Password", Value::from(password).sensitive())
    }

    /// Sets a value of any name.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.0.insert(name.into(), value.into());
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The value of a name as text: as templates insert it.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.get(name)?.to_json().ok()? {
            serde_json::Value::String(text) => Some(text),
            other => Some(other.to_string()),
        }
    }

    /// The facts an artifact carries on to post-processors.
    pub fn from_json(data: &BTreeMap<String, serde_json::Value>) -> Self {
        Self(data.iter().map(|(name, value)| (name.clone(), Value::from_json(value))).collect())
    }

    /// All names and values, by name.
    pub fn iter(&self) -> Iter<'_, String, Value> {
        self.0.iter()
    }
}
