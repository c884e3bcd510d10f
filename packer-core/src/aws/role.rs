//! Roles that are taken on: `AssumeRole`, and the same with a token of web identity.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;

use super::call::Who;
use super::{Account, AssumeRole, Credentials, Service, Xml};
use crate::error::{Error, Result};

/// For how long a role is taken on unless somebody says otherwise.
const SECONDS: i64 = 900;

/// A role, and how it is taken on.
#[derive(Default)]
pub(super) struct Role<'a> {
    pub(super) arn: &'a str,
    pub(super) session: String,
    pub(super) external_id: &'a str,
    pub(super) seconds: i64,
    /// The number of a device and its code.
    pub(super) device: Option<(&'a str, String)>,
    policy: &'a str,
    policy_arns: &'a [String],
    tags: Cow<'a, BTreeMap<String, String>>,
    transitive_tag_keys: &'a [String],
}

/// A token that a file holds, for a role.
pub(super) struct Token<'a> {
    pub(super) file: &'a str,
    pub(super) role: &'a str,
    pub(super) session: &'a str,
}

impl<'a> Role<'a> {
    /// A role, with nothing said about how.
    pub(super) fn named(arn: &'a str) -> Self {
        Self { arn, ..Self::default() }
    }
}

impl<'a> From<&'a AssumeRole> for Role<'a> {
    fn from(options: &'a AssumeRole) -> Self {
        Self {
            arn: &options.role_arn,
            session: options.session_name.clone(),
            external_id: &options.external_id,
            seconds: options.duration_seconds,
            device: None,
            policy: &options.policy,
            policy_arns: &options.policy_arns,
            tags: Cow::Borrowed(&options.tags),
            transitive_tag_keys: &options.transitive_tag_keys,
        }
    }
}

impl Role<'_> {
    /// As STS takes it; empty ones are left out.
    fn parameters(&self) -> Vec<(String, String)> {
        let seconds = if self.seconds > 0 { self.seconds } else { SECONDS };
        let mut all = vec![
            ("RoleArn".to_owned(), self.arn.to_owned()),
            ("RoleSessionName".to_owned(), session_name(&self.session)),
            ("DurationSeconds".to_owned(), seconds.to_string()),
            ("ExternalId".to_owned(), self.external_id.to_owned()),
            ("Policy".to_owned(), self.policy.to_owned()),
        ];
        if let Some((device, code)) = &self.device {
            all.push(("SerialNumber".to_owned(), (*device).to_owned()));
            all.push(("TokenCode".to_owned(), code.clone()));
        }
        for (n, arn) in (1..).zip(self.policy_arns) {
            all.push((format!("PolicyArns.member.{n}.arn"), arn.clone()));
        }
        for (n, (key, value)) in (1..).zip(self.tags.iter()) {
            all.push((format!("Tags.member.{n}.Key"), key.clone()));
            all.push((format!("Tags.member.{n}.Value"), value.clone()));
        }
        for (n, key) in (1..).zip(self.transitive_tag_keys) {
            all.push((format!("TransitiveTagKeys.member.{n}"), key.clone()));
        }
        // A tag may be without a value.
        all.retain(|(name, value)| !value.is_empty() || name.starts_with("Tags."));
        all
    }
}

impl Account {
    /// Takes a role on.
    pub(super) async fn assume(&self, role: &Role<'_>, with: &Credentials) -> Result<Credentials> {
        const ACTION: &str = "AssumeRole";
        if let Some((device, code)) = &role.device
            && code.is_empty()
        {
            let arn = role.arn;
            return Err(Error::user(format!(
                "the role {arn} asks for a code of the device {device}: set mfa_code"
            )));
        }
        let parameters = role.parameters();
        let asked = self.query(Service::STS, &self.home, ACTION, &parameters, Who::These(with)).await;
        let answer =
            asked.map_err(|e| Error::from(e).context(format!("Cannot assume IAM Role {}", role.arn)))?;
        self.of_answer(&answer, ACTION)
    }

    /// Takes a role on with a token that says who this is.
    pub(super) async fn assume_with_token(&self, token: &Token<'_>) -> Result<Credentials> {
        const ACTION: &str = "AssumeRoleWithWebIdentity";
        let content = crate::kit::http::read(&self.cx, token.file).map_err(Error::user)?;
        let content = String::from_utf8_lossy(&content).trim().to_owned();
        super::credentials::learn(&self.cx.secrets, &content);
        let parameters = [
            ("RoleArn", token.role.to_owned()),
            ("RoleSessionName", session_name(token.session)),
            ("WebIdentityToken", content),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let asked = self.query(Service::STS, &self.home, ACTION, &parameters, Who::Nobody).await;
        let answer =
            asked.map_err(|e| Error::from(e).context(format!("Cannot assume IAM Role {}", token.role)))?;
        self.of_answer(&answer, ACTION)
    }

    fn of_answer(&self, answer: &Xml, action: &str) -> Result<Credentials> {
        let found = answer.at(&format!("{action}Result.Credentials")).and_then(Credentials::from_xml);
        let found =
            found.ok_or_else(|| Error::provider(format!("the answer to {action} has no credentials")))?;
        found.register(&self.cx.secrets);
        Ok(found)
    }
}

/// One with the time where there is none.
fn session_name(own: &str) -> String {
    if own.is_empty() { format!("packer-{}", Timestamp::now().as_nanosecond()) } else { own.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sts_is_told() {
        let options = AssumeRole {
            role_arn: "r".into(),
            tags: [("Team".into(), String::new())].into(),
            transitive_tag_keys: vec!["Team".into()],
            ..AssumeRole::default()
        };
        let mut told = Role::from(&options).parameters();
        assert!(told.remove(1).1.starts_with("packer-1"));
        let told: Vec<_> = told.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            told,
            [
                "RoleArn=r",
                "DurationSeconds=900",
                "Tags.member.1.Key=Team",
                "Tags.member.1.Value=",
                "TransitiveTagKeys.member.1=Team"
            ]
        );
    }
}
