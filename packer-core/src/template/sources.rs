//! Sources: `source "TYPE" "NAME"` blocks, and references to them.

use std::collections::HashMap;
use std::sync::Arc;

use super::syntax::{Block, is_identifier};
use super::{MANY, suggestion};
use crate::diagnostic::{Diagnostic, Diagnostics};

/// Which source a build is made from: its type and its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SourceRef {
    pub(super) kind: Arc<str>,
    pub(super) name: Arc<str>,
}

impl SourceRef {
    /// Reads `TYPE.NAME` or `source.TYPE.NAME`. Of three parts or more the first and those behind the third mean
    /// nothing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        let (kind, name) = match parts.as_slice() {
            [kind, name] | [_, kind, name, ..] => (*kind, *name),
            _ => return None,
        };
        Some(Self { kind: kind.into(), name: name.into() })
    }

    /// The same where both parts must be names.
    pub(super) fn parse_strict(text: &str) -> Option<Self> {
        Self::parse(text).filter(|r| is_identifier(&r.kind) && is_identifier(&r.name))
    }
}

impl std::fmt::Display for SourceRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.kind, self.name)
    }
}

/// The sources of a template.
#[derive(Debug, Default)]
pub(super) struct Sources<'a>(HashMap<SourceRef, &'a Block>);

impl<'a> Sources<'a> {
    /// Gathers the sources; what is in them is looked at where they are used.
    pub(super) fn new(blocks: &'a [Block], diagnostics: &mut Diagnostics) -> Self {
        let mut sources: HashMap<SourceRef, &Block> = HashMap::with_capacity(blocks.len());
        for block in blocks {
            let [kind, name] = &*block.labels else { continue };
            let key = SourceRef { kind: kind.text.clone(), name: name.text.clone() };
            if let Some(first) = sources.get(&key) {
                diagnostics.push(
                    Diagnostic::error("Duplicate source block")
                        .detail(format!("There are two sources {key}; each needs a name of its own."))
                        .at(block.location())
                        .related("the first", first.location()),
                );
                continue;
            }
            sources.insert(key, block);
        }
        Self(sources)
    }

    pub(super) fn get(&self, source: &SourceRef) -> Option<&'a Block> {
        self.0.get(source).copied()
    }

    /// What is wrong with a reference to a source that is not there.
    pub(super) fn not_found(&self, source: &SourceRef, diagnostics: &Diagnostics) -> Diagnostic {
        let wanted = source.to_string();
        let d = Diagnostic::error(format!("Unknown source {wanted}"))
            .detail("No template file defines this source.");
        if diagnostics.len() > MANY {
            return d;
        }
        let mut known: Vec<String> = self.0.keys().map(ToString::to_string).collect();
        known.sort_unstable();
        if let Some(meant) = suggestion(&wanted, known.iter().map(String::as_str), diagnostics) {
            return d.help(format!("did you mean {meant:?}?"));
        }
        let known = match known.as_slice() {
            [] => "no source at all".to_owned(),
            all if all.len() > 10 => format!("{} and {} more", all[..10].join(", "), all.len() - 10),
            all => all.join(", "),
        };
        d.detail(format!("No template file defines this source. There is {known}."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for (text, loose, strict) in [
            ("null.n", Some("null.n"), Some("null.n")),
            ("source.null.n", Some("null.n"), Some("null.n")),
            ("any.null.n.rest.of.it", Some("null.n"), Some("null.n")),
            ("file.a b", Some("file.a b"), None),
            ("n", None, None),
            (".", Some("."), None),
        ] {
            assert_eq!(SourceRef::parse(text).map(|r| r.to_string()).as_deref(), loose, "{text}");
            assert_eq!(SourceRef::parse_strict(text).map(|r| r.to_string()).as_deref(), strict, "{text}");
        }
    }
}
