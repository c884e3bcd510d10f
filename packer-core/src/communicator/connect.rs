//! From the options of a communicator to a connection: which of those that are built in connects.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Communicator, CommunicatorConfig, NoCommunicator, Target};
use crate::config;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::value::Value;

impl CommunicatorConfig {
    /// These options, and those of `defaults` where these say nothing: for builders whose machines are not entered by SSH
    /// unless said otherwise, or have a user or a time of their own. What such a builder then asks (`prepare`,
    /// `unsupported`, `connect`, `facts`), it asks the result.
    ///
    /// As everywhere in these options an empty text, an empty list, a zero and `false` say nothing.
    ///
    /// ```
    /// use packer_core::CommunicatorConfig;
    /// struct Vm { communicator: CommunicatorConfig }
    /// impl Vm {
    ///     fn communicator(&self) -> CommunicatorConfig {
    ///         self.communicator.or(&CommunicatorConfig::ssh("packer").port(2222))
    ///     }
    /// }
    ///
    /// let vm = Vm { communicator: CommunicatorConfig::default().host("192.0.2.7").port(22) };
    /// assert_eq!(vm.communicator(), CommunicatorConfig::ssh("packer").host("192.0.2.7").port(22));
    /// ```
    #[must_use]
    pub fn or(&self, defaults: &Self) -> Self {
        let says =
            |value: &Value| !value.is_null() && value.as_str() != Some("") && value.as_i64() != Some(0);
        let given = |options: &Self| {
            let fields = config::to_value(options).and_then(|options| options.as_map().cloned());
            fields.unwrap_or_default().into_iter().filter(|(_, value)| says(value))
        };
        let mut both: BTreeMap<_, _> = given(defaults).collect();
        both.extend(given(self));
        // What was written out is read again.
        config::from_value(&Value::object(both)).unwrap_or_else(|_| self.clone())
    }

    /// Connects to the machine.
    ///
    /// Says what it waits for through `cx`, registers passwords and keys as secrets, and ends early on cancellation.
    ///
    /// # Errors
    /// `Timeout waiting for SSH.` and the like, of which [`Error::why_unreachable`] says why as data; an error at once
    /// where another try cannot help (the machine's key is not the expected one) and where this build has no such
    /// communicator.
    #[cfg_attr(
        not(any(feature = "ssh", feature = "winrm")),
        expect(unused_variables, reason = "nothing to connect with")
    )]
    pub async fn connect(&self, cx: &Context, target: &Target) -> Result<Arc<dyn Communicator>> {
        match self.kind() {
            "none" => Ok(Arc::new(NoCommunicator::new())),
            #[cfg(feature = "ssh")]
            "ssh" if self.unsupported().is_none() => super::ssh::connect(cx, self, target).await,
            #[cfg(feature = "winrm")]
            "winrm" => super::winrm::connect(cx, self, target).await,
            kind => Err(match self.unsupported() {
                Some(finding) => Error::user(finding.to_string()),
                None => Error::user(format!("this builder does not support the communicator {kind}")),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secret;

    /// Options of which each says something.
    fn full() -> CommunicatorConfig {
        let schema = schemars::schema_for!(CommunicatorConfig);
        let fields = schema.get("properties").unwrap().as_object().unwrap();
        let value = |name: &str, schema: &serde_json::Value| {
            let kind = schema["type"].clone();
            let is =
                |what: &str| kind == what || kind.as_array().is_some_and(|all| all.contains(&what.into()));
            match name {
                _ if name.ends_with("_timeout")
                    || name.ends_with("_interval")
                    || name.starts_with("pause") =>
                {
                    "7s".into()
                }
                _ if is("boolean") => true.into(),
                _ if is("integer") => 7.into(),
                _ if is("array") => serde_json::json!([name]),
                _ => serde_json::Value::from(name),
            }
        };
        let all: serde_json::Map<_, _> =
            fields.iter().map(|(name, schema)| (name.clone(), value(name, schema))).collect();
        serde_json::from_value(all.into()).unwrap()
    }

    #[test]
    fn what_is_not_said_is_taken_from_the_defaults_and_nothing_is_lost() {
        let (full, empty) = (full(), CommunicatorConfig::default());
        let said = config::to_value(&full).unwrap();
        let schema = schemars::schema_for!(CommunicatorConfig);
        let fields = schema.get("properties").unwrap().as_object().unwrap().len();
        assert_eq!(said.as_map().unwrap().len(), fields, "each option is tried");
        assert_eq!(full.or(&empty), full);
        assert_eq!(empty.or(&full), full);
        assert_eq!(full.or(&full), full);
        assert_eq!(empty.or(&empty), empty);
    }

    #[test]
    fn what_is_empty_says_nothing() {
        let written = serde_json::json!({
            "communicator": "", "ssh_username": "", "ssh_password": "", "ssh_port": 0, "ssh_ciphers": [],
            "ssh_timeout": "0s", "ssh_pty": false,
        });
        let written: CommunicatorConfig = serde_json::from_value(written).unwrap();
        let defaults = CommunicatorConfig::ssh("packer").port(2222).password("hunter2");
        let both = written.or(&defaults);
        assert_eq!(both, defaults);
        assert_eq!(both.ssh_password.as_ref().map(Secret::reveal), Some("hunter2"));
        assert_eq!(CommunicatorConfig::none().or(&defaults).kind(), "none");
    }
}
