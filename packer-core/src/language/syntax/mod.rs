//! The syntax of templates: text to tree, in native and in JSON syntax.
//!
//! Reading never fails outright: every function gives what could be read together with everything that was
//! wrong. Both syntaxes give the same [`Body`] and the same [`Expr`].

mod ast;
mod body;
mod json;
mod lexer;
mod native;
mod parser;

use std::sync::Arc;

pub use ast::*;
pub(crate) use body::Expected;
pub use body::{Attribute, Block, Body, BodySchema, Content, File};
pub(crate) use json::{Node, NodeKind, Property, read_plain};
pub use lexer::{Token, TokenKind, lex};

use crate::diagnostic::{Diagnostics, SourceFile, Span};

/// Reads a file in native syntax, or in JSON if its name ends in `.json`.
pub fn parse_file(source: &Arc<SourceFile>) -> (File, Diagnostics) {
    if source.name().ends_with(".json") { parse_json(source) } else { parse_native(source) }
}

/// Reads a file in native syntax. What follows a mistake is read as well, up to the end.
pub fn parse_native(source: &Arc<SourceFile>) -> (File, Diagnostics) {
    let (native, diagnostics) = parser::parse_body(source);
    let body = Body {
        source: source.clone(),
        span: Span::new(0, source.text().len().min(u32::MAX as usize) as u32),
        kind: body::BodyKind::Native(Arc::new(native)),
        hidden: None,
    };
    (File { body }, diagnostics)
}

/// Reads a file in JSON syntax.
pub fn parse_json(source: &Arc<SourceFile>) -> (File, Diagnostics) {
    json::parse_file(source)
}

/// Reads a text that is one expression, such as one typed at a console.
pub fn parse_expression(source: &Arc<SourceFile>) -> (Expr, Diagnostics) {
    parser::parse_expression(source)
}

/// Reads a text that is a template, such as a file for `templatefile`.
pub fn parse_template(source: &Arc<SourceFile>) -> (Expr, Diagnostics) {
    parser::parse_template(source)
}

/// Reads a string of a JSON file, which stands at `span`, as an expression of native syntax: a type, for example.
pub fn parse_json_string(source: &Arc<SourceFile>, string: &JsonString, span: Span) -> (Expr, Diagnostics) {
    json::parse_embedded(source, &string.text, span, lexer::Start::File)
}

/// Whether a text is a name of the language: a letter or `_`, then letters, digits, `_` and `-`.
pub fn is_identifier(text: &str) -> bool {
    !text.is_empty() && lexer::ident_len(text) == text.len()
}
