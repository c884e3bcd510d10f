//! The evaluator: expressions to values.
//!
//! A mistake gives a diagnostic and an unknown value; the evaluation goes on, so that one run names every
//! mistake. Unknown values and sensitive marks travel through every operation. How deep it recurses is bounded
//! by the depth of the text, which the parsers bound.

mod access;
mod call;
mod collections;
mod describe;
mod expand;
mod operators;
mod references;
mod scope;
mod template;
#[cfg(test)]
mod tests;
mod type_expr;

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

pub(crate) use describe::describe;
pub(crate) use expand::{Element, elements_of};
pub use expand::{Expanded, ExpandedBlock};
pub use references::{Reference, ReferenceStep, references};
pub use scope::Scope;
pub use type_expr::{TypeConstraint, TypeUse, parse_type};

use super::syntax::{Attribute, Expr, ExprKind};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, Span, did_you_mean};
use crate::value::{Data, Type, Value, convert};

/// The value of an expression that stands in `source`. After a mistake it is unknown, or a part of it is.
pub fn evaluate(
    expr: &Expr,
    scope: &Scope,
    source: &Arc<SourceFile>,
    diagnostics: &mut Diagnostics,
) -> Value {
    let fuel = Cell::new(MOST_STEPS);
    Evaluator { scope, source, diagnostics, fuel: &fuel }.value(expr)
}

/// How many elements the loops of one expression may go over, those of loops in loops each time they are.
const MOST_STEPS: u32 = 10_000_000;

impl Attribute {
    /// The value of the attribute's expression.
    pub fn evaluate(&self, scope: &Scope, diagnostics: &mut Diagnostics) -> Value {
        evaluate(&self.expr, scope, &self.source, diagnostics)
    }
}

struct Evaluator<'a> {
    scope: &'a Scope,
    source: &'a Arc<SourceFile>,
    diagnostics: &'a mut Diagnostics,
    /// How many elements loops may still go over.
    fuel: &'a Cell<u32>,
}

impl Evaluator<'_> {
    fn value(&mut self, expr: &Expr) -> Value {
        // Each kind has a function of its own, which keeps the frame of this one, the recursive one, small.
        match &expr.kind {
            ExprKind::Literal(value) => value.clone(),
            ExprKind::Template(parts) => self.template(parts, expr.span),
            ExprKind::Unwrapped(inner) | ExprKind::Parentheses(inner) => self.value(inner),
            ExprKind::JsonString(string) => {
                if self.scope.is_constant() {
                    return Value::text(&string.text);
                }
                self.diagnostics.extend(string.diagnostics.iter().cloned());
                self.value(&string.template)
            }
            ExprKind::Variable(name) => self.variable(name, expr.span),
            ExprKind::Access(root, steps) => self.access(expr, root, steps),
            ExprKind::Call(call) => self.call(expr, call),
            ExprKind::Unary(op, operand) => self.unary(*op, operand, expr),
            ExprKind::Operation(first, rest) => self.operation(expr, first, rest),
            ExprKind::Conditional(arms, otherwise) => self.conditional(expr, arms, otherwise),
            ExprKind::Tuple(items) => self.tuple(items, expr.span),
            ExprKind::Object(object) => self.object(object, expr.span),
            ExprKind::For(inner) => self.for_expr(inner, expr),
            ExprKind::Invalid => Value::unknown(Type::Dynamic),
        }
    }

    /// Evaluates with the diagnostics kept apart.
    fn value_apart(&mut self, expr: &Expr) -> (Value, Diagnostics) {
        let mut apart = Diagnostics::new();
        let mut inner =
            Evaluator { scope: self.scope, source: self.source, diagnostics: &mut apart, fuel: self.fuel };
        let value = inner.value(expr);
        (value, apart)
    }

    /// Whether there was an error behind the first `told` diagnostics.
    fn failed_since(&self, told: usize) -> bool {
        self.diagnostics.iter().skip(told).any(Diagnostic::is_error)
    }

    fn variable(&mut self, name: &str, span: Span) -> Value {
        match self.scope.variable(name) {
            // All locals together may be more than one value may be.
            Some(value) => self.bounded(value.clone(), span),
            None => self.unknown_variable(name, span),
        }
    }

    fn unknown_variable(&mut self, name: &str, span: Span) -> Value {
        let d = if self.scope.is_in_template_file() && self.scope.variable(name).is_none() {
            Diagnostic::error("Unknown variable").detail(format!("vars map does not contain key \"{name}\""))
        } else if self.scope.allows_variables() {
            Diagnostic::error("Unknown variable")
                .detail(format!("There is no variable named \"{name}\" here."))
        } else {
            Diagnostic::error("Variables not allowed")
                .detail(format!("Only constants can be used here; \"{name}\" is a variable."))
        };
        let d = match self.scope.holder_of(name) {
            Some(root) => d.suggest(&format!("{root}.{name}")),
            None => match did_you_mean(name, self.scope.variable_names()) {
                Some(meant) => d.suggest(meant),
                None => d,
            },
        };
        self.diagnostics.push(d.at(span.in_source(self.source)));
        Value::unknown(Type::Dynamic)
    }

    /// Reports a mistake found in `about`, with the values of what it refers to, and gives the unknown value that
    /// stands for the result.
    fn error(
        &mut self,
        span: Span,
        summary: &str,
        detail: impl Into<Cow<'static, str>>,
        about: &Expr,
    ) -> Value {
        let mut d = Diagnostic::error(summary).detail(detail.into()).at(span.in_source(self.source));
        d.values = describe::values_in(about, self.scope);
        self.diagnostics.push(d);
        Value::unknown(Type::Dynamic)
    }

    /// A condition as a bool; `None` where it is unknown, with the complaint where it is wrong.
    fn condition(&mut self, value: &Value, condition: &Expr, words: &ConditionWords) -> Option<bool> {
        if value.is_null() {
            self.error(condition.span, words.null, words.null_detail, condition);
            return None;
        }
        if !value.is_known() && !words.checks_unknown {
            return None;
        }
        match convert(value, &Type::Bool) {
            Ok(converted) => converted.as_bool(),
            Err(e) => {
                self.error(
                    condition.span,
                    words.wrong,
                    format!("{}: {}.", words.wrong_detail, e.about(value)),
                    condition,
                );
                None
            }
        }
    }

    /// A value, unless it would nest too deep or be too large.
    fn bounded(&mut self, value: Value, span: Span) -> Value {
        if value.is_too_deep() {
            let detail = format!("Values may nest {} levels deep.", Value::MAX_DEPTH);
            return self.refuse("Nesting too deep", detail, span);
        }
        if value.is_too_large() { self.too_large(span) } else { value }
    }

    fn too_large(&mut self, span: Span) -> Value {
        let most = Value::MAX_SIZE >> 20;
        let detail = format!("With everything in it written out the value would have more than {most} MiB.");
        self.refuse("Value too large", detail, span)
    }

    /// Takes a step of a loop; false, with a complaint, where there were too many.
    fn step(&mut self, span: Span) -> bool {
        match self.fuel.get().checked_sub(1) {
            Some(left) => {
                self.fuel.set(left);
                true
            }
            None => {
                let detail = format!("The loops of this expression go over more than {MOST_STEPS} elements.");
                self.refuse("Too many steps", detail, span);
                false
            }
        }
    }

    fn refuse(&mut self, summary: &str, detail: String, span: Span) -> Value {
        self.diagnostics.push(Diagnostic::error(summary).detail(detail).at(span.in_source(self.source)));
        Value::unknown(Type::Dynamic)
    }
}

/// How a condition that is no bool is complained about.
struct ConditionWords {
    null: &'static str,
    null_detail: &'static str,
    wrong: &'static str,
    wrong_detail: &'static str,
    /// Whether the type of an unknown value matters.
    checks_unknown: bool,
}

const CONDITIONAL: ConditionWords = ConditionWords {
    null: "Null condition",
    null_detail: "The condition is null; it must be true or false.",
    wrong: "Incorrect condition type",
    wrong_detail: "The condition must be true or false",
    checks_unknown: false,
};

const FOR_CONDITION: ConditionWords = ConditionWords {
    null: "Condition is null",
    null_detail: "The \"if\" of a for expression is null; it must be true or false.",
    wrong: "Invalid 'for' condition",
    wrong_detail: "The \"if\" of a for expression must be true or false",
    checks_unknown: true,
};

/// Whether the value is unknown and nothing is known about its type either.
fn is_untyped_unknown(value: &Value) -> bool {
    matches!(value.data(), Data::Unknown(Type::Dynamic))
}
