//! Execution policies of PowerShell.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Which scripts PowerShell runs. In templates a name, in any case of letters, or its number, counted from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ExecutionPolicy {
    /// Everything, without a question.
    #[default]
    Bypass,
    /// What is signed.
    AllSigned,
    /// What the system has as its default.
    Default,
    /// What is local, and what is signed.
    RemoteSigned,
    /// Nothing.
    Restricted,
    /// None is set here.
    Undefined,
    /// Everything, with a question for what comes from the network.
    Unrestricted,
    /// No policy is named, and no program: the machine's own shell has to be PowerShell.
    None,
}

/// By number, with their names.
const ALL: [(ExecutionPolicy, &str); 8] = [
    (ExecutionPolicy::Bypass, "bypass"),
    (ExecutionPolicy::AllSigned, "allsigned"),
    (ExecutionPolicy::Default, "default"),
    (ExecutionPolicy::RemoteSigned, "remotesigned"),
    (ExecutionPolicy::Restricted, "restricted"),
    (ExecutionPolicy::Undefined, "undefined"),
    (ExecutionPolicy::Unrestricted, "unrestricted"),
    (ExecutionPolicy::None, "none"),
];

impl fmt::Display for ExecutionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ALL.iter().find(|(policy, _)| policy == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl<'de> Deserialize<'de> for ExecutionPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Named)
    }
}

struct Named;

impl Visitor<'_> for Named {
    type Value = ExecutionPolicy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an execution policy of PowerShell")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ExecutionPolicy, E> {
        if let Ok(number) = text.parse() {
            return self.visit_u64(number);
        }
        let found = ALL.iter().find(|(_, name)| text.eq_ignore_ascii_case(name));
        found.map(|(policy, _)| *policy).ok_or_else(|| unknown(text))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<ExecutionPolicy, E> {
        let found = usize::try_from(number).ok().and_then(|number| ALL.get(number));
        found.map(|(policy, _)| *policy).ok_or_else(|| unknown(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<ExecutionPolicy, E> {
        u64::try_from(number).map_err(|_| unknown(number)).and_then(|number| self.visit_u64(number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<ExecutionPolicy, E> {
        let found = (0_u32..8).find(|n| f64::from(*n) == number);
        found.map_or_else(|| Err(unknown(number)), |n| self.visit_u64(n.into()))
    }
}

fn unknown<E: de::Error>(what: impl fmt::Display) -> E {
    let names: Vec<&str> = ALL.iter().map(|(_, name)| *name).collect();
    E::custom(format!("{what} does not belong to ExecutionPolicy values: {}", names.join(", ")))
}

impl JsonSchema for ExecutionPolicy {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ExecutionPolicy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_or_number() {
        let read = |value: serde_json::Value| serde_json::from_value::<ExecutionPolicy>(value);
        assert_eq!(read("RemoteSigned".into()).unwrap(), ExecutionPolicy::RemoteSigned);
        assert_eq!(read(4.into()).unwrap(), ExecutionPolicy::Restricted);
        assert_eq!(read("7".into()).unwrap(), ExecutionPolicy::None);
        for wrong in [serde_json::json!("trusting"), 8.into(), (-1).into(), 1.5.into()] {
            let error = read(wrong.clone()).unwrap_err().to_string();
            assert!(error.contains("does not belong to ExecutionPolicy values"), "{wrong}: {error}");
        }
        for (policy, name) in ALL {
            assert_eq!(
                (policy.to_string().as_str(), serde_json::to_value(policy).unwrap()),
                (name, name.into())
            );
        }
    }
}
