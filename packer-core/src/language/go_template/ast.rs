//! The tree of a Go template, and how its nodes are written in error messages.

use std::fmt;
use std::sync::Arc;

/// Byte offset in the text.
pub(crate) type Pos = u32;

/// What stands between two delimiters, or text.
#[derive(Debug)]
pub(crate) enum Node {
    Text(Arc<str>),
    Action(Pipe),
    If { branches: Vec<Branch>, otherwise: Option<Vec<Self>> },
    With { branches: Vec<Branch>, otherwise: Option<Vec<Self>> },
    Range { pipe: Pipe, body: Vec<Self>, otherwise: Option<Vec<Self>> },
    Template { pos: Pos, name: Arc<str>, pipe: Option<Pipe> },
    Break,
    Continue,
}

/// A condition of `if … else if …` (or `with`) and what it guards.
#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) pipe: Pipe,
    pub(crate) body: Vec<Node>,
}

/// `$x := a | b | c`.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) pos: Pos,
    /// The variables it sets, with `$`.
    pub(crate) variables: Vec<Arc<str>>,
    /// `=` rather than `:=`.
    pub(crate) assign: bool,
    pub(crate) commands: Vec<Command>,
}

/// An operand and its arguments.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) pos: Pos,
    /// Never empty.
    pub(crate) operands: Vec<Operand>,
}

#[derive(Debug)]
pub(crate) struct Operand {
    pub(crate) pos: Pos,
    pub(crate) kind: OperandKind,
}

#[derive(Debug)]
pub(crate) enum OperandKind {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    /// The value, and the constant as it was written.
    String(Arc<str>, Arc<str>),
    Function(Arc<str>),
    /// `.A.B`.
    Fields(Vec<Arc<str>>),
    /// `$x.A.B`.
    Variable(Arc<str>, Vec<Arc<str>>),
    Pipe(Pipe),
    /// `(pipe).A.B`, or fields of a function's result.
    Chain(Box<Operand>, Vec<Arc<str>>),
}

/// A numeric constant: it becomes what its context asks for.
#[derive(Debug)]
pub(crate) struct Number {
    pub(crate) text: Arc<str>,
    pub(crate) int: Option<i64>,
    pub(crate) float: Option<f64>,
    /// Real and imaginary part of one that is written with an `i`.
    pub(crate) complex: Option<(f64, f64)>,
    /// Written with a point or an exponent: a float wherever any value will do.
    pub(crate) fractional: bool,
}

/// The text of a whole template action, as error messages quote it.
pub(super) struct TemplateAction<'a>(pub(super) &'a str, pub(super) Option<&'a Pipe>);

impl fmt::Display for TemplateAction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{template {}", super::printf::quote(self.0))?;
        if let Some(pipe) = self.1 {
            write!(f, " {pipe}")?;
        }
        f.write_str("}}")
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assign { "=" } else { ":=" })?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if i > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, operand) in self.operands.iter().enumerate() {
            write!(f, "{}{operand}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            OperandKind::Dot => f.write_str("."),
            OperandKind::Nil => f.write_str("nil"),
            OperandKind::Bool(b) => write!(f, "{b}"),
            OperandKind::Number(n) => f.write_str(&n.text),
            OperandKind::String(_, quoted) => f.write_str(quoted),
            OperandKind::Function(name) => f.write_str(name),
            OperandKind::Fields(names) => fields(f, names),
            OperandKind::Variable(name, names) => {
                f.write_str(name)?;
                fields(f, names)
            }
            OperandKind::Pipe(pipe) => write!(f, "({pipe})"),
            OperandKind::Chain(operand, names) => {
                write!(f, "{operand}")?;
                fields(f, names)
            }
        }
    }
}

fn fields(f: &mut fmt::Formatter<'_>, names: &[Arc<str>]) -> fmt::Result {
    names.iter().try_for_each(|name| write!(f, ".{name}"))
}
