//! JSON objects with their places: taking known items out, and what is left as a component's configuration.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics, Location, Part, SourceFile, Span};
use crate::language::syntax::{Node, NodeKind, Property, read_plain};
use crate::template::suggest::MANY;
use crate::value::{Type, Value};

/// A text and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) text: Arc<str>,
    pub(super) place: Location,
}

/// An item of an object.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) name: Text,
    pub(super) node: Node,
    /// Name and value.
    pub(super) place: Location,
    /// The value alone.
    pub(super) value_place: Location,
}

/// An object in a file. Cheap to clone as far as its items are.
#[derive(Debug, Clone)]
pub(super) struct Object {
    source: Arc<SourceFile>,
    span: Span,
    items: Vec<Property>,
}

impl Object {
    /// The object that a node is; of null an empty one.
    pub(super) fn of(source: &Arc<SourceFile>, node: &Node) -> Option<Self> {
        let items = match &node.kind {
            NodeKind::Object(items) => items.to_vec(),
            NodeKind::Null => Vec::new(),
            _ => return None,
        };
        Some(Self { source: source.clone(), span: node.span, items })
    }

    /// An object without items, which stands where a node does.
    pub(super) fn empty(source: &Arc<SourceFile>, node: &Node) -> Self {
        Self { source: source.clone(), span: node.span, items: Vec::new() }
    }

    /// Where it begins.
    pub(super) fn place(&self) -> Location {
        Span::new(self.span.start, self.span.start + 1).in_source(&self.source)
    }

    /// Takes an item out. A name in another case is the same name where the exact one is not there.
    pub(super) fn take(&mut self, name: &str) -> Option<Item> {
        let same = |p: &Property| p.name.text.to_lowercase() == name;
        let at = self.items.iter().position(|p| &*p.name.text == name);
        let at = at.or_else(|| self.items.iter().position(same))?;
        let property = self.items.remove(at);
        Some(self.item(property))
    }

    /// What has not been taken, in the order written.
    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        self.items.iter().map(|p| self.item(p.clone()))
    }

    fn item(&self, property: Property) -> Item {
        let at = |span: Span| span.in_source(&self.source);
        Item {
            place: at(property.name.span.to(property.value.span)),
            value_place: at(property.value.span),
            name: Text { text: property.name.text, place: at(property.name.span) },
            node: property.value,
        }
    }

    /// What has not been taken, as a value.
    pub(super) fn value(&self) -> Value {
        Value::object(self.items.iter().map(|p| (p.name.text.clone(), value(&p.value))))
    }

    /// The deepest place on a path that can be found. Names may be written in any case; one object may stand for a list of
    /// them.
    pub(super) fn place_of(&self, path: &[Part<'_>]) -> Option<Location> {
        let (first, mut path) = match path {
            [Part::Name(name), rest @ ..] => (named(&self.items, name)?, rest),
            _ => return None,
        };
        let mut span = first.name.span.to(first.value.span);
        let mut node = &first.value;
        while let [part, rest @ ..] = path {
            match (&node.kind, part) {
                (NodeKind::Array(nodes), Part::Index(index)) => {
                    let Some(item) = nodes.get(*index) else { break };
                    (span, node) = (item.span, item);
                }
                (NodeKind::Array(nodes), Part::Name(_)) => {
                    let Some(item) = nodes.first() else { break };
                    node = item;
                    continue;
                }
                (NodeKind::Object(items), Part::Name(name)) => {
                    let Some(item) = named(items, name) else { break };
                    (span, node) = (item.name.span.to(item.value.span), &item.value);
                }
                (NodeKind::Object(_), Part::Index(0)) => {}
                _ => break,
            }
            path = rest;
        }
        Some(span.in_source(&self.source))
    }

    /// Finds where items stand.
    pub(super) fn places(&self) -> Places<'_> {
        let mut by_name = HashMap::with_capacity(self.items.len());
        for item in self.items.iter().rev() {
            by_name.insert(item.name.text.to_lowercase(), item);
        }
        Places { object: self, by_name, searches: Cell::new(0) }
    }
}

/// The item of a name, the exact one first.
fn named<'a>(items: &'a [Property], name: &str) -> Option<&'a Property> {
    let exact = items.iter().find(|item| &*item.name.text == name);
    exact.or_else(|| items.iter().find(|item| item.name.text.to_lowercase() == name.to_lowercase()))
}

/// Where the items of an object stand.
pub(super) struct Places<'a> {
    object: &'a Object,
    /// In lower case.
    by_name: HashMap<String, &'a Property>,
    /// How often items of items were looked for, which takes time for each of them.
    searches: Cell<usize>,
}

impl Places<'_> {
    /// Where the item of a path stands; names in whatever case, parted by dots. Of a list of objects any will do.
    /// Nothing is found inside of items any more once so much was looked for that nobody reads it all.
    pub(super) fn of(&self, path: &str) -> Option<Location> {
        let path = path.to_lowercase();
        if let Some(item) = self.by_name.get(&path) {
            return Some(self.place(item));
        }
        self.searches.set(self.searches.get() + 1);
        if self.searches.get() > MANY {
            return None;
        }
        path.match_indices('.').find_map(|(dot, _)| {
            let item = self.by_name.get(&path[..dot])?;
            self.inside(&item.value, &path[dot + 1..])
        })
    }

    fn inside(&self, node: &Node, path: &str) -> Option<Location> {
        let mut pending = vec![(node, path)];
        while let Some((node, path)) = pending.pop() {
            match &node.kind {
                NodeKind::Array(nodes) => pending.extend(nodes.iter().rev().map(|node| (node, path))),
                NodeKind::Object(items) => {
                    for item in items.iter() {
                        match path.strip_prefix(&item.name.text.to_lowercase()) {
                            Some("") => return Some(self.place(item)),
                            Some(rest) => {
                                pending.extend(rest.strip_prefix('.').map(|rest| (&item.value, rest)))
                            }
                            None => {}
                        }
                    }
                }
                _ => {}
            }
        }
        None
    }

    fn place(&self, item: &Property) -> Location {
        item.name.span.to(item.value.span).in_source(&self.object.source)
    }
}

/// A JSON value as a value. It recurses no deeper than the reader did.
pub(super) fn value(node: &Node) -> Value {
    match &node.kind {
        NodeKind::Null | NodeKind::Invalid => Value::null(Type::Dynamic),
        NodeKind::Bool(b) => Value::bool(*b),
        NodeKind::Number(number) => number.clone(),
        // As it is: Go knows no normal form of texts.
        NodeKind::String(text) => Value::string(text.clone()),
        // In a list null is what an item is that nobody set: the empty text, zero, false.
        NodeKind::Array(nodes) => Value::tuple(nodes.iter().map(|node| match node.kind {
            NodeKind::Null => Value::from(""),
            _ => value(node),
        })),
        NodeKind::Object(items) => {
            Value::object(items.iter().map(|p| (p.name.text.clone(), value(&p.value))))
        }
    }
}

/// What a JSON value is, for messages.
pub(super) fn kind(node: &Node) -> &'static str {
    match &node.kind {
        NodeKind::Null => "null",
        NodeKind::Bool(_) => "a bool",
        NodeKind::Number(_) => "a number",
        NodeKind::String(_) => "a text",
        NodeKind::Array(_) => "a list",
        NodeKind::Object(_) => "an object",
        NodeKind::Invalid => "nothing",
    }
}

/// Reads a template's text as JSON in which no object has a name twice.
///
/// # Errors
/// All that is wrong with the syntax; where that is right, all names that are there twice.
pub(super) fn read(source: &Arc<SourceFile>) -> Result<Node, Diagnostics> {
    let (root, mut diagnostics) = read_plain(source);
    if !diagnostics.has_errors() {
        check_names(source, &root, &mut diagnostics);
    }
    diagnostics.into_result(root)
}

fn check_names(source: &Arc<SourceFile>, root: &Node, diagnostics: &mut Diagnostics) {
    let mut pending = vec![root];
    while let Some(node) = pending.pop() {
        match &node.kind {
            NodeKind::Array(nodes) => pending.extend(nodes.iter()),
            NodeKind::Object(items) => {
                let mut seen: HashMap<&str, Span> = HashMap::with_capacity(items.len());
                for property in items.iter() {
                    let (name, span) = (&*property.name.text, property.name.span);
                    if let Some(first) = seen.insert(name, span) {
                        diagnostics.push(
                            Diagnostic::error(format!("template has duplicate field: {name}"))
                                .detail("The name of an item can be used only once in an object.")
                                .at(span.in_source(source))
                                .related("first set here", first.in_source(source)),
                        );
                    }
                    pending.push(&property.value);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object {
        let source = SourceFile::new("t.json", text);
        Object::of(&source, &read(&source).unwrap()).unwrap()
    }

    #[test]
    fn items_are_found_in_any_case_and_the_exact_name_first() {
        let mut o = object("{\"Type\": 1, \"type\": 2, \"NAME\": 3}");
        for (name, line) in [("type", "2"), ("type", "1"), ("name", "3")] {
            let item = o.take(name).unwrap();
            assert_eq!(item.value_place.source().text()[item.value_place.span().range()], *line);
        }
        assert!(o.take("name").is_none());
    }

    #[test]
    fn places_of_paths() {
        let o = object("{\n\"a\": {\n\"b.c\": [\n1, {\n\"D\": 2}]},\n\"a.x\": 1}");
        for (path, line) in [
            ("a", Some(2)),
            ("a.b.c", Some(3)),
            ("A.B.C.d", Some(5)),
            ("a.x", Some(6)),
            ("a.b", None),
            ("é", None),
        ] {
            assert_eq!(o.places().of(path).map(|p| p.start().line), line, "{path}");
        }
    }

    #[test]
    fn names_are_there_once() {
        let source = SourceFile::new("t.json", "{\"a\": [{\"b\": 1,\n\"b\": 2}],\n\"a\": 1}");
        let found = read(&source).unwrap_err();
        let found: Vec<_> =
            found.iter().map(|d| (d.summary.as_str(), d.location.as_ref().unwrap().start().line)).collect();
        assert_eq!(found, [("template has duplicate field: a", 3), ("template has duplicate field: b", 2)]);
    }
}
