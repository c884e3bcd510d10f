//! Facts: what is known about a build before it runs, and about a machine that is up, as `build.*` and `{{build "…"}}` show it.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;
use std::sync::Arc;

use crate::value::Value;

/// What is known about a build before it runs; the same for each of its components.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct BuildInfo {
    /// How the build is called in output: `web.null.a`.
    pub display_name: Arc<str>,
    /// `packer_build_name`: the name of the source.
    pub name: String,
    /// `packer_builder_type`.
    pub builder_type: String,
    /// `build.name`: the name of the template's build block.
    pub build_block: String,
    /// The version of this library, as components see it.
    pub core_version: String,
    /// Whether the host asked for one step at a time.
    pub debug: bool,
    /// Whether existing outputs may be replaced.
    pub force: bool,
    /// The on-error policy, as components see it: empty, `cleanup`, `abort`, `ask`, `run-cleanup-provisioner`.
    pub on_error: String,
    /// Where the template is, for legacy JSON templates; empty otherwise.
    pub template_path: String,
    /// When the template was read: the time that `{{timestamp}}` and its like show in all components. Where there is no
    /// template they show when the run began.
    pub started: Option<jiff::Timestamp>,
    /// Values behind `{{user}}` (legacy templates).
    pub user_variables: BTreeMap<String, String>,
    /// Names of the variables that are sensitive.
    pub sensitive_variables: Vec<String>,
    /// What `{{clean_resource_name}}` does (legacy templates, where the builder has it).
    pub clean_resource_name: Option<fn(&str) -> String>,
}

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
