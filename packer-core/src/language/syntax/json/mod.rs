//! JSON syntax: what a schema finds in a JSON value, and JSON values as expressions.

mod reader;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{Expr, ExprKind, JsonString, Name, ObjectExpr, ObjectItem, ObjectKey};
use super::body::{Attribute, Block, Body, BodyKind, Content, Expected, File};
use super::lexer::Start;
use super::{native, parser};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, Span, did_you_mean};
use crate::value::{Type, Value};
use reader::Dialect;

/// A JSON value with its place. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) span: Span,
}

#[derive(Debug, Clone)]
pub(crate) enum NodeKind {
    Null,
    Bool(bool),
    Number(Value),
    String(Arc<str>),
    Array(Arc<[Node]>),
    Object(Arc<[Property]>),
    /// What was wrong, and has been reported.
    Invalid,
}

/// An item of an object.
#[derive(Debug, Clone)]
pub(crate) struct Property {
    pub(crate) name: Name,
    pub(crate) value: Node,
}

impl Property {
    fn span(&self) -> Span {
        self.name.span.to(self.value.span)
    }
}

/// A body: an object, or an array of objects that count as one.
pub(super) type JsonBody = Node;

pub(super) fn parse_file(source: &Arc<SourceFile>) -> (File, Diagnostics) {
    let (root, diagnostics) = reader::read(source, Dialect::Hcl);
    let span = Span::new(0, source.text().len().min(u32::MAX as usize) as u32);
    let body = Body { source: source.clone(), span, kind: BodyKind::Json(root), hidden: None };
    (File { body }, diagnostics)
}

/// Reads a text that is plain JSON.
pub(crate) fn read_plain(source: &Arc<SourceFile>) -> (Node, Diagnostics) {
    reader::read(source, Dialect::Plain)
}

pub(super) fn content(
    body: &Body,
    root: &JsonBody,
    expected: &dyn Expected,
    partial: bool,
    diagnostics: &mut Diagnostics,
) -> Content {
    let mut content = Content::default();
    let mut seen: HashMap<&str, Span> = HashMap::new();
    let properties = properties(body, root, diagnostics);
    for property in properties.iter().filter(|p| p.name.as_str() != "//") {
        let name = property.name.as_str();
        if expected.attribute(name).is_some() {
            if body.hides_attribute(name) {
                continue;
            }
            match seen.get(name) {
                Some(first) => diagnostics.push(twice("Duplicate argument", body, property, *first)),
                None => {
                    seen.insert(name, property.span());
                    content.attributes.push(attribute(body, property));
                }
            }
        } else if let Some(labels) = expected.block(name) {
            if !body.hides_block(name) {
                let header = Header { body, kind: &property.name, labels };
                header.unpack(&property.value, &mut Vec::new(), &mut content.blocks, diagnostics);
            }
        } else if !partial && !body.hides_attribute(name) && !body.hides_block(name) {
            diagnostics.push(extraneous(body, expected, &property.name));
        }
    }
    for (name, _) in expected.attributes().filter(|(_, required)| *required) {
        if content.attribute(name).is_none() {
            diagnostics.push(native::missing_argument(body, name));
        }
    }
    content
}

pub(super) fn attributes(body: &Body, root: &JsonBody, diagnostics: &mut Diagnostics) -> Vec<Attribute> {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    let mut attributes = Vec::new();
    let properties = properties(body, root, diagnostics);
    for property in &properties {
        let name = property.name.as_str();
        if name == "//" || body.hides_attribute(name) || body.hides_block(name) {
            continue;
        }
        match seen.get(name) {
            Some(first) => diagnostics.push(twice("Duplicate attribute definition", body, property, *first)),
            None => {
                seen.insert(name, property.span());
                attributes.push(attribute(body, property));
            }
        }
    }
    attributes
}

/// Whether a body has a property of this name.
pub(super) fn has_property(root: &JsonBody, name: &str) -> bool {
    let named = |properties: &[Property]| properties.iter().any(|p| p.name.as_str() == name);
    match &root.kind {
        NodeKind::Object(properties) => named(properties),
        NodeKind::Array(items) => items.iter().any(|item| match &item.kind {
            NodeKind::Object(properties) => named(properties),
            _ => false,
        }),
        _ => false,
    }
}

fn attribute(body: &Body, property: &Property) -> Attribute {
    Attribute {
        name: property.name.clone(),
        expr: Arc::new(expression(&body.source, &property.value)),
        span: property.span(),
        source: body.source.clone(),
    }
}

fn wrong_type(body: &Body, span: Span, detail: impl Into<String>) -> Diagnostic {
    Diagnostic::error("Incorrect JSON value type").detail(detail).at(span.in_source(&body.source))
}

fn twice(summary: &str, body: &Body, property: &Property, first: Span) -> Diagnostic {
    let first = first.in_source(&body.source);
    Diagnostic::error(summary)
        .detail(format!("\"{}\" was already set at {first}; it can be set only once.", property.name.text))
        .at(property.name.span.in_source(&body.source))
        .related("first set here", first)
}

fn extraneous(body: &Body, expected: &dyn Expected, name: &Name) -> Diagnostic {
    let d = Diagnostic::error("Extraneous JSON object property")
        .detail(format!("No argument and no type of block is named \"{}\" here.", name.text))
        .at(name.span.in_source(&body.source));
    match did_you_mean(&name.text, expected.attributes().map(|(name, _)| name).chain(expected.blocks())) {
        Some(meant) => d.suggest(meant),
        None => d,
    }
}

/// The properties of a body.
fn properties(body: &Body, root: &JsonBody, diagnostics: &mut Diagnostics) -> Vec<Property> {
    let one = "A JSON object is needed here: it holds arguments and blocks.";
    let several = "A JSON object, or an array of objects, is needed here: it holds arguments and blocks.";
    collect(body, root, one, several, diagnostics)
}

/// The properties of an object, or of the objects in an array.
fn collect(
    body: &Body,
    node: &Node,
    one: &str,
    several: &str,
    diagnostics: &mut Diagnostics,
) -> Vec<Property> {
    match &node.kind {
        NodeKind::Object(properties) => properties.to_vec(),
        NodeKind::Array(items) => {
            let mut all = Vec::new();
            for item in items.iter() {
                match &item.kind {
                    NodeKind::Object(properties) => all.extend(properties.iter().cloned()),
                    NodeKind::Invalid => {}
                    _ => diagnostics.push(wrong_type(body, item.span, one)),
                }
            }
            all
        }
        NodeKind::Null | NodeKind::Invalid => Vec::new(),
        _ => {
            diagnostics.push(wrong_type(body, node.span, several));
            Vec::new()
        }
    }
}

/// A property that stands for blocks.
struct Header<'a> {
    body: &'a Body,
    kind: &'a Name,
    /// The names of its labels.
    labels: &'a [Cow<'static, str>],
}

impl Header<'_> {
    /// Goes through the label levels down to the bodies.
    fn unpack(
        &self,
        node: &Node,
        labels: &mut Vec<Name>,
        blocks: &mut Vec<Block>,
        diagnostics: &mut Diagnostics,
    ) {
        let kind = self.kind.as_str();
        let Some(label) = self.labels.get(labels.len()) else {
            match &node.kind {
                NodeKind::Null | NodeKind::Invalid => {}
                NodeKind::Object(_) => blocks.push(self.block(node, node, labels)),
                NodeKind::Array(items) => {
                    blocks.extend(items.iter().map(|item| self.block(node, item, labels)));
                }
                _ => diagnostics.push(wrong_type(
                    self.body,
                    node.span,
                    format!("A JSON object, or an array of them, is needed here: what is inside \"{kind}\" blocks."),
                )),
            }
            return;
        };
        let one = "A JSON object is needed here, whose property names are labels of the block.";
        let several = "A JSON object, or an array of objects, is needed here: its property names are labels of the block.";
        let properties = collect(self.body, node, one, several, diagnostics);
        if properties.is_empty() && !matches!(node.kind, NodeKind::Invalid) {
            let at = if matches!(node.kind, NodeKind::Object(_) | NodeKind::Array(_)) {
                Span::new(node.span.start, node.span.start + 1)
            } else {
                node.span
            };
            diagnostics.push(
                Diagnostic::error("Missing block label")
                    .detail(format!("An object with a property is needed here: its name is the {label} of the {kind} block."))
                    .at(at.in_source(&self.body.source)),
            );
        }
        for property in &properties {
            labels.push(property.name.clone());
            self.unpack(&property.value, labels, blocks, diagnostics);
            labels.pop();
        }
    }

    /// A block; where there are several in an array all are defined where that begins.
    fn block(&self, definition: &Node, node: &Node, labels: &[Name]) -> Block {
        Block {
            kind: self.kind.clone(),
            labels: labels.into(),
            header: self.kind.span.to(Span::new(definition.span.start, definition.span.start + 1)),
            body: Body {
                source: self.body.source.clone(),
                span: node.span,
                kind: BodyKind::Json(node.clone()),
                hidden: None,
            },
        }
    }
}

/// A JSON value as an expression. It recurses no deeper than the reader did.
fn expression(source: &Arc<SourceFile>, node: &Node) -> Expr {
    let kind = match &node.kind {
        NodeKind::Null => ExprKind::Literal(Value::null(Type::Dynamic)),
        NodeKind::Bool(b) => ExprKind::Literal(Value::bool(*b)),
        NodeKind::Number(n) => ExprKind::Literal(n.clone()),
        NodeKind::String(text) => return string(source, text, node.span),
        NodeKind::Array(items) => {
            ExprKind::Tuple(items.iter().map(|item| expression(source, item)).collect())
        }
        NodeKind::Object(properties) => {
            let items = properties
                .iter()
                .map(|p| ObjectItem {
                    key: ObjectKey::Expr(string(source, &p.name.text, p.name.span)),
                    value: expression(source, &p.value),
                })
                .collect();
            ExprKind::Object(ObjectExpr { items, distinct_keys: true })
        }
        NodeKind::Invalid => ExprKind::Invalid,
    };
    Expr { kind, span: node.span }
}

/// A string: always an expression of its own kind, because what it means depends on where it is used.
fn string(source: &Arc<SourceFile>, text: &Arc<str>, span: Span) -> Expr {
    let (template, diagnostics) = if text.contains("${") || text.contains("%{") {
        parse_embedded(source, text, span, Start::Template)
    } else {
        (Expr { kind: ExprKind::Literal(Value::text(text)), span }, Diagnostics::new())
    };
    Expr {
        kind: ExprKind::JsonString(Box::new(JsonString { text: text.clone(), template, diagnostics })),
        span,
    }
}

/// Reads the string that stands at `span` as native syntax.
pub(super) fn parse_embedded(
    source: &Arc<SourceFile>,
    text: &str,
    span: Span,
    start: Start,
) -> (Expr, Diagnostics) {
    let places = reader::places(&source.text()[span.range()]);
    let place = |offset: u32| span.start + places.get(offset as usize).copied().unwrap_or(0);
    parser::parse_embedded(source, text, start, place)
}
