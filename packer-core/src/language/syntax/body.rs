//! Bodies: attributes and blocks, asked for by name, in native and in JSON syntax alike.
//!
//! What a JSON property means (an attribute or blocks, and how many label levels it has) is known only to
//! the reader, so a body is never walked directly: the reader gives a [`BodySchema`] and gets the
//! [`Content`] that fits it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::ast::{Expr, Name};
use super::{json, native};
use crate::diagnostic::{Diagnostics, Location, SourceFile, Span};

/// A parsed file.
#[derive(Debug, Clone)]
pub struct File {
    /// Everything in it.
    pub body: Body,
}

/// The inside of a file or block. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Body {
    pub(super) source: Arc<SourceFile>,
    pub(super) span: Span,
    pub(super) kind: BodyKind,
    /// Names that an earlier `partial_content` has taken out.
    pub(super) hidden: Option<Arc<Hidden>>,
}

#[derive(Debug, Clone)]
pub(super) enum BodyKind {
    Native(Arc<native::NativeBody>),
    Json(json::JsonBody),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Hidden {
    pub(super) attributes: HashSet<Arc<str>>,
    pub(super) blocks: HashSet<Arc<str>>,
}

/// `name = expression`, or the JSON property that stands for it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Attribute {
    /// The name.
    pub name: Name,
    /// The expression.
    pub expr: Arc<Expr>,
    /// From the name to the end of the expression.
    pub span: Span,
    /// The text that the spans point into.
    pub source: Arc<SourceFile>,
}

impl Attribute {
    /// The whole attribute as a place.
    pub fn location(&self) -> Location {
        self.span.in_source(&self.source)
    }

    /// The expression as a place.
    pub fn value_location(&self) -> Location {
        self.expr.span.in_source(&self.source)
    }
}

/// `kind "label" { … }`, or the JSON value that stands for it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Block {
    /// The block type.
    pub kind: Name,
    /// The labels.
    pub labels: Arc<[Name]>,
    /// From the type to the last label; in JSON from the type's property name to the first byte of the body, or of the
    /// array of bodies.
    pub header: Span,
    /// What is inside.
    pub body: Body,
}

impl Block {
    /// The text that the spans point into.
    pub fn source(&self) -> &Arc<SourceFile> {
        &self.body.source
    }

    /// The header as a place: where a block is said to be defined. In JSON, where the body or the array of bodies starts.
    pub fn location(&self) -> Location {
        match self.body.kind {
            BodyKind::Native(_) => self.header.in_source(&self.body.source),
            BodyKind::Json(_) => {
                Span::new(self.header.end.saturating_sub(1), self.header.end).in_source(&self.body.source)
            }
        }
    }

    /// The block type as a place.
    pub fn kind_location(&self) -> Location {
        self.kind.span.in_source(&self.body.source)
    }

    /// A label as text; empty where there is none.
    pub fn label(&self, index: usize) -> &str {
        self.labels.get(index).map_or("", Name::as_str)
    }
}

/// What a reader expects in a body.
#[derive(Debug, Clone, Default)]
pub struct BodySchema {
    pub(super) attributes: Vec<AttributeSchema>,
    pub(super) blocks: Vec<BlockSchema>,
}

#[derive(Debug, Clone)]
pub(super) struct AttributeSchema {
    pub(super) name: Cow<'static, str>,
    pub(super) required: bool,
}

#[derive(Debug, Clone)]
pub(super) struct BlockSchema {
    pub(super) kind: Cow<'static, str>,
    pub(super) labels: Vec<Cow<'static, str>>,
}

impl BodySchema {
    /// Nothing is expected yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Expects an attribute that may be absent.
    #[must_use]
    pub fn optional(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.attributes.push(AttributeSchema { name: name.into(), required: false });
        self
    }

    /// Expects an attribute that must be there.
    #[must_use]
    pub fn required(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.attributes.push(AttributeSchema { name: name.into(), required: true });
        self
    }

    /// Expects any number of blocks of a type; `labels` are the names of its labels, as messages show them.
    #[must_use]
    pub fn block(mut self, kind: impl Into<Cow<'static, str>>, labels: &[&'static str]) -> Self {
        self.blocks.push(BlockSchema {
            kind: kind.into(),
            labels: labels.iter().map(|l| Cow::Borrowed(*l)).collect(),
        });
        self
    }
}

/// What a reader expects in a body: a [`BodySchema`], or something that knows the same without being made into one.
pub(crate) trait Expected {
    /// Whether an attribute must be there; `None` where none of this name is expected.
    fn attribute(&self, name: &str) -> Option<bool>;
    /// The names of the labels of a block type; `None` where no such block is expected.
    fn block(&self, kind: &str) -> Option<&[Cow<'static, str>]>;
    /// The names of the attributes, and whether each must be there.
    fn attributes(&self) -> Box<dyn Iterator<Item = (&str, bool)> + '_>;
    /// The block types.
    fn blocks(&self) -> Box<dyn Iterator<Item = &str> + '_>;
}

impl Expected for BodySchema {
    fn attribute(&self, name: &str) -> Option<bool> {
        self.attributes.iter().find(|a| a.name == name).map(|a| a.required)
    }

    fn block(&self, kind: &str) -> Option<&[Cow<'static, str>]> {
        self.blocks.iter().find(|b| b.kind == kind).map(|b| &*b.labels)
    }

    fn attributes(&self) -> Box<dyn Iterator<Item = (&str, bool)> + '_> {
        Box::new(self.attributes.iter().map(|a| (&*a.name, a.required)))
    }

    fn blocks(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.blocks.iter().map(|b| &*b.kind))
    }
}

/// What a body holds of what was expected.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// The attributes, in the order written.
    pub attributes: Vec<Attribute>,
    /// The blocks, in the order written.
    pub blocks: Vec<Block>,
}

impl Content {
    /// The attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| &*a.name.text == name)
    }

    /// The blocks of this type, in the order written.
    pub fn blocks<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Block> {
        self.blocks.iter().filter(move |b| &*b.kind.text == kind)
    }
}

impl Body {
    /// The text that the spans point into.
    pub fn source(&self) -> &Arc<SourceFile> {
        &self.source
    }

    /// Where the body stands, with its braces; the whole text for a file.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Whether the body was written in JSON.
    pub fn is_json(&self) -> bool {
        matches!(self.kind, BodyKind::Json(_))
    }

    /// What the body holds of what the schema asks for; everything else in it is an error.
    pub fn content(&self, schema: &BodySchema, diagnostics: &mut Diagnostics) -> Content {
        self.content_of(schema, false, diagnostics)
    }

    /// The same; what is not expected is an error unless it is `partial`.
    pub(crate) fn content_of(
        &self,
        expected: &dyn Expected,
        partial: bool,
        diagnostics: &mut Diagnostics,
    ) -> Content {
        match &self.kind {
            BodyKind::Native(body) => native::content(self, body, expected, partial, diagnostics),
            BodyKind::Json(body) => json::content(self, body, expected, partial, diagnostics),
        }
    }

    /// What the body holds of what the schema asks for, and a body of the rest.
    pub fn partial_content(&self, schema: &BodySchema, diagnostics: &mut Diagnostics) -> (Content, Self) {
        let content = self.content_of(schema, true, diagnostics);
        let mut hidden = self.hidden.as_deref().cloned().unwrap_or_default();
        hidden.attributes.extend(schema.attributes.iter().map(|a| Arc::from(&*a.name)));
        hidden.blocks.extend(schema.blocks.iter().map(|b| Arc::from(&*b.kind)));
        (content, Self { hidden: Some(Arc::new(hidden)), ..self.clone() })
    }

    /// Whether there is an attribute of this name, or in JSON a property that could be one.
    pub fn has_attribute(&self, name: &str) -> bool {
        !self.hides_attribute(name)
            && match &self.kind {
                BodyKind::Native(body) => body.attributes.iter().any(|a| a.name.as_str() == name),
                BodyKind::Json(body) => json::has_property(body, name),
            }
    }

    /// All attributes, whatever their names, in the order written; a block is an error.
    pub fn attributes(&self, diagnostics: &mut Diagnostics) -> Vec<Attribute> {
        match &self.kind {
            BodyKind::Native(body) => native::attributes(self, body, diagnostics),
            BodyKind::Json(body) => json::attributes(self, body, diagnostics),
        }
    }

    /// Every attribute in the body and in the blocks in it. In JSON these are the properties of the body itself: what is
    /// in them is one expression each.
    pub fn all_attributes(&self) -> Vec<Attribute> {
        let mut found = Vec::new();
        let mut pending = vec![self.clone()];
        while let Some(body) = pending.pop() {
            match &body.kind {
                BodyKind::Native(native) => {
                    found.extend(native.attributes.iter().cloned());
                    pending.extend(native.blocks.iter().map(|b| b.body.clone()));
                }
                BodyKind::Json(json) => found.extend(json::attributes(&body, json, &mut Diagnostics::new())),
            }
        }
        found
    }

    pub(super) fn hides_attribute(&self, name: &str) -> bool {
        self.hidden.as_ref().is_some_and(|h| h.attributes.contains(name))
    }

    /// Whether an earlier `partial_content` has taken the blocks of this type out.
    pub(crate) fn has_taken_block(&self, kind: &str) -> bool {
        self.hides_block(kind)
    }

    pub(super) fn hides_block(&self, kind: &str) -> bool {
        self.hidden.as_ref().is_some_and(|h| h.blocks.contains(kind))
    }
}
