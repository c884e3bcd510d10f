//! Sources: `source "TYPE" "NAME"` blocks, and references to them.

use std::collections::HashMap;
use std::sync::Arc;

use super::component::PartBody;
use super::decode;
use super::for_each::{self, FOR_EACH, ForEach, Instance};
use super::suggest::{MANY, suggestion};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::eval::Scope;
use crate::language::syntax::{Attribute, Block, Body, BodySchema, is_identifier};
use crate::registry::Registry;

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

/// A source as it is defined.
#[derive(Debug, Clone)]
pub(super) struct Definition<'a> {
    pub(super) block: &'a Block,
    /// What the builder reads.
    pub(super) part: PartBody,
    /// Which of the sources that a block with `for_each` stands for.
    pub(super) instance: Option<Instance>,
}

/// The sources of a template.
#[derive(Debug, Default)]
pub(super) struct Sources<'a> {
    all: HashMap<SourceRef, Definition<'a>>,
    /// The names of the sources that a block with `for_each` stands for, by the block's own name.
    groups: HashMap<SourceRef, Vec<Arc<str>>>,
    /// Blocks whose `for_each` is not known yet, by type: any name of this type may be one of theirs.
    open: HashMap<Arc<str>, Definition<'a>>,
}

/// What defining sources needs beside their blocks.
pub(super) struct Definer<'d> {
    pub(super) registry: &'d Registry,
    pub(super) scope: &'d Scope,
    /// Whether everything that `for_each` may say must be known.
    pub(super) strict: bool,
}

impl<'a> Sources<'a> {
    /// Gathers the sources. What is in them is looked at where they are used, but for a `for_each`.
    pub(super) fn new(blocks: &'a [Block], definer: &Definer<'_>, diagnostics: &mut Diagnostics) -> Self {
        let mut sources = Self { all: HashMap::with_capacity(blocks.len()), ..Self::default() };
        for block in blocks {
            let [kind, name] = &*block.labels else { continue };
            let key = SourceRef { kind: kind.text.clone(), name: name.text.clone() };
            if sources.defines(&key) {
                sources.add_twice(&key, block, diagnostics);
                continue;
            }
            match definer.for_each(block, diagnostics) {
                Some((for_each, body)) => {
                    sources.add_group(key, block, &for_each, &body, definer, diagnostics)
                }
                None => {
                    let part = PartBody { body: block.body.clone(), iterators: Vec::new(), unknown: false };
                    sources.all.insert(key, Definition { block, part, instance: None });
                }
            }
        }
        sources
    }

    fn defines(&self, key: &SourceRef) -> bool {
        self.all.contains_key(key) || self.groups.contains_key(key)
    }

    fn add_twice(&self, key: &SourceRef, block: &Block, diagnostics: &mut Diagnostics) {
        let first = self.all.get(key).or_else(|| {
            let any = self.groups.get(key)?.first()?;
            self.all.get(&SourceRef { kind: key.kind.clone(), name: any.clone() })
        });
        let d = Diagnostic::error("Duplicate source block")
            .detail(format!("There are two sources {key}; each needs a name of its own."))
            .at(block.location());
        diagnostics.push(match first {
            Some(first) => d.related("the first", first.block.location()),
            None => d,
        });
    }

    /// Adds the sources that a block with `for_each` stands for.
    fn add_group(
        &mut self,
        key: SourceRef,
        block: &'a Block,
        for_each: &Attribute,
        body: &Body,
        definer: &Definer<'_>,
        diagnostics: &mut Diagnostics,
    ) {
        let (content, body) = body.partial_content(&BodySchema::new().optional("name"), diagnostics);
        let definition = |instance: Instance| {
            let part = PartBody { body: body.clone(), iterators: vec![instance.variable()], unknown: false };
            Definition { block, part, instance: Some(instance) }
        };
        let instances = match for_each::evaluate(for_each, definer.scope, definer.strict, diagnostics) {
            ForEach::Known(instances) => instances,
            ForEach::Unknown(any) => {
                self.open.insert(key.kind.clone(), definition(any.clone()));
                self.all.insert(key, definition(any));
                return;
            }
            ForEach::Wrong => Vec::new(),
        };
        let mut names = Vec::with_capacity(instances.len());
        for instance in instances {
            let name: Arc<str> = match content.attribute("name") {
                Some(name) => match decode::text(name, &instance.scope(definer.scope), diagnostics) {
                    Some(name) => name.into(),
                    None => continue,
                },
                None => format!("{}-{}", key.name, instance.key).into(),
            };
            let own = SourceRef { kind: key.kind.clone(), name: name.clone() };
            if self.defines(&own) {
                self.add_twice(&own, block, diagnostics);
                continue;
            }
            self.all.insert(own, definition(instance));
            names.push(name);
        }
        self.groups.insert(key, names);
    }

    /// The definition of a source.
    pub(super) fn get(&self, source: &SourceRef) -> Option<&Definition<'a>> {
        self.all.get(source).or_else(|| self.open.get(&source.kind))
    }

    /// The sources that a reference means: that of this name, or all that the block of this name stands for.
    pub(super) fn named(&self, source: SourceRef) -> Vec<SourceRef> {
        match self.groups.get(&source) {
            Some(names) => {
                names.iter().map(|name| SourceRef { kind: source.kind.clone(), name: name.clone() }).collect()
            }
            None => vec![source],
        }
    }

    /// What is wrong with a reference to a source that is not there.
    pub(super) fn not_found(&self, source: &SourceRef, diagnostics: &Diagnostics) -> Diagnostic {
        let wanted = source.to_string();
        let d = Diagnostic::error(format!("Unknown source {wanted}"))
            .detail("No template file defines this source.");
        if diagnostics.len() > MANY {
            return d;
        }
        let names = self.all.keys().chain(self.groups.keys());
        let mut known: Vec<String> = names.map(ToString::to_string).collect();
        known.sort_unstable();
        if let Some(meant) = suggestion(&wanted, known.iter().map(String::as_str), diagnostics) {
            return d.suggest(meant);
        }
        let known = match known.as_slice() {
            [] => "no source at all".to_owned(),
            all if all.len() > 10 => format!("{} and {} more", all[..10].join(", "), all.len() - 10),
            all => all.join(", "),
        };
        d.detail(format!("No template file defines this source. There is {known}."))
    }
}

impl Definer<'_> {
    /// The `for_each` of a source block and the body without it. An argument of that name which the builder itself has
    /// is the builder's.
    fn for_each(&self, block: &Block, diagnostics: &mut Diagnostics) -> Option<(Attribute, Body)> {
        let own =
            self.registry.get_builder(block.label(0)).is_some_and(|b| b.schema.field(FOR_EACH).is_some());
        if own || !block.body.has_attribute(FOR_EACH) {
            return None;
        }
        let (content, body) = block.body.partial_content(&BodySchema::new().optional(FOR_EACH), diagnostics);
        Some((content.attribute(FOR_EACH)?.clone(), body))
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
