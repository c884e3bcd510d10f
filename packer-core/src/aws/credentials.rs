//! Credentials, and how they are written where they come from.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value as Json;

use super::Xml;
use crate::secrets::{Secret, Secrets};

/// How long before their end credentials are fetched anew, unless they are good for a short time only.
const EARLY: Duration = Duration::from_secs(120);

/// What AWS knows somebody by.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Secret,
    /// The session token of temporary ones.
    pub token: Option<Secret>,
    /// Until when they are good; `None` where that has no end or nobody knows.
    pub expires: Option<Timestamp>,
}

impl Credentials {
    /// Keys that are good until somebody deletes them.
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<Secret>) -> Self {
        Self { access_key: access_key.into(), secret_key: secret_key.into(), token: None, expires: None }
    }

    /// Those of a document with `AccessKeyId` and `SecretAccessKey`: of a program, a container, a machine.
    pub(super) fn from_json(answer: &Json) -> Option<Self> {
        let text = |name: &str| answer.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
        let mut found = Self::new(text("AccessKeyId")?, text("SecretAccessKey")?);
        found.token = text("SessionToken").or_else(|| text("Token")).map(Secret::from);
        found.expires = text("Expiration").and_then(|text| text.parse().ok());
        Some(found)
    }

    /// Those of an element `Credentials` in an answer of STS.
    pub(super) fn from_xml(element: &Xml) -> Option<Self> {
        let text = |name: &str| Some(element.text_at(name)).filter(|text| !text.is_empty());
        let mut found = Self::new(text("AccessKeyId")?, text("SecretAccessKey")?);
        found.token = text("SessionToken").map(Secret::from);
        found.expires = text("Expiration").and_then(|text| text.parse().ok());
        Some(found)
    }

    /// Tells the run what of them nobody may see.
    pub(super) fn register(&self, secrets: &Secrets) {
        learn(secrets, self.secret_key.reveal());
        learn(secrets, self.token.as_ref().map_or("", Secret::reveal));
    }

    /// Whether they may be used at a time, having been fetched at another.
    pub(super) fn are_fresh(&self, now: Timestamp, fetched: Timestamp) -> bool {
        let Some(end) = self.expires else { return true };
        let whole = end.duration_since(fetched).unsigned_abs();
        let left = end.duration_since(now);
        left.is_positive() && left.unsigned_abs() > EARLY.min(whole / 10)
    }
}

/// Tells the run of a secret. One that is shorter than any of AWS's is none; every word with it in would be replaced.
pub(super) fn learn(secrets: &Secrets, text: &str) {
    const SHORTEST: usize = 4;
    if text.len() >= SHORTEST {
        secrets.add(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_fetched_anew_before_they_end() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let mut own = Credentials::new("A", "B");
        assert!(own.are_fresh(at(10), at(0)));
        own.expires = Some(at(3600));
        assert!(own.are_fresh(at(3400), at(0)) && !own.are_fresh(at(3500), at(0)));
        own.expires = Some(at(60));
        assert!(
            own.are_fresh(at(50), at(0)) && !own.are_fresh(at(55), at(0)) && !own.are_fresh(at(90), at(0))
        );
    }

    #[test]
    fn documents_of_all_sources() {
        let json = serde_json::json!({
            "AccessKeyId": "A", "SecretAccessKey": "B", "Token": "C", "Expiration": "2037-01-01T00:00:00Z",
        });
        let found = Credentials::from_json(&json).unwrap();
        assert_eq!((found.access_key.as_str(), found.token), ("A", Some("C".into())));
        assert_eq!(found.expires.unwrap().to_string(), "2037-01-01T00:00:00Z");
        assert_eq!(Credentials::from_json(&serde_json::json!({ "AccessKeyId": "A" })), None);
        let xml =
            b"<Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>B</SecretAccessKey></Credentials>";
        assert_eq!(Credentials::from_xml(&Xml::parse(xml).unwrap()), Some(Credentials::new("A", "B")));
    }
}
