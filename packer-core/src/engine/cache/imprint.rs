//! Imprints: what the outcome of a step depends on, as hashes, and what differs between two of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::files::Read;
use super::keyed::Keyed;
use crate::event::{FileChange, Reason};
use crate::secrets::{REDACTED, Secrets};
use crate::value::{Data, Value};

/// How many bytes of a field's value are remembered to show later what it was.
const SHOWN: usize = 200;

/// How a secret is shown.
const HIDDEN: &str = "\"<sensitive>\"";

/// How many files of a step are remembered by name; of more only the paths that the step names.
const NAMED: usize = 1000;

/// What a step (or a builder) is, but for what was there before it. Holds no secret: values are keyed hashes, texts are
/// masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Imprint {
    /// Over the whole of it.
    digest: String,
    fields: BTreeMap<String, Field>,
    files: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Field {
    digest: String,
    shown: String,
}

impl Imprint {
    /// Of a component's type, its configuration, and the files it reads.
    ///
    /// # Errors
    /// Where the configuration holds what cannot be told.
    pub(crate) fn new(
        keyed: &Keyed,
        kind: &str,
        config: &Value,
        files: &[Read],
        secrets: &Secrets,
    ) -> Result<Self, String> {
        let whole = config.to_json_string().map_err(|e| e.to_string())?;
        let mut digest = keyed.begin("imprint");
        digest.part(kind.as_bytes());
        digest.part(whole.as_bytes());
        for read in files {
            digest.part(read.digest.as_bytes());
        }
        let mut fields = BTreeMap::new();
        flatten(config, String::new(), &mut |name, value| {
            let text = value.to_json_string().unwrap_or_default();
            let field = Field { digest: keyed.of("field", [&text]), shown: shown(value, secrets) };
            fields.insert(name, field);
        });
        let entries = || files.iter().flat_map(|read| &read.entries);
        let files = match entries().count() {
            0..=NAMED => entries().cloned().collect(),
            _ => {
                files.iter().filter_map(|r| Some((r.entries.first()?.0.clone(), r.digest.clone()))).collect()
            }
        };
        Ok(Self { digest: digest.end(), fields, files })
    }

    /// The key of the state behind this, when the state before has the key `before`.
    pub(crate) fn after(&self, keyed: &Keyed, before: &str) -> String {
        keyed.of("state", [before, &self.digest])
    }

    /// What is different now from what `earlier` was.
    pub(crate) fn changes(&self, earlier: &Self, of_builder: bool) -> Vec<Reason> {
        let mut reasons = Vec::new();
        for (field, from, to) in differences(&earlier.fields, &self.fields) {
            // What is secret now may have been in clear when nobody had said so.
            let hide = to.is_some_and(|to| to.shown == HIDDEN);
            let from = from.map(|f| if hide { HIDDEN.to_owned() } else { f.shown.clone() });
            let to = to.map(|f| f.shown.clone());
            reasons.push(match of_builder {
                true => Reason::BuilderConfiguration { field, from, to },
                false => Reason::Configuration { field, from, to },
            });
        }
        for (path, from, to) in differences(&earlier.files, &self.files) {
            let change = match (from, to) {
                (None, _) => FileChange::Added,
                (_, None) => FileChange::Removed,
                _ => FileChange::Changed,
            };
            reasons.push(Reason::File { path, change });
        }
        reasons
    }

    /// Whether both are the same in all that counts.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

type Difference<'a, T> = (String, Option<&'a T>, Option<&'a T>);

fn differences<'a, T: PartialEq>(
    from: &'a BTreeMap<String, T>,
    to: &'a BTreeMap<String, T>,
) -> Vec<Difference<'a, T>> {
    let mut names: Vec<&String> = from.keys().chain(to.keys().filter(|k| !from.contains_key(*k))).collect();
    names.sort();
    let pair = |name: &String| (name.clone(), from.get(name), to.get(name));
    names.into_iter().map(pair).filter(|(_, from, to)| from != to).collect()
}

/// Gives the fields of an object by name, those of objects in it as `outer.inner`.
fn flatten(value: &Value, name: String, give: &mut impl FnMut(String, &Value)) {
    match value.data() {
        Data::Map(_, fields) | Data::Object(fields) if !value.is_sensitive() => {
            for (inner, value) in fields.iter() {
                let name = if name.is_empty() { inner.to_string() } else { format!("{name}.{inner}") };
                flatten(value, name, give);
            }
        }
        _ => give(name, value),
    }
}

/// A value as JSON for people: secrets masked, cut where it is long.
fn shown(value: &Value, secrets: &Secrets) -> String {
    let text = masked(value, secrets).to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A value as JSON in which no secret is in clear; what is not known is `<unknown>`.
pub(crate) fn masked(value: &Value, secrets: &Secrets) -> serde_json::Value {
    use serde_json::Value as Json;
    if value.is_sensitive() {
        return REDACTED.into();
    }
    if value.is_too_deep() {
        return "<nested too deeply>".into();
    }
    match value.data() {
        Data::Unknown(_) => "<unknown>".into(),
        Data::String(text) => secrets.scrub(&**text).into_owned().into(),
        Data::List(_, items) | Data::Set(_, items) | Data::Tuple(items) => {
            Json::Array(items.iter().map(|v| masked(v, secrets)).collect())
        }
        Data::Map(_, fields) | Data::Object(fields) => {
            let field = |(name, v): (&std::sync::Arc<str>, &Value)| {
                (secrets.scrub_prose(&**name).into_owned(), masked(v, secrets))
            };
            Json::Object(fields.iter().map(field).collect())
        }
        Data::Number(number) if *secrets.scrub_prose(number.to_string()) != number.to_string() => {
            REDACTED.into()
        }
        Data::Null(_) | Data::Bool(_) | Data::Number(_) => value.to_json().unwrap_or(Json::Null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Type;

    fn imprint(config: Value) -> Imprint {
        let secrets = Secrets::new();
        secrets.add("hunter2");
        Imprint::new(&Keyed::new(b"k").unwrap(), "shell", &config, &[], &secrets).unwrap()
    }

    #[test]
    fn changes_are_told_by_field_and_secrets_are_not() {
        let before = imprint(Value::object([
            ("inline", Value::tuple([Value::from("echo 1")])),
            ("env", Value::object([("A", Value::from("1")), ("T", Value::from("s1").sensitive())])),
            ("gone", Value::from(true)),
        ]));
        let after = imprint(Value::object([
            ("inline", Value::tuple([Value::from("echo hunter2")])),
            ("env", Value::object([("A", Value::from("1")), ("T", Value::from("s2").sensitive())])),
            ("new", Value::from(7)),
        ]));
        let words: Vec<String> = after.changes(&before, false).iter().map(Reason::to_string).collect();
        assert_eq!(
            words,
            [
                r#"configuration field env.T changed (it shows as "<sensitive>" before and after)"#,
                "configuration field gone is gone; it was true",
                r#"configuration field inline changed from ["echo 1"] to ["echo <sensitive>"]"#,
                "configuration field new is new: 7",
            ]
        );
        let stored = serde_json::to_string(&[&before, &after]).unwrap();
        for secret in ["s1", "s2", "hunter2"] {
            assert!(!stored.contains(&format!("{secret}\"")), "{secret} in {stored}");
        }
        assert!(after.changes(&after, false).is_empty());
    }

    #[test]
    fn what_has_become_a_secret_is_not_told_as_it_was() {
        let open = imprint(Value::object([("pw", Value::from("OldPw11111"))]));
        let secret = imprint(Value::object([("pw", Value::from("NewPw22222").sensitive())]));
        let words: Vec<String> = secret.changes(&open, true).iter().map(Reason::to_string).collect();
        assert_eq!(
            words,
            ["configuration field pw of the builder changed (it shows as \"<sensitive>\" before and after)"]
        );
    }

    #[test]
    fn what_is_not_known_makes_no_imprint() {
        let config = Value::object([("inline", Value::unknown(Type::String))]);
        let keyed = Keyed::new(b"k").unwrap();
        assert!(Imprint::new(&keyed, "shell", &config, &[], &Secrets::new()).is_err());
    }

    #[test]
    fn a_name_with_a_dot_is_no_nesting() {
        let dotted = imprint(Value::object([("a.b", Value::from(1))]));
        let nested = imprint(Value::object([("a", Value::object([("b", Value::from(1))]))]));
        assert!(!dotted.is_same(&nested));
    }
}
