//! AWS's files of settings: profiles, single sign-on, addresses of services.

use std::collections::BTreeMap;

use crate::kit::http::{read as read_file, variable};
use crate::language::functions::Capabilities;

/// The settings of a section, by name in small letters. One inside of another is `OUTER.INNER`.
pub(super) type Settings = BTreeMap<String, String>;

/// The two files.
#[derive(Default)]
pub(super) struct Profiles {
    config: BTreeMap<String, Settings>,
    credentials: BTreeMap<String, Settings>,
}

impl Profiles {
    /// Reads the files; one that is not there is empty. `config` stands for the file of that name.
    pub(super) fn read(cx: &Capabilities, config: &str) -> Self {
        let or = |name: &str, usual: &str| variable(cx, name).unwrap_or(usual).to_owned();
        let config = match config {
            "" => or("AWS_CONFIG_FILE", "~/.aws/config"),
            own => own.to_owned(),
        };
        let credentials = or("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials");
        let sections = |path: &str| {
            let bytes = read_file(cx, path).unwrap_or_default();
            parse(&String::from_utf8_lossy(&bytes))
        };
        Self { config: sections(&config), credentials: sections(&credentials) }
    }

    /// A profile. What the file of credentials says of it comes before what the other says.
    pub(super) fn profile(&self, name: &str) -> Option<Settings> {
        let config = self.config.get(&format!("profile {name}"));
        let config = config.or_else(|| self.config.get(name).filter(|_| name == "default"));
        let credentials = self.credentials.get(name);
        if config.is_none() && credentials.is_none() {
            return None;
        }
        let mut all = config.cloned().unwrap_or_default();
        let credentials = credentials.cloned().unwrap_or_default();
        if credentials.contains_key("aws_access_key_id") {
            // Keys of two places do not belong together.
            all.remove("aws_session_token");
        }
        all.extend(credentials);
        Some(all)
    }

    /// The section of a session of single sign-on.
    pub(super) fn sso_session(&self, name: &str) -> Option<&Settings> {
        self.config.get(&format!("sso-session {name}"))
    }

    /// The section that says where services are.
    pub(super) fn services(&self, name: &str) -> Option<&Settings> {
        self.config.get(&format!("services {name}"))
    }
}

/// The sections of a file, by their heading. What is no setting is passed over, as AWS's own tools do.
fn parse(text: &str) -> BTreeMap<String, Settings> {
    let mut sections: BTreeMap<String, Settings> = BTreeMap::new();
    let mut section = None;
    // The setting that indented lines belong to.
    let mut outer = String::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            section = rest.split_once(']').map(|(name, _)| heading(name));
            if let Some(name) = &section {
                sections.entry(name.clone()).or_default();
            }
            outer.clear();
            continue;
        }
        let (Some(section), Some((name, value))) = (&section, content.split_once('=')) else { continue };
        let (mut name, value) = (name.trim().to_lowercase(), without_comment(value));
        if line.starts_with([' ', '\t']) && !outer.is_empty() {
            name = format!("{outer}.{name}");
        } else {
            outer.clone_from(&name);
        }
        let settings = sections.entry(section.clone()).or_default();
        settings.insert(name, value.to_owned());
    }
    sections
}

/// `profile "a b"` as `profile a b`.
fn heading(text: &str) -> String {
    text.split_whitespace().map(|word| word.trim_matches('"')).collect::<Vec<_>>().join(" ")
}

/// A value up to where a comment begins.
fn without_comment(value: &str) -> &str {
    let ends = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    value[..ends.unwrap_or(value.len())].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles(config: &str, credentials: &str) -> Profiles {
        Profiles { config: parse(config), credentials: parse(credentials) }
    }

    #[test]
    fn headings_differ_between_the_files() {
        let files = profiles(
            "[default]\nregion = a\n[profile  \"x\"]\nregion=b # here\n[y]\nregion = c\n[profile default]\nregion=d",
            "[y]\naws_access_key_id = K#1\naws_secret_access_key = a=b\n[profile z]\nk = v\n",
        );
        assert_eq!(files.profile("default").unwrap()["region"], "d");
        assert_eq!(files.profile("x").unwrap()["region"], "b");
        let y = files.profile("y").unwrap();
        assert_eq!((y["aws_access_key_id"].as_str(), y["aws_secret_access_key"].as_str()), ("K#1", "a=b"));
        assert!(!y.contains_key("region") && files.profile("z").is_none());
    }

    #[test]
    fn credentials_come_before_settings_and_bring_their_own_token() {
        let files = profiles(
            "[profile x]\nregion = r\naws_access_key_id = A\naws_session_token = T\n",
            "[x]\naws_access_key_id = B\n",
        );
        let x = files.profile("x").unwrap();
        assert_eq!((x["aws_access_key_id"].as_str(), x["region"].as_str()), ("B", "r"));
        assert!(!x.contains_key("aws_session_token"));
    }

    #[test]
    fn settings_may_hold_settings() {
        let files = profiles(
            "; c\n[services s]\nec2 =\n  endpoint_url = http://a\n\ns3 =\n\tendpoint_url = http://b\n[sso-session o]\nSSO_Region = q\n",
            "",
        );
        let services = files.services("s").unwrap();
        assert_eq!(services["ec2.endpoint_url"], "http://a");
        assert_eq!(services["s3.endpoint_url"], "http://b");
        assert_eq!(files.sso_session("o").unwrap()["sso_region"], "q");
        for odd in ["[", "[]", "= x", "a", "[a\nb=c", "\u{feff}[a]\nb=c"] {
            parse(odd);
        }
    }
}
