//! Go's text/template language, the `{{ … }}` inside strings of templates.
//!
//! [`render`] parses and runs a text at once. Whatever the text: it ends in bounded time and memory, and what is
//! wrong with it is a [`TemplateError`] in the words that users of Packer know.

mod ast;
mod builtins;
pub(crate) mod constants;
mod data;
mod exec;
mod functions;
mod lexer;
mod parser;
mod printf;

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "upgrade")]
pub(crate) use ast::{Command, Node, Operand, OperandKind, Pipe};
pub use data::Data;
pub use functions::{Interpolation, OutsideFunction, VariablesSection, placeholders};
pub(crate) use printf::sprintf;

/// The name of a text that is a template, in error messages.
const ROOT: &str = "root";

/// How often a text is rendered before it is said to never settle.
const MAX_PASSES: usize = 100;

/// The functions that a template may call besides those of the language (`printf`, `eq`, `len`, …).
pub trait FunctionTable {
    /// What the function takes; `None` where there is no function of this name.
    fn signature(&self, name: &str) -> Option<Signature>;

    /// Calls the function with arguments that fit its signature.
    ///
    /// # Errors
    /// A message; the place of the call is put before it.
    fn call(&self, name: &str, arguments: &[Data]) -> Result<Data, String>;

    /// Whether a field that dot does not have is an error, as it is of a struct of Go; else it has no value.
    fn fields_are_known(&self) -> bool {
        false
    }
}

/// What a function takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// The arguments that must be given.
    pub fixed: &'static [Kind],
    /// The kind of any number of further ones.
    pub variadic: Option<Kind>,
}

/// The kind of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whatever comes.
    Any,
    /// A whole number.
    Int,
    /// A text.
    String,
}

/// No functions but those of the language.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFunctions;

impl FunctionTable for NoFunctions {
    fn signature(&self, _: &str) -> Option<Signature> {
        None
    }

    fn call(&self, name: &str, _: &[Data]) -> Result<Data, String> {
        Err(format!("{} is not a defined function", printf::quote(name)))
    }
}

/// What is wrong with a template, as `template: root:LINE:COLUMN: executing "root" at <…>: …`; lines count from 1,
/// columns are bytes from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    message: String,
}

impl TemplateError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// A parsed text, to be rendered as often as needed.
pub struct GoTemplate {
    text: Arc<str>,
    /// `None` where the text holds no action and is its own result.
    trees: Option<parser::Trees>,
}

impl GoTemplate {
    /// Parses a text; the functions are those it will be rendered with.
    ///
    /// # Errors
    /// Where the text is no template, or calls a function that does not exist.
    pub fn parse(text: impl Into<Arc<str>>, functions: &dyn FunctionTable) -> Result<Self, TemplateError> {
        let text = text.into();
        let trees = if text.contains("{{") {
            let known = |name: &str| functions.signature(name).is_some() || builtins::exists(name);
            Some(parser::parse(&text, &known)?)
        } else {
            None
        };
        Ok(Self { text, trees })
    }

    /// Renders the text with `data` as dot.
    ///
    /// # Errors
    /// Where a function fails or gets the wrong arguments, and where the work or the result grows beyond bounds.
    pub fn render(&self, data: &Data, functions: &dyn FunctionTable) -> Result<String, TemplateError> {
        match &self.trees {
            Some(trees) => exec::execute(&self.text, trees, data, functions),
            None => Ok(self.text.to_string()),
        }
    }
}

/// The nodes of a text; `None` where it defines templates of its own.
///
/// # Errors
/// As [`GoTemplate::parse`].
#[cfg(feature = "upgrade")]
pub(crate) fn parse_nodes(
    text: &str,
    is_function: &dyn Fn(&str) -> bool,
) -> Result<Option<Vec<Node>>, TemplateError> {
    let mut trees = parser::parse(text, &|name| is_function(name) || builtins::exists(name))?;
    let root = trees.remove(ROOT);
    Ok(root.filter(|_| trees.is_empty()))
}

impl fmt::Debug for GoTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GoTemplate").field(&self.text).finish()
    }
}

/// Parses and renders a text.
///
/// # Errors
/// See [`GoTemplate::parse`] and [`GoTemplate::render`].
pub fn render(text: &str, data: &Data, functions: &dyn FunctionTable) -> Result<String, TemplateError> {
    if !text.contains("{{") {
        return Ok(text.into());
    }
    GoTemplate::parse(text, functions)?.render(data, functions)
}

/// Renders a text again and again until it stays the same: what texts that were put in hold is rendered too.
///
/// # Errors
/// As [`render`], and where the text changes every time.
pub fn render_fixpoint(
    text: &str,
    data: &Data,
    functions: &dyn FunctionTable,
) -> Result<String, TemplateError> {
    let mut text = text.to_string();
    for _ in 0..MAX_PASSES {
        let rendered = render(&text, data, functions)?;
        if rendered == text {
            return Ok(text);
        }
        text = rendered;
    }
    Err(TemplateError::new(format!(
        "template: {ROOT}: the text still changes after it was rendered {MAX_PASSES} times; does a value hold the \
         expression that inserts it?"
    )))
}

#[cfg(test)]
mod tests;
