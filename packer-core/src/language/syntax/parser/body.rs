//! Parsing bodies: attributes, blocks and their headers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::super::ast::{Expr, Name};
use super::super::body::{Attribute, Block, Body, BodyKind};
use super::super::lexer::TokenKind as T;
use super::super::native::NativeBody;
use super::Parser;
use crate::diagnostic::{Diagnostic, Span};

impl Parser<'_> {
    pub(super) fn file(&mut self) -> NativeBody {
        self.items(false)
    }

    /// Attributes and blocks up to the closing brace, which is left, or to the end.
    fn items(&mut self, in_block: bool) -> NativeBody {
        let mut body = NativeBody::default();
        let mut seen = Seen::default();
        loop {
            match self.peek() {
                T::End => break,
                T::CloseBrace if in_block => break,
                // What a sequence left open has taken for its own end.
                T::SequenceEnd if in_block && self.has_complained() => break,
                T::Newline => {
                    self.bump();
                    continue;
                }
                T::Ident => match self.item() {
                    Some(Item::Attribute(attribute)) => match seen.insert(&attribute.name) {
                        Some(first) => self.redefined(&attribute.name, first),
                        None => body.attributes.push(attribute),
                    },
                    Some(Item::Block(block)) => body.blocks.push(block),
                    None => {}
                },
                T::OpenQuote => {
                    self.error("Invalid argument name", "The name of an argument is written without quotes.");
                }
                _ => self.error(
                    "Argument or block definition required",
                    "Only arguments (name = value) and blocks (type { … }) can stand here.",
                ),
            }
            if self.failed {
                self.recover_item(in_block);
            }
        }
        body
    }

    fn redefined(&mut self, name: &Name, first: Span) {
        let first = first.in_source(self.source);
        let d = Diagnostic::error("Attribute redefined")
            .detail(format!(
                "The argument \"{}\" was already set at {first}; it can be set only once.",
                name.text
            ))
            .at(name.span.in_source(self.source))
            .related("first set here", first);
        self.add(name.span, d);
    }

    /// An attribute or block together with the end of its line.
    fn item(&mut self) -> Option<Item> {
        let name = self.name();
        match self.peek() {
            T::Equal => {
                let attribute = self.attribute(name)?;
                match self.peek() {
                    T::Newline | T::End => {}
                    T::Comma => self.error(
                        "Unexpected comma after argument",
                        "Arguments are separated by line ends, not by commas.",
                    ),
                    _ => self.error("Missing newline after argument", "An argument ends with its line."),
                }
                Some(Item::Attribute(attribute))
            }
            T::OpenQuote | T::Ident | T::OpenBrace => self.block(name).map(Item::Block),
            _ => {
                self.error_at(
                    name.span,
                    "Argument or block definition required",
                    format!(
                        "\"{}\" must be followed by = and a value, or by the {{ of a block on the same line.",
                        name.text
                    ),
                );
                None
            }
        }
    }

    /// `= expression` after a name.
    fn attribute(&mut self, name: Name) -> Option<Attribute> {
        self.bump();
        let expr = self.expr();
        if self.failed {
            return None;
        }
        Some(self.finish_attribute(name, expr))
    }

    fn finish_attribute(&self, name: Name, expr: Expr) -> Attribute {
        let span = name.span.to(expr.span);
        Attribute { name, expr: Arc::new(expr), span, source: self.source.clone() }
    }

    /// The labels and the body of a block after its type.
    fn block(&mut self, kind: Name) -> Option<Block> {
        let mut labels = Vec::new();
        loop {
            match self.peek() {
                T::Ident => labels.push(self.name()),
                T::OpenQuote => labels.push(self.label()?),
                T::OpenBrace => break,
                T::Equal => self.error(
                    "Invalid block definition",
                    "An equals sign defines an argument, whose name is one word; a block has none.",
                ),
                T::Newline => self
                    .error("Invalid block definition", "The { of a block stands on the line of its header."),
                _ => self.error("Invalid block definition", "A label or the { of the block must stand here."),
            }
            if self.failed {
                return None;
            }
        }
        let header = labels.last().map_or(kind.span, |last: &Name| kind.span.to(last.span));
        let open = self.bump().span;
        if !self.enter() {
            self.leave();
            return None;
        }
        let body = self.block_body(&kind, open);
        self.leave();
        let body = body?;
        if !matches!(self.peek(), T::Newline | T::End) {
            self.error("Missing newline after block definition", "A block ends with its line.");
        }
        let span = Span::new(open.start, self.last_end());
        let body =
            Body { source: self.source.clone(), span, kind: BodyKind::Native(Arc::new(body)), hidden: None };
        Some(Block { kind, labels: labels.into(), header, body })
    }

    /// A quoted label.
    fn label(&mut self) -> Option<Name> {
        let open = self.bump().span;
        let text = match self.peek() {
            T::QuotedText => {
                let index = self.at;
                let text = self.quoted_text(index);
                self.bump();
                text
            }
            _ => "".into(),
        };
        match self.peek() {
            T::CloseQuote => {
                let span = open.to(self.bump().span);
                Some(Name { text: text.as_ref().into(), span })
            }
            T::Interpolation | T::Directive => {
                self.error(
                    "Invalid string literal",
                    "A label is plain text: template sequences cannot be used. ${ is written as $${.",
                );
                None
            }
            _ => {
                self.unterminated_string(open);
                None
            }
        }
    }

    /// What is between the braces of a block; takes the closing one.
    fn block_body(&mut self, kind: &Name, open: Span) -> Option<NativeBody> {
        let body = match self.peek() {
            T::Newline | T::End => self.items(true),
            T::CloseBrace => NativeBody::default(),
            T::Ident => {
                let body = self.single_line();
                if self.failed {
                    self.recover_to(T::CloseBrace);
                    return None;
                }
                body
            }
            _ => {
                self.error(
                    "Invalid block definition",
                    "A line end or an argument must follow the { of a block.",
                );
                self.recover_to(T::CloseBrace);
                return None;
            }
        };
        let closed = self.eat(T::CloseBrace) || (self.has_complained() && self.eat(T::SequenceEnd));
        if !closed && self.ran_out {
            return None;
        }
        if !closed {
            self.error_at(
                open,
                "Unclosed configuration block",
                format!("The file ends before the }} of this \"{}\" block.", kind.text),
            );
            return None;
        }
        Some(body)
    }

    /// The one argument of a block that is on a line of its own.
    fn single_line(&mut self) -> NativeBody {
        let mut body = NativeBody::default();
        let name = self.name();
        if self.peek() != T::Equal {
            let span = name.span.to(self.here());
            self.error_at(
                span,
                "Argument definition required",
                format!(
                    "A block on one line can hold one argument: \"{}\" needs = and a value. A nested block stands on lines of its own.",
                    name.text
                ),
            );
            return body;
        }
        if let Some(attribute) = self.attribute(name) {
            body.attributes.push(attribute);
            match self.peek() {
                T::CloseBrace => {}
                T::Comma => self.error(
                    "Invalid single-argument block definition",
                    "A block on one line can hold only one argument; several stand on lines of their own.",
                ),
                _ => self.error(
                    "Invalid single-argument block definition",
                    "A block whose argument stands on the line of its { also ends on that line, right after the argument.",
                ),
            }
        }
        body
    }
}

/// The names of a body so far. Equal names are one string, so their address tells them apart.
#[derive(Default)]
struct Seen {
    few: Vec<(usize, Span)>,
    many: HashMap<usize, Span>,
}

impl Seen {
    /// Adds a name, or tells where it was first.
    fn insert(&mut self, name: &Name) -> Option<Span> {
        let address = name.text.as_ptr().addr();
        if self.few.len() < 16 {
            let first = self.few.iter().find(|(a, _)| *a == address).map(|(_, span)| *span);
            if first.is_none() {
                self.few.push((address, name.span));
            }
            return first;
        }
        if self.many.is_empty() {
            self.many.extend(self.few.iter().copied());
        }
        match self.many.entry(address) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(entry) => {
                entry.insert(name.span);
                None
            }
        }
    }
}

enum Item {
    Attribute(Attribute),
    Block(Block),
}
