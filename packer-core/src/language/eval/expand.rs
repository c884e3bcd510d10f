//! Bodies with `dynamic` blocks: what they hold once those are written out.

use std::borrow::Cow;

use super::super::syntax::{Attribute, Block, Body, BodySchema, Expected, Expr, Name, is_identifier};
use super::Scope;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::value::{Data, Type, Value, convert};

/// What a body holds of what was expected, `dynamic` blocks written out.
#[derive(Debug, Clone, Default)]
pub struct Expanded {
    /// The attributes, in the order written; evaluated in the scope of the body.
    pub attributes: Vec<Attribute>,
    /// The blocks, in the order written.
    pub blocks: Vec<ExpandedBlock>,
}

/// A block, written as such or made by a `dynamic` block.
#[derive(Debug, Clone)]
pub struct ExpandedBlock {
    /// The block.
    pub block: Block,
    /// The scope of what is inside: that of the body, with the iterator if a `dynamic` block made it.
    pub scope: Scope,
    /// Whether it stands for a number of blocks that is not known yet: every attribute in it is unknown.
    pub unknown: bool,
}

impl Expanded {
    /// The attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| &*a.name.text == name)
    }

    /// The blocks of this type, in the order written.
    pub fn blocks<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a ExpandedBlock> {
        self.blocks.iter().filter(move |b| &*b.block.kind.text == kind)
    }
}

impl Body {
    /// As [`content`](Self::content), with `dynamic` blocks written out.
    pub fn expand(&self, schema: &BodySchema, scope: &Scope, diagnostics: &mut Diagnostics) -> Expanded {
        self.expand_of(schema, scope, diagnostics)
    }

    pub(crate) fn expand_of(
        &self,
        expected: &dyn Expected,
        scope: &Scope,
        diagnostics: &mut Diagnostics,
    ) -> Expanded {
        let content = self.content_of(&WithDynamic(expected), false, diagnostics);
        write_out(self, content, expected, scope, false, diagnostics)
    }

    /// As [`partial_content`](Self::partial_content), with `dynamic` blocks written out; those that make other
    /// blocks than the schema has stay in the rest.
    pub fn expand_partial(
        &self,
        schema: &BodySchema,
        scope: &Scope,
        diagnostics: &mut Diagnostics,
    ) -> (Expanded, Self) {
        let content = self.content_of(&WithDynamic(schema), true, diagnostics);
        let expanded = write_out(self, content, schema, scope, true, diagnostics);
        let (_, rest) = self.partial_content(schema, &mut Diagnostics::new());
        (expanded, rest)
    }
}

/// What is expected, and `dynamic` blocks.
struct WithDynamic<'e>(&'e dyn Expected);

impl Expected for WithDynamic<'_> {
    fn attribute(&self, name: &str) -> Option<bool> {
        self.0.attribute(name)
    }

    fn block(&self, kind: &str) -> Option<&[Cow<'static, str>]> {
        const LABELS: &[Cow<'static, str>] = &[Cow::Borrowed("type")];
        if kind == "dynamic" { Some(LABELS) } else { self.0.block(kind) }
    }

    fn attributes(&self) -> Box<dyn Iterator<Item = (&str, bool)> + '_> {
        self.0.attributes()
    }

    fn blocks(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.0.blocks().chain(["dynamic"]))
    }
}

fn write_out(
    body: &Body,
    content: super::super::syntax::Content,
    expected: &dyn Expected,
    scope: &Scope,
    partial: bool,
    diagnostics: &mut Diagnostics,
) -> Expanded {
    let mut expanded = Expanded { attributes: content.attributes, blocks: Vec::new() };
    for block in content.blocks {
        if &*block.kind.text != "dynamic" {
            expanded.blocks.push(ExpandedBlock { block, scope: scope.clone(), unknown: false });
            continue;
        }
        // The schema asked for one label.
        let Some(kind) = block.labels.first() else { continue };
        match expected.block(&kind.text) {
            Some(labels) => {
                let dynamic = Dynamic { block: &block, kind, labels: labels.len(), scope };
                dynamic.expand(&mut expanded.blocks, diagnostics);
            }
            None if partial || body.has_taken_block(&kind.text) => {}
            None => diagnostics.push(
                Diagnostic::error("Unsupported block type")
                    .detail(format!("Blocks of type \"{}\" are not expected here.", kind.text))
                    .at(kind.span.in_source(block.source())),
            ),
        }
    }
    expanded
}

/// An element of what `for_each` goes over.
pub(crate) struct Element {
    pub(crate) key: Value,
    pub(crate) value: Value,
}

/// The elements of a collection; `None` where their number is unknown.
///
/// # Errors
/// Why the value is no collection.
pub(crate) fn elements_of(collection: &Value) -> Result<Option<Vec<Element>>, String> {
    let mark = |v: &Value| v.clone().with_marks_of(collection);
    let iterable = |t: &Type| !matches!(t, Type::String | Type::Number | Type::Bool);
    Ok(Some(match collection.data() {
        Data::List(_, items) | Data::Tuple(items) => {
            let element = |(i, v): (usize, &Value)| Element { key: Value::from(i as i64), value: mark(v) };
            items.iter().enumerate().map(element).collect()
        }
        Data::Set(_, items) => items.iter().map(|v| Element { key: mark(v), value: mark(v) }).collect(),
        Data::Map(_, items) | Data::Object(items) => items
            .iter()
            .map(|(k, v)| Element { key: mark(&Value::string(k.clone())), value: mark(v) })
            .collect(),
        Data::Unknown(t) if iterable(t) => return Ok(None),
        Data::Null(_) => return Err("The value is null; for_each needs a collection.".into()),
        _ => {
            return Err(format!(
                "A {} is no collection: for_each needs a list, set, map, tuple or object.",
                collection.ty().friendly_name()
            ));
        }
    }))
}

struct Dynamic<'a> {
    block: &'a Block,
    /// The type of the blocks to make.
    kind: &'a Name,
    /// How many labels they have.
    labels: usize,
    scope: &'a Scope,
}

impl Dynamic<'_> {
    fn expand(&self, blocks: &mut Vec<ExpandedBlock>, diagnostics: &mut Diagnostics) {
        let schema = BodySchema::new()
            .required("for_each")
            .optional("iterator")
            .optional("labels")
            .block("content", &[]);
        let said = diagnostics.len();
        let content = self.block.body.content(&schema, diagnostics);
        let mut bodies = content.blocks("content");
        let first = bodies.next();
        if let Some(second) = bodies.next() {
            let detail = "A \"dynamic\" block has one \"content\" block.";
            complain("Extraneous dynamic content block", detail, second.location(), diagnostics);
        }
        let Some(inside) = first else {
            let detail = "A \"content\" block must say what each block holds.";
            complain("Missing dynamic content block", detail, self.block.location(), diagnostics);
            return;
        };
        let iterator = match content.attribute("iterator") {
            None => self.kind.text.as_ref(),
            Some(attribute) => match attribute.expr.as_keyword().filter(|name| is_identifier(name)) {
                Some(name) => name,
                None => {
                    let detail =
                        "The iterator is a bare word: the name of the variable in the \"content\" block.";
                    let place = attribute.value_location();
                    complain("Invalid dynamic iterator name", detail, place, diagnostics);
                    return;
                }
            },
        };
        let labels = self.label_expressions(content.attribute("labels"), diagnostics);
        let (Some(for_each), Some(labels)) = (content.attribute("for_each"), labels) else { return };
        if diagnostics.len() > said {
            return;
        }
        let collection = for_each.evaluate(self.scope, diagnostics);
        if diagnostics.len() > said {
            return;
        }
        let unknown = || {
            let any = Value::unknown(Type::Dynamic).with_marks_of(&collection);
            Element { key: any.clone(), value: any }
        };
        let (elements, unknown) = match elements_of(&collection) {
            Ok(Some(elements)) => (elements, false),
            Ok(None) => (vec![unknown()], true),
            Err(why) => {
                let place = for_each.value_location();
                complain("Invalid dynamic for_each value", why, place, diagnostics);
                return;
            }
        };
        for Element { key, value } in elements {
            let each = Value::object([("key", key), ("value", value)]);
            let scope = self.scope.with_variables([(iterator, each)]);
            let Some(labels) = self.labels(&labels, &scope, diagnostics) else { return };
            let block = Block {
                kind: self.kind.clone(),
                labels: labels.into(),
                header: self.block.header,
                body: inside.body.clone(),
            };
            blocks.push(ExpandedBlock { block, scope, unknown });
        }
    }

    fn label_expressions<'e>(
        &self,
        attribute: Option<&'e Attribute>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<(&'e Expr, &'e Attribute)>> {
        let Some(attribute) = attribute else {
            if self.labels == 0 {
                return Some(Vec::new());
            }
            let detail = format!(
                "A \"{}\" block has {} label(s); \"labels\" must give them.",
                self.kind.text, self.labels
            );
            complain("Insufficient dynamic block labels", detail, self.block.location(), diagnostics);
            return None;
        };
        let Some(items) = attribute.expr.as_tuple() else {
            let detail = "The labels are a list in brackets.";
            complain("Invalid dynamic block label", detail, attribute.value_location(), diagnostics);
            return None;
        };
        if items.len() != self.labels {
            let detail =
                format!("A \"{}\" block has {} label(s), not {}.", self.kind.text, self.labels, items.len());
            let summary = if items.len() > self.labels {
                "Extraneous dynamic block label"
            } else {
                "Insufficient dynamic block labels"
            };
            complain(summary, detail, attribute.value_location(), diagnostics);
            return None;
        }
        Some(items.iter().map(|item| (item, attribute)).collect())
    }

    fn labels(
        &self,
        expressions: &[(&Expr, &Attribute)],
        scope: &Scope,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<Name>> {
        let said = diagnostics.len();
        let mut labels = Vec::new();
        for (expr, attribute) in expressions {
            let value = super::evaluate(expr, scope, &attribute.source, diagnostics);
            let converted = convert(&value, &Type::String);
            let why = match &converted {
                Ok(text) => match text.data() {
                    Data::String(text) => {
                        labels.push(Name { text: text.clone(), span: expr.span });
                        continue;
                    }
                    Data::Null(_) => "it is null".to_owned(),
                    _ => "it is not known yet".to_owned(),
                },
                Err(e) => e.to_string(),
            };
            if diagnostics.len() == said {
                let place = expr.span.in_source(&attribute.source);
                let detail = format!("The value cannot be a label: {why}.");
                complain("Invalid dynamic block label", detail, place, diagnostics);
            }
            return None;
        }
        Some(labels)
    }
}

fn complain(summary: &str, detail: impl Into<String>, place: Location, diagnostics: &mut Diagnostics) {
    diagnostics.push(Diagnostic::error(summary).detail(detail).at(place));
}
