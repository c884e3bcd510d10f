//! The expression tree: what the parsers make and the evaluator walks.
//!
//! Nodes are light: a [`Span`] each, names as shared strings. Chains that people and programs write long
//! (operators, `?:`, traversals) are flat lists, so the depth of a tree is the depth of the brackets in its
//! text, which the parsers bound; walking or dropping a tree cannot exhaust the stack.

use std::sync::Arc;

use crate::diagnostic::{Diagnostics, Span};
use crate::value::Value;

/// A name with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    /// The name, unquoted and unescaped.
    pub text: Arc<str>,
    /// Where it stands, with its quotes.
    pub span: Span,
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// An expression.
#[derive(Debug, Clone)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// The kinds of expression.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ExprKind {
    /// A number, `true`, `false`, `null`, or a string without template sequences.
    Literal(Value),
    /// A string with interpolations or directives: always a string.
    Template(Vec<TemplatePart>),
    /// `"${e}"` and nothing else: the value of `e` itself, whatever its type.
    Unwrapped(Box<Expr>),
    /// A string read from JSON: a template where expressions are allowed, else the text as it is.
    JsonString(Box<JsonString>),
    /// A root name such as `var`.
    Variable(Arc<str>),
    /// A value with one or more steps into it: `var.x`, `list[0].name`, `objects[*].id`.
    Access(Box<Expr>, Vec<Step>),
    /// A function call.
    Call(Box<Call>),
    /// `-x` or `!x`.
    Unary(UnaryOp, Box<Expr>),
    /// `a op b op c …`: operators of one level, left to right.
    Operation(Box<Expr>, Vec<Operand>),
    /// `c1 ? a : c2 ? b : … : z`.
    Conditional(Vec<Arm>, Box<Expr>),
    /// `[a, b]`.
    Tuple(Vec<Expr>),
    /// `{a = 1}`.
    Object(ObjectExpr),
    /// `[for …]` or `{for …}`.
    For(Box<ForExpr>),
    /// `(e)`.
    Parentheses(Box<Expr>),
    /// What stands where the parser had to complain; evaluates to an unknown value.
    Invalid,
}

/// One step into a value.
#[derive(Debug, Clone)]
pub struct Step {
    /// What it does.
    pub kind: StepKind,
    /// From its dot or bracket to its end.
    pub span: Span,
}

/// The kinds of step.
#[derive(Debug, Clone)]
pub enum StepKind {
    /// `.name`.
    Attribute(Arc<str>),
    /// `[key]`, or `.0` with a number literal as key.
    Index(Expr),
    /// `[*]`: the steps are applied to each element.
    Splat(Vec<Step>),
    /// `.*`: the same, but it takes only `.name` and `.0` steps with it.
    AttributeSplat(Vec<Step>),
}

/// A function call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The function's name, with its namespaces (`a::b`).
    pub name: Name,
    /// The arguments.
    pub arguments: Vec<Expr>,
    /// Whether the last argument is spread with `...`.
    pub expand_last: bool,
}

/// Operators before a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryOp {
    /// `-`
    Negate,
    /// `!`
    Not,
}

/// Operators between values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum BinaryOp {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

/// An operator and what stands right of it.
#[derive(Debug, Clone)]
pub struct Operand {
    /// The operator.
    pub op: BinaryOp,
    /// Its right side.
    pub expr: Expr,
}

/// `condition ? value :` of a conditional.
#[derive(Debug, Clone)]
pub struct Arm {
    /// What decides.
    pub condition: Expr,
    /// The result if it is true.
    pub value: Expr,
}

/// An object constructor.
#[derive(Debug, Clone)]
pub struct ObjectExpr {
    /// The items in the order written.
    pub items: Vec<ObjectItem>,
    /// Whether a repeated key is an error (JSON) or the last one counts (native).
    pub distinct_keys: bool,
}

/// An item of an object constructor.
#[derive(Debug, Clone)]
pub struct ObjectItem {
    /// The key.
    pub key: ObjectKey,
    /// The value.
    pub value: Expr,
}

/// The key of an item.
#[derive(Debug, Clone)]
pub enum ObjectKey {
    /// A bare name, which stands for itself.
    Name(Name),
    /// A quoted template, a number or an expression in parentheses.
    Expr(Expr),
    /// A bare `a.b`, which could mean either: an error when evaluated.
    Ambiguous(Expr),
}

impl ObjectKey {
    /// Where the key stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Name(name) => name.span,
            Self::Expr(e) | Self::Ambiguous(e) => e.span,
        }
    }
}

/// A `for` expression.
#[derive(Debug, Clone)]
pub struct ForExpr {
    /// The name of the key or index, where given.
    pub key_var: Option<Name>,
    /// The name of the element.
    pub value_var: Name,
    /// What is iterated over.
    pub collection: Expr,
    /// The result's key: an object is made; without it a tuple.
    pub key: Option<Expr>,
    /// The result's value.
    pub value: Expr,
    /// `...`: values of one key are collected in a tuple.
    pub group: bool,
    /// `if`: which elements count.
    pub condition: Option<Expr>,
}

/// A piece of a template. Strip markers are applied already.
#[derive(Debug, Clone)]
pub enum TemplatePart {
    /// Text as it is.
    Literal(Arc<str>, Span),
    /// `${e}`.
    Interpolation(Expr),
    /// `%{ if }`.
    If(Box<TemplateIf>),
    /// `%{ for }`.
    For(Box<TemplateFor>),
}

/// `%{ if condition }…%{ else }…%{ endif }`.
#[derive(Debug, Clone)]
pub struct TemplateIf {
    /// What decides.
    pub condition: Expr,
    /// The pieces if it is true.
    pub then: Vec<TemplatePart>,
    /// The pieces if it is false.
    pub otherwise: Vec<TemplatePart>,
    /// From `%{ if` to the end of `%{ endif }`.
    pub span: Span,
}

/// `%{ for value in collection }…%{ endfor }`.
#[derive(Debug, Clone)]
pub struct TemplateFor {
    /// The name of the key or index, where given.
    pub key_var: Option<Name>,
    /// The name of the element.
    pub value_var: Name,
    /// What is iterated over.
    pub collection: Expr,
    /// The pieces for each element.
    pub parts: Vec<TemplatePart>,
    /// From `%{ for` to the end of `%{ endfor }`.
    pub span: Span,
}

/// A string of a JSON file, both ways it can be read.
#[derive(Debug, Clone)]
pub struct JsonString {
    /// The string itself.
    pub text: Arc<str>,
    /// The string as a template.
    pub template: Expr,
    /// What is wrong with it as a template: reported when it is evaluated as one.
    pub diagnostics: Diagnostics,
}

impl Expr {
    /// The place holder for what could not be parsed.
    pub(crate) fn invalid(span: Span) -> Self {
        Self { kind: ExprKind::Invalid, span }
    }

    /// The expression without the parentheses around it.
    pub fn without_parentheses(&self) -> &Self {
        let mut expr = self;
        while let ExprKind::Parentheses(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }

    /// The name, if the expression is a bare name or a JSON string that holds one: a keyword such as the
    /// `iterator` of a dynamic block.
    pub fn as_keyword(&self) -> Option<&str> {
        match &self.kind {
            ExprKind::Variable(name) => Some(name),
            ExprKind::JsonString(s) if super::is_identifier(&s.text) => Some(&s.text),
            _ => None,
        }
    }

    /// The text, if the expression is a string without template sequences.
    pub fn as_literal_str(&self) -> Option<&str> {
        match &self.kind {
            ExprKind::Literal(value) => value.as_str(),
            ExprKind::JsonString(s) => Some(&s.text),
            _ => None,
        }
    }

    /// The elements, if the expression is a tuple constructor: `labels` of a dynamic block, for example.
    pub fn as_tuple(&self) -> Option<&[Self]> {
        match &self.kind {
            ExprKind::Tuple(items) => Some(items),
            _ => None,
        }
    }
}
